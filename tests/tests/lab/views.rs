//! What people look at while it changes: pages, watches, followed events, and what machines use.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use containarium_tests::lab::{Lab, Said, eventually};
use serde_json::Value;

use crate::{limits::cgroup_file, scenario};

fn lines(said: &Said) -> Result<Vec<Value>> {
    said.out.lines().map(|line| serde_json::from_str(line).with_context(|| format!("not json: {line}"))).collect()
}

#[test]
fn lists_come_in_pages_and_watches_tell_every_change() {
    scenario(|lab| {
        let key = lab.person("watched")?.public_key();
        let small = ["--cpu", "500m", "--memory", "256MiB", "--disk-quota", "3GB"];
        let create = |user: &str| {
            lab.cli(&[["create", user, "--ssh-key", &key].as_slice(), small.as_slice()].concat())?.ok().map(drop)
        };
        create("alice")?;
        let (listed, followed) = thread::scope(|scope| -> Result<(Said, Said)> {
            let list = scope.spawn(|| lab.cli(&["list", "--watch", "-o", "json", "--timeout", "20s"]));
            let follow = ["events", "--follow", "--limit", "20", "-o", "json", "--timeout", "20s"];
            let follow = scope.spawn(move || lab.cli(&follow));
            create("bob")?;
            create("carol")?;
            lab.cli(&["delete", "bob", "--force"])?.ok()?;
            Ok((list.join().expect("a watch")?.ok()?, follow.join().expect("a watch")?.ok()?))
        })?;
        let seen: Vec<Vec<String>> = lines(&listed)?.iter().map(|list| statuses(list, "bob")).collect();
        let saw = |status: &str| seen.iter().position(|bob| bob.iter().any(|found| found == status));
        ensure!(saw("Running") < saw("Deleting") || saw("Deleting").is_none(), "{seen:?}");
        ensure!(saw("Running").is_some() && seen.last().is_some_and(Vec::is_empty), "{seen:?}");
        let told = lines(&followed)?;
        let of_bob = told.iter().filter(|event| event["subject"] == "bob-container");
        let of_bob: Vec<&str> = of_bob.filter_map(|event| event["kind"].as_str()).collect();
        let wanted = ["container.created", "container.placed", "container.running", "container.deleting"];
        ensure!(wanted.iter().all(|kind| of_bob.contains(kind)), "{of_bob:?}");
        let mut ids: Vec<&str> = told.iter().filter_map(|event| event["id"].as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), told.len(), "each event once");

        create("dave")?;
        let page = lab.cli(&["list", "--limit", "2", "-o", "json"])?.json()?;
        assert_eq!((page["containers"].as_array().map(Vec::len), page["total_count"].as_u64()), (Some(2), Some(3)));
        Ok(())
    });
}

fn statuses(list: &Value, user: &str) -> Vec<String> {
    let all = list["containers"].as_array().into_iter().flatten();
    let of = all.filter(|container| container["user"] == user);
    of.filter_map(|container| container["status"].as_str().map(ToOwned::to_owned)).collect()
}

fn number(value: &Value, field: &str) -> Result<f64> {
    value[field].as_f64().with_context(|| format!("{field} in {value}"))
}

fn top(lab: &Lab, user: &str) -> Result<Value> {
    let all = lab.cli(&["top", "-o", "json"])?.json()?;
    let rows = all["containers"].as_array().context("containers")?;
    rows.iter().find(|row| row["user"] == user).cloned().with_context(|| format!("{user} in {all}"))
}

#[test]
fn top_says_what_the_kernel_counts() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        let key = alice.public_key();
        lab.cli(&["create", "alice", "--ssh-key", &key, "--cpu", "500m", "--memory", "1GiB"])?.ok()?;
        lab.person_with_container("idle")?;
        let disk = number(&top(lab, "alice")?, "disk_bytes")?;
        lab.ssh(&alice, "head -c 200M /dev/urandom > file; sync; nohup sh -c 'while :; do :; done' >/dev/null 2>&1 &")?
            .ok()?;
        lab.ssh(&alice, "head -c 300M /dev/zero > /dev/shm/held")?.ok()?;
        let counted = || -> Result<f64> {
            let usage = cgroup_file(lab, "alice", "cpuacct.usage", "cpu.stat")?;
            let number = usage.split_whitespace().find_map(|word| word.parse::<f64>().ok()).context("a number")?;
            // Version 1 counts nanoseconds, version 2 microseconds.
            Ok(if usage.starts_with("usage_usec") { number / 1e6 } else { number / 1e9 })
        };
        eventually("what is said is what is counted", Duration::from_secs(40), || {
            let (before, began) = (counted()?, std::time::Instant::now());
            let row = top(lab, "alice")?;
            let share = (counted()? - before) / began.elapsed().as_secs_f64() * 100.0;
            let said = number(&row, "cpu_percent")?;
            // The loop has half a CPU; on a busy machine it gets less, but both see the same.
            Ok(((said - share).abs() < 15.0 && said > 10.0 && said < 60.0).then(|| {
                println!("top: alice {said:.1}% of a CPU, its cgroup {share:.1}%");
            }))
        })?;
        let row = top(lab, "alice")?;
        let memory = number(&row, "memory_bytes")?;
        ensure!((300e6..=1.08e9).contains(&memory), "300 MiB are held: {memory}");
        let limit = cgroup_file(lab, "alice", "memory.usage_in_bytes", "memory.current")?;
        let kernel: f64 = limit.trim().parse()?;
        ensure!((memory - kernel).abs() < 100e6, "top {memory}, kernel {kernel}");
        eventually("the disk's use follows", Duration::from_secs(30), || {
            let more = number(&top(lab, "alice")?, "disk_bytes")? - disk;
            Ok((150e6..=400e6).contains(&more).then_some(()))
        })?;
        ensure!(number(&top(lab, "idle")?, "cpu_percent")? < 40.0, "idle does nothing");
        let by_cpu = lab.cli(&["top", "--sort", "cpu", "-o", "json"])?.json()?;
        assert_eq!(by_cpu["containers"][0]["user"], "alice");
        Ok(())
    });
}
