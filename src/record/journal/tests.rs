//! What only the writer's inside can show: a disk that refuses.

use super::*;
use crate::governor::Entry;
use crate::model::plan::ClientCode;

fn stamp(millis: u64) -> Stamp {
    let wall = jiff::Timestamp::from_millisecond(1_790_000_000_000 + i64::try_from(millis).unwrap()).unwrap();
    Stamp { mono: Mono::from_millis(millis), wall }
}

fn head(session: &str) -> SessionHead {
    SessionHead {
        session: SessionId::new(session),
        plan_id: "p".to_owned(),
        plan_title: "P".to_owned(),
        client: ClientCode::new("K-1"),
        plan_digest: String::new(),
        file_digests: Vec::new(),
        simulated: true,
        software: "doseward".to_owned(),
        mono_origin_us: 0,
        boot: None,
        devices: Vec::new(),
        steps: Vec::new(),
    }
}

/// A child that is being started holds a copy of each open file for a moment; the directory is free all the same.
#[test]
fn a_copy_of_the_lock_file_holds_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let lock = take_lock(dir.path()).unwrap();
    let copy = lock.0.try_clone().unwrap();
    drop(lock);
    take_lock(dir.path()).unwrap();
    drop(copy);
}

/// SR-33, SR-32: a full disk refuses the commit, so no start is granted; nothing is lost, and when there is room again
/// everything is on record in its order.
#[test]
fn a_full_disk_refuses_the_commit_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    journal.begin(&head("s"), stamp(0)).unwrap();
    journal.commit().unwrap();
    let pages: i64 = journal.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    journal.connection.execute_batch(&format!("PRAGMA max_page_count = {pages}")).unwrap();
    let mut next = 1;
    let refused = loop {
        for _ in 0..50 {
            journal.append(stamp(next), Seq(next), &Entry::Lease { alive: true }).unwrap();
            next += 1;
        }
        if let Err(error) = journal.commit() {
            break error;
        }
    };
    assert!(matches!(refused, RecordError::DiskFull), "{refused:?}");
    assert!(matches!(journal.commit(), Err(RecordError::DiskFull)), "it still does not fit");
    let on_disk = Reader::open(dir.path()).unwrap().entries(&SessionId::new("s")).unwrap();
    assert!(u64::try_from(on_disk.len()).unwrap() < next, "the refused batch is not half on disk");
    journal.append(stamp(next), Seq(next), &Entry::Lease { alive: false }).unwrap();
    journal.connection.execute_batch("PRAGMA max_page_count = 1000000").unwrap();
    journal.commit().unwrap();
    journal.seal(stamp(next)).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let all = reader.entries(&SessionId::new("s")).unwrap();
    assert_eq!(u64::try_from(all.len()).unwrap(), next + 2, "open, every entry, seal");
    assert!(verify::database(&reader, None).unwrap().sound());
}

/// SR-33: what waits is bounded.
#[test]
fn no_more_entries_are_taken_than_can_wait() {
    let mut journal = Journal::in_memory().unwrap();
    journal.begin(&head("s"), stamp(0)).unwrap();
    let mut next = 1;
    let refused = loop {
        match journal.append(stamp(next), Seq(next), &Entry::Lease { alive: true }) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, RecordError::Full { waiting: WAITING_MAX }), "{refused:?}");
    journal.commit().unwrap();
    journal.append(stamp(next), Seq(next), &Entry::Lease { alive: true }).unwrap();
}

/// A commit that reached the disk although it was reported as refused is recognised, not written twice.
#[test]
fn a_commit_reported_as_refused_but_done_is_not_written_twice() {
    let mut journal = Journal::in_memory().unwrap();
    journal.begin(&head("s"), stamp(0)).unwrap();
    journal.append(stamp(1), Seq(1), &Entry::Lease { alive: true }).unwrap();
    let (waiting, durable) = (journal.waiting.clone(), journal.durable.clone());
    journal.commit().unwrap();
    journal.waiting = waiting;
    journal.durable = durable;
    journal.append(stamp(2), Seq(2), &Entry::Lease { alive: false }).unwrap();
    journal.commit().unwrap();
    let reader = journal.reader().unwrap();
    assert_eq!(reader.entries(&SessionId::new("s")).unwrap().len(), 3);
    assert!(verify::database(&reader, None).unwrap().sound());
}

/// A tail that is not ours is never written behind.
#[test]
fn nothing_is_written_behind_a_tail_of_someone_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    journal.begin(&head("s"), stamp(0)).unwrap();
    journal.commit().unwrap();
    let other = Connection::open(dir.path().join(store::FILE)).unwrap();
    let copy = "INSERT INTO entry (v, session, seq, mono_us, wall, kind, body, prev_hash, hash)
                SELECT v, session, 1, mono_us, wall, 'lease', '{\"alive\":true}', hash, 'x' FROM entry";
    other.execute_batch(copy).unwrap();
    journal.append(stamp(1), Seq(1), &Entry::Lease { alive: true }).unwrap();
    assert!(matches!(journal.commit(), Err(RecordError::Damaged { .. })));
}

/// SR-33: a record that was deleted, moved or replaced takes nothing as durable and is not sealed; back in its place it
/// holds everything that was taken in.
#[test]
fn nothing_is_durable_in_a_file_that_is_no_longer_in_its_place() {
    let gone = |journal: &mut Journal| matches!(journal.commit(), Err(RecordError::Gone { .. }));
    for file in [store::FILE, "record.db-wal", LOCK] {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.begin(&head("s"), stamp(0)).unwrap();
        journal.commit().unwrap();
        let (path, aside) = (dir.path().join(file), dir.path().join("aside"));
        std::fs::rename(&path, &aside).unwrap();
        journal.append(stamp(1), Seq(1), &Entry::Lease { alive: true }).unwrap();
        assert!(gone(&mut journal), "{file} is missing");
        std::fs::copy(&aside, &path).unwrap();
        assert!(gone(&mut journal), "another {file} is there");
        assert!(matches!(journal.seal(stamp(2)), Err(RecordError::Gone { .. })), "{file}");
        std::fs::rename(&aside, &path).unwrap();
        journal.seal(stamp(2)).unwrap();
        let reader = Reader::open(dir.path()).unwrap();
        assert_eq!(reader.entries(&SessionId::new("s")).unwrap().len(), 3, "{file}");
        assert!(verify::database(&reader, None).unwrap().sound());
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut journal = Journal::open(&data).unwrap();
    journal.begin(&head("s"), stamp(0)).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    let said = journal.seal(stamp(1)).unwrap_err().to_string();
    assert!(said.contains(&*data.to_string_lossy()) && said.contains("Put it back"), "{said}");
}
