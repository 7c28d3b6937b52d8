//! Who may reach whom, on the simulated fleet: told to every node, kept through moves and restarts, put back when somebody
//! takes it away; and which nodes get new sessions.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use containarium_proto::{
    error::Reason,
    policy::Allowance,
    v1::{self, Policy},
};
use containarium_tests::{
    fleet::{Fleet, eventually, refusal},
    invariants::settle,
};

fn address(fleet: &Fleet, user: &str) -> std::net::Ipv4Addr {
    fleet.list().iter().find(|c| c.user == user).unwrap().address.parse().unwrap()
}

fn texts<T: ToString>(nets: &BTreeSet<T>) -> Vec<String> {
    nets.iter().map(ToString::to_string).collect()
}

/// Exactly these, on every node: who reaches whom.
fn until_allowed(fleet: &Fleet, pairs: &[(&str, &str)]) {
    let wanted: BTreeSet<Allowance> =
        pairs.iter().map(|(from, to)| Allowance { from: address(fleet, from), to: address(fleet, to) }).collect();
    eventually(&format!("every node lets pass {pairs:?}"), || fleet.allowances() == Some(wanted.clone()));
}

#[test]
fn every_node_closes_the_fleets_networks_and_all_nodes_addresses() {
    let fleet = Fleet::of_nodes(3);
    for (index, node) in fleet.nodes.iter().enumerate() {
        let last = 11 + u8::try_from(index).unwrap();
        node.host.set_addresses([[10, 99, 0, last].into(), [10, 100, last - 10, 1].into()].into());
    }
    eventually("all nodes know all addresses", || {
        fleet.rules().iter().all(|rules| {
            let closed = texts(&rules.closed);
            texts(&rules.containers) == ["10.100.1.0/24", "10.100.2.0/24", "10.100.3.0/24"]
                && ["10.99.0.11/32", "10.99.0.12/32", "10.99.0.13/32", "169.254.0.0/16"]
                    .iter()
                    .all(|net| closed.contains(&(*net).to_owned()))
        })
    });
    settle(&fleet);
}

#[test]
fn an_allowance_follows_moves_and_ends_with_either_container() {
    let mut fleet = Fleet::of_nodes(3);
    for user in ["alice", "bob", "carol"] {
        fleet.create(Fleet::request(user)).unwrap();
    }
    until_allowed(&fleet, &[]);
    assert_eq!(fleet.allow_from("alice", &["carol", "bob", "bob"]).unwrap(), ["bob", "carol"]);
    until_allowed(&fleet, &[("bob", "alice"), ("carol", "alice")]);
    let before = address(&fleet, "alice");
    fleet.move_to("alice", "").unwrap();
    assert_ne!(address(&fleet, "alice"), before);
    until_allowed(&fleet, &[("bob", "alice"), ("carol", "alice")]);

    // The coordinator dies, and a node hears of the next change when it is back.
    fleet.kill_agent(2);
    fleet.kill_coordinator();
    fleet.start_coordinator();
    fleet.allow_from("alice", &["bob"]).unwrap();
    fleet.start_agent(2);
    until_allowed(&fleet, &[("bob", "alice")]);

    fleet.delete("bob").unwrap();
    until_allowed(&fleet, &[]);
    // Another bob is not the one who was let in.
    fleet.create(Fleet::request("bob")).unwrap();
    assert!(fleet.list().iter().all(|c| c.allow_from.is_empty()));
    until_allowed(&fleet, &[]);
    let request = v1::CreateContainerRequest { allow_from: vec!["alice".into()], ..Fleet::request("dave") };
    fleet.create(request).unwrap();
    until_allowed(&fleet, &[("alice", "dave")]);
    fleet.allow_from("dave", &[]).unwrap();
    until_allowed(&fleet, &[]);
    settle(&fleet);
}

#[test]
fn who_cannot_be_let_in_is_named_and_nothing_changes() {
    let fleet = Fleet::of_nodes(1);
    fleet.create(Fleet::request("alice")).unwrap();
    fleet.create(Fleet::request("bob")).unwrap();
    fleet.allow_from("alice", &["bob"]).unwrap();
    let reason = |from: &[&str]| refusal(&fleet.allow_from("alice", from).unwrap_err()).reason;
    assert_eq!(reason(&["bob", "nobody-here"]), Reason::NotFound);
    assert_eq!(reason(&["alice"]), Reason::InvalidArgument);
    assert_eq!(reason(&["../x"]), Reason::InvalidArgument);
    let unknown = fleet.allow_from("zoe", &["bob"]).unwrap_err();
    assert_eq!(refusal(&unknown).reason, Reason::NotFound);
    let request = v1::CreateContainerRequest { allow_from: vec!["zoe".into()], ..Fleet::request("eve") };
    assert_eq!(refusal(&fleet.create(request).unwrap_err()).reason, Reason::NotFound);
    until_allowed(&fleet, &[("bob", "alice")]);
    assert_eq!(fleet.list().len(), 2);
    settle(&fleet);
}

#[test]
fn rules_that_somebody_removed_come_back_with_one_event_and_a_restarted_agent_needs_no_coordinator() {
    let mut fleet = Fleet::of_nodes(2);
    for user in ["alice", "bob"] {
        fleet.create(Fleet::request(user)).unwrap();
    }
    fleet.allow_from("alice", &["bob"]).unwrap();
    until_allowed(&fleet, &[("bob", "alice")]);
    fleet.nodes[0].host.lose_policy();
    let told = |fleet: &Fleet| fleet.events("jump-1").iter().filter(|e| e.kind == "node.repaired").count();
    eventually("the rules are back, and told", || fleet.nodes[0].host.policy_now().is_some() && told(&fleet) == 1);

    fleet.kill_coordinator();
    fleet.kill_agent(0);
    // As after a power cut: nothing of the kernel's tables is left.
    fleet.nodes[0].host.lose_policy();
    fleet.start_agent(0);
    let pair = Allowance { from: "10.100.2.2".parse().unwrap(), to: "10.100.1.2".parse().unwrap() };
    eventually("what was told last is in force", || {
        fleet.nodes[0].host.policy_now().is_some_and(|rules| rules.allowances.contains(&pair))
    });
    fleet.start_coordinator();
    until_allowed(&fleet, &[("bob", "alice")]);
    settle(&fleet);
}

#[test]
fn a_node_gets_new_sessions_while_all_is_well_and_none_before_it_is_emptied() {
    let mut fleet = Fleet::of_nodes(2);
    eventually("both are well", || fleet.is_healthy(0) && fleet.is_healthy(1));
    fleet.nodes[0].host.set_sshd_is_down(true);
    eventually("without sshd it is not", || fleet.health(0).is_some_and(|said| said.contains("sshd does not answer")));
    fleet.nodes[0].host.set_sshd_is_down(false);
    eventually("it is again", || fleet.is_healthy(0));

    fleet.set_policy("jump-2", Policy::Cordoned);
    let drained = fleet.drain_in_background("jump-2", 1);
    fleet.join(drained).unwrap();
    eventually("what is emptied gets none", || fleet.health(1).is_some_and(|said| said.contains("being emptied")));
    assert!(fleet.is_healthy(0));
    // Also when nobody tells it any more.
    fleet.kill_coordinator();
    fleet.kill_agent(1);
    assert_eq!(fleet.health(1), None);
    fleet.start_agent(1);
    eventually("it remembers", || fleet.health(1).is_some_and(|said| said.contains("being emptied")));
    fleet.start_coordinator();
    fleet.set_policy("jump-2", Policy::Active);
    eventually("it is used again", || fleet.is_healthy(1));
    settle(&fleet);
}

#[test]
fn a_fault_in_sshds_configuration_is_a_warning_of_the_node() {
    let fleet = Fleet::of_nodes(1);
    fleet.nodes[0].host.set_access_problems(vec!["it would not start again".to_owned()]);
    eventually("the operator is told", || fleet.list_nodes()[0].warnings.iter().any(|w| w.contains("not start again")));
    fleet.nodes[0].host.set_access_problems(Vec::new());
    eventually("and when it is over", || fleet.list_nodes()[0].warnings.is_empty());
}
