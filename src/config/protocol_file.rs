//! Treatment protocols: `protocols/*.toml`.
//!
//! A protocol states what is usual (above it the therapist gives a reason) and what may be done (above it the answer is
//! no). The largest value of each range is a limit too. No protocol can raise a ceiling: one that tries is refused.

use std::time::Duration;

use toml::de::DeValue;

use crate::config::limit_table::{self, tighter};
use crate::config::problem::{Problem, Source};
use crate::config::reader::{Reader, Table, Wrong, duration, flag, one_of, quantity, text, texts};
use crate::config::{self, MODALITIES};
use crate::governor::limits::ceiling;
use crate::model::limit::Limits;
use crate::model::protocol::{Modality, Protocol, Range};
use crate::units::{Hertz, Microseconds, show_duration};

/// Shortest ramp up of a program: 1 s (design 3.6).
pub const RAMP_UP_MIN: Duration = Duration::from_secs(1);

/// Strength of the evidence behind a protocol, as its file states it.
const GRADES: &[(&str, char)] = &[("A", 'A'), ("B", 'B'), ("C", 'C'), ("D", 'D'), ("P", 'P')];

/// Reads one protocol. Returns `None` exactly when problems were added.
pub fn load(source: &Source, problems: &mut Vec<Problem>) -> Option<Protocol> {
    Reader::read(source, problems, judge)
}

fn judge(root: &Table<'_>) -> Option<Protocol> {
    let head = config::head(root);
    let modality = root.required("modality", one_of(MODALITIES));
    let not_drivable_because = judge_drivable(root);
    let sources = root.required("sources", texts);
    judge_prose(root);
    let kind = modality.as_ref().map(|modality| modality.value);

    let most = kind.map(ceiling).unwrap_or_default();
    let stimulated = kind.is_some_and(stimulates);
    let rate_max = most.frequency.or(most.stroke_rate);
    let frequency = range(root, "frequency", (true, rate_max), quantity::<Hertz>, Hertz::to_string);
    let width =
        range(root, "width", (stimulated, most.width), quantity::<Microseconds>, Microseconds::to_string);
    let ramp_up = span_range(root, "ramp_up", (stimulated, None));
    let ramp_down = span_range(root, "ramp_down", (stimulated, None));
    let on = span_range(root, "on", (false, most.on));
    let off = span_range(root, "off", (on.is_some(), None));
    let total = span_range(root, "duration", (true, most.area_time));
    let rest = root.optional("rest_same_area", duration).map_or(Duration::ZERO, |rest| rest.value);
    let usual = root.table_if("usual", "[usual]").map(|table| (limit_table::read(&table, kind), table));
    let limits = root.table_if("limits", "[limits]").map(|table| (limit_table::read(&table, kind), table));
    root.close();
    for (written, table) in limits.iter() {
        let help = "tighten the limit; a file cannot raise a ceiling";
        limit_table::within(table, written, &most, "the ceiling", help);
    }

    let modality = modality?.value;
    let (frequency, duration) = (frequency?, total?);
    judge_places(root, modality, ramp_up.as_ref());
    let bounds = Bounds { modality, frequency, width, on, duration };
    let own = bounds.limits(limits.as_ref().map(|(written, _)| &written.limits));
    for (written, table) in usual.iter() {
        let help = "what is usual cannot be more than what may be done";
        limit_table::within(table, written, &own, "the protocol's own limit", help);
    }
    let head = head?;
    Some(Protocol {
        id: head.id.value,
        title: head.title,
        modality,
        not_drivable_because,
        frequency,
        width,
        ramp_up,
        ramp_down,
        on,
        off,
        duration,
        rest_same_area: rest,
        usual: bounds.limits(usual.as_ref().map(|(written, _)| &written.limits)),
        limits: own,
        sources: sources?.value,
    })
}

const fn stimulates(modality: Modality) -> bool {
    match modality {
        Modality::Tens | Modality::Nmes => true,
        Modality::Percussion => false,
    }
}

/// Prose for people; checked to be there, kept in the file.
fn judge_prose(root: &Table<'_>) {
    root.required("evidence", one_of(GRADES));
    root.required("evidence_note", text);
    root.required("goal", text);
    root.required("amplitude", text);
}

fn judge_drivable(root: &Table<'_>) -> Option<String> {
    let drivable = root.required("drivable", flag);
    let because = root.optional("not_drivable_because", text);
    match (drivable.map(|drivable| drivable.value), because) {
        (Some(false), None) => {
            root.missing("not_drivable_because");
            None
        }
        (Some(true), Some(because)) => {
            let help = Some("leave one of the two out".to_owned());
            root.push(Some(because.span), "a protocol that is drivable has no reason not to be", "", help);
            None
        }
        (_, because) => because.map(|because| because.value),
    }
}

/// The ranges of a protocol whose largest values are limits.
struct Bounds {
    modality: Modality,
    frequency: Range<Hertz>,
    width: Option<Range<Microseconds>>,
    on: Option<Range<Duration>>,
    duration: Range<Duration>,
}

impl Bounds {
    /// Returns the stated limits, tightened by the largest value of each range.
    fn limits(&self, stated: Option<&Limits>) -> Limits {
        let mut limits = stated.cloned().unwrap_or_default();
        let rate = Some(self.frequency.max);
        if stimulates(self.modality) {
            limits.frequency = tighter(limits.frequency, rate);
        } else {
            limits.stroke_rate = tighter(limits.stroke_rate, rate);
        }
        limits.width = tighter(limits.width, self.width.map(|width| width.max));
        limits.on = tighter(limits.on, self.on.map(|on| on.max));
        limits.duration = tighter(limits.duration, Some(self.duration.max));
        limits
    }
}

/// Ranges in the wrong place: a gun has no pulses, TENS is continuous, a cycle needs both its parts.
fn judge_places(root: &Table<'_>, modality: Modality, ramp_up: Option<&Range<Duration>>) {
    let misplaced: &[&str] = match modality {
        Modality::Percussion => &["width", "ramp_up", "ramp_down", "on", "off"],
        Modality::Tens => &["on", "off"],
        Modality::Nmes => &[],
    };
    for key in misplaced.iter().filter(|key| root.has(key)) {
        let message = format!("`{key}` has no meaning for {}", modality.word());
        root.push(root.key_span(key), message, "", Some("leave it out".to_owned()));
    }
    if root.has("off") && !root.has("on") {
        let help = Some("add `[on]`".to_owned());
        root.push(root.key_span("off"), "`off` without `on`: a cycle needs both", "", help);
    }
    if root.has("on") && ramp_up.is_some_and(|ramp| ramp.min < RAMP_UP_MIN) {
        let message = format!("`ramp_up` of a cycle begins under {}", show_duration(RAMP_UP_MIN));
        let help = Some("a program never rises faster".to_owned());
        root.push(root.key_span("ramp_up"), message, "", help);
    }
}

fn span_range(
    root: &Table<'_>,
    key: &'static str,
    rule: (bool, Option<Duration>),
) -> Option<Range<Duration>> {
    range(root, key, rule, duration, |it| show_duration(*it).to_string())
}

/// Reads a range and checks min ≤ start ≤ max ≤ ceiling. `rule`: whether it must be there, and its ceiling.
fn range<T: Copy + Ord>(
    root: &Table<'_>,
    key: &'static str,
    (needed, most): (bool, Option<T>),
    read: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
    show: impl Fn(&T) -> String,
) -> Option<Range<T>> {
    let name = format!("[{key}]");
    let table = if needed { root.table(key, name) } else { root.table_if(key, name) }?;
    let (min, max) = (table.required("min", &read), table.required("max", &read));
    let start = table.required("start", &read);
    table.close();
    let (min, max, start) = (min?, max?, start?);
    if let Some(most) = most.filter(|most| max.value > *most) {
        let label = format!("the ceiling is {}", show(&most));
        let help = Some("tighten the range; a file cannot raise a ceiling".to_owned());
        table.push(Some(max.span), format!("the range [{key}] is above the ceiling"), label, help);
        return None;
    }
    if min.value > max.value {
        let label = format!("`min` is {}", show(&min.value));
        table.push(Some(max.span), format!("`max` of [{key}] is below `min`"), label, None);
        return None;
    }
    if start.value < min.value || start.value > max.value {
        let label = format!("{} to {} is due", show(&min.value), show(&max.value));
        table.push(Some(start.span), format!("`start` of [{key}] is outside its range"), label, None);
        return None;
    }
    Some(Range { min: min.value, max: max.value, start: start.value })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::config::problem::render;

    const TENS: &str = include_str!("../../protocols/tens-conventional.toml");

    fn load_text(text: &str) -> (Option<Protocol>, String) {
        let source = Source { path: PathBuf::from("p.toml"), text: Arc::from(text) };
        let mut problems = Vec::new();
        let protocol = load(&source, &mut problems);
        (protocol, render(&problems))
    }

    fn check(from: &str, to: &str, expected: &str) {
        assert!(TENS.contains(from), "the shipped file has no `{from}`");
        let (protocol, text) = load_text(&TENS.replacen(from, to, 1));
        assert!(protocol.is_none(), "loaded with `{to}`");
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn range_ends_are_limits_and_stated_limits_only_tighten_them() {
        let (protocol, text) = load_text(TENS);
        let protocol = protocol.expect(&text);
        assert_eq!(protocol.limits.frequency, Some(Hertz::from_hertz(150)));
        assert_eq!(protocol.limits.width, Some(Microseconds::from_micros(200)));
        assert_eq!(protocol.limits.duration, Some(Duration::from_mins(60)));
        assert_eq!(protocol.usual.frequency, Some(Hertz::from_hertz(150)));
        let tightened = TENS.replace("[limits]", "[limits]\nfrequency = \"100 Hz\"");
        let protocol = load_text(&tightened).0.unwrap();
        assert_eq!(protocol.limits.frequency, Some(Hertz::from_hertz(100)));
    }

    #[test]
    fn a_protocol_cannot_raise_a_ceiling() {
        check(
            "phase_charge = \"20 uC\"",
            "phase_charge = \"31 uC\"",
            "charge per phase limit of [limits] is above",
        );
        check("max = \"150 Hz\"", "max = \"151 Hz\"", "the ceiling is 150 Hz");
        check("max = \"200 us\"", "max = \"251 us\"", "the ceiling is 250 us");
    }

    #[test]
    fn each_slip_is_one_named_problem() {
        check("schema = 1", "schema = 2", "schema 2 is not known");
        check("current = \"30 mA\"", "current = \"30 Hz\"", "is not mA");
        check("current = \"30 mA\"", "current = 30", "an integer was found");
        check("start = \"80 Hz\"", "start = \"40 Hz\"", "`start` of [frequency] is outside");
        check("min = \"50 Hz\"", "min = \"200 Hz\"", "`max` of [frequency] is below `min`");
        check("drivable = true", "drivable = false", "`not_drivable_because` is missing");
        check("goal =", "gaol =", "did you mean `goal`?");
        check("phase_charge = \"6 uC\"", "phase_charge = \"21 uC\"", "above the protocol's own limit");
        check(
            "[duration]",
            "[on]\nmin=\"1 s\"\nmax=\"2 s\"\nstart=\"1 s\"\n[duration]",
            "`on` has no meaning for tens",
        );
    }
}
