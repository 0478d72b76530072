//! Shapes of the entries as they are stored, and the canonical bytes that are hashed. Version 1.
//!
//! The body of an entry is compact JSON with the keys in the order of the fields here; the stored text *is* what was
//! hashed and is never rendered again. Quantities are integers with the unit in the key. Times are µs on the
//! session's monotonic clock. `model` derives no serde: conversion is here, in both directions where something is
//! decided on what was read (doses).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::alarm::{Alarm, Cause};
use crate::governor::limits;
use crate::governor::{Entry, Interlock, Refusal};
use crate::model::area::{AreaCode, Place, Side};
use crate::model::budget::Budget;
use crate::model::capability::RateBasis;
use crate::model::command::{Channel, DeviceId, Epoch, Intensity, Setpoint};
use crate::model::dose::{Dose, DoseId, Evidence};
use crate::model::limit::{LimitOwner, Limits};
use crate::model::plan::{Applicator, ClientCode, Electrode, Plan, PlannedDevice, Step, Stimulation};
use crate::model::protocol::Modality;
use crate::model::report::{EpochEnd, OwnButton, StopProgress};
use crate::model::session::{Actor, SessionId};
use crate::model::uncertain::Knowledge;
use crate::record::settle::{self, NarrowedBy};
use crate::units::{
    Centimetres, Level, Microcoulombs, Microseconds, Milliamps, Mono, RawForce, RawSpeed, duration_micros,
};

/// Version of the entry shapes.
pub const VERSION: u32 = 1;

/// `prev_hash` of the very first entry of a database.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One entry as it is stored and exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredEntry {
    /// Version of the shape.
    pub v: u32,
    /// Session it belongs to.
    pub session: String,
    /// Number in the session, from 0.
    pub seq: u64,
    /// When it happened, µs on the session's monotonic clock.
    pub mono_us: u64,
    /// Wall clock when it was taken in, RFC 3339 in UTC with six decimals.
    pub wall: String,
    /// Kind, for example `dose`.
    pub kind: String,
    /// Body, compact JSON: exactly the bytes that were hashed.
    pub body: String,
    /// Hash of the entry before it; of the previous session's last entry for the first.
    pub prev_hash: String,
    /// SHA-256 of everything above, lower-case hexadecimal.
    pub hash: String,
}

/// When something happened, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Monotonic clock of this process.
    pub mono: Mono,
    /// Wall clock.
    pub wall: jiff::Timestamp,
}

/// Why a body cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is not the JSON of its kind.
    #[error("the body is not what an entry of kind `{kind}` holds")]
    Json {
        /// The kind.
        kind: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A word or number is none of those known.
    #[error("`{found}` is not a known {what}")]
    Word {
        /// What it should be.
        what: &'static str,
        /// What was found.
        found: String,
    },
}

impl StoredEntry {
    /// Makes an entry from its parts and computes its hash.
    pub(crate) fn chain(
        stamp: Stamp,
        session: &SessionId,
        seq: u64,
        text: (String, String),
        prev: &str,
    ) -> Self {
        let (kind, body) = text;
        let mut entry = Self {
            v: VERSION,
            session: session.as_str().to_owned(),
            seq,
            mono_us: stamp.mono.micros(),
            wall: wall_text(stamp.wall),
            kind,
            body,
            prev_hash: prev.to_owned(),
            hash: String::new(),
        };
        entry.hash = entry.digest();
        entry
    }

    /// Returns the canonical bytes: eight fields, each followed by one line feed.
    pub fn canonical(&self) -> String {
        let Self { v, session, seq, mono_us, wall, kind, body, prev_hash, hash: _ } = self;
        format!("{v}\n{session}\n{seq}\n{mono_us}\n{wall}\n{kind}\n{body}\n{prev_hash}\n")
    }

    /// Returns the SHA-256 of the canonical bytes, lower-case hexadecimal.
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(self.canonical().as_bytes()))
    }

    /// Returns a field that holds a line break; with one, two entries could have the same canonical bytes.
    pub(crate) fn broken_field(&self) -> Option<&'static str> {
        let Self { v: _, session, seq: _, mono_us: _, wall, kind, body, prev_hash, hash: _ } = self;
        [("session", session), ("wall", wall), ("kind", kind), ("body", body), ("prev_hash", prev_hash)]
            .into_iter()
            .find(|(_, text)| text.contains('\n'))
            .map(|(field, _)| field)
    }

    /// Reads the body.
    ///
    /// # Errors
    /// When the body is not what the kind says.
    pub fn read(&self) -> Result<Body, BodyError> {
        Body::read(&self.kind, &self.body)
    }

    /// Returns the session.
    pub fn session(&self) -> SessionId {
        SessionId::new(self.session.clone())
    }
}

/// Renders bytes as lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Renders a wall time: RFC 3339, UTC, six decimals, so that texts sort as times do.
pub(crate) fn wall_text(wall: jiff::Timestamp) -> String {
    format!("{wall:.6}")
}

/// What opens a session's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionHead {
    /// The session, a UUID.
    pub session: SessionId,
    /// Identifier of the plan file.
    pub plan_id: String,
    /// Its title.
    pub plan_title: String,
    /// Whom it is for.
    pub client: ClientCode,
    /// SHA-256 of the plan file.
    pub plan_digest: String,
    /// Name and SHA-256 of every other file that governed the session.
    pub file_digests: Vec<(String, String)>,
    /// Whether the units are simulated: stated by the launcher, never inferred.
    pub simulated: bool,
    /// Name and version of the software.
    pub software: String,
    /// System monotonic clock at this process's origin, µs; compares `mono_us` with other processes' clocks.
    pub mono_origin_us: u64,
    /// Which boot of the machine that clock is of; `None`: the system does not say.
    pub boot: Option<String>,
    /// Units, in the plan's order.
    pub devices: Vec<HeadDevice>,
    /// Steps, in the plan's order.
    pub steps: Vec<HeadStep>,
}

impl SessionHead {
    /// Makes the head of a session that runs `plan`.
    pub fn new(
        session: SessionId,
        plan: &Plan,
        plan_digest: String,
        software: String,
        simulated: bool,
    ) -> Self {
        Self {
            session,
            plan_id: plan.id.clone(),
            plan_title: plan.title.clone(),
            client: plan.client.clone(),
            plan_digest,
            file_digests: Vec::new(),
            simulated,
            software,
            mono_origin_us: 0,
            boot: None,
            devices: plan.devices.iter().map(HeadDevice::from).collect(),
            steps: plan.steps.iter().map(HeadStep::from).collect(),
        }
    }
}

/// One unit of a session, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadDevice {
    /// Label on its housing.
    pub label: String,
    /// Identifier of its profile.
    pub profile: String,
    /// How long it may run on unheard: its keep-alive time-out, else its battery life, µs.
    pub runs_on_us: u64,
    /// Added after a stop, µs.
    pub stop_tail_us: u64,
    /// A command not acknowledged for this long is uncertain, µs.
    pub acknowledge_us: u64,
}

impl From<&PlannedDevice> for HeadDevice {
    fn from(device: &PlannedDevice) -> Self {
        let can = &device.capability;
        Self {
            label: device.label.clone(),
            profile: device.profile.clone(),
            runs_on_us: duration_micros(can.keep_alive.unwrap_or(can.battery_life)),
            stop_tail_us: duration_micros(can.stop_tail),
            acknowledge_us: duration_micros(can.acknowledge_within),
        }
    }
}

/// One step of a session, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadStep {
    /// Number in the plan.
    pub number: u8,
    /// Name of the protocol.
    pub title: String,
    /// Identifier of the protocol.
    pub protocol: String,
    /// Word of the modality.
    pub modality: String,
    /// Code of the area.
    pub area: String,
    /// Side of the body.
    pub side: String,
    /// Position in the list of units.
    pub device: u8,
    /// Output of the unit.
    pub channel: u8,
    /// What touches the client.
    pub applicator: HeadApplicator,
    /// Pulse pattern; absent for percussion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stimulation: Option<HeadStimulation>,
    /// What the plan asks for.
    pub target: Amount,
    /// Planned length, µs.
    pub duration_us: u64,
    /// Time budgets, the tightest of each kind; absent in records that are older than budgets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<HeadBudget>,
    /// Person declared as holding the gun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// Its own button may start it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub start_at_device: bool,
    /// Not pressed harder than this, in the gun's own numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_max_raw: Option<u32>,
}

/// A time budget of a step, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadBudget {
    /// Which: `area`, `session` or `day`.
    pub budget: String,
    /// Word of the owner whose limit it is.
    pub owner: String,
    /// The whole of it, µs.
    pub limit_us: u64,
}

fn budgets(step: &Step) -> Vec<HeadBudget> {
    type Pick = fn(&Limits) -> Option<Duration>;
    let kinds: [(Budget, Pick); 3] = [
        (Budget::Area, |limits| limits.area_time),
        (Budget::Session, |limits| limits.session_time),
        (Budget::Day, |limits| limits.day_time),
    ];
    let stated = kinds.into_iter().filter_map(|(budget, pick)| {
        let (limit, owner) = limits::tightest_time(&step.chain, step.modality, pick)?;
        let (budget, owner) = (budget.word().to_owned(), owner.word().to_owned());
        Some(HeadBudget { budget, owner, limit_us: duration_micros(limit) })
    });
    stated.collect()
}

/// What touches the client, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HeadApplicator {
    /// A head of a gun.
    Attachment(String),
    /// Electrodes.
    Electrodes(Vec<HeadElectrode>),
}

/// One electrode, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadElectrode {
    /// Contact area, mm².
    pub contact_mm2: u32,
    /// Code of the area.
    pub area: String,
    /// Side of the body.
    pub side: String,
}

/// Pulse pattern, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadStimulation {
    /// Width of one phase, µs.
    pub width_us: u32,
    /// From pulse to pulse, µs.
    pub period_us: u32,
    /// ON:OFF cycle; absent when continuous.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cycle: Option<HeadCycle>,
}

/// ON:OFF cycle, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadCycle {
    /// Rise, µs.
    pub ramp_up_us: u64,
    /// Plateau, µs.
    pub on_us: u64,
    /// Fall, µs.
    pub ramp_down_us: u64,
    /// Rest, µs.
    pub off_us: u64,
}

impl From<&Step> for HeadStep {
    fn from(step: &Step) -> Self {
        Self {
            number: step.number,
            title: step.title.clone(),
            protocol: step.protocol.clone(),
            modality: step.modality.word().to_owned(),
            area: step.place.area.as_str().to_owned(),
            side: step.place.side.word().to_owned(),
            device: step.device.0,
            channel: step.channel.0,
            applicator: HeadApplicator::from(&step.applicator),
            stimulation: step.stimulation.map(HeadStimulation::from),
            target: step.target.into(),
            duration_us: duration_micros(step.duration),
            budgets: budgets(step),
            held_by: step.held_by.clone(),
            start_at_device: step.start_at_device,
            force_max_raw: step.force_max.map(RawForce::raw),
        }
    }
}

impl HeadStep {
    /// Returns the place as people say it, for example `calf right`.
    pub fn place(&self) -> String {
        format!("{} {}", self.area.replace('_', " "), self.side)
    }
}

impl From<&Applicator> for HeadApplicator {
    fn from(applicator: &Applicator) -> Self {
        match applicator {
            Applicator::Attachment(name) => Self::Attachment(name.clone()),
            Applicator::Electrodes(pair) => Self::Electrodes(pair.iter().map(HeadElectrode::from).collect()),
        }
    }
}

impl From<&Electrode> for HeadElectrode {
    fn from(electrode: &Electrode) -> Self {
        Self {
            contact_mm2: electrode.contact.square_millimetres(),
            area: electrode.area.as_str().to_owned(),
            side: electrode.side.word().to_owned(),
        }
    }
}

impl From<Stimulation> for HeadStimulation {
    fn from(stimulation: Stimulation) -> Self {
        Self {
            width_us: stimulation.width.micros(),
            period_us: stimulation.period.micros(),
            cycle: stimulation.cycle.map(|cycle| HeadCycle {
                ramp_up_us: duration_micros(cycle.ramp_up),
                on_us: duration_micros(cycle.on),
                ramp_down_us: duration_micros(cycle.ramp_down),
                off_us: duration_micros(cycle.off),
            }),
        }
    }
}

/// An intensity, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// Peak pulse current, µA.
    CurrentUa(u32),
    /// A gun's own number.
    SpeedRaw(u32),
    /// A gun's own step.
    Level(u32),
}

impl From<Intensity> for Amount {
    fn from(intensity: Intensity) -> Self {
        Self::like(intensity, intensity.magnitude())
    }
}

impl Amount {
    /// Returns the amount of `magnitude` in the kind of `intensity`.
    fn like(intensity: Intensity, magnitude: u32) -> Self {
        match intensity {
            Intensity::Current(_) => Self::CurrentUa(magnitude),
            Intensity::Speed(_) => Self::SpeedRaw(magnitude),
            Intensity::Level(_) => Self::Level(magnitude),
        }
    }

    /// Returns the bare number.
    pub const fn magnitude(self) -> u32 {
        match self {
            Self::CurrentUa(number) | Self::SpeedRaw(number) | Self::Level(number) => number,
        }
    }

    /// Returns the intensity, cut to what its kind can hold.
    pub fn intensity(self) -> Intensity {
        match self {
            Self::CurrentUa(number) => Intensity::Current(Milliamps::from_microamps(number)),
            Self::SpeedRaw(number) => Intensity::Speed(RawSpeed::ZERO).with_magnitude(number),
            Self::Level(number) => Intensity::Level(Level::ZERO).with_magnitude(number),
        }
    }
}

/// A setpoint, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Drive {
    /// Pulses.
    Pulses {
        /// Peak current, µA.
        current_ua: u32,
        /// Width of one phase, µs.
        width_us: u32,
        /// From pulse to pulse, µs.
        period_us: u32,
    },
    /// A gun's own number.
    SpeedRaw(u16),
    /// A gun's own step.
    Level(u8),
}

impl From<Setpoint> for Drive {
    fn from(setpoint: Setpoint) -> Self {
        match setpoint {
            Setpoint::Pulses { current, width, period } => Self::Pulses {
                current_ua: current.microamps(),
                width_us: width.micros(),
                period_us: period.micros(),
            },
            Setpoint::Speed(speed) => Self::SpeedRaw(speed.raw()),
            Setpoint::Level(level) => Self::Level(level.level()),
        }
    }
}

impl From<Drive> for Setpoint {
    fn from(drive: Drive) -> Self {
        match drive {
            Drive::Pulses { current_ua, width_us, period_us } => Self::Pulses {
                current: Milliamps::from_microamps(current_ua),
                width: Microseconds::from_micros(width_us),
                period: Microseconds::from_micros(period_us),
            },
            Drive::SpeedRaw(raw) => Self::Speed(RawSpeed::from_raw(raw)),
            Drive::Level(level) => Self::Level(Level::from_level(level)),
        }
    }
}

/// Who acted, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// Code of the person.
    pub person: String,
    /// The screen.
    pub screen: String,
}

impl From<&Actor> for By {
    fn from(actor: &Actor) -> Self {
        Self { person: actor.person.clone(), screen: actor.screen.clone() }
    }
}

/// A limit with its owner, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Word of the owner.
    pub owner: String,
    /// Not above this.
    pub max: Amount,
}

/// A dose, as recorded. Truth lies between every `min` and its `max`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoseBody {
    /// Number of the dose in the session.
    pub id: u64,
    /// Step of the plan.
    pub step: u8,
    /// Position in the list of units.
    pub device: u8,
    /// Output of the unit.
    pub channel: u8,
    /// Epoch of the unit.
    pub epoch: u32,
    /// Word of the modality.
    pub modality: String,
    /// Code of the area.
    pub area: String,
    /// Side of the body.
    pub side: String,
    /// Begin, µs on the session's clock.
    pub from_us: u64,
    /// End, exclusive, µs on the session's clock.
    pub until_us: u64,
    /// Highest setpoint that may have been in force.
    pub upper: Drive,
    /// Lowest that may have been in force; absent: it may have been off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower: Option<Drive>,
    /// Word of the evidence.
    pub evidence: String,
    /// Output time, least, µs.
    pub on_min_us: u64,
    /// Output time, most, µs.
    pub on_max_us: u64,
    /// Pulses, least.
    pub pulses_min: u64,
    /// Pulses, most.
    pub pulses_max: u64,
    /// Charge of one polarity, least, pC.
    pub charge_min_pc: u64,
    /// Charge of one polarity, most, pC.
    pub charge_max_pc: u64,
    /// Raw number (or level) × µs, least.
    pub speed_min_raw_us: u64,
    /// Raw number (or level) × µs, most.
    pub speed_max_raw_us: u64,
    /// The limit that bound.
    pub limit: Bound,
    /// Whether a rate is known: `none`, `calibrated`, `worst_case`.
    pub rate_basis: String,
}

impl From<&Dose> for DoseBody {
    fn from(dose: &Dose) -> Self {
        let (owner, magnitude) = dose.limit;
        Self {
            id: dose.id.0,
            step: dose.step,
            device: dose.device.0,
            channel: dose.channel.0,
            epoch: dose.epoch.0,
            modality: dose.modality.word().to_owned(),
            area: dose.place.area.as_str().to_owned(),
            side: dose.place.side.word().to_owned(),
            from_us: dose.from.micros(),
            until_us: dose.until.micros(),
            upper: dose.upper.into(),
            lower: dose.lower.map(Drive::from),
            evidence: dose.evidence.word().to_owned(),
            on_min_us: dose.on_us.0,
            on_max_us: dose.on_us.1,
            pulses_min: dose.pulses.0,
            pulses_max: dose.pulses.1,
            charge_min_pc: dose.charge.0.picocoulombs(),
            charge_max_pc: dose.charge.1.picocoulombs(),
            speed_min_raw_us: dose.speed_us.0,
            speed_max_raw_us: dose.speed_us.1,
            limit: Bound {
                owner: owner.word().to_owned(),
                max: Amount::like(dose.upper.intensity(), magnitude),
            },
            rate_basis: rate_basis_word(dose.rate_basis).to_owned(),
        }
    }
}

impl TryFrom<&DoseBody> for Dose {
    type Error = BodyError;

    fn try_from(body: &DoseBody) -> Result<Self, BodyError> {
        Ok(Self {
            id: DoseId(body.id),
            step: body.step,
            device: DeviceId(body.device),
            channel: Channel(body.channel),
            epoch: Epoch(body.epoch),
            modality: modality(&body.modality)?,
            place: Place { area: AreaCode::new(body.area.clone()), side: side(&body.side)? },
            from: Mono::from_micros(body.from_us),
            until: Mono::from_micros(body.until_us),
            upper: body.upper.into(),
            lower: body.lower.map(Setpoint::from),
            evidence: evidence(&body.evidence)?,
            on_us: (body.on_min_us, body.on_max_us),
            pulses: (body.pulses_min, body.pulses_max),
            charge: (
                Microcoulombs::from_picocoulombs(body.charge_min_pc),
                Microcoulombs::from_picocoulombs(body.charge_max_pc),
            ),
            speed_us: (body.speed_min_raw_us, body.speed_max_raw_us),
            limit: (owner(&body.limit.owner)?, body.limit.max.magnitude()),
            rate_basis: rate_basis(&body.rate_basis)?,
        })
    }
}

/// Finds the value whose word was recorded.
fn find<T: Copy>(
    all: &[T],
    word: fn(T) -> &'static str,
    what: &'static str,
    found: &str,
) -> Result<T, BodyError> {
    all.iter()
        .copied()
        .find(|value| word(*value) == found)
        .ok_or_else(|| BodyError::Word { what, found: found.to_owned() })
}

/// Reads the word of a modality.
pub(crate) fn modality(word: &str) -> Result<Modality, BodyError> {
    find(&[Modality::Percussion, Modality::Nmes, Modality::Tens], Modality::word, "modality", word)
}

/// Reads the word of a side.
pub(crate) fn side(word: &str) -> Result<Side, BodyError> {
    find(&[Side::Left, Side::Right, Side::Midline, Side::Bilateral], Side::word, "side", word)
}

fn evidence(word: &str) -> Result<Evidence, BodyError> {
    let all = [Evidence::Reported, Evidence::Commanded, Evidence::Uncertain, Evidence::TherapistTimed];
    find(&all, Evidence::word, "evidence", word)
}

fn owner(word: &str) -> Result<LimitOwner, BodyError> {
    find(&LimitOwner::ALL, LimitOwner::word, "limit owner", word)
}

fn rate_basis(word: &str) -> Result<RateBasis, BodyError> {
    let all = [RateBasis::None, RateBasis::Calibrated, RateBasis::WorstCase];
    find(&all, rate_basis_word, "rate basis", word)
}

const fn rate_basis_word(basis: RateBasis) -> &'static str {
    match basis {
        RateBasis::None => "none",
        RateBasis::Calibrated => "calibrated",
        RateBasis::WorstCase => "worst_case",
    }
}

/// Returns the cause of an alarm by its recorded code; `None` for one that a later version wrote.
pub fn cause(code: &str) -> Option<Cause> {
    Cause::ALL.into_iter().find(|cause| cause.code() == code)
}

/// Totals of one step at one place, as recorded in a seal. Truth lies between every `min` and its `max`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Total {
    /// Step of the plan.
    pub step: u8,
    /// Word of the modality.
    pub modality: String,
    /// Code of the area.
    pub area: String,
    /// Side of the body.
    pub side: String,
    /// Doses added up.
    pub doses: u64,
    /// Output time, least, µs.
    pub on_min_us: u64,
    /// Output time, most, µs.
    pub on_max_us: u64,
    /// Pulses, least.
    pub pulses_min: u64,
    /// Pulses, most.
    pub pulses_max: u64,
    /// Charge of one polarity, least, pC.
    pub charge_min_pc: u64,
    /// Charge of one polarity, most, pC.
    pub charge_max_pc: u64,
    /// Raw number (or level) × µs, least.
    pub speed_min_raw_us: u64,
    /// Raw number (or level) × µs, most.
    pub speed_max_raw_us: u64,
}

impl Total {
    /// Adds a dose to the totals of its step and place.
    pub fn add(totals: &mut Vec<Self>, dose: &DoseBody) {
        let same =
            |total: &&mut Self| total.step == dose.step && total.area == dose.area && total.side == dose.side;
        if let Some(total) = totals.iter_mut().find(same) {
            total.grow(dose);
            return;
        }
        let mut total = Self {
            step: dose.step,
            modality: dose.modality.clone(),
            area: dose.area.clone(),
            side: dose.side.clone(),
            doses: 0,
            on_min_us: 0,
            on_max_us: 0,
            pulses_min: 0,
            pulses_max: 0,
            charge_min_pc: 0,
            charge_max_pc: 0,
            speed_min_raw_us: 0,
            speed_max_raw_us: 0,
        };
        total.grow(dose);
        totals.push(total);
        totals.sort_by_key(|total| total.step);
    }

    fn grow(&mut self, dose: &DoseBody) {
        self.doses = self.doses.saturating_add(1);
        self.on_min_us = self.on_min_us.saturating_add(dose.on_min_us);
        self.on_max_us = self.on_max_us.saturating_add(dose.on_max_us);
        self.pulses_min = self.pulses_min.saturating_add(dose.pulses_min);
        self.pulses_max = self.pulses_max.saturating_add(dose.pulses_max);
        self.charge_min_pc = self.charge_min_pc.saturating_add(dose.charge_min_pc);
        self.charge_max_pc = self.charge_max_pc.saturating_add(dose.charge_max_pc);
        self.speed_min_raw_us = self.speed_min_raw_us.saturating_add(dose.speed_min_raw_us);
        self.speed_max_raw_us = self.speed_max_raw_us.saturating_add(dose.speed_max_raw_us);
    }
}

/// A digest of a file, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Name of the file.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

/// Why a request was refused or an intent void, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Why {
    /// Over a limit.
    Limit {
        /// Asked.
        asked: Amount,
        /// Allowed.
        allowed: Amount,
        /// Word of the owner.
        owner: String,
        /// Which kind of limit.
        limit: String,
        /// Who said so.
        said: String,
        /// What stayed in force.
        unchanged: Amount,
    },
    /// An interlock is open.
    Interlock {
        /// Which.
        open: String,
    },
    /// Everything is stopped until reset.
    Stopped {
        /// The latched generation.
        generation: u64,
    },
    /// A unit has not proven that it stopped.
    NotProven {
        /// Which.
        device: u8,
    },
    /// Not possible in the step's state.
    State {
        /// Why, in words.
        why: String,
    },
    /// No rise for a while after discomfort.
    Locked {
        /// How much longer, µs.
        left_us: u64,
    },
    /// Stopped three times within ten minutes for the same cause.
    LockedOut {
        /// Which unit.
        device: u8,
        /// Code of the cause.
        cause: String,
        /// How much longer, µs.
        left_us: u64,
    },
    /// Below the smallest that runs.
    BelowFloor {
        /// Asked.
        asked: Amount,
        /// The smallest that runs.
        floor: Amount,
    },
    /// The screen showed an older state.
    Stale {},
    /// The intent took too long to reach the disk.
    TooSlow {},
    /// The step's pattern or time lies over a limit.
    Pattern {
        /// What, in words.
        what: String,
    },
    /// A time budget is used up.
    Budget {
        /// Which: `step`, `area`, `session` or `day`.
        budget: String,
        /// Word of the owner.
        owner: String,
        /// The whole of it, µs.
        limit_us: u64,
    },
    /// The area rests between two bouts.
    Rest {
        /// How much longer, µs.
        left_us: u64,
    },
    /// TENS was on the area lately.
    Numb {
        /// How long ago at least, µs.
        ago_us: u64,
    },
    /// An uncertain interval on the area or of the unit is not resolved.
    Unresolved {
        /// Its session; absent: this one.
        #[serde(skip_serializing_if = "Option::is_none")]
        of: Option<String>,
        /// Its dose.
        dose: u64,
    },
    /// A resolution outside the two bounds.
    OutsideBounds {
        /// Output time, least, µs.
        on_min_us: u64,
        /// Output time, most, µs.
        on_max_us: u64,
    },
    /// The plan's sessions of the week are used up.
    Course {
        /// Given in the seven days up to today.
        sessions: u8,
        /// Allowed.
        allowed: u8,
    },
    /// Percussion beside stimulation, too near or at no measured distance.
    Distance {
        /// Entered, mm.
        #[serde(skip_serializing_if = "Option::is_none")]
        entered_mm: Option<u32>,
    },
    /// The unit cannot be driven.
    Unit {
        /// Why, in words.
        why: String,
    },
    /// No such step.
    NoSuchStep {
        /// Asked.
        step: u8,
    },
}

impl From<&Refusal> for Why {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Limit { asked, allowed, owner, kind, said, unchanged } => Self::Limit {
                asked: (*asked).into(),
                allowed: (*allowed).into(),
                owner: owner.word().to_owned(),
                limit: (*kind).to_owned(),
                said: said.clone(),
                unchanged: (*unchanged).into(),
            },
            Refusal::Interlock(open) => Self::Interlock { open: interlock_word(*open).to_owned() },
            Refusal::Stopped { generation } => Self::Stopped { generation: generation.0 },
            Refusal::NotProven { device } => Self::NotProven { device: device.0 },
            Refusal::State { why } => Self::State { why: (*why).to_owned() },
            Refusal::Locked { left } => Self::Locked { left_us: duration_micros(*left) },
            Refusal::LockedOut { device, cause, left } => Self::LockedOut {
                device: device.0,
                cause: cause.code().to_owned(),
                left_us: duration_micros(*left),
            },
            Refusal::BelowFloor { asked, floor } => {
                Self::BelowFloor { asked: (*asked).into(), floor: (*floor).into() }
            }
            Refusal::Stale => Self::Stale {},
            Refusal::TooSlow => Self::TooSlow {},
            Refusal::Pattern { what } => Self::Pattern { what: what.clone() },
            Refusal::Budget { budget, owner, said: _, limit } => Self::Budget {
                budget: budget.word().to_owned(),
                owner: owner.word().to_owned(),
                limit_us: duration_micros(*limit),
            },
            Refusal::Rest { left } => Self::Rest { left_us: duration_micros(*left) },
            Refusal::Numb { ago } => Self::Numb { ago_us: duration_micros(*ago) },
            Refusal::Unresolved { of, .. } => {
                Self::Unresolved { of: of.session.as_ref().map(text_of), dose: of.dose.0 }
            }
            Refusal::OutsideBounds { on: (least, most) } => {
                Self::OutsideBounds { on_min_us: duration_micros(*least), on_max_us: duration_micros(*most) }
            }
            Refusal::Course { sessions, allowed } => Self::Course { sessions: *sessions, allowed: *allowed },
            Refusal::Distance { entered } => {
                Self::Distance { entered_mm: entered.map(Centimetres::millimetres) }
            }
            Refusal::Unit { why } => Self::Unit { why: why.clone() },
            Refusal::NoSuchStep { step } => Self::NoSuchStep { step: *step },
        }
    }
}

fn text_of(session: &SessionId) -> String {
    session.as_str().to_owned()
}

const fn interlock_word(interlock: Interlock) -> &'static str {
    match interlock {
        Interlock::OperatorPresent => "operator_present",
        Interlock::LinkFresh => "link_fresh",
        Interlock::RecordDurable => "record_durable",
        Interlock::ContactOk => "contact_ok",
        Interlock::ClockSane => "clock_sane",
        Interlock::GuardPresent => "guard_present",
        Interlock::GuardHolds => "guard_holds",
        Interlock::ReadBack => "read_back",
        Interlock::AlarmTested => "alarm_tested",
        Interlock::HeldByPerson => "held_by_person",
        Interlock::StopsByItself => "stops_by_itself",
        Interlock::Battery => "battery",
    }
}

/// Why an epoch ended, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EndCause {
    /// Electrode error.
    LeadOff {
        /// On this output.
        channel: u8,
    },
    /// Pulse time-out or low current.
    PulseError {
        /// On this output.
        channel: u8,
    },
    /// A result other than 0.
    Result {
        /// The result.
        code: u8,
    },
    /// A rising frame was not acknowledged.
    LostAcknowledgement {},
    /// No acknowledged keep-alive for a second.
    KeepAliveLost {},
    /// The unit is in another state than it should be.
    UnexpectedStatus {},
    /// The link is gone.
    Disconnected {},
    /// It was stopped.
    Stopped {},
    /// The lease ended.
    LeaseEnded {},
}

impl From<EpochEnd> for EndCause {
    fn from(end: EpochEnd) -> Self {
        match end {
            EpochEnd::LeadOff(channel) => Self::LeadOff { channel: channel.0 },
            EpochEnd::PulseError(channel) => Self::PulseError { channel: channel.0 },
            EpochEnd::Result(code) => Self::Result { code },
            EpochEnd::LostAcknowledgement => Self::LostAcknowledgement {},
            EpochEnd::KeepAliveLost => Self::KeepAliveLost {},
            EpochEnd::UnexpectedStatus => Self::UnexpectedStatus {},
            EpochEnd::Disconnected => Self::Disconnected {},
            EpochEnd::Stopped => Self::Stopped {},
            EpochEnd::LeaseEnded => Self::LeaseEnded {},
        }
    }
}

/// How far a stop is, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HowFar {
    /// On the wire.
    Written,
    /// Proven.
    Confirmed,
    /// Not proven after a second.
    Unconfirmed,
}

impl From<StopProgress> for HowFar {
    fn from(progress: StopProgress) -> Self {
        match progress {
            StopProgress::Written => Self::Written,
            StopProgress::Confirmed => Self::Confirmed,
            StopProgress::Unconfirmed => Self::Unconfirmed,
        }
    }
}

/// What was done at the unit itself, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AtUnit {
    /// Running though stopped.
    Started {
        /// How much.
        at: Amount,
    },
    /// Stopped though running.
    Stopped {},
    /// Lower than commanded.
    Lowered {
        /// How much.
        to: Amount,
    },
    /// Higher than commanded.
    Raised {
        /// How much.
        to: Amount,
    },
    /// Changed where its own button may.
    Changed {
        /// How much.
        to: Amount,
    },
}

impl From<OwnButton> for AtUnit {
    fn from(what: OwnButton) -> Self {
        match what {
            OwnButton::Started(at) => Self::Started { at: at.into() },
            OwnButton::Stopped => Self::Stopped {},
            OwnButton::Lowered(to) => Self::Lowered { to: to.into() },
            OwnButton::Raised(to) => Self::Raised { to: to.into() },
            OwnButton::Changed(to) => Self::Changed { to: to.into() },
        }
    }
}

/// An alarm that was seen, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenAlarm {
    /// Code of the cause.
    pub cause: String,
    /// Unit, when one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<u8>,
    /// Output, when one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<u8>,
}

impl From<&Alarm> for SeenAlarm {
    fn from(alarm: &Alarm) -> Self {
        Self {
            cause: alarm.cause.code().to_owned(),
            device: alarm.device.map(|device| device.0),
            channel: alarm.channel.map(|channel| channel.0),
        }
    }
}

/// What a `recovered` entry rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestsOn {
    /// The progress row of a running dose.
    Progress,
    /// A dose on record after which nothing proves that output ended.
    Dose,
    /// An intent without an outcome: it counts as sent.
    Intent,
}

/// Why a session was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SealReason {
    /// The session was closed.
    Closed,
    /// The daemon that ran it died; a later one recovered what is known.
    DaemonRestart,
}

/// The body of an entry. The kind of the entry is the variant's name in snake case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "fields mirror `governor::Entry` and `SessionHead`, which say what each means"
)]
pub enum Body {
    /// First entry of a session.
    Open {
        plan_id: String,
        plan_title: String,
        client: String,
        plan_sha256: String,
        files: Vec<FileDigest>,
        simulated: bool,
        software: String,
        mono_origin_us: u64,
        /// Which boot of the machine `mono_origin_us` is of.
        #[serde(skip_serializing_if = "Option::is_none")]
        boot: Option<String>,
        devices: Vec<HeadDevice>,
        steps: Vec<HeadStep>,
    },
    /// Identity read back.
    ReadBack { by: By, client: String },
    /// A step was armed.
    Armed { step: u8, by: By, epoch: u32 },
    /// A step begins beside another.
    Beside { by: By, step: u8, other: u8, distance_mm: u32 },
    /// A dose from elsewhere today, as the therapist declares it.
    Declared { by: By, modality: String, area: String, side: String, time_us: u64 },
    /// Why one more session than the plan has a week.
    BeyondCourse { by: By, sessions: u8, reason: String },
    /// The wall clock is behind the record, and somebody says that it is right all the same.
    ClockConfirmed { by: By },
    /// Sensation on an area has returned after TENS.
    SensationReturned { by: By, step: u8 },
    /// A step ends because a budget is used up.
    BudgetUsed { step: u8, budget: String, owner: String, limit_us: u64 },
    /// A later source narrows an uncertain interval: `dose` is what is known of it from then on.
    Narrowed {
        /// Session of the dose; absent: this one.
        #[serde(skip_serializing_if = "Option::is_none")]
        of: Option<String>,
        /// What it rests on, for example `guard_journal`.
        source: String,
        dose: Box<DoseBody>,
    },
    /// A person resolved an uncertain interval: this much counts from then on.
    Resolved {
        by: By,
        /// Session of the dose; absent: this one.
        #[serde(skip_serializing_if = "Option::is_none")]
        of: Option<String>,
        dose: u64,
        on_min_us: u64,
        on_max_us: u64,
        gave_us: u64,
        reason: String,
    },
    /// A rise is about to happen.
    Intent {
        request: u64,
        by: By,
        step: u8,
        device: u8,
        channel: u8,
        from: Amount,
        to: Drive,
        limit: Bound,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// An intent that led to no byte.
    IntentVoid { intent: u64, why: Why },
    /// Lowered, held, resumed or finished by a person.
    Acted { by: By, step: u8, what: String, to: Amount },
    /// A request was refused.
    Refused {
        request: u64,
        by: By,
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<u8>,
        why: Why,
    },
    /// Output of a step ended or was ordered to end.
    Stopped { step: u8, reason: String, generation: u64 },
    /// Output of a step went to zero and may be resumed from zero.
    Held { step: u8, reason: String, generation: u64 },
    /// STOP ALL.
    StopAll { by: By, reason: String, generation: u64 },
    /// How far a unit's stop is.
    StopProgress { device: u8, generation: u64, progress: HowFar, after_us: u64 },
    /// The latch was cleared.
    Reset { by: By, generation: u64 },
    /// A person stated that a unit was stopped by hand.
    StatedStopped { by: By, device: u8 },
    /// Discomfort.
    Comfort { by: By, step: u8, score: u8, to: Amount },
    /// The operator's own limit.
    OperatorLimit {
        by: By,
        step: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<Amount>,
    },
    /// The link of a unit.
    Link { device: u8, up: bool },
    /// What a unit says it is.
    Identity { device: u8, model: String, serial: String, firmware: String },
    /// Which stop frame stopped a unit.
    StopLearnt { device: u8, frame: String },
    /// An epoch ended.
    EpochEnded { device: u8, epoch: u32, cause: EndCause },
    /// A unit's own button.
    OwnButton { device: u8, what: AtUnit },
    /// Charge of a unit, percent.
    Battery { device: u8, percent: u8 },
    /// One dose.
    Dose(Box<DoseBody>),
    /// An alarm came or left.
    Alarm {
        cause: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        device: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        channel: Option<u8>,
        raised: bool,
    },
    /// A person has seen alarms; `quiet_us` 0: they sound on.
    AlarmsSeen { by: By, alarms: Vec<SeenAlarm>, quiet_us: u64 },
    /// Whether the box can sound an alarm: `untested`, `heard`, `log`, `failing`.
    AlarmOutput { state: String },
    /// A person has tried the alarm: which player, and whether every sound was heard.
    AlarmTest { by: By, player: String, heard: bool },
    /// A unit was stopped three times within ten minutes for the same cause.
    LockedOut { device: u8, cause: String, left_us: u64 },
    /// A gun was pressed too hard for so long that something was done.
    Force { step: u8, force_raw: u32, max_raw: u32, to: Amount },
    /// The operator's lease.
    Lease { alive: bool },
    /// Something that should not be.
    Anomaly { device: u8, what: String },
    /// What may have been given after the last durable word, found after a crash.
    Recovered {
        rests_on: RestsOn,
        /// The intent it rests on, when one.
        #[serde(skip_serializing_if = "Option::is_none")]
        intent: Option<u64>,
        dose: Box<DoseBody>,
    },
    /// What the guard process did when the daemon died or hung; recovery takes it from the guard's journal.
    Guard {
        /// Why, as a code.
        why: String,
        /// Why, in words.
        said: String,
        /// When it took over.
        at_us: u64,
        units: Vec<GuardUnit>,
    },
    /// Last entry of a session.
    Seal { reason: SealReason, entries: u64, totals: Vec<Total> },
}

/// One unit that the guard process stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardUnit {
    /// Its label.
    pub unit: String,
    /// Its first stop was written then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_stop_us: Option<u64>,
    /// A reply proved the stop then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed_us: Option<u64>,
}

impl GuardUnit {
    /// Returns how its stop went, for a person; `since_us` is when the guard began, on the same clock.
    pub fn words(&self, since_us: u64) -> String {
        let after = |at: u64| match at.saturating_sub(since_us) / 1000 {
            0 => "at once".to_owned(),
            ms @ 1..2000 => format!("after {ms} ms"),
            ms => format!("after {}.{} s", ms / 1000, ms % 1000 / 100),
        };
        match (self.first_stop_us, self.confirmed_us) {
            (Some(first), Some(proven)) => {
                format!("{}: told to stop {}, seen to stop {}", self.unit, after(first), after(proven))
            }
            (Some(first), None) => {
                format!("{}: told to stop {}; never seen to stop", self.unit, after(first))
            }
            (None, _) => format!("{}: could not be told to stop", self.unit),
        }
    }
}

impl Body {
    /// Returns the kind and the canonical text.
    ///
    /// # Errors
    /// Never for a value of this type; the JSON library could say no.
    pub fn write(&self) -> Result<(String, String), BodyError> {
        let json = |source| BodyError::Json { kind: "any".to_owned(), source };
        let text = serde_json::to_string(self).map_err(json)?;
        let inner = text.strip_prefix("{\"").and_then(|rest| rest.strip_suffix('}'));
        inner
            .and_then(|inner| inner.split_once("\":"))
            .map(|(kind, body)| (kind.to_owned(), body.to_owned()))
            .ok_or_else(|| BodyError::Word { what: "entry", found: text.clone() })
    }

    /// Reads a body of the given kind.
    ///
    /// # Errors
    /// When the kind is unknown or the text is not what it should hold.
    pub fn read(kind: &str, body: &str) -> Result<Self, BodyError> {
        if !kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return Err(BodyError::Word { what: "kind of entry", found: kind.to_owned() });
        }
        serde_json::from_str(&format!("{{\"{kind}\":{body}}}"))
            .map_err(|source| BodyError::Json { kind: kind.to_owned(), source })
    }

    /// Returns the dose that the entry holds, if it does.
    pub fn dose(&self) -> Option<&DoseBody> {
        if let Self::Dose(dose) | Self::Recovered { dose, .. } = self { Some(dose) } else { None }
    }
}

impl From<&SessionHead> for Body {
    fn from(head: &SessionHead) -> Self {
        let digest =
            |(name, sha256): &(String, String)| FileDigest { name: name.clone(), sha256: sha256.clone() };
        Self::Open {
            plan_id: head.plan_id.clone(),
            plan_title: head.plan_title.clone(),
            client: head.client.as_str().to_owned(),
            plan_sha256: head.plan_digest.clone(),
            files: head.file_digests.iter().map(digest).collect(),
            simulated: head.simulated,
            software: head.software.clone(),
            mono_origin_us: head.mono_origin_us,
            boot: head.boot.clone(),
            devices: head.devices.clone(),
            steps: head.steps.clone(),
        }
    }
}

impl From<&Entry> for Body {
    #[expect(clippy::too_many_lines, reason = "a table: one arm per kind of entry")]
    fn from(entry: &Entry) -> Self {
        match entry {
            Entry::ReadBack { by, client } => {
                Self::ReadBack { by: by.into(), client: client.as_str().to_owned() }
            }
            Entry::Armed { step, by, epoch } => Self::Armed { step: *step, by: by.into(), epoch: epoch.0 },
            Entry::Beside { by, step, other, distance } => Self::Beside {
                by: by.into(),
                step: *step,
                other: *other,
                distance_mm: distance.millimetres(),
            },
            Entry::Declared { by, declared } => Self::Declared {
                by: by.into(),
                modality: declared.modality.word().to_owned(),
                area: declared.place.area.as_str().to_owned(),
                side: declared.place.side.word().to_owned(),
                time_us: duration_micros(declared.time),
            },
            Entry::BeyondCourse { by, sessions, reason } => {
                Self::BeyondCourse { by: by.into(), sessions: *sessions, reason: reason.clone() }
            }
            Entry::ClockConfirmed { by } => Self::ClockConfirmed { by: by.into() },
            Entry::SensationReturned { by, step } => Self::SensationReturned { by: by.into(), step: *step },
            Entry::BudgetUsed { step, budget, owner, limit } => Self::BudgetUsed {
                step: *step,
                budget: budget.word().to_owned(),
                owner: owner.word().to_owned(),
                limit_us: duration_micros(*limit),
            },
            Entry::Ended { device: _, of, dose, zero_by, most: _ } => {
                let dose = DoseBody::from(dose.as_ref());
                let narrower = settle::narrow(&dose, Knowledge::ZeroBy(*zero_by)).unwrap_or(dose);
                let source = NarrowedBy::StopProven.word().to_owned();
                Self::Narrowed { of: of.session.as_ref().map(text_of), source, dose: Box::new(narrower) }
            }
            Entry::Resolved { by, of, shown: (least, most), gave, reason } => Self::Resolved {
                by: by.into(),
                of: of.session.as_ref().map(text_of),
                dose: of.dose.0,
                on_min_us: duration_micros(*least),
                on_max_us: duration_micros(*most),
                gave_us: duration_micros(*gave),
                reason: reason.clone(),
            },
            Entry::Intent { request, by, step, device, channel, from, to, limit, reason } => Self::Intent {
                request: request.0,
                by: by.into(),
                step: *step,
                device: device.0,
                channel: channel.0,
                from: (*from).into(),
                to: (*to).into(),
                limit: Bound { owner: limit.0.word().to_owned(), max: limit.1.into() },
                reason: reason.clone(),
            },
            Entry::IntentVoid { intent, why } => Self::IntentVoid { intent: intent.0, why: why.into() },
            Entry::Acted { by, step, what, to } => {
                Self::Acted { by: by.into(), step: *step, what: (*what).to_owned(), to: (*to).into() }
            }
            Entry::Refused { request, by, step, why } => {
                Self::Refused { request: request.0, by: by.into(), step: *step, why: why.into() }
            }
            Entry::Stopped { step, reason, generation } => {
                Self::Stopped { step: *step, reason: reason.code().to_owned(), generation: generation.0 }
            }
            Entry::Held { step, reason, generation } => {
                Self::Held { step: *step, reason: reason.code().to_owned(), generation: generation.0 }
            }
            Entry::StopAll { by, reason, generation } => {
                Self::StopAll { by: by.into(), reason: reason.code().to_owned(), generation: generation.0 }
            }
            Entry::StopProgress { device, generation, progress, after } => Self::StopProgress {
                device: device.0,
                generation: generation.0,
                progress: (*progress).into(),
                after_us: duration_micros(*after),
            },
            Entry::Reset { by, generation } => Self::Reset { by: by.into(), generation: generation.0 },
            Entry::StatedStopped { by, device } => Self::StatedStopped { by: by.into(), device: device.0 },
            Entry::Comfort { by, step, score, to } => {
                Self::Comfort { by: by.into(), step: *step, score: score.score(), to: (*to).into() }
            }
            Entry::OperatorLimit { by, step, limit } => {
                Self::OperatorLimit { by: by.into(), step: *step, limit: limit.map(Amount::from) }
            }
            Entry::Link { device, up } => Self::Link { device: device.0, up: *up },
            Entry::Identity { device, identity } => Self::Identity {
                device: device.0,
                model: identity.model.clone(),
                serial: identity.serial.clone(),
                firmware: identity.firmware.clone(),
            },
            Entry::StopLearnt { device, frame } => {
                Self::StopLearnt { device: device.0, frame: frame.clone() }
            }
            Entry::EpochEnded { device, epoch, cause } => {
                Self::EpochEnded { device: device.0, epoch: epoch.0, cause: (*cause).into() }
            }
            Entry::OwnButton { device, what } => Self::OwnButton { device: device.0, what: (*what).into() },
            Entry::Battery { device, percent } => Self::Battery { device: device.0, percent: *percent },
            Entry::Dose(dose) => Self::Dose(Box::new(dose.into())),
            Entry::Alarm { alarm, raised } => Self::Alarm {
                cause: alarm.cause.code().to_owned(),
                device: alarm.device.map(|device| device.0),
                channel: alarm.channel.map(|channel| channel.0),
                raised: *raised,
            },
            Entry::AlarmsSeen { by, alarms, quiet } => Self::AlarmsSeen {
                by: by.into(),
                alarms: alarms.iter().map(SeenAlarm::from).collect(),
                quiet_us: duration_micros(*quiet),
            },
            Entry::AlarmOutput { state } => Self::AlarmOutput { state: state.word().to_owned() },
            Entry::LockedOut { device, cause, left } => Self::LockedOut {
                device: device.0,
                cause: cause.code().to_owned(),
                left_us: duration_micros(*left),
            },
            Entry::Force { step, force, max, to } => {
                Self::Force { step: *step, force_raw: force.raw(), max_raw: max.raw(), to: (*to).into() }
            }
            Entry::Lease { alive } => Self::Lease { alive: *alive },
            Entry::Anomaly { device, what } => Self::Anomaly { device: device.0, what: what.clone() },
        }
    }
}
