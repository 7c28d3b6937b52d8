//! The one small file of an agent: which fleet it obeys and the highest term it has seen (I9). Written before the call
//! that raised it is acted upon. It must never hold anything that the instances themselves can tell.

use std::{
    fs::{self, DirBuilder, File},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use containarium_proto::{
    ids::{FleetId, Term},
    node::{SEEN_TERM, Sender},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tonic::Status;

use crate::error::AgentError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    fleet: FleetId,
    term: Term,
}

/// Whom this agent obeys.
#[derive(Debug)]
pub(crate) struct Membership {
    path: PathBuf,
    member: Mutex<Option<Member>>,
}

impl Membership {
    pub(crate) fn load(state_dir: &Path) -> Result<Self, AgentError> {
        let path = state_dir.join("fleet.json");
        let fail = |action, source| AgentError::File { action, path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(|e| fail("making the folder of", e))?;
        let member = match fs::read(&path) {
            Ok(bytes) => Some(
                serde_json::from_slice(&bytes)
                    .map_err(|source| AgentError::Membership { path: path.clone(), source })?,
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(fail("reading", error)),
        };
        Ok(Self { path, member: Mutex::new(member) })
    }

    pub(crate) async fn fleet(&self) -> Option<FleetId> {
        self.member.lock().await.map(|member| member.fleet)
    }

    /// After a lost boot disk: the fleet that every stamp on this host names. Any term is then acceptable.
    pub(crate) async fn adopt(&self, fleet: FleetId) -> Result<(), AgentError> {
        let mut held = self.member.lock().await;
        if held.is_none() {
            let member = Member { fleet, term: Term(0) };
            self.save(member)?;
            *held = Some(member);
        }
        Ok(())
    }

    /// Lets a call in: right fleet, no older term; a newer term is on disk before this returns.
    pub(crate) async fn admit(&self, sender: Sender) -> Result<(), Status> {
        let mut held = self.member.lock().await;
        if let Some(member) = *held {
            if member.fleet != sender.fleet {
                return Err(Status::failed_precondition(format!(
                    "this node belongs to fleet {}, not to {}: to move it, stop the agent and remove {}",
                    member.fleet,
                    sender.fleet,
                    self.path.display()
                )));
            }
            if sender.term < member.term {
                let why = format!("term {} is over: this node has seen {}", sender.term, member.term);
                let mut status = Status::aborted(why);
                // A database restored from a backup learns from it what the next term must be above.
                status.metadata_mut().insert(SEEN_TERM, member.term.0.into());
                return Err(status);
            }
            if sender.term == member.term {
                return Ok(());
            }
        }
        let member = Member { fleet: sender.fleet, term: sender.term };
        self.save(member).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the term could not be recorded");
            Status::unavailable("this node cannot write its state file: see its log")
        })?;
        tracing::info!(fleet = %member.fleet, term = %member.term, "obeying");
        *held = Some(member);
        Ok(())
    }

    /// Blocks for one small write and two syncs, once per reign.
    fn save(&self, member: Member) -> Result<(), AgentError> {
        let write = || -> std::io::Result<()> {
            let temporary = self.path.with_extension("json.new");
            let mut file = File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(&member)?)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        };
        write().map_err(|source| AgentError::File { action: "writing", path: self.path.clone(), source })
    }
}
