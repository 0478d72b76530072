//! The compiled ceilings: nobody can raise them, and a file that tries is refused.
#![deny(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

use std::time::Duration;

use crate::model::limit::Limits;
use crate::model::protocol::Modality;
use crate::units::{Hertz, Microcoulombs, Microseconds, Milliamps};

/// Returns the ceiling of a modality (design 4; clinical-safety 1.6).
///
/// `area_time` and `session_time` of neurostimulation are the day's budgets (60 and 120 min, 30 and 60 min): one
/// session can never use more.
pub fn ceiling(modality: Modality) -> Limits {
    match modality {
        Modality::Tens => Limits {
            current: Some(Milliamps::from_milliamps(60)),
            width: Some(Microseconds::from_micros(250)),
            frequency: Some(Hertz::from_hertz(150)),
            phase_charge: Some(Microcoulombs::from_picocoulombs(30_000_000)),
            area_time: Some(Duration::from_mins(60)),
            session_time: Some(Duration::from_mins(120)),
            ..electrical()
        },
        Modality::Nmes => Limits {
            current: Some(Milliamps::from_milliamps(100)),
            width: Some(Microseconds::from_micros(500)),
            frequency: Some(Hertz::from_hertz(100)),
            phase_charge: Some(Microcoulombs::from_picocoulombs(60_000_000)),
            on: Some(Duration::from_secs(20)),
            area_time: Some(Duration::from_mins(30)),
            session_time: Some(Duration::from_mins(60)),
            ..electrical()
        },
        Modality::Percussion => Limits {
            stroke_rate: Some(Hertz::from_hertz(40)),
            area_time: Some(Duration::from_secs(120)),
            session_time: Some(Duration::from_mins(15)),
            ..Limits::default()
        },
    }
}

/// What both kinds of neurostimulation share: 50 mA r.m.s., 2 mA/cm², 0.25 W/cm², 50 mJ per pulse.
fn electrical() -> Limits {
    Limits {
        rms: Some(Milliamps::from_milliamps(50)),
        density_ua_per_cm2: Some(2_000),
        power_mw_per_cm2: Some(250),
        pulse_energy_uj: Some(50_000),
        ..Limits::default()
    }
}
