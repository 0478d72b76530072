//! The oracle of the governor's laws (1–10; 11 and 12 are the drivers'). It reads what went in and what came out, keeps
//! its own books in floating point, and shares no code with the governor.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use doseward::governor::{Act, Entry, ForGuard, Governor, Input, Output, RecordHealth};
use doseward::model::area::{Place, Side};
use doseward::model::budget::Spent;
use doseward::model::command::{Command, Intensity, Setpoint};
use doseward::model::limit::{LimitOwner, Limits};
use doseward::model::plan::{Plan, Step};
use doseward::model::protocol::Modality;
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
            doseward::model::capability::IntensityRange::Speed { max, .. } => f64::from(max.raw()),
            _ => 0.0,
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
}

/// What a run reached, for the coverage line.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    pub rises: usize,
    pub lowered: usize,
    pub stops: usize,
    pub refusals: usize,
    pub voids: usize,
    pub doses: usize,
    pub uncertain: usize,
    pub resets: usize,
    pub program_rises: usize,
    pub ends: usize,
    pub beats: usize,
    pub budgets: usize,
    pub resolved: usize,
}

impl Reached {
    pub fn add(&mut self, other: &Self) {
        self.rises += other.rises;
        self.lowered += other.lowered;
        self.stops += other.stops;
        self.refusals += other.refusals;
        self.voids += other.voids;
        self.doses += other.doses;
        self.uncertain += other.uncertain;
        self.resets += other.resets;
        self.program_rises += other.program_rises;
        self.ends += other.ends;
        self.budgets += other.budgets;
        self.resolved += other.resolved;
        self.beats += other.beats;
    }
}

fn step_of(plan: &Plan, device: u8, channel: u8) -> &Step {
    plan.steps
        .iter()
        .find(|step| step.device.0 == device && step.channel.0 == channel)
        .expect("a step drives it")
}

/// Laws 1–6 over the log of one run. Returns what was reached.
pub fn check_log(bench: &Bench) -> Reached {
    let plan = bench.governor.plan();
    let mut belief = Belief { spent: bench.settings.spent.clone(), ..Belief::default() };
    let mut reached = Reached::default();
    let mut said = bench.said.iter().peekable();
    // The log of outputs is split by replaying the inputs, so that each call's outputs are known.
    let mut replay = Governor::new(bench.prescribed.clone(), bench.settings.clone(), Mono::ORIGIN);
    for (at, input) in &bench.inputs {
        believe(&mut belief, *at, input);
        let mut out = Vec::new();
        replay.advance(*at, input.clone(), &mut out);
        for output in &out {
            // Law 8: same inputs, same outputs.
            let logged: &Said = said.next().expect("law 8: the replay says more than the run did");
            assert_eq!(&logged.output, output, "law 8: the replay differs at {at}");
        }
        if matches!(input, Input::Stop { .. }) {
            law_3(plan, &out);
        }
        for output in &out {
            read(plan, &mut belief, &mut reached, *at, output);
        }
    }
    assert!(said.next().is_none(), "law 8: the run says more than the replay");
    reached
}

fn believe(belief: &mut Belief, at: Mono, input: &Input) {
    match input {
        Input::Guard { present } => {
            belief.guard = *present;
            if !present {
                belief.held.clear();
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
        }
        Input::Durable { seq } => belief.durable = belief.durable.max(seq.0),
        Input::Request(request) => {
            if let Act::ReadBack { client } = &request.act {
                belief.read_back = client.as_str() == "C-1";
            }
        }
        _ => {}
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
            reached.stops += 1;
            // A stop resets the envelope: what rises after it needs an intent of its own.
            for step in plan.steps.iter().filter(|step| step.device == *device) {
                belief.intents.remove(&step.number);
            }
            let channels: Vec<(u8, u8)> =
                belief.setpoints.keys().filter(|(of, _)| *of == device.0).copied().collect();
            for key in channels {
                belief.setpoints.insert(key, (0, at));
                belief.bouts.remove(&key);
                let step = step_of(plan, key.0, key.1);
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
                let (step, level) = (step_of(plan, device.0, channel.0), allowed.intensity().magnitude());
                assert!(step.start_at_device, "law 5: step {} may not be started at the unit", step.number);
                assert!(f64::from(level) <= most(plan, step), "law 1: a hand may start step {}", step.number);
                assert!(!belief.latched, "law 4: a hand may start while all is stopped");
                law_5(belief, at, device.0, step, level);
            }
            Command::Finish { channel, .. } => {
                belief.setpoints.insert((device.0, channel.0), (0, at));
                let number = step_of(plan, device.0, channel.0).number;
                let on = belief.on.entry(number).or_default();
                if let Some(since) = on.0.take() {
                    on.1 += at.since(since).as_secs_f64();
                    belief.spans.push((number, since, at));
                }
            }
            Command::Stop { .. } => panic!("a stop goes by its own lane"),
        },
        Output::Append { seq, entry, .. } => read_entry(belief, reached, seq.0, entry),
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
        ForGuard::Hold { .. } | ForGuard::Stopping { .. } => {}
        ForGuard::Armed { device } => {
            if belief.watched.is_empty() {
                belief.beat = Some(at);
            }
            belief.watched.insert(device.0);
        }
        ForGuard::Lease { device, until } => {
            assert!(belief.watched.contains(&device.0), "a lease of a unit that the guard does not watch");
            belief.lease.insert(device.0, until);
        }
        ForGuard::Released { device, .. } => {
            belief.watched.remove(&device.0);
        }
        ForGuard::Beat => {
            let silent = belief.beat.replace(at).map_or(Duration::ZERO, |last| at.since(last));
            assert!(
                belief.watched.is_empty() || silent <= Duration::from_millis(101),
                "the guard heard nothing for {silent:?} at {at}"
            );
            reached.beats += 1;
        }
    }
}

fn read_entry(belief: &mut Belief, reached: &mut Reached, seq: u64, entry: &Entry) {
    match entry {
        Entry::Intent { step, to, .. } => {
            belief.intents.entry(*step).or_default().push((seq, to.intensity().magnitude()));
        }
        Entry::IntentVoid { intent, .. } => {
            reached.voids += 1;
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
            reached.resets += 1;
        }
        Entry::Refused { .. } => reached.refusals += 1,
        Entry::Dose(dose) => {
            reached.doses += 1;
            if dose.evidence == doseward::model::dose::Evidence::Uncertain {
                reached.uncertain += 1;
            }
        }
        Entry::Stopped { .. } => reached.ends += 1,
        Entry::BudgetUsed { .. } => reached.budgets += 1,
        Entry::Resolved { .. } => reached.resolved += 1,
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
    let step = step_of(plan, key.0, key.1);
    let level = setpoint.intensity().magnitude();
    let (before, since) = belief.setpoints.get(&key).copied().unwrap_or((0, Mono::ORIGIN));
    let human = match setpoint.intensity() {
        Intensity::Current(current) => f64::from(current.microamps()) / 1000.0,
        other => f64::from(other.magnitude()),
    };
    assert!(
        human <= most(plan, step) + 1e-6,
        "law 1: step {} at {human}, most {}",
        step.number,
        most(plan, step)
    );
    if level > before {
        let limit = belief.operator.get(&step.number).copied().flatten();
        assert!(limit.is_none_or(|limit| level <= limit), "law 1: above the operator's own limit");
        law_2(step, before, level, at.since(since));
        law_2_program(belief, step, key, at, before, level);
        assert!(!belief.latched, "law 4: a rise while all is stopped");
        law_5(belief, at, key.0, step, level);
        reached.rises += 1;
        if step.stimulation.is_some_and(|stimulation| stimulation.cycle.is_some()) && level - before > 500 {
            reached.program_rises += 1;
        }
    } else {
        reached.lowered += 1;
    }
    belief.setpoints.insert(key, (level, at));
    let on = belief.on.entry(step.number).or_default();
    if level > 0 && on.0.is_none() {
        on.0 = Some(at);
    }
}

/// Law 2: rise ≤ ramp, against the setpoint before.
fn law_2(step: &Step, before: u32, level: u32, passed: Duration) {
    let rise = level - before;
    let cycles = step.stimulation.is_some_and(|stimulation| stimulation.cycle.is_some());
    match step.modality {
        Modality::Percussion if before == 0 => assert_eq!(level, 1000, "law 2: 0 to the floor is one step"),
        Modality::Percussion => {
            assert!(rise <= 60, "law 2: {rise} raw in one command");
            assert!(passed >= Duration::from_millis(100), "law 2: {rise} raw after {passed:?}");
        }
        _ if cycles => {
            assert!(rise <= 2_000, "law 2: {rise} µA in one increment");
            assert!(passed >= Duration::from_millis(50) || before == 0, "law 2: {rise} µA after {passed:?}");
        }
        _ => {
            assert!(rise <= 500, "law 2: {rise} µA in one command");
            assert!(passed >= Duration::from_millis(100) || before == 0, "law 2: {rise} µA after {passed:?}");
        }
    }
}

/// Law 2 for a program: from zero it climbs no faster than titration, or than its envelope in one second.
fn law_2_program(belief: &mut Belief, step: &Step, key: (u8, u8), at: Mono, before: u32, level: u32) {
    if step.stimulation.is_none_or(|stimulation| stimulation.cycle.is_none()) {
        return;
    }
    let bout = belief.bouts.entry(key).or_insert((at, 0, 0));
    if before == 0 {
        *bout = (at, bout.2, bout.2);
    }
    let passed = at.since(bout.0).as_secs_f64();
    // Up to the envelope of the bouts before: the ramp, not under 1 s. Above it: titration on the plateau.
    let titrated = 5_000.0 * passed + 500.0;
    // Whole increments of at most 2 mA: one at once, and the last one may overhang.
    let ramped = (f64::from(bout.1) + 2_000.0) * passed + 2_000.0;
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
pub fn law_7(bench: &Bench) {
    let mut most: BTreeMap<(usize, u8), (f64, f64, f64)> = BTreeMap::new();
    let mut least = most.clone();
    for (_, entry) in bench.entries() {
        let Entry::Dose(dose) = entry else { continue };
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
}
