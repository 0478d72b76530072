//! Simulated devices: they speak wire bytes at the far end of a link and keep the truth of what they delivered.
//!
//! Pure machines like drivers: time is an argument, randomness comes from a seed. They ship with the product: the
//! demo, training and the tests use the same ones. They share the frame codec with the drivers and nothing else.

pub mod link;
pub mod percussion;
pub mod stim;
pub mod world;

use std::time::Duration;

use crate::model::packet::Endpoint;
use crate::units::{Mono, duration_micros};

/// One simulated unit.
pub trait SimDevice: Send {
    /// Advances to `now` (integrating what was delivered), handles one input, appends what the unit sends.
    fn advance(&mut self, now: Mono, input: SimInput<'_>, out: &mut Vec<SimOutput>);

    /// Returns when `advance` must next be called with `SimInput::Tick`, if ever.
    fn deadline(&self) -> Option<Mono>;

    /// Returns what was really delivered up to the last `advance`, one entry per channel.
    fn truth(&self) -> Vec<Delivered>;
}

/// What happens to a simulated unit.
#[derive(Clone, Debug)]
pub enum SimInput<'a> {
    /// Its deadline came.
    Tick,
    /// A host connected.
    Connected,
    /// The host's link is gone (for a serial unit: the port closed).
    Disconnected,
    /// Bytes came from the host.
    Received {
        /// Characteristic or serial stream.
        endpoint: Endpoint,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// Something goes wrong, or someone does something to it.
    Event(SimEvent),
}

/// Faults and people. Times are from the moment of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimEvent {
    /// A pad comes off (`true`) or is put back on channel n.
    LeadOff(u8, bool),
    /// The unit stops answering and obeying but keeps its output (`true`), or recovers.
    Wedged(bool),
    /// The unit restarts: output zero, state forgotten.
    Reboot,
    /// Its own button: start at the lowest speed.
    ButtonStart,
    /// Its own button: stop.
    ButtonStop,
    /// Its own button: set this raw speed or level while running.
    ButtonSpeed(u16),
    /// The next `n` answers are lost.
    DropReplies(u8),
    /// Answers come this much later from now on.
    DelayReplies(Duration),
    /// The next `n` answers are damaged.
    CorruptReplies(u8),
    /// The next `n` answers come twice.
    DuplicateReplies(u8),
    /// The next `n` requests are not heard.
    DropRequests(u8),
    /// Set its charge, percent.
    Battery(u8),
    /// Press it this hard, in its own numbers.
    Force(u32),
}

/// What a simulated unit does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimOutput {
    /// Send bytes to the host after `delay`.
    Send {
        /// Characteristic or serial stream.
        endpoint: Endpoint,
        /// The bytes.
        bytes: Vec<u8>,
        /// From now.
        delay: Duration,
    },
}

/// What one channel has really delivered since the unit was made. Integrals, exact in the simulator's own arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Output, from 0.
    pub channel: u8,
    /// Time with output, µs.
    pub on_us: u64,
    /// Pulses given.
    pub pulses: u64,
    /// Charge of one polarity, pC.
    pub charge_pc: u64,
    /// Raw speed (or level) × µs.
    pub speed_us: u64,
    /// Output at this moment: µA, raw or level; 0 is none.
    pub present: u32,
    /// Highest output so far.
    pub highest: u32,
}

/// A small seeded generator (splitmix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// Makes the generator of a seed; equal seeds give equal numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    #[expect(clippy::should_implement_trait, reason = "an endless generator is no iterator to be collected")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to `n` − 1; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next().checked_rem(n).unwrap_or(0)
    }

    /// Returns true `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u16) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// Returns a span between `low` and `high`, to the microsecond.
    pub fn span(&mut self, low: Duration, high: Duration) -> Duration {
        let width = duration_micros(high.saturating_sub(low));
        low.saturating_add(Duration::from_micros(self.below(width.saturating_add(1))))
    }
}
