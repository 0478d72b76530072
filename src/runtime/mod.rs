//! The shell: the only module that spawns tasks. Everything that waits is here, nothing that decides.
//!
//! ```text
//!  screen -- SessionHandle --> session task (governor) -- orders, stop lane --> device task (driver, transport), one per unit
//!                                   |  ^                                              |
//!                          entries  v  | durable                     reports, links   |
//!                               recorder thread          session task <---------------+
//! ```
//!
//! Invariants:
//! - every queue is bounded and a full one is an answer; a stop is never an item of a queue;
//! - a task that ends unasked or panics stops every unit, and the process ends with a failure;
//! - the record is sealed after the units are at zero, never before.

mod device_task;
pub mod devices;
pub mod guard_line;
pub mod handle;
pub mod recorder_task;
pub mod session_task;
pub mod shutdown;
pub mod sounder;

#[cfg(test)]
mod fakes;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::alarm::Cause;
use crate::clock::Clock;
use crate::driver::Driver;
use crate::governor::{Governor, Input, Settings};
use crate::model::command::DeviceId;
use crate::model::packet::StopScript;
use crate::model::plan::Plan;
use crate::model::session::{Actor, StopReason};
use crate::transport::Transport;

use device_task::{Before, DeviceEnd, DeviceTask, ORDERS_MAX, Order};
use guard_line::{Guarding, PortFirst};
use handle::{EVENTS_MAX, Lanes, REQUESTS_MAX, Seen, SessionHandle};
use recorder_task::{Recorder, Writing};
use session_task::{Ends, SessionEnd, SessionTask, Shell};
use sounder::{SoundTask, Voice};

/// Inputs that may wait for the session task.
const INPUTS_MAX: usize = 256;

/// The whole close, once asked, must be over by then; after it the process ends whatever hangs. Shorter than the parent
/// process waits before it kills this one (12 s), so that the end is always said and never a kill.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// Runs blocking work that ends with the process, such as reading keys, on a thread of its own.
///
/// # Errors
/// The system gives no thread.
pub fn on_thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// A session about to run: its plan and, in the plan's order, the driver and transport of each unit.
pub struct Builder {
    clock: Clock,
    plan: Plan,
    lanes: Lanes,
    inputs: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    orders: Vec<mpsc::Sender<Order>>,
    devices: Vec<Pin<Box<dyn Future<Output = DeviceEnd> + Send>>>,
    /// How each unit is stopped by whoever has no driver; the newest.
    scripts: Vec<watch::Receiver<StopScript>>,
}

/// Joins every task of a running session.
pub struct Supervisor {
    clock: Clock,
    lanes: Lanes,
    handle: SessionHandle,
    tasks: JoinSet<TaskEnd>,
    recorder: oneshot::Receiver<bool>,
}

/// How the whole thing ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How the session ended; `None`: its task died.
    pub session: Option<SessionEnd>,
    /// What ended unasked, in words; empty after an orderly end.
    pub faults: Vec<String>,
    /// Units that were let go without a proven stop.
    pub unproven: Vec<DeviceId>,
    /// The system bus died: this process will not get another, a new one will.
    pub bus_dead: bool,
}

/// A supervisor that runs as a task of its own: the units' tasks and the record outlive a defect of who waits for it.
#[derive(Debug)]
pub struct Supervised(Option<JoinHandle<Ended>>);

impl Supervised {
    /// Waits until every task has ended. Cancel-safe; only the first end is told.
    pub async fn ended(&mut self) -> Ended {
        let joined = match &mut self.0 {
            Some(task) => task.await.ok(),
            None => None,
        };
        self.0 = None;
        joined.unwrap_or_else(|| Ended {
            session: None,
            faults: vec!["A defect of doseward ended the part that watches over the others".to_owned()],
            unproven: Vec::new(),
            bus_dead: false,
        })
    }
}

/// Why a session could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A unit of the plan has no transport.
    #[error("the plan has {planned} units, {given} were given")]
    Units {
        /// In the plan.
        planned: usize,
        /// Given.
        given: usize,
    },
    /// The system gave no thread.
    #[error("no thread for the record")]
    Thread(#[source] std::io::Error),
}

/// What else a session needs to begin.
pub struct Parts {
    /// Who acts at the handle.
    pub by: Actor,
    /// Lease length.
    pub settings: Settings,
    /// The session's record, begun.
    pub recorder: Box<dyn Recorder>,
    /// Who writes it.
    pub writing: Writing,
    /// The guard process.
    pub guard: Guarding,
    /// Newest entry of the record before the session: the wall clock must not be behind it. `None`: there is none, or a
    /// person has confirmed the clock.
    pub newest: Option<jiff::Timestamp>,
    /// What sounds the alarms.
    pub voice: Voice,
    /// Units that an earlier session locked, why and for how long yet.
    pub locked: Vec<(DeviceId, Cause, Duration)>,
    /// STOP ALL was asked before the daemon was started anew; by whom. A person resets it.
    pub latched: Option<Actor>,
}

enum TaskEnd {
    Session(SessionEnd),
    Device(DeviceId, DeviceEnd),
    Sound,
}

impl Builder {
    /// Begins with a plan.
    pub fn new(clock: Clock, plan: Plan) -> Self {
        let lanes = Lanes::new(plan.devices.len());
        let inputs = mpsc::channel(INPUTS_MAX);
        let (orders, devices, scripts) = (Vec::new(), Vec::new(), Vec::new());
        Self { clock, plan, lanes, inputs, orders, devices, scripts }
    }

    /// Adds the next unit of the plan. Nothing is written to it before [`Builder::start`].
    pub fn device<T: Transport + 'static>(&mut self, driver: Box<dyn Driver>, link: T) {
        self.device_after(driver, link, None);
    }

    /// As [`Builder::device`]; before each connection the guard opens the unit's port first.
    pub fn device_after<T: Transport + 'static>(
        &mut self,
        driver: Box<dyn Driver>,
        link: T,
        port: Option<PortFirst>,
    ) {
        let id = DeviceId(u8::try_from(self.orders.len()).unwrap_or(u8::MAX));
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        self.orders.push(orders);
        let Some(lane) = self.lanes.subscribe(id) else {
            return;
        };
        let reports = self.inputs.0.clone();
        let (script, newest) = watch::channel(driver.stop_script().clone());
        self.scripts.push(newest);
        let before = Before { port, script };
        let task = DeviceTask::new(id, self.clock.clone(), (driver, link), lane, (received, reports), before);
        self.devices.push(Box::pin(task.run()));
    }

    /// Starts every task. Must be called inside the runtime.
    ///
    /// # Errors
    /// Units and plan do not agree, or the system gave no thread.
    pub fn start(self, parts: Parts) -> Result<(SessionHandle, Supervisor), StartError> {
        let planned = self.plan.devices.len();
        if self.orders.len() != planned || self.devices.len() != planned {
            return Err(StartError::Units { planned, given: self.orders.len() });
        }
        let Guarding { present, line, listener } = parts.guard;
        if let Some(listener) = listener {
            // It ends with the guard, or with the runtime.
            tokio::spawn(listener.run(self.inputs.0.clone(), self.lanes.clone()));
        }
        let (record, recorder) = recorder_task::start(parts.recorder, self.clock.clone(), parts.writing)
            .map_err(StartError::Thread)?;
        let governor = Governor::new(self.plan, parts.settings, self.clock.now());
        let (requests, asked) = mpsc::channel(REQUESTS_MAX);
        let (snapshot, shown) = watch::channel(governor.snapshot(self.clock.now()));
        let (heartbeat, close) = (watch::Sender::new(Seen::Never), watch::Sender::new(None));
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let ends = Ends {
            requests: asked,
            inputs: self.inputs.1,
            heartbeat: heartbeat.subscribe(),
            guard: present,
            close: close.subscribe(),
            snapshot,
            clock_sane: true,
            locked: parts.locked,
            latched: parts.latched,
        };
        let shell = Shell {
            clock: self.clock.clone(),
            lanes: self.lanes.clone(),
            orders: self.orders,
            guard: line,
            scripts: self.scripts,
            record,
            events: events.clone(),
            pending: BTreeMap::new(),
            unproven: BTreeMap::new(),
            seen_up: std::collections::BTreeSet::new(),
            closing: false,
            newest: parts.newest,
        };
        let handle = SessionHandle {
            by: parts.by,
            requests,
            numbers: Arc::new(AtomicU64::new(1)),
            lanes: self.lanes.clone(),
            heartbeat: Arc::new(heartbeat),
            close: Arc::new(close),
            snapshot: shown.clone(),
            events,
        };
        let mut tasks = JoinSet::new();
        let session = SessionTask::new(governor, shell, ends);
        tasks.spawn(async move { TaskEnd::Session(session.run().await) });
        let sound = SoundTask {
            clock: self.clock.clone(),
            voice: parts.voice,
            snapshots: shown.clone(),
            inputs: self.inputs.0,
            said: None,
        };
        tasks.spawn(async move {
            sound.run().await;
            TaskEnd::Sound
        });
        for (id, device) in (0u8..).map(DeviceId).zip(self.devices) {
            tasks.spawn(async move { TaskEnd::Device(id, device.await) });
        }
        let supervisor =
            Supervisor { clock: self.clock, lanes: self.lanes, handle: handle.clone(), tasks, recorder };
        Ok((handle, supervisor))
    }
}

impl Supervisor {
    /// Lets it run as a task of its own.
    pub fn start(self) -> Supervised {
        Supervised(Some(tokio::spawn(self.run())))
    }

    /// Runs until every task has ended. A task that ends unasked stops every unit and closes the session.
    pub async fn run(mut self) -> Ended {
        let mut ended = Ended { session: None, faults: Vec::new(), unproven: Vec::new(), bus_dead: false };
        let mut asked = self.handle.close.subscribe();
        let mut writing = true;
        let mut give_up = None;
        loop {
            let late = device_task::sleep_until(give_up.map(|at| self.clock.at(at)));
            tokio::select! {
                biased;
                joined = self.tasks.join_next() => match joined {
                    None => return ended,
                    Some(joined) => self.joined(joined, &mut ended),
                },
                panicked = &mut self.recorder, if writing => {
                    writing = false;
                    let panicked = panicked.unwrap_or(true);
                    // It ends by itself when the session task, which feeds it, is over.
                    if panicked || self.handle.close.borrow().is_none() {
                        let why = if panicked { "was ended by a defect of doseward" } else { "ended" };
                        self.fault(&mut ended, format!("The record's writer {why}"));
                    }
                }
                Ok(()) = asked.changed(), if give_up.is_none() => {
                    give_up = Some(self.clock.now().saturating_add(CLOSE_WITHIN));
                }
                () = late => {
                    ended.faults.push("A part of doseward did not end in time".to_owned());
                    return ended;
                }
            }
        }
    }

    fn joined(&self, joined: Result<TaskEnd, tokio::task::JoinError>, ended: &mut Ended) {
        match joined {
            Ok(TaskEnd::Session(end)) => {
                if self.handle.close.borrow().is_none() {
                    self.fault(ended, "The part that holds the limits ended".to_owned());
                }
                ended.session = Some(end);
            }
            Ok(TaskEnd::Device(id, end)) => self.device_ended(id, end, ended),
            // It ends with the snapshots, and those with the session task, whose end is said.
            Ok(TaskEnd::Sound) => {}
            // The session task died: its ends are gone, and with them the units' orders; each unit stops for it.
            Err(error) => {
                let why =
                    if error.is_panic() { "was ended by a defect of doseward" } else { "was cancelled" };
                self.fault(ended, format!("A part of doseward {why}"));
            }
        }
    }

    fn device_ended(&self, id: DeviceId, end: DeviceEnd, ended: &mut Ended) {
        let unit = id.0.saturating_add(1);
        let fault = match end {
            DeviceEnd::Stopped => None,
            DeviceEnd::Unproven => {
                ended.unproven.push(id);
                None
            }
            DeviceEnd::BusDead => {
                ended.bus_dead = true;
                Some(format!(
                    "Unit {unit} cannot be reached: the system bus, which carries Bluetooth, is gone"
                ))
            }
            DeviceEnd::Unheard => Some(format!("Unit {unit}: nobody took its reports")),
            DeviceEnd::Panicked { proven: true } => Some(format!(
                "A defect of doseward ended the driver of unit {unit}; the unit has proven its stop"
            )),
            DeviceEnd::Panicked { proven: false } => {
                ended.unproven.push(id);
                Some(format!("A defect of doseward ended the driver of unit {unit}"))
            }
        };
        let asked = self.handle.close.borrow().is_some();
        match fault {
            Some(fault) => self.fault(ended, fault),
            None if !asked => self.fault(ended, format!("The task of unit {unit} ended")),
            None => {}
        }
    }

    /// Stops every unit and begins the close.
    fn fault(&self, ended: &mut Ended, what: String) {
        self.lanes.emergency();
        tracing::warn!(what, "every unit is told to stop");
        ended.faults.push(what);
        self.handle.close_by_itself(StopReason::OtherText);
    }
}
