//! Certification in CI: a fixed set of seeds passes, each law broken on purpose is found. Many more seeds:
//! `scripts/extra certify`.

use doseward::certify::{self, Options, Statement};

fn seeds(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Returns the page, and every violation with its seed, for the message of a failing test.
fn shown(statement: &Statement) -> String {
    statement.page(std::time::Duration::from_secs(1), std::time::Duration::from_secs(1))
}

/// Laws 1–12, SR-32, SR-35, SR-42, SR-43, SR-45, SR-48: faulty sessions with crashes break none, and reach output.
#[test]
fn sr_43_sr_45_faulty_sessions_of_the_core_layer_break_no_law() {
    let options = Options { seeds: seeds("DOSEWARD_SEEDS", 5), minutes: 40, ..Options::default() };
    let statement = certify::core_layer(&options).expect("sessions in memory");
    println!("{}", shown(&statement));
    assert!(statement.passed(), "{}", shown(&statement));
    let tally = statement.tally();
    assert!(tally.with_output * 10 >= tally.sessions * 6, "sessions with output");
    assert!(tally.crashes > 0 && tally.uncertain > 0 && tally.rises > 100 && tally.stops > 100);
}

/// The same of the whole daemon: its own tasks on a loopback, killed and begun anew.
#[test]
fn sr_43_sr_45_faulty_sessions_of_the_whole_daemon_break_no_law() {
    let options = Options { seeds: seeds("DOSEWARD_DAEMON_SEEDS", 2), minutes: 5, ..Options::default() };
    let statement = certify::daemon_layer(&options).expect("sessions on a loopback");
    println!("{}", shown(&statement));
    assert!(statement.passed(), "{}", shown(&statement));
    let tally = statement.tally();
    assert!(tally.with_output > 0 && tally.rises > 10 && tally.stops > 10);
}

/// The oracle of the whole daemon finds what is broken on purpose, too.
#[cfg(feature = "defects")]
#[test]
fn a_law_broken_on_purpose_is_found_in_the_whole_daemon() {
    use doseward::governor::Defect;
    for defect in [Defect::DoubledRise, Defect::SkippedDose, Defect::DroppedStop] {
        let options =
            Options { seeds: 8, minutes: 5, stop_at_first: true, defect: Some(defect), ..Options::default() };
        let statement = certify::daemon_layer(&options).expect("sessions on a loopback");
        assert!(!statement.passed(), "{defect:?} was not found");
    }
}

/// The same seed goes the same way, and another seed another way.
#[test]
fn a_seed_is_one_course() {
    let options = Options { minutes: 10, ..Options::default() };
    let kit = certify::Kit::shipped().expect("the shipped devices");
    let digest = |seed| certify::core_session(&kit, seed, &options).expect("a session").digest;
    assert_eq!(digest(5), digest(5));
    assert_ne!(digest(5), digest(6));
}

/// Each law broken on purpose is found, by its own law or one that follows from it. Prints at which seed.
#[cfg(feature = "defects")]
#[test]
fn every_law_broken_on_purpose_is_found() {
    use doseward::governor::Defect;
    let most = seeds("DOSEWARD_DEFECT_SEEDS", 60);
    let mut missed = Vec::new();
    for defect in Defect::ALL {
        let options = Options {
            seeds: most,
            minutes: 20,
            stop_at_first: true,
            defect: Some(defect),
            ..Options::default()
        };
        let statement = certify::core_layer(&options).expect("sessions in memory");
        match statement.broken().iter().next() {
            Some((seed, found)) => {
                println!("{}: seed {seed}, law {}: {}", defect.name(), found[0].law, found[0].what);
            }
            None => missed.push(defect.name()),
        }
    }
    assert!(missed.is_empty(), "not found within {most} seeds: {missed:?}");
}
