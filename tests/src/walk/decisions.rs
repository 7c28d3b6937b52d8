//! What is done and what goes wrong, step by step, from a seed alone. It must never look at the fleet: then the same
//! seed would not decide the same.

use containarium_proto::v1::PowerAction;
use rand::{
    Rng, SeedableRng,
    seq::{IndexedRandom, IteratorRandom},
};
use rand_chacha::ChaCha8Rng;

use super::{Coordinators, Walk};
use crate::{
    fleet::{KEY, ha::By},
    matrix::{FAULTS, Fault},
};

/// Few enough that things happen to the same ones again and again.
const USERS: u32 = 6;
/// Names of snapshots; as few.
pub(super) const SNAPSHOTS: [&str; 2] = ["one", "two"];
pub(super) const OTHER_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPsgqJhcX8Ui+7ZCtnqBF7JhDZ1FE6w2fIV6rJjWTlD other";

/// Something that somebody does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Deed {
    Create {
        user: String,
    },
    Resize {
        user: String,
        memory_bytes: u64,
    },
    Power {
        user: String,
        action: PowerAction,
    },
    /// 1: one key, 2: the other, 3: both.
    Keys {
        user: String,
        set: u8,
    },
    Protect {
        user: String,
        protected: bool,
    },
    Autostart {
        user: String,
        autostart: bool,
    },
    Delete {
        user: String,
    },
    Move {
        user: String,
    },
    CancelMove {
        user: String,
    },
    Repair {
        user: String,
    },
    Snapshot {
        user: String,
        name: &'static str,
    },
    DeleteSnapshot {
        user: String,
        name: &'static str,
    },
    RestoreSnapshot {
        user: String,
        name: &'static str,
    },
    Share {
        user: String,
        with: String,
        sudo: bool,
    },
    Unshare {
        user: String,
        with: String,
    },
    Replicate {
        user: String,
        on: bool,
    },
    Failover {
        user: String,
    },
    DiscardOldCopy {
        user: String,
    },
    Drain {
        node: usize,
    },
    Uncordon {
        node: usize,
    },
    /// Inside the container.
    Write {
        user: String,
        data: String,
    },
    /// Behind the agent's back.
    Tamper {
        user: String,
    },
}

/// What goes wrong meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Mishap {
    None,
    Fault {
        fault: Fault,
        node: usize,
        k: u32,
    },
    /// A node's agent is gone for some steps.
    Away {
        node: usize,
        steps: u32,
    },
    /// The only one, and it is back at once.
    CoordinatorDies,
    /// One of three, for some steps. 0: the leader.
    Coordinator {
        blow: Blow,
        after_leader: usize,
        steps: u32,
    },
    /// Every connection to the database ends.
    DatabaseHangsUp,
}

/// What happens to one of three coordinators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// kill -9.
    Dies,
    /// SIGSTOP, and SIGCONT in the end.
    Pauses,
    /// It reaches its database no more.
    CutOffDatabase,
    /// It reaches etcd no more.
    CutOffEtcd,
    /// It reaches these nodes no more, one bit each.
    CutOffNodes(u32),
}

/// One step of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub deed: Deed,
    /// What goes wrong.
    pub mishap: Mishap,
    /// The id that all tries of it carry.
    pub request: String,
}

/// The steps of a seed, without end.
#[derive(Debug)]
pub struct Decisions {
    rng: ChaCha8Rng,
    nodes: usize,
    coordinators: Coordinators,
}

impl Decisions {
    /// Of a walk.
    #[must_use]
    pub fn of(Walk { seed, nodes, coordinators, .. }: Walk) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), nodes: nodes.into(), coordinators }
    }

    fn deed(&mut self) -> Deed {
        let nodes = self.nodes;
        let rng = &mut self.rng;
        let number = rng.random_range(0..USERS);
        let user = format!("user-{number}");
        match rng.random_range(0..156) {
            0..22 => Deed::Create { user },
            22..32 => Deed::Resize { user, memory_bytes: u64::from(rng.random_range(1..=4u8)) << 30 },
            32..48 => {
                let action = [PowerAction::Start, PowerAction::Stop, PowerAction::Restart];
                Deed::Power { user, action: *action.choose(rng).expect("three of them") }
            }
            48..56 => Deed::Keys { user, set: rng.random_range(1..=3) },
            56..60 => Deed::Protect { user, protected: rng.random_ratio(1, 3) },
            60..64 => Deed::Autostart { user, autostart: rng.random() },
            64..73 => Deed::Delete { user },
            73..85 => Deed::Move { user },
            85..87 => Deed::CancelMove { user },
            87..89 => Deed::Repair { user },
            89..91 => Deed::Drain { node: rng.random_range(0..nodes) },
            91..93 => Deed::Uncordon { node: rng.random_range(0..nodes) },
            93..99 => Deed::Write { user, data: format!("{:08x}", rng.random::<u32>()) },
            99..101 => Deed::Tamper { user },
            101..137 => disk_deed(rng, user),
            137..146 => Deed::Replicate { user, on: rng.random_ratio(3, 4) },
            _ => {
                let with = format!("user-{}", (number + rng.random_range(1..USERS)) % USERS);
                match rng.random_range(0..3) {
                    0 => Deed::Unshare { user, with },
                    sudo => Deed::Share { user, with, sudo: sudo == 1 },
                }
            }
        }
    }

    fn mishap(&mut self) -> Mishap {
        let nodes = self.nodes;
        let rng = &mut self.rng;
        let node = rng.random_range(0..nodes);
        let by = match self.coordinators {
            Coordinators::One => None,
            Coordinators::Three { by, .. } => Some(by),
        };
        match rng.random_range(0..100) {
            0..45 => Mishap::None,
            45..80 => {
                // A coordinator in another process has no points to fail at.
                let faults = FAULTS.iter().filter(|fault| by.is_none() || fault.is_on_a_host());
                let fault = *faults.choose(rng).expect("some of them");
                Mishap::Fault { fault, node, k: rng.random_range(1..=6) }
            }
            80..87 => Mishap::Away { node, steps: rng.random_range(1..=12) },
            roll => match by {
                None if roll < 96 => Mishap::None,
                None => Mishap::CoordinatorDies,
                Some(by) => of_three(rng, by, nodes),
            },
        }
    }
}

fn disk_deed(rng: &mut ChaCha8Rng, user: String) -> Deed {
    let name = *SNAPSHOTS.choose(rng).expect("some of them");
    match rng.random_range(0..36) {
        0..13 => Deed::Snapshot { user, name },
        13..15 => Deed::DeleteSnapshot { user, name },
        15..24 => Deed::RestoreSnapshot { user, name },
        24..33 => Deed::Failover { user },
        _ => Deed::DiscardOldCopy { user },
    }
}

fn of_three(rng: &mut ChaCha8Rng, by: By, nodes: usize) -> Mishap {
    // The leader is more worth it.
    let after_leader = *[0, 0, 0, 1, 2].choose(rng).expect("five of them");
    let steps = rng.random_range(1..=6);
    let blow = match rng.random_range(0..12) {
        0..4 => Blow::Dies,
        4..7 => Blow::Pauses,
        7..9 => Blow::CutOffDatabase,
        9..11 if by == By::Etcd => Blow::CutOffEtcd,
        9..11 => Blow::CutOffNodes(rng.random_range(1..1 << nodes)),
        _ => return Mishap::DatabaseHangsUp,
    };
    Mishap::Coordinator { blow, after_leader, steps }
}

impl Iterator for Decisions {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let (deed, mishap) = (self.deed(), self.mishap());
        let request = uuid::Builder::from_random_bytes(self.rng.random()).into_uuid().to_string();
        Some(Step { deed, mishap, request })
    }
}

/// The lines of a set of keys.
pub(super) fn keys(set: u8) -> Vec<String> {
    let all = [(1, KEY.trim_end()), (2, OTHER_KEY)];
    all.into_iter().filter(|(bit, _)| set & bit != 0).map(|(_, key)| key.to_owned()).collect()
}

impl Deed {
    /// Whom it is about.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Create { user }
            | Self::Resize { user, .. }
            | Self::Power { user, .. }
            | Self::Keys { user, .. }
            | Self::Protect { user, .. }
            | Self::Autostart { user, .. }
            | Self::Delete { user }
            | Self::Move { user }
            | Self::Repair { user }
            | Self::Snapshot { user, .. }
            | Self::DeleteSnapshot { user, .. }
            | Self::RestoreSnapshot { user, .. }
            | Self::Share { user, .. }
            | Self::Unshare { user, .. }
            | Self::Replicate { user, .. }
            | Self::Failover { user }
            | Self::DiscardOldCopy { user } => Some(user),
            // Done at any time, whatever else is under way.
            Self::CancelMove { .. }
            | Self::Drain { .. }
            | Self::Uncordon { .. }
            | Self::Write { .. }
            | Self::Tamper { .. } => None,
        }
    }

    /// With whom it is about.
    #[must_use]
    pub fn with(&self) -> Option<&str> {
        if let Self::Share { with, .. } | Self::Unshare { with, .. } = self { Some(with) } else { None }
    }

    /// Whether it makes, keeps, brings back or destroys what is stored.
    #[must_use]
    pub fn is_about_disk(&self) -> bool {
        matches!(
            self,
            Self::Create { .. }
                | Self::Delete { .. }
                | Self::Snapshot { .. }
                | Self::RestoreSnapshot { .. }
                | Self::Failover { .. }
        )
    }

    /// Whether both are about a user's container: the one is waited for before the other is asked for.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let whom = |deed: &Self| [deed.user().map(str::to_owned), deed.with().map(str::to_owned)];
        whom(self).iter().flatten().any(|user| whom(other).iter().flatten().any(|one| one == user))
    }

    /// "Create"
    #[must_use]
    pub fn kind(&self) -> String {
        format!("{self:?}").split(' ').next().unwrap_or_default().to_owned()
    }
}
