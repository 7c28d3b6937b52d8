//! The coordinator as it is shipped, but for shorter waits.

use std::{error::Error, process::ExitCode};

use containarium_coordinator::{args::Args, run};
use containarium_proto::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::from_command_line()?;
    telemetry::init(args.log_format)?;
    let mut config = args.into_config();
    config.timings = containarium_tests::fleet::timings();
    config.limits = containarium_tests::fleet::UNLIMITED;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let coordinator = run(config, stop.clone(), None);
    tokio::pin!(coordinator);
    loop {
        tokio::select! {
            ended = &mut coordinator => {
                if let Err(error) = ended {
                    eprintln!("ended: {error:?}");
                    return Ok(ExitCode::FAILURE);
                }
                return Ok(ExitCode::SUCCESS);
            }
            _ = terminate.recv() => stop.cancel(),
        }
    }
}
