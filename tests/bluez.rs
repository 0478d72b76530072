//! The simulated Bluetooth daemon keeps what the real one was measured to do (bluetoothd 5.66), seen from its clients.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use doseward::clock::Clock;
use doseward::model::packet::Endpoint;
use doseward::rig::devices::{Built, Characteristic, Flag, Radio, RadioDevice, Service};
use doseward::rig::{Options, Rig};
use doseward::sim::link::LinkFaults;
use doseward::sim::world::{UnitKind, World, WorldUnit};
use doseward::sim::{Delivered, SimDevice, SimInput, SimOutput};
use doseward::units::Mono;
use futures_util::StreamExt as _;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream, OwnedVariant, Variant};

const DEVICE: &str = "/org/bluez/hci0/dev_C0_00_00_00_00_01";
const STATUS: &str = "/org/bluez/hci0/dev_C0_00_00_00_00_01/service0001/char0002";
/// Takes both ways of writing.
const COMMAND: &str = "/org/bluez/hci0/dev_C0_00_00_00_00_01/service0001/char0005";
/// Takes both ways of writing, and can be read.
const OTHER: &str = "/org/bluez/hci0/dev_C0_00_00_00_00_01/service0001/char0007";
const CHARACTERISTIC: &str = "org.bluez.GattCharacteristic1";

/// Echoes each message at once on its notifying characteristic.
struct Echo;

impl SimDevice for Echo {
    fn advance(&mut self, _now: Mono, input: SimInput<'_>, out: &mut Vec<SimOutput>) {
        if let SimInput::Received { bytes, .. } = input {
            let endpoint = Endpoint::Characteristic(0xffe1);
            out.push(SimOutput::Send { endpoint, bytes: bytes.to_vec(), delay: Duration::ZERO });
        }
    }

    fn deadline(&self) -> Option<Mono> {
        None
    }

    fn truth(&self) -> Vec<Delivered> {
        Vec::new()
    }
}

impl RadioDevice for Echo {
    fn read(&self, characteristic: u128) -> Option<Vec<u8>> {
        (characteristic == 0xffe3).then(|| vec![7])
    }
}

fn radio() -> Radio {
    let both = [Flag::Write, Flag::WriteWithoutResponse];
    let characteristic = |uuid, flags: &[Flag]| Characteristic { uuid, flags: flags.to_vec() };
    Radio {
        device: Box::new(Echo),
        name: "Elite".to_owned(),
        address: [0xC0, 0, 0, 0, 0, 1],
        manufacturer: Vec::new(),
        services: vec![Service {
            uuid: 0xffe0,
            characteristics: vec![
                characteristic(0xffe1, &[Flag::Notify]),
                characteristic(0xffe2, &both),
                characteristic(0xffe3, &[Flag::Read, Flag::Write, Flag::WriteWithoutResponse]),
            ],
        }],
    }
}

/// A daemon with one connected unit, and what the unit hears.
struct Room {
    rig: Rig,
    truth: PathBuf,
    dir: tempfile::TempDir,
}

/// One client of the bus.
struct Client(Connection);

impl Room {
    async fn new() -> Self {
        let unit = WorldUnit {
            label: "Gun 1".to_owned(),
            kind: UnitKind::Gun {
                profile: "echo".to_owned(),
                name: "Elite".to_owned(),
                address: [0xC0, 0, 0, 0, 0, 1],
            },
            link: LinkFaults::default(),
            behaviour: std::collections::BTreeMap::new(),
            events: Vec::new(),
        };
        let dir = tempfile::tempdir().unwrap();
        let truth = dir.path().join("truth.jsonl");
        let build: doseward::rig::devices::Build = Arc::new(|_, _| Ok(Built::Radio(radio())));
        let options = Options { truth: Some(truth.clone()), build, ..Options::default() };
        let rig = Rig::start(&World { seed: 1, units: vec![unit] }, &options).await.unwrap();
        Self { rig, truth, dir }
    }

    async fn happens(&self, event: &str) {
        self.rig.event("Gun 1", event.parse().unwrap()).await.unwrap();
        // The event is in the daemon's queue, before anything that is asked from now on.
    }

    async fn client(&self) -> Client {
        Client(zbus::connection::Builder::address(self.rig.bus()).build().await.unwrap())
    }

    /// Returns a client that has connected the unit.
    async fn connected(&self) -> Client {
        let client = self.client().await;
        client.call("/org/bluez/hci0", "org.bluez.Adapter1", "StartDiscovery", &()).await.unwrap();
        soon(async { while client.connect().await.is_err() {} }).await;
        client.call("/org/bluez/hci0", "org.bluez.Adapter1", "StopDiscovery", &()).await.unwrap();
        client
    }

    /// Returns what the unit heard: bytes, the way of writing, the state of the link.
    fn heard(&self) -> Vec<[String; 3]> {
        let text = std::fs::read_to_string(&self.truth).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines
            .filter(|line| line["kind"] == "heard")
            .map(|line| ["bytes", "write", "link"].map(|key| line[key].as_str().unwrap().to_owned()))
            .collect()
    }

    async fn end(self) {
        self.rig.stop().await;
        drop(self.dir);
    }
}

impl Client {
    /// Calls a method; an error is its D-Bus name and text.
    async fn call<B: serde::Serialize + zbus::DynamicType + Sync>(
        &self,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Result<zbus::Message, String> {
        let called = self.0.call_method(Some("org.bluez"), path, Some(interface), member, body).await;
        called.map_err(|error| error.to_string())
    }

    async fn connect(&self) -> Result<(), String> {
        self.call(DEVICE, "org.bluez.Device1", "Connect", &()).await.map(drop)
    }

    async fn disconnect(&self) -> Result<(), String> {
        self.call(DEVICE, "org.bluez.Device1", "Disconnect", &()).await.map(drop)
    }

    async fn write(&self, path: &str, kind: &str, byte: u8) -> Result<(), String> {
        let options = HashMap::from([("type", Variant::from(kind.to_owned()))]);
        self.call(path, CHARACTERISTIC, "WriteValue", &(vec![byte], options)).await.map(drop)
    }

    async fn subscribe(&self) {
        self.call(STATUS, CHARACTERISTIC, "StartNotify", &()).await.unwrap();
    }

    async fn acquire(&self, path: &str) -> Result<std::os::fd::OwnedFd, String> {
        let options = HashMap::<&str, Variant<'_>>::new();
        let reply = self.call(path, CHARACTERISTIC, "AcquireWrite", &options).await?;
        let (socket, _): (zbus::OwnedFd, u16) = reply.body().deserialize().unwrap();
        Ok(socket.into())
    }

    async fn is_connected(&self) -> Result<bool, String> {
        let body = ("org.bluez.Device1", "Connected");
        let reply = self.call(DEVICE, "org.freedesktop.DBus.Properties", "Get", &body).await?;
        let value: OwnedVariant = reply.body().deserialize().unwrap();
        Ok(bool::try_from(value).unwrap())
    }

    /// Waits until the daemon's name has an owner, or has none.
    async fn daemon_runs(&self, wanted: bool) {
        let bus = zbus::fdo::DBusProxy::new(&self.0).await.unwrap();
        let name: zbus::names::BusName<'_> = "org.bluez".try_into().unwrap();
        soon(async {
            while bus.name_has_owner(name.clone()).await.unwrap() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    async fn down(&self) {
        soon(async {
            while self.is_connected().await != Ok(false) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Listens to the unit's notifications.
    async fn notifications(&self) -> MessageStream {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .path(STATUS)
            .member("PropertiesChanged")
            .build()
            .unwrap();
        MessageStream::for_match_rule(rule, &self.0, None).await.unwrap()
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(8), what).await.expect("within eight seconds")
}

fn millis(since: &Clock) -> u128 {
    since.now().since(Mono::ORIGIN).as_millis()
}

fn heard(bytes: &str, write: &str, link: &str) -> [String; 3] {
    [bytes, write, link].map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_unanswered_request_refuses_its_characteristic_and_holds_up_the_others() {
    let room = Room::new().await;
    let client = room.connected().await;
    room.happens("write-slow 700 ms").await;
    let begun = Clock::start();
    // Its client gives it up: the daemon does not care.
    let given_up = tokio::time::timeout(Duration::from_millis(50), client.write(COMMAND, "request", 1));
    assert!(given_up.await.is_err());
    for kind in ["request", "command"] {
        let refused = client.write(COMMAND, kind, 9).await.unwrap_err();
        assert!(refused.contains("org.bluez.Error.InProgress"), "{refused}");
    }
    client.write(OTHER, "command", 2).await.unwrap();
    room.happens("radio-well").await;
    let (written, read) = tokio::join!(client.write(OTHER, "request", 3), async {
        let options = HashMap::<&str, Variant<'_>>::new();
        client.call(OTHER, CHARACTERISTIC, "ReadValue", &options).await
    });
    assert!(written.is_ok() && read.is_ok(), "{written:?} {read:?}");
    let took = millis(&begun);
    assert!((690..2000).contains(&took), "accepted, but only answered behind the first: {took} ms");
    client.write(COMMAND, "request", 4).await.unwrap();
    let expected = [("02", "command"), ("01", "request"), ("03", "request"), ("04", "request")];
    let expected: Vec<_> = expected.iter().map(|(bytes, way)| heard(bytes, way, "ready")).collect();
    assert_eq!(room.heard(), expected, "a command passes, requests keep their order");
    room.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exclusive_writing_passes_a_stuck_write_locks_others_out_and_ends_with_its_holder() {
    let room = Room::new().await;
    let (client, guard) = (room.connected().await, room.client().await);
    room.happens("write-silent").await;
    let stuck = tokio::time::timeout(Duration::from_millis(50), client.write(COMMAND, "request", 1));
    assert!(stuck.await.is_err());
    let socket = guard.acquire(COMMAND).await.unwrap();
    let second = client.acquire(COMMAND).await.unwrap_err();
    assert!(second.contains("NotPermitted"), "{second}");
    rustix::io::write(&socket, &[5]).unwrap();
    soon(async {
        while room.heard().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(room.heard(), [heard("05", "acquired", "ready")]);
    for kind in ["request", "command"] {
        let refused = client.write(COMMAND, kind, 6).await.unwrap_err();
        assert!(refused.contains("NotPermitted") && refused.contains("acquired"), "{refused}");
    }
    let unable = client.acquire(STATUS).await.unwrap_err();
    assert!(unable.contains("NotSupported"), "{unable}");
    // The holder's end closes its socket.
    drop((guard, socket));
    soon(async {
        while !client.write(COMMAND, "command", 7).await.is_err_and(|error| error.contains("InProgress")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    room.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_ends_with_its_client_and_two_are_signalled_twice() {
    let room = Room::new().await;
    let (first, second) = (room.connected().await, room.client().await);
    first.subscribe().await;
    second.subscribe().await;
    let mut values = first.notifications().await;
    first.write(COMMAND, "request", 1).await.unwrap();
    for _ in 0..2 {
        soon(values.next()).await.unwrap().unwrap();
    }
    second.0.close().await.unwrap();
    // The bus tells of its end a moment later; until then values still come twice.
    let once = async {
        loop {
            first.write(COMMAND, "request", 2).await.unwrap();
            values.next().await.unwrap().unwrap();
            if tokio::time::timeout(Duration::from_millis(100), values.next()).await.is_err() {
                break;
            }
        }
    };
    soon(once).await;
    assert_eq!(first.is_connected().await, Ok(true), "the link does not end with a client");
    room.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnect_takes_over_two_seconds_in_which_writes_pass_and_a_connect_does_not_help() {
    let room = Room::new().await;
    let client = room.connected().await;
    let begun = Clock::start();
    let (closed, ()) = tokio::join!(client.disconnect(), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        client.write(COMMAND, "request", 1).await.unwrap();
        client.connect().await.unwrap();
        assert!(millis(&begun) < 1500, "both at once");
    });
    closed.unwrap();
    let took = millis(&begun);
    assert!((2000..4000).contains(&took), "down after {took} ms");
    assert_eq!(client.is_connected().await, Ok(false));
    assert_eq!(room.heard(), [heard("01", "request", "closing")]);
    let refused = client.write(COMMAND, "request", 2).await.unwrap_err();
    assert!(refused.contains("Not connected"), "the objects stay: {refused}");
    client.connect().await.unwrap();
    client.write(COMMAND, "request", 3).await.unwrap();
    room.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_daemon_that_returns_at_once_has_a_phantom() {
    let room = Room::new().await;
    let client = room.connected().await;
    let begun = Clock::start();
    room.happens("bluetoothd-kill").await;
    client.daemon_runs(false).await;
    room.happens("bluetoothd-start").await;
    client.daemon_runs(true).await;
    assert_eq!(client.is_connected().await, Ok(true));
    client.connect().await.expect("it says yes");
    let nothing = client.write(COMMAND, "request", 1).await.unwrap_err();
    assert!(nothing.contains("UnknownObject"), "{nothing}");
    client.down().await;
    let took = millis(&begun);
    assert!((1990..3500).contains(&took), "the link outlives the daemon: {took} ms");
    client.connect().await.unwrap();
    client.write(COMMAND, "request", 2).await.unwrap();
    // Switching the adapter off cuts the phantom short.
    room.happens("bluetoothd-kill").await;
    room.happens("bluetoothd-start").await;
    client.daemon_runs(true).await;
    room.happens("adapter-off").await;
    client.down().await;
    room.happens("adapter-on").await;
    client.connect().await.unwrap();
    client.write(COMMAND, "request", 3).await.unwrap();
    // An ordered end takes the links down.
    room.happens("bluetoothd-stop").await;
    client.daemon_runs(false).await;
    room.happens("bluetoothd-start").await;
    client.daemon_runs(true).await;
    assert_eq!(client.is_connected().await, Ok(false));
    room.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_never_answered_loses_the_link() {
    let room = Room::new().await;
    let client = room.connected().await;
    room.happens("write-silent").await;
    room.happens("answer-within 300 ms").await;
    let begun = Clock::start();
    let (first, second) =
        tokio::join!(client.write(COMMAND, "request", 1), client.write(OTHER, "request", 2));
    for refused in [first.unwrap_err(), second.unwrap_err()] {
        assert!(refused.contains("Not connected"), "{refused}");
    }
    let took = millis(&begun);
    assert!((290..1500).contains(&took), "{took} ms");
    assert_eq!(client.is_connected().await, Ok(false));
    room.happens("radio-well").await;
    client.connect().await.unwrap();
    client.write(COMMAND, "request", 3).await.unwrap();
    assert_eq!(room.heard(), [heard("03", "request", "ready")]);
    room.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_that_is_pulled_out_takes_everything_with_it_and_gives_it_back() {
    let room = Room::new().await;
    let client = room.connected().await;
    room.happens("adapter-remove").await;
    let gone = soon(async {
        loop {
            if let Err(error) = client.is_connected().await {
                return error;
            }
        }
    })
    .await;
    assert!(gone.contains("UnknownObject"), "{gone}");
    assert!(client.connect().await.unwrap_err().contains("UnknownObject"));
    room.happens("adapter-return").await;
    soon(async { while client.connect().await.is_err() {} }).await;
    client.write(COMMAND, "request", 1).await.unwrap();
    room.end().await;
}
