//! The governor's laws as property tests, with the coverage that each run reached.
//!
//! Laws 11 and 12 are about frames and are tested with the drivers.

use std::sync::Mutex;
use std::time::Duration;

use doseward::governor::{Act, Entry, Input, Output, RecordHealth, Verdict};
use doseward::model::command::{Command, DeviceId, Generation, Intensity};
use doseward::model::report::{OwnButton, Report};
use doseward::model::session::{Actor, Discomfort};
use doseward::units::{Mono, RawForce, RawSpeed};
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngSeed};

use crate::support::bench::Bench;
use crate::support::laws::{Reached, check_log, law_7, most};
use crate::support::plans::{budgeted, microamps, milliamps, raw, three_steps};

/// One thing that happens on the bench.
#[derive(Clone, Debug)]
enum Op {
    Pass(u64),
    Arm(u8),
    Set(u8, u32),
    Hold(u8),
    Resume(u8),
    Finish(u8),
    StopStep(u8),
    Comfort(u8, u8),
    OperatorLimit(u8, Option<u32>),
    StopAll,
    Reset,
    Leave,
    Return,
    Unseen,
    Disk(u64),
    Record(RecordHealth),
    Guard(bool),
    Held(usize, bool),
    Clock(bool),
    Link(usize, bool),
    Silent(usize, bool),
    Deaf(usize, bool),
    LeadOff,
    Button(u8),
    Suspended,
    ReadBack(bool),
    Slow(u64),
    Force(u32),
    ClientLess(u8),
    Seen,
    /// Arm, then titrate.
    Start(u8, u32),
    /// Everything is put right again, as people would, so that a run does not stay blocked.
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    let step = 1u8..=3;
    prop_oneof![
        8 => (1u64..3_000).prop_map(Op::Pass),
        4 => (20_000u64..45_000).prop_map(Op::Pass),
        8 => step.clone().prop_map(Op::Arm),
        14 => (step.clone(), 0u32..1_300).prop_map(|(step, permille)| Op::Set(step, permille)),
        2 => step.clone().prop_map(Op::Hold),
        4 => step.clone().prop_map(Op::Resume),
        1 => step.clone().prop_map(Op::Finish),
        1 => step.clone().prop_map(Op::StopStep),
        2 => (step.clone(), 0u8..=10).prop_map(|(step, score)| Op::Comfort(step, score)),
        1 => (step, proptest::option::of(0u32..1_000)).prop_map(|(step, limit)| Op::OperatorLimit(step, limit)),
        1 => Just(Op::StopAll),
        3 => Just(Op::Reset),
        1 => Just(Op::Leave),
        2 => Just(Op::Return),
        1 => Just(Op::Unseen),
        3 => prop_oneof![Just(2u64), Just(400), Just(499), Just(501), Just(5_000)].prop_map(Op::Disk),
        1 => prop_oneof![Just(RecordHealth::Slow), Just(RecordHealth::Failing)].prop_map(Op::Record),
        3 => Just(Op::Record(RecordHealth::Healthy)),
        1 => any::<bool>().prop_map(Op::Guard),
        1 => (0..2usize, any::<bool>()).prop_map(|(device, holds)| Op::Held(device, holds)),
        2 => Just(Op::Guard(true)),
        1 => any::<bool>().prop_map(Op::Clock),
        2 => Just(Op::Clock(true)),
        1 => (0usize..2, any::<bool>()).prop_map(|(device, up)| Op::Link(device, up)),
        2 => (0usize..2).prop_map(|device| Op::Link(device, true)),
        1 => (0usize..2, any::<bool>()).prop_map(|(device, silent)| Op::Silent(device, silent)),
        1 => (0usize..2, any::<bool>()).prop_map(|(device, deaf)| Op::Deaf(device, deaf)),
        2 => (0usize..2).prop_map(|device| Op::Silent(device, false)),
        2 => (0usize..2).prop_map(|device| Op::Deaf(device, false)),
        1 => Just(Op::LeadOff),
        1 => (0u8..5).prop_map(Op::Button),
        1 => Just(Op::Suspended),
        1 => any::<bool>().prop_map(Op::ReadBack),
        2 => Just(Op::ReadBack(true)),
        1 => (1u64..200).prop_map(Op::Slow),
        1 => (0u32..200).prop_map(Op::Force),
        1 => (1u8..=3).prop_map(Op::ClientLess),
        1 => Just(Op::Seen),
        8 => Just(Op::Settle),
        16 => (1u8..=3, 200u32..900).prop_map(|(step, permille)| Op::Start(step, permille)),
    ]
}

/// An intensity as permille of full scale, off the grid as often as on it.
fn intensity(step: u8, permille: u32) -> Intensity {
    if step == 3 {
        Intensity::Speed(RawSpeed::from_raw(u16::try_from(permille * 24 / 10).unwrap()))
    } else {
        microamps(permille * 37)
    }
}

fn act(bench: &mut Bench, op: &Op) {
    match op.clone() {
        Op::Pass(ms) => bench.pass(Duration::from_millis(ms)),
        Op::Arm(step) => {
            bench.idle_answers();
            bench.act(Act::Arm { step });
            bench.pass(Duration::from_millis(20));
        }
        Op::Set(step, permille) => {
            let intensity = intensity(step, permille);
            bench.act(Act::Set { step, intensity, reason: None });
            bench.pass(Duration::from_millis(10));
        }
        Op::Hold(step) => {
            bench.act(Act::Hold { step });
        }
        Op::Resume(step) => {
            bench.idle_answers();
            bench.act(Act::Resume { step });
            bench.pass(Duration::from_millis(20));
        }
        Op::Finish(step) => {
            bench.act(Act::Finish { step });
        }
        Op::StopStep(step) => {
            bench.act(Act::StopStep { step });
        }
        Op::Comfort(step, score) => {
            let score = Discomfort::new(score).unwrap();
            bench.act(Act::Comfort { step, score });
        }
        Op::OperatorLimit(step, limit) => {
            let limit = limit.map(|permille| intensity(step, permille));
            bench.act(Act::OperatorLimit { step, limit });
        }
        Op::StopAll => bench.stop_all(),
        Op::Reset => {
            let latched = bench.governor.snapshot(bench.now).latched;
            bench.act(Act::Reset { generation: latched.unwrap_or(Generation(1)) });
        }
        Op::Leave => bench.operator_here = false,
        Op::Return => bench.operator_here = true,
        Op::Unseen => drop(bench.input(Input::Unseen)),
        Op::Disk(ms) => bench.disk_delay = Duration::from_millis(ms),
        Op::Record(health) => drop(bench.input(Input::Record(health))),
        Op::Guard(present) => drop(bench.input(Input::Guard { present })),
        Op::Held(device, holds) => {
            let device = DeviceId(u8::try_from(device).unwrap());
            drop(bench.input(Input::GuardHolds { device, holds }));
        }
        Op::Clock(sane) => drop(bench.input(Input::ClockSane(sane))),
        Op::Link(device, up) => bench.link(device, up),
        Op::Silent(device, silent) => bench.units[device].silent = silent,
        Op::Deaf(device, deaf) => bench.units[device].deaf = deaf,
        Op::LeadOff => bench.lead_off(0),
        Op::Button(which) => {
            let speed = raw(1_500);
            let button = match which {
                0 => OwnButton::Stopped,
                1 => OwnButton::Started(speed),
                2 => OwnButton::Raised(raw(2_600)),
                4 => OwnButton::Changed(raw(2_000)),
                _ => OwnButton::Lowered(raw(1_000)),
            };
            let running = !bench.units[1].output.is_empty();
            let fits = running != matches!(button, OwnButton::Started(_));
            if fits && !bench.units[1].down && !bench.units[1].silent {
                bench.own_button(1, button);
            }
        }
        Op::Suspended => drop(bench.input(Input::Suspended)),
        Op::ReadBack(right) => {
            let client = if right { bench.client() } else { doseward::model::plan::ClientCode::new("C-2") };
            bench.act(Act::ReadBack { client });
        }
        Op::Slow(ms) => bench.answer_after = Duration::from_millis(ms),
        Op::Force(force) => {
            if !bench.units[1].down && !bench.units[1].silent {
                bench.tell(1, Report::Force(RawForce::from_raw(force)));
            }
        }
        Op::ClientLess(step) => {
            bench.act_by(Actor::client("hand switch"), Act::ClientLess { step });
        }
        Op::Seen => {
            bench.act(Act::AcknowledgeAlarms);
        }
        Op::Settle => settle(bench),
        Op::Start(step, permille) => {
            for op in [Op::Arm(step), Op::Resume(step), Op::Set(step, permille), Op::Pass(300)] {
                act(bench, &op);
            }
        }
    }
}

fn settle(bench: &mut Bench) {
    bench.operator_here = true;
    bench.disk_delay = Duration::from_millis(2);
    bench.answer_after = Duration::from_millis(6);
    for device in 0..bench.units.len() {
        bench.units[device].silent = false;
        bench.units[device].deaf = false;
        if bench.units[device].down {
            bench.link(device, true);
        }
    }
    for op in
        [Op::Record(RecordHealth::Healthy), Op::Guard(true), Op::Clock(true), Op::ReadBack(true), Op::Reset]
    {
        act(bench, &op);
    }
    bench.pass(Duration::from_millis(600));
    bench.resolve_all();
}

static REACHED: Mutex<Option<Reached>> = Mutex::new(None);

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        // The same runs every time; `DOSEWARD_SEED` walks elsewhere.
        rng_seed: RngSeed::Fixed(seed()),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/data/regressions/laws.txt"))),
        ..ProptestConfig::default()
    })]

    /// H-11: the ledger never holds less than the model units gave (law 7); and laws 1 to 8.
    #[test]
    fn laws_1_to_8_hold_in_every_run(ops in proptest::collection::vec(op(), 5..60), by_hand in any::<bool>()) {
        let (mut plan, spent) = budgeted();
        plan.steps[2].start_at_device = by_hand;
        plan.steps[2].force_max = Some(RawForce::from_raw(100));
        let mut bench = Bench::after(plan, spent);
        for op in &ops {
            act(&mut bench, op);
        }
        bench.close();
        let reached = check_log(&bench);
        law_7(&bench);
        REACHED.lock().unwrap().get_or_insert_with(Reached::default).add(&reached);
    }

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

fn seed() -> u64 {
    std::env::var("DOSEWARD_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn cases() -> u32 {
    std::env::var("DOSEWARD_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

#[test]
fn the_random_runs_reach_what_the_laws_speak_of() {
    laws_1_to_8_hold_in_every_run();
    let reached = REACHED.lock().unwrap().clone().unwrap();
    println!("laws 1-8, {} runs: {reached:?}", cases());
    assert!(reached.rises > 1_000, "{reached:?}");
    for (name, count) in [
        ("lowered", reached.lowered),
        ("stops", reached.stops),
        ("refusals", reached.refusals),
        ("voids", reached.voids),
        ("doses", reached.doses),
        ("uncertain", reached.uncertain),
        ("resets", reached.resets),
        ("program rises", reached.program_rises),
        ("ends", reached.ends),
        ("budgets used up", reached.budgets),
        ("resolved", reached.resolved),
    ] {
        assert!(count > 10, "{name} was reached {count} times only: {reached:?}");
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

/// H-08, SR-03, SR-47: the lease runs from the issue time of what was painted; old, replayed and future echoes renew nothing.
#[test]
fn sr_03_sr_47_only_a_fresh_echo_keeps_the_lease() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(1);
    bench.set(1, milliamps(5));
    bench.pass(Duration::from_secs(1));
    bench.operator_here = false;
    let left = bench.now;
    let mut at_zero = None;
    for _ in 0..60 {
        bench.pass(Duration::from_millis(50));
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
    let held = bench.entries().any(|(_, entry)| matches!(entry, Entry::Held { .. }));
    assert!(held, "a lapse holds");
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
