//! The record of a certified session, in memory. What has been appended and is not durable yet dies with a crash.

use std::path::Path;

use crate::governor::{Entry, Seq};
use crate::model::budget::Spent;
use crate::model::command::{Channel, DeviceId};
use crate::model::dose::Dose;
use crate::model::plan::Plan;
use crate::model::session::SessionId;
use crate::record::entry::{SessionHead, Stamp};
use crate::record::journal::Journal;
use crate::record::spent::Asked;
use crate::record::{RecordError, verify};
use crate::units::Mono;

/// Wall clock of every session's origin: a working day of 2026.
const WALL_US: i64 = 1_790_000_000_000_000;

/// Waits for the disk.
#[derive(Debug)]
enum Waiting {
    Entry(Mono, Seq, Box<Entry>),
    Progress(Dose),
    Done(DeviceId, Channel),
}

/// The record.
pub(super) struct Book {
    journal: Journal,
    waiting: Vec<Waiting>,
    seed: u64,
    begun: u64,
    taken: u64,
}

/// Returns an instant on both clocks.
pub(super) fn stamp(at: Mono) -> Stamp {
    let micros = i64::try_from(at.micros()).unwrap_or(0).saturating_add(WALL_US);
    Stamp { mono: at, wall: jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::UNIX_EPOCH) }
}

/// Returns what the client already got by a record.
pub(super) fn spent(journal: &Journal, plan: &Plan, at: Mono) -> Result<Spent, RecordError> {
    journal.reader()?.spent(&Asked {
        client: &plan.client,
        plan_id: &plan.id,
        simulated: true,
        zones: &[jiff::tz::TimeZone::UTC],
        wall: stamp(at).wall,
        monotonic_us: at.micros(),
        origin_us: 0,
        boot: None,
        until: None,
    })
}

impl Book {
    /// Begins the record of a seed's session, in memory unless a directory is given.
    pub(super) fn begin(plan: &Plan, seed: u64, dir: Option<&Path>) -> Result<Self, RecordError> {
        let journal = dir.map_or_else(Journal::in_memory, Journal::open)?;
        let mut book = Self { journal, waiting: Vec::new(), seed, begun: 0, taken: 0 };
        book.begin_session(plan, Mono::ORIGIN)?;
        Ok(book)
    }

    fn begin_session(&mut self, plan: &Plan, at: Mono) -> Result<(), RecordError> {
        self.begun = self.begun.saturating_add(1);
        let number = self.seed.saturating_mul(100).saturating_add(self.begun);
        let session = SessionId::new(format!("00000000-0000-7000-8000-{number:012x}"));
        let head = SessionHead::new(session, plan, "0".repeat(64), "certify".to_owned(), true);
        self.journal.begin(&head, stamp(at))
    }

    /// Appends an entry; it is not durable before [`Book::settle`].
    pub(super) fn append(&mut self, at: Mono, seq: Seq, entry: Entry) {
        self.waiting.push(Waiting::Entry(at, seq, Box::new(entry)));
    }

    /// Overwrites a progress row, with the next settling.
    pub(super) fn progress(&mut self, dose: Dose) {
        self.waiting.push(Waiting::Progress(dose));
    }

    /// Removes a progress row, with the next settling.
    pub(super) fn progress_done(&mut self, device: DeviceId, channel: Channel) {
        self.waiting.push(Waiting::Done(device, channel));
    }

    /// Returns how much waits for the disk.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Makes the oldest `count` of what waits durable.
    pub(super) fn settle(&mut self, count: usize) -> Result<(), RecordError> {
        for waiting in self.waiting.drain(..count.min(self.waiting.len())) {
            match waiting {
                Waiting::Entry(at, seq, entry) => {
                    self.taken = self.taken.saturating_add(1);
                    self.journal.append(stamp(at), seq, &entry)?;
                }
                Waiting::Progress(dose) => self.journal.progress(&dose)?,
                Waiting::Done(device, channel) => self.journal.progress_done(device, channel)?,
            }
        }
        // To the database in large groups: in memory a group costs nothing and is as durable.
        if self.taken > 4_000 {
            self.taken = 0;
            self.journal.commit()?;
        }
        Ok(())
    }

    /// The process died: what was durable is recovered and sealed, and a new session begins.
    pub(super) fn crash(mut self, plan: &Plan, at: Mono) -> Result<(Self, Spent), RecordError> {
        self.waiting.clear();
        self.journal.commit()?;
        self.journal = self.journal.reopen()?;
        self.journal.recover(stamp(at))?;
        let spent = spent(&self.journal, plan, at)?;
        self.begin_session(plan, at)?;
        Ok((self, spent))
    }

    /// Seals the session. Returns every dose on record and the damage that the verifier finds.
    pub(super) fn close(mut self, at: Mono) -> Result<(Vec<Dose>, Vec<String>), RecordError> {
        self.settle(usize::MAX)?;
        self.journal.seal(stamp(at))?;
        let reader = self.journal.reader()?;
        let audit = verify::database(&reader, None)?;
        let mut doses = Vec::new();
        for session in reader.sessions()? {
            doses.extend(reader.doses(&session.session)?.into_iter().map(|recorded| recorded.dose));
        }
        Ok((doses, audit.damage.iter().map(ToString::to_string).collect()))
    }
}
