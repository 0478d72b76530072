//! The limit chain: nine owners, the tightest wins and says who (design 3.1).
//!
//! Electrical limits are those of clinical-safety 1.4 for biphasic symmetric rectangular pulses into 500 Ω, with the
//! smallest declared electrode, during ON time, in integers: every comparison is of exact products, never of a root or
//! a quotient. With I in µA, t in µs, T the period in µs, n = 2 phases and A in mm²:
//!
//! | limit | allowed when |
//! | --- | --- |
//! | r.m.s. current L µA | I²·n·t ≤ L²·T |
//! | r.m.s. density J µA/cm² | I²·n·t ≤ (J·A/100)²·T |
//! | energy per pulse E µJ | I²·500·n·t ≤ E·10¹² |
//! | mean power density p mW/cm² | I²·500·n·t ≤ p·T·A·10⁷ |
//! | phase charge Q pC | I·t ≤ Q |

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::capability::{Capability, IntensityRange, RateBasis};
use crate::model::command::Intensity;
use crate::model::limit::{LimitChain, LimitOwner, Limits};
use crate::model::plan::{Step, Stimulation};
use crate::model::protocol::Modality;
use crate::units::{
    Centimetres, Hertz, Level, Microcoulombs, Microseconds, Milliamps, RawSpeed, SquareCentimetres,
};

/// Percussion stays at least this far from an electrode that gives output (SR-25).
pub const DISTANCE_MIN: Centimetres = Centimetres::from_millimetres(50);
/// Phases of a pulse: biphasic symmetric.
const PHASES: u128 = 2;
/// Load for comparison, Ω.
const LOAD_OHMS: u128 = 500;

/// Returns the compiled ceilings of a modality (design 4; clinical-safety 1.6). No file can raise them.
pub fn ceiling(modality: Modality) -> Limits {
    let minutes = |n: u64| Some(Duration::from_secs(n.saturating_mul(60)));
    let electrical = |current: u32, width: u32, hertz: u32, charge_uc: u64| Limits {
        current: Some(Milliamps::from_milliamps(current)),
        width: Some(Microseconds::from_micros(width)),
        frequency: Some(Hertz::from_hertz(hertz)),
        phase_charge: Some(Microcoulombs::from_picocoulombs(charge_uc.saturating_mul(1_000_000))),
        rms: Some(Milliamps::from_milliamps(50)),
        density_ua_per_cm2: Some(2_000),
        power_mw_per_cm2: Some(250),
        pulse_energy_uj: Some(50_000),
        ..Limits::default()
    };
    match modality {
        Modality::Tens => {
            Limits { area_time: minutes(60), day_time: minutes(120), ..electrical(60, 250, 150, 30) }
        }
        Modality::Nmes => Limits {
            on: Some(Duration::from_secs(20)),
            area_time: minutes(30),
            day_time: minutes(60),
            ..electrical(100, 500, 100, 60)
        },
        Modality::Percussion => Limits {
            stroke_rate: Some(Hertz::from_hertz(40)),
            area_time: minutes(2),
            session_time: minutes(15),
            day_time: minutes(30),
            ..Limits::default()
        },
    }
}

/// The binding limit of an intensity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The most that is allowed, on the unit's grid; zero where nothing is.
    pub allowed: Intensity,
    /// Whose limit it is.
    pub owner: LimitOwner,
    /// Which kind of limit, in words.
    pub kind: &'static str,
    /// Who said so; may be empty.
    pub said: String,
}

/// Returns the tightest limit of a step's intensity and its owner. `operator` and `comfort` are today's.
pub fn binding(
    step: &Step,
    capability: &Capability,
    operator: Option<Intensity>,
    comfort: Option<Intensity>,
) -> Binding {
    let full = full_scale(&capability.intensity);
    let mut tightest =
        Binding { allowed: full, owner: LimitOwner::Device, kind: "full scale", said: String::new() };
    let mut tighten = |allowed: u32, owner: LimitOwner, kind: &'static str, said: &str| {
        let wider_owner_at_par = allowed == tightest.allowed.magnitude() && owner < tightest.owner;
        if allowed < tightest.allowed.magnitude() || wider_owner_at_par {
            tightest = Binding { allowed: full.with_magnitude(allowed), owner, kind, said: said.to_owned() };
        }
    };
    for (owner, owned) in step.chain.iter() {
        for (kind, allowed) in bounds(&owned.limits, step, full, capability.rate_basis) {
            tighten(allowed, owner, kind, &owned.said);
        }
    }
    let compiled = ceiling(step.modality);
    for (kind, allowed) in bounds(&compiled, step, full, capability.rate_basis) {
        tighten(allowed, LimitOwner::Ceiling, kind, "");
    }
    for (owner, live) in [(LimitOwner::Operator, operator), (LimitOwner::Comfort, comfort)] {
        if let Some(limit) = live.filter(|limit| limit.same_kind(full)) {
            tighten(limit.magnitude(), owner, "intensity", "");
        }
    }
    tightest.allowed = floor_to_grid(tightest.allowed, &capability.intensity);
    tightest
}

/// Returns the largest intensity of a unit.
pub fn full_scale(range: &IntensityRange) -> Intensity {
    match range {
        IntensityRange::Current { max, .. } => Intensity::Current(*max),
        IntensityRange::Speed { max, .. } => Intensity::Speed(*max),
        IntensityRange::Level { max, .. } => Intensity::Level(*max),
    }
}

/// Returns the most that a hand at the unit can set: its documented top, above what is ever asked of it.
pub fn top(range: &IntensityRange) -> Intensity {
    match range {
        IntensityRange::Current { max, .. } => Intensity::Current(*max),
        IntensityRange::Speed { top, .. } => Intensity::Speed(*top),
        IntensityRange::Level { top, .. } => Intensity::Level(*top),
    }
}

/// Returns the intensity rounded **down** to the unit's grid; below the floor of a gun that is zero.
pub fn floor_to_grid(intensity: Intensity, range: &IntensityRange) -> Intensity {
    match (intensity, range) {
        (Intensity::Current(current), IntensityRange::Current { step, .. }) => {
            let step = step.microamps().max(1);
            let steps = current.microamps().checked_div(step).unwrap_or(0);
            intensity.with_magnitude(steps.saturating_mul(step))
        }
        (Intensity::Speed(speed), IntensityRange::Speed { floor, .. }) if speed < *floor => intensity.zero(),
        (Intensity::Speed(_), IntensityRange::Speed { .. })
        | (Intensity::Level(_), IntensityRange::Level { .. }) => intensity,
        (Intensity::Current(_) | Intensity::Speed(_) | Intensity::Level(_), _) => intensity.zero(),
    }
}

/// Returns what one owner's limits allow of this step's intensity, each with its kind.
fn bounds(limits: &Limits, step: &Step, full: Intensity, basis: RateBasis) -> Vec<(&'static str, u32)> {
    match full {
        Intensity::Current(_) => {
            let Some(stimulation) = step.stimulation else {
                return vec![("pulse pattern", 0)];
            };
            current_bounds(limits, stimulation, step.applicator.smallest_contact())
        }
        Intensity::Speed(_) => {
            let rate = limits.stroke_rate.map(|rate| ("stroke rate", speed_at(rate, basis)));
            let speed = limits.speed.map(|speed| ("speed", u32::from(speed.raw())));
            rate.into_iter().chain(speed).collect()
        }
        Intensity::Level(_) => {
            limits.level.map(|level| ("level", u32::from(level.level()))).into_iter().collect()
        }
    }
}

/// Returns the raw speed that a stroke rate allows. Uncalibrated: 1 raw counts as 1 stroke per minute (percussion-ble U2).
fn speed_at(rate: Hertz, basis: RateBasis) -> u32 {
    match basis {
        // A calibration table only ever allows more than the worst reading, so until one is at hand this holds too.
        RateBasis::WorstCase | RateBasis::Calibrated | RateBasis::None => {
            let per_minute = u64::from(rate.millihertz()).saturating_mul(60);
            u32::try_from(per_minute.checked_div(1000).unwrap_or(0)).unwrap_or(u32::MAX)
        }
    }
}

/// Returns the largest amplitudes that the limits allow for a pattern over the smallest electrode, each with its kind.
///
/// Without a declared contact area a density or power limit allows nothing.
pub fn current_bounds(
    limits: &Limits,
    stimulation: Stimulation,
    contact: Option<SquareCentimetres>,
) -> Vec<(&'static str, u32)> {
    let area = u128::from(contact.map_or(0, SquareCentimetres::square_millimetres));
    let width = u128::from(stimulation.width.micros());
    let period = u128::from(stimulation.period.micros());
    // I² is bounded by `energy_like / (n·t)`.
    let square = |product: u128| amplitude_from_square(product, PHASES.saturating_mul(width));
    let mut found = Vec::new();
    if let Some(current) = limits.current {
        found.push(("current", current.microamps()));
    }
    if let Some(charge) = limits.phase_charge {
        let amps = u128::from(charge.picocoulombs()).checked_div(width).unwrap_or(0);
        found.push(("phase charge", u32::try_from(amps).unwrap_or(u32::MAX)));
    }
    if let Some(rms) = limits.rms {
        let rms = u128::from(rms.microamps());
        found.push(("r.m.s. current", square(rms.saturating_mul(rms).saturating_mul(period))));
    }
    if let Some(density) = limits.density_ua_per_cm2 {
        // (J·A/100)² as (J·A)²/10⁴, divided last and down.
        let scaled = u128::from(density).saturating_mul(area);
        let product = scaled.saturating_mul(scaled).saturating_mul(period);
        found.push((
            "current density",
            amplitude_from_square(product, PHASES.saturating_mul(width).saturating_mul(10_000)),
        ));
    }
    if let Some(energy) = limits.pulse_energy_uj {
        let product = u128::from(energy).saturating_mul(1_000_000_000_000);
        found.push((
            "pulse energy",
            amplitude_from_square(product, LOAD_OHMS.saturating_mul(PHASES).saturating_mul(width)),
        ));
    }
    if let Some(power) = limits.power_mw_per_cm2 {
        let product =
            u128::from(power).saturating_mul(period).saturating_mul(area).saturating_mul(10_000_000);
        found.push((
            "power density",
            amplitude_from_square(product, LOAD_OHMS.saturating_mul(PHASES).saturating_mul(width)),
        ));
    }
    found
}

/// Returns the largest I with I²·`factor` ≤ `product`.
fn amplitude_from_square(product: u128, factor: u128) -> u32 {
    let square = product.checked_div(factor).unwrap_or(0);
    u32::try_from(square.isqrt()).unwrap_or(u32::MAX)
}

/// Returns what of a step's pattern or time lies over a limit, in words; `None` when all is within.
///
/// Amplitude is judged at each request; this judges what does not change while a step runs.
pub fn pattern_over_limit(step: &Step) -> Option<String> {
    let compiled = ceiling(step.modality);
    let owners = step.chain.iter().map(|(owner, owned)| (owner, &owned.limits));
    for (owner, limits) in std::iter::once((LimitOwner::Ceiling, &compiled)).chain(owners) {
        if let Some(what) = over(step, limits) {
            return Some(format!("{what} ({})", owner.word()));
        }
    }
    None
}

fn over(step: &Step, limits: &Limits) -> Option<String> {
    if let Some(stimulation) = step.stimulation {
        if let Some(width) = limits.width.filter(|width| stimulation.width > *width) {
            return Some(format!("pulse width {}, allowed {width}", stimulation.width));
        }
        let shortest = limits.frequency.and_then(Hertz::period);
        if let (Some(period), Some(rate)) = (shortest, limits.frequency)
            && stimulation.period < period
        {
            return Some(format!("a pulse every {}, allowed {rate}", stimulation.period));
        }
        if let (Some(cycle), Some(on)) = (stimulation.cycle, limits.on)
            && cycle.on > on
        {
            let (asked, allowed) = (cycle.on.as_secs(), on.as_secs());
            return Some(format!("ON for {asked} s, allowed {allowed} s"));
        }
    }
    limits
        .duration
        .filter(|limit| step.duration > *limit)
        .map(|limit| format!("duration {} s, allowed {} s", step.duration.as_secs(), limit.as_secs()))
}

/// Returns the intensity above which a reason is asked; `None`: nothing is unusual.
pub fn usual(step: &Step, capability: &Capability) -> Option<Intensity> {
    let full = full_scale(&capability.intensity);
    bounds(&step.usual, step, full, capability.rate_basis)
        .into_iter()
        .map(|(_, allowed)| allowed)
        .min()
        .map(|allowed| floor_to_grid(full.with_magnitude(allowed), &capability.intensity))
}

/// Returns the tightest of one duration-like limit over the chain and the compiled ceiling, and whose it is; of equal ones
/// the first owner.
pub fn tightest_time(
    chain: &LimitChain,
    modality: Modality,
    pick: impl Fn(&Limits) -> Option<Duration>,
) -> Option<(Duration, LimitOwner)> {
    let compiled = pick(&ceiling(modality)).map(|limit| (limit, LimitOwner::Ceiling));
    let stated = chain.iter().filter_map(|(owner, owned)| Some((pick(&owned.limits)?, owner)));
    compiled.into_iter().chain(stated).min_by_key(|(limit, owner)| (*limit, owner.index()))
}

/// Puts the low cap of every step whose modality this client never had into the area's limits (clinical-safety 1.6).
pub fn first_visit(steps: &mut [Step], known: &BTreeSet<Modality>) {
    for step in steps.iter_mut().filter(|step| !known.contains(&step.modality)) {
        if step.low == Limits::default() {
            continue;
        }
        let area = step.chain.get_mut(LimitOwner::Area);
        let (low, own) = (&step.low, &mut area.limits);
        own.current = tighter(own.current, low.current);
        own.phase_charge = tighter(own.phase_charge, low.phase_charge);
        own.stroke_rate = tighter(own.stroke_rate, low.stroke_rate);
        own.speed = tighter(own.speed, low.speed);
        own.level = tighter(own.level, low.level);
        own.duration = tighter(own.duration, low.duration);
        own.area_time = tighter(own.area_time, low.area_time);
        own.session_time = tighter(own.session_time, low.session_time);
        area.said = format!("{}, first visit: low cap", step.place);
    }
}

fn tighter<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

/// Returns zero in the unit's own kind.
pub fn zero(range: &IntensityRange) -> Intensity {
    match range {
        IntensityRange::Current { .. } => Intensity::Current(Milliamps::ZERO),
        IntensityRange::Speed { .. } => Intensity::Speed(RawSpeed::ZERO),
        IntensityRange::Level { .. } => Intensity::Level(Level::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        name: &'static str,
        milliamps: u32,
        width: u32,
        hertz: u32,
        contact_cm2: u32,
        rms_ua: u32,
        verdict: bool,
    }

    const fn case(
        name: &'static str,
        (milliamps, width, hertz, contact_cm2): (u32, u32, u32, u32),
        rms_ua: u32,
        verdict: bool,
    ) -> Case {
        Case { name, milliamps, width, hertz, contact_cm2, rms_ua, verdict }
    }

    /// SR-09, SR-10: the worked examples of clinical-safety 1.5. `verdict` is by the limits of 1.1 only.
    const EXAMPLES: [Case; 7] = [
        case("conventional TENS", (20, 100, 100, 25), 2_828, true),
        case("acupuncture-like", (40, 200, 4, 25), 1_600, true),
        case("burst", (30, 200, 16, 25), 2_400, true),
        case("NMES strength", (80, 400, 50, 50), 16_000, true),
        case("small pad", (60, 300, 120, 10), 16_100, true),
        case("density breach", (100, 500, 150, 16), 38_730, false),
        case("public example", (200, 450, 25, 20), 30_000, true),
    ];

    fn standard_limits() -> Limits {
        Limits {
            rms: Some(Milliamps::from_milliamps(50)),
            density_ua_per_cm2: Some(2_000),
            power_mw_per_cm2: Some(250),
            pulse_energy_uj: Some(50_000),
            ..Limits::default()
        }
    }

    fn stimulation(width: u32, hertz: u32) -> Stimulation {
        let period = Hertz::from_hertz(hertz).period().expect("a rate above zero");
        Stimulation { width: Microseconds::from_micros(width), period, cycle: None }
    }

    fn most(limits: &Limits, width: u32, hertz: u32, contact_cm2: u32) -> u32 {
        let contact = SquareCentimetres::from_square_millimetres(contact_cm2 * 100);
        let bounds = current_bounds(limits, stimulation(width, hertz), Some(contact));
        bounds.into_iter().map(|(_, amps)| amps).min().expect("some limit")
    }

    #[test]
    fn sr_09_sr_10_worked_examples_pass_or_breach_as_published() {
        for example in &EXAMPLES {
            let most = most(&standard_limits(), example.width, example.hertz, example.contact_cm2);
            let allowed = example.milliamps * 1000 <= most;
            assert_eq!(allowed, example.verdict, "{}: at most {most} µA", example.name);
        }
    }

    #[test]
    fn sr_09_rms_of_the_worked_examples_is_exact_within_half_a_percent() {
        for example in &EXAMPLES {
            // The r.m.s. limit set to the published figure allows the published amplitude, within 0.5 %.
            let limits = Limits { rms: Some(Milliamps::from_microamps(example.rms_ua)), ..Limits::default() };
            let most = most(&limits, example.width, example.hertz, example.contact_cm2);
            let asked = example.milliamps * 1000;
            assert!(most.abs_diff(asked) * 200 <= asked, "{}: {most} against {asked}", example.name);
        }
    }

    #[test]
    fn sr_10_half_a_pad_breaches_what_a_whole_pad_allows() {
        let whole = most(&standard_limits(), 450, 25, 20);
        let half = most(&standard_limits(), 450, 25, 10);
        assert!(whole >= 200_000, "whole pad allows {whole} µA");
        assert!(half < 200_000, "half a pad allows {half} µA");
    }

    #[test]
    fn sr_10_without_a_contact_area_density_allows_nothing() {
        let bounds = current_bounds(&standard_limits(), stimulation(100, 100), None);
        assert_eq!(bounds.iter().map(|(_, amps)| *amps).min(), Some(0));
    }

    #[test]
    fn sr_09_each_ceiling_binds_at_its_figure_and_not_one_step_below() {
        let limits = ceiling(Modality::Tens);
        assert_eq!(most(&limits, 100, 80, 25), 60_000);
        let charge = Limits { phase_charge: limits.phase_charge, ..Limits::default() };
        assert_eq!(most(&charge, 250, 80, 25), 120_000, "30 µC at 250 µs is 120 mA");
    }

    proptest::proptest! {
        /// SR-09, SR-10 against plain floating-point formulas: the oracle shares no arithmetic with the code.
        #[test]
        fn sr_09_sr_10_integer_limits_agree_with_the_formulas(
            width in 10u32..=500, hertz in 1u32..=150, contact in 1u32..=100,
        ) {
            let most = f64::from(most(&standard_limits(), width, hertz, contact)) / 1000.0;
            let period_s = f64::from(stimulation(width, hertz).period.micros()) * 1e-6;
            let rms = |i: f64| i * (2.0 * f64::from(width) * 1e-6 / period_s).sqrt();
            let energy = |i: f64| (i / 1000.0).powi(2) * 500.0 * 2.0 * f64::from(width) * 1e-3;
            let power = |i: f64| energy(i) / period_s / f64::from(contact);
            let within = |i: f64| {
                rms(i) <= 50.0 && rms(i) / f64::from(contact) <= 2.0 && energy(i) <= 50.0 && power(i) <= 250.0
            };
            proptest::prop_assert!(within(most * 0.9999), "{most} mA should be within");
            proptest::prop_assert!(!within((most + 0.001) * 1.0001), "more than {most} mA should be over");
        }
    }
}
