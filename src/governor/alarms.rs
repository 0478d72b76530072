//! Alarms of the running session: raised, seen, silent, gone; and the lock after three stops for the same cause.
//!
//! ```text
//!  raised (sounds) --seen, unit at proven zero--> silent for 120 s --> sounds again
//!        |  seen, cause gone                        |  seen, cause gone
//!        +----------------------> gone <------------+
//! ```
//!
//! Invariants: seeing an alarm never clears one whose cause is still there; an alarm about a unit that is not at proven
//! zero cannot be silenced (SR-36); the third stop of a unit for one cause within ten minutes locks it (SR-37).

use std::time::Duration;

use crate::alarm::{Alarm, Cause, PAUSE_MAX, Sounding};
use crate::governor::Governor;
use crate::governor::input::{AlarmOutput, RecordHealth};
use crate::governor::output::{Entry, Output, Refusal};
use crate::model::command::{Channel, DeviceId};
use crate::model::session::Actor;
use crate::units::Mono;

/// So many stops of a unit for one cause lock it.
const ALERTS_MAX: usize = 3;
/// Within this time.
const ALERTS_WITHIN: Duration = Duration::from_secs(600);
/// A lock lasts this long from the last of them. Nobody lifts it before: there is no override.
const LOCKED_FOR: Duration = Duration::from_secs(600);

impl Governor {
    /// Raises an alarm, once.
    pub(super) fn alarm(
        &mut self,
        now: Mono,
        cause: Cause,
        device: Option<DeviceId>,
        channel: Option<Channel>,
        out: &mut Vec<Output>,
    ) {
        let alarm = Alarm { cause, device, channel };
        let again = self.count_alert(now, cause, device, out);
        if let Some(quiet_until) = self.alarms.get_mut(&alarm) {
            // The same thing again is news, whether the first was seen or not.
            if again {
                *quiet_until = None;
                self.sounded = self.sounded.saturating_add(1);
            }
            return;
        }
        self.alarms.insert(alarm, None);
        self.sounded = self.sounded.saturating_add(1);
        out.push(Output::Alarm { alarm, raised: true });
        self.append(now, Entry::Alarm { alarm, raised: true }, out);
        self.bump();
    }

    /// Clears an alarm whose cause is gone.
    pub(super) fn clear_alarm(&mut self, now: Mono, alarm: Alarm, out: &mut Vec<Output>) {
        if self.alarms.remove(&alarm).is_some() {
            out.push(Output::Alarm { alarm, raised: false });
            self.append(now, Entry::Alarm { alarm, raised: false }, out);
            self.bump();
        }
    }

    /// A person has seen the alarms: those whose cause is gone leave, the others are silent for a while where they may.
    pub(super) fn acknowledge_alarms(&mut self, now: Mono, by: Actor, out: &mut Vec<Output>) {
        let alarms: Vec<Alarm> = self.alarms.keys().copied().collect();
        if alarms.is_empty() {
            return;
        }
        let mut sounds_on = false;
        for alarm in alarms.iter().filter(|alarm| !self.cause_gone(**alarm, now)).copied().collect::<Vec<_>>()
        {
            if !self.may_be_silent(alarm) {
                sounds_on = true;
            } else if let Some(quiet_until) = self.alarms.get_mut(&alarm) {
                *quiet_until = Some(now.saturating_add(PAUSE_MAX));
            }
        }
        let quiet = if sounds_on { Duration::ZERO } else { PAUSE_MAX };
        self.append(now, Entry::AlarmsSeen { by, alarms: alarms.clone(), quiet }, out);
        for alarm in alarms {
            if self.cause_gone(alarm, now) {
                self.clear_alarm(now, alarm, out);
            }
        }
        self.bump();
    }

    /// Returns whether the output that an alarm is about is at proven or stated zero; without a unit, every output.
    fn may_be_silent(&self, alarm: Alarm) -> bool {
        let at_zero = |device| {
            self.unit(device)
                .is_none_or(|unit| !unit.known || (!unit.ready && !unit.preparing && unit.stop_settled()))
        };
        match alarm.device {
            Some(device) => at_zero(device),
            None => self.devices().all(at_zero),
        }
    }

    /// Returns what is to be heard at `now`.
    pub(super) fn sounding(&self, now: Mono) -> Sounding {
        let mut sounding = Sounding { count: self.sounded, ..Sounding::default() };
        for (alarm, quiet_until) in &self.alarms {
            match quiet_until.filter(|until| now < *until && self.may_be_silent(*alarm)) {
                Some(until) => sounding.paused = sounding.paused.max(Some(until.since(now))),
                None => sounding.priority = sounding.priority.max(Some(alarm.cause.priority())),
            }
        }
        sounding
    }

    /// Clears the alarms that a person need not see, once their cause is gone.
    pub(super) fn clear_unlatched(
        &mut self,
        now: Mono,
        cause: Cause,
        device: DeviceId,
        out: &mut Vec<Output>,
    ) {
        if !cause.latched() {
            self.clear_alarm(now, Alarm { cause, device: Some(device), channel: None }, out);
        }
    }

    /// How the box can sound an alarm.
    pub(super) fn alarm_output(&mut self, now: Mono, state: AlarmOutput, out: &mut Vec<Output>) {
        if self.common.alarm_output == state {
            return;
        }
        self.common.alarm_output = state;
        self.append(now, Entry::AlarmOutput { state }, out);
        if state == AlarmOutput::Failing {
            self.alarm(now, Cause::Soundless, None, None, out);
        }
        self.bump();
    }

    /// Counts an alert that has just stopped a unit, or every unit, in use; returns whether it stopped one.
    fn count_alert(
        &mut self,
        now: Mono,
        cause: Cause,
        device: Option<DeviceId>,
        out: &mut Vec<Output>,
    ) -> bool {
        if !cause.stops_a_unit() {
            return false;
        }
        let mut stopped = false;
        for id in self.devices().filter(|id| device.is_none_or(|device| device == *id)) {
            let Some(unit) = self.unit_mut(id).filter(|unit| unit.stopped_in_use) else {
                continue;
            };
            stopped = true;
            unit.stopped_in_use = false;
            unit.alerts.retain(|(_, at)| now.since(*at) < ALERTS_WITHIN);
            unit.alerts.push((cause, now));
            let same = unit.alerts.iter().filter(|(of, _)| *of == cause).count();
            if same >= ALERTS_MAX {
                unit.alerts.retain(|(of, _)| *of != cause);
                self.lock_out(now, id, cause, LOCKED_FOR, out);
            }
        }
        stopped
    }

    /// Locks a unit: it is at zero or going there, and cannot be armed until the time is over.
    pub(super) fn lock_out(
        &mut self,
        now: Mono,
        device: DeviceId,
        cause: Cause,
        left: Duration,
        out: &mut Vec<Output>,
    ) {
        let left = left.min(LOCKED_FOR);
        let until = now.saturating_add(left);
        // A lock opens by its time and by nothing else: none is made shorter by another.
        let Some(unit) =
            self.unit_mut(device).filter(|unit| unit.locked.is_none_or(|(_, open)| open < until))
        else {
            return;
        };
        unit.locked = Some((cause, until));
        self.append(now, Entry::LockedOut { device, cause, left }, out);
        self.alarm(now, Cause::LockedOut, Some(device), None, out);
    }

    /// Returns the refusal of a unit that is locked at `now`.
    pub(super) fn locked(&self, device: DeviceId, now: Mono) -> Option<Refusal> {
        let (cause, until) = self.unit(device)?.locked.filter(|(_, until)| now < *until)?;
        Some(Refusal::LockedOut { device, cause, left: until.since(now) })
    }

    fn cause_gone(&self, alarm: Alarm, now: Mono) -> bool {
        let uncertain = |device| {
            self.steps_of(device)
                .into_iter()
                .any(|index| self.runs.get(index).is_some_and(|run| run.ledger.is_uncertain()))
        };
        match (alarm.cause, alarm.device) {
            (Cause::OperatorGone, _) => self.common.lease_alive(now),
            (Cause::RecordFailing, _) => self.common.record == RecordHealth::Healthy,
            (Cause::GuardGone, _) => self.common.guard,
            (Cause::GuardBlind, Some(device)) => self.unit(device).is_some_and(|unit| unit.held),
            (Cause::Uncertain, Some(device)) => !uncertain(device),
            (Cause::Soundless, _) => self.common.alarm_output != AlarmOutput::Failing,
            (Cause::LockedOut, Some(device)) => self.locked(device, now).is_none(),
            (
                Cause::StopUnconfirmed
                | Cause::Mismatch
                | Cause::LinkLost
                | Cause::LeadOff
                | Cause::DeviceFault
                | Cause::StartedAtDevice
                | Cause::RaisedAtDevice
                | Cause::StoppedAtDevice
                | Cause::ForceHigh
                | Cause::Defect,
                Some(device),
            ) => self.unit(device).is_some_and(|unit| unit.ready || unit.proven_zero()),
            (Cause::Battery, Some(device)) => {
                self.unit(device).and_then(|unit| unit.battery).is_none_or(|percent| percent >= 25)
            }
            (
                Cause::OperatorAbsent
                | Cause::GuardBlind
                | Cause::Suspended
                | Cause::StopUnconfirmed
                | Cause::Mismatch
                | Cause::LinkLost
                | Cause::LeadOff
                | Cause::DeviceFault
                | Cause::StartedAtDevice
                | Cause::RaisedAtDevice
                | Cause::StoppedAtDevice
                | Cause::Defect
                | Cause::Uncertain
                | Cause::ForceHigh
                | Cause::LockedOut
                | Cause::Battery,
                _,
            ) => true,
        }
    }
}
