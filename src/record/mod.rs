//! The session record.

pub mod entry;
pub mod journal;
pub mod store;
pub mod verify;
