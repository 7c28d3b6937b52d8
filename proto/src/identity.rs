//! Who an sshd proves to be: host keys, the certificates that the fleet's authority gives for them, and the names in
//! those. A host is known by its certificate, never by its key, so a new key of an old name surprises nobody.
//!
//! ```text
//! authority ── signs ──► certificate of a host key ── shown by sshd ──► ssh, which trusts the authority for
//! (coordinator)          for these names                                *.<fleet id>.containarium
//! ```
//! It must never hold a host's private key.

mod authority;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use ssh_key::{Algorithm, Certificate, HashAlg, PublicKey, certificate::CertType};

pub use authority::{Authority, AuthorityKey, Window};

use crate::ids::{ContainerId, FleetId};

/// What a host key or certificate was not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Of another form or kind.
    #[error("not an ed25519 host {what}")]
    Form {
        /// "key" or "certificate"
        what: &'static str,
    },
    /// The authority's own key, as it was stored.
    #[error("the authority's key cannot be read")]
    Authority,
    /// The library refused.
    #[error("signing for '{principal}' failed")]
    Sign {
        /// The first name that it was for.
        principal: String,
    },
}

/// The public half of a host key: ed25519, which every sshd of this century has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey(PublicKey);

impl HostKey {
    /// `SHA256:...`, as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// A key whose private half nobody has: for hosts that only remember.
    ///
    /// # Panics
    /// The system has no random numbers.
    #[must_use]
    pub fn simulated() -> Self {
        let key = authority::random_key().public_key().key_data().clone();
        Self(PublicKey::new(key, ""))
    }
}

impl FromStr for HostKey {
    type Err = IdentityError;
    fn from_str(line: &str) -> Result<Self, IdentityError> {
        let key = PublicKey::from_openssh(line.trim()).ok().filter(|key| key.algorithm() == Algorithm::Ed25519);
        // The comment is of no use, and whoever writes it is nobody we trust.
        let key = key.ok_or(IdentityError::Form { what: "key" })?;
        Ok(Self(PublicKey::new(key.key_data().clone(), "")))
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Encoding a parsed key cannot fail; fmt::Error is the only error we may give here.
        f.write_str(&self.0.to_openssh().map_err(|_| fmt::Error)?)
    }
}

/// A host certificate with a signature that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCertificate(Certificate);

impl HostCertificate {
    /// Whether it is of this key.
    #[must_use]
    pub fn is_of(&self, key: &HostKey) -> bool {
        self.0.public_key() == key.0.key_data()
    }

    /// What matters of it.
    #[must_use]
    pub fn facts(&self) -> CertificateFacts {
        CertificateFacts {
            authority: self.0.signature_key().fingerprint(HashAlg::Sha256).to_string(),
            principals: self.0.valid_principals().iter().cloned().collect(),
            valid_after: self.0.valid_after(),
            valid_before: self.0.valid_before(),
        }
    }
}

impl FromStr for HostCertificate {
    type Err = IdentityError;
    fn from_str(line: &str) -> Result<Self, IdentityError> {
        let good = |certificate: &Certificate| {
            let ed25519 = certificate.public_key().algorithm() == Algorithm::Ed25519;
            ed25519 && certificate.cert_type() == CertType::Host && certificate.verify_signature().is_ok()
        };
        let certificate = Certificate::from_openssh(line.trim()).ok().filter(good);
        certificate.map(Self).ok_or(IdentityError::Form { what: "certificate" })
    }
}

impl fmt::Display for HostCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_openssh().map_err(|_| fmt::Error)?)
    }
}

/// What matters of a certificate. Times are unix seconds, by the clock of whoever signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Fingerprint of the key that signed it.
    pub authority: String,
    /// The names it is good for; never none, which would be all.
    pub principals: BTreeSet<String>,
    /// From this second.
    pub valid_after: u64,
    /// Until this second.
    pub valid_before: u64,
}

/// Whose identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// The jump server's own sshd.
    Node,
    /// The one in a container.
    Container(ContainerId),
}

/// What an sshd shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostIdentity {
    /// Its key.
    pub key: HostKey,
    /// Its certificate, if it has one that is ours to write.
    pub certificate: Option<CertificateFacts>,
}

/// Everybody on a node; those that cannot have a certificate with why, for people.
pub type Identities = BTreeMap<Host, Result<HostIdentity, String>>;

/// Under this name ssh looks for a jump server's identity: one for all of them, as any may take the connection.
#[must_use]
pub fn jump_alias(fleet: FleetId) -> String {
    format!("jump.{fleet}.containarium")
}

/// Under this name ssh looks for a container's identity, wherever it is.
#[must_use]
pub fn container_alias(fleet: FleetId, container: &str) -> String {
    format!("{container}.{fleet}.containarium")
}

/// A line of `known_hosts`: the authority is believed for this fleet's aliases, and for nothing else.
#[must_use]
pub fn known_hosts_line(fleet: FleetId, authority: &AuthorityKey) -> String {
    format!("@cert-authority *.{fleet}.containarium {authority} {}", known_hosts_mark(fleet))
}

/// How such a line ends.
#[must_use]
pub fn known_hosts_mark(fleet: FleetId) -> String {
    format!("containarium-fleet-{fleet}")
}

#[cfg(test)]
mod tests;
