//! Interlocks: an open one refuses arming and rising and names itself; losing one lowers output; regaining it raises
//! nothing.

use std::time::Duration;

use doseward::alarm::Cause;
use doseward::governor::{Act, Entry, Input, Interlock, Output, RecordHealth, Refusal, StepState, Verdict};
use doseward::model::command::DeviceId;
use doseward::model::plan::ClientCode;
use doseward::model::report::Report;
use doseward::units::Mono;

use crate::support::bench::Bench;
use crate::support::plans::{milliamps, raw, three_steps};

const STIMULATOR: DeviceId = DeviceId(0);

struct Case {
    interlock: Interlock,
    open: fn(&mut Bench),
    close: fn(&mut Bench),
    /// Running output goes to zero within this; `None`: it stays where it is and rises no more.
    down_within: Option<Duration>,
}

fn read_back(bench: &mut Bench, client: &str) {
    bench.act(Act::ReadBack { client: ClientCode::new(client) });
}

const AT_ONCE: Option<Duration> = Some(Duration::from_millis(30));

fn cases() -> [Case; 8] {
    [
        Case {
            interlock: Interlock::ReadBack,
            open: |bench| read_back(bench, "C-2"),
            close: |bench| read_back(bench, "C-1"),
            down_within: AT_ONCE,
        },
        Case {
            interlock: Interlock::GuardPresent,
            open: |bench| drop(bench.input(Input::Guard { present: false })),
            close: |bench| drop(bench.input(Input::Guard { present: true })),
            down_within: AT_ONCE,
        },
        Case {
            interlock: Interlock::GuardHolds,
            open: |bench| drop(bench.input(Input::GuardHolds { device: STIMULATOR, holds: false })),
            close: |bench| drop(bench.input(Input::GuardHolds { device: STIMULATOR, holds: true })),
            down_within: AT_ONCE,
        },
        Case {
            interlock: Interlock::ClockSane,
            open: |bench| drop(bench.input(Input::ClockSane(false))),
            close: |bench| drop(bench.input(Input::ClockSane(true))),
            down_within: None,
        },
        Case {
            interlock: Interlock::RecordDurable,
            open: |bench| drop(bench.input(Input::Record(RecordHealth::Failing))),
            close: |bench| drop(bench.input(Input::Record(RecordHealth::Healthy))),
            down_within: AT_ONCE,
        },
        Case {
            interlock: Interlock::RecordDurable,
            open: |bench| drop(bench.input(Input::Record(RecordHealth::Slow))),
            close: |bench| drop(bench.input(Input::Record(RecordHealth::Healthy))),
            down_within: Some(Duration::from_millis(4_030)),
        },
        Case {
            interlock: Interlock::OperatorPresent,
            open: |bench| {
                bench.operator_here = false;
                bench.input(Input::Unseen);
            },
            close: |bench| {
                bench.operator_here = true;
                let issued = bench.now;
                bench.input(Input::Heartbeat { issued });
            },
            down_within: AT_ONCE,
        },
        Case {
            interlock: Interlock::LinkFresh,
            open: |bench| bench.units[0].silent = true,
            close: |bench| {
                bench.units[0].silent = false;
                bench.tell(0, Report::Alive);
            },
            down_within: Some(Duration::from_millis(1_030)),
        },
    ]
}

fn verdict(bench: &mut Bench, act: Act) -> Option<Verdict> {
    let request = bench.act(act);
    bench.verdict(request)
}

/// SR-04, SR-23, SR-33, SR-34, SR-46, SR-47: nothing is armed while an interlock is open; the refusal names it and is recorded.
#[test]
fn nothing_is_armed_while_an_interlock_is_open() {
    for case in cases() {
        let mut bench = Bench::ready(three_steps());
        bench.idle_answers();
        (case.open)(&mut bench);
        bench.pass(Duration::from_millis(600));
        if case.interlock != Interlock::LinkFresh {
            bench.idle_answers();
        }
        let refused = Refusal::Interlock(case.interlock);
        assert_eq!(verdict(&mut bench, Act::Arm { step: 1 }), Some(Verdict::Refused(refused.clone())));
        let noted = bench
            .entries()
            .any(|(_, entry)| matches!(entry, Entry::Refused { step: Some(1), why, .. } if *why == refused));
        assert!(noted, "{refused} is not on record");
        (case.close)(&mut bench);
        bench.pass(Duration::from_millis(20));
        bench.idle_answers();
        let granted = verdict(&mut bench, Act::Arm { step: 1 });
        assert_eq!(granted, Some(Verdict::Granted { target: None }), "{:?} closed again", case.interlock);
    }
}

/// SR-05, SR-23, SR-33: an interlock that opens in the middle of a rise ends it; closing it again raises nothing.
#[test]
fn losing_an_interlock_lowers_and_regaining_it_raises_nothing() {
    for case in cases() {
        let mut bench = Bench::ready(three_steps());
        bench.arm(1);
        bench.set(1, milliamps(20));
        bench.pass(Duration::from_secs(1));
        let before = bench.governor.snapshot(bench.now).steps[0].setpoint.magnitude();
        assert!((4_000..7_000).contains(&before), "in the middle of the rise: {before} µA");
        (case.open)(&mut bench);
        let opened = bench.now;
        let mut down = None;
        while bench.now.since(opened) < Duration::from_secs(6) {
            bench.pass(Duration::from_millis(10));
            let setpoint = bench.governor.snapshot(bench.now).steps[0].setpoint.magnitude();
            let margin = if case.interlock == Interlock::LinkFresh { 3_000 } else { 0 };
            assert!(setpoint <= before + margin, "{:?}: {setpoint} after {before} µA", case.interlock);
            if down.is_none() && bench.units[0].output.is_empty() {
                down = Some(bench.now.since(opened));
            }
        }
        match case.down_within {
            Some(within) => {
                let took = down.unwrap_or_else(|| panic!("{:?}: output went on", case.interlock));
                assert!(took <= within, "{:?}: down after {took:?}", case.interlock);
            }
            None => assert_eq!(down, None, "{:?} stops nothing", case.interlock),
        }
        let asked = verdict(&mut bench, Act::Set { step: 1, intensity: milliamps(20), reason: None });
        assert!(!matches!(asked, Some(Verdict::Granted { .. })), "{:?}: {asked:?}", case.interlock);
        (case.close)(&mut bench);
        let since = bench.said.len();
        bench.pass(Duration::from_secs(5));
        let drives = bench.said[since..].iter().filter(|said| matches!(said.output, Output::Drive { .. }));
        assert_eq!(drives.count(), 0, "{:?}: regaining it moved output", case.interlock);
    }
}

/// SR-47, H-08: an echo renews up to an age of 1 s, never from the future, and the lease ends 2 s after its issue.
#[test]
fn sr_47_the_lease_runs_from_the_issue_of_a_fresh_echo() {
    let us = Duration::from_micros(1);
    let second = Duration::from_secs(1);
    for (age, renews) in [(Duration::ZERO, true), (second, true), (second + us, false), (2 * second, false)] {
        let mut bench = Bench::ready(three_steps());
        bench.operator_here = false;
        bench.input(Input::Unseen);
        bench.pass(Duration::from_secs(5));
        let issued = bench.now.saturating_sub(age);
        bench.input(Input::Heartbeat { issued });
        let blocked = |bench: &mut Bench| {
            bench.idle_answers();
            verdict(bench, Act::Arm { step: 1 })
                == Some(Verdict::Refused(Refusal::Interlock(Interlock::OperatorPresent)))
        };
        assert_eq!(blocked(&mut bench), !renews, "echo of age {age:?}");
        if renews {
            bench.act(Act::StopStep { step: 1 });
            bench.pass(issued.saturating_add(2 * second - us).since(bench.now));
            assert!(!blocked(&mut bench), "just before the end");
            bench.act(Act::StopStep { step: 1 });
            bench.pass(us);
            assert!(blocked(&mut bench), "at the end");
            let lapsed = bench.now;
            bench.input(Input::Heartbeat { issued: lapsed.saturating_sub(us) });
            assert!(blocked(&mut bench), "an echo from before the lapse");
            bench.input(Input::Heartbeat { issued: lapsed });
            assert!(!blocked(&mut bench), "an echo from the instant of the lapse");
        }
    }
    let mut bench = Bench::ready(three_steps());
    bench.operator_here = false;
    bench.input(Input::Unseen);
    let issued = bench.now.saturating_add(us);
    bench.input(Input::Heartbeat { issued });
    assert_eq!(
        verdict(&mut bench, Act::Arm { step: 1 }),
        Some(Verdict::Refused(Refusal::Interlock(Interlock::OperatorPresent))),
        "an echo from the future"
    );
}

/// SR-23: an answer is fresh up to the suspect time, for each unit by its own.
#[test]
fn sr_23_an_answer_is_fresh_up_to_the_suspect_time() {
    for (device, step, suspect) in [(0usize, 1u8, 500u64), (1, 3, 750)] {
        for (late, expected) in [(0, true), (1, false)] {
            let mut bench = Bench::ready(three_steps());
            bench.tell(device, Report::Alive);
            bench.units[device].silent = true;
            bench.pass(Duration::from_micros(suspect * 1_000 + late));
            let asked = verdict(&mut bench, Act::Arm { step });
            let fresh = asked != Some(Verdict::Refused(Refusal::Interlock(Interlock::LinkFresh)));
            assert_eq!(fresh, expected, "step {step} {suspect} ms and {late} µs: {asked:?}");
        }
    }
}

/// SR-45: a unit that answers, but whose stop after the link came back is not proven, is not armed.
#[test]
fn sr_45_a_unit_whose_stop_is_not_proven_is_not_armed() {
    let mut bench = Bench::ready(three_steps());
    bench.units[1].deaf = true;
    bench.link(1, false);
    bench.link(1, true);
    bench.pass(Duration::from_millis(100));
    bench.idle_answers();
    let device = DeviceId(1);
    assert_eq!(
        verdict(&mut bench, Act::Arm { step: 3 }),
        Some(Verdict::Refused(Refusal::NotProven { device }))
    );
}

/// SR-40: no start below 15 %, a warning below 25 %, each report of a change on record once.
#[test]
fn sr_40_the_battery_blocks_below_15_and_warns_below_25_percent() {
    for (percent, starts, warns) in [(14, false, true), (15, true, true), (24, true, true), (25, true, false)]
    {
        let mut bench = Bench::ready(three_steps());
        for _ in 0..3 {
            bench.tell(1, Report::Battery(percent));
        }
        bench.idle_answers();
        let asked = verdict(&mut bench, Act::Arm { step: 3 });
        let blocked = asked == Some(Verdict::Refused(Refusal::Interlock(Interlock::Battery)));
        assert_eq!(blocked, !starts, "{percent} %: {asked:?}");
        let snapshot = bench.governor.snapshot(bench.now);
        assert_eq!(snapshot.alarms.iter().any(|alarm| alarm.cause == Cause::Battery), warns, "{percent} %");
        assert_eq!(snapshot.units[1].battery, Some(percent));
        let noted = bench.entries().filter(|(_, entry)| matches!(entry, Entry::Battery { .. })).count();
        assert_eq!(noted, 1, "{percent} %");
        // The warning leaves when it was seen and the battery is charged.
        bench.act(Act::AcknowledgeAlarms);
        let still =
            bench.governor.snapshot(bench.now).alarms.iter().any(|alarm| alarm.cause == Cause::Battery);
        assert_eq!(still, warns, "{percent} %: seen, not charged");
        bench.tell(1, Report::Battery(25));
        bench.act(Act::AcknowledgeAlarms);
        let still =
            bench.governor.snapshot(bench.now).alarms.iter().any(|alarm| alarm.cause == Cause::Battery);
        assert!(!still, "{percent} %: charged and seen");
    }
}

/// SR-44: what asks for the impossible is told so and moves nothing.
#[test]
fn requests_that_do_not_fit_the_state_are_refused_in_words() {
    type Prepare = fn(&mut Bench);
    let set = |step, intensity| Act::Set { step, intensity, reason: None };
    let armed: Prepare = |bench| bench.arm(1);
    let running: Prepare = |bench| {
        bench.arm(1);
        bench.set(1, milliamps(5));
        bench.pass(Duration::from_secs(2));
    };
    let held: Prepare = |bench| {
        bench.arm(1);
        bench.act(Act::Hold { step: 1 });
        bench.pass(Duration::from_millis(50));
        bench.idle_answers();
    };
    let arming: Prepare = |bench| {
        bench.idle_answers();
        bench.act(Act::Arm { step: 1 });
    };
    let finishing: Prepare = |bench| {
        bench.arm(1);
        bench.set(1, milliamps(5));
        bench.pass(Duration::from_secs(2));
        bench.act(Act::Finish { step: 1 });
    };
    let nothing: Prepare = |_| {};
    for (prepare, act, expected) in [
        (nothing, set(1, milliamps(5)), "Arm the step first."),
        (nothing, Act::Hold { step: 1 }, "The step gives no output."),
        (nothing, Act::Resume { step: 1 }, "The step is not held."),
        (nothing, Act::Arm { step: 9 }, "The plan has no step 9."),
        (armed, Act::Arm { step: 1 }, "The step is already in use."),
        (armed, Act::Resume { step: 1 }, "The step is not held."),
        (armed, set(1, raw(1_200)), "This unit takes another kind of intensity."),
        (armed, Act::OperatorLimit { step: 1, limit: Some(raw(1_200)) }, "another kind of intensity"),
        (running, Act::Arm { step: 1 }, "The step is already in use."),
        (arming, set(1, milliamps(5)), "The unit is being prepared."),
        (arming, Act::Arm { step: 1 }, "The step is already in use."),
        (held, set(1, milliamps(5)), "The step is held. Resume it"),
        (held, Act::Arm { step: 1 }, "The step is held. Resume it"),
        (held, Act::Hold { step: 1 }, "The step gives no output."),
        (finishing, set(1, milliamps(5)), "The step is ending."),
        (finishing, Act::Arm { step: 1 }, "The step is already in use."),
        (nothing, Act::Reset { generation: doseward::model::command::Generation(1) }, "Nothing is stopped"),
        (nothing, Act::StatedStopped { device: STIMULATOR }, "This unit answers; stop it from here."),
        (nothing, Act::StatedStopped { device: DeviceId(7) }, "There is no such unit."),
        (nothing, Act::ReadBack { client: ClientCode::new("C-2") }, "This plan belongs to another client."),
    ] {
        let mut bench = Bench::ready(three_steps());
        prepare(&mut bench);
        let before = bench.governor.snapshot(bench.now).steps[0].clone();
        let asked = verdict(&mut bench, act.clone());
        let Some(Verdict::Refused(why)) = &asked else { panic!("{act:?}: {asked:?}") };
        assert!(why.to_string().contains(expected), "{act:?}: {why}");
        let after = bench.governor.snapshot(bench.now).steps[0].clone();
        assert_eq!((after.state, after.setpoint), (before.state, before.setpoint), "{act:?} moved something");
    }
    let mut bench = Bench::ready(three_steps());
    bench.arm(1);
    assert_eq!(bench.governor.snapshot(bench.now).steps[0].state, StepState::Armed);
    assert!(bench.now > Mono::ORIGIN);
}
