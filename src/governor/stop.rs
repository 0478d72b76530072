//! Stop, hold, the ordinary end of a step, and reset.
//!
//! A stop and a hold are the same act at the unit: its one sure frame. They differ in what follows: a held step may be
//! resumed from zero, an ended one has to be armed again, STOP ALL latches.

use crate::alarm::{Alarm, Cause};
use crate::governor::output::{Cleared, Entry, Interlock, Output, Refusal, Verdict};
use crate::governor::state::{Finish, Stop};
use crate::governor::{Governor, StepState, StopView};
use crate::model::command::{Command, CommandId, DeviceId, Generation, Intensity};
use crate::model::session::{Actor, StopReason};
use crate::units::Mono;

/// What follows for a step when its unit goes to zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Resumable from zero.
    Hold(StopReason),
    /// Over; may be armed again unless completed.
    End(StopReason),
}

impl Governor {
    /// STOP ALL: every unit to zero in this call, latched.
    pub(super) fn stop_all(&mut self, now: Mono, by: Actor, reason: StopReason, out: &mut Vec<Output>) {
        let generation = self.next_generation();
        self.latched = Some(generation);
        for device in self.devices() {
            self.order_stop(now, device, generation, out);
        }
        for device in self.devices() {
            self.say_stopping(now, device, out);
        }
        self.append(now, Entry::StopAll { by, reason, generation }, out);
        for device in self.devices() {
            self.settle_steps(now, device, None, After::End(reason), generation, out);
            self.doubt_if_silent(now, device, out);
        }
        self.bump();
    }

    /// Brings one unit to zero. `first`: the step it is about; the unit's other steps are held.
    pub(super) fn zero_unit(
        &mut self,
        now: Mono,
        device: DeviceId,
        first: Option<usize>,
        after: After,
        out: &mut Vec<Output>,
    ) {
        let generation = self.next_generation();
        self.order_stop(now, device, generation, out);
        self.say_stopping(now, device, out);
        self.settle_steps(now, device, first, after, generation, out);
        self.doubt_if_silent(now, device, out);
        self.bump();
    }

    /// Brings every unit that may give output to zero, held.
    pub(super) fn hold_all(&mut self, now: Mono, reason: StopReason, out: &mut Vec<Output>) {
        for device in self.devices() {
            let live = self.unit(device).is_some_and(|unit| unit.ready || unit.preparing);
            if live {
                self.zero_unit(now, device, None, After::Hold(reason), out);
            }
        }
    }

    /// Brings every unit that may give output to zero and ends every step that is in use or held: all has to be armed
    /// again.
    pub(super) fn disarm_all(&mut self, now: Mono, out: &mut Vec<Output>) {
        let after = After::End(StopReason::TherapistRequest);
        for device in self.devices() {
            let live = self.unit(device).is_some_and(|unit| unit.ready || unit.preparing);
            let held = self
                .steps_of(device)
                .into_iter()
                .any(|index| self.runs.get(index).is_some_and(|run| run.state == StepState::Held));
            if live || held {
                self.zero_unit(now, device, None, after, out);
            }
        }
    }

    fn next_generation(&mut self) -> Generation {
        self.last_generation = Generation(self.last_generation.0.saturating_add(1));
        self.last_generation
    }

    fn order_stop(&mut self, now: Mono, device: DeviceId, generation: Generation, out: &mut Vec<Output>) {
        #[cfg(feature = "defects")]
        let dropped = self.lost_stop(device, generation);
        #[cfg(not(feature = "defects"))]
        let dropped = false;
        if !dropped {
            out.push(Output::Stop { device, generation });
        }
        if let Some(unit) = self.unit_mut(device) {
            // Whoever presses STOP again and again puts no alarm off: the time of a proof runs from the first.
            let open = matches!(unit.stop.view, StopView::Asked | StopView::Written);
            let asked_at = if open { unit.stop.asked_at } else { now };
            unit.stop = Stop { generation, asked_at, view: StopView::Asked };
            unit.stopped_in_use |= unit.ready || unit.preparing;
            unit.runs_since = None;
            unit.ready = false;
            unit.preparing = false;
            unit.renew_at = None;
        }
    }

    #[cfg(feature = "defects")]
    fn lost_stop(&mut self, device: DeviceId, generation: Generation) -> bool {
        let waits = self.has(super::Defect::StopWaits) && self.durable < self.last_seq;
        if waits {
            self.kept_stops.push((device, generation));
        }
        let armed = |index: usize| self.runs.get(index).is_some_and(|run| run.state == StepState::Armed);
        let passed_over = self.has(super::Defect::StopNotGranted)
            && self.latched == Some(generation)
            && self.steps_of(device).into_iter().any(armed);
        waits || passed_over || self.has(super::Defect::DroppedStop)
    }

    fn settle_steps(
        &mut self,
        now: Mono,
        device: DeviceId,
        first: Option<usize>,
        after: After,
        generation: Generation,
        out: &mut Vec<Output>,
    ) {
        for index in self.steps_of(device) {
            let after = match first {
                Some(first) if first != index => After::Hold(StopReason::EpochEnded),
                Some(_) | None => after,
            };
            self.zero_step(now, index, after, generation, out);
            #[cfg(feature = "defects")]
            if self.settings.defect == Some(super::Defect::DroppedStop) {
                self.book(index, now, out, |ledger, closed| {
                    ledger.proven_zero(now, std::time::Duration::ZERO, closed);
                });
            }
        }
    }

    /// Takes a step to zero in the books: its unit has been ordered to stop.
    fn zero_step(
        &mut self,
        now: Mono,
        index: usize,
        after: After,
        generation: Generation,
        out: &mut Vec<Output>,
    ) {
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        let was_live = run.is_live();
        let (was_held, was_armed) = (run.state == StepState::Held, run.state == StepState::Armed);
        let ends_a_hold = was_held && matches!(after, After::End(_));
        if !was_live && !ends_a_hold {
            return;
        }
        // Time runs on until zero is proven: what may be given counts (design 3.9).
        if !run.ledger.is_open() {
            run.stop_counting(now);
        }
        let zero = run.setpoint.zero();
        (run.asked, run.setpoint, run.target, run.envelope) = (zero, zero, zero, zero);
        run.program = None;
        run.finishing = None;
        run.asked_present = None;
        run.pressed = None;
        run.above_since = None;
        let allowed = run.by_hand.take().filter(|_| was_armed);
        run.state = match after {
            After::Hold(_) => StepState::Held,
            After::End(reason) => StepState::Ended(reason),
        };
        self.book(index, now, out, |ledger, closed| {
            if ledger.is_open() {
                ledger.stop_sent(now, closed);
            }
        });
        let Some(step) = self.step(index).map(|step| step.number) else {
            return;
        };
        let entry = match after {
            After::Hold(reason) => Entry::Held { step, reason, generation },
            After::End(reason) => Entry::Stopped { step, reason, generation },
        };
        self.append(now, entry, out);
        let why = Refusal::State { why: "It was stopped meanwhile." };
        if let Some((_, intent)) = allowed {
            self.append(now, Entry::IntentVoid { intent, why: why.clone() }, out);
        }
        self.void_pending(now, index, why, out);
    }

    /// Voids an intent on its way to the disk: no byte of it leaves.
    pub(super) fn void_pending(&mut self, now: Mono, index: usize, why: Refusal, out: &mut Vec<Output>) {
        let Some(pending) = self.runs.get_mut(index).and_then(|run| run.pending.take()) else {
            return;
        };
        self.append(now, Entry::IntentVoid { intent: pending.seq, why: why.clone() }, out);
        if let Some(request) = pending.request {
            self.answer(request, Verdict::Refused(why), out);
        }
    }

    /// Begins the ordinary end of a step: a fall within 0.5 s where the unit has one, else zero.
    pub(super) fn begin_finish(
        &mut self,
        now: Mono,
        index: usize,
        reason: StopReason,
        out: &mut Vec<Output>,
    ) {
        self.void_pending(now, index, Refusal::State { why: "The step is ending." }, out);
        // Whoever asks late gets no fall: zero comes at or before the limit.
        let time_to_fall = self.left(index, now).is_some_and(|left| left.time >= super::tick::FINISH_RAMP);
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        if matches!(run.state, StepState::Finishing | StepState::Ended(_) | StepState::Waiting) {
            return;
        }
        let falls = time_to_fall && matches!(run.setpoint, Intensity::Current(_)) && !run.setpoint.is_zero();
        if falls {
            run.state = StepState::Finishing;
            run.program = None;
            run.target = run.setpoint.zero();
            run.finishing = Some(Finish { began: now, from: run.setpoint, next: now, reason });
            self.bump();
        } else {
            self.end_step(now, index, reason, out);
        }
    }

    /// Ends a step that is at zero or goes there now. The last channel of a unit takes the whole unit to proven zero.
    pub(super) fn end_step(&mut self, now: Mono, index: usize, reason: StopReason, out: &mut Vec<Output>) {
        let Some(device) = self.step(index).map(|step| step.device) else {
            return;
        };
        let others_live = self
            .steps_of(device)
            .into_iter()
            .filter(|other| *other != index)
            .any(|other| self.runs.get(other).is_some_and(super::state::StepRun::is_live));
        if !others_live {
            self.zero_unit(now, device, Some(index), After::End(reason), out);
            return;
        }
        // A step that is held is at zero already, and another may run on its output since.
        let prepared = self.unit(device).is_some_and(|unit| unit.ready);
        if prepared && self.runs.get(index).is_some_and(super::state::StepRun::is_live) {
            self.finish_channel(now, index, out);
        }
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        // Time runs on until the zero is acknowledged.
        if !run.ledger.is_open() {
            run.stop_counting(now);
        }
        let zero = run.setpoint.zero();
        (run.asked, run.setpoint, run.target, run.envelope) = (zero, zero, zero, zero);
        run.program = None;
        run.finishing = None;
        run.asked_present = None;
        run.pressed = None;
        run.above_since = None;
        run.state = StepState::Ended(reason);
        let Some(step) = self.step(index).map(|step| step.number) else {
            return;
        };
        self.append(now, Entry::Stopped { step, reason, generation: Generation(0) }, out);
        // The lease ended with this step's budget; the other channels' does not.
        if let Some(unit) = self.unit_mut(device) {
            unit.renew_at = Some(now);
        }
        self.bump();
    }

    /// Takes one channel out of a running update; the others go on.
    fn finish_channel(&mut self, now: Mono, index: usize, out: &mut Vec<Output>) {
        let id = self.next_command();
        let Some((device, channel, setpoint)) = self.step(index).and_then(|step| {
            Some((step.device, step.channel, super::tick::setpoint(step, step.target.zero())?))
        }) else {
            return;
        };
        let Some(epoch) = self.unit(device).map(|unit| unit.epoch) else {
            return;
        };
        let command = Cleared::new(Command::Finish { id, epoch, channel });
        out.push(Output::Drive { device, command });
        self.book(index, now, out, |ledger, closed| {
            if ledger.is_open() {
                ledger.sent(now, id, setpoint, closed);
            }
        });
    }

    pub(super) fn next_command(&mut self) -> CommandId {
        self.last_command = CommandId(self.last_command.0.saturating_add(1));
        self.last_command
    }

    /// Clears the latch of STOP ALL, when every unit has proven that stop or a person has stated it.
    pub(super) fn reset(
        &mut self,
        now: Mono,
        by: Actor,
        generation: Generation,
        out: &mut Vec<Output>,
    ) -> Verdict {
        let Some(latched) = self.latched else {
            return Verdict::Refused(Refusal::State { why: "Nothing is stopped for all units." });
        };
        if generation != latched {
            return Verdict::Refused(Refusal::Stopped { generation: latched });
        }
        let unproven = self.devices().find(|device| {
            self.unit(*device).is_some_and(|unit| !unit.stop_settled() || unit.stop.generation < latched)
        });
        if let Some(device) = unproven {
            return Verdict::Refused(Refusal::NotProven { device });
        }
        if self.common.record != super::RecordHealth::Healthy {
            return Verdict::Refused(Refusal::Interlock(Interlock::RecordDurable));
        }
        self.latched = None;
        self.append(now, Entry::Reset { by, generation }, out);
        self.bump();
        Verdict::Granted { target: None }
    }

    /// A person states that a unit was stopped by hand. It stays blocked until it answers again. What it may have given ends
    /// here, plus its stop tail; it stays uncertain until it is resolved, for nothing but the person proves it.
    pub(super) fn stated_stopped(
        &mut self,
        now: Mono,
        by: Actor,
        device: DeviceId,
        out: &mut Vec<Output>,
    ) -> Verdict {
        let tail = self.capability(device).map(|capability| capability.stop_tail);
        let Some((unit, tail)) = self.unit_mut(device).zip(tail) else {
            return Verdict::Refused(Refusal::State { why: "There is no such unit." });
        };
        if unit.proven_zero() || unit.ready {
            return Verdict::Refused(Refusal::State { why: "This unit answers; stop it from here." });
        }
        unit.stop.view = StopView::Stated;
        let since = unit.last_alive.unwrap_or(now);
        self.release(device, false, out);
        self.append(now, Entry::StatedStopped { by, device }, out);
        self.doubt(now, device, since, out);
        self.zero_proven(now, device, tail, out);
        self.clear_alarm(
            now,
            Alarm { cause: Cause::StopUnconfirmed, device: Some(device), channel: None },
            out,
        );
        self.bump();
        Verdict::Granted { target: None }
    }
}
