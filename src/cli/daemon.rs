//! The hidden verb behind `run`: the process that drives the units. Its standard input is its line to the
//! guard, its parent.
//!
//! Order: files, then where every unit is, then the record, then the units. A session that cannot start is not in the
//! record; a record that cannot be written touches no device.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use futures_util::FutureExt as _;
use tokio::sync::watch;

use crate::alarm::Cause;
use crate::cli::autopilot::Autopilot;
use crate::cli::elsewhere::Elsewhere;
use crate::cli::keys::Keyboard;
use crate::cli::operate::{Operated, Operator, operate};
use crate::cli::record::outcome_of;
use crate::cli::run::DRIVES_ONLY_SIMULATED;
use crate::cli::{Outcome, chain, log_to_stderr, noted, print, say, sentence, words};
use crate::clock::Clock;
use crate::config::{self, Library, Loaded};
use crate::governor::{AlarmOutput, Settings, limits};
use crate::guard;
use crate::guard::armed::Why;
use crate::guard::journal::{Line, Stopped, TakeOver};
use crate::guard::link::Way;
use crate::model::budget::Spent;
use crate::model::command::DeviceId;
use crate::model::plan::Plan;
use crate::model::session::{Actor, SessionId};
use crate::record::RecordError;
use crate::record::daily::{self, Locked, Now};
use crate::record::entry::{Body, GuardUnit, SessionHead, Stamp};
use crate::record::journal::Journal;
use crate::record::recover::GuardAct;
use crate::record::settle::NarrowedBy;
use crate::record::spent::Asked;
use crate::record::store::Reader;
use crate::report::note;
use crate::runtime::devices::{Endpoint, Place, add_device};
use crate::runtime::guard_line::{Guarding, Handed, Inherited, control_socket};
use crate::runtime::handle::SessionHandle;
use crate::runtime::recorder_task::Writing;
use crate::runtime::session_task::CLOCK_BEHIND_MAX;
use crate::runtime::sounder::{LogSounder, Player, Tested, Voice};
use crate::runtime::{Builder, Parts, Supervisor, shutdown};

/// So many of the guard's newest acts are taken in at a start.
const ACTS_MAX: usize = 8;

/// The part that drives the units; started by `run`.
#[derive(Debug, Args)]
pub(crate) struct Daemon {
    /// The plan
    plan: PathBuf,
    /// Where the record is kept
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Protocols, devices and areas, laid out like the repository
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// The units are simulated; stated by the parent, never inferred
    #[arg(long)]
    simulated: bool,
    /// Nobody operates
    #[arg(long, requires = "simulated")]
    unattended: bool,
    /// An earlier one has died: say what happened, begin nothing without a person
    #[arg(long)]
    again: bool,
    /// Doses given elsewhere today
    #[arg(long)]
    elsewhere: Vec<Elsewhere>,
    /// Why one more session than the plan has a week
    #[arg(long)]
    beyond_course: Option<String>,
    /// Who says that the clock is right
    #[arg(long)]
    clock_confirmed_by: Option<String>,
    /// Where a unit is
    #[arg(long = "unit", value_name = "KIND=LABEL=PLACE")]
    units: Vec<Place>,
}

/// A session that has begun in the record.
struct Begun {
    journal: Journal,
    session: SessionId,
    clock_sane: bool,
    spent: Spent,
    /// Newest wall time of the record before this session.
    newest: Option<jiff::Timestamp>,
    /// Units that an earlier session locked.
    locked: Vec<(DeviceId, Cause, Duration)>,
    /// STOP ALL was asked of the daemon before this one, and nobody has reset it; who asked.
    latched: Option<Actor>,
}

impl Daemon {
    pub(crate) fn run(self) -> Outcome {
        log_to_stderr();
        if let Err(why) = self.check_launch() {
            say(&why);
            return Outcome::Usage;
        }
        let library = Library::open(self.config_dir.as_deref());
        let loaded = match config::load_plan(&library, &self.plan) {
            Ok(loaded) => loaded,
            Err(problems) => {
                say(&config::render(&problems));
                return Outcome::BadFile;
            }
        };
        for advice in loaded.advice.iter().chain(loaded.declarations.iter().map(|(_, line)| line)) {
            say(advice);
        }
        let unknown = self.elsewhere.iter().find(|it| !loaded.areas.contains(&it.0.place.area));
        if let Some(unknown) = unknown {
            let area = unknown.0.place.area.as_str();
            say(&format!("--elsewhere names the area `{area}`, which is not known. No device was touched."));
            return Outcome::Usage;
        }
        let clock = Clock::start();
        let (builder, line) = match self.units(&loaded, &clock) {
            Ok(units) => units,
            Err(why) => {
                say(&format!("{why} No device was touched."));
                return Outcome::BadFile;
            }
        };
        let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                say(&format!("The session could not be started: {error}."));
                return Outcome::Failed;
            }
        };
        let begun = match self.begin(&loaded, &clock) {
            Ok(begun) => begun,
            Err(error) => {
                say(&format!("{}. No device was touched.", chain(&error)));
                return outcome_of(&error);
            }
        };
        let session = begun.session.clone();
        let outcome = runtime.block_on(self.session(&loaded, (builder, line, begun), clock));
        // A link that hangs while it closes does not keep the process.
        runtime.shutdown_timeout(Duration::from_millis(200));
        self.show_note(&session, outcome)
    }

    /// Refuses every launch but that by its own parent with simulated units (design 6: stated by the launcher).
    fn check_launch(&self) -> Result<(), String> {
        if !DRIVES_ONLY_SIMULATED {
            return Ok(());
        }
        let only = "This is a part of `doseward run --sim` and is not started by hand.";
        let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get());
        let exe = parent.and_then(|parent| std::fs::read_link(format!("/proc/{parent}/exe")).ok());
        let own = std::fs::read_link("/proc/self/exe").ok();
        if !self.simulated || exe.is_none() || exe != own {
            return Err(only.to_owned());
        }
        for unit in &self.units {
            if !is_simulated(&unit.endpoint) {
                return Err(format!("{} is not one of the simulators' own. {only}", unit.label));
            }
        }
        Ok(())
    }

    fn begin(&self, loaded: &Loaded, clock: &Clock) -> Result<Begun, RecordError> {
        let mut journal = noted::open(&self.data)?;
        let newest = journal.reader()?.newest_wall()?;
        let wall = clock.wall();
        let clock_sane = newest.is_none_or(|newest| {
            newest.duration_since(wall).unsigned_abs() <= CLOCK_BEHIND_MAX || newest <= wall
        });
        let stamp = Stamp { mono: clock.now(), wall };
        let lines = guard_lines(&self.data);
        let acts = guard_acts(&lines);
        let mut latched = None;
        let unsealed = journal.recover_with(stamp, &acts)?;
        // What was proven after a session had closed; the newest are enough, each start takes them in.
        let sealed = acts.iter().rev().filter(|act| !unsealed.contains(&act.session));
        for act in sealed.take(ACTS_MAX) {
            narrow(&mut journal, stamp, act)?;
        }
        for session in unsealed {
            let act = acts.iter().find(|act| act.session == session);
            let unanswered = act.is_some_and(|act| act.why == Why::StopUnanswered.code());
            if self.again && (unanswered || journal.reader()?.latched(&session)?) {
                latched.get_or_insert_with(Actor::itself);
            }
            if guard::journal::stops_asked(&lines, session.as_str()) > stops_taken(&journal, &session)? {
                latched = Some(control_socket());
            }
            if let Some(act) = act {
                say(&words::guard_act(act));
            }
            say(&format!(
                "Session {session} was not closed: it is completed now, with what is not certain marked."
            ));
        }
        let session = SessionId::new(uuid::Uuid::now_v7().to_string());
        let software = concat!("doseward ", env!("CARGO_PKG_VERSION")).to_owned();
        let mut files = loaded.files.iter();
        let plan_digest = files.next().map(|(_, digest)| digest.clone()).unwrap_or_default();
        let spent = self.spent(&loaded.plan, &journal, clock)?;
        // The record says what governs: at a first visit that is the low cap.
        let mut plan = loaded.plan.clone();
        limits::first_visit(&mut plan.steps, &spent.known);
        let mut head = SessionHead::new(session.clone(), &plan, plan_digest, software, self.simulated);
        head.file_digests = files.cloned().collect();
        head.mono_origin_us = clock.origin_monotonic_us();
        head.boot = boot();
        journal.begin(&head, stamp)?;
        journal.commit()?;
        let now = Now { wall, monotonic_us: clock.monotonic_us(clock.now()), boot: head.boot.as_deref() };
        let locked = locked(&journal.reader()?.locked(now, self.simulated)?, &loaded.plan);
        if latched.is_some() {
            say(
                "STOP ALL was asked before. It stays until you reset it: R, when every unit has proven its stop.",
            );
        }
        Ok(Begun { journal, session, clock_sane, spent, newest, locked, latched })
    }

    /// Returns what the client already got: by the record, and as declared.
    fn spent(&self, plan: &Plan, journal: &Journal, clock: &Clock) -> Result<Spent, RecordError> {
        let (zones, boot) = (daily::zones(), boot());
        let mut spent = journal.reader()?.spent(&Asked {
            client: &plan.client,
            plan_id: &plan.id,
            until: None,
            simulated: self.simulated,
            zones: &zones,
            wall: clock.wall(),
            monotonic_us: clock.monotonic_us(clock.now()),
            origin_us: clock.origin_monotonic_us(),
            boot: boot.as_deref(),
        })?;
        for elsewhere in self.elsewhere.iter().cloned() {
            if self.again { spent.declare_again(elsewhere.0) } else { spent.declare(elsewhere.0) }
        }
        spent.beyond_course = self.beyond_course.clone().filter(|reason| !reason.trim().is_empty());
        Ok(spent)
    }

    async fn session(&self, loaded: &Loaded, parts: (Builder, Inherited, Begun), clock: Clock) -> Outcome {
        match self.start(loaded, parts, &clock) {
            Ok((handle, supervisor, guard)) => self.operate(loaded, clock, (handle, supervisor), guard).await,
            Err(why) => {
                say(&format!("{why} No device was touched."));
                Outcome::Failed
            }
        }
    }

    /// Finds the place of every unit of the plan and makes its driver and transport. Nothing is opened yet.
    fn units(&self, loaded: &Loaded, clock: &Clock) -> Result<(Builder, Inherited), String> {
        let line = Inherited::take(loaded.plan.devices.len());
        let line = line.map_err(|error| format!("There is no line to the guard process: {error}."))?;
        let place = |label: &str| self.units.iter().find(|place| place.label == label);
        let labels = loaded.plan.devices.iter().map(|planned| planned.label.as_str());
        let missing: Vec<&str> = labels.filter(|label| place(label).is_none()).collect();
        if !missing.is_empty() {
            let there: Vec<&str> = self.units.iter().map(|place| place.label.as_str()).collect();
            return Err(format!(
                "The plan names units that the simulators do not have: {}. The world has: {}.",
                missing.join(", "),
                there.join(", ")
            ));
        }
        let library = Library::open(self.config_dir.as_deref());
        // A record that cannot be read is named when the session begins; the order of stop frames is only a hint.
        let learnt = |label: &str, profile: &str| {
            let reader = Reader::open(&self.data).ok()?;
            reader.learnt_stop(label, profile).ok()?
        };
        let mut builder = Builder::new(clock.clone(), loaded.plan.clone());
        let devices = (0u8..).map(DeviceId).zip(&loaded.plan.devices);
        for ((id, planned), source) in devices.zip(&loaded.units) {
            if let Some(place) = place(&planned.label) {
                let port = match &place.endpoint {
                    Endpoint::Serial(path) => line.port_first(id, path.clone()),
                    Endpoint::Bluetooth(_) => None,
                };
                let learnt = learnt(&planned.label, &planned.profile);
                add_device(&mut builder, &library, (planned, source), (&place.endpoint, port, learnt))?;
            }
        }
        Ok((builder, line))
    }

    /// Starts every task. The units are told to stop as soon as their links are up, and nothing more.
    fn start(
        &self,
        loaded: &Loaded,
        (builder, line, begun): (Builder, Inherited, Begun),
        clock: &Clock,
    ) -> Result<(SessionHandle, Supervisor, watch::Receiver<bool>), String> {
        let first = (begun.session.as_str(), loaded.daemon.freeze);
        let guarding = Guarding::process(line, clock.clone(), self.handed(loaded), first);
        let guarding = guarding.map_err(|error| format!("The guard process does not hear: {error}."))?;
        let guard = guarding.present();
        let screen = if self.unattended { "none" } else { "terminal" };
        let person = if self.unattended { "unattended".to_owned() } else { person() };
        let voice = self.voice(loaded.daemon.player.clone(), begun.newest)?;
        // Only a clock that is behind has to be confirmed.
        let confirmed = self.clock_confirmed_by.clone().filter(|name| !name.trim().is_empty());
        if let Some(name) = confirmed.as_ref().filter(|_| !begun.clock_sane) {
            say(&format!("The clock of the box is behind its record; {name} says that it is right."));
        }
        let confirmed = confirmed.filter(|_| !begun.clock_sane);
        let newest = begun.newest.filter(|_| confirmed.is_none());
        let parts = Parts {
            by: Actor { person, screen: screen.to_owned() },
            settings: Settings {
                spent: begun.spent,
                clock_confirmed_by: confirmed,
                ..Settings::with_lease(loaded.daemon.lease)
            },
            recorder: Box::new(begun.journal),
            writing: Writing::Thread,
            guard: guarding,
            newest,
            voice,
            locked: begun.locked,
            latched: begun.latched,
        };
        let (handle, supervisor) = builder.start(parts).map_err(|error| format!("{}.", chain(&error)))?;
        shutdown::stop_on_panic(handle.clone());
        Ok((handle, supervisor, guard))
    }

    /// Returns what sounds the alarms. A rehearsal uses the player when it was tested today, else the log.
    fn voice(&self, player: Option<Vec<String>>, newest: Option<jiff::Timestamp>) -> Result<Voice, String> {
        // Tests are kept with the real sessions; a rehearsal's store lies inside that.
        let store = if self.simulated { self.data.parent().unwrap_or(&self.data) } else { &self.data };
        let heard = |player: &[String]| {
            // Where no record can be read, nobody is on record as having heard it.
            let reader = Reader::open(store).ok()?;
            reader.alarm_heard(&player.join(" ")).ok().flatten()
        };
        let at = player.as_deref().and_then(heard);
        let tested = Tested::Heard { at, newest, zones: daily::zones() };
        let is_heard = tested.at(Clock::start().wall()) == AlarmOutput::Heard;
        match player {
            Some(player) if is_heard || !self.simulated => {
                let player =
                    Player::new(player, &self.data).map_err(|error| format!("{}.", chain(&error)))?;
                Ok(Voice { sounder: Box::new(player), tested })
            }
            Some(_) | None if self.simulated => {
                say("Alarms of this rehearsal go to the log: nothing sounds.");
                Ok(Voice::log())
            }
            Some(_) | None => Ok(Voice { sounder: Box::new(LogSounder), tested }),
        }
    }

    /// What the guard is told of each unit of the plan.
    fn handed(&self, loaded: &Loaded) -> Vec<Handed> {
        let units = (0u8..).map(DeviceId).zip(&loaded.plan.devices);
        let handed = units.filter_map(|(id, planned)| {
            let place = self.units.iter().find(|place| place.label == planned.label)?;
            let by_hand = words::by_hand(&loaded.plan, id);
            Some(Handed { label: planned.label.clone(), by_hand, way: Way::from(&place.endpoint) })
        });
        handed.collect()
    }

    async fn operate(
        &self,
        loaded: &Loaded,
        clock: Clock,
        (session, supervisor): (SessionHandle, Supervisor),
        guard: watch::Receiver<bool>,
    ) -> Outcome {
        let ended_by = match shutdown::watch(session.clone(), guard) {
            Ok(ended_by) => ended_by,
            Err(error) => {
                say(&format!("The signals could not be taken over: {error}."));
                session.close_by_itself(crate::model::session::StopReason::OtherText);
                watch::channel(None).1
            }
        };
        let (operator, repaints) = match self.operator(loaded, &session) {
            Ok(operator) => operator,
            Err(error) => {
                say(&format!("There is no controlling terminal ({error}): run it with --unattended."));
                session.close_by_itself(crate::model::session::StopReason::OtherText);
                (Operator::Unattended(Box::new(Autopilot::new(loaded.plan.clone()))), false)
            }
        };
        let mut supervised = supervisor.start();
        let operated = AssertUnwindSafe(async {
            tokio::select! {
                biased;
                never = panic_when_asked() => match never {},
                operated = operate((session, &mut supervised), &loaded.plan, clock, operator, repaints) => operated,
            }
        });
        let operated = match operated.catch_unwind().await {
            Ok(operated) => operated,
            Err(_) => {
                let mut ended = supervised.ended().await;
                ended.faults.push("A defect of doseward ended the screen".to_owned());
                Operated { ended, incomplete: None }
            }
        };
        let signal = *ended_by.borrow();
        conclude(&loaded.plan, &operated, signal)
    }

    fn operator(&self, loaded: &Loaded, session: &SessionHandle) -> std::io::Result<(Operator, bool)> {
        use std::io::IsTerminal as _;
        let repaints = std::io::stderr().is_terminal();
        if self.unattended {
            let plan = loaded.plan.clone();
            let autopilot = if self.again { Autopilot::after_death(plan) } else { Autopilot::new(plan) };
            return Ok((Operator::Unattended(Box::new(autopilot)), repaints));
        }
        if self.again {
            say(
                "You may begin the same plan again, from zero: read back the client's identity and press y. Press q to \
                 end. Look at the client first.",
            );
        }
        let keyboard = Keyboard::take()?;
        let keys = keyboard.listen(session.clone())?;
        Ok((Operator::Person { keyboard, keys }, repaints))
    }

    /// Ends with the session's note, which is data.
    fn show_note(&self, session: &SessionId, outcome: Outcome) -> Outcome {
        let text = Reader::open(&self.data).and_then(|reader| note::text(&reader, session));
        match text {
            Ok(text) => {
                let printed = print(&text);
                if printed == Outcome::Done { outcome } else { printed }
            }
            Err(error) => {
                say(&format!("The note cannot be shown: {}.", chain(&error)));
                Outcome::Failed
            }
        }
    }
}

/// Returns which units of the plan are locked yet.
fn locked(locked: &[Locked], plan: &Plan) -> Vec<(DeviceId, Cause, Duration)> {
    let of_plan = |unit: &Locked| {
        let at = plan.devices.iter().position(|planned| planned.label == unit.label)?;
        Some((DeviceId(u8::try_from(at).ok()?), unit.cause, unit.left))
    };
    locked.iter().filter_map(of_plan).collect()
}

/// Says how the session ended; what a person must do now comes last.
fn conclude(plan: &Plan, operated: &Operated, signal: Option<&'static str>) -> Outcome {
    let mut failed = false;
    let mut fault = |text: String| {
        failed = true;
        say(&text);
    };
    if let Some(signal) = signal {
        fault(format!("Ended {signal}: every unit was told to stop first."));
    }
    for what in &operated.ended.faults {
        fault(format!("{what}: every unit was told to stop. Look at the client."));
    }
    if let Some(why) = &operated.incomplete {
        fault(format!("The plan was not completed: {why}."));
    }
    let mut unproven: BTreeSet<DeviceId> = operated.ended.unproven.iter().copied().collect();
    match &operated.ended.session {
        None => {
            fault("The session ended without a seal: the record is completed at the next start.".to_owned())
        }
        Some(end) => {
            unproven.extend(&end.unproven);
            match &end.sealed {
                Ok(hash) => say(&format!("The record is sealed. Last hash: {hash}")),
                Err(why) => fault(format!("The record could not be sealed: {why}.")),
            }
        }
    }
    for device in unproven {
        fault(words::unproven(plan, device));
    }
    match (failed, operated.ended.bus_dead) {
        (_, true) => Outcome::BusDead,
        (true, false) => Outcome::Failed,
        (false, false) => Outcome::Done,
    }
}

/// Panics after `DOSEWARD_PANIC_AFTER_MS`: a test sees what a defect of doseward does to the units.
#[cfg(feature = "defects")]
#[expect(clippy::panic, reason = "this is the seeded defect")]
async fn panic_when_asked() -> std::convert::Infallible {
    let after = std::env::var("DOSEWARD_PANIC_AFTER_MS").ok().and_then(|text| text.parse().ok());
    match after.map(Duration::from_millis) {
        Some(after) => tokio::time::sleep(after).await,
        None => std::future::pending().await,
    }
    panic!("seeded");
}

#[cfg(not(feature = "defects"))]
async fn panic_when_asked() -> std::convert::Infallible {
    std::future::pending().await
}

/// Takes in what the guard proved of units after their session was sealed.
fn narrow(journal: &mut Journal, stamp: Stamp, act: &GuardAct) -> Result<(), RecordError> {
    let entries = journal.reader()?.entries(&act.session)?;
    let Some(Ok(Body::Open { devices, mono_origin_us, .. })) = entries.first().map(|entry| entry.read())
    else {
        return Ok(());
    };
    for unit in &act.units {
        let device = devices.iter().position(|device| device.label == unit.unit);
        let device = device.and_then(|at| u8::try_from(at).ok()).map(DeviceId);
        let zero = unit.confirmed_us.and_then(|at| at.checked_sub(mono_origin_us));
        if let (Some(device), Some(zero)) = (device, zero) {
            journal.narrow(stamp, &act.session, device, zero, NarrowedBy::GuardJournal)?;
        }
    }
    Ok(())
}

/// Returns how often a session has taken a STOP ALL from the control socket.
fn stops_taken(journal: &Journal, session: &SessionId) -> Result<usize, RecordError> {
    let by = control_socket();
    let own = (&by).into();
    let entries = journal.reader()?.entries(session)?;
    // What cannot be read has latched nothing.
    let bodies = entries.iter().filter_map(|entry| entry.read().ok());
    Ok(bodies.filter(|body| matches!(body, Body::StopAll { by, .. } if *by == own)).count())
}

/// Returns the guard's journal; none when it cannot be read.
fn guard_lines(data: &Path) -> Vec<Line> {
    guard::journal::read(data).unwrap_or_else(|error| {
        say(&format!("The guard's journal cannot be read: {error}. What it proves is not used."));
        Vec::new()
    })
}

/// Returns what the guard's journal says of sessions that it took over, newest lines first to be read.
fn guard_acts(lines: &[Line]) -> Vec<GuardAct> {
    let sessions: BTreeSet<&str> = lines.iter().map(|line| line.session.as_str()).collect();
    let act = |session: &&str| {
        let TakeOver { why, said, at_us, units } = guard::journal::take_over(lines, session)?;
        let unit = |unit: Stopped| GuardUnit {
            unit: unit.unit,
            first_stop_us: unit.first_stop_us,
            confirmed_us: unit.confirmed_us,
        };
        let units = units.into_iter().map(unit).collect();
        Some(GuardAct { session: SessionId::new(*session), why, said, at_us, units })
    };
    sessions.iter().filter_map(act).collect()
}

/// Returns which boot of the machine this is, as the system names it.
fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Returns the name under which the person at the terminal acts.
pub(crate) fn person() -> String {
    let own = std::env::var("USER").ok().and_then(|name| sentence(&name).ok());
    own.filter(|name| !name.is_empty()).unwrap_or_else(|| "operator".to_owned())
}

/// Returns whether an endpoint can only be a simulator's: a pseudo-terminal, or an address on a private bus.
fn is_simulated(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Serial(path) => {
            std::fs::canonicalize(path).is_ok_and(|path| path.starts_with(Path::new("/dev/pts")))
        }
        Endpoint::Bluetooth(_) => std::env::var("DBUS_SYSTEM_BUS_ADDRESS")
            .is_ok_and(|bus| !bus.is_empty() && !bus.contains("system_bus_socket")),
    }
}
