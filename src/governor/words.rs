//! Refusals as a therapist reads them: what is known, what follows, what to do.

use std::fmt;
use std::time::Duration;

use crate::governor::output::{Interlock, Refusal};
use crate::model::limit::LimitOwner;

impl fmt::Display for Refusal {
    #[expect(clippy::too_many_lines, reason = "a table: one sentence per refusal")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { asked, allowed, owner, kind, said, unchanged } => {
                write!(f, "Asked {asked}, allowed {allowed}. {}", whose(*owner, kind))?;
                if !said.is_empty() {
                    write!(f, ": {said}")?;
                }
                write!(f, ". Nothing has changed: {unchanged}.")
            }
            Self::Interlock(interlock) => write!(f, "Not now: {}.", interlock.words()),
            Self::Stopped { generation } => {
                write!(
                    f,
                    "Everything is stopped (stop {}). Reset it first; nothing starts by that.",
                    generation.0
                )
            }
            Self::NotProven { device } => write!(
                f,
                "Unit {} has not proven that it stopped. Stop it by hand, see that it stopped, and say so here.",
                device.0.saturating_add(1)
            ),
            Self::State { why } => f.write_str(why),
            Self::Locked { left } => {
                write!(f, "No rise for another {} s after discomfort.", left.as_secs().saturating_add(1))
            }
            Self::LockedOut { device, cause, left } => write!(
                f,
                "Unit {} was stopped three times within ten minutes because {}. It is locked for another {} min. Find \
                 out why and put it right, or go on with another unit.",
                device.0.saturating_add(1),
                cause.why(),
                left.as_secs().div_ceil(60)
            ),
            Self::BelowFloor { asked, floor } => {
                write!(f, "Asked {asked}, but the gun runs from {floor} up. Ask for {floor} or for zero.")
            }
            Self::Stale => f.write_str("The screen was behind. It shows the present state now; ask again."),
            Self::TooSlow => {
                f.write_str("The record took longer than half a second, so nothing was raised. Ask again.")
            }
            Self::Pattern { what } => write!(f, "This step lies over a limit: {what}. Change the plan."),
            Self::Budget { budget, owner, said, limit } => {
                let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
                let (what, limit, owner) = (budget.words(), clock(*limit), owner.word());
                write!(f, "Not now: {what} is used up: {limit}, limit of the {owner}{said}. It counts what may have been given.")
            }
            Self::Rest { left } => {
                write!(f, "The area rests for another {} s before percussion comes back to it.", seconds(*left))
            }
            Self::Numb { ago } => write!(
                f,
                "TENS was here {} min ago and may dull what the client feels. Test touch and pressure; when sensation has \
                 returned, say so (w).",
                ago.as_secs().checked_div(60).unwrap_or(0)
            ),
            Self::Unresolved { unit, place, on: (least, most), .. } => write!(
                f,
                "What {unit} gave {} is uncertain: between {} and {}. Resolve it first, with a reason (u).",
                place.as_ref().map_or("in an earlier session".to_owned(), |place| format!("on {place}")),
                clock(*least),
                clock(most.saturating_add(Duration::from_millis(999)))
            ),
            Self::OutsideBounds { on: (least, most) } => write!(
                f,
                "It gave at least {} and at most {}. Nothing else is taken; nothing has changed.",
                clock(*least),
                clock(most.saturating_add(Duration::from_millis(999)))
            ),
            Self::Course { sessions, allowed } => write!(
                f,
                "The plan has {allowed} sessions a week and {sessions} were given in the last seven days. One more needs a reason: \
                 end this and run it with --beyond-course."
            ),
            Self::Distance { entered: None } => f.write_str(
                "Percussion beside a stimulated area needs the measured distance: at least 5 cm, in [[together]] of the plan.",
            ),
            Self::Distance { entered: Some(entered) } => write!(
                f,
                "Percussion at {entered} from an area that is being stimulated is too near: at least 5 cm. End that step first."
            ),
            Self::Unit { why } => write!(f, "The unit cannot be driven: {why}."),
            Self::NoSuchStep { step } => write!(f, "The plan has no step {step}."),
        }
    }
}

/// Returns minutes and seconds, for example "1:05".
fn clock(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, rest) = (seconds.checked_div(60).unwrap_or(0), seconds.checked_rem(60).unwrap_or(0));
    format!("{minutes}:{rest:02}")
}

/// Returns whole seconds, rounded up.
const fn seconds(span: Duration) -> u64 {
    span.saturating_add(Duration::from_millis(999)).as_secs()
}

/// Returns whose limit it is, as a sentence without its full stop.
fn whose(owner: LimitOwner, kind: &str) -> String {
    match owner {
        LimitOwner::Ceiling => format!("This is doseward's own ceiling ({kind}); nobody can raise it"),
        LimitOwner::Device => format!("Limit of the unit ({kind})"),
        LimitOwner::Site => format!("Limit of this clinic ({kind})"),
        LimitOwner::Protocol => format!("Limit of the protocol ({kind})"),
        LimitOwner::Clearance => format!("Limit of the clearance ({kind})"),
        LimitOwner::Plan => format!("Limit of the plan ({kind})"),
        LimitOwner::Area => format!("Limit of this area ({kind})"),
        LimitOwner::Operator => format!("Your own limit for this step ({kind})"),
        LimitOwner::Comfort => format!("Limit after the client's discomfort ({kind})"),
    }
}

impl Interlock {
    /// Returns what is missing, in words that say what to do.
    pub const fn words(self) -> &'static str {
        match self {
            Self::OperatorPresent => "nobody is at the controls; touch the screen",
            Self::LinkFresh => "the unit does not answer; see that it is on and near, and try again",
            Self::RecordDurable => "the record is not being saved; check the disk of the box",
            Self::ContactOk => "an electrode has lost contact; check the pads",
            Self::ClockSane => {
                "the clock of the box is behind its record; put it right, or start with --clock-confirmed-by NAME"
            }
            Self::GuardPresent => "the guard process is not running; start doseward again",
            Self::GuardHolds => {
                "the guard process cannot reach the unit yet; wait, or check its cable or radio"
            }
            Self::ReadBack => "the client's identity has not been read back; ask name or birth date",
            Self::AlarmTested => "nobody has heard the alarm today; run `doseward alarm test`",
            Self::HeldByPerson => "nobody is named as holding the gun; name the person in the plan",
            Self::StopsByItself => "this stimulator does not stop by itself when it hears nothing",
            Self::Battery => "its battery is below 15 %; charge it",
        }
    }

    /// Returns the code used in records.
    pub const fn code(self) -> &'static str {
        match self {
            Self::OperatorPresent => "operator_present",
            Self::LinkFresh => "link_fresh",
            Self::RecordDurable => "record_durable",
            Self::ContactOk => "contact_ok",
            Self::ClockSane => "clock_sane",
            Self::GuardPresent => "guard_present",
            Self::GuardHolds => "guard_holds",
            Self::ReadBack => "read_back",
            Self::AlarmTested => "alarm_tested",
            Self::HeldByPerson => "held_by_person",
            Self::StopsByItself => "stops_by_itself",
            Self::Battery => "battery",
        }
    }
}
