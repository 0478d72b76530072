//! The verifier: recomputes every hash and every link of a database or an exported file, and names each damage.
//!
//! What it can find without an anchor: every entry edited, removed, added or moved, up to the record's own end. A tail
//! that was cut off *whole* shows only against an anchor, a head hash kept elsewhere (a printed note, the guard's
//! journal). It never repairs.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use rusqlite::Connection;

use crate::model::session::SessionId;
use crate::record::RecordError;
use crate::record::entry::{Body, GENESIS, StoredEntry, VERSION};
use crate::record::store::{self, Reader};

/// What the verifier found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Sessions seen.
    pub sessions: u64,
    /// Entries seen.
    pub entries: u64,
    /// Hash of the last entry.
    pub head: Option<String>,
    /// The last session, when it is not sealed: it runs now, its daemon died, or its end was cut.
    pub unsealed: Option<SessionId>,
    /// Whether the anchor was found; `None` when none was given.
    pub anchored: Option<bool>,
    /// Every damage, in the order of the record.
    pub damage: Vec<Damage>,
}

/// One damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Session, when one can be named.
    pub session: String,
    /// Entry, when one can be named.
    pub seq: Option<u64>,
    /// What is wrong.
    pub what: What,
}

/// What is wrong with an entry or the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The content is not what was hashed.
    Edited,
    /// Entries before this one are missing.
    Missing {
        /// The number that was due.
        expected: u64,
    },
    /// The entry stands where an earlier number should not.
    Moved {
        /// The number that was due.
        expected: u64,
    },
    /// The link to the entry before it does not hold.
    Link,
    /// The session does not begin with its opening entry.
    NotOpened,
    /// The session ends without a seal although something follows, or in an export.
    NotSealed,
    /// An entry follows the seal.
    AfterSeal,
    /// The session's entries do not stand together.
    Scattered,
    /// The seal counts another number of entries.
    Count,
    /// A field cannot be read, holds a line break, or is not of a known version.
    Unreadable {
        /// Why, in words.
        why: String,
    },
    /// A line of an export is not in its exact form.
    Form {
        /// Number of the line, from 1.
        line: u64,
    },
    /// A trigger that keeps the record append-only is missing or changed.
    Trigger {
        /// Which.
        name: String,
    },
    /// The anchor is not in the record: its tail was cut, or it is another record.
    Anchor,
    /// The guard's journal names this session.
    Absent,
    /// The database file itself is damaged.
    File {
        /// In SQLite's words.
        why: String,
    },
}

impl Audit {
    /// Returns whether nothing is damaged.
    pub const fn sound(&self) -> bool {
        self.damage.is_empty()
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} sessions, {} entries", self.sessions, self.entries)?;
        for damage in &self.damage {
            writeln!(f, "damaged: {damage}")?;
        }
        if let Some(session) = &self.unsealed {
            writeln!(f, "session {session} is not sealed: it is running, or its daemon died")?;
        }
        match (self.sound(), self.anchored) {
            (false, _) => f.write_str("the record is damaged"),
            (true, Some(_)) => {
                f.write_str("complete: every hash and link holds, and the anchor is in the record")
            }
            (true, None) => f.write_str(
                "complete up to its own end: every hash and link holds; give an anchor to find a cut tail",
            ),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.session.as_str(), self.seq) {
            ("", _) => {}
            (session, Some(seq)) => write!(f, "session {session}, entry {seq}: ")?,
            (session, None) => write!(f, "session {session}: ")?,
        }
        match &self.what {
            What::Edited => f.write_str("its content is not what was hashed"),
            What::Missing { expected } => write!(f, "entry {expected} should stand here; it is missing"),
            What::Moved { expected } => {
                write!(f, "entry {expected} should stand here; the order was changed")
            }
            What::Link => f.write_str("its link to the entry before it does not hold"),
            What::NotOpened => f.write_str("the session does not begin with its opening entry"),
            What::NotSealed => f.write_str("the session ends without its seal"),
            What::AfterSeal => f.write_str("it follows the seal of its session"),
            What::Scattered => f.write_str("the entries of this session do not stand together"),
            What::Count => f.write_str("the seal counts another number of entries"),
            What::Unreadable { why } => write!(f, "it cannot be read: {why}"),
            What::Form { line } => write!(f, "line {line} is not in the exact form of an export"),
            What::Trigger { name } => {
                write!(f, "the trigger {name} that keeps it append-only is missing or changed")
            }
            What::Anchor => {
                f.write_str("the anchor is not in it: its tail was cut, or this is another record")
            }
            What::Absent => f.write_str("it is missing: the guard's journal beside the record names it"),
            What::File { why } => write!(f, "the database file is damaged: {why}"),
        }
    }
}

/// Verifies a data directory or an exported file.
///
/// # Errors
/// When there is nothing to read. Damage is no error: it is in the audit.
pub fn path(path: &Path, anchor: Option<&str>) -> Result<Audit, RecordError> {
    if path.is_dir() {
        return database(&Reader::open(path)?, anchor);
    }
    Ok(export(&std::fs::read(path)?, anchor))
}

/// Verifies a whole database.
///
/// # Errors
/// When it cannot be opened. Damage is no error: it is in the audit.
pub fn database(reader: &Reader, anchor: Option<&str>) -> Result<Audit, RecordError> {
    let connection = reader.connection();
    let mut checker = Checker::new(anchor, Some(GENESIS));
    checker.file(connection);
    if let Err(error) = walk(connection, "ORDER BY n", &mut checker) {
        checker.damage("", None, What::File { why: error.to_string() });
    }
    Ok(checker.finish(true))
}

/// Verifies the last session of a database, the triggers and the count of rows: the check at opening.
pub(crate) fn tail(connection: &Connection) -> Result<Audit, RecordError> {
    let mut checker = Checker::new(None, None);
    checker.triggers(connection)?;
    checker.count(connection)?;
    walk(
        connection,
        "WHERE session = (SELECT session FROM entry ORDER BY n DESC LIMIT 1) ORDER BY n",
        &mut checker,
    )?;
    Ok(checker.finish(true))
}

/// Verifies an exported session.
pub fn export(bytes: &[u8], anchor: Option<&str>) -> Audit {
    let mut checker = Checker::new(anchor, None);
    let mut number = 0u64;
    let mut rest = bytes;
    while !rest.is_empty() {
        number = number.saturating_add(1);
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
        match exact(line).filter(|_| end.is_some()) {
            Some(entry) => checker.entry(&entry),
            None => checker.damage("", None, What::Form { line: number }),
        }
        rest = after.strip_prefix(b"\n").unwrap_or(after);
    }
    if number == 0 {
        checker.damage("", None, What::Form { line: 1 });
    }
    checker.finish(false)
}

/// Reads a line of an export; `None` unless it is exactly what would be written for what it says.
fn exact(line: &[u8]) -> Option<StoredEntry> {
    let entry: StoredEntry = serde_json::from_slice(line).ok()?;
    let again = serde_json::to_string(&entry).ok()?;
    if again.as_bytes() == line { Some(entry) } else { None }
}

/// Feeds the selected entries to the checker, with what stands beside the chain.
fn walk(connection: &Connection, tail: &str, checker: &mut Checker) -> rusqlite::Result<()> {
    let sql = format!("SELECT {}, n, signature IS NULL FROM entry {tail}", store::COLUMNS);
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut due: Option<i64> = None;
    while let Some(row) = rows.next()? {
        let n: i64 = row.get(9)?;
        if due.is_some_and(|due| due != n) {
            checker.damage(
                "",
                None,
                What::Unreadable { why: format!("row {n} follows row {}", n.saturating_sub(1)) },
            );
        }
        due = Some(n.saturating_add(1));
        match store::stored(row) {
            Ok(entry) => {
                checker.entry(&entry);
                if !row.get::<_, bool>(10)? {
                    let why = "version 1 has no signature, this entry has one".to_owned();
                    checker.damage(&entry.session, Some(entry.seq), What::Unreadable { why });
                }
            }
            Err(error) => {
                checker.damage("", None, What::Unreadable { why: format!("row {n}: {error}") });
            }
        }
    }
    Ok(())
}

/// Walks a chain.
struct Checker {
    anchor: Option<String>,
    audit: Audit,
    seen: BTreeSet<String>,
    /// The entry before; `Err` holds what the first entry must link to, when that is known.
    before: Result<Before, Option<String>>,
}

struct Before {
    session: String,
    seq: u64,
    hash: String,
    sealed: bool,
}

impl Checker {
    fn new(anchor: Option<&str>, first_link: Option<&str>) -> Self {
        let tidy =
            |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
        let anchor = anchor.map(tidy);
        let audit = Audit { anchored: anchor.as_ref().map(|_| false), ..Audit::default() };
        Self { anchor, audit, seen: BTreeSet::new(), before: Err(first_link.map(str::to_owned)) }
    }

    fn damage(&mut self, session: &str, seq: Option<u64>, what: What) {
        self.audit.damage.push(Damage { session: session.to_owned(), seq, what });
    }

    /// Checks one entry in itself and against the one before.
    fn entry(&mut self, entry: &StoredEntry) {
        let at = Some(entry.seq);
        self.audit.entries = self.audit.entries.saturating_add(1);
        if let Some(field) = entry.broken_field() {
            let why = format!("its {field} holds a line break");
            self.damage(&entry.session, at, What::Unreadable { why });
        }
        if entry.v != VERSION {
            let why = format!("version {} is not known", entry.v);
            self.damage(&entry.session, at, What::Unreadable { why });
        }
        if entry.digest() != entry.hash {
            self.damage(&entry.session, at, What::Edited);
        }
        self.place(entry);
        let sealed = self.content(entry);
        if self.anchor.as_ref() == Some(&entry.hash) {
            self.audit.anchored = Some(true);
        }
        self.audit.head = Some(entry.hash.clone());
        self.before =
            Ok(Before { session: entry.session.clone(), seq: entry.seq, hash: entry.hash.clone(), sealed });
    }

    /// Checks where the entry stands.
    fn place(&mut self, entry: &StoredEntry) {
        let mut found = Vec::new();
        let (link, same) = match &self.before {
            Err(first) => (first.clone(), None),
            Ok(before) => {
                (Some(before.hash.clone()), Some(before).filter(|before| before.session == entry.session))
            }
        };
        if link.is_some_and(|link| link != entry.prev_hash) {
            found.push((entry.session.clone(), Some(entry.seq), What::Link));
        }
        if let Some(before) = same {
            let expected = before.seq.saturating_add(1);
            if before.sealed {
                found.push((entry.session.clone(), Some(entry.seq), What::AfterSeal));
            }
            if entry.seq > expected {
                found.push((entry.session.clone(), Some(entry.seq), What::Missing { expected }));
            } else if entry.seq < expected {
                found.push((entry.session.clone(), Some(entry.seq), What::Moved { expected }));
            }
        } else {
            if let Ok(before) = self.before.as_ref().map_err(|_| ())
                && !before.sealed
            {
                found.push((before.session.clone(), Some(before.seq), What::NotSealed));
            }
            self.audit.sessions = self.audit.sessions.saturating_add(1);
            if !self.seen.insert(entry.session.clone()) {
                found.push((entry.session.clone(), Some(entry.seq), What::Scattered));
            }
            if entry.seq != 0 || entry.kind != "open" {
                found.push((entry.session.clone(), Some(entry.seq), What::NotOpened));
            }
        }
        for (session, seq, what) in found {
            self.damage(&session, seq, what);
        }
    }

    /// Checks what the entry says; returns whether it is a seal.
    fn content(&mut self, entry: &StoredEntry) -> bool {
        let body = match entry.read() {
            Ok(body) => body,
            Err(error) => {
                self.damage(&entry.session, Some(entry.seq), What::Unreadable { why: error.to_string() });
                return entry.kind == "seal";
            }
        };
        if matches!(body, Body::Open { .. }) && entry.seq != 0 {
            self.damage(&entry.session, Some(entry.seq), What::NotOpened);
        }
        let Body::Seal { entries, .. } = body else {
            return false;
        };
        if entries != entry.seq.saturating_add(1) {
            self.damage(&entry.session, Some(entry.seq), What::Count);
        }
        true
    }

    /// Checks the database file, its triggers, and that no row was taken off its end.
    fn file(&mut self, connection: &Connection) {
        let checked: rusqlite::Result<String> =
            connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
        match checked {
            Ok(word) if word == "ok" => {}
            Ok(why) => self.damage("", None, What::File { why }),
            Err(error) => self.damage("", None, What::File { why: error.to_string() }),
        }
        if let Err(error) = self.triggers(connection) {
            self.damage("", None, What::File { why: error.to_string() });
        }
        if let Err(error) = self.count(connection) {
            self.damage("", None, What::File { why: error.to_string() });
        }
    }

    /// Checks the rows against the database's own count of them.
    fn count(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'entry'), 0), coalesce(max(n), 0), coalesce(min(n), 1) FROM entry";
        let (counted, last, first): (i64, i64, i64) =
            connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        if counted != last || first != 1 {
            let why = format!("the database has counted {counted} entries and holds rows {first} to {last}");
            self.damage("", None, What::Unreadable { why });
        }
        Ok(())
    }

    fn triggers(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?1";
        for (name, expected) in store::TRIGGERS {
            let found: Option<String> =
                rusqlite::OptionalExtension::optional(connection.query_row(sql, [name], |row| row.get(0)))?;
            if found.as_deref() != Some(expected) {
                self.damage("", None, What::Trigger { name: name.to_owned() });
            }
        }
        Ok(())
    }

    /// Ends the walk. A database may end with a session that still runs; an export may not.
    fn finish(mut self, may_run: bool) -> Audit {
        let unsealed = self.before.as_ref().ok().filter(|before| !before.sealed);
        if let Some((session, seq)) = unsealed.map(|before| (before.session.clone(), before.seq)) {
            if may_run {
                self.audit.unsealed = Some(SessionId::new(session));
            } else {
                self.damage(&session, Some(seq), What::NotSealed);
            }
        }
        if self.audit.anchored == Some(false) {
            self.damage("", None, What::Anchor);
        }
        self.audit
    }
}
