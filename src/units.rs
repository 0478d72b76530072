//! Physical quantities as integers in a fine base unit, behind the name people say.
//!
//! Floats never decide anything: a limit of 25 mA is 25 000 µA, exactly. Each type prints what its parser reads.
//! Only physics gets operators; same-unit sums are `checked_` or `saturating_`. There is no `From<u32>`: a number
//! without its unit cannot become a quantity.
#![deny(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Peak pulse current in milliamps, exact to 1 µA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Milliamps {
    microamps: u32,
}

/// Pulse width (one phase) or pulse period in microseconds, exact to 1 µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Microseconds {
    micros: u32,
}

/// Pulse or stroke rate in hertz, exact to 1 mHz.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hertz {
    millihertz: u32,
}

/// Phase charge in microcoulombs, exact to 1 pC (1 µA for 1 µs).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Microcoulombs {
    picocoulombs: u64,
}

/// A percussion gun's own speed number, dimensionless; never shown as a rate (percussion-ble U2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawSpeed {
    raw: u16,
}

/// A percussion gun's own force number, dimensionless and not calibrated; compared only with numbers of the same gun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawForce {
    raw: u32,
}

/// A percussion gun's own speed step, 0 = off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level {
    level: u8,
}

/// Electrode contact area in square centimetres, exact to 1 mm².
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SquareCentimetres {
    square_millimetres: u32,
}

/// Distance on the body in centimetres, exact to 1 mm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Centimetres {
    millimetres: u32,
}

/// An instant: microseconds on a monotonic clock since the process's time origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono {
    micros: u64,
}

/// Why a text is not the quantity it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The text does not begin with a plain decimal number.
    #[error("`{found}` is not a number with a unit such as \"{example}\"")]
    NotANumber {
        /// What was read.
        found: String,
        /// A text that would do.
        example: &'static str,
    },
    /// The unit is missing or another one.
    #[error("the unit of `{found}` is not {expected}, write for example \"{example}\"")]
    WrongUnit {
        /// What was read.
        found: String,
        /// The units accepted, in words.
        expected: &'static str,
        /// A text that would do.
        example: &'static str,
    },
    /// More decimal places than the unit is exact to.
    #[error("`{found}` has more decimal places than {expected} is kept to")]
    TooFine {
        /// What was read.
        found: String,
        /// The unit and its resolution, in words.
        expected: &'static str,
    },
    /// The number does not fit.
    #[error("`{found}` is too large")]
    TooLarge {
        /// What was read.
        found: String,
    },
}

/// How one quantity is written: accepted unit spellings with their decimal places, and words for a refusal.
struct Spelling {
    /// `(unit, decimal places of the base unit in it)`; the first one is printed.
    units: &'static [(&'static str, u32)],
    expected: &'static str,
    example: &'static str,
}

const CURRENT: Spelling = Spelling { units: &[("mA", 3)], expected: "mA", example: "12.5 mA" };
const WIDTH: Spelling =
    Spelling { units: &[("us", 0), ("µs", 0), ("ms", 3)], expected: "us or ms", example: "250 us" };
const RATE: Spelling = Spelling { units: &[("Hz", 3)], expected: "Hz", example: "50 Hz" };
const CHARGE: Spelling = Spelling { units: &[("uC", 6), ("µC", 6)], expected: "uC", example: "20 uC" };
const SPEED: Spelling = Spelling { units: &[("raw", 0)], expected: "raw", example: "1200 raw" };
const LEVEL: Spelling = Spelling { units: &[("level", 0)], expected: "level", example: "1 level" };
const AREA: Spelling = Spelling { units: &[("cm2", 2), ("cm²", 2)], expected: "cm2", example: "25 cm2" };
const DISTANCE: Spelling = Spelling { units: &[("cm", 1), ("mm", 0)], expected: "cm", example: "12 cm" };
const TIME: Spelling =
    Spelling { units: &[("s", 6), ("ms", 3), ("min", 6)], expected: "s, ms or min", example: "30 s" };

impl Spelling {
    /// Reads a non-negative decimal with a unit as an integer in the base unit; also says which unit it was.
    fn parse(&self, text: &str) -> Result<(u64, &'static str), UnitError> {
        let found = || text.to_owned();
        let trimmed = text.trim();
        let digits_end = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits_end);
        let unit = unit.trim_start();
        if !number.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(UnitError::NotANumber { found: found(), example: self.example });
        }
        let Some((name, places)) = self.units.iter().find(|(name, _)| *name == unit) else {
            return Err(UnitError::WrongUnit {
                found: found(),
                expected: self.expected,
                example: self.example,
            });
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let written = usize::try_from(*places).unwrap_or(0);
        if fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
            return Err(UnitError::NotANumber { found: found(), example: self.example });
        }
        if fraction.trim_end_matches('0').len() > written {
            return Err(UnitError::TooFine { found: found(), expected: self.expected });
        }
        let kept: String = fraction.chars().chain(std::iter::repeat('0')).take(written).collect();
        format!("{whole}{kept}")
            .parse::<u64>()
            .map(|value| (value, *name))
            .map_err(|_| UnitError::TooLarge { found: found() })
    }

    fn parse_u32(&self, text: &str) -> Result<u32, UnitError> {
        let (value, _) = self.parse(text)?;
        u32::try_from(value).map_err(|_| UnitError::TooLarge { found: text.to_owned() })
    }

    /// Prints `value` (base unit) in the first unit, without trailing zeros.
    fn write(&self, f: &mut fmt::Formatter<'_>, value: u64) -> fmt::Result {
        let Some((unit, places)) = self.units.first() else {
            return Ok(());
        };
        write_decimal(f, value, *places)?;
        write!(f, " {unit}")
    }
}

/// Prints `value` divided by 10^`places`, without trailing zeros.
fn write_decimal(f: &mut fmt::Formatter<'_>, value: u64, places: u32) -> fmt::Result {
    let scale = 10u64.checked_pow(places).unwrap_or(1).max(1);
    let whole = value.checked_div(scale).unwrap_or(0);
    let rest = value.checked_rem(scale).unwrap_or(0);
    if rest == 0 {
        return write!(f, "{whole}");
    }
    let width = usize::try_from(places).unwrap_or(0);
    let fraction = format!("{rest:0width$}");
    write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
}

impl Milliamps {
    /// No current.
    pub const ZERO: Self = Self { microamps: 0 };

    /// Returns the current of `microamps` µA.
    pub const fn from_microamps(microamps: u32) -> Self {
        Self { microamps }
    }

    /// Returns the current of `milliamps` mA, at most 4 294 967 mA.
    pub const fn from_milliamps(milliamps: u32) -> Self {
        Self { microamps: milliamps.saturating_mul(1000) }
    }

    /// Returns the current in µA.
    pub const fn microamps(self) -> u32 {
        self.microamps
    }

    /// Returns the sum, at most the largest representable current.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self { microamps: self.microamps.saturating_add(other.microamps) }
    }

    /// Returns the difference, at least zero.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self { microamps: self.microamps.saturating_sub(other.microamps) }
    }
}

impl Microseconds {
    /// Returns the time of `micros` µs.
    pub const fn from_micros(micros: u32) -> Self {
        Self { micros }
    }

    /// Returns the time in µs.
    pub const fn micros(self) -> u32 {
        self.micros
    }
}

impl Hertz {
    /// Returns the rate of `millihertz` mHz.
    pub const fn from_millihertz(millihertz: u32) -> Self {
        Self { millihertz }
    }

    /// Returns the rate of `hertz` Hz.
    pub const fn from_hertz(hertz: u32) -> Self {
        Self { millihertz: hertz.saturating_mul(1000) }
    }

    /// Returns the rate in mHz.
    pub const fn millihertz(self) -> u32 {
        self.millihertz
    }

    /// Returns the shortest period, rounded up to 1 µs, whose rate does not exceed this one; `None` at 0 Hz.
    pub const fn period(self) -> Option<Microseconds> {
        if self.millihertz == 0 {
            return None;
        }
        Some(Microseconds { micros: 1_000_000_000u32.div_ceil(self.millihertz) })
    }
}

impl Microcoulombs {
    /// Returns the charge of `picocoulombs` pC.
    pub const fn from_picocoulombs(picocoulombs: u64) -> Self {
        Self { picocoulombs }
    }

    /// Returns the charge in pC.
    pub const fn picocoulombs(self) -> u64 {
        self.picocoulombs
    }

    /// Returns the sum, at most the largest representable charge.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self { picocoulombs: self.picocoulombs.saturating_add(other.picocoulombs) }
    }
}

impl std::ops::Mul<Microseconds> for Milliamps {
    type Output = Microcoulombs;

    /// Charge of one rectangular phase.
    fn mul(self, width: Microseconds) -> Microcoulombs {
        let picocoulombs = u64::from(self.microamps).saturating_mul(u64::from(width.micros));
        Microcoulombs { picocoulombs }
    }
}

impl RawSpeed {
    /// Motor off.
    pub const ZERO: Self = Self { raw: 0 };

    /// Returns the device's own speed number.
    pub const fn from_raw(raw: u16) -> Self {
        Self { raw }
    }

    /// Returns the device's own speed number.
    pub const fn raw(self) -> u16 {
        self.raw
    }
}

impl RawForce {
    /// Returns the device's own force number.
    pub const fn from_raw(raw: u32) -> Self {
        Self { raw }
    }

    /// Returns the device's own force number.
    pub const fn raw(self) -> u32 {
        self.raw
    }
}

impl Level {
    /// Motor off.
    pub const ZERO: Self = Self { level: 0 };

    /// Returns the device's step number.
    pub const fn from_level(level: u8) -> Self {
        Self { level }
    }

    /// Returns the device's step number.
    pub const fn level(self) -> u8 {
        self.level
    }
}

impl SquareCentimetres {
    /// Returns the area of `square_millimetres` mm².
    pub const fn from_square_millimetres(square_millimetres: u32) -> Self {
        Self { square_millimetres }
    }

    /// Returns the area in mm².
    pub const fn square_millimetres(self) -> u32 {
        self.square_millimetres
    }
}

impl Centimetres {
    /// Returns the distance of `millimetres` mm.
    pub const fn from_millimetres(millimetres: u32) -> Self {
        Self { millimetres }
    }

    /// Returns the distance in mm.
    pub const fn millimetres(self) -> u32 {
        self.millimetres
    }
}

impl Mono {
    /// The time origin of the process.
    pub const ORIGIN: Self = Self { micros: 0 };

    /// Returns the instant `micros` µs after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self { micros }
    }

    /// Returns the instant `millis` ms after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self { micros: millis.saturating_mul(1000) }
    }

    /// Returns the microseconds since the origin.
    pub const fn micros(self) -> u64 {
        self.micros
    }

    /// Returns the instant `span` later, at most the last representable one.
    pub fn saturating_add(self, span: Duration) -> Self {
        Self { micros: self.micros.saturating_add(duration_micros(span)) }
    }

    /// Returns the instant `span` earlier, at least the origin.
    pub fn saturating_sub(self, span: Duration) -> Self {
        Self { micros: self.micros.saturating_sub(duration_micros(span)) }
    }

    /// Returns the time passed since `earlier`, zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.micros.saturating_sub(earlier.micros))
    }
}

/// Returns whole microseconds of `span`, at most `u64::MAX`.
pub fn duration_micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Reads a time span such as "30 s", "250 ms" or "2 min".
///
/// # Errors
/// Names what is wrong with the text and gives an example.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (value, unit) = TIME.parse(text)?;
    let factor = if unit == "min" { 60 } else { 1 };
    value
        .checked_mul(factor)
        .map(Duration::from_micros)
        .ok_or_else(|| UnitError::TooLarge { found: text.to_owned() })
}

/// Prints a time span in seconds as [`parse_duration`] reads it, for example "2.5 s".
pub fn show_duration(span: Duration) -> impl fmt::Display {
    struct Shown(u64);
    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            TIME.write(f, self.0)
        }
    }
    Shown(duration_micros(span))
}

impl fmt::Display for Milliamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        CURRENT.write(f, u64::from(self.microamps))
    }
}

impl FromStr for Milliamps {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        CURRENT.parse_u32(text).map(Self::from_microamps)
    }
}

impl fmt::Display for Microseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        WIDTH.write(f, u64::from(self.micros))
    }
}

impl FromStr for Microseconds {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        WIDTH.parse_u32(text).map(Self::from_micros)
    }
}

impl fmt::Display for Hertz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        RATE.write(f, u64::from(self.millihertz))
    }
}

impl FromStr for Hertz {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        RATE.parse_u32(text).map(Self::from_millihertz)
    }
}

impl fmt::Display for Microcoulombs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        CHARGE.write(f, self.picocoulombs)
    }
}

impl FromStr for Microcoulombs {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        CHARGE.parse(text).map(|(value, _)| Self::from_picocoulombs(value))
    }
}

impl fmt::Display for RawSpeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SPEED.write(f, u64::from(self.raw))
    }
}

impl FromStr for RawSpeed {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let value = SPEED.parse_u32(text)?;
        u16::try_from(value).map(Self::from_raw).map_err(|_| UnitError::TooLarge { found: text.to_owned() })
    }
}

impl fmt::Display for RawForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SPEED.write(f, u64::from(self.raw))
    }
}

impl FromStr for RawForce {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        SPEED.parse_u32(text).map(Self::from_raw)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        LEVEL.write(f, u64::from(self.level))
    }
}

impl FromStr for Level {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let value = LEVEL.parse_u32(text)?;
        u8::try_from(value).map(Self::from_level).map_err(|_| UnitError::TooLarge { found: text.to_owned() })
    }
}

impl fmt::Display for SquareCentimetres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        AREA.write(f, u64::from(self.square_millimetres))
    }
}

impl FromStr for SquareCentimetres {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        AREA.parse_u32(text).map(Self::from_square_millimetres)
    }
}

impl fmt::Display for Centimetres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        DISTANCE.write(f, u64::from(self.millimetres))
    }
}

impl FromStr for Centimetres {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        DISTANCE.parse(text).and_then(|(value, _)| {
            let millimetres = u32::try_from(value);
            millimetres
                .map(Self::from_millimetres)
                .map_err(|_| UnitError::TooLarge { found: text.to_owned() })
        })
    }
}

impl fmt::Display for Mono {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TIME.write(f, self.micros)
    }
}

#[cfg(test)]
mod tests;
