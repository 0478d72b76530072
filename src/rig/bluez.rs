//! A simulated `org.bluez` on a private D-Bus, with the simulated units behind it.
//!
//! One task owns everything and handles each message in the order of its arrival, so that the simulator neither
//! invents nor hides an order. Replies may come late or never; that is how slow and silent peers are played.
//!
//! ```text
//!              scan finds it            Connect               services resolved
//!  (unknown) ---------------> known ------------> connected -------------------> ready
//!      ^                      ^   ^                   |                            |
//!      |  RemoveDevice        |   +-- link lost, Disconnect (2 s later), adapter off
//!      +----------------------+
//! ```
//!
//! Kept from the real daemon (5.66), because a client must meet them:
//! - the very first connection gives no `Connected` signal; the objects are announced after `ServicesResolved`;
//! - one unanswered write with response refuses every other write to that characteristic with `InProgress`, whatever
//!   became of the client that wrote, until the peer answers or the link is lost after 30 s;
//! - requests of one unit (writes with response, readings, subscriptions) cross the air one by one: one that is accepted
//!   waits for those before it, a command passes them;
//! - a lost link either keeps the objects (default cache; subscriptions come back by themselves) or removes them;
//! - a disconnect takes 2–2.8 s, in which writes still pass and which a connect does not cut short;
//! - `AcquireWrite` passes an unanswered write and locks every other writer out until its socket is closed;
//! - what belongs to a client (scan, subscription, the socket of exclusive writing) ends with that client; a link does
//!   not;
//! - with two subscribers every notification is signalled twice;
//! - when the daemon is killed the links stay up for 2.03 s, and a daemon that is back before has them connected,
//!   without objects, and says yes to `Connect`.

mod acquire;
mod tree;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedVariant, Variant};

use super::RigError;
use super::devices::{Flag, Radio, RadioDevice};
use super::truth::Account;
use crate::clock::Clock;
use crate::model::packet::Endpoint;
use crate::sim::Seeded;
use crate::sim::link::{Arrival, Carried, LinkFaults, Moved, Unit, Way};
use crate::sim::world::{Objects, RadioEvent, WorldEvent};
use crate::units::Mono;
use tree::{
    ADAPTER, ADAPTER_PATH, BATTERY, BATTERY_LEVEL, CHARACTERISTIC, DEVICE, INTROSPECTABLE, Interfaces, Node,
    OBJECT_MANAGER, PROPERTIES, Properties, address_text, text, uuid_text,
};

/// Connect to link up.
const LINK_UP_AFTER: Duration = Duration::from_millis(5);
/// Link up to services resolved.
const RESOLVED_AFTER: Duration = Duration::from_millis(10);
/// Between two looks of a scan.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The real daemon's least and longest delay between a disconnect asked and the link down.
const DISCONNECT_AFTER: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(2800));
/// From the daemon's violent end to the loss of its links: the kernel's doing.
const LINKS_OUTLIVE: Duration = Duration::from_millis(2030);
/// From an order to end to the links down and the name released.
const ENDS_AFTER: Duration = Duration::from_millis(45);
/// A request unanswered for this long ends the link (attribute protocol, transaction time-out).
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The default MTU.
const MTU: u16 = 23;
/// Longest value of one write: the MTU less 3.
const VALUE_MAX: usize = 20;
/// Packets of exclusive writers that may wait.
const PACKETS: usize = 64;
/// Signal strength of a unit in reach, dBm.
const RSSI: i16 = -55;

/// The daemon: adapter, units and the bus they are on.
pub struct Bluez {
    address: String,
    /// `None` while the daemon does not run.
    bus: Option<Bus>,
    clock: Clock,
    /// Whether the adapter is plugged in.
    plugged: bool,
    powered: bool,
    scanners: BTreeSet<String>,
    devices: Vec<Device>,
    later: BTreeMap<(Mono, u64), Later>,
    count: u64,
    control: mpsc::Receiver<(usize, WorldEvent)>,
    to_packets: mpsc::Sender<acquire::Packet>,
    packets: mpsc::Receiver<acquire::Packet>,
}

/// The daemon's end of the bus.
struct Bus {
    connection: Connection,
    incoming: MessageStream,
}

/// A unit to be put behind the daemon.
pub struct RadioUnit {
    /// The device and how it presents itself.
    pub radio: Radio,
    /// What its link does to messages.
    pub link: LinkFaults,
    /// Its seed.
    pub seed: u64,
    /// What happens to it, from the start; ascending.
    pub events: Vec<(Duration, WorldEvent)>,
    /// Its part of the truth file.
    pub account: Account,
}

struct Device {
    unit: Unit<dyn RadioDevice>,
    account: Account,
    path: String,
    address: [u8; 6],
    name: String,
    manufacturer: Vec<(u16, Vec<u8>)>,
    nodes: Vec<Node>,
    link: LinkState,
    in_reach: bool,
    known: bool,
    /// Whether the GATT objects are there.
    objects: bool,
    /// Whether a disconnect was asked for that has not taken the link down yet.
    closing: bool,
    /// Whether it was ever connected: the first time gives no signal.
    was_connected: bool,
    /// Grows with every loss of the link, so that what was planned before is forgotten.
    generation: u64,
    faults: Faults,
    random: Seeded,
    connecting: Option<Message>,
    /// Unanswered writes with response, by their characteristic.
    writes: BTreeMap<String, Pending>,
    /// Requests in the order in which they cross the air; the first is under way.
    requests: VecDeque<Request>,
    subscribers: BTreeSet<(String, String)>,
    /// Characteristics that a client writes to exclusively.
    holds: BTreeMap<String, acquire::Hold>,
    battery: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkState {
    Down,
    Connected,
    Ready,
    /// Connected by a daemon that is dead; the one that runs has no objects for it.
    Phantom,
}

impl LinkState {
    /// Returns its word in the truth file.
    const fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Connected => "connected",
            Self::Ready => "ready",
            Self::Phantom => "phantom",
        }
    }
}

/// An unanswered write with response.
struct Pending {
    call: Message,
    tag: u64,
    /// When the link is given up for it; `None`: it waits for its turn.
    until: Option<Mono>,
}

/// A request on its way, or waiting for its turn.
#[derive(Clone)]
enum Request {
    /// A write; its [`Pending`] has the same tag.
    Write(Carried),
    /// A call that is answered when its turn has come.
    Call { node: Node, sender: String, call: Message },
}

#[derive(Clone, Debug)]
struct Faults {
    connect_error: bool,
    connect_silent: bool,
    services_silent: bool,
    write_error: bool,
    write_slow: Duration,
    write_silent: bool,
    write_drops_link: bool,
    notify_silent: bool,
    notify_twice: bool,
    property_missing: bool,
    flag_unknown: bool,
    disconnect_after: Option<Duration>,
    answer_within: Duration,
}

/// What is to be done at some time.
enum Later {
    LinkUp {
        device: usize,
        generation: u64,
    },
    Resolved {
        device: usize,
        generation: u64,
    },
    Disconnect {
        device: usize,
        generation: u64,
        call: Message,
    },
    /// A slow write reaches the air.
    Write {
        device: usize,
        generation: u64,
        message: Carried,
    },
    /// The kernel gives up a link whose daemon died.
    Orphaned {
        device: usize,
        generation: u64,
    },
    /// The daemon that was told to end has ended.
    Ended,
    Look,
    Event {
        device: usize,
        event: WorldEvent,
    },
}

/// What a method answers.
enum Reply {
    Nothing,
    Text(String),
    Bytes(Vec<u8>),
    Value(Variant<'static>),
    Properties(Properties),
    Objects(BTreeMap<zbus::ObjectPath<'static>, Interfaces>),
    Socket(std::os::fd::OwnedFd),
    /// The reply comes later, or never.
    Later,
}

/// A D-Bus error: its name and text.
struct Refusal(&'static str, &'static str);

const FAILED_CONNECT: Refusal = Refusal("org.bluez.Error.Failed", "le-connection-abort-by-local");
const NOT_CONNECTED: Refusal = Refusal("org.bluez.Error.Failed", "Not connected");
const IN_PROGRESS: Refusal = Refusal("org.bluez.Error.InProgress", "In Progress");
const ACQUIRED: Refusal = Refusal("org.bluez.Error.NotPermitted", "Write acquired");
const NOT_READY: Refusal = Refusal("org.bluez.Error.NotReady", "Resource Not Ready");
const NO_OBJECT: Refusal = Refusal("org.freedesktop.DBus.Error.UnknownObject", "Unknown object");
const NO_METHOD: Refusal = Refusal("org.freedesktop.DBus.Error.UnknownMethod", "Unknown method");
const NO_PROPERTY: Refusal = Refusal("org.freedesktop.DBus.Error.InvalidArgs", "No such property");
const BAD_ARGUMENTS: Refusal =
    Refusal("org.bluez.Error.InvalidArguments", "Invalid arguments in method call");

impl Default for Faults {
    fn default() -> Self {
        Self {
            connect_error: false,
            connect_silent: false,
            services_silent: false,
            write_error: false,
            write_slow: Duration::ZERO,
            write_silent: false,
            write_drops_link: false,
            notify_silent: false,
            notify_twice: false,
            property_missing: false,
            flag_unknown: false,
            disconnect_after: None,
            answer_within: ANSWER_WITHIN,
        }
    }
}

impl Faults {
    fn set(&mut self, event: RadioEvent) {
        match event {
            RadioEvent::ConnectError => self.connect_error = true,
            RadioEvent::ConnectSilent => self.connect_silent = true,
            RadioEvent::ServicesSilent => self.services_silent = true,
            RadioEvent::WriteError => self.write_error = true,
            RadioEvent::WriteSlow(after) => self.write_slow = after,
            RadioEvent::WriteSilent => self.write_silent = true,
            RadioEvent::WriteDropsLink => self.write_drops_link = true,
            RadioEvent::NotifySilent => self.notify_silent = true,
            RadioEvent::NotifyTwice => self.notify_twice = true,
            RadioEvent::PropertyMissing => self.property_missing = true,
            RadioEvent::FlagUnknown => self.flag_unknown = true,
            RadioEvent::DisconnectAfter(after) => self.disconnect_after = Some(after),
            RadioEvent::AnswerWithin(within) => self.answer_within = within,
            RadioEvent::Well => *self = Self::default(),
            RadioEvent::RemoveDevice
            | RadioEvent::RemoveGatt
            | RadioEvent::AdapterOff
            | RadioEvent::AdapterOn
            | RadioEvent::AdapterRemove
            | RadioEvent::AdapterReturn
            | RadioEvent::DaemonKilled
            | RadioEvent::DaemonStopped
            | RadioEvent::DaemonStarted => {}
        }
    }
}

impl Bus {
    /// Joins the bus at `address` as `org.bluez`; returns once the name is owned.
    async fn join(address: &str) -> Result<Self, RigError> {
        let incoming =
            zbus::connection::Builder::address(address).name("org.bluez").build_message_stream().await?;
        let connection = Connection::from(&incoming);
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .interface("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .build()?;
        let bus = zbus::fdo::DBusProxy::new(&connection).await?;
        bus.add_match_rule(rule).await.map_err(zbus::Error::from)?;
        Ok(Self { connection, incoming })
    }
}

/// Waits for the next message; for ever while the daemon does not run.
async fn next_message(bus: &mut Option<Bus>) -> Option<zbus::Result<Message>> {
    match bus {
        Some(bus) => bus.incoming.next().await,
        None => std::future::pending().await,
    }
}

impl Bluez {
    /// Joins the bus at `address` as `org.bluez` with these units; returns once the name is owned.
    ///
    /// # Errors
    /// The bus refused.
    pub async fn start(
        address: &str,
        units: Vec<RadioUnit>,
        clock: Clock,
        control: mpsc::Receiver<(usize, WorldEvent)>,
    ) -> Result<Self, RigError> {
        let bus = Bus::join(address).await?;
        let (to_packets, packets) = mpsc::channel(PACKETS);
        let mut daemon = Self {
            address: address.to_owned(),
            bus: Some(bus),
            to_packets,
            packets,
            clock,
            plugged: true,
            powered: true,
            scanners: BTreeSet::new(),
            devices: Vec::new(),
            later: BTreeMap::new(),
            count: 0,
            control,
        };
        for unit in units {
            daemon.add(unit);
        }
        Ok(daemon)
    }

    /// Runs until the sender of events is dropped; then writes the last truth. Without a bus the units run on.
    pub async fn run(mut self) {
        loop {
            let wake = self.clock.at(self.deadline());
            tokio::select! {
                biased;
                event = self.control.recv() => match event {
                    Some((device, event)) => self.event(device, event).await,
                    None => break,
                },
                message = next_message(&mut self.bus) => match message {
                    Some(Ok(message)) => self.message(message).await,
                    Some(Err(error)) => tracing::warn!(%error, "message on the private bus not read"),
                    // The daemon ends with its bus.
                    None => self.killed().await,
                },
                Some(packet) = self.packets.recv() => self.packet(packet),
                () = sleep_until(wake) => {}
            }
            self.advance().await;
        }
        let now = self.clock.now();
        for device in &mut self.devices {
            let truth = device.unit.truth(now);
            device.account.close(now, &truth);
        }
    }

    fn add(&mut self, unit: RadioUnit) {
        let RadioUnit { radio, link, seed, events, account } = unit;
        let Radio { device, name, address, manufacturer, services } = radio;
        let path = format!("{ADAPTER_PATH}/dev_{}", address_text(address, "_"));
        let index = self.devices.len();
        let start = self.clock.now();
        for (at, event) in events {
            self.plan(start.saturating_add(at), Later::Event { device: index, event });
        }
        let battery = device.read(BATTERY_LEVEL);
        self.devices.push(Device {
            unit: Unit::new(device, link, false, seed),
            account,
            nodes: tree::lay_out(&path, &services),
            path,
            address,
            name,
            manufacturer,
            link: LinkState::Down,
            in_reach: true,
            known: false,
            objects: false,
            closing: false,
            was_connected: false,
            generation: 0,
            faults: Faults::default(),
            random: Seeded::new(seed),
            connecting: None,
            writes: BTreeMap::new(),
            requests: VecDeque::new(),
            subscribers: BTreeSet::new(),
            holds: BTreeMap::new(),
            battery,
        });
    }

    fn plan(&mut self, at: Mono, what: Later) {
        self.count = self.count.saturating_add(1);
        self.later.insert((at, self.count), what);
    }

    fn plan_after(&mut self, after: Duration, what: Later) {
        self.plan(self.clock.now().saturating_add(after), what);
    }

    fn deadline(&self) -> Mono {
        let planned = self.later.first_key_value().map(|((due, _), _)| *due);
        let devices = self.devices.iter().flat_map(|device| {
            let answer = device.writes.values().filter_map(|write| write.until).min();
            [device.unit.deadline(), answer, Some(device.account.deadline())]
        });
        let far = self.clock.now().saturating_add(Duration::from_secs(60));
        devices.flatten().chain(planned).min().unwrap_or(far)
    }

    async fn advance(&mut self) {
        let now = self.clock.now();
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= now
        {
            let what = entry.remove();
            self.due(what).await;
        }
        for index in 0..self.devices.len() {
            self.advance_device(index, now).await;
        }
    }

    async fn advance_device(&mut self, index: usize, now: Mono) {
        let Some(device) = self.devices.get_mut(index) else {
            return;
        };
        let moved = device.unit.advance(now);
        let truth = device.unit.truth(now);
        device.account.note(now, &truth);
        let stuck = device.writes.values().any(|write| write.until.is_some_and(|until| until <= now));
        for moved in moved {
            match moved {
                Moved::Heard(arrival) => self.heard(index, now, &arrival).await,
                Moved::Sent { endpoint: Endpoint::Characteristic(uuid), bytes } => {
                    self.notify(index, uuid, bytes).await;
                }
                Moved::Sent { endpoint: Endpoint::Serial, .. } => {}
            }
        }
        if stuck {
            self.link_down(index, Objects::Kept).await;
        }
    }

    async fn due(&mut self, what: Later) {
        match what {
            Later::LinkUp { device, generation } if self.is_present(device, generation) => {
                self.link_up(device).await;
            }
            Later::Resolved { device, generation } if self.is_present(device, generation) => {
                self.resolved(device).await;
            }
            Later::Disconnect { device, generation, call } => {
                if self.is_present(device, generation) {
                    self.closing(device).await;
                    self.link_down(device, Objects::Kept).await;
                }
                self.send(&call, Ok(Reply::Nothing)).await;
            }
            Later::Orphaned { device, generation } if self.is_present(device, generation) => {
                self.link_down(device, Objects::Kept).await;
            }
            Later::Write { device, generation, message } if self.is_present(device, generation) => {
                let now = self.clock.now();
                if let Some(device) = self.devices.get_mut(device) {
                    device.unit.write(now, Duration::ZERO, message);
                }
            }
            Later::LinkUp { .. } | Later::Resolved { .. } | Later::Orphaned { .. } | Later::Write { .. } => {}
            Later::Ended => {
                for index in 0..self.devices.len() {
                    self.link_down(index, Objects::Kept).await;
                }
                self.killed().await;
            }
            Later::Look => self.look().await,
            Later::Event { device, event } => self.event(device, event).await,
        }
    }

    fn is_present(&self, index: usize, generation: u64) -> bool {
        self.devices.get(index).is_some_and(|device| device.generation == generation)
    }
}

/// Messages from the bus.
impl Bluez {
    async fn message(&mut self, message: Message) {
        match message.message_type() {
            Type::MethodCall => {
                let reply = self.call(&message).await;
                self.send(&message, reply).await;
            }
            Type::Signal => self.client_gone(&message),
            Type::MethodReturn | Type::Error => {}
        }
    }

    async fn call(&mut self, message: &Message) -> Result<Reply, Refusal> {
        let header = message.header();
        let path = header.path().map_or("", |path| path.as_str()).to_owned();
        let interface = header.interface().map_or("", |name| name.as_str());
        let member = header.member().map_or("", |name| name.as_str());
        let sender = header.sender().map_or("", |name| name.as_str()).to_owned();
        match (interface, member) {
            (INTROSPECTABLE, "Introspect") => Ok(Reply::Text(self.introspect(&path))),
            (OBJECT_MANAGER, "GetManagedObjects") if path == "/" => Ok(Reply::Objects(self.objects())),
            (PROPERTIES, "GetAll") => {
                let body = message.body();
                let interface: &str = body.deserialize().map_err(|_| BAD_ARGUMENTS)?;
                let mut interfaces = self.interfaces(&path).ok_or(NO_OBJECT)?;
                interfaces.remove(interface).map(Reply::Properties).ok_or(NO_PROPERTY)
            }
            (PROPERTIES, "Get") => {
                let body = message.body();
                let (interface, name): (&str, &str) = body.deserialize().map_err(|_| BAD_ARGUMENTS)?;
                let mut interfaces = self.interfaces(&path).ok_or(NO_OBJECT)?;
                let value = interfaces.get_mut(interface).and_then(|properties| properties.remove(name));
                value.map(Reply::Value).ok_or(NO_PROPERTY)
            }
            (PROPERTIES, "Set") => self.set(message).await,
            ("org.freedesktop.DBus.Peer", "Ping") => Ok(Reply::Nothing),
            (ADAPTER, _) if path == ADAPTER_PATH && self.plugged => self.adapter_call(member, sender).await,
            (DEVICE, _) if self.plugged => {
                let index = self.devices.iter().position(|device| device.known && device.path == path);
                self.device_call(index.ok_or(NO_OBJECT)?, member, message).await
            }
            (ADAPTER | DEVICE, _) => Err(NO_OBJECT),
            (CHARACTERISTIC, _) => {
                let (index, node) = self.characteristic(&path).ok_or(NO_OBJECT)?;
                self.characteristic_call(index, node, member, sender, message).await
            }
            _ => Err(NO_METHOD),
        }
    }

    async fn send(&self, call: &Message, reply: Result<Reply, Refusal>) {
        let Some(Bus { connection: bus, .. }) = &self.bus else {
            return;
        };
        let header = call.header();
        let sent = match reply {
            Ok(Reply::Nothing) => bus.reply(&header, &()).await,
            Ok(Reply::Text(text)) => bus.reply(&header, &text).await,
            Ok(Reply::Bytes(bytes)) => bus.reply(&header, &bytes).await,
            Ok(Reply::Value(value)) => bus.reply(&header, &value).await,
            Ok(Reply::Properties(properties)) => bus.reply(&header, &properties).await,
            Ok(Reply::Objects(objects)) => bus.reply(&header, &objects).await,
            Ok(Reply::Socket(socket)) => bus.reply(&header, &(zbus::Fd::from(socket), MTU)).await,
            Ok(Reply::Later) => Ok(()),
            Err(Refusal(name, text)) => bus.reply_error(&header, name, &text).await,
        };
        if let Err(error) = sent {
            tracing::warn!(%error, "reply on the private bus not sent");
        }
    }

    async fn changed(&self, path: &str, interface: &str, properties: Properties, invalidated: &[&str]) {
        let body = (interface, properties, invalidated);
        self.signal(path, PROPERTIES, "PropertiesChanged", &body).await;
    }

    async fn signal<B: serde::Serialize + zbus::DynamicType>(
        &self,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) {
        let Some(bus) = &self.bus else {
            return;
        };
        let to_all = None::<zbus::names::BusName<'_>>;
        if let Err(error) = bus.connection.emit_signal(to_all, path, interface, member, body).await {
            tracing::warn!(%error, "signal on the private bus not sent");
        }
    }

    /// What belonged to a client that left the bus ends.
    fn client_gone(&mut self, message: &Message) {
        let body = message.body();
        let Ok((name, _, new)) = body.deserialize::<(&str, &str, &str)>() else {
            return;
        };
        if new.is_empty() {
            self.scanners.remove(name);
            for device in &mut self.devices {
                device.subscribers.retain(|(_, client)| client != name);
            }
        }
    }

    async fn set(&mut self, message: &Message) -> Result<Reply, Refusal> {
        let body = message.body();
        let (interface, name, value): (&str, &str, OwnedVariant) =
            body.deserialize().map_err(|_| BAD_ARGUMENTS)?;
        match (interface, name) {
            (ADAPTER, "Powered") if self.plugged => {
                let powered = bool::try_from(value).map_err(|_| BAD_ARGUMENTS)?;
                self.power(powered).await;
                Ok(Reply::Nothing)
            }
            (ADAPTER | DEVICE, _) => Ok(Reply::Nothing),
            _ => Err(NO_PROPERTY),
        }
    }
}

/// The object tree.
impl Bluez {
    fn paths(&self) -> impl Iterator<Item = &str> {
        let shown = |device: &&Device| device.known && self.plugged;
        let devices = self.devices.iter().filter(shown).flat_map(|device| {
            let nodes = device.nodes.iter().filter(|_| device.objects).map(|node| node.path.as_str());
            std::iter::once(device.path.as_str()).chain(nodes)
        });
        self.plugged.then_some(ADAPTER_PATH).into_iter().chain(devices)
    }

    fn introspect(&self, path: &str) -> String {
        let interfaces = self.interfaces(path).unwrap_or_default();
        let names: Vec<&str> = interfaces.into_keys().collect();
        tree::introspection(path, &names, self.paths())
    }

    fn objects(&self) -> BTreeMap<zbus::ObjectPath<'static>, Interfaces> {
        self.paths()
            .filter_map(|path| {
                let object = zbus::ObjectPath::from_string_unchecked(path.to_owned());
                Some((object, self.interfaces(path)?))
            })
            .collect()
    }

    fn interfaces(&self, path: &str) -> Option<Interfaces> {
        if !self.plugged {
            return None;
        }
        if path == ADAPTER_PATH {
            return Some(BTreeMap::from([(ADAPTER, self.adapter_properties())]));
        }
        let scanning = !self.scanners.is_empty();
        let device = self.devices.iter().find(|device| device.known && path.starts_with(&device.path))?;
        if device.path == path {
            let mut interfaces = BTreeMap::from([(DEVICE, device.properties(scanning))]);
            if let (LinkState::Ready, Some(level)) = (device.link, device.battery_level()) {
                interfaces.insert(BATTERY, BTreeMap::from([("Percentage", Variant::from(level))]));
            }
            return Some(interfaces);
        }
        let node = device.nodes.iter().find(|node| device.objects && node.path == path)?;
        Some(device.node_interfaces(node))
    }

    fn characteristic(&self, path: &str) -> Option<(usize, Node)> {
        self.devices.iter().enumerate().find_map(|(index, device)| {
            let node = device.nodes.iter().find(|node| device.objects && node.path == path)?;
            Some((index, node.clone()))
        })
    }

    fn adapter_properties(&self) -> Properties {
        BTreeMap::from([
            ("Address", text("00:1A:7D:DA:71:13".to_owned())),
            ("AddressType", text("public".to_owned())),
            ("Name", text("simulated".to_owned())),
            ("Alias", text("simulated".to_owned())),
            ("Modalias", text("usb:v1D6Bp0246d0542".to_owned())),
            ("Class", Variant::from(0u32)),
            ("Powered", Variant::from(self.powered)),
            ("Discovering", Variant::from(!self.scanners.is_empty())),
            ("UUIDs", Variant::from(Vec::<String>::new())),
        ])
    }
}

impl Device {
    fn properties(&self, scanning: bool) -> Properties {
        let uuids: Vec<String> = self.services().map(uuid_text).collect();
        let address = address_text(self.address, ":");
        let manufacturer: HashMap<u16, Variant<'static>> = self
            .manufacturer
            .iter()
            .map(|(company, payload)| (*company, Variant::from(payload.clone())))
            .collect();
        let mut properties = BTreeMap::from([
            ("Address", text(address)),
            ("AddressType", text("random".to_owned())),
            ("Name", text(self.name.clone())),
            ("Alias", text(self.name.clone())),
            ("Adapter", tree::object(ADAPTER_PATH)),
            ("Paired", Variant::from(false)),
            ("Bonded", Variant::from(false)),
            ("Trusted", Variant::from(false)),
            ("Blocked", Variant::from(false)),
            ("Connected", Variant::from(self.link != LinkState::Down)),
            ("ServicesResolved", Variant::from(self.link == LinkState::Ready)),
            ("UUIDs", Variant::from(if self.link == LinkState::Ready { uuids } else { Vec::new() })),
            ("ManufacturerData", Variant::from(manufacturer)),
        ]);
        if !self.faults.property_missing {
            properties.insert("LegacyPairing", Variant::from(false));
        }
        if scanning && self.in_reach {
            properties.insert("RSSI", Variant::from(RSSI));
        }
        properties
    }

    fn services(&self) -> impl Iterator<Item = u128> {
        self.nodes.iter().filter_map(|node| match node.kind {
            tree::NodeKind::Service { uuid, .. } => Some(uuid),
            tree::NodeKind::Characteristic { .. } | tree::NodeKind::Descriptor { .. } => None,
        })
    }

    fn node_interfaces(&self, node: &Node) -> Interfaces {
        let notifying = self.subscribers.iter().any(|(path, _)| *path == node.path);
        BTreeMap::from([(node.interface(), node.properties(notifying, self.faults.flag_unknown))])
    }

    fn battery_level(&self) -> Option<u8> {
        self.unit.device().read(BATTERY_LEVEL)?.first().copied()
    }
}

/// The adapter.
impl Bluez {
    async fn adapter_call(&mut self, member: &str, sender: String) -> Result<Reply, Refusal> {
        match member {
            "SetDiscoveryFilter" => Ok(Reply::Nothing),
            "StartDiscovery" if !self.powered => Err(NOT_READY),
            "StartDiscovery" => {
                let first = self.scanners.is_empty();
                if !self.scanners.insert(sender) {
                    return Err(IN_PROGRESS);
                }
                if first {
                    self.discovering(true).await;
                    self.plan_after(LINK_UP_AFTER, Later::Look);
                }
                Ok(Reply::Nothing)
            }
            "StopDiscovery" => {
                if !self.scanners.remove(&sender) {
                    return Err(Refusal("org.bluez.Error.Failed", "No discovery started"));
                }
                if self.scanners.is_empty() {
                    self.discovering(false).await;
                }
                Ok(Reply::Nothing)
            }
            _ => Err(NO_METHOD),
        }
    }

    async fn discovering(&self, discovering: bool) {
        let properties = BTreeMap::from([("Discovering", Variant::from(discovering))]);
        self.changed(ADAPTER_PATH, ADAPTER, properties, &[]).await;
        if !discovering {
            for device in self.devices.iter().filter(|device| device.known) {
                self.changed(&device.path, DEVICE, BTreeMap::new(), &["RSSI"]).await;
            }
        }
    }

    /// One look of a scan: new units appear, known ones refresh their signal strength.
    async fn look(&mut self) {
        if self.scanners.is_empty() {
            return;
        }
        for index in 0..self.devices.len() {
            let Some(device) = self.devices.get_mut(index) else { continue };
            if !device.in_reach || device.link != LinkState::Down {
                continue;
            }
            let newly = !std::mem::replace(&mut device.known, true);
            let (path, properties) = (device.path.clone(), device.properties(true));
            if newly {
                self.added(&path, BTreeMap::from([(DEVICE, properties)])).await;
            } else {
                let properties = BTreeMap::from([("RSSI", Variant::from(RSSI))]);
                self.changed(&path, DEVICE, properties, &[]).await;
            }
        }
        self.plan_after(LOOK_EVERY, Later::Look);
    }

    async fn power(&mut self, powered: bool) {
        if self.powered == powered {
            return;
        }
        self.powered = powered;
        if !powered {
            for index in 0..self.devices.len() {
                self.link_down(index, Objects::Kept).await;
            }
            self.scanners.clear();
        }
        let properties = BTreeMap::from([("Powered", Variant::from(powered))]);
        self.changed(ADAPTER_PATH, ADAPTER, properties, &[]).await;
    }

    async fn added(&self, path: &str, mut interfaces: Interfaces) {
        interfaces.insert(INTROSPECTABLE, Properties::new());
        interfaces.insert(PROPERTIES, Properties::new());
        let object = zbus::ObjectPath::from_string_unchecked(path.to_owned());
        self.signal("/", OBJECT_MANAGER, "InterfacesAdded", &(object, interfaces)).await;
    }

    async fn removed(&self, path: &str, interface: &str) {
        let object = zbus::ObjectPath::from_string_unchecked(path.to_owned());
        let names = [INTROSPECTABLE, PROPERTIES, interface];
        self.signal("/", OBJECT_MANAGER, "InterfacesRemoved", &(object, names.as_slice())).await;
    }
}

/// Links.
impl Bluez {
    async fn device_call(&mut self, index: usize, member: &str, call: &Message) -> Result<Reply, Refusal> {
        let powered = self.powered;
        let Some(device) = self.devices.get_mut(index) else {
            return Err(NO_OBJECT);
        };
        match member {
            "Connect" if !powered => Err(NOT_READY),
            "Connect" if device.faults.connect_error => Err(FAILED_CONNECT),
            "Connect" if matches!(device.link, LinkState::Ready | LinkState::Phantom) => Ok(Reply::Nothing),
            "Connect" if device.connecting.is_some() => Err(IN_PROGRESS),
            "Connect" => {
                device.connecting = Some(call.clone());
                self.try_connecting(index);
                Ok(Reply::Later)
            }
            "Disconnect" => {
                if let Some(connect) = device.connecting.take() {
                    self.send(&connect, Err(FAILED_CONNECT)).await;
                    self.link_down(index, Objects::Kept).await;
                    return Ok(Reply::Nothing);
                }
                if device.link == LinkState::Down {
                    return Err(Refusal("org.bluez.Error.NotConnected", "Not Connected"));
                }
                device.closing = true;
                let usual = device.random.span(DISCONNECT_AFTER.0, DISCONNECT_AFTER.1);
                let (generation, after) =
                    (device.generation, device.faults.disconnect_after.unwrap_or(usual));
                self.plan_after(after, Later::Disconnect { device: index, generation, call: call.clone() });
                Ok(Reply::Later)
            }
            _ => Err(NO_METHOD),
        }
    }

    /// A connect that waits goes ahead when nothing holds it back. It also does so long after its client gave it up.
    fn try_connecting(&mut self, index: usize) {
        let Some(device) = self.devices.get(index) else {
            return;
        };
        let held = device.faults.connect_silent || !device.in_reach || !self.powered;
        if device.connecting.is_some() && !held {
            self.plan_after(LINK_UP_AFTER, Later::LinkUp { device: index, generation: device.generation });
        }
    }

    async fn link_up(&mut self, index: usize) {
        let now = self.clock.now();
        let Some(device) = self.devices.get_mut(index) else {
            return;
        };
        if device.connecting.is_none() || device.link != LinkState::Down {
            return;
        }
        device.link = LinkState::Connected;
        device.unit.connect(now);
        let announced = std::mem::replace(&mut device.was_connected, true);
        let (path, generation) = (device.path.clone(), device.generation);
        if announced {
            let properties = BTreeMap::from([("Connected", Variant::from(true))]);
            self.changed(&path, DEVICE, properties, &[]).await;
        }
        self.plan_after(RESOLVED_AFTER, Later::Resolved { device: index, generation });
    }

    async fn resolved(&mut self, index: usize) {
        let Some(device) = self.devices.get_mut(index) else {
            return;
        };
        let Some(call) = device.connecting.take() else {
            return;
        };
        if !device.faults.services_silent {
            device.link = LinkState::Ready;
            let fresh = !std::mem::replace(&mut device.objects, true);
            self.announce(index, fresh).await;
        }
        self.send(&call, Ok(Reply::Nothing)).await;
    }

    async fn announce(&self, index: usize, fresh: bool) {
        let Some(device) = self.devices.get(index) else {
            return;
        };
        let mut all = device.properties(false);
        all.retain(|name, _| ["UUIDs", "ServicesResolved", "Name", "Alias"].contains(name));
        self.changed(&device.path, DEVICE, all, &[]).await;
        for node in device.nodes.iter().filter(|_| fresh) {
            self.added(&node.path, device.node_interfaces(node)).await;
        }
    }

    /// A disconnect asked by the host announces itself in two steps.
    async fn closing(&self, index: usize) {
        if let Some(device) = self.devices.get(index) {
            let properties = BTreeMap::from([("ServicesResolved", Variant::from(false))]);
            self.changed(&device.path, DEVICE, properties, &[]).await;
        }
    }

    async fn link_down(&mut self, index: usize, objects: Objects) {
        let now = self.clock.now();
        let Some(device) = self.devices.get_mut(index) else {
            return;
        };
        device.generation = device.generation.saturating_add(1);
        if device.link == LinkState::Down {
            return;
        }
        device.link = LinkState::Down;
        device.closing = false;
        device.unit.disconnect(now);
        device.holds.clear();
        let path = device.path.clone();
        let calls = device.requests.drain(..).filter_map(|request| match request {
            Request::Write(_) => None,
            Request::Call { call, .. } => Some(call),
        });
        let calls: Vec<Message> = calls.collect();
        let writes = std::mem::take(&mut device.writes);
        let connecting = device.connecting.take();
        if let Some(call) = connecting {
            self.send(&call, Err(FAILED_CONNECT)).await;
        }
        for call in calls.into_iter().chain(writes.into_values().map(|write| write.call)) {
            self.send(&call, Err(NOT_CONNECTED)).await;
        }
        let mut properties =
            BTreeMap::from([("ServicesResolved", Variant::from(false)), ("Connected", Variant::from(false))]);
        if objects == Objects::Removed {
            self.remove_objects(index).await;
            properties.insert("UUIDs", Variant::from(Vec::<String>::new()));
        }
        self.changed(&path, DEVICE, properties, &[]).await;
    }

    async fn remove_objects(&mut self, index: usize) {
        let Some(device) = self.devices.get_mut(index) else {
            return;
        };
        device.subscribers.clear();
        if !std::mem::replace(&mut device.objects, false) {
            return;
        }
        for node in device.nodes.clone().iter().rev() {
            self.removed(&node.path, node.interface()).await;
        }
    }

    async fn event(&mut self, index: usize, event: WorldEvent) {
        let now = self.clock.now();
        match event {
            WorldEvent::Device(event) => {
                if let Some(device) = self.devices.get_mut(index) {
                    device.unit.event(now, event);
                }
                self.battery(index).await;
            }
            WorldEvent::LinkLoss(objects) => {
                if let Some(device) = self.devices.get_mut(index) {
                    device.in_reach = false;
                }
                self.link_down(index, objects).await;
            }
            WorldEvent::LinkBack => {
                if let Some(device) = self.devices.get_mut(index) {
                    device.in_reach = true;
                }
                self.try_connecting(index);
            }
            WorldEvent::Radio(event) => self.radio_event(index, event).await,
        }
    }

    async fn radio_event(&mut self, index: usize, event: RadioEvent) {
        if let Some(device) = self.devices.get_mut(index) {
            device.faults.set(event);
        }
        match event {
            RadioEvent::AdapterOff => self.power(false).await,
            RadioEvent::AdapterOn => self.power(true).await,
            RadioEvent::AdapterRemove => self.unplug().await,
            RadioEvent::AdapterReturn => self.plug().await,
            RadioEvent::DaemonKilled => self.killed().await,
            RadioEvent::DaemonStopped => self.plan_after(ENDS_AFTER, Later::Ended),
            RadioEvent::DaemonStarted => self.started().await,
            RadioEvent::RemoveGatt => self.remove_objects(index).await,
            RadioEvent::RemoveDevice => self.remove_device(index).await,
            RadioEvent::ConnectError
            | RadioEvent::ConnectSilent
            | RadioEvent::ServicesSilent
            | RadioEvent::WriteError
            | RadioEvent::WriteSlow(_)
            | RadioEvent::WriteSilent
            | RadioEvent::WriteDropsLink
            | RadioEvent::NotifySilent
            | RadioEvent::NotifyTwice
            | RadioEvent::PropertyMissing
            | RadioEvent::FlagUnknown
            | RadioEvent::DisconnectAfter(_)
            | RadioEvent::AnswerWithin(_)
            | RadioEvent::Well => {}
        }
        self.try_connecting(index);
    }

    /// The device object goes without any other sign, as when the daemon drops it from its cache.
    async fn remove_device(&mut self, index: usize) {
        self.remove_objects(index).await;
        let now = self.clock.now();
        let Some(device) = self.devices.get_mut(index) else {
            return;
        };
        device.generation = device.generation.saturating_add(1);
        device.unit.disconnect(now);
        (device.link, device.in_reach, device.known) = (LinkState::Down, false, false);
        device.closing = false;
        device.connecting = None;
        device.writes.clear();
        device.requests.clear();
        device.holds.clear();
        let path = device.path.clone();
        self.removed(&path, DEVICE).await;
    }

    /// The adapter is pulled out: everything behind it goes with it.
    async fn unplug(&mut self) {
        if !self.plugged {
            return;
        }
        self.power(false).await;
        for index in 0..self.devices.len() {
            self.remove_objects(index).await;
            if let Some(device) = self.devices.get(index).filter(|device| device.known) {
                self.removed(&device.path, DEVICE).await;
            }
        }
        self.plugged = false;
        self.removed(ADAPTER_PATH, ADAPTER).await;
    }

    /// The adapter is back, with the devices that the daemon has kept in its files.
    async fn plug(&mut self) {
        if self.plugged {
            return;
        }
        (self.plugged, self.powered) = (true, true);
        self.added(ADAPTER_PATH, BTreeMap::from([(ADAPTER, self.adapter_properties())])).await;
        for device in self.devices.iter().filter(|device| device.known) {
            self.added(&device.path, BTreeMap::from([(DEVICE, device.properties(false))])).await;
        }
    }

    /// The daemon is gone without a word: what it knew of its clients with it. The kernel keeps its links for a while.
    async fn killed(&mut self) {
        if let Some(bus) = self.bus.take()
            && let Err(error) = bus.connection.close().await
        {
            tracing::debug!(%error, "the bus was gone already");
        }
        self.scanners.clear();
        let mut orphans = Vec::new();
        for (index, device) in self.devices.iter_mut().enumerate() {
            device.generation = device.generation.saturating_add(1);
            device.subscribers.clear();
            device.holds.clear();
            device.writes.clear();
            device.requests.clear();
            device.connecting = None;
            (device.objects, device.closing) = (false, false);
            if device.link != LinkState::Down {
                device.link = LinkState::Phantom;
                orphans.push((index, device.generation));
            }
        }
        for (device, generation) in orphans {
            self.plan_after(LINKS_OUTLIVE, Later::Orphaned { device, generation });
        }
    }

    async fn started(&mut self) {
        if self.bus.is_some() {
            return;
        }
        self.powered = true;
        match Bus::join(&self.address).await {
            Ok(bus) => self.bus = Some(bus),
            Err(error) => tracing::warn!(%error, "the simulated Bluetooth daemon was not started"),
        }
    }
}

/// Characteristics.
impl Bluez {
    async fn characteristic_call(
        &mut self,
        index: usize,
        node: Node,
        member: &str,
        sender: String,
        call: &Message,
    ) -> Result<Reply, Refusal> {
        let Some((uuid, flags)) = node.characteristic() else {
            return Err(NO_METHOD);
        };
        let Some(device) = self.devices.get_mut(index) else {
            return Err(NO_OBJECT);
        };
        let connected = device.link != LinkState::Down;
        let waits = !device.requests.is_empty() && matches!(member, "ReadValue" | "StartNotify");
        if connected && waits {
            device.requests.push_back(Request::Call { node, sender, call: call.clone() });
            return Ok(Reply::Later);
        }
        let can = |flag| if flags.contains(&flag) { Ok(()) } else { Err(not_supported()) };
        match member {
            "ReadValue" => {
                can(Flag::Read)?;
                let value = connected.then(|| device.unit.device().read(uuid)).ok_or(NOT_CONNECTED)?;
                let value = value.unwrap_or_default();
                let properties = BTreeMap::from([("Value", Variant::from(value.clone()))]);
                self.changed(&node.path, CHARACTERISTIC, properties, &[]).await;
                Ok(Reply::Bytes(value))
            }
            "StartNotify" => {
                can(Flag::Notify)?;
                if !connected {
                    return Err(IN_PROGRESS);
                }
                device.subscribers.insert((node.path.clone(), sender));
                Ok(Reply::Nothing)
            }
            "StopNotify" => {
                if device.subscribers.remove(&(node.path.clone(), sender)) {
                    return Ok(Reply::Nothing);
                }
                Err(Refusal("org.bluez.Error.Failed", "No notify session started"))
            }
            "WriteValue" => self.write(index, &node.path, (uuid, flags), call).await,
            "AcquireWrite" => {
                can(Flag::WriteWithoutResponse)?;
                if !connected {
                    return Err(NOT_CONNECTED);
                }
                if device.holds.contains_key(&node.path) {
                    return Err(ACQUIRED);
                }
                let made = acquire::acquire(index, node.path.clone(), self.to_packets.clone());
                let (hold, socket) = made.map_err(|_| not_supported())?;
                device.holds.insert(node.path, hold);
                Ok(Reply::Socket(socket))
            }
            _ => Err(NO_METHOD),
        }
    }

    async fn write(
        &mut self,
        index: usize,
        path: &str,
        (uuid, flags): (u128, &[Flag]),
        call: &Message,
    ) -> Result<Reply, Refusal> {
        let body = call.body();
        let (bytes, options): (Vec<u8>, HashMap<String, OwnedVariant>) =
            body.deserialize().map_err(|_| BAD_ARGUMENTS)?;
        let kind = options.get("type").and_then(|value| <&str>::try_from(value).ok());
        let request = kind.map_or(flags.contains(&Flag::Write), |kind| kind == "request");
        let now = self.clock.now();
        let tag = self.count;
        let Some(device) = self.devices.get_mut(index) else {
            return Err(NO_OBJECT);
        };
        if device.link == LinkState::Down {
            return Err(NOT_CONNECTED);
        }
        if device.holds.contains_key(path) {
            return Err(ACQUIRED);
        }
        if device.writes.contains_key(path) {
            return Err(IN_PROGRESS);
        }
        check_write(&bytes, request, flags)?;
        if std::mem::take(&mut device.faults.write_drops_link) {
            device.in_reach = false;
            self.link_down(index, Objects::Kept).await;
            return Err(NOT_CONNECTED);
        }
        if device.faults.write_error {
            return Err(Refusal("org.bluez.Error.NotPermitted", "Write not permitted"));
        }
        let endpoint = Endpoint::Characteristic(uuid);
        if !request {
            // A command that the characteristic does not offer is accepted here and ignored by the peer.
            if flags.contains(&Flag::WriteWithoutResponse) {
                let message = Carried { endpoint, bytes, way: Way::Command, tag: None };
                device.unit.write(now, Duration::ZERO, message);
            }
            return Ok(Reply::Nothing);
        }
        device.writes.insert(path.to_owned(), Pending { call: call.clone(), tag, until: None });
        device.requests.push_back(Request::Write(Carried {
            endpoint,
            bytes,
            way: Way::Request,
            tag: Some(tag),
        }));
        let first = device.requests.len() == 1;
        self.count = self.count.saturating_add(1);
        if first {
            self.launch(index);
        }
        Ok(Reply::Later)
    }

    /// Sends the write whose turn it is. A slow one stays behind what is written meanwhile.
    fn launch(&mut self, index: usize) {
        let now = self.clock.now();
        let Some(device) = self.devices.get_mut(index) else {
            return;
        };
        let Some(Request::Write(message)) = device.requests.front().cloned() else {
            return;
        };
        for write in device.writes.values_mut().filter(|write| Some(write.tag) == message.tag) {
            write.until = Some(now.saturating_add(device.faults.answer_within));
        }
        if !device.faults.write_silent {
            let (generation, after) = (device.generation, device.faults.write_slow);
            self.plan(now.saturating_add(after), Later::Write { device: index, generation, message });
        }
    }

    /// Answers the calls whose turn has come and sends the next write.
    async fn next_request(&mut self, index: usize) {
        while let Some(device) = self.devices.get_mut(index) {
            match device.requests.pop_front() {
                Some(Request::Call { node, sender, call }) => {
                    let rest = std::mem::take(&mut device.requests);
                    let member = call.header().member().map_or("", |name| name.as_str()).to_owned();
                    let answer = Box::pin(self.characteristic_call(index, node, &member, sender, &call));
                    let answer = answer.await;
                    self.send(&call, answer).await;
                    if let Some(device) = self.devices.get_mut(index) {
                        device.requests = rest;
                    }
                }
                Some(write @ Request::Write(_)) => {
                    device.requests.push_front(write);
                    self.launch(index);
                    return;
                }
                None => return,
            }
        }
    }

    /// A command of an exclusive writer.
    fn packet(&mut self, packet: acquire::Packet) {
        let now = self.clock.now();
        let Some(device) = self.devices.get_mut(packet.device) else {
            return;
        };
        let Some(bytes) = packet.bytes else {
            device.holds.remove(&packet.path);
            return;
        };
        if !device.holds.contains_key(&packet.path) {
            return;
        }
        let node = device.nodes.iter().find(|node| node.path == packet.path);
        let Some((uuid, _)) = node.and_then(Node::characteristic) else {
            return;
        };
        if bytes.len() <= VALUE_MAX {
            let endpoint = Endpoint::Characteristic(uuid);
            let message = Carried { endpoint, bytes, way: Way::Acquired, tag: None };
            device.unit.write(now, Duration::ZERO, message);
        }
    }

    /// The peer has a message; it acknowledges one that was written with response.
    async fn heard(&mut self, index: usize, now: Mono, arrival: &Arrival) {
        let Some(device) = self.devices.get_mut(index) else {
            return;
        };
        let link = if device.closing { "closing" } else { device.link.word() };
        device.account.heard(now, arrival, link);
        let Some(tag) = arrival.message.tag else {
            return;
        };
        let path = device.writes.iter().find(|(_, write)| write.tag == tag).map(|(path, _)| path.clone());
        if let Some(write) = path.and_then(|path| device.writes.remove(&path)) {
            device.requests.pop_front();
            self.send(&write.call, Ok(Reply::Nothing)).await;
            self.next_request(index).await;
        }
    }

    async fn notify(&self, index: usize, uuid: u128, value: Vec<u8>) {
        let Some(device) = self.devices.get(index) else {
            return;
        };
        if device.link != LinkState::Ready || device.faults.notify_silent {
            return;
        }
        let is_it = |node: &&Node| node.characteristic().is_some_and(|(other, _)| other == uuid);
        let Some(node) = device.nodes.iter().find(is_it) else {
            return;
        };
        let subscribers = device.subscribers.iter().filter(|(path, _)| *path == node.path).count();
        let times = if device.faults.notify_twice { subscribers.saturating_mul(2) } else { subscribers };
        for _ in 0..times {
            let properties = BTreeMap::from([("Value", Variant::from(value.clone()))]);
            self.changed(&node.path, CHARACTERISTIC, properties, &[]).await;
        }
    }

    /// Tells of a changed battery level, both ways that the real daemon does.
    async fn battery(&mut self, index: usize) {
        let Some(device) = self.devices.get_mut(index) else {
            return;
        };
        let level = device.unit.device().read(BATTERY_LEVEL);
        if level == device.battery {
            return;
        }
        device.battery.clone_from(&level);
        let (ready, path) = (device.link == LinkState::Ready, device.path.clone());
        if let (true, Some(value)) = (ready, level) {
            let percentage = value.first().copied().unwrap_or(0);
            let properties = BTreeMap::from([("Percentage", Variant::from(percentage))]);
            self.changed(&path, BATTERY, properties, &[]).await;
            self.notify(index, BATTERY_LEVEL, value).await;
        }
    }
}

fn check_write(bytes: &[u8], request: bool, flags: &[Flag]) -> Result<(), Refusal> {
    if !flags.contains(&Flag::Write) && !flags.contains(&Flag::WriteWithoutResponse) {
        return Err(not_supported());
    }
    if bytes.len() > VALUE_MAX {
        return Err(if request {
            Refusal("org.bluez.Error.InvalidArguments", "Invalid Length")
        } else {
            Refusal("org.bluez.Error.Failed", "Failed to initiate write")
        });
    }
    if request && !flags.contains(&Flag::Write) {
        return Err(Refusal("org.bluez.Error.NotPermitted", "Write not permitted"));
    }
    Ok(())
}

const fn not_supported() -> Refusal {
    Refusal("org.bluez.Error.NotSupported", "Operation is not supported")
}
