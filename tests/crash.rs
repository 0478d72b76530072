//! The part that drives the units is killed at a random time. The simulated units run on, as real ones would; the
//! record is completed from what was durable, and its bounds must contain what was really given.
//!
//! `DOSEWARD_KILLS` sets how often (default 4), `DOSEWARD_KILL_SEED` which times.

use std::time::{Duration, Instant};

use doseward::clock::Clock;
use doseward::record::entry::Stamp;
use doseward::record::journal::Journal;
use doseward::record::store::Reader;

use crate::support::process::{Running, data, doseward, in_parallel, judged, printed, signal, text};

/// The session of `short.toml` gives output until shortly before this, from its greeting.
const SESSION: Duration = Duration::from_millis(11_500);

/// Sessions at a time: they mostly wait.
const WIDTH: usize = 6;

/// What one kill came to.
struct Kill {
    after: Duration,
    recovered: Vec<String>,
    inside: Vec<String>,
    wrong: Vec<String>,
}

#[test]
fn a_kill_at_any_time_leaves_a_sound_record_whose_bounds_contain_the_truth() {
    let kills: u32 = number("DOSEWARD_KILLS", 4);
    let seed: u32 = number("DOSEWARD_KILL_SEED", 1);
    // One kill in each part of the session, at a random time of that part.
    let times: Vec<Duration> = (0..kills)
        .map(|index| SESSION.mul_f64((f64::from(index) + fraction(seed, index)) / f64::from(kills)))
        .collect();
    let done = in_parallel(&times, WIDTH, |after| killed(*after));
    let mut wrong = Vec::new();
    println!(
        "kill -9 of the daemon at a random time of a session; record min <= truth <= max, output in seconds"
    );
    for (index, kill) in done.iter().enumerate() {
        let verdict = if kill.wrong.is_empty() { "sound" } else { "WRONG" };
        println!(
            "{:3}  {:6.3} s  {verdict}  recovered {}: {}  |  {}",
            index + 1,
            kill.after.as_secs_f64(),
            kill.recovered.len(),
            kill.recovered.join("; "),
            kill.inside.join("; "),
        );
        wrong.extend(kill.wrong.iter().map(|what| format!("kill {} at {:?}: {what}", index + 1, kill.after)));
    }
    let recovered = done.iter().filter(|kill| !kill.recovered.is_empty()).count();
    println!("{} kills, {recovered} with recovered doses, {} wrong", done.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(recovered > 0, "no kill hit a running output");
}

/// Runs a session, kills its daemon `after` its greeting, and judges what is left.
fn killed(after: Duration) -> Kill {
    let room = tempfile::tempdir().unwrap();
    let (record, truth) = (room.path().join("data/rehearsal"), room.path().join("truth"));
    let (given, plan) = (room.path().join("data"), data("plans/short.toml"));
    let arguments =
        ["run", text(&plan), "--sim", "--unattended", "--data", text(&given), "--truth", text(&truth)];
    let mut session = Running::start(&arguments);
    session.hears("2 steps.");
    let greeted = Instant::now();
    let daemon = session.daemon();
    std::thread::sleep(after.saturating_sub(greeted.elapsed()));
    let after = greeted.elapsed();
    signal(daemon, "-KILL");
    let (code, _, said) = session.over();
    let mut kill = Kill { after, recovered: Vec::new(), inside: Vec::new(), wrong: Vec::new() };
    kill.check(
        code == Some(1) && said.contains("has stopped unexpectedly"),
        &format!("ended with {code:?}: {said}"),
    );
    let clock = Clock::start();
    let mut journal = Journal::open(&record).unwrap();
    let recovered = journal.recover(Stamp { mono: clock.now(), wall: clock.wall() }).unwrap();
    // A kill after the seal leaves nothing to recover.
    kill.check(recovered.len() <= 1, &format!("{} sessions were recovered", recovered.len()));
    let reader = journal.reader().unwrap();
    kill.read(&reader);
    drop((reader, journal));
    let verified = doseward(&["record", "verify", "--sim", "--data", text(&given)]);
    kill.check(verified.status.code() == Some(0), &format!("verify: {}", printed(&verified)));
    let (sound, table) = judged(&record, &truth, &[]);
    // A kill before any unit gave output leaves nothing to compare.
    let nothing = table.contains("nothing to compare") && table.contains("1 violations");
    kill.check(sound || nothing, &table);
    kill.inside =
        table.lines().filter(|line| line.contains(" ch 0") && line.contains("on_us")).map(shown).collect();
    kill
}

impl Kill {
    fn check(&mut self, holds: bool, what: &str) {
        if !holds {
            self.wrong.push(what.to_owned());
        }
    }

    /// Reads what was recovered.
    fn read(&mut self, reader: &Reader) {
        for session in reader.sessions().unwrap() {
            self.check(session.sealed.is_some(), &format!("session {} is not sealed", session.session));
            for dose in reader.doses(&session.session).unwrap().iter().filter(|dose| dose.recovered) {
                let (least, most) = dose.dose.on_us;
                let seconds = |us: u64| Duration::from_micros(us).as_secs_f64();
                self.recovered.push(format!(
                    "{} {:.2} to {:.2} s at {}",
                    dose.dose.place,
                    seconds(least),
                    seconds(most),
                    dose.dose.upper.intensity()
                ));
            }
        }
    }
}

/// Returns a line of the comparison as `unit: min <= truth <= max`.
fn shown(line: &str) -> String {
    let (unit, rest) = line.split_once(" ch 0").unwrap();
    let figures: Vec<f64> =
        rest.split_whitespace().skip(1).take(3).map(|word| word.parse::<f64>().unwrap() / 1e6).collect();
    format!("{unit} {:.2} <= {:.2} <= {:.2}", figures[0], figures[1], figures[2])
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Returns a fraction of one that looks random (SplitMix64).
fn fraction(seed: u32, index: u32) -> f64 {
    let mut bits = (u64::from(seed) << 32 | u64::from(index)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}
