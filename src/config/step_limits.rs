//! The static limit chain of a plan step, and whether what the plan asks lies inside it.
//!
//! Exact integer arithmetic: a plan is refused from the first microampere above a limit. The governor judges every
//! command again; this is so that a plan that could never run is refused before the client lies down.

use std::ops::Range as Span;
use std::time::Duration;

use crate::config::clinical_file::{BodyAreas, LowShare, tissue_word};
use crate::config::daemon_file::Daemon;
use crate::config::limit_table::{Bound, tighter, tightest};
use crate::config::reader::Table;
use crate::governor::limits::ceiling;
use crate::model::area::{Permission, Place, Tissue};
use crate::model::capability::{Capability, IntensityRange, RateBasis};
use crate::model::command::Intensity;
use crate::model::limit::{LimitChain, LimitOwner, Limits, OwnedLimits};
use crate::model::protocol::{Modality, Protocol};
use crate::units::{
    Hertz, Microcoulombs, Microseconds, Milliamps, RawSpeed, SquareCentimetres, duration_micros,
};

/// What the chain of one step is made of.
pub(crate) struct Owners<'a> {
    pub(crate) daemon: &'a Daemon,
    pub(crate) areas: &'a BodyAreas,
    pub(crate) protocol: &'a Protocol,
    /// The unit's title and what it can do.
    pub(crate) device: (&'a str, &'a Capability),
    /// The step's number and its own limits.
    pub(crate) plan: (u8, Limits),
    pub(crate) place: &'a Place,
    pub(crate) tissue: Tissue,
    /// An area of the step is under the low cap.
    pub(crate) caution: bool,
}

/// What a step asks of its stimulator, with where each was written.
pub(crate) struct Asked {
    pub(crate) current: (Milliamps, Span<usize>),
    pub(crate) width: (Microseconds, Span<usize>),
    pub(crate) frequency: (Hertz, Span<usize>),
    pub(crate) on: Option<(Duration, Span<usize>)>,
    /// The smaller electrode.
    pub(crate) contact: SquareCentimetres,
}

/// Builds the chain: ceiling, device, site, protocol, plan and area; nobody has cleared anything yet.
pub(crate) fn chain(owners: &Owners<'_>) -> LimitChain {
    let Owners { daemon, protocol, device: (title, capability), plan: (number, own), .. } = owners;
    let modality = protocol.modality;
    let said = |limits: Limits, said: String| OwnedLimits { limits, said };
    let mut chain = LimitChain::default();
    *chain.get_mut(LimitOwner::Ceiling) = said(ceiling(modality), String::new());
    *chain.get_mut(LimitOwner::Device) = said(capability.limits.clone(), (*title).to_owned());
    *chain.get_mut(LimitOwner::Site) = daemon.site(modality).clone();
    *chain.get_mut(LimitOwner::Protocol) = said(protocol.limits.clone(), protocol.title.clone());
    *chain.get_mut(LimitOwner::Plan) = said(own.clone(), format!("plan step {number}"));
    *chain.get_mut(LimitOwner::Area) = area_limits(owners);
    chain
}

/// What the area bounds: percussion by its tissue, everything by the low cap where it is marked `caution`.
fn area_limits(owners: &Owners<'_>) -> OwnedLimits {
    let Owners { areas, protocol, device: (_, capability), place, tissue, caution, .. } = owners;
    let low = areas.low_cap();
    let mut limits = match (protocol.modality, *caution) {
        (_, false) => Limits::default(),
        (Modality::Percussion, true) => low.percussion.clone(),
        (Modality::Tens, true) => low_share(&low.tens, protocol, capability),
        (Modality::Nmes, true) => low_share(&low.nmes, protocol, capability),
    };
    let mut said = place.to_string();
    if matches!(protocol.modality, Modality::Percussion) {
        limits.stroke_rate = tighter(limits.stroke_rate, Some(areas.speed(*tissue)));
        said = format!("{said}, {}", tissue_word(*tissue));
    }
    if *caution {
        said = format!("{said}, low cap");
    }
    OwnedLimits { limits, said }
}

/// The low cap: shares of the protocol's own limit, else of the ceiling, floored to the device grid.
fn low_share(share: &LowShare, protocol: &Protocol, capability: &Capability) -> Limits {
    let most = ceiling(protocol.modality);
    let current = protocol.limits.current.or(most.current).map(|full| {
        let micros = u64::from(full.microamps()) * u64::from(share.percent_current) / 100;
        let cut = Milliamps::from_microamps(u32::try_from(micros).unwrap_or(u32::MAX));
        floor_current(capability, cut)
    });
    let phase_charge = protocol.limits.phase_charge.or(most.phase_charge).map(|full| {
        let parts = u128::from(full.picocoulombs()) * u128::from(share.percent_phase_charge) / 100;
        Microcoulombs::from_picocoulombs(u64::try_from(parts).unwrap_or(u64::MAX))
    });
    Limits { current, phase_charge, duration: Some(share.duration), ..Limits::default() }
}

/// Returns the highest current on the unit's grid that is not above this one.
pub(crate) fn floor_current(capability: &Capability, current: Milliamps) -> Milliamps {
    let IntensityRange::Current { step, .. } = capability.intensity else {
        return current;
    };
    let over = current.microamps().checked_rem(step.microamps()).unwrap_or(0);
    current.saturating_sub(Milliamps::from_microamps(over))
}

/// Returns whether an area is under the low cap.
pub(crate) const fn is_caution(permission: Permission) -> bool {
    matches!(permission, Permission::Caution)
}

/// Reports everything that a neurostimulation step asks above a limit of its chain.
pub(crate) fn judge_stimulation(table: &Table<'_>, chain: &LimitChain, asked: &Asked) {
    let (current, at) = &asked.current;
    let micros = u64::from(current.microamps());
    over(table, chain, Bound::Current, micros, at);
    over(table, chain, Bound::Width, asked.width.0.micros().into(), &asked.width.1);
    over(table, chain, Bound::Frequency, asked.frequency.0.millihertz().into(), &asked.frequency.1);
    over(table, chain, Bound::PhaseCharge, (*current * asked.width.0).picocoulombs(), at);
    if let Some((on, at)) = &asked.on {
        over(table, chain, Bound::On, duration_micros(*on), at);
    }
    for bound in [Bound::Rms, Bound::Density, Bound::Power, Bound::PulseEnergy] {
        let Some((owner, limit)) = tightest(chain, bound) else {
            continue;
        };
        let Some(most) = largest_current(bound, limit, asked) else {
            continue;
        };
        if micros > most {
            let message = format!(
                "target of {} is above the {} limit of {}",
                table.name(),
                owner.word(),
                bound.words()
            );
            let label =
                format!("{} limit is {}{}", owner.word(), bound.show(limit), words_said(chain, owner));
            let help = format!(
                "with this width and rate on {} at most {} is possible",
                asked.contact,
                Bound::Current.show(most)
            );
            table.push(Some(at.clone()), message, label, Some(help));
        }
    }
}

/// Reports a percussion target above a limit of its chain and says whether it was. An uncalibrated gun is judged by the
/// worst credible reading.
pub(crate) fn judge_percussion(
    table: &Table<'_>,
    chain: &LimitChain,
    capability: &Capability,
    tissue: Tissue,
    (target, at): (Intensity, &Span<usize>),
) -> bool {
    let uncalibrated = matches!(capability.rate_basis, RateBasis::WorstCase);
    match target {
        Intensity::Current(_) => false,
        Intensity::Speed(speed) => {
            over(table, chain, Bound::Speed, speed.raw().into(), at)
                || (uncalibrated && over_worst_case(table, chain, speed, at))
        }
        Intensity::Level(level) => {
            if over(table, chain, Bound::Level, level.level().into(), at) {
                return true;
            }
            let refused = uncalibrated && (level.level() > 1 || tissue != Tissue::MuscleLarge);
            if refused {
                let message = format!("target of {} is above what an uncalibrated gun may do", table.name());
                let help = Some("calibrate the gun, or work a large muscle at level 1".to_owned());
                table.push(Some(at.clone()), message, "level 1 on muscle_large only", help);
            }
            refused
        }
    }
}

/// One raw number counts as one stroke a minute (design 3.13).
fn over_worst_case(table: &Table<'_>, chain: &LimitChain, speed: RawSpeed, at: &Span<usize>) -> bool {
    let Some((owner, limit)) = tightest(chain, Bound::StrokeRate) else {
        return false;
    };
    let most = limit.saturating_mul(60) / 1000;
    if u64::from(speed.raw()) <= most {
        return false;
    }
    let message = format!("target of {} is above the {} limit of stroke rate", table.name(), owner.word());
    let shown = Bound::StrokeRate.show(limit);
    let label = format!("{} limit is {shown}{}", owner.word(), words_said(chain, owner));
    let help =
        format!("this gun is not calibrated: 1 raw counts as 1 stroke a minute, so at most {most} raw");
    table.push(Some(at.clone()), message, label, Some(help));
    true
}

/// Reports a duration above a limit of its chain.
pub(crate) fn judge_duration(table: &Table<'_>, chain: &LimitChain, (asked, at): (Duration, &Span<usize>)) {
    for bound in [Bound::Duration, Bound::AreaTime, Bound::SessionTime] {
        if over(table, chain, bound, duration_micros(asked), at) {
            // One length is one problem: the next bound would only repeat it.
            return;
        }
    }
}

/// Reports a value above the tightest bound of the chain; says whether it was.
fn over(table: &Table<'_>, chain: &LimitChain, bound: Bound, asked: u64, at: &Span<usize>) -> bool {
    let Some((owner, limit)) = tightest(chain, bound).filter(|(_, limit)| asked > *limit) else {
        return false;
    };
    let (found, most) = (bound.show(asked), bound.show(limit));
    let message =
        format!("{} of {} is {found}, above the {} limit", bound.words(), table.name(), owner.word());
    let label = format!("{} limit is {most}{}", owner.word(), words_said(chain, owner));
    table.push(Some(at.clone()), message, label, Some(format!("ask for at most {most}")));
    true
}

fn words_said(chain: &LimitChain, owner: LimitOwner) -> String {
    let said = &chain.get(owner).said;
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

/// Returns the largest current, µA, that keeps an electrical bound (clinical-safety 1.4, biphasic symmetric, 500 Ω).
///
/// With I in µA, phase width w and period T in µs, contact A in mm²:
/// r.m.s. I²·2w ≤ L²·T; density I²·2w·10⁴ ≤ (L·A)²·T; power I²·w ≤ L·A·T·10⁴; pulse energy I²·w ≤ L·10⁹.
/// `None`: it does not bound a current.
fn largest_current(bound: Bound, limit: u64, asked: &Asked) -> Option<u64> {
    let width = u128::from(asked.width.0.micros());
    let period = u128::from(asked.frequency.0.period()?.micros());
    let contact = u128::from(asked.contact.square_millimetres());
    let limit = u128::from(limit);
    let (most, per) = match bound {
        Bound::Rms => (limit.saturating_mul(limit).saturating_mul(period), width * 2),
        Bound::Density => {
            let total = limit.saturating_mul(contact);
            (total.saturating_mul(total).saturating_mul(period), width * 20_000)
        }
        Bound::Power => (limit.saturating_mul(contact).saturating_mul(period).saturating_mul(10_000), width),
        Bound::PulseEnergy => (limit.saturating_mul(1_000_000_000), width),
        Bound::Current
        | Bound::Width
        | Bound::Frequency
        | Bound::PhaseCharge
        | Bound::On
        | Bound::StrokeRate
        | Bound::Speed
        | Bound::Level
        | Bound::Duration
        | Bound::AreaTime
        | Bound::SessionTime => return None,
    };
    let squared = most.checked_div(per)?;
    Some(u64::try_from(squared.isqrt()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(current_ma: u32, width_us: u32, rate_hz: u32, contact_cm2: u32) -> Asked {
        Asked {
            current: (Milliamps::from_milliamps(current_ma), 0..0),
            width: (Microseconds::from_micros(width_us), 0..0),
            frequency: (Hertz::from_hertz(rate_hz), 0..0),
            on: None,
            contact: SquareCentimetres::from_square_millimetres(contact_cm2 * 100),
        }
    }

    /// SR-09, SR-10: the worked examples of clinical-safety 1.5, by what each bound would allow.
    #[test]
    fn worked_examples_agree() {
        // mA, µs, Hz, cm², r.m.s. µA, density µA/cm², energy µJ
        for (current, width, rate, contact, rms, density, energy) in [
            (20, 100, 100, 25, 2_828_u64, 113_u64, 40_u64),
            (40, 200, 4, 25, 1_600, 64, 320),
            (80, 400, 50, 50, 16_000, 320, 2_560),
            (60, 300, 120, 10, 16_100, 1_610, 1_080),
            (100, 500, 150, 16, 38_730, 2_420, 5_000),
            (200, 450, 25, 20, 30_000, 1_500, 18_000),
        ] {
            let case = asked(current, width, rate, contact);
            let micros = u64::from(current) * 1000;
            for (bound, value) in [(Bound::Rms, rms), (Bound::Density, density), (Bound::PulseEnergy, energy)]
            {
                // A limit 0.5 % above the example's value passes it, one 0.5 % below refuses it.
                let (above, below) = (value + value.div_ceil(200), value - value.div_ceil(200));
                assert!(largest_current(bound, above, &case).unwrap() >= micros, "{bound:?} {current} mA");
                assert!(largest_current(bound, below, &case).unwrap() < micros, "{bound:?} {current} mA");
            }
        }
    }

    #[test]
    fn the_density_breach_of_the_examples_is_refused_by_density_alone() {
        let breach = asked(100, 500, 150, 16);
        assert!(largest_current(Bound::Rms, 50_000, &breach).unwrap() >= 100_000);
        assert!(largest_current(Bound::Density, 2_000, &breach).unwrap() < 100_000);
        assert!(largest_current(Bound::Power, 250, &breach).unwrap() >= 100_000);
    }

    #[test]
    fn power_density_of_the_examples_agrees() {
        // NMES strength: 2.56 mW/cm²; small pad: 13.0 mW/cm².
        let strength = asked(80, 400, 50, 50);
        assert!(largest_current(Bound::Power, 3, &strength).unwrap() >= 80_000);
        assert!(largest_current(Bound::Power, 2, &strength).unwrap() < 80_000);
        let pad = asked(60, 300, 120, 10);
        assert!(largest_current(Bound::Power, 13, &pad).unwrap() >= 60_000);
        assert!(largest_current(Bound::Power, 12, &pad).unwrap() < 60_000);
    }

    #[test]
    fn the_largest_current_is_exact_and_never_overflows() {
        let case = asked(1, 300, 120, 10);
        let most = largest_current(Bound::Rms, 50_000, &case).unwrap();
        let period = u128::from(Hertz::from_hertz(120).period().unwrap().micros());
        let square = |micros: u64| u128::from(micros) * u128::from(micros) * 600;
        assert!(square(most) <= 2_500_000_000 * period && square(most + 1) > 2_500_000_000 * period);
        let mut extreme = asked(1, 1, 1, 1);
        extreme.contact = SquareCentimetres::from_square_millimetres(u32::MAX);
        extreme.frequency.0 = Hertz::from_millihertz(1);
        for bound in [Bound::Rms, Bound::Density, Bound::Power, Bound::PulseEnergy] {
            assert!(largest_current(bound, u64::from(u32::MAX), &extreme).is_some());
        }
        extreme.width.0 = Microseconds::from_micros(0);
        assert_eq!(largest_current(Bound::Rms, 50_000, &extreme), None);
    }
}
