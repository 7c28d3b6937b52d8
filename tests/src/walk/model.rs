//! What there must be, by what people were told. Whoever was told nothing certain leaves two possibilities; what is
//! there must be one of those that are left. Pure.

use std::collections::{BTreeMap, BTreeSet};

use containarium_agent::host::sim::SimHost;
use containarium_proto::{
    error::Reason,
    keys::{Key, KeySet},
    v1::{self, Phase, PowerAction},
};

use super::{
    decisions::{Deed, keys},
    disk::{Disk, Done},
};

/// What somebody was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is so.
    Done,
    /// It will be so, when a node is back.
    Pending,
    /// It was not done.
    Refused(Reason),
    /// It may be so.
    Unknown,
}

/// A container as it must be; where it is, is nobody's business.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expected {
    memory_bytes: u64,
    keys: u8,
    phase: Phase,
    protected: bool,
    autostart: bool,
    replicated: bool,
}

/// Of every user, what may be.
#[derive(Debug, Default)]
pub struct Model {
    users: BTreeMap<String, Vec<Option<Expected>>>,
    disks: BTreeMap<String, Disk>,
    /// Whether one user's container is open to another, and as root.
    shares: BTreeMap<(String, String), BTreeSet<Option<bool>>>,
    /// What somebody was told to do who was stopped then: it may do it when it goes on.
    late: Vec<Deed>,
}

impl Model {
    fn may_be(&mut self, user: &str) -> &mut Vec<Option<Expected>> {
        self.users.entry(user.to_owned()).or_insert_with(|| vec![None])
    }

    fn share(&mut self, user: &str, with: &str) -> &mut BTreeSet<Option<bool>> {
        self.shares.entry((user.to_owned(), with.to_owned())).or_insert_with(|| [None].into())
    }

    /// Somebody stored something.
    pub fn wrote(&mut self, user: &str, data: &str) {
        self.disks.entry(user.to_owned()).or_default().wrote(data);
    }

    /// It may be done at any time until the next rest, whatever is done meanwhile.
    pub fn may_come_late(&mut self, deed: &Deed) {
        self.late.push(deed.clone());
        self.learn(deed, Outcome::Unknown, true);
    }

    /// Takes in what somebody was told. `unsure`: an earlier try was not answered.
    ///
    /// # Panics
    /// It cannot be true.
    pub fn note(&mut self, deed: &Deed, outcome: Outcome, unsure: bool) {
        self.learn(deed, outcome, unsure);
        // Twice: one of them may make another possible.
        for late in [self.late.clone(), self.late.clone()].concat() {
            self.learn(&late, Outcome::Unknown, true);
        }
    }

    fn learn(&mut self, deed: &Deed, outcome: Outcome, unsure: bool) {
        let Some(user) = deed.user() else { return };
        let before = self.may_be(user).clone();
        self.learn_disk(deed, outcome, unsure);
        self.learn_shares(deed, outcome, unsure);
        let after: Vec<_> = before.iter().map(|state| applied(deed, state.clone())).collect();
        let next = match outcome {
            Outcome::Done | Outcome::Pending => {
                let possible = |state: &Option<Expected>| is_possible(deed, state.as_ref(), unsure);
                assert!(before.iter().any(possible), "{deed:?} was done to {before:?}");
                after
            }
            // A repeated delete that finds nothing is done.
            Outcome::Refused(Reason::NotFound) if unsure && matches!(deed, Deed::Delete { .. }) => vec![None],
            // Something else may not be there.
            Outcome::Refused(Reason::NotFound) if self.may_miss_more(deed, unsure) => before,
            Outcome::Refused(Reason::NotFound) => {
                assert!(before.contains(&None), "{deed:?} found nothing, there was {before:?}");
                vec![None]
            }
            Outcome::Refused(_) if !unsure => before,
            Outcome::Refused(_) | Outcome::Unknown => [before, after].concat(),
        };
        let states = self.may_be(user);
        states.clear();
        for state in next {
            if !states.contains(&state) {
                states.push(state);
            }
        }
    }

    fn may_miss_more(&mut self, deed: &Deed, unsure: bool) -> bool {
        match deed {
            Deed::Share { with, .. } => self.may_be(with).contains(&None),
            Deed::Unshare { user, with } => unsure || self.share(user, with).contains(&None),
            Deed::RestoreSnapshot { user, name } | Deed::DeleteSnapshot { user, name } => {
                unsure || self.disks.entry(user.clone()).or_default().may_have(name).1
            }
            Deed::DiscardOldCopy { .. } => true,
            _ => false,
        }
    }

    fn learn_disk(&mut self, deed: &Deed, outcome: Outcome, unsure: bool) {
        let Some(user) = deed.user() else { return };
        let before = self.may_be(user).clone();
        let disk = self.disks.entry(user.to_owned()).or_default();
        if let (Deed::Snapshot { name, .. }, Outcome::Refused(Reason::AlreadyExists)) = (deed, outcome) {
            assert!(unsure || disk.may_have(name).0, "{deed:?}: there is one already, but {disk:?}");
        }
        let done = match outcome {
            // All tries are one, and nothing else was done to it meanwhile.
            Outcome::Done => Done::Now,
            Outcome::Refused(_) if !unsure => return,
            Outcome::Pending | Outcome::Refused(_) | Outcome::Unknown => Done::AtAnyTime,
        };
        let is_new = match (before.contains(&None), before.iter().any(Option::is_some)) {
            (true, true) => None,
            (there_is_none, _) => Some(there_is_none),
        };
        disk.note(deed, done, is_new);
    }

    fn learn_shares(&mut self, deed: &Deed, outcome: Outcome, unsure: bool) {
        let is_done = match outcome {
            Outcome::Done | Outcome::Pending => true,
            Outcome::Refused(_) if !unsure => return,
            Outcome::Refused(_) | Outcome::Unknown => false,
        };
        let change = |may_be: &mut BTreeSet<Option<bool>>, to| {
            if is_done {
                may_be.clear();
            }
            may_be.insert(to);
        };
        match deed {
            Deed::Share { user, with, sudo } => {
                if is_done {
                    let there = self.may_be(with).clone();
                    assert!(unsure || there.iter().any(Option::is_some), "{deed:?} was done, {with} is {there:?}");
                }
                change(self.share(user, with), Some(*sudo));
            }
            Deed::Unshare { user, with } => change(self.share(user, with), None),
            Deed::Delete { user } => {
                let about = self.shares.iter_mut().filter(|((owner, with), _)| owner == user || with == user);
                about.for_each(|(_, may_be)| change(may_be, None));
            }
            _ => {}
        }
    }

    /// Holds what is there, at rest, against what may be; it is certain again then.
    ///
    /// # Panics
    /// It is something else.
    pub fn compare(&mut self, listed: &[v1::Container], hosts: &[(String, SimHost)]) {
        self.late.clear();
        for container in listed {
            assert!(self.users.contains_key(&container.user), "nobody asked for {}", container.user);
        }
        for (user, states) in &mut self.users {
            let there = listed.iter().find(|container| container.user == *user);
            let is = there.map(actual);
            assert!(states.contains(&is), "{user} is {is:?}, may be {states:?}");
            *states = vec![is];
            let disk = self.disks.entry(user.clone()).or_default();
            let Some(there) = there else {
                *disk = Disk::default();
                continue;
            };
            let home = hosts.iter().find(|(name, _)| *name == there.node).expect("it lives somewhere");
            disk.compare(home.1.instances_now().get(&there.name).expect("it is where it is listed"));
        }
        self.compare_shares(listed);
    }

    fn compare_shares(&mut self, listed: &[v1::Container]) {
        for share in listed.iter().flat_map(|container| &container.shares) {
            self.share(&share.owner, &share.with);
        }
        for ((user, with), may_be) in &mut self.shares {
            let shares = listed.iter().filter(|container| container.user == *user).flat_map(|c| &c.shares);
            let is = shares.filter(|share| share.with == *with).map(|share| share.sudo).next();
            assert!(may_be.contains(&is), "{user} shared with {with}: {is:?}, may be {may_be:?}");
            *may_be = [is].into();
        }
    }
}

fn is_possible(deed: &Deed, state: Option<&Expected>, unsure: bool) -> bool {
    match (deed, state) {
        (Deed::Create { .. }, Some(_)) => unsure,
        (Deed::Create { .. }, None) => true,
        // None: a node that is away has not confirmed an earlier one.
        (Deed::Delete { .. }, None) => true,
        (Deed::Delete { .. }, Some(state)) => !state.protected || unsure,
        (_, state) => state.is_some() || unsure,
    }
}

/// What it is after the deed.
fn applied(deed: &Deed, state: Option<Expected>) -> Option<Expected> {
    let new = Expected {
        memory_bytes: 2 << 30,
        keys: 1,
        phase: Phase::Running,
        protected: false,
        autostart: true,
        replicated: false,
    };
    match (deed, state) {
        (Deed::Create { .. }, state) => Some(state.unwrap_or(new)),
        (Deed::Delete { .. }, _) | (_, None) => None,
        (Deed::Resize { memory_bytes, .. }, Some(state)) => Some(Expected { memory_bytes: *memory_bytes, ..state }),
        (Deed::Power { action, .. }, Some(state)) => {
            let phase = if *action == PowerAction::Stop { Phase::Stopped } else { Phase::Running };
            Some(Expected { phase, ..state })
        }
        (Deed::Keys { set, .. }, Some(state)) => Some(Expected { keys: *set, ..state }),
        (Deed::Protect { protected, .. }, Some(state)) => Some(Expected { protected: *protected, ..state }),
        (Deed::Autostart { autostart, .. }, Some(state)) => Some(Expected { autostart: *autostart, ..state }),
        (Deed::Replicate { on, .. }, Some(state)) => Some(Expected { replicated: *on, ..state }),
        (
            Deed::Move { .. }
            | Deed::CancelMove { .. }
            | Deed::Repair { .. }
            | Deed::Snapshot { .. }
            | Deed::DeleteSnapshot { .. }
            | Deed::RestoreSnapshot { .. }
            | Deed::Share { .. }
            | Deed::Unshare { .. }
            | Deed::Failover { .. }
            | Deed::DiscardOldCopy { .. }
            | Deed::Drain { .. }
            | Deed::Uncordon { .. }
            | Deed::Write { .. }
            | Deed::Tamper { .. },
            state,
        ) => state,
    }
}

fn actual(container: &v1::Container) -> Expected {
    let spec = container.spec.clone().unwrap_or_default();
    let there: Vec<&String> = container.ssh_keys.iter().map(|key| &key.fingerprint).collect();
    let keys = (0..=3).find(|set| fingerprints(*set).iter().collect::<Vec<_>>() == there);
    Expected {
        memory_bytes: spec.memory_bytes,
        keys: keys.unwrap_or_else(|| panic!("{} has other keys than were ever given", container.user)),
        phase: container.phase(),
        protected: container.protected,
        autostart: spec.autostart,
        replicated: container.replication.as_ref().is_some_and(|replication| replication.every_seconds > 0),
    }
}

fn fingerprints(set: u8) -> Vec<String> {
    let lines = keys(set);
    let keys = KeySet::from_recorded(lines.iter().map(String::as_str)).expect("keys of ours");
    keys.iter().map(Key::fingerprint).collect()
}
