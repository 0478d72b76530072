//! The record's writer: one thread, a bounded queue, group commits.
//!
//! The thread drains what is waiting, appends it, commits once, and publishes how many items are durable. Whether the
//! record is slow is judged at the other end (`RecordQueue`), for a thread stuck in a commit cannot say so. Every item
//! is waited for, progress rows too: at constant output nothing else may be written for a minute.
//!
//! Invariants:
//! - what is written is a prefix of what was appended: after a refused append or a lost item nothing more is appended
//!   and the health stays `Failing`; a refused commit keeps everything and is tried again;
//! - nothing here is ever waited for by a stop.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::governor::{Entry, RecordHealth, Seq};
use crate::model::command::{Channel, DeviceId};
use crate::model::dose::Dose;
use crate::record::RecordError;
pub use crate::record::entry::Stamp;
use crate::record::journal::Journal;
use crate::units::Mono;

/// A write slower than this is `Slow` (design 4).
pub(crate) const SLOW: Duration = Duration::from_millis(500);

/// Items in the thread's queue.
const QUEUE_MAX: usize = 1024;

/// Items kept beside a full queue before the record is given up.
const OVERFLOW_MAX: usize = 8192;

/// Items in one commit.
const BATCH_MAX: usize = 256;

/// Why the record could not be written, in the words of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecordFault(pub String);

/// What writes a session's record. Blocking. The session has begun already.
pub trait Recorder: Send + 'static {
    /// Appends an entry to the open group.
    ///
    /// # Errors
    /// The store refused.
    fn append(&mut self, at: Stamp, seq: Seq, entry: &Entry) -> Result<(), RecordFault>;

    /// Overwrites the progress row of the dose's channel.
    ///
    /// # Errors
    /// The store refused.
    fn progress(&mut self, dose: &Dose) -> Result<(), RecordFault>;

    /// Removes a channel's progress row.
    ///
    /// # Errors
    /// The store refused.
    fn progress_done(&mut self, device: DeviceId, channel: Channel) -> Result<(), RecordFault>;

    /// Makes everything appended durable. What it refuses stays appended for the next commit.
    ///
    /// # Errors
    /// The store refused.
    fn commit(&mut self) -> Result<(), RecordFault>;

    /// Seals the session and returns its last hash.
    ///
    /// # Errors
    /// The store refused.
    fn seal(&mut self, at: Stamp) -> Result<String, RecordFault>;
}

impl From<RecordError> for RecordFault {
    fn from(error: RecordError) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        Self(text)
    }
}

impl Recorder for Journal {
    fn append(&mut self, at: Stamp, seq: Seq, entry: &Entry) -> Result<(), RecordFault> {
        Ok(Self::append(self, at, seq, entry)?)
    }

    fn progress(&mut self, dose: &Dose) -> Result<(), RecordFault> {
        Ok(Self::progress(self, dose)?)
    }

    fn progress_done(&mut self, device: DeviceId, channel: Channel) -> Result<(), RecordFault> {
        Ok(Self::progress_done(self, device, channel)?)
    }

    fn commit(&mut self) -> Result<(), RecordFault> {
        Ok(Self::commit(self)?)
    }

    fn seal(&mut self, at: Stamp) -> Result<String, RecordFault> {
        Ok(Self::seal(self, at)?)
    }
}

/// What the thread has done so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Items that are durable, from the first.
    pub(crate) durable: u64,
    /// The newest commit took longer than [`SLOW`].
    pub(crate) slow: bool,
    /// The store refused, in its words.
    pub(crate) fault: Option<String>,
}

enum Item {
    Append { at: Stamp, seq: Seq, entry: std::sync::Arc<Entry> },
    Progress(Dose),
    ProgressDone(DeviceId, Channel),
    Seal { at: Stamp, answer: oneshot::Sender<Result<String, RecordFault>> },
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// A thread of its own: the disk never keeps the session.
    Thread,
    /// The session task itself, for a record in memory: virtual time cannot wait for a thread.
    InLine,
}

/// Where items go.
enum Way {
    Thread(SyncSender<Item>),
    InLine(Box<Writer>),
}

/// The session task's end of the writer. Never blocks on a thread's work.
pub(crate) struct RecordQueue {
    way: Way,
    overflow: VecDeque<Item>,
    written: watch::Receiver<Written>,
    /// Items given to the writer.
    given: u64,
    unanswered: VecDeque<Unanswered>,
    lost: bool,
    gone: bool,
    health: RecordHealth,
}

/// An item that is not known to be durable.
#[derive(Clone, Copy, Debug)]
struct Unanswered {
    /// How many were given up to it.
    number: u64,
    since: Mono,
    /// Of an entry.
    seq: Option<Seq>,
}

/// Starts the writer. The second value resolves when its thread ends: `true` when it panicked.
pub(crate) fn start(
    recorder: Box<dyn Recorder>,
    clock: Clock,
    writing: Writing,
) -> std::io::Result<(RecordQueue, oneshot::Receiver<bool>)> {
    let (done, written) = watch::channel(Written { durable: 0, slow: false, fault: None });
    let (ended, end) = oneshot::channel();
    let notice = EndNotice(Some(ended));
    let writer = Writer { recorder, clock, done, taken: 0, broken: None, _notice: None };
    let way = match writing {
        Writing::Thread => {
            let (queue, items) = sync_channel(QUEUE_MAX);
            std::thread::Builder::new().name("recorder".to_owned()).spawn(move || {
                Writer { _notice: Some(notice), ..writer }.run(&items);
            })?;
            Way::Thread(queue)
        }
        Writing::InLine => Way::InLine(Box::new(Writer { _notice: Some(notice), ..writer })),
    };
    let queue = RecordQueue {
        way,
        overflow: VecDeque::new(),
        written,
        given: 0,
        unanswered: VecDeque::new(),
        lost: false,
        gone: false,
        health: RecordHealth::Healthy,
    };
    Ok((queue, end))
}

/// Says that the thread ended, also when it unwinds.
struct EndNotice(Option<oneshot::Sender<bool>>);

impl Drop for EndNotice {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            // Nobody listens any more once the supervisor is done; then the news is old.
            sender.send(std::thread::panicking()).unwrap_or_default();
        }
    }
}

struct Writer {
    recorder: Box<dyn Recorder>,
    clock: Clock,
    done: watch::Sender<Written>,
    /// Items taken into the store, durable or not.
    taken: u64,
    /// An item was refused: nothing more is taken, or there would be a hole.
    broken: Option<RecordFault>,
    /// In line, the writer ends with the session.
    _notice: Option<EndNotice>,
}

impl Writer {
    fn run(mut self, items: &Receiver<Item>) {
        loop {
            // A slow or refused commit is tried again, or a session at rest would never hear that the disk is well.
            let again = {
                let done = self.done.borrow();
                done.slow || (done.fault.is_some() && self.broken.is_none())
            };
            let first = if again { items.recv_timeout(SLOW) } else { items.recv().map_err(Into::into) };
            let mut batch = match first {
                Ok(item) => vec![item],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            while batch.len() < BATCH_MAX {
                let Ok(item) = items.try_recv() else { break };
                batch.push(item);
            }
            self.write(batch);
        }
    }

    fn write(&mut self, batch: Vec<Item>) {
        let begun = self.clock.now();
        let mut seals = Vec::new();
        for item in batch {
            if let Item::Seal { at, answer } = item {
                seals.push((at, answer));
            } else if self.broken.is_none() {
                match self.put(item) {
                    Ok(()) => self.taken = self.taken.saturating_add(1),
                    Err(fault) => self.broken = Some(fault),
                }
            }
        }
        let committed = self.recorder.commit();
        let slow = self.clock.now().since(begun) > SLOW;
        let durable = committed.is_ok().then_some(self.taken);
        let outcome = committed.and_then(|()| self.broken.clone().map_or(Ok(()), Err));
        self.done.send_modify(|written| {
            written.durable = durable.unwrap_or(written.durable);
            written.slow = slow;
            written.fault = outcome.as_ref().err().map(|fault| fault.0.clone());
        });
        for (at, answer) in seals {
            let sealed = outcome.clone().and_then(|()| self.recorder.seal(at));
            if answer.send(sealed).is_err() {
                tracing::warn!("the session did not wait for its seal");
            }
        }
    }

    fn put(&mut self, item: Item) -> Result<(), RecordFault> {
        match item {
            Item::Append { at, seq, entry } => self.recorder.append(at, seq, &entry),
            Item::Progress(dose) => self.recorder.progress(&dose),
            Item::ProgressDone(device, channel) => self.recorder.progress_done(device, channel),
            Item::Seal { .. } => Ok(()),
        }
    }
}

impl RecordQueue {
    /// Appends an entry.
    pub(crate) fn append(&mut self, at: Stamp, seq: Seq, entry: std::sync::Arc<Entry>, now: Mono) {
        self.give(Item::Append { at, seq, entry }, Some(seq), now);
    }

    /// Overwrites a progress row.
    pub(crate) fn progress(&mut self, dose: Dose, now: Mono) {
        self.give(Item::Progress(dose), None, now);
    }

    /// Removes a progress row.
    pub(crate) fn progress_done(&mut self, device: DeviceId, channel: Channel, now: Mono) {
        self.give(Item::ProgressDone(device, channel), None, now);
    }

    /// Asks for the seal, after everything appended before.
    pub(crate) fn seal(&mut self, at: Stamp) -> oneshot::Receiver<Result<String, RecordFault>> {
        let (answer, sealed) = oneshot::channel();
        self.push(Item::Seal { at, answer });
        sealed
    }

    /// Waits until the thread has news. Cancel-safe. Never returns after the thread is gone.
    pub(crate) async fn changed(&mut self) {
        if self.gone {
            std::future::pending::<()>().await;
        }
        if self.written.changed().await.is_err() {
            self.gone = true;
        }
    }

    /// Returns the newest durable entry, when that is news.
    pub(crate) fn durable(&mut self) -> Option<Seq> {
        self.refill();
        let durable = self.written.borrow_and_update().durable;
        let mut news = None;
        while let Some(item) = self.unanswered.front().copied().filter(|item| item.number <= durable) {
            news = item.seq.or(news);
            self.unanswered.pop_front();
        }
        news
    }

    /// Returns the record's health at `now`, when it has changed.
    pub(crate) fn health(&mut self, now: Mono) -> Option<RecordHealth> {
        let written = self.written.borrow();
        let late = self.unanswered.front().is_some_and(|item| now.since(item.since) > SLOW);
        let health = if self.gone || self.lost || written.fault.is_some() {
            RecordHealth::Failing
        } else if late || written.slow || !self.overflow.is_empty() {
            RecordHealth::Slow
        } else {
            RecordHealth::Healthy
        };
        let news = health != self.health;
        self.health = health;
        news.then_some(health)
    }

    /// Returns when [`RecordQueue::health`] must be asked again, if ever.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        let oldest = self.unanswered.front()?;
        (self.health == RecordHealth::Healthy)
            .then(|| oldest.since.saturating_add(SLOW).saturating_add(Duration::from_millis(1)))
    }

    /// Returns why the record cannot be written, in the store's words.
    pub(crate) fn fault(&self) -> Option<String> {
        self.written.borrow().fault.clone()
    }

    /// Gives an item and waits for it to be durable.
    fn give(&mut self, item: Item, seq: Option<Seq>, now: Mono) {
        self.given = self.given.saturating_add(1);
        self.unanswered.push_back(Unanswered { number: self.given, since: now, seq });
        self.push(item);
    }

    fn push(&mut self, item: Item) {
        self.refill();
        if self.lost || self.gone {
            return;
        }
        if self.overflow.is_empty() {
            self.offer(item);
        } else if self.overflow.len() < OVERFLOW_MAX {
            self.overflow.push_back(item);
        } else {
            self.lost = true;
        }
    }

    fn refill(&mut self) {
        while let Some(item) = self.overflow.pop_front() {
            if !self.offer(item) {
                break;
            }
        }
    }

    /// Offers an item to the thread; a full queue puts it back to the front. Returns whether the thread took it.
    fn offer(&mut self, item: Item) -> bool {
        let queue = match &mut self.way {
            Way::Thread(queue) => queue,
            Way::InLine(writer) => {
                writer.write(vec![item]);
                return true;
            }
        };
        match queue.try_send(item) {
            Ok(()) => true,
            Err(TrySendError::Full(item)) => {
                self.overflow.push_front(item);
                false
            }
            Err(TrySendError::Disconnected(_)) => {
                self.gone = true;
                false
            }
        }
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
