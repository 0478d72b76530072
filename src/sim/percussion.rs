//! A simulated percussion gun: it speaks its profile's frames and has a motor, a battery and a button.
//!
//! Everything that the references call unknown is a switch in [`GunBehaviour`]. The truth it keeps is exact: speed moves
//! in straight lines, so its integral is computed in whole µraw × µs. A motor at speed is at zero 160 ms after an
//! accepted stop at the latest.
//!
//! ```text
//!          set n, button              stop frame accepted, button, auto-off, link loss, flat
//!   still ---------------> spinning ------------------------------------------------> spinning down -> still
//!     wedged: obeys and answers nothing, keeps its speed; the button on the housing still works
//! ```

use std::time::Duration;

use super::world::{Setting, SettingError};
use super::{Delivered, Seeded, SimDevice, SimEvent, SimInput, SimOutput};
use crate::model::packet::Endpoint;
use crate::model::profile::frame::{ReplyRule, from_dotted};
use crate::model::profile::matching::{Advertisement, ByteSet};
use crate::model::profile::{BatteryRole, Flag, LinkLoss, Profile, Variant, gatt};
use crate::units::{Mono, duration_micros};

/// Time from standstill to the top speed and back, ms: least and range of the seed.
const SPIN_UP_MS: (u64, u64) = (400, 400);
const SPIN_DOWN_MS: (u64, u64) = (110, 50);
/// µraw in one raw.
const MICRO: u64 = 1_000_000;

/// How one simulated gun differs from the others. Every unknown of the reference is a switch here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GunBehaviour {
    /// Title or name of its variant; `None`: the first one.
    pub variant: Option<String>,
    /// Name in its advertisement; `None`: the variant's.
    pub name: Option<String>,
    /// Stop commands it obeys, by name.
    pub stop_accepts: Vec<String>,
    /// What it does when the link is lost; unknown counts as running on.
    pub on_link_loss: LinkLoss,
    /// How long after the loss.
    pub link_loss_after: Duration,
    /// Stops by itself after running this long without a command.
    pub auto_off: Option<Duration>,
    /// Sends a status unasked when it changes at the device.
    pub spontaneous_status: bool,
    /// The running flag follows the motor; else the setpoint.
    pub status_follows_motor: bool,
    /// From request to reply.
    pub reply_delay: Duration,
    /// Replies lost, of a thousand.
    pub reply_loss_permille: u16,
    /// What bytes of unknown meaning hold.
    pub unknown_bytes: Filler,
    /// Length of a status, 15–20; never shorter than its fields need.
    pub frame_len: usize,
    /// Charge at the start, percent.
    pub battery_percent: u8,
    /// Offers the standard battery service.
    pub battery_service: bool,
    /// Offers device information.
    pub information_service: bool,
    /// Firmware, for example "2.1.6".
    pub firmware: String,
    /// Serial number.
    pub serial: String,
    /// Value of the gate characteristic.
    pub gate_value: Vec<u8>,
    /// What a one-byte notification means.
    pub notification_means: NotificationMeans,
    /// The load on the head takes this much of the speed, percent.
    pub load_droop_percent: u8,
}

/// What bytes of unknown meaning hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filler {
    /// Zero.
    Zero,
    /// 0xFF.
    Ones,
    /// Something else each time.
    Random,
}

/// What the one byte of a level gun's notification means: the sources cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationMeans {
    /// The level.
    Level,
    /// The pressure on the head, here none.
    Pressure,
}

/// One characteristic as a Bluetooth stack shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimCharacteristic {
    /// Enclosing service.
    pub service: u128,
    /// Itself.
    pub uuid: u128,
    /// What it allows.
    pub flags: Vec<Flag>,
}

impl GunBehaviour {
    /// Returns the behaviour that the reference gives for the family: stops on every stop frame, runs on without a link.
    pub fn of(profile: &Profile) -> Self {
        let stop_accepts = profile.safety.stop.iter().map(|frame| frame.name.clone()).collect();
        Self { stop_accepts, ..Self::plain() }
    }

    /// Changes what one key of a world file names: the fields of this type, `battery` for the charge, and
    /// `link_loss_after`, `auto_off` and `reply_delay` as spans.
    ///
    /// # Errors
    /// The key or its value is not one of a gun's.
    pub fn set(&mut self, key: &str, value: &Setting) -> Result<(), SettingError> {
        let percent = |value: &Setting| {
            let fits = value.number::<u8>().ok().filter(|percent| *percent <= 100);
            fits.ok_or(SettingError::Expected("a charge of 0 to 100 percent"))
        };
        match key {
            "variant" => self.variant = Some(value.text()?.to_owned()),
            "stop_accepts" => self.stop_accepts = value.names()?.to_vec(),
            "on_link_loss" => self.on_link_loss = link_loss(value.text()?)?,
            "link_loss_after" => self.link_loss_after = value.span()?,
            "auto_off" => self.auto_off = Some(value.span()?),
            "spontaneous_status" => self.spontaneous_status = value.flag()?,
            "status_follows_motor" => self.status_follows_motor = value.flag()?,
            "reply_delay" => self.reply_delay = value.span()?,
            "reply_loss_permille" => self.reply_loss_permille = value.number()?,
            "unknown_bytes" => self.unknown_bytes = filler(value.text()?)?,
            "frame_len" => self.frame_len = value.number::<u8>()?.into(),
            "battery" => self.battery_percent = percent(value)?,
            "battery_service" => self.battery_service = value.flag()?,
            "information_service" => self.information_service = value.flag()?,
            "firmware" => value.text()?.clone_into(&mut self.firmware),
            "serial" => value.text()?.clone_into(&mut self.serial),
            "notification_means" => self.notification_means = meaning(value.text()?)?,
            "load_droop_percent" => self.load_droop_percent = percent(value)?,
            _ => return Err(SettingError::Unknown),
        }
        Ok(())
    }

    /// Returns the behaviour of a gun that obeys no stop frame, for want of a profile that names any.
    pub fn plain() -> Self {
        Self {
            variant: None,
            name: None,
            stop_accepts: Vec::new(),
            on_link_loss: LinkLoss::Continues,
            link_loss_after: Duration::from_millis(500),
            auto_off: None,
            spontaneous_status: false,
            status_follows_motor: false,
            reply_delay: Duration::from_millis(40),
            reply_loss_permille: 0,
            unknown_bytes: Filler::Zero,
            frame_len: 16,
            battery_percent: 100,
            battery_service: true,
            information_service: true,
            firmware: "2.1.6".to_owned(),
            serial: "SIM0001".to_owned(),
            gate_value: vec![0; 4],
            notification_means: NotificationMeans::Level,
            load_droop_percent: 0,
        }
    }
}

fn link_loss(word: &str) -> Result<LinkLoss, SettingError> {
    match word {
        "continues" => Ok(LinkLoss::Continues),
        "stops" => Ok(LinkLoss::Stops),
        "powers_off" => Ok(LinkLoss::PowersOff),
        _ => Err(SettingError::Expected("continues, stops or powers_off")),
    }
}

fn filler(word: &str) -> Result<Filler, SettingError> {
    match word {
        "zero" => Ok(Filler::Zero),
        "ff" => Ok(Filler::Ones),
        "random" => Ok(Filler::Random),
        _ => Err(SettingError::Expected("zero, ff or random")),
    }
}

fn meaning(word: &str) -> Result<NotificationMeans, SettingError> {
    match word {
        "level" => Ok(NotificationMeans::Level),
        "pressure" => Ok(NotificationMeans::Pressure),
        _ => Err(SettingError::Expected("level or pressure")),
    }
}

/// A simulated gun.
#[derive(Debug)]
pub struct Gun {
    profile: Profile,
    variant: Option<Variant>,
    behaviour: GunBehaviour,
    random: Seeded,
    now: Mono,
    connected: bool,
    off: bool,
    wedged: bool,
    target: u16,
    micro_speed: u64,
    up_per_us: u64,
    down_per_us: u64,
    commanded_at: Mono,
    link_stop_at: Option<Mono>,
    charge_left_us: u64,
    charge_full_us: u64,
    reply_delay: Duration,
    faults: Faults,
    /// How hard it is pressed; reported where the profile has a field for it.
    force: u32,
    on_us: u64,
    /// Twice the integral of µraw over µs.
    double_integral: u128,
    highest: u64,
}

/// How many of the next messages go wrong.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    drop_replies: u8,
    corrupt_replies: u8,
    duplicate_replies: u8,
    drop_requests: u8,
}

impl Faults {
    const fn take(count: &mut u8) -> bool {
        let hit = *count > 0;
        *count = count.saturating_sub(1);
        hit
    }
}

impl Gun {
    /// Makes a gun that is switched on and still. Motor and filler come from `seed`.
    pub fn new(profile: &Profile, seed: u64, behaviour: GunBehaviour) -> Self {
        let mut random = Seeded::new(seed);
        let variant = match &behaviour.variant {
            Some(name) => profile.variant(name),
            None => profile.variants.first(),
        };
        let top = u64::from(profile.speed_of(variant).top);
        let mut rate = |(least, range): (u64, u64)| {
            let ms = least.saturating_add(random.below(range));
            // µraw per µs is raw per second; at least 1, so that it always arrives.
            (top.saturating_mul(1000) / ms.max(1)).max(1)
        };
        let (up_per_us, down_per_us) = (rate(SPIN_UP_MS), rate(SPIN_DOWN_MS));
        let charge_full_us = duration_micros(profile.battery_life(variant));
        let charge_left_us = charge_full_us / 100 * u64::from(behaviour.battery_percent.min(100));
        Self {
            variant: variant.cloned(),
            profile: profile.clone(),
            reply_delay: behaviour.reply_delay,
            behaviour,
            random,
            now: Mono::ORIGIN,
            connected: false,
            off: false,
            wedged: false,
            target: 0,
            micro_speed: 0,
            up_per_us,
            down_per_us,
            commanded_at: Mono::ORIGIN,
            link_stop_at: None,
            charge_left_us,
            charge_full_us,
            faults: Faults::default(),
            force: 0,
            on_us: 0,
            double_integral: 0,
            highest: 0,
        }
    }

    /// Returns what it advertises; `None` while it is switched off or connected.
    pub fn advertisement(&self) -> Option<Advertisement> {
        if self.off || self.connected {
            return None;
        }
        let mut advertisement =
            Advertisement { name: Some(self.advertised_name()), ..Advertisement::default() };
        for rule in self.variant.iter().flat_map(|variant| &variant.traits.manufacturer) {
            if let ByteSet::In(values) = &rule.values {
                let mut data = vec![0; rule.at];
                data.extend(values.first());
                data.resize(8.max(data.len()), 0);
                advertisement.manufacturer.insert(rule.company, data);
            }
        }
        Some(advertisement)
    }

    /// Returns its name in advertisements.
    pub fn advertised_name(&self) -> String {
        let first = self.variant.as_ref().and_then(|variant| variant.traits.names.first());
        let lower = self.behaviour.name.clone().or_else(|| first.cloned()).unwrap_or_default();
        if self.behaviour.name.is_some() {
            return lower;
        }
        let mut letters = lower.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
    }

    /// Returns its characteristics.
    pub fn gatt(&self) -> Vec<SimCharacteristic> {
        let mut found: Vec<SimCharacteristic> = Vec::new();
        let mut add = |service: Option<u128>, uuid: u128, flags: &[Flag]| {
            // A service that is not published gets the family's base with a zero last byte of its first group.
            let service = service.unwrap_or(uuid & !(0xFF_u128 << 96));
            match found.iter_mut().find(|known| known.uuid == uuid) {
                Some(known) => known.flags.extend(flags),
                None => found.push(SimCharacteristic { service, uuid, flags: flags.to_vec() }),
            }
        };
        let command = &self.profile.gatt.command;
        add(command.service, command.uuid, &command.needs);
        if let Some(status) = &self.profile.gatt.status {
            add(status.service, status.uuid, &status.needs);
        }
        if let Some(gate) = self.profile.gate {
            add(None, gate.uuid, &[Flag::Read, Flag::Write]);
        }
        if self.has_battery_service() {
            add(Some(gatt::BATTERY_SERVICE), gatt::BATTERY_LEVEL, &[Flag::Read, Flag::Notify]);
        }
        if self.behaviour.information_service {
            let texts =
                [gatt::MANUFACTURER, gatt::MODEL_NUMBER, gatt::SERIAL_NUMBER, gatt::FIRMWARE_REVISION];
            for text in texts {
                add(Some(gatt::DEVICE_INFORMATION), text, &[Flag::Read]);
            }
        }
        found
    }

    /// Returns the value of a characteristic that can be read.
    pub fn read(&self, characteristic: u128) -> Option<Vec<u8>> {
        if self.profile.gate.is_some_and(|gate| gate.uuid == characteristic) {
            return Some(self.behaviour.gate_value.clone());
        }
        if characteristic == gatt::BATTERY_LEVEL {
            return self.has_battery_service().then(|| vec![self.battery_percent()]);
        }
        if !self.behaviour.information_service {
            return None;
        }
        let text = match characteristic {
            gatt::MANUFACTURER => "Simulated",
            gatt::MODEL_NUMBER => {
                self.variant.as_ref().map_or(self.profile.title.as_str(), |v| v.title.as_str())
            }
            gatt::SERIAL_NUMBER => self.behaviour.serial.as_str(),
            gatt::FIRMWARE_REVISION => self.behaviour.firmware.as_str(),
            _ => return None,
        };
        Some(text.as_bytes().to_vec())
    }

    /// Returns its charge, percent.
    pub fn battery_percent(&self) -> u8 {
        let percent = u128::from(self.charge_left_us)
            .saturating_mul(100)
            .div_ceil(u128::from(self.charge_full_us.max(1)));
        u8::try_from(percent).unwrap_or(100).min(100)
    }

    /// Returns its speed now, rounded up: 0 only when it stands still.
    pub fn speed(&self) -> u16 {
        u16::try_from(self.micro_speed.div_ceil(MICRO)).unwrap_or(u16::MAX)
    }

    fn has_battery_service(&self) -> bool {
        self.behaviour.battery_service && self.profile.gatt.battery == BatteryRole::Standard
    }

    /// Moves the motor to `now`, stopping at each moment where something happens by itself.
    fn run_to(&mut self, now: Mono, out: &mut Vec<SimOutput>) {
        while let Some(at) = self.next_event().filter(|at| *at <= now) {
            self.integrate(at);
            let changed = self.target > 0;
            if self.link_stop_at.is_some_and(|stop| stop <= at) {
                self.link_stop_at = None;
                self.off = self.behaviour.on_link_loss == LinkLoss::PowersOff;
            }
            self.target = 0;
            self.off |= self.charge_left_us == 0;
            if changed {
                self.changed_at_device(out);
            }
        }
        self.integrate(now);
    }

    /// Returns when it next stops by itself.
    fn next_event(&self) -> Option<Mono> {
        let running = self.target > 0;
        let auto =
            self.behaviour.auto_off.filter(|_| running).map(|after| self.commanded_at.saturating_add(after));
        let flat = running.then(|| self.now.saturating_add(Duration::from_micros(self.charge_left_us)));
        [auto, flat, self.link_stop_at].into_iter().flatten().min()
    }

    /// Returns when the motor next begins to turn or stands still.
    fn next_change(&self) -> Option<Mono> {
        let after = match (self.goal(), self.micro_speed) {
            (0, speed) if speed > 0 => speed.div_ceil(self.down_per_us),
            (goal, 0) if goal > 0 => 1,
            (_, _) => return None,
        };
        Some(self.now.saturating_add(Duration::from_micros(after)))
    }

    /// Returns the speed that it goes to, µraw: the load takes its part.
    fn goal(&self) -> u64 {
        let droop = u64::from(100u8.saturating_sub(self.behaviour.load_droop_percent));
        u64::from(self.target).saturating_mul(MICRO) / 100 * droop
    }

    fn integrate(&mut self, until: Mono) {
        let mut left = duration_micros(until.since(self.now));
        let goal = self.goal();
        while left > 0 {
            let speed = self.micro_speed;
            let rate = if goal > speed { self.up_per_us } else { self.down_per_us };
            let gap = goal.abs_diff(speed);
            // Straight to within 1 µs of the goal, then the rest, then level: the same however often one looks.
            let span = if gap == 0 { left } else { left.min((gap / rate).max(1)) };
            let change = rate.saturating_mul(span).min(gap);
            let next = if goal > speed { speed.saturating_add(change) } else { speed.saturating_sub(change) };
            let double = u128::from(speed.saturating_add(next)).saturating_mul(u128::from(span));
            self.double_integral = self.double_integral.saturating_add(double);
            if speed > 0 || next > 0 {
                self.on_us = self.on_us.saturating_add(span);
                self.charge_left_us = self.charge_left_us.saturating_sub(span);
            }
            self.micro_speed = next;
            self.highest = self.highest.max(next);
            left = left.saturating_sub(span);
        }
        self.now = self.now.max(until);
    }

    fn write(&mut self, endpoint: Endpoint, bytes: &[u8], out: &mut Vec<SimOutput>) {
        if !self.connected || self.off || self.wedged || Faults::take(&mut self.faults.drop_requests) {
            return;
        }
        if endpoint != Endpoint::Characteristic(self.profile.gatt.command.uuid) {
            return;
        }
        if let Some(stop) = self.profile.safety.stop.iter().find(|stop| stop.bytes == bytes) {
            if self.behaviour.stop_accepts.contains(&stop.name) {
                self.set(0, out);
            }
            return;
        }
        let read =
            self.profile.commands.iter().find_map(|(name, rule)| Some((name, rule.template.read(bytes)?)));
        let Some((name, values)) = read else {
            return;
        };
        if *name == self.profile.motor.command {
            let number = values.get(&self.profile.motor.parameter).copied().unwrap_or(0);
            let top = self.profile.speed_of(self.variant.as_ref()).top;
            self.set(u16::try_from(number).unwrap_or(u16::MAX).min(top), out);
            return;
        }
        let reply = name.strip_prefix("get_").and_then(|asked| self.profile.reply_rule(asked)).cloned();
        if let Some(rule) = reply {
            self.reply(&rule, out);
        }
    }

    /// Obeys the host.
    fn set(&mut self, number: u16, out: &mut Vec<SimOutput>) {
        if self.charge_left_us == 0 {
            return;
        }
        self.target = number;
        self.commanded_at = self.now;
        if self.profile.poll.is_none() {
            self.changed_at_device(out);
        }
    }

    /// Tells the host of a change unasked, where it does so.
    fn changed_at_device(&mut self, out: &mut Vec<SimOutput>) {
        let tells = self.behaviour.spontaneous_status || self.profile.poll.is_none();
        if !self.connected || self.wedged || !tells {
            return;
        }
        let rule = match &self.profile.poll {
            Some(poll) => self.profile.reply_rule(&poll.reply),
            None => self.profile.replies.first(),
        };
        if let Some(rule) = rule.cloned() {
            self.reply(&rule, out);
        }
    }

    fn reply(&mut self, rule: &ReplyRule, out: &mut Vec<SimOutput>) {
        let Some(status) = &self.profile.gatt.status else {
            return;
        };
        let endpoint = Endpoint::Characteristic(status.uuid);
        if Faults::take(&mut self.faults.drop_replies)
            || self.random.below(1000) < u64::from(self.behaviour.reply_loss_permille)
        {
            return;
        }
        let mut bytes = self.frame(rule);
        if Faults::take(&mut self.faults.corrupt_replies) {
            let at = usize::try_from(self.random.below(u64::try_from(bytes.len()).unwrap_or(1))).unwrap_or(0);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << self.random.below(8);
            }
        }
        let times = if Faults::take(&mut self.faults.duplicate_replies) { 2 } else { 1 };
        for _ in 0..times {
            out.push(SimOutput::Send { endpoint, bytes: bytes.clone(), delay: self.reply_delay });
        }
    }

    fn frame(&mut self, rule: &ReplyRule) -> Vec<u8> {
        let polled = self.profile.poll.as_ref().is_some_and(|poll| poll.reply == rule.name);
        let len = if polled { self.behaviour.frame_len.clamp(rule.len_min, 20) } else { rule.len_min };
        let mut bytes: Vec<u8> = Vec::with_capacity(len);
        for _ in 0..len {
            bytes.push(match self.behaviour.unknown_bytes {
                Filler::Zero => 0,
                Filler::Ones => 0xFF,
                Filler::Random => u8::try_from(self.random.below(256)).unwrap_or(0),
            });
        }
        let mut put = |at: usize, value: &[u8]| {
            for (slot, byte) in bytes.iter_mut().skip(at).zip(value) {
                *slot = *byte;
            }
        };
        for (at, value) in &rule.when {
            put(*at, &[*value]);
        }
        if let Some(at) = rule.length_at {
            let following = len.saturating_sub(at.saturating_add(1));
            put(at, &[u8::try_from(following).unwrap_or(u8::MAX)]);
        }
        for (name, field) in &rule.fields {
            use crate::model::profile::frame::FieldKind;
            let value = self.field(name);
            match field.kind {
                FieldKind::Nonzero => put(field.at, &[u8::from(value != 0)]),
                FieldKind::Number(kind) => put(field.at, &kind.render(value).unwrap_or_default()),
            }
        }
        if let Some((checksum, at)) = rule.checksum {
            let value = checksum.of(&bytes, at..at.saturating_add(checksum.algorithm.width()));
            for (slot, byte) in bytes.iter_mut().skip(at).zip(value) {
                *slot = byte;
            }
        }
        bytes
    }

    fn field(&self, name: &str) -> u32 {
        match name {
            "running" if self.behaviour.status_follows_motor => {
                u32::from(self.micro_speed > 0 || self.target > 0)
            }
            "running" => u32::from(self.target > 0),
            "speed" | "level" => u32::from(self.speed()),
            "value" => match self.behaviour.notification_means {
                NotificationMeans::Level => u32::from(self.target),
                NotificationMeans::Pressure => 0,
            },
            "battery" => u32::from(self.battery_percent()),
            "force" => self.force,
            "firmware" => from_dotted(&self.behaviour.firmware).unwrap_or(0),
            _ => 0,
        }
    }

    fn event(&mut self, event: SimEvent, out: &mut Vec<SimOutput>) {
        match event {
            // A gun has no pads.
            SimEvent::LeadOff(..) => {}
            SimEvent::Wedged(wedged) => self.wedged = wedged,
            SimEvent::Reboot => {
                self.target = 0;
                self.micro_speed = 0;
                self.wedged = false;
                self.off = self.charge_left_us == 0;
                self.link_stop_at = None;
            }
            SimEvent::ButtonStart => {
                let lowest = self.profile.speed_of(self.variant.as_ref()).floor;
                self.press(lowest, out);
            }
            SimEvent::ButtonStop => self.press(0, out),
            SimEvent::ButtonSpeed(number) if self.target > 0 => self.press(number, out),
            SimEvent::ButtonSpeed(_) => {}
            SimEvent::DropReplies(count) => self.faults.drop_replies = count,
            SimEvent::DelayReplies(delay) => self.reply_delay = delay,
            SimEvent::CorruptReplies(count) => self.faults.corrupt_replies = count,
            SimEvent::DuplicateReplies(count) => self.faults.duplicate_replies = count,
            SimEvent::DropRequests(count) => self.faults.drop_requests = count,
            SimEvent::Force(force) => self.force = force,
            SimEvent::Battery(percent) => {
                self.charge_left_us = self.charge_full_us / 100 * u64::from(percent.min(100));
            }
        }
    }

    fn press(&mut self, number: u16, out: &mut Vec<SimOutput>) {
        if self.charge_left_us == 0 {
            return;
        }
        self.off = false;
        self.target = number.min(self.profile.speed_of(self.variant.as_ref()).top);
        self.commanded_at = self.now;
        self.changed_at_device(out);
    }
}

impl SimDevice for Gun {
    fn advance(&mut self, now: Mono, input: SimInput<'_>, out: &mut Vec<SimOutput>) {
        self.run_to(now, out);
        match input {
            SimInput::Tick => {}
            SimInput::Connected => {
                self.connected = true;
                self.link_stop_at = None;
            }
            SimInput::Disconnected => {
                self.connected = false;
                if matches!(self.behaviour.on_link_loss, LinkLoss::Stops | LinkLoss::PowersOff) {
                    self.link_stop_at = Some(self.now.saturating_add(self.behaviour.link_loss_after));
                }
            }
            SimInput::Received { endpoint, bytes } => self.write(endpoint, bytes, out),
            SimInput::Event(event) => self.event(event, out),
        }
    }

    fn deadline(&self) -> Option<Mono> {
        [self.next_event(), self.next_change()].into_iter().flatten().min()
    }

    fn truth(&self) -> Vec<Delivered> {
        vec![Delivered {
            channel: 0,
            on_us: self.on_us,
            pulses: 0,
            charge_pc: 0,
            speed_us: u64::try_from(self.double_integral / 2 / u128::from(MICRO)).unwrap_or(u64::MAX),
            present: u32::from(self.speed()),
            highest: u32::try_from(self.highest.div_ceil(MICRO)).unwrap_or(u32::MAX),
        }]
    }
}

#[cfg(test)]
mod tests;
