//! An address that dnsmasq still holds for a container that is gone, because nobody told it: the next one to have the
//! address has it all the same.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use containarium_tests::lab::{Lab, eventually};

use crate::scenario;

const PATIENCE: Duration = Duration::from_secs(60);
/// The first address that is given out on jump-1.
const ADDRESS: &str = "10.100.1.2";
const LEASES: &str = "/var/lib/incus/networks/incusbr0/dnsmasq.leases";

/// A machine made with incus that has the address by DHCP and goes without a word to dnsmasq.
fn leave_a_lease(lab: &Lab) -> Result<()> {
    let on = |line: &str| lab.on("jump-1", line)?.ok();
    let image = on("incus image list -f csv -c f | head -n 1")?.out;
    on(&format!("incus launch {image} before -d eth0,ipv4.address={ADDRESS}"))?;
    eventually("it has a lease", PATIENCE, || Ok(on(&format!("cat {LEASES}"))?.out.contains(ADDRESS).then_some(())))?;
    on("nft 'add table ip deaf; add chain ip deaf input { type filter hook input priority -300; }; \
        add rule ip deaf input udp dport 67 drop'")?;
    on("incus delete -f before")?;
    on("nft delete table ip deaf")?;
    ensure!(on(&format!("cat {LEASES}"))?.out.contains(ADDRESS), "dnsmasq was told all the same");
    Ok(())
}

#[test]
fn a_lease_that_was_left_behind_is_in_nobodys_way() {
    scenario(|lab| {
        leave_a_lease(lab)?;
        let began = Instant::now();
        let alice = lab.person("alice")?;
        lab.cli(&["create", "alice", "--ssh-key", &alice.public_key(), "--node", "jump-1"])?.ok()?;
        println!("created in {:.1} s, with another's lease on its address", began.elapsed().as_secs_f32());
        ensure!(lab.container("alice")?["ip"] == ADDRESS, "{}", lab.container("alice")?);
        lab.ssh(&alice, "true")?.ok()?;
        Ok(())
    });
}
