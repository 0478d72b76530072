//! What may run beside what (SR-19, SR-25): two stimulation channels where every path across is allowed, percussion beside
//! stimulation at a distance that the therapist measured, and never on one area.

use crate::governor::limits::DISTANCE_MIN;
use crate::governor::output::{Entry, Output, Refusal};
use crate::governor::{Governor, state};
use crate::model::plan::{Beside, Step};
use crate::model::protocol::Modality;
use crate::model::session::Actor;
use crate::units::Mono;

impl Governor {
    /// Returns why a step must wait: for a step in use, or one whose output is not known to be over.
    pub(super) fn beside_another(&self, index: usize) -> Option<Refusal> {
        self.in_use_beside(index).find_map(|(step, run)| {
            let why = self.not_together(self.step(index)?, step)?;
            let settled = self.unit(step.device).is_some_and(state::Unit::stop_settled);
            Some(match (run.is_live(), settled) {
                (true, _) => why,
                (false, true) => {
                    Refusal::State { why: "The step before it is still coming to rest. Ask again." }
                }
                (false, false) => Refusal::NotProven { device: step.device },
            })
        })
    }

    fn in_use_beside(&self, index: usize) -> impl Iterator<Item = (&Step, &state::StepRun)> {
        let runs = self.plan.steps.iter().zip(&self.runs).enumerate();
        runs.filter(move |(other, (_, run))| *other != index && (run.is_live() || run.ledger.is_open()))
            .map(|(_, beside)| beside)
    }

    /// Returns why two steps never give output at the same time.
    fn not_together(&self, one: &Step, other: &Step) -> Option<Refusal> {
        let percussion = |step: &Step| step.modality == Modality::Percussion;
        if percussion(one) != percussion(other) {
            if one.overlaps(other) {
                let why = "Percussion never works an area that is being stimulated. End that step first.";
                return Some(Refusal::State { why });
            }
            let entered = self.beside(one, other).and_then(|beside| beside.distance);
            let near = entered.is_none_or(|entered| entered < DISTANCE_MIN);
            return near.then_some(Refusal::Distance { entered });
        }
        let may = !percussion(one) && self.plan.together.contains(&pair(one, other));
        let why = "It must not run beside the step that is in use. End that one first.";
        (!may).then_some(Refusal::State { why })
    }

    fn beside(&self, one: &Step, other: &Step) -> Option<&Beside> {
        self.plan.beside.iter().find(|beside| beside.steps == pair(one, other))
    }

    /// Puts on record at which distance a step begins beside another.
    pub(super) fn note_beside(&mut self, now: Mono, by: &Actor, index: usize, out: &mut Vec<Output>) {
        let Some(step) = self.step(index) else {
            return;
        };
        let mut entries = Vec::new();
        for (other, _) in self.in_use_beside(index) {
            if let Some(distance) = self.beside(step, other).and_then(|beside| beside.distance) {
                let (by, step, other) = (by.clone(), step.number, other.number);
                entries.push(Entry::Beside { by, step, other, distance });
            }
        }
        for entry in entries {
            self.append(now, entry, out);
        }
    }
}

fn pair(one: &Step, other: &Step) -> (u8, u8) {
    (one.number.min(other.number), one.number.max(other.number))
}
