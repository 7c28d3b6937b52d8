//! Host certificates: which names each host is to prove, and when its certificate is due. Pure, but for the reading at
//! the end. It must never ask a node: what is shown is in the reports.

mod standing;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use containarium_proto::{
    identity::{Host, HostIdentity, Identities, container_alias, jump_alias},
    ids::FleetId,
};

pub(crate) use standing::{Lacking, Standing, Wanted, standing, window};

use crate::{
    node::live::Sights,
    reign::Reign,
    store::{AuthorityState, Held, NodeRow, StoreError},
};

/// What certificates are made from, beside the rows of whoever they are for.
#[derive(Debug)]
pub(crate) struct Issue {
    fleet: FleetId,
    authority: String,
    jump_address: Option<String>,
    validity: Duration,
}

impl Issue {
    /// `None`: there is no authority, which is before the first reign only.
    pub(crate) async fn read(reign: &Reign) -> Result<Option<Self>, StoreError> {
        let authorities = reign.store.reader().await?.authorities().await?;
        let signing = authorities.iter().find(|row| row.state == AuthorityState::Active);
        Ok(signing.map(|signing| Self {
            fleet: reign.fleet,
            authority: signing.key.fingerprint(),
            jump_address: reign.config.jump_address.clone(),
            validity: reign.config.timings.host_certificate_validity,
        }))
    }

    fn wanted(&self, names: BTreeSet<String>) -> Wanted {
        Wanted { authority: self.authority.clone(), names, validity: self.validity }
    }

    /// A jump server proves the name that ssh looks for, and those that people use.
    fn of_node(&self, node: &NodeRow) -> Wanted {
        let address = node.host().trim_matches(['[', ']']).to_owned();
        let own = [jump_alias(self.fleet), node.name.to_string(), address];
        self.wanted(own.into_iter().chain(self.jump_address.clone()).filter(|name| !name.is_empty()).collect())
    }

    /// A container never proves a name that a jump server has: its user holds its host key.
    fn of_container(&self, held: &Held) -> Wanted {
        let name = held.container.owner.container_name();
        self.wanted([container_alias(self.fleet, &name), name, held.placement.address.to_string()].into())
    }

    /// What is wanted of everybody on one node.
    pub(crate) fn of_all(&self, node: &NodeRow, rows: &[Held]) -> BTreeMap<Host, Wanted> {
        let containers = rows.iter().map(|held| (Host::Container(held.container.id), self.of_container(held)));
        containers.chain([(Host::Node, self.of_node(node))]).collect()
    }
}

/// Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// How far the certificates are that an ssh to a container needs: its own, and those of all servers that answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needed {
    /// Not there yet.
    pub(crate) missing: Vec<String>,
    /// Will never be, and why.
    pub(crate) impossible: Vec<String>,
}

pub(crate) async fn needed(reign: &Reign, held: &Held, sights: &Sights) -> Result<Needed, StoreError> {
    let mut needed = Needed::default();
    let Some(issue) = Issue::read(reign).await? else { return Ok(needed) };
    for node in reign.store.reader().await?.nodes().await? {
        let sight = sights.get(&node.name).filter(|sight| sight.is_online());
        // An agent that knows no certificates is waited for by nobody.
        let Some(shown) = sight.and_then(|sight| sight.report.as_ref()?.identities.as_ref()) else { continue };
        needed.add(node.name.as_str(), shown.get(&Host::Node), &issue.of_node(&node));
        if held.placement.node == node.name {
            let own = shown.get(&Host::Container(held.container.id));
            needed.add(&held.container.owner.container_name(), own, &issue.of_container(held));
        }
    }
    Ok(needed)
}

impl Needed {
    fn add(&mut self, name: &str, shown: Option<&Result<HostIdentity, String>>, wanted: &Wanted) {
        match shown {
            None => self.missing.push(name.to_owned()),
            Some(Err(why)) => self.impossible.push(why.clone()),
            Some(Ok(identity)) => match standing(identity, wanted, now()) {
                Standing::Good => {}
                // What it shows is good still.
                Standing::Lacking(Lacking::Renewal) => {}
                Standing::Lacking(_) => self.missing.push(name.to_owned()),
            },
        }
    }
}

/// What lacks of what is wanted, by host; those that cannot have one are left out.
pub(crate) fn lacking<'a>(
    shown: &'a Identities,
    wanted: &'a BTreeMap<Host, Wanted>,
    now: u64,
) -> impl Iterator<Item = (Host, &'a HostIdentity, &'a Wanted, Lacking)> {
    shown.iter().filter_map(move |(host, identity)| {
        let (identity, wanted) = (identity.as_ref().ok()?, wanted.get(host)?);
        match standing(identity, wanted, now) {
            Standing::Good => None,
            Standing::Lacking(why) => Some((*host, identity, wanted, why)),
        }
    })
}

#[cfg(test)]
mod tests;
