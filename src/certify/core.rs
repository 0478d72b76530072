//! The core layer: governor, real drivers, simulated devices, the record in memory and people, in virtual time, all of
//! it from one seed. No runtime, no task: one loop goes from one due thing to the next.

mod fault;
mod probe;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::book::Book;
use super::inputs;
use super::kit::{Family, Kit};
use super::oracle::Oracle;
use super::person::{Gesture, Person, actor};
use super::plans::{self, Made};
use super::{Course, Options};
use crate::driver::{Driver, DriverInput, DriverOutput, SendOutcome};
use crate::governor::{
    Act, AlarmOutput, Cleared, ForGuard, Governor, Input, Output, RecordHealth, Request, RequestId, Seq,
    Settings, Version,
};
use crate::model::command::{Command, DeviceId};
use crate::model::packet::{Endpoint, Packet, Purpose, Received, WriteKind};
use crate::model::session::StopReason;
use crate::record::RecordError;
use crate::sim::{Delivered, Seeded, SimDevice, SimInput, SimOutput};
use crate::units::Mono;

use fault::{Beats, Undo};
use probe::Probes;

/// Heartbeats of the commander's screen.
const BEAT: Duration = Duration::from_millis(500);
/// A write that is stuck is given up after this long.
const WRITE_WITHIN: Duration = Duration::from_secs(1);
/// Looks at a unit that is stopping.
const LOOK: Duration = Duration::from_millis(10);
/// A commit that takes longer is slow (design 4).
const SLOW: Duration = Duration::from_millis(500);

/// One unit with its link.
struct Unit {
    family: Family,
    driver: Box<dyn Driver>,
    device: Box<dyn SimDevice>,
    driver_due: Option<Mono>,
    device_due: Option<Mono>,
    up: bool,
    /// Grows with every loss: what was under way is gone.
    link: u64,
    last_arrival: [Mono; 2],
    /// Each message takes this much longer.
    slow: Duration,
    /// Writes hang.
    stuck: bool,
    /// A look is on its way.
    looking: bool,
}

/// What is due at some instant.
enum Event {
    ToDevice { unit: usize, link: u64, endpoint: Endpoint, bytes: Vec<u8>, purpose: Purpose },
    ToHost { unit: usize, link: u64, received: Received },
    Sent { unit: usize, link: u64, id: u32, outcome: SendOutcome },
    Disk { count: usize, newest: u64 },
    DiskLate { newest: u64 },
    Beat,
    Person,
    Fault,
    Undo(Undo),
    Probe { state: usize, step: usize },
    Goal,
    GuardAnswers(DeviceId),
    Look(usize),
    LinkUp(usize),
    Resumed,
}

/// Everything of one session.
pub(super) struct World<'a> {
    kit: &'a Kit,
    made: Made,
    settings: Settings,
    seed: u64,
    governor: Governor,
    governor_due: Option<Mono>,
    oracle: Oracle,
    book: Option<Book>,
    now: Mono,
    end: Mono,
    units: Vec<Unit>,
    queue: BTreeMap<(Mono, u64), Event>,
    ticket: u64,
    requests: u64,
    version: Version,
    person: Person,
    link_random: Seeded,
    fault_random: Seeded,
    faulty: bool,
    beats: Beats,
    probes: Probes,
    states: Vec<usize>,
    /// Instant, number of entries, of a commit under way.
    disk_busy: bool,
    disk_stuck: bool,
    slow_disk: bool,
    health: RecordHealth,
    appended: u64,
    durable: u64,
    /// The session task gets no time.
    stalled: bool,
    inbox: VecDeque<Input>,
    busy: bool,
    out: Vec<Output>,
    driver_out: Vec<DriverOutput>,
    log: Option<Vec<String>>,
    /// Lines of the truth file, when one is wanted.
    truth: Option<String>,
    digest: u64,
    /// The guard process cannot reach the units.
    guard_blind: bool,
    /// Closed before its time.
    closed: bool,
    failure: Option<String>,
}

/// Runs the session of a seed.
pub(super) fn session(kit: &Kit, seed: u64, options: &Options) -> Result<Course, String> {
    let mut random = Seeded::new(seed);
    let made = plans::plan(kit, &mut random)?;
    let mut world = World::new(kit, made, seed, &mut random, options).map_err(in_words)?;
    world.run();
    world.finish()
}

fn in_words(error: RecordError) -> String {
    crate::runtime::recorder_task::RecordFault::from(error).0
}

impl<'a> World<'a> {
    fn new(
        kit: &'a Kit,
        made: Made,
        seed: u64,
        random: &mut Seeded,
        options: &Options,
    ) -> Result<Self, RecordError> {
        let settings = options.settings();
        let length = options.length();
        let oracle = Oracle::new(made.plan.clone(), &made.families, settings.lease, Duration::ZERO);
        let book = Book::begin(&made.plan, seed, options.record_in.as_deref())?;
        let governor = Governor::new(made.plan.clone(), settings.clone(), Mono::ORIGIN);
        let mut world = Self {
            kit,
            settings,
            seed,
            governor,
            governor_due: None,
            oracle,
            book: Some(book),
            now: Mono::ORIGIN,
            end: Mono::ORIGIN.saturating_add(length),
            units: Vec::new(),
            queue: BTreeMap::new(),
            ticket: 0,
            requests: 0,
            version: Version(0),
            person: Person::new(random.next(), length, &made.plan),
            link_random: Seeded::new(random.next()),
            fault_random: Seeded::new(random.next()),
            faulty: !random.chance(125),
            beats: Beats::default(),
            probes: Probes::new(random.next(), options.probes),
            states: vec![0; made.plan.steps.len()],
            disk_busy: false,
            disk_stuck: false,
            slow_disk: false,
            health: RecordHealth::Healthy,
            appended: 0,
            durable: 0,
            stalled: false,
            inbox: VecDeque::new(),
            busy: false,
            out: Vec::new(),
            driver_out: Vec::new(),
            log: options.verbose.then(Vec::new),
            truth: options.record_in.as_ref().map(|_| String::new()),
            digest: 0xcbf2_9ce4_8422_2325,
            guard_blind: false,
            closed: false,
            failure: None,
            made,
        };
        world.make_units(random);
        Ok(world)
    }

    fn make_units(&mut self, random: &mut Seeded) {
        for family in self.made.families.clone() {
            let learnt = usize::try_from(random.below(5)).ok();
            let made = self
                .kit
                .driver(family, learnt)
                .and_then(|driver| Ok((driver, self.kit.device(family, random)?)));
            match made {
                Ok((driver, device)) => self.units.push(Unit {
                    family,
                    driver,
                    device,
                    driver_due: None,
                    device_due: None,
                    up: false,
                    link: 0,
                    last_arrival: [Mono::ORIGIN; 2],
                    slow: Duration::ZERO,
                    stuck: false,
                    looking: false,
                }),
                Err(why) => self.failure = Some(why),
            }
        }
    }

    #[cfg(not(feature = "defects"))]
    fn new_driver(&self, family: Family, learnt: Option<usize>) -> Result<Box<dyn Driver>, String> {
        self.kit.driver(family, learnt)
    }

    #[cfg(feature = "defects")]
    fn new_driver(&self, family: Family, learnt: Option<usize>) -> Result<Box<dyn Driver>, String> {
        use crate::driver::defect::{Defective, Wrong};
        use crate::governor::Defect;
        let driver = self.kit.driver(family, learnt)?;
        Ok(match self.settings.defect {
            Some(Defect::StopRaises) => Box::new(Defective::new(driver, Wrong::StopRaises)),
            Some(Defect::PastLease) => Box::new(Defective::new(driver, Wrong::PastLease)),
            _ => driver,
        })
    }

    // ---- the session -----------------------------------------------------------------------------------------------

    fn run(&mut self) {
        self.begin();
        self.later(Duration::ZERO, Event::Beat);
        self.later(Duration::from_millis(700), Event::Person);
        if self.faulty {
            self.next_fault();
        }
        self.pass_until(self.end);
        if !self.closed {
            self.input(Input::Stop { by: actor(), reason: StopReason::TherapistRequest });
            self.pass_until(self.now.saturating_add(Duration::from_secs(4)));
            self.closed = true;
            self.input(Input::Close);
        }
        self.pass_until(self.now.saturating_add(Duration::from_secs(4)));
    }

    /// A daemon has just begun.
    fn begin(&mut self) {
        self.input(Input::Guard { present: true });
        self.input(Input::ClockSane(true));
        self.input(Input::AlarmOutput(AlarmOutput::Logged));
        self.health = RecordHealth::Healthy;
        self.input(Input::Record(RecordHealth::Healthy));
        for unit in 0..self.units.len() {
            self.link(unit, true);
        }
        let client = self.made.plan.client.clone();
        self.act(Act::ReadBack { client });
    }

    fn finish(mut self) -> Result<Course, String> {
        for unit in 0..self.units.len() {
            self.device(unit, SimInput::Tick, false);
        }
        let now = self.now;
        let close = self.book.take().map(|book| book.close(now).map_err(in_words));
        match close {
            Some(Ok((doses, damage))) => {
                self.oracle.judge_record(now, &doses);
                for what in damage {
                    self.oracle.damage(now, what);
                }
            }
            Some(Err(why)) => self.failure = Some(why),
            None => {}
        }
        self.oracle.tally.close(self.end.since(Mono::ORIGIN));
        match self.failure {
            Some(why) => Err(why),
            None => Ok(Course {
                seed: self.seed,
                tally: self.oracle.tally,
                found: self.oracle.found,
                log: self.log.unwrap_or_default(),
                truth: self.truth.unwrap_or_default(),
                digest: self.digest,
            }),
        }
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(log) = &mut self.log {
            log.push(format!("{:>13.6} s  {}", now.since(Mono::ORIGIN).as_secs_f64(), what()));
        }
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    fn later(&mut self, delay: Duration, event: Event) {
        self.at(self.now.saturating_add(delay), event);
    }

    fn at(&mut self, at: Mono, event: Event) {
        self.ticket = self.ticket.saturating_add(1);
        self.queue.insert((at, self.ticket), event);
    }

    /// Lets time pass, doing everything in its order: devices, then messages, then drivers, then the governor.
    fn pass_until(&mut self, end: Mono) {
        let open = !self.closed;
        while self.failure.is_none() {
            if open && self.closed {
                return;
            }
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let due = |of: fn(&Unit) -> Option<Mono>| {
                let dues = self.units.iter().enumerate().filter_map(|(unit, known)| Some((of(known)?, unit)));
                dues.min()
            };
            let (device, driver) = (due(|unit| unit.device_due), due(|unit| unit.driver_due));
            let governor = self.governor_due.filter(|_| !self.stalled);
            let first = [event, governor, device.map(|due| due.0), driver.map(|due| due.0)];
            let Some(next) = first.into_iter().flatten().min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if let Some((_, unit)) = device.filter(|(at, _)| *at <= next) {
                self.device(unit, SimInput::Tick, false);
            } else if event.is_some_and(|at| at <= next) {
                if let Some((_, event)) = self.queue.pop_first() {
                    self.fire(event);
                }
            } else if let Some((_, unit)) = driver.filter(|(at, _)| *at <= next) {
                self.driver(unit, DriverInput::Tick);
            } else {
                self.input(Input::Tick);
            }
        }
        self.now = self.now.max(end);
    }

    fn fire(&mut self, event: Event) {
        match event {
            Event::ToDevice { unit, link, endpoint, bytes, purpose } => {
                if self.is_on(unit, link) {
                    let input = SimInput::Received { endpoint, bytes: &bytes };
                    self.device(unit, input, purpose == Purpose::Stop);
                }
            }
            Event::ToHost { unit, link, received } => {
                if self.is_on(unit, link) {
                    self.driver(unit, DriverInput::Received(&received));
                }
            }
            Event::Sent { unit, link, id, outcome } => {
                let same = self.units.get(unit).is_some_and(|unit| unit.link == link);
                let outcome = if same { outcome } else { SendOutcome::Unknown };
                self.driver(unit, DriverInput::Sent { id, outcome });
            }
            Event::Disk { count, newest } => self.disk(count, newest),
            Event::DiskLate { newest } => self.disk_late(newest),
            Event::Beat => self.beat(),
            Event::Person => self.person(),
            Event::Fault => {
                self.fault();
                self.next_fault();
            }
            Event::Undo(undo) => self.undo(undo),
            Event::Probe { state, step } => self.probe(state, step),
            Event::Goal => self.end_in_states(),
            Event::GuardAnswers(device) => {
                let at = usize::from(device.0);
                let holds = !self.guard_blind && self.units.get(at).is_some_and(|unit| unit.up);
                self.input(Input::GuardHolds { device, holds });
            }
            Event::Look(unit) => self.look(unit),
            Event::LinkUp(unit) => {
                if self.units.get(unit).is_some_and(|unit| !unit.up) {
                    self.link(unit, true);
                }
            }
            Event::Resumed => {
                self.stalled = false;
                self.drain();
            }
        }
    }

    fn is_on(&self, unit: usize, link: u64) -> bool {
        self.units.get(unit).is_some_and(|unit| unit.up && unit.link == link)
    }

    fn beat(&mut self) {
        self.oracle.look(self.now);
        if let Some(issued) = self.beats.issued(self.now) {
            self.input(Input::Heartbeat { issued });
        }
        if !self.closed {
            self.later(BEAT, Event::Beat);
        }
    }

    // ---- people ----------------------------------------------------------------------------------------------------

    fn person(&mut self) {
        let mut pause = Duration::from_millis(500);
        if self.beats.anyone() && !self.stalled {
            let view = self.governor.snapshot(self.now);
            let older = self.version;
            self.version = view.version;
            let gesture;
            (gesture, pause) = self.person.next(&view);
            match gesture {
                Gesture::Look => {}
                Gesture::Ask(act) => self.ask(act, view.version, 1),
                Gesture::AskStale(act) => self.ask(act, older, 1),
                Gesture::AskTwice(act) => self.ask(act, view.version, 2),
                Gesture::AskThenStop(act) => {
                    self.ask(act, view.version, 1);
                    self.input(Input::Stop { by: actor(), reason: StopReason::EmergencyStop });
                }
                Gesture::Stop(reason) => self.input(Input::Stop { by: actor(), reason }),
            }
            self.probe_now();
        }
        if !self.closed {
            self.later(pause, Event::Person);
        }
    }

    /// Asks for it as it is.
    fn act(&mut self, act: Act) {
        let seen = self.governor.snapshot(self.now).version;
        self.request(act, seen, 1);
    }

    /// A person asks, who says nothing of a unit that can be seen to be otherwise.
    fn ask(&mut self, act: Act, seen: Version, times: u8) {
        let act = self.oracle.seen(act);
        self.request(act, seen, times);
    }

    fn request(&mut self, act: Act, seen: Version, times: u8) {
        self.requests = self.requests.saturating_add(1);
        let id = RequestId(self.requests);
        for _ in 0..times {
            self.input(Input::Request(Request { id, by: actor(), seen, act: act.clone() }));
        }
    }

    // ---- the governor ----------------------------------------------------------------------------------------------

    /// Gives the governor one input and carries out what it orders; what that brings up waits its turn.
    fn input(&mut self, input: Input) {
        self.inbox.push_back(input);
        if !self.busy && !self.stalled {
            self.drain();
        }
    }

    fn drain(&mut self) {
        self.busy = true;
        while let Some(input) = self.inbox.pop_front() {
            let now = self.now;
            self.count(&input);
            if self.log.is_some() && !matches!(input, Input::Tick | Input::Heartbeat { .. }) {
                self.say(|| format!("<- {input:?}"));
            }
            self.oracle.input(now, &input);
            let mut out = std::mem::take(&mut self.out);
            self.governor.advance(now, input, &mut out);
            for output in out.drain(..) {
                self.carry_out(output);
            }
            self.out = out;
            self.oracle.call_over(now);
        }
        self.busy = false;
        self.governor_due = self.governor.deadline();
        self.notice_states();
    }

    /// Counts an input for the coverage: a request meets the step it names, a report the unit's steps, all else all.
    fn count(&mut self, input: &Input) {
        let named = if let Input::Request(request) = input { request.act.step() } else { None };
        let of_unit = if let Input::Report { device, .. }
        | Input::Link { device, .. }
        | Input::GuardHolds { device, .. } = input
        {
            Some(*device)
        } else {
            None
        };
        let levels = named.map_or(0, |number| self.governor.setpoint(number));
        let kind = inputs::kind(input, levels);
        for (step, state) in self.made.plan.steps.iter().zip(&self.states) {
            let meant = named.is_none_or(|number| number == step.number)
                && of_unit.is_none_or(|device| device == step.device);
            if meant {
                self.oracle.tally.matrix.met(kind, *state);
            }
        }
    }

    fn notice_states(&mut self) {
        // Nothing is kept where nothing has changed.
        let mut entered = Vec::new();
        for (at, (state, known)) in self.governor.states().zip(&mut self.states).enumerate() {
            let state = inputs::state(state);
            if state != *known {
                *known = state;
                entered.push((at, state));
            }
        }
        for (step, state) in entered {
            self.entered(step, state);
        }
    }

    fn carry_out(&mut self, output: Output) {
        self.fold(&output);
        match output {
            Output::Stop { device, generation } => {
                self.order(device, DriverInput::Command(Cleared::stop(generation)));
            }
            Output::Drive { device, command } => {
                self.say(|| format!("   unit {} {:?}", device.0, command.get()));
                self.order(device, DriverInput::Command(command));
            }
            Output::Renew { device, until } => self.order(device, DriverInput::Renew { until }),
            Output::Append { seq, at, entry } => {
                self.say(|| format!("   entry {} {entry:?}", seq.0));
                self.oracle.entry(self.now, seq, &entry);
                self.probes.entry(&entry);
                self.appended = seq.0;
                if let Some(book) = &mut self.book {
                    book.append(at, seq, entry);
                }
                self.start_disk();
            }
            Output::Progress(dose) => {
                if let Some(book) = &mut self.book {
                    book.progress(dose);
                }
                self.start_disk();
            }
            Output::ProgressDone { device, channel } => {
                if let Some(book) = &mut self.book {
                    book.progress_done(device, channel);
                }
                self.start_disk();
            }
            Output::Verdict { request, verdict } => {
                self.say(|| format!("   answer to {}: {verdict:?}", request.0));
            }
            Output::Guard(ForGuard::Hold { device }) => {
                let delay = self.link_random.span(Duration::from_micros(200), Duration::from_millis(5));
                self.later(delay, Event::GuardAnswers(device));
            }
            Output::Alarm { .. } | Output::Guard(_) => {}
        }
    }

    /// Keeps a mark of every output, so that two runs can be compared.
    fn fold(&mut self, output: &Output) {
        let mark = match output {
            Output::Stop { device, generation } => generation.0 ^ u64::from(device.0),
            Output::Drive { device, command } => {
                if let Command::Set { id, setpoint, .. } = command.get() {
                    id.0 ^ (u64::from(setpoint.intensity().magnitude()) << 20)
                } else {
                    3 ^ u64::from(device.0)
                }
            }
            Output::Renew { until, .. } => until.micros(),
            Output::Append { seq, at, .. } => seq.0 ^ at.micros().rotate_left(17),
            Output::Progress(dose) => dose.until.micros() ^ dose.on_us.1,
            Output::ProgressDone { device, .. } => 5 ^ u64::from(device.0),
            Output::Verdict { request, .. } => request.0 ^ 7,
            Output::Guard(_) => 13,
            Output::Alarm { raised, .. } => 11 ^ u64::from(*raised),
        };
        for part in [mark, self.now.micros()] {
            self.digest = (self.digest ^ part).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }

    // ---- the disk --------------------------------------------------------------------------------------------------

    fn start_disk(&mut self) {
        let count = self.book.as_ref().map_or(0, Book::waiting);
        if self.disk_busy || self.disk_stuck || count == 0 {
            return;
        }
        self.disk_busy = true;
        let slow = self.slow_disk && self.fault_random.chance(300);
        let millis = if slow { 200 + self.fault_random.below(900) } else { 1 + self.link_random.below(4) };
        let newest = self.appended;
        if Duration::from_millis(millis) > SLOW {
            self.later(SLOW, Event::DiskLate { newest });
        }
        self.later(Duration::from_millis(millis), Event::Disk { count, newest });
    }

    fn disk(&mut self, count: usize, newest: u64) {
        if !self.disk_busy {
            return;
        }
        self.disk_busy = false;
        if self.disk_stuck {
            return;
        }
        if let Some(Err(error)) = self.book.as_mut().map(|book| book.settle(count)) {
            self.failure = Some(in_words(error));
        }
        if newest > self.durable {
            self.durable = newest;
            self.input(Input::Durable { seq: Seq(newest) });
        }
        self.set_health(RecordHealth::Healthy);
        self.start_disk();
    }

    fn disk_late(&mut self, newest: u64) {
        if self.durable < newest && self.health == RecordHealth::Healthy {
            self.set_health(RecordHealth::Slow);
        }
    }

    fn set_health(&mut self, health: RecordHealth) {
        if self.health != health {
            self.health = health;
            self.input(Input::Record(health));
        }
    }

    // ---- units -----------------------------------------------------------------------------------------------------

    fn order(&mut self, device: DeviceId, input: DriverInput<'_>) {
        self.driver(usize::from(device.0), input);
    }

    fn driver(&mut self, at: usize, input: DriverInput<'_>) {
        let mut out = std::mem::take(&mut self.driver_out);
        let Some(unit) = self.units.get_mut(at) else {
            return;
        };
        unit.driver.advance(self.now, input, &mut out);
        unit.driver_due = unit.driver.deadline();
        // Packets are with the writer before anybody hears a report.
        let device = DeviceId(u8::try_from(at).unwrap_or(0));
        for output in out.drain(..) {
            match output {
                DriverOutput::Send(packet) => self.send(at, &packet),
                DriverOutput::Report(report) => self.inbox.push_back(Input::Report { device, report }),
            }
        }
        self.driver_out = out;
        if !self.busy && !self.stalled && !self.inbox.is_empty() {
            self.drain();
        }
    }

    fn send(&mut self, at: usize, packet: &Packet) {
        let (now, id) = (self.now, packet.id());
        let Some(unit) = self.units.get(at) else {
            return;
        };
        let (link, radio, slow) = (unit.link, unit.family.radio(), unit.slow);
        let outcome = if packet.is_late(now) {
            Some((Duration::ZERO, SendOutcome::Late))
        } else if !unit.up {
            Some((Duration::from_millis(1), SendOutcome::Unknown))
        } else if unit.stuck && packet.write() == WriteKind::WithResponse {
            Some((WRITE_WITHIN, SendOutcome::Unknown))
        } else {
            None
        };
        if let Some((delay, outcome)) = outcome {
            if unit.stuck && unit.up {
                // A stop was asked of the link in time; the link is what fails.
                self.oracle.wire(now, at, packet.purpose(), packet.bytes());
            }
            self.later(delay, Event::Sent { unit: at, link, id, outcome });
            return;
        }
        self.say(|| format!("   unit {at} -> {:?} {:02x?}", packet.purpose(), packet.bytes()));
        self.oracle.wire(now, at, packet.purpose(), packet.bytes());
        let micros =
            if radio { 4_000 + self.link_random.below(16_000) } else { 100 + self.link_random.below(1_500) };
        let arrival = self.ordered(at, 0, Duration::from_micros(micros).saturating_add(slow));
        let bytes = packet.bytes().to_vec();
        let (endpoint, purpose) = (packet.endpoint(), packet.purpose());
        self.at(arrival, Event::ToDevice { unit: at, link, endpoint, bytes, purpose });
        let written = if radio && packet.write() == WriteKind::WithResponse {
            arrival.saturating_add(Duration::from_millis(8))
        } else {
            now.saturating_add(Duration::from_micros(50))
        };
        self.at(written, Event::Sent { unit: at, link, id, outcome: SendOutcome::Written });
    }

    /// Bytes of one direction never overtake each other.
    fn ordered(&mut self, unit: usize, direction: usize, delay: Duration) -> Mono {
        let at = self.now.saturating_add(delay);
        match self.units.get_mut(unit).and_then(|unit| unit.last_arrival.get_mut(direction)) {
            Some(last) => {
                *last = (*last).max(at);
                *last
            }
            None => at,
        }
    }

    /// Gives a device one input and looks at what it gives. `stop`: it is a stop frame.
    fn device(&mut self, at: usize, input: SimInput<'_>, stop: bool) {
        let now = self.now;
        let mut out = Vec::new();
        let Some(unit) = self.units.get_mut(at) else {
            return;
        };
        if stop {
            unit.device.advance(now, SimInput::Tick, &mut out);
            let before = unit.device.truth();
            self.oracle.truth(now, at, &before, false);
        }
        unit.device.advance(now, input, &mut out);
        unit.device_due = unit.device.deadline();
        let truth: Vec<Delivered> = unit.device.truth();
        let (link, radio, slow) = (unit.link, unit.family.radio(), unit.slow);
        self.note_truth(at, &truth);
        self.oracle.truth(now, at, &truth, stop);
        for SimOutput::Send { endpoint, bytes, delay } in out {
            let jitter = if radio { self.link_random.below(10_000) } else { self.link_random.below(800) };
            let delay = delay.saturating_add(Duration::from_micros(100 + jitter)).saturating_add(slow);
            let arrival = self.ordered(at, 1, delay);
            self.at(arrival, Event::ToHost { unit: at, link, received: Received { endpoint, bytes } });
        }
        self.watch(at);
    }

    /// Writes what a unit has given so far as lines of a truth file: the same as the simulators' process writes.
    fn note_truth(&mut self, at: usize, given: &[Delivered]) {
        let (Some(text), Some(planned)) = (&mut self.truth, self.made.plan.devices.get(at)) else {
            return;
        };
        for given in given {
            let Delivered { channel, on_us, pulses, charge_pc, speed_us, present, highest } = given;
            let (t_us, unit) = (self.now.micros(), &planned.label);
            let line = format_args!(
                r#"{{"clock":"monotonic","t_us":{t_us},"unit":"{unit}","channel":{channel},"on_us":{on_us},"pulses":{pulses},"charge_pc":{charge_pc},"speed_us":{speed_us},"present":{present},"highest":{highest}}}"#
            )
            .to_string();
            text.push_str(&line);
            text.push('\n');
        }
    }

    /// A unit that was told to stop is looked at until it gives nothing.
    fn watch(&mut self, at: usize) {
        let stopping = self.oracle.is_stopping(at);
        if let Some(unit) = self.units.get_mut(at)
            && stopping
            && !unit.looking
        {
            unit.looking = true;
            self.later(LOOK, Event::Look(at));
        }
    }

    fn look(&mut self, at: usize) {
        if let Some(unit) = self.units.get_mut(at) {
            unit.looking = false;
        }
        self.device(at, SimInput::Tick, false);
    }

    fn link(&mut self, at: usize, up: bool) {
        let Some(unit) = self.units.get_mut(at) else {
            return;
        };
        unit.up = up;
        unit.link = unit.link.saturating_add(1);
        let device = DeviceId(u8::try_from(at).unwrap_or(0));
        if up {
            let generation = self.governor.generation(device);
            self.device(at, SimInput::Connected, false);
            self.oracle.connected(at);
            self.input(Input::Link { device, up });
            self.driver(at, DriverInput::Connected { generation });
            let read =
                self.units.get(at).and_then(|unit| Some((unit.link, self.kit.read_at_connect(unit.family)?)));
            if let Some((link, received)) = read {
                let arrival = self.ordered(at, 1, Duration::from_millis(25));
                self.at(arrival, Event::ToHost { unit: at, link, received });
            }
        } else {
            self.device(at, SimInput::Disconnected, false);
            // The governor hears of the loss before or after what the driver makes of it.
            if self.link_random.chance(500) {
                self.input(Input::Link { device, up });
                self.driver(at, DriverInput::Disconnected);
            } else {
                self.driver(at, DriverInput::Disconnected);
                self.input(Input::Link { device, up });
            }
        }
    }

    /// The part that drives the units dies here; another one begins a moment later.
    fn crash(&mut self) {
        let now = self.now;
        self.say(|| "CRASH".to_owned());
        self.oracle.crash(now);
        self.oracle.tally.crashes += 1;
        let book = self.book.take();
        match book.map(|book| book.crash(&self.made.plan, now)) {
            Some(Ok((book, spent))) => (self.book, self.settings.spent) = (Some(book), spent),
            Some(Err(error)) => self.failure = Some(in_words(error)),
            None => {}
        }
        self.inbox.clear();
        (self.disk_busy, self.disk_stuck, self.slow_disk, self.stalled) = (false, false, false, false);
        (self.appended, self.durable, self.guard_blind) = (0, 0, false);
        self.queue.retain(|_, event| {
            !matches!(
                event,
                Event::ToHost { .. }
                    | Event::Sent { .. }
                    | Event::Disk { .. }
                    | Event::Undo(_)
                    | Event::Resumed
                    | Event::LinkUp(_)
            )
        });
        for at in 0..self.units.len() {
            let Some(unit) = self.units.get_mut(at) else { continue };
            (unit.up, unit.stuck, unit.slow) = (false, false, Duration::ZERO);
            unit.link = unit.link.saturating_add(1);
            let family = unit.family;
            match (self.new_driver(family, None), self.units.get_mut(at)) {
                (Ok(driver), Some(unit)) => (unit.driver, unit.driver_due) = (driver, None),
                (Ok(_), None) => {}
                (Err(why), _) => self.failure = Some(why),
            }
            self.device(at, SimInput::Disconnected, false);
            // A fault of the device outlives the daemon; its end must come all the same.
            self.undo(Undo::Device(at));
        }
        self.governor = Governor::new(self.made.plan.clone(), self.settings.clone(), now);
        self.person.restart();
        self.beats = Beats::default();
        self.notice_states();
        self.begin();
    }
}
