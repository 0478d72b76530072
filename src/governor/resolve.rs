//! Uncertain intervals of this session and of earlier ones: each is kept by its dose id, blocks its area and its unit, and
//! is resolved by a person with a reason, inside its two bounds (design 3.9, SR-43).

use std::time::Duration;

use crate::governor::ledger::Interval;
use crate::governor::output::{Entry, Output, Refusal, Verdict};
use crate::governor::{Governor, Resolution, StopView};
use crate::model::budget::{DoseRef, OpenDose};
use crate::model::command::DeviceId;
use crate::model::dose::{DoseId, Evidence};
use crate::model::session::Actor;
use crate::units::Mono;

impl Governor {
    /// Keeps a closed interval that is uncertain, until it is resolved.
    pub(super) fn keep_open(&mut self, index: usize, dose: DoseId, interval: &Interval) {
        if interval.evidence != Evidence::Uncertain {
            return;
        }
        let Some(step) = self.step(index) else {
            return;
        };
        let device = step.device;
        let unit = self.plan.devices.get(usize::from(device.0));
        let on = (Duration::from_micros(interval.least.on_us), Duration::from_micros(interval.most.on_us));
        let open = OpenDose {
            of: DoseRef { session: None, dose },
            unit: unit.map_or_else(String::new, |unit| unit.label.clone()),
            place: Some(step.place.clone()),
            modality: step.modality,
            on,
            today: true,
            earlier: None,
            stated: self.unit(device).is_some_and(|unit| unit.stop.view == StopView::Stated),
        };
        self.settings.spent.open.push(open);
        self.doubtful.insert(dose, (index, interval.from));
        self.bump();
    }

    /// A person says what an uncertain interval gave.
    pub(super) fn resolve(
        &mut self,
        now: Mono,
        by: Actor,
        asked: &Resolution,
        out: &mut Vec<Output>,
    ) -> Verdict {
        let granted = Verdict::Granted { target: None };
        if let Some(gave) = self.resolved.get(&asked.of) {
            let why = "It was resolved before, otherwise; nothing has changed.";
            return if *gave == asked.gave { granted } else { Verdict::Refused(Refusal::State { why }) };
        }
        let known = self.settings.spent.open.iter().position(|open| open.of == asked.of);
        let Some((position, open)) =
            known.and_then(|at| Some((at, self.settings.spent.open.get(at)?.clone())))
        else {
            return Verdict::Refused(Refusal::State { why: "There is no such uncertain interval." });
        };
        if asked.shown != open.on {
            return Verdict::Refused(Refusal::Stale);
        }
        if asked.gave < open.on.0 || asked.gave > open.on.1 {
            return Verdict::Refused(Refusal::OutsideBounds { on: open.on });
        }
        if asked.reason.trim().is_empty() || by.person.trim().is_empty() {
            return Verdict::Refused(Refusal::State { why: "A resolution needs a person and a reason." });
        }
        self.settings.spent.open.remove(position);
        self.resolved.insert(asked.of.clone(), asked.gave);
        self.give_back(&open, asked.gave);
        let (of, shown, gave, reason) = (asked.of.clone(), asked.shown, asked.gave, asked.reason.clone());
        self.append(now, Entry::Resolved { by, of, shown, gave, reason }, out);
        self.bump();
        granted
    }

    /// A unit has proven its stop: what it gave in an earlier session was over by now, plus its stop tail.
    pub(super) fn end_earlier(&mut self, now: Mono, device: DeviceId, tail: Duration, out: &mut Vec<Output>) {
        let Some(unit) = self.plan.devices.get(usize::from(device.0)).map(|planned| planned.label.clone())
        else {
            return;
        };
        let mut ended = Vec::new();
        for open in self.settings.spent.open.iter_mut().filter(|open| open.unit == unit) {
            let Some(earlier) = &open.earlier else {
                continue;
            };
            let from = earlier.dose.from;
            let zero_by = now.saturating_add(earlier.ahead).saturating_add(tail);
            let most = zero_by.since(from).max(open.on.0);
            // A proof from before it began says nothing of it.
            if now.saturating_add(earlier.ahead) >= from && most < open.on.1 {
                let before = open.clone();
                open.on.1 = most;
                ended.push((before, most, earlier.dose.clone(), zero_by));
            }
        }
        for (open, most, dose, zero_by) in ended {
            self.give_back(&open, most);
            let of = open.of.clone();
            self.append(now, Entry::Ended { device, of, dose: Box::new(dose), zero_by, most }, out);
            self.bump();
        }
    }

    /// Takes what a resolution leaves over out of the budgets.
    fn give_back(&mut self, open: &OpenDose, gave: Duration) {
        match (&open.of.session, self.doubtful.remove(&open.of.dose)) {
            (None, Some((index, from))) => {
                if let Some(run) = self.runs.get_mut(index) {
                    run.cut_back(from, from.saturating_add(open.on.1), from.saturating_add(gave));
                }
            }
            (Some(_), _) if open.today => {
                let over = open.on.1.saturating_sub(gave);
                if let Some(place) = &open.place {
                    self.settings.spent.give_back(&open.of, open.modality, place, over);
                }
            }
            (Some(_) | None, _) => {}
        }
    }
}
