//! Who calls: a certificate, root on this machine, or whom another coordinator names. Only a coordinator's own word on
//! that is believed.

use std::sync::Arc;

use containarium_proto::pki::{Role, require_role, role_of};
use sha2::{Digest, Sha256};
use tonic::{Request, Status};

/// Set by a coordinator that passes a call on: who made it.
pub(super) const FORWARDED: &str = "containarium-caller";

/// A name for one caller, good for counting.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Caller {
    name: Arc<str>,
    forwarded: bool,
}

impl Default for Caller {
    fn default() -> Self {
        Self { name: "root".into(), forwarded: false }
    }
}

impl Caller {
    #[cfg(test)]
    pub(super) fn named(name: &str) -> Self {
        Self { name: name.into(), forwarded: false }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.name
    }

    /// It has been passed on once: not again.
    pub(super) fn was_forwarded(&self) -> bool {
        self.forwarded
    }
}

/// Lets clients in, and coordinators that pass a client's call on. To be used as an interceptor on every service.
pub(super) fn admit(mut request: Request<()>) -> Result<Request<()>, Status> {
    let certs = request.peer_certs();
    let leaf = certs.as_deref().and_then(|certs| certs.first());
    let named = request.metadata().get(FORWARDED).and_then(|name| name.to_str().ok()).map(Arc::from);
    let caller = match (named, leaf) {
        (Some(name), Some(leaf)) if role_of(leaf) == Some(Role::Coordinator) => Caller { name, forwarded: true },
        (_, Some(leaf)) => Caller { name: fingerprint(leaf).into(), forwarded: false },
        (_, None) => Caller::default(),
    };
    if !caller.forwarded {
        request = require_role(Role::Client, request)?;
    }
    request.extensions_mut().insert(caller);
    Ok(request)
}

fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}
