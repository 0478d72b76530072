//! What one client already got today, as plain data: rebuilt from the record, handed to the governor.
//!
//! Every time is an upper bound. Areas are kept per half of the body: the midline, and both sides worked as one, count on
//! each half.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::area::{AreaCode, Place, Side};
use crate::model::dose::{Dose, DoseId};
use crate::model::limit::LimitOwner;
use crate::model::protocol::Modality;
use crate::model::session::SessionId;

/// Percussion waits this long after TENS on its area, unless sensation has returned (SR-25).
pub const NUMB_FOR: Duration = Duration::from_secs(30 * 60);

/// What was given before this session began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Today, by modality and half of an area.
    pub areas: BTreeMap<(Modality, AreaCode, Side), OnArea>,
    /// Today, by modality, for the client as a whole: two channels at once count once.
    pub day: BTreeMap<Modality, Duration>,
    /// Where TENS electrodes lay lately, and how long ago they gave output at least.
    pub numb: Vec<(Place, Duration)>,
    /// Modalities that this client has had on an earlier day. Another one is under the low cap all day.
    pub known: BTreeSet<Modality>,
    /// What the therapist declares as given elsewhere today; counted in `areas` and `day` already.
    pub declared: Vec<Declared>,
    /// Uncertain intervals that nobody has resolved: their areas and units stay blocked, the units for every client.
    pub open: Vec<OpenDose>,
    /// The session that was cut short and that this one continues.
    pub continued: Continued,
    /// Sessions of this plan in the seven days up to today; one that is continued is not another one.
    pub sessions_in_week: u8,
    /// Why one more session than the plan has a week.
    pub beyond_course: Option<String>,
}

/// A session that was cut short today, by a crash: its client's next one continues it. Empty when there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Continued {
    /// It, and those that it continued.
    pub sessions: Vec<SessionId>,
    /// Its time, by modality, as the session's budget counts it.
    pub time: BTreeMap<Modality, Duration>,
    /// What was declared in it and is on record.
    pub declared: Vec<Declared>,
    /// It is one of the plan's sessions of this week.
    pub in_week: bool,
    /// Where each unit was armed for last in it, by the unit's label: there it lies.
    pub armed_on: BTreeMap<String, Place>,
}

/// Time on one half of an area today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnArea {
    /// All bouts and channels together.
    pub time: Duration,
    /// Since the end of the newest, at least; never read from the wall clock.
    pub ago: Duration,
}

/// A dose given elsewhere today, as the therapist declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Kind of stimulus.
    pub modality: Modality,
    /// Where.
    pub place: Place,
    /// How long.
    pub time: Duration,
}

/// Names an uncertain interval.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DoseRef {
    /// Its session; `None`: the one that runs.
    pub session: Option<SessionId>,
    /// Its dose.
    pub dose: DoseId,
}

/// An uncertain interval that nobody has resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenDose {
    /// Which.
    pub of: DoseRef,
    /// Label of the unit.
    pub unit: String,
    /// Where it is booked; `None`: on another client, so that only the unit is blocked.
    pub place: Option<Place>,
    /// Kind of stimulus.
    pub modality: Modality,
    /// Output time, least and most.
    pub on: (Duration, Duration),
    /// It counts in today's budgets.
    pub today: bool,
    /// It ends where a person stated that the unit was seen to stop.
    pub stated: bool,
    /// Of an earlier session of this client, in this boot: what a proof of stop in this session ends.
    pub earlier: Option<Box<Earlier>>,
}

/// An uncertain dose on the clock of its own session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The dose, as far as it was narrowed.
    pub dose: Dose,
    /// Added to an instant of this session it gives that instant on the other clock, or a later one.
    pub ahead: Duration,
}

/// What of a client's time is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// The step's own duration.
    Step,
    /// Output time on the area, today.
    Area,
    /// Output time of the modality, this session.
    Session,
    /// Output time of the modality, today.
    Day,
}

/// What is left of the tightest budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// How long.
    pub time: Duration,
    /// Which budget.
    pub budget: Budget,
    /// Whose limit it is.
    pub owner: LimitOwner,
    /// The whole of it.
    pub limit: Duration,
}

impl Budget {
    /// Returns the word used in records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Area => "area",
            Self::Session => "session",
            Self::Day => "day",
        }
    }

    /// Returns what it is, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Step => "the time of this step",
            Self::Area => "today's time on this area",
            Self::Session => "the time of this session",
            Self::Day => "today's time for this client",
        }
    }
}

impl Spent {
    /// Counts what the therapist declares. When it was is not known, so it counts as just given.
    pub fn declare(&mut self, declared: Declared) {
        self.add(declared.modality, &declared.place, declared.time, Duration::ZERO);
        let day = self.day.entry(declared.modality).or_default();
        *day = day.saturating_add(declared.time);
        if declared.modality == Modality::Tens {
            self.numb.push((declared.place.clone(), Duration::ZERO));
        }
        self.declared.push(declared);
    }

    /// As [`Spent::declare`], by a process that was started again with the same arguments: what is on record of the session
    /// that it continues is counted already.
    pub fn declare_again(&mut self, declared: Declared) {
        match self.continued.declared.iter().position(|known| *known == declared) {
            Some(at) => drop(self.continued.declared.swap_remove(at)),
            None => self.declare(declared),
        }
    }

    /// Adds time on every half of a place.
    pub fn add(&mut self, modality: Modality, place: &Place, time: Duration, ago: Duration) {
        for half in place.side.halves() {
            let key = (modality, place.area.clone(), *half);
            let on = self.areas.entry(key).or_insert(OnArea { time: Duration::ZERO, ago });
            on.time = on.time.saturating_add(time);
            on.ago = on.ago.min(ago);
        }
    }

    /// Gives back what a resolution leaves over of a dose of today. The client's day and session give back percussion only:
    /// of two channels at once the other one may have gone on.
    pub fn give_back(&mut self, of: &DoseRef, modality: Modality, place: &Place, time: Duration) {
        for half in place.side.halves() {
            if let Some(on) = self.areas.get_mut(&(modality, place.area.clone(), *half)) {
                on.time = on.time.saturating_sub(time);
            }
        }
        if modality != Modality::Percussion {
            return;
        }
        if let Some(day) = self.day.get_mut(&modality) {
            *day = day.saturating_sub(time);
        }
        let continued = of.session.as_ref().is_some_and(|of| self.continued.sessions.contains(of));
        if let Some(session) = self.continued.time.get_mut(&modality).filter(|_| continued) {
            *session = session.saturating_sub(time);
        }
    }

    /// Returns the time on one half of an area.
    pub fn on_half(&self, modality: Modality, area: &AreaCode, half: Side) -> Duration {
        let key = (modality, area.clone(), half);
        self.areas.get(&key).map_or(Duration::ZERO, |on| on.time)
    }

    /// Returns how long ago a modality was last on any half of a place; `None`: not today.
    pub fn ago(&self, modality: Modality, place: &Place) -> Option<Duration> {
        let halves = place.side.halves().iter();
        let each = halves.filter_map(|half| self.areas.get(&(modality, place.area.clone(), *half)));
        each.map(|on| on.ago).min()
    }
}
