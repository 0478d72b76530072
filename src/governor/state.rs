//! What the governor remembers of each step and each unit.

use std::time::Duration;

use crate::alarm::Cause;
use crate::governor::input::{RequestId, Seq};
use crate::governor::ledger::Ledger;
use crate::governor::rise::Program;
use crate::governor::{StepState, StopView};
use crate::model::command::{Epoch, Generation, Intensity};
use crate::model::session::{Actor, StopReason};
use crate::units::{Milliamps, Mono, RawForce};

/// One step of the plan while the session runs.
#[derive(Clone, Debug)]
pub(crate) struct StepRun {
    pub(crate) state: StepState,
    /// Last asked by a person.
    pub(crate) asked: Intensity,
    /// Where titration goes.
    pub(crate) target: Intensity,
    /// Commanded at this instant.
    pub(crate) setpoint: Intensity,
    /// Highest reached by titration and tolerated (design 3.6).
    pub(crate) envelope: Intensity,
    /// What the unit last said it gives.
    pub(crate) delivered: Option<Intensity>,
    pub(crate) program: Option<Program>,
    /// Earliest next rise.
    pub(crate) rise_at: Mono,
    /// No rise before, after discomfort.
    pub(crate) locked_until: Option<Mono>,
    pub(crate) operator_limit: Option<Intensity>,
    pub(crate) comfort_limit: Option<Intensity>,
    /// A reason above usual was given.
    pub(crate) reason: Option<String>,
    pub(crate) pending: Option<Pending>,
    /// Output time of this step, up to `on_since`.
    pub(crate) used: Duration,
    /// Output time runs since.
    pub(crate) on_since: Option<Mono>,
    /// Output that nobody commanded while the step was not in use runs since: it counts on the area, not as this step's own.
    pub(crate) uncommanded_since: Option<Mono>,
    /// Output so far, commanded or not, as it counts in budgets.
    pub(crate) spans: Vec<(Mono, Mono)>,
    /// The finish ramp began.
    pub(crate) finishing: Option<Finish>,
    pub(crate) ledger: Ledger,
    /// Next progress row.
    pub(crate) progress_at: Option<Mono>,
    /// A progress row exists.
    pub(crate) has_progress: bool,
    /// The operator was asked for a sign of life.
    pub(crate) asked_present: Option<Mono>,
    /// Who armed it last, and when.
    pub(crate) armed_by: Option<Actor>,
    pub(crate) armed_at: Option<Mono>,
    /// Up to here the gun's own button may start and set it; with the intent that says so.
    pub(crate) by_hand: Option<(Intensity, Seq)>,
    /// Pressed too hard.
    pub(crate) pressed: Option<Pressed>,
    /// The setpoint before the present one and when it was left: a report may still describe it.
    pub(crate) told: (Intensity, Mono),
    /// It has reported more than it was told since then.
    pub(crate) above_since: Option<Mono>,
}

/// A gun that is pressed harder than its step allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pressed {
    pub(crate) since: Mono,
    pub(crate) highest: RawForce,
    /// It was lowered for it.
    pub(crate) lowered: bool,
}

/// A rise whose intent is on its way to the disk.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) seq: Seq,
    /// `None`: it lets the gun's own button start, up to `target`.
    pub(crate) request: Option<RequestId>,
    pub(crate) at: Mono,
    pub(crate) target: Intensity,
    pub(crate) reason: Option<String>,
}

/// An ordinary end under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finish {
    pub(crate) began: Mono,
    pub(crate) from: Intensity,
    pub(crate) next: Mono,
    pub(crate) reason: StopReason,
}

/// One unit while the session runs.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) up: bool,
    /// It has been connected in this session.
    pub(crate) known: bool,
    pub(crate) unusable: Option<String>,
    pub(crate) epoch: Epoch,
    /// The epoch has begun and not ended.
    pub(crate) ready: bool,
    /// `Prepare` is on its way.
    pub(crate) preparing: bool,
    pub(crate) last_alive: Option<Mono>,
    /// The answer before the newest one: what a report says may have begun since then.
    pub(crate) alive_before: Option<Mono>,
    /// Last moment at which it surely gave nothing: the report of zero before the newest one.
    pub(crate) zero_seen: Mono,
    /// The newest report of zero.
    pub(crate) zero_reported: Mono,
    /// When `Prepare` was ordered.
    pub(crate) prepared_at: Mono,
    pub(crate) stop: Stop,
    pub(crate) battery: Option<u8>,
    pub(crate) renew_at: Option<Mono>,
    /// Its last packet that keeps output alive can have left until then.
    pub(crate) driven_until: Mono,
    /// Bytes that meant nothing so far.
    pub(crate) unintelligible: u64,
    /// It was in use when this call of `advance` stopped it: an alarm raised for that counts.
    pub(crate) stopped_in_use: bool,
    /// Alerts that stopped it in use, oldest first.
    pub(crate) alerts: Vec<(Cause, Mono)>,
    /// Why and until when it cannot be armed.
    pub(crate) locked: Option<(Cause, Mono)>,
    /// It has said since then that it runs although its stop was proven.
    pub(crate) runs_since: Option<Mono>,
    /// The guard process can stop it.
    pub(crate) held: bool,
    /// When the guard, which could not, is asked once more.
    pub(crate) hold_again: Option<Mono>,
    /// The guard process stops it when nothing is heard.
    pub(crate) watched: bool,
}

/// The newest stop of a unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    pub(crate) generation: Generation,
    pub(crate) asked_at: Mono,
    pub(crate) view: StopView,
}

impl StepRun {
    pub(crate) fn new(zero: Intensity, contact_seen_from: Milliamps, now: Mono) -> Self {
        Self {
            state: StepState::Waiting,
            asked: zero,
            target: zero,
            setpoint: zero,
            envelope: zero,
            delivered: None,
            program: None,
            rise_at: now,
            locked_until: None,
            operator_limit: None,
            comfort_limit: None,
            reason: None,
            pending: None,
            used: Duration::ZERO,
            on_since: None,
            uncommanded_since: None,
            spans: Vec::new(),
            finishing: None,
            ledger: Ledger::new(contact_seen_from),
            progress_at: None,
            has_progress: false,
            asked_present: None,
            armed_by: None,
            armed_at: None,
            by_hand: None,
            pressed: None,
            told: (zero, now),
            above_since: None,
        }
    }

    /// Returns output time so far.
    pub(crate) fn used_at(&self, now: Mono) -> Duration {
        self.used.saturating_add(self.on_since.map_or(Duration::ZERO, |since| now.since(since)))
    }

    /// Returns what a request is compared with: the envelope of a program, else the setpoint.
    pub(crate) const fn level(&self) -> Intensity {
        if self.program.is_some() { self.envelope } else { self.setpoint }
    }

    /// Returns the highest that a report may still describe, the present setpoint included.
    pub(crate) fn highest_told(&self, now: Mono) -> Intensity {
        let (before, until) = self.told;
        let lately = now.since(until) < Duration::from_millis(500);
        if lately && before.magnitude() > self.setpoint.magnitude() { before } else { self.setpoint }
    }

    /// Ends the counting of output time.
    pub(crate) fn stop_counting(&mut self, at: Mono) {
        self.used = self.used_at(at);
        let running = [self.on_since.take(), self.uncommanded_since.take()];
        self.spans.extend(running.into_iter().flatten().map(|since| (since, at.max(since))));
    }

    /// Returns whether output time runs.
    pub(crate) const fn counts(&self) -> bool {
        self.on_since.is_some() || self.uncommanded_since.is_some()
    }

    /// Returns the output so far; what runs, up to `now`.
    pub(crate) fn spans_at(&self, now: Mono) -> impl Iterator<Item = (Mono, Mono)> {
        let running = [self.on_since, self.uncommanded_since].into_iter().flatten();
        self.spans.iter().copied().chain(running.map(move |since| (since, now.max(since))))
    }

    /// Takes `[to, until)` out of what counts: a person resolved an interval that began at `from` and counted until then.
    pub(crate) fn cut_back(&mut self, from: Mono, until: Mono, to: Mono) {
        for span in &mut self.spans {
            if span.0 <= from && span.1 > to && span.1 <= until {
                span.1 = to.max(span.0);
            }
        }
    }

    /// Returns whether the step holds or may hold output of its channel.
    pub(crate) const fn is_live(&self) -> bool {
        match self.state {
            StepState::Arming | StepState::Armed | StepState::Running | StepState::Finishing => true,
            StepState::Waiting | StepState::Held | StepState::Ended(_) => false,
        }
    }
}

impl Unit {
    pub(crate) fn new(now: Mono) -> Self {
        Self {
            up: false,
            known: false,
            unusable: None,
            epoch: Epoch(0),
            ready: false,
            preparing: false,
            last_alive: None,
            alive_before: None,
            zero_seen: now,
            zero_reported: now,
            prepared_at: now,
            stop: Stop { generation: Generation(0), asked_at: now, view: StopView::None },
            battery: None,
            renew_at: None,
            driven_until: now,
            unintelligible: 0,
            stopped_in_use: false,
            alerts: Vec::new(),
            locked: None,
            runs_since: None,
            held: false,
            hold_again: None,
            watched: false,
        }
    }

    /// Books a report of zero.
    pub(crate) fn saw_zero(&mut self, now: Mono) {
        self.zero_seen = self.zero_reported;
        self.zero_reported = now;
    }

    /// Returns whether the newest stop is proven or stated.
    pub(crate) const fn stop_settled(&self) -> bool {
        matches!(self.stop.view, StopView::Confirmed(_) | StopView::Stated)
    }

    /// Returns whether the unit is at proven zero.
    pub(crate) const fn proven_zero(&self) -> bool {
        matches!(self.stop.view, StopView::Confirmed(_))
    }

    /// Returns how long it has been silent; `None`: it never answered.
    pub(crate) fn silent(&self, now: Mono) -> Option<Duration> {
        self.last_alive.map(|alive| now.since(alive))
    }
}
