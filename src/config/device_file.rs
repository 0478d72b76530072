//! Device profiles: TOML to [`Profile`] under the load rules of percussion-ble 9.4, all problems at once.
//!
//! Never a profile that a rule speaks against: a speed or a run above the cap of its evidence, a frame that does not
//! render, an example that does not hold. A profile is data; nothing in the file computes.
//!
//! The *canonical form* that the digest covers is the file's own data as JSON without spaces, keys in byte order, so
//! that comments and layout do not count.

mod judge;
mod raw;
mod refused;

use sha2::{Digest, Sha256};

use super::problem::{Problem, Source};
use crate::model::profile::Profile;
use crate::model::profile::matching::{Catalogue, Refusal};

/// Profiles and refusals that the program ships, by file name.
pub const BUILT_IN: [(&str, &str); 4] = [
    ("config/devices/theragun-g4.toml", include_str!("../../config/devices/theragun-g4.toml")),
    ("config/devices/theragun-wave.toml", include_str!("../../config/devices/theragun-wave.toml")),
    ("config/devices/hypervolt-legacy.toml", include_str!("../../config/devices/hypervolt-legacy.toml")),
    ("config/devices/refused.toml", include_str!("../../config/devices/refused.toml")),
];

/// Reads one device profile.
pub fn load_profile(source: &Source, problems: &mut Vec<Problem>) -> Option<Profile> {
    let raw = source.parse::<raw::Profile>(problems)?;
    let digest = digest(source, problems)?;
    judge::profile(raw, digest, source, problems)
}

/// Reads a list of devices to refuse.
pub fn load_refusals(source: &Source, problems: &mut Vec<Problem>) -> Option<Vec<Refusal>> {
    let raw = source.parse::<raw::Refused>(problems)?;
    refused::refusals(raw, source, problems)
}

/// Reads what the program ships.
pub fn built_in(problems: &mut Vec<Problem>) -> Catalogue {
    let mut catalogue = Catalogue::default();
    for (path, text) in BUILT_IN {
        let source = Source { path: path.into(), text: text.into() };
        if path.ends_with("refused.toml") {
            catalogue.refusals.extend(load_refusals(&source, problems).unwrap_or_default());
        } else {
            catalogue.profiles.extend(load_profile(&source, problems));
        }
    }
    catalogue
}

/// Adds a user's profile to a catalogue. A known id is a problem: built-in profiles cannot be replaced.
pub fn add_profile(source: &Source, catalogue: &mut Catalogue, problems: &mut Vec<Problem>) {
    let Some(profile) = load_profile(source, problems) else {
        return;
    };
    if catalogue.profiles.iter().any(|known| known.id == profile.id) {
        problems.push(source.problem(
            None,
            format!("profile `{}` exists already", profile.id),
            "",
            Some("choose another id; a built-in profile cannot be replaced".to_owned()),
        ));
        return;
    }
    catalogue.profiles.push(profile);
}

/// Returns the SHA-256 of the canonical form, 64 hex digits.
fn digest(source: &Source, problems: &mut Vec<Problem>) -> Option<String> {
    let table = source.parse::<std::collections::BTreeMap<String, toml::Value>>(problems)?;
    let sorted: serde_json::Map<String, serde_json::Value> =
        table.into_iter().map(|(key, value)| (key, canonical(value))).collect();
    match serde_json::to_vec(&sorted) {
        Ok(bytes) => Some(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()),
        Err(error) => {
            problems.push(source.problem(None, format!("has no canonical form: {error}"), "", None));
            None
        }
    }
}

fn canonical(value: toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(canonical).collect(),
        toml::Value::Table(table) => {
            let sorted: std::collections::BTreeMap<String, serde_json::Value> =
                table.into_iter().map(|(key, value)| (key, canonical(value))).collect();
            serde_json::Value::Object(sorted.into_iter().collect())
        }
    }
}

#[cfg(test)]
mod tests;
