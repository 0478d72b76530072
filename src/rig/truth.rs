//! The truth file: what the simulated units really delivered, by their own arithmetic.
//!
//! JSON, one object per line, flushed per line:
//!
//! ```text
//! {"kind":"delivered","clock":"monotonic","t_us":1234,"unit":"P24 A","channel":1,"on_us":0,"pulses":0,
//!  "charge_pc":0,"speed_us":0,"present":0,"highest":0}
//! {"kind":"heard","clock":"monotonic","t_us":1240,"unit":"Gun 1","endpoint":"0000fff1-…","bytes":"a5a500",
//!  "write":"request","link":"ready"}
//! ```
//!
//! `t_us` is the system's monotonic clock in microseconds, which every process of the machine shares.
//! - `delivered`: cumulative since the start, for each channel once a second, at each change between none and some
//!   output, and at the end;
//! - `heard`: one for every message that reached the unit, as it arrived (a serial line's may be half a frame):
//!   `endpoint` is `serial` or a characteristic, `bytes` hexadecimal, `write` one of `line`, `request`, `command` and
//!   `acquired`, `link` one of `plugged`, `connected`, `ready` and `closing` (a disconnect was asked for).

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::RigError;
use crate::clock::Clock;
use crate::model::packet::Endpoint;
use crate::sim::Delivered;
use crate::sim::link::{Arrival, Way};
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
    kind: &'static str,
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

#[derive(Serialize)]
struct Heard<'a> {
    kind: &'static str,
    clock: &'static str,
    t_us: u64,
    unit: &'a str,
    endpoint: String,
    bytes: String,
    write: &'static str,
    link: &'static str,
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
        let line = Line {
            kind: "delivered",
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
        self.line(unit, &line);
    }

    fn line(&self, unit: &str, line: &impl Serialize) {
        let Some(file) = &self.file else {
            return;
        };
        let written = serde_json::to_string(line).map_err(std::io::Error::from).and_then(|mut text| {
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

    /// Writes what the unit heard, at once; what its link lost is not heard.
    pub fn heard(&self, now: Mono, arrival: &Arrival, link: &'static str) {
        if arrival.lost {
            return;
        }
        let message = &arrival.message;
        let line = Heard {
            kind: "heard",
            clock: "monotonic",
            t_us: self.truth.clock.monotonic_us(now),
            unit: &self.unit,
            endpoint: match message.endpoint {
                Endpoint::Serial => "serial".to_owned(),
                Endpoint::Characteristic(uuid) => uuid::Uuid::from_u128(uuid).to_string(),
            },
            bytes: message.bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            write: match message.way {
                Way::Line => "line",
                Way::Request => "request",
                Way::Command => "command",
                Way::Acquired => "acquired",
            },
            link,
        };
        self.truth.line(&self.unit, &line);
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
    use crate::sim::link::Carried;

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
        assert!(lines.iter().all(|line| line["kind"] == "delivered"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_unit_heard_is_told_and_what_was_lost_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("truth.jsonl");
        let clock = Clock::start();
        let account = Truth::create(Some(&path), clock.clone()).unwrap().account("Gun 1");
        let endpoint = Endpoint::Characteristic(0xffe2);
        let message = Carried { endpoint, bytes: vec![0xa5, 0], way: Way::Acquired, tag: None };
        let now = Mono::from_millis(7);
        account.heard(now, &Arrival { message: message.clone(), lost: true }, "ready");
        account.heard(now, &Arrival { message, lost: false }, "ready");
        let text = std::fs::read_to_string(&path).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).expect("one line");
        let said = ["kind", "clock", "unit", "endpoint", "bytes", "write", "link"];
        let said = said.map(|key| line[key].as_str().unwrap());
        let uuid = "00000000-0000-0000-0000-00000000ffe2";
        assert_eq!(said, ["heard", "monotonic", "Gun 1", uuid, "a500", "acquired", "ready"]);
        assert_eq!(line["t_us"], clock.monotonic_us(now));
    }
}
