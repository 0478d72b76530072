//! A simulated ScienceMode 3 or 4 stimulator: speaks packets, obeys the documented state machine, integrates pulses.
//!
//! ```text
//!            Ll_init                    Ml_init                    Ml_update
//! low level <------- nothing initialised -------> mid level ----------------------> running
//!     |  Ll_stop            ^   ^   Ml_stop           |  ^   2 s without keep-alive    |
//!     +---------------------+   +---------------------+  +-----------------------------+
//!                               +------------------------------------ Ml_stop ---------+
//! ```
//!
//! Invariants:
//! - a request takes effect when its last byte arrives; only its answer takes time, and answers keep their order;
//! - a pulse counts at its first instant; a channel that is active over `[a, b)` gives the pulses that begin in it;
//! - 2 s after the last Ml_update or Ml_get_current_data that it accepted, it gives nothing;
//! - equal seeds and equal inputs give equal outputs; bytes can never make it panic.
//!
//! What no public source settles is a switch in [`StimulatorBehaviour`].

use std::collections::VecDeque;
use std::time::Duration;

use crate::driver::frame::{Damaged, Frame, Splitter};
pub use crate::driver::sciencemode::codec::Dialect;
use crate::driver::sciencemode::codec::{
    self, ChannelPattern, CurrentData, DecodeError, Message, Pattern, Point, PulseAck, Trace,
};
use crate::model::packet::Endpoint;
use crate::sim::world::{Setting, SettingError};
use crate::sim::{Delivered, Seeded, SimDevice, SimEvent, SimInput, SimOutput};
use crate::units::{Milliamps, Mono};

/// Mid-level stimulation ends this long after the last keep-alive (neurostim-serial 3.5).
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Low-level pulses that are buffered at most (neurostim-serial 3.2).
const BUFFERED_MAX: usize = 10;
/// Shortest point that is executed, µs.
const POINT_MIN_US: u64 = 10;

const TRANSFER_ERROR: u8 = 1;
const PARAMETER_ERROR: u8 = 2;
const WRONG_LEVEL: u8 = 7;
const HIGH_VOLTAGE_ERROR: u8 = 8;
const ELECTRODE_ERROR: u8 = 10;
const UNKNOWN: u8 = 11;
const PULSE_TIMEOUT: u8 = 16;
const BUSY: u8 = 21;
const PULSE_LOW_CURRENT: u8 = 28;

/// How a unit behaves where the documents are silent or only inferred, and what its body and wiring are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StimulatorBehaviour {
    /// Shortest and longest time to an ordinary answer. Default 1–5 ms.
    pub latency: (Duration, Duration),
    /// Time to the answer of an init or stop, in which the high voltage is switched. Default 40 ms.
    pub switching: Duration,
    /// Silence after a reboot. Default 500 ms.
    pub boot: Duration,
    /// Smallest current at which an open lead is noticed. Default 15 mA.
    pub detects_from: Milliamps,
    /// Between the electrodes of every channel, Ω. Default 1000.
    pub impedance_ohm: u32,
    /// Answer to Ll_init in low level. Default 0.
    pub ll_init_again: u8,
    /// Answer to Ll_stop with nothing initialised. Default 0.
    pub ll_stop_idle: u8,
    /// Answer to Ml_stop with nothing initialised. Default 0.
    pub ml_stop_idle: u8,
    /// Answer to Ml_stop in low level, which stays on. Default 7.
    pub ml_stop_in_low_level: u8,
    /// Answer to Ml_init in mid level; with 0 all channels stop, otherwise nothing changes. Default 0.
    pub ml_init_again: u8,
    /// The high voltage goes off when the keep-alive is missed. Default no.
    pub voltage_off_after_expiry: bool,
    /// An update that lists no channel counts as running. Default yes.
    pub empty_update_runs: bool,
    /// When an error has stopped the last channel the status stays running until the keep-alive is missed. Default yes.
    pub error_leaves_running: bool,
    /// ScienceMode 3: an error on one channel stops all. Default no.
    pub sm3_error_stops_all: bool,
    /// Result of Ml_get_current_data when a channel has an error. Default 0.
    pub poll_result_on_error: u8,
    /// Asking for the errors forgets them; otherwise the next update does. Default no.
    pub errors_cleared_by_poll: bool,
    /// A result that is not 0 is followed by the usual number of data. Default yes.
    pub refusals_padded: bool,
    /// A damaged request is answered with a transfer error. Default yes.
    pub answers_damaged: bool,
    /// Reset is acknowledged. Default yes (RehaMove3 is documented as never doing so).
    pub reset_acknowledged: bool,
    /// ScienceMode 4: answers Get_battery_status. Default no.
    pub sm4_battery: bool,
    /// ScienceMode 4: answers Get_version_main. Default yes.
    pub sm4_version_main: bool,
    /// The first pulses of a channel that was off rise as its ramp says; otherwise they have full current. Default yes.
    pub ramps: bool,
    /// Closing the serial port resets the unit. Default no.
    pub close_resets: bool,
}

impl Default for StimulatorBehaviour {
    fn default() -> Self {
        Self {
            latency: (Duration::from_millis(1), Duration::from_millis(5)),
            switching: Duration::from_millis(40),
            boot: Duration::from_millis(500),
            detects_from: Milliamps::from_milliamps(15),
            impedance_ohm: 1000,
            ll_init_again: 0,
            ll_stop_idle: 0,
            ml_stop_idle: 0,
            ml_stop_in_low_level: WRONG_LEVEL,
            ml_init_again: 0,
            voltage_off_after_expiry: false,
            empty_update_runs: true,
            error_leaves_running: true,
            sm3_error_stops_all: false,
            poll_result_on_error: 0,
            errors_cleared_by_poll: false,
            refusals_padded: true,
            answers_damaged: true,
            reset_acknowledged: true,
            sm4_battery: false,
            sm4_version_main: true,
            ramps: true,
            close_resets: false,
        }
    }
}

impl StimulatorBehaviour {
    /// Changes what one key of a world file names: the fields of this type; `latency` is an exact span there.
    ///
    /// # Errors
    /// The key or its value is not one of a stimulator's.
    pub fn set(&mut self, key: &str, value: &Setting) -> Result<(), SettingError> {
        match key {
            "latency" => self.latency = (value.span()?, value.span()?),
            "switching" => self.switching = value.span()?,
            "boot" => self.boot = value.span()?,
            "detects_from" => self.detects_from = value.text()?.parse()?,
            "impedance_ohm" => self.impedance_ohm = value.number()?,
            "ll_init_again" => self.ll_init_again = value.number()?,
            "ll_stop_idle" => self.ll_stop_idle = value.number()?,
            "ml_stop_idle" => self.ml_stop_idle = value.number()?,
            "ml_stop_in_low_level" => self.ml_stop_in_low_level = value.number()?,
            "ml_init_again" => self.ml_init_again = value.number()?,
            "voltage_off_after_expiry" => self.voltage_off_after_expiry = value.flag()?,
            "empty_update_runs" => self.empty_update_runs = value.flag()?,
            "error_leaves_running" => self.error_leaves_running = value.flag()?,
            "sm3_error_stops_all" => self.sm3_error_stops_all = value.flag()?,
            "poll_result_on_error" => self.poll_result_on_error = value.number()?,
            "errors_cleared_by_poll" => self.errors_cleared_by_poll = value.flag()?,
            "refusals_padded" => self.refusals_padded = value.flag()?,
            "answers_damaged" => self.answers_damaged = value.flag()?,
            "reset_acknowledged" => self.reset_acknowledged = value.flag()?,
            "sm4_battery" => self.sm4_battery = value.flag()?,
            "sm4_version_main" => self.sm4_version_main = value.flag()?,
            "ramps" => self.ramps = value.flag()?,
            "close_resets" => self.close_resets = value.flag()?,
            _ => return Err(SettingError::Unknown),
        }
        Ok(())
    }
}

/// Why a channel's pulses fail, other than an open lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PulseFault {
    /// Pulses cannot be executed in time.
    Timeout,
    /// The set current is not reached.
    LowCurrent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Nothing,
    LowLevel,
    MidLevel,
    Running,
}

impl Status {
    const fn wire(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::LowLevel => 1,
            Self::MidLevel => 2,
            Self::Running => 3,
        }
    }
}

/// State of a channel as the wire says it; also why a pulse is not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ChannelState {
    #[default]
    Ok,
    ElectrodeError,
    PulseTimeout,
    PulseLowCurrent,
}

impl ChannelState {
    const fn wire(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::ElectrodeError => 1,
            Self::PulseTimeout => 2,
            Self::PulseLowCurrent => 3,
        }
    }

    const fn result(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::ElectrodeError => ELECTRODE_ERROR,
            Self::PulseTimeout => PULSE_TIMEOUT,
            Self::PulseLowCurrent => PULSE_LOW_CURRENT,
        }
    }
}

/// A pattern that repeats.
#[derive(Clone, Debug)]
struct Train {
    pattern: ChannelPattern,
    period_us: u64,
    /// Pulses with lower current at the beginning.
    ramp: u64,
    /// Pulses since the channel was enabled.
    given: u64,
    /// When the next pulse begins.
    next: Mono,
}

impl Train {
    /// Returns numerator and denominator of pulse `index` (from 0 since enabled) against full current.
    fn fraction(&self, index: u64) -> (u64, u64) {
        if index < self.ramp { (index.saturating_add(1), self.ramp.saturating_add(1)) } else { (1, 1) }
    }

    fn amplitude(&self, index: u64) -> u32 {
        let (part, whole) = self.fraction(index);
        let peak = u64::from(peak_microamps(&self.pattern.points));
        u32::try_from(peak.saturating_mul(part) / whole.max(1)).unwrap_or(u32::MAX)
    }

    fn instant(&self, index: u64) -> Mono {
        let ahead = index.saturating_sub(self.given).saturating_mul(self.period_us);
        self.next.saturating_add(Duration::from_micros(ahead))
    }

    /// Returns how many pulses begin before `until`.
    fn pulses_before(&self, until: Mono) -> u64 {
        let span = until.micros().saturating_sub(self.next.micros());
        span.div_ceil(self.period_us.max(1))
    }
}

fn peak_microamps(points: &[Point]) -> u32 {
    points
        .iter()
        .map(|point| u32::from(point.half_milliamps.unsigned_abs()).saturating_mul(500))
        .max()
        .unwrap_or(0)
}

fn executed_us(point: &Point) -> u64 {
    match point.duration_us {
        0 => 0,
        other => u64::from(other).max(POINT_MIN_US),
    }
}

/// Returns the charge of the polarity that has more of it, pC.
fn charge_picocoulombs(points: &[Point]) -> u64 {
    let of = |positive: bool| {
        points
            .iter()
            .filter(|point| (point.half_milliamps > 0) == positive)
            .map(|point| {
                u64::from(point.half_milliamps.unsigned_abs()).saturating_mul(500 * executed_us(point))
            })
            .sum::<u64>()
    };
    of(true).max(of(false))
}

#[derive(Clone, Debug, Default)]
struct Channel {
    train: Option<Train>,
    state: ChannelState,
    lead_off: bool,
    fault: Option<PulseFault>,
    truth: Delivered,
}

impl Channel {
    /// Why a pulse of `amplitude` µA would not be given; `volts` is the source's.
    fn failure(&self, amplitude: u32, volts: u32, behaviour: &StimulatorBehaviour) -> ChannelState {
        let needed_uv = u64::from(amplitude).saturating_mul(u64::from(behaviour.impedance_ohm));
        if self.lead_off && amplitude >= behaviour.detects_from.microamps() {
            return ChannelState::ElectrodeError;
        }
        match self.fault {
            Some(PulseFault::Timeout) => ChannelState::PulseTimeout,
            Some(PulseFault::LowCurrent) => ChannelState::PulseLowCurrent,
            None if needed_uv > u64::from(volts).saturating_mul(1_000_000) => ChannelState::PulseLowCurrent,
            None => ChannelState::Ok,
        }
    }

    /// The first pulse that would fail, and why.
    fn first_failure(&self, volts: u32, behaviour: &StimulatorBehaviour) -> Option<(Mono, ChannelState)> {
        let train = self.train.as_ref()?;
        (train.given..=train.ramp.max(train.given)).find_map(|index| {
            match self.failure(train.amplitude(index), volts, behaviour) {
                ChannelState::Ok => None,
                failed @ (ChannelState::ElectrodeError
                | ChannelState::PulseTimeout
                | ChannelState::PulseLowCurrent) => Some((train.instant(index), failed)),
            }
        })
    }

    /// Gives the pulses that begin in `[from, until)`; none of them fails.
    fn run(&mut self, from: Mono, until: Mono) {
        let Some(train) = &mut self.train else {
            return;
        };
        self.truth.on_us = self.truth.on_us.saturating_add(until.micros().saturating_sub(from.micros()));
        let count = train.pulses_before(until);
        let full = charge_picocoulombs(&train.pattern.points);
        let ramped = train.ramp.saturating_sub(train.given).min(count);
        let end = train.given.saturating_add(count);
        if count > 0 && !self.lead_off {
            let rising: u64 = (train.given..train.given.saturating_add(ramped))
                .map(|index| {
                    let (part, whole) = train.fraction(index);
                    full.saturating_mul(part) / whole.max(1)
                })
                .sum();
            let flat = full.saturating_mul(count.saturating_sub(ramped));
            self.truth.charge_pc = self.truth.charge_pc.saturating_add(rising).saturating_add(flat);
            self.truth.pulses = self.truth.pulses.saturating_add(count);
            self.truth.highest = self.truth.highest.max(train.amplitude(end.saturating_sub(1)));
        }
        train.next = train.instant(end);
        train.given = end;
    }

    fn present(&self) -> u32 {
        self.train.as_ref().map_or(0, |train| train.amplitude(train.given.saturating_sub(1)))
    }
}

/// A low-level pulse that waits for its time, or for its acknowledge.
#[derive(Clone, Debug)]
struct Pulse {
    number: u8,
    channel: u8,
    connector: u8,
    points: Vec<Point>,
    start: Mono,
    end: Mono,
    /// Set when it has begun.
    result: Option<u8>,
}

impl Pulse {
    /// Position of its output in the unit's channels.
    fn output(&self) -> usize {
        usize::from(self.connector.saturating_mul(4).saturating_add(self.channel))
    }
}

/// What goes wrong on the way.
#[derive(Clone, Debug, Default)]
struct Faults {
    wedged: bool,
    drop_replies: u8,
    corrupt_replies: u8,
    duplicate_replies: u8,
    drop_requests: u8,
    delay: Duration,
}

/// Takes one of the remaining faults, if any is left.
fn spend(left: &mut u8) -> bool {
    let any = *left > 0;
    *left = left.saturating_sub(1);
    any
}

/// A simulated unit.
#[derive(Debug)]
pub struct Stimulator {
    dialect: Dialect,
    device_id: [u8; 10],
    behaviour: StimulatorBehaviour,
    seeded: Seeded,
    now: Mono,
    splitter: Splitter,
    status: Status,
    /// As the wire says it: 1 off, 2–6 for 30–150 V.
    high_voltage: u8,
    stop_all: bool,
    measurement_type: u8,
    channels: Vec<Channel>,
    kept_alive: Mono,
    pulses: VecDeque<Pulse>,
    answered: Mono,
    silent_until: Mono,
    battery_percent: u8,
    faults: Faults,
}

impl Stimulator {
    /// Makes a unit with nothing initialised, all leads on, a full battery. `serial`: its first 10 bytes are the
    /// device id.
    pub fn new(dialect: Dialect, serial: &str, seed: u64, behaviour: StimulatorBehaviour) -> Self {
        let mut device_id = [0; 10];
        for (into, byte) in device_id.iter_mut().zip(serial.bytes()) {
            *into = byte;
        }
        let channels = (0..dialect.channels())
            .map(|channel| Channel {
                truth: Delivered { channel, ..Delivered::default() },
                ..Channel::default()
            })
            .collect();
        Self {
            dialect,
            device_id,
            behaviour,
            seeded: Seeded::new(seed),
            now: Mono::ORIGIN,
            splitter: Splitter::new(),
            status: Status::Nothing,
            high_voltage: 1,
            stop_all: false,
            measurement_type: 0,
            channels,
            kept_alive: Mono::ORIGIN,
            pulses: VecDeque::new(),
            answered: Mono::ORIGIN,
            silent_until: Mono::ORIGIN,
            battery_percent: 100,
            faults: Faults::default(),
        }
    }

    /// Makes the pulses of a channel fail from now on, or work again.
    pub fn break_channel(&mut self, channel: u8, fault: Option<PulseFault>) {
        if let Some(channel) = self.channels.get_mut(usize::from(channel)) {
            channel.fault = fault;
        }
    }

    /// Returns the status as the wire says it: 0 nothing initialised, 1 low level, 2 mid level, 3 running.
    pub const fn status(&self) -> u8 {
        self.status.wire()
    }

    /// Returns the high-voltage level as the wire says it: 1 off, 2–6 for 30–150 V.
    pub const fn high_voltage(&self) -> u8 {
        self.high_voltage
    }

    /// Volts of the source.
    fn volts(&self) -> u32 {
        u32::from(self.high_voltage.saturating_sub(1)).saturating_mul(30)
    }

    fn stop_trains(&mut self) {
        for channel in &mut self.channels {
            channel.train = None;
        }
    }

    fn expiry(&self) -> Option<Mono> {
        (self.status == Status::Running).then(|| self.kept_alive.saturating_add(KEEP_ALIVE))
    }

    fn first_failure(&self) -> Option<(Mono, usize, ChannelState)> {
        let volts = self.volts();
        self.channels
            .iter()
            .enumerate()
            .filter_map(|(at, channel)| {
                channel.first_failure(volts, &self.behaviour).map(|(when, state)| (when, at, state))
            })
            .min_by_key(|(when, at, _)| (*when, *at))
    }

    /// Integrates to `to`, exactly: stops at every instant at which something changes by itself.
    fn integrate(&mut self, to: Mono) {
        loop {
            let expiry = self.expiry().filter(|at| *at <= to);
            let failure =
                self.first_failure().filter(|(at, _, _)| *at < to && expiry.is_none_or(|end| *at < end));
            if let Some((at, channel, state)) = failure {
                self.run_trains(at);
                self.fail(channel, state);
            } else if let Some(at) = expiry {
                self.run_trains(at);
                self.expire();
            } else {
                self.run_trains(to);
                return;
            }
        }
    }

    fn run_trains(&mut self, to: Mono) {
        let from = self.now;
        for channel in &mut self.channels {
            channel.run(from, to);
        }
        self.now = self.now.max(to);
    }

    fn fail(&mut self, at: usize, state: ChannelState) {
        if let Some(channel) = self.channels.get_mut(at) {
            channel.state = state;
            channel.train = None;
        }
        let all = match self.dialect {
            Dialect::Sm3 => self.behaviour.sm3_error_stops_all,
            Dialect::Sm4 => self.stop_all,
        };
        if all {
            self.stop_trains();
        }
        if !self.behaviour.error_leaves_running && self.channels.iter().all(|channel| channel.train.is_none())
        {
            self.status = Status::MidLevel;
        }
    }

    fn expire(&mut self) {
        self.stop_trains();
        self.status = Status::MidLevel;
        if self.behaviour.voltage_off_after_expiry {
            self.high_voltage = 1;
        }
    }

    fn restart(&mut self) {
        self.stop_trains();
        for channel in &mut self.channels {
            channel.state = ChannelState::Ok;
        }
        self.pulses.clear();
        self.splitter.reset();
        self.status = Status::Nothing;
        self.high_voltage = 1;
        self.measurement_type = 0;
    }

    /// Begins and ends low-level pulses up to now.
    fn run_pulses(&mut self, out: &mut Vec<SimOutput>) {
        let (now, volts) = (self.now, self.volts());
        for pulse in &mut self.pulses {
            if pulse.result.is_none() && pulse.start < now {
                let result = self
                    .channels
                    .get_mut(pulse.output())
                    .map_or(PARAMETER_ERROR, |channel| give(channel, &pulse.points, volts, &self.behaviour));
                pulse.result = Some(result);
            }
        }
        while let Some(pulse) = self.pulses.pop_front_if(|pulse| pulse.end <= now && pulse.result.is_some()) {
            let trace = self.trace(&pulse.points);
            let result = pulse.result.unwrap_or(0);
            let answer = self.pulse_ack(result, pulse.channel, pulse.connector, trace);
            self.answer(pulse.number, &answer, false, out);
        }
    }

    fn pulse_ack(&self, result: u8, channel: u8, connector: u8, trace: Option<Trace>) -> Message {
        let pulse = match self.dialect {
            Dialect::Sm3 => PulseAck::Sm3 { electrode_error_channel: channel },
            Dialect::Sm4 => PulseAck::Sm4 { channel, connector, trace },
        };
        Message::LlChannelConfigAck { result, pulse }
    }

    fn trace(&self, points: &[Point]) -> Option<Trace> {
        if self.measurement_type == 0 {
            return None;
        }
        let total: u64 = points.iter().map(executed_us).sum();
        let samples_wanted = u64::try_from(codec::SAMPLES).unwrap_or(1);
        let step = total.div_ceil(samples_wanted).max(1);
        let samples = (0..samples_wanted).map(|at| self.sample(points, at.saturating_mul(step))).collect();
        let sampling_time_us = u16::try_from(step).unwrap_or(u16::MAX);
        Some(Trace { measurement_type: self.measurement_type, sampling_time_us, samples })
    }

    /// Hundredths of the measured unit, `at` µs into a pulse.
    fn sample(&self, points: &[Point], at: u64) -> u16 {
        let mut end = 0u64;
        let half_milliamps = points
            .iter()
            .find(|point| {
                end = end.saturating_add(executed_us(point));
                at < end
            })
            .map_or(0, |point| u32::from(point.half_milliamps.unsigned_abs()));
        let hundredths = match self.measurement_type {
            1 => half_milliamps.saturating_mul(50),
            2 => half_milliamps.saturating_mul(self.behaviour.impedance_ohm) / 20,
            _ => self.volts().saturating_mul(100),
        };
        u16::try_from(hundredths).unwrap_or(u16::MAX)
    }

    fn hear(&mut self, found: Result<Frame, Damaged>, out: &mut Vec<SimOutput>) {
        if self.faults.wedged || self.now < self.silent_until || spend(&mut self.faults.drop_requests) {
            return;
        }
        match found {
            Ok(frame) => self.obey(&frame, out),
            Err(damaged) => self.complain(&damaged, out),
        }
    }

    fn complain(&mut self, damaged: &Damaged, out: &mut Vec<SimOutput>) {
        if !self.behaviour.answers_damaged {
            return;
        }
        let (number, answer) = match damaged.prefix() {
            Some((number, command)) if answered_by(command, self.dialect) => {
                (number, self.refusal(command, TRANSFER_ERROR))
            }
            Some((number, _)) => (number, Message::GeneralError { result: TRANSFER_ERROR }),
            None => (0, Message::GeneralError { result: TRANSFER_ERROR }),
        };
        self.answer(number, &answer, false, out);
    }

    fn obey(&mut self, frame: &Frame, out: &mut Vec<SimOutput>) {
        let decoded = codec::decode(frame, self.dialect);
        let answer = match decoded {
            _ if !answered_by(frame.command, self.dialect) || !self.knows(frame.command) => {
                Some(Message::UnknownCommand { result: UNKNOWN })
            }
            Err(DecodeError::UnknownCommand(_)) => Some(Message::UnknownCommand { result: UNKNOWN }),
            Err(DecodeError::TooFew | DecodeError::TooMany | DecodeError::OutOfRange(_)) => {
                Some(self.refusal(frame.command, PARAMETER_ERROR))
            }
            Ok(message) if message.check(self.dialect).is_err() => {
                Some(self.refusal(frame.command, PARAMETER_ERROR))
            }
            Ok(message) => self.act(frame.number, message),
        };
        if let Some(answer) = answer {
            let switches = matches!(frame.command, 0 | 4 | 30 | 34);
            self.answer(frame.number, &answer, switches, out);
        }
    }

    fn knows(&self, command: u16) -> bool {
        match (self.dialect, command) {
            (Dialect::Sm4, 50) => self.behaviour.sm4_version_main,
            (Dialect::Sm4, 54) => self.behaviour.sm4_battery,
            (Dialect::Sm3 | Dialect::Sm4, _) => true,
        }
    }

    /// The answer to a request that is not carried out.
    fn refusal(&self, command: u16, result: u8) -> Message {
        let refused = Message::Refused { command: command.saturating_add(1), result };
        if !self.behaviour.refusals_padded {
            return match command {
                0 => Message::LlInitAck { result },
                4 => Message::LlStopAck { result },
                30 => Message::MlInitAck { result },
                32 => Message::MlUpdateAck { result },
                34 => Message::MlStopAck { result },
                58 => Message::ResetAck { result },
                _ => refused,
            };
        }
        match command {
            0 => Message::LlInitAck { result },
            2 => self.pulse_ack(result, 0, 0, None),
            4 => Message::LlStopAck { result },
            30 => Message::MlInitAck { result },
            32 => Message::MlUpdateAck { result },
            34 => Message::MlStopAck { result },
            36 => Message::MlGetCurrentDataAck { result, data: nothing(self.dialect.selection()) },
            50 => Message::GetVersionMainAck { result, firmware: [0; 3], sciencemode: [0; 3] },
            52 => Message::GetDeviceIdAck { result, device_id: [0; 10] },
            54 => Message::GetBatteryStatusAck { result, level_percent: 0, voltage_mv: 0 },
            58 => Message::ResetAck { result },
            62 => Message::GetStimStatusAck { result, stim_status: 0, high_voltage: 0 },
            68 => Message::GetExtendedVersionAck {
                result,
                firmware: [0; 3],
                sciencemode: [0; 3],
                firmware_hash: 0,
                hash_type: 0,
                hash_valid: false,
            },
            _ => refused,
        }
    }

    /// Carries a request out; `None`: the answer comes later, or never.
    fn act(&mut self, number: u8, message: Message) -> Option<Message> {
        match message {
            Message::LlInit { measurement_type, high_voltage } => {
                Some(Message::LlInitAck { result: self.ll_init(measurement_type, high_voltage) })
            }
            Message::LlChannelConfig { execute, channel, connector, pattern } => {
                self.ll_channel_config(number, execute, (channel, connector), pattern)
            }
            Message::LlStop => Some(Message::LlStopAck { result: self.ll_stop() }),
            Message::MlInit { stop_all_channels_on_error } => {
                Some(Message::MlInitAck { result: self.ml_init(stop_all_channels_on_error) })
            }
            Message::MlUpdate { channels } => Some(Message::MlUpdateAck { result: self.ml_update(channels) }),
            Message::MlStop => Some(Message::MlStopAck { result: self.ml_stop() }),
            Message::MlGetCurrentData { selection } => Some(self.current_data(selection)),
            Message::GetVersionMain => Some(Message::GetVersionMainAck {
                result: 0,
                firmware: [1, 2, 0],
                sciencemode: [self.dialect.major(), 2, 4],
            }),
            Message::GetDeviceId => Some(Message::GetDeviceIdAck { result: 0, device_id: self.device_id }),
            Message::GetBatteryStatus => Some(Message::GetBatteryStatusAck {
                result: 0,
                level_percent: self.battery_percent,
                voltage_mv: u16::from(self.battery_percent).saturating_mul(10).saturating_add(3100),
            }),
            Message::Reset => {
                self.restart();
                self.behaviour.reset_acknowledged.then_some(Message::ResetAck { result: 0 })
            }
            Message::GetStimStatus => Some(Message::GetStimStatusAck {
                result: 0,
                stim_status: self.status.wire(),
                high_voltage: self.high_voltage,
            }),
            Message::GetExtendedVersion => Some(Message::GetExtendedVersionAck {
                result: 0,
                firmware: [1, 2, 0],
                sciencemode: [self.dialect.major(), 0, 0],
                firmware_hash: 0x5EED_5EED,
                hash_type: 1,
                hash_valid: true,
            }),
            Message::LlInitAck { .. }
            | Message::LlChannelConfigAck { .. }
            | Message::LlStopAck { .. }
            | Message::MlInitAck { .. }
            | Message::MlUpdateAck { .. }
            | Message::MlStopAck { .. }
            | Message::MlGetCurrentDataAck { .. }
            | Message::GetVersionMainAck { .. }
            | Message::GetDeviceIdAck { .. }
            | Message::GetBatteryStatusAck { .. }
            | Message::ResetAck { .. }
            | Message::GetStimStatusAck { .. }
            | Message::GeneralError { .. }
            | Message::UnknownCommand { .. }
            | Message::GetExtendedVersionAck { .. }
            | Message::Refused { .. } => Some(Message::UnknownCommand { result: UNKNOWN }),
        }
    }

    fn ll_init(&mut self, measurement_type: u8, high_voltage: u8) -> u8 {
        let result = match self.status {
            Status::Nothing => 0,
            Status::LowLevel => self.behaviour.ll_init_again,
            Status::MidLevel | Status::Running => WRONG_LEVEL,
        };
        if result == 0 {
            self.status = Status::LowLevel;
            self.measurement_type = measurement_type;
            self.high_voltage = if high_voltage == 0 { 6 } else { high_voltage };
        }
        result
    }

    fn ll_channel_config(
        &mut self,
        number: u8,
        execute: bool,
        (channel, connector): (u8, u8),
        pattern: Pattern,
    ) -> Option<Message> {
        let refuse = |unit: &Self, result| Some(unit.pulse_ack(result, channel, connector, None));
        if self.status != Status::LowLevel {
            return refuse(self, WRONG_LEVEL);
        }
        if self.high_voltage == 1 {
            return refuse(self, HIGH_VOLTAGE_ERROR);
        }
        if self.pulses.len() >= BUFFERED_MAX {
            return refuse(self, BUSY);
        }
        let Pattern::Points(points) = pattern else {
            return refuse(self, 0);
        };
        if !execute {
            return refuse(self, 0);
        }
        let start = self.pulses.back().map_or(self.now, |last| last.end.max(self.now));
        let span = points.iter().map(executed_us).sum();
        let end = start.saturating_add(Duration::from_micros(span));
        self.pulses.push_back(Pulse { number, channel, connector, points, start, end, result: None });
        None
    }

    fn ll_stop(&mut self) -> u8 {
        match self.status {
            Status::Nothing => self.behaviour.ll_stop_idle,
            Status::LowLevel => {
                self.pulses.clear();
                self.status = Status::Nothing;
                self.high_voltage = 1;
                0
            }
            Status::MidLevel | Status::Running => WRONG_LEVEL,
        }
    }

    fn ml_init(&mut self, stop_all: bool) -> u8 {
        let result = match self.status {
            Status::Nothing => 0,
            Status::LowLevel => WRONG_LEVEL,
            Status::MidLevel | Status::Running => self.behaviour.ml_init_again,
        };
        if result == 0 {
            self.stop_trains();
            for channel in &mut self.channels {
                channel.state = ChannelState::Ok;
            }
            self.status = Status::MidLevel;
            self.stop_all = stop_all;
            self.high_voltage = 6;
        }
        result
    }

    fn ml_update(&mut self, patterns: Vec<ChannelPattern>) -> u8 {
        if !matches!(self.status, Status::MidLevel | Status::Running) {
            return WRONG_LEVEL;
        }
        if codec::load(&patterns) > codec::LOAD_MAX {
            return PARAMETER_ERROR;
        }
        let mut listed: Vec<Option<ChannelPattern>> = vec![None; self.channels.len()];
        for pattern in patterns {
            if let Some(slot) = listed.get_mut(usize::from(pattern.channel)) {
                *slot = Some(pattern);
            }
        }
        for (channel, pattern) in self.channels.iter_mut().zip(listed) {
            channel.state = ChannelState::Ok;
            let before = channel.train.take();
            channel.train = pattern.map(|pattern| train(pattern, before, self.now, self.behaviour.ramps));
        }
        let any = self.channels.iter().any(|channel| channel.train.is_some());
        self.status =
            if any || self.behaviour.empty_update_runs { Status::Running } else { Status::MidLevel };
        self.high_voltage = 6;
        self.kept_alive = self.now;
        0
    }

    fn ml_stop(&mut self) -> u8 {
        match self.status {
            Status::Nothing => self.behaviour.ml_stop_idle,
            Status::LowLevel => self.behaviour.ml_stop_in_low_level,
            Status::MidLevel | Status::Running => {
                self.stop_trains();
                self.status = Status::Nothing;
                self.high_voltage = 1;
                0
            }
        }
    }

    fn current_data(&mut self, selection: u8) -> Message {
        if !matches!(self.status, Status::MidLevel | Status::Running) {
            return if self.behaviour.refusals_padded {
                Message::MlGetCurrentDataAck { result: WRONG_LEVEL, data: nothing(selection) }
            } else {
                Message::Refused { command: 37, result: WRONG_LEVEL }
            };
        }
        self.kept_alive = self.now;
        let mut active = [false; 8];
        let mut states = [ChannelState::Ok; 8];
        for ((active, state), channel) in active.iter_mut().zip(&mut states).zip(&self.channels) {
            (*active, *state) = (channel.train.is_some(), channel.state);
        }
        let worst = states.iter().map(|state| state.result()).find(|result| *result != 0).unwrap_or(0);
        let electrode = states.map(|state| state == ChannelState::ElectrodeError);
        let result = match worst {
            0 => 0,
            // Selections 2 and 3 have a bit for electrode errors only.
            PULSE_TIMEOUT | PULSE_LOW_CURRENT if selection != 4 => worst,
            _ => self.behaviour.poll_result_on_error,
        };
        let ([a0, a1, a2, a3, high_active @ ..], [e0, e1, e2, e3, ..]) = (active, electrode);
        let low_running = a0 || a1 || a2 || a3;
        let data = match selection {
            2 => CurrentData::Group { running: low_running, errors: [e0, e1, e2, e3] },
            3 => {
                CurrentData::Groups { running: [low_running, high_active.contains(&true)], errors: electrode }
            }
            _ => CurrentData::Channels { active, states: states.map(ChannelState::wire) },
        };
        if self.behaviour.errors_cleared_by_poll {
            for channel in &mut self.channels {
                channel.state = ChannelState::Ok;
            }
        }
        Message::MlGetCurrentDataAck { result, data }
    }

    fn answer(&mut self, number: u8, message: &Message, switches: bool, out: &mut Vec<SimOutput>) {
        let Ok(mut bytes) = codec::encode(number, message, self.dialect) else {
            return;
        };
        let (shortest, longest) = self.behaviour.latency;
        let spread = crate::units::duration_micros(longest.saturating_sub(shortest)).saturating_add(1);
        let latency = if switches {
            self.behaviour.switching
        } else {
            shortest.saturating_add(Duration::from_micros(self.seeded.below(spread)))
        };
        let due = self.now.saturating_add(latency).saturating_add(self.faults.delay).max(self.answered);
        self.answered = due;
        if spend(&mut self.faults.drop_replies) {
            return;
        }
        if spend(&mut self.faults.corrupt_replies) {
            let length = u64::try_from(bytes.len()).unwrap_or(1);
            let at = usize::try_from(self.seeded.below(length)).unwrap_or(0);
            let flip = u8::try_from(self.seeded.below(255)).unwrap_or(0).saturating_add(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= flip;
            }
        }
        let send = SimOutput::Send { endpoint: Endpoint::Serial, bytes, delay: due.since(self.now) };
        if spend(&mut self.faults.duplicate_replies) {
            out.push(send.clone());
        }
        out.push(send);
    }

    fn suffer(&mut self, event: SimEvent) {
        match event {
            SimEvent::LeadOff(channel, off) => {
                if let Some(channel) = self.channels.get_mut(usize::from(channel)) {
                    channel.lead_off = off;
                }
            }
            SimEvent::Wedged(wedged) => self.faults.wedged = wedged,
            SimEvent::Reboot => {
                self.restart();
                self.faults.wedged = false;
                self.silent_until = self.now.saturating_add(self.behaviour.boot);
            }
            // A stimulator of this family has no such keys.
            SimEvent::ButtonStart | SimEvent::ButtonStop | SimEvent::ButtonSpeed(_) | SimEvent::Force(_) => {}
            SimEvent::DropReplies(count) => self.faults.drop_replies = count,
            SimEvent::DelayReplies(delay) => self.faults.delay = delay,
            SimEvent::CorruptReplies(count) => self.faults.corrupt_replies = count,
            SimEvent::DuplicateReplies(count) => self.faults.duplicate_replies = count,
            SimEvent::DropRequests(count) => self.faults.drop_requests = count,
            SimEvent::Battery(percent) => self.battery_percent = percent.min(100),
        }
    }
}

/// Whether a command is a request that units of the dialect know.
const fn answered_by(command: u16, dialect: Dialect) -> bool {
    matches!(command, 0 | 2 | 4 | 30 | 32 | 34 | 36 | 50 | 52 | 54 | 58 | 62)
        || (command == 68 && matches!(dialect, Dialect::Sm4))
}

const fn nothing(selection: u8) -> CurrentData {
    match selection {
        2 => CurrentData::Group { running: false, errors: [false; 4] },
        3 => CurrentData::Groups { running: [false; 2], errors: [false; 8] },
        _ => CurrentData::Channels { active: [false; 8], states: [0; 8] },
    }
}

/// Starts a pattern, or lets it take over the phase of the one before when the period is the same.
fn train(pattern: ChannelPattern, before: Option<Train>, now: Mono, ramps: bool) -> Train {
    let period_us = u64::from(pattern.period.micros());
    match before {
        // Only a channel that was off executes its ramp.
        Some(running) => Train {
            next: if running.period_us == period_us { running.next } else { now },
            given: running.given,
            ramp: 0,
            period_us,
            pattern,
        },
        None => {
            let ramp = if ramps { u64::from(pattern.ramp) } else { 0 };
            Train { next: now, given: 0, ramp, period_us, pattern }
        }
    }
}

/// Gives one low-level pulse at once and returns its result.
fn give(channel: &mut Channel, points: &[Point], volts: u32, behaviour: &StimulatorBehaviour) -> u8 {
    let amplitude = peak_microamps(points);
    let failure = channel.failure(amplitude, volts, behaviour);
    if failure == ChannelState::Ok && !channel.lead_off {
        let span: u64 = points.iter().map(executed_us).sum();
        channel.truth.on_us = channel.truth.on_us.saturating_add(span);
        channel.truth.pulses = channel.truth.pulses.saturating_add(1);
        channel.truth.charge_pc = channel.truth.charge_pc.saturating_add(charge_picocoulombs(points));
        channel.truth.highest = channel.truth.highest.max(amplitude);
    }
    failure.result()
}

impl SimDevice for Stimulator {
    fn advance(&mut self, now: Mono, input: SimInput<'_>, out: &mut Vec<SimOutput>) {
        self.integrate(now.max(self.now));
        self.run_pulses(out);
        match input {
            SimInput::Tick | SimInput::Connected => {}
            SimInput::Disconnected => {
                if self.behaviour.close_resets {
                    self.restart();
                }
            }
            SimInput::Received { endpoint: Endpoint::Serial, bytes } => {
                for found in self.splitter.push(bytes) {
                    self.hear(found, out);
                }
            }
            SimInput::Received { endpoint: Endpoint::Characteristic(_), .. } => {}
            SimInput::Event(event) => self.suffer(event),
        }
    }

    fn deadline(&self) -> Option<Mono> {
        // A pulse counts once its first instant is over, hence one microsecond more than its beginning.
        let begins = self.pulses.iter().filter(|pulse| pulse.result.is_none());
        let after = |at: Mono| at.saturating_add(Duration::from_micros(1));
        [
            self.expiry(),
            self.first_failure().map(|(at, _, _)| after(at)),
            begins.map(|pulse| after(pulse.start)).min(),
            self.pulses.front().map(|pulse| pulse.end.max(after(pulse.start))),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn truth(&self) -> Vec<Delivered> {
        self.channels
            .iter()
            .map(|channel| Delivered { present: channel.present(), ..channel.truth })
            .collect()
    }
}

#[cfg(test)]
mod tests;
