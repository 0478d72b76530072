//! The oracle of the governor's laws (1–10; 11 and 12 are the drivers'). It reads what went in and what came out, keeps
//! its own books in floating point, and shares no code with the governor.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use doseward::governor::{Act, Entry, ForGuard, Governor, Input, Output, RecordHealth, StepState};
use doseward::model::area::{Place, Side};
use doseward::model::budget::Spent;
use doseward::model::capability::IntensityRange;
use doseward::model::command::{Command, Intensity, Setpoint};
use doseward::model::dose::Evidence;
use doseward::model::limit::{LimitOwner, Limits};
use doseward::model::plan::{Plan, Step};
use doseward::model::protocol::Modality;
use doseward::model::report::{EpochEnd, OwnButton, Report};
use doseward::model::session::StopReason;
use doseward::units::Mono;

use super::bench::{Bench, Said};

/// Plain numbers of the ceilings, written down a second time on purpose.
fn ceiling_ma(modality: Modality) -> f64 {
    match modality {
        Modality::Tens => 60.0,
        Modality::Nmes => 100.0,
        Modality::Percussion => f64::INFINITY,
    }
}

/// The most that files and ceilings allow of a step, in mA or raw.
pub fn most(plan: &Plan, step: &Step) -> f64 {
    let own = |pick: fn(&Limits) -> Option<f64>| {
        let owners = LimitOwner::ALL.iter().filter_map(|owner| pick(&step.chain.get(*owner).limits));
        owners.fold(f64::INFINITY, f64::min)
    };
    let Some(stimulation) = step.stimulation else {
        let device = &plan.devices[usize::from(step.device.0)].capability.intensity;
        let max = match device {
            IntensityRange::Speed { max, .. } => f64::from(max.raw()),
            IntensityRange::Level { max, .. } => {
                return f64::from(max.level()).min(own(|l| l.level.map(|level| f64::from(level.level()))));
            }
            IntensityRange::Current { .. } => 0.0,
        };
        let rate = own(|limits| limits.stroke_rate.map(|rate| f64::from(rate.millihertz()) / 1000.0));
        return max.min(rate.min(40.0) * 60.0).min(own(|l| l.speed.map(|s| f64::from(s.raw()))));
    };
    let (width, period) = (f64::from(stimulation.width.micros()), f64::from(stimulation.period.micros()));
    let contact =
        step.applicator.smallest_contact().map_or(0.0, |a| f64::from(a.square_millimetres()) / 100.0);
    let duty = (2.0 * width / period).sqrt();
    let rms = 50.0f64.min(2.0 * contact) / duty;
    let energy = (50.0 * 1e6 / (500.0 * 2.0 * width * 1e-3)).sqrt();
    let power = (250.0 * contact * period * 1e-6 * 1e6 / (500.0 * 2.0 * width * 1e-3)).sqrt();
    let current = own(|limits| limits.current.map(|current| f64::from(current.microamps()) / 1000.0));
    let charge =
        own(|limits| limits.phase_charge.map(|charge| charge.picocoulombs() as f64)) / width / 1000.0;
    [ceiling_ma(step.modality), rms, energy, power, current, charge, 100.0]
        .into_iter()
        .fold(f64::INFINITY, f64::min)
}

/// What the oracle believes while it reads the log.
#[derive(Default)]
struct Belief {
    guard: bool,
    clock: bool,
    record: bool,
    read_back: bool,
    lease_until: Mono,
    up: BTreeMap<u8, bool>,
    /// Units that the guard said it can stop, on the present link.
    held: BTreeSet<u8>,
    /// Units that the guard was told to watch, and the last sign of life that it heard.
    watched: BTreeSet<u8>,
    /// Units that it was handed, and those of them for which it is owed signs of life.
    handed: BTreeSet<u8>,
    owed: BTreeSet<u8>,
    beat: Option<Mono>,
    /// Per unit: the end of output that the guard was told.
    lease: BTreeMap<u8, Mono>,
    latched: bool,
    durable: u64,
    /// Per step: highest intent (magnitude) and its seq.
    intents: BTreeMap<u8, Vec<(u64, u32)>>,
    setpoints: BTreeMap<(u8, u8), (u32, Mono)>,
    /// Per output: when it last left zero, and the highest since the last stop before that.
    bouts: BTreeMap<(u8, u8), (Mono, u32, u32)>,
    operator: BTreeMap<u8, Option<u32>>,
    /// First non-zero of the present bout, per step; and time used before it.
    on: BTreeMap<u8, (Option<Mono>, f64)>,
    /// Bouts that are over: step, begin, end.
    spans: Vec<(u8, Mono, Mono)>,
    spent: Spent,
    /// Which step an output was armed for last.
    armed: BTreeMap<(u8, u8), u8>,
    /// Units that were stopped, and what led to it and away from it: their next output is a start.
    stopped: BTreeMap<u8, BTreeSet<&'static str>>,
    /// What each output was last set to.
    load: BTreeMap<(u8, u8), Load>,
}

/// Pulses of an output: phase charge (pC), square of the r.m.s. current, width and period (µs).
#[derive(Clone, Copy)]
struct Load {
    charge: f64,
    square: f64,
    pulses: (u32, u32),
}

impl Belief {
    /// The step that drives an output.
    fn step<'a>(&self, plan: &'a Plan, key: (u8, u8)) -> &'a Step {
        let number = self.armed.get(&key).expect("an output is driven after its step was armed");
        plan.steps.iter().find(|step| step.number == *number).expect("a step of the plan")
    }

    /// Notes what a start of every stopped unit comes after.
    fn after(&mut self, device: Option<u8>, what: &'static str) {
        for (of, causes) in &mut self.stopped {
            if device.is_none_or(|device| device == *of) {
                causes.insert(what);
            }
        }
    }
}

/// What runs reached: how often each law had something to judge, and which input met which state of a step.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    counts: BTreeMap<&'static str, u64>,
    met: BTreeMap<(&'static str, &'static str), u64>,
}

impl Reached {
    /// What enough random runs reach.
    pub const EXPECTED: [&str; 21] = [
        "law 1: setpoints under their limit",
        "law 1: requests above the limit",
        "law 2: rises",
        "rises by titration",
        "rises by program ramp",
        "rises of a speed",
        "rises of a level",
        "law 3: stops",
        "law 4: starts asked while stopped",
        "law 5: rises asked against an interlock",
        "law 5: intents void",
        "law 6: ends by time",
        "law 6: budgets used up",
        "law 7: doses",
        "law 7: uncertain doses",
        "law 7: uncertain doses resolved",
        "law 9: decreases driven",
        "SR-05: starts from zero",
        "SR-05: ON phases from zero",
        "SR-07: setpoints beside the one before",
        "SR-07: other pulses on the same output",
    ];

    pub fn hit(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
        for (pair, count) in &other.met {
            *self.met.entry(*pair).or_default() += count;
        }
    }

    /// Every input and state that met less often than `least` times.
    pub fn rarely_met(&self, least: u64) -> Vec<(&'static str, &'static str, u64)> {
        let inputs: BTreeSet<&str> = self.met.keys().map(|(input, _)| *input).collect();
        let pairs = inputs.into_iter().flat_map(|input| STATES.map(|state| (input, state)));
        let counted = pairs.map(|pair| (pair.0, pair.1, self.met.get(&pair).copied().unwrap_or(0)));
        counted.filter(|(_, _, count)| *count < least).collect()
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.counts {
            writeln!(f, "{count:12}  {what}")?;
        }
        let inputs: BTreeSet<&str> = self.met.keys().map(|(input, _)| *input).collect();
        write!(f, "{:28}", "input met a step that was")?;
        for state in STATES {
            write!(f, " {state:>10}")?;
        }
        for input in inputs {
            write!(f, "\n{input:28}")?;
            for state in STATES {
                write!(f, " {:10}", self.met.get(&(input, state)).copied().unwrap_or(0))?;
            }
        }
        Ok(())
    }
}

const STATES: [&str; 7] = ["waiting", "arming", "armed", "running", "held", "finishing", "ended"];

const fn state_name(state: StepState) -> &'static str {
    match state {
        StepState::Waiting => STATES[0],
        StepState::Arming => STATES[1],
        StepState::Armed => STATES[2],
        StepState::Running => STATES[3],
        StepState::Held => STATES[4],
        StepState::Finishing => STATES[5],
        StepState::Ended(_) => STATES[6],
    }
}

/// The input's name, the unit or the step that it is about, and whether it comes by the thousand.
fn describe(input: &Input) -> (&'static str, Option<u8>, Option<u8>, bool) {
    match input {
        Input::Tick => ("Tick", None, None, true),
        Input::Request(request) => (act_name(&request.act), None, request.act.step(), false),
        Input::Stop { .. } => ("Stop", None, None, false),
        Input::Report { device, report } => {
            let often = matches!(
                report,
                Report::Alive | Report::Measured { .. } | Report::Acknowledged { .. } | Report::Stop { .. }
            );
            (report_name(report), Some(device.0), None, often)
        }
        Input::Link { device, up: true } => ("Link up", Some(device.0), None, false),
        Input::Link { device, up: false } => ("Link down", Some(device.0), None, false),
        Input::Heartbeat { .. } => ("Heartbeat", None, None, true),
        Input::Unseen => ("Unseen", None, None, false),
        Input::Durable { .. } => ("Durable", None, None, true),
        Input::Record(RecordHealth::Healthy) => ("Record healthy", None, None, false),
        Input::Record(RecordHealth::Slow | RecordHealth::Failing) => ("Record bad", None, None, false),
        Input::Guard { present: true } => ("Guard present", None, None, false),
        Input::Guard { present: false } => ("Guard gone", None, None, false),
        Input::GuardHolds { device, holds: true } => ("Guard holds", Some(device.0), None, false),
        Input::GuardHolds { device, holds: false } => ("Guard cannot hold", Some(device.0), None, false),
        Input::ClockSane(true) => ("Clock sane", None, None, false),
        Input::ClockSane(false) => ("Clock insane", None, None, false),
        Input::AlarmOutput(heard) if heard.is_tested() => ("Alarm output heard", None, None, false),
        Input::AlarmOutput(_) => ("Alarm output not heard", None, None, false),
        Input::LockedOut { device, .. } => ("Locked out", Some(device.0), None, false),
        Input::Suspended => ("Suspended", None, None, false),
        Input::Close => ("Close", None, None, false),
    }
}

const fn act_name(act: &Act) -> &'static str {
    match act {
        Act::ReadBack { .. } => "ask ReadBack",
        Act::Arm { .. } => "ask Arm",
        Act::Set { .. } => "ask Set",
        Act::Hold { .. } => "ask Hold",
        Act::Resume { .. } => "ask Resume",
        Act::Finish { .. } => "ask Finish",
        Act::StopStep { .. } => "ask StopStep",
        Act::Comfort { .. } => "ask Comfort",
        Act::TooMuch { .. } => "ask TooMuch",
        Act::SensationReturned { .. } => "ask SensationReturned",
        Act::Resolve(_) => "ask Resolve",
        Act::ClientLess { .. } => "ask ClientLess",
        Act::OperatorLimit { .. } => "ask OperatorLimit",
        Act::Reset { .. } => "ask Reset",
        Act::StatedStopped { .. } => "ask StatedStopped",
        Act::AcknowledgeAlarms => "ask AcknowledgeAlarms",
        Act::Present => "ask Present",
    }
}

const fn report_name(report: &Report) -> &'static str {
    match report {
        Report::Identity(_) => "report Identity",
        Report::Alive => "report Alive",
        Report::Ready { .. } => "report Ready",
        Report::EpochEnded { cause: EpochEnd::LeadOff(_), .. } => "report LeadOff",
        Report::EpochEnded { .. } => "report EpochEnded",
        Report::Acknowledged { .. } => "report Acknowledged",
        Report::Unacknowledged { .. } => "report Unacknowledged",
        Report::Refused { .. } => "report Refused",
        Report::Measured { .. } => "report Measured",
        Report::Stop { .. } => "report Stop",
        Report::StopLearnt { .. } => "report StopLearnt",
        Report::OwnButton(_) => "report OwnButton",
        Report::Battery(_) => "report Battery",
        Report::Force(_) => "report Force",
        Report::LeaseEnded => "report LeaseEnded",
        Report::DroppedLate => "report DroppedLate",
        Report::Clamped { .. } => "report Clamped",
        Report::Unintelligible { .. } => "report Unintelligible",
        Report::Unusable { .. } => "report Unusable",
    }
}

/// Notes which states an input meets; of those that come by the thousand every sixteenth.
fn meet(plan: &Plan, reached: &mut Reached, governor: &Governor, number: usize, at: Mono, input: &Input) {
    let (name, device, step, often) = describe(input);
    if often && !number.is_multiple_of(16) {
        return;
    }
    for (planned, view) in plan.steps.iter().zip(&governor.snapshot(at).steps) {
        let meant = step.is_none_or(|step| step == view.number)
            && device.is_none_or(|device| device == planned.device.0);
        if meant {
            *reached.met.entry((name, state_name(view.state))).or_default() += 1;
        }
    }
}

/// Laws 1–6 over the log of one run. Returns what was reached.
pub fn check_log(bench: &Bench) -> Reached {
    let plan = bench.governor.plan();
    let mut belief = Belief { spent: bench.settings.spent.clone(), ..Belief::default() };
    let mut reached = Reached::default();
    let mut said = bench.said.iter().peekable();
    // The log of outputs is split by replaying the inputs, so that each call's outputs are known.
    let mut replay = Governor::new(bench.prescribed.clone(), bench.settings.clone(), Mono::ORIGIN);
    belief.stopped =
        (0..bench.units.len()).map(|unit| (u8::try_from(unit).unwrap(), BTreeSet::new())).collect();
    for (number, (at, input)) in bench.inputs.iter().enumerate() {
        meet(plan, &mut reached, &replay, number, *at, input);
        believe(plan, &mut belief, &mut reached, *at, input);
        let mut out = Vec::new();
        replay.advance(*at, input.clone(), &mut out);
        for output in &out {
            // Law 8: same inputs, same outputs.
            let logged: &Said = said.next().expect("law 8: the replay says more than the run did");
            assert_eq!(&logged.output, output, "law 8: the replay differs at {at}");
        }
        if matches!(input, Input::Stop { .. }) {
            law_3(plan, &out);
            reached.hit("law 3: stops");
        }
        for output in &out {
            read(plan, &mut belief, &mut reached, *at, output);
        }
    }
    assert!(said.next().is_none(), "law 8: the run says more than the replay");
    reached
}

fn believe(plan: &Plan, belief: &mut Belief, reached: &mut Reached, at: Mono, input: &Input) {
    match input {
        Input::Guard { present } => {
            belief.guard = *present;
            if !present {
                belief.held.clear();
            }
        }
        // Taken over where the step says so; refused, it is followed by a stop.
        Input::Report {
            device,
            report: Report::OwnButton(OwnButton::Started(at_hand) | OwnButton::Changed(at_hand)),
        } => {
            let key = (device.0, 0);
            let armed =
                belief.armed.get(&key).and_then(|number| plan.steps.iter().find(|it| it.number == *number));
            if armed.is_some_and(|step| step.start_at_device) {
                belief.setpoints.insert(key, (at_hand.magnitude(), at));
                belief.stopped.remove(&device.0);
            }
        }
        Input::GuardHolds { device, holds: true } => {
            belief.held.insert(device.0);
        }
        Input::GuardHolds { device, holds: false } => {
            belief.held.remove(&device.0);
        }
        Input::ClockSane(sane) => belief.clock = *sane,
        Input::Record(health) => belief.record = *health == RecordHealth::Healthy,
        Input::Heartbeat { issued } if at.since(*issued) <= Duration::from_secs(1) && *issued <= at => {
            belief.lease_until = belief.lease_until.max(issued.saturating_add(Duration::from_secs(2)));
        }
        Input::Unseen => belief.lease_until = Mono::ORIGIN,
        Input::Link { device, up } => {
            belief.up.insert(device.0, *up);
            belief.held.remove(&device.0);
            belief.after(Some(device.0), "SR-05: start after a lost link");
        }
        Input::Durable { seq } => belief.durable = belief.durable.max(seq.0),
        Input::Request(request) => {
            if let Act::ReadBack { client } = &request.act {
                belief.read_back = client.as_str() == "C-1";
            }
            asked(plan, belief, reached, at, &request.act);
        }
        Input::Report { device, report: Report::EpochEnded { cause, .. } } => {
            let what = match cause {
                EpochEnd::LeadOff(_) => "SR-05: start after a lost electrode",
                _ => "SR-05: start after another end of the epoch",
            };
            belief.after(Some(device.0), what);
        }
        Input::Suspended => belief.after(None, "SR-05: start after the machine slept"),
        _ => {}
    }
}

/// Notes requests that a law must refuse.
fn asked(plan: &Plan, belief: &Belief, reached: &mut Reached, at: Mono, act: &Act) {
    let open =
        !(belief.guard && belief.clock && belief.record && belief.read_back && at < belief.lease_until);
    if let Act::Set { step, intensity, .. } = act
        && let Some(step) = plan.steps.iter().find(|planned| planned.number == *step)
        && human(*intensity) > most(plan, step)
    {
        reached.hit("law 1: requests above the limit");
    }
    if matches!(act, Act::Set { .. } | Act::Arm { .. } | Act::Resume { .. }) {
        if belief.latched {
            reached.hit("law 4: starts asked while stopped");
        }
        if open {
            reached.hit("law 5: rises asked against an interlock");
        }
    }
}

/// mA, or the gun's own number.
fn human(intensity: Intensity) -> f64 {
    match intensity {
        Intensity::Current(current) => f64::from(current.microamps()) / 1000.0,
        other => f64::from(other.magnitude()),
    }
}

/// Law 3: a stop is granted in every state and the same call drives zero, before anything else.
fn law_3(plan: &Plan, out: &[Output]) {
    let stops = out.iter().take_while(|output| matches!(output, Output::Stop { .. })).count();
    assert_eq!(stops, plan.devices.len(), "law 3: every unit is stopped before anything else: {out:?}");
    let after = out.iter().skip(stops);
    assert!(
        !after.into_iter().any(|output| matches!(output, Output::Drive { .. } | Output::Renew { .. })),
        "law 3: nothing is driven or renewed in the call of a stop"
    );
}

fn read(plan: &Plan, belief: &mut Belief, reached: &mut Reached, at: Mono, output: &Output) {
    match output {
        Output::Stop { device, .. } => {
            reached.hit("stops ordered");
            belief.stopped.entry(device.0).or_default();
            // A stop resets the envelope: what rises after it needs an intent of its own.
            for step in plan.steps.iter().filter(|step| step.device == *device) {
                belief.intents.remove(&step.number);
            }
            let channels: Vec<(u8, u8)> =
                belief.setpoints.keys().filter(|(of, _)| *of == device.0).copied().collect();
            for key in channels {
                belief.setpoints.insert(key, (0, at));
                belief.bouts.remove(&key);
                let step = belief.step(plan, key);
                let on = belief.on.entry(step.number).or_default();
                if let Some(since) = on.0.take() {
                    on.1 += at.since(since).as_secs_f64();
                    belief.spans.push((step.number, since, at));
                }
            }
        }
        Output::Drive { device, command } => match command.get() {
            Command::Set { channel, setpoint, .. } => {
                law_1_2_4_5(plan, belief, reached, at, (device.0, channel.0), *setpoint);
            }
            Command::Prepare { .. } => {
                assert!(!belief.latched, "law 4: a unit is prepared while all is stopped");
                assert!(belief.held.contains(&device.0), "law 5: armed without the guard's word");
                assert!(belief.watched.contains(&device.0), "law 5: the guard was not told of the arming");
            }
            // A hand may start it from here: no more than any limit, and no sooner than a rise from here could.
            Command::AllowStart { channel, most: allowed, .. } => {
                let step = belief.step(plan, (device.0, channel.0));
                let level = allowed.intensity().magnitude();
                assert!(step.start_at_device, "law 5: step {} may not be started at the unit", step.number);
                assert!(f64::from(level) <= most(plan, step), "law 1: a hand may start step {}", step.number);
                assert!(!belief.latched, "law 4: a hand may start while all is stopped");
                law_5(belief, at, device.0, step, level);
            }
            Command::Finish { channel, .. } => {
                let key = (device.0, channel.0);
                belief.setpoints.insert(key, (0, at));
                let number = belief.step(plan, key).number;
                let on = belief.on.entry(number).or_default();
                if let Some(since) = on.0.take() {
                    on.1 += at.since(since).as_secs_f64();
                    belief.spans.push((number, since, at));
                }
            }
            Command::Stop { .. } => panic!("a stop goes by its own lane"),
        },
        Output::Append { seq, entry, .. } => read_entry(plan, belief, reached, seq.0, entry),
        Output::Renew { device, until } => {
            assert!(at < belief.lease_until, "a renewal without the operator's lease");
            let told = belief.lease.get(&device.0);
            assert!(told.is_some_and(|told| until <= told), "a renewal that the guard was not told of");
        }
        Output::Progress(_) | Output::ProgressDone { .. } | Output::Verdict { .. } | Output::Alarm { .. } => {
        }
        Output::Guard(told) => read_guard(belief, reached, at, *told),
    }
    law_6(plan, belief, at);
    law_6_budgets(plan, belief, at);
}

/// What the guard hears: a sign of life each 100 ms while it watches a unit, and leases only of units it watches.
fn read_guard(belief: &mut Belief, reached: &mut Reached, at: Mono, told: ForGuard) {
    match told {
        ForGuard::Hold { device } => {
            belief.handed.insert(device.0);
        }
        // What the guard was not handed it cannot watch.
        ForGuard::Stopping { device } if !belief.handed.contains(&device.0) => {}
        ForGuard::Armed { device } | ForGuard::Stopping { device } => {
            if belief.owed.is_empty() {
                belief.beat = Some(at);
            }
            belief.owed.insert(device.0);
            if matches!(told, ForGuard::Armed { .. }) {
                belief.watched.insert(device.0);
            }
        }
        ForGuard::Lease { device, until } => {
            assert!(belief.watched.contains(&device.0), "a lease of a unit that the guard does not watch");
            belief.lease.insert(device.0, until);
        }
        ForGuard::Released { device, .. } => {
            belief.watched.remove(&device.0);
            belief.owed.remove(&device.0);
        }
        ForGuard::Leaving => {}
        ForGuard::Beat => {
            let silent = belief.beat.replace(at).map_or(Duration::ZERO, |last| at.since(last));
            assert!(
                belief.owed.is_empty() || silent <= Duration::from_millis(101),
                "the guard heard nothing for {silent:?} at {at}"
            );
            reached.hit("signs of life to the guard");
        }
    }
}

fn read_entry(plan: &Plan, belief: &mut Belief, reached: &mut Reached, seq: u64, entry: &Entry) {
    match entry {
        Entry::Armed { step: number, .. } => {
            let step = plan.steps.iter().find(|step| step.number == *number).expect("a step of the plan");
            let before = belief.armed.insert((step.device.0, step.channel.0), *number);
            if before.is_some_and(|before| before != *number) {
                belief.after(Some(step.device.0), "SR-05: start in another mode");
            }
        }
        Entry::Acted { step: number, what: "resume", .. } => {
            let device = plan.steps.iter().find(|step| step.number == *number).map(|step| step.device.0);
            belief.after(device, "SR-05: start after a hold");
        }
        Entry::Intent { step, to, .. } => {
            belief.intents.entry(*step).or_default().push((seq, to.intensity().magnitude()));
        }
        Entry::IntentVoid { intent, .. } => {
            reached.hit("law 5: intents void");
            for intents in belief.intents.values_mut() {
                intents.retain(|(seq, _)| *seq != intent.0);
            }
        }
        Entry::OperatorLimit { step, limit, .. } => {
            belief.operator.insert(*step, limit.map(Intensity::magnitude));
        }
        Entry::StopAll { .. } => belief.latched = true,
        Entry::Reset { .. } => {
            belief.latched = false;
            belief.after(None, "SR-05: start after STOP ALL and reset");
        }
        Entry::Refused { .. } => reached.hit("requests refused"),
        Entry::BudgetUsed { .. } => reached.hit("law 6: budgets used up"),
        Entry::Ended { .. } => {}
        Entry::Resolved { .. } => reached.hit("law 7: uncertain doses resolved"),
        Entry::Stopped { reason: StopReason::Completed, .. } => reached.hit("law 6: ends by time"),
        Entry::Stopped { reason: StopReason::AreaCap | StopReason::SessionCap, .. } => {
            reached.hit("law 6: ends by budget");
        }
        _ => {}
    }
}

fn law_1_2_4_5(
    plan: &Plan,
    belief: &mut Belief,
    reached: &mut Reached,
    at: Mono,
    key: (u8, u8),
    setpoint: Setpoint,
) {
    let step = belief.step(plan, key);
    let level = setpoint.intensity().magnitude();
    let (before, since) = belief.setpoints.get(&key).copied().unwrap_or((0, Mono::ORIGIN));
    let (asked, most) = (human(setpoint.intensity()), most(plan, step));
    assert!(asked <= most + 1e-6, "law 1: step {} at {asked}, most {most}", step.number);
    reached.hit("law 1: setpoints under their limit");
    sr_07(belief, reached, key, before, setpoint);
    if level > before {
        let limit = belief.operator.get(&step.number).copied().flatten();
        assert!(limit.is_none_or(|limit| level <= limit), "law 1: above the operator's own limit");
        let envelope = belief.bouts.get(&key).map_or(0, |bout| bout.2);
        sr_05(belief, reached, key.0, step, before, level);
        law_2(step, before, level, at.since(since));
        law_2_program(belief, step, key, at, before, level);
        assert!(!belief.latched, "law 4: a rise while all is stopped");
        law_5(belief, at, key.0, step, level);
        reached.hit("law 2: rises");
        reached.hit(match setpoint {
            Setpoint::Pulses { .. } if level <= envelope => "rises by program ramp",
            Setpoint::Pulses { .. } => "rises by titration",
            Setpoint::Speed(_) => "rises of a speed",
            Setpoint::Level(_) => "rises of a level",
        });
    } else {
        reached.hit("law 9: decreases driven");
    }
    belief.setpoints.insert(key, (level, at));
    let on = belief.on.entry(step.number).or_default();
    if level > 0 && on.0.is_none() {
        on.0 = Some(at);
    }
}

/// The lowest step that a unit of this kind can give.
fn lowest(step: &Step) -> u32 {
    match step.target {
        Intensity::Current(_) => 500,
        Intensity::Speed(_) => 1_000,
        Intensity::Level(_) => 1,
    }
}

/// SR-05: the first output after every way to zero is the lowest step, and every ON phase of a program begins at zero.
fn sr_05(belief: &mut Belief, reached: &mut Reached, device: u8, step: &Step, before: u32, level: u32) {
    if before > 0 {
        return;
    }
    if let Some(causes) = belief.stopped.remove(&device) {
        reached.hit("SR-05: starts from zero");
        for cause in causes {
            reached.hit(cause);
        }
        assert!(level <= lowest(step), "SR-05: step {} starts at {level}", step.number);
    } else if step.stimulation.is_some_and(|stimulation| stimulation.cycle.is_some()) {
        reached.hit("SR-05: ON phases from zero");
    } else {
        assert!(level <= lowest(step), "SR-05: step {} starts at {level} beside another", step.number);
    }
}

/// SR-07: what changes beside the intensity while output is on raises neither phase charge nor r.m.s. current.
fn sr_07(belief: &mut Belief, reached: &mut Reached, key: (u8, u8), before: u32, setpoint: Setpoint) {
    let Setpoint::Pulses { current, width, period } = setpoint else { return };
    let (current, pulses) = (f64::from(current.microamps()), (width.micros(), period.micros()));
    let charge = current * f64::from(pulses.0);
    let square = current * current * 2.0 * f64::from(pulses.0) / f64::from(pulses.1);
    if let Some(last) = belief.load.insert(key, Load { charge, square, pulses }) {
        if pulses != last.pulses {
            reached.hit("SR-07: other pulses on the same output");
        }
        if before > 0 {
            reached.hit("SR-07: setpoints beside the one before");
            assert!(
                pulses == last.pulses || (charge <= last.charge && square <= last.square),
                "SR-07: {:?} became {pulses:?} µs under load",
                last.pulses
            );
        }
    }
}

/// Law 2: rise ≤ ramp, against the setpoint before.
fn law_2(step: &Step, before: u32, level: u32, passed: Duration) {
    let rise = level - before;
    let cycles = step.stimulation.is_some_and(|stimulation| stimulation.cycle.is_some());
    let (most, pause, unit) = match step.target {
        Intensity::Speed(_) if before == 0 => (1_000, 0, "raw"),
        Intensity::Speed(_) => (60, 100, "raw"),
        Intensity::Level(_) => (1, if before == 0 { 0 } else { 2_000 }, "levels"),
        Intensity::Current(_) if cycles => (2_000, if before == 0 { 0 } else { 50 }, "µA"),
        Intensity::Current(_) => (500, if before == 0 { 0 } else { 100 }, "µA"),
    };
    assert!(rise <= most, "law 2: {rise} {unit} in one command");
    assert!(before > 0 || unit != "raw" || level == 1_000, "law 2: 0 to the floor is one step, not {level}");
    assert!(passed >= Duration::from_millis(pause), "law 2: {rise} {unit} after {passed:?}");
}

/// Law 2 for a program: from zero it climbs no faster than titration, or than its envelope in the protocol's ramp-up.
fn law_2_program(belief: &mut Belief, step: &Step, key: (u8, u8), at: Mono, before: u32, level: u32) {
    let Some(cycle) = step.stimulation.and_then(|stimulation| stimulation.cycle) else {
        return;
    };
    let ramp_up = cycle.ramp_up.as_secs_f64().max(1.0);
    let bout = belief.bouts.entry(key).or_insert((at, 0, 0));
    if before == 0 {
        *bout = (at, bout.2, bout.2);
    }
    let passed = at.since(bout.0).as_secs_f64();
    // Up to the envelope of the bouts before: the ramp, never under 1 s. Above it: titration on the plateau.
    let titrated = 5_000.0 * passed + 500.0;
    // Whole increments of at most 2 mA: one at once, and the last one may overhang.
    let ramped = (f64::from(bout.1) + 2_000.0) * passed / ramp_up + 2_000.0;
    let most = if level <= bout.1 { titrated.max(ramped) } else { f64::from(bout.1) + titrated };
    assert!(
        f64::from(level) <= most,
        "law 2: a program at {level} µA {passed} s after zero, envelope {}",
        bout.1
    );
    bout.2 = bout.2.max(level);
}

/// Law 5: nothing rises while an interlock is open or its intent is not durable.
fn law_5(belief: &Belief, at: Mono, device: u8, step: &Step, level: u32) {
    assert!(belief.guard && belief.clock && belief.record && belief.read_back, "law 5: an interlock is open");
    assert!(at < belief.lease_until, "law 5: a rise without the operator's lease");
    assert!(belief.up.get(&device).copied().unwrap_or(false), "law 5: a rise without a link");
    assert!(belief.held.contains(&device), "law 5: a rise on a unit that the guard cannot stop");
    let covered = belief
        .intents
        .get(&step.number)
        .is_some_and(|intents| intents.iter().any(|(seq, to)| *seq <= belief.durable && *to >= level));
    assert!(covered, "law 5: {level} of step {} has no durable intent", step.number);
}

/// Seconds of a compiled budget, written down a second time on purpose: area and day, session, day.
fn budgets_s(modality: Modality) -> (f64, f64, f64) {
    match modality {
        Modality::Tens => (3_600.0, f64::INFINITY, 7_200.0),
        Modality::Nmes => (1_800.0, f64::INFINITY, 3_600.0),
        Modality::Percussion => (120.0, 900.0, 1_800.0),
    }
}

/// Law 6 for budgets: while a step is on, what was ordered on its area, in this session and today lies within its limits,
/// with what was given before. Channels at once count each on their area, and once for the client.
fn law_6_budgets(plan: &Plan, belief: &Belief, at: Mono) {
    let running =
        |step: &Step| belief.on.get(&step.number).and_then(|on| on.0).map(|since| (step.number, since, at));
    let spans: Vec<(u8, Mono, Mono)> =
        belief.spans.iter().copied().chain(plan.steps.iter().filter_map(running)).collect();
    let of = |number: u8| plan.steps.iter().find(|step| step.number == number).unwrap();
    for step in plan.steps.iter().filter(|step| running(step).is_some()) {
        let own = |pick: fn(&Limits) -> Option<Duration>| {
            let owners = LimitOwner::ALL.iter().filter_map(|owner| pick(&step.chain.get(*owner).limits));
            owners.map(|limit| limit.as_secs_f64()).fold(f64::INFINITY, f64::min)
        };
        let (area, session, day) = budgets_s(step.modality);
        let same: Vec<_> =
            spans.iter().filter(|(number, ..)| of(*number).modality == step.modality).collect();
        for half in [Side::Left, Side::Right] {
            let on_half = |place: &Place| {
                place.area == step.place.area
                    && (place.side == half || matches!(place.side, Side::Midline | Side::Bilateral))
            };
            if !on_half(&step.place) {
                continue;
            }
            let here = same.iter().filter(|(number, ..)| on_half(&of(*number).place));
            let ordered: f64 = here.map(|(_, from, until)| until.since(*from).as_secs_f64()).sum();
            let before = belief.spent.areas.get(&(step.modality, step.place.area.clone(), half));
            let used = ordered + before.map_or(0.0, |on| on.time.as_secs_f64());
            let limit = area.min(own(|limits| limits.area_time));
            assert!(used <= limit + 1e-6, "law 6: {used} s on {} of {limit}", step.place);
        }
        let mut edges: Vec<(Mono, i32)> =
            same.iter().flat_map(|(_, from, until)| [(*from, 1), (*until, -1)]).collect();
        edges.sort_unstable();
        let (mut depth, mut since, mut client) = (0, Mono::ORIGIN, 0.0);
        for (edge, change) in edges {
            if depth > 0 {
                client += edge.since(since).as_secs_f64();
            }
            (depth, since) = (depth + change, edge);
        }
        let limit = session.min(own(|limits| limits.session_time));
        assert!(client <= limit + 1e-6, "law 6: {client} s in this session of {limit}");
        let before = belief.spent.day.get(&step.modality).map_or(0.0, Duration::as_secs_f64);
        let limit = day.min(own(|limits| limits.day_time));
        assert!(client + before <= limit + 1e-6, "law 6: {client} s and {before} s before, of {limit} today");
    }
}

/// Law 6: zero at or before every duration limit.
fn law_6(plan: &Plan, belief: &Belief, at: Mono) {
    for step in &plan.steps {
        let Some((since, used)) = belief.on.get(&step.number) else { continue };
        let running = since.map_or(0.0, |since| at.since(since).as_secs_f64());
        let limit = step.duration.as_secs_f64();
        assert!(
            used + running <= limit + 1e-6,
            "law 6: step {} on for {} s of {limit}",
            step.number,
            used + running
        );
    }
}

/// Law 7: the ledger's upper bound is never below what the units really gave, its lower bound never above.
pub fn law_7(bench: &Bench) -> Reached {
    let mut reached = Reached::default();
    let mut most: BTreeMap<(usize, u8), (f64, f64, f64)> = BTreeMap::new();
    let mut least = most.clone();
    for (_, entry) in bench.entries() {
        let Entry::Dose(dose) = entry else { continue };
        reached.hit("law 7: doses");
        let planned = bench.governor.plan().steps.iter().find(|step| step.number == dose.step);
        assert_eq!(planned.map(|step| &step.place), Some(&dose.place), "SR-18: a dose on another area");
        if dose.evidence == Evidence::Uncertain {
            reached.hit("law 7: uncertain doses");
        }
        let key = (usize::from(dose.device.0), dose.channel.0);
        let add = |sum: &mut (f64, f64, f64), on: u64, charge: u64, speed: u64| {
            sum.0 += on as f64 * 1e-6;
            sum.1 += charge as f64 * 1e-6;
            sum.2 += speed as f64 * 1e-6;
        };
        let (low, high) = (dose.charge.0.picocoulombs(), dose.charge.1.picocoulombs());
        add(most.entry(key).or_default(), dose.on_us.1, high, dose.speed_us.1);
        add(least.entry(key).or_default(), dose.on_us.0, low, dose.speed_us.0);
        assert!(dose.until >= dose.from, "a dose ends before it begins");
    }
    for (device, unit) in bench.units.iter().enumerate() {
        for (channel, truth) in &unit.truth {
            let high = most.get(&(device, *channel)).copied().unwrap_or_default();
            let low = least.get(&(device, *channel)).copied().unwrap_or_default();
            for (name, low, truth, high) in [
                ("on s", low.0, truth.0, high.0),
                ("charge µC", low.1, truth.1, high.1),
                ("raw·s", low.2, truth.2, high.2),
            ] {
                let slack = 1e-6 * truth.max(1.0);
                assert!(
                    high + slack >= truth,
                    "law 7: unit {device} channel {channel} {name}: most {high}, truth {truth}"
                );
                assert!(
                    low <= truth + slack,
                    "law 7: unit {device} channel {channel} {name}: least {low}, truth {truth}"
                );
            }
        }
    }
    reached
}
