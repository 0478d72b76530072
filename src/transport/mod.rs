//! Bytes in, bytes out. A transport does not know what bytes mean.

pub mod ble;
pub mod loopback;
pub mod serial;

use std::collections::BTreeMap;
use std::future::Future;

use crate::model::packet::{Packet, Purpose, Received, WriteKind};

/// How bytes move. Asynchronous, so tasks are generic over it.
pub trait Transport: Send {
    /// Opens the link; on BLE also discovers and subscribes. Returns when the unit can be written to.
    ///
    /// # Errors
    /// The link could not be opened within the transport's own deadline.
    fn connect(&mut self) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// Writes one packet. Not cancel-safe: a cancelled write may have reached the unit.
    ///
    /// # Errors
    /// The write was refused, timed out or the link is gone; see [`LinkError`] for what that says of the unit.
    fn send(&mut self, packet: &Packet) -> impl Future<Output = Result<Sent, LinkError>> + Send;

    /// Waits for bytes. Cancel-safe.
    ///
    /// # Errors
    /// The link is gone; silence is not an error and does not end.
    fn receive(&mut self) -> impl Future<Output = Result<Received, LinkError>> + Send;

    /// Closes the link. Never a way to stop a unit.
    fn disconnect(&mut self) -> impl Future<Output = ()> + Send;
}

/// What a write that came through says of the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The peer acknowledged it; on a serial line: it is on the wire.
    Acknowledged,
    /// The system has it; the peer says nothing.
    Handed,
}

/// Chooses between two ways of writing where a characteristic offers both (transports 4 guard 3).
///
/// A write with response that the peer leaves unanswered refuses every other write to its characteristic, a stop too,
/// for up to 30 s. So what can go without a response does, and nothing is left pending. A stop goes both ways: first
/// without, so that it waits for nothing and a stuck answer to one frame cannot keep the next one away; the same
/// frame again with response, for a unit that heeds only those.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ways {
    /// Stop frames written since the last output, and whether the newest copy went with response.
    stops: BTreeMap<Vec<u8>, bool>,
}

impl Ways {
    /// Returns the way of a packet whose characteristic offers both.
    pub(crate) fn choose(&mut self, packet: &Packet) -> WriteKind {
        match packet.purpose() {
            Purpose::Stop => {
                let answered = self.stops.entry(packet.bytes().to_vec()).or_insert(true);
                *answered = !*answered;
                if *answered { WriteKind::WithResponse } else { WriteKind::WithoutResponse }
            }
            Purpose::Output => {
                self.stops.clear();
                WriteKind::WithoutResponse
            }
            Purpose::KeepAlive | Purpose::Query => WriteKind::WithoutResponse,
        }
    }
}

/// Why bytes did not move.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The unit is not there.
    #[error("{endpoint} is not there")]
    Gone {
        /// Path or address.
        endpoint: String,
    },
    /// The link is not up.
    #[error("{endpoint} is not connected")]
    NotConnected {
        /// Path or address.
        endpoint: String,
    },
    /// Another write is pending; this one was not sent.
    #[error("{endpoint} is busy with an earlier write")]
    Busy {
        /// Path or address.
        endpoint: String,
    },
    /// The peer or the system refused; it was not sent.
    #[error("{endpoint} refused: {reason}")]
    Refused {
        /// Path or address.
        endpoint: String,
        /// The system's words.
        reason: String,
    },
    /// Our own deadline passed; it may still arrive.
    #[error("{endpoint} did not answer within {within_ms} ms")]
    Timeout {
        /// Path or address.
        endpoint: String,
        /// The deadline.
        within_ms: u64,
    },
    /// The D-Bus connection is dead and will not heal: the process must be restarted.
    #[error("the system bus is gone")]
    BusDead,
    /// The unit is not what it should be (characteristics, properties).
    #[error("{endpoint} is not the expected kind of unit: {reason}")]
    Unexpected {
        /// Path or address.
        endpoint: String,
        /// What is missing.
        reason: String,
    },
    /// The port could not be used.
    #[error("{endpoint}: {source}")]
    Port {
        /// Path.
        endpoint: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::packet::Endpoint;
    use crate::units::Mono;

    #[test]
    fn nothing_but_a_repeated_stop_waits_for_a_response() {
        use WriteKind::{WithResponse, WithoutResponse};
        let mut ways = Ways::default();
        let endpoint = Endpoint::Characteristic(1);
        let lasting = |byte, purpose| Packet::lasting(1, endpoint, vec![byte], purpose, WithResponse);
        let now = Mono::ORIGIN;
        let set = Packet::expiring(1, endpoint, vec![9], Purpose::Output, WithResponse, (now, now));
        assert_eq!(ways.choose(&set), WithoutResponse);
        assert_eq!(ways.choose(&lasting(8, Purpose::Query)), WithoutResponse);
        let stops = [(0, WithoutResponse), (1, WithoutResponse), (0, WithResponse), (1, WithResponse)];
        for (byte, way) in stops.into_iter().chain(stops) {
            assert_eq!(ways.choose(&lasting(byte, Purpose::Stop)), way, "{byte}");
        }
        ways.choose(&lasting(0, Purpose::Stop));
        assert_eq!(ways.choose(&set), WithoutResponse);
        assert_eq!(ways.choose(&lasting(0, Purpose::Stop)), WithoutResponse, "a new stop");
    }
}
