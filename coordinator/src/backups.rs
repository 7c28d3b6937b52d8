//! Backups that are being written or removed: one task per row, which has a node do it and asks how far it is. Everything
//! it must remember is in the rows; what the nodes do is the same however often it is asked for. It must never read or
//! write a backup itself, nor list one that is not whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use containarium_proto::{
    backup::{BackupKey, BackupWork},
    error::{Reason, Refusal},
    names::NodeName,
    spec::Step,
};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::{
    clock,
    node::{AgentClient, Drivers},
    reign::Reign,
    store::{BackupPhase, BackupRow, EventKind, Policy, StoreError},
};

/// Without any change, unfinished backups are looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A failure that may pass, such as a full disk, is tried so often; then it is told and cleared away.
const TRIES: u32 = 3;

/// How far the backups are that are being written: for those who watch, and nobody else.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<BTreeMap<BackupKey, Step>>);

impl Board {
    fn set(&self, key: &BackupKey, step: Step) -> bool {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steps.insert(key.clone(), step.clone()) != Some(step)
    }

    fn clear(&self, key: &BackupKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    pub(crate) fn step(&self, key: &BackupKey) -> Option<Step> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

/// Says that a backup is under way, to whom it is in the way of.
pub(crate) fn busy(row: &BackupRow) -> Refusal {
    let (name, since) = (row.facts.owner.container_name(), clock::shown(row.facts.created_at));
    Refusal::new(Reason::Busy, format!("{name} is busy: a backup of it is being written, since {since}"))
        .hint("try again when it is done: see 'containarium events'")
}

/// Nodes that answer and have a store, by name.
pub(crate) fn with_store(reign: &Reign) -> Vec<NodeName> {
    let has = |report: &containarium_proto::node::NodeReport| !report.backup_store.is_empty();
    let sights = reign.sights().into_iter().filter(|(_, s)| s.is_online() && s.report.as_deref().is_some_and(has));
    sights.map(|(name, _)| name).collect()
}

/// That there is no store to be asked.
pub(crate) fn no_store() -> Refusal {
    Refusal::new(Reason::Refused, "no server that answers has a place for backups")
        .hint("start the agents with --backup-store file:///FOLDER, which all servers share, or gs://BUCKET/PREFIX")
}

/// Looks after all backups that are not at rest, and fills the list from the store once. Never ends; its tasks end with it.
pub(crate) async fn run(reign: &Arc<Reign>, drivers: &Arc<Drivers>) -> Infallible {
    let mut changes = reign.changes();
    let mut tasks: JoinSet<BackupKey> = JoinSet::new();
    let (mut attended, mut scanned) = (BTreeSet::new(), false);
    reign.first_round().await;
    loop {
        changes.mark_unchanged();
        match unfinished(reign).await {
            Ok(rows) => {
                for row in rows {
                    if !attended.insert(row.key()) {
                        continue;
                    }
                    let span = tracing::info_span!("backup", key = %row.key());
                    tasks.spawn(follow(reign.clone(), drivers.clone(), row.key()).instrument(span));
                }
            }
            Err(error) => tracing::error!(error = &error as &dyn Error, "backups could not be listed"),
        }
        if !scanned {
            scanned = scan(reign, drivers).await;
        }
        tokio::select! {
            // A dropped sender ends the reign, and us with it.
            _ = changes.changed() => {}
            Some(ended) = tasks.join_next() => match ended {
                Ok(key) => { attended.remove(&key); }
                Err(error) => tracing::error!(%error, "a backup's task died; it is taken up again"),
            },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        // One that died took its key along.
        if tasks.is_empty() {
            attended.clear();
        }
    }
}

async fn unfinished(reign: &Reign) -> Result<Vec<BackupRow>, StoreError> {
    reign.store.reader().await?.unfinished_backups().await
}

/// Brings one backup to rest.
async fn follow(reign: Arc<Reign>, drivers: Arc<Drivers>, key: BackupKey) -> BackupKey {
    let timings = &reign.config.timings;
    let (mut failures, mut wait) = (0, timings.retry_min);
    loop {
        match step(&reign, &drivers, &key, &mut failures).await {
            Ok(true) => {
                reign.backing_up.clear(&key);
                reign.wake_streams();
                return key;
            }
            Ok(false) => wait = timings.retry_min,
            Err(error) => {
                tracing::warn!(error = &*error as &dyn Error, "a step of a backup failed, will be repeated");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(timings.retry_max);
            }
        }
    }
}

type Failure = Box<dyn Error + Send + Sync>;

/// True if it is at rest.
async fn step(reign: &Reign, drivers: &Drivers, key: &BackupKey, failures: &mut u32) -> Result<bool, Failure> {
    let Some(row) = reign.store.reader().await?.backup(key).await? else { return Ok(true) };
    match row.phase {
        BackupPhase::Kept => Ok(true),
        BackupPhase::Writing => write(reign, drivers, &row, failures).await,
        BackupPhase::Removing => remove(reign, drivers, &row).await,
    }
}

async fn write(reign: &Reign, drivers: &Drivers, row: &BackupRow, failures: &mut u32) -> Result<bool, Failure> {
    let (key, node) = (row.key(), row.node.as_ref().ok_or("nobody writes it")?);
    let there = reign.store.reader().await?.node(node).await?;
    if there.is_none_or(|node| node.policy == Policy::Retired) {
        return give_up(reign, &key, &format!("{node} is gone")).await;
    }
    let client = drivers.client(node).ok_or("its node has no driver")?;
    match client.write_backup(&row.facts).await? {
        BackupWork::Running(step) => {
            if reign.backing_up.set(&key, step) {
                reign.wake_streams();
            }
            Ok(false)
        }
        BackupWork::Done(data) => {
            let mut tx = reign.write().await?;
            if tx.keep_backup(&key, &data).await? {
                let message = format!("{}, {}, written by {node}", key.id, data.size);
                tx.note(&key.owner.container_name(), EventKind::BackupKept, &message).await?;
                tx.commit().await?;
            }
            Ok(true)
        }
        BackupWork::Failed { error, permanent } => {
            *failures += 1;
            tracing::warn!(error, permanent, failures, "a backup failed");
            if permanent || *failures >= TRIES {
                return give_up(reign, &key, &error).await;
            }
            tokio::time::sleep(reign.config.timings.retry_min * *failures).await;
            Ok(false)
        }
    }
}

async fn give_up(reign: &Reign, key: &BackupKey, why: &str) -> Result<bool, Failure> {
    let mut tx = reign.write().await?;
    if tx.drop_backup(key, why).await? {
        tx.note(&key.owner.container_name(), EventKind::BackupFailed, &format!("{}: {why}", key.id)).await?;
        tx.commit().await?;
        reign.wake_streams();
    }
    Ok(false)
}

/// By the node that wrote it, which may have something left of it too, or by any that answers if that one is gone.
async fn remove(reign: &Reign, drivers: &Drivers, row: &BackupRow) -> Result<bool, Failure> {
    let (key, able) = (row.key(), with_store(reign));
    let writer = row.node.as_ref().filter(|node| able.contains(node));
    let node = writer.or(able.first()).ok_or("no server that answers has a backup store")?;
    drivers.client(node).ok_or("the node has no driver")?.remove_backup(&key).await?;
    let mut tx = reign.write().await?;
    if tx.forget_backup(&key).await? {
        if row.reason.is_empty() {
            tx.note(&key.owner.container_name(), EventKind::BackupDeleted, key.id.as_str()).await?;
        }
        tx.commit().await?;
    }
    Ok(true)
}

/// What the store has and the database does not know: it was restored from an old copy, or is new. False: again later.
async fn scan(reign: &Reign, drivers: &Drivers) -> bool {
    let Some(client) = with_store(reign).first().and_then(|node| drivers.client(node)) else { return false };
    match take_in(reign, &client).await {
        Ok(0) => true,
        Ok(found) => {
            tracing::info!(found, "backups were found in the store");
            reign.wake_streams();
            true
        }
        Err(error) => {
            tracing::warn!(error = &*error as &dyn Error, "the store could not be looked through, will be repeated");
            false
        }
    }
}

async fn take_in(reign: &Reign, client: &AgentClient) -> Result<usize, Failure> {
    let known: BTreeSet<_> = reign.store.reader().await?.backups(None).await?.iter().map(BackupRow::key).collect();
    let mut found = 0;
    for key in client.stored().await?.into_iter().filter(|key| !known.contains(key)) {
        let manifest = match client.manifest(&key).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(backup = %key, error = &error as &dyn Error, "a backup in the store is left out");
                continue;
            }
        };
        let mut tx = reign.write().await?;
        if tx.reader().backup(&key).await?.is_some() {
            continue;
        }
        let row = BackupRow {
            facts: manifest.facts,
            data: Some(manifest.data),
            node: None,
            phase: BackupPhase::Kept,
            request: None,
            reason: String::new(),
        };
        tx.insert_backup(&row).await?;
        tx.note(&key.owner.container_name(), EventKind::BackupFound, key.id.as_str()).await?;
        tx.commit().await?;
        found += 1;
    }
    Ok(found)
}
