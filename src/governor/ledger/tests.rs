//! Scripts of what a channel is told and what it says, and the intervals that must be booked (SR-43, law 7, H-11).

use std::fmt::Write as _;

use super::*;
use crate::units::{Microseconds, RawSpeed};

/// What happens to the ledger. Currents in mA, speeds in raw.
enum Event {
    Sent(u64, Setpoint),
    Settled(u64),
    StopSent,
    Measured(Option<Setpoint>),
    Off,
    /// In doubt since this many ms.
    Doubt(u64),
    /// Proven, with this tail in ms.
    Proven(u64),
    Uncommanded(u64, Setpoint),
    LoweredAtDevice(Setpoint),
    Split,
    /// Prints what the ledger answers.
    Ask,
}

use Event::{
    Ask, Doubt, LoweredAtDevice, Measured, Off, Proven, Sent, Settled, Split, StopSent, Uncommanded,
};

const fn pulses(milliamps: u32) -> Setpoint {
    Setpoint::Pulses {
        current: Milliamps::from_milliamps(milliamps),
        width: Microseconds::from_micros(200),
        period: Microseconds::from_micros(20_000),
    }
}

const fn speed(raw: u16) -> Setpoint {
    Setpoint::Speed(RawSpeed::from_raw(raw))
}

/// The least in front of the most; charge in µC, speed in raw·s.
fn show(interval: &Interval) -> String {
    let Interval { from, until, upper, lower, evidence, least, most } = interval;
    let lower = lower.map_or("off".to_owned(), |lower| lower.intensity().to_string());
    let times = format!("{}-{} ms", from.micros() / 1000, until.micros() / 1000);
    let mut line = format!("{times}: {lower} to {}, {evidence:?}", upper.intensity());
    write!(line, ", on {}-{} ms", least.on_us / 1000, most.on_us / 1000).unwrap();
    if most.pulses > 0 {
        let charge = |amount: &Amount| amount.charge_pc / 1_000_000;
        let (low, high) = (charge(least), charge(most));
        write!(line, ", {}-{} pulses, {low}-{high} uC", least.pulses, most.pulses).unwrap();
    }
    if most.speed_us > 0 {
        write!(line, ", {}-{} raw s", least.speed_us / 1_000_000, most.speed_us / 1_000_000).unwrap();
    }
    line
}

/// Plays a script of (ms, event) and compares every interval and answer, in order.
fn check(name: &str, seen_from: u32, script: &[(u64, Event)], expected: &[&str]) {
    let mut ledger = Ledger::new(Milliamps::from_milliamps(seen_from));
    let mut lines = Vec::new();
    for (at, event) in script {
        let now = Mono::from_millis(*at);
        let mut closed = Vec::new();
        match event {
            Sent(id, setpoint) => ledger.sent(now, CommandId(*id), *setpoint, &mut closed),
            Settled(id) => ledger.settle(now, CommandId(*id), &mut closed),
            StopSent => ledger.stop_sent(now, &mut closed),
            Measured(value) => ledger.measured(now, now, *value, &mut closed),
            Off => ledger.measured_off(),
            Doubt(since) => ledger.doubt(now, Mono::from_millis(*since), &mut closed),
            Proven(tail) => ledger.proven_zero(now, Duration::from_millis(*tail), &mut closed),
            Uncommanded(since, value) => {
                ledger.uncommanded(now, Mono::from_millis(*since), *value, &mut closed);
            }
            LoweredAtDevice(value) => ledger.lowered_at_device(now, *value, &mut closed),
            Split => ledger.split_long(now, &mut closed),
            Ask => {
                let settled = ledger.settled_intensity().map(|settled| settled.to_string());
                lines.push(format!(
                    "open {} uncertain {} settled {} split {:?}",
                    ledger.progress(now).map_or("no".to_owned(), |open| format!("[{}]", show(&open))),
                    ledger.is_uncertain(),
                    settled.unwrap_or("nothing".to_owned()),
                    ledger.split_due().map(|due| due.micros() / 1000),
                ));
            }
        }
        assert_eq!(ledger.is_open(), ledger.progress(now).is_some());
        lines.extend(closed.iter().map(show));
    }
    assert_eq!(lines, expected, "{name}");
}

#[test]
fn sr_43_what_a_stimulator_gives_is_booked_between_its_bounds() {
    check(
        "commanded, acknowledged, proven",
        0,
        &[(0, Sent(1, pulses(10))), (10, Ask), (10, Settled(1)), (20, Ask), (1_000, Proven(0)), (1_000, Ask)],
        &[
            "open [0-10 ms: off to 10 mA, Commanded, on 0-10 ms, 0-1 pulses, 0-2 uC] uncertain false settled nothing split Some(60000)",
            "0-10 ms: off to 10 mA, Commanded, on 0-10 ms, 0-1 pulses, 0-2 uC",
            "open [10-20 ms: 10 mA to 10 mA, Commanded, on 0-10 ms, 0-1 pulses, 0-2 uC] uncertain false settled 10 mA split Some(60010)",
            "10-1000 ms: 10 mA to 10 mA, Commanded, on 0-990 ms, 0-50 pulses, 0-100 uC",
            "open no uncertain false settled nothing split None",
        ],
    );
    check(
        "reported: sure up to the report before the newest",
        0,
        &[
            (0, Sent(1, pulses(10))),
            (0, Settled(1)),
            (100, Measured(None)),
            (200, Measured(None)),
            (300, Measured(None)),
            (400, Proven(0)),
        ],
        &["0-400 ms: 10 mA to 10 mA, Reported, on 200-400 ms, 10-20 pulses, 20-40 uC"],
    );
    check(
        "below the current at which a fallen-off pad is noticed, pulses are not sure",
        15,
        &[
            (0, Sent(1, pulses(14))),
            (0, Settled(1)),
            (100, Measured(None)),
            (1_100, Measured(None)),
            (1_100, Sent(2, pulses(15))),
            (1_100, Settled(2)),
            (1_200, Measured(None)),
            (2_200, Measured(None)),
            (2_200, StopSent),
            (2_300, Proven(1_000)),
        ],
        &[
            "0-1100 ms: 14 mA to 14 mA, Reported, on 0-1100 ms, 0-55 pulses, 0-154 uC",
            "1100-2200 ms: 15 mA to 15 mA, Reported, on 1100-1100 ms, 0-55 pulses, 0-165 uC",
            "2200-3300 ms: off to 15 mA, Commanded, on 1000-1100 ms, 50-55 pulses, 150-165 uC",
        ],
    );
}

#[test]
fn sr_43_reports_of_output_credit_nothing_while_zero_may_be_in_force() {
    check(
        "a start at zero, not answered yet",
        10,
        &[
            (0, Sent(1, pulses(0))),
            (10, Settled(1)),
            (100, Sent(2, pulses(5))),
            (200, Measured(None)),
            (300, Measured(None)),
            (400, Measured(None)),
            (500, Proven(0)),
        ],
        &["100-500 ms: off to 5 mA, Reported, on 0-400 ms, 0-20 pulses, 0-20 uC"],
    );
}

#[test]
fn sr_43_a_rise_counts_when_it_leaves_and_a_decrease_when_it_is_settled() {
    check(
        "a rise counts when it leaves, a decrease when it is settled",
        0,
        &[
            (0, Sent(1, pulses(5))),
            (0, Settled(1)),
            (100, Sent(2, pulses(10))),
            (200, Settled(2)),
            (300, Sent(3, pulses(5))),
            (350, Sent(4, pulses(7))),
            (350, Ask),
            (400, Settled(4)),
            (500, Measured(None)),
            (600, Measured(None)),
            (650, Off),
            (700, Measured(None)),
            (800, Proven(0)),
        ],
        &[
            "0-100 ms: 5 mA to 5 mA, Commanded, on 0-100 ms, 0-5 pulses, 0-5 uC",
            "100-200 ms: 5 mA to 10 mA, Commanded, on 0-100 ms, 0-5 pulses, 0-10 uC",
            "200-300 ms: 10 mA to 10 mA, Commanded, on 0-100 ms, 0-5 pulses, 0-10 uC",
            "open [300-350 ms: 5 mA to 10 mA, Commanded, on 0-50 ms, 0-3 pulses, 0-6 uC] uncertain false settled 10 mA split Some(60300)",
            "300-400 ms: 5 mA to 10 mA, Commanded, on 0-100 ms, 0-5 pulses, 0-10 uC",
            "400-800 ms: 7 mA to 7 mA, Reported, on 0-400 ms, 0-20 pulses, 0-28 uC",
        ],
    );
    check(
        "an older or unknown acknowledgement settles nothing newer",
        0,
        &[
            (0, Sent(1, pulses(5))),
            (0, Sent(2, pulses(6))),
            (0, Settled(9)),
            (0, Ask),
            (10, Settled(1)),
            (10, Ask),
            (20, StopSent),
            (20, Ask),
            (30, Proven(0)),
        ],
        &[
            "open [0-0 ms: off to 6 mA, Commanded, on 0-0 ms, 0-1 pulses, 0-1 uC] uncertain false settled nothing split Some(60000)",
            "0-10 ms: off to 6 mA, Commanded, on 0-10 ms, 0-1 pulses, 0-1 uC",
            "open [10-10 ms: 5 mA to 6 mA, Commanded, on 0-0 ms, 0-1 pulses, 0-1 uC] uncertain false settled 5 mA split Some(60010)",
            "10-20 ms: 5 mA to 6 mA, Commanded, on 0-10 ms, 0-1 pulses, 0-1 uC",
            "open [20-20 ms: off to 6 mA, Commanded, on 0-0 ms, 0-1 pulses, 0-1 uC] uncertain false settled 5 mA split Some(60020)",
            "20-30 ms: off to 6 mA, Commanded, on 0-10 ms, 0-1 pulses, 0-1 uC",
        ],
    );
    check(
        "zero acknowledged closes without a proof",
        0,
        &[(0, Sent(1, pulses(5))), (0, Settled(1)), (100, Sent(2, pulses(0))), (200, Settled(2)), (200, Ask)],
        &[
            "0-100 ms: 5 mA to 5 mA, Commanded, on 0-100 ms, 0-5 pulses, 0-5 uC",
            "100-200 ms: off to 5 mA, Commanded, on 0-100 ms, 0-5 pulses, 0-5 uC",
            "open no uncertain false settled 0 mA split None",
        ],
    );
}

#[test]
fn sr_43_doubt_is_booked_at_the_highest_of_the_epoch_until_zero_is_proven() {
    check(
        "doubt since the last answer, at the highest",
        0,
        &[
            (0, Sent(1, pulses(5))),
            (0, Settled(1)),
            (100, Sent(2, pulses(10))),
            (100, Settled(2)),
            (200, Sent(3, pulses(4))),
            (200, Settled(3)),
            (900, Doubt(500)),
            (900, Ask),
            (950, Doubt(100)),
            (1_000, Sent(4, pulses(3))),
            (1_000, Settled(4)),
            (1_100, Measured(None)),
            (70_000, Split),
            (90_000, Proven(0)),
            (90_000, Ask),
        ],
        &[
            "0-100 ms: 5 mA to 5 mA, Commanded, on 0-100 ms, 0-5 pulses, 0-5 uC",
            "100-200 ms: 10 mA to 10 mA, Commanded, on 0-100 ms, 0-5 pulses, 0-10 uC",
            "200-500 ms: 4 mA to 4 mA, Commanded, on 0-300 ms, 0-15 pulses, 0-12 uC",
            "open [500-900 ms: off to 10 mA, Uncertain, on 0-400 ms, 0-20 pulses, 0-40 uC] uncertain true settled 4 mA split None",
            "500-90000 ms: off to 10 mA, Uncertain, on 0-89500 ms, 0-4475 pulses, 0-8950 uC",
            "open no uncertain false settled nothing split None",
        ],
    );
    check(
        "doubt from before the interval begins with the interval, never later than now",
        0,
        &[(100, Sent(1, pulses(5))), (200, Doubt(0)), (300, Proven(0))],
        &["100-300 ms: off to 5 mA, Uncertain, on 0-200 ms, 0-10 pulses, 0-10 uC"],
    );
    check(
        "nothing open is never in doubt",
        0,
        &[(100, Doubt(0)), (100, Ask)],
        &["open no uncertain false settled nothing split None"],
    );
    check(
        "a report above raises what is in doubt, one below does not lower it",
        0,
        &[
            (0, Sent(1, speed(1_000))),
            (0, Settled(1)),
            (100, Doubt(100)),
            (200, Measured(Some(speed(1_500)))),
            (200, Ask),
            (300, Measured(Some(speed(900)))),
            (1_100, Proven(0)),
        ],
        &[
            "0-100 ms: 1000 raw to 1000 raw, Commanded, on 0-100 ms, 0-100 raw s",
            "open [100-200 ms: off to 1500 raw, Uncertain, on 0-100 ms, 0-150 raw s] uncertain true settled 1000 raw split None",
            "100-1100 ms: off to 1500 raw, Uncertain, on 100-1000 ms, 90-1500 raw s",
        ],
    );
}

#[test]
fn sr_43_a_gun_is_booked_by_what_it_reports_and_what_was_sent() {
    check(
        "above what is settled counts, and ends when it ends",
        0,
        &[
            (0, Sent(1, speed(1_000))),
            (0, Settled(1)),
            (1_000, Measured(Some(speed(1_000)))),
            (2_000, Measured(Some(speed(1_200)))),
            (3_000, Measured(Some(speed(900)))),
            (4_000, Measured(Some(speed(900)))),
            (5_000, Proven(1_000)),
        ],
        &[
            "0-2000 ms: 1000 raw to 1000 raw, Reported, on 0-2000 ms, 0-2000 raw s",
            "2000-3000 ms: 1000 raw to 1200 raw, Reported, on 1000-1000 ms, 1000-1200 raw s",
            "3000-6000 ms: 1000 raw to 1000 raw, Reported, on 2000-3000 ms, 1800-3000 raw s",
        ],
    );
    check(
        "started by itself: counted since it may have begun",
        0,
        &[(5_000, Uncommanded(2_000, speed(1_500))), (5_000, Ask), (6_000, Proven(1_000))],
        &[
            "open [2000-5000 ms: off to 1500 raw, Reported, on 0-3000 ms, 0-4500 raw s] uncertain false settled nothing split Some(62000)",
            "2000-7000 ms: off to 1500 raw, Reported, on 0-5000 ms, 0-7500 raw s",
        ],
    );
    check(
        "started by itself while in doubt: the higher of the two, in the same interval",
        0,
        &[
            (0, Sent(1, speed(1_000))),
            (0, Settled(1)),
            (100, Doubt(100)),
            (200, Uncommanded(150, speed(900))),
            (200, Ask),
            (300, Uncommanded(250, speed(1_500))),
            (1_100, Proven(0)),
        ],
        &[
            "0-100 ms: 1000 raw to 1000 raw, Commanded, on 0-100 ms, 0-100 raw s",
            "open [100-200 ms: off to 1000 raw, Uncertain, on 0-100 ms, 0-100 raw s] uncertain true settled 1000 raw split None",
            "100-1100 ms: off to 1500 raw, Uncertain, on 0-1000 ms, 0-1500 raw s",
        ],
    );
    check(
        "raised by itself: the interval before ends where the other may have begun",
        0,
        &[
            (0, Sent(1, speed(1_000))),
            (0, Settled(1)),
            (5_000, Uncommanded(4_000, speed(1_500))),
            (5_500, Uncommanded(9_000, speed(1_400))),
            (6_000, Doubt(5_800)),
            (7_000, Proven(0)),
        ],
        &[
            "0-4000 ms: 1000 raw to 1000 raw, Commanded, on 0-4000 ms, 0-4000 raw s",
            "4000-5500 ms: 1000 raw to 1500 raw, Reported, on 0-1500 ms, 0-2250 raw s",
            "5500-5800 ms: 1000 raw to 1500 raw, Reported, on 0-300 ms, 0-450 raw s",
            "5800-7000 ms: off to 1500 raw, Uncertain, on 0-1200 ms, 0-1800 raw s",
        ],
    );
}

#[test]
fn sr_43_a_decrease_of_a_gun_counts_when_it_is_settled_or_done_by_hand() {
    check(
        "a report of just what is settled is no more than that: a decrease counts when it is settled",
        0,
        &[
            (0, Sent(1, speed(1_800))),
            (0, Settled(1)),
            (1_000, Measured(Some(speed(1_800)))),
            (2_000, Sent(2, speed(1_200))),
            (2_100, Settled(2)),
            (3_000, Proven(0)),
        ],
        &[
            "0-2000 ms: 1800 raw to 1800 raw, Reported, on 0-2000 ms, 0-3600 raw s",
            "2000-2100 ms: 1200 raw to 1800 raw, Commanded, on 0-100 ms, 0-180 raw s",
            "2100-3000 ms: 1200 raw to 1200 raw, Commanded, on 0-900 ms, 0-1080 raw s",
        ],
    );
    check(
        "lowered by hand: in force at once",
        0,
        &[
            (0, Sent(1, speed(1_800))),
            (0, Settled(1)),
            (1_000, Measured(Some(speed(1_900)))),
            (2_000, LoweredAtDevice(speed(1_200))),
            (2_000, Ask),
            (3_000, Proven(0)),
        ],
        &[
            "0-1000 ms: 1800 raw to 1800 raw, Reported, on 0-1000 ms, 0-1800 raw s",
            "1000-2000 ms: 1800 raw to 1900 raw, Reported, on 0-1000 ms, 0-1900 raw s",
            "open [2000-2000 ms: 1200 raw to 1200 raw, Commanded, on 0-0 ms] uncertain false settled 1200 raw split Some(62000)",
            "2000-3000 ms: 1200 raw to 1200 raw, Commanded, on 0-1000 ms, 0-1200 raw s",
        ],
    );
}

#[test]
fn sr_43_a_long_interval_is_split_after_a_minute_and_only_then() {
    check(
        "split",
        0,
        &[
            (0, Sent(1, pulses(5))),
            (0, Settled(1)),
            (59_999, Split),
            (59_999, Ask),
            (60_500, Split),
            (60_500, Ask),
            (61_000, Proven(0)),
        ],
        &[
            "open [0-59999 ms: 5 mA to 5 mA, Commanded, on 0-59999 ms, 0-3000 pulses, 0-3000 uC] uncertain false settled 5 mA split Some(60000)",
            "0-60000 ms: 5 mA to 5 mA, Commanded, on 0-60000 ms, 0-3000 pulses, 0-3000 uC",
            "open [60000-60500 ms: 5 mA to 5 mA, Commanded, on 0-500 ms, 0-25 pulses, 0-25 uC] uncertain false settled 5 mA split Some(120000)",
            "60000-61000 ms: 5 mA to 5 mA, Commanded, on 0-1000 ms, 0-50 pulses, 0-50 uC",
        ],
    );
}

#[test]
fn a_lower_speed_is_settled_by_a_report_and_anything_else_by_its_acknowledgement() {
    for (to, settles) in [(999, false), (1_000, true), (1_001, true)] {
        for behind_a_stop in [false, true] {
            let mut ledger = Ledger::new(Milliamps::ZERO);
            let mut closed = Vec::new();
            ledger.sent(Mono::ORIGIN, CommandId(1), speed(1_000), &mut closed);
            ledger.acknowledged(Mono::ORIGIN, CommandId(1), &mut closed);
            ledger.sent(Mono::ORIGIN, CommandId(2), speed(to), &mut closed);
            if behind_a_stop {
                ledger.stop_sent(Mono::ORIGIN, &mut closed);
            }
            ledger.acknowledged(Mono::ORIGIN, CommandId(2), &mut closed);
            let settled = ledger.settled_intensity() == Some(speed(to).intensity());
            assert_eq!(settled, settles, "{to}, behind a stop: {behind_a_stop}");
        }
    }
}
