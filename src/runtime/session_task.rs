//! The session task: owns the governor, turns every wake-up into one input, carries its outputs out in order.
//!
//! ```text
//!  running --- close asked ---> closing (every unit stopped, proven or 2 s) ---> sealing ---> over
//! ```
//!
//! Invariants:
//! - it decides nothing: each branch makes an `Input`, the governor decides;
//! - carrying out never waits: stops are posted on `watch` lanes, orders and entries go to bounded queues, and a full
//!   queue becomes a stop (orders) or a failing record (entries);
//! - after the close was asked every request is refused and no order reaches a unit but stops.
//!
//! Every branch of its `select!` is cancel-safe: `watch::changed`, `mpsc::recv`, `sleep_until`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::alarm::Cause;
use crate::clock::Clock;
use crate::governor::{
    Entry, ForGuard, Governor, Input, Output, RecordHealth, Refusal, RequestId, Snapshot, StepState, Verdict,
};
use crate::model::command::{DeviceId, Generation};
use crate::model::packet::StopScript;
use crate::model::report::{Report, StopProgress};
use crate::model::session::{Actor, StopReason};
use crate::runtime::device_task::{Order, Ordered};
use crate::runtime::guard_line::GuardLine;
use crate::runtime::handle::{Asked, Close, Event, Lanes, Seen, StopAsked};
use crate::runtime::recorder_task::{RecordQueue, Stamp};
use crate::units::Mono;

/// A new snapshot at least this often: what a heartbeat echoes must be fresh.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(100);

/// Units are given this long to prove their stop when the session is closed (design 3.10).
const PROVE_WITHIN: Duration = Duration::from_secs(2);

/// Stops that are asked this long after the close began are waited for as well.
const STOPS_WITHIN: Duration = Duration::from_secs(4);

/// After the stops, entries of the last doses are waited for this long (a gun's stop tail is 1 s).
const SETTLE_WITHIN: Duration = Duration::from_millis(1500);

/// The seal is waited for this long.
const SEAL_WITHIN: Duration = Duration::from_secs(5);

/// The machine slept when boot time grew by more than this beside monotonic time.
const SLEPT: Duration = Duration::from_secs(1);

/// Why the units were stopped past the governor is waited for this long.
const WHY_WITHIN: Duration = Duration::from_millis(50);

/// The wall clock may be this far behind the newest entry of the record (design 4).
pub const CLOCK_BEHIND_MAX: Duration = Duration::from_secs(120);

/// Answers to requests that the governor keeps for later, at most.
const PENDING_MAX: usize = 64;

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEnd {
    /// The last hash of the sealed record, or why it could not be sealed.
    pub sealed: Result<String, String>,
    /// Units that had not proven their stop.
    pub unproven: Vec<DeviceId>,
}

/// The ends of the task's queues and lanes.
pub(crate) struct Ends {
    pub(crate) requests: mpsc::Receiver<Asked>,
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) heartbeat: watch::Receiver<Seen>,
    pub(crate) guard: watch::Receiver<bool>,
    pub(crate) close: watch::Receiver<Option<Close>>,
    pub(crate) snapshot: watch::Sender<Snapshot>,
    /// The wall clock is not behind the record, as the governor was told.
    pub(crate) clock_sane: bool,
    /// Units that an earlier session locked.
    pub(crate) locked: Vec<(DeviceId, Cause, Duration)>,
    /// STOP ALL outlives the daemon that it was asked of; who asked.
    pub(crate) latched: Option<Actor>,
}

/// The task.
pub(crate) struct SessionTask {
    governor: Governor,
    shell: Shell,
    ends: Ends,
    stop: watch::Receiver<StopAsked>,
    publish_at: Mono,
    asleep: Duration,
    closing: Option<Closing>,
}

#[derive(Clone, Copy, Debug)]
struct Closing {
    since: Mono,
    /// Newest stop.
    stop_at: Mono,
    /// When every unit had first proven its stop.
    zero_at: Option<Mono>,
}

impl Closing {
    const fn new(now: Mono) -> Self {
        Self { since: now, stop_at: now, zero_at: None }
    }

    /// A stop asked meanwhile is to be proven as well; whoever goes on asking keeps nothing open.
    fn stopped(&mut self, now: Mono) {
        if now.since(self.since) < STOPS_WITHIN {
            self.stop_at = now;
        }
    }

    /// Returns whether every unit has proven its stop (or had its time), and the last doses are on record.
    fn is_over(&mut self, now: Mono, proven: bool, settled: bool) -> bool {
        let stopped = proven || now.since(self.stop_at) >= PROVE_WITHIN;
        if stopped {
            self.zero_at.get_or_insert(now);
        }
        stopped && self.zero_at.is_some_and(|zero| settled || now.since(zero) >= SETTLE_WITHIN)
    }
}

/// What carries outputs out.
pub(crate) struct Shell {
    pub(crate) clock: Clock,
    pub(crate) lanes: Lanes,
    pub(crate) orders: Vec<mpsc::Sender<Order>>,
    pub(crate) guard: Box<dyn GuardLine>,
    /// Per unit: how it is stopped by whoever has no driver; the newest.
    pub(crate) scripts: Vec<watch::Receiver<StopScript>>,
    pub(crate) record: RecordQueue,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) pending: BTreeMap<RequestId, oneshot::Sender<Verdict>>,
    /// Units with a stop under way, and its generation.
    pub(crate) unproven: BTreeMap<DeviceId, Generation>,
    /// Units whose link has been up in this session.
    pub(crate) seen_up: BTreeSet<DeviceId>,
    pub(crate) closing: bool,
    /// Newest wall clock on record that the clock must not be behind.
    pub(crate) newest: Option<jiff::Timestamp>,
}

enum Wake {
    Stop,
    Close,
    Guard,
    Request(Asked),
    Device(Input),
    Record,
    Heartbeat,
    Tick,
    Deaf,
}

impl SessionTask {
    pub(crate) fn new(governor: Governor, shell: Shell, ends: Ends) -> Self {
        let mut stop = shell.lanes.subscribe_session();
        // The guard may have passed one on before there was a session to take it.
        if stop.borrow().count > 0 {
            stop.mark_changed();
        }
        let (publish_at, asleep) = (shell.clock.now(), shell.clock.suspended());
        Self { governor, shell, ends, stop, publish_at, asleep, closing: None }
    }

    /// Runs until the session is closed and its record sealed.
    pub(crate) async fn run(mut self) -> SessionEnd {
        let present = *self.ends.guard.borrow_and_update();
        self.advance(Input::Guard { present });
        let sane = !self.shell.clock_is_behind();
        self.ends.clock_sane = sane;
        self.advance(Input::ClockSane(sane));
        for (device, cause, left) in std::mem::take(&mut self.ends.locked) {
            self.advance(Input::LockedOut { device, cause, left });
        }
        // The head of the session is on the disk: the record takes entries.
        self.advance(Input::Record(RecordHealth::Healthy));
        if let Some(by) = self.ends.latched.take() {
            self.advance(Input::Stop { by, reason: StopReason::EmergencyStop });
        }
        loop {
            self.publish();
            if self.is_closed() {
                break;
            }
            let wake = self.wake().await;
            self.notice_sleep();
            self.notice_clock();
            match wake {
                Wake::Stop => self.stopped(),
                Wake::Close => self.close(),
                Wake::Guard => self.guard(),
                Wake::Request(asked) => self.request(asked),
                Wake::Device(input) => {
                    self.hear_why().await;
                    self.shell.notice(&input);
                    self.advance(input);
                }
                Wake::Record => self.record(),
                Wake::Heartbeat => self.heartbeat(),
                Wake::Tick => self.tick(),
                Wake::Deaf => break,
            }
        }
        self.seal().await
    }

    /// A signal, a panic or the guard's end stops the units first and says why a moment later. What a unit reports of
    /// that stop is no news of the unit: it waits for the reason.
    async fn hear_why(&mut self) {
        if self.closing.is_none()
            && self.shell.lanes.is_emergency()
            && let Ok(Ok(())) = tokio::time::timeout(WHY_WITHIN, self.ends.close.changed()).await
        {
            self.close();
        }
    }

    async fn wake(&mut self) -> Wake {
        let record = self.shell.record.deadline();
        let due = [self.governor.deadline(), record, Some(self.publish_at)].into_iter().flatten().min();
        // A deadline that lies in the past is due at once, but never keeps the other branches from running.
        let at = self.shell.clock.at(due.unwrap_or(self.publish_at));
        tokio::select! {
            biased;
            posted = self.stop.changed() => if posted.is_ok() { Wake::Stop } else { Wake::Deaf },
            asked = self.ends.close.changed(), if self.closing.is_none() => {
                if asked.is_ok() { Wake::Close } else { Wake::Deaf }
            }
            left = self.ends.guard.changed(), if *self.ends.guard.borrow() => {
                if left.is_ok() { Wake::Guard } else { Wake::Deaf }
            }
            Some(input) = self.ends.inputs.recv() => Wake::Device(input),
            () = self.shell.record.changed() => Wake::Record,
            Some(asked) = self.ends.requests.recv() => Wake::Request(asked),
            Ok(()) = self.ends.heartbeat.changed() => Wake::Heartbeat,
            () = tokio::time::sleep_until(at) => Wake::Tick,
        }
    }

    /// Gives the governor one input and carries out what it orders.
    fn advance(&mut self, input: Input) {
        let now = self.shell.clock.now();
        let mut inputs = vec![input];
        let mut out = Vec::new();
        while let Some(input) = inputs.pop() {
            self.governor.advance(now, input, &mut out);
            for output in out.drain(..) {
                inputs.extend(self.shell.perform(now, output));
            }
            // A queue that ran over while carrying out is news of the record.
            if let Some(health) = self.shell.record.health(now) {
                inputs.push(Input::Record(health));
            }
        }
    }

    fn guard(&mut self) {
        let present = *self.ends.guard.borrow_and_update();
        self.advance(Input::Guard { present });
    }

    fn stopped(&mut self) {
        let asked = self.stop.borrow_and_update().why.clone();
        if let Some((by, reason)) = asked {
            let now = self.shell.clock.now();
            if let Some(closing) = &mut self.closing {
                closing.stopped(now);
            }
            self.advance(Input::Stop { by, reason });
        }
    }

    fn request(&mut self, asked: Asked) {
        let Asked { request, answer } = asked;
        if self.closing.is_some() || self.shell.pending.len() >= PENDING_MAX {
            let why = "The session is being closed. Nothing was changed.";
            answer_with(answer, Verdict::Refused(Refusal::State { why }));
            return;
        }
        self.shell.pending.insert(request.id, answer);
        self.advance(Input::Request(request));
    }

    fn record(&mut self) {
        if let Some(seq) = self.shell.record.durable() {
            self.advance(Input::Durable { seq });
        }
        self.check_record();
    }

    fn check_record(&mut self) {
        let now = self.shell.clock.now();
        if let Some(health) = self.shell.record.health(now) {
            if health == RecordHealth::Failing {
                let fault =
                    self.shell.record.fault().unwrap_or_else(|| "it takes no more entries".to_owned());
                tracing::error!(fault, "the record cannot be written");
            }
            self.advance(Input::Record(health));
        }
    }

    fn heartbeat(&mut self) {
        let seen = *self.ends.heartbeat.borrow_and_update();
        match seen {
            Seen::Never => {}
            Seen::Painted(issued) => self.advance(Input::Heartbeat { issued }),
            Seen::Gone => self.advance(Input::Unseen),
        }
    }

    fn tick(&mut self) {
        let now = self.shell.clock.now();
        self.record();
        if self.governor.deadline().is_some_and(|at| at <= now) {
            self.advance(Input::Tick);
        }
    }

    /// Notices on every wake-up whether the machine slept.
    fn notice_sleep(&mut self) {
        let asleep = self.shell.clock.suspended();
        if asleep.saturating_sub(self.asleep) > SLEPT {
            self.advance(Input::Suspended);
        }
        self.asleep = asleep;
    }

    /// Notices on every wake-up whether the wall clock was set behind the record, and when it is right again.
    fn notice_clock(&mut self) {
        let sane = !self.shell.clock_is_behind();
        if sane != self.ends.clock_sane {
            self.ends.clock_sane = sane;
            tracing::info!(sane, "the wall clock was set");
            // Without a screen nobody listens; a refusal says it all the same.
            self.shell.events.send(Event::Clock { sane }).unwrap_or_default();
            self.advance(Input::ClockSane(sane));
        }
    }

    fn publish(&mut self) {
        let now = self.shell.clock.now();
        let snapshot = self.governor.snapshot(now);
        let due = now >= self.publish_at || snapshot.version != self.ends.snapshot.borrow().version;
        if due {
            self.publish_at = now.saturating_add(SNAPSHOT_EVERY);
            self.ends.snapshot.send_replace(snapshot);
        }
    }

    fn close(&mut self) {
        let Some(close) = self.ends.close.borrow_and_update().clone() else {
            return;
        };
        // The guard's end closes the session, and its own news may come second: the alarm belongs in the note.
        if self.ends.guard.has_changed().unwrap_or(false) {
            self.guard();
        }
        let now = self.shell.clock.now();
        self.closing = Some(Closing::new(now));
        if close.stop_all || !is_quiet(&self.governor.snapshot(now)) {
            self.advance(Input::Stop { by: close.by, reason: close.reason });
        }
        self.shell.closing = true;
    }

    /// Returns whether every unit has proven its stop (or had its time), and the last doses are on record.
    fn is_closed(&mut self) -> bool {
        let now = self.shell.clock.now();
        let proven = self.shell.all_proven();
        let settled = self.governor.deadline().is_none();
        self.closing.as_mut().is_some_and(|closing| closing.is_over(now, proven, settled))
    }

    async fn seal(mut self) -> SessionEnd {
        self.advance(Input::Close);
        let unproven = self.shell.unproven_units();
        let at = self.shell.stamp(self.shell.clock.now());
        let answer = self.shell.record.seal(at);
        let sealed = match tokio::time::timeout(SEAL_WITHIN, answer).await {
            Ok(Ok(Ok(hash))) => Ok(hash),
            Ok(Ok(Err(fault))) => Err(fault.0),
            Ok(Err(_)) => Err(self.shell.record.fault().unwrap_or_else(|| "its writer is gone".to_owned())),
            Err(_) => Err("the disk did not answer in time".to_owned()),
        };
        if let Ok(hash) = &sealed {
            self.shell.guard.sealed(hash);
        }
        SessionEnd { sealed, unproven }
    }
}

impl Shell {
    /// Carries out one order of the governor. Never waits. Returns what came of it at once.
    pub(crate) fn perform(&mut self, now: Mono, output: Output) -> Option<Input> {
        match output {
            Output::Stop { device, generation } => self.stop(device, generation),
            Output::Drive { device, command } => self.order(device, Ordered::Command(command)),
            Output::Renew { device, until } => self.order(device, Ordered::Renew(until)),
            Output::Append { seq, at, entry } => {
                let entry = Arc::new(entry);
                log(seq.0, &entry);
                // Without a screen nobody listens; the record has it all the same.
                self.events.send(Event::Entry { at, entry: Arc::clone(&entry) }).unwrap_or_default();
                let stamp = self.stamp(at);
                self.newest = self.newest.max(Some(stamp.wall));
                self.record.append(stamp, seq, entry, now);
            }
            Output::Progress(dose) => self.record.progress(dose, now),
            Output::ProgressDone { device, channel } => self.record.progress_done(device, channel, now),
            Output::Verdict { request, verdict } => {
                if let Some(answer) = self.pending.remove(&request) {
                    answer_with(answer, verdict);
                }
            }
            // An alarm is in the next snapshot and has its own entry.
            Output::Alarm { alarm, raised } => {
                tracing::info!(cause = alarm.cause.code(), raised, "alarm");
            }
            Output::Guard(told) => return self.tell_guard(told),
        }
        None
    }

    fn tell_guard(&mut self, told: ForGuard) -> Option<Input> {
        let ForGuard::Hold { device } = told else {
            self.guard.tell(told, None);
            return None;
        };
        let script = self.scripts.get(usize::from(device.0)).map(|script| script.borrow().clone());
        let holds = self.guard.tell(told, script.as_ref())?;
        Some(Input::GuardHolds { device, holds })
    }

    fn stop(&mut self, device: DeviceId, generation: Generation) {
        self.lanes.post(device, generation);
        self.unproven.insert(device, generation);
    }

    fn order(&mut self, device: DeviceId, what: Ordered) {
        if self.closing || self.lanes.is_emergency() {
            return;
        }
        let Some(queue) = self.orders.get(usize::from(device.0)) else {
            return;
        };
        let order = Order { after: self.lanes.count(device), what };
        if queue.try_send(order).is_err() {
            // A task that takes no orders may be writing old ones: its stop lane still reaches it.
            tracing::error!(device = device.0, "a unit's task takes no orders: it is stopped");
            self.lanes.post(device, Generation(0));
        }
    }

    /// Keeps what the close needs to know of a device's report.
    fn notice(&mut self, input: &Input) {
        if let Input::Link { device, up: true } = input {
            self.seen_up.insert(*device);
        }
        if let Input::Report { device, report: Report::Stop { generation, progress, .. } } = input
            && *progress == StopProgress::Confirmed
            && self.unproven.get(device).is_some_and(|asked| generation >= asked)
        {
            self.unproven.remove(device);
        }
    }

    fn all_proven(&self) -> bool {
        self.unproven_units().is_empty()
    }

    /// Returns the units with an unproven stop; one that was never there cannot run.
    fn unproven_units(&self) -> Vec<DeviceId> {
        self.unproven.keys().filter(|device| self.seen_up.contains(device)).copied().collect()
    }

    fn clock_is_behind(&self) -> bool {
        let wall = self.clock.wall();
        self.newest.is_some_and(|newest| {
            newest > wall && newest.duration_since(wall).unsigned_abs() > CLOCK_BEHIND_MAX
        })
    }

    fn stamp(&self, mono: Mono) -> Stamp {
        Stamp { mono, wall: self.clock.wall() }
    }
}

fn answer_with(answer: oneshot::Sender<Verdict>, verdict: Verdict) {
    if answer.send(verdict).is_err() {
        tracing::debug!("the asker did not wait for its verdict");
    }
}

fn log(seq: u64, entry: &Entry) {
    tracing::debug!(seq, ?entry, "on record");
}

/// Returns whether no step holds a unit: nothing has to be stopped for the end of the session.
fn is_quiet(snapshot: &Snapshot) -> bool {
    snapshot.steps.iter().all(|step| match step.state {
        StepState::Waiting | StepState::Ended(_) => true,
        StepState::Arming
        | StepState::Armed
        | StepState::Running
        | StepState::Held
        | StepState::Finishing => false,
    })
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
