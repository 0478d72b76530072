//! The session plan: what was prescribed for this session, resolved against protocols, areas and devices.
//!
//! A [`Plan`] is what the governor runs: every step carries its whole static limit chain. It is built by `config`
//! (or later by screening and the tablet), never by the governor.

use std::fmt;
use std::time::Duration;

use crate::model::area::{AreaCode, Place, Side, Tissue};
use crate::model::capability::Capability;
use crate::model::command::{Channel, DeviceId, Intensity};
use crate::model::limit::{LimitChain, Limits};
use crate::model::protocol::{Modality, ProtocolId};
use crate::units::{Centimetres, Microseconds, RawForce, SquareCentimetres};

/// Pseudonym of a client; all that the dose record needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientCode(String);

impl ClientCode {
    /// Wraps a code as the clinic writes it.
    pub fn new(code: impl Into<String>) -> Self {
        Self(code.into())
    }

    /// Returns the code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was prescribed for one session of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Stable identifier of the plan file.
    pub id: String,
    /// Name on screens and in the note.
    pub title: String,
    /// Whom it is for.
    pub client: ClientCode,
    /// Units it uses; a [`DeviceId`] is a position in this list.
    pub devices: Vec<PlannedDevice>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// Pairs of step numbers that may give output at the same time; every other pair is run one after the other.
    /// Two stimulation channels are four electrodes: each cross pair must be an allowed path (SR-19).
    pub together: Vec<(u8, u8)>,
    /// Pairs of steps that are meant to run at the same time. Percussion beside stimulation needs the distance (SR-25).
    pub beside: Vec<Beside>,
    /// Sessions of the course in seven days; one more needs a reason.
    pub sessions_per_week: Option<u8>,
}

/// Two steps that are meant to run at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// Step numbers, the smaller first.
    pub steps: (u8, u8),
    /// Between the gun's area and the nearest electrode, as the therapist measured it; two stimulations need none.
    pub distance: Option<Centimetres>,
}

/// One unit a plan uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedDevice {
    /// Label that the clinic wrote on the housing.
    pub label: String,
    /// Identifier of the device profile.
    pub profile: String,
    /// What it can do.
    pub capability: Capability,
}

/// One item of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Place in the plan, from 1.
    pub number: u8,
    /// Treatment protocol.
    pub protocol: ProtocolId,
    /// Protocol's name.
    pub title: String,
    /// Kind of stimulus.
    pub modality: Modality,
    /// Where the dose is booked.
    pub place: Place,
    /// Tissue class of the area.
    pub tissue: Tissue,
    /// Which output of which unit.
    pub device: DeviceId,
    /// Which output of the unit.
    pub channel: Channel,
    /// What touches the client.
    pub applicator: Applicator,
    /// Pulse shape and program; `None` for percussion.
    pub stimulation: Option<Stimulation>,
    /// Intensity that the plan asks for; the operator titrates to it or stays below.
    pub target: Intensity,
    /// How long: neurostimulation from first output to zero, percussion motor-on time.
    pub duration: Duration,
    /// Person declared as holding the gun; percussion of a gun that cannot stop itself needs one.
    pub held_by: Option<String>,
    /// The gun's own button may start this step once it is armed (design 5).
    pub start_at_device: bool,
    /// Pressed harder than this, in the gun's own numbers, it is lowered and then stopped (SR-20).
    pub force_max: Option<RawForce>,
    /// Above this a reason is asked.
    pub usual: Limits,
    /// How long its area rests before this modality comes back to it.
    pub rest: Duration,
    /// The low cap of this step, for a client's first visit with the modality; it tightens the area's limits.
    pub low: Limits,
    /// What files bound, by owner.
    pub chain: LimitChain,
}

/// What touches the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applicator {
    /// A head of a gun, by name.
    Attachment(String),
    /// The two electrodes of a channel.
    Electrodes([Electrode; 2]),
}

/// One electrode and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Electrode {
    /// Contact area.
    pub contact: SquareCentimetres,
    /// Body area it lies on.
    pub area: AreaCode,
    /// Side of the body.
    pub side: Side,
}

/// A neurostimulation pattern: biphasic symmetric rectangular pulses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stimulation {
    /// Width of one phase.
    pub width: Microseconds,
    /// Time from pulse to pulse, on the device grid.
    pub period: Microseconds,
    /// ON:OFF cycle; `None` is continuous.
    pub cycle: Option<Cycle>,
}

/// An ON:OFF cycle. ON is the plateau; ramps come on top of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// From zero to the envelope, not under 1 s.
    pub ramp_up: Duration,
    /// Plateau.
    pub on: Duration,
    /// From the envelope to zero.
    pub ramp_down: Duration,
    /// Rest at zero.
    pub off: Duration,
}

impl Applicator {
    /// Returns the smallest declared electrode; `None` for an attachment.
    pub fn smallest_contact(&self) -> Option<SquareCentimetres> {
        match self {
            Self::Attachment(_) => None,
            Self::Electrodes(pair) => pair.iter().map(|electrode| electrode.contact).min(),
        }
    }
}

impl Plan {
    /// Returns whether two steps are meant to run at the same time.
    pub fn runs_beside(&self, one: u8, other: u8) -> bool {
        self.beside.iter().any(|beside| beside.steps == (one.min(other), one.max(other)))
    }
}

impl Step {
    /// Returns every place that the step touches: where its dose is booked, and where its electrodes lie.
    pub fn touches(&self) -> Vec<Place> {
        let mut places = vec![self.place.clone()];
        if let Applicator::Electrodes(pair) = &self.applicator {
            places.extend(pair.iter().map(|pad| Place { area: pad.area.clone(), side: pad.side }));
        }
        places
    }

    /// Returns whether the step works where the other one does.
    pub fn overlaps(&self, other: &Self) -> bool {
        let theirs = other.touches();
        self.touches().iter().any(|ours| theirs.iter().any(|place| place.overlaps(ours)))
    }
}
