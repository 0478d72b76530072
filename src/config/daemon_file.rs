//! The daemon's own file: `config/daemon.toml`: where the data lives, this clinic's limits, the operator's lease, and
//! where the units are.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::library::{DAEMON, Library};
use crate::config::limit_table;
use crate::config::problem::{Problem, Source};
use crate::config::reader::{Reader, Table, duration, text, texts};
use crate::config::{self};
use crate::governor::limits::ceiling;
use crate::model::limit::OwnedLimits;
use crate::model::protocol::Modality;
use crate::units::show_duration;

/// The daemon's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Where records live; `None`: the system's place for state.
    pub data_dir: Option<PathBuf>,
    /// Length of the operator's lease, 1–3 s (design 4).
    pub lease: Duration,
    /// Command that plays a sound file, its name as [`PLAYED`]; `None`: this box has no player.
    pub player: Option<Vec<String>>,
    /// Silence of the daemon for this long while a unit is armed: the guard takes over, 250–1000 ms (design 4).
    pub freeze: Duration,
    /// A directory whose group may use the control socket; `None`: the socket lies with the data, for this user only.
    pub control_dir: Option<PathBuf>,
    /// Where units are, by the label on their housing.
    pub units: Vec<UnitPlace>,
    tens: OwnedLimits,
    nmes: OwnedLimits,
    percussion: OwnedLimits,
}

/// Where one unit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitPlace {
    /// Label that the clinic wrote on the housing; a plan names it.
    pub label: String,
    /// How to reach it.
    pub address: Address,
}

/// How a unit is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A serial port.
    Serial(PathBuf),
    /// A Bluetooth device address, for example `C4:AC:05:11:22:33`.
    Ble(String),
}

/// Stands for the file in the command of a player.
pub const PLAYED: &str = "{file}";

/// Bounds of the operator's lease, and its length when the file is silent (design 4).
const LEASE_MIN: Duration = Duration::from_secs(1);
const LEASE_MAX: Duration = Duration::from_secs(3);
const LEASE_DEFAULT: Duration = Duration::from_secs(2);

/// Bounds of the silence that means frozen, and its length when the file is silent (design 4).
const FREEZE_MIN: Duration = Duration::from_millis(250);
const FREEZE_MAX: Duration = Duration::from_millis(1000);
const FREEZE_DEFAULT: Duration = Duration::from_millis(400);

impl Daemon {
    /// Returns this clinic's limits of a modality (owner `site`).
    pub const fn site(&self, modality: Modality) -> &OwnedLimits {
        match modality {
            Modality::Tens => &self.tens,
            Modality::Nmes => &self.nmes,
            Modality::Percussion => &self.percussion,
        }
    }

    /// Returns where a unit is, by its label.
    pub fn address(&self, label: &str) -> Option<&Address> {
        self.units.iter().find(|unit| unit.label == label).map(|unit| &unit.address)
    }
}

/// Reads the daemon's settings. Returns `None` exactly when problems were added.
pub fn load(source: &Source, problems: &mut Vec<Problem>) -> Option<Daemon> {
    Reader::read(source, problems, judge)
}

/// Reads the daemon's settings of a library.
///
/// # Errors
/// Every problem of the file.
pub fn load_daemon(library: &Library) -> Result<Daemon, Vec<Problem>> {
    let mut problems = Vec::new();
    let source = library.read(DAEMON).map_err(|problem| vec![problem])?;
    load(&source, &mut problems).ok_or(problems)
}

fn judge(root: &Table<'_>) -> Option<Daemon> {
    config::head(root);
    let data_dir = root.optional("data_dir", text).map(|path| PathBuf::from(path.value));
    let lease = judge_span(root, "lease", "the operator's lease", (LEASE_MIN, LEASE_MAX), LEASE_DEFAULT);
    let freeze = judge_span(root, "freeze", "the time to freeze", (FREEZE_MIN, FREEZE_MAX), FREEZE_DEFAULT);
    let control_dir = root.optional("control_dir", text).map(|path| PathBuf::from(path.value));
    let site = root.table_if("site", "[site]");
    let said = site.as_ref().and_then(|site| site.required("source", text)).map(|said| said.value);
    let limits = |key: &'static str, modality: Modality| {
        let table = site.as_ref().and_then(|site| site.table_if(key, format!("[site.{key}]")));
        let limits = table.map(|table| {
            let written = limit_table::read(&table, Some(modality));
            let help = "tighten the limit; a file cannot raise a ceiling";
            limit_table::within(&table, &written, &ceiling(modality), "the ceiling", help);
            written.limits
        });
        OwnedLimits { limits: limits.unwrap_or_default(), said: said.clone().unwrap_or_default() }
    };
    let (tens, nmes) = (limits("tens", Modality::Tens), limits("nmes", Modality::Nmes));
    let percussion = limits("percussion", Modality::Percussion);
    if let Some(site) = &site {
        site.close();
    }
    let player = judge_player(root);
    let mut units: Vec<UnitPlace> = Vec::new();
    for table in root.tables("unit", "unit") {
        let Some(unit) = judge_unit(&table) else {
            continue;
        };
        if units.iter().any(|known| known.label == unit.label) {
            let message = format!("the label `{}` is there twice", unit.label);
            table.push(
                table.key_span("label"),
                message,
                "",
                Some("give every unit its own label".to_owned()),
            );
        }
        units.push(unit);
    }
    root.close();
    let (lease, freeze) = (lease?, freeze?);
    Some(Daemon { data_dir, lease, player, freeze, control_dir, units, tens, nmes, percussion })
}

fn judge_span(
    root: &Table<'_>,
    key: &'static str,
    what: &str,
    (least, most): (Duration, Duration),
    default: Duration,
) -> Option<Duration> {
    let written = root.optional(key, duration);
    if !root.has(key) {
        return Some(default);
    }
    let span = written?;
    if !(least..=most).contains(&span.value) {
        let label = format!("{} to {} is due", show_duration(least), show_duration(most));
        root.push(Some(span.span), format!("{what} is out of bounds"), label, None);
        return None;
    }
    Some(span.value)
}

/// Reads the command that plays a sound.
fn judge_player(root: &Table<'_>) -> Option<Vec<String>> {
    let table = root.table_if("alarm", "[alarm]")?;
    let player = table.required("player", texts);
    table.close();
    let player = player?;
    let help = format!("for example player = [\"aplay\", \"-q\", \"{PLAYED}\"]");
    let program = player.value.first().is_some_and(|program| !program.trim().is_empty() && program != PLAYED);
    if !program || !player.value.iter().any(|word| word.contains(PLAYED)) {
        let message = "the player is no command that plays a file";
        let label = format!("a program and `{PLAYED}` for the file are due");
        table.push(Some(player.span), message, label, Some(help));
        return None;
    }
    Some(player.value)
}

fn judge_unit(table: &Table<'_>) -> Option<UnitPlace> {
    let label = table.required("label", text);
    let port = table.optional("port", text);
    let ble = table.optional("ble", text);
    table.close();
    let address = match (port, ble) {
        (Some(port), None) => Address::Serial(PathBuf::from(port.value)),
        (None, Some(ble)) if is_address(&ble.value) => Address::Ble(ble.value.to_ascii_uppercase()),
        (None, Some(ble)) => {
            let label = "six hexadecimal pairs such as C4:AC:05:11:22:33 are due";
            table.push(Some(ble.span), format!("`{}` is no Bluetooth address", ble.value), label, None);
            return None;
        }
        _ => {
            let message = format!("{} needs one of `port` and `ble`", table.name());
            table.push(Some(table.span()), message, "", None);
            return None;
        }
    };
    Some(UnitPlace { label: label?.value, address })
}

fn is_address(text: &str) -> bool {
    let pairs: Vec<&str> = text.split(':').collect();
    let hexadecimal = |pair: &&str| pair.len() == 2 && pair.chars().all(|c| c.is_ascii_hexdigit());
    pairs.len() == 6 && pairs.iter().all(hexadecimal)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::problem::render;
    use crate::units::Milliamps;

    fn load_text(text: &str) -> (Option<Daemon>, String) {
        let text = format!("schema = 1\nid = \"daemon\"\ntitle = \"Room 1\"\n{text}");
        let source = Source { path: PathBuf::from("daemon.toml"), text: Arc::from(text) };
        let mut problems = Vec::new();
        let daemon = load(&source, &mut problems);
        (daemon, render(&problems))
    }

    #[test]
    fn a_silent_file_gives_the_default_lease_and_no_limits() {
        let daemon = load_text("").0.unwrap();
        assert_eq!(daemon.lease, Duration::from_secs(2));
        assert_eq!((daemon.freeze, daemon.control_dir.clone()), (Duration::from_millis(400), None));
        assert_eq!(daemon.site(Modality::Tens), &OwnedLimits::default());
        assert_eq!(daemon.player, None);
    }

    #[test]
    fn a_player_is_a_command_with_the_file_in_it() {
        let (daemon, text) = load_text("[alarm]\nplayer = [\"aplay\", \"-q\", \"{file}\"]\n");
        let player = daemon.expect(&text).player.unwrap();
        assert_eq!(player, ["aplay", "-q", PLAYED]);
    }

    #[test]
    fn units_and_site_limits_are_read() {
        let (daemon, text) = load_text(
            "lease = \"1 s\"\n[site]\nsource = \"clinic rule 4\"\n[site.tens]\ncurrent = \"40 mA\"\n\
             [[unit]]\nlabel = \"A\"\nport = \"/dev/ttyUSB0\"\n[[unit]]\nlabel = \"B\"\nble = \"c4:ac:05:11:22:33\"\n",
        );
        let daemon = daemon.expect(&text);
        let site = daemon.site(Modality::Tens);
        assert_eq!(site.limits.current, Some(Milliamps::from_milliamps(40)));
        assert_eq!(site.said, "clinic rule 4");
        assert_eq!(daemon.address("B"), Some(&Address::Ble("C4:AC:05:11:22:33".to_owned())));
        assert_eq!(daemon.address("C"), None);
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        for (text, expected) in [
            ("lease = \"3.1 s\"", "1 s to 3 s is due"),
            ("lease = \"0.9 s\"", "1 s to 3 s is due"),
            ("lease = 2", "an integer was found"),
            ("freeze = \"249 ms\"", "0.25 s to 1 s is due"),
            ("freeze = \"1001 ms\"", "0.25 s to 1 s is due"),
            ("[site]\nsource = \"x\"\n[site.tens]\ncurrent = \"61 mA\"", "the ceiling is 60 mA"),
            ("[site.tens]\ncurrent = \"6 mA\"", "`source` is missing in [site]"),
            ("[site]\nsource = \"x\"\n[site.tens]\nspeed = \"6 raw\"", "no meaning for tens"),
            ("[[unit]]\nlabel = \"A\"", "needs one of `port` and `ble`"),
            ("[[unit]]\nlabel = \"A\"\nble = \"12:34\"", "no Bluetooth address"),
            (
                "[[unit]]\nlabel = \"A\"\nport = \"x\"\n[[unit]]\nlabel = \"A\"\nport = \"y\"",
                "is there twice",
            ),
            ("[alarm]\nplayer = [\"aplay\"]", "a program and `{file}` for the file are due"),
            ("[alarm]\nplayer = [\"{file}\"]", "a program and `{file}` for the file are due"),
            ("[alarm]\nplayer = []", "the list is empty"),
            ("[alarm]\nplayer = \"aplay\"", "a string was found"),
            ("[alarm]", "`player` is missing in [alarm]"),
            ("leese = \"2 s\"", "did you mean `lease`?"),
        ] {
            let (daemon, found) = load_text(text);
            assert!(daemon.is_none() && found.contains(expected), "{text}: {found}");
        }
    }
}
