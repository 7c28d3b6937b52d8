//! The event log: every change of state, written in the transaction that makes it, bounded in length. It must never be
//! read to find out what is true now.

use containarium_proto::VERSION;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::{
    StoreError, WriteTx, failed,
    rows::{signed, text},
};

/// A year of a busy fleet (750 containers), some 20 MB.
const KEPT: i64 = 100_000;
/// Old events go in batches, so that no one write is long.
const PRUNE_BATCH: i64 = 1_000;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) at: i64,
    pub(crate) subject: String,
    pub(crate) kind: String,
    pub(crate) message: String,
}

macro_rules! kinds {
    ($($name:ident = $text:literal,)*) => {
        /// What happened. The words are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum EventKind { $($name,)* }

        impl EventKind {
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

kinds! {
    ContainerCreated = "container.created",
    ContainerPlaced = "container.placed",
    ContainerReplaced = "container.replaced",
    ContainerRunning = "container.running",
    ContainerStopped = "container.stopped",
    ContainerFailed = "container.failed",
    ContainerLost = "container.lost",
    ContainerStarting = "container.starting",
    ContainerStopping = "container.stopping",
    ContainerRestarting = "container.restarting",
    ContainerResizing = "container.resizing",
    ContainerKeys = "container.keys",
    ContainerProtected = "container.protected",
    ContainerUnprotected = "container.unprotected",
    ContainerMoving = "container.moving",
    ContainerMoved = "container.moved",
    ContainerMoveCancelled = "container.move-cancelled",
    ContainerDrifted = "container.drifted",
    ContainerRepairing = "container.repairing",
    ContainerRepaired = "container.repaired",
    ContainerAdopted = "container.adopted",
    ContainerRecalled = "container.recalled",
    ContainerReplication = "container.replication",
    ContainerReplicated = "container.replicated",
    ContainerFailedOver = "container.failed-over",
    ContainerDeleting = "container.deleting",
    ContainerDeleted = "container.deleted",
    ContainerRestoring = "container.restoring",
    ContainerRestoreFailed = "container.restore-failed",
    BackupBegun = "backup.begun",
    BackupKept = "backup.kept",
    BackupFailed = "backup.failed",
    BackupDeleted = "backup.deleted",
    BackupFound = "backup.found",
    ContainerLifetime = "container.lifetime",
    ContainerExpiring = "container.expiring",
    ContainerExpired = "container.expired",
    ContainerKept = "container.kept",
    ContainerIdle = "container.idle",
    ContainerSnapshot = "container.snapshot",
    ContainerSnapshotRemoved = "container.snapshot-removed",
    ContainerSnapshotFailed = "container.snapshot-failed",
    ContainerAllowFrom = "container.allow-from",
    ContainerShared = "container.shared",
    NodeAdded = "node.added",
    NodeOnline = "node.online",
    NodeSuspect = "node.suspect",
    NodeOffline = "node.offline",
    NodePreempting = "node.preempting",
    NodeRebooted = "node.rebooted",
    NodeNetwork = "node.network",
    NodeActive = "node.active",
    NodeCordoned = "node.cordoned",
    NodeImage = "node.image",
    NodeImageFailed = "node.image-failed",
    NodeDraining = "node.draining",
    NodeDrained = "node.drained",
    NodeStuck = "node.drain-stuck",
    NodeRetired = "node.retired",
    AccessFailed = "access.failed",
    AccessSynced = "access.synced",
    AccessEnded = "access.session-ended",
    AccessUnbanned = "access.unbanned",
    FleetImage = "fleet.image",
    FleetLed = "fleet.led",
    FleetAuthority = "fleet.ssh-authority",
    NodeCertified = "node.certified",
    NodeSettings = "node.settings",
    NodeLabels = "node.labels",
    NodeRepaired = "node.repaired",
}

pub(super) fn from_row(row: &AnyRow) -> Result<Event, StoreError> {
    Ok(Event {
        id: text(row, "id")?,
        at: signed(row, "at")?,
        subject: text(row, "subject")?,
        kind: text(row, "kind")?,
        message: text(row, "message")?,
    })
}

impl WriteTx {
    /// Notes a change; `subject` is a container's name, a node's, or empty for the fleet.
    pub(crate) async fn note(&mut self, subject: &str, kind: EventKind, message: &str) -> Result<(), StoreError> {
        tracing::info!(subject, kind = kind.as_str(), message, "event");
        let id = self.next_event_id().await?;
        let insert = sqlx::query("INSERT INTO event (id, at, subject, kind, message) VALUES ($1, $2, $3, $4, $5)")
            .bind(id.to_string())
            .bind(chrono::Utc::now().timestamp_millis())
            .bind(subject)
            .bind(kind.as_str())
            .bind(message);
        insert.execute(self.connection()).await.map(drop).map_err(failed("noting an event"))
    }

    /// Sorts after all that are there, also when this machine's clock is behind that of an earlier leader: whoever
    /// follows the log goes on after the last id seen. Writers come one after another, so none is given twice.
    async fn next_event_id(&mut self) -> Result<Uuid, StoreError> {
        let now = Uuid::now_v7();
        let newest = self.reader().newest_event().await?;
        Ok(newest.filter(|newest| *newest >= now).map_or(now, |newest| Uuid::from_u128(newest.as_u128() + 1)))
    }

    /// The first event of a reign.
    pub(crate) async fn note_reign(&mut self, term: u64) -> Result<(), StoreError> {
        self.note("", EventKind::FleetLed, &format!("term {term} began, version {VERSION}")).await
    }

    /// Removes one batch of the oldest beyond the bound; gives how many went.
    pub(crate) async fn prune_events(&mut self) -> Result<u64, StoreError> {
        self.prune_events_beyond(KEPT).await
    }

    pub(super) async fn prune_events_beyond(&mut self, kept: i64) -> Result<u64, StoreError> {
        let sql = "DELETE FROM event WHERE id IN (SELECT id FROM event ORDER BY id DESC LIMIT $1 OFFSET $2)";
        let done = sqlx::query(sql).bind(PRUNE_BATCH).bind(kept).execute(self.connection()).await;
        done.map(|d| d.rows_affected()).map_err(failed("pruning events"))
    }
}
