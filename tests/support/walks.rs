//! Random walks over the bench: what may happen, how it is done, and how many walks are run on all cores.

use std::sync::Mutex;
use std::time::Duration;

use doseward::governor::{Act, AlarmOutput, Input, RecordHealth};
use doseward::model::command::{Channel, CommandId, Generation, Intensity};
use doseward::model::plan::ClientCode;
use doseward::model::report::{EpochEnd, Identity, OwnButton, Report};
use doseward::model::session::{Actor, Discomfort};
use doseward::units::RawForce;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngSeed, TestRunner};

use super::bench::Bench;
use super::laws::Reached;
use super::plans::{level, microamps, raw};

/// One thing that happens on the bench.
#[derive(Clone, Debug)]
pub enum Op {
    Pass(u64),
    Arm(u8),
    Set(u8, u32),
    Hold(u8),
    Resume(u8),
    Finish(u8),
    StopStep(u8),
    Comfort(u8, u8),
    TooMuch(u8),
    ClientLess(u8),
    Force(u32),
    AlarmOutput(AlarmOutput),
    OperatorLimit(u8, Option<u32>),
    StopAll,
    Reset,
    Stated(usize),
    Acknowledge,
    Present,
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
    Report(usize, u8),
    Button(u8),
    Suspended,
    ReadBack(bool),
    Slow(u64),
    /// Arm, then titrate.
    Start(u8, u32),
    /// Everything is put right again, as people would, so that a run does not stay blocked.
    Settle,
}

/// Anything that can happen, on a plan of three steps and two units.
pub fn anything() -> impl Strategy<Value = Op> {
    let step = 1u8..=3;
    prop_oneof![
        8 => (1u64..3_000).prop_map(Op::Pass),
        4 => (20_000u64..45_000).prop_map(Op::Pass),
        4 => step.clone().prop_map(Op::Arm),
        14 => (step.clone(), 0u32..1_300).prop_map(|(step, permille)| Op::Set(step, permille)),
        2 => step.clone().prop_map(Op::Hold),
        4 => step.clone().prop_map(Op::Resume),
        2 => step.clone().prop_map(Op::Finish),
        1 => step.clone().prop_map(Op::StopStep),
        2 => (step.clone(), 0u8..=10).prop_map(|(step, score)| Op::Comfort(step, score)),
        1 => step.clone().prop_map(Op::TooMuch),
        1 => step.clone().prop_map(Op::ClientLess),
        1 => Just(Op::AlarmOutput(AlarmOutput::Untested)),
        2 => Just(Op::AlarmOutput(AlarmOutput::Heard)),
        1 => (step.clone(), proptest::option::of(0u32..1_000)).prop_map(|(step, to)| Op::OperatorLimit(step, to)),
        1 => Just(Op::StopAll),
        3 => Just(Op::Reset),
        1 => (0usize..2).prop_map(Op::Stated),
        1 => Just(Op::Acknowledge),
        1 => Just(Op::Present),
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
        2 => (0usize..2, 0u8..16).prop_map(|(device, what)| Op::Report(device, what)),
        1 => (0u8..5).prop_map(Op::Button),
        1 => (0u32..200).prop_map(Op::Force),
        1 => Just(Op::Suspended),
        1 => any::<bool>().prop_map(Op::ReadBack),
        2 => Just(Op::ReadBack(true)),
        1 => (1u64..200).prop_map(Op::Slow),
        8 => Just(Op::Settle),
        24 => (step, 200u32..900).prop_map(|(step, permille)| Op::Start(step, permille)),
    ]
}

/// What bears on the rises of a plan's only step.
pub fn rising() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1u64..900).prop_map(Op::Pass),
        3 => (900u64..9_000).prop_map(Op::Pass),
        6 => (0u32..1_000).prop_map(|permille| Op::Set(1, permille)),
        1 => Just(Op::Hold(1)),
        1 => (5u8..=8).prop_map(|score| Op::Comfort(1, score)),
        1 => proptest::option::of(0u32..1_000).prop_map(|limit| Op::OperatorLimit(1, limit)),
        1 => prop_oneof![Just(2u64), Just(400), Just(499)].prop_map(Op::Disk),
        1 => Just(Op::LeadOff),
        3 => (300u32..1_000).prop_map(|permille| Op::Start(1, permille)),
    ]
}

/// An intensity as permille of full scale, off the grid as often as on it.
fn intensity(bench: &Bench, step: u8, permille: u32) -> Intensity {
    match bench.governor.plan().steps[usize::from(step) - 1].target {
        Intensity::Current(_) => microamps(permille * 37),
        Intensity::Speed(_) => raw(u16::try_from(permille * 24 / 10).unwrap()),
        Intensity::Level(_) => level(u8::try_from(permille / 200).unwrap()),
    }
}

/// Makes one thing happen.
pub fn act(bench: &mut Bench, op: &Op) {
    match op.clone() {
        Op::Pass(ms) => bench.pass(Duration::from_millis(ms)),
        Op::Arm(step) => {
            bench.idle_answers();
            bench.act(Act::Arm { step });
            bench.pass(Duration::from_millis(20));
        }
        Op::Set(step, permille) => {
            let intensity = intensity(bench, step, permille);
            bench.act(Act::Set { step, intensity, reason: None });
            bench.pass(Duration::from_millis(10));
        }
        Op::Hold(step) => drop(bench.act(Act::Hold { step })),
        Op::Resume(step) => {
            bench.idle_answers();
            bench.act(Act::Resume { step });
            bench.pass(Duration::from_millis(20));
        }
        Op::Finish(step) => drop(bench.act(Act::Finish { step })),
        Op::StopStep(step) => drop(bench.act(Act::StopStep { step })),
        Op::Comfort(step, score) => {
            let score = Discomfort::new(score).unwrap();
            bench.act(Act::Comfort { step, score });
        }
        Op::TooMuch(step) => drop(bench.act(Act::TooMuch { step })),
        Op::ClientLess(step) => drop(bench.act_by(Actor::client("hand switch"), Act::ClientLess { step })),
        Op::Force(force) => {
            if !bench.units[1].down && !bench.units[1].silent {
                bench.tell(1, Report::Force(RawForce::from_raw(force)));
            }
        }
        Op::AlarmOutput(heard) => drop(bench.input(Input::AlarmOutput(heard))),
        Op::OperatorLimit(step, limit) => {
            let limit = limit.map(|permille| intensity(bench, step, permille));
            bench.act(Act::OperatorLimit { step, limit });
        }
        Op::StopAll => bench.stop_all(),
        Op::Reset => {
            let latched = bench.governor.snapshot(bench.now).latched;
            bench.act(Act::Reset { generation: latched.unwrap_or(Generation(1)) });
        }
        Op::Stated(device) => {
            // Who states that a unit is off has seen it stop.
            let now = bench.now;
            if bench.units[device].deaf || bench.units[device].down {
                bench.units[device].all_off(now);
                bench.act(Act::StatedStopped { device: Bench::id(device) });
            }
        }
        Op::Acknowledge => drop(bench.act(Act::AcknowledgeAlarms)),
        Op::Present => drop(bench.act(Act::Present)),
        Op::Leave => bench.operator_here = false,
        Op::Return => bench.operator_here = true,
        Op::Unseen => drop(bench.input(Input::Unseen)),
        Op::Disk(ms) => bench.disk_delay = Duration::from_millis(ms),
        Op::Record(health) => drop(bench.input(Input::Record(health))),
        Op::Guard(present) => drop(bench.input(Input::Guard { present })),
        Op::Held(device, holds) => {
            let device = Bench::id(device);
            bench.input(Input::GuardHolds { device, holds });
        }
        Op::Clock(sane) => drop(bench.input(Input::ClockSane(sane))),
        Op::Link(device, up) => bench.link(device, up),
        Op::Silent(device, silent) => bench.units[device].silent = silent,
        Op::Deaf(device, deaf) => bench.units[device].deaf = deaf,
        Op::LeadOff => bench.lead_off(0),
        Op::Report(device, what) => report(bench, device, what),
        Op::Button(which) => button(bench, which),
        Op::Suspended => drop(bench.input(Input::Suspended)),
        Op::ReadBack(right) => {
            let client = if right { bench.client() } else { ClientCode::new("C-2") };
            bench.act(Act::ReadBack { client });
        }
        Op::Slow(ms) => bench.answer_after = Duration::from_millis(ms),
        Op::Settle => settle(bench),
        Op::Start(step, permille) => {
            for op in [Op::Arm(step), Op::Resume(step), Op::Set(step, permille), Op::Pass(300)] {
                act(bench, &op);
            }
        }
    }
}

/// A driver reports something that the model units do not say by themselves. The unit goes on as it was.
fn report(bench: &mut Bench, device: usize, what: u8) {
    if bench.units[device].silent || bench.units[device].down {
        return;
    }
    let (epoch, id) = (bench.epoch(device), CommandId(bench.last_command(device)));
    let ended = |cause| Report::EpochEnded { epoch, cause };
    let report = match what {
        0 => ended(EpochEnd::PulseError(Channel(0))),
        1 => ended(EpochEnd::Result(3)),
        2 => ended(EpochEnd::LostAcknowledgement),
        3 => ended(EpochEnd::KeepAliveLost),
        4 => ended(EpochEnd::UnexpectedStatus),
        5 => ended(EpochEnd::Disconnected),
        6 => ended(EpochEnd::Stopped),
        7 => ended(EpochEnd::LeaseEnded),
        8 => Report::Unacknowledged { id },
        9 => Report::Refused { id, why: "it is off the grid" },
        10 => Report::LeaseEnded,
        11 => Report::DroppedLate,
        12 => Report::Clamped { asked: raw(2_500), sent: raw(2_400) },
        13 => Report::Unintelligible { why: "a checksum" },
        14 => Report::Battery(20),
        _ => Report::Identity(Identity::default()),
    };
    bench.tell(device, report);
}

/// Someone uses the gun's own button.
fn button(bench: &mut Bench, which: u8) {
    let levels =
        matches!(bench.governor.plan().steps.last().map(|step| step.target), Some(Intensity::Level(_)));
    let [started, raised, lowered, changed] = if levels {
        [level(2), level(4), level(1), level(2)]
    } else {
        [raw(1_500), raw(2_600), raw(1_000), raw(2_000)]
    };
    let button = match which {
        0 => OwnButton::Stopped,
        1 => OwnButton::Started(started),
        2 => OwnButton::Raised(raised),
        3 => OwnButton::Changed(changed),
        _ => OwnButton::Lowered(lowered),
    };
    let running = !bench.units[1].output.is_empty();
    let fits = running != matches!(button, OwnButton::Started(_));
    if fits && !bench.units[1].down && !bench.units[1].silent {
        bench.own_button(1, button);
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
        bench.tell(device, Report::Battery(90));
    }
    bench.input(Input::AlarmOutput(AlarmOutput::Heard));
    for op in
        [Op::Record(RecordHealth::Healthy), Op::Guard(true), Op::Clock(true), Op::ReadBack(true), Op::Reset]
    {
        act(bench, &op);
    }
    bench.resolve_all();
    bench.pass(Duration::from_millis(600));
}

/// Number of random runs: 400, or as `DOSEWARD_CASES` says.
pub fn cases() -> u32 {
    std::env::var("DOSEWARD_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

/// The same runs every time; `DOSEWARD_SEED` walks elsewhere.
pub fn seed() -> u64 {
    std::env::var("DOSEWARD_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Runs `run` on `cases` random values, many of them on all cores, and sums what was reached.
pub fn walks<S, F>(cases: u32, strategy: impl Fn() -> S + Sync, run: F) -> Reached
where
    S: Strategy,
    F: Fn(S::Value) -> Reached + Sync,
{
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = if cases < 5_000 { 1 } else { u32::try_from(cores).unwrap() };
    let usual = std::env::var_os("DOSEWARD_CASES").is_none();
    let sum = Mutex::new(Reached::default());
    let (strategy, run, total) = (&strategy, &run, &sum);
    std::thread::scope(|scope| {
        for shard in 0..shards {
            scope.spawn(move || {
                let persistence = FileFailurePersistence::Direct("tests/data/regressions/laws.txt");
                let mut runner = TestRunner::new(ProptestConfig {
                    cases: (cases + shard) / shards,
                    rng_seed: RngSeed::Fixed(seed() + u64::from(shard)),
                    // What a run of another length found is told, not kept.
                    failure_persistence: usual.then(|| Box::new(persistence) as Box<_>),
                    ..ProptestConfig::default()
                });
                let reached = Mutex::new(Reached::default());
                let ran = runner.run(&strategy(), |value| {
                    let one = run(value);
                    reached.lock().unwrap().add(&one);
                    Ok(())
                });
                total.lock().unwrap().add(&reached.into_inner().unwrap());
                ran.unwrap_or_else(|failure| panic!("seed {}: {failure}", seed() + u64::from(shard)));
            });
        }
    });
    sum.into_inner().unwrap()
}
