//! Replicas: a second copy of a container on another node, refreshed again and again from a snapshot, by the same means
//! as a move. Everything that must be remembered is in the rows; one loop looks at them, and a task for each hand-over
//! between two nodes. It must never start a replica: only a failover does, and that is an operator's word.
//!
//! ```text
//! replicate on ─► place ─► pass 1 ─► whole ─(every 15 m)─► pass 2 ─► whole ─► ...
//!                                       └─ failover: the replica goes back to the last whole pass and is the home;
//!                                          the old home is superseded: stopped when it is back, and kept
//! ```

mod act;
mod plan;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use containarium_proto::{
    ids::{ContainerId, Generation},
    names::NodeName,
    node::{CopyKind, CopyPass},
    spec::Observed,
};
use tokio::task::JoinSet;

use self::plan::{Around, Step};
use crate::{
    clock,
    moving::Side,
    node::{
        Drivers,
        live::{self, Sights},
    },
    reign::Reign,
    store::{Held, Policy, StoreError},
};

/// Without any change, everything is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Passes at a time that one node gives, or takes: users work on the same disks.
const PASSES_PER_NODE: usize = 2;

/// What earlier looks have done of one container; only so that nothing is asked too often.
#[derive(Debug, Default)]
struct Tried {
    generation: Generation,
    offers: u32,
    not_before: Option<Instant>,
    cramped_until: Option<Instant>,
    under_way: bool,
}

/// A hand-over between two nodes that has ended.
type Handed = (ContainerId, Result<(), Failure>);
type Failure = Box<dyn Error + Send + Sync>;

/// Looks after all replicas. Never ends; its tasks end with it.
pub(crate) async fn run(reign: &Arc<Reign>, drivers: &Arc<Drivers>) -> Infallible {
    let mut changes = reign.changes();
    let mut tried: BTreeMap<ContainerId, Tried> = BTreeMap::new();
    let mut tasks: JoinSet<Handed> = JoinSet::new();
    reign.first_round().await;
    loop {
        changes.mark_unchanged();
        if let Err(error) = look(reign, drivers, &mut tried, &mut tasks).await {
            tracing::error!(error = &error as &dyn Error, "replicas could not be looked after, will be repeated");
        }
        // Every change of the fleet wakes us, and few of them are ours.
        tokio::time::sleep(reign.config.timings.retry_min).await;
        tokio::select! {
            _ = changes.changed() => {}
            Some(ended) = tasks.join_next() => match ended {
                Ok((id, outcome)) => handed(&mut tried, id, outcome),
                Err(error) => tracing::error!(%error, "a hand-over's task died; it is taken up again"),
            },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        if tasks.is_empty() {
            // One that died took its id along.
            tried.values_mut().for_each(|tried| tried.under_way = false);
        }
    }
}

fn handed(tried: &mut BTreeMap<ContainerId, Tried>, id: ContainerId, outcome: Result<(), Failure>) {
    if let Some(tried) = tried.get_mut(&id) {
        tried.under_way = false;
    }
    if let Err(error) = outcome {
        tracing::warn!(container = %id, error = &*error as &dyn Error, "a replica was not refreshed, will be repeated");
    }
}

async fn look(
    reign: &Arc<Reign>,
    drivers: &Arc<Drivers>,
    tried: &mut BTreeMap<ContainerId, Tried>,
    tasks: &mut JoinSet<Handed>,
) -> Result<(), StoreError> {
    let mut reader = reign.store.reader().await?;
    let all = reader.with_replicas().await?;
    let policies: BTreeMap<NodeName, Policy> =
        reader.nodes().await?.into_iter().map(|node| (node.name, node.policy)).collect();
    drop(reader);
    let sights = reign.sights();
    tried.retain(|id, tried| tried.under_way || all.iter().any(|rows| rows[0].container.id == *id));
    let mut busy = busy_nodes(&all, &sights);
    for rows in &all {
        let tried = tried.entry(rows[0].container.id).or_default();
        let (Some(home), replica) = act::sides(rows) else { continue };
        let policy = replica.and_then(|held| policies.get(&held.placement.node)).copied().unwrap_or(Policy::Active);
        let step = planned(home, replica, (&sights, policy), tried);
        match step {
            Step::Wait => {}
            Step::Offer(pass) => {
                let Some(replica) = replica else { continue };
                if tried.may_offer() && take_places(&mut busy, home, replica) {
                    tried.offered(&reign.config.timings);
                    let (reign, drivers, both) = (reign.clone(), drivers.clone(), (home.clone(), replica.clone()));
                    tasks.spawn(async move {
                        let id = both.0.container.id;
                        (id, offer(&reign, &drivers, (&both.0, &both.1), pass).await)
                    });
                }
            }
            Step::Withdraw if !tried.may_offer() => {}
            Step::Withdraw => {
                tried.offered(&reign.config.timings);
                let (reign, drivers, rows) = (reign.clone(), drivers.clone(), rows.clone());
                tasks.spawn(async move { (rows[0].container.id, withdraw(&reign, &drivers, &rows).await) });
            }
            step => {
                if !act::change(reign, rows, &step).await? {
                    tried.cramped_until = Some(Instant::now() + reign.config.timings.retry_max);
                }
            }
        }
    }
    Ok(())
}

fn planned(home: &Held, replica: Option<&Held>, (sights, policy): (&Sights, Policy), tried: &mut Tried) -> Step {
    let observed = |held: &Held| live::observed(held, sights);
    let (at_home, at_replica) = (observed(home), replica.map(observed));
    let side = |held, observed| Side { held, observed, availability: live::availability(node_of(held), sights) };
    let replica = replica.zip(at_replica.as_ref()).map(|(held, observed)| side(held, observed));
    tried.renew(replica);
    let cramped = tried.cramped_until.is_some_and(|until| Instant::now() < until);
    let around = Around { now: clock::now(), policy, offers: tried.offers, cramped };
    match plan::next(side(home, &at_home), replica, around) {
        // Where there is no room, there is none a second later.
        Step::Place if cramped => Step::Wait,
        step => step,
    }
}

fn node_of(held: &Held) -> &NodeName {
    &held.placement.node
}

/// How many passes each node gives or takes at the moment.
fn busy_nodes(all: &[Vec<Held>], sights: &Sights) -> BTreeMap<NodeName, usize> {
    let mut busy = BTreeMap::new();
    for rows in all {
        let (Some(home), Some(replica)) = act::sides(rows) else { continue };
        if matches!(live::observed(replica, sights), Observed::Converging { .. }) {
            *busy.entry(node_of(home).clone()).or_default() += 1;
            *busy.entry(node_of(replica).clone()).or_default() += 1;
        }
    }
    busy
}

fn take_places(busy: &mut BTreeMap<NodeName, usize>, home: &Held, replica: &Held) -> bool {
    let nodes = [node_of(home), node_of(replica)];
    if nodes.iter().any(|node| busy.get(node).is_some_and(|passes| *passes >= PASSES_PER_NODE)) {
        return false;
    }
    for node in nodes {
        *busy.entry(node.clone()).or_default() += 1;
    }
    true
}

impl Tried {
    /// Counts anew for each order.
    fn renew(&mut self, replica: Option<Side<'_>>) {
        let Some(replica) = replica else { return };
        let generation = replica.held.placement.generation;
        if self.generation != generation {
            *self =
                Self { generation, under_way: self.under_way, cramped_until: self.cramped_until, ..Self::default() };
        }
    }

    fn may_offer(&self) -> bool {
        !self.under_way && self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    /// The next one waits longer each time: an offer that is not taken up says nothing of why.
    fn offered(&mut self, timings: &crate::config::Timings) {
        let wait = timings.retry_max.saturating_mul(1 << self.offers.min(5));
        self.not_before = Some(Instant::now() + wait);
        self.offers += 1;
        self.under_way = true;
    }
}

async fn offer(
    reign: &Reign,
    drivers: &Drivers,
    (home, replica): (&Held, &Held),
    pass: CopyPass,
) -> Result<(), Failure> {
    let (from, to) = (&home.placement, &replica.placement);
    let node = reign.store.reader().await?.node(&from.node).await?.ok_or("the home's node is not known any more")?;
    let giving = drivers.client(&from.node).ok_or("the home's node has no driver")?;
    let taking = drivers.client(&to.node).ok_or("the replica's node has no driver")?;
    let what = (CopyKind::Replica, pass, false);
    let offer = giving.offer_copy((from.container, from.generation), what, node.host()).await?;
    taking.receive_copy((to.container, to.generation), offer).await?;
    tracing::info!(%pass, source = %from.node, target = %to.node, "a pass of a replica was handed over");
    Ok(())
}

async fn withdraw(reign: &Reign, drivers: &Drivers, rows: &[Held]) -> Result<(), Failure> {
    let (Some(home), _) = act::sides(rows) else { return Ok(()) };
    let client = drivers.client(node_of(home)).ok_or("the home's node has no driver")?;
    client.withdraw_copy(home.container.id, CopyKind::Replica).await?;
    act::change(reign, rows, &Step::Withdraw).await?;
    Ok(())
}
