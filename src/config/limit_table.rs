//! Tables of limits in files, and comparing them: one place that knows every bound by name, unit and magnitude.

use std::ops::Range as Span;
use std::time::Duration;

use crate::config::reader::{At, Table, duration, quantity, scaled};
use crate::model::limit::{LimitChain, LimitOwner, Limits};
use crate::model::protocol::Modality;
use crate::units::{
    Hertz, Level, Microcoulombs, Microseconds, Milliamps, RawSpeed, duration_micros, show_duration,
};

/// What can be bounded; one per field of [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Current,
    Width,
    Frequency,
    PhaseCharge,
    Rms,
    Density,
    Power,
    PulseEnergy,
    On,
    StrokeRate,
    Speed,
    Level,
    Duration,
    AreaTime,
    SessionTime,
    DayTime,
}

/// Limits as a file states them, with where each was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    pub(crate) limits: Limits,
    pub(crate) spans: Vec<(Bound, Span<usize>)>,
}

impl Bound {
    /// Returns the key in files.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Width => "width",
            Self::Frequency => "frequency",
            Self::PhaseCharge => "phase_charge",
            Self::Rms => "rms",
            Self::Density => "density",
            Self::Power => "power",
            Self::PulseEnergy => "pulse_energy",
            Self::On => "on",
            Self::StrokeRate => "stroke_rate",
            Self::Speed => "speed",
            Self::Level => "level",
            Self::Duration => "duration",
            Self::AreaTime => "area_time",
            Self::SessionTime => "session_time",
            Self::DayTime => "day_time",
        }
    }

    /// Returns what it bounds, in words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Width => "phase width",
            Self::Frequency => "pulse rate",
            Self::PhaseCharge => "charge per phase",
            Self::Rms => "r.m.s. current",
            Self::Density => "current density",
            Self::Power => "power density",
            Self::PulseEnergy => "pulse energy",
            Self::On => "ON time",
            Self::StrokeRate => "stroke rate",
            Self::Speed => "speed",
            Self::Level => "level",
            Self::Duration => "duration",
            Self::AreaTime => "time on one area in a day",
            Self::SessionTime => "time in one session",
            Self::DayTime => "time in one day",
        }
    }

    /// Returns whether it means something for a modality.
    pub(crate) const fn applies(self, modality: Modality) -> bool {
        match self {
            Self::Duration | Self::AreaTime | Self::SessionTime | Self::DayTime => true,
            Self::StrokeRate | Self::Speed | Self::Level => matches!(modality, Modality::Percussion),
            Self::On => matches!(modality, Modality::Nmes),
            Self::Current
            | Self::Width
            | Self::Frequency
            | Self::PhaseCharge
            | Self::Rms
            | Self::Density
            | Self::Power
            | Self::PulseEnergy => matches!(modality, Modality::Tens | Modality::Nmes),
        }
    }

    /// Returns the bound as a number in its base unit; `None`: not bounded.
    pub(crate) fn of(self, limits: &Limits) -> Option<u64> {
        let micros = |span: Option<Duration>| span.map(duration_micros);
        match self {
            Self::Current => limits.current.map(|it| it.microamps().into()),
            Self::Width => limits.width.map(|it| it.micros().into()),
            Self::Frequency => limits.frequency.map(|it| it.millihertz().into()),
            Self::PhaseCharge => limits.phase_charge.map(Microcoulombs::picocoulombs),
            Self::Rms => limits.rms.map(|it| it.microamps().into()),
            Self::Density => limits.density_ua_per_cm2.map(u64::from),
            Self::Power => limits.power_mw_per_cm2.map(u64::from),
            Self::PulseEnergy => limits.pulse_energy_uj.map(u64::from),
            Self::On => micros(limits.on),
            Self::StrokeRate => limits.stroke_rate.map(|it| it.millihertz().into()),
            Self::Speed => limits.speed.map(|it| it.raw().into()),
            Self::Level => limits.level.map(|it| it.level().into()),
            Self::Duration => micros(limits.duration),
            Self::AreaTime => micros(limits.area_time),
            Self::SessionTime => micros(limits.session_time),
            Self::DayTime => micros(limits.day_time),
        }
    }

    /// Returns limits that state this bound and nothing else; electrical bounds only.
    pub(crate) fn alone(self, limits: &Limits) -> Limits {
        let nothing = Limits::default();
        match self {
            Self::Rms => Limits { rms: limits.rms, ..nothing },
            Self::Density => Limits { density_ua_per_cm2: limits.density_ua_per_cm2, ..nothing },
            Self::Power => Limits { power_mw_per_cm2: limits.power_mw_per_cm2, ..nothing },
            Self::PulseEnergy => Limits { pulse_energy_uj: limits.pulse_energy_uj, ..nothing },
            Self::Current
            | Self::Width
            | Self::Frequency
            | Self::PhaseCharge
            | Self::On
            | Self::StrokeRate
            | Self::Speed
            | Self::Level
            | Self::Duration
            | Self::AreaTime
            | Self::SessionTime
            | Self::DayTime => nothing,
        }
    }

    /// Prints a number in the base unit as people write it.
    pub(crate) fn show(self, magnitude: u64) -> String {
        let small = u32::try_from(magnitude).unwrap_or(u32::MAX);
        match self {
            Self::Current | Self::Rms => Milliamps::from_microamps(small).to_string(),
            Self::Width => Microseconds::from_micros(small).to_string(),
            Self::Frequency | Self::StrokeRate => Hertz::from_millihertz(small).to_string(),
            Self::PhaseCharge => Microcoulombs::from_picocoulombs(magnitude).to_string(),
            Self::Density => format!("{} mA/cm2", thousandths(small)),
            Self::Power => format!("{small} mW/cm2"),
            Self::PulseEnergy => format!("{} mJ", thousandths(small)),
            Self::Speed => RawSpeed::from_raw(u16::try_from(small).unwrap_or(u16::MAX)).to_string(),
            Self::Level => Level::from_level(u8::try_from(small).unwrap_or(u8::MAX)).to_string(),
            Self::On | Self::Duration | Self::AreaTime | Self::SessionTime | Self::DayTime => {
                show_duration(Duration::from_micros(magnitude)).to_string()
            }
        }
    }
}

/// Prints thousandths without trailing zeros.
fn thousandths(value: u32) -> String {
    let text = format!("{}.{:03}", value / 1000, value % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Reads a table of limits. A bound without meaning for the modality is a problem.
pub(crate) fn read(table: &Table<'_>, modality: Option<Modality>) -> Written {
    let mut written = Written::default();
    let spans = &mut written.spans;
    let limits = &mut written.limits;
    let optional = Limits {
        current: kept(table.optional("current", quantity::<Milliamps>), Bound::Current, spans),
        width: kept(table.optional("width", quantity::<Microseconds>), Bound::Width, spans),
        frequency: kept(table.optional("frequency", quantity::<Hertz>), Bound::Frequency, spans),
        phase_charge: kept(
            table.optional("phase_charge", quantity::<Microcoulombs>),
            Bound::PhaseCharge,
            spans,
        ),
        rms: kept(table.optional("rms", quantity::<Milliamps>), Bound::Rms, spans),
        density_ua_per_cm2: kept(table.optional("density", scaled("mA/cm2", 3)), Bound::Density, spans),
        power_mw_per_cm2: kept(table.optional("power", scaled("mW/cm2", 0)), Bound::Power, spans),
        pulse_energy_uj: kept(table.optional("pulse_energy", scaled("mJ", 3)), Bound::PulseEnergy, spans),
        on: kept(table.optional("on", duration), Bound::On, spans),
        stroke_rate: kept(table.optional("stroke_rate", quantity::<Hertz>), Bound::StrokeRate, spans),
        speed: kept(table.optional("speed", quantity::<RawSpeed>), Bound::Speed, spans),
        level: kept(table.optional("level", quantity::<Level>), Bound::Level, spans),
        duration: kept(table.optional("duration", duration), Bound::Duration, spans),
        area_time: kept(table.optional("area_time", duration), Bound::AreaTime, spans),
        session_time: kept(table.optional("session_time", duration), Bound::SessionTime, spans),
        day_time: kept(table.optional("day_time", duration), Bound::DayTime, spans),
    };
    *limits = optional;
    table.close();
    let Some(modality) = modality else {
        return written;
    };
    for (bound, span) in &written.spans {
        if !bound.applies(modality) {
            let message =
                format!("`{}` of {} has no meaning for {}", bound.key(), table.name(), modality.word());
            table.push(Some(span.clone()), message, "", Some("leave it out".to_owned()));
        }
    }
    written
}

/// Reports every written bound that is above `most`, which `whose` sets.
pub(crate) fn within(table: &Table<'_>, written: &Written, most: &Limits, whose: &str, help: &str) {
    for (bound, span) in &written.spans {
        let (Some(stated), Some(allowed)) = (bound.of(&written.limits), bound.of(most)) else {
            continue;
        };
        if stated > allowed {
            let message = format!("{} limit of {} is above {whose}", bound.words(), table.name());
            let label = format!("{whose} is {}", bound.show(allowed));
            table.push(Some(span.clone()), message, label, Some(help.to_owned()));
        }
    }
}

/// Returns the tightest bound of a chain and its owner; of equal ones the first owner.
pub(crate) fn tightest(chain: &LimitChain, bound: Bound) -> Option<(LimitOwner, u64)> {
    let stated = chain.iter().filter_map(|(owner, owned)| Some((owner, bound.of(&owned.limits)?)));
    stated.min_by_key(|(owner, magnitude)| (*magnitude, owner.index()))
}

/// Returns the tighter of two optional values.
pub(crate) fn tighter<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn kept<T>(read: Option<At<T>>, bound: Bound, spans: &mut Vec<(Bound, Span<usize>)>) -> Option<T> {
    let At { value, span } = read?;
    spans.push((bound, span));
    Some(value)
}
