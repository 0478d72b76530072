//! The driver against the simulated gun, by hand, in virtual time.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::config::device_file;
use crate::governor::Cleared;
use crate::model::packet::Received;
use crate::model::profile::LinkLoss;
use crate::model::profile::matching::Catalogue;
use crate::model::report::{OwnButton, StopProgress};
use crate::sim::percussion::{Filler, Gun, GunBehaviour, NotificationMeans};
use crate::sim::{SimDevice, SimEvent, SimInput, SimOutput};
use crate::units::{Level, RawSpeed};

const ZERO: &str = "aa070103000003";
const OFF7: &str = "aa040103000000";
const OFF4: &str = "aa040103";
const STATUS: &str = "aa101000";
const VERSION: &str = "aa202000";
const STOPS: [&str; 3] = [ZERO, OFF7, OFF4];
/// One way on the air.
const AIR: Duration = Duration::from_millis(10);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn profile(id: &str) -> Profile {
    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
        let mut problems = Vec::new();
        let catalogue = device_file::built_in(&mut problems);
        assert!(problems.is_empty());
        catalogue
    });
    CATALOGUE.profiles.iter().find(|profile| profile.id == id).unwrap().clone()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

enum Event {
    AtGun(Packet),
    Acknowledged(u32),
    AtDriver(Received),
    Gun(SimEvent),
}

/// A driver, a gun and an ideal link between them.
struct Bench {
    now: Mono,
    driver: ProfileDriver,
    gun: Gun,
    events: BTreeMap<(Mono, u64), Event>,
    number: u64,
    /// Packets as the driver gave them out.
    packets: Vec<(Mono, Packet)>,
    reports: Vec<(Mono, Report)>,
    /// Arrival of each frame at the gun.
    arrivals: Vec<(Mono, String)>,
    /// A link that refuses every write until then.
    busy_until: Mono,
    /// A link that swallows writes and their answers until then.
    stuck_until: Mono,
    /// The governor renews every 200 ms while this is set.
    /// Writes are given to the stack, and nobody answers them.
    handed: bool,
    renewing: bool,
    renewed_at: Mono,
    next_command: u64,
}

impl Bench {
    fn new(unit: Unit, change: impl FnOnce(&mut GunBehaviour)) -> Self {
        Self::of("theragun-g4", unit, change)
    }

    fn of(id: &str, unit: Unit, change: impl FnOnce(&mut GunBehaviour)) -> Self {
        let profile = profile(id);
        let mut behaviour = GunBehaviour::of(&profile);
        change(&mut behaviour);
        Self {
            now: Mono::from_millis(1000),
            gun: Gun::new(&profile, 7, behaviour),
            driver: ProfileDriver::new(profile, &unit),
            events: BTreeMap::new(),
            number: 0,
            packets: Vec::new(),
            reports: Vec::new(),
            arrivals: Vec::new(),
            busy_until: Mono::ORIGIN,
            stuck_until: Mono::ORIGIN,
            renewing: false,
            handed: false,
            renewed_at: Mono::ORIGIN,
            next_command: 1,
        }
    }

    /// A bound gun that is connected, proven to stand still, and ready in epoch 1.
    fn ready(change: impl FnOnce(&mut GunBehaviour)) -> Self {
        let mut bench = Self::new(bound(), change);
        bench.connect(0);
        bench.run(ms(800));
        bench.input(DriverInput::Command(Cleared::for_test(Command::Prepare { epoch: Epoch(1) })));
        bench.run(ms(300));
        assert!(bench.said(&Report::Ready { epoch: Epoch(1) }), "{:#?}", bench.reports);
        bench
    }

    /// The same, running at `speed`, renewed.
    fn running(speed: u16, change: impl FnOnce(&mut GunBehaviour)) -> Self {
        let mut bench = Self::ready(change);
        bench.renewing = true;
        bench.set(speed);
        bench.run(ms(1500));
        assert_eq!(bench.gun.speed(), speed);
        bench
    }

    fn connect(&mut self, generation: u64) {
        self.gun.advance(self.now, SimInput::Connected, &mut Vec::new());
        self.input(DriverInput::Connected { generation: Generation(generation) });
    }

    fn disconnect(&mut self) {
        self.events.retain(|_, event| matches!(event, Event::Gun(_)));
        self.gun.advance(self.now, SimInput::Disconnected, &mut Vec::new());
        self.input(DriverInput::Disconnected);
    }

    fn set(&mut self, speed: u16) -> CommandId {
        self.set_in(Epoch(1), speed)
    }

    fn set_in(&mut self, epoch: Epoch, speed: u16) -> CommandId {
        let id = CommandId(self.next_command);
        self.next_command += 1;
        let setpoint = Setpoint::Speed(RawSpeed::from_raw(speed));
        let command = Command::Set { id, epoch, channel: MOTOR, setpoint };
        self.input(DriverInput::Command(Cleared::for_test(command)));
        id
    }

    fn stop(&mut self, generation: u64) {
        self.input(DriverInput::Command(Cleared::stop(Generation(generation))));
    }

    fn gun_event(&mut self, event: SimEvent) {
        self.schedule(Duration::ZERO, Event::Gun(event));
        self.run(Duration::ZERO);
    }

    fn schedule(&mut self, delay: Duration, event: Event) {
        self.number += 1;
        self.events.insert((self.now.saturating_add(delay), self.number), event);
    }

    fn input(&mut self, input: DriverInput<'_>) {
        let mut out = Vec::new();
        self.driver.advance(self.now, input, &mut out);
        let mut answers = Vec::new();
        for output in out {
            match output {
                DriverOutput::Report(report) => self.reports.push((self.now, report)),
                DriverOutput::Send(packet) => {
                    self.packets.push((self.now, packet.clone()));
                    if self.now < self.busy_until {
                        answers.push(packet.id());
                    } else if self.now >= self.stuck_until {
                        self.schedule(AIR, Event::AtGun(packet));
                    }
                }
            }
        }
        for id in answers {
            self.input(DriverInput::Sent { id, outcome: SendOutcome::Busy });
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now.saturating_add(span);
        let mut same = 0;
        loop {
            let renew = self.renewing.then(|| self.renewed_at.saturating_add(ms(200)).max(self.now));
            let event = self.events.keys().next().map(|(at, _)| *at);
            let times = [renew, event, self.driver.deadline(), self.gun.deadline()];
            let Some(at) = times.into_iter().flatten().min().filter(|at| *at <= end) else {
                self.now = end;
                self.gun.advance(end, SimInput::Tick, &mut Vec::new());
                return;
            };
            same = if at <= self.now { same + 1 } else { 0 };
            assert!(same < 100, "no progress at {}: {:?}", self.now, self.driver);
            self.now = self.now.max(at);
            if renew.is_some_and(|renew| renew <= self.now) {
                self.renewed_at = self.now;
                self.input(DriverInput::Renew { until: self.now.saturating_add(ms(600)) });
            }
            if event.is_some_and(|event| event <= self.now)
                && let Some((_, event)) = self.events.pop_first()
            {
                self.happen(event);
            }
            self.gun_input(SimInput::Tick);
            if self.driver.deadline().is_some_and(|deadline| deadline <= self.now) {
                self.input(DriverInput::Tick);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::AtGun(packet) => {
                assert!(!packet.is_late(self.now.saturating_sub(AIR)), "a late packet was written");
                self.arrivals.push((self.now, hex(packet.bytes())));
                self.gun_input(SimInput::Received { endpoint: packet.endpoint(), bytes: packet.bytes() });
                let back = if packet.write() == WriteKind::WithResponse { AIR } else { Duration::ZERO };
                self.schedule(back, Event::Acknowledged(packet.id()));
            }
            Event::Acknowledged(id) => {
                let outcome = if self.handed { SendOutcome::Handed } else { SendOutcome::Written };
                self.input(DriverInput::Sent { id, outcome });
            }
            Event::AtDriver(received) => self.input(DriverInput::Received(&received)),
            Event::Gun(event) => self.gun_input(SimInput::Event(event)),
        }
    }

    fn gun_input(&mut self, input: SimInput<'_>) {
        let mut out = Vec::new();
        self.gun.advance(self.now, input, &mut out);
        for SimOutput::Send { endpoint, bytes, delay } in out {
            self.schedule(delay, Event::AtDriver(Received { endpoint, bytes }));
        }
    }

    fn said(&self, report: &Report) -> bool {
        self.reports.iter().any(|(_, said)| said == report)
    }

    fn forget(&mut self) {
        self.packets.clear();
        self.reports.clear();
        self.arrivals.clear();
    }

    /// Frames given out since the last `forget`.
    fn frames(&self) -> Vec<String> {
        self.packets.iter().map(|(_, packet)| hex(packet.bytes())).collect()
    }

    fn stop_times(&self) -> Vec<(u64, String)> {
        let stops = self.packets.iter().filter(|(_, packet)| packet.purpose() == Purpose::Stop);
        let first = stops.clone().next().map_or(self.now, |(at, _)| *at);
        stops
            .map(|(at, packet)| (u64::try_from(at.since(first).as_millis()).unwrap(), hex(packet.bytes())))
            .collect()
    }

    fn progress(&self, wanted: StopProgress) -> Vec<(Mono, Generation, Duration)> {
        self.reports
            .iter()
            .filter_map(|(at, report)| {
                let Report::Stop { generation, progress, after } = report else { return None };
                (*progress == wanted).then_some((*at, *generation, *after))
            })
            .collect()
    }
}

fn bound() -> Unit {
    Unit { variant: Some("Pro".to_owned()), bound: true, learnt_stop: None }
}

fn raw(speed: u16) -> Intensity {
    Intensity::Speed(RawSpeed::from_raw(speed))
}

#[test]
fn sr_48_a_bound_unit_hears_a_stop_before_anything_else() {
    let mut bench = Bench::new(bound(), |_| {});
    bench.connect(4);
    bench.run(ms(400));
    assert_eq!(bench.frames(), [ZERO, STATUS, VERSION]);
    assert_eq!(bench.progress(StopProgress::Written).len(), 1);
    let confirmed = bench.progress(StopProgress::Confirmed);
    assert_eq!(confirmed.len(), 1);
    assert_eq!((confirmed[0].1, confirmed[0].2), (Generation(4), ms(70)));
    let identity = Identity { model: "Theragun PRO".into(), serial: String::new(), firmware: "2.1.6".into() };
    assert!(bench.said(&Report::Identity(identity)));
    assert_eq!(bench.driver.worked(), None, "a unit that stood still teaches nothing");
}

#[test]
fn an_unbound_unit_hears_its_proof_query_first_and_nothing_else_until_it_answers() {
    let mut bench = Bench::new(Unit::default(), |_| {});
    bench.connect(0);
    bench.run(ms(400));
    assert_eq!(bench.frames(), [VERSION, ZERO, STATUS]);

    let mut mute = Bench::new(Unit::default(), |_| {});
    mute.gun_event(SimEvent::Wedged(true));
    mute.connect(0);
    mute.stop(3);
    mute.run(ms(6000));
    assert_eq!(mute.frames(), [VERSION, VERSION, VERSION]);
    assert!(mute.reports.iter().any(|(_, report)| matches!(report, Report::Unusable { .. })));
    assert_eq!(mute.progress(StopProgress::Unconfirmed).len(), 1);
}

#[test]
fn firmware_below_the_minimum_is_identified_only() {
    for (variant, firmware, drives) in
        [("Pro", "2.1.5", false), ("Pro", "2.1.6", true), ("Prime", "2.0.4", true)]
    {
        let unit = Unit { variant: Some(variant.to_owned()), ..bound() };
        let mut bench = Bench::new(unit, |gun| firmware.clone_into(&mut gun.firmware));
        bench.connect(0);
        bench.run(ms(1000));
        bench.input(DriverInput::Command(Cleared::for_test(Command::Prepare { epoch: Epoch(1) })));
        bench.run(ms(1000));
        assert_eq!(bench.said(&Report::Ready { epoch: Epoch(1) }), drives, "{variant} {firmware}");
        // It can still be stopped.
        bench.forget();
        bench.stop(9);
        bench.run(ms(400));
        assert_eq!(bench.progress(StopProgress::Confirmed).len(), 1);
    }
}

#[test]
fn sr_42_a_setpoint_is_acknowledged_reached_and_measured_and_its_frames_expire() {
    let mut bench = Bench::ready(|_| {});
    bench.renewing = true;
    let id = bench.set(1200);
    bench.run(ms(1500));
    assert!(bench.said(&Report::Acknowledged { id }));
    assert_eq!(bench.gun.speed(), 1200);
    let measured = Report::Measured { channel: MOTOR, running: true, intensity: Some(raw(1200)) };
    assert!(bench.said(&measured));
    // Every frame that keeps output or asks while it is on expires.
    for (at, packet) in &bench.packets {
        let lasts = matches!(packet.purpose(), Purpose::Stop | Purpose::Query);
        assert_eq!(packet.valid_until().is_none(), lasts);
        assert!(packet.valid_until().is_none_or(|until| until <= at.saturating_add(Packet::LIFE_MAX)));
    }
}

/// Nobody answers the write: a status asked after it does, also of a motor that is slow under its load.
#[test]
fn a_setpoint_that_nobody_answers_is_proven_by_the_status_asked_after_it() {
    for droop in [0, 30] {
        let mut bench = Bench::ready(|gun| gun.load_droop_percent = droop);
        bench.renewing = true;
        bench.handed = true;
        bench.forget();
        let id = bench.set(1500);
        bench.run(ms(50));
        assert!(!bench.said(&Report::Acknowledged { id }), "it was only handed over");
        bench.run(ms(250));
        assert!(bench.said(&Report::Acknowledged { id }), "droop {droop}: {:#?}", bench.reports);
        bench.gun_event(SimEvent::DropReplies(9));
        let lost = bench.set(1600);
        bench.run(ms(800));
        assert!(bench.said(&Report::Unacknowledged { id: lost }), "no status, no proof");
    }
}

#[test]
fn sr_01_every_stop_frame_alone_brings_zero_within_500_ms_of_the_first_stop_byte() {
    let names = ["stop_zero", "stop_off7", "stop_off4"];
    for seed in 0..20 {
        for accepted in names {
            for learnt in [None, Some("stop_zero"), Some("stop_off7"), Some("stop_off4")] {
                let mut bench = Bench::ready(|gun| gun.unknown_bytes = Filler::Random);
                bench.driver.order = stopping::order(&bench.driver.profile, learnt);
                bench.driver.script = stopping::script(&bench.driver.profile, &bench.driver.order);
                bench.driver.worked = learnt.map(str::to_owned);
                let mut behaviour = GunBehaviour::of(&bench.driver.profile);
                behaviour.stop_accepts = vec![accepted.to_owned()];
                bench.gun = Gun::new(&bench.driver.profile, seed, behaviour);
                bench.gun.advance(bench.now, SimInput::Connected, &mut Vec::new());
                bench.renewing = true;
                bench.set(2400);
                bench.run(ms(1500));
                assert_eq!(bench.gun.speed(), 2400);
                bench.forget();
                bench.stop(1);
                bench.run(ms(10));
                assert!(STOPS.contains(&bench.arrivals[0].1.as_str()));
                bench.run(ms(500));
                assert_eq!(bench.gun.speed(), 0, "{accepted} of seed {seed}, learnt {learnt:?}");
                bench.run(ms(200));
                assert_eq!(bench.progress(StopProgress::Confirmed).len(), 1);
                assert_eq!(bench.driver.worked(), Some(accepted));
                let news = Report::StopLearnt { frame: accepted.to_owned() };
                assert_eq!(bench.said(&news), learnt != Some(accepted), "told once, when it is new");
                // The next stop begins with it, and the guard's script too.
                let first = bench.driver.order.first().map(|frame| frame.bytes.clone()).unwrap();
                let group = if accepted == "stop_zero" { ZERO } else { OFF7 };
                assert_eq!(hex(&first), group);
                assert_eq!(bench.driver.stop_script().steps.first().unwrap().bytes, first);
            }
        }
    }
}

#[test]
fn sr_24_a_stop_that_nothing_obeys_is_unconfirmed_at_one_second_and_goes_on() {
    let mut bench = Bench::running(2000, |gun| gun.stop_accepts.clear());
    bench.forget();
    bench.stop(5);
    bench.run(ms(1300));
    let told = bench.progress(StopProgress::Unconfirmed);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].1, told[0].2), (Generation(5), ms(1000)));
    let expected: Vec<(u64, String)> = [0, 150, 300, 500, 650, 800, 1000, 1150, 1300]
        .into_iter()
        .zip(STOPS.into_iter().cycle())
        .map(|(at, frame)| (at, frame.to_owned()))
        .collect();
    assert_eq!(bench.stop_times(), expected);
    // After each stop frame one query.
    let frames = bench.frames();
    assert_eq!(&frames[..6], [ZERO, STATUS, OFF7, STATUS, OFF4, STATUS]);
    bench.run(ms(3000));
    bench.gun_event(SimEvent::ButtonStop);
    bench.run(ms(700));
    assert_eq!(bench.progress(StopProgress::Unconfirmed).len(), 1, "told once");
    assert_eq!(bench.progress(StopProgress::Confirmed).len(), 1);
}

#[test]
fn a_learnt_frame_goes_first_and_off4_only_behind_off7() {
    let unit = Unit { learnt_stop: Some("stop_off4".to_owned()), ..bound() };
    let mut bench = Bench::new(unit, |gun| gun.stop_accepts.clear());
    bench.gun_event(SimEvent::ButtonStart);
    bench.connect(1);
    bench.run(ms(700));
    let frames: Vec<String> = bench.stop_times().into_iter().map(|(_, frame)| frame).collect();
    assert_eq!(frames, [OFF7, OFF4, ZERO, OFF7, OFF4]);
}

#[test]
fn a_refused_stop_frame_is_offered_again_every_50_ms() {
    let mut bench = Bench::running(1500, |gun| gun.stop_accepts = vec!["stop_off7".to_owned()]);
    bench.forget();
    bench.busy_until = bench.now.saturating_add(ms(220));
    bench.stop(1);
    bench.run(ms(900));
    let times = bench.stop_times();
    let expected = [(0, ZERO), (50, ZERO), (100, ZERO), (150, ZERO), (200, ZERO), (250, ZERO), (400, OFF7)];
    let expected: Vec<(u64, String)> = expected.into_iter().map(|(at, f)| (at, f.to_owned())).collect();
    assert_eq!(times, expected);
    assert_eq!(bench.progress(StopProgress::Confirmed).len(), 1);
}

#[test]
fn a_stop_does_not_wait_for_a_write_that_is_stuck() {
    let mut bench = Bench::running(1500, |_| {});
    bench.stuck_until = bench.now.saturating_add(ms(150));
    bench.set(1600);
    bench.run(ms(100));
    bench.forget();
    bench.stop(1);
    assert_eq!(bench.frames(), [ZERO]);
    bench.run(ms(600));
    assert_eq!(bench.gun.speed(), 0);
    assert_eq!(bench.progress(StopProgress::Confirmed).len(), 1);
}

#[test]
fn a_status_from_before_the_stop_proves_nothing() {
    // The gun is asked, stopped by hand and started again; the answer "stopped" is still on its way.
    let mut bench = Bench::running(1500, |gun| {
        gun.stop_accepts = vec!["stop_off4".to_owned()];
    });
    bench.renewing = false;
    bench.gun_event(SimEvent::DelayReplies(ms(240)));
    bench.gun_event(SimEvent::ButtonStop);
    bench.input(DriverInput::Renew { until: bench.now.saturating_add(ms(600)) });
    bench.run(ms(120));
    assert_eq!(bench.frames().last().map(String::as_str), Some(STATUS));
    bench.gun_event(SimEvent::ButtonStart);
    bench.forget();
    bench.stop(1);
    bench.run(ms(200));
    let stopped = Report::Measured { channel: MOTOR, running: false, intensity: Some(raw(0)) };
    assert!(bench.said(&stopped), "the stale answer came");
    assert_eq!(bench.progress(StopProgress::Confirmed).len(), 0);
    bench.run(ms(800));
    assert_eq!(bench.progress(StopProgress::Confirmed).len(), 1);
    assert_eq!(bench.gun.speed(), 0);
}

#[test]
fn sr_48_without_renewal_the_driver_stops_by_itself_at_the_end_of_the_lease() {
    let mut bench = Bench::running(1500, |_| {});
    bench.forget();
    bench.renewing = false;
    let until = bench.now.saturating_add(ms(600));
    bench.input(DriverInput::Renew { until });
    bench.run(ms(2000));
    let ended = Report::EpochEnded { epoch: Epoch(1), cause: EpochEnd::LeaseEnded };
    assert!(bench.said(&ended) && bench.said(&Report::LeaseEnded));
    let first = bench.packets.iter().find(|(_, packet)| packet.purpose() == Purpose::Stop).unwrap();
    assert_eq!(first.0, until);
    assert_eq!(bench.gun.speed(), 0);
    let id = bench.set(1500);
    assert!(
        bench.reports.iter().any(|(_, r)| matches!(r, Report::Refused { id: refused, .. } if *refused == id))
    );
}

#[test]
fn while_running_one_poll_leaves_for_each_renewal_and_none_by_a_timer() {
    let mut bench = Bench::ready(|_| {});
    bench.set(1200);
    bench.input(DriverInput::Renew { until: bench.now.saturating_add(ms(1500)) });
    bench.forget();
    bench.run(ms(1400));
    let polls = bench.packets.iter().filter(|(_, packet)| packet.purpose() == Purpose::KeepAlive).count();
    assert_eq!(polls, 1);
    assert!(!bench.packets.iter().any(|(_, packet)| packet.purpose() == Purpose::Query));
}

#[test]
fn without_output_the_status_is_asked_every_500_ms() {
    let mut bench = Bench::ready(|_| {});
    bench.forget();
    bench.run(ms(5000));
    assert!((10..=11).contains(&bench.packets.len()), "{}", bench.packets.len());
    assert!(bench.packets.iter().all(|(_, packet)| packet.purpose() == Purpose::Query));
}

#[test]
fn ordinary_writes_keep_their_gap_and_the_newest_target_wins() {
    let mut bench = Bench::ready(|_| {});
    bench.renewing = true;
    bench.forget();
    for step in 0..60u16 {
        bench.set(1000 + step * 10);
        bench.run(ms(17));
    }
    let last = bench.set(1700);
    bench.run(ms(400));
    for pair in bench.packets.windows(2) {
        assert!(pair[1].0.since(pair[0].0) >= ms(100), "{pair:?}");
    }
    let output: Vec<String> = bench
        .packets
        .iter()
        .filter(|(_, packet)| packet.purpose() == Purpose::Output)
        .map(|(_, packet)| hex(&packet.bytes()[4..6]))
        .collect();
    assert!(output.len() >= 4 && output.is_sorted(), "{output:?}");
    assert_eq!(output.last().map(String::as_str), Some("06a4"));
    assert!(bench.said(&Report::Acknowledged { id: last }));
    // Polls are not starved by the ramp.
    assert!(bench.packets.iter().filter(|(_, p)| p.purpose() == Purpose::KeepAlive).count() >= 3);
}

#[test]
fn only_numbers_of_the_unit_in_its_epoch_are_sent() {
    let mut bench = Bench::ready(|_| {});
    bench.forget();
    let below = bench.set(999);
    let stale = bench.set_in(Epoch(2), 1000);
    let level = Command::Set {
        id: CommandId(77),
        epoch: Epoch(1),
        channel: MOTOR,
        setpoint: Setpoint::Level(Level::from_level(1)),
    };
    bench.input(DriverInput::Command(Cleared::for_test(level)));
    let refused: Vec<CommandId> = bench
        .reports
        .iter()
        .filter_map(|(_, report)| if let Report::Refused { id, .. } = report { Some(*id) } else { None })
        .collect();
    assert_eq!(refused, [below, stale, CommandId(77)]);
    assert!(!bench.packets.iter().any(|(_, packet)| packet.purpose() == Purpose::Output));
    bench.set(2401);
    bench.run(ms(200));
    assert!(bench.said(&Report::Clamped { asked: raw(2401), sent: raw(2400) }));
    assert!(bench.frames().contains(&"aa700103096003".to_owned()));
}

#[test]
fn zero_is_the_first_stop_frame_acknowledged_and_the_epoch_goes_on() {
    let mut bench = Bench::running(1500, |_| {});
    bench.forget();
    let id = bench.set(0);
    bench.run(ms(200));
    assert_eq!(bench.frames(), [ZERO, STATUS]);
    assert!(bench.said(&Report::Acknowledged { id }));
    assert!(bench.progress(StopProgress::Confirmed).is_empty());
    let again = bench.set(1000);
    bench.run(ms(200));
    assert!(bench.said(&Report::Acknowledged { id: again }));
}

#[test]
fn an_end_that_is_not_obeyed_is_a_stop_that_is_unconfirmed() {
    let mut bench = Bench::running(1500, |gun| gun.stop_accepts = vec!["stop_off4".to_owned()]);
    bench.set(0);
    bench.run(ms(500));
    assert_eq!(bench.gun.speed(), 0);
    let mut deaf = Bench::running(1500, |gun| gun.stop_accepts.clear());
    deaf.set(0);
    deaf.run(ms(1100));
    assert_eq!(deaf.progress(StopProgress::Unconfirmed).len(), 1);
}

#[test]
fn a_set_without_answer_ends_in_a_stop() {
    let mut bench = Bench::running(1500, |_| {});
    bench.forget();
    bench.run(ms(150));
    bench.stuck_until = bench.now.saturating_add(ms(400));
    let id = bench.set(1600);
    bench.run(ms(1500));
    assert!(bench.said(&Report::Unacknowledged { id }));
    let ended = Report::EpochEnded { epoch: Epoch(1), cause: EpochEnd::LostAcknowledgement };
    assert!(bench.said(&ended));
    assert_eq!(bench.gun.speed(), 0);
    assert_eq!(bench.progress(StopProgress::Confirmed).len(), 1);
}

#[test]
fn the_units_own_button_is_obeyed_downward_and_stopped_upward() {
    // Stopped by hand: not restarted.
    let mut bench = Bench::running(1500, |_| {});
    bench.forget();
    bench.gun_event(SimEvent::ButtonStop);
    bench.run(ms(1500));
    assert!(bench.said(&Report::OwnButton(OwnButton::Stopped)));
    assert!(!bench.packets.iter().any(|(_, packet)| packet.purpose() == Purpose::Output));
    let id = bench.set(1500);
    assert!(
        bench.reports.iter().any(|(_, r)| matches!(r, Report::Refused { id: refused, .. } if *refused == id))
    );

    // Started by hand: stopped.
    let mut bench = Bench::ready(|_| {});
    bench.run(ms(1000));
    bench.forget();
    bench.gun_event(SimEvent::ButtonStart);
    bench.run(ms(1200));
    let started = |r: &Report| matches!(r, Report::OwnButton(OwnButton::Started(_)));
    assert_eq!(bench.reports.iter().filter(|(_, report)| started(report)).count(), 1);
    assert_eq!(bench.gun.speed(), 0);

    // Lowered by hand: the new setpoint after 2 s, never raised back.
    let mut bench = Bench::running(1500, |_| {});
    bench.forget();
    bench.gun_event(SimEvent::ButtonSpeed(1200));
    bench.run(ms(1900));
    assert!(!bench.said(&Report::OwnButton(OwnButton::Lowered(raw(1200)))));
    bench.run(ms(1600));
    let lowered = Report::OwnButton(OwnButton::Lowered(raw(1200)));
    assert_eq!(bench.reports.iter().filter(|(_, report)| *report == lowered).count(), 1);
    assert_eq!(bench.gun.speed(), 1200);

    // Raised by hand: stop.
    for raised in [1700, 3000] {
        let mut bench = Bench::running(1500, |_| {});
        bench.forget();
        bench.gun_event(SimEvent::ButtonSpeed(raised));
        bench.run(ms(1500));
        assert!(bench.reports.iter().any(|(_, r)| matches!(r, Report::OwnButton(OwnButton::Raised(_)))));
        let ended = Report::EpochEnded { epoch: Epoch(1), cause: EpochEnd::UnexpectedStatus };
        assert!(bench.said(&ended));
        assert_eq!(bench.gun.speed(), 0);
    }
}

#[test]
fn spinning_down_is_nobodys_button() {
    let mut bench = Bench::running(2400, |gun| gun.status_follows_motor = true);
    bench.forget();
    bench.gun_event(SimEvent::DelayReplies(ms(200)));
    bench.set(1000);
    bench.run(ms(2500));
    bench.set(0);
    bench.run(ms(1500));
    assert!(
        !bench.reports.iter().any(|(_, report)| matches!(report, Report::OwnButton(_))),
        "{:?}",
        bench.reports
    );
}

#[test]
fn damaged_and_foreign_bytes_are_counted_and_are_no_life() {
    let mut bench = Bench::ready(|_| {});
    bench.forget();
    bench.gun_event(SimEvent::CorruptReplies(4));
    bench.run(ms(2000));
    let odd = bench.reports.iter().filter(|(_, r)| matches!(r, Report::Unintelligible { .. })).count();
    let life = bench.reports.iter().filter(|(_, r)| matches!(r, Report::Alive)).count();
    // A flipped bit never makes another good frame.
    assert_eq!((odd, bench.driver.counts().unintelligible), (4, 4));
    assert!(life < 2, "{life}");
}

#[test]
fn sr_05_a_lost_link_ends_the_epoch_and_a_new_one_begins_with_a_stop() {
    let mut bench = Bench::running(1500, |_| {});
    bench.disconnect();
    let ended = Report::EpochEnded { epoch: Epoch(1), cause: EpochEnd::Disconnected };
    assert!(bench.said(&ended));
    bench.run(ms(3000));
    assert_eq!(bench.gun.speed(), 1500, "it runs on");
    bench.forget();
    bench.renewing = false;
    bench.connect(2);
    bench.run(ms(3000));
    assert_eq!(bench.frames()[..2], [ZERO, STATUS]);
    assert_eq!(bench.gun.speed(), 0);
    assert!(!bench.packets.iter().any(|(_, packet)| packet.purpose() == Purpose::Output));
}

#[test]
fn a_stop_asked_without_a_link_is_unconfirmed_in_time_and_done_when_the_link_comes() {
    let mut bench = Bench::running(1500, |gun| gun.on_link_loss = LinkLoss::Continues);
    bench.disconnect();
    bench.renewing = false;
    bench.forget();
    bench.stop(3);
    bench.run(ms(2000));
    assert_eq!(bench.progress(StopProgress::Unconfirmed).len(), 1);
    assert!(bench.packets.is_empty());
    bench.connect(3);
    bench.run(ms(500));
    let confirmed = bench.progress(StopProgress::Confirmed);
    assert_eq!((confirmed.len(), confirmed[0].1), (1, Generation(3)));
}

#[test]
fn lost_replies_delay_the_proof_and_nothing_else() {
    let mut bench = Bench::running(1500, |_| {});
    bench.forget();
    bench.gun_event(SimEvent::DropReplies(2));
    bench.stop(1);
    bench.run(ms(300));
    assert_eq!(bench.gun.speed(), 0);
    assert!(bench.progress(StopProgress::Confirmed).is_empty());
    bench.run(ms(500));
    assert_eq!(bench.progress(StopProgress::Confirmed).len(), 1);
}

#[test]
fn a_level_gun_is_written_to_only_through_an_open_gate_and_never_proves_a_stop() {
    let unit = || Unit { variant: Some("Hypervolt 2".to_owned()), ..bound() };
    let gate = |bench: &mut Bench| {
        let uuid = bench.driver.profile.gate.unwrap().uuid;
        let bytes = bench.gun.read(uuid).unwrap();
        let received = Received { endpoint: Endpoint::Characteristic(uuid), bytes };
        bench.input(DriverInput::Received(&received));
    };
    for means in [NotificationMeans::Level, NotificationMeans::Pressure] {
        let mut bench = Bench::of("hypervolt-legacy", unit(), |gun| gun.notification_means = means);
        bench.connect(2);
        bench.run(ms(300));
        assert!(bench.packets.is_empty());
        gate(&mut bench);
        bench.run(ms(1200));
        let times = bench.stop_times();
        let expected: Vec<(u64, String)> =
            [0, 100, 200, 500, 600, 700, 1000, 1100, 1200].map(|at| (at, "00".to_owned())).to_vec();
        assert_eq!(times, expected);
        assert_eq!(bench.progress(StopProgress::Unconfirmed).len(), 1);
        assert_eq!(bench.progress(StopProgress::Confirmed).len(), 0);
        bench.input(DriverInput::Command(Cleared::for_test(Command::Prepare { epoch: Epoch(1) })));
        bench.run(ms(400));
        assert!(bench.said(&Report::Ready { epoch: Epoch(1) }));
        let setpoint = Setpoint::Level(Level::from_level(1));
        let set = Command::Set { id: CommandId(5), epoch: Epoch(1), channel: MOTOR, setpoint };
        bench.renewing = true;
        bench.input(DriverInput::Command(Cleared::for_test(set)));
        bench.run(ms(1500));
        assert_eq!(bench.gun.speed(), 1);
        assert!(bench.said(&Report::Unacknowledged { id: CommandId(5) }));
    }
    let mut shut = Bench::of("hypervolt-legacy", unit(), |gun| gun.gate_value = vec![1, 0xA2, 0xB3]);
    shut.connect(0);
    gate(&mut shut);
    shut.stop(1);
    shut.run(ms(3000));
    assert!(shut.packets.is_empty());
    assert!(shut.reports.iter().any(|(_, report)| matches!(report, Report::Unusable { .. })));
}

#[test]
fn the_guards_script_says_the_same_as_the_driver() {
    let driver = ProfileDriver::new(profile("theragun-g4"), &bound());
    let script = driver.stop_script();
    let frames: Vec<String> = script.steps.iter().map(|step| hex(&step.bytes)).collect();
    assert_eq!(frames, [ZERO, STATUS, OFF7, STATUS, OFF4, STATUS]);
    let total: Duration = script.steps.iter().map(|step| step.wait).sum();
    assert_eq!((total, script.cycle), (ms(450), ms(500)));
    let confirm = script.steps[1].confirm.as_ref().unwrap();
    assert_eq!(hex(&confirm.mask), "ff00ff00ff");
    assert_eq!(hex(&confirm.value), "bb00100000");
}

/// Anything that can reach a driver.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Prepare(u32),
    Set(u32, u16),
    Finish(u32),
    Stop(u64),
    Renew(u64),
    Connect,
    Disconnect,
    Status(bool, u16),
    Version,
    Bytes(Vec<u8>),
    Answer(usize, SendOutcome),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        6 => Just(SendOutcome::Written),
        1 => Just(SendOutcome::Late),
        1 => Just(SendOutcome::Unknown),
        1 => Just(SendOutcome::Busy),
    ];
    let step = prop_oneof![
        6 => (1u64..300).prop_map(Step::Wait),
        2 => (1u32..4).prop_map(Step::Prepare),
        4 => ((1u32..4), prop_oneof![Just(0u16), 900u16..2600]).prop_map(|(e, s)| Step::Set(e, s)),
        1 => (1u32..4).prop_map(Step::Finish),
        1 => (1u64..9).prop_map(Step::Stop),
        2 => (0u64..900).prop_map(Step::Renew),
        1 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        6 => (prop::bool::weighted(0.3), 0u16..4000).prop_map(|(r, s)| Step::Status(r, s)),
        1 => Just(Step::Version),
        1 => prop::collection::vec(any::<u8>(), 0..24).prop_map(Step::Bytes),
        8 => ((0usize..3), outcome).prop_map(|(n, o)| Step::Answer(n, o)),
    ];
    // A beginning that leads somewhere, so that most runs give output.
    let opening = vec![
        Step::Connect,
        Step::Answer(0, SendOutcome::Written),
        Step::Status(false, 0),
        Step::Wait(120),
        Step::Version,
        Step::Prepare(1),
        Step::Answer(0, SendOutcome::Written),
        Step::Wait(120),
        Step::Answer(0, SendOutcome::Written),
        Step::Status(false, 0),
        Step::Wait(120),
        Step::Answer(0, SendOutcome::Written),
        Step::Set(1, 1500),
    ];
    prop::collection::vec(step, 0..120).prop_map(move |rest| [opening.clone(), rest].concat())
}

fn status_frame(running: bool, speed: u16) -> Vec<u8> {
    let [high, low] = speed.to_be_bytes();
    let mut frame = vec![0xBB, 0, 0x10, 12, u8::from(running), 0, 0, 0, 0, 0, 0, 0, 0, high, low, 0];
    frame[1] = frame[2..].iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
    frame
}

/// A driver alone with anything; checks every packet against the laws as it leaves.
struct Laws {
    driver: ProfileDriver,
    now: Mono,
    open: Vec<u32>,
    /// End of what the governor allowed, from its own words.
    lease: Option<Mono>,
    stopped: bool,
    last_stop: Option<Vec<u8>>,
    outcomes: BTreeMap<u32, (Vec<u8>, Option<SendOutcome>)>,
    last_ordinary: Option<Mono>,
    outputs: usize,
}

impl Laws {
    fn input(&mut self, input: DriverInput<'_>) {
        let mut out = Vec::new();
        self.driver.advance(self.now, input, &mut out);
        for output in out {
            match output {
                // The first setpoint of an epoch has a lease of its own.
                DriverOutput::Report(Report::Ready { .. }) => (self.stopped, self.lease) = (false, None),
                DriverOutput::Report(_) => {}
                DriverOutput::Send(packet) => self.check(&packet),
            }
        }
    }

    fn check(&mut self, packet: &Packet) {
        let frame = hex(packet.bytes());
        let is_stop = STOPS.contains(&frame.as_str());
        assert_eq!(is_stop, packet.purpose() == Purpose::Stop);
        if matches!(packet.purpose(), Purpose::Output | Purpose::KeepAlive) {
            let lease = self.lease.expect("output without a lease");
            assert!(self.now < lease, "{frame} at {} after {lease}", self.now);
            assert!(packet.valid_until().is_some_and(|until| until <= lease));
            assert!(!self.stopped, "{frame} while a stop is wanted");
        } else {
            assert!(is_stop || frame == STATUS || frame == VERSION, "{frame}");
        }
        if packet.purpose() == Purpose::Output {
            self.outputs += 1;
            let speed = u16::from_be_bytes([packet.bytes()[4], packet.bytes()[5]]);
            assert!((1000..=2400).contains(&speed));
        }
        if frame == OFF4 {
            // Only off7 lies between this frame and the off7 that is known to be written.
            let mut before = self.outcomes.values().rev().filter(|(bytes, _)| hex(bytes) != STATUS);
            let found = before.find(|(bytes, outcome)| {
                assert_eq!(hex(bytes), OFF7);
                *outcome == Some(SendOutcome::Written)
            });
            assert!(found.is_some(), "off4 without a written off7");
        }
        if !is_stop && !self.stopped {
            if let Some(last) = self.last_ordinary {
                assert!(self.now.since(last) >= ms(100) || frame == STATUS);
            }
            self.last_ordinary = Some(self.now);
        }
        if is_stop {
            self.stopped = true;
            self.last_stop = Some(packet.bytes().to_vec());
        }
        self.open.push(packet.id());
        self.outcomes.insert(packet.id(), (packet.bytes().to_vec(), None));
    }

    fn wait(&mut self, until: Mono) {
        let mut rounds = 0;
        while let Some(at) = self.driver.deadline().filter(|at| *at <= until) {
            rounds = if at > self.now { 0 } else { rounds + 1 };
            assert!(rounds < 20, "no progress: {:?}", self.driver);
            self.now = self.now.max(at);
            self.input(DriverInput::Tick);
        }
        self.now = until;
        self.input(DriverInput::Tick);
    }

    fn step(&mut self, number: usize, step: &Step) {
        let status = Endpoint::Characteristic(self.driver.profile.gatt.status.as_ref().unwrap().uuid);
        let bytes = |bytes: Vec<u8>| Received { endpoint: status, bytes };
        let id = CommandId(u64::try_from(number).unwrap());
        match step.clone() {
            Step::Wait(span) => self.wait(self.now.saturating_add(ms(span))),
            Step::Prepare(epoch) => {
                self.input(DriverInput::Command(Cleared::for_test(Command::Prepare { epoch: Epoch(epoch) })));
            }
            Step::Set(epoch, speed) => {
                // The first setpoint of an output has a lease of its own.
                let first = self.now.saturating_add(FIRST_LEASE);
                self.lease = Some(self.lease.filter(|until| *until > self.now).unwrap_or(first));
                let setpoint = Setpoint::Speed(RawSpeed::from_raw(speed));
                let epoch = Epoch(epoch);
                let set = Command::Set { id, epoch, channel: MOTOR, setpoint };
                self.input(DriverInput::Command(Cleared::for_test(set)));
            }
            Step::Finish(epoch) => {
                let finish = Command::Finish { id, epoch: Epoch(epoch), channel: MOTOR };
                self.input(DriverInput::Command(Cleared::for_test(finish)));
            }
            Step::Stop(generation) => {
                self.stopped = true;
                self.input(DriverInput::Command(Cleared::stop(Generation(generation))));
            }
            Step::Renew(span) => {
                let until = self.now.saturating_add(ms(span));
                self.lease = Some(until);
                self.input(DriverInput::Renew { until });
            }
            Step::Connect => {
                self.stopped = true;
                self.outcomes.clear();
                self.last_ordinary = None;
                self.input(DriverInput::Connected { generation: Generation(1) });
            }
            Step::Disconnect => self.input(DriverInput::Disconnected),
            Step::Status(running, speed) => {
                self.input(DriverInput::Received(&bytes(status_frame(running, speed))));
            }
            Step::Version => {
                let frame = vec![0xBB, 0x02, 0x20, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xD8];
                self.input(DriverInput::Received(&bytes(frame)));
            }
            Step::Bytes(frame) => self.input(DriverInput::Received(&bytes(frame))),
            Step::Answer(place, outcome) => {
                if place < self.open.len() {
                    let id = self.open.remove(place);
                    if let Some(entry) = self.outcomes.get_mut(&id) {
                        entry.1 = Some(outcome);
                    }
                    self.input(DriverInput::Sent { id, outcome });
                }
            }
        }
    }
}

#[test]
fn sr_48_law_12_with_the_governor_silent_nothing_but_stops_and_queries_leaves_past_the_lease() {
    let profile = profile("theragun-g4");
    let reached = std::cell::Cell::new((0u32, 0usize));
    let cases = crate::driver::testing::cases();
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let result = runner.run(&steps(), |steps| {
        let mut laws = Laws {
            driver: ProfileDriver::new(profile.clone(), &bound()),
            now: Mono::from_millis(500),
            open: Vec::new(),
            lease: None,
            stopped: false,
            last_stop: None,
            outcomes: BTreeMap::new(),
            last_ordinary: None,
            outputs: 0,
        };
        for (number, step) in steps.iter().enumerate() {
            laws.step(number, step);
        }
        // The governor falls silent.
        laws.wait(laws.now.saturating_add(ms(3000)));
        let (runs, outputs) = reached.get();
        reached.set((runs + u32::from(laws.outputs > 0), outputs + laws.outputs));
        Ok(())
    });
    result.unwrap();
    let (runs, outputs) = reached.get();
    eprintln!("SR-48, guns: {runs} of {cases} runs gave output, {outputs} output frames");
    assert!(runs >= cases / 2, "only {runs} runs gave output, {outputs} frames");
}

fn allow(bench: &mut Bench, most: u16) {
    let most = Setpoint::Speed(RawSpeed::from_raw(most));
    let allow = Command::AllowStart { id: CommandId(900), epoch: Epoch(1), channel: MOTOR, most };
    bench.input(DriverInput::Command(Cleared::for_test(allow)));
}

/// Design 5: where the armed step says so, a start and a change at the gun itself are followed, up to the limit, and the
/// first setpoint from here ends that.
#[test]
fn a_start_at_the_gun_is_followed_where_it_is_allowed() {
    let mut bench = Bench::ready(|_| {});
    bench.renewing = true;
    allow(&mut bench, 1800);
    bench.run(ms(1000));
    bench.forget();
    bench.gun_event(SimEvent::ButtonStart);
    bench.run(ms(2000));
    let started = |r: &Report| matches!(r, Report::OwnButton(OwnButton::Started(_)));
    assert_eq!(bench.reports.iter().filter(|(_, report)| started(report)).count(), 1);
    assert_eq!(bench.gun.speed(), 1000, "it runs on");
    assert!(
        !bench
            .packets
            .iter()
            .any(|(_, packet)| packet.purpose() != Purpose::KeepAlive && packet.purpose() != Purpose::Query)
    );
    bench.gun_event(SimEvent::ButtonSpeed(1800));
    bench.run(ms(1500));
    assert!(bench.said(&Report::OwnButton(OwnButton::Changed(raw(1800)))), "{:?}", bench.reports);
    assert_eq!(bench.gun.speed(), 1800);
    // Without renewal it ends like any output of the epoch.
    bench.renewing = false;
    bench.run(ms(2500));
    assert!(bench.said(&Report::LeaseEnded));
    assert_eq!(bench.gun.speed(), 0);
}

#[test]
fn a_start_at_the_gun_above_what_is_allowed_or_after_a_setpoint_is_stopped() {
    let mut bench = Bench::ready(|_| {});
    bench.renewing = true;
    allow(&mut bench, 1200);
    bench.run(ms(1000));
    bench.gun_event(SimEvent::ButtonStart);
    bench.run(ms(1500));
    assert_eq!(bench.gun.speed(), 1000);
    bench.gun_event(SimEvent::ButtonSpeed(1400));
    bench.run(ms(1500));
    assert!(bench.reports.iter().any(|(_, r)| matches!(r, Report::OwnButton(OwnButton::Raised(_)))));
    assert_eq!(bench.gun.speed(), 0);

    let mut bench = Bench::ready(|_| {});
    bench.renewing = true;
    allow(&mut bench, 2400);
    bench.set(1000);
    bench.run(ms(1500));
    bench.gun_event(SimEvent::ButtonSpeed(1500));
    bench.run(ms(1500));
    assert_eq!(bench.gun.speed(), 0, "the screen had taken over");

    // In another epoch, or with a stop wanted, nothing is allowed.
    let mut bench = Bench::ready(|_| {});
    bench.input(DriverInput::Command(Cleared::stop(Generation(9))));
    allow(&mut bench, 2400);
    assert!(bench.reports.iter().any(|(_, r)| matches!(r, Report::Refused { id: CommandId(900), .. })));
}

/// SR-20: a profile whose status has a field `force` passes it on; one without has none.
#[test]
fn sr_20_a_force_is_reported_where_the_profile_knows_its_place() {
    for known in [false, true] {
        let mut bench = Bench::running(1500, |_| {});
        if known {
            let mut text = include_str!("../../../config/devices/theragun-g4.toml").to_owned();
            text = text.replace(
                "speed = { at = 13, type = \"u16be\" } }",
                "speed = { at = 13, type = \"u16be\" }, force = { at = 5, type = \"u8\" } }",
            );
            let mut problems = Vec::new();
            let source = crate::config::Source { path: "test.toml".into(), text: text.into() };
            let profile = device_file::load_profile(&source, &mut problems).expect("a profile");
            bench.gun = Gun::new(&profile, 7, GunBehaviour::of(&profile));
            bench.driver = ProfileDriver::new(profile, &bound());
            assert!(bench.driver.profile.capability(None).reports_force);
            bench.connect(0);
        }
        bench.gun_event(SimEvent::Force(77));
        bench.run(ms(1500));
        let force = bench.said(&Report::Force(crate::units::RawForce::from_raw(77)));
        assert_eq!(force, known, "nothing is invented");
    }
}
