//! The alarm of the box as the clinic meets it: the daily test, the player, and what the next session knows of the last.

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use doseward::alarm::Cause;
use doseward::governor::{Entry, Seq};
use doseward::model::command::DeviceId;
use doseward::model::session::{Actor, SessionId};
use doseward::record::daily::{AlarmTest, Now};
use doseward::record::entry::{Body, SessionHead, Stamp};
use doseward::record::journal::Journal;
use doseward::record::store::Reader;
use doseward::record::verify;
use doseward::units::Mono;

use crate::support::plans::three_steps;
use crate::support::process::{Running, command, data, said, text};

/// A clinic's files with `alarm` in its daemon.toml.
fn clinic(dir: &Path, alarm: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["config", "protocols"] {
        copy(&root.join(folder), &dir.join(folder));
    }
    let daemon = dir.join("config/daemon.toml");
    let shipped = std::fs::read_to_string(&daemon).unwrap();
    std::fs::write(&daemon, format!("{shipped}\n{alarm}\n")).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A player that notes which file it was given.
fn ear(dir: &Path) -> String {
    let heard = dir.join("heard");
    format!(
        "[alarm]\nplayer = [\"sh\", \"-c\", 'basename \"$1\" >> {}', \"sh\", \"{{file}}\"]",
        heard.display()
    )
}

fn heard(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("heard")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn test_alarm(dir: &Path, answer: &str) -> Output {
    let store = dir.join("data");
    let arguments = ["alarm", "test", "--data", text(&store), "--config-dir", text(dir)];
    let mut child = command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    // A test that ends before it asks closes the pipe.
    child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap_or_default();
    child.wait_with_output().unwrap()
}

/// SR-37, H-13: the test sounds every priority, asks, and puts who and the answer on record; only "yes" counts.
#[test]
fn sr_37_the_alarm_test_sounds_asks_and_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    clinic(dir.path(), "");
    let without = test_alarm(dir.path(), "y\n");
    assert_eq!(without.status.code(), Some(1));
    assert!(said(&without).contains("player = [\"aplay\", \"-q\", \"{file}\"]"), "{}", said(&without));

    let dir = tempfile::tempdir().unwrap();
    clinic(dir.path(), &ear(dir.path()));
    let yes = test_alarm(dir.path(), "y\n");
    assert_eq!(yes.status.code(), Some(0), "{}", said(&yes));
    assert_eq!(heard(dir.path()), ["alarm-low.wav", "alarm-medium.wav", "alarm-high.wav"]);
    let store = dir.path().join("data");
    let player = ear(dir.path()).split_once("player = ").unwrap().1.to_owned();
    let words: Vec<String> = toml_words(&player);
    let on = |store: &Path| Reader::open(store).unwrap().alarm_heard(&words.join(" ")).unwrap();
    assert!(on(&store).is_some_and(|at| at.duration_since(jiff::Timestamp::now()).abs().as_secs() < 60));
    assert_eq!(Reader::open(&store).unwrap().alarm_heard("another player").unwrap(), None);
    assert!(verify::path(&store, None).unwrap().sound());

    let no = test_alarm(dir.path(), "n\n");
    assert_eq!(no.status.code(), Some(1));
    assert_eq!(on(&store), None, "a later no takes the yes back");
    assert!(verify::path(&store, None).unwrap().sound());
}

/// Reads the words of a player, as the file has them.
fn toml_words(array: &str) -> Vec<String> {
    let quoted = array.trim().trim_start_matches('[').trim_end_matches(']');
    quoted.split(", ").map(|word| word.trim_matches(['"', '\'']).to_owned()).collect()
}

/// SR-37: a player that fails or is not there fails the test, and that is on record.
#[test]
fn sr_37_a_player_that_fails_fails_the_test() {
    for player in ["[\"false\", \"{file}\"]", "[\"/nonexistent/player\", \"{file}\"]"] {
        let dir = tempfile::tempdir().unwrap();
        clinic(dir.path(), &format!("[alarm]\nplayer = {player}"));
        let failed = test_alarm(dir.path(), "y\n");
        assert_eq!(failed.status.code(), Some(1), "{player}");
        assert!(said(&failed).contains("The alarm does not sound"), "{}", said(&failed));
        let reader = Reader::open(&dir.path().join("data")).unwrap();
        let words = toml_words(player).join(" ");
        assert_eq!(reader.alarm_heard(&words).unwrap(), None);
        assert_eq!(reader.sessions().unwrap().len(), 1, "the test is on record");
    }
}

/// SR-36: in a session the player is started for an alarm by itself.
#[test]
fn sr_36_a_session_sounds_its_alarms_through_the_player() {
    let dir = tempfile::tempdir().unwrap();
    clinic(dir.path(), &ear(dir.path()));
    assert_eq!(test_alarm(dir.path(), "y\n").status.code(), Some(0));
    let (store, plan) = (dir.path().join("data"), data("plans/gun-first.toml"));
    let world = data("worlds/gun-button-stop.toml");
    let arguments = [
        "run",
        text(&plan),
        "--sim",
        text(&world),
        "--data",
        text(&store),
        "--config-dir",
        text(dir.path()),
        "--unattended",
    ];
    let (_, _, all) = Running::start(&arguments).over();
    assert!(!all.contains("nothing sounds"), "{all}");
    assert_eq!(heard(dir.path()).split_off(3), ["alarm-low.wav"], "{all}");
}

fn stamp(minutes: i64) -> Stamp {
    let wall = jiff::Timestamp::from_second(1_800_000_000 + 60 * minutes).unwrap();
    Stamp { mono: Mono::ORIGIN, wall }
}

/// SR-37: a lock outlives its session by what is left of it; a clock that is set back does not open it, and simulated
/// locks do not lock real units.
#[test]
fn sr_37_a_lock_outlives_its_session() {
    let mut journal = Journal::in_memory().unwrap();
    let session = SessionId::new("00000000-0000-7000-8000-000000000001");
    let head = SessionHead::new(session, &three_steps(), "0".repeat(64), "test".to_owned(), true);
    journal.begin(&head, stamp(0)).unwrap();
    let locked =
        Entry::LockedOut { device: DeviceId(1), cause: Cause::LinkLost, left: Duration::from_secs(600) };
    journal.append(stamp(1), Seq(1), &locked).unwrap();
    journal.seal(stamp(2)).unwrap();
    let reader = journal.reader().unwrap();
    let at = |minutes| Now { wall: stamp(minutes).wall, monotonic_us: 0, boot: None };
    let left = |minutes: i64| {
        let found = reader.locked(at(minutes), true).unwrap();
        found.into_iter().map(|unit| (unit.label, unit.cause, unit.left.as_secs())).collect::<Vec<_>>()
    };
    assert_eq!(left(5), [("Gun".to_owned(), Cause::LinkLost, 360)]);
    assert_eq!(left(-60), [("Gun".to_owned(), Cause::LinkLost, 600)], "set back");
    assert_eq!(left(11), []);
    assert!(reader.locked(at(5), false).unwrap().is_empty());
}

/// SR-37, SR-34: within one boot a lock opens by the monotonic clock and by no step of the wall clock; after a restart of
/// the box the time since then counts at least, whatever the wall clock says.
#[test]
fn sr_34_sr_37_no_step_of_the_wall_clock_opens_a_lock() {
    let minute = 60_000_000;
    let mut journal = Journal::in_memory().unwrap();
    let session = SessionId::new("00000000-0000-7000-8000-000000000001");
    let mut head = SessionHead::new(session, &three_steps(), "0".repeat(64), "test".to_owned(), true);
    (head.boot, head.mono_origin_us) = (Some("A".to_owned()), 100 * minute);
    journal.begin(&head, stamp(0)).unwrap();
    let locked =
        Entry::LockedOut { device: DeviceId(1), cause: Cause::LinkLost, left: Duration::from_secs(600) };
    let then = Stamp { mono: Mono::from_micros(minute), wall: stamp(1).wall };
    journal.append(then, Seq(1), &locked).unwrap();
    journal.seal(Stamp { mono: Mono::from_micros(2 * minute), wall: stamp(2).wall }).unwrap();
    let reader = journal.reader().unwrap();
    let left = |boot: &str, uptime: u64, wall: i64| {
        let now = Now { wall: stamp(wall).wall, monotonic_us: uptime * minute, boot: Some(boot) };
        reader.locked(now, true).unwrap().first().map(|unit| unit.left.as_secs() / 60)
    };
    for wall in [-100_000, -60, 0, 5, 60, 100_000] {
        assert_eq!(left("A", 105, wall), Some(6), "the clock says {wall} min");
        assert_eq!(left("A", 110, wall), Some(1), "the clock says {wall} min");
        assert_eq!(left("A", 111, wall), None, "the clock says {wall} min");
    }
    assert_eq!(left("B", 1, -60), Some(9), "set back");
    assert_eq!(left("B", 1, 5), Some(6));
    assert_eq!(left("B", 10, -60), None, "it has been up for longer than that");
}

/// SR-34: a clock behind the record blocks arming; only a name given at the start opens it, and goes on record.
#[test]
fn sr_34_a_clock_behind_the_record_is_confirmed_by_name_or_arms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (given, plan) = (dir.path().join("data"), data("plans/short.toml"));
    let ahead = doseward::clock::Clock::start().wall() + jiff::SignedDuration::from_hours(1);
    let stamp = Stamp { mono: Mono::ORIGIN, wall: ahead };
    let mut journal = Journal::open(&given.join("rehearsal")).unwrap();
    let session = SessionId::new("00000000-0000-7000-8000-000000000001");
    let head = SessionHead::new(session, &three_steps(), "0".repeat(64), "test".to_owned(), true);
    journal.begin(&head, stamp).unwrap();
    journal.seal(stamp).unwrap();
    drop(journal);
    let plain = ["run", text(&plan), "--sim", "--unattended", "--data", text(&given)];
    let mut refused = Running::start(&plain);
    refused.hears("the clock of the box is behind its record");
    refused.signal("-TERM");
    let (_, _, all) = refused.over();
    assert!(!all.contains("Step 1, ") && !all.contains("says that it is right"), "{all}");
    let mut confirmed = Running::start(&[&plain[..], &["--clock-confirmed-by", "L-1"]].concat());
    confirmed.hears("The clock of the box is behind its record; L-1 says that it is right.");
    let (code, _, all) = confirmed.over();
    assert_eq!(code, Some(0), "{all}");
    let reader = Reader::open(&given.join("rehearsal")).unwrap();
    let sessions = reader.sessions().unwrap();
    let on_record = |session: &SessionId| {
        let entries = reader.entries(session).unwrap();
        entries
            .iter()
            .any(|entry| matches!(entry.read(), Ok(Body::ClockConfirmed { by }) if by.person == "L-1"))
    };
    let confirmed = sessions.iter().filter(|it| on_record(&it.session)).count();
    assert_eq!((sessions.len(), confirmed), (3, 1));
}

/// SR-37: the newest test decides, with the player that it was made with, on the day of its entry.
#[test]
fn sr_37_the_newest_alarm_test_decides() {
    let mut journal = Journal::in_memory().unwrap();
    let by = Actor { person: "T1".to_owned(), screen: "terminal".to_owned() };
    let test = |heard| AlarmTest { by: by.clone(), player: "aplay {file}".to_owned(), heard };
    let day = |journal: &Journal| journal.reader().unwrap().alarm_heard("aplay {file}").unwrap();
    assert_eq!(day(&journal), None);
    for (minutes, heard) in [(0, true), (1, false), (2, true)] {
        journal.alarm_test(stamp(minutes), &test(heard)).unwrap();
        assert_eq!(day(&journal), heard.then_some(stamp(minutes).wall));
    }
}
