//! The program as whole processes: starting it, hearing what it says, signalling its parts, judging what it left.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use doseward::clock::Clock;

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doseward"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn doseward(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

pub fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A session that runs, with what it says.
pub struct Running {
    pub parent: Child,
    lines: Receiver<(u64, String)>,
    pub heard: Vec<String>,
    /// When each was heard, µs of the system's monotonic clock.
    pub heard_at: Vec<u64>,
}

impl Running {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// Starts it with more in its environment.
    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut parent = command(arguments).envs(environment.iter().copied()).spawn().unwrap();
        let stderr = parent.stderr.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send((Clock::start().origin_monotonic_us(), line)).is_err() {
                    return;
                }
            }
        });
        Self { parent, lines, heard: Vec::new(), heard_at: Vec::new() }
    }

    /// Waits until it says something that holds `words`.
    pub fn hears(&mut self, words: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((at, line)) => {
                    let found = line.contains(words);
                    self.heard.push(line);
                    self.heard_at.push(at);
                    if found {
                        return;
                    }
                }
                Err(error) => panic!("`{words}` was never said ({error}):\n{}", self.heard.join("\n")),
            }
        }
    }

    /// Returns what it has said so far.
    pub fn so_far(&mut self) -> String {
        let lines: Vec<(u64, String)> = self.lines.try_iter().collect();
        self.heard_at.extend(lines.iter().map(|(at, _)| at));
        self.heard.extend(lines.into_iter().map(|(_, line)| line));
        self.heard.join("\n")
    }

    /// Waits for its end and returns its exit code, what it printed and everything it said.
    pub fn over(mut self) -> (Option<i32>, String, String) {
        let status = self.parent.wait().unwrap();
        let mut out = String::new();
        self.parent.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.heard.extend(self.lines.iter().map(|(_, line)| line));
        (status.code(), out, self.heard.join("\n"))
    }

    pub fn signal(&self, name: &str) {
        signal(self.parent.id(), name);
    }

    /// Returns the process id of the part that drives the units.
    pub fn daemon(&self) -> u32 {
        self.child("daemon")
    }

    /// Returns the process id of the part that was started with this verb.
    pub fn child(&self, verb: &str) -> u32 {
        let parent = self.parent.id();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        let is_it = |pid: &&str| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split(|byte| *byte == 0).nth(1) == Some(verb.as_bytes()))
        };
        children.split_whitespace().find(is_it).expect("that part").parse().unwrap()
    }
}

pub fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

pub fn gone(pid: u32) -> bool {
    // A process that nobody waited for is a zombie: it has ended.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim().starts_with('Z')))
}

/// Returns a file of the tests' data.
pub fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Judges a record against the truth; returns whether they agree, and the table.
pub fn judged(record: &Path, truth: &Path, more: &[&str]) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/compare.py");
    let judged = Command::new("python3").arg(script).args([record, truth]).args(more).output().unwrap();
    (judged.status.success(), format!("{}{}", printed(&judged), said(&judged)))
}

/// Runs `job` for every item, at most `width` at a time, and returns what they came to, in order.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], width: usize, job: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let done = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..width.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    let result = job(item);
                    done.lock().unwrap().push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
