//! Intensities, setpoints, epochs, generations and the commands a driver takes.

use std::fmt;

use crate::units::{Level, Microcoulombs, Microseconds, Milliamps, RawSpeed};

/// A unit of this session: its position in the plan's device list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u8);

/// One output of one unit, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(pub u8);

/// Number of a stop; it only grows. 0: none was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// The time in which what is believed about every channel of one unit is known to be true (neurostim-serial 3.9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// Number of a command, unique in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Strength asked, commanded or measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intensity {
    /// Peak pulse current.
    Current(Milliamps),
    /// A gun's own number.
    Speed(RawSpeed),
    /// A gun's own step.
    Level(Level),
}

impl Intensity {
    /// Returns the bare number in the base unit: µA, raw or level. Comparable within one kind only.
    pub fn magnitude(self) -> u32 {
        match self {
            Self::Current(current) => current.microamps(),
            Self::Speed(speed) => u32::from(speed.raw()),
            Self::Level(level) => u32::from(level.level()),
        }
    }

    /// Returns an intensity of the same kind with another number, cut to what the kind can hold.
    #[must_use]
    pub fn with_magnitude(self, magnitude: u32) -> Self {
        match self {
            Self::Current(_) => Self::Current(Milliamps::from_microamps(magnitude)),
            Self::Speed(_) => Self::Speed(RawSpeed::from_raw(u16::try_from(magnitude).unwrap_or(u16::MAX))),
            Self::Level(_) => Self::Level(Level::from_level(u8::try_from(magnitude).unwrap_or(u8::MAX))),
        }
    }

    /// Returns zero of the same kind.
    #[must_use]
    pub fn zero(self) -> Self {
        self.with_magnitude(0)
    }

    /// Returns whether nothing comes out.
    pub fn is_zero(self) -> bool {
        self.magnitude() == 0
    }

    /// Returns whether both are of one kind, so that their magnitudes compare.
    pub const fn same_kind(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Current(_), Self::Current(_))
                | (Self::Speed(_), Self::Speed(_))
                | (Self::Level(_), Self::Level(_))
        )
    }
}

impl fmt::Display for Intensity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current(current) => current.fmt(f),
            Self::Speed(speed) => speed.fmt(f),
            Self::Level(level) => level.fmt(f),
        }
    }
}

/// Everything one output is told: intensity and, for pulses, their timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setpoint {
    /// Biphasic symmetric rectangular pulses.
    Pulses {
        /// Peak current of each phase.
        current: Milliamps,
        /// Width of each phase.
        width: Microseconds,
        /// Time from pulse to pulse.
        period: Microseconds,
    },
    /// A gun's own number.
    Speed(RawSpeed),
    /// A gun's own step.
    Level(Level),
}

impl Setpoint {
    /// Returns the intensity.
    pub const fn intensity(self) -> Intensity {
        match self {
            Self::Pulses { current, .. } => Intensity::Current(current),
            Self::Speed(speed) => Intensity::Speed(speed),
            Self::Level(level) => Intensity::Level(level),
        }
    }

    /// Returns the charge of one phase; zero for percussion.
    pub fn phase_charge(self) -> Microcoulombs {
        match self {
            Self::Pulses { current, width, .. } => current * width,
            Self::Speed(_) | Self::Level(_) => Microcoulombs::default(),
        }
    }
}

/// What the governor orders of a driver. Reaches it only inside `Cleared`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Begin `epoch`: confirm the stop, initialise, every channel at zero. Answered by `Report::Ready`.
    Prepare {
        /// The new epoch.
        epoch: Epoch,
    },
    /// Set one channel, up or down. Refused by the driver outside `epoch`.
    Set {
        /// Number for the acknowledgement.
        id: CommandId,
        /// Epoch in which it was cleared.
        epoch: Epoch,
        /// Which output.
        channel: Channel,
        /// What it is told.
        setpoint: Setpoint,
    },
    /// The unit's own button may start and set its motor in `epoch`, not above `most`, until the first `Set`.
    AllowStart {
        /// Number for a refusal.
        id: CommandId,
        /// Epoch in which it was cleared.
        epoch: Epoch,
        /// Which output.
        channel: Channel,
        /// Not above this.
        most: Setpoint,
    },
    /// Ordinary end of a step: take one channel out of a running update, raising no other.
    Finish {
        /// Number for the acknowledgement.
        id: CommandId,
        /// Epoch in which it was cleared.
        epoch: Epoch,
        /// Which output.
        channel: Channel,
    },
    /// Zero at once, the whole unit, until proven. Legal in every state.
    Stop {
        /// The stop's generation.
        generation: Generation,
    },
}
