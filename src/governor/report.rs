//! What drivers report, and what the world reports of links, leases, the record and the guard.

use std::time::Duration;

use crate::alarm::Cause;
use crate::governor::hand::speed_setpoint;
use crate::governor::input::RecordHealth;
use crate::governor::output::{Entry, ForGuard, Output};
use crate::governor::state::Stop;
use crate::governor::stop::After;
use crate::governor::{Governor, StepState, StopView};
use crate::model::command::{Channel, CommandId, DeviceId, Epoch, Generation, Intensity};
use crate::model::report::{EpochEnd, Report, StopProgress};
use crate::model::session::{Actor, StopReason};
use crate::units::Mono;

/// Warn below this charge, percent.
const BATTERY_WARN: u8 = 25;

impl Governor {
    pub(super) fn report(&mut self, now: Mono, device: DeviceId, report: Report, out: &mut Vec<Output>) {
        if self.unit(device).is_none() {
            return;
        }
        match report {
            Report::Identity(identity) => {
                self.append(now, Entry::Identity { device, identity }, out);
            }
            Report::StopLearnt { frame } => {
                self.append(now, Entry::StopLearnt { device, frame }, out);
            }
            Report::Alive => {
                if let Some(unit) = self.unit_mut(device) {
                    unit.alive_before = unit.last_alive;
                    unit.last_alive = Some(now);
                }
            }
            Report::Ready { epoch } => self.ready(now, device, epoch, out),
            Report::EpochEnded { epoch, cause } => self.epoch_ended(now, device, epoch, cause, out),
            Report::Acknowledged { id } => self.acknowledged(now, device, id, out),
            Report::Unacknowledged { id } => self.unacknowledged(now, device, id, out),
            Report::Refused { id, why } => {
                self.anomaly(now, device, format!("command {} was not sent: {why}", id.0), out);
                self.fault(now, device, StopReason::DeviceFault, Cause::DeviceFault, out);
            }
            Report::Measured { channel, running, intensity } => {
                self.measured(now, device, channel, running, intensity, out);
            }
            Report::Stop { generation, progress, after } => {
                self.stop_progress(now, device, generation, progress, after, out);
            }
            Report::Force(force) => self.force(now, device, force, out),
            Report::OwnButton(what) => self.own_button(now, device, what, out),
            Report::Battery(percent) => self.battery(now, device, percent, out),
            Report::LeaseEnded => {
                self.anomaly(now, device, "the lease ended; the driver sent its stop", out);
                self.fault(now, device, StopReason::HeartbeatLost, Cause::OperatorGone, out);
            }
            Report::DroppedLate => {
                self.anomaly(now, device, "a frame was dropped because it was late", out);
                self.fault(now, device, StopReason::DeviceFault, Cause::DeviceFault, out);
            }
            Report::Clamped { asked, sent } => {
                self.anomaly(now, device, format!("the last barrier cut {asked} to {sent}"), out);
                self.fault(now, device, StopReason::LimitViolation, Cause::Defect, out);
            }
            Report::Unintelligible { why } => self.unintelligible(now, device, why, out),
            Report::Unusable { why } => {
                self.anomaly(now, device, why.clone(), out);
                if let Some(unit) = self.unit_mut(device) {
                    unit.unusable = Some(why);
                }
                self.fault(now, device, StopReason::DeviceFault, Cause::DeviceFault, out);
            }
        }
    }

    fn ready(&mut self, now: Mono, device: DeviceId, epoch: Epoch, out: &mut Vec<Output>) {
        let Some(unit) = self.unit_mut(device).filter(|unit| unit.preparing && unit.epoch == epoch) else {
            return;
        };
        unit.preparing = false;
        unit.ready = true;
        unit.last_alive = Some(now);
        unit.renew_at = Some(now);
        for index in self.steps_of(device) {
            if let Some(run) = self.runs.get_mut(index)
                && run.state == StepState::Arming
            {
                run.state = StepState::Armed;
                self.ask_start_at_device(now, index, out);
            }
        }
        self.bump();
    }

    /// Stops a unit that is in use, ends its steps and raises the alarm.
    fn fault(
        &mut self,
        now: Mono,
        device: DeviceId,
        reason: StopReason,
        cause: Cause,
        out: &mut Vec<Output>,
    ) {
        if self.in_use(device) {
            self.zero_unit(now, device, None, After::End(reason), out);
            self.alarm(now, cause, Some(device), None, out);
        }
    }

    pub(super) fn in_use(&self, device: DeviceId) -> bool {
        self.unit(device).is_some_and(|unit| unit.ready || unit.preparing)
    }

    fn epoch_ended(
        &mut self,
        now: Mono,
        device: DeviceId,
        epoch: Epoch,
        cause: EpochEnd,
        out: &mut Vec<Output>,
    ) {
        let current = self.unit(device).is_some_and(|unit| unit.epoch == epoch);
        if !current || !self.in_use(device) {
            return;
        }
        self.append(now, Entry::EpochEnded { device, epoch, cause }, out);
        let since = self.unit(device).and_then(|unit| unit.last_alive).unwrap_or(now);
        let (reason, alarm, channel, doubtful) = match cause {
            EpochEnd::LeadOff(channel) => (StopReason::LeadOff, Cause::LeadOff, Some(channel), false),
            EpochEnd::PulseError(channel) => {
                (StopReason::DeviceFault, Cause::DeviceFault, Some(channel), false)
            }
            EpochEnd::Result(_) | EpochEnd::UnexpectedStatus => {
                (StopReason::DeviceFault, Cause::DeviceFault, None, false)
            }
            EpochEnd::LostAcknowledgement | EpochEnd::KeepAliveLost | EpochEnd::Disconnected => {
                (StopReason::LinkLost, Cause::LinkLost, None, true)
            }
            EpochEnd::Stopped => (StopReason::EpochEnded, Cause::DeviceFault, None, false),
            EpochEnd::LeaseEnded => (StopReason::HeartbeatLost, Cause::OperatorGone, None, false),
        };
        self.zero_unit(now, device, None, After::End(reason), out);
        self.alarm(now, alarm, Some(device), channel, out);
        if doubtful {
            self.doubt(now, device, since, out);
        }
    }

    fn acknowledged(&mut self, now: Mono, device: DeviceId, id: CommandId, out: &mut Vec<Output>) {
        for index in self.steps_of(device) {
            self.book(index, now, out, |ledger, closed| ledger.acknowledged(now, id, closed));
            // A channel that gives nothing is not in a stimulator's reports: its acknowledged zero is what is known.
            if let Some(run) = self.runs.get_mut(index).filter(|run| !run.is_live() && !run.ledger.is_open())
            {
                run.stop_counting(now);
            }
            if let Some(run) = self.runs.get_mut(index)
                && run.ledger.settled_intensity().is_some_and(Intensity::is_zero)
            {
                run.delivered = run.delivered.map(Intensity::zero);
            }
        }
    }

    fn unacknowledged(&mut self, now: Mono, device: DeviceId, id: CommandId, out: &mut Vec<Output>) {
        self.anomaly(now, device, format!("command {} was not acknowledged", id.0), out);
        let since = self.unit(device).and_then(|unit| unit.last_alive).unwrap_or(now);
        if self.in_use(device) {
            self.zero_unit(now, device, None, After::End(StopReason::LinkLost), out);
            self.alarm(now, Cause::LinkLost, Some(device), None, out);
        }
        self.doubt(now, device, since, out);
    }

    fn measured(
        &mut self,
        now: Mono,
        device: DeviceId,
        channel: Channel,
        running: bool,
        intensity: Option<Intensity>,
        out: &mut Vec<Output>,
    ) {
        if !running && let Some(unit) = self.unit_mut(device) {
            unit.saw_zero(now);
        }
        for index in self.steps_of(device) {
            let ours = self.step(index).is_some_and(|step| step.channel == channel);
            let open = self.runs.get(index).is_some_and(|run| run.is_live() || run.ledger.is_open());
            if !ours || !open {
                continue;
            }
            // By its own hand the limit stands in for the command, and nothing ever settles it.
            let by_hand = self.runs.get(index).is_some_and(|run| run.by_hand.is_some());
            let value = intensity.and_then(speed_setpoint).filter(|_| running);
            let since = self.may_have_begun(now, index).unwrap_or(now);
            self.book(index, now, out, |ledger, closed| {
                if !running {
                    ledger.measured_off();
                    return;
                }
                if let (Some(value), Some((id, newest))) = (value, ledger.awaits_report())
                    && !by_hand
                    && value.intensity().magnitude() <= newest.intensity().magnitude()
                {
                    ledger.settle(now, id, closed);
                }
                ledger.measured(now, since, value, closed);
            });
            if let Some(run) = self.runs.get_mut(index) {
                run.delivered = match (running, intensity) {
                    (false, _) => Some(run.setpoint.zero()),
                    (true, Some(intensity)) => Some(intensity),
                    (true, None) => run.ledger.settled_intensity(),
                };
            }
        }
        self.compare(now, device, channel, running, intensity, out);
    }

    fn stop_progress(
        &mut self,
        now: Mono,
        device: DeviceId,
        generation: Generation,
        progress: StopProgress,
        after: Duration,
        out: &mut Vec<Output>,
    ) {
        let tail = self.capability(device).map_or(Duration::ZERO, |capability| capability.stop_tail);
        let Some(unit) = self.unit_mut(device).filter(|unit| unit.stop.generation == generation) else {
            return;
        };
        match progress {
            StopProgress::Written if unit.stop.view == StopView::Asked => unit.stop.view = StopView::Written,
            StopProgress::Written => {}
            // An echo of a stop from before this epoch says nothing of what runs in it.
            StopProgress::Confirmed if unit.ready || unit.preparing => return,
            StopProgress::Confirmed => {
                unit.stop.view = StopView::Confirmed(after);
                unit.saw_zero(now);
                self.release(device, true, out);
                self.zero_proven(now, device, tail, out);
                self.end_earlier(now, device, tail, out);
            }
            StopProgress::Unconfirmed => {
                if !unit.stop_settled() {
                    self.stop_unproven(now, device, out);
                }
            }
        }
        self.append(now, Entry::StopProgress { device, generation, progress, after }, out);
        self.bump();
    }

    pub(super) fn zero_proven(&mut self, now: Mono, device: DeviceId, tail: Duration, out: &mut Vec<Output>) {
        for index in self.steps_of(device) {
            self.settle_zero(now, index, (now, tail), out);
            if let Some(run) = self.runs.get_mut(index) {
                run.delivered = run.delivered.map(Intensity::zero);
            }
        }
    }

    fn battery(&mut self, now: Mono, device: DeviceId, percent: u8, out: &mut Vec<Output>) {
        let Some(unit) = self.unit_mut(device) else {
            return;
        };
        let changed = unit.battery != Some(percent);
        unit.battery = Some(percent);
        if changed {
            self.append(now, Entry::Battery { device, percent }, out);
        }
        if percent < BATTERY_WARN {
            self.alarm(now, Cause::Battery, Some(device), None, out);
        } else {
            self.clear_unlatched(now, Cause::Battery, device, out);
        }
    }

    fn unintelligible(&mut self, now: Mono, device: DeviceId, why: &'static str, out: &mut Vec<Output>) {
        let Some(unit) = self.unit_mut(device) else {
            return;
        };
        unit.unintelligible = unit.unintelligible.saturating_add(1);
        let count = unit.unintelligible;
        // The first, and then each time the count doubles: a flood of noise must not flood the record.
        if count.is_power_of_two() {
            self.anomaly(
                now,
                device,
                format!("answers that were not understood so far: {count} ({why})"),
                out,
            );
        }
    }

    pub(super) fn link(&mut self, now: Mono, device: DeviceId, up: bool, out: &mut Vec<Output>) {
        // A link that comes up twice was lost in between.
        let again = up && self.unit(device).is_some_and(|unit| unit.up);
        if again && self.in_use(device) {
            self.link_lost(now, device, out);
        }
        let Some(unit) = self.unit_mut(device) else {
            return;
        };
        let changed = unit.up != up;
        unit.up = up;
        // The way to a unit is the link's: each link is handed over anew.
        (unit.held, unit.hold_again) = (false, None);
        if up {
            let first = !std::mem::replace(&mut unit.known, true);
            unit.last_alive = None;
            // What it did meanwhile is not known: the driver stops it first and proves it anew.
            if first || matches!(unit.stop.view, StopView::Confirmed(_) | StopView::Stated | StopView::None) {
                unit.stop = Stop { asked_at: now, view: StopView::Asked, ..unit.stop };
            }
        }
        if changed {
            self.append(now, Entry::Link { device, up }, out);
            self.bump();
        }
        if up && self.common.guard {
            out.push(Output::Guard(ForGuard::Hold { device }));
            self.say_stopping(now, device, out);
        }
        if !up && self.in_use(device) {
            self.link_lost(now, device, out);
        }
    }

    pub(super) fn heartbeat(&mut self, now: Mono, issued: Mono, out: &mut Vec<Output>) {
        let was = self.common.lease_alive(now);
        self.common.heartbeat(now, issued, self.settings.lease);
        if !was && self.common.lease_alive(now) {
            self.append(now, Entry::Lease { alive: true }, out);
        }
    }

    /// The page says that nobody can see it: hold at once.
    pub(super) fn unseen(&mut self, now: Mono, out: &mut Vec<Output>) {
        if self.common.lease_until.take().is_some() {
            self.lease_lapsed(now, out);
        }
    }

    pub(super) fn record_health(&mut self, now: Mono, health: RecordHealth, out: &mut Vec<Output>) {
        self.common.record = health;
        self.common.record_bad_since = match health {
            RecordHealth::Healthy => None,
            RecordHealth::Slow | RecordHealth::Failing => Some(self.common.record_bad_since.unwrap_or(now)),
        };
        if health == RecordHealth::Failing {
            self.alarm(now, Cause::RecordFailing, None, None, out);
        }
    }

    /// The wall clock is usable or not; what a person confirms is on record.
    pub(super) fn clock_sane(&mut self, now: Mono, sane: bool, out: &mut Vec<Output>) {
        self.common.clock_sane = sane;
        if let Some(person) = self.settings.clock_confirmed_by.take_if(|_| sane) {
            let by = Actor { person, screen: "command line".to_owned() };
            self.append(now, Entry::ClockConfirmed { by }, out);
        }
    }

    /// The machine slept: stop first, on every unit that is known.
    pub(super) fn suspended(&mut self, now: Mono, out: &mut Vec<Output>) {
        for device in self.devices() {
            if self.unit(device).is_some_and(|unit| unit.known) {
                let since = self.unit(device).and_then(|unit| unit.last_alive).unwrap_or(now);
                self.zero_unit(now, device, None, After::Hold(StopReason::OtherText), out);
                self.doubt(now, device, since, out);
            }
        }
        self.alarm(now, Cause::Suspended, None, None, out);
    }
}
