//! Backups of real Incus containers: the node destroyed, the backup damaged, agent and Incus killed in the middle.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use containarium_tests::lab::{Lab, Person, Said, eventually};

use crate::scenario;

/// A gigabyte (`CONTAINARIUM_TEST_MIB=1024`) is exported, written, read and unpacked within a minute here; a kill in the
/// middle costs that once more.
const PATIENCE: Duration = Duration::from_secs(300);

fn mib(default: u32) -> u32 {
    std::env::var("CONTAINARIUM_TEST_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A person with a machine on a server, with random data in it; gives its checksum.
fn person_with_data(lab: &Lab, name: &str, node: &str, mib: u32) -> Result<(Person, String)> {
    let person = lab.person(name)?;
    lab.cli(&["create", name, "--ssh-key", &person.public_key(), "--node", node])?.ok()?;
    let write = format!("head -c {mib}M /dev/urandom > data && sync && sha256sum < data");
    let sum = lab.ssh(&person, &write)?.ok()?.out;
    Ok((person, sum))
}

fn sum_of(lab: &Lab, person: &Person) -> Result<String> {
    Ok(lab.ssh(person, "sha256sum < data")?.ok()?.out)
}

/// Where all servers keep backups.
fn folder(lab: &Lab) -> PathBuf {
    PathBuf::from(lab.var("LAB_DIR")).join("backups")
}

/// The newest backup's data.
fn export_of(lab: &Lab, user: &str) -> Result<PathBuf> {
    let listed = lab.cli(&["backup", "list", user, "-o", "json"])?.json()?;
    let id = listed["backups"][0]["id"].as_str().context("a backup")?.to_owned();
    Ok(folder(lab).join(user).join(id).join("export.tar.zst"))
}

fn remove_all(lab: &Lab, user: &str) -> Result<()> {
    let listed = lab.cli(&["backup", "list", user, "-o", "json"])?.json()?;
    for backup in listed["backups"].as_array().context("backups")? {
        lab.cli(&["backup", "delete", user, backup["id"].as_str().unwrap_or_default(), "--force"])?.ok()?;
    }
    ensure!(!folder(lab).join(user).exists(), "something is left in the store");
    Ok(())
}

/// What exports and imports leave on a server while they last, and never after.
fn leavings(lab: &Lab, node: &str) -> Result<String> {
    let pool = "/var/lib/incus/storage-pools/default";
    let look = format!(
        "ls -d {pool}/containers/*-backup {pool}/containers/*-restore {pool}/backup.* /var/lib/incus/backups/instances/* 2>/dev/null || true"
    );
    Ok(lab.on(node, &look)?.ok()?.out)
}

fn nothing_left(lab: &Lab) -> Result<()> {
    for node in lab.nodes() {
        eventually("nothing of an export is left", Duration::from_secs(60), || {
            Ok(leavings(lab, node)?.is_empty().then_some(()))
        })
        .with_context(|| format!("{node}: {}", leavings(lab, node).unwrap_or_default()))?;
    }
    Ok(())
}

#[test]
fn a_machine_is_restored_from_its_backup_when_its_server_is_gone() {
    scenario(|lab| {
        let (alice, sum) = person_with_data(lab, "alice", "jump-1", mib(64))?;
        // Written to all the while: the backup is of one moment.
        lab.ssh(&alice, "nohup sh -c 'while :; do date >> log; done' >/dev/null 2>&1 &")?.ok()?;
        let began = Instant::now();
        lab.cli(&["backup", "create", "alice"])?.ok()?;
        let written = began.elapsed();
        lab.cli(&["backup", "verify", "alice"])?.ok()?;
        let (bob, bobs) = person_with_data(lab, "bob", "jump-1", 8)?;
        lab.cli(&["backup", "create", "bob"])?.ok()?;
        ensure!(lab.container("alice")?["status"] == "Running");
        nothing_left(lab)?;

        lab.lab(&["wipe", "jump-1"])?.ok()?;
        let unreachable = || Ok((lab.container("alice")?["status"] == "Unreachable").then_some(()));
        eventually("the server is seen to be away", PATIENCE, unreachable)?;
        let retired = lab.cli(&["node", "retire", "jump-1", "--lost", "jump-1"])?.ok()?;
        let offer = retired.err.lines().find_map(|line| line.split_once("containarium backup restore alice "));
        ensure!(retired.err.contains("backup restore bob "), "{retired:?}");
        let offered = offer.context("the command that restores it")?.1.to_owned();
        ensure!(lab.container("alice")?["status"] == "Lost");
        let began = Instant::now();
        let words: Vec<&str> = ["backup", "restore", "alice"].into_iter().chain(offered.split(' ')).collect();
        let restored = lab.cli(&words)?.ok()?;
        println!(
            "backup in {:.1} s; restored on another server in {:.1} s: {}",
            written.as_secs_f32(),
            began.elapsed().as_secs_f32(),
            restored.out
        );
        let now = lab.container("alice")?;
        ensure!(now["status"] == "Running" && now["node"] != "jump-1", "{now}");
        ensure!(now["drift"].as_array().is_some_and(Vec::is_empty), "{now}");
        assert_eq!(sum_of(lab, &alice)?, sum);
        assert_eq!(lab.ssh(&alice, "hostname")?.ok()?.out, "alice-container");
        // The same command does it for whoever is left.
        let rest = lab.cli(&["node", "retire", "jump-1", "--lost", "jump-1", "--restore"])?.ok()?;
        ensure!(rest.err.contains("[1/1] bob: "), "{rest:?}");
        assert_eq!(sum_of(lab, &bob)?, bobs);
        lab.cli(&["delete", "bob", "--force"])?.ok()?;
        remove_all(lab, "bob")?;

        // A new machine of that name makes the fleet whole again.
        lab.lab(&["start", "jump-1"])?.ok()?;
        let address = "10.99.0.11:7444";
        lab.cli(&["node", "add", "jump-1", "--address", address])?.ok()?;
        eventually("the new server may be used", PATIENCE, || {
            let node = lab.cli(&["node", "info", "jump-1", "-o", "json"])?.json()?;
            Ok((node["availability"] == "Online" && node["not_placing_because"] == "").then_some(()))
        })?;
        // Back to it, over what is there; and once more with the machine deleted, by the last backup.
        lab.ssh(&alice, "echo spoilt > data")?.ok()?;
        lab.cli(&["backup", "restore", "alice", "--to", "jump-1", "--force"])?.ok()?;
        assert_eq!(sum_of(lab, &alice)?, sum);
        lab.cli(&["delete", "alice", "--backup", "--force"])?.ok()?;
        lab.cli(&["backup", "restore", "alice"])?.ok()?;
        assert_eq!(sum_of(lab, &alice)?, sum);
        remove_all(lab, "alice")?;
        nothing_left(lab)
    });
}

#[test]
fn a_damaged_backup_is_refused_and_the_machine_goes_on() {
    scenario(|lab| {
        let (alice, _) = person_with_data(lab, "alice", "jump-2", 8)?;
        lab.cli(&["backup", "create", "alice"])?.ok()?;
        let (export, boot) =
            (export_of(lab, "alice")?, lab.ssh(&alice, "cat /proc/sys/kernel/random/boot_id; uptime -s")?.ok()?.out);
        let whole = fs::read(&export)?;
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for spoilt in [&flipped[..], &whole[..whole.len() - 1]] {
            fs::write(&export, spoilt)?;
            let verified = lab.cli(&["backup", "verify", "alice"])?;
            ensure!(verified.code == 8 && verified.err.contains("is damaged"), "{verified:?}");
            let restored = lab.cli(&["backup", "restore", "alice", "--force"])?;
            ensure!(restored.code == 8 && restored.err.contains("is damaged"), "{restored:?}");
        }
        assert_eq!(lab.ssh(&alice, "cat /proc/sys/kernel/random/boot_id; uptime -s")?.ok()?.out, boot);
        fs::write(&export, &whole)?;
        lab.cli(&["backup", "restore", "alice", "--force"])?.ok()?;
        lab.ssh(&alice, "test -s data")?.ok()?;
        remove_all(lab, "alice")
    });
}

/// Runs a command, and kills a service once `when` is true.
fn killed_during(
    lab: &Lab,
    command: &[&str],
    (node, service): (&str, &str),
    when: impl Fn() -> Result<bool>,
) -> Result<Said> {
    thread::scope(|scope| {
        let running = scope.spawn(|| lab.cli(command));
        eventually("the middle", PATIENCE, || Ok((when()? || running.is_finished()).then_some(())))?;
        lab.on(node, &format!("kill -9 $(cat /run/lab/{service}.pid)"))?.ok()?;
        running.join().expect("the command's thread")
    })
}

#[test]
fn a_kill_in_the_middle_of_a_backup_or_of_a_restore_loses_and_leaves_nothing() {
    scenario(|lab| {
        let (alice, sum) = person_with_data(lab, "alice", "jump-2", mib(256))?;
        let node = "jump-2";
        let has = |what: &'static str| move || Ok(leavings(lab, node)?.contains(what));
        let parts = || Ok(fs::read_dir(folder(lab).join("alice")).is_ok_and(|mut entries| entries.next().is_some()));
        let began = Instant::now();
        // While Incus exports, and while it is written to the store.
        killed_during(lab, &["backup", "create", "alice"], (node, "incusd"), has("backups/instances/"))?.ok()?;
        killed_during(lab, &["backup", "create", "alice"], (node, "agent"), parts)?.ok()?;
        println!("two backups of {} MiB, each with a kill, in {:.0} s", mib(256), began.elapsed().as_secs_f32());
        lab.cli(&["backup", "verify", "alice"])?.ok()?;
        nothing_left(lab)?;
        lab.ssh(&alice, "rm data")?.ok()?;
        // While Incus unpacks it.
        let restore = ["backup", "restore", "alice", "--force"];
        for service in ["agent", "incusd"] {
            let began = Instant::now();
            let restored = killed_during(lab, &restore, (node, service), has("-restore"))?.ok()?;
            println!("restored with {service} killed in {:.0} s: {}", began.elapsed().as_secs_f32(), restored.out);
            assert_eq!(sum_of(lab, &alice)?, sum);
            nothing_left(lab)?;
        }
        remove_all(lab, "alice")
    });
}
