//! Calls about the keys that sign host certificates: which there are, and how one follows another so that nobody is
//! locked out: it is trusted first, then signs, then is the only one.

use containarium_proto::{
    error::{Reason, Refusal},
    identity::Identities,
    v1::{self, change_ssh_authority_request::Change},
};

use super::refuse::field;
use crate::{
    node::live::Sight,
    reign::Reign,
    store::{AuthorityRow, AuthorityState, EventKind, Policy, WriteTx},
};

pub(super) async fn list(reign: &Reign) -> Result<v1::SshAuthorities, Refusal> {
    let rows = reign.store.reader().await?.authorities().await?;
    Ok(v1::SshAuthorities { authorities: rows.iter().map(rendered).collect() })
}

fn rendered(row: &AuthorityRow) -> v1::SshAuthority {
    let state = match row.state {
        AuthorityState::Active => v1::AuthorityState::Active,
        AuthorityState::Next => v1::AuthorityState::Next,
        AuthorityState::Last => v1::AuthorityState::Last,
    };
    v1::SshAuthority { public_key: row.key.to_string(), fingerprint: row.key.fingerprint(), state: state.into() }
}

pub(super) async fn change(
    reign: &Reign,
    request: &v1::ChangeSshAuthorityRequest,
) -> Result<v1::SshAuthorities, Refusal> {
    let change = request.change.as_ref();
    let change = change.ok_or_else(|| field("what is to be changed is not said", "say prepare, use or forget"))?;
    let mut tx = reign.write().await?;
    let changed = match change {
        Change::Prepare(v1::PrepareAuthority {}) => prepare(&mut tx).await?,
        Change::Use(fingerprint) => switch(&mut tx, fingerprint).await?,
        Change::Forget(fingerprint) => forget(reign, &mut tx, fingerprint, request.force).await?,
    };
    if let Some(message) = changed {
        tx.note("", EventKind::FleetAuthority, &message).await?;
        tx.commit().await?;
        reign.wake_all();
    }
    list(reign).await
}

async fn prepare(tx: &mut WriteTx) -> Result<Option<String>, Refusal> {
    if tx.reader().authorities().await?.iter().any(|row| row.state == AuthorityState::Next) {
        return Ok(None);
    }
    let fingerprint = tx.insert_authority(AuthorityState::Next).await?;
    Ok(Some(format!("{fingerprint} is the next to sign host certificates: to be trusted from now on")))
}

async fn switch(tx: &mut WriteTx, fingerprint: &str) -> Result<Option<String>, Refusal> {
    let rows = tx.reader().authorities().await?;
    match rows.iter().find(|row| row.key.fingerprint() == fingerprint).map(|row| row.state) {
        Some(AuthorityState::Active) => return Ok(None),
        Some(AuthorityState::Next) => {}
        Some(AuthorityState::Last) | None => {
            let message = format!("there is no next key {}", fingerprint.escape_default());
            return Err(Refusal::new(Reason::NotFound, message).hint("see 'containarium ssh-ca list'"));
        }
    }
    if let Some(last) = rows.iter().find(|row| row.state == AuthorityState::Last) {
        let message = format!("the change before this one is not over: {} is trusted still", last.key.fingerprint());
        return Err(Refusal::new(Reason::Refused, message).hint("'containarium ssh-ca forget' ends it"));
    }
    tx.turn_authority(AuthorityState::Active, Some(AuthorityState::Last)).await?;
    tx.turn_authority(AuthorityState::Next, Some(AuthorityState::Active)).await?;
    Ok(Some(format!("host certificates are signed by {fingerprint} from now on")))
}

async fn forget(reign: &Reign, tx: &mut WriteTx, fingerprint: &str, force: bool) -> Result<Option<String>, Refusal> {
    let rows = tx.reader().authorities().await?;
    let Some(row) = rows.iter().find(|row| row.key.fingerprint() == fingerprint) else { return Ok(None) };
    if row.state == AuthorityState::Active {
        let message = format!("{fingerprint} signs host certificates");
        return Err(Refusal::new(Reason::Refused, message).hint("prepare another and use it first"));
    }
    let in_use = in_use(reign, tx, fingerprint).await?;
    if row.state == AuthorityState::Last && !force && !in_use.is_empty() {
        let message = format!("not every host is known to have a certificate of another key: {}", in_use.join(", "));
        return Err(Refusal::new(Reason::Refused, message)
            .hint("wait for them, or --force: ssh refuses those until they have one"));
    }
    tx.turn_authority(row.state, None).await?;
    Ok(Some(format!("{fingerprint} signs no host certificates and need not be trusted any more")))
}

/// Nodes where somebody shows a certificate of this key, or may do so.
async fn in_use(reign: &Reign, tx: &mut WriteTx, fingerprint: &str) -> Result<Vec<String>, Refusal> {
    let sights = reign.sights();
    let nodes = tx.reader().nodes().await?;
    let uses = |sight: Option<&Sight>| -> Option<&'static str> {
        let Some(sight) = sight.filter(|sight| sight.is_online()) else { return Some("does not answer") };
        let shown = sight.report.as_ref()?.identities.as_ref()?;
        shows(shown, fingerprint).then_some("has some")
    };
    let nodes = nodes.iter().filter(|node| node.policy != Policy::Retired);
    Ok(nodes.filter_map(|node| Some(format!("{} {}", node.name, uses(sights.get(&node.name))?))).collect())
}

fn shows(shown: &Identities, fingerprint: &str) -> bool {
    let mut certificates = shown.values().filter_map(|identity| identity.as_ref().ok()?.certificate.as_ref());
    certificates.any(|certificate| certificate.authority == fingerprint)
}
