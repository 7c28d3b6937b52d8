//! What there must be, by what people were told. Whoever was told nothing certain leaves two possibilities; what is
//! there must be one of those that are left. Pure.

use std::collections::BTreeMap;

use containarium_agent::host::sim::SimHost;
use containarium_proto::{
    error::Reason,
    keys::{Key, KeySet},
    v1::{self, Phase, PowerAction},
};

use super::decisions::{Deed, keys};

/// What somebody was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is so, or will be.
    Done,
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
}

/// Of every user, what may be.
#[derive(Debug, Default)]
pub struct Model {
    users: BTreeMap<String, Vec<Option<Expected>>>,
    /// What was last stored in each container; gone with it.
    data: BTreeMap<String, String>,
}

impl Model {
    fn may_be(&mut self, user: &str) -> &mut Vec<Option<Expected>> {
        self.users.entry(user.to_owned()).or_insert_with(|| vec![None])
    }

    /// Somebody stored something.
    pub fn wrote(&mut self, user: &str, data: &str) {
        self.data.insert(user.to_owned(), data.to_owned());
    }

    /// Takes in what somebody was told. `unsure`: an earlier try was not answered.
    ///
    /// # Panics
    /// It cannot be true.
    pub fn note(&mut self, deed: &Deed, outcome: Outcome, unsure: bool) {
        let Some(user) = deed.user() else { return };
        let before = self.may_be(user).clone();
        let after: Vec<_> = before.iter().map(|state| applied(deed, state.clone())).collect();
        let next = match outcome {
            Outcome::Done => {
                let possible = |state: &Option<Expected>| is_possible(deed, state.as_ref(), unsure);
                assert!(before.iter().any(possible), "{deed:?} was done to {before:?}");
                after
            }
            // A repeated delete that finds nothing is done.
            Outcome::Refused(Reason::NotFound) if unsure && matches!(deed, Deed::Delete { .. }) => vec![None],
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

    /// Holds what is there, at rest, against what may be; it is certain again then.
    ///
    /// # Panics
    /// It is something else.
    pub fn compare(&mut self, listed: &[v1::Container], hosts: &[SimHost]) {
        for container in listed {
            assert!(self.users.contains_key(&container.user), "nobody asked for {}", container.user);
        }
        for (user, states) in &mut self.users {
            let there = listed.iter().find(|container| container.user == *user);
            let is = there.map(actual);
            assert!(states.contains(&is), "{user} is {is:?}, may be {states:?}");
            *states = vec![is];
            if there.is_none() {
                self.data.remove(user);
                continue;
            }
            let name = format!("{user}-container");
            let data: Vec<_> = hosts.iter().filter_map(|host| host.instances_now().remove(&name)).collect();
            assert_eq!(data.len(), 1, "copies of {name}");
            // One that was deleted and made anew is empty.
            let stored = self.data.get(user).cloned().unwrap_or_default();
            assert!(
                data[0].data == stored || data[0].data.is_empty(),
                "{name} holds {:?}, not {stored:?}",
                data[0].data
            );
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
    let new = Expected { memory_bytes: 2 << 30, keys: 1, phase: Phase::Running, protected: false, autostart: true };
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
        (
            Deed::Move { .. }
            | Deed::CancelMove { .. }
            | Deed::Repair { .. }
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
    }
}

fn fingerprints(set: u8) -> Vec<String> {
    let lines = keys(set);
    let keys = KeySet::from_recorded(lines.iter().map(String::as_str)).expect("keys of ours");
    keys.iter().map(Key::fingerprint).collect()
}
