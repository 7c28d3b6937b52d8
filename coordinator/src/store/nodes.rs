//! Changes to nodes: what the operator says of them, and what they durably say of themselves.

use std::net::Ipv4Addr;

use containarium_proto::{
    labels::Labels,
    names::NodeName,
    spec::{Capacity, Image},
};
use ipnet::Ipv4Net;

use super::{NodeRow, Policy, StoreError, WriteTx, failed, rows::to_json};
use crate::settings::NodeSettings;

/// The part of a report that must survive us: sizes and images, not what is in use at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) cidr: Ipv4Net,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) boot_id: String,
    pub(crate) capacity: Capacity,
    pub(crate) images: Vec<Image>,
    pub(crate) addresses: Vec<Ipv4Addr>,
}

impl NodeFacts {
    /// Whether the row says so already. Use changes all the time and is not worth a write.
    pub(crate) fn same_as(&self, row: &NodeRow) -> bool {
        let sizes = |c: Capacity| (c.cpus, c.memory, c.disk);
        row.network == Some((self.cidr, self.gateway))
            && row.boot_id.as_ref() == Some(&self.boot_id)
            && row.capacity.map(sizes) == Some(sizes(self.capacity))
            && row.images == self.images
            && row.addresses == self.addresses
    }
}

impl WriteTx {
    /// A new node; the caller has seen that the name is free.
    pub(crate) async fn insert_node(&mut self, name: &NodeName, address: &str) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO node (name, address, policy, images, created_at) VALUES ($1, $2, $3, '[]', $4)")
            .bind(name.as_str())
            .bind(address)
            .bind(Policy::Active.as_str())
            .bind(chrono::Utc::now().timestamp_millis())
            .execute(self.connection())
            .await
            .map(drop)
            .map_err(failed("adding a node"))
    }

    pub(crate) async fn set_policy(&mut self, name: &NodeName, policy: Policy) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE node SET policy = $2 WHERE name = $1").bind(name.as_str());
        let done = update.bind(policy.as_str()).execute(self.connection()).await;
        done.map(drop).map_err(failed("setting a policy"))
    }

    /// What a create gets that names no image; empty: what the coordinator was started with.
    pub(crate) async fn set_default_image(&mut self, image: &str) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE fleet SET default_image = $1").bind(image).execute(self.connection()).await;
        update.map(drop).map_err(failed("choosing the default image"))
    }

    /// Where a node that was retired is now.
    pub(crate) async fn set_address(&mut self, name: &NodeName, address: &str) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE node SET address = $2 WHERE name = $1").bind(name.as_str());
        let done = update.bind(address).execute(self.connection()).await;
        done.map(drop).map_err(failed("setting a node's address"))
    }

    /// How many containers leave at a time while it drains.
    pub(crate) async fn set_drain_parallel(&mut self, name: &NodeName, parallel: u32) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE node SET drain_parallel = $2 WHERE name = $1").bind(name.as_str());
        let done = update.bind(i64::from(parallel)).execute(self.connection()).await;
        done.map(drop).map_err(failed("setting how a node drains"))
    }

    /// What the operator says of a node, all of it.
    pub(crate) async fn configure_node(
        &mut self,
        name: &NodeName,
        settings: &NodeSettings,
        labels: &Labels,
    ) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE node SET settings = $2, labels = $3 WHERE name = $1").bind(name.as_str());
        let update = update.bind(to_json("settings", settings)?).bind(to_json("labels", labels)?);
        update.execute(self.connection()).await.map(drop).map_err(failed("configuring a node"))
    }

    pub(crate) async fn record_facts(&mut self, name: &NodeName, facts: &NodeFacts) -> Result<(), StoreError> {
        let sql = "UPDATE node SET cidr = $2, gateway = $3, boot_id = $4, capacity = $5, images = $6, \
                   addresses = $7 WHERE name = $1";
        sqlx::query(sql)
            .bind(name.as_str())
            .bind(facts.cidr.to_string())
            .bind(facts.gateway.to_string())
            .bind(facts.boot_id.as_str())
            .bind(to_json("capacity", &facts.capacity)?)
            .bind(to_json("images", &facts.images)?)
            .bind(to_json("addresses", &facts.addresses)?)
            .execute(self.connection())
            .await
            .map(drop)
            .map_err(failed("recording a node's facts"))
    }
}
