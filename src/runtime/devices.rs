//! From a unit of the plan and the place that the launcher states to its driver and transport: the one place where
//! both are made.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::{self, Library, UnitSource};
use crate::driver::profile::{ProfileDriver, Unit};
use crate::driver::sciencemode::{Dialect, ScienceMode};
use crate::guard::link::Way;
use crate::model::packet::WriteKind;
use crate::model::plan::PlannedDevice;
use crate::model::profile::{Flag, Profile};
use crate::runtime::Builder;
use crate::runtime::guard_line::PortFirst;
use crate::transport::ble::{Ble, GattNeeds};
use crate::transport::serial::{FlowControl, Parity, Serial, Settings, StopBits};

/// Where one unit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A serial port.
    Serial(PathBuf),
    /// A Bluetooth address such as `C0:FF:EE:00:00:01`.
    Bluetooth(String),
}

/// A unit's label and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Label as in the plan.
    pub label: String,
    /// Where.
    pub endpoint: Endpoint,
}

/// Why a text is not a place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a unit's place such as \"serial=P24 A=/dev/pts/3\"")]
pub struct PlaceError(String);

/// Adds the next unit of the plan to a session; with its place comes the stop frame that stopped it last time.
///
/// # Errors
/// In words: the unit and its place do not fit, or this version has no driver for it.
pub fn add_device(
    builder: &mut Builder,
    library: &Library,
    (planned, source): (&PlannedDevice, &UnitSource),
    (endpoint, port, learnt_stop): (&Endpoint, Option<PortFirst>, Option<String>),
) -> Result<(), String> {
    match (source, endpoint) {
        (UnitSource::Stimulator { dialect }, Endpoint::Serial(path)) => {
            let driver = ScienceMode::new(spoken(*dialect), planned.capability.clone());
            builder.device_after(Box::new(driver), Serial::new(path, line(*dialect)), port);
            Ok(())
        }
        (UnitSource::Profile(id), Endpoint::Bluetooth(address)) => {
            let mut problems = Vec::new();
            let profile = library.profile(id, &mut problems);
            let profile = profile.ok_or_else(|| config::render(&problems))?;
            // The launcher has named the unit: it is bound.
            let unit = Unit { variant: None, bound: true, learnt_stop };
            let link = Ble::new(address, gatt_needs(&profile));
            builder.device(Box::new(ProfileDriver::new(profile, &unit)), link);
            Ok(())
        }
        (UnitSource::Stimulator { .. }, Endpoint::Bluetooth(_))
        | (UnitSource::Profile(_), Endpoint::Serial(_)) => {
            Err(format!("{} is at another kind of place than its device file says.", planned.label))
        }
    }
}

/// Returns what a gun's link must offer. The standard battery value is not required: its absence is normal.
fn gatt_needs(profile: &Profile) -> GattNeeds {
    let way = |flag: &Flag| match flag {
        Flag::Write => Some(WriteKind::WithResponse),
        Flag::WriteWithoutResponse => Some(WriteKind::WithoutResponse),
        Flag::Read | Flag::Notify | Flag::Indicate => None,
    };
    GattNeeds {
        service: profile.gatt.command.service,
        command: profile.gatt.command.uuid,
        needs: profile.gatt.command.needs.iter().filter_map(way).collect(),
        status: profile.gatt.status.as_ref().map(|status| status.uuid),
        reads: profile.gate.iter().map(|gate| gate.uuid).collect(),
    }
}

const fn spoken(dialect: config::Dialect) -> Dialect {
    match dialect {
        config::Dialect::V3 => Dialect::Sm3,
        config::Dialect::V4 => Dialect::Sm4,
    }
}

/// Returns how the line of a stimulator is set (neurostim-serial 2.1: 3 Mbaud, 8N2, RTS/CTS).
const fn line(dialect: config::Dialect) -> Settings {
    let flow = match dialect {
        config::Dialect::V3 | config::Dialect::V4 => FlowControl::Hardware,
    };
    Settings { baud: 3_000_000, stop_bits: StopBits::Two, parity: Parity::None, flow, lines: None }
}

impl From<&Endpoint> for Way {
    fn from(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Serial(path) => Self::Serial { path: path.clone() },
            Endpoint::Bluetooth(address) => Self::Bluetooth { address: address.clone() },
        }
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let wrong = || PlaceError(text.to_owned());
        let (kind, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (label, address) = rest.rsplit_once('=').ok_or_else(wrong)?;
        let endpoint = match kind {
            "serial" => Endpoint::Serial(PathBuf::from(address)),
            "bluetooth" => Endpoint::Bluetooth(address.to_owned()),
            _ => return Err(wrong()),
        };
        if label.is_empty() || address.is_empty() {
            return Err(wrong());
        }
        Ok(Self { label: label.to_owned(), endpoint })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Serial(path) => write!(f, "serial={}={}", self.label, path.display()),
            Endpoint::Bluetooth(address) => write!(f, "bluetooth={}={address}", self.label),
        }
    }
}
