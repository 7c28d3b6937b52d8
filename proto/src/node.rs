//! Orders that a coordinator gives a node, and what a node reports back: the valid forms of the messages of
//! `agent.proto`.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, num::NonZeroU32, time::Duration};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    backup::Origin,
    cpu::Cpu,
    identity::Identities,
    ids::{AccessRevision, ContainerId, FleetId, Generation, Term},
    keys::KeySet,
    names::{NodeName, Username},
    policy::GuardReport,
    sizes::Bytes,
    snapshots::SnapshotName,
    spec::{Capacity, Desired, Fingerprint, Image, Observed, Spec},
};

/// Which fleet and which reign is speaking (I9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// The one fleet that a node belongs to.
    pub fleet: FleetId,
    /// Grows with every new leader.
    pub term: Term,
}

/// What one container must become on the node that is told. Under one generation, always the same (I4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Which container.
    pub id: ContainerId,
    /// Instance name.
    pub name: String,
    /// Login name inside it.
    pub owner: Username,
    /// Version of this order.
    pub generation: Generation,
    /// What to bring about.
    pub desired: Desired,
    /// Limits, image, autostart.
    pub spec: Spec,
    /// Inside the node's container network.
    pub address: Ipv4Addr,
    /// All keys that may log in.
    pub keys: KeySet,
    /// It arrives from another node: how many passes of the copy there must have been. It stays stopped meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_pass: Option<CopyPass>,
    /// The backup that its data must come from; none: its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Who else may log in; all of them, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guests: Vec<Guest>,
}

/// Somebody who may log in beside the owner, as themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Login name.
    pub user: Username,
    /// May become root inside.
    pub sudo: bool,
    /// All keys that may log in.
    pub keys: KeySet,
}

/// Which pass of a copy between nodes, from 1. All but the last are made while the container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CopyPass(pub NonZeroU32);

impl CopyPass {
    /// The one that copies everything.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for CopyPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a copy between nodes is for. Each kind has snapshots of its own, so one does not disturb the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CopyKind {
    /// The container moves: the copy takes its place.
    Move,
    /// A second copy, refreshed again and again.
    Replica,
}

impl CopyKind {
    /// As the wire says it.
    #[must_use]
    pub fn of_replica(replica: bool) -> Self {
        if replica { Self::Replica } else { Self::Move }
    }

    /// Of the snapshots that its passes make; the number of the pass follows.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Move => "containarium-move-",
            Self::Replica => "containarium-replica-",
        }
    }
}

/// How a node lets another one copy a container, once.
#[derive(Clone, PartialEq, Eq)]
pub struct CopyOffer {
    /// "https://HOST:PORT/1.0/operations/UUID"
    pub operation: String,
    /// Of the operation's connections: whoever has them gets the user's data.
    pub secrets: BTreeMap<String, String>,
    /// PEM; the only certificate that the offering server may show.
    pub certificate: String,
}

/// Without the secrets.
impl fmt::Debug for CopyOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyOffer").field("operation", &self.operation).finish_non_exhaustive()
    }
}

/// Beside a refusal of an older term: the latest that the node has seen.
pub const SEEN_TERM: &str = "containarium-seen-term";

/// What a node says of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerReport {
    /// Which container.
    pub id: ContainerId,
    /// Instance name.
    pub name: String,
    /// Newest generation that the agent accepted.
    pub generation: Generation,
    /// How far that generation has come.
    pub observed: Observed,
    /// In what it differs from what was ordered, changed behind our back. Of Running and Stopped only.
    pub drift: Vec<String>,
    /// Unix milliseconds since which it has not been used; none: it is in use, or not known.
    pub idle_since: Option<i64>,
    /// Whose it is, and where it is reached; none: an agent that does not say.
    pub claim: Option<(Username, Ipv4Addr)>,
}

/// What an order may do beyond its content, until it has been carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Licence {
    /// Take over the one instance that this is; it must carry no stamp (I6).
    Adopt {
        /// Its name before; it is renamed if that is not the order's.
        instance: String,
        /// Incus' own id of it.
        uuid: String,
    },
    /// Undo what was changed behind our back, additions included.
    Repair,
    /// Bring its disk back to a snapshot; everything else is as ordered.
    Restore {
        /// Which.
        snapshot: SnapshotName,
        /// The generation under which that was asked for. An instance whose stamp is this one, or newer, was brought back:
        /// what its user has done since must stay.
        since: Generation,
    },
}

/// An instance on a node that carries no stamp of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Instance name.
    pub name: String,
    /// Incus' own id of it.
    pub uuid: String,
    /// Has a process.
    pub running: bool,
    /// Its CPU limit, if it has one that we could give.
    pub cpu: Option<Cpu>,
    /// Its memory limit, likewise.
    pub memory: Option<Bytes>,
    /// Size of its root disk, likewise.
    pub disk: Option<Bytes>,
    /// What its root disk holds.
    pub disk_used: Option<Bytes>,
    /// Its fixed address, else the one it has at the moment.
    pub address: Option<Ipv4Addr>,
    /// The image it was made from.
    pub image: Option<Fingerprint>,
    /// Starts with the node.
    pub autostart: bool,
    /// Why it cannot be adopted as it stands.
    pub obstacles: Vec<String>,
}

/// What one container uses at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Page cache included, as the kernel charges it; 0 when stopped.
    pub memory: Bytes,
    /// Of its root disk; none: the storage cannot tell.
    pub disk: Option<Bytes>,
    /// CPU time of all its processes since it was started; none: the kernel did not say.
    pub cpu: Option<Duration>,
}

/// The use of one container, with when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageSample {
    /// What it used.
    pub usage: Usage,
    /// On the node's own clock since it booted: restarts of the agent and changes of the date leave it alone.
    pub at: Duration,
}

/// How a node lets another one fetch a golden image.
#[derive(Clone, PartialEq, Eq)]
pub struct ImageOffer {
    /// "https://HOST:PORT"
    pub server: String,
    /// Of this one image, for some minutes.
    pub secret: String,
    /// PEM; the only certificate that the offering server may show.
    pub certificate: String,
}

/// Without the secret.
impl fmt::Debug for ImageOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageOffer").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Everything a node says of itself. Missing from `containers` means nothing (I5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// Its own name.
    pub node: NodeName,
    /// Version of the agent.
    pub agent_version: String,
    /// New at every start of the machine.
    pub boot_id: String,
    /// New at every start of the agent.
    pub incarnation: String,
    /// Grows with every change, within one incarnation.
    pub revision: u64,
    /// Instances with this fleet's stamp, and confirmed deletions.
    pub containers: Vec<ContainerReport>,
    /// Size and use of the machine.
    pub capacity: Capacity,
    /// Where its containers live.
    pub container_cidr: Ipv4Net,
    /// The node's own address in it.
    pub container_gateway: Ipv4Addr,
    /// Golden images ready to be cloned.
    pub images: Vec<Image>,
    /// Access revision applied in full.
    pub access_revision: AccessRevision,
    /// Login names that are not ours.
    pub foreign_users: Vec<String>,
    /// Problems for an operator.
    pub warnings: Vec<String>,
    /// How it is guarded.
    pub guard: GuardReport,
    /// Who is who to ssh; none: an agent that knows no certificates.
    pub identities: Option<Identities>,
    /// Its machine is about to be taken away.
    pub preempting: bool,
    /// Where it keeps backups, without any secret; empty: nowhere.
    pub backup_store: String,
    /// Which parts of an order it understands.
    pub level: u32,
}

/// A proxy-only account that a node must have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// Login name on the node.
    pub username: Username,
    /// Lines of its `authorized_keys`, without options.
    pub ssh_keys: Vec<String>,
    /// The address of its own container, whose port 22 it may reach; none: it has none.
    pub permit: Option<Ipv4Addr>,
    /// What others share with it. Beside these two it may reach nothing.
    pub shared: Vec<Permit>,
}

/// A container that somebody shares: port 22 of it may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Permit {
    /// Instance name.
    pub container: String,
    /// Where it is now.
    pub address: Ipv4Addr,
}
