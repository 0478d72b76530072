//! A device profile: everything that is known of one family of percussion devices, as validated data.
//!
//! Made by `config::device_file` under the load rules of percussion-ble 9.4 and never changed after. The language has no
//! expressions and no way to compute an answer from a secret: a profile can name frames, not programs.
//!
//! | file | words |
//! | --- | --- |
//! | `frame` | templates, checksums, replies |
//! | `gatt` | standard GATT values and UUIDs |
//! | `matching` | advertisement to candidates and decision |

pub mod frame;
pub mod gatt;
pub mod matching;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::capability::{Capability, IntensityRange, RateBasis, Telemetry};
use crate::model::command::Intensity;
use crate::model::limit::Limits;
use crate::model::packet::WriteKind;
use crate::units::{Level, Milliamps, RawSpeed};

use frame::{FieldKind, Reply, ReplyError, ReplyRule, Template, Values};
use matching::{Advertisement, Specificity, Traits};

/// Battery life assumed where a profile does not say: the longest found for a documented gun (percussion-ble 7.1).
pub const BATTERY_LIFE: Duration = Duration::from_secs(150 * 60);
/// A command not acknowledged for this long is uncertain (design 4, BLE).
pub const ACKNOWLEDGE_WITHIN: Duration = Duration::from_millis(500);

/// One family of devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Stable, unique.
    pub id: String,
    /// For people.
    pub title: String,
    /// What kind of device.
    pub class: Class,
    /// How well it is known.
    pub evidence: Evidence,
    /// Where it was learned.
    pub sources: Vec<String>,
    /// SHA-256 of its canonical form, 64 hex digits; goes into every session record.
    pub digest: String,
    /// How it is recognised.
    pub matching: MatchRules,
    /// Characteristics.
    pub gatt: Gatt,
    /// A value that must be read before anything is written.
    pub gate: Option<Gate>,
    /// Frames to the device, by name.
    pub commands: BTreeMap<String, CommandRule>,
    /// The command that sets the motor.
    pub motor: Motor,
    /// Frames from the device.
    pub replies: Vec<ReplyRule>,
    /// Speed numbers.
    pub speed: SpeedRule,
    /// Measured or published facts; none decides anything but battery life.
    pub physical: BTreeMap<String, Fact>,
    /// Models of the family.
    pub variants: Vec<Variant>,
    /// Bounds and stop.
    pub safety: Safety,
    /// Status queries; `None`: the device has none.
    pub poll: Option<Poll>,
}

/// Kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Percussion gun.
    Gun,
    /// Vibrating roller.
    Roller,
    /// Vibrating puck.
    Vibration,
}

/// How well a family is known, worst first. It caps speed and run time (percussion-ble 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// A user's own profile.
    Experimental,
    /// Reasoned from other facts.
    Inferred,
    /// Published, never confirmed on hardware.
    Documented,
    /// Bench procedure passed.
    Verified,
}

/// How a family is recognised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchRules {
    /// Names and manufacturer data; every group that is advertised must agree.
    pub traits: Traits,
    /// Parts of names that are never this family, lower case.
    pub deny_contains: Vec<String>,
    /// A person confirms even a bound unit.
    pub always_ask: bool,
    /// Command whose valid reply is required before any other write.
    pub proof: Option<String>,
}

/// Characteristics of the family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gatt {
    /// Host to device.
    pub command: Characteristic,
    /// Device to host.
    pub status: Option<Characteristic>,
    /// Where the charge is read.
    pub battery: BatteryRole,
}

/// One characteristic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Characteristic {
    /// Enclosing service; `None`: any.
    pub service: Option<u128>,
    /// Itself.
    pub uuid: u128,
    /// At least one of these flags must be there.
    pub needs: Vec<Flag>,
}

/// What a characteristic allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// Read.
    Read,
    /// Write with response.
    Write,
    /// Write without response.
    WriteWithoutResponse,
    /// Unacknowledged values.
    Notify,
    /// Acknowledged values.
    Indicate,
}

/// Where the charge is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatteryRole {
    /// The standard characteristic; its absence is normal.
    Standard,
    /// Field `battery` of the status reply.
    Frame,
    /// Nowhere.
    None,
}

/// A value read before the first write. It can only refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Characteristic to read.
    pub uuid: u128,
    /// The last bytes that must all be zero.
    pub tail_zero: usize,
}

/// What a gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateAnswer {
    /// Writing is allowed.
    Open,
    /// The unit asks for an authorization that this program does not have: identify only.
    AuthorizationRequired {
        /// The bytes that should be zero; `None`: the value is too short.
        seed: Option<Vec<u8>>,
    },
}

/// One frame to the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRule {
    /// Its bytes.
    pub template: Template,
    /// How it is written; as-available counts as with response.
    pub write: WriteKind,
}

/// The command that sets the motor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Motor {
    /// Its name.
    pub command: String,
    /// Its one parameter.
    pub parameter: String,
}

/// Speed numbers of a family or variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeedRule {
    /// What the number means.
    pub unit: SpeedUnit,
    /// Smallest number that runs.
    pub floor: u16,
    /// Documented or measured top.
    pub top: u16,
    /// Only these run (0 left out), ascending; empty: every number from floor to top.
    pub steps: Vec<u16>,
}

/// What a speed number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpeedUnit {
    /// Nothing known.
    Raw,
    /// The device's own step.
    Level,
    /// Strokes per minute.
    StrokesPerMinute,
}

/// A fact with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// In the unit of its name.
    pub value: u32,
    /// In words: high, medium, low, unknown.
    pub confidence: String,
    /// Where from; may be empty.
    pub source: String,
}

/// One model of a family. It may only add facts and lower limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// For people.
    pub title: String,
    /// How it is told apart; a person confirms.
    pub traits: Traits,
    /// Speed numbers where they differ.
    pub speed: SpeedRule,
    /// Facts added to the family's.
    pub physical: BTreeMap<String, Fact>,
    /// Oldest firmware that may be driven, as [`frame::from_dotted`] counts; older is identified only.
    pub firmware_min: Option<u32>,
}

/// Which model a device says it is, by each source. They may disagree: show both and ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelHints<'a> {
    /// By its name.
    pub by_name: Option<&'a Variant>,
    /// By its manufacturer data.
    pub by_manufacturer: Option<&'a Variant>,
}

/// Bounds and stop of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Safety {
    /// Never exceeded.
    pub max: u16,
    /// Fastest rise of continuous numbers; 0 for steps. Falling is immediate.
    pub rise_per_s: u16,
    /// Longest single run.
    pub run_max: Duration,
    /// Added to the ledger after a stop.
    pub stop_tail: Duration,
    /// Shortest time between two writes.
    pub gap_min: Duration,
    /// Stop frames in order; never empty.
    pub stop: Vec<StopFrame>,
    /// Each stop frame so many times.
    pub stop_repeat: u8,
    /// What proves a stop; `None`: only a person can.
    pub confirm: Option<StopProof>,
    /// From one stop frame to the next.
    pub stop_spacing: Duration,
    /// The list again after this long, until confirmed.
    pub stop_cycle: Duration,
    /// What the device does when the link is lost.
    pub on_link_loss: LinkLoss,
}

/// One frame that stops, rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopFrame {
    /// Name of its command.
    pub name: String,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How it is written.
    pub write: WriteKind,
}

/// A field of the polled reply that proves a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopProof {
    /// Field.
    pub field: String,
    /// Its value.
    pub eq: u32,
}

/// What a device does when the link is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLoss {
    /// Runs on. Also assumed where unknown.
    Continues,
    /// Stops by itself.
    Stops,
    /// Switches itself off.
    PowersOff,
    /// Never measured: handled as [`LinkLoss::Continues`].
    Unknown,
}

/// Status queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Command that asks.
    pub command: String,
    /// Reply that answers.
    pub reply: String,
    /// From query to query while there is no output.
    pub idle: Duration,
    /// The same while running; also bounds how long a query may be pending.
    pub run: Duration,
    /// Silence: no rise.
    pub suspect: Duration,
    /// Silence: stop, link lost.
    pub lost: Duration,
}

/// A setpoint after the last barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clamped {
    /// What is sent.
    pub emitted: u16,
    /// It was above the maximum: a defect of ours.
    pub limited: bool,
}

/// Why a setpoint is not sent at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClampError {
    /// Between zero and the smallest number that runs.
    #[error("between zero and the smallest speed that runs")]
    BelowFloor,
    /// No number of the device.
    #[error("not a number of the device")]
    Range,
    /// Not one of the steps of the device.
    #[error("not one of the steps of the device")]
    NoStep,
}

/// Measured stroke rate at given numbers of one unit (percussion-ble 7.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calibration {
    points: Vec<(u16, u32)>,
}

/// Why a calibration is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalibrationError {
    /// Fewer than three points.
    #[error("a calibration needs at least three points")]
    TooFew,
    /// The numbers do not rise, or the rates fall.
    #[error("calibration points must have rising numbers and rates that do not fall")]
    Order,
}

/// Returns the barrier's answer for a continuous range. A value above `max` should never arrive (percussion-ble 9.4.3).
///
/// # Errors
/// The value is negative, or above zero and below `floor`.
pub fn clamp(requested: i64, floor: u16, max: u16) -> Result<Clamped, ClampError> {
    if requested < 0 {
        return Err(ClampError::Range);
    }
    let value = u16::try_from(requested).unwrap_or(u16::MAX);
    if value == 0 {
        return Ok(Clamped { emitted: 0, limited: false });
    }
    if value < floor {
        return Err(ClampError::BelowFloor);
    }
    Ok(Clamped { emitted: value.min(max), limited: value > max })
}

/// Returns where a setpoint may stand `elapsed` later: rises are limited, falls and stops are immediate.
pub fn ramp(current: u16, target: u16, rise_per_s: u16, elapsed: Duration) -> u16 {
    if target <= current {
        return target;
    }
    let rise = u128::from(rise_per_s).saturating_mul(elapsed.as_micros()) / 1_000_000;
    let reached = u128::from(current).saturating_add(rise);
    u16::try_from(reached).unwrap_or(u16::MAX).min(target)
}

impl Calibration {
    /// Makes a calibration from `(number, strokes per minute)`.
    ///
    /// # Errors
    /// Fewer than three points, or not rising.
    pub fn new(points: Vec<(u16, u32)>) -> Result<Self, CalibrationError> {
        if points.len() < 3 {
            return Err(CalibrationError::TooFew);
        }
        let rising = points.iter().zip(points.iter().skip(1)).all(|(a, b)| a.0 < b.0 && a.1 <= b.1);
        if rising { Ok(Self { points }) } else { Err(CalibrationError::Order) }
    }

    /// Returns thousandths of strokes per minute, rounded up; `None` outside the measured span.
    pub fn milli_strokes_per_minute(&self, raw: u16) -> Option<u64> {
        let between = |a: &(u16, u32), b: &(u16, u32)| -> Option<u64> {
            if raw < a.0 || raw > b.0 {
                return None;
            }
            let span = u64::from(b.0.checked_sub(a.0)?);
            let rise = u64::from(b.1.checked_sub(a.1)?).checked_mul(u64::from(raw.checked_sub(a.0)?))?;
            let above = rise.checked_mul(1000)?.div_ceil(span.max(1));
            u64::from(a.1).checked_mul(1000)?.checked_add(above)
        };
        self.points.iter().zip(self.points.iter().skip(1)).find_map(|(a, b)| between(a, b))
    }
}

impl Gate {
    /// Returns what a value read from the gate means.
    pub fn judge(&self, value: &[u8]) -> GateAnswer {
        let seed = value.len().checked_sub(self.tail_zero).and_then(|from| value.get(from..));
        match seed {
            Some(seed) if seed.iter().all(|byte| *byte == 0) => GateAnswer::Open,
            Some(_) | None => GateAnswer::AuthorizationRequired { seed: seed.map(<[u8]>::to_vec) },
        }
    }
}

impl MatchRules {
    /// Returns how well an advertisement fits; `None` when it does not.
    pub fn fit(&self, advertisement: &Advertisement) -> Option<Specificity> {
        let name = advertisement.name.as_deref().map(matching::normal_name).unwrap_or_default();
        if self.deny_contains.iter().any(|part| name.contains(part.as_str())) {
            return None;
        }
        self.traits.fit(advertisement)
    }
}

impl Profile {
    /// Returns the variant of this title or whole name, in any case.
    pub fn variant(&self, name: &str) -> Option<&Variant> {
        let name = matching::normal_name(name);
        self.variants
            .iter()
            .find(|variant| variant.title.to_lowercase() == name || variant.traits.names.contains(&name))
    }

    /// Returns which model an advertisement speaks of, by name and by manufacturer data.
    pub fn models(&self, advertisement: &Advertisement) -> ModelHints<'_> {
        let only_name = Advertisement { name: advertisement.name.clone(), ..Advertisement::default() };
        let only_data =
            Advertisement { manufacturer: advertisement.manufacturer.clone(), ..Advertisement::default() };
        // The longest beginning wins: "hypervolt 2 pro" is also a "hypervolt 2".
        let length = |variant: &&Variant| {
            let name = matching::normal_name(only_name.name.as_deref().unwrap_or_default());
            let whole = variant.traits.names.iter().filter(|known| **known == name).map(String::len);
            let begins =
                variant.traits.prefixes.iter().filter(|known| name.starts_with(*known)).map(String::len);
            whole.chain(begins).max()
        };
        ModelHints {
            by_name: self
                .variants
                .iter()
                .filter(|variant| variant.traits.fit(&only_name).is_some())
                .max_by_key(length),
            by_manufacturer: self.variants.iter().find(|variant| variant.traits.fit(&only_data).is_some()),
        }
    }

    /// Returns the speed numbers of a variant, or of the family.
    pub fn speed_of<'a>(&'a self, variant: Option<&'a Variant>) -> &'a SpeedRule {
        variant.map_or(&self.speed, |variant| &variant.speed)
    }

    /// Returns the highest number that is ever sent to an uncalibrated unit.
    ///
    /// Its rate has no known upper bound: a device with steps stays at the lowest one (percussion-ble 7.4).
    pub fn max_of(&self, variant: Option<&Variant>) -> u16 {
        let speed = self.speed_of(variant);
        let lowest_step = speed.steps.first().copied().unwrap_or(u16::MAX);
        self.safety.max.min(speed.top).min(lowest_step)
    }

    /// Returns what a unit of this family can do.
    pub fn capability(&self, variant: Option<&Variant>) -> Capability {
        let speed = self.speed_of(variant);
        let max = self.max_of(variant);
        let mut limits = Limits { duration: Some(self.safety.run_max), ..Limits::default() };
        let level = |number: u16| Level::from_level(u8::try_from(number).unwrap_or(u8::MAX));
        let intensity = match speed.unit {
            SpeedUnit::Raw | SpeedUnit::StrokesPerMinute => {
                limits.speed = Some(RawSpeed::from_raw(max));
                IntensityRange::Speed {
                    floor: RawSpeed::from_raw(speed.floor.min(max)),
                    max: RawSpeed::from_raw(max),
                    top: RawSpeed::from_raw(speed.top),
                    rise_per_s: self.safety.rise_per_s,
                }
            }
            SpeedUnit::Level => {
                limits.level = Some(level(max));
                IntensityRange::Level { max: level(max), top: level(speed.top) }
            }
        };
        let telemetry = self.poll.as_ref().map_or(
            Telemetry { suspect: Duration::from_millis(750), lost: Duration::from_secs(3) },
            |poll| Telemetry { suspect: poll.suspect, lost: poll.lost },
        );
        Capability {
            channels: 1,
            intensity,
            pulse: None,
            keep_alive: None,
            stop_is_whole_unit: true,
            telemetry,
            acknowledge_within: ACKNOWLEDGE_WITHIN,
            stop_tail: self.safety.stop_tail,
            battery_life: self.battery_life(variant),
            contact_seen_from: Milliamps::ZERO,
            reports_force: self.poll_has("force"),
            reports_own_button: self.poll_has("speed") || self.poll_has("level"),
            rate_basis: RateBasis::WorstCase,
            limits,
        }
    }

    /// Returns whether the status that is asked for regularly carries a field.
    fn poll_has(&self, field: &str) -> bool {
        let rule = self.poll.as_ref().and_then(|poll| self.reply_rule(&poll.reply));
        rule.is_some_and(|rule| rule.fields.contains_key(field))
    }

    /// Returns how long a unit can run on at most.
    pub fn battery_life(&self, variant: Option<&Variant>) -> Duration {
        let said = variant
            .and_then(|variant| variant.physical.get("battery_min"))
            .or_else(|| self.physical.get("battery_min"))
            .map_or(Duration::ZERO, |fact| Duration::from_secs(u64::from(fact.value).saturating_mul(60)));
        // A published battery time is no bound that may shorten an uncertain interval.
        said.max(BATTERY_LIFE)
    }

    /// Returns an intensity of the family's kind.
    pub fn intensity(&self, number: u16) -> Intensity {
        match self.speed.unit {
            SpeedUnit::Raw | SpeedUnit::StrokesPerMinute => Intensity::Speed(RawSpeed::from_raw(number)),
            SpeedUnit::Level => Intensity::Level(Level::from_level(u8::try_from(number).unwrap_or(u8::MAX))),
        }
    }

    /// Returns the barrier's answer for one unit.
    ///
    /// # Errors
    /// Below the floor, or none of the steps.
    pub fn clamp(&self, variant: Option<&Variant>, requested: u32) -> Result<Clamped, ClampError> {
        let speed = self.speed_of(variant);
        let clamped = clamp(i64::from(requested), speed.floor, self.max_of(variant))?;
        if !clamped.limited && clamped.emitted != 0 && !speed.steps.is_empty() {
            return speed.steps.contains(&clamped.emitted).then_some(clamped).ok_or(ClampError::NoStep);
        }
        Ok(clamped)
    }

    /// Returns the frame that sets the motor to `number`; `None` when it does not fit the frame.
    pub fn motor_frame(&self, number: u16) -> Option<(Vec<u8>, WriteKind)> {
        let rule = self.commands.get(&self.motor.command)?;
        let values = Values::from([(self.motor.parameter.clone(), u32::from(number))]);
        Some((rule.template.render(&values).ok()?, rule.write))
    }

    /// Returns the frame of a command without parameters.
    pub fn plain_frame(&self, command: &str) -> Option<(Vec<u8>, WriteKind)> {
        let rule = self.commands.get(command)?;
        Some((rule.template.render(&Values::new()).ok()?, rule.write))
    }

    /// Reads bytes of the status characteristic.
    ///
    /// # Errors
    /// Why they mean nothing.
    pub fn read_reply(&self, bytes: &[u8]) -> Result<Reply, ReplyError> {
        // No frame of a family is shorter than its shortest request; this only names the error.
        let shortest = self.commands.values().map(|rule| rule.template.len()).min().unwrap_or(1);
        frame::read_reply(&self.replies, shortest, bytes)
    }

    /// Returns the rule of a reply.
    pub fn reply_rule(&self, name: &str) -> Option<&ReplyRule> {
        self.replies.iter().find(|rule| rule.name == name)
    }

    /// Returns whether a reply proves a stop.
    pub fn proves_stop(&self, reply: &Reply) -> bool {
        let Some(proof) = &self.safety.confirm else {
            return false;
        };
        let kind = self.reply_rule(&reply.name).and_then(|rule| rule.fields.get(&proof.field));
        let found = reply.fields.get(&proof.field).copied();
        match kind.map(|rule| rule.kind) {
            Some(FieldKind::Nonzero) => found.map(|raw| u32::from(raw != 0)) == Some(proof.eq),
            Some(FieldKind::Number(_)) => found == Some(proof.eq),
            None => false,
        }
    }

    /// Returns the stop list as it is sent, groups kept together: a learnt frame's group comes first.
    ///
    /// A frame that is a beginning of the frame before it is shorter than its receiver may believe, and could take
    /// the missing bytes from whatever came before: it stays directly behind its longer twin (percussion-ble U1).
    pub fn stop_order(&self, learnt: Option<&str>) -> Vec<&StopFrame> {
        let mut groups: Vec<Vec<&StopFrame>> = Vec::new();
        for frame in &self.safety.stop {
            match groups.last_mut() {
                Some(group) if group.last().is_some_and(|before| frame.needs(before)) => group.push(frame),
                Some(_) | None => groups.push(vec![frame]),
            }
        }
        groups.sort_by_key(|group| !group.iter().any(|frame| Some(frame.name.as_str()) == learnt));
        groups.into_iter().flatten().collect()
    }
}

impl StopFrame {
    /// Returns whether this frame may only be sent directly after `before`: it is its beginning.
    pub fn needs(&self, before: &Self) -> bool {
        self.bytes.len() < before.bytes.len() && before.bytes.starts_with(&self.bytes)
    }
}

#[cfg(test)]
mod tests;
