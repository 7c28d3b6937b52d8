//! The port that a load balancer asks: whether new sessions should come this way. It must never tell more than that and
//! why: who can reach it need not be a friend.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::net::TcpListener;

use crate::{error::AgentError, ledger::Ledger, standing::Standing};

pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, AgentError> {
    TcpListener::bind(address).await.map_err(|source| AgentError::Listen { address, source })
}

/// Serves until dropped.
pub(crate) async fn serve(listener: TcpListener, standing: Arc<Standing>, ledger: Arc<Ledger>) -> AgentError {
    let router = Router::new().route("/healthz", get(healthz)).with_state((standing, ledger));
    match axum::serve(listener, router).await {
        Ok(()) => AgentError::TaskEnded("health"),
        Err(source) => AgentError::Health(source),
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
