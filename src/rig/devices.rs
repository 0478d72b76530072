//! From a unit of the world to its simulated device: the one place where devices are made.

use std::sync::Arc;

use super::RigError;
use crate::model::profile::{self, Profile};
use crate::sim::SimDevice;
use crate::sim::percussion::{Gun, GunBehaviour};
use crate::sim::stim::{Dialect, Stimulator, StimulatorBehaviour};
use crate::sim::world::{StimulatorModel, UnitKind, WorldUnit};

/// Makes the device of a unit from the unit and its seed. Whoever has read the device profiles hands them in with it.
pub type Build = Arc<dyn Fn(&WorldUnit, u64) -> Result<Built, RigError> + Send + Sync>;

/// A device with the link it needs.
pub enum Built {
    /// Behind a serial port.
    Serial(Box<dyn SimDevice>),
    /// Behind Bluetooth.
    Radio(Radio),
}

/// A simulated device that can be read as well as written and heard.
pub trait RadioDevice: SimDevice + Sync {
    /// Returns the value of a characteristic; `None`: it cannot be read.
    fn read(&self, characteristic: u128) -> Option<Vec<u8>>;
}

/// A Bluetooth unit: the device and how it presents itself.
pub struct Radio {
    /// The device.
    pub device: Box<dyn RadioDevice>,
    /// The name it advertises.
    pub name: String,
    /// Its address.
    pub address: [u8; 6],
    /// Manufacturer data: company and payload.
    pub manufacturer: Vec<(u16, Vec<u8>)>,
    /// Its services in order of their handles.
    pub services: Vec<Service>,
}

/// A GATT service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its UUID.
    pub uuid: u128,
    /// Its characteristics in order of their handles.
    pub characteristics: Vec<Characteristic>,
}

/// A GATT characteristic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Characteristic {
    /// Its UUID.
    pub uuid: u128,
    /// What may be done with it.
    pub flags: Vec<Flag>,
}

/// A property flag of a characteristic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// It may be read.
    Read,
    /// It may be written with an acknowledgement.
    Write,
    /// It may be written without one.
    WriteWithoutResponse,
    /// It notifies.
    Notify,
}

impl Flag {
    /// Returns the Bluetooth daemon's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteWithoutResponse => "write-without-response",
            Self::Notify => "notify",
        }
    }
}

/// Makes the simulated device of a unit.
///
/// # Errors
/// The unit's kind cannot be simulated.
pub fn build(unit: &WorldUnit, seed: u64) -> Result<Built, RigError> {
    let no =
        |what: String| RigError::Unit { label: unit.label.clone(), reason: format!("no simulated {what}") };
    match &unit.kind {
        UnitKind::Stimulator { model, serial } => {
            let dialect = match model {
                StimulatorModel::P24 => Dialect::Sm4,
                StimulatorModel::RehaMove3 => Dialect::Sm3,
                StimulatorModel::RehaStim2 | StimulatorModel::ScienceMode1 => {
                    return Err(no(format!("{model:?}")));
                }
            };
            let mut behaviour = StimulatorBehaviour::default();
            for (key, setting) in &unit.behaviour {
                behaviour.set(key, setting).map_err(|error| wrong(unit, key, &error.to_string()))?;
            }
            let stimulator = Stimulator::new(dialect, serial, seed, behaviour);
            Ok(Built::Serial(Box::new(stimulator)))
        }
        UnitKind::Gun { profile, .. } => Err(no(format!("gun of profile {profile} without its profile"))),
    }
}

/// Returns what makes the units of a world, guns from these profiles.
pub fn build_with(profiles: Vec<Profile>) -> Build {
    Arc::new(move |unit, seed| match &unit.kind {
        UnitKind::Gun { profile, name, address } => {
            let Some(profile) = profiles.iter().find(|known| known.id == *profile) else {
                return build(unit, seed);
            };
            Ok(Built::Radio(gun(profile, name, *address, seed, behaviour(unit, profile)?)))
        }
        UnitKind::Stimulator { .. } => build(unit, seed),
    })
}

fn wrong(unit: &WorldUnit, key: &str, why: &str) -> RigError {
    RigError::Unit { label: unit.label.clone(), reason: format!("its behaviour `{key}`: {why}") }
}

/// Returns how a gun behaves: as its profile's reference says, but for what the world changes.
fn behaviour(unit: &WorldUnit, profile: &Profile) -> Result<GunBehaviour, RigError> {
    let mut behaviour = GunBehaviour::of(profile);
    for (key, setting) in &unit.behaviour {
        behaviour.set(key, setting).map_err(|error| wrong(unit, key, &error.to_string()))?;
    }
    let known = |name: &String| profile.safety.stop.iter().any(|frame| frame.name == *name);
    if let Some(name) = behaviour.stop_accepts.iter().find(|name| !known(name)) {
        return Err(wrong(unit, "stop_accepts", &format!("`{name}` is no stop frame of {}", profile.id)));
    }
    Ok(behaviour)
}

fn gun(profile: &Profile, name: &str, address: [u8; 6], seed: u64, behaviour: GunBehaviour) -> Radio {
    let device = Gun::new(profile, seed, behaviour);
    let mut services: Vec<Service> = Vec::new();
    for found in device.gatt() {
        let characteristic =
            Characteristic { uuid: found.uuid, flags: found.flags.into_iter().map(flag).collect() };
        match services.iter_mut().find(|known| known.uuid == found.service) {
            Some(known) => known.characteristics.push(characteristic),
            None => services.push(Service { uuid: found.service, characteristics: vec![characteristic] }),
        }
    }
    let advertised = device.advertisement();
    let manufacturer =
        advertised.map_or_else(Vec::new, |advertised| advertised.manufacturer.into_iter().collect());
    Radio { device: Box::new(device), name: name.to_owned(), address, manufacturer, services }
}

/// Acknowledged values are signalled like unacknowledged ones: the host's stack acknowledges them.
const fn flag(flag: profile::Flag) -> Flag {
    match flag {
        profile::Flag::Read => Flag::Read,
        profile::Flag::Write => Flag::Write,
        profile::Flag::WriteWithoutResponse => Flag::WriteWithoutResponse,
        profile::Flag::Notify | profile::Flag::Indicate => Flag::Notify,
    }
}

impl RadioDevice for Gun {
    fn read(&self, characteristic: u128) -> Option<Vec<u8>> {
        Self::read(self, characteristic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::link::LinkFaults;
    use crate::sim::world::Setting;

    fn unit(key: &str, setting: Setting) -> WorldUnit {
        WorldUnit {
            label: "Gun 1".to_owned(),
            kind: UnitKind::Gun {
                profile: "theragun-g4".to_owned(),
                name: "Elite".to_owned(),
                address: [0; 6],
            },
            link: LinkFaults::default(),
            behaviour: [(key.to_owned(), setting)].into(),
            events: Vec::new(),
        }
    }

    #[test]
    fn a_gun_differs_from_its_reference_as_its_world_says() {
        let profile = crate::config::device_file::built_in(&mut Vec::new()).profiles.remove(0);
        let one = Setting::Names(vec!["stop_off7".to_owned()]);
        let differs = behaviour(&unit("stop_accepts", one.clone()), &profile).unwrap();
        let stop_accepts = vec!["stop_off7".to_owned()];
        assert_eq!(differs, GunBehaviour { stop_accepts, ..GunBehaviour::of(&profile) });
        for (key, setting, says) in [
            ("stop_accept", one, "its behaviour `stop_accept`: there is no such behaviour"),
            (
                "stop_accepts",
                Setting::Names(vec!["halt".to_owned()]),
                "`halt` is no stop frame of theragun-g4",
            ),
            ("auto_off", Setting::Flag(true), "its behaviour `auto_off`: a text is expected"),
        ] {
            let error = behaviour(&unit(key, setting), &profile).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
