//! doseward, the command.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    doseward::cli::run(doseward::cli::Arguments::parse())
}
