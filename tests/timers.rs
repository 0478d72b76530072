//! What time does: intents that are too slow, units that never get ready, renewals, progress rows, ends of steps, and what a
//! screen shows meanwhile.

use std::time::Duration;

use doseward::alarm::Cause;
use doseward::governor::{Act, Entry, Input, Output, Phase, RecordHealth, Refusal, StepState, Verdict};
use doseward::model::command::{Command, DeviceId, Generation, Intensity};
use doseward::model::limit::LimitOwner;
use doseward::model::session::StopReason;
use doseward::units::{Milliamps, Mono};

use crate::support::bench::Bench;
use crate::support::plans::{level, microamps, milliamps, raw, three_steps, two_modes};

const MS: Duration = Duration::from_millis(1);
const US: Duration = Duration::from_micros(1);

fn running(step: u8, to: Intensity, settle: Duration) -> Bench {
    let mut bench = Bench::ready(three_steps());
    bench.arm(step);
    bench.set(step, to);
    bench.pass(settle);
    bench
}

fn stopped(bench: &Bench, step: u8) -> Option<(Mono, StopReason, Generation)> {
    bench.entries().find_map(|(at, entry)| match entry {
        Entry::Stopped { step: of, reason, generation } if *of == step => Some((at, *reason, *generation)),
        _ => None,
    })
}

/// SR-44: an intent is void when it took 500 ms, and not a microsecond before.
#[test]
fn sr_44_an_intent_is_void_after_half_a_second() {
    let mut bench = running(1, milliamps(5), Duration::from_secs(2));
    bench.disk_dead = true;
    let request = bench.act(Act::Set { step: 1, intensity: milliamps(10), reason: None });
    bench.pass(500 * MS - US);
    assert_eq!(bench.verdict(request), None);
    bench.pass(US);
    assert_eq!(bench.verdict(request), Some(Verdict::Refused(Refusal::TooSlow)));
    assert!(
        bench.entries().any(|(_, entry)| matches!(entry, Entry::IntentVoid { why: Refusal::TooSlow, .. }))
    );
    // It comes too late: nothing of it rises.
    bench.input(Input::Durable { seq: doseward::governor::Seq(u64::MAX) });
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.governor.snapshot(bench.now).steps[0].setpoint, milliamps(5));
}

/// A unit that is not ready 5 s after it was armed is stopped.
#[test]
fn a_unit_that_never_gets_ready_is_stopped_after_5_s() {
    let mut bench = Bench::ready(three_steps());
    bench.units[0].deaf = true;
    bench.idle_answers();
    bench.act(Act::Arm { step: 1 });
    bench.pass(Duration::from_secs(5) - US);
    assert_eq!(bench.governor.snapshot(bench.now).steps[0].state, StepState::Arming);
    bench.pass(US);
    let snapshot = bench.governor.snapshot(bench.now);
    assert_eq!(snapshot.steps[0].state, StepState::Ended(StopReason::DeviceFault));
    assert!(snapshot.alarms.iter().any(|alarm| alarm.cause == Cause::DeviceFault));
}

/// SR-33: a slow record brings outputs down within 5 s, also of a unit that is only being prepared; none is live, none falls.
#[test]
fn sr_33_a_slow_record_brings_outputs_down_after_4_s() {
    let mut bench = running(1, milliamps(5), Duration::from_secs(2));
    bench.input(Input::Record(RecordHealth::Slow));
    bench.pass(Duration::from_secs(2));
    // Slow again is not slow anew.
    bench.input(Input::Record(RecordHealth::Slow));
    bench.pass(Duration::from_secs(2) - US);
    assert_eq!(bench.governor.snapshot(bench.now).steps[0].state, StepState::Running);
    bench.pass(US);
    assert_eq!(bench.governor.snapshot(bench.now).steps[0].state, StepState::Held);
    let alarm = |bench: &Bench| {
        bench.governor.snapshot(bench.now).alarms.iter().any(|alarm| alarm.cause == Cause::RecordFailing)
    };
    assert!(alarm(&bench));
    bench.act(Act::AcknowledgeAlarms);
    assert!(alarm(&bench), "seen is not solved");
    bench.input(Input::Record(RecordHealth::Healthy));
    bench.act(Act::AcknowledgeAlarms);
    assert!(!alarm(&bench));

    let mut idle = Bench::ready(three_steps());
    idle.input(Input::Record(RecordHealth::Slow));
    idle.pass(Duration::from_secs(10));
    assert!(!idle.said.iter().any(|said| matches!(said.output, Output::Stop { .. } | Output::Alarm { .. })));
}

/// SR-48: an armed unit is renewed every 200 ms for 800 ms, never past the operator's lease, and not at all without it.
#[test]
fn sr_48_renewals_are_short_frequent_and_inside_the_lease() {
    let renewals = |bench: &Bench, since: usize| -> Vec<(Mono, Mono)> {
        bench.said[since..]
            .iter()
            .filter_map(|said| match said.output {
                Output::Renew { device: DeviceId(0), until } => Some((said.at, until)),
                _ => None,
            })
            .collect()
    };
    let mut bench = running(1, milliamps(5), Duration::from_secs(2));
    let since = bench.said.len();
    bench.pass(Duration::from_secs(2));
    let found = renewals(&bench, since);
    assert_eq!(found.len(), 10);
    for pair in found.windows(2) {
        assert_eq!(pair[1].0.since(pair[0].0), 200 * MS);
    }
    assert!(found.iter().all(|(at, until)| until.since(*at) == 800 * MS), "{found:?}");
    // The last echo was at most half a second ago; from its issue the lease runs 2 s.
    bench.operator_here = false;
    let (since, left) = (bench.said.len(), bench.now);
    bench.pass(Duration::from_secs(4));
    let found = renewals(&bench, since);
    let last = found.iter().map(|(_, until)| *until).max().unwrap();
    assert!(last.since(left) <= Duration::from_secs(2) && last.since(left) > 1_400 * MS, "{last}");
    assert!(found.iter().any(|(at, until)| until.since(*at) < 800 * MS), "cut by the lease");
    let idle = Bench::ready(three_steps());
    assert!(renewals(&idle, 0).is_empty(), "who is not armed is not renewed");
}

/// SR-48: output is kept up to the end of the tightest time budget of the unit and no further; when that step has ended,
/// the other channel of the unit is kept up without a gap, wherever in the rhythm of renewals the end falls.
#[test]
fn sr_48_a_step_that_ends_by_time_leaves_no_gap_to_the_other() {
    for late in 0..20u32 {
        let mut plan = three_steps();
        plan.steps[0].duration = Duration::from_secs(10) + MS * 10 * late;
        let mut bench = Bench::ready(plan);
        bench.arm(1);
        bench.set(1, milliamps(2));
        bench.arm(2);
        bench.set(2, milliamps(2));
        let began = bench.now;
        bench.pass(Duration::from_secs(14));
        let ended = stopped(&bench, 1).expect("it ends by time").0;
        let mut kept: Option<Mono> = None;
        for said in bench.said.iter().filter(|said| said.at > began) {
            let Output::Renew { device: DeviceId(0), until } = said.output else { continue };
            assert!(kept.is_none_or(|kept| said.at < kept), "{late}: a gap at {}, ended at {ended}", said.at);
            let limit = ended.saturating_add(300 * MS);
            assert!(said.at >= ended || until <= limit, "{late}: kept up to {until}, the limit is {limit}");
            kept = Some(until);
        }
        assert_eq!(bench.governor.snapshot(bench.now).steps[1].state, StepState::Running, "{late}");
    }
}

/// SR-32: while something may be given, its progress row is never older than a second; then it is removed.
#[test]
fn sr_32_a_progress_row_at_least_each_second() {
    let mut bench = running(3, raw(1_200), Duration::from_secs(15));
    bench.act(Act::StopStep { step: 3 });
    bench.pass(Duration::from_secs(5));
    let rows: Vec<Mono> = bench
        .said
        .iter()
        .filter(|said| matches!(&said.output, Output::Progress(dose) if dose.device == DeviceId(1)))
        .map(|said| said.at)
        .collect();
    assert!(rows.len() >= 15, "{}", rows.len());
    // A dose that is closed while output goes on is followed by the row of what goes on, in the same call.
    let doses = bench.entries().filter_map(|(at, entry)| match entry {
        Entry::Dose(dose) if dose.device == DeviceId(1) => Some((at, dose.until)),
        _ => None,
    });
    let closed: Vec<Mono> = doses.filter(|(at, until)| at == until).map(|(at, _)| at).collect();
    assert!(closed.len() >= 3 && closed.iter().all(|at| rows.contains(at)), "{closed:?} in {rows:?}");
    for pair in rows.windows(2) {
        assert!(pair[1].since(pair[0]) <= Duration::from_secs(1), "{pair:?}");
    }
    let done: Vec<Mono> = bench
        .said
        .iter()
        .filter(|said| matches!(said.output, Output::ProgressDone { device: DeviceId(1), .. }))
        .map(|said| said.at)
        .collect();
    assert_eq!(done.len(), 1, "{done:?}");
    assert!(done[0] >= *rows.last().unwrap());
}

/// design 3.5: a finish falls to zero within 0.5 s, by decreases only; the other channel of the unit goes on untouched.
#[test]
fn a_finish_falls_to_zero_within_half_a_second_and_leaves_the_other_channel() {
    let mut bench = running(1, milliamps(20), Duration::from_secs(5));
    bench.arm(2);
    bench.set(2, milliamps(2));
    bench.pass(Duration::from_secs(2));
    let (since, asked) = (bench.said.len(), bench.now);
    bench.act(Act::Finish { step: 1 });
    assert_eq!(bench.governor.snapshot(bench.now).steps[0].state, StepState::Finishing);
    bench.pass(600 * MS);
    let mut falls = vec![20_000];
    let mut finished = None;
    for said in &bench.said[since..] {
        let Output::Drive { command, .. } = &said.output else { continue };
        match command.get() {
            Command::Set { channel, setpoint, .. } if channel.0 == 0 => {
                falls.push(setpoint.intensity().magnitude());
            }
            Command::Finish { channel, .. } => {
                assert_eq!(channel.0, 0);
                finished = Some(said.at.since(asked));
            }
            _ => {}
        }
    }
    assert!(falls.is_sorted_by(|a, b| a > b), "{falls:?}");
    assert!(falls.len() >= 4, "a fall, not a drop: {falls:?}");
    let took = finished.expect("the channel is taken out");
    assert!(took >= 300 * MS && took <= 500 * MS, "{took:?}");
    assert_eq!(
        stopped(&bench, 1).map(|(_, reason, by)| (reason, by)),
        Some((StopReason::Completed, Generation(0)))
    );
    assert!(!bench.said[since..].iter().any(|said| matches!(said.output, Output::Stop { .. })));
    assert_eq!(bench.governor.snapshot(bench.now).steps[1].state, StepState::Running);
    assert!(!bench.units[0].output.contains_key(&0));
    // The last channel takes the whole unit to proven zero.
    bench.act(Act::Finish { step: 2 });
    bench.pass(600 * MS);
    assert!(
        bench.said[since..]
            .iter()
            .any(|said| matches!(said.output, Output::Stop { device: DeviceId(0), .. }))
    );
    assert!(bench.units[0].output.is_empty());
    // A gun has no fall, and who has given nothing has completed nothing.
    let mut gun = running(3, raw(1_200), Duration::from_secs(2));
    let since = gun.said.len();
    gun.act(Act::Finish { step: 3 });
    assert!(
        gun.said[since..].iter().any(|said| matches!(said.output, Output::Stop { device: DeviceId(1), .. }))
    );
    let mut idle = Bench::ready(three_steps());
    idle.arm(1);
    idle.act(Act::Finish { step: 1 });
    assert_eq!(stopped(&idle, 1).map(|(_, reason, _)| reason), Some(StopReason::TherapistRequest));
}

/// SR-12: what is on falls before its time is over, what is at zero runs up to its margin, and a late look ends it all the same.
#[test]
fn sr_12_a_step_falls_before_its_end_and_in_a_rest_just_ends() {
    let run = |step: u8, to: Intensity, duration: u64| {
        let mut plan = three_steps();
        plan.steps[usize::from(step) - 1].duration = Duration::from_secs(duration);
        let mut bench = Bench::ready(plan);
        bench.arm(step);
        bench.set(step, to);
        bench
    };
    let driven = |bench: &Bench| -> Vec<(Mono, u32)> {
        let driven = bench.said.iter().filter_map(|said| match &said.output {
            Output::Drive { command, .. } => match command.get() {
                Command::Set { setpoint, .. } => Some((said.at, setpoint.intensity().magnitude())),
                _ => None,
            },
            _ => None,
        });
        driven.collect()
    };
    let mut bench = run(1, microamps(18_500), 20);
    while bench.governor.snapshot(bench.now).steps[0].state != StepState::Finishing {
        bench.pass(10 * MS);
        assert!(bench.now < Mono::from_millis(30_000), "no fall");
    }
    bench.now = bench.now.saturating_add(103 * MS);
    bench.input(Input::Tick);
    bench.pass(Duration::from_secs(1));
    let (ended, reason, _) = stopped(&bench, 1).expect("it ends");
    let values = driven(&bench);
    let began = values.first().expect("a rise").0;
    let falls = values.iter().rev().take_while(|(_, value)| *value < 18_500).count();
    assert!(reason == StopReason::Completed && falls >= 3, "{values:?}");
    assert!(values.iter().all(|(_, value)| value % 500 == 0), "on its grid: {values:?}");
    let took = ended.since(began);
    assert!(took <= Duration::from_secs(20) && took >= 19_600 * MS, "{took:?}");
    // Its plateau is over at 4 s, its fall at 4.5 s, its rest at 7.5 s.
    let mut bench = run(2, milliamps(5), 6);
    bench.pass(Duration::from_secs(10));
    let (ended, reason, _) = stopped(&bench, 2).expect("it ends");
    let began = driven(&bench).first().expect("a rise").0;
    assert_eq!((ended.since(began), reason), (5_700 * MS, StopReason::Completed));
}

/// SR-12, SR-13: a step ends by the tightest of its own time, the area's and the session's, at or before it, and names it.
#[test]
fn sr_12_sr_13_a_step_ends_by_the_tightest_time_and_names_it() {
    let secs = |secs| Some(Duration::from_secs(secs));
    for (duration, area, session, limit, expected) in [
        (20, None, None, 20, StopReason::Completed),
        (20, secs(12), None, 12, StopReason::AreaCap),
        (20, secs(12), secs(9), 9, StopReason::SessionCap),
        (8, secs(12), secs(9), 8, StopReason::Completed),
    ] {
        for (step, to) in [(1u8, milliamps(5)), (3, raw(1_200))] {
            let mut plan = three_steps();
            let planned = &mut plan.steps[usize::from(step) - 1];
            planned.duration = Duration::from_secs(duration);
            let limits = &mut planned.chain.get_mut(LimitOwner::Site).limits;
            (limits.area_time, limits.session_time) = (area, session);
            let mut bench = Bench::ready(plan);
            bench.arm(step);
            bench.set(step, to);
            let began = bench.now;
            bench.pass(Duration::from_secs(30));
            let (at, reason, _) = stopped(&bench, step).expect("it ends");
            let took = at.since(began);
            assert_eq!(reason, expected, "step {step}: {duration} s, {area:?}, {session:?}");
            assert!(took <= Duration::from_secs(limit) && took >= Duration::from_secs(limit - 1), "{took:?}");
            let used = bench.entries().filter(|(_, entry)| matches!(entry, Entry::BudgetUsed { .. })).count();
            assert_eq!(used, usize::from(reason != StopReason::Completed), "named once");
            bench.idle_answers();
            let again = bench.act(Act::Arm { step });
            assert!(matches!(bench.verdict(again), Some(Verdict::Refused(_))), "it is used up");
        }
    }
}

/// A screen shows where each step is, what binds it, what is left, and how each unit does.
#[test]
fn a_screen_shows_what_is_asked_allowed_set_and_left() {
    let mut bench = running(1, milliamps(5), Duration::from_secs(2));
    bench.set(1, milliamps(10));
    bench.pass(300 * MS);
    let view = bench.governor.snapshot(bench.now);
    let step = &view.steps[0];
    assert_eq!((step.number, step.state, step.phase), (1, StepState::Running, Phase::Continuous));
    assert!(bench.governor.states().eq(view.steps.iter().map(|step| step.state)));
    let setpoints = [1, 2, 9].map(|number| bench.governor.setpoint(number));
    assert_eq!(setpoints, [step.setpoint.magnitude(), 0, 0]);
    assert_eq!((step.asked, step.allowed, step.owner), (milliamps(10), milliamps(30), LimitOwner::Plan));
    assert!(step.setpoint.magnitude() > 5_000 && step.setpoint.magnitude() < 10_000, "{}", step.setpoint);
    assert_eq!(step.envelope, step.setpoint);
    let left = Duration::from_secs(40) - step.left;
    assert!(left > 2_300 * MS && left < 2_400 * MS, "{left:?}");
    let area = Duration::from_secs(3_600) - step.area_left;
    assert_eq!(area, left, "the same output time on the area");
    assert!(!step.uncertain);
    assert_eq!((view.at, view.latched), (bench.now, None));
    let unit = &view.units[0];
    assert!(unit.up && unit.silent.is_some_and(|silent| silent <= 250 * MS), "{:?}", unit.silent);
    assert_eq!(unit.battery, None);
    bench.stop_all();
    let latched = bench.governor.snapshot(bench.now);
    assert_eq!(latched.latched, Some(bench.governor.generation(DeviceId(0))));
    assert!(latched.version > view.version, "every visible change has a new version");
    assert_eq!(latched.steps[0].setpoint, milliamps(0));

    let mut levels = Bench::ready(two_modes());
    levels.arm(3);
    levels.set(3, level(2));
    levels.pass(Duration::from_secs(3));
    let step = levels.governor.snapshot(levels.now).steps[2].clone();
    assert_eq!((step.setpoint, step.allowed, step.owner), (level(2), level(3), LimitOwner::Device));
}

/// SR-06, SR-05: a program goes round: plateau, fall, rest, ramp to the envelope, and so on, each in its time.
#[test]
fn sr_06_a_program_goes_round_in_its_times() {
    let mut bench = running(2, milliamps(8), Duration::from_secs(2));
    let mut phases = Vec::new();
    let began = bench.now;
    while bench.now.since(began) < Duration::from_secs(20) {
        let step = bench.governor.snapshot(bench.now).steps[1].clone();
        if phases.last().is_none_or(|(phase, _)| *phase != step.phase) {
            phases.push((step.phase, bench.now));
        }
        assert!(step.setpoint.magnitude() <= step.envelope.magnitude());
        assert_eq!(step.envelope, milliamps(8));
        match step.phase {
            Phase::On => assert_eq!(step.setpoint, milliamps(8)),
            Phase::Off => assert_eq!(step.setpoint, milliamps(0)),
            Phase::RampUp | Phase::RampDown | Phase::Continuous => {}
        }
        bench.pass(5 * MS);
    }
    let seen: Vec<Phase> = phases.iter().map(|(phase, _)| *phase).collect();
    let round = [Phase::On, Phase::RampDown, Phase::Off, Phase::RampUp];
    assert!(seen.len() >= 9 && seen.iter().zip(round.iter().cycle()).all(|(a, b)| a == b), "{seen:?}");
    for pair in phases.windows(2).skip(1) {
        let ((phase, from), (_, to)) = (pair[0], pair[1]);
        let took = to.since(from);
        let expected = match phase {
            Phase::On => 4_000 * MS,
            Phase::RampDown => 500 * MS,
            Phase::Off => 3_000 * MS,
            Phase::RampUp | Phase::Continuous => 1_000 * MS,
        };
        let slack = 110 * MS;
        assert!(took + slack >= expected && took <= expected + slack, "{phase:?} took {took:?}");
    }
}

/// A cycle that was looked at late goes on from there.
#[test]
fn a_late_look_at_a_cycle_does_not_end_it() {
    let mut bench = running(2, milliamps(20), Duration::from_secs(1));
    let phase = |bench: &Bench| bench.governor.snapshot(bench.now).steps[1].phase;
    // The plateau lasts 4 s, the rest 3 s (the plan); of the ramps any look may be late.
    let phases = [
        (Phase::Off, 3_000 * MS, Phase::RampUp),
        (Phase::RampUp, Duration::ZERO, Phase::On),
        (Phase::On, 4_000 * MS, Phase::RampDown),
        (Phase::RampDown, Duration::ZERO, Phase::Off),
    ];
    for (late, lasts, next) in phases {
        let reach = |bench: &mut Bench, wanted: Phase| {
            let from = bench.now;
            while phase(bench) != wanted {
                bench.pass(MS);
                assert!(bench.now.since(from) < Duration::from_secs(60), "{late:?}: no {wanted:?}");
            }
        };
        reach(&mut bench, late);
        bench.pass(lasts.saturating_sub(3 * MS));
        assert_eq!(phase(&bench), late);
        bench.now = bench.now.saturating_add(if lasts.is_zero() { 150 * MS } else { 6 * MS });
        bench.input(Input::Tick);
        reach(&mut bench, next);
    }
}

/// SR-21: an operator's limit or discomfort below what runs lowers at once; a limit lifted raises nothing.
#[test]
fn sr_21_the_operators_limit_lowers_at_once_and_lifting_it_raises_nothing() {
    let mut bench = running(1, milliamps(10), Duration::from_secs(3));
    let limit = |limit| Act::OperatorLimit { step: 1, limit };
    bench.act(limit(Some(microamps(6_300))));
    assert_eq!(bench.governor.snapshot(bench.now).steps[0].setpoint, milliamps(6), "floored to the grid");
    bench.said.clear();
    bench.act(limit(Some(milliamps(6))));
    let drives = bench.said.iter().any(|said| matches!(said.output, Output::Drive { .. }));
    assert!(!drives, "it is there already");
    bench.act(limit(Some(milliamps(20))));
    bench.act(limit(None));
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.governor.snapshot(bench.now).steps[0].setpoint, milliamps(6));
    // Below the lowest step there is nothing but zero, and that is a hold.
    bench.act(limit(Some(Intensity::Current(Milliamps::from_microamps(400)))));
    assert_eq!(bench.governor.snapshot(bench.now).steps[0].state, StepState::Held);
    let held = bench
        .entries()
        .any(|(_, entry)| matches!(entry, Entry::Held { reason: StopReason::BelowDeviceFloor, .. }));
    assert!(held);
    // A limit at zero of a step that gives nothing holds nothing.
    let mut armed = Bench::ready(three_steps());
    armed.arm(1);
    armed.act(limit(Some(milliamps(0))));
    assert_eq!(armed.governor.snapshot(armed.now).steps[0].state, StepState::Armed);
}
