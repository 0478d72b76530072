//! Session plans: what is done, resolved against protocols, areas and devices into the plan that the governor runs.
//!
//! Every step comes out with its whole static limit chain. What a plan asks above a limit is a problem; what it asks
//! above *usual* is not (the run asks for a reason). What had to be rounded to the unit's grid, always downwards, is
//! said as advice.

use std::cell::OnceCell;
use std::path::Path;

use crate::config::clinical_file::{self, BodyAreas};
use crate::config::daemon_file::{self, Daemon};
use crate::config::library::{BODY_AREAS, DAEMON, DEVICES, Library, Named, PROTOCOLS, digest};
use crate::config::problem::{Problem, Source, nearest};
use crate::config::reader::{At, Reader, Table, join, text, whole};
use crate::config::stimulator_file::{self, Dialect};
use crate::config::{self, DeviceKind, device_file, device_kind, protocol_file};
use crate::model::area::AreaCode;
use crate::model::capability::Capability;
use crate::model::command::DeviceId;
use crate::model::plan::{ClientCode, Plan, PlannedDevice, Step};
use crate::model::protocol::Protocol;

mod beside;
mod step;
mod sums;

/// A plan with everything that governs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What the governor runs.
    pub plan: Plan,
    /// Every file that governs it, by name, with its SHA-256 in hexadecimal.
    pub files: Vec<(String, String)>,
    /// How to drive each unit of the plan, in the order of [`Plan::devices`].
    pub units: Vec<UnitSource>,
    /// The daemon's settings.
    pub daemon: Daemon,
    /// Every area that the body areas know.
    pub areas: Vec<AreaCode>,
    /// What the therapist should know before starting: grid rounding, low caps, short durations.
    pub advice: Vec<String>,
    /// The one line to be shown on the run screen and in the note for each unit that needs it (design 3.13).
    pub declarations: Vec<(DeviceId, String)>,
}

/// How to drive one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitSource {
    /// A serial neurostimulator.
    Stimulator {
        /// Its wire dialect.
        dialect: Dialect,
    },
    /// A gun with a device profile of this identifier.
    Profile(String),
}

/// A device file as far as plans need it.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) title: String,
    pub(crate) capability: Capability,
    pub(crate) source: UnitSource,
    /// The clinic lead's declaration; empty: none is needed.
    pub(crate) declaration: String,
}

/// Everything a plan is judged by.
pub(crate) struct Knowledge {
    daemon: Daemon,
    areas: BodyAreas,
    protocols: Vec<Known<Protocol>>,
    units: Vec<Known<Unit>>,
    /// Name and digest of the daemon file and the body areas.
    files: Vec<(String, String)>,
}

/// A file of a folder by its id. It is judged when a plan names it, and its problems are that plan's.
struct Known<T> {
    id: String,
    file: Named,
    load: fn(&Source, &mut Vec<Problem>) -> Option<T>,
    loaded: OnceCell<Result<T, Vec<Problem>>>,
}

impl<T> Known<T> {
    fn loaded(&self) -> &Result<T, Vec<Problem>> {
        self.loaded.get_or_init(|| {
            let mut problems = Vec::new();
            (self.load)(&self.file.source, &mut problems).ok_or(problems)
        })
    }
}

/// What a plan's steps and devices gather while they are judged.
pub(crate) struct Gathered {
    files: Vec<(String, String)>,
    problems: Vec<Problem>,
    advice: Vec<String>,
    /// What the steps book on the limits that hold for all of them together.
    booked: Vec<sums::Booked>,
}

/// Loads a plan with everything that governs it.
///
/// # Errors
/// Every problem of the plan and of the files it names.
pub fn load_plan(library: &Library, plan: &Path) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let source = Source::read(plan).map_err(|problem| problems.push(problem)).ok();
    let knowledge = Knowledge::load(library, &mut problems);
    if let (Some(source), Some(knowledge)) = (source, knowledge)
        && let Some(loaded) = load(&source, &knowledge, &mut problems)
        && problems.is_empty()
    {
        return Ok(loaded);
    }
    Err(problems)
}

/// Loads a plan that was read. Returns `None` exactly when problems were added.
pub(crate) fn load(source: &Source, knowledge: &Knowledge, problems: &mut Vec<Problem>) -> Option<Loaded> {
    let mut gathered =
        Gathered { files: Vec::new(), problems: Vec::new(), advice: Vec::new(), booked: Vec::new() };
    let judged = Reader::read(source, problems, |root| judge(root, knowledge, &mut gathered));
    let clean = gathered.problems.is_empty();
    problems.append(&mut gathered.problems);
    let (plan, units) = judged.filter(|_| clean)?;
    let name = source.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut files = vec![(name, digest(&source.text))];
    files.extend(knowledge.files.iter().cloned());
    gathered.files.sort();
    gathered.files.dedup();
    files.append(&mut gathered.files);
    let declared = units.iter().enumerate().filter(|(_, unit)| !unit.declaration.is_empty());
    let declarations = declared
        .filter_map(|(position, unit)| {
            Some((DeviceId(u8::try_from(position).ok()?), unit.declaration.clone()))
        })
        .collect();
    Some(Loaded {
        plan,
        files,
        units: units.into_iter().map(|unit| unit.source).collect(),
        daemon: knowledge.daemon.clone(),
        areas: knowledge.areas.iter().map(|area| area.code.clone()).collect(),
        advice: gathered.advice,
        declarations,
    })
}

impl Knowledge {
    /// Loads what every plan is judged by. Problems of protocols and devices wait until a plan names them.
    pub(crate) fn load(library: &Library, problems: &mut Vec<Problem>) -> Option<Self> {
        let read = |name: &str, problems: &mut Vec<Problem>| {
            library.read(name).map_err(|problem| problems.push(problem)).ok()
        };
        let (daemon, areas) = (read(DAEMON, problems), read(BODY_AREAS, problems));
        let protocols = known(library, PROTOCOLS, problems, protocol_file::load);
        let units = known(library, DEVICES, problems, load_unit);
        let (daemon, areas) = (daemon?, areas?);
        let files =
            vec![(DAEMON.to_owned(), digest(&daemon.text)), (BODY_AREAS.to_owned(), digest(&areas.text))];
        let daemon = daemon_file::load(&daemon, problems);
        let areas = clinical_file::load(&areas, problems);
        Some(Self { daemon: daemon?, areas: areas?, protocols, units, files })
    }

    /// Returns the ids that more than one file of a folder has, as problems.
    pub(crate) fn duplicates(&self) -> Vec<Problem> {
        let mut found = duplicates(&self.protocols);
        found.append(&mut duplicates(&self.units));
        found
    }
}

/// Reads a device file that a plan can name.
fn load_unit(source: &Source, problems: &mut Vec<Problem>) -> Option<Unit> {
    if device_kind(source) == DeviceKind::Profile {
        let profile = device_file::load_profile(source, problems)?;
        if profile.gate.is_some() {
            let message =
                format!("the device profile `{}` has a gate, which this version does not open", profile.id);
            let help = "the unit can be identified only; do its step by hand".to_owned();
            problems.push(source.problem(None, message, "", Some(help)));
            return None;
        }
        return Some(Unit {
            title: profile.title.clone(),
            capability: profile.capability(None),
            source: UnitSource::Profile(profile.id),
            declaration: String::new(),
        });
    }
    let unit = stimulator_file::load(source, problems)?;
    Some(Unit {
        title: unit.title,
        capability: unit.capability,
        source: UnitSource::Stimulator { dialect: unit.dialect },
        declaration: unit.declaration,
    })
}

fn known<T>(
    library: &Library,
    folder: &str,
    problems: &mut Vec<Problem>,
    load: fn(&Source, &mut Vec<Problem>) -> Option<T>,
) -> Vec<Known<T>> {
    let read = |file: Named| {
        let id = config::peek_id(&file.source).unwrap_or_default();
        Known { id, file, load, loaded: OnceCell::new() }
    };
    let refuses = |file: &Named| device_kind(&file.source) == DeviceKind::Refusals;
    library.list(folder, problems).into_iter().filter(|file| !refuses(file)).map(read).collect()
}

fn duplicates<T>(known: &[Known<T>]) -> Vec<Problem> {
    let twice = known.iter().enumerate().filter(|(position, one)| {
        !one.id.is_empty() && known.iter().take(*position).any(|earlier| earlier.id == one.id)
    });
    let problem = |one: &Known<T>| {
        let help = Some("give each file its own `id`".to_owned());
        one.file.source.problem(None, format!("the id `{}` is in more than one file", one.id), "", help)
    };
    twice.map(|(_, one)| problem(one)).collect()
}

/// Finds a file by the id that a plan names; an unknown one, or one with problems, is reported.
fn find<'k, T>(
    known: &'k [Known<T>],
    id: &At<String>,
    what: &str,
    table: &Table<'_>,
    gathered: &mut Gathered,
) -> Option<&'k T> {
    let mut matching = known.iter().filter(|one| one.id == id.value);
    let Some(found) = matching.next() else {
        let ids = known.iter().map(|one| one.id.as_str()).filter(|id| !id.is_empty());
        let help = match nearest(&id.value, ids.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known: {}", join(ids)),
        };
        let message = format!("{} names the {what} `{}`, which no file has", table.name(), id.value);
        table.push(Some(id.span.clone()), message, format!("no such {what}"), Some(help));
        return None;
    };
    if matching.next().is_some() {
        let message = format!("the {what} `{}` is in more than one file", id.value);
        table.push(Some(id.span.clone()), message, "", Some("give each file its own `id`".to_owned()));
    }
    match found.loaded() {
        Ok(loaded) => {
            gathered.files.push((found.file.name.clone(), digest(&found.file.source.text)));
            Some(loaded)
        }
        Err(problems) => {
            for problem in problems {
                if !gathered.problems.contains(problem) {
                    gathered.problems.push(problem.clone());
                }
            }
            None
        }
    }
}

/// Most devices and steps of one plan.
const DEVICES_MAX: usize = 8;
const STEPS_MAX: usize = 60;

fn judge(root: &Table<'_>, knowledge: &Knowledge, gathered: &mut Gathered) -> Option<(Plan, Vec<Unit>)> {
    let head = config::head(root);
    let client = root.required("client", text);
    let sessions_per_week = root.optional("sessions_per_week", whole(1, 14));
    let device_tables = root.tables("device", "device");
    let step_tables = root.tables("step", "step");
    let beside_tables = root.tables("together", "pair");
    root.close();
    for (key, count, most) in
        [("device", device_tables.len(), DEVICES_MAX), ("step", step_tables.len(), STEPS_MAX)]
    {
        if count == 0 && !root.has(key) {
            root.missing_tables(key);
        } else if count == 0 || count > most {
            let message = format!("the plan has {count} of [[{key}]]");
            root.push(root.key_span(key), message, format!("1 to {most} are due"), None);
        }
    }
    if device_tables.len() > DEVICES_MAX || step_tables.len() > STEPS_MAX {
        return None;
    }
    let devices: Vec<_> =
        device_tables.iter().map(|table| judge_device(table, knowledge, gathered)).collect();
    for (position, device) in devices.iter().enumerate() {
        let Some((label, _)) = device else {
            continue;
        };
        let same =
            |earlier: &&Option<Listed<'_>>| earlier.as_ref().is_some_and(|it| it.0.value == label.value);
        if devices.iter().take(position).any(|earlier| same(&earlier)) {
            let message = format!("the label `{}` is there twice", label.value);
            root.push(Some(label.span.clone()), message, "", Some("list every unit once".to_owned()));
        }
    }
    let steps: Vec<Option<Step>> = (1..)
        .zip(&step_tables)
        .map(|(number, table)| step::judge(number, table, &devices, knowledge, gathered))
        .collect();
    sums::judge(root, &gathered.booked);
    let (head, devices) = (head?, devices.into_iter().collect::<Option<Vec<_>>>()?);
    let units: Vec<Unit> = devices.iter().map(|(_, (_, unit))| (*unit).clone()).collect();
    let planned = devices.into_iter().map(|(label, (profile, unit))| PlannedDevice {
        label: label.value,
        profile,
        capability: unit.capability.clone(),
    });
    let mut plan = Plan {
        together: Vec::new(),
        beside: Vec::new(),
        sessions_per_week: sessions_per_week.and_then(|sessions| u8::try_from(sessions.value).ok()),
        id: head.id.value,
        title: head.title,
        client: ClientCode::new(client?.value),
        devices: planned.collect(),
        steps: steps.into_iter().collect::<Option<_>>()?,
    };
    plan.together = step::together(&plan, knowledge, gathered);
    plan.beside = beside::judge(&beside_tables, &plan)?;
    Some((plan, units))
}

/// A device of the plan: its label, its profile's id, and what the profile says.
type Listed<'k> = (At<String>, (String, &'k Unit));

fn judge_device<'k>(
    table: &Table<'_>,
    knowledge: &'k Knowledge,
    gathered: &mut Gathered,
) -> Option<Listed<'k>> {
    let label = table.required("label", text);
    let profile = table.required("profile", text);
    table.close();
    let profile = profile?;
    let unit = find(&knowledge.units, &profile, "device profile", table, gathered);
    Some((label?, (profile.value, unit?)))
}
