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
        let (mut handed, mut why) = (Vec::new(), Vec::new());
        // A settings file that cannot be read keeps nobody from the socket beside the data.
        let settings = Library::open(self.config_dir.as_deref()).daemon();
        let (set, shared) = settings.map_or((None, None), |daemon| (daemon.data_dir, daemon.control_dir));
        // Every one is asked before an answer is waited for: a slow one delays no other stop.
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
                match hand_over(&at.path, verb) {
                    Ok(stream) => handed.push(stream),
                    Err(error) if nobody_there(&error) => {}
                    Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                        let what = if when_failed.is_some() { "stop units" } else { "ask" };
                        why.push(format!(
                            "This user may not {what} here (the clinic opens that with control_dir)."
                        ));
                    }
                    Err(error) => why.push(format!("{}: {error}.", at.path.display())),
                }
            }
        }
        for stream in handed {
            match answer(stream) {
                Ok((text, code)) => {
                    print(&text);
                    worst = Some(code.max(worst.unwrap_or(0)));
                }
                Err(error) => why.push(unanswered(&error, when_failed.is_some())),
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

/// Asks at one socket.
fn hand_over(path: &Path, verb: &str) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(format!("{verb}\n").as_bytes())?;
    Ok(stream)
}

/// Returns whether an error only says that nobody listens there, or ever could.
fn nobody_there(error: &std::io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, InvalidInput, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | InvalidInput)
}

/// Returns what is answered and its exit code.
fn answer(stream: UnixStream) -> std::io::Result<(String, u8)> {
    let mut text = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if let Some(code) = line.strip_prefix("end ") {
            return Ok((text, code.parse().unwrap_or(1)));
        }
        text += &line;
        text.push('\n');
    }
    Err(ErrorKind::UnexpectedEof.into())
}

/// The request was written: it may act yet.
fn unanswered(error: &std::io::Error, is_stop: bool) -> String {
    let late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    let text = match (is_stop, late) {
        (true, true) => "The stop was handed over, and nobody has answered for 5 s. Count on nothing.",
        (true, false) => "The stop was handed over, and doseward ended before it answered. Count on nothing.",
        (false, true) => "doseward does not answer. It may hang: see that the units stand still.",
        (false, false) => "doseward ended before it answered.",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SR-02: of two that are asked, the one that says nothing delays the other by nothing.
    #[test]
    fn sr_02_every_socket_is_asked_before_an_answer_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let listen = |data: PathBuf| {
            std::fs::create_dir_all(&data).unwrap();
            std::os::unix::net::UnixListener::bind(data.join("control.sock")).unwrap()
        };
        let real = listen(dir.path().to_owned());
        let rehearsal = listen(data_dir(Some(dir.path().to_owned()), None, true).unwrap());
        let at = At { data: Some(dir.path().to_owned()), config_dir: None };
        let asking = std::thread::spawn(move || at.ask("stop", Some(BY_HAND)));
        let (first, _) = real.accept().unwrap();
        let since = crate::clock::Clock::start();
        let (mut second, _) = rehearsal.accept().unwrap();
        let waited = since.now().since(crate::units::Mono::ORIGIN);
        assert!(waited < ANSWER_WITHIN / 2, "asked {waited:?} after the first");
        let mut asked = String::new();
        BufReader::new(second.try_clone().unwrap()).read_line(&mut asked).unwrap();
        assert_eq!(asked, "stop\n");
        second.write_all(b"Gun 1: stopped.\nend 0\n").unwrap();
        drop(first);
        assert_eq!(asking.join().unwrap(), Outcome::Failed, "the first gave no answer");
    }

    #[test]
    fn what_is_not_answered_is_said_in_words() {
        let late = std::io::Error::from(ErrorKind::WouldBlock);
        assert!(unanswered(&late, true).contains("nobody has answered for 5 s. Count on nothing."));
        assert!(unanswered(&late, false).contains("see that the units stand still"));
    }
}
