//! Everything that time does: lapses, durations, rises, cycles, renewals, progress rows.
//!
//! Every timer moves itself forward when it fires, so `deadline()` never stands still.

use std::time::Duration;

use crate::alarm::Cause;
use crate::governor::input::RecordHealth;
use crate::governor::output::{Cleared, Entry, ForGuard, Output, Refusal};
use crate::governor::rise::{self, Want};
use crate::governor::stop::After;
use crate::governor::{Governor, Phase, Seq, StepState, StopView, limits};
use crate::model::capability::IntensityRange;
use crate::model::command::{Command, DeviceId, Intensity, Setpoint};
use crate::model::plan::Step;
use crate::model::protocol::Modality;
use crate::model::session::StopReason;
use crate::units::Mono;

/// An intent that takes longer to the disk is void (design 3.4).
const INTENT_LIFE: Duration = Duration::from_millis(500);
/// Spacing of renewals while an epoch runs.
const RENEW_EVERY: Duration = Duration::from_millis(200);
/// Length of a renewal; several are lost before output ends.
const RENEW_FOR: Duration = Duration::from_millis(800);
/// Spacing of progress rows (design 4).
pub(crate) const PROGRESS_EVERY: Duration = Duration::from_millis(900);
/// A stop not proven by then is a high alarm.
const STOP_PROOF: Duration = Duration::from_secs(1);
/// A unit that is not ready this long after `Prepare` is stopped.
const PREPARE_WITHIN: Duration = Duration::from_secs(5);
/// Length of the ordinary end of a step.
pub(crate) const FINISH_RAMP: Duration = Duration::from_millis(400);
/// Zero is commanded this long before a duration limit, so that the unit is at zero when it comes.
const FINISH_MARGIN: Duration = Duration::from_millis(300);
/// Nothing is armed for less time than this: it would be all finish.
pub(crate) const START_MIN: Duration = Duration::from_secs(1);
/// Spacing of the updates of a finish.
const FINISH_EVERY: Duration = Duration::from_millis(100);
/// Outputs come down when the record has not been healthy for this long (design 4: within 5 s).
const RECORD_PATIENCE: Duration = Duration::from_secs(4);
/// Output is kept up to this long before a time budget ends; its ordinary end is at [`FINISH_MARGIN`].
const BUDGET_MARGIN: Duration = Duration::from_millis(150);
/// Answer to "are you there" within this.
const PRESENCE_ANSWER: Duration = Duration::from_secs(30);
/// A late call catches up at most this many phases of a cycle.
const CATCH_UP_MAX: usize = 64;

/// Returns what a step's channel is told for an intensity.
pub(crate) fn setpoint(step: &Step, intensity: Intensity) -> Option<Setpoint> {
    match intensity {
        Intensity::Current(current) => step.stimulation.map(|stimulation| Setpoint::Pulses {
            current,
            width: stimulation.width,
            period: stimulation.period,
        }),
        Intensity::Speed(speed) => Some(Setpoint::Speed(speed)),
        Intensity::Level(level) => Some(Setpoint::Level(level)),
    }
}

impl Governor {
    /// Does everything that is due at `now`.
    pub(super) fn tick(&mut self, now: Mono, out: &mut Vec<Output>) {
        self.tick_lease(now, out);
        self.tick_record(now, out);
        for device in self.devices() {
            self.tick_unit(now, device, out);
            self.tick_runs(now, device, out);
            self.tick_hold(now, device, out);
        }
        for index in 0..self.runs.len() {
            self.tick_intent(now, index, out);
            self.tick_end(now, index, out);
            self.tick_finish(now, index, out);
            self.tick_program(now, index, out);
            self.tick_titration(now, index, out);
            self.tick_presence(now, index, out);
            self.tick_force(now, index, out);
            self.tick_mismatch(now, index, out);
            self.tick_ledger(now, index, out);
        }
        for device in self.devices() {
            self.tick_renewal(now, device, out);
        }
        self.tick_guard(now, out);
    }

    /// Returns when `advance` must next be called with `Input::Tick`, if ever.
    pub fn deadline(&self) -> Option<Mono> {
        let units = self.devices().filter_map(|device| self.unit_deadline(device));
        let steps = (0..self.runs.len()).filter_map(|index| self.step_deadline(index));
        let record = self.common.record_bad_since.filter(|_| self.any_live());
        let record = record.map(|since| since.saturating_add(RECORD_PATIENCE));
        units.chain(steps).chain(self.common.lease_until).chain(record).chain(self.beat_at).min()
    }

    fn any_live(&self) -> bool {
        self.units.iter().any(|unit| unit.ready || unit.preparing)
    }

    fn unit_deadline(&self, device: DeviceId) -> Option<Mono> {
        let (unit, capability) = (self.unit(device)?, self.capability(device)?);
        let silence = unit.last_alive.filter(|_| unit.ready).map(|alive| {
            let suspect = alive.saturating_add(capability.telemetry.suspect);
            if suspect > self.now { suspect } else { alive.saturating_add(capability.telemetry.lost) }
        });
        let proof_open = matches!(unit.stop.view, StopView::Asked | StopView::Written);
        let proof = (proof_open && unit.known).then(|| unit.stop.asked_at.saturating_add(STOP_PROOF));
        let prepare = unit.preparing.then(|| unit.prepared_at.saturating_add(PREPARE_WITHIN));
        let renew = unit.renew_at.filter(|_| unit.ready);
        let runs = self.runs_deadline(device);
        [silence, proof, prepare, renew, runs, unit.hold_again].into_iter().flatten().min()
    }

    fn step_deadline(&self, index: usize) -> Option<Mono> {
        let (step, run) = (self.step(index)?, self.runs.get(index)?);
        let intent = run.pending.as_ref().map(|pending| pending.at.saturating_add(INTENT_LIFE));
        let end = run.on_since.filter(|_| run.state == StepState::Running).and_then(|_| {
            let left = self.left(index, self.now)?.time;
            Some(self.now.saturating_add(left).saturating_sub(self.finish_lead(index)))
        });
        let finish = run.finishing.map(|finish| finish.next);
        let program = run.program.filter(|_| run.state == StepState::Running).map(|p| p.deadline());
        let rises = run.state == StepState::Running && run.target.magnitude() > run.setpoint.magnitude();
        let titration = (rises && self.titration_phase(index)).then_some(run.rise_at);
        let presence = (run.state == StepState::Running).then(|| match run.asked_present {
            Some(asked) => asked.saturating_add(PRESENCE_ANSWER),
            None => self.last_action.saturating_add(patience(step.modality)),
        });
        let uncertain = run.ledger.is_uncertain().then(|| self.runs_on_until(index)).flatten();
        let force = self.force_deadline(index);
        let mismatch = self.mismatch_deadline(index);
        let timers = [intent, end, finish, program, titration, presence, uncertain, force, mismatch];
        let books = [run.progress_at, run.ledger.split_due(), run.locked_until];
        timers.into_iter().chain(books).flatten().min()
    }

    fn tick_lease(&mut self, now: Mono, out: &mut Vec<Output>) {
        if self.common.lease_until.is_some_and(|until| now >= until) {
            self.common.lease_until = None;
            self.lease_lapsed(now, out);
        }
    }

    pub(super) fn lease_lapsed(&mut self, now: Mono, out: &mut Vec<Output>) {
        self.common.lapsed_at = Some(now);
        let live = self.any_live();
        self.hold_all(now, StopReason::HeartbeatLost, out);
        self.append(now, Entry::Lease { alive: false }, out);
        if live {
            self.alarm(now, Cause::OperatorGone, None, None, out);
        }
    }

    fn tick_record(&mut self, now: Mono, out: &mut Vec<Output>) {
        let Some(since) = self.common.record_bad_since else {
            return;
        };
        let failing = self.common.record == RecordHealth::Failing;
        if self.any_live() && (failing || now.since(since) >= RECORD_PATIENCE) {
            self.hold_all(now, StopReason::OtherText, out);
            self.alarm(now, Cause::RecordFailing, None, None, out);
        }
    }

    fn tick_unit(&mut self, now: Mono, device: DeviceId, out: &mut Vec<Output>) {
        let Some((unit, capability)) = self.unit(device).zip(self.capability(device)) else {
            return;
        };
        let lost = unit.ready && unit.silent(now).is_none_or(|silent| silent >= capability.telemetry.lost);
        let slow = unit.preparing && now.since(unit.prepared_at) >= PREPARE_WITHIN;
        let unproven = unit.known
            && matches!(unit.stop.view, StopView::Asked | StopView::Written)
            && now.since(unit.stop.asked_at) >= STOP_PROOF;
        if lost {
            self.link_lost(now, device, out);
        } else if slow {
            self.zero_unit(now, device, None, After::End(StopReason::DeviceFault), out);
            self.alarm(now, Cause::DeviceFault, Some(device), None, out);
        } else if unproven {
            self.stop_unproven(now, device, out);
        }
    }

    /// A unit that gave output is silent or gone: stop it, and what it gave since its last answer is in doubt.
    pub(super) fn link_lost(&mut self, now: Mono, device: DeviceId, out: &mut Vec<Output>) {
        let since = self.unit(device).and_then(|unit| unit.last_alive).unwrap_or(now);
        self.zero_unit(now, device, None, After::End(StopReason::LinkLost), out);
        self.alarm(now, Cause::LinkLost, Some(device), None, out);
        self.doubt(now, device, since, out);
    }

    /// Books what a unit's channels gave since `since` as uncertain.
    pub(super) fn doubt(&mut self, now: Mono, device: DeviceId, since: Mono, out: &mut Vec<Output>) {
        for index in self.steps_of(device) {
            let was = self.runs.get(index).is_some_and(|run| run.ledger.is_uncertain());
            self.book(index, now, out, |ledger, closed| ledger.doubt(now, since, closed));
            let is = self.runs.get(index).is_some_and(|run| run.ledger.is_uncertain());
            if is && !was {
                let channel = self.step(index).map(|step| step.channel);
                self.alarm(now, Cause::Uncertain, Some(device), channel, out);
            }
        }
    }

    pub(super) fn stop_unproven(&mut self, now: Mono, device: DeviceId, out: &mut Vec<Output>) {
        let Some(unit) = self.unit_mut(device) else {
            return;
        };
        unit.stop.view = StopView::Unconfirmed;
        let since = unit.stop.asked_at;
        self.doubt(now, device, since, out);
        self.alarm(now, Cause::StopUnconfirmed, Some(device), None, out);
    }

    fn tick_intent(&mut self, now: Mono, index: usize, out: &mut Vec<Output>) {
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        if run.locked_until.is_some_and(|until| now >= until) {
            run.locked_until = None;
            run.comfort_limit = None;
        }
        if run.pending.as_ref().is_some_and(|pending| now.since(pending.at) >= INTENT_LIFE) {
            self.void_pending(now, index, Refusal::TooSlow, out);
        }
    }

    /// The disk has every entry up to `seq`: intents among them are judged again in the state of this moment.
    pub(super) fn became_durable(&mut self, now: Mono, seq: Seq, out: &mut Vec<Output>) {
        self.durable = self.durable.max(seq);
        #[cfg(feature = "defects")]
        out.extend(self.kept_stops.drain(..).map(|(device, generation)| Output::Stop { device, generation }));
        for index in 0..self.runs.len() {
            let due = self
                .runs
                .get(index)
                .and_then(|run| run.pending.as_ref())
                .is_some_and(|pending| pending.seq <= self.durable);
            let pending = due.then(|| self.runs.get_mut(index).and_then(|run| run.pending.take())).flatten();
            #[cfg(feature = "defects")]
            let pending = pending.filter(|pending| {
                !self.has(super::Defect::RequestStarves) || pending.seq.0.is_multiple_of(2)
            });
            if let Some(pending) = pending {
                self.begin_rise(now, index, pending, out);
            }
        }
    }

    fn finish_lead(&self, index: usize) -> Duration {
        match self.runs.get(index).map(|run| run.setpoint) {
            Some(Intensity::Current(current)) if current.microamps() > 0 => {
                FINISH_RAMP.saturating_add(FINISH_MARGIN)
            }
            Some(_) | None => FINISH_MARGIN,
        }
    }

    fn tick_end(&mut self, now: Mono, index: usize, out: &mut Vec<Output>) {
        let running = self
            .runs
            .get(index)
            .is_some_and(|run| matches!(run.state, StepState::Running) && run.on_since.is_some());
        if !running {
            return;
        }
        if let Some(left) = self.left(index, now)
            && left.time <= self.finish_lead(index)
        {
            self.note_budget(now, index, left, out);
            self.begin_finish(now, index, left.budget.ends(), out);
        }
    }

    fn tick_finish(&mut self, now: Mono, index: usize, out: &mut Vec<Output>) {
        let Some((run, finish)) =
            self.runs.get_mut(index).and_then(|run| run.finishing.map(|finish| (run, finish)))
        else {
            return;
        };
        if now < finish.next {
            return;
        }
        if let Some(finish) = &mut run.finishing {
            finish.next = now.saturating_add(FINISH_EVERY);
        }
        let (setpoint, grid) = (run.setpoint, self.grid(index));
        let passed = now.since(finish.began);
        let next = rise::falling(passed, FINISH_RAMP, setpoint, finish.from, grid);
        if next.is_zero() {
            self.end_step(now, index, finish.reason, out);
        } else {
            self.drive(now, index, next, out);
        }
    }

    /// Returns the grid of a step's current, µA; 1 for a gun.
    fn grid(&self, index: usize) -> u32 {
        let range = self.step(index).and_then(|step| self.capability(step.device)).map(|c| c.intensity);
        match range {
            Some(IntensityRange::Current { step, .. }) => step.microamps(),
            Some(IntensityRange::Speed { .. } | IntensityRange::Level { .. }) | None => 1,
        }
    }

    fn tick_program(&mut self, now: Mono, index: usize, out: &mut Vec<Output>) {
        for _ in 0..CATCH_UP_MAX {
            let grid = self.grid(index);
            let Some(run) = self.runs.get_mut(index).filter(|run| run.state == StepState::Running) else {
                return;
            };
            let (setpoint, envelope) = (run.setpoint, run.envelope);
            let Some(program) = run.program.as_mut().filter(|program| now >= program.deadline()) else {
                return;
            };
            match program.advance(now, grid, setpoint, envelope) {
                Want::Nothing => {}
                Want::Set(next) if next.magnitude() > setpoint.magnitude() => {
                    self.program_rise(now, index, next, out);
                }
                Want::Set(next) => self.drive(now, index, next, out),
            }
        }
    }

    /// One increment of a program ramp: inside the limits of this moment, or the ramp levels off.
    fn program_rise(&mut self, now: Mono, index: usize, next: Intensity, out: &mut Vec<Output>) {
        let allowed = self.allowed(index);
        let blocked = self.rise_blocked(index, now);
        let may = match &blocked {
            None => true,
            // Discomfort locks titration; the envelope it lowered is what the ramp returns to.
            Some(Refusal::Locked { .. }) => true,
            Some(_) => false,
        };
        let next = next.with_magnitude(next.magnitude().min(allowed));
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        if may && next.magnitude() > run.setpoint.magnitude() {
            self.drive(now, index, next, out);
        } else if let Some(program) = &mut run.program {
            program.level_off(now);
        }
    }

    pub(super) fn allowed(&self, index: usize) -> u32 {
        #[cfg(feature = "defects")]
        if self.has(super::Defect::LimitIgnored) {
            return u32::MAX;
        }
        let Some((step, run)) = self.step(index).zip(self.runs.get(index)) else {
            return 0;
        };
        let Some(capability) = self.capability(step.device) else {
            return 0;
        };
        limits::binding(step, capability, run.operator_limit, run.comfort_limit).allowed.magnitude()
    }

    fn titration_phase(&self, index: usize) -> bool {
        self.runs.get(index).is_some_and(|run| {
            run.program.is_none_or(|program| matches!(program.phase, Phase::On | Phase::Continuous))
        })
    }

    fn tick_titration(&mut self, now: Mono, index: usize, out: &mut Vec<Output>) {
        let Some(run) = self.runs.get(index) else {
            return;
        };
        if run.state != StepState::Running || run.target.magnitude() <= run.setpoint.magnitude() {
            return;
        }
        // A rise that may not go on is given up: regaining an interlock raises nothing.
        if self.rise_blocked(index, now).is_some() {
            self.give_up_target(index);
            return;
        }
        if now < run.rise_at || !self.titration_phase(index) {
            return;
        }
        let goal = run.target.with_magnitude(run.target.magnitude().min(self.allowed(index)));
        let setpoint = run.setpoint;
        let range = self.step(index).and_then(|step| self.capability(step.device)).map(|c| c.intensity);
        let Some(range) = range.filter(|_| goal.magnitude() > setpoint.magnitude()) else {
            self.give_up_target(index);
            return;
        };
        let next = rise::titrate(&range, setpoint, goal);
        self.drive(now, index, next, out);
        if let Some(run) = self.runs.get_mut(index)
            && next.magnitude() > run.envelope.magnitude()
        {
            run.envelope = next;
        }
    }

    fn give_up_target(&mut self, index: usize) {
        if let Some(run) = self.runs.get_mut(index) {
            run.target = run.setpoint;
            run.asked = run.level();
        }
    }

    /// Orders a setpoint of a step's channel. The one place where output is driven.
    pub(super) fn drive(&mut self, now: Mono, index: usize, to: Intensity, out: &mut Vec<Output>) {
        let unchanged = self.runs.get(index).is_none_or(|run| run.setpoint == to);
        let Some((device, channel, setpoint)) =
            self.step(index).and_then(|step| Some((step.device, step.channel, setpoint(step, to)?)))
        else {
            return;
        };
        let Some(unit) = self.unit(device).filter(|unit| unit.ready && !unchanged) else {
            return;
        };
        let epoch = unit.epoch;
        let pause = self.capability(device).map(|capability| rise::pause(&capability.intensity));
        #[cfg(feature = "defects")]
        let pause = pause.map(|pause| self.hurried(pause));
        let id = self.next_command();
        #[cfg(feature = "defects")]
        let ordered = self.doubled(setpoint);
        #[cfg(not(feature = "defects"))]
        let ordered = setpoint;
        let command = Cleared::new(Command::Set { id, epoch, channel, setpoint: ordered });
        out.push(Output::Drive { device, command });
        self.book(index, now, out, |ledger, closed| ledger.sent(now, id, setpoint, closed));
        if let Some(run) = self.runs.get_mut(index) {
            run.told = (run.highest_told(now), now);
            run.setpoint = to;
            run.by_hand = None;
            // Also after a decrease: the next rise keeps its distance from any change.
            run.rise_at = now.saturating_add(pause.unwrap_or_default());
            if run.on_since.is_none() && !to.is_zero() {
                run.on_since = Some(now);
            }
        }
    }

    #[cfg(feature = "defects")]
    fn hurried(&self, pause: Duration) -> Duration {
        use std::sync::atomic::{AtomicU64, Ordering};
        static CALLS: AtomicU64 = AtomicU64::new(0);
        if self.has(super::Defect::Nondeterminism) {
            let calls = CALLS.fetch_add(1, Ordering::Relaxed);
            return pause.saturating_add(Duration::from_micros(calls));
        }
        let share = if self.has(super::Defect::RiseTooFast) { 4 } else { 1 };
        pause.checked_div(share).unwrap_or(pause)
    }

    #[cfg(feature = "defects")]
    fn doubled(&self, setpoint: Setpoint) -> Setpoint {
        use crate::units::{Milliamps, RawSpeed};
        if self.settings.defect != Some(super::Defect::DoubledRise) {
            return setpoint;
        }
        match setpoint {
            Setpoint::Pulses { current, width, period } => {
                let current = Milliamps::from_microamps(current.microamps().saturating_mul(2));
                Setpoint::Pulses { current, width, period }
            }
            Setpoint::Speed(speed) => Setpoint::Speed(RawSpeed::from_raw(speed.raw().saturating_mul(2))),
            Setpoint::Level(level) => Setpoint::Level(level),
        }
    }

    fn tick_presence(&mut self, now: Mono, index: usize, out: &mut Vec<Output>) {
        let Some((step, run)) = self.step(index).zip(self.runs.get(index)) else {
            return;
        };
        if run.state != StepState::Running {
            return;
        }
        let device = step.device;
        match run.asked_present {
            Some(asked) if now.since(asked) >= PRESENCE_ANSWER => {
                self.zero_unit(now, device, Some(index), After::End(StopReason::OperatorAbsent), out);
            }
            Some(_) => {}
            None if now.since(self.last_action) >= patience(step.modality) => {
                if let Some(run) = self.runs.get_mut(index) {
                    run.asked_present = Some(now);
                }
                self.alarm(now, Cause::OperatorAbsent, None, None, out);
            }
            None => {}
        }
    }

    fn tick_ledger(&mut self, now: Mono, index: usize, out: &mut Vec<Output>) {
        self.book(index, now, out, |ledger, closed| ledger.split_long(now, closed));
        let uncertain = self.runs.get(index).is_some_and(|run| run.ledger.is_uncertain());
        if let Some(end) = self.runs_on_until(index).filter(|end| uncertain && now >= *end) {
            // The unit's own time-out: whatever it was told, it is at zero from here.
            self.settle_zero(now, index, (end, Duration::ZERO), out);
        }
        if self.runs.get(index).is_some_and(|run| run.progress_at.is_some_and(|at| now >= at)) {
            self.progress(index, now, out);
        }
    }

    /// Returns until when a unit that hears nothing can run on by itself: its own time-out, else its battery's end, when its
    /// output is in doubt.
    pub(super) fn runs_on_until(&self, index: usize) -> Option<Mono> {
        let device = self.step(index)?.device;
        let capability = self.capability(device)?;
        match capability.keep_alive {
            Some(keep_alive) => Some(self.unit(device)?.driven_until.saturating_add(keep_alive)),
            None => {
                let from = self.runs.get(index)?.ledger.uncertain_from()?;
                Some(from.saturating_add(capability.battery_life))
            }
        }
    }

    fn tick_renewal(&mut self, now: Mono, device: DeviceId, out: &mut Vec<Output>) {
        let due =
            self.unit(device).is_some_and(|unit| unit.ready && unit.renew_at.is_some_and(|at| now >= at));
        let Some(lease) = self.common.lease_until.filter(|lease| due && *lease > now) else {
            return;
        };
        let until = now.saturating_add(RENEW_FOR).min(lease).min(self.budget_ends(now, device));
        let Some(unit) = self.unit_mut(device) else {
            return;
        };
        unit.renew_at = Some(now.saturating_add(RENEW_EVERY));
        unit.driven_until = unit.driven_until.max(until);
        // The guard first: output never outlives what it knows.
        out.push(Output::Guard(ForGuard::Lease { device, until }));
        out.push(Output::Renew { device, until });
    }

    /// Returns until when a unit's output may be kept up by its time budgets: after the ordinary end of its tightest step,
    /// before the limit. A governor that stalls must not carry a step over it.
    fn budget_ends(&self, now: Mono, device: DeviceId) -> Mono {
        let gives =
            |index: &usize| self.runs.get(*index).is_some_and(|run| run.is_live() && run.on_since.is_some());
        let steps = self.steps_of(device).into_iter().filter(gives);
        let left = steps.filter_map(|index| self.left(index, now)).map(|left| left.time).min();
        left.map_or(now.saturating_add(RENEW_FOR), |left| {
            now.saturating_add(left.saturating_sub(BUDGET_MARGIN))
        })
    }

    /// Closes every open dose at its upper end: the session is over.
    pub(super) fn close(&mut self, now: Mono, out: &mut Vec<Output>) {
        out.push(Output::Guard(ForGuard::Leaving));
        for device in self.devices() {
            let live = self.unit(device).is_some_and(|unit| unit.ready || unit.preparing);
            if live {
                self.zero_unit(now, device, None, After::End(StopReason::TherapistRequest), out);
            }
            let since = self.unit(device).and_then(|unit| unit.last_alive).unwrap_or(now);
            self.doubt(now, device, since, out);
        }
        for index in 0..self.runs.len() {
            let battery = self.step(index).and_then(|step| self.capability(step.device));
            let battery = battery.map_or(Duration::ZERO, |capability| capability.battery_life);
            let end = self.runs_on_until(index).unwrap_or(now.saturating_add(battery)).max(now);
            self.settle_zero(now, index, (end, Duration::ZERO), out);
        }
    }

    /// Closes a step's dose and its output time: it was at zero at `at`, plus the unit's stop tail.
    pub(super) fn settle_zero(
        &mut self,
        now: Mono,
        index: usize,
        (at, tail): (Mono, Duration),
        out: &mut Vec<Output>,
    ) {
        let open = self.runs.get(index).is_some_and(|run| run.ledger.is_open());
        self.book(index, now, out, |ledger, closed| ledger.proven_zero(at, tail, closed));
        if let Some(run) = self.runs.get_mut(index).filter(|run| open && !run.is_live()) {
            run.stop_counting(at.saturating_add(tail));
        }
    }

    /// A unit that has been silent too long when it is stopped: what it gave since its last answer is in doubt.
    pub(super) fn doubt_if_silent(&mut self, now: Mono, device: DeviceId, out: &mut Vec<Output>) {
        let lost = self.capability(device).map(|capability| capability.telemetry.lost);
        let alive = self.unit(device).and_then(|unit| unit.last_alive);
        if let (Some(alive), Some(lost)) = (alive, lost)
            && now.since(alive) >= lost
        {
            self.doubt(now, device, alive, out);
        }
    }
}

/// Returns how long a modality runs without a sign of the operator before one is asked for.
const fn patience(modality: Modality) -> Duration {
    match modality {
        Modality::Percussion => Duration::from_secs(3 * 60),
        Modality::Tens | Modality::Nmes => Duration::from_secs(10 * 60),
    }
}
