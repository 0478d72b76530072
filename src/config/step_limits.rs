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
use crate::governor::limits::{ceiling, current_bounds};
use crate::model::area::{Permission, Place, Tissue};
use crate::model::capability::{Capability, IntensityRange, RateBasis};
use crate::model::command::Intensity;
use crate::model::limit::{LimitChain, LimitOwner, Limits, OwnedLimits};
use crate::model::plan::Stimulation;
use crate::model::protocol::{Modality, Protocol};
use crate::units::{
    Hertz, Level, Microcoulombs, Microseconds, Milliamps, RawSpeed, SquareCentimetres, duration_micros,
};

/// What the chain of one step is made of.
pub(crate) struct Owners<'a> {
    pub(crate) daemon: &'a Daemon,
    pub(crate) areas: &'a BodyAreas,
    pub(crate) protocol: &'a Protocol,
    /// The unit's title and what it can do; `None`: the step names no unit that suits.
    pub(crate) device: Option<(&'a str, &'a Capability)>,
    /// The step's number and its own limits.
    pub(crate) plan: (u8, Limits),
    /// Where it works and the tissue there; `None`: the step names no known place.
    pub(crate) area: Option<(&'a Place, Tissue)>,
    /// An area of the step is under the low cap.
    pub(crate) caution: bool,
}

/// What a step asks of its stimulator, with where each was written; `None`: missing, or not what is due.
pub(crate) struct Asked {
    pub(crate) current: Option<(Milliamps, Span<usize>)>,
    pub(crate) width: Option<(Microseconds, Span<usize>)>,
    pub(crate) frequency: Option<(Hertz, Span<usize>)>,
    pub(crate) on: Option<(Duration, Span<usize>)>,
    /// The smaller electrode.
    pub(crate) contact: Option<SquareCentimetres>,
}

/// Builds the chain: ceiling, device, site, protocol, plan and area; nobody has cleared anything yet.
pub(crate) fn chain(owners: &Owners<'_>) -> LimitChain {
    let Owners { daemon, protocol, device, plan: (number, own), .. } = owners;
    let modality = protocol.modality;
    let said = |limits: Limits, said: String| OwnedLimits { limits, said };
    let mut chain = LimitChain::default();
    *chain.get_mut(LimitOwner::Ceiling) = said(ceiling(modality), String::new());
    if let Some((title, capability)) = device {
        *chain.get_mut(LimitOwner::Device) = said(capability.limits.clone(), (*title).to_owned());
    }
    *chain.get_mut(LimitOwner::Site) = daemon.site(modality).clone();
    *chain.get_mut(LimitOwner::Protocol) = said(protocol.limits.clone(), protocol.title.clone());
    *chain.get_mut(LimitOwner::Plan) = said(own.clone(), format!("plan step {number}"));
    *chain.get_mut(LimitOwner::Area) = area_limits(owners);
    chain
}

/// What the area bounds: percussion by its tissue, everything by the low cap where it is marked `caution`.
fn area_limits(owners: &Owners<'_>) -> OwnedLimits {
    let Owners { areas, protocol, device, area, caution, .. } = owners;
    let Some((place, tissue)) = area else {
        return OwnedLimits::default();
    };
    let capability = device.map(|(_, capability)| capability);
    let mut limits = if *caution { low_cap(areas, protocol, capability) } else { Limits::default() };
    let mut said = place.to_string();
    if matches!(protocol.modality, Modality::Percussion) {
        limits.stroke_rate = tighter(limits.stroke_rate, Some(areas.speed(*tissue)));
        said = format!("{said}, {}", tissue_word(*tissue));
        if capability.is_some_and(uncalibrated_levels) {
            limits.level = tighter(limits.level, Some(Level::from_level(1)));
        }
    }
    if *caution {
        said = format!("{said}, low cap");
    }
    OwnedLimits { limits, said }
}

/// Returns the low cap of a protocol on a unit.
pub(crate) fn low_cap(areas: &BodyAreas, protocol: &Protocol, capability: Option<&Capability>) -> Limits {
    let low = areas.low_cap();
    match protocol.modality {
        Modality::Percussion => low.percussion.clone(),
        Modality::Tens => low_share(&low.tens, protocol, capability),
        Modality::Nmes => low_share(&low.nmes, protocol, capability),
    }
}

/// A gun set by levels runs at level 1 until it is calibrated (design 3.13).
const fn uncalibrated_levels(capability: &Capability) -> bool {
    matches!(capability.intensity, IntensityRange::Level { .. })
        && matches!(capability.rate_basis, RateBasis::WorstCase)
}

/// The low cap: shares of the protocol's own limit, else of the ceiling, floored to the device grid.
fn low_share(share: &LowShare, protocol: &Protocol, capability: Option<&Capability>) -> Limits {
    let most = ceiling(protocol.modality);
    let current = protocol.limits.current.or(most.current).map(|full| {
        let micros = u64::from(full.microamps()) * u64::from(share.percent_current) / 100;
        let cut = Milliamps::from_microamps(u32::try_from(micros).unwrap_or(u32::MAX));
        capability.map_or(cut, |capability| floor_current(capability, cut))
    });
    let phase_charge = protocol.limits.phase_charge.or(most.phase_charge).map(|full| {
        let parts = u128::from(full.picocoulombs()) * u128::from(share.percent_phase_charge) / 100;
        Microcoulombs::from_picocoulombs(u64::try_from(parts).unwrap_or(u64::MAX))
    });
    let (duration, area_time) = (Some(share.duration), Some(share.duration));
    Limits { current, phase_charge, duration, area_time, ..Limits::default() }
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
    if let Some((width, at)) = &asked.width {
        over(table, chain, Bound::Width, width.micros().into(), at);
    }
    if let Some((frequency, at)) = &asked.frequency {
        over(table, chain, Bound::Frequency, frequency.millihertz().into(), at);
    }
    if let Some((on, at)) = &asked.on {
        over(table, chain, Bound::On, duration_micros(*on), at);
    }
    let Some((current, at)) = &asked.current else {
        return;
    };
    over(table, chain, Bound::Current, current.microamps().into(), at);
    if let Some((width, _)) = &asked.width {
        over(table, chain, Bound::PhaseCharge, (*current * *width).picocoulombs(), at);
    }
    if let Some(pattern) = asked.pattern() {
        judge_pattern(table, chain, (*current, at), pattern, asked.contact);
    }
}

/// Reports a current above what the bounds of the whole pulse train allow; those of density need the electrode.
fn judge_pattern(
    table: &Table<'_>,
    chain: &LimitChain,
    (current, at): (Milliamps, &Span<usize>),
    pattern: Stimulation,
    contact: Option<SquareCentimetres>,
) {
    for bound in [Bound::Rms, Bound::Density, Bound::Power, Bound::PulseEnergy] {
        // Without a declared electrode there is no density to judge; the governor would count it as no contact at all.
        if contact.is_none() && matches!(bound, Bound::Density | Bound::Power) {
            continue;
        }
        let Some((owner, most)) = electrical_max(chain, bound, pattern, contact) else {
            continue;
        };
        if current > most {
            let message = format!(
                "target of {} is above the {} limit of {}",
                table.name(),
                owner.word(),
                bound.words()
            );
            let stated = bound.of(&chain.get(owner).limits).map_or_else(String::new, |it| bound.show(it));
            let label = format!("{} limit is {stated}{}", owner.word(), words_said(chain, owner));
            let on = contact.map_or_else(String::new, |contact| format!(" on {contact}"));
            let help = format!("with this width and rate{on} at most {most} is possible");
            table.push(Some(at.clone()), message, label, Some(help));
        }
    }
}

impl Asked {
    /// The pulses as asked, before they are put on the grid: never a longer period than will be driven.
    fn pattern(&self) -> Option<Stimulation> {
        let (width, _) = self.width.as_ref()?;
        let (frequency, _) = self.frequency.as_ref()?;
        Some(Stimulation { width: *width, period: frequency.period()?, cycle: None })
    }
}

/// Returns the largest current that one electrical bound allows, and whose bound that is.
fn electrical_max(
    chain: &LimitChain,
    bound: Bound,
    pattern: Stimulation,
    contact: Option<SquareCentimetres>,
) -> Option<(LimitOwner, Milliamps)> {
    let most = |limits: &Limits| {
        let found = current_bounds(&bound.alone(limits), pattern, contact);
        found.first().map(|(_, micros)| Milliamps::from_microamps(*micros))
    };
    let stated = chain.iter().filter_map(|(owner, owned)| Some((owner, most(&owned.limits)?)));
    stated.min_by_key(|(owner, current)| (*current, owner.index()))
}

/// Reports a percussion target above a limit of its chain and says whether it was. An uncalibrated gun is judged by the
/// worst credible reading.
pub(crate) fn judge_percussion(
    table: &Table<'_>,
    chain: &LimitChain,
    capability: Option<&Capability>,
    tissue: Option<Tissue>,
    (target, at): (Intensity, &Span<usize>),
) -> bool {
    let uncalibrated = capability.is_some_and(|it| matches!(it.rate_basis, RateBasis::WorstCase));
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
            let refused = uncalibrated && tissue.is_some_and(|tissue| tissue != Tissue::MuscleLarge);
            if refused {
                let message = format!("{} is no place for an uncalibrated gun", table.name());
                let help = Some("calibrate the gun, or work a large muscle".to_owned());
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
    for bound in [Bound::Duration, Bound::AreaTime, Bound::SessionTime, Bound::DayTime] {
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

pub(crate) fn words_said(chain: &LimitChain, owner: LimitOwner) -> String {
    let said = &chain.get(owner).said;
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(current_ma: u32, width_us: u32, rate_hz: u32, contact_cm2: u32) -> Asked {
        Asked {
            current: Some((Milliamps::from_milliamps(current_ma), 0..0)),
            width: Some((Microseconds::from_micros(width_us), 0..0)),
            frequency: Some((Hertz::from_hertz(rate_hz), 0..0)),
            on: None,
            contact: Some(SquareCentimetres::from_square_millimetres(contact_cm2 * 100)),
        }
    }

    fn most(case: &Asked, bound: Bound, limits: Limits) -> Milliamps {
        let mut chain = LimitChain::default();
        chain.get_mut(LimitOwner::Site).limits = limits;
        let found = electrical_max(&chain, bound, case.pattern().unwrap(), case.contact);
        let (owner, current) = found.unwrap();
        assert_eq!(owner, LimitOwner::Site);
        current
    }

    /// SR-09, SR-10: the worked examples of clinical-safety 1.5, each bound 3 % above and below its value.
    #[test]
    fn sr_09_sr_10_worked_examples_agree() {
        // mA, µs, Hz, cm², r.m.s. µA, density µA/cm², energy µJ
        for (current, width, rate, contact, rms, density, energy) in [
            (20, 100, 100, 25, 2_828_u32, 113_u32, 40_u32),
            (40, 200, 4, 25, 1_600, 64, 320),
            (80, 400, 50, 50, 16_000, 320, 2_560),
            (60, 300, 120, 10, 16_100, 1_610, 1_080),
            (100, 500, 150, 16, 38_730, 2_420, 5_000),
            (200, 450, 25, 20, 30_000, 1_500, 18_000),
        ] {
            let case = asked(current, width, rate, contact);
            let limits = |parts: u32| Limits {
                rms: Some(Milliamps::from_microamps(rms * parts / 1000)),
                density_ua_per_cm2: Some(density * parts / 1000),
                pulse_energy_uj: Some(energy * parts / 1000),
                ..Limits::default()
            };
            for bound in [Bound::Rms, Bound::Density, Bound::PulseEnergy] {
                let current = Milliamps::from_milliamps(current);
                assert!(most(&case, bound, limits(1_030)) >= current, "{bound:?} {current}");
                assert!(most(&case, bound, limits(970)) < current, "{bound:?} {current}");
            }
        }
    }

    #[test]
    fn the_tightest_owner_of_an_electrical_bound_is_named() {
        let mut chain = LimitChain::default();
        chain.get_mut(LimitOwner::Ceiling).limits.density_ua_per_cm2 = Some(2_000);
        chain.get_mut(LimitOwner::Device).limits.density_ua_per_cm2 = Some(2_000);
        let case = asked(1, 300, 120, 10);
        let owner = |chain: &LimitChain| {
            electrical_max(chain, Bound::Density, case.pattern().unwrap(), case.contact).unwrap().0
        };
        assert_eq!(owner(&chain), LimitOwner::Ceiling, "of equal ones the first");
        chain.get_mut(LimitOwner::Device).limits.density_ua_per_cm2 = Some(1_999);
        assert_eq!(owner(&chain), LimitOwner::Device);
        assert_eq!(electrical_max(&chain, Bound::Rms, case.pattern().unwrap(), case.contact), None);
    }
}
