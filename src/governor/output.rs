//! What the governor orders, answers and puts on record.

use std::time::Duration;

use crate::alarm::{Alarm, Cause};
use crate::governor::input::{AlarmOutput, RequestId, Seq};
use crate::model::area::Place;
use crate::model::budget::{Budget, Declared, DoseRef};
use crate::model::command::{Channel, Command, DeviceId, Epoch, Generation, Intensity, Setpoint};
use crate::model::dose::Dose;
use crate::model::limit::LimitOwner;
use crate::model::plan::ClientCode;
use crate::model::report::{EpochEnd, Identity, OwnButton, StopProgress};
use crate::model::session::{Actor, Discomfort, StopReason};
use crate::units::{Centimetres, Mono, RawForce};

/// A value the governor has cleared. Its constructor is private to `governor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleared<T>(T);

impl<T> Cleared<T> {
    /// Clears a value. Private to the governor: the one way to a byte that raises output.
    pub(in crate::governor) const fn new(value: T) -> Self {
        Self(value)
    }

    /// Returns what was cleared.
    pub const fn get(&self) -> &T {
        &self.0
    }

    /// Clears a value for a driver's own tests; does not exist outside them.
    #[cfg(test)]
    pub(crate) const fn for_test(value: T) -> Self {
        Self(value)
    }
}

impl Cleared<Command> {
    /// Clears a stop: it needs no clearance, from anyone, ever.
    pub const fn stop(generation: Generation) -> Self {
        Self(Command::Stop { generation })
    }
}

/// One order, in the order it must be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Stop this unit: post the generation on its stop lane.
    Stop {
        /// Which unit.
        device: DeviceId,
        /// Number of the stop.
        generation: Generation,
    },
    /// Give this to the unit's driver.
    Drive {
        /// Which unit.
        device: DeviceId,
        /// What.
        command: Cleared<Command>,
    },
    /// Output of this unit may go on until then.
    Renew {
        /// Which unit.
        device: DeviceId,
        /// End of the lease.
        until: Mono,
    },
    /// Put on record. `Input::Durable` answers when it is on the disk.
    Append {
        /// Its number in the session.
        seq: Seq,
        /// When it happened.
        at: Mono,
        /// What happened.
        entry: Entry,
    },
    /// Overwrite the progress row of the dose's channel; kept outside the chain, for recovery only.
    Progress(Dose),
    /// Remove the progress row: the channel is at proven zero and its dose is on record.
    ProgressDone {
        /// Which unit.
        device: DeviceId,
        /// Which output.
        channel: Channel,
    },
    /// Answer a request. A granted rise is answered when its intent is durable and judged again.
    Verdict {
        /// Which request.
        request: RequestId,
        /// The answer.
        verdict: Verdict,
    },
    /// An alarm came, or left.
    Alarm {
        /// Which.
        alarm: Alarm,
        /// Whether it came.
        raised: bool,
    },
    /// Tell the guard process. Never from anywhere but here: its silence means that nothing advances.
    Guard(ForGuard),
}

/// What the guard process is told (design 3.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForGuard {
    /// Hand over the unit's stop script and the way to it. `Input::GuardHolds` answers.
    Hold {
        /// Which unit.
        device: DeviceId,
    },
    /// The unit is about to be prepared: from here it must be stopped when nothing is heard.
    Armed {
        /// Which unit.
        device: DeviceId,
    },
    /// Its output may go on until then.
    Lease {
        /// Which unit.
        device: DeviceId,
        /// End of the lease.
        until: Mono,
    },
    /// It was ordered to zero; no lease runs any more.
    Stopping {
        /// Which unit.
        device: DeviceId,
    },
    /// Nothing has to be stopped there any more.
    Released {
        /// Which unit.
        device: DeviceId,
        /// By proof of the unit; else a person stated it.
        proven: bool,
    },
    /// Sign of life.
    Beat,
    /// The session is over: no sign of life follows. What is not released is the guard's when the daemon has ended.
    Leaving,
}

/// Answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done, or on its way to `target` inside the rise limits.
    Granted {
        /// Where the step goes, when an intensity was asked; on the device grid, so at or below what was asked.
        target: Option<Intensity>,
    },
    /// Above what is usual: ask again with a reason.
    NeedsReason {
        /// What was asked.
        asked: Intensity,
        /// Up to here no reason is needed.
        usual: Intensity,
    },
    /// No, and why.
    Refused(Refusal),
}

/// Why not. `Display` is what a therapist reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Over a limit; the limit is offered.
    Limit {
        /// What was asked.
        asked: Intensity,
        /// What is allowed.
        allowed: Intensity,
        /// Whose limit it is.
        owner: LimitOwner,
        /// Which kind of limit, for example "current" or "r.m.s. current".
        kind: &'static str,
        /// Who said so, in words; may be empty.
        said: String,
        /// What is in force.
        unchanged: Intensity,
    },
    /// An interlock is open.
    Interlock(Interlock),
    /// Everything is stopped until reset.
    Stopped {
        /// The latched generation.
        generation: Generation,
    },
    /// A unit has not proven that it stopped.
    NotProven {
        /// Which unit.
        device: DeviceId,
    },
    /// Not possible in the step's present state.
    State {
        /// Why and what to do, in words.
        why: &'static str,
    },
    /// No rise for a while after discomfort.
    Locked {
        /// How much longer.
        left: Duration,
    },
    /// The unit was stopped three times within ten minutes for the same cause.
    LockedOut {
        /// Which unit.
        device: DeviceId,
        /// The cause.
        cause: Cause,
        /// How much longer.
        left: Duration,
    },
    /// Between zero and the smallest speed that runs.
    BelowFloor {
        /// What was asked.
        asked: Intensity,
        /// The smallest that runs.
        floor: Intensity,
    },
    /// The screen showed an older state.
    Stale,
    /// The intent took longer than 500 ms to reach the disk.
    TooSlow,
    /// The step's pattern or time lies over a limit; nothing of it can run.
    Pattern {
        /// What, in words.
        what: String,
    },
    /// A time budget is used up.
    Budget {
        /// Which.
        budget: Budget,
        /// Whose limit it is.
        owner: LimitOwner,
        /// Who said so, in words; may be empty.
        said: String,
        /// The whole of it.
        limit: Duration,
    },
    /// The area rests between two bouts.
    Rest {
        /// How much longer.
        left: Duration,
    },
    /// TENS was on this area lately and nobody has said that sensation returned.
    Numb {
        /// How long ago it ended, at least.
        ago: Duration,
    },
    /// What was given here, or by this unit, is uncertain and nobody has resolved it.
    Unresolved {
        /// Which interval.
        of: DoseRef,
        /// The unit that gave it.
        unit: String,
        /// Where; `None`: on another client.
        place: Option<Place>,
        /// Output time, least and most.
        on: (Duration, Duration),
    },
    /// A resolution outside the two bounds.
    OutsideBounds {
        /// Least and most.
        on: (Duration, Duration),
    },
    /// The plan's sessions of the week are used up.
    Course {
        /// Sessions in the seven days up to today.
        sessions: u8,
        /// What the plan allows.
        allowed: u8,
    },
    /// Percussion beside a stimulated area, too near or without a measured distance.
    Distance {
        /// What the therapist entered in the plan.
        entered: Option<Centimetres>,
    },
    /// The unit cannot be driven.
    Unit {
        /// Why, in words.
        why: String,
    },
    /// No such step.
    NoSuchStep {
        /// What was asked.
        step: u8,
    },
}

/// A condition that must hold for output to rise or continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interlock {
    /// A person can see the screen.
    OperatorPresent,
    /// The unit's link is up and its answers are fresh.
    LinkFresh,
    /// The record takes entries.
    RecordDurable,
    /// The electrodes have contact.
    ContactOk,
    /// The wall clock agrees with the record.
    ClockSane,
    /// The guard process is alive.
    GuardPresent,
    /// The guard process can stop the unit by its own way to it.
    GuardHolds,
    /// The client's identity was read back.
    ReadBack,
    /// The alarm output was tested today.
    AlarmTested,
    /// The gun has a person declared as holding it.
    HeldByPerson,
    /// The unit stops by itself when it hears nothing.
    StopsByItself,
    /// The battery holds enough.
    Battery,
}

/// What goes on record. Each is one chained entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Identity read back.
    ReadBack {
        /// Who.
        by: Actor,
        /// Whom.
        client: ClientCode,
    },
    /// A step was armed.
    Armed {
        /// Which.
        step: u8,
        /// Who.
        by: Actor,
        /// The unit's new epoch.
        epoch: Epoch,
    },
    /// A step begins beside another that is in use, at a distance that the therapist measured.
    Beside {
        /// Who armed it.
        by: Actor,
        /// The step that begins.
        step: u8,
        /// The step in use.
        other: u8,
        /// As the plan states it.
        distance: Centimetres,
    },
    /// A dose from elsewhere today, as the therapist declares it.
    Declared {
        /// Who read back the client's identity with it.
        by: Actor,
        /// What.
        declared: Declared,
    },
    /// Why one more session than the plan has a week.
    BeyondCourse {
        /// Who.
        by: Actor,
        /// Sessions in the seven days up to today.
        sessions: u8,
        /// Why.
        reason: String,
    },
    /// The wall clock is behind the record, and somebody says that it is right all the same.
    ClockConfirmed {
        /// Who.
        by: Actor,
    },
    /// Sensation on an area has returned after TENS.
    SensationReturned {
        /// Who tested it.
        by: Actor,
        /// The step that waited for it.
        step: u8,
    },
    /// A step ends because a budget is used up.
    BudgetUsed {
        /// Step.
        step: u8,
        /// Which budget.
        budget: Budget,
        /// Whose limit.
        owner: LimitOwner,
        /// The whole of it.
        limit: Duration,
    },
    /// A proof of stop ends an uncertain dose of an earlier session.
    Ended {
        /// The unit.
        device: DeviceId,
        /// Which dose.
        of: DoseRef,
        /// As it was known before.
        dose: Box<Dose>,
        /// It was over by then, on the clock of its session.
        zero_by: Mono,
        /// Output time, at most.
        most: Duration,
    },
    /// A person resolved an uncertain interval.
    Resolved {
        /// Who.
        by: Actor,
        /// Which.
        of: DoseRef,
        /// The bounds that the screen showed.
        shown: (Duration, Duration),
        /// Output time that counts from now on.
        gave: Duration,
        /// Why.
        reason: String,
    },
    /// A rise is about to happen. Durable before its first byte.
    Intent {
        /// The request that asked for it.
        request: RequestId,
        /// Who.
        by: Actor,
        /// Step.
        step: u8,
        /// Unit.
        device: DeviceId,
        /// Output.
        channel: Channel,
        /// From here.
        from: Intensity,
        /// At most to here; a program's envelope.
        to: Setpoint,
        /// The tightest limit and its owner.
        limit: (LimitOwner, Intensity),
        /// Why above usual, when it is.
        reason: Option<String>,
    },
    /// An intent that led to no byte.
    IntentVoid {
        /// The entry that held it.
        intent: Seq,
        /// Why.
        why: Refusal,
    },
    /// A setpoint was lowered, held, resumed or finished by a person.
    Acted {
        /// Who.
        by: Actor,
        /// Step.
        step: u8,
        /// What, for example `lower`, `hold`, `resume`, `finish`.
        what: &'static str,
        /// Intensity from then on.
        to: Intensity,
    },
    /// A request was refused.
    Refused {
        /// The request.
        request: RequestId,
        /// Who.
        by: Actor,
        /// Step, when one was named.
        step: Option<u8>,
        /// Why.
        why: Refusal,
    },
    /// Output of a step ended or was ordered to end.
    Stopped {
        /// Step.
        step: u8,
        /// Why.
        reason: StopReason,
        /// The stop's generation; 0 for a finish.
        generation: Generation,
    },
    /// Output of a step went to zero and may be resumed from zero.
    Held {
        /// Step.
        step: u8,
        /// Why.
        reason: StopReason,
        /// The stop's generation.
        generation: Generation,
    },
    /// STOP ALL.
    StopAll {
        /// Who.
        by: Actor,
        /// Why.
        reason: StopReason,
        /// Number.
        generation: Generation,
    },
    /// How far a unit's stop is.
    StopProgress {
        /// Unit.
        device: DeviceId,
        /// Number.
        generation: Generation,
        /// How far.
        progress: StopProgress,
        /// Since it was asked.
        after: Duration,
    },
    /// The latch was cleared.
    Reset {
        /// Who.
        by: Actor,
        /// Which stop.
        generation: Generation,
    },
    /// A person stated that a unit was stopped by hand.
    StatedStopped {
        /// Who.
        by: Actor,
        /// Unit.
        device: DeviceId,
    },
    /// The client's discomfort.
    Comfort {
        /// Who entered it.
        by: Actor,
        /// Step.
        step: u8,
        /// Score.
        score: Discomfort,
        /// Intensity from then on.
        to: Intensity,
    },
    /// The operator's own limit.
    OperatorLimit {
        /// Who.
        by: Actor,
        /// Step.
        step: u8,
        /// Not above this; `None` lifted.
        limit: Option<Intensity>,
    },
    /// The link of a unit.
    Link {
        /// Unit.
        device: DeviceId,
        /// Up.
        up: bool,
    },
    /// What a unit says it is.
    Identity {
        /// Unit.
        device: DeviceId,
        /// What it said.
        identity: Identity,
    },
    /// Which stop frame stopped a unit: it is sent first from here on, also in later sessions.
    StopLearnt {
        /// Unit.
        device: DeviceId,
        /// The frame, by its profile's name.
        frame: String,
    },
    /// An epoch ended.
    EpochEnded {
        /// Unit.
        device: DeviceId,
        /// Which.
        epoch: Epoch,
        /// Why.
        cause: EpochEnd,
    },
    /// A unit's own button.
    OwnButton {
        /// Unit.
        device: DeviceId,
        /// What was done.
        what: OwnButton,
    },
    /// Charge of a unit, percent.
    Battery {
        /// Unit.
        device: DeviceId,
        /// Percent.
        percent: u8,
    },
    /// One dose.
    Dose(Dose),
    /// An alarm came or left.
    Alarm {
        /// Which.
        alarm: Alarm,
        /// Whether it came.
        raised: bool,
    },
    /// A person has seen the alarms that were there.
    AlarmsSeen {
        /// Who.
        by: Actor,
        /// Which.
        alarms: Vec<Alarm>,
        /// How long those that stay are silent; zero: they sound on.
        quiet: Duration,
    },
    /// Whether the box can sound an alarm.
    AlarmOutput {
        /// How it is.
        state: AlarmOutput,
    },
    /// A unit was stopped three times within ten minutes for the same cause.
    LockedOut {
        /// Unit.
        device: DeviceId,
        /// The cause.
        cause: Cause,
        /// For how long.
        left: Duration,
    },
    /// A gun was pressed harder than its step allows for so long that something was done.
    Force {
        /// Step.
        step: u8,
        /// The highest reported since it went over.
        force: RawForce,
        /// What the step allows.
        max: RawForce,
        /// Intensity from then on.
        to: Intensity,
    },
    /// The operator's lease lapsed or came back.
    Lease {
        /// Alive.
        alive: bool,
    },
    /// A value was cut at the last barrier, a packet came late, or bytes meant nothing.
    Anomaly {
        /// Unit.
        device: DeviceId,
        /// What, in words.
        what: String,
    },
}
