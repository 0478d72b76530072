//! What people do and leave undone, and what is done at a gun itself: lease, comfort, presence, lockout, force, own
//! buttons, alarms. The governor on the bench, in virtual time.

use std::collections::BTreeSet;
use std::time::Duration;

use doseward::alarm::{Cause, Priority};
use doseward::governor::{
    Act, AlarmOutput, Entry, Input, Interlock, Output, Phase, RecordHealth, Refusal, Request, RequestId,
    Snapshot, StepState, StopView, Verdict, Version,
};
use doseward::model::area::{AreaCode, Place, Side};
use doseward::model::capability::IntensityRange;
use doseward::model::command::{Channel, Command, DeviceId, Intensity};
use doseward::model::dose::Dose;
use doseward::model::plan::{ClientCode, Plan};
use doseward::model::report::{EpochEnd, OwnButton, Report, StopProgress};
use doseward::model::session::{Actor, Discomfort, StopReason};
use doseward::units::{Mono, RawForce, RawSpeed};
use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::support::bench::{Bench, actor};
use crate::support::laws::check_log;
use crate::support::plans::{level, microamps, milliamps, raw, three_steps, two_modes};

const STIM: DeviceId = DeviceId(0);
const GUN: DeviceId = DeviceId(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn shown(bench: &Bench) -> Snapshot {
    bench.governor.snapshot(bench.now)
}

fn state(bench: &Bench, step: u8) -> StepState {
    shown(bench).steps[usize::from(step) - 1].state
}

fn has(bench: &Bench, cause: Cause) -> bool {
    shown(bench).alarms.iter().any(|alarm| alarm.cause == cause)
}

/// TENS at 10 mA, for as long as is wanted.
fn tens() -> Bench {
    let mut plan = three_steps();
    plan.steps[0].duration = secs(3_000);
    let mut bench = Bench::ready(plan);
    bench.arm(1);
    bench.set(1, milliamps(10));
    bench.pass(secs(3));
    assert_eq!(bench.units[0].output.len(), 1);
    bench
}

/// The gun at `speed`.
fn gun_of(plan: Plan, speed: u16) -> Bench {
    let mut bench = Bench::ready(plan);
    bench.arm(3);
    bench.set(3, raw(speed));
    bench.pass(secs(3));
    assert_eq!(shown(&bench).steps[2].setpoint, raw(speed));
    bench
}

fn refused(bench: &mut Bench, act: Act) -> Refusal {
    let request = bench.act(act);
    bench.pass(ms(20));
    match bench.verdict(request) {
        Some(Verdict::Refused(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

/// Whether the outputs drive anything up, or let a hand do so.
fn raises(out: &[Output]) -> bool {
    out.iter().any(|output| matches!(output, Output::Drive { .. }))
}

// ---- lease -------------------------------------------------------------------------------------------------------------

/// H-08, SR-03, SR-47: after a stall longer than the lease the first thing is zero, and 20 echoes released at once, of
/// snapshots from before the lapse, bring nothing back.
#[test]
fn sr_03_sr_47_a_thawed_call_takes_outputs_down_first_and_old_echoes_renew_nothing() {
    for stall in [2_001, 2_600, 5_000, 60_000] {
        let mut bench = tens();
        bench.operator_here = false;
        let painted = bench.now;
        bench.now = bench.now.saturating_add(ms(stall));
        for echo in 0..20 {
            // Some are fresher than a second: the page painted them just before the box froze.
            let issued = bench.now.saturating_sub(ms(40 * echo)).min(painted.saturating_add(ms(stall - 1)));
            let out = bench.input(Input::Heartbeat { issued });
            if echo == 0 {
                assert!(matches!(out.first(), Some(Output::Stop { .. })), "{stall} ms: {out:?}");
            }
            assert!(!out.iter().any(|output| matches!(output, Output::Renew { .. })), "{stall} ms");
        }
        assert!(!bench.entries().any(|(at, entry)| at > painted && *entry == Entry::Lease { alive: true }));
        bench.pass(secs(1));
        assert!(bench.units[0].output.is_empty());
        let why = refused(&mut bench, Act::Resume { step: 1 });
        assert_eq!(why, Refusal::Interlock(Interlock::OperatorPresent), "{stall} ms");
        // A snapshot from after the lapse that a person sees does.
        let issued = bench.now;
        bench.input(Input::Heartbeat { issued });
        assert!(bench.entries().any(|(at, entry)| at > painted && *entry == Entry::Lease { alive: true }));
    }
}

/// SR-47: a page that says that nobody can see it, and whose buffered echoes come after that, keeps nothing alive.
#[test]
fn sr_47_a_hidden_page_and_its_buffered_echoes_renew_nothing() {
    let mut bench = tens();
    bench.operator_here = false;
    let painted = bench.now.saturating_sub(ms(50));
    bench.input(Input::Unseen);
    for _ in 0..20 {
        let out = bench.input(Input::Heartbeat { issued: painted });
        assert!(out.is_empty(), "{out:?}");
    }
    bench.pass(ms(250));
    assert!(bench.units[0].output.is_empty());
    assert_eq!(state(&bench, 1), StepState::Held);
}

/// SR-03: a stall shorter than the lease in mid-ramp is not made up for: one device step a call, as ever.
#[test]
fn sr_03_a_short_stall_in_mid_ramp_is_not_caught_up() {
    for stall in [300, 600, 900] {
        let mut bench = Bench::ready(three_steps());
        bench.arm(1);
        bench.set(1, milliamps(20));
        bench.pass(secs(1));
        let before = shown(&bench).steps[0].setpoint;
        bench.now = bench.now.saturating_add(ms(stall));
        bench.idle_answers();
        let out = bench.input(Input::Tick);
        let after = shown(&bench).steps[0].setpoint;
        assert!(after.magnitude() <= before.magnitude() + 500, "{stall} ms: {before} to {after}: {out:?}");
    }
}

// ---- stop --------------------------------------------------------------------------------------------------------------

/// SR-02: while everything is stopped, 10 000 random commands reach no unit, whoever gives them; after the reset all is
/// at zero and has to be armed again.
#[test]
fn sr_02_nothing_fuzzed_reaches_a_unit_while_latched() {
    let mut bench = tens();
    bench.stop_all();
    bench.pass(ms(100));
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for _ in 0..10_000 {
        let step = random.random_range(1..=3);
        let magnitude = random.random_range(0..40_000);
        let intensity =
            if step == 3 { raw(u16::try_from(magnitude / 10).unwrap()) } else { microamps(magnitude) };
        let act = match random.random_range(0..6) {
            0 => Act::Arm { step },
            1 | 2 => Act::Set { step, intensity, reason: Some("fuzz".to_owned()) },
            3 => Act::Resume { step },
            4 => Act::OperatorLimit { step, limit: None },
            _ => Act::ReadBack { client: bench.client() },
        };
        bench.act(act);
        let drove = bench.said.iter().rev().take_while(|said| said.at == bench.now);
        assert!(
            !drove.clone().any(|said| matches!(said.output, Output::Drive { .. } | Output::Renew { .. }))
        );
        if random.random_range(0..50) == 0 {
            bench.pass(ms(random.random_range(0..300)));
        }
    }
    bench.act(Act::StopStep { step: 1 });
    bench.pass(ms(100));
    let generation = shown(&bench).latched.expect("latched all the while");
    assert!(bench.governor.generation(STIM) > generation, "a stop of its own after the stop of all");
    let request = bench.act(Act::Reset { generation });
    assert!(matches!(bench.verdict(request), Some(Verdict::Granted { .. })));
    assert!(shown(&bench).steps.iter().all(|step| step.setpoint.is_zero()));
    assert!(matches!(
        refused(&mut bench, Act::Set { step: 1, intensity: milliamps(1), reason: None }),
        Refusal::State { .. }
    ));
    check_log(&bench);
}

/// SR-02, H-17: the client's stop is a stop of everything with the client as the actor, and it latches.
#[test]
fn sr_02_the_clients_stop_stops_everything_and_latches() {
    let mut bench = tens();
    let out =
        bench.input(Input::Stop { by: Actor::client("hand switch"), reason: StopReason::ClientRequest });
    assert!(matches!(out.first(), Some(Output::Stop { .. })));
    bench.pass(ms(50));
    assert!(bench.units[0].output.is_empty());
    assert_eq!(state(&bench, 1), StepState::Ended(StopReason::ClientRequest));
    assert!(shown(&bench).latched.is_some());
    let by_client = |entry: &Entry| matches!(entry, Entry::StopAll { by, reason: StopReason::ClientRequest, .. } if by.is_client());
    assert!(bench.entries().any(|(_, entry)| by_client(entry)));
}

/// SR-27: the client, who is not the commander, may say less and nothing else: 10 000 other requests drive nothing.
#[test]
fn sr_27_who_does_not_command_raises_nothing() {
    let mut bench = tens();
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for number in 0..10_000 {
        let step = random.random_range(1..=3);
        let act = match random.random_range(0..7) {
            0 => Act::Arm { step },
            1 => Act::Set { step, intensity: milliamps(random.random_range(0..40)), reason: None },
            2 => Act::Resume { step },
            3 => Act::OperatorLimit { step, limit: None },
            4 => Act::AcknowledgeAlarms,
            5 => Act::ReadBack { client: bench.client() },
            _ => Act::Present,
        };
        let request = Request {
            id: RequestId(1_000_000 + number),
            by: Actor::client("hand switch"),
            seen: Version(u64::MAX),
            act,
        };
        let out = bench.input(Input::Request(request));
        assert!(!raises(&out), "{out:?}");
        assert!(
            out.iter().any(|output| matches!(output, Output::Verdict { verdict: Verdict::Refused(_), .. })),
            "{out:?}"
        );
    }
}

/// SR-05, H-01: two steps share an output. The end of the one that is held takes nothing from the one that runs there: its
/// next rise would be from zero to where it was.
#[test]
fn sr_05_the_end_of_a_held_step_takes_nothing_from_another_on_its_output() {
    let mut bench = Bench::ready(two_modes());
    bench.arm(2);
    bench.act(Act::Hold { step: 2 });
    bench.pass(ms(500));
    bench.arm(1);
    bench.set(1, milliamps(5));
    bench.pass(ms(1_500));
    let before = bench.units[0].output.clone();
    assert!(!before.is_empty(), "step 1 gives output");
    let out_before = bench.said.len();
    bench.act(Act::Finish { step: 2 });
    assert!(!bench.said[out_before..].iter().any(|said| matches!(said.output, Output::Drive { .. })));
    bench.set(1, milliamps(6));
    bench.pass(ms(1_500));
    assert!(matches!(state(&bench, 2), StepState::Ended(_)));
    check_log(&bench);
}

// ---- requests ------------------------------------------------------------------------------------------------------------

fn ask(bench: &mut Bench, id: u64, seen: Version, act: Act) -> Vec<Output> {
    bench.input(Input::Request(Request { id: RequestId(id), by: actor(), seen, act }))
}

/// Design 3.9: more is refused when the screen that asked was not of now, also what a rise on its way goes for; less is not.
#[test]
fn a_rise_asked_of_an_outdated_screen_is_refused_and_less_is_not() {
    let mut bench = gun_of(three_steps(), 1_200);
    let verdict = |out: Vec<Output>| {
        out.into_iter().find_map(|output| match output {
            Output::Verdict { verdict, .. } => Some(verdict),
            _ => None,
        })
    };
    let set =
        |speed| Act::Set { step: 3, intensity: raw(speed), reason: Some("asked by the client".to_owned()) };
    let stale = Some(Verdict::Refused(Refusal::Stale));
    assert_eq!(verdict(ask(&mut bench, 90_000, Version(0), set(2_000))), stale);
    bench.act(set(2_000));
    bench.pass(ms(200));
    assert_eq!(verdict(ask(&mut bench, 90_001, Version(0), set(2_000))), stale);
    let granted = verdict(ask(&mut bench, 90_002, Version(0), set(1_900)));
    assert_eq!(granted, Some(Verdict::Granted { target: Some(raw(1_900)) }));
}

/// SR-46: another client ends what is held too, and says nothing to a unit that was not in use.
#[test]
fn sr_46_another_client_ends_what_is_held() {
    let mut bench = gun_of(three_steps(), 1_200);
    bench.act(Act::Hold { step: 3 });
    bench.pass(secs(3));
    assert_eq!(state(&bench, 3), StepState::Held);
    let out = ask(&mut bench, 90_000, Version(0), Act::ReadBack { client: ClientCode::new("another") });
    assert!(matches!(state(&bench, 3), StepState::Ended(_)));
    let stopped: Vec<_> = out
        .iter()
        .filter_map(|output| match output {
            Output::Stop { device, .. } => Some(*device),
            _ => None,
        })
        .collect();
    assert_eq!(stopped, [GUN]);
    let mut bench = tens();
    bench.act(Act::ReadBack { client: ClientCode::new("another") });
    assert!(matches!(state(&bench, 1), StepState::Ended(_)));
    assert_eq!(state(&bench, 2), StepState::Waiting, "it never began");
}

/// Design 3.9: what comes twice is done once and answered twice, as long as 256 requests are remembered.
#[test]
fn a_request_that_comes_twice_is_done_once() {
    let mut bench = tens();
    let less = Act::Set { step: 1, intensity: milliamps(8), reason: None };
    let first = ask(&mut bench, 90_000, Version(0), less.clone());
    let verdicts = |out: &[Output]| out.iter().filter(|it| matches!(it, Output::Verdict { .. })).count();
    assert!(verdicts(&first) == 1 && first.len() > 1);
    for id in 90_001..90_256 {
        ask(&mut bench, id, Version(0), Act::Present);
    }
    let again = ask(&mut bench, 90_000, Version(0), less.clone());
    assert!(verdicts(&again) == 1 && again.len() == 1, "{again:?}");
    ask(&mut bench, 90_256, Version(0), Act::Present);
    assert!(ask(&mut bench, 90_000, Version(0), less).len() > 1, "forgotten");
}

/// Design 7: who lowered, held, resumed, finished and stopped is on record, each once.
#[test]
fn what_a_person_did_is_on_record_with_who() {
    let mut bench = tens();
    for act in [
        Act::Set { step: 1, intensity: milliamps(8), reason: None },
        Act::Hold { step: 1 },
        Act::Resume { step: 1 },
        Act::Finish { step: 1 },
        Act::StopStep { step: 1 },
    ] {
        bench.act(act);
        bench.pass(secs(2));
        bench.idle_answers();
    }
    let acted: Vec<_> = bench
        .entries()
        .filter_map(|(_, entry)| match entry {
            Entry::Acted { by, step: 1, what, to } if *by == actor() => Some((*what, *to)),
            _ => None,
        })
        .collect();
    let zero = milliamps(0);
    assert_eq!(
        acted,
        [("lower", milliamps(8)), ("hold", zero), ("resume", zero), ("finish", zero), ("stop", zero)]
    );
}

/// Design 3.8: one output has one step at a time, and a second output of a unit comes into the epoch that is open.
#[test]
fn a_second_step_of_a_unit_waits_for_its_output_and_joins_its_epoch() {
    let mut bench = Bench::ready(two_modes());
    bench.arm(1);
    bench.idle_answers();
    let why = refused(&mut bench, Act::Arm { step: 2 });
    assert_eq!(why, Refusal::State { why: "Another step uses this output. End it first." });
    let mut bench = Bench::ready(three_steps());
    bench.said.clear();
    bench.arm(1);
    bench.arm(2);
    let prepared = bench.said.iter().filter(|said| match &said.output {
        Output::Drive { command, .. } => matches!(command.get(), Command::Prepare { .. }),
        _ => false,
    });
    assert_eq!(prepared.count(), 1);
    bench.act(Act::StopStep { step: 1 });
    assert_eq!(state(&bench, 1), StepState::Ended(StopReason::TherapistRequest));
    assert_eq!(state(&bench, 2), StepState::Held, "the stop is the whole unit's; nobody ended this one");
}

// ---- comfort -----------------------------------------------------------------------------------------------------------

/// SR-21, H-01: 7 and "too much" and the client's "less" lower by a quarter in the same call and lock rises for 30 s;
/// whoever speaks is on record.
#[test]
fn sr_21_every_way_to_say_less_lowers_at_once_and_locks() {
    let less: [(&str, Act, Actor); 4] = [
        ("7", Act::Comfort { step: 1, score: Discomfort::new(7).unwrap() }, actor()),
        ("8", Act::Comfort { step: 1, score: Discomfort::new(8).unwrap() }, actor()),
        ("too much", Act::TooMuch { step: 1 }, actor()),
        ("less", Act::ClientLess { step: 1 }, Actor::client("hand switch")),
    ];
    for (name, act, by) in less {
        let mut bench = tens();
        let said = bench.now;
        let request = Request { id: RequestId(90_000), by: by.clone(), seen: Version(0), act };
        let out = bench.input(Input::Request(request));
        let lowered = out.iter().position(|output| matches!(output, Output::Drive { .. }));
        let recorded = out.iter().position(|output| matches!(output, Output::Append { .. }));
        assert!(lowered.is_some() && lowered < recorded, "{name}: act, then record: {out:?}");
        assert_eq!(shown(&bench).steps[0].setpoint, microamps(7_500), "{name}");
        assert_eq!(shown(&bench).steps[0].envelope, microamps(7_500), "{name}");
        let mine = |entry: &Entry| match entry {
            Entry::Comfort { by: who, .. } | Entry::Acted { by: who, .. } => *who == by,
            _ => false,
        };
        assert!(bench.entries().any(|(at, entry)| at == said && mine(entry)), "{name}");
        let microsecond = Duration::from_micros(1);
        bench.pass(said.saturating_add(secs(30) - microsecond).since(bench.now));
        let request = bench.act(Act::Set { step: 1, intensity: microamps(8_000), reason: None });
        assert!(matches!(bench.verdict(request), Some(Verdict::Refused(_))), "{name}: locked");
        assert_eq!(shown(&bench).steps[0].setpoint, microamps(7_500), "{name}: nothing rises by itself");
        bench.pass(microsecond);
        assert!(matches!(bench.set(1, microamps(8_000)), Verdict::Granted { .. }), "{name}: free after 30 s");
    }
}

/// SR-21: the quarter is of what the unit has acknowledged; a rise on its way was perhaps never felt.
#[test]
fn sr_21_the_quarter_is_of_what_was_acknowledged() {
    let mut bench = tens();
    bench.set(1, microamps(10_500));
    bench.pass(ms(500));
    bench.answer_after = ms(250);
    bench.set(1, milliamps(12));
    bench.pass(ms(150));
    assert!(shown(&bench).steps[0].setpoint.magnitude() >= 11_000, "a rise is on its way");
    bench.act(Act::TooMuch { step: 1 });
    assert_eq!(shown(&bench).steps[0].setpoint, microamps(7_500), "three quarters of 10.5 mA, on the grid");
    check_log(&bench);
    let mut bench = gun_of(three_steps(), 1_500);
    bench.act(Act::Set { step: 3, intensity: raw(1_600), reason: None });
    while shown(&bench).steps[2].setpoint != raw(1_600) {
        bench.pass(ms(1));
        assert!(bench.now < Mono::from_millis(30_000), "no rise");
    }
    bench.pass(ms(12));
    bench.act(Act::TooMuch { step: 3 });
    assert_eq!(
        shown(&bench).steps[2].setpoint,
        raw(1_200),
        "of a gun that acknowledged and has not reported yet"
    );
}

/// SR-21: at the very beginning of a contraction, when nothing is given yet, it is the envelope that is lowered.
#[test]
fn sr_21_discomfort_before_the_rise_of_a_contraction_lowers_its_envelope() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(2);
    bench.set(2, milliamps(20));
    let step = |bench: &Bench| shown(bench).steps[1].clone();
    for phase in [Phase::Off, Phase::RampUp] {
        while step(&bench).phase != phase {
            bench.pass(ms(1));
            assert!(bench.now < Mono::from_millis(120_000), "{:?}", step(&bench));
        }
    }
    let before = step(&bench);
    assert!(before.setpoint.is_zero() && !before.envelope.is_zero(), "{before:?}");
    bench.act(Act::TooMuch { step: 2 });
    let after = step(&bench);
    assert_eq!(after.state, StepState::Running);
    assert!(after.envelope.magnitude() * 4 <= before.envelope.magnitude() * 3 && !after.envelope.is_zero());
}

/// SR-21: the envelope of a program is lowered, so that the next ON phase comes to three quarters.
#[test]
fn sr_21_discomfort_lowers_the_envelope_of_a_program() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(2);
    bench.set(2, milliamps(10));
    bench.pass(ms(4_800));
    assert_eq!(shown(&bench).steps[1].envelope, milliamps(10));
    bench.act(Act::TooMuch { step: 2 });
    assert_eq!(shown(&bench).steps[1].envelope, microamps(7_500));
    let mut highest = 0;
    for _ in 0..180 {
        bench.pass(ms(100));
        highest = highest.max(shown(&bench).steps[1].setpoint.magnitude());
    }
    assert_eq!(highest, 7_500);
}

/// SR-21: below the floor or below level 1 is a hold, never the floor; 9 and more ends the step, also a held one.
#[test]
fn sr_21_below_the_floor_is_a_hold_and_nine_is_a_stop() {
    let mut bench = gun_of(three_steps(), 1_200);
    bench.act(Act::TooMuch { step: 3 });
    assert_eq!(state(&bench, 3), StepState::Held);
    let why = bench.entries().find_map(|(_, entry)| match entry {
        Entry::Held { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(why, Some(StopReason::BelowDeviceFloor), "and it is said");
    bench.act(Act::Comfort { step: 3, score: Discomfort::new(9).unwrap() });
    assert_eq!(state(&bench, 3), StepState::Ended(StopReason::PainThreshold), "a held step too");

    let mut plan = three_steps();
    plan.devices[1].capability.intensity = IntensityRange::Level {
        max: doseward::units::Level::from_level(1),
        top: doseward::units::Level::from_level(3),
    };
    plan.steps[2].target = level(1);
    let mut bench = Bench::ready(plan);
    bench.arm(3);
    bench.set(3, level(1));
    bench.act(Act::TooMuch { step: 3 });
    assert_eq!(state(&bench, 3), StepState::Held, "level 1 less a quarter is below level 1");

    let mut bench = tens();
    bench.act(Act::Comfort { step: 1, score: Discomfort::new(9).unwrap() });
    bench.pass(ms(20));
    assert!(bench.units[0].output.is_empty());
    assert_eq!(state(&bench, 1), StepState::Ended(StopReason::PainThreshold));
}

// ---- electrodes, telemetry, read-back ------------------------------------------------------------------------------------

/// SR-22: lead-off zeroes at once; putting the pad back resumes nothing, and no time is counted meanwhile.
#[test]
fn sr_22_lead_off_holds_at_zero_until_a_person_arms_again() {
    let mut bench = tens();
    bench.lead_off(0);
    bench.pass(ms(100));
    let left = shown(&bench).steps[0].left;
    assert_eq!(shown(&bench).steps[0].envelope, microamps(0));
    bench.pass(secs(20));
    bench.idle_answers();
    assert!(bench.units[0].output.is_empty());
    assert_eq!(shown(&bench).steps[0].left, left, "the timer pauses");
}

/// SR-18: nothing that a person can ask for changes an area, with output on or off.
#[test]
fn sr_18_no_act_changes_an_area() {
    let mut bench = tens();
    let places: Vec<_> = bench.governor.plan().steps.iter().map(|step| step.place.clone()).collect();
    for act in
        [Act::Hold { step: 1 }, Act::Resume { step: 1 }, Act::Finish { step: 1 }, Act::AcknowledgeAlarms]
    {
        bench.act(act);
        bench.pass(ms(300));
    }
    assert!(bench.governor.plan().steps.iter().map(|step| step.place.clone()).eq(places));
}

/// SR-23: suspect after its time (no rise), lost after its time (stop and alarm), each within 250 ms; bytes that mean
/// nothing refresh neither.
#[test]
fn sr_23_stale_telemetry_blocks_rises_and_then_stops() {
    for (step, device, suspect, lost) in [(1u8, 0usize, 500u64, 1_000u64), (3, 1, 750, 3_000)] {
        let mut bench = if step == 1 { tens() } else { gun_of(three_steps(), 1_500) };
        bench.idle_answers();
        let heard = bench.now;
        bench.units[device].silent = true;
        let more = if step == 1 { milliamps(12) } else { raw(1_600) };
        while bench.now.since(heard) < ms(suspect + 30) {
            bench.pass(ms(50));
            bench.tell(device, Report::Unintelligible { why: "noise" });
        }
        assert!(
            matches!(bench.set(step, more), Verdict::Refused(Refusal::Interlock(Interlock::LinkFresh))),
            "step {step}"
        );
        let mut stopped = None;
        while stopped.is_none() && bench.now.since(heard) < ms(lost + 1_000) {
            bench.pass(ms(10));
            bench.tell(device, Report::Unintelligible { why: "noise" });
            stopped = has(&bench, Cause::LinkLost).then_some(bench.now.since(heard));
        }
        let stopped = stopped.expect("lost").as_millis();
        assert!(
            (u128::from(lost)..=u128::from(lost) + 250).contains(&stopped),
            "step {step}: after {stopped} ms"
        );
        assert_eq!(state(&bench, step), StepState::Ended(StopReason::LinkLost));
    }
}

/// SR-24, H-12: a gun that reports more than 10 % above what it was told is stopped within 500 ms with a high alarm; one
/// bad report that the next corrects is none; what a motor still reports while it falls is none.
#[test]
fn sr_24_more_than_commanded_is_a_mismatch_and_a_stop() {
    let measured =
        |speed| Report::Measured { channel: Channel(0), running: true, intensity: Some(raw(speed)) };
    for (told, reported, wrong) in [(1_500, 1_651, true), (1_500, 1_650, false), (2_400, 2_401, true)] {
        let mut bench = gun_of(three_steps(), told);
        bench.pass(secs(1));
        let said = bench.now;
        bench.tell(1, measured(reported));
        bench.now = bench.now.saturating_add(ms(250) - Duration::from_micros(1));
        bench.input(Input::Tick);
        assert!(!has(&bench, Cause::Mismatch), "the next may correct it");
        bench.now = said.saturating_add(ms(250));
        bench.input(Input::Tick);
        assert_eq!(has(&bench, Cause::Mismatch), wrong, "{told} and {reported}");
        if wrong {
            assert!(bench.now.since(said) <= ms(500));
            assert_eq!(state(&bench, 3), StepState::Ended(StopReason::ReadbackMismatch));
            assert_eq!(Cause::Mismatch.priority(), Priority::High);
            let dose =
                |entry: &Entry| matches!(entry, Entry::Dose(dose) if dose.upper.intensity() == raw(reported));
            bench.pass(secs(3));
            assert!(bench.entries().any(|(_, entry)| dose(entry)), "what it reported is counted");
        }
    }
    let mut bench = gun_of(three_steps(), 1_500);
    bench.tell(1, measured(2_000));
    bench.tell(1, measured(1_500));
    bench.pass(secs(1));
    assert!(!has(&bench, Cause::Mismatch), "corrected");
    let mut bench = gun_of(three_steps(), 2_000);
    bench.act(Act::Set { step: 3, intensity: raw(1_200), reason: None });
    bench.tell(1, measured(1_900));
    bench.pass(ms(200));
    bench.tell(1, measured(1_250));
    bench.pass(secs(1));
    assert!(!has(&bench, Cause::Mismatch), "a motor that falls");
    let grace = ms(500);
    for (after, wrong) in [(grace - Duration::from_micros(1), false), (grace, true)] {
        let mut bench = gun_of(three_steps(), 2_400);
        bench.act(Act::Set { step: 3, intensity: raw(2_300), reason: None });
        bench.pass(after);
        bench.tell(1, measured(2_401));
        bench.now = bench.now.saturating_add(ms(260));
        bench.input(Input::Tick);
        assert_eq!(has(&bench, Cause::Mismatch), wrong, "a little above its limit {after:?} after a change");
    }
    for (after, wrong) in [(grace - Duration::from_micros(1), false), (grace, true)] {
        let mut bench = gun_of(three_steps(), 2_400);
        bench.act(Act::Set { step: 3, intensity: raw(1_500), reason: None });
        bench.pass(after);
        bench.tell(1, measured(1_900));
        bench.now = bench.now.saturating_add(ms(260));
        bench.input(Input::Tick);
        assert_eq!(has(&bench, Cause::Mismatch), wrong, "far above what was told {after:?} ago");
    }
    let mut bench = by_hand();
    bench.own_button(1, OwnButton::Started(raw(1_200)));
    bench.pass(secs(1));
    bench.tell(1, measured(1_400));
    bench.now = bench.now.saturating_add(ms(260));
    bench.input(Input::Tick);
    assert!(!has(&bench, Cause::Mismatch), "by hand up to its limit");
}

/// SR-24: a gun of levels that reports the next level is a mismatch.
#[test]
fn sr_24_one_level_above_is_a_mismatch_of_a_gun_of_levels() {
    for (reported, wrong) in [(1, false), (2, false), (3, true)] {
        let mut bench = Bench::ready(two_modes());
        bench.arm(3);
        bench.set(3, level(2));
        bench.pass(secs(3));
        bench.tell(
            1,
            Report::Measured { channel: Channel(0), running: true, intensity: Some(level(reported)) },
        );
        bench.now = bench.now.saturating_add(ms(260));
        bench.input(Input::Tick);
        assert_eq!(has(&bench, Cause::Mismatch), wrong, "{reported}");
    }
}

/// SR-24: a stimulator that reports one step more than it was told is a mismatch too.
#[test]
fn sr_24_one_step_above_is_a_mismatch_of_a_stimulator() {
    for (told, reported, wrong) in [
        (10_000, 10_000, false),
        (10_000, 10_499, false),
        (10_000, 10_500, true),
        (2_000, 2_100, false),
        (2_000, 2_101, true),
    ] {
        let mut bench = Bench::ready(three_steps());
        bench.arm(1);
        bench.set(1, microamps(told));
        bench.pass(secs(3));
        let reported = microamps(reported);
        bench.tell(0, Report::Measured { channel: Channel(0), running: true, intensity: Some(reported) });
        bench.now = bench.now.saturating_add(ms(260));
        bench.input(Input::Tick);
        assert_eq!(has(&bench, Cause::Mismatch), wrong, "{reported}");
    }
}

/// SR-24: a unit that says that it runs though its stop was proven is stopped again, and the alarm stays until that is
/// proven and a person has seen it. An unconfirmed stop is a high alarm at one second and clears by nothing.
#[test]
fn sr_24_running_when_stopped_is_a_mismatch_and_nothing_clears_it_but_proof() {
    let mut bench = gun_of(three_steps(), 1_500);
    bench.act(Act::StopStep { step: 3 });
    bench.pass(secs(3));
    assert!(matches!(shown(&bench).units[1].stop, StopView::Confirmed(_)));
    bench.units[1].deaf = true;
    let said = bench.now;
    bench.tell(1, Report::Measured { channel: Channel(0), running: true, intensity: Some(raw(1_500)) });
    bench.pass(ms(300));
    assert!(has(&bench, Cause::Mismatch));
    assert!(
        bench.said.iter().any(|it| it.at > said && matches!(it.output, Output::Stop { device: GUN, .. }))
    );
    bench.pass(ms(1_100));
    assert!(has(&bench, Cause::StopUnconfirmed));
    assert_eq!(Cause::StopUnconfirmed.priority(), Priority::High);
    for _ in 0..3 {
        bench.act(Act::AcknowledgeAlarms);
        bench.pass(secs(60));
        assert!(has(&bench, Cause::StopUnconfirmed) && has(&bench, Cause::Mismatch), "never self-clearing");
        assert_eq!(shown(&bench).sounding.priority, Some(Priority::High), "and never silent");
    }
    bench.units[1].deaf = false;
    let generation = bench.governor.generation(GUN);
    bench.tell(1, Report::Stop { generation, progress: StopProgress::Confirmed, after: secs(3) });
    assert!(has(&bench, Cause::StopUnconfirmed), "proof alone clears nothing");
    bench.act(Act::AcknowledgeAlarms);
    assert!(!has(&bench, Cause::StopUnconfirmed) && !has(&bench, Cause::Mismatch));
}

/// SR-46, H-09: nothing is armed or resumed without the read-back of this client, in any state; naming another client with
/// output on takes everything to zero at once and disarms.
#[test]
fn sr_46_no_arm_without_read_back_and_another_client_disarms() {
    let other = || ClientCode::new("C-2");
    let mut bench = Bench::ready(three_steps());
    refused(&mut bench, Act::ReadBack { client: other() });
    for act in [Act::Arm { step: 1 }, Act::Arm { step: 3 }] {
        bench.idle_answers();
        assert_eq!(refused(&mut bench, act), Refusal::Interlock(Interlock::ReadBack));
    }
    type Way = fn(&mut Bench);
    let ways: [(&str, Way); 4] = [
        ("running", |_| {}),
        ("held", |bench| {
            bench.act(Act::Hold { step: 1 });
        }),
        ("ended", |bench| {
            bench.act(Act::StopStep { step: 1 });
        }),
        ("finishing", |bench| {
            bench.act(Act::Finish { step: 1 });
        }),
    ];
    for (name, way) in ways {
        let mut bench = tens();
        way(&mut bench);
        let said = bench.now;
        let why = refused(&mut bench, Act::ReadBack { client: other() });
        assert!(matches!(why, Refusal::State { .. }), "{name}");
        assert!(bench.units[0].output.is_empty() && bench.now.since(said) <= ms(250), "{name}");
        assert!(matches!(state(&bench, 1), StepState::Ended(_)), "{name}: {:?}", state(&bench, 1));
        bench.pass(ms(100));
        bench.idle_answers();
        assert!(matches!(refused(&mut bench, Act::Resume { step: 1 }), Refusal::State { .. }), "{name}");
        if state(&bench, 1) != StepState::Ended(StopReason::Completed) {
            let why = refused(&mut bench, Act::Arm { step: 1 });
            assert_eq!(why, Refusal::Interlock(Interlock::ReadBack), "{name}");
        }
        let client = bench.client();
        bench.act(Act::ReadBack { client });
        assert!(bench.entries().any(|(_, entry)| matches!(entry, Entry::ReadBack { .. })));
        assert!(shown(&bench).steps.iter().all(|step| step.setpoint.is_zero()), "{name}");
    }
}

/// SR-44: whatever comes between the append and the disk's answer, no byte leaves that the later state would refuse.
#[test]
fn sr_44_every_input_kind_between_append_and_disk() {
    type Meanwhile = fn(&mut Bench);
    let force = |bench: &mut Bench| bench.tell(0, Report::Force(RawForce::from_raw(9)));
    let cases: [(&str, Meanwhile); 15] = [
        ("client's stop", |bench| {
            bench.input(Input::Stop { by: Actor::client("x"), reason: StopReason::ClientRequest });
        }),
        ("client's less", |bench| {
            let act = Act::ClientLess { step: 1 };
            let by = Actor::client("x");
            bench.input(Input::Request(Request { id: RequestId(77_777), by, seen: Version(0), act }));
        }),
        ("too much", |bench| {
            bench.act(Act::TooMuch { step: 1 });
        }),
        ("less asked", |bench| {
            bench.act(Act::Set { step: 1, intensity: milliamps(1), reason: None });
        }),
        ("finish", |bench| {
            bench.act(Act::Finish { step: 1 });
        }),
        ("guard gone", |bench| drop(bench.input(Input::Guard { present: false }))),
        ("clock", |bench| drop(bench.input(Input::ClockSane(false)))),
        ("record failing", |bench| drop(bench.input(Input::Record(RecordHealth::Failing)))),
        ("record slow", |bench| drop(bench.input(Input::Record(RecordHealth::Slow)))),
        ("suspended", |bench| drop(bench.input(Input::Suspended))),
        ("another client", |bench| {
            bench.act(Act::ReadBack { client: ClientCode::new("C-2") });
        }),
        ("unacknowledged", |bench| {
            bench.tell(0, Report::Unacknowledged { id: doseward::model::command::CommandId(1) });
        }),
        ("lease ended at the driver", |bench| bench.tell(0, Report::LeaseEnded)),
        ("last barrier", |bench| {
            bench.tell(0, Report::Clamped { asked: milliamps(9), sent: milliamps(1) });
        }),
        ("unusable", |bench| bench.tell(0, Report::Unusable { why: "test".to_owned() })),
    ];
    for delay in [0u64, 400, 499, 501, 5_000] {
        for (name, meanwhile) in cases {
            let mut bench = Bench::ready(three_steps());
            bench.arm(1);
            bench.set(1, milliamps(2));
            bench.pass(secs(1));
            bench.disk_delay = ms(delay);
            bench.act(Act::Set { step: 1, intensity: milliamps(10), reason: None });
            meanwhile(&mut bench);
            bench.pass(secs(6));
            let reached = shown(&bench).steps[0].setpoint;
            assert!(reached.magnitude() <= 2_000, "{name} at {delay} ms: {reached}");
            check_log(&bench);
        }
        // Inputs that change nothing of what was judged: it rises in time or is void.
        let harmless: [(&str, Meanwhile); 3] = [
            ("nothing", |_| {}),
            ("a sign of the operator", |bench| {
                bench.act(Act::Present);
            }),
            ("force of another unit", force),
        ];
        for (name, meanwhile) in harmless {
            let mut bench = Bench::ready(three_steps());
            bench.arm(1);
            bench.disk_delay = ms(delay);
            let request = bench.act(Act::Set { step: 1, intensity: milliamps(2), reason: None });
            meanwhile(&mut bench);
            bench.pass(secs(6));
            let granted = matches!(bench.verdict(request), Some(Verdict::Granted { .. }));
            assert_eq!(granted, delay < 500, "{name} at {delay} ms: {:?}", bench.verdict(request));
        }
    }
}

// ---- presence ------------------------------------------------------------------------------------------------------------

/// SR-26, H-08: without a sign of the operator the question comes at 10 min (TENS), the stop 30 s later, each ± 1 s; a step
/// that ends meanwhile, the client's "less" and a hold of another step start no time anew.
#[test]
fn sr_26_presence_is_asked_and_its_absence_stops() {
    let mut bench = tens();
    bench.arm(3);
    bench.set(3, raw(1_200));
    let last_act = bench.now.saturating_sub(ms(20));
    // The gun's step ends by itself after 20 s; the client says less after five minutes.
    bench.pass(secs(300));
    assert_eq!(state(&bench, 3), StepState::Ended(StopReason::Completed));
    let act = Act::ClientLess { step: 1 };
    let by = Actor::client("hand switch");
    bench.input(Input::Request(Request { id: RequestId(88_888), by, seen: Version(0), act }));
    bench.pass(secs(600));
    let at = |cause| {
        bench.entries().find_map(|(at, entry)| match entry {
            Entry::Alarm { alarm, raised: true } if alarm.cause == cause => Some(at.since(last_act)),
            _ => None,
        })
    };
    let asked = at(Cause::OperatorAbsent).expect("asked");
    assert!((599_000..=601_000).contains(&asked.as_millis()), "asked after {asked:?}");
    let stopped = bench.entries().find_map(|(at, entry)| match entry {
        Entry::Stopped { reason: StopReason::OperatorAbsent, .. } => Some(at.since(last_act)),
        _ => None,
    });
    let stopped = stopped.expect("stopped");
    assert!((629_000..=631_000).contains(&stopped.as_millis()), "stopped after {stopped:?}");
    assert!(bench.units[0].output.is_empty());
}

/// SR-26: percussion asks at 3 min from the last act, also when it began late; an answer takes the question away.
#[test]
fn sr_26_percussion_asks_at_three_minutes_and_an_answer_is_an_answer() {
    for answers in [false, true] {
        let mut bench = by_hand_for(secs(119));
        let armed = bench.now.saturating_sub(ms(150));
        bench.pass(secs(115));
        bench.idle_answers();
        for _ in 0..2 {
            bench.tell(1, Report::Measured { channel: Channel(0), running: false, intensity: Some(raw(0)) });
        }
        bench.own_button(1, OwnButton::Started(raw(1_200)));
        assert_eq!(state(&bench, 3), StepState::Running);
        while bench.now.since(armed) < ms(181_000) {
            bench.pass(ms(500));
        }
        assert!(has(&bench, Cause::OperatorAbsent), "asked at three minutes");
        let asked = bench.entries().find_map(|(at, entry)| match entry {
            Entry::Alarm { alarm, raised: true } if alarm.cause == Cause::OperatorAbsent => {
                Some(at.since(armed))
            }
            _ => None,
        });
        assert!((179_000..=181_000).contains(&asked.unwrap().as_millis()), "{asked:?}");
        if answers {
            bench.act(Act::Present);
            assert!(!has(&bench, Cause::OperatorAbsent), "answered");
        }
        bench.pass(secs(32));
        let stopped = state(&bench, 3) == StepState::Ended(StopReason::OperatorAbsent);
        assert_eq!(stopped, !answers);
    }
}

// ---- force ---------------------------------------------------------------------------------------------------------------

fn pressed_plan(max: Option<u32>) -> Plan {
    let mut plan = three_steps();
    plan.steps[2].force_max = max.map(RawForce::from_raw);
    plan
}

/// Presses with `trace` (ms since the begin, force), and returns when the setpoint first left `speed` and when it was zero.
fn press(bench: &mut Bench, trace: &[(u64, u32)], until: u64) -> (Option<u64>, Option<u64>) {
    let (begun, from) = (bench.now, shown(bench).steps[2].setpoint);
    let (mut lowered, mut zero) = (None, None);
    let mut trace = trace.iter().peekable();
    for at in (0..until).step_by(10) {
        while let Some((_, force)) = trace.next_if(|(due, _)| *due <= at) {
            bench.tell(1, Report::Force(RawForce::from_raw(*force)));
        }
        bench.pass(begun.saturating_add(ms(at + 10)).since(bench.now));
        let now = shown(bench).steps[2].setpoint;
        if now.magnitude() < from.magnitude() {
            lowered.get_or_insert(at + 10);
        }
        if now.is_zero() {
            zero.get_or_insert(at + 10);
        }
    }
    (lowered, zero)
}

fn every_250_ms(force: u32, until: u64) -> Vec<(u64, u32)> {
    (0..until).step_by(250).map(|at| (at, force)).collect()
}

/// SR-20, H-05: above the step's level for 2 s lowers to the low set, 5 s stops, each within 200 ms; what falls below the
/// level in time, or has no level, does nothing.
#[test]
fn sr_20_pressed_too_hard_is_lowered_and_then_stopped() {
    let mut bench = gun_of(pressed_plan(Some(100)), 1_800);
    let (lowered, zero) = press(&mut bench, &every_250_ms(101, 7_000), 7_000);
    let (lowered, zero) = (lowered.unwrap(), zero.unwrap());
    assert!((2_000..=2_200).contains(&lowered) && (5_000..=5_200).contains(&zero), "{lowered}, {zero} ms");
    assert_eq!(state(&bench, 3), StepState::Ended(StopReason::LimitViolation));
    assert!(has(&bench, Cause::ForceHigh));
    let forces: Vec<_> = bench
        .entries()
        .filter_map(|(_, entry)| match entry {
            Entry::Force { force, max, to, .. } => Some((force.raw(), max.raw(), to.magnitude())),
            _ => None,
        })
        .collect();
    assert_eq!(forces, [(101, 100, 1_200), (101, 100, 0)]);

    // At the level, in bursts under two seconds, or without a level: nothing.
    let mut bursts = every_250_ms(200, 1_750);
    bursts.push((1_900, 100));
    bursts.extend(every_250_ms(200, 1_500).into_iter().map(|(at, force)| (at + 2_000, force)));
    bursts.push((3_900, 0));
    for (max, trace) in
        [(Some(100), every_250_ms(100, 7_000)), (Some(100), bursts), (None, every_250_ms(999, 7_000))]
    {
        let mut bench = gun_of(pressed_plan(max), 1_800);
        assert_eq!(press(&mut bench, &trace, 7_000), (None, None), "{max:?} {trace:?}");
        assert!(!has(&bench, Cause::ForceHigh));
    }
}

/// SR-20: no more reports do not make the press end; a rise waits until it ends; below the floor is a hold, and said.
#[test]
fn sr_20_no_rise_while_pressed_and_below_the_floor_is_a_hold() {
    let mut bench = gun_of(pressed_plan(Some(100)), 1_800);
    let (lowered, zero) = press(&mut bench, &[(0, 150)], 6_000);
    assert!(
        lowered.is_some_and(|at| at <= 2_200) && zero.is_some_and(|at| at <= 5_200),
        "{lowered:?} {zero:?}"
    );

    let mut bench = gun_of(pressed_plan(Some(100)), 1_800);
    press(&mut bench, &every_250_ms(150, 2_500), 2_500);
    assert!(matches!(bench.set(3, raw(1_500)), Verdict::Refused(Refusal::State { .. })));
    bench.tell(1, Report::Force(RawForce::from_raw(10)));
    assert!(matches!(bench.set(3, raw(1_500)), Verdict::Granted { .. }));

    let mut plan = pressed_plan(Some(100));
    if let IntensityRange::Speed { floor, .. } = &mut plan.devices[1].capability.intensity {
        *floor = RawSpeed::from_raw(1_300);
    }
    let mut bench = gun_of(plan, 1_800);
    press(&mut bench, &every_250_ms(150, 2_500), 2_500);
    assert_eq!(state(&bench, 3), StepState::Held);
    let held = |entry: &Entry| matches!(entry, Entry::Held { reason: StopReason::BelowDeviceFloor, .. });
    assert!(bench.entries().any(|(_, entry)| held(entry)));
}

// ---- own buttons -----------------------------------------------------------------------------------------------------------

/// The gun armed, its own button allowed.
fn by_hand() -> Bench {
    by_hand_for(secs(20))
}

fn by_hand_for(duration: Duration) -> Bench {
    let mut plan = three_steps();
    plan.steps[2].start_at_device = true;
    plan.steps[2].duration = duration;
    let mut bench = Bench::ready(plan);
    bench.arm(3);
    bench.pass(ms(100));
    bench
}

fn allowed(bench: &Bench) -> Option<Intensity> {
    bench.said.iter().rev().find_map(|said| match &said.output {
        Output::Drive { command, .. } => match command.get() {
            Command::AllowStart { most, .. } => Some(most.intensity()),
            _ => None,
        },
        _ => None,
    })
}

/// Design 5, H-05: an armed step that says so may be started and set at the gun, up to its limit, once that is durable; its
/// dose is booked at the limit, as the step's own, and it ends at its time.
#[test]
fn an_armed_step_may_be_started_at_the_gun_up_to_its_limit() {
    let mut bench = by_hand();
    assert_eq!(allowed(&bench), Some(raw(2_400)));
    let intent = |entry: &Entry| matches!(entry, Entry::Intent { step: 3, .. });
    assert!(bench.entries().any(|(_, entry)| intent(entry)), "recorded first");
    bench.idle_answers();
    bench.own_button(1, OwnButton::Started(raw(1_200)));
    assert_eq!((state(&bench, 3), shown(&bench).steps[2].setpoint), (StepState::Running, raw(1_200)));
    assert!(shown(&bench).alarms.is_empty());
    bench.pass(secs(2));
    bench.own_button(1, OwnButton::Changed(raw(2_400)));
    assert_eq!(shown(&bench).steps[2].setpoint, raw(2_400));
    bench.pass(secs(2));
    // Less from here is less than what it gives, and from then on the screen commands.
    bench.act(Act::Set { step: 3, intensity: raw(2_000), reason: None });
    bench.pass(ms(50));
    assert_eq!(bench.units[1].output[&0].0.intensity(), raw(2_000));
    bench.own_button(1, OwnButton::Changed(raw(2_300)));
    assert_eq!(state(&bench, 3), StepState::Ended(StopReason::LimitViolation), "the screen had taken over");

    let mut bench = by_hand();
    bench.own_button(1, OwnButton::Started(raw(2_400)));
    assert_eq!(state(&bench, 3), StepState::Running, "at its limit");

    let mut bench = by_hand();
    bench.own_button(1, OwnButton::Started(raw(1_200)));
    bench.own_button(1, OwnButton::Changed(raw(2_401)));
    assert_eq!(state(&bench, 3), StepState::Ended(StopReason::LimitViolation), "above its limit");

    let mut bench = by_hand();
    bench.own_button(1, OwnButton::Started(raw(1_200)));
    bench.pass(secs(25));
    assert_eq!(state(&bench, 3), StepState::Ended(StopReason::Completed));
    let dose: Vec<_> = bench
        .entries()
        .filter_map(|(_, entry)| match entry {
            Entry::Dose(dose) => Some(dose.upper.intensity()),
            _ => None,
        })
        .collect();
    assert!(
        !dose.is_empty() && dose.iter().all(|upper| *upper == raw(2_400)),
        "the limit is booked: {dose:?}"
    );
    bench.close();
    check_log(&bench);
    crate::support::laws::law_7(&bench);
}

/// SR-06: the screen's first rise keeps its distance from what a hand has just set, as from any other change.
#[test]
fn sr_06_a_rise_keeps_its_distance_from_what_a_hand_set() {
    for button in
        [OwnButton::Started(raw(1_200)), OwnButton::Changed(raw(1_100)), OwnButton::Lowered(raw(1_100))]
    {
        let mut bench = by_hand();
        if !matches!(button, OwnButton::Started(_)) {
            bench.own_button(1, OwnButton::Started(raw(1_200)));
            bench.pass(secs(1));
        }
        bench.own_button(1, button);
        let from = shown(&bench).steps[2].setpoint;
        bench.act(Act::Set {
            step: 3,
            intensity: raw(2_000),
            reason: Some("asked by the client".to_owned()),
        });
        bench.pass(ms(95));
        assert_eq!(shown(&bench).steps[2].setpoint, from, "{button:?}");
        bench.pass(ms(35));
        assert!(shown(&bench).steps[2].setpoint.magnitude() > from.magnitude(), "{button:?}");
    }
}

/// Design 5: a gun lowered to the setpoint itself, in the middle of a rise: the rest of it is given up and no more is asked.
#[test]
fn a_gun_lowered_to_its_setpoint_gives_up_the_rest_of_its_rise() {
    let mut bench = gun_of(three_steps(), 2_000);
    bench.act(Act::Set { step: 3, intensity: raw(1_200), reason: None });
    bench.act(Act::Set { step: 3, intensity: raw(2_000), reason: Some("asked by the client".to_owned()) });
    bench.pass(ms(350));
    let step = |bench: &Bench| shown(bench).steps[2].clone();
    let at = step(&bench).setpoint;
    assert!(at.magnitude() > 1_200 && step(&bench).asked == raw(2_000), "in mid-rise: {at:?}");
    bench.own_button(1, OwnButton::Lowered(at));
    bench.pass(secs(2));
    assert_eq!((step(&bench).asked, step(&bench).setpoint), (at, at));
}

/// Design 5: without the word of the plan, before the record has it, above the limit, or while a rise is forbidden, a start
/// at the gun is stopped, counted and an alarm.
#[test]
fn any_other_start_at_the_gun_is_stopped_and_counted() {
    let unasked = |bench: &mut Bench, speed: u16, name: &str, cause: Cause| {
        bench.own_button(1, OwnButton::Started(raw(speed)));
        bench.pass(ms(50));
        assert!(bench.units[1].output.is_empty(), "{name}");
        assert!(has(bench, cause), "{name}");
        bench.pass(secs(3));
        assert!(bench.entries().any(|(_, entry)| matches!(entry, Entry::Dose(_))), "{name}: counted");
    };
    let mut bench = Bench::ready(three_steps());
    bench.arm(3);
    unasked(&mut bench, 1_200, "the plan does not say so", Cause::StartedAtDevice);
    let mut bench = Bench::ready(three_steps());
    unasked(&mut bench, 1_200, "not armed", Cause::StartedAtDevice);
    let mut plan = three_steps();
    plan.steps[2].start_at_device = true;
    let mut bench = Bench::ready(plan);
    bench.disk_dead = true;
    bench.arm(3);
    assert_eq!(allowed(&bench), None, "not on record");
    unasked(&mut bench, 1_200, "not on record", Cause::StartedAtDevice);
    let mut bench = by_hand();
    bench.act(Act::OperatorLimit { step: 3, limit: Some(raw(1_100)) });
    unasked(&mut bench, 1_200, "above a limit that came later", Cause::StartedAtDevice);
    let mut bench = by_hand();
    bench.act(Act::Comfort { step: 1, score: Discomfort::new(7).unwrap() });
    bench.input(Input::ClockSane(false));
    unasked(&mut bench, 1_200, "an interlock is open", Cause::StartedAtDevice);
    // An intent that led to no start is void.
    let mut bench = by_hand();
    bench.act(Act::StopStep { step: 3 });
    assert!(bench.entries().any(|(_, entry)| matches!(entry, Entry::IntentVoid { .. })));
}

/// Design 5: lowered at the gun is the new setpoint and is never raised back; raised is a stop and a high alarm.
#[test]
fn lowered_at_the_gun_stays_and_raised_is_a_stop() {
    let mut bench = gun_of(three_steps(), 1_800);
    bench.own_button(1, OwnButton::Lowered(raw(1_400)));
    bench.pass(secs(3));
    assert_eq!(bench.units[1].output[&0].0.intensity(), raw(1_400));
    assert_eq!(shown(&bench).steps[2].asked, raw(1_400));
    bench.own_button(1, OwnButton::Raised(raw(2_000)));
    bench.pass(ms(50));
    assert!(bench.units[1].output.is_empty());
    assert_eq!(state(&bench, 3), StepState::Ended(StopReason::LimitViolation));
    assert!(has(&bench, Cause::RaisedAtDevice));
}

// ---- lockout -------------------------------------------------------------------------------------------------------------

/// Starts TENS again and lets a pad come off.
fn lead_off_again(bench: &mut Bench) {
    bench.arm(1);
    bench.set(1, milliamps(2));
    bench.pass(secs(1));
    bench.lead_off(0);
    bench.pass(ms(100));
}

/// SR-37: the third alert-stop-start for the same cause within ten minutes locks the unit for ten more, with the reason in
/// words and on record; other units are free; nobody lifts it.
#[test]
fn sr_37_three_stops_for_one_cause_lock_the_unit() {
    let mut bench = Bench::ready(three_steps());
    for _ in 0..2 {
        lead_off_again(&mut bench);
        bench.act(Act::AcknowledgeAlarms);
        bench.pass(secs(60));
    }
    assert!(!has(&bench, Cause::LockedOut), "twice is not three times");
    lead_off_again(&mut bench);
    let locked = bench.now;
    assert!(has(&bench, Cause::LockedOut));
    let entry = |entry: &Entry| matches!(entry, Entry::LockedOut { device: STIM, cause: Cause::LeadOff, left } if *left == secs(600));
    assert!(bench.entries().any(|(_, it)| entry(it)));
    for act in [Act::AcknowledgeAlarms, Act::Present, Act::ReadBack { client: bench.client() }] {
        bench.act(act);
    }
    bench.idle_answers();
    let why = refused(&mut bench, Act::Arm { step: 1 });
    assert!(matches!(why, Refusal::LockedOut { device: STIM, cause: Cause::LeadOff, .. }), "{why:?}");
    let words = why.to_string();
    assert!(words.contains("an electrode lost contact") && words.contains("10 min"), "{words}");
    assert!(has(&bench, Cause::LockedOut), "the alarm stays while it is true");
    bench.idle_answers();
    bench.arm(3);
    bench.act(Act::StopStep { step: 3 });
    while bench.now.since(locked) < ms(599_000) {
        bench.pass(secs(1));
    }
    bench.idle_answers();
    assert!(matches!(refused(&mut bench, Act::Arm { step: 1 }), Refusal::LockedOut { .. }));
    bench.pass(secs(2));
    bench.arm(1);
    bench.act(Act::AcknowledgeAlarms);
    assert!(!has(&bench, Cause::LockedOut));
}

/// SR-37: other causes, a stop by the gun's own button, a person's stop and what lies more than ten minutes apart lock
/// nothing; a lock of an earlier session holds in this one.
#[test]
fn sr_37_only_the_same_cause_within_ten_minutes_counts() {
    let mut bench = Bench::ready(three_steps());
    lead_off_again(&mut bench);
    bench.pass(secs(290));
    lead_off_again(&mut bench);
    bench.pass(secs(400));
    lead_off_again(&mut bench);
    assert!(!has(&bench, Cause::LockedOut), "the first is more than ten minutes ago");
    bench.arm(1);
    bench.tell(0, Report::LeaseEnded);
    bench.pass(ms(100));
    assert!(!has(&bench, Cause::LockedOut), "another cause");
    let mut bench = Bench::ready(three_steps());
    for _ in 0..5 {
        bench.arm(3);
        bench.set(3, raw(1_000));
        bench.pass(ms(500));
        bench.own_button(1, OwnButton::Stopped);
        bench.pass(ms(2_000));
    }
    for _ in 0..5 {
        bench.arm(1);
        bench.act(Act::StopStep { step: 1 });
        bench.pass(ms(100));
    }
    assert!(!has(&bench, Cause::LockedOut), "people's own stops");
    let mut bench = Bench::ready(three_steps());
    bench.input(Input::LockedOut { device: GUN, cause: Cause::LinkLost, left: secs(120) });
    bench.idle_answers();
    assert!(matches!(refused(&mut bench, Act::Arm { step: 3 }), Refusal::LockedOut { device: GUN, .. }));
    bench.input(Input::LockedOut { device: GUN, cause: Cause::LinkLost, left: secs(20) });
    bench.pass(secs(100));
    bench.idle_answers();
    assert!(
        matches!(refused(&mut bench, Act::Arm { step: 3 }), Refusal::LockedOut { .. }),
        "none shortens another"
    );
    bench.pass(secs(21));
    bench.arm(3);
}

/// SR-37: ten minutes are ten minutes, in the count and in the lock, to the microsecond.
#[test]
fn sr_37_ten_minutes_of_a_lock_are_exact() {
    let third_after = |span: Duration| {
        let mut bench = Bench::ready(three_steps());
        bench.arm(1);
        bench.set(1, milliamps(2));
        bench.pass(secs(1));
        let first = bench.now;
        bench.lead_off(0);
        bench.pass(secs(500));
        lead_off_again(&mut bench);
        bench.pass(secs(80));
        bench.arm(1);
        bench.set(1, milliamps(2));
        bench.pass(span - bench.now.since(first));
        bench.lead_off(0);
        bench
    };
    assert!(has(&third_after(secs(600) - Duration::from_micros(1)), Cause::LockedOut));
    let mut bench = third_after(secs(600));
    assert!(!has(&bench, Cause::LockedOut), "the first of three is ten minutes ago");
    bench.pass(secs(1));
    lead_off_again(&mut bench);
    let locked = bench.entries().find(|(_, entry)| matches!(entry, Entry::LockedOut { .. })).unwrap().0;
    let mut arms_at = |left: Duration| {
        bench.pass(secs(600) - left - bench.now.since(locked));
        bench.idle_answers();
        let request = bench.act(Act::Arm { step: 1 });
        match bench.verdict(request) {
            Some(Verdict::Granted { .. }) => true,
            Some(Verdict::Refused(Refusal::LockedOut { .. })) => false,
            other => panic!("{other:?}"),
        }
    };
    assert!(!arms_at(Duration::from_micros(1)));
    assert!(arms_at(Duration::ZERO));
}

// ---- alarms --------------------------------------------------------------------------------------------------------------

/// SR-37: nothing is armed before the alarm was tested; a player that fails is an alarm, and lets nothing be armed, but
/// stops nothing.
#[test]
fn sr_37_no_arming_before_the_alarm_was_tested() {
    for (output, arms) in [
        (AlarmOutput::Untested, false),
        (AlarmOutput::Failing, false),
        (AlarmOutput::Heard, true),
        (AlarmOutput::Logged, true),
    ] {
        let mut bench = Bench::ready(three_steps());
        bench.input(Input::AlarmOutput(output));
        bench.idle_answers();
        let request = bench.act(Act::Arm { step: 1 });
        let verdict = bench.verdict(request).unwrap();
        if arms {
            assert!(matches!(verdict, Verdict::Granted { .. }), "{output:?}");
        } else {
            assert_eq!(verdict, Verdict::Refused(Refusal::Interlock(Interlock::AlarmTested)), "{output:?}");
        }
    }
    let mut bench = tens();
    bench.input(Input::AlarmOutput(AlarmOutput::Failing));
    bench.pass(secs(2));
    assert_eq!(bench.units[0].output.len(), 1, "what runs goes on");
    assert!(has(&bench, Cause::Soundless));
    bench.act(Act::AcknowledgeAlarms);
    assert!(has(&bench, Cause::Soundless), "still true");
    bench.input(Input::AlarmOutput(AlarmOutput::Heard));
    bench.act(Act::AcknowledgeAlarms);
    assert!(!has(&bench, Cause::Soundless));
}

/// SR-36: seeing the alarms is on record with who and which; it silences for at most 120 s and only where the output is
/// proven to be at zero; it clears nothing that is still true, and what comes again sounds again.
#[test]
fn sr_36_an_alarm_is_seen_and_silent_but_never_cleared_while_true() {
    let mut bench = tens();
    bench.units[0].silent = true;
    bench.units[0].deaf = true;
    bench.pass(ms(2_500));
    assert!(has(&bench, Cause::LinkLost) && has(&bench, Cause::StopUnconfirmed));
    assert_eq!(shown(&bench).sounding.priority, Some(Priority::High));
    bench.act(Act::AcknowledgeAlarms);
    let seen = bench.entries().find_map(|(_, entry)| match entry {
        Entry::AlarmsSeen { by, alarms, quiet } => Some((by.clone(), alarms.len(), *quiet)),
        _ => None,
    });
    assert_eq!(
        seen,
        Some((actor(), shown(&bench).alarms.len(), Duration::ZERO)),
        "who, which, and that it sounds on"
    );
    assert_eq!(shown(&bench).sounding.priority, Some(Priority::High), "zero is not proven");

    let mut bench = Bench::ready(three_steps());
    bench.input(Input::LockedOut { device: STIM, cause: Cause::LinkLost, left: secs(600) });
    assert_eq!(shown(&bench).sounding.priority, Some(Priority::Medium));
    bench.act(Act::AcknowledgeAlarms);
    let quiet = |entry: &Entry| matches!(entry, Entry::AlarmsSeen { quiet, .. } if *quiet == secs(120));
    assert!(bench.entries().any(|(_, entry)| quiet(entry)));
    assert_eq!(shown(&bench).sounding.priority, None);
    assert_eq!(shown(&bench).sounding.paused, Some(secs(120)), "and it is shown");
    bench.pass(ms(119_900));
    assert!(has(&bench, Cause::LockedOut));
    assert_eq!(shown(&bench).sounding.priority, None);
    bench.pass(ms(100));
    assert_eq!(shown(&bench).sounding.priority, Some(Priority::Medium), "120 s, and not longer");

    let states = [AlarmOutput::Untested, AlarmOutput::Heard, AlarmOutput::Logged, AlarmOutput::Failing];
    assert_eq!(
        states.map(AlarmOutput::word),
        ["untested", "heard", "log", "failing"],
        "as the record says it"
    );

    // A pause ends when an output is no more at proven zero.
    let mut bench = Bench::ready(three_steps());
    bench.input(Input::AlarmOutput(AlarmOutput::Failing));
    bench.act(Act::AcknowledgeAlarms);
    assert_eq!(shown(&bench).sounding.priority, None);
    bench.input(Input::AlarmOutput(AlarmOutput::Heard));
    bench.arm(1);
    assert_eq!(shown(&bench).sounding.priority, Some(Priority::Medium), "sounds in the middle of its pause");

    // The same thing again is heard again, in the middle of the pause.
    let mut bench = Bench::ready(three_steps());
    lead_off_again(&mut bench);
    bench.units[0].down = true;
    bench.act(Act::AcknowledgeAlarms);
    let count = shown(&bench).sounding.count;
    bench.link(0, true);
    bench.pass(ms(50));
    lead_off_again(&mut bench);
    assert!(shown(&bench).sounding.count > count);
    assert_eq!(shown(&bench).sounding.priority, Some(Priority::Medium));
}

/// SR-36: alarms that a person need not see leave by themselves when their cause is gone, the others never.
#[test]
fn sr_36_only_unlatched_alarms_leave_by_themselves() {
    let mut bench = Bench::ready(three_steps());
    bench.tell(0, Report::Battery(20));
    assert!(has(&bench, Cause::Battery));
    bench.tell(0, Report::Battery(24));
    assert!(has(&bench, Cause::Battery));
    bench.tell(0, Report::Battery(25));
    assert!(!has(&bench, Cause::Battery));
    let mut bench = gun_of(three_steps(), 1_200);
    bench.own_button(1, OwnButton::Stopped);
    bench.pass(secs(3));
    assert!(has(&bench, Cause::StoppedAtDevice));
    bench.arm(3);
    assert!(!has(&bench, Cause::StoppedAtDevice));
    let mut bench = tens();
    bench.lead_off(0);
    bench.pass(secs(1_000));
    assert!(has(&bench, Cause::LeadOff));
}

/// SR-36: every cause of an alarm is raised by what it stands for, once, with its entry.
#[test]
fn sr_36_every_cause_is_raised_by_what_it_stands_for() {
    type Happens = fn() -> Bench;
    let ended = |bench: &mut Bench, cause| {
        let epoch = doseward::model::command::Epoch(1);
        bench.tell(0, Report::EpochEnded { epoch, cause });
    };
    let epoch_ends: fn(&mut Bench) = |bench| {
        let epoch = doseward::model::command::Epoch(1);
        bench.tell(0, Report::EpochEnded { epoch, cause: EpochEnd::Result(3) });
    };
    let mut bench = tens();
    epoch_ends(&mut bench);
    assert!(has(&bench, Cause::DeviceFault));
    let mut bench = tens();
    ended(&mut bench, EpochEnd::LeadOff(Channel(0)));
    assert!(has(&bench, Cause::LeadOff));
    let cases: [(Cause, Happens); 18] = [
        (Cause::StopUnconfirmed, || {
            let mut bench = tens();
            bench.units[0].deaf = true;
            bench.act(Act::StopStep { step: 1 });
            bench.pass(ms(1_050));
            bench
        }),
        (Cause::Mismatch, || {
            let mut bench = gun_of(three_steps(), 1_500);
            bench.pass(secs(1));
            bench.tell(
                1,
                Report::Measured { channel: Channel(0), running: true, intensity: Some(raw(2_000)) },
            );
            bench.now = bench.now.saturating_add(ms(260));
            bench.input(Input::Tick);
            bench
        }),
        (Cause::LinkLost, || {
            let mut bench = tens();
            bench.link(0, false);
            bench
        }),
        (Cause::StartedAtDevice, || {
            let mut bench = Bench::ready(three_steps());
            bench.own_button(1, OwnButton::Started(raw(1_200)));
            bench
        }),
        (Cause::RaisedAtDevice, || {
            let mut bench = gun_of(three_steps(), 1_500);
            bench.own_button(1, OwnButton::Raised(raw(2_600)));
            bench
        }),
        (Cause::StoppedAtDevice, || {
            let mut bench = gun_of(three_steps(), 1_500);
            bench.own_button(1, OwnButton::Stopped);
            bench
        }),
        (Cause::OperatorGone, || {
            let mut bench = tens();
            bench.input(Input::Unseen);
            bench
        }),
        (Cause::OperatorAbsent, || {
            let mut bench = tens();
            bench.pass(secs(600));
            bench
        }),
        (Cause::RecordFailing, || {
            let mut bench = tens();
            bench.input(Input::Record(RecordHealth::Failing));
            bench
        }),
        (Cause::Uncertain, || {
            let mut bench = tens();
            bench.link(0, false);
            bench
        }),
        (Cause::Defect, || {
            let mut bench = tens();
            bench.tell(0, Report::Clamped { asked: milliamps(9), sent: milliamps(1) });
            bench
        }),
        (Cause::Battery, || {
            let mut bench = Bench::ready(three_steps());
            bench.tell(0, Report::Battery(24));
            bench
        }),
        (Cause::GuardGone, || {
            let mut bench = tens();
            bench.input(Input::Guard { present: false });
            bench
        }),
        (Cause::GuardBlind, || {
            let mut bench = tens();
            bench.input(Input::GuardHolds { device: STIM, holds: false });
            bench
        }),
        (Cause::Suspended, || {
            let mut bench = tens();
            bench.input(Input::Suspended);
            bench
        }),
        (Cause::ForceHigh, || {
            let mut bench = gun_of(pressed_plan(Some(100)), 1_800);
            press(&mut bench, &every_250_ms(101, 2_500), 2_500);
            bench
        }),
        (Cause::LockedOut, || {
            let mut bench = Bench::ready(three_steps());
            (0..3).for_each(|_| lead_off_again(&mut bench));
            bench
        }),
        (Cause::Soundless, || {
            let mut bench = Bench::ready(three_steps());
            bench.input(Input::AlarmOutput(AlarmOutput::Failing));
            bench
        }),
    ];
    let mut raised: BTreeSet<Cause> = [Cause::DeviceFault, Cause::LeadOff].into();
    for (cause, happens) in cases {
        let bench = happens();
        assert!(has(&bench, cause), "{cause:?}: {:?}", shown(&bench).alarms);
        let entries = bench.entries().filter(
            |(_, entry)| matches!(entry, Entry::Alarm { alarm, raised: true } if alarm.cause == cause),
        );
        assert_eq!(entries.count(), 1, "{cause:?} is on record once");
        raised.insert(cause);
    }
    assert!(Cause::ALL.iter().all(|cause| raised.contains(cause)), "{raised:?}");
}

/// H-13: alarms stand highest first, and the sound is that of the highest that is not silent.
#[test]
fn the_most_urgent_alarm_stands_and_sounds_first() {
    let mut bench = tens();
    bench.tell(0, Report::Battery(20));
    assert_eq!(shown(&bench).sounding.priority, Some(Priority::Low));
    bench.tell(0, Report::Clamped { asked: milliamps(9), sent: milliamps(1) });
    let alarms = shown(&bench).alarms;
    assert_eq!(alarms.first().map(|alarm| alarm.cause), Some(Cause::Defect));
    assert_eq!(shown(&bench).sounding.priority, Some(Priority::High));
    assert!(bench.now > Mono::ORIGIN);
}

/// Two bouts of one gun on two areas.
fn two_bouts() -> Plan {
    let mut plan = three_steps();
    let mut other = plan.steps[2].clone();
    (other.number, other.place) = (4, Place { area: AreaCode::new("thigh"), side: Side::Left });
    plan.steps.push(other);
    plan
}

/// A gun's bout, done and proven at zero.
fn bout(bench: &mut Bench, step: u8) {
    bench.arm(step);
    bench.set(step, raw(1_200));
    bench.pass(secs(3));
    bench.act(Act::Finish { step });
    bench.pass(secs(3));
}

fn doses(bench: &Bench) -> Vec<Dose> {
    let entries = bench.entries().filter_map(|(_, entry)| match entry {
        Entry::Dose(dose) => Some(dose.clone()),
        _ => None,
    });
    entries.collect()
}

/// Reports of a gun that runs, while its driver is busy stopping it.
fn says_it_runs(bench: &mut Bench, span: Duration) {
    for _ in 0..span.as_millis() / 100 {
        bench.tell(1, Report::Alive);
        bench.tell(1, Report::Measured { channel: Channel(0), running: true, intensity: Some(raw(1_800)) });
        bench.pass(ms(100));
    }
}

/// SR-12, SR-43: what is started or raised at a gun is booked on the area that it is used on, not on the last of the plan.
#[test]
fn sr_12_what_a_hand_does_is_booked_on_the_area_in_use() {
    for raised in [false, true] {
        let mut bench = Bench::ready(two_bouts());
        bout(&mut bench, 4);
        bench.arm(3);
        if raised {
            bench.set(3, raw(1_200));
            bench.pass(secs(3));
        }
        let before = doses(&bench).len();
        bench.own_button(
            1,
            if raised { OwnButton::Raised(raw(2_300)) } else { OwnButton::Started(raw(1_500)) },
        );
        bench.pass(secs(3));
        let after = doses(&bench).split_off(before);
        assert!(after.iter().any(|dose| dose.upper.intensity() == raw(3_616)), "{after:?}");
        assert!(after.iter().all(|dose| dose.step == 3), "raised {raised}: {after:?}");
    }
}

/// SR-43: a gun that was started while its link was away runs when it is back; its driver is busy with the stop and tells
/// only that it runs. It counts from where it was last seen at zero.
#[test]
fn sr_43_a_gun_found_running_when_its_link_comes_back_is_counted() {
    let mut bench = Bench::ready(three_steps());
    bout(&mut bench, 3);
    let (before, zero) = (doses(&bench).len(), bench.now);
    bench.link(1, false);
    bench.pass(secs(20));
    bench.units[1].deaf = true;
    bench.link(1, true);
    bench.pass(ms(200));
    says_it_runs(&mut bench, ms(800));
    assert!(has(&bench, Cause::Mismatch));
    let generation = bench.governor.generation(GUN);
    bench.tell(1, Report::Stop { generation, progress: StopProgress::Confirmed, after: ms(1_000) });
    bench.pass(secs(3));
    let found = doses(&bench).split_off(before);
    let counted: u64 = found.iter().map(|dose| dose.on_us.1).sum();
    assert!(found.first().is_some_and(|dose| dose.from <= zero), "{found:?}");
    assert!((20_000_000..26_000_000).contains(&counted), "{counted} us of 21 s and a tail");
}

/// SR-24: a person has stated that a gun stands still; the gun itself goes on saying that it runs.
#[test]
fn sr_24_a_gun_that_says_it_runs_after_it_was_stated_stopped_is_stopped_and_counted() {
    let mut bench = gun_of(three_steps(), 1_800);
    bench.units[1].deaf = true;
    bench.act(Act::StopStep { step: 3 });
    says_it_runs(&mut bench, secs(3));
    assert!(!has(&bench, Cause::Mismatch), "what it gives while it is being stopped is booked");
    bench.tell(1, Report::Measured { channel: Channel(0), running: true, intensity: Some(raw(1_600)) });
    assert_eq!(shown(&bench).steps[2].delivered, Some(raw(1_600)), "and shown");
    bench.act(Act::StatedStopped { device: GUN });
    let stated = bench.now;
    assert!(!has(&bench, Cause::StopUnconfirmed), "a person answers for it");
    says_it_runs(&mut bench, secs(20));
    assert!(has(&bench, Cause::Mismatch) && has(&bench, Cause::StopUnconfirmed));
    assert_eq!(shown(&bench).units[1].stop, StopView::Unconfirmed);
    bench.units[1].deaf = false;
    let generation = bench.governor.generation(GUN);
    bench.tell(1, Report::Stop { generation, progress: StopProgress::Confirmed, after: ms(1_000) });
    bench.pass(secs(3));
    let after = doses(&bench).into_iter().filter(|dose| dose.until > stated);
    let counted: u64 =
        after.map(|dose| dose.until.since(dose.from.max(stated)).as_micros()).sum::<u128>() as u64;
    assert!(counted >= 19_500_000, "{counted} us of 20 s");
}

/// H-11: what was proven over is not booked a second time when the gun is started by hand right after.
#[test]
fn h_11_a_start_at_the_gun_right_after_a_proof_books_no_bout_twice() {
    let mut plan = three_steps();
    plan.steps[2].duration = secs(100);
    let mut bench = gun_of(plan, 1_200);
    bench.pass(secs(40));
    bench.act(Act::StopStep { step: 3 });
    bench.pass(ms(300));
    assert!(matches!(shown(&bench).units[1].stop, StopView::Confirmed(_)));
    let proof = |(_, entry): &(Mono, &Entry)| {
        matches!(entry, Entry::StopProgress { progress: StopProgress::Confirmed, .. })
    };
    let proven = bench.entries().filter(proof).last().expect("a proof").0;
    let before: u64 = doses(&bench).iter().map(|dose| dose.on_us.1).sum();
    bench.own_button(1, OwnButton::Started(raw(1_200)));
    bench.pass(secs(3));
    let full = doses(&bench).into_iter().find(|dose| dose.upper.intensity() == raw(3_616));
    assert!(full.is_some_and(|dose| dose.from <= proven), "it may have begun in the tail of the bout before");
    let after: u64 = doses(&bench).iter().map(|dose| dose.on_us.1).sum();
    assert!((300_000..5_000_000).contains(&(after - before)), "{before} us, then {after} us");
}

/// SR-21: "too much" while a contraction rises, or where its rise was levelled off, is a quarter less of what is felt, and
/// what was on its way does not come.
#[test]
fn sr_21_too_much_in_mid_ramp_lowers_and_does_not_rise() {
    for levelled in [false, true] {
        let mut bench = Bench::ready(three_steps());
        bench.arm(2);
        bench.set(2, milliamps(20));
        let step = |bench: &Bench| shown(bench).steps[1].clone();
        let mut waited = 0;
        while !(step(&bench).phase == Phase::RampUp
            && step(&bench).envelope.magnitude() >= 15_000
            && step(&bench).setpoint.magnitude() >= 6_000)
        {
            bench.pass(ms(10));
            waited += 1;
            assert!(waited < 4_000, "{:?}", step(&bench));
        }
        if levelled {
            bench.input(Input::ClockSane(false));
            bench.pass(ms(500));
            assert!(step(&bench).setpoint.magnitude() < 12_000);
            assert_eq!(step(&bench).phase, Phase::On, "the rest of the ON time is level");
        }
        let felt = step(&bench).setpoint.magnitude();
        bench.act(Act::TooMuch { step: 2 });
        for _ in 0..600 {
            let given = step(&bench).setpoint.magnitude();
            assert!(given * 4 <= felt * 3, "levelled {levelled}: felt {felt}, then {given}");
            bench.pass(ms(50));
        }
    }
}

/// SR-21: the area hurts, not the step: no other step on it rises for 30 s.
#[test]
fn sr_21_after_discomfort_no_other_step_on_the_area_rises() {
    let mut plan = three_steps();
    let mut other = plan.steps[2].clone();
    other.number = 4;
    plan.steps.push(other);
    let mut bench = Bench::ready(plan);
    bench.arm(3);
    bench.set(3, raw(1_800));
    bench.pass(secs(3));
    let free = bench.now.saturating_add(secs(30));
    bench.act(Act::TooMuch { step: 3 });
    bench.act(Act::StopStep { step: 3 });
    bench.pass(secs(2));
    bench.arm(4);
    let left = Duration::from_micros(1);
    bench.pass((free.since(bench.now)).saturating_sub(left));
    let request = bench.act(Act::Set { step: 4, intensity: raw(1_800), reason: None });
    assert_eq!(bench.verdict(request), Some(Verdict::Refused(Refusal::Locked { left })));
    bench.pass(left);
    assert!(matches!(bench.set(4, raw(1_800)), Verdict::Granted { .. }));
}
