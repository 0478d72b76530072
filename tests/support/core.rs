//! The core under virtual time: governor, real drivers, simulated devices on a faulty link, a real record on disk, a
//! person with whims, and the truth file; all of it from one seed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use doseward::driver::{Driver, DriverInput, DriverOutput, SendOutcome};
use doseward::governor::{
    Act, AlarmOutput, Cleared, Entry, ForGuard, Governor, Input, Output, RecordHealth, Request, RequestId,
    Resolution, Seq, Settings, StepState,
};
use doseward::model::command::{DeviceId, Generation, Intensity};
use doseward::model::packet::{Endpoint, Packet, Purpose, Received, WriteKind};
use doseward::model::plan::Plan;
use doseward::model::session::{Discomfort, SessionId, StopReason};
use doseward::record::entry::{SessionHead, Stamp};
use doseward::record::journal::Journal;
use doseward::sim::{Delivered, Seeded, SimDevice, SimEvent, SimInput, SimOutput};
use doseward::units::Mono;

use super::bench::actor;

/// One unit of the world: the driver under test and the device at the far end.
pub struct Pair {
    pub label: String,
    pub driver: Box<dyn Driver>,
    pub device: Box<dyn SimDevice>,
    pub radio: bool,
}

/// A packet that was written.
#[derive(Clone, Debug)]
pub struct Written {
    pub at: Mono,
    pub unit: usize,
    pub purpose: Purpose,
    pub bytes: Vec<u8>,
}

struct Unit {
    pair: Pair,
    up: bool,
    /// Grows with every loss: what was under way is gone.
    link: u64,
    last_arrival: [Mono; 2],
    truth: Vec<Delivered>,
}

#[derive(Clone, Debug)]
enum Event {
    ToDevice { unit: usize, link: u64, endpoint: Endpoint, bytes: Vec<u8> },
    ToHost { unit: usize, link: u64, endpoint: Endpoint, bytes: Vec<u8> },
    Sent { unit: usize, link: u64, id: u32, outcome: SendOutcome },
    Disk,
    Beat,
    Person,
    Fault,
    TruthSecond,
    LinkBack(usize),
}

/// The world.
pub struct Core {
    pub governor: Governor,
    pub now: Mono,
    pub written: Vec<Written>,
    /// Each instant at which the record became durable up to a number.
    pub durable: Vec<(Mono, u64)>,
    pub entries: Vec<(Seq, Mono, Entry)>,
    pub faults: BTreeMap<&'static str, usize>,
    pub truth: String,
    units: Vec<Unit>,
    journal: Journal,
    appended: u64,
    disk_busy: bool,
    random: Seeded,
    queue: BTreeMap<(Mono, u64), Event>,
    ticket: u64,
    requests: u64,
    seen_operator: bool,
    attempts: BTreeMap<u8, u32>,
    undo: Vec<(Mono, usize, Option<SimEvent>)>,
    inbox: VecDeque<Input>,
    busy: bool,
    faulty: bool,
}

impl Core {
    /// A world from one seed; its record goes to `dir`.
    pub fn new(
        dir: &Path,
        plan: Plan,
        settings: Settings,
        pairs: Vec<Pair>,
        seed: u64,
        faulty: bool,
    ) -> Self {
        let mut journal = Journal::open(dir).expect("a fresh record");
        let id = SessionId::new(format!("00000000-0000-7000-8000-{seed:012x}"));
        let head = SessionHead::new(id, &plan, "0".repeat(64), "test".to_owned(), true);
        journal.begin(&head, stamp(Mono::ORIGIN)).expect("a session begins");
        let units = pairs
            .into_iter()
            .map(|pair| Unit { pair, up: false, link: 0, last_arrival: [Mono::ORIGIN; 2], truth: Vec::new() })
            .collect();
        Self {
            governor: Governor::new(plan, settings, Mono::ORIGIN),
            now: Mono::ORIGIN,
            written: Vec::new(),
            durable: Vec::new(),
            entries: Vec::new(),
            faults: BTreeMap::new(),
            truth: String::new(),
            units,
            journal,
            appended: 0,
            disk_busy: false,
            random: Seeded::new(seed),
            queue: BTreeMap::new(),
            ticket: 0,
            requests: 0,
            seen_operator: true,
            attempts: BTreeMap::new(),
            undo: Vec::new(),
            inbox: VecDeque::new(),
            busy: false,
            faulty,
        }
    }

    /// Runs the whole session, closes and seals it. Returns the truth file's path.
    pub fn run(&mut self, dir: &Path, span: Duration) -> PathBuf {
        self.input(Input::Guard { present: true });
        self.input(Input::ClockSane(true));
        self.input(Input::AlarmOutput(AlarmOutput::Logged));
        self.input(Input::Record(RecordHealth::Healthy));
        for unit in 0..self.units.len() {
            self.link(unit, true);
        }
        self.later(Duration::ZERO, Event::Beat);
        self.later(Duration::ZERO, Event::TruthSecond);
        self.later(Duration::from_millis(700), Event::Person);
        if self.faulty {
            let first = 3_000 + self.random.below(6_000);
            self.later(Duration::from_millis(first), Event::Fault);
        }
        let client = self.governor.plan().client.clone();
        self.act(Act::ReadBack { client });
        self.pass(span);
        self.input(Input::Stop { by: actor(), reason: StopReason::TherapistRequest });
        self.pass(Duration::from_secs(4));
        self.input(Input::Close);
        self.pass(Duration::from_secs(4));
        self.journal.commit().expect("the last entries");
        self.journal.seal(stamp(self.now)).expect("a sealed session");
        let path = dir.join("truth.jsonl");
        std::fs::write(&path, &self.truth).expect("a truth file");
        path
    }

    fn later(&mut self, delay: Duration, event: Event) {
        let at = self.now.saturating_add(delay);
        self.at(at, event);
    }

    fn at(&mut self, at: Mono, event: Event) {
        self.ticket += 1;
        self.queue.insert((at, self.ticket), event);
    }

    pub fn act(&mut self, act: Act) {
        self.requests += 1;
        let seen = self.governor.snapshot(self.now).version;
        let id = RequestId(self.requests);
        self.input(Input::Request(Request { id, by: actor(), seen, act }));
    }

    /// Gives the governor one input and carries out what it orders; what that brings up waits its turn.
    pub fn input(&mut self, input: Input) {
        self.inbox.push_back(input);
        if self.busy {
            return;
        }
        self.busy = true;
        while let Some(input) = self.inbox.pop_front() {
            let mut out = Vec::new();
            self.governor.advance(self.now, input, &mut out);
            for output in out {
                self.carry_out(output);
            }
        }
        self.busy = false;
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Stop { device, generation } => {
                self.driver(usize::from(device.0), DriverInput::Command(Cleared::stop(generation)));
            }
            Output::Drive { device, command } => {
                self.driver(usize::from(device.0), DriverInput::Command(command));
            }
            Output::Renew { device, until } => {
                self.driver(usize::from(device.0), DriverInput::Renew { until })
            }
            Output::Append { seq, at, entry } => {
                self.journal.append(stamp(at), seq, &entry).expect("an entry");
                self.appended = seq.0;
                self.entries.push((seq, at, entry));
                if !self.disk_busy {
                    self.disk_busy = true;
                    let slow = self.faulty && self.random.below(60) == 0;
                    let delay = if slow { 200 + self.random.below(500) } else { 1 + self.random.below(5) };
                    self.later(Duration::from_millis(delay), Event::Disk);
                }
            }
            Output::Progress(dose) => self.journal.progress(&dose).expect("a progress row"),
            Output::ProgressDone { device, channel } => {
                self.journal.progress_done(device, channel).expect("a progress row");
            }
            Output::Guard(ForGuard::Hold { device }) => {
                self.input(Input::GuardHolds { device, holds: true });
            }
            Output::Verdict { .. } | Output::Alarm { .. } | Output::Guard(_) => {}
        }
    }

    fn driver(&mut self, unit: usize, input: DriverInput<'_>) {
        let mut out = Vec::new();
        self.units[unit].pair.driver.advance(self.now, input, &mut out);
        for output in out {
            match output {
                DriverOutput::Send(packet) => self.send(unit, &packet),
                DriverOutput::Report(report) => {
                    let device = DeviceId(u8::try_from(unit).unwrap());
                    self.input(Input::Report { device, report });
                }
            }
        }
    }

    fn send(&mut self, unit: usize, packet: &Packet) {
        let (id, link) = (packet.id(), self.units[unit].link);
        if packet.is_late(self.now) {
            let outcome = SendOutcome::Late;
            self.later(Duration::ZERO, Event::Sent { unit, link, id, outcome });
            return;
        }
        if !self.units[unit].up {
            let outcome = SendOutcome::Unknown;
            self.later(Duration::from_millis(1), Event::Sent { unit, link, id, outcome });
            return;
        }
        let (at, purpose, bytes) = (self.now, packet.purpose(), packet.bytes().to_vec());
        self.written.push(Written { at, unit, purpose, bytes: bytes.clone() });
        let radio = self.units[unit].pair.radio;
        let delay = if radio { 4_000 + self.random.below(16_000) } else { 100 + self.random.below(1_500) };
        let arrival = self.ordered(unit, 0, Duration::from_micros(delay));
        self.at(arrival, Event::ToDevice { unit, link, endpoint: packet.endpoint(), bytes });
        let written = if radio && packet.write() == WriteKind::WithResponse {
            arrival.saturating_add(Duration::from_millis(8))
        } else {
            self.now.saturating_add(Duration::from_micros(50))
        };
        self.at(written, Event::Sent { unit, link, id, outcome: SendOutcome::Written });
    }

    /// Bytes of one direction never overtake each other.
    fn ordered(&mut self, unit: usize, direction: usize, delay: Duration) -> Mono {
        let at = self.now.saturating_add(delay);
        let last = &mut self.units[unit].last_arrival[direction];
        *last = (*last).max(at);
        *last
    }

    fn device(&mut self, unit: usize, input: SimInput<'_>) {
        let mut out = Vec::new();
        self.units[unit].pair.device.advance(self.now, input, &mut out);
        for SimOutput::Send { endpoint, bytes, delay } in out {
            let link = self.units[unit].link;
            let jitter =
                if self.units[unit].pair.radio { self.random.below(10_000) } else { self.random.below(800) };
            let arrival = self.ordered(unit, 1, delay + Duration::from_micros(100 + jitter));
            self.at(arrival, Event::ToHost { unit, link, endpoint, bytes });
        }
        let truth = self.units[unit].pair.device.truth();
        let before = std::mem::replace(&mut self.units[unit].truth, truth.clone());
        for given in truth {
            let was = before.iter().find(|old| old.channel == given.channel).map_or(0, |old| old.present);
            if (was == 0) != (given.present == 0) {
                self.truth_line(unit, &given);
            }
        }
    }

    fn truth_line(&mut self, unit: usize, given: &Delivered) {
        writeln!(
            self.truth,
            r#"{{"clock":"monotonic","t_us":{},"unit":"{}","channel":{},"on_us":{},"pulses":{},"charge_pc":{},"speed_us":{},"present":{},"highest":{}}}"#,
            self.now.micros(),
            self.units[unit].pair.label,
            given.channel,
            given.on_us,
            given.pulses,
            given.charge_pc,
            given.speed_us,
            given.present,
            given.highest,
        )
        .unwrap();
    }

    fn truth_second(&mut self) {
        for unit in 0..self.units.len() {
            self.device(unit, SimInput::Tick);
            for given in self.units[unit].truth.clone() {
                self.truth_line(unit, &given);
            }
        }
    }

    /// Lets time pass, firing everything in its order.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now.saturating_add(span);
        loop {
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let drivers =
                self.units.iter().enumerate().filter_map(|(n, u)| u.pair.driver.deadline().map(|at| (at, n)));
            let driver = drivers.min();
            let devices =
                self.units.iter().enumerate().filter_map(|(n, u)| u.pair.device.deadline().map(|at| (at, n)));
            let device = devices.min();
            let governor = self.governor.deadline();
            let due = [event, driver.map(|(at, _)| at), device.map(|(at, _)| at), governor];
            let Some(due) = due.into_iter().flatten().min().filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            if let Some((_, unit)) = device.filter(|(at, _)| *at <= due) {
                self.device(unit, SimInput::Tick);
            } else if event.is_some_and(|at| at <= due) {
                let (_, event) = self.queue.pop_first().unwrap();
                self.fire(event);
            } else if let Some((_, unit)) = driver.filter(|(at, _)| *at <= due) {
                self.driver(unit, DriverInput::Tick);
            } else {
                self.input(Input::Tick);
            }
        }
    }

    fn fire(&mut self, event: Event) {
        match event {
            Event::ToDevice { unit, link, endpoint, bytes } => {
                if self.units[unit].link == link && self.units[unit].up {
                    self.device(unit, SimInput::Received { endpoint, bytes: &bytes });
                }
            }
            Event::ToHost { unit, link, endpoint, bytes } => {
                if self.units[unit].link == link && self.units[unit].up {
                    self.driver(unit, DriverInput::Received(&Received { endpoint, bytes }));
                }
            }
            Event::Sent { unit, link, id, outcome } => {
                let outcome = if self.units[unit].link == link { outcome } else { SendOutcome::Unknown };
                self.driver(unit, DriverInput::Sent { id, outcome });
            }
            Event::Disk => {
                self.disk_busy = false;
                self.journal.commit().expect("the disk");
                let seq = Seq(self.appended);
                self.durable.push((self.now, seq.0));
                self.input(Input::Durable { seq });
            }
            Event::Beat => {
                if self.seen_operator {
                    self.input(Input::Heartbeat { issued: self.now });
                }
                self.later(Duration::from_millis(500), Event::Beat);
            }
            Event::Person => {
                self.person();
                let pause = 400 + self.random.below(400);
                self.later(Duration::from_millis(pause), Event::Person);
            }
            Event::Fault => {
                self.fault();
                let pause = 2_000 + self.random.below(8_000);
                self.later(Duration::from_millis(pause), Event::Fault);
            }
            Event::TruthSecond => {
                self.truth_second();
                self.later(Duration::from_secs(1), Event::TruthSecond);
            }
            Event::LinkBack(unit) => {
                if !self.units[unit].up {
                    self.link(unit, true);
                }
            }
        }
    }

    fn link(&mut self, unit: usize, up: bool) {
        self.units[unit].up = up;
        self.units[unit].link += 1;
        let device = DeviceId(u8::try_from(unit).unwrap());
        let generation: Generation = self.governor.generation(device);
        if up {
            self.device(unit, SimInput::Connected);
            self.input(Input::Link { device, up });
            self.driver(unit, DriverInput::Connected { generation });
        } else {
            self.device(unit, SimInput::Disconnected);
            self.driver(unit, DriverInput::Disconnected);
            self.input(Input::Link { device, up });
        }
    }

    fn fault(&mut self) {
        let unit = usize::try_from(self.random.below(self.units.len() as u64)).unwrap();
        let n = u8::try_from(1 + self.random.below(3)).unwrap();
        let radio = self.units[unit].pair.radio;
        let (name, event) = match self.random.below(13) {
            0 | 1 => {
                *self.faults.entry("link loss").or_default() += 1;
                self.link(unit, false);
                let back = 500 + self.random.below(6_000);
                self.later(Duration::from_millis(back), Event::LinkBack(unit));
                return;
            }
            2 => {
                *self.faults.entry("operator away").or_default() += 1;
                self.seen_operator = false;
                return;
            }
            3 => ("reboot", SimEvent::Reboot),
            4 => ("wedged", SimEvent::Wedged(true)),
            5 if radio => ("button stop", SimEvent::ButtonStop),
            6 if radio => ("button start", SimEvent::ButtonStart),
            7 if radio => {
                let speed = u16::try_from(1_000 + self.random.below(1_600)).unwrap();
                ("button speed", SimEvent::ButtonSpeed(speed))
            }
            5..=7 => ("lead off", SimEvent::LeadOff(u8::try_from(self.random.below(2)).unwrap(), true)),
            8 => ("answers lost", SimEvent::DropReplies(n)),
            9 => ("answers damaged", SimEvent::CorruptReplies(n)),
            10 => ("answers doubled", SimEvent::DuplicateReplies(n)),
            11 => ("requests lost", SimEvent::DropRequests(n)),
            _ => ("answers late", SimEvent::DelayReplies(Duration::from_millis(self.random.below(400)))),
        };
        *self.faults.entry(name).or_default() += 1;
        self.device(unit, SimInput::Event(event));
        let undo = match event {
            SimEvent::Wedged(true) => Some(SimEvent::Wedged(false)),
            SimEvent::LeadOff(channel, true) => Some(SimEvent::LeadOff(channel, false)),
            SimEvent::DelayReplies(_) => Some(SimEvent::DelayReplies(Duration::ZERO)),
            _ => None,
        };
        self.undo.push((
            self.now.saturating_add(Duration::from_millis(1_500 + self.random.below(4_000))),
            unit,
            undo,
        ));
    }

    /// What a person would do next, now and then on a whim.
    fn person(&mut self) {
        self.undo_due();
        if !self.seen_operator && self.random.below(8) == 0 {
            self.seen_operator = true;
        }
        let view = self.governor.snapshot(self.now);
        if let Some(open) = view.unresolved.first() {
            let (of, shown, reason) = (open.of.clone(), open.on, "asked by the test".to_owned());
            self.act(Act::Resolve(Resolution { of, shown, gave: shown.1, reason }));
        }
        if let Some(generation) = view.latched {
            self.act(Act::Reset { generation });
            return;
        }
        let next = view.steps.iter().find(|step| {
            step.state != StepState::Ended(StopReason::Completed)
                && self.attempts.get(&step.number).copied().unwrap_or(0) < 6
        });
        let Some(step) = next.cloned() else {
            return;
        };
        let number = step.number;
        match step.state {
            StepState::Waiting | StepState::Ended(_) => {
                self.act(Act::AcknowledgeAlarms);
                let before = self.entries.len();
                self.act(Act::Arm { step: number });
                if self.entries[before..].iter().any(|(_, _, entry)| matches!(entry, Entry::Armed { .. })) {
                    *self.attempts.entry(number).or_default() += 1;
                }
            }
            StepState::Armed => self.set(number, step.allowed),
            StepState::Running => match self.random.below(40) {
                0..=5 => self.set(number, step.allowed),
                6 => self.act(Act::Hold { step: number }),
                7 => {
                    let score = Discomfort::new(u8::try_from(self.random.below(11)).unwrap()).unwrap();
                    self.act(Act::Comfort { step: number, score });
                }
                8 => self.act(Act::StopStep { step: number }),
                9 => self.input(Input::Stop { by: actor(), reason: StopReason::EmergencyStop }),
                _ => {}
            },
            StepState::Held => self.act(Act::Resume { step: number }),
            StepState::Arming | StepState::Finishing => {}
        }
    }

    fn undo_due(&mut self) {
        let now = self.now;
        let due: Vec<_> = self.undo.iter().filter(|(at, _, _)| *at <= now).cloned().collect();
        self.undo.retain(|(at, _, _)| *at > now);
        for (_, unit, event) in due {
            if let Some(event) = event {
                self.device(unit, SimInput::Event(event));
            }
        }
    }

    fn set(&mut self, step: u8, allowed: Intensity) {
        let permille = u32::try_from(200 + self.random.below(1_000)).unwrap();
        let magnitude = (u64::from(allowed.magnitude()) * u64::from(permille) / 1_000) as u32;
        let intensity = allowed.with_magnitude(magnitude);
        self.act(Act::Set { step, intensity, reason: Some("asked by the test".to_owned()) });
    }
}

fn stamp(at: Mono) -> Stamp {
    let wall = jiff::Timestamp::from_microsecond(1_790_000_000_000_000 + i64::try_from(at.micros()).unwrap())
        .unwrap();
    Stamp { mono: at, wall }
}
