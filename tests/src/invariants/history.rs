//! What happened, judged as it happens: every state of the database, every call to an agent and every change of an
//! instance, in their order. Pure: it is told, and remembers what it needs; so a test can tell it of a defect that the
//! fleet does not have. Sees I1-I10; what must be true at rest (I11) is the business of [`super::rest`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use containarium_agent::host::sim::{Change, SimInstance};
use containarium_coordinator::Overcommit;
use containarium_proto::node::Licence;

use super::{
    Invariant, Violation,
    rows::{At, Placement, Rows},
    wire::{Message, Sent},
};

/// As the harness starts its coordinators.
pub(crate) const FIRST_ROUND: Duration = Duration::from_secs(5);

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Entry {
    /// The database was read; at least after every commit.
    Rows(Rows),
    /// A call goes out.
    Call(Sent),
    /// A call of a reign to a node has ended, well or not.
    Tried {
        /// Whose agent.
        node: String,
        /// Of the reign.
        term: u64,
    },
    /// An instance of a node was made, changed or destroyed.
    Instance {
        /// Whose.
        node: String,
        /// What was changed.
        change: Box<Change>,
    },
}

/// What is remembered of what happened.
#[derive(Debug, Clone, Default)]
pub struct History {
    rows: Rows,
    /// The content of every generation that was ever in the database.
    orders: BTreeMap<(At, u64), Placement>,
    /// The newest generation of each, also of those that are gone.
    newest: BTreeMap<At, u64>,
    /// Users that there ever were, and ids.
    owners: BTreeSet<String>,
    ids: BTreeSet<String>,
    /// What was sent as each generation.
    sent: BTreeMap<(At, u64), Vec<u8>>,
    /// The newest order of Absent that went out.
    absent: BTreeMap<At, u64>,
    /// Incus' ids of what may be adopted, by node.
    adoptable: BTreeSet<(String, String)>,
    tried: BTreeSet<(u64, String)>,
    reigns: BTreeMap<u64, Option<Instant>>,
    /// Instances with our stamp, and which of them run.
    held: BTreeMap<At, bool>,
    /// Where there was one with a login.
    ran: BTreeSet<At>,
    wrong: Vec<Violation>,
}

impl History {
    /// Everything that contradicted an invariant so far.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.wrong
    }

    fn wrong(&mut self, invariant: Invariant, text: String) {
        self.wrong.push(Violation { invariant, text });
    }

    /// Whether an order is in the books; if not, they should be read again before it is judged.
    #[must_use]
    pub fn knows(&self, sent: &Sent) -> bool {
        let order = sent.order().is_none_or(|(at, generation)| self.orders.contains_key(&(at, generation)));
        let accounts = match &sent.message {
            Message::SyncAccess(request) => request.revision <= self.rows.access_revision,
            Message::Apply(_) | Message::About { .. } | Message::Other => true,
        };
        order && accounts && sent.sender().is_some_and(|(_, term)| term <= self.rows.term)
    }

    /// Takes in what happened at `now`.
    pub fn take(&mut self, entry: Entry, now: Instant) {
        match entry {
            Entry::Rows(rows) => self.rows(rows, now),
            Entry::Call(sent) => self.call(&sent),
            Entry::Tried { node, term } => drop(self.tried.insert((term, node))),
            Entry::Instance { node, change } => self.instance(&node, &change),
        }
    }

    fn rows(&mut self, rows: Rows, now: Instant) {
        let first = self.rows == Rows::default();
        if !first && rows.rev == self.rows.rev && !rows.same_content(&self.rows) {
            self.wrong(Invariant::I9, format!("the database was changed without a look at the lease, at {}", rows.rev));
        }
        if rows.term < self.rows.term {
            self.wrong(Invariant::I9, format!("term {} came after {}", rows.term, self.rows.term));
        }
        // A fleet that is watched from its middle tells nothing about when its reign began.
        self.reigns.entry(rows.term).or_insert((!first).then_some(now));
        for id in rows.owners.keys() {
            let homes = rows.homes(id);
            if homes.len() > 1 {
                self.wrong(Invariant::I1, format!("{id} has its home on {homes:?}"));
            }
            self.home_moved(&rows, id);
        }
        for (at, row) in &rows.placements {
            self.generation(at, row);
            if !first && !self.rows.placements.contains_key(at) && !is_adoption(row) {
                self.placed_too_early(&rows, at, now);
            }
        }
        for at in
            self.rows.placements.keys().filter(|at| !rows.placements.contains_key(*at)).cloned().collect::<Vec<_>>()
        {
            let retired = rows.nodes.get(&at.1).is_none_or(|node| node.policy == "retired");
            if !retired && self.held.contains_key(&at) {
                self.wrong(Invariant::I7, format!("the row of {} went while {} holds it", at.0, at.1));
            }
        }
        for node in rows.nodes.keys() {
            self.overbooked(&rows, node);
        }
        self.owners.extend(rows.owners.values().cloned());
        self.ids.extend(rows.owners.keys().cloned());
        self.rows = rows;
    }

    fn generation(&mut self, at: &At, row: &Placement) {
        let newest = self.newest.get(at).copied().unwrap_or_default();
        let gone_before = !self.rows.placements.contains_key(at) && newest > 0;
        if row.generation < newest || (gone_before && row.generation == newest) {
            self.wrong(
                Invariant::I4,
                format!("{} on {} went from generation {newest} to {}", at.0, at.1, row.generation),
            );
        }
        self.newest.insert(at.clone(), newest.max(row.generation));
        let content = |row: &Placement| {
            let pass = if matches!(row.role.as_str(), "arriving" | "replica") { row.copy_pass } else { 0 };
            (row.desired.clone(), row.spec.clone(), row.address.clone(), pass)
        };
        let before = self.orders.insert((at.clone(), row.generation), row.clone());
        if before.is_some_and(|before| content(&before) != content(row)) {
            let text = format!("generation {} of {} on {} has another content now", row.generation, at.0, at.1);
            self.wrong(Invariant::I4, text);
        }
    }

    /// I8: the home of what ever ran changes only along a move that somebody asked for, or by a failover, which only an
    /// operator asks for: to the replica, and what was the home is superseded or given up.
    fn home_moved(&mut self, rows: &Rows, id: &str) {
        let at = |node: &str| (id.to_owned(), node.to_owned());
        let Some(from) = self.rows.homes(id).first().map(|node| (*node).to_owned()) else { return };
        let Some(to) = rows.homes(id).first().map(|node| (*node).to_owned()) else { return };
        let ran = self.rows.placements.get(&at(&from)).is_some_and(|row| row.ever_ran);
        let asked = self
            .rows
            .moves
            .get(id)
            .is_some_and(|(source, target)| (source, target) == (&from, &to) || (source, target) == (&to, &from));
        let was_replica = self.rows.placements.get(&at(&to)).is_some_and(|row| row.role == "replica");
        let is_superseded = rows.placements.get(&at(&from)).is_none_or(|row| row.role == "superseded");
        let failed_over = was_replica && is_superseded;
        if from != to && ran && !asked && !failed_over {
            self.wrong(Invariant::I8, format!("{id} went from {from} to {to} and nobody asked for it"));
        }
    }

    fn placed_too_early(&mut self, rows: &Rows, at: &At, now: Instant) {
        // What the reign before committed in its last moment may be seen only now.
        let Some(Some(began)) = self.reigns.get(&rows.term).filter(|_| rows.term == self.rows.term) else { return };
        if now.duration_since(*began) >= FIRST_ROUND {
            return;
        }
        let open = rows.nodes.iter().filter(|(_, node)| node.policy != "retired");
        let untried: Vec<_> = open
            .map(|(name, _)| name.clone())
            .filter(|name| !self.tried.contains(&(rows.term, name.clone())))
            .collect();
        if !untried.is_empty() {
            let text = format!("{} was placed on {} before {untried:?} had a word in term {}", at.0, at.1, rows.term);
            self.wrong(Invariant::I10, text);
        }
    }

    /// I2, with the arithmetic of docs/architecture.md rather than the coordinator's.
    fn overbooked(&mut self, rows: &Rows, node: &str) {
        let row = &rows.nodes[node];
        let Some(capacity) = row.capacity.filter(|_| row.settings == "{}") else { return };
        let limits = Overcommit::default();
        let headroom = (capacity.memory.0 / 8).min(1 << 30);
        let most = [
            u64::from(capacity.cpus) * 1000 * limits.cpu_permille / 1000,
            (capacity.memory.0 - headroom) / 1000 * limits.memory_permille,
            capacity.disk.0 - capacity.disk.0 / 20,
        ];
        let (before, after) = (reserved(&self.rows, node), reserved(rows, node));
        for ((what, most), (before, after)) in
            ["cpu", "memory", "disk"].iter().zip(most).zip(before.into_iter().zip(after))
        {
            // Division above loses less than a thousand bytes.
            if after > before && after > most + 1000 {
                self.wrong(Invariant::I2, format!("{node}: {after} of {what} reserved, it may hold {most}"));
            }
        }
    }

    fn call(&mut self, sent: &Sent) {
        match sent.sender() {
            Some((fleet, term)) if fleet == self.rows.fleet && term > 0 && term <= self.rows.term => {}
            other => self.wrong(Invariant::I9, format!("{} to {} was sent by {other:?}", sent.method, sent.node)),
        }
        if let Some((at, generation)) = sent.order()
            && !self.orders.contains_key(&(at.clone(), generation))
        {
            self.wrong(Invariant::I3, format!("{} of {at:?} at {generation}, which is in no row", sent.method));
        }
        match &sent.message {
            Message::Apply(_) => self.apply(sent),
            Message::SyncAccess(request) => {
                let strangers: Vec<_> =
                    request.accounts.iter().map(|a| &a.username).filter(|name| !self.owners.contains(*name)).collect();
                if !strangers.is_empty() || request.revision > self.rows.access_revision {
                    let text = format!("accounts of {strangers:?} at {} were sent to {}", request.revision, sent.node);
                    self.wrong(Invariant::I3, text);
                }
            }
            Message::About { id, .. } if !self.ids.contains(id) => {
                self.wrong(Invariant::I3, format!("{} about {id}, which never was", sent.method));
            }
            Message::About { .. } | Message::Other => {}
        }
    }

    fn apply(&mut self, sent: &Sent) {
        let (Message::Apply(order), Some((at, generation))) = (&sent.message, sent.order()) else { return };
        let content = sent.content();
        let before = self.sent.insert((at.clone(), generation), content.clone());
        if before.is_some_and(|before| before != content) {
            self.wrong(Invariant::I4, format!("generation {generation} of {at:?} was sent with another content"));
        }
        if order.desired() == containarium_proto::v1::Desired::Absent {
            let newest = self.absent.entry(at).or_default();
            *newest = (*newest).max(generation);
        }
        if let Ok(Some(Licence::Adopt { uuid, .. })) =
            containarium_proto::convert::licence_from_wire(order.licence.as_ref())
        {
            self.adoptable.insert((sent.node.clone(), uuid));
        }
    }

    fn instance(&mut self, node: &str, Change { before, after, by_agent }: &Change) {
        if *by_agent {
            self.by_agent(node, before.as_ref(), after.as_ref());
        }
        for (instance, is_there) in [(before, false), (after, true)] {
            let Some(instance) = instance else { continue };
            let Some(stamp) = &instance.seen.stamp else { continue };
            let at = (stamp.order.id.to_string(), node.to_owned());
            if !is_there {
                self.held.remove(&at);
                continue;
            }
            if stamp.login.is_some() {
                self.ran.insert(at.clone());
            }
            let runs = instance.seen.power == containarium_agent::host::Power::Running;
            self.held.insert(at.clone(), runs);
            let others = self.held.iter().filter(|((id, on), runs)| **runs && *id == at.0 && on != node);
            let others = others.filter(|(at, _)| !self.is_outdated(at)).count();
            if runs && others > 0 && !self.is_outdated(&at) {
                self.wrong(Invariant::I1, format!("{} runs twice, on {node} too", instance.seen.name));
            }
        }
    }

    /// It never ran there for anybody and is wanted elsewhere now: a node that was cut off may make it all the same, and
    /// destroys it when it hears. What a failover has superseded runs on where nobody can be told, and is stopped then.
    fn is_outdated(&self, at: &At) -> bool {
        let outdated = |row: &Placement| row.desired == "absent" && !row.ever_ran || row.role == "superseded";
        self.rows.placements.get(at).is_some_and(outdated)
    }

    /// A snapshot holds the stamp of its own time, until the instance is stamped anew.
    fn is_going_back(&self, at: &At) -> bool {
        self.rows.placements.get(at).is_some_and(|row| matches!(row.licence, Some(Licence::Restore { .. })))
    }

    fn by_agent(&mut self, node: &str, before: Option<&SimInstance>, after: Option<&SimInstance>) {
        let stamp = |instance: Option<&SimInstance>| instance.and_then(|instance| instance.seen.stamp.clone());
        let (was, is) = (stamp(before), stamp(after));
        let name = before.or(after).map(|instance| instance.seen.name.clone()).unwrap_or_default();
        if let Some(before) = before
            && was.as_ref().is_none_or(|stamp| stamp.fleet.to_string() != self.rows.fleet)
        {
            let uuid = before.seen.unclaimed.clone().unwrap_or_default();
            if !self.adoptable.contains(&(node.to_owned(), uuid)) {
                self.wrong(Invariant::I6, format!("{node}: {name} is not ours and was touched"));
            }
        }
        if after.is_some() && is.is_none() && (before.is_none() || was.is_some()) {
            self.wrong(Invariant::I6, format!("{node}: {name} was left without a stamp"));
        }
        if let (Some(was), Some(is)) = (&was, &is)
            && was.order.id == is.order.id
            && is.order.generation < was.order.generation
            && !self.is_going_back(&(is.order.id.to_string(), node.to_owned()))
        {
            let text = format!("{node}: {name} went back from {} to {}", was.order.generation, is.order.generation);
            self.wrong(Invariant::I4, text);
        }
        if let (None, Some(is)) = (before, &is)
            && is.order.copy_pass.is_none()
            && self.ran.contains(&(is.order.id.to_string(), node.to_owned()))
        {
            self.wrong(Invariant::I8, format!("{node}: {name} ran before and was made anew, empty"));
        }
        let (None, Some(was)) = (after, was) else { return };
        let torn = was.order.copy_pass.is_some() && was.copied.is_none();
        let ordered = self.absent.get(&(was.order.id.to_string(), node.to_owned()));
        if !torn && ordered.is_none_or(|generation| *generation <= was.order.generation.0) {
            let text = format!("{node}: {name} at {} was destroyed, ordered {ordered:?}", was.order.generation);
            self.wrong(Invariant::I5, text);
        }
    }
}

fn is_adoption(row: &Placement) -> bool {
    matches!(row.licence, Some(Licence::Adopt { .. }))
}

/// What is promised of a node; what is being adopted was there anyway.
fn reserved(rows: &Rows, node: &str) -> [u64; 3] {
    let here = rows.placements.iter().filter(|((_, on), row)| on == node && !is_adoption(row));
    here.fold([0; 3], |[cpu, memory, disk], (_, row)| {
        [cpu + row.cpu_millis, memory + row.memory_bytes, disk + row.disk_bytes]
    })
}
