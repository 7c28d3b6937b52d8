//! What the API and the node drivers share while one term lasts: the store with its fence, what is known of each node,
//! and wake-ups. It must never hold a task: tasks hold it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use containarium_proto::{
    ids::{AccessRevision, FleetId, Term},
    names::{NodeName, Username},
    node::Sender,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    backups::Board,
    config::Config,
    error::CoordinatorError,
    image_notes::ImageNotes,
    node::live::{Access, NodeLive, Sights},
    policy::FleetPolicy,
    roster::Roster,
    store::{Fence, Store, StoreError, WriteTx},
};

/// Steps that an agent takes for a create, until one has told: only for the `n` of the first `[k/n]`.
const USUAL_AGENT_STEPS: u32 = 3;

/// A reign every second takes longer than the universe is old to get there.
const MOST_TERM: u64 = 1 << 62;

/// One term of one coordinator.
pub(crate) struct Reign {
    pub(crate) store: Store,
    pub(crate) fence: Fence,
    pub(crate) fleet: FleetId,
    pub(crate) config: Config,
    pub(crate) backing_up: Board,
    /// Ends streams with a word: the process stops, or no longer leads.
    pub(crate) stopping: CancellationToken,
    /// What is being done about images that nodes lack, for people.
    pub(crate) image_notes: ImageNotes,
    /// The accounts that all nodes must have.
    pub(crate) roster: Roster,
    /// What the network of all nodes must be; none: not read yet in this reign.
    pub(crate) policy: watch::Sender<Option<Arc<FleetPolicy>>>,
    lives: RwLock<BTreeMap<NodeName, Arc<NodeLive>>>,
    changes: watch::Sender<u64>,
    /// Whether every node was tried once: found out by whoever changes something, not by all that wait for it.
    round: watch::Sender<bool>,
    began: Instant,
    over: CancellationToken,
    why_over: Mutex<Option<CoordinatorError>>,
    agent_steps: AtomicU32,
}

impl Reign {
    pub(crate) fn new(
        store: Store,
        fence: Fence,
        fleet: FleetId,
        config: Config,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            fence,
            fleet,
            config,
            backing_up: Board::default(),
            stopping,
            image_notes: ImageNotes::default(),
            roster: Roster::default(),
            policy: watch::Sender::new(None),
            lives: RwLock::default(),
            changes: watch::Sender::new(0),
            round: watch::Sender::new(false),
            began: Instant::now(),
            over: CancellationToken::new(),
            why_over: Mutex::default(),
            agent_steps: AtomicU32::new(USUAL_AGENT_STEPS),
        })
    }

    pub(crate) fn sender(&self) -> Sender {
        Sender { fleet: self.fleet, term: self.fence.term() }
    }

    /// Begins a write. Finding a newer term ends the reign.
    pub(crate) async fn write(&self) -> Result<WriteTx, StoreError> {
        let begun = self.store.write(&self.fence).await;
        if let Err(StoreError::NotLeader { term }) = &begun {
            self.end(CoordinatorError::Deposed { term: term.0 });
        }
        begun
    }

    /// A node has seen a later term than ours. If the lease is ours all the same, our database is older than the fleet,
    /// and the next term must be above what was seen.
    pub(crate) async fn outrun_by(&self, seen: Term) {
        // Beyond it there would soon be no next term; no fleet ever comes there by itself.
        if seen.0 >= MOST_TERM {
            tracing::error!(%seen, "a node claims to have seen a term that cannot be");
            return;
        }
        if seen > self.fence.term() && self.write().await.is_ok() {
            self.end(CoordinatorError::Behind { term: self.fence.term().0, seen: seen.0 });
        }
    }

    /// Nodes must be given the accounts anew, whatever they have.
    pub(crate) fn forget_accounts(&self) {
        for live in self.lives.read().unwrap_or_else(PoisonError::into_inner).values() {
            live.set_access(Access::default());
            live.accounts_changed.notify_one();
        }
    }

    /// Ends the reign; the first cause is the one that is told.
    pub(crate) fn end(&self, cause: CoordinatorError) {
        self.why_over.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
        self.over.cancel();
    }

    /// Resolves when the reign must end.
    pub(crate) async fn ended(&self) -> CoordinatorError {
        self.over.cancelled().await;
        let cause = self.why_over.lock().unwrap_or_else(PoisonError::into_inner).take();
        cause.unwrap_or_else(|| CoordinatorError::Deposed { term: self.fence.term().0 })
    }

    /// What is known of a node; made at the first call for it.
    pub(crate) fn live(&self, name: &NodeName) -> Arc<NodeLive> {
        let mut lives = self.lives.write().unwrap_or_else(PoisonError::into_inner);
        lives.entry(name.clone()).or_insert_with(|| Arc::new(NodeLive::new(name.clone()))).clone()
    }

    /// A retired node: nobody waits for it any more.
    pub(crate) fn forget(&self, name: &NodeName) {
        self.lives.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// What is known of every node at this moment.
    pub(crate) fn sights(&self) -> Sights {
        let lives = self.lives.read().unwrap_or_else(PoisonError::into_inner);
        lives.iter().map(|(name, live)| (name.clone(), live.sight())).collect()
    }

    /// For streams: resolves at every change of anything. Mark it seen *before* reading the truth.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Something changed: streams read again.
    pub(crate) fn wake_streams(&self) {
        let all_tried = self.all_tried();
        self.round.send_if_modified(|before| std::mem::replace(before, all_tried) != all_tried);
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The database changed: every driver and every stream reads it again.
    pub(crate) fn wake_all(&self) {
        for live in self.lives.read().unwrap_or_else(PoisonError::into_inner).values() {
            live.orders_changed.notify_one();
            live.accounts_changed.notify_one();
            live.policy_changed.notify_one();
            live.identities_changed.notify_one();
        }
        self.wake_streams();
    }

    fn all_tried(&self) -> bool {
        self.lives.read().unwrap_or_else(PoisonError::into_inner).values().all(|live| live.was_tried())
    }

    /// I10: waits until every node was tried once, or long enough that waiting for a dead one is no excuse.
    pub(crate) async fn first_round(&self) {
        let mut round = self.round.subscribe();
        if self.all_tried() {
            return;
        }
        let until = self.began + self.config.timings.first_round;
        tokio::select! {
            _ = round.wait_for(|over| *over) => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }

    /// Nodes that answer but do not have a user's account as of `revision`, with why if they said.
    pub(crate) fn without_access(&self, user: &Username, revision: AccessRevision) -> Vec<(NodeName, Option<String>)> {
        let mut missing = Vec::new();
        for (name, sight) in self.sights() {
            if sight.is_online() && !sight.access.serves(user, revision) {
                missing.push((name, sight.access.failures.get(user.as_str()).cloned()));
            }
        }
        missing
    }

    /// How many steps agents take for a create, as last seen.
    pub(crate) fn agent_steps(&self) -> u32 {
        self.agent_steps.load(Ordering::Relaxed)
    }

    pub(crate) fn learn_agent_steps(&self, total: u32) {
        // 0: it waits for its turn and has not counted yet.
        if total == 0 {
            return;
        }
        self.agent_steps.store(total, Ordering::Relaxed);
    }
}
