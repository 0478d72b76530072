//! The guard: the parent process. It starts the daemon, watches it, stops units when the daemon cannot, starts it again.
//!
//! ```text
//!  guard --+-- simulators   own process group: a key at the terminal does not end them; last to go
//!          +-- daemon       same group; its standard input is one end of a packet socket (`link`)
//!
//!  start daemon --> watch it (`armed`) --lapse or death--> kill it, stop every armed unit until proven (`serial`,
//!       ^                                                  `ble`), journal --+
//!       +--------------- at zero, unless it dies too often ------------------+
//! ```
//!
//! It knows nothing of protocols or limits. While a daemon lives it reads nothing from a unit and writes nothing to one.
//! When the guard itself dies, the daemon's line ends, and the daemon stops every unit and exits.
//!
//! Invariants:
//! - it kills first and stops then: a daemon that thaws would write again;
//! - while it stops, it waits for no disk and no terminal: threads of their own write there;
//! - no new daemon before every unit in use has proven its stop, or a person has ended the attempts; one that a person
//!   has stated stopped is stopped too, for at least ten seconds;
//! - it outlives every child that it started and can reach; the terminal is left as it was found; the simulators end
//!   last, so that stops reach them.

pub mod armed;
mod ble;
pub mod control;
pub mod journal;
pub mod link;
mod scene;
mod serial;
mod simulators;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use crate::clock::Clock;
use crate::console;
use crate::guard::armed::{State, Watch, Why};
use crate::guard::ble::{Gatt, Radio};
use crate::guard::control::{Asked, Control, ControlError};
use crate::guard::journal::{Journal, What};
use crate::guard::link::{Answer, Said, Way};
use crate::guard::scene::{PROOF_WITHIN, Scene};
use crate::guard::serial::Port;
use crate::guard::simulators::{Places, Simulators};
use crate::model::packet::StopScript;
use crate::units::Mono;

/// Simulators must say where they are within this time.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// After a signal the daemon has this long in all to seal its record.
const END_WITHIN: Duration = Duration::from_secs(12);
/// A child that was asked to end gets this long before it is killed.
const KILL_AFTER: Duration = Duration::from_secs(2);
/// Without a person the attempts to prove a stop end after this; simulated units only.
const UNATTENDED_WITHIN: Duration = Duration::from_secs(10);
/// Words that are still unwritten at the end are waited for so long.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Between two daemons, and at the end, the guard's journal may take so long to reach the disk.
const DISK_WITHIN: Duration = Duration::from_secs(2);
/// A unit that a person has stated stopped keeps no new daemon waiting for longer.
const STATED_WITHIN: Duration = Duration::from_secs(10);
/// A take-over looks around this often.
const TICK: Duration = Duration::from_millis(20);
/// This many deaths within [`DEATHS_WITHIN`], and the daemon stays down.
const DEATHS_MAX: usize = 3;
const DEATHS_WITHIN: Duration = Duration::from_secs(60);

/// Said to a person while a stop is not proven; one signal ends the attempts from then on.
const HOW_TO_END: &str =
    "It goes on trying until the unit answers. When you have seen it stop by hand, press Ctrl-C to end.";

/// Answers to STOP ALL where no unit is in use.
const NOTHING_IN_USE: &str = "No unit is in use here: nothing had to be stopped.\n";
const BEGINS_STOPPED: &str =
    "No unit is in use yet. The session that starts now begins stopped; R resets it.\n";
const BEGINS_AGAIN_STOPPED: &str =
    "No unit is in use. When a session starts again here, it begins stopped; R resets it.\n";

/// What to start. Both children are this very program.
#[derive(Clone, Debug)]
pub struct Launch {
    /// This program.
    pub program: PathBuf,
    /// Arguments that make it the simulators.
    pub simulators: Vec<OsString>,
    /// Arguments that make it the daemon; the units' places are appended.
    pub daemon: Vec<OsString>,
    /// Appended when an earlier daemon has died.
    pub again: OsString,
    /// A person is there.
    pub attended: bool,
    /// Where the journal is kept.
    pub data: PathBuf,
    /// Where `stop` and `status` are asked.
    pub control: control::Place,
}

/// How the daemon ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(u8),
    /// It died, or was killed from here.
    Died,
}

/// Why the processes could not be started.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// A child could not be started or waited for.
    #[error("{what} could not be started")]
    Start {
        /// Which.
        what: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The simulators ended or said nothing in time.
    #[error("the simulators did not come up: {reason}")]
    Simulators {
        /// What was seen.
        reason: String,
        /// Their exit code, when they ended: 3 is a bad file.
        code: Option<u8>,
    },
    /// The journal cannot be written.
    #[error("the guard's journal in {} cannot be written", path.display())]
    Journal {
        /// The data directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// There is no control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Starts everything and stays until it is over.
///
/// # Errors
/// A child could not be started.
pub fn run(launch: &Launch) -> Result<Ended, GuardError> {
    let failed = |source| GuardError::Start { what: "the guard's own loop", source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let terminal = Terminal::found();
    let ended = runtime.block_on(supervise(launch, terminal.as_ref()));
    if let Some(terminal) = terminal {
        terminal.restore();
    }
    console::flush(LAST_WORDS);
    ended
}

async fn supervise(launch: &Launch, terminal: Option<&Terminal>) -> Result<Ended, GuardError> {
    let mut signals = Signals::take().map_err(|source| GuardError::Start { what: "signals", source })?;
    let clock = Clock::start();
    let journal = Journal::open(&launch.data, clock.clone());
    let path = launch.data.clone();
    let journal = journal.map_err(|source| GuardError::Journal { path, source })?;
    let control = Control::open(&launch.control)?;
    let mut simulators = Simulators::start(launch)?;
    let ready = tokio::select! {
        ready = timeout(READY_WITHIN, simulators.ready()) => ready,
        _ = signals.next() => Ok(Err(GuardError::Simulators { reason: "interrupted".to_owned(), code: None })),
    };
    let late = || format!("not ready within {} s", READY_WITHIN.as_secs());
    let places = match ready.unwrap_or_else(|_| Err(GuardError::Simulators { reason: late(), code: None })) {
        Ok(places) => places,
        Err(error) => {
            simulators.end().await;
            return Err(error);
        }
    };
    let radio = Rc::new(Radio::new(places.bus.clone()));
    let mut guard = Guard {
        launch,
        places,
        watch: Watch::new(clock.now()),
        clock,
        signals,
        simulators,
        control,
        journal: Some(journal),
        radio,
        ports: BTreeMap::new(),
        units: BTreeMap::new(),
        proven: BTreeMap::new(),
        planned: Vec::new(),
        asked_to_end: 0,
        in_session: false,
        stop_owed: false,
    };
    let ended = guard.lives(terminal).await;
    guard.control.finish().await;
    guard.simulators.end().await;
    ended
}

/// The whole of it.
struct Guard<'a> {
    launch: &'a Launch,
    clock: Clock,
    places: Places,
    signals: Signals,
    simulators: Simulators,
    control: Control,
    /// Lent to a take-over.
    journal: Option<Journal>,
    radio: Rc<Radio>,
    /// Every port that a daemon has used.
    ports: BTreeMap<PathBuf, Port>,
    units: BTreeMap<u8, Unit>,
    watch: Watch,
    /// When a unit last proved zero.
    proven: BTreeMap<u8, Mono>,
    /// Labels of the units of the plan, as far as the daemon has named them.
    planned: Vec<String>,
    /// How often a person has asked for the end.
    asked_to_end: u32,
    /// The daemon has named its session: what is noted now is about it.
    in_session: bool,
    /// STOP ALL was asked before there was a session that could latch it: the next one is told.
    stop_owed: bool,
}

/// One unit as the daemon handed it over.
struct Unit {
    label: String,
    by_hand: String,
    way: Way,
    script: StopScript,
    gatt: Option<Gatt>,
}

/// One daemon.
struct Life {
    child: Child,
    pidfd: OwnedFd,
    line: AsyncFd<OwnedFd>,
    /// Its end of the line is closed: it is about to end.
    hung_up: bool,
    /// A signal was passed on; it is killed then.
    end_by: Option<Mono>,
}

enum Wake {
    Line(Vec<io::Result<Option<Said>>>),
    Over(io::Result<ExitStatus>),
    Found(u8, Result<Gatt, String>),
    Signal(Signal),
    Asked(Asked),
    SimulatorsGone,
    Due,
}

/// A look at a unit's objects.
type Look = std::pin::Pin<Box<dyn Future<Output = (u8, Result<Gatt, String>)>>>;

impl Guard<'_> {
    /// Runs one daemon after the other.
    async fn lives(&mut self, terminal: Option<&Terminal>) -> Result<Ended, GuardError> {
        let mut deaths: VecDeque<Mono> = VecDeque::new();
        loop {
            let over = self.live(!deaths.is_empty()).await;
            // The next daemon, from here or at the next start, reads what was noted.
            if self.journal.as_ref().is_some_and(|journal| !journal.flush(DISK_WITHIN)) {
                say("The disk does not answer: what the guard process did may be missing in the record.");
            }
            let (ended, why) = over?;
            let given_up = match why {
                Some(why) => self.after(&why, terminal),
                None => return Ok(ended),
            };
            let now = self.clock.now();
            deaths.push_back(now);
            deaths.retain(|at| now.since(*at) <= DEATHS_WITHIN);
            if ended != Ended::Died || given_up || self.asked_to_end > 0 {
                return Ok(ended);
            }
            if deaths.len() >= DEATHS_MAX {
                let count = deaths.len();
                say(&format!(
                    "It has died {count} times within a minute: it stays down, and nothing is driven. The record is \
                     completed at the next start."
                ));
                return Ok(ended);
            }
            say("doseward starts again, at zero.");
        }
    }

    /// Leaves everything as a new daemon needs it. Returns whether a unit was given up unproven.
    fn after(&mut self, why: &Why, terminal: Option<&Terminal>) -> bool {
        for port in self.ports.values() {
            port.let_in();
        }
        if let Some(terminal) = terminal {
            terminal.restore();
        }
        let unproven = self.watch.to_prove().iter().any(|device| !self.proven.contains_key(device));
        tracing::info!(why = why.code(), unproven, "a daemon is over");
        unproven
    }

    fn start(&self, again: bool) -> io::Result<Life> {
        let (ours, theirs) = link::pair()?;
        let mut command = Command::new(&self.launch.program);
        command.args(&self.launch.daemon).stdin(Stdio::from(theirs)).kill_on_drop(true);
        for unit in &self.places.units {
            command.arg("--unit").arg(unit);
        }
        if again {
            command.arg(&self.launch.again);
        }
        // libdbus reads its address once per process, at its first use.
        command
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.places.bus.as_deref().unwrap_or("unix:path=/nonexistent"));
        let child = command.spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Life { child, pidfd, line: link::watched(ours)?, hung_up: false, end_by: None })
    }

    /// Runs one daemon until it is over and its units are stopped. Returns how it ended and, when the guard had to act
    /// or it died, why.
    async fn live(&mut self, again: bool) -> Result<(Ended, Option<Why>), GuardError> {
        let failed = |source| GuardError::Start { what: "the daemon", source };
        let mut life = self.start(again).map_err(failed)?;
        self.watch = Watch::new(self.clock.now());
        self.units.clear();
        self.proven.clear();
        self.planned.clear();
        self.in_session = false;
        let mut looks: FuturesUnordered<Look> = FuturesUnordered::new();
        let why = loop {
            match self.wake(&mut life, &mut looks).await {
                Wake::Line(messages) => {
                    if let Some(why) = self.hear_all(messages, &mut life, &looks).await {
                        break why;
                    }
                }
                Wake::Over(status) => {
                    self.last_words(&life, &looks);
                    self.settle();
                    let ended = ended(status.map_err(failed)?);
                    break match ended {
                        Err(how) => Why::Died(how),
                        Ok(code) if self.watch.to_prove().is_empty() => return Ok((Ended::Code(code), None)),
                        Ok(code) => {
                            self.take_over(&Why::Left, &mut life).await;
                            return Ok((Ended::Code(code), Some(Why::Left)));
                        }
                    };
                }
                Wake::Found(device, found) => self.found(device, found, &life),
                Wake::Signal(number) => {
                    tell(&life.child, number);
                    self.asked_to_end = self.asked_to_end.saturating_add(1);
                    self.watch.signalled(self.clock.now());
                    life.end_by.get_or_insert(self.clock.now().saturating_add(END_WITHIN));
                }
                Wake::Asked(asked) => self.asked(asked, &life),
                Wake::SimulatorsGone => say("The simulators have ended: the simulated units are gone."),
                Wake::Due => {
                    let now = self.clock.now();
                    if let Some(why) = self.watch.lapse(now) {
                        break why;
                    }
                    if life.end_by.is_some_and(|at| now >= at) {
                        break Why::SignalUnanswered;
                    }
                }
            }
            self.settle();
        };
        self.take_over(&why, &mut life).await;
        Ok((Ended::Died, Some(why)))
    }

    /// Tells those who wait for proof what is proven by now.
    fn settle(&mut self) {
        let (proven, units) = (&self.proven, &self.units);
        let now = self.clock.now();
        self.control.settle(now, |device| proven.get(&device).copied(), |device| words(units, device));
    }

    async fn wake(&mut self, life: &mut Life, looks: &mut FuturesUnordered<Look>) -> Wake {
        let asked = self.control.is_waited_for().then(|| self.clock.now().saturating_add(TICK));
        let due = [self.watch.deadline(), life.end_by, asked].into_iter().flatten().min();
        let due = due.map(|at| self.clock.at(at));
        tokio::select! {
            biased;
            ready = life.line.readable(), if !life.hung_up => Wake::Line(match ready {
                Err(error) => vec![Err(error)],
                Ok(mut ready) => {
                    let mut messages = messages(life.line.get_ref());
                    if messages.last().is_some_and(is_later) {
                        ready.clear_ready();
                        messages.pop();
                    }
                    messages
                }
            }),
            status = life.child.wait() => Wake::Over(status),
            Some((device, found)) = looks.next(), if !looks.is_empty() => Wake::Found(device, found),
            number = self.signals.next() => Wake::Signal(number),
            asked = self.control.next() => Wake::Asked(asked),
            () = self.simulators.drain() => Wake::SimulatorsGone,
            () = until(due) => Wake::Due,
        }
    }

    /// Takes in what the daemon said; returns why to take over when its end of the line is gone or not understood.
    async fn hear_all(
        &mut self,
        messages: Vec<io::Result<Option<Said>>>,
        life: &mut Life,
        looks: &FuturesUnordered<Look>,
    ) -> Option<Why> {
        for message in messages {
            match message {
                Ok(Some(said)) => self.hear(said, life, looks),
                Ok(None) => {
                    life.hung_up = true;
                    // The line ends a moment before the process does.
                    let over = timeout(TICK, life.child.wait()).await;
                    return match over {
                        Ok(Ok(status)) => match ended(status) {
                            Err(how) => Some(Why::Died(how)),
                            // An orderly end is told by the process, not by its line.
                            Ok(_) => None,
                        },
                        Ok(Err(_)) | Err(_) => Some(Why::Garbled),
                    };
                }
                Err(error) => {
                    tracing::error!(%error, "the daemon is not understood");
                    return Some(Why::Garbled);
                }
            }
        }
        None
    }

    /// Takes in what a daemon that is over has still said.
    fn last_words(&mut self, life: &Life, looks: &FuturesUnordered<Look>) {
        for said in messages(life.line.get_ref()).into_iter().filter_map(|message| message.ok().flatten()) {
            self.hear(said, life, looks);
        }
    }

    fn hear(&mut self, said: Said, life: &Life, looks: &FuturesUnordered<Look>) {
        let (now, clock) = (self.clock.now(), self.clock.clone());
        self.watch.hear(now, &said, |us| clock.from_monotonic_us(us));
        match said {
            Said::Session { id, units, .. } => {
                self.planned = units;
                if let Some(journal) = &mut self.journal {
                    journal.about(&id);
                }
                self.in_session = true;
                if std::mem::take(&mut self.stop_owed) {
                    self.pass_on_stop(life);
                }
            }
            Said::Port { device, path } => {
                if let Err(error) = self.open(&path) {
                    tracing::debug!(port = %path.display(), %error, "not opened");
                }
                answer(life, &Answer::Port { device });
            }
            Said::Hold { device, label, by_hand, way, script } => {
                let script = StopScript::from(script);
                match &way {
                    Way::Serial { path } => {
                        let held = self.open(path).map(Port::remember);
                        let why_not = held.err().map(|error| error.to_string());
                        answer(life, &Answer::Holds { device, why_not });
                    }
                    Way::Bluetooth { address } => {
                        let (radio, address, script) =
                            (Rc::clone(&self.radio), address.clone(), script.clone());
                        looks.push(Box::pin(async move { (device, radio.find(&address, &script).await) }));
                    }
                }
                let gatt = self.units.remove(&device).and_then(|unit| unit.gatt);
                self.units.insert(device, Unit { label, by_hand, way, script, gatt });
            }
            Said::Released { device, proven: true } => {
                self.proven.insert(device, now);
            }
            Said::Sealed { hash } => {
                if let Some(journal) = &self.journal {
                    journal.note(now, What::Anchor { hash });
                }
            }
            Said::Armed { device } | Said::Stopping { device } => {
                // What it proved before says nothing of what comes.
                self.proven.remove(&device);
            }
            Said::Leaving => {
                // What is at rest now stays so: nothing is driven any more. Who asked a moment ago hears that.
                let held = self.watch.units().iter().filter(|(_, state)| **state == State::Held);
                let held: Vec<u8> = held.map(|(device, _)| *device).collect();
                self.proven.extend(held.into_iter().map(|device| (device, now)));
            }
            Said::Lease { .. } | Said::Released { proven: false, .. } | Said::Beat => {}
        }
    }

    /// Returns the port of a path, opened before or now.
    fn open(&mut self, path: &std::path::Path) -> io::Result<&mut Port> {
        if !self.ports.get(path).is_some_and(Port::is_good) {
            // A hung-up port is closed before its path is opened again.
            self.ports.remove(path);
            self.ports.insert(path.to_owned(), Port::open(path)?);
        }
        self.ports.get_mut(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn found(&mut self, device: u8, found: Result<Gatt, String>, life: &Life) {
        let why_not = match found {
            Ok(gatt) => {
                if let Some(unit) = self.units.get_mut(&device) {
                    unit.gatt = Some(gatt);
                }
                None
            }
            Err(why) => Some(why),
        };
        answer(life, &Answer::Holds { device, why_not });
    }

    /// Passes STOP ALL on to the daemon, which latches it, and notes it: one that dies first leaves it to the next.
    fn pass_on_stop(&mut self, life: &Life) {
        let now = self.clock.now();
        answer(life, &Answer::StopAll);
        self.watch.stop_asked(now);
        if let Some(journal) = &self.journal {
            journal.note(now, What::StopAsked);
        }
    }

    /// Somebody asks at the control socket while a daemon lives.
    fn asked(&mut self, asked: Asked, life: &Life) {
        let now = self.clock.now();
        match asked {
            Asked::Status(stream) => {
                let text = self.status(now);
                self.control.answer(stream, text, 0);
            }
            Asked::Stop(stream) => {
                if self.in_session {
                    self.pass_on_stop(life);
                } else {
                    self.stop_owed = true;
                }
                let ends = self.watch.is_leaving() || life.hung_up || life.end_by.is_some();
                let mut text = String::new();
                if self.units.is_empty() {
                    text += if ends { NOTHING_IN_USE } else { BEGINS_STOPPED };
                }
                let known = |label: &String| self.units.values().any(|unit| unit.label == *label);
                for label in self.planned.iter().filter(|label| !ends && !known(label)) {
                    text += &format!(
                        "{label}: out of reach until now. Nothing was written to it; it is stopped first when it is \
                         connected.\n"
                    );
                }
                // A daemon that has said that it ends orders nothing any more: what was at rest stays so.
                let at_rest = |device: &u8| {
                    self.watch.is_leaving() && self.watch.units().get(device) == Some(&State::Held)
                };
                let (rest, left): (Vec<u8>, Vec<u8>) = self.units.keys().partition(|device| at_rest(device));
                let rest = rest.into_iter().map(|device| words(&self.units, device).0);
                self.tell_stopped(stream, now, left, (text, rest.collect()));
            }
        }
    }

    /// Says which units were at rest already, and keeps the asker until the stops of the others are proven.
    fn tell_stopped(
        &mut self,
        stream: UnixStream,
        since: Mono,
        left: Vec<u8>,
        (mut text, rest): (String, Vec<String>),
    ) {
        for label in rest {
            text += &format!("{label}: at rest already; its zero was proven before.\n");
        }
        if left.is_empty() {
            self.control.answer(stream, text, 0);
        } else {
            self.control.wait(stream, since, left.into_iter().collect(), text);
        }
    }

    fn status(&self, now: Mono) -> String {
        // At rest no sign of life is due.
        let mut text = if self.watch.to_prove().is_empty() {
            "The part that drives the units runs.\n".to_owned()
        } else {
            let silent = self.watch.silent(now).as_millis();
            format!("The part that drives the units runs; last heard {silent} ms ago.\n")
        };
        for (device, state) in self.watch.units() {
            let (label, _) = words(&self.units, *device);
            let state = match state {
                State::Held => "at rest".to_owned(),
                State::Armed(None) => "armed".to_owned(),
                State::Armed(Some(until)) => {
                    format!("armed; output may go on for {} ms unless renewed", until.since(now).as_millis())
                }
                State::Stopping => "stopping; not proven yet".to_owned(),
                State::Stated => {
                    let (_, by_hand) = words(&self.units, *device);
                    format!("a person has stated that it stopped; not proven. {by_hand}")
                        .trim_end_matches([' ', '.'])
                        .to_owned()
                }
            };
            text += &format!("{label}: {state}.\n");
        }
        if self.units.is_empty() {
            text += "No unit is in use.\n";
        }
        text
    }

    /// Kills the daemon and stops every armed unit until each has proven it.
    async fn take_over(&mut self, why: &Why, life: &mut Life) {
        // First: a daemon that thaws would write again.
        if let Err(error) = pidfd_send_signal(&life.pidfd, Signal::KILL) {
            tracing::debug!(%error, "the daemon is gone already");
        }
        let (gone, reaped) = watch::channel(*why == Why::Left);
        // A stop that a person asked for reaches every unit, armed or not.
        let devices = if *why == Why::StopUnanswered || self.watch.is_stop_owed() {
            self.units.keys().copied().collect()
        } else {
            self.watch.to_stop()
        };
        let Some(journal) = self.journal.take() else {
            return;
        };
        let stopped: BTreeMap<u8, Unit> =
            devices.iter().filter_map(|device| Some((*device, self.units.remove(device)?))).collect();
        let named = stopped.iter().map(|(device, unit)| (*device, unit.label.clone(), unit.by_hand.clone()));
        let scene = Scene::new(self.clock.clone(), journal, named, why, reaped);
        let ports = self.stop_all(&stopped, (&scene, why), life, &gone).await;
        self.ports.extend(ports);
        self.units.extend(stopped);
        for device in devices {
            if let Some(at) = scene.proven(device) {
                self.proven.insert(device, at);
            }
        }
        let (journal, given_up) = scene.end();
        self.journal = Some(journal);
        for unit in given_up {
            let by_hand =
                self.units.values().find(|it| it.label == unit).map_or("", |it| it.by_hand.as_str());
            say(&format!("{unit}: its stop was never proven. {by_hand}"));
        }
    }

    /// Runs the stops of all units side by side, until proven or ended by a person. Returns the ports.
    async fn stop_all(
        &mut self,
        units: &BTreeMap<u8, Unit>,
        (scene, why): (&Scene, &Why),
        life: &mut Life,
        gone: &watch::Sender<bool>,
    ) -> Vec<(PathBuf, Port)> {
        let mut stops = FuturesUnordered::new();
        for (device, unit) in units {
            let port = match &unit.way {
                Way::Serial { path } => self.ports.remove(path),
                Way::Bluetooth { .. } => None,
            };
            stops.push(stop(*device, unit, port, (Rc::clone(&self.radio), self.clock.clone()), scene));
        }
        let mut ports = Vec::new();
        let (mut told, mut invited) = (false, false);
        let began = self.clock.now();
        let stated = |device: &u8| self.watch.units().get(device) == Some(&State::Stated);
        let owing: Vec<u8> = units.keys().filter(|device| !stated(device)).copied().collect();
        let give_up = (!self.launch.attended).then(|| began.saturating_add(UNATTENDED_WITHIN));
        loop {
            let tick = self.clock.at(self.clock.now().saturating_add(TICK));
            tokio::select! {
                biased;
                stopped = stops.next(), if !stops.is_empty() => ports.extend(stopped.flatten()),
                status = life.child.wait(), if !*gone.borrow() => {
                    tracing::info!(?status, "the daemon is gone");
                    gone.send_replace(true);
                }
                _ = self.signals.next() => {
                    self.asked_to_end = self.asked_to_end.saturating_add(1);
                    // Who was told how to end it, or whom the daemon has heard, need not say it twice.
                    if self.asked_to_end.saturating_add(u32::from(*why == Why::Left || invited)) >= 2 {
                        break;
                    }
                    say("Still stopping. Once more, and the attempts end although nothing is proven.");
                }
                asked = self.control.next() => self.asked_meanwhile(asked, units, (scene, why), began),
                () = sleep_until(tick) => {}
            }
            // Words come after the first stop of every unit that can be reached.
            let now = self.clock.now();
            if !told && (scene.all_written() || now.since(began) >= PROOF_WITHIN) {
                told = true;
                say_what_happened(why, units.is_empty());
            }
            scene.tick();
            if self.launch.attended && !invited && scene.is_loud() {
                invited = true;
                say(HOW_TO_END);
            }
            let before = &self.proven;
            let proven = |device| scene.proven(device).or_else(|| before.get(&device).copied());
            self.control.settle(now, proven, |device| words(units, device));
            let owed = owing.iter().any(|device| scene.proven(*device).is_none());
            let settled = stops.is_empty() || (!owed && now.since(began) >= STATED_WITHIN);
            if (settled && *gone.borrow()) || give_up.is_some_and(|at| now >= at) {
                break;
            }
        }
        if !told {
            say_what_happened(why, units.is_empty());
        }
        ports
    }

    /// Somebody asks at the control socket while the units are stopped from here.
    fn asked_meanwhile(
        &mut self,
        asked: Asked,
        units: &BTreeMap<u8, Unit>,
        (scene, why): (&Scene, &Why),
        began: Mono,
    ) {
        match asked {
            Asked::Stop(stream) => {
                // The next daemon latches it: by the journal, or it is told when it has a session.
                if self.in_session {
                    scene.stop_asked();
                } else {
                    self.stop_owed = true;
                }
                let rest: Vec<String> = self.units.values().map(|unit| unit.label.clone()).collect();
                if units.is_empty() && rest.is_empty() {
                    let text = if *why == Why::Left { NOTHING_IN_USE } else { BEGINS_AGAIN_STOPPED };
                    self.control.answer(stream, text.to_owned(), 0);
                } else {
                    self.tell_stopped(stream, began, units.keys().copied().collect(), (String::new(), rest));
                }
            }
            Asked::Status(stream) => {
                let mut text =
                    "The part that drives the units is down; the guard process stops them.\n".to_owned();
                for (device, unit) in units {
                    let state = if scene.proven(*device).is_some() { "proven" } else { "not proven yet" };
                    text += &format!("{}: stop {state}.\n", unit.label);
                }
                self.control.answer(stream, text, 0);
            }
        }
    }
}

/// Stops one unit by its own way; returns its port.
async fn stop(
    device: u8,
    unit: &Unit,
    port: Option<Port>,
    (radio, clock): (Rc<Radio>, Clock),
    scene: &Scene,
) -> Option<(PathBuf, Port)> {
    match (&unit.way, port) {
        (Way::Serial { path }, Some(port)) => {
            Some((path.clone(), serial::stop(port, device, &unit.script, scene).await))
        }
        (Way::Serial { path }, None) => {
            // It was good when it was armed: it may be back.
            let port = Port::awaited(path).await;
            Some((path.clone(), serial::stop(port, device, &unit.script, scene).await))
        }
        (Way::Bluetooth { address }, _) => {
            let at = (device, address.as_str());
            ble::stop(&radio, at, &unit.script, unit.gatt.clone(), (scene, &clock)).await;
            None
        }
    }
}

fn say_what_happened(why: &Why, nothing_armed: bool) {
    if nothing_armed {
        say(&format!("{} No unit was in use.", why.words()));
    } else {
        alarm(&format!("{} The guard process stops every unit in use. Look at the client.", why.words()));
    }
}

fn words(units: &BTreeMap<u8, Unit>, device: u8) -> (String, String) {
    units.get(&device).map_or_else(
        || (format!("Unit {}", device.saturating_add(1)), String::new()),
        |unit| (unit.label.clone(), unit.by_hand.clone()),
    )
}

/// Takes everything off the line; an error or the end comes last.
fn messages(line: &OwnedFd) -> Vec<io::Result<Option<Said>>> {
    let mut messages = Vec::new();
    loop {
        let message = link::receive(line);
        let more = matches!(message, Ok(Some(_)));
        messages.push(message);
        if !more {
            return messages;
        }
    }
}

/// Returns whether a reading only says that there is nothing yet.
fn is_later(message: &io::Result<Option<Said>>) -> bool {
    message.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn answer(life: &Life, answer: &Answer) {
    // A daemon that does not read falls silent as well; that is judged.
    if let Err(error) = link::send(life.line.get_ref(), answer) {
        tracing::warn!(%error, "the daemon takes no answer");
    }
}

/// Sleeps until then; for ever without an instant. Cancel-safe.
async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Says something to the person at the terminal. Waits for nobody: stops go on while a terminal is paused.
fn say(text: &str) {
    console::say(format!("{text}\n").as_bytes());
}

/// Says something that must not be missed: with the terminal's bell.
fn alarm(text: &str) {
    say(&format!("\x07{text}"));
}

/// Returns the exit code, or how the process died.
fn ended(status: ExitStatus) -> Result<u8, String> {
    use std::os::unix::process::ExitStatusExt as _;
    // 101: the main thread panicked.
    match (status.code(), status.signal()) {
        (Some(101), _) => Err("a defect of doseward".to_owned()),
        (Some(code), _) => Ok(u8::try_from(code).unwrap_or(1)),
        (None, Some(signal)) => Err(format!("signal {signal}")),
        (None, None) => Err("no exit code".to_owned()),
    }
}

fn tell(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, signal)
    {
        tracing::debug!(%error, "a child has ended already");
    }
}

/// The signals that end a session; taken so that the parent outlives them, and passed on.
struct Signals {
    waiting: Vec<(tokio::signal::unix::Signal, Signal)>,
}

impl Signals {
    fn take() -> io::Result<Self> {
        let mut waiting = Vec::new();
        for number in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::TSTP] {
            waiting.push((signal(SignalKind::from_raw(number.as_raw()))?, number));
        }
        Ok(Self { waiting })
    }

    async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (waiting, number) in &mut self.waiting {
                if waiting.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// The terminal as it was found; a daemon that died may have left it without echo.
struct Terminal(Termios);

impl Terminal {
    fn found() -> Option<Self> {
        tcgetattr(io::stdin()).ok().map(Self)
    }

    fn restore(&self) {
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Now, &self.0) {
            tracing::debug!(%error, "the terminal could not be restored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_told_from_an_end() {
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(ended(ExitStatus::from_raw(0)), Ok(0));
        assert_eq!(ended(ExitStatus::from_raw(4 << 8)), Ok(4));
        assert_eq!(ended(ExitStatus::from_raw(9)), Err("signal 9".to_owned()));
        assert!(ended(ExitStatus::from_raw(101 << 8)).is_err());
    }
}
