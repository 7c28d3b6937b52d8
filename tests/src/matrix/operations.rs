//! The operations of the crash matrix, one entry each. Every one is about alice on jump-1 of two nodes, with data that
//! must still be there in the end.

use std::time::Duration;

use containarium_agent::host::{Power, sim::SimInstance};
use containarium_proto::v1::{self, Phase, PowerAction};

use super::Operation;
use crate::{
    fleet::{Background, Fleet, eventually, follow},
    invariants::settle,
};

const NAME: &str = "alice-container";
const DATA: &str = "precious";
const STRANGER: &str = "stranger";
const OTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPsgqJhcX8Ui+7ZCtnqBF7JhDZ1FE6w2fIV6rJjWTlD other";

/// All of them. An arrangement leaves nothing under way.
pub static OPERATIONS: &[Operation] = &[
    Operation {
        name: "create",
        // Clone, start, login, its stamp, the account; the account.
        effects: &[5, 1],
        calls: true,
        arrange: |_| (),
        start: create,
        check: |fleet| {
            assert_eq!(here(fleet, 0).map(|instance| instance.boots), Some(1));
            assert_eq!(phase(fleet), Some(Phase::Running));
        },
    },
    Operation {
        name: "resize",
        // The change of the instance.
        effects: &[1, 0],
        calls: true,
        arrange: alice_at_home,
        start: |fleet, request| {
            let memory_bytes = Some(4 << 30);
            let request = v1::ResizeContainerRequest {
                request_id: request.into(),
                memory_bytes,
                ..Fleet::resize_request("alice")
            };
            fleet.resize_in_background(request)
        },
        check: |fleet| {
            assert_eq!(fleet.list()[0].spec.as_ref().map(|spec| spec.memory_bytes), Some(4 << 30));
            kept(fleet, 0, 1);
        },
    },
    Operation {
        name: "stop",
        // The stamp of the order, the stop.
        effects: &[2, 0],
        calls: true,
        arrange: alice_at_home,
        start: |fleet, request| power(fleet, request, PowerAction::Stop),
        check: |fleet| {
            assert_eq!(phase(fleet), Some(Phase::Stopped));
            kept(fleet, 0, 1);
        },
    },
    Operation {
        name: "start",
        // The stamp of the order, the start.
        effects: &[2, 0],
        calls: true,
        arrange: alice_stopped,
        start: |fleet, request| power(fleet, request, PowerAction::Start),
        check: |fleet| {
            assert_eq!(phase(fleet), Some(Phase::Running));
            kept(fleet, 0, 2);
        },
    },
    Operation {
        name: "restart",
        // The stop, the stamp of the order, the start.
        effects: &[3, 0],
        calls: true,
        arrange: alice_at_home,
        start: |fleet, request| power(fleet, request, PowerAction::Restart),
        check: |fleet| {
            assert_eq!(phase(fleet), Some(Phase::Running));
            // An agent that dies between the stop and the stamp starts what should run, as after a power cut, before it
            // hears of the restart again.
            let boots = here(fleet, 0).map_or(0, |instance| instance.boots).clamp(2, 3);
            kept(fleet, 0, boots);
        },
    },
    Operation {
        name: "delete",
        // The stop, the deletion, the account; the account.
        effects: &[3, 1],
        calls: true,
        arrange: alice_at_home,
        start: |fleet, _| fleet.delete_in_background("alice"),
        check: |fleet| assert!(fleet.list().is_empty() && here(fleet, 0).is_none()),
    },
    Operation {
        name: "keys",
        // The stamp of the order, the login, its stamp, the account; the account.
        effects: &[4, 1],
        calls: true,
        arrange: alice_at_home,
        start: |fleet, request| {
            let add = vec![OTHER_KEY.into()];
            let request = v1::ChangeKeysRequest {
                request_id: request.into(),
                add,
                replace: true,
                ..Fleet::keys_request("alice")
            };
            fleet.keys_in_background(request)
        },
        check: |fleet| {
            let comments: Vec<_> = fleet.list()[0].ssh_keys.iter().map(|key| key.comment.clone()).collect();
            assert_eq!(comments, ["other"]);
            kept(fleet, 0, 1);
        },
    },
    Operation {
        name: "protect",
        effects: &[0, 0],
        calls: false,
        arrange: alice_at_home,
        start: |fleet, _| fleet.protection_in_background("alice", true),
        check: |fleet| {
            assert!(fleet.list()[0].protected);
            kept(fleet, 0, 1);
        },
    },
    Operation {
        name: "autostart",
        // The change of the instance; the note that it has run, for it does not start by itself now.
        effects: &[2, 0],
        calls: true,
        arrange: alice_at_home,
        start: |fleet, request| {
            let request = v1::SetLifetimeRequest {
                request_id: request.into(),
                autostart: Some(false),
                ..Fleet::lifetime_request("alice")
            };
            fleet.lifetime_in_background(request)
        },
        check: |fleet| {
            assert_eq!(fleet.list()[0].spec.as_ref().map(|spec| spec.autostart), Some(false));
            kept(fleet, 0, 1);
        },
    },
    Operation {
        name: "repair",
        // Writing back, starting.
        effects: &[2, 0],
        calls: true,
        arrange: alice_drifted,
        start: |fleet, request| fleet.repair_request_in_background("alice", request),
        check: |fleet| {
            let shape = here(fleet, 0).map(|instance| instance.seen.shape).unwrap_or_default();
            assert_eq!(shape.config["limits.memory"], "2147483648");
            assert!(!shape.devices.contains_key("gpu0"), "what was added is gone");
            kept(fleet, 0, 2);
        },
    },
    Operation {
        name: "adopt",
        // Taking it over, the login, its stamp, the account; the account.
        effects: &[4, 1],
        calls: true,
        arrange: |fleet| foreign(fleet, NAME, Power::Running),
        start: |fleet, request| adopt(fleet, request, NAME),
        check: |fleet| {
            assert_eq!(phase(fleet), Some(Phase::Running));
            adopted(fleet);
        },
    },
    Operation {
        name: "adopt stopped",
        // The new name, taking it over, the account; the account.
        effects: &[3, 1],
        calls: true,
        arrange: |fleet| foreign(fleet, "old", Power::Stopped),
        start: |fleet, request| adopt(fleet, request, "old"),
        check: |fleet| {
            assert_eq!(phase(fleet), Some(Phase::Stopped));
            adopted(fleet);
        },
    },
    Operation {
        name: "move",
        // Source: three offers, the stamp of the order to stop, the stop, the deletion; the account. Target: three
        // passes, each with its stamp, two stamps of orders between; the last order, start, login and its stamp, the
        // clearing of traces; the account.
        effects: &[7, 14],
        calls: true,
        arrange: alice_at_home,
        start: |fleet, request| {
            let request = v1::MoveContainerRequest { request_id: request.into(), ..Fleet::move_request("alice") };
            fleet.move_in_background(request)
        },
        check: moved,
    },
    Operation {
        name: "move stopped",
        // Source: the offer, the deletion; the account. Target: the pass, its stamp, the last order, the clearing of
        // traces; the account.
        effects: &[3, 5],
        calls: true,
        arrange: alice_stopped,
        start: |fleet, request| {
            let request = v1::MoveContainerRequest { request_id: request.into(), ..Fleet::move_request("alice") };
            fleet.move_in_background(request)
        },
        check: moved,
    },
    Operation {
        name: "drain",
        // As a move.
        effects: &[7, 14],
        calls: true,
        arrange: alice_at_home,
        start: |fleet, _| fleet.drain_in_background("jump-1", 1),
        check: moved,
    },
    Operation {
        name: "replicate",
        // The fence, the offer. The pass, its stamp.
        effects: &[2, 2],
        calls: true,
        arrange: alice_at_home,
        start: |fleet, request| fleet.replicated_in_background(request, SELDOM),
        check: |fleet| {
            kept(fleet, 0, 1);
            let copy = here(fleet, 1).expect("a replica");
            assert_eq!((copy.data.as_str(), copy.boots, copy.seen.power), (DATA, 0, Power::Stopped));
        },
    },
    Operation {
        name: "replicate off",
        // The fence, the marks. The deletion.
        effects: &[2, 1],
        calls: true,
        arrange: |fleet| {
            alice_at_home(fleet);
            let request = uuid::Uuid::new_v4().to_string();
            fleet.join(fleet.replicated_in_background(&request, SELDOM)).expect("alice is replicated");
            settle(fleet);
        },
        start: |fleet, request| fleet.replicated_in_background(request, 0),
        check: |fleet| {
            kept(fleet, 0, 1);
            assert!(here(fleet, 0).is_some_and(|home| home.snapshots.is_empty()), "the marks are gone");
            assert!(here(fleet, 1).is_none());
        },
    },
];

/// Only the first pass comes.
const SELDOM: u64 = 24 * 3600;

fn here(fleet: &Fleet, node: usize) -> Option<SimInstance> {
    fleet.nodes[node].host.instances_now().remove(NAME)
}

fn phase(fleet: &Fleet) -> Option<Phase> {
    fleet.phase("alice")
}

/// Nothing was lost, and it was not started more often than it had to be.
fn kept(fleet: &Fleet, node: usize, boots: u32) {
    let instance = here(fleet, node).expect("it is where it was");
    assert_eq!((instance.data.as_str(), instance.boots), (DATA, boots));
}

/// Taken over as it was, and nothing else.
fn adopted(fleet: &Fleet) {
    kept(fleet, 0, 1);
    let there: Vec<_> = fleet.nodes[0].host.instances_now().into_keys().collect();
    assert_eq!(there, [NAME, STRANGER]);
}

/// One whole copy on jump-2, and the whole of the data.
fn moved(fleet: &Fleet) {
    let listed = fleet.list();
    let alice = listed.iter().find(|container| container.user == "alice").expect("alice is listed");
    assert_eq!(alice.node, "jump-2");
    assert_eq!(here(fleet, 1).map(|instance| instance.data).as_deref(), Some(DATA));
    assert!(here(fleet, 0).is_none());
    assert_eq!(fleet.nodes[1].host.creates(), 0, "copied, not made anew");
}

fn create(fleet: &Fleet, request: &str) -> Background {
    let node = "jump-1".into();
    fleet.create_in_background(v1::CreateContainerRequest {
        request_id: request.into(),
        node,
        ..Fleet::request("alice")
    })
}

fn power(fleet: &Fleet, request: &str, action: PowerAction) -> Background {
    let action = action.into();
    fleet.send_power(v1::SetPowerRequest { user: "alice".into(), action, request_id: request.into() })
}

fn adopt(fleet: &Fleet, request: &str, instance: &str) -> Background {
    let request = v1::AdoptInstanceRequest { request_id: request.into(), ..Fleet::adopt_request(instance, "alice") };
    fleet.adopt_in_background(request)
}

/// On a loaded machine a node may seem to be away for a moment.
fn on_jump_1(fleet: &Fleet, user: &str) {
    let request = v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request(user) };
    eventually("the create is accepted", || fleet.create(request.clone()).is_ok());
}

fn alice_at_home(fleet: &Fleet) {
    on_jump_1(fleet, "alice");
    assert!(fleet.nodes[0].host.write(NAME, DATA));
    settle(fleet);
}

fn alice_stopped(fleet: &Fleet) {
    alice_at_home(fleet);
    fleet.power("alice", PowerAction::Stop).expect("alice stops");
    settle(fleet);
}

fn alice_drifted(fleet: &Fleet) {
    alice_at_home(fleet);
    fleet.nodes[0].host.tamper(NAME, |instance| {
        instance.shape.config.insert("limits.memory".to_owned(), "1".to_owned());
        instance.shape.devices.insert("gpu0".to_owned(), [("type".to_owned(), "gpu".to_owned())].into());
        instance.power = Power::Stopped;
    });
    eventually("the drift is seen", || phase(fleet) == Some(Phase::Drifted));
}

fn foreign(fleet: &Fleet, name: &str, power: Power) {
    let host = &fleet.nodes[0].host;
    // I6: the history tells if it is touched.
    host.add_foreign_instance(STRANGER);
    host.add_foreign_instance(name);
    assert!(host.write(name, DATA));
    host.tamper(name, |instance| {
        instance.power = power;
        if let Some(eth0) = instance.shape.devices.get_mut("eth0") {
            eth0.insert("ipv4.address".to_owned(), "10.100.1.77".to_owned());
        }
    });
}

impl Fleet {
    fn in_background(
        &self,
        call: impl Future<Output = Result<v1::Progress, tonic::Status>> + Send + 'static,
    ) -> Background {
        Background(self.caller.spawn(call))
    }

    /// Starts, stops or restarts, as this request says; from a thread of its own.
    #[must_use]
    pub fn send_power(&self, request: v1::SetPowerRequest) -> Background {
        let mut client = self.client();
        self.in_background(async move { follow(client.set_power(request).await?.into_inner()).await })
    }

    /// Changes when it starts and stops by itself, from a thread of its own.
    #[must_use]
    pub fn lifetime_in_background(&self, request: v1::SetLifetimeRequest) -> Background {
        let mut client = self.client();
        self.in_background(async move { follow(client.set_lifetime(request).await?.into_inner()).await })
    }

    /// Has alice replicated, or not (0), and waits until the first copy is whole, or nothing is left of one; from a thread
    /// of its own.
    #[must_use]
    pub fn replicated_in_background(&self, request: &str, every_seconds: u64) -> Background {
        let mut client = self.client();
        let request = v1::SetReplicationRequest {
            user: "alice".into(),
            request_id: request.into(),
            every_seconds,
            node: String::new(),
        };
        self.in_background(async move {
            let last = follow(client.set_replication(request).await?.into_inner()).await?;
            loop {
                let listed = client.list_containers(v1::ListContainersRequest::default()).await?.into_inner();
                let replication = listed.containers.into_iter().find_map(|container| container.replication);
                let is_done = match replication {
                    Some(replication) => every_seconds > 0 && replication.as_of_unix_millis > 0,
                    None => every_seconds == 0,
                };
                if is_done {
                    return Ok(last);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }

    /// Protects, or no longer, from a thread of its own.
    #[must_use]
    pub fn protection_in_background(&self, user: &str, protected: bool) -> Background {
        let mut client = self.client();
        let request = v1::SetProtectionRequest { user: user.into(), protected };
        self.in_background(async move {
            let container = Some(client.set_protection(request).await?.into_inner());
            Ok(v1::Progress { container, ..Default::default() })
        })
    }
}
