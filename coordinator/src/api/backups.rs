//! CreateBackup, ListBackups, VerifyBackup, DeleteBackup: intents written, rows shown. Writing and removing are the
//! business of `backups`, whoever waits; only a verification lives as long as its caller.

use std::{sync::Arc, time::Instant};

use containarium_proto::{
    backup::{BackupData, BackupFacts, BackupId, BackupKey, BackupWork, MANIFEST_FORMAT},
    convert,
    error::{Reason, Refusal},
    keys::Key,
    names::{NodeName, Username},
    spec::{Desired, Observed},
    v1,
};
use futures::StreamExt;
use tonic::Status;

use super::{
    moves::refuse_moving,
    parse,
    patience::until_heard,
    power::refuse_away,
    progress::{Goal, Look, ProgressStream, Said, remark, step},
    refuse::{field, no_such_user},
    view,
};
use crate::{
    availability::Availability,
    backups, clock,
    node::{Drivers, live},
    reign::Reign,
    store::{BackupPhase, BackupRow, EventKind, Held, Policy, Reader},
};

pub(super) fn id(text: &str) -> Result<BackupId, Refusal> {
    text.parse().map_err(|error: containarium_proto::backup::BackupIdError| {
        field(error.to_string(), "take it from 'containarium backup list'")
    })
}

pub(super) fn render(row: &BackupRow) -> v1::Backup {
    let BackupFacts { owner, id, container, fleet, spec, image_alias, keys, created_at, .. } = &row.facts;
    v1::Backup {
        user: owner.to_string(),
        id: id.to_string(),
        created_at_unix_millis: *created_at,
        size_bytes: row.data.as_ref().map_or(0, |data| data.size.0),
        sha256: row.data.as_ref().map(|data| data.sha256.to_string()).unwrap_or_default(),
        spec: Some(convert::spec_to_wire(spec)),
        image_alias: image_alias.clone(),
        key_fingerprints: keys.iter().map(Key::fingerprint).collect(),
        container_id: container.to_string(),
        node: row.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        fleet_id: fleet.to_string(),
    }
}

/// Writes that a backup is made, unless that was asked for before, and gives what to wait for.
pub(super) async fn create(reign: &Reign, request: &v1::CreateBackupRequest) -> Result<Written, Refusal> {
    let (owner, request) = (parse::user(&request.user)?, parse::request_id(&request.request_id)?);
    reign.first_round().await;
    until_heard(reign, &owner).await?;
    let mut tx = reign.write().await?;
    let mine = tx.reader().backups(Some(&owner)).await?;
    if let Some(same) = mine.iter().find(|row| row.request == Some(request)) {
        return Ok(Written::of(same));
    }
    let rows = tx.reader().of_owner(&owner).await?;
    let held = view::principal(rows).pop().ok_or_else(|| no_such_user(owner.as_str()))?;
    refuse_unfit(reign, &held)?;
    if let Some(other) = mine.iter().find(|row| row.phase == BackupPhase::Writing) {
        return Err(backups::busy(other));
    }
    let now = clock::now();
    let row = BackupRow {
        facts: facts(reign, &held, BackupId::from_time(now, |id| mine.iter().any(|row| row.facts.id == *id)), now),
        data: None,
        node: Some(held.placement.node.clone()),
        phase: BackupPhase::Writing,
        request: Some(request),
        reason: String::new(),
    };
    tx.insert_backup(&row).await?;
    let message = format!("{} by {}", row.facts.id, held.placement.node);
    tx.note(&owner.container_name(), EventKind::BackupBegun, &message).await?;
    tx.commit().await?;
    reign.wake_streams();
    Ok(Written::of(&row))
}

fn facts(reign: &Reign, held: &Held, id: BackupId, now: i64) -> BackupFacts {
    BackupFacts {
        format: MANIFEST_FORMAT,
        id,
        owner: held.container.owner.clone(),
        container: held.container.id,
        fleet: reign.fleet,
        spec: held.placement.spec.clone(),
        image_alias: held.container.image_alias.clone(),
        labels: held.container.labels.clone(),
        keys: held.container.keys.clone(),
        created_at: now,
    }
}

fn refuse_unfit(reign: &Reign, held: &Held) -> Result<(), Refusal> {
    let (row, owner, name) = (&held.placement, &held.container.owner, held.container.owner.container_name());
    if row.desired == Desired::Absent {
        return Err(Refusal::new(Reason::Busy, format!("{name} is being deleted")).hint("see 'containarium list'"));
    }
    refuse_moving(held)?;
    let sights = reign.sights();
    refuse_away(held, &sights)?;
    if !backups::with_store(reign).contains(&row.node) {
        let message = format!("{} has no place for backups", row.node);
        return Err(Refusal::new(Reason::Refused, message).hint(
            "start its agent with --backup-store file:///FOLDER, which all servers share, or gs://BUCKET/PREFIX",
        ));
    }
    match live::observed(held, &sights) {
        Observed::Running | Observed::Stopped => Ok(()),
        _ => {
            let view = view::view(held.clone(), &sights);
            let message = format!("{name} is {:?}: only what runs, or was stopped, is backed up", view.phase);
            Err(Refusal::new(Reason::Busy, message).hint(format!("see 'containarium info {owner}'")))
        }
    }
}

/// Waits until a backup is kept.
pub(super) struct Written {
    key: BackupKey,
    said: Said,
}

impl Written {
    fn of(row: &BackupRow) -> Self {
        Self { key: row.key(), said: Said::default() }
    }

    fn failed(&self, why: &str) -> Refusal {
        let name = self.key.owner.container_name();
        Refusal::new(Reason::ContainerFailed, format!("no backup of {name} was made: {why}"))
            .hint(format!("see 'containarium events --subject {name}'; what was written of it is removed"))
    }
}

impl Goal for Written {
    async fn look(&mut self, reign: &Reign) -> Result<Look, Refusal> {
        let mut reader = reign.store.reader().await?;
        let row = reader.backup(&self.key).await?;
        let name = self.key.owner.container_name();
        let Some(row) = row else {
            let last = reader.last_event(&name, &[EventKind::BackupFailed, EventKind::BackupDeleted]).await?;
            return Err(self.failed(&last.map(|event| event.message).unwrap_or_default()));
        };
        drop(reader);
        match row.phase {
            BackupPhase::Removing => Err(self.failed(&row.reason)),
            BackupPhase::Kept => {
                let message = format!("backup {} of {name} is written", self.key.id);
                Ok(Look::Done(v1::Progress { backup: Some(render(&row)), ..remark(message) }))
            }
            BackupPhase::Writing => {
                let said = reign.backing_up.step(&self.key).map(|at| step(at.index, at.total, at.title));
                if let Some(look) = said.and_then(|progress| self.said.news(progress)) {
                    return Ok(look);
                }
                let away = row.node.filter(|node| live::availability(node, &reign.sights()) == Availability::Offline);
                Ok(match away {
                    Some(node) => {
                        let message = format!("{node} went away: it is written when the node is back");
                        Look::Done(v1::Progress { pending: true, ..remark(message) })
                    }
                    None => Look::Wait(None),
                })
            }
        }
    }
}

/// Those that are whole.
pub(super) async fn list(reign: &Reign, request: &v1::ListBackupsRequest) -> Result<v1::ListBackupsResponse, Refusal> {
    let owner = match request.user.as_str() {
        "" => None,
        user => Some(parse::user(user)?),
    };
    let rows = reign.store.reader().await?.backups(owner.as_ref()).await?;
    let kept = rows.iter().filter(|row| row.kept().is_some());
    Ok(v1::ListBackupsResponse { backups: kept.map(render).collect() })
}

pub(super) fn no_backup(owner: &Username) -> Refusal {
    Refusal::new(Reason::NotFound, format!("{owner} has no backup")).hint("see 'containarium backup list'")
}

pub(super) fn no_such_backup(key: &BackupKey) -> Refusal {
    let BackupKey { owner, id } = key;
    Refusal::new(Reason::NotFound, format!("{owner} has no backup {id}"))
        .hint(format!("see 'containarium backup list {owner}'"))
}

/// One that is whole.
pub(super) async fn kept(reign: &Reign, request: &v1::VerifyBackupRequest) -> Result<BackupRow, Refusal> {
    let owner = parse::user(&request.user)?;
    if request.id.is_empty() {
        return newest(&mut reign.store.reader().await?, &owner).await?.ok_or_else(|| no_backup(&owner));
    }
    let key = BackupKey { owner, id: id(&request.id)? };
    let row = reign.store.reader().await?.backup(&key).await?;
    row.filter(|row| row.kept().is_some()).ok_or_else(|| no_such_backup(&key))
}

/// The newest of a user's that is whole.
pub(super) async fn newest<C>(reader: &mut Reader<C>, owner: &Username) -> Result<Option<BackupRow>, Refusal>
where
    C: std::ops::DerefMut<Target = sqlx::AnyConnection> + Send,
{
    let rows = reader.backups(Some(owner)).await?;
    Ok(rows.into_iter().find(|row| row.kept().is_some()))
}

/// Reads it to its end, and says how far that is.
pub(super) fn verify(reign: Arc<Reign>, drivers: Arc<Drivers>, row: BackupRow) -> ProgressStream {
    let check = Check::new(reign, drivers, row);
    futures::stream::unfold(Some(check), |check| async move {
        let mut check = check?;
        match check.next().await {
            Ok(Some(progress)) => Some((Ok(progress), Some(check))),
            Ok(None) => {
                let message = format!("backup {} is whole", check.row.key());
                Some((Ok(v1::Progress { backup: Some(render(&check.row)), ..remark(message) }), None))
            }
            Err(refusal) => Some((Err(Status::from(refusal)), None)),
        }
    })
    .boxed()
}

/// Has a node compare a backup with its checksum. The node goes on by itself when nobody asks any more, and tells whoever
/// asks next.
pub(super) struct Check {
    reign: Arc<Reign>,
    drivers: Arc<Drivers>,
    pub(super) row: BackupRow,
    until: Instant,
    said: Said,
    /// Who does it.
    node: Option<NodeName>,
}

impl Check {
    pub(super) fn new(reign: Arc<Reign>, drivers: Arc<Drivers>, row: BackupRow) -> Self {
        let until = Instant::now() + reign.config.timings.stream_limit;
        Self { reign, drivers, row, until, said: Said::default(), node: None }
    }

    pub(super) fn reign(&self) -> &Arc<Reign> {
        &self.reign
    }

    /// The next thing to say; none: it is whole.
    pub(super) async fn next(&mut self) -> Result<Option<v1::Progress>, Refusal> {
        let Some(data) = self.row.kept().cloned() else { return Err(no_such_backup(&self.row.key())) };
        self.reign.first_round().await;
        while Instant::now() < self.until {
            match self.ask(&data).await? {
                BackupWork::Done(_) => return Ok(None),
                BackupWork::Failed { error, permanent: true } => {
                    return Err(Refusal::new(Reason::BackupDamaged, error)
                        .hint("nothing was changed; see 'containarium backup list' for others"));
                }
                BackupWork::Failed { error, permanent: false } => {
                    return Err(Refusal::new(Reason::NodeUnavailable, error).hint("nothing was changed; try again"));
                }
                BackupWork::Running(at) => {
                    if let Some(Look::Say(progress)) = self.said.news(remark(format!("verifying: {}", at.title))) {
                        return Ok(Some(progress));
                    }
                }
            }
        }
        Err(Refusal::new(Reason::Busy, "the backup is still being verified")
            .hint("repeat the command: it goes on where it is"))
    }

    async fn ask(&mut self, data: &BackupData) -> Result<BackupWork, Refusal> {
        let able = backups::with_store(&self.reign);
        let still = self.node.as_ref().filter(|node| able.contains(node));
        let writer = self.row.node.as_ref().filter(|node| able.contains(node));
        let node = still.or(writer).or(able.first()).cloned().ok_or_else(backups::no_store)?;
        let unavailable = |why: String| {
            Refusal::new(Reason::NodeUnavailable, format!("{node} cannot verify the backup: {why}"))
                .hint("nothing was changed; try again when it answers")
        };
        let client = self.drivers.client(&node).ok_or_else(|| unavailable("it has no driver yet".to_owned()))?;
        let work = client.check_backup(&self.row.key(), data).await.map_err(|error| unavailable(error.to_string()))?;
        self.node = Some(node);
        Ok(work)
    }
}

/// Writes that a backup is removed.
pub(super) async fn delete(reign: &Reign, request: &v1::DeleteBackupRequest) -> Result<Removed, Refusal> {
    let key = BackupKey { owner: parse::user(&request.user)?, id: id(&request.id)? };
    reign.first_round().await;
    let mut tx = reign.write().await?;
    let row = tx.reader().backup(&key).await?.ok_or_else(|| no_such_backup(&key))?;
    match row.phase {
        BackupPhase::Writing => return Err(backups::busy(&row)),
        BackupPhase::Removing => {}
        BackupPhase::Kept => {
            if backups::with_store(reign).is_empty() {
                return Err(backups::no_store());
            }
            tx.drop_backup(&key, "").await?;
            tx.commit().await?;
            reign.wake_streams();
        }
    }
    Ok(Removed { key, asked_at: Instant::now() })
}

/// Waits until nothing is left of it in the store.
pub(super) struct Removed {
    key: BackupKey,
    asked_at: Instant,
}

impl Goal for Removed {
    async fn look(&mut self, reign: &Reign) -> Result<Look, Refusal> {
        let give_up_at = self.asked_at + reign.config.timings.pending_after;
        if reign.store.reader().await?.backup(&self.key).await?.is_none() {
            return Ok(Look::Done(remark(format!("backup {} is removed", self.key))));
        }
        if Instant::now() < give_up_at {
            return Ok(Look::Wait(Some(give_up_at)));
        }
        let message = "recorded; it is removed when a server reaches the store again".to_owned();
        Ok(Look::Done(v1::Progress { pending: true, ..remark(message) }))
    }
}

/// What was lost with a node that was given up and is neither restored nor deleted, with what it could be restored from.
pub(super) async fn lost_with(reign: &Reign, node: &NodeName) -> Result<Vec<v1::LostContainer>, Refusal> {
    let mut reader = reign.store.reader().await?;
    if reader.node(node).await?.is_none_or(|row| row.policy != Policy::Retired) {
        return Ok(Vec::new());
    }
    let mut lost = Vec::new();
    for held in reader.on_node(node).await?.into_iter().filter(|held| held.placement.is_home()) {
        let newest_backup = newest(&mut reader, &held.container.owner).await?.as_ref().map(render);
        let replication = &held.container.replication;
        let replica_as_of_unix_millis = replication.as_of.filter(|_| replication.node.is_some()).unwrap_or_default();
        let user = held.container.owner.to_string();
        lost.push(v1::LostContainer { user, newest_backup, replica_as_of_unix_millis });
    }
    lost.sort_by(|a, b| a.user.cmp(&b.user));
    Ok(lost)
}
