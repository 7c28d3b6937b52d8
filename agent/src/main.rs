//! `containarium-agent`: arguments, logging, signals; everything else is the library's.

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use containarium_agent::{
    args::{Args, HostKind},
    host::{linux::LinuxHost, sim::SimHost},
    run,
};
use containarium_proto::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match start(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("containarium-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(args: &Args) -> anyhow::Result<()> {
    telemetry::init(args.log_format)?;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let served = async {
        match args.host {
            HostKind::Linux => {
                let host = LinuxHost::new(args.linux()).map_err(|e| containarium_agent::AgentError::Host(e.message))?;
                run(args.config(), Arc::new(host), stop.clone(), None).await
            }
            HostKind::Sim => run(args.config(), Arc::new(SimHost::new(args.sim_cidr)), stop.clone(), None).await,
        }
    };
    let stopped = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        stop.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = served => Ok(served?),
        () = stopped => Ok(()),
    }
}
