//! Electrical limits against plain floating-point formulas (clinical-safety 1.4 to 1.6): SR-09, SR-10, SR-31.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use doseward::governor::limits::{self, binding, ceiling, current_bounds};
use doseward::model::command::Intensity;
use doseward::model::limit::{LimitOwner, Limits};
use doseward::model::plan::{Applicator, Step, Stimulation};
use doseward::model::protocol::Modality;
use doseward::units::{Hertz, Microcoulombs, Microseconds, Milliamps, SquareCentimetres};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use crate::support::plans::{one_step, three_steps};
use crate::support::walks::{cases, seed};

/// SR-09, SR-12, SR-13: the compiled ceilings are those of clinical-safety 1.6 and design 4, figure by figure.
#[test]
fn sr_09_the_compiled_ceilings_are_those_of_the_table() {
    let minutes = |minutes: u64| Some(Duration::from_secs(minutes * 60));
    let stimulation = Limits {
        rms: Some(Milliamps::from_milliamps(50)),
        density_ua_per_cm2: Some(2_000),
        power_mw_per_cm2: Some(250),
        pulse_energy_uj: Some(50_000),
        ..Limits::default()
    };
    let tens = Limits {
        current: Some(Milliamps::from_milliamps(60)),
        width: Some(Microseconds::from_micros(250)),
        frequency: Some(Hertz::from_hertz(150)),
        phase_charge: Some(Microcoulombs::from_picocoulombs(30_000_000)),
        area_time: minutes(60),
        day_time: minutes(120),
        ..stimulation.clone()
    };
    let nmes = Limits {
        current: Some(Milliamps::from_milliamps(100)),
        width: Some(Microseconds::from_micros(500)),
        frequency: Some(Hertz::from_hertz(100)),
        phase_charge: Some(Microcoulombs::from_picocoulombs(60_000_000)),
        on: Some(Duration::from_secs(20)),
        area_time: minutes(30),
        day_time: minutes(60),
        ..stimulation
    };
    let percussion = Limits {
        stroke_rate: Some(Hertz::from_hertz(40)),
        area_time: minutes(2),
        session_time: minutes(15),
        day_time: minutes(30),
        ..Limits::default()
    };
    for (modality, expected) in
        [(Modality::Tens, tens), (Modality::Nmes, nmes), (Modality::Percussion, percussion)]
    {
        assert_eq!(ceiling(modality), expected, "{modality:?}");
    }
}

/// SR-09, SR-10: each published figure, set as the limit, allows the published amplitude within 0.5 %.
#[test]
fn sr_09_sr_10_each_quantity_of_the_worked_examples_is_met_within_half_a_percent() {
    // (mA, µs, Hz, cm²): charge µC, r.m.s. mA, density mA/cm², energy mJ, power density mW/cm².
    for ((current, width, hertz, contact), [charge, rms, density, energy, power]) in [
        ((20u32, 100, 100, 25), [2.0, 2.83, 0.113, 0.040, 0.16]),
        ((40, 200, 4, 25), [8.0, 1.60, 0.064, 0.32, 0.051]),
        ((30, 200, 16, 25), [6.0, 2.40, 0.096, 0.18, 0.115]),
        ((80, 400, 50, 50), [32.0, 16.0, 0.32, 2.56, 2.56]),
        ((60, 300, 120, 10), [18.0, 16.1, 1.61, 1.08, 13.0]),
        ((100, 500, 150, 16), [50.0, 38.7, 2.42, 5.0, 46.9]),
        ((200, 450, 25, 20), [90.0, 30.0, 1.5, 18.0, 22.5]),
    ] {
        let whole = |value: f64| value.round() as u32;
        let none = Limits::default();
        let mut published = vec![
            Limits {
                phase_charge: Some(Microcoulombs::from_picocoulombs((charge * 1e6) as u64)),
                ..none.clone()
            },
            Limits { rms: Some(Milliamps::from_microamps(whole(rms * 1e3))), ..none.clone() },
            Limits { density_ua_per_cm2: Some(whole(density * 1e3)), ..none.clone() },
            Limits { pulse_energy_uj: Some(whole(energy * 1e3)), ..none.clone() },
        ];
        if power > 10.0 {
            // The limit is kept in whole mW/cm².
            published.push(Limits { power_mw_per_cm2: Some(whole(power)), ..none });
        }
        let period = Hertz::from_hertz(hertz).period().unwrap();
        let stimulation = Stimulation { width: Microseconds::from_micros(width), period, cycle: None };
        let contact = SquareCentimetres::from_square_millimetres(contact * 100);
        for limits in published {
            let bounds = current_bounds(&limits, stimulation, Some(contact));
            let [(kind, allowed)] = bounds[..] else { panic!("one limit: {bounds:?}") };
            // A whole figure is half of the last place off; the square root halves that.
            let slack = if kind == "power density" { 0.02 } else { 0.005 };
            let off = (f64::from(allowed) / f64::from(current * 1_000) - 1.0).abs();
            assert!(off <= slack, "{kind}: {current} mA at {width} µs, {hertz} Hz allows {allowed} µA");
        }
    }
}

/// One random step and what its limits are in plain numbers.
#[derive(Clone, Debug)]
struct Random {
    nmes: bool,
    width: u32,
    period: u32,
    contacts: (u32, u32),
    owned: Vec<(usize, u8, u32)>,
    operator: Option<u32>,
    comfort: Option<u32>,
}

fn random() -> impl Strategy<Value = Random> {
    let owned = proptest::collection::vec((1usize..7, 0u8..6, 1u32..1_000), 0..5);
    let live = || proptest::option::weighted(0.3, 0u32..100_000);
    (any::<bool>(), 10u32..=500, 6_000u32..=1_000_000, (1u32..=10_000, 1u32..=10_000), owned, live(), live())
        .prop_map(|(nmes, width, period, contacts, owned, operator, comfort)| Random {
            nmes,
            width,
            // Half of the patterns are dense.
            period: if width % 2 == 0 { 6_000 + period / 40 } else { period },
            contacts,
            owned,
            operator,
            comfort,
        })
}

/// The largest amplitude in mA that one limit allows, by the formulas of clinical-safety 1.4.
fn formula(kind: u8, limit: f64, width: f64, period: f64, contact: f64) -> f64 {
    let (duty, energy) = ((2.0 * width / period).sqrt(), 500.0 * 2.0 * width * 1e-3);
    match kind {
        0 => limit,
        1 => limit * 1_000.0 / width,
        2 => limit / duty,
        3 => limit * contact / duty,
        4 => (limit / energy).sqrt() * 1_000.0,
        _ => (limit * contact * period * 1e-6 / energy).sqrt() * 1_000.0,
    }
}

/// The step, and the most that it allows in mA.
fn build(random: &Random) -> (Step, f64) {
    let mut step = one_step(1).steps.remove(0);
    step.modality = if random.nmes { Modality::Nmes } else { Modality::Tens };
    step.chain = Default::default();
    let (width, period) = (Microseconds::from_micros(random.width), Microseconds::from_micros(random.period));
    step.stimulation = Some(Stimulation { width, period, cycle: None });
    let Applicator::Electrodes(pair) = &mut step.applicator else { panic!("electrodes") };
    pair[0].contact = SquareCentimetres::from_square_millimetres(random.contacts.0);
    pair[1].contact = SquareCentimetres::from_square_millimetres(random.contacts.1);
    let contact = f64::from(random.contacts.0.min(random.contacts.1)) / 100.0;
    let most = |kind, limit| formula(kind, limit, f64::from(random.width), f64::from(random.period), contact);

    let (current, charge) = if random.nmes { (100.0, 60.0) } else { (60.0, 30.0) };
    let compiled = [(0, current), (1, charge), (2, 50.0), (3, 2.0), (4, 50.0), (5, 250.0)];
    let mut least = compiled.into_iter().map(|(kind, limit)| most(kind, limit)).fold(100.0, f64::min);
    for (owner, kind, tenths) in &random.owned {
        let limits = &mut step.chain.get_mut(LimitOwner::ALL[*owner]).limits;
        let milli = tenths * 100;
        // Figures at which each kind is the tightest now and then; `in_unit` in the formula's unit.
        let (new, in_unit) = match kind {
            0 => {
                (limits.current.replace(Milliamps::from_microamps(milli)).is_none(), f64::from(milli) * 1e-3)
            }
            1 => {
                let charge = Microcoulombs::from_picocoulombs(u64::from(milli) * 1_000);
                (limits.phase_charge.replace(charge).is_none(), f64::from(milli) * 1e-3)
            }
            2 => (limits.rms.replace(Milliamps::from_microamps(milli)).is_none(), f64::from(milli) * 1e-3),
            3 => (limits.density_ua_per_cm2.replace(*tenths).is_none(), f64::from(*tenths) * 1e-3),
            4 => (limits.pulse_energy_uj.replace(*tenths).is_none(), f64::from(*tenths) * 1e-3),
            _ => (limits.power_mw_per_cm2.replace(tenths / 50).is_none(), f64::from(tenths / 50)),
        };
        // An owner that said two things of a kind meant the last; then this set judges nothing.
        if !new {
            return (step, f64::NAN);
        }
        least = least.min(most(*kind, in_unit));
    }
    for live in [random.operator, random.comfort].into_iter().flatten() {
        least = least.min(f64::from(live) / 1_000.0);
    }
    (step, least)
}

/// SR-09, SR-10: over random patterns, electrodes and limits of every owner the most that is allowed is within every
/// formula, and one device step more is not.
#[test]
fn sr_09_sr_10_random_parameter_sets_never_exceed_the_formulas() {
    let capability = three_steps().devices[0].capability.clone();
    let reached: Mutex<BTreeMap<(&str, LimitOwner), u64>> = Mutex::default();
    let config = ProptestConfig {
        cases: cases(),
        rng_seed: RngSeed::Fixed(seed()),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let current = |ua: u32| Intensity::Current(Milliamps::from_microamps(ua));
    let ran = TestRunner::new(config).run(&random(), |random| {
        let (step, most) = build(&random);
        if most.is_nan() {
            return Ok(());
        }
        let found = binding(&step, &capability, random.operator.map(current), random.comfort.map(current));
        let allowed = f64::from(found.allowed.magnitude()) / 1_000.0;
        prop_assert!(allowed <= most * (1.0 + 1e-9), "{allowed} of {most} mA: {:?}", found);
        prop_assert!(allowed + 0.5 + 0.001 > most, "{allowed} of {most} mA could be more: {:?}", found);
        prop_assert_eq!(found.allowed.magnitude() % 500, 0, "off the grid");
        *reached.lock().unwrap().entry((found.kind, found.owner)).or_default() += 1;
        Ok(())
    });
    ran.unwrap();
    let reached = reached.into_inner().unwrap();
    println!("SR-09, SR-10: {} random parameter sets; the limit that was the tightest:", cases());
    for ((kind, owner), count) in &reached {
        println!("{count:12}  {kind} ({})", owner.word());
    }
    let kinds: std::collections::BTreeSet<&str> = reached.keys().map(|(kind, _)| *kind).collect();
    assert!(cases() < 400 || kinds.len() >= 7, "kinds that were the tightest: {kinds:?}");
}

/// SR-08: of two owners with the same limit the wider one is named: tightening one's own would change nothing.
#[test]
fn sr_08_at_par_the_wider_owner_is_named() {
    let capability = three_steps().devices[0].capability.clone();
    for (first, second) in [(1, 2), (2, 5), (5, 2), (3, 6), (6, 3), (4, 7), (7, 8), (5, 8)] {
        let mut step = one_step(1).steps.remove(0);
        step.chain = Default::default();
        let mut live = [None, None];
        for owner in [first, second] {
            match LimitOwner::ALL[owner] {
                LimitOwner::Operator => live[0] = Some(Intensity::Current(Milliamps::from_milliamps(12))),
                LimitOwner::Comfort => live[1] = Some(Intensity::Current(Milliamps::from_milliamps(12))),
                owner => step.chain.get_mut(owner).limits.current = Some(Milliamps::from_milliamps(12)),
            }
        }
        let found = binding(&step, &capability, live[0], live[1]);
        assert_eq!(found.owner, LimitOwner::ALL[first.min(second)], "{first} and {second}");
        assert_eq!(found.allowed.magnitude(), 12_000);
    }
    // Full scale is the unit's; a ceiling of the same figure is wider.
    let mut step = one_step(1).steps.remove(0);
    (step.modality, step.chain) = (Modality::Nmes, Default::default());
    let found = binding(&step, &capability, None, None);
    assert_eq!((found.owner, found.allowed.magnitude()), (LimitOwner::Ceiling, 100_000));
    assert_eq!(limits::full_scale(&capability.intensity).magnitude(), 100_000);
}
