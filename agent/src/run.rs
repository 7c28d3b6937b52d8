//! An agent's life: certificates, membership, port, tasks; all of them end with it.

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use containarium_proto::{
    MAX_MESSAGE_BYTES, VERSION,
    pki::{self, CertsDir, Role},
    v1::agent_server::AgentServer,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Server, server::TcpIncoming},
};
use tower::limit::GlobalConcurrencyLimitLayer;

use crate::{
    access::Access,
    backup::{Backups, Store},
    config::Config,
    error::AgentError,
    facts,
    guard::Guard,
    health,
    host::Host,
    identity,
    journal::Journal,
    ledger::Ledger,
    membership::Membership,
    preemption::{self, Notices},
    service::Service,
    standing::Standing,
    watch,
    worker::Worker,
};

/// A peer that lost power is noticed after this and its long polls are freed.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Calls at once. A coordinator has a few dozen under way at most; there may be three.
const MAX_CALLS: usize = 256;
/// Calls under way get this long after a stop. Long polls end at once; what is cut off is asked for again.
const GRACE: Duration = Duration::from_secs(5);

/// Runs an agent until `stop`, or until it must not go on. `ready` is told the address once it serves.
///
/// # Errors
/// It could not start, or a task of it died.
pub async fn run<H: Host>(
    config: Config,
    host: Arc<H>,
    stop: CancellationToken,
    ready: Option<oneshot::Sender<SocketAddr>>,
) -> Result<(), AgentError> {
    let tls = CertsDir::new(&config.certs_dir).agent_server(&config.node).map_err(AgentError::Pki)?;
    let boot_id = fs::read_to_string(&config.boot_id_file).map_err(|source| AgentError::File {
        action: "reading",
        path: config.boot_id_file.clone(),
        source,
    })?;
    let store = config.backup_store.as_deref().map(Store::open).transpose();
    let store = store.map_err(|error| AgentError::Host(error.message))?;
    let membership = Arc::new(Membership::load(&config.state_dir)?);
    let journal = Arc::new(Journal::load(&config.state_dir)?);
    let ledger = Arc::new(Ledger::new(config.node.clone(), boot_id.trim().to_owned()));
    if let Some(store) = &store {
        ledger.set_backup_store(store.url());
    }
    let backups = Arc::new(Backups::new(host.clone(), store));
    let listen = |source| AgentError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;

    let standing = Arc::new(Standing::load(&config.state_dir)?);
    let health = match config.health {
        Some(address) => Some(health::bind(address).await?),
        None => None,
    };
    let guard = Arc::new(Guard::new(host.clone(), ledger.clone(), standing.clone(), &config.timings));

    let service = Service {
        host: host.clone(),
        ledger: ledger.clone(),
        membership: membership.clone(),
        access: Access::new(host.clone(), ledger.clone(), standing.clone()),
        backups: backups.clone(),
        guard: guard.clone(),
        standing: standing.clone(),
        observe_max: config.timings.observe_max,
        stop: stop.clone(),
    };
    let server = Server::builder()
        .tls_config(tls)
        .map_err(AgentError::Serve)?
        .http2_keepalive_interval(Some(KEEPALIVE))
        .layer(GlobalConcurrencyLimitLayer::new(MAX_CALLS))
        .add_service(InterceptedService::new(
            AgentServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES),
            |request| pki::require_role(Role::Coordinator, request),
        ));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));

    let notices = config.metadata_server.as_deref().map(Notices::of).transpose()?;
    if let Some(notices) = &notices
        && notices.given().await
    {
        ledger.set_preempting();
    }
    let mut tasks = Tasks::start(&config, &host, (&ledger, &membership, &journal), backups);
    tasks.0.spawn(async move { guard.run().await });
    let stopping = (stop.clone(), standing.clone());
    tasks.0.spawn(async move {
        stopping.0.cancelled().await;
        stopping.1.stop();
        std::future::pending().await
    });
    if let Some(listener) = health {
        tasks.0.spawn(health::serve(listener, standing, ledger.clone()));
    }
    tasks.0.spawn(preemption::run(notices, host.clone(), ledger.clone(), membership.clone()));
    tracing::info!(node = %config.node, %address, version = VERSION, "serving");
    if let Some(Err(_)) = ready.map(|ready| ready.send(address)) {
        tracing::debug!("nobody waits for the address any more");
    }
    let outcome = tokio::select! {
        served = server.serve_with_incoming_shutdown(incoming, stop.cancelled()) => served.map_err(AgentError::Serve),
        ended = tasks.ended() => Err(ended),
        () = grace_over(&stop) => Ok(()),
    };
    tracing::info!(node = %config.node, "stopped");
    outcome
}

async fn grace_over(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(GRACE).await;
    tracing::warn!("calls under way were cut off");
}

/// Everything that runs beside the port. Dropping it stops it.
struct Tasks(JoinSet<AgentError>);

impl Tasks {
    fn start<H: Host>(
        config: &Config,
        host: &Arc<H>,
        (ledger, membership, journal): (&Arc<Ledger>, &Arc<Membership>, &Arc<Journal>),
        backups: Arc<Backups<H>>,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let worker = Arc::new(Worker {
            host: host.clone(),
            ledger: ledger.clone(),
            membership: membership.clone(),
            journal: journal.clone(),
            timings: config.timings,
            backups,
            turns: Semaphore::new(config.timings.parallel),
        });
        let recalling = worker.clone();
        tasks.spawn(async move {
            // Orders are carried out from the start; what is on the instances joins them when it can be read.
            let recall = async {
                match recalling.recall().await {
                    Ok(()) => std::future::pending().await,
                    Err(error) => error,
                }
            };
            tokio::select! { error = recall => error, error = worker.run() => error }
        });
        let facts = facts::Keeper::new(host.clone(), ledger.clone(), membership.clone(), &config.timings);
        tasks.spawn(async move { facts.run().await });
        let watch = watch::Watch::new(host.clone(), ledger.clone(), membership.clone(), config.timings.drift_every);
        tasks.spawn(async move { watch.run().await });
        tasks.spawn(identity::Keeper::new(host.clone(), ledger.clone(), &config.timings).run());
        Self(tasks)
    }

    async fn ended(&mut self) -> AgentError {
        match self.0.join_next().await {
            Some(Ok(error)) => error,
            Some(Err(_)) | None => AgentError::TaskEnded("agent"),
        }
    }
}
