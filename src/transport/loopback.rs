//! An in-memory link for virtual time: the host's end is a [`Transport`], the far end is driven by whoever plays the
//! unit. It never touches a socket, so a paused clock carries it.
//!
//! It keeps the rules of the real links that a test must not be spared: a write with response is answered only when
//! the far end says that the unit heard it, each write has its own deadline, a link that is lost mid-write leaves the
//! outcome unknown, and nothing of an earlier connection reaches a later one.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{LinkError, Sent, Transport, Ways};
use crate::model::packet::{Endpoint, Packet, Purpose, Received, WriteKind};

/// Longest wait for a connection, as on Bluetooth.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Longest wait for the acknowledgement of a write on Bluetooth.
const WRITE_WITHIN: Duration = Duration::from_millis(500);
/// The same for queries on Bluetooth, and for every write on a serial line.
const SHORT_WRITE_WITHIN: Duration = Duration::from_millis(250);
/// Most messages waiting for the host; more are lost.
const QUEUE: usize = 256;

/// Makes the two ends. `name` is shown in errors.
pub fn pair(name: &str) -> (Loopback, FarEnd) {
    let (to_far, from_host) = mpsc::channel(QUEUE);
    let host = Loopback { name: name.to_owned(), to_far, incoming: None, both: false, ways: Ways::default() };
    (host, FarEnd { from_host, to_host: None })
}

/// The host's end.
#[derive(Debug)]
pub struct Loopback {
    name: String,
    to_far: mpsc::Sender<Host>,
    incoming: Option<mpsc::Receiver<Received>>,
    /// The unit's characteristics offer both ways of writing.
    both: bool,
    ways: Ways,
}

/// The unit's end.
#[derive(Debug)]
pub struct FarEnd {
    from_host: mpsc::Receiver<Host>,
    to_host: Option<mpsc::Sender<Received>>,
}

/// What the host does, as the far end sees it.
#[derive(Debug)]
pub enum HostAct {
    /// The host wants to connect; call [`FarEnd::accept`] or drop it to refuse.
    Connect(Request),
    /// The host wrote.
    Write {
        /// Characteristic or serial stream.
        endpoint: Endpoint,
        /// The bytes.
        bytes: Vec<u8>,
        /// Answers the write; drop it to leave the write unanswered by the link.
        answer: Answer,
        /// Whether the host waits for the unit (a write with response) or only for the link.
        waits: bool,
    },
    /// The host closed the link.
    Disconnect,
}

/// A connection asked for.
#[derive(Debug)]
pub struct Request {
    to_host: mpsc::Sender<Received>,
    reply: oneshot::Sender<()>,
}

/// The answer to one write.
#[derive(Debug)]
pub struct Answer(oneshot::Sender<bool>);

#[derive(Debug)]
enum Host {
    Connect { to_host: mpsc::Sender<Received>, reply: oneshot::Sender<()> },
    Write { endpoint: Endpoint, bytes: Vec<u8>, reply: oneshot::Sender<bool>, waits: bool },
    Disconnect,
}

impl FarEnd {
    /// Waits for the host's next act; `None` when the host's end is gone for good. Cancel-safe.
    pub async fn next(&mut self) -> Option<HostAct> {
        Some(match self.from_host.recv().await? {
            Host::Connect { to_host, reply } => HostAct::Connect(Request { to_host, reply }),
            Host::Write { endpoint, bytes, reply, waits } => {
                HostAct::Write { endpoint, bytes, answer: Answer(reply), waits }
            }
            Host::Disconnect => {
                self.to_host = None;
                HostAct::Disconnect
            }
        })
    }

    /// Lets the host in; an earlier connection ends.
    pub fn accept(&mut self, request: Request) {
        self.to_host = request.reply.send(()).is_ok().then_some(request.to_host);
    }

    /// Sends bytes to the host; they are lost when the link is down or the host has stopped reading.
    pub fn send(&mut self, received: Received) {
        if let Some(to_host) = &self.to_host {
            // A full queue is a reader that is too slow: like a radio, the link keeps nothing for it.
            to_host.try_send(received).ok();
        }
    }

    /// Loses the link: the host's `receive` ends, and so do its writes.
    pub fn lose(&mut self) {
        self.to_host = None;
    }

    /// Returns whether a host is connected.
    pub const fn is_connected(&self) -> bool {
        self.to_host.is_some()
    }
}

impl Answer {
    /// The write was taken (and, with response, heard by the unit).
    pub fn taken(self) {
        self.0.send(true).ok();
    }

    /// The write was refused, because another one is pending.
    pub fn busy(self) {
        self.0.send(false).ok();
    }
}

impl Loopback {
    /// Lets the unit's characteristics offer both ways of writing; otherwise they offer what each packet asks for.
    #[must_use]
    pub fn offering_both(mut self) -> Self {
        self.both = true;
        self
    }

    fn gone(&self) -> LinkError {
        LinkError::Gone { endpoint: self.name.clone() }
    }

    fn not_connected(&self) -> LinkError {
        LinkError::NotConnected { endpoint: self.name.clone() }
    }

    fn late(&self, within: Duration) -> LinkError {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        LinkError::Timeout { endpoint: self.name.clone(), within_ms }
    }
}

impl Transport for Loopback {
    async fn connect(&mut self) -> Result<(), LinkError> {
        self.incoming = None;
        let (to_host, incoming) = mpsc::channel(QUEUE);
        let (reply, accepted) = oneshot::channel();
        self.to_far.send(Host::Connect { to_host, reply }).await.map_err(|_| self.gone())?;
        match timeout(CONNECT_WITHIN, accepted).await {
            Ok(Ok(())) => {
                self.incoming = Some(incoming);
                Ok(())
            }
            Ok(Err(_)) => Err(self.gone()),
            Err(_) => Err(self.late(CONNECT_WITHIN)),
        }
    }

    async fn send(&mut self, packet: &Packet) -> Result<Sent, LinkError> {
        let Some(incoming) = &self.incoming else {
            return Err(self.not_connected());
        };
        if incoming.is_closed() {
            return Err(self.gone());
        }
        let (radio, short) = match packet.endpoint() {
            Endpoint::Serial => (false, true),
            Endpoint::Characteristic(_) => (true, packet.purpose() == Purpose::Query),
        };
        let way = if self.both { self.ways.choose(packet) } else { packet.write() };
        let waits = radio && way == WriteKind::WithResponse;
        let (reply, answered) = oneshot::channel();
        let write = Host::Write { endpoint: packet.endpoint(), bytes: packet.bytes().to_vec(), reply, waits };
        let within = if short { SHORT_WRITE_WITHIN } else { WRITE_WITHIN };
        let written = timeout(within, async {
            self.to_far.send(write).await.map_err(|_| self.gone())?;
            answered.await.map_err(|_| self.gone())
        });
        match written.await {
            Ok(Ok(true)) if radio && !waits => Ok(Sent::Handed),
            Ok(Ok(true)) => Ok(Sent::Acknowledged),
            Ok(Ok(false)) => Err(LinkError::Busy { endpoint: self.name.clone() }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.late(within)),
        }
    }

    async fn receive(&mut self) -> Result<Received, LinkError> {
        let Some(incoming) = &mut self.incoming else {
            return Err(self.not_connected());
        };
        match incoming.recv().await {
            Some(received) => Ok(received),
            None => {
                self.incoming = None;
                Err(self.gone())
            }
        }
    }

    async fn disconnect(&mut self) {
        if self.incoming.take().is_some() {
            // The far end may be gone already, which is what was asked for.
            self.to_far.send(Host::Disconnect).await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: Endpoint = Endpoint::Characteristic(0xffe2);

    fn stop(endpoint: Endpoint) -> Packet {
        Packet::lasting(1, endpoint, vec![1, 2, 3], Purpose::Stop, WriteKind::WithResponse)
    }

    /// Connects the two ends; one test task plays both.
    async fn linked() -> (Loopback, FarEnd) {
        let (mut host, mut far) = pair("unit");
        let (connected, ()) = tokio::join!(host.connect(), async {
            let Some(HostAct::Connect(request)) = far.next().await else { panic!("a connect") };
            far.accept(request);
        });
        connected.unwrap();
        (host, far)
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_both_ways() {
        let (mut host, mut far) = linked().await;
        let packet = stop(COMMAND);
        let (sent, ()) = tokio::join!(host.send(&packet), async {
            let Some(HostAct::Write { endpoint, bytes, answer, waits }) = far.next().await else {
                panic!("a write")
            };
            assert_eq!((endpoint, bytes, waits), (COMMAND, vec![1, 2, 3], true));
            answer.taken();
        });
        sent.unwrap();
        let received = Received { endpoint: COMMAND, bytes: vec![9] };
        far.send(received.clone());
        assert_eq!(host.receive().await.unwrap(), received);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unanswered_write_ends_at_its_own_deadline() {
        let (mut host, mut far) = linked().await;
        for (endpoint, expected) in [(COMMAND, 500), (Endpoint::Serial, 250)] {
            let packet = stop(endpoint);
            let (sent, kept) = tokio::join!(host.send(&packet), far.next());
            assert!(matches!(sent, Err(LinkError::Timeout { within_ms, .. }) if within_ms == expected));
            drop(kept);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_link_ends_receive_and_send_and_a_new_one_starts_clean() {
        let (mut host, mut far) = linked().await;
        far.lose();
        assert!(matches!(host.receive().await, Err(LinkError::Gone { .. })));
        assert!(matches!(host.send(&stop(COMMAND)).await, Err(LinkError::NotConnected { .. })));
        far.send(Received { endpoint: COMMAND, bytes: vec![7] });
        let (connected, ()) = tokio::join!(host.connect(), async {
            let Some(HostAct::Connect(request)) = far.next().await else { panic!("a connect") };
            far.accept(request);
        });
        connected.unwrap();
        far.send(Received { endpoint: COMMAND, bytes: vec![8] });
        assert_eq!(host.receive().await.unwrap().bytes, vec![8], "nothing of the earlier connection");
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_far_end_refuses_and_an_absent_one_does_not_accept() {
        let (mut host, mut far) = linked().await;
        let packet = stop(COMMAND);
        let (sent, ()) = tokio::join!(host.send(&packet), async {
            let Some(HostAct::Write { answer, .. }) = far.next().await else { panic!("a write") };
            answer.busy();
        });
        assert!(matches!(sent, Err(LinkError::Busy { .. })));
        host.disconnect().await;
        assert!(matches!(far.next().await, Some(HostAct::Disconnect)));
        let (connected, kept) = tokio::join!(host.connect(), far.next());
        assert!(matches!(connected, Err(LinkError::Timeout { within_ms: 10_000, .. })));
        drop(kept);
    }
}
