//! The bench: a governor, two plain model units, a disk and an operator, all under one virtual clock.
//!
//! The model units know nothing of drivers or frames. A unit obeys an order after a delay, acknowledges after another,
//! stops by itself like a real one, and keeps the truth of what it gave in floating point.

use std::collections::BTreeMap;
use std::time::Duration;

use doseward::governor::{
    Act, AlarmOutput, Entry, ForGuard, Governor, Input, Output, RecordHealth, Request, RequestId, Resolution,
    Seq, Settings, Verdict,
};
use doseward::model::budget::Spent;
use doseward::model::command::{Channel, Command, CommandId, DeviceId, Generation, Intensity, Setpoint};
use doseward::model::plan::{ClientCode, Plan};
use doseward::model::report::{EpochEnd, OwnButton, Report, StopProgress};
use doseward::model::session::{Actor, StopReason};
use doseward::units::Mono;

/// What will happen at an instant.
#[derive(Clone, Debug)]
enum Event {
    Apply { device: usize, order: Order },
    Tell { device: usize, report: Report },
    DiskAnswers,
    Beat,
    Held { device: usize },
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Set { id: CommandId, channel: u8, setpoint: Setpoint, seal: u64 },
    Stop { generation: Generation },
    KeepAlive { until: Mono },
}

/// One model unit.
#[derive(Clone, Debug, Default)]
pub struct ModelUnit {
    /// What each channel gives: (setpoint, since).
    pub output: BTreeMap<u8, (Setpoint, Mono)>,
    /// Integrals per channel: on seconds, charge µC, raw·seconds.
    pub truth: BTreeMap<u8, (f64, f64, f64)>,
    pub silent: bool,
    pub deaf: bool,
    pub down: bool,
    gun: bool,
    /// Orders of an older seal are void: a stop came after them.
    seal: u64,
    alive_until: Mono,
}

impl ModelUnit {
    fn give(&mut self, now: Mono, channel: u8, setpoint: Option<Setpoint>) {
        if let Some((given, since)) = self.output.remove(&channel) {
            let seconds = now.since(since).as_secs_f64();
            let truth = self.truth.entry(channel).or_default();
            truth.0 += seconds;
            match given {
                Setpoint::Pulses { current, width, period } => {
                    let pulses = seconds / (f64::from(period.micros()) * 1e-6);
                    truth.1 += pulses * f64::from(current.microamps()) * f64::from(width.micros()) * 1e-6;
                }
                Setpoint::Speed(speed) => truth.2 += seconds * f64::from(speed.raw()),
                Setpoint::Level(level) => truth.2 += seconds * f64::from(level.level()),
            }
        }
        if let Some(setpoint) = setpoint.filter(|setpoint| !setpoint.intensity().is_zero()) {
            self.output.insert(channel, (setpoint, now));
        }
    }

    pub fn all_off(&mut self, now: Mono) {
        let channels: Vec<u8> = self.output.keys().copied().collect();
        for channel in channels {
            self.give(now, channel, None);
        }
    }
}

/// Everything that the governor said, with its instant.
#[derive(Clone, Debug)]
pub struct Said {
    pub at: Mono,
    pub output: Output,
}

/// The bench.
pub struct Bench {
    pub governor: Governor,
    /// The plan as it was handed over: the governor may tighten its own.
    pub prescribed: Plan,
    pub settings: Settings,
    pub now: Mono,
    pub said: Vec<Said>,
    pub inputs: Vec<(Mono, Input)>,
    pub units: Vec<ModelUnit>,
    pub disk_delay: Duration,
    pub disk_dead: bool,
    pub operator_here: bool,
    /// The guard answers that it can stop a unit.
    pub guard_reaches: bool,
    /// Between two deadlines the governor is called once more, and must have nothing to say.
    pub punctual: bool,
    pub obey_after: Duration,
    pub answer_after: Duration,
    newest_seq: Seq,
    disk_busy: bool,
    queue: BTreeMap<(Mono, u64), Event>,
    ticket: u64,
    next_request: u64,
}

impl Bench {
    /// A bench with every interlock closed, both links up and both units at proven zero.
    pub fn ready(plan: Plan) -> Self {
        let mut bench = Self::bare(plan);
        bench.make_ready();
        bench
    }

    /// As [`Bench::ready`], for a client who already got something.
    pub fn after(plan: Plan, spent: Spent) -> Self {
        let mut bench = Self::with(plan, Settings { spent, ..Settings::default() });
        bench.make_ready();
        bench
    }

    /// A bench on which nothing has happened yet.
    pub fn bare(plan: Plan) -> Self {
        Self::with(plan, Settings::default())
    }

    fn with(plan: Plan, settings: Settings) -> Self {
        let guns: Vec<bool> = plan.devices.iter().map(|unit| unit.capability.pulse.is_none()).collect();
        let prescribed = plan.clone();
        let governor = Governor::new(plan, settings.clone(), Mono::ORIGIN);
        let units = guns.into_iter().map(|gun| ModelUnit { gun, ..ModelUnit::default() }).collect();
        Self {
            governor,
            prescribed,
            settings,
            now: Mono::ORIGIN,
            said: Vec::new(),
            inputs: Vec::new(),
            units,
            disk_delay: Duration::from_millis(2),
            disk_dead: false,
            operator_here: true,
            guard_reaches: true,
            punctual: false,
            obey_after: Duration::from_millis(3),
            answer_after: Duration::from_millis(6),
            newest_seq: Seq(0),
            disk_busy: false,
            queue: BTreeMap::new(),
            ticket: 0,
            next_request: 0,
        }
    }

    fn make_ready(&mut self) {
        self.input(Input::Guard { present: true });
        self.input(Input::ClockSane(true));
        self.input(Input::AlarmOutput(AlarmOutput::Logged));
        self.input(Input::Record(RecordHealth::Healthy));
        for device in 0..self.units.len() {
            self.link(device, true);
        }
        self.later(Duration::ZERO, Event::Beat);
        self.pass(Duration::from_millis(50));
        let client = self.governor.plan().client.clone();
        self.act(Act::ReadBack { client });
        self.pass(Duration::from_millis(250));
    }

    fn later(&mut self, delay: Duration, event: Event) {
        self.ticket += 1;
        self.queue.insert((self.now.saturating_add(delay), self.ticket), event);
    }

    /// A person asks for something; returns the request's number.
    pub fn act(&mut self, act: Act) -> RequestId {
        self.act_by(actor(), act)
    }

    /// As `act`, by somebody else.
    pub fn act_by(&mut self, by: Actor, act: Act) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        let seen = self.governor.snapshot(self.now).version;
        self.input(Input::Request(Request { id, by, seen, act }));
        id
    }

    /// A person accepts the upper bound of every uncertain interval.
    pub fn resolve_all(&mut self) {
        for open in self.governor.snapshot(self.now).unresolved {
            let (shown, gave, reason) = (open.on, open.on.1, "asked by the test".to_owned());
            self.act(Act::Resolve(Resolution { of: open.of, shown, gave, reason }));
        }
    }

    pub fn stop_all(&mut self) {
        self.input(Input::Stop { by: actor(), reason: StopReason::EmergencyStop });
    }

    pub fn client(&self) -> ClientCode {
        self.governor.plan().client.clone()
    }

    /// Gives the governor one input and carries out what it orders.
    pub fn input(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.inputs.push((self.now, input.clone()));
        self.governor.advance(self.now, input, &mut out);
        for output in &out {
            self.said.push(Said { at: self.now, output: output.clone() });
            self.carry_out(output);
        }
        out
    }

    fn carry_out(&mut self, output: &Output) {
        match output {
            Output::Stop { device, generation } => {
                let device = usize::from(device.0);
                self.units[device].seal += 1;
                let order = Order::Stop { generation: *generation };
                self.later(self.obey_after, Event::Apply { device, order });
            }
            Output::Drive { device, command } => self.drive(usize::from(device.0), *command.get()),
            Output::Renew { device, until } => {
                let device = usize::from(device.0);
                let order = Order::KeepAlive { until: *until };
                self.later(self.obey_after, Event::Apply { device, order });
            }
            Output::Append { seq, .. } => {
                self.newest_seq = *seq;
                if !self.disk_busy && !self.disk_dead {
                    self.disk_busy = true;
                    self.later(self.disk_delay, Event::DiskAnswers);
                }
            }
            Output::Progress(_)
            | Output::ProgressDone { .. }
            | Output::Verdict { .. }
            | Output::Alarm { .. } => {}
            Output::Guard(ForGuard::Hold { device }) => {
                let device = usize::from(device.0);
                if self.guard_reaches {
                    self.later(self.obey_after, Event::Held { device });
                }
            }
            Output::Guard(_) => {}
        }
    }

    fn drive(&mut self, device: usize, command: Command) {
        let seal = self.units[device].seal;
        match command {
            Command::Prepare { epoch } => {
                if !self.units[device].deaf {
                    let report = Report::Ready { epoch };
                    self.later(self.answer_after, Event::Tell { device, report });
                }
            }
            Command::Set { id, channel, setpoint, .. } => {
                let order = Order::Set { id, channel: channel.0, setpoint, seal };
                self.later(self.obey_after, Event::Apply { device, order });
            }
            Command::Finish { id, channel, .. } => {
                let given = self.units[device].output.get(&channel.0).map(|(setpoint, _)| *setpoint);
                let setpoint = match given {
                    Some(Setpoint::Pulses { width, period, .. }) => {
                        Setpoint::Pulses { current: Default::default(), width, period }
                    }
                    _ => Setpoint::Speed(Default::default()),
                };
                let order = Order::Set { id, channel: channel.0, setpoint, seal };
                self.later(self.obey_after, Event::Apply { device, order });
            }
            // It lets a hand do something; the model unit waits for `own_button`.
            Command::AllowStart { .. } => {}
            Command::Stop { .. } => panic!("the governor stops by Output::Stop"),
        }
    }

    /// Lets time pass, firing everything in its order.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now.saturating_add(span);
        let (mut instant, mut at_once) = (self.now, 0u32);
        loop {
            at_once = if self.now > instant { 0 } else { at_once + 1 };
            instant = self.now;
            assert!(at_once < 2_000, "time stands still at {instant}: the deadline does not move");
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let keep_alive = self.units.iter().filter(|unit| !unit.gun && !unit.output.is_empty());
            let keep_alive = keep_alive.map(|unit| unit.alive_until).min();
            let due = [event, self.governor.deadline(), keep_alive].into_iter().flatten().min();
            let Some(due) = due.filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            let just_before = due.saturating_sub(Duration::from_micros(1));
            if self.punctual && just_before > self.now {
                self.now = just_before;
                let late = self.input(Input::Tick);
                assert!(late.is_empty(), "due before its deadline at {due}: {late:?}");
                continue;
            }
            self.now = self.now.max(due);
            self.expire();
            if event.is_some_and(|at| at <= self.now) {
                let (_, event) = self.queue.pop_first().unwrap();
                self.fire(event);
            } else {
                self.input(Input::Tick);
            }
        }
    }

    /// A stimulator that hears nothing stops by itself.
    fn expire(&mut self) {
        let now = self.now;
        for unit in &mut self.units {
            if !unit.gun && !unit.output.is_empty() && now >= unit.alive_until {
                unit.all_off(unit.alive_until);
            }
        }
    }

    fn fire(&mut self, event: Event) {
        match event {
            Event::Beat => {
                if self.operator_here {
                    self.input(Input::Heartbeat { issued: self.now });
                }
                self.later(Duration::from_millis(500), Event::Beat);
            }
            Event::Held { device } => {
                let (id, up) = (u8::try_from(device).unwrap(), !self.units[device].down);
                if up {
                    self.input(Input::GuardHolds { device: DeviceId(id), holds: true });
                }
            }
            Event::DiskAnswers => {
                self.disk_busy = false;
                let seq = self.newest_seq;
                self.input(Input::Durable { seq });
            }
            Event::Tell { device, report } => {
                if !self.units[device].silent && !self.units[device].down {
                    self.tell(device, report);
                }
            }
            Event::Apply { device, order } => self.apply(device, order),
        }
    }

    pub fn tell(&mut self, device: usize, report: Report) {
        let device = DeviceId(u8::try_from(device).unwrap());
        self.input(Input::Report { device, report });
    }

    fn apply(&mut self, device: usize, order: Order) {
        let (now, answer) = (self.now, self.answer_after);
        let unit = &mut self.units[device];
        if unit.deaf || unit.down {
            return;
        }
        match order {
            Order::Set { id, channel, setpoint, seal } => {
                if seal != unit.seal {
                    return;
                }
                unit.alive_until = now.saturating_add(Duration::from_secs(2));
                unit.give(now, channel, Some(setpoint));
                let report = Report::Acknowledged { id };
                self.later(answer, Event::Tell { device, report });
            }
            Order::Stop { generation } => {
                unit.all_off(now);
                let (progress, after) = (StopProgress::Confirmed, Duration::from_millis(5));
                let report = Report::Stop { generation, progress, after };
                self.later(answer, Event::Tell { device, report });
            }
            Order::KeepAlive { until } => {
                if now <= until {
                    unit.alive_until = now.saturating_add(Duration::from_secs(2));
                }
                let given: Vec<(u8, Setpoint)> =
                    unit.output.iter().map(|(channel, (setpoint, _))| (*channel, *setpoint)).collect();
                self.later(answer, Event::Tell { device, report: Report::Alive });
                for (channel, setpoint) in given {
                    let intensity = match setpoint {
                        Setpoint::Pulses { .. } => None,
                        Setpoint::Speed(_) | Setpoint::Level(_) => Some(setpoint.intensity()),
                    };
                    let report = Report::Measured { channel: Channel(channel), running: true, intensity };
                    self.later(answer, Event::Tell { device, report });
                }
            }
        }
    }

    /// The link goes or comes. On coming, the driver stops the unit first and an idle unit keeps answering.
    pub fn link(&mut self, device: usize, up: bool) {
        self.units[device].down = !up;
        let id = DeviceId(u8::try_from(device).unwrap());
        self.input(Input::Link { device: id, up });
        if up {
            let generation = self.governor.generation(id);
            self.later(self.obey_after, Event::Apply { device, order: Order::Stop { generation } });
            self.later(self.answer_after, Event::Tell { device, report: Report::Alive });
        }
    }

    /// An idle unit's answer, as a driver's own status query would bring it.
    pub fn idle_answers(&mut self) {
        for device in 0..self.units.len() {
            if !self.units[device].silent && !self.units[device].down {
                self.tell(device, Report::Alive);
            }
        }
    }

    pub fn power_off(&mut self, device: usize) {
        let now = self.now;
        self.units[device].all_off(now);
    }

    pub fn lead_off(&mut self, device: usize) {
        let now = self.now;
        self.units[device].all_off(now);
        let epoch = self.epoch(device);
        self.tell(device, Report::EpochEnded { epoch, cause: EpochEnd::LeadOff(Channel(0)) });
    }

    pub fn own_button(&mut self, device: usize, button: OwnButton) {
        let now = self.now;
        match button {
            OwnButton::Stopped => self.units[device].all_off(now),
            OwnButton::Started(speed)
            | OwnButton::Raised(speed)
            | OwnButton::Lowered(speed)
            | OwnButton::Changed(speed) => {
                let setpoint = match speed {
                    Intensity::Speed(speed) => Setpoint::Speed(speed),
                    Intensity::Level(level) => Setpoint::Level(level),
                    Intensity::Current(_) => panic!("a gun has a speed or a level"),
                };
                self.units[device].give(now, 0, Some(setpoint));
            }
        }
        self.tell(device, Report::OwnButton(button));
    }

    /// Number of the newest command to a unit; 0: none.
    pub fn last_command(&self, device: usize) -> u64 {
        let newest = self.said.iter().rev().find_map(|said| match &said.output {
            Output::Drive { device: to, command } if usize::from(to.0) == device => match command.get() {
                Command::Set { id, .. } | Command::Finish { id, .. } => Some(id.0),
                _ => None,
            },
            _ => None,
        });
        newest.unwrap_or(0)
    }

    pub fn id(device: usize) -> DeviceId {
        DeviceId(u8::try_from(device).unwrap())
    }

    pub fn epoch(&self, device: usize) -> doseward::model::command::Epoch {
        let armed = self.said.iter().rev().find_map(|said| match &said.output {
            Output::Drive { device: to, command } if usize::from(to.0) == device => match command.get() {
                Command::Prepare { epoch } => Some(*epoch),
                _ => None,
            },
            _ => None,
        });
        armed.unwrap_or_default()
    }

    /// Ends the session and settles the truth.
    pub fn close(&mut self) {
        self.input(Input::Close);
        self.pass(Duration::from_secs(5));
        let now = self.now;
        for unit in &mut self.units {
            unit.all_off(now);
        }
    }

    pub fn verdict(&self, request: RequestId) -> Option<Verdict> {
        self.said.iter().rev().find_map(|said| match &said.output {
            Output::Verdict { request: of, verdict } if *of == request => Some(verdict.clone()),
            _ => None,
        })
    }

    pub fn entries(&self) -> impl Iterator<Item = (Mono, &Entry)> {
        self.said.iter().filter_map(|said| match &said.output {
            Output::Append { entry, .. } => Some((said.at, entry)),
            _ => None,
        })
    }

    /// Arms a step, waits until it is armed.
    pub fn arm(&mut self, step: u8) {
        self.idle_answers();
        let request = self.act(Act::Arm { step });
        assert!(
            matches!(self.verdict(request), Some(Verdict::Granted { .. })),
            "arm step {step}: {:?}",
            self.verdict(request)
        );
        self.pass(Duration::from_millis(50));
    }

    /// Asks for an intensity and waits for the answer.
    pub fn set(&mut self, step: u8, intensity: Intensity) -> Verdict {
        let request = self.act(Act::Set { step, intensity, reason: None });
        self.pass(Duration::from_millis(20));
        self.verdict(request).expect("an answer within 20 ms")
    }
}

pub fn actor() -> Actor {
    Actor { person: "T1".to_owned(), screen: "test".to_owned() }
}
