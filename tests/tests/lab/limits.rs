//! What `--cpu`, `--memory` and `--disk-quota` really do inside a container of real Incus.

use std::time::Duration;

use anyhow::{Context, Result};
use containarium_tests::lab::{Lab, eventually};

use crate::scenario;

fn with_cpu(lab: &Lab, user: &str, cpu: &str) -> Result<containarium_tests::lab::Person> {
    let person = lab.person(user)?;
    lab.cli(&["create", user, "--ssh-key", &person.public_key(), "--cpu", cpu])?.ok()?;
    Ok(person)
}

pub(crate) fn cgroup_file(lab: &Lab, user: &str, v1: &str, v2: &str) -> Result<String> {
    // Read from the node: which hierarchy Incus uses depends on the kernel.
    let node = lab.container(user)?["node"].as_str().context("node")?.to_owned();
    let line = format!(
        "pid=$(incus query /1.0/instances/{user}-container/state | jq .pid) && \
         rel=$(grep -E ':({v1c}|[^:]*,{v1c}|{v1c},[^:]*):|^0::' /proc/$pid/cgroup | head -1 | cut -d: -f3) && \
         rel=${{rel%/init.scope}} && cat /sys/fs/cgroup/{v1c}$rel/{v1} 2>/dev/null || cat /sys/fs/cgroup$rel/{v2}",
        v1c = v1.split('.').next().unwrap_or_default(),
    );
    Ok(lab.on(&node, &line)?.ok()?.out)
}

#[test]
fn a_count_a_set_and_an_amount_of_cpu_mean_what_the_docs_say() {
    scenario(|lab| {
        let machine_cpus: usize = lab.on("jump-1", "nproc --all")?.ok()?.out.parse()?;
        let count = with_cpu(lab, "count", "1")?;
        // Incus balances counts over CPUs in the background: the cpuset follows the create.
        eventually("nproc follows --cpu 1", Duration::from_secs(20), || {
            Ok((lab.ssh(&count, "nproc")?.ok()?.out == "1").then_some(()))
        })?;
        let set = with_cpu(lab, "pinned", "0-1")?;
        eventually("nproc follows --cpu 0-1", Duration::from_secs(20), || {
            Ok((lab.ssh(&set, "grep Cpus_allowed_list /proc/self/status | cut -f2; nproc")?.ok()?.out == "0-1\n2")
                .then_some(()))
        })?;
        let amount = with_cpu(lab, "quota", "250m")?;
        assert_eq!(lab.ssh(&amount, "nproc --all")?.ok()?.out.parse::<usize>()?, machine_cpus);
        let quota = cgroup_file(lab, "quota", "cpu.cfs_quota_us", "cpu.max")?;
        assert!(quota.starts_with("25000"), "a quarter of 100 ms: {quota}");
        Ok(())
    });
}

#[test]
fn memory_and_disk_limits_hold() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        let limits = ["--memory", "512MiB", "--disk-quota", "4GB"];
        let mut args = vec!["create", "alice", "--ssh-key"];
        let key = alice.public_key();
        args.push(&key);
        args.extend(limits);
        lab.cli(&args)?.ok()?;
        assert_eq!(lab.ssh(&alice, "free -m | awk '/Mem:/{print $2}'")?.ok()?.out, "512");
        let filled = lab.ssh(&alice, "head -c 6G /dev/zero > big; code=$?; rm -f big; exit $code")?;
        assert_ne!(filled.code, 0, "6 GB fitted into a 4 GB quota: {filled:?}");
        assert!(filled.err.contains("quota") || filled.err.contains("No space"), "{filled:?}");
        Ok(())
    });
}
