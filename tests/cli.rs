//! The command line as a person or a script meets it: whole processes, simulated units, real time.

use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use doseward::record::store::Reader;
use tempfile::TempDir;

use crate::support::process::{
    Running, data, doseward, gone, in_parallel, judged, printed, said, signal, text,
};

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

#[test]
fn wrong_usage_ends_with_2_and_says_how_it_is_used() {
    for arguments in [&[][..], &["treat"], &["run"], &["run", "p.toml", "--truth", "t"], &["record"]] {
        let output = doseward(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains("Usage"), "{arguments:?}: {}", said(&output));
    }
    let last = u64::MAX.to_string();
    for (arguments, why) in [
        (&["sim", "certify", "--minutes", "0"][..], "0 is not in 1.."),
        (&["sim", "certify", "--from", &last, "--seeds", "2"], "There are no 2 seeds from"),
        (&["record", "resolve", "last", "1", "--shown", "1 s", "--reason", "\u{1b}[2J"], "control character"),
        (&["run", "p.toml", "--sim", "--clock-confirmed-by", "two\nlines"], "control character"),
    ] {
        let output = doseward(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains(why), "{arguments:?}: {}", said(&output));
    }
}

/// What the settings of this box say holds for every verb.
#[test]
fn sessions_and_their_records_are_where_the_settings_say() {
    let room = Room::new(2);
    let (root, here) = (room.path("box"), room.path("doses"));
    let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir_all(root.join("config")).unwrap();
    for name in ["protocols", "config/devices", "config/clinical"] {
        std::os::unix::fs::symlink(repository.join(name), root.join(name)).unwrap();
    }
    let shipped = std::fs::read_to_string(repository.join("config/daemon.toml")).unwrap();
    let set = format!("data_dir = {:?}\nlease =", text(&here));
    std::fs::write(root.join("config/daemon.toml"), shipped.replacen("lease =", &set, 1)).unwrap();
    let plan = room.path("plan.toml");
    let ran = doseward(&["run", text(&plan), "--sim", "--unattended", "--config-dir", text(&root)]);
    assert_eq!(ran.status.code(), Some(0), "{}", said(&ran));
    assert!(here.join("rehearsal/record.db").exists());
    let shown = doseward(&["record", "show", "--sim", "--config-dir", text(&root)]);
    assert!(printed(&shown).contains("C-0001"), "{}{}", printed(&shown), said(&shown));
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
fn a_bad_world_is_said_once_and_nothing_about_simulators() {
    let room = Room::new(3);
    let world = room.path("world.toml");
    std::fs::write(&world, "schema = 1\n").unwrap();
    let (plan, data) = (room.path("plan.toml"), room.path("data"));
    let run = doseward(&["run", text(&plan), "--sim", text(&world), "--data", text(&data), "--unattended"]);
    assert_eq!(run.status.code(), Some(3), "{}", said(&run));
    assert!(said(&run).contains("world.toml"), "{}", said(&run));
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
    assert!(!data.join("rehearsal/record.db").exists(), "a session that never started is in the record");
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
    assert_eq!(exported.status.code(), Some(0), "{}", crate::support::process::said(&exported));
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
    let holder = first.parent.id().to_string();
    let (code, _, said) = room.run().over();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&holder), "the holder is {holder}: {said}");
    assert!(!said.contains("end it"), "nobody is told to end what drives the units: {said}");
    let resolve = ["resolve", "last", "1", "--shown", "1 s", "--reason", "seen to stop"];
    let busy = room.record(&resolve);
    assert_eq!(busy.status.code(), Some(1));
    let busy = crate::support::process::said(&busy);
    assert!(busy.contains("A session is running. Settle this there with u, or when it is over."), "{busy}");
    first.signal("-TERM");
    let (code, note, said) = first.over();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Ended by the system (SIGTERM): every unit was told to stop first."), "{said}");
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
    assert!(said.contains("has stopped unexpectedly."), "{said}");
    assert!(said.contains("The guard process stops every unit in use. Look at the client."), "{said}");
    assert!(said.contains("Stimulator A: stopped by the guard process, proven after"), "{said}");
    assert!(said.contains("was not closed: it is completed now"), "{said}");
    std::fs::write(room.path("plan.toml"), PLAN.replace("SECONDS", "2")).unwrap();
    let (code, _, said) = room.run().over();
    assert_eq!(code, Some(1), "nobody is here to resolve what is uncertain: {said}");
    assert!(said.contains("Resolve it first, with a reason (u)"), "{said}");
    let listed = printed(&room.record(&["open-doses"]));
    let words: Vec<&str> = listed.split_whitespace().collect();
    let shown = listed.split('"').nth(1).expect(&listed);
    let resolve =
        ["resolve", words[0], words[2], "--shown", shown, "--by", "T-01", "--reason", "nobody saw it end"];
    assert_eq!(room.record(&resolve).status.code(), Some(0), "{listed}");
    let (code, _, said) = room.run().over();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(room.record(&["verify"]).status.code(), Some(0));
}

/// A record that was put back from an older copy, or emptied, or taken away is refused: it says too little of what was given.
#[test]
fn a_record_that_was_rolled_back_is_refused_by_the_next_run_and_by_verify() {
    let room = Room::new(2);
    let (code, _, said) = room.run().over();
    assert_eq!(code, Some(0), "{said}");
    let record = room.path("data").join("rehearsal").join("record.db");
    // At rest all of it is in the one file.
    let content = || {
        let whole = rusqlite::Connection::open(&record).unwrap();
        whole.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        drop(whole);
        std::fs::read(&record).unwrap()
    };
    let older = content();
    let (code, _, said) = room.run().over();
    assert_eq!(code, Some(0), "{said}");
    let whole = content();
    for (cut, how) in [(Some(&older[..]), "rolled back"), (Some(&[][..]), "emptied"), (None, "deleted")] {
        match cut {
            Some(bytes) => std::fs::write(&record, bytes).unwrap(),
            None => std::fs::remove_file(&record).unwrap(),
        }
        let verified = room.record(&["verify"]);
        assert_eq!(
            verified.status.code(),
            Some(4),
            "{how}: {}{}",
            printed(&verified),
            crate::support::process::said(&verified)
        );
        let (code, _, said) = room.run().over();
        assert_eq!(code, Some(4), "{how}: {said}");
        assert!(said.contains("part of it is missing") && said.contains("No device was touched"), "{said}");
    }
    assert!(!record.exists(), "no new record begins in its place");
    std::fs::write(&record, &whole).unwrap();
    assert_eq!(room.record(&["verify"]).status.code(), Some(0));
    let (code, _, said) = room.run().over();
    assert_eq!(code, Some(0), "{said}");
    assert!(printed(&room.record(&["show", "last"])).starts_with("Session note"));
    // An entry is altered where nobody can see it: what is shown is no note.
    let connection = rusqlite::Connection::open(&record).unwrap();
    let trigger = "SELECT sql FROM sqlite_schema WHERE name = 'entry_no_update'";
    let trigger: String = connection.query_row(trigger, [], |row| row.get(0)).unwrap();
    let alter =
        "UPDATE entry SET body = replace(body, '\"current_ua\":', '\"current_ua\":1') WHERE kind = 'dose'";
    connection.execute_batch(&format!("DROP TRIGGER entry_no_update; {alter}; {trigger}")).unwrap();
    drop(connection);
    let shown = room.record(&["show", "last"]);
    assert_eq!(shown.status.code(), Some(4));
    assert!(printed(&shown).starts_with("THE RECORD IS DAMAGED."), "{}", printed(&shown));
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

/// Waits until the truth shows output of `unit`, ends the session with `end`, and returns what was said and how long the
/// unit's output went on after it.
fn output_after(
    session: Running,
    truth: &std::path::Path,
    unit: &str,
    end: impl Fn(&Running),
) -> (Option<i32>, String, Duration) {
    let changes = || {
        let text = std::fs::read_to_string(truth).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let own = lines.filter(|line| line["unit"] == unit && line["channel"] == 0);
        own.map(|line| (line["t_us"].as_u64().unwrap(), line["on_us"].as_u64().unwrap())).collect::<Vec<_>>()
    };
    let late = Instant::now() + Duration::from_secs(60);
    while changes().last().is_none_or(|(_, on_us)| *on_us < 300_000) {
        if Instant::now() > late {
            session.signal("-TERM");
            panic!("{unit} never gave output: {}", session.over().2);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let clock = doseward::clock::Clock::start();
    let at = clock.monotonic_us(clock.now());
    end(&session);
    let (code, _, said) = session.over();
    let total = changes().last().unwrap().1;
    // The first line that already holds all of the output.
    let zero = changes().iter().find(|(_, on_us)| *on_us == total).unwrap().0;
    (code, said, Duration::from_micros(zero.saturating_sub(at)))
}

fn on_truth(plan: &str, room: &Room) -> (Running, PathBuf) {
    let (plan, truth, given) = (crate::support::process::data(plan), room.path("truth"), room.path("data"));
    let arguments =
        ["run", text(&plan), "--sim", "--unattended", "--data", text(&given), "--truth", text(&truth)];
    (Running::start(&arguments), truth)
}

#[test]
fn every_ending_signal_stops_the_units_at_once_and_seals_the_record() {
    let signals = ["INT", "TERM", "HUP", "QUIT", "TSTP"];
    let plans = [("plans/stimulator-first.toml", "Stimulator A"), ("plans/gun-first.toml", "Gun 1")];
    let cases: Vec<_> = signals.iter().flat_map(|signal| plans.map(|plan| (*signal, plan))).collect();
    // Ten sessions at once would leave acknowledgements too late on a busy machine.
    let wrong = in_parallel(&cases, 3, |(name, (plan, unit))| {
        let room = Room::new(1);
        let (session, truth) = on_truth(plan, &room);
        let (code, said, after) =
            output_after(session, &truth, unit, |session| session.signal(&format!("-{name}")));
        println!("SIG{name}, {unit}: output ended {} ms after it", after.as_millis());
        let sealed = printed(&room.record(&["show"])).contains("sealed");
        let how = match *name {
            "INT" => "by Ctrl-C",
            "TERM" => "by the system (SIGTERM)",
            "HUP" => "because the terminal was closed",
            "QUIT" => "by Ctrl-\\",
            _ => "by Ctrl-Z",
        };
        let words = said.contains(&format!("Ended {how}: every unit was told to stop first."));
        let blamed = said.contains("reports a fault") || said.contains("has to start again from zero");
        let soon = after < Duration::from_millis(1500);
        let well = code == Some(1) && sealed && words && soon && !blamed;
        (!well).then(|| format!("SIG{name}, {unit}: {code:?}, sealed {sealed}, after {after:?}\n{said}"))
    });
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A panic: the units are told to stop before anything else, the record is sealed, and what happened is said.
#[cfg(feature = "defects")]
#[test]
fn a_defect_of_doseward_stops_the_units_and_is_said_plainly() {
    let plans = [("plans/stimulator-first.toml", "Stimulator A"), ("plans/gun-first.toml", "Gun 1")];
    for (plan, unit) in plans {
        let room = Room::new(1);
        let (plan, truth, given) =
            (crate::support::process::data(plan), room.path("truth"), room.path("data"));
        let arguments =
            ["run", text(&plan), "--sim", "--unattended", "--data", text(&given), "--truth", text(&truth)];
        let session = Running::start_with(&arguments, &[("DOSEWARD_PANIC_AFTER_MS", "5000")]);
        let (code, said, after) = output_after(session, &truth, unit, |_| ());
        println!("{unit}: output ended {} ms after it was seen", after.as_millis());
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("A defect of doseward ended the screen: every unit was told to stop."),
            "{said}"
        );
        assert!(said.contains("The record is sealed."), "{said}");
        // The gun has no time-out of its own and would run on; its step lasts 10 s.
        assert!(after < Duration::from_secs(7), "{unit}: {after:?}: {said}");
    }
}

/// SR-25: a pair of the plan runs at the same time, at the distance that it states, and record and truth agree.
#[test]
fn sr_25_a_pair_of_the_plan_runs_at_the_same_time_and_its_distance_is_on_record() {
    let room = tempfile::tempdir().unwrap();
    let plan = room.path().join("plan.toml");
    let written = std::fs::read_to_string(data("plans/both-at-once.toml")).unwrap();
    std::fs::write(&plan, written.replace("\"60 s\"", "\"8 s\"")).unwrap();
    let (given, truth) = (room.path().join("data"), room.path().join("truth"));
    let run = Running::start(&[
        "run",
        text(&plan),
        "--sim",
        "--unattended",
        "--data",
        text(&given),
        "--truth",
        text(&truth),
    ]);
    let (code, _, said) = run.over();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("15 cm from step 1"), "{said}");
    let record = given.join("rehearsal");
    let (sound, table) = judged(&record, &truth, &[]);
    assert!(sound, "{table}");
    let reader = Reader::open(&record).unwrap();
    let session = reader.sessions().unwrap().pop().unwrap().session;
    let doses = reader.doses(&session).unwrap();
    let of = |device: u8| doses.iter().map(|it| &it.dose).filter(move |dose| dose.device.0 == device);
    let at_once = of(0).any(|one| of(1).any(|other| one.from < other.until && other.from < one.until));
    assert!(at_once, "both gave output at one time");
}

/// SR-12, SR-13, SR-43: what an earlier session gave, also one that was killed, leaves only the rest of the day's time on the
/// area; an uncertain dose counts at its longest until a person resolves it.
#[test]
fn sr_12_a_second_session_on_the_same_day_has_only_the_rest_of_the_area() {
    let room = Room::new(6);
    let plan = std::fs::read_to_string(room.path("plan.toml")).unwrap();
    std::fs::write(room.path("plan.toml"), plan + "limits = { area_time = \"10 s\" }\n").unwrap();
    let (code, _, said) = room.run().over();
    assert_eq!(code, Some(0), "{said}");
    let (code, note, said) = room.run().over();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("today's time on this area is used up (0:10, limit of the plan)"), "{said}");
    assert!(note.contains("time on this area used up"), "{note}");
    assert!(note.contains("TENS on calf right: 0:10 of 0:10 used (limit of the plan)."), "{note}");
    assert!(note.contains("TENS in all: 0:10 of 2:00:00 used (limit of the ceiling)."), "{note}");
    let (code, _, said) = room.run().over();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Not now: today's time on this area is used up: 0:10"), "{said}");
    assert!(on_area(&room) <= 10.0 && on_area(&room) > 8.5, "{} s in three sessions", on_area(&room));
}

/// The same over a kill: the uncertain dose uses the day up; resolved at its shortest, the rest is there again.
#[test]
fn sr_43_a_killed_session_counts_at_its_longest_until_it_is_resolved() {
    let room = Room::new(8);
    let plan = std::fs::read_to_string(room.path("plan.toml")).unwrap();
    std::fs::write(room.path("plan.toml"), plan + "limits = { area_time = \"10 s\" }\n").unwrap();
    let mut killed = room.run();
    killed.hears("| running |");
    std::thread::sleep(Duration::from_secs(3));
    // The guard too: nobody is left to stop the unit, or to say when it stopped.
    killed.signal("-STOP");
    signal(killed.daemon(), "-KILL");
    killed.signal("-KILL");
    killed.over();
    let waiting = printed(&room.record(&["open-doses"]));
    assert!(waiting.contains("is not closed") && waiting.contains("start doseward once"), "{waiting}");
    let record = room.path("data").join("rehearsal");
    let clock = doseward::clock::Clock::start();
    let mut journal = doseward::record::journal::Journal::open(&record).unwrap();
    let stamp = doseward::record::entry::Stamp { mono: clock.now(), wall: clock.wall() };
    journal.recover(stamp).unwrap();
    drop(journal);
    let listed = printed(&room.record(&["open-doses"]));
    let words: Vec<&str> = listed.split_whitespace().collect();
    let after = |word: &str| {
        let at = words.iter().position(|found| *found == word).expect(&listed);
        words[at + 1].trim_end_matches(',').to_owned()
    };
    let (session, dose) = (words[0], after("dose"));
    let shown = listed.split('"').nth(1).expect(&listed).to_owned();
    let seconds = shown.trim_end_matches(" s").parse::<u64>().expect("whole seconds, to be copied");
    assert!(
        listed.contains("at least 0:0") && listed.contains(&format!("at most 0:{seconds:02}")),
        "{listed}"
    );
    let resolve = |shown: &str, more: &[&str]| {
        let mut arguments = vec!["resolve", session, dose.as_str(), "--shown", shown, "--by", "T-01"];
        arguments.extend(more);
        room.record(&arguments)
    };
    let stale = resolve("1 s", &["--gave", "1 s", "--reason", "seen to stop"]);
    assert_eq!(stale.status.code(), Some(1), "{}", crate::support::process::said(&stale));
    let nobody = ["resolve", session, dose.as_str(), "--shown", &shown, "--reason", "seen", "--by", ""];
    assert_eq!(room.record(&nobody).status.code(), Some(2), "nobody resolves");
    let none = resolve(&shown, &["--gave", "4 s", "--reason", " "]);
    assert_eq!(none.status.code(), Some(2), "{}", crate::support::process::said(&none));
    let done = resolve(&shown, &["--gave", "4 s", "--reason", "the leads were pulled"]);
    assert_eq!(done.status.code(), Some(0), "{}", crate::support::process::said(&done));
    let same = resolve(&shown, &["--gave", "4 s", "--reason", "said again"]);
    assert_eq!(same.status.code(), Some(0), "{}", crate::support::process::said(&same));
    let other = resolve(&shown, &["--gave", "5 s", "--reason", "said otherwise"]);
    assert_eq!(other.status.code(), Some(1), "{}", crate::support::process::said(&other));
    assert!(crate::support::process::said(&other).contains("It was settled before: 0:04 counts."));
    let none = room.record(&["open-doses"]);
    assert_eq!(printed(&none), "");
    assert_eq!(crate::support::process::said(&none), "No dose is uncertain.\n");
    let note = printed(&room.record(&["show", session]));
    let note = note.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(note.contains("Resolved by T-01") && note.contains("the leads were pulled"), "{note}");
    let (code, _, said) = room.run().over();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("today's time on this area is used up (0:10, limit of the plan)"), "{said}");
    assert_eq!(room.record(&["verify"]).status.code(), Some(0));
}

/// SR-43: a gun whose daemon and guard were killed runs on for its battery's life, as far as anybody knows; the next session
/// proves its stop, and from then on it is a matter of seconds.
#[test]
fn sr_43_the_next_session_proves_the_stop_of_a_killed_one() {
    let room = Room::new(3);
    let plan = data("plans/gun-first.toml");
    let given = room.path("data");
    let arguments = ["run", text(&plan), "--sim", "--data", text(&given), "--unattended"];
    let mut killed = Running::start(&arguments);
    killed.hears("| running |");
    std::thread::sleep(Duration::from_secs(2));
    killed.signal("-STOP");
    signal(killed.daemon(), "-KILL");
    killed.signal("-KILL");
    killed.over();
    let (code, _, said) = Running::start(&arguments).over();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Gun 1 has proven its stop: what it gave on hamstrings right"), "{said}");
    assert!(said.contains("is uncertain: between 0:0"), "a person resolves it: {said}");
    let listed = printed(&room.record(&["open-doses"]));
    let most = listed.split('"').nth(1).and_then(|text| text.trim_end_matches(" s").parse::<u64>().ok());
    assert!(listed.lines().count() == 1 && most.is_some_and(|most| most < 120), "{listed}");
    assert_eq!(room.record(&["verify"]).status.code(), Some(0));
}

/// Returns what counts on all areas in all sessions of a room, seconds.
fn on_area(room: &Room) -> f64 {
    let reader = Reader::open(&room.path("data").join("rehearsal")).unwrap();
    let sessions = reader.sessions().unwrap();
    let doses = sessions.iter().flat_map(|session| reader.doses(&session.session).unwrap());
    doses.map(|dose| dose.counted_us() as f64 / 1e6).sum()
}
