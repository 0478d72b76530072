//! Unit tests of the sounding of alarms: what is sounded when, and what a bad player comes to.

use std::sync::{Arc, Mutex};

use super::*;
use crate::governor::Version;

/// Notes every burst with its instant; takes its time or fails when told to.
struct Ear {
    clock: Clock,
    heard: Arc<Mutex<Vec<(u64, Priority)>>>,
    takes: Duration,
    fails: bool,
}

impl Sounder for Ear {
    fn sound(&mut self, priority: Priority) -> Burst<'_> {
        let at = self.clock.now().since(Mono::ORIGIN).as_millis();
        self.heard.lock().unwrap().push((u64::try_from(at).unwrap(), priority));
        let (takes, fails) = (self.takes, self.fails);
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            if fails { Err(SoundError::Hung { player: "test".to_owned() }) } else { Ok(()) }
        })
    }
}

struct Bench {
    shown: watch::Sender<Snapshot>,
    inputs: mpsc::Receiver<Input>,
    heard: Arc<Mutex<Vec<(u64, Priority)>>>,
    task: tokio::task::JoinHandle<()>,
}

fn snapshot(priority: Option<Priority>, count: u64) -> Snapshot {
    Snapshot {
        at: Mono::ORIGIN,
        version: Version(0),
        latched: None,
        steps: Vec::new(),
        units: Vec::new(),
        unresolved: Vec::new(),
        alarms: Vec::new(),
        sounding: Sounding { priority, count, paused: None },
    }
}

fn bench(takes: u64, fails: bool, tested: Tested) -> Bench {
    let clock = Clock::start();
    let heard = Arc::default();
    let (shown, snapshots) = watch::channel(snapshot(None, 0));
    let (sender, inputs) = mpsc::channel(8);
    let takes = Duration::from_millis(takes);
    let sounder = Box::new(Ear { clock: clock.clone(), heard: Arc::clone(&heard), takes, fails });
    let voice = Voice { sounder, tested };
    let task = SoundTask { clock, voice, snapshots, inputs: sender, said: None };
    Bench { shown, inputs, heard, task: tokio::spawn(task.run()) }
}

async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// SR-36: an alarm that nobody has seen sounds again and again; a more urgent one cuts in; silence ends it at once.
#[tokio::test(start_paused = true)]
async fn sr_36_an_alarm_sounds_until_it_may_be_silent() {
    let mut bench = bench(1_000, false, Tested::Log);
    pass(100).await;
    assert_eq!(bench.inputs.recv().await, Some(Input::AlarmOutput(AlarmOutput::Logged)));
    bench.shown.send_replace(snapshot(Some(Priority::Medium), 1));
    pass(25_000).await;
    bench.shown.send_replace(snapshot(Some(Priority::High), 2));
    pass(7_000).await;
    bench.shown.send_replace(snapshot(None, 2));
    pass(60_000).await;
    let heard = bench.heard.lock().unwrap().clone();
    let (medium, high) = (Priority::Medium, Priority::High);
    assert_eq!(
        heard,
        [(100, medium), (10_100, medium), (20_100, medium), (25_100, high), (31_100, high)],
        "ms and what"
    );
    drop(bench.shown);
    bench.task.await.unwrap();
}

/// SR-37: a player that fails is said once, the alarm is tried again with every burst, and the test counts no more.
#[tokio::test(start_paused = true)]
async fn sr_37_a_player_that_fails_is_said_and_tried_again() {
    let mut bench = bench(10, true, Tested::Log);
    pass(100).await;
    assert_eq!(bench.inputs.recv().await, Some(Input::AlarmOutput(AlarmOutput::Logged)));
    bench.shown.send_replace(snapshot(Some(Priority::High), 1));
    pass(13_000).await;
    assert_eq!(bench.inputs.recv().await, Some(Input::AlarmOutput(AlarmOutput::Failing)));
    assert!(bench.inputs.try_recv().is_err(), "said once");
    assert_eq!(bench.heard.lock().unwrap().len(), 3);
    drop(bench.shown);
    bench.task.await.unwrap();
}

/// SR-37, SR-34: only today's test counts, and a clock that is set back does not revive an older one.
#[test]
fn sr_37_only_a_test_of_today_counts() {
    let wall = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let of = |on: &str| wall(&format!("{on}T07:30:00Z"));
    let tested = |on: Option<&str>, newest: Option<&str>| Tested::Heard {
        at: on.map(of),
        newest: newest.map(wall),
        zones: vec![TimeZone::UTC],
    };
    let noon = wall("2026-11-21T12:00:00Z");
    assert_eq!(tested(Some("2026-11-21"), None).at(noon), AlarmOutput::Heard);
    assert_eq!(tested(None, None).at(noon), AlarmOutput::Untested);
    assert_eq!(tested(Some("2026-11-20"), None).at(noon), AlarmOutput::Untested);
    let midnight = wall("2026-11-22T00:00:00Z");
    assert_eq!(tested(Some("2026-11-21"), None).at(midnight), AlarmOutput::Untested, "the day is over");
    let later = Some("2026-11-22T08:00:00Z");
    assert_eq!(tested(Some("2026-11-21"), later).at(noon), AlarmOutput::Untested, "the clock was set back");
}

/// SR-37, SR-34: a zone that the caller names makes no day longer: it has to be the same day in the box's zone too.
#[test]
fn sr_34_sr_37_no_zone_makes_the_day_of_an_alarm_test_longer() {
    let wall = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let behind = TimeZone::fixed(jiff::tz::offset(-8));
    let tested = |zones: &[TimeZone]| Tested::Heard {
        at: Some(wall("2026-11-21T22:00:00Z")),
        newest: None,
        zones: zones.to_vec(),
    };
    let after_midnight = wall("2026-11-22T01:00:00Z");
    assert_eq!(tested(std::slice::from_ref(&behind)).at(after_midnight), AlarmOutput::Heard);
    assert_eq!(tested(&[TimeZone::UTC, behind]).at(after_midnight), AlarmOutput::Untested);
}

fn player(dir: &Path, script: &str) -> Player {
    let command = ["sh", "-c", script, "sh", FILE].map(str::to_owned).to_vec();
    Player::new(command, dir).unwrap()
}

/// SR-36: the player is given a file that is there and is a sound.
#[tokio::test]
async fn sr_36_a_player_gets_a_file_that_it_can_play() {
    let dir = tempfile::tempdir().unwrap();
    let mut player = player(dir.path(), "head -c 4 \"$1\" | grep -q RIFF");
    for priority in [Priority::Low, Priority::Medium, Priority::High] {
        player.sound(priority).await.unwrap();
    }
}

#[tokio::test]
async fn a_player_that_fails_or_is_not_there_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let failed = player(dir.path(), "exit 3").sound(Priority::Low).await;
    assert!(matches!(failed, Err(SoundError::Failed { .. })), "{failed:?}");
    let nothing = vec!["/nonexistent/player".to_owned(), FILE.to_owned()];
    let absent = Player::new(nothing, dir.path()).unwrap().sound(Priority::Low).await;
    assert!(matches!(absent, Err(SoundError::Start { .. })), "{absent:?}");
}

/// A player that hangs is killed at its deadline, and nothing of it stays.
#[tokio::test]
async fn a_player_that_hangs_is_killed_at_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("echo $$ > '{}'; exec sleep 600", pid.display());
    let words = ["sh", "-c", script.as_str()].map(OsString::from).to_vec();
    let hung = play(words, "test".to_owned(), Duration::from_millis(1_500)).await;
    assert!(matches!(hung, Err(SoundError::Hung { .. })), "{hung:?}");
    let pid = std::fs::read_to_string(pid).unwrap();
    // Killed and reaped in the background: wait until it is.
    for _ in 0..200 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        if stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z ")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the player lives on");
}
