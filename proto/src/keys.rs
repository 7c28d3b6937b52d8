//! SSH public keys of a user: what is accepted, and nothing about where they are installed.

use std::{collections::HashSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, PublicKey};

/// More than any person has; bounds what one request can make us write on every node.
const MAX_KEYS: usize = 64;
/// 64 RSA-16384 lines with long comments; a file above this is not a key file.
const MAX_FILE_BYTES: usize = 256 * 1024;
/// NIST SP 800-131A forbids less.
const MIN_RSA_BITS: usize = 2048;

/// Why a key file was refused. Lines are counted from 1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key in it.
    #[error("no ssh public key given: pass a file such as ~/.ssh/id_ed25519.pub")]
    None,
    /// A private key was given.
    #[error("this is a private key: give the public one, whose name ends in .pub, and keep this one to yourself")]
    Private,
    /// Too much.
    #[error("{0}")]
    TooMuch(String),
    /// CR, NUL or another control character.
    #[error("line {line}: holds a control character: save the file with plain unix line ends")]
    Control {
        /// Where.
        line: usize,
    },
    /// Not "type base64 comment", or options in front.
    #[error("line {line}: not an ssh public key 'type base64 comment'; options in front of the key are not accepted")]
    Form {
        /// Where.
        line: usize,
    },
    /// A kind of key that is not accepted.
    #[error("line {line}: {algorithm} keys are not accepted: use ed25519, ecdsa, or rsa with at least 2048 bits")]
    Algorithm {
        /// Where.
        line: usize,
        /// What it is, with its size for rsa.
        algorithm: String,
    },
}

/// One accepted public key: ed25519, ecdsa, their hardware-backed (`sk-`) forms, or RSA of at least 2048 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(PublicKey);

impl Key {
    /// `SHA256:...`, as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// `ssh-ed25519`, the first word of its line.
    #[must_use]
    pub fn algorithm(&self) -> String {
        self.0.algorithm().to_string()
    }

    /// What its owner wrote behind it; may be empty.
    #[must_use]
    pub fn comment(&self) -> String {
        self.0.comment().to_string()
    }

    fn parse(text: &str, line: usize) -> Result<Self, KeyError> {
        let key = PublicKey::from_openssh(text).map_err(|_| KeyError::Form { line })?;
        let refuse = |algorithm: String| Err(KeyError::Algorithm { line, algorithm });
        match key.algorithm() {
            Algorithm::Ed25519 | Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => Ok(Self(key)),
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 | EcdsaCurve::NistP384 | EcdsaCurve::NistP521 } => {
                Ok(Self(key))
            }
            Algorithm::Rsa { .. } => match rsa_bits(&key) {
                bits if bits >= MIN_RSA_BITS => Ok(Self(key)),
                bits => refuse(format!("rsa {bits} bit")),
            },
            other => refuse(other.to_string()),
        }
    }
}

fn rsa_bits(key: &PublicKey) -> usize {
    let modulus = key.key_data().rsa().and_then(|rsa| rsa.n.as_positive_bytes()).unwrap_or_default();
    let leading = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    modulus.len() * 8 - leading
}

impl fmt::Display for Key {
    /// One line of `authorized_keys`, without options and line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Encoding a parsed key cannot fail; fmt::Error is the only error we may give here.
        f.write_str(&self.0.to_openssh().map_err(|_| fmt::Error)?)
    }
}

/// All keys of one user: no two with the same fingerprint, in the order given. None at all only when an operator took
/// the last one away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// From key lines, one key each.
    ///
    /// # Errors
    /// The first line that is refused; or no key at all.
    pub fn from_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyError> {
        let keys = Self::from_recorded(lines)?;
        if keys.0.is_empty() { Err(KeyError::None) } else { Ok(keys) }
    }

    /// The same of what was accepted before: may be empty.
    ///
    /// # Errors
    /// The first line that is refused.
    pub fn from_recorded<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyError> {
        let mut seen = HashSet::new();
        let mut keys = Vec::new();
        for (index, text) in lines.into_iter().enumerate() {
            let line = index + 1;
            if text.chars().any(|c| c.is_control() && c != '\t') {
                return Err(KeyError::Control { line });
            }
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            if text.starts_with("-----BEGIN") {
                return Err(KeyError::Private);
            }
            let key = Key::parse(text, line)?;
            if seen.insert(key.fingerprint()) {
                keys.push(key);
            }
            if keys.len() > MAX_KEYS {
                return Err(KeyError::TooMuch(format!("more than {MAX_KEYS} keys")));
            }
        }
        Ok(Self(keys))
    }

    /// These and `others`.
    ///
    /// # Errors
    /// More than one person may have.
    pub fn with(&self, others: &Self) -> Result<Self, KeyError> {
        let lines: Vec<String> = self.iter().chain(others.iter()).map(ToString::to_string).collect();
        Self::from_recorded(lines.iter().map(String::as_str))
    }

    /// Without the keys of these fingerprints.
    ///
    /// # Errors
    /// The first fingerprint that none of them has.
    pub fn without<'a>(&self, fingerprints: &'a [String]) -> Result<Self, &'a str> {
        let present: HashSet<String> = self.iter().map(Key::fingerprint).collect();
        if let Some(unknown) = fingerprints.iter().find(|fingerprint| !present.contains(*fingerprint)) {
            return Err(unknown);
        }
        Ok(Self(self.iter().filter(|key| !fingerprints.contains(&key.fingerprint())).cloned().collect()))
    }

    /// Nobody can log in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// As lines of `authorized_keys`.
    #[must_use]
    pub fn to_lines(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl FromStr for KeySet {
    type Err = KeyError;
    /// A key file: one key a line, empty lines and `#` comments ignored.
    fn from_str(file: &str) -> Result<Self, KeyError> {
        if file.len() > MAX_FILE_BYTES {
            return Err(KeyError::TooMuch(format!("a key file of {} bytes: at most {MAX_FILE_BYTES}", file.len())));
        }
        // Not `str::lines`, which would quietly accept CR LF.
        Self::from_lines(file.split('\n'))
    }
}

impl TryFrom<Vec<String>> for KeySet {
    type Error = KeyError;
    fn try_from(lines: Vec<String>) -> Result<Self, KeyError> {
        Self::from_recorded(lines.iter().map(String::as_str))
    }
}

impl From<KeySet> for Vec<String> {
    fn from(keys: KeySet) -> Self {
        keys.to_lines()
    }
}

#[cfg(test)]
mod tests;
