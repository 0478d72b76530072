//! Devices to refuse, and the shared judgement of names and manufacturer data.

use toml::Spanned;

use super::raw;
use crate::config::problem::{Problem, Source};
use crate::model::profile::gatt;
use crate::model::profile::matching::{ByteSet, ManufacturerRule, Refusal, RefusalKind, Traits, normal_name};

/// Words that many unrelated devices have in their names: never the beginning that identifies one.
const ORDINARY_WORDS: [&str; 12] = [
    "pro", "elite", "prime", "mini", "plus", "relief", "massage", "massager", "sport", "health", "device",
    "smart",
];

pub(super) fn refusals(
    raw: raw::Refused,
    source: &Source,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Refusal>> {
    let before = problems.len();
    if *raw.schema.get_ref() != 1 {
        problems.push(source.problem(Some(raw.schema.span()), "unknown schema", "expected 1", None));
    }
    let mut found = Vec::new();
    for refuse in raw.refuse {
        let span = refuse.span();
        let refuse = refuse.into_inner();
        let traits = traits(refuse.names, refuse.name_prefixes, refuse.manufacturer, source, problems);
        let mut services = Vec::new();
        for service in refuse.services {
            services.extend(uuid(&service, source, problems));
        }
        let refusal = Refusal {
            title: refuse.title,
            why: refuse.why,
            kind: match refuse.kind {
                raw::RefusalKind::Bootloader => RefusalKind::Bootloader,
                raw::RefusalKind::Unsupported => RefusalKind::Unsupported,
            },
            contains: refuse.name_contains.iter().map(|part| normal_name(part)).collect(),
            traits,
            services,
        };
        let signs = refusal.contains.len() + refusal.services.len() + refusal.traits.names.len();
        if signs + refusal.traits.prefixes.len() + refusal.traits.manufacturer.len() == 0 {
            problems.push(source.problem(Some(span), "nothing recognises this device", "no sign", None));
        }
        found.push(refusal);
    }
    (problems.len() == before).then_some(found)
}

/// Judges names, beginnings of names and manufacturer data.
pub(super) fn traits(
    names: Vec<Spanned<String>>,
    prefixes: Vec<Spanned<String>>,
    manufacturer: Vec<Spanned<raw::Manufacturer>>,
    source: &Source,
    problems: &mut Vec<Problem>,
) -> Traits {
    for name in &names {
        if normal_name(name.get_ref()).is_empty() {
            problems.push(source.problem(Some(name.span()), "an empty name", "matches nothing", None));
        }
    }
    for prefix in &prefixes {
        let text = normal_beginning(prefix.get_ref());
        let long = text.chars().count() >= 4;
        let marked = text.chars().count() >= 3 && text.chars().any(|c| !c.is_alphanumeric());
        if !(long || marked) || ORDINARY_WORDS.contains(&text.trim()) {
            problems.push(source.problem(
                Some(prefix.span()),
                "this beginning of a name fits too many devices",
                "at least 4 characters, or 3 with a mark such as `;`, and no ordinary word",
                Some("list whole names instead".to_owned()),
            ));
        }
    }
    let mut rules = Vec::new();
    for rule in manufacturer {
        let span = rule.span();
        let rule = rule.into_inner();
        let values = match (rule.values, rule.not_in) {
            (None, None) => ByteSet::Any,
            (Some(values), None) => ByteSet::In(values),
            (None, Some(values)) => ByteSet::NotIn(values),
            (Some(_), Some(_)) => {
                problems.push(source.problem(Some(span), "`in` and `not_in` together", "use one", None));
                continue;
            }
        };
        rules.push(ManufacturerRule { company: rule.company, at: rule.at, values });
    }
    Traits {
        names: names.iter().map(|name| normal_name(name.get_ref())).collect(),
        prefixes: prefixes.iter().map(|prefix| normal_beginning(prefix.get_ref())).collect(),
        manufacturer: rules,
    }
}

/// A beginning keeps its trailing space: "hypervolt " is not the beginning of "hypervolt+".
fn normal_beginning(text: &str) -> String {
    text.trim_start().to_lowercase()
}

/// Judges a UUID.
pub(super) fn uuid(text: &Spanned<String>, source: &Source, problems: &mut Vec<Problem>) -> Option<u128> {
    let uuid = gatt::parse_uuid(text.get_ref());
    if uuid.is_none() {
        problems.push(source.problem(
            Some(text.span()),
            "not a UUID",
            "4, 8 or 32 hex digits, for example \"ffe1\"",
            None,
        ));
    }
    uuid
}
