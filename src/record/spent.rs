//! Budgets rebuilt from the record: what one client already got today, as [`Spent`] for the governor, and which units are
//! in doubt, whoever they were on.
//!
//! The day is that of max(wall clock, newest entry) (SR-34), in any zone in which it is counted ([`Today`]). A dose is
//! today's when its entry was written today, or when the monotonic clock of this boot puts it today by the present wall
//! clock: a stepped clock, in either direction, makes no dose of today into one of yesterday. How long ago something ended is never read from the wall clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::model::area::{AreaCode, Place};
use crate::model::budget::{Continued, Declared, DoseRef, Earlier, NUMB_FOR, OpenDose, Spent};
use crate::model::plan::ClientCode;
use crate::model::protocol::Modality;
use crate::model::session::SessionId;
use crate::record::RecordError;
use crate::record::daily::Today;
use crate::record::entry::{self, Body, HeadApplicator, HeadStep, SealReason, StoredEntry};
use crate::record::store::{self, Reader, RecordedDose, SessionSummary};

/// A ramp may begin this much later than its rest is over.
const RAMP_SLACK_US: u64 = 2_000_000;

/// For whom and when budgets are asked.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The client.
    pub client: &'a ClientCode,
    /// Identifier of the plan, for its course.
    pub plan_id: &'a str,
    /// The last session to count; `None`: all.
    pub until: Option<&'a SessionId>,
    /// Simulated units; real and simulated doses never count for each other.
    pub simulated: bool,
    /// Zones in which a day is counted: it is today's when any of them says so.
    pub zones: &'a [TimeZone],
    /// Wall clock.
    pub wall: jiff::Timestamp,
    /// System monotonic clock, µs.
    pub monotonic_us: u64,
    /// The same clock at the zero of the asking process's own, µs.
    pub origin_us: u64,
    /// Which boot of the machine that is; `None`: the system does not say.
    pub boot: Option<&'a str>,
}

/// A span of output on a session's clock, µs.
type Span = (u64, u64);

/// One session while it is counted.
struct Counted<'a> {
    asked: &'a Asked<'a>,
    session: &'a SessionSummary,
    steps: Vec<HeadStep>,
    entries: Vec<(StoredEntry, Body)>,
}

impl Reader {
    /// Returns what a client already got.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn spent(&self, asked: &Asked<'_>) -> Result<Spent, RecordError> {
        let newest = self.newest_wall()?.filter(|_| asked.until.is_none());
        let newest = newest.map_or(asked.wall, |newest| newest.max(asked.wall));
        let today = Today { now: newest, zones: asked.zones };
        let in_doubt = self.in_doubt()?;
        let mut spent = Spent::default();
        let mut cut_short = None;
        for session in self.sessions()? {
            if session.simulated != asked.simulated || session.settling {
                continue;
            }
            if session.client != *asked.client {
                if in_doubt.contains(session.session.as_str()) {
                    spent.open.extend(self.units_in_doubt(&session)?);
                }
                continue;
            }
            go_on(&mut spent, cut_short, Today { now: session.opened, ..today });
            self.count(asked, &session, today, &mut spent)?;
            spent.continued.sessions.push(session.session.clone());
            let cut = matches!(session.sealed, Some((_, SealReason::DaemonRestart)));
            cut_short = cut.then_some(session.opened);
            if asked.until == Some(&session.session) {
                break;
            }
        }
        go_on(&mut spent, cut_short, today);
        if spent.continued.in_week {
            spent.sessions_in_week = spent.sessions_in_week.saturating_sub(1);
        }
        Ok(spent)
    }

    /// Returns the sessions that hold an uncertain dose, resolved or not.
    fn in_doubt(&self) -> Result<BTreeSet<String>, RecordError> {
        let doubt = "WHERE kind IN ('dose', 'recovered') AND instr(body, '\"evidence\":\"uncertain\"') > 0";
        Ok(self.select(doubt, &[])?.into_iter().map(|entry| entry.session).collect())
    }

    /// Returns what nobody has resolved of a session of another client: it blocks the unit and says nothing of the client.
    fn units_in_doubt(&self, session: &SessionSummary) -> Result<Vec<OpenDose>, RecordError> {
        let head = self.entries(&session.session)?.first().map(store::body_of).transpose()?;
        let Some(Body::Open { devices, .. }) = head else {
            return Ok(Vec::new());
        };
        let unit = |dose: &RecordedDose| {
            let unit = devices.get(usize::from(dose.dose.device.0));
            unit.map_or_else(String::new, |unit| unit.label.clone())
        };
        let doses = self.doses(&session.session)?;
        let open = doses.iter().filter(|dose| dose.is_open());
        Ok(open.map(|dose| OpenDose { place: None, ..open_dose(session, unit(dose), dose, false) }).collect())
    }

    fn count(
        &self,
        asked: &Asked<'_>,
        session: &SessionSummary,
        today: Today<'_>,
        spent: &mut Spent,
    ) -> Result<(), RecordError> {
        let doses = self.doses(&session.session)?;
        let read = |entry: StoredEntry| store::body_of(&entry).map(|body| (entry, body));
        let entries = self.entries(&session.session)?;
        let entries = entries.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let mut units = Vec::new();
        let mut steps = Vec::new();
        if let Some((_, Body::Open { devices, steps: planned, .. })) = entries.first() {
            units.extend(devices.iter().map(|device| device.label.clone()));
            steps.clone_from(planned);
        }
        let mut open = Vec::new();
        for dose in doses.iter().filter(|dose| dose.is_open()) {
            let unit = units.get(usize::from(dose.dose.device.0)).cloned().unwrap_or_default();
            open.push((unit, dose));
        }
        let counted = Counted { asked, session, steps, entries };
        // The low cap of a first visit holds all day: neither a restart nor a crash makes a second visit of it.
        let earlier = doses.iter().filter(|dose| !counted.is_today(dose, today));
        spent.known.extend(earlier.map(|dose| dose.dose.modality));
        let open = open.into_iter().map(|(unit, dose)| {
            let earlier = counted.ahead().map(|ahead| {
                let dose = dose.narrowed.as_ref().map_or(&dose.dose, |(_, narrowed)| narrowed).clone();
                Box::new(Earlier { dose, ahead })
            });
            OpenDose { earlier, ..open_dose(session, unit, dose, counted.is_today(dose, today)) }
        });
        spent.open.extend(open);
        let of_plan = !doses.is_empty() && session.plan_id == asked.plan_id;
        if of_plan && today.may_hold_in_week(session.opened) && !spent.continued.in_week {
            spent.sessions_in_week = spent.sessions_in_week.saturating_add(1);
            spent.continued.in_week = true;
        }
        let of_today: Vec<&RecordedDose> =
            doses.iter().filter(|dose| counted.is_today(dose, today)).collect();
        counted.doses(&of_today, spent);
        counted.armed_on(&units, spent)?;
        counted.declared(today, spent)
    }
}

impl Counted<'_> {
    fn is_today(&self, dose: &RecordedDose, today: Today<'_>) -> bool {
        let until = dose.dose.from.micros().saturating_add(dose.counted_us());
        today.may_hold(dose.wall) || self.dated(until).is_some_and(|at| today.may_hold(at))
    }

    /// Returns an instant of the session by the present wall clock; `None`: it was another boot.
    fn dated(&self, at_us: u64) -> Option<jiff::Timestamp> {
        let same = self.session.boot.0.is_some() && self.session.boot.0.as_deref() == self.asked.boot;
        let ago = same.then(|| self.ago(at_us))?;
        let ago = jiff::SignedDuration::try_from(ago).ok()?;
        self.asked.wall.checked_sub(ago).ok()
    }

    /// Returns how long ago an instant of the session was, at least.
    fn ago(&self, at_us: u64) -> Duration {
        let (boot, origin_us) = &self.session.boot;
        Duration::from_micros(match (boot.as_deref(), self.asked.boot) {
            (Some(then), Some(now)) if then == now => {
                self.asked.monotonic_us.saturating_sub(origin_us.saturating_add(at_us))
            }
            // It was before this boot began.
            (Some(_), Some(_)) => self.asked.monotonic_us,
            (None, _) | (_, None) => 0,
        })
    }

    /// Returns how far the session's clock is ahead of that of the asking process, at least; `None`: it was another boot. The
    /// monotonic clock does not count sleep and the wall clock may have been set back: the later one is right.
    fn ahead(&self) -> Option<Duration> {
        let (boot, origin_us) = &self.session.boot;
        boot.as_deref().filter(|boot| Some(*boot) == self.asked.boot)?;
        let by_monotonic = Duration::from_micros(self.asked.origin_us.saturating_sub(*origin_us));
        let opened = self.entries.first().map_or(0, |(entry, _)| entry.mono_us);
        let since =
            Duration::try_from(self.asked.wall.duration_since(self.session.opened)).unwrap_or_default();
        let own = self.asked.monotonic_us.saturating_sub(self.asked.origin_us);
        let by_wall =
            since.saturating_add(Duration::from_micros(opened)).saturating_sub(Duration::from_micros(own));
        Some(by_monotonic.max(by_wall))
    }

    fn doses(&self, doses: &[&RecordedDose], spent: &mut Spent) {
        let mut clients: BTreeMap<Modality, Vec<Span>> = BTreeMap::new();
        for step in &self.steps {
            let own: Vec<&&RecordedDose> =
                doses.iter().filter(|dose| dose.dose.step == step.number).collect();
            let Some(dose) = own.first().map(|dose| &dose.dose) else {
                continue;
            };
            let spans = own.iter().map(|dose| {
                let from = dose.dose.from.micros();
                (from, from.saturating_add(dose.counted_us()))
            });
            let spans = self.with_rests(step, merged(spans.collect(), rest_us(step)));
            let end = spans.iter().map(|(_, until)| *until).max().unwrap_or(0);
            let ago = self.ago(end);
            spent.add(dose.modality, &dose.place, length(&spans), ago);
            if dose.modality == Modality::Tens && ago < NUMB_FOR {
                let places = electrodes(step).into_iter().chain([dose.place.clone()]);
                spent.numb.extend(places.map(|place| (place, ago)));
            }
            clients.entry(dose.modality).or_default().extend(spans);
        }
        for (modality, spans) in clients {
            let time = length(&merged(spans, 0));
            let (day, continued) = (&mut spent.day, &mut spent.continued.time);
            for sum in [day.entry(modality).or_default(), continued.entry(modality).or_default()] {
                *sum = sum.saturating_add(time);
            }
        }
    }

    /// Adds the rest of a cycle that was not followed by a ramp: it counts until the step was ended or held.
    fn with_rests(&self, step: &HeadStep, mut spans: Vec<Span>) -> Vec<Span> {
        let rest = rest_us(step);
        if rest == 0 {
            return spans;
        }
        for (_, until) in &mut spans {
            let ended = self.entries.iter().find(|(entry, body)| {
                let own = matches!(body, Body::Stopped { step: of, .. } | Body::Held { step: of, .. } if *of == step.number);
                let all = matches!(body, Body::StopAll { .. } | Body::EpochEnded { .. });
                (own || all) && entry.mono_us >= *until
            });
            let most = until.saturating_add(rest);
            *until = ended.map_or(most, |(entry, _)| entry.mono_us.min(most));
        }
        merged(spans, 0)
    }

    fn armed_on(&self, units: &[String], spent: &mut Spent) -> Result<(), RecordError> {
        for (entry, body) in &self.entries {
            let Body::Armed { step: armed, .. } = body else {
                continue;
            };
            let step = self.steps.iter().find(|step| step.number == *armed);
            let Some((step, unit)) = step.and_then(|step| Some((step, units.get(usize::from(step.device))?)))
            else {
                continue;
            };
            let side = entry::side(&step.side).map_err(|source| store::unreadable(entry, source))?;
            let place = Place { area: AreaCode::new(step.area.clone()), side };
            spent.continued.armed_on.insert(unit.clone(), place);
        }
        Ok(())
    }

    fn declared(&self, today: Today<'_>, spent: &mut Spent) -> Result<(), RecordError> {
        for (entry, body) in &self.entries {
            let Body::Declared { modality, area, side, time_us, .. } = body else {
                continue;
            };
            let dated = self.dated(entry.mono_us);
            if !today.may_hold(store::wall_of(entry)?) && !dated.is_some_and(|at| today.may_hold(at)) {
                continue;
            }
            let unreadable = |source| store::unreadable(entry, source);
            let declared = Declared {
                modality: entry::modality(modality).map_err(unreadable)?,
                place: Place {
                    area: AreaCode::new(area.clone()),
                    side: entry::side(side).map_err(unreadable)?,
                },
                time: Duration::from_micros(*time_us),
            };
            let ago = self.ago(entry.mono_us);
            spent.add(declared.modality, &declared.place, declared.time, ago);
            if declared.modality == Modality::Tens && ago < NUMB_FOR {
                spent.numb.push((declared.place.clone(), ago));
            }
            let day = spent.day.entry(declared.modality).or_default();
            *day = day.saturating_add(declared.time);
            spent.continued.declared.push(declared);
        }
        Ok(())
    }
}

/// Lets the next session go on with the one before it, when that was cut short the same day.
fn go_on(spent: &mut Spent, cut_short: Option<jiff::Timestamp>, day: Today<'_>) {
    if !cut_short.is_some_and(|opened| day.may_hold(opened)) {
        spent.continued = Continued::default();
    }
}

fn open_dose(session: &SessionSummary, unit: String, recorded: &RecordedDose, today: bool) -> OpenDose {
    let (least, most) = recorded.bounds_us();
    OpenDose {
        of: DoseRef { session: Some(session.session.clone()), dose: recorded.dose.id },
        unit,
        place: Some(recorded.dose.place.clone()),
        modality: recorded.dose.modality,
        on: (Duration::from_micros(least), Duration::from_micros(most.max(least))),
        today,
        stated: false,
        earlier: None,
    }
}

/// Returns how long a step's cycle is at zero between two ramps, µs; 0: it has no cycle.
fn rest_us(step: &HeadStep) -> u64 {
    let cycle = step.stimulation.as_ref().and_then(|pulses| pulses.cycle.as_ref());
    cycle.map_or(0, |cycle| cycle.off_us.saturating_add(RAMP_SLACK_US))
}

fn electrodes(step: &HeadStep) -> Vec<Place> {
    let HeadApplicator::Electrodes(pads) = &step.applicator else {
        return Vec::new();
    };
    let place =
        |area: &str, side: &str| Some(Place { area: AreaCode::new(area), side: entry::side(side).ok()? });
    pads.iter().filter_map(|pad| place(&pad.area, &pad.side)).collect()
}

/// Joins spans that overlap or are at most `gap` apart.
fn merged(mut spans: Vec<Span>, gap: u64) -> Vec<Span> {
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::new();
    for (from, until) in spans {
        match joined.last_mut() {
            Some(last) if from <= last.1.saturating_add(gap) => last.1 = last.1.max(until),
            Some(_) | None => joined.push((from, until)),
        }
    }
    joined
}

fn length(spans: &[Span]) -> Duration {
    let sum = spans.iter().fold(0u64, |sum, (from, until)| sum.saturating_add(until.saturating_sub(*from)));
    Duration::from_micros(sum)
}
