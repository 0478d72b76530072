//! Where the units of a session are: endpoints as the launcher states them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

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
