//! What is being done about the images that nodes lack, for people. In memory of one reign; it must never be what a
//! fetch is decided by.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use containarium_proto::{names::NodeName, spec::Image, v1};

use crate::{clock, store::NodeRow};

/// The last thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// Since when, unix milliseconds.
    Fetching {
        from: NodeName,
        since: i64,
    },
    Failed {
        why: String,
        at: i64,
    },
}

/// By node and name.
#[derive(Debug, Default)]
pub(crate) struct ImageNotes(Mutex<BTreeMap<(NodeName, String), Note>>);

impl ImageNotes {
    pub(crate) fn set(&self, node: &NodeName, alias: &str, note: Note) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.insert((node.clone(), alias.to_owned()), note);
    }

    pub(crate) fn clear(&self, node: &NodeName, alias: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(node.clone(), alias.to_owned()));
    }

    fn get(&self, node: &NodeName, alias: &str) -> Option<Note> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(node.clone(), alias.to_owned())).cloned()
    }

    /// How far one node is with one image: `has` is what it is known to have, `answers` whether it can be asked.
    pub(crate) fn state(&self, image: &Image, node: &NodeRow, has: &[Image], answers: bool) -> v1::ImageOnNode {
        use v1::ImageState::{Failed, Fetching, Missing, Present};
        let other = has.iter().find(|own| own.alias == image.alias && own.fingerprint != image.fingerprint);
        let (state, detail) = match (has.contains(image), other, self.get(&node.name, &image.alias)) {
            (true, ..) => (Present, String::new()),
            (false, Some(other), _) => (Missing, format!("it has {:.12} under this name", other.fingerprint)),
            (false, None, _) if !answers => (Missing, "it does not answer".to_owned()),
            (false, None, Some(Note::Fetching { from, since })) => {
                (Fetching, format!("from {from} since {}", clock::shown(since)))
            }
            (false, None, Some(Note::Failed { why, at })) => {
                (Failed, format!("{why}, at {}; it is tried again", clock::shown(at)))
            }
            (false, None, None) => (Missing, "it is fetched soon".to_owned()),
        };
        v1::ImageOnNode { node: node.name.to_string(), state: state.into(), detail }
    }
}
