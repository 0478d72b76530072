//! What is done at a gun itself (design 5): lowered is the new setpoint, raised above the limit or started unasked is a
//! stop and an alarm. An armed step that says `start_at_device` may be started and set there, up to its limit.
//!
//! ```text
//!  Armed --intent durable, judged again--> the driver is told the limit --started at the gun--> Running, by hand
//!                                                                              first setpoint from here --> Running
//! ```
//!
//! Invariants: what nobody commanded is booked as given; while a gun runs by its own hand its limit is what is booked,
//! for the limit stands in for the command (percussion-ble 2.7.7).

use std::time::Duration;

use crate::alarm::Cause;
use crate::governor::output::{Cleared, Entry, Output, Refusal};
use crate::governor::state::Pending;
use crate::governor::stop::After;
use crate::governor::{Governor, StepState, limits, rise};
use crate::model::command::{Command, DeviceId, Intensity, Setpoint};
use crate::model::report::OwnButton;
use crate::model::session::StopReason;
use crate::units::Mono;

impl Governor {
    pub(super) fn own_button(&mut self, now: Mono, device: DeviceId, what: OwnButton, out: &mut Vec<Output>) {
        self.append(now, Entry::OwnButton { device, what }, out);
        let live = self
            .steps_of(device)
            .into_iter()
            .find(|index| self.runs.get(*index).is_some_and(super::state::StepRun::is_live));
        match what {
            OwnButton::Stopped => {
                if self.in_use(device) {
                    self.zero_unit(now, device, None, After::End(StopReason::StoppedAtDevice), out);
                    self.alarm(now, Cause::StoppedAtDevice, Some(device), None, out);
                }
            }
            OwnButton::Lowered(to) => {
                if let Some(index) = live {
                    self.lowered_at_device(now, index, to, out);
                }
            }
            OwnButton::Started(at) if self.start_by_hand(now, device, at, out) => {}
            OwnButton::Changed(to) if self.change_by_hand(now, device, to) => {}
            OwnButton::Started(at) => {
                self.moved_by_hand(now, device, at, out);
                self.zero_unit(now, device, None, After::End(StopReason::StartedAtDevice), out);
                self.alarm(now, Cause::StartedAtDevice, Some(device), None, out);
            }
            OwnButton::Raised(at) | OwnButton::Changed(at) => {
                self.moved_by_hand(now, device, at, out);
                self.zero_unit(now, device, None, After::End(StopReason::LimitViolation), out);
                self.alarm(now, Cause::RaisedAtDevice, Some(device), None, out);
            }
        }
    }

    /// Lowered by hand is the new setpoint, unless less was ordered meanwhile; a rise on its way is given up.
    fn lowered_at_device(&mut self, now: Mono, index: usize, to: Intensity, out: &mut Vec<Output>) {
        self.void_pending(now, index, Refusal::State { why: "It was lowered at the gun itself." }, out);
        let Some(setpoint) = self.runs.get(index).map(|run| run.setpoint) else {
            return;
        };
        self.follow(now, index, setpoint.with_magnitude(to.magnitude().min(setpoint.magnitude())));
        if let Some(value) = speed_setpoint(to) {
            self.book(index, now, out, |ledger, closed| ledger.lowered_at_device(now, value, closed));
        }
        self.bump();
    }

    /// Books what a hand started or raised. The motor is still on its way up, so what it said is not where it went: up to
    /// its top counts until it has stopped.
    fn moved_by_hand(&mut self, now: Mono, device: DeviceId, at: Intensity, out: &mut Vec<Output>) {
        let most = self.capability(device).map(|capability| limits::top(&capability.intensity));
        let most = most.filter(|most| most.magnitude() > at.magnitude()).unwrap_or(at);
        self.uncommanded(now, device, most, out);
    }

    /// Books output that nobody commanded, at the step that used the unit last, else at its first.
    pub(super) fn uncommanded(&mut self, now: Mono, device: DeviceId, at: Intensity, out: &mut Vec<Output>) {
        let steps = self.steps_of(device);
        let label = self.plan.devices.get(usize::from(device.0)).map(|planned| planned.label.as_str());
        let before = label.and_then(|label| self.settings.spent.continued.armed_on.get(label));
        // In use, else what still counts, else what it was armed for last, for there it is, also in the session that this
        // one goes on with; else the first.
        let nearest = |index: &usize| {
            let run = self.runs.get(*index)?;
            let lay_there = before.is_some() && self.plan.steps.get(*index).map(|step| &step.place) == before;
            Some((run.is_live(), run.ledger.is_open(), run.armed_at, lay_there, std::cmp::Reverse(*index)))
        };
        let Some(index) = steps.iter().copied().max_by_key(nearest) else {
            return;
        };
        let Some((value, since)) = speed_setpoint(at).zip(self.may_have_begun(now, index)) else {
            return;
        };
        self.book(index, now, out, |ledger, closed| ledger.uncommanded(now, since, value, closed));
        // Nobody asked for it, and it counts.
        if let Some(run) = self.runs.get_mut(index)
            && run.on_since.is_none()
        {
            run.uncommanded_since = Some(run.uncommanded_since.unwrap_or(since));
        }
    }

    /// Returns since when what a report shows for the first time may have been given: the answer before it, or standstill.
    pub(super) fn may_have_begun(&self, now: Mono, index: usize) -> Option<Mono> {
        let (step, run) = (self.step(index)?, self.runs.get(index)?);
        let unit = self.unit(step.device)?;
        let since = if run.ledger.is_open() {
            unit.alive_before.unwrap_or(unit.zero_seen)
        } else {
            // What ended before is counted already, up to its proof: in its tail it may have been started again.
            let tail = self.capability(step.device).map_or(Duration::ZERO, |capability| capability.stop_tail);
            let ended = run.spans.iter().map(|(_, until)| *until).max();
            unit.zero_seen.max(ended.map_or(unit.zero_seen, |ended| ended.saturating_sub(tail)))
        };
        Some(since.min(now))
    }

    /// Puts on record that an armed step may be started at the gun; the driver is told when that is durable.
    pub(super) fn ask_start_at_device(&mut self, now: Mono, index: usize, out: &mut Vec<Output>) {
        let Some((step, run)) = self.step(index).zip(self.runs.get(index)) else {
            return;
        };
        let Some(by) = run.armed_by.clone().filter(|_| step.start_at_device) else {
            return;
        };
        let Some(capability) = self.capability(step.device) else {
            return;
        };
        let binding = limits::binding(step, capability, run.operator_limit, run.comfort_limit);
        let usual = limits::usual(step, capability).map_or(u32::MAX, Intensity::magnitude);
        // Nobody is asked for a reason at the gun, so what is usual is the most there.
        let most = binding.allowed.with_magnitude(binding.allowed.magnitude().min(usual));
        let Some(to) = super::tick::setpoint(step, most).filter(|_| !most.is_zero()) else {
            return;
        };
        let intent = Entry::Intent {
            request: crate::governor::RequestId(0),
            by,
            step: step.number,
            device: step.device,
            channel: step.channel,
            from: most.zero(),
            to,
            limit: (binding.owner, binding.allowed),
            reason: None,
        };
        let seq = self.append(now, intent, out);
        if let Some(run) = self.runs.get_mut(index) {
            run.pending = Some(Pending { seq, request: None, at: now, target: most, reason: None });
        }
    }

    /// Tells the driver that the gun's own button may start it: the intent is durable and was judged again.
    pub(super) fn allow_start(&mut self, index: usize, pending: &Pending, out: &mut Vec<Output>) {
        let id = self.next_command();
        let Some((device, channel, most)) = self
            .step(index)
            .and_then(|step| Some((step.device, step.channel, super::tick::setpoint(step, pending.target)?)))
        else {
            return;
        };
        let Some(epoch) = self.unit(device).map(|unit| unit.epoch) else {
            return;
        };
        let command = Cleared::new(Command::AllowStart { id, epoch, channel, most });
        out.push(Output::Drive { device, command });
        if let Some(run) = self.runs.get_mut(index) {
            run.by_hand = Some((pending.target, pending.seq));
        }
    }

    /// Takes over a start at the gun, when the armed step allows it and nothing forbids a rise at this moment.
    fn start_by_hand(&mut self, now: Mono, device: DeviceId, at: Intensity, out: &mut Vec<Output>) -> bool {
        let armed = self.steps_of(device).into_iter().find_map(|index| {
            let run = self.runs.get(index).filter(|run| run.state == StepState::Armed)?;
            Some((index, run.by_hand?.0))
        });
        let Some((index, most)) = armed else {
            return false;
        };
        let over = !at.same_kind(most) || at.magnitude() > most.magnitude().min(self.allowed(index));
        if over || self.rise_blocked(index, now).is_some() {
            return false;
        }
        let Some((value, since)) = speed_setpoint(most).zip(self.unit(device).map(|unit| unit.zero_seen))
        else {
            return false;
        };
        // It began at some time since it was last seen at zero, and ran at no more than it may.
        let id = self.next_command();
        self.book(index, now, out, |ledger, closed| {
            ledger.uncommanded(now, since, value, closed);
            ledger.sent(now, id, value, closed);
        });
        if let Some(run) = self.runs.get_mut(index) {
            run.state = StepState::Running;
            run.on_since = Some(since);
            run.delivered = Some(at);
            run.told = (most, now);
        }
        self.follow(now, index, at);
        self.void_pending(now, index, Refusal::State { why: "It was started at the gun itself." }, out);
        self.bump();
        true
    }

    /// Takes over a change at a gun that was started there; what is above the limit it does not take over.
    fn change_by_hand(&mut self, now: Mono, device: DeviceId, to: Intensity) -> bool {
        let running = self.steps_of(device).into_iter().find_map(|index| {
            let run = self.runs.get(index).filter(|run| run.state == StepState::Running)?;
            Some((index, run.by_hand?.0))
        });
        let Some((index, most)) = running else {
            return false;
        };
        if !to.same_kind(most) || to.magnitude() > most.magnitude().min(self.allowed(index)) {
            return false;
        }
        self.follow(now, index, to);
        self.bump();
        true
    }

    /// Takes what a hand has set as the setpoint; the next rise keeps its distance from it as from any change.
    fn follow(&mut self, now: Mono, index: usize, to: Intensity) {
        let pause = self.step(index).and_then(|step| self.capability(step.device));
        let pause = pause.map_or(Duration::ZERO, |capability| rise::pause(&capability.intensity));
        if let Some(run) = self.runs.get_mut(index) {
            (run.asked, run.setpoint, run.target, run.envelope) = (to, to, to, to);
            run.rise_at = now.saturating_add(pause);
        }
    }
}

/// Returns a gun's reported intensity as a setpoint; a stimulator reports no amplitude.
pub(super) const fn speed_setpoint(intensity: Intensity) -> Option<Setpoint> {
    match intensity {
        Intensity::Speed(speed) => Some(Setpoint::Speed(speed)),
        Intensity::Level(level) => Some(Setpoint::Level(level)),
        Intensity::Current(_) => None,
    }
}
