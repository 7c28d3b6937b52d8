//! The coordinator's calls about snapshots, beside the worker: they change nothing of what is ordered. Only a container at
//! rest under the caller's own generation is touched, so none is made of a disk that is being brought back.

use containarium_proto::{
    convert,
    ids::{ContainerId, Generation},
    node::Order,
    snapshots::SnapshotName,
    v1,
};
use tonic::Status;

use crate::{
    host::{Host, HostError},
    service::{Service, invalid, not_here, unavailable},
};

/// What to do with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Make,
    Remove,
}

pub(crate) async fn list<H: Host>(
    service: &Service<H>,
    request: &v1::SnapshotsOfRequest,
) -> Result<v1::SnapshotsOf, Status> {
    let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
    let id: ContainerId = request.container_id.parse().map_err(invalid)?;
    service.membership.admit(sender).await?;
    let order = service.ordered(id)?;
    let found = service.host.snapshots(&order.name).await.map_err(unavailable)?;
    Ok(convert::snapshots_to_wire(found.ok_or_else(|| not_here(id))?))
}

pub(crate) async fn carry_out<H: Host>(
    service: &Service<H>,
    request: &v1::SnapshotOrder,
    what: What,
) -> Result<v1::SnapshotDone, Status> {
    let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
    let id: ContainerId = request.container_id.parse().map_err(invalid)?;
    let name = convert::snapshot_name_from_wire(&request.name).map_err(invalid)?;
    service.membership.admit(sender).await?;
    let order = service.ordered(id)?;
    if order.generation != Generation(request.generation) || !service.ledger.rests_at(&order) {
        return Err(Status::aborted(format!("{} is not at rest at generation {}", order.name, request.generation)));
    }
    act(&*service.host, &order, &name, what).await.map_err(refused)?;
    tracing::info!(container = %order.name, snapshot = %name, ?what, "snapshot");
    Ok(v1::SnapshotDone {})
}

async fn act<H: Host>(host: &H, order: &Order, name: &SnapshotName, what: What) -> Result<(), HostError> {
    let seen = host.instance(&order.name).await?;
    // I6: only what carries our stamp.
    if seen.and_then(|instance| instance.stamp).is_none_or(|stamp| stamp.order.id != order.id) {
        return Err(HostError::transient(format!("{} is not on this node", order.name)));
    }
    match what {
        What::Make => host.make_snapshot(&order.name, name).await,
        What::Remove => host.remove_snapshot(&order.name, name).await,
    }
}

fn refused(error: HostError) -> Status {
    match error.permanent {
        true => Status::failed_precondition(error.message),
        false => unavailable(error),
    }
}
