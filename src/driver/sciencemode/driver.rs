//! The ScienceMode driver: one request at a time, every answer matched, every silence judged.
//!
//! ```text
//!            Connected                 status 0, high voltage off         Prepare
//! (no link) -----------> stopping ------------------------------> idle ----------> opening
//!     ^                   ^    ^    Ml_stop, then Get_stim_status                     | Ml_init, status 2
//!     | Disconnected      |    +--------- Stop, error, silence, end of lease -------- v
//!     +--- any state      +-------------------------------------------------------- ready
//! ```
//!
//! In `ready` (neurostim-serial 3.9):
//! - an update is composed of all channels, each as cleared in this epoch; it follows directly on a good answer to
//!   Ml_get_current_data that is at most 50 ms old, and such a poll follows on it. A lowering waits 50 ms for that
//!   answer and then goes out without it, raising nothing; an update that lists no channel waits for nothing;
//! - polls leave on a renewal or around an update, never on a timer of this driver; at `until` it stops the unit;
//! - with every channel at zero it may ask Get_stim_status, which keeps nothing alive.
//!
//! Invariants:
//! - while a stop is not proven no frame leaves but Ml_stop, Ll_stop, Get_stim_status and one Reset;
//! - an answer counts only for the request it names, by command and packet number, and only once.

use std::time::Duration;

use crate::driver::frame::{self, Frame, Splitter};
use crate::driver::sciencemode::codec::{self, CurrentData, DecodeError, Dialect, Message};
use crate::driver::sciencemode::epoch::{Running, Wave, Waves, compose};
use crate::driver::{Driver, DriverInput, DriverOutput, SendOutcome};
use crate::model::capability::{Capability, IntensityRange, PulseGrid};
use crate::model::command::{Channel, Command, CommandId, Epoch, Generation, Intensity, Setpoint};
use crate::model::packet::{Confirm, Endpoint, Packet, Purpose, Received, StopScript, StopStep, WriteKind};
use crate::model::report::{EpochEnd, Identity, Report, StopProgress};
use crate::units::{Milliamps, Mono};

/// A good answer to a poll carries an update for this long (neurostim-serial 3.9).
const FRESH: Duration = Duration::from_millis(50);
/// A stop is tried again after this long, and an answer to it is awaited as long (neurostim-serial 7).
const STOP_RETRY: Duration = Duration::from_millis(300);
/// After the reset that follows on the failed tries, a stop is tried this often.
const STOP_SLOW: Duration = Duration::from_secs(1);
/// Tries before the reset.
const STOP_TRIES: u8 = 3;
/// A stop that is not proven for this long is reported (design 4).
const UNCONFIRMED: Duration = Duration::from_secs(1);
/// From one idle status query to the next.
const STATUS_EVERY: Duration = Duration::from_millis(400);
/// From a question about identity without answer to its repetition.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// A new epoch that is not ready within this is given up.
const PREPARE_WITHIN: Duration = Duration::from_secs(3);
/// From a write refused because another was pending to the next.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// An answer to a request that a stop has cut off may come for this long; it is dropped.
const CUT_OFF: Duration = Duration::from_millis(300);
/// So many requests that a stop has cut off are remembered.
const CUT_OFF_MAX: usize = 16;
/// Packet number of the stop script; the driver uses those below it.
const SCRIPT_NUMBER: u8 = frame::NUMBER_MAX;

/// What the outstanding request was for.
#[derive(Clone, Debug)]
enum Ask {
    /// Ml_stop, Ll_stop or Reset.
    Stop,
    StopStatus,
    Identify(Question),
    IdleStatus,
    Init,
    InitStatus,
    Update(Update),
    /// `follows`: it comes after an update.
    Poll {
        follows: bool,
    },
    ZeroStatus,
}

/// An update on its way.
#[derive(Clone, Debug)]
struct Update {
    rises: bool,
    finishes: bool,
    /// What each channel was last told before it.
    before: Waves,
    /// The commands it carries, with their channel.
    ids: Vec<(usize, CommandId)>,
}

/// The outstanding request.
#[derive(Clone, Debug)]
struct Pending {
    number: u8,
    packet: u32,
    command: u16,
    at: Mono,
    ask: Ask,
}

/// A stop that is not proven.
#[derive(Clone, Debug)]
struct Stop {
    generation: Generation,
    asked: Mono,
    /// First packet of this generation.
    first_packet: u32,
    written: bool,
    unconfirmed: bool,
    tries: u8,
    next: Mono,
    /// The unit said that low level is initialised.
    low_level: bool,
}

/// What is asked of a unit before anything is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    DeviceId,
    Version,
    Battery,
}

/// What the unit has said of itself since it was connected.
#[derive(Clone, Debug, Default)]
struct Known {
    device_id: Option<String>,
    version: Option<String>,
    battery: bool,
    due: Mono,
}

/// A new epoch that waits for the stop to be proven and the unit to be known.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    epoch: Epoch,
    by: Mono,
    /// End of the lease, once there is one.
    until: Option<Mono>,
}

/// Driver of one RehaMove3 (Sm3) or P24 (Sm4).
#[derive(Debug)]
pub struct ScienceMode {
    dialect: Dialect,
    capability: Capability,
    script: StopScript,
    now: Mono,
    splitter: Splitter,
    next_number: u8,
    next_packet: u32,
    up: bool,
    generation: Generation,
    stop: Option<Stop>,
    running: Option<Running>,
    wanted: Option<Wanted>,
    known: Known,
    unusable: bool,
    pending: Option<Pending>,
    /// Requests that a stop has cut off, and until when an answer to each may come.
    cut_off: Vec<(Pending, Mono)>,
    status_due: Mono,
    hold_until: Mono,
}

impl ScienceMode {
    /// Makes the driver of a unit whose link is down. `capability` bounds what is sent: current step and maximum, pulse
    /// grid, telemetry and acknowledge times.
    pub fn new(dialect: Dialect, capability: Capability) -> Self {
        let script = stop_script(dialect);
        Self {
            dialect,
            capability,
            script,
            now: Mono::ORIGIN,
            splitter: Splitter::new(),
            next_number: 0,
            next_packet: 0,
            up: false,
            generation: Generation(0),
            stop: None,
            running: None,
            wanted: None,
            known: Known::default(),
            unusable: false,
            pending: None,
            cut_off: Vec::new(),
            status_due: Mono::ORIGIN,
            hold_until: Mono::ORIGIN,
        }
    }

    // ---- link ----------------------------------------------------------------------------------------------------

    fn connected(&mut self, generation: Generation, out: &mut Vec<DriverOutput>) {
        if self.up {
            self.disconnected(out);
        }
        self.up = true;
        self.splitter.reset();
        self.known = Known::default();
        self.unusable = false;
        self.hold_until = Mono::ORIGIN;
        self.generation = self.generation.max(generation);
        if let Some(stop) = &mut self.stop {
            (stop.tries, stop.low_level) = (0, false);
        }
        self.begin_stop(self.generation, out);
    }

    fn disconnected(&mut self, out: &mut Vec<DriverOutput>) {
        self.end_epoch(EpochEnd::Disconnected, out);
        self.forget_wanted(EpochEnd::Disconnected, out);
        self.up = false;
        self.pending = None;
        self.cut_off.clear();
        self.splitter.reset();
    }

    // ---- commands ------------------------------------------------------------------------------------------------

    fn command(&mut self, command: Command, out: &mut Vec<DriverOutput>) {
        match command {
            Command::Stop { generation } => self.command_stop(generation, out),
            Command::Prepare { epoch } => self.prepare(epoch, out),
            Command::Set { id, epoch, channel, setpoint } => {
                if let Err(why) = self.set(id, epoch, channel, setpoint, out) {
                    report(out, Report::Refused { id, why });
                }
            }
            Command::AllowStart { id, .. } => {
                report(out, Report::Refused { id, why: "the unit has no button that could start it" });
            }
            Command::Finish { id, epoch, channel } => {
                if let Err(why) = self.finish(id, epoch, channel) {
                    report(out, Report::Refused { id, why });
                }
            }
        }
    }

    fn command_stop(&mut self, generation: Generation, out: &mut Vec<DriverOutput>) {
        self.forget_wanted(EpochEnd::Stopped, out);
        if self.stop.as_ref().is_some_and(|stop| generation <= stop.generation) {
            return;
        }
        self.end_epoch(EpochEnd::Stopped, out);
        self.begin_stop(generation, out);
    }

    fn prepare(&mut self, epoch: Epoch, out: &mut Vec<DriverOutput>) {
        if self.running.as_ref().is_some_and(|running| running.epoch == epoch) {
            return;
        }
        if !self.up {
            report(out, Report::EpochEnded { epoch, cause: EpochEnd::Disconnected });
            return;
        }
        if self.unusable {
            report(out, Report::EpochEnded { epoch, cause: EpochEnd::UnexpectedStatus });
            return;
        }
        self.forget_wanted(EpochEnd::Stopped, out);
        if self.running.is_some() {
            self.fail_epoch(EpochEnd::Stopped, out);
        }
        self.known.battery = false;
        self.wanted = Some(Wanted { epoch, by: self.now.saturating_add(PREPARE_WITHIN), until: None });
    }

    fn forget_wanted(&mut self, cause: EpochEnd, out: &mut Vec<DriverOutput>) {
        if let Some(Wanted { epoch, .. }) = self.wanted.take() {
            report(out, Report::EpochEnded { epoch, cause });
        }
    }

    fn set(
        &mut self,
        id: CommandId,
        epoch: Epoch,
        channel: Channel,
        setpoint: Setpoint,
        out: &mut Vec<DriverOutput>,
    ) -> Result<(), &'static str> {
        let Setpoint::Pulses { current, width, period } = setpoint else {
            return Err("this unit gives pulses");
        };
        let (IntensityRange::Current { step, max }, Some(grid)) =
            (self.capability.intensity, self.capability.pulse)
        else {
            return Err("the unit's capability has no current or no pulse grid");
        };
        let lease = self.now.saturating_add(Packet::LIFE_MAX);
        let (dialect, running) = (self.dialect, open_epoch(&mut self.running, epoch)?);
        let at = usize::from(channel.0);
        if running.outputs.get(at).ok_or("the unit has no such channel")?.finishing {
            return Err("the channel is being finished");
        }
        let sent = current.min(max);
        let wave = (sent > Milliamps::ZERO).then_some(Wave { current: sent, width, period });
        if let Some(wave) = wave {
            check_wave(wave, step, &grid, dialect)?;
        }
        let mut waves = running.wanted();
        if let Some(slot) = waves.get_mut(at) {
            *slot = wave;
        }
        let channels = compose(&waves, &grid, dialect).ok_or("the wire cannot say this exactly")?;
        if channels.iter().any(|channel| codec::imbalance(&channel.points) != 0) {
            return Err("the charge of the pulse is not balanced");
        }
        if codec::load(&channels) > codec::LOAD_MAX {
            return Err("all channels together are more than the unit can execute");
        }
        if let Some(output) = running.outputs.get_mut(at) {
            output.wanted = wave;
            output.ids.push(id);
        }
        running.until.get_or_insert(lease);
        if sent < current {
            let (asked, sent) = (Intensity::Current(current), Intensity::Current(sent));
            report(out, Report::Clamped { asked, sent });
        }
        Ok(())
    }

    fn finish(&mut self, id: CommandId, epoch: Epoch, channel: Channel) -> Result<(), &'static str> {
        let lease = self.now.saturating_add(Packet::LIFE_MAX);
        let running = open_epoch(&mut self.running, epoch)?;
        let output = running.outputs.get_mut(usize::from(channel.0)).ok_or("the unit has no such channel")?;
        output.wanted = None;
        output.ids.push(id);
        output.finishing = true;
        running.until.get_or_insert(lease);
        Ok(())
    }

    fn renew(&mut self, until: Mono, out: &mut Vec<DriverOutput>) {
        if let Some(running) = &mut self.running {
            running.until = Some(until);
            running.poll_owed = running.ready;
        }
        if let Some(wanted) = &mut self.wanted {
            wanted.until = Some(until);
        }
        self.end_lapsed(out);
    }

    // ---- epochs --------------------------------------------------------------------------------------------------

    /// Ends the epoch, if there is one, and says what becomes of its commands.
    fn end_epoch(&mut self, cause: EpochEnd, out: &mut Vec<DriverOutput>) {
        let Some(running) = self.running.take() else {
            return;
        };
        if let Some(Pending { ask: Ask::Update(update), .. }) = &self.pending {
            for (_, id) in &update.ids {
                report(out, Report::Unacknowledged { id: *id });
            }
        }
        self.cut_off();
        for id in running.outputs.iter().flat_map(|output| &output.ids) {
            report(out, Report::Refused { id: *id, why: "the epoch ended before it was sent" });
        }
        report(out, Report::EpochEnded { epoch: running.epoch, cause });
    }

    /// Waits for the outstanding answer no more; one that comes late is nothing new.
    fn cut_off(&mut self) {
        let now = self.now;
        self.cut_off.retain(|(_, until)| now < *until);
        if let Some(pending) = self.pending.take().filter(|_| self.cut_off.len() < CUT_OFF_MAX) {
            self.cut_off.push((pending, now.saturating_add(CUT_OFF)));
        }
    }

    /// Ends the epoch and stops the unit.
    fn fail_epoch(&mut self, cause: EpochEnd, out: &mut Vec<DriverOutput>) {
        self.end_epoch(cause, out);
        self.begin_stop(self.generation, out);
    }

    fn end_lapsed(&mut self, out: &mut Vec<DriverOutput>) {
        let lapsed = |running: &Running| running.until.is_some_and(|until| until <= self.now);
        if self.running.as_ref().is_some_and(lapsed) {
            self.fail_epoch(EpochEnd::LeaseEnded, out);
            report(out, Report::LeaseEnded);
        }
        if self.wanted.is_some_and(|wanted| wanted.until.is_some_and(|until| until <= self.now)) {
            self.forget_wanted(EpochEnd::LeaseEnded, out);
        }
    }

    // ---- time ----------------------------------------------------------------------------------------------------

    fn expire(&mut self, out: &mut Vec<DriverOutput>) {
        let now = self.now;
        if let Some(stop) = &mut self.stop
            && !stop.unconfirmed
            && now >= stop.asked.saturating_add(UNCONFIRMED)
        {
            stop.unconfirmed = true;
            report(out, stop_report(stop, StopProgress::Unconfirmed, now));
        }
        if self.wanted.is_some_and(|wanted| now >= wanted.by) {
            self.forget_wanted(EpochEnd::LostAcknowledgement, out);
        }
        self.end_lapsed(out);
        if self.lost_at().is_some_and(|at| now >= at) {
            self.fail_epoch(EpochEnd::KeepAliveLost, out);
        }
        if self.unanswered_at().is_some_and(|at| now >= at)
            && let Some(pending) = self.pending.take()
        {
            self.unanswered(pending, out);
        }
        if self.blind_at().is_some_and(|at| now >= at)
            && let Some(running) = &mut self.running
        {
            self.pending = None;
            running.blind = true;
        }
    }

    /// When the epoch ends for want of an acknowledged keep-alive.
    fn lost_at(&self) -> Option<Mono> {
        let running = self.running.as_ref().filter(|running| running.ready)?;
        Some(running.alive.saturating_add(self.capability.telemetry.lost))
    }

    /// When the outstanding request counts as lost. A stop has its own rhythm.
    fn unanswered_at(&self) -> Option<Mono> {
        let pending = self.pending.as_ref().filter(|_| self.stop.is_none())?;
        Some(pending.at.saturating_add(self.capability.acknowledge_within))
    }

    /// When a lowering no longer waits for the answer to a poll.
    fn blind_at(&self) -> Option<Mono> {
        let running = self.running.as_ref().filter(|running| running.lowers() && !running.finishing())?;
        let pending = self.pending.as_ref().filter(|pending| matches!(pending.ask, Ask::Poll { .. }))?;
        (!running.blind).then(|| pending.at.saturating_add(FRESH))
    }

    /// When something is due that nobody asked for: the next try of a stop, a question, an idle status query.
    fn due_at(&self) -> Option<Mono> {
        if !self.up {
            return None;
        }
        if let Some(stop) = &self.stop {
            return Some(stop.next);
        }
        if self.pending.is_some() {
            return None;
        }
        let due = match &self.running {
            Some(running) if running.ready && running.dirty() => self.hold_until,
            Some(running) if running.ready && running.poll_next => self.hold_until,
            Some(running) if running.ready && running.poll_owed => self.hold_until,
            Some(running) if running.ready && running.at_zero() => self.status_due,
            Some(_) => return None,
            None if self.question().is_some() => self.known.due,
            None if self.wanted.is_some() => self.now,
            None => self.status_due,
        };
        Some(due.max(self.hold_until))
    }

    // ---- sending -------------------------------------------------------------------------------------------------

    /// Sends what is due and may be sent; at most one request is outstanding.
    fn pump(&mut self, out: &mut Vec<DriverOutput>) {
        if !self.up {
            return;
        }
        if let Some(stop) = &self.stop {
            if self.now >= stop.next {
                self.try_stop(out);
            }
            return;
        }
        self.settle(out);
        if self.pending.is_some() || self.due_at().is_none_or(|at| self.now < at) {
            return;
        }
        if self.running.is_some() {
            self.pump_epoch(out);
        } else if let Some(question) = self.question() {
            self.ask(question, out);
        } else if let Some(Wanted { epoch, until, .. }) = self.wanted.take() {
            let running = Running::new(epoch, self.channels(), self.now);
            self.running = Some(Running { until, ..running });
            let init = Message::MlInit { stop_all_channels_on_error: self.dialect == Dialect::Sm4 };
            self.send(&init, Purpose::Query, Ask::Init, out);
        } else {
            self.ask_status(Ask::IdleStatus, out);
        }
    }

    fn pump_epoch(&mut self, out: &mut Vec<DriverOutput>) {
        let Some(running) = &self.running else {
            return;
        };
        let fresh = running.fresh.is_some_and(|at| self.now <= at.saturating_add(FRESH));
        if running.poll_next {
            self.poll(true, out);
        } else if running.dirty() {
            let (careful, wanted) = (running.careful(), running.wanted());
            let all_off = wanted.iter().all(Option::is_none);
            if all_off || (fresh && !running.finishing()) {
                self.update(wanted, out);
            } else if fresh || (running.blind && running.lowers()) {
                self.update(careful, out);
            } else {
                self.poll(false, out);
            }
        } else if running.poll_owed {
            self.poll(false, out);
        } else {
            self.ask_status(Ask::ZeroStatus, out);
        }
    }

    fn channels(&self) -> u8 {
        self.capability.channels.min(self.dialect.channels())
    }

    fn ask_status(&mut self, ask: Ask, out: &mut Vec<DriverOutput>) {
        self.status_due = self.now.saturating_add(STATUS_EVERY);
        self.send(&Message::GetStimStatus, Purpose::Query, ask, out);
    }

    fn poll(&mut self, follows: bool, out: &mut Vec<DriverOutput>) {
        if let Some(running) = &mut self.running {
            running.poll_next = false;
            running.poll_owed = false;
        }
        let poll = Message::MlGetCurrentData { selection: self.dialect.selection() };
        self.send(&poll, Purpose::KeepAlive, Ask::Poll { follows }, out);
    }

    fn update(&mut self, waves: Waves, out: &mut Vec<DriverOutput>) {
        let (Some(running), Some(grid)) = (&mut self.running, self.capability.pulse) else {
            return;
        };
        let Some(channels) = compose(&waves, &grid, self.dialect) else {
            self.fail_epoch(EpochEnd::UnexpectedStatus, out);
            return;
        };
        let mut update = Update {
            rises: running.rises(&waves),
            finishes: running.finishing(),
            before: running.outputs.iter().map(|output| output.sent).collect(),
            ids: Vec::new(),
        };
        for (at, (output, wave)) in running.outputs.iter_mut().zip(waves).enumerate() {
            output.sent = wave;
            if wave == output.wanted {
                let covered = output.uncertain.drain(..).chain(output.ids.drain(..));
                update.ids.extend(covered.map(|id| (at, id)));
            }
        }
        running.blind = false;
        self.send(&Message::MlUpdate { channels }, Purpose::Output, Ask::Update(update), out);
    }

    /// Sends a request and waits for its answer.
    fn send(&mut self, message: &Message, purpose: Purpose, ask: Ask, out: &mut Vec<DriverOutput>) {
        let number = self.next_number;
        let Ok(bytes) = codec::encode(number, message, self.dialect) else {
            // Unreachable while `set` checks everything first; if it is not, nothing is sent and the unit is stopped.
            if self.running.is_some() {
                self.fail_epoch(EpochEnd::UnexpectedStatus, out);
            }
            return;
        };
        self.next_number = number.saturating_add(1).checked_rem(SCRIPT_NUMBER).unwrap_or(0);
        let packet = self.next_packet;
        self.next_packet = packet.wrapping_add(1);
        let until = self.running.as_mut().and_then(|running| {
            running.fresh = None;
            running.until
        });
        let sent = match purpose {
            Purpose::Stop | Purpose::Query => {
                Packet::lasting(packet, Endpoint::Serial, bytes, purpose, WriteKind::WithoutResponse)
            }
            Purpose::Output | Purpose::KeepAlive => Packet::expiring(
                packet,
                Endpoint::Serial,
                bytes,
                purpose,
                WriteKind::WithoutResponse,
                (self.now, until.unwrap_or(self.now)),
            ),
        };
        self.cut_off();
        self.pending = Some(Pending { number, packet, command: message.command(), at: self.now, ask });
        out.push(DriverOutput::Send(sent));
    }

    // ---- stopping ------------------------------------------------------------------------------------------------

    fn begin_stop(&mut self, generation: Generation, out: &mut Vec<DriverOutput>) {
        self.generation = self.generation.max(generation);
        self.cut_off();
        // A stop that was asked while the link was down is as old as it is; a newer one is young, but has the tries of
        // the one that it takes over.
        let known = self.stop.as_ref().filter(|stop| stop.generation == self.generation);
        let (asked, unconfirmed) = known.map_or((self.now, false), |stop| (stop.asked, stop.unconfirmed));
        let (tries, low_level) = self.stop.as_ref().map_or((0, false), |stop| (stop.tries, stop.low_level));
        self.stop = Some(Stop {
            generation: self.generation,
            asked,
            first_packet: self.next_packet,
            written: false,
            unconfirmed,
            tries: tries.max(1),
            next: self.now.saturating_add(STOP_RETRY),
            low_level,
        });
        if self.up {
            self.send(&Message::MlStop, Purpose::Stop, Ask::Stop, out);
        }
    }

    /// Sends the next frame of a stop: three tries in all, a reset, then a try each second.
    fn try_stop(&mut self, out: &mut Vec<DriverOutput>) {
        let Some(stop) = &mut self.stop else {
            return;
        };
        let message = match stop.tries {
            STOP_TRIES => Message::Reset,
            _ if stop.low_level => Message::LlStop,
            _ => Message::MlStop,
        };
        let pause = if stop.tries <= STOP_TRIES { STOP_RETRY } else { STOP_SLOW };
        stop.next = self.now.saturating_add(pause);
        stop.tries = stop.tries.saturating_add(1);
        self.send(&message, Purpose::Stop, Ask::Stop, out);
    }

    fn stop_status(&mut self, message: &Message, out: &mut Vec<DriverOutput>) {
        let Some(stop) = &mut self.stop else {
            return;
        };
        if proves_zero(message) {
            if !stop.written {
                report(out, stop_report(stop, StopProgress::Written, self.now));
            }
            report(out, Report::Alive);
            report(out, stop_report(stop, StopProgress::Confirmed, self.now));
            self.stop = None;
            self.status_due = self.now.saturating_add(STATUS_EVERY);
        } else if let Message::GetStimStatusAck { result: 0, stim_status, .. } = message {
            let low_level = *stim_status == 1;
            if low_level != stop.low_level && stop.tries < STOP_TRIES {
                // The other stop is the right one: at once.
                stop.next = self.now;
            }
            stop.low_level = low_level;
        }
    }

    // ---- answers -------------------------------------------------------------------------------------------------

    fn received(&mut self, received: &Received, out: &mut Vec<DriverOutput>) {
        if received.endpoint != Endpoint::Serial || !self.up {
            report(out, Report::Unintelligible { why: "bytes from nowhere" });
            return;
        }
        for found in self.splitter.push(&received.bytes) {
            match found {
                Ok(frame) => self.hear(&frame, out),
                Err(damaged) => report(out, Report::Unintelligible { why: damaged.reason.word() }),
            }
        }
    }

    fn hear(&mut self, frame: &Frame, out: &mut Vec<DriverOutput>) {
        let message = match codec::decode(frame, self.dialect) {
            Ok(message) => message,
            Err(DecodeError::UnknownCommand(_)) => {
                report(out, Report::Unintelligible { why: "an unknown command" });
                return;
            }
            Err(DecodeError::TooFew | DecodeError::TooMany | DecodeError::OutOfRange(_)) => {
                report(out, Report::Unintelligible { why: "a packet that breaks the format" });
                return;
            }
        };
        let Some(result) = message.result() else {
            report(out, Report::Unintelligible { why: "a request from the unit" });
            return;
        };
        if matches!(message, Message::GeneralError { .. }) && self.running.is_some() {
            self.fail_epoch(EpochEnd::Result(result), out);
            return;
        }
        let unknown = matches!(message, Message::UnknownCommand { .. });
        let matching = |pending: &Pending| {
            pending.number == frame.number && (unknown || frame.command == pending.command.saturating_add(1))
        };
        if let Some(pending) = self.pending.take_if(|pending| matching(pending)) {
            self.answered(pending, &message, result, out);
            return;
        }
        let now = self.now;
        let late = self.cut_off.iter().position(|(pending, until)| now < *until && matching(pending));
        match late {
            Some(late) => drop(self.cut_off.swap_remove(late)),
            None => report(out, Report::Unintelligible { why: "an answer to nothing that was asked" }),
        }
    }

    fn answered(&mut self, pending: Pending, message: &Message, result: u8, out: &mut Vec<DriverOutput>) {
        match pending.ask {
            Ask::Stop => {
                report(out, Report::Alive);
                if let Some(stop) = &mut self.stop
                    && stop.tries <= STOP_TRIES
                {
                    stop.next = self.now.saturating_add(STOP_RETRY);
                }
                self.send(&Message::GetStimStatus, Purpose::Query, Ask::StopStatus, out);
            }
            Ask::StopStatus => self.stop_status(message, out),
            Ask::Identify(question) => self.identified(question, message, out),
            Ask::IdleStatus if proves_zero(message) => report(out, Report::Alive),
            // It is not where it was proven to be: prove it again.
            Ask::IdleStatus => self.begin_stop(self.generation, out),
            Ask::Init | Ask::InitStatus | Ask::Update(_) | Ask::Poll { .. } | Ask::ZeroStatus
                if result != 0 =>
            {
                self.end_after_result(pending, message, result, out);
            }
            Ask::Init => self.send(&Message::GetStimStatus, Purpose::Query, Ask::InitStatus, out),
            Ask::InitStatus => self.initialised(message, out),
            Ask::Update(update) => self.updated(update, out),
            Ask::Poll { .. } => self.polled(message, out),
            Ask::ZeroStatus => {
                if let Message::GetStimStatusAck { stim_status: 2 | 3, .. } = message {
                    self.refresh(out);
                } else {
                    self.fail_epoch(EpochEnd::UnexpectedStatus, out);
                }
            }
        }
    }

    fn end_after_result(
        &mut self,
        pending: Pending,
        message: &Message,
        result: u8,
        out: &mut Vec<DriverOutput>,
    ) {
        let named =
            if let Message::MlGetCurrentDataAck { data, .. } = message { first_error(data) } else { None };
        let cause = named.unwrap_or(EpochEnd::Result(result));
        self.pending = Some(pending);
        self.fail_epoch(cause, out);
    }

    fn refresh(&mut self, out: &mut Vec<DriverOutput>) {
        if let Some(running) = &mut self.running {
            running.alive = self.now;
        }
        self.status_due = self.now.saturating_add(STATUS_EVERY);
        report(out, Report::Alive);
    }

    fn initialised(&mut self, message: &Message, out: &mut Vec<DriverOutput>) {
        let Message::GetStimStatusAck { stim_status: 2, .. } = message else {
            self.fail_epoch(EpochEnd::UnexpectedStatus, out);
            return;
        };
        self.refresh(out);
        if let Some(running) = &mut self.running {
            running.ready = true;
            report(out, Report::Ready { epoch: running.epoch });
        }
    }

    fn updated(&mut self, update: Update, out: &mut Vec<DriverOutput>) {
        self.refresh(out);
        let Some(running) = &mut self.running else {
            return;
        };
        running.poll_next = true;
        for output in &mut running.outputs {
            output.acknowledged = output.sent;
            output.finishing = output.finishing && output.sent.is_some();
        }
        for (_, id) in update.ids {
            report(out, Report::Acknowledged { id });
        }
    }

    /// Acknowledges commands that ask for what is acknowledged already.
    fn settle(&mut self, out: &mut Vec<DriverOutput>) {
        if self.pending.as_ref().is_some_and(|pending| matches!(pending.ask, Ask::Update(_))) {
            return;
        }
        for output in self.running.iter_mut().flat_map(|running| &mut running.outputs) {
            if output.settled() {
                output.finishing = false;
                for id in output.uncertain.drain(..).chain(output.ids.drain(..)) {
                    report(out, Report::Acknowledged { id });
                }
            }
        }
    }

    fn polled(&mut self, message: &Message, out: &mut Vec<DriverOutput>) {
        let Message::MlGetCurrentDataAck { data, .. } = message else {
            self.fail_epoch(EpochEnd::UnexpectedStatus, out);
            return;
        };
        let Some(running) = &self.running else {
            return;
        };
        let cause = if data.selection() == self.dialect.selection() {
            first_error(data).or_else(|| (!as_expected(running, data)).then_some(EpochEnd::UnexpectedStatus))
        } else {
            Some(EpochEnd::UnexpectedStatus)
        };
        if let Some(cause) = cause {
            self.fail_epoch(cause, out);
            return;
        }
        self.refresh(out);
        let Some(running) = &mut self.running else {
            return;
        };
        running.fresh = Some(self.now);
        running.blind = false;
        for (channel, output) in (0u8..).zip(&running.outputs) {
            if output.acknowledged.is_some() {
                let channel = Channel(channel);
                report(out, Report::Measured { channel, running: true, intensity: None });
            }
        }
    }

    // ---- silence and failed writes -------------------------------------------------------------------------------

    /// A request got no answer in time, or may have got lost.
    fn unanswered(&mut self, pending: Pending, out: &mut Vec<DriverOutput>) {
        match pending.ask {
            Ask::Stop | Ask::StopStatus | Ask::IdleStatus | Ask::ZeroStatus => {}
            Ask::Identify(_) => self.known.due = self.now.saturating_add(ASK_AGAIN),
            Ask::Init | Ask::InitStatus => self.fail_epoch(EpochEnd::LostAcknowledgement, out),
            Ask::Poll { .. } => {
                if self.running.as_ref().is_some_and(Running::finishing) {
                    self.fail_epoch(EpochEnd::KeepAliveLost, out);
                }
            }
            Ask::Update(update) => {
                for (_, id) in &update.ids {
                    report(out, Report::Unacknowledged { id: *id });
                }
                if update.rises || update.finishes {
                    self.fail_epoch(EpochEnd::LostAcknowledgement, out);
                } else if let Some(running) = &mut self.running {
                    // It lowered: what each channel gives lies between; it is lowered again after the poll.
                    running.poll_next = true;
                    for (at, id) in update.ids {
                        if let Some(output) = running.outputs.get_mut(at) {
                            output.uncertain.push(id);
                        }
                    }
                }
            }
        }
    }

    fn sent(&mut self, id: u32, outcome: SendOutcome, out: &mut Vec<DriverOutput>) {
        let now = self.now;
        if outcome == SendOutcome::Late {
            report(out, Report::DroppedLate);
        }
        if let Some(stop) = &mut self.stop {
            let ours = id.wrapping_sub(stop.first_packet) < u32::MAX / 2;
            match outcome {
                SendOutcome::Written | SendOutcome::Handed if ours && !stop.written => {
                    stop.written = true;
                    report(out, stop_report(stop, StopProgress::Written, now));
                }
                SendOutcome::Busy if ours => {
                    stop.tries = stop.tries.saturating_sub(1);
                    stop.next = now.saturating_add(BUSY_PAUSE);
                }
                SendOutcome::Written
                | SendOutcome::Handed
                | SendOutcome::Late
                | SendOutcome::Unknown
                | SendOutcome::Busy => {}
            }
            return;
        }
        let Some(pending) = self.pending.take_if(|pending| pending.packet == id) else {
            return;
        };
        match outcome {
            SendOutcome::Written | SendOutcome::Handed => self.pending = Some(pending),
            SendOutcome::Unknown => self.unanswered(pending, out),
            SendOutcome::Late | SendOutcome::Busy => {
                self.hold_until = now.saturating_add(BUSY_PAUSE);
                self.unsent(pending, outcome, out);
            }
        }
    }

    /// A request surely did not leave.
    fn unsent(&mut self, pending: Pending, outcome: SendOutcome, out: &mut Vec<DriverOutput>) {
        let running = match &mut self.running {
            Some(running) => running,
            None => {
                self.unanswered(pending, out);
                return;
            }
        };
        match pending.ask {
            Ask::Poll { follows } => {
                running.poll_next = follows;
                running.poll_owed = !follows && outcome == SendOutcome::Busy;
            }
            Ask::Update(update) => {
                for (output, before) in running.outputs.iter_mut().zip(update.before) {
                    output.sent = before;
                }
                for (at, id) in update.ids {
                    if let Some(output) = running.outputs.get_mut(at) {
                        output.ids.push(id);
                    }
                }
                if outcome == SendOutcome::Late {
                    refuse_rises(running, out);
                }
            }
            Ask::ZeroStatus => {}
            Ask::Init
            | Ask::InitStatus
            | Ask::Stop
            | Ask::StopStatus
            | Ask::Identify(_)
            | Ask::IdleStatus => {
                self.unanswered(pending, out);
            }
        }
    }

    // ---- identity ------------------------------------------------------------------------------------------------

    /// What is still to be asked of the unit.
    fn question(&self) -> Option<Question> {
        if self.unusable {
            None
        } else if self.known.device_id.is_none() {
            Some(Question::DeviceId)
        } else if self.known.version.is_none() {
            Some(Question::Version)
        } else if !self.known.battery && self.dialect == Dialect::Sm3 {
            Some(Question::Battery)
        } else {
            None
        }
    }

    fn ask(&mut self, question: Question, out: &mut Vec<DriverOutput>) {
        let message = match (question, self.dialect) {
            (Question::DeviceId, Dialect::Sm3 | Dialect::Sm4) => Message::GetDeviceId,
            (Question::Version, Dialect::Sm3) => Message::GetVersionMain,
            (Question::Version, Dialect::Sm4) => Message::GetExtendedVersion,
            (Question::Battery, Dialect::Sm3 | Dialect::Sm4) => Message::GetBatteryStatus,
        };
        self.send(&message, Purpose::Query, Ask::Identify(question), out);
    }

    fn identified(&mut self, question: Question, message: &Message, out: &mut Vec<DriverOutput>) {
        let unknown = matches!(message, Message::UnknownCommand { .. });
        if let (Question::DeviceId, Message::GetDeviceIdAck { result: 0, device_id }) = (question, message) {
            let text: Vec<u8> = device_id.iter().copied().take_while(|byte| *byte != 0).collect();
            self.known.device_id = Some(String::from_utf8_lossy(&text).trim().to_owned());
        } else if let (
            Question::Version,
            Message::GetVersionMainAck { result: 0, firmware, sciencemode: [major, ..] }
            | Message::GetExtendedVersionAck { result: 0, firmware, sciencemode: [major, ..], .. },
        ) = (question, message)
        {
            self.version(*firmware, *major, out);
        } else if question == Question::Version && unknown {
            self.refuse_unit("the unit does not know the version query of its kind".to_owned(), out);
        } else if let (Question::Battery, Message::GetBatteryStatusAck { result: 0, level_percent, .. }) =
            (question, message)
        {
            self.known.battery = true;
            report(out, Report::Battery(*level_percent));
        } else if question == Question::Battery && unknown {
            self.known.battery = true;
        } else {
            self.known.due = self.now.saturating_add(ASK_AGAIN);
            return;
        }
        report(out, Report::Alive);
        self.known.due = self.now;
    }

    fn version(&mut self, [major, minor, revision]: codec::Version, wire: u8, out: &mut Vec<DriverOutput>) {
        if wire != self.dialect.major() {
            let expected = self.dialect.major();
            self.refuse_unit(format!("the unit speaks ScienceMode {wire}, not {expected}"), out);
            return;
        }
        let firmware = format!("{major}.{minor}.{revision}");
        let model = match self.dialect {
            Dialect::Sm3 => "RehaMove3",
            Dialect::Sm4 => "P24",
        };
        let serial = self.known.device_id.clone().unwrap_or_default();
        self.known.version = Some(firmware.clone());
        report(out, Report::Identity(Identity { model: model.to_owned(), serial, firmware }));
    }

    fn refuse_unit(&mut self, why: String, out: &mut Vec<DriverOutput>) {
        self.unusable = true;
        report(out, Report::Unusable { why });
        self.forget_wanted(EpochEnd::UnexpectedStatus, out);
    }
}

impl Driver for ScienceMode {
    fn advance(&mut self, now: Mono, input: DriverInput<'_>, out: &mut Vec<DriverOutput>) {
        self.now = self.now.max(now);
        self.expire(out);
        match input {
            DriverInput::Tick => {}
            DriverInput::Connected { generation } => self.connected(generation, out),
            DriverInput::Disconnected => self.disconnected(out),
            DriverInput::Command(command) => self.command(*command.get(), out),
            DriverInput::Renew { until } => self.renew(until, out),
            DriverInput::Received(received) => self.received(received, out),
            DriverInput::Sent { id, outcome } => self.sent(id, outcome, out),
        }
        self.pump(out);
    }

    fn deadline(&self) -> Option<Mono> {
        let unconfirmed = self.stop.as_ref().filter(|stop| !stop.unconfirmed);
        [
            unconfirmed.map(|stop| stop.asked.saturating_add(UNCONFIRMED)),
            self.wanted.map(|wanted| wanted.until.map_or(wanted.by, |until| until.min(wanted.by))),
            self.running.as_ref().and_then(|running| running.until),
            self.lost_at(),
            self.unanswered_at(),
            self.blind_at(),
            self.due_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn stop_script(&self) -> &StopScript {
        &self.script
    }
}

fn report(out: &mut Vec<DriverOutput>, report: Report) {
    out.push(DriverOutput::Report(report));
}

fn stop_report(stop: &Stop, progress: StopProgress, now: Mono) -> Report {
    Report::Stop { generation: stop.generation, progress, after: now.since(stop.asked) }
}

/// Whether it says: nothing initialised, high voltage off.
const fn proves_zero(message: &Message) -> bool {
    matches!(message, Message::GetStimStatusAck { result: 0, stim_status: 0, high_voltage: 1 })
}

/// Returns the epoch when it is the one a command was cleared in, and ready.
fn open_epoch(running: &mut Option<Running>, epoch: Epoch) -> Result<&mut Running, &'static str> {
    let running = running.as_mut().ok_or("the unit is not prepared")?;
    if running.epoch != epoch {
        return Err("it was cleared in another epoch");
    }
    if !running.ready {
        return Err("the unit is not ready");
    }
    Ok(running)
}

fn check_wave(wave: Wave, step: Milliamps, grid: &PulseGrid, dialect: Dialect) -> Result<(), &'static str> {
    let on = |value: u32, step: u32| value.checked_rem(step).is_none_or(|rest| rest == 0);
    let current = wave.current.microamps();
    if !on(current, step.microamps()) || !on(current, 500) {
        return Err("the current is not on the unit's grid");
    }
    if !(grid.width_min..=grid.width_max).contains(&wave.width)
        || !on(wave.width.micros(), grid.width_step.micros())
    {
        return Err("the pulse width is not on the unit's grid");
    }
    if !(grid.period_min..=grid.period_max).contains(&wave.period)
        || !on(wave.period.micros(), grid.period_step.micros())
        || codec::Period::from_micros(wave.period.micros(), dialect).is_none()
    {
        return Err("the pulse period is not on the unit's grid");
    }
    Ok(())
}

/// Takes back every rise that was not sent: a late rise is not sent later.
fn refuse_rises(running: &mut Running, out: &mut Vec<DriverOutput>) {
    let careful = running.careful();
    for (output, careful) in running.outputs.iter_mut().zip(careful) {
        if output.wanted != careful {
            output.wanted = careful;
            for id in output.ids.drain(..) {
                report(out, Report::Refused { id, why: "it was dropped because it was late" });
            }
        }
    }
}

/// The first channel that the unit says has an error.
fn first_error(data: &CurrentData) -> Option<EpochEnd> {
    let electrode = |errors: &[bool]| {
        (0u8..).zip(errors).find(|(_, error)| **error).map(|(at, _)| EpochEnd::LeadOff(Channel(at)))
    };
    match data {
        CurrentData::Group { errors, .. } => electrode(errors),
        CurrentData::Groups { errors, .. } => electrode(errors),
        CurrentData::Channels { states, .. } => {
            (0u8..).zip(states).find(|(_, state)| **state != 0).map(|(at, state)| match state {
                1 => EpochEnd::LeadOff(Channel(at)),
                _ => EpochEnd::PulseError(Channel(at)),
            })
        }
    }
}

/// Whether the channels that stimulate are those that should; one that is uncertain may do either.
fn as_expected(running: &Running, data: &CurrentData) -> bool {
    let states = running.outputs.iter().map(|output| (output.sent.is_some(), output.acknowledged.is_some()));
    match data {
        CurrentData::Channels { active, .. } => states
            .chain(std::iter::repeat((false, false)))
            .zip(active)
            .all(|((sent, acknowledged), active)| *active == sent || *active == acknowledged),
        CurrentData::Group { running: active, .. } => {
            let (mut sent_any, mut acknowledged_any) = (false, false);
            for (sent, acknowledged) in states {
                sent_any |= sent;
                acknowledged_any |= acknowledged;
            }
            *active == sent_any || *active == acknowledged_any
        }
        CurrentData::Groups { .. } => false,
    }
}

/// The stop script: ends a half-written frame, then stops twice; the acknowledge of either proves it.
fn stop_script(dialect: Dialect) -> StopScript {
    let stop = codec::encode(SCRIPT_NUMBER, &Message::MlStop, dialect).unwrap_or_default();
    let value = codec::encode(SCRIPT_NUMBER, &Message::MlStopAck { result: 0 }, dialect).unwrap_or_default();
    let confirm = Confirm { endpoint: Endpoint::Serial, at: 0, mask: vec![0xFF; value.len()], value };
    let step = |wait| StopStep {
        endpoint: Endpoint::Serial,
        bytes: stop.clone(),
        write: WriteKind::WithoutResponse,
        wait,
        confirm: Some(confirm.clone()),
    };
    let mut resync = vec![0; longest_frame(dialect).saturating_sub(1)];
    resync.push(frame::STOP);
    StopScript { steps: vec![step(Duration::ZERO), step(STOP_RETRY)], cycle: STOP_RETRY, resync }
}

/// Length of the longest frame that the driver writes: an update of all channels, every byte stuffed.
fn longest_frame(dialect: Dialect) -> usize {
    // Prefix, mask; per channel ramp, period and three points of four bytes.
    let plain = usize::from(dialect.channels()).saturating_mul(15).saturating_add(3);
    plain.saturating_mul(2).saturating_add(frame::HEADER).saturating_add(1)
}
