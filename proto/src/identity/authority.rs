//! The key that signs host certificates. Its private half leaves this type only as text for the database; it has no
//! `Debug`, so that no log can hold it.

use std::{collections::BTreeSet, fmt, str::FromStr};

use ssh_key::{
    Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey,
    certificate::{Builder, CertType},
    private::{Ed25519Keypair, KeypairData},
    rand_core::OsRng,
};

use super::{HostCertificate, HostKey, IdentityError};

/// A fresh key: 32 bytes of the system's random numbers.
pub(super) fn random_key() -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::random(&mut OsRng))
}

/// From when until when a certificate is good, in unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First second.
    pub after: u64,
    /// The second at which it is no longer.
    pub before: u64,
}

/// A certificate authority for host keys.
pub struct Authority(PrivateKey);

impl Authority {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        Self(random_key())
    }

    /// As [`Self::to_text`] gave it.
    ///
    /// # Errors
    /// Something else; not shown.
    pub fn from_text(text: &str) -> Result<Self, IdentityError> {
        let key = PrivateKey::from_openssh(text).map_err(|_| IdentityError::Authority)?;
        match key.key_data() {
            KeypairData::Ed25519(_) => Ok(Self(key)),
            _ => Err(IdentityError::Authority),
        }
    }

    /// The whole of it, in OpenSSH's form, to be kept. Wiped from memory when dropped.
    ///
    /// # Errors
    /// The library refused.
    pub fn to_text(&self) -> Result<impl std::ops::Deref<Target = String> + use<>, IdentityError> {
        self.0.to_openssh(LineEnding::LF).map_err(|_| IdentityError::Authority)
    }

    /// What everybody may know.
    #[must_use]
    pub fn public(&self) -> AuthorityKey {
        AuthorityKey(PublicKey::new(self.0.public_key().key_data().clone(), ""))
    }

    /// Certifies that a host key is of these names. For none it would be of all, and is refused.
    ///
    /// # Errors
    /// No name, a window that ends before it begins, or the library refused.
    pub fn sign(
        &self,
        key: &HostKey,
        principals: &BTreeSet<String>,
        window: Window,
    ) -> Result<HostCertificate, IdentityError> {
        let first = principals.first().cloned().unwrap_or_default();
        if first.is_empty() {
            return Err(IdentityError::Sign { principal: first });
        }
        let sign = || -> ssh_key::Result<_> {
            let subject = key.0.key_data().clone();
            let mut builder = Builder::new_with_random_nonce(&mut OsRng, subject, window.after, window.before)?;
            builder.cert_type(CertType::Host)?.key_id(&first)?;
            for principal in principals {
                builder.valid_principal(principal)?;
            }
            builder.sign(&self.0)
        };
        sign().map(HostCertificate).map_err(|_| IdentityError::Sign { principal: first.clone() })
    }
}

/// The public half of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityKey(PublicKey);

impl AuthorityKey {
    /// `SHA256:...`
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }
}

impl FromStr for AuthorityKey {
    type Err = IdentityError;
    fn from_str(line: &str) -> Result<Self, IdentityError> {
        let key = PublicKey::from_openssh(line.trim()).ok().filter(|key| key.algorithm() == Algorithm::Ed25519);
        let key = key.ok_or(IdentityError::Authority)?;
        Ok(Self(PublicKey::new(key.key_data().clone(), "")))
    }
}

impl fmt::Display for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_openssh().map_err(|_| fmt::Error)?)
    }
}
