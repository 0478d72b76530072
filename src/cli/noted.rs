//! Whether the record is all of what this box has noted: the guard's journal beside it holds the last hash of every
//! session and names those that were taken over. A record that lacks one of them was rolled back, cut or emptied, and
//! what it says of budgets, doubts and locks is too little.

use std::path::Path;

use crate::guard;
use crate::record::RecordError;
use crate::record::daily;
use crate::record::journal::Journal;
use crate::record::store::{FILE, Reader};

/// What the guard's journal says must be in the record.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// The newest last hash of a session.
    pub(crate) anchor: Option<String>,
    /// The sessions that it names.
    sessions: Vec<String>,
}

impl Noted {
    /// Reads the guard's journal of a data directory.
    pub(crate) fn read(dir: &Path) -> Result<Self, RecordError> {
        let lines = guard::journal::read(dir);
        let lines = lines.map_err(|source| RecordError::Directory { path: dir.to_owned(), source })?;
        let mut sessions: Vec<String> = lines.iter().map(|line| line.session.clone()).collect();
        sessions.retain(|session| !session.is_empty());
        sessions.dedup();
        Ok(Self { anchor: guard::journal::anchor(&lines).map(str::to_owned), sessions })
    }

    /// Refuses a directory that has a guard's journal with sessions and no database at all.
    pub(crate) fn check_file(&self, dir: &Path) -> Result<(), RecordError> {
        let missing = dir.join(FILE).try_exists().is_ok_and(|there| !there);
        if missing && !self.sessions.is_empty() { Err(cut(dir, None)) } else { Ok(()) }
    }

    /// Refuses a record that lacks what is noted.
    pub(crate) fn check(&self, dir: &Path, reader: &Reader) -> Result<(), RecordError> {
        let anchored = self.anchor.as_deref().map_or(Ok(true), |anchor| reader.is_seal(anchor))?;
        if anchored && self.missing(reader)?.is_empty() {
            return Ok(());
        }
        Err(cut(dir, reader.newest_wall()?))
    }

    /// Returns the sessions that are named and not in the record.
    pub(crate) fn missing(&self, reader: &Reader) -> Result<Vec<&str>, RecordError> {
        let mut missing = Vec::new();
        for session in &self.sessions {
            if !reader.has_session(session)? {
                missing.push(session.as_str());
            }
        }
        Ok(missing)
    }
}

/// Opens a record for writing, when it is all of what is noted.
pub(crate) fn open(dir: &Path) -> Result<Journal, RecordError> {
    let noted = Noted::read(dir)?;
    noted.check_file(dir)?;
    let journal = Journal::open(dir)?;
    noted.check(dir, &journal.reader()?)?;
    Ok(journal)
}

fn cut(dir: &Path, newest: Option<jiff::Timestamp>) -> RecordError {
    let zone = daily::zones().into_iter().next().unwrap_or(jiff::tz::TimeZone::UTC);
    let after = newest.map_or_else(
        || "here so far".to_owned(),
        |newest| format!("after {}", newest.to_zoned(zone).strftime("%-d %b %Y, %H:%M:%S")),
    );
    RecordError::CutShort { dir: dir.to_owned(), after }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::guard::journal::What;
    use crate::model::session::Actor;
    use crate::record::daily::AlarmTest;
    use crate::record::entry::Stamp;
    use crate::units::Mono;

    /// Opens it when its lock is free: a process that another test starts holds it for a moment after it was let go.
    fn opened(dir: &Path) -> Result<Journal, RecordError> {
        for _ in 0..1000 {
            match open(dir) {
                Err(RecordError::Held { .. }) => std::thread::sleep(std::time::Duration::from_millis(10)),
                other => return other,
            }
        }
        open(dir)
    }

    /// Writes a session and returns its last hash.
    fn session(dir: &Path) -> (String, String) {
        let mut journal = opened(dir).unwrap();
        let clock = Clock::start();
        let by = Actor { person: "Ada".to_owned(), screen: "terminal".to_owned() };
        let test = AlarmTest { by, player: "p".to_owned(), heard: true };
        journal.alarm_test(Stamp { mono: clock.now(), wall: clock.wall() }, &test).unwrap();
        let last = journal.reader().unwrap().sessions().unwrap().pop().unwrap();
        (last.session.as_str().to_owned(), last.head)
    }

    fn note(dir: &Path, session: &str, what: What) {
        let mut journal = guard::journal::Journal::open(dir, Clock::start()).unwrap();
        journal.about(session);
        journal.note(Mono::from_millis(1), what);
        assert!(journal.flush(std::time::Duration::from_secs(10)));
    }

    fn is_cut(dir: &Path) -> bool {
        matches!(opened(dir), Err(RecordError::CutShort { .. }))
    }

    /// SR-43, SR-12: a record that lacks what the guard noted is not written on.
    #[test]
    fn a_record_without_the_last_hash_or_a_session_that_the_guard_noted_is_refused() {
        let (data, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (data, copy) = (data.path(), copy.path());
        let (first, head) = session(data);
        note(data, &first, What::Anchor { hash: head });
        std::fs::copy(data.join(FILE), copy.join(FILE)).unwrap();
        let (second, head) = session(data);
        let took_over = What::TookOver { why: "died".to_owned(), said: "It died.".to_owned() };
        note(data, &second, took_over);
        opened(data).unwrap();
        let newest = data.join("newest");
        std::fs::copy(data.join(FILE), &newest).unwrap();
        // Named by a take-over only, and then by its hash too.
        std::fs::copy(copy.join(FILE), data.join(FILE)).unwrap();
        assert!(is_cut(data));
        std::fs::copy(&newest, data.join(FILE)).unwrap();
        note(data, &first, What::Anchor { hash: head });
        opened(data).unwrap();
        std::fs::copy(copy.join(FILE), data.join(FILE)).unwrap();
        let said = opened(data).unwrap_err().to_string();
        assert!(said.contains("part of it is missing") && said.contains("moves the folder"), "{said}");
        std::fs::write(data.join(FILE), "").unwrap();
        assert!(is_cut(data), "an empty file");
        std::fs::remove_file(data.join(FILE)).unwrap();
        assert!(is_cut(data), "no file");
        assert!(!data.join(FILE).exists(), "and none is made");
        // The remedy works: with the folder moved away a new record begins.
        std::fs::rename(data, copy.join("away")).unwrap();
        opened(data).unwrap();
        std::fs::remove_dir_all(data).unwrap();
        std::fs::create_dir(data).unwrap();
    }
}
