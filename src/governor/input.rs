//! What happens to the governor.

use std::time::Duration;

use crate::alarm::Cause;
use crate::model::budget::DoseRef;
use crate::model::command::{DeviceId, Generation, Intensity};
use crate::model::plan::ClientCode;
use crate::model::report::Report;
use crate::model::session::{Actor, Discomfort, StopReason};
use crate::units::Mono;

/// Number of an entry appended in this session, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// Number of a request; echoed in its verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Number of the state a screen showed when the request was made; it grows with every visible change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline came.
    Tick,
    /// A person asked for something.
    Request(Request),
    /// STOP ALL, or the client's stop. Never refused.
    Stop {
        /// Who.
        by: Actor,
        /// Why.
        reason: StopReason,
    },
    /// A driver reported.
    Report {
        /// Which unit.
        device: DeviceId,
        /// What.
        report: Report,
    },
    /// The link of a unit came up or went away.
    Link {
        /// Which unit.
        device: DeviceId,
        /// Whether it is up.
        up: bool,
    },
    /// The commander's screen painted the snapshot issued at `issued` (design 3.3).
    Heartbeat {
        /// Issue time of that snapshot.
        issued: Mono,
    },
    /// The commander's screen says that nobody can see it any more.
    Unseen,
    /// Every entry up to `seq` is on the disk.
    Durable {
        /// The newest one.
        seq: Seq,
    },
    /// How the record does.
    Record(RecordHealth),
    /// Whether the guard process is alive.
    Guard {
        /// It is.
        present: bool,
    },
    /// Whether the guard process can stop a unit by its own way to it; answers `ForGuard::Hold`.
    GuardHolds {
        /// Which unit.
        device: DeviceId,
        /// It can.
        holds: bool,
    },
    /// Whether the wall clock agrees with the record.
    ClockSane(bool),
    /// Whether the box can sound an alarm.
    AlarmOutput(AlarmOutput),
    /// An earlier session locked a unit, and the lock lasts yet. Before the first link.
    LockedOut {
        /// Which unit.
        device: DeviceId,
        /// What stopped it three times.
        cause: Cause,
        /// For how long yet.
        left: Duration,
    },
    /// The machine slept.
    Suspended,
    /// The session ends: every open dose is closed at its upper end. Stop first.
    Close,
}

/// Whether the box can sound an alarm (SR-37).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmOutput {
    /// Nobody has heard it today.
    Untested,
    /// A person has heard every sound of it today.
    Heard,
    /// It writes to a log: simulated units only.
    Logged,
    /// Its player does not work.
    Failing,
}

impl AlarmOutput {
    /// Returns the word used in records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Untested => "untested",
            Self::Heard => "heard",
            Self::Logged => "log",
            Self::Failing => "failing",
        }
    }

    /// Returns whether a unit may be armed with it.
    pub const fn is_tested(self) -> bool {
        matches!(self, Self::Heard | Self::Logged)
    }
}

/// How the record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordHealth {
    /// Writes are quick.
    Healthy,
    /// A write takes longer than 500 ms: nothing starts or rises.
    Slow,
    /// Writes fail: running outputs come down.
    Failing,
}

/// A person asked for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number, echoed in the verdict. A number seen before gets its old verdict and does nothing.
    pub id: RequestId,
    /// Who.
    pub by: Actor,
    /// What the screen showed. An increase from a stale screen is refused; a decrease never is.
    pub seen: Version,
    /// What.
    pub act: Act,
}

/// What a person can ask for. Steps are named by their number in the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// The client's identity was read back and agrees.
    ReadBack {
        /// Whom the plan must be for.
        client: ClientCode,
    },
    /// Prepare a step's unit: a new epoch at zero.
    Arm {
        /// Step number.
        step: u8,
    },
    /// Titrate to an intensity, up or down. From zero it starts the step.
    Set {
        /// Step number.
        step: u8,
        /// Where to.
        intensity: Intensity,
        /// Why above usual, when it is.
        reason: Option<String>,
    },
    /// Zero, not latched.
    Hold {
        /// Step number.
        step: u8,
    },
    /// Allow rises again after a hold; the intensity stays zero until `Set`.
    Resume {
        /// Step number.
        step: u8,
    },
    /// Ordinary end of the step: ramp down within 0.5 s.
    Finish {
        /// Step number.
        step: u8,
    },
    /// Zero at once; the step's whole unit.
    StopStep {
        /// Step number.
        step: u8,
    },
    /// The client's discomfort.
    Comfort {
        /// Step number.
        step: u8,
        /// 0–10; 7 and more lowers, 9 and more stops.
        score: Discomfort,
    },
    /// "Too much": as discomfort 7.
    TooMuch {
        /// Step number.
        step: u8,
    },
    /// The client says less: as "too much", by the client's own hand or word.
    ClientLess {
        /// Step number.
        step: u8,
    },
    /// The operator's own limit for a step; `None` lifts it.
    OperatorLimit {
        /// Step number.
        step: u8,
        /// Not above this.
        limit: Option<Intensity>,
    },
    /// Clears the latch of STOP ALL. Starts nothing.
    Reset {
        /// The stop generation that is reset.
        generation: Generation,
    },
    /// A person states at the screen that the unit was stopped by hand and seen to stop.
    StatedStopped {
        /// Which unit.
        device: DeviceId,
    },
    /// A person has tested the step's area after TENS: sensation has returned.
    SensationReturned {
        /// Step number.
        step: u8,
    },
    /// A person says what an uncertain interval gave.
    Resolve(Resolution),
    /// A person has seen the alarms: those whose cause is gone leave, the others are silent for two minutes, but for
    /// those of a unit that is not at proven zero.
    AcknowledgeAlarms,
    /// Any sign of the operator that asks for nothing.
    Present,
}

/// How a person resolves an uncertain interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Which.
    pub of: DoseRef,
    /// The bounds that the screen showed; others by now: refused as stale.
    pub shown: (Duration, Duration),
    /// Output time that counts from now on, inside the bounds.
    pub gave: Duration,
    /// Why.
    pub reason: String,
}
