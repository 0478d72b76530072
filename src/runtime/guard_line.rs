//! The daemon's end of its line to the guard process.
//!
//! What the governor wants said is said in the call that carries its outputs out: no queue, no task, no timer stands
//! between `advance` and the guard, so that a daemon that does not advance falls silent. Only what the guard answers has
//! a task, which turns it into inputs.
//!
//! Invariants: saying never waits; a line that is full or at its end means that nobody protects any more, and is told
//! like the guard's death.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::governor::{ForGuard, Input};
use crate::guard::link::{self, Answer, Said, Script, Way};
use crate::model::command::DeviceId;
use crate::model::packet::StopScript;
use crate::model::session::{Actor, StopReason};
use crate::runtime::handle::Lanes;

/// The guard opens a port first within this time; without it the unit is connected all the same and never armed.
const PORT_WITHIN: Duration = Duration::from_millis(300);

/// Where what the guard must know is said.
pub trait GuardLine: Send {
    /// Says it. Never waits. A guard of this process answers a `Hold` at once: whether it can stop the unit; a guard of
    /// its own process (`None`) answers by an input later.
    fn tell(&mut self, told: ForGuard, script: Option<&StopScript>) -> Option<bool>;

    /// Hands over the last hash of a sealed record.
    fn sealed(&mut self, hash: &str);
}

/// What a session needs of its guard.
pub struct Guarding {
    /// Whether it is there.
    pub(crate) present: watch::Receiver<bool>,
    pub(crate) line: Box<dyn GuardLine>,
    pub(crate) listener: Option<Listener>,
}

/// One unit as a person and the guard know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// What is written on it.
    pub label: String,
    /// What a person does when it cannot be stopped from here.
    pub by_hand: String,
    /// The way to it.
    pub way: Way,
}

/// The line that this process was started with.
#[derive(Clone, Debug)]
pub struct Inherited {
    socket: Arc<OwnedFd>,
    /// Per unit: how often the guard has opened its port.
    opened: Vec<Arc<watch::Sender<u64>>>,
}

/// Asks the guard to open a unit's port before this process does.
#[derive(Debug)]
pub struct PortFirst {
    socket: Arc<OwnedFd>,
    device: u8,
    path: PathBuf,
    opened: watch::Receiver<u64>,
}

/// Takes what the guard answers.
#[derive(Debug)]
pub(crate) struct Listener {
    inherited: Inherited,
    present: Arc<watch::Sender<bool>>,
}

/// A guard in this process that can reach every unit while it is there; for virtual time.
#[derive(Clone, Debug)]
struct Trusted(watch::Receiver<bool>);

/// The line to a guard of its own process.
struct Process {
    socket: Arc<OwnedFd>,
    clock: Clock,
    units: Vec<Handed>,
    present: Arc<watch::Sender<bool>>,
}

/// Returns who asks at the control socket: it asks nobody's name.
pub fn control_socket() -> Actor {
    Actor { person: "anyone".to_owned(), screen: "control socket".to_owned() }
}

impl Guarding {
    /// A guard in this process that can reach every unit while it is present.
    pub fn trusted(present: watch::Receiver<bool>) -> Self {
        Self { line: Box::new(Trusted(present.clone())), present, listener: None }
    }

    /// A guard behind a line of its own; whether it is there is told by `present`.
    pub fn by(line: Box<dyn GuardLine>, present: watch::Receiver<bool>) -> Self {
        Self { line, present, listener: None }
    }

    /// The guard that started this process. `session` and `freeze` are what it is told first.
    ///
    /// # Errors
    /// The line is dead.
    pub fn process(
        inherited: Inherited,
        clock: Clock,
        units: Vec<Handed>,
        (session, freeze): (&str, Duration),
    ) -> io::Result<Self> {
        let freeze_ms = u64::try_from(freeze.as_millis()).unwrap_or(u64::MAX);
        let labels = units.iter().map(|unit| unit.label.clone()).collect();
        let begins = Said::Session { id: session.to_owned(), freeze_ms, units: labels };
        link::send(inherited.socket.as_fd(), &begins)?;
        let (present, seen) = watch::channel(true);
        let present = Arc::new(present);
        let socket = Arc::clone(&inherited.socket);
        let line = Process { socket, clock, units, present: Arc::clone(&present) };
        Ok(Self { present: seen, line: Box::new(line), listener: Some(Listener { inherited, present }) })
    }

    /// Returns whether the guard is there, and when that changes.
    pub fn present(&self) -> watch::Receiver<bool> {
        self.present.clone()
    }
}

impl Inherited {
    /// Takes the line that is this process's standard input, for a session of `units`.
    ///
    /// # Errors
    /// Standard input is no line to a guard.
    pub fn take(units: usize) -> io::Result<Self> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        if rustix::net::sockopt::socket_type(&socket)? != rustix::net::SocketType::SEQPACKET {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "standard input is not the guard's line",
            ));
        }
        let opened = (0..units).map(|_| Arc::new(watch::Sender::new(0))).collect();
        Ok(Self { socket: Arc::new(socket), opened })
    }

    /// Returns what asks for a unit's port; `None`: there is no such unit.
    pub fn port_first(&self, device: DeviceId, path: PathBuf) -> Option<PortFirst> {
        let opened = self.opened.get(usize::from(device.0))?.subscribe();
        Some(PortFirst { socket: Arc::clone(&self.socket), device: device.0, path, opened })
    }
}

impl PortFirst {
    /// Asks, and waits for the answer or [`PORT_WITHIN`].
    pub(crate) async fn open(&mut self) {
        self.opened.borrow_and_update();
        let asked = Said::Port { device: self.device, path: self.path.clone() };
        let sent = link::send(self.socket.as_fd(), &asked);
        let answered = timeout(PORT_WITHIN, self.opened.changed()).await;
        if sent.is_err() || answered.is_err() {
            tracing::warn!(device = self.device, "the guard has not opened the port first");
        }
    }
}

impl GuardLine for Trusted {
    fn tell(&mut self, told: ForGuard, _script: Option<&StopScript>) -> Option<bool> {
        match told {
            ForGuard::Hold { .. } => Some(*self.0.borrow()),
            ForGuard::Armed { .. }
            | ForGuard::Lease { .. }
            | ForGuard::Stopping { .. }
            | ForGuard::Released { .. }
            | ForGuard::Beat
            | ForGuard::Leaving => None,
        }
    }

    fn sealed(&mut self, _hash: &str) {}
}

impl GuardLine for Process {
    fn tell(&mut self, told: ForGuard, script: Option<&StopScript>) -> Option<bool> {
        let said = match told {
            ForGuard::Hold { device } => {
                // A unit that cannot be described cannot be held.
                let (Some(unit), Some(script)) = (self.units.get(usize::from(device.0)), script) else {
                    return Some(false);
                };
                let Handed { label, by_hand, way } = unit.clone();
                Said::Hold { device: device.0, label, by_hand, way, script: Script::from(script) }
            }
            ForGuard::Armed { device } => Said::Armed { device: device.0 },
            ForGuard::Lease { device, until } => {
                Said::Lease { device: device.0, until_us: self.clock.monotonic_us(until) }
            }
            ForGuard::Stopping { device } => Said::Stopping { device: device.0 },
            ForGuard::Released { device, proven } => Said::Released { device: device.0, proven },
            ForGuard::Beat => Said::Beat,
            ForGuard::Leaving => Said::Leaving,
        };
        self.say(&said);
        None
    }

    fn sealed(&mut self, hash: &str) {
        self.say(&Said::Sealed { hash: hash.to_owned() });
    }
}

impl Process {
    fn say(&self, said: &Said) {
        if let Err(error) = link::send(self.socket.as_fd(), said) {
            tracing::error!(%error, "the guard does not hear: nobody protects");
            self.present.send_replace(false);
        }
    }
}

impl Listener {
    /// Runs until the guard is gone.
    pub(crate) async fn run(self, inputs: mpsc::Sender<Input>, lanes: Lanes) {
        let watched = self.inherited.socket.try_clone().and_then(link::watched);
        let ended = match watched {
            Ok(socket) => self.listen(&socket, &inputs, &lanes).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::error!(%error, "the guard is not understood");
        }
        self.present.send_replace(false);
    }

    async fn listen(
        &self,
        socket: &AsyncFd<OwnedFd>,
        inputs: &mpsc::Sender<Input>,
        lanes: &Lanes,
    ) -> io::Result<()> {
        loop {
            let mut ready = socket.readable().await?;
            match link::receive(socket.get_ref()) {
                Ok(None) => return Ok(()),
                Ok(Some(Answer::Port { device })) => {
                    if let Some(opened) = self.inherited.opened.get(usize::from(device)) {
                        opened.send_modify(|count| *count = count.saturating_add(1));
                    }
                }
                Ok(Some(Answer::Holds { device, why_not })) => {
                    if let Some(why) = &why_not {
                        tracing::warn!(device, why, "the guard cannot stop a unit");
                    }
                    let holds = Input::GuardHolds { device: DeviceId(device), holds: why_not.is_none() };
                    if inputs.send(holds).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(Some(Answer::StopAll)) => {
                    lanes.post_session(control_socket(), StopReason::EmergencyStop);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }
}
