//! What people ask for.
//!
//! An increase: judged, put on record, and driven when it is durable and judged again. A decrease: driven, then put on
//! record. A request number seen before gets its old verdict and does nothing.

use std::time::Duration;

use crate::alarm::{Alarm, Cause};
use crate::governor::limits::{self, Binding};
use crate::governor::output::{Cleared, Entry, Output, Refusal, Verdict};
use crate::governor::rise::Program;
use crate::governor::state::Pending;
use crate::governor::stop::After;
use crate::governor::{Act, Governor, Phase, Request, RequestId, StepState, VERDICTS_KEPT};
use crate::model::capability::IntensityRange;
use crate::model::command::{Command, Epoch, Intensity};
use crate::model::plan::ClientCode;
use crate::model::session::{Actor, Discomfort, StopReason};
use crate::units::Mono;

/// No rise this long after discomfort.
const COMFORT_LOCK: Duration = Duration::from_secs(30);
/// Discomfort that lowers.
const COMFORT_LOWERS: u8 = 7;
/// Discomfort that stops.
const COMFORT_STOPS: u8 = 9;

impl Governor {
    pub(super) fn request(&mut self, now: Mono, request: Request, out: &mut Vec<Output>) {
        if let Some(known) = self.verdicts.get(&request.id) {
            if let Some(verdict) = known.clone() {
                out.push(Output::Verdict { request: request.id, verdict });
            }
            return;
        }
        self.remember(request.id, None);
        if !request.by.is_client() {
            self.operator_acted(now, out);
        }
        let step = request.act.step();
        if let Some(verdict) = self.act(now, &request, out) {
            if let Verdict::Refused(why) = &verdict {
                let (by, why) = (request.by, why.clone());
                self.append(now, Entry::Refused { request: request.id, by, step, why }, out);
            }
            self.answer(request.id, verdict, out);
        }
    }

    /// A sign of the operator: answers the question whether anybody is there.
    fn operator_acted(&mut self, now: Mono, out: &mut Vec<Output>) {
        self.last_action = now;
        let mut asked = false;
        for run in &mut self.runs {
            asked |= run.asked_present.take().is_some();
        }
        if asked {
            self.clear_alarm(now, Alarm { cause: Cause::OperatorAbsent, device: None, channel: None }, out);
        }
    }

    fn remember(&mut self, id: RequestId, verdict: Option<Verdict>) {
        self.verdicts.insert(id, verdict);
        while self.verdicts.len() > VERDICTS_KEPT {
            self.verdicts.pop_first();
        }
    }

    pub(super) fn answer(&mut self, request: RequestId, verdict: Verdict, out: &mut Vec<Output>) {
        self.remember(request, Some(verdict.clone()));
        out.push(Output::Verdict { request, verdict });
    }

    /// Carries out an act; `None`: the verdict comes when its intent is durable.
    fn act(&mut self, now: Mono, request: &Request, out: &mut Vec<Output>) -> Option<Verdict> {
        let by = request.by.clone();
        if by.is_client() && !matches!(request.act, Act::ClientLess { .. }) {
            let why = "The client may say less, and stop. All else is the therapist's.";
            return Some(Verdict::Refused(Refusal::State { why }));
        }
        let index = match request.act.step() {
            Some(step) => match self.plan.steps.iter().position(|planned| planned.number == step) {
                Some(index) => index,
                None => return Some(Verdict::Refused(Refusal::NoSuchStep { step })),
            },
            None => 0,
        };
        match &request.act {
            Act::ReadBack { client } => Some(self.read_back(now, by, client, out)),
            Act::Arm { .. } => Some(self.arm(now, by, index, out)),
            Act::Set { intensity, reason, .. } => {
                self.set(now, request, index, *intensity, reason.clone(), out)
            }
            Act::Hold { .. } => Some(self.hold(now, by, index, out)),
            Act::Resume { .. } => Some(self.resume(now, by, index, out)),
            Act::Finish { .. } => {
                let began = self.runs.get(index).is_some_and(|run| !run.used_at(now).is_zero());
                let reason = if began { StopReason::Completed } else { StopReason::TherapistRequest };
                self.begin_finish(now, index, reason, out);
                self.acted(now, by, index, "finish", out);
                Some(Verdict::Granted { target: None })
            }
            Act::StopStep { .. } => Some(self.stop_step(now, by, index, out)),
            Act::Comfort { score, .. } => Some(self.comfort(now, by, index, *score, out)),
            Act::TooMuch { .. } => {
                let score = Discomfort::new(COMFORT_LOWERS)?;
                Some(self.comfort(now, by, index, score, out))
            }
            Act::ClientLess { .. } => {
                let score = Discomfort::new(COMFORT_LOWERS)?;
                Some(self.comfort(now, Actor::client(by.screen), index, score, out))
            }
            Act::OperatorLimit { limit, .. } => Some(self.operator_limit(now, by, index, *limit, out)),
            Act::Reset { generation } => Some(self.reset(now, by, *generation, out)),
            Act::StatedStopped { device } => Some(self.stated_stopped(now, by, *device, out)),
            Act::SensationReturned { .. } => {
                self.sensation_returned(now, by, index, out);
                Some(Verdict::Granted { target: None })
            }
            Act::Resolve(asked) => Some(self.resolve(now, by, asked, out)),
            Act::AcknowledgeAlarms => {
                self.acknowledge_alarms(now, by, out);
                Some(Verdict::Granted { target: None })
            }
            Act::Present => Some(Verdict::Granted { target: None }),
        }
    }

    fn read_back(&mut self, now: Mono, by: Actor, client: &ClientCode, out: &mut Vec<Output>) -> Verdict {
        if *client != self.plan.client {
            self.common.read_back = false;
            self.disarm_all(now, out);
            return Verdict::Refused(Refusal::State {
                why: "This plan belongs to another client. Everything is disarmed: end this session and open theirs.",
            });
        }
        self.common.read_back = true;
        self.append(now, Entry::ReadBack { by: by.clone(), client: client.clone() }, out);
        self.note_history(now, &by, out);
        self.bump();
        Verdict::Granted { target: None }
    }

    fn arm(&mut self, now: Mono, by: Actor, index: usize, out: &mut Vec<Output>) -> Verdict {
        let state = self.runs.get(index).map(|run| run.state);
        let why = match state {
            Some(StepState::Ended(StopReason::Completed)) => Some("The step is completed."),
            Some(StepState::Waiting | StepState::Ended(_)) => None,
            Some(StepState::Held) => Some("The step is held. Resume it from zero."),
            Some(StepState::Arming | StepState::Armed | StepState::Running | StepState::Finishing) | None => {
                Some("The step is already in use.")
            }
        };
        if let Some(why) = why {
            return Verdict::Refused(Refusal::State { why });
        }
        if let Some(refusal) = self.arm_blocked(index, now).or_else(|| self.rest_left(index, now)) {
            return Verdict::Refused(refusal);
        }
        self.open_epoch(now, by, index, out)
    }

    fn resume(&mut self, now: Mono, by: Actor, index: usize, out: &mut Vec<Output>) -> Verdict {
        if self.runs.get(index).map(|run| run.state) != Some(StepState::Held) {
            return Verdict::Refused(Refusal::State { why: "The step is not held." });
        }
        if let Some(refusal) = self.rest_between(index, now) {
            return Verdict::Refused(refusal);
        }
        let verdict = self.open_epoch(now, by.clone(), index, out);
        if matches!(verdict, Verdict::Granted { .. }) {
            self.acted(now, by, index, "resume", out);
        }
        verdict
    }

    /// Prepares the step's unit: a new epoch, or the present one when another channel runs in it.
    fn open_epoch(&mut self, now: Mono, by: Actor, index: usize, out: &mut Vec<Output>) -> Verdict {
        if let Some(refusal) = self.arm_blocked(index, now) {
            return Verdict::Refused(refusal);
        }
        if let Some(refusal) = self.no_time(index, now) {
            return Verdict::Refused(refusal);
        }
        let Some((device, channel, step)) =
            self.step(index).map(|step| (step.device, step.channel, step.number))
        else {
            return Verdict::Refused(Refusal::State { why: "There is no such step." });
        };
        let channel_busy = self.steps_of(device).into_iter().any(|other| {
            let same = self.step(other).is_some_and(|planned| planned.channel == channel);
            let live = self.runs.get(other).is_some_and(|run| run.is_live() || run.ledger.is_open());
            other != index && same && live
        });
        if channel_busy {
            return Verdict::Refused(Refusal::State { why: "Another step uses this output. End it first." });
        }
        if let Some(refusal) = self.beside_another(index) {
            return Verdict::Refused(refusal);
        }
        let Some(unit) = self.unit_mut(device) else {
            return Verdict::Refused(Refusal::State { why: "There is no such unit." });
        };
        let in_epoch = unit.ready;
        if !unit.ready && !unit.preparing {
            unit.epoch = Epoch(unit.epoch.0.saturating_add(1));
            unit.preparing = true;
            unit.prepared_at = now;
            let epoch = unit.epoch;
            self.hand_over(now, device, out);
            let command = Cleared::new(Command::Prepare { epoch });
            out.push(Output::Drive { device, command });
        }
        let epoch = self.unit(device).map_or(Epoch(0), |unit| unit.epoch);
        if let Some(run) = self.runs.get_mut(index) {
            run.state = if in_epoch { StepState::Armed } else { StepState::Arming };
            run.delivered = None;
        }
        if let Some(run) = self.runs.get_mut(index) {
            (run.armed_by, run.armed_at) = (Some(by.clone()), Some(now));
        }
        self.clear_unlatched(now, Cause::StoppedAtDevice, device, out);
        self.note_beside(now, &by, index, out);
        self.append(now, Entry::Armed { step, by, epoch }, out);
        self.bump();
        Verdict::Granted { target: None }
    }

    fn set(
        &mut self,
        now: Mono,
        request: &Request,
        index: usize,
        asked: Intensity,
        reason: Option<String>,
        out: &mut Vec<Output>,
    ) -> Option<Verdict> {
        let (step, run) = (self.step(index)?, self.runs.get(index)?);
        let capability = self.capability(step.device)?;
        let refuse = |why| Some(Verdict::Refused(Refusal::State { why }));
        if !asked.same_kind(run.setpoint) {
            return refuse("This unit takes another kind of intensity.");
        }
        match run.state {
            StepState::Armed | StepState::Running => {}
            StepState::Waiting | StepState::Ended(_) => return refuse("Arm the step first."),
            StepState::Arming => return refuse("The unit is being prepared. Ask again when it is ready."),
            StepState::Held => return refuse("The step is held. Resume it from zero first."),
            StepState::Finishing => return refuse("The step is ending."),
        }
        let goal = limits::floor_to_grid(asked, &capability.intensity);
        if let IntensityRange::Speed { floor, .. } = capability.intensity
            && !asked.is_zero()
            && goal.is_zero()
        {
            let floor = Intensity::Speed(floor);
            return Some(Verdict::Refused(Refusal::BelowFloor { asked, floor }));
        }
        if goal.magnitude() <= run.level().magnitude() {
            return Some(self.lower(now, request.by.clone(), index, goal, out));
        }
        // Less than the rise under way goes for: a decrease, covered by that rise's own intent. It waits for nothing.
        if goal.magnitude() < run.target.magnitude() {
            return Some(self.rise_less(now, request.by.clone(), index, goal, out));
        }
        if request.seen < self.version {
            return Some(Verdict::Refused(Refusal::Stale));
        }
        self.raise(now, request, index, (asked, goal), reason, out)
    }

    fn rise_less(
        &mut self,
        now: Mono,
        by: Actor,
        index: usize,
        to: Intensity,
        out: &mut Vec<Output>,
    ) -> Verdict {
        if let Some(run) = self.runs.get_mut(index) {
            (run.asked, run.target) = (to, to);
        }
        self.void_pending(now, index, Refusal::State { why: "Less was asked meanwhile." }, out);
        self.acted(now, by, index, "lower", out);
        Verdict::Granted { target: Some(to) }
    }

    /// Judges a rise; `Ok` is the binding limit that allows it.
    pub(super) fn judge_rise(
        &self,
        now: Mono,
        index: usize,
        asked: Intensity,
        reason: Option<&str>,
    ) -> Result<Binding, Verdict> {
        let blocked = || Verdict::Refused(Refusal::State { why: "There is no such step." });
        let (step, run) = self.step(index).zip(self.runs.get(index)).ok_or_else(blocked)?;
        let capability = self.capability(step.device).ok_or_else(blocked)?;
        let binding = limits::binding(step, capability, run.operator_limit, run.comfort_limit);
        #[cfg(feature = "defects")]
        let ignored = self.has(super::Defect::LimitIgnored);
        #[cfg(not(feature = "defects"))]
        let ignored = false;
        if asked.magnitude() > binding.allowed.magnitude() && !ignored {
            return Err(Verdict::Refused(Refusal::Limit {
                asked,
                allowed: binding.allowed,
                owner: binding.owner,
                kind: binding.kind,
                said: binding.said,
                unchanged: run.setpoint,
            }));
        }
        if let Some(refusal) = self.rise_blocked(index, now).or_else(|| self.no_time(index, now)) {
            return Err(Verdict::Refused(refusal));
        }
        if let Some(usual) = limits::usual(step, capability)
            && asked.magnitude() > usual.magnitude()
            && reason.is_none()
            && run.reason.is_none()
        {
            return Err(Verdict::NeedsReason { asked, usual });
        }
        Ok(binding)
    }

    fn raise(
        &mut self,
        now: Mono,
        request: &Request,
        index: usize,
        (asked, goal): (Intensity, Intensity),
        reason: Option<String>,
        out: &mut Vec<Output>,
    ) -> Option<Verdict> {
        // The limit is judged on what was asked, so that 25.1 mA over a limit of 25 mA is refused, not floored.
        let binding = match self.judge_rise(now, index, asked, reason.as_deref()) {
            Ok(binding) => binding,
            Err(verdict) => return Some(verdict),
        };
        self.void_pending(now, index, Refusal::State { why: "A newer request took its place." }, out);
        let step = self.step(index)?;
        let (number, device, channel) = (step.number, step.device, step.channel);
        let to = super::tick::setpoint(step, goal)?;
        let from = self.runs.get(index)?.setpoint;
        let intent = Entry::Intent {
            request: request.id,
            by: request.by.clone(),
            step: number,
            device,
            channel,
            from,
            to,
            limit: (binding.owner, binding.allowed),
            reason: reason.clone(),
        };
        let seq = self.append(now, intent, out);
        let run = self.runs.get_mut(index)?;
        run.asked = asked;
        run.pending = Some(Pending { seq, request: Some(request.id), at: now, target: goal, reason });
        #[cfg(feature = "defects")]
        if self.has(super::Defect::RiseBeforeDurable)
            && let Some(pending) = self.runs.get_mut(index).and_then(|run| run.pending.take())
        {
            self.begin_rise(now, index, pending, out);
        }
        None
    }

    /// Starts or goes on with a rise whose intent is durable and was judged again.
    pub(super) fn begin_rise(&mut self, now: Mono, index: usize, pending: Pending, out: &mut Vec<Output>) {
        if let Err(verdict) = self.judge_rise(now, index, pending.target, pending.reason.as_deref()) {
            let why = match &verdict {
                Verdict::Refused(why) => why.clone(),
                Verdict::NeedsReason { .. } | Verdict::Granted { .. } => {
                    Refusal::State { why: "It needs a reason now. Ask again." }
                }
            };
            self.append(now, Entry::IntentVoid { intent: pending.seq, why: why.clone() }, out);
            if let Some(request) = pending.request {
                self.answer(request, Verdict::Refused(why), out);
            }
            return;
        }
        let Some(request) = pending.request else {
            self.allow_start(index, &pending, out);
            return;
        };
        let cycle = self.step(index).and_then(|step| step.stimulation).and_then(|s| s.cycle);
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        if let Some(reason) = pending.reason {
            run.reason = Some(reason);
        }
        run.target = pending.target;
        if run.state == StepState::Armed {
            run.state = StepState::Running;
            run.program = cycle.map(|cycle| Program::begin(cycle, now));
            self.bump();
        }
        self.answer(request, Verdict::Granted { target: Some(pending.target) }, out);
    }

    /// Lowers at once: drive first, then record. Zero is a hold.
    fn lower(&mut self, now: Mono, by: Actor, index: usize, to: Intensity, out: &mut Vec<Output>) -> Verdict {
        if to.is_zero() {
            return self.hold(now, by, index, out);
        }
        self.lower_to(now, index, to, out);
        self.void_pending(now, index, Refusal::State { why: "It was lowered meanwhile." }, out);
        if let Some(run) = self.runs.get_mut(index) {
            run.asked = to;
        }
        self.acted(now, by, index, "lower", out);
        Verdict::Granted { target: Some(to) }
    }

    /// Lowers setpoint, target and envelope to at most `to`.
    pub(super) fn lower_to(&mut self, now: Mono, index: usize, to: Intensity, out: &mut Vec<Output>) {
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        let at_most = |value: Intensity| value.with_magnitude(value.magnitude().min(to.magnitude()));
        run.target = at_most(run.target);
        run.envelope = at_most(run.envelope);
        if run.setpoint.magnitude() > to.magnitude() {
            self.drive(now, index, to, out);
        }
    }

    fn hold(&mut self, now: Mono, by: Actor, index: usize, out: &mut Vec<Output>) -> Verdict {
        let live = self.runs.get(index).is_some_and(super::state::StepRun::is_live);
        if !live {
            return Verdict::Refused(Refusal::State { why: "The step gives no output." });
        }
        if let Some(device) = self.step(index).map(|step| step.device) {
            self.zero_unit(now, device, Some(index), After::Hold(StopReason::TherapistRequest), out);
        }
        self.acted(now, by, index, "hold", out);
        Verdict::Granted { target: None }
    }

    fn stop_step(&mut self, now: Mono, by: Actor, index: usize, out: &mut Vec<Output>) -> Verdict {
        if let Some(device) = self.step(index).map(|step| step.device) {
            self.zero_unit(now, device, Some(index), After::End(StopReason::TherapistRequest), out);
        }
        self.acted(now, by, index, "stop", out);
        Verdict::Granted { target: None }
    }

    fn comfort(
        &mut self,
        now: Mono,
        by: Actor,
        index: usize,
        score: Discomfort,
        out: &mut Vec<Output>,
    ) -> Verdict {
        let Some((device, number)) = self.step(index).map(|step| (step.device, step.number)) else {
            return Verdict::Refused(Refusal::State { why: "There is no such step." });
        };
        let live = self.runs.get(index).is_some_and(super::state::StepRun::is_live);
        let held = self.runs.get(index).is_some_and(|run| run.state == StepState::Held);
        if (live || held) && score.score() >= COMFORT_STOPS {
            self.zero_unit(now, device, Some(index), After::End(StopReason::PainThreshold), out);
        } else if live && score.score() >= COMFORT_LOWERS {
            self.ease(now, index, out);
        }
        // Also of a step that is held or over: who holds first and asks then must not rise at once.
        if let Some(run) = self.runs.get_mut(index).filter(|_| score.score() >= COMFORT_LOWERS) {
            run.locked_until = Some(now.saturating_add(COMFORT_LOCK));
        }
        let Some(to) = self.runs.get(index).map(|run| run.setpoint) else {
            return Verdict::Granted { target: None };
        };
        let entry = if by.is_client() {
            Entry::Acted { by, step: number, what: "less", to }
        } else {
            Entry::Comfort { by, step: number, score, to }
        };
        self.append(now, entry, out);
        self.bump();
        Verdict::Granted { target: None }
    }

    /// Lowers by a quarter at once and locks rises for 30 s; below what the unit can run at, it holds.
    fn ease(&mut self, now: Mono, index: usize, out: &mut Vec<Output>) {
        let Some((step, run)) = self.step(index).zip(self.runs.get(index)) else {
            return;
        };
        let Some(capability) = self.capability(step.device) else {
            return;
        };
        let device = step.device;
        let level = match run.program.map(|program| program.phase) {
            // In the middle of a ramp, or where it was levelled off, what is felt is where it is, not where it goes.
            Some(Phase::RampUp | Phase::On) if !run.setpoint.is_zero() => run.setpoint,
            Some(_) => run.envelope,
            None => run.setpoint,
        };
        // What was told to the unit and is not acknowledged was perhaps never felt: the quarter is of what was.
        let felt = run.ledger.settled_intensity().filter(|_| run.setpoint.magnitude() >= level.magnitude());
        let level = felt.filter(|felt| felt.magnitude() < level.magnitude()).unwrap_or(level);
        let three_quarters = u64::from(level.magnitude()).saturating_mul(3).checked_div(4).unwrap_or(0);
        let eased = level.with_magnitude(u32::try_from(three_quarters).unwrap_or(0));
        let eased = limits::floor_to_grid(eased, &capability.intensity);
        if eased.is_zero() {
            self.zero_unit(now, device, Some(index), After::Hold(StopReason::BelowDeviceFloor), out);
        } else {
            self.lower_to(now, index, eased, out);
            self.void_pending(now, index, Refusal::State { why: "The client felt too much meanwhile." }, out);
        }
        if let Some(run) = self.runs.get_mut(index) {
            run.comfort_limit = Some(eased);
            run.target = run.setpoint;
            run.asked = eased;
        }
    }

    fn operator_limit(
        &mut self,
        now: Mono,
        by: Actor,
        index: usize,
        limit: Option<Intensity>,
        out: &mut Vec<Output>,
    ) -> Verdict {
        let Some((step, device)) = self.step(index).map(|step| (step.number, step.device)) else {
            return Verdict::Refused(Refusal::State { why: "There is no such step." });
        };
        let Some(run) = self.runs.get_mut(index) else {
            return Verdict::Refused(Refusal::State { why: "There is no such step." });
        };
        if limit.is_some_and(|limit| !limit.same_kind(run.setpoint)) {
            return Verdict::Refused(Refusal::State { why: "This unit takes another kind of intensity." });
        }
        run.operator_limit = limit;
        let live = run.is_live();
        if let (true, Some(limit)) = (live, limit) {
            let floor = self.capability(device).map(|c| limits::floor_to_grid(limit, &c.intensity));
            let over = self.runs.get(index).is_some_and(|run| {
                run.setpoint.magnitude().max(run.envelope.magnitude()) > limit.magnitude()
            });
            match floor {
                Some(floor) if floor.is_zero() && over => {
                    let after = After::Hold(StopReason::BelowDeviceFloor);
                    self.zero_unit(now, device, Some(index), after, out);
                }
                Some(floor) => self.lower_to(now, index, floor, out),
                None => {}
            }
        }
        self.append(now, Entry::OperatorLimit { by, step, limit }, out);
        self.bump();
        Verdict::Granted { target: None }
    }

    fn acted(&mut self, now: Mono, by: Actor, index: usize, what: &'static str, out: &mut Vec<Output>) {
        if let Some((step, run)) = self.step(index).zip(self.runs.get(index)) {
            let entry = Entry::Acted { by, step: step.number, what, to: run.setpoint };
            self.append(now, entry, out);
        }
    }
}

impl Act {
    /// Returns the step that is named, if any.
    pub const fn step(&self) -> Option<u8> {
        match self {
            Self::Arm { step }
            | Self::Set { step, .. }
            | Self::Hold { step }
            | Self::Resume { step }
            | Self::Finish { step }
            | Self::StopStep { step }
            | Self::Comfort { step, .. }
            | Self::TooMuch { step }
            | Self::ClientLess { step }
            | Self::OperatorLimit { step, .. }
            | Self::SensationReturned { step } => Some(*step),
            Self::ReadBack { .. }
            | Self::Reset { .. }
            | Self::StatedStopped { .. }
            | Self::Resolve(_)
            | Self::AcknowledgeAlarms
            | Self::Present => None,
        }
    }
}
