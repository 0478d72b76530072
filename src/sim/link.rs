//! A faulty link, and a simulated unit behind one. Pure: time is an argument, every fault comes from a seed.
//!
//! ```text
//!   host --write--> [up: delay, drop, ...] --> SimDevice --> [down: delay, drop, ...] --send--> host
//! ```
//!
//! Invariants:
//! - one seed and the same calls give the same faults, in the same order;
//! - an ordered link (serial) may lose, double or damage bytes but never reorders them;
//! - nothing crosses a link that is down, and what was on its way is lost when it goes down;
//! - the device's own time goes on whether or not the link is up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Delivered, Seeded, SimDevice, SimEvent, SimInput, SimOutput};
use crate::model::packet::Endpoint;
use crate::units::Mono;

/// Most messages on their way in one direction; a message beyond that is lost.
const IN_FLIGHT_MAX: usize = 512;

/// What a link does to messages, in both directions. The default is a perfect link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkFaults {
    /// Shortest time a message takes.
    pub delay_min: Duration,
    /// Longest time a message takes; a shorter one than `delay_min` counts as `delay_min`.
    pub delay_max: Duration,
    /// Messages lost, per thousand.
    pub drop_per_mille: u16,
    /// Messages that arrive twice, per thousand.
    pub duplicate_per_mille: u16,
    /// Messages with one bit flipped, per thousand.
    pub corrupt_per_mille: u16,
    /// Messages that may be overtaken, per thousand; no effect on an ordered link.
    pub reorder_per_mille: u16,
}

/// One message on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Characteristic or serial stream.
    pub endpoint: Endpoint,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How it was written.
    pub way: Way,
    /// The sender's number for it, if it wants to know of the arrival.
    pub tag: Option<u64>,
}

/// How a message was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// On a serial line.
    Line,
    /// With response: the peer acknowledges it.
    Request,
    /// Without response.
    Command,
    /// Without response, by a client that holds the characteristic alone (`AcquireWrite`).
    Acquired,
}

/// A message that came to the end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The message.
    pub message: Carried,
    /// The link acknowledged it, but the receiver never got it. Only of messages with a tag: a radio repeats by
    /// itself what its peer has not acknowledged.
    pub lost: bool,
}

/// One direction of a link.
#[derive(Clone, Debug)]
pub struct Link {
    faults: LinkFaults,
    ordered: bool,
    random: Seeded,
    queue: BTreeMap<(Mono, u64), Arrival>,
    count: u64,
    newest: Mono,
}

/// What crossed the link in one [`Unit::advance`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The link delivered a message of the host.
    Heard(Arrival),
    /// The device's bytes reached the host.
    Sent {
        /// Characteristic or serial stream.
        endpoint: Endpoint,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// A simulated unit behind its link.
pub struct Unit<D: SimDevice + ?Sized> {
    device: Box<D>,
    up: Link,
    down: Link,
    connected: bool,
    outputs: Vec<SimOutput>,
}

impl Link {
    /// Makes one direction. `ordered`: a serial line, which never reorders.
    pub fn new(faults: LinkFaults, ordered: bool, seed: u64) -> Self {
        Self {
            faults,
            ordered,
            random: Seeded::new(seed),
            queue: BTreeMap::new(),
            count: 0,
            newest: Mono::ORIGIN,
        }
    }

    /// Sends a message that leaves `after` from `now`; whether and when it arrives is up to the faults.
    pub fn push(&mut self, now: Mono, after: Duration, mut message: Carried) {
        if self.random.chance(self.faults.drop_per_mille) {
            if message.tag.is_some() {
                self.queue_one(now, after, message, true);
            }
            return;
        }
        if self.random.chance(self.faults.corrupt_per_mille) {
            self.corrupt(&mut message.bytes);
        }
        let twice = self.random.chance(self.faults.duplicate_per_mille);
        if twice {
            let copy = Carried { tag: None, ..message.clone() };
            self.queue_one(now, after, message, false);
            self.queue_one(now, after, copy, false);
        } else {
            self.queue_one(now, after, message, false);
        }
    }

    /// Takes the next message that has arrived by `now`.
    pub fn pop(&mut self, now: Mono) -> Option<Arrival> {
        let entry = self.queue.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// Returns when the next message arrives.
    pub fn deadline(&self) -> Option<Mono> {
        self.queue.first_key_value().map(|((due, _), _)| *due)
    }

    /// Loses everything on its way.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.newest = Mono::ORIGIN;
    }

    fn queue_one(&mut self, now: Mono, after: Duration, message: Carried, lost: bool) {
        if self.queue.len() >= IN_FLIGHT_MAX {
            return;
        }
        let travel = self.random.span(self.faults.delay_min, self.faults.delay_max);
        let due = now.saturating_add(after).saturating_add(travel);
        let overtakes = !self.ordered && self.random.chance(self.faults.reorder_per_mille);
        let due = if overtakes { due } else { due.max(self.newest) };
        self.newest = self.newest.max(due);
        self.count = self.count.saturating_add(1);
        self.queue.insert((due, self.count), Arrival { message, lost });
    }

    fn corrupt(&mut self, bytes: &mut [u8]) {
        let length = u64::try_from(bytes.len()).unwrap_or(0);
        let at = usize::try_from(self.random.below(length)).unwrap_or(0);
        let bit = u32::try_from(self.random.below(8)).unwrap_or(0);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1u8.checked_shl(bit).unwrap_or(1);
        }
    }
}

impl<D: SimDevice + ?Sized> Unit<D> {
    /// Puts a device behind a link. `ordered`: a serial line.
    pub fn new(device: Box<D>, faults: LinkFaults, ordered: bool, seed: u64) -> Self {
        let mut random = Seeded::new(seed);
        Self {
            device,
            up: Link::new(faults, ordered, random.next()),
            down: Link::new(faults, ordered, random.next()),
            connected: false,
            outputs: Vec::new(),
        }
    }

    /// Returns the device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Returns whether the link is up.
    pub const fn is_connected(&self) -> bool {
        self.connected
    }

    /// Brings the link up.
    pub fn connect(&mut self, now: Mono) {
        if !self.connected {
            self.connected = true;
            self.input(now, SimInput::Connected);
        }
    }

    /// Takes the link down; what was on its way is lost.
    pub fn disconnect(&mut self, now: Mono) {
        if self.connected {
            self.connected = false;
            self.up.clear();
            self.down.clear();
            self.input(now, SimInput::Disconnected);
        }
    }

    /// Sends host bytes towards the device, leaving `after` from `now`. Its arrival is a [`Moved::Heard`].
    pub fn write(&mut self, now: Mono, after: Duration, message: Carried) {
        if self.connected {
            self.up.push(now, after, message);
        }
    }

    /// Something happens to the device.
    pub fn event(&mut self, now: Mono, event: SimEvent) {
        self.input(now, SimInput::Event(event));
    }

    /// Advances device and link to `now`; returns what arrived at either end, in order.
    pub fn advance(&mut self, now: Mono) -> Vec<Moved> {
        let mut moved = Vec::new();
        if self.device.deadline().is_some_and(|due| due <= now) {
            self.input(now, SimInput::Tick);
        }
        while let Some(Arrival { message, lost }) = self.up.pop(now) {
            if !lost {
                self.input(now, SimInput::Received { endpoint: message.endpoint, bytes: &message.bytes });
            }
            moved.push(Moved::Heard(Arrival { message, lost }));
        }
        while let Some(Arrival { message, .. }) = self.down.pop(now) {
            moved.push(Moved::Sent { endpoint: message.endpoint, bytes: message.bytes });
        }
        moved
    }

    /// Returns when [`Self::advance`] must next be called, if ever.
    pub fn deadline(&self) -> Option<Mono> {
        [self.device.deadline(), self.up.deadline(), self.down.deadline()].into_iter().flatten().min()
    }

    /// Returns what the device has really delivered up to `now`.
    pub fn truth(&mut self, now: Mono) -> Vec<Delivered> {
        self.input(now, SimInput::Tick);
        self.device.truth()
    }

    fn input(&mut self, now: Mono, input: SimInput<'_>) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.device.advance(now, input, &mut outputs);
        for output in outputs.drain(..) {
            let SimOutput::Send { endpoint, bytes, delay } = output;
            if self.connected {
                self.down.push(now, delay, Carried { endpoint, bytes, way: Way::Line, tag: None });
            }
        }
        self.outputs = outputs;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u8) -> Carried {
        let tag = Some(u64::from(number));
        Carried { endpoint: Endpoint::Serial, bytes: vec![number; 4], way: Way::Line, tag }
    }

    fn rough() -> LinkFaults {
        LinkFaults {
            delay_min: Duration::from_millis(1),
            delay_max: Duration::from_millis(40),
            drop_per_mille: 100,
            duplicate_per_mille: 100,
            corrupt_per_mille: 100,
            reorder_per_mille: 500,
        }
    }

    /// Sends 200 messages a millisecond apart and returns what arrived, with the instant.
    fn carry(mut link: Link) -> Vec<(Mono, Carried)> {
        let mut arrived = Vec::new();
        for millis in 0..1000 {
            let now = Mono::from_millis(millis);
            if let Ok(number) = u8::try_from(millis) {
                link.push(now, Duration::ZERO, message(number));
            }
            while let Some(Arrival { message, lost }) = link.pop(now) {
                arrived.extend((!lost).then_some((now, message)));
            }
        }
        arrived
    }

    #[test]
    fn one_seed_gives_one_course_and_another_seed_another() {
        let first = carry(Link::new(rough(), false, 7));
        assert_eq!(first, carry(Link::new(rough(), false, 7)));
        assert_ne!(first, carry(Link::new(rough(), false, 8)));
    }

    #[test]
    fn every_fault_happens_and_most_messages_pass() {
        let arrived = carry(Link::new(rough(), false, 3));
        let tags: Vec<u64> = arrived.iter().filter_map(|(_, m)| m.tag).collect();
        let damaged = arrived.iter().filter(|(_, m)| m.bytes.windows(2).any(|w| w[0] != w[1])).count();
        let doubled = arrived.iter().filter(|(_, m)| m.tag.is_none()).count();
        assert!((190..256).contains(&tags.len()), "{} of 256 arrived", tags.len());
        assert!(damaged > 5 && doubled > 5, "{damaged} damaged, {doubled} doubled");
        assert!(!tags.is_sorted(), "nothing was overtaken");
    }

    #[test]
    fn an_ordered_link_never_reorders() {
        for seed in 0..50 {
            let tags: Vec<u64> =
                carry(Link::new(rough(), true, seed)).iter().filter_map(|(_, m)| m.tag).collect();
            assert!(tags.is_sorted(), "seed {seed}: {tags:?}");
        }
    }

    #[test]
    fn a_perfect_link_carries_everything_at_once() {
        let mut link = Link::new(LinkFaults::default(), true, 1);
        link.push(Mono::from_millis(5), Duration::ZERO, message(9));
        assert_eq!(link.deadline(), Some(Mono::from_millis(5)));
        assert_eq!(link.pop(Mono::from_millis(5)), Some(Arrival { message: message(9), lost: false }));
        assert_eq!(link.pop(Mono::from_millis(5)), None);
    }

    /// Answers each message with the same bytes, 3 ms later, and counts them.
    #[derive(Default)]
    struct Echo {
        heard: u64,
    }

    impl SimDevice for Echo {
        fn advance(&mut self, _now: Mono, input: SimInput<'_>, out: &mut Vec<SimOutput>) {
            if let SimInput::Received { endpoint, bytes } = input {
                self.heard += 1;
                let delay = Duration::from_millis(3);
                out.push(SimOutput::Send { endpoint, bytes: bytes.to_vec(), delay });
            }
        }

        fn deadline(&self) -> Option<Mono> {
            None
        }

        fn truth(&self) -> Vec<Delivered> {
            vec![Delivered { pulses: self.heard, ..Delivered::default() }]
        }
    }

    #[test]
    fn a_unit_answers_through_its_link_and_a_lost_link_loses_what_was_on_its_way() {
        let mut unit: Unit<dyn SimDevice> =
            Unit::new(Box::new(Echo::default()), LinkFaults::default(), true, 1);
        let (start, later) = (Mono::from_millis(10), Mono::from_millis(13));
        unit.write(start, Duration::ZERO, message(1));
        assert_eq!(unit.advance(later), vec![], "nothing crosses a link that is down");
        unit.connect(start);
        unit.write(start, Duration::ZERO, message(2));
        let heard = Arrival { message: message(2), lost: false };
        assert_eq!(unit.advance(start), vec![Moved::Heard(heard)]);
        assert_eq!(unit.deadline(), Some(later));
        assert_eq!(unit.advance(later), vec![Moved::Sent { endpoint: Endpoint::Serial, bytes: vec![2; 4] }]);
        unit.write(later, Duration::ZERO, message(3));
        unit.disconnect(later);
        unit.connect(later);
        assert_eq!(unit.advance(Mono::from_millis(99)), vec![]);
        assert_eq!(unit.truth(Mono::from_millis(99))[0].pulses, 1);
    }
}
