use super::*;
use crate::ids::{ContainerId, FleetId};

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
        },
        address: Ipv4Addr::new(10, 100, 1, 2),
        keys: KeySet::from_lines([KEY]).unwrap(),
        copy_pass: Some(CopyPass::FIRST),
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
    for observed in seen {
        let report = ContainerReport {
            id: ContainerId::generate(),
            name: "a-container".into(),
            generation: Generation(1),
            observed,
        };
        assert_eq!(container_report_from_wire(&container_report_to_wire(&report)).unwrap(), report);
    }
}
