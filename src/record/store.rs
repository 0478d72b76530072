//! The database: its schema, and the reader. A reader has its own connection and works while a daemon writes.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use crate::model::dose::{Dose, Evidence};
use crate::model::plan::ClientCode;
use crate::model::session::SessionId;
use crate::record::RecordError;
use crate::record::entry::{Body, BodyError, DoseBody, SealReason, StoredEntry};
use crate::record::settle::{self, NarrowedBy, Resolution, Settled};
use crate::units::Mono;

/// Newest schema known. Migrations go forward only; a sample of every older one is read in `tests/record.rs`.
pub const SCHEMA: i64 = 1;

/// Name of the database in the data directory.
pub const FILE: &str = "record.db";

/// Makes schema 1. `n` is the order of all entries of the database; `signature` is empty in version 1.
pub(crate) const CREATE: &str = "
CREATE TABLE schema (version INTEGER NOT NULL, software TEXT NOT NULL) STRICT;
CREATE TABLE entry (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    v INTEGER NOT NULL,
    session TEXT NOT NULL,
    seq INTEGER NOT NULL,
    mono_us INTEGER NOT NULL,
    wall TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL,
    signature BLOB,
    UNIQUE (session, seq)
) STRICT;
CREATE INDEX entry_kind ON entry (kind, session);
CREATE TABLE progress (
    session TEXT NOT NULL,
    device INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    done INTEGER NOT NULL,
    after_seq INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (session, device, channel)
) STRICT;
";

/// The triggers that keep the record append-only, by name. The verifier compares them with these texts.
pub(crate) const TRIGGERS: [(&str, &str); 3] = [
    (
        "entry_no_update",
        "CREATE TRIGGER entry_no_update BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END",
    ),
    (
        "entry_no_delete",
        "CREATE TRIGGER entry_no_delete BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END",
    ),
    (
        "entry_no_replace",
        "CREATE TRIGGER entry_no_replace BEFORE INSERT ON entry WHEN EXISTS (SELECT 1 FROM entry WHERE n = NEW.n OR (session = NEW.session AND seq = NEW.seq)) BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END",
    ),
];

/// The columns of an entry, in the order [`stored`] reads them.
pub(crate) const COLUMNS: &str = "v, session, seq, mono_us, wall, kind, body, prev_hash, hash";

/// A connection that only reads.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

/// One session as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSummary {
    /// Which.
    pub session: SessionId,
    /// Whom it was for.
    pub client: ClientCode,
    /// What was planned.
    pub plan_title: String,
    /// Whether the units were simulated.
    pub simulated: bool,
    /// Wall clock of the first entry.
    pub opened: jiff::Timestamp,
    /// Wall clock of the last entry, with the reason; `None` while it is open (or its daemon died).
    pub sealed: Option<(jiff::Timestamp, SealReason)>,
    /// No treatment: uncertain doses of other sessions were settled in it.
    pub settling: bool,
    /// Identifier of the plan.
    pub plan_id: String,
    /// Boot of the machine and system monotonic clock at the session's origin, µs; the boot is missing in old records.
    pub boot: (Option<String>, u64),
    /// Number of entries.
    pub entries: u64,
    /// Hash of the newest entry.
    pub head: String,
}

/// One dose of a session, in the order of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedDose {
    /// Entry that holds it.
    pub seq: u64,
    /// Wall clock of that entry; of a recovered one, of the last entry before the crash.
    pub wall: jiff::Timestamp,
    /// Whether it was added by recovery after a crash.
    pub recovered: bool,
    /// The dose, as it was recorded.
    pub dose: Dose,
    /// What later sources leave of an uncertain one, and the newest of them.
    pub narrowed: Option<(NarrowedBy, Dose)>,
    /// How a person resolved an uncertain one.
    pub resolved: Option<Resolution>,
}

impl RecordedDose {
    /// Returns least and most of its output time, µs, as far as later sources narrowed it.
    pub fn bounds_us(&self) -> (u64, u64) {
        self.narrowed.as_ref().map_or(self.dose.on_us, |(_, narrowed)| narrowed.on_us)
    }

    /// Returns its end, as far as later sources narrowed it.
    pub fn until(&self) -> Mono {
        self.narrowed.as_ref().map_or(self.dose.until, |(_, narrowed)| narrowed.until)
    }

    /// Returns the output time that budgets count, µs: what a person resolved, else the upper bound.
    pub fn counted_us(&self) -> u64 {
        let (least, most) = self.bounds_us();
        let most = most.max(least);
        self.resolved.as_ref().map_or(most, |resolved| resolved.gave_us.clamp(least, most))
    }

    /// Returns whether it is uncertain and nobody has resolved it.
    pub fn is_open(&self) -> bool {
        self.dose.evidence == Evidence::Uncertain && self.resolved.is_none()
    }
}

impl Reader {
    /// Opens the record of a data directory for reading.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or a later version made it.
    pub fn open(dir: &Path) -> Result<Self, RecordError> {
        let path = dir.join(FILE);
        if let Err(source) = std::fs::metadata(&path) {
            return Err(RecordError::Directory { path, source });
        }
        match Self::connect(&path, OpenFlags::empty()) {
            Err(RecordError::Sql(_)) if !beside(&path, "-wal").exists() => {
                // A database at rest on a medium that cannot be written: nobody else can be writing it either.
                let uri = format!("file:{}?immutable=1", escape(&path));
                Self::connect(Path::new(&uri), OpenFlags::SQLITE_OPEN_URI)
            }
            other => other,
        }
    }

    fn connect(path: &Path, extra: OpenFlags) -> Result<Self, RecordError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | extra;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(std::time::Duration::from_millis(500))?;
        schema_of(&connection)?;
        Ok(Self { connection })
    }

    /// Reads what another connection of this process keeps in memory.
    pub(crate) fn in_memory(uri: &str) -> Result<Self, RecordError> {
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(uri, flags)?;
        // In memory both share one cache; without this a reader would hold up the writer.
        connection.execute_batch("PRAGMA read_uncommitted = 1")?;
        Ok(Self { connection })
    }

    /// Returns the connection, for the verifier.
    pub(crate) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns every session, oldest first.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn sessions(&self) -> Result<Vec<SessionSummary>, RecordError> {
        let opens = self.select("WHERE kind = 'open' ORDER BY n", &[])?;
        opens.iter().map(|open| self.summary(open)).collect()
    }

    fn summary(&self, open: &StoredEntry) -> Result<SessionSummary, RecordError> {
        let last = last_of(&self.connection, &open.session)?.unwrap_or_else(|| open.clone());
        let Body::Open { plan_id, plan_title, client, simulated, mono_origin_us, boot, .. } = body_of(open)?
        else {
            return Err(RecordError::Damaged {
                what: format!("session {} does not begin with its head", open.session),
            });
        };
        let sealed = if let Body::Seal { reason, .. } = body_of(&last)? {
            Some((wall_of(&last)?, reason))
        } else {
            None
        };
        Ok(SessionSummary {
            session: open.session(),
            client: ClientCode::new(client),
            plan_title,
            simulated,
            settling: plan_id == settle::PLAN_ID,
            plan_id,
            boot: (boot, mono_origin_us),
            opened: wall_of(open)?,
            sealed,
            entries: last.seq.saturating_add(1),
            head: last.hash,
        })
    }

    /// Returns every entry of a session, in order.
    ///
    /// # Errors
    /// When there is no such session, or the record cannot be read.
    pub fn entries(&self, session: &SessionId) -> Result<Vec<StoredEntry>, RecordError> {
        let found = self.select("WHERE session = ?1 ORDER BY seq", &[&session.as_str()])?;
        if found.is_empty() {
            return Err(RecordError::NoSuchSession { session: session.clone() });
        }
        Ok(found)
    }

    /// Returns every dose of a session, recovered ones included, in the order of the record.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn doses(&self, session: &SessionId) -> Result<Vec<RecordedDose>, RecordError> {
        let sql = "WHERE session = ?1 AND kind IN ('dose', 'recovered') ORDER BY seq";
        let found = self.select(sql, &[&session.as_str()])?;
        let lived =
            "WHERE session = ?1 AND kind NOT IN ('recovered', 'guard', 'seal') ORDER BY seq DESC LIMIT 1";
        let Some(last) = self.select(lived, &[&session.as_str()])?.pop() else {
            return Ok(Vec::new());
        };
        let settled = Settled::read(&self.connection)?;
        found.iter().filter_map(|entry| recorded(entry, &last, &settled).transpose()).collect()
    }

    /// Returns the stop frame that last stopped the unit of this label and profile, if one is known.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn learnt_stop(&self, label: &str, profile: &str) -> Result<Option<String>, RecordError> {
        // One entry for each change of mind about a unit: a record holds few of them.
        for entry in self.select("WHERE kind = 'stop_learnt' ORDER BY n DESC", &[])? {
            let Body::StopLearnt { device, frame } = body_of(&entry)? else {
                continue;
            };
            let heads = self.select("WHERE session = ?1 AND kind = 'open'", &[&entry.session])?;
            for head in heads {
                if let Body::Open { devices, .. } = body_of(&head)?
                    && let Some(unit) = devices.get(usize::from(device))
                    && unit.label == label
                    && unit.profile == profile
                {
                    return Ok(Some(frame));
                }
            }
        }
        Ok(None)
    }

    /// Returns whether the last hash of some session is this one.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn is_seal(&self, hash: &str) -> Result<bool, RecordError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM entry WHERE kind = 'seal' AND hash = ?1)";
        Ok(self.connection.query_row(sql, [hash], |row| row.get(0))?)
    }

    /// Returns whether the record has a session of this name.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn has_session(&self, session: &str) -> Result<bool, RecordError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM entry WHERE session = ?1)";
        Ok(self.connection.prepare_cached(sql)?.query_row([session], |row| row.get(0))?)
    }

    /// Returns the newest wall time on record; the day is never before it (SR-34).
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn newest_wall(&self) -> Result<Option<jiff::Timestamp>, RecordError> {
        let text: Option<String> =
            self.connection.query_row("SELECT max(wall) FROM entry", [], |row| row.get(0))?;
        text.map(|text| parse_wall(&text)).transpose()
    }

    pub(crate) fn select(
        &self,
        tail: &str,
        with: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<StoredEntry>, RecordError> {
        select(&self.connection, tail, with)
    }
}

/// Reads the entries that `tail` selects.
pub(crate) fn select(
    connection: &Connection,
    tail: &str,
    with: &[&dyn rusqlite::ToSql],
) -> Result<Vec<StoredEntry>, RecordError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM entry {tail}"))?;
    let rows = statement.query_map(with, stored)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Reads one row of [`COLUMNS`].
pub(crate) fn stored(row: &Row<'_>) -> rusqlite::Result<StoredEntry> {
    Ok(StoredEntry {
        v: row.get(0)?,
        session: row.get(1)?,
        seq: unsigned(row, 2)?,
        mono_us: unsigned(row, 3)?,
        wall: row.get(4)?,
        kind: row.get(5)?,
        body: row.get(6)?,
        prev_hash: row.get(7)?,
        hash: row.get(8)?,
    })
}

/// Reads a number that is never negative.
pub(crate) fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(index)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, number))
}

/// Returns the newest entry of a session.
fn last_of(connection: &Connection, session: &str) -> Result<Option<StoredEntry>, RecordError> {
    let sql = format!("SELECT {COLUMNS} FROM entry WHERE session = ?1 ORDER BY seq DESC LIMIT 1");
    Ok(connection.query_row(&sql, params![session], stored).optional()?)
}

/// Returns the newest entry of the database.
pub(crate) fn tail(connection: &Connection) -> Result<Option<StoredEntry>, RecordError> {
    let sql = format!("SELECT {COLUMNS} FROM entry ORDER BY n DESC LIMIT 1");
    Ok(connection.prepare_cached(&sql)?.query_row([], stored).optional()?)
}

/// Returns the schema version, refusing one that is not known.
pub(crate) fn schema_of(connection: &Connection) -> Result<i64, RecordError> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        return Err(RecordError::Damaged { what: format!("{FILE} is empty") });
    }
    let found: i64 = connection.query_row("SELECT max(version) FROM schema", [], |row| row.get(0))?;
    if found > SCHEMA {
        return Err(RecordError::Newer { found, known: SCHEMA });
    }
    Ok(found)
}

/// Reads the body of an entry, naming the entry when it cannot be read.
pub(crate) fn body_of(entry: &StoredEntry) -> Result<Body, RecordError> {
    entry.read().map_err(|source| unreadable(entry, source))
}

/// Names the entry whose body cannot be read.
pub(crate) fn unreadable(entry: &StoredEntry, source: BodyError) -> RecordError {
    RecordError::Body { session: entry.session(), seq: entry.seq, source }
}

/// Returns the wall clock of an entry.
pub(crate) fn wall_of(entry: &StoredEntry) -> Result<jiff::Timestamp, RecordError> {
    parse_wall(&entry.wall)
}

fn parse_wall(text: &str) -> Result<jiff::Timestamp, RecordError> {
    text.parse().map_err(|_| RecordError::Damaged { what: format!("`{text}` is not a wall time") })
}

fn recorded(
    entry: &StoredEntry,
    last: &StoredEntry,
    settled: &Settled,
) -> Result<Option<RecordedDose>, RecordError> {
    let body = body_of(entry)?;
    let Some(dose) = body.dose() else {
        return Ok(None);
    };
    let later = settled.of(&entry.session, dose.id);
    let read = |body: &DoseBody| Dose::try_from(body).map_err(|source| unreadable(entry, source));
    let narrowed = later.narrowed.map(|(by, body)| Ok::<_, RecordError>((by, read(&body)?))).transpose()?;
    let dose = read(dose)?;
    let recovered = matches!(body, Body::Recovered { .. });
    Ok(Some(RecordedDose {
        seq: entry.seq,
        wall: wall_of(if recovered { last } else { entry })?,
        recovered,
        dose,
        narrowed,
        resolved: later.resolved,
    }))
}

/// Returns the path of a file that SQLite keeps beside the database.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Escapes what has a meaning in an SQLite URI.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}
