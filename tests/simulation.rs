//! Seeded worlds in virtual time: governor, real drivers, simulated devices, a real record; judged against the truth
//! that the devices kept, by a script that shares no code with the crate.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use doseward::config::{Library, UnitSource, load_plan};
use doseward::driver::sciencemode::{Dialect, ScienceMode};
use doseward::governor::Settings;
use doseward::sim::stim::{Stimulator, StimulatorBehaviour};

use crate::support::core::{Core, Pair};

/// Runs one seeded session of the sample plan; the record and `truth.jsonl` are left in `dir`.
fn session(dir: &Path, seed: u64, settings: Settings) -> Core {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = Library::open(Some(root));
    let loaded = load_plan(&library, &root.join("config/plans/sample.toml")).expect("the sample plan");
    let mut loaded = loaded;
    loaded.plan.devices.truncate(1);
    loaded.plan.steps.truncate(2);
    let mut pairs = Vec::new();
    for (planned, source) in loaded.plan.devices.iter().zip(&loaded.units) {
        let capability = planned.capability.clone();
        pairs.push(match source {
            UnitSource::Stimulator { .. } => Pair {
                label: planned.label.clone(),
                driver: Box::new(ScienceMode::new(Dialect::Sm4, capability)),
                device: Box::new(Stimulator::new(
                    Dialect::Sm4,
                    "P24A000001",
                    seed,
                    StimulatorBehaviour::default(),
                )),
                radio: false,
            },
            UnitSource::Profile(_) => todo!(),
        });
    }
    let mut core = Core::new(dir, loaded.plan, settings, pairs, seed, true);
    core.run(dir, Duration::from_secs(120));
    core
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
    std::env::var("DOSEWARD_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// SR-32, SR-43, law 7: over seeds with faults the record contains the truth, and is not uselessly wide.
#[test]
fn sr_32_sr_43_the_record_contains_the_truth_over_seeds_with_faults() {
    let (mut bad, mut faults, mut doses) = (Vec::new(), std::collections::BTreeMap::new(), 0);
    for seed in 1..=seeds() {
        let dir = tempfile::tempdir().unwrap();
        let core = session(dir.path(), seed, Settings::default());
        for (name, count) in &core.faults {
            *faults.entry(*name).or_insert(0usize) += count;
        }
        doses += core
            .entries
            .iter()
            .filter(|(_, _, entry)| matches!(entry, doseward::governor::Entry::Dose(_)))
            .count();
        drop(core);
        let (agrees, text) = compare(dir.path());
        if seed == 1 || !agrees {
            println!("seed {seed}\n{text}");
        }
        if !agrees {
            bad.push(seed);
        }
    }
    println!("{} seeds, {doses} doses, faults: {faults:?}", seeds());
    assert!(bad.is_empty(), "record and truth differ for seeds {bad:?}");
}
