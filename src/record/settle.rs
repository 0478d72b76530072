//! What later sources and people say of uncertain doses. Bounds only come together (`model::uncertain`); the record keeps
//! what was there before, and what came, with who and why.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::model::dose::{DoseId, Evidence};
use crate::model::session::{Actor, SessionId};
use crate::model::uncertain::{Bounds, Knowledge};
use crate::record::RecordError;
use crate::record::entry::{Body, BodyError, By, DoseBody, Drive};
use crate::record::store;
use crate::units::{Mono, duration_micros};

/// Title of the short sessions in which uncertain doses of sealed sessions are settled.
pub(crate) const TITLE: &str = "Uncertain doses settled";

/// Plan identifier of such a session; no plan file has it, for a space is no part of an identifier.
pub(crate) const PLAN_ID: &str = "settling doses";

/// What a narrower bound rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NarrowedBy {
    /// A stop that the guard process proved and wrote into its journal.
    GuardJournal,
    /// A stop that a driver proved.
    StopProven,
    /// What the unit itself reported.
    Telemetry,
}

impl NarrowedBy {
    /// Returns what it is, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::GuardJournal => "the guard's journal proves its stop",
            Self::StopProven => "its stop was proven later",
            Self::Telemetry => "the unit reported it",
        }
    }
}

/// A resolution, as a person asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// Session of the dose.
    pub session: SessionId,
    /// The dose.
    pub dose: DoseId,
    /// The bounds that the person saw.
    pub shown: (Duration, Duration),
    /// Output time that counts from now on; `None`: the upper bound.
    pub gave: Option<Duration>,
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
}

/// What a resolution came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolving {
    /// It is on record.
    Done,
    /// It was resolved before to the same time; nothing has changed.
    Already,
    /// It was resolved before to this time, which is another one; nothing has changed.
    Otherwise(Duration),
    /// The bounds are others than those shown.
    Stale((Duration, Duration)),
    /// Outside the bounds.
    Outside((Duration, Duration)),
    /// No person or no reason was given.
    Unsigned,
    /// There is no such uncertain dose.
    NoSuch,
}

/// A resolution, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// When.
    pub wall: jiff::Timestamp,
    /// Who.
    pub by: By,
    /// The bounds that the person saw, µs.
    pub shown_us: (u64, u64),
    /// Output time that counts from then on, µs.
    pub gave_us: u64,
    /// Why.
    pub reason: String,
}

/// What is known of one dose beyond its own entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Later {
    pub(crate) narrowed: Option<(NarrowedBy, DoseBody)>,
    pub(crate) resolved: Option<Resolution>,
}

/// What later entries say, by session and dose.
#[derive(Debug, Default)]
pub(crate) struct Settled(BTreeMap<(String, u64), Later>);

impl Settled {
    /// Reads every narrowing and resolution of a record.
    pub(crate) fn read(connection: &Connection) -> Result<Self, RecordError> {
        let mut all = Self::default();
        for entry in store::select(connection, "WHERE kind IN ('narrowed', 'resolved') ORDER BY n", &[])? {
            let body = store::body_of(&entry)?;
            if let Body::Narrowed { of, source, dose } = body {
                let source = source_of(&source).map_err(|source| store::unreadable(&entry, source))?;
                let later = all.0.entry((of.unwrap_or(entry.session), dose.id)).or_default();
                let known = later.narrowed.take().map(|(_, known)| known);
                let dose = known.map_or_else(|| (*dose).clone(), |known| meet(&known, &dose));
                later.narrowed = Some((source, dose));
            } else if let Body::Resolved { by, of, dose, on_min_us, on_max_us, gave_us, reason } = body {
                let wall = store::wall_of(&entry)?;
                let later = all.0.entry((of.unwrap_or(entry.session), dose)).or_default();
                let shown_us = (on_min_us, on_max_us);
                // The first one counts: what comes twice changes nothing.
                later.resolved.get_or_insert(Resolution { wall, by, shown_us, gave_us, reason });
            }
        }
        Ok(all)
    }

    pub(crate) fn of(&self, session: &str, dose: u64) -> Later {
        self.0.get(&(session.to_owned(), dose)).cloned().unwrap_or_default()
    }
}

fn source_of(word: &str) -> Result<NarrowedBy, BodyError> {
    [NarrowedBy::GuardJournal, NarrowedBy::StopProven, NarrowedBy::Telemetry]
        .into_iter()
        .find(|known| known.word() == word)
        .ok_or_else(|| BodyError::Word { what: "source of a narrower bound", found: word.to_owned() })
}

impl NarrowedBy {
    /// Returns the word used in records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::GuardJournal => "guard_journal",
            Self::StopProven => "stop_proven",
            Self::Telemetry => "telemetry",
        }
    }
}

/// Returns what is known of an uncertain dose with one more source; `None`: nothing more than before.
pub(crate) fn narrow(dose: &DoseBody, knowledge: Knowledge) -> Option<DoseBody> {
    if dose.evidence != Evidence::Uncertain.word() {
        return None;
    }
    let from = Mono::from_micros(dose.from_us);
    let until = from.saturating_add(Duration::from_micros(dose.on_max_us));
    let before = Bounds::new(from, Duration::from_micros(dose.on_min_us), until);
    let after = before.narrowed(knowledge);
    if after == before {
        return None;
    }
    let most_us = duration_micros(after.most());
    let mut narrower = dose.clone();
    narrower.until_us = dose.until_us.min(after.until().micros()).max(dose.from_us);
    narrower.on_max_us = dose.on_max_us.min(most_us);
    narrower.on_min_us = duration_micros(after.least());
    match dose.upper {
        Drive::Pulses { current_ua, width_us, period_us } => {
            let pulses = most_us.div_ceil(u64::from(period_us).max(1)).saturating_add(1);
            let charge = u64::from(current_ua).saturating_mul(u64::from(width_us));
            narrower.pulses_max = dose.pulses_max.min(pulses);
            narrower.charge_max_pc = dose.charge_max_pc.min(pulses.saturating_mul(charge));
        }
        Drive::SpeedRaw(raw) => {
            narrower.speed_max_raw_us = dose.speed_max_raw_us.min(most_us.saturating_mul(u64::from(raw)));
        }
        Drive::Level(level) => {
            narrower.speed_max_raw_us = dose.speed_max_raw_us.min(most_us.saturating_mul(u64::from(level)));
        }
    }
    Some(narrower)
}

/// Returns what two sources leave together.
fn meet(one: &DoseBody, other: &DoseBody) -> DoseBody {
    DoseBody {
        until_us: one.until_us.min(other.until_us),
        on_min_us: one.on_min_us.max(other.on_min_us),
        on_max_us: one.on_max_us.min(other.on_max_us),
        pulses_min: one.pulses_min.max(other.pulses_min),
        pulses_max: one.pulses_max.min(other.pulses_max),
        charge_min_pc: one.charge_min_pc.max(other.charge_min_pc),
        charge_max_pc: one.charge_max_pc.min(other.charge_max_pc),
        speed_min_raw_us: one.speed_min_raw_us.max(other.speed_min_raw_us),
        speed_max_raw_us: one.speed_max_raw_us.min(other.speed_max_raw_us),
        ..one.clone()
    }
}
