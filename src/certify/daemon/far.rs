//! The far end of a unit's link: the simulated device, the faults of both, and what the oracle sees of the bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep_until;

use super::{Common, lock};
use crate::governor::Input;
use crate::model::command::DeviceId;
use crate::model::packet::{Endpoint, Purpose, Received};
use crate::sim::{Delivered, Seeded, SimDevice, SimEvent, SimInput, SimOutput};
use crate::transport::loopback::{Answer, FarEnd, HostAct};
use crate::units::Mono;

/// Looks at a unit that is stopping.
const LOOK: Duration = Duration::from_millis(10);
/// How long after its end a fault may still show.
const AFTER: Duration = Duration::from_millis(2_500);

/// What is on its way, or will happen.
enum Due {
    ToDevice(Endpoint, Vec<u8>, Option<Answer>),
    ToHost(Received),
    Look,
    Fault,
    Well,
}

/// One unit's end.
pub(super) struct Far {
    unit: usize,
    radio: bool,
    device: Box<dyn SimDevice>,
    /// What a host reads when it connects.
    read: Option<Received>,
    end: Option<FarEnd>,
    common: Common,
    random: Seeded,
    queue: BTreeMap<(Mono, u64), Due>,
    ticket: u64,
    newest: [Mono; 2],
    /// Writes with response hang.
    stuck: bool,
    out_of_reach: bool,
    kept: Vec<Answer>,
    waiting: Option<crate::transport::loopback::Request>,
    looking: bool,
}

impl Far {
    pub(super) fn new(
        unit: usize,
        radio: bool,
        device: Box<dyn SimDevice>,
        read: Option<Received>,
        common: Common,
        seed: u64,
    ) -> Self {
        let mut far = Self {
            unit,
            radio,
            device,
            read,
            end: None,
            common,
            random: Seeded::new(seed),
            queue: BTreeMap::new(),
            ticket: 0,
            newest: [Mono::ORIGIN; 2],
            stuck: false,
            out_of_reach: false,
            kept: Vec::new(),
            waiting: None,
            looking: false,
        };
        far.next_fault();
        far
    }

    /// A daemon has a new end of the link.
    pub(super) fn meet(&mut self, end: FarEnd) {
        self.end = Some(end);
        self.device(SimInput::Disconnected);
        self.queue.retain(|_, due| matches!(due, Due::Fault | Due::Well));
        (self.kept, self.waiting) = (Vec::new(), None);
    }

    fn now(&self) -> Mono {
        lock(&self.common).now.now()
    }

    /// Runs until the daemon's end is dropped.
    pub(super) async fn run(&mut self) {
        let Some(mut end) = self.end.take() else {
            return;
        };
        loop {
            let due = [self.queue.first_key_value().map(|((at, _), _)| *at), self.device.deadline()];
            let due = due.into_iter().flatten().min();
            let at = due.map(|due| lock(&self.common).now.at(due));
            tokio::select! {
                biased;
                act = end.next() => match act {
                    Some(act) => self.act(&mut end, act),
                    None => return,
                },
                () = async { match at { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
            }
            self.catch_up(&mut end);
        }
    }

    fn catch_up(&mut self, end: &mut FarEnd) {
        let now = self.now();
        if self.device.deadline().is_some_and(|due| due <= now) {
            self.device(SimInput::Tick);
        }
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
            match self.queue.pop_first().map(|(_, due)| due) {
                Some(Due::ToDevice(endpoint, bytes, answer)) => {
                    self.device(SimInput::Received { endpoint, bytes: &bytes });
                    if let Some(answer) = answer {
                        answer.taken();
                    }
                }
                Some(Due::ToHost(received)) => end.send(received),
                Some(Due::Look) => {
                    self.looking = false;
                    self.device(SimInput::Tick);
                }
                Some(Due::Fault) => self.fault(end),
                Some(Due::Well) => self.well(end),
                None => {}
            }
        }
    }

    fn act(&mut self, end: &mut FarEnd, act: HostAct) {
        match act {
            HostAct::Connect(request) if self.out_of_reach => self.waiting = Some(request),
            HostAct::Connect(request) => self.accept(end, request),
            HostAct::Write { endpoint, bytes, answer, waits } => {
                let now = self.now();
                let mut shared = lock(&self.common);
                shared.say(|| format!("   unit {} -> {bytes:02x?}", self.unit));
                // What it is for is read from the bytes.
                shared.oracle.wire(now, self.unit, Purpose::Query, &bytes);
                drop(shared);
                if self.stuck && waits {
                    self.kept.push(answer);
                    return;
                }
                let micros = if self.radio {
                    4_000 + self.random.below(16_000)
                } else {
                    100 + self.random.below(1_500)
                };
                let answer = if waits {
                    Some(answer)
                } else {
                    answer.taken();
                    None
                };
                self.send(0, Duration::from_micros(micros), Due::ToDevice(endpoint, bytes, answer));
            }
            HostAct::Disconnect => self.lost(),
        }
    }

    fn accept(&mut self, end: &mut FarEnd, request: crate::transport::loopback::Request) {
        end.accept(request);
        self.tell_link(true);
        self.device(SimInput::Connected);
        if let Some(read) = self.read.clone() {
            self.send(1, Duration::from_millis(25), Due::ToHost(read));
        }
    }

    fn tell_link(&self, up: bool) {
        let device = DeviceId(u8::try_from(self.unit).unwrap_or(0));
        let mut shared = lock(&self.common);
        shared.input(&Input::Link { device, up });
        if up {
            // The session task answers for the guard when the link comes up.
            shared.input(&Input::GuardHolds { device, holds: true });
        }
    }

    fn lost(&mut self) {
        self.queue.retain(|_, due| matches!(due, Due::Fault | Due::Well | Due::Look));
        self.kept.clear();
        self.tell_link(false);
        self.device(SimInput::Disconnected);
    }

    /// Bytes of one direction never overtake each other.
    fn send(&mut self, direction: usize, delay: Duration, due: Due) {
        let mut at = self.now().saturating_add(delay);
        if let Some(newest) = self.newest.get_mut(direction) {
            at = at.max(*newest);
            *newest = at;
        }
        self.at(at, due);
    }

    fn at(&mut self, at: Mono, due: Due) {
        self.ticket += 1;
        self.queue.insert((at, self.ticket), due);
    }

    /// Looks at what the unit has given by now.
    pub(super) fn look(&mut self) {
        self.device(SimInput::Tick);
    }

    fn device(&mut self, input: SimInput<'_>) {
        let now = self.now();
        let mut out = Vec::new();
        self.device.advance(now, input, &mut out);
        let truth: Vec<Delivered> = self.device.truth();
        let common = Arc::clone(&self.common);
        let mut shared = lock(&common);
        shared.oracle.truth(now, self.unit, &truth, false);
        let stopping = shared.oracle.is_stopping(self.unit);
        drop(shared);
        for SimOutput::Send { endpoint, bytes, delay } in out {
            let jitter = if self.radio { self.random.below(10_000) } else { self.random.below(800) };
            let delay = delay.saturating_add(Duration::from_micros(100 + jitter));
            self.send(1, delay, Due::ToHost(Received { endpoint, bytes }));
        }
        if stopping && !self.looking {
            self.looking = true;
            self.at(now.saturating_add(LOOK), Due::Look);
        }
    }

    fn next_fault(&mut self) {
        let pause = self.random.span(Duration::from_secs(30), Duration::from_secs(400));
        let at = self.now().saturating_add(pause);
        self.at(at, Due::Fault);
    }

    fn fault(&mut self, end: &mut FarEnd) {
        let now = self.now();
        let lasts = self.random.span(Duration::from_millis(200), Duration::from_secs(6));
        let few = u8::try_from(1 + self.random.below(4)).unwrap_or(1);
        let (name, event) = match self.random.below(11) {
            0 => ("link: lost", None),
            1 => ("link: writes stuck", None),
            2 => ("device: wedged", Some(SimEvent::Wedged(true))),
            3 => ("device: reboot", Some(SimEvent::Reboot)),
            4 => ("device: answers lost", Some(SimEvent::DropReplies(few))),
            5 => ("device: requests lost", Some(SimEvent::DropRequests(few))),
            6 => ("device: answers damaged", Some(SimEvent::CorruptReplies(few))),
            7 => ("device: answers doubled", Some(SimEvent::DuplicateReplies(few))),
            8 if self.radio => ("device: own start", Some(SimEvent::ButtonStart)),
            9 if self.radio => ("device: own stop", Some(SimEvent::ButtonStop)),
            8 | 9 => ("device: lead off", Some(SimEvent::LeadOff(0, true))),
            _ => ("device: answers late", Some(SimEvent::DelayReplies(lasts / 15))),
        };
        let mut shared = lock(&self.common);
        shared.say(|| format!("FAULT {name} at unit {} for {lasts:?}", self.unit));
        shared.oracle.tally.fault(name);
        shared.oracle.fault(self.unit, now.saturating_add(lasts).saturating_add(AFTER));
        if matches!(event, Some(SimEvent::ButtonStart | SimEvent::ButtonStop)) {
            shared.oracle.hand(now, self.unit);
        }
        drop(shared);
        match (name, event) {
            (_, Some(event)) => self.device(SimInput::Event(event)),
            ("link: lost", None) => {
                self.out_of_reach = true;
                end.lose();
                self.lost();
            }
            (_, None) => self.stuck = true,
        }
        self.at(now.saturating_add(lasts), Due::Well);
        self.next_fault();
    }

    fn well(&mut self, end: &mut FarEnd) {
        (self.stuck, self.out_of_reach) = (false, false);
        self.kept.clear();
        let events = [SimEvent::Wedged(false), SimEvent::DelayReplies(Duration::ZERO)];
        for event in events {
            self.device(SimInput::Event(event));
        }
        if !self.radio {
            self.device(SimInput::Event(SimEvent::LeadOff(0, false)));
        }
        if let Some(request) = self.waiting.take() {
            self.accept(end, request);
        }
    }
}
