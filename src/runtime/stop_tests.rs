//! Stops through a unit's own task, driver and link, in virtual time: the simulated output is what counts.

use std::sync::{Arc, Mutex};

use super::*;
use crate::config::{Source, device_file, stimulator_file};
use crate::driver::profile::{self, ProfileDriver};
use crate::driver::sciencemode::{Dialect, ScienceMode};
use crate::model::command::{Channel, CommandId, Epoch, Setpoint};
use crate::model::profile::Profile;
use crate::rig::pump::Pump;
use crate::runtime::fakes::{Behaviour, FakeDriver, FakeLink, Wire};
use crate::runtime::handle::Lanes;
use crate::sim::link::{self, LinkFaults};
use crate::sim::percussion::{Gun, GunBehaviour};
use crate::sim::stim::{Stimulator, StimulatorBehaviour};
use crate::sim::world::WorldEvent;
use crate::sim::{Delivered, SimDevice};
use crate::transport::loopback;
use crate::units::{Microseconds, Milliamps, RawSpeed};

const UNIT: DeviceId = DeviceId(0);

/// One unit in virtual time: its task, its far end, and what it reported.
struct Room {
    clock: Clock,
    lanes: Lanes,
    orders: mpsc::Sender<Order>,
    reports: Arc<Mutex<Vec<(Mono, Input)>>>,
    task: tokio::task::JoinHandle<DeviceEnd>,
    far: tokio::task::JoinHandle<Vec<Delivered>>,
}

impl Room {
    /// `both`: its characteristics offer both ways of writing.
    fn new(
        driver: Box<dyn Driver>,
        device: Box<dyn SimDevice>,
        (serial, both): (bool, bool),
        events: &[(u64, &str)],
    ) -> Self {
        let clock = Clock::start();
        let (mut near, far) = loopback::pair("unit");
        if both {
            near = near.offering_both();
        }
        let events: Vec<(Duration, WorldEvent)> =
            events.iter().map(|(at, what)| (Duration::from_millis(*at), what.parse().unwrap())).collect();
        let unit = link::Unit::new(device, LinkFaults::default(), serial, 1);
        let far = tokio::spawn(Pump::new(unit, far, clock.clone(), &events, None).run());
        let lanes = Lanes::new(1);
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let (report, mut reported) = mpsc::channel(8);
        let lane = lanes.subscribe(UNIT).unwrap();
        let before = Before { port: None, script: watch::Sender::new(driver.stop_script().clone()) };
        let task = DeviceTask::new(UNIT, clock.clone(), (driver, near), lane, (ordered, report), before);
        let task = tokio::spawn(task.run());
        let reports = Arc::new(Mutex::new(Vec::new()));
        let (kept, at) = (Arc::clone(&reports), clock.clone());
        tokio::spawn(async move {
            while let Some(input) = reported.recv().await {
                kept.lock().unwrap().push((at.now(), input));
            }
        });
        Self { clock, lanes, orders, reports, task, far }
    }

    fn gun(seed: u64, both: bool, events: &[(u64, &str)], change: impl FnOnce(&mut GunBehaviour)) -> Self {
        let profile = theragun();
        let mut behaviour = GunBehaviour::of(&profile);
        change(&mut behaviour);
        let gun = Gun::new(&profile, seed, behaviour);
        let unit = profile::Unit { variant: None, bound: true, learnt_stop: None };
        Self::new(Box::new(ProfileDriver::new(profile, &unit)), Box::new(gun), (false, both), events)
    }

    fn order(&self, what: Ordered) {
        self.orders.try_send(Order { after: self.lanes.count(UNIT), what }).unwrap();
    }

    /// Starts output and keeps it for 1.5 s.
    async fn runs(&self, setpoint: Setpoint) {
        pass(900).await;
        self.order(Ordered::Command(Cleared::for_test(Command::Prepare { epoch: Epoch(1) })));
        pass(600).await;
        let (id, epoch, channel) = (CommandId(1), Epoch(1), Channel(0));
        self.order(Ordered::Command(Cleared::for_test(Command::Set { id, epoch, channel, setpoint })));
        self.kept(1500).await;
    }

    async fn kept(&self, milliseconds: u64) {
        for _ in 0..milliseconds / 100 {
            self.order(Ordered::Renew(self.clock.now().saturating_add(Duration::from_millis(400))));
            pass(100).await;
        }
    }

    fn stop(&self, generation: u64) -> Mono {
        self.lanes.post(UNIT, Generation(generation));
        self.clock.now()
    }

    /// Returns what was reported of the stop of this generation, and how long after `asked`.
    fn progress(&self, asked: Mono, wanted: u64) -> Vec<(StopProgress, u128)> {
        let reports = self.reports.lock().unwrap();
        let own = reports.iter().filter_map(|(at, input)| {
            let Input::Report { report: Report::Stop { generation, progress, .. }, .. } = input else {
                return None;
            };
            (*generation == Generation(wanted)).then(|| (*progress, at.since(asked).as_millis()))
        });
        own.collect()
    }

    /// Returns when the link came up.
    fn ups(&self) -> Vec<u128> {
        let reports = self.reports.lock().unwrap();
        let ups = reports.iter().filter(|(_, input)| matches!(input, Input::Link { up: true, .. }));
        ups.map(|(at, _)| at.since(Mono::ORIGIN).as_millis()).collect()
    }

    /// Ends it and returns what the unit gives at this moment, highest channel.
    async fn present(self) -> u32 {
        self.task.abort();
        let truth = self.far.await.unwrap();
        assert!(truth.iter().any(|channel| channel.on_us > 500_000 || channel.pulses > 10), "it never ran");
        truth.iter().map(|channel| channel.present).max().unwrap_or(0)
    }
}

fn theragun() -> Profile {
    device_file::built_in(&mut Vec::new()).profiles.remove(0)
}

async fn pass(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

fn raw(speed: u16) -> Setpoint {
    Setpoint::Speed(RawSpeed::from_raw(speed))
}

/// SR-01: whichever single frame a gun obeys, over either way of writing, output is zero 500 ms after the stop.
#[tokio::test(start_paused = true)]
async fn sr_01_every_stop_set_of_size_one_is_at_zero_within_500_ms_on_bluetooth() {
    for seed in 0..10 {
        for both in [true, false] {
            for accepted in ["stop_zero", "stop_off7", "stop_off4"] {
                let only = |gun: &mut GunBehaviour| gun.stop_accepts = vec![accepted.to_owned()];
                let room = Room::gun(seed, both, &[], only);
                room.runs(raw(2400)).await;
                room.stop(1);
                pass(500).await;
                assert_eq!(room.present().await, 0, "{accepted}, seed {seed}, both ways {both}");
            }
            // The same wait without a stop that works: the test can fail.
            let room = Room::gun(seed, both, &[], |gun| gun.stop_accepts.clear());
            room.runs(raw(2400)).await;
            room.stop(1);
            pass(500).await;
            assert!(room.present().await > 0);
        }
    }
}

/// SR-01: a stimulator's output is zero 250 ms after the stop.
#[tokio::test(start_paused = true)]
async fn sr_01_a_stimulator_is_at_zero_within_250_ms_of_its_stop() {
    let setpoint = Setpoint::Pulses {
        current: Milliamps::from_milliamps(20),
        width: Microseconds::from_micros(250),
        period: Microseconds::from_micros(20_000),
    };
    for seed in 0..10 {
        for (dialect, file) in [
            (Dialect::Sm4, include_str!("../../config/devices/hasomed-p24.toml")),
            (Dialect::Sm3, include_str!("../../config/devices/hasomed-rehamove3.toml")),
        ] {
            let unit = Stimulator::new(dialect, "S", seed, StimulatorBehaviour::default());
            let source = Source { path: "device.toml".into(), text: Arc::from(file) };
            let capability = stimulator_file::load(&source, &mut Vec::new()).unwrap().capability;
            let driver = ScienceMode::new(dialect, capability);
            let room = Room::new(Box::new(driver), Box::new(unit), (true, false), &[]);
            room.runs(setpoint).await;
            let asked = room.stop(1);
            pass(250).await;
            let confirmed = room.progress(asked, 1);
            assert!(
                confirmed.iter().any(|(progress, _)| *progress == StopProgress::Confirmed),
                "{confirmed:?}"
            );
            assert_eq!(room.present().await, 0, "seed {seed}, {dialect:?}");
        }
    }
}

/// Where a characteristic offers both ways of writing, a peer that answers nothing does not keep the stop away.
#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_write_is_stopped_all_the_same() {
    for accepted in ["stop_zero", "stop_off7", "stop_off4"] {
        let only = |gun: &mut GunBehaviour| gun.stop_accepts = vec![accepted.to_owned()];
        let room = Room::gun(3, true, &[(0, "write-silent")], only);
        room.runs(raw(2000)).await;
        let asked = room.stop(1);
        pass(500).await;
        let progress = room.progress(asked, 1);
        assert!(progress.iter().any(|(progress, _)| *progress == StopProgress::Confirmed), "{progress:?}");
        assert_eq!(room.present().await, 0, "{accepted}");
    }
}

/// A characteristic that only answers writes, and stops answering in mid run: the stop cannot pass. It is unconfirmed
/// at one second, the link is dropped once after five, and the new one hears the stop before anything else.
#[tokio::test(start_paused = true)]
async fn sr_24_a_stuck_write_is_told_at_one_second_and_costs_the_link_once_after_five() {
    let events = [(3_000, "write-silent"), (60_000, "radio-well")];
    let room = Room::gun(3, false, &events, |_| {});
    room.runs(raw(2000)).await;
    room.kept(200).await;
    let asked = room.stop(1);
    pass(4_500).await;
    let progress = room.progress(asked, 1);
    assert_eq!(progress, [(StopProgress::Unconfirmed, 1000)]);
    assert_eq!(room.ups().len(), 1, "it is kept up to five seconds");
    pass(8_000).await;
    assert_eq!(room.ups().len(), 2, "{:?}", room.ups());
    // The new link is stuck as well: it is kept, and the stop is offered on it, until the protocol gives it up.
    pass(15_000).await;
    assert_eq!(room.ups().len(), 2, "{:?}", room.ups());
    let since = room.clock.now().since(Mono::ORIGIN);
    pass(u64::try_from(Duration::from_secs(95).saturating_sub(since).as_millis()).unwrap()).await;
    let confirmed: Vec<_> =
        room.progress(asked, 1).into_iter().filter(|(how, _)| *how == StopProgress::Confirmed).collect();
    assert_eq!(confirmed.len(), 1, "{:?}", room.reports.lock().unwrap().last());
    assert_eq!(room.present().await, 0);
}

/// SR-01: one blocked transport with all the orders that it takes of 400 delays no other.
#[tokio::test(start_paused = true)]
async fn sr_01_a_blocked_transport_with_400_commands_delays_no_other_stop() {
    let clock = Clock::start();
    let lanes = Lanes::new(2);
    let mut wires = Vec::new();
    let mut ends = Vec::new();
    let mut kept = Vec::new();
    for (id, behaviour) in [(DeviceId(0), Behaviour::Stuck), (DeviceId(1), Behaviour::Well)] {
        let wire = Arc::new(Mutex::new(Wire { behaviour, ..Wire::default() }));
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let (report, reports) = mpsc::channel(8);
        let (replies, replied) = mpsc::channel(8);
        let link = FakeLink { wire: Arc::clone(&wire), clock: clock.clone(), replies: replied };
        let driver = Box::new(FakeDriver::new(false, false));
        let lane = lanes.subscribe(id).unwrap();
        let script = crate::driver::Driver::stop_script(&*driver).clone();
        let before = Before { port: None, script: watch::Sender::new(script) };
        let task = DeviceTask::new(id, clock.clone(), (driver, link), lane, (ordered, report), before);
        tokio::spawn(task.run());
        wires.push(wire);
        ends.push(orders);
        kept.push((reports, replies));
    }
    pass(10).await;
    let command =
        Command::Set { id: CommandId(1), epoch: Epoch(1), channel: Channel(0), setpoint: raw(1000) };
    let mut taken = 0;
    for _ in 0..400 {
        let what = Ordered::Command(Cleared::for_test(command));
        taken += usize::from(ends[0].try_send(Order { after: 0, what }).is_ok());
    }
    assert!(taken >= ORDERS_MAX, "{taken}");
    let asked = clock.now();
    lanes.post(DeviceId(0), Generation(1));
    lanes.post(DeviceId(1), Generation(1));
    pass(10).await;
    let written = wires[1].lock().unwrap().written.clone();
    let at = written.last().unwrap().0;
    assert!(written.len() == 2 && at.since(asked) <= Duration::from_millis(10), "{written:?}");
    assert!(wires[0].lock().unwrap().written.is_empty());
}
