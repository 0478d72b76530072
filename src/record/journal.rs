//! The single writer. Blocking, no tokio: the runtime gives it a thread.
//!
//! `append` and `progress` only take things in; `commit` makes all of them durable in one transaction. When the disk
//! refuses, nothing taken in is lost: it waits, and the next `commit` tries all of it again.
//!
//! ```text
//!  append, progress --> waiting --commit--> one transaction --> durable
//!                          ^                      |
//!                          +----- disk refused ---+
//! ```
//!
//! Invariants: one process holds a data directory (lock file); never a later entry durable without every earlier one;
//! never an entry written after a tail that is not ours; nothing is durable in a file that is no longer in its place.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};

use crate::governor::{Entry, Seq};
use crate::model::command::{Channel, DeviceId};
use crate::model::dose::{Dose, DoseId, Evidence};
use crate::model::plan::ClientCode;
use crate::model::session::SessionId;
use crate::model::uncertain::Knowledge;
use crate::record::RecordError;
use crate::record::daily::{self, AlarmTest};
use crate::record::entry::{Body, DoseBody, GENESIS, SealReason, SessionHead, StoredEntry, Total, wall_text};
use crate::record::recover::{self, GuardAct, ProgressRow, Read};
use crate::record::settle::{self, NarrowedBy, Resolve, Resolving};
use crate::record::store::{self, Reader, SCHEMA};
use crate::record::verify;
use crate::units::{Mono, duration_micros};

pub use crate::record::entry::Stamp;

/// Entries that may wait for the disk. At ten a second this is a quarter of an hour: output is long down by then.
const WAITING_MAX: usize = 10_000;

/// Name of the lock file in the data directory.
const LOCK: &str = "record.lock";

/// The single writer of a data directory.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    /// Held as long as this lives.
    _lock: Option<Lock>,
    /// Where a reader of this process finds it.
    place: Place,
    files: Files,
    /// Hash of the newest entry that is durable.
    durable: String,
    /// Hash of the newest entry taken in.
    head: String,
    waiting: Vec<StoredEntry>,
    waiting_rows: BTreeMap<(u8, u8), ProgressRow>,
    running: Option<Running>,
}

#[derive(Debug)]
enum Place {
    Directory(PathBuf),
    Memory(String),
}

/// The files that hold the record, as they were when it was opened. A file that was deleted or moved away takes what
/// is written as if nothing had happened, and nobody ever reads it again.
#[derive(Debug, Default)]
struct Files(Vec<FileId>);

#[derive(Debug)]
struct FileId {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Files {
    fn of(place: &Place) -> Result<Self, RecordError> {
        let Place::Directory(dir) = place else {
            return Ok(Self::default());
        };
        let id = |path: PathBuf| match std::fs::metadata(&path) {
            Ok(it) => Ok(FileId { path, device: it.dev(), inode: it.ino() }),
            Err(source) => Err(RecordError::Directory { path, source }),
        };
        let record = dir.join(store::FILE);
        let paths = [record.clone(), store::beside(&record, "-wal"), dir.join(LOCK)];
        Ok(Self(paths.into_iter().map(id).collect::<Result<_, _>>()?))
    }

    /// Checks that every file is where it was.
    fn check(&self) -> Result<(), RecordError> {
        for FileId { path, device, inode } in &self.0 {
            match std::fs::metadata(path) {
                Ok(it) if (it.dev(), it.ino()) == (*device, *inode) => {}
                Ok(_) => return Err(RecordError::Gone { path: path.clone() }),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(RecordError::Gone { path: path.clone() });
                }
                Err(source) => return Err(RecordError::Directory { path: path.clone(), source }),
            }
        }
        Ok(())
    }
}

/// The session that is being recorded.
#[derive(Debug)]
struct Running {
    session: SessionId,
    /// Number of the next entry.
    next: u64,
    totals: Vec<Total>,
    /// Its seal is taken in, not yet durable.
    sealing: bool,
}

impl Journal {
    /// Opens the record of a data directory; makes both when there is none. Checks the database and the last session.
    ///
    /// # Errors
    /// When another process holds the directory (it is named), it cannot be written, or the record is damaged.
    pub fn open(dir: &Path) -> Result<Self, RecordError> {
        let refused = |source| RecordError::Directory { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(refused)?;
        let lock = take_lock(dir)?;
        let path = dir.join(store::FILE);
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(refused)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(refused)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(Duration::from_millis(200))?;
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(refused(std::io::Error::other("the file system cannot hold a write-ahead log")));
        }
        connection.execute_batch("PRAGMA synchronous = FULL")?;
        Self::with(connection, Some(lock), Place::Directory(dir.to_owned()))
    }

    /// Makes a record that lives in memory, for tests and virtual time.
    ///
    /// # Errors
    /// When SQLite cannot.
    pub fn in_memory() -> Result<Self, RecordError> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let uri = format!("file:doseward-record-{number}?mode=memory&cache=shared");
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&uri, flags)?;
        Self::with(connection, None, Place::Memory(uri))
    }

    fn with(mut connection: Connection, lock: Option<Lock>, place: Place) -> Result<Self, RecordError> {
        make_schema(&mut connection)?;
        let quick: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if quick != "ok" {
            return Err(RecordError::Damaged { what: quick });
        }
        if let Some(damage) = verify::tail(&connection)?.damage.first() {
            return Err(RecordError::Damaged { what: damage.to_string() });
        }
        let head = store::tail(&connection)?.map_or_else(|| GENESIS.to_owned(), |last| last.hash);
        let files = Files::of(&place)?;
        Ok(Self {
            connection,
            _lock: lock,
            place,
            files,
            durable: head.clone(),
            head,
            waiting: Vec::new(),
            waiting_rows: BTreeMap::new(),
            running: None,
        })
    }

    /// Opens again what is durable, as a new process finds it after the death of this one; what waits is lost. For
    /// records in memory, whose content would die with this value.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn reopen(self) -> Result<Self, RecordError> {
        Self::with(self.connection, self._lock, self.place)
    }

    /// Returns a reader of this record, on a connection of its own.
    ///
    /// # Errors
    /// When SQLite cannot.
    pub fn reader(&self) -> Result<Reader, RecordError> {
        match &self.place {
            Place::Directory(dir) => Reader::open(dir),
            Place::Memory(uri) => Reader::in_memory(uri),
        }
    }

    /// Begins a session: takes in its entry 0. Durable with the next [`Journal::commit`].
    ///
    /// # Errors
    /// When a session is open, or one of an earlier run is not sealed yet.
    pub fn begin(&mut self, head: &SessionHead, stamp: Stamp) -> Result<(), RecordError> {
        if let Some(running) = &self.running {
            return Err(RecordError::AlreadyOpen { session: running.session.clone() });
        }
        if let Some(session) = self.unsealed()?.into_iter().next() {
            return Err(RecordError::Unsealed { session });
        }
        let session = head.session.clone();
        self.running = Some(Running { session, next: 0, totals: Vec::new(), sealing: false });
        let taken = self.take(stamp, &Body::from(head));
        if taken.is_err() {
            self.running = None;
        }
        taken
    }

    /// Takes in one entry. Durable with the next [`Journal::commit`].
    ///
    /// # Errors
    /// When no session is open, the number is not the next one, or too much waits for the disk.
    pub fn append(&mut self, stamp: Stamp, seq: Seq, entry: &Entry) -> Result<(), RecordError> {
        let running = self.open_session()?;
        if running.next != seq.0 {
            return Err(RecordError::OutOfOrder { expected: running.next, found: seq.0 });
        }
        self.take(stamp, &Body::from(entry))
    }

    /// Overwrites the progress row of the dose's output: the dose so far, should the daemon die.
    ///
    /// # Errors
    /// When no session is open.
    pub fn progress(&mut self, dose: &Dose) -> Result<(), RecordError> {
        let body = DoseBody::from(dose);
        self.take_row(body.device, body.channel, Some(body))
    }

    /// Marks an output as being at proven zero, its dose on record.
    ///
    /// # Errors
    /// When no session is open.
    pub fn progress_done(&mut self, device: DeviceId, channel: Channel) -> Result<(), RecordError> {
        self.take_row(device.0, channel.0, None)
    }

    /// Makes everything taken in durable, in one transaction. After a refusal nothing is lost: call it again.
    ///
    /// # Errors
    /// When the disk refuses, or the files of the record are no longer where they were.
    pub fn commit(&mut self) -> Result<(), RecordError> {
        self.files.check()?;
        if self.waiting.is_empty() && self.waiting_rows.is_empty() {
            return Ok(());
        }
        let Some(running) = &self.running else {
            return Err(RecordError::NoSession);
        };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let already = already_durable(&transaction, &self.durable, &self.waiting)?;
        for entry in self.waiting.iter().skip(already) {
            insert(&transaction, entry)?;
        }
        for row in self.waiting_rows.values() {
            write_row(&transaction, &running.session, row)?;
        }
        if running.sealing {
            transaction.execute("DELETE FROM progress WHERE session = ?1", [running.session.as_str()])?;
        }
        transaction.commit()?;
        // Deleted meanwhile: nobody will ever read what was written.
        self.files.check()?;
        self.durable.clone_from(&self.head);
        self.waiting.clear();
        self.waiting_rows.clear();
        if running.sealing {
            self.running = None;
        }
        Ok(())
    }

    /// Seals the session with its totals and makes all durable; returns the head hash, the anchor for the note. What
    /// is not known to be at zero is added as uncertain first. After a refusal by the disk, call it again.
    ///
    /// # Errors
    /// When no session is open or the disk refuses.
    pub fn seal(&mut self, stamp: Stamp) -> Result<String, RecordError> {
        let sealing = self.open_session().map(|running| running.sealing)?;
        if !sealing {
            self.commit()?;
            let session = self.open_session()?.session.clone();
            let open = recover::unfinished(&self.read(&session)?, &self.rows(&session)?);
            self.finish(stamp, &open, SealReason::Closed)?;
        }
        self.commit()?;
        Ok(self.head.clone())
    }

    /// Returns the sessions that an earlier daemon left open, oldest first.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn unsealed(&self) -> Result<Vec<SessionId>, RecordError> {
        let current = self.running.as_ref().map(|running| running.session.as_str());
        let opens = store::select(
            &self.connection,
            "WHERE kind = 'open' AND session NOT IN (SELECT session FROM entry WHERE kind = 'seal') ORDER BY n",
            &[],
        )?;
        Ok(opens
            .iter()
            .filter(|open| Some(open.session.as_str()) != current)
            .map(StoredEntry::session)
            .collect())
    }

    /// Recovers and seals every session that an earlier daemon left open; returns them.
    ///
    /// # Errors
    /// When a session is open, the record cannot be read or the disk refuses.
    pub fn recover(&mut self, stamp: Stamp) -> Result<Vec<SessionId>, RecordError> {
        self.recover_with(stamp, &[])
    }

    /// As [`Journal::recover`], with what the guard's journal says of these sessions: it goes on record, and what a unit
    /// proved to the guard can only bring an upper end forward.
    ///
    /// # Errors
    /// As [`Journal::recover`].
    pub fn recover_with(&mut self, stamp: Stamp, acts: &[GuardAct]) -> Result<Vec<SessionId>, RecordError> {
        if let Some(running) = &self.running {
            return Err(RecordError::AlreadyOpen { session: running.session.clone() });
        }
        let unsealed = self.unsealed()?;
        for session in &unsealed {
            let entries = self.read(session)?;
            let rows = self.rows(session)?;
            let act = acts.iter().find(|act| act.session == *session);
            let proofs = act.map_or_else(Vec::new, GuardAct::proofs);
            let mut origin = 0;
            if let Some(Body::Open { mono_origin_us, .. }) = entries.first().map(|first| &first.body) {
                origin = *mono_origin_us;
            }
            let mut open: Vec<Body> = act.map(|act| act.body(origin)).into_iter().collect();
            open.extend(recover::uncertain(&entries, &rows, &proofs));
            let mut totals = Vec::new();
            entries
                .iter()
                .filter_map(|entry| entry.body.dose())
                .for_each(|dose| Total::add(&mut totals, dose));
            let last = entries.iter().map(|entry| entry.mono_us);
            let heard = rows.iter().filter_map(|row| row.dose.as_ref()).map(|dose| dose.until_us);
            // This process's monotonic clock says nothing of that session: its last known instant does.
            let mono = Mono::from_micros(last.chain(heard).max().unwrap_or(0));
            let next = entries.last().map_or(0, |entry| entry.seq.saturating_add(1));
            self.running = Some(Running { session: session.clone(), next, totals, sealing: false });
            let sealed = self
                .finish(Stamp { mono, wall: stamp.wall }, &open, SealReason::DaemonRestart)
                .and_then(|()| self.commit());
            if let Err(error) = sealed {
                self.forget();
                return Err(error);
            }
        }
        Ok(unsealed)
    }

    /// Narrows what a unit may have given in a session that is over: it was at zero at `zero_by_us` on that session's clock
    /// (the instant of a proven stop; the unit's stop tail is added here). For the guard's journal, once the session is
    /// sealed; what is known before that goes into [`Journal::recover_with`]. Durable when this returns. Heard twice, or
    /// saying nothing new, it changes nothing. Returns the doses that are narrower now.
    ///
    /// # Errors
    /// When a session is open, there is no such session, or the disk refuses.
    pub fn narrow(
        &mut self,
        stamp: Stamp,
        session: &SessionId,
        device: DeviceId,
        zero_by_us: u64,
        source: NarrowedBy,
    ) -> Result<Vec<DoseId>, RecordError> {
        let reader = self.reader()?;
        let entries = reader.entries(session)?;
        let tail =
            if let Some(Body::Open { devices, .. }) = entries.first().map(store::body_of).transpose()? {
                devices.get(usize::from(device.0)).map_or(0, |unit| unit.stop_tail_us)
            } else {
                0
            };
        let zero = Knowledge::ZeroBy(Mono::from_micros(zero_by_us.saturating_add(tail)));
        let (mut bodies, mut narrowed) = (Vec::new(), Vec::new());
        for recorded in reader.doses(session)? {
            let dose = recorded.narrowed.as_ref().map_or(&recorded.dose, |(_, dose)| dose);
            // A stop proven before it began says nothing of it.
            if dose.device != device || dose.from.micros() > zero_by_us {
                continue;
            }
            if let Some(dose) = settle::narrow(&DoseBody::from(dose), zero) {
                narrowed.push(DoseId(dose.id));
                let (of, source) = (Some(session.as_str().to_owned()), source.word().to_owned());
                bodies.push(Body::Narrowed { of, source, dose: Box::new(dose) });
            }
        }
        self.settle(stamp, session, &bodies)?;
        Ok(narrowed)
    }

    /// Puts on record how a person resolves an uncertain dose of a session that is over.
    ///
    /// # Errors
    /// When a session is open, there is no such session, or the disk refuses.
    pub fn resolve(&mut self, stamp: Stamp, resolve: &Resolve) -> Result<Resolving, RecordError> {
        let doses = self.reader()?.doses(&resolve.session)?;
        let found =
            doses.iter().find(|it| it.dose.id == resolve.dose && it.dose.evidence == Evidence::Uncertain);
        let Some(recorded) = found else {
            return Ok(Resolving::NoSuch);
        };
        if let Some(before) = &recorded.resolved {
            let before = Duration::from_micros(before.gave_us);
            let same = before == resolve.gave.unwrap_or(resolve.shown.1);
            return Ok(if same { Resolving::Already } else { Resolving::Otherwise(before) });
        }
        let (least_us, most_us) = recorded.bounds_us();
        let on = (Duration::from_micros(least_us), Duration::from_micros(most_us.max(least_us)));
        let gave = resolve.gave.unwrap_or(on.1);
        if resolve.shown != on {
            return Ok(Resolving::Stale(on));
        }
        if gave < on.0 || gave > on.1 {
            return Ok(Resolving::Outside(on));
        }
        if resolve.reason.trim().is_empty() || resolve.by.person.trim().is_empty() {
            return Ok(Resolving::Unsigned);
        }
        let body = Body::Resolved {
            by: (&resolve.by).into(),
            of: Some(resolve.session.as_str().to_owned()),
            dose: resolve.dose.0,
            on_min_us: duration_micros(on.0),
            on_max_us: duration_micros(on.1),
            gave_us: duration_micros(gave),
            reason: resolve.reason.clone(),
        };
        self.settle(stamp, &resolve.session, &[body])?;
        Ok(Resolving::Done)
    }

    /// Writes a short session of its own that settles doses of another one.
    fn settle(&mut self, stamp: Stamp, of: &SessionId, bodies: &[Body]) -> Result<(), RecordError> {
        if bodies.is_empty() {
            return Ok(());
        }
        let sessions = self.reader()?.sessions()?;
        let settled = sessions.into_iter().find(|session| session.session == *of);
        let settled = settled.ok_or_else(|| RecordError::NoSuchSession { session: of.clone() })?;
        let client = settled.client;
        self.short((settle::PLAN_ID, settle::TITLE), (client, settled.simulated), stamp, bodies)
    }

    /// Puts on record how a person tried the alarm: a short session of its own. Durable when this returns.
    ///
    /// # Errors
    /// When a session is open or the disk refuses.
    pub fn alarm_test(&mut self, stamp: Stamp, test: &AlarmTest) -> Result<(), RecordError> {
        let AlarmTest { by, player, heard } = test;
        let body = Body::AlarmTest { by: by.into(), player: player.clone(), heard: *heard };
        // Nobody is treated: there is no client.
        let nobody = (ClientCode::new("-"), false);
        self.short((daily::PLAN_ID, daily::TITLE), nobody, stamp, &[body])
    }

    /// Writes a short session of its own, without units and steps.
    fn short(
        &mut self,
        (plan_id, plan_title): (&str, &str),
        (client, simulated): (ClientCode, bool),
        stamp: Stamp,
        bodies: &[Body],
    ) -> Result<(), RecordError> {
        let head = SessionHead {
            session: SessionId::new(uuid::Uuid::now_v7().to_string()),
            plan_id: plan_id.to_owned(),
            plan_title: plan_title.to_owned(),
            client,
            plan_digest: String::new(),
            file_digests: Vec::new(),
            simulated,
            software: concat!("doseward ", env!("CARGO_PKG_VERSION")).to_owned(),
            mono_origin_us: 0,
            boot: None,
            devices: Vec::new(),
            steps: Vec::new(),
        };
        self.begin(&head, stamp)?;
        let written = bodies
            .iter()
            .try_for_each(|body| self.take(stamp, body))
            .and_then(|()| self.finish(stamp, &[], SealReason::Closed))
            .and_then(|()| self.commit());
        if written.is_err() {
            self.forget();
        }
        written
    }

    /// Takes in the last entries of the open session.
    fn finish(&mut self, stamp: Stamp, open: &[Body], reason: SealReason) -> Result<(), RecordError> {
        for body in open {
            self.take(stamp, body)?;
        }
        let running = self.open_session()?;
        let (entries, totals) = (running.next.saturating_add(1), running.totals.clone());
        self.take(stamp, &Body::Seal { reason, entries, totals })?;
        if let Some(running) = &mut self.running {
            running.sealing = true;
        }
        Ok(())
    }

    /// Gives up what waits, back to what is durable: a recovery is done again from what the disk holds.
    fn forget(&mut self) {
        self.waiting.clear();
        self.waiting_rows.clear();
        self.head.clone_from(&self.durable);
        self.running = None;
    }

    fn open_session(&self) -> Result<&Running, RecordError> {
        self.running.as_ref().ok_or(RecordError::NoSession)
    }

    /// Takes in one body as the next entry of the open session.
    fn take(&mut self, stamp: Stamp, body: &Body) -> Result<(), RecordError> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(RecordError::Full { waiting: self.waiting.len() });
        }
        let text = body.write().map_err(RecordError::Unwritable)?;
        let running = self.running.as_mut().ok_or(RecordError::NoSession)?;
        if running.sealing {
            return Err(RecordError::NoSession);
        }
        let entry = StoredEntry::chain(stamp, &running.session, running.next, text, &self.head);
        if let Some(field) = entry.broken_field() {
            return Err(RecordError::NotCanonical { field });
        }
        signed(entry.mono_us, "instant")?;
        if let Some(dose) = body.dose() {
            Total::add(&mut running.totals, dose);
        }
        running.next = running.next.saturating_add(1);
        self.head.clone_from(&entry.hash);
        self.waiting.push(entry);
        Ok(())
    }

    fn take_row(&mut self, device: u8, channel: u8, dose: Option<DoseBody>) -> Result<(), RecordError> {
        let after_seq = self.open_session()?.next.saturating_sub(1);
        let row = ProgressRow { device, channel, done: dose.is_none(), after_seq, dose };
        self.waiting_rows.insert((device, channel), row);
        Ok(())
    }

    fn read(&self, session: &SessionId) -> Result<Vec<Read>, RecordError> {
        let found = store::select(&self.connection, "WHERE session = ?1 ORDER BY seq", &[&session.as_str()])?;
        found
            .iter()
            .map(|entry| Ok(Read { seq: entry.seq, mono_us: entry.mono_us, body: store::body_of(entry)? }))
            .collect()
    }

    fn rows(&self, session: &SessionId) -> Result<Vec<ProgressRow>, RecordError> {
        let sql = "SELECT device, channel, done, after_seq, body FROM progress WHERE session = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([session.as_str()], |row| {
            let body: String = row.get(4)?;
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, store::unsigned(row, 3)?, body))
        })?;
        rows.map(|row| {
            let (device, channel, done, after_seq, body) = row?;
            let dose = if done { None } else { Some(row_dose(session, after_seq, &body)?) };
            Ok(ProgressRow { device, channel, done, after_seq, dose })
        })
        .collect()
    }
}

fn row_dose(session: &SessionId, seq: u64, body: &str) -> Result<DoseBody, RecordError> {
    serde_json::from_str(body).map_err(|source| RecordError::Body {
        session: session.clone(),
        seq,
        source: crate::record::entry::BodyError::Json { kind: "progress".to_owned(), source },
    })
}

/// The exclusive lock of a data directory; the kernel lets it go when the process dies.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would not do: a child that is just being started has a copy of every open file until its program
        // runs, and the lock lives as long as any copy does. A failure leaves it to closing.
        self.0.unlock().ok();
    }
}

/// Takes the exclusive lock of a data directory and writes who holds it.
fn take_lock(dir: &Path) -> Result<Lock, RecordError> {
    let path = dir.join(LOCK);
    let refused = |source| RecordError::Directory { path: path.clone(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(holder(&mut file)),
        Err(TryLockError::Error(source)) => return Err(refused(source)),
    }
    let what: Vec<String> = std::env::args().take(2).collect();
    let what = what.join(" ").replace('\n', " ");
    let write = |file: &mut File| -> std::io::Result<()> {
        file.set_len(0)?;
        write!(file, "pid={}\nwhat={what}\n", std::process::id())?;
        // The file system's own time of that write says since when.
        let since = jiff::Timestamp::try_from(file.metadata()?.modified()?).map_err(std::io::Error::other)?;
        writeln!(file, "since={}", wall_text(since))?;
        file.sync_all()
    };
    write(&mut file).map_err(refused)?;
    Ok(Lock(file))
}

/// Reads who holds the lock.
fn holder(file: &mut File) -> RecordError {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let field = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name)).filter(|_| read.is_ok());
        found.unwrap_or("unknown").to_owned()
    };
    RecordError::Held { by: field("pid=").parse().unwrap_or(0), what: field("what="), since: field("since=") }
}

/// Makes schema 1 in an empty database; refuses one of a later version.
fn make_schema(connection: &mut Connection) -> Result<(), RecordError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(store::CREATE)?;
        for (_, sql) in store::TRIGGERS {
            transaction.execute_batch(sql)?;
        }
        transaction
            .execute("INSERT INTO schema VALUES (?1, ?2)", params![SCHEMA, env!("CARGO_PKG_VERSION")])?;
    } else {
        store::schema_of(&transaction)?;
    }
    Ok(transaction.commit()?)
}

/// Returns how many of `waiting` the database already holds: a commit may have reached the disk although it was
/// reported as refused.
fn already_durable(
    transaction: &Transaction<'_>,
    durable: &str,
    waiting: &[StoredEntry],
) -> Result<usize, RecordError> {
    let tail = store::tail(transaction)?.map_or_else(|| GENESIS.to_owned(), |last| last.hash);
    if tail == durable {
        return Ok(0);
    }
    match waiting.iter().position(|entry| entry.hash == tail) {
        Some(index) => Ok(index.saturating_add(1)),
        None => Err(RecordError::Damaged { what: "something else has written to the record".to_owned() }),
    }
}

fn insert(transaction: &Transaction<'_>, entry: &StoredEntry) -> Result<(), RecordError> {
    let StoredEntry { v, session, seq, mono_us, wall, kind, body, prev_hash, hash } = entry;
    let sql = "INSERT INTO entry (v, session, seq, mono_us, wall, kind, body, prev_hash, hash)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let mut statement = transaction.prepare_cached(sql)?;
    let (seq, mono_us) = (signed(*seq, "number")?, signed(*mono_us, "instant")?);
    statement.execute(params![v, session, seq, mono_us, wall, kind, body, prev_hash, hash])?;
    Ok(())
}

fn write_row(
    transaction: &Transaction<'_>,
    session: &SessionId,
    row: &ProgressRow,
) -> Result<(), RecordError> {
    let body = serde_json::to_string(&row.dose).map_err(|source| {
        RecordError::Unwritable(crate::record::entry::BodyError::Json { kind: "progress".to_owned(), source })
    })?;
    let sql = "INSERT OR REPLACE INTO progress (session, device, channel, done, after_seq, body)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut statement = transaction.prepare_cached(sql)?;
    let after_seq = signed(row.after_seq, "number")?;
    statement.execute(params![session.as_str(), row.device, row.channel, row.done, after_seq, body])?;
    Ok(())
}

/// Returns the number as SQLite holds it.
fn signed(number: u64, field: &'static str) -> Result<i64, RecordError> {
    i64::try_from(number).map_err(|_| RecordError::NotCanonical { field })
}

#[cfg(test)]
mod tests;
