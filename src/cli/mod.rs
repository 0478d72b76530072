//! The command line. One file per verb; data to standard output, talk to standard error.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 3 bad file, 4 record damaged, 5 the system bus is gone: start it again.

mod alarm;
mod autopilot;
mod certify;
mod check;
mod control;
mod daemon;
mod elsewhere;
mod guard;
mod keys;
mod noted;
mod operate;
mod prompt;
mod record;
mod run;
mod sim;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Drives percussion guns and neurostimulators inside a session plan's limits and records every dose.
#[derive(Debug, Parser)]
#[command(name = "doseward", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the session of one plan at this terminal
    Run(run::Run),
    /// Check plans and every file they rest on, without touching a device
    Check(check::Check),
    /// Test what sounds the alarms of this box
    Alarm(alarm::Alarm),
    /// Read, verify and export the session record
    Record(record::Record),
    /// Stop every unit at once, from any shell; needs no login
    Stop(control::Stop),
    /// Tell what runs
    Status(control::Status),
    /// Run simulated units by themselves and print where they are
    Sim(sim::Sim),
    /// The part that drives the units; started by `run`
    #[command(hide = true)]
    Daemon(daemon::Daemon),
}

/// What a verb came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Failed,
    Usage,
    BadFile,
    RecordDamaged,
    /// The connection to the system bus died; only a new process gets another.
    BusDead,
    /// What the daemon said.
    Code(u8),
}

impl Outcome {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::BadFile => 3,
            Self::RecordDamaged => 4,
            Self::BusDead => 5,
            Self::Code(code) => code,
        }
    }
}

/// Runs what this process was started for: one verb, or the guard process.
pub fn run() -> ExitCode {
    let outcome = guard::handed_over(std::env::args_os()).unwrap_or_else(verb);
    ExitCode::from(outcome.code())
}

fn verb() -> Outcome {
    match Arguments::parse().verb {
        Verb::Run(run) => run.run(),
        Verb::Check(check) => check.run(),
        Verb::Alarm(alarm) => alarm.run(),
        Verb::Record(record) => record.run(),
        Verb::Stop(stop) => stop.run(),
        Verb::Status(status) => status.run(),
        Verb::Sim(sim) => sim.run(),
        Verb::Daemon(daemon) => daemon.run(),
    }
}

/// Says something to the person at the terminal. A terminal that is gone hears nothing, and nothing else happens.
pub(crate) fn say(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stderr().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).unwrap_or_default();
}

/// Prints data.
pub(crate) fn print(text: &str) -> Outcome {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Outcome::Done,
        Err(_) => Outcome::Failed,
    }
}

/// Returns an error with its sources, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Returns where records live: the argument, the settings (`data_dir` of config/daemon.toml), the service's state
/// directory, or the user's own. A rehearsal has a store of its own beside it, so that no simulated dose is ever counted
/// for a client. Every verb asks here.
pub(crate) fn data_dir(
    given: Option<PathBuf>,
    settings: Option<PathBuf>,
    rehearsal: bool,
) -> Result<PathBuf, String> {
    let own = || directories::ProjectDirs::from("", "", "doseward").map(|dirs| dirs.data_dir().to_owned());
    // systemd may name several, separated by colons.
    let service = std::env::var("STATE_DIRECTORY").ok();
    let service = service.and_then(|dirs| dirs.split(':').next().map(PathBuf::from));
    let service = service.filter(|dir| !dir.as_os_str().is_empty());
    match given.or(settings).or(service).or_else(own) {
        Some(dir) if rehearsal => Ok(dir.join("rehearsal")),
        Some(dir) => Ok(dir),
        None => Err("No place for the record is known: name one with --data.".to_owned()),
    }
}

/// Reads a name or a reason from the command line: one line of a bounded length, for it is printed again and again.
pub(crate) fn sentence(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err("it holds a line break or another control character".to_owned());
    }
    if text.chars().count() > SENTENCE_MAX {
        return Err(format!("it is longer than {SENTENCE_MAX} characters"));
    }
    Ok(text.to_owned())
}

/// Characters of a name or a reason.
const SENTENCE_MAX: usize = 500;

/// Lets `tracing` speak to standard error; `DOSEWARD_LOG` sets what. A person at the terminal reads alarms and sentences.
pub(crate) fn log_to_stderr() {
    use std::io::IsTerminal as _;
    let least = if std::io::stderr().is_terminal() { "off" } else { "error" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("DOSEWARD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(least));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| crate::console::Stderr);
    // A second call in one process keeps the first one's.
    subscriber.try_init().unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsal_never_shares_a_store_with_real_sessions() {
        let given = Some(PathBuf::from("/var/lib/doseward"));
        assert_eq!(data_dir(given.clone(), None, false), Ok(PathBuf::from("/var/lib/doseward")));
        let set = Some(PathBuf::from("/srv"));
        assert_eq!(data_dir(None, set.clone(), true), Ok(PathBuf::from("/srv/rehearsal")));
        assert_eq!(data_dir(given, set, true), Ok(PathBuf::from("/var/lib/doseward/rehearsal")));
    }

    #[test]
    fn a_name_or_a_reason_is_one_line_of_a_bounded_length() {
        assert_eq!(sentence("lifted off — at once"), Ok("lifted off — at once".to_owned()));
        assert!(sentence(&"ä".repeat(500)).is_ok());
        for text in ["\u{1b}[2Jgone", "two\nlines", "bell\u{7}", &"x".repeat(501)] {
            assert!(sentence(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let all = [Outcome::Done, Outcome::Failed, Outcome::Usage, Outcome::BadFile, Outcome::RecordDamaged];
        assert_eq!(all.map(Outcome::code), [0, 1, 2, 3, 4]);
    }
}
