//! What the steps of a plan ask together: time on one area, and time of one modality in the session.
//!
//! The governor ends a step when the time that all of them share is used up; this is so that a plan that could never be
//! completed is refused before the client lies down.

use std::ops::Range as Span;
use std::time::Duration;

use crate::config::limit_table::{Bound, tightest};
use crate::config::reader::Table;
use crate::config::step_limits::words_said;
use crate::model::area::Place;
use crate::model::limit::{LimitChain, LimitOwner};
use crate::model::protocol::Modality;
use crate::units::duration_micros;

/// What one step books on the limits of the whole plan.
pub(crate) struct Booked {
    pub(crate) number: u8,
    pub(crate) modality: Modality,
    /// `None`: the step names no known place.
    pub(crate) place: Option<Place>,
    pub(crate) duration: Duration,
    /// Where the duration is written.
    pub(crate) span: Span<usize>,
    pub(crate) chain: LimitChain,
}

/// Reports every step with which the sum of its own and the earlier ones is above a limit that they share.
pub(crate) fn judge(root: &Table<'_>, booked: &[Booked]) {
    let same_modality = |one: &Booked, other: &Booked| one.modality == other.modality;
    let same_area = |one: &Booked, other: &Booked| {
        let overlap =
            one.place.as_ref().zip(other.place.as_ref()).is_some_and(|(one, other)| one.overlaps(other));
        overlap && same_modality(one, other)
    };
    for (position, step) in booked.iter().enumerate() {
        let sharing = |same: &dyn Fn(&Booked, &Booked) -> bool| -> (Vec<&Booked>, Vec<&Booked>) {
            let all = booked.iter().filter(|other| same(step, other)).collect();
            let earlier = booked.iter().take(position).filter(|other| same(step, other)).collect();
            (all, earlier)
        };
        judge_bound(root, Bound::AreaTime, step, sharing(&same_area));
        judge_bound(root, Bound::SessionTime, step, sharing(&same_modality));
        judge_bound(root, Bound::DayTime, step, sharing(&same_modality));
    }
}

/// The limit is the tightest of every step that shares it, whichever comes first.
fn judge_bound(root: &Table<'_>, bound: Bound, step: &Booked, (all, earlier): (Vec<&Booked>, Vec<&Booked>)) {
    let own = duration_micros(step.duration);
    let alone = tightest(&step.chain, bound).is_some_and(|(_, limit)| own > limit);
    // A step that is too long by itself is reported with its own limits.
    if earlier.is_empty() || alone {
        return;
    }
    let Some((owner, limit, said)) = tightest_of(&all, bound) else {
        return;
    };
    let before = earlier.iter().fold(0u64, |sum, it| sum.saturating_add(duration_micros(it.duration)));
    let sum = before.saturating_add(own);
    if sum <= limit {
        return;
    }
    let numbers: Vec<String> = earlier.iter().map(|it| it.number.to_string()).collect();
    let steps = if numbers.len() == 1 { "step" } else { "steps" };
    let message = format!(
        "{} of step {} is {} together with {steps} {}, above the {} limit",
        bound.words(),
        step.number,
        bound.show(sum),
        numbers.join(", "),
        owner.word(),
    );
    let label = format!("{} limit is {}{said}", owner.word(), bound.show(limit));
    let what = match (&step.place, bound == Bound::AreaTime) {
        (Some(place), true) => format!("{} on {place}", step.modality.word()),
        (Some(_) | None, _) => format!("{} in this session", step.modality.word()),
    };
    let help = match limit.saturating_sub(before) {
        0 => format!("{what}: nothing is left for this step; shorten the earlier ones"),
        left => format!("{what}: at most {} is left for this step", bound.show(left)),
    };
    root.push(Some(step.span.clone()), message, label, Some(help));
}

fn tightest_of(steps: &[&Booked], bound: Bound) -> Option<(LimitOwner, u64, String)> {
    let each = steps.iter().filter_map(|step| {
        let (owner, limit) = tightest(&step.chain, bound)?;
        Some((owner, limit, words_said(&step.chain, owner)))
    });
    each.min_by_key(|(owner, limit, _)| (*limit, owner.index()))
}
