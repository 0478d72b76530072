//! THE safety core: a pure machine between people and drivers. The only maker of `Cleared<Command>`.
//!
//! `advance(now, input, out)` handles one input and appends every order, in order; `deadline()` says when it must be
//! called again. It cannot fail, block or read anything but its arguments; an earlier `now` counts as no time passed.
//!
//! A step of the plan:
//!
//! ```text
//!             Arm            Ready              Set (durable)           limit near, Finish
//!  Waiting --------> Arming --------> Armed ----------------> Running --------------------> Finishing
//!     ^                 |                |                        |                             |
//!     | Arm             |                +--- hold, lapse --------+--> Held --- Resume -> Arming |
//!     |                 |                                         |                             v
//!     +------ Ended(reason) <--- stop, fault, own button, STOP ALL, end of the epoch --- Ended(Completed)
//! ```
//!
//! Invariants:
//! - setpoint ≤ the tightest of nine limits at every `Drive`; the binding one is named in every answer;
//! - a rise is appended first and driven when it is durable and judged again; a stop or decrease waits for nothing;
//! - hold and stop are one frame of the unit: it ends the epoch, every channel of the unit goes to zero;
//! - output is at zero at or before every duration limit;
//! - losing an interlock lowers output, regaining it raises nothing.
//!
//! | file | what |
//! | --- | --- |
//! | `input`, `output`, `words` | what happens, what is ordered, how a refusal reads |
//! | `limits` | ceilings, electrical limits, the chain |
//! | `interlock` | what must hold to arm and to rise |
//! | `budget`, `resolve` | time per area, session and day; uncertain intervals and their resolution |
//! | `beside` | what may run at the same time |
//! | `request` | what people ask |
//! | `report` | what drivers report |
//! | `hand` | what is done at a gun itself |
//! | `mismatch` | reports that are above what was told |
//! | `force` | how hard a gun is pressed |
//! | `alarms` | alarms seen and silent, and the lock after three stops |
//! | `stop` | stop, hold, end of a step, reset |
//! | `guard` | what the guard process must know |
//! | `tick` | everything that time does |
//! | `rise` | titration and program ramp |
//! | `ledger`, `book` | what may have been given, and its entries |
//! | `state`, `view` | what is remembered, what a screen shows |
#![deny(clippy::arithmetic_side_effects, clippy::float_arithmetic)]
// Unit tests compute with plain numbers and check against floating-point formulas on purpose.
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::float_arithmetic,
        reason = "test oracles compute plainly"
    )
)]

mod alarms;
mod beside;
mod book;
mod budget;
mod force;
mod guard;
mod hand;
pub mod input;
mod interlock;
mod ledger;
pub mod limits;
mod mismatch;
pub mod output;
mod report;
mod request;
mod resolve;
mod rise;
mod state;
mod stop;
mod tick;
mod view;
mod words;

pub use input::{Act, AlarmOutput, Input, RecordHealth, Request, RequestId, Resolution, Seq, Version};
pub use output::{Cleared, Entry, ForGuard, Interlock, Output, Refusal, Verdict};
pub use view::{Phase, Snapshot, StepState, StepView, StopView, UnitView};

use std::collections::BTreeMap;
use std::time::Duration;

use crate::alarm::Alarm;
use crate::governor::interlock::Common;
use crate::governor::state::{StepRun, Unit};
use crate::model::area::Place;
use crate::model::budget::{DoseRef, Spent};
use crate::model::capability::Capability;
use crate::model::command::{CommandId, DeviceId, Generation};
use crate::model::dose::DoseId;
use crate::model::plan::{Plan, Step};
use crate::units::{Milliamps, Mono};

/// How many verdicts are kept for requests that come twice.
const VERDICTS_KEPT: usize = 256;

/// What the runtime sets once for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Length of the operator's lease, cut to 1–3 s (design 4).
    pub lease: Duration,
    /// What the client already got, before this session began.
    pub spent: Spent,
    /// Who confirms the wall clock although it is behind the record.
    pub clock_confirmed_by: Option<String>,
    /// A seeded defect that the comparison of record and truth must catch.
    #[cfg(feature = "defects")]
    pub defect: Option<Defect>,
}

/// Seeded defects, for tests only; a shipped binary does not contain them. One at least for each law.
#[cfg(feature = "defects")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// A stop is booked as proven and never ordered.
    DroppedStop,
    /// A rise is ordered at twice what is booked.
    DoubledRise,
    /// Every third dose is not put on record.
    SkippedDose,
    /// Law 1: no limit binds a rise.
    LimitIgnored,
    /// Law 2: rises follow each other four times as fast.
    RiseTooFast,
    /// Law 3: STOP ALL passes over a unit that is armed and gives nothing yet.
    StopNotGranted,
    /// Law 4: STOP ALL does not latch.
    RiseWhileStopped,
    /// Law 5: a rise does not wait for its intent.
    RiseBeforeDurable,
    /// Law 6: a step ends two seconds late.
    DurationOverrun,
    /// Law 7: a dose is booked at half its output time.
    UnderBooked,
    /// Law 8: what is done depends on what the process did before.
    Nondeterminism,
    /// Law 9: a stop waits until the record is durable.
    StopWaits,
    /// Law 10: every other rise is forgotten when its intent is durable.
    RequestStarves,
    /// Law 11: the driver repeats its last output in the name of a stop.
    StopRaises,
    /// Law 12: the driver keeps output alive after its lease.
    PastLease,
}

#[cfg(feature = "defects")]
impl Defect {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::DroppedStop,
        Self::DoubledRise,
        Self::SkippedDose,
        Self::LimitIgnored,
        Self::RiseTooFast,
        Self::StopNotGranted,
        Self::RiseWhileStopped,
        Self::RiseBeforeDurable,
        Self::DurationOverrun,
        Self::UnderBooked,
        Self::Nondeterminism,
        Self::StopWaits,
        Self::RequestStarves,
        Self::StopRaises,
        Self::PastLease,
    ];

    /// Returns its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DroppedStop => "dropped-stop",
            Self::DoubledRise => "doubled-rise",
            Self::SkippedDose => "skipped-dose",
            Self::LimitIgnored => "limit-ignored",
            Self::RiseTooFast => "rise-too-fast",
            Self::StopNotGranted => "stop-not-granted",
            Self::RiseWhileStopped => "rise-while-stopped",
            Self::RiseBeforeDurable => "rise-before-durable",
            Self::DurationOverrun => "duration-overrun",
            Self::UnderBooked => "under-booked",
            Self::Nondeterminism => "nondeterminism",
            Self::StopWaits => "stop-waits",
            Self::RequestStarves => "request-starves",
            Self::StopRaises => "stop-raises",
            Self::PastLease => "past-lease",
        }
    }
}

impl Settings {
    /// Returns settings with this length of the operator's lease, cut to 1–3 s.
    pub fn with_lease(lease: Duration) -> Self {
        Self {
            lease: lease.clamp(Duration::from_secs(1), Duration::from_secs(3)),
            spent: Spent::default(),
            clock_confirmed_by: None,
            #[cfg(feature = "defects")]
            defect: None,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::with_lease(Duration::from_secs(2))
    }
}

/// The safety core of one session.
#[derive(Clone, Debug)]
pub struct Governor {
    plan: Plan,
    settings: Settings,
    now: Mono,
    version: Version,
    last_seq: Seq,
    durable: Seq,
    last_command: CommandId,
    last_dose: DoseId,
    last_generation: Generation,
    latched: Option<Generation>,
    common: Common,
    units: Vec<Unit>,
    runs: Vec<StepRun>,
    /// Alarms, and until when each is silent.
    alarms: BTreeMap<Alarm, Option<Mono>>,
    /// Grows with everything that is to be heard anew.
    sounded: u64,
    verdicts: BTreeMap<RequestId, Option<Verdict>>,
    last_action: Mono,
    /// Stops that a seeded defect keeps back.
    #[cfg(feature = "defects")]
    kept_stops: Vec<(DeviceId, Generation)>,
    started: Mono,
    /// Where a person said that sensation had returned, and when.
    sensation: Vec<(Place, Mono)>,
    /// Declared doses and the like are on record.
    history_noted: bool,
    /// Uncertain doses of this session: their step, and since when it was in doubt.
    doubtful: BTreeMap<DoseId, (usize, Mono)>,
    /// Intervals that were resolved in this session, and what counts of each.
    resolved: BTreeMap<DoseRef, Duration>,
    /// Next sign of life to the guard, while it watches a unit.
    beat_at: Option<Mono>,
}

impl Governor {
    /// Makes the governor of one session. Everything is at zero, nothing is armed, every interlock is open.
    pub fn new(mut plan: Plan, settings: Settings, now: Mono) -> Self {
        limits::first_visit(&mut plan.steps, &settings.spent.known);
        let units = plan.devices.iter().map(|_| Unit::new(now)).collect();
        let runs = plan.steps.iter().map(|step| {
            let capability = plan.devices.get(usize::from(step.device.0)).map(|planned| &planned.capability);
            let seen_from = capability.map_or(Milliamps::ZERO, |capability| capability.contact_seen_from);
            StepRun::new(step.target.zero(), seen_from, now)
        });
        let runs = runs.collect();
        Self {
            plan,
            settings,
            now,
            version: Version(0),
            last_seq: Seq(0),
            durable: Seq(0),
            last_command: CommandId(0),
            last_dose: DoseId(0),
            last_generation: Generation(0),
            latched: None,
            common: Common::new(),
            units,
            runs,
            alarms: BTreeMap::new(),
            sounded: 0,
            verdicts: BTreeMap::new(),
            last_action: now,
            #[cfg(feature = "defects")]
            kept_stops: Vec::new(),
            started: now,
            sensation: Vec::new(),
            history_noted: false,
            doubtful: BTreeMap::new(),
            resolved: BTreeMap::new(),
            beat_at: None,
        }
    }

    /// Advances to `now`, handles one input, appends what must be done, in order.
    pub fn advance(&mut self, now: Mono, input: Input, out: &mut Vec<Output>) {
        let now = self.now.max(now);
        self.now = now;
        for unit in &mut self.units {
            unit.stopped_in_use = false;
        }
        // A stop comes before everything that time would do, so that nothing stands in front of it.
        if let Input::Stop { by, reason } = input {
            self.stop_all(now, by, reason, out);
            self.tick(now, out);
            return;
        }
        self.tick(now, out);
        match input {
            Input::Tick | Input::Stop { .. } => {}
            Input::Request(request) => self.request(now, request, out),
            Input::Report { device, report } => self.report(now, device, report, out),
            Input::Link { device, up } => self.link(now, device, up, out),
            Input::Heartbeat { issued } => self.heartbeat(now, issued, out),
            Input::Unseen => self.unseen(now, out),
            Input::Durable { seq } => self.became_durable(now, seq, out),
            Input::Record(health) => self.record_health(now, health, out),
            Input::Guard { present } => self.guard(now, present, out),
            Input::GuardHolds { device, holds } => self.guard_holds(now, device, holds, out),
            Input::ClockSane(sane) => self.clock_sane(now, sane, out),
            Input::AlarmOutput(state) => self.alarm_output(now, state, out),
            Input::LockedOut { device, cause, left } => self.lock_out(now, device, cause, left, out),
            Input::Suspended => self.suspended(now, out),
            Input::Close => self.close(now, out),
        }
        self.tick(now, out);
    }

    #[cfg(feature = "defects")]
    fn has(&self, defect: Defect) -> bool {
        self.settings.defect == Some(defect)
    }

    /// Returns the plan that governs.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns a unit's number of the newest stop asked of it.
    pub fn generation(&self, device: DeviceId) -> Generation {
        self.unit(device).map_or(Generation(0), |unit| unit.stop.generation)
    }

    fn step(&self, index: usize) -> Option<&Step> {
        self.plan.steps.get(index)
    }

    fn unit(&self, device: DeviceId) -> Option<&Unit> {
        self.units.get(usize::from(device.0))
    }

    fn unit_mut(&mut self, device: DeviceId) -> Option<&mut Unit> {
        self.units.get_mut(usize::from(device.0))
    }

    fn capability(&self, device: DeviceId) -> Option<&Capability> {
        self.plan.devices.get(usize::from(device.0)).map(|planned| &planned.capability)
    }

    /// Returns the positions of the steps that use a unit.
    fn steps_of(&self, device: DeviceId) -> Vec<usize> {
        let steps = self.plan.steps.iter().enumerate();
        steps.filter(|(_, step)| step.device == device).map(|(index, _)| index).collect()
    }

    fn devices(&self) -> impl Iterator<Item = DeviceId> + use<> {
        let count = u8::try_from(self.units.len()).unwrap_or(u8::MAX);
        (0..count).map(DeviceId)
    }

    fn bump(&mut self) {
        self.version = Version(self.version.0.saturating_add(1));
    }
}
