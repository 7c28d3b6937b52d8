//! Questions to the database, each one statement, so each answer is of one moment. Nothing here changes anything.

use std::{net::Ipv4Addr, ops::DerefMut};

use containarium_proto::{
    ids::{AccessRevision, ContainerId, FleetId, RequestId, Term},
    names::{NodeName, Username},
    node::Account,
};
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use super::{
    Event, EventKind, Held, NodeRow, StoreError, events, failed,
    rows::{self, number, parsed},
    shares,
};
use crate::placement::Resources;

/// Containers with their placements; `$rest` is a literal, so no statement is made of data.
macro_rules! held {
    ($rest:literal) => {
        concat!(
            "SELECT c.id, c.owner, c.image_alias, c.keys, c.pinned, c.protected, c.request_id, c.request_hash, c.created_at, c.generation_floor, ",
            "c.labels, c.guests, ",
            "p.node, p.desired, p.generation, p.spec, p.cpu_millis, p.memory_bytes, p.disk_bytes, p.address, ",
            "p.observed, p.observed_generation, p.ever_ran, p.access_revision, p.request_id AS change_request, ",
            "p.role, p.copy_pass, p.drift, p.licence, p.origin, p.undo, m.phase AS move_phase, m.source AS move_source, m.target AS move_target, ",
            "m.started_at AS move_started_at, ",
            "(SELECT string_agg(f.owner, ',') FROM allowance a JOIN container f ON f.id = a.from_id ",
            "WHERE a.container_id = c.id) AS allow_from, ",
            "c.expires_at, c.warn_at, c.expired_at, c.graced, c.kept_noted, c.idle_stop_seconds, ",
            "c.snapshot_every, c.snapshot_keep, c.snapshotted_at, ",
            "c.replicate_seconds, c.replicate_to, c.replica_pass, c.replica_as_of, c.replica_began, c.replica_problem, ",
            "(SELECT r.node FROM placement r WHERE r.container_id = c.id AND r.role = 'replica') AS replica_node, ",
            "(SELECT string_agg(o.node, ',') FROM placement o WHERE o.container_id = c.id AND o.role = 'superseded') ",
            "AS superseded_nodes ",
            "FROM container c JOIN placement p ON p.container_id = c.id LEFT JOIN move m ON m.container_id = c.id ",
            $rest
        )
    };
}

/// The fleet's own row, with the lease's term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fleet {
    pub(crate) id: FleetId,
    pub(crate) access_revision: AccessRevision,
    pub(crate) term: Term,
}

/// What placements claim of one node, all together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) node: NodeName,
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) reserved: Resources,
}

/// Reads, on a connection of its own or inside a write.
pub(crate) struct Reader<C>(C);

/// Whether what a node is to hold has changed: an order never changes without its generation (I4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holdings {
    count: u64,
    generations: u64,
    observed: u64,
}

impl<C: DerefMut<Target = AnyConnection> + Send> Reader<C> {
    pub(super) fn new(connection: C) -> Self {
        Self(connection)
    }

    /// The operator's choice for creates that name no image; none: nobody has chosen.
    pub(crate) async fn default_image(&mut self) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT default_image FROM fleet").fetch_one(&mut *self.0).await;
        let image = rows::text(&row.map_err(failed("reading the default image"))?, "default_image")?;
        Ok(Some(image).filter(|image| !image.is_empty()))
    }

    pub(super) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.0
    }

    pub(crate) async fn fleet(&mut self) -> Result<Fleet, StoreError> {
        let row = sqlx::query("SELECT f.fleet_id, f.access_revision, l.term FROM fleet f CROSS JOIN lease l")
            .fetch_one(&mut *self.0)
            .await
            .map_err(failed("reading the fleet"))?;
        Ok(Fleet {
            id: parsed(&row, "fleet_id")?,
            access_revision: AccessRevision(number(&row, "access_revision")?),
            term: Term(number(&row, "term")?),
        })
    }

    pub(crate) async fn nodes(&mut self) -> Result<Vec<NodeRow>, StoreError> {
        let found = sqlx::query("SELECT * FROM node ORDER BY name").fetch_all(&mut *self.0).await;
        found.map_err(failed("listing nodes"))?.iter().map(rows::node).collect()
    }

    pub(crate) async fn node(&mut self, name: &NodeName) -> Result<Option<NodeRow>, StoreError> {
        let found = sqlx::query("SELECT * FROM node WHERE name = $1").bind(name.as_str());
        let found = found.fetch_optional(&mut *self.0).await.map_err(failed("reading a node"))?;
        found.as_ref().map(rows::node).transpose()
    }

    /// Every container with every placement, by owner.
    pub(crate) async fn all(&mut self) -> Result<Vec<Held>, StoreError> {
        let found = sqlx::query(held!("ORDER BY c.owner")).fetch_all(&mut *self.0).await;
        found.map_err(failed("listing containers"))?.iter().map(rows::held).collect()
    }

    /// Every container that has guests, with every placement, by owner.
    pub(crate) async fn shared(&mut self) -> Result<Vec<Held>, StoreError> {
        let found = sqlx::query(held!("WHERE c.guests <> '[]' ORDER BY c.owner")).fetch_all(&mut *self.0).await;
        found.map_err(failed("listing what is shared"))?.iter().map(rows::held).collect()
    }

    /// Every container that ends or stops by itself, with every placement.
    pub(crate) async fn with_lifetime(&mut self) -> Result<Vec<Held>, StoreError> {
        let found = sqlx::query(held!("WHERE c.expires_at > 0 OR c.idle_stop_seconds > 0 ORDER BY c.id"));
        let found = found.fetch_all(&mut *self.0).await.map_err(failed("listing lifetimes"))?;
        found.iter().map(rows::held).collect()
    }

    /// Every container with a schedule of snapshots, with every placement.
    pub(crate) async fn with_snapshots(&mut self) -> Result<Vec<Held>, StoreError> {
        let found = sqlx::query(held!("WHERE c.snapshot_every <> '' ORDER BY c.id"));
        let found = found.fetch_all(&mut *self.0).await.map_err(failed("listing schedules"))?;
        found.iter().map(rows::held).collect()
    }

    /// Every container with a replica, or with what is left of one, with every placement.
    pub(super) async fn replicated(&mut self) -> Result<Vec<Held>, StoreError> {
        let found = sqlx::query(held!(
            "WHERE c.replicate_seconds > 0 OR c.replica_pass > 0 OR EXISTS \
             (SELECT 1 FROM placement q WHERE q.container_id = c.id AND q.role = 'replica') ORDER BY c.id, p.node"
        ));
        let found = found.fetch_all(&mut *self.0).await.map_err(failed("listing replicas"))?;
        found.iter().map(rows::held).collect()
    }

    /// The first `size` containers of the owners after `after`, by owner, each with every placement.
    pub(crate) async fn page(&mut self, after: &str, size: u32) -> Result<Vec<Held>, StoreError> {
        let sql =
            held!("WHERE c.id IN (SELECT id FROM container WHERE owner > $1 ORDER BY owner LIMIT $2) ORDER BY c.owner");
        let found = sqlx::query(sql).bind(after).bind(i64::from(size)).fetch_all(&mut *self.0).await;
        found.map_err(failed("listing a page of containers"))?.iter().map(rows::held).collect()
    }

    pub(crate) async fn count_containers(&mut self) -> Result<u64, StoreError> {
        let found = sqlx::query("SELECT COUNT(*) AS count FROM container").fetch_one(&mut *self.0).await;
        number(&found.map_err(failed("counting containers"))?, "count")
    }

    /// Costs next to nothing beside [`Self::on_node`].
    pub(crate) async fn holdings(&mut self, node: &NodeName) -> Result<Holdings, StoreError> {
        let sql = "SELECT COUNT(*) AS count, CAST(COALESCE(SUM(generation), 0) AS BIGINT) AS generations, \
                   CAST(COALESCE(SUM(observed_generation), 0) AS BIGINT) AS observed FROM placement WHERE node = $1";
        let row = sqlx::query(sql).bind(node.as_str()).fetch_one(&mut *self.0).await;
        let row = row.map_err(failed("looking whether a node's placements changed"))?;
        Ok(Holdings {
            count: number(&row, "count")?,
            generations: number(&row, "generations")?,
            observed: number(&row, "observed")?,
        })
    }

    pub(crate) async fn on_node(&mut self, node: &NodeName) -> Result<Vec<Held>, StoreError> {
        let found = sqlx::query(held!("WHERE p.node = $1 ORDER BY c.id")).bind(node.as_str());
        let found = found.fetch_all(&mut *self.0).await.map_err(failed("listing a node's placements"))?;
        found.iter().map(rows::held).collect()
    }

    pub(crate) async fn of_owner(&mut self, owner: &Username) -> Result<Vec<Held>, StoreError> {
        let found = sqlx::query(held!("WHERE c.owner = $1 ORDER BY p.node")).bind(owner.as_str());
        let found = found.fetch_all(&mut *self.0).await.map_err(failed("reading a user's container"))?;
        found.iter().map(rows::held).collect()
    }

    pub(crate) async fn of_container(&mut self, id: ContainerId) -> Result<Vec<Held>, StoreError> {
        let found = sqlx::query(held!("WHERE c.id = $1 ORDER BY p.node")).bind(id.to_string());
        let found = found.fetch_all(&mut *self.0).await.map_err(failed("reading a container"))?;
        found.iter().map(rows::held).collect()
    }

    pub(crate) async fn of_request(&mut self, request: RequestId) -> Result<Vec<Held>, StoreError> {
        let found = sqlx::query(held!("WHERE c.request_id = $1 ORDER BY p.node")).bind(request.to_string());
        let found = found.fetch_all(&mut *self.0).await.map_err(failed("looking for a request"))?;
        found.iter().map(rows::held).collect()
    }

    /// Who has the instance name, whatever its owner is called.
    pub(crate) async fn of_name(&mut self, name: &str) -> Result<Vec<Held>, StoreError> {
        let found = sqlx::query(held!("WHERE c.name = $1 ORDER BY p.node")).bind(name);
        let found = found.fetch_all(&mut *self.0).await.map_err(failed("looking for a container name"))?;
        found.iter().map(rows::held).collect()
    }

    /// What every node has promised, rows still being deleted included (I2). Summed up by the database: there may be
    /// fifty thousand.
    pub(crate) async fn claims(&mut self) -> Result<Vec<Claim>, StoreError> {
        let sql = "SELECT node, string_agg(address, ',') AS addresses, CAST(SUM(cpu_millis) AS BIGINT) AS cpu_millis, \
                   CAST(SUM(memory_bytes) AS BIGINT) AS memory_bytes, CAST(SUM(disk_bytes) AS BIGINT) AS disk_bytes \
                   FROM placement GROUP BY node";
        let found = sqlx::query(sql).fetch_all(&mut *self.0).await.map_err(failed("summing up reservations"))?;
        let claim = |row| {
            let addresses = rows::text(row, "addresses")?;
            let parse = |text: &str| {
                let corrupt = |_| StoreError::Corrupt { column: "address", problem: format!("'{text}'") };
                text.parse().map_err(corrupt)
            };
            Ok(Claim {
                node: parsed(row, "node")?,
                addresses: addresses.split(',').map(parse).collect::<Result<_, _>>()?,
                reserved: rows::resources(row)?,
            })
        };
        found.iter().map(claim).collect()
    }

    /// What placement needs. Inside a write both are of one moment.
    pub(crate) async fn nodes_and_claims(&mut self) -> Result<(Vec<NodeRow>, Vec<Claim>), StoreError> {
        Ok((self.nodes().await?, self.claims().await?))
    }

    /// The full set of accounts, and the revision it has: one statement, so they belong together.
    pub(crate) async fn accounts(&mut self) -> Result<(AccessRevision, Vec<Account>), StoreError> {
        let sql = "SELECT f.access_revision, c.owner, c.keys, c.guests, p.address FROM fleet f \
                   LEFT JOIN placement p ON p.desired <> 'absent' AND p.role = 'home' \
                   LEFT JOIN container c ON c.id = p.container_id ORDER BY c.owner";
        let found = sqlx::query(sql).fetch_all(&mut *self.0).await.map_err(failed("listing accounts"))?;
        let mut revision = AccessRevision(0);
        let mut homes = Vec::with_capacity(found.len());
        for row in &found {
            revision = AccessRevision(number(row, "access_revision")?);
            let owner: Option<String> = row.try_get("owner").map_err(failed("reading an account"))?;
            if owner.is_none() {
                continue;
            }
            let keys: containarium_proto::keys::KeySet = rows::json(row, "keys")?;
            let account = Account {
                username: parsed(row, "owner")?,
                ssh_keys: keys.to_lines(),
                permit: Some(parsed(row, "address")?),
                shared: Vec::new(),
            };
            homes.push((account, rows::json(row, "guests")?));
        }
        Ok((revision, shares::with_shared(homes)))
    }

    /// Newest first; an empty subject means all.
    pub(crate) async fn events(&mut self, subject: &str, limit: u32) -> Result<Vec<Event>, StoreError> {
        let found = sqlx::query(
            "SELECT id, at, subject, kind, message FROM event WHERE ($1 = '' OR subject = $1) ORDER BY id DESC LIMIT $2",
        );
        let found = found.bind(subject).bind(i64::from(limit)).fetch_all(&mut *self.0).await;
        let found = found.map_err(failed("listing events"))?;
        found.iter().map(events::from_row).collect()
    }

    /// The newest of two kinds that a subject has.
    pub(crate) async fn last_event(
        &mut self,
        subject: &str,
        kinds: &[EventKind; 2],
    ) -> Result<Option<Event>, StoreError> {
        let found = sqlx::query(
            "SELECT id, at, subject, kind, message FROM event WHERE subject = $1 AND (kind = $2 OR kind = $3) \
             ORDER BY id DESC LIMIT 1",
        );
        let found = found.bind(subject).bind(kinds[0].as_str()).bind(kinds[1].as_str());
        let found = found.fetch_optional(&mut *self.0).await.map_err(failed("looking for an event"))?;
        found.as_ref().map(events::from_row).transpose()
    }

    /// Oldest first, those after the event with this id; an empty subject means all.
    pub(crate) async fn events_after(
        &mut self,
        subject: &str,
        after: Uuid,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let found = sqlx::query(
            "SELECT id, at, subject, kind, message FROM event WHERE id > $1 AND ($2 = '' OR subject = $2) \
             ORDER BY id LIMIT $3",
        );
        let found = found.bind(after.to_string()).bind(subject).bind(i64::from(limit)).fetch_all(&mut *self.0).await;
        let found = found.map_err(failed("reading on in the events"))?;
        found.iter().map(events::from_row).collect()
    }

    /// The id of the latest event; none before the first reign.
    pub(crate) async fn newest_event(&mut self) -> Result<Option<Uuid>, StoreError> {
        let found = sqlx::query("SELECT id FROM event ORDER BY id DESC LIMIT 1").fetch_optional(&mut *self.0).await;
        let found = found.map_err(failed("looking for the latest event"))?;
        found.as_ref().map(|row| parsed(row, "id")).transpose()
    }

    #[cfg(test)]
    pub(crate) async fn pragma(&mut self, sql: &'static str) -> String {
        let row = sqlx::query(sql).fetch_one(&mut *self.0).await.unwrap();
        rows::text(&row, "journal_mode").unwrap()
    }
}
