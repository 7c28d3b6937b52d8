//! Rows for tests.

use containarium_proto::{
    ids::{AccessRevision, ContainerId, Generation, RequestId, Term},
    spec::{Desired, Observed, Spec},
};

use super::{ContainerRow, Held, LeaseClaim, NodeRow, PlacementRow, Policy, Role};
use crate::{config::Defaults, placement::Resources};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPsgqJhcX8Ui+7ZCtnqBF7JhDZ1FE6w2fIV6rJjWTlD test";

/// A node as it was added and as it said once.
pub(crate) fn node(name: &str, address: &str, cidr: &str) -> NodeRow {
    NodeRow {
        name: name.parse().unwrap(),
        address: address.to_owned(),
        policy: Policy::Active,
        network: Some((cidr.parse().unwrap(), [10, 0, 0, 1].into())),
        boot_id: None,
        capacity: None,
        images: Vec::new(),
        created_at: 1,
        drain_parallel: 2,
        settings: Default::default(),
        labels: Default::default(),
        addresses: Vec::new(),
    }
}

/// A container wanted running on `node`, in 10.100.1.0/24.
pub(crate) fn held(owner: &str, node: &str, last: u8) -> Held {
    let (id, defaults) = (ContainerId::generate(), Defaults::default());
    let (request, owner) = ((RequestId::generate(), "hash".into()), owner.parse().unwrap());
    let container = ContainerRow {
        created_at: 1,
        ..ContainerRow::new(id, (&owner, KEY.parse().unwrap()), defaults.image, request)
    };
    let placement = PlacementRow {
        container: id,
        node: node.parse().unwrap(),
        desired: Desired::Running,
        generation: Generation(1),
        spec: Spec {
            cpu: defaults.cpu,
            memory: defaults.memory,
            disk: defaults.disk,
            image: "a".repeat(64).parse().unwrap(),
            autostart: true,
            restarts: 0,
            fenced: false,
        },
        reserved: Resources { cpu_millis: 2000, memory_bytes: 2 << 30, disk_bytes: 20_000_000_000 },
        address: [10, 100, 1, last].into(),
        observed: Observed::Unknown,
        observed_generation: Generation(0),
        ever_ran: false,
        access_revision: AccessRevision(1),
        change_request: None,
        role: Role::Home,
        drift: Vec::new(),
        licence: None,
        origin: None,
        undo: None,
    };
    Held { container, placement, moving: None }
}

/// Of somebody who would lead.
pub(crate) fn claim(holder: &str) -> LeaseClaim {
    LeaseClaim { holder: holder.to_owned(), address: String::new(), seen: Term(0) }
}
