//! Waiting for a snapshot that is being made or removed. It must never change anything.

use containarium_proto::{
    error::{Reason, Refusal},
    ids::ContainerId,
    names::Username,
    snapshots::SnapshotName,
    v1,
};

use super::super::{
    progress::{Goal, Look, Said, remark},
    render, view,
};
use crate::{
    availability::Availability,
    node::live::{self, Sights},
    reign::Reign,
    store::{EventKind, Held, SnapshotRow, SnapshotState},
};

/// Waits until one is made or removed.
pub(in crate::api) struct Changed {
    container: ContainerId,
    owner: Username,
    name: SnapshotName,
    removing: bool,
    said: Said,
}

impl Changed {
    pub(super) fn of(row: &SnapshotRow, owner: &Username) -> Self {
        let removing = row.state == SnapshotState::Deleting;
        let (container, name) = (row.container, row.name.clone());
        Self { container, owner: owner.clone(), name, removing, said: Said::default() }
    }

    fn end(&self, held: &Held, sights: &Sights, (message, pending): (String, bool)) -> Look {
        let container = Some(render::container(&view::view(held.clone(), sights)));
        let snapshot = self.name.to_string();
        Look::Done(v1::Progress { container, pending, snapshot, ..remark(message) })
    }

    /// It is gone although it was to be made, or there although it was to be removed.
    async fn failed(&self, reign: &Reign) -> Result<Look, Refusal> {
        let name = self.owner.container_name();
        let kinds = [EventKind::ContainerSnapshotFailed, EventKind::ContainerSnapshotRemoved];
        let last = reign.store.reader().await?.last_event(&name, &kinds).await?;
        let why = last.map(|event| event.message).filter(|message| message.starts_with(self.name.as_str()));
        let message = why.unwrap_or_else(|| format!("another command took over snapshot {}", self.name));
        Err(Refusal::new(Reason::ContainerFailed, message)
            .hint(format!("see 'containarium events --subject {name}'; repeat the command to try again")))
    }
}

impl Goal for Changed {
    async fn look(&mut self, reign: &Reign) -> Result<Look, Refusal> {
        let mut reader = reign.store.reader().await?;
        let rows = reader.snapshots_of(self.container).await?;
        let held = view::principal(reader.of_container(self.container).await?).pop();
        drop(reader);
        let name = self.owner.container_name();
        let Some(held) = held else {
            return Err(
                Refusal::new(Reason::Busy, format!("{name} was deleted meanwhile")).hint("its snapshots went with it")
            );
        };
        let sights = reign.sights();
        let state = rows.iter().find(|row| row.name == self.name).map(|row| row.state);
        let doing = match (state, self.removing) {
            (Some(SnapshotState::Ready), false) => {
                return Ok(self.end(&held, &sights, (format!("snapshot {} is made", self.name), false)));
            }
            (None, true) => {
                return Ok(self.end(&held, &sights, (format!("snapshot {} is removed", self.name), false)));
            }
            (None | Some(SnapshotState::Deleting), false) | (Some(SnapshotState::Ready), true) => {
                return self.failed(reign).await;
            }
            (Some(SnapshotState::Creating), _) => "making",
            (Some(SnapshotState::Deleting), true) => "removing",
        };
        let node = &held.placement.node;
        if live::availability(node, &sights) == Availability::Offline {
            let message = format!("{node} went away: snapshot {} is done with when it is back", self.name);
            return Ok(self.end(&held, &sights, (message, true)));
        }
        Ok(self.said.news(remark(format!("{doing} snapshot {}", self.name))).unwrap_or(Look::Wait(None)))
    }
}
