//! What bytes on the wire mean, read by hand from the maker's and the observers' descriptions, without any codec of ours
//! (neurostim-serial 2.2, 3.4; percussion-ble 2, 3). The oracle judges by this and by nothing that wrote the bytes.

use super::kit::Family;

/// Outputs of the largest unit.
pub(crate) const CHANNELS: usize = 8;

/// What a frame does to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Everything to zero.
    Stop,
    /// Every output is told this: µA, raw or level; what is not named is off.
    Set([u32; CHANNELS]),
    /// Keeps output alive.
    KeepAlive,
    /// Asks or initialises.
    Other,
}

/// Reads one frame as it was written.
pub(crate) fn read(family: Family, bytes: &[u8]) -> Meaning {
    match family {
        Family::P24 | Family::RehaMove3 => sciencemode(bytes),
        Family::Theragun => theragun(bytes),
        Family::Hypervolt => match bytes {
            [0] => Meaning::Stop,
            [level] => Meaning::Set(first(u32::from(*level))),
            _ => Meaning::Other,
        },
    }
}

fn first(level: u32) -> [u32; CHANNELS] {
    [level, 0, 0, 0, 0, 0, 0, 0]
}

/// `AA sum 01 03 hi lo 03`; the zero frame and its two beginnings stop.
fn theragun(bytes: &[u8]) -> Meaning {
    match bytes {
        [0xAA, _, 0x01, 0x03] | [0xAA, _, 0x01, 0x03, 0, 0, 0 | 3] => Meaning::Stop,
        [0xAA, _, 0x01, 0x03, high, low, 0x03] => {
            Meaning::Set(first(u32::from(u16::from_be_bytes([*high, *low]))))
        }
        _ => Meaning::Other,
    }
}

/// Start, escaped length and checksum (8 bytes), then number and command, then data, stuffed; stop byte.
fn sciencemode(bytes: &[u8]) -> Meaning {
    // Bytes that only end a half-written frame carry no command.
    let Some(inner) = bytes.strip_prefix(&[0xF0]).and_then(|rest| rest.strip_suffix(&[0x0F])) else {
        return Meaning::Other;
    };
    let mut plain = Plain { bytes: inner };
    for _ in 0..4 {
        plain.next();
    }
    let (Some(high), Some(low)) = (plain.next(), plain.next()) else {
        return Meaning::Other;
    };
    match u16::from_be_bytes([high, low]) & 0x3FF {
        // Ll_stop, Ml_stop.
        4 | 34 => Meaning::Stop,
        32 => update(plain),
        // Ml_get_current_data is the keep-alive.
        36 => Meaning::KeepAlive,
        _ => Meaning::Other,
    }
}

/// The bytes of a packet, unstuffed one by one.
struct Plain<'a> {
    bytes: &'a [u8],
}

impl Iterator for Plain<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        if *byte != 0x81 {
            return Some(*byte);
        }
        let (escaped, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(escaped ^ 0x55)
    }
}

/// A mask of channels; per channel: number of points and ramp, period, points of 32 bits with the current in the middle.
fn update(mut data: Plain<'_>) -> Meaning {
    let mut levels = [0; CHANNELS];
    let mask = data.next().unwrap_or(0);
    for (channel, level) in levels.iter_mut().enumerate() {
        if mask & (1 << channel) == 0 {
            continue;
        }
        let points = data.next().unwrap_or(0) >> 4;
        let _period = [data.next(), data.next()];
        for _ in 0..=points {
            let mut word = 0u32;
            for _ in 0..4 {
                word = (word << 8) | u32::from(data.next().unwrap_or(0));
            }
            let code = (word >> 10) & 0x3FF;
            *level = (*level).max(code.abs_diff(300).saturating_mul(500));
        }
    }
    Meaning::Set(levels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::sciencemode::codec::{ChannelPattern, Dialect, Message, Period, Point, encode};

    #[test]
    fn an_update_is_read_as_it_was_written() {
        for half_milliamps in 1..=260 {
            let point = |half_milliamps| Point { duration_us: 240, half_milliamps };
            let channel = |channel, half| ChannelPattern {
                channel,
                ramp: 0,
                period: Period::from_micros(20_000, Dialect::Sm4).unwrap(),
                points: vec![point(half), point(0), point(-half)],
            };
            let channels = vec![channel(1, half_milliamps), channel(7, 3)];
            let wire = encode(5, &Message::MlUpdate { channels }, Dialect::Sm4).unwrap();
            let mut levels = [0; CHANNELS];
            levels[1] = u32::from(half_milliamps.unsigned_abs()) * 500;
            levels[7] = 1_500;
            assert_eq!(read(Family::P24, &wire), Meaning::Set(levels), "{half_milliamps}");
        }
    }

    #[test]
    fn stops_and_keep_alives_are_told_apart() {
        let wire = |message: Message| encode(63, &message, Dialect::Sm3).unwrap();
        assert_eq!(read(Family::RehaMove3, &wire(Message::MlStop)), Meaning::Stop);
        assert_eq!(
            read(Family::RehaMove3, &wire(Message::MlGetCurrentData { selection: 2 })),
            Meaning::KeepAlive
        );
        assert_eq!(read(Family::RehaMove3, &wire(Message::GetDeviceId)), Meaning::Other);
        assert_eq!(read(Family::Theragun, &[0xAA, 0x70, 1, 3, 9, 0x60, 3]), Meaning::Set(first(2_400)));
        assert_eq!(read(Family::Theragun, &[0xAA, 4, 1, 3]), Meaning::Stop);
        assert_eq!(read(Family::Theragun, &[0xAA, 7, 1, 3, 0, 0, 3]), Meaning::Stop);
        assert_eq!(read(Family::Hypervolt, &[2]), Meaning::Set(first(2)));
    }
}
