//! The record's writer with a store that can be slow, refuse or panic. Real time: the writer is a thread.

use std::sync::mpsc;

use super::*;
use crate::model::command::DeviceId;

/// A store that waits for a word before each commit.
struct FakeStore {
    go: mpsc::Receiver<Result<(), RecordFault>>,
    appended: mpsc::Sender<Seq>,
}

impl Recorder for FakeStore {
    fn append(&mut self, _at: Stamp, seq: Seq, _entry: &Entry) -> Result<(), RecordFault> {
        self.appended.send(seq).map_err(|error| RecordFault(error.to_string()))
    }

    fn progress(&mut self, _dose: &Dose) -> Result<(), RecordFault> {
        Ok(())
    }

    fn progress_done(&mut self, _device: DeviceId, _channel: Channel) -> Result<(), RecordFault> {
        Ok(())
    }

    fn commit(&mut self) -> Result<(), RecordFault> {
        self.go.recv().expect("the test ended before the writer")
    }

    fn seal(&mut self, _at: Stamp) -> Result<String, RecordFault> {
        Ok("head".to_owned())
    }
}

struct Bench {
    queue: RecordQueue,
    end: oneshot::Receiver<bool>,
    go: mpsc::Sender<Result<(), RecordFault>>,
    appended: mpsc::Receiver<Seq>,
    clock: Clock,
}

fn bench() -> Bench {
    let (go, wait) = mpsc::channel();
    let (append, appended) = mpsc::channel();
    let clock = Clock::start();
    let (queue, end) =
        start(Box::new(FakeStore { go: wait, appended: append }), clock.clone(), Writing::Thread)
            .expect("a thread");
    Bench { queue, end, go, appended, clock }
}

impl Bench {
    fn append(&mut self, seq: u64, now: Mono) {
        let entry = std::sync::Arc::new(Entry::Lease { alive: true });
        let stamp = Stamp { mono: now, wall: self.clock.wall() };
        self.queue.append(stamp, Seq(seq), entry, now);
    }

    fn commits(&self) {
        self.go.send(Ok(())).unwrap();
    }
}

#[tokio::test]
async fn an_entry_is_durable_only_after_its_commit() {
    let mut bench = bench();
    bench.append(1, Mono::ORIGIN);
    assert_eq!(bench.appended.recv_timeout(Duration::from_secs(5)), Ok(Seq(1)));
    assert_eq!(bench.queue.durable(), None);
    bench.commits();
    bench.queue.changed().await;
    assert_eq!(bench.queue.durable(), Some(Seq(1)));
    assert_eq!(bench.queue.durable(), None, "told once");
}

#[tokio::test]
async fn a_write_unanswered_for_more_than_half_a_second_is_slow_and_then_healthy_again() {
    let mut bench = bench();
    bench.append(1, Mono::ORIGIN);
    let due = bench.queue.deadline().expect("an open append has a deadline");
    assert_eq!(bench.queue.health(Mono::from_millis(500)), None);
    assert!(due > Mono::from_millis(500) && due <= Mono::from_millis(510));
    assert_eq!(bench.queue.health(due), Some(RecordHealth::Slow));
    assert_eq!(bench.queue.health(due), None, "told once");
    bench.commits();
    bench.queue.changed().await;
    assert_eq!(bench.queue.durable(), Some(Seq(1)));
    assert_eq!(bench.queue.health(due), Some(RecordHealth::Healthy));
}

/// SR-33: at constant output nothing but progress rows is written.
#[tokio::test]
async fn sr_33_a_progress_row_unanswered_for_more_than_half_a_second_is_slow_and_no_entry_is_durable_for_it()
{
    let mut bench = bench();
    bench.append(1, Mono::ORIGIN);
    bench.commits();
    bench.queue.changed().await;
    assert_eq!(bench.queue.durable(), Some(Seq(1)));
    let asked = Mono::from_millis(1000);
    bench.queue.progress_done(DeviceId(0), Channel(0), asked);
    assert_eq!(bench.queue.health(Mono::from_millis(1500)), None);
    let due = bench.queue.deadline().expect("a row that waits has a deadline");
    assert!(due > Mono::from_millis(1500) && due <= Mono::from_millis(1510));
    assert_eq!(bench.queue.health(due), Some(RecordHealth::Slow));
    bench.commits();
    bench.queue.changed().await;
    assert_eq!(bench.queue.durable(), None, "a row is no entry");
    assert_eq!(bench.queue.health(due), Some(RecordHealth::Healthy));
    assert_eq!(bench.queue.deadline(), None);
}

#[tokio::test]
async fn a_refused_commit_is_failing_and_is_tried_again_until_everything_is_durable() {
    let mut bench = bench();
    bench.append(1, Mono::ORIGIN);
    bench.go.send(Err(RecordFault("disk full".to_owned()))).unwrap();
    bench.queue.changed().await;
    assert_eq!(bench.queue.durable(), None);
    assert_eq!(bench.queue.health(Mono::ORIGIN), Some(RecordHealth::Failing));
    assert_eq!(bench.queue.fault().as_deref(), Some("disk full"));
    bench.append(2, Mono::ORIGIN);
    bench.commits();
    bench.queue.changed().await;
    assert_eq!(bench.queue.durable(), Some(Seq(2)));
    assert_eq!(bench.queue.health(Mono::ORIGIN), Some(RecordHealth::Healthy));
}

#[tokio::test]
async fn after_a_refused_append_nothing_is_appended_and_nothing_sealed() {
    let mut bench = bench();
    drop(std::mem::replace(&mut bench.appended, mpsc::channel().1));
    bench.append(1, Mono::ORIGIN);
    bench.commits();
    bench.queue.changed().await;
    assert_eq!(bench.queue.health(Mono::ORIGIN), Some(RecordHealth::Failing));
    assert_eq!(bench.queue.durable(), None);
    bench.commits();
    let stamp = Stamp { mono: Mono::ORIGIN, wall: bench.clock.wall() };
    let sealed = bench.queue.seal(stamp).await.expect("an answer");
    assert!(sealed.is_err());
    assert_eq!(bench.queue.health(Mono::ORIGIN), None, "it stays failing");
}

#[tokio::test]
async fn a_full_queue_loses_nothing_and_keeps_the_order() {
    let mut bench = bench();
    let many = u64::try_from(QUEUE_MAX).unwrap() + 600;
    for seq in 1..=many {
        bench.append(seq, Mono::ORIGIN);
    }
    assert_eq!(bench.queue.health(Mono::ORIGIN), Some(RecordHealth::Slow), "it has run over");
    let last = async {
        loop {
            bench.go.send(Ok(())).unwrap();
            bench.queue.changed().await;
            if bench.queue.durable() == Some(Seq(many)) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), last).await.expect("every entry becomes durable");
    let appended: Vec<_> = bench.appended.try_iter().collect();
    assert_eq!(appended, (1..=many).map(Seq).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_writer_that_panics_is_noticed() {
    let bench = bench();
    let Bench { mut queue, end, go, appended, clock } = bench;
    drop(go);
    let stamp = Stamp { mono: Mono::ORIGIN, wall: clock.wall() };
    let entry = std::sync::Arc::new(Entry::Lease { alive: true });
    queue.append(stamp, Seq(1), entry, Mono::ORIGIN);
    assert_eq!(end.await, Ok(true));
    queue.changed().await;
    assert_eq!(queue.health(Mono::ORIGIN), Some(RecordHealth::Failing));
    drop(appended);
}
