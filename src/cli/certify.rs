//! `doseward sim certify`: seeded faulty sessions in virtual time, judged by an oracle; one page, exit code 0 or 1.

use clap::{Args, ValueEnum};

use crate::certify::{self, Options, Statement};
use crate::cli::{Outcome, print, say};
use crate::clock::{self, Clock};

/// Run seeded faulty sessions in virtual time and print a one-page acceptance statement.
#[derive(Debug, Args)]
pub(crate) struct Certify {
    /// Sessions to run, one per seed
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    from: u64,
    /// What runs: the safety core alone, the whole daemon, or one after the other
    #[arg(long, value_enum, default_value_t = Layer::Both)]
    layer: Layer,
    /// Length of a session in virtual time
    #[arg(long, default_value_t = 60, value_name = "M", value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Sessions at the same time
    #[arg(long, default_value_t = 2, value_name = "N")]
    jobs: u64,
    /// Print everything that happens
    #[arg(long)]
    verbose: bool,
    /// Break a law on purpose: the run must fail
    #[cfg(feature = "defects")]
    #[arg(long, value_name = "NAME", value_parser = defect)]
    defect: Option<crate::governor::Defect>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Layer {
    /// Governor, drivers, simulators, record in memory
    Core,
    /// The daemon's own tasks on a loopback
    Daemon,
    /// Both
    Both,
}

#[cfg(feature = "defects")]
fn defect(name: &str) -> Result<crate::governor::Defect, String> {
    use crate::governor::Defect;
    let all = Defect::ALL;
    let names = || all.map(Defect::name).join(", ");
    all.into_iter().find(|defect| defect.name() == name).ok_or_else(|| format!("one of: {}", names()))
}

impl Certify {
    pub(crate) fn run(self) -> Outcome {
        if self.from.checked_add(self.seeds.saturating_sub(1)).is_none() {
            say(&format!(
                "There are no {} seeds from {} on: the last one is {}.",
                self.seeds,
                self.from,
                u64::MAX
            ));
            return Outcome::Usage;
        }
        let options = Options {
            from: self.from,
            seeds: self.seeds,
            minutes: self.minutes,
            jobs: self.jobs,
            verbose: self.verbose,
            record_in: None,
            probes: true,
            stop_at_first: false,
            #[cfg(feature = "defects")]
            defect: self.defect,
        };
        let mut passed = true;
        if self.layer != Layer::Daemon {
            passed &= show(&options, certify::core_layer);
        }
        if self.layer != Layer::Core {
            passed &= show(&options, certify::daemon_layer);
        }
        if passed { Outcome::Done } else { Outcome::Failed }
    }
}

/// Runs one layer and prints its page; returns whether it passed.
fn show(options: &Options, layer: impl Fn(&Options) -> Result<Statement, String>) -> bool {
    let (clock, processors) = (Clock::start(), clock::processors());
    let statement = match layer(options) {
        Ok(statement) => statement,
        Err(why) => {
            say(&format!("The sessions could not be run: {why}."));
            return false;
        }
    };
    for (seed, log) in statement.logs() {
        let text = log.join("\n");
        if print(&format!("seed {seed}\n{text}\n\n")) != Outcome::Done {
            return false;
        }
    }
    let took = clock.now().since(crate::units::Mono::ORIGIN);
    let page = statement.page(took, clock::processors().saturating_sub(processors));
    print(&format!("{page}\n")) == Outcome::Done && statement.passed()
}
