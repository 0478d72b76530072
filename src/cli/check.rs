//! `doseward check`: start-up without starting. Every problem of every file, each with its place and remedy.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{Outcome, print};
use crate::config::{self, Library};

/// Check plans and every file they rest on, without touching a device.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Files or directories of them; none: everything that is shipped
    files: Vec<PathBuf>,
    /// Protocols, devices and areas, laid out like the repository
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
}

impl Check {
    pub(crate) fn run(self) -> Outcome {
        let library = Library::open(self.config_dir.as_deref());
        let problems = config::check(&library, &self.files);
        if problems.is_empty() {
            return print("Nothing is wrong with these files.\n");
        }
        let printed = print(&config::render(&problems));
        if printed == Outcome::Done { Outcome::BadFile } else { printed }
    }
}
