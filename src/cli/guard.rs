//! The word that `run` becomes this program with: the guard process. A process of its own image from the start, so that
//! it holds nothing in memory that reading plans needed; the parser of the verbs counts as that, so it is no verb.

use std::ffi::OsString;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::{Outcome, chain, say};
use crate::guard::control::Place;
use crate::guard::{self, Ended, GuardError, Launch};

/// The exit code of a process that was given a bad file.
const BAD_FILE: u8 = 3;

/// The first argument of the guard process; the second is a [`Guard`] in JSON.
const GUARD: &str = "guard";

/// The parent of the simulators and of the part that drives the units.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guard {
    /// Where the journal is kept.
    data: OsString,
    /// Where `stop` and `status` are asked.
    control: OsString,
    /// The control socket is open to its directory's group.
    shared: bool,
    /// A person is there.
    attended: bool,
    /// The simulators' arguments.
    simulators: Vec<OsString>,
    /// Those of the part that drives the units.
    daemon: Vec<OsString>,
}

/// Runs the guard, when that is what `run` started this process as.
pub(crate) fn handed_over(arguments: impl IntoIterator<Item = OsString>) -> Option<Outcome> {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next()? != GUARD {
        return None;
    }
    let handed: Guard = serde_json::from_str(arguments.next()?.to_str()?).ok()?;
    Some(handed.run())
}

impl Guard {
    fn run(self) -> Outcome {
        let program = match std::env::current_exe() {
            Ok(program) => program,
            Err(error) => {
                say(&format!("This program cannot find itself: {error}."));
                return Outcome::Failed;
            }
        };
        let launch = Launch {
            program,
            simulators: self.simulators,
            daemon: self.daemon,
            again: "--again".into(),
            attended: self.attended,
            data: self.data.into(),
            control: Place { path: self.control.into(), shared: self.shared },
        };
        match guard::run(&launch) {
            Ok(Ended::Code(code)) => Outcome::Code(code),
            // It has been said already.
            Ok(Ended::Died) => Outcome::Failed,
            Err(error) => failed(&error),
        }
    }
}

fn failed(error: &GuardError) -> Outcome {
    // The simulators have said themselves what is wrong with their files.
    if let GuardError::Simulators { code: Some(BAD_FILE), .. } = error {
        return Outcome::BadFile;
    }
    let untouched = match error {
        GuardError::Journal { .. } | GuardError::Control(_) => " No device was touched.",
        GuardError::Simulators { .. } | GuardError::Start { .. } => "",
    };
    say(&format!("{}.{untouched}", chain(error)));
    match error {
        GuardError::Simulators { code: Some(code), .. } => Outcome::Code((*code).max(1)),
        GuardError::Simulators { code: None, .. }
        | GuardError::Start { .. }
        | GuardError::Journal { .. }
        | GuardError::Control(_) => Outcome::Failed,
    }
}

/// What `run` hands on.
pub(crate) struct HandedOn<'a> {
    pub(crate) data: &'a Path,
    pub(crate) control: &'a Place,
    pub(crate) attended: bool,
    pub(crate) simulators: Vec<OsString>,
    pub(crate) daemon: Vec<OsString>,
}

/// Becomes the guard: this process goes on as it, with the same number and terminal. Returns only when it cannot.
pub(crate) fn become_guard(handed: HandedOn<'_>) -> Outcome {
    use std::os::unix::process::CommandExt as _;
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            say(&format!("This program cannot find itself: {error}."));
            return Outcome::Failed;
        }
    };
    let guard = Guard {
        data: handed.data.into(),
        control: handed.control.path.clone().into(),
        shared: handed.control.shared,
        attended: handed.attended,
        simulators: handed.simulators,
        daemon: handed.daemon,
    };
    let error = match serde_json::to_string(&guard) {
        Ok(guard) => std::process::Command::new(program).args([GUARD, &guard]).exec(),
        Err(error) => error.into(),
    };
    say(&format!("The guard process could not be started: {error}. No device was touched."));
    Outcome::Failed
}
