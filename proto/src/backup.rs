//! Backups of containers: how one is named, what is written beside its data, and what a container says of the backup that
//! its data came from. Never where backups are kept: that is the agents' own.

use std::{fmt, str::FromStr};

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{ContainerId, FleetId, RequestId},
    keys::KeySet,
    labels::Labels,
    names::Username,
    sizes::Bytes,
    spec::Spec,
};

/// The one form of manifest there is; a later one gets the next number.
pub const MANIFEST_FORMAT: u32 = 1;
const SHAPE: &str = "%Y%m%d-%H%M%S";

/// One backup of one user: when it was ordered, UTC, as `20261124-145205`. Later ones sort after earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId(String);

/// Not the name of a backup.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a backup such as 20261124-145205")]
pub struct BackupIdError(String);

impl BackupId {
    /// The first id that is not taken, from a time on.
    #[must_use]
    pub fn from_time(unix_millis: i64, is_taken: impl Fn(&Self) -> bool) -> Self {
        let at = |second: i64| DateTime::<Utc>::from_timestamp(second, 0).unwrap_or_default().format(SHAPE).to_string();
        let mut second = unix_millis.div_euclid(1000);
        while is_taken(&Self(at(second))) {
            second += 1;
        }
        Self(at(second))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BackupId {
    type Err = BackupIdError;
    fn from_str(text: &str) -> Result<Self, BackupIdError> {
        let digits =
            text.bytes().enumerate().all(|(at, byte)| if at == 8 { byte == b'-' } else { byte.is_ascii_digit() });
        let good = text.len() == 15 && digits && NaiveDateTime::parse_from_str(text, SHAPE).is_ok();
        let shown = || text.chars().take(40).flat_map(char::escape_default).collect();
        if good { Ok(Self(text.to_owned())) } else { Err(BackupIdError(shown())) }
    }
}

impl TryFrom<String> for BackupId {
    type Error = BackupIdError;
    fn try_from(text: String) -> Result<Self, BackupIdError> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 of a backup's data, 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum(String);

/// Not a checksum.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a checksum of 64 hex digits")]
pub struct ChecksumError;

impl Checksum {
    /// Of 32 bytes.
    #[must_use]
    pub fn of(digest: &[u8]) -> Self {
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl FromStr for Checksum {
    type Err = ChecksumError;
    fn from_str(text: &str) -> Result<Self, ChecksumError> {
        let good = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if good { Ok(Self(text.to_owned())) } else { Err(ChecksumError) }
    }
}

impl TryFrom<String> for Checksum {
    type Error = ChecksumError;
    fn try_from(text: String) -> Result<Self, ChecksumError> {
        text.parse()
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.0
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose backup, and which: where it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackupKey {
    /// Whose container it was made of.
    pub owner: Username,
    /// Which of theirs.
    pub id: BackupId,
}

impl fmt::Display for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.id)
    }
}

/// What a backup is of: enough to make the container anew when nothing else is left of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFacts {
    /// [`MANIFEST_FORMAT`].
    pub format: u32,
    /// Which backup.
    pub id: BackupId,
    /// Whose.
    pub owner: Username,
    /// The container it was made of.
    pub container: ContainerId,
    /// The fleet that it lived in.
    pub fleet: FleetId,
    /// Its limits at that time.
    pub spec: Spec,
    /// Name of the image it was made from.
    pub image_alias: String,
    /// What its node had to carry.
    pub labels: Labels,
    /// Who could log in. Public keys: nobody is let in by them.
    pub keys: KeySet,
    /// Unix milliseconds of the order.
    pub created_at: i64,
}

impl BackupFacts {
    /// Where it lies.
    #[must_use]
    pub fn key(&self) -> BackupKey {
        BackupKey { owner: self.owner.clone(), id: self.id.clone() }
    }
}

/// Size and checksum of a backup's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupData {
    /// Compressed, as it lies in the store.
    pub size: Bytes,
    /// Of the same bytes.
    pub sha256: Checksum,
}

/// What lies beside a backup's data, and is written after it: a backup without one does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What it is of.
    #[serde(flatten)]
    pub facts: BackupFacts,
    /// What its data is.
    #[serde(flatten)]
    pub data: BackupData,
}

/// The backup that a container's data came from. An instance that was made from another one, or from none, is to be
/// replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The command that asked for it: the same backup restored twice is restored twice.
    pub restore: RequestId,
    /// Which of the owner's backups.
    pub backup: BackupId,
    /// What its data must be.
    #[serde(flatten)]
    pub data: BackupData,
}

/// How far an agent is with a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupWork {
    /// At it.
    Running(crate::spec::Step),
    /// All of it is in the store, or was read and is whole.
    Done(BackupData),
    /// Not done; nothing of it is listed.
    Failed {
        /// Why, for people.
        error: String,
        /// Trying again would fail in the same way.
        permanent: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_second_and_the_next_when_that_is_taken() {
        let first = BackupId::from_time(1_795_531_925_999, |_| false);
        assert_eq!(first.as_str(), "20261124-145205");
        let second = BackupId::from_time(1_795_531_925_000, |id| *id == first);
        assert_eq!(second.as_str(), "20261124-145206");
        assert!(first < second);
        assert_eq!("20261124-145205".parse(), Ok(first));
        for bad in
            ["", "newest", "20261124145205", "20261324-145205", "20261124-245205", "../../../etc/pw", "20261124-14520é"]
        {
            assert!(bad.parse::<BackupId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_manifest_is_read_back_as_written() {
        let manifest = Manifest {
            facts: BackupFacts {
                format: MANIFEST_FORMAT,
                id: "20261124-145205".parse().unwrap(),
                owner: "alice".parse().unwrap(),
                container: ContainerId::generate(),
                fleet: FleetId::generate(),
                spec: Spec {
                    cpu: "2".parse().unwrap(),
                    memory: Bytes(2 << 30),
                    disk: Bytes(20_000_000_000),
                    image: "5".repeat(64).parse().unwrap(),
                    autostart: true,
                    restarts: 0,
                    fenced: false,
                },
                image_alias: "containarium".into(),
                labels: Labels::default(),
                keys: KeySet::from_recorded([]).unwrap(),
                created_at: 5,
            },
            data: BackupData { size: Bytes(7), sha256: Checksum::of(&[0xab; 32]) },
        };
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
        assert!(serde_json::from_str::<Manifest>(&text.replace("abab", "ABAB")).is_err(), "another checksum");
    }
}
