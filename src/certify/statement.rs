//! The one page: what was run, what was reached, how near it came to its bounds, what was broken.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::{Course, Tally, Violation};
use crate::model::limit::LimitOwner;

/// Seeds with violations that are named.
const NAMED_MAX: usize = 20;
/// From so many seeds on the coverage that is asked for is judged.
const COVERAGE_FROM: u64 = 1_000;
/// Pairs of input and state that are shown, least hit first.
const LEAST_SHOWN: usize = 12;
/// Every input in every state at least so often.
const CELL_MIN: u64 = 100;

/// The acceptance statement of one layer.
#[derive(Clone, Debug)]
pub struct Statement {
    layer: &'static str,
    minutes: u64,
    tally: Tally,
    broken: BTreeMap<u64, Vec<Violation>>,
    logs: BTreeMap<u64, Vec<String>>,
}

impl Statement {
    /// Begins with no session.
    pub fn new(layer: &'static str, minutes: u64) -> Self {
        Self { layer, minutes, tally: Tally::default(), broken: BTreeMap::new(), logs: BTreeMap::new() }
    }

    /// Takes the course of a session.
    pub fn take(&mut self, course: Course) {
        self.tally.add(&course.tally);
        if !course.found.is_empty() {
            self.broken.insert(course.seed, course.found);
        }
        if !course.log.is_empty() {
            self.logs.insert(course.seed, course.log);
        }
    }

    /// Returns what was reached.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Returns the seeds that broke a law, with what they broke.
    pub fn broken(&self) -> &BTreeMap<u64, Vec<Violation>> {
        &self.broken
    }

    /// Returns the logs that were kept.
    pub fn logs(&self) -> &BTreeMap<u64, Vec<String>> {
        &self.logs
    }

    /// Returns whether no law was broken and, from a thousand sessions on, the coverage is what it must be.
    pub fn passed(&self) -> bool {
        self.broken.is_empty() && self.missed().is_empty()
    }

    /// Returns what of the coverage is missing.
    fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        if self.tally.sessions < COVERAGE_FROM || self.layer != "core" {
            return missed;
        }
        if self.tally.with_output * 10 < self.tally.sessions * 6 {
            missed.push("less than 60 % of the sessions gave output".to_owned());
        }
        for (owner, count) in LimitOwner::ALL.iter().zip(self.tally.owners) {
            if count * 10 < self.tally.sessions * 3 {
                missed.push(format!("less than 30 % of the sessions met a limit of {}", owner.word()));
            }
        }
        let rare = self.tally.matrix.cells().into_iter().take_while(|(count, ..)| *count < CELL_MIN);
        missed.extend(rare.map(|(count, kind, state)| format!("`{kind}` met `{state}` {count} times")));
        missed
    }

    /// Writes the page. `took`: by the wall and of all processors.
    pub fn page(&self, took: Duration, processors: Duration) -> String {
        let mut page = String::new();
        self.write(&mut page, took, processors).unwrap_or_default();
        page
    }

    fn write(&self, page: &mut String, took: Duration, processors: Duration) -> std::fmt::Result {
        let tally = &self.tally;
        let hours = tally.length.as_secs_f64() / 3_600.0;
        let sessions = tally.sessions.max(1);
        writeln!(page, "doseward certification, {} layer", self.layer)?;
        writeln!(page)?;
        writeln!(
            page,
            "sessions       {} of {} min, {hours:.1} h of virtual time",
            tally.sessions, self.minutes
        )?;
        let rate = 60.0 * count(sessions) / took.as_secs_f64().max(1e-9);
        let two = 120.0 * count(sessions) / processors.as_secs_f64().max(1e-9);
        writeln!(
            page,
            "rate           {rate:.0} sessions a minute; {two:.0} on two processors for itself alone"
        )?;
        writeln!(
            page,
            "output         {:.1} min given in a session on average",
            tally.given / 60.0 / count(sessions)
        )?;
        writeln!(
            page,
            "wire, record   {} rises, {} stop frames; {} entries, {} doses, {} of them uncertain; {} crashes recovered",
            tally.rises, tally.stops, tally.entries, tally.doses, tally.uncertain, tally.crashes
        )?;
        writeln!(page)?;
        self.write_faults(page)?;
        self.write_coverage(page)?;
        writeln!(page)?;
        writeln!(page, "worst intensity     {:.1} % of what was allowed", 100.0 * tally.intensity)?;
        writeln!(page, "worst duration      {:.2} % of what was allowed", 100.0 * tally.duration)?;
        let (serial, radio) = (tally.zero_serial, tally.zero_radio);
        writeln!(
            page,
            "stop byte to zero   serial {:.0} ms worst, {:.0} ms mean of {}; radio {:.0} ms worst, {:.0} ms mean of {}",
            1e3 * serial.worst,
            1e3 * serial.mean(),
            serial.count,
            1e3 * radio.worst,
            1e3 * radio.mean(),
            radio.count
        )?;
        writeln!(
            page,
            "record minus truth  {:.1} s of output worst, {:.2} s mean, per output and session",
            tally.gap.worst,
            tally.gap.mean()
        )?;
        self.write_verdict(page)
    }

    fn write_faults(&self, page: &mut String) -> std::fmt::Result {
        let all: u64 = self.tally.faults.values().sum();
        writeln!(page, "faults         {all}")?;
        let named: Vec<String> =
            self.tally.faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
        for line in named.chunks(4) {
            writeln!(page, "               {}", line.join(", "))?;
        }
        Ok(())
    }

    fn write_coverage(&self, page: &mut String) -> std::fmt::Result {
        let tally = &self.tally;
        let share = |part: u64| 100.0 * count(part) / count(tally.sessions.max(1));
        writeln!(page)?;
        writeln!(page, "coverage       {:.0} % of the sessions gave output", share(tally.with_output))?;
        let owners: Vec<String> = LimitOwner::ALL
            .iter()
            .zip(tally.owners)
            .map(|(owner, met)| format!("{} {:.0} %", owner.word(), share(met)))
            .collect();
        writeln!(page, "               met a limit of: {}", owners.join(", "))?;
        if self.layer != "core" {
            return Ok(());
        }
        let cells = tally.matrix.cells();
        let met: u64 = cells.iter().map(|(count, ..)| count).sum();
        let enough = cells.iter().filter(|(count, ..)| *count >= CELL_MIN).count();
        writeln!(
            page,
            "               {met} inputs; {enough} of {} pairs of input and state at least {CELL_MIN} times",
            cells.len()
        )?;
        let rare = cells.iter().take(LEAST_SHOWN);
        let rare: Vec<String> =
            rare.map(|(count, kind, state)| format!("{kind} when {state} {count}")).collect();
        writeln!(page, "               least hit: {}", rare.join(", "))?;
        Ok(())
    }

    fn write_verdict(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page)?;
        let all: usize = self.broken.values().map(Vec::len).sum();
        writeln!(page, "violations     {all} in {} sessions", self.broken.len())?;
        for (seed, found) in self.broken.iter().take(NAMED_MAX) {
            if let Some(first) = found.first() {
                let at = first.at.since(crate::units::Mono::ORIGIN).as_secs_f64();
                writeln!(page, "  seed {seed}: law {} at {at:.3} s: {}", first.law, first.what)?;
                let minutes =
                    if self.minutes == 60 { String::new() } else { format!(" --minutes {}", self.minutes) };
                writeln!(
                    page,
                    "    doseward sim certify --from {seed} --seeds 1 --layer {}{minutes} --verbose",
                    self.layer
                )?;
            }
        }
        for missed in self.missed() {
            writeln!(page, "  coverage: {missed}")?;
        }
        writeln!(page)?;
        writeln!(page, "{}", if self.passed() { "PASS" } else { "FAIL" })
    }
}

/// A count as a float; counts here are far below 2^32.
fn count(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
