//! What is done and what goes wrong, step by step, from a seed alone. It must never look at the fleet: then the same
//! seed would not decide the same.

use containarium_proto::v1::{self, PowerAction};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    fleet::{Background, Fleet, KEY},
    matrix::{FAULTS, Fault},
};

/// Few enough that things happen to the same ones again and again.
const USERS: u32 = 8;
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
    CoordinatorDies,
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
}

impl Decisions {
    /// Of a walk over so many nodes.
    #[must_use]
    pub fn new(seed: u64, nodes: u8) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), nodes: nodes.into() }
    }

    fn deed(&mut self) -> Deed {
        let nodes = self.nodes;
        let rng = &mut self.rng;
        let user = format!("user-{}", rng.random_range(1..=USERS));
        match rng.random_range(0..100) {
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
            93..98 => Deed::Write { user, data: format!("{:08x}", rng.random::<u32>()) },
            _ => Deed::Tamper { user },
        }
    }

    fn mishap(&mut self) -> Mishap {
        let nodes = self.nodes;
        let rng = &mut self.rng;
        let node = rng.random_range(0..nodes);
        match rng.random_range(0..100) {
            0..45 => Mishap::None,
            45..90 => {
                let fault = *FAULTS.choose(rng).expect("some of them");
                Mishap::Fault { fault, node, k: rng.random_range(1..=6) }
            }
            90..96 => Mishap::Away { node, steps: rng.random_range(1..=6) },
            _ => Mishap::CoordinatorDies,
        }
    }
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
            | Self::Repair { user } => Some(user),
            // Done at any time, whatever else is under way.
            Self::CancelMove { .. }
            | Self::Drain { .. }
            | Self::Uncordon { .. }
            | Self::Write { .. }
            | Self::Tamper { .. } => None,
        }
    }

    /// Asks for it. None: it is nothing that the coordinator is asked for.
    #[must_use]
    pub fn ask(&self, fleet: &Fleet, request: &str) -> Option<Background> {
        let request_id = request.to_owned();
        Some(match self {
            Self::Create { user } => {
                fleet.create_in_background(v1::CreateContainerRequest { request_id, ..Fleet::request(user) })
            }
            Self::Resize { user, memory_bytes } => {
                let memory_bytes = Some(*memory_bytes);
                let resize = Fleet::resize_request(user);
                fleet.resize_in_background(v1::ResizeContainerRequest {
                    request_id,
                    memory_bytes,
                    force: true,
                    ..resize
                })
            }
            Self::Power { user, action } => {
                let action = (*action).into();
                fleet.send_power(v1::SetPowerRequest { user: user.clone(), action, request_id })
            }
            Self::Keys { user, set } => {
                let (add, replace) = (keys(*set), true);
                fleet.keys_in_background(v1::ChangeKeysRequest {
                    request_id,
                    add,
                    replace,
                    ..Fleet::keys_request(user)
                })
            }
            Self::Protect { user, protected } => fleet.protection_in_background(user, *protected),
            Self::Autostart { user, autostart } => {
                let autostart = Some(*autostart);
                let lifetime = Fleet::lifetime_request(user);
                fleet.lifetime_in_background(v1::SetLifetimeRequest { request_id, autostart, ..lifetime })
            }
            Self::Delete { user } => fleet.delete_in_background(user),
            Self::Move { user } => {
                fleet.move_in_background(v1::MoveContainerRequest { request_id, ..Fleet::move_request(user) })
            }
            Self::CancelMove { user } => {
                let cancel = v1::MoveContainerRequest { request_id, cancel: true, ..Fleet::move_request(user) };
                fleet.move_in_background(cancel)
            }
            Self::Repair { user } => fleet.repair_request_in_background(user, request),
            Self::Drain { node } => fleet.drain_in_background(&fleet.nodes[*node].name, 2),
            Self::Uncordon { .. } | Self::Write { .. } | Self::Tamper { .. } => return None,
        })
    }
}
