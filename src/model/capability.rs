//! What a unit can do, as data. A capability is never an optional trait method.

use std::time::Duration;

use crate::model::limit::Limits;
use crate::units::{Level, Microseconds, Milliamps, RawSpeed};

/// What one unit can do and how it behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Number of outputs.
    pub channels: u8,
    /// What is set, on which grid.
    pub intensity: IntensityRange,
    /// Pulse grid; `None` for percussion.
    pub pulse: Option<PulseGrid>,
    /// The unit stops by itself this long after the last keep-alive; `None`: it runs on (`no_hw_watchdog`).
    pub keep_alive: Option<Duration>,
    /// A stop of one channel is a stop of the whole unit.
    pub stop_is_whole_unit: bool,
    /// When silence is suspect and when it is a lost link.
    pub telemetry: Telemetry,
    /// A command not acknowledged for this long is uncertain.
    pub acknowledge_within: Duration,
    /// Added to the ledger after a stop; 1 s for guns until measured.
    pub stop_tail: Duration,
    /// How long the unit can run on at most: its battery; bounds an uncertain interval.
    pub battery_life: Duration,
    /// Smallest current at which an open electrode is surely noticed; below it pulses and charge have no sure lower
    /// bound. Zero: none is needed (percussion).
    pub contact_seen_from: Milliamps,
    /// It reports how hard it is pressed.
    pub reports_force: bool,
    /// It reports what is done at its own button, so that a start there can be taken over.
    pub reports_own_button: bool,
    /// Percussion: whether strokes per minute are known.
    pub rate_basis: RateBasis,
    /// What the unit and its profile bound (owner `device`).
    pub limits: Limits,
}

/// What is set on a unit, and its grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntensityRange {
    /// Peak pulse current in multiples of `step`, at most `max`.
    Current {
        /// Grid.
        step: Milliamps,
        /// Full scale.
        max: Milliamps,
    },
    /// The gun's own number: 0, or `floor` to `max`.
    Speed {
        /// Smallest speed that runs; 0 to floor is one step.
        floor: RawSpeed,
        /// Never exceeded.
        max: RawSpeed,
        /// Documented top, the full scale of rate limits.
        top: RawSpeed,
        /// Rise of raw numbers per second.
        rise_per_s: u16,
    },
    /// The gun's own step: 0 to `max`, one per 2 s.
    Level {
        /// Never exceeded.
        max: Level,
        /// Documented top.
        top: Level,
    },
}

/// Grid of pulse timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PulseGrid {
    /// Grid of the phase width.
    pub width_step: Microseconds,
    /// Smallest phase width.
    pub width_min: Microseconds,
    /// Largest phase width.
    pub width_max: Microseconds,
    /// Grid of the period.
    pub period_step: Microseconds,
    /// Shortest period.
    pub period_min: Microseconds,
    /// Longest period.
    pub period_max: Microseconds,
    /// Gap between the two phases.
    pub gap: Microseconds,
}

/// When silence counts (design 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// No rise after this long without a valid report.
    pub suspect: Duration,
    /// Stop, link lost after this long.
    pub lost: Duration,
}

/// Whether the rate of a gun is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateBasis {
    /// Not percussion.
    None,
    /// Measured table.
    Calibrated,
    /// Limits by the worst credible reading; no rate is shown.
    WorstCase,
}
