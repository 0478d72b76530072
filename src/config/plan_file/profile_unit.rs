//! INTERIM, to be replaced when the device-profile reader is merged: a Theragun's capability by hand.
//!
//! Replace the body of [`load`] by `device_file::load_profile(source, problems)` and its capability, delete
//! [`profile_capability`] and [`add_missing`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::library::{DEVICES, Named};
use crate::config::plan_file::{Known, Unit, UnitSource};
use crate::config::problem::{Problem, Source};
use crate::model::capability::{Capability, IntensityRange, RateBasis, Telemetry};
use crate::model::limit::Limits;
use crate::units::RawSpeed;

const THERAGUN: &str = "theragun-g4";

/// Reads a device profile of a gun.
pub(super) fn load(source: &Source, problems: &mut Vec<Problem>) -> Option<Unit> {
    let id = crate::config::peek_id(source).unwrap_or_default();
    let unit = profile_capability(&id);
    if unit.is_none() {
        let help = Some("this version knows theragun-g4 only".to_owned());
        problems.push(source.problem(None, format!("no reader for the device profile `{id}`"), "", help));
    }
    unit
}

/// Adds the Theragun when no file of the library has it.
pub(super) fn add_missing(units: &mut Vec<Known<Unit>>) {
    if units.iter().any(|unit| unit.id == THERAGUN) {
        return;
    }
    let name = format!("{DEVICES}/{THERAGUN}.toml");
    let source = Source { path: PathBuf::from(&name), text: Arc::from("") };
    let loaded = profile_capability(THERAGUN).ok_or_else(Vec::new);
    units.push(Known { id: THERAGUN.to_owned(), file: Named { name, source }, loaded });
}

/// Figures of percussion-ble 9.3, evidence `documented`.
fn profile_capability(id: &str) -> Option<Unit> {
    if id != THERAGUN {
        return None;
    }
    Some(Unit {
        title: "Theragun Gen 4 (PRO, Elite, Prime)".to_owned(),
        capability: Capability {
            channels: 1,
            intensity: IntensityRange::Speed {
                floor: RawSpeed::from_raw(1000),
                max: RawSpeed::from_raw(2400),
                top: RawSpeed::from_raw(3616),
                rise_per_s: 600,
            },
            pulse: None,
            keep_alive: None,
            stop_is_whole_unit: true,
            telemetry: Telemetry { suspect: Duration::from_millis(750), lost: Duration::from_secs(3) },
            acknowledge_within: Duration::from_millis(500),
            stop_tail: Duration::from_secs(1),
            battery_life: Duration::from_mins(150),
            rate_basis: RateBasis::WorstCase,
            limits: Limits {
                speed: Some(RawSpeed::from_raw(2400)),
                duration: Some(Duration::from_secs(120)),
                ..Limits::default()
            },
        },
        source: UnitSource::Profile(id.to_owned()),
        declaration: String::new(),
    })
}
