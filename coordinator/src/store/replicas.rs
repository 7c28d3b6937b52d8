//! Replicas: how often a container is copied to another node, and how far that is. The copy itself is a placement with a
//! role of its own. Whether it may take over is decided elsewhere, from `as_of` alone.

use std::time::Duration;

use containarium_proto::{ids::ContainerId, names::NodeName};
use sqlx::{AnyConnection, any::AnyRow};

use super::{
    Held, Reader, StoreError, WriteTx, failed,
    rows::{corrupt, number, signed, text},
};

/// What a container's own row says of its replica.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Replication {
    /// How often it is refreshed; none: there is to be none.
    pub(crate) every: Option<Duration>,
    /// Where it is to be; none: anywhere.
    pub(crate) to: Option<NodeName>,
    /// The newest pass that was whole, on whatever node; 0: no snapshot of any is left.
    pub(crate) pass: u32,
    /// The replica holds what there was at this moment; unix milliseconds. None: it holds nothing yet.
    pub(crate) as_of: Option<i64>,
    /// When the pass under way was ordered.
    pub(crate) began_at: i64,
    /// Why it is not refreshed; empty: it is.
    pub(crate) problem: String,
    /// Who has it. Read with the row, never written with it.
    pub(crate) node: Option<NodeName>,
    /// Who still has what was there before a failover. Likewise.
    pub(crate) superseded: Vec<NodeName>,
}

fn names(row: &AnyRow, column: &'static str) -> Result<Vec<NodeName>, StoreError> {
    let joined: Option<String> = sqlx::Row::try_get(row, column).map_err(failed("reading node names"))?;
    let names = joined.unwrap_or_default();
    let names = names.split(',').filter(|name| !name.is_empty());
    let mut names: Vec<NodeName> =
        names.map(|name| name.parse().map_err(|error| corrupt(column, error))).collect::<Result<_, _>>()?;
    names.sort();
    Ok(names)
}

pub(super) fn replication(row: &AnyRow) -> Result<Replication, StoreError> {
    let to = text(row, "replicate_to")?;
    Ok(Replication {
        every: Some(number(row, "replicate_seconds")?).filter(|every| *every > 0).map(Duration::from_secs),
        to: match to.as_str() {
            "" => None,
            node => Some(node.parse().map_err(|error| corrupt("replicate_to", error))?),
        },
        pass: u32::try_from(number(row, "replica_pass")?).map_err(|error| corrupt("replica_pass", error))?,
        as_of: Some(signed(row, "replica_as_of")?).filter(|at| *at != 0),
        began_at: signed(row, "replica_began")?,
        problem: text(row, "replica_problem")?,
        node: names(row, "replica_node")?.pop(),
        superseded: names(row, "superseded_nodes")?,
    })
}

impl<C: std::ops::DerefMut<Target = AnyConnection> + Send> Reader<C> {
    /// Every container of whose replica there is something to do, or something left, with every placement.
    pub(crate) async fn with_replicas(&mut self) -> Result<Vec<Vec<Held>>, StoreError> {
        let mut all: Vec<Vec<Held>> = Vec::new();
        for held in self.replicated().await? {
            match all.last_mut().filter(|rows| rows[0].container.id == held.container.id) {
                Some(rows) => rows.push(held),
                None => all.push(vec![held]),
            }
        }
        Ok(all)
    }
}

impl WriteTx {
    /// Writes everything but where copies are: placements say that.
    pub(crate) async fn set_replication(&mut self, id: ContainerId, to: &Replication) -> Result<(), StoreError> {
        let sql = "UPDATE container SET replicate_seconds = $2, replicate_to = $3, replica_pass = $4, \
                   replica_as_of = $5, replica_began = $6, replica_problem = $7 WHERE id = $1";
        let seconds = to.every.map_or(0, |every| every.as_secs());
        let update = sqlx::query(sql)
            .bind(id.to_string())
            .bind(seconds.cast_signed())
            .bind(to.to.as_ref().map_or("", NodeName::as_str))
            .bind(i64::from(to.pass))
            .bind(to.as_of.unwrap_or_default())
            .bind(to.began_at)
            .bind(to.problem.as_str());
        update.execute(self.connection()).await.map(drop).map_err(failed("writing how a container is replicated"))
    }
}
