//! doseward: a session-device controller for medical-massage and physical-therapy rooms.
pub mod clock;
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

pub mod runtime;

pub mod cli;
