//! The simulators' process and what it says of where its units are.

use std::collections::VecDeque;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::guard::{GuardError, KILL_AFTER, Launch, tell};
use rustix::process::Signal;

/// Where the simulated units are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// As the daemon takes them: `serial=LABEL=PATH`, `bluetooth=LABEL=ADDRESS`.
    pub(super) units: Vec<String>,
    pub(super) bus: Option<String>,
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
pub(super) struct Simulators {
    child: Child,
    lines: Option<Lines<BufReader<ChildStdout>>>,
    /// Held open: its end tells the simulators that this process is gone.
    _input: Option<ChildStdin>,
}

impl Simulators {
    pub(super) fn start(launch: &Launch) -> Result<Self, GuardError> {
        let failed = |source| GuardError::Start { what: "the simulators", source };
        let mut command = Command::new(&launch.program);
        command.args(&launch.simulators).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(failed)?;
        let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
        let input = child.stdin.take();
        Ok(Self { child, lines, _input: input })
    }

    pub(super) async fn ready(&mut self) -> Result<Places, GuardError> {
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
    pub(super) async fn drain(&mut self) {
        if self.lines.is_none() {
            std::future::pending::<()>().await;
        }
        while self.next_line().await.is_some() {}
    }

    /// Ends them: SIGTERM, then SIGKILL.
    pub(super) async fn end(mut self) {
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
}
