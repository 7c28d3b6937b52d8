//! Replicas on real Incus: refreshed while the machine is written to and while daemons are killed; then its server loses
//! its power, the replica takes over, and the old server comes back.

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use chrono::DateTime;
use containarium_tests::{
    lab::{Lab, eventually},
    lab_check,
};
use serde_json::Value;

use crate::{lifetimes::with_coordinator, scenario};

const PATIENCE: Duration = Duration::from_secs(180);
const SHORT: [(&str, &str); 1] = [("CONTAINARIUM_COORDINATOR_SHORTEST_REPLICATION", "1s")];
/// From the power-on to the moment at which it could no longer be started by mistake.
const AFTER_BOOT: Duration = Duration::from_secs(5);

fn replication(lab: &Lab) -> Result<Value> {
    Ok(lab.container("alice")?["replication"].clone())
}

/// A pass that began from now on, and is whole.
fn another_pass(lab: &Lab) -> Result<()> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    eventually("another pass is whole", PATIENCE, || {
        let as_of = replication(lab)?["as_of"].as_str().map(DateTime::parse_from_rfc3339).transpose()?;
        Ok(as_of.filter(|at| at.timestamp_millis() > now).map(drop))
    })
    .with_context(|| format!("{:?}", replication(lab)))
}

fn state_on(lab: &Lab, node: &str) -> Result<String> {
    Ok(lab.on(node, "incus list -f csv -c s ^alice-container$")?.ok()?.out)
}

#[test]
fn a_replica_takes_over_and_the_old_server_does_not_start_its_copy() {
    scenario(|lab| with_coordinator(lab, &SHORT, || takes_over(lab)));
}

fn takes_over(lab: &Lab) -> Result<()> {
    let alice = lab.person("alice")?;
    lab.cli(&["create", "alice", "--ssh-key", &alice.public_key(), "--node", "jump-1"])?.ok()?;
    let sum = lab.ssh(&alice, "head -c 64M /dev/urandom > data && sync && sha256sum < data")?.ok()?.out;
    let writer =
        "nohup sh -c 'i=0; while :; do i=$((i+1)); echo $i >> log; sync log; sleep 0.1; done' >/dev/null 2>&1 &";
    lab.ssh(&alice, writer)?.ok()?;
    lab.cli(&["replicate", "on", "alice", "--every", "3s", "--to", "jump-2"])?.ok()?;
    another_pass(lab)?;
    // Whatever is killed, the next pass is whole.
    for (node, daemon) in [("jump-2", "agent"), ("jump-2", "incusd"), ("jump-1", "incusd"), ("jump-1", "agent")] {
        lab.on(node, &format!("kill -9 $(cat /run/lab/{daemon}.pid)"))?.ok()?;
        another_pass(lab).with_context(|| format!("{daemon} of {node} was killed"))?;
    }
    lab_check::settle(lab)?;
    let written: u64 = lab.ssh(&alice, "tail -n 1 log")?.ok()?.out.parse()?;
    another_pass(lab)?;
    let wide = lab.cli(&["list", "-o", "wide"])?.ok()?.out;
    ensure!(wide.contains("jump-2, ") && wide.contains("s old"), "{wide}");

    let refused = lab.cli(&["failover", "alice", "--force"])?;
    ensure!(refused.code == 9 && refused.err.contains("move alice"), "{refused:?}");
    lab.lab(&["crash", "jump-1"])?.ok()?;
    eventually("jump-1 is offline", PATIENCE, || {
        Ok((lab.container("alice")?["status"] == "Unreachable").then_some(()))
    })?;
    let as_of = replication(lab)?["as_of"].clone();
    let began = Instant::now();
    lab.cli(&["failover", "alice", "--force"])?.ok()?;
    eventually("alice is in", PATIENCE, || Ok((lab.ssh(&alice, "true")?.code == 0).then_some(())))?;
    println!(
        "a failover to what there was at {as_of}: in again by the same name {:.1} s later",
        began.elapsed().as_secs_f32()
    );
    ensure!(lab.ssh(&alice, "sha256sum < data")?.ok()?.out == sum, "the data is other");
    let log = lab.ssh(&alice, "awk '$1 != NR { exit 1 } END { print NR }' log")?.ok()?.out;
    ensure!(log.parse::<u64>()? >= written, "{log} lines, {written} were there before the last pass began");

    lab.lab(&["start", "jump-1"])?.ok()?;
    let booted = Instant::now();
    let mut online_at: Option<Instant> = None;
    while online_at.is_none_or(|at| at.elapsed() < AFTER_BOOT) {
        ensure!(state_on(lab, "jump-1")? == "STOPPED", "the old copy was started");
        ensure!(booted.elapsed() < PATIENCE, "jump-1 is not back");
        let info = lab.cli(&["node", "info", "jump-1", "-o", "json"])?.json()?;
        if info["availability"] == "Online" {
            online_at.get_or_insert_with(Instant::now);
        }
        thread::sleep(Duration::from_millis(200));
    }
    ensure!(replication(lab)?["old_copies"][0] == "jump-1", "{:?}", replication(lab)?);
    lab_check::settle(lab)?;
    lab.cli(&["failover", "alice", "--discard-old", "--force"])?.ok()?;
    // It is copied on, to where it fits now.
    another_pass(lab)?;
    lab.cli(&["replicate", "off", "alice"])?.ok()?;
    eventually("nothing is left of it", PATIENCE, || Ok(replication(lab)?.is_null().then_some(())))?;
    lab_check::settle(lab)?;
    let marks = lab.on("jump-2", "incus query '/1.0/instances/alice-container/snapshots'")?.ok()?.out;
    ensure!(!marks.contains("replica"), "{marks}");
    Ok(())
}
