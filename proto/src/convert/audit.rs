//! Sessions, bans and audit records, to the wire and back.

use super::{ConvertError, bad, parse};
use crate::{
    audit::{AuditBatch, AuditRecord, Bans, Client, NodeSession, Text},
    v1,
};

fn client_from_wire(address: &str, port: u32) -> Result<Option<Client>, ConvertError> {
    if address.is_empty() {
        return Ok(None);
    }
    let port = u16::try_from(port).map_err(|e| bad("client_port", e))?;
    Ok(Some(Client { address: parse("client_address", address)?, port }))
}

fn client_to_wire(client: Option<Client>) -> (String, u32) {
    client.map_or_else(Default::default, |client| (client.address.to_string(), client.port.into()))
}

/// Reads a record.
///
/// # Errors
/// A kind or an address that is none.
pub fn audit_record_from_wire(record: &v1::AuditRecord) -> Result<AuditRecord, ConvertError> {
    Ok(AuditRecord {
        place: Text::from(record.place.as_str()),
        at: record.at_unix_millis,
        kind: parse("kind", &record.kind)?,
        user: Text::from(record.user.as_str()),
        client: client_from_wire(&record.client_address, record.client_port)?,
        key: Text::from(record.key.as_str()),
        targets: record.targets.iter().map(|target| parse("targets", target)).collect::<Result<_, _>>()?,
        detail: Text::from(record.detail.as_str()),
    })
}

/// Writes a record.
#[must_use]
pub fn audit_record_to_wire(record: &AuditRecord) -> v1::AuditRecord {
    let (client_address, client_port) = client_to_wire(record.client);
    v1::AuditRecord {
        place: record.place.as_str().to_owned(),
        at_unix_millis: record.at,
        kind: record.kind.to_string(),
        user: record.user.as_str().to_owned(),
        client_address,
        client_port,
        key: record.key.as_str().to_owned(),
        targets: record.targets.iter().map(ToString::to_string).collect(),
        detail: record.detail.as_str().to_owned(),
    }
}

/// Reads a batch. A record of a kind that only a newer agent knows is left out: the others must not wait for it.
///
/// # Errors
/// Any other field invalid.
pub fn audit_batch_from_wire(batch: v1::AuditBatch) -> Result<AuditBatch, ConvertError> {
    let known = |record: &&v1::AuditRecord| record.kind.parse::<crate::audit::AuditKind>().is_ok();
    let records = batch.records.iter().filter(known).map(audit_record_from_wire).collect::<Result<_, _>>()?;
    Ok(AuditBatch { cursor: batch.cursor, records, more: batch.more })
}

/// Writes a batch.
#[must_use]
pub fn audit_batch_to_wire(batch: AuditBatch) -> v1::AuditBatch {
    let records = batch.records.iter().map(audit_record_to_wire).collect();
    v1::AuditBatch { cursor: batch.cursor, records, more: batch.more }
}

/// Reads a session.
///
/// # Errors
/// An address that is none.
pub fn node_session_from_wire(session: &v1::NodeSession) -> Result<NodeSession, ConvertError> {
    Ok(NodeSession {
        id: Text::from(session.id.as_str()),
        user: Text::from(session.user.as_str()),
        client: client_from_wire(&session.client_address, session.client_port)?,
        targets: session.targets.iter().map(|target| parse("targets", target)).collect::<Result<_, _>>()?,
        since: session.since_unix_millis,
    })
}

/// Writes a session.
#[must_use]
pub fn node_session_to_wire(session: &NodeSession) -> v1::NodeSession {
    let (client_address, client_port) = client_to_wire(session.client);
    v1::NodeSession {
        id: session.id.as_str().to_owned(),
        user: session.user.as_str().to_owned(),
        client_address,
        client_port,
        targets: session.targets.iter().map(ToString::to_string).collect(),
        since_unix_millis: session.since,
    }
}

/// Reads who is kept out.
///
/// # Errors
/// An address that is none.
pub fn bans_from_wire(bans: &v1::Bans) -> Result<Bans, ConvertError> {
    let addresses = bans.addresses.iter().map(|address| parse("addresses", address)).collect::<Result<_, _>>()?;
    Ok(Bans { guarded: bans.guarded, addresses, problem: Text::from(bans.problem.as_str()) })
}

/// Writes who is kept out.
#[must_use]
pub fn bans_to_wire(bans: &Bans) -> v1::Bans {
    v1::Bans {
        guarded: bans.guarded,
        addresses: bans.addresses.iter().map(ToString::to_string).collect(),
        problem: bans.problem.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditKind;

    #[test]
    fn records_survive_the_wire_and_unknown_kinds_are_left_out() {
        let record = AuditRecord {
            place: Text::from("sshd/ab/12"),
            at: 5,
            kind: AuditKind::Accepted,
            user: Text::from("alice"),
            client: Some(Client { address: "2001:db8::1".parse().unwrap(), port: 4242 }),
            key: Text::from("SHA256:x"),
            targets: vec!["10.100.1.2".parse().unwrap()],
            detail: Text::from("d"),
        };
        let mut wire =
            audit_batch_to_wire(AuditBatch { cursor: "c".into(), records: vec![record.clone()], more: true });
        wire.records.push(v1::AuditRecord { kind: "newer".into(), ..Default::default() });
        let read = audit_batch_from_wire(wire).unwrap();
        assert_eq!(read, AuditBatch { cursor: "c".into(), records: vec![record], more: true });
        let bad = v1::AuditRecord { kind: "failed".into(), client_address: "x".into(), ..Default::default() };
        assert!(audit_record_from_wire(&bad).unwrap_err().to_string().starts_with("field client_address"));
    }
}
