//! Restores under way, in one small file. Incus brings back an instance's configuration together with its disk, our stamps
//! included: until they are written anew, the instance claims to be what it was, and an agent that believed it would go
//! back (I4). So this is noted before, and forgotten when the stamps are right. It must never hold anything else.
//!
//! Lost with a boot disk, the order comes again from the coordinator, with its licence.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use containarium_proto::{
    ids::{ContainerId, Generation},
    node::Order,
    snapshots::SnapshotName,
};
use serde::{Deserialize, Serialize};

use crate::{error::AgentError, host::HostError};

/// One container's restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restoring {
    /// What it must be.
    pub(crate) order: Order,
    /// What its disk is brought back to.
    pub(crate) snapshot: SnapshotName,
    /// An instance stamped with this generation, or a newer one, is done with.
    pub(crate) since: Generation,
    /// Notes of Incus that are of this instance and not of its disk: what they were before.
    #[serde(default)]
    pub(crate) kept: BTreeMap<String, String>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    entries: Mutex<BTreeMap<ContainerId, Restoring>>,
}

impl Journal {
    /// The folder is there: membership makes it.
    pub(crate) fn load(state_dir: &Path) -> Result<Self, AgentError> {
        let path = state_dir.join("restores.json");
        let entries = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| AgentError::Journal { path: path.clone(), source })?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(AgentError::File { action: "reading", path, source }),
        };
        Ok(Self { path, entries: Mutex::new(entries) })
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Restoring>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Vec<Restoring> {
        self.entries().values().cloned().collect()
    }

    pub(crate) fn of(&self, id: ContainerId) -> Option<Restoring> {
        self.entries().get(&id).cloned()
    }

    /// Notes a restore; on disk before this returns.
    pub(crate) fn begin(&self, restoring: Restoring) -> Result<(), HostError> {
        let mut entries = self.entries();
        if entries.get(&restoring.order.id) == Some(&restoring) {
            return Ok(());
        }
        let mut next = entries.clone();
        next.insert(restoring.order.id, restoring);
        self.save(&next)?;
        *entries = next;
        Ok(())
    }

    /// Forgets one whose stamps are right.
    pub(crate) fn end(&self, id: ContainerId) -> Result<(), HostError> {
        let mut entries = self.entries();
        if !entries.contains_key(&id) {
            return Ok(());
        }
        let mut next = entries.clone();
        next.remove(&id);
        self.save(&next)?;
        *entries = next;
        Ok(())
    }

    /// Blocks for one small write and two syncs, twice per restore.
    fn save(&self, entries: &BTreeMap<ContainerId, Restoring>) -> Result<(), HostError> {
        let write = || -> std::io::Result<()> {
            let temporary = self.path.with_extension("json.new");
            let mut file = File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(entries)?)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        };
        write().map_err(|error| HostError::transient(format!("writing {}: {error}", self.path.display())))
    }
}
