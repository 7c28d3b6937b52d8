//! How this node stands: what it was last told that must hold without a coordinator too, in one small file, and whether
//! new sessions should come its way. It must never hold what can be read from the instances or the system.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use containarium_proto::{ids::AccessRevision, policy::NetworkPolicy};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::error::AgentError;

/// A change of accounts is under way for a moment all day long; a node that does not get one done is not to be used. Long
/// enough for a thousand accounts on a busy disk.
const CATCH_UP: Duration = Duration::from_secs(30);

/// What was told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// None: nobody has told anything yet.
    pub(crate) policy: Option<NetworkPolicy>,
    /// Where that came from.
    pub(crate) coordinator: Option<IpAddr>,
    /// The newest set of accounts that was brought about in full; none: there was none since this node was set up.
    pub(crate) access: Option<u64>,
}

#[derive(Debug)]
struct State {
    told: Told,
    /// Accounts are not yet as told, since then.
    behind_since: Option<Instant>,
    ssh_answers: bool,
    stopping: bool,
}

/// Shared by what is told, what guards, and the health port.
#[derive(Debug)]
pub(crate) struct Standing {
    path: PathBuf,
    state: Mutex<State>,
    /// Something was told.
    pub(crate) changed: Notify,
}

impl Standing {
    pub(crate) fn load(state_dir: &Path) -> Result<Self, AgentError> {
        let path = state_dir.join("told.json");
        let told = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                // It only bridges the time until a coordinator tells it again.
                tracing::warn!(%error, file = %path.display(), "damaged: nothing is known until a coordinator calls");
                Told::default()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Told::default(),
            Err(source) => return Err(AgentError::File { action: "reading", path, source }),
        };
        let state = State { told, behind_since: None, ssh_answers: false, stopping: false };
        Ok(Self { path, state: Mutex::new(state), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn told(&self) -> Told {
        self.state().told.clone()
    }

    /// Takes in a policy; on disk before it is acted upon.
    pub(crate) fn tell(&self, policy: NetworkPolicy, coordinator: Option<IpAddr>) -> Result<(), AgentError> {
        let mut state = self.state();
        let told = Told { policy: Some(policy), coordinator, access: state.told.access };
        if told != state.told {
            self.save(&told)?;
            state.told = told;
            drop(state);
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Accounts are to be brought to a revision.
    pub(crate) fn access_told(&self) {
        self.state().behind_since.get_or_insert_with(Instant::now);
    }

    /// They are as of this revision, all of them.
    pub(crate) fn access_done(&self, revision: AccessRevision) -> Result<(), AgentError> {
        let mut state = self.state();
        state.behind_since = None;
        let told = Told { access: Some(revision.0), ..state.told.clone() };
        if told != state.told {
            self.save(&told)?;
            state.told = told;
        }
        Ok(())
    }

    pub(crate) fn set_ssh_answers(&self, answers: bool) {
        self.state().ssh_answers = answers;
    }

    pub(crate) fn stop(&self) {
        self.state().stopping = true;
    }

    /// Why no new session should come this way; none: they should.
    pub(crate) fn ailments(&self) -> BTreeSet<&'static str> {
        let state = self.state();
        let drained = state.told.policy.as_ref().is_some_and(|policy| policy.out_of_rotation);
        [
            (!state.ssh_answers).then_some("sshd does not answer"),
            state.told.access.is_none().then_some("no accounts were ever synced"),
            state.behind_since.is_some_and(|since| since.elapsed() > CATCH_UP).then_some("accounts are not as told"),
            drained.then_some("the node is being emptied"),
            state.stopping.then_some("the agent is stopping"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Blocks for one small write and two syncs.
    fn save(&self, told: &Told) -> Result<(), AgentError> {
        let write = || -> std::io::Result<()> {
            let temporary = self.path.with_extension("json.new");
            let mut file = File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(told)?)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        };
        write().map_err(|source| AgentError::File { action: "writing", path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_well_when_all_is_and_what_was_told_outlives_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let standing = Standing::load(dir.path()).unwrap();
        assert_eq!(standing.ailments(), ["no accounts were ever synced", "sshd does not answer"].into());
        standing.set_ssh_answers(true);
        standing.access_told();
        standing.access_done(AccessRevision(7)).unwrap();
        standing.access_told();
        assert!(standing.ailments().is_empty(), "a change under way is no ailment");

        let policy = NetworkPolicy { out_of_rotation: true, ..NetworkPolicy::default() };
        standing.tell(policy.clone(), None).unwrap();
        assert_eq!(standing.ailments(), ["the node is being emptied"].into());
        let next = Standing::load(dir.path()).unwrap();
        next.set_ssh_answers(true);
        assert_eq!((next.told().policy, next.ailments()), (Some(policy), ["the node is being emptied"].into()));
        next.tell(NetworkPolicy::default(), None).unwrap();
        assert!(next.ailments().is_empty());
        next.stop();
        assert_eq!(next.ailments(), ["the agent is stopping"].into());

        fs::write(dir.path().join("told.json"), "{").unwrap();
        assert_eq!(Standing::load(dir.path()).unwrap().told(), Told::default());
    }
}
