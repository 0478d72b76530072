//! `doseward run`: one session at this terminal. This process becomes the guard.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;

use crate::cli::elsewhere::Elsewhere;
use crate::cli::guard::{HandedOn, become_guard};
use crate::cli::{Outcome, control, data_dir, say, sentence, words};
use crate::config::{self, Library};

/// This version drives simulated units only: no unit has been tried on a bench. A real unit may be driven when one has,
/// with its results.
pub(crate) const DRIVES_ONLY_SIMULATED: bool = true;

/// Run the session of one plan at this terminal.
#[derive(Debug, Args)]
#[command(after_help = format!("Keys:\n{}", words::HELP))]
pub(crate) struct Run {
    /// The plan
    plan: PathBuf,
    /// Drive simulated units; WORLD describes them (without it: the plan's units, well-behaved)
    #[arg(long, value_name = "WORLD", num_args = 0..=1)]
    sim: Option<Option<PathBuf>>,
    /// Where the record is kept; a rehearsal has its own place inside
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Protocols, devices and areas, laid out like the repository
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// Where the simulators write what they really delivered
    #[arg(long, value_name = "FILE", requires = "sim")]
    truth: Option<PathBuf>,
    /// Run the plan without a person; simulated units only
    #[arg(long, requires = "sim")]
    unattended: bool,
    /// A dose given elsewhere today, for example "percussion:calf:right:60 s"; counts in today's budgets
    #[arg(long, value_name = "MODALITY:AREA:SIDE:TIME")]
    elsewhere: Vec<Elsewhere>,
    /// Why this client gets one more session than the plan has a week
    #[arg(long, value_name = "REASON", value_parser = sentence)]
    beyond_course: Option<String>,
    /// Who of the clinic says that the clock is right although the record is ahead of it; goes on record
    #[arg(long, value_name = "NAME", value_parser = sentence)]
    clock_confirmed_by: Option<String>,
}

impl Run {
    pub(crate) fn run(self) -> Outcome {
        let Some(world) = &self.sim else {
            return refuse_real();
        };
        // The daemon loads it again; this is so that a bad plan starts nothing.
        let library = Library::open(self.config_dir.as_deref());
        let settings = match config::load_plan(&library, &self.plan) {
            Ok(loaded) => loaded.daemon,
            Err(problems) => {
                say(&config::render(&problems));
                return Outcome::BadFile;
            }
        };
        let data = match data_dir(self.data.clone(), settings.data_dir, true) {
            Ok(data) => data,
            Err(why) => {
                say(&why);
                return Outcome::Failed;
            }
        };
        let unattended = self.unattended || !std::io::stdin().is_terminal();
        become_guard(HandedOn {
            control: &control::place(settings.control_dir.as_deref(), &data, true),
            attended: !unattended,
            simulators: self.simulators(world.as_ref()),
            daemon: self.daemon(data.clone(), unattended),
            data: &data,
        })
    }

    fn simulators(&self, world: Option<&PathBuf>) -> Vec<OsString> {
        let mut arguments = vec![OsString::from("sim")];
        match world {
            Some(world) => arguments.push(world.into()),
            None => arguments.extend(["--plan".into(), self.plan.clone().into()]),
        }
        option(&mut arguments, "--config-dir", self.config_dir.as_ref());
        option(&mut arguments, "--truth", self.truth.as_ref());
        arguments
    }

    fn daemon(&self, data: PathBuf, unattended: bool) -> Vec<OsString> {
        let mut arguments = vec![OsString::from("daemon"), self.plan.clone().into(), "--simulated".into()];
        option(&mut arguments, "--data", Some(&data));
        option(&mut arguments, "--config-dir", self.config_dir.as_ref());
        if unattended {
            arguments.push("--unattended".into());
        }
        for elsewhere in &self.elsewhere {
            arguments.extend(["--elsewhere".into(), elsewhere.text().into()]);
        }
        if let Some(reason) = &self.beyond_course {
            arguments.extend(["--beyond-course".into(), reason.into()]);
        }
        if let Some(name) = &self.clock_confirmed_by {
            arguments.extend(["--clock-confirmed-by".into(), name.into()]);
        }
        arguments
    }
}

fn option(arguments: &mut Vec<OsString>, name: &str, value: Option<&PathBuf>) {
    if let Some(value) = value {
        arguments.extend([name.into(), value.into()]);
    }
}

fn refuse_real() -> Outcome {
    if DRIVES_ONLY_SIMULATED {
        say(
            "This version drives simulated units only: no unit has been tried on a bench yet. Run it with --sim.",
        );
    }
    Outcome::Usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_units_are_refused_while_this_version_drives_only_simulated_ones() {
        // Changed only together with bench results.
        const { assert!(DRIVES_ONLY_SIMULATED) };
        assert_eq!(refuse_real(), Outcome::Usage);
    }
}
