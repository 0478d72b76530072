//! What a plan allows, worked out a second time: in floating point, from the papers' formulas, without the limiter.

use std::time::Duration;

use crate::model::capability::IntensityRange;
use crate::model::limit::{LimitOwner, Limits};
use crate::model::plan::{Plan, Step};
use crate::model::protocol::Modality;

/// Load for comparison, Ω.
const OHMS: f64 = 500.0;

/// What may be given in one step, by what files and ceilings say; in µA, raw or level, and seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) most: f64,
    pub(crate) duration: f64,
    pub(crate) area: f64,
    pub(crate) session: f64,
    /// Rise of a titration, per second.
    pub(crate) rise: f64,
    /// What one step from zero may be.
    pub(crate) floor: f64,
}

/// The compiled ceilings, written down a second time on purpose: mA, minutes on an area, minutes in a session.
const fn ceilings(modality: Modality) -> (f64, f64, f64) {
    match modality {
        Modality::Tens => (60.0, 60.0, 120.0),
        Modality::Nmes => (100.0, 30.0, 60.0),
        Modality::Percussion => (f64::INFINITY, 2.0, 15.0),
    }
}

/// Returns the smallest of what the owners say.
fn smallest(step: &Step, of: impl Fn(&Limits) -> Option<f64>) -> f64 {
    let owners = LimitOwner::ALL.iter().filter_map(|owner| of(&step.chain.get(*owner).limits));
    owners.fold(f64::INFINITY, f64::min)
}

fn seconds(limit: Option<Duration>) -> Option<f64> {
    limit.map(|limit| limit.as_secs_f64())
}

/// Returns the bounds of a step.
pub(crate) fn of(plan: &Plan, step: &Step) -> Bounds {
    let (ceiling_ma, area_min, session_min) = ceilings(step.modality);
    let range = plan.devices.get(usize::from(step.device.0)).map(|planned| planned.capability.intensity);
    let (most, rise, floor) = match range {
        Some(IntensityRange::Current { step: grid, max }) => {
            let full = f64::from(max.microamps());
            let most = 1_000.0 * stimulation_ma(step).min(ceiling_ma);
            (most.min(full), 5_000.0_f64.min(full / 10.0), f64::from(grid.microamps()))
        }
        Some(IntensityRange::Speed { floor, max, top, rise_per_s }) => {
            let rise = f64::from(rise_per_s).min(f64::from(top.raw()) / 5.0);
            (percussion_raw(step).min(f64::from(max.raw())), rise, f64::from(floor.raw()))
        }
        Some(IntensityRange::Level { max, .. }) => {
            let own = smallest(step, |limits| limits.level.map(|level| f64::from(level.level())));
            (own.min(f64::from(max.level())), 0.5, 1.0)
        }
        None => (0.0, 0.0, 0.0),
    };
    Bounds {
        most,
        rise,
        floor,
        duration: smallest(step, |limits| seconds(limits.duration)).min(step.duration.as_secs_f64()),
        area: smallest(step, |limits| seconds(limits.area_time)).min(60.0 * area_min),
        session: smallest(step, |limits| seconds(limits.session_time)).min(60.0 * session_min),
    }
}

/// 1 raw counts as 1 stroke per minute; 40 strokes per second are the ceiling.
fn percussion_raw(step: &Step) -> f64 {
    let rate = smallest(step, |limits| limits.stroke_rate.map(|rate| f64::from(rate.millihertz()) / 1_000.0));
    let speed = smallest(step, |limits| limits.speed.map(|speed| f64::from(speed.raw())));
    speed.min(60.0 * rate.min(40.0))
}

/// clinical-safety 1.4, biphasic symmetric: r.m.s. current and density, energy of a pulse, power density, phase charge.
fn stimulation_ma(step: &Step) -> f64 {
    let Some(pulses) = step.stimulation else {
        return 0.0;
    };
    let (width_us, period_us) = (f64::from(pulses.width.micros()), f64::from(pulses.period.micros()));
    let contact = step.applicator.smallest_contact();
    let cm2 = contact.map_or(0.0, |contact| f64::from(contact.square_millimetres()) / 100.0);
    let on_share = 2.0 * width_us / period_us;
    let rms = smallest(step, |limits| limits.rms.map(|rms| f64::from(rms.microamps()) / 1_000.0)).min(50.0);
    let density =
        smallest(step, |limits| limits.density_ua_per_cm2.map(|ua| f64::from(ua) / 1_000.0)).min(2.0);
    let power = smallest(step, |limits| limits.power_mw_per_cm2.map(f64::from)).min(250.0);
    let energy_mj =
        smallest(step, |limits| limits.pulse_energy_uj.map(|uj| f64::from(uj) / 1_000.0)).min(50.0);
    let own = smallest(step, |limits| limits.current.map(|current| f64::from(current.microamps()) / 1_000.0));
    let charge_uc = smallest(step, |limits| limits.phase_charge.map(to_microcoulombs));
    let ceiling_uc = if step.modality == Modality::Tens { 30.0 } else { 60.0 };
    // I² R t in mA, Ω, s is in µW s; a pulse lasts two phases.
    let pulse_s = 2.0 * width_us * 1e-6;
    [
        rms.min(density * cm2) / on_share.sqrt(),
        (energy_mj * 1_000.0 / (OHMS * pulse_s)).sqrt(),
        (power * cm2 * 1_000.0 * period_us * 1e-6 / (OHMS * pulse_s)).sqrt(),
        1_000.0 * charge_uc.min(ceiling_uc) / width_us,
        own,
    ]
    .into_iter()
    .fold(f64::INFINITY, f64::min)
}

fn to_microcoulombs(charge: crate::units::Microcoulombs) -> f64 {
    // The numbers here are below 2^32 nC, which a float holds exactly.
    f64::from(u32::try_from(charge.picocoulombs() / 1_000).unwrap_or(u32::MAX)) / 1_000.0
}
