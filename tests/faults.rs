//! Faults as a therapist meets them: whole sessions on simulated units to which something happens. Each must say what
//! is known and what to do, keep the step that was cut short at zero, go on with the next, and record what was given.
//!
//! `tests/data/worlds` holds what happens, `tests/data/plans` the sessions.

use doseward::model::session::StopReason;
use doseward::record::store::Reader;

use crate::support::process::{Running, data, in_parallel, judged, text};

/// Words that a therapist is never to read.
const NEVER: [&str; 9] = ["error", "failed", "invalid", "panick", "unwrap", "task", "frame", "None", "Some("];

const LIFT_OFF: &str = "Lift the gun off and press its button.";
const PULL: &str = "Switch the unit off or pull its leads; then check the client.";

/// One fault and what it must come to.
struct Fault {
    world: &'static str,
    plan: &'static str,
    /// How the first step ends.
    ends: StopReason,
    /// The second step follows and is completed; otherwise it has to wait for a hand.
    follows: bool,
    /// Codes of the alarms.
    alarms: &'static [&'static str],
    /// What the terminal says, in this order.
    says: &'static [&'static str],
    /// What the note says.
    notes: &'static [&'static str],
    /// The unit proves its stop before the session is over.
    proven: bool,
    /// Whether the highest intensity is compared: not where the unit was still rising by its own hand when last heard.
    highest: bool,
}

const FAULTS: [Fault; 9] = [
    Fault {
        world: "gun-link-back",
        plan: "gun-first",
        ends: StopReason::LinkLost,
        follows: true,
        alarms: &["link_lost", "uncertain", "stop_unconfirmed"],
        says: &[
            "!! No answer from Gun 1. What it does now is not known. Lift the gun off and press its button.",
            "Gun 1: the link is lost.",
            "Step 1, hamstrings right, ended before its time: no answer from the unit. It is not started again by \
             itself; step 2, calf right, follows.",
            "Not now: Gun 1 has not proven that it stopped. Stop it by hand and see that it stopped.",
            "!!! Gun 1 has not proven that it stopped. It may still be running.",
            "Gun 1: connected.",
            "Gun 1, hamstrings right: what it gave is not certain: between 0:00 and 0:",
            "Ask the client what was felt.",
            "Gun 1: zero, confirmed in ",
            "Step 2, calf right: over, step completed.",
        ],
        notes: &["no answer from the unit", "0:00 of output certain, up to 0:", "Its stop was proven at "],
        proven: true,
        highest: true,
    },
    Fault {
        world: "gun-link-lost",
        plan: "gun-first",
        ends: StopReason::LinkLost,
        follows: false,
        alarms: &["link_lost", "uncertain", "stop_unconfirmed"],
        says: &[
            "!! No answer from Gun 1. What it does now is not known. Lift the gun off and press its button.",
            "step 2, calf right, follows.",
            "!!! Gun 1 has not proven that it stopped. It may still be running.",
            "Gun 1: stop NOT confirmed | ",
            "!!! Gun 1 has not proven that it stopped. It may still be running. Lift the gun off",
            "of output, if nobody stops it by hand, at no more than 1000 raw unless its own buttons were pressed.",
            "The plan was not completed: step 1, hamstrings right: no answer from the unit; step 2, calf right, cannot \
             follow while Gun 1 has not proven that it stopped.",
            "!!! Gun 1 has not proven that it stopped. It may still be running. Lift the gun off",
        ],
        notes: &[
            "The longest is what it can have given if nobody stopped it by hand.",
            "Nothing in this record proves that it stopped.",
        ],
        proven: false,
        highest: true,
    },
    Fault {
        world: "gun-wedged",
        plan: "gun-first",
        ends: StopReason::LinkLost,
        follows: false,
        alarms: &["link_lost", "uncertain", "stop_unconfirmed"],
        says: &[
            "!! No answer from Gun 1. What it does now is not known. Lift the gun off and press its button.",
            "step 2, calf right, follows.",
            "!!! Gun 1 has not proven that it stopped. It may still be running. Lift the gun off",
            "The plan was not completed: step 1, hamstrings right: no answer from the unit; step 2, calf right, cannot \
             follow while Gun 1 has not proven that it stopped.",
            "!!! Gun 1 has not proven that it stopped. It may still be running. Lift the gun off",
        ],
        notes: &["Nothing in this record proves that it stopped."],
        proven: false,
        highest: true,
    },
    Fault {
        world: "gun-button-stop",
        plan: "gun-first",
        ends: StopReason::StoppedAtDevice,
        follows: true,
        alarms: &["stopped_at_device"],
        says: &[
            "Gun 1: stopped at its own button.",
            "! Gun 1 was stopped by its own button. Start again from here when the client is ready.",
            "Step 1, hamstrings right, ended before its time: stopped at the gun itself. It is not started again",
        ],
        notes: &["stopped at the gun itself", "Gun 1 was stopped by its own button."],
        proven: true,
        highest: true,
    },
    Fault {
        world: "gun-button-start",
        plan: "stimulator-first",
        ends: StopReason::Completed,
        follows: true,
        alarms: &["started_at_device"],
        says: &[
            "Gun 1: started at its own button",
            "!! Gun 1 was started by its own button. Stop was sent; the time counts. Lift the gun off; start it from \
             here.",
            "Gun 1: zero, confirmed in ",
            "Step 2, hamstrings right: over, step completed.",
        ],
        notes: &["Gun 1 was started by its own button."],
        proven: true,
        highest: true,
    },
    Fault {
        world: "gun-button-raise",
        plan: "gun-first",
        ends: StopReason::LimitViolation,
        follows: true,
        alarms: &["raised_at_device"],
        says: &[
            "Gun 1: raised at its own button to ",
            "!!! Gun 1 was raised by its own button above what was set here. Stop was sent. Lift the gun off and press \
             its button.",
            "Step 1, hamstrings right, ended before its time: the unit gave more than was set.",
        ],
        notes: &["the unit gave more than was set"],
        proven: true,
        highest: true,
    },
    Fault {
        world: "gun-button-lower",
        plan: "gun-first",
        ends: StopReason::Completed,
        follows: true,
        alarms: &[],
        says: &[
            "Gun 1: lowered at its own button to 600 raw.",
            "delivered 600 raw",
            "Step 1, hamstrings right: over, step completed.",
        ],
        notes: &["lowered at the unit itself at ", " to 600 raw", "No alarms."],
        proven: true,
        highest: true,
    },
    Fault {
        world: "stimulator-wedged",
        plan: "stimulator-first",
        ends: StopReason::LinkLost,
        follows: true,
        alarms: &["link_lost", "uncertain", "stop_unconfirmed"],
        says: &[
            "!! No answer from Stimulator A. What it does now is not known. Switch the unit off or pull its leads;",
            "step 2, hamstrings right, follows.",
            "!!! Stimulator A has not proven that it stopped. It may still be running. Switch the unit off",
            "Stimulator A, calf right: what it gave is not certain: between 0:00 and 0:0",
            "The plan was not completed: step 1, calf right: no answer from the unit.",
            "!!! Stimulator A has not proven that it stopped. It may still be running. Switch the unit off",
        ],
        notes: &["0:00 of output certain, up to 0:0", "Nothing in this record proves that it stopped."],
        proven: false,
        highest: true,
    },
    Fault {
        world: "stimulator-lead-off",
        plan: "two-channels",
        ends: StopReason::LeadOff,
        follows: true,
        alarms: &["lead_off"],
        says: &[
            "Stimulator A: an electrode of output 1 has no contact.",
            "!! Stimulator A reports that an electrode has lost contact. Stop was sent to all its outputs. Check the pads, \
             then arm again. It starts from zero.",
            "Step 1, calf right, ended before its time: electrode contact lost.",
            "Step 2, forearm extensors right: over, step completed.",
        ],
        notes: &["electrode contact lost"],
        proven: true,
        highest: true,
    },
];

#[test]
fn a_fault_is_said_in_words_that_tell_what_is_known_and_what_to_do_and_is_recorded_as_it_was() {
    let wrong: Vec<String> = in_parallel(&FAULTS, FAULTS.len(), met).concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Runs one session; returns what is wrong with it.
fn met(fault: &Fault) -> Vec<String> {
    let room = tempfile::tempdir().unwrap();
    let (given, truth) = (room.path().join("data"), room.path().join("truth"));
    let (plan, world) =
        (data(&format!("plans/{}.toml", fault.plan)), data(&format!("worlds/{}.toml", fault.world)));
    let session = Running::start(&[
        "run",
        text(&plan),
        "--sim",
        text(&world),
        "--unattended",
        "--data",
        text(&given),
        "--truth",
        text(&truth),
    ]);
    let (code, note, said) = session.over();
    let mut wrong = Vec::new();
    let mut check = |holds: bool, what: String| {
        if !holds {
            wrong.push(format!("{}: {what}\n{said}\n{note}", fault.world));
        }
    };
    let in_order = fault.ends == StopReason::Completed && fault.proven;
    check(code == Some(i32::from(!in_order)), format!("exit code {code:?}"));
    let mut rest = said.as_str();
    for sentence in fault.says {
        match rest.split_once(sentence) {
            Some((_, after)) => rest = after,
            None => check(false, format!("never said, or not in its place: {sentence}")),
        }
    }
    let flat = note.split_whitespace().collect::<Vec<_>>().join(" ");
    for sentence in fault.notes {
        check(flat.contains(sentence), format!("not in the note: {sentence}"));
    }
    let all = format!("{said}\n{note}").to_lowercase();
    for word in NEVER {
        check(!all.contains(&word.to_lowercase()), format!("`{word}` is no word for a therapist"));
    }
    // A stop that nobody proved ends with what a hand must do; one that was proven does not leave that as the last word.
    let last = said.lines().last().unwrap_or_default();
    check(
        (last.ends_with(LIFT_OFF) || last.ends_with(PULL)) != fault.proven,
        format!("the last word is `{last}`"),
    );
    let record = given.join("rehearsal");
    for what in recorded(fault, &Reader::open(&record).unwrap()) {
        check(false, what);
    }
    let more: &[&str] = if fault.highest { &[] } else { &["--no-highest"] };
    let (sound, table) = judged(&record, &truth, more);
    check(sound, table);
    wrong
}

/// Returns what the record should say and does not.
fn recorded(fault: &Fault, reader: &Reader) -> Vec<String> {
    let session = reader.sessions().unwrap().remove(0);
    let mut wrong = Vec::new();
    if session.sealed.is_none() {
        wrong.push("the record is not sealed".to_owned());
    }
    let (mut alarms, mut ends, mut armed) = (Vec::new(), Vec::new(), Vec::new());
    for entry in reader.entries(&session.session).unwrap() {
        let body: serde_json::Value = serde_json::from_str(&entry.body).unwrap();
        let step = body["step"].as_u64();
        match entry.kind.as_str() {
            "alarm" if body["raised"] == true => alarms.push(body["cause"].as_str().unwrap().to_owned()),
            "stopped" => ends.push((step.unwrap(), body["reason"].as_str().unwrap().to_owned())),
            "armed" => armed.push(step.unwrap()),
            _ => {}
        }
    }
    alarms.sort_unstable();
    let mut expected = fault.alarms.to_vec();
    expected.sort_unstable();
    if alarms != expected {
        wrong.push(format!("the alarms on record are {alarms:?}"));
    }
    let mut due = vec![(1, fault.ends.code().to_owned())];
    if fault.follows {
        due.push((2, StopReason::Completed.code().to_owned()));
    }
    if ends != due {
        wrong.push(format!("the steps' ends on record are {ends:?}"));
    }
    // A step that a fault ended is never started again by itself.
    if armed != [1, 2][..1 + usize::from(fault.follows)] {
        wrong.push(format!("the steps armed are {armed:?}"));
    }
    wrong
}
