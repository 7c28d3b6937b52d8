//! What is known of one node in this reign: whether it answers, its last report, its accounts. In memory only; lost
//! with the process and learned again from the first report. It must never hold anything that only we know.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use containarium_proto::{
    ids::{AccessRevision, ContainerId, Generation},
    names::{NodeName, Username},
    node::{ContainerReport, NodeReport},
    spec::Observed,
};
use tokio::sync::Notify;

use crate::{
    availability::{Availability, Health},
    store::Held,
};

/// How far a node's accounts have come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// The incarnation that `tried` belongs to.
    pub(crate) incarnation: String,
    /// The set that was last applied, but for `failures`.
    pub(crate) tried: AccessRevision,
    /// Accounts of it that could not be made or removed, with why.
    pub(crate) failures: BTreeMap<String, String>,
}

impl Access {
    /// Whether this user's account is as of `revision`, or later.
    pub(crate) fn serves(&self, user: &Username, revision: AccessRevision) -> bool {
        self.tried >= revision && !self.failures.contains_key(user.as_str())
    }
}

/// A copy of what is known, to reason about.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    pub(crate) availability: Availability,
    /// Tried at least once in this reign, with whatever outcome.
    pub(crate) tried: bool,
    pub(crate) last_seen_at: Option<i64>,
    /// Why the last call failed, for people.
    pub(crate) problem: Option<String>,
    pub(crate) report: Option<Arc<NodeReport>>,
    pub(crate) containers: Arc<BTreeMap<ContainerId, ContainerReport>>,
    pub(crate) access: Access,
    /// Users of whose container the node knows a newer order than our database.
    pub(crate) ahead_of_us: Vec<String>,
    /// Containers of ours at rest there that our database does not know, or knows to be elsewhere.
    pub(crate) strays: Vec<Stray>,
    /// Why what its logs tell is not on record, for people.
    pub(crate) audit_problem: Option<String>,
    /// Containers with an order that its agent is too old to understand.
    pub(crate) beyond_agent: Vec<String>,
}

/// A container of ours that the database has forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stray {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) claim: Option<(Username, Ipv4Addr)>,
}

impl Sight {
    pub(crate) fn is_online(&self) -> bool {
        self.availability == Availability::Online
    }

    /// Whether it answered its last call.
    pub(crate) fn answers(&self) -> bool {
        matches!(self.availability, Availability::Online | Availability::Preempting)
    }

    /// What the node said of this very generation.
    pub(crate) fn observed(&self, id: ContainerId, generation: Generation) -> Option<&Observed> {
        self.containers.get(&id).filter(|c| c.generation == generation).map(|c| &c.observed)
    }

    /// Since when a container that runs under this very generation has not been used.
    pub(crate) fn idle_since(&self, id: ContainerId, generation: Generation) -> Option<i64> {
        let runs = |c: &&ContainerReport| c.generation == generation && c.observed == Observed::Running;
        self.containers.get(&id).filter(runs).and_then(|c| c.idle_since)
    }
}

/// What is known of every node at one moment.
pub(crate) type Sights = BTreeMap<NodeName, Sight>;

/// What is known of the wanted generation: the node's own last word, else what was durably seen.
pub(crate) fn observed(held: &Held, sights: &Sights) -> Observed {
    let row = &held.placement;
    let said = sights.get(&row.node).and_then(|sight| sight.observed(row.container, row.generation));
    said.unwrap_or_else(|| row.observed_now()).clone()
}

pub(crate) fn availability(node: &NodeName, sights: &Sights) -> Availability {
    sights.get(node).map_or(Availability::Unknown, |sight| sight.availability)
}

/// One node's place in memory, and the wake-ups of its driver. Wake-ups carry no data.
pub(crate) struct NodeLive {
    pub(crate) name: NodeName,
    pub(crate) orders_changed: Notify,
    pub(crate) accounts_changed: Notify,
    pub(crate) policy_changed: Notify,
    pub(crate) identities_changed: Notify,
    state: Mutex<State>,
}

struct State {
    health: Health,
    sight: Sight,
}

impl NodeLive {
    pub(crate) fn new(name: NodeName) -> Self {
        let sight = Sight {
            availability: Availability::Unknown,
            tried: false,
            last_seen_at: None,
            problem: None,
            report: None,
            containers: Arc::default(),
            access: Access::default(),
            ahead_of_us: Vec::new(),
            strays: Vec::new(),
            audit_problem: None,
            beyond_agent: Vec::new(),
        };
        let state = Mutex::new(State { health: Health::new(), sight });
        Self {
            name,
            orders_changed: Notify::new(),
            accounts_changed: Notify::new(),
            policy_changed: Notify::new(),
            identities_changed: Notify::new(),
            state,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sight(&self) -> Sight {
        self.state().sight.clone()
    }

    pub(crate) fn was_tried(&self) -> bool {
        self.state().sight.tried
    }

    /// If not, the next answer is news.
    pub(crate) fn answers(&self) -> bool {
        self.state().sight.answers()
    }

    /// Takes in a report that has been recorded.
    pub(crate) fn publish(&self, report: NodeReport) {
        let mut state = self.state();
        let State { health, sight } = &mut *state;
        health.answered(Instant::now(), report.preempting);
        let containers = report.containers.iter().map(|c| (c.id, c.clone())).collect();
        sight.tried = true;
        sight.last_seen_at = Some(chrono::Utc::now().timestamp_millis());
        sight.problem = None;
        sight.containers = Arc::new(containers);
        if sight.access.incarnation != report.incarnation {
            sight.access = Access {
                incarnation: report.incarnation.clone(),
                tried: report.access_revision,
                failures: BTreeMap::new(),
            };
        }
        sight.report = Some(Arc::new(report));
        sight.availability = health.state();
    }

    /// Takes in the answer to one order. A report of the same generation is at least as new: it stays.
    pub(crate) fn publish_answer(&self, answer: ContainerReport) {
        let mut state = self.state();
        let known = state.sight.containers.get(&answer.id).map(|c| c.generation);
        if known.is_none_or(|known| known < answer.generation) {
            Arc::make_mut(&mut state.sight.containers).insert(answer.id, answer);
        }
    }

    /// Notes a failed call; gives the new availability if that is a change.
    pub(crate) fn missed(&self, problem: String, offline_after: Duration) -> Option<Availability> {
        let mut state = self.state();
        let change = state.health.missed(Instant::now(), offline_after);
        state.sight.tried = true;
        state.sight.problem = Some(problem);
        state.sight.availability = state.health.state();
        change
    }

    /// Gives whether that is news.
    pub(crate) fn set_ahead_of_us(&self, users: Vec<String>) -> bool {
        let mut state = self.state();
        let news = state.sight.ahead_of_us != users;
        state.sight.ahead_of_us = users;
        news
    }

    /// Gives whether that is news.
    pub(crate) fn set_strays(&self, strays: Vec<Stray>) -> bool {
        let mut state = self.state();
        let news = state.sight.strays != strays;
        state.sight.strays = strays;
        news
    }

    /// Gives whether that is news.
    pub(crate) fn set_beyond_agent(&self, names: Vec<String>) -> bool {
        let mut state = self.state();
        let news = state.sight.beyond_agent != names;
        state.sight.beyond_agent = names;
        news
    }

    /// Gives whether that is news.
    pub(crate) fn set_audit_problem(&self, problem: Option<String>) -> bool {
        let mut state = self.state();
        let news = state.sight.audit_problem != problem;
        state.sight.audit_problem = problem;
        news
    }

    pub(crate) fn set_access(&self, access: Access) {
        self.state().sight.access = access;
    }
}
