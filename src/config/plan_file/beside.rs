//! `[[together]]`: pairs of steps that are meant to run at the same time (SR-19, SR-25).
//!
//! Percussion beside stimulation needs the distance between the gun's area and the nearest electrode, measured by the
//! therapist: area codes have no geometry. Nearer than 5 cm, or on one area, is refused here and again by the governor.

use crate::config::reader::{At, Table, Wrong, quantity};
use crate::governor::limits::DISTANCE_MIN;
use crate::model::plan::{Beside, Plan, Step};
use crate::model::protocol::Modality;
use crate::units::Centimetres;
use toml::de::DeValue;

/// No two places of one body are farther apart; a larger number is a slip.
const DISTANCE_MAX: Centimetres = Centimetres::from_millimetres(2_000);

/// Reads the pairs. Returns `None` exactly when a problem was reported.
pub(super) fn judge(tables: &[Table<'_>], plan: &Plan) -> Option<Vec<Beside>> {
    let mut pairs: Vec<Beside> = Vec::new();
    let mut clean = true;
    for table in tables {
        let Some(pair) = judge_pair(table, plan) else {
            clean = false;
            continue;
        };
        if pairs.iter().any(|known| known.steps == pair.steps) {
            let (one, other) = pair.steps;
            let message = format!("steps {one} and {other} are paired twice");
            table.push(table.key_span("steps"), message, "", Some("leave one of them out".to_owned()));
            clean = false;
        }
        pairs.push(pair);
    }
    clean.then_some(pairs)
}

fn judge_pair(table: &Table<'_>, plan: &Plan) -> Option<Beside> {
    let numbers = table.required("steps", two_numbers);
    let distance = table.optional("distance", quantity::<Centimetres>);
    let written = table.has("distance");
    table.close();
    let At { value: (one, other), span } = numbers?;
    let find = |number: u8| plan.steps.iter().find(|step| step.number == number);
    let (Some(first), Some(second)) = (find(one), find(other)) else {
        let label = format!("the plan has steps 1 to {}", plan.steps.len());
        table.push(
            Some(span),
            format!("`steps` of {} names a step that is not there", table.name()),
            label,
            None,
        );
        return None;
    };
    if let Some((message, label)) = never(first, second, plan) {
        table.push(
            Some(span),
            message,
            label,
            Some("leave the pair out: one runs after the other".to_owned()),
        );
        return None;
    }
    if percussion(first) == percussion(second) {
        if written {
            let message = format!("`distance` of {} has no meaning for two stimulations", table.name());
            table.push(table.key_span("distance"), message, "", Some("leave it out".to_owned()));
            return None;
        }
        return Some(Beside { steps: (one, other), distance: None });
    }
    if !written {
        let message = format!("`distance` is missing in {}", table.name());
        let help = "measure from the gun's area to the nearest electrode and write for example \"12 cm\"";
        table.push(Some(span), message, "percussion beside stimulation", Some(help.to_owned()));
        return None;
    }
    let distance = distance?;
    if !(DISTANCE_MIN..=DISTANCE_MAX).contains(&distance.value) {
        let message = format!("the distance of {} is {}", table.name(), distance.value);
        let label = format!("{DISTANCE_MIN} to {DISTANCE_MAX} is due");
        let help =
            "percussion nearer than 5 cm to an active electrode is never done; run one after the other";
        table.push(Some(distance.span), message, label, Some(help.to_owned()));
        return None;
    }
    Some(Beside { steps: (one, other), distance: Some(distance.value) })
}

/// Returns why two steps can never run at the same time.
fn never(one: &Step, other: &Step, plan: &Plan) -> Option<(String, String)> {
    let steps = format!("steps {} and {}", one.number, other.number);
    if one.device == other.device && one.channel == other.channel {
        return Some((format!("{steps} use the same output"), "one output gives one thing".to_owned()));
    }
    match (percussion(one), percussion(other)) {
        (true, true) => Some((format!("{steps} are both percussion"), "one gun at a time".to_owned())),
        (false, false) => {
            let may = plan.together.contains(&(one.number, other.number));
            let label = "their electrodes together would be a path that is not allowed".to_owned();
            (!may).then(|| (format!("{steps} must not run at the same time"), label))
        }
        (true, false) | (false, true) => {
            let label = "percussion never works an area that is being stimulated".to_owned();
            one.overlaps(other).then(|| (format!("{steps} work the same area"), label))
        }
    }
}

fn percussion(step: &Step) -> bool {
    step.modality == Modality::Percussion
}

/// Reads two different step numbers, the smaller first.
fn two_numbers(value: &DeValue<'_>) -> Result<(u8, u8), Wrong> {
    let wrong = || Wrong::new("two different step numbers are due", "for example [1, 2]");
    let DeValue::Array(list) = value else {
        return Err(wrong());
    };
    let numbers: Vec<u8> = list
        .iter()
        .filter_map(|item| {
            let DeValue::Integer(number) = item.get_ref() else {
                return None;
            };
            u8::from_str_radix(number.as_str(), number.radix()).ok()
        })
        .collect();
    match (numbers.as_slice(), list.len()) {
        ([one, other], 2) if one != other => Ok(((*one).min(*other), (*one).max(*other))),
        _ => Err(wrong()),
    }
}
