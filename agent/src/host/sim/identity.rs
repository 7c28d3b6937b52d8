//! Host keys and certificates of a simulated host and its instances. A machine that is made anew has another key.

use std::collections::BTreeMap;

use containarium_proto::{
    identity::{HostCertificate, HostIdentity, HostKey},
    node::Order,
};

use super::{Memory, SimHost, present};
use crate::host::{HostError, Power};

/// An ssh server as the simulation has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimSshd {
    /// None: an image without one.
    pub key: Option<HostKey>,
    /// What it shows.
    pub certificate: Option<HostCertificate>,
    /// Its configuration is somebody's own, and shows none whatever is written.
    pub is_stubborn: bool,
}

impl Default for SimSshd {
    /// A first boot.
    fn default() -> Self {
        Self { key: Some(HostKey::simulated()), certificate: None, is_stubborn: false }
    }
}

fn sshd<'m>(memory: &'m mut Memory, of: Option<&Order>) -> Result<&'m mut SimSshd, HostError> {
    let Some(order) = of else { return Ok(&mut memory.sshd) };
    let instance = present(memory, &order.name)?;
    match instance.seen.power {
        Power::Running => Ok(&mut instance.sshd),
        Power::Stopped => Err(HostError::transient(format!("instance {} is not running", order.name))),
    }
}

fn identity(sshd: &SimSshd) -> Result<HostIdentity, HostError> {
    let key = sshd.key.clone().ok_or_else(|| HostError::permanent("this machine has no host key"))?;
    let shown = sshd.certificate.as_ref().filter(|certificate| certificate.is_of(&key));
    Ok(HostIdentity { certificate: shown.map(HostCertificate::facts), key })
}

pub(super) fn of(memory: &Memory, of: Option<&Order>) -> Result<HostIdentity, HostError> {
    let Some(order) = of else { return identity(&memory.sshd) };
    match memory.instances.get(&order.name) {
        Some(instance) if instance.seen.power == Power::Running => identity(&instance.sshd),
        Some(_) | None => Err(HostError::transient(format!("instance {} is not running", order.name))),
    }
}

pub(super) fn install(
    memory: &mut Memory,
    of: Option<&Order>,
    certificate: &HostCertificate,
) -> Result<HostIdentity, HostError> {
    let sshd = sshd(memory, of)?;
    if sshd.is_stubborn {
        return Err(HostError::permanent("sshd does not show its host certificate"));
    }
    sshd.certificate = Some(certificate.clone());
    identity(sshd)
}

impl SimHost {
    /// The node's own ssh server.
    #[must_use]
    pub fn sshd(&self) -> SimSshd {
        self.memory().sshd.clone()
    }

    /// The boot disk is a new one: accounts and host key are gone, the instances are not. The agent's own state is for
    /// the caller to remove.
    pub fn rebuild(&self) {
        let mut memory = self.memory();
        memory.sshd = SimSshd::default();
        memory.accounts = BTreeMap::new();
    }

    /// Somebody changes an ssh server behind the agent's back; the node's own, or an instance's by name.
    ///
    /// # Panics
    /// There is no instance of that name.
    pub fn change_sshd(&self, instance: Option<&str>, change: impl FnOnce(&mut SimSshd)) {
        let mut memory = self.memory();
        change(match instance {
            None => &mut memory.sshd,
            Some(name) => &mut memory.instances.get_mut(name).expect("an instance to change").sshd,
        });
    }
}
