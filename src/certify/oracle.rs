//! The judge of certified sessions. It believes what it is told of inputs, entries, bytes on the wire and the simulators'
//! truth, keeps its own books in floating point, and shares no code with the governor, its limits or its ledger.
//!
//! Each law is numbered as in `tests/support/laws.rs`:
//!
//! | law | judged from |
//! | --- | --- |
//! | 1 setpoint ≤ tightest limit, 2 rise ≤ ramp | bytes against the plan's own bounds |
//! | 3 a stop is granted in every state, 9 it waits for nothing | bytes in the call of the stop; truth at zero in time |
//! | 4 nothing rises while stopped, 5 or while an interlock is open or the intent is not durable | bytes, inputs, entries |
//! | 6 zero at every duration limit | bytes |
//! | 7 record min ≤ truth ≤ record max, per output and area | truth, entries |
//! | 8 same inputs, same outputs | a second run |
//! | 10 an allowed request is granted in its time | inputs, bytes |
//! | 11 a stop frame raises nothing | bytes, truth |
//! | 12 without a lease nothing that keeps output alive leaves | bytes, inputs |
//!
//! Beside them: 13 the record's chain verifies, 14 a reset is accepted when every unit has proven its stop (SR-45), 15 a
//! unit whose link has come up hears a stop before anything else.

mod dose;
mod lease;
mod output;

use std::collections::BTreeMap;
use std::time::Duration;

use super::bounds::{self, Bounds};
use super::kit::Family;
use super::tally::Tally;
use super::wire::{self, CHANNELS, Meaning};
use crate::governor::{Act, Entry, Input, RecordHealth, Refusal, Request, RequestId, Seq};
use crate::model::area::Place;
use crate::model::command::{Channel, DeviceId, Generation, Intensity};
use crate::model::packet::Purpose;
use crate::model::plan::Plan;
use crate::model::protocol::Modality;
use crate::model::report::{Report, StopProgress};
use crate::sim::Delivered;
use crate::units::Mono;

use lease::Lease;
use output::Output;

/// A broken law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which law; see the table above.
    pub law: u8,
    /// When, in the session.
    pub at: Mono,
    /// What was seen.
    pub what: String,
}

/// From the stop byte to zero, by link (design 4).
const ZERO_SERIAL: Duration = Duration::from_millis(250);
const ZERO_RADIO: Duration = Duration::from_millis(500);
/// What was cleared before an interlock opened may be on its way to the wire for as long as a packet lives.
const PACKET_LIFE: Duration = Duration::from_millis(250);
/// A unit that is being stopped hears a stop frame at least this often (design 3.7).
const STOP_RHYTHM: Duration = Duration::from_millis(550);
/// More is not kept: one would do.
const FOUND_MAX: usize = 20;

/// One unit as the oracle sees it.
#[derive(Debug)]
struct Unit {
    family: Family,
    up: bool,
    /// Nothing has been written since the link came up.
    silent: bool,
    /// Something is or was wrong with the unit or its link until then: it need not obey in time.
    faulted_until: Mono,
    /// A person has used its own button since it was last at zero.
    by_hand: bool,
    by_hand_at: Mono,
    /// A stop of everything was asked and has not been written.
    stop_asked: Option<Mono>,
    /// A stop was written while it gave output.
    stopping: Option<Mono>,
    /// Its newest frame that does anything is a stop, written then.
    stopped_at: Option<Mono>,
    /// The guard process can stop it by its own way.
    held: bool,
    /// A step of it is armed.
    armed: bool,
    /// It said that its epoch has begun.
    ready: bool,
    /// The newest stop that it, or a person, has proven.
    proven: Generation,
    outputs: [Output; CHANNELS],
}

/// One step as the oracle sees it.
#[derive(Clone, Debug, Default)]
struct Step {
    /// Durable or not: entry and the most it covers, since the last stop.
    intents: Vec<(u64, u32)>,
    operator: Option<u32>,
    locked_until: Mono,
    /// After discomfort a program returns to no more than this.
    eased: Option<f64>,
    /// Until when discomfort at any step of the area may keep this one from rising.
    area_locked_until: Mono,
    /// From when and until when discomfort at another step of the same place must, and what a program may return to.
    beside: Option<(Mono, Mono, f64)>,
    /// Seconds with output before the present bout, and its begin.
    used: f64,
    on_since: Option<Mono>,
    /// It has ended; its bout does when its output does.
    over: bool,
    wish: Option<Wish>,
}

/// An allowed request that has to come true.
#[derive(Clone, Copy, Debug)]
struct Wish {
    request: RequestId,
    goal: u32,
    due: Mono,
}

/// Output of one modality in the session: two channels at once count once.
#[derive(Clone, Copy, Debug)]
struct InSession {
    modality: Modality,
    channels: u32,
    since: Mono,
    used: f64,
}

impl InSession {
    fn used_at(&self, now: Mono) -> f64 {
        let running = if self.channels > 0 { now.since(self.since).as_secs_f64() } else { 0.0 };
        self.used + running
    }

    fn on(&mut self, now: Mono) {
        (self.used, self.since) = (self.used_at(now), now);
        self.channels += 1;
    }

    fn off(&mut self, now: Mono) {
        (self.used, self.since) = (self.used_at(now), now);
        self.channels = self.channels.saturating_sub(1);
    }
}

/// The judge of one session.
#[derive(Debug)]
pub(crate) struct Oracle {
    plan: Plan,
    bounds: Vec<Bounds>,
    units: Vec<Unit>,
    steps: Vec<Step>,
    sessions: [InSession; 3],
    /// Seconds of output on an area before the daemon was started anew: they count on.
    before: BTreeMap<(Modality, Place), f64>,
    lease: Lease,
    /// Longest time from asking to stop bytes.
    stop_within: Duration,
    guard: bool,
    clock: bool,
    read_back: bool,
    record: RecordHealth,
    /// When one of them was lost.
    lost_at: Mono,
    latched: bool,
    latched_at: Mono,
    latch: Generation,
    durable: u64,
    /// What was reached.
    pub(crate) tally: Tally,
    /// Laws broken.
    pub(crate) found: Vec<Violation>,
}

impl Oracle {
    /// Makes the judge of a session of this plan.
    pub(crate) fn new(plan: Plan, families: &[Family], lease: Duration, stop_within: Duration) -> Self {
        let bounds = plan.steps.iter().map(|step| bounds::of(&plan, step)).collect();
        let units = families.iter().map(|family| Unit::new(*family)).collect();
        let steps = vec![Step::default(); plan.steps.len()];
        Self {
            plan,
            bounds,
            units,
            steps,
            sessions: [Modality::Tens, Modality::Nmes, Modality::Percussion].map(|modality| InSession {
                modality,
                channels: 0,
                since: Mono::ORIGIN,
                used: 0.0,
            }),
            before: BTreeMap::new(),
            lease: Lease::new(lease, stop_within),
            stop_within,
            guard: false,
            clock: false,
            read_back: false,
            record: RecordHealth::Slow,
            lost_at: Mono::ORIGIN,
            latched: false,
            latched_at: Mono::ORIGIN,
            latch: Generation(0),
            durable: 0,
            tally: Tally::default(),
            found: Vec::new(),
        }
    }

    fn broken(&mut self, law: u8, at: Mono, what: String) {
        if self.found.len() < FOUND_MAX {
            self.found.push(Violation { law, at, what });
        }
    }

    /// A unit, or its link, is out of order until `until`.
    pub(crate) fn fault(&mut self, unit: usize, until: Mono) {
        for step in self.steps_of(unit) {
            if let Some(step) = self.steps.get_mut(step) {
                step.wish = None;
            }
        }
        if let Some(unit) = self.units.get_mut(unit) {
            unit.faulted_until = unit.faulted_until.max(until);
            unit.stopping = None;
        }
    }

    /// A person uses the button of a gun.
    pub(crate) fn hand(&mut self, now: Mono, unit: usize) {
        if let Some(unit) = self.units.get_mut(unit) {
            (unit.by_hand, unit.by_hand_at) = (true, now);
        }
    }

    /// The part that drives the units is dead; its successor begins a new session of the same plan.
    pub(crate) fn crash(&mut self, now: Mono) {
        for unit in 0..self.units.len() {
            self.end_bouts(now, unit);
            self.fault(unit, now.saturating_add(Duration::from_secs(2)));
            if let Some(unit) = self.units.get_mut(unit) {
                (unit.up, unit.held, unit.armed) = (false, false, false);
                (unit.ready, unit.stop_asked) = (false, None);
                unit.proven = Generation(0);
            }
        }
        for (planned, step) in self.plan.steps.iter().zip(&self.steps) {
            let key = (planned.modality, planned.place.clone());
            *self.before.entry(key).or_default() += step.used;
        }
        self.steps.fill(Step::default());
        for known in &mut self.sessions {
            (known.channels, known.used) = (0, 0.0);
        }
        (self.guard, self.clock, self.read_back, self.latched, self.durable) =
            (false, false, false, false, 0);
        (self.record, self.lost_at) = (RecordHealth::Slow, now);
        self.lease.end(now);
    }

    /// Returns the positions of the steps that use a unit.
    fn steps_of(&self, unit: usize) -> Vec<usize> {
        let steps = self.plan.steps.iter().enumerate();
        steps.filter(|(_, step)| usize::from(step.device.0) == unit).map(|(at, _)| at).collect()
    }

    fn index(&self, number: u8) -> Option<usize> {
        self.plan.steps.iter().position(|step| step.number == number)
    }

    fn interlocks_closed(&self) -> bool {
        self.guard && self.clock && self.read_back && self.record == RecordHealth::Healthy
    }

    // ---- what happens ----------------------------------------------------------------------------------------------

    /// Hears an input before the governor does.
    pub(crate) fn input(&mut self, now: Mono, input: &Input) {
        let before = self.interlocks_closed();
        match input {
            Input::Guard { present } => {
                self.guard = *present;
                if !present {
                    self.units.iter_mut().for_each(|unit| unit.held = false);
                }
            }
            Input::GuardHolds { device, holds } => {
                let guard = self.guard;
                if let Some(unit) = self.units.get_mut(usize::from(device.0)) {
                    unit.held = *holds && guard;
                }
                if !holds {
                    self.forget_wishes();
                }
            }
            Input::ClockSane(sane) => self.clock = *sane,
            Input::Record(health) => self.record = *health,
            Input::Heartbeat { issued } => self.lease.heartbeat(now, *issued),
            Input::Unseen => self.lease.end(now),
            Input::Link { device, up } => self.link(now, usize::from(device.0), *up),
            Input::Durable { seq } => self.durable = self.durable.max(seq.0),
            Input::Request(request) => self.request(now, request),
            Input::Stop { .. } => self.stop_all(now),
            Input::Report { device, report } => self.report(*device, report),
            Input::LockedOut { .. } => self.forget_wishes(),
            // Judged when a step is armed only; the rest says nothing of output.
            Input::AlarmOutput(_) | Input::Tick | Input::Suspended | Input::Close => {}
        }
        if before && !self.interlocks_closed() {
            self.lost_at = now;
        }
        if !self.interlocks_closed() || matches!(input, Input::Unseen | Input::Suspended | Input::Stop { .. })
        {
            self.forget_wishes();
        }
    }

    /// A link is there at this moment, whether or not the part that decides knows it yet: nothing was said on it.
    pub(crate) fn connected(&mut self, at: usize) {
        if let Some(unit) = self.units.get_mut(at) {
            unit.silent = true;
        }
    }

    fn forget_wishes(&mut self) {
        for step in &mut self.steps {
            step.wish = None;
        }
    }

    fn link(&mut self, now: Mono, at: usize, up: bool) {
        if !up {
            self.end_bouts(now, at);
            self.fault(at, now);
        }
        if let Some(unit) = self.units.get_mut(at) {
            (unit.up, unit.held) = (up, false);
            (unit.armed, unit.ready, unit.stop_asked) = (false, false, None);
        }
    }

    fn stop_all(&mut self, now: Mono) {
        self.latched = true;
        self.latched_at = now;
        // A unit that has not been written to on this link hears its stop first of all (law 15); one that is being
        // stopped hears the next frame in its rhythm.
        let hears = |unit: &&mut Unit| {
            let stopping = unit.stopped_at.is_some_and(|at| now.since(at) <= STOP_RHYTHM);
            unit.up && !unit.silent && !stopping
        };
        for unit in self.units.iter_mut().filter(hears) {
            unit.stop_asked.get_or_insert(now);
        }
    }

    fn report(&mut self, device: DeviceId, report: &Report) {
        let Some(unit) = self.units.get_mut(usize::from(device.0)) else {
            return;
        };
        if let Report::Ready { .. } = report {
            unit.ready = true;
        } else if let Report::EpochEnded { .. } = report {
            unit.ready = false;
        }
    }

    fn request(&mut self, now: Mono, request: &Request) {
        if let Act::ReadBack { client } = &request.act {
            self.read_back = *client == self.plan.client;
            if !self.read_back {
                self.lost_at = now;
            }
        }
        let Some(at) = request.act.step().and_then(|number| self.index(number)) else {
            return;
        };
        let wish = self.wish(now, at, request);
        if let Some(step) = self.steps.get_mut(at) {
            step.wish = wish;
        }
    }

    /// Returns what must come true of a request: a rise that nothing speaks against.
    fn wish(&self, now: Mono, at: usize, request: &Request) -> Option<Wish> {
        let Act::Set { intensity, reason: Some(_), .. } = &request.act else {
            return None;
        };
        let (planned, step, bounds) = (self.plan.steps.get(at)?, self.steps.get(at)?, self.bounds.get(at)?);
        let unit = self.units.get(usize::from(planned.device.0))?;
        let output = unit.outputs.get(usize::from(planned.channel.0))?;
        let asked = intensity.magnitude();
        let grid = if matches!(intensity, Intensity::Current(_)) { 500 } else { 1 };
        let goal = asked - asked % grid;
        let allowed = step.operator.map_or(bounds.most, |limit| bounds.most.min(f64::from(limit)));
        // A limit between two steps of the unit allows the lower one.
        let grid = f64::from(grid);
        let allowed = (allowed / grid).floor() * grid;
        let clear = self.interlocks_closed()
            && !self.latched
            && self.lease.alive(now)
            && (unit.up && unit.armed && unit.ready && now >= unit.faulted_until && !unit.by_hand)
            && output.step == Some(at)
            && now >= step.area_locked_until;
        let reachable =
            f64::from(asked) <= allowed && f64::from(goal) >= bounds.floor && goal > output.level();
        if !clear || !reachable {
            return None;
        }
        let mut seconds = 2.0 + 1.3 * f64::from(goal.saturating_sub(output.level())) / bounds.rise.max(0.1);
        if let Some(cycle) = planned.stimulation.and_then(|pulses| pulses.cycle) {
            let whole = (cycle.ramp_up + cycle.on + cycle.ramp_down + cycle.off).as_secs_f64();
            seconds = whole * (2.0 + seconds / cycle.on.as_secs_f64());
        }
        let left = bounds.duration - step.used - seconds_since(step.on_since, now);
        (left > seconds + 1.0).then(|| Wish {
            request: request.id,
            goal,
            due: now.saturating_add(Duration::from_secs_f64(seconds)),
        })
    }

    // ---- what goes on record ---------------------------------------------------------------------------------------

    /// Hears an entry when it is appended.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the oracle reads what it judges by and nothing else")]
    pub(crate) fn entry(&mut self, now: Mono, seq: Seq, entry: &Entry) {
        self.tally.entries += 1;
        match entry {
            Entry::Armed { step, .. } => self.armed(now, *step),
            Entry::Intent { step, to, limit, .. } => {
                let (owner, allowed) = limit;
                self.tally.reach(*owner, to.intensity().magnitude() >= allowed.magnitude());
                if let Some(step) = self.index(*step).and_then(|at| self.steps.get_mut(at)) {
                    step.intents.push((seq.0, to.intensity().magnitude()));
                }
            }
            Entry::IntentVoid { intent, .. } => {
                for step in &mut self.steps {
                    if step.intents.iter().any(|(known, _)| *known == intent.0) {
                        step.wish = None;
                    }
                    step.intents.retain(|(known, _)| *known != intent.0);
                }
            }
            Entry::OperatorLimit { step, limit, .. } => {
                if let Some(step) = self.index(*step).and_then(|at| self.steps.get_mut(at)) {
                    (step.operator, step.wish) = (limit.map(Intensity::magnitude), None);
                }
            }
            Entry::Comfort { step, score, .. } if score.score() >= 7 => self.discomfort(now, *step),
            Entry::Acted { step, what: "less", .. } => self.discomfort(now, *step),
            Entry::Stopped { step, .. } | Entry::Held { step, .. } => self.step_over(now, *step),
            Entry::StopAll { generation, .. } => self.latch = *generation,
            Entry::StatedStopped { device, .. } => self.proven(*device, self.latch),
            Entry::StopProgress { device, generation, progress: StopProgress::Confirmed, .. } => {
                self.proven(*device, *generation);
            }
            Entry::Reset { generation, .. } => self.reset(now, *generation),
            Entry::Refused { request, why, .. } => self.refused(now, *request, why),
            Entry::EpochEnded { device, .. } => {
                if let Some(unit) = self.units.get_mut(usize::from(device.0)) {
                    unit.ready = false;
                }
            }
            _ => {}
        }
    }

    fn armed(&mut self, now: Mono, number: u8) {
        let Some(at) = self.index(number) else {
            return;
        };
        let Some(planned) = self.plan.steps.get(at) else {
            return;
        };
        let (unit, channel) = (usize::from(planned.device.0), usize::from(planned.channel.0));
        if let Some(step) = self.steps.get_mut(at) {
            step.over = false;
        }
        if let Some(unit) = self.units.get_mut(unit) {
            unit.armed = true;
            if let Some(output) = unit.outputs.get_mut(channel) {
                output.take_place(now, at);
            }
        }
    }

    fn discomfort(&mut self, now: Mono, number: u8) {
        let Some(at) = self.index(number) else {
            return;
        };
        let felt = self.output(at).map(Output::felt);
        let until = now.saturating_add(Duration::from_secs(30));
        let Some(place) = self.plan.steps.get(at).map(|step| step.place.clone()) else {
            return;
        };
        for other in 0..self.steps.len() {
            let output = self.output(other).filter(|output| output.step == Some(other));
            let envelope = output.map_or(0, Output::envelope);
            let there = self.plan.steps.get(other).filter(|step| step.place.area == place.area);
            let Some((planned, step)) = there.zip(self.steps.get_mut(other)) else {
                continue;
            };
            (step.wish, step.area_locked_until) = (None, until);
            if other != at && planned.place == place {
                step.beside = Some((now.saturating_add(PACKET_LIFE), until, f64::from(envelope)));
            }
        }
        if let Some(step) = self.steps.get_mut(at) {
            step.locked_until = until;
            step.eased = felt.map(|felt| 0.75 * f64::from(felt));
        }
    }

    fn output(&self, step: usize) -> Option<&Output> {
        let planned = self.plan.steps.get(step)?;
        self.units.get(usize::from(planned.device.0))?.outputs.get(usize::from(planned.channel.0))
    }

    fn step_over(&mut self, now: Mono, number: u8) {
        let Some(at) = self.index(number) else {
            return;
        };
        if let Some(step) = self.steps.get_mut(at) {
            step.wish = None;
            step.intents.clear();
            step.over = true;
        }
        let level = self.output(at).map_or(0, Output::level);
        if level == 0 {
            self.end_bout(now, at);
        }
    }

    fn proven(&mut self, device: DeviceId, generation: Generation) {
        if let Some(unit) = self.units.get_mut(usize::from(device.0)) {
            unit.proven = unit.proven.max(generation);
        }
    }

    fn reset(&mut self, now: Mono, generation: Generation) {
        self.latched = false;
        let early = self.units.iter().any(|unit| unit.proven < self.latch) || generation != self.latch;
        if early {
            self.broken(14, now, format!("stop {} was reset before every unit had proven it", generation.0));
        }
    }

    fn refused(&mut self, now: Mono, request: RequestId, why: &Refusal) {
        if let Refusal::Limit { owner, .. } = why {
            self.tally.reach(*owner, true);
        }
        let asked = self.steps.iter_mut().find_map(|step| step.wish.take_if(|wish| wish.request == request));
        if let (Some(wish), Refusal::Limit { allowed, .. }) = (asked, why) {
            let what = format!("{} was refused: at most {}", wish.goal, allowed.magnitude());
            self.broken(10, now, what);
        }
    }

    // ---- what is written -------------------------------------------------------------------------------------------

    /// Hears a frame at the moment it is written to a link.
    pub(crate) fn wire(&mut self, now: Mono, at: usize, purpose: Purpose, bytes: &[u8]) {
        let Some(unit) = self.units.get_mut(at) else {
            return;
        };
        let meaning = wire::read(unit.family, bytes);
        let first = std::mem::take(&mut unit.silent);
        if first && meaning != Meaning::Stop && purpose != Purpose::Stop {
            self.broken(15, now, format!("unit {at} was not told to stop first: {bytes:02x?}"));
        }
        match meaning {
            Meaning::Stop => self.stop_written(now, at),
            Meaning::Set(levels) => {
                if purpose == Purpose::Stop && levels.iter().any(|level| *level > 0) {
                    self.broken(11, now, format!("a stop of unit {at} sets {levels:?}"));
                }
                self.kept_alive(now, at, levels.iter().any(|level| *level > 0));
                self.set_written(now, at, &levels);
            }
            Meaning::KeepAlive => self.kept_alive(now, at, true),
            Meaning::Other => {}
        }
    }

    fn stop_written(&mut self, now: Mono, at: usize) {
        self.end_bouts(now, at);
        for step in self.steps_of(at) {
            if let Some(step) = self.steps.get_mut(step) {
                step.intents.clear();
                step.wish = None;
            }
        }
        let Some(unit) = self.units.get_mut(at) else {
            return;
        };
        (unit.stop_asked, unit.stopped_at) = (None, Some(now));
        (unit.armed, unit.ready) = (false, false);
        let gives = unit.outputs.iter().any(Output::gives);
        if gives && now >= unit.faulted_until {
            unit.stopping.get_or_insert(now);
        }
        for output in &mut unit.outputs {
            output.stop(now);
        }
        self.tally.stops += 1;
    }

    /// Law 12: what keeps output alive leaves only inside the lease, and only for a unit in use.
    fn kept_alive(&mut self, now: Mono, at: usize, alive: bool) {
        let Some(unit) = self.units.get(at).filter(|_| alive) else {
            return;
        };
        let armed = unit.armed;
        if !armed {
            self.broken(12, now, format!("unit {at} is kept alive and no step of it is in use"));
        } else if !self.lease.alive(now) {
            self.broken(12, now, format!("unit {at} is kept alive after the lease"));
        }
    }

    fn set_written(&mut self, now: Mono, at: usize, levels: &[u32; CHANNELS]) {
        if let Some(unit) = self.units.get_mut(at) {
            unit.stopped_at = None;
        }
        for (channel, level) in levels.iter().enumerate() {
            self.channel_written(now, at, channel, *level);
        }
    }

    fn channel_written(&mut self, now: Mono, at: usize, channel: usize, level: u32) {
        let Some(output) = self.units.get_mut(at).and_then(|unit| unit.outputs.get_mut(channel)) else {
            return;
        };
        let before = output.level();
        if level == before {
            return;
        }
        let Some(step) = output.step else {
            self.broken(5, now, format!("unit {at} output {channel} is set to {level} and was never armed"));
            return;
        };
        if level < before {
            output.lower(now, level);
            if level == 0 && self.steps.get(step).is_some_and(|step| step.over) {
                self.end_bout(now, step);
            }
            return;
        }
        self.judge_rise(now, (at, channel), step, level);
        let rate = self.bounds.get(step).map_or(0.0, |bounds| bounds.rise);
        let planned = self.plan.steps.get(step);
        let modality = planned.map(|planned| planned.modality);
        let cycle = planned.and_then(|planned| planned.stimulation).and_then(|pulses| pulses.cycle);
        let Some(output) = self.units.get_mut(at).and_then(|unit| unit.outputs.get_mut(channel)) else {
            return;
        };
        let floor = self.bounds.get(step).map_or(0.0, |bounds| bounds.floor);
        let fast = output.rise(now, level, (rate, floor), cycle);
        if let Some(what) = fast {
            self.broken(2, now, format!("unit {at} output {channel}: {what}"));
        }
        self.tally.rises += 1;
        if let Some(step) = self.steps.get_mut(step) {
            if step.on_since.is_none() {
                (step.on_since, step.over) = (Some(now), false);
                self.sessions
                    .iter_mut()
                    .filter(|known| Some(known.modality) == modality)
                    .for_each(|known| known.on(now));
            }
            step.wish.take_if(|wish| level >= wish.goal);
        }
    }

    /// Laws 1, 4 and 5 at a rise.
    fn judge_rise(&mut self, now: Mono, (at, channel): (usize, usize), step: usize, level: u32) {
        let (Some(known), Some(bounds)) = (self.steps.get(step), self.bounds.get(step)) else {
            return;
        };
        let amount = f64::from(level);
        let most = known.operator.map_or(bounds.most, |limit| bounds.most.min(f64::from(limit)));
        let covered = known.intents.iter().any(|(seq, to)| *seq <= self.durable && *to >= level);
        let program =
            self.plan.steps.get(step).is_some_and(|s| s.stimulation.is_some_and(|p| p.cycle.is_some()));
        let returns = |most: f64| program && amount <= most + 1.0;
        let own = now < known.locked_until && !known.eased.is_some_and(returns);
        let beside =
            known.beside.is_some_and(|(from, until, most)| now >= from && now < until && !returns(most));
        let locked = own || beside;
        let grace = now.since(self.lost_at) <= PACKET_LIFE;
        let unit_up = self.units.get(at).is_some_and(|unit| unit.up && unit.held && unit.armed);
        let broken = if amount > most + 1e-6 {
            Some((1, format!("{level} where {most:.0} is allowed")))
        } else if self.latched && now.since(self.latched_at) >= self.stop_within {
            Some((4, format!("{level} while everything is stopped")))
        } else if !self.interlocks_closed() && !grace {
            Some((5, format!("{level} while an interlock is open")))
        } else if !self.lease.alive(now) {
            Some((5, format!("{level} without the operator's lease")))
        } else if !unit_up {
            Some((5, format!("{level} for a unit that is not in use, or that the guard does not hold")))
        } else if !covered {
            Some((5, format!("{level} without a durable intent")))
        } else if locked {
            Some((5, format!("{level} after discomfort")))
        } else {
            None
        };
        self.tally.nearest(amount, most);
        if let Some((law, what)) = broken {
            self.broken(law, now, format!("unit {at} output {channel}: {what}"));
        }
    }

    // ---- what time does --------------------------------------------------------------------------------------------

    /// The call in which something happened is over.
    pub(crate) fn call_over(&mut self, now: Mono) {
        for at in 0..self.units.len() {
            let asked = self.units.get(at).and_then(|unit| unit.stop_asked);
            let late = asked.is_some_and(|asked| now.since(asked) >= self.stop_within);
            let faulted = self.units.get(at).is_some_and(|unit| now < unit.faulted_until);
            // A link that takes no bytes is the link's fault, where bytes are seen behind it.
            if late && (self.stop_within.is_zero() || !faulted) {
                let law = if self.record == RecordHealth::Healthy { 3 } else { 9 };
                self.broken(law, now, format!("unit {at} was not told to stop in the call of the stop"));
                if let Some(unit) = self.units.get_mut(at) {
                    unit.stop_asked = None;
                }
            }
        }
    }

    /// Returns whether a unit was told to stop and is not known to be at zero.
    pub(crate) fn is_stopping(&self, unit: usize) -> bool {
        self.units.get(unit).is_some_and(|unit| unit.stopping.is_some())
    }

    /// Returns what a person asks for who sees the units: nobody states that a unit was stopped which gives output.
    pub(crate) fn seen(&self, act: Act) -> Act {
        let wrong = matches!(act, Act::StatedStopped { device } if self.gives(usize::from(device.0)));
        if wrong { Act::Present } else { act }
    }

    /// Returns whether a unit gives output.
    pub(crate) fn gives(&self, unit: usize) -> bool {
        self.units.get(unit).is_some_and(|unit| unit.outputs.iter().any(Output::gives))
    }

    /// Returns what one output gives.
    pub(crate) fn gives_on(&self, unit: usize, channel: usize) -> u32 {
        let output = self.units.get(unit).and_then(|unit| unit.outputs.get(channel));
        output.map_or(0, |output| output.truth.present)
    }

    /// The record is not what was put into it.
    pub(crate) fn damage(&mut self, now: Mono, what: String) {
        self.broken(13, now, what);
    }

    /// Looks at everything that has a time limit.
    pub(crate) fn look(&mut self, now: Mono) {
        for at in 0..self.steps.len() {
            self.judge_times(now, at);
            let late = self.steps.get_mut(at).and_then(|step| step.wish.take_if(|wish| now >= wish.due));
            if let Some(wish) = late {
                let level = self.output(at).map_or(0, Output::level);
                let what = format!("{} was allowed and is at {level} when it was due", wish.goal);
                self.broken(10, now, what);
            }
        }
    }

    /// Law 6, for the step, its area and the session.
    fn judge_times(&mut self, now: Mono, at: usize) {
        let (Some(planned), Some(bounds)) = (self.plan.steps.get(at), self.bounds.get(at)) else {
            return;
        };
        if self.steps.get(at).is_none_or(|step| step.on_since.is_none()) {
            return;
        }
        let used = |step: &Step| step.used + seconds_since(step.on_since, now);
        let sum = |same: &dyn Fn(&crate::model::plan::Step) -> bool| -> f64 {
            let steps = self.plan.steps.iter().zip(&self.steps);
            steps.filter(|(other, _)| same(other)).map(|(_, step)| used(step)).sum()
        };
        let own = self.steps.get(at).map_or(0.0, used);
        let before = self.before.get(&(planned.modality, planned.place.clone())).copied().unwrap_or(0.0);
        let area = before + sum(&|other| other.modality == planned.modality && other.place == planned.place);
        let session = self.sessions.iter().find(|known| known.modality == planned.modality);
        let session = session.map_or(0.0, |known| known.used_at(now));
        let broken = if own > bounds.duration + 1e-6 {
            Some(format!("step {} gives output for {own:.3} s of {:.3}", planned.number, bounds.duration))
        } else if area > bounds.area + 1e-6 {
            Some(format!("{} gets {area:.3} s of {:.3}", planned.place, bounds.area))
        } else if session > bounds.session + 1e-6 {
            Some(format!("{} runs for {session:.3} s of {:.3}", planned.modality.word(), bounds.session))
        } else {
            None
        };
        self.tally.longest(session, bounds.session);
        self.tally.longest(own, bounds.duration);
        self.tally.longest(area, bounds.area);
        if let Some(what) = broken {
            self.broken(6, now, what);
        }
    }

    fn end_bouts(&mut self, now: Mono, unit: usize) {
        for step in self.steps_of(unit) {
            self.end_bout(now, step);
        }
    }

    fn end_bout(&mut self, now: Mono, at: usize) {
        self.judge_times(now, at);
        let modality = self.plan.steps.get(at).map(|planned| planned.modality);
        if let Some(step) = self.steps.get_mut(at)
            && let Some(since) = step.on_since.take()
        {
            step.used += now.since(since).as_secs_f64();
            self.sessions
                .iter_mut()
                .filter(|known| Some(known.modality) == modality)
                .for_each(|known| known.off(now));
        }
    }

    // ---- what was really given -------------------------------------------------------------------------------------

    /// Hears what a unit gives at this moment. `stop`: it has just taken a stop frame.
    pub(crate) fn truth(&mut self, now: Mono, at: usize, given: &[Delivered], stop: bool) {
        let Some(unit) = self.units.get_mut(at) else {
            return;
        };
        let mut broken = None;
        let gun = unit.family.radio();
        for (output, now_given) in unit.outputs.iter_mut().zip(given) {
            let before = output.truth.present;
            if stop && now_given.present > before && !unit.by_hand {
                broken = Some((
                    11,
                    format!("a stop frame raised unit {at} from {before} to {}", now_given.present),
                ));
            }
            if before == 0 && now_given.present > 0 && !output.is_told() && !unit.by_hand {
                broken = Some((11, format!("unit {at} gives {} and was not told to", now_given.present)));
            }
            output.truth = *now_given;
            output.came_to_rest(now);
            self.tally.output |= now_given.present > 0;
            let most = output.step.and_then(|step| self.bounds.get(step)).map(|bounds| bounds.most);
            if let Some(most) = most
                && !gun
                && f64::from(now_given.present) > most + 1e-6
            {
                broken =
                    Some((1, format!("unit {at} gives {} where {most:.0} is allowed", now_given.present)));
            }
        }
        let zero = unit.outputs.iter().all(|output| output.truth.present == 0);
        let within = if gun { ZERO_RADIO } else { ZERO_SERIAL };
        if let Some(since) = unit.stopping {
            let took = now.since(since);
            if zero {
                self.tally.stopped(gun, took);
                unit.stopping = None;
            } else if took > within && !unit.by_hand {
                broken = Some((3, format!("unit {at} gives output {took:?} after its stop was written")));
                unit.stopping = None;
            }
        }
        // A motor needs a moment to be seen turning.
        unit.by_hand &= !(zero && now.since(unit.by_hand_at) > Duration::from_secs(2));
        if let Some((law, what)) = broken {
            self.broken(law, now, what);
        }
    }
}

fn seconds_since(since: Option<Mono>, now: Mono) -> f64 {
    since.map_or(0.0, |since| now.since(since).as_secs_f64())
}

impl Unit {
    fn new(family: Family) -> Self {
        Self {
            family,
            up: false,
            silent: false,
            faulted_until: Mono::ORIGIN,
            by_hand: false,
            by_hand_at: Mono::ORIGIN,
            stop_asked: None,
            stopping: None,
            stopped_at: None,
            held: false,
            armed: false,
            ready: false,
            proven: Generation(0),
            outputs: std::array::from_fn(|at| Output::new(Channel(u8::try_from(at).unwrap_or(0)))),
        }
    }
}
