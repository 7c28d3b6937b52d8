//! What an sshd shows to whoever connects, asked with OpenSSH's own `ssh-keyscan`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use containarium_proto::identity::HostCertificate;
use tokio::time::{Instant, sleep};

use super::super::system;
use crate::host::HostError;

/// One connection; an sshd that is there answers in a hundredth of it, unless the node is very busy.
const SCAN: Duration = Duration::from_secs(5);
/// An sshd that was told to reload is back within a second.
const SHOWN: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);
const CERTIFICATE: &str = "ssh-ed25519-cert-v01@openssh.com ";

/// Where an sshd answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At(SocketAddr);

impl At {
    pub(super) fn container(address: Ipv4Addr) -> Self {
        Self(SocketAddr::new(address.into(), 22))
    }

    /// An address in what `sshd -T` says, where this machine itself can reach it. Rather an old one: `[::]` stands there
    /// also where the kernel has no IPv6.
    pub(super) fn of_config(said: &str) -> Option<Self> {
        let listens = said.lines().filter_map(|line| line.strip_prefix("listenaddress ")?.trim().parse().ok());
        let address: SocketAddr = listens.min_by_key(SocketAddr::is_ipv6)?;
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Some(Self(SocketAddr::new(ip, address.port())))
    }
}

/// The certificate that is shown; `None`: the sshd answers without one, or not at all. Which of the two matters to
/// nobody: a certificate for it is due either way, and only giving it tells why it does not come about.
pub(super) async fn shown(at: At) -> Result<Option<HostCertificate>, HostError> {
    let (ip, port) = (at.0.ip().to_string(), at.0.port().to_string());
    let arguments = ["-c", "-t", "ed25519", "-T", "3", "-p", &port, &ip];
    Ok(certificate(&system::output_of("ssh-keyscan", &arguments, SCAN).await?))
}

fn certificate(said: &str) -> Option<HostCertificate> {
    said.lines().find_map(|line| line[line.find(CERTIFICATE)?..].parse().ok())
}

pub(super) async fn until_shown(at: At, wanted: &HostCertificate) -> Result<(), HostError> {
    let deadline = Instant::now() + SHOWN;
    while shown(at).await?.as_ref() != Some(wanted) {
        if Instant::now() > deadline {
            // Not again and again: each try reloads the sshd that people work through.
            return Err(HostError::permanent(format!(
                "sshd at {} does not show its host certificate: does its sshd_config include sshd_config.d/*.conf, and \
                 no other HostCertificate?",
                at.0
            )));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use containarium_proto::identity::{Authority, HostKey, Window};

    use super::*;

    #[test]
    fn where_it_listens_as_seen_from_here() {
        let at = |said: &str| At::of_config(said).map(|at| at.0.to_string());
        assert_eq!(at("port 22\nlistenaddress [::]:22\nlistenaddress 0.0.0.0:22"), Some("127.0.0.1:22".into()));
        assert_eq!(at("listenaddress [::]:22\n"), Some("[::1]:22".into()));
        assert_eq!(at("listenaddress 0.0.0.0:2222\n"), Some("127.0.0.1:2222".into()));
        assert_eq!(at("listenaddress 10.99.0.11:22\n"), Some("10.99.0.11:22".into()));
        assert_eq!(at("port 22\n"), None);
    }

    #[test]
    fn a_certificate_is_found_in_either_form_of_the_answer() {
        let names = ["jump-1".to_owned()].into();
        let made = Authority::generate().sign(&HostKey::simulated(), &names, Window { after: 1, before: 2 }).unwrap();
        for said in [format!("{made}\n"), format!("# 10.0.0.1:22 SSH-2.0-x\n10.0.0.1 {made}\n")] {
            assert_eq!(certificate(&said).as_ref(), Some(&made));
        }
        assert_eq!(certificate("10.0.0.1 ssh-ed25519 AAAA\n"), None);
    }
}
