//! SetProtection: whether a delete is refused. A word of the operator's; no node hears of it.

use containarium_proto::{
    error::{Reason, Refusal},
    names::Username,
    spec::Desired,
    v1,
};

use super::{
    refuse::{no_such_user, refuse_deleting},
    render, view,
};
use crate::{
    reign::Reign,
    store::{EventKind, Held},
};

/// Records it, if it is a change; gives the container as it is then.
pub(super) async fn set(reign: &Reign, owner: &Username, protected: bool) -> Result<v1::Container, Refusal> {
    let mut tx = reign.write().await?;
    let rows = tx.reader().of_owner(owner).await?;
    let mut held = view::principal(rows).pop().ok_or_else(|| no_such_user(owner.as_str()))?;
    refuse_deleting(&mut tx, &held, "it is too late to protect it; see 'containarium list'").await?;
    if held.container.protected != protected {
        tx.protect(held.container.id, protected).await?;
        let (kind, message) = match protected {
            true => (EventKind::ContainerProtected, "a delete is refused"),
            false => (EventKind::ContainerUnprotected, "a delete is possible"),
        };
        tx.note(&owner.container_name(), kind, message).await?;
        tx.commit().await?;
        held.container.protected = protected;
        reign.wake_streams();
    }
    Ok(render::container(&view::view(held, &reign.sights())))
}

/// For a delete. One that was ordered before the protection goes on.
pub(super) fn refuse_protected(rows: &[Held], owner: &Username) -> Result<(), Refusal> {
    if rows.iter().any(|held| held.container.protected && held.placement.desired != Desired::Absent) {
        return Err(Refusal::new(Reason::Refused, format!("{owner}'s container is protected: nothing was deleted"))
            .hint(format!("'containarium unprotect {owner}' takes the protection away")));
    }
    Ok(())
}
