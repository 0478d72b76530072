//! World files: which simulated units there are, how good their links are, what happens when.
//!
//! `config/worlds/default.toml` shows the format; `sim::world` has the words of an event.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{Problem, Source};
use crate::sim::link::LinkFaults;
use crate::sim::world::{Setting, SettingError, StimulatorModel, UnitKind, World, WorldEvent, WorldUnit};
use crate::units::parse_duration;

/// The file format.
const SCHEMA: u32 = 1;
/// Most units of a world.
const UNITS_MAX: usize = 16;
/// Longest label, in characters.
const LABEL_MAX: usize = 40;
/// Longest delay of a link: nothing that late is still a link.
const DELAY_MAX: Duration = Duration::from_secs(10);

const MODELS: [(&str, StimulatorModel); 4] = [
    ("p24", StimulatorModel::P24),
    ("rehamove3", StimulatorModel::RehaMove3),
    ("rehastim2", StimulatorModel::RehaStim2),
    ("sciencemode1", StimulatorModel::ScienceMode1),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWorld {
    schema: Spanned<u32>,
    #[serde(rename = "id")]
    _id: String,
    #[serde(rename = "title")]
    _title: String,
    seed: u64,
    #[serde(default)]
    unit: Vec<Spanned<RawUnit>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUnit {
    label: Spanned<String>,
    kind: Spanned<String>,
    model: Option<Spanned<String>>,
    serial: Option<Spanned<String>>,
    profile: Option<Spanned<String>>,
    name: Option<Spanned<String>>,
    address: Option<Spanned<String>>,
    #[serde(default)]
    link: RawLink,
    #[serde(default)]
    behaviour: BTreeMap<Spanned<String>, Spanned<RawSetting>>,
    #[serde(default)]
    event: Vec<RawEvent>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawSetting {
    Flag(bool),
    Number(u32),
    Text(String),
    Names(Vec<String>),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLink {
    delay_min: Option<Spanned<String>>,
    delay_max: Option<Spanned<String>>,
    drop_per_mille: Option<Spanned<u16>>,
    duplicate_per_mille: Option<Spanned<u16>>,
    corrupt_per_mille: Option<Spanned<u16>>,
    reorder_per_mille: Option<Spanned<u16>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvent {
    at: Spanned<String>,
    what: Spanned<String>,
}

/// Returns the file of the built-in world.
pub fn built_in() -> Source {
    Source {
        path: PathBuf::from("config/worlds/default.toml"),
        text: Arc::from(include_str!("../../config/worlds/default.toml")),
    }
}

/// Reads a world; adds every problem found. A world comes back only when there was none.
pub fn judge(source: &Source, problems: &mut Vec<Problem>) -> Option<World> {
    let before = problems.len();
    let raw: RawWorld = source.parse(problems)?;
    let mut judge = Judge { source, problems };
    if *raw.schema.get_ref() != SCHEMA {
        judge.say(&raw.schema, "this schema is not known", "this version reads 1");
    }
    if raw.unit.is_empty() || raw.unit.len() > UNITS_MAX {
        let message = format!("a world has 1 to {UNITS_MAX} units, this one has {}", raw.unit.len());
        judge.problems.push(source.problem(None, message, "", Some("add [[unit]] sections".to_owned())));
    }
    let units: Vec<WorldUnit> =
        raw.unit.iter().enumerate().filter_map(|(index, unit)| judge.unit(index, unit)).collect();
    judge.labels(&raw.unit);
    judge.addresses(&raw.unit, &units);
    (problems.len() == before).then_some(World { seed: raw.seed, units })
}

struct Judge<'a> {
    source: &'a Source,
    problems: &'a mut Vec<Problem>,
}

impl Judge<'_> {
    fn say<T>(&mut self, at: &Spanned<T>, message: impl Into<String>, label: impl Into<String>) {
        self.problems.push(self.source.problem(Some(at.span()), message, label, None));
    }

    fn unit(&mut self, index: usize, spanned: &Spanned<RawUnit>) -> Option<WorldUnit> {
        let raw = spanned.get_ref();
        let kind = match raw.kind.get_ref().as_str() {
            "stimulator" => self.stimulator(spanned),
            "gun" => self.gun(index, spanned),
            other => {
                let message = format!("there is no kind of unit `{other}`");
                self.say(&raw.kind, message, "stimulator or gun");
                None
            }
        };
        let link = self.link(&raw.link);
        let mut events: Vec<(Duration, WorldEvent)> =
            raw.event.iter().filter_map(|event| self.event(event, raw.kind.get_ref())).collect();
        events.sort_by_key(|(at, _)| *at);
        let behaviour = self.behaviour(raw);
        Some(WorldUnit { label: raw.label.get_ref().clone(), kind: kind?, link, behaviour, events })
    }

    /// Reads what a unit is like. Names of stop frames are its profile's, and are checked when it is made.
    fn behaviour(&mut self, raw: &RawUnit) -> BTreeMap<String, Setting> {
        let mut settings = BTreeMap::new();
        for (key, value) in &raw.behaviour {
            let setting = match value.get_ref() {
                RawSetting::Flag(flag) => Setting::Flag(*flag),
                RawSetting::Number(number) => Setting::Number(*number),
                RawSetting::Text(text) => Setting::Text(text.clone()),
                RawSetting::Names(names) => Setting::Names(names.clone()),
            };
            let word = key.get_ref();
            let tried = match raw.kind.get_ref().as_str() {
                "gun" => setting.fits_gun(word),
                "stimulator" => setting.fits_stimulator(word),
                // It has been said that there is no such kind.
                _ => Ok(()),
            };
            match tried {
                Ok(()) => drop(settings.insert(word.clone(), setting)),
                Err(SettingError::Unknown) => {
                    let kind = raw.kind.get_ref();
                    self.say(key, format!("a {kind} has no behaviour `{word}`"), "not known");
                }
                Err(error) => self.say(value, error.to_string(), ""),
            }
        }
        settings
    }

    fn stimulator(&mut self, unit: &Spanned<RawUnit>) -> Option<UnitKind> {
        let raw = unit.get_ref();
        for (key, value) in [("profile", &raw.profile), ("name", &raw.name), ("address", &raw.address)] {
            if let Some(value) = value {
                self.say(value, format!("a stimulator has no `{key}`"), "remove it");
            }
        }
        let Some(model) = &raw.model else {
            self.say(unit, "this stimulator has no `model`", "add for example model = \"p24\"");
            return None;
        };
        let known = MODELS.iter().find(|(word, _)| word == model.get_ref());
        if known.is_none() {
            let words = MODELS.map(|(word, _)| word).join(", ");
            self.say(
                model,
                format!("there is no simulated `{}`", model.get_ref()),
                format!("one of {words}"),
            );
        }
        let serial =
            raw.serial.as_ref().map_or_else(|| "SIM-1".to_owned(), |serial| serial.get_ref().clone());
        known.map(|(_, model)| UnitKind::Stimulator { model: *model, serial })
    }

    fn gun(&mut self, index: usize, unit: &Spanned<RawUnit>) -> Option<UnitKind> {
        let raw = unit.get_ref();
        for (key, value) in [("model", &raw.model), ("serial", &raw.serial)] {
            if let Some(value) = value {
                self.say(value, format!("a gun has no `{key}`"), "remove it");
            }
        }
        let Some(profile) = &raw.profile else {
            self.say(unit, "this gun has no `profile`", "add for example profile = \"theragun-g4\"");
            return None;
        };
        let name = raw.name.as_ref().map_or_else(|| "Elite".to_owned(), |name| name.get_ref().clone());
        let address = match &raw.address {
            None => [0xC0, 0, 0, 0, 0, u8::try_from(index).unwrap_or(0xFF)],
            Some(text) => {
                let parsed = parse_address(text.get_ref());
                if parsed.is_none() {
                    self.say(text, "this is no Bluetooth address", "write for example C0:00:00:00:00:01");
                }
                parsed?
            }
        };
        Some(UnitKind::Gun { profile: profile.get_ref().clone(), name, address })
    }

    fn link(&mut self, raw: &RawLink) -> LinkFaults {
        let shortest = self.delay(raw.delay_min.as_ref());
        let longest = self.delay(raw.delay_max.as_ref());
        let delay_min = shortest.unwrap_or_default();
        let delay_max = longest.unwrap_or(delay_min);
        if let Some(written) = raw.delay_max.as_ref().filter(|_| delay_max < delay_min) {
            self.say(written, "the longest delay is shorter than the shortest", "at least `delay_min`");
        }
        LinkFaults {
            delay_min,
            delay_max,
            drop_per_mille: self.rate(raw.drop_per_mille.as_ref()),
            duplicate_per_mille: self.rate(raw.duplicate_per_mille.as_ref()),
            corrupt_per_mille: self.rate(raw.corrupt_per_mille.as_ref()),
            reorder_per_mille: self.rate(raw.reorder_per_mille.as_ref()),
        }
    }

    fn delay(&mut self, written: Option<&Spanned<String>>) -> Option<Duration> {
        let written = written?;
        match parse_duration(written.get_ref()) {
            Ok(span) if span <= DELAY_MAX => return Some(span),
            Ok(_) => self.say(written, "this delay is longer than any link's", "at most 10 s"),
            Err(error) => self.say(written, error.to_string(), ""),
        }
        None
    }

    fn rate(&mut self, written: Option<&Spanned<u16>>) -> u16 {
        let Some(written) = written else {
            return 0;
        };
        if *written.get_ref() > 1000 {
            self.say(written, "a rate per thousand is at most 1000", "0 to 1000");
        }
        *written.get_ref()
    }

    fn event(&mut self, raw: &RawEvent, kind: &str) -> Option<(Duration, WorldEvent)> {
        let at = parse_duration(raw.at.get_ref()).map_err(|error| self.say(&raw.at, error.to_string(), ""));
        let what: Result<WorldEvent, ()> =
            raw.what.get_ref().parse().map_err(|error: crate::sim::world::EventError| {
                self.say(&raw.what, error.to_string(), "not an event of a unit");
            });
        if let (Ok(WorldEvent::Radio(_)), "stimulator") = (what, kind) {
            self.say(&raw.what, "a stimulator has no radio", "only a gun can have this event");
        }
        Some((at.ok()?, what.ok()?))
    }

    fn labels(&mut self, units: &[Spanned<RawUnit>]) {
        let mut seen = BTreeSet::new();
        for unit in units {
            let label = &unit.get_ref().label;
            let text = label.get_ref();
            if text.is_empty() || text.chars().count() > LABEL_MAX || text.trim() != text {
                self.say(
                    label,
                    "this label is empty, too long or padded",
                    format!("1 to {LABEL_MAX} characters"),
                );
            } else if text.contains(char::is_control) {
                self.say(label, "this label has a control character", "letters, digits, spaces");
            } else if !seen.insert(text) {
                self.say(label, format!("two units are called `{text}`"), "labels must differ");
            }
        }
    }

    fn addresses(&mut self, raw: &[Spanned<RawUnit>], units: &[WorldUnit]) {
        let mut seen = BTreeSet::new();
        for unit in units {
            let UnitKind::Gun { address, .. } = &unit.kind else { continue };
            if !seen.insert(address)
                && let Some(twin) = raw.iter().find(|raw| *raw.get_ref().label.get_ref() == unit.label)
            {
                self.say(&twin.get_ref().label, "two guns have the same address", "addresses must differ");
            }
        }
    }
}

fn parse_address(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|pair| if pair.len() == 2 { u8::from_str_radix(pair, 16).ok() } else { None })
        .collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimEvent;

    fn source(text: &str) -> Source {
        Source { path: PathBuf::from("world.toml"), text: Arc::from(text) }
    }

    fn good(text: &str) -> World {
        let mut problems = Vec::new();
        let world = judge(&source(text), &mut problems);
        assert!(problems.is_empty(), "{problems:#?}");
        world.unwrap()
    }

    const HEAD: &str = "schema = 1\nid = \"w\"\ntitle = \"W\"\nseed = 3\n";

    #[test]
    fn shipped_worlds_are_read() {
        let world = good(&built_in().text);
        let labels: Vec<&str> = world.units.iter().map(|unit| unit.label.as_str()).collect();
        assert_eq!(labels, ["Stimulator A", "Gun 1"]);
        assert_eq!(
            world.units[1].kind,
            UnitKind::Gun {
                profile: "theragun-g4".to_owned(),
                name: "Elite".to_owned(),
                address: [0xC0, 0, 0, 0, 0, 1]
            }
        );
        let rough = good(include_str!("../../config/worlds/rough.toml"));
        assert_eq!(rough.units[0].link.delay_max, Duration::from_millis(15));
        assert_eq!(
            rough.units[0].events[0],
            (Duration::from_secs(60), WorldEvent::Device(SimEvent::LeadOff(1, true)))
        );
    }

    #[test]
    fn every_problem_is_found_with_its_place() {
        let text = format!(
            "{}{}",
            HEAD.replace("schema = 1", "schema = 2"),
            r#"
[[unit]]
label = "A"
kind = "stimulator"
model = "p25"
name = "x"
[unit.link]
delay_min = "20 ms"
delay_max = "5 ms"
drop_per_mille = 1001
[[unit.event]]
at = "soon"
what = "jump"
[[unit.event]]
at = "1 s"
what = "connect-error"
[[unit]]
label = "A"
kind = "gun"
profile = "theragun-g4"
address = "C0:00"
[unit.behaviour]
stop_accept = ["stop_zero"]
link_loss_after = "500"
battery = 101
[[unit]]
label = " B"
kind = "kettle"
"#
        );
        let source = source(&text);
        let mut problems = Vec::new();
        assert_eq!(judge(&source, &mut problems), None);
        let mut found: Vec<(&str, &str)> = problems
            .iter()
            .map(|problem| (&text[problem.span.clone().unwrap()], problem.message.as_str()))
            .collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [
                ("\" B\"", "this label is empty, too long or padded"),
                ("\"5 ms\"", "the longest delay is shorter than the shortest"),
                ("\"500\"", "the unit of `500` is not s, ms or min, write for example \"30 s\""),
                ("\"A\"", "two units are called `A`"),
                ("\"C0:00\"", "this is no Bluetooth address"),
                ("\"connect-error\"", "a stimulator has no radio"),
                ("\"jump\"", "`jump` is no event"),
                ("\"kettle\"", "there is no kind of unit `kettle`"),
                ("\"p25\"", "there is no simulated `p25`"),
                ("\"soon\"", "`soon` is not a number with a unit such as \"30 s\""),
                ("\"x\"", "a stimulator has no `name`"),
                ("1001", "a rate per thousand is at most 1000"),
                ("101", "a charge of 0 to 100 percent is expected"),
                ("2", "this schema is not known"),
                ("stop_accept", "a gun has no behaviour `stop_accept`"),
            ]
        );
    }

    #[test]
    fn an_empty_world_an_unknown_key_and_equal_addresses_are_problems() {
        for (rest, message) in [
            ("", "a world has 1 to 16 units, this one has 0"),
            ("sed = 1\n", "unknown field `sed`, expected one of `schema`, `id`, `title`, `seed`, `unit`"),
            (
                "[[unit]]\nlabel=\"A\"\nkind=\"gun\"\nprofile=\"p\"\naddress=\"C0:00:00:00:00:01\"\n\
                 [[unit]]\nlabel=\"B\"\nkind=\"gun\"\nprofile=\"p\"\naddress=\"C0:00:00:00:00:01\"\n",
                "two guns have the same address",
            ),
        ] {
            let mut problems = Vec::new();
            assert_eq!(judge(&source(&format!("{HEAD}{rest}")), &mut problems), None);
            let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
            assert_eq!(messages, [message]);
        }
    }

    #[test]
    fn a_unit_may_differ_from_an_ordinary_one() {
        let world = good(&format!(
            "{HEAD}[[unit]]\nlabel=\"A\"\nkind=\"gun\"\nprofile=\"p\"\n[unit.behaviour]\n\
             stop_accepts = [\"stop_off7\"]\non_link_loss = \"stops\"\nauto_off = \"10 s\"\nbattery = 20\n\
             status_follows_motor = true\n"
        ));
        let settings = [
            ("auto_off", Setting::Text("10 s".to_owned())),
            ("battery", Setting::Number(20)),
            ("on_link_loss", Setting::Text("stops".to_owned())),
            ("status_follows_motor", Setting::Flag(true)),
            ("stop_accepts", Setting::Names(vec!["stop_off7".to_owned()])),
        ];
        assert_eq!(world.units[0].behaviour, settings.map(|(key, value)| (key.to_owned(), value)).into());
    }

    #[test]
    fn defaults_are_a_perfect_link_and_an_address_by_position() {
        let world = good(&format!("{HEAD}[[unit]]\nlabel=\"A\"\nkind=\"gun\"\nprofile=\"p\"\n"));
        assert_eq!(world.seed, 3);
        assert_eq!(world.units[0].link, LinkFaults::default());
        assert!(matches!(world.units[0].kind, UnitKind::Gun { address: [0xC0, 0, 0, 0, 0, 0], .. }));
    }
}
