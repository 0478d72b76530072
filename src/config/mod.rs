//! Files to validated model: all problems at once, each with file, line, column and remedy.
//!
//! `RawX` mirrors a file; `X` (in `model`) is the validated value. Loaded once: a running session never sees an edit.

pub mod clinical_file;
pub mod daemon_file;
pub mod device_file;
pub mod plan_file;
pub mod problem;
pub mod protocol_file;
pub mod stimulator_file;
pub mod world_file;

pub use problem::{Problem, Source};
