//! Why an agent could not start or had to end.

use std::{net::SocketAddr, path::PathBuf};

use containarium_proto::pki::PkiError;

/// Ends the process.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Certificates.
    #[error("using the certificates of this node")]
    Pki(#[source] PkiError),
    /// The port.
    #[error("listening on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// TLS or the server itself.
    #[error("serving")]
    Serve(#[source] tonic::transport::Error),
    /// A file that must be read or written.
    #[error("{action} {}", path.display())]
    File {
        /// "reading", "writing"
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// `fleet.json` was edited or damaged.
    #[error("{} is damaged: restore it, or remove it and the agent takes the fleet from its instances", path.display())]
    Membership {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// `restores.json` was edited or damaged.
    #[error("{} is damaged: restore it; if it is removed, an unfinished restore is begun anew by the coordinator", path.display())]
    Journal {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The host cannot be used at all.
    #[error("using this host: {0}")]
    Host(String),
    /// A task that must not end has ended.
    #[error("the {0} task ended, which it never may: this is a defect")]
    TaskEnded(&'static str),
}
