//! The sound of alarms at the box itself: a player that the clinic configures, or a log where units are simulated.
//!
//! ```text
//!  snapshots --what is to be heard--> SoundTask --burst--> Sounder (a child process per burst)
//!                                        |
//!                     tested today? works? --Input::AlarmOutput--> session task
//! ```
//!
//! Invariants:
//! - nothing waits for a sound: the task only reads snapshots, and a player that hangs is killed at its deadline;
//! - a player that fails is an alarm itself and is tried again with every burst; nothing is armed until it is tested;
//! - the day of the test is judged by max(wall clock, newest entry of the record), so that no clock set back revives it.

use std::ffi::OsString;
use std::future::Future;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::{mpsc, watch};

use crate::alarm::signal::Repeater;
use crate::alarm::{Priority, Sounding, tone};
use crate::clock::Clock;
use crate::governor::{AlarmOutput, Input, Snapshot};
use crate::record::daily::Today;
use crate::units::Mono;

/// A player may take this much longer than its burst: starting, opening the sound card, draining.
const LATE_MAX: Duration = Duration::from_secs(4);

/// The day is looked at this often.
const DAY_EVERY: Duration = Duration::from_secs(10);

/// In a player's command this stands for the file to be played.
const FILE: &str = crate::config::daemon_file::PLAYED;

/// Why a burst was not sounded.
#[derive(Debug, thiserror::Error)]
pub enum SoundError {
    /// The file could not be written.
    #[error("the sound could not be written to {path}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The player could not be started.
    #[error("the player `{player}` could not be started")]
    Start {
        /// Which.
        player: String,
        /// Why.
        source: std::io::Error,
    },
    /// The player ended with a failure.
    #[error("the player `{player}` ended with {status}")]
    Failed {
        /// Which.
        player: String,
        /// How.
        status: std::process::ExitStatus,
    },
    /// The player did not end and was killed.
    #[error("the player `{player}` did not end in time and was killed")]
    Hung {
        /// Which.
        player: String,
    },
}

/// What makes an alarm heard. A burst that is dropped before its end is cut off.
pub trait Sounder: Send {
    /// Sounds one burst.
    fn sound(&mut self, priority: Priority) -> Burst<'_>;
}

/// A burst that sounds.
pub type Burst<'a> = Pin<Box<dyn Future<Output = Result<(), SoundError>> + Send + 'a>>;

/// A command that plays a file.
#[derive(Clone, Debug)]
pub struct Player {
    command: Vec<String>,
    dir: PathBuf,
}

impl Player {
    /// Makes a player of a command in which `{file}` stands for the file; writes the sounds to `dir`.
    ///
    /// # Errors
    /// A file could not be written.
    pub fn new(command: Vec<String>, dir: &Path) -> Result<Self, SoundError> {
        for priority in [Priority::Low, Priority::Medium, Priority::High] {
            let path = file_of(dir, priority);
            write(&path, &tone::wav(priority)).map_err(|source| SoundError::File { path, source })?;
        }
        Ok(Self { command, dir: dir.to_owned() })
    }

    /// Returns the command as it was configured.
    pub fn name(&self) -> String {
        self.command.join(" ")
    }
}

impl Sounder for Player {
    fn sound(&mut self, priority: Priority) -> Burst<'_> {
        let file = file_of(&self.dir, priority);
        let words = self.command.iter().map(|word| replaced(word, &file));
        Box::pin(play(words.collect(), self.name(), priority.burst().length().saturating_add(LATE_MAX)))
    }
}

/// Plays one file; whatever becomes of this future, the child does not outlive it.
async fn play(words: Vec<OsString>, player: String, within: Duration) -> Result<(), SoundError> {
    let mut words = words.into_iter();
    let mut command = tokio::process::Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(source) => return Err(SoundError::Start { player, source }),
    };
    match tokio::time::timeout(within, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(SoundError::Failed { player, status }),
        Ok(Err(source)) => Err(SoundError::Start { player, source }),
        Err(_) => {
            child.start_kill().unwrap_or_default();
            Err(SoundError::Hung { player })
        }
    }
}

fn replaced(word: &str, file: &Path) -> OsString {
    if word == FILE {
        file.as_os_str().to_owned()
    } else {
        word.replace(FILE, &file.to_string_lossy()).into()
    }
}

fn file_of(dir: &Path, priority: Priority) -> PathBuf {
    dir.join(format!("alarm-{}.wav", priority.word()))
}

/// Writes a file that appears whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let part = path.with_extension("part");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(part, path)
}

/// A log in place of a loudspeaker, for simulated units.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogSounder;

impl Sounder for LogSounder {
    fn sound(&mut self, priority: Priority) -> Burst<'_> {
        tracing::warn!(priority = priority.word(), "an alarm sounds");
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What is known of the alarm test when a session begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tested {
    /// There is nothing to test: a log, simulated units only.
    Log,
    /// A person heard it; that counts on the same day.
    Heard {
        /// When; `None`: never.
        at: Option<jiff::Timestamp>,
        /// Newest wall time of the record: the day is never before it.
        newest: Option<jiff::Timestamp>,
        /// It has to be the same day in each of them.
        zones: Vec<TimeZone>,
    },
}

impl Tested {
    /// Returns how the alarm's output stands at a wall time, when its player works.
    pub fn at(&self, wall: jiff::Timestamp) -> AlarmOutput {
        match self {
            Self::Log => AlarmOutput::Logged,
            Self::Heard { at, newest, zones } => {
                let now = newest.map_or(wall, |newest| newest.max(wall));
                let today = Today { now, zones };
                let heard = at.is_some_and(|at| today.surely_holds(at));
                if heard { AlarmOutput::Heard } else { AlarmOutput::Untested }
            }
        }
    }
}

/// What sounds the alarms of a session.
pub struct Voice {
    /// What makes them heard.
    pub sounder: Box<dyn Sounder>,
    /// Whether that was tested.
    pub tested: Tested,
}

impl Voice {
    /// Returns a log in place of a loudspeaker.
    pub fn log() -> Self {
        Self { sounder: Box::new(LogSounder), tested: Tested::Log }
    }
}

/// The task that sounds alarms.
pub(crate) struct SoundTask {
    pub(crate) clock: Clock,
    pub(crate) voice: Voice,
    pub(crate) snapshots: watch::Receiver<Snapshot>,
    pub(crate) inputs: mpsc::Sender<Input>,
    /// What the governor was told last.
    pub(crate) said: Option<AlarmOutput>,
}

impl SoundTask {
    /// Runs until the session is over. Every branch is cancel-safe: a burst that is dropped is cut off.
    pub(crate) async fn run(mut self) {
        let mut repeater = Repeater::default();
        let mut fails = false;
        loop {
            self.say(fails);
            let sounding = self.snapshots.borrow_and_update().sounding;
            let next = repeater.next(sounding);
            let now = self.clock.now();
            if let Some((_, priority)) = next.filter(|(at, _)| *at <= now) {
                repeater.begin(now, priority, sounding);
                match self.burst(priority).await {
                    Some(failed) => fails |= failed,
                    None => return,
                }
                continue;
            }
            let day = now.saturating_add(DAY_EVERY);
            let at = next.map_or(day, |(at, _)| at.min(day));
            if !self.wait(at, sounding).await {
                return;
            }
        }
    }

    /// Waits for another sound, or until `at`; returns whether the session goes on.
    async fn wait(&mut self, at: Mono, sounding: Sounding) -> bool {
        tokio::select! {
            biased;
            changed = self.snapshots.wait_for(|shown| differs(shown.sounding, sounding)) => changed.is_ok(),
            () = tokio::time::sleep_until(self.clock.at(at)) => true,
        }
    }

    /// Sounds one burst, until it may be silent or something more urgent comes. Returns whether the player failed;
    /// `None`: the session is over.
    async fn burst(&mut self, priority: Priority) -> Option<bool> {
        let mut snapshots = self.snapshots.clone();
        let cut = snapshots.wait_for(|shown| match shown.sounding.priority {
            Some(present) => present > priority,
            None => true,
        });
        tokio::select! {
            biased;
            shown = cut => shown.is_ok().then_some(false),
            done = self.voice.sounder.sound(priority) => {
                if let Err(error) = &done {
                    tracing::error!(%error, "an alarm was not heard");
                }
                Some(done.is_err())
            }
        }
    }

    /// Tells the governor how the alarm's output stands, when that has changed.
    fn say(&mut self, fails: bool) {
        let state = if fails { AlarmOutput::Failing } else { self.voice.tested.at(self.clock.wall()) };
        // A queue that is full takes it at the next turn.
        if self.said != Some(state) && self.inputs.try_send(Input::AlarmOutput(state)).is_ok() {
            self.said = Some(state);
        }
    }
}

/// Returns whether something else is to be heard; a pause that runs is the same.
fn differs(one: Sounding, other: Sounding) -> bool {
    (one.priority, one.count) != (other.priority, other.count)
}

#[cfg(test)]
#[path = "sounder_tests.rs"]
mod tests;
