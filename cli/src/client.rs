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
    errors::{self, Failure},
};

/// Three round trips over a bad line.
const CONNECT: Duration = Duration::from_secs(5);
/// Reads touch one database: a second is long.
const READ: Duration = Duration::from_secs(15);
/// The coordinator ends its own streams before this.
const STREAM: Duration = Duration::from_secs(20 * 60);
const DEFAULT_SOCKET: &str = "/run/containarium/coordinator.sock";

pub(crate) struct Client {
    pub(crate) server: String,
    timeout: Option<Duration>,
    fleet: FleetClient<Channel>,
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
        let channel = match server.strip_prefix("unix://") {
            Some(path) => over_socket(PathBuf::from(path))?,
            None if !server.starts_with("https://") => {
                return Err(Failure::usage(format!(
                    "--server '{server}' is neither https://HOST:PORT nor unix:///PATH"
                )));
            }
            None => over_tls(&server, &certs_dir(global)?)?,
        };
        Ok(Self { server, timeout: global.timeout, fleet: FleetClient::new(channel) })
    }

    /// A channel for one call, and a request with its deadline.
    fn call<T>(&self, message: T, limit: Duration) -> (FleetClient<Channel>, Request<T>) {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout.unwrap_or(limit));
        (self.fleet.clone(), request)
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
        let once = || async {
            let (fleet, request) = self.call(message.clone(), READ);
            call(fleet, request).await
        };
        let patient = ExponentialBuilder::default().with_min_delay(Duration::from_millis(100)).with_max_times(3);
        let passing = |status: &Status| {
            status.code() == Code::Unavailable && errors::from_status("", status).code() == errors::UNREACHABLE
        };
        let answer = once.retry(patient).when(passing).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
    }

    /// A call that streams; not repeated here.
    pub(crate) async fn stream<M, T, F>(
        &self,
        message: M,
        call: impl FnOnce(FleetClient<Channel>, Request<M>) -> F,
    ) -> Result<tonic::Streaming<T>, Status>
    where
        F: Future<Output = Result<tonic::Response<tonic::Streaming<T>>, Status>>,
    {
        self.stream_within(message, STREAM, call).await
    }

    /// The same for what may take longer.
    pub(crate) async fn stream_within<M, T, F>(
        &self,
        message: M,
        limit: Duration,
        call: impl FnOnce(FleetClient<Channel>, Request<M>) -> F,
    ) -> Result<tonic::Streaming<T>, Status>
    where
        F: Future<Output = Result<tonic::Response<tonic::Streaming<T>>, Status>>,
    {
        let (fleet, request) = self.call(message, limit);
        call(fleet, request).await.map(tonic::Response::into_inner)
    }
}

fn over_tls(server: &str, certs: &CertsDir) -> Result<Channel, Failure> {
    let wrong =
        |error: tonic::transport::Error| Failure::usage(format!("--server '{server}': {}", errors::chain(&error)));
    let endpoint = Endpoint::from_shared(server.to_owned()).map_err(wrong)?.connect_timeout(CONNECT).tcp_nodelay(true);
    let endpoint =
        endpoint.http2_keep_alive_interval(Duration::from_secs(20)).keep_alive_timeout(Duration::from_secs(10));
    let endpoint = endpoint.tls_config(certs.client_to_coordinator()?);
    Ok(endpoint.map_err(|error| errors::from_transport(server, &error))?.connect_lazy())
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
