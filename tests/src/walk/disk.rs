//! What may be on the disk of one user's container and in its snapshots. Exact as long as everything was answered; where
//! something may have been done at any time, all that was ever stored may be there until the next rest. Pure.

use std::collections::{BTreeMap, BTreeSet};

use containarium_agent::host::sim::SimInstance;

use super::decisions::{Deed, SNAPSHOTS};

/// One user's.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    holds: BTreeSet<String>,
    ever: BTreeSet<String>,
    /// Of every name what may be in it; None: there may be none.
    snapshots: BTreeMap<&'static str, BTreeSet<Option<String>>>,
    /// Something may be done at any time.
    unsettled: bool,
}

impl Default for Disk {
    /// Of a container that was never used.
    fn default() -> Self {
        let empty = BTreeSet::from([String::new()]);
        let snapshots = SNAPSHOTS.iter().map(|name| (*name, BTreeSet::from([None]))).collect();
        Self { holds: empty.clone(), ever: empty, snapshots, unsettled: false }
    }
}

/// How sure it is that something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// Once, and before anything else.
    Now,
    /// Perhaps, at any time until the next rest.
    AtAnyTime,
}

impl Disk {
    /// Somebody stored something, and nothing was being done to the disk.
    pub(super) fn wrote(&mut self, data: &str) {
        if !self.unsettled {
            self.holds.clear();
        }
        self.holds.insert(data.to_owned());
        self.ever.insert(data.to_owned());
    }

    fn names(&mut self, name: &'static str) -> &mut BTreeSet<Option<String>> {
        self.snapshots.entry(name).or_default()
    }

    /// `is_new`: there was none before, or there may have been.
    pub(super) fn note(&mut self, deed: &Deed, done: Done, is_new: Option<bool>) {
        match deed {
            Deed::Create { .. } => match (done, is_new) {
                (Done::Now, Some(true)) => {
                    let ever = std::mem::take(&mut self.ever);
                    *self = Self { ever, unsettled: self.unsettled, ..Self::default() };
                }
                (Done::Now, Some(false)) => {}
                (Done::Now | Done::AtAnyTime, _) => self.may_be_new(done),
            },
            Deed::Delete { .. } if done == Done::AtAnyTime => self.may_be_new(done),
            Deed::Snapshot { name, .. } => {
                let contents: BTreeSet<_> = self.holds.iter().cloned().map(Some).collect();
                self.change(done, |disk| disk.names(name), contents);
            }
            Deed::DeleteSnapshot { name, .. } => self.change(done, |disk| disk.names(name), [None].into()),
            Deed::RestoreSnapshot { name, .. } => {
                let contents = self.names(name).iter().flatten().cloned().collect();
                self.change(done, |disk| &mut disk.holds, contents);
            }
            // Brings back what was whole by then, snapshots too.
            Deed::Failover { .. } => {
                self.unsettled = true;
                for name in SNAPSHOTS {
                    self.names(name).extend([None, Some(String::new())]);
                }
            }
            Deed::Delete { .. }
            | Deed::Resize { .. }
            | Deed::Power { .. }
            | Deed::Keys { .. }
            | Deed::Protect { .. }
            | Deed::Autostart { .. }
            | Deed::Move { .. }
            | Deed::CancelMove { .. }
            | Deed::Repair { .. }
            | Deed::Share { .. }
            | Deed::Unshare { .. }
            | Deed::Replicate { .. }
            | Deed::DiscardOldCopy { .. }
            | Deed::Drain { .. }
            | Deed::Uncordon { .. }
            | Deed::Write { .. }
            | Deed::Tamper { .. } => {}
        }
    }

    fn change<T: Ord>(&mut self, done: Done, what: impl Fn(&mut Self) -> &mut BTreeSet<T>, to: BTreeSet<T>) {
        if done == Done::Now && !self.unsettled {
            *what(self) = to;
        } else {
            self.unsettled |= done == Done::AtAnyTime;
            what(self).extend(to);
        }
    }

    fn may_be_new(&mut self, done: Done) {
        self.unsettled |= done == Done::AtAnyTime;
        self.holds.insert(String::new());
        for name in SNAPSHOTS {
            self.names(name).insert(None);
        }
    }

    /// Whether there may be a snapshot of this name, and whether there may be none.
    pub(super) fn may_have(&self, name: &str) -> (bool, bool) {
        let may_be = &self.snapshots[name];
        (self.unsettled || may_be.iter().any(Option::is_some), self.unsettled || may_be.contains(&None))
    }

    /// Holds it against what is there, at rest.
    ///
    /// # Panics
    /// It is something else.
    pub(super) fn compare(&mut self, instance: &SimInstance) {
        let (name, data) = (&instance.seen.name, &instance.data);
        let known = |data: &String| self.unsettled && self.ever.contains(data);
        assert!(self.holds.contains(data) || known(data), "{name} holds {data:?}, may hold {self:?}");
        let mut certain = BTreeMap::new();
        for (snapshot, may_be) in &self.snapshots {
            let there = instance.snapshots.iter().find(|one| one.name == *snapshot).map(|one| one.data.clone());
            let exists = may_be.iter().any(Option::is_some);
            let holds = may_be.contains(&there) || there.as_ref().is_some_and(|data| exists && known(data));
            assert!(holds, "snapshot {snapshot} of {name} holds {there:?}, may hold {self:?}");
            certain.insert(*snapshot, BTreeSet::from([there]));
        }
        *self = Self {
            holds: [data.clone()].into(),
            ever: std::mem::take(&mut self.ever),
            snapshots: certain,
            unsettled: false,
        };
    }
}
