//! The command line as a person or a script meets it: whole processes, simulated units, real time.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PLAN: &str = r#"
schema = 1
id = "cli"
title = "A few seconds of TENS"
client = "C-0001"

[[device]]
label = "Stimulator A"
profile = "hasomed-p24"

[[step]]
protocol = "tens_conventional"
device = "Stimulator A"
channel = 1
area = "calf"
side = "right"
electrodes = [
  { area = "calf", side = "right", contact = "25 cm2" },
  { area = "calf", side = "right", contact = "25 cm2" },
]
frequency = "80 Hz"
width = "100 us"
target = "2 mA"
duration = "SECONDS s"
"#;

/// A directory with a plan and a place for records.
struct Room(TempDir);

impl Room {
    fn new(seconds: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("plan.toml"), PLAN.replace("SECONDS", &seconds.to_string())).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self) -> Running {
        let plan = self.path("plan.toml");
        let data = self.path("data");
        Running::start(&["run", text(&plan), "--sim", "--data", text(&data), "--unattended"])
    }

    /// Runs `record …` on the rehearsal record.
    fn record(&self, arguments: &[&str]) -> Output {
        let data = self.path("data");
        let mut all = vec!["record"];
        all.extend(arguments);
        all.extend(["--sim", "--data", text(&data)]);
        doseward(&all)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doseward"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn doseward(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A session that runs, with what it says.
struct Running {
    parent: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut parent = command(arguments).spawn().unwrap();
        let stderr = parent.stderr.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { parent, lines, heard: Vec::new() }
    }

    /// Waits until it says something that holds `words`.
    fn hears(&mut self, words: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = line.contains(words);
                    self.heard.push(line);
                    if found {
                        return;
                    }
                }
                Err(error) => panic!("`{words}` was never said ({error}):\n{}", self.heard.join("\n")),
            }
        }
    }

    /// Waits for its end and returns its exit code, what it printed and everything it said.
    fn over(mut self) -> (Option<i32>, String, String) {
        let status = self.parent.wait().unwrap();
        let mut out = String::new();
        self.parent.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.heard.extend(self.lines.iter());
        (status.code(), out, self.heard.join("\n"))
    }

    fn signal(&self, name: &str) {
        signal(self.parent.id(), name);
    }

    /// Returns the process id of the part that drives the units.
    fn daemon(&self) -> u32 {
        let parent = self.parent.id();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        let is_daemon = |pid: &&str| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split(|byte| *byte == 0).nth(1) == Some(b"daemon"))
        };
        children.split_whitespace().find(is_daemon).expect("a daemon").parse().unwrap()
    }
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

fn gone(pid: u32) -> bool {
    // A process that nobody waited for is a zombie: it has ended.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim().starts_with('Z')))
}

#[test]
fn wrong_usage_ends_with_2_and_says_how_it_is_used() {
    for arguments in [&[][..], &["treat"], &["run"], &["run", "p.toml", "--truth", "t"], &["record"]] {
        let output = doseward(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains("Usage"), "{arguments:?}: {}", said(&output));
    }
}

#[test]
fn a_run_on_real_units_is_refused_with_the_reason() {
    let room = Room::new(3);
    let output = doseward(&["run", text(&room.path("plan.toml")), "--data", text(&room.path("data"))]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("drives simulated units only"), "{}", said(&output));
    assert!(!room.path("data").exists(), "nothing may be touched");
}

#[test]
fn the_part_that_drives_units_is_not_started_by_hand() {
    let room = Room::new(3);
    let plan = room.path("plan.toml");
    let data = room.path("data");
    let unit = "serial=Stimulator A=/dev/null";
    let by_hand = ["daemon", text(&plan), "--data", text(&data), "--simulated", "--unit", unit];
    let output = doseward(&by_hand);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("not started by hand"), "{}", said(&output));
    assert!(!data.exists());
}

#[test]
fn files_with_problems_end_with_3_before_anything_runs() {
    let room = Room::new(3);
    let good = doseward(&["check", text(&room.path("plan.toml"))]);
    assert_eq!(good.status.code(), Some(0), "{}", printed(&good));
    let bad = room.path("bad.toml");
    std::fs::write(&bad, PLAN.replace("SECONDS", "3").replace("2 mA", "99 mA")).unwrap();
    let checked = doseward(&["check", text(&bad)]);
    assert_eq!(checked.status.code(), Some(3));
    assert!(printed(&checked).contains("bad.toml"), "{}", printed(&checked));
    let data = room.path("data");
    let run = doseward(&["run", text(&bad), "--sim", "--data", text(&data)]);
    assert_eq!(run.status.code(), Some(3), "{}", said(&run));
    assert!(!data.exists());
}

#[test]
fn a_bad_plan_is_said_before_any_simulator_is_started() {
    let room = Room::new(3);
    let bad = room.path("bad.toml");
    std::fs::write(&bad, "schema = 1\nid = \"b\"\ntitle = \"B\"\nclient = \"C-0001\"\n").unwrap();
    let run = doseward(&["run", text(&bad), "--sim", "--data", text(&room.path("data"))]);
    assert_eq!(run.status.code(), Some(3), "{}", said(&run));
    assert!(said(&run).contains("add a `[[step]]` table"), "{}", said(&run));
    assert!(!said(&run).contains("did not come up"), "{}", said(&run));
}

#[test]
fn a_world_without_the_units_of_the_plan_begins_no_session() {
    let room = Room::new(3);
    let world = room.path("world.toml");
    let other = "schema = 1\nid = \"w\"\ntitle = \"W\"\nseed = 1\n[[unit]]\nlabel = \"P24 B\"\n\
                 kind = \"stimulator\"\nmodel = \"p24\"\n";
    std::fs::write(&world, other).unwrap();
    let (plan, data) = (room.path("plan.toml"), room.path("data"));
    let run = doseward(&["run", text(&plan), "--sim", text(&world), "--data", text(&data), "--unattended"]);
    assert_eq!(run.status.code(), Some(3), "{}", said(&run));
    let words = "do not have: Stimulator A. The world has: P24 B. No device was touched.";
    assert!(said(&run).contains(words), "{}", said(&run));
    assert!(!data.exists(), "a session that never started is in the record");
}

#[test]
fn shipped_worlds_have_the_units_of_the_shipped_plan() {
    for world in ["config/worlds/default.toml", "config/worlds/rough.toml"] {
        let data = tempfile::tempdir().unwrap();
        let plan = "config/plans/sample.toml";
        let mut run =
            Running::start(&["run", plan, "--sim", world, "--data", text(data.path()), "--unattended"]);
        run.hears("| running |");
        run.signal("-TERM");
        let (code, _, said) = run.over();
        assert_eq!(code, Some(1), "{world}: {said}");
        assert!(said.contains("The record is sealed."), "{world}: {said}");
    }
}

#[test]
fn a_record_that_cannot_be_written_refuses_the_session_before_a_unit_is_touched() {
    let room = Room::new(3);
    std::fs::write(room.path("data"), "a file where a directory is due").unwrap();
    let (code, _, said) = room.run().over();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("No device was touched"), "{said}");
    assert!(!said.contains("connected"), "{said}");
}

#[test]
fn an_unattended_rehearsal_completes_its_plan_and_leaves_a_note_and_a_sealed_record() {
    let room = Room::new(3);
    let (code, note, said) = room.run().over();
    assert_eq!(code, Some(0), "{said}");
    assert!(note.contains("SIMULATED") && note.contains("C-0001"), "{note}");
    assert!(said.contains("step completed"), "{said}");
    let verified = room.record(&["verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", printed(&verified));
    assert!(printed(&room.record(&["show"])).contains("sealed, simulated"));
    let export = room.path("session.export");
    let exported = room.record(&["export", "last", "--to", text(&export)]);
    assert_eq!(exported.status.code(), Some(0), "{}", crate::cli::said(&exported));
    assert_eq!(doseward(&["record", "verify", text(&export)]).status.code(), Some(0));
    let mut bytes = std::fs::read(&export).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&export, bytes).unwrap();
    assert_eq!(doseward(&["record", "verify", text(&export)]).status.code(), Some(4));
}

#[test]
fn a_second_process_is_refused_naming_the_holder_and_a_signal_ends_the_first_in_order() {
    let room = Room::new(60);
    let mut first = room.run();
    first.hears("| running |");
    let holder = first.daemon().to_string();
    let (code, _, said) = room.run().over();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&holder), "the holder is {holder}: {said}");
    first.signal("-TERM");
    let (code, note, said) = first.over();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Ended by SIGTERM: every unit was stopped first."), "{said}");
    assert!(said.contains("zero, confirmed in"), "{said}");
    assert!(said.contains("The record is sealed."), "{said}");
    assert!(note.contains("C-0001"), "{note}");
}

#[test]
fn a_daemon_that_is_killed_is_said_plainly_and_the_next_run_completes_its_record() {
    let room = Room::new(60);
    let mut first = room.run();
    first.hears("| running |");
    signal(first.daemon(), "-KILL");
    let (code, _, said) = first.over();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("has died (signal 9)"), "{said}");
    assert!(said.contains("lift it off and press its button"), "{said}");
    std::fs::write(room.path("plan.toml"), PLAN.replace("SECONDS", "2")).unwrap();
    let (code, _, said) = room.run().over();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("was not closed: it is completed now"), "{said}");
    assert_eq!(room.record(&["verify"]).status.code(), Some(0));
}

#[test]
fn a_parent_that_is_killed_takes_the_session_down_in_order() {
    let room = Room::new(60);
    let mut first = room.run();
    first.hears("| running |");
    let daemon = first.daemon();
    first.signal("-KILL");
    let end = Instant::now() + Duration::from_secs(20);
    while !gone(daemon) {
        assert!(Instant::now() < end, "the daemon outlives its parent");
        std::thread::sleep(Duration::from_millis(50));
    }
    first.parent.wait().unwrap();
    assert!(printed(&room.record(&["show"])).contains("sealed"), "the record is not sealed");
    let note = printed(&room.record(&["show", "last"]));
    assert!(note.contains("guard"), "{note}");
}
