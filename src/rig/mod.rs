//! The simulators' process: simulated units at the far end of real transports, and the truth of what they delivered.
//!
//! Serial units sit behind pseudo-terminals, Bluetooth units behind a simulated `org.bluez` on a private D-Bus, so
//! that the product's own transports run against them unchanged. `pump` drives a unit over the in-memory loopback.
//!
//! Invariants:
//! - the rig knows nothing of sessions, limits or records: it speaks wire bytes and writes the truth file;
//! - a client that dies, hangs or sends nonsense changes nothing but its own link;
//! - the truth file is complete at every line: one line per channel and second, one at every change between none and
//!   some output, one at the end.

pub mod bluez;
pub mod devices;
pub mod process;
pub mod pty;
pub mod pump;
pub mod truth;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use tokio::io::unix::AsyncFd;

pub use process::{Options, Rig, run};

/// Why the simulators cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// A file, directory or terminal could not be made.
    #[error("cannot set up {what} ({path})")]
    Setup {
        /// What was being made.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The private bus could not be started.
    #[error("cannot start the private bus: {reason}")]
    Broker {
        /// The broker's words.
        reason: String,
    },
    /// The simulated Bluetooth daemon could not join the private bus.
    #[error("cannot join the private bus")]
    Bus(#[from] zbus::Error),
    /// A unit of the world cannot be simulated.
    #[error("cannot simulate {label}: {reason}")]
    Unit {
        /// Its label.
        label: String,
        /// Why.
        reason: String,
    },
    /// No unit has this label.
    #[error("there is no unit called `{label}`")]
    NoSuchUnit {
        /// The label.
        label: String,
    },
}

#[expect(
    deprecated,
    reason = "the other constructor is unsafe; an OwnedFd keeps its descriptor as long as it lives"
)]
fn watch(descriptor: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
}
