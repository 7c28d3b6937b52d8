//! The edge, for host identities, one function each way.

use super::{ConvertError, bad, parse};
use crate::{
    identity::{CertificateFacts, Host, HostIdentity, Identities},
    v1,
};

/// Reads everybody on a node.
///
/// # Errors
/// A key or an id that is none.
pub fn identities_from_wire(wire: &v1::Identities) -> Result<Identities, ConvertError> {
    wire.node.iter().chain(&wire.containers).map(identity_from_wire).collect()
}

fn identity_from_wire(wire: &v1::HostIdentity) -> Result<(Host, Result<HostIdentity, String>), ConvertError> {
    let host = host_from_wire(&wire.container_id)?;
    if !wire.problem.is_empty() {
        return Ok((host, Err(wire.problem.clone())));
    }
    let certificate = wire.certificate.as_ref().map(|facts| CertificateFacts {
        authority: facts.authority.clone(),
        principals: facts.principals.iter().cloned().collect(),
        valid_after: facts.valid_after_unix_seconds,
        valid_before: facts.valid_before_unix_seconds,
    });
    Ok((host, Ok(HostIdentity { key: parse("identity.public_key", &wire.public_key)?, certificate })))
}

/// Writes everybody on a node.
#[must_use]
pub fn identities_to_wire(identities: &Identities) -> v1::Identities {
    let mut wire = v1::Identities::default();
    for (host, identity) in identities {
        let identity = identity_to_wire(*host, identity);
        match host {
            Host::Node => wire.node = Some(identity),
            Host::Container(_) => wire.containers.push(identity),
        }
    }
    wire
}

fn identity_to_wire(host: Host, identity: &Result<HostIdentity, String>) -> v1::HostIdentity {
    let container_id = host_to_wire(host);
    match identity {
        Err(problem) => v1::HostIdentity { container_id, problem: problem.clone(), ..Default::default() },
        Ok(HostIdentity { key, certificate }) => {
            let certificate = certificate.as_ref().map(|facts| v1::HostCertificate {
                authority: facts.authority.clone(),
                principals: facts.principals.iter().cloned().collect(),
                valid_after_unix_seconds: facts.valid_after,
                valid_before_unix_seconds: facts.valid_before,
            });
            v1::HostIdentity { container_id, public_key: key.to_string(), certificate, problem: String::new() }
        }
    }
}

/// Reads whose identity it is.
///
/// # Errors
/// Not an id.
pub fn host_from_wire(container_id: &str) -> Result<Host, ConvertError> {
    if container_id.is_empty() {
        return Ok(Host::Node);
    }
    container_id.parse().map(Host::Container).map_err(|error| bad("container_id", error))
}

/// Writes whose identity it is.
#[must_use]
pub fn host_to_wire(host: Host) -> String {
    match host {
        Host::Node => String::new(),
        Host::Container(id) => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        identity::{CertificateFacts, HostKey},
        ids::ContainerId,
    };

    use super::*;

    #[test]
    fn everybody_survives_the_wire() {
        let facts = CertificateFacts {
            authority: "SHA256:abc".into(),
            principals: ["jump-1".to_owned(), "10.0.0.11".to_owned()].into(),
            valid_after: 1,
            valid_before: 2,
        };
        let of = |certificate| Ok(HostIdentity { key: HostKey::simulated(), certificate });
        let all: Identities = [
            (Host::Node, of(Some(facts))),
            (Host::Container(ContainerId::generate()), of(None)),
            (Host::Container(ContainerId::generate()), Err("it has no sshd".to_owned())),
        ]
        .into();
        assert_eq!(identities_from_wire(&identities_to_wire(&all)).unwrap(), all);
        let wrong = v1::HostIdentity { public_key: "ssh-rsa AAAA".into(), ..Default::default() };
        assert!(identities_from_wire(&v1::Identities { node: Some(wrong), containers: vec![] }).is_err());
    }
}
