//! Backups on the simulated fleet: what is written is whole, what is restored is what was written, and whatever is killed,
//! whenever, nothing is lost, doubled or left behind.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use containarium_agent::host::{
    shape::{BACKUP_MARK, clone_name, staging_name},
    sim::{Fault, SimHost},
};
use containarium_proto::{
    error::Reason,
    v1::{self, Availability, Phase, PowerAction},
};
use containarium_tests::{
    fleet::{Background, Fleet, eventually, refusal},
    invariants::settle,
};
use tonic::Status;

const NAME: &str = "alice-container";
const OTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPsgqJhcX8Ui+7ZCtnqBF7JhDZ1FE6w2fIV6rJjWTlD other";

/// Alice on jump-1 with data, and an empty jump-2.
fn alice_at_home() -> Fleet {
    let fleet = Fleet::of_nodes(2);
    fleet.create(v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request("alice") }).unwrap();
    assert!(fleet.nodes[0].host.write(NAME, "precious"));
    fleet.nodes[0].host.grow(NAME, 20_000);
    fleet
}

fn data(host: &SimHost) -> Option<String> {
    host.instances_now().get(NAME).map(|instance| instance.data.clone())
}

/// The fleet agrees with itself, alice has this data where she is listed and nowhere else, and no export or import has
/// left anything.
fn settled_with(fleet: &Fleet, wanted: &str) {
    settle(fleet);
    let home = fleet.list().into_iter().find(|c| c.user == "alice").unwrap();
    assert!(home.drift.is_empty(), "{:?}", home.drift);
    for node in &fleet.nodes {
        let expected = (node.name == home.node).then(|| wanted.to_owned());
        assert_eq!(data(&node.host), expected, "on {}", node.name);
        nothing_left(&node.host);
    }
}

fn nothing_left(host: &SimHost) {
    let instances = host.instances_now();
    for name in [clone_name(NAME), staging_name(NAME)] {
        assert!(!instances.contains_key(&name), "{name} is left");
    }
    let marked = instances.values().find(|i| i.seen.shape.config.contains_key(BACKUP_MARK));
    assert!(marked.is_none(), "{marked:?}");
}

/// Every file in the store.
fn files(fleet: &Fleet) -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&fleet.backups_dir(), &mut found);
    found.sort();
    found
}

fn export_of(fleet: &Fleet) -> PathBuf {
    files(fleet).into_iter().find(|file| file.ends_with("export.tar.zst")).unwrap()
}

fn reason(outcome: Result<v1::Progress, Status>) -> Reason {
    refusal(&outcome.unwrap_err()).reason
}

fn replacing(user: &str) -> v1::RestoreBackupRequest {
    v1::RestoreBackupRequest { replace: true, ..Fleet::restore_request(user) }
}

#[test]
fn a_backup_is_of_one_moment_and_brings_it_back() {
    let fleet = alice_at_home();
    let id = fleet.backup("alice").unwrap();
    settled_with(&fleet, "precious");
    let backups = fleet.backups("alice");
    assert_eq!((backups.len(), backups[0].id.as_str(), backups[0].node.as_str()), (1, id.as_str(), "jump-1"));
    assert!(backups[0].size_bytes > 20_000 && backups[0].sha256.len() == 64);
    assert_eq!(files(&fleet).len(), 2);
    let whole = fleet.verify_backup("alice", &id).unwrap();
    assert!(whole.message.contains("is whole"), "{}", whole.message);

    assert!(fleet.nodes[0].host.write(NAME, "spoilt"));
    let refused = refusal(&fleet.restore(Fleet::restore_request("alice")).unwrap_err());
    assert!(refused.reason == Reason::Refused && refused.hint.unwrap().contains("--force"));
    settled_with(&fleet, "spoilt");
    let restored = fleet.restore(replacing("alice")).unwrap();
    assert!(restored.message.contains(&format!("restored from backup {id} on jump-1")), "{}", restored.message);
    settled_with(&fleet, "precious");
    // What comes later comes to the restored one, as to any other.
    let resize = v1::ResizeContainerRequest { memory_bytes: Some(3 << 30), ..Fleet::resize_request("alice") };
    fleet.resize(resize).unwrap();
    fleet.move_to("alice", "jump-2").unwrap();
    settled_with(&fleet, "precious");
    fleet.power("alice", PowerAction::Stop).unwrap();
    settled_with(&fleet, "precious");
    // A stopped one is backed up too; the newest is taken.
    fleet.power("alice", PowerAction::Start).unwrap();
    assert!(fleet.nodes[1].host.write(NAME, "later"));
    fleet.power("alice", PowerAction::Stop).unwrap();
    fleet.backup("alice").unwrap();
    assert_eq!(fleet.backups("alice").len(), 2);
    fleet.restore(replacing("alice")).unwrap();
    settled_with(&fleet, "later");
    assert_eq!(fleet.phase("alice"), Some(Phase::Running));
}

#[test]
fn a_node_that_is_gone_takes_nothing_with_it_that_was_backed_up() {
    let mut fleet = alice_at_home();
    fleet.create(v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request("bob") }).unwrap();
    let id = fleet.backup("alice").unwrap();
    // The key of then is taken away now: it must not come back.
    let keys = v1::ChangeKeysRequest { add: vec![OTHER_KEY.into()], replace: true, ..Fleet::keys_request("alice") };
    fleet.change_keys(keys).unwrap();
    let now = fleet.list()[0].ssh_keys.clone();
    fleet.kill_agent(0);
    fleet.until_node("jump-1", Availability::Offline);
    assert_eq!(reason(fleet.restore(replacing("alice"))), Reason::NodeUnavailable, "it may come back with her disk");
    let lost = fleet.retire("jump-1", "jump-1").unwrap().lost;
    let told: Vec<_> =
        lost.iter().map(|l| (l.user.as_str(), l.newest_backup.as_ref().map(|b| b.id.as_str()))).collect();
    assert_eq!(told, [("alice", Some(id.as_str())), ("bob", None)]);
    assert_eq!(fleet.phase("alice"), Some(Phase::Lost));

    fleet.restore(Fleet::restore_request("alice")).unwrap();
    fleet.delete("bob").unwrap();
    fleet.nodes.remove(0);
    settled_with(&fleet, "precious");
    let alice = fleet.list().remove(0);
    assert_eq!((alice.node.as_str(), alice.phase(), &alice.ssh_keys), ("jump-2", Phase::Running, &now));
    assert!(alice.address.starts_with("10.100.2."));
    assert!(fleet.node("jump-1").lost.is_empty());
    assert_eq!(fleet.nodes[0].host.creates(), 0, "restored, not made anew");
}

#[test]
fn a_backup_outlives_its_container_and_the_database() {
    let mut fleet = alice_at_home();
    let id = fleet.backup("alice").unwrap();
    let before = fleet.backups("");
    fleet.delete("alice").unwrap();
    settle(&fleet);
    assert_eq!(fleet.backups("alice"), before);
    // With the keys of the backup, or with others.
    fleet.restore(Fleet::restore_request("alice")).unwrap();
    settled_with(&fleet, "precious");
    fleet.delete("alice").unwrap();
    let other = v1::RestoreBackupRequest {
        ssh_keys: vec![OTHER_KEY.into()],
        to: "jump-2".into(),
        ..Fleet::restore_request("alice")
    };
    let container = fleet.restore(other).unwrap().container.unwrap();
    assert_eq!((container.ssh_keys.len(), container.ssh_keys[0].comment.as_str()), (1, "other"));
    assert_eq!(container.node, "jump-2");
    settled_with(&fleet, "precious");
    fleet.delete("alice").unwrap();
    settle(&fleet);

    // Nodes obey the first fleet they meet: with the database, they are set up anew.
    fleet.kill_coordinator();
    for index in 0..2 {
        fleet.kill_agent(index);
        fleet.forget_fleet(index);
        fleet.start_agent(index);
    }
    fleet.lose_database();
    eventually("the store tells what there is", || fleet.backups("alice").len() == 1);
    let found = fleet.backups("alice").remove(0);
    assert_eq!((&found.sha256, found.id.as_str(), found.node.as_str()), (&before[0].sha256, id.as_str(), ""));
    fleet.restore(Fleet::restore_request("alice")).unwrap();
    settled_with(&fleet, "precious");
    fleet.delete_backup("alice", &id).unwrap();
    assert!(files(&fleet).is_empty() && fleet.backups("").is_empty());
}

#[test]
fn what_is_damaged_is_refused_and_changes_nothing() {
    let fleet = alice_at_home();
    let id = fleet.backup("alice").unwrap();
    let (whole, generation) = (std::fs::read(export_of(&fleet)).unwrap(), fleet.list()[0].generation);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for spoilt in [&flipped[..], &whole[..whole.len() - 1], b""] {
        std::fs::write(export_of(&fleet), spoilt).unwrap();
        let said = refusal(&fleet.verify_backup("alice", &id).unwrap_err());
        assert!(said.reason == Reason::BackupDamaged && said.message.contains("is damaged"), "{said}");
        assert_eq!(reason(fleet.restore(replacing("alice"))), Reason::BackupDamaged);
        let elsewhere = v1::RestoreBackupRequest { to: "jump-2".into(), ..replacing("alice") };
        assert_eq!(reason(fleet.restore(elsewhere)), Reason::BackupDamaged);
    }
    std::fs::remove_file(export_of(&fleet)).unwrap();
    assert_eq!(reason(fleet.restore(replacing("alice"))), Reason::BackupDamaged);
    assert_eq!(fleet.list()[0].generation, generation);
    settled_with(&fleet, "precious");
}

#[test]
fn what_cannot_be_is_refused_in_words_and_changes_nothing() {
    let mut fleet = alice_at_home();
    let id = fleet.backup("alice").unwrap();
    let generation = fleet.list()[0].generation;
    let one = |user: &str, id: &str| fleet.verify_backup(user, id).map_err(|status| refusal(&status));
    assert_eq!(one("alice", "20010101-000000").unwrap_err().reason, Reason::NotFound);
    assert_eq!(one("alice", "../../etc").unwrap_err().reason, Reason::InvalidArgument);
    assert_eq!(one("bob", &id).unwrap_err().reason, Reason::NotFound, "it is alice's");
    assert_eq!(reason(fleet.delete_backup("bob", &id)), Reason::NotFound);
    assert_eq!(refusal(&fleet.backup("bob").unwrap_err()).reason, Reason::NotFound);
    assert_eq!(reason(fleet.restore(Fleet::restore_request("bob"))), Reason::NotFound);
    let to = |to: &str| v1::RestoreBackupRequest { to: to.into(), ..replacing("alice") };
    assert_eq!(reason(fleet.restore(to("jump-9"))), Reason::NotFound);
    let keys = v1::RestoreBackupRequest { ssh_keys: vec![OTHER_KEY.into()], ..replacing("alice") };
    assert_eq!(reason(fleet.restore(keys)), Reason::InvalidArgument, "she keeps the keys she has");
    fleet.set_policy("jump-2", v1::Policy::Cordoned);
    let refused = refusal(&fleet.restore(to("jump-2")).unwrap_err());
    assert!(refused.reason == Reason::NoCapacity && refused.message.contains("cordoned"), "{refused}");
    assert_eq!(fleet.list()[0].generation, generation);

    // Without any store: one clear error, with what to do.
    fleet.has_store = false;
    for index in 0..2 {
        fleet.kill_agent(index);
        fleet.start_agent(index);
    }
    eventually("the nodes have said so", || {
        (1..=2).all(|i| {
            let node = fleet.node(&format!("jump-{i}"));
            node.backup_store.is_empty() && node.availability() == Availability::Online
        })
    });
    eventually("alice is seen", || fleet.phase("alice") == Some(Phase::Running));
    let said = |outcome: Status| {
        let refused = refusal(&outcome);
        assert!(refused.reason == Reason::Refused && refused.hint.unwrap().contains("--backup-store"));
    };
    said(fleet.backup("alice").unwrap_err());
    said(fleet.verify_backup("alice", &id).unwrap_err());
    said(fleet.restore(replacing("alice")).unwrap_err());
    said(fleet.delete_backup("alice", &id).unwrap_err());
    assert_eq!(fleet.backups("alice").len(), 1);
    settled_with(&fleet, "precious");
}

#[test]
fn one_at_a_time_and_the_same_request_once() {
    let host = |i: u8| SimHost::new(format!("10.100.{i}.0/24").parse().unwrap());
    let fleet = Fleet::of(vec![host(1).with_latency(std::time::Duration::from_millis(700)), host(2)]);
    fleet.create(v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request("alice") }).unwrap();
    assert!(fleet.nodes[0].host.write(NAME, "precious"));
    let request = Fleet::backup_request("alice");
    let first = fleet.backup_in_background(request.clone());
    let again = fleet.backup_in_background(request);
    let begun = |fleet: &Fleet| fleet.events(NAME).iter().filter(|e| e.kind == "backup.begun").count();
    eventually("it is under way", || begun(&fleet) == 1);
    let busy = refusal(&fleet.backup("alice").unwrap_err());
    assert!(busy.reason == Reason::Busy && busy.message.contains("since"), "{busy}");
    assert_eq!(reason(fleet.move_to("alice", "jump-2")), Reason::Busy);
    assert!(fleet.backups("alice").is_empty(), "not before it is whole");
    let ids = [first, again].map(|one| fleet.join(one).unwrap().backup.unwrap().id);
    assert_eq!(ids[0], ids[1]);
    assert_eq!((begun(&fleet), fleet.backups("alice").len(), files(&fleet).len()), (1, 1, 2));
    let restore = replacing("alice");
    let generation = fleet.restore(restore.clone()).unwrap().container.unwrap().generation;
    assert_eq!(fleet.restore(restore).unwrap().container.unwrap().generation, generation);
    settled_with(&fleet, "precious");
}

#[test]
fn a_backup_that_cannot_be_written_is_told_and_leaves_nothing() {
    let fleet = alice_at_home();
    // The folder is full, or not ours: every write fails.
    std::fs::write(fleet.backups_dir().join("alice"), "a file where a folder must be").unwrap();
    let failed = refusal(&fleet.backup("alice").unwrap_err());
    assert_eq!(failed.reason, Reason::ContainerFailed);
    assert!(failed.message.contains("no backup of alice-container was made"), "{failed}");
    assert!(fleet.backups("alice").is_empty());
    settled_with(&fleet, "precious");
    std::fs::remove_file(fleet.backups_dir().join("alice")).unwrap();
    fleet.backup("alice").unwrap();
    // Deleted while it is written: whichever comes first, nothing is half there.
    let backup = fleet.backup_in_background(Fleet::backup_request("alice"));
    fleet.delete("alice").unwrap();
    let whole = fleet.join(backup).is_ok();
    eventually("nothing is under way", || files(&fleet).len() == fleet.backups("alice").len() * 2);
    assert_eq!(fleet.backups("alice").len(), if whole { 2 } else { 1 });
    settle(&fleet);
    nothing_left(&fleet.nodes[0].host);
}

/// What is tried at every effect.
#[derive(Debug, Clone, Copy)]
enum Doing {
    Create,
    RestoreHere,
    RestoreElsewhere,
    RestoreAnew,
    Delete,
}

impl Doing {
    fn arrange(self) -> Fleet {
        let fleet = alice_at_home();
        if matches!(self, Self::Create) {
            return fleet;
        }
        fleet.backup("alice").unwrap();
        match self {
            Self::RestoreAnew => drop(fleet.delete("alice").unwrap()),
            Self::RestoreHere | Self::RestoreElsewhere => assert!(fleet.nodes[0].host.write(NAME, "spoilt")),
            Self::Create | Self::Delete => {}
        }
        settle(&fleet);
        fleet
    }

    fn begin(self, fleet: &Fleet) -> Background {
        match self {
            Self::Create => fleet.backup_in_background(Fleet::backup_request("alice")),
            Self::RestoreHere => fleet.restore_in_background(replacing("alice")),
            Self::RestoreElsewhere => {
                let to = "jump-2".into();
                fleet.restore_in_background(v1::RestoreBackupRequest { to, ..replacing("alice") })
            }
            Self::RestoreAnew => {
                let to = "jump-1".into();
                fleet.restore_in_background(v1::RestoreBackupRequest { to, ..Fleet::restore_request("alice") })
            }
            Self::Delete => fleet.delete_backup_in_background("alice", &fleet.backups("alice")[0].id),
        }
    }

    /// What must be true at the end, whatever the caller was told.
    fn check(self, fleet: &Fleet, outcome: &Result<v1::Progress, Status>, case: &str) {
        settled_with(fleet, "precious");
        let kept = fleet.backups("alice").len();
        assert_eq!(files(fleet).len(), kept * 2, "{case}: {:?}", files(fleet));
        let expected = usize::from(!matches!(self, Self::Delete) && outcome.is_ok());
        assert!(kept >= expected, "{case}: {outcome:?}");
        if matches!(self, Self::RestoreHere | Self::RestoreElsewhere | Self::RestoreAnew) {
            assert!(outcome.is_ok(), "{case}: {outcome:?}");
            assert_eq!(fleet.list()[0].node == "jump-2", matches!(self, Self::RestoreElsewhere), "{case}");
        }
    }
}

/// Does it with one agent killed, or its disk full, around each of its effects in turn. Gives the number of cases.
fn matrix(doing: Doing, index: usize) -> u32 {
    let mut cases = 0;
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::DiskFull] {
        for k in 1.. {
            let mut fleet = doing.arrange();
            let host = fleet.nodes[index].host.clone();
            host.plan_fault(fault(k));
            let work = doing.begin(&fleet);
            let case = format!("{doing:?} {:?}", fault(k));
            let mut happened = false;
            eventually(&format!("{case} ends"), || {
                if host.is_down() {
                    fleet.kill_agent(index);
                    happened |= host.revive();
                    fleet.start_agent(index);
                }
                work.is_finished() && !host.is_down()
            });
            let outcome = fleet.join(work);
            happened |= host.revive();
            doing.check(&fleet, &outcome, &case);
            if !happened {
                break;
            }
            cases += 1;
        }
    }
    cases
}

#[test]
fn an_agent_killed_at_any_effect_of_a_backup_leaves_it_whole_or_not_at_all() {
    // The clone, its export, its removal.
    assert_eq!(matrix(Doing::Create, 0), 3 * 3);
}

#[test]
fn an_agent_killed_at_any_effect_of_a_restore_in_place_ends_with_what_was_backed_up() {
    // The import; stop and removal of the old one; the new one's name, stamp, start, login and its stamp.
    assert_eq!(matrix(Doing::RestoreHere, 0), 3 * 8);
}

#[test]
fn an_agent_killed_at_any_effect_of_a_restore_elsewhere_ends_there() {
    // The target: the account; the import, name, stamp, start, login and its stamp.
    assert_eq!(matrix(Doing::RestoreElsewhere, 1), 3 * 7);
    // The source: the account; the stamp of the order to stop, the stop, the removal. The last order may come so soon
    // that one of them is left out.
    assert!(matrix(Doing::RestoreElsewhere, 0) >= 3 * 3);
}

#[test]
fn an_agent_killed_at_any_effect_of_a_restore_of_what_was_deleted_makes_one() {
    assert_eq!(matrix(Doing::RestoreAnew, 0), 3 * 7);
}

#[test]
fn a_coordinator_killed_anywhere_brings_each_to_one_end() {
    for doing in [Doing::Create, Doing::RestoreHere, Doing::RestoreElsewhere, Doing::RestoreAnew, Doing::Delete] {
        for delay in (0..160).step_by(40) {
            let mut fleet = doing.arrange();
            let work = doing.begin(&fleet);
            // A spread of moments, not a wait for something: whatever the moment, the outcome is the same.
            std::thread::sleep(std::time::Duration::from_millis(delay));
            fleet.kill_coordinator();
            let told = fleet.join(work);
            fleet.start_coordinator();
            let again = match doing {
                // What was written before it was killed goes on without anybody; what was not is asked for again.
                Doing::Create if fleet.events(NAME).iter().any(|e| e.kind == "backup.begun") => {
                    eventually("the backup goes on", || fleet.backups("alice").len() == 1);
                    told
                }
                Doing::Delete if fleet.backups("alice").is_empty() => told,
                Doing::Create | Doing::RestoreHere | Doing::RestoreElsewhere | Doing::RestoreAnew | Doing::Delete => {
                    eventually("alice can be restored", || {
                        let outcome = fleet.join(doing.begin(&fleet));
                        let busy = outcome.as_ref().is_err_and(|status| refusal(status).reason == Reason::Busy);
                        let there = outcome.as_ref().is_err_and(|s| refusal(s).reason == Reason::Refused);
                        assert!(busy || there || outcome.is_ok(), "{outcome:?}");
                        !busy
                    });
                    told
                }
            };
            eventually("it is at rest", || files(&fleet).len() == fleet.backups("alice").len() * 2);
            settle(&fleet);
            settled_with(&fleet, "precious");
            assert_eq!(
                fleet.backups("alice").is_empty(),
                matches!(doing, Doing::Delete),
                "{doing:?} {delay} {again:?}"
            );
        }
    }
}
