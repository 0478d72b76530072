//! The units of certified sessions: the shipped device files, a driver and a simulated device of each.

use crate::config::device_file;
use crate::config::library::{EMBEDDED, built_in};
use crate::config::stimulator_file::{self, Dialect as Written};
use crate::driver::Driver;
use crate::driver::profile::{ProfileDriver, Unit as Bound};
use crate::driver::sciencemode::{Dialect, ScienceMode};
use crate::model::capability::Capability;
use crate::model::packet::{Endpoint, Received};
use crate::model::profile::Profile;
use crate::sim::percussion::{Gun, GunBehaviour};
use crate::sim::stim::{Stimulator, StimulatorBehaviour};
use crate::sim::{Seeded, SimDevice};

/// What a unit is. The oracle reads bytes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// HASOMED P24, ScienceMode 4, serial.
    P24,
    /// HASOMED RehaMove3, ScienceMode 3, serial.
    RehaMove3,
    /// Theragun Gen 4, Bluetooth.
    Theragun,
    /// Hypervolt, Bluetooth.
    Hypervolt,
}

impl Family {
    /// Returns whether it is a gun on a radio link.
    pub const fn radio(self) -> bool {
        matches!(self, Self::Theragun | Self::Hypervolt)
    }

    /// Returns the identifier of its device file.
    pub const fn profile(self) -> &'static str {
        match self {
            Self::P24 => "hasomed-p24",
            Self::RehaMove3 => "hasomed-rehamove3",
            Self::Theragun => "theragun-g4",
            Self::Hypervolt => "hypervolt-legacy",
        }
    }
}

/// The shipped device files, read once.
#[derive(Clone, Debug)]
pub struct Kit {
    stimulators: Vec<(Written, Capability)>,
    guns: Vec<Profile>,
}

impl Kit {
    /// Reads the device files that are built into the binary.
    ///
    /// # Errors
    /// One of them is not what it should be, in words.
    pub fn shipped() -> Result<Self, String> {
        let mut problems = Vec::new();
        let guns = device_file::built_in(&mut problems).profiles;
        let serial = EMBEDDED.iter().filter(|(name, _)| name.starts_with("config/devices/hasomed"));
        let stimulators = serial
            .filter_map(|(name, text)| stimulator_file::load(&built_in(name, text), &mut problems))
            .map(|file| (file.dialect, file.capability))
            .collect();
        if problems.is_empty() {
            Ok(Self { stimulators, guns })
        } else {
            Err(crate::config::render(&problems))
        }
    }

    /// Returns what a unit of the family can do.
    ///
    /// # Errors
    /// No such device file is shipped.
    pub fn capability(&self, family: Family) -> Result<Capability, String> {
        match family {
            Family::P24 => self.stimulator(Written::V4),
            Family::RehaMove3 => self.stimulator(Written::V3),
            Family::Theragun | Family::Hypervolt => {
                self.gun(family).map(|profile| profile.capability(profile.variants.first()))
            }
        }
    }

    fn stimulator(&self, dialect: Written) -> Result<Capability, String> {
        let found = self.stimulators.iter().find(|(known, _)| *known == dialect);
        found
            .map(|(_, capability)| capability.clone())
            .ok_or_else(|| format!("no stimulator speaks {dialect:?}"))
    }

    fn gun(&self, family: Family) -> Result<&Profile, String> {
        let found = self.guns.iter().find(|profile| profile.id == family.profile());
        found.ok_or_else(|| format!("no device profile {}", family.profile()))
    }

    /// Returns what a host reads from a unit of the family when it connects, and where.
    pub fn read_at_connect(&self, family: Family) -> Option<Received> {
        let gate = self.gun(family).ok()?.gate?;
        Some(Received { endpoint: Endpoint::Characteristic(gate.uuid), bytes: vec![0; 4] })
    }

    /// Makes the driver of a unit. `learnt`: the position of the stop frame that worked last time.
    ///
    /// # Errors
    /// No such device file is shipped.
    pub fn driver(&self, family: Family, learnt: Option<usize>) -> Result<Box<dyn Driver>, String> {
        Ok(match family {
            Family::P24 => Box::new(ScienceMode::new(Dialect::Sm4, self.capability(family)?)),
            Family::RehaMove3 => Box::new(ScienceMode::new(Dialect::Sm3, self.capability(family)?)),
            Family::Theragun | Family::Hypervolt => {
                let profile = self.gun(family)?;
                let learnt = learnt.and_then(|at| profile.safety.stop.get(at));
                let bound = Bound {
                    bound: true,
                    learnt_stop: learnt.map(|frame| frame.name.clone()),
                    ..Bound::default()
                };
                Box::new(ProfileDriver::new(profile.clone(), &bound))
            }
        })
    }

    /// Makes the simulated device of a unit, with its unknowns set by the seed: a gun obeys one stop frame, two or all.
    ///
    /// # Errors
    /// No such device file is shipped.
    pub fn device(&self, family: Family, random: &mut Seeded) -> Result<Box<dyn SimDevice>, String> {
        let seed = random.next();
        let stimulator = |dialect, serial: &str, random: &mut Seeded| -> Box<dyn SimDevice> {
            let behaviour = StimulatorBehaviour {
                error_leaves_running: random.chance(500),
                voltage_off_after_expiry: random.chance(500),
                ramps: random.chance(500),
                reset_acknowledged: random.chance(500),
                ..StimulatorBehaviour::default()
            };
            Box::new(Stimulator::new(dialect, serial, seed, behaviour))
        };
        Ok(match family {
            Family::P24 => stimulator(Dialect::Sm4, "P24A000001", random),
            Family::RehaMove3 => stimulator(Dialect::Sm3, "RM3A000001", random),
            Family::Theragun | Family::Hypervolt => {
                let profile = self.gun(family)?;
                let mut behaviour = GunBehaviour::of(profile);
                let frames = u64::try_from(behaviour.stop_accepts.len()).unwrap_or(1);
                if random.chance(500) && frames > 1 {
                    let only = usize::try_from(random.below(frames)).unwrap_or(0);
                    let name = behaviour.stop_accepts.get(only).cloned();
                    behaviour.stop_accepts = name.into_iter().collect();
                }
                behaviour.status_follows_motor = random.chance(300);
                behaviour.spontaneous_status = random.chance(200);
                Box::new(Gun::new(profile, seed, behaviour))
            }
        })
    }
}
