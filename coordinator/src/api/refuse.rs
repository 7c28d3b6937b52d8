//! What callers are told when our own parts fail: no internals, and what to do. The log has the rest.

use std::error::Error;

use containarium_proto::{
    error::{Reason, Refusal},
    spec::Desired,
};
use tonic::Status;

use crate::{
    clock,
    store::{EventKind, Held, StoreError, WriteTx},
};

/// Says little; the cause goes to the log.
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotLeader { .. } => Self::new(Reason::NotReady, "this coordinator no longer leads the fleet")
                .hint("repeat the command: another coordinator answers"),
            StoreError::Unknown(_) => {
                tracing::error!(error = &error as &dyn Error, "a call does not know what became of it");
                Self::new(Reason::NotReady, "the database went away during a write: whether it happened is not known")
                    .hint("repeat the command: what was done already is not done twice")
            }
            StoreError::Repeated { .. } => Self::new(
                Reason::Refused,
                "this request was carried out before, and something else was asked for since: nothing was changed",
            )
            .hint("see 'containarium info' for how it is now, and give the command anew if that is not what you want"),
            outage if outage.is_outage() => {
                tracing::error!(error = &outage as &dyn Error, "a call found no database");
                Self::new(Reason::NotReady, "the coordinator cannot reach its database: nothing was changed")
                    .hint("repeat the command in a moment; if it fails again, look at the database server")
            }
            StoreError::Database { .. }
            | StoreError::Open { .. }
            | StoreError::Migrate(_)
            | StoreError::Newer { .. }
            | StoreError::Corrupt { .. } => {
                tracing::error!(error = &error as &dyn Error, "a call failed on the database");
                Self::new(Reason::Internal, "the coordinator could not use its database: nothing was changed")
                    .hint("repeat the command; if it fails again, look at the coordinator's log and its disk")
            }
        }
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        Refusal::from(error).into()
    }
}

/// Nothing is changed any more on what is being destroyed; says since when it is.
pub(super) async fn refuse_deleting(tx: &mut WriteTx, held: &Held, hint: &str) -> Result<(), Refusal> {
    if held.placement.desired != Desired::Absent {
        return Ok(());
    }
    let name = held.container.owner.container_name();
    let kinds = [EventKind::ContainerDeleting; 2];
    let ordered = tx.reader().last_event(&name, &kinds).await?;
    let since = ordered.map(|event| format!(", since {}", clock::shown(event.at))).unwrap_or_default();
    Err(Refusal::new(Reason::Busy, format!("{name} is busy: it is being deleted{since}")).hint(hint))
}

/// The caller's mistake in one field.
pub(super) fn field(message: impl Into<String>, hint: &str) -> Refusal {
    Refusal::new(Reason::InvalidArgument, message).hint(hint)
}

pub(super) fn no_such_user(user: &str) -> Refusal {
    Refusal::new(Reason::NotFound, format!("{user} has no container")).hint("see 'containarium list'")
}

pub(super) fn no_such_node(node: &str) -> Refusal {
    Refusal::new(Reason::NotFound, format!("there is no node '{node}'")).hint("see 'containarium node list'")
}
