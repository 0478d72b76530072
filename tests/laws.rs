//! The governor's laws as property tests, with the coverage that each run reached.
//!
//! Laws 11 and 12 are about frames and are tested with the drivers.

use std::time::Duration;

use doseward::governor::{Act, Entry, Input, Output, StepState, Verdict};
use doseward::model::command::Command;
use doseward::model::plan::Plan;
use doseward::model::session::Discomfort;
use doseward::units::{Mono, RawForce};
use proptest::prelude::*;

use crate::support::bench::Bench;
use crate::support::laws::{Reached, check_log, law_7, most};
use crate::support::plans::{budgeted, microamps, milliamps, one_step, raw, three_steps, two_modes};
use crate::support::walks::{Op, act, anything, cases, rising, walks};

/// A run of random commands on the plan of its kind: three modalities side by side, or two modes of one output and levels.
fn walk(bench: &mut Bench, ops: &[Op]) -> Reached {
    let plan = bench.governor.plan().clone();
    for op in ops {
        act(bench, op);
        for step in bench.governor.snapshot(bench.now).steps {
            let within = step.envelope.magnitude().max(step.setpoint.magnitude()) <= step.allowed.magnitude();
            assert!(
                within || step.state != StepState::Running,
                "what lowers a limit lowers what ran by it: {step:?}"
            );
        }
    }
    bench.close();
    assert_eq!(*bench.governor.plan(), plan, "SR-18: nothing that happens moves an area or changes a limit");
    let mut reached = check_log(bench);
    reached.add(&law_7(bench));
    reached
}

/// SR-05, SR-06, SR-07, SR-18, H-01, H-11: laws 1 to 8 in every run of 5 to 40 random commands, whatever happens.
#[test]
fn laws_1_to_8_sr_05_sr_06_sr_07_sr_18_hold_in_every_run() {
    let commands = || (any::<bool>(), any::<bool>(), proptest::collection::vec(anything(), 5..=40));
    let reached = walks(cases(), commands, |(modes, by_hand, ops)| {
        let (mut plan, spent) = budgeted();
        plan.steps[2].start_at_device = by_hand;
        plan.steps[2].force_max = Some(RawForce::from_raw(100));
        let mut bench = if modes { Bench::ready(two_modes()) } else { Bench::after(plan, spent) };
        walk(&mut bench, &ops)
    });
    println!("laws 1 to 8: {} runs of 5 to 40 random commands\n{reached}", cases());
    let least = u64::from(cases()) / 100;
    for what in Reached::EXPECTED {
        let count = reached.count(what);
        assert!(count >= least, "{what} was reached {count} times only\n{reached}");
    }
    if cases() >= 1_000_000 {
        let rare = reached.rarely_met(100);
        assert!(rare.is_empty(), "input in state, met less than 100 times: {rare:?}");
    }
}

/// Everything that time does has a deadline: called between two of them, the governor has nothing to say.
#[test]
fn nothing_is_due_before_the_deadline_in_any_run() {
    let reached = walks(
        cases().div_ceil(2),
        || proptest::collection::vec(anything(), 5..=25),
        |ops| {
            let mut bench = Bench::ready(three_steps());
            bench.punctual = true;
            walk(&mut bench, &ops)
        },
    );
    println!("deadlines: {} runs of 5 to 25 random commands", cases().div_ceil(2));
    assert!(cases() < 400 || reached.count("law 2: rises") > u64::from(cases()), "{reached}");
}

/// SR-06: each rise by itself, on a plan that has nothing else.
fn sr_06_rise(kind: &str, expected: &str, plan: fn() -> Plan) {
    let reached = walks(
        cases(),
        || proptest::collection::vec(rising(), 2..=8),
        |ops| {
            let mut bench = Bench::ready(plan());
            act(&mut bench, &Op::Start(1, 700));
            walk(&mut bench, &ops)
        },
    );
    let count = reached.count(expected);
    println!("SR-06 {kind}: {} runs of 3 to 9 random commands, {expected} {count}", cases());
    assert!(count >= u64::from(cases()), "{expected} {count}\n{reached}");
}

#[test]
fn sr_06_titration_rises_one_step_at_a_time_in_every_run() {
    sr_06_rise("titration", "rises by titration", || one_step(1));
}

#[test]
fn sr_06_a_program_ramp_keeps_its_slope_and_its_envelope_in_every_run() {
    sr_06_rise("program ramp", "rises by program ramp", || one_step(2));
}

#[test]
fn sr_06_a_gun_rises_by_its_profile_in_every_run() {
    sr_06_rise("percussion", "rises of a speed", || one_step(3));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Law 10: an allowed request is granted and reached within its ramp time.
    #[test]
    fn law_10_an_allowed_request_is_reached_within_its_ramp_time(step in 1u8..=3, permille in 1u32..=1_000) {
        let plan = three_steps();
        let planned = plan.steps[usize::from(step) - 1].clone();
        let mut bench = Bench::ready(plan.clone());
        bench.arm(step);
        let (goal, ramp) = if step == 3 {
            let speed = 1_000 + 1_400 * permille / 1_000;
            (raw(u16::try_from(speed).unwrap()), Duration::from_millis(u64::from(speed - 1_000) * 1_000 / 600))
        } else {
            let limit = (most(&plan, &planned) * 2.0) as u32;
            let halves = (limit * permille / 1_000).max(1);
            // 3.5 s of plateau carry 17 mA; more takes further contractions, which is not this law.
            let halves = if step == 2 { halves.min(30) } else { halves };
            (microamps(halves * 500), Duration::from_millis(u64::from(halves) * 100))
        };
        let verdict = bench.set(step, goal);
        prop_assert_eq!(verdict, Verdict::Granted { target: Some(goal) });
        bench.pass(ramp + Duration::from_millis(120));
        let view = &bench.governor.snapshot(bench.now).steps[usize::from(step) - 1];
        prop_assert_eq!(view.setpoint, goal, "after {:?}", ramp);
    }
}

/// Law 9, SR-33: with a dead disk, lowering and stop still drive in the same call, and rises do not.
#[test]
fn law_9_lowering_and_stop_never_wait_for_the_record() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(1);
    bench.set(1, milliamps(5));
    bench.pass(Duration::from_secs(2));
    bench.disk_dead = true;
    let before = bench.said.len();
    bench.act(Act::Set { step: 1, intensity: milliamps(3), reason: None });
    assert!(bench.said[before..].iter().any(|said| matches!(&said.output, Output::Drive { command, .. }
        if matches!(command.get(), Command::Set { setpoint, .. } if setpoint.intensity() == milliamps(3)))));
    let before = bench.said.len();
    bench.act(Act::Set { step: 1, intensity: milliamps(4), reason: None });
    bench.pass(Duration::from_millis(700));
    assert!(
        !bench.said[before..].iter().any(|said| matches!(&said.output, Output::Drive { .. })),
        "a rise left without its record"
    );
    assert!(bench.entries().any(|(_, entry)| matches!(entry, Entry::IntentVoid { .. })));
    let before = bench.said.len();
    bench.stop_all();
    assert!(matches!(bench.said[before].output, Output::Stop { .. }));
}

/// SR-44: an intent that becomes durable is judged again in the state of that moment.
#[test]
fn sr_44_an_intent_is_judged_again_when_it_becomes_durable() {
    type Meanwhile = fn(&mut Bench);
    let cases: [(&str, Meanwhile); 8] = [
        ("stop", |bench| bench.stop_all()),
        ("stop of the step", |bench| {
            bench.act(Act::StopStep { step: 1 });
        }),
        ("hold", |bench| {
            bench.act(Act::Hold { step: 1 });
        }),
        ("discomfort", |bench| {
            bench.act(Act::Comfort { step: 1, score: Discomfort::new(7).unwrap() });
        }),
        ("operator's limit", |bench| {
            bench.act(Act::OperatorLimit { step: 1, limit: Some(milliamps(2)) });
        }),
        ("lapse", |bench| drop(bench.input(Input::Unseen))),
        ("link", |bench| bench.link(0, false)),
        ("end of the epoch", |bench| bench.lead_off(0)),
    ];
    for delay in [0u64, 400, 499, 501, 5_000] {
        for (name, meanwhile) in cases {
            let mut bench = Bench::ready(three_steps());
            bench.arm(1);
            bench.set(1, milliamps(2));
            bench.pass(Duration::from_secs(1));
            bench.disk_delay = Duration::from_millis(delay);
            bench.act(Act::Set { step: 1, intensity: milliamps(10), reason: None });
            meanwhile(&mut bench);
            bench.pass(Duration::from_secs(6));
            let reached = bench.governor.snapshot(bench.now).steps[0].setpoint;
            assert!(reached.magnitude() <= 2_000, "{name} at {delay} ms: {reached}");
            check_log(&bench);
        }
    }
}

/// SR-03: a clinic may choose the operator's lease between 1 and 3 s.
#[test]
fn sr_03_the_lease_is_one_to_three_seconds() {
    for (asked, given) in [(0, 1_000), (1_000, 1_000), (1_200, 1_200), (3_000, 3_000), (60_000, 3_000)] {
        let settings = doseward::governor::Settings::with_lease(Duration::from_millis(asked));
        assert_eq!(settings.lease, Duration::from_millis(given));
    }
}

/// H-08, SR-03, SR-47: the lease runs from the issue time of what was painted; old, replayed and future echoes renew nothing.
#[test]
fn sr_03_sr_47_only_a_fresh_echo_keeps_the_lease() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(1);
    bench.set(1, milliamps(5));
    bench.pass(Duration::from_secs(1));
    bench.operator_here = false;
    let left = bench.now;
    bench.input(Input::Heartbeat { issued: left });
    let mut at_zero = None;
    for _ in 0..300 {
        bench.pass(Duration::from_millis(10));
        for issued in
            [left.saturating_sub(Duration::from_secs(2)), bench.now.saturating_add(Duration::from_secs(9))]
        {
            bench.input(Input::Heartbeat { issued });
        }
        if bench.units[0].output.is_empty() && at_zero.is_none() {
            at_zero = Some(bench.now.since(left));
        }
    }
    let at_zero = at_zero.expect("the output goes to zero");
    assert!(at_zero <= Duration::from_millis(2_250), "zero {at_zero:?} after the last echo");
    let lapse = bench.entries().find(|(_, entry)| matches!(entry, Entry::Held { .. }));
    let lapse = lapse.expect("a lapse holds").0.since(left);
    assert_eq!(lapse, Duration::from_secs(2), "to the microsecond");
    println!("lapse {lapse:?} after the last echo, zero {:?} after it", at_zero.saturating_sub(lapse));
    assert!(at_zero <= lapse + Duration::from_millis(250));
}

/// H-07, SR-45: a reset that names another generation, or comes before every unit has proven the stop, is refused.
#[test]
fn sr_45_reset_waits_for_the_proof_of_that_very_stop() {
    let mut bench = Bench::ready(three_steps());
    bench.units[1].deaf = true;
    bench.stop_all();
    let latched = bench.governor.snapshot(bench.now).latched.unwrap();
    bench.pass(Duration::from_millis(100));
    let early = bench.act(Act::Reset { generation: latched });
    assert!(matches!(bench.verdict(early), Some(Verdict::Refused(_))));
    bench.units[1].deaf = false;
    bench.stop_all();
    let newer = bench.governor.snapshot(bench.now).latched.unwrap();
    bench.pass(Duration::from_millis(100));
    let old = bench.act(Act::Reset { generation: latched });
    assert!(matches!(bench.verdict(old), Some(Verdict::Refused(_))));
    let right = bench.act(Act::Reset { generation: newer });
    assert!(matches!(bench.verdict(right), Some(Verdict::Granted { .. })));
    bench.pass(Duration::from_secs(1));
    assert!(bench.units.iter().all(|unit| unit.output.is_empty()), "a reset starts nothing");
}

/// SR-21: discomfort 7 lowers by a quarter at once, 9 stops; below the floor is a hold, never the floor.
#[test]
fn sr_21_discomfort_acts_at_once() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(3);
    bench.set(3, raw(1_200));
    bench.pass(Duration::from_secs(1));
    bench.act(Act::TooMuch { step: 3 });
    bench.pass(Duration::from_millis(20));
    assert!(bench.units[1].output.is_empty(), "raw 1200 less a quarter is below the floor of 1000");

    let mut bench = Bench::ready(three_steps());
    bench.arm(1);
    bench.set(1, milliamps(10));
    bench.pass(Duration::from_secs(3));
    bench.act(Act::Comfort { step: 1, score: Discomfort::new(7).unwrap() });
    assert_eq!(bench.governor.snapshot(bench.now).steps[0].setpoint, microamps(7_500));
    let locked = bench.set(1, milliamps(8));
    assert!(matches!(locked, Verdict::Refused(_)), "{locked:?}");
    bench.act(Act::Comfort { step: 1, score: Discomfort::new(9).unwrap() });
    bench.pass(Duration::from_millis(20));
    assert!(bench.units[0].output.is_empty());
}

/// H-01, SR-05: after every way to zero, the first output is one device step.
#[test]
fn sr_05_every_start_is_from_zero() {
    type ToZero = fn(&mut Bench);
    let ways: [(&str, ToZero); 4] = [
        ("hold", |bench| {
            bench.act(Act::Hold { step: 1 });
        }),
        ("stop", |bench| {
            bench.act(Act::StopStep { step: 1 });
        }),
        ("lead off", |bench| bench.lead_off(0)),
        ("link", |bench| {
            bench.link(0, false);
            bench.pass(Duration::from_secs(3));
            bench.link(0, true);
        }),
    ];
    for (name, to_zero) in ways {
        let mut bench = Bench::ready(three_steps());
        bench.arm(1);
        bench.set(1, milliamps(10));
        bench.pass(Duration::from_secs(3));
        to_zero(&mut bench);
        bench.pass(Duration::from_millis(200));
        bench.resolve_all();
        let since = bench.said.len();
        bench.idle_answers();
        let again = if name == "hold" { Act::Resume { step: 1 } } else { Act::Arm { step: 1 } };
        bench.act(again);
        bench.pass(Duration::from_millis(50));
        bench.set(1, milliamps(10));
        bench.pass(Duration::from_millis(500));
        let first = bench.said[since..].iter().find_map(|said| match &said.output {
            Output::Drive { command, .. } => match command.get() {
                Command::Set { setpoint, .. } => Some(setpoint.intensity()),
                _ => None,
            },
            _ => None,
        });
        assert_eq!(first, Some(microamps(500)), "{name}");
    }
}

/// SR-12: percussion of 20 s ends within half a second of its limit; a stimulation within one second, never after.
#[test]
fn sr_12_a_step_ends_at_its_limit_and_never_after() {
    for (step, goal, limit) in [(3u8, raw(1_200), 20.0), (1, milliamps(5), 40.0), (2, milliamps(5), 40.0)] {
        let mut bench = Bench::ready(three_steps());
        bench.arm(step);
        bench.set(step, goal);
        let began = bench.now.saturating_sub(Duration::from_millis(20));
        bench.pass(Duration::from_secs(60));
        let ended = bench.entries().find_map(|(at, entry)| match entry {
            Entry::Stopped { step: of, .. } if *of == step => Some(at),
            _ => None,
        });
        let took = ended.expect("the step ends").since(began).as_secs_f64();
        assert!(took <= limit && took > limit - 1.0, "step {step} took {took} s of {limit}");
        assert!(bench.units.iter().all(|unit| unit.output.is_empty()));
    }
}

#[test]
fn an_earlier_now_counts_as_no_time_passed() {
    let mut bench = Bench::ready(three_steps());
    let mut out = Vec::new();
    bench.governor.advance(Mono::ORIGIN, Input::Tick, &mut out);
    assert!(bench.governor.deadline().is_none_or(|due| due > Mono::ORIGIN));
}
