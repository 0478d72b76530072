//! Files to validated model: all problems at once, each with file, line, column and remedy.
//!
//! A file is read key by key (`reader`) and then judged: small named checks, every problem reported. What comes out
//! is the model's own types with private invariants already checked. Loaded once: a running session never sees an edit.
//!
//! | file | kind |
//! | --- | --- |
//! | `protocols/*.toml` | treatment protocols ([`protocol_file`]) |
//! | `config/devices/*.toml` | serial stimulators ([`stimulator_file`]), device profiles of guns ([`device_file`]) |
//! | `config/clinical/body-areas.toml` | areas, electrode paths, tissue speeds, low cap ([`clinical_file`]) |
//! | `config/daemon.toml` | data directory, lease, site limits, where units are ([`daemon_file`]) |
//! | `config/worlds/*.toml` | simulated units with their faults ([`world_file`]) |
//! | plans, anywhere | what is done in a session ([`plan_file`]) |

pub mod clinical_file;
pub mod daemon_file;
pub mod device_file;
pub mod library;
pub mod plan_file;
pub mod problem;
pub mod protocol_file;
pub mod stimulator_file;
pub mod world_file;

mod check;
mod limit_table;
mod reader;
mod step_limits;

pub use check::check;
pub use daemon_file::{Address, Daemon, load_daemon};
pub use library::Library;
pub use plan_file::{Loaded, UnitSource, load_plan};
pub use problem::{Problem, Source, render};
pub use stimulator_file::Dialect;

use crate::config::reader::{At, Table, text, whole};
use crate::model::area::Side;
use crate::model::protocol::Modality;

/// Words of the modalities in files.
pub(crate) const MODALITIES: &[(&str, Modality)] =
    &[("tens", Modality::Tens), ("nmes", Modality::Nmes), ("percussion", Modality::Percussion)];

/// Words of the sides in files.
pub(crate) const SIDES: &[(&str, Side)] = &[
    ("left", Side::Left),
    ("right", Side::Right),
    ("midline", Side::Midline),
    ("bilateral", Side::Bilateral),
];

/// What every file begins with.
pub(crate) struct Head {
    pub(crate) id: At<String>,
    pub(crate) title: String,
}

/// Reads `schema`, `id` and `title`.
pub(crate) fn head(root: &Table<'_>) -> Option<Head> {
    const SCHEMA: u32 = 1;
    let schema = root.required("schema", whole(0, u32::MAX));
    if let Some(schema) = schema.filter(|schema| schema.value != SCHEMA) {
        let message = format!("schema {} is not known", schema.value);
        let help = "this version reads schema 1; a newer file needs a newer version".to_owned();
        root.push(Some(schema.span), message, "`schema = 1` is due", Some(help));
    }
    let (id, title) = (root.required("id", text), root.required("title", text));
    Some(Head { id: id?, title: title?.value })
}

/// Kind of a device file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    /// A neurostimulator on a serial line.
    Serial,
    /// A device profile of a gun.
    Profile,
    /// Devices that are recognised so that they can be refused; no plan can name them.
    Refusals,
}

/// Tells the kinds of device files apart: a serial unit says `kind`, a device profile has a `class` and frames.
pub(crate) fn device_kind(source: &Source) -> DeviceKind {
    let (tree, _) = toml::de::DeTable::parse_recoverable(&source.text);
    let root = tree.get_ref();
    let has_any = |keys: &[&str]| keys.iter().any(|key| root.contains_key(*key));
    if has_any(&["refuse"]) {
        DeviceKind::Refusals
    } else if has_any(&["class", "gatt", "command", "match"]) && !has_any(&["kind"]) {
        DeviceKind::Profile
    } else {
        DeviceKind::Serial
    }
}

/// Returns the `id` of a file without judging the rest.
pub(crate) fn peek_id(source: &Source) -> Option<String> {
    let (tree, _) = toml::de::DeTable::parse_recoverable(&source.text);
    tree.get_ref().get("id")?.get_ref().as_str().map(str::to_owned)
}
