//! Every message of ScienceMode 3 and 4, both directions: bytes to meaning and back.
//!
//! Invariants:
//! - [`encode`] refuses what the wire cannot say exactly; it never rounds;
//! - [`decode`] reads what a sound packet says, and refuses values that the format does not know; it never panics;
//! - numbers of the bootloader and service ranges (120 and up) have no message, so none can be sent.
//!
//! # Sources
//! ScienceMode RehaMove3 3.2.4 and the P24 instructions for use 1.1 (Documented); the manufacturer's ScienceMode 4
//! library where the documents are silent (Documented in code).

use crate::driver::frame::{self, Frame};

/// Largest current that a unit delivers, half milliamps (130 mA).
pub const HALF_MILLIAMPS_MAX: i16 = 260;
/// Largest load of all channels together, in the library's own measure; a unit refuses more.
pub const LOAD_MAX: u64 = 999;
/// Largest result that the format knows.
const RESULT_MAX: u8 = 28;
/// Samples in a measured trace.
pub const SAMPLES: usize = 128;

/// Which generation of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// ScienceMode 3: RehaMove3, 4 channels.
    Sm3,
    /// ScienceMode 4: P24, 8 channels.
    Sm4,
}

impl Dialect {
    /// Returns the number of outputs.
    pub const fn channels(self) -> u8 {
        match self {
            Self::Sm3 => 4,
            Self::Sm4 => 8,
        }
    }

    /// Returns the selection of Ml_get_current_data that says most: 2, or per channel 4.
    pub const fn selection(self) -> u8 {
        match self {
            Self::Sm3 => 2,
            Self::Sm4 => 4,
        }
    }

    /// Returns the major ScienceMode version that a unit of this dialect names.
    pub const fn major(self) -> u8 {
        match self {
            Self::Sm3 => 3,
            Self::Sm4 => 4,
        }
    }
}

/// One piece of a pulse at constant current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// µs, 0–4095; 1–9 are executed as 10.
    pub duration_us: u16,
    /// Half milliamps, −300–300 on the wire; units deliver −260–260.
    pub half_milliamps: i16,
}

/// Time from pulse to pulse as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Multiples of 0.5 ms, or of 0.25 ms when `fine`; 1–32767.
    pub code: u16,
    /// Quarter milliseconds (Sm4 only).
    pub fine: bool,
}

impl Period {
    /// Returns the period of exactly `micros` µs, or `None` when the dialect cannot write it.
    pub fn from_micros(micros: u32, dialect: Dialect) -> Option<Self> {
        let period = if micros.is_multiple_of(500) {
            Self { code: u16::try_from(micros / 500).ok()?, fine: false }
        } else if micros.is_multiple_of(250) {
            Self { code: u16::try_from(micros / 250).ok()?, fine: true }
        } else {
            return None;
        };
        period.check(dialect).ok().map(|()| period)
    }

    /// Returns the period in µs.
    pub fn micros(self) -> u32 {
        u32::from(self.code).saturating_mul(if self.fine { 250 } else { 500 })
    }

    const fn check(self, dialect: Dialect) -> Result<(), &'static str> {
        let code_max = if self.fine { 32_767 } else { 32_766 };
        if self.fine && matches!(dialect, Dialect::Sm3) {
            return Err("quarter milliseconds are not in ScienceMode 3");
        }
        if self.code == 0 || self.code > code_max {
            return Err("the period must be 0.25 to 16383 ms");
        }
        Ok(())
    }
}

/// One channel's part of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelPattern {
    /// From 0.
    pub channel: u8,
    /// Pulses with rising current after the channel was enabled, 0–15.
    pub ramp: u8,
    /// Time from pulse to pulse.
    pub period: Period,
    /// The pulse, 1–16 points.
    pub points: Vec<Point>,
}

/// Returns the load of an update in the library's measure, rounded up: Σ (pulse in µs + 60) / period in ms.
pub fn load(channels: &[ChannelPattern]) -> u64 {
    const SCALE: u64 = 1_000_000;
    let sum = channels.iter().fold(0u64, |sum, channel| {
        let pulse: u64 = channel.points.iter().map(|point| u64::from(point.duration_us)).sum();
        let micros = u64::from(channel.period.micros()).max(1);
        let term = pulse.saturating_add(60).saturating_mul(1000 * SCALE).div_ceil(micros);
        sum.saturating_add(term)
    });
    sum.div_ceil(SCALE)
}

/// Returns the net charge of a pulse, half-milliamp microseconds; 0 is balanced.
pub fn imbalance(points: &[Point]) -> i64 {
    points
        .iter()
        .map(|point| i64::from(point.half_milliamps).saturating_mul(i64::from(point.duration_us)))
        .sum()
}

/// The points of a low-level pulse, or only their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// 1–16 points.
    Points(Vec<Point>),
    /// So many points are announced and none is sent; only where nothing is executed.
    Announced(u8),
}

impl Pattern {
    fn count(&self) -> usize {
        match self {
            Self::Points(points) => points.len(),
            Self::Announced(count) => usize::from(*count),
        }
    }
}

/// What a low-level pulse's acknowledge says besides its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PulseAck {
    /// ScienceMode 3.
    Sm3 {
        /// Meaningful with result 10 only.
        electrode_error_channel: u8,
    },
    /// ScienceMode 4.
    Sm4 {
        /// 0–3.
        channel: u8,
        /// 0 yellow, 1 green.
        connector: u8,
        /// What was measured, when it was asked for.
        trace: Option<Trace>,
    },
}

/// A measured pulse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// 1 stimulation current, 2 stimulation voltage, 3 high-voltage source.
    pub measurement_type: u8,
    /// µs from sample to sample.
    pub sampling_time_us: u16,
    /// Hundredths of mA or V, without sign; [`SAMPLES`] of them.
    pub samples: Vec<u16>,
}

/// What Ml_get_current_data says, by selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurrentData {
    /// Selection 2: channels 1–4.
    Group {
        /// Any channel stimulates.
        running: bool,
        /// Electrode error by channel.
        errors: [bool; 4],
    },
    /// Selection 3: channels 1–4 and 5–8.
    Groups {
        /// Any channel of the group stimulates.
        running: [bool; 2],
        /// Electrode error by channel.
        errors: [bool; 8],
    },
    /// Selection 4: by channel.
    Channels {
        /// Stimulating.
        active: [bool; 8],
        /// 0 ok, 1 electrode error, 2 pulse time-out, 3 pulse current too low.
        states: [u8; 8],
    },
}

impl CurrentData {
    /// Returns the selection that asked for it.
    pub const fn selection(self) -> u8 {
        match self {
            Self::Group { .. } => 2,
            Self::Groups { .. } => 3,
            Self::Channels { .. } => 4,
        }
    }
}

/// A version as units write it: major, minor, revision.
pub type Version = [u8; 3];

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// 0: switches the high voltage on, the host times every pulse.
    LlInit {
        /// Sm4: 0 none, 1 current, 2 voltage, 3 source. Sm3: 0.
        measurement_type: u8,
        /// 0 standard, 1 off; Sm3 also 2–6 for 30–150 V.
        high_voltage: u8,
    },
    /// 1.
    LlInitAck {
        /// 0 is done.
        result: u8,
    },
    /// 2: one pulse.
    LlChannelConfig {
        /// Give it.
        execute: bool,
        /// 0 red, 1 blue, 2 black, 3 white.
        channel: u8,
        /// 0 yellow, 1 green (Sm4).
        connector: u8,
        /// The pulse.
        pattern: Pattern,
    },
    /// 3.
    LlChannelConfigAck {
        /// 0 is done.
        result: u8,
        /// Of which channel.
        pulse: PulseAck,
    },
    /// 4.
    LlStop,
    /// 5.
    LlStopAck {
        /// 0 is done.
        result: u8,
    },
    /// 30: switches the high voltage on, the unit repeats patterns.
    MlInit {
        /// Any error stops all channels (Sm4; reserved in Sm3).
        stop_all_channels_on_error: bool,
    },
    /// 31.
    MlInitAck {
        /// 0 is done.
        result: u8,
    },
    /// 32: starts or replaces everything; a channel that is not listed is off.
    MlUpdate {
        /// In ascending order.
        channels: Vec<ChannelPattern>,
    },
    /// 33.
    MlUpdateAck {
        /// 0 is done.
        result: u8,
    },
    /// 34: all channels and the high voltage off.
    MlStop,
    /// 35.
    MlStopAck {
        /// 0 is done.
        result: u8,
    },
    /// 36: the keep-alive.
    MlGetCurrentData {
        /// Sm3: 2. Sm4: 2, 3 or 4.
        selection: u8,
    },
    /// 37.
    MlGetCurrentDataAck {
        /// 0 is done.
        result: u8,
        /// What it says.
        data: CurrentData,
    },
    /// 50.
    GetVersionMain,
    /// 51.
    GetVersionMainAck {
        /// 0 is done.
        result: u8,
        /// Of the unit.
        firmware: Version,
        /// Of the wire format.
        sciencemode: Version,
    },
    /// 52.
    GetDeviceId,
    /// 53.
    GetDeviceIdAck {
        /// 0 is done.
        result: u8,
        /// ASCII, may be zero padded.
        device_id: [u8; 10],
    },
    /// 54.
    GetBatteryStatus,
    /// 55.
    GetBatteryStatusAck {
        /// 0 is done.
        result: u8,
        /// Percent, 0–100.
        level_percent: u8,
        /// Millivolts.
        voltage_mv: u16,
    },
    /// 58.
    Reset,
    /// 59: may never come.
    ResetAck {
        /// 0 is done.
        result: u8,
    },
    /// 62: keeps nothing alive.
    GetStimStatus,
    /// 63.
    GetStimStatusAck {
        /// 0 is done.
        result: u8,
        /// 0 nothing initialised, 1 low level, 2 mid level, 3 mid level running.
        stim_status: u8,
        /// 1 off, 2–6 for 30–150 V.
        high_voltage: u8,
    },
    /// 66: the unit could not read a request.
    GeneralError {
        /// Why.
        result: u8,
    },
    /// 67: the unit does not know a request.
    UnknownCommand {
        /// 11.
        result: u8,
    },
    /// 68 (Sm4).
    GetExtendedVersion,
    /// 69 (Sm4).
    GetExtendedVersionAck {
        /// 0 is done.
        result: u8,
        /// Of the unit.
        firmware: Version,
        /// Of the wire format.
        sciencemode: Version,
        /// Of the firmware.
        firmware_hash: u32,
        /// 0 none, 1 git, 2 md5, 3 sha256.
        hash_type: u8,
        /// Whether the hash counts.
        hash_valid: bool,
    },
    /// An acknowledge that says more than a result when all is well, cut after a result that is not 0.
    Refused {
        /// Its command number.
        command: u16,
        /// Not 0.
        result: u8,
    },
}

impl Message {
    /// Returns the command number.
    pub const fn command(&self) -> u16 {
        match self {
            Self::LlInit { .. } => 0,
            Self::LlInitAck { .. } => 1,
            Self::LlChannelConfig { .. } => 2,
            Self::LlChannelConfigAck { .. } => 3,
            Self::LlStop => 4,
            Self::LlStopAck { .. } => 5,
            Self::MlInit { .. } => 30,
            Self::MlInitAck { .. } => 31,
            Self::MlUpdate { .. } => 32,
            Self::MlUpdateAck { .. } => 33,
            Self::MlStop => 34,
            Self::MlStopAck { .. } => 35,
            Self::MlGetCurrentData { .. } => 36,
            Self::MlGetCurrentDataAck { .. } => 37,
            Self::GetVersionMain => 50,
            Self::GetVersionMainAck { .. } => 51,
            Self::GetDeviceId => 52,
            Self::GetDeviceIdAck { .. } => 53,
            Self::GetBatteryStatus => 54,
            Self::GetBatteryStatusAck { .. } => 55,
            Self::Reset => 58,
            Self::ResetAck { .. } => 59,
            Self::GetStimStatus => 62,
            Self::GetStimStatusAck { .. } => 63,
            Self::GeneralError { .. } => 66,
            Self::UnknownCommand { .. } => 67,
            Self::GetExtendedVersion => 68,
            Self::GetExtendedVersionAck { .. } => 69,
            Self::Refused { command, .. } => *command,
        }
    }

    /// Returns the result when it is an answer of a unit.
    pub const fn result(&self) -> Option<u8> {
        match self {
            Self::LlInitAck { result }
            | Self::LlChannelConfigAck { result, .. }
            | Self::LlStopAck { result }
            | Self::MlInitAck { result }
            | Self::MlUpdateAck { result }
            | Self::MlStopAck { result }
            | Self::MlGetCurrentDataAck { result, .. }
            | Self::GetVersionMainAck { result, .. }
            | Self::GetDeviceIdAck { result, .. }
            | Self::GetBatteryStatusAck { result, .. }
            | Self::ResetAck { result }
            | Self::GetStimStatusAck { result, .. }
            | Self::GeneralError { result }
            | Self::UnknownCommand { result }
            | Self::GetExtendedVersionAck { result, .. }
            | Self::Refused { result, .. } => Some(*result),
            Self::LlInit { .. }
            | Self::LlChannelConfig { .. }
            | Self::LlStop
            | Self::MlInit { .. }
            | Self::MlUpdate { .. }
            | Self::MlStop
            | Self::MlGetCurrentData { .. }
            | Self::GetVersionMain
            | Self::GetDeviceId
            | Self::GetBatteryStatus
            | Self::Reset
            | Self::GetStimStatus
            | Self::GetExtendedVersion => None,
        }
    }

    /// Checks every value against what units of the dialect take.
    ///
    /// # Errors
    /// Says in words what is out of range.
    pub fn check(&self, dialect: Dialect) -> Result<(), &'static str> {
        if self.result().is_some_and(|result| result > RESULT_MAX) {
            return Err("the result must be 0 to 28");
        }
        match self {
            Self::LlInit { measurement_type, high_voltage } => {
                check_ll_init(*measurement_type, *high_voltage, dialect)
            }
            Self::LlChannelConfig { execute, channel, connector, pattern } => {
                check_pulse(*execute, *channel, *connector, pattern, dialect)
            }
            Self::LlChannelConfigAck { pulse, .. } => check_pulse_ack(pulse, dialect),
            Self::MlInit { stop_all_channels_on_error: true } if dialect == Dialect::Sm3 => {
                Err("stopping all channels on an error is not in ScienceMode 3")
            }
            Self::MlUpdate { channels } => check_update(channels, dialect),
            Self::MlGetCurrentData { selection } => check_selection(*selection, dialect),
            Self::MlGetCurrentDataAck { data, .. } => check_selection(data.selection(), dialect),
            Self::GetBatteryStatusAck { level_percent: 101.., .. } => Err("the level must be 0 to 100 %"),
            Self::GetExtendedVersion | Self::GetExtendedVersionAck { .. } if dialect == Dialect::Sm3 => {
                Err("the extended version is not in ScienceMode 3")
            }
            Self::Refused { result: 0, .. } => Err("a cut acknowledge must carry a result that is not 0"),
            Self::MlInit { .. }
            | Self::LlInitAck { .. }
            | Self::LlStop
            | Self::LlStopAck { .. }
            | Self::MlInitAck { .. }
            | Self::MlUpdateAck { .. }
            | Self::MlStop
            | Self::MlStopAck { .. }
            | Self::GetVersionMain
            | Self::GetVersionMainAck { .. }
            | Self::GetDeviceId
            | Self::GetDeviceIdAck { .. }
            | Self::GetBatteryStatus
            | Self::GetBatteryStatusAck { .. }
            | Self::Reset
            | Self::ResetAck { .. }
            | Self::GetStimStatus
            | Self::GetStimStatusAck { .. }
            | Self::GeneralError { .. }
            | Self::UnknownCommand { .. }
            | Self::GetExtendedVersion
            | Self::GetExtendedVersionAck { .. }
            | Self::Refused { .. } => Ok(()),
        }
    }
}

fn check_ll_init(measurement_type: u8, high_voltage: u8, dialect: Dialect) -> Result<(), &'static str> {
    let (measurement_max, voltage_max) = match dialect {
        Dialect::Sm3 => (0, 6),
        Dialect::Sm4 => (3, 1),
    };
    if measurement_type > measurement_max {
        return Err("the measurement type is not in this dialect");
    }
    if high_voltage > voltage_max {
        return Err("the high voltage is not in this dialect");
    }
    Ok(())
}

fn check_pulse(
    execute: bool,
    channel: u8,
    connector: u8,
    pattern: &Pattern,
    dialect: Dialect,
) -> Result<(), &'static str> {
    let connector_max = match dialect {
        Dialect::Sm3 => 0,
        Dialect::Sm4 => 1,
    };
    if channel > 3 || connector > connector_max {
        return Err("the channel is not in this dialect");
    }
    match pattern {
        Pattern::Points(points) => check_points(points),
        Pattern::Announced(_) if execute => Err("a pulse that is executed needs its points"),
        Pattern::Announced(1..=16) => Ok(()),
        Pattern::Announced(_) => Err("a pulse has 1 to 16 points"),
    }
}

const fn check_pulse_ack(pulse: &PulseAck, dialect: Dialect) -> Result<(), &'static str> {
    match (pulse, dialect) {
        (PulseAck::Sm3 { .. }, Dialect::Sm3) => Ok(()),
        (PulseAck::Sm4 { channel: 0..=15, connector: 0..=15, trace: None }, Dialect::Sm4) => Ok(()),
        (PulseAck::Sm4 { channel: 0..=15, connector: 0..=15, trace: Some(trace) }, Dialect::Sm4) => {
            if trace.samples.len() == SAMPLES && trace.measurement_type != 0 {
                Ok(())
            } else {
                Err("a trace has a type that is not 0 and 128 samples")
            }
        }
        (PulseAck::Sm3 { .. } | PulseAck::Sm4 { .. }, Dialect::Sm3 | Dialect::Sm4) => {
            Err("the acknowledge of a pulse is another one in this dialect")
        }
    }
}

fn check_update(channels: &[ChannelPattern], dialect: Dialect) -> Result<(), &'static str> {
    let mut next = 0;
    for pattern in channels {
        if pattern.channel < next {
            return Err("channels must be listed once and in ascending order");
        }
        if pattern.channel >= dialect.channels() {
            return Err("the channel is not in this dialect");
        }
        next = pattern.channel.saturating_add(1);
        if pattern.ramp > 15 {
            return Err("the ramp must be 0 to 15");
        }
        pattern.period.check(dialect)?;
        check_points(&pattern.points)?;
    }
    Ok(())
}

fn check_points(points: &[Point]) -> Result<(), &'static str> {
    if points.is_empty() || points.len() > 16 {
        return Err("a pulse has 1 to 16 points");
    }
    for point in points {
        if point.duration_us > 0xFFF {
            return Err("the duration of a point must be 0 to 4095 us");
        }
        if !(-HALF_MILLIAMPS_MAX..=HALF_MILLIAMPS_MAX).contains(&point.half_milliamps) {
            return Err("the current must be -130 to 130 mA");
        }
    }
    Ok(())
}

const fn check_selection(selection: u8, dialect: Dialect) -> Result<(), &'static str> {
    match (dialect, selection) {
        (Dialect::Sm3 | Dialect::Sm4, 2) | (Dialect::Sm4, 3 | 4) => Ok(()),
        (Dialect::Sm3 | Dialect::Sm4, _) => Err("the selection is not in this dialect"),
    }
}

/// Why a message cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A value that the wire or the unit does not take.
    #[error("{0}")]
    OutOfRange(&'static str),
    /// The packet number is above 63, or the packet would be longer than 1200 bytes.
    #[error("the packet number or the length is out of range")]
    Unpackable,
}

/// Why a sound packet means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No message of the dialect has this number.
    #[error("command {0} is unknown")]
    UnknownCommand(u16),
    /// Fewer data than the command has.
    #[error("too few data")]
    TooFew,
    /// More data than the command has.
    #[error("too many data")]
    TooMany,
    /// A value that the format does not know.
    #[error("{0}")]
    OutOfRange(&'static str),
}

/// Returns the packet of a message, as it goes on the wire.
///
/// # Errors
/// The message holds a value that the dialect does not take, or the packet number is above 63.
pub fn encode(packet_number: u8, message: &Message, dialect: Dialect) -> Result<Vec<u8>, EncodeError> {
    message.check(dialect).map_err(EncodeError::OutOfRange)?;
    let mut data = Vec::new();
    write_data(message, &mut data);
    frame::pack(packet_number, message.command(), &data).ok_or(EncodeError::Unpackable)
}

fn write_data(message: &Message, data: &mut Vec<u8>) {
    match message {
        Message::LlStop
        | Message::MlStop
        | Message::GetVersionMain
        | Message::GetDeviceId
        | Message::GetBatteryStatus
        | Message::Reset
        | Message::GetStimStatus
        | Message::GetExtendedVersion => {}
        Message::LlInit { measurement_type, high_voltage } => {
            data.push((measurement_type << 4) | (high_voltage << 1));
        }
        Message::LlChannelConfig { execute, channel, connector, pattern } => {
            let count = u8::try_from(pattern.count().saturating_sub(1)).unwrap_or(0);
            data.push((u8::from(*execute) << 7) | (channel << 5) | (connector << 4) | count);
            if let Pattern::Points(points) = pattern {
                write_points(points, data);
            }
        }
        Message::MlInit { stop_all_channels_on_error } => data.push(u8::from(*stop_all_channels_on_error)),
        Message::MlUpdate { channels } => write_update(channels, data),
        Message::MlGetCurrentData { selection } => data.push(*selection),
        Message::LlInitAck { result }
        | Message::LlStopAck { result }
        | Message::MlInitAck { result }
        | Message::MlUpdateAck { result }
        | Message::MlStopAck { result }
        | Message::ResetAck { result }
        | Message::GeneralError { result }
        | Message::UnknownCommand { result }
        | Message::Refused { result, .. } => data.push(*result),
        Message::LlChannelConfigAck { result, pulse } => {
            data.push(*result);
            write_pulse_ack(pulse, data);
        }
        Message::MlGetCurrentDataAck { result, data: current } => {
            data.extend([*result, current.selection()]);
            write_current(current, data);
        }
        Message::GetVersionMainAck { result, firmware, sciencemode } => {
            data.push(*result);
            data.extend(firmware.iter().chain(sciencemode));
        }
        Message::GetDeviceIdAck { result, device_id } => {
            data.push(*result);
            data.extend(device_id);
        }
        Message::GetBatteryStatusAck { result, level_percent, voltage_mv } => {
            data.extend([*result, *level_percent]);
            data.extend(voltage_mv.to_be_bytes());
        }
        Message::GetStimStatusAck { result, stim_status, high_voltage } => {
            data.extend([*result, *stim_status, *high_voltage]);
        }
        Message::GetExtendedVersionAck {
            result,
            firmware,
            sciencemode,
            firmware_hash,
            hash_type,
            hash_valid,
        } => {
            data.push(*result);
            data.extend(firmware.iter().chain(sciencemode));
            data.extend(firmware_hash.to_be_bytes());
            data.extend([*hash_type, u8::from(*hash_valid)]);
        }
    }
}

fn write_points(points: &[Point], data: &mut Vec<u8>) {
    for point in points {
        let code = u32::try_from(i32::from(point.half_milliamps).saturating_add(300)).unwrap_or(300);
        let word = (u32::from(point.duration_us) << 20) | (code << 10);
        data.extend(word.to_be_bytes());
    }
}

fn write_update(channels: &[ChannelPattern], data: &mut Vec<u8>) {
    data.push(channels.iter().fold(0, |mask, pattern| mask | (1u8 << (pattern.channel & 7))));
    for pattern in channels {
        let count = u8::try_from(pattern.points.len().saturating_sub(1)).unwrap_or(0);
        data.push((count << 4) | pattern.ramp);
        data.extend(((pattern.period.code << 1) | u16::from(pattern.period.fine)).to_be_bytes());
        write_points(&pattern.points, data);
    }
}

fn write_pulse_ack(pulse: &PulseAck, data: &mut Vec<u8>) {
    match pulse {
        PulseAck::Sm3 { electrode_error_channel } => data.push(*electrode_error_channel),
        PulseAck::Sm4 { channel, connector, trace } => {
            data.push((connector << 4) | channel);
            data.push(trace.as_ref().map_or(0, |trace| trace.measurement_type));
            if let Some(trace) = trace {
                data.extend(trace.sampling_time_us.to_be_bytes());
                data.extend(trace.samples.iter().flat_map(|sample| sample.to_be_bytes()));
            }
        }
    }
}

fn write_current(current: &CurrentData, data: &mut Vec<u8>) {
    let group = |running: bool, errors: &[bool]| (u8::from(running) << 4) | to_bits(errors);
    match current {
        CurrentData::Group { running, errors } => data.push(group(*running, errors)),
        CurrentData::Groups { running: [low, high], errors } => {
            let (first, second) = errors.split_at(4);
            data.extend([group(*low, first), group(*high, second)]);
        }
        CurrentData::Channels { active, states } => {
            data.push(to_bits(active));
            data.extend(
                states
                    .chunks(2)
                    .map(|pair| pair.iter().rev().fold(0u8, |byte, state| (byte << 4) | (state & 0x0F))),
            );
        }
    }
}

fn to_bits(flags: &[bool]) -> u8 {
    flags.iter().rev().fold(0, |bits, flag| (bits << 1) | u8::from(*flag))
}

fn from_bits<const N: usize>(bits: u8) -> [bool; N] {
    std::array::from_fn(|at| u32::try_from(at).is_ok_and(|at| bits.checked_shr(at).unwrap_or(0) & 1 == 1))
}

/// Returns what a sound packet says.
///
/// # Errors
/// The number is unknown in the dialect, data are missing or too many, or a value is one the format does not know.
pub fn decode(frame: &Frame, dialect: Dialect) -> Result<Message, DecodeError> {
    let mut data = Data(&frame.data);
    if let (Some(result @ 1..), true, true) =
        (frame.data.first(), says_more(frame.command, dialect), frame.data.len() <= cut_length(frame.command))
    {
        return checked_result(Message::Refused { command: frame.command, result: *result });
    }
    let message = match frame.command {
        0 | 2 | 4 | 30 | 32 | 34 | 36 | 50 | 52 | 54 | 58 | 62 | 68 => {
            read_request(frame.command, &mut data, dialect)?
        }
        _ => read_answer(frame.command, &mut data, dialect)?,
    };
    if !data.0.is_empty() {
        return Err(DecodeError::TooMany);
    }
    checked_result(message)
}

fn checked_result(message: Message) -> Result<Message, DecodeError> {
    if message.result().is_some_and(|result| result > RESULT_MAX) {
        return Err(DecodeError::OutOfRange("the result must be 0 to 28"));
    }
    Ok(message)
}

/// Whether an acknowledge carries more than a result.
const fn says_more(command: u16, dialect: Dialect) -> bool {
    matches!(command, 3 | 37 | 51 | 53 | 55 | 63) || (command == 69 && matches!(dialect, Dialect::Sm4))
}

/// Longest data of an acknowledge that was cut after its result (and, for 37, its selection).
const fn cut_length(command: u16) -> usize {
    if command == 37 { 2 } else { 1 }
}

struct Data<'a>(&'a [u8]);

impl Data<'_> {
    fn u8(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.0.split_first().ok_or(DecodeError::TooFew)?;
        self.0 = rest;
        Ok(*first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::TooFew)?;
        self.0 = rest;
        Ok(*first)
    }

    fn points(&mut self, count: u8) -> Result<Vec<Point>, DecodeError> {
        (0..count).map(|_| self.point()).collect()
    }

    fn point(&mut self) -> Result<Point, DecodeError> {
        let word = u32::from_be_bytes(self.array()?);
        let code = (word >> 10) & 0x3FF;
        if word & 0x3FF != 0 {
            return Err(DecodeError::OutOfRange("a point has bits set that are reserved"));
        }
        if code > 600 {
            return Err(DecodeError::OutOfRange("the current code must be 0 to 600"));
        }
        Ok(Point {
            duration_us: u16::try_from(word >> 20).unwrap_or(u16::MAX),
            half_milliamps: i16::try_from(code).unwrap_or(0).saturating_sub(300),
        })
    }
}

fn read_request(command: u16, data: &mut Data<'_>, dialect: Dialect) -> Result<Message, DecodeError> {
    Ok(match command {
        0 => read_ll_init(data.u8()?)?,
        2 => read_pulse(data)?,
        4 => Message::LlStop,
        30 => match data.u8()? {
            0 => Message::MlInit { stop_all_channels_on_error: false },
            1 => Message::MlInit { stop_all_channels_on_error: true },
            _ => return Err(DecodeError::OutOfRange("the initialisation must be 0 or 1")),
        },
        32 => read_update(data)?,
        34 => Message::MlStop,
        36 => Message::MlGetCurrentData { selection: data.u8()? },
        50 => Message::GetVersionMain,
        52 => Message::GetDeviceId,
        54 => Message::GetBatteryStatus,
        58 => Message::Reset,
        62 => Message::GetStimStatus,
        68 if dialect == Dialect::Sm4 => Message::GetExtendedVersion,
        unknown => return Err(DecodeError::UnknownCommand(unknown)),
    })
}

const fn read_ll_init(byte: u8) -> Result<Message, DecodeError> {
    if byte & 0x81 != 0 {
        return Err(DecodeError::OutOfRange("the initialisation has bits set that are reserved"));
    }
    Ok(Message::LlInit { measurement_type: byte >> 4, high_voltage: (byte >> 1) & 0x07 })
}

fn read_pulse(data: &mut Data<'_>) -> Result<Message, DecodeError> {
    let head = data.u8()?;
    let (execute, count) = (head & 0x80 != 0, (head & 0x0F).saturating_add(1));
    let pattern = if !execute && data.0.is_empty() {
        Pattern::Announced(count)
    } else {
        Pattern::Points(data.points(count)?)
    };
    Ok(Message::LlChannelConfig { execute, channel: (head >> 5) & 0x03, connector: (head >> 4) & 1, pattern })
}

fn read_update(data: &mut Data<'_>) -> Result<Message, DecodeError> {
    let mut channels = Vec::new();
    let listed: [bool; 8] = from_bits(data.u8()?);
    for (channel, _) in (0u8..).zip(listed).filter(|(_, listed)| *listed) {
        let head = data.u8()?;
        let period = u16::from_be_bytes(data.array()?);
        channels.push(ChannelPattern {
            channel,
            ramp: head & 0x0F,
            period: Period { code: period >> 1, fine: period & 1 == 1 },
            points: data.points((head >> 4).saturating_add(1))?,
        });
    }
    Ok(Message::MlUpdate { channels })
}

fn read_answer(command: u16, data: &mut Data<'_>, dialect: Dialect) -> Result<Message, DecodeError> {
    if !matches!(command, 1 | 3 | 5 | 31 | 33 | 35 | 37 | 51 | 53 | 55 | 59 | 63 | 66 | 67 | 69)
        || (command == 69 && dialect == Dialect::Sm3)
    {
        return Err(DecodeError::UnknownCommand(command));
    }
    let result = data.u8()?;
    Ok(match command {
        1 => Message::LlInitAck { result },
        3 => Message::LlChannelConfigAck { result, pulse: read_pulse_ack(data, dialect)? },
        5 => Message::LlStopAck { result },
        31 => Message::MlInitAck { result },
        33 => Message::MlUpdateAck { result },
        35 => Message::MlStopAck { result },
        37 => Message::MlGetCurrentDataAck { result, data: read_current(data, dialect)? },
        51 => Message::GetVersionMainAck { result, firmware: data.array()?, sciencemode: data.array()? },
        53 => Message::GetDeviceIdAck { result, device_id: data.array()? },
        55 => {
            let level_percent = data.u8()?;
            if level_percent > 100 {
                return Err(DecodeError::OutOfRange("the level must be 0 to 100 %"));
            }
            let voltage_mv = u16::from_be_bytes(data.array()?);
            Message::GetBatteryStatusAck { result, level_percent, voltage_mv }
        }
        59 => Message::ResetAck { result },
        63 => Message::GetStimStatusAck { result, stim_status: data.u8()?, high_voltage: data.u8()? },
        66 => Message::GeneralError { result },
        67 => Message::UnknownCommand { result },
        69 => Message::GetExtendedVersionAck {
            result,
            firmware: data.array()?,
            sciencemode: data.array()?,
            firmware_hash: u32::from_be_bytes(data.array()?),
            hash_type: data.u8()?,
            hash_valid: data.u8()? != 0,
        },
        unknown => return Err(DecodeError::UnknownCommand(unknown)),
    })
}

fn read_pulse_ack(data: &mut Data<'_>, dialect: Dialect) -> Result<PulseAck, DecodeError> {
    let where_from = data.u8()?;
    if dialect == Dialect::Sm3 {
        return Ok(PulseAck::Sm3 { electrode_error_channel: where_from });
    }
    // The P24 document counts one byte less than its own table: a missing type reads as none.
    let measurement_type = if data.0.is_empty() { 0 } else { data.u8()? };
    let trace = if measurement_type == 0 {
        None
    } else {
        let sampling_time_us = u16::from_be_bytes(data.array()?);
        let samples = (0..SAMPLES).map(|_| data.array().map(u16::from_be_bytes)).collect::<Result<_, _>>()?;
        Some(Trace { measurement_type, sampling_time_us, samples })
    };
    Ok(PulseAck::Sm4 { channel: where_from & 0x0F, connector: where_from >> 4, trace })
}

fn read_current(data: &mut Data<'_>, dialect: Dialect) -> Result<CurrentData, DecodeError> {
    let selection = data.u8()?;
    check_selection(selection, dialect).map_err(DecodeError::OutOfRange)?;
    Ok(match selection {
        2 => {
            let byte = data.u8()?;
            CurrentData::Group { running: byte & 0x10 != 0, errors: from_bits(byte) }
        }
        3 => {
            let [low, high] = data.array()?;
            CurrentData::Groups {
                running: [low & 0x10 != 0, high & 0x10 != 0],
                errors: from_bits((low & 0x0F) | (high << 4)),
            }
        }
        _ => {
            let active = from_bits(data.u8()?);
            let [a, b, c, d] = data.array()?;
            let states = [a & 15, a >> 4, b & 15, b >> 4, c & 15, c >> 4, d & 15, d >> 4];
            CurrentData::Channels { active, states }
        }
    })
}
