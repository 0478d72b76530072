//! Byte stuffing and checksums of the ScienceMode 3 and 4 packet, for drivers and simulated units alike.
//!
//! ```text
//! F0 | 81 len_hi^55 81 len_lo^55 | 81 crc_hi^55 81 crc_lo^55 | prefix and data, stuffed | 0F
//! ```
//!
//! Invariants:
//! - a frame that leaves [`Splitter`] has a matching length and checksum;
//! - the splitter never panics, never holds more than [`LENGTH_MAX`] bytes, and gives the same frames however the
//!   stream is cut into pieces;
//! - the byte after an escape is never a delimiter, in the header too.

/// First byte of a packet.
pub const START: u8 = 0xF0;
/// Last byte of a packet.
pub const STOP: u8 = 0x0F;
/// The next byte is stuffed.
pub const ESCAPE: u8 = 0x81;
/// A stuffed byte is xor-ed with this.
pub const KEY: u8 = 0x55;
/// Length of the smallest packet on the wire, bytes.
pub const LENGTH_MIN: usize = 12;
/// Length of the largest packet on the wire, bytes.
pub const LENGTH_MAX: usize = 1200;
/// Start byte, length and checksum, bytes on the wire.
pub const HEADER: usize = 9;
/// Largest packet number, chosen by the host and echoed by the unit.
pub const NUMBER_MAX: u8 = 63;

/// Returns CRC-16/XMODEM: polynomial 0x1021, initial 0, not reflected, no final xor.
pub fn crc16_xmodem(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let mut crc = crc ^ (u16::from(*byte) << 8);
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
        crc
    })
}

/// Returns CRC-8: polynomial 0x07, initial 0, not reflected, no final xor (ScienceMode 2).
pub fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        let mut crc = crc ^ byte;
        for _ in 0..8 {
            crc = if crc & 0x80 == 0 { crc << 1 } else { (crc << 1) ^ 0x07 };
        }
        crc
    })
}

/// Returns the packet of a command, or `None` when a number is out of range (packet number 0–63, command 0–1023) or
/// the packet would be longer than [`LENGTH_MAX`].
pub fn pack(number: u8, command: u16, data: &[u8]) -> Option<Vec<u8>> {
    if number > NUMBER_MAX || command > 0x3FF {
        return None;
    }
    let prefix = (u16::from(number) << 10) | command;
    let mut body = Vec::with_capacity(data.len().saturating_mul(2).saturating_add(4));
    for byte in prefix.to_be_bytes().iter().chain(data) {
        stuff(*byte, &mut body);
    }
    let length = HEADER.saturating_add(body.len()).saturating_add(1);
    if length > LENGTH_MAX {
        return None;
    }
    let length = u16::try_from(length).ok()?;
    let mut wire = vec![START];
    for byte in length.to_be_bytes().into_iter().chain(crc16_xmodem(&body).to_be_bytes()) {
        wire.extend([ESCAPE, byte ^ KEY]);
    }
    wire.append(&mut body);
    wire.push(STOP);
    Some(wire)
}

fn stuff(byte: u8, into: &mut Vec<u8>) {
    if matches!(byte, START | STOP | ESCAPE) {
        into.extend([ESCAPE, byte ^ KEY]);
    } else {
        into.push(byte);
    }
}

fn unstuff(stuffed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(stuffed.len());
    let mut bytes = stuffed.iter();
    while let Some(byte) = bytes.next() {
        if *byte == ESCAPE {
            plain.extend(bytes.next().map(|escaped| escaped ^ KEY));
        } else {
            plain.push(*byte);
        }
    }
    plain
}

/// One sound packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Packet number, 0–63.
    pub number: u8,
    /// Command number, 0–1023.
    pub command: u16,
    /// Command data, not stuffed.
    pub data: Vec<u8>,
    /// The packet as it came.
    pub wire: Vec<u8>,
}

/// Why collected bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reject {
    /// The checksum is another one.
    ChecksumMismatch,
    /// A header byte is not stuffed.
    HeaderNotEscaped,
    /// The length field counts other than what came.
    LengthMismatch,
    /// No stop byte within [`LENGTH_MAX`] bytes.
    TooLong,
    /// Ended before [`LENGTH_MIN`] bytes.
    TooShort,
    /// A new packet began before the end of this one.
    Interrupted,
}

impl Reject {
    /// Returns the word used in reports and vectors.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ChecksumMismatch => "checksum_mismatch",
            Self::HeaderNotEscaped => "header_not_escaped",
            Self::LengthMismatch => "length_mismatch",
            Self::TooLong => "too_long",
            Self::TooShort => "too_short",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Bytes that were collected and refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Why.
    pub reason: Reject,
    /// The bytes from the start byte on.
    pub wire: Vec<u8>,
}

impl Damaged {
    /// Returns packet number and command when they can be read, though the packet is not sound.
    pub fn prefix(&self) -> Option<(u8, u16)> {
        if !matches!(self.reason, Reject::ChecksumMismatch | Reject::LengthMismatch) {
            return None;
        }
        let body = self.wire.get(HEADER..self.wire.len().checked_sub(1)?)?;
        split_prefix(&unstuff(body)).map(|(number, command, _)| (number, command))
    }
}

/// What a splitter has seen since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sound packets.
    pub packets: u64,
    /// Refused packets.
    pub damaged: u64,
    /// Bytes outside of any packet.
    pub noise: u64,
}

/// Cuts a byte stream into packets. Resynchronises at the next start byte after anything unsound.
#[derive(Clone, Debug, Default)]
pub struct Splitter {
    held: Vec<u8>,
    escaped: bool,
    counts: Counts,
}

impl Splitter {
    /// Makes a splitter that waits for a start byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes and returns the packets that they complete, sound or not, in order.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Result<Frame, Damaged>> {
        let mut found = Vec::new();
        for byte in bytes {
            found.extend(self.take(*byte));
        }
        found
    }

    /// Returns what was seen.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Forgets a packet that has begun.
    pub fn reset(&mut self) {
        self.held.clear();
        self.escaped = false;
    }

    fn take(&mut self, byte: u8) -> Option<Result<Frame, Damaged>> {
        if self.held.is_empty() {
            if byte == START {
                self.held.push(byte);
            } else {
                self.counts.noise = self.counts.noise.saturating_add(1);
            }
            return None;
        }
        let literal = std::mem::take(&mut self.escaped);
        if byte == START && !literal {
            let cut = self.refuse(Reject::Interrupted);
            self.held.push(byte);
            return Some(Err(cut));
        }
        self.held.push(byte);
        if self.held.len() > LENGTH_MAX {
            return Some(Err(self.refuse(Reject::TooLong)));
        }
        if byte == STOP && !literal {
            return Some(self.finish());
        }
        self.escaped = byte == ESCAPE && !literal;
        None
    }

    fn finish(&mut self) -> Result<Frame, Damaged> {
        match judge(&self.held) {
            Ok((number, command, data)) => {
                self.counts.packets = self.counts.packets.saturating_add(1);
                Ok(Frame { number, command, data, wire: std::mem::take(&mut self.held) })
            }
            Err(reason) => Err(self.refuse(reason)),
        }
    }

    fn refuse(&mut self, reason: Reject) -> Damaged {
        self.counts.damaged = self.counts.damaged.saturating_add(1);
        self.escaped = false;
        Damaged { reason, wire: std::mem::take(&mut self.held) }
    }
}

fn judge(wire: &[u8]) -> Result<(u8, u16, Vec<u8>), Reject> {
    if wire.len() < LENGTH_MIN {
        return Err(Reject::TooShort);
    }
    let [_, e1, length_hi, e2, length_lo, e3, crc_hi, e4, crc_lo, body @ .., _] = wire else {
        return Err(Reject::TooShort);
    };
    if [e1, e2, e3, e4] != [&ESCAPE; 4] {
        return Err(Reject::HeaderNotEscaped);
    }
    let length = u16::from_be_bytes([length_hi ^ KEY, length_lo ^ KEY]);
    if usize::from(length) != wire.len() {
        return Err(Reject::LengthMismatch);
    }
    if u16::from_be_bytes([crc_hi ^ KEY, crc_lo ^ KEY]) != crc16_xmodem(body) {
        return Err(Reject::ChecksumMismatch);
    }
    split_prefix(&unstuff(body)).ok_or(Reject::TooShort)
}

fn split_prefix(plain: &[u8]) -> Option<(u8, u16, Vec<u8>)> {
    let [high, low, data @ ..] = plain else {
        return None;
    };
    Some((high >> 2, u16::from_be_bytes([high & 0x03, *low]), data.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn checksums_have_their_published_check_values() {
        assert_eq!(crc16_xmodem(b"123456789"), 0x31C3);
        assert_eq!(crc8(b"123456789"), 0xF4);
    }

    #[test]
    fn a_packet_that_never_ends_is_given_up_and_the_next_one_is_found() {
        let mut splitter = Splitter::new();
        let mut stream = vec![START];
        stream.extend(std::iter::repeat_n(0x11, 1500));
        let good = pack(3, 34, &[]).unwrap();
        stream.extend(&good);
        let found = splitter.push(&stream);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].as_ref().unwrap_err().reason, Reject::TooLong);
        assert_eq!(found[1].as_ref().unwrap().wire, good);
        assert_eq!(splitter.counts(), Counts { packets: 1, damaged: 1, noise: 301 - 1 });
    }

    #[test]
    fn short_and_interrupted_packets_are_refused_by_name() {
        let mut splitter = Splitter::new();
        let found = splitter.push(&[START, 0x81, 0x55, START, 0x01, STOP]);
        let reasons: Vec<Reject> = found.into_iter().map(|one| one.unwrap_err().reason).collect();
        assert_eq!(reasons, [Reject::Interrupted, Reject::TooShort]);
    }

    #[test]
    fn the_longest_packet_is_made_and_a_longer_one_is_not() {
        let wire = pack(0, 1, &[0; 1188]).unwrap();
        assert_eq!(wire.len(), LENGTH_MAX);
        assert!(Splitter::new().push(&wire).remove(0).is_ok());
        assert_eq!(pack(0, 1, &[0; 1189]), None);
        assert_eq!(pack(64, 1, &[]), None);
        assert_eq!(pack(0, 1024, &[]), None);
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out(number in 0u8..64, command in 0u16..1024, data in prop::collection::vec(any::<u8>(), 0..500)) {
            let wire = pack(number, command, &data).unwrap();
            let found = Splitter::new().push(&wire);
            prop_assert_eq!(found, vec![Ok(Frame { number, command, data, wire })]);
        }

        #[test]
        fn one_changed_byte_is_never_taken_for_a_packet(data in prop::collection::vec(any::<u8>(), 0..40), at in 0usize..60, by in 1u8..) {
            let wire = pack(7, 32, &data).unwrap();
            let mut changed = wire.clone();
            let at = at % changed.len();
            changed[at] ^= by;
            for found in Splitter::new().push(&changed).into_iter().flatten() {
                // A stop byte born in the middle can leave a shorter packet; only its own checksum can vouch for it.
                prop_assert_ne!(&found.wire, &wire);
                prop_assert_eq!(Some(found.wire), pack(found.number, found.command, &found.data));
            }
        }
    }
}
