//! `doseward alarm test`: sounds every alarm, asks whether it was heard, and puts the answer on record.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::alarm::Priority;
use crate::cli::daemon::person;
use crate::cli::record::outcome_of;
use crate::cli::{Outcome, chain, data_dir, noted, say};
use crate::clock::Clock;
use crate::config::{self, Library};
use crate::model::session::Actor;
use crate::record::daily::AlarmTest;
use crate::record::journal::Stamp;
use crate::runtime::sounder::{Player, Sounder as _};

/// Alarms of this box
#[derive(Debug, Args)]
pub(crate) struct Alarm {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Sound each alarm and say whether it was heard; needed once a day before a real unit is armed
    Test(Test),
}

#[derive(Debug, Args)]
struct Test {
    /// Where the record is kept
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Protocols, devices, areas and daemon.toml, laid out like the repository
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
}

/// Said when no player is configured.
const HOW: &str = "No player is configured, so this box cannot sound an alarm. Add to config/daemon.toml, for example:\n\n\
    [alarm]\n\
    player = [\"aplay\", \"-q\", \"{file}\"]\n\n\
    Any command will do that plays the file and ends when it is over (aplay, paplay, pw-play). Then test again.";

impl Alarm {
    pub(crate) fn run(self) -> Outcome {
        match self.what {
            What::Test(test) => test.run(),
        }
    }
}

impl Test {
    fn run(self) -> Outcome {
        let library = Library::open(self.config_dir.as_deref());
        let daemon = match config::load_daemon(&library) {
            Ok(daemon) => daemon,
            Err(problems) => {
                say(&config::render(&problems));
                return Outcome::BadFile;
            }
        };
        let Some(command) = daemon.player else {
            say(HOW);
            return Outcome::Failed;
        };
        let dir = match data_dir(self.data, daemon.data_dir, false) {
            Ok(dir) => dir,
            Err(why) => {
                say(&why);
                return Outcome::Failed;
            }
        };
        // The record first: a test that cannot be put on record is none.
        let mut journal = match noted::open(&dir) {
            Ok(journal) => journal,
            Err(error) => {
                say(&format!("{}.", chain(&error)));
                return outcome_of(&error);
            }
        };
        let heard = sound(command.clone(), &dir);
        let test = AlarmTest {
            by: Actor { person: person(), screen: "terminal".to_owned() },
            player: command.join(" "),
            heard,
        };
        let clock = Clock::start();
        let stamp = Stamp { mono: clock.now(), wall: clock.wall() };
        let recorded = journal.recover(stamp).and_then(|_| journal.alarm_test(stamp, &test));
        match (recorded, heard) {
            (Ok(()), true) => {
                say("The alarm was heard: on record for today.");
                Outcome::Done
            }
            (Ok(()), false) => {
                say("The alarm was not heard: nothing can be armed. Put the player right and test again.");
                Outcome::Failed
            }
            (Err(error), _) => {
                say(&format!("The test is not on record: {}.", chain(&error)));
                outcome_of(&error)
            }
        }
    }
}

/// Sounds each priority and asks; a player that fails is not heard.
fn sound(command: Vec<String>, dir: &Path) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, mut player) = match (runtime, Player::new(command, dir)) {
        (Ok(runtime), Ok(player)) => (runtime, player),
        (Err(error), _) => return not_heard(&error),
        (_, Err(error)) => return not_heard(&error),
    };
    for priority in [Priority::Low, Priority::Medium, Priority::High] {
        let pulses = priority.burst().pulses.len();
        say(&format!(
            "Alarm of {} priority: {pulses} {}.",
            priority.word(),
            if pulses == 1 { "pulse" } else { "pulses" }
        ));
        if let Err(error) = runtime.block_on(player.sound(priority)) {
            return not_heard(&error);
        }
    }
    ask("Did you hear all three, loud enough for this room? Type y and Enter; anything else is no: ")
}

fn not_heard(error: &dyn std::error::Error) -> bool {
    say(&format!("The alarm does not sound: {}.", chain(error)));
    false
}

fn ask(question: &str) -> bool {
    let mut out = std::io::stderr().lock();
    write!(out, "{question}").and_then(|()| out.flush()).unwrap_or_default();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
