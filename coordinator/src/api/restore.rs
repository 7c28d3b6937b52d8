//! RestoreBackup: a backup is verified, then one transaction writes that a container's data come from it; then a stream
//! until ssh works. Where the container is, where it goes, and whether there is one at all, make the difference only in
//! which rows that transaction writes. Until it is written nothing was changed, and a container that exists keeps its keys.

use std::sync::Arc;

use containarium_proto::{
    backup::{BackupData, BackupId, BackupKey, Origin},
    error::{Reason, Refusal},
    ids::{ContainerId, Generation, RequestId},
    keys::KeySet,
    names::{NodeName, Username},
    sizes::Bytes,
    spec::{Desired, Observed, Spec},
    v1,
};
use futures::StreamExt;
use tonic::Status;

use super::{
    backups::{self, Check},
    create::{refuse_foreign, refuse_taken},
    lifetime::refuse_expired,
    moves::refuse_moving,
    parse,
    power::refuse_away,
    progress::{self, Goal, Look, ProgressStream},
    refuse::{field, no_such_node},
    settle::Settled,
    view,
};
use crate::{
    backups as under_way, clock,
    node::{Drivers, live},
    placement::{self, Demand, Fit, Resources, Verdict},
    placing,
    reign::Reign,
    store::{
        BackupRow, ContainerRow, EventKind, Held, MovePhase, MoveRow, PlacementRow, Policy, Role, Undo, WriteTx,
        next_generation,
    },
};

/// A restore that could succeed.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    request: RequestId,
    owner: Username,
    /// None: the newest.
    id: Option<BackupId>,
    to: Option<NodeName>,
    replace: bool,
    keys: KeySet,
}

pub(super) fn parse(request: &v1::RestoreBackupRequest) -> Result<Wanted, Refusal> {
    let keys = KeySet::from_recorded(request.ssh_keys.iter().map(String::as_str));
    Ok(Wanted {
        request: parse::request_id(&request.request_id)?,
        owner: parse::user(&request.user)?,
        id: Some(request.id.as_str()).filter(|id| !id.is_empty()).map(backups::id).transpose()?,
        to: Some(request.to.as_str()).filter(|node| !node.is_empty()).map(parse::node).transpose()?,
        replace: request.replace,
        keys: keys.map_err(|e| field(format!("ssh key: {e}"), "give --ssh-key with a public key file"))?,
    })
}

/// Everything that is refused is refused before the backup is read.
pub(super) async fn restore(
    reign: Arc<Reign>,
    drivers: Arc<Drivers>,
    wanted: Wanted,
) -> Result<ProgressStream, Refusal> {
    reign.first_round().await;
    let mut tx = reign.write().await?;
    if let Some(goal) = asked_before(&mut tx, &wanted).await? {
        return Ok(progress::follow(reign.clone(), goal));
    }
    let backup = backup(&mut tx, &wanted).await?;
    plan(&reign, &mut tx, &wanted, &backup).await?;
    drop(tx);
    let check = Check::new(reign.clone(), drivers, backup);
    Ok(futures::stream::unfold(Stage::Verifying(Box::new((check, wanted))), next).boxed())
}

/// How far the command is.
enum Stage {
    Verifying(Box<(Check, Wanted)>),
    Following(ProgressStream),
    Ended,
}

async fn next(stage: Stage) -> Option<(Result<v1::Progress, Status>, Stage)> {
    match stage {
        Stage::Verifying(both) => {
            let (mut check, wanted) = *both;
            match check.next().await {
                Ok(Some(progress)) => Some((Ok(progress), Stage::Verifying(Box::new((check, wanted))))),
                Ok(None) => match order(check.reign(), &wanted, &check.row).await {
                    Ok(goal) => {
                        let mut stream = progress::follow(check.reign().clone(), goal);
                        stream.next().await.map(|item| (item, Stage::Following(stream)))
                    }
                    Err(refusal) => Some((Err(refusal.into()), Stage::Ended)),
                },
                Err(refusal) => Some((Err(refusal.into()), Stage::Ended)),
            }
        }
        Stage::Following(mut stream) => stream.next().await.map(|item| (item, Stage::Following(stream))),
        Stage::Ended => None,
    }
}

async fn backup(tx: &mut WriteTx, wanted: &Wanted) -> Result<BackupRow, Refusal> {
    let owner = &wanted.owner;
    match &wanted.id {
        Some(id) => {
            let key = BackupKey { owner: owner.clone(), id: id.clone() };
            let row = tx.reader().backup(&key).await?.filter(|row| row.kept().is_some());
            row.ok_or_else(|| backups::no_such_backup(&key))
        }
        None => backups::newest(&mut tx.reader(), owner).await?.ok_or_else(|| backups::no_backup(owner)),
    }
}

/// Its answer was lost: a repeated request is no new one.
async fn asked_before(tx: &mut WriteTx, wanted: &Wanted) -> Result<Option<Restored>, Refusal> {
    let rows = tx.reader().of_owner(&wanted.owner).await?;
    let ours = |held: &&Held| held.placement.origin.as_ref().is_some_and(|origin| origin.restore == wanted.request);
    Ok(rows.iter().filter(|held| held.placement.is_home()).find(ours).map(|held| Restored::of(&held.placement, wanted)))
}

/// What the transaction will write.
enum Plan {
    /// There is no container.
    New { node: NodeName, fit: Fit },
    /// Where it is.
    Here(Box<Held>),
    /// On another node; what is on the one where it is goes when it answers there. `lost`: nothing is there.
    Elsewhere { held: Box<Held>, node: NodeName, fit: Fit, lost: bool },
}

async fn plan(reign: &Reign, tx: &mut WriteTx, wanted: &Wanted, backup: &BackupRow) -> Result<Plan, Refusal> {
    let owner = &wanted.owner;
    if under_way::with_store(reign).is_empty() {
        return Err(under_way::no_store());
    }
    let nodes = tx.reader().nodes().await?;
    if let Some(to) = &wanted.to
        && nodes.iter().all(|node| node.name != *to)
    {
        return Err(no_such_node(to.as_str()));
    }
    let rows = tx.reader().of_owner(owner).await?;
    let Some(held) = view::principal(rows).pop().filter(|held| held.placement.is_home()) else {
        refuse_taken(tx, owner).await?;
        refuse_foreign(owner, &reign.sights())?;
        keys(wanted, backup)?;
        let (node, fit) = choose(reign, tx, wanted, &backup.facts.spec, None).await?;
        return Ok(Plan::New { node, fit });
    };
    let lost = nodes.iter().any(|node| node.name == held.placement.node && node.policy == Policy::Retired);
    refuse_busy(reign, tx, wanted, (&held, lost)).await?;
    let here = &held.placement.node;
    if !lost && wanted.to.as_ref().is_none_or(|to| to == here) {
        let (needs, has) = (backup.facts.spec.disk, held.placement.spec.disk);
        if needs > has {
            let message = format!("the backup is of a disk of {needs}, {owner}'s has {has}");
            return Err(Refusal::new(Reason::Refused, message)
                .hint(format!("'containarium resize {owner} --disk {needs}' makes room; nothing was changed")));
        }
        return Ok(Plan::Here(Box::new(held)));
    }
    let spec = roomy(&held.placement.spec, &backup.facts.spec);
    let (node, fit) = choose(reign, tx, wanted, &spec, Some(&held)).await?;
    Ok(Plan::Elsewhere { held: Box::new(held), node, fit, lost })
}

/// The limits that are ordered now, with a disk that takes what is in the backup.
fn roomy(now: &Spec, then: &Spec) -> Spec {
    Spec { disk: Bytes(now.disk.0.max(then.disk.0)), ..now.clone() }
}

fn keys(wanted: &Wanted, backup: &BackupRow) -> Result<KeySet, Refusal> {
    let keys = if wanted.keys.is_empty() { &backup.facts.keys } else { &wanted.keys };
    if keys.is_empty() {
        let message = format!("the backup of {} has no ssh keys: nobody could log in", wanted.owner);
        return Err(Refusal::new(Reason::Refused, message).hint("give --ssh-key with a public key file"));
    }
    Ok(keys.clone())
}

async fn refuse_busy(
    reign: &Reign,
    tx: &mut WriteTx,
    wanted: &Wanted,
    (held, lost): (&Held, bool),
) -> Result<(), Refusal> {
    let (owner, name) = (&wanted.owner, wanted.owner.container_name());
    if !wanted.keys.is_empty() {
        return Err(field(
            format!("{name} exists and keeps the keys it has"),
            "leave --ssh-key out; 'containarium key' changes keys",
        ));
    }
    refuse_moving(held)?;
    if held.container.replication.node.is_some() {
        let message = format!("{name} has a replica, which is of what would be replaced");
        return Err(Refusal::new(Reason::Refused, message).hint(format!(
            "'containarium failover {owner}' goes back to it; 'containarium replicate off {owner}' does away with it"
        )));
    }
    refuse_expired(held, owner)?;
    if let Some(backup) = tx.reader().backing_up(held.container.id).await? {
        return Err(under_way::busy(&backup));
    }
    if lost {
        return Ok(());
    }
    let sights = reign.sights();
    refuse_away(held, &sights)?;
    let gone = live::observed(held, &sights) == Observed::Absent;
    if !gone && !wanted.replace {
        let message = format!("{name} exists on {}: all that is in it now would be replaced", held.placement.node);
        return Err(Refusal::new(Reason::Refused, message).hint("give --force to replace it"));
    }
    Ok(())
}

async fn choose(
    reign: &Reign,
    tx: &mut WriteTx,
    wanted: &Wanted,
    spec: &Spec,
    held: Option<&Held>,
) -> Result<(NodeName, Fit), Refusal> {
    let (nodes, claims) = tx.reader().nodes_and_claims().await?;
    let mut candidates = placing::candidates(&nodes, &claims, &reign.sights());
    if let Some(held) = held {
        let there =
            |name: &NodeName| held.placement.node == *name || held.container.replication.superseded.contains(name);
        candidates.retain(|candidate| !there(&candidate.name));
    }
    let able = under_way::with_store(reign);
    for candidate in &mut candidates {
        if !able.contains(&candidate.name) {
            candidate.problem.get_or_insert_with(|| "it has no place for backups".to_owned());
        }
    }
    let labels = held.map(|held| held.container.labels.clone()).unwrap_or_default();
    let demand = Demand { resources: Resources::of(spec), cpu: spec.cpu.clone(), image: None, labels };
    let verdicts = placement::judge(&demand, &candidates, &reign.config.overcommit);
    let best = placement::chosen(&verdicts, wanted.to.as_ref());
    let best = best.and_then(|v| Some((v.node.clone(), v.fit.as_ref().ok()?.clone())));
    best.ok_or_else(|| {
        let asked = |v: &&Verdict| wanted.to.as_ref().is_none_or(|to| v.node == *to);
        let of_interest: Vec<_> = verdicts.iter().filter(asked).cloned().collect();
        let message = format!("nowhere to restore {}: {}", wanted.owner, placing::reasons(&of_interest));
        Refusal::new(Reason::NoCapacity, message).hint("see 'containarium node list'; nothing was changed")
    })
}

/// Writes it, after the backup was found to be whole; everything is looked at once more.
async fn order(reign: &Reign, wanted: &Wanted, checked: &BackupRow) -> Result<Restored, Refusal> {
    let mut tx = reign.write().await?;
    if let Some(goal) = asked_before(&mut tx, wanted).await? {
        return Ok(goal);
    }
    let backup = tx.reader().backup(&checked.key()).await?;
    let backup = backup.filter(|row| row.data == checked.data);
    let backup = backup.ok_or_else(|| backups::no_such_backup(&checked.key()))?;
    let Some(data) = backup.kept() else { return Err(backups::no_such_backup(&backup.key())) };
    let origin = origin(wanted, &backup, data);
    let row = match plan(reign, &mut tx, wanted, &backup).await? {
        Plan::New { node, fit } => insert(&mut tx, wanted, &backup, (node, fit), origin).await?,
        Plan::Here(held) => here(&mut tx, wanted, *held, origin).await?,
        Plan::Elsewhere { held, node, fit, lost } => {
            let spec = roomy(&held.placement.spec, &backup.facts.spec);
            let arriving = elsewhere(&mut tx, wanted, &held, (node, fit), (spec, origin)).await?;
            // Of what is lost there is nothing to go back to.
            let arriving = PlacementRow { undo: arriving.undo.filter(|_| !lost), ..arriving };
            leave(&mut tx, wanted, &held, &arriving, lost).await?;
            tx.insert_placement(&arriving).await?;
            if lost {
                tx.forget_placement(held.placement.container, &held.placement.node).await?;
            }
            arriving
        }
    };
    let message = format!("from backup {} on {}", backup.facts.id, row.node);
    tx.note(&wanted.owner.container_name(), EventKind::ContainerRestoring, &message).await?;
    tx.commit().await?;
    reign.wake_all();
    Ok(Restored::of(&row, wanted))
}

fn origin(wanted: &Wanted, backup: &BackupRow, data: &BackupData) -> Origin {
    Origin { restore: wanted.request, backup: backup.facts.id.clone(), data: data.clone() }
}

async fn insert(
    tx: &mut WriteTx,
    wanted: &Wanted,
    backup: &BackupRow,
    (node, fit): (NodeName, Fit),
    origin: Origin,
) -> Result<PlacementRow, Refusal> {
    let (id, facts) = (ContainerId::generate(), &backup.facts);
    let request = (wanted.request, format!("restored from {}", backup.key()));
    tx.insert_container(&ContainerRow {
        pinned: wanted.to.is_some(),
        labels: facts.labels.clone(),
        ..ContainerRow::new(id, (&wanted.owner, keys(wanted, backup)?), facts.image_alias.clone(), request)
    })
    .await?;
    let spec = Spec { restarts: 0, fenced: false, ..facts.spec.clone() };
    let row = PlacementRow {
        access_revision: tx.bump_access().await?,
        change_request: Some(wanted.request),
        origin: Some(origin),
        ..PlacementRow::new(id, (node, fit.address), spec)
    };
    tx.insert_placement(&row).await?;
    Ok(row)
}

/// On its own node: what is there stays, and runs, until the new one is whole beside it.
async fn here(tx: &mut WriteTx, wanted: &Wanted, held: Held, origin: Origin) -> Result<PlacementRow, Refusal> {
    let row = held.placement;
    let next = PlacementRow {
        desired: Desired::Running,
        generation: row.generation.next(),
        change_request: Some(wanted.request),
        licence: None,
        undo: Some(row.undo.clone().unwrap_or(Undo { origin: row.origin.clone() })),
        origin: Some(origin),
        ..row
    };
    tx.change_order(&next).await?;
    Ok(next)
}

async fn elsewhere(
    tx: &mut WriteTx,
    wanted: &Wanted,
    held: &Held,
    (node, fit): (NodeName, Fit),
    (spec, origin): (Spec, Origin),
) -> Result<PlacementRow, Refusal> {
    let row = &held.placement;
    let rows = tx.reader().of_container(row.container).await?;
    Ok(PlacementRow {
        node,
        desired: Desired::Running,
        // Above the order that the other node gets in the same transaction.
        generation: next_generation(&rows).next(),
        reserved: Resources::of(&spec),
        spec,
        address: fit.address,
        observed: Observed::Unknown,
        observed_generation: Generation(0),
        ever_ran: false,
        access_revision: tx.bump_access().await?,
        change_request: Some(wanted.request),
        role: Role::Home,
        drift: Vec::new(),
        licence: None,
        undo: Some(Undo { origin: row.origin.clone() }),
        origin: Some(origin),
        ..row.clone()
    })
}

/// The old home makes way: with a node that is lost it is forgotten; else it is kept, stopped, as in a move that starts on
/// its target, until the new one has answered.
async fn leave(tx: &mut WriteTx, wanted: &Wanted, held: &Held, to: &PlacementRow, lost: bool) -> Result<(), Refusal> {
    let row = &held.placement;
    let generation = row.generation.next();
    if lost {
        // I1: no longer wanted there, and no longer served.
        tx.change_order(&PlacementRow { generation, desired: Desired::Absent, ..row.clone() }).await?;
        return Ok(());
    }
    let leaving = PlacementRow { generation, desired: Desired::Stopped, role: Role::Leaving, ..row.clone() };
    tx.change_order(&leaving).await?;
    let now = clock::now();
    tx.insert_move(&MoveRow {
        container: row.container,
        source: row.node.clone(),
        target: to.node.clone(),
        phase: MovePhase::Starting,
        resume: Desired::Running,
        request: wanted.request,
        started_at: now,
        stopped_at: Some(now),
        answered_at: None,
        reason: String::new(),
    })
    .await?;
    Ok(())
}

/// Waits until ssh to the restored one works.
pub(super) struct Restored {
    settled: Settled,
    wanted: Wanted,
}

impl Restored {
    fn of(row: &PlacementRow, wanted: &Wanted) -> Self {
        let from = row.origin.as_ref().map(|origin| origin.backup.to_string()).unwrap_or_default();
        let done = format!("{} is restored from backup {from} on {}", wanted.owner.container_name(), row.node);
        let settled = Settled::new(row, done).with_access(row.access_revision);
        Self { settled, wanted: wanted.clone() }
    }
}

impl Goal for Restored {
    async fn look(&mut self, reign: &Reign) -> Result<Look, Refusal> {
        let mut reader = reign.store.reader().await?;
        let rows = reader.of_owner(&self.wanted.owner).await?;
        let home = rows.iter().find(|held| held.placement.is_home());
        let origin = home.and_then(|held| held.placement.origin.as_ref());
        if origin.is_some_and(|origin| origin.restore == self.wanted.request) {
            drop(reader);
            return self.settled.look(reign).await;
        }
        let name = self.wanted.owner.container_name();
        let kinds = [EventKind::ContainerRestoreFailed, EventKind::ContainerMoveCancelled];
        let told = reader.last_event(&name, &kinds).await?.map(|event| event.message).unwrap_or_default();
        Err(Refusal::new(Reason::ContainerFailed, format!("{name} was not restored: {told}"))
            .hint(format!("see 'containarium events --subject {name}'")))
    }
}
