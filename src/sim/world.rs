//! A simulated world as plain data: which units there are, how good their links are, what happens when.
//!
//! One world and its seed determine a run completely. The same words describe an event in a world file, on the
//! simulators' standard input and in a test:
//!
//! ```text
//! device     lead-off N | lead-on N | wedge | unwedge | reboot | button-start | button-stop | button-speed N | force N
//!            drop-replies N | delay-replies SPAN | corrupt-replies N | duplicate-replies N | drop-requests N
//!            battery PERCENT
//! link       link-loss [objects-removed] | link-back | unplug | plug        (unplug = link-loss, plug = link-back)
//! Bluetooth  connect-error | connect-silent | services-silent | write-error | write-slow SPAN | write-silent
//!            write-drops-link | notify-silent | notify-twice | property-missing | flag-unknown
//!            disconnect-after SPAN | answer-within SPAN | remove-device | remove-gatt | radio-well
//! adapter    adapter-off | adapter-on | adapter-remove | adapter-return
//! daemon     bluetoothd-kill | bluetoothd-stop | bluetoothd-start
//! ```
//!
//! A Bluetooth fault lasts until `radio-well`. `link-loss` keeps the unit's GATT objects, as a Bluetooth daemon with
//! its default cache does; with `objects-removed` they go, as without a cache. `answer-within` is the attribute
//! protocol's time-out, 30 s when never set. An event of the adapter or the daemon meets every Bluetooth unit of the
//! world, whichever it is addressed to. `bluetoothd-kill` leaves the links up for 2.03 s, and a daemon started within
//! that time finds them connected and without objects; `bluetoothd-stop` takes them down in order.
//!
//! What a unit is like is set in its `[unit.behaviour]`; `percussion::GunBehaviour` and `stim::StimulatorBehaviour`
//! have the keys and say what each is when it is not set.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use super::Seeded;
use super::SimEvent;
use super::link::LinkFaults;
use super::percussion::GunBehaviour;
use super::stim::StimulatorBehaviour;
use crate::units::{UnitError, parse_duration};

/// A simulated world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// Every random choice of the run comes from it.
    pub seed: u64,
    /// The units, with labels that differ.
    pub units: Vec<WorldUnit>,
}

/// One simulated unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldUnit {
    /// What people call it.
    pub label: String,
    /// What it is.
    pub kind: UnitKind,
    /// What its link does to messages.
    pub link: LinkFaults,
    /// How it differs from an ordinary unit: keys of its kind's behaviour.
    pub behaviour: BTreeMap<String, Setting>,
    /// What happens to it, from the start of the run; ascending.
    pub events: Vec<(Duration, WorldEvent)>,
}

/// The value of one key of a unit's behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Yes or no.
    Flag(bool),
    /// A number.
    Number(u32),
    /// A word, a name, or a quantity with its unit.
    Text(String),
    /// Names.
    Names(Vec<String>),
}

/// A key that a unit's kind does not have, or a value that does not fit it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is no such key.
    #[error("there is no such behaviour")]
    Unknown,
    /// The value is of another kind.
    #[error("{0} is expected")]
    Expected(&'static str),
    /// The quantity cannot be read.
    #[error(transparent)]
    Quantity(#[from] UnitError),
}

impl Setting {
    /// Says whether a gun can be set so.
    ///
    /// # Errors
    /// The key or the value is not one of a gun's. Whether a stop frame is known only its profile can say.
    pub fn fits_gun(&self, key: &str) -> Result<(), SettingError> {
        GunBehaviour::plain().set(key, self)
    }

    /// Says whether a stimulator can be set so.
    ///
    /// # Errors
    /// The key or the value is not one of a stimulator's.
    pub fn fits_stimulator(&self, key: &str) -> Result<(), SettingError> {
        StimulatorBehaviour::default().set(key, self)
    }

    /// Returns a yes or no.
    ///
    /// # Errors
    /// It is something else.
    pub const fn flag(&self) -> Result<bool, SettingError> {
        match self {
            Self::Flag(flag) => Ok(*flag),
            Self::Number(_) | Self::Text(_) | Self::Names(_) => Err(SettingError::Expected("true or false")),
        }
    }

    /// Returns a number that fits.
    ///
    /// # Errors
    /// It is something else, or too large.
    pub fn number<T: TryFrom<u32>>(&self) -> Result<T, SettingError> {
        match self {
            Self::Number(number) => T::try_from(*number).ok(),
            Self::Flag(_) | Self::Text(_) | Self::Names(_) => None,
        }
        .ok_or(SettingError::Expected("a number in range"))
    }

    /// Returns a text.
    ///
    /// # Errors
    /// It is something else.
    pub fn text(&self) -> Result<&str, SettingError> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Flag(_) | Self::Number(_) | Self::Names(_) => Err(SettingError::Expected("a text")),
        }
    }

    /// Returns a span such as "40 ms".
    ///
    /// # Errors
    /// It is something else, or no span.
    pub fn span(&self) -> Result<Duration, SettingError> {
        Ok(parse_duration(self.text()?)?)
    }

    /// Returns names.
    ///
    /// # Errors
    /// It is something else.
    pub fn names(&self) -> Result<&[String], SettingError> {
        match self {
            Self::Names(names) => Ok(names),
            Self::Flag(_) | Self::Number(_) | Self::Text(_) => Err(SettingError::Expected("a list of names")),
        }
    }
}

/// What a unit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitKind {
    /// A neurostimulator on a serial port.
    Stimulator {
        /// Which one.
        model: StimulatorModel,
        /// Its serial number.
        serial: String,
    },
    /// A percussion gun on Bluetooth.
    Gun {
        /// Identifier of its device profile.
        profile: String,
        /// The name it advertises.
        name: String,
        /// Its Bluetooth address.
        address: [u8; 6],
    },
}

/// The simulated stimulators, by the protocol they speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StimulatorModel {
    /// HASOMED P24, ScienceMode 4.
    P24,
    /// HASOMED RehaMove3, ScienceMode 3.
    RehaMove3,
    /// HASOMED RehaStim2, ScienceMode 2.
    RehaStim2,
    /// A unit of the ScienceMode 1 class.
    ScienceMode1,
}

/// What happens to a unit, its link or its radio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorldEvent {
    /// To the unit itself.
    Device(SimEvent),
    /// The link is lost: out of range, or the cable pulled.
    LinkLoss(Objects),
    /// The link may be made again.
    LinkBack,
    /// To the simulated Bluetooth daemon, about this unit; no effect on a serial unit.
    Radio(RadioEvent),
}

/// What becomes of a unit's GATT objects when its link is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objects {
    /// They stay, as with the daemon's default cache.
    #[default]
    Kept,
    /// They are removed, as without a cache.
    Removed,
}

/// Faults of the simulated Bluetooth daemon and adapter. All but the momentary ones last until `Well`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RadioEvent {
    /// Connecting fails at once.
    ConnectError,
    /// Connecting is never answered.
    ConnectSilent,
    /// The link comes up, the services are never resolved.
    ServicesSilent,
    /// Writes are refused by the peer.
    WriteError,
    /// Writes with response are heard and answered this much later.
    WriteSlow(Duration),
    /// Writes with response are neither heard nor answered.
    WriteSilent,
    /// The next write loses the link.
    WriteDropsLink,
    /// Notifications do not arrive.
    NotifySilent,
    /// Notifications arrive twice.
    NotifyTwice,
    /// A property that clients need is missing.
    PropertyMissing,
    /// A characteristic carries a flag that clients do not know.
    FlagUnknown,
    /// A disconnect asked by the host takes this long; 2–2.8 s like the real daemon when never set.
    DisconnectAfter(Duration),
    /// A request that the peer leaves unanswered for this long loses the link; 30 s when never set.
    AnswerWithin(Duration),
    /// The device object disappears (momentary; a scan finds it again after `link-back`).
    RemoveDevice,
    /// The GATT objects disappear, the link stays (momentary).
    RemoveGatt,
    /// The adapter is switched off (momentary).
    AdapterOff,
    /// The adapter is switched on (momentary).
    AdapterOn,
    /// The adapter is pulled out (momentary).
    AdapterRemove,
    /// It is plugged in again, switched on (momentary).
    AdapterReturn,
    /// The daemon dies; the links stay up for a moment (momentary).
    DaemonKilled,
    /// The daemon ends in order and takes the links down (momentary).
    DaemonStopped,
    /// The daemon is started (momentary).
    DaemonStarted,
    /// All lasting faults end.
    Well,
}

/// Why a text is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The word is not known.
    #[error("`{found}` is no event")]
    Unknown {
        /// What was read.
        found: String,
    },
    /// The event needs a number or a span, or takes none.
    #[error("`{word}` {expected}")]
    Argument {
        /// The event's word.
        word: String,
        /// What it takes.
        expected: &'static str,
    },
    /// The span cannot be read.
    #[error(transparent)]
    Span(#[from] UnitError),
}

impl World {
    /// Makes a faulty world of one stimulator and one gun: rough links, and faults in the first two minutes.
    pub fn seeded(seed: u64) -> Self {
        let mut random = Seeded::new(seed);
        let stimulator = UnitKind::Stimulator { model: StimulatorModel::P24, serial: "SIM-P24-1".to_owned() };
        let gun = UnitKind::Gun {
            profile: "theragun-g4".to_owned(),
            name: "Elite".to_owned(),
            address: [0xC0, 0, 0, 0, 0, 1],
        };
        let units = [("P24 A", stimulator), ("Gun 1", gun)]
            .into_iter()
            .map(|(label, kind)| WorldUnit {
                label: label.to_owned(),
                link: seeded_link(&mut random),
                behaviour: BTreeMap::new(),
                events: seeded_events(&mut random, &kind),
                kind,
            })
            .collect();
        Self { seed, units }
    }

    /// Returns the seed of the unit at `index`: one unit's course does not depend on the others.
    pub fn unit_seed(&self, index: usize) -> u64 {
        let offset = u64::try_from(index).unwrap_or(u64::MAX).saturating_add(1);
        Seeded::new(self.seed ^ offset.wrapping_mul(0xD6E8_FEB8_6659_FD93)).next()
    }
}

fn seeded_link(random: &mut Seeded) -> LinkFaults {
    let mut rate = |most: u64| u16::try_from(random.below(most)).unwrap_or(0);
    LinkFaults {
        drop_per_mille: rate(30),
        duplicate_per_mille: rate(20),
        corrupt_per_mille: rate(20),
        reorder_per_mille: 0,
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(2 + u64::from(rate(60))),
    }
}

fn seeded_events(random: &mut Seeded, kind: &UnitKind) -> Vec<(Duration, WorldEvent)> {
    let mut events = Vec::new();
    for _ in 0..random.below(6) {
        let at = random.span(Duration::from_secs(2), Duration::from_secs(120));
        let lasts = random.span(Duration::from_millis(50), Duration::from_secs(8));
        let end = at.saturating_add(lasts);
        let few = u8::try_from(1 + random.below(6)).unwrap_or(1);
        let (begins, ends) = match (random.below(8), kind) {
            (0, _) => (WorldEvent::LinkLoss(Objects::Kept), Some(WorldEvent::LinkBack)),
            (1, _) => (
                WorldEvent::Device(SimEvent::Wedged(true)),
                Some(WorldEvent::Device(SimEvent::Wedged(false))),
            ),
            (2, _) => (WorldEvent::Device(SimEvent::Reboot), None),
            (3, _) => (WorldEvent::Device(SimEvent::DropReplies(few)), None),
            (4, _) => (WorldEvent::Device(SimEvent::DropRequests(few)), None),
            (5, _) => (WorldEvent::Device(SimEvent::DuplicateReplies(few)), None),
            (6, UnitKind::Stimulator { .. }) => (WorldEvent::Device(SimEvent::CorruptReplies(few)), None),
            (6, UnitKind::Gun { .. }) => (WorldEvent::Device(SimEvent::ButtonStop), None),
            (_, UnitKind::Stimulator { .. }) => (
                WorldEvent::Device(SimEvent::LeadOff(1, true)),
                Some(WorldEvent::Device(SimEvent::LeadOff(1, false))),
            ),
            (_, UnitKind::Gun { .. }) => (WorldEvent::Device(SimEvent::ButtonStart), None),
        };
        events.push((at, begins));
        events.extend(ends.map(|event| (end, event)));
    }
    events.sort_by_key(|(at, _)| *at);
    events
}

impl FromStr for WorldEvent {
    type Err = EventError;

    fn from_str(text: &str) -> Result<Self, EventError> {
        let (word, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let words = Words { word, rest: rest.trim() };
        words
            .device()
            .or_else(|| words.link())
            .or_else(|| words.radio())
            .unwrap_or_else(|| Err(EventError::Unknown { found: word.to_owned() }))
    }
}

/// An event's first word and what follows.
struct Words<'a> {
    word: &'a str,
    rest: &'a str,
}

impl Words<'_> {
    fn device(&self) -> Option<Result<WorldEvent, EventError>> {
        let event = match self.word {
            "lead-off" => self.number().map(|n| SimEvent::LeadOff(n, true)),
            "lead-on" => self.number().map(|n| SimEvent::LeadOff(n, false)),
            "wedge" => self.plain(SimEvent::Wedged(true)),
            "unwedge" => self.plain(SimEvent::Wedged(false)),
            "reboot" => self.plain(SimEvent::Reboot),
            "button-start" => self.plain(SimEvent::ButtonStart),
            "button-stop" => self.plain(SimEvent::ButtonStop),
            "button-speed" => self.number().map(SimEvent::ButtonSpeed),
            "drop-replies" => self.number().map(SimEvent::DropReplies),
            "delay-replies" => self.span().map(SimEvent::DelayReplies),
            "corrupt-replies" => self.number().map(SimEvent::CorruptReplies),
            "duplicate-replies" => self.number().map(SimEvent::DuplicateReplies),
            "drop-requests" => self.number().map(SimEvent::DropRequests),
            "battery" => self.number().map(SimEvent::Battery),
            "force" => self.number().map(SimEvent::Force),
            _ => return None,
        };
        Some(event.map(WorldEvent::Device))
    }

    fn link(&self) -> Option<Result<WorldEvent, EventError>> {
        match (self.word, self.rest) {
            ("link-loss", "objects-removed") => Some(Ok(WorldEvent::LinkLoss(Objects::Removed))),
            ("link-loss" | "unplug", _) => Some(self.plain(WorldEvent::LinkLoss(Objects::Kept))),
            ("link-back" | "plug", _) => Some(self.plain(WorldEvent::LinkBack)),
            _ => None,
        }
    }

    fn radio(&self) -> Option<Result<WorldEvent, EventError>> {
        let event = match self.word {
            "connect-error" => self.plain(RadioEvent::ConnectError),
            "connect-silent" => self.plain(RadioEvent::ConnectSilent),
            "services-silent" => self.plain(RadioEvent::ServicesSilent),
            "write-error" => self.plain(RadioEvent::WriteError),
            "write-slow" => self.span().map(RadioEvent::WriteSlow),
            "write-silent" => self.plain(RadioEvent::WriteSilent),
            "write-drops-link" => self.plain(RadioEvent::WriteDropsLink),
            "notify-silent" => self.plain(RadioEvent::NotifySilent),
            "notify-twice" => self.plain(RadioEvent::NotifyTwice),
            "property-missing" => self.plain(RadioEvent::PropertyMissing),
            "flag-unknown" => self.plain(RadioEvent::FlagUnknown),
            "disconnect-after" => self.span().map(RadioEvent::DisconnectAfter),
            "answer-within" => self.span().map(RadioEvent::AnswerWithin),
            "remove-device" => self.plain(RadioEvent::RemoveDevice),
            "remove-gatt" => self.plain(RadioEvent::RemoveGatt),
            "adapter-off" => self.plain(RadioEvent::AdapterOff),
            "adapter-on" => self.plain(RadioEvent::AdapterOn),
            "adapter-remove" => self.plain(RadioEvent::AdapterRemove),
            "adapter-return" => self.plain(RadioEvent::AdapterReturn),
            "bluetoothd-kill" => self.plain(RadioEvent::DaemonKilled),
            "bluetoothd-stop" => self.plain(RadioEvent::DaemonStopped),
            "bluetoothd-start" => self.plain(RadioEvent::DaemonStarted),
            "radio-well" => self.plain(RadioEvent::Well),
            _ => return None,
        };
        Some(event.map(WorldEvent::Radio))
    }

    fn plain<T>(&self, event: T) -> Result<T, EventError> {
        if self.rest.is_empty() { Ok(event) } else { Err(self.argument("takes nothing more")) }
    }

    fn number<T: FromStr>(&self) -> Result<T, EventError> {
        self.rest.parse().map_err(|_| self.argument("needs a number such as 1"))
    }

    fn span(&self) -> Result<Duration, EventError> {
        Ok(parse_duration(self.rest)?)
    }

    fn argument(&self, expected: &'static str) -> EventError {
        EventError::Argument { word: self.word.to_owned(), expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_grammar_is_read() {
        let module = include_str!("world.rs");
        let grammar = module.split("```").nth(1).unwrap();
        let mut read = 0;
        for line in grammar.lines().skip(1).map(|line| line.trim_start_matches("//!")) {
            let line = line.split("   (").next().unwrap();
            for words in line.get(12..).unwrap_or("").split('|').map(str::trim).filter(|w| !w.is_empty()) {
                let example = words
                    .replace("SPAN", "50 ms")
                    .replace("PERCENT", "40")
                    .replace(" N", " 2")
                    .replace(['[', ']'], "");
                assert!(example.parse::<WorldEvent>().is_ok(), "{example}");
                read += 1;
            }
        }
        assert_eq!(read, 42, "the grammar of the module's head");
    }

    #[test]
    fn wrong_events_say_what_is_wrong() {
        for (text, message) in [
            ("leed-off 1", "`leed-off` is no event"),
            ("lead-off", "`lead-off` needs a number such as 1"),
            ("lead-off 300", "`lead-off` needs a number such as 1"),
            ("reboot now", "`reboot` takes nothing more"),
            ("write-slow 5", "the unit of `5` is not s, ms or min, write for example \"30 s\""),
        ] {
            assert_eq!(text.parse::<WorldEvent>().unwrap_err().to_string(), message);
        }
        assert_eq!("unplug".parse(), Ok(WorldEvent::LinkLoss(Objects::Kept)));
    }

    #[test]
    fn a_seed_makes_one_world_and_seeds_differ() {
        assert_eq!(World::seeded(4), World::seeded(4));
        assert_ne!(World::seeded(4), World::seeded(5));
        let worlds: Vec<World> = (0..200).map(World::seeded).collect();
        let events = worlds.iter().flat_map(|w| &w.units).flat_map(|u| &u.events);
        let losses = events.filter(|(_, e)| matches!(e, WorldEvent::LinkLoss(_))).count();
        assert!(losses > 20, "{losses} link losses in 200 worlds");
        assert!(worlds.iter().flat_map(|w| &w.units).all(|u| u.events.is_sorted_by_key(|(at, _)| *at)));
    }

    #[test]
    fn units_of_one_world_have_their_own_seeds() {
        let world = World::seeded(1);
        assert_ne!(world.unit_seed(0), world.unit_seed(1));
        assert_ne!(world.unit_seed(0), World::seeded(2).unit_seed(0));
    }
}
