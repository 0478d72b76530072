//! The guard's journal: one JSON line per fact, appended to a file beside the record, never changed.
//!
//! The record belongs to the daemon; what the guard does while there is none is kept here, and the next daemon puts it
//! on record. A thread writes and syncs: a disk that hangs, often the very reason why a daemon froze, holds up no stop.
//! What was noted is in the file and on the disk once [`Journal::flush`] says so.
//!
//! Invariants: append-only; a line cut by a power loss is skipped by the reader and ended by the next writer.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::units::Mono;

/// Name of the file in the data directory.
const FILE: &str = "guard.journal";

/// At most this much of the file's end is read.
const READ_MAX: u64 = 1024 * 1024;

/// Stack of the thread that writes; it goes into the guard's memory.
const STACK: usize = 64 * 1024;

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Version of this form: 1.
    pub v: u32,
    /// The boot in which the two clocks run.
    pub boot: String,
    /// System's monotonic clock, µs.
    pub mono_us: u64,
    /// Time since boot, sleep included, µs.
    pub boot_us: u64,
    /// Wall clock, RFC 3339.
    pub wall: String,
    /// The session it is about.
    pub session: String,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// Somebody asked for STOP ALL at the control socket.
    StopAsked,
    /// The daemon was killed, or found dead, and its units are stopped from here.
    TookOver {
        /// Why, as a code.
        why: String,
        /// Why, in words.
        said: String,
    },
    /// The first stop was written to a unit.
    FirstStop {
        /// Its label.
        unit: String,
    },
    /// A reply of the unit proved the stop.
    Confirmed {
        /// Its label.
        unit: String,
    },
    /// No proof after a second.
    Unconfirmed {
        /// Its label.
        unit: String,
    },
    /// A person, or the end of an unattended run, ended the attempts without a proof.
    GivenUp {
        /// Its label.
        unit: String,
    },
    /// The record's last hash after a session.
    Anchor {
        /// The hash.
        hash: String,
    },
}

/// What the guard did for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeOver {
    /// Why, as a code.
    pub why: String,
    /// Why, in words.
    pub said: String,
    /// When, µs on the system's monotonic clock.
    pub at_us: u64,
    /// The units that it stopped.
    pub units: Vec<Stopped>,
}

/// What became of one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Its label.
    pub unit: String,
    /// First stop written, µs on the system's monotonic clock.
    pub first_stop_us: Option<u64>,
    /// Stop proven by the unit.
    pub confirmed_us: Option<u64>,
}

/// The journal as the guard writes it; nobody waits for the disk but in [`Journal::flush`].
#[derive(Debug)]
pub struct Journal {
    /// Without a bound, so that no line is lost while the disk hangs: a take-over notes four lines a unit, a person one
    /// for each STOP ALL.
    waiting: Sender<Order>,
    clock: Clock,
    boot: String,
    session: String,
}

/// What the thread is given.
enum Order {
    Line(Line),
    /// Answered when everything before it is on the disk, or was refused there.
    Flush(SyncSender<()>),
}

impl Journal {
    /// Opens the journal of a data directory; makes both when there is none.
    ///
    /// # Errors
    /// The file cannot be written, or the system gives no thread.
    pub fn open(dir: &Path, clock: Clock) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let path = dir.join(FILE);
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        if let Some(last) = length.checked_sub(1) {
            let mut byte = [0];
            file.seek(SeekFrom::Start(last))?;
            file.read_exact(&mut byte)?;
            if byte != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let (waiting, orders) = channel();
        let thread = std::thread::Builder::new().name("journal".to_owned()).stack_size(STACK);
        thread.spawn(move || keep(file, &orders))?;
        Ok(Self { waiting, clock, boot, session: String::new() })
    }

    /// Says which session the next lines are about.
    pub fn about(&mut self, session: &str) {
        session.clone_into(&mut self.session);
    }

    /// Notes one fact; returns at once. That it cannot be written is said on standard error.
    pub fn note(&self, at: Mono, what: What) {
        let line = Line {
            v: 1,
            boot: self.boot.clone(),
            mono_us: self.clock.monotonic_us(at),
            boot_us: self.clock.boot_us(),
            wall: self.clock.wall().to_string(),
            session: self.session.clone(),
            what,
        };
        // Without a thread, `flush` tells.
        self.waiting.send(Order::Line(line)).unwrap_or_default();
    }

    /// Waits until everything noted is on the disk or was refused there, at most `within`. Returns whether it is.
    pub fn flush(&self, within: Duration) -> bool {
        let (done, kept) = sync_channel(1);
        self.waiting.send(Order::Flush(done)).is_ok() && kept.recv_timeout(within).is_ok()
    }
}

/// Writes what waits and makes it durable, again and again until the journal is dropped. The same trouble is said once.
fn keep(mut file: File, orders: &Receiver<Order>) {
    let mut trouble = String::new();
    while let Ok(first) = orders.recv() {
        let (mut kept, mut done) = (Ok(()), Vec::new());
        for order in std::iter::once(first).chain(orders.try_iter()) {
            match order {
                Order::Line(line) => kept = kept.and(append(&mut file, &line)),
                Order::Flush(asked) => done.push(asked),
            }
        }
        // Also when a line was refused: the others count.
        if let Err(error) = kept.and(file.sync_data()) {
            let words = format!("The guard's journal cannot be written: {error}.");
            if words != trouble {
                super::say(&words);
                trouble = words;
            }
        }
        for asked in done {
            asked.try_send(()).unwrap_or_default();
        }
    }
}

fn append(file: &mut File, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)
}

/// Returns the newest lines of a data directory's journal, oldest first; none when there is no journal. Lines that
/// cannot be read are skipped.
///
/// # Errors
/// The file cannot be read.
pub fn read(dir: &Path) -> io::Result<Vec<Line>> {
    let mut file = match File::open(dir.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let from = file.metadata()?.len().saturating_sub(READ_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(READ_MAX).read_to_end(&mut bytes)?;
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// Returns what the guard did for a session; `None`: it did nothing.
pub fn take_over(lines: &[Line], session: &str) -> Option<TakeOver> {
    let mut found: Option<TakeOver> = None;
    for line in lines.iter().filter(|line| line.session == session && line.v == 1) {
        if let What::TookOver { why, said } = &line.what {
            // The first counts: any other is of a daemon that ended before it named a session of its own.
            found.get_or_insert_with(|| {
                let (why, said) = (why.clone(), said.clone());
                TakeOver { why, said, at_us: line.mono_us, units: Vec::new() }
            });
        } else if let Some(act) = &mut found {
            act.note(line);
        }
    }
    found
}

/// Returns how often STOP ALL was asked at the control socket in a session.
pub fn stops_asked(lines: &[Line], session: &str) -> usize {
    let own = lines.iter().filter(|line| line.session == session && line.v == 1);
    own.filter(|line| line.what == What::StopAsked).count()
}

/// Returns the newest hash of the record that the guard was handed.
pub fn anchor(lines: &[Line]) -> Option<&str> {
    lines.iter().rev().find_map(|line| match &line.what {
        What::Anchor { hash } => Some(hash.as_str()),
        What::StopAsked
        | What::TookOver { .. }
        | What::FirstStop { .. }
        | What::Confirmed { .. }
        | What::Unconfirmed { .. }
        | What::GivenUp { .. } => None,
    })
}

impl TakeOver {
    fn note(&mut self, line: &Line) {
        let (unit, first, confirmed) = match &line.what {
            What::FirstStop { unit } => (unit, Some(line.mono_us), None),
            What::Confirmed { unit } => (unit, None, Some(line.mono_us)),
            What::Unconfirmed { unit } | What::GivenUp { unit } => (unit, None, None),
            What::StopAsked | What::TookOver { .. } | What::Anchor { .. } => return,
        };
        let at = self.units.iter().position(|known| known.unit == *unit);
        match at.and_then(|at| self.units.get_mut(at)) {
            Some(known) => {
                known.first_stop_us = known.first_stop_us.or(first);
                known.confirmed_us = known.confirmed_us.or(confirmed);
            }
            None => {
                self.units.push(Stopped { unit: unit.clone(), first_stop_us: first, confirmed_us: confirmed })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that answers does so within this time.
    const WITHIN: Duration = Duration::from_secs(10);

    #[test]
    fn what_was_noted_is_read_back_per_session_and_a_cut_line_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        assert_eq!(read(&data).unwrap(), []);
        let clock = Clock::start();
        let mut journal = Journal::open(&data, clock.clone()).unwrap();
        let unit = |name: &str| name.to_owned();
        journal.about("one");
        for (at, what) in [
            (1, What::Anchor { hash: "abc".to_owned() }),
            (2, What::TookOver { why: "died".to_owned(), said: "It died.".to_owned() }),
            (3, What::FirstStop { unit: unit("Gun 1") }),
            (4, What::FirstStop { unit: unit("P24 \"A\"\n") }),
            (5, What::Confirmed { unit: unit("Gun 1") }),
            (6, What::Unconfirmed { unit: unit("P24 \"A\"\n") }),
        ] {
            journal.note(Mono::from_millis(at), what);
        }
        for _ in 0..2 {
            journal.note(Mono::from_millis(7), What::StopAsked);
        }
        assert!(journal.flush(WITHIN));
        drop(journal);
        let mut file = OpenOptions::new().append(true).open(data.join(FILE)).unwrap();
        file.write_all(b"{\"v\":1,\"boot\":\"cut").unwrap();
        let mut journal = Journal::open(&data, clock.clone()).unwrap();
        journal.about("two");
        journal.note(Mono::from_millis(9), What::Anchor { hash: "def".to_owned() });
        assert!(journal.flush(WITHIN));
        let lines = read(&data).unwrap();
        assert_eq!(lines.len(), 9);
        assert_eq!((stops_asked(&lines, "one"), stops_asked(&lines, "two")), (2, 0));
        assert_eq!(anchor(&lines), Some("def"));
        assert_eq!(take_over(&lines, "two"), None);
        let act = take_over(&lines, "one").unwrap();
        let origin = clock.origin_monotonic_us();
        assert_eq!((act.why.as_str(), act.at_us), ("died", origin + 2000));
        let at = |ms: u64| Some(origin + ms * 1000);
        let stopped = |unit: &str, first_stop_us, confirmed_us| Stopped {
            unit: unit.to_owned(),
            first_stop_us,
            confirmed_us,
        };
        assert_eq!(act.units, [stopped("Gun 1", at(3), at(5)), stopped("P24 \"A\"\n", at(4), None)]);
    }

    /// The next daemon dies before it names its session, so its end is noted under the one before.
    #[test]
    fn a_second_take_over_takes_no_proof_from_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), Clock::start()).unwrap();
        journal.about("one");
        let took_over = |why: &str| What::TookOver { why: why.to_owned(), said: "It is over.".to_owned() };
        let unit = || "Gun 1".to_owned();
        let noted = [
            took_over("stop_unanswered"),
            What::FirstStop { unit: unit() },
            What::Confirmed { unit: unit() },
            took_over("died"),
        ];
        for (at, what) in (1..).zip(noted) {
            journal.note(Mono::from_millis(at), what);
        }
        assert!(journal.flush(WITHIN));
        let lines = read(dir.path()).unwrap();
        let us = |line: usize| lines.get(line).map(|line| line.mono_us);
        let act = take_over(&lines, "one").unwrap();
        assert_eq!((act.why.as_str(), Some(act.at_us)), ("stop_unanswered", us(0)));
        assert_eq!(act.units, [Stopped { unit: unit(), first_stop_us: us(1), confirmed_us: us(2) }]);
    }
}
