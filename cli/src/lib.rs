//! The command line of the fleet: it talks to a coordinator, never to a node. What a command prints for programs goes
//! to standard output; everything else to standard error.

pub mod args;
mod client;
mod commands;
mod errors;
mod output;

use std::ffi::OsString;

use clap::Parser;

use crate::args::Args;

/// Runs one command line and gives its exit code, after printing what went wrong.
pub async fn run(line: impl IntoIterator<Item = OsString>) -> u8 {
    let args = match Args::try_parse_from(line) {
        Ok(args) => args,
        Err(error) => {
            // Help and version are asked for: exit 0, on standard output; the rest is wrong usage: exit 2.
            let code = if error.use_stderr() { errors::USAGE } else { 0 };
            return if error.print().is_ok() { code } else { errors::USAGE };
        }
    };
    match commands::run(&args).await {
        Ok(()) => 0,
        Err(failure) => failure.report(),
    }
}
