//! doseward: a session-device controller for medical-massage and physical-therapy rooms.
//!
//! A plan goes in, units are driven inside its limits, every dose is recorded. This page is the architecture document:
//! the map, the dependency rule and the two flows. `README.md` says what it is for, `DESIGN.md` why it is so.
//!
//! # In four sentences
//!
//! 1. Everything that decides is a pure machine, `advance(now, input, out)` and `deadline()`: the
//!    [governor], each [driver], each [simulated device](sim). No clock, no I/O, no randomness of its own.
//! 2. Everything that waits is in one shell, [`runtime`].
//! 3. A byte that raises output cannot be formed without the governor: drivers accept only
//!    [`Cleared`](governor::Cleared) commands, and only drivers make packets.
//! 4. Raise: record, then act. Lower: act, then record. Stop is never refused, queued or kept waiting.
//!
//! # Map
//!
//! ```text
//!   people          terminal                                              parent process
//!     |             cli/run        armings, leases, signs of life         guard
//!     v                |  Request, stop        +--------------------------> | starts, watches, stops units, outlives
//!   runtime  ---- session_task ----------- recorder_task (thread)           v
//!                 owns the Governor         record::Journal (SQLite)      simulators' process
//!                      |  Cleared<Command>, Renew, stop lane              rig: pty, simulated BlueZ
//!                 device_task (one per unit)                                ^
//!                 owns a Driver and a Transport ---- bytes -----------------+
//! ```
//!
//! | group | modules | may not |
//! | --- | --- | --- |
//! | words | [`units`], [`clock`], [`model`] | decide |
//! | decides | [`governor`], [`driver`], [`alarm`], [`sim`] | read a clock, do I/O, use floats (but `sim`) |
//! | keeps | [`config`], [`record`], [`report`] | use tokio |
//! | touches the world | [`transport`], [`rig`], [`guard`] | know what bytes mean (but `rig`'s devices) |
//! | runs | [`runtime`], [`certify`] | decide |
//! | faces | [`cli`] | be imported |
//!
//! `tests/architecture.rs` holds the exact table and fails on a `crate::` path that breaks it.
//!
//! # One intensity command, person to device
//!
//! 1. [`cli`] turns a key into a [`Request`](governor::Request) with the state version that the screen showed.
//! 2. The session task hands it to [`Governor::advance`](governor::Governor::advance) with the present instant.
//! 3. The governor judges limits and interlocks. Lower: [`Output::Drive`](governor::Output) at once. Raise: the intent
//!    is appended first; [`Input::Durable`](governor::Input) brings it back, and it is judged again.
//! 4. The device task gives the `Cleared<Command>` to its [`Driver`](driver::Driver), which makes
//!    [`Packet`](model::packet::Packet)s with an expiry; the [`Transport`](transport::Transport) writes them or drops
//!    them late.
//! 5. The governor's `deadline()` wakes it along the ramp until the target holds.
//!
//! # One dose, device to record
//!
//! 1. Bytes come as [`Received`](model::packet::Received); the driver turns them into
//!    [`Report`](model::report::Report)s. Bytes that mean nothing are counted, never a sign of life, never a panic.
//! 2. The governor's ledger keeps two bounds per channel: what may have been given and what surely was.
//! 3. Each interval of constant level becomes one [`Dose`](model::dose::Dose) in the hash chain of [`record`]; a
//!    progress row beside the chain, overwritten each second, is what a restart recovers from.
//! 4. [`report`] writes the session note from the record and nothing else.

pub mod clock;
pub mod console;
pub mod model;
pub mod units;

pub mod alarm;
pub mod driver;
pub mod governor;
pub mod sim;

pub mod config;
pub mod record;
pub mod report;

pub mod guard;
pub mod rig;
pub mod transport;

pub mod certify;
pub mod runtime;

pub mod cli;
