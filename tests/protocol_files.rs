//! Shipped data loads; damaged files give exactly the expected problems, all at once; nothing panics.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use doseward::config::clinical_file;
use doseward::config::library::{EMBEDDED, digest};
use doseward::config::{Library, Loaded, Problem, Source, UnitSource, check, load_plan, render};
use doseward::governor::limits::ceiling;
use doseward::model::area::{AreaCode, Side};
use doseward::model::command::Intensity;
use doseward::model::limit::LimitOwner;
use doseward::model::plan::Electrode;
use doseward::model::protocol::Modality;
use doseward::units::{Hertz, Microseconds, Milliamps, RawSpeed, SquareCentimetres};
use proptest::prelude::*;

const SAMPLE: &str = "config/plans/sample.toml";

fn library() -> Library {
    Library::open(None)
}

fn sample_with(from: &str, to: &str) -> String {
    let text = std::fs::read_to_string(SAMPLE).unwrap();
    assert!(text.contains(from), "the sample has no `{from}`");
    text.replacen(from, to, 1)
}

/// Loads a text as a plan from a file of its own.
fn load_text(text: &str) -> Result<Loaded, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    std::fs::write(&path, text).unwrap();
    load_plan(&library(), &path)
}

fn shipped_sample() -> Loaded {
    load_plan(&library(), Path::new(SAMPLE)).unwrap_or_else(|problems| panic!("{}", render(&problems)))
}

#[test]
fn every_shipped_file_loads() {
    let problems = check(&library(), &[]);
    assert!(problems.is_empty(), "{}", render(&problems));
    let problems = check(&Library::embedded(), &[]);
    assert!(problems.is_empty(), "built in: {}", render(&problems));
}

#[test]
fn every_shipped_file_is_built_in_and_the_same() {
    let mut shipped = vec![PathBuf::from("config/daemon.toml")];
    for folder in ["protocols", "config/devices", "config/clinical", "config/plans", "config/worlds"] {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        shipped.extend(files.filter(|path| path.extension().is_some_and(|it| it == "toml")));
    }
    for path in &shipped {
        let name = path.to_str().unwrap();
        let built_in = EMBEDDED.iter().find(|(known, _)| *known == name);
        let (_, text) = built_in.unwrap_or_else(|| panic!("{name} is missing in config::library::EMBEDDED"));
        assert_eq!(*text, std::fs::read_to_string(path).unwrap(), "{name}");
    }
    assert_eq!(EMBEDDED.len(), shipped.len(), "something is built in that is not shipped");
}

#[test]
fn the_sample_comes_out_with_its_whole_chain() {
    let loaded = shipped_sample();
    let plan = &loaded.plan;
    assert_eq!((plan.id.as_str(), plan.devices.len(), plan.steps.len()), ("sample", 2, 3));
    let total: Duration = plan.steps.iter().map(|step| step.duration).sum();
    assert_eq!(total, Duration::from_secs(60));
    for step in &plan.steps {
        for owner in [LimitOwner::Ceiling, LimitOwner::Device, LimitOwner::Site, LimitOwner::Protocol] {
            assert_ne!(step.chain.get(owner).limits, Default::default(), "step {} {owner:?}", step.number);
        }
        for owner in [LimitOwner::Clearance, LimitOwner::Operator, LimitOwner::Comfort] {
            assert_eq!(step.chain.get(owner).limits, Default::default(), "step {} {owner:?}", step.number);
        }
        assert_eq!(step.chain.get(LimitOwner::Ceiling).limits, ceiling(step.modality));
    }
    let [tens, nmes, gun] = plan.steps.as_slice() else { panic!("three steps") };
    assert_eq!(tens.target, Intensity::Current(Milliamps::from_milliamps(6)));
    let pulses = tens.stimulation.unwrap();
    assert_eq!(
        (pulses.period, pulses.width),
        (Microseconds::from_micros(12_500), Microseconds::from_micros(100))
    );
    assert_eq!(nmes.stimulation.unwrap().cycle.unwrap().on, Duration::from_secs(6));
    assert_eq!(nmes.chain.get(LimitOwner::Plan).limits.current, Some(Milliamps::from_milliamps(12)));
    assert_eq!(nmes.channel.0, 1, "channel 2 of the file is the second output");
    assert_eq!(gun.target, Intensity::Speed(RawSpeed::from_raw(1400)));
    assert_eq!(gun.chain.get(LimitOwner::Area).limits.stroke_rate, Some(Hertz::from_hertz(40)));
    assert_eq!(gun.held_by.as_deref(), Some("T-01"));
    assert_eq!(loaded.units.len(), 2);
    assert!(
        matches!(loaded.units.as_slice(), [UnitSource::Stimulator { .. }, UnitSource::Profile(id)] if id == "theragun-g4")
    );
    assert_eq!(loaded.declarations.len(), 1, "the P24 needs the clinic lead's declaration");
}

/// SR-30: a record names exactly what governed it.
#[test]
fn every_file_that_governs_is_named_with_its_digest() {
    let loaded = shipped_sample();
    let names: Vec<&str> = loaded.files.iter().map(|(name, _)| name.as_str()).collect();
    for name in [
        "sample.toml",
        "config/daemon.toml",
        "config/clinical/body-areas.toml",
        "config/devices/hasomed-p24.toml",
        "config/devices/theragun-g4.toml",
        "protocols/nmes-strength-large.toml",
        "protocols/percussion-standard.toml",
        "protocols/tens-conventional.toml",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_eq!(names.len(), 8, "and nothing that governs nothing: {names:?}");
    assert_eq!(loaded.files[0].1, digest(&std::fs::read_to_string(SAMPLE).unwrap()));
}

/// H-10, SR-31: boundary at each limit and one step above.
#[test]
fn sr_31_a_target_at_the_limit_loads_and_one_step_above_is_refused() {
    for (from, limit, above, owner) in [
        ("target = \"6 mA\"", "target = \"50 mA\"", "target = \"50.5 mA\"", "site limit is 50 mA"),
        ("target = \"8 mA\"", "target = \"12 mA\"", "target = \"12.5 mA\"", "plan limit is 12 mA"),
        (
            "target = \"1400 raw\"",
            "target = \"2400 raw\"",
            "target = \"2401 raw\"",
            "device limit is 2400 raw",
        ),
        ("duration = \"12 s\"", "duration = \"120 s\"", "duration = \"120.001 s\"", "limit is 120 s"),
        ("duration = \"20 s\"", "duration = \"60 min\"", "duration = \"61 min\"", "limit is 3600 s"),
        ("frequency = \"80 Hz\"", "frequency = \"150 Hz\"", "frequency = \"150.001 Hz\"", "limit is 150 Hz"),
        ("width = \"100 us\"", "width = \"200 us\"", "width = \"201 us\"", "protocol limit is 200 us"),
        ("on = \"6 s\"", "on = \"10 s\"", "on = \"10.1 s\"", "protocol limit is 10 s"),
    ] {
        if let Err(problems) = load_text(&sample_with(from, limit)) {
            panic!("{limit}: {}", render(&problems));
        }
        let problems = load_text(&sample_with(from, above)).expect_err(above);
        let text = render(&problems);
        assert!(text.contains(owner), "{above}: {text}");
        assert_eq!(problems.len(), 1, "{text}");
    }
}

#[test]
fn above_usual_and_below_the_limit_is_no_problem() {
    let loaded = load_text(&sample_with("target = \"6 mA\"", "target = \"40 mA\"")).unwrap();
    let step = &loaded.plan.steps[0];
    let Intensity::Current(target) = step.target else { panic!("a current") };
    assert!(step.usual.current.is_some_and(|usual| target > usual), "the run asks for a reason");
}

/// H-02, SR-10: current density by the smaller electrode.
#[test]
fn sr_10_a_small_pad_binds_by_density() {
    let small = |contact: &str, target: &str| {
        let text = sample_with("contact = \"25 cm2\"", &format!("contact = \"{contact}\""))
            .replace("target = \"6 mA\"", &format!("target = \"{target}\""));
        load_text(&text.replace("width = \"100 us\"", "width = \"200 us\"").replace("80 Hz", "150 Hz"))
    };
    // 2 mA/cm² on 4 cm²: 8 mA r.m.s. over √(2 × 200 µs / 6667 µs) is 32.6 mA.
    assert!(small("4 cm2", "32.5 mA").is_ok());
    let text = render(&small("4 cm2", "33 mA").unwrap_err());
    assert!(text.contains("current density") && text.contains("2 mA/cm2") && text.contains("32.6"), "{text}");
}

#[test]
fn rounding_goes_down_and_is_said() {
    let text =
        sample_with("frequency = \"80 Hz\"", "frequency = \"90 Hz\"").replace("\"6 mA\"", "\"6.3 mA\"");
    let loaded = load_text(&text).unwrap();
    let step = &loaded.plan.steps[0];
    assert_eq!(step.stimulation.unwrap().period, Microseconds::from_micros(11_500), "11 112 µs lengthened");
    assert_eq!(step.target, Intensity::Current(Milliamps::from_milliamps(6)));
    let advice = loaded.advice.join("\n");
    assert!(advice.contains("step 1: 90 Hz becomes a period of 11500 us"), "{advice}");
    assert!(advice.contains("step 1: target 6.3 mA becomes 6 mA"), "{advice}");
}

/// H-05: percussion on `caution` areas and thinner tissue: the worst credible reading is 1 raw = 1 stroke a minute.
#[test]
fn tissue_and_caution_bound_an_uncalibrated_gun() {
    for (area, most) in
        [("hamstrings", 2400), ("deltoid", 2100), ("forearm_flexors", 1500), ("upper_trapezius", 1800)]
    {
        let step = |raw: u32| {
            let text = sample_with("area = \"hamstrings\"", &format!("area = \"{area}\""));
            load_text(&text.replace("1400 raw", &format!("{raw} raw")))
        };
        assert!(step(most).is_ok(), "{area} at {most}: {}", render(&step(most).unwrap_err()));
        let problems = step(most + 1).expect_err(area);
        let words =
            if area == "hamstrings" { "device limit is 2400 raw" } else { "area limit of stroke rate" };
        assert!(render(&problems).contains(words), "{}", render(&problems));
    }
}

/// A `caution` electrode puts TENS under half of the ceiling and 15 min.
#[test]
fn a_caution_area_halves_the_current() {
    let popliteal = |target: &str| {
        let text = std::fs::read_to_string(SAMPLE).unwrap().replace("\"calf\"", "\"popliteal_fossa\"");
        load_text(&text.replace("\"6 mA\"", target))
    };
    let loaded = popliteal("\"30 mA\"").unwrap();
    assert!(loaded.advice.iter().any(|line| line.contains("low cap")), "{:?}", loaded.advice);
    let text = render(&popliteal("\"30.5 mA\"").unwrap_err());
    assert!(text.contains("area limit is 30 mA (popliteal fossa right, low cap)"), "{text}");
}

/// One pad on a `caution` area is enough, whichever area the dose is booked on.
#[test]
fn the_other_pad_on_a_caution_area_halves_the_current_too() {
    let first = sample_with("{ area = \"calf\"", "{ area = \"popliteal_fossa\"");
    assert!(load_text(&first.replace("\"6 mA\"", "\"30 mA\"")).is_ok());
    let text = render(&load_text(&first.replace("\"6 mA\"", "\"30.5 mA\"")).unwrap_err());
    assert!(text.contains("area limit is 30 mA"), "{text}");
}

/// H-03, H-06: every area and modality as the body areas say, in one plan each.
#[test]
fn every_denied_area_is_refused_and_every_other_is_not() {
    let source = Source::read(Path::new("config/clinical/body-areas.toml")).unwrap();
    let areas = clinical_file::load(&source, &mut Vec::new()).unwrap();
    let sample = std::fs::read_to_string(SAMPLE).unwrap();
    let (mut denied, mut allowed) = (0, 0);
    for area in areas.iter() {
        let side = area.laterality[0].word();
        for (modality, old, raw) in [
            (Modality::Tens, "\"calf\"", "6 mA"),
            (Modality::Nmes, "\"quadriceps\"", "8 mA"),
            (Modality::Percussion, "\"hamstrings\"", "1400 raw"),
        ] {
            let place = format!("\"{}\"", area.code.as_str());
            let old_side = if modality == Modality::Nmes { "left" } else { "right" };
            let text: String = sample
                .split("[[step]]")
                .enumerate()
                .filter(|(at, part)| *at == 0 || part.contains(old))
                .map(|(at, part)| if at == 0 { part.to_owned() } else { format!("[[step]]{part}") })
                .collect::<String>()
                .replace(old, &place)
                .replace(&format!("\"{old_side}\""), &format!("\"{side}\""))
                .replace(raw, if modality == Modality::Percussion { "1000 raw" } else { raw });
            let result = load_text(&text);
            let deny = area.permission(modality) == doseward::model::area::Permission::Deny;
            if deny {
                denied += 1;
                let text = render(&result.expect_err(area.code.as_str()));
                assert!(text.contains("is never done on"), "{text}");
            } else {
                allowed += 1;
                // A midline pad crosses the midline; only below the thorax, on the back, may a pair do that.
                if let Err(problems) = result {
                    let text = render(&problems);
                    assert!(side == "midline" && text.contains("path"), "{text}");
                }
            }
        }
    }
    println!("{denied} denied and {allowed} permitted pairs of area and modality");
    assert_eq!(denied + allowed, 61 * 3);
    assert!(denied > 61 && allowed > 61);
}

/// SR-19, H-03: electrodes of two channels at once, every ordered pair of area and side, against an oracle that reads the
/// two tables by itself.
#[test]
fn sr_19_pairs_across_two_channels_agree_with_the_tables_read_anew() {
    let path = Path::new("config/clinical/body-areas.toml");
    let table: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let rows = |name: &str| table[name].as_array().unwrap().clone();
    let tables = [rows("electrode_pair"), rows("cross_channel")].concat();
    let has = |spot: &toml::Value, key: &str, area: &toml::Value| {
        spot[key].as_array().unwrap().contains(&area[key])
    };
    let sets = |side: Side| match side {
        Side::Left => "L",
        Side::Right => "R",
        Side::Midline => "LR",
        Side::Bilateral => "",
    };
    let may = |(area, side): (&toml::Value, Side), (other, other_side): (&toml::Value, Side)| {
        let known = !sets(side).is_empty() && !sets(other_side).is_empty();
        let same = sets(side) == sets(other_side) && sets(side).len() == 1;
        known
            && tables.iter().any(|row| {
                let on = |spot: &str, area| has(&row[spot], "region", area) && has(&row[spot], "face", area);
                let placed = on("a", area) && on("b", other) || on("b", area) && on("a", other);
                placed && (same || row["side"].as_str() == Some("any"))
            })
    };
    let source = Source::read(path).unwrap();
    let areas = clinical_file::load(&source, &mut Vec::new()).unwrap();
    let places: Vec<(toml::Value, Side)> = rows("area")
        .into_iter()
        .flat_map(|area| {
            [Side::Left, Side::Right, Side::Midline, Side::Bilateral].map(|side| (area.clone(), side))
        })
        .collect();
    let electrode = |(area, side): &(toml::Value, Side)| Electrode {
        contact: SquareCentimetres::from_square_millimetres(2_500),
        area: AreaCode::new(area["code"].as_str().unwrap()),
        side: *side,
    };
    let (mut allowed, mut refused) = (0, 0);
    for one in &places {
        for other in &places {
            let found = areas.cross(&electrode(one), &electrode(other)).is_some();
            let expected = may((&one.0, one.1), (&other.0, other.1));
            assert_eq!(found, expected, "{} {:?}, {} {:?}", one.0["code"], one.1, other.0["code"], other.1);
            *(if found { &mut allowed } else { &mut refused }) += 1;
        }
    }
    println!("SR-19: {allowed} ordered pairs of area and side may, {refused} may not");
    assert!(allowed > 1_000 && refused > 10_000);
}

/// SR-11: each missing field of the electrodes is its own refusal, all 2⁶ − 1 combinations.
#[test]
fn sr_11_every_missing_electrode_field_is_named() {
    let whole = "{ area = \"calf\", side = \"right\", contact = \"25 cm2\" }";
    let fields = ["area = \"calf\"", "side = \"right\"", "contact = \"25 cm2\""];
    for missing in 1u32..64 {
        let pad = |from: u32| {
            let kept: Vec<&str> = (0..3)
                .filter(|bit| missing >> (from + bit) & 1 == 0)
                .map(|bit| fields[bit as usize])
                .collect();
            format!("{{ {} }}", kept.join(", "))
        };
        let text = std::fs::read_to_string(SAMPLE).unwrap();
        let at = text.find(whole).unwrap();
        let (before, after) = (&text[..at], &text[at + whole.len()..]);
        let after = after.replacen(whole, &pad(3), 1);
        let problems = load_text(&format!("{before}{}{after}", pad(0))).expect_err("a field is missing");
        let found = problems
            .iter()
            .filter(|problem| problem.message.contains("is missing in step 1, electrode"))
            .count();
        assert_eq!(found as u32, missing.count_ones(), "{missing:06b}: {}", render(&problems));
    }
}

#[test]
fn a_plan_that_is_not_there_is_one_problem() {
    let problems = load_plan(&library(), Path::new("tests/data/bad/not-there.toml")).unwrap_err();
    assert_eq!(problems.len(), 1);
    let text = render(&problems);
    assert!(text.starts_with("error: cannot read tests/data/bad/not-there.toml"), "{text}");
}

/// Golden problems: `tests/data/bad/NAME.toml` gives exactly the text of `NAME.txt`.
#[test]
fn bad_files_give_exactly_their_problems() {
    let mut files: Vec<PathBuf> = std::fs::read_dir("tests/data/bad")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 10, "{}", files.len());
    let mut failed = Vec::new();
    for path in &files {
        let found = render(&check(&library(), std::slice::from_ref(path)));
        assert!(!found.is_empty(), "{} has no problem", path.display());
        let golden = path.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            failed.push(format!("{}:\nexpected\n{expected}\nfound\n{found}", path.display()));
        }
    }
    assert!(failed.is_empty(), "UPDATE_GOLDEN=1 rewrites them; read what changed\n{}", failed.join("\n"));
    println!("{} bad files", files.len());
}

fn check_never_panics(text: &str) {
    let source = Source { path: PathBuf::from("x.toml"), text: Arc::from(text) };
    for load in LOADERS {
        let mut problems = Vec::new();
        load(&source, &mut problems);
        let rendered = render(&problems);
        assert_eq!(rendered.is_empty(), problems.is_empty());
    }
    if let Err(problems) = load_text(text) {
        assert!(!problems.is_empty(), "refused without a reason");
        assert!(!render(&problems).is_empty());
    }
}

type Loader = fn(&Source, &mut Vec<Problem>);
const LOADERS: &[Loader] = &[
    |source, problems| {
        let loaded = doseward::config::protocol_file::load(source, problems);
        assert_eq!(loaded.is_some(), problems.is_empty());
    },
    |source, problems| {
        let loaded = doseward::config::stimulator_file::load(source, problems);
        assert_eq!(loaded.is_some(), problems.is_empty());
    },
    |source, problems| {
        let loaded = clinical_file::load(source, problems);
        assert_eq!(loaded.is_some(), problems.is_empty());
    },
    |source, problems| {
        let loaded = doseward::config::daemon_file::load(source, problems);
        assert_eq!(loaded.is_some(), problems.is_empty());
    },
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text_never_panics(text in "\\PC{0,200}") {
        check_never_panics(&text);
    }

    #[test]
    fn random_toml_like_text_never_panics(text in "([a-z_]{1,8} ?= ?(\"[0-9a-zµ. ]{0,9}\"|[0-9-]{1,12}|\\[\\]|\\{\\})\n|\\[{1,2}[a-z]{1,8}\\]{1,2}\n){0,20}") {
        check_never_panics(&text);
    }

    /// A shipped file with bytes cut out, doubled or replaced.
    #[test]
    fn mutated_files_never_panic(which in 0..EMBEDDED.len(), at in any::<prop::sample::Index>(), length in 0usize..40, put in "[\\PC\n\"\\[\\]={}0-9]{0,6}") {
        let mut text: Vec<char> = EMBEDDED[which].1.chars().collect();
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, put.chars());
        check_never_panics(&text.into_iter().collect::<String>());
    }

    /// One changed byte never turns a plan into one above a ceiling.
    #[test]
    fn no_mutated_plan_loads_above_a_ceiling(at in any::<prop::sample::Index>(), put in "[0-9.]{1,2}") {
        let sample = std::fs::read_to_string(SAMPLE).unwrap();
        let digits: Vec<usize> = sample.char_indices().filter(|(_, c)| c.is_ascii_digit()).map(|(at, _)| at).collect();
        let start = digits[at.index(digits.len())];
        let text = format!("{}{put}{}", &sample[..start], &sample[start + 1..]);
        if let Ok(loaded) = load_text(&text) {
            for step in &loaded.plan.steps {
                let most = ceiling(step.modality);
                if let Intensity::Current(current) = step.target {
                    prop_assert!(most.current.is_some_and(|most| current <= most));
                    let pulses = step.stimulation.unwrap();
                    prop_assert!(most.phase_charge.is_some_and(|most| current * pulses.width <= most));
                    prop_assert!(most.frequency.and_then(Hertz::period).is_some_and(|least| pulses.period >= least));
                }
                prop_assert!(most.area_time.is_some_and(|most| step.duration <= most));
            }
        }
    }
}
