//! The only file that reads a clock.
//!
//! It rides on tokio's `Instant`, so tests with a paused clock steer it. The time that the machine slept counts: boot
//! time grew and monotonic time did not. A unit may have run on meanwhile, so spans of uncertain output and rests are
//! spans of boot time (SR-34), and every lease has ended when it wakes. Wall-clock steps change nothing here; wall time
//! is for the record and the screen only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::units::Mono;

/// The process's clock. Cheap to clone; every clone has one origin.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: tokio::time::Instant,
    origin_monotonic_us: u64,
    origin_asleep: Duration,
    /// How long the machine has slept since, µs; only grows.
    slept_us: Arc<AtomicU64>,
    /// How far the wall clock was set back, s.
    #[cfg(test)]
    set_back_s: Arc<AtomicU64>,
}

/// A shorter growth of boot time against monotonic time is the distance of two readings, not a sleep.
const SLEPT: Duration = Duration::from_millis(500);

impl Clock {
    /// Starts a clock at [`Mono::ORIGIN`].
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn start() -> Self {
        Self {
            origin: tokio::time::Instant::now(),
            origin_monotonic_us: micros(rustix::time::ClockId::Monotonic),
            origin_asleep: asleep(),
            slept_us: Arc::default(),
            #[cfg(test)]
            set_back_s: Arc::default(),
        }
    }

    /// Returns the present instant.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn now(&self) -> Mono {
        let passed = tokio::time::Instant::now().saturating_duration_since(self.origin);
        Mono::ORIGIN.saturating_add(passed).saturating_add(self.suspended())
    }

    /// Returns the instant as tokio's timers take it, which do not run while the machine sleeps.
    pub fn at(&self, mono: Mono) -> tokio::time::Instant {
        let awake = mono.since(Mono::ORIGIN).saturating_sub(self.suspended());
        self.origin.checked_add(awake).unwrap_or(self.origin)
    }

    /// Returns the system's monotonic clock at the origin, µs: lets two processes of one machine compare instants.
    pub const fn origin_monotonic_us(&self) -> u64 {
        self.origin_monotonic_us
    }

    /// Returns `mono` on the system's monotonic clock, µs.
    pub fn monotonic_us(&self, mono: Mono) -> u64 {
        self.origin_monotonic_us.saturating_add(mono.micros()).saturating_sub(micros_of(self.suspended()))
    }

    /// Returns the system's time since boot, sleep included, µs.
    pub fn boot_us(&self) -> u64 {
        micros(rustix::time::ClockId::Boottime)
    }

    /// Returns an instant of the system's monotonic clock as this clock counts it; the origin when it lies before.
    pub fn from_monotonic_us(&self, us: u64) -> Mono {
        Mono::from_micros(us.saturating_sub(self.origin_monotonic_us)).saturating_add(self.suspended())
    }

    /// Returns how long the machine has slept since the clock was started.
    pub fn suspended(&self) -> Duration {
        let known = Duration::from_micros(self.slept_us.load(Ordering::Relaxed));
        let seen = asleep().saturating_sub(self.origin_asleep);
        if seen < known.saturating_add(SLEPT) {
            return known;
        }
        self.slept_us.fetch_max(micros_of(seen), Ordering::Relaxed);
        seen
    }

    /// Lets the machine have slept for so long: the stand-in for a suspend.
    #[cfg(test)]
    pub(crate) fn sleep(&self, span: Duration) {
        self.slept_us.fetch_add(micros_of(span), Ordering::Relaxed);
    }

    /// Sets the wall clock so far behind: the stand-in for a step of it.
    #[cfg(test)]
    pub(crate) fn set_back(&self, span: Duration) {
        self.set_back_s.store(span.as_secs(), Ordering::Relaxed);
    }

    /// Returns the wall clock. For the record and the screen, never for a decision about a duration.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn wall(&self) -> jiff::Timestamp {
        let wall = jiff::Timestamp::now();
        #[cfg(test)]
        let wall =
            wall.checked_sub(Duration::from_secs(self.set_back_s.load(Ordering::Relaxed))).unwrap_or(wall);
        wall
    }
}

/// Returns the time that all processors have spent on this process. For figures, never for a decision.
pub fn processors() -> Duration {
    Duration::from_micros(micros(rustix::time::ClockId::ProcessCPUTime))
}

fn micros_of(span: Duration) -> u64 {
    crate::units::duration_micros(span)
}

fn asleep() -> Duration {
    let boot = micros(rustix::time::ClockId::Boottime);
    let awake = micros(rustix::time::ClockId::Monotonic);
    Duration::from_micros(boot.saturating_sub(awake))
}

fn micros(id: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SR-34: sleep counts as time, and instants still fit the timers and the clocks of other processes.
    #[tokio::test(start_paused = true)]
    async fn sr_34_time_asleep_counts_and_timers_run_on() {
        let clock = Clock::start();
        let second = Duration::from_secs(1);
        tokio::time::sleep(second).await;
        let other = clock.clone();
        clock.sleep(600 * second);
        assert_eq!(other.now(), Mono::from_millis(601_000), "every clone knows");
        let (awake, due) = (Clock::start(), clock.now().saturating_add(second));
        tokio::time::sleep_until(clock.at(due)).await;
        assert_eq!(awake.now(), Mono::from_millis(1000));
        assert_eq!(clock.now(), due);
        let us = clock.monotonic_us(clock.now());
        assert_eq!(us, clock.origin_monotonic_us() + 2_000_000, "monotonic time did not grow asleep");
        assert_eq!(clock.from_monotonic_us(us), clock.now());
    }
}
