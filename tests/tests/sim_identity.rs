//! Host certificates on the simulated fleet: whoever has the exported files is never asked and never wrongly refused,
//! whatever is moved, rebuilt, killed or renewed.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use containarium_agent::host::{
    Power,
    sim::{Fault, SimHost, SimSshd},
};
use containarium_proto::{
    error::Reason,
    identity::{Authority, HostKey, Window},
    v1,
};
use containarium_tests::{
    fleet::{Fleet, eventually, refusal},
    invariants::settle,
};

#[test]
fn a_create_is_done_when_ssh_asks_nothing_and_the_files_outlive_moves_and_rebuilt_servers() {
    let mut fleet = Fleet::of_nodes(3);
    let trust = fleet.trust();
    fleet.create(v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request("alice") }).unwrap();
    assert_eq!(fleet.refused(&trust, "alice"), [""; 0], "right when the create says that it is done");

    fleet.move_to("alice", "jump-2").unwrap();
    eventually("after a move, by its name", || fleet.refused(&trust, "alice").is_empty());

    let before = fleet.nodes[1].host.sshd().key;
    fleet.kill_agent(1);
    fleet.nodes[1].host.rebuild();
    assert_ne!(fleet.nodes[1].host.sshd().key, before);
    assert_eq!(fleet.refused(&trust, "alice"), ["jump-2"], "a key that nobody has certified");
    std::fs::remove_dir_all(fleet.state_dir(1)).unwrap();
    fleet.start_agent(1);
    eventually("the rebuilt server is known again", || fleet.refused(&trust, "alice").is_empty());
    let key = fleet.nodes[1].host.sshd().key.unwrap().fingerprint();
    eventually("it is told", || {
        fleet.events("jump-2").iter().any(|e| e.kind == "node.certified" && e.message.contains(&key))
    });

    fleet.kill_coordinator();
    fleet.start_coordinator();
    assert_eq!(fleet.trust(), trust, "a coordinator that comes back signs with the same key");
    fleet.create(Fleet::request("bob")).unwrap();
    assert_eq!(fleet.refused(&trust, "bob"), [""; 0]);
    settle(&fleet);
}

#[test]
fn certificates_are_renewed_before_they_end() {
    let mut fleet = Fleet::of_nodes(2);
    fleet.create(v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request("alice") }).unwrap();
    fleet.kill_coordinator();
    fleet.host_certificate_validity = Duration::from_secs(6);
    fleet.start_coordinator();
    let trust = fleet.trust();
    // Those of the hour before hold for longer than any of ours: they are not touched.
    let long = ends(&fleet)[0];
    for sshd in [None, Some("alice-container")] {
        fleet.nodes[0].host.change_sshd(sshd, |sshd| sshd.certificate = None);
    }
    eventually("short ones are there", || {
        let ends = ends(&fleet);
        ends.len() == 3 && ends[0] < long && ends[2] < long
    });
    let first = ends(&fleet);
    eventually("each was renewed twice, and never was anybody refused", || {
        assert_eq!(fleet.refused(&trust, "alice"), [""; 0]);
        let now = ends(&fleet);
        now[0] >= first[0] + 6 && now[2] >= first[2] + 6
    });
    assert_eq!(ends(&fleet)[1], first[1], "what is good for long is left alone");
}

/// When the certificates of both servers and of alice's machine end, of those that have one.
fn ends(fleet: &Fleet) -> Vec<u64> {
    let inside = fleet.nodes[0].host.instances_now()["alice-container"].sshd.clone();
    let all = fleet.nodes.iter().map(|node| node.host.sshd()).chain([inside]);
    all.filter_map(|sshd| Some(sshd.certificate?.facts().valid_before)).collect()
}

#[test]
fn what_a_stranger_put_there_is_replaced_and_a_new_key_certified() {
    let fleet = Fleet::of_nodes(1);
    let trust = fleet.trust();
    fleet.create(Fleet::request("alice")).unwrap();
    let host = &fleet.nodes[0].host;
    // Another authority's certificate, of the right key and for the right names.
    let key = host.sshd().key.unwrap();
    let names = host.sshd().certificate.unwrap().facts().principals;
    assert!(names.contains("jump-1") && names.contains("jump.example") && names.iter().any(|n| n.starts_with("jump.")));
    let foreign = Authority::generate().sign(&key, &names, Window { after: 0, before: u64::MAX >> 2 }).unwrap();
    host.change_sshd(None, |sshd| sshd.certificate = Some(foreign));
    eventually("ours is back", || fleet.refused(&trust, "alice").is_empty());
    // Its user is root in the machine and makes a new key.
    host.change_sshd(Some("alice-container"), |sshd| sshd.key = Some(HostKey::simulated()));
    assert_eq!(fleet.refused(&trust, "alice"), ["alice-container"]);
    eventually("the new key is certified", || fleet.refused(&trust, "alice").is_empty());
    let facts = host.instances_now()["alice-container"].sshd.certificate.clone().unwrap().facts();
    let address = fleet.list()[0].address.clone();
    assert!(facts.principals.contains("alice-container") && facts.principals.contains(&address));
    assert!(facts.principals.is_disjoint(&names), "never a name of a jump server");
}

#[test]
fn who_cannot_have_a_certificate_holds_nobody_up_and_is_told() {
    let fleet = Fleet::of_nodes(2);
    let trust = fleet.trust();
    fleet.nodes[1].host.change_sshd(None, |sshd| sshd.key = None);
    eventually("the server warns", || {
        fleet.node("jump-2").warnings.iter().any(|w| w == "no host certificate: this machine has no host key")
    });
    let last = fleet.create(Fleet::request("alice")).unwrap();
    assert!(!last.pending && last.message.contains("this machine has no host key"), "{last:?}");
    assert_eq!(fleet.refused(&trust, "alice"), ["jump-2"]);
    fleet.nodes[1].host.change_sshd(None, |sshd| {
        *sshd = SimSshd { key: Some(HostKey::simulated()), is_stubborn: true, ..sshd.clone() };
    });
    eventually("the server warns of that too", || {
        fleet.node("jump-2").warnings.iter().any(|w| w.contains("sshd does not show its host certificate"))
    });
    assert!(!fleet.create(Fleet::request("bob")).unwrap().pending);
    fleet.nodes[1].host.change_sshd(None, |sshd| sshd.is_stubborn = false);
    eventually("it is certified", || fleet.refused(&trust, "alice").is_empty());
    eventually("and warns no more", || fleet.node("jump-2").warnings.is_empty());
}

/// From nothing to a machine that ssh reaches, with an agent that dies around an effect: every one until it is not
/// reached, of the create and of the certificates. Half of the time the boot disk is lost with the agent.
#[test]
fn an_agent_that_dies_around_any_effect_ends_with_the_right_certificates() {
    let cases = matrix(SimHost::plan_fault) + matrix(SimHost::plan_certificate_fault);
    println!("{cases} cases");
    // Clone, start, login, its stamp, the proxy account; the certificates of the server and of the machine.
    assert!(cases >= 3 * (5 + 2), "{cases}");
}

fn matrix(plan: impl Fn(&SimHost, Fault)) -> u32 {
    let mut cases = 0;
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::DiskFull] {
        for k in 1.. {
            let host = SimHost::new("10.100.1.0/24".parse().unwrap());
            plan(&host, fault(k));
            if !survives(&host, k % 2 == 0) {
                break;
            }
            cases += 1;
        }
    }
    cases
}

/// Whether the fault happened.
fn survives(host: &SimHost, disk_is_lost: bool) -> bool {
    let mut fleet = Fleet::of(vec![host.clone()]);
    let trust = fleet.trust();
    let request = Fleet::request("alice");
    let create = fleet.create_in_background(request.clone());
    eventually("the fault, or the end", || host.is_down() || create.is_finished());
    let crashed = host.is_down();
    if crashed {
        fleet.kill_agent(0);
        if disk_is_lost {
            host.rebuild();
            std::fs::remove_dir_all(fleet.state_dir(0)).unwrap();
        }
    }
    let happened = host.revive();
    if crashed {
        fleet.start_agent(0);
    }
    // Refused for want of a server that answers, if it died before.
    if fleet.join(create).is_err() {
        eventually("a create is taken", || fleet.create(request.clone()).is_ok());
    }
    eventually("ssh refuses nobody", || fleet.refused(&trust, "alice").is_empty());
    settle(&fleet);
    happened
}

/// The coordinator dies between the machine's start and its certificate.
#[test]
fn a_coordinator_that_dies_on_the_way_signs_when_it_is_back() {
    let slow = SimHost::new("10.100.1.0/24".parse().unwrap()).with_latency(Duration::from_millis(100));
    let mut fleet = Fleet::of(vec![slow]);
    let trust = fleet.trust();
    let request = Fleet::request("alice");
    let create = fleet.create_in_background(request.clone());
    eventually("it has started", || {
        fleet.nodes[0].host.instances_now().values().any(|instance| instance.seen.power == Power::Running)
    });
    fleet.kill_coordinator();
    assert_eq!(fleet.nodes[0].host.instances_now()["alice-container"].sshd.certificate, None);
    assert!(fleet.join(create).is_err());
    fleet.start_coordinator();
    fleet.create(request).unwrap();
    assert_eq!(fleet.refused(&trust, "alice"), [""; 0]);
    settle(&fleet);
}

#[test]
fn one_authority_follows_another_and_nobody_is_locked_out() {
    use v1::{
        AuthorityState::{Active, Last, Next},
        change_ssh_authority_request::Change,
    };
    let mut fleet = Fleet::of_nodes(2);
    fleet.create(Fleet::request("alice")).unwrap();
    let old = fleet.trust();
    let first = fleet.authorities()[&Active].clone();
    for _ in 0..2 {
        fleet.change_authority(Change::Prepare(v1::PrepareAuthority {}), false).unwrap();
    }
    let second = fleet.authorities()[&Next].clone();
    assert_eq!(fleet.refused(&old, "alice"), [""; 0], "who has not looked is not concerned yet");
    // Everybody exports anew, and trusts both.
    let both = fleet.trust();
    let unknown = fleet.change_authority(Change::Use("SHA256:x".into()), false).unwrap_err();
    assert_eq!(refusal(&unknown).reason, Reason::NotFound);
    for forgotten in [&first, &second] {
        let outcome = fleet.change_authority(Change::Forget(forgotten.clone()), true);
        // The one that signs is never forgotten; the next one may be, and another is made.
        assert_eq!(outcome.is_err(), *forgotten == first);
    }
    assert_eq!(fleet.refused(&both, "alice"), [""; 0]);
    fleet.change_authority(Change::Prepare(v1::PrepareAuthority {}), false).unwrap();
    let (second, both) = (fleet.authorities()[&Next].clone(), fleet.trust());
    fleet.kill_agent(1);
    fleet.until_node("jump-2", v1::Availability::Offline);
    for _ in 0..2 {
        fleet.change_authority(Change::Use(second.clone()), false).unwrap();
    }
    assert_eq!(fleet.authorities(), [(Active, second.clone()), (Last, first.clone())].into());
    let signed_by = |fleet: &Fleet, index: usize| fleet.nodes[index].host.sshd().certificate.unwrap().facts().authority;
    eventually("jump-1 has a new one, and nobody was refused", || {
        assert_eq!(fleet.refused(&both, "alice"), [""; 0]);
        signed_by(&fleet, 0) == second
    });
    let early = fleet.change_authority(Change::Forget(first.clone()), false).unwrap_err();
    assert!(early.message().contains("jump-2 does not answer"), "{early:?}");
    fleet.start_agent(1);
    eventually("jump-2 has one too", || signed_by(&fleet, 1) == second);
    eventually("the old one can be forgotten", || fleet.change_authority(Change::Forget(first.clone()), false).is_ok());
    assert_eq!(fleet.authorities(), [(Active, second)].into());
    assert_eq!(fleet.refused(&fleet.trust(), "alice"), [""; 0]);
    assert_eq!(fleet.refused(&both, "alice"), [""; 0], "who trusts one too many is not refused");
    settle(&fleet);
}
