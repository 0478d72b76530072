//! `doseward sim`: simulated units by themselves, at the far end of real transports; `sim certify`: seeded faulty
//! sessions in virtual time.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::certify::Certify;
use crate::cli::{Outcome, chain, say};
use crate::config::{self, Library, Loaded, Problem, Source, UnitSource, world_file};
use crate::model::profile::Profile;
use crate::rig::devices::build_with;
use crate::rig::{Options, run};
use crate::sim::link::LinkFaults;
use crate::sim::world::{StimulatorModel, UnitKind, World, WorldUnit};

/// Run simulated units by themselves and print where they are.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Sim {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The world; without it and without --plan: the shipped one
    #[arg(conflicts_with = "plan")]
    world: Option<PathBuf>,
    /// Instead of a world: the units of this plan, well-behaved
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    /// Protocols, devices and areas, laid out like the repository
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// Where the truth of what was delivered is written
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// A private message bus that runs already, such as unix:path=/tmp/bus (without it: one of their own; the
    /// environment variable DOSEWARD_SIM_BUS says the same)
    #[arg(long, value_name = "ADDRESS")]
    bus: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run seeded faulty sessions in virtual time and print a one-page acceptance statement
    Certify(Certify),
}

impl Sim {
    pub(crate) fn run(self) -> Outcome {
        if let Some(Verb::Certify(certify)) = self.verb {
            return certify.run();
        }
        crate::cli::log_to_stderr();
        let library = Library::open(self.config_dir.as_deref());
        let world = match self.world(&library) {
            Ok(world) => world,
            Err(problems) => {
                say(&config::render(&problems));
                return Outcome::BadFile;
            }
        };
        let profiles = match profiles(&library, &world) {
            Ok(profiles) => profiles,
            Err(problems) => {
                say(&config::render(&problems));
                return Outcome::BadFile;
            }
        };
        let bus = self.bus.or_else(|| std::env::var("DOSEWARD_SIM_BUS").ok());
        let options = Options { truth: self.truth, build: build_with(profiles), bus, ..Options::default() };
        let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                say(&format!("The simulators could not be started: {error}."));
                return Outcome::Failed;
            }
        };
        match runtime.block_on(run(world, options)) {
            Ok(()) => Outcome::Done,
            Err(error) => {
                say(&format!("{}.", chain(&error)));
                Outcome::Failed
            }
        }
    }

    fn world(&self, library: &Library) -> Result<World, Vec<Problem>> {
        if let Some(plan) = &self.plan {
            return Ok(world_of(&config::load_plan(library, plan)?));
        }
        let source = match &self.world {
            Some(path) => Source::read(path).map_err(|problem| vec![problem])?,
            None => world_file::built_in(),
        };
        let mut problems = Vec::new();
        world_file::judge(&source, &mut problems).ok_or(problems)
    }
}

/// Returns the device profiles of a world's guns.
fn profiles(library: &Library, world: &World) -> Result<Vec<Profile>, Vec<Problem>> {
    let (mut profiles, mut problems) = (Vec::new(), Vec::new());
    for unit in &world.units {
        if let UnitKind::Gun { profile, .. } = &unit.kind {
            profiles.extend(library.profile(profile, &mut problems));
        }
    }
    if problems.is_empty() { Ok(profiles) } else { Err(problems) }
}

/// Returns the world of a plan: each of its units, with a link that works.
fn world_of(loaded: &Loaded) -> World {
    let units = (1u8..).zip(loaded.plan.devices.iter().zip(&loaded.units));
    let units = units.map(|(number, (planned, source))| WorldUnit {
        label: planned.label.clone(),
        kind: match source {
            UnitSource::Stimulator { dialect } => UnitKind::Stimulator {
                model: match dialect {
                    config::Dialect::V3 => StimulatorModel::RehaMove3,
                    config::Dialect::V4 => StimulatorModel::P24,
                },
                serial: format!("SIM{number:05}"),
            },
            UnitSource::Profile(profile) => UnitKind::Gun {
                profile: profile.clone(),
                name: planned.label.clone(),
                address: [0xC0, 0, 0, 0, 0, number],
            },
        },
        link: LinkFaults::default(),
        behaviour: std::collections::BTreeMap::new(),
        events: Vec::new(),
    });
    World { seed: 1, units: units.collect() }
}
