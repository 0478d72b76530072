//! The real transports against the simulators' process: terminals, D-Bus, btleplug and tokio-serial themselves.
//!
//! libdbus reads its bus address once per process, so each Bluetooth scenario runs in a child process: this binary
//! again, told by the environment which scenario to play. The child asks the parent for events with lines on its
//! output that begin with `@@`, and the parent answers each with a line.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use doseward::clock::Clock;
use doseward::model::packet::{Endpoint, Packet, Purpose, Received, WriteKind};
use doseward::rig::bluez::{Bluez, RadioUnit};
use doseward::rig::devices::{Built, Characteristic, Flag, Radio, RadioDevice, Service};
use doseward::rig::process::Place;
use doseward::rig::truth::Truth;
use doseward::rig::{Options, Rig, RigError};
use doseward::sim::link::LinkFaults;
use doseward::sim::world::{StimulatorModel, UnitKind, World, WorldUnit};
use doseward::sim::{Delivered, SimDevice, SimEvent, SimInput, SimOutput};
use doseward::transport::ble::{Ble, GattNeeds, standard};
use doseward::transport::serial::{FlowControl, Parity, Serial, Settings, StopBits};
use doseward::transport::{LinkError, Sent, Transport};
use doseward::units::Mono;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

const COMMAND: Endpoint = Endpoint::Characteristic(standard(0xffe2));
const STATUS: Endpoint = Endpoint::Characteristic(standard(0xffe1));
const BATTERY: u128 = standard(0x2a19);
const SERIAL_NUMBER: u128 = standard(0x2a25);
const ADDRESS: &str = "C0:00:00:00:00:01";
const SCENARIO: &str = "DOSEWARD_TEST_SCENARIO";

/// Answers each message with the same bytes after 5 ms; a first byte of 1 starts output, 0 ends it.
struct Echo {
    heard: u64,
    present: u32,
    battery: u8,
}

impl SimDevice for Echo {
    fn advance(&mut self, _now: Mono, input: SimInput<'_>, out: &mut Vec<SimOutput>) {
        match input {
            SimInput::Received { endpoint, bytes } => {
                self.heard += 1;
                self.present = u32::from(bytes.first() == Some(&1)) * 1000;
                let endpoint = if endpoint == COMMAND { STATUS } else { endpoint };
                out.push(SimOutput::Send {
                    endpoint,
                    bytes: bytes.to_vec(),
                    delay: Duration::from_millis(5),
                });
            }
            SimInput::Event(SimEvent::Battery(percent)) => self.battery = percent,
            SimInput::Tick | SimInput::Connected | SimInput::Disconnected | SimInput::Event(_) => {}
        }
    }

    fn deadline(&self) -> Option<Mono> {
        None
    }

    fn truth(&self) -> Vec<Delivered> {
        let (pulses, present) = (self.heard, self.present);
        vec![Delivered { channel: 0, pulses, present, ..Delivered::default() }]
    }
}

impl RadioDevice for Echo {
    fn read(&self, characteristic: u128) -> Option<Vec<u8>> {
        match characteristic {
            BATTERY => Some(vec![self.battery]),
            SERIAL_NUMBER => Some(b"SN-1".to_vec()),
            _ => None,
        }
    }
}

fn echo_radio() -> Radio {
    let characteristic =
        |short, flags: &[Flag]| Characteristic { uuid: standard(short), flags: flags.to_vec() };
    let service = |short, characteristics| Service { uuid: standard(short), characteristics };
    Radio {
        device: Box::new(Echo { heard: 0, present: 0, battery: 80 }),
        name: "Elite".to_owned(),
        address: [0xC0, 0, 0, 0, 0, 1],
        manufacturer: vec![(0x08ba, vec![1])],
        services: vec![
            service(
                0xffe0,
                vec![
                    characteristic(0xffe1, &[Flag::Notify]),
                    characteristic(0xffe2, &[Flag::Write, Flag::WriteWithoutResponse]),
                ],
            ),
            service(0x180f, vec![characteristic(0x2a19, &[Flag::Read, Flag::Notify])]),
            service(0x180a, vec![characteristic(0x2a25, &[Flag::Read])]),
        ],
    }
}

fn build(unit: &WorldUnit, _seed: u64) -> Result<Built, RigError> {
    Ok(match &unit.kind {
        UnitKind::Stimulator { .. } => Built::Serial(Box::new(Echo { heard: 0, present: 0, battery: 0 })),
        UnitKind::Gun { .. } => Built::Radio(echo_radio()),
    })
}

fn world() -> World {
    let unit = |label: &str, kind| WorldUnit {
        label: label.to_owned(),
        kind,
        link: LinkFaults::default(),
        behaviour: std::collections::BTreeMap::new(),
        events: Vec::new(),
    };
    let stimulator = UnitKind::Stimulator { model: StimulatorModel::P24, serial: "S".to_owned() };
    let gun = UnitKind::Gun {
        profile: "echo".to_owned(),
        name: "Elite".to_owned(),
        address: [0xC0, 0, 0, 0, 0, 1],
    };
    World { seed: 1, units: vec![unit("P24 A", stimulator), unit("Gun 1", gun)] }
}

fn options() -> Options {
    Options { build: Arc::new(build), ..Options::default() }
}

fn packet(endpoint: Endpoint, bytes: &[u8], purpose: Purpose, write: WriteKind) -> Packet {
    Packet::lasting(1, endpoint, bytes.to_vec(), purpose, write)
}

fn stop(endpoint: Endpoint) -> Packet {
    packet(endpoint, &[0, 7, 7], Purpose::Stop, WriteKind::WithResponse)
}

/// Returns the time since a clock was started.
fn passed(begun: &Clock) -> Duration {
    begun.now().since(Mono::ORIGIN)
}

/// Waits at most two seconds for what must come soon.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(2), what).await.expect("within two seconds")
}

// ---- serial

fn serial(rig: &Rig) -> Serial {
    let Some(Place::Serial(path)) = rig.place("P24 A") else { panic!("a serial unit") };
    let settings = Settings {
        baud: 3_000_000,
        stop_bits: StopBits::One,
        parity: Parity::None,
        flow: FlowControl::None,
        lines: Some(doseward::transport::serial::Lines { dtr: true, rts: true }),
    };
    Serial::new(path, settings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serial_unit_answers_and_its_port_may_be_opened_again() {
    let rig = Rig::start(&world(), &options()).await.unwrap();
    let every_byte: Vec<u8> = (0..=255).collect();
    for _ in 0..3 {
        let mut port = serial(&rig);
        port.connect().await.unwrap();
        let frame = packet(Endpoint::Serial, &every_byte, Purpose::Query, WriteKind::WithResponse);
        port.send(&frame).await.unwrap();
        let mut back = Vec::new();
        while back.len() < every_byte.len() {
            back.extend(soon(port.receive()).await.unwrap().bytes);
        }
        assert_eq!(back, every_byte, "all bytes pass unchanged");
        assert!(
            matches!(serial(&rig).connect().await, Err(LinkError::Refused { .. })),
            "the port is exclusive"
        );
        port.disconnect().await;
        assert!(matches!(port.send(&frame).await, Err(LinkError::NotConnected { .. })));
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unplugged_port_is_gone_at_once_and_works_again_when_plugged_in() {
    let rig = Rig::start(&world(), &options()).await.unwrap();
    let mut port = serial(&rig);
    port.connect().await.unwrap();
    rig.event("P24 A", "unplug".parse().unwrap()).await.unwrap();
    assert!(matches!(soon(port.receive()).await, Err(LinkError::Gone { .. })));
    assert!(matches!(port.receive().await, Err(LinkError::NotConnected { .. })), "it does not spin");
    assert!(matches!(port.connect().await, Err(LinkError::Gone { .. })));
    rig.event("P24 A", "plug".parse().unwrap()).await.unwrap();
    soon(async {
        while port.connect().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    port.send(&stop(Endpoint::Serial)).await.unwrap();
    assert_eq!(soon(port.receive()).await.unwrap().bytes, [0, 7, 7]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_nobody_takes_ends_at_its_own_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("port");
    let _stalled = doseward::rig::pty::Port::plug(&name).unwrap();
    let settings = Settings {
        baud: 115_200,
        stop_bits: StopBits::One,
        parity: Parity::None,
        flow: FlowControl::None,
        lines: None,
    };
    let mut port = Serial::new(&name, settings);
    port.connect().await.unwrap();
    let much = packet(Endpoint::Serial, &[0x55; 64 * 1024], Purpose::Stop, WriteKind::WithResponse);
    let begun = Clock::start();
    assert!(matches!(port.send(&much).await, Err(LinkError::Timeout { within_ms: 250, .. })));
    assert!(passed(&begun) < Duration::from_millis(600), "{:?}", passed(&begun));
    // What could not be sent was discarded and the port opened anew: a short frame passes at once.
    port.send(&stop(Endpoint::Serial)).await.unwrap();
}

#[tokio::test]
async fn what_is_no_port_is_refused_in_words() {
    let settings = Settings {
        baud: 115_200,
        stop_bits: StopBits::One,
        parity: Parity::None,
        flow: FlowControl::None,
        lines: None,
    };
    let missing = Serial::new("/dev/doseward-no-such-port", settings).connect().await.unwrap_err();
    assert!(matches!(missing, LinkError::Gone { .. }), "{missing}");
    let no_terminal = Serial::new("/dev/null", settings).connect().await.unwrap_err();
    assert!(matches!(no_terminal, LinkError::Unexpected { .. }), "{no_terminal}");
}

// ---- Bluetooth: the parents

/// Plays a scenario in a child process against a bus; `on_event` is given the child's `@@` lines.
async fn play(scenario: &str, bus: &str, mut on_event: impl AsyncFnMut(&str)) {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "real_transport::child", "--nocapture", "--test-threads=1"])
        .env(SCENARIO, scenario)
        .env("DBUS_SYSTEM_BUS_ADDRESS", bus)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let whole = timeout(Duration::from_secs(28), async {
        let events = async {
            while let Some(line) = output.next_line().await.unwrap() {
                if let Some(event) = line.strip_prefix("@@ ") {
                    on_event(event).await;
                    // A child that failed meanwhile shows in its status.
                    input.write_all(b"done\n").await.ok();
                }
            }
        };
        let complaints = async {
            while let Some(line) = errors.next_line().await.unwrap() {
                said.push(line);
            }
        };
        tokio::join!(events, complaints);
        child.wait().await.unwrap()
    });
    let status = whole.await;
    assert!(matches!(status, Ok(status) if status.success()), "{scenario}: {status:?}\n{}", said.join("\n"));
}

async fn play_on_rig(scenario: &str) {
    let rig = Rig::start(&world(), &options()).await.unwrap();
    let bus = rig.bus().to_owned();
    play(scenario, &bus, async |event: &str| {
        rig.event("Gun 1", event.parse().unwrap()).await.unwrap();
        // The event is in the unit's queue; give its task the time to act.
        tokio::time::sleep(Duration::from_millis(20)).await;
    })
    .await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gun_is_found_connected_written_to_and_heard() {
    play_on_rig("session").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_of_losing_the_link_is_noticed() {
    play_on_rig("losses").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_write_has_our_deadline_and_makes_the_next_one_busy() {
    play_on_rig("busy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connect_has_our_deadline_and_leaves_nothing_behind() {
    play_on_rig("silent-connect").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_never_resolve_have_our_deadline() {
    play_on_rig("silent-services").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_or_unexpected_says_so() {
    play_on_rig("refused").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_or_a_bus_that_vanishes_is_noticed() {
    let Some((mut daemon, address, _dir)) = start_dbus_daemon() else {
        println!("SKIPPED: dbus-daemon is not installed; daemon and bus loss were not tested");
        return;
    };
    let mut bluez = None;
    let mut keep = None;
    play("vanishing", &address.clone(), async |event: &str| match event {
        "start-bluetoothd" => {
            let clock = Clock::start();
            let truth = Truth::create(None, clock.clone()).unwrap();
            let unit = RadioUnit {
                radio: echo_radio(),
                link: LinkFaults::default(),
                seed: 1,
                events: Vec::new(),
                account: truth.account("Gun 1"),
            };
            let (sender, control) = tokio::sync::mpsc::channel(1);
            keep = Some(sender);
            let daemon = Bluez::start(&address, vec![unit], clock, control).await.unwrap();
            bluez = Some(tokio::spawn(daemon.run()));
        }
        "stop-bluetoothd" => {
            keep = None;
            bluez.take().unwrap().await.unwrap();
        }
        "kill-bus" => daemon.kill().unwrap(),
        other => panic!("{other}"),
    })
    .await;
    drop(keep);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

fn start_dbus_daemon() -> Option<(std::process::Child, String, tempfile::TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let (socket, config) = (dir.path().join("bus"), dir.path().join("bus.conf"));
    let text = format!(
        "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>\
         <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/></policy></busconfig>",
        socket.display()
    );
    std::fs::write(&config, text).unwrap();
    let daemon = std::process::Command::new("dbus-daemon")
        .arg(format!("--config-file={}", config.display()))
        .args(["--nofork", "--nopidfile"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let begun = Clock::start();
    while !socket.exists() {
        assert!(passed(&begun) < Duration::from_secs(5), "dbus-daemon did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    Some((daemon, format!("unix:path={}", socket.display()), dir))
}

// ---- Bluetooth: the child

/// Only does something when a parent started it.
#[test]
fn child() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        match scenario.as_str() {
            "session" => session().await,
            "losses" => losses().await,
            "busy" => busy().await,
            "silent-connect" => silent_connect().await,
            "silent-services" => silent_services().await,
            "refused" => refused().await,
            "vanishing" => vanishing().await,
            "process" => process().await,
            other => panic!("no scenario {other}"),
        }
    });
    runtime.shutdown_background();
}

/// Asks the parent for an event and waits until it has happened.
fn ask(event: &str) {
    // The test runner has begun a line of its own.
    println!("\n@@ {event}");
    std::io::stdout().flush().unwrap();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).unwrap();
    assert_eq!(answer, "done\n");
}

fn needs() -> GattNeeds {
    GattNeeds {
        service: Some(standard(0xffe0)),
        command: standard(0xffe2),
        needs: vec![WriteKind::WithResponse, WriteKind::WithoutResponse],
        status: Some(standard(0xffe1)),
        reads: Vec::new(),
    }
}

async fn connected() -> Ble {
    let mut gun = Ble::new(ADDRESS, needs());
    gun.connect().await.unwrap();
    gun
}

/// Writes and expects the echo.
async fn echoes(gun: &mut Ble, byte: u8, write: WriteKind) {
    gun.send(&packet(COMMAND, &[byte, 1, 2], Purpose::Stop, write)).await.unwrap();
    let received = soon(heard(gun)).await;
    assert_eq!(received, Received { endpoint: STATUS, bytes: vec![byte, 1, 2] });
}

/// Waits for a status value, past the values that are read in the background.
async fn heard(gun: &mut Ble) -> Received {
    loop {
        let received = gun.receive().await.unwrap();
        if received.endpoint == STATUS {
            return received;
        }
    }
}

/// Waits for the loss of the link.
async fn lost(gun: &mut Ble) -> LinkError {
    soon(async {
        loop {
            if let Err(error) = gun.receive().await {
                return error;
            }
        }
    })
    .await
}

async fn session() {
    let begun = Clock::start();
    let mut gun = connected().await;
    assert!(passed(&begun) < Duration::from_secs(2), "connected after {:?}", passed(&begun));
    // Before anything that passes over what it does not wait for.
    let mut read = Vec::new();
    while read.len() < 2 {
        read.push(soon(gun.receive()).await.unwrap());
    }
    let battery = Received { endpoint: Endpoint::Characteristic(BATTERY), bytes: vec![80] };
    let number = Received { endpoint: Endpoint::Characteristic(SERIAL_NUMBER), bytes: b"SN-1".to_vec() };
    assert!(read.contains(&battery) && read.contains(&number), "{read:?}");
    for byte in 0..20 {
        echoes(&mut gun, byte, WriteKind::WithResponse).await;
        echoes(&mut gun, byte, WriteKind::WithoutResponse).await;
    }
    let long = packet(COMMAND, &[0; 21], Purpose::Stop, WriteKind::WithResponse);
    assert!(matches!(gun.send(&long).await, Err(LinkError::Refused { .. })));
    assert!(matches!(gun.send(&stop(STATUS)).await, Err(LinkError::Unexpected { .. })));
    assert!(matches!(gun.send(&stop(Endpoint::Serial)).await, Err(LinkError::Unexpected { .. })));
    ask("notify-twice");
    echoes(&mut gun, 9, WriteKind::WithResponse).await;
    assert_eq!(soon(heard(&mut gun)).await.bytes, [9, 1, 2], "the second copy");
    ask("radio-well");
    let begun = Clock::start();
    gun.disconnect().await;
    assert!((1500..4000).contains(&passed(&begun).as_millis()), "down after {:?}", passed(&begun));
    assert!(matches!(gun.send(&stop(COMMAND)).await, Err(LinkError::NotConnected { .. })));
    gun.connect().await.unwrap();
    echoes(&mut gun, 3, WriteKind::WithResponse).await;
}

async fn losses() {
    let mut gun = connected().await;
    for (loss, back) in [
        ("link-loss", "link-back"),
        ("link-loss objects-removed", "link-back"),
        ("remove-device", "link-back"),
        ("adapter-off", "adapter-on"),
    ] {
        echoes(&mut gun, 5, WriteKind::WithResponse).await;
        ask(loss);
        let begun = Clock::start();
        let error = lost(&mut gun).await;
        let after = passed(&begun);
        assert!(matches!(error, LinkError::Gone { .. } | LinkError::NotConnected { .. }), "{loss}: {error}");
        assert!(after < Duration::from_millis(300), "{loss}: noticed after {after:?}");
        assert!(matches!(gun.send(&stop(COMMAND)).await, Err(LinkError::NotConnected { .. })), "{loss}");
        ask(back);
        gun.connect().await.unwrap_or_else(|error| panic!("{loss}: not reconnected: {error}"));
    }
    // A loss in the middle of a write.
    ask("write-drops-link");
    let error = gun.send(&stop(COMMAND)).await.unwrap_err();
    assert!(matches!(error, LinkError::NotConnected { .. }), "{error}");
    ask("link-back");
    gun.connect().await.unwrap();
    // The objects go while the link stays: nothing but our own watch tells.
    ask("remove-gatt");
    assert!(matches!(lost(&mut gun).await, LinkError::Gone { .. }));
}

async fn busy() {
    let mut gun = connected().await;
    let repeated = packet(COMMAND, &[0, 6], Purpose::Stop, WriteKind::WithResponse);
    // The first copy of a stop waits for nobody; the second is the one that can get stuck.
    ask("write-silent");
    assert_eq!(gun.send(&repeated).await.unwrap(), Sent::Handed);
    assert_eq!(soon(heard(&mut gun)).await.bytes, [0, 6]);
    ask("radio-well");
    ask("write-slow 1500 ms");
    let begun = Clock::start();
    let error = gun.send(&repeated).await.unwrap_err();
    assert!(matches!(error, LinkError::Timeout { within_ms: 500, .. }), "{error}");
    assert!((490..900).contains(&passed(&begun).as_millis()), "{:?}", passed(&begun));
    for write in [WriteKind::WithResponse, WriteKind::WithoutResponse] {
        let error = gun.send(&packet(COMMAND, &[0, 8], Purpose::Stop, write)).await.unwrap_err();
        assert!(matches!(error, LinkError::Busy { .. }), "{error}");
    }
    ask("radio-well");
    // The write that was given up arrives all the same.
    assert_eq!(soon(heard(&mut gun)).await.bytes, [0, 6]);
    echoes(&mut gun, 4, WriteKind::WithResponse).await;
    ask("write-silent");
    let now = Mono::ORIGIN;
    let (set, query) = (vec![1, 2], vec![2]);
    let set = Packet::expiring(1, COMMAND, set, Purpose::Output, WriteKind::WithResponse, (now, now));
    for packet in [set, Packet::lasting(1, COMMAND, query, Purpose::Query, WriteKind::WithResponse)] {
        assert_eq!(gun.send(&packet).await.unwrap(), Sent::Handed, "it cannot get stuck");
        assert_eq!(soon(heard(&mut gun)).await.bytes, packet.bytes());
    }
    assert_eq!(gun.send(&repeated).await.unwrap(), Sent::Handed);
    assert_eq!(soon(heard(&mut gun)).await.bytes, [0, 6]);
    assert!(matches!(gun.send(&repeated).await, Err(LinkError::Timeout { within_ms: 500, .. })));
    ask("radio-well");
    ask("disconnect-after 50 ms");
    assert!(matches!(gun.send(&stop(COMMAND)).await, Err(LinkError::Busy { .. })), "it is still unanswered");
    acquired(&mut gun).await;
    // What the design prescribes for a stuck write: drop the link once, connect again, stop first.
    gun.disconnect().await;
    gun.connect().await.unwrap();
    echoes(&mut gun, 0, WriteKind::WithResponse).await;
}

/// What the guard process relies on: exclusive writing passes a stuck write and locks everyone else out.
async fn acquired(gun: &mut Ble) {
    let bus = zbus::Connection::system().await.unwrap();
    let path = "/org/bluez/hci0/dev_C0_00_00_00_00_01/service0001/char0005";
    let options = std::collections::HashMap::<&str, zbus::Variant<'_>>::new();
    let call = bus.call_method(
        Some("org.bluez"),
        path,
        Some("org.bluez.GattCharacteristic1"),
        "AcquireWrite",
        &options,
    );
    let reply = call.await.unwrap();
    let (socket, mtu): (zbus::OwnedFd, u16) = reply.body().deserialize().unwrap();
    drop(reply);
    assert_eq!(mtu, 23);
    rustix::io::write(&socket, &[0, 4, 4]).unwrap();
    assert_eq!(soon(heard(gun)).await.bytes, [0, 4, 4]);
    let error = gun.send(&stop(COMMAND)).await.unwrap_err();
    assert!(matches!(&error, LinkError::Refused { reason, .. } if reason.contains("acquired")), "{error}");
    drop(socket);
    soon(async {
        while !matches!(gun.send(&stop(COMMAND)).await, Err(LinkError::Busy { .. })) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn silent_connect() {
    ask("connect-silent");
    let mut gun = Ble::new(ADDRESS, needs());
    let begun = Clock::start();
    let error = gun.connect().await.unwrap_err();
    assert!(matches!(error, LinkError::Timeout { within_ms: 10_000, .. }), "{error}");
    assert!(passed(&begun) < Duration::from_secs(13), "{:?}", passed(&begun));
    ask("radio-well");
    gun.connect().await.unwrap();
    echoes(&mut gun, 1, WriteKind::WithResponse).await;
    // Given up by the caller in the middle: the next attempt cleans up first.
    ask("disconnect-after 50 ms");
    gun.disconnect().await;
    ask("connect-silent");
    assert!(timeout(Duration::from_millis(300), gun.connect()).await.is_err());
    ask("radio-well");
    gun.connect().await.unwrap();
    echoes(&mut gun, 2, WriteKind::WithResponse).await;
}

async fn silent_services() {
    ask("disconnect-after 50 ms");
    ask("services-silent");
    let mut gun = Ble::new(ADDRESS, needs());
    let begun = Clock::start();
    let error = gun.connect().await.unwrap_err();
    assert!(matches!(error, LinkError::Timeout { within_ms: 10_000, .. }), "{error}");
    assert!(passed(&begun) < Duration::from_secs(13), "{:?}", passed(&begun));
    ask("radio-well");
    gun.connect().await.unwrap();
    echoes(&mut gun, 1, WriteKind::WithResponse).await;
}

async fn refused() {
    let mut gun = Ble::new(ADDRESS, needs());
    ask("disconnect-after 50 ms");
    ask("connect-error");
    let error = gun.connect().await.unwrap_err();
    assert!(matches!(&error, LinkError::Refused { reason, .. } if reason.contains("abort")), "{error}");
    ask("radio-well");
    ask("flag-unknown");
    let error = gun.connect().await.unwrap_err();
    assert!(
        matches!(&error, LinkError::Unexpected { reason, .. } if reason.contains("encrypt-notify")),
        "{error}"
    );
    ask("radio-well");
    ask("disconnect-after 50 ms");
    for (wrong, says) in [
        (GattNeeds { command: standard(0xffe3), ..needs() }, "has no characteristic"),
        (GattNeeds { command: standard(0xffe1), ..needs() }, "cannot be written"),
        (GattNeeds { status: Some(standard(0xffe2)), ..needs() }, "does not notify"),
        (GattNeeds { reads: vec![standard(0xffe1)], ..needs() }, "no readable"),
        (GattNeeds { service: Some(standard(0x180f)), ..needs() }, "has no characteristic"),
    ] {
        let error = Ble::new(ADDRESS, wrong).connect().await.unwrap_err();
        assert!(matches!(&error, LinkError::Unexpected { reason, .. } if reason.contains(says)), "{error}");
    }
    gun.connect().await.unwrap();
    ask("write-error");
    let error = gun.send(&stop(COMMAND)).await.unwrap_err();
    assert!(
        matches!(&error, LinkError::Refused { reason, .. } if reason.contains("not permitted")),
        "{error}"
    );
    ask("radio-well");
    ask("notify-silent");
    gun.send(&stop(COMMAND)).await.unwrap();
    let silence = timeout(Duration::from_millis(300), heard(&mut gun)).await;
    assert!(silence.is_err(), "silence is no error and does not end");
    let mut gate = Ble::new(ADDRESS, GattNeeds { reads: vec![SERIAL_NUMBER], ..needs() });
    gate.connect().await.unwrap();
    let first = soon(gate.receive()).await.unwrap();
    assert_eq!(first.bytes, b"SN-1", "a gate is read before anything else is delivered");
    let mut other = Ble::new(ADDRESS, needs()).on_adapter("hci7");
    assert!(matches!(other.connect().await, Err(LinkError::Refused { .. })), "no such adapter");
}

async fn vanishing() {
    let mut gun = Ble::new(ADDRESS, needs());
    let begun = Clock::start();
    let error = gun.connect().await.unwrap_err();
    assert!(matches!(&error, LinkError::Refused { reason, .. } if reason.contains("not running")), "{error}");
    assert!(passed(&begun) < Duration::from_secs(1));
    ask("start-bluetoothd");
    gun.connect().await.unwrap();
    echoes(&mut gun, 1, WriteKind::WithResponse).await;
    ask("stop-bluetoothd");
    assert!(matches!(lost(&mut gun).await, LinkError::Gone { .. }));
    ask("start-bluetoothd");
    gun.connect().await.unwrap();
    echoes(&mut gun, 2, WriteKind::WithResponse).await;
    ask("kill-bus");
    let error = lost(&mut gun).await;
    assert!(matches!(error, LinkError::BusDead), "{error}");
    let error = soon(gun.connect()).await.unwrap_err();
    assert!(matches!(error, LinkError::BusDead), "it does not heal, and says so at once: {error}");
}

// ---- the process

/// Where the child process of the next test writes its truth.
const TRUTH: &str = "DOSEWARD_TEST_TRUTH";

async fn process() {
    let truth = std::env::var(TRUTH).ok().map(PathBuf::from);
    doseward::rig::run(world(), Options { truth, ..options() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_tells_its_places_takes_events_and_writes_the_truth() {
    let dir = tempfile::tempdir().unwrap();
    let truth = dir.path().join("truth.jsonl");
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "real_transport::child", "--nocapture", "--test-threads=1"])
        .env(SCENARIO, "process")
        .env(TRUTH, &truth)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut facts = Vec::new();
    soon(async {
        while facts.last().is_none_or(|line| line != "ready") {
            facts.push(output.next_line().await.unwrap().expect("a line"));
        }
    })
    .await;
    let after =
        |start: &str| facts.iter().find_map(|line| line.split_once(start)).map(|(_, rest)| rest.to_owned());
    let path = after("serial P24 A ").expect("the serial unit's place");
    assert_eq!(after("bluetooth Gun 1 ").as_deref(), Some(ADDRESS));
    assert!(after("bus unix:path=").is_some(), "{facts:?}");
    let settings = Settings {
        baud: 115_200,
        stop_bits: StopBits::One,
        parity: Parity::None,
        flow: FlowControl::None,
        lines: None,
    };
    let mut port = Serial::new(&path, settings);
    port.connect().await.unwrap();
    for first in [1, 0, 1] {
        let frame = packet(Endpoint::Serial, &[first, 2, 3], Purpose::Query, WriteKind::WithResponse);
        port.send(&frame).await.unwrap();
        assert_eq!(soon(port.receive()).await.unwrap().bytes, [first, 2, 3]);
    }
    for (line, answer) in [
        ("event P24 A lead-off 1", "ok"),
        ("event P24 B lead-off 1", "error no unit is called as in `P24 B lead-off 1`"),
        ("event Gun 1 jump", "error `jump` is no event"),
        ("event P24 A unplug", "ok"),
    ] {
        input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        assert_eq!(soon(output.next_line()).await.unwrap().as_deref(), Some(answer));
    }
    assert!(matches!(soon(port.receive()).await, Err(LinkError::Gone { .. })));
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(soon(child.wait()).await.unwrap().success(), "it ends in order on SIGTERM");
    let text = std::fs::read_to_string(&truth).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let own =
        |kind: &'static str| lines.iter().filter(move |line| line["unit"] == "P24 A" && line["kind"] == kind);
    let heard: Vec<[&str; 4]> = own("heard")
        .map(|line| ["endpoint", "bytes", "write", "link"].map(|key| line[key].as_str().unwrap()))
        .collect();
    let expected = ["010203", "000203", "010203"].map(|bytes| ["serial", bytes, "line", "plugged"]);
    assert_eq!(heard, expected, "every write, as it arrived");
    let stimulator: Vec<(u64, u64)> = own("delivered")
        .map(|line| (line["pulses"].as_u64().unwrap(), line["present"].as_u64().unwrap()))
        .collect();
    let mut changes = stimulator.clone();
    changes.dedup_by_key(|(_, present)| *present > 0);
    assert_eq!(changes, [(0, 0), (1, 1000), (2, 0), (3, 1000)], "{stimulator:?}");
    assert!(lines.iter().any(|line| line["unit"] == "Gun 1"));
    assert!(!PathBuf::from(path).exists(), "nothing is left behind");
}
