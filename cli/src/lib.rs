//! The command line of the fleet: it talks to a coordinator, never to a node. What a command prints for programs goes
//! to standard output; everything else to standard error.

mod access;
pub mod args;
mod client;
mod commands;
mod endpoints;
mod errors;
mod files;
mod live;
mod output;

use std::ffi::OsString;

use clap::Parser;

use crate::{args::Args, errors::Failure};

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
    match bounded(&args).await {
        Ok(()) => 0,
        Err(failure) => failure.report(),
    }
}

/// The deadline of a call ends with its first answer; `--timeout` is of the whole command, retries included.
async fn bounded(args: &Args) -> Result<(), Failure> {
    let work = commands::run(args);
    let Some(limit) = args.global.timeout.filter(|_| !args.goes_on()) else { return work.await };
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let server = args.global.server.as_deref().unwrap_or("its socket");
            let message = format!("the coordinator at {server} has not finished within {limit:?}: no answer in time");
            Err(Failure::new(errors::UNREACHABLE, message).hint("what was begun goes on: see 'containarium list'"))
        }
    }
}
