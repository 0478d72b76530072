//! The only file that reads a clock.
//!
//! It rides on tokio's `Instant`, so tests with a paused clock steer it. [`Clock::suspended`] notices that the machine
//! slept: boot time grew and monotonic time did not. Wall-clock steps change nothing here; wall time is for the record
//! and the screen only.

use std::time::Duration;

use crate::units::Mono;

/// The process's clock. Cheap to clone; every clone has one origin.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: tokio::time::Instant,
    origin_monotonic_us: u64,
    origin_asleep: Duration,
}

impl Clock {
    /// Starts a clock at [`Mono::ORIGIN`].
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn start() -> Self {
        Self {
            origin: tokio::time::Instant::now(),
            origin_monotonic_us: micros(rustix::time::ClockId::Monotonic),
            origin_asleep: asleep(),
        }
    }

    /// Returns the present instant.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn now(&self) -> Mono {
        let passed = tokio::time::Instant::now().saturating_duration_since(self.origin);
        Mono::ORIGIN.saturating_add(passed)
    }

    /// Returns the instant as tokio's timers take it.
    pub fn at(&self, mono: Mono) -> tokio::time::Instant {
        self.origin.checked_add(mono.since(Mono::ORIGIN)).unwrap_or(self.origin)
    }

    /// Returns the system's monotonic clock at the origin, µs: lets two processes of one machine compare instants.
    pub const fn origin_monotonic_us(&self) -> u64 {
        self.origin_monotonic_us
    }

    /// Returns `mono` on the system's monotonic clock, µs.
    pub fn monotonic_us(&self, mono: Mono) -> u64 {
        self.origin_monotonic_us.saturating_add(mono.micros())
    }

    /// Returns the system's time since boot, sleep included, µs.
    pub fn boot_us(&self) -> u64 {
        micros(rustix::time::ClockId::Boottime)
    }

    /// Returns an instant of the system's monotonic clock as this clock counts it; the origin when it lies before.
    pub const fn from_monotonic_us(&self, us: u64) -> Mono {
        Mono::from_micros(us.saturating_sub(self.origin_monotonic_us))
    }

    /// Returns how long the machine has slept since the clock was started.
    pub fn suspended(&self) -> Duration {
        asleep().saturating_sub(self.origin_asleep)
    }

    /// Returns the wall clock. For the record and the screen, never for a decision about a duration.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

/// Returns the time that all processors have spent on this process. For figures, never for a decision.
pub fn processors() -> Duration {
    Duration::from_micros(micros(rustix::time::ClockId::ProcessCPUTime))
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
