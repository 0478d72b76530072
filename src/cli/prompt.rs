//! Questions at the terminal: why above usual, what an uncertain interval gave, and the client's discomfort before and after
//! a step.
//!
//! Invariants:
//! - a question never keeps a key that stops, holds or lowers from what it does;
//! - a score is taken as an answer only while no step holds output: else it goes to the step that is in use;
//! - only a key that the question names raises anything, and only for as long as [`REASON_WITHIN`].

use std::time::Duration;

use crate::cli::keys;
use crate::cli::words::{self, clock};
use crate::governor::{Act, Resolution, Snapshot, StepState};
use crate::model::command::Intensity;
use crate::model::plan::Plan;
use crate::units::Mono;

/// A question for a reason is withdrawn after this: a later digit is a score again.
const REASON_WITHIN: Duration = Duration::from_secs(15);

/// Why a rise goes above what is usual; the key is its place in the list, from 1.
const REASONS: [&str; 4] = ["thick tissue", "used to it", "asked by the client", "written by the physician"];

/// How an uncertain interval is resolved: at its longest, at its shortest.
const RESOLVED: [&str; 2] = ["nobody saw it end", "it was seen to stop at once"];

/// Why it is resolved at its longest, when a person pressed v at its end.
const SEEN: &str = "it was seen to stop when v was pressed";

/// A question that waits for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// Why above usual?
    Reason {
        /// Step number.
        step: u8,
        /// Where to.
        asked: Intensity,
        /// What is in force.
        stays: Intensity,
        /// When it is withdrawn.
        until: Mono,
    },
    /// Discomfort before the step is armed.
    Before {
        /// Step number.
        step: u8,
    },
    /// What an uncertain interval gave.
    Resolve {
        /// Its place in the list that the screen shows.
        place: usize,
        /// The bounds that are shown.
        shown: (Duration, Duration),
        /// It ends where a person stated that the unit was seen to stop.
        stated: bool,
        /// What was chosen and waits for a yes: the time that counts, and why.
        chosen: Option<(Duration, &'static str)>,
    },
    /// Discomfort after the step's end.
    After {
        /// Step number.
        step: u8,
    },
}

/// What a key comes to while a question waits. That question is over in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Ask for this, and when it is granted, for the other.
    Ask(Act, Option<Act>),
    /// The question is answered, and nothing is asked for.
    Done,
    /// Another question follows.
    Again(Prompt),
    /// No answer. This is said; nothing is asked for.
    Left(String),
    /// No answer: the key does what it does without a question. This is said before.
    Key(Option<&'static str>),
}

impl Prompt {
    /// Returns the question why a step goes above usual.
    pub(crate) fn reason(snapshot: &Snapshot, step: u8, asked: Intensity, now: Mono) -> Self {
        let view = snapshot.steps.iter().find(|view| view.number == step);
        let stays = view.map_or(asked.zero(), keys::present);
        Self::Reason { step, asked, stays, until: now.saturating_add(REASON_WITHIN) }
    }

    /// Returns the line that asks.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Reason { asked, stays, .. } => {
                let [tissue, used, client, physician] = REASONS;
                format!(
                    "Above usual (to {asked}). Why? 1 {tissue}  2 {used}  3 {client}  4 {physician}   any other key: \
                     stay at {stays}"
                )
            }
            Self::Before { step } => {
                format!(
                    "Step {step}: discomfort now, 0 to 10 (t is ten)? (Enter: not asked)  Then it is armed."
                )
            }
            Self::Resolve { chosen: Some((gave, why)), .. } => {
                let gave = clock(gave.saturating_add(Duration::from_millis(999)));
                format!("{gave} will count: {why}. This is final. Enter: yes   any other key: later")
            }
            Self::Resolve { shown: (least, most), stated, .. } => {
                let [unseen, shortest] = RESOLVED;
                let longest = if stated { SEEN } else { unseen };
                let most = clock(most.saturating_add(Duration::from_millis(999)));
                format!(
                    "Between {} and {most} of output. What counts? 1 {most}: {longest}  2 {}: {shortest}   any other key: \
                     later; area and unit stay blocked",
                    clock(least),
                    clock(least),
                )
            }
            Self::After { step } => {
                format!("Step {step} is over: discomfort now, 0 to 10 (t is ten)? (Enter: not asked)")
            }
        }
    }

    /// Returns what is said when the question is withdrawn at `now`, `None` while it waits.
    pub(crate) fn withdrawn(self, now: Mono) -> Option<String> {
        match self {
            Self::Reason { stays, until, .. } if now >= until => {
                Some(format!("No reason was given: it stays at {stays}."))
            }
            Self::Reason { .. } | Self::Before { .. } | Self::Resolve { .. } | Self::After { .. } => None,
        }
    }

    /// Returns what a key comes to.
    pub(crate) fn reply(self, key: char, snapshot: &Snapshot, now: Mono) -> Reply {
        if keys::is_stop(key) {
            return Reply::Key(None);
        }
        match self {
            Self::Reason { step, asked, stays, until } => {
                let reason = key.to_digit(10).and_then(|digit| usize::try_from(digit).ok()?.checked_sub(1));
                match reason.and_then(|place| REASONS.get(place)) {
                    _ if now >= until => Reply::Key(None),
                    Some(reason) => {
                        let reason = Some((*reason).to_owned());
                        Reply::Ask(Act::Set { step, intensity: asked, reason }, None)
                    }
                    None if keys::lowers(key) => Reply::Key(None),
                    None => Reply::Left(format!("Not raised: it stays at {stays}.")),
                }
            }
            Self::Resolve { place, shown, stated, chosen } => {
                let open = snapshot.unresolved.get(place).filter(|open| open.on == shown);
                let [unseen, shortest] = RESOLVED;
                let longest = if stated { SEEN } else { unseen };
                let changed = || Reply::Left("The bounds have changed. Press u again.".to_owned());
                let ask_again =
                    |chosen| Reply::Again(Self::Resolve { place, shown, stated, chosen: Some(chosen) });
                match (key, chosen, open) {
                    ('\n' | '\r', Some((gave, reason)), Some(open)) => {
                        let (of, reason) = (open.of.clone(), reason.to_owned());
                        Reply::Ask(Act::Resolve(Resolution { of, shown, gave, reason }), None)
                    }
                    ('\n' | '\r', Some(_), None) | ('1' | '2', None, None) => changed(),
                    ('1', None, Some(_)) => ask_again((shown.1, longest)),
                    ('2', None, Some(_)) => ask_again((shown.0, shortest)),
                    // A digit pressed twice by a wet finger is no score either.
                    ('1' | '2', Some(_), _) => Reply::Left("Not resolved yet: press u.".to_owned()),
                    _ => Reply::Key(None),
                }
            }
            Self::Before { .. } | Self::After { .. } if holds_output(snapshot) => Reply::Key(None),
            Self::Before { step } => match (keys::score(key), key) {
                (Some(score), _) => Reply::Ask(Act::Comfort { step, score }, Some(Act::Arm { step })),
                (None, '\n' | '\r') => Reply::Ask(Act::Arm { step }, None),
                (None, _) => Reply::Key(Some("Not armed.")),
            },
            Self::After { step } => match (keys::score(key), key) {
                (Some(score), _) => Reply::Ask(Act::Comfort { step, score }, None),
                (None, '\n' | '\r') => Reply::Done,
                (None, _) => Reply::Key(None),
            },
        }
    }
}

/// Returns why no uncertain interval can be resolved: there is none, or nobody knows its end yet.
pub(crate) fn nothing_to_resolve(plan: &Plan, snapshot: &Snapshot) -> String {
    let open = snapshot.steps.iter().find(|view| view.uncertain);
    match open.and_then(|view| plan.steps.iter().find(|step| step.number == view.number)) {
        Some(step) => format!(
            "{} on {} may still run, so there is no end to resolve yet. First see that it stopped and press v, or wait \
             until it proves that; then press u.",
            words::label(plan, step.device),
            step.place
        ),
        None => "Nothing is uncertain.".to_owned(),
    }
}

/// Returns whether a step holds output, or is being prepared for it.
pub(crate) fn holds_output(snapshot: &Snapshot) -> bool {
    snapshot.steps.iter().any(|view| match view.state {
        StepState::Arming | StepState::Armed | StepState::Running | StepState::Finishing => true,
        StepState::Waiting | StepState::Held | StepState::Ended(_) => false,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::{Library, load_plan};
    use crate::governor::{Phase, StepView, Version};
    use crate::model::budget::{DoseRef, OpenDose};
    use crate::model::dose::DoseId;
    use crate::model::limit::LimitOwner;
    use crate::model::session::{Discomfort, StopReason};

    const NOW: Mono = Mono::from_micros(60_000_000);
    const LOWERING: &str = " sSc-hnxmlq789t";

    /// Returns the sample plan.
    pub(crate) fn plan() -> Plan {
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/config/plans/sample.toml");
        load_plan(&Library::open(None), sample.as_ref()).unwrap().plan
    }

    /// Returns what a screen shows with the first step in a state, the others untouched.
    pub(crate) fn snapshot(plan: &Plan, state: StepState) -> Snapshot {
        let view = |step: &crate::model::plan::Step| StepView {
            uncertain: false,
            number: step.number,
            state: if step.number == 1 { state } else { StepState::Waiting },
            asked: step.target,
            allowed: step.target,
            owner: LimitOwner::Plan,
            setpoint: step.target.zero(),
            delivered: None,
            envelope: step.target,
            left: Duration::ZERO,
            budget: None,
            area_left: Duration::ZERO,
            day_left: Duration::ZERO,
            phase: Phase::Continuous,
        };
        let steps = plan.steps.iter().map(view).collect();
        Snapshot {
            at: NOW,
            version: Version(1),
            latched: None,
            steps,
            units: Vec::new(),
            unresolved: Vec::new(),
            alarms: Vec::new(),
            sounding: crate::alarm::Sounding::default(),
        }
    }

    fn keys() -> impl Iterator<Item = char> {
        (0u8..=127).map(char::from)
    }

    #[test]
    fn above_usual_only_1_to_4_ask_again_and_every_stop_hold_and_lower_key_keeps_its_meaning() {
        let plan = plan();
        let shown = snapshot(&plan, StepState::Running);
        let asked = plan.steps[0].target;
        let prompt = Prompt::reason(&shown, 1, asked, NOW);
        assert_eq!(
            prompt.words(),
            format!(
                "Above usual (to {asked}). Why? 1 thick tissue  2 used to it  3 asked by the client  4 written by the \
                 physician   any other key: stay at {}",
                asked.zero()
            )
        );
        for key in keys() {
            let reason = match key {
                '1' => Some("thick tissue"),
                '2' => Some("used to it"),
                '3' => Some("asked by the client"),
                '4' => Some("written by the physician"),
                _ => None,
            };
            let expected = match reason {
                Some(reason) => {
                    Reply::Ask(Act::Set { step: 1, intensity: asked, reason: Some(reason.to_owned()) }, None)
                }
                None if LOWERING.contains(key) => Reply::Key(None),
                None => Reply::Left(format!("Not raised: it stays at {}.", asked.zero())),
            };
            assert_eq!(prompt.reply(key, &shown, NOW), expected, "{key:?}");
        }
    }

    /// SR-43: one wet key press resolves nothing: what was chosen is said and waits for Enter; who pressed v is asked by that.
    #[test]
    fn sr_43_a_resolution_is_final_only_after_a_second_other_key() {
        let plan = plan();
        let mut shown = snapshot(&plan, StepState::Waiting);
        let on = (Duration::ZERO, Duration::from_millis(12_300));
        let of = DoseRef { session: None, dose: DoseId(7) };
        shown.unresolved.push(OpenDose {
            of: of.clone(),
            unit: "Gun".to_owned(),
            place: Some(plan.steps[0].place.clone()),
            modality: plan.steps[0].modality,
            on,
            today: true,
            stated: true,
            earlier: None,
        });
        for (stated, key, gave, reason) in [
            (false, '1', on.1, "nobody saw it end"),
            (true, '1', on.1, "it was seen to stop when v was pressed"),
            (true, '2', on.0, "it was seen to stop at once"),
        ] {
            let first = Prompt::Resolve { place: 0, shown: on, stated, chosen: None };
            assert!(first.words().contains(reason), "{}", first.words());
            assert_eq!(first.reply('\n', &shown, NOW), Reply::Key(None), "nothing was chosen");
            let Reply::Again(second) = first.reply(key, &shown, NOW) else { panic!("{key}: it is final") };
            assert!(
                second.words().contains(reason) && second.words().contains("final"),
                "{}",
                second.words()
            );
            for other in keys().filter(|other| !matches!(other, '\n' | '\r')) {
                let reply = second.reply(other, &shown, NOW);
                assert!(matches!(reply, Reply::Key(None) | Reply::Left(_)), "{other:?}: {reply:?}");
                assert!(!LOWERING[..4].contains(other) || reply == Reply::Key(None), "{other:?}");
            }
            let (of, reason) = (of.clone(), reason.to_owned());
            let asked = Act::Resolve(Resolution { of, shown: on, gave, reason });
            assert_eq!(second.reply('\n', &shown, NOW), Reply::Ask(asked, None));
            let narrower = snapshot(&plan, StepState::Waiting);
            assert!(matches!(second.reply('\n', &narrower, NOW), Reply::Left(_)), "the bounds have changed");
        }
    }

    /// SR-43: while a unit may still run, `u` does not say that nothing is uncertain, but what comes first.
    #[test]
    fn sr_43_an_interval_without_an_end_is_not_called_nothing() {
        let plan = plan();
        let mut shown = snapshot(&plan, StepState::Waiting);
        assert_eq!(nothing_to_resolve(&plan, &shown), "Nothing is uncertain.");
        shown.steps[0].uncertain = true;
        let said = nothing_to_resolve(&plan, &shown);
        assert!(said.contains(&plan.devices[0].label) && said.contains("press v"), "{said}");
    }

    #[test]
    fn a_reason_comes_within_15_seconds_or_a_digit_is_a_score_again() {
        let plan = plan();
        let shown = snapshot(&plan, StepState::Running);
        let prompt = Prompt::reason(&shown, 1, plan.steps[0].target, NOW);
        let before = NOW.saturating_add(Duration::from_millis(14_999));
        let after = NOW.saturating_add(Duration::from_secs(15));
        assert_eq!(prompt.withdrawn(before), None);
        assert!(matches!(prompt.reply('1', &shown, before), Reply::Ask(Act::Set { .. }, None)));
        assert!(prompt.withdrawn(after).is_some());
        assert_eq!(prompt.reply('1', &shown, after), Reply::Key(None));
    }

    #[test]
    fn before_a_step_a_score_or_enter_arms_and_no_other_key_does() {
        let plan = plan();
        let shown = snapshot(&plan, StepState::Waiting);
        let arm = Act::Arm { step: 1 };
        for key in keys() {
            let score = match key {
                't' => Some(10),
                '0'..='9' => key.to_digit(10).and_then(|digit| u8::try_from(digit).ok()),
                _ => None,
            };
            let expected = match (score.and_then(Discomfort::new), key) {
                (Some(score), _) => Reply::Ask(Act::Comfort { step: 1, score }, Some(arm.clone())),
                (None, '\n' | '\r') => Reply::Ask(arm.clone(), None),
                (None, ' ' | 's' | 'S' | 'c') => Reply::Key(None),
                (None, _) => Reply::Key(Some("Not armed.")),
            };
            assert_eq!(Prompt::Before { step: 1 }.reply(key, &shown, NOW), expected, "{key:?}");
        }
    }

    #[test]
    fn after_a_step_a_score_is_its_own_unless_another_step_holds_output() {
        let plan = plan();
        let score = Discomfort::new(9).unwrap();
        let prompt = Prompt::After { step: 2 };
        let over = snapshot(&plan, StepState::Ended(StopReason::Completed));
        assert_eq!(prompt.reply('9', &over, NOW), Reply::Ask(Act::Comfort { step: 2, score }, None));
        assert_eq!(prompt.reply('\n', &over, NOW), Reply::Done);
        assert_eq!(prompt.reply('R', &over, NOW), Reply::Key(None));
        for state in [StepState::Arming, StepState::Armed, StepState::Running, StepState::Finishing] {
            let live = snapshot(&plan, state);
            assert_eq!(prompt.reply('9', &live, NOW), Reply::Key(None), "{state:?}");
            assert_eq!(Prompt::Before { step: 2 }.reply('9', &live, NOW), Reply::Key(None), "{state:?}");
        }
    }
}
