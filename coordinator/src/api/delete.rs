//! DeleteContainer: the order to destroy, the only one there is; then a stream until every node has confirmed it, or
//! until it is clear that one of them is away. The order stands whoever waits.

use std::time::Instant;

use containarium_proto::{
    error::{Reason, Refusal},
    ids::{AccessRevision, ContainerId},
    names::Username,
    spec::{Desired, Observed},
    v1,
};

use super::{
    parse::Delete,
    progress::{AccessWait, Goal, Look, Reach, Said, agent_step, remark},
    protect::refuse_protected,
    refuse::no_such_user,
    render, view,
};
use crate::{
    availability::Availability,
    ending,
    node::live::{self, Sights, availability},
    reign::Reign,
    store::Held,
};

/// Records the order, unless it stands already.
pub(super) async fn order(reign: &Reign, delete: &Delete) -> Result<Deleted, Refusal> {
    let owner = &delete.owner;
    let mut tx = reign.write().await?;
    // Made before: whatever its user was given since is another container.
    if let Some(request) = delete.request
        && let Some(id) = tx.reader().done(request).await?
    {
        let rows = tx.reader().of_container(id).await?;
        let revision = match rows.iter().map(|held| held.placement.access_revision).max() {
            Some(revision) => revision,
            None => tx.reader().fleet().await?.access_revision,
        };
        return Ok(Deleted::new(id, owner, revision));
    }
    let rows = tx.reader().of_owner(owner).await?;
    let Some(first) = rows.first() else { return Err(no_such_user(owner.as_str())) };
    refuse_protected(&rows, owner)?;
    let id = first.container.id;
    let (revision, changed) = ending::destroy(&mut tx, &rows, "").await?;
    if changed {
        if let Some(request) = delete.request {
            tx.claim(id, request).await?;
        }
        tx.commit().await?;
        reign.wake_all();
    }
    Ok(Deleted::new(id, owner, revision))
}

/// Waits until nothing is left of it anywhere.
pub(super) struct Deleted {
    id: ContainerId,
    owner: Username,
    /// Of the set without its account.
    revision: AccessRevision,
    asked_at: Instant,
    accounts: AccessWait,
    container: Option<v1::Container>,
    said: Said,
}

impl Deleted {
    fn new(id: ContainerId, owner: &Username, revision: AccessRevision) -> Self {
        let (asked_at, accounts, said) = (Instant::now(), AccessWait::default(), Said::default());
        Self { id, owner: owner.clone(), revision, asked_at, accounts, container: None, said }
    }

    fn end(&self, pending: bool, message: String) -> Look {
        Look::Done(v1::Progress { container: self.container.clone(), pending, ..remark(message) })
    }

    /// The rows are gone; the account may not be.
    fn without_account(&mut self, reign: &Reign) -> Look {
        match self.accounts.look(reign, &self.owner, self.revision) {
            Reach::All => self.end(false, format!("{} is deleted with its data", self.owner.container_name())),
            Reach::Waiting(nodes, until) => {
                let message = format!("removing the account on {nodes}");
                self.said.news(remark(message)).unwrap_or(Look::Wait(Some(until)))
            }
            Reach::Missing(nodes) => {
                self.end(true, format!("its data is gone; its account is still to be removed on {nodes}"))
            }
        }
    }

    /// A node still has it.
    fn copies(&mut self, reign: &Reign, rows: &[Held], give_up_at: Instant) -> Result<Look, Refusal> {
        let sights = reign.sights();
        for held in rows {
            let node = &held.placement.node;
            let heard = || view::last_heard(sights.get(node));
            match availability(node, &sights) {
                Availability::Preempting | Availability::Suspect | Availability::Offline => {
                    let message = format!(
                        "recorded; {node} does not answer (last heard {}) and destroys it when it is back",
                        heard()
                    );
                    self.container = self.shown(rows, &sights);
                    return Ok(self.end(true, message));
                }
                Availability::Unknown | Availability::Online => {}
            }
            let said = match live::observed(held, &sights) {
                Observed::Failed { error, permanent: true } => {
                    let hint = format!("repair {node}, then repeat 'containarium delete {}'", self.owner);
                    return Err(Refusal::new(Reason::ContainerFailed, error).hint(hint));
                }
                Observed::Failed { error, permanent: false } => {
                    self.said.news(remark(format!("failed, trying again: {error}")))
                }
                Observed::Converging { step: at } => self.said.news(agent_step(at, (0, 0))),
                Observed::Unknown
                | Observed::Absent
                | Observed::Running
                | Observed::Stopped
                | Observed::AwaitingCopy
                | Observed::AwaitingWord => None,
            };
            if let Some(look) = said {
                return Ok(look);
            }
        }
        self.container = self.shown(rows, &sights);
        if Instant::now() >= give_up_at {
            return Ok(self.end(true, "recorded; the node takes long and goes on without you".to_owned()));
        }
        Ok(Look::Wait(Some(give_up_at)))
    }

    fn shown(&self, rows: &[Held], sights: &Sights) -> Option<v1::Container> {
        let held = view::principal(rows.to_vec()).pop()?;
        Some(render::container(&view::view(held, sights)))
    }
}

impl Goal for Deleted {
    async fn look(&mut self, reign: &Reign) -> Result<Look, Refusal> {
        let give_up_at = self.asked_at + reign.config.timings.pending_after;
        let rows = reign.store.reader().await?.of_container(self.id).await?;
        if rows.is_empty() {
            return Ok(self.without_account(reign));
        }
        if rows.iter().any(|held| held.placement.desired != Desired::Absent) {
            return Err(Refusal::new(Reason::Busy, "another command took over while this one waited")
                .hint("see 'containarium events'"));
        }
        self.copies(reign, &rows, give_up_at)
    }
}
