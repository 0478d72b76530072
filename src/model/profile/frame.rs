//! Frames of a device profile: templates to bytes and back, checksums, replies to fields. Closed vocabulary, integers only.
//!
//! Never more than 20 bytes (the default BLE payload); a frame that does not render is refused when the profile is
//! loaded, and bytes that do not match are named, never guessed at.

use std::collections::BTreeMap;

/// Longest frame, bytes: the payload of a link that negotiated nothing.
pub const FRAME_MAX: usize = 20;

/// Values of the parameters of a frame, by name.
pub type Values = BTreeMap<String, u32>;

/// A frame with holes: literal bytes, parameters and at most one checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    checksum: Option<Checksum>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(u8),
    Parameter { name: String, kind: NumberKind },
    Checksum,
}

/// How a number stands in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberKind {
    /// One byte.
    U8,
    /// Two bytes, high byte first.
    U16Be,
    /// Two bytes, low byte first.
    U16Le,
    /// One ASCII digit, 0–9.
    AsciiDigit,
}

/// Which bytes a checksum covers and how it is formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// Arithmetic.
    pub algorithm: Algorithm,
    /// First index covered.
    pub from: usize,
    /// Last index covered, inclusive; the checksum's own bytes are always left out.
    pub to: LastIndex,
}

/// End of a checksum's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastIndex {
    /// The last byte of the frame.
    End,
    /// This index.
    At(usize),
}

/// Checksum arithmetic (percussion-ble 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Sum modulo 256.
    Sum8,
    /// 256 minus the sum, modulo 256.
    Neg8,
    /// 255 minus the sum, modulo 256.
    Inv8,
    /// Exclusive or.
    Xor8,
    /// Polynomial 0x07, start 0, not reflected.
    Crc8,
    /// Modbus: polynomial 0xA001 reflected, start 0xFFFF, low byte first.
    Crc16ModbusLe,
    /// CCITT: polynomial 0x1021, start 0xFFFF, high byte first.
    Crc16CcittBe,
}

/// Why a template or its rendering is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A token that is no hex pair and no `{...}`.
    #[error(
        "`{0}` is neither a hex pair nor a parameter such as {{speed:u16be}} nor a checksum such as {{ck}}"
    )]
    Token(String),
    /// An unknown parameter type.
    #[error("`{0}` is not a parameter type; use u8, u16be, u16le or ascii_digit")]
    Kind(String),
    /// A checksum without definition.
    #[error("checksum `{0}` is not defined under [checksum]")]
    UnknownChecksum(String),
    /// Two checksums in one frame.
    #[error("a frame carries at most one checksum")]
    TwoChecksums,
    /// One parameter twice.
    #[error("parameter `{0}` stands twice")]
    Twice(String),
    /// Nothing in it.
    #[error("the frame is empty")]
    Empty,
    /// Longer than a payload.
    #[error("the frame has {0} bytes, at most 20 fit")]
    TooLong(usize),
    /// The checksum's range is not inside the frame.
    #[error("the checksum covers bytes {from} to {to} of a frame of {len} bytes")]
    Range {
        /// First index.
        from: usize,
        /// Last index.
        to: usize,
        /// Bytes of the frame.
        len: usize,
    },
    /// A value is missing.
    #[error("parameter `{0}` has no value")]
    Missing(String),
    /// A value that no parameter uses.
    #[error("value `{0}` is not used by the frame")]
    Unused(String),
    /// A value too large for its type.
    #[error("{value} does not fit parameter `{name}`")]
    Value {
        /// Parameter.
        name: String,
        /// Its value.
        value: u32,
    },
}

impl Template {
    /// Reads a template; `checksum` looks a checksum up by name.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str, checksum: impl Fn(&str) -> Option<Checksum>) -> Result<Self, FrameError> {
        let mut template = Self { parts: Vec::new(), checksum: None };
        for token in text.split_whitespace() {
            let part = parse_token(token)?;
            match (part, token) {
                (Token::Part(Part::Parameter { name, kind }), _) => {
                    if template.parameters().any(|known| known == name) {
                        return Err(FrameError::Twice(name));
                    }
                    template.parts.push(Part::Parameter { name, kind });
                }
                (Token::Part(part), _) => template.parts.push(part),
                (Token::Checksum(name), _) => {
                    if template.checksum.is_some() {
                        return Err(FrameError::TwoChecksums);
                    }
                    template.checksum = Some(checksum(&name).ok_or(FrameError::UnknownChecksum(name))?);
                    template.parts.push(Part::Checksum);
                }
            }
        }
        let len = template.len();
        if len == 0 {
            return Err(FrameError::Empty);
        }
        if len > FRAME_MAX {
            return Err(FrameError::TooLong(len));
        }
        if let Some(checksum) = template.checksum {
            checksum.check_range(len)?;
        }
        Ok(template)
    }

    /// Returns the names of the parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Parameter { name, .. } => Some(name.as_str()),
            Part::Literal(_) | Part::Checksum => None,
        })
    }

    /// Returns the bytes of a rendered frame.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| self.width(part)).sum()
    }

    /// Returns whether the frame has no bytes; a parsed one always has.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the bytes for `values`.
    ///
    /// # Errors
    /// A value is missing, unused or too large.
    pub fn render(&self, values: &Values) -> Result<Vec<u8>, FrameError> {
        if let Some(unused) = values.keys().find(|name| !self.parameters().any(|known| known == *name)) {
            return Err(FrameError::Unused(unused.clone()));
        }
        let mut bytes = Vec::with_capacity(self.len());
        let mut own = 0..0;
        for part in &self.parts {
            match part {
                Part::Literal(byte) => bytes.push(*byte),
                Part::Parameter { name, kind } => {
                    let value = *values.get(name).ok_or_else(|| FrameError::Missing(name.clone()))?;
                    let number =
                        kind.render(value).ok_or_else(|| FrameError::Value { name: name.clone(), value })?;
                    bytes.extend(number);
                }
                Part::Checksum => {
                    let width = self.width(part);
                    own = bytes.len()..bytes.len().saturating_add(width);
                    bytes.extend(std::iter::repeat_n(0, width));
                }
            }
        }
        if let Some(checksum) = self.checksum {
            let value = checksum.of(&bytes, own.clone());
            for (slot, byte) in bytes.iter_mut().skip(own.start).zip(value) {
                *slot = byte;
            }
        }
        Ok(bytes)
    }

    /// Returns the values in `bytes` when they are exactly such a frame, with its checksum right.
    pub fn read(&self, bytes: &[u8]) -> Option<Values> {
        if bytes.len() != self.len() {
            return None;
        }
        let mut values = Values::new();
        let mut at = 0usize;
        for part in &self.parts {
            match part {
                Part::Literal(byte) if bytes.get(at) != Some(byte) => return None,
                Part::Literal(_) | Part::Checksum => {}
                Part::Parameter { name, kind } => {
                    values.insert(name.clone(), kind.read(bytes, at)?);
                }
            }
            at = at.saturating_add(self.width(part));
        }
        // Rendering again is the one proof of the checksum.
        (self.render(&values).ok()? == bytes).then_some(values)
    }

    fn width(&self, part: &Part) -> usize {
        match part {
            Part::Literal(_) => 1,
            Part::Parameter { kind, .. } => kind.width(),
            Part::Checksum => self.checksum.map_or(0, |checksum| checksum.algorithm.width()),
        }
    }
}

enum Token {
    Part(Part),
    Checksum(String),
}

fn parse_token(token: &str) -> Result<Token, FrameError> {
    let bad = || FrameError::Token(token.to_owned());
    let Some(inner) = token.strip_prefix('{') else {
        if token.len() != 2 || !token.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(bad());
        }
        return u8::from_str_radix(token, 16).map(|byte| Token::Part(Part::Literal(byte))).map_err(|_| bad());
    };
    let inner = inner.strip_suffix('}').ok_or_else(bad)?;
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let Some((name, kind)) = inner.split_once(':') else {
        return if is_name(inner) { Ok(Token::Checksum(inner.to_owned())) } else { Err(bad()) };
    };
    if !is_name(name) {
        return Err(bad());
    }
    let kind = NumberKind::from_word(kind).ok_or_else(|| FrameError::Kind(kind.to_owned()))?;
    Ok(Token::Part(Part::Parameter { name: name.to_owned(), kind }))
}

impl NumberKind {
    /// Returns the kind of a word in a file.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "u8" => Some(Self::U8),
            "u16be" => Some(Self::U16Be),
            "u16le" => Some(Self::U16Le),
            "ascii_digit" => Some(Self::AsciiDigit),
            _ => None,
        }
    }

    /// Returns its bytes in a frame.
    pub const fn width(self) -> usize {
        match self {
            Self::U8 | Self::AsciiDigit => 1,
            Self::U16Be | Self::U16Le => 2,
        }
    }

    /// Returns the bytes of `value`; `None` when it does not fit.
    pub fn render(self, value: u32) -> Option<Vec<u8>> {
        match self {
            Self::U8 => Some(vec![u8::try_from(value).ok()?]),
            Self::U16Be => Some(u16::try_from(value).ok()?.to_be_bytes().to_vec()),
            Self::U16Le => Some(u16::try_from(value).ok()?.to_le_bytes().to_vec()),
            Self::AsciiDigit => {
                let digit = u8::try_from(value).ok().filter(|digit| *digit <= 9)?;
                Some(vec![b'0'.saturating_add(digit)])
            }
        }
    }

    /// Returns the number at `at`; `None` when the bytes end before, or are no digit.
    pub fn read(self, bytes: &[u8], at: usize) -> Option<u32> {
        let first = *bytes.get(at)?;
        let second = || bytes.get(at.saturating_add(1)).copied();
        match self {
            Self::U8 => Some(u32::from(first)),
            Self::U16Be => Some(u32::from(u16::from_be_bytes([first, second()?]))),
            Self::U16Le => Some(u32::from(u16::from_le_bytes([first, second()?]))),
            Self::AsciiDigit => first.is_ascii_digit().then(|| u32::from(first.saturating_sub(b'0'))),
        }
    }
}

impl Algorithm {
    /// Returns the algorithm of a word in a file.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "sum8" => Some(Self::Sum8),
            "neg8" => Some(Self::Neg8),
            "inv8" => Some(Self::Inv8),
            "xor8" => Some(Self::Xor8),
            "crc8" => Some(Self::Crc8),
            "crc16_modbus_le" => Some(Self::Crc16ModbusLe),
            "crc16_ccitt_be" => Some(Self::Crc16CcittBe),
            _ => None,
        }
    }

    /// Returns its bytes in a frame.
    pub const fn width(self) -> usize {
        match self {
            Self::Sum8 | Self::Neg8 | Self::Inv8 | Self::Xor8 | Self::Crc8 => 1,
            Self::Crc16ModbusLe | Self::Crc16CcittBe => 2,
        }
    }

    fn of(self, bytes: impl Iterator<Item = u8>) -> Vec<u8> {
        match self {
            Self::Sum8 => vec![sum(bytes)],
            Self::Neg8 => vec![sum(bytes).wrapping_neg()],
            Self::Inv8 => vec![!sum(bytes)],
            Self::Xor8 => vec![bytes.fold(0, |so_far, byte| so_far ^ byte)],
            Self::Crc8 => vec![bytes.fold(0, |crc: u8, byte| {
                (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 == 0 { crc << 1 } else { (crc << 1) ^ 0x07 })
            })],
            Self::Crc16ModbusLe => bytes
                .fold(0xFFFF, |crc: u16, byte| {
                    (0..8).fold(crc ^ u16::from(byte), |crc, _| {
                        if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xA001 }
                    })
                })
                .to_le_bytes()
                .to_vec(),
            Self::Crc16CcittBe => bytes
                .fold(0xFFFF, |crc: u16, byte| {
                    (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
                        if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
                    })
                })
                .to_be_bytes()
                .to_vec(),
        }
    }
}

fn sum(bytes: impl Iterator<Item = u8>) -> u8 {
    bytes.fold(0, u8::wrapping_add)
}

impl Checksum {
    /// Returns the checksum of a frame whose own checksum bytes are at `own`.
    pub fn of(self, frame: &[u8], own: std::ops::Range<usize>) -> Vec<u8> {
        let last = match self.to {
            LastIndex::End => usize::MAX,
            LastIndex::At(last) => last,
        };
        let covered = frame
            .iter()
            .enumerate()
            .filter(|(index, _)| *index >= self.from && *index <= last && !own.contains(index))
            .map(|(_, byte)| *byte);
        self.algorithm.of(covered)
    }

    /// Returns whether the checksum at `at` is right; `false` when the frame ends before it.
    pub fn holds(self, frame: &[u8], at: usize) -> bool {
        let own = at..at.saturating_add(self.algorithm.width());
        frame.get(own.clone()).is_some_and(|found| found == self.of(frame, own))
    }

    /// Checks that the range lies inside a frame of `len` bytes.
    ///
    /// # Errors
    /// It does not.
    pub fn check_range(self, len: usize) -> Result<(), FrameError> {
        let last = match self.to {
            LastIndex::End => len.saturating_sub(1),
            LastIndex::At(last) => last,
        };
        if self.from <= last && last < len {
            return Ok(());
        }
        Err(FrameError::Range { from: self.from, to: last, len })
    }
}

/// How one kind of reply is recognised and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyRule {
    /// Name, for example `status`.
    pub name: String,
    /// Bytes that must stand at fixed places: `(index, value)`.
    pub when: Vec<(usize, u8)>,
    /// Fewest bytes.
    pub len_min: usize,
    /// Checksum and the index of its first byte.
    pub checksum: Option<(Checksum, usize)>,
    /// Index of a byte that should say how many bytes follow it. Compared and counted only: it is an inference.
    pub length_at: Option<usize>,
    /// What it says, by name.
    pub fields: BTreeMap<String, FieldRule>,
}

/// Where a field stands and how it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRule {
    /// First index.
    pub at: usize,
    /// How it reads.
    pub kind: FieldKind,
    /// Shown as hundreds . tens . ones (216 is "2.1.6").
    pub dotted: bool,
}

/// How a field reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// One byte; true unless it is 0.
    Nonzero,
    /// A number.
    Number(NumberKind),
}

/// A reply that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Name of its rule.
    pub name: String,
    /// Raw numbers by field.
    pub fields: Values,
    /// Whether its own length byte is right; `None` where there is none.
    pub length_agrees: Option<bool>,
}

/// Why bytes are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// Too few bytes.
    Short,
    /// They do not begin as every reply of the family does.
    Header,
    /// The checksum is wrong.
    Checksum,
    /// A good frame of an unknown type.
    UnknownType,
}

impl ReplyError {
    /// Returns the words for a record.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Short => "a frame that is too short",
            Self::Header => "a frame with a foreign header",
            Self::Checksum => "a frame with a wrong checksum",
            Self::UnknownType => "a frame of an unknown type",
        }
    }
}

impl FieldRule {
    /// Returns the raw number; `None` when the bytes end before.
    pub fn read(self, bytes: &[u8]) -> Option<u32> {
        match self.kind {
            FieldKind::Nonzero => bytes.get(self.at).map(|byte| u32::from(*byte)),
            FieldKind::Number(kind) => kind.read(bytes, self.at),
        }
    }

    /// Returns its bytes in a frame.
    pub const fn width(self) -> usize {
        match self.kind {
            FieldKind::Nonzero => 1,
            FieldKind::Number(kind) => kind.width(),
        }
    }
}

impl ReplyRule {
    /// Returns what the bytes say, when they are this reply.
    pub fn read(&self, bytes: &[u8]) -> Option<Reply> {
        if bytes.len() < self.len_min || !self.is_type(bytes) || !self.checksum_holds(bytes) {
            return None;
        }
        let mut fields = Values::new();
        for (name, rule) in &self.fields {
            fields.insert(name.clone(), rule.read(bytes)?);
        }
        let length_agrees = self.length_at.map(|at| {
            let following = bytes.len().saturating_sub(at.saturating_add(1));
            bytes.get(at).is_some_and(|byte| usize::from(*byte) == following)
        });
        Some(Reply { name: self.name.clone(), fields, length_agrees })
    }

    fn is_type(&self, bytes: &[u8]) -> bool {
        self.when.iter().all(|(at, value)| bytes.get(*at) == Some(value))
    }

    fn checksum_holds(&self, bytes: &[u8]) -> bool {
        self.checksum.is_none_or(|(checksum, at)| checksum.holds(bytes, at))
    }
}

/// Reads bytes by the first rule that fits.
///
/// # Errors
/// Why none fits. `shortest` is the fewest bytes of any frame of the family; it only names the error.
pub fn read_reply(rules: &[ReplyRule], shortest: usize, bytes: &[u8]) -> Result<Reply, ReplyError> {
    if let Some(reply) = rules.iter().find_map(|rule| rule.read(bytes)) {
        return Ok(reply);
    }
    if bytes.len() < shortest || bytes.is_empty() {
        return Err(ReplyError::Short);
    }
    let Some(first) = rules.first() else {
        return Err(ReplyError::UnknownType);
    };
    let mut header =
        first.when.iter().filter(|byte| rules.len() > 1 && rules.iter().all(|rule| rule.when.contains(byte)));
    if !header.all(|(at, value)| bytes.get(*at) == Some(value)) {
        return Err(ReplyError::Header);
    }
    if rules.iter().all(|rule| !rule.checksum_holds(bytes)) {
        return Err(ReplyError::Checksum);
    }
    if rules.iter().any(|rule| rule.is_type(bytes)) {
        return Err(ReplyError::Short);
    }
    Err(ReplyError::UnknownType)
}

/// Returns a number as its hundreds, tens and ones with dots: 216 is "2.1.6", 1005 is "10.0.5".
pub fn dotted(number: u32) -> String {
    format!("{}.{}.{}", number / 100, number / 10 % 10, number % 10)
}

/// Returns the number of a dotted text as [`dotted`] writes it.
pub fn from_dotted(text: &str) -> Option<u32> {
    let mut parts = text.split('.').map(|part| part.parse::<u32>().ok());
    let (major, minor, patch) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || minor > 9 || patch > 9 {
        return None;
    }
    major.checked_mul(100)?.checked_add(minor.checked_mul(10)?)?.checked_add(patch)
}
