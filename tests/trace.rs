//! The trace of `docs/safety.md`: hazard, requirement, test, figure. It must say what the tree holds, in both directions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Parts of the product that are not built yet and may own a requirement.
const PARTS_TO_COME: &[&str] = &["screening", "clinic", "access", "web", "enrolment", "export"];

/// One row of a table: the cells between the bars.
type Row<'a> = Vec<&'a str>;

/// Returns the rows whose first cell begins with `prefix`, by that cell.
fn rows<'a>(text: &'a str, prefix: &str) -> (BTreeMap<&'a str, Row<'a>>, Vec<String>) {
    let mut found = BTreeMap::new();
    let mut problems = Vec::new();
    for line in text.lines().filter(|line| line.starts_with(&format!("| {prefix}"))) {
        let cells: Row = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if found.insert(cells[0], cells.clone()).is_some() {
            problems.push(format!("{} has two rows", cells[0]));
        }
    }
    (found, problems)
}

/// Returns the texts in back ticks.
fn ticked(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Every test of the tree with what stands right above it, by name.
fn tests_of_the_tree() -> BTreeMap<String, String> {
    let mut tests = BTreeMap::new();
    let mut folders = vec![Path::new("src").to_owned(), Path::new("tests").to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                take_tests(&std::fs::read_to_string(&path).unwrap(), &mut tests);
            }
        }
    }
    tests
}

fn take_tests(text: &str, tests: &mut BTreeMap<String, String>) {
    let mut above = String::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        let name = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
        if line.starts_with("///") || line.starts_with("//") || line.starts_with("#[") {
            is_test |=
                line == "#[test]" || line.starts_with("#[tokio::test") || line.starts_with("#![proptest");
            above.push_str(line);
        } else if let Some((name, _)) = name.and_then(|rest| rest.split_once('(')) {
            // Tests inside `proptest!` carry the attribute as well.
            if is_test {
                tests.insert(name.to_owned(), std::mem::take(&mut above));
            }
            (above, is_test) = (String::new(), false);
        } else {
            (above, is_test) = (String::new(), false);
        }
    }
}

/// Judges a trace against the tests that there are.
fn judge(trace: &str, tests: &BTreeMap<String, String>) -> Vec<String> {
    let (requirements, mut problems) = rows(trace, "SR-");
    let (hazards, twice) = rows(trace, "H-");
    problems.extend(twice);
    for number in 1..=48 {
        let id = format!("SR-{number:02}");
        match requirements.get(id.as_str()) {
            None => problems.push(format!("{id} has no row")),
            Some(row) => problems.extend(judge_row(&id, row, tests)),
        }
    }
    let traced: String = hazards.values().map(|row| row.join(" ")).collect();
    for number in 1..=19 {
        let id = format!("H-{number:02}");
        if !hazards.contains_key(id.as_str()) {
            problems.push(format!("{id} has no row"));
        }
    }
    for id in requirements.keys().filter(|id| !traced.contains(**id)) {
        problems.push(format!("{id} belongs to no hazard"));
    }
    for name in tests.keys() {
        for id in named(name) {
            let listed = requirements.get(id.as_str()).is_some_and(|row| ticked(row[2]).any(|it| it == name));
            if !listed {
                problems.push(format!("{name} is not in the row of {id}"));
            }
        }
    }
    problems
}

/// Returns the requirements that a test's name names: `sr_09_sr_10_…`.
fn named(test: &str) -> BTreeSet<String> {
    let numbers = test.split("sr_").skip(1).filter_map(|rest| rest.get(..2));
    numbers
        .filter(|number| number.bytes().all(|it| it.is_ascii_digit()))
        .map(|it| format!("SR-{it}"))
        .collect()
}

fn judge_row(id: &str, row: &[&str], tests: &BTreeMap<String, String>) -> Vec<String> {
    let &[_, what, shown, figure] = row else {
        return vec![format!("{id}: a row has four cells, this one {}", row.len())];
    };
    let mut problems = Vec::new();
    if what.is_empty() || figure.is_empty() {
        problems.push(format!("{id}: an empty cell"));
    }
    for name in ticked(shown) {
        match tests.get(name) {
            None => problems.push(format!("{id}: there is no test {name}")),
            Some(above) if !named(name).contains(id) && !above.contains(id) => {
                problems.push(format!("{id}: {name} does not name it"));
            }
            Some(_) => {}
        }
    }
    let owner = shown.split_once("to come with ").map(|(_, rest)| rest);
    let owned = owner.is_some_and(|rest| {
        let (part, reason) = rest.split_once(':').unwrap_or((rest, ""));
        PARTS_TO_COME.contains(&part.trim()) && reason.trim().len() > 10
    });
    if owner.is_some() && !owned {
        problems.push(format!("{id}: the owner must be one of {PARTS_TO_COME:?} with a reason"));
    }
    if ticked(shown).next().is_none() && !owned {
        problems.push(format!("{id}: neither a test nor an owner"));
    }
    problems
}

#[test]
fn the_trace_says_what_the_tree_holds() {
    let trace = std::fs::read_to_string("docs/safety.md").unwrap();
    let problems = judge(&trace, &tests_of_the_tree());
    assert!(problems.is_empty(), "{} problems\n{}", problems.len(), problems.join("\n"));
}

/// What the trace says of a hazard is what the README's table lists.
#[test]
fn the_readme_and_the_trace_list_the_same_hazards() {
    let trace = std::fs::read_to_string("docs/safety.md").unwrap();
    let readme = std::fs::read_to_string("README.md").unwrap();
    let ids = |text: &str| rows(text, "H-").0.keys().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(&trace), ids(&readme));
}

#[test]
fn a_trace_that_lies_is_caught() {
    let trace = std::fs::read_to_string("docs/safety.md").unwrap();
    let tests = tests_of_the_tree();
    let row = trace.lines().find(|line| line.starts_with("| SR-05 ")).unwrap();
    let first = ticked(row).next().unwrap();
    let lies = [
        (trace.replace(row, ""), "SR-05 has no row"),
        (trace.replace(first, "no_such_test"), "there is no test no_such_test"),
        (
            trace.replace(row, "| SR-05 | x | to come with magic: nobody knows when | – |"),
            "the owner must be",
        ),
        (trace.replace(row, "| SR-05 | x | to come with web: | – |"), "the owner must be"),
        (trace.replace(row, "| SR-05 | x | – | – |"), "neither a test nor an owner"),
        (trace.replace(row, "| SR-05 | x | `a_trace_that_lies_is_caught` | – |"), "does not name it"),
        (format!("{trace}\n{row}\n"), "SR-05 has two rows"),
        (trace.replace("SR-05", "SR-55"), "SR-05 has no row"),
    ];
    for (lie, expected) in lies {
        let problems = judge(&lie, &tests);
        assert!(problems.iter().any(|it| it.contains(expected)), "{expected}: {problems:?}");
    }
    let mut more = tests;
    more.insert("sr_05_a_new_test".to_owned(), String::new());
    assert!(judge(&trace, &more).iter().any(|it| it.contains("sr_05_a_new_test is not in the row")));
}

/// `scripts/breaks` takes long and is not run here; that its rows still meet the tree is.
#[test]
fn the_breaks_meet_the_tree() {
    let text = std::fs::read_to_string("tests/data/breaks.toml").unwrap();
    let table: toml::Table = text.parse().unwrap();
    let tests = tests_of_the_tree();
    let rows = table["break"].as_array().unwrap();
    let mut requirements = BTreeSet::new();
    for row in rows {
        let cell = |key: &str| row[key].as_str().unwrap();
        let id = cell("requirement");
        let source = std::fs::read_to_string(cell("file")).unwrap();
        assert_eq!(source.matches(cell("find")).count(), 1, "{id}: what to find in {}", cell("file"));
        let test = cell("test").rsplit("::").next().unwrap();
        assert!(
            tests.contains_key(test) && named(test).contains(id),
            "{id}: {test} is not a test that names it"
        );
        requirements.insert(id);
    }
    assert!(requirements.len() >= 10, "{requirements:?}");
}
