//! Interlocks: conditions that must hold for output to rise or to continue.
//!
//! Losing one lowers output; regaining it never raises it.

use std::time::Duration;

use crate::governor::input::{AlarmOutput, RecordHealth};
use crate::governor::output::{Interlock, Refusal};
use crate::governor::{Governor, limits};
use crate::model::command::Generation;
use crate::model::protocol::Modality;
use crate::units::Mono;

/// No start below this charge, percent.
const BATTERY_START_MIN: u8 = 15;
/// An echo of an older snapshot renews nothing (SR-47).
const ECHO_AGE_MAX: Duration = Duration::from_secs(1);

/// Conditions that hold for all units at once.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// End of the operator's lease.
    pub(crate) lease_until: Option<Mono>,
    pub(crate) record: RecordHealth,
    /// Since when the record has not been healthy.
    pub(crate) record_bad_since: Option<Mono>,
    pub(crate) guard: bool,
    pub(crate) clock_sane: bool,
    pub(crate) read_back: bool,
    pub(crate) alarm_output: AlarmOutput,
    /// When the lease last lapsed: an echo of what was painted before says nothing of what is there now.
    pub(crate) lapsed_at: Option<Mono>,
}

impl Common {
    pub(crate) const fn new() -> Self {
        Self {
            lease_until: None,
            record: RecordHealth::Slow,
            record_bad_since: None,
            guard: false,
            clock_sane: false,
            read_back: false,
            alarm_output: AlarmOutput::Untested,
            lapsed_at: None,
        }
    }

    /// Returns whether the operator's lease is alive.
    pub(crate) fn lease_alive(&self, now: Mono) -> bool {
        self.lease_until.is_some_and(|until| now < until)
    }

    /// Takes an echo of the snapshot issued at `issued`. Buffered, replayed and future echoes renew nothing, and none
    /// from before a lapse brings the lease back.
    pub(crate) fn heartbeat(&mut self, now: Mono, issued: Mono, lease: Duration) {
        let before_lapse = self.lapsed_at.is_some_and(|lapsed| issued < lapsed);
        if issued > now || now.since(issued) > ECHO_AGE_MAX || before_lapse {
            return;
        }
        let until = issued.saturating_add(lease);
        self.lease_until = Some(self.lease_until.map_or(until, |present| present.max(until)));
    }

    fn open(&self, now: Mono) -> Option<Interlock> {
        if !self.read_back {
            return Some(Interlock::ReadBack);
        }
        if !self.guard {
            return Some(Interlock::GuardPresent);
        }
        if !self.clock_sane {
            return Some(Interlock::ClockSane);
        }
        if self.record != RecordHealth::Healthy {
            return Some(Interlock::RecordDurable);
        }
        if !self.lease_alive(now) {
            return Some(Interlock::OperatorPresent);
        }
        None
    }
}

impl Governor {
    fn latch(&self) -> Option<Generation> {
        let latched = self.latched;
        #[cfg(feature = "defects")]
        let latched = latched.filter(|_| !self.has(super::Defect::RiseWhileStopped));
        latched
    }

    /// Returns why a step may not be armed now.
    pub(super) fn arm_blocked(&self, index: usize, now: Mono) -> Option<Refusal> {
        if let Some(generation) = self.latch() {
            return Some(Refusal::Stopped { generation });
        }
        if let Some(interlock) = self.common.open(now) {
            return Some(Refusal::Interlock(interlock));
        }
        if !self.common.alarm_output.is_tested() {
            return Some(Refusal::Interlock(Interlock::AlarmTested));
        }
        let step = self.step(index)?;
        if let Some(locked) = self.locked(step.device, now) {
            return Some(locked);
        }
        if let Some(what) = limits::pattern_over_limit(step) {
            return Some(Refusal::Pattern { what });
        }
        let unit = self.unit(step.device)?;
        if let Some(why) = &unit.unusable {
            return Some(Refusal::Unit { why: why.clone() });
        }
        let capability = self.capability(step.device)?;
        match step.modality {
            Modality::Tens | Modality::Nmes if capability.keep_alive.is_none() => {
                return Some(Refusal::Interlock(Interlock::StopsByItself));
            }
            Modality::Percussion if capability.keep_alive.is_none() && step.held_by.is_none() => {
                return Some(Refusal::Interlock(Interlock::HeldByPerson));
            }
            Modality::Tens | Modality::Nmes | Modality::Percussion => {}
        }
        if unit.battery.is_some_and(|percent| percent < BATTERY_START_MIN) {
            return Some(Refusal::Interlock(Interlock::Battery));
        }
        if !unit.up || !self.is_fresh(index, now) {
            return Some(Refusal::Interlock(Interlock::LinkFresh));
        }
        if !unit.held {
            return Some(Refusal::Interlock(Interlock::GuardHolds));
        }
        if !unit.ready && !unit.proven_zero() {
            return Some(Refusal::NotProven { device: step.device });
        }
        if self.area_unsettled(index) {
            return Some(Refusal::State {
                why: "What was given on this area is not settled: see that the unit there has stopped first.",
            });
        }
        self.history_blocks(index, now)
    }

    /// Returns whether a step that is over, or held, may still be giving output on this step's area.
    fn area_unsettled(&self, index: usize) -> bool {
        let Some(place) = self.step(index).map(|step| &step.place) else {
            return true;
        };
        let runs = self.plan.steps.iter().zip(&self.runs);
        runs.filter(|(step, _)| step.place.overlaps(place))
            .any(|(_, run)| !run.is_live() && run.ledger.is_open())
    }

    /// Returns why output of a step may not rise now.
    pub(super) fn rise_blocked(&self, index: usize, now: Mono) -> Option<Refusal> {
        if let Some(generation) = self.latch() {
            return Some(Refusal::Stopped { generation });
        }
        if let Some(interlock) = self.common.open(now) {
            return Some(Refusal::Interlock(interlock));
        }
        let unit = self.unit(self.step(index)?.device)?;
        if !unit.up || !unit.ready || !self.is_fresh(index, now) {
            return Some(Refusal::Interlock(Interlock::LinkFresh));
        }
        if !unit.held {
            return Some(Refusal::Interlock(Interlock::GuardHolds));
        }
        let run = self.runs.get(index)?;
        if run.pressed.is_some_and(|pressed| pressed.lowered) {
            return Some(Refusal::State { why: "It is pressed too hard. Press less first." });
        }
        self.discomfort_until(index, now).map(|until| Refusal::Locked { left: until.since(now) })
    }

    /// Returns until when discomfort on a step's area, at whichever step it was said, forbids a rise (SR-21).
    fn discomfort_until(&self, index: usize, now: Mono) -> Option<Mono> {
        let place = &self.step(index)?.place;
        let there = self.plan.steps.iter().zip(&self.runs).filter(|(step, _)| step.place.overlaps(place));
        there.filter_map(|(_, run)| run.locked_until).filter(|until| now < *until).max()
    }

    /// Returns whether a step's unit has answered within its suspect time.
    fn is_fresh(&self, index: usize, now: Mono) -> bool {
        let Some(step) = self.step(index) else {
            return false;
        };
        let silent = self.unit(step.device).and_then(|unit| unit.silent(now));
        let suspect = self.capability(step.device).map(|capability| capability.telemetry.suspect);
        matches!((silent, suspect), (Some(silent), Some(suspect)) if silent <= suspect)
    }
}
