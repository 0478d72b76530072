//! Modalities and treatment protocols: what is usual, and what may be done.

use std::time::Duration;

use crate::model::limit::Limits;
use crate::units::{Hertz, Microseconds};

/// Kind of stimulus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Modality {
    /// Percussive massage.
    Percussion,
    /// Neuromuscular electrical stimulation.
    Nmes,
    /// Transcutaneous electrical nerve stimulation.
    Tens,
}

impl Modality {
    /// Returns the word used in files and records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Percussion => "percussion",
            Self::Nmes => "nmes",
            Self::Tens => "tens",
        }
    }
}

/// A range found in use, with the value to begin from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range<T> {
    /// Smallest value described.
    pub min: T,
    /// Largest value described.
    pub max: T,
    /// Value to begin from.
    pub start: T,
}

/// Identifier of a protocol file, for example `tens_conventional`.
pub type ProtocolId = String;

/// A treatment protocol as its file states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Stable identifier.
    pub id: ProtocolId,
    /// Name on screens and in the note.
    pub title: String,
    /// Kind of stimulus.
    pub modality: Modality,
    /// Why it cannot be driven; `None` when it can.
    pub not_drivable_because: Option<String>,
    /// Pulse or stroke rate in use.
    pub frequency: Range<Hertz>,
    /// Phase width in use; neurostimulation only.
    pub width: Option<Range<Microseconds>>,
    /// Ramp up of a program or of the start.
    pub ramp_up: Option<Range<Duration>>,
    /// Ramp down of a program.
    pub ramp_down: Option<Range<Duration>>,
    /// ON plateau of a cycle; `None` is continuous.
    pub on: Option<Range<Duration>>,
    /// OFF rest of a cycle.
    pub off: Option<Range<Duration>>,
    /// Duration of a step: neurostimulation in total, percussion per area.
    pub duration: Range<Duration>,
    /// How long an area rests between two bouts.
    pub rest_same_area: Duration,
    /// Above this the therapist gives a reason; the upper end of what is usual.
    pub usual: Limits,
    /// Above this the answer is no.
    pub limits: Limits,
    /// Where the figures come from.
    pub sources: Vec<String>,
}
