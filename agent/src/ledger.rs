//! What was ordered and what is seen, container by container, with the facts of the node: everything that Observe
//! reports. In memory only: after a restart it is read back from the instances. It must never touch the host.

mod guard;

mod identities;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use containarium_proto::{
    VERSION,
    identity::{Host, Identities},
    ids::{AccessRevision, ContainerId, Generation},
    level::LEVEL,
    names::NodeName,
    node::{ContainerReport, CopyOffer, Licence, NodeReport, Order},
    policy::GuardReport,
    spec::{Capacity, Desired, Image, Observed, Step},
};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::{drift, host::Network};

/// Confirmed deletions that are still reported. The coordinator asks again about one that was dropped, and is
/// answered from the host.
const KEEP_ABSENT: usize = 256;

/// Slow facts of the node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    pub(crate) capacity: Option<Capacity>,
    pub(crate) network: Option<Network>,
    pub(crate) images: Vec<Image>,
    pub(crate) foreign_users: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    order: Order,
    observed: Observed,
    /// Revision at which `observed` came to be.
    since: u64,
    wake: Arc<Notify>,
    /// Whether a task looks after it.
    attended: bool,
    /// It was here: missing, it is lost.
    must_exist: bool,
    /// A coordinator gave this order to us, or said it again: what is fenced may be started.
    word: bool,
    /// For the pass of a copy that the order waits for; good once.
    offer: Option<CopyOffer>,
    /// What the order may do beyond its content, until it is carried out.
    licence: Option<Licence>,
    /// What was changed behind our back, as last seen.
    drift: Vec<String>,
    /// Since when it was not used, as far as we watched under this order.
    idle_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Books {
    entries: BTreeMap<ContainerId, Entry>,
    facts: Facts,
    access: AccessRevision,
    guard: GuardReport,
    guard_warnings: Vec<String>,
    identities: Identities,
    /// The machine is about to be taken away.
    preempting: bool,
    /// Why that would not be noticed.
    blind: Option<String>,
    backup_store: String,
}

/// Why an order was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// We hold a newer one.
    Older(String),
    /// Same generation, other content: a defect of the coordinator (I4).
    Contradiction(String),
}

/// Shared by the service, the worker and the fact finder.
#[derive(Debug)]
pub(crate) struct Ledger {
    node: NodeName,
    boot_id: String,
    incarnation: String,
    books: Mutex<Books>,
    revision: watch::Sender<u64>,
    /// Somebody has no task yet.
    pub(crate) unattended: Notify,
    /// A container runs whose sshd nobody has looked at.
    pub(crate) unidentified: Notify,
}

impl Ledger {
    pub(crate) fn new(node: NodeName, boot_id: String) -> Self {
        Self {
            node,
            boot_id,
            incarnation: Uuid::new_v4().to_string(),
            books: Mutex::default(),
            revision: watch::Sender::new(1),
            unattended: Notify::new(),
            unidentified: Notify::new(),
        }
    }

    /// Says from now on where backups are kept.
    pub(crate) fn set_backup_store(&self, url: &str) {
        let mut books = self.books();
        url.clone_into(&mut books.backup_store);
        self.bump(&books);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing panics while it holds the lock; if something did, the books are still whole.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called with the lock held, so that a reader never sees a change without its revision.
    fn bump(&self, _books: &MutexGuard<'_, Books>) -> u64 {
        let mut now = 0;
        self.revision.send_modify(|revision| {
            *revision += 1;
            now = *revision;
        });
        now
    }

    pub(crate) fn incarnation(&self) -> &str {
        &self.incarnation
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Accepts an order or says why not. Equal to what we hold: nothing happens.
    pub(crate) fn accept(
        &self,
        order: Order,
        must_exist: bool,
        licence: Option<Licence>,
    ) -> Result<ContainerReport, Refused> {
        let mut books = self.books();
        if let Some(entry) = books.entries.get_mut(&order.id) {
            entry.must_exist |= must_exist;
            if order.generation < entry.order.generation {
                return Err(Refused::Older(format!(
                    "{} is at generation {}, this order is {}",
                    order.name, entry.order.generation, order.generation
                )));
            }
            if order.generation == entry.order.generation {
                if order != entry.order {
                    return Err(Refused::Contradiction(format!(
                        "{} generation {} was ordered before with other content",
                        order.name, order.generation
                    )));
                }
                if !entry.word {
                    entry.word = true;
                    entry.wake.notify_one();
                }
                return Ok(report(&order.id, entry));
            }
        }
        let id = order.id;
        tracing::info!(container = %order.name, generation = %order.generation, desired = ?order.desired, "ordered");
        let step = Step { index: 0, total: 0, title: "waiting for its turn".to_owned() };
        self.hold(&mut books, order, Observed::Converging { step }, must_exist);
        if let Some(entry) = books.entries.get_mut(&id) {
            entry.licence = licence;
            entry.word = true;
        }
        let accepted = report(&id, &books.entries[&id]);
        self.bump(&books);
        Ok(accepted)
    }

    /// Takes over an order found on an instance, unless a newer one is held. `was_ready`: users have used it.
    pub(crate) fn recall(&self, order: Order, was_ready: bool) {
        let mut books = self.books();
        let held = books.entries.get(&order.id).map(|entry| entry.order.generation);
        if held.is_none_or(|generation| generation < order.generation) {
            self.hold(&mut books, order, Observed::Unknown, was_ready);
        }
    }

    fn hold(&self, books: &mut MutexGuard<'_, Books>, order: Order, observed: Observed, must_exist: bool) {
        let entry = books.entries.entry(order.id).or_insert_with(|| Entry {
            order: order.clone(),
            observed: observed.clone(),
            since: 0,
            wake: Arc::new(Notify::new()),
            attended: false,
            must_exist: false,
            word: false,
            offer: None,
            licence: None,
            drift: Vec::new(),
            idle_since: None,
        });
        // Of another origin, or as a copy that begins, it is another machine: that the old one was here says nothing of it,
        // nor that a copy was which had to go.
        let had_none = entry.order.copy_pass.is_none() || entry.order.desired == Desired::Absent;
        let begins = order.copy_pass.is_some() && had_none;
        entry.must_exist = must_exist || (entry.must_exist && !begins && entry.order.origin == order.origin);
        entry.word = false;
        entry.offer = None;
        entry.licence = None;
        entry.order = order;
        entry.observed = observed;
        entry.idle_since = None;
        entry.wake.notify_one();
        if !entry.attended {
            self.unattended.notify_one();
        }
    }

    /// Ids that no task looks after; they are taken as looked after from now on.
    pub(crate) fn attend(&self) -> Vec<(ContainerId, Arc<Notify>)> {
        let mut books = self.books();
        let waiting = books.entries.iter_mut().filter(|(_, e)| !e.attended && e.observed != Observed::Absent);
        waiting
            .map(|(id, entry)| {
                entry.attended = true;
                (*id, entry.wake.clone())
            })
            .collect()
    }

    pub(crate) fn order(&self, id: ContainerId) -> Option<Order> {
        self.books().entries.get(&id).map(|entry| entry.order.clone())
    }

    pub(crate) fn must_exist(&self, id: ContainerId) -> bool {
        self.books().entries.get(&id).is_some_and(|entry| entry.must_exist)
    }

    pub(crate) fn word(&self, id: ContainerId) -> bool {
        self.books().entries.get(&id).is_some_and(|entry| entry.word)
    }

    pub(crate) fn licence(&self, id: ContainerId) -> Option<Licence> {
        self.books().entries.get(&id).and_then(|entry| entry.licence.clone())
    }

    /// Whether the care for this order is at rest, so that a difference is nobody's work of ours.
    pub(crate) fn rests_at(&self, order: &Order) -> bool {
        self.books().entries.get(&order.id).is_some_and(|entry| entry.order == *order && is_rest(&entry.observed))
    }

    /// What an order is at rest, if that is the one that is held.
    pub(crate) fn rest_of(&self, order: &Order) -> Option<Order> {
        let books = self.books();
        let held = books.entries.get(&order.id).filter(|entry| entry.order == *order)?;
        Some(drift::at_rest(order, &held.observed))
    }

    /// Every order that is at rest.
    pub(crate) fn resting(&self) -> Vec<Order> {
        let books = self.books();
        books.entries.values().filter(|entry| is_rest(&entry.observed)).map(|entry| entry.order.clone()).collect()
    }

    /// Has the worker look at the truth again: the instance is gone.
    pub(crate) fn wake(&self, order: &Order) {
        if let Some(entry) = self.books().entries.get(&order.id).filter(|entry| entry.order == *order) {
            entry.wake.notify_one();
        }
    }

    /// Records what was changed behind our back of an order that is at rest.
    pub(crate) fn set_drift(&self, order: &Order, drift: Vec<String>) {
        let mut books = self.books();
        let at_rest = |entry: &&mut Entry| entry.order == *order && is_rest(&entry.observed);
        let Some(entry) = books.entries.get_mut(&order.id).filter(at_rest) else { return };
        if entry.drift == drift {
            return;
        }
        match drift.is_empty() {
            true => tracing::info!(container = %order.name, "as ordered again"),
            false => tracing::warn!(container = %order.name, drift = drift.join("; "), "changed behind our back"),
        }
        entry.drift = drift;
        self.bump(&books);
    }

    /// Lays an offer ready for the order that awaits it. False if none does.
    pub(crate) fn lay_ready(&self, id: ContainerId, generation: Generation, offer: CopyOffer) -> bool {
        let mut books = self.books();
        let awaits = |entry: &&mut Entry| {
            entry.order.generation == generation && entry.observed == Observed::AwaitingCopy && entry.offer.is_none()
        };
        let Some(entry) = books.entries.get_mut(&id).filter(awaits) else { return false };
        entry.offer = Some(offer);
        entry.wake.notify_one();
        true
    }

    /// The offer for exactly this order, if there is one; it is gone then.
    pub(crate) fn take_offer(&self, order: &Order) -> Option<CopyOffer> {
        let mut books = self.books();
        let entry = books.entries.get_mut(&order.id).filter(|e| e.order.generation == order.generation)?;
        entry.offer.take()
    }

    /// The containers that run as ordered: whose use is worth a look.
    pub(crate) fn running(&self) -> Vec<Order> {
        let books = self.books();
        let running = books.entries.values().filter(|entry| entry.observed == Observed::Running);
        running.map(|entry| entry.order.clone()).collect()
    }

    /// Notes whether a container is used, if its order is still that one. Wakes nobody: idleness is counted in hours,
    /// and the next report says it.
    pub(crate) fn set_idle(&self, id: ContainerId, generation: Generation, since: Option<Instant>) {
        let mut books = self.books();
        if let Some(entry) = books.entries.get_mut(&id).filter(|entry| entry.order.generation == generation) {
            entry.idle_since = since;
        }
    }

    /// Records what was seen, if it is about the order that is held. True if it is.
    pub(crate) fn observe(&self, order: &Order, observed: Observed) -> bool {
        self.note(order, observed, None)
    }

    /// The same of an order that is carried out, with what differs all the same: both are one piece of news.
    pub(crate) fn settle(&self, order: &Order, observed: Observed, drift: Vec<String>) -> bool {
        self.note(order, observed, Some(drift))
    }

    fn note(&self, order: &Order, observed: Observed, drift: Option<Vec<String>>) -> bool {
        let mut books = self.books();
        let Some(entry) = books.entries.get_mut(&order.id).filter(|e| e.order.generation == order.generation) else {
            return false;
        };
        if is_rest(&observed) {
            entry.licence = None;
        }
        let drift = drift.unwrap_or_else(|| entry.drift.clone());
        if entry.observed == observed && entry.drift == drift {
            return true;
        }
        entry.drift = drift;
        match &observed {
            Observed::Converging { step } => tracing::debug!(container = %order.name, step = step.title, "step"),
            other => {
                tracing::info!(container = %order.name, generation = %order.generation, observed = ?other, "observed");
            }
        }
        // A copy that is arriving may be scrapped and begun anew; what ran, or was stopped by an order, is somebody's.
        entry.must_exist |= is_rest(&observed) && order.copy_pass.is_none();
        if entry.observed != observed {
            entry.idle_since = None;
        }
        if observed == Observed::Running {
            self.unidentified.notify_one();
        }
        entry.observed = observed;
        let now = self.bump(&books);
        if let Some(entry) = books.entries.get_mut(&order.id) {
            entry.since = now;
        }
        true
    }

    /// Ends the care for a container whose absence is confirmed. False if it was ordered anew meanwhile.
    pub(crate) fn release(&self, id: ContainerId) -> bool {
        let mut books = self.books();
        match books.entries.get_mut(&id) {
            Some(entry) if entry.observed == Observed::Absent => entry.attended = false,
            Some(_) => return false,
            None => {}
        }
        let mut absent: Vec<(u64, ContainerId)> = books
            .entries
            .iter()
            .filter(|(_, e)| e.observed == Observed::Absent)
            .map(|(id, e)| (e.since, *id))
            .collect();
        absent.sort_unstable();
        let surplus = absent.len().saturating_sub(KEEP_ABSENT);
        for (_, id) in absent.into_iter().take(surplus) {
            books.entries.remove(&id);
        }
        books.identities.remove(&Host::Container(id));
        true
    }

    /// Replaces the facts. Memory and disk use alone do not wake anyone.
    pub(crate) fn set_facts(&self, facts: Facts) {
        let mut books = self.books();
        let sizes = |facts: &Facts| facts.capacity.map(|c| (c.cpus, c.memory, c.disk));
        let (old, new) = (&books.facts, &facts);
        let news = old.images != new.images
            || old.foreign_users != new.foreign_users
            || old.warnings != new.warnings
            || old.network != new.network
            || sizes(old) != sizes(new);
        books.facts = facts;
        if news {
            self.bump(&books);
        }
    }

    pub(crate) fn facts(&self) -> Facts {
        self.books().facts.clone()
    }

    pub(crate) fn set_access(&self, revision: AccessRevision) {
        let mut books = self.books();
        if books.access != revision {
            books.access = revision;
            self.bump(&books);
        }
    }

    /// From now on nothing is begun: the machine is about to be taken away.
    pub(crate) fn set_preempting(&self) {
        let mut books = self.books();
        books.preempting = true;
        self.bump(&books);
    }

    /// Whether anything may still be begun.
    pub(crate) fn is_preempting(&self) -> bool {
        self.books().preempting
    }

    /// Why a preemption would not be noticed; `None`: it would.
    pub(crate) fn set_blind(&self, why: Option<String>) {
        let mut books = self.books();
        if books.blind == why {
            return;
        }
        if let Some(why) = &why {
            tracing::warn!(why, "the node needs attention");
        }
        books.blind = why;
        self.bump(&books);
    }

    /// The whole report; `None` until the node's network and size are known.
    pub(crate) fn report(&self) -> Option<NodeReport> {
        let books = self.books();
        let (capacity, network) = (books.facts.capacity?, books.facts.network?);
        // Without it, the coordinator would take us for an agent that knows no certificates.
        books.identities.get(&Host::Node)?;
        // Unknown is not reported: missing means nothing (I5), and nothing is what we know.
        let known = books.entries.iter().filter(|(_, entry)| entry.observed != Observed::Unknown);
        Some(NodeReport {
            node: self.node.clone(),
            agent_version: VERSION.to_owned(),
            boot_id: self.boot_id.clone(),
            incarnation: self.incarnation.clone(),
            revision: *self.revision.borrow(),
            containers: known.map(|(id, entry)| report(id, entry)).collect(),
            capacity,
            container_cidr: network.cidr,
            container_gateway: network.gateway,
            images: books.facts.images.clone(),
            access_revision: books.access,
            foreign_users: books.facts.foreign_users.clone(),
            warnings: books.warnings(),
            identities: Some(books.identities_of_running()),
            guard: books.guard.clone(),
            preempting: books.preempting,
            backup_store: books.backup_store.clone(),
            level: LEVEL,
        })
    }
}

/// Nothing more is done for it until it is ordered.
fn is_rest(observed: &Observed) -> bool {
    matches!(observed, Observed::Running | Observed::Stopped)
}

fn report(id: &ContainerId, entry: &Entry) -> ContainerReport {
    ContainerReport {
        id: *id,
        name: entry.order.name.clone(),
        generation: entry.order.generation,
        observed: entry.observed.clone(),
        drift: entry.drift.clone(),
        idle_since: entry.idle_since.map(unix_millis),
        claim: Some((entry.order.owner.clone(), entry.order.address)),
    }
}

/// Counted back from now each time: a clock that was set meanwhile makes nothing idle for longer than it was.
fn unix_millis(since: Instant) -> i64 {
    let at = SystemTime::now().checked_sub(since.elapsed()).unwrap_or(UNIX_EPOCH);
    let millis = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(millis).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
