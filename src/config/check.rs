//! `check`: start-up without starting. Every problem of the files named, or of everything shipped.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::config::library::{BODY_AREAS, DAEMON, DEVICES, Library, PLANS, PROTOCOLS, WORLDS, toml_files};
use crate::config::plan_file::{self, Knowledge};
use crate::config::problem::{Problem, Source};
use crate::config::{
    DeviceKind, clinical_file, daemon_file, device_file, device_kind, protocol_file, stimulator_file,
    world_file,
};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Protocol,
    Device,
    Clinical,
    Daemon,
    Plan,
    World,
    Unknown,
}

/// Checks files, or directories of them; none named: everything in the library. Knows a file's kind by its content.
pub fn check(library: &Library, paths: &[PathBuf]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let knowledge = Knowledge::load(library, &mut problems);
    if paths.is_empty() {
        check_library(library, knowledge.as_ref(), &mut problems);
    }
    for path in paths {
        let files = if path.is_dir() { toml_files(path, &mut problems) } else { vec![path.clone()] };
        for file in files {
            match Source::read(&file) {
                Ok(source) => check_one(&source, knowledge.as_ref(), &mut problems),
                Err(problem) => problems.push(problem),
            }
        }
    }
    let mut seen: Vec<Problem> = Vec::new();
    problems.retain(|problem| {
        let new = !seen.contains(problem);
        seen.push(problem.clone());
        new
    });
    problems
}

fn check_library(library: &Library, knowledge: Option<&Knowledge>, problems: &mut Vec<Problem>) {
    for folder in [PROTOCOLS, DEVICES, PLANS, WORLDS] {
        for file in library.list(folder, problems) {
            check_one(&file.source, knowledge, problems);
        }
    }
    problems.extend(knowledge.map(Knowledge::duplicates).unwrap_or_default());
}

fn check_one(source: &Source, knowledge: Option<&Knowledge>, problems: &mut Vec<Problem>) {
    match kind(source) {
        Kind::Protocol => {
            protocol_file::load(source, problems);
        }
        Kind::Device => match device_kind(source) {
            DeviceKind::Serial => {
                stimulator_file::load(source, problems);
            }
            DeviceKind::Profile => {
                device_file::load_profile(source, problems);
            }
            DeviceKind::Refusals => {
                device_file::load_refusals(source, problems);
            }
        },
        Kind::Clinical => {
            clinical_file::load(source, problems);
        }
        Kind::Daemon => {
            daemon_file::load(source, problems);
        }
        Kind::Plan => {
            // Without knowledge its own problems are reported already.
            if let Some(knowledge) = knowledge {
                plan_file::load(source, knowledge, problems);
            }
        }
        Kind::World => {
            world_file::judge(source, problems);
        }
        Kind::Unknown => {
            let help = format!("a plan, a protocol, a device, a world, {BODY_AREAS} or {DAEMON} is due");
            problems.push(source.problem(None, "this file is of no known kind", "", Some(help)));
        }
    }
}

/// Tells what a file is by where it lies, else by the keys it has.
fn kind(source: &Source) -> Kind {
    let ends = |end: &str| source.path.ends_with(end);
    let folder = source.path.parent().unwrap_or(Path::new(""));
    if ends(BODY_AREAS) {
        return Kind::Clinical;
    }
    if ends(DAEMON) {
        return Kind::Daemon;
    }
    let folders =
        [(PROTOCOLS, Kind::Protocol), (DEVICES, Kind::Device), (PLANS, Kind::Plan), (WORLDS, Kind::World)];
    for (name, kind) in folders {
        if folder.ends_with(name) {
            return kind;
        }
    }
    let (tree, errors) = DeTable::parse_recoverable(&source.text);
    let has = |key: &str| tree.get_ref().contains_key(key);
    if has("step") || has("client") {
        Kind::Plan
    } else if has("modality") {
        Kind::Protocol
    } else if has("area") || has("electrode_pair") {
        Kind::Clinical
    } else if has("kind") || has("class") || has("gatt") || has("refuse") {
        Kind::Device
    } else if has("seed") {
        Kind::World
    } else if has("lease") || has("site") || has("unit") || has("data_dir") {
        Kind::Daemon
    } else if !errors.is_empty() {
        // The plan reader says what is not TOML about it.
        Kind::Plan
    } else {
        Kind::Unknown
    }
}
