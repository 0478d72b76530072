//! Law 7: what the record says contains what the units really gave, per output and per area.

use std::collections::BTreeMap;

use super::Oracle;
use super::output::Given;
use crate::model::dose::{Dose, Evidence};
use crate::units::Mono;

/// Two bounds and the truth of one quantity.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    least: u64,
    truth: u64,
    most: u64,
}

/// Output time, pulses, charge, raw × time.
type Spans = [Span; 4];

const NAMES: [&str; 4] = ["output time, us", "pulses", "charge, pC", "speed x time, raw us"];

impl Oracle {
    /// Judges the doses of the record against the truth, when everything is over.
    pub(crate) fn judge_record(&mut self, now: Mono, doses: &[Dose]) {
        let mut by_output: BTreeMap<(u8, u8), Spans> = BTreeMap::new();
        let mut by_area: BTreeMap<String, Spans> = BTreeMap::new();
        for dose in doses {
            book(by_output.entry((dose.device.0, dose.channel.0)).or_default(), dose);
            book(by_area.entry(dose.place.to_string()).or_default(), dose);
            self.tally.doses += 1;
            if dose.evidence == Evidence::Uncertain {
                self.tally.uncertain += 1;
            }
        }
        for (unit, known) in (0u8..).zip(&self.units) {
            for output in &known.outputs {
                for (step, given) in output.by_step() {
                    let place = self.plan.steps.get(step).map(|step| step.place.to_string());
                    give(by_output.entry((unit, output.channel.0)).or_default(), given);
                    give(by_area.entry(place.unwrap_or_default()).or_default(), given);
                }
            }
        }
        let outputs = by_output
            .into_iter()
            .map(|((unit, channel), spans)| (format!("unit {unit} output {channel}"), spans));
        let mut judged: Vec<(String, Spans)> = outputs.collect();
        for (_, spans) in &judged {
            let [time, ..] = spans;
            self.tally.gap(time.truth, time.most);
        }
        judged.extend(by_area);
        for (name, spans) in judged {
            for (quantity, span) in NAMES.iter().zip(spans) {
                if span.truth < span.least || span.truth > span.most {
                    let Span { least, truth, most } = span;
                    let what = format!("{name}, {quantity}: record {least} to {most}, truth {truth}");
                    self.broken(7, now, what);
                }
            }
        }
    }
}

fn book(spans: &mut Spans, dose: &Dose) {
    let charge = (dose.charge.0.picocoulombs(), dose.charge.1.picocoulombs());
    for (span, (least, most)) in spans.iter_mut().zip([dose.on_us, dose.pulses, charge, dose.speed_us]) {
        span.least = span.least.saturating_add(least);
        span.most = span.most.saturating_add(most);
    }
}

fn give(spans: &mut Spans, given: Given) {
    let Given { on_us, pulses, charge_pc, speed_us } = given;
    for (span, given) in spans.iter_mut().zip([on_us, pulses, charge_pc, speed_us]) {
        span.truth = span.truth.saturating_add(given);
    }
}
