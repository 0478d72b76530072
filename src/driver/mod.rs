//! What the bytes mean: commands to packets, packets to reports. Pure machines, one per unit.
//!
//! A driver accepts only `Cleared<Command>`; only drivers make packets. Its own deadline covers reply time-outs and
//! write spacing, the idle status query, and one thing more: at `until` without a new renewal it sends its stop by
//! itself. After `until` it sends nothing but stop and status queries that keep nothing alive (SR-48).
//!
//! ```text
//!             Connected            stop proven            Command(Prepare)          acknowledged
//!  (no link) ----------> stopping ------------> idle ----------------------> opening -----------> ready
//!      ^                    ^                                                                       |
//!      | Disconnected       +---------- Command(Stop), end of the epoch, `until` passed ------------+
//! ```
//!
//! Invariants, for every driver:
//! - a bound unit that (re)connects is told to stop before anything else;
//! - a `Set` of another epoch than the present one, or outside `ready`, gives no byte and `Report::Refused`;
//! - a stop is repeated by the family's rhythm until proven; `Report::Stop` says written, confirmed, unconfirmed
//!   (once, one second after it was asked), and confirmed still after that;
//! - unknown, damaged or replayed bytes are counted (`Report::Unintelligible`), never a sign of life, never a panic.

#[cfg(feature = "defects")]
pub mod defect;
pub mod frame;
pub mod profile;
pub mod sciencemode;

use crate::governor::Cleared;
use crate::model::command::{Command, Generation};
use crate::model::packet::{Packet, Received, StopScript};
use crate::model::report::Report;
use crate::units::Mono;

/// What the bytes mean. Synchronous, so it can be boxed.
pub trait Driver: Send {
    /// Advances to `now`, handles one input, appends packets and reports in order.
    fn advance(&mut self, now: Mono, input: DriverInput<'_>, out: &mut Vec<DriverOutput>);

    /// Returns when `advance` must next be called with `DriverInput::Tick`, if ever.
    fn deadline(&self) -> Option<Mono>;

    /// Returns the stop script; ready before the first command. The guard runs the same one.
    fn stop_script(&self) -> &StopScript;
}

/// What happened to a driver.
#[derive(Clone, Debug)]
pub enum DriverInput<'a> {
    /// The deadline came.
    Tick,
    /// The link is up (and, on BLE, discovered and subscribed). `generation`: the last stop asked of this unit.
    Connected {
        /// Reported back when the first stop is proven.
        generation: Generation,
    },
    /// The link is gone.
    Disconnected,
    /// The governor ordered.
    Command(Cleared<Command>),
    /// Output may go on until then.
    Renew {
        /// End of the lease.
        until: Mono,
    },
    /// Bytes came.
    Received(&'a Received),
    /// The writer is done with a packet.
    Sent {
        /// The packet's number.
        id: u32,
        /// What became of it.
        outcome: SendOutcome,
    },
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// Written; where the peer acknowledges writes, it has acknowledged this one.
    Written,
    /// Given to the system's stack, unanswered by the peer, whatever the packet asked for.
    Handed,
    /// Dropped unwritten, for it had expired.
    Late,
    /// The write failed or timed out; it may still arrive.
    Unknown,
    /// Refused at once, because another write is pending; it was not sent.
    Busy,
}

/// What a driver wants done, or knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverOutput {
    /// Write this.
    Send(Packet),
    /// Tell the governor.
    Report(Report),
}

#[cfg(test)]
pub(crate) mod testing {
    /// Number of random runs of each driver: 400, or half of what `DOSEWARD_CASES` says, for there are two.
    pub(crate) fn cases() -> u32 {
        let asked = std::env::var("DOSEWARD_CASES").ok().and_then(|text| text.parse::<u32>().ok());
        asked.map_or(400, |asked| asked.div_ceil(2))
    }
}
