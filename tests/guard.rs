//! The guard process at work: the daemon is killed, frozen, signalled or made to panic while a stimulator and a gun give
//! output; the guard itself is killed, and both. Simulated units, real transports, real processes.
//!
//! Times are the simulators' own: when the first stop reached the unit. `DOSEWARD_TRIALS` sets how often each case is
//! run (default 1), `DOSEWARD_TRIALS_WIDTH` how many at a time (default 3).

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use doseward::clock::Clock;
use doseward::guard::journal::{self, What};
use doseward::record::entry::{Body, Stamp};
use doseward::record::journal::Journal;

use crate::support::process::{Running, data, doseward, gone, in_parallel, judged, printed, text};

/// What is done to whom.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    /// The daemon gets a signal.
    Daemon(&'static str, Signal),
    /// The daemon is stopped for so long, then continued.
    Freeze(Duration),
    /// The same, with a write to the gun that is never answered.
    FreezeStuck(Duration),
    Panic,
    GuardKilled,
    BothKilled,
}

impl Act {
    fn name(self) -> String {
        match self {
            Self::Daemon(name, _) => name.to_owned(),
            Self::Freeze(span) => format!("SIGSTOP {:.1} s", span.as_secs_f64()),
            Self::FreezeStuck(span) => format!("SIGSTOP {:.1} s, write stuck", span.as_secs_f64()),
            Self::Panic => "panic".to_owned(),
            Self::GuardKilled => "guard killed".to_owned(),
            Self::BothKilled => "both killed".to_owned(),
        }
    }

    /// By when a unit must have heard its first stop (design 4), ms; `None`: nobody is left to say it.
    fn bound(self) -> Option<u64> {
        match self {
            Self::Daemon("SIGKILL", _) => Some(100),
            Self::Freeze(_) | Self::FreezeStuck(_) => Some(500),
            Self::Daemon(..) | Self::Panic => Some(20),
            // The daemon sees the end of its line and stops by its own drivers.
            Self::GuardKilled => Some(100),
            Self::BothKilled => None,
        }
    }

    /// Whether the guard must take over. A freeze of 0.3 s may be over before 400 ms of silence are.
    fn taken_over(self) -> Option<bool> {
        match self {
            Self::Daemon("SIGKILL", _) => Some(true),
            Self::Freeze(span) | Self::FreezeStuck(span) => {
                (span > Duration::from_millis(500)).then_some(true)
            }
            Self::Daemon(..) | Self::Panic | Self::GuardKilled | Self::BothKilled => Some(false),
        }
    }
}

/// A shared machine may keep any process waiting; the figures are printed, and `scripts/extra trials` judges a quiet one.
const MARGIN_MS: u64 = 400;

const UNITS: [&str; 2] = ["Stimulator A", "Gun 1"];

/// What one trial came to.
struct Trial {
    act: Act,
    /// Per unit: ms from the act to the first stop heard.
    first: Vec<Option<f64>>,
    taken_over: bool,
    wrong: Vec<String>,
}

/// A line of the truth file.
#[derive(Clone, Debug)]
struct Heard {
    at: u64,
    unit: String,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Given {
    at: u64,
    unit: String,
    channel: u64,
    present: u64,
}

struct Truth {
    heard: Vec<Heard>,
    given: Vec<Given>,
}

impl Truth {
    fn read(path: &Path) -> Self {
        let mut truth = Self { heard: Vec::new(), given: Vec::new() };
        let mut line_rest = Vec::new();
        for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
            let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let (at, unit) = (line["t_us"].as_u64().unwrap(), line["unit"].as_str().unwrap().to_owned());
            if line["kind"] == "heard" {
                let hex = line["bytes"].as_str().unwrap();
                let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                let mut bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
                if unit == UNITS[0] {
                    // A frame may come in two reads: it is heard with its last byte.
                    line_rest.append(&mut bytes);
                    let (_, whole) = commands(&line_rest);
                    bytes = line_rest.drain(..whole).collect();
                }
                truth.heard.push(Heard { at, unit, bytes });
            } else {
                let number = |key: &str| line[key].as_u64().unwrap();
                let (channel, present) = (number("channel"), number("present"));
                truth.given.push(Given { at, unit, channel, present });
            }
        }
        truth
    }

    fn is_on(&self, unit: &str) -> bool {
        let mut channels = std::collections::BTreeMap::new();
        for given in self.given.iter().filter(|given| given.unit == unit) {
            channels.insert(given.channel, given.present);
        }
        channels.into_values().any(|present| present > 0)
    }

    fn first_stop(&self, unit: &str, since: u64) -> Option<u64> {
        let heard = self.heard.iter().filter(|heard| heard.unit == unit && heard.at >= since);
        heard.filter(|heard| means(heard).0).map(|heard| heard.at).min()
    }
}

/// Returns whether a message stops its unit and whether it may give output; read from the public frame formats alone.
fn means(heard: &Heard) -> (bool, bool) {
    if heard.unit == UNITS[1] {
        let speed = match heard.bytes.as_slice() {
            [0xAA, _, 0x01, 0x03] | [0xAA, _, 0x01, 0x03, 0, 0, 0] => Some(0),
            [0xAA, _, 0x01, 0x03, high, low, 0x03] => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        };
        return (speed == Some(0), speed.is_some_and(|speed| speed > 0));
    }
    let (commands, _) = commands(&heard.bytes);
    (commands.contains(&34), commands.contains(&32))
}

/// The command numbers of the whole frames in the bytes of a ScienceMode line, and how many bytes they took: frames F0…0F,
/// 81 escapes the next byte XOR 55, whatever it looks like then; checksum and length of two bytes each, then packet number
/// (6 bits) and command (10 bits).
fn commands(bytes: &[u8]) -> (Vec<u16>, usize) {
    let (mut found, mut used) = (Vec::new(), 0);
    let (mut plain, mut escaped) = (None, false);
    for (at, byte) in bytes.iter().enumerate() {
        match (&mut plain, byte) {
            (Some(inner), _) if escaped => {
                Vec::push(inner, byte ^ 0x55);
                escaped = false;
            }
            (_, 0xF0) => plain = Some(Vec::new()),
            (Some(_), 0x81) => escaped = true,
            (Some(inner), 0x0F) => {
                if let [_, _, _, _, high, low, ..] = inner.as_slice() {
                    found.push(u16::from_be_bytes([high & 3, *low]));
                }
                (plain, used) = (None, at + 1);
            }
            (Some(inner), _) => inner.push(*byte),
            (None, _) => {}
        }
    }
    (found, used)
}

#[test]
fn an_escaped_byte_that_looks_like_an_end_ends_no_frame() {
    // The stop of the mid level with packet number 35: its checksum begins with 5A, escaped as 0F.
    let stop = [0xF0, 0x81, 0x55, 0x81, 0x59, 0x81, 0x0F, 0x81, 0x80, 0x8C, 0x22, 0x0F];
    assert_eq!(commands(&stop), (vec![34], stop.len()));
    assert_eq!(commands(&stop[..9]), (vec![], 0), "the rest of it comes with the next bytes");
}

fn now_us() -> u64 {
    Clock::start().origin_monotonic_us()
}

fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).ok();
}

fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let end = Instant::now() + within;
    while !holds() {
        if Instant::now() >= end {
            return Err(format!("{what} did not come within {within:?}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Waits until both units give output; else says what the session has said.
fn both_on(session: &mut Running, truth: &Path) -> Result<(), String> {
    let on = until("output of both units", Duration::from_secs(50), || {
        let truth = Truth::read(truth);
        UNITS.iter().all(|unit| truth.is_on(unit))
    });
    on.map_err(|why| format!("{why}:\n{}", session.so_far()))
}

/// Runs one session with both units on, does it, and judges everything that is left.
fn trial(act: Act, number: u32) -> Trial {
    let mut trial = Trial { act, first: vec![None; 2], taken_over: false, wrong: Vec::new() };
    if let Err(why) = trial.run(number) {
        trial.wrong.push(why);
    }
    trial
}

impl Trial {
    /// A freeze that may be over before it counts as one.
    fn is_short(&self) -> bool {
        matches!(self.act, Act::Freeze(span) | Act::FreezeStuck(span) if span < ms(400))
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(what());
        }
    }

    fn run(&mut self, number: u32) -> Result<(), String> {
        let room = tempfile::tempdir().unwrap();
        let (given, truth) = (room.path().join("data"), room.path().join("truth"));
        let (record, plan) = (given.join("rehearsal"), data("plans/both-at-once.toml"));
        let world = data("worlds/gun-write-silent.toml");
        let mut arguments = vec!["run", text(&plan), "--sim"];
        if matches!(self.act, Act::FreezeStuck(_)) {
            arguments.push(text(&world));
        }
        arguments.extend(["--unattended", "--data", text(&given), "--truth", text(&truth)]);
        // Anywhere in the ramps, by its number.
        let jitter = Duration::from_millis(u64::from(number) * 137 % 1500);
        let panics = (Duration::from_secs(9) + jitter).as_millis().to_string();
        let environment: &[(&str, &str)] =
            if self.act == Act::Panic { &[("DOSEWARD_PANIC_AFTER_MS", &panics)] } else { &[] };
        let mut session = Running::start_with(&arguments, environment);
        session.hears("2 steps.");
        let daemon = session.daemon();
        let guard = session.parent.id();
        both_on(&mut session, &truth)?;
        if matches!(self.act, Act::FreezeStuck(_)) {
            let began = Truth::read(&truth).given.first().map_or(0, |given| given.at);
            until("the stuck write", Duration::from_secs(20), || now_us() >= began + 12_050_000)?;
        } else {
            std::thread::sleep(jitter);
        }
        let mut at = now_us();
        match self.act {
            Act::Daemon(_, signal) => send(daemon, signal),
            Act::Freeze(span) | Act::FreezeStuck(span) => {
                send(daemon, Signal::STOP);
                std::thread::sleep(span);
                send(daemon, Signal::CONT);
            }
            Act::Panic => {
                session.hears("panicked");
                at = session.heard_at.last().copied().unwrap();
            }
            Act::GuardKilled => send(guard, Signal::KILL),
            Act::BothKilled => {
                send(guard, Signal::STOP);
                send(daemon, Signal::KILL);
                send(guard, Signal::KILL);
            }
        }
        if self.is_short() {
            std::thread::sleep(Duration::from_millis(1500));
            let taken = lines(&record).iter().any(|line| matches!(line.what, What::TookOver { .. }));
            if !taken {
                session.signal("-TERM");
            }
        }
        let (code, _, said) = session.over();
        until("the daemon's end", Duration::from_secs(15), || gone(daemon))?;
        self.check(code != Some(0), || format!("it ended as if nothing had happened: {said}"));
        self.judge(at, &truth, &given, &said);
        Ok(())
    }

    fn judge(&mut self, at: u64, truth: &Path, given: &Path, said: &str) {
        let record = given.join("rehearsal");
        let file = truth;
        let truth = Truth::read(truth);
        let taken = lines(&record).into_iter().find(|line| matches!(line.what, What::TookOver { .. }));
        self.taken_over = taken.is_some();
        if let Some(expected) = self.act.taken_over() {
            let found = self.taken_over;
            self.check(found == expected, || format!("taken over: {found}\n{said}"));
        }
        for (index, unit) in UNITS.iter().enumerate() {
            // A panic is known from its words, which may be read late; nothing else stops a unit in the second before.
            let early = if self.act == Act::Panic { 1_000_000 } else { 5_000 };
            let first = truth.first_stop(unit, at.saturating_sub(early));
            self.first[index] = first.map(|first| (first as f64 - at as f64).max(0.0) / 1e3);
            if let Some(bound) = self.act.bound() {
                let late = self.first[index].is_none_or(|first| first > (bound + MARGIN_MS) as f64);
                let short = self.is_short() && !self.taken_over;
                let first = self.first[index];
                self.check(!late || short, || format!("{unit}: first stop after {first:?} ms\n{said}"));
            }
            // The stop byte is followed by zero within the design's bounds, and by nothing else for ever.
            let from =
                taken.as_ref().map(|line| line.mono_us).and_then(|taken| truth.first_stop(unit, taken));
            let from = from.or(first.filter(|_| self.act.bound().is_some() && !self.is_short()));
            let Some(from) = from else { continue };
            let raised = truth.heard.iter().find(|it| it.unit == *unit && it.at > from && means(it).1);
            self.check(raised.is_none(), || {
                format!("{unit}: output asked after the stop: {raised:?}, stop at {from}")
            });
            let still =
                truth.given.iter().find(|it| it.unit == *unit && it.at > from + 1_000_000 && it.present > 0);
            self.check(still.is_none(), || format!("{unit}: still on: {still:?}, stop at {from}"));
        }
        if self.act == Act::BothKilled {
            // Only the unit's own time-out is left: 2 s, and what was under way.
            let late =
                truth.given.iter().find(|it| it.unit == UNITS[0] && it.at > at + 2_600_000 && it.present > 0);
            self.check(late.is_none(), || format!("the stimulator ran on: {late:?}, killed at {at}"));
        }
        self.judge_record(&record, file, given, said);
    }

    fn judge_record(&mut self, record: &Path, truth: &Path, given: &Path, said: &str) {
        if self.taken_over {
            self.check(said.contains("doseward starts again, at zero."), || {
                format!("no new daemon:\n{said}")
            });
            let anew = said.split("doseward starts again, at zero.").nth(1).unwrap_or_default();
            for unit in UNITS {
                // The gun's answers to the daemon's own writes stay away; its stop was proven to the guard.
                let stuck = matches!(self.act, Act::FreezeStuck(_)) && unit == UNITS[1];
                let said_of_it = if stuck { "connected." } else { "zero, confirmed" };
                self.check(anew.contains(&format!("{unit}: {said_of_it}")), || {
                    format!("{unit} is not at zero:\n{said}")
                });
            }
        }
        let clock = Clock::start();
        let mut journal = Journal::open(record).unwrap();
        let open = journal.recover(Stamp { mono: clock.now(), wall: clock.wall() }).unwrap();
        let left = usize::from(self.act == Act::BothKilled);
        self.check(open.len() == left, || format!("{} sessions were left open:\n{said}", open.len()));
        let reader = journal.reader().unwrap();
        let mut bodies = Vec::new();
        for session in reader.sessions().unwrap() {
            bodies
                .extend(reader.entries(&session.session).unwrap().iter().map(|entry| entry.read().unwrap()));
        }
        let unasked = matches!(self.act, Act::GuardKilled | Act::Panic)
            || matches!(self.act, Act::Daemon(name, _) if name != "SIGKILL");
        let stops: Vec<&str> = bodies
            .iter()
            .filter_map(|body| match body {
                Body::StopAll { by, .. } => Some(by.person.as_str()),
                _ => None,
            })
            .collect();
        self.check(!unasked || stops == ["doseward"], || format!("STOP ALL by {stops:?}:\n{said}"));
        let gone =
            bodies.iter().any(|body| matches!(body, Body::Alarm { cause, .. } if cause == "guard_gone"));
        let killed = self.act == Act::GuardKilled;
        self.check(gone == killed, || format!("the guard's end is on record as an alarm: {gone}\n{said}"));
        let told = bodies.iter().any(|body| matches!(body, Body::Guard { .. }));
        let merged = self.taken_over;
        self.check(told == merged, || format!("the guard's journal is on record: {told}"));
        if self.act == Act::BothKilled {
            let uncertain = bodies.iter().any(|body| matches!(body, Body::Recovered { .. }));
            self.check(uncertain, || "the record does not say that the dose is uncertain".to_owned());
        }
        drop((reader, journal));
        let verified = doseward(&["record", "verify", "--sim", "--data", text(given)]);
        self.check(verified.status.code() == Some(0), || format!("verify: {}", printed(&verified)));
        let (sound, table) = judged(record, truth, &[]);
        self.check(sound, || table);
    }
}

fn lines(record: &Path) -> Vec<journal::Line> {
    journal::read(record).unwrap_or_default()
}

/// Runs every act as often as asked, prints the figures, and fails on anything wrong.
fn trials(acts: &[Act]) {
    let times: u32 = std::env::var("DOSEWARD_TRIALS").map_or(1, |text| text.parse().unwrap());
    let width: usize = std::env::var("DOSEWARD_TRIALS_WIDTH").map_or(3, |text| text.parse().unwrap());
    let all: Vec<(Act, u32)> =
        (0..times).flat_map(|number| acts.iter().map(move |act| (*act, number))).collect();
    let done = in_parallel(&all, width, |(act, number)| trial(*act, *number));
    for act in acts {
        let of: Vec<&Trial> = done.iter().filter(|trial| trial.act == *act).collect();
        let taken = of.iter().filter(|trial| trial.taken_over).count();
        for (index, unit) in UNITS.iter().enumerate() {
            let mut times: Vec<f64> = of.iter().filter_map(|trial| trial.first[index]).collect();
            times.sort_by(f64::total_cmp);
            let figures = match times.as_slice() {
                [] => "no stop".to_owned(),
                [least, .., most] => {
                    format!("min {least:.1}, median {:.1}, max {most:.1} ms", times[times.len() / 2])
                }
                [only] => format!("{only:.1} ms"),
            };
            println!(
                "{:26} {unit:13} {} trials, {taken} taken over, act to first stop at the unit: {figures}",
                act.name(),
                of.len()
            );
        }
    }
    let wrong: Vec<String> = done
        .iter()
        .flat_map(|trial| trial.wrong.iter().map(|what| format!("{}: {what}", trial.act.name())))
        .collect();
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n\n"));
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// H-07: the daemon dies by any way while both units give output.
#[test]
fn h_07_a_daemon_that_dies_or_is_signalled_leaves_no_unit_running() {
    let acts = [
        Act::Daemon("SIGKILL", Signal::KILL),
        Act::Daemon("SIGTERM", Signal::TERM),
        Act::Daemon("SIGINT", Signal::INT),
        Act::Daemon("SIGHUP", Signal::HUP),
        Act::Daemon("SIGQUIT", Signal::QUIT),
        Act::Daemon("SIGTSTP", Signal::TSTP),
    ];
    trials(&acts);
}

#[cfg(feature = "defects")]
#[test]
fn a_panic_of_the_daemon_stops_both_units_first() {
    trials(&[Act::Panic]);
}

/// H-07, H-12: a daemon that thaws would write again; after the guard's first stop nothing raises a unit any more.
#[test]
fn a_frozen_daemon_is_killed_before_its_units_are_stopped() {
    let acts = [
        Act::Freeze(ms(300)),
        Act::Freeze(ms(600)),
        Act::Freeze(ms(1900)),
        Act::Freeze(ms(5000)),
        Act::FreezeStuck(ms(300)),
        Act::FreezeStuck(ms(600)),
        Act::FreezeStuck(ms(1900)),
        Act::FreezeStuck(ms(5000)),
    ];
    trials(&acts);
}

#[test]
fn without_the_guard_the_daemon_stops_and_without_both_the_record_says_uncertain() {
    trials(&[Act::GuardKilled, Act::BothKilled]);
}

/// SR-02: a stop from any shell: proven per unit while all is well, and also while the daemon hangs. The daemon after it
/// begins latched.
#[test]
fn sr_02_stop_from_a_shell_works_also_while_the_daemon_hangs_and_outlives_it() {
    for hangs in [false, true] {
        let room = tempfile::tempdir().unwrap();
        let (given, truth) = (room.path().join("data"), room.path().join("truth"));
        let plan = data("plans/both-at-once.toml");
        let mut session = Running::start(&[
            "run",
            text(&plan),
            "--sim",
            "--unattended",
            "--data",
            text(&given),
            "--truth",
            text(&truth),
        ]);
        session.hears("2 steps.");
        both_on(&mut session, &truth).unwrap();
        let status = doseward(&["status", "--data", text(&given)]);
        assert!(printed(&status).contains("Gun 1: armed"), "{}", printed(&status));
        let daemon = session.daemon();
        if hangs {
            send(daemon, Signal::STOP);
        }
        let at = now_us();
        let stopped = doseward(&["stop", "--data", text(&given)]);
        let told = printed(&stopped);
        assert_eq!(stopped.status.code(), Some(0), "{told}");
        for unit in UNITS {
            assert!(told.contains(&format!("{unit}: stopped, proven after ")), "{told}");
            let first = Truth::read(&truth).first_stop(unit, at).expect("a stop");
            println!(
                "hangs: {hangs}, {unit}: first stop {:.1} ms after the command began",
                (first - at) as f64 / 1e3
            );
        }
        let (code, _, said) = session.over();
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(said.contains("doseward starts again"), hangs, "{said}");
        let record = Journal::open(&given.join("rehearsal")).unwrap().reader().unwrap();
        let sessions = record.sessions().unwrap();
        assert_eq!(sessions.len(), if hangs { 2 } else { 1 }, "{said}");
        let newest = sessions.iter().map(|it| &it.session).max().unwrap();
        assert!(record.latched(newest).unwrap(), "{said}");
        let none = doseward(&["stop", "--data", text(&given)]);
        assert_eq!(none.status.code(), Some(1));
        assert!(crate::support::process::said(&none).contains("Lift a gun off"), "no hand instruction");
    }
}

/// Returns who asked for each STOP ALL on record, by session, oldest first.
fn stops_on_record(given: &Path) -> Vec<Vec<String>> {
    let record = Journal::open(&given.join("rehearsal")).unwrap().reader().unwrap();
    let mut sessions: Vec<_> = record.sessions().unwrap().into_iter().map(|it| it.session).collect();
    sessions.sort();
    let stops = |session| {
        let entries = record.entries(session).unwrap();
        let bodies = entries.iter().map(|entry| entry.read().unwrap());
        let by = bodies.filter_map(|body| match body {
            Body::StopAll { by, .. } => Some(by.screen),
            _ => None,
        });
        by.collect()
    };
    sessions.iter().map(stops).collect()
}

/// SR-02: a stop is not lost where no daemon can take it: while the first one starts, and while the guard acts for one
/// that has died. The session after it begins stopped, and the record says from where that was asked.
#[test]
fn sr_02_a_stop_asked_while_a_daemon_starts_or_has_died_latches_the_next_session() {
    for dies in [false, true] {
        let room = tempfile::tempdir().unwrap();
        let (given, truth) = (room.path().join("data"), room.path().join("truth"));
        let plan = data("plans/both-at-once.toml");
        let mut arguments = vec!["run", text(&plan), "--sim", "--unattended", "--data", text(&given)];
        arguments.extend(["--truth", text(&truth)]);
        let mut session = Running::start(&arguments);
        if dies {
            session.hears("2 steps.");
            both_on(&mut session, &truth).unwrap();
            send(session.daemon(), Signal::KILL);
        } else {
            let socket = given.join("rehearsal/control.sock");
            until("the control socket", Duration::from_secs(20), || socket.exists()).unwrap();
        }
        let stopped = doseward(&["stop", "--data", text(&given)]);
        let told = printed(&stopped);
        // A machine under load may have let it begin meanwhile, its units connected or not.
        assert!(!dies || stopped.status.code() == Some(0), "{told}");
        assert!(!dies || !told.contains("begins stopped"), "{told}");
        assert!(!told.contains("nothing had to be stopped"), "{told}");
        let (code, _, said) = session.over();
        assert_eq!(code, Some(1), "{said}");
        let stops = stops_on_record(&given);
        assert_eq!(stops.len(), if dies { 2 } else { 1 }, "{said}");
        assert!(stops.concat().iter().any(|screen| screen == "control socket"), "{stops:?}\n{said}");
        let record = Journal::open(&given.join("rehearsal")).unwrap().reader().unwrap();
        let newest = record.sessions().unwrap().into_iter().map(|it| it.session).max().unwrap();
        assert!(record.latched(&newest).unwrap(), "{said}");
    }
}

/// Starts a session in which a world's fault is there from the beginning; its data is in `room`.
fn faulty_from_the_start(room: &Path, fault: &str) -> Running {
    let (given, world) = (room.join("data"), room.join("world.toml"));
    let later = std::fs::read_to_string(data(fault)).unwrap();
    std::fs::write(&world, later.replace("\"5 s\"", "\"0 s\"")).unwrap();
    let plan = data("plans/stimulator-first.toml");
    Running::start(&["run", text(&plan), "--sim", text(&world), "--unattended", "--data", text(&given)])
}

/// SR-02: a unit of the plan that is out of reach is named, and does not delay what is said of the others.
#[test]
fn sr_02_a_stop_names_the_units_that_are_out_of_reach() {
    let room = tempfile::tempdir().unwrap();
    let given = room.path().join("data");
    let mut session = faulty_from_the_start(room.path(), "worlds/gun-link-lost.toml");
    session.hears("Stimulator A: zero, confirmed");
    let stopped = doseward(&["stop", "--data", text(&given)]);
    let told = printed(&stopped);
    assert!(told.contains("Stimulator A: stopped, proven after "), "{told}");
    assert!(told.contains("Gun 1: out of reach until now. Nothing was written to it"), "{told}");
    session.signal("-TERM");
    session.over();
}

/// SR-42: a unit that has proven nothing since its link came up is not at rest, and a take-over stops it.
#[test]
fn sr_42_a_unit_that_never_proved_its_first_stop_is_named_and_stopped_by_the_guard() {
    let room = tempfile::tempdir().unwrap();
    let given = room.path().join("data");
    let mut session = faulty_from_the_start(room.path(), "worlds/gun-wedged.toml");
    session.hears("Gun 1: connected.");
    let status = || printed(&doseward(&["status", "--data", text(&given)]));
    until("the gun's name", Duration::from_secs(10), || status().contains("Gun 1: ")).unwrap();
    assert!(status().contains("Gun 1: stopping; not proven yet."), "{}", status());
    send(session.daemon(), Signal::KILL);
    let (code, _, said) = session.over();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("The guard process stops every unit in use."), "{said}");
    assert!(said.contains("Gun 1: its stop was never proven. "), "{said}");
}

/// SR-42: what a unit proved before it was armed says nothing of its next stop: given up, no new daemon comes.
#[test]
fn sr_42_a_proof_from_before_a_unit_was_armed_does_not_stand_for_its_next_stop() {
    let room = tempfile::tempdir().unwrap();
    let (given, world) = (room.path().join("data"), data("worlds/gun-wedged.toml"));
    let plan = data("plans/gun-first.toml");
    let arguments = ["run", text(&plan), "--sim", text(&world), "--unattended", "--data", text(&given)];
    let mut session = Running::start(&arguments);
    session.hears("steps.");
    for state in ["Gun 1: armed", "Gun 1: stopping; not proven yet."] {
        let status = || printed(&doseward(&["status", "--data", text(&given)]));
        until(state, Duration::from_secs(30), || status().contains(state)).unwrap();
    }
    send(session.daemon(), Signal::KILL);
    let (code, _, said) = session.over();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Gun 1: its stop was never proven. "), "{said}");
    assert!(!said.contains("starts again"), "{said}");
}

/// SR-42: units that nobody can reach any more: why it acts is said at once, and how a person ends the attempts; one
/// Ctrl-C does.
#[test]
fn sr_42_who_must_stop_a_unit_by_hand_is_told_why_and_how_to_end() {
    let room = tempfile::tempdir().unwrap();
    let (given, truth) = (room.path().join("data"), room.path().join("truth"));
    let (plan, socket) = (data("plans/both-at-once.toml"), given.join("control.sock"));
    std::fs::create_dir(&given).unwrap();
    // A person is there for the guard, and nobody for the daemon: no test has a terminal.
    let simulators = ["sim", "--plan", text(&plan), "--truth", text(&truth)].map(OsStr::new);
    let daemon =
        ["daemon", text(&plan), "--simulated", "--unattended", "--data", text(&given)].map(OsStr::new);
    let handed = serde_json::json!({
        "data": OsStr::new(&given),
        "control": OsStr::new(&socket),
        "shared": false,
        "attended": true,
        "simulators": simulators,
        "daemon": daemon,
    });
    let mut session = Running::start(&["guard", &handed.to_string()]);
    session.hears("2 steps.");
    both_on(&mut session, &truth).unwrap();
    send(session.child("sim"), Signal::KILL);
    send(session.daemon(), Signal::KILL);
    session.hears("press Ctrl-C to end.");
    session.signal("-INT");
    let (code, _, said) = session.over();
    assert_eq!(code, Some(1), "{said}");
    let at = |words: &str| said.find(words).unwrap_or_else(|| panic!("`{words}` was not said:\n{said}"));
    assert!(at("has stopped unexpectedly.") < at("THE STOP IS NOT PROVEN"), "{said}");
    assert!(at("THE STOP IS NOT PROVEN") < at("press Ctrl-C to end."), "{said}");
    assert!(said.contains("its stop was never proven"), "{said}");
    assert!(!said.contains("Once more"), "{said}");
}

/// SR-43: what the guard proves after the daemon has sealed its record and left is taken in by the next one.
#[test]
fn sr_43_a_stop_that_the_guard_proves_after_the_seal_narrows_the_dose_at_the_next_start() {
    let room = tempfile::tempdir().unwrap();
    let (given, world) = (room.path().join("data"), room.path().join("world.toml"));
    let back = std::fs::read_to_string(data("worlds/gun-link-back.toml")).unwrap();
    // Unattended, the daemon gives it up after some 20 s and leaves it to the guard, which tries for ten more.
    std::fs::write(&world, back.replace("\"10 s\"", "\"26 s\"")).unwrap();
    let plan = data("plans/gun-first.toml");
    let arguments = ["run", text(&plan), "--sim", text(&world), "--unattended", "--data", text(&given)];
    let session = Running::start(&arguments);
    let (_, _, said) = session.over();
    assert!(said.contains("The record is sealed."), "{said}");
    assert!(said.contains("Gun 1: stopped by the guard process, proven after"), "{said}");
    let narrowed = || {
        let record = Journal::open(&given.join("rehearsal")).unwrap().reader().unwrap();
        let sessions = record.sessions().unwrap();
        let entries = sessions.iter().flat_map(|it| record.entries(&it.session).unwrap());
        let bodies = entries.map(|entry| entry.read().unwrap());
        bodies
            .filter(|body| matches!(body, Body::Narrowed { source, .. } if source == "guard_journal"))
            .count()
    };
    assert_eq!(narrowed(), 0, "{said}");
    for start in 1..=2 {
        let mut next = Running::start(&["run", text(&plan), "--sim", "--unattended", "--data", text(&given)]);
        next.hears("steps.");
        next.signal("-TERM");
        let (_, _, said) = next.over();
        assert_eq!(narrowed(), 1, "start {start}: {said}");
    }
}

/// Three deaths within a minute: it stays down, says so, and nothing runs.
#[test]
fn after_three_deaths_within_a_minute_it_stays_down() {
    let room = tempfile::tempdir().unwrap();
    let (given, truth) = (room.path().join("data"), room.path().join("truth"));
    let plan = data("plans/both-at-once.toml");
    let mut session = Running::start(&[
        "run",
        text(&plan),
        "--sim",
        "--unattended",
        "--data",
        text(&given),
        "--truth",
        text(&truth),
    ]);
    for death in 1..=3 {
        session.hears("2 steps.");
        send(session.daemon(), Signal::KILL);
        session.hears("has stopped unexpectedly.");
        if death < 3 {
            session.hears("doseward starts again, at zero.");
        }
    }
    let (code, _, said) = session.over();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("It has died 3 times within a minute: it stays down"), "{said}");
    let truth = Truth::read(&truth);
    assert!(UNITS.iter().all(|unit| !truth.is_on(unit)));
}
