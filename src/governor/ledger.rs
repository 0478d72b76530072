//! The dose ledger of one channel: what may have been given, and what surely was.
//!
//! Two bounds are kept. The *upper* bound is the highest of every setpoint that may be in force: what was last settled,
//! every command that is not settled yet, and what the unit itself reports. A command counts from the moment it leaves
//! the governor; a lower one counts only when it is settled. The *lower* bound is credited only when the unit
//! reports output, and only up to the report before that one, so that a channel that stopped by itself is never
//! credited past its end. So the ledger may over-count and never under-counts (law 7).
//!
//! ```text
//!   closed --sent(non-zero)--> open --settled at zero / proven stop (+ tail)--> closed
//!                               |  ^
//!     doubt (no answer, link)   |  | (never back: a new epoch opens a new dose)
//!                               v
//!                            uncertain --proven stop / own time-out / battery life--> closed
//! ```

use std::time::Duration;

use crate::model::command::{CommandId, Intensity, Setpoint};
use crate::model::dose::Evidence;
use crate::units::{Milliamps, Mono, duration_micros};

/// Longest interval of one dose (clinical-safety 6.1).
pub(crate) const DOSE_MAX: Duration = Duration::from_secs(60);

/// Ledger of one channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    open: Option<Open>,
    /// Last setpoint known to be in force.
    settled: Option<Setpoint>,
    /// Told and not settled, oldest first. `None` in place of a setpoint is a stop, in place of a number a hand at the unit.
    unsettled: Vec<(Option<CommandId>, Option<Setpoint>)>,
    /// Newest command that the unit acknowledged.
    acknowledged: Option<CommandId>,
    /// What the unit last reported, when that is more than settled.
    reported: Option<Setpoint>,
    /// Highest setpoint sent in this epoch: what an uncertain interval is booked at.
    highest: Option<Setpoint>,
    /// Lower bound being confirmed: see [`Credit`].
    credit: Credit,
    /// Below this current a fallen-off pad may stay unnoticed: pulses and charge have no lower bound.
    contact_seen_from: Milliamps,
}

/// An interval that is not closed yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    from: Mono,
    upper: Setpoint,
    lower: Option<Setpoint>,
    uncertain: bool,
    reported: bool,
    /// Credited with certainty so far.
    sure: Amount,
}

/// Integrals of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) on_us: u64,
    pub(crate) pulses: u64,
    pub(crate) charge_pc: u64,
    pub(crate) speed_us: u64,
}

/// Certainty in two stages: a report confirms what ran before the report before it.
#[derive(Clone, Copy, Debug, Default)]
struct Credit {
    since: Option<Mono>,
    floor: Option<Setpoint>,
    staged: Amount,
}

/// A closed interval with both bounds; the governor adds who and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) from: Mono,
    pub(crate) until: Mono,
    pub(crate) upper: Setpoint,
    pub(crate) lower: Option<Setpoint>,
    pub(crate) evidence: Evidence,
    pub(crate) least: Amount,
    pub(crate) most: Amount,
}

impl Ledger {
    /// Makes the ledger of a channel whose unit notices an open electrode from this current on.
    pub(crate) fn new(contact_seen_from: Milliamps) -> Self {
        Self { contact_seen_from, ..Self::default() }
    }

    /// Books a command that leaves now.
    pub(crate) fn sent(&mut self, now: Mono, id: CommandId, setpoint: Setpoint, out: &mut Vec<Interval>) {
        self.unsettled.push((Some(id), Some(setpoint)));
        if self.highest.is_none_or(|highest| magnitude(setpoint) > magnitude(highest)) {
            self.highest = Some(setpoint);
        }
        self.rebook(now, out);
    }

    /// Books a stop that leaves now: the upper bound stays until the stop is proven, nothing is sure any more.
    pub(crate) fn stop_sent(&mut self, now: Mono, out: &mut Vec<Interval>) {
        self.unsettled.push((None, None));
        self.rebook(now, out);
    }

    /// The unit acknowledged a command. A motor falls slower than it acknowledges: a lower speed settles with the next report
    /// that is not above it.
    pub(crate) fn acknowledged(&mut self, now: Mono, id: CommandId, out: &mut Vec<Interval>) {
        self.acknowledged = self.acknowledged.max(Some(id));
        if !self.falls_with(id) {
            self.settle(now, id, out);
        }
    }

    /// Settles every command up to `id`: it is in force.
    pub(crate) fn settle(&mut self, now: Mono, id: CommandId, out: &mut Vec<Interval>) {
        let Some(position) = self.unsettled.iter().position(|(sent, _)| *sent == Some(id)) else {
            return;
        };
        let rest = self.unsettled.split_off(position.saturating_add(1));
        self.settled = self.unsettled.last().and_then(|(_, setpoint)| *setpoint);
        self.unsettled = rest;
        self.rebook(now, out);
    }

    /// Returns the newest command and its setpoint, when it is acknowledged and not settled yet.
    pub(crate) fn awaits_report(&self) -> Option<(CommandId, Setpoint)> {
        match self.unsettled.last() {
            Some((Some(id), Some(setpoint))) if self.acknowledged >= Some(*id) => Some((*id, *setpoint)),
            Some(_) | None => None,
        }
    }

    /// Books a report of output. `value`: how much, when the unit says so; `since`: when more than is known may have begun.
    pub(crate) fn measured(
        &mut self,
        now: Mono,
        since: Mono,
        value: Option<Setpoint>,
        out: &mut Vec<Interval>,
    ) {
        let measured_lower = value.map_or(self.lower(), |value| smaller(self.lower_known(), Some(value)));
        if let Some(open) = &mut self.open {
            open.reported = true;
            add(&mut open.sure, self.credit.staged);
        }
        let floor =
            if value.is_some() { smaller(self.credit.floor, measured_lower) } else { self.credit.floor };
        self.credit.staged = match (self.credit.since, floor) {
            (Some(since), Some(floor)) => at_least(floor, now.since(since), self.contact_seen_from),
            (None, _) | (_, None) => Amount::default(),
        };
        self.credit.since = Some(now);
        self.credit.floor = measured_lower;
        if let (Some(value), Some(open)) = (value, &mut self.open)
            && open.uncertain
            && magnitude(value) > magnitude(open.upper)
        {
            open.upper = value;
        }
        let above = value.filter(|value| self.settled.is_none_or(|s| magnitude(*value) > magnitude(s)));
        if self.reported != above {
            let known = self.upper_setpoint().map_or(0, magnitude);
            self.reported = above;
            if above.is_some_and(|above| magnitude(above) > known) && !self.is_uncertain() {
                self.reopen(now, since, out);
                self.credit.floor = smaller(self.credit.floor, self.lower());
            } else {
                self.rebook(now, out);
            }
        }
    }

    /// The unit says that this channel gives nothing: nothing more is credited, the upper bound stays.
    pub(crate) fn measured_off(&mut self) {
        self.credit = Credit::default();
    }

    /// What was given since `since` is in doubt: books it as uncertain, at the highest setpoint of this epoch.
    pub(crate) fn doubt(&mut self, now: Mono, since: Mono, out: &mut Vec<Interval>) {
        let Some(open) = self.open.filter(|open| !open.uncertain) else {
            return;
        };
        let from = since.max(open.from).min(now);
        self.close_at(from, Duration::ZERO, out);
        let known = [self.highest, self.reported, Some(open.upper)];
        let upper = known.into_iter().flatten().max_by_key(|known| magnitude(*known)).unwrap_or(open.upper);
        self.open = Some(Open {
            from,
            upper,
            lower: None,
            uncertain: true,
            reported: false,
            sure: Amount::default(),
        });
        self.credit = Credit::default();
    }

    /// The channel is at proven zero: closes with the unit's stop tail and forgets the epoch.
    pub(crate) fn proven_zero(&mut self, now: Mono, tail: Duration, out: &mut Vec<Interval>) {
        if let Some(open) = &mut self.open {
            add(&mut open.sure, self.credit.staged);
        }
        self.close_at(now, tail, out);
        *self = Self::new(self.contact_seen_from);
    }

    /// Books output that nobody commanded: the unit was started or raised at itself at some time since `since`.
    pub(crate) fn uncommanded(&mut self, now: Mono, since: Mono, value: Setpoint, out: &mut Vec<Interval>) {
        // No report settles it: the motor may still be on its way up. What is told later does, and a proof.
        let before =
            self.unsettled.pop_if(|told| matches!(told, (None, Some(_)))).and_then(|(_, before)| before);
        let most = before.filter(|before| magnitude(*before) > magnitude(value)).unwrap_or(value);
        self.unsettled.push((None, Some(most)));
        if self.highest.is_none_or(|highest| magnitude(value) > magnitude(highest)) {
            self.highest = Some(value);
        }
        // One uncertain interval per epoch: it goes on, at the higher of the two.
        if let Some(open) = self.open.as_mut().filter(|open| open.uncertain) {
            if magnitude(value) > magnitude(open.upper) {
                open.upper = value;
            }
            return;
        }
        self.reopen(now, since, out);
    }

    /// The unit was lowered by hand: what it reports is in force, beside anything newer that was sent.
    pub(crate) fn lowered_at_device(&mut self, now: Mono, value: Setpoint, out: &mut Vec<Interval>) {
        self.settled = Some(value);
        self.reported = None;
        self.rebook(now, out);
    }

    /// Splits an interval that has become too long.
    pub(crate) fn split_long(&mut self, now: Mono, out: &mut Vec<Interval>) {
        if let Some(open) = self.open
            && now.since(open.from) >= DOSE_MAX
            && !open.uncertain
        {
            self.close_at(open.from.saturating_add(DOSE_MAX), Duration::ZERO, out);
            self.open_if_on(open.from.saturating_add(DOSE_MAX), false);
        }
    }

    /// Returns when the open interval has to be split.
    pub(crate) fn split_due(&self) -> Option<Mono> {
        self.open.filter(|open| !open.uncertain).map(|open| open.from.saturating_add(DOSE_MAX))
    }

    /// Returns the open interval as if it ended now.
    pub(crate) fn progress(&self, now: Mono) -> Option<Interval> {
        self.open.map(|open| interval(&open, now, Duration::ZERO))
    }

    /// Returns whether something may be given.
    pub(crate) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns whether what is given is in doubt.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.open.is_some_and(|open| open.uncertain)
    }

    /// Returns since when what is given is in doubt.
    pub(crate) fn uncertain_from(&self) -> Option<Mono> {
        self.open.filter(|open| open.uncertain).map(|open| open.from)
    }

    /// Returns whether a command lowers a motor: what was told before it may be what the motor falls from.
    fn falls_with(&self, id: CommandId) -> bool {
        let Some(position) = self.unsettled.iter().position(|(sent, _)| *sent == Some(id)) else {
            return false;
        };
        let (before, from) = self.unsettled.split_at(position);
        let Some((_, Some(to @ (Setpoint::Speed(_) | Setpoint::Level(_))))) = from.first() else {
            return false;
        };
        let before = before.iter().filter_map(|(_, setpoint)| *setpoint).chain(self.settled);
        before.into_iter().any(|known| magnitude(known) > magnitude(*to))
    }

    /// Returns the intensity last settled.
    pub(crate) fn settled_intensity(&self) -> Option<Intensity> {
        self.settled.map(Setpoint::intensity)
    }

    fn upper_setpoint(&self) -> Option<Setpoint> {
        let sent = self.unsettled.iter().filter_map(|(_, setpoint)| *setpoint);
        sent.chain(self.settled).chain(self.reported).max_by_key(|setpoint| magnitude(*setpoint))
    }

    /// Lowest that may be in force, `None` when it may be off.
    fn lower(&self) -> Option<Setpoint> {
        let settled = self.settled.filter(|setpoint| magnitude(*setpoint) > 0)?;
        let mut lowest = settled;
        for (_, setpoint) in &self.unsettled {
            let setpoint = setpoint.filter(|setpoint| magnitude(*setpoint) > 0)?;
            if magnitude(setpoint) < magnitude(lowest) {
                lowest = setpoint;
            }
        }
        Some(lowest)
    }

    fn lower_known(&self) -> Option<Setpoint> {
        self.lower().or(self.reported)
    }

    /// Closes and opens the interval when a bound has changed.
    fn rebook(&mut self, now: Mono, out: &mut Vec<Interval>) {
        self.credit.floor = smaller(self.credit.floor, self.lower());
        let upper = self.upper_setpoint().filter(|setpoint| magnitude(*setpoint) > 0);
        let unchanged = match (self.open, upper) {
            (Some(open), Some(upper)) => open.upper == upper && open.lower == self.lower(),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if unchanged || self.is_uncertain() {
            return;
        }
        self.close_at(now, Duration::ZERO, out);
        self.open_if_on(now, false);
    }

    /// Closes the interval where more than it says may have begun, and opens one with that, which a report shows.
    fn reopen(&mut self, now: Mono, since: Mono, out: &mut Vec<Interval>) {
        let from = self.open.map_or(since, |open| since.max(open.from)).min(now);
        self.close_at(from, Duration::ZERO, out);
        self.open_if_on(from, false);
        if let Some(open) = &mut self.open {
            open.reported = true;
        }
    }

    fn open_if_on(&mut self, from: Mono, uncertain: bool) {
        let Some(upper) = self.upper_setpoint().filter(|setpoint| magnitude(*setpoint) > 0) else {
            return;
        };
        let lower = self.lower();
        self.open = Some(Open { from, upper, lower, uncertain, reported: false, sure: Amount::default() });
    }

    fn close_at(&mut self, until: Mono, tail: Duration, out: &mut Vec<Interval>) {
        if let Some(open) = self.open.take()
            && (until > open.from || !tail.is_zero())
        {
            out.push(interval(&open, until, tail));
        }
    }
}

fn interval(open: &Open, now: Mono, tail: Duration) -> Interval {
    let until = now.max(open.from).saturating_add(tail);
    let most = at_most(open.upper, until.since(open.from));
    let least = Amount {
        on_us: open.sure.on_us.min(most.on_us),
        pulses: open.sure.pulses.min(most.pulses),
        charge_pc: open.sure.charge_pc.min(most.charge_pc),
        speed_us: open.sure.speed_us.min(most.speed_us),
    };
    let evidence = match (open.uncertain, open.reported) {
        (true, _) => Evidence::Uncertain,
        (false, true) => Evidence::Reported,
        (false, false) => Evidence::Commanded,
    };
    Interval { from: open.from, until, upper: open.upper, lower: open.lower, evidence, least, most }
}

/// Returns the most that `setpoint` can give in `span`: a pulse at each end counts.
fn at_most(setpoint: Setpoint, span: Duration) -> Amount {
    let span_us = duration_micros(span);
    match setpoint {
        Setpoint::Pulses { period, .. } => {
            let pulses = span_us.div_ceil(u64::from(period.micros()).max(1)).max(1);
            amount_of_pulses(setpoint, span_us, pulses)
        }
        Setpoint::Speed(_) | Setpoint::Level(_) => amount_of_speed(setpoint, span_us),
    }
}

/// Returns the least that `setpoint` gives in `span`.
fn at_least(setpoint: Setpoint, span: Duration, contact_seen_from: Milliamps) -> Amount {
    let span_us = duration_micros(span);
    match setpoint {
        Setpoint::Pulses { current, .. } if current < contact_seen_from => {
            Amount { on_us: span_us, ..Amount::default() }
        }
        Setpoint::Pulses { period, .. } => {
            let pulses = span_us.checked_div(u64::from(period.micros())).unwrap_or(0);
            amount_of_pulses(setpoint, span_us, pulses)
        }
        Setpoint::Speed(_) | Setpoint::Level(_) => amount_of_speed(setpoint, span_us),
    }
}

fn amount_of_pulses(setpoint: Setpoint, on_us: u64, pulses: u64) -> Amount {
    let charge_pc = pulses.saturating_mul(setpoint.phase_charge().picocoulombs());
    Amount { on_us, pulses, charge_pc, speed_us: 0 }
}

fn amount_of_speed(setpoint: Setpoint, on_us: u64) -> Amount {
    let speed_us = on_us.saturating_mul(u64::from(magnitude(setpoint)));
    Amount { on_us, pulses: 0, charge_pc: 0, speed_us }
}

fn add(to: &mut Amount, amount: Amount) {
    to.on_us = to.on_us.saturating_add(amount.on_us);
    to.pulses = to.pulses.saturating_add(amount.pulses);
    to.charge_pc = to.charge_pc.saturating_add(amount.charge_pc);
    to.speed_us = to.speed_us.saturating_add(amount.speed_us);
}

fn magnitude(setpoint: Setpoint) -> u32 {
    setpoint.intensity().magnitude()
}

/// Returns the smaller of two; `None` is off and smaller than all.
fn smaller(a: Option<Setpoint>, b: Option<Setpoint>) -> Option<Setpoint> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if magnitude(a) <= magnitude(b) { a } else { b }),
        (None, _) | (_, None) => None,
    }
}

#[cfg(test)]
mod tests;
