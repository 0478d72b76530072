//! A unit's task against a driver and a link that can be told to misbehave.

use std::sync::{Arc, Mutex};

use super::*;
use crate::model::command::{Channel, CommandId, Epoch, Setpoint};
use crate::model::packet::{Endpoint, Received};
use crate::runtime::fakes::{Behaviour, FakeDriver, FakeLink, STOP, Wire};
use crate::runtime::handle::Lanes;
use crate::units::RawSpeed;

const UNIT: DeviceId = DeviceId(0);

/// One task with everything that holds it.
struct Bench {
    clock: Clock,
    wire: Arc<Mutex<Wire>>,
    outcomes: Arc<Mutex<Vec<(u32, SendOutcome)>>>,
    lanes: Lanes,
    orders: mpsc::Sender<Order>,
    reports: mpsc::Receiver<Input>,
    replies: mpsc::Sender<Received>,
    task: tokio::task::JoinHandle<DeviceEnd>,
}

fn bench(behaviour: Behaviour, panics: bool) -> Bench {
    let clock = Clock::start();
    let wire = Arc::new(Mutex::new(Wire { behaviour, ..Wire::default() }));
    let lanes = Lanes::new(1);
    let (orders, ordered) = mpsc::channel(ORDERS_MAX);
    let (report, reports) = mpsc::channel(8);
    let (replies, replied) = mpsc::channel(8);
    let driver = FakeDriver::new(panics, false);
    let outcomes = Arc::clone(&driver.outcomes);
    let link = FakeLink { wire: Arc::clone(&wire), clock: clock.clone(), replies: replied };
    let lane = lanes.subscribe(UNIT).unwrap();
    let script = watch::Sender::new(driver.stop_script().clone());
    let before = Before { port: None, script };
    let task =
        DeviceTask::new(UNIT, clock.clone(), (Box::new(driver), link), lane, (ordered, report), before);
    let task = tokio::spawn(task.run());
    Bench { clock, wire, outcomes, lanes, orders, reports, replies, task }
}

fn set(id: u64) -> Ordered {
    Ordered::Command(Cleared::for_test(Command::Set {
        id: CommandId(id),
        epoch: Epoch(1),
        channel: Channel(0),
        setpoint: Setpoint::Speed(RawSpeed::from_raw(1000)),
    }))
}

impl Bench {
    fn order(&self, what: Ordered) {
        self.orders.try_send(Order { after: self.lanes.count(UNIT), what }).unwrap();
    }

    fn written(&self) -> Vec<String> {
        let wire = self.wire.lock().unwrap();
        wire.written.iter().map(|(_, bytes)| String::from_utf8(bytes.clone()).unwrap()).collect()
    }

    fn behave(&self, behaviour: Behaviour) {
        self.wire.lock().unwrap().behaviour = behaviour;
    }

    async fn proves(&self) {
        let zero = Received { endpoint: Endpoint::Serial, bytes: b"zero".to_vec() };
        self.replies.send(zero).await.unwrap();
    }
}

async fn pass(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_connected_unit_is_stopped_before_anything_else() {
    let bench = bench(Behaviour::Well, false);
    pass(1).await;
    assert_eq!(bench.written(), ["stop"]);
    bench.order(set(1));
    pass(1).await;
    assert_eq!(bench.written(), ["stop", "set 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_passes_a_stuck_write_and_a_full_queue() {
    let bench = bench(Behaviour::Well, false);
    pass(10).await;
    bench.behave(Behaviour::StuckOutput);
    for id in 1..=64 {
        bench.order(set(id));
    }
    pass(1).await;
    for id in 65..=128 {
        bench.order(set(id));
    }
    let asked = bench.clock.now();
    bench.lanes.post(UNIT, Generation(7));
    pass(200).await;
    let written = bench.wire.lock().unwrap().written.clone();
    let (at, bytes) = written.last().unwrap();
    assert_eq!(bytes, STOP);
    let took = at.since(asked);
    assert!(took <= Duration::from_millis(50), "the stop took {took:?}");
    assert_eq!(written.len(), 2, "output that waited when the stop came was written");
}

#[tokio::test(start_paused = true)]
async fn an_order_given_before_a_stop_is_not_carried_out_after_it() {
    let bench = bench(Behaviour::Well, false);
    pass(10).await;
    bench.order(set(1));
    bench.lanes.post(UNIT, Generation(1));
    pass(10).await;
    assert_eq!(bench.written(), ["stop", "stop"]);
    bench.order(set(2));
    pass(10).await;
    assert_eq!(bench.written(), ["stop", "stop", "set 2"]);
}

#[tokio::test(start_paused = true)]
async fn two_stops_of_one_generation_both_reach_the_unit() {
    let bench = bench(Behaviour::Well, false);
    pass(10).await;
    bench.lanes.post(UNIT, Generation(1));
    pass(10).await;
    bench.lanes.post(UNIT, Generation(1));
    pass(10).await;
    assert_eq!(bench.written(), ["stop", "stop", "stop"]);
}

#[tokio::test(start_paused = true)]
async fn a_late_packet_is_dropped_and_told() {
    let bench = bench(Behaviour::Well, false);
    pass(10).await;
    bench.behave(Behaviour::StuckOutput);
    bench.order(set(1));
    pass(1).await;
    bench.order(set(2));
    // The first write is given up after a second; the second packet lived 250 ms.
    pass(1500).await;
    let outcomes = bench.outcomes.lock().unwrap().clone();
    assert_eq!(outcomes[1..], [(2, SendOutcome::Unknown), (3, SendOutcome::Late)]);
    assert_eq!(bench.written(), ["stop"]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_link_is_tried_until_the_stop_is_written() {
    let bench = bench(Behaviour::Well, false);
    pass(10).await;
    bench.behave(Behaviour::Busy);
    bench.lanes.post(UNIT, Generation(1));
    pass(200).await;
    let attempts = bench.wire.lock().unwrap().attempts;
    assert!((4..=6).contains(&attempts), "{attempts} in 200 ms");
    bench.behave(Behaviour::Well);
    pass(55).await;
    assert_eq!(bench.written(), ["stop", "stop"]);
}

#[tokio::test(start_paused = true)]
async fn writes_stuck_for_five_seconds_drop_the_link_and_stop_first() {
    let bench = bench(Behaviour::Well, false);
    pass(10).await;
    bench.behave(Behaviour::Busy);
    bench.lanes.post(UNIT, Generation(3));
    pass(4_900).await;
    assert_eq!(bench.wire.lock().unwrap().connects, 1);
    bench.behave(Behaviour::Well);
    bench.wire.lock().unwrap().written.clear();
    // Within the five seconds the link has come to life again: it is kept.
    pass(2_000).await;
    assert_eq!(bench.wire.lock().unwrap().connects, 1);
    bench.behave(Behaviour::Busy);
    bench.lanes.post(UNIT, Generation(4));
    pass(5_300).await;
    bench.behave(Behaviour::Well);
    bench.wire.lock().unwrap().written.clear();
    pass(2_000).await;
    assert_eq!(bench.wire.lock().unwrap().connects, 2);
    assert_eq!(bench.written().first().map(String::as_str), Some("stop"));
}

#[tokio::test(start_paused = true)]
async fn an_absent_unit_is_tried_for_ever_with_growing_pauses() {
    let mut bench = bench(Behaviour::Absent, false);
    pass(60_000).await;
    // At 0, 0.5, 1.5, 3.5, 7.5 s, then every 8 s.
    assert_eq!(bench.wire.lock().unwrap().connects, 5 + 6);
    bench.behave(Behaviour::Well);
    pass(8_000).await;
    assert_eq!(bench.reports.try_recv(), Ok(Input::Link { device: UNIT, up: true }));
}

#[tokio::test(start_paused = true)]
async fn a_unit_let_go_is_stopped_before_its_task_ends() {
    let bench = bench(Behaviour::Well, false);
    pass(10).await;
    bench.order(set(1));
    pass(10).await;
    let Bench { orders, wire, task, replies, .. } = bench;
    drop(orders);
    pass(100).await;
    assert_eq!(wire.lock().unwrap().written.last().unwrap().1, STOP);
    assert!(!task.is_finished(), "the stop is not proven yet");
    replies.send(Received { endpoint: Endpoint::Serial, bytes: b"zero".to_vec() }).await.unwrap();
    assert_eq!(task.await.unwrap(), DeviceEnd::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_never_proves_its_stop_ends_unproven_after_two_seconds() {
    let bench = bench(Behaviour::Well, false);
    pass(10).await;
    let begun = bench.clock.now();
    let Bench { orders, task, clock, .. } = bench;
    drop(orders);
    assert_eq!(task.await.unwrap(), DeviceEnd::Unproven);
    assert!(clock.now().since(begun) <= Duration::from_millis(2_100));
}

#[tokio::test(start_paused = true)]
async fn a_panicking_driver_leaves_its_unit_stopped_by_the_script() {
    let bench = bench(Behaviour::Well, true);
    pass(10).await;
    bench.wire.lock().unwrap().written.clear();
    bench.order(set(1));
    pass(20).await;
    assert_eq!(bench.written(), ["stop"]);
    bench.proves().await;
    let Bench { task, .. } = bench;
    assert_eq!(task.await.unwrap(), DeviceEnd::Panicked { proven: true });
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_handled_while_nobody_takes_the_reports() {
    let bench = bench(Behaviour::Well, false);
    pass(10).await;
    for _ in 0..40 {
        bench.proves().await;
        pass(1).await;
    }
    bench.lanes.post(UNIT, Generation(1));
    pass(1).await;
    assert_eq!(bench.written().len(), 2);
}
