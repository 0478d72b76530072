//! What may have been given after the last durable word of a daemon that died. Pure: entries and progress rows in,
//! `recovered` entries out.
//!
//! Per output of a unit at most one interval, evidence uncertain. Its begin and lower bounds are those of the progress
//! row (or the end of the last dose on record, or the intent, with nothing as lower bound); its intensity is the
//! highest that an intent of this step allowed; its end is the first of: a stop that the record proves, a stop that the
//! guard proves, and [`UNHEARD_US`] plus the time that the unit runs on by itself.
//!
//! What this rests on, of the one who appends: an intent is durable before its first byte; a progress row (`done` or
//! not) is written within a second of every start from zero and every second after; `done` is written with or after
//! the dose that ends an output; when nothing can be made durable, outputs are down within five seconds.
//!
//! Invariant: the upper bounds contain the truth whatever the instant of the crash (SR-32, SR-43).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::session::SessionId;
use crate::record::entry::{
    Amount, Body, Bound, DoseBody, Drive, GuardUnit, HeadDevice, HeadStep, HowFar, RestsOn,
};

/// Longest time, µs, that output can have gone on under command after the last durable word of it: an intent is acted
/// on within 0.5 s, a progress row follows within 1 s, and a record that cannot be written takes outputs down within
/// 5 s (design 4).
pub const UNHEARD_US: u64 = 6_500_000;

/// A proof from outside the record that a unit was at zero: from the guard's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Label of the unit.
    pub unit: String,
    /// Instant, µs on the system's monotonic clock of the boot in which the session ran.
    pub zero_by_us: u64,
}

/// What the guard's journal says of one session: it took over from a daemon that died or hung. Instants are µs on the
/// system's monotonic clock of the boot in which the session ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardAct {
    /// The session.
    pub session: SessionId,
    /// Why, as a code.
    pub why: String,
    /// Why, in words.
    pub said: String,
    /// When.
    pub at_us: u64,
    /// The units that it stopped.
    pub units: Vec<GuardUnit>,
}

impl GuardAct {
    /// Returns what it proves: a unit that confirmed its stop was at zero then.
    pub(crate) fn proofs(&self) -> Vec<Proof> {
        let proven =
            |unit: &GuardUnit| Some(Proof { unit: unit.unit.clone(), zero_by_us: unit.confirmed_us? });
        self.units.iter().filter_map(proven).collect()
    }

    /// Returns its entry, on the clock of a session that began at `origin`.
    pub(crate) fn body(&self, origin: u64) -> Body {
        let own = |at: u64| at.saturating_sub(origin);
        let unit = |unit: &GuardUnit| GuardUnit {
            unit: unit.unit.clone(),
            first_stop_us: unit.first_stop_us.map(own),
            confirmed_us: unit.confirmed_us.map(own),
        };
        Body::Guard {
            why: self.why.clone(),
            said: self.said.clone(),
            at_us: own(self.at_us),
            units: self.units.iter().map(unit).collect(),
        }
    }
}

/// A progress row as it is stored beside the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProgressRow {
    /// Unit.
    pub(crate) device: u8,
    /// Output.
    pub(crate) channel: u8,
    /// The output was at proven zero.
    pub(crate) done: bool,
    /// Newest entry when the row was written.
    pub(crate) after_seq: u64,
    /// The running dose; of a `done` row that never ran, none.
    pub(crate) dose: Option<DoseBody>,
}

/// One entry, read.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) seq: u64,
    pub(crate) mono_us: u64,
    pub(crate) body: Body,
}

/// Returns one `recovered` body for every output that is not known to have been at zero.
pub(crate) fn uncertain(entries: &[Read], rows: &[ProgressRow], proofs: &[Proof]) -> Vec<Body> {
    let mut story = Story::default();
    for entry in entries {
        story.read(entry);
    }
    for row in rows {
        story.tracks.entry((row.device, row.channel)).or_default();
        story.newest_id = story.newest_id.max(row.dose.as_ref().map_or(0, |dose| dose.id));
    }
    let outputs: Vec<_> = story.tracks.keys().copied().collect();
    let mut found = Vec::new();
    for output in outputs {
        let row = rows.iter().find(|row| (row.device, row.channel) == output);
        found.extend(story.open_end(output, row, proofs));
    }
    found
}

/// Returns one `recovered` body for every row that is not done: the governor lives and vouches for the rest.
pub(crate) fn unfinished(entries: &[Read], rows: &[ProgressRow]) -> Vec<Body> {
    let open: BTreeSet<_> =
        rows.iter().filter(|row| !row.done).map(|row| (row.device, row.channel)).collect();
    let all = uncertain(entries, rows, &[]);
    all.into_iter()
        .filter(|body| body.dose().is_some_and(|dose| open.contains(&(dose.device, dose.channel))))
        .collect()
}

/// What the entries of a session say that matters here.
#[derive(Debug, Default)]
struct Story {
    mono_origin_us: u64,
    devices: Vec<HeadDevice>,
    steps: Vec<HeadStep>,
    tracks: BTreeMap<(u8, u8), Track>,
    /// Newest entry that ended a step.
    ended: BTreeMap<u8, u64>,
    /// Newest arming of a step: entry and epoch.
    epochs: BTreeMap<u8, (u64, u32)>,
    /// Newest proven stop of a unit: entry and instant.
    proven: BTreeMap<u8, (u64, u64)>,
    doses: BTreeSet<u64>,
    newest_id: u64,
}

/// What the entries say of one output.
#[derive(Debug, Default)]
struct Track {
    intents: Vec<Intent>,
    last: Option<(u64, DoseBody)>,
}

#[derive(Clone, Debug)]
struct Intent {
    seq: u64,
    mono_us: u64,
    step: u8,
    to: Drive,
    limit: Bound,
}

/// Where an uncertain interval begins, and what is known at its begin.
struct Begin {
    rests_on: RestsOn,
    dose: DoseBody,
    /// Newest instant at which something durable speaks of this output.
    heard_us: u64,
    /// How long from then on it may rest and still rise again, µs.
    rest_us: u64,
    /// Newest entry that speaks of it.
    heard_seq: u64,
}

impl Story {
    fn read(&mut self, entry: &Read) {
        let (seq, mono_us) = (entry.seq, entry.mono_us);
        if let Body::Open { mono_origin_us, devices, steps, .. } = &entry.body {
            self.mono_origin_us = *mono_origin_us;
            self.devices.clone_from(devices);
            self.steps.clone_from(steps);
        } else if let Body::Intent { step, device, channel, to, limit, .. } = &entry.body {
            let intent = Intent { seq, mono_us, step: *step, to: *to, limit: limit.clone() };
            self.tracks.entry((*device, *channel)).or_default().intents.push(intent);
        } else if let Body::IntentVoid { intent, .. } = &entry.body {
            self.tracks.values_mut().for_each(|track| track.intents.retain(|known| known.seq != *intent));
        } else if let Body::Armed { step, epoch, .. } = &entry.body {
            self.epochs.insert(*step, (seq, *epoch));
        } else if let Some(dose) = entry.body.dose() {
            self.doses.insert(dose.id);
            self.newest_id = self.newest_id.max(dose.id);
            self.tracks.entry((dose.device, dose.channel)).or_default().last = Some((seq, dose.clone()));
        } else {
            self.read_end(entry);
        }
    }

    /// Takes in what ends output or proves that it ended.
    fn read_end(&mut self, entry: &Read) {
        let zero = |to: &Amount| to.magnitude() == 0;
        if let Body::Stopped { step, .. } | Body::Held { step, .. } = &entry.body {
            self.ended.insert(*step, entry.seq);
        } else if let Body::Acted { step, to, .. } | Body::Comfort { step, to, .. } = &entry.body {
            if zero(to) {
                self.ended.insert(*step, entry.seq);
            }
        } else if let Body::StopAll { .. } = &entry.body {
            self.ended.extend(self.steps.iter().map(|step| (step.number, entry.seq)));
        } else if let Body::EpochEnded { device, .. } = &entry.body {
            let of_device = self.steps.iter().filter(|step| step.device == *device);
            self.ended.extend(of_device.map(|step| (step.number, entry.seq)));
        } else if let Body::StopProgress { device, progress: HowFar::Confirmed, .. } = &entry.body {
            self.proven.insert(*device, (entry.seq, entry.mono_us));
        }
    }

    /// Returns the uncertain interval of one output, if its end is not known.
    fn open_end(&mut self, output: (u8, u8), row: Option<&ProgressRow>, proofs: &[Proof]) -> Option<Body> {
        let track = self.tracks.get(&output)?;
        let begin = self.begin(output, track, row)?;
        let until = self.end(output.0, &begin, proofs).max(begin.dose.until_us);
        let Begin { rests_on, mut dose, .. } = begin;
        if until == dose.until_us && rests_on != RestsOn::Progress {
            return None;
        }
        let last = track.intents.last().map(|intent| intent.seq);
        let armed = self.epochs.get(&dose.step).map_or(0, |(seq, _)| *seq);
        let own =
            |intent: &&Intent| intent.step == dose.step && intent.seq > armed || Some(intent.seq) == last;
        dose.upper =
            track.intents.iter().filter(own).fold(dose.upper, |upper, intent| widest(upper, intent.to));
        let intent = last;
        run_on(&mut dose, until);
        if self.doses.contains(&dose.id) || dose.id == 0 {
            self.newest_id = self.newest_id.saturating_add(1);
            dose.id = self.newest_id;
        }
        self.doses.insert(dose.id);
        Some(Body::Recovered { rests_on, intent, dose: Box::new(dose) })
    }

    /// Returns where the uncertain interval begins; `None`: the output is known to have been at zero.
    fn begin(&self, output: (u8, u8), track: &Track, row: Option<&ProgressRow>) -> Option<Begin> {
        let running = row.filter(|row| !row.done);
        if let Some((row, dose)) = running.and_then(|row| Some((row, row.dose.clone()?))) {
            if !self.doses.contains(&dose.id) {
                return Some(self.since(RestsOn::Progress, dose, track, row.after_seq));
            }
            let (seq, last) = track.last.clone().unwrap_or((row.after_seq, dose));
            let mut begin = self.since(RestsOn::Dose, nothing_of(last), track, seq.max(row.after_seq));
            begin.rest_us = self.rest_us(begin.dose.step);
            return Some(begin);
        }
        let intent = track.intents.last()?;
        let done = row.filter(|row| row.done && row.after_seq >= intent.seq);
        if done.is_some() && !self.cycles_on(intent) {
            return None;
        }
        if let Some((seq, last)) = track.last.clone().filter(|(seq, _)| *seq > intent.seq) {
            let proven = self
                .proven
                .get(&output.0)
                .is_some_and(|(proven, at)| *proven > intent.seq && *at <= last.until_us);
            if proven && !self.cycles_on(intent) {
                return None;
            }
            let mut begin = self.since(RestsOn::Dose, nothing_of(last), track, seq);
            begin.rest_us = self.rest_us(intent.step);
            return Some(begin);
        }
        let dose = self.nothing_yet(output, intent)?;
        let mut begin = self.since(RestsOn::Intent, dose, track, intent.seq);
        if done.is_some() {
            begin.rest_us = self.rest_us(intent.step);
        }
        Some(begin)
    }

    fn since(&self, rests_on: RestsOn, dose: DoseBody, track: &Track, seq: u64) -> Begin {
        let newest = track.intents.last();
        Begin {
            rests_on,
            heard_us: newest.map_or(0, |intent| intent.mono_us).max(dose.until_us),
            rest_us: 0,
            heard_seq: newest.map_or(0, |intent| intent.seq).max(seq),
            dose,
        }
    }

    /// Returns whether the intent's program may have risen again from its rest without a new intent.
    fn cycles_on(&self, intent: &Intent) -> bool {
        let ended = self.ended.get(&intent.step).is_some_and(|seq| *seq > intent.seq);
        !ended && self.rest_us(intent.step) > 0
    }

    /// Returns the rest of the step's ON:OFF cycle, µs; 0 when it has none.
    fn rest_us(&self, step: u8) -> u64 {
        let step = self.steps.iter().find(|known| known.number == step);
        let cycle = step.and_then(|step| step.stimulation.as_ref()).and_then(|pulses| pulses.cycle.as_ref());
        cycle.map_or(0, |cycle| cycle.off_us)
    }

    /// Returns the first of: proven by the record, proven by the guard, the unit's own end.
    fn end(&self, device: u8, begin: &Begin, proofs: &[Proof]) -> u64 {
        let unit = self.devices.get(usize::from(device));
        let runs_on = unit.map_or(u64::MAX / 4, |unit| unit.runs_on_us);
        let tail = unit.map_or(0, |unit| unit.stop_tail_us);
        let rises_by = begin.heard_us.saturating_add(begin.rest_us);
        let own = rises_by.saturating_add(UNHEARD_US).saturating_add(runs_on);
        let recorded = self
            .proven
            .get(&device)
            .filter(|(seq, _)| *seq > begin.heard_seq)
            .map(|(_, at)| at.saturating_add(tail));
        let guarded = proofs
            .iter()
            .filter(|proof| unit.is_some_and(|unit| unit.label == proof.unit))
            .map(|proof| proof.zero_by_us.saturating_sub(self.mono_origin_us))
            .filter(|at| *at >= begin.heard_us)
            .min()
            .map(|at| at.saturating_add(tail));
        [Some(own), recorded, guarded].into_iter().flatten().min().unwrap_or(own)
    }

    /// Returns an empty dose at the instant of an intent.
    fn nothing_yet(&self, output: (u8, u8), intent: &Intent) -> Option<DoseBody> {
        let step = self.steps.iter().find(|step| step.number == intent.step)?;
        let percussion = step.stimulation.is_none();
        Some(nothing_of(DoseBody {
            id: 0,
            step: intent.step,
            device: output.0,
            channel: output.1,
            epoch: self.epochs.get(&intent.step).map_or(0, |(_, epoch)| *epoch),
            modality: step.modality.clone(),
            area: step.area.clone(),
            side: step.side.clone(),
            from_us: intent.mono_us,
            until_us: intent.mono_us,
            upper: intent.to,
            lower: None,
            evidence: String::new(),
            on_min_us: 0,
            on_max_us: 0,
            pulses_min: 0,
            pulses_max: 0,
            charge_min_pc: 0,
            charge_max_pc: 0,
            speed_min_raw_us: 0,
            speed_max_raw_us: 0,
            limit: intent.limit.clone(),
            rate_basis: if percussion { "worst_case" } else { "none" }.to_owned(),
        }))
    }
}

/// Returns an empty dose that begins where `dose` ends.
fn nothing_of(dose: DoseBody) -> DoseBody {
    DoseBody {
        id: 0,
        from_us: dose.until_us,
        lower: None,
        on_min_us: 0,
        on_max_us: 0,
        pulses_min: 0,
        pulses_max: 0,
        charge_min_pc: 0,
        charge_max_pc: 0,
        speed_min_raw_us: 0,
        speed_max_raw_us: 0,
        ..dose
    }
}

/// Lets a dose run on to `until` at its upper setpoint, in its upper bounds only.
fn run_on(dose: &mut DoseBody, until: u64) {
    let more = until.saturating_sub(dose.until_us);
    dose.until_us = until;
    dose.lower = None;
    dose.evidence = crate::model::dose::Evidence::Uncertain.word().to_owned();
    dose.on_max_us = dose.on_max_us.saturating_add(more);
    match dose.upper {
        Drive::Pulses { current_ua, width_us, period_us } => {
            let pulses = more.checked_div(u64::from(period_us)).unwrap_or(more).saturating_add(1);
            let charge = u64::from(current_ua).saturating_mul(u64::from(width_us));
            dose.pulses_max = dose.pulses_max.saturating_add(pulses);
            dose.charge_max_pc = dose.charge_max_pc.saturating_add(pulses.saturating_mul(charge));
        }
        Drive::SpeedRaw(raw) => add_speed(dose, more, u64::from(raw)),
        Drive::Level(level) => add_speed(dose, more, u64::from(level)),
    }
}

fn add_speed(dose: &mut DoseBody, more_us: u64, number: u64) {
    dose.speed_max_raw_us = dose.speed_max_raw_us.saturating_add(more_us.saturating_mul(number));
}

/// Returns the setpoint that gives no less than either.
fn widest(one: Drive, other: Drive) -> Drive {
    match (one, other) {
        (
            Drive::Pulses { current_ua, width_us, period_us },
            Drive::Pulses { current_ua: current, width_us: width, period_us: period },
        ) => Drive::Pulses {
            current_ua: current_ua.max(current),
            width_us: width_us.max(width),
            period_us: period_us.min(period),
        },
        (Drive::SpeedRaw(raw), Drive::SpeedRaw(other)) => Drive::SpeedRaw(raw.max(other)),
        (Drive::Level(level), Drive::Level(other)) => Drive::Level(level.max(other)),
        // Two kinds on one output cannot be: the plan binds a step to one kind of unit.
        (Drive::Pulses { .. } | Drive::SpeedRaw(_) | Drive::Level(_), other) => other,
    }
}
