//! `doseward stop` and `doseward status`: from any shell that may open the control socket, also while the daemon hangs.
//!
//! The guard process answers. A stop asks every socket that is there, real and rehearsed alike: whoever types it means
//! all.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::cli::{Outcome, data_dir, print, say};
use crate::config::Library;
use crate::guard::control::Place;

/// Longest wait for an answer: a proof may take a second and a half, a guard under load somewhat longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Said when a stop reached nobody.
const BY_HAND: &str =
    "No stop is proven from here. Lift a gun off and press its button; switch a stimulator off.";

/// Stop every unit at once, from any shell; needs no login.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    at: At,
}

/// Tell what runs.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
struct At {
    /// Where the record is kept
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Protocols, devices and areas, laid out like the repository
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
}

impl Stop {
    pub(crate) fn run(self) -> Outcome {
        self.at.ask("stop", Some(BY_HAND))
    }
}

impl Status {
    pub(crate) fn run(self) -> Outcome {
        self.at.ask("status", None)
    }
}

/// Returns where the control socket of a data directory is; in a shared directory when the clinic names one.
pub(crate) fn place(shared: Option<&Path>, data: &Path, rehearsal: bool) -> Place {
    match shared {
        Some(dir) => {
            let name = if rehearsal { "rehearsal.sock" } else { "control.sock" };
            Place { path: dir.join(name), shared: true }
        }
        None => Place { path: data.join("control.sock"), shared: false },
    }
}

impl At {
    /// Asks at every socket that is there.
    fn ask(&self, verb: &str, when_failed: Option<&str>) -> Outcome {
        let mut worst = None;
        let mut why = Vec::new();
        // A settings file that cannot be read keeps nobody from the socket beside the data.
        let settings = Library::open(self.config_dir.as_deref()).daemon();
        let (set, shared) = settings.map_or((None, None), |daemon| (daemon.data_dir, daemon.control_dir));
        for rehearsal in [false, true] {
            let data = match data_dir(self.data.clone(), set.clone(), rehearsal) {
                Ok(data) => data,
                Err(error) => {
                    why.push(error);
                    continue;
                }
            };
            let shared = shared.as_deref().map(|dir| place(Some(dir), &data, rehearsal));
            for at in shared.into_iter().chain([place(None, &data, rehearsal)]) {
                match asked(&at.path, verb) {
                    Ok((text, code)) => {
                        print(&text);
                        worst = Some(code.max(worst.unwrap_or(0)));
                    }
                    Err(error)
                        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
                    Err(error) => why.push(format!("{}: {error}.", at.path.display())),
                }
            }
        }
        let reached = worst.is_some();
        if !reached && why.is_empty() {
            why.push("No doseward runs here.".to_owned());
        }
        why.iter().for_each(|why| say(why));
        if let Some(words) = when_failed.filter(|_| !reached || !why.is_empty()) {
            say(words);
        }
        match worst {
            Some(0) if why.is_empty() => Outcome::Done,
            Some(_) | None => Outcome::Failed,
        }
    }
}

/// Asks at one socket; returns what it says and its exit code.
fn asked(path: &Path, verb: &str) -> std::io::Result<(String, u8)> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(format!("{verb}\n").as_bytes())?;
    let mut text = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(unanswered)?;
        if let Some(code) = line.strip_prefix("end ") {
            return Ok((text, code.parse().unwrap_or(1)));
        }
        text += &line;
        text.push('\n');
    }
    Err(unanswered("it hung up before it answered"))
}

/// The request was written: it may act yet.
fn unanswered(why: impl std::fmt::Display) -> std::io::Error {
    std::io::Error::other(format!("handed to the guard process, which has not said that it was done ({why})"))
}
