//! The unattended operator of a rehearsal: reads back, arms each step in order (with those that the plan pairs with it),
//! titrates to its target, waits for its end. Pure: a snapshot in, at most one request out. Never used with a real unit.
//!
//! ```text
//!  read back -> (arm -> set target -> wait for the end) per step -> done
//!                         ^        |
//!                         +- held: resume, at most three times
//! ```

use std::time::Duration;

use crate::governor::{Act, Refusal, Snapshot, StepState, StepView, StopView, Verdict};
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
    /// The steps it operates: the first that is not over, and those that the plan pairs with it.
    follows: Vec<Follow>,
    /// The unit whose stop has to be proven first, and since when it was so.
    unproven: Option<(DeviceId, Mono)>,
    /// Steps whose early end has been said.
    said: Vec<u8>,
    /// An earlier daemon died: nothing is begun, and since when it waits for every unit's proof.
    after_death: Option<Option<Mono>>,
}

/// What it knows of one step that it operates.
#[derive(Debug)]
struct Follow {
    step: u8,
    state: StepState,
    since: Mono,
    goal: Option<Intensity>,
    reason: Option<String>,
    resumed: u8,
    /// TENS was on its area lately: nobody is here to be numb.
    numb: bool,
    /// It was refused for a reason that does not pass.
    never: Option<String>,
}

impl Autopilot {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            asking: false,
            not_before: Mono::ORIGIN,
            read_back: false,
            follows: Vec::new(),
            unproven: None,
            said: Vec::new(),
            after_death: None,
        }
    }

    /// As [`Autopilot::new`], after the death of an earlier daemon: output comes back by a person only, so it waits for
    /// every unit's proof of zero and ends.
    pub(crate) fn after_death(plan: Plan) -> Self {
        Self { after_death: Some(None), ..Self::new(plan) }
    }

    /// Waits until every unit is at proven zero, or its time is over.
    fn at_zero(since: &mut Option<Mono>, snapshot: &Snapshot) -> Next {
        let since = *since.get_or_insert(snapshot.at);
        let proven = snapshot.units.iter().all(|unit| matches!(unit.stop, StopView::Confirmed(_)));
        if !proven && snapshot.at.since(since) < UNPROVEN_AFTER {
            return Next::Wait;
        }
        let at_zero = if proven { "every unit is at proven zero" } else { "not every unit has proven zero" };
        let why = format!("it died in the middle; {at_zero}, and nothing is begun anew without a person");
        Next::Over { incomplete: Some(why) }
    }

    /// Returns what to do in the state that the snapshot shows.
    pub(crate) fn next(&mut self, snapshot: &Snapshot) -> Next {
        if let Some(since) = &mut self.after_death {
            return Self::at_zero(since, snapshot);
        }
        if let Some(generation) = snapshot.latched {
            return Next::GiveUp(format!("everything is stopped (stop {})", generation.0));
        }
        let open = |view: &&StepView| !matches!(view.state, StepState::Ended(_));
        let Some(first) = snapshot.steps.iter().find(open) else {
            return Next::Over { incomplete: self.incomplete(snapshot) };
        };
        if let Some(said) = self.ended_early(snapshot, first.number) {
            return Next::Say(said);
        }
        let beside = |view: &&StepView| {
            view.number == first.number || self.plan.runs_beside(first.number, view.number)
        };
        let views: Vec<&StepView> = snapshot.steps.iter().filter(open).filter(beside).collect();
        self.follow(&views, snapshot.at);
        if self.asking || snapshot.at < self.not_before {
            return Next::Wait;
        }
        if !self.read_back {
            return self.ask(None, Act::ReadBack { client: self.plan.client.clone() });
        }
        let each = views.into_iter().map(|view| self.operate(view, snapshot.at));
        let found: Vec<Next> = each.collect();
        let next = found.into_iter().find(|next| *next != Next::Wait).unwrap_or(Next::Wait);
        if let Next::Ask(act) = next {
            let step = act.step();
            return self.ask(step, act);
        }
        next
    }

    /// Returns what one step needs.
    fn operate(&mut self, view: &StepView, now: Mono) -> Next {
        let step = view.number;
        let Some(follow) = self.follows.iter_mut().find(|follow| follow.step == step) else {
            return Next::Wait;
        };
        if let Some(why) = &follow.never {
            return Next::GiveUp(format!("step {step}: {why}"));
        }
        match view.state {
            StepState::Waiting if follow.numb => Next::Ask(Act::SensationReturned { step }),
            StepState::Waiting => Next::Ask(Act::Arm { step }),
            StepState::Armed => follow.set(),
            StepState::Held if follow.resumed >= RESUMES_MAX => {
                Next::GiveUp(format!("step {step} was held {} times", RESUMES_MAX.saturating_add(1)))
            }
            StepState::Held => Next::Ask(Act::Resume { step }),
            StepState::Arming | StepState::Finishing if now.since(follow.since) > STUCK_AFTER => {
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
        let follow = self.follows.iter_mut().find(|follow| Some(follow.step) == act.step());
        match verdict {
            Some(Verdict::Granted { .. }) => {
                self.unproven = None;
                self.read_back |= matches!(act, Act::ReadBack { .. });
                if let Some(follow) = follow {
                    follow.resumed =
                        follow.resumed.saturating_add(u8::from(matches!(act, Act::Resume { .. })));
                    follow.numb &= !matches!(act, Act::SensationReturned { .. });
                }
                // The next snapshot shows what came of it.
                self.not_before = now.saturating_add(AGAIN_AFTER / 5);
            }
            Some(Verdict::Refused(Refusal::Numb { .. })) => {
                if let Some(follow) = follow {
                    follow.numb = true;
                }
            }
            // What is uncertain is resolved by a person (SR-43), and nobody is here.
            Some(Verdict::Refused(
                why @ (Refusal::Budget { .. } | Refusal::Course { .. } | Refusal::Unresolved { .. }),
            )) => {
                if let Some(follow) = follow {
                    follow.never = Some(why.to_string());
                }
            }
            Some(Verdict::NeedsReason { .. }) => {
                if let Some(follow) = follow {
                    follow.reason = Some("target of the plan, unattended rehearsal".to_owned());
                }
            }
            Some(Verdict::Refused(Refusal::Limit { allowed, .. })) if !allowed.is_zero() => {
                if let Some(follow) = follow {
                    follow.goal = Some(*allowed);
                }
            }
            Some(Verdict::Refused(Refusal::NotProven { device })) => {
                self.unproven = Some(self.unproven.map_or((*device, now), |(_, since)| (*device, since)));
            }
            Some(Verdict::Refused(_)) | None => {}
        }
    }

    fn follow(&mut self, views: &[&StepView], now: Mono) {
        self.follows.retain(|follow| views.iter().any(|view| view.number == follow.step));
        for view in views {
            let known = self.follows.iter_mut().find(|follow| follow.step == view.number);
            if let Some(follow) = known {
                if follow.state != view.state {
                    follow.state = view.state;
                    follow.since = now;
                }
                continue;
            }
            let goal = self.planned(view.number).map(|step| step.target);
            let (step, state) = (view.number, view.state);
            let (reason, resumed, numb, never) = (None, 0, false, None);
            let follow = Follow { step, state, since: now, goal, reason, resumed, numb, never };
            self.follows.push(follow);
        }
    }

    fn planned(&self, number: u8) -> Option<&Step> {
        self.plan.steps.iter().find(|step| step.number == number)
    }

    /// Asks, unless the same state of that step has refused for too long.
    fn ask(&mut self, step: Option<u8>, act: Act) -> Next {
        let asked = self.follows.iter().find(|known| step.is_none_or(|step| step == known.step));
        let (number, since) = asked.map_or((0, Mono::ORIGIN), |known| (known.step, known.since));
        let name = self.name(number);
        if let Some((device, since)) = self.unproven
            && self.not_before.since(since) > UNPROVEN_AFTER
        {
            let unit = self.plan.devices.get(usize::from(device.0)).map_or("a unit", |unit| &unit.label);
            return Next::GiveUp(format!("{name} cannot follow while {unit} has not proven that it stopped"));
        }
        if self.not_before.since(since) > STUCK_AFTER {
            return Next::GiveUp(format!("{name} was refused for a minute"));
        }
        self.asking = true;
        Next::Ask(act)
    }
}

impl Follow {
    fn set(&self) -> Next {
        match self.goal {
            Some(intensity) => {
                Next::Ask(Act::Set { step: self.step, intensity, reason: self.reason.clone() })
            }
            None => Next::GiveUp(format!("the plan has no step {}", self.step)),
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::prompt::tests::{plan, snapshot};
    use crate::model::budget::{DoseRef, OpenDose};
    use crate::model::dose::DoseId;

    /// SR-43: a person resolves what is uncertain. Nobody is here, so the plan stays incomplete.
    #[test]
    fn sr_43_nobody_resolves_by_himself() {
        let plan = plan();
        let mut shown = snapshot(&plan, StepState::Waiting);
        let open = OpenDose {
            of: DoseRef { session: None, dose: DoseId(1) },
            unit: plan.devices[0].label.clone(),
            place: Some(plan.steps[0].place.clone()),
            modality: plan.steps[0].modality,
            on: (Duration::ZERO, Duration::from_secs(12)),
            today: true,
            stated: false,
            earlier: None,
        };
        shown.unresolved.push(open.clone());
        let mut autopilot = Autopilot::new(plan);
        let Next::Ask(read_back) = autopilot.next(&shown) else { panic!("nothing is asked") };
        assert!(matches!(read_back, Act::ReadBack { .. }));
        autopilot.answered(&read_back, Some(&Verdict::Granted { target: None }), shown.at);
        shown.at = shown.at.saturating_add(AGAIN_AFTER);
        let Next::Ask(arm) = autopilot.next(&shown) else { panic!("nothing is asked") };
        assert_eq!(arm, Act::Arm { step: 1 });
        let OpenDose { of, unit, place, on, .. } = open;
        let refused = Verdict::Refused(Refusal::Unresolved { of, unit, place, on });
        autopilot.answered(&arm, Some(&refused), shown.at);
        shown.at = shown.at.saturating_add(AGAIN_AFTER);
        let next = autopilot.next(&shown);
        assert!(matches!(&next, Next::GiveUp(why) if why.contains("is uncertain")), "{next:?}");
    }
}
