//! Which servers may take a machine: cordon, labels, pins, and a bound on their number.

use std::{collections::BTreeMap, thread, time::Instant};

use anyhow::{Context, Result, ensure};
use containarium_tests::lab::{Lab, Said};
use serde_json::Value;

use crate::scenario;

const SMALL: [&str; 6] = ["--cpu", "100m", "--memory", "256MiB", "--disk-quota", "3GB"];

fn create(lab: &Lab, user: &str, options: &[&str]) -> Result<Said> {
    let key = lab.person(user)?.public_key();
    lab.cli(&[["create", user, "--ssh-key", &key].as_slice(), &SMALL, options].concat())
}

/// What a dry run says of every server.
fn verdicts(lab: &Lab, options: &[&str]) -> Result<BTreeMap<String, Value>> {
    let said = create(lab, "nobody-yet", &[["--dry-run", "-o", "json"].as_slice(), options].concat())?.json()?;
    let all = said["verdicts"].as_array().with_context(|| format!("verdicts in {said}"))?;
    Ok(all.iter().map(|verdict| (verdict["node"].as_str().unwrap_or_default().to_owned(), verdict.clone())).collect())
}

#[test]
fn cordons_labels_and_pins_decide_where_and_say_why() {
    scenario(|lab| {
        lab.cli(&["node", "cordon", "jump-1"])?.ok()?;
        lab.cli(&["node", "label", "set", "jump-3", "gpu=true"])?.ok()?;
        let outcome = choices(lab);
        lab.cli(&["node", "uncordon", "jump-1"])?.ok()?;
        lab.cli(&["node", "label", "remove", "jump-3", "gpu"])?.ok()?;
        outcome?;
        ensure!(verdicts(lab, &[])?.values().all(|verdict| verdict["fits"] == true), "all may be used again");
        Ok(())
    });
}

fn choices(lab: &Lab) -> Result<()> {
    let seen = verdicts(lab, &[])?;
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!((&seen["jump-1"]["fits"], &seen["jump-1"]["chosen"]), (&false.into(), &false.into()), "{seen:?}");
    ensure!(seen["jump-1"]["reason"].as_str().is_some_and(|why| why.contains("cordoned")), "{seen:?}");
    assert_eq!(seen.values().filter(|verdict| verdict["chosen"] == true).count(), 1, "{seen:?}");
    assert!(lab.list()?.is_empty(), "a dry run makes nothing");
    let wide = lab.cli(&["node", "list", "-o", "wide"])?.ok()?.out;
    ensure!(wide.contains("cordoned") && wide.contains("gpu=true"), "{wide}");

    for user in ["alice", "bob"] {
        create(lab, user, &[])?.ok()?;
        ensure!(lab.container(user)?["node"] != "jump-1", "jump-1 is cordoned");
    }
    create(lab, "carol", &["--label", "gpu=true"])?.ok()?;
    assert_eq!(lab.container("carol")?["node"], "jump-3");
    let refusals = [
        (vec!["--node", "jump-1"], 5, "cordoned"),
        (vec!["--label", "gpu=false"], 5, "gpu"),
        (vec!["--node", "jump-2", "--label", "gpu=true"], 5, "gpu"),
        (vec!["--node", "jump-2", "--image", "nosuch"], 3, "nosuch"),
    ];
    for (options, code, why) in refusals {
        let refused = create(lab, "dave", &options)?;
        let line = refused.err.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        ensure!(refused.code == code && line.contains(why), "{options:?}: {refused:?}");
        println!("{}: {line}", options.join(" "));
    }
    let key = lab.person("dave")?.public_key();
    let large = lab.cli(&["create", "dave", "--ssh-key", &key, "--memory", "100TiB", "--node", "jump-2"])?;
    ensure!(large.code == 5 && large.err.contains("jump-2") && large.err.contains("memory"), "{large:?}");
    println!("{}", large.err);
    assert_eq!(lab.list()?.len(), 3);
    Ok(())
}

const RACERS: usize = 40;

#[test]
fn forty_racing_for_ten_slots_get_exactly_ten() {
    scenario(|lab| {
        let most = BTreeMap::from([("jump-1", 4), ("jump-2", 3), ("jump-3", 3)]);
        for (node, count) in &most {
            lab.cli(&["node", "set", node, "--max-containers", &count.to_string()])?.ok()?;
        }
        let outcome = race(lab, &most);
        for node in most.keys() {
            lab.cli(&["node", "set", node, "--reset"])?.ok()?;
        }
        outcome
    });
}

fn race(lab: &Lab, most: &BTreeMap<&str, usize>) -> Result<()> {
    let started = Instant::now();
    let users: Vec<String> = (1..=RACERS).map(|i| format!("racer{i}")).collect();
    let outcomes = thread::scope(|scope| -> Result<Vec<Said>> {
        let all: Vec<_> = users.iter().map(|user| scope.spawn(|| create(lab, user, &[]))).collect();
        all.into_iter().map(|racer| racer.join().expect("a racer's thread")).collect()
    })?;
    let won = outcomes.iter().filter(|said| said.code == 0).count();
    for refused in outcomes.iter().filter(|said| said.code != 0) {
        let named = most.keys().all(|node| refused.err.contains(node));
        ensure!(refused.code == 5 && named, "refused with a reason per server: {refused:?}");
    }
    let mut placed = BTreeMap::<String, usize>::new();
    for container in lab.list()? {
        assert_eq!(container["status"], "Running", "{container}");
        *placed.entry(container["node"].as_str().context("node")?.to_owned()).or_default() += 1;
    }
    println!("{won} of {RACERS} created in {:.1} s: {placed:?}", started.elapsed().as_secs_f32());
    let why = outcomes.iter().find(|said| said.code != 0).and_then(|said| said.err.lines().next());
    println!("the others: {}", why.unwrap_or_default());
    assert_eq!(won, 10);
    for (node, most) in most {
        assert_eq!(placed.get(*node), Some(most), "{placed:?}");
        let there = lab.on(node, "incus list -f csv -c n")?.ok()?.out.lines().count();
        assert_eq!(there, *most, "on {node} itself");
    }
    Ok(())
}
