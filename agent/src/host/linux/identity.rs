//! Host certificates of this machine's sshd and of those in the containers. What counts is what an sshd shows on the
//! wire: so a kill between writing a file and reloading is seen, and done again. Keys are read where they lie and
//! never written; whoever answers at an address has no say in which key is certified.

mod inside;
mod node;
mod scan;

use containarium_proto::{
    identity::{HostCertificate, HostIdentity, HostKey},
    node::Order,
};

use super::{LinuxHost, sshd};
use crate::host::HostError;

/// Where sshd finds the certificate, on a node and in a container alike. No file that anybody else writes.
const CERTIFICATE: &str = "/etc/ssh/containarium-host-cert.pub";
/// The only key that is certified.
const KEY: &str = "/etc/ssh/ssh_host_ed25519_key.pub";
/// A certificate that is not there is an error in sshd's log and nothing more: it serves without.
const RULES: &str = "\
# Written by containarium-agent; changes are undone.
HostCertificate /etc/ssh/containarium-host-cert.pub
";

impl LinuxHost {
    pub(super) async fn read_identity(&self, of: Option<&Order>) -> Result<HostIdentity, HostError> {
        let (key, at) = match of {
            None => (node::key().await?, node::listens_at().await?),
            Some(order) => (self.key_inside(&order.name).await?, scan::At::container(order.address)),
        };
        let certificate = scan::shown(at).await?;
        Ok(identity(key, certificate))
    }

    /// Without a reload where it can be: many versions of sshd read the file for each connection, and one that is
    /// reloaded takes none for a moment.
    pub(super) async fn write_certificate(
        &self,
        of: Option<&Order>,
        certificate: &HostCertificate,
    ) -> Result<HostIdentity, HostError> {
        let (key, at, reloaded) = match of {
            None => {
                let key = node::key().await?;
                // One writer of sshd's configuration at a time. Not while it is awaited below: accounts must not wait.
                let writing = self.accounts.lock().await;
                let reloaded = node::install(certificate).await?;
                drop(writing);
                (key, node::listens_at().await?, reloaded)
            }
            Some(order) => {
                let key = self.key_inside(&order.name).await?;
                let reloaded = self.install_inside(&order.name, certificate, false).await?;
                (key, scan::At::container(order.address), reloaded)
            }
        };
        if !reloaded && scan::shown(at).await?.as_ref() != Some(certificate) {
            match of {
                None => sshd::reload().await?,
                Some(order) => drop(self.install_inside(&order.name, certificate, true).await?),
            }
        }
        scan::until_shown(at, certificate).await?;
        Ok(identity(key, Some(certificate.clone())))
    }
}

/// A certificate of another key is none.
fn identity(key: HostKey, shown: Option<HostCertificate>) -> HostIdentity {
    let certificate = shown.filter(|certificate| certificate.is_of(&key)).map(|certificate| certificate.facts());
    HostIdentity { key, certificate }
}

/// Reads the line of a key file.
fn parsed(whose: &str, text: Option<&str>) -> Result<HostKey, HostError> {
    let text =
        text.ok_or_else(|| HostError::permanent(format!("{whose} has no {KEY}: make it with 'ssh-keygen -A'")))?;
    text.parse().map_err(|error| HostError::permanent(format!("{whose}: {KEY}: {error}")))
}
