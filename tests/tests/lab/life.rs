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
        thread::scope(|scope| -> Result<()> {
            let counter = scope.spawn(|| lab.ssh(&alice, "for i in $(seq 150); do echo $i; sleep 0.1; done"));
            change(lab, &alice)?;
            let counted = counter.join().expect("the session's thread")?.ok()?;
            ensure!(counted.out.lines().eq((1..=150).map(|i| i.to_string())), "the counter broke: {}", counted.out);
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
    lab.ssh(alice, "head -c 3G /dev/zero > big && sync && rm big").and_then(|said| said.ok().map(drop))?;

    resize(&["--cpu", "1.5"])?.ok()?;
    let quota = cgroup_file(lab, "alice", "cpu.cfs_quota_us", "cpu.max")?;
    ensure!(quota.starts_with("150000"), "one and a half of 100 ms: {quota}");
    resize(&["--cpu", "0-0"])?.ok()?;
    eventually("the cpuset follows --cpu 0-0", Duration::from_secs(20), || {
        Ok((lab.ssh(alice, "grep Cpus_allowed_list /proc/self/status | cut -f2")?.ok()?.out == "0").then_some(()))
    })?;
    let quota = cgroup_file(lab, "alice", "cpu.cfs_quota_us", "cpu.max")?;
    ensure!(!quota.starts_with("150000"), "the amount is gone with the set: {quota}");

    // 300 MiB of a tmpfs and 2.5 GB of files are in use.
    lab.ssh(alice, "head -c 300M /dev/zero > /dev/shm/held; head -c 2500M /dev/urandom > held; sync")?.ok()?;
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
