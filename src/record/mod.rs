//! The session record: what was given, by whom, in what order; append-only, hash-chained, crash-safe.
//!
//! One writer ([`journal::Journal`], blocking, no tokio; the runtime gives it a thread), any number of readers
//! ([`store::Reader`]) on connections of their own, also in other processes. The format, with commands that recompute
//! a hash by hand, is in `docs/record-format.md`.
//!
//! ```text
//!  begin --> open(0) --> entries 1.. --> seal            one session; its `open` links to the previous session's seal
//!                          |
//!                          +-- daemon dies --> recover: `recovered` entries --> seal (reason daemon_restart)
//! ```
//!
//! Invariants:
//! - never an entry changed, removed or put between two others without [`verify`] finding it;
//! - never a hole: after a crash at any point the record is a prefix of what was appended;
//! - never a dose forgotten: what may have been given after the last durable word is added as an uncertain interval
//!   with its upper bound ([`recover`]);
//! - never an uncertain dose wider than it was: later sources and people only narrow it ([`settle`]), and what was there
//!   before stays on record;
//! - damage is reported, never repaired.

pub mod daily;
pub mod entry;
pub mod export;
pub mod journal;
pub mod recover;
pub mod settle;
pub mod spent;
pub mod store;
pub mod verify;

use std::path::PathBuf;

use crate::model::session::SessionId;

/// What to do about a record that is not whole.
const RESTORE: &str = "Put the whole folder back from a copy that has it all. If there is none, the clinic lead moves the \
    folder away and keeps it; the next start begins a new record, where --elsewhere declares what each client got today";

/// Why the record could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The data directory cannot be made, read or written.
    #[error("the data directory {} cannot be used; check that this user may write there", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process holds the data directory.
    #[error(
        "doseward already runs with this record: process {by} ({what}, since {since}). Wait until it is over, or use \
         another data directory"
    )]
    Held {
        /// Its process id; 0 when the lock file does not say.
        by: u32,
        /// What it is.
        what: String,
        /// Since when, RFC 3339.
        since: String,
    },
    /// A file of the record was deleted, moved or replaced while it was in use.
    #[error(
        "the record is no longer in its place: {} was deleted, moved or replaced while doseward wrote to it. Put it \
         back where it was; if that cannot be done, end the session and note by hand what was given",
        path.display()
    )]
    Gone {
        /// Which.
        path: PathBuf,
    },
    /// SQLite could not do it: read-only, locked.
    #[error("the record could not be read or written")]
    Sql(#[source] rusqlite::Error),
    /// No room.
    #[error("the disk is full; make room, then start again")]
    DiskFull,
    /// Reading or writing a file could not be done.
    #[error("the file could not be read or written")]
    File(#[from] std::io::Error),
    /// The record was made by a later version.
    #[error("the record has schema {found}, this version knows up to {known}; use the newer doseward")]
    Newer {
        /// Schema found.
        found: i64,
        /// Newest schema known.
        known: i64,
    },
    /// The record is damaged. Nothing is written to it.
    #[error("the record is damaged: {what}; `doseward record verify` lists every damage. {RESTORE}")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// The record lacks what was noted beside it: it was rolled back, cut or emptied. Nothing is written to it.
    #[error(
        "the record in {} is older than what this box has noted: part of it is missing, and what was given {after} is not \
         known. {RESTORE}",
        dir.display()
    )]
    CutShort {
        /// Its directory.
        dir: PathBuf,
        /// Since when nothing is known, in words.
        after: String,
    },
    /// No session has begun.
    #[error("no session is open in the record")]
    NoSession,
    /// A session has already begun.
    #[error("session {session} is still open in the record")]
    AlreadyOpen {
        /// Which.
        session: SessionId,
    },
    /// A session of an earlier run is not sealed; `recover` comes first.
    #[error("session {session} of an earlier run is not sealed; recover it first")]
    Unsealed {
        /// Which.
        session: SessionId,
    },
    /// An entry came out of its order.
    #[error("entry {found} came where entry {expected} was due")]
    OutOfOrder {
        /// The number due.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// Too much waits for the disk.
    #[error("{waiting} entries wait for the disk; no more are taken")]
    Full {
        /// How many wait.
        waiting: usize,
    },
    /// A text holds what the canonical form cannot hold.
    #[error("the {field} of an entry holds a line break or is too large")]
    NotCanonical {
        /// Which field.
        field: &'static str,
    },
    /// There is no such session.
    #[error("the record has no session {session}")]
    NoSuchSession {
        /// Which.
        session: SessionId,
    },
    /// The session is not sealed.
    #[error("session {session} is not sealed yet; only sealed sessions are exported")]
    NotSealed {
        /// Which.
        session: SessionId,
    },
    /// The body of an entry does not say what its kind says it should.
    #[error("entry {seq} of session {session} cannot be read")]
    Body {
        /// Session.
        session: SessionId,
        /// Entry.
        seq: u64,
        /// Why.
        source: entry::BodyError,
    },
    /// An entry could not be put into its written form.
    #[error("an entry could not be put into its written form")]
    Unwritable(#[source] entry::BodyError),
}

impl From<rusqlite::Error> for RecordError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let code = error.sqlite_error_code();
        if code == Some(ErrorCode::DiskFull) {
            Self::DiskFull
        } else if code == Some(ErrorCode::NotADatabase) {
            Self::Damaged { what: format!("{} is not a database", store::FILE) }
        } else if code == Some(ErrorCode::DatabaseCorrupt) {
            Self::Damaged { what: format!("{} was cut off or overwritten", store::FILE) }
        } else {
            Self::Sql(error)
        }
    }
}
