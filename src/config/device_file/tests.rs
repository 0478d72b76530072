use super::*;
use crate::model::capability::IntensityRange;
use crate::units::{Level, RawSpeed};

fn text(name: &str) -> &'static str {
    BUILT_IN.iter().find(|(path, _)| path.ends_with(name)).unwrap().1
}

fn load(text: &str) -> (Option<Profile>, Vec<Problem>) {
    let mut problems = Vec::new();
    let source = Source { path: "test.toml".into(), text: text.into() };
    let profile = load_profile(&source, &mut problems);
    (profile, problems)
}

#[test]
fn what_is_shipped_loads_without_a_problem() {
    let mut problems = Vec::new();
    let catalogue = built_in(&mut problems);
    let shown: Vec<_> = problems
        .iter()
        .map(|p| (&p.source.path, &p.message, p.span.clone().map(|s| &p.source.text[s])))
        .collect();
    assert!(problems.is_empty(), "{shown:#?}");
    let ids: Vec<_> = catalogue.profiles.iter().map(|profile| profile.id.as_str()).collect();
    assert_eq!(ids, ["theragun-g4", "theragun-wave", "hypervolt-legacy"]);
    assert!(catalogue.refusals.len() > 5);
}

/// One line of the Theragun profile replaced; what is marked and what is said.
#[test]
fn every_load_rule_names_its_line() {
    let cases = [
        ("schema   = 1", "schema   = 2", "2", "unknown schema"),
        ("max            = 2400 ", "max            = 2401 ", "2401", "above the cap of its evidence"),
        ("max            = 2400 ", "max            = 999 ", "999", "outside floor and top"),
        ("evidence = \"documented\"", "evidence = \"experimental\"", "2400", "above the cap of its evidence"),
        ("evidence = \"documented\"", "evidence = \"inferred\"", "120", "outside the cap of its evidence"),
        ("rise_per_s     = 600", "rise_per_s     = 724", "724", "too fast"),
        (
            "speed        = { top = 3584 }",
            "speed        = { top = 3617 }",
            "{ top = 3617 }",
            "cannot raise the top",
        ),
        ("max_run_s      = 120", "max_run_s      = 121", "121", "outside the cap of its evidence"),
        ("stop_tail_ms   = 1000", "stop_tail_ms   = 200", "200", "never measured"),
        ("suspect_ms = 750", "suspect_ms = 751", "751", "outside what is allowed"),
        ("stop_cycle_ms  = 500", "stop_cycle_ms  = 501", "501", "outside what is allowed"),
        ("[\"stop_zero\", \"stop_off7\", \"stop_off4\"]", "[]", "[]", "no frame stops this device"),
        ("[\"stop_zero\", \"stop_off7\"", "[\"set_speed\", \"stop_off7\"", "\"set_speed\"", "no parameters"),
        ("field = \"running\", eq", "field = \"runs\", eq", "\"runs\"", "no such field"),
        ("{speed:u16be} 03\"", "{speed:u16be} 04\"", "\"aa700103096003\"", "example fails"),
        (
            "hex     = \"bb86100c",
            "hex     = \"bb87100c",
            "\"bb87100c010000000000000000096000\"",
            "example fails",
        ),
        ("speed = 2400 }\n[[", "speed = 2401 }\n[[", "\"bb86100c010000000000000000096000\"", "example fails"),
        ("algo = \"sum8\"", "algo = \"sum9\"", "\"sum9\"", "unknown checksum"),
        ("char    = \"ffe1\"", "char    = \"ffe\"", "\"ffe\"", "not a UUID"),
        ("needs   = [\"notify\"]", "needs   = [\"read\"]", "[\"read\"]", "none of these flags"),
        ("name_prefixes = []", "name_prefixes = [\"Pro\"]", "\"Pro\"", "fits too many devices"),
        ("name_prefixes = []", "name_prefixes = [\"Elite\"]", "\"Elite\"", "fits too many devices"),
        ("proof         = \"get_version\"", "proof         = \"set_speed\"", "\"set_speed\"", "no query"),
        (
            "min_len   = 15",
            "min_len   = 14",
            "{ at = 13, type = \"u16be\" }",
            "not inside the shortest reply",
        ),
        ("firmware_min = \"2.0.4\"", "firmware_min = \"2.0\"", "\"2.0\"", "not a firmware version"),
        ("sources  = [", "colour = 1\nsources  = [", "colour", "unknown field"),
        ("id       = \"theragun-g4\"", "id       = \"Theragun G4\"", "\"Theragun G4\"", "not an id"),
    ];
    for (from, to, marked, said) in cases {
        let whole = text("theragun-g4.toml");
        assert!(whole.contains(from), "{from}");
        let (profile, problems) = load(&whole.replacen(from, to, 1));
        assert!(profile.is_none(), "{to} was accepted");
        let found = problems.iter().any(|problem| {
            let span = problem.span.clone().map(|span| &problem.source.text[span]);
            span == Some(marked) && problem.message.contains(said)
        });
        let seen: Vec<_> =
            problems.iter().map(|p| (&p.message, p.span.clone().map(|s| &p.source.text[s]))).collect();
        assert!(found, "{to}: {seen:#?}");
    }
}

#[test]
fn several_problems_come_at_once() {
    let spoiled = text("theragun-g4.toml")
        .replace("max            = 2400 ", "max            = 3000 ")
        .replace("min_gap_ms     = 100", "min_gap_ms     = 5")
        .replace("\"aa040103\"", "\"aa040104\"");
    assert_eq!(load(&spoiled).1.len(), 3);
}

#[test]
fn a_frame_longer_than_a_payload_and_a_missing_example_are_problems() {
    let long =
        text("hypervolt-legacy.toml").replace("frame = \"00\"", &format!("frame = \"{}\"", "00 ".repeat(21)));
    assert!(load(&long).1.iter().any(|problem| problem.message.contains("21 bytes")));
    let bare = text("hypervolt-legacy.toml").replace(
        "command = \"set_level\"\nargs    = { level = 3 }\nhex     = \"03\"",
        "command = \"stop\"\nhex     = \"00\"",
    );
    assert!(load(&bare).1.iter().any(|problem| problem.message.contains("`set_level` has no example")));
}

#[test]
fn the_digest_covers_the_data_and_not_the_layout() {
    let original = load(text("theragun-g4.toml")).0.unwrap().digest;
    let reworded = format!(
        "# a remark\n{}",
        text("theragun-g4.toml").replace("max_run_s      = 120", "max_run_s = 120")
    );
    assert_eq!(load(&reworded).0.unwrap().digest, original);
    let lower = text("theragun-g4.toml").replace("max            = 2400", "max            = 2399");
    assert_ne!(load(&lower).0.unwrap().digest, original);
    assert_eq!(original.len(), 64);
}

#[test]
fn a_user_profile_cannot_replace_a_built_in_one() {
    let mut problems = Vec::new();
    let mut catalogue = built_in(&mut problems);
    let source = Source { path: "mine.toml".into(), text: text("theragun-g4.toml").into() };
    add_profile(&source, &mut catalogue, &mut problems);
    assert_eq!(problems.len(), 1);
    assert_eq!(catalogue.profiles.len(), 3);
}

#[test]
fn capabilities_stay_inside_what_is_known() {
    let catalogue = built_in(&mut Vec::new());
    let [g4, wave, hypervolt] = catalogue.profiles.as_slice() else { panic!("three profiles") };
    let prime = g4.capability(g4.variant("Prime"));
    let speed = |floor, max, top, rise_per_s| IntensityRange::Speed {
        floor: RawSpeed::from_raw(floor),
        max: RawSpeed::from_raw(max),
        top: RawSpeed::from_raw(top),
        rise_per_s,
    };
    assert_eq!(prime.intensity, speed(1000, 2400, 3584, 600));
    assert_eq!(prime.limits.speed, Some(RawSpeed::from_raw(2400)));
    assert_eq!(prime.limits.duration.unwrap().as_secs(), 120);
    assert_eq!(prime.battery_life.as_secs(), 150 * 60);
    assert!(prime.keep_alive.is_none());
    let roller = wave.capability(wave.variant("fr01"));
    assert_eq!(roller.intensity, speed(150, 150, 470, 0));
    let level = hypervolt.capability(None);
    assert_eq!(
        level.intensity,
        IntensityRange::Level { max: Level::from_level(1), top: Level::from_level(3) }
    );
}

#[test]
fn a_learnt_frame_comes_first_and_the_short_one_stays_behind_its_twin() {
    let catalogue = built_in(&mut Vec::new());
    let order = |learnt| -> Vec<&str> {
        catalogue.profiles[0].stop_order(learnt).iter().map(|frame| frame.name.as_str()).collect()
    };
    assert_eq!(order(None), ["stop_zero", "stop_off7", "stop_off4"]);
    assert_eq!(order(Some("stop_zero")), ["stop_zero", "stop_off7", "stop_off4"]);
    assert_eq!(order(Some("stop_off7")), ["stop_off7", "stop_off4", "stop_zero"]);
    assert_eq!(order(Some("stop_off4")), ["stop_off7", "stop_off4", "stop_zero"]);
    assert_eq!(order(Some("no such frame")), ["stop_zero", "stop_off7", "stop_off4"]);
}
