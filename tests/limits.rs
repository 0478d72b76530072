//! The limit chain: nine owners, the tightest wins and is named in words; two tiers.

use std::time::Duration;

use doseward::governor::{Act, Entry, Refusal, Verdict, limits};
use doseward::model::area::{AreaCode, Place, Side};
use doseward::model::command::Intensity;
use doseward::model::limit::{LimitOwner, Limits};
use doseward::model::plan::{Applicator, Plan};
use doseward::model::session::Discomfort;
use doseward::units::{Centimetres, Hertz, Milliamps, RawSpeed};

use crate::support::bench::Bench;
use crate::support::plans::{microamps, milliamps, raw, three_steps};

/// A plan whose first step has a limit of this owner alone, at 20 mA; ceiling and full scale lie above.
fn with_owner(owner: LimitOwner) -> Plan {
    let mut plan = three_steps();
    let step = &mut plan.steps[0];
    for other in LimitOwner::ALL {
        step.chain.get_mut(other).limits = Limits::default();
    }
    step.chain.get_mut(owner).limits.current = Some(Milliamps::from_milliamps(20));
    step.chain.get_mut(owner).said = "set by Dr K. on 12 Nov".to_owned();
    plan
}

fn refused(bench: &mut Bench, step: u8, asked: Intensity) -> Refusal {
    match bench.set(step, asked) {
        Verdict::Refused(refusal) => refusal,
        other => panic!("{asked} was not refused: {other:?}"),
    }
}

/// SR-08, SR-31: asking one device step above each owner's limit in turn is refused with that owner in words.
#[test]
fn sr_08_asking_above_each_owner_in_turn_is_refused_in_that_owners_words() {
    let words = [
        (LimitOwner::Device, "Limit of the unit"),
        (LimitOwner::Site, "Limit of this clinic"),
        (LimitOwner::Protocol, "Limit of the protocol"),
        (LimitOwner::Clearance, "Limit of the clearance"),
        (LimitOwner::Plan, "Limit of the plan"),
        (LimitOwner::Area, "Limit of this area"),
    ];
    for (owner, expected) in words {
        let mut bench = Bench::ready(with_owner(owner));
        bench.arm(1);
        assert!(matches!(bench.set(1, milliamps(20)), Verdict::Granted { .. }), "{owner:?}: at the limit");
        bench.pass(Duration::from_secs(5));
        let text = refused(&mut bench, 1, microamps(20_500)).to_string();
        println!("{owner:?}: {text}");
        assert!(text.contains("Asked 20.5 mA, allowed 20 mA"), "{text}");
        assert!(text.contains(expected) && text.contains("Dr K."), "{text}");
        assert!(text.contains("Nothing has changed: 20 mA"), "{text}");
    }
    ceiling_operator_and_comfort_are_named();
}

fn ceiling_operator_and_comfort_are_named() {
    let mut plan = with_owner(LimitOwner::Site);
    plan.steps[0].chain.get_mut(LimitOwner::Site).limits = Limits::default();
    let mut bench = Bench::ready(plan);
    bench.arm(1);
    let text = refused(&mut bench, 1, microamps(60_500)).to_string();
    println!("Ceiling: {text}");
    assert!(text.contains("doseward's own ceiling") && text.contains("allowed 60 mA"), "{text}");

    bench.act(Act::OperatorLimit { step: 1, limit: Some(milliamps(8)) });
    let text = refused(&mut bench, 1, microamps(8_500)).to_string();
    println!("Operator: {text}");
    assert!(text.contains("Your own limit") && text.contains("allowed 8 mA"), "{text}");

    bench.set(1, milliamps(8));
    bench.pass(Duration::from_secs(3));
    bench.act(Act::Comfort { step: 1, score: Discomfort::new(7).unwrap() });
    let text = refused(&mut bench, 1, microamps(6_500)).to_string();
    println!("Comfort: {text}");
    assert!(text.contains("discomfort") && text.contains("allowed 6 mA"), "{text}");
}

/// SR-08: over all 2^7 present/absent combinations the limit is the smallest present one and its owner is named.
#[test]
fn sr_08_the_tightest_of_every_combination_of_owners_wins() {
    let movable = [
        (LimitOwner::Site, 18u32),
        (LimitOwner::Protocol, 16),
        (LimitOwner::Clearance, 14),
        (LimitOwner::Plan, 12),
        (LimitOwner::Area, 10),
        (LimitOwner::Operator, 8),
        (LimitOwner::Comfort, 6),
    ];
    for present in 0u32..128 {
        let mut plan = with_owner(LimitOwner::Device);
        let (mut expected, mut owner, mut operator, mut comfort) = (20u32, LimitOwner::Device, None, None);
        for (bit, (of, at)) in movable.iter().enumerate() {
            if present & (1 << bit) == 0 {
                continue;
            }
            (expected, owner) = (*at, *of);
            match of {
                LimitOwner::Operator => operator = Some(milliamps(*at)),
                LimitOwner::Comfort => comfort = Some(milliamps(*at)),
                _ => plan.steps[0].chain.get_mut(*of).limits.current = Some(Milliamps::from_milliamps(*at)),
            }
        }
        let binding = limits::binding(&plan.steps[0], &plan.devices[0].capability, operator, comfort);
        assert_eq!(
            (binding.allowed, binding.owner),
            (milliamps(expected), owner),
            "combination {present:07b}"
        );
    }
}

/// SR-09, SR-10: the density of the smaller electrode binds, not that of the larger.
#[test]
fn sr_10_the_smallest_electrode_decides() {
    use doseward::units::{Microseconds, SquareCentimetres};
    let mut plan = with_owner(LimitOwner::Device);
    plan.steps[0].chain.get_mut(LimitOwner::Device).limits = Limits::default();
    let stimulation = plan.steps[0].stimulation.as_mut().unwrap();
    stimulation.width = Microseconds::from_micros(250);
    stimulation.period = Microseconds::from_micros(7_000);
    let Applicator::Electrodes(pair) = &mut plan.steps[0].applicator else { panic!("electrodes") };
    pair[1].contact = SquareCentimetres::from_square_millimetres(400);
    let binding = limits::binding(&plan.steps[0], &plan.devices[0].capability, None, None);
    assert_eq!(binding.kind, "current density");
    // 8 mA r.m.s. over a duty of 2·250/7000.
    let by_hand = 8.0 / (2.0f64 * 250.0 / 7_000.0).sqrt();
    let allowed = f64::from(binding.allowed.magnitude()) / 1000.0;
    assert!(allowed <= by_hand && allowed > by_hand - 0.5, "{allowed} of {by_hand}");
}

/// An uncalibrated gun: 40, 35, 25, 20 Hz allow raw 2400, 2100, 1500, 1200.
#[test]
fn worst_case_reading_of_an_uncalibrated_gun() {
    for (hertz, expected) in [(40, 2400), (35, 2100), (25, 1500), (20, 1200)] {
        let mut plan = three_steps();
        plan.steps[2].chain.get_mut(LimitOwner::Area).limits.stroke_rate = Some(Hertz::from_hertz(hertz));
        let binding = limits::binding(&plan.steps[2], &plan.devices[1].capability, None, None);
        assert_eq!(binding.allowed, raw(expected));
        let mut bench = Bench::ready(plan);
        bench.arm(3);
        refused(&mut bench, 3, raw(expected + 1));
        assert!(matches!(bench.set(3, raw(expected)), Verdict::Granted { .. }));
    }
}

/// Two tiers: above usual a reason is asked once per step; above the limit no reason helps.
#[test]
fn sr_31_above_usual_needs_a_reason_above_the_limit_is_no() {
    let mut plan = with_owner(LimitOwner::Protocol);
    plan.steps[0].usual.current = Some(Milliamps::from_milliamps(10));
    let mut bench = Bench::ready(plan);
    bench.arm(1);
    assert!(matches!(bench.set(1, milliamps(10)), Verdict::Granted { .. }), "the usual needs none");
    bench.pass(Duration::from_secs(4));
    assert_eq!(
        bench.set(1, milliamps(12)),
        Verdict::NeedsReason { asked: milliamps(12), usual: milliamps(10) }
    );
    let reason = Some("thick tissue over the muscle".to_owned());
    let request = bench.act(Act::Set { step: 1, intensity: milliamps(12), reason: reason.clone() });
    bench.pass(Duration::from_secs(4));
    assert!(matches!(bench.verdict(request), Some(Verdict::Granted { .. })));
    assert!(matches!(bench.set(1, milliamps(14)), Verdict::Granted { .. }), "the reason holds for the step");
    let request = bench.act(Act::Set { step: 1, intensity: milliamps(21), reason });
    bench.pass(Duration::from_millis(20));
    assert!(matches!(bench.verdict(request), Some(Verdict::Refused(Refusal::Limit { .. }))));
}

/// A request between zero and the floor of a gun is refused, never raised; off the grid it is floored, never up.
#[test]
fn below_the_floor_is_refused_and_off_the_grid_is_floored() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(3);
    assert!(matches!(refused(&mut bench, 3, raw(999)), Refusal::BelowFloor { .. }));
    bench.arm(1);
    assert_eq!(bench.set(1, microamps(5_900)), Verdict::Granted { target: Some(microamps(5_500)) });
    assert_eq!(
        limits::floor_to_grid(raw(999), &three_steps().devices[1].capability.intensity),
        Intensity::Speed(RawSpeed::ZERO)
    );
}

/// A pattern over a ceiling cannot even be armed.
#[test]
fn sr_09_a_pattern_over_a_ceiling_is_not_armed() {
    use doseward::units::Microseconds;
    type Change = fn(&mut Plan);
    let changes: [(&str, Change); 3] = [
        ("width", |plan| {
            plan.steps[0].stimulation.as_mut().unwrap().width = Microseconds::from_micros(251);
        }),
        ("period", |plan| {
            plan.steps[0].stimulation.as_mut().unwrap().period = Microseconds::from_micros(6_500);
        }),
        ("on", |plan| {
            let stimulation = plan.steps[1].stimulation.as_mut().unwrap();
            stimulation.cycle.as_mut().unwrap().on = Duration::from_secs(21);
        }),
    ];
    for (name, change) in changes {
        let mut plan = three_steps();
        change(&mut plan);
        let mut bench = Bench::ready(plan);
        bench.idle_answers();
        let request = bench.act(Act::Arm { step: if name == "on" { 2 } else { 1 } });
        let verdict = bench.verdict(request);
        assert!(matches!(verdict, Some(Verdict::Refused(Refusal::Pattern { .. }))), "{name}: {verdict:?}");
    }
}

/// SR-09, SR-31: width, rate, ON time and duration may be at a limit of the plan, and not a step over it.
#[test]
fn sr_09_sr_31_a_pattern_may_be_at_a_limit_and_not_over_it() {
    use doseward::units::{Hertz, Microseconds};
    let step = || three_steps().steps[1].clone();
    let (width, period) = (step().stimulation.unwrap().width, step().stimulation.unwrap().period);
    let (on, duration) = (step().stimulation.unwrap().cycle.unwrap().on, step().duration);
    let second = Duration::from_secs(1);
    let limits = |over: bool| {
        [
            Limits {
                width: Some(Microseconds::from_micros(width.micros() - u32::from(over))),
                ..Limits::default()
            },
            Limits {
                frequency: Some(Hertz::from_millihertz(1_000_000_000 / period.micros() - u32::from(over))),
                ..Limits::default()
            },
            Limits { on: Some(if over { on - second } else { on }), ..Limits::default() },
            Limits { duration: Some(if over { duration - second } else { duration }), ..Limits::default() },
        ]
    };
    for over in [false, true] {
        for limits in limits(over) {
            let mut step = step();
            step.chain.get_mut(LimitOwner::Plan).limits = limits.clone();
            let said = limits::pattern_over_limit(&step);
            assert_eq!(said.is_some_and(|said| said.ends_with("(plan)")), over, "{limits:?}");
        }
    }
}

/// SR-04, design 3.12: a stimulator that does not stop by itself and a gun that nobody holds are not armed.
#[test]
fn sr_04_units_that_cannot_stop_themselves_are_refused_or_held_by_a_person() {
    let mut plan = three_steps();
    plan.devices[0].capability.keep_alive = None;
    plan.steps[2].held_by = None;
    let mut bench = Bench::ready(plan);
    bench.idle_answers();
    for step in [1, 3] {
        let request = bench.act(Act::Arm { step });
        assert!(
            matches!(bench.verdict(request), Some(Verdict::Refused(Refusal::Interlock(_)))),
            "step {step}"
        );
    }
}

/// SR-19: two steps run at the same time only where the plan says that their electrodes may.
#[test]
fn sr_19_steps_that_may_not_run_together_are_armed_one_after_the_other() {
    let mut plan = three_steps();
    plan.together = Vec::new();
    let mut bench = Bench::ready(plan);
    bench.arm(1);
    bench.idle_answers();
    let request = bench.act(Act::Arm { step: 2 });
    assert!(matches!(bench.verdict(request), Some(Verdict::Refused(Refusal::State { .. }))));
    bench.arm(3);
    bench.act(Act::StopStep { step: 1 });
    bench.act(Act::StopStep { step: 3 });
    bench.pass(Duration::from_millis(100));
    bench.arm(2);
}

/// H-18, SR-25: percussion never works an area that is being stimulated; beside it, only at a measured 5 cm or more, logged.
#[test]
fn sr_25_percussion_beside_stimulation_needs_five_centimetres() {
    for (distance, allowed) in [(None, false), (Some(49), false), (Some(50), true), (Some(150), true)] {
        let mut plan = three_steps();
        plan.beside[0].distance = distance.map(Centimetres::from_millimetres);
        for (first, second) in [(1, 3), (3, 1)] {
            let mut bench = Bench::ready(plan.clone());
            bench.arm(first);
            bench.idle_answers();
            let request = bench.act(Act::Arm { step: second });
            let verdict = bench.verdict(request).expect("an answer");
            assert_eq!(matches!(verdict, Verdict::Granted { .. }), allowed, "{distance:?}: {verdict:?}");
            assert_eq!(matches!(verdict, Verdict::Refused(Refusal::Distance { .. })), !allowed);
            let logged = bench.entries().any(|(_, entry)| {
                matches!(entry, Entry::Beside { step, other, distance: logged, .. }
                    if (*step, *other) == (second, first) && Some(*logged) == plan.beside[0].distance)
            });
            assert_eq!(logged, allowed, "the distance is on record exactly when both run");
        }
    }
    // One area: also where only an electrode lies there, and on the midline, which is both sides.
    for (area, side) in [("calf", Side::Right), ("calf", Side::Midline), ("thigh", Side::Left)] {
        let mut plan = three_steps();
        plan.beside[0].steps = (2, 3);
        plan.steps[2].place = Place { area: AreaCode::new(area), side };
        if area == "thigh" {
            let Applicator::Electrodes(pads) = &mut plan.steps[1].applicator else { panic!("electrodes") };
            pads[1].area = AreaCode::new("thigh");
        }
        let mut bench = Bench::ready(plan);
        bench.arm(2);
        bench.idle_answers();
        let request = bench.act(Act::Arm { step: 3 });
        let verdict = bench.verdict(request);
        assert!(
            matches!(verdict, Some(Verdict::Refused(Refusal::State { .. }))),
            "{area} {side:?}: {verdict:?}"
        );
    }
}

/// SR-12, SR-43: what may have been given while nobody knew counts in the area's time; the area waits until it is settled.
#[test]
fn sr_12_uncertain_time_counts_and_blocks_the_area() {
    let mut plan = three_steps();
    plan.steps[2].duration = Duration::from_secs(100);
    let mut second = plan.steps[2].clone();
    second.number = 4;
    plan.steps.push(second);
    let mut bench = Bench::ready(plan);
    bench.arm(3);
    bench.set(3, raw(1_200));
    bench.pass(Duration::from_secs(10));
    bench.link(1, false);
    bench.pass(Duration::from_secs(30));
    let left = bench.governor.snapshot(bench.now).steps[2].area_left;
    assert!(left <= Duration::from_secs(81), "10 s given and 30 s unknown leave {left:?} of 120 s");
    bench.units[1].deaf = true;
    bench.link(1, true);
    bench.pass(Duration::from_secs(2));
    bench.idle_answers();
    let request = bench.act(Act::Arm { step: 4 });
    assert!(matches!(bench.verdict(request), Some(Verdict::Refused(_))), "the area is not settled");
    bench.units[1].deaf = false;
    bench.link(1, false);
    bench.link(1, true);
    bench.pass(Duration::from_millis(200));
    bench.idle_answers();
    let request = bench.act(Act::Arm { step: 4 });
    let verdict = bench.verdict(request);
    assert!(matches!(verdict, Some(Verdict::Refused(Refusal::Unresolved { .. }))), "{verdict:?}");
    bench.resolve_all();
    bench.arm(4);
    bench.set(4, raw(1_200));
    bench.pass(Duration::from_secs(100));
    bench.close();
    let (on, _, _) = bench.units[1].truth[&0];
    assert!(on < 120.0, "{on} s on one area");
    crate::support::laws::law_7(&bench);
}

/// A decrease is never refused, stale or not, also while a rise goes on.
#[test]
fn less_than_the_rise_under_way_is_granted_at_once() {
    use doseward::governor::{Input, Request, RequestId, Version};
    let mut bench = Bench::ready(three_steps());
    bench.arm(1);
    bench.set(1, milliamps(20));
    bench.pass(Duration::from_secs(1));
    let act = Act::Set { step: 1, intensity: milliamps(10), reason: None };
    let by = crate::support::bench::actor();
    bench.input(Input::Request(Request { id: RequestId(9_000), by, seen: Version(0), act }));
    assert!(matches!(bench.verdict(RequestId(9_000)), Some(Verdict::Granted { .. })));
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.governor.snapshot(bench.now).steps[0].setpoint, milliamps(10));
}

/// SR-21: a score of 7 or more locks rises for 30 s also when it is entered after a hold.
#[test]
fn sr_21_discomfort_after_a_hold_locks_rises() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(3);
    bench.set(3, raw(1_200));
    bench.pass(Duration::from_secs(2));
    bench.act(Act::Hold { step: 3 });
    bench.act(Act::Comfort { step: 3, score: Discomfort::new(8).unwrap() });
    bench.pass(Duration::from_millis(100));
    bench.idle_answers();
    bench.act(Act::Resume { step: 3 });
    bench.pass(Duration::from_millis(100));
    assert!(matches!(bench.set(3, raw(1_000)), Verdict::Refused(Refusal::Locked { .. })));
    bench.pass(Duration::from_secs(31));
    assert!(matches!(bench.set(3, raw(1_000)), Verdict::Granted { .. }));
}

/// Lowered at the gun itself: the new setpoint, a rise on its way is void, and the record follows.
#[test]
fn lowering_at_the_gun_voids_a_rise_and_is_booked() {
    use doseward::model::report::OwnButton;
    let mut bench = Bench::ready(three_steps());
    bench.arm(3);
    bench.set(3, raw(1_800));
    bench.pass(Duration::from_secs(3));
    bench.disk_delay = Duration::from_millis(300);
    let rise = bench.act(Act::Set { step: 3, intensity: raw(2_000), reason: None });
    bench.own_button(1, OwnButton::Lowered(raw(1_200)));
    bench.pass(Duration::from_secs(5));
    assert!(matches!(bench.verdict(rise), Some(Verdict::Refused(_))));
    assert_eq!(bench.governor.snapshot(bench.now).steps[2].setpoint, raw(1_200));
    bench.act(Act::StopStep { step: 3 });
    bench.pass(Duration::from_millis(200));
    bench.close();
    crate::support::laws::law_7(&bench);
    let (_, _, truth) = bench.units[1].truth[&0];
    let booked: f64 = bench
        .entries()
        .filter_map(|(_, entry)| match entry {
            doseward::governor::Entry::Dose(dose) => Some(dose.speed_us.1 as f64 * 1e-6),
            _ => None,
        })
        .sum();
    assert!(booked - truth < 2_500.0, "booked {booked} against {truth} raw·s");
}

/// A step that is completed is not armed again; one that gave nothing is not completed.
#[test]
fn a_completed_step_stays_completed() {
    let mut bench = Bench::ready(three_steps());
    bench.arm(1);
    bench.act(Act::Finish { step: 1 });
    bench.pass(Duration::from_millis(200));
    bench.arm(1);
    bench.set(1, milliamps(5));
    bench.pass(Duration::from_secs(2));
    bench.act(Act::Finish { step: 1 });
    bench.pass(Duration::from_secs(1));
    bench.idle_answers();
    let request = bench.act(Act::Arm { step: 1 });
    assert!(matches!(bench.verdict(request), Some(Verdict::Refused(_))));
}

/// SR-43, H-11: a late echo of a stop that was proven before this epoch closes no dose of it.
#[test]
fn an_echo_of_an_old_stop_closes_no_running_dose() {
    use doseward::model::command::DeviceId;
    use doseward::model::report::{Report, StopProgress};
    let mut bench = Bench::ready(three_steps());
    bench.arm(1);
    bench.set(1, milliamps(10));
    bench.pass(Duration::from_secs(3));
    let generation = bench.governor.generation(DeviceId(0));
    let (progress, after) = (StopProgress::Confirmed, Duration::from_millis(5));
    bench.tell(0, Report::Stop { generation, progress, after });
    bench.pass(Duration::from_secs(5));
    bench.act(Act::StopStep { step: 1 });
    bench.pass(Duration::from_millis(200));
    bench.close();
    crate::support::laws::law_7(&bench);
}
