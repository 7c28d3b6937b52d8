//! The coordinator as it is shipped, but for shorter waits.

use std::{error::Error, process::ExitCode, time::Duration};

use containarium_coordinator::{Config, CoordinatorError, args::Args, run};
use containarium_proto::telemetry;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;

const START_AGAIN: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::from_command_line()?;
    telemetry::init(args.log_format)?;
    let mut config = args.into_config();
    config.timings = containarium_tests::fleet::timings();
    config.limits = containarium_tests::fleet::UNLIMITED;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let coordinator = supervised(config, stop.clone());
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

/// As under its unit: one that finds no database when it starts is started again. Once it serves, nothing ends it.
async fn supervised(config: Config, stop: CancellationToken) -> Result<(), CoordinatorError> {
    loop {
        let (ready, mut was_ready) = oneshot::channel();
        match run(config.clone(), stop.clone(), Some(ready)).await {
            Err(CoordinatorError::Store(error)) if was_ready.try_recv().is_err() && !stop.is_cancelled() => {
                eprintln!("could not start: {error:?}");
                tokio::time::sleep(START_AGAIN).await;
            }
            ended => return ended,
        }
    }
}
