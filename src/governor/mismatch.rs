//! A unit that reports more than it was told, or that it runs when its stop was proven or seen (SR-24).
//!
//! Drivers that know their unit's own buttons say so themselves, and that stops the unit before these times are over.
//! This is the second look: it needs nothing but a report. A report may describe the unit as it was half a second ago, and
//! one bad report that the next corrects is no mismatch.

use std::time::Duration;

use crate::alarm::Cause;
use crate::governor::output::Output;
use crate::governor::stop::After;
use crate::governor::{Governor, limits};
use crate::model::capability::IntensityRange;
use crate::model::command::{Channel, DeviceId, Intensity};
use crate::model::session::StopReason;
use crate::units::Mono;

/// A report may still describe what was told before for this long.
const GRACE: Duration = Duration::from_millis(500);
/// A report that none has corrected for this long counts; with it the alarm comes within 500 ms.
const STANDS: Duration = Duration::from_millis(250);

impl Governor {
    /// Compares a report with what was told.
    pub(super) fn compare(
        &mut self,
        now: Mono,
        device: DeviceId,
        channel: Channel,
        running: bool,
        intensity: Option<Intensity>,
        out: &mut Vec<Output>,
    ) {
        self.runs_unbooked(now, device, running, out);
        if let Some(unit) = self.unit_mut(device) {
            let stopped = !unit.ready && !unit.preparing && unit.stop_settled();
            unit.runs_since = if running && stopped { unit.runs_since.or(Some(now)) } else { None };
        }
        for index in self.steps_of(device) {
            if self.step(index).is_none_or(|step| step.channel != channel) {
                continue;
            }
            let above = running && intensity.is_some_and(|reported| self.is_above(now, index, reported));
            if let Some(run) = self.runs.get_mut(index) {
                run.above_since = if above { run.above_since.or(Some(now)) } else { None };
            }
        }
    }

    /// A unit that says that it runs while it is being stopped, and of which nothing is booked: it was started while nobody
    /// could see it. Its driver is busy with the stop and reports no start.
    fn runs_unbooked(&mut self, now: Mono, device: DeviceId, running: bool, out: &mut Vec<Output>) {
        let booked = self
            .steps_of(device)
            .into_iter()
            .any(|index| self.runs.get(index).is_some_and(|run| run.is_live() || run.ledger.is_open()));
        if !running || booked || self.unit(device).is_none_or(|unit| unit.stop_settled()) {
            return;
        }
        if let Some(capability) = self.capability(device) {
            self.uncommanded(now, device, limits::top(&capability.intensity), out);
            self.alarm(now, Cause::Mismatch, Some(device), None, out);
        }
    }

    /// Returns whether a live step's output is above what was told, or above its limit.
    fn is_above(&self, now: Mono, index: usize, reported: Intensity) -> bool {
        let Some((step, run)) = self.step(index).zip(self.runs.get(index)) else {
            return false;
        };
        if !run.is_live() || run.by_hand.is_some() || !reported.same_kind(run.setpoint) {
            return false;
        }
        let lately = now.since(run.told.1) < GRACE;
        let told = u64::from(run.highest_told(now).magnitude());
        let found = u64::from(reported.magnitude());
        let range = self.capability(step.device).map(|capability| capability.intensity);
        let off = match range {
            Some(IntensityRange::Current { step, .. }) => {
                found.saturating_mul(20) > told.saturating_mul(21)
                    || found >= told.saturating_add(u64::from(step.microamps().max(1)))
            }
            Some(IntensityRange::Speed { .. }) => found.saturating_mul(10) > told.saturating_mul(11),
            Some(IntensityRange::Level { .. }) | None => found > told,
        };
        off || !lately && found > u64::from(self.allowed(index)).max(told)
    }

    pub(super) fn mismatch_deadline(&self, index: usize) -> Option<Mono> {
        self.runs.get(index)?.above_since.map(|since| since.saturating_add(STANDS))
    }

    pub(super) fn tick_mismatch(&mut self, now: Mono, index: usize, out: &mut Vec<Output>) {
        if self.mismatch_deadline(index).is_none_or(|due| now < due) {
            return;
        }
        let Some(device) = self.step(index).map(|step| step.device) else {
            return;
        };
        let delivered = self.runs.get(index).and_then(|run| run.delivered);
        self.mismatch(now, device, delivered, out);
    }

    pub(super) fn runs_deadline(&self, device: DeviceId) -> Option<Mono> {
        self.unit(device)?.runs_since.map(|since| since.saturating_add(STANDS))
    }

    pub(super) fn tick_runs(&mut self, now: Mono, device: DeviceId, out: &mut Vec<Output>) {
        if self.runs_deadline(device).is_some_and(|due| now >= due) {
            let most = self.capability(device).map(|capability| limits::top(&capability.intensity));
            self.mismatch(now, device, most, out);
        }
    }

    fn mismatch(&mut self, now: Mono, device: DeviceId, at: Option<Intensity>, out: &mut Vec<Output>) {
        if let Some(at) = at {
            self.uncommanded(now, device, at, out);
        }
        self.zero_unit(now, device, None, After::End(StopReason::ReadbackMismatch), out);
        self.alarm(now, Cause::Mismatch, Some(device), None, out);
    }
}
