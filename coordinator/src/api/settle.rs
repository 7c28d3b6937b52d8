//! Waiting for a change of a container that exists: until its node has carried it out and, where accounts changed, until
//! every server that answers has them. It must never change anything.

use containarium_proto::{
    error::{Reason, Refusal},
    ids::{AccessRevision, ContainerId, Generation},
    names::Username,
    spec::{Desired, Observed},
    v1,
};

use super::{
    certified::{self, CertificateWait, Certified},
    progress::{AccessWait, Goal, Look, Reach, Said, agent_step, remark},
    render, view,
};
use crate::{
    availability::Availability,
    node::live::{self, Sights, availability},
    reign::Reign,
    store::{Held, PlacementRow},
};

/// Waits until a generation is reached.
pub(super) struct Settled {
    id: ContainerId,
    generation: Generation,
    desired: Desired,
    access: Option<AccessRevision>,
    /// Whose account; none: the owner's.
    whose: Option<Username>,
    done: String,
    said: Said,
    accounts: AccessWait,
    certificates: CertificateWait,
}

impl Settled {
    /// Until `row`'s order is carried out; `done` is said then.
    pub(super) fn new(row: &PlacementRow, done: String) -> Self {
        let PlacementRow { container: id, generation, desired, .. } = *row;
        let (said, accounts, certificates) = Default::default();
        Self { id, generation, desired, access: None, whose: None, done, said, accounts, certificates }
    }

    /// And until accounts are as of `revision` on every server that answers.
    pub(super) fn with_access(self, revision: AccessRevision) -> Self {
        Self { access: Some(revision), ..self }
    }

    /// The same of another user's account.
    pub(super) fn with_access_of(self, whose: Username, revision: AccessRevision) -> Self {
        Self { whose: Some(whose), ..self.with_access(revision) }
    }

    async fn finish(&mut self, reign: &Reign, held: Held, sights: &Sights) -> Result<Look, Refusal> {
        // Who waits for ssh access waits for all that ssh needs.
        let (beside, more) = match self.access {
            Some(_) if self.desired == Desired::Running => {
                match self.certificates.look(reign, (&held, sights), &mut self.said, remark).await? {
                    Certified::NotYet(look) => return Ok(*look),
                    Certified::Enough(beside, more) => (beside, more),
                }
            }
            Some(_) | None => (None, false),
        };
        let reach = match self.access {
            Some(revision) => {
                let whose = self.whose.as_ref().unwrap_or(&held.container.owner);
                self.accounts.look(reign, whose, revision)
            }
            None => Reach::All,
        };
        let (message, pending) = match reach {
            Reach::Waiting(nodes, until) => {
                let message = format!("waiting for ssh access on {nodes}");
                return Ok(self.said.news(remark(message)).unwrap_or(Look::Wait(Some(until))));
            }
            Reach::All => (self.done.clone(), false),
            Reach::Missing(nodes) => (format!("{}, but not yet on {nodes}", self.done), true),
        };
        let container = Some(render::container(&view::view(held, sights)));
        let message = certified::with(message, beside);
        Ok(Look::Done(v1::Progress { container, pending: pending || more, ..remark(message) }))
    }
}

impl Goal for Settled {
    async fn look(&mut self, reign: &Reign) -> Result<Look, Refusal> {
        let sights = reign.sights();
        let rows = reign.store.reader().await?.of_container(self.id).await?;
        // A later order of the same kind includes ours.
        let ours = |h: &Held| h.placement.desired == self.desired && h.placement.generation >= self.generation;
        let current = rows.into_iter().find(|h| h.placement.is_home());
        let Some(held) = current.filter(ours) else {
            return Err(Refusal::new(Reason::Busy, "another command took over while this one waited")
                .hint("see 'containarium events'"));
        };
        let (user, node) = (held.container.owner.clone(), held.placement.node.clone());
        let said = match (live::observed(&held, &sights), self.desired) {
            (Observed::Running, Desired::Running) | (Observed::Stopped, Desired::Stopped) => {
                return self.finish(reign, held, &sights).await;
            }
            (Observed::Failed { error, permanent: true }, _) => {
                return Err(Refusal::new(Reason::ContainerFailed, error)
                    .hint(format!("see 'containarium info {user}'; repeat the command to try again")));
            }
            (Observed::Absent, Desired::Running | Desired::Stopped) => {
                let message = format!("{node} holds nothing of {} any more", user.container_name());
                return Err(Refusal::new(Reason::ContainerFailed, message)
                    .hint(format!("it is lost: see 'containarium info {user}'")));
            }
            (Observed::Failed { error, permanent: false }, _) => {
                self.said.news(remark(format!("failed, trying again: {error}")))
            }
            (Observed::Converging { step: at }, _) => self.said.news(agent_step(at, (0, 0))),
            (
                Observed::Unknown
                | Observed::Absent
                | Observed::Running
                | Observed::Stopped
                | Observed::AwaitingCopy
                | Observed::AwaitingWord,
                _,
            ) => None,
        };
        if let Some(look) = said {
            return Ok(look);
        }
        if availability(&node, &sights) == Availability::Offline {
            let message = format!("{node} went away: it is done when the node is back");
            let container = Some(render::container(&view::view(held, &sights)));
            return Ok(Look::Done(v1::Progress { container, pending: true, ..remark(message) }));
        }
        Ok(Look::Wait(None))
    }
}
