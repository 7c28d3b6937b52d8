use super::*;
use crate::{
    ids::{ContainerId, FleetId},
    node::{Foreign, Guest, Licence, Permit},
};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEJqzAQRxEwRv7jLBI5nhfglRGNC5pn5DnhXH6KhJa1Y alice@laptop";

fn order() -> Order {
    Order {
        id: ContainerId::generate(),
        name: "alice-container".into(),
        owner: "alice".parse().unwrap(),
        generation: Generation(3),
        desired: Desired::Running,
        spec: Spec {
            cpu: "0,2-4".parse().unwrap(),
            memory: Bytes(4 << 30),
            disk: Bytes(20_000_000_000),
            image: "a".repeat(64).parse().unwrap(),
            autostart: true,
            restarts: 1,
            fenced: true,
        },
        address: Ipv4Addr::new(10, 100, 1, 2),
        keys: KeySet::from_lines([KEY]).unwrap(),
        copy_pass: Some(CopyPass::FIRST),
        origin: None,
        guests: vec![Guest { user: "bob".parse().unwrap(), sudo: true, keys: KeySet::from_lines([KEY]).unwrap() }],
    }
}

#[test]
fn an_account_survives_the_wire() {
    let permit = Permit { container: "bob-container".into(), address: Ipv4Addr::new(10, 100, 2, 3) };
    for (own, shared) in [(Some(Ipv4Addr::new(10, 100, 1, 2)), vec![permit]), (None, Vec::new())] {
        let account = Account { username: "alice".parse().unwrap(), ssh_keys: vec![KEY.into()], permit: own, shared };
        assert_eq!(account_from_wire(&account_to_wire(&account)).unwrap(), account);
    }
}

#[test]
fn an_order_survives_the_wire() {
    let sender = Sender { fleet: FleetId::generate(), term: Term(7) };
    let order = order();
    let (sender_read, order_read) = order_from_wire(&order_to_wire(sender, &order)).unwrap();
    assert_eq!((sender_read, order_read), (sender, order));
}

#[test]
fn an_order_for_another_name_is_refused() {
    let sender = Sender { fleet: FleetId::generate(), term: Term(7) };
    let mut wire = order_to_wire(sender, &order());
    wire.name = "bob-container".into();
    assert!(order_from_wire(&wire).unwrap_err().to_string().contains("bob-container"));
}

#[test]
fn a_state_that_only_a_later_agent_has_is_not_known_and_spoils_no_report() {
    let mut wire = v1::ContainerReport {
        container_id: ContainerId::generate().to_string(),
        generation: 3,
        observed: 1000,
        ..Default::default()
    };
    assert_eq!(container_report_from_wire(&wire).unwrap().observed, Observed::Unknown);
    wire.observed = 0;
    assert!(container_report_from_wire(&wire).is_err(), "nothing said is a mistake");
}

#[test]
fn unset_enums_are_refused() {
    let sender = Sender { fleet: FleetId::generate(), term: Term(7) };
    let mut wire = order_to_wire(sender, &order());
    wire.set_desired(v1::Desired::Unspecified);
    assert_eq!(order_from_wire(&wire).unwrap_err().to_string(), "field desired: missing");
    assert!(container_report_from_wire(&v1::ContainerReport::default()).is_err());
}

#[test]
fn every_observation_survives_the_wire() {
    let seen = [
        Observed::Absent,
        Observed::Running,
        Observed::Stopped,
        Observed::Converging { step: Step { index: 2, total: 5, title: "starting".into() } },
        Observed::Failed { error: "no space left".into(), permanent: true },
    ];
    for (observed, idle_since) in seen.into_iter().zip([None, Some(1_750_000_000_123)].into_iter().cycle()) {
        let report = ContainerReport {
            id: ContainerId::generate(),
            name: "a-container".into(),
            generation: Generation(1),
            observed,
            drift: vec!["limits.memory is 1, ordered 2".into()],
            idle_since,
            claim: Some(("a".parse().unwrap(), [10, 0, 0, 2].into())),
        };
        assert_eq!(container_report_from_wire(&container_report_to_wire(&report)).unwrap(), report);
    }
}

#[test]
fn licences_and_foreign_instances_survive_the_wire() {
    let adopt = Licence::Adopt { instance: "old".into(), uuid: "1-2".into() };
    for licence in [Licence::Repair, adopt] {
        assert_eq!(licence_from_wire(Some(&licence_to_wire(&licence))).unwrap(), Some(licence));
    }
    assert_eq!(licence_from_wire(None).unwrap(), None);
    assert!(licence_from_wire(Some(&v1::Licence::default())).is_err(), "a licence for nothing");
    let foreign = Foreign {
        name: "old".into(),
        uuid: "1-2".into(),
        running: true,
        cpu: Some("1.5".parse().unwrap()),
        memory: Some(Bytes(1 << 30)),
        disk: None,
        disk_used: Some(Bytes(5)),
        address: Some(Ipv4Addr::new(10, 100, 1, 9)),
        image: Some("a".repeat(64).parse().unwrap()),
        autostart: true,
        obstacles: vec!["it is privileged".into()],
    };
    assert_eq!(foreign_from_wire(&foreign_to_wire(&foreign)).unwrap(), foreign);
}
