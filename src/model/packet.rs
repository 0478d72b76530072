//! Bytes with an endpoint, a purpose and an expiry; and the stop script that outlives the daemon.
//!
//! Only drivers (and simulated devices) make a [`Packet`]; transports carry it without knowing what it means.

use std::time::Duration;

use crate::units::Mono;

/// Where bytes go to or come from on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// The one byte stream of a serial port.
    Serial,
    /// A GATT characteristic, by its 128-bit UUID.
    Characteristic(u128),
}

/// What a packet does to the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Zero. Never late, never queued behind anything.
    Stop,
    /// May give or keep up output. Carries an expiry.
    Output,
    /// Keeps output alive, or asks while output is on. Carries an expiry.
    KeepAlive,
    /// Asks or initialises; gives no output and keeps none alive.
    Query,
}

/// How a packet is written where the link offers a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// The peer acknowledges the write.
    WithResponse,
    /// It does not.
    WithoutResponse,
}

/// One frame to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    id: u32,
    endpoint: Endpoint,
    bytes: Vec<u8>,
    purpose: Purpose,
    write: WriteKind,
    valid_until: Option<Mono>,
}

impl Packet {
    /// Longest life of a packet that gives or keeps up output (design 3.2).
    pub const LIFE_MAX: Duration = Duration::from_millis(250);

    /// Makes a packet that never expires: a stop, or a query that keeps nothing alive.
    ///
    /// # Panics
    /// On a purpose that may give or keep up output: such a packet must expire.
    pub fn lasting(id: u32, endpoint: Endpoint, bytes: Vec<u8>, purpose: Purpose, write: WriteKind) -> Self {
        assert!(
            matches!(purpose, Purpose::Stop | Purpose::Query),
            "a packet that may give output must expire"
        );
        Self { id, endpoint, bytes, purpose, write, valid_until: None }
    }

    /// Makes a packet that a writer drops after `until`, or 250 ms after `now` when that is earlier.
    pub fn expiring(
        id: u32,
        endpoint: Endpoint,
        bytes: Vec<u8>,
        purpose: Purpose,
        write: WriteKind,
        (now, until): (Mono, Mono),
    ) -> Self {
        let valid_until = Some(until.min(now.saturating_add(Self::LIFE_MAX)));
        Self { id, endpoint, bytes, purpose, write, valid_until }
    }

    /// Returns the driver's number for this packet, echoed in `DriverInput::Sent`.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Returns where it goes.
    pub const fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Returns the frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns what it does.
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Returns how it is written.
    pub const fn write(&self) -> WriteKind {
        self.write
    }

    /// Returns whether a writer must drop it at `now`.
    pub fn is_late(&self, now: Mono) -> bool {
        self.valid_until.is_some_and(|until| now > until)
    }

    /// Returns when it expires, if ever.
    pub const fn valid_until(&self) -> Option<Mono> {
        self.valid_until
    }
}

/// Bytes that came from a unit. A serial chunk may be half a frame; that is the driver's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where they came from.
    pub endpoint: Endpoint,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// How to stop a unit without knowing its wire format: what the guard process is handed at arm (design 3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopScript {
    /// Steps in order.
    pub steps: Vec<StopStep>,
    /// The list again after this long, until confirmed.
    pub cycle: Duration,
    /// Bytes written once before the first step to end a half-written frame; empty where there is none.
    pub resync: Vec<u8>,
}

impl StopScript {
    /// Returns the steps as packets, numbered from `first`, each with the pause after it and what proves it.
    pub fn packets(&self, first: u32) -> Vec<(Packet, Duration, Option<Confirm>)> {
        let stop = |id, endpoint, bytes, write| Packet::lasting(id, endpoint, bytes, Purpose::Stop, write);
        let numbered = (first..).zip(&self.steps);
        numbered
            .map(|(id, step)| {
                let packet = stop(id, step.endpoint, step.bytes.clone(), step.write);
                (packet, step.wait, step.confirm.clone())
            })
            .collect()
    }

    /// Returns the packet that ends a half-written frame, where the wire format needs one.
    pub fn resync_packet(&self, id: u32) -> Option<Packet> {
        let step = self.steps.first().filter(|_| !self.resync.is_empty())?;
        Some(Packet::lasting(id, step.endpoint, self.resync.clone(), Purpose::Stop, step.write))
    }
}

impl Confirm {
    /// Returns whether these bytes prove the stop.
    pub fn proves(&self, received: &Received) -> bool {
        let Some(end) = self.at.checked_add(self.mask.len()) else {
            return false;
        };
        let Some(seen) = received.bytes.get(self.at..end) else {
            return false;
        };
        let masked = seen.iter().zip(&self.mask).map(|(byte, mask)| byte & mask);
        received.endpoint == self.endpoint && !self.mask.is_empty() && masked.eq(self.value.iter().copied())
    }
}

/// One step of a stop script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopStep {
    /// Where it goes.
    pub endpoint: Endpoint,
    /// The frame.
    pub bytes: Vec<u8>,
    /// How it is written.
    pub write: WriteKind,
    /// Pause before the next step.
    pub wait: Duration,
    /// What proves the stop; `None`: this step proves nothing.
    pub confirm: Option<Confirm>,
}

/// A reply that proves a stop: `reply[at..] & mask == value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// Where the reply comes from.
    pub endpoint: Endpoint,
    /// Offset of the first compared byte.
    pub at: usize,
    /// Mask, one byte per compared byte.
    pub mask: Vec<u8>,
    /// Value after masking.
    pub value: Vec<u8>,
}
