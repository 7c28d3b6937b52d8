//! The next step for a container whose data must come from a backup. Pure. What is there is replaced only when all of the
//! new one is here, verified; and what was imported is nobody's machine until it bears the name and the stamp.
//!
//! ```text
//! NAME        old ───────────────────────► stopped ─► gone    ┌─► marked ─► stamped, as ordered
//! NAME-restore     nothing ─► imported, marked ───────────────┘
//! ```

use containarium_proto::{backup::Origin, ids::FleetId, names::Username, node::Order, spec::Desired};

use super::{Action, Known, Next};
use crate::host::{Instance, Power, Stamp, shape::BACKUP_MARK};

/// What was imported and is not stamped yet: our own mark with this owner's name says so (I6).
fn mark<'i>(instance: &'i Instance, owner: &Username) -> Option<&'i str> {
    let mark = instance.shape.config.get(BACKUP_MARK).filter(|_| instance.stamp.is_none())?;
    mark.strip_prefix(owner.as_str())?.strip_prefix('/')
}

/// `None`: no business of a restore, or none any more.
pub(super) fn next(fleet: FleetId, order: &Order, seen: Option<&Instance>, known: Known<'_>) -> Option<Next> {
    let origin = order.origin.as_ref()?;
    // It comes from another node, where it was restored.
    if order.copy_pass.is_some() {
        return None;
    }
    let imported = |instance: &&Instance| mark(instance, &order.owner).is_some();
    let staged = known.staged.filter(imported);
    if order.desired == Desired::Absent {
        return match (staged, seen.filter(imported)) {
            (Some(_), _) => Some(Next::Do(Action::DropStaged)),
            (None, Some(_)) => Some(Next::Do(Action::Delete)),
            (None, None) => None,
        };
    }
    if let Some(half) = seen.filter(imported) {
        let action = if is_of(half, order, origin) { Action::Dress } else { Action::DeleteReplaced };
        return Some(Next::Do(action));
    }
    match seen.map(|instance| (instance, ours(fleet, order, instance))) {
        // A stranger's, or newer than our order: not for us to say.
        Some((_, None)) => return None,
        Some((_, Some(stamp))) if stamp.order.generation > order.generation => return None,
        Some((_, Some(stamp))) if stamp.order.origin.as_ref() == Some(origin) => {
            return staged.map(|_| Next::Do(Action::DropStaged));
        }
        // It was here as ordered, and is gone: that is a loss, and no second restore.
        None if known.must_exist => return staged.map(|_| Next::Do(Action::DropStaged)),
        Some((_, Some(_))) | None => {}
    }
    match (staged, known.staged) {
        (Some(staged), _) if is_of(staged, order, origin) => Some(Next::Do(match seen.map(|old| old.power) {
            Some(Power::Running) => Action::StopReplaced,
            Some(Power::Stopped) => Action::DeleteReplaced,
            None => Action::PutInPlace,
        })),
        (Some(_), _) => Some(Next::Do(Action::DropStaged)),
        (None, Some(stranger)) => Some(Next::Refuse(format!(
            "an instance named {} exists on this node that is not ours: rename or delete it there",
            stranger.name
        ))),
        (None, None) => Some(Next::Restore),
    }
}

fn ours<'i>(fleet: FleetId, order: &Order, instance: &'i Instance) -> Option<&'i Stamp> {
    instance.stamp.as_ref().filter(|stamp| stamp.fleet == fleet && stamp.order.id == order.id)
}

fn is_of(instance: &Instance, order: &Order, origin: &Origin) -> bool {
    mark(instance, &order.owner) == Some(origin.backup.as_str())
}
