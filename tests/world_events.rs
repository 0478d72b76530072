//! What the world does to a running session, as whole processes: the Bluetooth daemon and the adapter vanish and
//! return, the message bus dies, a cable is pulled and plugged in again. After each return a bound unit hears a stop
//! before anything else, and stays at zero until a person starts (design 3.11).

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::process::{Running, data, in_parallel, judged, text};

/// Longest waits for the session to begin before an event is taken to have come too early, s.
const AT: [u64; 3] = [8, 16, 32];

/// One event of the world.
struct Event {
    name: &'static str,
    unit: &'static str,
    plan: &'static str,
    /// What happens, seconds after the first.
    what: &'static [(u64, &'static str)],
    /// What is said, in this order.
    says: &'static [&'static str],
    /// How the first bytes after the return begin: a stop of this family.
    stops: &'static [&'static str],
}

/// Theragun: stop frames. ScienceMode 4: a frame begins with f0; which message it is is behind stuffing.
const GUN_STOPS: &[&str] = &["aa0701030000", "aa0401030000", "aa040103"];

const EVENTS: [Event; 4] = [
    Event {
        name: "bluetoothd dies and is started again",
        unit: "Gun 1",
        plan: "gun-first",
        what: &[(0, "bluetoothd-kill"), (1, "bluetoothd-start")],
        says: &["Gun 1: the link is lost.", "Gun 1: connected.", "Gun 1: zero, confirmed in "],
        stops: GUN_STOPS,
    },
    Event {
        name: "the adapter is reset",
        unit: "Gun 1",
        plan: "gun-first",
        what: &[(0, "adapter-off"), (1, "adapter-on")],
        says: &["Gun 1: the link is lost.", "Gun 1: connected.", "Gun 1: zero, confirmed in "],
        stops: GUN_STOPS,
    },
    Event {
        name: "the adapter is pulled out and plugged in",
        unit: "Gun 1",
        plan: "gun-first",
        what: &[(0, "adapter-remove"), (2, "adapter-return")],
        says: &["Gun 1: the link is lost.", "Gun 1: connected.", "Gun 1: zero, confirmed in "],
        stops: GUN_STOPS,
    },
    Event {
        name: "the stimulator's cable is pulled and plugged in",
        unit: "Stimulator A",
        plan: "stimulator-first",
        what: &[(0, "unplug"), (3, "plug")],
        says: &[
            "Stimulator A: the link is lost.",
            "Stimulator A: connected.",
            "Stimulator A: zero, confirmed in ",
        ],
        stops: &["f0"],
    },
];

/// One line of the truth.
struct Line {
    at_us: u64,
    heard: Option<String>,
    on_us: u64,
}

fn lines(truth: &Path, unit: &str) -> Vec<Line> {
    let text = std::fs::read_to_string(truth).unwrap();
    let all = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    all.filter(|line| line["unit"] == unit && line["channel"].as_u64().is_none_or(|channel| channel == 0))
        .map(|line| Line {
            at_us: line["t_us"].as_u64().unwrap(),
            heard: line["bytes"].as_str().map(str::to_owned),
            on_us: line["on_us"].as_u64().unwrap_or(0),
        })
        .collect()
}

/// A plan whose first step is long enough for the event to come in it.
fn plan(name: &str, room: &Path) -> std::path::PathBuf {
    let text = std::fs::read_to_string(data(&format!("plans/{name}.toml"))).unwrap();
    let longer = text.replacen("duration = \"10 s\"", "duration = \"40 s\"", 1);
    assert_ne!(text, longer);
    let path = room.join("plan.toml");
    std::fs::write(&path, longer).unwrap();
    path
}

#[test]
fn what_goes_away_and_comes_back_is_stopped_first_and_starts_nothing() {
    let wrong = in_parallel(&EVENTS, EVENTS.len(), |event| {
        AT.iter()
            .find_map(|at| met(event, *at))
            .unwrap_or_else(|| vec![format!("{}: never began", event.name)])
    });
    let wrong = wrong.concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Runs one session with the event `at` seconds after its world began. `None`: the event came before the output.
fn met(event: &Event, at: u64) -> Option<Vec<String>> {
    let room = tempfile::tempdir().unwrap();
    let mut world = std::fs::read_to_string(data("worlds/gun-link-back.toml")).unwrap();
    world.truncate(world.find("[[unit.event]]").unwrap());
    let happens: String = event
        .what
        .iter()
        .map(|(after, what)| format!("[[unit.event]]\nat = \"{} s\"\nwhat = \"{what}\"\n\n", at + after))
        .collect();
    // The gun is the world's last unit, the stimulator the one before it.
    let gun = world.rfind("[[unit]]").unwrap();
    let place = if event.unit == "Gun 1" { world.len() } else { gun };
    world.insert_str(place, &happens);
    let (path, given, truth) =
        (room.path().join("world.toml"), room.path().join("data"), room.path().join("truth"));
    std::fs::write(&path, world).unwrap();
    let plan = plan(event.plan, room.path());
    let arguments = [
        "run",
        text(&plan),
        "--sim",
        text(&path),
        "--unattended",
        "--data",
        text(&given),
        "--truth",
        text(&truth),
    ];
    let (_, note, said) = Running::start(&arguments).over();
    let lines = lines(&truth, event.unit);
    let begun = lines.first().unwrap().at_us;
    let loss = begun + at * 1_000_000;
    let before = lines.iter().take_while(|line| line.at_us < loss).map(|line| line.on_us).max().unwrap();
    if before < 300_000 {
        return None;
    }
    let mut wrong = Vec::new();
    let mut check = |holds: bool, what: String| {
        if !holds {
            wrong.push(format!("{}: {what}\n{said}\n{note}", event.name));
        }
    };
    let mut rest = said.as_str();
    for sentence in event.says {
        match rest.split_once(sentence) {
            Some((_, after)) => rest = after,
            None => check(false, format!("never said, or not in its place: {sentence}")),
        }
    }
    // What the unit hears first on the new link.
    let back = loss + event.what.last().unwrap().0 * 1_000_000;
    let first = lines.iter().filter(|line| line.at_us > back).find_map(|line| line.heard.clone());
    let first = first.unwrap_or_default();
    check(event.stops.iter().any(|stop| first.starts_with(stop)), format!("it first heard `{first}`"));
    check(
        said.contains("It is not started again by itself"),
        "it does not say that it starts nothing".to_owned(),
    );
    let (sound, table) = judged(&given.join("rehearsal"), &truth, &[]);
    check(sound, table);
    Some(wrong)
}

/// The bus dies under a running gun: nothing can reach it any more. The stimulator is stopped, the record is sealed, the
/// exit code says that a new process is needed, and the words what a hand must do.
#[test]
fn a_dead_bus_stops_what_can_be_stopped_and_asks_for_a_new_process() {
    let room = tempfile::tempdir().unwrap();
    let (socket, config) = (room.path().join("bus"), room.path().join("bus.conf"));
    let rules = format!(
        "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>\
         <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/></policy></busconfig>",
        socket.display()
    );
    std::fs::write(&config, rules).unwrap();
    let started = std::process::Command::new("dbus-daemon")
        .arg(format!("--config-file={}", config.display()))
        .args(["--nofork", "--nopidfile"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut bus) = started else {
        println!("SKIPPED: dbus-daemon is not installed; the death of the bus was not tested");
        return;
    };
    let end = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        assert!(Instant::now() < end, "dbus-daemon did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (given, truth) = (room.path().join("data"), room.path().join("truth"));
    let plan = plan("gun-first", room.path());
    let arguments =
        ["run", text(&plan), "--sim", "--unattended", "--data", text(&given), "--truth", text(&truth)];
    let address = format!("unix:path={}", socket.display());
    let session = Running::start_with(&arguments, &[("DOSEWARD_SIM_BUS", &address)]);
    let late = Instant::now() + Duration::from_secs(60);
    while !truth.exists() || lines(&truth, "Gun 1").iter().all(|line| line.on_us < 300_000) {
        if Instant::now() > late {
            bus.kill().unwrap();
            panic!("the gun never ran: {}", session.over().2);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bus.kill().unwrap();
    bus.wait().unwrap();
    let (code, _, said) = session.over();
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("the system bus, which carries Bluetooth, is gone"), "{said}");
    assert!(said.contains("Gun 1 has not proven that it stopped"), "{said}");
    assert!(said.contains("Lift the gun off and press its button"), "{said}");
    assert!(said.contains("The record is sealed."), "{said}");
}
