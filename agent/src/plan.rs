//! The next step for one container, from what is wanted and what is there. Pure: there is no "step 3 of 7" to
//! remember, so a first try, a retry and a restart after kill -9 are the same thing.

use containarium_proto::{
    ids::{FleetId, Generation},
    node::{Licence, Order},
    spec::{Desired, Observed, Step},
};
use sha2::{Digest, Sha256};

mod restore;

use crate::host::{Instance, Power, Stamp, StopMode};

/// One effect on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Clone the image.
    Create,
    /// Carry the order into an existing instance.
    Configure,
    /// The same, and take away what nobody ordered.
    Repair,
    /// Carry the order, with our stamp, into an instance that had none (I6: only by a licence for exactly this one).
    Adopt,
    /// Give the instance that is adopted the order's name.
    Rename,
    /// Stop it, to bring it back to a snapshot.
    Halt,
    /// Bring its disk back to a snapshot, and everything else to the order.
    BringBack,
    /// Start it.
    Start,
    /// Stop it.
    Stop(StopMode),
    /// Destroy it.
    Delete,
    /// Make the user inside.
    EnsureLogin,
    /// Until its sshd answers.
    WaitSsh,
    /// Remove what the copy that brought it here has left.
    ClearCopy,
    /// Stop what a restore replaces; all of the new one is here.
    StopReplaced,
    /// Destroy what a restore replaces.
    DeleteReplaced,
    /// Give what was imported the order's name.
    PutInPlace,
    /// Make what was imported what is ordered.
    Dress,
    /// Destroy what was imported for nothing.
    DropStaged,
    /// Note that it has run under this order: from now on only a new one starts it.
    NoteRan,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This, then look again.
    Do(Action),
    /// Nothing: it is as wanted.
    Done(Observed),
    /// A pass of its copy must come from another node.
    Receive(Arrived),
    /// Its data must come from a backup.
    Restore,
    /// The instance carries a newer order than the one we hold: hold that one (I4).
    Newer(Box<Order>),
    /// Cannot be done without harm; a person must look.
    Refuse(String),
}

/// How much of an arriving container is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// Nothing.
    Nothing,
    /// An instance of which no pass has ended: nobody's data yet, and no use.
    Torn,
    /// An earlier pass.
    Earlier,
}

/// What is known beside the order and the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known<'a> {
    /// Since the instance was last seen to start, its sshd greeted us.
    pub ssh_answered: bool,
    /// It was here before: if it is not now, it is lost, and an empty one in its place would hide that.
    pub must_exist: bool,
    /// A coordinator has said since this agent started that it lives here.
    pub word: bool,
    /// What the order may do beyond its content.
    pub licence: Option<&'a Licence>,
    /// The instance that bears the name which the licence to adopt gives, if that is not the order's.
    pub named: Option<&'a Instance>,
    /// A restore under this generation was begun and is not done: whatever the instance claims to be, it is not.
    pub restoring: Option<Generation>,
    /// What bears the name under which exports are imported.
    pub staged: Option<&'a Instance>,
}

/// Plans one step.
#[must_use]
pub fn plan(fleet: FleetId, order: &Order, seen: Option<&Instance>, known: Known<'_>) -> Next {
    if let Some(next) = adoption(order, seen, known) {
        return next;
    }
    // What is half brought back to a snapshot is no reason to replace it.
    if known.restoring.is_none()
        && let Some(next) = restore::next(fleet, order, seen, known)
    {
        return next;
    }
    let ours = |stamp: &Stamp| stamp.fleet == fleet && stamp.order.id == order.id;
    let stamped = seen.and_then(|instance| instance.stamp.as_ref()).filter(|stamp| ours(stamp));
    if let Some(instance) = seen.filter(|_| is_to_be_restored(order, stamped, known)) {
        return Next::Do(if instance.power == Power::Running { Action::Halt } else { Action::BringBack });
    }
    let (instance, stamp) = match seen.map(|instance| (instance, instance.stamp.as_ref())) {
        Some((instance, Some(stamp))) if ours(stamp) => (instance, stamp),
        // I6: whatever bears this name is not this container, so this container is not here.
        Some(_) | None if order.desired == Desired::Absent => return Next::Done(Observed::Absent),
        None if known.must_exist => return Next::Done(Observed::Absent),
        None if order.copy_pass.is_some() => return Next::Receive(Arrived::Nothing),
        None => return Next::Do(Action::Create),
        Some(_) => {
            return Next::Refuse(format!(
                "an instance named {} exists on this node that is not this container: rename or delete it there",
                order.name
            ));
        }
    };
    if stamp.order.generation > order.generation {
        return Next::Newer(Box::new(stamp.order.clone()));
    }
    if order.desired != Desired::Absent
        && let Some(next) = arrival(order, stamp, instance.power)
    {
        return next;
    }
    match (order.desired, instance.power) {
        // I5: only here, on an order of Absent with this id, is anything destroyed.
        (Desired::Absent, Power::Running) => Next::Do(Action::Stop(StopMode::Force)),
        (Desired::Absent, Power::Stopped) => Next::Do(Action::Delete),
        // A restart is a stop under the old stamp; with the new one it is an ordinary start.
        (Desired::Running, Power::Running) if order.spec.restarts > stamp.order.spec.restarts => {
            Next::Do(Action::Stop(StopMode::Graceful))
        }
        (Desired::Running | Desired::Stopped, _) if stamp.order != *order => match known.licence {
            Some(Licence::Repair) => Next::Do(Action::Repair),
            Some(Licence::Adopt { .. } | Licence::Restore { .. }) | None => Next::Do(Action::Configure),
        },
        (Desired::Stopped, Power::Running) => Next::Do(Action::Stop(StopMode::Graceful)),
        (Desired::Stopped, Power::Stopped) if left_by_copy(order, stamp) => Next::Do(Action::ClearCopy),
        (Desired::Stopped, Power::Stopped) => Next::Done(Observed::Stopped),
        // Its node, or its user, has switched it off since, and it is not to start by itself.
        (Desired::Running, Power::Stopped) if has_run(order, stamp) => Next::Done(Observed::Stopped),
        // Its replica may have become the container while we were away.
        (Desired::Running, Power::Stopped) if order.spec.fenced && !known.word => Next::Done(Observed::AwaitingWord),
        (Desired::Running, Power::Stopped) => Next::Do(Action::Start),
        (Desired::Running, Power::Running) => {
            if stamp.login.as_deref() != Some(login_hash(order).as_str()) {
                Next::Do(Action::EnsureLogin)
            } else if !known.ssh_answered {
                Next::Do(Action::WaitSsh)
            } else if left_by_copy(order, stamp) {
                Next::Do(Action::ClearCopy)
            } else if !order.spec.autostart && !has_run(order, stamp) {
                Next::Do(Action::NoteRan)
            } else {
                Next::Done(Observed::Running)
            }
        }
    }
}

/// What a licence to adopt says of an instance that carries no stamp. The id decides, never the name alone (I6).
fn adoption(order: &Order, seen: Option<&Instance>, known: Known<'_>) -> Option<Next> {
    let Some(Licence::Adopt { uuid, .. }) = known.licence else { return None };
    if order.desired == Desired::Absent {
        return None;
    }
    let meant = |instance: &&Instance| instance.unclaimed.as_ref() == Some(uuid);
    match (seen, known.named.filter(meant)) {
        (Some(_), _) => seen.filter(meant).map(|_| Next::Do(Action::Adopt)),
        (None, Some(named)) if named.power == Power::Running => {
            Some(Next::Refuse(format!("{} runs: only what is stopped can be renamed to {}", named.name, order.name)))
        }
        (None, Some(_)) => Some(Next::Do(Action::Rename)),
        (None, None) => None,
    }
}

/// What was begun is finished, whatever is ordered now: only then the instance says again what it is. What is asked for is
/// begun once: an instance stamped since then has been there.
fn is_to_be_restored(order: &Order, stamped: Option<&Stamp>, known: Known<'_>) -> bool {
    match (known.restoring, known.licence) {
        (Some(_), _) => true,
        (None, Some(Licence::Restore { since, .. })) => {
            order.desired != Desired::Absent && stamped.is_some_and(|stamp| stamp.order.generation < *since)
        }
        (None, Some(Licence::Adopt { .. } | Licence::Repair) | None) => false,
    }
}

/// Whether the order, of a container that does not start by itself, was carried out once. One that was cut off before
/// is not: it is still to be started.
fn has_run(order: &Order, stamp: &Stamp) -> bool {
    !order.spec.autostart && stamp.ran == Some(order.generation)
}

fn left_by_copy(order: &Order, stamp: &Stamp) -> bool {
    order.copy_pass.is_none() && stamp.copied.is_some()
}

/// What an instance that is arriving, or has just arrived, lacks as a copy.
fn arrival(order: &Order, stamp: &Stamp, power: Power) -> Option<Next> {
    match (order.copy_pass, stamp.order.copy_pass) {
        (None, None) => None,
        (None, Some(pass)) if stamp.copied >= Some(pass) => None,
        (None, Some(_)) => Some(Next::Refuse(format!("the copy of {} is not whole: it is not started", order.name))),
        // I5: it lives here; a copy over it would destroy it.
        (Some(_), None) => Some(Next::Refuse(format!("{} lives on this node: nothing is copied over it", order.name))),
        (Some(_), Some(_)) if power == Power::Running => Some(Next::Do(Action::Stop(StopMode::Force))),
        (Some(pass), Some(_)) => match stamp.copied {
            None => Some(Next::Receive(Arrived::Torn)),
            Some(copied) if copied < pass => Some(Next::Receive(Arrived::Earlier)),
            Some(_) => None,
        },
    }
}

/// How an action is shown to people.
#[must_use]
pub fn step(action: Action, desired: Desired) -> Step {
    let (index, total, title) = match (action, desired) {
        (Action::Create, _) => (1, 3, "cloning the image and starting it"),
        (Action::Configure, _) => (1, 3, "changing the limits"),
        (Action::Repair, _) => (1, 3, "writing back what was ordered"),
        (Action::Rename, _) => (1, 3, "renaming it"),
        (Action::Adopt, _) => (1, 3, "taking it over"),
        (Action::Halt, _) => (1, 3, "stopping for the restore"),
        (Action::BringBack, _) => (1, 3, "bringing its disk back to the snapshot"),
        (Action::Start, _) => (1, 3, "starting"),
        (Action::EnsureLogin, _) => (2, 3, "adding the user and keys"),
        (Action::WaitSsh, _) => (3, 3, "waiting for ssh"),
        (Action::Stop(_), Desired::Running) => (1, 3, "stopping for a restart"),
        (Action::Stop(_), Desired::Stopped) => (1, 1, "stopping"),
        (Action::Stop(_), Desired::Absent) => (1, 2, "stopping"),
        (Action::StopReplaced, _) => (1, 3, "stopping what is replaced"),
        (Action::DeleteReplaced, _) => (1, 3, "removing what is replaced"),
        (Action::PutInPlace, _) => (1, 3, "putting the restored one in its place"),
        (Action::Dress, _) => (1, 3, "setting limits, address and stamp"),
        (Action::DropStaged, _) => (1, 3, "removing what an earlier restore has left"),
        (Action::NoteRan, _) => (3, 3, "noting that it runs"),
        (Action::ClearCopy, _) => (3, 3, "removing what the move has left"),
        (Action::Delete, _) => (2, 2, "removing the instance and its data"),
    };
    Step { index, total, title: title.to_owned() }
}

/// What [`Stamp::login`] must be when the logins inside are right: the owner's and every guest's.
#[must_use]
pub fn login_hash(order: &Order) -> String {
    let mut hash = Sha256::new();
    hash.update(order.owner.as_str());
    for line in order.keys.to_lines() {
        hash.update([0]);
        hash.update(line);
    }
    for guest in &order.guests {
        // Neither a name nor a line of a key holds these.
        hash.update([if guest.sudo { 2 } else { 1 }]);
        hash.update(guest.user.as_str());
        for line in guest.keys.to_lines() {
            hash.update([0]);
            hash.update(line);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
