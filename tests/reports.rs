//! What a unit reports ends or lowers output in the same call, with its own reason and alarm; of a unit that is not in use
//! it is only noted.

use std::time::Duration;

use doseward::alarm::{Alarm, Cause};
use doseward::governor::{Act, Entry, ForGuard, Input, Output, StepState, StopView, Verdict};
use doseward::model::command::{Channel, Command, CommandId, DeviceId, Generation};
use doseward::model::dose::Evidence;
use doseward::model::report::{EpochEnd, OwnButton, Report, StopProgress};
use doseward::model::session::StopReason;

use crate::support::bench::Bench;
use crate::support::plans::{level, milliamps, raw, three_steps, two_modes};

struct Fault {
    report: fn(&Bench) -> Report,
    reason: StopReason,
    cause: Cause,
    channel: Option<Channel>,
    /// What was given since the last answer is in doubt.
    doubt: bool,
    /// Noted in words as well.
    noted: Option<&'static str>,
}

const fn fault(
    report: fn(&Bench) -> Report,
    (reason, cause): (StopReason, Cause),
    channel: Option<Channel>,
    doubt: bool,
    noted: Option<&'static str>,
) -> Fault {
    Fault { report, reason, cause, channel, doubt, noted }
}

fn ended(bench: &Bench, cause: EpochEnd) -> Report {
    Report::EpochEnded { epoch: bench.epoch(0), cause }
}

fn faults() -> [Fault; 15] {
    const LEAD: (StopReason, Cause) = (StopReason::LeadOff, Cause::LeadOff);
    const DEVICE: (StopReason, Cause) = (StopReason::DeviceFault, Cause::DeviceFault);
    const LINK: (StopReason, Cause) = (StopReason::LinkLost, Cause::LinkLost);
    const GONE: (StopReason, Cause) = (StopReason::HeartbeatLost, Cause::OperatorGone);
    let first = Some(Channel(0));
    [
        fault(|bench| ended(bench, EpochEnd::LeadOff(Channel(0))), LEAD, first, false, None),
        fault(|bench| ended(bench, EpochEnd::PulseError(Channel(0))), DEVICE, first, false, None),
        fault(|bench| ended(bench, EpochEnd::Result(7)), DEVICE, None, false, None),
        fault(|bench| ended(bench, EpochEnd::UnexpectedStatus), DEVICE, None, false, None),
        fault(|bench| ended(bench, EpochEnd::LostAcknowledgement), LINK, None, true, None),
        fault(|bench| ended(bench, EpochEnd::KeepAliveLost), LINK, None, true, None),
        fault(|bench| ended(bench, EpochEnd::Disconnected), LINK, None, true, None),
        fault(
            |bench| ended(bench, EpochEnd::Stopped),
            (StopReason::EpochEnded, Cause::DeviceFault),
            None,
            false,
            None,
        ),
        fault(|bench| ended(bench, EpochEnd::LeaseEnded), GONE, None, false, None),
        fault(
            |_| Report::Unacknowledged { id: CommandId(3) },
            LINK,
            None,
            true,
            Some("command 3 was not acknowledged"),
        ),
        fault(
            |_| Report::Refused { id: CommandId(4), why: "it is off the grid" },
            DEVICE,
            None,
            false,
            Some("command 4 was not sent: it is off the grid"),
        ),
        fault(|_| Report::LeaseEnded, GONE, None, false, Some("the lease ended")),
        fault(|_| Report::DroppedLate, DEVICE, None, false, Some("dropped because it was late")),
        fault(
            |_| Report::Clamped { asked: milliamps(41), sent: milliamps(40) },
            (StopReason::LimitViolation, Cause::Defect),
            None,
            false,
            Some("the last barrier cut 41 mA to 40 mA"),
        ),
        fault(
            |_| Report::Unusable { why: "it is another unit".to_owned() },
            DEVICE,
            None,
            false,
            Some("it is another unit"),
        ),
    ]
}

/// SR-22, SR-24, SR-41, H-12: each fault stops the unit in the same call, ends its step for its own reason, raises its own
/// alarm, and leaves what is in doubt in doubt.
#[test]
fn sr_41_each_fault_of_a_running_unit_stops_it_in_the_same_call() {
    for Fault { report, reason, cause, channel, doubt, noted } in faults() {
        let mut bench = Bench::ready(three_steps());
        bench.arm(1);
        bench.set(1, milliamps(5));
        bench.pass(Duration::from_secs(2));
        let report = report(&bench);
        let before = bench.said.len();
        bench.tell(0, report.clone());
        let said: Vec<&Output> = bench.said[before..].iter().map(|said| &said.output).collect();
        let stops =
            said.iter().filter(|output| matches!(output, Output::Stop { device: DeviceId(0), .. })).count();
        assert_eq!(stops, 1, "{report:?}: one stop of the unit");
        let raises = said.iter().any(|output| matches!(output, Output::Drive { .. } | Output::Renew { .. }));
        assert!(!raises, "{report:?}: {said:?}");
        let snapshot = bench.governor.snapshot(bench.now);
        assert_eq!(snapshot.steps[0].state, StepState::Ended(reason), "{report:?}");
        assert_eq!(snapshot.steps[0].uncertain, doubt, "{report:?}");
        let alarm = Alarm { cause, device: Some(DeviceId(0)), channel };
        assert!(snapshot.alarms.contains(&alarm), "{report:?}: {:?}", snapshot.alarms);
        let doubted = Alarm { cause: Cause::Uncertain, device: Some(DeviceId(0)), channel: Some(Channel(0)) };
        assert_eq!(snapshot.alarms.contains(&doubted), doubt, "{report:?}");
        let words: Vec<&str> = bench
            .entries()
            .filter_map(|(_, entry)| match entry {
                Entry::Anomaly { what, .. } => Some(what.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(words.len(), usize::from(noted.is_some()), "{report:?}: {words:?}");
        assert!(noted.is_none_or(|noted| words[0].contains(noted)), "{report:?}: {words:?}");
        let of_epoch = bench.entries().any(|(_, entry)| matches!(entry, Entry::EpochEnded { .. }));
        assert_eq!(of_epoch, matches!(report, Report::EpochEnded { .. }), "{report:?}");
        bench.pass(Duration::from_millis(20));
        assert!(bench.units[0].output.is_empty(), "{report:?}");
    }
}

/// The same of a unit that is not in use: nothing is stopped, no alarm; and an old epoch's end ends nothing.
#[test]
fn a_fault_of_a_unit_that_is_not_in_use_is_only_noted() {
    for Fault { report, noted, .. } in faults() {
        let mut bench = Bench::ready(three_steps());
        bench.arm(3);
        bench.set(3, raw(1_200));
        bench.pass(Duration::from_secs(2));
        let (report, before) = (report(&bench), bench.said.len());
        bench.tell(0, report.clone());
        let acts = bench.said[before..].iter().any(|said| {
            matches!(said.output, Output::Stop { .. } | Output::Drive { .. } | Output::Alarm { .. })
        });
        assert!(!acts, "{report:?}");
        let words = bench.entries().filter(|(_, entry)| matches!(entry, Entry::Anomaly { .. })).count();
        assert_eq!(words, usize::from(noted.is_some()), "{report:?}");
        assert!(!bench.units[1].output.is_empty(), "the other unit goes on");
    }
    let mut bench = Bench::ready(three_steps());
    bench.arm(1);
    let old = bench.epoch(0);
    bench.act(Act::StopStep { step: 1 });
    bench.pass(Duration::from_millis(50));
    bench.arm(1);
    bench.set(1, milliamps(5));
    bench.pass(Duration::from_secs(2));
    bench.tell(0, Report::EpochEnded { epoch: old, cause: EpochEnd::LeadOff(Channel(0)) });
    assert!(!bench.units[0].output.is_empty(), "the end of an old epoch ends nothing");
    bench.tell(0, Report::Ready { epoch: old });
    assert_eq!(bench.governor.snapshot(bench.now).steps[0].state, StepState::Running);
    // Nobody has this unit.
    let before = bench.said.len();
    bench.tell(7, Report::LeaseEnded);
    assert_eq!(bench.said.len(), before, "a unit that is not in the plan says nothing");
}

/// A unit that cannot be driven stays so: it is not armed again, and the refusal says why.
#[test]
fn sr_29_a_unit_that_cannot_be_driven_is_not_armed_again() {
    let mut bench = Bench::ready(three_steps());
    bench.tell(0, Report::Unusable { why: "it is another unit".to_owned() });
    bench.idle_answers();
    let request = bench.act(Act::Arm { step: 1 });
    let Some(Verdict::Refused(why)) = bench.verdict(request) else { panic!("it was armed") };
    assert_eq!(why.to_string(), "The unit cannot be driven: it is another unit.");
}

/// Noise is noted at 1, 2, 4, 8 … answers that were not understood: it is counted and floods no record.
#[test]
fn noise_is_counted_and_floods_no_record() {
    let mut bench = Bench::ready(three_steps());
    for _ in 0..100 {
        bench.tell(0, Report::Unintelligible { why: "a checksum is wrong" });
    }
    let words: Vec<String> = bench
        .entries()
        .filter_map(|(_, entry)| match entry {
            Entry::Anomaly { what, .. } => Some(what.clone()),
            _ => None,
        })
        .collect();
    let expected: Vec<String> = [1, 2, 4, 8, 16, 32, 64]
        .iter()
        .map(|count| format!("answers that were not understood so far: {count} (a checksum is wrong)"))
        .collect();
    assert_eq!(words, expected);
}

/// SR-24, H-12: own buttons. A start or a raise is stopped, counted and alarmed; a stop ends the step; less is the new value.
#[test]
fn sr_24_own_buttons_stop_count_and_alarm() {
    let running = |plan: fn() -> doseward::model::plan::Plan, to| {
        let mut bench = Bench::ready(plan());
        bench.arm(3);
        bench.set(3, to);
        bench.pass(Duration::from_secs(8));
        bench
    };
    for (plan, to, raised, lowered) in [
        (three_steps as fn() -> _, raw(1_800), raw(2_600), raw(1_200)),
        (two_modes as fn() -> _, level(3), level(4), level(2)),
    ] {
        for (button, reason, cause) in [
            (OwnButton::Stopped, StopReason::StoppedAtDevice, Cause::StoppedAtDevice),
            (OwnButton::Raised(raised), StopReason::LimitViolation, Cause::RaisedAtDevice),
        ] {
            let mut bench = running(plan, to);
            let before = bench.said.len();
            bench.own_button(1, button);
            let stopped = bench.said[before..].iter().any(|said| matches!(said.output, Output::Stop { .. }));
            assert!(stopped, "{button:?}");
            let snapshot = bench.governor.snapshot(bench.now);
            assert_eq!(snapshot.steps[2].state, StepState::Ended(reason), "{button:?}");
            assert!(snapshot.alarms.iter().any(|alarm| alarm.cause == cause), "{button:?}");
            assert!(
                bench
                    .entries()
                    .any(|(_, entry)| matches!(entry, Entry::OwnButton { what, .. } if *what == button))
            );
        }
        let mut bench = running(plan, to);
        bench.own_button(1, OwnButton::Lowered(lowered));
        let snapshot = bench.governor.snapshot(bench.now);
        assert_eq!(snapshot.steps[2].state, StepState::Running);
        assert_eq!((snapshot.steps[2].setpoint, snapshot.steps[2].asked), (lowered, lowered));
        // More than is in force is not "lowered": nothing rises by it.
        bench.tell(1, Report::OwnButton(OwnButton::Lowered(to)));
        bench.pass(Duration::from_secs(5));
        assert_eq!(bench.governor.snapshot(bench.now).steps[2].setpoint, lowered);
    }
    let mut bench = Bench::ready(three_steps());
    bench.pass(Duration::from_secs(1));
    bench.own_button(1, OwnButton::Started(raw(1_500)));
    assert!(
        bench
            .said
            .iter()
            .rev()
            .take(20)
            .any(|said| matches!(said.output, Output::Stop { device: DeviceId(1), .. }))
    );
    let snapshot = bench.governor.snapshot(bench.now);
    assert!(snapshot.alarms.iter().any(|alarm| alarm.cause == Cause::StartedAtDevice));
    bench.pass(Duration::from_secs(1));
    bench.close();
    let booked: u64 = bench
        .entries()
        .filter_map(|(_, entry)| match entry {
            Entry::Dose(dose) => Some(dose.on_us.1),
            _ => None,
        })
        .sum();
    assert!((1_000_000..5_000_000).contains(&booked), "its own start is counted: {booked} µs");
}

/// SR-45, H-07: how far the newest stop is: asked, written, proven in so long; no other generation counts, and one second
/// without a proof is a high alarm until it is proven or stated.
#[test]
fn sr_45_a_stop_is_followed_until_it_is_proven() {
    let stop = |generation, progress| Report::Stop { generation, progress, after: Duration::from_millis(40) };
    let mut bench = Bench::ready(three_steps());
    let view = |bench: &Bench| bench.governor.snapshot(bench.now).units[0].stop;
    bench.arm(1);
    bench.set(1, milliamps(5));
    bench.pass(Duration::from_secs(2));
    bench.units[0].deaf = true;
    bench.act(Act::StopStep { step: 1 });
    let newest = bench.governor.generation(DeviceId(0));
    assert_eq!(view(&bench), StopView::Asked);
    bench.tell(0, stop(Generation(newest.0 - 1), StopProgress::Confirmed));
    bench.tell(0, stop(Generation(newest.0 + 1), StopProgress::Confirmed));
    assert_eq!(view(&bench), StopView::Asked, "another stop's proof proves nothing");
    bench.tell(0, stop(newest, StopProgress::Written));
    assert_eq!(view(&bench), StopView::Written);
    bench.pass(Duration::from_millis(998));
    assert_eq!(view(&bench), StopView::Written);
    let alarm = Alarm { cause: Cause::StopUnconfirmed, device: Some(DeviceId(0)), channel: None };
    bench.pass(Duration::from_millis(3));
    assert_eq!(view(&bench), StopView::Unconfirmed);
    assert_eq!(bench.governor.snapshot(bench.now).alarms.first(), Some(&alarm), "the highest comes first");
    assert!(bench.governor.snapshot(bench.now).steps[0].uncertain);
    bench.tell(0, stop(newest, StopProgress::Written));
    assert_eq!(view(&bench), StopView::Unconfirmed, "written again is not proven");
    bench.act(Act::AcknowledgeAlarms);
    assert!(bench.governor.snapshot(bench.now).alarms.contains(&alarm), "seen is not solved");
    bench.act(Act::StatedStopped { device: DeviceId(0) });
    assert_eq!(view(&bench), StopView::Stated);
    bench.tell(0, stop(newest, StopProgress::Unconfirmed));
    assert_eq!(view(&bench), StopView::Stated, "stated stands until the unit answers");
    bench.tell(0, stop(newest, StopProgress::Confirmed));
    assert_eq!(view(&bench), StopView::Confirmed(Duration::from_millis(40)));
    bench.tell(0, stop(newest, StopProgress::Unconfirmed));
    assert_eq!(view(&bench), StopView::Confirmed(Duration::from_millis(40)));
    bench.act(Act::AcknowledgeAlarms);
    assert!(!bench.governor.snapshot(bench.now).alarms.contains(&alarm));
}

/// SR-42: from its first link on the guard hears of a unit whose stop is not proven, with signs of life; what a person
/// states is told as that, and only the unit's own proof as a proof.
#[test]
fn sr_42_the_guard_hears_of_every_stop_until_it_is_proven() {
    let gun = DeviceId(1);
    let mut bench = Bench::bare(three_steps());
    bench.input(Input::Guard { present: true });
    bench.units[1].deaf = true;
    bench.link(1, true);
    bench.pass(Duration::from_secs(3));
    let told = |bench: &mut Bench| -> Vec<ForGuard> {
        let told = bench.said.drain(..).filter_map(|said| match said.output {
            Output::Guard(told) => Some(told),
            _ => None,
        });
        told.collect()
    };
    let first = told(&mut bench);
    assert_eq!(first[..2], [ForGuard::Hold { device: gun }, ForGuard::Stopping { device: gun }]);
    assert!(first[2..].iter().all(|told| *told == ForGuard::Beat) && first.len() > 29, "{first:?}");
    bench.act(Act::StatedStopped { device: gun });
    bench.pass(Duration::from_secs(3));
    assert_eq!(told(&mut bench), [ForGuard::Released { device: gun, proven: false }]);
    bench.stop_all();
    bench.pass(Duration::from_millis(250));
    let again = told(&mut bench);
    assert!(
        again.contains(&ForGuard::Stopping { device: gun }) && again.contains(&ForGuard::Beat),
        "{again:?}"
    );
    let generation = bench.governor.generation(gun);
    let (progress, after) = (StopProgress::Confirmed, Duration::from_millis(40));
    bench.tell(1, Report::Stop { generation, progress, after });
    bench.pass(Duration::from_secs(3));
    let proven = told(&mut bench);
    assert_eq!(proven, [ForGuard::Released { device: gun, proven: true }]);
}

/// SR-41: a word of an epoch that is over arms nothing in the next.
#[test]
fn sr_41_a_late_ready_of_an_earlier_epoch_arms_nothing() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(1);
    let epoch = bench.epoch(0);
    bench.act(Act::StopStep { step: 1 });
    bench.pass(Duration::from_secs(1));
    bench.idle_answers();
    bench.units[0].silent = true;
    bench.act(Act::Arm { step: 1 });
    bench.pass(Duration::from_millis(20));
    bench.tell(0, Report::Ready { epoch });
    assert_eq!(bench.governor.snapshot(bench.now).steps[0].state, StepState::Arming);
}

/// SR-45: the link is on record when it changes; what comes back is stopped first, and a word that a stop was written takes
/// no proof away.
#[test]
fn sr_45_a_link_that_comes_back_is_stopped_and_proven_anew() {
    let mut bench = Bench::ready(three_steps());
    let stop = |bench: &Bench| bench.governor.snapshot(bench.now).units[1].stop;
    let links =
        |bench: &Bench| bench.entries().filter(|(_, entry)| matches!(entry, Entry::Link { .. })).count();
    bench.pass(Duration::from_secs(5));
    bench.said.clear();
    bench.link(1, false);
    let guarded = bench.said.iter().any(|said| matches!(said.output, Output::Guard(ForGuard::Hold { .. })));
    assert!(!guarded, "there is no way to it");
    bench.input(Input::Link { device: DeviceId(1), up: false });
    assert_eq!(links(&bench), 1);
    assert_eq!(bench.governor.snapshot(bench.now).alarms, [], "nothing was in use");
    bench.units[1].deaf = true;
    bench.link(1, true);
    assert_eq!((links(&bench), stop(&bench)), (2, StopView::Asked));
    bench.pass(Duration::from_millis(500));
    assert_eq!(stop(&bench), StopView::Asked, "its time runs from here");
    let generation = bench.governor.generation(DeviceId(1));
    let after = Duration::from_millis(40);
    for (progress, view) in [
        (StopProgress::Written, StopView::Written),
        (StopProgress::Confirmed, StopView::Confirmed(after)),
        (StopProgress::Written, StopView::Confirmed(after)),
    ] {
        bench.tell(1, Report::Stop { generation, progress, after });
        assert_eq!(stop(&bench), view);
    }
}

/// SR-43: what a unit gives that is stopped again after a long silence is in doubt at once, not when the proof is late.
#[test]
fn sr_43_a_stop_after_a_long_silence_is_doubt_at_once() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(3);
    bench.set(3, raw(1_200));
    bench.pass(Duration::from_secs(3));
    (bench.units[1].silent, bench.units[1].deaf) = (true, true);
    bench.pass(Duration::from_millis(2_500));
    let uncertain = |bench: &Bench| bench.governor.snapshot(bench.now).steps[2].uncertain;
    bench.act(Act::StopStep { step: 3 });
    assert!(!uncertain(&bench));
    bench.pass(Duration::from_millis(800));
    bench.stop_all();
    assert!(uncertain(&bench));
}

/// SR-43: a gun that somebody started counts at its top until its stop is proven, whatever it reports on its way up,
/// in one dose that begins where it was last seen at zero.
#[test]
fn sr_43_a_gun_that_a_hand_started_counts_at_its_top_until_it_stopped() {
    for on_its_way in [0, 900, 1_800] {
        let mut bench = Bench::ready(three_steps());
        bench.pass(Duration::from_secs(1));
        bench.units[1].deaf = true;
        bench.own_button(1, OwnButton::Started(raw(600)));
        for _ in 0..5 {
            bench.pass(Duration::from_millis(100));
            let intensity = Some(raw(on_its_way));
            bench.tell(1, Report::Measured { channel: Channel(0), running: true, intensity });
        }
        let generation = bench.governor.generation(DeviceId(1));
        let (progress, after) = (StopProgress::Confirmed, Duration::from_millis(500));
        bench.tell(1, Report::Stop { generation, progress, after });
        bench.pass(Duration::from_secs(2));
        let doses = bench.entries().filter_map(|(_, entry)| match entry {
            Entry::Dose(dose) => Some((dose.from, dose.until, dose.upper.intensity())),
            _ => None,
        });
        let doses: Vec<_> = doses.collect();
        assert!(doses.iter().all(|dose| dose.2 == raw(3_616)), "{on_its_way}: {doses:?}");
        assert!(
            doses.windows(2).all(|pair| pair[0].1 <= pair[1].0),
            "{on_its_way}: no time twice: {doses:?}"
        );
    }
}

/// SR-43: what a report shows for the first time counts since it may have begun, whether the speed or the button is told first:
/// since the last report of standstill, or, of more than before, since the answer before.
#[test]
fn sr_43_what_a_report_shows_counts_since_it_may_have_begun() {
    let says = |bench: &mut Bench, speed: u16| {
        bench.tell(1, Report::Alive);
        let intensity = Some(raw(speed));
        bench.tell(1, Report::Measured { channel: Channel(0), running: speed > 0, intensity });
    };
    for (before, by_hand) in [(0, false), (0, true), (1_000, false)] {
        let mut plan = three_steps();
        plan.steps[2].start_at_device = by_hand;
        let mut bench = Bench::ready(plan);
        bench.arm(3);
        if before > 0 {
            bench.set(3, raw(before));
        }
        bench.pass(Duration::from_millis(1_600));
        says(&mut bench, before);
        let last = bench.now;
        bench.units[1].silent = true;
        bench.pass(Duration::from_millis(2_500));
        bench.units[1].silent = false;
        says(&mut bench, 1_500);
        let button = if before > 0 { OwnButton::Raised(raw(1_500)) } else { OwnButton::Started(raw(1_500)) };
        bench.tell(1, Report::OwnButton(button));
        bench.act(Act::StopStep { step: 3 });
        bench.pass(Duration::from_secs(3));
        let raised = bench.entries().find_map(|(_, entry)| match entry {
            Entry::Dose(dose) if dose.upper.intensity().magnitude() > 1_000 => Some(dose.from),
            _ => None,
        });
        assert!(raised.is_some_and(|from| from <= last), "{before} {by_hand}: {raised:?}, {last:?}");
    }
}

/// SR-24: a channel that ended while it gave more than told asks for no stop again and again.
#[test]
fn sr_24_a_channel_that_ended_beside_another_is_compared_no_more() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(1);
    bench.arm(2);
    bench.set(1, milliamps(5));
    bench.pass(Duration::from_secs(2));
    let intensity = Some(milliamps(3));
    bench.tell(0, Report::Measured { channel: Channel(1), running: true, intensity });
    bench.act(Act::Finish { step: 2 });
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.governor.snapshot(bench.now).steps[0].state, StepState::Running);
}

/// SR-43: a report from before a decrease was obeyed settles nothing: without its acknowledgement the higher speed counts.
#[test]
fn sr_43_a_report_from_before_a_decrease_settles_nothing() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(3);
    bench.set(3, raw(2_000));
    bench.pass(Duration::from_secs(3));
    bench.units[1].deaf = true;
    bench.act(Act::Set { step: 3, intensity: raw(1_600), reason: None });
    let told = bench.now;
    bench.tell(1, Report::Measured { channel: Channel(0), running: true, intensity: Some(raw(1_550)) });
    bench.pass(Duration::from_millis(400));
    bench.act(Act::StopStep { step: 3 });
    bench.pass(Duration::from_secs(3));
    let doses = bench.entries().filter_map(|(_, entry)| match entry {
        Entry::Dose(dose) if dose.until > told => Some(dose.upper.intensity()),
        _ => None,
    });
    let doses: Vec<_> = doses.collect();
    assert!(doses.iter().all(|upper| *upper == raw(2_000)), "{doses:?}");
}

/// SR-24: whoever presses STOP again and again does not put off the alarm that a stop is not proven.
#[test]
fn sr_24_stop_pressed_again_puts_off_no_alarm() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(3);
    bench.set(3, raw(1_200));
    bench.pass(Duration::from_secs(3));
    bench.units[1].deaf = true;
    for _ in 0..3 {
        bench.stop_all();
        bench.pass(Duration::from_millis(400));
    }
    let alarms = bench.governor.snapshot(bench.now).alarms;
    let unconfirmed = alarms.iter().any(|alarm| alarm.cause == Cause::StopUnconfirmed);
    assert!(unconfirmed, "{alarms:?}");
}

/// SR-43: a link that comes up twice was lost in between: what was in use is stopped, and nothing goes on over it.
#[test]
fn sr_43_a_link_that_comes_up_twice_was_lost_in_between() {
    for armed in [false, true] {
        let mut bench = Bench::ready(three_steps());
        bench.idle_answers();
        bench.act(Act::Arm { step: 1 });
        if armed {
            bench.pass(Duration::from_millis(50));
            bench.set(1, milliamps(5));
            bench.pass(Duration::from_secs(2));
        }
        bench.link(0, true);
        assert_eq!(bench.governor.snapshot(bench.now).steps[0].state, StepState::Ended(StopReason::LinkLost));
        bench.pass(Duration::from_secs(3));
        assert!(bench.units[0].output.is_empty());
        bench.close();
        crate::support::laws::law_7(&bench);
    }
}

/// SR-24: a stop that was ordered before a unit's first link is to be proven within a second of that link.
#[test]
fn sr_24_the_time_of_a_proof_runs_from_the_first_link() {
    let mut bench = Bench::bare(three_steps());
    bench.stop_all();
    bench.pass(Duration::from_secs(5));
    bench.units[1].deaf = true;
    bench.link(1, true);
    let stop = |bench: &Bench| bench.governor.snapshot(bench.now).units[1].stop;
    bench.pass(Duration::from_millis(990));
    assert_eq!(stop(&bench), StopView::Asked);
    bench.pass(Duration::from_millis(20));
    assert_eq!(stop(&bench), StopView::Unconfirmed);
}

/// SR-43: reports of output make it sure; a lower speed of a gun counts from when the gun reports it.
#[test]
fn sr_43_what_is_reported_is_sure_and_a_reported_speed_is_settled() {
    let mut bench = Bench::ready(three_steps());
    for (step, first, then) in [(1, milliamps(2), milliamps(2)), (3, raw(2_000), raw(1_200))] {
        bench.arm(step);
        bench.set(step, first);
        bench.pass(Duration::from_secs(5));
        bench.act(Act::Set { step, intensity: then, reason: None });
        bench.pass(Duration::from_secs(5));
        bench.act(Act::StopStep { step });
        bench.pass(Duration::from_secs(3));
    }
    let doses = |step: u8, upper| -> (u64, u64) {
        let doses = bench.entries().filter_map(|(_, entry)| match entry {
            Entry::Dose(dose) if dose.step == step && dose.upper.intensity() == upper => Some(dose.on_us),
            _ => None,
        });
        doses.fold((0, 0), |sum, dose| (sum.0 + dose.0, sum.1 + dose.1))
    };
    let (least, most) = doses(1, milliamps(2));
    assert!(least > 8_000_000 && most < 11_000_000, "{least} to {most}");
    let (least, most) = doses(3, raw(1_200));
    assert!(least > 4_000_000 && most < 7_000_000, "{least} to {most}");
    let numbers: Vec<_> = bench
        .said
        .iter()
        .filter_map(|said| match &said.output {
            Output::Drive { command, .. } => match command.get() {
                Command::Set { id, .. } => Some(*id),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert!(numbers.len() > 5 && numbers.is_sorted_by(|a, b| a < b), "each has its own: {numbers:?}");
}

/// SR-43: what a gun that is not heard any more gives is counted until it stops, or until its battery is empty.
#[test]
fn sr_43_a_gun_that_is_lost_runs_until_its_battery_is_empty() {
    let plan = three_steps();
    let life = plan.devices[1].capability.battery_life;
    let mut bench = Bench::ready(plan);
    bench.arm(3);
    bench.set(3, raw(1_200));
    bench.pass(Duration::from_secs(3));
    bench.link(1, false);
    bench.pass(life - Duration::from_secs(10));
    let lost = |bench: &Bench| -> Vec<Duration> {
        let doses = bench.entries().filter_map(|(_, entry)| match entry {
            Entry::Dose(dose) if dose.evidence == Evidence::Uncertain => Some(dose.until.since(dose.from)),
            _ => None,
        });
        doses.collect()
    };
    assert_eq!(lost(&bench), []);
    bench.pass(Duration::from_secs(20));
    assert_eq!(lost(&bench), [life]);
    let stated: Vec<_> =
        bench.governor.snapshot(bench.now).unresolved.iter().map(|open| open.stated).collect();
    assert_eq!(stated, [false]);
}

/// SR-42: a guard that comes later is given every linked unit, and hears of those whose stop is not proven.
#[test]
fn sr_42_a_guard_that_comes_later_hears_of_unproven_stops_alone() {
    for deaf in [true, false] {
        let mut bench = Bench::bare(three_steps());
        bench.units[1].deaf = deaf;
        bench.link(1, true);
        bench.pass(Duration::from_secs(1));
        bench.said.clear();
        bench.input(Input::Guard { present: true });
        let told = |told: ForGuard| {
            bench.said.iter().any(|said| matches!(&said.output, Output::Guard(it) if *it == told))
        };
        let device = DeviceId(1);
        assert!(told(ForGuard::Hold { device }));
        assert_eq!(told(ForGuard::Stopping { device }), deaf);
    }
}

/// SR-42: a guard that did not find the way to a unit is asked again each second, as long as unit and guard are there.
#[test]
fn sr_42_a_guard_that_cannot_reach_a_unit_is_asked_again() {
    let device = DeviceId(1);
    let mut bench = Bench::ready(three_steps());
    let asked = |bench: &mut Bench, span: Duration| {
        bench.said.clear();
        bench.pass(span);
        bench.said.iter().filter(|said| said.output == Output::Guard(ForGuard::Hold { device })).count()
    };
    assert_eq!(asked(&mut bench, Duration::from_secs(5)), 0, "it holds it");
    bench.input(Input::GuardHolds { device, holds: false });
    assert_eq!(asked(&mut bench, Duration::from_micros(999_999)), 0);
    assert_eq!(asked(&mut bench, Duration::from_micros(1)), 1);
    bench.pass(Duration::from_secs(1));
    bench.idle_answers();
    bench.arm(3);
    bench.act(Act::StopStep { step: 3 });
    bench.pass(Duration::from_secs(2));
    bench.input(Input::GuardHolds { device, holds: false });
    bench.link(1, false);
    assert_eq!(asked(&mut bench, Duration::from_secs(5)), 0, "there is no way to it");
}

/// SR-42: a unit says once more, while it is being prepared, that the stop before is proven: it stays with the guard.
#[test]
fn sr_42_a_second_proof_while_preparing_does_not_release_the_unit() {
    let mut bench = Bench::ready(three_steps());
    bench.idle_answers();
    bench.act(Act::Arm { step: 1 });
    let generation = bench.governor.generation(DeviceId(0));
    let after = Duration::from_millis(40);
    bench.tell(0, Report::Stop { generation, progress: StopProgress::Confirmed, after });
    bench.pass(Duration::from_millis(50));
    bench.set(1, milliamps(5));
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.units[0].output.len(), 1);
    let told: Vec<ForGuard> = bench
        .said
        .iter()
        .filter_map(|said| match said.output {
            Output::Guard(told) => Some(told),
            _ => None,
        })
        .collect();
    let armed = told.iter().rposition(|told| *told == ForGuard::Armed { device: DeviceId(0) }).unwrap();
    let since = told.get(armed..).unwrap();
    assert!(!since.contains(&ForGuard::Released { device: DeviceId(0), proven: true }));
    let beats = since.iter().filter(|told| **told == ForGuard::Beat).count();
    assert!(beats > 15, "{beats} signs of life in 2 s with output on");
}

/// A channel that is finished while its unit is being prepared gives nothing: no order goes to a driver that must refuse it.
#[test]
fn a_finish_while_preparing_orders_nothing() {
    let mut bench = Bench::ready(three_steps());
    bench.idle_answers();
    bench.act(Act::Arm { step: 1 });
    bench.act(Act::Arm { step: 2 });
    let since = bench.said.len();
    bench.act(Act::Finish { step: 1 });
    assert!(!bench.said.iter().skip(since).any(|said| matches!(said.output, Output::Drive { .. })));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.governor.snapshot(bench.now).steps[1].state, StepState::Armed, "the other goes on");
}

/// SR-43: a gun acknowledges a lower speed while rises are unanswered: the motor falls from what it was told.
#[test]
fn sr_43_a_motor_that_was_told_more_is_not_down_by_an_acknowledgement() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(3);
    bench.set(3, raw(1_200));
    bench.pass(Duration::from_secs(2));
    bench.units[1].silent = true;
    bench.act(Act::Set { step: 3, intensity: raw(1_800), reason: None });
    bench.pass(Duration::from_millis(450));
    let told = bench.governor.snapshot(bench.now).steps[2].setpoint.magnitude();
    assert!(told >= 1_400, "{told}");
    bench.units[1].silent = false;
    let since = bench.said.len();
    bench.act(Act::Set { step: 3, intensity: raw(1_260), reason: None });
    bench.pass(Duration::from_millis(15));
    let mut rows = bench.said.iter().skip(since).filter_map(|said| match &said.output {
        Output::Progress(dose) => Some(dose.upper.intensity().magnitude()),
        _ => None,
    });
    assert!(rows.next_back().is_none_or(|upper| upper >= told), "told {told}");
}
