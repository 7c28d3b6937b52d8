//! Changes to containers and placements. Generations only grow, and a generation's content never changes (I4): every
//! update here either makes a new one or touches only what was observed of it.

use containarium_proto::{
    ids::{AccessRevision, ContainerId, Generation},
    keys::KeySet,
    names::NodeName,
    spec::{Desired, Observed},
};
use sqlx::Row;

use super::{
    ContainerRow, PlacementRow, StoreError, WriteTx, failed,
    rows::{desired_text, to_json},
};
use crate::placement::Resources;

fn licence(row: &PlacementRow) -> Result<String, StoreError> {
    row.licence.as_ref().map_or(Ok(String::new()), |licence| to_json("licence", licence))
}

fn some_json(column: &'static str, value: Option<&impl serde::Serialize>) -> Result<String, StoreError> {
    value.map_or(Ok(String::new()), |value| to_json(column, value))
}

fn copy_pass(row: &PlacementRow) -> i64 {
    row.role.pass().map_or(0, |pass| i64::from(pass.0.get()))
}

impl WriteTx {
    /// To be called in every transaction that changes who has an account or where it leads.
    pub(crate) async fn bump_access(&mut self) -> Result<AccessRevision, StoreError> {
        let row = sqlx::query("UPDATE fleet SET access_revision = access_revision + 1 RETURNING access_revision")
            .fetch_one(self.connection())
            .await
            .map_err(failed("counting an access change"))?;
        let revision: i64 = row.try_get("access_revision").map_err(failed("reading the access revision"))?;
        Ok(AccessRevision(revision.cast_unsigned()))
    }

    /// The next revision is above one that a node has seen.
    pub(crate) async fn raise_access(&mut self, seen: AccessRevision) -> Result<(), StoreError> {
        let sql = "UPDATE fleet SET access_revision = $1 WHERE access_revision < $1";
        let raised = sqlx::query(sql).bind(seen.next().0.cast_signed()).execute(self.connection()).await;
        raised.map(drop).map_err(failed("raising the access revision"))
    }

    pub(crate) async fn insert_container(&mut self, container: &ContainerRow) -> Result<(), StoreError> {
        self.claim(container.id, container.request_id).await?;
        let sql = "INSERT INTO container (id, owner, name, image_alias, keys, pinned, protected, request_id, \
                   request_hash, created_at, labels) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        sqlx::query(sql)
            .bind(container.id.to_string())
            .bind(container.owner.as_str())
            .bind(container.owner.container_name())
            .bind(container.image_alias.as_str())
            .bind(to_json("keys", &container.keys)?)
            .bind(i64::from(container.pinned))
            .bind(i64::from(container.protected))
            .bind(container.request_id.to_string())
            .bind(container.request_hash.as_str())
            .bind(container.created_at)
            .bind(to_json("labels", &container.labels)?)
            .execute(self.connection())
            .await
            .map_err(failed("inserting a container"))?;
        self.set_lifetime(container.id, &container.lifetime).await?;
        self.set_replication(container.id, &container.replication).await?;
        self.set_snapshotting(container.id, &container.snapshots).await
    }

    pub(crate) async fn insert_placement(&mut self, placement: &PlacementRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO placement (container_id, node, desired, generation, spec, cpu_millis, memory_bytes, \
                   disk_bytes, address, observed, observed_generation, ever_ran, access_revision, request_id, role, \
                   copy_pass, licence, origin, undo) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
                   $14, $15, $16, $17, $18, $19)";
        sqlx::query(sql)
            .bind(placement.container.to_string())
            .bind(placement.node.as_str())
            .bind(desired_text(placement.desired))
            .bind(placement.generation.0.cast_signed())
            .bind(to_json("spec", &placement.spec)?)
            .bind(placement.reserved.cpu_millis.cast_signed())
            .bind(placement.reserved.memory_bytes.cast_signed())
            .bind(placement.reserved.disk_bytes.cast_signed())
            .bind(placement.address.to_string())
            .bind(to_json("observed", &placement.observed)?)
            .bind(placement.observed_generation.0.cast_signed())
            .bind(i64::from(placement.ever_ran))
            .bind(placement.access_revision.0.cast_signed())
            .bind(placement.change_request.map(|r| r.to_string()).unwrap_or_default())
            .bind(placement.role.as_str())
            .bind(copy_pass(placement))
            .bind(licence(placement)?)
            .bind(some_json("origin", placement.origin.as_ref())?)
            .bind(some_json("undo", placement.undo.as_ref())?)
            .execute(self.connection())
            .await
            .map(drop)
            .map_err(failed("inserting a placement"))
    }

    /// Gives a placement its next order. `wanted.generation` is the new one; the row must be at the one before (I4).
    pub(crate) async fn change_order(&mut self, wanted: &PlacementRow) -> Result<(), StoreError> {
        if let Some(request) = wanted.change_request {
            self.claim(wanted.container, request).await?;
        }
        let sql = "UPDATE placement SET desired = $3, generation = $4, spec = $5, access_revision = $6, \
                   request_id = $7, cpu_millis = $8, memory_bytes = $9, disk_bytes = $10, role = $11, copy_pass = $12, \
                   ever_ran = $13, licence = $14, origin = $15, undo = $16 WHERE container_id = $1 AND node = $2 AND generation < $4";
        sqlx::query(sql)
            .bind(wanted.container.to_string())
            .bind(wanted.node.as_str())
            .bind(desired_text(wanted.desired))
            .bind(wanted.generation.0.cast_signed())
            .bind(to_json("spec", &wanted.spec)?)
            .bind(wanted.access_revision.0.cast_signed())
            .bind(wanted.change_request.map(|r| r.to_string()).unwrap_or_default())
            .bind(wanted.reserved.cpu_millis.cast_signed())
            .bind(wanted.reserved.memory_bytes.cast_signed())
            .bind(wanted.reserved.disk_bytes.cast_signed())
            .bind(wanted.role.as_str())
            .bind(copy_pass(wanted))
            .bind(i64::from(wanted.ever_ran))
            .bind(licence(wanted)?)
            .bind(some_json("origin", wanted.origin.as_ref())?)
            .bind(some_json("undo", wanted.undo.as_ref())?)
            .execute(self.connection())
            .await
            .map(drop)
            .map_err(failed("changing an order"))
    }

    /// Replaces a user's keys. Every placement of the container needs a next order with it (I4).
    pub(crate) async fn change_keys(&mut self, container: ContainerId, keys: &KeySet) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE container SET keys = $2 WHERE id = $1").bind(container.to_string());
        let update = update.bind(to_json("keys", keys)?).execute(self.connection());
        update.await.map(drop).map_err(failed("changing keys"))
    }

    /// Says whether a delete is refused from now on.
    pub(crate) async fn protect(&mut self, container: ContainerId, protected: bool) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE container SET protected = $2 WHERE id = $1").bind(container.to_string());
        let update = update.bind(i64::from(protected)).execute(self.connection());
        update.await.map(drop).map_err(failed("protecting a container"))
    }

    /// Gives back what a placement no longer needs, once its node has carried out the generation that needs less.
    pub(crate) async fn reserve_exactly(&mut self, row: &PlacementRow, exactly: Resources) -> Result<(), StoreError> {
        let sql = "UPDATE placement SET cpu_millis = $4, memory_bytes = $5, disk_bytes = $6 \
                   WHERE container_id = $1 AND node = $2 AND generation = $3";
        sqlx::query(sql)
            .bind(row.container.to_string())
            .bind(row.node.as_str())
            .bind(row.generation.0.cast_signed())
            .bind(exactly.cpu_millis.cast_signed())
            .bind(exactly.memory_bytes.cast_signed())
            .bind(exactly.disk_bytes.cast_signed())
            .execute(self.connection())
            .await
            .map(drop)
            .map_err(failed("giving back a reservation"))
    }

    /// Notes what was changed behind our back.
    pub(crate) async fn record_drift(&mut self, row: &PlacementRow, drift: &[String]) -> Result<(), StoreError> {
        let sql = "UPDATE placement SET drift = $4 WHERE container_id = $1 AND node = $2 AND generation = $3";
        let update = sqlx::query(sql)
            .bind(row.container.to_string())
            .bind(row.node.as_str())
            .bind(row.generation.0.cast_signed())
            .bind(to_json("drift", &drift)?);
        update.execute(self.connection()).await.map(drop).map_err(failed("recording a drift"))
    }

    /// Notes what was seen of one generation; false if the row has moved on to another. A licence ends with it.
    pub(crate) async fn record_observed(
        &mut self,
        (container, node): (ContainerId, &NodeName),
        generation: Generation,
        observed: &Observed,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE placement SET observed = $4, observed_generation = $3, \
                   ever_ran = CASE WHEN $5 = 1 THEN 1 ELSE ever_ran END, \
                   licence = CASE WHEN $6 = 1 THEN '' ELSE licence END, \
                   undo = CASE WHEN $6 = 1 THEN '' ELSE undo END \
                   WHERE container_id = $1 AND node = $2 AND generation = $3";
        let done = sqlx::query(sql)
            .bind(container.to_string())
            .bind(node.as_str())
            .bind(generation.0.cast_signed())
            .bind(to_json("observed", observed)?)
            .bind(i64::from(matches!(observed, Observed::Running)))
            .bind(i64::from(matches!(observed, Observed::Running | Observed::Stopped)))
            .execute(self.connection())
            .await
            .map_err(failed("recording what was observed"))?;
        Ok(done.rows_affected() == 1)
    }

    /// I7: removes a placement whose node an operator has given up.
    pub(crate) async fn forget_placement(&mut self, container: ContainerId, node: &NodeName) -> Result<(), StoreError> {
        self.raise_floor(container, node).await?;
        let sql = "DELETE FROM placement WHERE container_id = $1 AND node = $2";
        let gone = sqlx::query(sql).bind(container.to_string()).bind(node.as_str()).execute(self.connection()).await;
        gone.map_err(failed("forgetting a placement"))?;
        self.remove_if_last(container).await.map(drop)
    }

    /// Before a placement goes.
    async fn raise_floor(&mut self, container: ContainerId, node: &NodeName) -> Result<(), StoreError> {
        let sql = "UPDATE container SET generation_floor = COALESCE((SELECT generation FROM placement \
                   WHERE container_id = $1 AND node = $2 AND generation > container.generation_floor), \
                   generation_floor) WHERE id = $1";
        let raised = sqlx::query(sql).bind(container.to_string()).bind(node.as_str()).execute(self.connection()).await;
        raised.map(drop).map_err(failed("remembering a generation"))
    }

    /// The container goes with its last placement.
    async fn remove_if_last(&mut self, container: ContainerId) -> Result<bool, StoreError> {
        let sql = "DELETE FROM move WHERE container_id = $1 AND NOT EXISTS \
                   (SELECT 1 FROM placement WHERE container_id = $1)";
        let gone = sqlx::query(sql).bind(container.to_string()).execute(self.connection()).await;
        gone.map_err(failed("removing what is left of a move"))?;
        let sql = "DELETE FROM container WHERE id = $1 AND NOT EXISTS \
                   (SELECT 1 FROM placement WHERE container_id = $1)";
        let last = sqlx::query(sql).bind(container.to_string()).execute(self.connection()).await;
        Ok(last.map_err(failed("removing a container"))?.rows_affected() == 1)
    }

    /// I7: removes a placement whose node has confirmed `Absent` for this very generation, and the container with its
    /// last placement. Gives whether the placement went, and whether the container did.
    pub(crate) async fn remove_confirmed(
        &mut self,
        container: ContainerId,
        node: &NodeName,
        generation: Generation,
    ) -> Result<(bool, bool), StoreError> {
        self.raise_floor(container, node).await?;
        let sql = "DELETE FROM placement WHERE container_id = $1 AND node = $2 AND generation = $3 AND desired = $4";
        let gone = sqlx::query(sql)
            .bind(container.to_string())
            .bind(node.as_str())
            .bind(generation.0.cast_signed())
            .bind(desired_text(Desired::Absent))
            .execute(self.connection())
            .await
            .map_err(failed("removing a placement"))?;
        if gone.rows_affected() == 0 {
            return Ok((false, false));
        }
        Ok((true, self.remove_if_last(container).await?))
    }
}
