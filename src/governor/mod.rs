//! THE safety core: a pure machine between people and drivers.

pub mod input;
pub mod limits;
pub mod output;

pub use input::{Act, Input, RecordHealth, Request, RequestId, Seq, Version};
pub use output::{Cleared, Entry, Interlock, Output, Refusal, Verdict};

use std::time::Duration;

use crate::alarm::Alarm;
use crate::model::command::{Generation, Intensity};
use crate::model::limit::LimitOwner;
use crate::model::plan::Plan;
use crate::model::session::StopReason;
use crate::units::Mono;

/// What the runtime sets once for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Length of the operator's lease, 1–3 s (design 4).
    pub lease: Duration,
}

/// The safety core of one session.
#[derive(Debug)]
pub struct Governor {
    plan: Plan,
}

impl Governor {
    /// Makes the governor of one session. Everything is at zero, nothing is armed, every interlock is open.
    pub fn new(plan: Plan, _settings: Settings, _now: Mono) -> Self {
        Self { plan }
    }

    /// Advances to `now`, handles one input, appends what must be done, in order.
    pub fn advance(&mut self, _now: Mono, _input: Input, _out: &mut Vec<Output>) {}

    /// Returns when `advance` must next be called with `Input::Tick`, if ever.
    pub fn deadline(&self) -> Option<Mono> {
        None
    }

    /// Returns what a screen shows.
    pub fn snapshot(&self, now: Mono) -> Snapshot {
        Snapshot {
            at: now,
            version: Version(0),
            latched: None,
            steps: Vec::new(),
            units: Vec::new(),
            alarms: Vec::new(),
        }
    }

    /// Returns the plan that governs.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// What a screen shows: the state at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Issue time; a heartbeat echoes it.
    pub at: Mono,
    /// Grows with every visible change.
    pub version: Version,
    /// The STOP ALL that is latched, if any.
    pub latched: Option<Generation>,
    /// One per step of the plan.
    pub steps: Vec<StepView>,
    /// One per unit of the plan.
    pub units: Vec<UnitView>,
    /// Alarms, highest and newest first.
    pub alarms: Vec<Alarm>,
}

/// One step as a screen shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepView {
    /// Number in the plan.
    pub number: u8,
    /// Where it is.
    pub state: StepState,
    /// Last asked.
    pub asked: Intensity,
    /// Most that may be asked.
    pub allowed: Intensity,
    /// Whose limit that is.
    pub owner: LimitOwner,
    /// Commanded at this instant.
    pub setpoint: Intensity,
    /// What the unit reports, when it does; else what it acknowledged.
    pub delivered: Option<Intensity>,
    /// What a program ramp may return to.
    pub envelope: Intensity,
    /// Time left of the step.
    pub left: Duration,
    /// Time left on the area in this session.
    pub area_left: Duration,
    /// Program phase.
    pub phase: Phase,
}

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// Not yet touched.
    Waiting,
    /// Its unit is being prepared.
    Arming,
    /// Ready, at zero.
    Armed,
    /// Giving output (or in the rest of a cycle).
    Running,
    /// At zero, resumable from zero.
    Held,
    /// Ramping down to its ordinary end.
    Finishing,
    /// Over.
    Ended(StopReason),
}

/// Phase of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No ON:OFF cycle.
    Continuous,
    /// Rising to the envelope.
    RampUp,
    /// Plateau.
    On,
    /// Falling to zero.
    RampDown,
    /// Rest.
    Off,
}

/// One unit as a screen shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitView {
    /// Link.
    pub up: bool,
    /// Since its last valid answer; `None`: never.
    pub silent: Option<Duration>,
    /// Percent, when known.
    pub battery: Option<u8>,
    /// The newest stop, and how far it is.
    pub stop: StopView,
}

/// How far a unit's newest stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopView {
    /// None is pending.
    None,
    /// Asked, not on the wire.
    Asked,
    /// On the wire.
    Written,
    /// Proven, in this long.
    Confirmed(Duration),
    /// Not proven after a second.
    Unconfirmed,
    /// A person stated it.
    Stated,
}
