//! The truth file: what the simulated units really delivered, by their own arithmetic.
//!
//! JSON, one object per line, flushed per line, cumulative since the start:
//!
//! ```text
//! {"clock":"monotonic","t_us":1234,"unit":"P24 A","channel":1,"on_us":0,"pulses":0,"charge_pc":0,"speed_us":0,
//!  "present":0,"highest":0}
//! ```
//!
//! `t_us` is the system's monotonic clock in microseconds, which every process of the machine shares. A line is
//! written for each channel once a second, at each change between none and some output, and at the end.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::RigError;
use crate::clock::Clock;
use crate::sim::Delivered;
use crate::units::Mono;

/// A line for every channel at least this often.
const EVERY: Duration = Duration::from_secs(1);

/// The truth file, shared by all units. Cheap to clone; without a file it writes nothing.
#[derive(Clone, Debug)]
pub struct Truth {
    file: Option<Arc<Mutex<File>>>,
    clock: Clock,
}

/// One unit's part of it.
#[derive(Debug)]
pub struct Account {
    truth: Truth,
    unit: String,
    next: Mono,
    on: Vec<(u8, bool)>,
}

#[derive(Serialize)]
struct Line<'a> {
    clock: &'static str,
    t_us: u64,
    unit: &'a str,
    channel: u8,
    on_us: u64,
    pulses: u64,
    charge_pc: u64,
    speed_us: u64,
    present: u32,
    highest: u32,
}

impl Truth {
    /// Creates the file, if one is wanted.
    ///
    /// # Errors
    /// The file could not be created.
    pub fn create(path: Option<&Path>, clock: Clock) -> Result<Self, RigError> {
        let Some(path) = path else {
            return Ok(Self { file: None, clock });
        };
        match File::create(path) {
            Ok(file) => Ok(Self { file: Some(Arc::new(Mutex::new(file))), clock }),
            Err(source) => Err(RigError::Setup { what: "the truth file", path: path.to_owned(), source }),
        }
    }

    /// Opens the account of one unit.
    pub fn account(&self, unit: &str) -> Account {
        Account { truth: self.clone(), unit: unit.to_owned(), next: Mono::ORIGIN, on: Vec::new() }
    }

    fn write(&self, unit: &str, now: Mono, delivered: &Delivered) {
        let Some(file) = &self.file else {
            return;
        };
        let line = Line {
            clock: "monotonic",
            t_us: self.clock.monotonic_us(now),
            unit,
            channel: delivered.channel,
            on_us: delivered.on_us,
            pulses: delivered.pulses,
            charge_pc: delivered.charge_pc,
            speed_us: delivered.speed_us,
            present: delivered.present,
            highest: delivered.highest,
        };
        let written = serde_json::to_string(&line).map_err(std::io::Error::from).and_then(|mut text| {
            text.push('\n');
            // One write per line: a reader never sees half of one.
            file.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes())
        });
        if let Err(error) = written {
            tracing::error!(unit, %error, "truth not written");
        }
    }
}

impl Account {
    /// Writes what is due at `now`: every channel once a second, and those whose output began or ended.
    pub fn note(&mut self, now: Mono, delivered: &[Delivered]) {
        let all = now >= self.next;
        if all {
            self.next = now.saturating_add(EVERY);
        }
        for channel in delivered {
            let is_on = channel.present > 0;
            let was_on = self.on.iter().any(|(number, on)| *number == channel.channel && *on);
            if all || is_on != was_on {
                self.truth.write(&self.unit, now, channel);
            }
        }
        self.on = delivered.iter().map(|channel| (channel.channel, channel.present > 0)).collect();
    }

    /// Writes the last lines.
    pub fn close(&mut self, now: Mono, delivered: &[Delivered]) {
        self.next = now;
        self.note(now, delivered);
    }

    /// Returns when [`Self::note`] is next due.
    pub const fn deadline(&self) -> Mono {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_come_each_second_at_changes_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("truth.jsonl");
        let mut account = Truth::create(Some(&path), Clock::start()).unwrap().account("P24 A");
        let off = Delivered { channel: 1, ..Delivered::default() };
        let on = Delivered { present: 12_000, pulses: 3, ..off };
        for (millis, delivered) in [(0, off), (400, off), (500, on), (700, on), (900, off), (1000, off)] {
            account.note(Mono::from_millis(millis), &[delivered]);
        }
        account.close(Mono::from_millis(1200), &[off]);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let first = lines[0]["t_us"].as_u64().unwrap();
        let seen: Vec<(u64, u64)> = lines
            .iter()
            .map(|line| ((line["t_us"].as_u64().unwrap() - first) / 1000, line["present"].as_u64().unwrap()))
            .collect();
        assert_eq!(seen, [(0, 0), (500, 12_000), (900, 0), (1000, 0), (1200, 0)]);
        assert_eq!(lines[1]["unit"], "P24 A");
        assert_eq!(lines[1]["clock"], "monotonic");
        assert_eq!(lines[1]["pulses"], 3);
    }
}
