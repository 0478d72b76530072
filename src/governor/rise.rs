//! The two rises (design 3.6).
//!
//! *Titration*: the operator asks for more. At most one device step per command, 5 mA/s and 10 % of full scale per
//! second, whichever is slower; a gun by its profile's rise, 0 → floor being one step; a level one per 2 s.
//!
//! *Program ramp*: the ON:OFF cycle of a running step. From zero to at most the envelope, in not less than the
//! protocol's ramp-up and never under 1 s, in increments of at most 2 mA, at least 50 ms apart.
//!
//! ```text
//!        first rise                on over              at zero            off over
//!  ----> On (envelope 0) ---> RampDown ---------> Off ---------> RampUp ------------> On
//!        titration raises                                        (skipped while the
//!        setpoint and envelope                                    envelope is zero)
//! ```

use std::time::Duration;

use crate::governor::Phase;
use crate::model::capability::IntensityRange;
use crate::model::command::Intensity;
use crate::model::plan::Cycle;
use crate::units::{Mono, duration_micros};

/// Fastest titration of a current, µA per second.
const CURRENT_RISE_UA_PER_S: u64 = 5_000;
/// Spacing of a gun's rises; its minimum gap between writes (percussion-ble U5).
const SPEED_RISE_EVERY: Duration = Duration::from_millis(100);
/// Levels rise one per 2 s.
const LEVEL_RISE_EVERY: Duration = Duration::from_secs(2);
/// Shortest program ramp.
const RAMP_MIN: Duration = Duration::from_secs(1);
/// Largest increment of a program ramp, µA.
const RAMP_INCREMENT_MAX_UA: u32 = 2_000;
/// Closest spacing of the updates of a ramp.
const RAMP_EVERY_MIN: Duration = Duration::from_millis(50);
/// Spacing of the updates of a ramp down.
const FALL_EVERY: Duration = Duration::from_millis(100);

/// Returns the next setpoint of a titration from `from` towards `target`, at most one step up.
pub(crate) fn titrate(range: &IntensityRange, from: Intensity, target: Intensity) -> Intensity {
    let (present, goal) = (from.magnitude(), target.magnitude());
    let next = match range {
        IntensityRange::Current { step, .. } => present.saturating_add(step.microamps().max(1)),
        IntensityRange::Speed { floor, .. } if present < u32::from(floor.raw()) => u32::from(floor.raw()),
        IntensityRange::Speed { top, rise_per_s, .. } => {
            let fifth_of_top = u32::from(top.raw()).checked_div(5).unwrap_or(0);
            let per_s = u32::from(*rise_per_s).min(fifth_of_top).max(10);
            present.saturating_add(per_s.checked_div(10).unwrap_or(1))
        }
        IntensityRange::Level { .. } => present.saturating_add(1),
    };
    from.with_magnitude(next.min(goal))
}

/// Returns how long the next step of a titration waits after any change.
pub(crate) fn pause(range: &IntensityRange) -> Duration {
    match range {
        IntensityRange::Current { step, max } => {
            let full_scale_per_s = u64::from(max.microamps()).checked_div(10).unwrap_or(0).max(1);
            let per_s = CURRENT_RISE_UA_PER_S.min(full_scale_per_s);
            let step = u64::from(step.microamps().max(1));
            Duration::from_micros(step.saturating_mul(1_000_000).div_ceil(per_s))
        }
        IntensityRange::Speed { .. } => SPEED_RISE_EVERY,
        IntensityRange::Level { .. } => LEVEL_RISE_EVERY,
    }
}

/// Where an ON:OFF cycle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) cycle: Cycle,
    pub(crate) phase: Phase,
    pub(crate) since: Mono,
    /// Next update of a ramp.
    pub(crate) next: Mono,
}

/// What the cycle wants at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Nothing now.
    Nothing,
    /// Set this, up or down.
    Set(Intensity),
}

impl Program {
    /// Begins with a plateau at zero, so that titration can find the envelope.
    pub(crate) const fn begin(cycle: Cycle, now: Mono) -> Self {
        Self { cycle, phase: Phase::On, since: now, next: now }
    }

    /// Returns when the cycle next wants something.
    pub(crate) fn deadline(&self) -> Mono {
        match self.phase {
            Phase::Continuous | Phase::On => self.since.saturating_add(self.cycle.on),
            Phase::Off => self.since.saturating_add(self.cycle.off),
            Phase::RampUp | Phase::RampDown => self.next,
        }
    }

    /// Advances the cycle to `now`; call until it wants nothing.
    pub(crate) fn advance(
        &mut self,
        now: Mono,
        step_ua: u32,
        setpoint: Intensity,
        envelope: Intensity,
    ) -> Want {
        if now < self.deadline() {
            return Want::Nothing;
        }
        match self.phase {
            Phase::Continuous => Want::Nothing,
            Phase::On => {
                self.enter(Phase::RampDown, now);
                Want::Nothing
            }
            Phase::RampDown => {
                if setpoint.is_zero() {
                    self.enter(Phase::Off, now);
                    return Want::Nothing;
                }
                self.next = now.saturating_add(FALL_EVERY);
                Want::Set(falling(now.since(self.since), self.cycle.ramp_down, setpoint, envelope, step_ua))
            }
            Phase::Off => {
                self.enter(if envelope.is_zero() { Phase::On } else { Phase::RampUp }, now);
                if self.phase == Phase::RampUp {
                    self.next = now.saturating_add(self.ramp(step_ua, envelope).1);
                }
                Want::Nothing
            }
            Phase::RampUp => {
                let (increment, every) = self.ramp(step_ua, envelope);
                let next = setpoint.magnitude().saturating_add(increment).min(envelope.magnitude());
                self.next = now.saturating_add(every);
                if next >= envelope.magnitude() {
                    self.enter(Phase::On, now);
                }
                Want::Set(envelope.with_magnitude(next))
            }
        }
    }

    /// Ends a ramp where it is: the rest of the ON time is a plateau.
    pub(crate) const fn level_off(&mut self, now: Mono) {
        if matches!(self.phase, Phase::RampUp) {
            self.enter(Phase::On, now);
        }
    }

    const fn enter(&mut self, phase: Phase, now: Mono) {
        self.phase = phase;
        self.since = now;
        self.next = now;
    }

    /// Returns increment (µA, on the grid) and spacing of the ramp to `envelope`.
    fn ramp(&self, step_ua: u32, envelope: Intensity) -> (u32, Duration) {
        let whole = self.cycle.ramp_up.max(RAMP_MIN);
        let step = step_ua.max(1);
        let largest = RAMP_INCREMENT_MAX_UA.checked_div(step).unwrap_or(0).max(1).saturating_mul(step);
        let mut increment = step;
        loop {
            let updates = envelope.magnitude().div_ceil(increment).max(1);
            let every_us = duration_micros(whole).div_ceil(u64::from(updates));
            let every = Duration::from_micros(every_us);
            if every >= RAMP_EVERY_MIN || increment >= largest {
                return (increment, every.max(RAMP_EVERY_MIN));
            }
            increment = increment.saturating_add(step);
        }
    }
}

/// Returns the setpoint of a linear fall from `envelope` to zero, on the grid, never above the present one.
pub(crate) fn falling(
    passed: Duration,
    whole: Duration,
    setpoint: Intensity,
    from: Intensity,
    step_ua: u32,
) -> Intensity {
    let left = duration_micros(whole.saturating_sub(passed));
    let goal =
        u64::from(from.magnitude()).saturating_mul(left).checked_div(duration_micros(whole)).unwrap_or(0);
    let goal = u32::try_from(goal).unwrap_or(u32::MAX);
    let step = step_ua.max(1);
    let on_grid = goal.checked_div(step).unwrap_or(0).saturating_mul(step);
    setpoint.with_magnitude(on_grid.min(setpoint.magnitude()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Milliamps;

    fn milliamps(ma: u32) -> Intensity {
        Intensity::Current(Milliamps::from_milliamps(ma))
    }

    fn ramp_time(envelope: Intensity, ramp_up: Duration) -> (Duration, u32, u32) {
        let cycle = Cycle {
            ramp_up,
            on: Duration::from_secs(5),
            ramp_down: Duration::from_secs(1),
            off: Duration::from_secs(5),
        };
        let start = Mono::from_millis(0);
        let mut program = Program { cycle, phase: Phase::Off, since: start, next: start };
        let (mut now, mut setpoint, mut largest) = (start, milliamps(0), 0);
        let mut began = None;
        for _ in 0..10_000 {
            now = now.max(program.deadline());
            if let Want::Set(next) = program.advance(now, 500, setpoint, envelope) {
                largest = largest.max(next.magnitude() - setpoint.magnitude());
                setpoint = next;
            }
            if program.phase == Phase::RampUp && began.is_none() {
                began = Some(program.since);
            }
            if program.phase == Phase::On {
                return (now.since(began.unwrap()), largest, setpoint.magnitude());
            }
        }
        panic!("the ramp never ended");
    }

    #[test]
    fn sr_06_a_40_ma_ramp_of_2_s_reaches_its_envelope_in_2_s_by_small_increments() {
        let (took, largest, reached) = ramp_time(milliamps(40), Duration::from_secs(2));
        assert_eq!(reached, 40_000);
        assert!(took >= Duration::from_secs(2) && took < Duration::from_millis(2_100), "{took:?}");
        assert!(largest <= 2_000);
    }

    proptest::proptest! {
        #[test]
        fn sr_06_a_program_ramp_is_never_shorter_than_asked_nor_coarser_than_2_ma(
            half_ma in 1u32..=200, ramp_ms in 0u64..5_000,
        ) {
            let envelope = Intensity::Current(Milliamps::from_microamps(half_ma * 500));
            let (took, largest, reached) = ramp_time(envelope, Duration::from_millis(ramp_ms));
            proptest::prop_assert_eq!(reached, envelope.magnitude());
            proptest::prop_assert!(took >= Duration::from_millis(ramp_ms.max(1_000)));
            proptest::prop_assert!(largest <= 2_000);
        }
    }
}
