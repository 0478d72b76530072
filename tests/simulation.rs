//! Certified sessions whose record is kept on disk, judged against the truth that the devices kept by a script that
//! shares no code with the crate.

use std::path::Path;
use std::process::Command;

use doseward::certify::{self, Kit, Options};

/// Runs one seeded session; the record and `truth.jsonl` are left in `dir`.
fn session(kit: &Kit, dir: &Path, seed: u64, options: &Options) -> certify::Course {
    let options = Options { record_in: Some(dir.to_owned()), probes: false, minutes: 10, ..options.clone() };
    let course = certify::core_session(kit, seed, &options).expect("a session");
    std::fs::write(dir.join("truth.jsonl"), &course.truth).expect("a truth file");
    course
}

/// Returns whether the script finds the record in agreement with the truth, and what it printed.
fn compare(dir: &Path) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/compare.py");
    let output =
        Command::new("python3").arg(script).arg(dir).arg(dir.join("truth.jsonl")).output().expect("python3");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

fn seeds() -> u64 {
    std::env::var("DOSEWARD_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// SR-32, SR-43, law 7: over seeds with faults the record contains the truth, and is not uselessly wide.
#[test]
fn sr_32_sr_43_the_record_contains_the_truth_over_seeds_with_faults() {
    let kit = Kit::shipped().expect("the shipped devices");
    let (mut bad, mut doses) = (Vec::new(), 0);
    for seed in 1..=seeds() {
        let dir = tempfile::tempdir().unwrap();
        let course = session(&kit, dir.path(), seed, &Options::default());
        assert!(course.found.is_empty(), "seed {seed}: {:?}", course.found);
        doses += course.tally.doses;
        let (agrees, text) = compare(dir.path());
        if seed == 1 || !agrees {
            println!("seed {seed}\n{text}");
        }
        if !agrees {
            bad.push(seed);
        }
    }
    println!("{} seeds, {doses} doses", seeds());
    assert!(bad.is_empty(), "record and truth differ for seeds {bad:?}");
}

/// Each seeded defect of the books makes the comparison fail; without one, the same run agrees.
#[cfg(feature = "defects")]
#[test]
fn each_seeded_defect_is_found_by_the_comparison() {
    use doseward::governor::Defect;
    let kit = Kit::shipped().expect("the shipped devices");
    for defect in [Defect::DroppedStop, Defect::DoubledRise, Defect::SkippedDose, Defect::UnderBooked] {
        let options = Options { defect: Some(defect), ..Options::default() };
        let found = (101..=102).filter(|seed| {
            let dir = tempfile::tempdir().unwrap();
            session(&kit, dir.path(), *seed, &options);
            !compare(dir.path()).0
        });
        assert!(found.count() >= 1, "{defect:?}");
    }
}
