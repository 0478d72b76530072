//! From a unit of the world to its simulated device: the one place where devices are made.

use super::RigError;
use crate::driver::sciencemode::Dialect;
use crate::sim::SimDevice;
use crate::sim::stim::{Stimulator, StimulatorBehaviour};
use crate::sim::world::{StimulatorModel, UnitKind, WorldUnit};

/// Makes the device of a unit from the unit and its seed.
pub type Build = fn(&WorldUnit, u64) -> Result<Built, RigError>;

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
            let stimulator = Stimulator::new(dialect, serial, seed, StimulatorBehaviour::default());
            Ok(Built::Serial(Box::new(stimulator)))
        }
        UnitKind::Gun { profile, .. } => Err(no(profile.clone())),
    }
}
