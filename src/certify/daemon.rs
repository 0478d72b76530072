//! The whole-daemon layer: the runtime's own tasks under a paused clock, each unit at the far end of a loopback, the
//! record in memory written in line. Killed and started again where the seed says so.
//!
//! No task is started here: the far ends and the people are futures that wait beside the daemon's supervisor.

mod far;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::book;
use super::kit::Kit;
use super::oracle::Oracle;
use super::person::{Gesture, Person, actor};
use super::plans::{self, Made};
use super::{Course, Options};
use crate::clock::Clock;
use crate::governor::{Act, Entry, Input, RecordHealth, Request, RequestId, Seq, Settings, Version};
use crate::model::command::{Channel, DeviceId};
use crate::model::dose::Dose;
use crate::model::plan::Plan;
use crate::model::session::{SessionId, StopReason};
use crate::record::entry::{SessionHead, Stamp};
use crate::record::journal::Journal;
use crate::record::verify;
use crate::runtime::guard_line::Guarding;
use crate::runtime::handle::SessionHandle;
use crate::runtime::recorder_task::{RecordFault, Recorder, Writing};
use crate::runtime::sounder::Voice;
use crate::runtime::{Builder, Parts, Supervisor};
use crate::sim::Seeded;
use crate::transport::loopback;
use crate::units::Mono;

use far::Far;

/// A stop reaches every link within this (design 4, worst).
const STOP_WITHIN: Duration = Duration::from_millis(50);
/// Heartbeats of the commander's screen.
const BEAT: Duration = Duration::from_millis(500);

/// What the people, the far ends and the record share.
pub(super) struct Shared {
    pub(super) oracle: Oracle,
    pub(super) now: Clock,
    journal: Option<Journal>,
    /// The disk refuses.
    refuses: bool,
    health: RecordHealth,
    log: Option<Vec<String>>,
}

/// One handle of it. Never held across a wait.
pub(super) type Common = Arc<Mutex<Shared>>;

pub(super) fn lock(common: &Common) -> MutexGuard<'_, Shared> {
    common.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn say(&mut self, what: impl FnOnce() -> String) {
        let at = self.now.now().since(Mono::ORIGIN).as_secs_f64();
        if let Some(log) = &mut self.log {
            log.push(format!("{at:>13.6} s  {}", what()));
        }
    }

    pub(super) fn input(&mut self, input: &Input) {
        let now = self.now.now();
        if !matches!(input, Input::Heartbeat { .. } | Input::Durable { .. }) {
            self.say(|| format!("<- {input:?}"));
        }
        self.oracle.input(now, input);
    }

    fn set_health(&mut self, health: RecordHealth) {
        if self.health != health {
            self.health = health;
            self.input(&Input::Record(health));
        }
    }

    fn journal(&mut self) -> Result<&mut Journal, RecordFault> {
        self.journal.as_mut().ok_or_else(|| RecordFault("the record is closed".to_owned()))
    }
}

/// The record as the daemon's writer sees it; the oracle reads along.
struct Watched {
    common: Common,
    newest: u64,
}

impl Recorder for Watched {
    fn append(&mut self, at: Stamp, seq: Seq, entry: &Entry) -> Result<(), RecordFault> {
        let mut shared = lock(&self.common);
        self.newest = seq.0;
        shared.say(|| format!("   entry {} {entry:?}", seq.0));
        let now = shared.now.now();
        shared.oracle.entry(now, seq, entry);
        Ok(shared.journal()?.append(book::stamp(at.mono), seq, entry)?)
    }

    fn progress(&mut self, dose: &Dose) -> Result<(), RecordFault> {
        Ok(lock(&self.common).journal()?.progress(dose)?)
    }

    fn progress_done(&mut self, device: DeviceId, channel: Channel) -> Result<(), RecordFault> {
        Ok(lock(&self.common).journal()?.progress_done(device, channel)?)
    }

    fn commit(&mut self) -> Result<(), RecordFault> {
        let mut shared = lock(&self.common);
        if shared.refuses {
            shared.set_health(RecordHealth::Failing);
            return Err(RecordFault("no space left".to_owned()));
        }
        shared.journal()?.commit()?;
        shared.set_health(RecordHealth::Healthy);
        shared.input(&Input::Durable { seq: Seq(self.newest) });
        Ok(())
    }

    fn seal(&mut self, at: Stamp) -> Result<String, RecordFault> {
        Ok(lock(&self.common).journal()?.seal(book::stamp(at.mono))?)
    }
}

/// Runs the session of a seed.
pub(super) fn session(kit: &Kit, seed: u64, options: &Options) -> Result<Course, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(|error| error.to_string())?.block_on(run(kit, seed, options))
}

async fn run(kit: &Kit, seed: u64, options: &Options) -> Result<Course, String> {
    let mut random = Seeded::new(seed);
    let made = plans::plan(kit, &mut random)?;
    let settings = options.settings();
    let clock = Clock::start();
    let journal = Journal::in_memory().map_err(|error| error.to_string())?;
    let oracle = Oracle::new(made.plan.clone(), &made.families, settings.lease, STOP_WITHIN);
    let common: Common = Arc::new(Mutex::new(Shared {
        oracle,
        now: clock.clone(),
        journal: Some(journal),
        refuses: false,
        health: RecordHealth::Healthy,
        log: options.verbose.then(Vec::new),
    }));
    let mut fars = Vec::new();
    for (unit, family) in made.families.iter().enumerate() {
        let device = kit.device(*family, &mut random)?;
        let read = kit.read_at_connect(*family);
        fars.push(Far::new(unit, family.radio(), device, read, Arc::clone(&common), random.next()));
    }
    let mut day = Day { kit, made: &made, clock, common, seed, options, lives: 0 };
    let crash = random.chance(400).then(|| random.span(Duration::from_secs(60), options.length()));
    let mut people = People::new(&mut random, options, &made.plan);
    if let Some(crash) = crash {
        day.live(&mut fars, &mut people, Some(crash)).await?;
    }
    day.live(&mut fars, &mut people, None).await?;
    for far in &mut fars {
        far.look();
    }
    day.close()
}

/// The people, and what they do to the world around the units.
struct People {
    person: Person,
    random: Seeded,
    requests: u64,
    version: Version,
    length: Duration,
    /// No beats before then.
    away: Mono,
}

impl People {
    fn new(random: &mut Seeded, options: &Options, plan: &Plan) -> Self {
        Self {
            person: Person::new(random.next(), options.length(), plan),
            random: Seeded::new(random.next()),
            requests: 0,
            version: Version(0),
            length: options.length(),
            away: Mono::ORIGIN,
        }
    }

    /// Works until the session's time is over, then closes it.
    async fn work(&mut self, common: &Common, session: &SessionHandle, guard: &watch::Sender<bool>) {
        let clock = lock(common).now.clone();
        let end = Mono::ORIGIN.saturating_add(self.length);
        self.requests = 0;
        let client = crate::model::plan::ClientCode::new(plans::CLIENT);
        session.heartbeat(clock.now());
        lock(common).input(&Input::Heartbeat { issued: clock.now() });
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.ask(common, session, Act::ReadBack { client }, self.version).await;
        let (mut beat, mut look, mut trouble) = (clock.now(), clock.now(), self.next_trouble(&clock));
        while clock.now() < end {
            let next = beat.min(look).min(trouble);
            tokio::time::sleep_until(clock.at(next)).await;
            let now = clock.now();
            if now >= beat {
                beat = now.saturating_add(BEAT);
                self.beat(common, session);
            }
            if now >= look {
                look = now.saturating_add(self.look(common, session).await);
            }
            if now >= trouble {
                self.trouble(common, session, guard).await;
                trouble = self.next_trouble(&clock);
            }
        }
        lock(common).refuses = false;
        lock(common).input(&Input::Stop { by: actor(), reason: StopReason::TherapistRequest });
        session.close(true, StopReason::TherapistRequest);
    }

    fn next_trouble(&mut self, clock: &Clock) -> Mono {
        clock.now().saturating_add(self.random.span(Duration::from_secs(30), Duration::from_secs(240)))
    }

    fn beat(&mut self, common: &Common, session: &SessionHandle) {
        let mut shared = lock(common);
        let now = shared.now.now();
        shared.oracle.look(now);
        shared.oracle.call_over(now);
        if now >= self.away {
            let issued = session.snapshots().borrow().at;
            shared.input(&Input::Heartbeat { issued });
            session.heartbeat(issued);
        }
    }

    async fn look(&mut self, common: &Common, session: &SessionHandle) -> Duration {
        let view = session.snapshots().borrow().clone();
        if view.at < self.away {
            return Duration::from_secs(1);
        }
        let older = std::mem::replace(&mut self.version, view.version);
        let (gesture, pause) = self.person.next(&view);
        match gesture {
            Gesture::Look => {}
            Gesture::Ask(act) => self.ask(common, session, act, view.version).await,
            Gesture::AskStale(act) => self.ask(common, session, act, older).await,
            Gesture::AskTwice(act) => {
                self.ask(common, session, act.clone(), view.version).await;
                self.ask(common, session, act, view.version).await;
            }
            Gesture::AskThenStop(act) => {
                self.ask(common, session, act, view.version).await;
                stop(common, session, StopReason::EmergencyStop);
            }
            Gesture::Stop(reason) => stop(common, session, reason),
        }
        pause
    }

    async fn ask(&mut self, common: &Common, session: &SessionHandle, act: Act, seen: Version) {
        let act = lock(common).oracle.seen(act);
        self.requests += 1;
        let request = Request { id: RequestId(self.requests), by: actor(), seen, act: act.clone() };
        lock(common).input(&Input::Request(request));
        // What is answered, and what is not, is judged by its bytes.
        let asked = tokio::time::timeout(Duration::from_secs(2), session.request(act, seen)).await;
        lock(common).say(|| format!("   answer {asked:?}"));
    }

    /// Something goes wrong around the daemon; what goes wrong with units and links does so at their far ends.
    async fn trouble(&mut self, common: &Common, session: &SessionHandle, guard: &watch::Sender<bool>) {
        let lasts = self.random.span(Duration::from_millis(300), Duration::from_secs(6));
        let now = lock(common).now.now();
        match self.random.below(5) {
            0 => {
                lock(common).oracle.tally.fault("disk: failing");
                lock(common).refuses = true;
                tokio::time::sleep(lasts).await;
                lock(common).refuses = false;
            }
            1 => {
                lock(common).oracle.tally.fault("lease: no beats");
                self.away = now.saturating_add(lasts);
            }
            2 => {
                lock(common).oracle.tally.fault("lease: page hidden");
                self.away = now.saturating_add(lasts);
                lock(common).input(&Input::Unseen);
                session.unseen();
            }
            3 => {
                lock(common).oracle.tally.fault("lease: beats replayed");
                self.away = now.saturating_add(lasts);
                for _ in 0..8 {
                    tokio::time::sleep(BEAT).await;
                    lock(common).input(&Input::Heartbeat { issued: now });
                    session.heartbeat(now);
                }
            }
            _ => {
                // A guard that is gone stays so: the daemon takes outputs down and would be ended by its parent.
                if self.random.chance(100) {
                    lock(common).oracle.tally.fault("guard: gone");
                    lock(common).input(&Input::Guard { present: false });
                    guard.send_replace(false);
                }
            }
        }
    }
}

fn stop(common: &Common, session: &SessionHandle, reason: StopReason) {
    lock(common).input(&Input::Stop { by: actor(), reason });
    session.stop_all(reason);
}

/// One day: a daemon, and another one when it is killed.
struct Day<'a> {
    kit: &'a Kit,
    made: &'a Made,
    clock: Clock,
    common: Common,
    seed: u64,
    options: &'a Options,
    lives: u64,
}

impl Day<'_> {
    /// One life of the daemon: until its session is closed, or until it is killed.
    async fn live(
        &mut self,
        fars: &mut [Far],
        people: &mut People,
        killed: Option<Duration>,
    ) -> Result<(), String> {
        let (guard, session, supervisor) = self.start(fars)?;
        let kill = self.clock.at(Mono::ORIGIN.saturating_add(killed.unwrap_or(Duration::MAX / 4)));
        {
            let far = futures_util::future::join_all(fars.iter_mut().map(Far::run));
            let work = people.work(&self.common, &session, &guard);
            let (mut far, mut work, mut daemon) =
                (std::pin::pin!(far), std::pin::pin!(work), std::pin::pin!(supervisor.run()));
            let mut working = true;
            loop {
                tokio::select! {
                    biased;
                    ended = &mut daemon => {
                        lock(&self.common).say(|| format!("{ended:?}"));
                        break;
                    }
                    () = &mut work, if working => working = false,
                    _ = &mut far => break,
                    () = tokio::time::sleep_until(kill), if killed.is_some() => break,
                }
            }
        }
        if killed.is_some() {
            self.kill(people);
            // The tasks of the dead daemon go when they are next looked at.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok(())
    }

    fn start(
        &mut self,
        fars: &mut [Far],
    ) -> Result<(watch::Sender<bool>, SessionHandle, Supervisor), String> {
        self.lives += 1;
        let number = self.seed.saturating_mul(100).saturating_add(self.lives);
        let id = SessionId::new(format!("00000000-0000-7000-8000-{number:012x}"));
        let head = SessionHead::new(id, &self.made.plan, "0".repeat(64), "certify".to_owned(), true);
        let spent = {
            let mut shared = lock(&self.common);
            let journal = shared.journal().map_err(|fault| fault.0)?;
            book::spent(journal, &self.made.plan, self.clock.now()).map_err(|error| error.to_string())?
        };
        let began = lock(&self.common)
            .journal()
            .map_err(|fault| fault.0)?
            .begin(&head, book::stamp(self.clock.now()));
        began.map_err(|error| error.to_string())?;
        let mut builder = Builder::new(self.clock.clone(), self.made.plan.clone());
        for (far, (family, planned)) in
            fars.iter_mut().zip(self.made.families.iter().zip(&self.made.plan.devices))
        {
            let (near, end) = loopback::pair(&planned.label);
            far.meet(end);
            builder.device(self.kit.driver(*family, None)?, near);
        }
        let (guard, present) = watch::channel(true);
        let parts = Parts {
            by: actor(),
            settings: Settings { spent, ..self.options.settings() },
            recorder: Box::new(Watched { common: Arc::clone(&self.common), newest: 0 }),
            writing: Writing::InLine,
            guard: Guarding::trusted(present),
            newest: None,
            voice: Voice::log(),
            locked: Vec::new(),
            latched: None,
        };
        let (session, supervisor) = builder.start(parts).map_err(|error| error.to_string())?;
        let mut shared = lock(&self.common);
        shared.health = RecordHealth::Healthy;
        for input in
            [Input::Guard { present: true }, Input::ClockSane(true), Input::Record(RecordHealth::Healthy)]
        {
            shared.input(&input);
        }
        drop(shared);
        Ok((guard, session, supervisor))
    }

    fn kill(&self, people: &mut People) {
        let now = self.clock.now();
        let mut shared = lock(&self.common);
        shared.say(|| "CRASH".to_owned());
        shared.oracle.crash(now);
        shared.oracle.tally.crashes += 1;
        shared.oracle.tally.fault("disk: crash and restart");
        shared.refuses = false;
        let reopened = shared.journal.take().map(|journal| {
            let mut journal = journal.reopen()?;
            journal.recover(book::stamp(now))?;
            Ok::<_, crate::record::RecordError>(journal)
        });
        if let Some(Ok(journal)) = reopened {
            shared.journal = Some(journal);
        }
        people.person.restart();
        people.away = Mono::ORIGIN;
    }

    fn close(self) -> Result<Course, String> {
        let now = self.clock.now();
        let mut shared = lock(&self.common);
        let reader =
            shared.journal().map_err(|fault| fault.0)?.reader().map_err(|error| error.to_string())?;
        let audit = verify::database(&reader, None).map_err(|error| error.to_string())?;
        let mut doses = Vec::new();
        for session in reader.sessions().map_err(|error| error.to_string())? {
            if session.sealed.is_none() {
                shared.oracle.damage(now, format!("session {} was not sealed", session.session));
            }
            let found = reader.doses(&session.session).map_err(|error| error.to_string())?;
            doses.extend(found.into_iter().map(|recorded| recorded.dose));
        }
        shared.oracle.judge_record(now, &doses);
        for damage in audit.damage {
            shared.oracle.damage(now, damage.to_string());
        }
        shared.oracle.tally.close(self.options.length());
        let (tally, found) = (shared.oracle.tally.clone(), shared.oracle.found.clone());
        let log = shared.log.take().unwrap_or_default();
        Ok(Course { seed: self.seed, tally, found, log, truth: String::new(), digest: 0 })
    }
}
