//! Bytes in, bytes out. A transport does not know what bytes mean.

pub mod ble;
pub mod loopback;
pub mod serial;

use std::future::Future;

use crate::model::packet::{Packet, Received};

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
    fn send(&mut self, packet: &Packet) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// Waits for bytes. Cancel-safe.
    ///
    /// # Errors
    /// The link is gone; silence is not an error and does not end.
    fn receive(&mut self) -> impl Future<Output = Result<Received, LinkError>> + Send;

    /// Closes the link. Never a way to stop a unit.
    fn disconnect(&mut self) -> impl Future<Output = ()> + Send;
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
