//! What scenarios ask about host certificates: as a person's ssh does, by the authorities that the fleet tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use containarium_agent::host::sim::SimSshd;
use containarium_proto::{
    identity::{AuthorityKey, container_alias, jump_alias},
    ids::FleetId,
    v1::{self, change_ssh_authority_request::Change},
};
use tonic::Status;

use super::Fleet;

/// What a person's ssh trusts: what `export` wrote, and nothing learned since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    fleet: FleetId,
    authorities: BTreeSet<String>,
}

impl Fleet {
    /// What the agent of a node keeps on the boot disk.
    #[must_use]
    pub fn state_dir(&self, index: usize) -> PathBuf {
        self.path(&self.nodes[index].name)
    }

    /// What an export writes at this moment.
    ///
    /// # Panics
    /// The coordinator does not answer.
    #[must_use]
    pub fn trust(&self) -> Trust {
        let mut client = self.client();
        let info = self.caller.block_on(client.get_fleet(v1::GetFleetRequest {})).expect("the fleet").into_inner();
        let key = |line: &String| line.parse::<AuthorityKey>().expect("a key").fingerprint();
        Trust {
            fleet: info.fleet_id.parse().expect("an id"),
            authorities: info.ssh_authorities.iter().map(key).collect(),
        }
    }

    /// The keys that sign, by what they are for.
    ///
    /// # Panics
    /// The coordinator does not answer.
    #[must_use]
    pub fn authorities(&self) -> BTreeMap<v1::AuthorityState, String> {
        let mut client = self.client();
        let answer = self.caller.block_on(client.list_ssh_authorities(v1::ListSshAuthoritiesRequest {}));
        let all = answer.expect("the authorities").into_inner().authorities;
        all.iter().map(|authority| (authority.state(), authority.fingerprint.clone())).collect()
    }

    /// One step of a change from one key to another.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn change_authority(&self, change: Change, force: bool) -> Result<(), Status> {
        let mut client = self.client();
        let request = v1::ChangeSshAuthorityRequest { change: Some(change), force };
        self.caller.block_on(client.change_ssh_authority(request)).map(drop)
    }

    /// Whom an ssh to this user would refuse, now and by these files: jump servers that answer, and the machine.
    #[must_use]
    pub fn refused(&self, trust: &Trust, user: &str) -> Vec<String> {
        let listed = self.list();
        let container = listed.iter().find(|container| container.user == user);
        let mut refused = Vec::new();
        for node in &self.nodes {
            if !trust.accepts(&node.host.sshd(), &jump_alias(trust.fleet)) {
                refused.push(node.name.clone());
            }
            let Some(container) = container.filter(|container| container.node == node.name) else { continue };
            let shown = node.host.instances_now().get(&container.name).map(|instance| instance.sshd.clone());
            if !shown.is_some_and(|sshd| trust.accepts(&sshd, &container_alias(trust.fleet, &container.name))) {
                refused.push(container.name.clone());
            }
        }
        refused
    }
}

impl Trust {
    /// As OpenSSH judges: the certificate is of the key that is shown, by an authority of the file, for exactly the name
    /// that is looked for, and of this moment.
    fn accepts(&self, sshd: &SimSshd, alias: &str) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let (Some(key), Some(certificate)) = (&sshd.key, &sshd.certificate) else { return false };
        let facts = certificate.facts();
        certificate.is_of(key)
            && self.authorities.contains(&facts.authority)
            && facts.principals.contains(alias)
            && (facts.valid_after..facts.valid_before).contains(&now)
    }
}
