//! Who may talk to whom: certificates with a role in a URI name, made by `rcgen`, checked by `rustls` and here.
//!
//! ```text
//! client.crt  ── Fleet ──►  server.crt  ── Agent ──►  agent-<node>.crt
//! (the CLI)                 (coordinator)             (one per jump server; its DNS name is the node's name)
//! ```
//! Every certificate is signed by the fleet's own CA. rustls checks signature, dates and server name; [`require_role`]
//! checks that the caller is of the kind this port serves.

mod generate;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tonic::{
    Request, Status,
    transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig, server::UdsConnectInfo},
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

pub use generate::{GenerateOptions, Generated, generate};

use crate::{
    error::{Reason, Refusal},
    names::NodeName,
};

const ROLE_PREFIX: &str = "spiffe://containarium/";
/// Who connects and then says nothing is let go of, certificate or not. A busy machine takes seconds for an honest one.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a certificate lets its holder be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Serves the CLI, commands the agents.
    Coordinator,
    /// An operator's CLI.
    Client,
    /// A node.
    Agent,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Client => "client",
            Self::Agent => "agent",
        }
    }

    fn uri(self) -> String {
        format!("{ROLE_PREFIX}{}", self.word())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why certificates could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file.
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
    /// Not what it should be.
    #[error("{} is not a certificate or key that can be used: {problem}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Too old, or made by a clock ahead of ours.
    #[error("{} is valid only from {from} to {until}: make new ones with 'containarium cert generate'", path.display())]
    Expired {
        /// Which.
        path: PathBuf,
        /// Start.
        from: String,
        /// End.
        until: String,
    },
    /// A signature could not be made.
    #[error("making the certificate for {what}")]
    Make {
        /// Whose.
        what: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

/// A folder as `containarium cert generate` writes it. Each machine holds only `ca.crt` and its own pair.
#[derive(Debug, Clone)]
pub struct CertsDir(PathBuf);

impl CertsDir {
    /// Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn pair(&self, stem: &str) -> (PathBuf, PathBuf) {
        (self.0.join(format!("{stem}.crt")), self.0.join(format!("{stem}.key")))
    }

    fn identity(&self, stem: &str) -> Result<Identity, PkiError> {
        let (cert, key) = self.pair(stem);
        let pem = read(&cert)?;
        check_dates(&cert, &pem)?;
        Ok(Identity::from_pem(pem, read(&key)?))
    }

    fn ca(&self) -> Result<Certificate, PkiError> {
        let path = self.0.join("ca.crt");
        let pem = read(&path)?;
        check_dates(&path, &pem)?;
        Ok(Certificate::from_pem(pem))
    }

    fn serve_as(&self, stem: &str) -> Result<ServerTlsConfig, PkiError> {
        let tls = ServerTlsConfig::new().identity(self.identity(stem)?).client_ca_root(self.ca()?);
        Ok(tls.timeout(HANDSHAKE))
    }

    /// TLS of the coordinator's own port.
    ///
    /// # Errors
    /// A file that is missing, unreadable or out of date.
    pub fn coordinator_server(&self) -> Result<ServerTlsConfig, PkiError> {
        self.serve_as("server")
    }

    /// TLS of an agent's port.
    ///
    /// # Errors
    /// A file that is missing, unreadable or out of date.
    pub fn agent_server(&self, node: &NodeName) -> Result<ServerTlsConfig, PkiError> {
        self.serve_as(&agent_stem(node))
    }

    /// TLS from the coordinator to one agent, which must prove to be that node.
    ///
    /// # Errors
    /// A file that is missing, unreadable or out of date.
    pub fn coordinator_to_agent(&self, node: &NodeName) -> Result<ClientTlsConfig, PkiError> {
        let tls = ClientTlsConfig::new().identity(self.identity("server")?).ca_certificate(self.ca()?);
        Ok(tls.domain_name(node.as_str()))
    }

    /// TLS from one coordinator to another, by the address it is dialled at.
    ///
    /// # Errors
    /// A file that is missing, unreadable or out of date.
    pub fn coordinator_to_coordinator(&self) -> Result<ClientTlsConfig, PkiError> {
        Ok(ClientTlsConfig::new().identity(self.identity("server")?).ca_certificate(self.ca()?))
    }

    /// TLS to an etcd whose CA and client pair are in this folder.
    ///
    /// # Errors
    /// A file that is missing, unreadable or out of date.
    pub fn client_to_etcd(&self) -> Result<ClientTlsConfig, PkiError> {
        self.client_to_coordinator()
    }

    /// TLS from the CLI to the coordinator, by the address it is dialled at.
    ///
    /// # Errors
    /// A file that is missing, unreadable or out of date.
    pub fn client_to_coordinator(&self) -> Result<ClientTlsConfig, PkiError> {
        Ok(ClientTlsConfig::new().identity(self.identity("client")?).ca_certificate(self.ca()?))
    }
}

pub(crate) fn agent_stem(node: &NodeName) -> String {
    format!("agent-{node}")
}

fn read(path: &Path) -> Result<Vec<u8>, PkiError> {
    fs::read(path).map_err(|source| PkiError::File { action: "reading", path: path.to_owned(), source })
}

fn check_dates(path: &Path, pem: &[u8]) -> Result<(), PkiError> {
    let content = |problem: String| PkiError::Content { path: path.to_owned(), problem };
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|e| content(e.to_string()))?;
    let cert = pem.parse_x509().map_err(|e| content(e.to_string()))?;
    let validity = cert.validity();
    if validity.is_valid() {
        return Ok(());
    }
    let (from, until) = (validity.not_before.to_string(), validity.not_after.to_string());
    Err(PkiError::Expired { path: path.to_owned(), from, until })
}

/// The role in a certificate, if it has exactly one of ours.
#[must_use]
pub fn role_of(der: &[u8]) -> Option<Role> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let names = cert.subject_alternative_name().ok()??;
    let mut roles = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => [Role::Coordinator, Role::Client, Role::Agent].into_iter().find(|r| r.uri() == *uri),
        _ => None,
    });
    roles.next().filter(|_| roles.next().is_none())
}

/// Lets a call through if its caller's certificate has `role`, or if it came over a unix socket from root.
/// To be used as a tonic interceptor on every service.
///
/// # Errors
/// `PERMISSION_DENIED` with what was expected and what came.
pub fn require_role<T>(role: Role, request: Request<T>) -> Result<Request<T>, Status> {
    let refuse = |message: String| Err(Refusal::new(Reason::WrongRole, message).into());
    if let Some(peer) = request.extensions().get::<UdsConnectInfo>() {
        return match peer.peer_cred.map(|cred| cred.uid()) {
            Some(0) => Ok(request),
            _ => refuse("only root may use the coordinator's socket".into()),
        };
    }
    let certs = request.peer_certs();
    match certs.as_deref().and_then(|certs| certs.first()).and_then(|cert| role_of(cert)) {
        Some(found) if found == role => Ok(request),
        Some(found) => refuse(format!("this port serves the role '{role}'; your certificate has the role '{found}'")),
        None => refuse(format!("this port serves the role '{role}'; your certificate has no role")),
    }
}

#[cfg(test)]
mod tests;
