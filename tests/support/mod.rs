//! What the tests share: a plan, a bench around the governor, the oracle of its laws, and the program as processes.

pub mod bench;
pub mod laws;
pub mod plans;
pub mod process;
pub mod walks;
