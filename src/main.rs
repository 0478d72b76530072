//! doseward, the command.
fn main() {}
