//! CreateContainer: one fenced transaction that places it, then a stream until ssh works. Who asks twice gets the same
//! container; who leaves changes nothing; what does not fit is refused with every node's reason and never queued.

use std::time::Instant;

use containarium_proto::{
    error::{Reason, Refusal},
    ids::ContainerId,
    names::{NodeName, Username},
    spec::{Desired, Observed, Spec},
    v1,
};

use super::{
    allow,
    certified::{self, CertificateWait, Certified},
    parse::Create,
    progress::{AccessWait, Goal, Look, Reach, Said, agent_step, remark, step},
    render, view,
};
use crate::{
    availability::Availability,
    clock,
    image::{self, Chosen},
    lifetime,
    node::live::{self, Sights, availability},
    placement::{self, Candidate, Demand, Fit, Resources, Verdict},
    placing,
    reign::Reign,
    store::{ContainerRow, EventKind, Held, Lifetime, PlacementRow, Replication, Snapshotting, Ttl, WriteTx},
};

/// Places it; gives the container, new or of the same request.
pub(super) async fn place(reign: &Reign, create: &Create) -> Result<ContainerId, Refusal> {
    reign.first_round().await;
    let mut tx = reign.write().await?;
    let same = tx.reader().of_request(create.request).await?;
    if let Some(held) = same.first() {
        if held.container.request_hash == create.hash {
            return Ok(held.container.id);
        }
        let message = format!("request id {} was used for another create before", create.request);
        return Err(Refusal::new(Reason::InvalidArgument, message).hint("use a new request id for a new request"));
    }
    refuse_taken(&mut tx, &create.owner).await?;
    let let_in = allow::containers(&mut tx, &create.allow_from).await?;
    let sights = reign.sights();
    let (chosen, verdicts) = judge(reign, &mut tx, create, &sights).await?;
    let (verdict, fit) = choose(create, &verdicts)?;
    let ttl = create.ttl.map_or(Ttl::Off, |ttl| lifetime::starting(clock::now(), ttl, &reign.config.lifetimes));
    let id = insert(&mut tx, (create, ttl), chosen, verdict, fit).await?;
    if !create.allow_from.is_empty() {
        tx.set_allow_from(id, &let_in).await?;
        allow::note(&mut tx, &create.owner, &create.allow_from).await?;
    }
    tx.commit().await?;
    reign.wake_all();
    Ok(id)
}

/// Where it would go, and why; changes nothing.
pub(super) async fn dry_run(reign: &Reign, create: &Create) -> Result<v1::Progress, Refusal> {
    reign.first_round().await;
    let mut tx = reign.write().await?;
    refuse_taken(&mut tx, &create.owner).await?;
    allow::containers(&mut tx, &create.allow_from).await?;
    let (chosen, verdicts) = judge(reign, &mut tx, create, &reign.sights()).await?;
    let message = match choose(create, &verdicts) {
        Ok((verdict, fit)) => {
            format!("would be placed on {} at {} with image {}", verdict.node, fit.address, chosen.alias)
        }
        Err(refusal) => refusal.message,
    };
    Ok(v1::Progress { verdicts: render::verdicts(&verdicts, create.node.as_ref()), ..remark(message) })
}

pub(super) async fn refuse_taken(tx: &mut WriteTx, owner: &Username) -> Result<(), Refusal> {
    let rows = tx.reader().of_name(&owner.container_name()).await?;
    let Some(held) = view::principal(rows).pop() else { return Ok(()) };
    let (holder, node) = (&held.container.owner, &held.placement.node);
    let refuse = |message: String| Err(Refusal::new(Reason::AlreadyExists, message));
    if holder != owner {
        let name = owner.container_name();
        let message = format!("{owner}'s container would be called {name}, as {holder}'s container is already");
        return refuse(message).map_err(|r| r.hint("choose a user name that differs in more than '_' and '-'"));
    }
    if held.placement.desired == Desired::Absent {
        return refuse(format!("{owner}'s container is still being deleted"))
            .map_err(|r| r.hint("try again when 'containarium list' no longer shows it"));
    }
    refuse(format!("{owner} already has a container on {node}"))
        .map_err(|r| r.hint(format!("see 'containarium info {owner}'")))
}

pub(super) fn refuse_foreign(owner: &Username, sights: &Sights) -> Result<(), Refusal> {
    for (node, sight) in sights {
        let foreign = sight.report.iter().flat_map(|report| &report.foreign_users);
        if foreign.into_iter().any(|name| name == owner.as_str()) {
            let message = format!("user name '{owner}' belongs to an account of {node} that is not ours");
            return Err(Refusal::new(Reason::AlreadyExists, message)
                .hint(format!("choose another name, or remove that account from {node}")));
        }
    }
    Ok(())
}

async fn judge(
    reign: &Reign,
    tx: &mut WriteTx,
    create: &Create,
    sights: &Sights,
) -> Result<(Chosen, Vec<Verdict>), Refusal> {
    refuse_foreign(&create.owner, sights)?;
    let (nodes, claims) = tx.reader().nodes_and_claims().await?;
    let candidates = placing::candidates(&nodes, &claims, sights);
    if candidates.is_empty() {
        return Err(Refusal::new(Reason::NoCapacity, "the fleet has no nodes yet")
            .hint("add one with 'containarium node add NAME HOST:PORT'"));
    }
    if let Some(node) = &create.node
        && candidates.iter().all(|c| c.name != *node)
    {
        return Err(super::refuse::no_such_node(node.as_str()));
    }
    let (resources, labels) = (resources(create), create.labels.clone());
    let mut demand = Demand { resources, cpu: create.cpu.clone(), image: None, labels };
    let chosen = resolve(create, &candidates).map_err(|known| {
        let verdicts = placement::judge(&demand, &candidates, &reign.config.overcommit);
        refuse_image(create, &known, &verdicts)
    })?;
    demand.image = Some(chosen.fingerprint.clone());
    Ok((chosen, placement::judge(&demand, &candidates, &reign.config.overcommit)))
}

/// The pinned node's images if there is one, else everybody's.
fn resolve(create: &Create, candidates: &[Candidate]) -> Result<Chosen, Vec<String>> {
    let asked = candidates.iter().filter(|c| create.node.as_ref().is_none_or(|node| c.name == *node));
    image::resolve(&create.image, asked.map(|c| c.images.as_slice()))
}

fn refuse_image(create: &Create, known: &[String], verdicts: &[Verdict]) -> Refusal {
    if known.is_empty() {
        let message = format!("no node has reported an image yet: {}", placing::reasons(verdicts));
        return Refusal::new(Reason::NoCapacity, message).hint("see 'containarium node list'");
    }
    let place = create.node.as_ref().map_or_else(|| "on any node".to_owned(), |node| format!("on {node}"));
    Refusal::new(Reason::NotFound, format!("there is no image '{}' {place}", create.image))
        .hint(format!("known images: {}", known.join(", ")))
}

fn resources(create: &Create) -> Resources {
    Resources {
        cpu_millis: u64::from(create.cpu.reserved_millis()),
        memory_bytes: create.memory.0,
        disk_bytes: create.disk.0,
    }
}

fn choose<'a>(create: &Create, verdicts: &'a [Verdict]) -> Result<(&'a Verdict, &'a Fit), Refusal> {
    let best = placement::chosen(verdicts, create.node.as_ref()).and_then(|v| Some((v, v.fit.as_ref().ok()?)));
    let Some(best) = best else {
        let asked = |v: &&Verdict| create.node.as_ref().is_none_or(|node| v.node == *node);
        let of_interest: Vec<_> = verdicts.iter().filter(asked).cloned().collect();
        let why = placing::reasons(&of_interest);
        tracing::warn!(owner = %create.owner, why, "not placed");
        let (message, hint) = match &create.node {
            Some(_) => (why, "leave --node out, or see 'containarium node list'"),
            None => (
                format!("no node takes {}'s container: {why}", create.owner),
                match create.labels.is_empty() {
                    true => "ask for less, delete containers, or add a node; nothing was queued",
                    false => "see 'containarium node label list', ask for less, or add a node; nothing was queued",
                },
            ),
        };
        return Err(Refusal::new(Reason::NoCapacity, message).hint(hint));
    };
    Ok(best)
}

async fn insert(
    tx: &mut WriteTx,
    (create, ttl): (&Create, Ttl),
    chosen: Chosen,
    verdict: &Verdict,
    fit: &Fit,
) -> Result<ContainerId, crate::store::StoreError> {
    let (id, node, name) = (ContainerId::generate(), &verdict.node, create.owner.container_name());
    let lifetime = Lifetime { ttl, idle_stop: create.idle_stop };
    let (by, request) = ((&create.owner, create.keys.clone()), (create.request, create.hash.clone()));
    tx.insert_container(&ContainerRow {
        pinned: create.node.is_some(),
        labels: create.labels.clone(),
        lifetime,
        snapshots: Snapshotting { schedule: create.snapshots, last_at: None },
        replication: Replication { every: create.replicate, ..Replication::default() },
        ..ContainerRow::new(id, by, chosen.alias, request)
    })
    .await?;
    let spec = Spec {
        cpu: create.cpu.clone(),
        memory: create.memory,
        disk: create.disk,
        image: chosen.fingerprint,
        autostart: create.autostart,
        restarts: 0,
        fenced: create.replicate.is_some(),
    };
    let access_revision = tx.bump_access().await?;
    let row = PlacementRow { access_revision, ..PlacementRow::new(id, (node.clone(), fit.address), spec) };
    tx.insert_placement(&row).await?;
    tx.note(&name, EventKind::ContainerCreated, &format!("for {}", create.owner)).await?;
    let load = verdict.load_permille();
    let placed = format!("on {node} at {}, load {}.{}%", fit.address, load / 10, load % 10);
    tx.note(&name, EventKind::ContainerPlaced, &placed).await?;
    Ok(id)
}

/// Waits until ssh works from every server that answers, and asks nothing.
pub(super) struct Created {
    id: ContainerId,
    said: Said,
    said_node: Option<NodeName>,
    accounts: AccessWait,
    certificates: CertificateWait,
    away_since: Option<Instant>,
}

impl Created {
    pub(super) fn new(id: ContainerId) -> Self {
        Self {
            id,
            said: Said::default(),
            said_node: None,
            accounts: AccessWait::default(),
            certificates: CertificateWait::default(),
            away_since: None,
        }
    }

    fn placed(&mut self, held: &Held, total: u32) -> Option<Look> {
        let (node, address) = (&held.placement.node, held.placement.address);
        let before = self.said_node.replace(node.clone());
        let message = match before {
            Some(before) if before == *node => return None,
            Some(before) => format!("{before} went away: placed on {node} at {address}"),
            None => format!("placed on {node} at {address}"),
        };
        self.said.news(step(1, total, message))
    }

    /// The end, or why not yet.
    async fn finish(&mut self, reign: &Reign, held: Held, sights: &Sights) -> Result<Look, Refusal> {
        let total = reign.agent_steps() + 2;
        let say = |message| step(total, total, message);
        let (beside, more) = match self.certificates.look(reign, (&held, sights), &mut self.said, say).await? {
            Certified::NotYet(look) => return Ok(*look),
            Certified::Enough(beside, more) => (beside, more),
        };
        let row = &held.placement;
        let (message, pending) = match self.accounts.look(reign, &held.container.owner, row.access_revision) {
            Reach::Waiting(nodes, until) => {
                let message = format!("waiting for ssh access on {nodes}");
                return Ok(self.said.news(say(message)).unwrap_or(Look::Wait(Some(until))));
            }
            Reach::All => ("ssh access on every server".to_owned(), false),
            Reach::Missing(nodes) => (format!("it runs, but ssh does not work yet through {nodes}"), true),
        };
        let container = Some(render::container(&view::view(held, sights)));
        let message = certified::with(message, beside);
        Ok(Look::Done(v1::Progress { container, pending: pending || more, ..say(message) }))
    }

    /// Its node does not answer: it may be placed elsewhere, or come back.
    fn away(&mut self, reign: &Reign, held: Held, sights: &Sights) -> Look {
        let since = *self.away_since.get_or_insert_with(Instant::now);
        let give_up_at = since + reign.config.timings.pending_after;
        let node = held.placement.node.clone();
        if Instant::now() < give_up_at {
            let message = format!("{node} does not answer: waiting for it");
            return self.said.news(remark(message)).unwrap_or(Look::Wait(Some(give_up_at)));
        }
        let message = format!("{node} does not answer, and no other node takes it: it goes on when the node is back");
        let container = Some(render::container(&view::view(held, sights)));
        Look::Done(v1::Progress { container, pending: true, ..remark(message) })
    }
}

impl Goal for Created {
    async fn look(&mut self, reign: &Reign) -> Result<Look, Refusal> {
        let sights = reign.sights();
        let rows = reign.store.reader().await?.of_container(self.id).await?;
        let Some(held) = rows.into_iter().find(|h| h.placement.is_home()) else {
            return Err(Refusal::new(Reason::Busy, "it was deleted while it was being created")
                .hint("see 'containarium events'"));
        };
        if let Some(look) = self.placed(&held, reign.agent_steps() + 2) {
            return Ok(look);
        }
        let user = held.container.owner.clone();
        if held.placement.desired != Desired::Running {
            return Err(Refusal::new(Reason::Busy, "it was stopped while it was being created")
                .hint(format!("'containarium start {user}' goes on with it")));
        }
        match live::observed(&held, &sights) {
            Observed::Running => return self.finish(reign, held, &sights).await,
            Observed::Failed { error, permanent: true } => {
                return Err(Refusal::new(Reason::ContainerFailed, error).hint(format!(
                    "see 'containarium info {user}'; 'containarium delete {user}' makes room for another try"
                )));
            }
            Observed::Failed { error, permanent: false } => {
                if let Some(look) = self.said.news(remark(format!("failed, trying again: {error}"))) {
                    return Ok(look);
                }
            }
            Observed::Converging { step: at } => {
                reign.learn_agent_steps(at.total);
                if let Some(look) = self.said.news(agent_step(at, (1, 1))) {
                    return Ok(look);
                }
            }
            Observed::Unknown
            | Observed::Stopped
            | Observed::Absent
            | Observed::AwaitingCopy
            | Observed::AwaitingWord => {}
        }
        match availability(&held.placement.node, &sights) {
            Availability::Preempting | Availability::Suspect | Availability::Offline => {
                Ok(self.away(reign, held, &sights))
            }
            Availability::Unknown | Availability::Online => {
                self.away_since = None;
                Ok(Look::Wait(None))
            }
        }
    }
}
