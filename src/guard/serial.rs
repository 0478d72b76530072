//! A serial unit stopped through the guard's own port (transports 9.4, 9.5).
//!
//! The guard opens the port first, plainly; the daemon opens it by path, exclusively. A daemon that dies then causes no
//! hang-up, and its mark is taken off with `TIOCNXCL` before a new one comes.
//!
//! Invariants: nothing is read or written while a daemon lives; a half-written frame is ended before the first stop; a
//! proof counts only when its stop was written after the daemon was gone; a hung-up port is closed at once.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, QueueSelector, Termios};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::guard::link;
use crate::guard::scene::Scene;
use crate::model::packet::{Confirm, StopScript};

/// Pause before a write that found no room is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(5);
/// Pause between attempts to open a port that was unplugged.
const OPEN_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a unit that are searched for a proof.
const STREAM_MAX: usize = 4096;

/// A port of the guard's own.
#[derive(Debug)]
pub(super) struct Port {
    fd: OwnedFd,
    path: PathBuf,
    /// How the daemon had set the line.
    settings: Option<Termios>,
}

impl Port {
    /// Opens a port beside or before the daemon. Nothing is read or written.
    ///
    /// # Errors
    /// It is not there, not a serial port, or held by another program.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        rustix::termios::tcgetattr(&fd)?;
        Ok(Self { fd, path: path.to_owned(), settings: None })
    }

    /// Returns whether the port is still what its path names, and plugged in.
    pub(super) fn is_good(&self) -> bool {
        let mut polled = [PollFd::new(&self.fd, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let up = rustix::event::poll(&mut polled, Some(&now)).is_ok()
            && polled.iter().all(|port| !port.revents().intersects(PollFlags::HUP | PollFlags::ERR));
        let own = rustix::fs::fstat(&self.fd).map(|own| own.st_rdev);
        up && own.is_ok_and(|own| rustix::fs::stat(&self.path).is_ok_and(|named| named.st_rdev == own))
    }

    /// Remembers how the daemon has set the line, for a port that must be opened anew without one.
    pub(super) fn remember(&mut self) {
        self.settings = rustix::termios::tcgetattr(&self.fd).ok().or(self.settings.take());
    }

    /// Takes off the exclusive mark that a killed daemon has left.
    pub(super) fn let_in(&self) {
        if let Err(error) = rustix::termios::ioctl_tiocnxcl(&self.fd) {
            tracing::warn!(port = %self.path.display(), %error, "the exclusive mark is still there");
        }
    }

    /// Opens a path as soon as it is there.
    pub(super) async fn awaited(path: &Path) -> Self {
        loop {
            match Self::open(path) {
                Ok(port) => return port,
                Err(error) => tracing::debug!(port = %path.display(), %error, "not there yet"),
            }
            sleep(OPEN_PAUSE).await;
        }
    }

    /// Opens the same path again, set as before. Waits until it is there.
    async fn reopened(self) -> Self {
        let Self { fd, path, settings } = self;
        drop(fd);
        let mut port = Self::awaited(&path).await;
        if let Some(settings) = &settings
            && let Err(error) = rustix::termios::tcsetattr(&port.fd, OptionalActions::Now, settings)
        {
            tracing::warn!(port = %path.display(), %error, "the line is not set");
        }
        port.settings = settings;
        port
    }

    fn flush(&self, queue: QueueSelector) {
        if let Err(error) = rustix::termios::tcflush(&self.fd, queue) {
            tracing::debug!(port = %self.path.display(), %error, "not flushed");
        }
    }

    /// Writes everything in one go, in front of what waits.
    async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match rustix::io::write(&self.fd, bytes) {
                Ok(count) if count == bytes.len() => return Ok(()),
                // A part is a broken frame; the next write ends it.
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            sleep(FULL_PAUSE).await;
            self.flush(QueueSelector::OFlush);
        }
    }
}

/// Takes what a unit said into the stream.
async fn read(port: &AsyncFd<OwnedFd>, stream: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 512];
    let count = port.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut chunk)?)).await?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    stream.extend_from_slice(chunk.get(..count).unwrap_or_default());
    let old = stream.len().saturating_sub(STREAM_MAX);
    stream.drain(..old);
    Ok(())
}

/// Stops a unit until it has proven it. Returns the port.
pub(super) async fn stop(mut port: Port, device: u8, script: &StopScript, scene: &Scene) -> Port {
    let burst = burst(script);
    let mut reaped = scene.reaped();
    loop {
        match rounds(&port, device, (&burst, script), scene, &mut reaped).await {
            Ok(()) => return port,
            Err(error) => {
                tracing::warn!(port = %port.path.display(), %error, "the port is gone; it is opened anew");
                port = port.reopened().await;
            }
        }
    }
}

/// Writes the stop by its rhythm, and at once when the daemon is gone, until a reply proves it.
async fn rounds(
    port: &Port,
    device: u8,
    (burst, script): (&[u8], &StopScript),
    scene: &Scene,
    reaped: &mut watch::Receiver<bool>,
) -> io::Result<()> {
    // Only here: while a daemon lives, what the unit says must not even wake this process.
    let ready = link::watched(port.fd.try_clone()?)?;
    let mut counted = false;
    let mut stream = Vec::new();
    loop {
        let counts = *reaped.borrow_and_update();
        // What a daemon was still answered says nothing of this stop.
        port.flush(if counts == counted { QueueSelector::OFlush } else { QueueSelector::IOFlush });
        if counts != counted {
            stream.clear();
        }
        counted = counts;
        port.write(burst).await?;
        scene.stop_written(device);
        let listening = async {
            loop {
                read(&ready, &mut stream).await?;
                if counts
                    && script
                        .steps
                        .iter()
                        .filter_map(|step| step.confirm.as_ref())
                        .any(|it| shows(it, &stream))
                {
                    return Ok::<_, io::Error>(());
                }
            }
        };
        tokio::select! {
            biased;
            heard = timeout(script.cycle.max(FULL_PAUSE), listening) => if let Ok(heard) = heard {
                heard?;
                scene.confirmed(device);
                return Ok(());
            },
            gone = reaped.changed(), if !counts => drop(gone),
        }
    }
}

/// Returns what is written at once: the end of a half-written frame, and the steps up to the first pause.
fn burst(script: &StopScript) -> Vec<u8> {
    let mut bytes = script.resync.clone();
    for step in &script.steps {
        bytes.extend_from_slice(&step.bytes);
        if !step.wait.is_zero() {
            break;
        }
    }
    bytes
}

/// Returns whether a proof stands anywhere in a stream.
fn shows(confirm: &Confirm, stream: &[u8]) -> bool {
    let Some(length) = confirm.at.checked_add(confirm.mask.len()).filter(|_| !confirm.mask.is_empty()) else {
        return false;
    };
    stream.windows(length).any(|window| {
        let compared = window.iter().skip(confirm.at).zip(&confirm.mask);
        compared.map(|(byte, mask)| byte & mask).eq(confirm.value.iter().copied())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::packet::{Endpoint, StopStep, WriteKind};

    #[test]
    fn a_proof_is_found_anywhere_in_a_stream_and_only_whole() {
        let confirm =
            Confirm { endpoint: Endpoint::Serial, at: 1, mask: vec![0xFF, 0x0F], value: vec![7, 2] };
        assert!(shows(&confirm, &[1, 2, 3, 9, 7, 0xF2, 4]));
        assert!(!shows(&confirm, &[7, 0xF2]), "the byte before it is missing");
        assert!(!shows(&confirm, &[9, 7, 3, 9, 7]));
        let none = Confirm { mask: vec![], value: vec![], ..confirm };
        assert!(!shows(&none, &[9, 7, 2]), "an empty mask proves nothing");
    }

    #[test]
    fn the_first_write_ends_a_half_frame_and_holds_every_stop_up_to_the_first_pause() {
        let step = |byte, wait| StopStep {
            endpoint: Endpoint::Serial,
            bytes: vec![byte],
            write: WriteKind::WithoutResponse,
            wait: Duration::from_millis(wait),
            confirm: None,
        };
        let steps = vec![step(1, 0), step(2, 200), step(3, 0)];
        let script = StopScript { steps, cycle: Duration::ZERO, resync: vec![0, 0, 9] };
        assert_eq!(burst(&script), [0, 0, 9, 1, 2]);
    }
}
