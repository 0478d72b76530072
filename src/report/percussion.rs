//! Quantities of percussion for people: free-running head motion, never tissue load (percussion-ble 7.2).
//!
//! Shown only where the rate is calibrated; nothing here decides anything.

use std::f64::consts::{PI, SQRT_2};
use std::time::Duration;

use crate::units::Mono;

/// Motion of the head, sinusoidal and unloaded, at one rate for some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadMotion {
    /// Stroke rate, Hz.
    pub frequency_hz: f64,
    /// Strokes.
    pub strokes: f64,
    /// Way of the head, m: there and back.
    pub head_travel_m: f64,
    /// Highest speed, m/s.
    pub peak_speed_m_s: f64,
    /// Highest acceleration, m/s².
    pub peak_accel_m_s2: f64,
    /// Its r.m.s., m/s².
    pub rms_accel_m_s2: f64,
}

/// Time with output when the link was lost: what is certain and what may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Certain.
    pub confirmed: Duration,
    /// May have been.
    pub unconfirmed: Duration,
    /// Both together: what limits are checked against.
    pub upper_bound: Duration,
}

impl HeadMotion {
    /// Returns the motion for a rate in strokes per minute and a stroke in millimetres, peak to peak.
    pub fn of(strokes_per_minute: f64, stroke_mm: f64, time: Duration) -> Self {
        let frequency_hz = strokes_per_minute / 60.0;
        let stroke_m = stroke_mm / 1000.0;
        let strokes = frequency_hz * time.as_secs_f64();
        let peak_accel_m_s2 = 2.0 * PI * PI * frequency_hz * frequency_hz * stroke_m;
        Self {
            frequency_hz,
            strokes,
            head_travel_m: 2.0 * stroke_m * strokes,
            peak_speed_m_s: PI * frequency_hz * stroke_m,
            peak_accel_m_s2,
            rms_accel_m_s2: peak_accel_m_s2 / SQRT_2,
        }
    }
}

impl Exposure {
    /// Returns the exposure of a loss: from the last confirmed moment to its resolution the unit may have run.
    pub fn of_loss(confirmed: Duration, last_confirmed: Mono, resolved: Mono) -> Self {
        let unconfirmed = resolved.since(last_confirmed);
        Self { confirmed, unconfirmed, upper_bound: confirmed.saturating_add(unconfirmed) }
    }
}
