//! The way to the coordinator: which one, over what, with which certificates, for how long.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};
use containarium_proto::{pki::CertsDir, v1::fleet_client::FleetClient};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint, Uri},
};

use crate::{
    args::Global,
    endpoints::{Endpoints, Way},
    errors::{self, Failure},
};

/// Three round trips over a bad line.
const CONNECT: Duration = Duration::from_secs(5);
/// The next one may be nearer.
const CONNECT_ONE_OF_MANY: Duration = Duration::from_secs(2);
/// Reads touch one database: a second is long.
const READ: Duration = Duration::from_secs(15);
/// The coordinator ends its own streams before this.
const STREAM: Duration = Duration::from_secs(20 * 60);
const DEFAULT_SOCKET: &str = "/run/containarium/coordinator.sock";

pub(crate) struct Client {
    /// All of them, for people.
    pub(crate) server: String,
    timeout: Option<Duration>,
    endpoints: Endpoints,
}

impl Client {
    /// Prepares the way; the first call dials.
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        let server = match &global.server {
            Some(server) => server.clone(),
            None if Path::new(DEFAULT_SOCKET).exists() => format!("unix://{DEFAULT_SOCKET}"),
            None => {
                return Err(Failure::usage(
                    "which coordinator? give --server https://HOST:PORT or set CONTAINARIUM_SERVER",
                ));
            }
        };
        let servers: Vec<&str> = server.split(',').map(str::trim).collect();
        let connect = if servers.len() == 1 { CONNECT } else { CONNECT_ONE_OF_MANY };
        let ways = servers.iter().map(|server| dial(global, server, connect)).collect::<Result<_, _>>()?;
        Ok(Self { server, timeout: global.timeout, endpoints: Endpoints::new(ways) })
    }

    fn request<T>(&self, message: T, limit: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout.unwrap_or(limit));
        request
    }

    pub(crate) fn failure(&self, status: &Status) -> Failure {
        errors::from_status(&self.server, status)
    }

    /// A read, repeated a few times if nobody was there to answer.
    pub(crate) async fn read<M, R, F>(
        &self,
        message: M,
        call: impl Fn(FleetClient<Channel>, Request<M>) -> F,
    ) -> Result<R, Failure>
    where
        M: Clone,
        F: Future<Output = Result<tonic::Response<R>, Status>>,
    {
        let once = || self.endpoints.ask(|fleet| call(fleet, self.request(message.clone(), READ)));
        let patient = ExponentialBuilder::default().with_min_delay(Duration::from_millis(100)).with_max_times(3);
        let passing = |status: &Status| {
            status.code() == Code::Unavailable && errors::from_status("", status).code() == errors::UNREACHABLE
        };
        let answer = once.retry(patient).when(passing).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
    }

    /// A call that streams; not repeated here once a coordinator has taken it.
    pub(crate) async fn stream<M, T, F>(
        &self,
        message: M,
        call: impl Fn(FleetClient<Channel>, Request<M>) -> F,
    ) -> Result<tonic::Streaming<T>, Status>
    where
        M: Clone,
        F: Future<Output = Result<tonic::Response<tonic::Streaming<T>>, Status>>,
    {
        let answer = self.endpoints.ask(|fleet| call(fleet, self.request(message.clone(), STREAM))).await;
        answer.map(tonic::Response::into_inner)
    }

    /// What is sent piece by piece, and so to one coordinator and once. May take longer.
    pub(crate) async fn stream_within<M, T, F>(
        &self,
        message: M,
        limit: Duration,
        call: impl FnOnce(FleetClient<Channel>, Request<M>) -> F,
    ) -> Result<tonic::Streaming<T>, Status>
    where
        F: Future<Output = Result<tonic::Response<tonic::Streaming<T>>, Status>>,
    {
        let request = self.request(message, limit);
        self.endpoints.once(|fleet| call(fleet, request)).await.map(tonic::Response::into_inner)
    }
}

/// Prepares the way to one coordinator.
fn dial(global: &Global, server: &str, connect: Duration) -> Result<Way, Failure> {
    match server.strip_prefix("unix://") {
        Some(path) => over_socket(PathBuf::from(path)).map(Way::over),
        None if !server.starts_with("https://") => {
            Err(Failure::usage(format!("--server '{server}' is neither https://HOST:PORT nor unix:///PATH")))
        }
        None => over_tls(server, &certs_dir(global)?, connect),
    }
}

fn over_tls(server: &str, certs: &CertsDir, connect: Duration) -> Result<Way, Failure> {
    let wrong =
        |error: tonic::transport::Error| Failure::usage(format!("--server '{server}': {}", errors::chain(&error)));
    let endpoint = Endpoint::from_shared(server.to_owned()).map_err(wrong)?.connect_timeout(connect).tcp_nodelay(true);
    let endpoint =
        endpoint.http2_keep_alive_interval(Duration::from_secs(20)).keep_alive_timeout(Duration::from_secs(10));
    let endpoint = endpoint.tls_config(certs.client_to_coordinator()?);
    Ok(Way::new(endpoint.map_err(|error| errors::from_transport(server, &error))?, connect))
}

fn over_socket(path: PathBuf) -> Result<Channel, Failure> {
    // The name is never looked up: the connector below opens the socket whatever it says.
    let endpoint = Endpoint::try_from("http://coordinator.socket")
        .map_err(|error| errors::from_transport("the socket", &error))?
        .connect_timeout(CONNECT);
    let connect = move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    };
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(connect)))
}

/// The first of: what was said, the user's own, the machine's.
fn certs_dir(global: &Global) -> Result<CertsDir, Failure> {
    if let Some(dir) = &global.certs_dir {
        return Ok(CertsDir::new(dir));
    }
    let own = std::env::home_dir().map(|home| home.join(".config/containarium/certs"));
    let candidates = own.into_iter().chain([PathBuf::from("/etc/containarium/certs")]);
    let found = candidates.into_iter().find(|dir| dir.join("client.crt").exists()).map(CertsDir::new);
    found.ok_or_else(|| {
        Failure::new(
            errors::CERTIFICATE,
            "no client certificate in ~/.config/containarium/certs or /etc/containarium/certs",
        )
        .hint("--certs-dir or CONTAINARIUM_CERTS_DIR names the folder with ca.crt, client.crt and client.key")
    })
}
