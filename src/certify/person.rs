//! The people of a certified session: a therapist who works through the plan and presses against every limit, a client
//! who feels too much now and then, and whims. Pure: a snapshot in, a gesture and the time until the next one out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plans::CLIENT;
use crate::alarm::Cause;
use crate::governor::{Act, Resolution, Snapshot, StepState, StepView, StopView};
use crate::model::command::{DeviceId, Generation, Intensity};
use crate::model::limit::LimitOwner;
use crate::model::plan::{ClientCode, Plan};
use crate::model::session::{Actor, Discomfort, StopReason};
use crate::sim::Seeded;
use crate::units::Mono;

/// Attempts at one step before the next one is tried.
const ATTEMPTS_MAX: u32 = 32;

/// What a person does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gesture {
    /// Nothing.
    Look,
    /// Asks, from the screen as it is.
    Ask(Act),
    /// Asks from a screen that is behind.
    AskStale(Act),
    /// Asks, and stops everything in the same moment.
    AskThenStop(Act),
    /// Asks twice with one number.
    AskTwice(Act),
    /// Stops everything.
    Stop(StopReason),
}

/// The people.
#[derive(Debug)]
pub(crate) struct Person {
    random: Seeded,
    /// The unit of each step.
    units: BTreeMap<u8, DeviceId>,
    attempts: BTreeMap<u8, u32>,
    /// Nobody does anything before then: a pause between steps, or the therapist is called away.
    idle_until: Mono,
    /// When the last step of the plan may begin.
    last_from: Mono,
    working_on: Option<u8>,
    /// Goes on as if nothing were stopped: which stop, and how often still.
    defied: Option<(Generation, u32)>,
}

/// Returns who acts.
pub(crate) fn actor() -> Actor {
    Actor { person: "T-01".to_owned(), screen: "certify".to_owned() }
}

impl Person {
    /// Makes the people of a session of this length.
    pub(crate) fn new(seed: u64, length: Duration, plan: &Plan) -> Self {
        let last = length.mul_f64(0.85);
        Self {
            random: Seeded::new(seed),
            units: plan.steps.iter().map(|step| (step.number, step.device)).collect(),
            attempts: BTreeMap::new(),
            idle_until: Mono::ORIGIN,
            last_from: Mono::ORIGIN.saturating_add(last),
            working_on: None,
            defied: None,
        }
    }

    /// Everything begins anew, for a daemon that has begun anew.
    pub(crate) fn restart(&mut self) {
        self.attempts.clear();
    }

    /// Looks at the screen; returns what is done and when to look again.
    pub(crate) fn next(&mut self, view: &Snapshot) -> (Gesture, Duration) {
        let soon = self.random.span(Duration::from_millis(250), Duration::from_millis(900));
        if let Some(generation) = view.latched {
            if self.defied.is_none_or(|(defied, _)| defied != generation) {
                let times = if self.random.chance(300) { 12 } else { 0 };
                self.defied = Some((generation, times));
            }
            match &mut self.defied {
                Some((_, times)) if *times > 0 => *times -= 1,
                Some(_) | None => return (self.reset(view, generation), soon * 2),
            }
        }
        let Some(step) = self.choose(view) else {
            let act = if self.random.chance(500) { Act::Present } else { Act::AcknowledgeAlarms };
            return (Gesture::Ask(act), self.random.span(Duration::from_secs(10), Duration::from_secs(60)));
        };
        if view.at < self.idle_until && step.state != StepState::Running {
            return (Gesture::Look, self.idle_until.since(view.at).min(Duration::from_secs(30)));
        }
        let number = step.number;
        match step.state {
            StepState::Waiting | StepState::Ended(_) => self.arm(view, number, soon),
            StepState::Armed => (self.set(step), soon),
            StepState::Held => {
                *self.attempts.entry(number).or_default() += 1;
                (Gesture::Ask(Act::Resume { step: number }), soon * 2)
            }
            StepState::Arming | StepState::Finishing => (Gesture::Look, soon),
            StepState::Running => {
                let settled = step.setpoint.magnitude() >= step.asked.magnitude();
                let pause = if settled {
                    self.random.span(Duration::from_secs(2), Duration::from_secs(20))
                } else {
                    soon * 3
                };
                (self.while_running(step), pause)
            }
        }
    }

    fn reset(&mut self, view: &Snapshot, generation: Generation) -> Gesture {
        let unproven = view.units.iter().position(|unit| unit.stop == StopView::Unconfirmed);
        if let Some(unit) = unproven.filter(|_| self.random.chance(100)) {
            let device = DeviceId(u8::try_from(unit).unwrap_or(0));
            return Gesture::Ask(Act::StatedStopped { device });
        }
        let wrong = self.random.chance(50);
        let generation = if wrong { Generation(generation.0.saturating_sub(1)) } else { generation };
        Gesture::Ask(Act::Reset { generation })
    }

    /// The step in hand, else the next one that is not over.
    fn choose<'a>(&mut self, view: &'a Snapshot) -> Option<&'a StepView> {
        let live = |step: &&StepView| {
            matches!(
                step.state,
                StepState::Arming | StepState::Armed | StepState::Running | StepState::Finishing
            )
        };
        let live: Vec<&StepView> = view.steps.iter().filter(live).collect();
        // A second channel is started beside the first one now and then.
        if !live.is_empty() && !self.random.chance(150) {
            let at = self.random.below(u64::try_from(live.len()).unwrap_or(1));
            return live.get(usize::try_from(at).unwrap_or(0)).copied();
        }
        let last = view.steps.last().map(|step| step.number);
        // Who reads that a unit is locked works with another one meanwhile, mostly.
        let patient = self.random.chance(900);
        let open = view.steps.iter().find(|step| {
            let over = step.state == StepState::Ended(StopReason::Completed);
            let tired = self.attempts.get(&step.number).copied().unwrap_or(0) >= ATTEMPTS_MAX;
            let early = Some(step.number) == last && view.at < self.last_from;
            let beside = live.iter().any(|live| live.number == step.number);
            let locked = patient && self.is_locked(view, step.number);
            !over && !tired && !early && !beside && !locked
        });
        if let Some(step) = open
            && self.working_on != Some(step.number)
        {
            self.working_on = Some(step.number);
            let pause = self.random.span(Duration::from_secs(5), Duration::from_secs(110));
            self.idle_until = view.at.saturating_add(pause);
        }
        open.or(live.first().copied())
    }

    fn is_locked(&self, view: &Snapshot, step: u8) -> bool {
        let unit = self.units.get(&step).copied();
        view.alarms.iter().any(|alarm| alarm.cause == Cause::LockedOut && alarm.device == unit)
    }

    fn arm(&mut self, view: &Snapshot, step: u8, soon: Duration) -> (Gesture, Duration) {
        if let Some(open) = view.unresolved.first().filter(|_| self.random.chance(700)) {
            let (of, shown) = (open.of.clone(), open.on);
            let resolution = Resolution { of, shown, gave: shown.1, reason: "seen to run on".to_owned() };
            return (Gesture::Ask(Act::Resolve(resolution)), soon);
        }
        if self.random.chance(200) {
            return (Gesture::Ask(Act::SensationReturned { step }), soon);
        }
        if !view.alarms.is_empty() && self.random.chance(500) {
            return (Gesture::Ask(Act::AcknowledgeAlarms), soon);
        }
        *self.attempts.entry(step).or_default() += 1;
        (Gesture::Ask(Act::Arm { step }), soon)
    }

    /// Mostly the limit itself, sometimes more, sometimes less.
    fn set(&mut self, step: &StepView) -> Gesture {
        let permille = match self.random.below(10) {
            0..=4 => 1_000,
            5 | 6 => 1_001 + self.random.below(500),
            _ => 300 + self.random.below(700),
        };
        let magnitude = u64::from(step.allowed.magnitude()).saturating_mul(permille).div_ceil(1_000);
        let intensity = step.allowed.with_magnitude(u32::try_from(magnitude).unwrap_or(u32::MAX));
        let reason = self.random.chance(900).then(|| "asked by the client".to_owned());
        let act = Act::Set { step: step.number, intensity, reason };
        match self.random.below(30) {
            0 => Gesture::AskStale(act),
            1 => Gesture::AskTwice(act),
            2 => Gesture::AskThenStop(act),
            _ => Gesture::Ask(act),
        }
    }

    fn while_running(&mut self, step: &StepView) -> Gesture {
        let number = step.number;
        // Who felt too much is asked for more all the same.
        if step.owner == LimitOwner::Comfort && self.random.chance(500) {
            let more = step.allowed.with_magnitude(step.allowed.magnitude().saturating_add(500));
            return Gesture::Ask(Act::Set { step: number, intensity: more, reason: Some("more".to_owned()) });
        }
        Gesture::Ask(match self.random.below(60) {
            0..=19 => return self.set(step),
            20..=22 => {
                let score = u8::try_from(self.random.below(11)).unwrap_or(0);
                let Some(score) = Discomfort::new(score) else { return Gesture::Look };
                Act::Comfort { step: number, score }
            }
            23..=26 => Act::TooMuch { step: number },
            27 | 28 => Act::ClientLess { step: number },
            29..=31 => Act::OperatorLimit { step: number, limit: self.own_limit(step) },
            32 => Act::Hold { step: number },
            33 => Act::StopStep { step: number },
            34 => Act::Finish { step: number },
            35 => return Gesture::Stop(StopReason::EmergencyStop),
            36 => return Gesture::Stop(StopReason::ClientRequest),
            37..=38 => {
                let half = step.setpoint.magnitude() / 2;
                Act::Set { step: number, intensity: step.allowed.with_magnitude(half), reason: None }
            }
            39 => Act::ReadBack { client: self.client() },
            40..=44 => Act::Present,
            _ => return Gesture::Look,
        })
    }

    /// A little below what is given, so that it binds; now and then none.
    fn own_limit(&mut self, step: &StepView) -> Option<Intensity> {
        let permille = 500 + self.random.below(550);
        let magnitude = u64::from(step.setpoint.magnitude()).saturating_mul(permille) / 1_000;
        (!self.random.chance(250))
            .then(|| step.setpoint.with_magnitude(u32::try_from(magnitude).unwrap_or(0)))
    }

    fn client(&mut self) -> ClientCode {
        ClientCode::new(if self.random.chance(200) { "C-0002" } else { CLIENT })
    }
}
