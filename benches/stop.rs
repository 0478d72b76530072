//! STOP ALL, from the message on a socket to the stop write issued on every transport, beside a bare relay.
//!
//! Both ways begin with one byte on a socket and end where `Transport::send` is entered. Ours goes socket, session
//! task (governor), four device tasks (drivers). The relay goes socket, four writers, and decides nothing. They take
//! turns in one run, so both meet the same machine. Four simulated P24 give output at every stop.
//!
//! ```text
//! client thread -- 1 byte --> reader --+-- stop lane --> session task --> 4 device tasks --> send
//!                                      +-- relay ------------------------> 4 writers ------> send
//! ```
//!
//! `DOSEWARD_STOPS` sets the number of stops of each row (1000); bounded in time by it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "a bench fails by panicking, computes with small numbers and reads the clock"
)]

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use doseward::clock::Clock;
use doseward::driver::sciencemode::{Dialect, ScienceMode};
use doseward::governor::{Act, Settings, Snapshot, StepState, StopView, Verdict};
use doseward::model::area::{AreaCode, Place, Side, Tissue};
use doseward::model::command::{Channel, DeviceId, Intensity};
use doseward::model::limit::{LimitChain, LimitOwner, Limits};
use doseward::model::packet::{Endpoint, Packet, Purpose, Received, WriteKind};
use doseward::model::plan::{Applicator, ClientCode, Electrode, Plan, PlannedDevice, Step, Stimulation};
use doseward::model::protocol::Modality;
use doseward::model::session::{Actor, SessionId, StopReason};
use doseward::record::entry::{SessionHead, Stamp};
use doseward::record::journal::Journal;
use doseward::runtime::guard_line::Guarding;
use doseward::runtime::handle::SessionHandle;
use doseward::runtime::recorder_task::Writing;
use doseward::runtime::sounder::Voice;
use doseward::runtime::{Builder, Parts, Supervisor};
use doseward::sim::stim::{Stimulator, StimulatorBehaviour};
use doseward::sim::{SimDevice, SimInput, SimOutput};
use doseward::transport::loopback::{self, FarEnd, HostAct, Loopback};
use doseward::transport::{LinkError, Sent, Transport};
use doseward::units::{Microseconds, Milliamps, Mono, SquareCentimetres};
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/support/plans.rs"]
mod plans;

const UNITS: usize = 4;

/// The way of a message.
const OURS: u8 = b'o';
const RELAY: u8 = b'r';

/// When each transport was last asked to write a stop.
type Stamps = Arc<Mutex<[Option<Instant>; UNITS]>>;

/// A loopback that notes when a stop is issued, and that can be blocked.
struct Stamped {
    link: Loopback,
    unit: usize,
    stamps: Stamps,
    blocked: Arc<AtomicBool>,
}

impl Transport for Stamped {
    async fn connect(&mut self) -> Result<(), LinkError> {
        self.link.connect().await
    }

    async fn send(&mut self, packet: &Packet) -> Result<Sent, LinkError> {
        if packet.purpose() == Purpose::Stop {
            self.stamps.lock().unwrap()[self.unit].get_or_insert_with(Instant::now);
        }
        while self.blocked.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.link.send(packet).await
    }

    async fn receive(&mut self) -> Result<Received, LinkError> {
        self.link.receive().await
    }

    async fn disconnect(&mut self) {
        self.link.disconnect().await;
    }
}

/// Plays a unit at the far end in real time; without one, only answers.
async fn far_end(mut far: FarEnd, mut unit: Option<Stimulator>, clock: Clock) {
    let mut answers: Vec<(Mono, Received)> = Vec::new();
    loop {
        let due = answers.iter().map(|(at, _)| *at).min();
        let wake = unit.as_ref().and_then(SimDevice::deadline).into_iter().chain(due).min();
        let sleep = async {
            match wake {
                Some(at) => tokio::time::sleep_until(clock.at(at)).await,
                None => std::future::pending().await,
            }
        };
        let mut out = Vec::new();
        tokio::select! {
            act = far.next() => match act {
                None => return,
                Some(HostAct::Connect(request)) => {
                    far.accept(request);
                    if let Some(unit) = &mut unit { unit.advance(clock.now(), SimInput::Connected, &mut out); }
                }
                Some(HostAct::Disconnect) => {
                    if let Some(unit) = &mut unit { unit.advance(clock.now(), SimInput::Disconnected, &mut out); }
                }
                Some(HostAct::Write { endpoint, bytes, answer, .. }) => {
                    answer.taken();
                    if let Some(unit) = &mut unit {
                        unit.advance(clock.now(), SimInput::Received { endpoint, bytes: &bytes }, &mut out);
                    }
                }
            },
            () = sleep => {
                if let Some(unit) = &mut unit { unit.advance(clock.now(), SimInput::Tick, &mut out); }
            }
        }
        let now = clock.now();
        for SimOutput::Send { endpoint, bytes, delay } in out {
            answers.push((now.saturating_add(delay), Received { endpoint, bytes }));
        }
        answers.sort_by_key(|(at, _)| *at);
        while answers.first().is_some_and(|(at, _)| *at <= now) {
            far.send(answers.remove(0).1);
        }
    }
}

/// Four TENS steps on four units and four areas, all of which may run together.
fn plan() -> Plan {
    let places = [
        ("calf", Side::Left),
        ("calf", Side::Right),
        ("hamstrings", Side::Left),
        ("hamstrings", Side::Right),
    ];
    let steps = (0u8..).zip(places).map(|(unit, (area, side))| {
        let mut chain = LimitChain::default();
        chain.get_mut(LimitOwner::Protocol).limits.current = Some(Milliamps::from_milliamps(20));
        let contact = SquareCentimetres::from_square_millimetres(2_500);
        let electrode = Electrode { contact, area: AreaCode::new(area), side };
        Step {
            number: unit + 1,
            protocol: "bench".to_owned(),
            title: "Bench".to_owned(),
            modality: Modality::Tens,
            place: Place { area: AreaCode::new(area), side },
            tissue: Tissue::MuscleLarge,
            device: DeviceId(unit),
            channel: Channel(0),
            applicator: Applicator::Electrodes([electrode.clone(), electrode]),
            stimulation: Some(Stimulation {
                width: Microseconds::from_micros(200),
                period: Microseconds::from_micros(20_000),
                cycle: None,
            }),
            target: Intensity::Current(Milliamps::from_milliamps(1)),
            duration: Duration::from_secs(3_000),
            held_by: None,
            start_at_device: false,
            force_max: None,
            usual: Limits::default(),
            rest: Duration::ZERO,
            low: Limits::default(),
            chain,
        }
    });
    let devices = (0..UNITS).map(|unit| PlannedDevice {
        label: format!("P24 {unit}"),
        profile: "hasomed-p24".to_owned(),
        capability: plans::stimulator(),
    });
    let pairs = (1..=4).flat_map(|a| (a + 1..=4).map(move |b| (a, b)));
    Plan {
        id: "bench".to_owned(),
        title: "Bench".to_owned(),
        client: ClientCode::new("C-1"),
        devices: devices.collect(),
        steps: steps.collect(),
        together: pairs.collect(),
        beside: Vec::new(),
        sessions_per_week: None,
    }
}

/// A running session with four simulated units, and the relay beside it.
struct Bench {
    handle: SessionHandle,
    stamps: Stamps,
    relay_stamps: Stamps,
    blocked: Arc<AtomicBool>,
    /// The client's end of the socket.
    client: UnixStream,
    _guard: watch::Sender<bool>,
}

async fn start() -> (Bench, tokio::task::JoinHandle<()>) {
    let clock = Clock::start();
    let (stamps, relay_stamps) = (Stamps::default(), Stamps::default());
    let blocked = Arc::new(AtomicBool::new(false));
    let mut builder = Builder::new(clock.clone(), plan());
    for unit in 0..UNITS {
        let (link, far) = loopback::pair("unit");
        let blocked = if unit == UNITS - 1 { Arc::clone(&blocked) } else { Arc::default() };
        let device = Stimulator::new(Dialect::Sm4, "P24A000001", unit as u64, StimulatorBehaviour::default());
        tokio::spawn(far_end(far, Some(device), clock.clone()));
        let driver = Box::new(ScienceMode::new(Dialect::Sm4, plans::stimulator()));
        builder.device(driver, Stamped { link, unit, stamps: Arc::clone(&stamps), blocked });
    }
    let mut journal = Journal::in_memory().unwrap();
    let session = SessionId::new("00000000-0000-7000-8000-000000000000");
    let head = SessionHead::new(session, &plan(), "0".repeat(64), "bench".to_owned(), true);
    journal.begin(&head, Stamp { mono: clock.now(), wall: clock.wall() }).unwrap();
    let (guard, present) = watch::channel(true);
    let parts = Parts {
        by: Actor { person: "bench".to_owned(), screen: "bench".to_owned() },
        settings: Settings::with_lease(Duration::from_secs(3)),
        recorder: Box::new(journal),
        writing: Writing::Thread,
        guard: Guarding::trusted(present),
        newest: None,
        voice: Voice::log(),
        locked: Vec::new(),
        latched: None,
    };
    let (handle, supervisor) = builder.start(parts).unwrap();
    let running = tokio::spawn(run(supervisor));
    tokio::spawn(operator(handle.clone()));

    let (client, server) = UnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    let server = tokio::net::UnixStream::from_std(server).unwrap();
    let relay = relay(&relay_stamps, &clock).await;
    tokio::spawn(reader(server, handle.clone(), relay));
    (Bench { handle, stamps, relay_stamps, blocked, client, _guard: guard }, running)
}

async fn run(supervisor: Supervisor) {
    let ended = supervisor.run().await;
    assert!(ended.faults.is_empty(), "{ended:?}");
}

/// A screen that paints every snapshot.
async fn operator(handle: SessionHandle) {
    let mut snapshots = handle.snapshots();
    while snapshots.changed().await.is_ok() {
        let at = snapshots.borrow_and_update().at;
        handle.heartbeat(at);
    }
}

/// Takes messages from the socket, as the one process would from a tablet.
async fn reader(mut server: tokio::net::UnixStream, handle: SessionHandle, relay: watch::Sender<u64>) {
    let mut byte = [0u8; 1];
    while server.read_exact(&mut byte).await.is_ok() {
        match byte[0] {
            OURS => handle.stop_all(StopReason::EmergencyStop),
            _ => relay.send_modify(|count| *count += 1),
        }
    }
}

/// Four writers that forward a stop frame and decide nothing.
async fn relay(stamps: &Stamps, clock: &Clock) -> watch::Sender<u64> {
    let message = watch::Sender::new(0u64);
    for unit in 0..UNITS {
        let (mut link, far) = loopback::pair("relay");
        tokio::spawn(far_end(far, None, clock.clone()));
        link.connect().await.unwrap();
        let mut link = Stamped { link, unit, stamps: Arc::clone(stamps), blocked: Arc::default() };
        let mut message = message.subscribe();
        tokio::spawn(async move {
            while message.changed().await.is_ok() {
                let frame = vec![0xf0, 0x00, 0x0f];
                let packet =
                    Packet::lasting(0, Endpoint::Serial, frame, Purpose::Stop, WriteKind::WithoutResponse);
                link.send(&packet).await.ok();
            }
        });
    }
    message
}

impl Bench {
    async fn until(&self, what: &str, holds: impl Fn(&Snapshot) -> bool) {
        let mut snapshots = self.handle.snapshots();
        let waited =
            tokio::time::timeout(Duration::from_secs(30), snapshots.wait_for(|snapshot| holds(snapshot)));
        let met = waited.await.is_ok();
        assert!(met, "never {what}: {:#?}", self.handle.snapshots().borrow());
    }

    async fn ask(&self, act: Act) {
        let mut refused = None;
        for _ in 0..100 {
            let seen = self.handle.snapshots().borrow().version;
            match self.handle.request(act.clone(), seen).await.unwrap() {
                Verdict::Granted { .. } => return,
                other => refused = Some(other),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{act:?} is never granted: {refused:?}: {:#?}", self.handle.snapshots().borrow());
    }

    /// Brings every unit to output.
    async fn give_output(&self) {
        let proven = |snapshot: &Snapshot| {
            snapshot.units.iter().all(|unit| matches!(unit.stop, StopView::Confirmed(_)))
        };
        self.until("all proven", proven).await;
        let latched = self.handle.snapshots().borrow().latched;
        if let Some(generation) = latched {
            self.ask(Act::Reset { generation }).await;
        }
        for step in 1..=UNITS as u8 {
            self.ask(Act::Arm { step }).await;
        }
        self.until("all armed", |s| s.steps.iter().all(|step| step.state == StepState::Armed)).await;
        for step in 1..=UNITS as u8 {
            let intensity = Intensity::Current(Milliamps::from_microamps(500));
            self.ask(Act::Set { step, intensity, reason: None }).await;
        }
        let gives = |intensity: Option<Intensity>| intensity.is_some_and(|it| !it.is_zero());
        self.until("all give output", |s| s.steps.iter().all(|step| gives(step.delivered))).await;
    }

    /// Sends one message and returns how long each transport's stop took, slowest last.
    async fn message(&mut self, way: u8, expected: usize) -> Vec<Duration> {
        let stamps = if way == OURS { Arc::clone(&self.stamps) } else { Arc::clone(&self.relay_stamps) };
        *stamps.lock().unwrap() = [None; UNITS];
        let mut client = self.client.try_clone().unwrap();
        // A thread of its own is the other end of the network: it shares nothing with the runtime.
        let asked = tokio::task::spawn_blocking(move || {
            let asked = Instant::now();
            client.write_all(&[way]).unwrap();
            asked
        });
        let asked = asked.await.unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let issued: Vec<Instant> = stamps.lock().unwrap().iter().flatten().copied().collect();
            if issued.len() >= expected || Instant::now() > end {
                let mut spans: Vec<Duration> = issued.iter().map(|at| at.duration_since(asked)).collect();
                assert!(spans.len() >= expected, "a transport never got its stop");
                spans.sort();
                return spans;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Two threads that never sleep.
struct Hogs(Arc<AtomicBool>);

impl Hogs {
    fn start() -> Self {
        let end = Arc::new(AtomicBool::new(false));
        for _ in 0..2 {
            let end = Arc::clone(&end);
            std::thread::spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(end)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn percentile(sorted: &[Duration], per_cent: usize) -> Duration {
    sorted[(sorted.len() * per_cent / 100).min(sorted.len() - 1)]
}

fn us(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

fn print(name: &str, mut spans: Vec<Duration>) -> (Duration, Duration) {
    spans.sort();
    let (p50, p99) = (percentile(&spans, 50), percentile(&spans, 99));
    let worst = spans[spans.len() - 1];
    println!("{name:<44} p50 {:>8.0} µs   p99 {:>8.0} µs   worst {:>8.0} µs", us(p50), us(p99), us(worst));
    (p50, p99)
}

/// Stops in turn with the relay; prints both and the ratios. The figure of a stop is its slowest transport.
async fn beside_the_relay(bench: &mut Bench, name: &str, stops: usize) {
    let (mut ours, mut relay) = (Vec::new(), Vec::new());
    for _ in 0..stops {
        bench.give_output().await;
        ours.extend(bench.message(OURS, UNITS).await.last());
        relay.extend(bench.message(RELAY, UNITS).await.last());
    }
    let ours = print(&format!("{name}: doseward, {stops} stops x 4 units"), ours);
    let relay = print(&format!("{name}: bare relay"), relay);
    let ratio = |a: Duration, b: Duration| us(a) / us(b).max(0.001);
    println!("{name}: ratio p50 {:.2}, p99 {:.2}", ratio(ours.0, relay.0), ratio(ours.1, relay.1));
}

/// The fourth transport takes nothing and 400 commands are asked at once; the other three are measured.
async fn one_blocked(bench: &mut Bench, stops: usize) {
    let mut spans = Vec::new();
    for _ in 0..stops {
        bench.give_output().await;
        bench.blocked.store(true, Ordering::Relaxed);
        let asked: Vec<_> = (0..400)
            .map(|number| {
                let handle = bench.handle.clone();
                let step = (number % UNITS) as u8 + 1;
                let intensity = Intensity::Current(Milliamps::from_microamps(500));
                let seen = handle.snapshots().borrow().version;
                tokio::spawn(
                    async move { handle.request(Act::Set { step, intensity, reason: None }, seen).await },
                )
            })
            .collect();
        spans.extend(bench.message(OURS, UNITS - 1).await.get(UNITS - 2));
        for asked in asked {
            asked.await.unwrap().ok();
        }
        bench.blocked.store(false, Ordering::Relaxed);
    }
    print(&format!("one blocked, 400 commands: {stops} stops x 3 units"), spans);
}

fn main() {
    let stops = std::env::var("DOSEWARD_STOPS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut bench, running) = start().await;
        bench.until("all links are up", |s| s.units.iter().all(|unit| unit.up)).await;
        bench.ask(Act::ReadBack { client: ClientCode::new("C-1") }).await;
        println!("STOP ALL, message in to stop write issued on the slowest of the transports");
        beside_the_relay(&mut bench, "quiet", stops).await;
        {
            let _hogs = Hogs::start();
            beside_the_relay(&mut bench, "two hogs", stops).await;
        }
        one_blocked(&mut bench, stops / 4).await;
        bench.handle.close(true, StopReason::TherapistRequest);
        running.await.unwrap();
    });
}
