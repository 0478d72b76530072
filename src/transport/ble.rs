//! Bluetooth Low Energy through btleplug and the system's Bluetooth daemon.
//!
//! On Linux that library's streams never end and never tell of a lost daemon, bus or device object: silence is not
//! health. So every call here has a deadline of its own, and the link counts as lost at the first of: a
//! disconnection event, a failed write, a look every half second, and a second D-Bus connection that watches the
//! daemon's name, the device object and the bus itself.
//!
//! Invariants:
//! - one write at a time, awaited; a write that passed its deadline may still arrive, and says so;
//! - where a characteristic offers both ways of writing, nothing but a repeated stop waits for a response;
//! - what a characteristic offers is checked by ourselves after every connection: the library does not;
//! - after a connection that failed or was given up, the device is disconnected before the next attempt;
//! - notifications wait in a bounded buffer: the newest stay, the oldest go;
//! - exclusive access to a characteristic (`AcquireWrite`, `AcquireNotify`) is never taken: it would lock out the
//!   guard process;
//! - scanning ends as soon as the device is found. A scan switches the adapter on, which is announced in the log.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use btleplug::api::{
    BDAddr, Central, CentralEvent, CentralState, CharPropFlags, Characteristic, Manager as _,
    Peripheral as _, ScanFilter, ValueNotification, WriteType,
};
use btleplug::platform::{Adapter, Manager, Peripheral, PeripheralId};
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};
use uuid::Uuid;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream};

use super::{LinkError, Sent, Transport, Ways};
use crate::model::packet::{Endpoint, Packet, Purpose, Received, WriteKind};

/// Longest search for a device that the daemon does not know yet.
pub const FIND_WITHIN: Duration = Duration::from_secs(10);
/// Longest time for a connection.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Longest time for the discovery of services.
pub const DISCOVER_WITHIN: Duration = Duration::from_secs(5);
/// Longest time for a write.
pub const WRITE_WITHIN: Duration = Duration::from_millis(500);
/// Longest time for a write that only asks.
pub const QUERY_WITHIN: Duration = Duration::from_millis(250);
/// Longest time for any other call.
pub const CALL_WITHIN: Duration = Duration::from_secs(2);
/// Longest time from a disconnection asked to the link down; the daemon takes about two seconds.
pub const DISCONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How often the link is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looks between two readings of the battery.
const LOOKS_PER_BATTERY: u32 = 120;
/// Longest frame: the default MTU of 23 less 3.
const FRAME_MAX: usize = 20;
/// Notifications kept for a slow reader.
const KEPT_MAX: usize = 64;

const BATTERY: u128 = standard(0x2a19);
/// Serial number, firmware, hardware, software (Device Information).
const INFORMATION: [u128; 4] = [standard(0x2a25), standard(0x2a26), standard(0x2a27), standard(0x2a28)];

/// Returns the full UUID of an assigned 16-bit one.
pub const fn standard(short: u16) -> u128 {
    const BASE: u128 = 0x0000_0000_0000_1000_8000_0080_5f9b_34fb;
    let [high, low] = short.to_be_bytes();
    BASE | u128::from_be_bytes([0, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

/// What a device must offer to be the expected kind of unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GattNeeds {
    /// The service of the two characteristics below; `None`: any service.
    pub service: Option<u128>,
    /// Where commands are written.
    pub command: u128,
    /// Ways of writing commands of which it must offer at least one.
    pub needs: Vec<WriteKind>,
    /// Where status comes from; it must notify.
    pub status: Option<u128>,
    /// Characteristics read at every connection, before the link counts as up; each must be readable.
    pub reads: Vec<u128>,
}

/// One device as a [`Transport`]. Its connections to the bus live as long as it does.
pub struct Ble {
    seeker: Seeker,
    link: Option<Live>,
}

/// What finds and connects the device.
struct Seeker {
    address: String,
    needs: GattNeeds,
    adapter: Option<String>,
    radio: Option<Radio>,
    scanning: Option<Adapter>,
    /// A device that may be connected, or connecting, without being of use.
    unclean: Option<Peripheral>,
    /// The bus has died under us; it never heals in this process.
    bus_dead: bool,
}

/// The connections to the bus.
struct Radio {
    manager: Manager,
    watch: Connection,
}

type Notifications = Pin<Box<dyn Stream<Item = ValueNotification> + Send>>;
type Events = Pin<Box<dyn Stream<Item = CentralEvent> + Send>>;
type Background = Pin<Box<dyn Future<Output = Seen> + Send>>;

/// A link that is up.
struct Live {
    address: String,
    peripheral: Peripheral,
    id: PeripheralId,
    writable: Vec<Characteristic>,
    status: Option<Uuid>,
    notifications: Notifications,
    events: Events,
    names: MessageStream,
    removals: MessageStream,
    object: String,
    kept: VecDeque<Received>,
    look: Interval,
    looks: u32,
    /// One call at a time besides writes: a look at the link, or the reading of a value nobody waits for.
    background: Option<Background>,
    to_read: VecDeque<Characteristic>,
    battery: Option<Characteristic>,
    ways: Ways,
}

/// What came of a background call.
enum Seen {
    Link(Result<bool, LinkError>),
    Value(Option<Received>),
}

impl Ble {
    /// Names a device by its address, such as `C0:00:00:00:00:01`; nothing happens before [`Transport::connect`].
    pub fn new(address: &str, needs: GattNeeds) -> Self {
        let seeker = Seeker {
            address: address.to_owned(),
            needs,
            adapter: None,
            radio: None,
            scanning: None,
            unclean: None,
            bus_dead: false,
        };
        Self { seeker, link: None }
    }

    /// Uses this adapter (`hci0`); otherwise the first one that is switched on.
    #[must_use]
    pub fn on_adapter(mut self, name: &str) -> Self {
        self.seeker.adapter = Some(name.to_owned());
        self
    }

    fn not_connected(&self) -> LinkError {
        LinkError::NotConnected { endpoint: self.seeker.address.clone() }
    }
}

impl Seeker {
    /// Runs a call with a deadline of ours.
    async fn within<T>(
        &self,
        within: Duration,
        call: impl Future<Output = Result<T, btleplug::Error>>,
    ) -> Result<T, LinkError> {
        bounded(&self.address, within, call).await
    }

    fn gone(&self) -> LinkError {
        LinkError::Gone { endpoint: self.address.clone() }
    }

    fn unexpected(&self, reason: String) -> LinkError {
        LinkError::Unexpected { endpoint: self.address.clone(), reason }
    }

    async fn radio(&mut self) -> Result<(Manager, Connection), LinkError> {
        if let Some(radio) = &self.radio {
            // The library's own connection would keep every call waiting; neither ever heals.
            if radio.watch.is_closed() {
                return Err(LinkError::BusDead);
            }
            return Ok((radio.manager.clone(), radio.watch.clone()));
        }
        let manager = self.within(CALL_WITHIN, Manager::new()).await?;
        let watch = match timeout(CALL_WITHIN, Connection::system()).await {
            Ok(Ok(watch)) => watch,
            Ok(Err(_)) | Err(_) => return Err(LinkError::BusDead),
        };
        self.radio = Some(Radio { manager: manager.clone(), watch: watch.clone() });
        Ok((manager, watch))
    }

    async fn choose_adapter(&self, manager: &Manager) -> Result<Adapter, LinkError> {
        let mut found = Vec::new();
        for adapter in self.within(CALL_WITHIN, manager.adapters()).await? {
            let info = self.within(CALL_WITHIN, adapter.adapter_info()).await?;
            let state = self.within(CALL_WITHIN, adapter.adapter_state()).await?;
            let name = info.split(' ').next().unwrap_or_default().to_owned();
            found.push((state != CentralState::PoweredOn, name, adapter));
        }
        found.sort_by(|left, right| (left.0, &left.1).cmp(&(right.0, &right.1)));
        let chosen = match &self.adapter {
            Some(wanted) => found.into_iter().find(|(_, name, _)| name == wanted),
            None => found.into_iter().next(),
        };
        chosen.map(|(_, _, adapter)| adapter).ok_or_else(|| LinkError::Refused {
            endpoint: self.address.clone(),
            reason: "there is no Bluetooth adapter".to_owned(),
        })
    }

    async fn look_up(&self, adapter: &Adapter, wanted: BDAddr) -> Result<Option<Peripheral>, LinkError> {
        let known = self.within(CALL_WITHIN, adapter.peripherals()).await?;
        Ok(known.into_iter().find(|peripheral| peripheral.address() == wanted))
    }

    /// Finds the device: known to the daemon already, or by a scan that ends as soon as it is seen.
    async fn find(&mut self, adapter: &Adapter) -> Result<Peripheral, LinkError> {
        let wanted: BDAddr =
            self.address.parse().map_err(|_| self.unexpected("this is no Bluetooth address".to_owned()))?;
        if let Some(known) = self.look_up(adapter, wanted).await? {
            return Ok(known);
        }
        tracing::info!(device = self.address, "scanning; the adapter is switched on for it");
        self.scanning = Some(adapter.clone());
        self.start_scan(adapter).await?;
        let found = timeout(FIND_WITHIN, async {
            loop {
                if let Some(found) = self.look_up(adapter, wanted).await? {
                    return Ok(found);
                }
                sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        self.stop_scan().await;
        found.unwrap_or_else(|_| Err(self.gone()))
    }

    async fn start_scan(&self, adapter: &Adapter) -> Result<(), LinkError> {
        match self.within(CALL_WITHIN, adapter.start_scan(ScanFilter::default())).await {
            Err(LinkError::Busy { .. }) => {
                self.within(CALL_WITHIN, adapter.stop_scan()).await.ok();
                self.within(CALL_WITHIN, adapter.start_scan(ScanFilter::default())).await
            }
            started => started,
        }
    }

    async fn stop_scan(&mut self) {
        if let Some(adapter) = self.scanning.take()
            && let Err(error) = self.within(CALL_WITHIN, adapter.stop_scan()).await
        {
            tracing::debug!(device = self.address, %error, "scan not stopped");
        }
    }

    /// Leaves no half-made connection behind: disconnects and waits until the link is down.
    async fn clean_up(&mut self) -> Result<(), LinkError> {
        self.stop_scan().await;
        let Some(peripheral) = self.unclean.clone() else {
            return Ok(());
        };
        let done = timeout(DISCONNECT_WITHIN, async {
            // "Not connected" is what we want to hear; any other error shows in the look below.
            peripheral.disconnect().await.ok();
            while matches!(peripheral.is_connected().await, Ok(true)) {
                sleep(Duration::from_millis(50)).await;
            }
        });
        if done.await.is_err() {
            return Err(late(&self.address, DISCONNECT_WITHIN));
        }
        self.unclean = None;
        Ok(())
    }

    async fn establish(&mut self) -> Result<Live, LinkError> {
        let (manager, watch) = self.radio().await?;
        let adapter = self.choose_adapter(&manager).await?;
        let peripheral = self.find(&adapter).await?;
        let id = peripheral.id();
        let object = format!("/org/bluez/{id}");
        let (names, removals) = self.watch(&watch).await?;
        self.unclean = Some(peripheral.clone());
        self.within(CONNECT_WITHIN, peripheral.connect()).await?;
        let events = self.within(CALL_WITHIN, adapter.events()).await?;
        self.within(DISCOVER_WITHIN, peripheral.discover_services()).await?;
        let offered = Offered::of(&peripheral, &self.needs).map_err(|reason| self.unexpected(reason))?;
        let notifications = self.within(CALL_WITHIN, peripheral.notifications()).await?;
        if let Some(status) = &offered.status {
            self.within(CALL_WITHIN, peripheral.subscribe(status)).await?;
        }
        let mut kept = VecDeque::new();
        for characteristic in &offered.gate {
            let bytes = self.within(CALL_WITHIN, peripheral.read(characteristic)).await?;
            kept.push_back(received(characteristic.uuid, bytes));
        }
        // A cached device answers discovery even while it is not connected.
        if !self.within(CALL_WITHIN, peripheral.is_connected()).await? {
            return Err(LinkError::NotConnected { endpoint: self.address.clone() });
        }
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        Ok(Live {
            address: self.address.clone(),
            peripheral,
            id,
            writable: offered.writable,
            status: offered.status.map(|status| status.uuid),
            notifications,
            events,
            names,
            removals,
            object,
            kept,
            look,
            looks: 0,
            background: None,
            battery: offered.information.iter().find(|known| known.uuid.as_u128() == BATTERY).cloned(),
            to_read: offered.information.into(),
            ways: Ways::default(),
        })
    }

    /// Watches the daemon's name and its objects over our own connection to the bus.
    async fn watch(&self, watch: &Connection) -> Result<(MessageStream, MessageStream), LinkError> {
        let names = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .add_arg("org.bluez")
            .build();
        let removals = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.bluez")
            .interface("org.freedesktop.DBus.ObjectManager")
            .member("InterfacesRemoved")
            .build();
        let both = timeout(CALL_WITHIN, async {
            Ok::<_, zbus::Error>((
                MessageStream::for_match_rule(names?, watch, None).await?,
                MessageStream::for_match_rule(removals?, watch, None).await?,
            ))
        });
        match both.await {
            Ok(Ok(both)) => Ok(both),
            Ok(Err(_)) | Err(_) => Err(LinkError::BusDead),
        }
    }
}

impl Transport for Ble {
    async fn connect(&mut self) -> Result<(), LinkError> {
        // A link that was lost is not closed first: if it is still up after all, the stop gets through sooner.
        self.link = None;
        // The library's own connection would keep every call waiting.
        if self.seeker.bus_dead {
            return Err(LinkError::BusDead);
        }
        self.seeker.clean_up().await?;
        match self.seeker.establish().await {
            Ok(live) => {
                self.seeker.unclean = None;
                self.link = Some(live);
                Ok(())
            }
            Err(error) => {
                // Best effort here; the next attempt insists.
                if let Err(unclean) = self.seeker.clean_up().await {
                    tracing::debug!(%unclean, "connection given up is not down yet");
                }
                Err(error)
            }
        }
    }

    async fn send(&mut self, packet: &Packet) -> Result<Sent, LinkError> {
        let Some(live) = &mut self.link else {
            return Err(self.not_connected());
        };
        let written = live.write(packet).await;
        if matches!(
            written,
            Err(LinkError::Gone { .. } | LinkError::NotConnected { .. } | LinkError::BusDead)
        ) {
            self.seeker.bus_dead |= matches!(written, Err(LinkError::BusDead));
            self.link = None;
        }
        written
    }

    async fn receive(&mut self) -> Result<Received, LinkError> {
        let Some(live) = &mut self.link else {
            return Err(self.not_connected());
        };
        let received = live.next().await;
        if let Err(error) = &received {
            self.seeker.bus_dead |= matches!(error, LinkError::BusDead);
            self.link = None;
        }
        received
    }

    async fn disconnect(&mut self) {
        if let Some(live) = self.link.take() {
            self.seeker.unclean = Some(live.peripheral);
        }
        if let Err(error) = self.seeker.clean_up().await {
            tracing::debug!(%error, "not disconnected");
        }
    }
}

/// What a device offers, checked against what it must.
struct Offered {
    writable: Vec<Characteristic>,
    status: Option<Characteristic>,
    gate: Vec<Characteristic>,
    information: Vec<Characteristic>,
}

impl Offered {
    fn of(peripheral: &Peripheral, needs: &GattNeeds) -> Result<Self, String> {
        let all: Vec<Characteristic> =
            peripheral.services().into_iter().flat_map(|service| service.characteristics).collect();
        let here = |c: &&Characteristic| needs.service.is_none_or(|s| c.service_uuid.as_u128() == s);
        let find = |uuid: u128| {
            let found = all.iter().filter(here).find(|c| c.uuid.as_u128() == uuid).cloned();
            found.ok_or_else(|| format!("it has no characteristic {}", Uuid::from_u128(uuid)))
        };
        let command = find(needs.command)?;
        if !needs.needs.iter().any(|kind| command.properties.contains(flag(*kind))) {
            return Err(format!("its characteristic {} cannot be written as needed", command.uuid));
        }
        let status = needs.status.map(&find).transpose()?;
        if let Some(status) = &status
            && !status.properties.contains(CharPropFlags::NOTIFY)
        {
            return Err(format!("its characteristic {} does not notify", status.uuid));
        }
        let mut gate = Vec::new();
        for uuid in &needs.reads {
            let readable = all.iter().find(|c| c.uuid.as_u128() == *uuid && can_read(c)).cloned();
            gate.push(readable.ok_or_else(|| format!("it has no readable {}", Uuid::from_u128(*uuid)))?);
        }
        let informs = |c: &&Characteristic| {
            let uuid = c.uuid.as_u128();
            can_read(c) && (uuid == BATTERY || INFORMATION.contains(&uuid))
        };
        let information = all.iter().filter(informs).cloned().collect();
        let writes = CharPropFlags::WRITE | CharPropFlags::WRITE_WITHOUT_RESPONSE;
        let writable = all.iter().filter(here).filter(|c| c.properties.intersects(writes)).cloned().collect();
        Ok(Self { writable, status, gate, information })
    }
}

fn can_read(characteristic: &Characteristic) -> bool {
    characteristic.properties.contains(CharPropFlags::READ)
}

const fn flag(kind: WriteKind) -> CharPropFlags {
    match kind {
        WriteKind::WithResponse => CharPropFlags::WRITE,
        WriteKind::WithoutResponse => CharPropFlags::WRITE_WITHOUT_RESPONSE,
    }
}

impl Live {
    async fn write(&mut self, packet: &Packet) -> Result<Sent, LinkError> {
        let Endpoint::Characteristic(uuid) = packet.endpoint() else {
            return Err(self.unexpected("it has no serial stream".to_owned()));
        };
        let Some(target) = self.writable.iter().find(|c| c.uuid.as_u128() == uuid).cloned() else {
            return Err(self.unexpected(format!("{} cannot be written", Uuid::from_u128(uuid))));
        };
        if packet.bytes().len() > FRAME_MAX {
            let reason = format!("a frame of {} bytes is longer than {FRAME_MAX}", packet.bytes().len());
            return Err(LinkError::Refused { endpoint: self.address.clone(), reason });
        }
        let offers = |kind| target.properties.contains(flag(kind));
        let way = match (offers(WriteKind::WithResponse), offers(WriteKind::WithoutResponse)) {
            (true, true) => self.ways.choose(packet),
            (_, false) => WriteKind::WithResponse,
            (false, true) => WriteKind::WithoutResponse,
        };
        let (kind, sent) = match way {
            WriteKind::WithResponse => (WriteType::WithResponse, Sent::Acknowledged),
            WriteKind::WithoutResponse => (WriteType::WithoutResponse, Sent::Handed),
        };
        let within = if packet.purpose() == Purpose::Query { QUERY_WITHIN } else { WRITE_WITHIN };
        let peripheral = self.peripheral.clone();
        let address = self.address.clone();
        let mut write =
            std::pin::pin!(bounded(&address, within, peripheral.write(&target, packet.bytes(), kind)));
        loop {
            // What arrives meanwhile is taken off the library's unbounded queue.
            tokio::select! {
                biased;
                written = &mut write => return written.map(|()| sent),
                Some(value) = self.notifications.next() => self.keep(value),
            }
        }
    }

    /// Waits for a value or for the loss of the link. Cancel-safe: all that is under way lives in `self`.
    async fn next(&mut self) -> Result<Received, LinkError> {
        loop {
            while let Some(Some(value)) = self.notifications.next().now_or_never() {
                self.keep(value);
            }
            if let Some(received) = self.kept.pop_front() {
                return Ok(received);
            }
            tokio::select! {
                biased;
                name = self.names.next() => self.name_changed(name)?,
                removal = self.removals.next() => self.object_removed(removal)?,
                event = self.events.next() => self.event(event.as_ref())?,
                Some(value) = self.notifications.next() => self.keep(value),
                seen = under_way(&mut self.background) => {
                    self.background = None;
                    self.seen(seen)?;
                }
                _ = self.look.tick() => self.start_look(),
            }
        }
    }

    fn keep(&mut self, value: ValueNotification) {
        // A value that was read appears here too; it is delivered where it was read.
        if self.status != Some(value.uuid) {
            return;
        }
        if self.kept.len() >= KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(received(value.uuid, value.value));
    }

    fn name_changed(&self, message: Option<zbus::Result<zbus::Message>>) -> Result<(), LinkError> {
        let Some(Ok(message)) = message else {
            return Err(LinkError::BusDead);
        };
        tracing::warn!(device = self.address, "the Bluetooth daemon's name changed hands");
        drop(message);
        Err(self.gone())
    }

    fn object_removed(&self, message: Option<zbus::Result<zbus::Message>>) -> Result<(), LinkError> {
        let Some(Ok(message)) = message else {
            return Err(LinkError::BusDead);
        };
        let body = message.body();
        let Ok((path, interfaces)) = body.deserialize::<(zbus::ObjectPath<'_>, Vec<&str>)>() else {
            return Ok(());
        };
        let path = path.as_str();
        let device = path == self.object && interfaces.contains(&"org.bluez.Device1");
        let below = path.strip_prefix(&self.object).is_some_and(|rest| rest.starts_with('/'));
        let value = below && interfaces.contains(&"org.bluez.GattCharacteristic1");
        if device || value { Err(self.gone()) } else { Ok(()) }
    }

    fn event(&self, event: Option<&CentralEvent>) -> Result<(), LinkError> {
        match event {
            Some(CentralEvent::DeviceDisconnected(id)) if *id == self.id => Err(self.gone()),
            Some(CentralEvent::StateUpdate(CentralState::PoweredOff)) => Err(self.gone()),
            Some(_) => Ok(()),
            None => Err(LinkError::BusDead),
        }
    }

    fn start_look(&mut self) {
        if self.background.is_some() {
            return;
        }
        self.looks = self.looks.saturating_add(1);
        if self.looks.is_multiple_of(LOOKS_PER_BATTERY) {
            self.to_read.extend(self.battery.clone());
        }
        let (peripheral, address) = (self.peripheral.clone(), self.address.clone());
        self.background = Some(Box::pin(async move {
            Seen::Link(bounded(&address, CALL_WITHIN, peripheral.is_connected()).await)
        }));
    }

    /// Takes note of a background call; after each good look, one value that nobody waits for is read.
    fn seen(&mut self, seen: Seen) -> Result<(), LinkError> {
        match seen {
            Seen::Link(Ok(true)) => {
                if let Some(next) = self.to_read.pop_front() {
                    let (peripheral, address) = (self.peripheral.clone(), self.address.clone());
                    self.background = Some(Box::pin(async move {
                        let read = bounded(&address, CALL_WITHIN, peripheral.read(&next)).await;
                        Seen::Value(read.ok().map(|bytes| received(next.uuid, bytes)))
                    }));
                }
                Ok(())
            }
            Seen::Link(Ok(false)) => Err(LinkError::NotConnected { endpoint: self.address.clone() }),
            Seen::Link(Err(error)) => Err(error),
            Seen::Value(Some(value)) => {
                self.kept.push_back(value);
                Ok(())
            }
            // A peer that does not answer a reading is not asked again.
            Seen::Value(None) => {
                self.to_read.clear();
                self.battery = None;
                Ok(())
            }
        }
    }

    fn gone(&self) -> LinkError {
        LinkError::Gone { endpoint: self.address.clone() }
    }

    fn unexpected(&self, reason: String) -> LinkError {
        LinkError::Unexpected { endpoint: self.address.clone(), reason }
    }
}

fn received(uuid: Uuid, bytes: Vec<u8>) -> Received {
    Received { endpoint: Endpoint::Characteristic(uuid.as_u128()), bytes }
}

async fn under_way(background: &mut Option<Background>) -> Seen {
    match background {
        Some(call) => call.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn bounded<T>(
    address: &str,
    within: Duration,
    call: impl Future<Output = Result<T, btleplug::Error>>,
) -> Result<T, LinkError> {
    match timeout(within, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(explain(address, &error)),
        Err(_) => Err(late(address, within)),
    }
}

fn late(address: &str, within: Duration) -> LinkError {
    let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    LinkError::Timeout { endpoint: address.to_owned(), within_ms }
}

/// Says what an error of the library means: the one place that knows D-Bus error names.
///
/// The library boxes them and prints only their text; the names appear in the debug form.
fn explain(address: &str, error: &btleplug::Error) -> LinkError {
    /// The library's own limit for one call.
    const LIBRARY_WITHIN: Duration = Duration::from_secs(30);
    let endpoint = address.to_owned();
    let debug = format!("{error:?}");
    let named = |names: &[&str]| names.iter().any(|name| debug.contains(name));
    let refused =
        |reason: &str| LinkError::Refused { endpoint: address.to_owned(), reason: reason.to_owned() };
    if named(&["org.bluez.Error.InProgress"]) {
        return LinkError::Busy { endpoint };
    }
    if named(&["DBus.Error.Disconnected", "DBus.Error.NoServer", "DBus.Error.FileNotFound"]) {
        return LinkError::BusDead;
    }
    if named(&["DBus.Error.ServiceUnknown", "DBus.Error.NameHasNoOwner"]) {
        return refused("the Bluetooth daemon (bluetoothd) is not running");
    }
    if named(&["DBus.Error.AccessDenied"]) {
        return refused("no permission; this user may need to be in the group `bluetooth` or `lp`");
    }
    if named(&["org.bluez.Error.NotReady"]) {
        return refused("the Bluetooth adapter is switched off");
    }
    if named(&["DBus.Error.UnknownObject", "DBus.Error.UnknownMethod", "DeviceNotFound"]) {
        return LinkError::Gone { endpoint };
    }
    if named(&["org.bluez.Error.NotConnected", "Not connected", "Not Connected"])
        || matches!(error, btleplug::Error::NotConnected)
    {
        return LinkError::NotConnected { endpoint };
    }
    if named(&["DBus.Error.NoReply", "DBus.Error.Timeout", "ServiceDiscoveryTimedOut"]) {
        return late(address, LIBRARY_WITHIN);
    }
    if named(&["FlagParseError", "RequiredPropertyMissing"]) {
        return LinkError::Unexpected { endpoint, reason: error.to_string() };
    }
    refused(&error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assigned_uuids_are_written_out() {
        assert_eq!(Uuid::from_u128(standard(0x2a19)).to_string(), "00002a19-0000-1000-8000-00805f9b34fb");
    }

    #[test]
    fn error_names_are_explained() {
        for (name, expected) in [
            ("org.bluez.Error.InProgress", "gun is busy with an earlier write"),
            ("org.bluez.Error.NotReady", "gun refused: the Bluetooth adapter is switched off"),
            ("org.bluez.Error.NotConnected", "gun is not connected"),
            ("Not connected (org.bluez.Error.Failed)", "gun is not connected"),
            ("org.freedesktop.DBus.Error.UnknownObject", "gun is not there"),
            (
                "org.freedesktop.DBus.Error.ServiceUnknown",
                "gun refused: the Bluetooth daemon (bluetoothd) is not running",
            ),
            (
                "org.freedesktop.DBus.Error.AccessDenied",
                "gun refused: no permission; this user may need to be in the group `bluetooth` or `lp`",
            ),
            ("org.freedesktop.DBus.Error.NoReply", "gun did not answer within 30000 ms"),
            ("org.freedesktop.DBus.Error.Disconnected", "the system bus is gone"),
            ("le-connection-abort-by-local", "gun refused: le-connection-abort-by-local"),
        ] {
            assert_eq!(explain("gun", &btleplug::Error::Other(name.into())).to_string(), expected);
        }
        assert!(matches!(explain("gun", &btleplug::Error::DeviceNotFound), LinkError::Gone { .. }));
        assert!(matches!(explain("gun", &btleplug::Error::NotConnected), LinkError::NotConnected { .. }));
    }
}
