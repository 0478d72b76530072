//! The unattended operator of a rehearsal: reads back, arms each step in order, titrates to its target, waits for its
//! end. Pure: a snapshot in, at most one request out. Never used with a real unit.
//!
//! ```text
//!  read back -> (arm -> set target -> wait for the end) per step -> done
//!                         ^        |
//!                         +- held: resume, at most three times
//! ```

use std::time::Duration;

use crate::governor::{Act, Refusal, Snapshot, StepState, StepView, Verdict};
use crate::model::command::{DeviceId, Intensity};
use crate::model::plan::{Plan, Step};
use crate::model::session::StopReason;
use crate::units::Mono;

/// Pause before a refused request is made again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// A step that makes no progress for this long is given up.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// A unit that has not proven its stop is waited for this long: nobody is here to stop it by hand.
const UNPROVEN_AFTER: Duration = Duration::from_secs(8);

/// Holds of one step that are resumed.
const RESUMES_MAX: u8 = 3;

/// What the operator does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing.
    Wait,
    /// Ask for this.
    Ask(Act),
    /// Say this.
    Say(String),
    /// Every step is over.
    Over {
        /// Which were not completed and why; `None`: all were.
        incomplete: Option<String>,
    },
    /// It cannot go on.
    GiveUp(String),
}

/// The operator.
#[derive(Debug)]
pub(crate) struct Autopilot {
    plan: Plan,
    asking: bool,
    not_before: Mono,
    read_back: bool,
    step: u8,
    state: Option<StepState>,
    since: Mono,
    goal: Option<Intensity>,
    reason: Option<String>,
    resumed: u8,
    resuming: bool,
    /// The unit whose stop has to be proven first, and since when it was so.
    unproven: Option<(DeviceId, Mono)>,
    /// Steps whose early end has been said.
    said: Vec<u8>,
}

impl Autopilot {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            asking: false,
            not_before: Mono::ORIGIN,
            read_back: false,
            step: 0,
            state: None,
            since: Mono::ORIGIN,
            goal: None,
            reason: None,
            resumed: 0,
            resuming: false,
            unproven: None,
            said: Vec::new(),
        }
    }

    /// Returns what to do in the state that the snapshot shows.
    pub(crate) fn next(&mut self, snapshot: &Snapshot) -> Next {
        if let Some(generation) = snapshot.latched {
            return Next::GiveUp(format!("everything is stopped (stop {})", generation.0));
        }
        let open = snapshot.steps.iter().find(|view| !matches!(view.state, StepState::Ended(_)));
        let Some(view) = open else {
            return Next::Over { incomplete: self.incomplete(snapshot) };
        };
        if let Some(said) = self.ended_early(snapshot, view.number) {
            return Next::Say(said);
        }
        self.follow(view, snapshot.at);
        if self.asking || snapshot.at < self.not_before {
            return Next::Wait;
        }
        if !self.read_back {
            return self.ask(Act::ReadBack { client: self.plan.client.clone() });
        }
        let step = view.number;
        match view.state {
            StepState::Waiting => self.ask(Act::Arm { step }),
            StepState::Armed => self.set(step),
            StepState::Held if self.resuming => self.set(step),
            StepState::Held => {
                self.resumed = self.resumed.saturating_add(1);
                if self.resumed > RESUMES_MAX {
                    return Next::GiveUp(format!("step {step} was held {} times", self.resumed));
                }
                self.resuming = true;
                self.ask(Act::Resume { step })
            }
            StepState::Arming | StepState::Finishing if self.is_stuck(snapshot.at) => {
                Next::GiveUp(format!("step {step} makes no progress"))
            }
            StepState::Arming | StepState::Running | StepState::Finishing | StepState::Ended(_) => Next::Wait,
        }
    }

    /// Returns once, for a step that ended before its time, that it stays so and what follows.
    fn ended_early(&mut self, snapshot: &Snapshot, following: u8) -> Option<String> {
        let view =
            snapshot.steps.iter().find(|view| early(view).is_some() && !self.said.contains(&view.number))?;
        self.said.push(view.number);
        let why = early(view).map_or("", StopReason::words);
        Some(format!(
            "{} ended before its time: {why}. It is not started again by itself; {} follows.",
            first_upper(&self.name(view.number)),
            self.name(following)
        ))
    }

    /// Returns which steps ended before their time, and why.
    pub(crate) fn incomplete(&self, snapshot: &Snapshot) -> Option<String> {
        let early = snapshot.steps.iter().filter_map(|view| {
            let name = self.name(view.number);
            early(view).map(|reason| format!("{}: {}", name.trim_end_matches(','), reason.words()))
        });
        let early: Vec<String> = early.collect();
        (!early.is_empty()).then(|| early.join("; "))
    }

    fn name(&self, number: u8) -> String {
        let step = self.planned(number);
        step.map_or_else(|| format!("step {number}"), |step| format!("step {number}, {},", step.place))
    }

    /// Takes the verdict of the request made last.
    pub(crate) fn answered(&mut self, act: &Act, verdict: Option<&Verdict>, now: Mono) {
        self.asking = false;
        self.not_before = now.saturating_add(AGAIN_AFTER);
        match verdict {
            Some(Verdict::Granted { .. }) => {
                self.unproven = None;
                self.read_back |= matches!(act, Act::ReadBack { .. });
                // The next snapshot shows what came of it.
                self.not_before = now.saturating_add(AGAIN_AFTER / 5);
            }
            Some(Verdict::NeedsReason { .. }) => {
                self.reason = Some("target of the plan, unattended rehearsal".to_owned());
            }
            Some(Verdict::Refused(Refusal::Limit { allowed, .. })) if !allowed.is_zero() => {
                self.goal = Some(*allowed);
            }
            Some(Verdict::Refused(Refusal::NotProven { device })) => {
                self.unproven = Some(self.unproven.map_or((*device, now), |(_, since)| (*device, since)));
            }
            Some(Verdict::Refused(_)) | None => {}
        }
    }

    fn follow(&mut self, view: &StepView, now: Mono) {
        if view.number != self.step {
            self.step = view.number;
            self.goal = self.planned(view.number).map(|step| step.target);
            (self.reason, self.resumed, self.resuming, self.state) = (None, 0, false, None);
        }
        if self.state != Some(view.state) {
            self.resuming &= view.state == StepState::Held;
            self.state = Some(view.state);
            self.since = now;
        }
    }

    fn planned(&self, number: u8) -> Option<&Step> {
        self.plan.steps.iter().find(|step| step.number == number)
    }

    fn is_stuck(&self, now: Mono) -> bool {
        now.since(self.since) > STUCK_AFTER
    }

    fn set(&mut self, step: u8) -> Next {
        match self.goal {
            Some(intensity) => self.ask(Act::Set { step, intensity, reason: self.reason.clone() }),
            None => Next::GiveUp(format!("the plan has no step {step}")),
        }
    }

    /// Asks, unless the same state has refused for too long.
    fn ask(&mut self, act: Act) -> Next {
        if let Some((device, since)) = self.unproven
            && self.not_before.since(since) > UNPROVEN_AFTER
        {
            let unit = self.plan.devices.get(usize::from(device.0)).map_or("a unit", |unit| &unit.label);
            let name = self.name(self.step);
            return Next::GiveUp(format!("{name} cannot follow while {unit} has not proven that it stopped"));
        }
        if self.not_before.since(self.since) > STUCK_AFTER {
            return Next::GiveUp(format!("{} was refused for a minute", self.name(self.step)));
        }
        self.asking = true;
        Next::Ask(act)
    }
}

/// Returns why a step ended, when it was not completed.
fn early(view: &StepView) -> Option<StopReason> {
    match view.state {
        StepState::Ended(StopReason::Completed) => None,
        StepState::Ended(reason) => Some(reason),
        StepState::Waiting
        | StepState::Arming
        | StepState::Armed
        | StepState::Running
        | StepState::Held
        | StepState::Finishing => None,
    }
}

fn first_upper(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
