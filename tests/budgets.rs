//! Time budgets over bouts, channels, devices, doubt, declared doses and restarts (SR-12, SR-13, SR-25, SR-43).

use std::time::Duration;

use doseward::governor::{Act, Entry, Input, Refusal, Resolution, Verdict};
use doseward::model::area::{AreaCode, Place, Side};
use doseward::model::budget::{Budget, Declared, DoseRef, Earlier, OpenDose, Spent};
use doseward::model::command::{Channel, DeviceId};
use doseward::model::dose::{Dose, DoseId};
use doseward::model::limit::{LimitOwner, Limits};
use doseward::model::plan::{Plan, Step};
use doseward::model::protocol::Modality;
use doseward::model::session::{SessionId, StopReason};
use doseward::units::RawSpeed;

use crate::support::bench::Bench;
use crate::support::laws::{check_log, law_7};
use crate::support::plans::{milliamps, raw, three_steps};

/// Two stimulator channels on the left calf (steps 1, 2), and two guns on the right calf (steps 3, 4).
fn plan() -> Plan {
    let mut plan = three_steps();
    let mut second = plan.devices[1].clone();
    second.label = "Gun 2".to_owned();
    plan.devices.push(second);
    let mut beside = plan.steps[0].clone();
    (beside.number, beside.channel) = (2, Channel(1));
    plan.steps[1] = beside;
    plan.steps[2].duration = Duration::from_secs(300);
    let mut other = plan.steps[2].clone();
    (other.number, other.device) = (4, DeviceId(2));
    plan.steps.push(other);
    plan.together = vec![(1, 2)];
    plan.beside.clear();
    for step in &mut plan.steps[..2] {
        step.duration = Duration::from_secs(3_600);
        step.chain.get_mut(LimitOwner::Site).limits.area_time = Some(Duration::from_secs(60));
    }
    plan
}

fn calf() -> Place {
    Place { area: AreaCode::new("calf"), side: Side::Right }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What happens to percussion of the right calf before it is run to its end.
#[derive(Clone, Copy, Debug)]
enum Bout {
    /// A gun runs for so long and is stopped.
    Stop(u8, u64),
    /// A gun runs for so long, is held for a minute and resumed, and runs for so long again.
    Hold(u8, u64, u64),
    /// A gun runs for so long and is then not heard for so long; a person accepts the upper bound.
    Unheard(u8, u64, u64),
    /// The same, and a person resolves it to this much.
    Resolved(u8, u64, u64, u64),
    /// Somebody starts the gun at its own button for so long.
    OwnStart(u8, u64),
}

/// Gives one bout; returns what of it counts though the gun did not give it: stop tails, and doubt.
fn give(bench: &mut Bench, bout: Bout) {
    let start = |bench: &mut Bench, step: u8| {
        bench.arm(step);
        let verdict = bench.set(step, raw(1_200));
        assert!(matches!(verdict, Verdict::Granted { .. }), "{bout:?}: {verdict:?}");
    };
    let stop = |bench: &mut Bench, step: u8| {
        bench.act(Act::StopStep { step });
        bench.pass(seconds(2));
    };
    match bout {
        Bout::Stop(step, span) => {
            start(bench, step);
            bench.pass(seconds(span));
            stop(bench, step);
        }
        Bout::Hold(step, span, again) => {
            start(bench, step);
            bench.pass(seconds(span));
            bench.act(Act::Hold { step });
            bench.pass(seconds(60));
            bench.idle_answers();
            bench.act(Act::Resume { step });
            bench.pass(seconds(1));
            bench.set(step, raw(1_200));
            bench.pass(seconds(again));
            stop(bench, step);
        }
        Bout::Unheard(step, span, unheard) | Bout::Resolved(step, span, unheard, _) => {
            let device = usize::from(step) - 2;
            start(bench, step);
            bench.pass(seconds(span));
            bench.link(device, false);
            if matches!(bout, Bout::Resolved(..)) {
                // Somebody takes its battery out, and says so later.
                bench.power_off(device);
            }
            bench.pass(seconds(unheard));
            bench.link(device, true);
            bench.pass(seconds(2));
            if let Bout::Resolved(_, _, _, gave) = bout {
                let open = bench.governor.snapshot(bench.now).unresolved.pop().expect("doubt");
                let (shown, reason) = (open.on, "seen to stop".to_owned());
                bench.act(Act::Resolve(Resolution { of: open.of, shown, gave: seconds(gave), reason }));
            }
            bench.resolve_all();
        }
        Bout::OwnStart(step, span) => {
            let device = usize::from(step) - 2;
            bench.idle_answers();
            let at = doseward::model::command::Intensity::Speed(RawSpeed::from_raw(1_500));
            bench.units[device].deaf = true;
            bench.own_button(device, doseward::model::report::OwnButton::Started(at));
            bench.pass(seconds(span));
            bench.units[device].deaf = false;
            bench.stop_all();
            bench.pass(seconds(2));
            let latched = bench.governor.snapshot(bench.now).latched.expect("a latch");
            bench.act(Act::Reset { generation: latched });
            bench.resolve_all();
        }
    }
}

fn area_left(bench: &Bench, step: u8) -> f64 {
    bench.governor.snapshot(bench.now).steps[usize::from(step) - 1].area_left.as_secs_f64()
}

/// SR-12, SR-13, SR-43: twenty histories of one area. Whatever came before, output ends within the rest of the 120 s and
/// uses all of it but the last second; then nothing more can be armed, and the refusal names the budget and its owner.
#[test]
fn sr_12_sr_13_twenty_histories_leave_no_more_than_the_rest_of_an_area() {
    use Bout::{Hold, OwnStart, Resolved, Stop, Unheard};
    let declared = |time: u64, side: Side| {
        let mut spent = Spent::default();
        let place = Place { side, ..calf() };
        spent.declare(Declared { modality: Modality::Percussion, place, time: seconds(time) });
        spent
    };
    let earlier = |time: u64| {
        let mut spent = Spent::default();
        spent.add(Modality::Percussion, &calf(), seconds(time), seconds(600));
        spent.day.insert(Modality::Percussion, seconds(time));
        spent
    };
    let none = Spent::default;
    let histories: [(&str, Spent, &[Bout]); 20] = [
        ("nothing before", none(), &[]),
        ("one bout", none(), &[Stop(3, 40)]),
        ("three bouts", none(), &[Stop(3, 20), Stop(3, 20), Stop(3, 20)]),
        ("ten bouts", none(), &[Stop(3, 5); 10]),
        ("a hold", none(), &[Hold(3, 30, 20)]),
        ("two holds", none(), &[Hold(3, 10, 10), Hold(3, 10, 10)]),
        ("another device", none(), &[Stop(4, 50)]),
        ("both devices in turn", none(), &[Stop(3, 20), Stop(4, 20), Stop(3, 20)]),
        ("unheard", none(), &[Unheard(3, 10, 20)]),
        ("unheard on the other device", none(), &[Unheard(4, 10, 20), Stop(3, 10)]),
        ("unheard twice", none(), &[Unheard(3, 5, 15), Unheard(3, 5, 15)]),
        ("unheard and resolved to less", none(), &[Resolved(3, 10, 40, 5)]),
        ("started at its own button", none(), &[OwnStart(3, 12)]),
        ("own button, then a bout", none(), &[OwnStart(4, 6), Stop(3, 20)]),
        ("declared elsewhere", declared(60, Side::Right), &[]),
        ("declared on both sides as one", declared(30, Side::Bilateral), &[Stop(3, 30)]),
        ("declared, and unheard", declared(45, Side::Right), &[Unheard(3, 5, 10)]),
        ("an earlier session today", earlier(70), &[]),
        ("an earlier session, a hold, the other device", earlier(20), &[Hold(3, 10, 5), Stop(4, 15)]),
        (
            "an earlier session and a declared dose",
            {
                let mut spent = earlier(30);
                spent.declare(Declared { modality: Modality::Percussion, place: calf(), time: seconds(20) });
                spent
            },
            &[Stop(3, 15)],
        ),
    ];
    for (name, spent, bouts) in histories {
        let before = spent.on_half(Modality::Percussion, &calf().area, Side::Right).as_secs_f64();
        let mut bench = Bench::after(plan(), spent);
        for bout in bouts {
            give(&mut bench, *bout);
        }
        let rest = area_left(&bench, 3);
        bench.arm(3);
        bench.set(3, raw(1_200));
        let began = bench.units[1].truth.get(&0).map_or(0.0, |truth| truth.0);
        bench.pass(seconds(130));
        let ran = bench.units[1].truth[&0].0 - began;
        assert!(ran <= rest && ran > rest - 1.0, "{name}: {ran} s of the {rest} s that were left");
        let given: f64 =
            bench.units[1..].iter().filter_map(|unit| unit.truth.get(&0)).map(|truth| truth.0).sum();
        assert!(given + before <= 120.0, "{name}: {given} s given, {before} s before");
        let reason = bench.entries().filter_map(|(_, entry)| match entry {
            Entry::Stopped { step: 3, reason, .. } => Some(*reason),
            _ => None,
        });
        assert_eq!(reason.last(), Some(StopReason::AreaCap), "{name}");
        for step in [3, 4] {
            bench.idle_answers();
            let request = bench.act(Act::Arm { step });
            let verdict = bench.verdict(request).expect("an answer");
            let named = matches!(
                &verdict,
                Verdict::Refused(Refusal::Budget { budget: Budget::Area, owner: LimitOwner::Ceiling, .. })
            );
            assert!(named, "{name}, step {step}: {verdict:?}");
        }
        println!("{name}: {before:.0} s before, {rest:.1} s left, ran {ran:.2} s");
        bench.close();
        law_7(&bench);
        check_budget_log(&bench);
    }
}

/// The oracle of the laws over a log of this plan, whose outputs each belong to one step.
fn check_budget_log(bench: &Bench) {
    let reached = check_log(bench);
    assert!(reached.count("stops ordered") > 0);
}

/// SR-12, SR-13: two channels at once count for each of their areas, and once for the client; zero, ramp included, comes
/// before the limit and less than a second before it.
#[test]
fn sr_12_sr_13_two_channels_count_each_on_their_area_and_once_for_the_client() {
    let run = |plan: Plan, spent: Spent| {
        let mut bench = Bench::after(plan, spent);
        for step in [1, 2] {
            bench.arm(step);
            bench.set(step, milliamps(10));
        }
        bench.pass(seconds(200));
        let given = [0, 1].map(|channel| bench.units[0].truth[&channel].0);
        bench.close();
        law_7(&bench);
        check_log(&bench);
        given
    };
    // One area of 60 s: half of it for each.
    let [one, other] = run(plan(), Spent::default());
    assert!(one + other <= 60.0 && one + other > 58.0, "{one} s and {other} s on one area");
    // Each on a side of its own: all of it for each.
    let mut apart = plan();
    apart.steps[1].place = calf();
    let [one, other] = run(apart.clone(), Spent::default());
    assert!(one <= 60.0 && other <= 60.0 && one > 59.0 && other > 59.0, "{one} s and {other} s");
    // One on both sides, one on the right: that side lasts half as long, also where the left was used before.
    let mut across = plan();
    across.steps[0].place.side = Side::Bilateral;
    across.steps[1].place = calf();
    let mut spent = Spent::default();
    let left = Place { side: Side::Left, ..calf() };
    spent.add(Modality::Tens, &left, seconds(5), seconds(3_600));
    let mut bench = Bench::after(across, spent);
    for step in [1, 2] {
        bench.arm(step);
        bench.set(step, milliamps(10));
    }
    bench.pass(seconds(1));
    let shown = area_left(&bench, 1);
    assert!((27.0..30.0).contains(&shown), "{shown} s are shown");
    // The day of the client: 110 s, of which 40 s were given; both channels use it at once.
    for (limits, before) in [
        (Limits { day_time: Some(seconds(110)), ..Limits::default() }, 40),
        (Limits { session_time: Some(seconds(70)), ..Limits::default() }, 0),
    ] {
        let mut day = apart.clone();
        for step in &mut day.steps[..2] {
            step.chain.get_mut(LimitOwner::Site).limits = limits.clone();
        }
        let mut spent = Spent::default();
        spent.day.insert(Modality::Tens, seconds(before));
        let [one, other] = run(day, spent);
        assert!(one <= 70.0 && other <= 70.0 && one > 68.5 && other > 68.5, "{one} s and {other} s of 70 s");
    }
}

/// SR-13: the compiled budgets of session and client-day, for each modality, are those of the safety paper.
#[test]
fn sr_13_session_and_day_budgets_end_output_and_are_named() {
    for (modality, step, day_min) in [(Modality::Percussion, 3u8, 30u64), (Modality::Tens, 1, 120)] {
        let mut spent = Spent::default();
        spent.day.insert(modality, seconds(day_min * 60 - 20));
        let mut bench = Bench::after(plan(), spent);
        bench.arm(step);
        bench.set(step, if step == 3 { raw(1_200) } else { milliamps(5) });
        bench.pass(seconds(40));
        let device = usize::from(step) / 3;
        let ran = bench.units[device].truth[&0].0;
        assert!(ran <= 20.0 && ran > 19.0, "{modality:?}: {ran} s of the 20 s that were left today");
        let used = bench.entries().find_map(|(_, entry)| match entry {
            Entry::BudgetUsed { budget, owner, limit, .. } => Some((*budget, *owner, *limit)),
            _ => None,
        });
        assert_eq!(used, Some((Budget::Day, LimitOwner::Ceiling, seconds(day_min * 60))), "{modality:?}");
        bench.idle_answers();
        let request = bench.act(Act::Arm { step });
        let Some(Verdict::Refused(refusal)) = bench.verdict(request) else { panic!("armed") };
        assert!(refusal.to_string().contains("today's time for this client is used up"), "{refusal}");
    }
    // Percussion, 15 min a session: seven areas of two minutes, and one minute of the eighth.
    let mut plan = plan();
    let template = plan.steps[2].clone();
    plan.steps = (1u8..=8)
        .map(|number| {
            let area = AreaCode::new(format!("area_{number}"));
            Step { number, place: Place { area, side: Side::Left }, ..template.clone() }
        })
        .collect();
    let mut bench = Bench::ready(plan);
    for step in 1..=8 {
        bench.arm(step);
        bench.set(step, raw(1_200));
        // A person stays at the controls.
        for _ in 0..4 {
            bench.pass(seconds(32));
            bench.act(Act::Present);
        }
    }
    let given = bench.units[1].truth[&0].0;
    assert!(given <= 900.0 && given > 885.0, "{given} s in one session");
    let last = bench.entries().filter_map(|(_, entry)| match entry {
        Entry::Stopped { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(last.last(), Some(StopReason::SessionCap));
}

/// SR-13: a third session in a plan of two a week is refused unless the therapist records a reason.
#[test]
fn sr_13_one_session_more_than_the_plan_has_a_week_needs_a_reason() {
    for (sessions, reason, allowed) in
        [(1, None, true), (2, None, false), (2, Some("flare-up, agreed"), true)]
    {
        let mut plan = three_steps();
        plan.sessions_per_week = Some(2);
        let beyond_course = reason.map(str::to_owned);
        let mut bench =
            Bench::after(plan, Spent { sessions_in_week: sessions, beyond_course, ..Spent::default() });
        bench.idle_answers();
        let request = bench.act(Act::Arm { step: 1 });
        let verdict = bench.verdict(request).expect("an answer");
        assert_eq!(matches!(verdict, Verdict::Granted { .. }), allowed, "{sessions} {reason:?}: {verdict:?}");
        let logged = bench.entries().any(|(_, entry)| matches!(entry, Entry::BeyondCourse { .. }));
        assert_eq!(logged, reason.is_some(), "the reason is on record exactly when it was needed");
    }
}

/// SR-12: an area rests before percussion comes back to it, also when the bout before was in an earlier session.
#[test]
fn sr_12_an_area_rests_between_two_bouts_also_over_a_restart() {
    let mut plan = plan();
    plan.steps[2].rest = seconds(30);
    plan.steps[3].rest = seconds(30);
    let refused = |bench: &mut Bench, step: u8| {
        bench.idle_answers();
        let request = bench.act(Act::Arm { step });
        matches!(bench.verdict(request), Some(Verdict::Refused(Refusal::Rest { .. })))
    };
    let mut bench = Bench::ready(plan.clone());
    give(&mut bench, Bout::Stop(3, 10));
    assert!(refused(&mut bench, 3) && refused(&mut bench, 4), "also by another gun");
    bench.pass(seconds(27));
    assert!(refused(&mut bench, 4));
    bench.pass(seconds(3));
    bench.arm(4);
    let mut spent = Spent::default();
    spent.add(Modality::Percussion, &calf(), seconds(10), seconds(12));
    let mut bench = Bench::after(plan, spent);
    assert!(refused(&mut bench, 3), "12 s ago");
    bench.pass(seconds(18));
    bench.arm(3);
}

/// SR-12: another modality on the area, or percussion of another area, lets no area wait.
#[test]
fn sr_12_only_the_same_modality_on_the_area_lets_it_rest() {
    let mut plan = plan();
    plan.steps[0].place = calf();
    plan.steps[2].rest = seconds(30);
    plan.steps[3].place.area = AreaCode::new("quadriceps");
    let mut bench = Bench::ready(plan.clone());
    give(&mut bench, Bout::Stop(4, 5));
    bench.arm(3);
    let mut bench = Bench::ready(plan);
    bench.arm(1);
    bench.set(1, milliamps(5));
    bench.pass(seconds(3));
    bench.act(Act::StopStep { step: 1 });
    bench.pass(seconds(1));
    bench.act(Act::SensationReturned { step: 3 });
    bench.idle_answers();
    bench.arm(3);
}

/// SR-12, SR-25: the last instants: with one second of its time left a step may start, half an hour after TENS too.
#[test]
fn sr_12_sr_25_limits_hold_to_the_microsecond() {
    let verdict = |spent: Spent| {
        let mut bench = Bench::after(plan(), spent);
        bench.idle_answers();
        let request = bench.act(Act::Arm { step: 3 });
        (bench.verdict(request), bench.now.since(doseward::units::Mono::ORIGIN))
    };
    let (_, passed) = verdict(Spent::default());
    let microsecond = Duration::from_micros(1);
    for (time, enough) in [(seconds(119), true), (seconds(119) + microsecond, false)] {
        let mut spent = Spent::default();
        spent.add(Modality::Percussion, &calf(), time, seconds(3_600));
        let (verdict, _) = verdict(spent);
        assert_eq!(matches!(verdict, Some(Verdict::Granted { .. })), enough, "{time:?}: {verdict:?}");
        assert_eq!(matches!(verdict, Some(Verdict::Refused(Refusal::Budget { .. }))), !enough, "{time:?}");
    }
    for (ago, felt) in [(seconds(1_800), true), (seconds(1_800) - microsecond, false)] {
        let numb = vec![(calf(), ago - passed)];
        let (verdict, _) = verdict(Spent { numb, ..Spent::default() });
        assert_eq!(matches!(verdict, Some(Verdict::Refused(Refusal::Numb { .. }))), !felt, "{verdict:?}");
    }
}

/// SR-12: a held bout and what follows are one bout, but not when another was on the area in between.
#[test]
fn sr_12_a_held_step_rests_after_another_bout_on_its_area() {
    let mut plan = plan();
    plan.steps[2].rest = seconds(30);
    plan.steps[3].rest = seconds(30);
    let mut bench = Bench::ready(plan);
    give(&mut bench, Bout::Stop(4, 5));
    bench.pass(seconds(40));
    bench.arm(3);
    bench.set(3, raw(1_200));
    bench.pass(seconds(5));
    bench.act(Act::Hold { step: 3 });
    bench.pass(seconds(10));
    let resumed = |bench: &mut Bench| {
        bench.idle_answers();
        let request = bench.act(Act::Resume { step: 3 });
        bench.pass(seconds(1));
        bench.verdict(request)
    };
    assert!(matches!(resumed(&mut bench), Some(Verdict::Granted { .. })), "its own bout goes on");
    bench.act(Act::Hold { step: 3 });
    bench.pass(seconds(30));
    give(&mut bench, Bout::Stop(4, 20));
    let verdict = resumed(&mut bench);
    assert!(matches!(verdict, Some(Verdict::Refused(Refusal::Rest { .. }))), "{verdict:?}");
    bench.pass(seconds(30));
    assert!(matches!(resumed(&mut bench), Some(Verdict::Granted { .. })));
}

/// SR-12: what was held goes on at once when only another modality was on its area meanwhile, and when another bout of its
/// own modality ended with it, not after it.
#[test]
fn sr_12_a_held_step_rests_only_after_what_came_later() {
    let mut plan = plan();
    plan.steps[0].place = calf();
    plan.steps[2].rest = seconds(30);
    let mut bench = Bench::ready(plan);
    bench.arm(3);
    bench.set(3, raw(1_200));
    bench.pass(seconds(5));
    bench.act(Act::Hold { step: 3 });
    bench.pass(seconds(5));
    bench.arm(1);
    bench.set(1, milliamps(5));
    bench.pass(seconds(3));
    bench.act(Act::StopStep { step: 1 });
    bench.pass(seconds(1));
    bench.act(Act::SensationReturned { step: 3 });
    resume(&mut bench, 3);

    let mut plan = self::plan();
    for step in &mut plan.steps[..2] {
        step.rest = seconds(30);
    }
    let mut bench = Bench::ready(plan);
    for step in [1, 2] {
        bench.arm(step);
        bench.set(step, milliamps(5));
    }
    bench.pass(seconds(3));
    bench.input(Input::Guard { present: false });
    bench.pass(seconds(1));
    bench.input(Input::Guard { present: true });
    bench.pass(seconds(1));
    resume(&mut bench, 1);
}

fn resume(bench: &mut Bench, step: u8) {
    bench.idle_answers();
    let request = bench.act(Act::Resume { step });
    bench.pass(seconds(1));
    let verdict = bench.verdict(request);
    assert!(matches!(verdict, Some(Verdict::Granted { .. })), "{step}: {verdict:?}");
}

/// SR-12: a channel that is over while another of its unit runs on has had its time when its zero is acknowledged.
#[test]
fn sr_12_the_time_of_a_channel_ends_with_its_acknowledged_zero() {
    let mut plan = plan();
    plan.steps[0].duration = seconds(5);
    plan.steps[0].place.area = AreaCode::new("quadriceps");
    let mut bench = Bench::ready(plan);
    for step in [1, 2] {
        bench.arm(step);
        bench.set(step, milliamps(5));
    }
    bench.answer_after = Duration::from_millis(200);
    bench.pass(seconds(10));
    let left = |bench: &Bench| -> Vec<Duration> {
        bench.governor.snapshot(bench.now).steps[..2].iter().map(|step| step.area_left).collect()
    };
    let before = left(&bench);
    bench.pass(seconds(10));
    assert_eq!(left(&bench), [before[0], before[1] - seconds(10)]);
    let booked = bench.entries().filter_map(|(_, entry)| match entry {
        Entry::Dose(dose) if dose.step == 1 => Some(dose.until.since(dose.from)),
        _ => None,
    });
    assert_eq!(before[0], seconds(60) - booked.sum::<Duration>(), "as long as it is booked");
}

/// SR-25: sensation said to have returned at the very end of TENS counts for that TENS; while its end is not proven, nothing
/// else works its area.
#[test]
fn sr_25_sensation_counts_from_the_end_of_tens() {
    let mut plan = plan();
    plan.steps[0].place = calf();
    let stopping = || {
        let mut bench = Bench::ready(plan.clone());
        bench.arm(1);
        bench.set(1, milliamps(5));
        bench.pass(seconds(3));
        bench.act(Act::StopStep { step: 1 });
        bench
    };
    let mut bench = stopping();
    bench.act(Act::SensationReturned { step: 3 });
    bench.idle_answers();
    let request = bench.act(Act::Arm { step: 3 });
    let verdict = bench.verdict(request);
    assert!(matches!(verdict, Some(Verdict::Refused(Refusal::State { .. }))), "not proven: {verdict:?}");
    bench.pass(seconds(2));
    let doses = bench.entries().filter_map(|(_, entry)| match entry {
        Entry::Dose(dose) => Some(dose.until),
        _ => None,
    });
    let end = doses.last().expect("a dose");
    let mut bench = stopping();
    bench.pass(end.since(bench.now));
    bench.act(Act::SensationReturned { step: 3 });
    bench.arm(3);
}

/// SR-25: who has tested the left side knows nothing of the right.
#[test]
fn sr_25_sensation_is_tested_on_each_side() {
    let mut plan = plan();
    plan.steps[0].place = Place { side: Side::Bilateral, ..calf() };
    plan.steps[2].place = Place { side: Side::Left, ..calf() };
    plan.steps[3].place = Place { side: Side::Bilateral, ..calf() };
    let mut bench = Bench::ready(plan);
    bench.arm(1);
    bench.set(1, milliamps(5));
    bench.pass(seconds(3));
    bench.act(Act::StopStep { step: 1 });
    bench.pass(seconds(1));
    bench.act(Act::SensationReturned { step: 3 });
    bench.idle_answers();
    let request = bench.act(Act::Arm { step: 4 });
    let verdict = bench.verdict(request);
    assert!(matches!(verdict, Some(Verdict::Refused(Refusal::Numb { .. }))), "{verdict:?}");
    bench.act(Act::SensationReturned { step: 4 });
    bench.arm(4);
}

/// SR-43: while what a unit gives on an area is open and in doubt, no other unit works a place that shares a half with it.
#[test]
fn sr_43_output_in_doubt_blocks_every_place_that_overlaps() {
    for side in [Side::Left, Side::Bilateral] {
        let mut plan = plan();
        let mut second = plan.devices[0].clone();
        second.label = "Stimulator B".to_owned();
        plan.devices.push(second);
        (plan.steps[1].device, plan.steps[1].channel) = (DeviceId(3), Channel(0));
        plan.steps[0].place = Place { side: Side::Left, ..calf() };
        plan.steps[1].place = Place { side, ..calf() };
        let mut bench = Bench::ready(plan);
        bench.arm(1);
        bench.set(1, milliamps(5));
        bench.pass(seconds(3));
        bench.link(0, false);
        bench.pass(Duration::from_millis(200));
        bench.idle_answers();
        let request = bench.act(Act::Arm { step: 2 });
        let verdict = bench.verdict(request);
        assert!(matches!(verdict, Some(Verdict::Refused(Refusal::State { .. }))), "{side:?}: {verdict:?}");
    }
}

/// SR-25: for 30 min after TENS no percussion on its area unless the therapist says that sensation has returned; logged.
#[test]
fn sr_25_percussion_waits_for_sensation_after_tens() {
    let numb = |minutes: u64| {
        let place = Place { area: AreaCode::new("calf"), side: Side::Midline };
        Spent { numb: vec![(place, seconds(minutes * 60))], ..Spent::default() }
    };
    let refused = |bench: &mut Bench| {
        bench.idle_answers();
        let request = bench.act(Act::Arm { step: 3 });
        matches!(bench.verdict(request), Some(Verdict::Refused(Refusal::Numb { .. })))
    };
    assert!(!refused(&mut Bench::after(plan(), numb(30))), "half an hour ago");
    let mut bench = Bench::after(plan(), numb(29));
    assert!(refused(&mut bench), "an earlier session");
    bench.act(Act::SensationReturned { step: 3 });
    assert!(bench.entries().any(|(_, entry)| matches!(entry, Entry::SensationReturned { step: 3, .. })));
    bench.arm(3);
    // In this session, where only an electrode lies on the area; it counts from its end, and once more after new TENS.
    let mut plan = plan();
    plan.steps[0].place = calf();
    let mut bench = Bench::ready(plan);
    for confirmed in [false, true] {
        bench.arm(1);
        bench.set(1, milliamps(5));
        bench.pass(seconds(3));
        bench.act(Act::StopStep { step: 1 });
        bench.pass(seconds(1));
        assert!(refused(&mut bench), "confirmed before: {confirmed}");
        bench.act(Act::SensationReturned { step: 3 });
        assert!(!refused(&mut bench));
        bench.act(Act::StopStep { step: 3 });
        bench.pass(seconds(2));
    }
}

/// SR-43: an uncertain interval of an earlier session blocks its area and its unit until a person resolves it with a
/// reason, inside the bounds that the screen showed; asked twice it changes nothing.
#[test]
fn sr_43_area_and_unit_stay_blocked_until_a_person_resolves() {
    let open = |unit: &str, side: Side| OpenDose {
        of: DoseRef { session: Some(SessionId::new("earlier")), dose: DoseId(7) },
        unit: unit.to_owned(),
        place: Some(Place { side, ..calf() }),
        modality: Modality::Percussion,
        on: (seconds(4), seconds(90)),
        today: true,
        stated: false,
        earlier: None,
    };
    let arms = |bench: &mut Bench, step: u8| {
        bench.idle_answers();
        let request = bench.act(Act::Arm { step });
        match bench.verdict(request) {
            Some(Verdict::Granted { .. }) => true,
            Some(Verdict::Refused(Refusal::Unresolved { .. })) => false,
            other => panic!("step {step}: {other:?}"),
        }
    };
    for (unit, side, step, free) in [
        ("Gun", Side::Right, 3, false),
        ("Gun", Side::Left, 3, false),
        ("elsewhere", Side::Right, 4, false),
        ("elsewhere", Side::Midline, 4, false),
        ("elsewhere", Side::Left, 4, true),
    ] {
        let mut spent = Spent { open: vec![open(unit, side)], ..Spent::default() };
        spent.add(Modality::Percussion, &calf(), seconds(90), seconds(600));
        let mut bench = Bench::after(plan(), spent);
        assert_eq!(arms(&mut bench, step), free, "{unit} {side:?}");
        if free {
            continue;
        }
        let ask = |bench: &mut Bench, most: u64, gave: u64, reason: &str| {
            let (of, shown) = (open(unit, side).of, (seconds(4), seconds(most)));
            let request = Resolution { of, shown, gave: seconds(gave), reason: reason.to_owned() };
            let request = bench.act(Act::Resolve(request));
            bench.verdict(request).expect("an answer")
        };
        assert_eq!(ask(&mut bench, 91, 20, "seen"), Verdict::Refused(Refusal::Stale), "another screen");
        let outside = Verdict::Refused(Refusal::OutsideBounds { on: (seconds(4), seconds(90)) });
        assert_eq!(ask(&mut bench, 90, 3, "seen"), outside, "below what is certain");
        assert_eq!(ask(&mut bench, 90, 91, "seen"), outside, "never wider");
        assert!(matches!(ask(&mut bench, 90, 20, " "), Verdict::Refused(Refusal::State { .. })), "no reason");
        assert!(!arms(&mut bench, step), "a refused resolution changes nothing");
        assert!((area_left(&bench, 3) - 30.0).abs() < 0.01, "the upper bound counts");
        for _ in 0..2 {
            assert!(matches!(ask(&mut bench, 90, 20, "lifted off at once"), Verdict::Granted { .. }));
        }
        assert!(
            matches!(ask(&mut bench, 90, 30, "said otherwise"), Verdict::Refused(Refusal::State { .. })),
            "another time changes nothing, and says so"
        );
        let entries = bench.entries().filter(|(_, entry)| matches!(entry, Entry::Resolved { .. })).count();
        assert_eq!(entries, 1, "asked twice, resolved once");
        assert!(
            (area_left(&bench, 3) - 100.0).abs() < 0.01 || side != Side::Right,
            "the resolved time counts"
        );
        assert!(arms(&mut bench, step));
    }
}

/// SR-43: what a unit gave to another client, uncertain yet, blocks that unit and no area, and says nothing of where it was.
#[test]
fn sr_43_doubt_of_another_client_blocks_the_unit_alone() {
    let open = OpenDose {
        of: DoseRef { session: Some(SessionId::new("earlier")), dose: DoseId(7) },
        unit: "Gun".to_owned(),
        place: None,
        modality: Modality::Percussion,
        on: (seconds(4), seconds(90)),
        today: false,
        stated: false,
        earlier: None,
    };
    let mut bench = Bench::after(plan(), Spent { open: vec![open.clone()], ..Spent::default() });
    bench.idle_answers();
    let request = bench.act(Act::Arm { step: 3 });
    let Some(Verdict::Refused(refusal)) = bench.verdict(request) else { panic!("armed") };
    let said = "What Gun gave in an earlier session is uncertain: between 0:04 and 1:30. Resolve it first, with a reason (u).";
    assert_eq!(refusal.to_string(), said);
    bench.arm(4);
    bench.act(Act::StopStep { step: 4 });
    bench.pass(seconds(2));
    let (shown, gave, reason) = (open.on, seconds(90), "nobody saw it end".to_owned());
    bench.act(Act::Resolve(Resolution { of: open.of, shown, gave, reason }));
    bench.arm(3);
    assert!((area_left(&bench, 3) - 120.0).abs() < 0.01, "it was not on this client");
}

/// SR-12, SR-43: what a resolution leaves over comes back to the area, and only that: not bouts before or after it.
#[test]
fn sr_12_sr_43_a_resolution_gives_back_its_own_interval_alone() {
    let mut bench = Bench::ready(plan());
    give(&mut bench, Bout::Stop(3, 10));
    bench.pass(seconds(30));
    bench.arm(3);
    bench.set(3, raw(1_200));
    bench.pass(seconds(10));
    bench.link(1, false);
    bench.power_off(1);
    bench.pass(seconds(20));
    bench.link(1, true);
    bench.pass(seconds(2));
    let open = bench.governor.snapshot(bench.now).unresolved.pop().expect("doubt");
    let before = area_left(&bench, 3);
    let gave = open.on.0 + seconds(2);
    let (of, shown, reason) = (open.of, open.on, "seen to stop".to_owned());
    bench.act(Act::Resolve(Resolution { of, shown, gave, reason }));
    let came_back = area_left(&bench, 3) - before;
    assert!((came_back - (shown.1 - gave).as_secs_f64()).abs() < 0.01, "{came_back} s of {shown:?}");
    assert!(came_back > 10.0);
}

/// SR-43: the first proof of a unit ends what it may have given in an earlier session, with its stop tail, never before it
/// began and never later than it was known to end; what that leaves over comes back to today's budgets.
#[test]
fn sr_43_the_first_proof_ends_what_an_earlier_session_left_open() {
    let mut bench = Bench::ready(plan());
    give(&mut bench, Bout::Stop(3, 5));
    let dose = bench.entries().find_map(|(_, entry)| match entry {
        Entry::Dose(dose) => Some(dose.clone()),
        _ => None,
    });
    let dose = dose.expect("a dose");
    // Began at `from` s of its own clock, which was at 150 s when this session began.
    let open = |unit: &str, from: u64, most: Duration| OpenDose {
        of: DoseRef { session: Some(SessionId::new("earlier")), dose: DoseId(7) },
        unit: unit.to_owned(),
        place: Some(calf()),
        modality: Modality::Percussion,
        on: (seconds(4), most),
        today: true,
        stated: false,
        earlier: Some(Box::new(Earlier {
            dose: Dose { from: doseward::units::Mono::from_millis(from * 1_000), ..dose.clone() },
            ahead: seconds(150),
        })),
    };
    let begun = |open: OpenDose| {
        let mut spent = Spent { open: vec![open], ..Spent::default() };
        spent.add(Modality::Percussion, &calf(), seconds(90), seconds(600));
        let bench = Bench::after(plan(), spent);
        let ended: Vec<_> = bench
            .entries()
            .filter_map(|(_, entry)| match entry {
                Entry::Ended { zero_by, most, .. } => Some((*zero_by, *most)),
                _ => None,
            })
            .collect();
        (bench, ended)
    };
    let (mut bench, ended) = begun(open("Gun", 100, seconds(90)));
    let [(zero_by, most)] = ended.as_slice() else { panic!("{ended:?}") };
    assert_eq!(*most, zero_by.since(doseward::units::Mono::from_millis(100_000)));
    assert!((51.0..52.0).contains(&most.as_secs_f64()), "50 s, what the start took and a tail: {most:?}");
    let unresolved = bench.governor.snapshot(bench.now).unresolved.pop().expect("still in doubt");
    assert_eq!(unresolved.on, (seconds(4), *most));
    let left = 120.0 - most.as_secs_f64();
    assert!((area_left(&bench, 3) - left).abs() < 0.01, "the rest comes back");
    let (of, reason) = (unresolved.of, "lifted off at once".to_owned());
    let least = Resolution { of, shown: (seconds(4), *most), gave: seconds(4), reason };
    let request = bench.act(Act::Resolve(least));
    assert!(matches!(bench.verdict(request), Some(Verdict::Granted { .. })), "the least is inside");
    for (name, open) in [
        ("another unit", open("elsewhere", 100, seconds(90))),
        ("a proof from before it began", open("Gun", 1_000, seconds(90))),
        ("known to have ended before", open("Gun", 20, seconds(90))),
        ("known to have ended then", open("Gun", 100, *most)),
    ] {
        let (bench, ended) = begun(open);
        assert_eq!(ended, [], "{name}");
        assert!((area_left(&bench, 3) - 30.0).abs() < 0.01, "{name}");
    }
    let (bench, ended) = begun(OpenDose { today: false, ..open("Gun", 100, seconds(90)) });
    assert_eq!(ended.len(), 1);
    assert!((area_left(&bench, 3) - 30.0).abs() < 0.01, "it was not booked today");
}

/// SR-13: the budget of a session goes on after a crash; what a resolution leaves over of the time before comes back.
#[test]
fn sr_13_the_budget_of_a_session_outlives_a_crash() {
    let (crashed, place) =
        (SessionId::new("crashed"), Place { area: AreaCode::new("low_back"), side: Side::Left });
    let of = DoseRef { session: Some(crashed.clone()), dose: DoseId(7) };
    let on = (Duration::ZERO, seconds(870));
    let mut spent = Spent::default();
    spent.day.insert(Modality::Percussion, seconds(870));
    spent.continued.sessions.push(crashed);
    spent.continued.time.insert(Modality::Percussion, seconds(870));
    spent.open.push(OpenDose {
        of: of.clone(),
        unit: "another gun".to_owned(),
        place: Some(place),
        modality: Modality::Percussion,
        on,
        today: true,
        stated: false,
        earlier: None,
    });
    let mut bench = Bench::after(plan(), spent);
    bench.arm(3);
    bench.set(3, raw(1_200));
    bench.pass(seconds(40));
    let ran = bench.units[1].truth[&0].0;
    assert!(ran <= 30.0 && ran > 29.0, "{ran} s of the 30 s that were left of 15 min");
    let used = bench.entries().find_map(|(_, entry)| match entry {
        Entry::BudgetUsed { budget, .. } => Some(*budget),
        _ => None,
    });
    assert_eq!(used, Some(Budget::Session));
    bench.idle_answers();
    let request = bench.act(Act::Arm { step: 4 });
    assert!(matches!(bench.verdict(request), Some(Verdict::Refused(Refusal::Budget { .. }))));
    let reason = "seen to stop".to_owned();
    bench.act(Act::Resolve(Resolution { of, shown: on, gave: seconds(100), reason }));
    bench.arm(4);
}

/// SR-43: a person who has seen a gun stop ends what it may have given there and then, plus its stop tail; it stays uncertain
/// and blocks until it is resolved, also when the statement is false and the gun comes back running.
#[test]
fn sr_43_what_was_seen_to_stop_ends_there_and_is_resolved_then() {
    for ran_on in [false, true] {
        let mut bench = Bench::ready(plan());
        bench.arm(3);
        bench.set(3, raw(1_200));
        bench.pass(seconds(10));
        bench.link(1, false);
        bench.units[1].deaf = true;
        bench.pass(seconds(9));
        assert!(bench.governor.snapshot(bench.now).unresolved.is_empty(), "nobody knows an end yet");
        if !ran_on {
            bench.power_off(1);
        }
        let request = bench.act(Act::StatedStopped { device: DeviceId(1) });
        assert!(matches!(bench.verdict(request), Some(Verdict::Granted { .. })));
        let view = bench.governor.snapshot(bench.now);
        let [open] = view.unresolved.as_slice() else { panic!("{:?}", view.unresolved) };
        assert!(open.stated);
        assert!((9.5..=13.5).contains(&open.on.1.as_secs_f64()), "9 s unheard and a tail: {:?}", open.on);
        assert!(!view.steps[2].uncertain, "it has an end");
        let left = area_left(&bench, 3);
        assert!((96.0..=101.0).contains(&left), "about 20 s count: {left} s left");
        bench.idle_answers();
        let request = bench.act(Act::Arm { step: 4 });
        assert!(matches!(bench.verdict(request), Some(Verdict::Refused(Refusal::Unresolved { .. }))));
        if ran_on {
            bench.units[1].deaf = false;
            bench.units[1].down = false;
            bench.input(doseward::governor::Input::Link { device: DeviceId(1), up: true });
            let at = doseward::model::command::Intensity::Speed(RawSpeed::from_raw(1_200));
            bench.own_button(1, doseward::model::report::OwnButton::Started(at));
            bench.pass(seconds(2));
        }
        bench.close();
        law_7(&bench);
    }
}

/// SR-13: a gun that a hand starts after a restart lies where it was armed for last before it, and counts there.
#[test]
fn sr_13_a_start_at_the_gun_after_a_restart_counts_where_the_gun_lay() {
    let mut plan = plan();
    plan.steps[3].device = DeviceId(1);
    plan.steps[3].place.area = AreaCode::new("quadriceps");
    for (armed_on, steps) in [(None, [3]), (Some(plan.steps[3].place.clone()), [4])] {
        let mut spent = Spent::default();
        let label = plan.devices[1].label.clone();
        spent.continued.armed_on = armed_on.into_iter().map(|place| (label.clone(), place)).collect();
        let mut bench = Bench::after(plan.clone(), spent);
        bench.own_button(1, doseward::model::report::OwnButton::Started(raw(1_200)));
        bench.pass(seconds(3));
        let doses = bench.entries().filter_map(|(_, entry)| match entry {
            Entry::Dose(dose) => Some(dose.step),
            _ => None,
        });
        let counted: std::collections::BTreeSet<u8> = doses.collect();
        assert_eq!(counted, steps.into());
    }
}

/// Clinical-safety 1.6: at a client's first visit with a modality the low cap holds; at the second it does not.
#[test]
fn sr_13_a_first_visit_is_under_the_low_cap() {
    let mut plan = plan();
    plan.steps[2].low.speed = Some(RawSpeed::from_raw(1_200));
    plan.steps[2].low.area_time = Some(seconds(60));
    for (known, allowed) in [(false, 1_200u16), (true, 2_400)] {
        let mut spent = Spent::default();
        if known {
            spent.known.insert(Modality::Percussion);
        }
        let mut bench = Bench::after(plan.clone(), spent);
        let view = bench.governor.snapshot(bench.now).steps[2].clone();
        assert_eq!((view.allowed, view.area_left.as_secs()), (raw(allowed), if known { 120 } else { 60 }));
        bench.arm(3);
        let above = bench.set(3, raw(1_300));
        assert_eq!(matches!(above, Verdict::Granted { .. }), known, "{above:?}");
    }
}
