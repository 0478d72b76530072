//! Time budgets per area, session and client-day (SR-12, SR-13), rest between bouts, and what TENS leaves behind (SR-25).
//!
//! What was given before this session comes as [`Spent`], plain data; the governor adds what this session gives. Every
//! time is an upper bound: an interval that nobody saw the end of counts to its latest possible end. An area counts every
//! channel on it, per half of the body; session and client-day count two channels at once as one.

use std::time::Duration;

use crate::governor::Governor;
use crate::governor::limits;
use crate::governor::output::{Entry, Output, Refusal};
use crate::governor::tick::START_MIN;
use crate::model::area::{Place, Side};
use crate::model::budget::{Budget, Left, NUMB_FOR, OpenDose};
use crate::model::limit::{LimitOwner, Limits};
use crate::model::plan::Step;
use crate::model::protocol::Modality;
use crate::model::session::{Actor, StopReason};
use crate::units::Mono;

impl Budget {
    /// Returns why a step ends that uses it up.
    pub(super) const fn ends(self) -> StopReason {
        match self {
            Self::Step => StopReason::Completed,
            Self::Area => StopReason::AreaCap,
            Self::Session | Self::Day => StopReason::SessionCap,
        }
    }
}

impl Governor {
    /// Returns what is left of a step's tightest budget.
    pub(super) fn left(&self, index: usize, now: Mono) -> Option<Left> {
        let budgets = [Budget::Step, Budget::Area, Budget::Session, Budget::Day];
        let each = budgets.into_iter().filter_map(|budget| self.left_of(index, now, budget));
        each.min_by_key(|left| left.time)
    }

    /// Returns what is left of one budget of a step, at the rate at which it is being used; `None`: nothing bounds it.
    pub(super) fn left_of(&self, index: usize, now: Mono, budget: Budget) -> Option<Left> {
        let (step, run) = (self.step(index)?, self.runs.get(index)?);
        let tightest =
            |pick: fn(&Limits) -> Option<Duration>| limits::tightest_time(&step.chain, step.modality, pick);
        let (limit, owner, used, rate) = match budget {
            Budget::Step => {
                let own = (step.duration, LimitOwner::Plan);
                let (limit, owner) = tightest(|limits| limits.duration).map_or(own, |bound| bound.min(own));
                #[cfg(feature = "defects")]
                let limit = if self.has(super::Defect::DurationOverrun) {
                    limit.saturating_add(Duration::from_secs(2))
                } else {
                    limit
                };
                (limit, owner, run.used_at(now), 1)
            }
            Budget::Area => {
                let (limit, owner) = tightest(|limits| limits.area_time)?;
                let halves = step.place.side.halves().iter().map(|half| self.on_half(step, *half, now));
                let lasts = |used: Duration, rate: u32| limit.saturating_sub(used).checked_div(rate);
                let (used, rate) = halves.min_by_key(|(used, rate)| lasts(*used, *rate))?;
                (limit, owner, used, rate)
            }
            Budget::Session => {
                let (limit, owner) = tightest(|limits| limits.session_time)?;
                let before =
                    self.settings.spent.continued.time.get(&step.modality).copied().unwrap_or_default();
                (limit, owner, before.saturating_add(self.of_client(step.modality, now)), 1)
            }
            Budget::Day => {
                let (limit, owner) = tightest(|limits| limits.day_time)?;
                let before = self.settings.spent.day.get(&step.modality).copied().unwrap_or_default();
                (limit, owner, before.saturating_add(self.of_client(step.modality, now)), 1)
            }
        };
        let left = limit.saturating_sub(used);
        Some(Left { time: left.checked_div(rate).unwrap_or(left), budget, owner, limit })
    }

    /// Returns the time of a step's modality on one half of its area today, and how many channels count there now.
    fn on_half(&self, step: &Step, half: Side, now: Mono) -> (Duration, u32) {
        let before = self.settings.spent.on_half(step.modality, &step.place.area, half);
        let here = |other: &Step| {
            let same = other.modality == step.modality && other.place.area == step.place.area;
            same && other.place.side.halves().contains(&half)
        };
        let mut rate = 0u32;
        let mut used = before;
        for (index, (other, run)) in self.plan.steps.iter().zip(&self.runs).enumerate() {
            if here(other) {
                used = used.saturating_add(length(run.spans_at(self.counted_at(index, now))));
                rate = rate.saturating_add(u32::from(run.counts()));
            }
        }
        (used, rate.max(1))
    }

    /// Returns the time of a modality in this session; channels at once count once.
    fn of_client(&self, modality: Modality, now: Mono) -> Duration {
        let mut spans: Vec<(Mono, Mono)> = Vec::new();
        for (index, (step, run)) in self.plan.steps.iter().zip(&self.runs).enumerate() {
            if step.modality == modality {
                spans.extend(run.spans_at(self.counted_at(index, now)));
            }
        }
        spans.sort_unstable();
        let (mut sum, mut end) = (Duration::ZERO, Mono::ORIGIN);
        for (from, until) in spans {
            sum = sum.saturating_add(until.since(from.max(end)));
            end = end.max(until);
        }
        sum
    }

    /// Returns until when a step's open output counts: in doubt, its latest possible end.
    fn counted_at(&self, index: usize, now: Mono) -> Mono {
        let uncertain = self.runs.get(index).is_some_and(|run| run.ledger.is_uncertain());
        let end = self.runs_on_until(index).filter(|_| uncertain);
        end.map_or(now, |end| end.max(now))
    }

    /// Returns why a step has no time to start.
    pub(super) fn no_time(&self, index: usize, now: Mono) -> Option<Refusal> {
        let left = self.left(index, now).filter(|left| left.time < START_MIN)?;
        let said = self.step(index).map_or_else(String::new, |step| step.chain.get(left.owner).said.clone());
        Some(Refusal::Budget { budget: left.budget, owner: left.owner, said, limit: left.limit })
    }

    /// Notes which budget ends a step; the step's own end needs no note.
    pub(super) fn note_budget(&mut self, now: Mono, index: usize, left: Left, out: &mut Vec<Output>) {
        let Some(step) = self.step(index).map(|step| step.number).filter(|_| left.budget != Budget::Step)
        else {
            return;
        };
        let Left { budget, owner, limit, .. } = left;
        self.append(now, Entry::BudgetUsed { step, budget, owner, limit }, out);
    }

    /// Returns why a step may not be armed for what was given before: its course, its area's rest, TENS, doubt.
    pub(super) fn history_blocks(&self, index: usize, now: Mono) -> Option<Refusal> {
        let step = self.step(index)?;
        let spent = &self.settings.spent;
        if let Some(allowed) = self.plan.sessions_per_week
            && spent.sessions_in_week >= allowed
            && spent.beyond_course.is_none()
        {
            return Some(Refusal::Course { sessions: spent.sessions_in_week, allowed });
        }
        if let Some(open) = self.unresolved(step) {
            let OpenDose { of, unit, place, on, .. } = open.clone();
            return Some(Refusal::Unresolved { of, unit, place, on });
        }
        if step.modality == Modality::Percussion
            && let Some(ago) = self.numb(step, now)
        {
            return Some(Refusal::Numb { ago });
        }
        None
    }

    /// Returns an unresolved interval of the step's area or unit.
    fn unresolved(&self, step: &Step) -> Option<&OpenDose> {
        let label = self.plan.devices.get(usize::from(step.device.0)).map(|planned| planned.label.as_str());
        let concerns = |open: &&OpenDose| {
            open.place.as_ref().is_some_and(|place| place.overlaps(&step.place))
                || Some(open.unit.as_str()) == label
        };
        self.settings.spent.open.iter().find(concerns)
    }

    /// Returns how long an area must still rest before a step's modality comes back to it.
    pub(super) fn rest_left(&self, index: usize, now: Mono) -> Option<Refusal> {
        let step = self.step(index).filter(|step| !step.rest.is_zero())?;
        let before = self.settings.spent.ago(step.modality, &step.place);
        let before = before.map(|ago| ago.saturating_add(now.since(self.started)));
        let here = |other: &Step| other.modality == step.modality && other.place.overlaps(&step.place);
        let ended = self.ended(here).map(|end| now.since(end));
        let ago = before.into_iter().chain(ended).min()?;
        let left = step.rest.saturating_sub(ago);
        (!left.is_zero()).then_some(Refusal::Rest { left })
    }

    /// As [`Governor::rest_left`], for a step that is held: its own bout is one with what follows, another step's is not.
    pub(super) fn rest_between(&self, index: usize, now: Mono) -> Option<Refusal> {
        let own = self.runs.get(index)?.spans.iter().map(|(_, until)| *until).max();
        let step = self.step(index)?;
        let other = |other: &Step| {
            other.number != step.number
                && other.modality == step.modality
                && other.place.overlaps(&step.place)
        };
        let between = self.ended(other).is_some_and(|end| own.is_none_or(|own| end > own));
        self.rest_left(index, now).filter(|_| between)
    }

    /// Returns when output of the steps that `which` names last ended.
    fn ended(&self, which: impl Fn(&Step) -> bool) -> Option<Mono> {
        let runs = self.plan.steps.iter().zip(&self.runs).filter(|(step, _)| which(step));
        runs.filter_map(|(_, run)| run.spans.iter().map(|(_, until)| *until).max()).max()
    }

    /// Returns how long ago TENS was on a step's area, when that is not long ago and nobody said that sensation returned.
    fn numb(&self, step: &Step, now: Mono) -> Option<Duration> {
        let halves = step.place.side.halves().iter();
        let halves = halves.map(|side| Place { area: step.place.area.clone(), side: *side });
        halves.filter_map(|half| self.numb_half(&half, now)).min()
    }

    /// As [`Governor::numb`], of one half of the step's place: who has tested the left knows nothing of the right.
    fn numb_half(&self, half: &Place, now: Mono) -> Option<Duration> {
        let confirmed =
            self.sensation.iter().filter(|(place, _)| half.overlaps(place)).map(|(_, at)| *at).max();
        let before = self.settings.spent.numb.iter().filter(|(place, _)| half.overlaps(place));
        let before = before.map(|(_, ago)| ago.saturating_add(now.since(self.started)));
        let before = before.min().filter(|_| confirmed.is_none());
        let on_it = |other: &Step| other.touches().iter().any(|place| place.overlaps(half));
        let ended = self.ended(|other| other.modality == Modality::Tens && on_it(other));
        let ended = ended.filter(|end| confirmed.is_none_or(|at| at < *end)).map(|end| now.since(end));
        before.into_iter().chain(ended).min().filter(|ago| *ago < NUMB_FOR)
    }

    /// A person has tested the area: sensation has returned.
    pub(super) fn sensation_returned(&mut self, now: Mono, by: Actor, index: usize, out: &mut Vec<Output>) {
        let Some((step, place)) = self.step(index).map(|step| (step.number, step.place.clone())) else {
            return;
        };
        self.sensation.push((place, now));
        self.append(now, Entry::SensationReturned { by, step }, out);
        self.bump();
    }

    /// Puts on record what came with the client, once: declared doses, and a reason beyond the course.
    pub(super) fn note_history(&mut self, now: Mono, by: &Actor, out: &mut Vec<Output>) {
        if std::mem::replace(&mut self.history_noted, true) {
            return;
        }
        for declared in self.settings.spent.declared.clone() {
            self.append(now, Entry::Declared { by: by.clone(), declared }, out);
        }
        let (sessions, allowed) = (self.settings.spent.sessions_in_week, self.plan.sessions_per_week);
        if let Some(reason) = self.settings.spent.beyond_course.clone()
            && allowed.is_some_and(|allowed| sessions >= allowed)
        {
            self.append(now, Entry::BeyondCourse { by: by.clone(), sessions, reason }, out);
        }
    }
}

fn length(spans: impl Iterator<Item = (Mono, Mono)>) -> Duration {
    spans.fold(Duration::ZERO, |sum, (from, until)| sum.saturating_add(until.since(from)))
}
