//! What the rest of the process holds of a running session: requests, the two stop lanes, heartbeats, what to show.
//!
//! Invariants:
//! - a stop never waits: it is the newest value of a `watch`, not an item of a queue, and every post counts, so that
//!   no stop is lost by being followed by something else;
//! - a full request queue is an answer ([`Unanswered::Busy`]), never a wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::governor::{Act, Entry, Request, RequestId, Snapshot, Verdict, Version};
use crate::model::command::{DeviceId, Generation};
use crate::model::session::{Actor, StopReason};
use crate::units::Mono;

/// Requests that may wait for the session task at one time.
pub(crate) const REQUESTS_MAX: usize = 16;

/// Events kept for a screen that is slow to read; older ones are lost to it, never to the record.
pub(crate) const EVENTS_MAX: usize = 512;

/// One end of a running session. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    pub(crate) by: Actor,
    pub(crate) requests: mpsc::Sender<Asked>,
    pub(crate) numbers: Arc<AtomicU64>,
    pub(crate) lanes: Lanes,
    pub(crate) heartbeat: Arc<watch::Sender<Seen>>,
    pub(crate) close: Arc<watch::Sender<Option<Close>>>,
    pub(crate) snapshot: watch::Receiver<Snapshot>,
    pub(crate) events: broadcast::Sender<Event>,
}

/// A request on its way, with where its verdict goes.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Verdict>,
}

/// Why a request got no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Too many requests are waiting; nothing was done.
    #[error("Too much at once: nothing was changed. Try again.")]
    Busy,
    /// The session has ended.
    #[error("The session has ended: nothing was changed.")]
    Ended,
}

/// What a screen hears beside the snapshots, in the order in which it happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Went on record.
    Entry {
        /// When.
        at: Mono,
        /// What.
        entry: Arc<Entry>,
    },
    /// The wall clock was set behind the record, or is right again.
    Clock {
        /// It is right.
        sane: bool,
    },
}

/// The newest sign of the commander's screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Seen {
    /// None yet.
    #[default]
    Never,
    /// It painted the snapshot issued then.
    Painted(Mono),
    /// Nobody can see it any more.
    Gone,
}

/// How a session is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Who.
    pub by: Actor,
    /// Why; used when something has to be stopped for it.
    pub reason: StopReason,
    /// Stop every unit even when all steps are over.
    pub stop_all: bool,
}

/// The newest order on a unit's stop lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StopOrder {
    /// Grows by one with every post: the unit acts on each change, whatever the generation is.
    pub(crate) count: u64,
    /// The highest generation posted.
    pub(crate) generation: Generation,
}

/// The newest STOP ALL on the session's stop lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StopAsked {
    pub(crate) count: u64,
    pub(crate) why: Option<(Actor, StopReason)>,
}

/// Every stop lane of the session. Posting takes no queue and waits for nobody.
#[derive(Clone, Debug)]
pub struct Lanes {
    devices: Arc<[watch::Sender<StopOrder>]>,
    session: Arc<watch::Sender<StopAsked>>,
    emergency: Arc<AtomicBool>,
}

impl Lanes {
    pub(crate) fn new(devices: usize) -> Self {
        Self {
            devices: (0..devices).map(|_| watch::Sender::new(StopOrder::default())).collect(),
            session: Arc::new(watch::Sender::new(StopAsked::default())),
            emergency: Arc::default(),
        }
    }

    /// Posts a stop on the lane of one unit; an unknown unit has no lane.
    pub(crate) fn post(&self, device: DeviceId, generation: Generation) {
        if let Some(lane) = self.devices.get(usize::from(device.0)) {
            lane.send_modify(|order| {
                order.count = order.count.saturating_add(1);
                order.generation = order.generation.max(generation);
            });
        }
    }

    /// Returns how many stops were posted for a unit.
    pub(crate) fn count(&self, device: DeviceId) -> u64 {
        self.devices.get(usize::from(device.0)).map_or(0, |lane| lane.borrow().count)
    }

    /// Returns the receiving end of a unit's lane.
    pub(crate) fn subscribe(&self, device: DeviceId) -> Option<watch::Receiver<StopOrder>> {
        self.devices.get(usize::from(device.0)).map(watch::Sender::subscribe)
    }

    pub(crate) fn subscribe_session(&self) -> watch::Receiver<StopAsked> {
        self.session.subscribe()
    }

    /// Posts STOP ALL to the governor, which numbers it, latches it and posts every unit's lane in the same call.
    pub(crate) fn post_session(&self, by: Actor, reason: StopReason) {
        self.session.send_modify(|asked| {
            asked.count = asked.count.saturating_add(1);
            asked.why = Some((by, reason));
        });
    }

    /// Stops every unit directly, without the governor: for signals, panics and tasks that died. The process ends
    /// after it; only the first call counts, so that the generation stays the one the governor will give.
    pub fn emergency(&self) {
        if self.emergency.swap(true, Ordering::SeqCst) {
            return;
        }
        for lane in self.devices.iter() {
            lane.send_modify(|order| {
                order.count = order.count.saturating_add(1);
                order.generation = Generation(order.generation.0.saturating_add(1));
            });
        }
    }
}

impl Lanes {
    /// Returns whether the process is dying: no order but stops may leave any more.
    pub(crate) fn is_emergency(&self) -> bool {
        self.emergency.load(Ordering::SeqCst)
    }
}

impl SessionHandle {
    /// Asks for something and waits for the verdict. `seen` is the version that the screen showed.
    ///
    /// # Errors
    /// The queue was full or the session has ended; nothing was done.
    pub async fn request(&self, act: Act, seen: Version) -> Result<Verdict, Unanswered> {
        let id = RequestId(self.numbers.fetch_add(1, Ordering::Relaxed));
        let (answer, verdict) = oneshot::channel();
        let request = Request { id, by: self.by.clone(), seen, act };
        match self.requests.try_send(Asked { request, answer }) {
            Ok(()) => verdict.await.map_err(|_| Unanswered::Ended),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Unanswered::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Unanswered::Ended),
        }
    }

    /// Stops everything. Returns at once; never refused, never queued.
    pub fn stop_all(&self, reason: StopReason) {
        self.lanes.post_session(self.by.clone(), reason);
    }

    /// The client stops everything. Returns at once; never refused, never queued.
    pub fn client_stop(&self) {
        self.lanes.post_session(Actor::client(self.by.screen.clone()), StopReason::ClientRequest);
    }

    /// Says that the screen painted the snapshot issued at `issued`.
    pub fn heartbeat(&self, issued: Mono) {
        self.heartbeat.send_replace(Seen::Painted(issued));
    }

    /// Says that nobody can see the screen any more.
    pub fn unseen(&self) {
        self.heartbeat.send_replace(Seen::Gone);
    }

    /// Asks for the orderly end of the session; the supervisor returns when it is over. The first call counts.
    pub fn close(&self, stop_all: bool, reason: StopReason) {
        self.ask_close(Close { by: self.by.clone(), reason, stop_all });
    }

    /// As [`SessionHandle::close`], with STOP ALL and asked by nobody: a signal, a defect, the end of the guard process.
    pub fn close_by_itself(&self, reason: StopReason) {
        self.ask_close(Close { by: Actor::itself(), reason, stop_all: true });
    }

    fn ask_close(&self, asked: Close) {
        self.close.send_if_modified(|close| {
            let first = close.is_none();
            close.get_or_insert(asked);
            first
        });
    }

    /// Returns the newest snapshot and its changes.
    pub fn snapshots(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }

    /// Returns the events from this moment on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Returns the stop lanes, for a signal or panic hook.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }
}
