//! How hard a gun is pressed, where it says so (SR-20): 2 s above the step's level lowers it to the low set, 5 s stops it.
//!
//! The unit of the number is not known and not calibrated, so it is compared with a level in the gun's own numbers that
//! the plan states; without one, or without a number, there is no rule. The times run on the governor's clock from the
//! first report above the level; a report at or below it ends them.

use std::time::Duration;

use crate::alarm::Cause;
use crate::governor::output::{Entry, Output, Refusal};
use crate::governor::state::Pressed;
use crate::governor::stop::After;
use crate::governor::{Governor, StepState, limits};
use crate::model::command::{DeviceId, Intensity};
use crate::model::session::StopReason;
use crate::units::{Mono, RawForce};

/// Pressed too hard for this long: lowered.
const LOWERS_AFTER: Duration = Duration::from_secs(2);
/// Pressed too hard for this long: stopped.
const STOPS_AFTER: Duration = Duration::from_secs(5);
/// Start of the low set, 20 Hz (`percussion_low`), by the worst credible reading: 1 raw is 1 stroke per minute.
const LOW_SET_RAW: u32 = 1_200;
/// A gun with steps: its lowest.
const LOW_SET_LEVEL: u32 = 1;

impl Governor {
    /// Handles a reported force.
    pub(super) fn force(&mut self, now: Mono, device: DeviceId, force: RawForce, out: &mut Vec<Output>) {
        for index in self.steps_of(device) {
            let max = self.step(index).and_then(|step| step.force_max);
            let Some(run) = self.runs.get_mut(index).filter(|run| run.state == StepState::Running) else {
                continue;
            };
            match max {
                Some(max) if force > max => {
                    let pressed =
                        run.pressed.get_or_insert(Pressed { since: now, highest: force, lowered: false });
                    pressed.highest = pressed.highest.max(force);
                }
                Some(_) | None => run.pressed = None,
            }
        }
        for index in self.steps_of(device) {
            self.tick_force(now, index, out);
        }
    }

    /// Returns when the force of a step next brings something about.
    pub(super) fn force_deadline(&self, index: usize) -> Option<Mono> {
        let run = self.runs.get(index).filter(|run| run.state == StepState::Running)?;
        let pressed = run.pressed?;
        let after = if pressed.lowered { STOPS_AFTER } else { LOWERS_AFTER };
        Some(pressed.since.saturating_add(after))
    }

    pub(super) fn tick_force(&mut self, now: Mono, index: usize, out: &mut Vec<Output>) {
        if self.force_deadline(index).is_none_or(|due| now < due) {
            return;
        }
        let Some((device, number, max)) =
            self.step(index).and_then(|step| Some((step.device, step.number, step.force_max?)))
        else {
            return;
        };
        let Some(pressed) = self.runs.get(index).and_then(|run| run.pressed) else {
            return;
        };
        if now.since(pressed.since) >= STOPS_AFTER {
            self.zero_unit(now, device, Some(index), After::End(StopReason::LimitViolation), out);
        } else {
            self.lower_for_force(now, index, out);
        }
        let to = self.runs.get(index).map_or(Intensity::Speed(Default::default()), |run| run.setpoint);
        self.append(now, Entry::Force { step: number, force: pressed.highest, max, to }, out);
        self.alarm(now, Cause::ForceHigh, Some(device), None, out);
    }

    /// Lowers to the low set; what the unit cannot run at is a hold.
    fn lower_for_force(&mut self, now: Mono, index: usize, out: &mut Vec<Output>) {
        if let Some(pressed) = self.runs.get_mut(index).and_then(|run| run.pressed.as_mut()) {
            pressed.lowered = true;
        }
        let Some((step, run)) = self.step(index).zip(self.runs.get(index)) else {
            return;
        };
        let device = step.device;
        let Some(capability) = self.capability(device) else {
            return;
        };
        let low = match run.setpoint {
            Intensity::Level(_) => LOW_SET_LEVEL,
            Intensity::Speed(_) | Intensity::Current(_) => LOW_SET_RAW,
        };
        let lowered = run.setpoint.with_magnitude(run.setpoint.magnitude().min(low));
        let lowered = limits::floor_to_grid(lowered, &capability.intensity);
        self.void_pending(now, index, Refusal::State { why: "It was pressed too hard meanwhile." }, out);
        if lowered.is_zero() {
            self.zero_unit(now, device, Some(index), After::Hold(StopReason::BelowDeviceFloor), out);
            return;
        }
        self.lower_to(now, index, lowered, out);
        if let Some(run) = self.runs.get_mut(index) {
            run.asked = run.level();
        }
    }
}
