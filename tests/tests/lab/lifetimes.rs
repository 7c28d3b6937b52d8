//! What ends, rests and wakes by itself: time to live, idle stop, and what does not start with its server.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use containarium_tests::lab::{Lab, Person, eventually};
use serde_json::Value;

use crate::scenario;

const PATIENCE: Duration = Duration::from_secs(120);
/// Seconds stand for hours. A grace of less than a minute no coordinator takes.
const SHORT: [(&str, &str); 4] = [
    ("CONTAINARIUM_COORDINATOR_SHORTEST_TTL", "1s"),
    ("CONTAINARIUM_COORDINATOR_SHORTEST_IDLE_STOP", "1s"),
    ("CONTAINARIUM_COORDINATOR_LIFETIMES_EVERY", "1s"),
    ("CONTAINARIUM_COORDINATOR_TTL_GRACE", "1m"),
];

fn with_short_lifetimes(lab: &Lab, body: impl FnOnce() -> Result<()>) -> Result<()> {
    with_coordinator(lab, &SHORT, body)
}

/// Runs `body` with a coordinator of other settings, and then has the usual one back.
pub(crate) fn with_coordinator(lab: &Lab, settings: &[(&str, &str)], body: impl FnOnce() -> Result<()>) -> Result<()> {
    let begin_anew = |environment: &[(&str, &str)]| -> Result<()> {
        lab.lab(&["coordinator", "stop"])?.ok()?;
        lab.lab_with(environment, &["coordinator", "start"])?.ok()?;
        eventually("the coordinator answers", PATIENCE, || Ok((lab.cli(&["list"])?.code == 0).then_some(())))
    };
    begin_anew(settings)?;
    let outcome = body();
    begin_anew(&[])?;
    outcome
}

fn create(lab: &Lab, user: &str, options: &[&str]) -> Result<Person> {
    let person = lab.person(user)?;
    let key = person.public_key();
    let small = ["create", user, "--ssh-key", &key, "--cpu", "500m", "--memory", "512MiB", "--disk-quota", "4GB"];
    lab.cli(&[small.as_slice(), options].concat())?.ok()?;
    Ok(person)
}

fn until_status(lab: &Lab, user: &str, status: &str) -> Result<Value> {
    eventually(&format!("{user} is {status}"), PATIENCE, || {
        let container = lab.container(user)?;
        Ok((container["status"] == status).then_some(container))
    })
}

fn events(lab: &Lab, user: &str) -> Result<Vec<String>> {
    let said =
        lab.cli(&["events", "--subject", &format!("{user}-container"), "--limit", "12", "-o", "json"])?.json()?;
    let events = said["events"].as_array().context("events")?;
    Ok(events.iter().rev().filter_map(|event| event["kind"].as_str().map(ToOwned::to_owned)).collect())
}

/// The state of an instance in the words of its own Incus.
fn incus_state(lab: &Lab, node: &str, user: &str) -> Result<String> {
    Ok(lab.on(node, &format!("incus list -f csv -c s ^{user}-container$"))?.ok()?.out)
}

#[test]
fn what_has_an_end_ends_what_is_idle_rests_and_what_does_not_start_by_itself_stays_off() {
    scenario(|lab| {
        with_short_lifetimes(lab, || {
            create(lab, "alice", &["--ttl", "25s", "--node", "jump-1"])?;
            let bob = create(lab, "bob", &["--idle-stop", "12s", "--node", "jump-1"])?;
            let busy = create(lab, "busy", &["--idle-stop", "12s", "--node", "jump-1"])?;
            let carol = create(lab, "carol", &["--autostart", "off", "--node", "jump-2"])?;
            let dave = create(lab, "dave", &["--node", "jump-2"])?;
            lab.ssh(&carol, "echo precious > data && sync")?.ok()?;
            thread::scope(|scope| -> Result<()> {
                // An open session is use, though it does nothing.
                let session = scope.spawn(|| lab.ssh(&busy, "sleep 45; echo undisturbed"));
                ends(lab)?;
                rests(lab, &bob)?;
                assert_eq!(session.join().expect("the session's thread")?.ok()?.out, "undisturbed");
                Ok(())
            })?;
            stays_off(lab, &carol, &dave)?;
            eventually("alice is gone", PATIENCE, || Ok((lab.cli(&["info", "alice"])?.code == 3).then_some(())))?;
            let end = ["container.expiring", "container.expired", "container.stopped", "container.deleted"];
            let told = events(lab, "alice")?;
            ensure!(end.iter().all(|kind| told.iter().any(|told| told == kind)), "{told:?}");
            println!("a machine with --ttl 25s: {}", told.join(" "));
            Ok(())
        })
    });
}

fn ends(lab: &Lab) -> Result<()> {
    until_status(lab, "alice", "Stopped")?;
    assert_eq!(incus_state(lab, "jump-1", "alice")?, "STOPPED");
    let refused = lab.cli(&["start", "alice"])?;
    ensure!(refused.code == 9 && refused.err.contains("set alice --ttl"), "{refused:?}");
    Ok(())
}

fn rests(lab: &Lab, bob: &Person) -> Result<()> {
    until_status(lab, "bob", "Stopped")?;
    assert_eq!(incus_state(lab, "jump-1", "bob")?, "STOPPED");
    ensure!(events(lab, "bob")?.iter().any(|kind| kind == "container.idle"), "it is said why");
    assert_eq!(lab.container("busy")?["status"], "Running");
    lab.cli(&["set", "bob", "--idle-stop", "off"])?.ok()?;
    lab.cli(&["start", "bob"])?.ok()?;
    assert_eq!(lab.ssh(bob, "whoami")?.ok()?.out, "bob");
    Ok(())
}

fn stays_off(lab: &Lab, carol: &Person, dave: &Person) -> Result<()> {
    lab.lab(&["crash", "jump-2"])?.ok()?;
    lab.lab(&["start", "jump-2"])?.ok()?;
    until_status(lab, "dave", "Running")?;
    until_status(lab, "carol", "Stopped")?;
    assert_eq!(incus_state(lab, "jump-2", "carol")?, "STOPPED");
    assert_eq!(lab.ssh(dave, "whoami")?.ok()?.out, "dave");
    lab.cli(&["resize", "carol", "--memory", "600MiB"])?.ok()?;
    assert_eq!(incus_state(lab, "jump-2", "carol")?, "STOPPED", "a change does not start it");
    lab.cli(&["start", "carol"])?.ok()?;
    assert_eq!(lab.ssh(carol, "cat data")?.ok()?.out, "precious");
    Ok(())
}

#[test]
fn a_machine_that_still_boots_is_stopped_in_time() {
    scenario(|lab| {
        // Its first boot is the longest: init has just begun when it is asked to end.
        let took = thread::scope(|scope| -> Result<Duration> {
            let start = scope.spawn(|| create(lab, "alice", &["--node", "jump-1"]));
            eventually("its init runs", Duration::from_secs(30), || {
                Ok((incus_state(lab, "jump-1", "alice")? == "RUNNING").then_some(()))
            })?;
            let asked = std::time::Instant::now();
            lab.cli(&["stop", "alice"])?.ok()?;
            let took = asked.elapsed();
            let created = start.join().expect("the create's thread");
            ensure!(created.is_err_and(|error| error.to_string().contains("stopped while it was being created")));
            Ok(took)
        })?;
        println!("stopped while it booted, in {:.1} s", took.as_secs_f32());
        assert_eq!(incus_state(lab, "jump-1", "alice")?, "STOPPED");
        ensure!(took < Duration::from_secs(25), "only by taking its power away: {took:?}");
        Ok(())
    });
}
