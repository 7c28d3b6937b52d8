//! Whose container may open connections to whose, and what all nodes are told of it.

use containarium_proto::{ids::ContainerId, names::Username, policy::Allowance};
use sqlx::{Row, any::AnyRow};

use super::{
    Reader, StoreError, WriteTx, failed,
    rows::{corrupt, parsed},
};

/// Of a row of containers: the owners, as one text.
pub(super) fn allow_from(row: &AnyRow) -> Result<Vec<Username>, StoreError> {
    let text: Option<String> = row.try_get("allow_from").map_err(failed("reading allow_from"))?;
    let names = text.iter().flat_map(|text| text.split(',')).filter(|name| !name.is_empty());
    let mut owners = Vec::new();
    for name in names {
        owners.push(name.parse().map_err(|error| corrupt("allow_from", error))?);
    }
    // In which order the database joins them is its own business.
    owners.sort();
    Ok(owners)
}

impl<C: std::ops::DerefMut<Target = sqlx::AnyConnection> + Send> Reader<C> {
    /// All that passes between containers, by address: of homes, as they are at this moment.
    pub(crate) async fn allowances(&mut self) -> Result<Vec<Allowance>, StoreError> {
        let sql = "SELECT f.address AS from_address, t.address AS to_address FROM allowance a \
                   JOIN placement f ON f.container_id = a.from_id AND f.role = 'home' AND f.desired <> 'absent' \
                   JOIN placement t ON t.container_id = a.container_id AND t.role = 'home' AND t.desired <> 'absent'";
        let found = sqlx::query(sql).fetch_all(self.connection()).await.map_err(failed("listing allowances"))?;
        let one = |row| Ok(Allowance { from: parsed(row, "from_address")?, to: parsed(row, "to_address")? });
        found.iter().map(one).collect()
    }
}

impl WriteTx {
    /// These, and nobody else.
    pub(crate) async fn set_allow_from(&mut self, to: ContainerId, from: &[ContainerId]) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM allowance WHERE container_id = $1").bind(to.to_string());
        delete.execute(self.connection()).await.map_err(failed("closing a container"))?;
        for from in from {
            let insert = sqlx::query("INSERT INTO allowance (container_id, from_id) VALUES ($1, $2)");
            let insert = insert.bind(to.to_string()).bind(from.to_string());
            insert.execute(self.connection()).await.map_err(failed("opening a container"))?;
        }
        Ok(())
    }
}
