//! The hidden verb that `run` becomes: the guard process. A process of its own image from the start, so that it holds
//! nothing in memory that reading plans needed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::{Outcome, chain, say};
use crate::guard::control::Place;
use crate::guard::{self, Ended, GuardError, Launch};

/// The exit code of a process that was given a bad file.
const BAD_FILE: u8 = 3;

/// The parent of the simulators and of the part that drives the units; `run` becomes it.
#[derive(Debug, Args)]
pub(crate) struct Guard {
    /// Where the journal is kept
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where `stop` and `status` are asked
    #[arg(long, value_name = "PATH")]
    control: PathBuf,
    /// The control socket is open to its directory's group
    #[arg(long)]
    shared: bool,
    /// A person is there
    #[arg(long)]
    attended: bool,
    /// An argument of the simulators, once for each
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    simulators: Vec<OsString>,
    /// An argument of the part that drives the units, once for each
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    daemon: Vec<OsString>,
}

impl Guard {
    pub(crate) fn run(self) -> Outcome {
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
            data: self.data,
            control: Place { path: self.control, shared: self.shared },
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
    let mut command = std::process::Command::new(program);
    command.arg("guard").arg("--data").arg(handed.data).arg("--control").arg(&handed.control.path);
    for (flag, is_set) in [("--shared", handed.control.shared), ("--attended", handed.attended)] {
        if is_set {
            command.arg(flag);
        }
    }
    for (name, arguments) in [("--simulators", handed.simulators), ("--daemon", handed.daemon)] {
        for argument in arguments {
            let mut joined = OsString::from(name);
            joined.push("=");
            joined.push(argument);
            command.arg(joined);
        }
    }
    let error = command.exec();
    say(&format!("The guard process could not be started: {error}. No device was touched."));
    Outcome::Failed
}
