//! Seeded worlds in virtual time: governor, real drivers, simulated devices, a real record; judged against the truth
//! that the devices kept, by a script that shares no code with the crate.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use doseward::config::device_file;
use doseward::config::{Library, UnitSource, load_plan};
use doseward::driver::profile::{ProfileDriver, Unit};
use doseward::driver::sciencemode::{Dialect, ScienceMode};
use doseward::governor::{Entry, Seq, Settings};
use doseward::model::packet::Purpose;
use doseward::model::profile::Profile;
use doseward::sim::percussion::{Gun, GunBehaviour};
use doseward::sim::stim::{Stimulator, StimulatorBehaviour};

use crate::support::core::{Core, Pair};

/// Runs one seeded session of the sample plan; the record and `truth.jsonl` are left in `dir`.
fn session(dir: &Path, seed: u64, settings: Settings, faulty: bool) -> Core {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = Library::open(Some(root));
    let loaded = load_plan(&library, &root.join("config/plans/sample.toml")).expect("the sample plan");
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
            UnitSource::Profile(id) => {
                let profile = profile(id);
                let unit = Unit { bound: true, ..Unit::default() };
                Pair {
                    label: planned.label.clone(),
                    driver: Box::new(ProfileDriver::new(profile.clone(), &unit)),
                    device: Box::new(Gun::new(&profile, seed, GunBehaviour::of(&profile))),
                    radio: true,
                }
            }
        });
    }
    let mut core = Core::new(dir, loaded.plan, settings, pairs, seed, faulty);
    core.run(dir, Duration::from_secs(120));
    core
}

fn profile(id: &str) -> Profile {
    let mut problems = Vec::new();
    let catalogue = device_file::built_in(&mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    catalogue.profiles.into_iter().find(|profile| profile.id == id).expect("a shipped profile")
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
        let core = session(dir.path(), seed, Settings::default(), true);
        for (name, count) in &core.faults {
            *faults.entry(*name).or_insert(0usize) += count;
        }
        doses += core.entries.iter().filter(|(_, _, entry)| matches!(entry, Entry::Dose(_))).count();
        no_rise_precedes_its_durable_intent(&core);
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

/// The currents, µA, that an Ml_update frame gives its channels; read here by hand, without the codec. Layout:
/// neurostim-serial 2.2 and 3.4.
fn currents_of(frame: &[u8]) -> Option<[u32; 8]> {
    let inner = frame.strip_prefix(&[0xF0])?.strip_suffix(&[0x0F])?;
    let mut plain = Vec::new();
    let mut escaped = false;
    for byte in inner {
        match (escaped, *byte) {
            (false, 0x81) => escaped = true,
            (false, byte) => plain.push(byte),
            (true, byte) => {
                plain.push(byte ^ 0x55);
                escaped = false;
            }
        }
    }
    let command = u16::from_be_bytes([plain[4], plain[5]]) & 0x3FF;
    if command != 32 {
        return None;
    }
    let (mask, mut rest) = (plain[6], &plain[7..]);
    let mut currents = [0u32; 8];
    for (channel, current) in currents.iter_mut().enumerate() {
        if mask & (1 << channel) == 0 {
            continue;
        }
        let points = usize::from(rest[0] >> 4) + 1;
        for point in rest[3..3 + 4 * points].chunks(4) {
            let word = u32::from_be_bytes([point[0], point[1], point[2], point[3]]);
            let code = (word >> 10) & 0x3FF;
            *current = (*current).max(code.abs_diff(300) * 500);
        }
        rest = &rest[3 + 4 * points..];
    }
    Some(currents)
}

/// Reads record and wire: no frame raises a channel above what a durable intent of that channel covers.
fn no_rise_precedes_its_durable_intent(core: &Core) {
    let mut rises = 0;
    let mut stopped = std::collections::BTreeMap::new();
    let mut level: std::collections::BTreeMap<(usize, u8), u32> = std::collections::BTreeMap::new();
    for written in &core.written {
        let durable = core.durable.iter().rev().find(|(at, _)| *at <= written.at).map_or(0, |(_, seq)| *seq);
        let now: Vec<(u8, u32)> = match (written.purpose, written.bytes.as_slice()) {
            (Purpose::Stop, _) => (0..8).map(|channel| (channel, 0)).collect(),
            (_, [0xAA, _, 0x01, 0x03, high, low, 0x03]) => {
                vec![(0, u32::from(u16::from_be_bytes([*high, *low])))]
            }
            (_, frame) => match currents_of(frame) {
                Some(currents) => (0u8..8).zip(currents).collect(),
                None => continue,
            },
        };
        if written.purpose == Purpose::Stop {
            stopped.insert(written.unit, written.at);
        }
        let since = stopped.get(&written.unit).copied().unwrap_or_default();
        for (channel, magnitude) in now {
            let before = level.insert((written.unit, channel), magnitude).unwrap_or(0);
            if magnitude <= before {
                continue;
            }
            rises += 1;
            // A stop ends what an intent covers, and a voided one covers nothing.
            let voided = |seq: Seq| {
                core.entries
                    .iter()
                    .any(|(_, _, entry)| matches!(entry, Entry::IntentVoid { intent, .. } if *intent == seq))
            };
            let covered = core.entries.iter().any(|(seq, at, entry)| {
                *at >= since
                    && !voided(*seq)
                    && matches!(entry, Entry::Intent { device, channel: of, to, .. }
                    if usize::from(device.0) == written.unit && of.0 == channel
                        && to.intensity().magnitude() >= magnitude && seq.0 <= durable)
            });
            assert!(
                covered,
                "unit {} channel {channel} at {magnitude} without a durable intent",
                written.unit
            );
        }
    }
    assert!(rises > 5, "the run raised {rises} times only");
}

/// Each seeded defect makes the comparison fail; without one, the same run agrees.
#[cfg(feature = "defects")]
#[test]
fn each_seeded_defect_is_found_by_the_comparison() {
    use doseward::governor::Defect;
    for defect in [None, Some(Defect::DroppedStop), Some(Defect::DoubledRise), Some(Defect::SkippedDose)] {
        let mut found = 0;
        for seed in 101..=103 {
            let dir = tempfile::tempdir().unwrap();
            drop(session(dir.path(), seed, Settings { defect, ..Settings::default() }, false));
            let (agrees, text) = compare(dir.path());
            let lines: Vec<&str> =
                text.lines().filter(|line| line.contains("BELOW") || line.contains("ABOVE")).collect();
            println!("{defect:?}, seed {seed}: agrees {agrees}\n{}", lines.join("\n"));
            found += usize::from(!agrees);
        }
        assert_eq!(found, if defect.is_some() { 3 } else { 0 }, "{defect:?} was found in {found} of 3 runs");
    }
}
