//! What sessions reached, and how near they came to their bounds. Tallies of sessions add up to that of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use super::inputs::{KINDS, STATES};
use crate::model::limit::LimitOwner;

/// Owners of limits.
const OWNERS: usize = LimitOwner::ALL.len();

/// How often each kind of input met a step in each state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    counts: Vec<u64>,
}

impl Default for Matrix {
    fn default() -> Self {
        Self { counts: vec![0; KINDS.len().saturating_mul(STATES.len())] }
    }
}

impl Matrix {
    /// Counts one meeting.
    pub fn met(&mut self, kind: usize, state: usize) {
        if let Some(count) = self.counts.get_mut(kind.saturating_mul(STATES.len()).saturating_add(state)) {
            *count = count.saturating_add(1);
        }
    }

    /// Returns every cell with its names, least-hit first.
    pub fn cells(&self) -> Vec<(u64, &'static str, &'static str)> {
        let names = KINDS.iter().flat_map(|kind| STATES.iter().map(move |state| (*kind, *state)));
        let mut cells: Vec<_> =
            self.counts.iter().zip(names).map(|(count, (kind, state))| (*count, kind, state)).collect();
        cells.sort_unstable();
        cells
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
    }
}

/// A worst and a mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The largest.
    pub worst: f64,
    /// Of all.
    pub sum: f64,
    /// How many.
    pub count: u32,
}

impl Spread {
    fn take(&mut self, value: f64) {
        self.worst = self.worst.max(value);
        self.sum += value;
        self.count = self.count.saturating_add(1);
    }

    fn add(&mut self, other: Self) {
        self.worst = self.worst.max(other.worst);
        self.sum += other.sum;
        self.count = self.count.saturating_add(other.count);
    }

    /// Returns the mean; 0 of none.
    pub fn mean(self) -> f64 {
        self.sum / f64::from(self.count.max(1))
    }
}

/// What was reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Sessions.
    pub sessions: u64,
    /// Length of them all.
    pub length: Duration,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// In this session a unit gave output.
    pub output: bool,
    /// Sessions that did.
    pub with_output: u64,
    /// In this session a limit of this owner was met.
    met: [bool; OWNERS],
    /// Sessions that met one, by owner.
    pub owners: [u64; OWNERS],
    /// Inputs by state.
    pub matrix: Matrix,
    /// Rises on the wire.
    pub rises: u64,
    /// Stop frames on the wire.
    pub stops: u64,
    /// Entries put on record.
    pub entries: u64,
    /// Doses on record.
    pub doses: u64,
    /// Doses known between two bounds only.
    pub uncertain: u64,
    /// Crashes that were recovered from.
    pub crashes: u64,
    /// Highest intensity on the wire against what was allowed.
    pub intensity: f64,
    /// Longest output against what was allowed.
    pub duration: f64,
    /// From a stop byte to zero, serial units without a fault.
    pub zero_serial: Spread,
    /// The same of radio units.
    pub zero_radio: Spread,
    /// Record's upper bound minus truth, output seconds per output and session.
    pub gap: Spread,
    /// Output time that was really given, seconds.
    pub given: f64,
}

impl Tally {
    /// A limit of this owner was met, when `reached`.
    pub(super) fn reach(&mut self, owner: LimitOwner, reached: bool) {
        if let Some(met) = self.met.get_mut(owner.index()) {
            *met |= reached;
        }
    }

    pub(super) fn nearest(&mut self, amount: f64, most: f64) {
        if most > 0.0 && most.is_finite() {
            self.intensity = self.intensity.max(amount / most);
        }
    }

    pub(super) fn longest(&mut self, took: f64, most: f64) {
        if most > 0.0 && most.is_finite() {
            self.duration = self.duration.max(took / most);
        }
    }

    pub(super) fn stopped(&mut self, radio: bool, took: Duration) {
        let spread = if radio { &mut self.zero_radio } else { &mut self.zero_serial };
        spread.take(took.as_secs_f64());
    }

    pub(super) fn gap(&mut self, truth_us: u64, most_us: u64) {
        let seconds = |us: u64| Duration::from_micros(us).as_secs_f64();
        self.given += seconds(truth_us);
        if most_us > 0 {
            self.gap.take(seconds(most_us.saturating_sub(truth_us)));
        }
    }

    /// Counts a fault.
    pub(super) fn fault(&mut self, name: &'static str) {
        let count = self.faults.entry(name).or_default();
        *count = count.saturating_add(1);
    }

    /// The session is over: what it met counts once.
    pub(super) fn close(&mut self, length: Duration) {
        (self.sessions, self.length) = (1, length);
        self.with_output = u64::from(self.output);
        self.owners = self.met.map(u64::from);
    }

    /// Adds what another session, or many, reached.
    pub fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.length += other.length;
        for (name, count) in &other.faults {
            let mine = self.faults.entry(name).or_default();
            *mine = mine.saturating_add(*count);
        }
        self.with_output += other.with_output;
        for (mine, theirs) in self.owners.iter_mut().zip(other.owners) {
            *mine = mine.saturating_add(theirs);
        }
        self.matrix.add(&other.matrix);
        for (mine, theirs) in [
            (&mut self.rises, other.rises),
            (&mut self.stops, other.stops),
            (&mut self.entries, other.entries),
            (&mut self.doses, other.doses),
            (&mut self.uncertain, other.uncertain),
            (&mut self.crashes, other.crashes),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        self.intensity = self.intensity.max(other.intensity);
        self.duration = self.duration.max(other.duration);
        self.zero_serial.add(other.zero_serial);
        self.zero_radio.add(other.zero_radio);
        self.gap.add(other.gap);
        self.given += other.given;
    }
}
