//! doseward, the command.

use std::process::ExitCode;

fn main() -> ExitCode {
    doseward::cli::run()
}
