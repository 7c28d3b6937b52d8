//! Where the API is served: TLS for operators' machines, a unix socket for root on this one. Every call passes the
//! role check; there is no port without it.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use containarium_proto::pki::CertsDir;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::InterceptorLayer,
    transport::{Server, ServerTlsConfig, server::TcpIncoming},
};
use tower::limit::GlobalConcurrencyLimitLayer;

use super::{
    caller::admit,
    gate::{Gate, Standing},
    limits::Turnstile,
};
use crate::{config::Config, error::CoordinatorError};

/// An answer, or a stream's first byte. Above the longest wait of ours, for the first round of observation.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Calls at once, all callers together; each holds a request of at most 4 MB.
const MAX_CALLS: usize = 256;
/// Finds callers that vanished, so that their streams go too.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Bound, not yet served: a port that is taken or a bad certificate is found out before a term begins.
pub(crate) struct Listeners {
    tcp: TcpListener,
    tls: ServerTlsConfig,
    unix: Option<UnixListener>,
}

impl Listeners {
    pub(crate) async fn bind(config: &Config) -> Result<(Self, SocketAddr), CoordinatorError> {
        let fail = |source: std::io::Error| CoordinatorError::Serve {
            action: format!("listening on {}", config.listen),
            source: source.into(),
        };
        let tls = CertsDir::new(&config.certs_dir).coordinator_server()?;
        let tcp = TcpListener::bind(config.listen).await.map_err(fail)?;
        let address = tcp.local_addr().map_err(fail)?;
        let unix = config.socket.as_deref().map(bind_unix).transpose()?;
        Ok((Self { tcp, tls, unix }, address))
    }
}

fn bind_unix(path: &Path) -> Result<UnixListener, CoordinatorError> {
    let fail = |action: &'static str| {
        let path: PathBuf = path.to_owned();
        move |source| CoordinatorError::File { action, path, source }
    };
    // What a process that was killed left behind. We hold the state folder's lock, so nobody serves on it.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail("removing the old socket")(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(fail("listening on the socket"))?;
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, private).map_err(fail("closing the socket to others"))?;
    Ok(listener)
}

/// Serves until `stop`, then lets calls under way end.
pub(crate) async fn serve(
    config: &Config,
    standing: watch::Receiver<Arc<Standing>>,
    listeners: Listeners,
    stop: CancellationToken,
) -> Result<(), CoordinatorError> {
    let service = Gate::new(standing, CertsDir::new(&config.certs_dir), Turnstile::new(config.limits));
    let limit = GlobalConcurrencyLimitLayer::new(MAX_CALLS);
    let failed = |action: &str, error: tonic::transport::Error| CoordinatorError::Serve {
        action: action.to_owned(),
        source: error.into(),
    };
    let builder = || {
        let server = Server::builder().timeout(CALL_DEADLINE).http2_keepalive_interval(Some(KEEPALIVE));
        server.layer(limit.clone()).layer(InterceptorLayer::new(admit))
    };
    let mut secure = builder().tls_config(listeners.tls).map_err(|e| failed("preparing TLS", e))?;
    let incoming = TcpIncoming::from(listeners.tcp).with_nodelay(Some(true));
    let over_tls =
        secure.add_service(service.clone()).serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let over_unix = async {
        let Some(unix) = listeners.unix else { return Ok(()) };
        let incoming = UnixListenerStream::new(unix);
        builder().add_service(service).serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await
    };
    tokio::try_join!(async { over_tls.await.map_err(|e| failed("serving over TLS", e)) }, async {
        over_unix.await.map_err(|e| failed("serving on the socket", e))
    },)
    .map(|_| ())
}
