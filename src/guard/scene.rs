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
        let (code, said) = (why.code().to_owned(), why.on_record());
        journal.note(began, What::TookOver { why: code, said });
        Self { clock, began, reaped, told: RefCell::new(Told { journal, units }) }
    }

    /// Returns whether the daemon is gone, and when that changes.
    pub(super) fn reaped(&self) -> watch::Receiver<bool> {
        self.reaped.clone()
    }

    /// Somebody asks for STOP ALL meanwhile.
    pub(super) fn stop_asked(&self) {
        self.told.borrow().journal.note(self.clock.now(), What::StopAsked);
    }

    /// A stop was written to a unit.
    pub(super) fn stop_written(&self, device: u8) {
        let now = self.clock.now();
        let told = &mut *self.told.borrow_mut();
        if let Some(unit) = told.units.get_mut(&device).filter(|unit| unit.first.is_none()) {
            unit.first = Some(now);
            told.journal.note(now, What::FirstStop { unit: unit.label.clone() });
        }
    }

    /// A unit has proven its stop.
    pub(super) fn confirmed(&self, device: u8) {
        let now = self.clock.now();
        let told = &mut *self.told.borrow_mut();
        if let Some(unit) = told.units.get_mut(&device).filter(|unit| unit.confirmed.is_none()) {
            unit.confirmed = Some(now);
            told.journal.note(now, What::Confirmed { unit: unit.label.clone() });
            let span = now.since(self.began).as_millis();
            super::say(&format!("{}: stopped by the guard process, proven after {span} ms.", unit.label));
        }
    }

    /// Says aloud what is not proven in time.
    pub(super) fn tick(&self) {
        let now = self.clock.now();
        let told = &mut *self.told.borrow_mut();
        let late = now.since(self.began) >= PROOF_WITHIN;
        let silent = told.units.values_mut().filter(|unit| late && unit.confirmed.is_none() && !unit.loud);
        for unit in silent {
            unit.loud = true;
            super::alarm(&format!("{}: THE STOP IS NOT PROVEN. {}", unit.label, unit.by_hand));
            told.journal.note(now, What::Unconfirmed { unit: unit.label.clone() });
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
        let Told { journal, units } = self.told.into_inner();
        let given_up = units.into_values().filter(|unit| unit.confirmed.is_none());
        let given_up: Vec<String> = given_up.map(|unit| unit.label).collect();
        for unit in &given_up {
            journal.note(now, What::GivenUp { unit: unit.clone() });
        }
        (journal, given_up)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::Path;
    use std::sync::mpsc;

    use super::*;

    /// A pipe in place of the journal that takes nothing more: every write to it waits, as with a disk that hangs.
    fn hung(data: &Path) -> File {
        let path = data.join("guard.journal");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut pipe = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).unwrap();
        for piece in [&[b'\n'; 4096][..], b"\n"] {
            while pipe.write(piece).is_ok() {}
        }
        pipe
    }

    #[test]
    fn a_disk_that_hangs_holds_up_no_stop_and_no_loud_word() {
        let data = tempfile::tempdir().unwrap();
        let mut pipe = hung(data.path());
        let clock = Clock::start();
        let journal = Journal::open(data.path(), clock.clone()).unwrap();
        let (step, steps) = mpsc::channel();
        // Detached: where a call hangs, this test fails and does not wait for it.
        std::thread::spawn(move || {
            let (_gone, reaped) = watch::channel(true);
            let unit = (0, "Gun 1".to_owned(), "Pull the plug.".to_owned());
            let scene = Scene::new(clock, journal, std::iter::once(unit), &Why::Left, reaped);
            step.send("begun").unwrap();
            scene.stop_written(0);
            step.send("stopped").unwrap();
            scene.tick();
            step.send("looked").unwrap();
            std::thread::sleep(PROOF_WITHIN);
            scene.tick();
            step.send(if scene.is_loud() { "loud" } else { "silent" }).unwrap();
            let (journal, given_up) = scene.end();
            assert_eq!(given_up, ["Gun 1"]);
            step.send(if journal.flush(Duration::from_millis(10)) { "kept" } else { "not kept" }).unwrap();
            // The journal lives until the disk answers again.
            journal.flush(Duration::from_secs(60));
            step.send("kept").unwrap();
        });
        let next = || steps.recv_timeout(PROOF_WITHIN + Duration::from_secs(2));
        for expected in ["begun", "stopped", "looked", "loud", "not kept"] {
            assert_eq!(next(), Ok(expected));
        }
        // Nothing is lost when the disk answers after all.
        let (mut text, mut piece) = (Vec::new(), [0; 4096]);
        let kept = loop {
            match pipe.read(&mut piece) {
                Ok(length) => text.extend_from_slice(piece.get(..length).unwrap()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            match steps.recv_timeout(Duration::from_millis(10)) {
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                kept => break kept,
            }
        };
        assert_eq!(kept, Ok("kept"));
        while let Ok(length) = pipe.read(&mut piece) {
            text.extend_from_slice(piece.get(..length).unwrap());
        }
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let noted = ["took_over", "first_stop", "unconfirmed", "given_up"];
        assert_eq!(lines.len(), noted.len(), "{lines:?}");
        for (line, what) in lines.iter().zip(noted) {
            assert!(line.contains(what), "{line}");
        }
    }
}
