//! The parent process: starts the simulators and the daemon, and outlives both.
//!
//! ```text
//!  parent --+-- simulators   own process group: a key at the terminal does not end them; last to go
//!           +-- daemon       same group: it hears the keys' signals itself; its standard input is a pipe from here
//! ```
//!
//! It knows nothing of protocols or limits. It cannot yet stop a unit by itself: when the daemon dies it says plainly
//! what is known. When the parent dies the daemon's pipe ends, and the daemon stops every unit and exits.
//!
//! Invariants: never outlived by a child that it started and can reach; the terminal is left as it was found; the
//! simulators end last, so that the daemon's stops reach them, and after a death they run on as real units would.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

/// Simulators must say where they are within this time.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// After a signal the daemon has two seconds to stop its units, and this long in all to seal its record.
const END_WITHIN: Duration = Duration::from_secs(12);

/// A child that was asked to end gets this long before it is killed.
const KILL_AFTER: Duration = Duration::from_secs(2);

/// Simulated units run on for this long after the daemon's death, so that their truth shows what real ones would have
/// given: longer than any stimulator's own time-out (2 s).
const RUN_ON: Duration = Duration::from_secs(4);

/// What to start. Both children are this very program.
#[derive(Clone, Debug)]
pub struct Launch {
    /// This program.
    pub program: PathBuf,
    /// Arguments that make it the simulators.
    pub simulators: Vec<OsString>,
    /// Arguments that make it the daemon; the units' places are appended.
    pub daemon: Vec<OsString>,
}

/// How the daemon ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(u8),
    /// It died.
    Died {
        /// How, in words.
        how: String,
    },
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
}

impl Ended {
    /// Returns what a person at the client must know when the daemon died.
    pub fn words(&self) -> Option<String> {
        let Self::Died { how } = self else {
            return None;
        };
        Some(format!(
            "The part of doseward that drives the units has died ({how}). What is known: a P24 stops by itself \
             within 2 s. A gun may run on: lift it off and press its button. Look at the client. The record is \
             completed at the next start: what is not certain is marked so."
        ))
    }
}

/// Runs both children until the daemon has ended. A death is said at once.
///
/// # Errors
/// A child could not be started.
pub fn run(launch: &Launch) -> Result<Ended, GuardError> {
    let failed = |source| GuardError::Start { what: "the parent's own loop", source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let terminal = Terminal::found();
    let ended = runtime.block_on(supervise(launch));
    if let Some(terminal) = terminal {
        terminal.restore();
    }
    ended
}

async fn supervise(launch: &Launch) -> Result<Ended, GuardError> {
    let mut signals = Signals::take().map_err(|source| GuardError::Start { what: "signals", source })?;
    let mut simulators = Simulators::start(launch)?;
    let ready = tokio::select! {
        ready = timeout(READY_WITHIN, simulators.ready()) => ready,
        _ = signals.next() => Ok(Err(GuardError::Simulators { reason: "interrupted".to_owned(), code: None })),
    };
    let places = match ready {
        Ok(Ok(places)) => places,
        Ok(Err(error)) => {
            simulators.end().await;
            return Err(error);
        }
        Err(_) => {
            simulators.end().await;
            let reason = format!("not ready within {} s", READY_WITHIN.as_secs());
            return Err(GuardError::Simulators { reason, code: None });
        }
    };
    let ended = match start_daemon(launch, &places) {
        Ok((daemon, pipe)) => watch(daemon, pipe, &mut simulators, &mut signals).await,
        Err(source) => Err(GuardError::Start { what: "the daemon", source }),
    };
    if let Some(words) = ended.as_ref().ok().and_then(Ended::words) {
        eprintln!("{words}");
        simulators.run_on(&mut signals).await;
    }
    simulators.end().await;
    ended
}

fn start_daemon(launch: &Launch, places: &Places) -> io::Result<(Child, Option<ChildStdin>)> {
    let mut command = Command::new(&launch.program);
    command.args(&launch.daemon).stdin(Stdio::piped()).kill_on_drop(true);
    for unit in &places.units {
        command.arg("--unit").arg(unit);
    }
    // libdbus reads its address once per process, at its first use.
    command.env("DBUS_SYSTEM_BUS_ADDRESS", places.bus.as_deref().unwrap_or("unix:path=/nonexistent"));
    let mut daemon = command.spawn()?;
    let pipe = daemon.stdin.take();
    Ok((daemon, pipe))
}

/// Waits for the daemon's end; passes signals on; kills it when it does not end after one.
async fn watch(
    mut daemon: Child,
    pipe: Option<ChildStdin>,
    simulators: &mut Simulators,
    signals: &mut Signals,
) -> Result<Ended, GuardError> {
    let waited = |source| GuardError::Start { what: "the daemon", source };
    loop {
        tokio::select! {
            biased;
            status = daemon.wait() => return status.map(ended).map_err(waited),
            number = signals.next() => {
                tell(&daemon, number);
                break;
            }
            () = simulators.drain() => {
                eprintln!("The simulators have ended: the simulated units are gone.");
            }
        }
    }
    if let Ok(status) = timeout(END_WITHIN, daemon.wait()).await {
        return status.map(ended).map_err(waited);
    }
    tell(&daemon, Signal::KILL);
    drop(pipe);
    daemon.wait().await.map(ended).map_err(waited)
}

fn ended(status: ExitStatus) -> Ended {
    use std::os::unix::process::ExitStatusExt as _;
    // 101: the main thread panicked.
    match (status.code(), status.signal()) {
        (Some(101), _) => Ended::Died { how: "a defect of doseward".to_owned() },
        (Some(code), _) => Ended::Code(u8::try_from(code).unwrap_or(1)),
        (None, Some(signal)) => Ended::Died { how: format!("signal {signal}") },
        (None, None) => Ended::Died { how: "no exit code".to_owned() },
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

/// Where the simulated units are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Places {
    /// As the daemon takes them: `serial=LABEL=PATH`, `bluetooth=LABEL=ADDRESS`.
    units: Vec<String>,
    bus: Option<String>,
    ready: bool,
}

impl Places {
    /// Reads one line of the simulators: `serial LABEL PTY`, `bluetooth LABEL ADDRESS`, `bus ADDRESS`, `ready`.
    /// A label may hold spaces. Other lines say nothing of places.
    fn read(&mut self, line: &str) {
        match line.split_once(' ') {
            Some((kind @ ("serial" | "bluetooth"), rest)) => {
                if let Some((label, place)) = rest.rsplit_once(' ') {
                    self.units.push(format!("{kind}={label}={place}"));
                }
            }
            Some(("bus", address)) => self.bus = Some(address.to_owned()),
            Some(_) => {}
            None => self.ready |= line == "ready",
        }
    }
}

/// The simulators' process.
struct Simulators {
    child: Child,
    lines: Option<Lines<BufReader<ChildStdout>>>,
    /// Held open: its end tells the simulators that this process is gone.
    _input: Option<ChildStdin>,
}

impl Simulators {
    fn start(launch: &Launch) -> Result<Self, GuardError> {
        let failed = |source| GuardError::Start { what: "the simulators", source };
        let mut command = Command::new(&launch.program);
        command.args(&launch.simulators).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(failed)?;
        let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
        let input = child.stdin.take();
        Ok(Self { child, lines, _input: input })
    }

    async fn ready(&mut self) -> Result<Places, GuardError> {
        let mut places = Places::default();
        let mut seen = VecDeque::new();
        while let Some(line) = self.next_line().await {
            places.read(&line);
            if places.ready {
                return Ok(places);
            }
            seen.push_back(line);
        }
        let code = self.child.wait().await.ok().and_then(|status| status.code());
        let code = code.and_then(|code| u8::try_from(code).ok());
        Err(GuardError::Simulators { reason: "they ended".to_owned(), code })
    }

    async fn next_line(&mut self) -> Option<String> {
        let line = match &mut self.lines {
            Some(lines) => lines.next_line().await.ok().flatten(),
            None => None,
        };
        if line.is_none() {
            self.lines = None;
        }
        line
    }

    /// Takes what the simulators say, so that they never wait for a reader. Returns once, when they have ended.
    async fn drain(&mut self) {
        if self.lines.is_none() {
            std::future::pending::<()>().await;
        }
        while self.next_line().await.is_some() {}
    }

    /// Lets them run on without a daemon; a signal cuts it short.
    async fn run_on(&mut self, signals: &mut Signals) {
        let over = tokio::time::sleep(RUN_ON);
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                _ = signals.next() => return,
                () = &mut over => return,
                () = self.drain() => {}
            }
        }
    }

    /// Ends them: SIGTERM, then SIGKILL.
    async fn end(mut self) {
        for signal in [Signal::TERM, Signal::KILL] {
            tell(&self.child, signal);
            let finished = async {
                while self.next_line().await.is_some() {}
                self.child.wait().await
            };
            if timeout(KILL_AFTER, finished).await.is_ok() {
                return;
            }
        }
        if self.child.wait().await.is_err() {
            tracing::debug!("the simulators could not be waited for");
        }
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
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0) {
            tracing::debug!(%error, "the terminal could not be restored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Places {
        let mut places = Places::default();
        for line in lines {
            places.read(line);
        }
        places
    }

    #[test]
    fn places_are_read_with_spaces_in_labels_and_other_lines_ignored() {
        let places = read(&[
            "truth /somewhere",
            "serial P24 room 1 /dev/pts/7",
            "bluetooth Gun B C0:FF:EE:00:00:01",
            "bus unix:path=/a b/bus",
            "ready",
        ]);
        assert_eq!(places.units, ["serial=P24 room 1=/dev/pts/7", "bluetooth=Gun B=C0:FF:EE:00:00:01"]);
        assert_eq!(places.bus.as_deref(), Some("unix:path=/a b/bus"));
        assert!(places.ready);
        assert!(!read(&["serial x", "ready now", "bus"]).ready);
    }

    #[test]
    fn only_a_death_is_put_into_words_and_they_say_what_to_do() {
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(ended(ExitStatus::from_raw(0)), Ended::Code(0));
        assert_eq!(ended(ExitStatus::from_raw(4 << 8)), Ended::Code(4));
        assert_eq!(Ended::Code(1).words(), None);
        for died in [ExitStatus::from_raw(9), ExitStatus::from_raw(101 << 8)] {
            let words = ended(died).words().expect("words of a death");
            assert!(words.contains("lift it off and press its button"), "{words}");
            assert!(words.contains("within 2 s"), "{words}");
        }
    }
}
