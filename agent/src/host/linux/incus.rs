//! Incus' REST API over its unix socket: requests, operations, errors. It must never know what an instance means to us.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use reqwest::{Client, Method, RequestBuilder, StatusCode, header::ETAG};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::host::HostError;

/// A daemon that is up answers a read in milliseconds; one that is busy importing on a slow disk, in seconds.
const CALL: Duration = Duration::from_secs(20);
/// One round of waiting for an operation. Incus answers earlier when it is done.
const WAIT_ROUND: Duration = Duration::from_secs(30);
/// The same when somebody watches.
pub(super) const PROGRESS_ROUND: Duration = Duration::from_secs(2);

/// A call that Incus refused or that did not reach it.
#[derive(Debug)]
pub(super) struct Failure {
    /// HTTP status; none if the daemon was not reached, or the operation failed: those all fail with the same code.
    pub(super) code: Option<u16>,
    /// In Incus' words, with what was asked.
    pub(super) text: String,
}

impl Failure {
    pub(super) fn is(&self, status: StatusCode) -> bool {
        self.code == Some(status.as_u16())
    }
}

impl From<Failure> for HostError {
    fn from(failure: Failure) -> Self {
        // A request that Incus calls malformed will be malformed again; everything else may pass.
        let permanent = failure.is(StatusCode::BAD_REQUEST) || failure.is(StatusCode::FORBIDDEN);
        Self { message: failure.text, permanent }
    }
}

#[derive(Debug, Deserialize)]
struct Envelope {
    #[serde(default)]
    operation: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    metadata: Value,
    /// Of what was read: a change that shows it is refused when somebody else changed the thing meanwhile.
    #[serde(skip)]
    etag: Option<String>,
}

/// A finished or running operation.
#[derive(Debug, Deserialize)]
pub(super) struct Operation {
    pub(super) id: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) resources: Option<BTreeMap<String, Vec<String>>>,
    status_code: u16,
    #[serde(default)]
    err: String,
    #[serde(default)]
    pub(super) metadata: Value,
}

/// 103 of Incus' own status codes: still at it.
const RUNNING: u16 = 103;
const SUCCESS: u16 = 200;

#[derive(Debug, Clone)]
pub(super) struct Incus {
    http: Client,
    socket: PathBuf,
}

impl Incus {
    pub(super) fn new(socket: PathBuf) -> Result<Self, HostError> {
        crate::backup::use_ring();
        let http = Client::builder()
            .unix_socket(socket.clone())
            // Nothing here is encrypted: the machine's certificates need not be read.
            .tls_certs_only([])
            // incusd reads the first bytes of a connection before it accepts the next one. A pool opens connections
            // ahead of need and keeps them: one that is silent stops incusd for everybody until it is closed. Opening
            // a unix socket per request costs nothing that can be measured here.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| HostError::permanent(format!("an http client for {}: {error}", socket.display())))?;
        Ok(Self { http, socket })
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://incus/1.0{path}")).timeout(CALL)
    }

    async fn send(&self, what: &str, request: RequestBuilder) -> Result<Envelope, Failure> {
        let lost = |error: reqwest::Error| {
            let mut text = format!("{what}: incus at {} did not answer", self.socket.display());
            let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            Failure { code: None, text }
        };
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(ToOwned::to_owned);
        let bytes = response.bytes().await.map_err(lost)?;
        let mut envelope: Envelope = serde_json::from_slice(&bytes).map_err(|error| Failure {
            code: Some(status.as_u16()),
            text: format!("{what}: incus answered {status} with something else than JSON: {error}"),
        })?;
        envelope.etag = etag;
        if status.is_success() {
            return Ok(envelope);
        }
        Err(Failure { code: Some(status.as_u16()), text: format!("{what}: {}", envelope.error) })
    }

    /// A read.
    pub(super) async fn get<T: DeserializeOwned>(&self, what: &str, path: &str) -> Result<T, Failure> {
        let envelope = self.send(what, self.request(Method::GET, path)).await?;
        serde_json::from_value(envelope.metadata)
            .map_err(|error| Failure { code: None, text: format!("{what}: an answer of another form: {error}") })
    }

    /// A read of something that is to be changed, with what proves that it has not changed since.
    pub(super) async fn get_to_change<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
    ) -> Result<(T, String), Failure> {
        let envelope = self.send(what, self.request(Method::GET, path)).await?;
        let etag = envelope.etag.unwrap_or_default();
        serde_json::from_value(envelope.metadata)
            .map(|value| (value, etag))
            .map_err(|error| Failure { code: None, text: format!("{what}: an answer of another form: {error}") })
    }

    /// A read of raw text, such as a recorded output.
    pub(super) async fn get_text(&self, path: &str) -> Option<String> {
        self.request(Method::GET, path).send().await.ok()?.text().await.ok()
    }

    /// A read of raw bytes that may be many: the answer, its body still to come.
    pub(super) async fn raw(&self, what: &str, request: RequestBuilder) -> Result<reqwest::Response, Failure> {
        let lost = |error: reqwest::Error| Failure { code: None, text: format!("{what}: {error}") };
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        Err(Failure { code: Some(status.as_u16()), text: format!("{what}: incus answered {status}") })
    }

    /// A file inside an instance; `None`: it is not there.
    pub(super) async fn read_file(&self, what: &str, instance: &str, path: &str) -> Result<Option<String>, Failure> {
        let lost = |error: reqwest::Error| Failure { code: None, text: format!("{what}: {error}") };
        let request = self.request(Method::GET, &format!("/instances/{instance}/files")).query(&[("path", path)]);
        let response = request.send().await.map_err(lost)?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => response.text().await.map(Some).map_err(lost),
            status => Err(Failure { code: Some(status.as_u16()), text: format!("{what}: incus answered {status}") }),
        }
    }

    /// A change that is done when it is answered.
    pub(super) async fn change(&self, what: &str, method: Method, path: &str, body: &Value) -> Result<(), Failure> {
        self.send(what, self.request(method, path).json(body)).await.map(drop)
    }

    /// A change that Incus carries out in the background: waits for its end.
    pub(super) async fn operate(
        &self,
        what: &str,
        request: RequestBuilder,
        limit: Duration,
    ) -> Result<Option<Operation>, Failure> {
        let envelope = self.send(what, request).await?;
        if envelope.operation.is_empty() {
            return Ok(None);
        }
        let path = envelope.operation.trim_start_matches("/1.0").to_owned();
        match tokio::time::timeout(limit, self.wait(what, &path, WAIT_ROUND, |_| ())).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure { code: None, text: format!("{what}: not finished after {limit:?}") }),
        }
    }

    /// The same for what may take hours: tells now and then how far it is, in the operation's own metadata.
    pub(super) async fn operate_long(
        &self,
        what: &str,
        request: RequestBuilder,
        progress: impl Fn(&Value) + Send + Sync,
    ) -> Result<Option<Operation>, Failure> {
        let (path, _) = self.begin(what, request).await?;
        self.wait(what, &path, PROGRESS_ROUND, progress).await
    }

    /// Begins an operation and leaves it to itself: its path and its metadata.
    pub(super) async fn begin(&self, what: &str, request: RequestBuilder) -> Result<(String, Value), Failure> {
        let mut envelope = self.send(what, request).await?;
        let path = envelope.operation.trim_start_matches("/1.0").to_owned();
        Ok((path, envelope.metadata["metadata"].take()))
    }

    /// `None`: Incus has forgotten it, as it does 5 s after the end: the caller must look for itself.
    pub(super) async fn wait(
        &self,
        what: &str,
        path: &str,
        round: Duration,
        progress: impl Fn(&Value) + Send + Sync,
    ) -> Result<Option<Operation>, Failure> {
        let url = format!("{path}/wait?timeout={}", round.as_secs());
        loop {
            // The header of the answer comes at once, the body at the end: the whole takes as long as the round.
            let request = self.request(Method::GET, &url).timeout(round + CALL);
            let envelope = match self.send(what, request).await {
                Ok(envelope) => envelope,
                Err(failure) if failure.is(StatusCode::NOT_FOUND) => return Ok(None),
                Err(failure) => return Err(failure),
            };
            let operation = match parsed(what, envelope.metadata)? {
                Some(operation) => operation,
                // The round is over, or the operation went in the middle of it.
                None => match self.get::<Option<Operation>>(what, path).await {
                    Ok(Some(operation)) => operation,
                    Ok(None) => return Ok(None),
                    Err(failure) if failure.is(StatusCode::NOT_FOUND) => return Ok(None),
                    Err(failure) => return Err(failure),
                },
            };
            match operation.status_code {
                SUCCESS => return Ok(Some(operation)),
                code if code / 100 == RUNNING / 100 => progress(&operation.metadata),
                _ => return Err(Failure { code: None, text: format!("{what}: {}", operation.err) }),
            }
        }
    }
}

fn parsed(what: &str, metadata: Value) -> Result<Option<Operation>, Failure> {
    serde_json::from_value(metadata)
        .map_err(|error| Failure { code: None, text: format!("{what}: an operation of another form: {error}") })
}
