//! The stop of one unit: its rhythm, its proof, and the script that the guard runs (percussion-ble U1).
//!
//! Never waits for a reply, never starves a frame of the list, and ends only by proof.

use std::time::Duration;

use super::{Phase, ProfileDriver, QUERY_TIMEOUT, What};
use crate::driver::{DriverOutput, SendOutcome};
use crate::model::command::{CommandId, Generation};
use crate::model::packet::{Confirm, Endpoint, Purpose, StopScript, StopStep};
use crate::model::profile::frame::FieldKind;
use crate::model::profile::{Profile, StopFrame};
use crate::model::report::{Report, StopProgress};
use crate::units::Mono;

/// A refused stop frame is offered again after this long (transports guard 3).
const OFFER_AGAIN: Duration = Duration::from_millis(50);
/// Frames that one pass may send twice because the first was not answered, before the list begins again.
const EXTRA_SLOTS: usize = 2;
/// Without proof for this long, people are told (design 3.7).
const UNCONFIRMED_AFTER: Duration = Duration::from_secs(1);

/// A stop that is wanted.
#[derive(Debug)]
pub(super) struct Stop {
    generation: Generation,
    kind: StopKind,
    asked: Mono,
    /// Next frame of the order.
    index: usize,
    /// Frames given out in this pass.
    slots: usize,
    pass_began: Mono,
    next_at: Mono,
    /// Number, place and time of the newest frame.
    newest: Option<(u32, usize, Mono)>,
    /// Number of the first frame on this link: a query with a higher number asks after it.
    first: Option<u32>,
    /// Number of the first of the newest frames of one place.
    run: u32,
    /// Place of the newest frame, once one of its run is known to be written.
    written: Option<usize>,
    told_written: bool,
    told_unconfirmed: bool,
    /// The unit said that it ran, just before or since: what ends this stop has stopped it.
    ran: bool,
}

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopKind {
    /// Progress is reported.
    Reported,
    /// An ordinary end: the command is acknowledged, progress is reported only when it fails.
    Finish(CommandId),
    /// The same, without a command.
    Quiet,
}

impl Stop {
    const fn new(now: Mono, generation: Generation, kind: StopKind, ran: bool) -> Self {
        Self {
            generation,
            kind,
            asked: now,
            index: 0,
            slots: 0,
            pass_began: now,
            next_at: now,
            newest: None,
            first: None,
            run: 0,
            written: None,
            told_written: false,
            told_unconfirmed: false,
            ran,
        }
    }

    /// Starts the list from its beginning; what was written on an earlier link proves nothing.
    pub(super) const fn begin_again(&mut self) {
        self.index = 0;
        self.slots = 0;
        self.newest = None;
        self.first = None;
        self.written = None;
    }

    /// Brings the next frame forward, keeping the spacing.
    pub(super) fn hasten(&mut self, now: Mono, spacing: Duration) {
        let earliest = self.newest.map_or(now, |(_, _, at)| at.saturating_add(spacing).max(now));
        self.next_at = self.next_at.min(earliest);
    }

    const fn is_reported(&self) -> bool {
        matches!(self.kind, StopKind::Reported) || self.told_unconfirmed
    }

    fn report(&self, now: Mono, progress: StopProgress) -> DriverOutput {
        let after = now.since(self.asked);
        DriverOutput::Report(Report::Stop { generation: self.generation, progress, after })
    }
}

impl ProfileDriver {
    /// Wants the unit at zero from now on, until proven. The newest generation is the one reported.
    pub(super) fn ask_stop(&mut self, now: Mono, kind: StopKind, out: &mut Vec<DriverOutput>) {
        self.target = None;
        self.poll_wanted = false;
        self.unproven_set = None;
        self.life = self.life.wrapping_add(1);
        self.history.command(now, 0);
        let generation = self.generation;
        let spacing = self.profile.safety.stop_spacing;
        let Some(stop) = &mut self.stop else {
            self.stop = Some(Stop::new(now, generation, kind, self.ran));
            return;
        };
        stop.hasten(now, spacing);
        if let StopKind::Finish(id) = kind {
            if stop.told_written {
                out.push(DriverOutput::Report(Report::Acknowledged { id }));
            } else if stop.kind != StopKind::Reported {
                stop.kind = kind;
            }
            return;
        }
        let takes_over = kind == StopKind::Reported && stop.kind != StopKind::Reported;
        if generation > stop.generation || takes_over {
            if let StopKind::Finish(id) = stop.kind
                && !stop.told_written
            {
                out.push(DriverOutput::Report(Report::Unacknowledged { id }));
            }
            stop.kind = StopKind::Reported;
            stop.generation = generation;
            stop.asked = now;
            stop.told_unconfirmed = false;
            // Written anew: the person who asked now wants to know of a frame from now.
            stop.told_written = false;
        }
    }

    /// Sends what the rhythm wants.
    pub(super) fn pump_stop(&mut self, now: Mono, out: &mut Vec<DriverOutput>) {
        let may_write = self.may_stop();
        let Some(stop) = &mut self.stop else {
            return;
        };
        if !stop.told_unconfirmed && now >= stop.asked.saturating_add(UNCONFIRMED_AFTER) {
            stop.told_unconfirmed = true;
            out.push(stop.report(now, StopProgress::Unconfirmed));
        }
        if !may_write || now < stop.next_at {
            return;
        }
        let index = allowed_index(&self.order, stop);
        let Some(frame) = self.order.get(index).cloned() else {
            return;
        };
        let id = self.send(now, frame.bytes, frame.write, Purpose::Stop, What::Stop { index }, out);
        self.history.command(now, 0);
        let safety = &self.profile.safety;
        let Some(stop) = &mut self.stop else {
            return;
        };
        if stop.slots == 0 {
            stop.pass_began = now;
        }
        stop.slots = stop.slots.saturating_add(1);
        if stop.newest.is_none_or(|(_, newest, _)| newest != index) {
            stop.run = id;
            stop.written = None;
        }
        stop.newest = Some((id, index, now));
        stop.first = stop.first.or(Some(id));
        let spaced = now.saturating_add(safety.stop_spacing);
        let next = index.saturating_add(1);
        if next < self.order.len() && stop.slots < self.order.len().saturating_add(EXTRA_SLOTS) {
            stop.index = next;
            stop.next_at = spaced;
        } else {
            stop.index = 0;
            stop.slots = 0;
            stop.next_at = stop.pass_began.saturating_add(safety.stop_cycle).max(spaced);
        }
    }

    /// Handles the outcome of a stop frame.
    pub(super) fn stop_sent(
        &mut self,
        now: Mono,
        id: u32,
        index: usize,
        outcome: SendOutcome,
        out: &mut Vec<DriverOutput>,
    ) {
        let Some(stop) = &mut self.stop else {
            return;
        };
        match outcome {
            SendOutcome::Busy => {
                if stop.newest.is_some_and(|(newest, ..)| newest == id) {
                    stop.index = index;
                    stop.slots = stop.slots.saturating_sub(1);
                    stop.next_at = now.saturating_add(OFFER_AGAIN);
                    stop.written = None;
                }
                if stop.first == Some(id) {
                    stop.first = None;
                }
                return;
            }
            SendOutcome::Written | SendOutcome::Handed => {
                if stop.newest.is_some_and(|(_, newest, _)| newest == index) && id >= stop.run {
                    stop.written = Some(index);
                }
                if !stop.told_written {
                    stop.told_written = true;
                    match stop.kind {
                        StopKind::Reported => out.push(stop.report(now, StopProgress::Written)),
                        StopKind::Finish(id) => out.push(DriverOutput::Report(Report::Acknowledged { id })),
                        StopKind::Quiet => {}
                    }
                }
            }
            // It may have arrived: ask.
            SendOutcome::Late | SendOutcome::Unknown => {}
        }
        let last = index.saturating_add(1) == self.order.len();
        if self.profile.safety.confirm.is_none() && last {
            self.blind_pass_done(out);
            return;
        }
        let unanswered = self.queries.iter().any(|query| now < query.sent.saturating_add(QUERY_TIMEOUT));
        if !unanswered && self.may_stop() {
            self.ask_status(now, Purpose::Query, out);
        }
    }

    /// All frames of a unit that proves nothing were given out: an epoch may begin, a person confirms the stop.
    fn blind_pass_done(&mut self, out: &mut Vec<DriverOutput>) {
        if let Some(preparing) = self.preparing.take_if(|_| self.identified && self.phase == Phase::Up) {
            self.stop = None;
            self.epoch = Some(preparing.epoch);
            out.push(DriverOutput::Report(Report::Ready { epoch: preparing.epoch }));
        }
    }

    /// Ends the stop when a reply that proves it answers a query sent after a stop frame of this link.
    pub(super) fn prove_stop(&mut self, now: Mono, query: u32, out: &mut Vec<DriverOutput>) {
        let Some(stop) = self.stop.take_if(|stop| stop.first.is_some_and(|first| query > first)) else {
            return;
        };
        if stop.is_reported() {
            out.push(stop.report(now, StopProgress::Confirmed));
        }
        if stop.ran {
            self.learn(&stop, out);
        }
        self.idle_at = if self.preparing.is_some() {
            now
        } else {
            now.saturating_add(self.profile.poll.as_ref().map_or(QUERY_TIMEOUT, |poll| poll.idle))
        };
    }

    /// Notes in the stop under way, if any, that the unit runs.
    pub(super) const fn runs(&mut self, running: bool) {
        self.ran = running;
        if let Some(stop) = &mut self.stop {
            stop.ran |= running;
        }
    }

    /// Sends the frame that stopped the unit first from here on. A unit that stood still anyway teaches nothing.
    fn learn(&mut self, stop: &Stop, out: &mut Vec<DriverOutput>) {
        let place = stop.newest.map(|(_, newest, _)| stop.written.unwrap_or(newest));
        let Some(frame) = place.and_then(|at| self.order.get(at)).map(|frame| frame.name.clone()) else {
            return;
        };
        if self.worked.as_ref() == Some(&frame) {
            return;
        }
        self.order = order(&self.profile, Some(&frame));
        self.script = script(&self.profile, &self.order);
        self.worked = Some(frame.clone());
        out.push(DriverOutput::Report(Report::StopLearnt { frame }));
    }

    /// Returns when the stop next needs the clock.
    pub(super) fn stop_deadline(&self) -> Option<Mono> {
        let stop = self.stop.as_ref()?;
        let tell = (!stop.told_unconfirmed).then(|| stop.asked.saturating_add(UNCONFIRMED_AFTER));
        let frame = self.may_stop().then_some(stop.next_at);
        [tell, frame].into_iter().flatten().min()
    }

    const fn may_stop(&self) -> bool {
        matches!(self.phase, Phase::Up | Phase::Unusable { stops: true })
    }
}

/// Returns the place to send from: a frame that needs the one before it is only sent directly after that was written.
fn allowed_index(order: &[StopFrame], stop: &Stop) -> usize {
    let Some(before) = stop.index.checked_sub(1) else {
        return stop.index;
    };
    let needs = match (order.get(stop.index), order.get(before)) {
        (Some(frame), Some(twin)) => frame.needs(twin),
        (Some(_) | None, _) => false,
    };
    let directly = stop.newest.is_some_and(|(_, newest, _)| newest == before) && stop.written == Some(before);
    if needs && !directly { before } else { stop.index }
}

/// Returns the stop list as it is sent, repeats included.
pub(super) fn order(profile: &Profile, learnt: Option<&str>) -> Vec<StopFrame> {
    let once: Vec<StopFrame> = profile.stop_order(learnt).into_iter().cloned().collect();
    let times = usize::from(profile.safety.stop_repeat.max(1));
    once.iter().cycle().take(once.len().saturating_mul(times)).cloned().collect()
}

/// Returns the same stop for a process that knows no wire format.
pub(super) fn script(profile: &Profile, order: &[StopFrame]) -> StopScript {
    let endpoint = Endpoint::Characteristic(profile.gatt.command.uuid);
    let spacing = profile.safety.stop_spacing;
    let query = profile.poll.as_ref().and_then(|poll| profile.plain_frame(&poll.command));
    let proof = confirm(profile);
    let mut steps = Vec::new();
    for frame in order {
        let asks = query.clone().filter(|_| proof.is_some());
        let wait = if asks.is_some() { Duration::ZERO } else { spacing };
        steps.push(StopStep {
            endpoint,
            bytes: frame.bytes.clone(),
            write: frame.write,
            wait,
            confirm: None,
        });
        if let Some((bytes, write)) = asks {
            steps.push(StopStep { endpoint, bytes, write, wait: spacing, confirm: proof.clone() });
        }
    }
    StopScript { steps, cycle: profile.safety.stop_cycle, resync: Vec::new() }
}

/// Returns the mask and value of the reply that proves a stop.
fn confirm(profile: &Profile) -> Option<Confirm> {
    let proof = profile.safety.confirm.as_ref()?;
    let rule = profile.reply_rule(&profile.poll.as_ref()?.reply)?;
    let field = rule.fields.get(&proof.field)?;
    let value = match field.kind {
        FieldKind::Nonzero if proof.eq == 0 => vec![0],
        // "Not zero" is no mask and value.
        FieldKind::Nonzero => return None,
        FieldKind::Number(kind) => kind.render(proof.eq)?,
    };
    let fixed = rule.when.iter().copied();
    let said = value.into_iter().enumerate().map(|(offset, byte)| (field.at.saturating_add(offset), byte));
    let bytes: Vec<(usize, u8)> = fixed.chain(said).collect();
    let len = bytes.iter().map(|(at, _)| at.saturating_add(1)).max()?;
    let mut confirm = Confirm {
        endpoint: Endpoint::Characteristic(profile.gatt.status.as_ref()?.uuid),
        at: 0,
        mask: vec![0; len],
        value: vec![0; len],
    };
    for (at, byte) in bytes {
        *confirm.mask.get_mut(at)? = 0xFF;
        *confirm.value.get_mut(at)? = byte;
    }
    Some(confirm)
}
