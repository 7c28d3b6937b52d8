//! What a container must be on its node, and what is seen of it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{cpu::Cpu, sizes::Bytes};

/// SHA-256 of a golden image, 64 lower-case hex digits: what Incus calls its fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(String);

/// Not an image fingerprint.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an image fingerprint of 64 hex digits")]
pub struct FingerprintError(String);

impl FromStr for Fingerprint {
    type Err = FingerprintError;
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let good = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if good { Ok(Self(text.to_owned())) } else { Err(FingerprintError(text.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = FingerprintError;
    fn try_from(text: String) -> Result<Self, FingerprintError> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A golden image as one node has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Image {
    /// The name people use; may move to another fingerprint.
    pub alias: String,
    /// What it is.
    pub fingerprint: Fingerprint,
}

/// What must be true of a container on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// CPU limit.
    pub cpu: Cpu,
    /// Memory limit.
    pub memory: Bytes,
    /// Quota of the root disk.
    pub disk: Bytes,
    /// The image it was, or will be, cloned from.
    pub image: Fingerprint,
    /// Start with the node.
    pub autostart: bool,
    /// Restarts asked for since the create: an instance stamped with less is restarted once.
    pub restarts: u64,
    /// Its node starts it only after a coordinator has said that it still lives there: a replica may have taken its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fenced: bool,
}

/// What the coordinator wants of a placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    /// Exists, started, ssh answers.
    Running,
    /// Exists, not started.
    Stopped,
    /// Destroyed with its data: the only order that destroys anything (I5).
    Absent,
}

/// One step of many, for people to watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// From 1.
    pub index: u32,
    /// Steps in all.
    pub total: u32,
    /// "cloning the image"
    pub title: String,
}

/// What was last seen of a placement on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Observed {
    /// Nothing has been heard for this generation.
    Unknown,
    /// The node has confirmed that nothing is left of it.
    Absent,
    /// Work is under way.
    Converging {
        /// Where it is.
        step: Step,
    },
    /// The user exists in it and its sshd answers.
    Running,
    /// Not started.
    Stopped,
    /// Arriving from another node: the pass of the copy that is ordered needs an offer.
    AwaitingCopy,
    /// Fenced, and no coordinator has said yet that it still lives here: it is not started.
    AwaitingWord,
    /// The last attempt failed.
    Failed {
        /// Why, for people.
        error: String,
        /// Trying again would fail in the same way.
        permanent: bool,
    },
}

/// What a node has in all, and what is used of it as the node itself sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capacity {
    /// Logical CPUs.
    pub cpus: u32,
    /// Physical memory.
    pub memory: Bytes,
    /// Of it, in use.
    pub memory_used: Bytes,
    /// Size of the storage pool.
    pub disk: Bytes,
    /// Of it, in use.
    pub disk_used: Bytes,
}
