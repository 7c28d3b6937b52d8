//! What changes in a machine's life, while it runs: limits and keys.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use containarium_tests::lab::{Lab, Person, eventually};

use crate::{access::via, limits::cgroup_file, scenario};

#[test]
fn limits_change_at_once_and_no_session_breaks() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        let key = alice.public_key();
        let limits = ["--cpu", "1", "--memory", "512MiB", "--disk-quota", "2GB"];
        lab.cli(&[["create", "alice", "--ssh-key", &key].as_slice(), limits.as_slice()].concat())?.ok()?;
        let load = "nohup sh -c 'while :; do :; done' >/dev/null 2>&1 & \
                    nohup sh -c 'while head -c 20M /dev/zero > churn; do sync; done' >/dev/null 2>&1 &";
        lab.ssh(&alice, load)?.ok()?;
        thread::scope(|scope| -> Result<()> {
            // Counts until it is told that all changes are over.
            let count = "rm -f over; i=0; until [ -e over ]; do i=$((i+1)); echo $i; sleep 0.1; done";
            let counter = scope.spawn(|| lab.ssh(&alice, count));
            let changed = change(lab, &alice);
            lab.ssh(&alice, "touch over")?.ok()?;
            let counted = counter.join().expect("the session's thread")?.ok()?;
            changed?;
            let lines: Vec<&str> = counted.out.lines().collect();
            println!("a session counted to {} while limits changed under load", lines.len());
            ensure!(lines.len() > 50, "it counted all the time: {}", lines.len());
            ensure!(lines.iter().copied().eq((1..=lines.len()).map(|i| i.to_string())), "the counter broke");
            Ok(())
        })
    });
}

fn change(lab: &Lab, alice: &Person) -> Result<()> {
    let resize = |args: &[&str]| lab.cli(&[["resize", "alice"].as_slice(), args].concat());
    resize(&["--cpu", "2", "--memory", "1GiB", "--disk", "4GB"])?.ok()?;
    assert_eq!(lab.ssh(alice, "free -m | awk '/Mem:/{print $2}'")?.ok()?.out, "1024");
    // Incus spreads counts over CPUs in the background.
    eventually("nproc follows --cpu 2", Duration::from_secs(20), || {
        Ok((lab.ssh(alice, "nproc")?.ok()?.out == "2").then_some(()))
    })?;
    let disk = lab.ssh(alice, "df --output=size -B1 / | tail -1")?.ok()?.out;
    println!("df inside says {} of the 4 GB", disk.trim());
    lab.ssh(alice, "head -c 3G /dev/zero > big && sync && rm big").and_then(|said| said.ok().map(drop))?;

    resize(&["--cpu", "1.5"])?.ok()?;
    let quota = cgroup_file(lab, "alice", "cpu.cfs_quota_us", "cpu.max")?;
    ensure!(quota.starts_with("150000"), "one and a half of 100 ms: {quota}");
    forms(lab, alice)?;
    resize(&["--cpu", "0-0"])?.ok()?;
    eventually("the cpuset follows --cpu 0-0", Duration::from_secs(20), || {
        Ok((lab.ssh(alice, "grep Cpus_allowed_list /proc/self/status | cut -f2")?.ok()?.out == "0").then_some(()))
    })?;
    let quota = cgroup_file(lab, "alice", "cpu.cfs_quota_us", "cpu.max")?;
    ensure!(!quota.starts_with("150000"), "the amount is gone with the set: {quota}");

    // 300 MiB of a tmpfs and 2.5 GB of files are in use.
    lab.ssh(alice, "head -c 300M /dev/zero > /dev/shm/held")?.ok()?;
    // btrfs gives the room of what was removed back a while later.
    eventually("there is room for 2.5 GB", Duration::from_secs(60), || {
        Ok((lab.ssh(alice, "head -c 2500M /dev/urandom > held && sync")?.code == 0).then_some(()))
    })?;
    let memory = resize(&["--memory", "256MiB"])?;
    ensure!(memory.code == 9 && memory.err.contains("256MiB"), "memory below use: {memory:?}");
    let disk = resize(&["--disk", "2GB"])?;
    ensure!(disk.code == 9 && disk.err.contains("2GB"), "disk below use: {disk:?}");
    assert_eq!(lab.ssh(alice, "free -m | awk '/Mem:/{print $2}'")?.ok()?.out, "1024");
    let nothing = resize(&[])?;
    assert_eq!(nothing.code, 2, "{nothing:?}");
    let cpus = resize(&["--cpu", "0,8000"])?;
    ensure!(cpus.code == 5 && cpus.err.contains("CPUs"), "{cpus:?}");
    let listed = lab.container("alice")?;
    assert_eq!((listed["cpu"].as_str(), listed["memory"].as_str()), (Some("0-0"), Some("1GiB")));
    Ok(())
}

/// Every form of `--cpu`, on the machine that runs: `nproc`, the cpuset and the quota. Sets name CPUs of the server; those
/// that it does not have are refused by placement, so the sets here are of what there is.
fn forms(lab: &Lab, alice: &Person) -> Result<()> {
    let cpus: usize = lab.on("jump-1", "nproc --all")?.ok()?.out.parse()?;
    let all = format!("0-{}", cpus - 1);
    let list =
        if cpus >= 5 { "0,2-4".to_owned() } else { (0..cpus).map(|i| i.to_string()).collect::<Vec<_>>().join(",") };
    let range = if cpus >= 5 { "2-4" } else { all.as_str() };
    let unlimited = ["-1", "max"];
    let cases: [(&str, Option<usize>, &str); 6] = [
        ("1", Some(1), ""),
        ("0-0", Some(1), ""),
        (&list, Some(if cpus >= 5 { 4 } else { cpus }), ""),
        (range, Some(if cpus >= 5 { 3 } else { cpus }), ""),
        ("250m", None, "25000"),
        ("1.5", None, "150000"),
    ];
    for (form, count, quota) in cases {
        lab.cli(&["resize", "alice", "--cpu", form])?.ok()?;
        let expected = count.unwrap_or(cpus).to_string();
        eventually(&format!("nproc follows --cpu {form}"), Duration::from_secs(20), || {
            Ok((lab.ssh(alice, "nproc")?.ok()?.out == expected).then_some(()))
        })?;
        let set = lab.ssh(alice, "grep Cpus_allowed_list /proc/self/status | cut -f2")?.ok()?.out;
        let now = cgroup_file(lab, "alice", "cpu.cfs_quota_us", "cpu.max")?;
        println!("--cpu {form}: nproc {expected}, cpuset {set}, quota {now}");
        match quota {
            "" => ensure!(unlimited.iter().any(|none| now.starts_with(none)), "no quota for {form}: {now}"),
            quota => ensure!(now.starts_with(quota), "the quota of {form}: {now}"),
        }
    }
    Ok(())
}

#[test]
fn a_removed_key_ends_its_session_on_a_server_that_does_not_hold_the_machine() {
    scenario(|lab| {
        let alice = lab.person_with_container("alice")?;
        let laptop = Person { name: "alice".into(), key: lab.person("laptop")?.key };
        lab.cli(&["key", "add", "alice", "--ssh-key", &laptop.public_key()])?.ok()?;
        let home = lab.container("alice")?["node"].as_str().context("node")?.to_owned();
        let mut away = None;
        for client in lab.clients() {
            if via(lab, &laptop, client)? != home {
                away = Some(client);
                break;
            }
        }
        let away = away.context("a client that the balancer sends to another server")?;
        let keys = lab.cli(&["key", "list", "alice", "-o", "json"])?.json()?;
        let fingerprint = keys["keys"][1]["fingerprint"].as_str().context("two keys")?.to_owned();
        let took = thread::scope(|scope| -> Result<Duration> {
            let session = scope.spawn(|| lab.ssh_from(away, &laptop, &["alice-dev", "echo in; sleep 300"]));
            eventually("the laptop is logged in", Duration::from_secs(20), || {
                let there = lab.on(&home, "incus exec alice-container -- pgrep -x sleep")?;
                Ok((there.code == 0).then_some(()))
            })?;
            let removed = Instant::now();
            lab.cli(&["key", "remove", "alice", &fingerprint])?.ok()?;
            let ended = session.join().expect("the session's thread")?;
            ensure!(ended.code != 0, "the session outlived its key: {ended:?}");
            Ok(removed.elapsed())
        })?;
        println!("a removed key's session ended after {:.1} s", took.as_secs_f32());
        ensure!(took < Duration::from_secs(5), "after {took:?} only");
        let refused = lab.ssh_from(away, &laptop, &["alice-dev", "true"])?;
        ensure!(refused.err.contains("Permission denied"), "{refused:?}");
        assert_eq!(lab.ssh(&alice, "whoami")?.ok()?.out, "alice");
        let last = lab.cli(&["key", "list", "alice", "-o", "json"])?.json()?["keys"][0]["fingerprint"].clone();
        let last = lab.cli(&["key", "remove", "alice", last.as_str().context("one key")?])?;
        ensure!(last.code == 9 && last.err.contains("--force"), "the last key: {last:?}");
        Ok(())
    });
}
