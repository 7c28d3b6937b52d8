//! Adoptions on the simulated fleet: exactly what was named is taken over, with all that is in it, whatever is killed.

#![allow(clippy::unwrap_used)]

use containarium_agent::host::{Instance, Power, sim::SimHost};
use containarium_proto::{
    error::Reason,
    v1::{self, Phase, PowerAction},
};
use containarium_tests::{
    fleet::{Fleet, refusal},
    invariants::settle,
};

const NAME: &str = "alice-container";
const OWN: &str = "10.100.1.77";

/// jump-1 with a stranger's instance that runs at a fixed address and has data.
fn with_foreign(name: &str) -> (Fleet, SimHost) {
    let fleet = Fleet::of_nodes(1);
    let host = fleet.nodes[0].host.clone();
    host.add_foreign_instance(name);
    host.tamper(name, |instance| fix_address(instance, OWN));
    assert!(host.write(name, "precious"));
    (fleet, host)
}

fn fix_address(instance: &mut Instance, address: &str) {
    let eth0 = instance.shape.devices.get_mut("eth0").unwrap();
    eth0.insert("ipv4.address".to_owned(), address.to_owned());
}

fn stop(instance: &mut Instance) {
    instance.power = Power::Stopped;
}

#[test]
fn what_runs_is_adopted_as_it_is_and_is_an_ordinary_machine_then() {
    let (fleet, host) = with_foreign(NAME);
    host.tamper(NAME, |instance| {
        instance.shape.config.insert("limits.memory".to_owned(), "1073741824".to_owned());
        instance.shape.profiles.push("default".to_owned());
    });
    let found = fleet.foreign("jump-1").unwrap();
    assert_eq!((found.len(), found[0].user.as_str()), (1, "alice"));
    assert!(found[0].obstacles.is_empty() && found[0].steps.iter().any(|step| step.contains(OWN)), "{found:?}");

    let request = Fleet::adopt_request(NAME, "alice");
    let dry = v1::AdoptInstanceRequest { dry_run: true, ..request.clone() };
    assert!(fleet.adopt(dry).unwrap().message.contains("would become alice's machine"));
    assert!(fleet.list().is_empty() && host.instances_now()[NAME].seen.stamp.is_none(), "nothing was changed");

    let adopted = fleet.adopt(request.clone()).unwrap().container.unwrap();
    assert_eq!((adopted.address.as_str(), adopted.spec.as_ref().unwrap().memory_bytes), (OWN, 1 << 30));
    let there = host.instances_now()[NAME].clone();
    assert_eq!((there.data.as_str(), there.boots, host.creates()), ("precious", 1, 0));
    // A lost reply: the same request again is the same machine.
    assert_eq!(fleet.adopt(request).unwrap().container.unwrap().id, adopted.id);
    // What it had beside what we order is drift.
    assert_eq!(fleet.phase("alice"), Some(Phase::Drifted));
    fleet.repair("alice").unwrap();
    settle(&fleet);
    assert!(fleet.foreign("jump-1").unwrap().is_empty());
    fleet.power("alice", PowerAction::Restart).unwrap();
    fleet.delete("alice").unwrap();
    settle(&fleet);
    assert!(host.instances_now().is_empty());
}

#[test]
fn what_is_stopped_is_renamed_gets_an_address_and_stays_stopped() {
    let (fleet, host) = with_foreign("old");
    host.tamper("old", |instance| {
        stop(instance);
        fix_address(instance, "192.0.2.1");
    });
    let adopted = fleet.adopt(Fleet::adopt_request("old", "alice")).unwrap().container.unwrap();
    assert_eq!((adopted.phase(), adopted.address.as_str()), (Phase::Stopped, "10.100.1.2"));
    assert_eq!(host.instances_now().into_keys().collect::<Vec<_>>(), [NAME]);
    settle(&fleet);
    fleet.power("alice", PowerAction::Start).unwrap();
    settle(&fleet);
    assert_eq!(host.instances_now()[NAME].data, "precious");
}

#[test]
fn what_cannot_be_adopted_is_refused_with_the_reason_and_left_alone() {
    let (fleet, host) = with_foreign("old");
    let before = host.instances_now();
    let refused = |instance: &str, user: &str| {
        let refusal = refusal(&fleet.adopt(Fleet::adopt_request(instance, user)).unwrap_err());
        assert!(fleet.list().is_empty());
        (refusal.reason, refusal.message)
    };
    let (reason, message) = refused("old", "alice");
    assert!(reason == Reason::Refused && message.contains("stop it first"), "{message}");
    assert_eq!(refused("nothing", "alice").0, Reason::NotFound);
    assert_eq!(refused("../old", "alice").0, Reason::InvalidArgument);
    assert_eq!(refused("old", "root").0, Reason::InvalidArgument);
    let elsewhere = v1::AdoptInstanceRequest { node: "jump-9".into(), ..Fleet::adopt_request("old", "alice") };
    assert_eq!(refusal(&fleet.adopt(elsewhere).unwrap_err()).reason, Reason::NotFound);
    assert_eq!(host.instances_now(), before);

    host.tamper("old", |instance| {
        stop(instance);
        drop(instance.shape.config.insert("security.privileged".into(), "true".into()));
    });
    let (reason, message) = refused("old", "alice");
    assert!(reason == Reason::Refused && message.contains("privileged"), "{message}");
    assert!(fleet.foreign("jump-1").unwrap()[0].obstacles[0].contains("privileged"));
    // A stamp that is not ours, or is damaged, is somebody's.
    host.tamper("old", |instance| {
        instance.shape.config.remove("security.privileged");
        instance.unclaimed = None;
    });
    assert!(fleet.foreign("jump-1").unwrap().is_empty());
    assert_eq!(refused("old", "alice").0, Reason::NotFound);
}

#[test]
fn a_user_with_a_machine_adopts_no_second_one() {
    let (fleet, host) = with_foreign("old");
    host.tamper("old", stop);
    fleet.create(Fleet::request("alice")).unwrap();
    let taken = refusal(&fleet.adopt(Fleet::adopt_request("old", "alice")).unwrap_err());
    assert_eq!(taken.reason, Reason::AlreadyExists);
    settle(&fleet);
    assert!(host.instances_now()["old"].seen.stamp.is_none());
}

#[test]
fn an_instance_without_our_helper_fails_for_good_until_it_has_it_and_is_repaired() {
    let (fleet, host) = with_foreign(NAME);
    host.set_helper_missing(true);
    let failed = refusal(&fleet.adopt(Fleet::adopt_request(NAME, "alice")).unwrap_err());
    assert!(failed.reason == Reason::ContainerFailed && failed.message.contains("ensure-user"), "{failed}");
    assert_eq!(fleet.phase("alice"), Some(Phase::Failed));
    host.set_helper_missing(false);
    fleet.repair("alice").unwrap();
    settle(&fleet);
    assert_eq!(host.instances_now()[NAME].data, "precious");
}
