//! The network policy of this machine: one nftables table of ours, replaced in one transaction, and what the kernel must
//! be told so that containers of one bridge meet at layer 3, where the table judges them. It must never touch another
//! table, nor leave a moment without a policy.
//!
//! Ports of the bridge are isolated from each other (`security.port_isolation`, see `host/shape.rs`), so containers of
//! this node reach each other only by way of the node, which answers for their neighbours (`proxy_arp_pvlan`):
//!
//! ```text
//! alice ─ isolated port ─┐
//! bob   ─ isolated port ─┴ incusbr0 ─ forward: allowance? closed? ─► other containers · nodes · internet
//!                               └──── input: DHCP and DNS of the bridge only ─► this node
//! ```

use std::{collections::BTreeSet, fmt::Display, path::PathBuf, time::Duration};

use tokio::sync::Mutex;

use super::{files, system};
use crate::host::{HostError, Kept, PolicyRules};

/// A transaction of some hundred elements takes milliseconds; a machine that boots fifty containers is slow.
const NFT: Duration = Duration::from_secs(10);
const TABLE: &str = "containarium";

/// What was last put in place.
#[derive(Debug, Default)]
pub(super) struct InForce(Mutex<Option<Applied>>);

#[derive(Debug)]
struct Applied {
    ruleset: String,
    /// As nft lists it.
    listing: String,
}

impl InForce {
    /// Makes the table exactly this. Cheap when it is.
    pub(super) async fn ensure(&self, rules: &PolicyRules, bridge: &str) -> Result<Kept, HostError> {
        let wanted = ruleset(rules, bridge);
        let mut applied = self.0.lock().await;
        let resolved = ensure_kernel(bridge).await?;
        if let Some(there) = applied.as_ref().filter(|there| there.ruleset == wanted)
            && list().await?.as_ref() == Some(&there.listing)
        {
            return Ok(if resolved { Kept::Repaired } else { Kept::AsItWas });
        }
        let again = applied.as_ref().is_some_and(|there| there.ruleset == wanted);
        system::feed("nft", &["-f", "-"], &wanted, NFT).await?;
        let listing = list().await?.ok_or_else(|| HostError::transient("the nftables table vanished at once"))?;
        *applied = Some(Applied { ruleset: wanted, listing });
        Ok(if again { Kept::Repaired } else { Kept::Written })
    }
}

/// `None`: there is no table of ours.
async fn list() -> Result<Option<String>, HostError> {
    let (code, out, said) = system::output("nft", &["--stateless", "list", "table", "inet", TABLE], NFT).await?;
    match code {
        0 => Ok(Some(out)),
        _ if said.contains("No such file") => Ok(None),
        _ => Err(HostError::transient(format!("nft list table inet {TABLE}: exit {code}: {said}"))),
    }
}

/// True if something had to be written.
async fn ensure_kernel(bridge: &str) -> Result<bool, HostError> {
    // proxy_delay: a neighbour's address is answered for at once, not within 0.8 s.
    let settings = [("conf", "proxy_arp_pvlan", "1"), ("neigh", "proxy_delay", "0")];
    let mut written = false;
    for (kind, key, value) in settings {
        let path = PathBuf::from(format!("/proc/sys/net/ipv4/{kind}/{bridge}/{key}"));
        let there = files::read(&path).await?;
        if there.as_deref().map(str::trim) == Some(value) {
            continue;
        }
        let text = format!("{value}\n");
        tokio::fs::write(&path, text).await.map_err(|error| files::error("setting", &path, &error))?;
        written = true;
    }
    Ok(written)
}

fn set(name: &str, kind: &str, elements: impl IntoIterator<Item = impl Display>) -> String {
    let elements: Vec<String> = elements.into_iter().map(|element| element.to_string()).collect();
    // An empty list of elements is no list to nft.
    let list = if elements.is_empty() { String::new() } else { format!("elements = {{ {} }}", elements.join(", ")) };
    format!("  set {name} {{ {kind} {list} }}\n")
}

/// The whole transaction. The first line makes the second one work where there is no table yet.
///
/// `accept` ends our own chains only: what others' tables forbid stays forbidden. Established connections pass first,
/// so what the node itself opened (a jump to port 22) is answered, and nothing else has a way in.
fn ruleset(rules: &PolicyRules, bridge: &str) -> String {
    let PolicyRules { network, containers, closed, allowances } = rules;
    let (cidr, gateway) = (network.cidr.trunc(), network.gateway);
    let nets: BTreeSet<_> = containers.iter().map(ipnet::Ipv4Net::trunc).chain([cidr]).collect();
    let closed: BTreeSet<_> = closed.iter().map(ipnet::Ipv4Net::trunc).chain(nets.iter().copied()).collect();
    let interval = "type ipv4_addr; flags interval; auto-merge;";
    let pairs = allowances.iter().map(|pair| format!("{} . {}", pair.from, pair.to));
    let sets = [
        set("containers", interval, &nets),
        set("closed", interval, &closed),
        set("allowed", "type ipv4_addr . ipv4_addr;", pairs),
    ]
    .concat();
    format!(
        "table inet {TABLE}\n\
         delete table inet {TABLE}\n\
         table inet {TABLE} {{\n\
         {sets}\
         \x20 chain leaving {{\n\
         \x20   meta nfproto ipv6 drop\n\
         \x20   ip saddr != {cidr} drop\n\
         \x20   ip saddr . ip daddr @allowed accept\n\
         \x20   ip daddr @closed reject with icmpx admin-prohibited\n\
         \x20 }}\n\
         \x20 chain arriving {{\n\
         \x20   ip saddr . ip daddr @allowed accept\n\
         \x20   drop\n\
         \x20 }}\n\
         \x20 chain forward {{\n\
         \x20   type filter hook forward priority filter - 5; policy accept;\n\
         \x20   ct state established,related accept\n\
         \x20   iifname \"{bridge}\" goto leaving\n\
         \x20   oifname \"{bridge}\" ip saddr @containers goto arriving\n\
         \x20 }}\n\
         \x20 chain input {{\n\
         \x20   type filter hook input priority filter - 5; policy accept;\n\
         \x20   ct state established,related accept\n\
         \x20   iif lo accept\n\
         \x20   iifname != \"{bridge}\" ip saddr @containers drop\n\
         \x20   iifname != \"{bridge}\" accept\n\
         \x20   udp sport 68 udp dport 67 accept\n\
         \x20   ip daddr {gateway} udp dport 53 accept\n\
         \x20   ip daddr {gateway} tcp dport 53 accept\n\
         \x20   ip daddr {gateway} icmp type echo-request accept\n\
         \x20   reject with icmpx admin-prohibited\n\
         \x20 }}\n\
         \x20 chain output {{\n\
         \x20   type filter hook output priority filter - 5; policy accept;\n\
         \x20   oifname \"{bridge}\" icmp type redirect drop\n\
         \x20 }}\n\
         \x20 chain postrouting {{\n\
         \x20   type nat hook postrouting priority srcnat - 5; policy accept;\n\
         \x20   ip saddr {cidr} oifname != \"{bridge}\" ip daddr != @containers masquerade\n\
         \x20 }}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use containarium_proto::policy::Allowance;

    use super::*;
    use crate::host::Network;

    fn rules() -> PolicyRules {
        PolicyRules {
            network: Network { cidr: "10.100.1.0/24".parse().unwrap(), gateway: "10.100.1.1".parse().unwrap() },
            containers: BTreeSet::new(),
            closed: BTreeSet::new(),
            allowances: BTreeSet::new(),
        }
    }

    #[test]
    fn a_node_that_was_told_nothing_yet_keeps_its_own_containers_apart() {
        let text = ruleset(&rules(), "incusbr0");
        assert!(text.starts_with("table inet containarium\ndelete table inet containarium\ntable inet"), "{text}");
        assert!(
            text.contains("set closed { type ipv4_addr; flags interval; auto-merge; elements = { 10.100.1.0/24 } }")
        );
        assert!(text.contains("set allowed { type ipv4_addr . ipv4_addr;  }"), "{text}");
        assert!(text.contains("ip saddr != 10.100.1.0/24 drop"));
    }

    #[test]
    fn what_was_told_is_in_the_sets_and_nothing_twice() {
        let mut rules = rules();
        rules.containers = ["10.100.1.0/24", "10.100.2.0/24"].map(|net| net.parse().unwrap()).into();
        rules.closed = ["10.99.0.11/32", "169.254.0.0/16"].map(|net| net.parse().unwrap()).into();
        rules.allowances = [Allowance { from: [10, 100, 1, 2].into(), to: [10, 100, 2, 2].into() }].into();
        let text = ruleset(&rules, "incusbr0");
        assert!(text.contains("elements = { 10.100.1.2 . 10.100.2.2 }"), "{text}");
        assert!(text.contains("elements = { 10.99.0.11/32, 10.100.1.0/24, 10.100.2.0/24, 169.254.0.0/16 }"), "{text}");
        assert!(text.contains("elements = { 10.100.1.0/24, 10.100.2.0/24 }"), "{text}");
    }
}
