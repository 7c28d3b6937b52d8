//! Leases of Incus' dnsmasq that outlive their container: a release that was lost, or a machine that lost its power. While
//! one lasts, dnsmasq gives the address that is reserved for a new container to nobody, and the container another one,
//! under which nobody looks for it. They are released by dnsmasq's own tool.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use reqwest::Method;
use serde_json::json;

use super::{LinuxHost, system};
use crate::host::HostError;

const TOOL: Duration = Duration::from_secs(10);
/// In a container of ours, for the interface that it has one of.
const ASK_AGAIN: [&str; 3] = ["networkctl", "reconfigure", "eth0"];

/// One line of dnsmasq's own file.
#[derive(Debug, PartialEq, Eq)]
struct Lease {
    mac: String,
    address: Ipv4Addr,
    /// `None`: it gave none.
    client: Option<String>,
}

/// What Incus has told dnsmasq of one interface.
#[derive(Debug, PartialEq, Eq)]
struct Reservation {
    mac: String,
    address: Ipv4Addr,
    name: String,
}

/// "1795550782 10:66:6a:c7:37:19 10.100.3.7 * 01:10:66:6a:c7:37:19"; those of version 6 are of another form.
fn leases(text: &str) -> Vec<Lease> {
    let one = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, mac, address, _, client] = fields.as_slice() else { return None };
        let client = Some((*client).to_owned()).filter(|client| client != "*");
        Some(Lease { mac: (*mac).to_owned(), address: address.parse().ok()?, client })
    };
    text.lines().filter_map(one).collect()
}

/// "10:66:6a:96:a9:9d,10.100.3.7,user18-container"
fn reservation(text: &str) -> Option<Reservation> {
    let fields: Vec<&str> = text.trim().split(',').collect();
    let [mac, address, .., name] = fields.as_slice() else { return None };
    Some(Reservation { mac: (*mac).to_owned(), address: address.parse().ok()?, name: (*name).to_owned() })
}

impl LinuxHost {
    /// Before a container is made or started: nobody else has its address. `own`: its MAC address.
    pub(super) async fn free_address(&self, address: Ipv4Addr, own: Option<&str>) -> Result<(), HostError> {
        for lease in self.leases().await {
            if lease.address == address && own.is_none_or(|own| own != lease.mac) {
                self.release(&lease).await?;
            }
        }
        Ok(())
    }

    /// Of a container that does not answer at its address: if it was given another one, it is given its own.
    pub(super) async fn mend_address(&self, address: Ipv4Addr) -> Result<(), HostError> {
        let Some(reserved) = self.reservations().await.into_iter().find(|reserved| reserved.address == address) else {
            return Ok(());
        };
        let in_the_way = |lease: &Lease| (lease.mac == reserved.mac) != (lease.address == address);
        let wrong: Vec<Lease> = self.leases().await.into_iter().filter(in_the_way).collect();
        if wrong.is_empty() {
            return Ok(());
        }
        for lease in &wrong {
            self.release(lease).await?;
        }
        let what = format!("having {} ask for its address again", reserved.name);
        let body = json!({ "command": ASK_AGAIN, "wait-for-websocket": false, "interactive": false });
        let request = self.incus.request(Method::POST, &format!("/instances/{}/exec", reserved.name)).json(&body);
        Ok(self.incus.operate(&what, request, TOOL).await.map(drop)?)
    }

    async fn release(&self, lease: &Lease) -> Result<(), HostError> {
        let Lease { mac, address, client } = lease;
        tracing::warn!(mac, %address, "releasing an address that nobody may have");
        let address = address.to_string();
        let mut arguments = vec![self.config.network.as_str(), &address, mac];
        arguments.extend(client.as_deref());
        system::run("dhcp_release", &arguments, TOOL).await
    }

    async fn leases(&self) -> Vec<Lease> {
        let file = self.network_folder().join("dnsmasq.leases");
        leases(&tokio::fs::read_to_string(file).await.unwrap_or_default())
    }

    async fn reservations(&self) -> Vec<Reservation> {
        let mut all = Vec::new();
        let Ok(mut files) = tokio::fs::read_dir(self.network_folder().join("dnsmasq.hosts")).await else { return all };
        while let Ok(Some(file)) = files.next_entry().await {
            let text = tokio::fs::read_to_string(file.path()).await.unwrap_or_default();
            all.extend(reservation(&text));
        }
        all
    }

    /// Beside the socket, as Incus has it; on a network without dnsmasq there is nothing in it.
    fn network_folder(&self) -> PathBuf {
        let state = self.config.incus_socket.parent().map(PathBuf::from).unwrap_or_default();
        state.join("networks").join(&self.config.network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dnsmasqs_files() {
        let text = "1795551013 10:66:6a:96:a9:9d 10.100.3.226 user18-container 01:10:66:6a:96:a9:9d\n\
                    1795550782 10:66:6a:c7:37:19 10.100.3.7 * *\n\
                    duid 00:01:00:01:30:c9\n\
                    1795550782 1718763 fd42::1 user18-container 00:02:ab\n";
        let lease = |mac: &str, last: u8, client: Option<&str>| Lease {
            mac: mac.into(),
            address: [10, 100, 3, last].into(),
            client: client.map(ToOwned::to_owned),
        };
        assert_eq!(
            leases(text),
            [lease("10:66:6a:96:a9:9d", 226, Some("01:10:66:6a:96:a9:9d")), lease("10:66:6a:c7:37:19", 7, None)]
        );
        let reserved = reservation("10:66:6a:96:a9:9d,10.100.3.7,user18-container\n").unwrap();
        assert_eq!((reserved.name.as_str(), reserved.address), ("user18-container", [10, 100, 3, 7].into()));
        assert_eq!(reservation("10:66:6a:96:a9:9d,[fd42::7],user18-container"), None);
        assert_eq!(reservation(""), None);
    }
}
