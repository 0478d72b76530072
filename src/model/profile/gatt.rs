//! Standard GATT values (percussion-ble 8): UUIDs, battery, device information, link parameters.
//!
//! Nothing a unit sends here may fail a connection: what is out of range is unknown.

/// Battery level, percent.
pub const BATTERY_LEVEL: u128 = short_uuid(0x2A19);
/// Battery service.
pub const BATTERY_SERVICE: u128 = short_uuid(0x180F);
/// Device information service.
pub const DEVICE_INFORMATION: u128 = short_uuid(0x180A);
/// Maker's name.
pub const MANUFACTURER: u128 = short_uuid(0x2A29);
/// Model.
pub const MODEL_NUMBER: u128 = short_uuid(0x2A24);
/// Serial number.
pub const SERIAL_NUMBER: u128 = short_uuid(0x2A25);
/// Firmware revision.
pub const FIRMWARE_REVISION: u128 = short_uuid(0x2A26);
/// Hardware revision.
pub const HARDWARE_REVISION: u128 = short_uuid(0x2A27);
/// Software revision.
pub const SOFTWARE_REVISION: u128 = short_uuid(0x2A28);

/// Bytes written to a client configuration (`2902`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// Nothing is sent.
    Off,
    /// Values are sent unacknowledged.
    Notify,
    /// Values are sent and acknowledged.
    Indicate,
}

/// Why a standard value is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueError {
    /// Too few bytes.
    Length,
    /// Outside what the standard allows.
    Range,
}

/// Preferred connection parameters (`2a04`). `None`: no specific value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkParameters {
    /// Shortest interval, µs.
    pub interval_min_us: Option<u32>,
    /// Longest interval, µs.
    pub interval_max_us: Option<u32>,
    /// Connection events that may be skipped.
    pub latency: u16,
    /// Silence after which the link counts as lost, ms.
    pub supervision_ms: Option<u32>,
}

/// PnP id (`2a50`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PnpId {
    /// Who gave the vendor number: 1 Bluetooth SIG, 2 USB.
    pub source: u8,
    /// Vendor.
    pub vendor: u16,
    /// Product.
    pub product: u16,
    /// Version.
    pub version: u16,
}

/// Returns the 128-bit form of a 16-bit UUID.
pub const fn short_uuid(short: u16) -> u128 {
    // Widening only; `From` is not usable in a constant.
    #[allow(clippy::as_conversions, reason = "widening in a constant")]
    let wide = short as u128;
    (wide << 96) | 0x0000_0000_0000_1000_8000_0080_5F9B_34FB
}

/// Reads a UUID of 4, 8 or 32 hex digits, with or without dashes, in any case.
pub fn parse_uuid(text: &str) -> Option<u128> {
    let well_formed = match text.len() {
        4 | 8 | 32 => !text.contains('-'),
        36 => {
            [8, 13, 18, 23].into_iter().all(|at| text.as_bytes().get(at) == Some(&b'-'))
                && text.matches('-').count() == 4
        }
        _ => false,
    };
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if !well_formed || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let number = u128::from_str_radix(&digits, 16).ok()?;
    Some(if digits.len() == 32 { number } else { (number << 96) | short_uuid(0) })
}

/// Prints a UUID in lower-case 128-bit form.
pub fn show_uuid(uuid: u128) -> String {
    let hex = format!("{uuid:032x}");
    let mut text = String::with_capacity(36);
    for (index, digit) in hex.chars().enumerate() {
        if [8, 12, 16, 20].contains(&index) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// Returns the charge in percent; a longer value counts by its first byte.
///
/// # Errors
/// It is empty, or above 100.
pub fn battery_percent(value: &[u8]) -> Result<u8, ValueError> {
    let percent = *value.first().ok_or(ValueError::Length)?;
    if percent > 100 { Err(ValueError::Range) } else { Ok(percent) }
}

/// Returns a device information text and whether some of it was no UTF-8: non-printables away, at most 64 characters.
pub fn information(value: &[u8]) -> (String, bool) {
    let text = String::from_utf8_lossy(value);
    let lossy = matches!(text, std::borrow::Cow::Owned(_));
    let printable = text.trim_end_matches('\0').chars().filter(|c| !c.is_control()).take(64).collect();
    (printable, lossy)
}

/// Returns preferred connection parameters.
///
/// # Errors
/// Fewer than 8 bytes.
pub fn link_parameters(value: &[u8]) -> Result<LinkParameters, ValueError> {
    let word = |index: usize| little_endian(value, index).ok_or(ValueError::Length);
    let specific = |raw: u16, unit: u32| (raw != 0xFFFF).then(|| u32::from(raw).saturating_mul(unit));
    Ok(LinkParameters {
        interval_min_us: specific(word(0)?, 1250),
        interval_max_us: specific(word(2)?, 1250),
        latency: word(4)?,
        supervision_ms: specific(word(6)?, 10),
    })
}

/// Returns a PnP id.
///
/// # Errors
/// Fewer than 7 bytes.
pub fn pnp_id(value: &[u8]) -> Result<PnpId, ValueError> {
    let word = |index: usize| little_endian(value, index).ok_or(ValueError::Length);
    Ok(PnpId {
        source: *value.first().ok_or(ValueError::Length)?,
        vendor: word(1)?,
        product: word(3)?,
        version: word(5)?,
    })
}

fn little_endian(value: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes([*value.get(at)?, *value.get(at.saturating_add(1))?]))
}

impl Subscription {
    /// Returns the bytes written.
    pub const fn bytes(self) -> [u8; 2] {
        match self {
            Self::Off => [0, 0],
            Self::Notify => [1, 0],
            Self::Indicate => [2, 0],
        }
    }
}
