//! A Bluetooth unit stopped through the guard's own connection to the bus (transports 9.1–9.3, 9.5).
//!
//! Where the characteristic takes commands, `AcquireWrite`: it gets through while a write of the daemon is stuck, and it
//! locks the daemon out. Else `WriteValue`, again and again while another write is pending.
//!
//! ```text
//!  known objects --> rounds: stop, stop after 30 ms, stop when the daemon is gone, rhythm, proof? --> over
//!        ^                                   | link, objects or bluetoothd gone
//!        +------ reach: name? connect, objects? <-----------------------------+
//! ```
//!
//! Invariants: no scan; nothing is written while a daemon lives; the mask match is the only proof, and it counts only
//! after the daemon was gone; every call has its own deadline.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, ObjectPath, OwnedVariant, Variant};

use crate::clock::Clock;
use crate::guard::scene::Scene;
use crate::model::packet::{Endpoint, Received, StopScript, StopStep, WriteKind};
use crate::units::Mono;

/// Longest wait for one write, or for the lock.
const WRITE_WITHIN: Duration = Duration::from_millis(100);
/// Pause before a write is tried again that another one kept out.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// The first stop again after this long.
const AGAIN: Duration = Duration::from_millis(30);
/// Longest wait for the units' notifications.
const LISTEN_WITHIN: Duration = Duration::from_millis(150);
/// Longest wait for a list of objects, or for the bus.
const LOOK_WITHIN: Duration = Duration::from_millis(500);
/// Longest wait for a connection to a unit.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Pause between attempts to reach a unit.
const REACH_PAUSE: Duration = Duration::from_millis(100);

const BLUEZ: &str = "org.bluez";
const DEVICE: &str = "org.bluez.Device1";
const CHARACTERISTIC: &str = "org.bluez.GattCharacteristic1";

/// Interfaces of an object with their properties.
type Interfaces = BTreeMap<String, BTreeMap<String, OwnedVariant>>;
type Objects = BTreeMap<String, Interfaces>;

/// The way to the bus; opened when the first unit needs it.
pub(super) struct Radio {
    address: Option<String>,
    connection: RefCell<Option<Connection>>,
}

/// Where a unit's characteristics are.
#[derive(Clone, Debug)]
pub(super) struct Gatt {
    characteristics: BTreeMap<u128, Characteristic>,
}

#[derive(Clone, Debug)]
struct Characteristic {
    path: String,
    takes_commands: bool,
}

/// Why a call came to nothing.
#[derive(Debug)]
enum Trouble {
    /// Another write is pending, or somebody holds the characteristic.
    Busy,
    /// The link, the object, bluetoothd or the bus is gone.
    Lost,
    /// No answer, or another refusal; what it was has no bearing on what is tried next.
    Other(String),
}

impl Radio {
    /// `address`: of the bus; `None`: the system's.
    pub(super) const fn new(address: Option<String>) -> Self {
        Self { address, connection: RefCell::new(None) }
    }

    async fn connection(&self) -> Result<Connection, Trouble> {
        if let Some(open) = self.connection.borrow().as_ref() {
            return Ok(open.clone());
        }
        let builder = match &self.address {
            Some(address) => zbus::connection::Builder::address(address.as_str()),
            None => zbus::connection::Builder::system(),
        };
        let opened = timeout(LOOK_WITHIN, builder.build()).await;
        let opened = opened.map_err(|_| Trouble::Lost)?.map_err(|error| Trouble::Other(error.to_string()))?;
        *self.connection.borrow_mut() = Some(opened.clone());
        Ok(opened)
    }

    /// Calls a method of BlueZ.
    async fn call<B>(
        &self,
        (path, interface, method): (&str, &str, &str),
        body: &B,
        within: Duration,
    ) -> Result<Message, Trouble>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let connection = self.connection().await?;
        match timeout(within, connection.call_method(Some(BLUEZ), path, Some(interface), method, body)).await
        {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(zbus::Error::MethodError(name, text, _))) => {
                Err(explain(name.as_str(), text.as_deref().unwrap_or_default()))
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the bus is gone");
                self.connection.borrow_mut().take();
                Err(Trouble::Lost)
            }
            Err(_) => Err(Trouble::Other(format!("{method} was not answered"))),
        }
    }

    async fn objects(&self) -> Result<Objects, Trouble> {
        let look = ("/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
        let reply = self.call(look, &(), LOOK_WITHIN).await?;
        let body = reply.body();
        let objects = body.deserialize::<BTreeMap<ObjectPath<'_>, Interfaces>>();
        let objects = objects.map_err(|error| Trouble::Other(error.to_string()))?;
        Ok(objects.into_iter().map(|(path, interfaces)| (path.as_str().to_owned(), interfaces)).collect())
    }

    /// Returns where the unit's characteristics are, when it is connected and all of them are there.
    ///
    /// # Errors
    /// In words: why it cannot be stopped from here.
    pub(super) async fn find(&self, address: &str, script: &StopScript) -> Result<Gatt, String> {
        let objects =
            self.objects().await.map_err(|trouble| format!("BlueZ does not answer ({trouble:?})"))?;
        let (path, connected) = device(&objects, address).ok_or("BlueZ does not know the unit")?;
        if !connected {
            return Err("it is not connected".to_owned());
        }
        gatt(&objects, &path, script).ok_or_else(|| "its characteristics are not there".to_owned())
    }

    /// Connects when needed, without a scan, and waits until everything is there, however long it takes.
    async fn reach(&self, address: &str, script: &StopScript) -> Gatt {
        loop {
            if let Ok(objects) = self.objects().await
                && let Some((path, connected)) = device(&objects, address)
            {
                if connected && let Some(gatt) = gatt(&objects, &path, script) {
                    return gatt;
                }
                // Also while it claims to be connected: then this is quick, and the objects follow.
                if let Err(trouble) = self.call((&path, DEVICE, "Connect"), &(), CONNECT_WITHIN).await {
                    tracing::debug!(address, ?trouble, "not connected");
                }
            }
            sleep(REACH_PAUSE).await;
        }
    }
}

/// Returns a unit's object and whether it is connected.
fn device(objects: &Objects, address: &str) -> Option<(String, bool)> {
    objects.iter().find_map(|(path, interfaces)| {
        let device = interfaces.get(DEVICE)?;
        let own = <&str>::try_from(device.get("Address")?).ok()?;
        let connected = device.get("Connected").and_then(|value| bool::try_from(value).ok());
        own.eq_ignore_ascii_case(address).then(|| (path.clone(), connected == Some(true)))
    })
}

/// Returns the characteristics that a script needs; `None`: one is missing.
fn gatt(objects: &Objects, device: &str, script: &StopScript) -> Option<Gatt> {
    let mut characteristics = BTreeMap::new();
    for (path, interfaces) in objects {
        let below = path.strip_prefix(device).is_some_and(|rest| rest.starts_with('/'));
        let Some(properties) = interfaces.get(CHARACTERISTIC).filter(|_| below) else {
            continue;
        };
        let uuid = properties.get("UUID").and_then(|value| <&str>::try_from(value).ok());
        let Some(uuid) = uuid.and_then(number) else {
            continue;
        };
        let flags = properties.get("Flags").and_then(|value| value.try_clone().ok());
        let flags: Vec<String> = flags.and_then(|value| value.try_into().ok()).unwrap_or_default();
        let takes_commands = flags.iter().any(|flag| flag == "write-without-response");
        let path = path.clone();
        characteristics.entry(uuid).or_insert(Characteristic { path, takes_commands });
    }
    let all = endpoints(script).iter().all(|uuid| characteristics.contains_key(uuid));
    all.then_some(Gatt { characteristics })
}

/// Returns a UUID as a number.
fn number(uuid: &str) -> Option<u128> {
    let digits: String = uuid.chars().filter(|digit| *digit != '-').collect();
    u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)
}

/// Returns every characteristic that a script names.
fn endpoints(script: &StopScript) -> Vec<u128> {
    let steps = script.steps.iter();
    let named =
        steps.flat_map(|step| [Some(step.endpoint), step.confirm.as_ref().map(|proof| proof.endpoint)]);
    named
        .flatten()
        .filter_map(|endpoint| match endpoint {
            Endpoint::Characteristic(uuid) => Some(uuid),
            Endpoint::Serial => None,
        })
        .collect()
}

/// Says what an error of BlueZ means for what is tried next.
fn explain(name: &str, text: &str) -> Trouble {
    let gone = [
        "org.freedesktop.DBus.Error.UnknownObject",
        "org.freedesktop.DBus.Error.UnknownMethod",
        "org.freedesktop.DBus.Error.ServiceUnknown",
        "org.freedesktop.DBus.Error.NameHasNoOwner",
        "org.bluez.Error.NotConnected",
    ];
    match name {
        "org.bluez.Error.InProgress" => Trouble::Busy,
        "org.bluez.Error.NotPermitted" if text.contains("acquired") => Trouble::Busy,
        "org.bluez.Error.Failed" if text.eq_ignore_ascii_case("not connected") => Trouble::Lost,
        _ if gone.contains(&name) => Trouble::Lost,
        _ => Trouble::Other(format!("{name}: {text}")),
    }
}

/// Stops a unit until it has proven it.
pub(super) async fn stop(
    radio: &Radio,
    (device, address): (u8, &str),
    script: &StopScript,
    known: Option<Gatt>,
    (scene, clock): (&Scene, &Clock),
) {
    let mut known = known;
    loop {
        let gatt = match known.take() {
            Some(gatt) => gatt,
            None => radio.reach(address, script).await,
        };
        let (held, heard) = (BTreeMap::new(), None);
        let reaped = scene.reaped();
        let mut rounds =
            Rounds { radio, device, gatt, script, scene, clock, held, heard, reaped, counts: false };
        match rounds.run().await {
            Ok(()) => return,
            Err(trouble) => tracing::warn!(address, ?trouble, "the unit is out of reach; it is reached anew"),
        }
        sleep(BUSY_PAUSE).await;
    }
}

/// The rhythm of one unit's stop on one link.
struct Rounds<'a> {
    radio: &'a Radio,
    device: u8,
    gatt: Gatt,
    script: &'a StopScript,
    scene: &'a Scene,
    clock: &'a Clock,
    /// Characteristics that nobody else can write to while these are open.
    held: BTreeMap<u128, OwnedFd>,
    /// What the unit says.
    heard: Option<MessageStream>,
    reaped: watch::Receiver<bool>,
    /// The daemon was gone before this round's first stop: a reply counts.
    counts: bool,
}

/// What ended a wait.
enum Heard {
    Proof,
    DaemonGone,
    Nothing,
}

impl Rounds<'_> {
    /// Runs the script until it is proven; an error ends the link.
    async fn run(&mut self) -> Result<(), Trouble> {
        let mut first = true;
        'round: loop {
            let counts = *self.reaped.borrow();
            if counts
                && !self.counts
                && let Some(heard) = &mut self.heard
            {
                // What a daemon was still answered says nothing of this stop.
                drop_waiting(heard);
            }
            self.counts = counts;
            let began = self.clock.now();
            for step in &self.script.steps {
                self.write(step).await?;
                if first {
                    first = false;
                    let again = self.clock.now().saturating_add(AGAIN);
                    self.listen().await?;
                    self.wait(again).await?;
                    self.write(step).await?;
                }
                let until = self.clock.now().saturating_add(step.wait);
                match self.wait(until).await? {
                    Heard::Proof => return Ok(()),
                    Heard::DaemonGone => continue 'round,
                    Heard::Nothing => {}
                }
            }
            if self.heard.is_none() {
                self.listen().await?;
            }
            let next =
                began.saturating_add(self.script.cycle).max(self.clock.now().saturating_add(BUSY_PAUSE));
            match self.wait(next).await? {
                Heard::Proof => return Ok(()),
                Heard::DaemonGone | Heard::Nothing => {}
            }
        }
    }

    /// Writes one step; tries again while another write is pending, but not for ever: other steps may go elsewhere.
    async fn write(&mut self, step: &StopStep) -> Result<(), Trouble> {
        let Endpoint::Characteristic(uuid) = step.endpoint else {
            return Ok(());
        };
        let Some(target) = self.gatt.characteristics.get(&uuid).cloned() else {
            return Err(Trouble::Lost);
        };
        let give_up = self.clock.now().saturating_add(WRITE_WITHIN);
        loop {
            self.hold(uuid, &target).await;
            let written = match self.held.get(&uuid) {
                Some(held) => send(held, &step.bytes),
                None => self.write_value(&target, step).await,
            };
            match written {
                Ok(()) => {
                    self.scene.stop_written(self.device);
                    return Ok(());
                }
                Err(Trouble::Lost) => return Err(Trouble::Lost),
                Err(Trouble::Busy) if self.clock.now() < give_up => sleep(BUSY_PAUSE).await,
                Err(trouble @ (Trouble::Busy | Trouble::Other(_))) => {
                    tracing::warn!(device = self.device, ?trouble, "a stop was not written");
                    return Ok(());
                }
            }
        }
    }

    /// Takes hold of a characteristic, where it can be: this locks everyone else out.
    async fn hold(&mut self, uuid: u128, target: &Characteristic) {
        if !target.takes_commands || self.held.contains_key(&uuid) {
            return;
        }
        let options = BTreeMap::<&str, Variant<'_>>::new();
        let acquire = (target.path.as_str(), CHARACTERISTIC, "AcquireWrite");
        match self.radio.call(acquire, &(options,), WRITE_WITHIN).await {
            Ok(reply) => {
                // The reply keeps a copy of the descriptor: it ends here, or the lock would outlive ours.
                if let Ok((socket, _mtu)) = reply.body().deserialize::<(zbus::OwnedFd, u16)>() {
                    self.held.insert(uuid, socket.into());
                }
            }
            Err(trouble) => tracing::debug!(device = self.device, ?trouble, "not acquired"),
        }
    }

    async fn write_value(&self, target: &Characteristic, step: &StopStep) -> Result<(), Trouble> {
        let kind = match step.write {
            WriteKind::WithoutResponse if target.takes_commands => "command",
            WriteKind::WithoutResponse | WriteKind::WithResponse => "request",
        };
        let options = BTreeMap::from([("type", Variant::from(kind))]);
        let write = (target.path.as_str(), CHARACTERISTIC, "WriteValue");
        self.radio.call(write, &(&step.bytes, options), WRITE_WITHIN).await.map(drop)
    }

    /// Asks for the unit's notifications: the daemon's end with it.
    async fn listen(&mut self) -> Result<(), Trouble> {
        let proofs = self.script.steps.iter().find_map(|step| step.confirm.as_ref());
        let Some(Endpoint::Characteristic(uuid)) = proofs.map(|proof| proof.endpoint) else {
            return Ok(());
        };
        let Some(status) = self.gatt.characteristics.get(&uuid).map(|status| status.path.clone()) else {
            return Err(Trouble::Lost);
        };
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(BLUEZ)
            .interface("org.freedesktop.DBus.Properties")
            .member("PropertiesChanged")
            .path(status.clone())
            .build();
        let connection = self.radio.connection().await?;
        let Ok(rule) = rule else {
            return Ok(());
        };
        let Ok(Ok(stream)) =
            timeout(LISTEN_WITHIN, MessageStream::for_match_rule(rule, &connection, None)).await
        else {
            return Ok(());
        };
        match self.radio.call((&status, CHARACTERISTIC, "StartNotify"), &(), LISTEN_WITHIN).await {
            // `InProgress`: it is being switched on for somebody else; the signals come all the same.
            Ok(_) | Err(Trouble::Busy) => self.heard = Some(stream),
            Err(Trouble::Lost) => return Err(Trouble::Lost),
            Err(Trouble::Other(why)) => tracing::warn!(device = self.device, why, "no notifications yet"),
        }
        Ok(())
    }

    /// Waits, hearing the unit; ends early by a proof that counts, and when the daemon is gone.
    async fn wait(&mut self, until: Mono) -> Result<Heard, Trouble> {
        let due = tokio::time::sleep_until(self.clock.at(until));
        tokio::pin!(due);
        loop {
            if !self.counts && *self.reaped.borrow() {
                return Ok(Heard::DaemonGone);
            }
            tokio::select! {
                biased;
                changed = self.reaped.changed(), if !self.counts => {
                    // The sender lives as long as the take-over.
                    changed.map_err(|_| Trouble::Lost)?;
                }
                signal = next(&mut self.heard) => match signal {
                    Some(Ok(signal)) if self.counts && self.proves(&signal) => {
                        self.scene.confirmed(self.device);
                        return Ok(Heard::Proof);
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(Trouble::Lost),
                },
                () = &mut due => return Ok(Heard::Nothing),
            }
        }
    }

    fn proves(&self, signal: &Message) -> bool {
        let body = signal.body();
        let Ok((_, changed, _)) = body.deserialize::<(String, BTreeMap<String, OwnedVariant>, Vec<String>)>()
        else {
            return false;
        };
        let value = changed.get("Value").and_then(|value| value.try_clone().ok());
        let Some(bytes) = value.and_then(|value| Vec::<u8>::try_from(value).ok()) else {
            return false;
        };
        let path = signal.header().path().map(|path| path.as_str().to_owned());
        let from = self.gatt.characteristics.iter().find(|(_, known)| Some(&known.path) == path.as_ref());
        let Some((uuid, _)) = from else {
            return false;
        };
        let received = Received { endpoint: Endpoint::Characteristic(*uuid), bytes };
        self.script.steps.iter().filter_map(|step| step.confirm.as_ref()).any(|proof| proof.proves(&received))
    }
}

/// Writes one command into an acquired characteristic.
fn send(held: &OwnedFd, bytes: &[u8]) -> Result<(), Trouble> {
    match rustix::net::send(held, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(_) => Ok(()),
        Err(Errno::AGAIN) => Err(Trouble::Busy),
        Err(_) => Err(Trouble::Lost),
    }
}

/// Takes what waits in a stream, and waits for nothing.
fn drop_waiting(stream: &mut (impl Stream + Unpin)) {
    while let Some(Some(_)) = stream.next().now_or_never() {}
}

async fn next(heard: &mut Option<MessageStream>) -> Option<zbus::Result<Message>> {
    match heard {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_received_before_the_daemon_was_gone_is_dropped_and_nothing_after() {
        let (unit, mut said) = tokio::sync::mpsc::channel(8);
        let mut heard = futures_util::stream::poll_fn(|context| said.poll_recv(context));
        for status in 0..3 {
            unit.try_send(status).unwrap();
        }
        drop_waiting(&mut heard);
        unit.try_send(7).unwrap();
        assert_eq!(heard.next().now_or_never(), Some(Some(7)));
    }

    #[test]
    fn errors_of_bluez_say_what_to_try_next() {
        for (name, text, expected) in [
            ("org.bluez.Error.InProgress", "In Progress", "Busy"),
            ("org.bluez.Error.NotPermitted", "Write acquired", "Busy"),
            ("org.bluez.Error.NotPermitted", "Write not permitted", "Other"),
            ("org.bluez.Error.Failed", "Not connected", "Lost"),
            ("org.bluez.Error.Failed", "Failed to initiate write", "Other"),
            ("org.freedesktop.DBus.Error.UnknownObject", "", "Lost"),
            ("org.freedesktop.DBus.Error.ServiceUnknown", "", "Lost"),
        ] {
            let seen = format!("{:?}", explain(name, text));
            assert!(seen.starts_with(expected), "{name} {text}: {seen}");
        }
        assert_eq!(
            number("00002a19-0000-1000-8000-00805f9b34fb"),
            Some(0x2a19_0000_1000_8000_0080_5f9b_34fb)
        );
        assert_eq!(number("2a19"), None);
    }
}
