//! What the tests share: a plan, a bench around the governor, the oracle of its laws.

pub mod bench;
pub mod core;
pub mod laws;
pub mod plans;
