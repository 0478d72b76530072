//! One dose: delivered output over an interval, with its evidence and its two bounds.

use crate::model::area::Place;
use crate::model::capability::RateBasis;
use crate::model::command::{Channel, DeviceId, Epoch, Setpoint};
use crate::model::limit::LimitOwner;
use crate::model::protocol::Modality;
use crate::units::{Microcoulombs, Mono};

/// Number of a dose, unique in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DoseId(pub u64);

/// What a dose rests on. A dose never mixes two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// The unit reported it.
    Reported,
    /// Commanded and acknowledged.
    Commanded,
    /// Neither: it may have been given.
    Uncertain,
    /// A therapist ran a timer.
    TherapistTimed,
}

impl Evidence {
    /// Returns the word used in records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Commanded => "commanded",
            Self::Uncertain => "uncertain",
            Self::TherapistTimed => "therapist_timed",
        }
    }
}

/// One interval (at most 60 s) at a constant upper bound.
///
/// Truth lies between the bounds: the unit gave at least `lower` and at most `upper` over `[from, until)`, and
/// integrals between `*_min` and `*_max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dose {
    /// Number in the session.
    pub id: DoseId,
    /// Step of the plan.
    pub step: u8,
    /// Unit.
    pub device: DeviceId,
    /// Output.
    pub channel: Channel,
    /// Epoch of the unit.
    pub epoch: Epoch,
    /// Kind of stimulus.
    pub modality: Modality,
    /// Where it is booked.
    pub place: Place,
    /// Begin.
    pub from: Mono,
    /// End, exclusive. Includes the stop tail when this dose ends an output.
    pub until: Mono,
    /// Highest setpoint that may have been in force.
    pub upper: Setpoint,
    /// Lowest that may have been in force; `None`: it may have been off.
    pub lower: Option<Setpoint>,
    /// What it rests on.
    pub evidence: Evidence,
    /// Output time, µs: least and most.
    pub on_us: (u64, u64),
    /// Pulses: least and most; 0 for percussion.
    pub pulses: (u64, u64),
    /// Charge of one polarity: least and most.
    pub charge: (Microcoulombs, Microcoulombs),
    /// Raw number × µs: least and most; 0 for neurostimulation. A level counts as its number.
    pub speed_us: (u64, u64),
    /// The limit that bound while it ran, and its owner.
    pub limit: (LimitOwner, u32),
    /// Percussion: whether a rate is known.
    pub rate_basis: RateBasis,
}
