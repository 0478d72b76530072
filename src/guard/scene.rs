//! One take-over as its parts see it: who is stopped, since when, what is proven.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::guard::armed::Why;
use crate::guard::journal::{Journal, What};
use crate::units::Mono;

/// A stop not proven by then is said loudly (design 3.7).
pub(super) const PROOF_WITHIN: Duration = Duration::from_secs(1);

/// A take-over under way.
pub(super) struct Scene {
    clock: Clock,
    began: Mono,
    reaped: watch::Receiver<bool>,
    told: RefCell<Told>,
}

struct Told {
    journal: Journal,
    units: BTreeMap<u8, Unit>,
    synced: bool,
}

struct Unit {
    label: String,
    by_hand: String,
    first: Option<Mono>,
    confirmed: Option<Mono>,
    loud: bool,
}

impl Scene {
    /// Begins with the units to be stopped: label and what a person does when that fails.
    pub(super) fn new(
        clock: Clock,
        journal: Journal,
        units: impl Iterator<Item = (u8, String, String)>,
        why: &Why,
        reaped: watch::Receiver<bool>,
    ) -> Self {
        let unit = |label, by_hand| Unit { label, by_hand, first: None, confirmed: None, loud: false };
        let units = units.map(|(device, label, by_hand)| (device, unit(label, by_hand))).collect();
        let began = clock.now();
        let mut journal = journal;
        let (code, said) = (why.code().to_owned(), why.on_record());
        note(&mut journal, began, What::TookOver { why: code, said });
        Self { clock, began, reaped, told: RefCell::new(Told { journal, units, synced: false }) }
    }

    /// Returns whether the daemon is gone, and when that changes.
    pub(super) fn reaped(&self) -> watch::Receiver<bool> {
        self.reaped.clone()
    }

    /// Somebody asks for STOP ALL meanwhile.
    pub(super) fn stop_asked(&self) {
        note(&mut self.told.borrow_mut().journal, self.clock.now(), What::StopAsked);
    }

    /// A stop was written to a unit.
    pub(super) fn stop_written(&self, device: u8) {
        let now = self.clock.now();
        let told = &mut *self.told.borrow_mut();
        if let Some(unit) = told.units.get_mut(&device).filter(|unit| unit.first.is_none()) {
            unit.first = Some(now);
            note(&mut told.journal, now, What::FirstStop { unit: unit.label.clone() });
        }
    }

    /// A unit has proven its stop.
    pub(super) fn confirmed(&self, device: u8) {
        let now = self.clock.now();
        let told = &mut *self.told.borrow_mut();
        if let Some(unit) = told.units.get_mut(&device).filter(|unit| unit.confirmed.is_none()) {
            unit.confirmed = Some(now);
            note(&mut told.journal, now, What::Confirmed { unit: unit.label.clone() });
            let span = now.since(self.began).as_millis();
            super::say(&format!("{}: stopped by the guard process, proven after {span} ms.", unit.label));
        }
    }

    /// Makes the journal durable once no unit waits for its first stop, and says aloud what is not proven in time.
    pub(super) fn tick(&self) {
        let now = self.clock.now();
        let told = &mut *self.told.borrow_mut();
        let late = now.since(self.began) >= PROOF_WITHIN;
        if !told.synced && (late || told.units.values().all(|unit| unit.first.is_some())) {
            told.synced = true;
            sync(&told.journal);
        }
        let silent = told.units.values_mut().filter(|unit| late && unit.confirmed.is_none() && !unit.loud);
        for unit in silent {
            unit.loud = true;
            super::alarm(&format!("{}: THE STOP IS NOT PROVEN. {}", unit.label, unit.by_hand));
            note(&mut told.journal, now, What::Unconfirmed { unit: unit.label.clone() });
        }
    }

    /// Returns whether it was said of a unit that its stop is not proven, and it still is not.
    pub(super) fn is_loud(&self) -> bool {
        self.told.borrow().units.values().any(|unit| unit.loud && unit.confirmed.is_none())
    }

    /// Returns whether every unit has had its first stop.
    pub(super) fn all_written(&self) -> bool {
        self.told.borrow().units.values().all(|unit| unit.first.is_some())
    }

    /// Returns when a unit proved its stop.
    pub(super) fn proven(&self, device: u8) -> Option<Mono> {
        self.told.borrow().units.get(&device).and_then(|unit| unit.confirmed)
    }

    /// Ends it; what is not proven is noted as given up. Returns the journal and the labels that were given up.
    pub(super) fn end(self) -> (Journal, Vec<String>) {
        let now = self.clock.now();
        let Told { mut journal, units, .. } = self.told.into_inner();
        let given_up = units.into_values().filter(|unit| unit.confirmed.is_none());
        let given_up: Vec<String> = given_up.map(|unit| unit.label).collect();
        for unit in &given_up {
            note(&mut journal, now, What::GivenUp { unit: unit.clone() });
        }
        sync(&journal);
        (journal, given_up)
    }
}

pub(super) fn note(journal: &mut Journal, at: Mono, what: What) {
    if let Err(error) = journal.note(at, what) {
        super::say(&format!("The guard's journal cannot be written: {error}."));
    }
}

fn sync(journal: &Journal) {
    if let Err(error) = journal.sync() {
        super::say(&format!("The guard's journal is not safe on the disk: {error}."));
    }
}
