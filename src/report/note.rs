//! The session note in plain text: what was given, what is not certain, what was alarming. Written from the record
//! alone; a therapist reads and signs it.
//!
//! Wording: say what is known, then what follows, then what to do. Never a code without words.

use jiff::tz::TimeZone;

use crate::alarm::Cause;
use crate::model::area::{AreaCode, Place};
use crate::model::budget::Spent;
use crate::model::command::Setpoint;
use crate::model::dose::Evidence;
use crate::model::plan::ClientCode;
use crate::model::session::{SessionId, StopReason};
use crate::record::RecordError;
use crate::record::daily;
use crate::record::entry::{
    self, AtUnit, Body, HeadApplicator, HeadDevice, HeadElectrode, HeadStep, HeadStimulation, HowFar,
    SealReason, StoredEntry,
};
use crate::record::settle::NarrowedBy;
use crate::record::spent::Asked;
use crate::record::store::{Reader, RecordedDose};
use crate::units::{Hertz, Mono, SquareCentimetres};

/// An uncertain interval that ends later than this after the last entry has no end but a hand's.
const OWN_END_US: u64 = 5_000_000;

/// Widest line of the note, characters.
const WIDTH: usize = 100;

/// Returns the note of a session in the time zone of this box.
///
/// # Errors
/// When there is no such session or the record cannot be read.
pub fn text(reader: &Reader, session: &SessionId) -> Result<String, RecordError> {
    let own = daily::zones().into_iter().next();
    text_in(reader, session, &own.unwrap_or(TimeZone::UTC))
}

/// Returns the note of a session in a given time zone.
///
/// # Errors
/// When there is no such session or the record cannot be read.
pub fn text_in(reader: &Reader, session: &SessionId, zone: &TimeZone) -> Result<String, RecordError> {
    Ok(Note::read(reader, session, zone)?.text())
}

/// Everything the note says.
struct Note {
    zone: TimeZone,
    session: SessionId,
    client: String,
    plan: String,
    simulated: bool,
    software: String,
    devices: Vec<HeadDevice>,
    steps: Vec<HeadStep>,
    events: Vec<Event>,
    doses: Vec<RecordedDose>,
    /// Wall clock and monotonic µs of the first entry: what maps a dose's instant to a time of day.
    opened: (jiff::Timestamp, u64),
    ended: Option<(jiff::Timestamp, SealReason)>,
    /// The session was cut short, and the machine was started again before the record was settled.
    rebooted: bool,
    head: String,
    /// What the client had got on that day when this session was over.
    spent: Spent,
}

/// One entry, read.
struct Event {
    wall: jiff::Timestamp,
    mono_us: u64,
    body: Body,
}

/// Why and when output of a step ended or paused.
struct Break {
    clock: String,
    words: String,
}

impl Note {
    fn read(reader: &Reader, session: &SessionId, zone: &TimeZone) -> Result<Self, RecordError> {
        let entries = reader.entries(session)?;
        let doses = reader.doses(session)?;
        let mut events = entries.iter().map(Event::read).collect::<Result<Vec<_>, _>>()?;
        let head = entries.last().map(|entry| entry.hash.clone()).unwrap_or_default();
        let no_head =
            || RecordError::Damaged { what: format!("session {session} does not begin with its head") };
        if events.is_empty() {
            return Err(no_head());
        }
        let first = events.remove(0);
        let ended = events.last().and_then(|event| {
            if let Body::Seal { reason, .. } = &event.body { Some((event.wall, *reason)) } else { None }
        });
        let opened = (first.wall, first.mono_us);
        let Body::Open { plan_title, client, simulated, software, devices, steps, boot, .. } = first.body
        else {
            return Err(no_head());
        };
        let taken_over = events.iter().any(|event| matches!(event.body, Body::Guard { .. }));
        let rebooted = !taken_over && rebooted(reader, session, boot.as_deref())?;
        let wall = events.last().map_or(opened.0, |event| event.wall);
        let spent = reader.spent(&Asked {
            client: &ClientCode::new(client.clone()),
            plan_id: "",
            until: Some(session),
            simulated,
            zones: std::slice::from_ref(zone),
            wall,
            monotonic_us: 0,
            origin_us: 0,
            boot: None,
        })?;
        Ok(Self {
            spent,
            zone: zone.clone(),
            session: session.clone(),
            client,
            plan: plan_title,
            simulated,
            software,
            devices,
            steps,
            events,
            doses,
            opened,
            ended,
            rebooted,
            head,
        })
    }

    fn text(&self) -> String {
        let mut out = String::new();
        self.header(&mut out);
        if self.ended.is_none() {
            out.push('\n');
            paragraph(
                &mut out,
                "",
                "INCOMPLETE: this session is not closed in the record. What follows may be less than what was given. \
                 Look at the client, and start doseward again: it adds what may have been given.",
            );
        }
        out.push_str("\nWhat was given\n");
        for step in &self.steps {
            paragraph(&mut out, &format!("{}. ", step.number), &self.step(step));
        }
        self.budgets(&mut out);
        self.uncertain(&mut out);
        self.alarms(&mut out);
        out.push('\n');
        paragraph(
            &mut out,
            "",
            "Not signed yet. doseward wrote this from its record; it becomes the session note when a therapist has \
             read and signed it.",
        );
        if self.ended.is_some() {
            paragraph(&mut out, "", "Anchor of the record; whoever verifies it later needs this line:");
            out.push_str(&format!("{}\n", self.head));
        }
        out
    }

    fn header(&self, out: &mut String) {
        out.push_str(&format!("Session note for client {}\n", self.client));
        out.push_str(&format!("Plan: {}\n", self.plan));
        if self.simulated {
            out.push_str("SIMULATED units: nobody was treated.\n");
        } else {
            out.push_str("Real units.\n");
        }
        let begin = self.opened.0.to_zoned(self.zone.clone());
        let end = match &self.ended {
            Some((wall, SealReason::Closed)) => format!(" to {}", self.clock(*wall)),
            Some((wall, SealReason::DaemonRestart)) => {
                format!(", cut short: {}; the record was completed at {}", self.cut(), self.day_clock(*wall))
            }
            None => ", still open".to_owned(),
        };
        out.push_str(&format!(
            "{}{end} (UTC{})\n",
            begin.strftime("%-d %b %Y, %H:%M:%S"),
            begin.strftime("%:z")
        ));
        out.push_str(&format!("Session {}, {}\n", self.session, self.software));
    }

    /// Returns what cut the session short.
    const fn cut(&self) -> &'static str {
        if self.rebooted { "the box restarted" } else { "doseward stopped working" }
    }

    fn is_cut_short(&self) -> bool {
        matches!(self.ended, Some((_, SealReason::DaemonRestart)))
    }

    /// Returns the sentence of one step.
    fn step(&self, step: &HeadStep) -> String {
        let doses: Vec<&RecordedDose> =
            self.doses.iter().filter(|dose| dose.dose.step == step.number).collect();
        let mut said =
            format!("{}: {} with {}", first_upper(&step.place()), self.what(step), self.unit(step.device));
        said.push_str(&settings(step));
        if doses.is_empty() {
            said.push_str("; no output was given");
        } else {
            said.push_str(&format!(", {} at up to {}", how_long(&doses), highest(&doses)));
        }
        if doses.iter().any(|dose| dose.dose.rate_basis == crate::model::capability::RateBasis::WorstCase) {
            said.push_str(" (strokes per minute of this gun are not measured)");
        }
        said.push_str(&self.comfort(step.number, &doses));
        let mut breaks = self.breaks(step.number);
        let cut_short = self.is_cut_short() && doses.iter().any(|dose| dose.recovered);
        let last = if cut_short { None } else { breaks.pop() };
        for pause in breaks {
            said.push_str(&format!("; interrupted at {}: {}", pause.clock, pause.words));
        }
        for lowered in self.lowered(step) {
            said.push_str(&lowered);
        }
        for reason in self.reasons(step.number) {
            said.push_str(&format!("; above the usual range, the reason given: {reason}"));
        }
        if let Some(last) = last {
            said.push_str(&format!("; ended at {}: {}", last.clock, last.words));
        } else if cut_short {
            said.push_str(&format!("; cut short when {}", self.cut()));
        }
        said.push('.');
        said
    }

    fn what(&self, step: &HeadStep) -> String {
        format!("{} ({})", modality_words(&step.modality), step.title)
    }

    fn unit(&self, device: u8) -> &str {
        self.devices.get(usize::from(device)).map_or("an unknown unit", |unit| unit.label.as_str())
    }

    /// Returns discomfort before and after the output of a step, in words.
    fn comfort(&self, number: u8, doses: &[&RecordedDose]) -> String {
        let begin = doses.iter().map(|dose| dose.dose.from).min();
        let end = doses.iter().map(|dose| dose.until()).max();
        let mut scores = Vec::new();
        for event in &self.events {
            if let Body::Comfort { step, score, .. } = &event.body
                && *step == number
            {
                scores.push((Mono::from_micros(event.mono_us), *score));
            }
        }
        if scores.is_empty() {
            return "; discomfort was not asked".to_owned();
        }
        let before = scores.iter().rev().find(|(at, _)| begin.is_none_or(|begin| *at <= begin));
        let after = scores.iter().rev().find(|(at, _)| end.is_some_and(|end| *at >= end));
        let during = scores.iter().filter(|(at, _)| begin.is_some_and(|begin| *at > begin));
        let during = during.filter(|(at, _)| end.is_some_and(|end| *at < end)).map(|(_, score)| score).max();
        let word =
            |score: Option<&(Mono, u8)>| score.map_or("not asked".to_owned(), |(_, score)| score.to_string());
        let most = during.map_or(String::new(), |score| format!(", at most {score} during"));
        format!("; discomfort {} before{most}, {} after", word(before), word(after))
    }

    /// Returns what ended or paused the output of a step, in order.
    fn breaks(&self, number: u8) -> Vec<Break> {
        let mut found = Vec::new();
        for event in &self.events {
            let words = if let Body::Stopped { step, reason, .. } = &event.body {
                Some(self.stop_words(reason, *step, event.mono_us)).filter(|_| *step == number)
            } else if let Body::Acted { step, what, by, .. } = &event.body {
                Some(format!("on hold by {}", by.person)).filter(|_| *step == number && what == "hold")
            } else {
                None
            };
            found.extend(words.map(|words| Break { clock: self.clock(event.wall), words }));
        }
        found
    }

    /// Returns why a step ended, in words. Where the reason only points to an alarm, the alarm's own are due.
    fn stop_words(&self, code: &str, number: u8, at_us: u64) -> String {
        let reason = StopReason::ALL.iter().find(|reason| reason.code() == code);
        let Some(reason) = reason.filter(|reason| **reason != StopReason::OtherText) else {
            let device = self.steps.iter().find(|step| step.number == number).map(|step| step.device);
            let mut alarms = self.events.iter().filter(|event| event.mono_us.abs_diff(at_us) <= SECOND);
            let why = alarms.find_map(|event| {
                if let Body::Alarm { cause, device: of, raised: true, .. } = &event.body
                    && (of.is_none() || *of == device)
                {
                    entry::cause(cause).map(Cause::why)
                } else {
                    None
                }
            });
            return why.unwrap_or(StopReason::OtherText.words()).to_owned();
        };
        reason.words().to_owned()
    }

    /// Returns when the unit was lowered at its own button in a step: between its arming and the unit's next.
    fn lowered(&self, step: &HeadStep) -> Vec<String> {
        let mut armed = None;
        let mut found = Vec::new();
        for event in &self.events {
            if let Body::Armed { step, .. } = &event.body {
                let device = self.steps.iter().find(|known| known.number == *step).map(|known| known.device);
                armed = device.map(|device| (*step, device)).or(armed);
            } else if let Body::OwnButton { device, what: AtUnit::Lowered { to } } = &event.body
                && armed == Some((step.number, *device))
            {
                let clock = self.clock(event.wall);
                found.push(format!("; lowered at the unit itself at {clock} to {}", to.intensity()));
            }
        }
        found
    }

    /// Returns how an unproven stop went on, after the alarm of it.
    fn proof(&self, after: usize, device: Option<u8>) -> String {
        for event in self.events.iter().skip(after) {
            if let Body::StopProgress { device: unit, progress: HowFar::Confirmed, .. } = &event.body
                && Some(*unit) == device
            {
                return format!("Its stop was proven at {}.", self.clock(event.wall));
            }
            if let Body::Guard { units, .. } = &event.body
                && let Some(device) = device
                && let Some(at) = units
                    .iter()
                    .find(|unit| unit.unit == self.unit(device))
                    .and_then(|unit| unit.confirmed_us)
            {
                let at = self.clock_of(Mono::from_micros(at));
                return format!("Its stop was proven at {at}.");
            }
            if let Body::StatedStopped { by, device: unit } = &event.body
                && Some(*unit) == device
            {
                return format!(
                    "{} stated at {} that it was stopped by hand.",
                    by.person,
                    self.clock(event.wall)
                );
            }
        }
        let later = self.doses.iter().filter(|dose| Some(dose.dose.device.0) == device);
        let later = later.filter_map(|dose| dose.narrowed.as_ref().map(|(by, _)| *by));
        let mut later = later.filter(|by| *by != NarrowedBy::Telemetry);
        later.next().map_or_else(
            || "Nothing in this record proves that it stopped.".to_owned(),
            |by| format!("{}.", first_upper(by.words())),
        )
    }

    /// Returns the reasons given for going above the usual range.
    fn reasons(&self, number: u8) -> Vec<&str> {
        let mut found = Vec::new();
        for event in &self.events {
            if let Body::Intent { step, reason: Some(reason), .. } = &event.body
                && *step == number
            {
                found.push(reason.as_str());
            }
        }
        found.dedup();
        found
    }

    /// Says what today's budgets held after this session, with whose limits.
    fn budgets(&self, out: &mut String) {
        let mut said: Vec<String> = Vec::new();
        for step in &self.steps {
            let (Ok(modality), Ok(side)) = (entry::modality(&step.modality), entry::side(&step.side)) else {
                continue;
            };
            let area = AreaCode::new(step.area.clone());
            let halves = side.halves().iter().map(|half| self.spent.on_half(modality, &area, *half));
            let on_area = halves.max().unwrap_or_default();
            let on_client = self.spent.day.get(&modality).copied().unwrap_or_default();
            let place = Place { area, side };
            let doubt = |here: bool| {
                let mut open = self.spent.open.iter().filter(|open| open.today && open.modality == modality);
                open.any(|open| !here || open.place.as_ref().is_some_and(|other| other.overlaps(&place)))
            };
            for budget in &step.budgets {
                let (what, used, doubt) = match budget.budget.as_str() {
                    "area" => (
                        format!("{} on {}", modality_words(&step.modality), step.place()),
                        on_area,
                        doubt(true),
                    ),
                    "day" => (format!("{} in all", modality_words(&step.modality)), on_client, doubt(false)),
                    _ => continue,
                };
                let verb = if doubt { "may have been used" } else { "used" };
                let limit = clock_time(budget.limit_us / SECOND);
                let used = clock_time(crate::units::duration_micros(used).div_ceil(SECOND));
                let line = format!("{what}: {used} of {limit} {verb} (limit of the {}).", budget.owner);
                if !said.contains(&line) {
                    said.push(line);
                }
            }
        }
        if !said.is_empty() {
            out.push_str("\nTime budgets of this day, after this session\n");
        }
        for line in said {
            paragraph(out, "- ", &first_upper(&line));
        }
    }

    fn uncertain(&self, out: &mut String) {
        let doses: Vec<_> =
            self.doses.iter().filter(|dose| dose.dose.evidence == Evidence::Uncertain).collect();
        if doses.is_empty() {
            return;
        }
        out.push_str("\nNot certain\n");
        let todo = entry::cause("uncertain").map_or("", |cause| cause.action(false));
        for recorded in doses {
            let dose = &recorded.dose;
            let why = if recorded.recovered && self.is_cut_short() {
                format!("{} while this output may have been on.", first_upper(self.cut()))
            } else {
                "Nothing proves what the unit did in this time.".to_owned()
            };
            let last = self.events.last().map_or(self.opened.1, |event| event.mono_us);
            let open = if recorded.narrowed.is_none()
                && dose.until > Mono::from_micros(last.saturating_add(OWN_END_US))
            {
                " The longest is what it can have given if nobody stopped it by hand."
            } else {
                ""
            };
            let (least, most) = dose.on_us;
            let gun = matches!(dose.upper, Setpoint::Speed(_) | Setpoint::Level(_));
            let buttons = if gun { ", unless the gun's own buttons were pressed" } else { "" };
            let said = format!(
                "{}, from {}: {} of output certain, up to {} possible, at no more than {}{buttons}. {why}{open}{} Budgets \
                 count {}.{}",
                first_upper(&dose.place.to_string()),
                self.clock_of(dose.from),
                clock_time(least / SECOND),
                clock_time(most.div_ceil(SECOND)),
                dose.upper.intensity(),
                self.settled(recorded),
                clock_time(recorded.counted_us().div_ceil(SECOND)),
                if recorded.is_open() { format!(" {todo}") } else { String::new() },
            );
            paragraph(out, "- ", &said);
        }
    }

    /// Returns how later sources narrowed an uncertain dose, and how a person resolved it.
    fn settled(&self, recorded: &RecordedDose) -> String {
        let mut said = String::new();
        if let Some((by, _)) = &recorded.narrowed {
            let (least, most) = recorded.bounds_us();
            said.push_str(&format!(
                " Narrowed to between {} and {}: {}.",
                clock_time(least / SECOND),
                clock_time(most.div_ceil(SECOND)),
                by.words()
            ));
        }
        if let Some(resolved) = &recorded.resolved {
            let (least, most) = resolved.shown_us;
            said.push_str(&format!(
                " Resolved by {} at {} between {} and {}: {} ({}).",
                resolved.by.person,
                self.day_clock(resolved.wall),
                clock_time(least / SECOND),
                clock_time(most.div_ceil(SECOND)),
                clock_time(resolved.gave_us.div_ceil(SECOND)),
                resolved.reason
            ));
        }
        said
    }

    fn alarms(&self, out: &mut String) {
        let mut said = Vec::new();
        for (index, event) in self.events.iter().enumerate() {
            if let Body::Alarm { cause, device, raised: true, .. } = &event.body {
                let mut alarm = format!("{}: {}", self.clock(event.wall), self.alarm(cause, *device));
                if entry::cause(cause) == Some(Cause::StopUnconfirmed) {
                    alarm = format!("{alarm} {}", self.proof(index, *device));
                }
                said.push(alarm);
            } else if let Body::Guard { said: why, at_us, units, .. } = &event.body {
                let at = self.clock_of(Mono::from_micros(*at_us));
                let units: Vec<String> =
                    units.iter().map(|unit| format!(" {}.", unit.words(*at_us))).collect();
                said.push(format!("{at}: doseward's watch had to stop the units: {why}{}", units.concat()));
            }
        }
        if said.is_empty() {
            if self.is_cut_short() {
                out.push_str("\nNo alarms before it was cut short.\n");
            } else if self.ended.is_some() {
                out.push_str("\nNo alarms.\n");
            }
            return;
        }
        out.push_str("\nAlarms\n");
        for alarm in said {
            paragraph(out, "- ", &alarm);
        }
    }

    fn alarm(&self, code: &str, device: Option<u8>) -> String {
        let unit = device.map_or("The unit", |device| self.unit(device));
        let gun = device.is_some_and(|device| {
            self.steps.iter().any(|step| step.device == device && step.stimulation.is_none())
        });
        entry::cause(code).map_or_else(
            || format!("{unit}: {}.", code.replace('_', " ")),
            |cause| format!("{} {}", cause.known(unit), cause.action(gun)),
        )
    }

    fn clock(&self, wall: jiff::Timestamp) -> String {
        wall.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string()
    }

    fn day_clock(&self, wall: jiff::Timestamp) -> String {
        wall.to_zoned(self.zone.clone()).strftime("%-d %b %Y, %H:%M:%S").to_string()
    }

    /// Returns the time of day of an instant on the session's clock.
    fn clock_of(&self, at: Mono) -> String {
        let passed = jiff::SignedDuration::try_from(at.since(Mono::from_micros(self.opened.1)));
        let wall = passed.ok().and_then(|passed| self.opened.0.checked_add(passed).ok());
        wall.map_or_else(|| "an unknown time".to_owned(), |wall| self.clock(wall))
    }
}

impl Event {
    fn read(entry: &StoredEntry) -> Result<Self, RecordError> {
        let body = crate::record::store::body_of(entry)?;
        Ok(Self { wall: crate::record::store::wall_of(entry)?, mono_us: entry.mono_us, body })
    }
}

fn modality_words(word: &str) -> &str {
    match word {
        "tens" => "TENS",
        "nmes" => "NMES",
        other => other,
    }
}

/// Microseconds of a second.
const SECOND: u64 = 1_000_000;

/// Returns pulse timing and electrodes, or the attachment.
fn settings(step: &HeadStep) -> String {
    let touches = match &step.applicator {
        HeadApplicator::Attachment(name) => format!(", attachment {name}"),
        HeadApplicator::Electrodes(pads) => electrodes(pads),
    };
    let pulses = step.stimulation.as_ref().map_or_else(String::new, pulses);
    format!("{touches}{pulses}")
}

fn electrodes(pads: &[HeadElectrode]) -> String {
    let size = |pad: &HeadElectrode| {
        SquareCentimetres::from_square_millimetres(pad.contact_mm2).to_string().replace("cm2", "cm²")
    };
    let at = |pad: &HeadElectrode| format!("{} {}", pad.area.replace('_', " "), pad.side);
    if let [one, other] = pads
        && one == other
    {
        return format!(", two electrodes of {} on {}", size(one), at(one));
    }
    let each: Vec<String> = pads.iter().map(|pad| format!("{} on {}", size(pad), at(pad))).collect();
    format!(", electrodes {}", each.join(" and "))
}

fn pulses(pattern: &HeadStimulation) -> String {
    let rate = 1_000_000_000u32.checked_div(pattern.period_us).unwrap_or(0);
    let cycle = pattern.cycle.as_ref().map_or_else(String::new, |cycle| {
        format!(", ON {} s, OFF {} s", cycle.on_us / SECOND, cycle.off_us / SECOND)
    });
    format!(", {} µs at {}{cycle}", pattern.width_us, Hertz::from_millihertz(rate))
}

/// Returns the output time of doses: one figure, or two when they differ by a second or more. What a person settled
/// counts, and what was known without that person stands beside it.
fn how_long(doses: &[&RecordedDose]) -> String {
    let sum = |bounds: fn(&RecordedDose) -> (u64, u64)| {
        doses.iter().fold((0u64, 0u64), |(least, most), dose| {
            let (low, high) = bounds(dose);
            (least.saturating_add(low), most.saturating_add(high.max(low)))
        })
    };
    let counted = |dose: &RecordedDose| match dose.resolved {
        Some(_) => (dose.counted_us(), dose.counted_us()),
        None => dose.bounds_us(),
    };
    let by_hand = doses.iter().all(|dose| dose.dose.evidence == Evidence::TherapistTimed);
    let timed = if by_hand { " (timed by the therapist)" } else { "" };
    let settled = if doses.iter().any(|dose| dose.resolved.is_some()) {
        format!(" as a person settled it (known was {})", span(sum(RecordedDose::bounds_us)))
    } else {
        String::new()
    };
    format!("{}{timed}{settled}", span(sum(counted)))
}

fn span((least, most): (u64, u64)) -> String {
    if most.saturating_sub(least) < SECOND {
        clock_time(most.saturating_add(SECOND / 2) / SECOND)
    } else {
        format!("between {} and {}", clock_time(least / SECOND), clock_time(most.div_ceil(SECOND)))
    }
}

/// Returns whether the session that came next, and so completed the record, ran after another start of the machine.
fn rebooted(reader: &Reader, session: &SessionId, boot: Option<&str>) -> Result<bool, RecordError> {
    let later =
        "WHERE kind = 'open' AND n > (SELECT max(n) FROM entry WHERE session = ?1) ORDER BY n LIMIT 10";
    for open in reader.select(later, &[&session.as_str()])? {
        if let Body::Open { boot: Some(next), .. } = crate::record::store::body_of(&open)? {
            return Ok(boot.is_some_and(|boot| boot != next));
        }
    }
    Ok(false)
}

/// Returns the highest intensity that may have been in force.
fn highest(doses: &[&RecordedDose]) -> String {
    let most =
        doses.iter().map(|dose| dose.dose.upper.intensity()).max_by_key(|intensity| intensity.magnitude());
    most.map_or_else(|| "nothing".to_owned(), |most| most.to_string())
}

/// Prints seconds as `1:00`, from an hour on as `1:00:00`.
fn clock_time(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

fn first_upper(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Writes a paragraph with a hanging indent, broken between words, without anything that a terminal would act on.
fn paragraph(out: &mut String, lead: &str, text: &str) {
    let indent = lead.chars().count();
    let mut column = indent;
    out.push_str(lead);
    let text: String = text.chars().filter(|letter| letter.is_whitespace() || !letter.is_control()).collect();
    for (index, word) in text.split_whitespace().enumerate() {
        let width = word.chars().count();
        if index > 0 && column.saturating_add(width).saturating_add(1) > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if index > 0 {
            out.push(' ');
            column = column.saturating_add(1);
        }
        out.push_str(word);
        column = column.saturating_add(width);
    }
    out.push('\n');
}
