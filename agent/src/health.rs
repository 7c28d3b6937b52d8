//! The port that a load balancer asks: whether new sessions should come this way. It must never tell more than that and
//! why, nor keep more than a few connections: who can reach it need not be a friend.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{error::AgentError, ledger::Ledger, standing::Standing};

/// At once; more wait in the kernel's queue. A balancer has a handful of probers.
const MAX_CONNECTIONS: usize = 256;
/// From the connection to the end of the answer, which is made of what is known already.
const ANSWER: Duration = Duration::from_secs(2);
/// After a connection could not be accepted, as when the process has too many files open.
const AGAIN: Duration = Duration::from_millis(500);

pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, AgentError> {
    TcpListener::bind(address).await.map_err(|source| AgentError::Listen { address, source })
}

/// Serves until dropped.
pub(crate) async fn serve(listener: TcpListener, standing: Arc<Standing>, ledger: Arc<Ledger>) -> AgentError {
    let router = Router::new().route("/healthz", get(healthz)).with_state((standing, ledger));
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return AgentError::TaskEnded("health") };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                connections.spawn(async move {
                    answer(stream, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a prober could not be accepted");
                sleep(AGAIN).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// One question and its answer.
async fn answer(stream: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    match timeout(ANSWER, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "a prober went away"),
        Err(_) => tracing::debug!("a prober took too long"),
    }
}

async fn healthz(State((standing, ledger)): State<(Arc<Standing>, Arc<Ledger>)>) -> (StatusCode, String) {
    let mut ailments = standing.ailments();
    if ledger.is_preempting() {
        ailments.insert("the machine is about to be taken away");
    }
    if ailments.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let lines: String = ailments.iter().map(|ailment| format!("{ailment}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_says_nothing_is_cut_off_and_keeps_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let standing = Arc::new(Standing::load(dir.path()).unwrap());
        let ledger = Arc::new(Ledger::new("jump-1".parse().unwrap(), "boot".to_owned()));
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, standing, ledger));
        let began = Instant::now();
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS + 5 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut prober = TcpStream::connect(address).await.unwrap();
        prober.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        prober.read_to_string(&mut answer).await.unwrap();
        // Nothing was ever told, and no sshd answers.
        assert!(answer.starts_with("HTTP/1.0 503"), "{answer}");
        let mut nothing = String::new();
        silent[0].read_to_string(&mut nothing).await.unwrap();
        assert!(nothing.is_empty() && began.elapsed() < 4 * ANSWER, "{:?}", began.elapsed());
        server.abort();
    }
}
