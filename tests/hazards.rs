//! Hazards of the README's table that no other file names: one plain sentence each.

use std::collections::BTreeSet;
use std::time::Duration;

use doseward::alarm::Cause;
use doseward::config::{Library, check, render};
use doseward::governor::Entry;
use doseward::model::command::Intensity;
use doseward::units::Milliamps;

use crate::support::bench::Bench;
use crate::support::plans::three_steps;

/// H-12, SR-23: a unit that falls silent is stopped and its dose is uncertain; it is never taken for a unit at zero.
#[test]
fn a_silent_unit_is_told_to_stop_and_its_dose_is_uncertain() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(1);
    bench.set(1, Intensity::Current(Milliamps::from_milliamps(5)));
    bench.pass(Duration::from_secs(2));
    bench.units[0].silent = true;
    let lost = bench.governor.plan().devices[0].capability.telemetry.lost;
    bench.pass(lost + Duration::from_millis(250));
    assert!(bench.units[0].output.is_empty(), "stop reached the silent unit");
    let alarms = bench.governor.snapshot(bench.now).alarms;
    assert!(alarms.iter().any(|alarm| alarm.cause == Cause::LinkLost), "{alarms:?}");
    assert!(alarms.iter().any(|alarm| alarm.cause == Cause::Uncertain), "{alarms:?}");
    let stopped = bench.entries().any(|(_, entry)| matches!(entry, Entry::Stopped { .. }));
    assert!(stopped, "the stop is on record");
}

/// H-13: every alarm has its own code, says what is known of which unit, and what to do next.
#[test]
fn every_alarm_says_what_is_known_and_what_to_do() {
    let causes = [
        Cause::StopUnconfirmed,
        Cause::Mismatch,
        Cause::LinkLost,
        Cause::LeadOff,
        Cause::DeviceFault,
        Cause::StartedAtDevice,
        Cause::RaisedAtDevice,
        Cause::StoppedAtDevice,
        Cause::OperatorGone,
        Cause::OperatorAbsent,
        Cause::RecordFailing,
        Cause::Uncertain,
        Cause::Defect,
        Cause::Battery,
        Cause::GuardGone,
        Cause::Suspended,
    ];
    let codes: BTreeSet<&str> = causes.iter().map(|cause| cause.code()).collect();
    assert_eq!(codes.len(), causes.len(), "two alarms share a code");
    let known: BTreeSet<String> = causes.iter().map(|cause| cause.known("Gun 1")).collect();
    assert_eq!(known.len(), causes.len(), "two alarms say the same");
    for cause in causes {
        for gun in [true, false] {
            let action = cause.action(gun);
            assert!(action.ends_with('.') && !action.to_lowercase().contains("error"), "{cause:?}: {action}");
        }
        assert!(!cause.known("Gun 1").to_lowercase().contains("error"), "{cause:?}");
    }
}

/// H-14: nothing in this version listens on a network; `architecture` bans the names outside `web`, which is not there.
#[test]
fn nothing_listens_on_a_network() {
    assert!(!std::path::Path::new("src/web").exists(), "with a web face this test must be rewritten");
}

/// H-16: a plan has no place for a name or a birth date; a client is a code.
#[test]
fn a_plan_has_no_place_for_a_person() {
    let sample = std::fs::read_to_string("config/plans/sample.toml").unwrap();
    for key in ["name", "client_name", "born", "address", "phone"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.toml");
        std::fs::write(&path, format!("{key} = \"Jane Doe\"\n{sample}")).unwrap();
        let problems = check(&Library::open(None), &[path]);
        assert_eq!(problems.len(), 1, "{key}: {}", render(&problems));
        assert!(problems[0].message.contains("unknown key"), "{key}");
    }
}
