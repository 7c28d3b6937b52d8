//! The way into a coordinator: to its own service while it leads, else to the leader's, as the call stands. A call that
//! finds no leader waits for one; a look then gets what the database knows, with nothing known of the nodes. A call goes
//! from one coordinator to another once, never on. Nothing here reads or changes what is asked.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use containarium_proto::{
    error::{Reason, Refusal},
    pki::CertsDir,
    v1::fleet_server::FleetServer,
};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use tokio::sync::watch;
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service},
    server::NamedService,
    transport::{self, Channel, Endpoint},
};

use super::{
    caller::{Caller, FORWARDED},
    limits::Turnstile,
    relay,
    service::FleetService,
};

/// A caller is not told "not yet" while a leader is being found: a lease's time, and a little.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// The leader that a call was forwarded to is a moment old, or one that has died and come back: then the row will soon name
/// another, and whoever forwarded it waits for that.
const ELECTED: Duration = Duration::from_millis(500);
/// A look is worth little if it comes late.
const READ_PATIENCE: Duration = Duration::from_secs(1);
/// Between tries at a leader that cannot be dialled.
const DIAL_AGAIN: Duration = Duration::from_millis(200);
const CONNECT: Duration = Duration::from_secs(2);
/// Finds a leader's machine that lost its power.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// As tonic's own limit; keys of one user are far below it.
const MAX_REQUEST_BYTES: usize = 4 << 20;
const READS: [&str; 12] = [
    "ListContainers",
    "GetContainer",
    "ListNodes",
    "GetNode",
    "ListImages",
    "ListEvents",
    "GetFleet",
    "ListBackups",
    "ListAudit",
    "ListSshAuthorities",
    "WatchContainers",
    "WatchEvents",
];

/// Gigabytes, that are not kept here.
const PIECES: [&str; 1] = ["ImportImage"];

fn method(path: &str) -> Option<&str> {
    path.rsplit('/').next()
}

/// What this coordinator is at the moment.
pub(crate) enum Standing {
    /// Neither yet.
    Starting,
    Leading(FleetServer<FleetService>),
    Following {
        /// host:port; empty when nobody leads.
        leader: String,
        onlooker: FleetServer<FleetService>,
    },
}

/// Tells the gate.
pub(crate) type Told = watch::Sender<Arc<Standing>>;

#[derive(Clone)]
pub(super) struct Gate {
    standing: watch::Receiver<Arc<Standing>>,
    certs: CertsDir,
    turnstile: Turnstile,
    /// To the leader that was dialled last.
    line: Arc<Mutex<Option<(String, Channel)>>>,
}

impl NamedService for Gate {
    const NAME: &'static str = <FleetServer<FleetService> as NamedService>::NAME;
}

impl Service<Request<Body>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let gate = self.clone();
        Box::pin(
            async move { Ok(gate.admit(request).await.unwrap_or_else(|refusal| Status::from(refusal).into_http())) },
        )
    }
}

impl Gate {
    pub(super) fn new(standing: watch::Receiver<Arc<Standing>>, certs: CertsDir, turnstile: Turnstile) -> Self {
        Self { standing, certs, turnstile, line: Arc::default() }
    }

    /// A call holds its place until the last byte of its answer: streams are what costs.
    async fn admit(self, request: Request<Body>) -> Result<Response<Body>, Refusal> {
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
        let place = self.turnstile.enter(&caller)?;
        let response = self.pass(request, &caller).await?;
        Ok(response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _held = &place;
                frame
            }))
        }))
    }

    async fn pass(mut self, request: Request<Body>, caller: &Caller) -> Result<Response<Body>, Refusal> {
        if let Standing::Leading(service) = &*self.now() {
            return served(service, request).await;
        }
        let reads = method(request.uri().path()).is_some_and(|method| READS.contains(&method));
        let patience = match reads {
            _ if caller.was_forwarded() => ELECTED,
            true => READ_PATIENCE,
            false => WRITE_PATIENCE,
        };
        let until = Instant::now() + patience;
        let mut request = Whole::of(request).await?;
        loop {
            let standing = self.now();
            let again_at = match &*standing {
                Standing::Leading(service) => return served(service, request.again(None)).await,
                Standing::Following { leader, .. } if !leader.is_empty() && !caller.was_forwarded() => {
                    match self.dial(leader).await {
                        Ok(line) => match self.forward(line, request.again(Some(caller))).await {
                            Ok(answer) if relay::is_not_leading(&answer) && request.is_whole() => {
                                Instant::now() + DIAL_AGAIN
                            }
                            Ok(answer) => return Ok(relay::to_its_end(answer)),
                            // A look may be asked for twice.
                            Err(error) if reads || relay::never_connected(&error) && request.is_whole() => {
                                Instant::now() + DIAL_AGAIN
                            }
                            Err(error) => return Err(relay::lost(&error)),
                        },
                        Err(error) => {
                            tracing::info!(leader, error, "the leader is not there");
                            Instant::now() + DIAL_AGAIN
                        }
                    }
                }
                Standing::Following { .. } | Standing::Starting => until,
            };
            if Instant::now() >= until {
                return match &*standing {
                    _ if caller.was_forwarded() => Ok(relay::not_leading(nobody_leads())),
                    Standing::Following { onlooker, .. } if reads => served(onlooker, request.again(None)).await,
                    Standing::Following { .. } | Standing::Starting | Standing::Leading(_) => Err(nobody_leads()),
                };
            }
            tokio::select! {
                _ = self.standing.changed() => {}
                () = tokio::time::sleep_until(again_at.min(until).into()) => {}
            }
        }
    }

    fn now(&mut self) -> Arc<Standing> {
        self.standing.borrow_and_update().clone()
    }

    /// A line that stands: when this fails, nothing was asked for.
    async fn dial(&self, leader: &str) -> Result<Channel, Box<dyn std::error::Error + Send + Sync>> {
        let known = self.line.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, line)) = known.filter(|(address, _)| address == leader) {
            return Ok(line);
        }
        let endpoint = Endpoint::from_shared(format!("https://{leader}"))?
            .tls_config(self.certs.coordinator_to_coordinator()?)?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .tcp_nodelay(true);
        let line = tokio::time::timeout(CONNECT, endpoint.connect()).await??;
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Some((leader.to_owned(), line.clone()));
        Ok(line)
    }

    async fn forward(&self, mut line: Channel, request: Request<Body>) -> Result<Response<Body>, transport::Error> {
        let asked = async {
            std::future::poll_fn(|context| line.poll_ready(context)).await?;
            line.call(request).await
        };
        asked.await.inspect_err(|_| *self.line.lock().unwrap_or_else(PoisonError::into_inner) = None)
    }
}

async fn served(service: &FleetServer<FleetService>, request: Request<Body>) -> Result<Response<Body>, Refusal> {
    match service.clone().call(request).await {
        Ok(response) => Ok(response),
        Err(never) => match never {},
    }
}

fn nobody_leads() -> Refusal {
    Refusal::new(Reason::NotReady, "no coordinator leads the fleet at this moment: nothing was changed").hint(
        "repeat the command in a moment; if it fails again, look at the database, etcd and the coordinators' logs",
    )
}

/// A request that can be made again, but for one that is sent piece by piece.
struct Whole {
    parts: http::request::Parts,
    body: Content,
}

enum Content {
    Message(Full<tonic::codegen::Bytes>),
    /// None: on its way.
    Pieces(Option<Body>),
}

impl Whole {
    async fn of(request: Request<Body>) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        if method(parts.uri.path()).is_some_and(|method| PIECES.contains(&method)) {
            return Ok(Self { parts, body: Content::Pieces(Some(body)) });
        }
        let body = Limited::new(body, MAX_REQUEST_BYTES).collect().await;
        let broken = |_| Refusal::new(Reason::InvalidArgument, "the request is broken, or longer than 4 MB");
        Ok(Self { parts, body: Content::Message(Full::new(body.map_err(broken)?.to_bytes())) })
    }

    /// Whether it can be made again.
    fn is_whole(&self) -> bool {
        matches!(self.body, Content::Message(_))
    }

    /// For us, or for another coordinator with a word on who asked.
    fn again(&mut self, forwarded_for: Option<&Caller>) -> Request<Body> {
        let mut request = Request::new(match &mut self.body {
            Content::Message(message) => Body::new(message.clone()),
            // Only looks are made again, and those are messages.
            Content::Pieces(pieces) => pieces.take().unwrap_or_default(),
        });
        *request.method_mut() = self.parts.method.clone();
        *request.version_mut() = self.parts.version;
        *request.headers_mut() = self.parts.headers.clone();
        *request.uri_mut() = self.parts.uri.clone();
        match forwarded_for {
            None => *request.extensions_mut() = self.parts.extensions.clone(),
            Some(caller) => {
                if let Ok(word) = HeaderValue::from_str(caller.as_str()) {
                    request.headers_mut().insert(FORWARDED, word);
                }
            }
        }
        request
    }
}
