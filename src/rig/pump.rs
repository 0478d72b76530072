//! A simulated unit at the far end of the in-memory loopback: the whole unit in virtual time, with no I/O at all.
//!
//! Of the Bluetooth faults it plays those that change what a host may believe: writes that are slow or never answered
//! (one characteristic then refuses further writes, and the link is lost after 30 s, as with the real protocol).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::clock::Clock;
use crate::model::packet::{Endpoint, Received};
use crate::sim::link::{Carried, Moved, Unit, Way};
use crate::sim::world::{RadioEvent, WorldEvent};
use crate::sim::{Delivered, SimDevice};
use crate::transport::loopback::{Answer, FarEnd, HostAct, Request};
use crate::units::Mono;

/// Writes with response that may be unanswered at once: one per characteristic, and no unit has this many.
const PENDING_MAX: usize = 16;
/// A write unanswered for this long ends the link (attribute protocol, transaction time-out).
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A unit, its end of the loopback, and what happens to it.
pub struct Pump {
    unit: Unit<dyn SimDevice>,
    far: FarEnd,
    clock: Clock,
    schedule: VecDeque<(Mono, WorldEvent)>,
    control: Option<mpsc::Receiver<WorldEvent>>,
    in_reach: bool,
    waiting: Option<Request>,
    pending: BTreeMap<u64, Pending>,
    tags: u64,
    writes: Writes,
}

struct Pending {
    endpoint: Endpoint,
    answer: Answer,
    until: Mono,
}

/// How writes with response go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writes {
    Answered(Duration),
    Silent,
}

impl Pump {
    /// Joins a unit to its end. `events` happen at their spans from the clock's present instant, ascending.
    pub fn new(
        unit: Unit<dyn SimDevice>,
        far: FarEnd,
        clock: Clock,
        events: &[(Duration, WorldEvent)],
        control: Option<mpsc::Receiver<WorldEvent>>,
    ) -> Self {
        let start = clock.now();
        let schedule = events.iter().map(|(at, event)| (start.saturating_add(*at), *event)).collect();
        Self {
            unit,
            far,
            clock,
            schedule,
            control,
            in_reach: true,
            waiting: None,
            pending: BTreeMap::new(),
            tags: 0,
            writes: Writes::Answered(Duration::ZERO),
        }
    }

    /// Runs until the host's end is dropped; returns what the unit really delivered.
    pub async fn run(mut self) -> Vec<Delivered> {
        loop {
            let wake = self.deadline().map(|due| self.clock.at(due));
            tokio::select! {
                biased;
                event = next_event(&mut self.control) => match event {
                    Some(event) => self.event(self.clock.now(), event),
                    None => self.control = None,
                },
                act = self.far.next() => match act {
                    Some(act) => self.act(self.clock.now(), act),
                    None => return self.unit.truth(self.clock.now()),
                },
                () = sleep_to(wake) => {}
            }
            self.advance(self.clock.now());
        }
    }

    fn deadline(&self) -> Option<Mono> {
        let event = self.schedule.front().map(|(due, _)| *due);
        let answer = self.pending.values().map(|pending| pending.until).min();
        [self.unit.deadline(), event, answer].into_iter().flatten().min()
    }

    fn advance(&mut self, now: Mono) {
        while let Some((_, event)) = self.schedule.pop_front_if(|(due, _)| *due <= now) {
            self.event(now, event);
        }
        for moved in self.unit.advance(now) {
            match moved {
                Moved::Heard(arrival) => {
                    let tag = arrival.message.tag;
                    if let Some(pending) = tag.and_then(|tag| self.pending.remove(&tag)) {
                        pending.answer.taken();
                    }
                }
                Moved::Sent { endpoint, bytes } => self.far.send(Received { endpoint, bytes }),
            }
        }
        if self.pending.values().any(|pending| pending.until <= now) {
            self.lose(now);
        }
    }

    fn act(&mut self, now: Mono, act: HostAct) {
        match act {
            HostAct::Connect(request) if self.in_reach => {
                self.unit.disconnect(now);
                self.far.accept(request);
                self.unit.connect(now);
            }
            HostAct::Connect(request) => self.waiting = Some(request),
            HostAct::Write { endpoint, bytes, answer, waits } => {
                let way = if waits { Way::Request } else { Way::Command };
                self.write(now, Carried { endpoint, bytes, way, tag: None }, answer, waits);
            }
            HostAct::Disconnect => {
                self.pending.clear();
                self.unit.disconnect(now);
            }
        }
    }

    fn write(&mut self, now: Mono, mut message: Carried, answer: Answer, waits: bool) {
        if !self.unit.is_connected() {
            return;
        }
        let busy = self.pending.values().any(|pending| pending.endpoint == message.endpoint);
        if busy || self.pending.len() >= PENDING_MAX {
            answer.busy();
            return;
        }
        if !waits {
            answer.taken();
            self.unit.write(now, Duration::ZERO, message);
            return;
        }
        self.tags = self.tags.saturating_add(1);
        message.tag = Some(self.tags);
        let until = now.saturating_add(ANSWER_WITHIN);
        self.pending.insert(self.tags, Pending { endpoint: message.endpoint, answer, until });
        if let Writes::Answered(after) = self.writes {
            self.unit.write(now, after, message);
        }
    }

    fn event(&mut self, now: Mono, event: WorldEvent) {
        match event {
            WorldEvent::Device(event) => self.unit.event(now, event),
            WorldEvent::LinkLoss(_) => {
                self.in_reach = false;
                self.lose(now);
            }
            WorldEvent::LinkBack => {
                self.in_reach = true;
                if let Some(request) = self.waiting.take() {
                    self.act(now, HostAct::Connect(request));
                }
            }
            WorldEvent::Radio(RadioEvent::WriteSilent) => self.writes = Writes::Silent,
            WorldEvent::Radio(RadioEvent::WriteSlow(after)) => self.writes = Writes::Answered(after),
            WorldEvent::Radio(RadioEvent::Well) => self.writes = Writes::Answered(Duration::ZERO),
            // There is no Bluetooth daemon here.
            WorldEvent::Radio(_) => {}
        }
    }

    fn lose(&mut self, now: Mono) {
        self.far.lose();
        self.pending.clear();
        self.unit.disconnect(now);
    }
}

async fn next_event(control: &mut Option<mpsc::Receiver<WorldEvent>>) -> Option<WorldEvent> {
    match control {
        Some(control) => control.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep_to(wake: Option<tokio::time::Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::packet::{Packet, Purpose, WriteKind};
    use crate::sim::link::LinkFaults;
    use crate::sim::{SimInput, SimOutput};
    use crate::transport::{LinkError, Transport, loopback};

    const COMMAND: Endpoint = Endpoint::Characteristic(0xffe2);

    /// Answers each message after 40 ms and counts them.
    #[derive(Default)]
    struct Echo {
        heard: u64,
    }

    impl SimDevice for Echo {
        fn advance(&mut self, _now: Mono, input: SimInput<'_>, out: &mut Vec<SimOutput>) {
            if let SimInput::Received { endpoint, bytes } = input {
                self.heard += 1;
                let delay = Duration::from_millis(40);
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

    /// Runs `host` against an echoing unit; returns how many messages the unit heard.
    async fn against<F: AsyncFnOnce(loopback::Loopback)>(events: &[(u64, &str)], host: F) -> u64 {
        let (near, far) = loopback::pair("unit");
        let events: Vec<(Duration, WorldEvent)> =
            events.iter().map(|(at, text)| (Duration::from_millis(*at), text.parse().unwrap())).collect();
        let echo: Box<dyn SimDevice> = Box::new(Echo::default());
        let unit = Unit::new(echo, LinkFaults::default(), false, 1);
        let pump = Pump::new(unit, far, Clock::start(), &events, None);
        let (truth, ()) = tokio::join!(pump.run(), host(near));
        truth[0].pulses
    }

    fn stop(write: WriteKind) -> Packet {
        Packet::lasting(1, COMMAND, vec![0xaa], Purpose::Stop, write)
    }

    #[tokio::test(start_paused = true)]
    async fn a_unit_answers_in_virtual_time() {
        let heard = against(&[], async |mut host: loopback::Loopback| {
            host.connect().await.unwrap();
            host.send(&stop(WriteKind::WithResponse)).await.unwrap();
            assert_eq!(host.receive().await.unwrap().bytes, vec![0xaa]);
        })
        .await;
        assert_eq!(heard, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_without_answer_blocks_its_characteristic_until_the_link_is_lost() {
        let heard = against(&[(0, "write-silent")], async |mut host: loopback::Loopback| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            host.connect().await.unwrap();
            let packet = stop(WriteKind::WithResponse);
            assert!(matches!(host.send(&packet).await, Err(LinkError::Timeout { .. })));
            assert!(matches!(host.send(&packet).await, Err(LinkError::Busy { .. })));
            let command = stop(WriteKind::WithoutResponse);
            assert!(matches!(host.send(&command).await, Err(LinkError::Busy { .. })));
            assert!(matches!(host.receive().await, Err(LinkError::Gone { .. })));
        })
        .await;
        assert_eq!(heard, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_link_ends_at_its_time_and_a_waiting_connect_succeeds_when_it_is_back() {
        let heard =
            against(&[(100, "link-loss"), (4000, "link-back")], async |mut host: loopback::Loopback| {
                let clock = Clock::start();
                host.connect().await.unwrap();
                assert!(matches!(host.receive().await, Err(LinkError::Gone { .. })));
                assert_eq!(clock.now(), Mono::from_millis(100));
                host.connect().await.unwrap();
                assert_eq!(clock.now(), Mono::from_millis(4000));
                host.send(&stop(WriteKind::WithResponse)).await.unwrap();
            })
            .await;
        assert_eq!(heard, 1);
    }
}
