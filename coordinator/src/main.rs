//! The coordinator's process: flags, logs, signals, exit code. Everything else is in the library.

use std::{error::Error, process::ExitCode};

use clap::Parser;
use containarium_coordinator::{args::Args, run};
use containarium_proto::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(next) = cause {
                text = format!("{text}: {next}");
                cause = next.source();
            }
            eprintln!("containarium-coordinator: {text}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn start() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    telemetry::init(args.log_format)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let coordinator = run(args.into_config(), stop.clone(), None);
    tokio::pin!(coordinator);
    loop {
        tokio::select! {
            ended = &mut coordinator => return Ok(ended?),
            _ = terminate.recv() => stop.cancel(),
            _ = interrupt.recv() => stop.cancel(),
        }
    }
}
