//! One integration binary, a file per capability. Every file is listed here; `architecture` fails on a forgotten one.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    reason = "tests fail by panicking, print what they reached, convert small numbers and wait for real processes"
)]

mod alarm;
mod architecture;
mod bluez;
mod budgets;
mod certify;
mod cli;
mod crash;
mod disk;
mod electrical;
mod faults;
mod guard;
mod hazards;
mod interlocks;
mod laws;
mod limits;
mod model;
mod people;
mod protocol_files;
mod real_transport;
mod record;
mod refusals;
mod reports;
mod simulation;
mod support;
mod timers;
mod trace;
mod wire;
mod world_events;
