//! Inputs put into chosen states, so that every kind of input meets every state of a step often enough to count.
//!
//! Each session has a seeded list of goals, a kind of input for a state. When a step enters a state with goals, they are
//! given while it lasts. What a unit would have to lie about is given in a form that a unit could say and mean.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Event, World};
use crate::alarm::Cause;
use crate::certify::inputs::{KINDS, STATES};
use crate::certify::person::actor;
use crate::certify::plans::pick;
use crate::governor::{Act, AlarmOutput, Entry, Input, RecordHealth, Resolution, Seq};
use crate::model::budget::DoseRef;
use crate::model::command::{CommandId, Epoch, Generation, Intensity};
use crate::model::dose::DoseId;
use crate::model::plan::Step;
use crate::model::report::{EpochEnd, Identity, OwnButton, Report, StopProgress};
use crate::model::session::{Discomfort, StopReason};
use crate::sim::Seeded;
use crate::units::RawForce;

/// Goals of a session.
const GOALS: u64 = 150;
/// Goals that are given in one visit of a short state, and at one time in a state that lasts.
const AT_ONCE: usize = 12;
const AT_ONCE_LASTING: usize = 4;
/// From this part of the session on units are found unusable, in the states of its goals; they stay so. Those that are
/// short are waited for from earlier on, in sessions that have no others.
const FINDS_FROM: f64 = 0.5;
const FINDS_SHORT_FROM: f64 = 0.3;
/// From this part of the session on it is closed in the state of its goal; late in it, in one that is less rare.
const CLOSES_FROM: f64 = 0.45;
const CLOSES_LATE_FROM: f64 = 0.75;
/// How often each state that lasts is one in which a unit is found unusable, and each state the one to be closed in: the
/// rarer, the oftener. Waiting or over is always some other step.
const FOUND_IN: [usize; 7] = [1, 2, 2, 2, 4, 4, 4];
const CLOSED_IN: [usize; 11] = [1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 5];
const CLOSED_LATE_IN: [usize; 7] = [1, 1, 2, 2, 2, 4, 4];

const FINISH: usize = 7;
/// Kinds that may take a step out of a state with output; see [`KINDS`].
const ENDS_OUTPUT: [usize; 25] =
    [5, 7, 8, 9, 10, 13, 16, 19, 20, 22, 23, 28, 29, 31, 33, 36, 38, 39, 41, 43, 44, 46, 48, 51, 53];
/// Kinds that meet running steps often without being goals.
const COMMON_IN_RUNNING: [usize; 16] = [3, 4, 5, 7, 9, 10, 11, 15, 16, 18, 20, 21, 24, 40, 42, 51];
/// Kinds that hardly ever do: twice as often a goal.
const RARE_IN_RUNNING: [usize; 13] = [13, 19, 28, 29, 31, 36, 38, 39, 41, 44, 46, 48, 53];

const ARMING: usize = 1;
const RUNNING: usize = 3;
const FINISHING: usize = 5;
const TICK: usize = 0;
const UNUSABLE: usize = 37;
const CLOSE: usize = 47;
const LOCKED_OUT: usize = 50;

/// The goals that are left.
#[derive(Debug)]
pub(super) struct Probes {
    random: Seeded,
    /// Kinds, by state.
    goals: Vec<Vec<usize>>,
    /// The newest epoch of each step.
    epochs: BTreeMap<u8, Epoch>,
    /// In which states units are still to be found unusable.
    unusable: Vec<usize>,
    /// From which part of the session on.
    finds_from: f64,
    /// In which state the session is closed, unless it ends before.
    closing: usize,
    /// In which one late in it.
    closing_late: usize,
}

impl Probes {
    pub(super) fn new(seed: u64, wanted: bool) -> Self {
        if !wanted {
            let goals = vec![Vec::new(); STATES.len()];
            let (random, epochs, unusable) = (Seeded::new(seed), BTreeMap::new(), Vec::new());
            return Self {
                random,
                goals,
                epochs,
                unusable,
                finds_from: FINDS_FROM,
                closing: usize::MAX,
                closing_late: usize::MAX,
            };
        }
        let mut random = Seeded::new(seed);
        let mut goals = vec![Vec::new(); STATES.len()];
        let kinds: Vec<usize> =
            (0..KINDS.len()).filter(|kind| ![TICK, CLOSE, UNUSABLE].contains(kind)).collect();
        for _ in 0..GOALS {
            if let Some(kind) = pick(&kinds, &mut random).and_then(|at| kinds.get(at))
                && let Some(at) = pick(&goals, &mut random)
                && let Some(list) = goals.get_mut(at)
                && !(at == RUNNING && COMMON_IN_RUNNING.contains(kind))
            {
                let times = if at == RUNNING && RARE_IN_RUNNING.contains(kind) { 2 } else { 1 };
                list.extend(std::iter::repeat_n(*kind, times));
            }
        }
        let mut one_of = |list: &[usize]| pick(list, &mut random).and_then(|at| list.get(at)).copied();
        let closing = one_of(&CLOSED_IN).unwrap_or(ARMING);
        let closing_late = one_of(&CLOSED_LATE_IN).unwrap_or(ARMING);
        // In some of the sessions, so that the others have their units to the end.
        let (unusable, finds_from) = match seed % 8 {
            0 => (vec![RUNNING, FINISHING], FINDS_SHORT_FROM),
            4 => (vec![FINISHING, RUNNING], FINDS_SHORT_FROM),
            1 | 2 | 6 => ((0..5).filter_map(|_| one_of(&FOUND_IN)).collect(), FINDS_FROM),
            _ => (Vec::new(), FINDS_FROM),
        };
        // What ends output comes last, taken from the end of the list.
        for state in [RUNNING, FINISHING] {
            if let Some(list) = goals.get_mut(state) {
                list.sort_by_key(|kind| !ENDS_OUTPUT.contains(kind));
            }
        }
        Self { random, goals, epochs: BTreeMap::new(), unusable, finds_from, closing, closing_late }
    }

    pub(super) fn entry(&mut self, entry: &Entry) {
        if let Entry::Armed { step, epoch, .. } = entry {
            self.epochs.insert(*step, *epoch);
        }
    }

    /// A step has entered a state; returns when its goals are to be given.
    pub(super) fn entered(&mut self, state: usize) -> Option<Duration> {
        self.goals.get(state).filter(|goals| !goals.is_empty())?;
        Some(match state {
            ARMING => self.random.span(Duration::from_micros(200), Duration::from_millis(25)),
            FINISHING => self.random.span(Duration::from_millis(1), Duration::from_millis(60)),
            _ => self.random.span(Duration::from_millis(5), Duration::from_secs(8)),
        })
    }

    fn take(&mut self, state: usize) -> Option<usize> {
        self.goals.get_mut(state)?.pop()
    }
}

impl World<'_> {
    /// Gives the goals of a state while a step is in it.
    pub(super) fn probe(&mut self, state: usize, step: usize) {
        let lasts = state != ARMING && state != FINISHING;
        for _ in 0..if lasts { AT_ONCE_LASTING } else { AT_ONCE } {
            if self.states.get(step) != Some(&state) || self.stalled {
                return;
            }
            let goal =
                if state == RUNNING && self.finishes() { Some(FINISH) } else { self.probes.take(state) };
            let Some(kind) = goal else {
                return;
            };
            self.give(kind, step);
        }
    }

    /// Returns whether a running step is brought to its end, which has goals and is short and rare by itself.
    fn finishes(&mut self) -> bool {
        let goals = self.probes.goals.get(FINISHING).is_some_and(|goals| !goals.is_empty());
        goals && self.probes.random.chance(390)
    }

    /// Gives a goal of some step's state now and then, also of states that last.
    pub(super) fn probe_now(&mut self) {
        self.end_in_states();
        if !self.probes.random.chance(150) {
            return;
        }
        if let Some(step) = pick(&self.states, &mut self.probes.random)
            && let Some(state) = self.states.get(step).copied()
        {
            self.probe(state, step);
        }
    }

    /// Near its end units are found unusable, and the session is closed, in the states of its goals.
    pub(super) fn end_in_states(&mut self) {
        let length = self.end.since(crate::units::Mono::ORIGIN);
        let from = |part: f64| crate::units::Mono::ORIGIN.saturating_add(length.mul_f64(part));
        if self.stalled || self.now < from(self.probes.finds_from) {
            return;
        }
        for goal in (0..self.probes.unusable.len()).rev() {
            if let Some(wanted) = self.probes.unusable.get(goal).copied()
                && let Some(step) = self.in_state(wanted)
            {
                self.probes.unusable.swap_remove(goal);
                self.give(UNUSABLE, step);
                break;
            }
        }
        if self.now >= from(CLOSES_LATE_FROM) {
            self.probes.closing = self.probes.closing_late;
        }
        if self.now >= from(CLOSES_FROM) && self.in_state(self.probes.closing).is_some() {
            self.closed = true;
            self.input(Input::Close);
        }
    }

    /// Returns a step in a state, when there is one; one that runs is brought to its end for the state that is rare.
    fn in_state(&mut self, wanted: usize) -> Option<usize> {
        if wanted == FINISHING
            && let Some(step) = self.states.iter().position(|state| *state == RUNNING)
        {
            self.give(FINISH, step);
        }
        self.states.iter().position(|state| *state == wanted)
    }

    /// Looks soon when a short state of a goal is entered.
    pub(super) fn entered(&mut self, step: usize, state: usize) {
        if let Some(delay) = self.probes.entered(state) {
            self.later(delay, Event::Probe { state, step });
        }
        let wanted = state == self.probes.closing || self.probes.unusable.contains(&state);
        if wanted && (state == ARMING || state == FINISHING) {
            self.later(Duration::from_millis(5), Event::Goal);
        }
    }

    fn give(&mut self, kind: usize, step: usize) {
        let Some(planned) = self.made.plan.steps.get(step).cloned() else {
            return;
        };
        self.say(|| format!("PROBE {} for step {}", KINDS.get(kind).copied().unwrap_or(""), planned.number));
        match kind {
            1..=15 | 51 | 54 | 55 => self.give_request(kind, &planned),
            16 => self.input(Input::Stop { by: actor(), reason: StopReason::EmergencyStop }),
            17..=37 | 52 | 53 | 56 => self.give_report(kind, &planned),
            // A link that comes up anew without having been seen to go.
            38 => self.link(usize::from(planned.device.0), true),
            39 => {
                let unit = usize::from(planned.device.0);
                self.input(Input::Link { device: planned.device, up: false });
                if self.units.get(unit).is_some_and(|unit| unit.up) {
                    self.link(unit, false);
                }
                self.later(Duration::from_millis(700), Event::LinkUp(unit));
            }
            40 => self.input(Input::Heartbeat { issued: self.now }),
            41 => self.input(Input::Unseen),
            42 => self.input(Input::Durable { seq: Seq(self.durable) }),
            43 => {
                self.set_health(RecordHealth::Slow);
                self.later(Duration::from_millis(300), Event::Undo(super::Undo::StuckDisk));
            }
            44 => {
                let present = self.probes.random.chance(500);
                self.input(Input::Guard { present });
                self.later(Duration::from_millis(300), Event::Undo(super::Undo::Guard));
            }
            45 => {
                self.input(Input::ClockSane(false));
                self.later(Duration::from_millis(300), Event::Undo(super::Undo::Clock));
            }
            46 => self.input(Input::Suspended),
            48 => {
                let holds = self.probes.random.chance(500);
                self.input(Input::GuardHolds { device: planned.device, holds });
                self.later(Duration::from_millis(300), Event::Undo(super::Undo::Guard));
            }
            49 => {
                self.input(Input::AlarmOutput(AlarmOutput::Untested));
                self.input(Input::AlarmOutput(AlarmOutput::Logged));
            }
            LOCKED_OUT => self.input(Input::LockedOut {
                device: planned.device,
                cause: Cause::LinkLost,
                left: Duration::from_secs(20),
            }),
            _ => {}
        }
    }

    fn give_request(&mut self, kind: usize, planned: &Step) {
        let step = planned.number;
        let level = self.governor.setpoint(step);
        let some = planned.target;
        let score = u8::try_from(self.probes.random.below(11)).unwrap_or(0);
        let reason = || Some("asked by the client".to_owned());
        let act = match kind {
            1 => Act::ReadBack { client: self.made.plan.client.clone() },
            2 => Act::Arm { step },
            3 => Act::Set { step, intensity: some.with_magnitude(up(some, level)), reason: reason() },
            4 => Act::Set { step, intensity: some.with_magnitude(level.saturating_mul(3) / 4), reason: None },
            5 => Act::Hold { step },
            6 => Act::Resume { step },
            7 => Act::Finish { step },
            8 => Act::StopStep { step },
            9 => match Discomfort::new(score) {
                Some(score) => Act::Comfort { step, score },
                None => Act::TooMuch { step },
            },
            10 => Act::TooMuch { step },
            11 => Act::OperatorLimit { step, limit: Some(some.with_magnitude(up(some, level))) },
            12 => Act::Reset { generation: Generation(self.probes.random.below(4)) },
            13 => {
                let stated = Act::StatedStopped { device: planned.device };
                // Of a unit that is driven it is refused; of one that was told to stop a person says what is seen.
                let driven = self.states.get(usize::from(step).saturating_sub(1));
                let driven = driven.is_some_and(|state| [RUNNING, FINISHING].contains(state));
                if driven { stated } else { self.oracle.seen(stated) }
            }
            14 => Act::AcknowledgeAlarms,
            51 => Act::ClientLess { step },
            54 => Act::SensationReturned { step },
            55 => {
                let open = self
                    .governor
                    .snapshot(self.now)
                    .unresolved
                    .first()
                    .map(|open| (open.of.clone(), open.on));
                let unknown = DoseRef { session: None, dose: DoseId(u64::MAX) };
                let (of, shown) = open.unwrap_or((unknown, (Duration::ZERO, Duration::ZERO)));
                Act::Resolve(Resolution { of, shown, gave: shown.1, reason: "seen to run on".to_owned() })
            }
            _ => Act::Present,
        };
        self.act(act);
    }

    fn give_report(&mut self, kind: usize, planned: &Step) {
        let unit = usize::from(planned.device.0);
        let Some(report) = self.probe_report(kind, planned) else {
            return;
        };
        self.oracle.fault(unit, self.now.saturating_add(Duration::from_secs(2)));
        self.report(unit, report);
    }

    fn probe_report(&self, kind: usize, planned: &Step) -> Option<Report> {
        let channel = planned.channel;
        let truth = self.oracle.gives_on(usize::from(planned.device.0), usize::from(channel.0));
        let given = planned.target.with_magnitude(truth);
        let gun = !matches!(planned.target, Intensity::Current(_));
        let after = Duration::from_millis(10);
        let stop = |progress| Report::Stop { generation: Generation(0), progress, after };
        let epoch = self.probes.epochs.get(&planned.number).copied().unwrap_or(Epoch(0));
        let settled = truth == self.governor.setpoint(planned.number);
        Some(match kind {
            17 => Report::Identity(Identity::default()),
            18 => Report::Alive,
            19 => Report::Ready { epoch: Epoch(u32::MAX) },
            20 => Report::EpochEnded { epoch, cause: EpochEnd::Result(3) },
            21 => Report::Acknowledged { id: CommandId(0) },
            22 => Report::Unacknowledged { id: CommandId(0) },
            23 => Report::Refused { id: CommandId(0), why: "a probe" },
            24 => Report::Measured { channel, running: truth > 0, intensity: gun.then_some(given) },
            25 => stop(StopProgress::Written),
            26 => stop(StopProgress::Confirmed),
            27 => stop(StopProgress::Unconfirmed),
            28 => Report::OwnButton(OwnButton::Started(given)),
            29 => Report::OwnButton(OwnButton::Stopped),
            30 if settled => Report::OwnButton(OwnButton::Lowered(given)),
            30 => return None,
            31 => Report::OwnButton(OwnButton::Raised(given)),
            32 => Report::Battery(60),
            33 => Report::LeaseEnded,
            34 => Report::DroppedLate,
            35 => Report::Clamped { asked: given, sent: given },
            36 => Report::Unintelligible { why: "a probe" },
            52 => Report::Force(RawForce::from_raw(10)),
            // In the state in which it is already.
            53 if settled => Report::OwnButton(OwnButton::Changed(given)),
            56 => Report::StopLearnt { frame: "a probe".to_owned() },
            37 => Report::Unusable { why: "a probe found it unusable".to_owned() },
            _ => return None,
        })
    }
}

/// One step more than `level`.
fn up(kind: Intensity, level: u32) -> u32 {
    match kind {
        Intensity::Current(_) => level.saturating_add(500),
        Intensity::Speed(_) => level.saturating_add(50).max(1_000),
        Intensity::Level(_) => level.saturating_add(1),
    }
}
