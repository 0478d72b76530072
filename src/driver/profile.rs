//! Any percussion gun, driven from its device profile.
//!
//! ```text
//!            Connected                gate open               proof (unbound)       stop proven, version known
//!  Down ----------------> Gated ------------------> Proving ------------------> Up ---------------------------+
//!   ^                       | gate shut                | no answer              |  stopping | idle | epoch     |
//!   | Disconnected          v                          v                        +-----------------------------+
//!   +-------------------- Unusable <-------------------+ (firmware too old, no version)
//! ```
//!
//! Invariants:
//! - a bound unit hears a stop before anything else, an unbound one its proof query and nothing else until it answers;
//! - while a stop is wanted only stop frames and their queries leave, by the profile's rhythm;
//! - set and while-on poll frames leave only on `Command` and `Renew`, expire, and end with the lease;
//! - one ordinary write at a time, `gap_min` apart, the newest target wins; a stop waits for none of them;
//! - a status is proof of a stop only when it answers a query sent after the stop frame;
//! - a value above the profile's maximum is cut and reported, never sent.
//!
//! A target that a newer one replaced before it was written is not reported: the newer one's answer stands for both.
//!
//! # Sources
//! Frames are the profile's. Theragun Gen 4: Documented (docs.buttplug.io, stpihkal issue 127), which frame stops is
//! Guessed (three candidates, all sent; none can raise). Hypervolt legacy: Documented, untested (liberatedbread).

mod status;
mod stopping;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{Driver, DriverInput, DriverOutput, SendOutcome};
use crate::model::command::{Channel, Command, CommandId, Epoch, Generation, Intensity, Setpoint};
use crate::model::packet::{Endpoint, Packet, Purpose, StopScript, WriteKind};
use crate::model::profile::{ClampError, Profile, StopFrame, Variant};
use crate::model::report::{EpochEnd, Identity, Report};
use crate::units::Mono;

use status::History;
use stopping::{Stop, StopKind};

/// A set or stop write without an answer for this long is given up; it may still arrive (percussion-ble U5).
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);
/// The same for a query: a stop cannot overtake it on the wire (percussion-ble U5).
const QUERY_TIMEOUT: Duration = Duration::from_millis(250);
/// A query without a reply for this long will not get one.
const REPLY_LOST: Duration = Duration::from_secs(1);
/// From one version query to the next, and how many (percussion-ble 2.7).
const VERSION_EVERY: Duration = Duration::from_secs(1);
const VERSION_TRIES: u8 = 3;
/// A gate that was not read for this long will not be.
const GATE_TIMEOUT: Duration = Duration::from_secs(5);
/// Lease of a first setpoint before its first renewal.
const FIRST_LEASE: Duration = Packet::LIFE_MAX;
/// Guns have one motor.
const MOTOR: Channel = Channel(0);

/// What is known of one unit beside its profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Title or name of its variant.
    pub variant: Option<String>,
    /// A person has identified it: it may be stopped before it says who it is.
    pub bound: bool,
    /// Name of the stop frame that worked last time.
    pub learnt_stop: Option<String>,
}

/// Driver of one unit.
#[derive(Debug)]
pub struct ProfileDriver {
    profile: Profile,
    variant: Option<Variant>,
    bound: bool,
    order: Vec<StopFrame>,
    script: StopScript,
    phase: Phase,
    stop: Option<Stop>,
    generation: Generation,
    next_id: u32,
    writes: BTreeMap<u32, Write>,
    queries: VecDeque<Query>,
    last_write: Option<Mono>,
    identity: Identity,
    identified: bool,
    version_tries: u8,
    version_at: Mono,
    epoch: Option<Epoch>,
    preparing: Option<Preparing>,
    until: Option<Mono>,
    target: Option<Target>,
    poll_wanted: bool,
    /// Grows with every stop and every new epoch: what was sent before is not offered again after.
    life: u32,
    idle_at: Mono,
    history: History,
    unproven_set: Option<UnprovenSet>,
    /// The stop frame that last stopped the unit.
    worked: Option<String>,
    /// What the newest status on this link says.
    ran: bool,
    counts: Counts,
}

/// What was odd, since the driver was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that mean nothing.
    pub unintelligible: u64,
    /// Good frames whose own length byte disagrees.
    pub length_disagrees: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Down,
    /// Waiting for the gate's value since then.
    Gated(Mono),
    /// Waiting for the proof of an unbound unit.
    Proving,
    Up,
    /// Nothing more is sent, but stops when the unit is known to be one of ours.
    Unusable {
        stops: bool,
    },
}

/// A packet given to the writer and not yet answered.
#[derive(Clone, Copy, Debug)]
struct Write {
    due: Mono,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Stop { index: usize },
    Set { target: Target, before: u16, life: u32 },
    Query,
    Version,
}

/// A setpoint that was written and not answered: a status must show it.
#[derive(Clone, Copy, Debug)]
struct UnprovenSet {
    id: CommandId,
    /// Its packet: a query with a higher number asks after it.
    packet: u32,
    due: Mono,
}

/// A status query whose reply has not come.
#[derive(Clone, Copy, Debug)]
struct Query {
    packet: u32,
    sent: Mono,
}

/// The newest setpoint, not yet written.
#[derive(Clone, Copy, Debug)]
struct Target {
    id: CommandId,
    value: u16,
    asked: Mono,
}

/// An epoch that begins with the answer to a query of at least this number.
#[derive(Clone, Copy, Debug)]
struct Preparing {
    epoch: Epoch,
    from_packet: u32,
}

/// What may be written next when no stop is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Version,
    Poll,
    Set,
    IdlePoll,
}

impl ProfileDriver {
    /// Makes the driver of one unit. The link is down.
    pub fn new(profile: Profile, unit: &Unit) -> Self {
        let variant = unit.variant.as_deref().and_then(|name| profile.variant(name)).cloned();
        let order = stopping::order(&profile, unit.learnt_stop.as_deref());
        let script = stopping::script(&profile, &order);
        let identity = Identity {
            model: variant.as_ref().map_or_else(|| profile.title.clone(), |variant| variant.title.clone()),
            ..Identity::default()
        };
        Self {
            profile,
            variant,
            bound: unit.bound,
            order,
            script,
            phase: Phase::Down,
            stop: None,
            generation: Generation::default(),
            next_id: 1,
            writes: BTreeMap::new(),
            queries: VecDeque::new(),
            last_write: None,
            identity,
            identified: false,
            version_tries: 0,
            version_at: Mono::ORIGIN,
            epoch: None,
            preparing: None,
            until: None,
            target: None,
            poll_wanted: false,
            life: 0,
            idle_at: Mono::ORIGIN,
            history: History::default(),
            unproven_set: None,
            worked: unit.learnt_stop.clone(),
            ran: false,
            counts: Counts::default(),
        }
    }

    /// Returns the stop frame that last stopped the unit.
    pub fn worked(&self) -> Option<&str> {
        self.worked.as_deref()
    }

    /// Returns what was odd so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    fn connected(&mut self, now: Mono, generation: Generation, out: &mut Vec<DriverOutput>) {
        self.link_lost(now, out);
        self.generation = self.generation.max(generation);
        self.version_tries = 0;
        self.version_at = now;
        self.idle_at = now;
        self.identified = self.profile.matching.proof.is_none();
        self.phase = if self.profile.gate.is_some() { Phase::Gated(now) } else { self.after_gate() };
        if self.bound || self.phase == Phase::Up {
            self.ask_stop(now, StopKind::Reported, out);
        }
        if self.identified {
            out.push(DriverOutput::Report(Report::Identity(self.identity.clone())));
        }
    }

    const fn after_gate(&self) -> Phase {
        if self.bound || self.identified { Phase::Up } else { Phase::Proving }
    }

    /// Forgets all that a live link knew. A stop that was asked stays asked.
    fn link_lost(&mut self, now: Mono, out: &mut Vec<DriverOutput>) {
        self.phase = Phase::Down;
        self.ran = false;
        self.history.command(now, 0);
        self.writes.clear();
        self.queries.clear();
        self.last_write = None;
        self.preparing = None;
        if let Some(stop) = &mut self.stop {
            stop.begin_again();
        }
        self.unproven_set = None;
        self.end_epoch(EpochEnd::Disconnected, out);
    }

    /// Ends the epoch, if one runs: nothing is set any more.
    fn end_epoch(&mut self, cause: EpochEnd, out: &mut Vec<DriverOutput>) {
        self.history.forbid();
        self.target = None;
        self.poll_wanted = false;
        self.until = None;
        if let Some(epoch) = self.epoch.take() {
            out.push(DriverOutput::Report(Report::EpochEnded { epoch, cause }));
        }
    }

    fn unusable(&mut self, why: impl Into<String>, stops: bool, out: &mut Vec<DriverOutput>) {
        self.end_epoch(EpochEnd::UnexpectedStatus, out);
        self.preparing = None;
        self.phase = Phase::Unusable { stops };
        out.push(DriverOutput::Report(Report::Unusable { why: why.into() }));
    }

    fn command(&mut self, now: Mono, command: &Command, out: &mut Vec<DriverOutput>) {
        match *command {
            Command::Prepare { epoch } => self.prepare(now, epoch, out),
            Command::Set { id, epoch, channel, setpoint } => {
                let refused = match self.judge(epoch, channel, setpoint) {
                    Ok(value) => {
                        self.set(now, id, setpoint.intensity(), value, out);
                        return;
                    }
                    Err(why) => why,
                };
                out.push(DriverOutput::Report(Report::Refused { id, why: refused }));
            }
            Command::AllowStart { id, epoch, channel, most } => match self.judge(epoch, channel, most) {
                Ok(most) => self.history.allow(most),
                Err(why) => out.push(DriverOutput::Report(Report::Refused { id, why })),
            },
            Command::Finish { id, epoch, channel } => match self.in_epoch(epoch, channel) {
                Ok(()) => self.finish(now, id, out),
                Err(why) => out.push(DriverOutput::Report(Report::Refused { id, why })),
            },
            Command::Stop { generation } => {
                self.generation = self.generation.max(generation);
                self.end_epoch(EpochEnd::Stopped, out);
                self.preparing = None;
                self.ask_stop(now, StopKind::Reported, out);
            }
        }
    }

    fn prepare(&mut self, now: Mono, epoch: Epoch, out: &mut Vec<DriverOutput>) {
        if !matches!(self.phase, Phase::Up | Phase::Gated(_) | Phase::Proving) {
            return;
        }
        if self.exposed() {
            self.end_epoch(EpochEnd::Stopped, out);
            self.ask_stop(now, StopKind::Reported, out);
        }
        self.epoch = None;
        self.history.forbid();
        self.target = None;
        self.until = None;
        self.life = self.life.wrapping_add(1);
        self.preparing = Some(Preparing { epoch, from_packet: self.next_id });
        self.idle_at = now;
        if self.profile.poll.is_none() {
            // Without a status the frames themselves are all the confirmation there is.
            self.ask_stop(now, StopKind::Quiet, out);
            if let Some(stop) = &mut self.stop {
                stop.begin_again();
                stop.hasten(now, self.profile.safety.stop_spacing);
            }
        }
    }

    fn in_epoch(&self, epoch: Epoch, channel: Channel) -> Result<(), &'static str> {
        if self.epoch != Some(epoch) {
            return Err("cleared in another epoch than the unit's present one");
        }
        if channel != MOTOR {
            return Err("the unit has one motor");
        }
        Ok(())
    }

    fn judge(&self, epoch: Epoch, channel: Channel, setpoint: Setpoint) -> Result<u16, &'static str> {
        self.in_epoch(epoch, channel)?;
        let asked = setpoint.intensity();
        if !asked.same_kind(self.profile.intensity(0)) {
            return Err("the unit takes another kind of intensity");
        }
        if self.stop.is_some() && !asked.is_zero() {
            return Err("a stop of the unit is not yet proven");
        }
        match self.profile.clamp(self.variant.as_ref(), asked.magnitude()) {
            Ok(clamped) => Ok(clamped.emitted),
            Err(ClampError::BelowFloor) => Err("below the smallest speed that runs"),
            Err(ClampError::Range) => Err("not a number of the unit"),
            Err(ClampError::NoStep) => Err("not one of the unit's steps"),
        }
    }

    fn set(&mut self, now: Mono, id: CommandId, asked: Intensity, value: u16, out: &mut Vec<DriverOutput>) {
        if u32::from(value) < asked.magnitude() {
            let sent = self.profile.intensity(value);
            out.push(DriverOutput::Report(Report::Clamped { asked, sent }));
        }
        if value == 0 {
            self.finish(now, id, out);
            return;
        }
        if self.until.is_none_or(|until| until <= now) {
            self.until = Some(now.saturating_add(FIRST_LEASE));
        }
        self.target = Some(Target { id, value, asked: now });
    }

    fn finish(&mut self, now: Mono, id: CommandId, out: &mut Vec<DriverOutput>) {
        self.history.forbid();
        self.target = None;
        self.poll_wanted = false;
        self.until = None;
        self.ask_stop(now, StopKind::Finish(id), out);
    }

    fn renew(&mut self, until: Mono) {
        if self.epoch.is_none() {
            return;
        }
        self.until = Some(until);
        self.poll_wanted = self.profile.poll.is_some() && self.exposed();
    }

    /// Whether the unit may give output by our order, or is about to.
    fn exposed(&self) -> bool {
        self.stop.is_none() && (self.history.commanded() > 0 || self.target.is_some())
    }

    /// What the clock alone brings about.
    fn due(&mut self, now: Mono, out: &mut Vec<DriverOutput>) {
        if self.exposed() && self.until.is_some_and(|until| now >= until) {
            out.push(DriverOutput::Report(Report::LeaseEnded));
            self.end_epoch(EpochEnd::LeaseEnded, out);
            self.ask_stop(now, StopKind::Reported, out);
        }
        let late: Vec<u32> =
            self.writes.iter().filter(|(_, write)| now >= write.due).map(|(id, _)| *id).collect();
        for id in late {
            self.sent(now, id, SendOutcome::Unknown, out);
        }
        if let Some(UnprovenSet { id, due, .. }) = self.unproven_set
            && now >= due
        {
            self.unproven_set = None;
            out.push(DriverOutput::Report(Report::Unacknowledged { id }));
        }
        if let Phase::Gated(since) = self.phase
            && now >= since.saturating_add(GATE_TIMEOUT)
        {
            self.unusable("the unit's authorization value could not be read", false, out);
        }
        self.pump_stop(now, out);
        while let Some((at, next)) = self.next_write() {
            if at > now {
                break;
            }
            self.write_next(now, next, out);
        }
    }

    /// Returns what is written next when no stop is wanted, and when.
    fn next_write(&self) -> Option<(Mono, Next)> {
        // An unproven unit hears its proof query even while a stop is wanted: it may hear no stop before.
        if !self.writes.is_empty() || (self.stop.is_some() && self.phase != Phase::Proving) {
            return None;
        }
        let free =
            self.last_write.map_or(Mono::ORIGIN, |last| last.saturating_add(self.profile.safety.gap_min));
        let mut next: Option<(Mono, Next)> = None;
        let mut offer = |at: Mono, what: Next| {
            if next.is_none_or(|(earliest, _)| at < earliest) {
                next = Some((at, what));
            }
        };
        match self.phase {
            Phase::Down | Phase::Gated(_) | Phase::Unusable { .. } => return None,
            Phase::Proving => offer(free.max(self.version_at), Next::Version),
            Phase::Up => {
                let unanswered =
                    self.queries.iter().map(|query| query.sent.saturating_add(QUERY_TIMEOUT)).max();
                let may_ask = unanswered.map_or(free, |until| until.max(free));
                let lowers = self.target.is_some_and(|target| target.value < self.history.commanded());
                if lowers {
                    offer(free, Next::Set);
                }
                if self.poll_wanted {
                    offer(may_ask, Next::Poll);
                }
                if self.target.is_some() {
                    offer(free, Next::Set);
                }
                if !self.identified {
                    offer(free.max(self.version_at), Next::Version);
                }
                if self.profile.poll.is_some() && !self.exposed() {
                    offer(may_ask.max(self.idle_at), Next::IdlePoll);
                }
            }
        }
        next
    }

    fn write_next(&mut self, now: Mono, next: Next, out: &mut Vec<DriverOutput>) {
        match next {
            Next::Version => self.ask_version(now, out),
            Next::Poll => {
                self.poll_wanted = false;
                self.ask_status(now, Purpose::KeepAlive, out);
            }
            Next::Set => self.write_target(now, out),
            Next::IdlePoll => {
                self.idle_at =
                    now.saturating_add(self.profile.poll.as_ref().map_or(REPLY_LOST, |poll| poll.idle));
                self.ask_status(now, Purpose::Query, out);
            }
        }
    }

    fn ask_version(&mut self, now: Mono, out: &mut Vec<DriverOutput>) {
        let frame = self.profile.matching.proof.as_deref().and_then(|proof| self.profile.plain_frame(proof));
        let Some((bytes, write)) = frame.filter(|_| self.version_tries < VERSION_TRIES) else {
            let stops = self.phase == Phase::Up;
            self.unusable("the unit does not say its version: it is not of this family", stops, out);
            return;
        };
        self.version_tries = self.version_tries.saturating_add(1);
        self.version_at = now.saturating_add(VERSION_EVERY);
        self.send(now, bytes, write, Purpose::Query, What::Version, out);
    }

    fn ask_status(&mut self, now: Mono, purpose: Purpose, out: &mut Vec<DriverOutput>) {
        let frame = self.profile.poll.as_ref().and_then(|poll| self.profile.plain_frame(&poll.command));
        let Some((bytes, write)) = frame else {
            return;
        };
        let packet = self.send(now, bytes, write, purpose, What::Query, out);
        self.queries.push_back(Query { packet, sent: now });
    }

    fn write_target(&mut self, now: Mono, out: &mut Vec<DriverOutput>) {
        let Some(target) = self.target.take() else {
            return;
        };
        let Some((bytes, write)) = self.profile.motor_frame(target.value) else {
            let why = "the number does not fit the unit's frame";
            out.push(DriverOutput::Report(Report::Refused { id: target.id, why }));
            return;
        };
        let before = self.history.commanded();
        self.history.forbid();
        let what = What::Set { target, before, life: self.life };
        self.send(now, bytes, write, Purpose::Output, what, out);
        self.history.command(now, target.value);
    }

    fn send(
        &mut self,
        now: Mono,
        bytes: Vec<u8>,
        write: WriteKind,
        purpose: Purpose,
        what: What,
        out: &mut Vec<DriverOutput>,
    ) -> u32 {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let endpoint = Endpoint::Characteristic(self.profile.gatt.command.uuid);
        let packet = match purpose {
            Purpose::Stop | Purpose::Query => Packet::lasting(id, endpoint, bytes, purpose, write),
            Purpose::Output | Purpose::KeepAlive => {
                let until = self.until.unwrap_or(now);
                Packet::expiring(id, endpoint, bytes, purpose, write, (now, until))
            }
        };
        let timeout = match what {
            What::Query => QUERY_TIMEOUT,
            What::Stop { .. } | What::Set { .. } | What::Version => WRITE_TIMEOUT,
        };
        self.writes.insert(id, Write { due: now.saturating_add(timeout), what });
        self.last_write = Some(now);
        out.push(DriverOutput::Send(packet));
        id
    }

    fn sent(&mut self, now: Mono, id: u32, outcome: SendOutcome, out: &mut Vec<DriverOutput>) {
        // The answer of a write that was given up, or of an earlier link, says nothing any more.
        let Some(write) = self.writes.remove(&id) else {
            return;
        };
        match write.what {
            What::Stop { index } => self.stop_sent(now, id, index, outcome, out),
            What::Query | What::Version => {
                if matches!(outcome, SendOutcome::Late | SendOutcome::Busy) {
                    self.queries.retain(|query| query.packet != id);
                }
                if outcome == SendOutcome::Late {
                    out.push(DriverOutput::Report(Report::DroppedLate));
                }
            }
            What::Set { target, before, life } => {
                let before = (life == self.life).then_some(before);
                self.set_sent(now, (id, target), before, outcome, out);
            }
        }
    }

    /// Handles the outcome of a setpoint; `before` is the one it replaced, unless that is long past.
    fn set_sent(
        &mut self,
        now: Mono,
        (number, target): (u32, Target),
        before: Option<u16>,
        outcome: SendOutcome,
        out: &mut Vec<DriverOutput>,
    ) {
        let id = target.id;
        match outcome {
            SendOutcome::Written => self.set_written(now, (number, id), true, out),
            SendOutcome::Handed => self.set_written(now, (number, id), false, out),
            SendOutcome::Late => {
                self.take_back(now, target.value, before);
                out.push(DriverOutput::Report(Report::DroppedLate));
                let why = "dropped unwritten: it came too late";
                out.push(DriverOutput::Report(Report::Refused { id, why }));
            }
            SendOutcome::Busy => {
                self.take_back(now, target.value, before);
                if before.is_some() {
                    self.offer_again(now, target, out);
                }
            }
            SendOutcome::Unknown => {
                // It may still arrive: a stop behind it makes that harmless.
                out.push(DriverOutput::Report(Report::Unacknowledged { id }));
                if before.is_some() || self.exposed() {
                    self.end_epoch(EpochEnd::LostAcknowledgement, out);
                    self.ask_stop(now, StopKind::Reported, out);
                } else {
                    self.ask_stop(now, StopKind::Quiet, out);
                }
            }
        }
    }

    fn take_back(&mut self, now: Mono, value: u16, before: Option<u16>) {
        if let Some(before) = before {
            self.history.take_back(now, value, before);
        }
    }

    /// A setpoint was written; `heard`: as the profile asks, which may be with an answer of the unit.
    fn set_written(
        &mut self,
        now: Mono,
        (packet, id): (u32, CommandId),
        heard: bool,
        out: &mut Vec<DriverOutput>,
    ) {
        let write = self.profile.commands.get(&self.profile.motor.command).map(|rule| rule.write);
        if heard && write == Some(WriteKind::WithResponse) {
            out.push(DriverOutput::Report(Report::Acknowledged { id }));
        } else {
            self.unproven_set = Some(UnprovenSet { id, packet, due: now.saturating_add(WRITE_TIMEOUT) });
            // The status proves it: ask as soon as the gap allows, not when the next renewal comes.
            self.poll_wanted |= self.profile.poll.is_some() && self.exposed();
        }
    }

    fn offer_again(&mut self, now: Mono, target: Target, out: &mut Vec<DriverOutput>) {
        let leased = self.until.is_some_and(|until| until > now);
        if self.epoch.is_none() || self.stop.is_some() || self.target.is_some() || !leased {
            return;
        }
        if now >= target.asked.saturating_add(WRITE_TIMEOUT) {
            let why = "the link stayed busy with an earlier write";
            out.push(DriverOutput::Report(Report::Refused { id: target.id, why }));
            return;
        }
        self.target = Some(target);
    }
}

impl Driver for ProfileDriver {
    fn advance(&mut self, now: Mono, input: DriverInput<'_>, out: &mut Vec<DriverOutput>) {
        match input {
            DriverInput::Tick => {}
            DriverInput::Connected { generation } => self.connected(now, generation, out),
            DriverInput::Disconnected => self.link_lost(now, out),
            DriverInput::Command(command) => self.command(now, command.get(), out),
            DriverInput::Renew { until } => self.renew(until),
            DriverInput::Received(received) => self.received(now, received, out),
            DriverInput::Sent { id, outcome } => self.sent(now, id, outcome, out),
        }
        self.due(now, out);
    }

    fn deadline(&self) -> Option<Mono> {
        let lease = self.until.filter(|_| self.exposed());
        let writes = self.writes.values().map(|write| write.due).min();
        let unproven = self.unproven_set.map(|set| set.due);
        let gate = match self.phase {
            Phase::Gated(since) => Some(since.saturating_add(GATE_TIMEOUT)),
            Phase::Down | Phase::Proving | Phase::Up | Phase::Unusable { .. } => None,
        };
        let stop = self.stop_deadline();
        let next = self.next_write().map(|(at, _)| at);
        [lease, writes, unproven, gate, stop, next].into_iter().flatten().min()
    }

    fn stop_script(&self) -> &StopScript {
        &self.script
    }
}

#[cfg(test)]
mod tests;
