//! The writes of a move, one transaction each. Every one reads the rows again inside and changes nothing if they have
//! moved on: a step was planned on what was true a moment ago.

use containarium_proto::{
    error::{Reason, Refusal},
    ids::{ContainerId, RequestId},
    names::NodeName,
    node::CopyPass,
    spec::{Desired, Observed},
};

use super::plan::Step;
use crate::{
    backups, clock,
    placement::{self, Demand, Fit, Resources, Verdict},
    placing,
    reign::Reign,
    store::{EventKind, Held, MovePhase, MoveRow, PlacementRow, Role, StoreError, WriteTx, next_generation},
};

/// A move that could begin.
pub(crate) struct Begin {
    pub(crate) held: Held,
    /// None: the best.
    pub(crate) to: Option<NodeName>,
    pub(crate) request: RequestId,
    /// "asked for", "jump-1 is drained"
    pub(crate) why: &'static str,
}

/// Every node's verdict on taking it, its own left out.
pub(crate) async fn judge(reign: &Reign, tx: &mut WriteTx, held: &Held) -> Result<Vec<Verdict>, StoreError> {
    let (nodes, claims) = tx.reader().nodes_and_claims().await?;
    let mut candidates = placing::candidates(&nodes, &claims, &reign.sights());
    let rows = tx.reader().of_container(held.placement.container).await?;
    let there = |name: &NodeName| rows.iter().find(|row| row.placement.node == *name);
    for candidate in &mut candidates {
        if let Some(Held { placement, .. }) = there(&candidate.name) {
            candidate.problem = Some(match placement.role {
                Role::Replica(_) => "its replica is there: 'containarium replicate' moves that".to_owned(),
                Role::Superseded => "an older copy of it is there: 'containarium failover --discard-old'".to_owned(),
                Role::Home | Role::Arriving(_) | Role::Leaving => "a copy of it is there".to_owned(),
            });
        }
    }
    candidates.retain(|candidate| candidate.name != held.placement.node);
    let row = &held.placement;
    // The copy brings its own file system: the image need not be there.
    let resources = Resources::of(&row.spec).max(row.reserved);
    let labels = held.container.labels.clone();
    let demand = Demand { resources, cpu: row.spec.cpu.clone(), image: None, labels };
    Ok(placement::judge(&demand, &candidates, &reign.config.overcommit))
}

/// Writes that a container moves, in the caller's transaction: the target's reservation, address and first order.
pub(crate) async fn begin(reign: &Reign, tx: &mut WriteTx, begin: &Begin) -> Result<MoveRow, Refusal> {
    let held = &begin.held;
    if let Some(backup) = tx.reader().backing_up(held.container.id).await? {
        return Err(backups::busy(&backup));
    }
    let verdicts = judge(reign, tx, held).await?;
    let (target, fit) = choose(begin, &verdicts)?;
    let source = &held.placement;
    let rows = tx.reader().of_container(source.container).await?;
    let stopped = source.desired == Desired::Stopped;
    let arriving = PlacementRow {
        node: target.clone(),
        desired: Desired::Stopped,
        generation: next_generation(&rows),
        reserved: Resources::of(&source.spec).max(source.reserved),
        address: fit.address,
        observed: Observed::Unknown,
        observed_generation: Default::default(),
        ever_ran: false,
        change_request: None,
        role: Role::Arriving(CopyPass::FIRST),
        drift: Vec::new(),
        licence: None,
        undo: None,
        ..source.clone()
    };
    tx.insert_placement(&arriving).await?;
    let now = clock::now();
    let row = MoveRow {
        container: source.container,
        source: source.node.clone(),
        target: target.clone(),
        // Stopped, nothing changes in it: the first pass is the last.
        phase: if stopped { MovePhase::Finishing } else { MovePhase::Copying },
        resume: source.desired,
        request: begin.request,
        started_at: now,
        stopped_at: stopped.then_some(now),
        answered_at: None,
        reason: String::new(),
    };
    tx.insert_move(&row).await?;
    let message = format!("from {} to {target}: {}", source.node, begin.why);
    tx.note(&held.container.owner.container_name(), EventKind::ContainerMoving, &message).await?;
    Ok(row)
}

fn choose<'v>(begin: &Begin, verdicts: &'v [Verdict]) -> Result<(&'v NodeName, &'v Fit), Refusal> {
    let best = placement::chosen(verdicts, begin.to.as_ref()).and_then(|v| Some((&v.node, v.fit.as_ref().ok()?)));
    best.ok_or_else(|| {
        let asked = |v: &&Verdict| begin.to.as_ref().is_none_or(|to| v.node == *to);
        let of_interest: Vec<_> = verdicts.iter().filter(asked).cloned().collect();
        let name = begin.held.container.owner.container_name();
        Refusal::new(Reason::NoCapacity, format!("nowhere to move {name}: {}", placing::reasons(&of_interest)))
            .hint("see 'containarium node list'; nothing was changed")
    })
}

/// Whether it can still be left where it is.
pub(crate) fn may_cancel(phase: MovePhase) -> bool {
    match phase {
        MovePhase::Copying | MovePhase::Stopping | MovePhase::Finishing => true,
        MovePhase::Starting | MovePhase::Cleaning | MovePhase::Cancelling => false,
    }
}

/// Writes that a container stays where it is, in the caller's transaction.
pub(crate) async fn cancel(tx: &mut WriteTx, row: &MoveRow, why: &str) -> Result<(), StoreError> {
    let rows = tx.reader().of_container(row.container).await?;
    for held in &rows {
        let placement = &held.placement;
        let next = PlacementRow { generation: placement.generation.next(), ..placement.clone() };
        match placement.role {
            Role::Arriving(_) if placement.desired != Desired::Absent => {
                tx.change_order(&PlacementRow { desired: Desired::Absent, ..next }).await?;
            }
            // It may have been told to stop.
            Role::Home if placement.desired != row.resume && placement.is_home() => {
                tx.change_order(&PlacementRow { desired: row.resume, ..next }).await?;
            }
            Role::Home | Role::Arriving(_) | Role::Leaving | Role::Replica(_) | Role::Superseded => {}
        }
    }
    tx.update_move(&MoveRow { phase: MovePhase::Cancelling, reason: why.to_owned(), ..row.clone() }).await
}

/// Carries out one planned step that is a write.
pub(super) async fn change(reign: &Reign, planned_on: &MoveRow, step: Step) -> Result<(), StoreError> {
    let mut tx = reign.write().await?;
    let reader = &mut tx.reader();
    let current = reader.move_of(planned_on.container).await?;
    let rows = reader.of_container(planned_on.container).await?;
    let Some(row) = current.filter(|current| current == planned_on) else { return Ok(()) };
    let on = |node: &NodeName| rows.iter().find(|held| held.placement.node == *node);
    let (source, target) = (on(&row.source), on(&row.target));
    match step {
        Step::Wait | Step::Offer { .. } | Step::Withdraw => return Ok(()),
        Step::NextPass(pass) => order_pass(&mut tx, target, pass).await?,
        Step::Stop => {
            if let Some(Held { placement, .. }) = source {
                let generation = placement.generation.next();
                tx.change_order(&PlacementRow { generation, desired: Desired::Stopped, ..placement.clone() }).await?;
            }
            let stopped_at = Some(clock::now());
            tx.update_move(&MoveRow { phase: MovePhase::Stopping, stopped_at, ..row }).await?;
        }
        Step::LastPass(pass) => {
            order_pass(&mut tx, target, pass).await?;
            tx.update_move(&MoveRow { phase: MovePhase::Finishing, ..row }).await?;
        }
        Step::Switch => switch(&mut tx, &row, target).await?,
        Step::SwitchBack(why) => switch_back(&mut tx, &row, (source, target), &why).await?,
        Step::Clean => {
            if let Some(Held { placement, .. }) = source {
                let generation = placement.generation.next();
                tx.change_order(&PlacementRow { generation, desired: Desired::Absent, ..placement.clone() }).await?;
            }
            let row = MoveRow { phase: MovePhase::Cleaning, answered_at: Some(clock::now()), ..row };
            tx.update_move(&row).await?;
            if let Some(target) = target {
                note_moved(&mut tx, &row, target).await?;
            }
        }
        Step::Cancel(why) => cancel(&mut tx, &row, &why).await?,
        Step::End => tx.end_move(row.container).await?,
    }
    tx.commit().await?;
    reign.wake_all();
    Ok(())
}

async fn order_pass(tx: &mut WriteTx, target: Option<&Held>, pass: CopyPass) -> Result<(), StoreError> {
    let Some(Held { placement, .. }) = target else { return Ok(()) };
    let generation = placement.generation.next();
    tx.change_order(&PlacementRow { generation, role: Role::Arriving(pass), ..placement.clone() }).await
}

/// The one moment at which its home changes.
async fn switch(tx: &mut WriteTx, row: &MoveRow, target: Option<&Held>) -> Result<(), StoreError> {
    let Some(Held { placement, .. }) = target else { return Ok(()) };
    tx.set_role(row.container, &row.source, Role::Leaving).await?;
    let home = PlacementRow {
        role: Role::Home,
        desired: row.resume,
        generation: placement.generation.next(),
        access_revision: tx.bump_access().await?,
        ever_ran: true,
        // Asked again because the answer was lost, it is done; without this it would move back.
        change_request: Some(row.request),
        ..placement.clone()
    };
    tx.change_order(&home).await?;
    tx.update_move(&MoveRow { phase: MovePhase::Starting, ..row.clone() }).await
}

async fn switch_back(
    tx: &mut WriteTx,
    row: &MoveRow,
    (source, target): (Option<&Held>, Option<&Held>),
    why: &str,
) -> Result<(), StoreError> {
    let (Some(source), Some(target)) = (source, target) else { return Ok(()) };
    let gone = PlacementRow {
        role: Role::Leaving,
        desired: Desired::Absent,
        generation: target.placement.generation.next(),
        ..target.placement.clone()
    };
    tx.change_order(&gone).await?;
    let home = PlacementRow {
        role: Role::Home,
        desired: row.resume,
        generation: source.placement.generation.next(),
        access_revision: tx.bump_access().await?,
        ..source.placement.clone()
    };
    tx.change_order(&home).await?;
    tx.update_move(&MoveRow { phase: MovePhase::Cancelling, reason: why.to_owned(), ..row.clone() }).await
}

async fn note_moved(tx: &mut WriteTx, row: &MoveRow, target: &Held) -> Result<(), StoreError> {
    let away = match (row.resume, row.stopped_at, row.answered_at) {
        (Desired::Running, Some(from), Some(to)) => {
            let millis = (to - from).max(0);
            format!("; it was away for {}.{} s", millis / 1000, millis % 1000 / 100)
        }
        _ => String::new(),
    };
    let (source, placement) = (&row.source, &target.placement);
    let message = format!("from {source} to {} at {}{away}", placement.node, placement.address);
    tx.note(&target.container.owner.container_name(), EventKind::ContainerMoved, &message).await
}

/// A cancelled move whose nodes are clean.
pub(super) async fn end(reign: &Reign, row: &MoveRow) -> Result<(), StoreError> {
    let mut tx = reign.write().await?;
    let current = tx.reader().move_of(row.container).await?;
    if current.as_ref() != Some(row) {
        return Ok(());
    }
    let rows = tx.reader().of_container(row.container).await?;
    tx.end_move(row.container).await?;
    if let Some(held) = rows.first() {
        let message = format!("it stays on {}: {}", row.source, row.reason);
        tx.note(&held.container.owner.container_name(), EventKind::ContainerMoveCancelled, &message).await?;
    }
    tx.commit().await?;
    reign.wake_all();
    Ok(())
}

/// A node will never come back: the moves that need it are ended, in the caller's transaction, with whatever is whole.
pub(crate) async fn without(tx: &mut WriteTx, container: ContainerId, lost: &NodeName) -> Result<(), StoreError> {
    let Some(row) = tx.reader().move_of(container).await? else { return Ok(()) };
    let why = format!("{lost} is lost");
    let rows = tx.reader().of_container(container).await?;
    let on = |node: &NodeName| rows.iter().find(|held| held.placement.node == *node);
    match row.phase {
        MovePhase::Copying | MovePhase::Stopping | MovePhase::Finishing => cancel(tx, &row, &why).await,
        // The copy on the source is whole, and nobody else has one.
        MovePhase::Starting if row.target == *lost => {
            switch_back(tx, &row, (on(&row.source), on(&row.target)), &why).await
        }
        MovePhase::Starting | MovePhase::Cleaning | MovePhase::Cancelling => Ok(()),
    }
}
