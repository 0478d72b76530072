//! What a session says at a terminal: one live line, and a sentence for everything that happens.

use std::fmt::Write as _;
use std::time::Duration;

use crate::alarm::{Alarm, Cause, Priority};
use crate::governor::{
    AlarmOutput, Entry, Phase, Refusal, Snapshot, StepState, StepView, StopView, UnitView, Verdict,
};
use crate::model::command::{DeviceId, Intensity};
use crate::model::dose::{Dose, Evidence};
use crate::model::plan::{Plan, Step};
use crate::model::protocol::Modality;
use crate::model::report::{EpochEnd, OwnButton, StopProgress};
use crate::model::session::{Actor, StopReason};
use crate::record::recover::GuardAct;
use crate::units::Mono;

/// What the keys do, and what the surest stop is.
pub(crate) const HELP: &str = "\
 + more   - less   h hold   r resume   space or s STOP ALL   n finish, then next   x stop this step
 l the client says less   c the client says stop (stops all)
 0-9 discomfort, t is ten   m too much   y identity agrees   a arm   R reset the stop   v seen stopped by hand
 w sensation is back after TENS   u resolve what is uncertain
 k alarms seen   o other step of the pair   q end the session (stops first)   ? this help
 The surest stop is at the client: lift the gun off and press its button; pull the stimulator's leads.";

/// An uncertain interval that ends later than this after now has no end that the unit brings about soon by itself.
const OWN_END: Duration = Duration::from_secs(5);

/// Returns the live line for step `number`, at most `columns` wide where that is possible: what matters least goes first.
pub(crate) fn live_line(plan: &Plan, snapshot: &Snapshot, number: u8, columns: usize) -> String {
    const BETWEEN: &str = " | ";
    let mut parts = parts(plan, snapshot, number);
    loop {
        let line = parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(BETWEEN);
        if line.chars().count() <= columns {
            return line;
        }
        let least = parts.iter().map(|part| part.rank).max().filter(|rank| *rank > MUST);
        // The last of the least; then what can be said shorter.
        if let Some(at) = least.and_then(|least| parts.iter().rposition(|part| part.rank == least)) {
            parts.remove(at);
            continue;
        }
        let shorter = parts.iter_mut().filter(|part| part.short.is_some());
        let Some(part) = shorter.min_by_key(|part| part.short.map_or(0, |(order, _)| order)) else {
            return line;
        };
        part.short.take().map_or("", |(_, short)| short).clone_into(&mut part.text);
    }
}

/// A part of the live line.
struct Part {
    /// The higher, the sooner it is left out.
    rank: u8,
    text: String,
    /// What stands there where even the parts that must stand are too wide, in this order.
    short: Option<(u8, &'static str)>,
}

/// Rank of a part of the live line that is always shown.
const MUST: u8 = 0;

/// Returns the parts of the live line in their order.
fn parts(plan: &Plan, snapshot: &Snapshot, number: u8) -> Vec<Part> {
    let mut parts = Vec::new();
    if let Some(generation) = snapshot.latched {
        let text = format!("STOPPED (stop {})", generation.0);
        parts.push(Part { rank: MUST, text, short: Some((1, "STOPPED")) });
    }
    let mut part = |rank: u8, text: String| parts.push(Part { rank, text, short: None });
    for (device, unit) in (0u8..).map(DeviceId).zip(&snapshot.units) {
        if unit.stop == StopView::Unconfirmed {
            part(MUST, format!("{}: stop NOT confirmed", label(plan, device)));
        }
    }
    match snapshot.alarms.len() {
        0 => {}
        1 => part(MUST, "1 alarm".to_owned()),
        count => part(MUST, format!("{count} alarms")),
    }
    if !snapshot.unresolved.is_empty() {
        part(MUST, format!("{} uncertain: u", snapshot.unresolved.len()));
    }
    if let Some(paused) = snapshot.sounding.paused {
        part(6, format!("sound paused {} s", paused.as_secs()));
    }
    let view = snapshot.steps.iter().find(|view| view.number == number);
    let step = plan.steps.iter().find(|step| step.number == number);
    let (Some(view), Some(step)) = (view, step) else {
        part(MUST, "all steps are over".to_owned());
        return parts;
    };
    part(1, format!("{number}/{} {} {}", plan.steps.len(), modality(step.modality), step.place));
    let over = matches!(view.state, StepState::Ended(_));
    parts.push(Part {
        rank: MUST,
        text: state(snapshot, view, step.device),
        short: over.then_some((0, "over")),
    });
    let mut part = |rank: u8, text: String| parts.push(Part { rank, text, short: None });
    part(2, format!("asked {} allowed {} ({})", view.asked, view.allowed, view.owner.word()));
    let text = delivered(snapshot, view, step.device);
    let short = text.contains(NOT_KNOWN).then_some((2, "delivered ?"));
    parts.push(Part { rank: MUST, text, short });
    let mut part = |rank: u8, text: String| parts.push(Part { rank, text, short: None });
    part(if over { 1 } else { MUST }, format!("left {}", clock(view.left)));
    let budget = budget(view);
    if !budget.is_empty() {
        part(4, budget);
    }
    if let Some(unit) = snapshot.units.get(usize::from(step.device.0)) {
        part(3, format!("{}: {}", label(plan, step.device), unit_state(unit)));
    }
    if view.uncertain {
        part(1, "not known exactly".to_owned());
    }
    parts
}

/// Returns what is left of the area and the day, and whose limit is the tightest.
fn budget(view: &StepView) -> String {
    let bounded = [("area", view.area_left), ("day", view.day_left)].into_iter();
    let bounded = bounded.filter(|(_, left)| *left != Duration::MAX);
    let bounded: Vec<String> = bounded.map(|(name, left)| format!("{name} {}", clock(left))).collect();
    let mut said = bounded.join(", ");
    if let Some(left) = view.budget {
        append(&mut said, format_args!(" ({})", left.owner.word()));
    }
    said
}

/// Returns what of the live line is worth a new line where lines cannot be repainted: everything but running time.
pub(crate) fn change_key(snapshot: &Snapshot, number: u8) -> String {
    let view = snapshot.steps.iter().find(|view| view.number == number);
    let view = view.map(|view| (view.state, view.asked, view.allowed, view.setpoint, view.phase));
    let units: Vec<_> =
        snapshot.units.iter().map(|unit| (unit.up, unit.battery, stop_state(unit.stop))).collect();
    format!("{number} {view:?} {units:?} {:?} {:?}", snapshot.latched, snapshot.alarms)
}

fn append(line: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String takes every text.
    line.write_fmt(text).unwrap_or_default();
}

fn modality(modality: Modality) -> &'static str {
    match modality {
        Modality::Percussion => "percussion",
        Modality::Nmes => "NMES",
        Modality::Tens => "TENS",
    }
}

fn state(snapshot: &Snapshot, view: &StepView, device: DeviceId) -> String {
    match view.state {
        StepState::Waiting => "waiting".to_owned(),
        StepState::Arming => "arming".to_owned(),
        StepState::Armed => "ready at zero".to_owned(),
        StepState::Running => match view.phase {
            Phase::Continuous => "running".to_owned(),
            Phase::RampUp => "running, rising".to_owned(),
            Phase::On => "running, on".to_owned(),
            Phase::RampDown => "running, falling".to_owned(),
            Phase::Off => "running, rest".to_owned(),
        },
        StepState::Held => "on hold at zero".to_owned(),
        StepState::Finishing => "finishing".to_owned(),
        StepState::Ended(StopReason::OtherText) => {
            let own = |alarm: &&Alarm| alarm.device.is_none_or(|of| of == device);
            let alarm = snapshot.alarms.iter().find(own);
            alarm.map_or_else(|| "over".to_owned(), |alarm| format!("over: {}", alarm.cause.why()))
        }
        StepState::Ended(reason) => format!("over: {}", reason.words()),
    }
}

/// Returns what the unit delivers. What it said before it fell silent, or before a stop that it has not proven, says
/// nothing of now.
fn delivered(snapshot: &Snapshot, view: &StepView, device: DeviceId) -> String {
    let lost = |alarm: &Alarm| alarm.cause == Cause::LinkLost && alarm.device == Some(device);
    let unproven =
        snapshot.units.get(usize::from(device.0)).is_some_and(|unit| unit.stop == StopView::Unconfirmed);
    match view.delivered.filter(|_| !unproven && !snapshot.alarms.iter().any(lost)) {
        Some(intensity) => format!("delivered {intensity}"),
        None => format!("delivered: {NOT_KNOWN}"),
    }
}

/// Said of what a unit delivers.
const NOT_KNOWN: &str = "not known";

fn unit_state(unit: &UnitView) -> String {
    let link = match (unit.up, unit.silent) {
        (false, _) => "no link".to_owned(),
        (true, None) => "no answer yet".to_owned(),
        (true, Some(silent)) => {
            format!("answered {}.{} s ago", silent.as_secs(), silent.subsec_millis() / 100)
        }
    };
    let battery = unit.battery.map_or(String::new(), |percent| format!(", battery {percent} %"));
    format!("{link}{battery}{}", stop_state(unit.stop))
}

fn stop_state(stop: StopView) -> String {
    match stop {
        StopView::None => String::new(),
        StopView::Asked => ", stop asked".to_owned(),
        StopView::Written => ", stop written".to_owned(),
        StopView::Confirmed(after) => format!(", last stop proven in {}", took(after)),
        StopView::Unconfirmed => ", stop NOT confirmed".to_owned(),
        StopView::Stated => ", stopped by hand".to_owned(),
    }
}

/// Returns minutes and seconds, for example "1:05", from an hour on "1:00:05".
pub(crate) fn clock(span: Duration) -> String {
    let (hours, minutes, seconds) = (span.as_secs() / 3600, span.as_secs() / 60 % 60, span.as_secs() % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Returns a time rounded up to whole seconds: what may have been given is never said too short.
fn up(span: Duration) -> Duration {
    Duration::from_secs(span.saturating_add(Duration::from_nanos(999_999_999)).as_secs())
}

/// Returns how long a stop took: milliseconds, from two seconds on seconds.
fn took(after: Duration) -> String {
    if after < Duration::from_secs(2) {
        format!("{} ms", after.as_millis())
    } else {
        format!("{}.{} s", after.as_secs(), after.subsec_millis() / 100)
    }
}

pub(crate) fn label(plan: &Plan, device: DeviceId) -> String {
    let planned = plan.devices.get(usize::from(device.0));
    planned.map_or_else(|| format!("unit {}", device.0.saturating_add(1)), |planned| planned.label.clone())
}

fn is_gun(plan: &Plan, device: DeviceId) -> bool {
    plan.steps.iter().any(|step| step.device == device && step.modality == Modality::Percussion)
}

fn place(plan: &Plan, number: u8) -> String {
    let step: Option<&Step> = plan.steps.iter().find(|step| step.number == number);
    step.map_or_else(|| format!("Step {number}"), |step| format!("Step {number}, {}", step.place))
}

/// Returns an alarm: how urgent, what is known, what to do.
pub(crate) fn alarm(plan: &Plan, alarm: Alarm) -> String {
    let unit = alarm.device.map_or_else(|| "the box".to_owned(), |device| label(plan, device));
    let gun = alarm.device.is_some_and(|device| is_gun(plan, device));
    let urgency = match alarm.cause.priority() {
        Priority::High => "!!! ",
        Priority::Medium => "!! ",
        Priority::Low => "! ",
    };
    format!("{urgency}{} {}", alarm.cause.known(&unit), alarm.cause.action(gun))
}

/// Returns the alarm of a unit whose stop is not proven.
pub(crate) fn unproven(plan: &Plan, device: DeviceId) -> String {
    alarm(plan, Alarm { cause: Cause::StopUnconfirmed, device: Some(device), channel: None })
}

/// Returns what a person does when a unit cannot be stopped from here.
pub(crate) fn by_hand(plan: &Plan, device: DeviceId) -> String {
    Cause::StopUnconfirmed.action(is_gun(plan, device)).to_owned()
}

/// Returns what the guard process did for a session that it took over.
pub(crate) fn guard_act(act: &GuardAct) -> String {
    let mut text = format!("doseward's watch had to stop the units: {}", act.said);
    for unit in &act.units {
        append(&mut text, format_args!("\n  {}.", unit.words(act.at_us)));
    }
    text
}

/// Returns what a verdict says; a plain grant says where it goes.
pub(crate) fn verdict(plan: &Plan, verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Granted { target: Some(target) } => Some(format!("Goes to {target}.")),
        Verdict::Granted { target: None } => None,
        Verdict::NeedsReason { asked, usual } => {
            Some(format!("{asked} is above what is usual ({usual}). It needs a reason; nothing has changed."))
        }
        Verdict::Refused(Refusal::NotProven { device }) => Some(format!(
            "Not now: {} has not proven that it stopped. Stop it by hand and see that it stopped.",
            label(plan, *device)
        )),
        Verdict::Refused(refusal) => Some(refusal.to_string()),
    }
}

/// Returns the sentence for an entry, `None` for one that needs none at a terminal (the record has it all).
#[expect(clippy::too_many_lines, reason = "a table: one sentence per kind of entry")]
pub(crate) fn entry(plan: &Plan, at: Mono, entry: &Entry) -> Option<String> {
    let said = match entry {
        Entry::ReadBack { client, .. } => format!("Identity agrees: {client}."),
        Entry::Armed { step, .. } => format!("{}: armed at zero.", place(plan, *step)),
        Entry::Beside { step, other, distance, .. } => {
            format!("{}: {distance} from {}.", place(plan, *step), place(plan, *other).to_lowercase())
        }
        Entry::Declared { declared, .. } => format!(
            "Counted as given elsewhere today: {} on {}, {}.",
            modality(declared.modality),
            declared.place,
            clock(declared.time)
        ),
        Entry::BeyondCourse { sessions, reason, .. } => {
            format!("Beyond the course, after {sessions} sessions in seven days: {reason}.")
        }
        // Said when the session begins, before there are events.
        Entry::ClockConfirmed { .. } => return None,
        Entry::SensationReturned { step, .. } => format!("{}: sensation has returned.", place(plan, *step)),
        Entry::BudgetUsed { step, budget, owner, limit } => format!(
            "{}: {} is used up ({}, limit of the {}).",
            place(plan, *step),
            budget.words(),
            clock(*limit),
            owner.word()
        ),
        Entry::Ended { device, dose, most, .. } => format!(
            "{} has proven its stop: what it gave on {} in an earlier session is at most {}. u resolves it.",
            label(plan, *device),
            dose.place,
            clock(up(*most))
        ),
        Entry::Resolved { gave, reason, .. } => {
            format!("Uncertain interval resolved: {} counts. Reason: {reason}.", clock(up(*gave)))
        }
        Entry::IntentVoid { why, .. } => format!("Nothing was raised. {why}"),
        Entry::Acted { by, step, to, .. } if by.is_client() => {
            format!("{}: the client said less, now {to}. Ask how it is now.", place(plan, *step))
        }
        Entry::Acted { step, what, to, .. } => format!("{}: {what}, now {to}.", place(plan, *step)),
        Entry::Stopped { step, reason, .. } => format!("{}: over{}.", place(plan, *step), because(*reason)),
        Entry::Held { step, reason, .. } => {
            format!("{}: on hold at zero{}. Resume starts at zero.", place(plan, *step), because(*reason))
        }
        Entry::StopAll { by, reason, generation } => format!(
            "STOP ALL (stop {}), {} ({}). Nothing starts by itself.",
            generation.0,
            reason.words(),
            actor(by)
        ),
        Entry::StopProgress { device, progress, after, .. } => {
            return stop_progress(&label(plan, *device), *progress, *after);
        }
        Entry::Reset { generation, .. } => format!("Stop {} is reset. This starts nothing.", generation.0),
        Entry::StatedStopped { device, .. } => {
            format!("{}: stated as stopped by hand and seen to stop.", label(plan, *device))
        }
        Entry::Comfort { step, score, to, .. } => {
            let ask = if score.score() >= 7 { " Ask the client how it is now." } else { "" };
            format!("{}: discomfort {}, now {to}.{ask}", place(plan, *step), score.score())
        }
        Entry::OperatorLimit { step, limit, .. } => own_limit(&place(plan, *step), *limit),
        Entry::Link { device, up } => {
            let link = if *up { "connected" } else { "the link is lost" };
            format!("{}: {link}.", label(plan, *device))
        }
        Entry::Identity { device, identity } => format!(
            "{}: it says it is {}, serial {}, firmware {}.",
            label(plan, *device),
            known(&identity.model),
            known(&identity.serial),
            known(&identity.firmware)
        ),
        // It changes the order of frames and nothing that a person sees or does.
        Entry::StopLearnt { .. } => return None,
        Entry::EpochEnded { device, cause, .. } => return epoch_ended(&label(plan, *device), *cause),
        Entry::OwnButton { device, what } => own_button(&label(plan, *device), *what),
        Entry::Dose(dose) => return uncertain(plan, at, dose),
        Entry::Alarm { alarm: cause, raised: true } => alarm(plan, *cause),
        Entry::Alarm { raised: false, .. } => return None,
        Entry::AlarmsSeen { alarms, quiet, .. } => alarms_seen(alarms.len(), *quiet),
        Entry::AlarmOutput { state } => return alarm_output(*state),
        Entry::LockedOut { device, cause, left } => format!(
            "{}: stopped three times within ten minutes because {}: locked for {} min.",
            label(plan, *device),
            cause.why(),
            left.as_secs().div_ceil(60)
        ),
        Entry::Force { step, force, max, to } => format!(
            "{}: pressed with {force}, allowed {max}; {}.",
            place(plan, *step),
            if to.is_zero() { "zero".to_owned() } else { format!("now {to}") }
        ),
        Entry::Lease { alive } => {
            let known =
                if *alive { "watched; nothing rises by itself" } else { "not watched: outputs go to zero" };
            format!("This screen is {known}.")
        }
        Entry::Anomaly { device, what } => format!("{}: {what}.", label(plan, *device)),
        // The asker hears the verdict; battery is on the live line.
        Entry::Intent { .. } | Entry::Refused { .. } | Entry::Battery { .. } => return None,
    };
    Some(said)
}

/// Returns a reason as it follows a sentence; nothing where the alarm that is said next has it.
fn because(reason: StopReason) -> String {
    if reason == StopReason::OtherText { String::new() } else { format!(", {}", reason.words()) }
}

fn alarms_seen(count: usize, quiet: Duration) -> String {
    let alarms = if count == 1 { "The alarm is" } else { "The alarms are" };
    if quiet.is_zero() {
        format!("{alarms} seen. The sound goes on while an output is not proven to be at zero.")
    } else {
        format!("{alarms} seen. What stays is silent for {} s.", quiet.as_secs())
    }
}

fn alarm_output(state: AlarmOutput) -> Option<String> {
    let said = match state {
        AlarmOutput::Untested => {
            "Nobody has heard the alarm today: run `doseward alarm test`. Nothing can be armed."
        }
        AlarmOutput::Failing => "The alarm's player does not work. Nothing can be armed.",
        // That it goes to a log was said at the start.
        AlarmOutput::Heard | AlarmOutput::Logged => return None,
    };
    Some(said.to_owned())
}

fn actor(by: &Actor) -> String {
    format!("{}, {}", by.person, by.screen)
}

fn known(text: &str) -> &str {
    if text.is_empty() { "not said" } else { text }
}

fn own_limit(place: &str, limit: Option<Intensity>) -> String {
    match limit {
        Some(limit) => format!("{place}: not above {limit}."),
        None => format!("{place}: your own limit is lifted."),
    }
}

fn stop_progress(unit: &str, progress: StopProgress, after: Duration) -> Option<String> {
    match progress {
        StopProgress::Written => None,
        StopProgress::Confirmed => Some(format!("{unit}: zero, confirmed in {}.", took(after))),
        // The alarm that goes with it says what to do.
        StopProgress::Unconfirmed => Some(format!("{unit}: stop NOT confirmed after {}.", took(after))),
    }
}

fn epoch_ended(unit: &str, cause: EpochEnd) -> Option<String> {
    let why = match cause {
        EpochEnd::Stopped => return None,
        EpochEnd::LeadOff(channel) => {
            format!("an electrode of output {} has no contact", channel.0.saturating_add(1))
        }
        EpochEnd::PulseError(channel) => {
            format!("output {} could not give its pulse", channel.0.saturating_add(1))
        }
        EpochEnd::Result(result) => format!("it answered with result {result}"),
        EpochEnd::LostAcknowledgement => "an acknowledgement is missing".to_owned(),
        EpochEnd::KeepAliveLost => "its keep-alive was not answered".to_owned(),
        EpochEnd::UnexpectedStatus => "it is in another state than it should be".to_owned(),
        EpochEnd::Disconnected => "its link is gone".to_owned(),
        EpochEnd::LeaseEnded => "nobody allowed it to go on".to_owned(),
    };
    Some(format!("{unit}: {why}. Nothing starts again by itself; a person starts it, from zero."))
}

fn own_button(unit: &str, what: OwnButton) -> String {
    match what {
        OwnButton::Started(at) => format!("{unit}: started at its own button ({at})."),
        OwnButton::Stopped => format!("{unit}: stopped at its own button."),
        OwnButton::Lowered(to) => format!("{unit}: lowered at its own button to {to}."),
        OwnButton::Raised(to) => format!("{unit}: raised at its own button to {to}."),
        OwnButton::Changed(to) => format!("{unit}: set at its own button to {to}."),
    }
}

/// Returns the sentence for an uncertain interval.
fn uncertain(plan: &Plan, at: Mono, dose: &Dose) -> Option<String> {
    if dose.evidence != Evidence::Uncertain {
        return None;
    }
    let (least, most) = dose.on_us;
    let gun = dose.modality == Modality::Percussion;
    let buttons = if gun { " unless its own buttons were pressed" } else { "" };
    let ends = if dose.until > at.saturating_add(OWN_END) { ", if nobody stops it by hand" } else { "" };
    Some(format!(
        "{}, {}: what it gave is not certain: between {} and {} of output{ends}, at no more than {}{buttons}. \
         Ask the client what was felt.",
        label(plan, dose.device),
        dose.place,
        clock(Duration::from_micros(least)),
        clock(up(Duration::from_micros(most))),
        dose.upper.intensity(),
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, Library};
    use crate::governor::{Governor, Settings};

    #[test]
    fn times_are_minutes_and_seconds() {
        assert_eq!(clock(Duration::from_secs(65)), "1:05");
        assert_eq!(clock(Duration::from_millis(59_999)), "0:59");
        assert_eq!(clock(Duration::from_secs(9007)), "2:30:07");
    }

    /// A session on the plan of the tests whose first step, on a gun, is over in the given way.
    fn over(reason: StopReason, also: impl FnOnce(&mut Snapshot)) -> (Plan, Snapshot) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/plans/gun-first.toml");
        let plan = config::load_plan(&Library::embedded(), &path).unwrap().plan;
        let governor = Governor::new(plan.clone(), Settings::default(), Mono::ORIGIN);
        let mut snapshot = governor.snapshot(Mono::ORIGIN);
        snapshot.steps[0].state = StepState::Ended(reason);
        snapshot.steps[0].delivered = Some(snapshot.steps[0].allowed);
        also(&mut snapshot);
        (plan, snapshot)
    }

    fn alarm_of(cause: Cause, device: Option<DeviceId>) -> Alarm {
        Alarm { cause, device, channel: None }
    }

    #[test]
    fn what_a_unit_delivers_is_not_known_once_it_is_lost_or_its_stop_is_not_confirmed() {
        let gun = DeviceId(1);
        let line = |also: fn(&mut Snapshot)| {
            let (plan, snapshot) = over(StopReason::LinkLost, also);
            live_line(&plan, &snapshot, 1, 1000)
        };
        assert!(line(|_| ()).contains("| delivered "), "{}", line(|_| ()));
        let lost = line(|snapshot| snapshot.alarms.push(alarm_of(Cause::LinkLost, Some(DeviceId(1)))));
        assert!(lost.contains("| delivered: not known |"), "{lost}");
        let other = line(|snapshot| snapshot.alarms.push(alarm_of(Cause::LinkLost, Some(DeviceId(0)))));
        assert!(other.contains("| delivered ") && !other.contains("not known"), "{other}");
        let unproven = line(|snapshot| snapshot.units[1].stop = StopView::Unconfirmed);
        assert!(unproven.contains("| delivered: not known |"), "{unproven}");
        assert!(is_gun(&over(StopReason::LinkLost, |_| ()).0, gun));
    }

    #[test]
    fn where_the_line_is_narrow_the_reason_goes_and_no_word_is_cut() {
        let (plan, snapshot) = over(StopReason::ReadbackMismatch, |snapshot| {
            snapshot.units[1].stop = StopView::Unconfirmed;
            snapshot.alarms.push(alarm_of(Cause::StopUnconfirmed, Some(DeviceId(1))));
            snapshot.latched = Some(crate::model::command::Generation(12));
        });
        let wide = live_line(&plan, &snapshot, 1, 140);
        assert!(wide.contains("| over: the unit did not do what was asked |"), "{wide}");
        let narrower = live_line(&plan, &snapshot, 1, 100);
        assert!(narrower.contains("STOPPED (stop 12) |") && narrower.contains("| over |"), "{narrower}");
        let narrow = live_line(&plan, &snapshot, 1, 80);
        assert_eq!(narrow, "STOPPED | Gun 1: stop NOT confirmed | 1 alarm | over | delivered: not known");
    }

    #[test]
    fn a_reason_that_only_points_to_an_alarm_is_said_in_the_words_of_that_alarm() {
        let (plan, snapshot) = over(StopReason::OtherText, |snapshot| {
            snapshot.alarms.push(alarm_of(Cause::DeviceFault, Some(DeviceId(0))));
            snapshot.alarms.push(alarm_of(Cause::RecordFailing, None));
        });
        let line = live_line(&plan, &snapshot, 1, 1000);
        assert!(line.contains("over: the record could not be written"), "{line}");
        let generation = crate::model::command::Generation(1);
        let held = Entry::Held { step: 1, reason: StopReason::OtherText, generation };
        let said = entry(&plan, Mono::ORIGIN, &held).unwrap();
        assert!(said.ends_with("on hold at zero. Resume starts at zero."), "{said}");
    }

    #[test]
    fn what_counts_is_rounded_up() {
        let (plan, _) = over(StopReason::LinkLost, |_| ());
        assert_eq!(
            (clock(up(Duration::from_micros(1))), clock(up(Duration::from_secs(9)))),
            ("0:01".into(), "0:09".into())
        );
        let resolved = Entry::Resolved {
            by: Actor { person: "T-01".to_owned(), screen: "terminal".to_owned() },
            of: crate::model::budget::DoseRef { session: None, dose: crate::model::dose::DoseId(1) },
            shown: (Duration::ZERO, Duration::from_millis(400)),
            gave: Duration::from_millis(400),
            reason: "felt nothing".to_owned(),
        };
        let said = entry(&plan, Mono::ORIGIN, &resolved).unwrap();
        assert!(said.contains("resolved: 0:01 counts"), "{said}");
    }

    #[test]
    fn an_unconfirmed_stop_is_never_said_quietly() {
        let said = stop_progress("Gun B", StopProgress::Unconfirmed, Duration::from_secs(1));
        assert_eq!(said.as_deref(), Some("Gun B: stop NOT confirmed after 1000 ms."));
        assert_eq!(stop_progress("Gun B", StopProgress::Written, Duration::ZERO), None);
    }
}
