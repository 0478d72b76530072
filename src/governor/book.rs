//! Bookkeeping: numbers for entries, intervals to doses.

use crate::governor::ledger::{Interval, Ledger};
use crate::governor::output::{Entry, Output};
use crate::governor::{Governor, Seq, limits};
use crate::model::command::DeviceId;
use crate::model::dose::{Dose, DoseId};
use crate::units::{Microcoulombs, Mono};

impl Governor {
    /// Appends an entry and returns its number.
    pub(super) fn append(&mut self, now: Mono, entry: Entry, out: &mut Vec<Output>) -> Seq {
        self.last_seq = Seq(self.last_seq.0.saturating_add(1));
        out.push(Output::Append { seq: self.last_seq, at: now, entry });
        self.last_seq
    }

    /// Lets `change` work on a step's ledger, appends the doses that it closes and keeps the progress row true.
    pub(super) fn book(
        &mut self,
        index: usize,
        now: Mono,
        out: &mut Vec<Output>,
        change: impl FnOnce(&mut Ledger, &mut Vec<Interval>),
    ) {
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        let mut closed = Vec::new();
        change(&mut run.ledger, &mut closed);
        let changed = !closed.is_empty() || run.ledger.is_open() != run.has_progress;
        for interval in closed {
            self.last_dose = DoseId(self.last_dose.0.saturating_add(1));
            self.keep_open(index, self.last_dose, &interval);
            #[cfg(feature = "defects")]
            if self.settings.defect == Some(super::Defect::SkippedDose)
                && self.last_dose.0.checked_rem(3) == Some(0)
            {
                continue;
            }
            if let Some(dose) = self.dose(index, self.last_dose, interval) {
                self.append(now, Entry::Dose(dose), out);
            }
        }
        if changed {
            self.progress(index, now, out);
        }
    }

    /// Writes, or removes, the progress row of a step's channel.
    pub(super) fn progress(&mut self, index: usize, now: Mono, out: &mut Vec<Output>) {
        let Some((run, step)) = self.runs.get(index).zip(self.plan.steps.get(index)) else {
            return;
        };
        let (device, channel) = (step.device, step.channel);
        let next = DoseId(self.last_dose.0.saturating_add(1));
        let row = run.ledger.progress(now).and_then(|interval| self.dose(index, next, interval));
        let had = run.has_progress;
        let has = row.is_some();
        match row {
            Some(dose) => out.push(Output::Progress(dose)),
            None if had => out.push(Output::ProgressDone { device, channel }),
            None => {}
        }
        if let Some(run) = self.runs.get_mut(index) {
            run.has_progress = has;
            run.progress_at = has.then(|| now.saturating_add(super::tick::PROGRESS_EVERY));
        }
    }

    fn dose(&self, index: usize, id: DoseId, interval: Interval) -> Option<Dose> {
        let (step, run) = (self.step(index)?, self.runs.get(index)?);
        let capability = self.capability(step.device)?;
        let binding = limits::binding(step, capability, run.operator_limit, run.comfort_limit);
        let (least, most) = (interval.least, interval.most);
        #[cfg(feature = "defects")]
        let most = if self.has(super::Defect::UnderBooked) {
            crate::governor::ledger::Amount { on_us: most.on_us.checked_div(2).unwrap_or(0), ..most }
        } else {
            most
        };
        Some(Dose {
            id,
            step: step.number,
            device: step.device,
            channel: step.channel,
            epoch: self.unit(step.device)?.epoch,
            modality: step.modality,
            place: step.place.clone(),
            from: interval.from,
            until: interval.until,
            upper: interval.upper,
            lower: interval.lower,
            evidence: interval.evidence,
            on_us: (least.on_us, most.on_us),
            pulses: (least.pulses, most.pulses),
            charge: (charge(least.charge_pc), charge(most.charge_pc)),
            speed_us: (least.speed_us, most.speed_us),
            limit: (binding.owner, binding.allowed.magnitude()),
            rate_basis: capability.rate_basis,
        })
    }

    /// Notes something that should not happen and needs no act of its own.
    pub(super) fn anomaly(
        &mut self,
        now: Mono,
        device: DeviceId,
        what: impl Into<String>,
        out: &mut Vec<Output>,
    ) {
        self.append(now, Entry::Anomaly { device, what: what.into() }, out);
    }
}

const fn charge(picocoulombs: u64) -> Microcoulombs {
    Microcoulombs::from_picocoulombs(picocoulombs)
}
