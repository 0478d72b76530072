//! A serial unit behind a pseudo-terminal.
//!
//! The host opens a stable name (a symbolic link, like `/dev/serial/by-id`), so that it may be unplugged and plugged
//! in again. The rig holds the host's side open too: a host that closes and reopens the port, or dies, changes
//! nothing. Unplugging closes the terminal, which is the same hang-up that a USB adapter gives.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{Interval, interval, sleep_until};

use super::RigError;
use super::truth::Account;
use crate::clock::Clock;
use crate::model::packet::Endpoint;
use crate::sim::SimDevice;
use crate::sim::link::{Carried, Moved, Unit, Way};
use crate::sim::world::WorldEvent;
use crate::units::Mono;

/// How often the exclusive mark that a killed host leaves is cleared. On a real port the last close does that; here
/// the rig's own descriptor keeps the terminal open.
const CLEAR_EXCLUSIVE_EVERY: Duration = Duration::from_secs(1);

/// The link of a serial unit that hears anything, in the truth file.
const LINK: &str = "plugged";

/// A plugged-in port.
#[derive(Debug)]
pub struct Port {
    device_side: AsyncFd<OwnedFd>,
    host_side: OwnedFd,
    name: PathBuf,
}

/// A serial unit: its device, its port while plugged in, and what happens to it.
pub struct SerialUnit {
    unit: Unit<dyn SimDevice>,
    name: PathBuf,
    port: Option<Port>,
    clock: Clock,
    schedule: VecDeque<(Mono, WorldEvent)>,
    control: mpsc::Receiver<WorldEvent>,
    account: Account,
    clear: Interval,
}

impl Port {
    /// Makes a raw pseudo-terminal and gives its host side the stable `name`.
    ///
    /// # Errors
    /// The system has no terminal left, or the name cannot be made.
    pub fn plug(name: &Path) -> Result<Self, RigError> {
        let failed =
            |source: io::Error| RigError::Setup { what: "a pseudo-terminal", path: name.to_owned(), source };
        let (device_side, host_side, path) = open_terminal().map_err(|error| failed(error.into()))?;
        let device_side = super::watch(device_side).map_err(failed)?;
        match std::fs::remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        std::os::unix::fs::symlink(path, name).map_err(failed)?;
        Ok(Self { device_side, host_side, name: name.to_owned() })
    }

    /// Waits for bytes from the host. Cancel-safe.
    ///
    /// # Errors
    /// The terminal failed.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.device_side.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut *buffer)?)).await
    }

    /// Sends bytes to the host. What the terminal has no room for is lost, as on a line without flow control.
    pub fn write(&self, bytes: &[u8]) {
        if let Err(error) = rustix::io::write(self.device_side.get_ref(), bytes) {
            tracing::debug!(port = %self.name.display(), %error, "bytes for the host lost");
        }
    }
}

fn open_terminal() -> rustix::io::Result<(OwnedFd, OwnedFd, PathBuf)> {
    let device_side = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&device_side)?;
    rustix::pty::unlockpt(&device_side)?;
    let path = rustix::pty::ptsname(&device_side, Vec::new())?;
    let path = PathBuf::from(path.to_string_lossy().into_owned());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let host_side = rustix::fs::open(&path, flags, rustix::fs::Mode::empty())?;
    let mut settings = rustix::termios::tcgetattr(&host_side)?;
    settings.make_raw();
    rustix::termios::tcsetattr(&host_side, OptionalActions::Now, &settings)?;
    rustix::io::ioctl_fionbio(&device_side, true)?;
    Ok((device_side, host_side, path))
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.name) {
            tracing::debug!(port = %self.name.display(), %error, "name not removed");
        }
    }
}

impl SerialUnit {
    /// Plugs a unit in under `name`. `events` happen at their spans from the clock's present instant, ascending.
    ///
    /// # Errors
    /// The port could not be made.
    pub fn new(
        unit: Unit<dyn SimDevice>,
        name: PathBuf,
        clock: Clock,
        events: &[(Duration, WorldEvent)],
        control: mpsc::Receiver<WorldEvent>,
        account: Account,
    ) -> Result<Self, RigError> {
        let start = clock.now();
        let schedule = events.iter().map(|(at, event)| (start.saturating_add(*at), *event)).collect();
        let clear = interval(CLEAR_EXCLUSIVE_EVERY);
        let mut serial = Self { unit, name, port: None, clock, schedule, control, account, clear };
        serial.plug()?;
        Ok(serial)
    }

    /// Runs until the sender of its events is dropped; then writes the last truth.
    pub async fn run(mut self) {
        let mut buffer = [0; 4096];
        loop {
            let wake = self.clock.at(self.deadline());
            tokio::select! {
                biased;
                event = self.control.recv() => match event {
                    Some(event) => self.event(self.clock.now(), event),
                    None => break,
                },
                read = read(self.port.as_ref(), &mut buffer) => self.read(read, &buffer),
                _ = self.clear.tick() => self.clear_exclusive(),
                () = sleep_until(wake) => {}
            }
            self.advance(self.clock.now());
        }
        let now = self.clock.now();
        let truth = self.unit.truth(now);
        self.account.close(now, &truth);
    }

    fn deadline(&self) -> Mono {
        let event = self.schedule.front().map(|(due, _)| *due);
        let earliest = [self.unit.deadline(), event].into_iter().flatten().min();
        earliest.map_or(self.account.deadline(), |due| due.min(self.account.deadline()))
    }

    fn advance(&mut self, now: Mono) {
        while let Some((_, event)) = self.schedule.pop_front_if(|(due, _)| *due <= now) {
            self.event(now, event);
        }
        for moved in self.unit.advance(now) {
            match moved {
                Moved::Heard(arrival) => self.account.heard(now, &arrival, LINK),
                Moved::Sent { bytes, .. } => {
                    if let Some(port) = &self.port {
                        port.write(&bytes);
                    }
                }
            }
        }
        let truth = self.unit.truth(now);
        self.account.note(now, &truth);
    }

    fn read(&mut self, read: io::Result<usize>, buffer: &[u8]) {
        match read {
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                let message = Carried { endpoint: Endpoint::Serial, bytes, way: Way::Line, tag: None };
                self.unit.write(self.clock.now(), Duration::ZERO, message);
            }
            Err(error) => {
                tracing::warn!(port = %self.name.display(), %error, "terminal failed; unplugged");
                self.unplug(self.clock.now());
            }
        }
    }

    fn event(&mut self, now: Mono, event: WorldEvent) {
        match event {
            WorldEvent::Device(event) => self.unit.event(now, event),
            WorldEvent::LinkLoss(_) => self.unplug(now),
            WorldEvent::LinkBack => {
                if let Err(error) = self.plug() {
                    tracing::error!(%error, "not plugged in");
                }
            }
            // A serial unit has no radio.
            WorldEvent::Radio(_) => {}
        }
    }

    fn plug(&mut self) -> Result<(), RigError> {
        if self.port.is_none() {
            self.port = Some(Port::plug(&self.name)?);
            self.unit.connect(self.clock.now());
        }
        Ok(())
    }

    fn unplug(&mut self, now: Mono) {
        self.port = None;
        self.unit.disconnect(now);
    }

    fn clear_exclusive(&self) {
        if let Some(port) = &self.port
            && let Err(error) = rustix::termios::ioctl_tiocnxcl(&port.host_side)
        {
            tracing::debug!(%error, "exclusive mark not cleared");
        }
    }
}

async fn read(port: Option<&Port>, buffer: &mut [u8]) -> io::Result<usize> {
    match port {
        Some(port) => port.read(buffer).await,
        None => std::future::pending().await,
    }
}
