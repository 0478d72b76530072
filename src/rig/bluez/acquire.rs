//! Exclusive writing (`AcquireWrite`): a client gets a packet socket, and each packet is one command for the unit.
//!
//! It passes an unanswered write on the same characteristic and refuses everyone else's, which is what the product's
//! guard process relies on. It ends when the client closes its end, or with the link.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// What came over a packet socket.
#[derive(Debug)]
pub(super) struct Packet {
    /// The unit's index.
    pub(super) device: usize,
    /// The characteristic's path.
    pub(super) path: String,
    /// The bytes; `None`: the client closed its end.
    pub(super) bytes: Option<Vec<u8>>,
}

/// A characteristic held by one client; dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Hold {
    reader: AbortHandle,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Makes a packet socket whose packets go to `packets`; returns our hold and the client's end.
pub(super) fn acquire(
    device: usize,
    path: String,
    packets: mpsc::Sender<Packet>,
) -> io::Result<(Hold, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let ours = super::super::watch(ours)?;
    let reader = tokio::spawn(async move {
        loop {
            let bytes = read(&ours).await;
            let ended = bytes.is_none();
            if packets.send(Packet { device, path: path.clone(), bytes }).await.is_err() || ended {
                return;
            }
        }
    });
    Ok((Hold { reader: reader.abort_handle() }, theirs))
}

async fn read(socket: &AsyncFd<OwnedFd>) -> Option<Vec<u8>> {
    let mut buffer = [0; 512];
    let read = socket.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut buffer)?)).await;
    let count = read.ok().filter(|count| *count > 0)?;
    buffer.get(..count).map(<[u8]>::to_vec)
}
