//! Certification: seeded faulty sessions in virtual time, and the oracle that judges them.
//!
//! ```text
//!  seed --> plan, people, faults --> core layer: governor, drivers, simulated devices, record in memory --+
//!                                                                                                         |
//!            entries, inputs, bytes on the wire, simulators' truth --> oracle --> tally, violations --> statement
//! ```
//!
//! Invariants: one seed and one version give one course, byte for byte; the oracle decides nothing by what it judges, its
//! bounds and its reading of bytes are its own.

mod book;
mod bounds;
mod core;
mod daemon;
mod inputs;
mod kit;
mod oracle;
mod person;
mod plans;
mod statement;
mod tally;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::governor::Settings;

pub use inputs::{KINDS, STATES};
pub use kit::{Family, Kit};
pub use oracle::Violation;
pub use statement::Statement;
pub use tally::Tally;

/// What to certify.
#[derive(Clone, Debug)]
pub struct Options {
    /// First seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// Length of a session, minutes.
    pub minutes: u64,
    /// Sessions at the same time.
    pub jobs: u64,
    /// Keep a log of everything that happens.
    pub verbose: bool,
    /// Keep the record of a single session in this directory instead of in memory, and the lines of a truth file.
    pub record_in: Option<PathBuf>,
    /// Also put every kind of input into every state; without it only what units, faults and people do.
    pub probes: bool,
    /// Stop at the first violation.
    pub stop_at_first: bool,
    /// A law that is broken on purpose.
    #[cfg(feature = "defects")]
    pub defect: Option<crate::governor::Defect>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            from: 1,
            seeds: 100,
            minutes: 60,
            jobs: 2,
            verbose: false,
            record_in: None,
            probes: true,
            stop_at_first: false,
            #[cfg(feature = "defects")]
            defect: None,
        }
    }
}

impl Options {
    fn length(&self) -> Duration {
        Duration::from_secs(self.minutes.saturating_mul(60))
    }

    fn settings(&self) -> Settings {
        Settings {
            #[cfg(feature = "defects")]
            defect: self.defect,
            ..Settings::default()
        }
    }
}

/// How one session went.
#[derive(Clone, Debug)]
pub struct Course {
    /// Its seed.
    pub seed: u64,
    /// What it reached.
    pub tally: Tally,
    /// Laws that it broke.
    pub found: Vec<Violation>,
    /// What happened, when that was asked for.
    pub log: Vec<String>,
    /// Lines of a truth file, when the record was kept.
    pub truth: String,
    /// Mark of every output of the governor.
    pub digest: u64,
}

/// Runs one session of the core layer.
///
/// # Errors
/// The shipped device files or the record in memory could not be used, in words.
pub fn core_session(kit: &Kit, seed: u64, options: &Options) -> Result<Course, String> {
    core::session(kit, seed, options)
}

/// Runs one session of the whole daemon.
///
/// # Errors
/// The shipped device files, the record in memory or the runtime could not be used, in words.
pub fn daemon_session(kit: &Kit, seed: u64, options: &Options) -> Result<Course, String> {
    daemon::session(kit, seed, options)
}

/// Every how many seeds a session is run twice, to see that it goes the same way (law 8).
const TWICE_EVERY: u64 = 32;

/// Runs a session, and again when its seed is one of those; a course that differs breaks law 8.
fn judged(kit: &Kit, seed: u64, options: &Options) -> Result<Course, String> {
    let mut course = core_session(kit, seed, options)?;
    if seed % TWICE_EVERY == 1 {
        let again = core_session(kit, seed, options)?;
        if again.digest != course.digest {
            let what = "the same inputs gave other outputs in a second run".to_owned();
            course.found.push(Violation { law: 8, at: crate::units::Mono::ORIGIN, what });
        }
    }
    Ok(course)
}

/// Runs the core layer over its seeds, on as many threads as asked.
///
/// # Errors
/// A session could not be run, or the system gave no thread, in words.
pub fn core_layer(options: &Options) -> Result<Statement, String> {
    layer("core", judged, options)
}

/// Runs the whole-daemon layer over its seeds, on as many threads as asked.
///
/// # Errors
/// A session could not be run, or the system gave no thread, in words.
pub fn daemon_layer(options: &Options) -> Result<Statement, String> {
    layer("daemon", daemon_session, options)
}

fn layer(
    name: &'static str,
    session: fn(&Kit, u64, &Options) -> Result<Course, String>,
    options: &Options,
) -> Result<Statement, String> {
    let kit = Kit::shipped()?;
    let next = Arc::new(AtomicU64::new(0));
    let jobs = options.jobs.clamp(1, 64);
    let (results, courses) = std::sync::mpsc::sync_channel(64);
    for job in 0..jobs {
        let (kit, next, options, results) =
            (kit.clone(), Arc::clone(&next), options.clone(), results.clone());
        let work = move || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= options.seeds {
                    return;
                }
                let course = session(&kit, options.from.saturating_add(number), &options);
                if results.send(course).is_err() {
                    return;
                }
            }
        };
        crate::runtime::on_thread(&format!("certify {job}"), work).map_err(|error| error.to_string())?;
    }
    drop(results);
    let mut statement = Statement::new(name, options.minutes);
    for course in courses {
        statement.take(course?);
        if options.stop_at_first && !statement.passed() {
            // The others end with the session in hand.
            next.store(options.seeds, Ordering::Relaxed);
            break;
        }
    }
    Ok(statement)
}
