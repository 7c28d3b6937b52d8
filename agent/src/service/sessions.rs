//! The calls about people: who is connected, what the logs say of it, who is kept out.

use std::{net::IpAddr, time::Duration};

use containarium_proto::{convert, names::Username, v1};
use tonic::Status;

use super::{Service, invalid, unavailable};
use crate::{audit, host::Host};

/// The cursor of three logs, with the journal's own of some hundred characters.
const LONGEST_CURSOR: usize = 4096;

pub(super) async fn read_audit<H: Host>(
    service: &Service<H>,
    request: v1::ReadAuditRequest,
) -> Result<v1::AuditBatch, Status> {
    let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
    if request.cursor.len() > LONGEST_CURSOR {
        return Err(invalid("a cursor that is none of ours"));
    }
    service.membership.admit(sender).await?;
    let wait = Duration::from_millis(request.max_wait_millis.into()).min(service.observe_max);
    let reading = audit::read(&*service.host, sender.fleet, request.cursor, wait);
    tokio::select! {
        batch = reading => Ok(convert::audit_batch_to_wire(batch.map_err(unavailable)?)),
        () = service.stop.cancelled() => Err(Status::unavailable("the agent is stopping")),
    }
}

pub(super) async fn list<H: Host>(
    service: &Service<H>,
    request: &v1::ListNodeSessionsRequest,
) -> Result<v1::ListNodeSessionsResponse, Status> {
    let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
    service.membership.admit(sender).await?;
    let sessions = service.host.sessions(sender.fleet).await.map_err(unavailable)?;
    Ok(v1::ListNodeSessionsResponse { sessions: sessions.iter().map(convert::node_session_to_wire).collect() })
}

pub(super) async fn end<H: Host>(
    service: &Service<H>,
    request: v1::EndSessionsRequest,
) -> Result<v1::EndSessionsResponse, Status> {
    use v1::end_sessions_request::Which;
    let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
    let which = request.which.ok_or_else(|| invalid("which sessions is missing"))?;
    if let Which::User(user) = &which {
        user.parse::<Username>().map_err(invalid)?;
    }
    service.membership.admit(sender).await?;
    let sessions = service.host.sessions(sender.fleet).await.map_err(unavailable)?;
    let mut ended = Vec::new();
    for session in &sessions {
        let meant = match &which {
            Which::User(user) => session.user.as_str() == user,
            Which::Id(id) => session.id.as_str() == id,
        };
        if meant && service.host.end_session(sender.fleet, session.id.as_str()).await.map_err(unavailable)? {
            tracing::info!(user = session.user.as_str(), session = session.id.as_str(), "session ended by an operator");
            ended.push(convert::node_session_to_wire(session));
        }
    }
    Ok(v1::EndSessionsResponse { ended })
}

pub(super) async fn bans<H: Host>(service: &Service<H>, request: &v1::ListBansRequest) -> Result<v1::Bans, Status> {
    let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
    service.membership.admit(sender).await?;
    Ok(convert::bans_to_wire(&service.host.bans().await.map_err(unavailable)?))
}

pub(super) async fn unban<H: Host>(
    service: &Service<H>,
    request: &v1::UnbanRequest,
) -> Result<v1::UnbanResponse, Status> {
    let sender = convert::sender_from_wire(request.sender.as_ref()).map_err(invalid)?;
    let address: IpAddr = request.address.parse().map_err(invalid)?;
    service.membership.admit(sender).await?;
    let was_banned = service.host.unban(address).await.map_err(unavailable)?;
    tracing::info!(%address, was_banned, "unbanned by an operator");
    Ok(v1::UnbanResponse { was_banned })
}
