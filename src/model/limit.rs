//! Limits: upper bounds with an owner (design 3.1). Each owner may only tighten what the others say.

use std::time::Duration;

use crate::units::{Hertz, Level, Microcoulombs, Microseconds, Milliamps, RawSpeed};

/// Who set a limit. Exactly these nine, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitOwner {
    /// Compiled in; nobody can raise it.
    Ceiling,
    /// What the unit or its profile allows.
    Device,
    /// This clinic.
    Site,
    /// The treatment protocol.
    Protocol,
    /// A physician's clearance.
    Clearance,
    /// The session plan's step.
    Plan,
    /// The body area and its tissue.
    Area,
    /// The operator, during the session.
    Operator,
    /// The client's comfort, during the session.
    Comfort,
}

impl LimitOwner {
    /// All owners, widest first.
    pub const ALL: [Self; 9] = [
        Self::Ceiling,
        Self::Device,
        Self::Site,
        Self::Protocol,
        Self::Clearance,
        Self::Plan,
        Self::Area,
        Self::Operator,
        Self::Comfort,
    ];

    /// Returns the word used in files and records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ceiling => "ceiling",
            Self::Device => "device",
            Self::Site => "site",
            Self::Protocol => "protocol",
            Self::Clearance => "clearance",
            Self::Plan => "plan",
            Self::Area => "area",
            Self::Operator => "operator",
            Self::Comfort => "comfort",
        }
    }

    /// Returns the owner's place in [`LimitOwner::ALL`], 0–8.
    pub const fn index(self) -> usize {
        match self {
            Self::Ceiling => 0,
            Self::Device => 1,
            Self::Site => 2,
            Self::Protocol => 3,
            Self::Clearance => 4,
            Self::Plan => 5,
            Self::Area => 6,
            Self::Operator => 7,
            Self::Comfort => 8,
        }
    }
}

/// What one owner bounds. `None`: this owner says nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Peak pulse current.
    pub current: Option<Milliamps>,
    /// Width of one phase.
    pub width: Option<Microseconds>,
    /// Pulse rate.
    pub frequency: Option<Hertz>,
    /// Charge of one phase.
    pub phase_charge: Option<Microcoulombs>,
    /// R.m.s. current while ON.
    pub rms: Option<Milliamps>,
    /// R.m.s. density at the smallest electrode, µA/cm² (2 mA/cm² = 2 000).
    pub density_ua_per_cm2: Option<u32>,
    /// Mean power density at 500 Ω at the smallest electrode, mW/cm².
    pub power_mw_per_cm2: Option<u32>,
    /// Energy of one pulse at 500 Ω, µJ (50 mJ = 50 000).
    pub pulse_energy_uj: Option<u32>,
    /// ON time of one cycle.
    pub on: Option<Duration>,
    /// Stroke rate of percussion.
    pub stroke_rate: Option<Hertz>,
    /// The gun's own number.
    pub speed: Option<RawSpeed>,
    /// The gun's own step.
    pub level: Option<Level>,
    /// Duration of the step: neurostimulation from first output to zero, percussion motor-on time.
    pub duration: Option<Duration>,
    /// Output time on the step's area in one day, all bouts, channels, devices and sessions together.
    pub area_time: Option<Duration>,
    /// Output time of the modality in the session.
    pub session_time: Option<Duration>,
    /// Output time of the modality in one day, for the client.
    pub day_time: Option<Duration>,
}

/// One owner's limits, and who said so in words for screens and records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedLimits {
    /// The bounds.
    pub limits: Limits,
    /// Who or what, for example "plan step 2" or "Dr K. on 12 Nov"; empty when there is nothing to add.
    pub said: String,
}

/// The limits that files set for one step, by owner. Operator and comfort are added by the governor at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitChain {
    owners: [OwnedLimits; 9],
}

impl LimitChain {
    /// Returns what `owner` bounds.
    pub fn get(&self, owner: LimitOwner) -> &OwnedLimits {
        let [ceiling, device, site, protocol, clearance, plan, area, operator, comfort] = &self.owners;
        match owner {
            LimitOwner::Ceiling => ceiling,
            LimitOwner::Device => device,
            LimitOwner::Site => site,
            LimitOwner::Protocol => protocol,
            LimitOwner::Clearance => clearance,
            LimitOwner::Plan => plan,
            LimitOwner::Area => area,
            LimitOwner::Operator => operator,
            LimitOwner::Comfort => comfort,
        }
    }

    /// Returns what `owner` bounds, to be set.
    pub fn get_mut(&mut self, owner: LimitOwner) -> &mut OwnedLimits {
        let [ceiling, device, site, protocol, clearance, plan, area, operator, comfort] = &mut self.owners;
        match owner {
            LimitOwner::Ceiling => ceiling,
            LimitOwner::Device => device,
            LimitOwner::Site => site,
            LimitOwner::Protocol => protocol,
            LimitOwner::Clearance => clearance,
            LimitOwner::Plan => plan,
            LimitOwner::Area => area,
            LimitOwner::Operator => operator,
            LimitOwner::Comfort => comfort,
        }
    }

    /// Returns the owners with their limits, widest first.
    pub fn iter(&self) -> impl Iterator<Item = (LimitOwner, &OwnedLimits)> {
        LimitOwner::ALL.into_iter().map(|owner| (owner, self.get(owner)))
    }
}
