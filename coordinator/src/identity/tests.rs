use containarium_proto::identity::{Authority, HostIdentity, HostKey};

use super::*;
use crate::store::{Policy, testing::held};

fn issue(jump_address: Option<&str>) -> Issue {
    Issue {
        fleet: FleetId::generate(),
        authority: "SHA256:us".into(),
        jump_address: jump_address.map(ToOwned::to_owned),
        validity: Duration::from_secs(3000),
    }
}

fn node(name: &str, address: &str) -> NodeRow {
    NodeRow {
        addresses: Vec::new(),
        name: name.parse().unwrap(),
        address: address.to_owned(),
        policy: Policy::Active,
        network: None,
        boot_id: None,
        capacity: None,
        images: Vec::new(),
        created_at: 1,
        drain_parallel: 2,
        settings: Default::default(),
        labels: Default::default(),
    }
}

#[test]
fn a_server_proves_all_its_names_and_no_container_any_of_them() {
    let issue = issue(Some("jump.example.com"));
    let names = issue.of_node(&node("jump-1", "10.99.0.11:7444")).names;
    let expected = [&jump_alias(issue.fleet), "jump-1", "10.99.0.11", "jump.example.com"];
    assert_eq!(names, expected.map(|name| (*name).to_owned()).into());
    assert!(issue.of_node(&node("jump-2", "[2001:db8::1]:7444")).names.contains("2001:db8::1"));
    let container = issue.of_container(&held("alice", "jump-1", 7)).names;
    let alias = container_alias(issue.fleet, "alice-container");
    assert_eq!(container, [alias, "alice-container".to_owned(), "10.100.1.7".to_owned()].into());
    assert!(names.is_disjoint(&container));
}

#[test]
fn only_those_that_can_have_a_certificate_and_are_ours_get_one() {
    let issue = issue(None);
    let (alice, bob) = (held("alice", "jump-1", 2), held("bob", "jump-1", 3));
    let of = |held: &Held| Host::Container(held.container.id);
    let bare = || Ok(HostIdentity { key: HostKey::simulated(), certificate: None });
    let stranger = Host::Container(containarium_proto::ids::ContainerId::generate());
    let shown: Identities =
        [(Host::Node, bare()), (of(&alice), bare()), (of(&bob), Err("it has no sshd".to_owned())), (stranger, bare())]
            .into();
    let wanted = issue.of_all(&node("jump-1", "10.99.0.11:7444"), &[alice.clone(), bob]);
    let due: BTreeSet<Host> = lacking(&shown, &wanted, 5000).map(|(host, ..)| host).collect();
    assert_eq!(due, [Host::Node, of(&alice)].into());
}

#[test]
fn a_person_is_not_let_wait_for_a_renewal_nor_for_what_cannot_be() {
    let authority = Authority::generate();
    let issue = Issue { authority: authority.public().fingerprint(), ..issue(None) };
    let row = node("jump-1", "10.99.0.11:7444");
    let (key, wanted) = (HostKey::simulated(), issue.of_node(&row));
    let shown = |life: u64| {
        let window = window(now(), Duration::from_secs(life));
        let certificate = authority.sign(&key, &wanted.names, window).unwrap();
        Ok(HostIdentity { key: key.clone(), certificate: Some(certificate.facts()) })
    };
    let mut needed = Needed::default();
    needed.add("fresh", Some(&shown(3000)), &wanted);
    needed.add("old", Some(&shown(500)), &wanted);
    assert_eq!(needed, Needed::default());
    needed.add("bare", Some(&Ok(HostIdentity { key: key.clone(), certificate: None })), &wanted);
    needed.add("unseen", None, &wanted);
    needed.add("foreign", Some(&Err("it has no sshd".to_owned())), &wanted);
    assert_eq!(
        (needed.missing.join(" "), needed.impossible.join(" ")),
        ("bare unseen".into(), "it has no sshd".into())
    );
}
