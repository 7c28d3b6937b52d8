//! The coordinator's process: flags, logs, signals, exit code. Everything else is in the library.

use std::{error::Error, process::ExitCode};

use containarium_coordinator::{
    args::{Args, Command},
    backup, restore, run,
};
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
    let mut args = Args::from_command_line().unwrap_or_else(|error| error.exit());
    telemetry::init(args.log_format)?;
    if let Some(command) = args.command.take() {
        let config = args.into_config();
        let done = match command {
            Command::Backup { file } => backup(&config, &file).await?,
            Command::Restore { file, force } => restore(&config, &file, force).await?,
        };
        println!("{done}");
        return Ok(());
    }
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
