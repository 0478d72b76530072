//! The line between the guard and its daemon: one packet socket, one message per packet, JSON inside.
//!
//! The daemon's end is its standard input. Its end of file is the end of the other process.
//!
//! Invariants: sending never waits (a full line is an error); a message that cannot be read is an error, never a guess;
//! nothing in a message is longer than `MESSAGE_MAX`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::model::packet::{Confirm, Endpoint, StopScript, StopStep, WriteKind};

/// Longest message, bytes.
const MESSAGE_MAX: usize = 16 * 1024;
/// What the daemon may have said unheard, bytes as the kernel counts them: some seconds of signs of life. More means that
/// the guard itself is frozen.
const UNHEARD_MAX: usize = 16 * 1024;

/// What the daemon says. Instants are µs of the system's monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Said {
    /// A session begins.
    Session {
        /// Its number in the record.
        id: String,
        /// Silence for this long while a unit is armed means that the daemon is frozen.
        freeze_ms: u64,
        /// Labels of the plan's units.
        units: Vec<String>,
    },
    /// Open this port first, before the daemon does.
    Port {
        /// Unit.
        device: u8,
        /// Its port.
        path: PathBuf,
    },
    /// Be ready to stop this unit.
    Hold {
        /// Unit.
        device: u8,
        /// What is written on it.
        label: String,
        /// What a person does when it cannot be stopped from here.
        by_hand: String,
        /// The way to it.
        way: Way,
        /// How to stop it.
        script: Script,
    },
    /// Its output may begin.
    Armed {
        /// Unit.
        device: u8,
    },
    /// Its output may go on until then.
    Lease {
        /// Unit.
        device: u8,
        /// End.
        until_us: u64,
    },
    /// It was ordered to zero.
    Stopping {
        /// Unit.
        device: u8,
    },
    /// Nothing has to be stopped there any more.
    Released {
        /// Unit.
        device: u8,
        /// By its own proof; else a person stated it.
        proven: bool,
    },
    /// Sign of life.
    Beat,
    /// The session is over: no sign of life follows, the daemon ends.
    Leaving,
    /// The session is sealed.
    Sealed {
        /// The record's last hash: keep it.
        hash: String,
    },
}

/// What the guard answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// To [`Said::Port`]: it is open here, or cannot be opened.
    Port {
        /// Unit.
        device: u8,
    },
    /// To [`Said::Hold`].
    Holds {
        /// Unit.
        device: u8,
        /// Why it cannot be stopped from here; `None`: it can.
        why_not: Option<String>,
    },
    /// Somebody asks for STOP ALL at the control socket.
    StopAll,
}

/// The way to a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Way {
    /// A serial port.
    Serial {
        /// Its path.
        path: PathBuf,
    },
    /// A Bluetooth unit.
    Bluetooth {
        /// Its address.
        address: String,
    },
}

/// A stop script as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    steps: Vec<Step>,
    cycle_ms: u64,
    resync: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// `None`: the serial stream.
    characteristic: Option<u128>,
    bytes: Vec<u8>,
    with_response: bool,
    wait_ms: u64,
    confirm: Option<Proof>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proof {
    characteristic: Option<u128>,
    at: usize,
    mask: Vec<u8>,
    value: Vec<u8>,
}

/// Makes the two ends of a line: the guard's, the daemon's.
///
/// # Errors
/// The system gives none.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (guard, daemon) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::sockopt::set_socket_send_buffer_size(&daemon, UNHEARD_MAX)?;
    Ok((guard, daemon))
}

/// Sends one message, or fails at once.
///
/// # Errors
/// The other end is gone or does not read.
pub fn send(line: impl AsFd, message: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message is too long"));
    }
    rustix::net::send(line, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// Takes one message off the line; `None`: the other end is gone.
///
/// # Errors
/// There is none yet (`WouldBlock`), or it cannot be read (`InvalidData`).
pub fn receive<T: DeserializeOwned>(line: impl AsFd) -> io::Result<Option<T>> {
    let mut buffer = vec![0; MESSAGE_MAX];
    let (count, _) = match rustix::net::recv(line, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
        Err(rustix::io::Errno::CONNRESET | rustix::io::Errno::PIPE) => return Ok(None),
        other => other?,
    };
    match buffer.get(..count) {
        None | Some([]) => Ok(None),
        Some(bytes) => Ok(Some(serde_json::from_slice(bytes)?)),
    }
}

/// Watches a descriptor for something to read.
///
/// # Errors
/// The system cannot watch it.
#[expect(
    deprecated,
    reason = "the other constructor is unsafe; an OwnedFd keeps its descriptor as long as it lives"
)]
pub fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

const fn characteristic(endpoint: Endpoint) -> Option<u128> {
    match endpoint {
        Endpoint::Serial => None,
        Endpoint::Characteristic(uuid) => Some(uuid),
    }
}

fn endpoint(characteristic: Option<u128>) -> Endpoint {
    characteristic.map_or(Endpoint::Serial, Endpoint::Characteristic)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl From<&StopScript> for Script {
    fn from(script: &StopScript) -> Self {
        let proof = |confirm: &Confirm| Proof {
            characteristic: characteristic(confirm.endpoint),
            at: confirm.at,
            mask: confirm.mask.clone(),
            value: confirm.value.clone(),
        };
        let steps = script.steps.iter().map(|step| Step {
            characteristic: characteristic(step.endpoint),
            bytes: step.bytes.clone(),
            with_response: step.write == WriteKind::WithResponse,
            wait_ms: millis(step.wait),
            confirm: step.confirm.as_ref().map(proof),
        });
        Self { steps: steps.collect(), cycle_ms: millis(script.cycle), resync: script.resync.clone() }
    }
}

impl From<Script> for StopScript {
    fn from(script: Script) -> Self {
        let confirm = |proof: Proof| Confirm {
            endpoint: endpoint(proof.characteristic),
            at: proof.at,
            mask: proof.mask,
            value: proof.value,
        };
        let steps = script.steps.into_iter().map(|step| StopStep {
            endpoint: endpoint(step.characteristic),
            bytes: step.bytes,
            write: if step.with_response { WriteKind::WithResponse } else { WriteKind::WithoutResponse },
            wait: Duration::from_millis(step.wait_ms),
            confirm: step.confirm.map(confirm),
        });
        Self { steps: steps.collect(), cycle: Duration::from_millis(script.cycle_ms), resync: script.resync }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_arrives_as_it_was_sent_and_the_end_of_the_other_side_is_seen() {
        let confirm = Confirm {
            endpoint: Endpoint::Characteristic(7 << 100),
            at: 3,
            mask: vec![0xFF, 0x0F],
            value: vec![1, 2],
        };
        let step = |endpoint, write, confirm| StopStep {
            endpoint,
            bytes: vec![0, 0xF0, 255],
            write,
            wait: Duration::from_millis(150),
            confirm,
        };
        let script = StopScript {
            steps: vec![
                step(Endpoint::Characteristic(u128::MAX), WriteKind::WithResponse, None),
                step(Endpoint::Serial, WriteKind::WithoutResponse, Some(confirm)),
            ],
            cycle: Duration::from_millis(500),
            resync: vec![0; 300],
        };
        let (guard, daemon) = pair().unwrap();
        let hold = Said::Hold {
            device: 1,
            label: "Gun 1".to_owned(),
            by_hand: "lift it off".to_owned(),
            way: Way::Bluetooth { address: "C0:FF:EE:00:00:01".to_owned() },
            script: Script::from(&script),
        };
        send(&daemon, &hold).unwrap();
        send(&daemon, &Said::Beat).unwrap();
        let Some(Said::Hold { script: arrived, .. }) = receive(&guard).unwrap() else {
            panic!("a hand-over")
        };
        assert_eq!(StopScript::from(arrived), script);
        assert_eq!(receive(&guard).unwrap(), Some(Said::Beat));
        assert_eq!(receive::<Said>(&guard).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        rustix::net::send(&daemon, b"{\"beat\":1}", SendFlags::empty()).unwrap();
        assert_eq!(receive::<Said>(&guard).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(daemon);
        assert_eq!(receive::<Said>(&guard).unwrap(), None);
    }

    #[test]
    fn a_line_that_nobody_reads_is_an_error_and_never_a_wait() {
        let (_guard, daemon) = pair().unwrap();
        let count = (0..200).take_while(|_| send(&daemon, &Said::Beat).is_ok()).count();
        assert!(
            (10..60).contains(&count),
            "{count} signs of life fit: the guard is noticed as frozen too late"
        );
        assert_eq!(send(&daemon, &Said::Beat).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
