//! What a screen shows, and when the governor must be called again.

use std::time::Duration;

use crate::alarm::{Alarm, Sounding};
use crate::governor::input::Version;
use crate::governor::state::Unit;
use crate::governor::{Governor, limits};
use crate::model::budget::{Budget, Left, OpenDose};
use crate::model::command::{Generation, Intensity};
use crate::model::limit::LimitOwner;
use crate::model::session::StopReason;
use crate::units::Mono;

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
    /// Uncertain intervals that nobody has resolved, of this session and of earlier ones.
    pub unresolved: Vec<OpenDose>,
    /// Alarms, highest and newest first.
    pub alarms: Vec<Alarm>,
    /// What is to be heard.
    pub sounding: Sounding,
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
    /// The tightest budget, and whose limit it is.
    pub budget: Option<Left>,
    /// Time left on the area today.
    pub area_left: Duration,
    /// Time left of the modality for the client today.
    pub day_left: Duration,
    /// What it gave is known only between two bounds.
    pub uncertain: bool,
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

impl Governor {
    /// Returns where each step is, in the plan's order.
    pub fn states(&self) -> impl Iterator<Item = StepState> {
        self.runs.iter().map(|run| run.state)
    }

    /// Returns the number that a step's output is set to, in its own unit; 0 for no such step.
    pub fn setpoint(&self, step: u8) -> u32 {
        let runs = self.plan.steps.iter().zip(&self.runs);
        let mut found = runs.filter(|(planned, _)| planned.number == step);
        found.next().map_or(0, |(_, run)| run.setpoint.magnitude())
    }

    /// Returns what a screen shows.
    pub fn snapshot(&self, now: Mono) -> Snapshot {
        let mut alarms: Vec<Alarm> = self.alarms.keys().copied().collect();
        alarms.sort_by_key(|alarm| std::cmp::Reverse(alarm.cause.priority()));
        Snapshot {
            at: now,
            version: self.version,
            latched: self.latched,
            steps: (0..self.runs.len()).filter_map(|index| self.step_view(index, now)).collect(),
            units: self.units.iter().map(|unit| unit.view(now)).collect(),
            unresolved: self.settings.spent.open.clone(),
            alarms,
            sounding: self.sounding(now),
        }
    }

    fn step_view(&self, index: usize, now: Mono) -> Option<StepView> {
        let (step, run) = (self.step(index)?, self.runs.get(index)?);
        let capability = self.capability(step.device)?;
        let binding = limits::binding(step, capability, run.operator_limit, run.comfort_limit);
        let left = self.left(index, now);
        let of = |budget| self.left_of(index, now, budget).map_or(Duration::MAX, |left| left.time);
        Some(StepView {
            number: step.number,
            state: run.state,
            asked: run.asked,
            allowed: binding.allowed,
            owner: binding.owner,
            setpoint: run.setpoint,
            delivered: run.delivered,
            envelope: run.envelope,
            left: left.map_or(Duration::ZERO, |left| left.time),
            budget: left,
            area_left: of(Budget::Area),
            day_left: of(Budget::Day),
            uncertain: run.ledger.is_uncertain(),
            phase: run.program.map_or(Phase::Continuous, |program| program.phase),
        })
    }
}

impl Unit {
    fn view(&self, now: Mono) -> UnitView {
        UnitView { up: self.up, silent: self.silent(now), battery: self.battery, stop: self.stop.view }
    }
}
