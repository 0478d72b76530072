//! Where shipped data is found: a directory laid out like the repository, or the copies built into the binary.
//!
//! Never a mixture: a directory that has any of it must have all of it, so that a file missing by accident (a site's
//! limits, say) is a problem and not silently another one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::config::problem::{Problem, Source};
use crate::config::{Daemon, DeviceKind, daemon_file, device_file, device_kind, peek_id};
use crate::model::profile::Profile;

/// Folder of the treatment protocols.
pub(crate) const PROTOCOLS: &str = "protocols";
/// Folder of the device files.
pub(crate) const DEVICES: &str = "config/devices";
/// Folder of the sample plans.
pub(crate) const PLANS: &str = "config/plans";
/// Folder of the simulators' worlds.
pub(crate) const WORLDS: &str = "config/worlds";
/// The body areas.
pub(crate) const BODY_AREAS: &str = "config/clinical/body-areas.toml";
/// The daemon's settings.
pub(crate) const DAEMON: &str = "config/daemon.toml";

/// Every shipped file that a session reads, as it was when the binary was built.
pub const EMBEDDED: &[(&str, &str)] = &[
    (BODY_AREAS, include_str!("../../config/clinical/body-areas.toml")),
    (DAEMON, include_str!("../../config/daemon.toml")),
    ("config/devices/hasomed-p24.toml", include_str!("../../config/devices/hasomed-p24.toml")),
    ("config/devices/hasomed-rehamove3.toml", include_str!("../../config/devices/hasomed-rehamove3.toml")),
    ("config/devices/hypervolt-legacy.toml", include_str!("../../config/devices/hypervolt-legacy.toml")),
    ("config/devices/refused.toml", include_str!("../../config/devices/refused.toml")),
    ("config/devices/theragun-g4.toml", include_str!("../../config/devices/theragun-g4.toml")),
    ("config/devices/theragun-wave.toml", include_str!("../../config/devices/theragun-wave.toml")),
    ("config/plans/sample.toml", include_str!("../../config/plans/sample.toml")),
    ("config/worlds/default.toml", include_str!("../../config/worlds/default.toml")),
    ("config/worlds/rough.toml", include_str!("../../config/worlds/rough.toml")),
    ("protocols/nmes-strength-large.toml", include_str!("../../protocols/nmes-strength-large.toml")),
    ("protocols/percussion-standard.toml", include_str!("../../protocols/percussion-standard.toml")),
    ("protocols/tens-conventional.toml", include_str!("../../protocols/tens-conventional.toml")),
];

/// Where shipped data is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// `None`: the copies in the binary.
    root: Option<PathBuf>,
}

/// A file with its place in the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// For example `protocols/tens-conventional.toml`.
    pub(crate) name: String,
    pub(crate) source: Source,
}

impl Library {
    /// Opens the directory given, else the current one when it has any of the data, else the copies in the binary.
    pub fn open(config_dir: Option<&Path>) -> Self {
        if let Some(root) = config_dir {
            return Self { root: Some(root.to_owned()) };
        }
        let here = [PROTOCOLS, DEVICES, BODY_AREAS, DAEMON].iter().any(|name| Path::new(name).exists());
        Self { root: here.then(PathBuf::new) }
    }

    /// Returns the copies in the binary.
    pub const fn embedded() -> Self {
        Self { root: None }
    }

    /// Reads one file by its name in the library.
    #[expect(clippy::result_large_err, reason = "a file is read once; a problem is rare and shown whole")]
    pub(crate) fn read(&self, name: &str) -> Result<Source, Problem> {
        let Some(root) = &self.root else {
            let found = EMBEDDED.iter().find(|(known, _)| *known == name);
            let Some((name, text)) = found else {
                let missing = Source { path: PathBuf::from(name), text: Arc::from("") };
                let help = Some("name a file, or a directory with --config-dir".to_owned());
                return Err(missing.problem(None, format!("no {name} is built in"), "", help));
            };
            return Ok(built_in(name, text));
        };
        Source::read(&root.join(name))
    }

    /// Returns the daemon's settings; `None` when they cannot be read or hold a problem.
    pub fn daemon(&self) -> Option<Daemon> {
        daemon_file::load(&self.read(DAEMON).ok()?, &mut Vec::new())
    }

    /// Reads the device profile of a gun that a plan names (`UnitSource::Profile`).
    pub fn profile(&self, id: &str, problems: &mut Vec<Problem>) -> Option<Profile> {
        let named = |file: &Named| {
            device_kind(&file.source) == DeviceKind::Profile && peek_id(&file.source).as_deref() == Some(id)
        };
        let Some(file) = self.list(DEVICES, problems).into_iter().find(named) else {
            let missing = Source { path: PathBuf::from(DEVICES), text: Arc::from("") };
            problems.push(missing.problem(None, format!("no file has the device profile `{id}`"), "", None));
            return None;
        };
        device_file::load_profile(&file.source, problems)
    }

    /// Reads every `*.toml` of a folder of the library, in the order of their names.
    pub(crate) fn list(&self, folder: &str, problems: &mut Vec<Problem>) -> Vec<Named> {
        let Some(root) = &self.root else {
            let inside = |name: &str| Path::new(name).parent() == Some(Path::new(folder));
            let files = EMBEDDED.iter().filter(|(name, _)| inside(name));
            return files
                .map(|(name, text)| Named { name: (*name).to_owned(), source: built_in(name, text) })
                .collect();
        };
        let mut found = Vec::new();
        for path in toml_files(&root.join(folder), problems) {
            match Source::read(&path) {
                Ok(source) => found.push(Named { name: named(folder, &path), source }),
                Err(problem) => problems.push(problem),
            }
        }
        found
    }
}

/// Returns the `*.toml` files of a folder, sorted. A folder that cannot be read is a problem.
pub(crate) fn toml_files(folder: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let missing = Source { path: folder.to_owned(), text: Arc::from("") };
            let help = Some("check --config-dir and that this user may read it".to_owned());
            let message = format!("cannot read {}: {error}", folder.display());
            problems.push(missing.problem(None, message, "", help));
            return Vec::new();
        }
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    paths
}

/// Returns the digest that the record names a file by: SHA-256 of its bytes, in hexadecimal.
pub fn digest(text: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let written = write!(hex, "{byte:02x}");
        debug_assert!(written.is_ok(), "a String takes every text");
        hex
    })
}

pub(crate) fn built_in(name: &str, text: &'static str) -> Source {
    Source { path: Path::new("built-in").join(name), text: Arc::from(text) }
}

fn named(folder: &str, path: &Path) -> String {
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{folder}/{file}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sha_256_in_hexadecimal() {
        assert_eq!(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_named_directory_is_never_replaced_by_the_built_in_copies() {
        let empty = tempfile::tempdir().unwrap();
        let library = Library::open(Some(empty.path()));
        assert!(library.read(DAEMON).is_err());
        let mut problems = Vec::new();
        assert!(library.list(PROTOCOLS, &mut problems).is_empty());
        assert_eq!(problems.len(), 1, "an unreadable folder is a problem");
    }

    #[test]
    fn a_profile_is_found_by_its_id() {
        let mut problems = Vec::new();
        let profile = Library::embedded().profile("theragun-g4", &mut problems);
        assert_eq!(profile.map(|profile| profile.id).as_deref(), Some("theragun-g4"));
        assert!(problems.is_empty());
        assert!(Library::embedded().profile("hasomed-p24", &mut problems).is_none());
        assert_eq!(problems.len(), 1, "a stimulator is no gun");
    }

    #[test]
    fn built_in_files_are_found_by_name_and_by_folder() {
        let library = Library::embedded();
        assert!(library.read(BODY_AREAS).is_ok());
        assert!(library.read("protocols/none.toml").is_err());
        let names: Vec<String> =
            library.list(PROTOCOLS, &mut Vec::new()).into_iter().map(|file| file.name).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names.is_sorted());
    }
}
