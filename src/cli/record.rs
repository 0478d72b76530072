//! `doseward record`: read, verify and export the session record, also while a session runs.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::noted::{self, Noted};
use crate::cli::words::clock;
use crate::cli::{Outcome, chain, data_dir, print, say, sentence};
use crate::clock::Clock;
use crate::config::{self, Library};
use crate::model::dose::DoseId;
use crate::model::session::{Actor, SessionId};
use crate::record::entry::Stamp;
use crate::record::settle::{Resolve, Resolving};
use crate::record::store::{self, Reader, SessionSummary};
use crate::record::verify::{self, Audit};
use crate::record::{RecordError, export};
use crate::report::note;
use crate::units::{UnitError, parse_duration};

/// Read, verify and export the session record.
#[derive(Debug, Args)]
pub(crate) struct Record {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the sessions, or show the note of one
    Show {
        /// The session; `last` is the newest
        session: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Recompute every hash and report every damage
    Verify {
        /// An exported session; without it: the record
        file: Option<PathBuf>,
        /// A hash noted earlier, for example from a printed note: finds a record that was cut
        #[arg(long, value_name = "HASH")]
        anchor: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// List the uncertain doses that nobody has resolved
    OpenDoses {
        #[command(flatten)]
        place: Place,
    },
    /// Resolve one uncertain dose: what counts from now on, by whom and why
    Resolve {
        /// The session; `last` is the newest
        session: String,
        /// Number of the dose, as `open-doses` lists it
        dose: u64,
        /// Output time that counts, for example "12 s"; without it: the longest possible
        #[arg(long, value_name = "TIME")]
        gave: Option<Time>,
        /// The longest that `open-doses` showed, for example "32 s"; another one by now is refused
        #[arg(long, value_name = "TIME")]
        shown: Time,
        /// Why
        #[arg(long, value_parser = sentence)]
        reason: String,
        /// Who; without it: the user of this terminal
        #[arg(long, value_parser = sentence)]
        by: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Write one sealed session as a file that can be verified by itself
    Export {
        /// The session; `last` is the newest
        session: String,
        /// Where to write; without it: standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
struct Place {
    /// Where the record is kept
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Protocols, devices, areas and daemon.toml, laid out like the repository
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// The rehearsal record, of simulated units
    #[arg(long)]
    sim: bool,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("there is no record there yet: {}{}", path.display(), if *rehearsed { "; \
        the rehearsal record is there: add --sim" } else { "" })]
    NoneYet { path: PathBuf, rehearsed: bool },
    #[error("there is no such file: {}", path.display())]
    NoFile { path: PathBuf },
    #[error("{0}")]
    NoPlace(String),
    #[error("{0}")]
    Settings(String),
    #[error("A session is running. Settle this there with u, or when it is over")]
    Running,
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Record {
    pub(crate) fn run(self) -> Outcome {
        let done = match self.what {
            What::Show { session: None, place } => place.open().and_then(|reader| Ok(list(&reader)?)),
            What::Show { session: Some(session), place } => {
                place.dir().and_then(|dir| Ok(show(&dir, &session)?))
            }
            What::Verify { file, anchor, place } => audit(file, anchor.as_deref(), &place),
            What::OpenDoses { place } => place.open().and_then(|reader| Ok(open_doses(&reader)?)),
            What::Resolve { session, dose, gave, shown, reason, by, place } => {
                resolve(&place, (&session, dose), (gave, shown), (by, reason))
            }
            What::Export { session, to, place } => {
                place.open().and_then(|reader| Ok(written(&reader, &session, to)?))
            }
        };
        done.unwrap_or_else(|error| {
            say(&format!("{}.", chain(&error)));
            match error {
                Unusable::Record(error) => outcome_of(&error),
                Unusable::Settings(_) => Outcome::BadFile,
                Unusable::NoneYet { .. }
                | Unusable::NoFile { .. }
                | Unusable::NoPlace(_)
                | Unusable::Running => Outcome::Failed,
            }
        })
    }
}

/// Returns the exit code of a record that could not be used.
pub(crate) fn outcome_of(error: &RecordError) -> Outcome {
    match error {
        RecordError::Damaged { .. } | RecordError::Body { .. } | RecordError::CutShort { .. } => {
            Outcome::RecordDamaged
        }
        RecordError::Directory { .. }
        | RecordError::Gone { .. }
        | RecordError::Held { .. }
        | RecordError::Sql(_)
        | RecordError::DiskFull
        | RecordError::File(_)
        | RecordError::Newer { .. }
        | RecordError::NoSession
        | RecordError::AlreadyOpen { .. }
        | RecordError::Unsealed { .. }
        | RecordError::OutOfOrder { .. }
        | RecordError::Full { .. }
        | RecordError::NotCanonical { .. }
        | RecordError::NoSuchSession { .. }
        | RecordError::NotSealed { .. }
        | RecordError::Unwritable(_) => Outcome::Failed,
    }
}

impl Place {
    /// Returns the directory of a record that is there.
    fn dir(&self) -> Result<PathBuf, Unusable> {
        let dir = self.place(self.sim)?;
        if is_missing(&dir.join(store::FILE)) {
            Noted::read(&dir)?.check_file(&dir)?;
            let rehearsal = self.place(true)?;
            let rehearsed = !self.sim && !is_missing(&rehearsal.join(store::FILE));
            return Err(Unusable::NoneYet { path: dir, rehearsed });
        }
        Ok(dir)
    }

    fn place(&self, sim: bool) -> Result<PathBuf, Unusable> {
        let mut settings = None;
        if self.data.is_none() {
            let daemon = config::load_daemon(&Library::open(self.config_dir.as_deref()));
            settings = daemon.map_err(|problems| Unusable::Settings(config::render(&problems)))?.data_dir;
        }
        data_dir(self.data.clone(), settings, sim).map_err(Unusable::NoPlace)
    }

    fn open(&self) -> Result<Reader, Unusable> {
        Ok(Reader::open(&self.dir()?)?)
    }
}

/// Returns whether nothing is there; what is there and may not be read is not missing.
fn is_missing(path: &Path) -> bool {
    path.try_exists().is_ok_and(|there| !there)
}

fn list(reader: &Reader) -> Result<Outcome, RecordError> {
    Ok(print(&reader.sessions()?.iter().map(line).collect::<String>()))
}

/// Shows a note; of a damaged record it is no note, and says so first.
fn show(dir: &Path, session: &str) -> Result<Outcome, RecordError> {
    let audit = audited(dir, None)?;
    let warned = audit.damage.first().map(|damage| {
        print(&format!(
            "THE RECORD IS DAMAGED. What follows may not be what was given: rely on nothing in it.\n{damage}.\n\
             `doseward record verify` lists every damage.\n\n"
        ))
    });
    let reader = Reader::open(dir)?;
    let printed = print(&note::text(&reader, &named(&reader, session)?)?);
    Ok(if warned.is_some() { Outcome::RecordDamaged } else { printed })
}

fn line(summary: &SessionSummary) -> String {
    let state = if summary.sealed.is_some() { "sealed" } else { "open" };
    let simulated = if summary.simulated { ", simulated" } else { "" };
    format!(
        "{}  {}  {}  {} ({state}{simulated}, {} entries)\n",
        summary.session, summary.opened, summary.client, summary.plan_title, summary.entries
    )
}

fn named(reader: &Reader, session: &str) -> Result<SessionId, RecordError> {
    if session != "last" {
        return Ok(SessionId::new(session));
    }
    let newest = reader.sessions()?.into_iter().rfind(|summary| !summary.settling);
    let newest = newest.map(|summary| summary.session);
    newest.ok_or(RecordError::NoSession)
}

fn audit(file: Option<PathBuf>, anchor: Option<&str>, place: &Place) -> Result<Outcome, Unusable> {
    let path = match file {
        Some(path) if is_missing(&path) => return Err(Unusable::NoFile { path }),
        Some(path) if path.is_dir() && is_missing(&path.join(store::FILE)) => {
            return Err(Unusable::NoneYet { rehearsed: false, path });
        }
        Some(path) => path,
        None => place.dir()?,
    };
    let audit = audited(&path, anchor)?;
    let printed = print(&found(&audit));
    if audit.damage.is_empty() && audit.anchored != Some(false) {
        return Ok(printed);
    }
    Ok(Outcome::RecordDamaged)
}

/// Verifies a file, or a record with what the guard's journal beside it has noted.
fn audited(path: &Path, anchor: Option<&str>) -> Result<Audit, RecordError> {
    let noted = if path.is_dir() { Noted::read(path)? } else { Noted::default() };
    let mut audit = verify::path(path, anchor.or(noted.anchor.as_deref()))?;
    if path.is_dir() {
        let reader = Reader::open(path)?;
        // Where the database cannot be read at all, that is in the audit already.
        for session in noted.missing(&reader).unwrap_or_default() {
            let what = verify::What::Absent;
            audit.damage.push(verify::Damage { session: session.to_owned(), seq: None, what });
        }
    }
    Ok(audit)
}

fn found(audit: &Audit) -> String {
    let mut text = format!("{} sessions, {} entries.\n", audit.sessions, audit.entries);
    for damage in &audit.damage {
        text.push_str(&format!("Damaged: {damage}.\n"));
    }
    if let Some(session) = &audit.unsealed {
        text.push_str(&format!("Session {session} is not sealed: it runs now, or its end is missing.\n"));
    }
    match audit.anchored {
        Some(true) => text.push_str("The anchor is in the record.\n"),
        Some(false) => {
            text.push_str("The anchor is NOT in the record: its end was cut, or it is another record.\n")
        }
        None => {}
    }
    if audit.damage.is_empty() {
        let head = audit.head.as_deref().unwrap_or("none");
        text.push_str(&format!("No damage found. Last hash: {head}\n"));
    }
    text
}

/// A time span as it is written, for example "12 s".
#[derive(Clone, Copy, Debug)]
struct Time(Duration);

impl FromStr for Time {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_duration(text).map(Self)
    }
}

fn open_doses(reader: &Reader) -> Result<Outcome, RecordError> {
    let mut text = String::new();
    for session in reader.sessions()? {
        for recorded in reader.doses(&session.session)?.iter().filter(|dose| dose.is_open()) {
            let (least, most) = recorded.bounds_us();
            text.push_str(&format!(
                "{}  dose {}  {}  {}  at least {}, at most {}  (--shown \"{} s\")\n",
                session.session,
                recorded.dose.id.0,
                session.client,
                recorded.dose.place,
                clock(Duration::from_micros(least)),
                clock(whole(Duration::from_micros(most.max(least)))),
                whole(Duration::from_micros(most.max(least))).as_secs(),
            ));
        }
        if session.sealed.is_none() {
            text.push_str(&format!(
                "Session {} of {} is not closed. While it runs, settle there with u. Otherwise what it may have given is \
                 not counted yet: start doseward once, then look again.\n",
                session.session, session.client
            ));
        }
    }
    if text.is_empty() {
        say("No dose is uncertain.");
    }
    Ok(print(&text))
}

/// Returns a time rounded up to whole seconds.
fn whole(time: Duration) -> Duration {
    Duration::from_secs(time.saturating_add(Duration::from_nanos(999_999_999)).as_secs())
}

fn resolve(
    place: &Place,
    (session, dose): (&str, u64),
    (gave, shown): (Option<Time>, Time),
    (by, reason): (Option<String>, String),
) -> Result<Outcome, Unusable> {
    let dir = place.dir()?;
    let mut journal = noted::open(&dir).map_err(|error| {
        if matches!(error, RecordError::Held { .. }) { Unusable::Running } else { error.into() }
    })?;
    let reader = journal.reader()?;
    let session = named(&reader, session)?;
    let bounds = reader.doses(&session)?.into_iter().find(|it| it.dose.id.0 == dose).map(|it| it.bounds_us());
    let (least, most) = bounds.map_or((Duration::ZERO, shown.0), |(least, most)| {
        (Duration::from_micros(least), Duration::from_micros(most.max(least)))
    });
    // What is shown is rounded up to whole seconds.
    let shown = if whole(most) == shown.0 { most } else { shown.0 };
    // So is an answer at the longest.
    let gave = gave.map(|gave| if gave.0 == whole(most) { most } else { gave.0 });
    let person = by.unwrap_or_else(crate::cli::daemon::person);
    let asked = Resolve {
        session,
        dose: DoseId(dose),
        shown: (least, shown),
        gave,
        by: Actor { person, screen: "terminal".to_owned() },
        reason,
    };
    let now = Clock::start();
    let stamp = Stamp { mono: now.now(), wall: now.wall() };
    let between = |(least, most): (Duration, Duration)| {
        format!("at least {}, at most {}", clock(least), clock(whole(most)))
    };
    let (outcome, said) = match journal.resolve(stamp, &asked)? {
        Resolving::Done => (Outcome::Done, "It is resolved and on record.".to_owned()),
        Resolving::Already => (Outcome::Done, "It was resolved so before; nothing has changed.".to_owned()),
        Resolving::Otherwise(before) => (
            Outcome::Failed,
            format!("It was settled before: {} counts. Nothing has changed.", clock(whole(before))),
        ),
        Resolving::Stale(on) => {
            (Outcome::Failed, format!("The bounds are others by now: {}. Nothing has changed.", between(on)))
        }
        Resolving::Outside(on) => {
            (Outcome::Failed, format!("It gave {}. Nothing else is taken; nothing has changed.", between(on)))
        }
        Resolving::Unsigned => (Outcome::Usage, "A resolution needs a person and a reason.".to_owned()),
        Resolving::NoSuch => (Outcome::Failed, "There is no such uncertain dose: see open-doses.".to_owned()),
    };
    say(&said);
    Ok(outcome)
}

fn written(reader: &Reader, session: &str, to: Option<PathBuf>) -> Result<Outcome, RecordError> {
    let session = named(reader, session)?;
    let Some(path) = to else {
        export::session(reader, &session, &mut std::io::stdout().lock())?;
        return Ok(Outcome::Done);
    };
    let mut file = File::create_new(&path)?;
    let head = export::session(reader, &session, &mut file)?;
    file.flush()?;
    file.sync_all()?;
    say(&format!("Written to {}. Last hash: {head}", path.display()));
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(data: &Path, sim: bool) -> String {
        Place { data: Some(data.to_owned()), config_dir: None, sim }.dir().unwrap_err().to_string()
    }

    #[test]
    fn a_record_that_is_not_there_is_said_with_its_place_and_the_rehearsal_record_beside_it_is_named() {
        let data = tempfile::tempdir().unwrap();
        let rehearsal = data.path().join("rehearsal");
        let none = format!("there is no record there yet: {}", data.path().display());
        assert_eq!(missing(data.path(), false), none);
        assert_eq!(
            missing(data.path(), true),
            format!("there is no record there yet: {}", rehearsal.display())
        );
        std::fs::create_dir(&rehearsal).unwrap();
        std::fs::write(rehearsal.join(store::FILE), "").unwrap();
        assert_eq!(missing(data.path(), false), format!("{none}; the rehearsal record is there: add --sim"));
        let place = Place { data: Some(data.path().to_owned()), config_dir: None, sim: true };
        assert_eq!(place.dir().unwrap(), rehearsal);
    }

    #[test]
    fn the_record_is_where_the_settings_say_and_settings_with_a_problem_are_named() {
        let config = tempfile::tempdir().unwrap();
        let file = config.path().join("config/daemon.toml");
        std::fs::create_dir(config.path().join("config")).unwrap();
        std::fs::write(&file, "schema = 1\nid = \"d\"\ntitle = \"D\"\ndata_dir = \"/srv/doses\"\n").unwrap();
        let place = |data| Place { data, config_dir: Some(config.path().to_owned()), sim: true };
        assert_eq!(place(None).place(true).unwrap(), Path::new("/srv/doses/rehearsal"));
        std::fs::write(&file, "schema = 1\nid = \"d\"\ntitle = \"D\"\ndata_dri = \"/srv/doses\"\n").unwrap();
        let problem = place(None).place(true).unwrap_err();
        assert!(problem.to_string().contains("data_dri"), "{problem}");
        assert_eq!(place(Some("/given".into())).place(false).unwrap(), Path::new("/given"));
    }

    #[test]
    fn verify_names_a_file_that_is_not_there() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("none.jsonl");
        let place = Place { data: Some(data.path().to_owned()), config_dir: None, sim: false };
        let error = audit(Some(path.clone()), None, &place).unwrap_err();
        assert_eq!(error.to_string(), format!("there is no such file: {}", path.display()));
    }
}
