//! Telling a test of every change of an instance as it happens: what it was, what it is, and whether the agent did it.
//! With nobody watching, nothing is copied.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{Memory, SimInstance};

/// One instance was made, changed, renamed or destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// As it was; `None`: it was made.
    pub before: Option<SimInstance>,
    /// As it is; `None`: it was destroyed.
    pub after: Option<SimInstance>,
    /// False: by hand, behind the agent's back.
    pub by_agent: bool,
}

/// Whoever is told.
#[derive(Clone, Default)]
pub(super) struct Watcher(Option<Arc<dyn Fn(Change) + Send + Sync>>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "watched" } else { "unwatched" })
    }
}

impl Watcher {
    pub(super) fn new(tell: impl Fn(Change) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }
}

/// Makes a change and tells what it did to the instances.
pub(super) fn told<T>(memory: &mut Memory, by_agent: bool, change: impl FnOnce(&mut Memory) -> T) -> T {
    let Watcher(Some(tell)) = memory.watcher.clone() else { return change(memory) };
    let before = memory.instances.clone();
    let outcome = change(memory);
    for (before, after) in differences(&before, &memory.instances) {
        tell(Change { before, after, by_agent });
    }
    outcome
}

type Pair = (Option<SimInstance>, Option<SimInstance>);

fn differences(before: &BTreeMap<String, SimInstance>, after: &BTreeMap<String, SimInstance>) -> Vec<Pair> {
    let (mut pairs, mut gone) = (Vec::new(), Vec::new());
    for (name, was) in before {
        match after.get(name) {
            Some(is) if is == was => {}
            Some(is) => pairs.push((Some(was.clone()), Some(is.clone()))),
            None => gone.push(was.clone()),
        }
    }
    let mut made: Vec<_> =
        after.iter().filter(|(name, _)| !before.contains_key(*name)).map(|(_, i)| i.clone()).collect();
    // One effect touches one instance: gone under one name and there under another, it was renamed.
    if gone.len() == 1 && made.len() == 1 {
        return vec![(gone.pop(), made.pop())];
    }
    pairs.extend(gone.into_iter().map(|was| (Some(was), None)));
    pairs.extend(made.into_iter().map(|is| (None, Some(is))));
    pairs
}
