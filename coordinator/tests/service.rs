//! The coordinator as its callers and its agents see it: over real gRPC with real certificates, on a real database.

// Helpers are outside of any #[test], where clippy.toml allows it.
#![allow(clippy::unwrap_used)]

mod fleet;

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use containarium_coordinator::{CoordinatorError, Limits};
use containarium_proto::{
    error::{Reason, Refusal},
    pki::CertsDir,
    spec::Desired,
    v1::{self, Availability, Phase, PowerAction},
};
use fleet::{Fleet, agent::Mode, config, eventually, follow, request, start};
use tonic::transport::Endpoint;

#[tokio::test]
async fn a_container_is_made_used_and_deleted() {
    let fleet = Fleet::with_nodes(2).await;
    let ask = request("alice");
    let made = fleet.create_with(ask.clone()).await;
    assert_eq!(made.said[0].message, "placed on jump-1 at 10.100.1.2");
    assert_eq!(made.said[0].step, 1);
    let last = made.last();
    assert_eq!((last.step, last.message.as_str()), (last.total, "ssh access on every server"));
    assert!(!last.pending);
    let alice = made.container();
    assert_eq!(
        (alice.phase(), alice.node.as_str(), alice.name.as_str()),
        (Phase::Running, "jump-1", "alice-container")
    );
    assert_eq!((alice.image_alias.as_str(), alice.ssh_keys.len()), ("containarium", 1));
    for agent in &fleet.agents {
        let accounts = agent.node.accounts.lock().unwrap().clone();
        assert_eq!(accounts.len(), 1, "on every node when the create says so");
        assert_eq!(accounts[0].permit, Some("10.100.1.2".parse().unwrap()));
    }

    let again = fleet.create_with(ask.clone()).await;
    assert_eq!(again.container().id, alice.id, "the same request gives the same container");
    let other = v1::CreateContainerRequest { autostart: false, ..ask };
    assert_eq!(fleet.create_with(other).await.refusal().reason, Reason::InvalidArgument);
    let taken = fleet.create("alice").await;
    assert_eq!(taken.refusal().reason, Reason::AlreadyExists);
    assert_eq!(taken.refusal().message, "alice already has a container on jump-1");

    let gone = fleet.delete("alice").await;
    assert!(!gone.last().pending, "{:?}", gone.said);
    assert_eq!(fleet.list().await, []);
    for agent in &fleet.agents {
        assert!(agent.node.account_names().is_empty() && agent.node.owners().is_empty());
    }
    assert_eq!(fleet.delete("alice").await.refusal().reason, Reason::NotFound);
    let expected =
        ["container.created", "container.placed", "container.running", "container.deleting", "container.deleted"];
    assert_eq!(fleet.events("alice-container").await, expected);
    let info = fleet.client.clone().get_fleet(v1::GetFleetRequest {}).await.unwrap().into_inner();
    // Two nodes were added, an account made and removed.
    assert_eq!((info.term, info.access_revision, info.jump_address.as_str()), (1, 4, "jump.example"));
}

#[tokio::test]
async fn twelve_equal_containers_at_once_spread_evenly() {
    let fleet = Fleet::with_nodes(3).await;
    let creates = (0..12).map(|i| {
        let (client, ask) = (fleet.client.clone(), request(&format!("user{i}")));
        tokio::spawn(async move { follow(client.clone().create_container(ask).await).await })
    });
    for create in futures::future::join_all(creates).await {
        assert_eq!(create.unwrap().container().phase(), Phase::Running);
    }
    let mut per_node = BTreeMap::new();
    for container in fleet.list().await {
        *per_node.entry(container.node).or_insert(0) += 1;
    }
    assert_eq!(per_node.into_values().collect::<Vec<_>>(), [4, 4, 4]);
}

#[tokio::test]
async fn a_silent_node_is_suspect_then_offline_and_its_containers_wait_for_it() {
    let mut fleet = Fleet::with_nodes(2).await;
    fleet.create("alice").await.last();
    fleet.agents[0].stop();
    fleet.node_becomes("jump-1", Availability::Offline).await;
    let alice = fleet.list().await.pop().unwrap();
    assert_eq!((alice.phase(), alice.node.as_str()), (Phase::Unreachable, "jump-1"), "never missing, never moved (I8)");
    assert!(alice.detail.starts_with("jump-1 is offline, last heard 2"), "{}", alice.detail);
    let node = fleet.node("jump-1").await;
    assert_eq!(node.not_placing_because, "is offline");
    assert!(node.detail.contains("refused") || node.detail.contains("transport"), "{}", node.detail);
    let refused = fleet.power("alice", PowerAction::Stop, &uuid::Uuid::new_v4().to_string()).await;
    assert_eq!(refused.refusal().reason, Reason::NodeUnavailable);

    fleet.agents[0].start();
    eventually(async || fleet.phase("alice").await == Some(Phase::Running), "alice is back").await;
    assert_eq!(fleet.agents[0].node.heard.lock().unwrap().len(), 1, "nothing was ordered anew");
    let newest = fleet.client.clone().get_fleet(v1::GetFleetRequest {}).await.unwrap().into_inner().access_revision;
    let accounts = async || fleet.node("jump-1").await.access_revision == newest;
    eventually(accounts, "accounts are synced with the new agent").await;
    let events = fleet.events("jump-1").await;
    let states: Vec<_> = events.iter().filter(|e| *e != "node.network").map(String::as_str).collect();
    assert_eq!(states, ["node.added", "node.online", "node.suspect", "node.offline", "node.online"]);
}

#[tokio::test]
async fn a_delete_with_the_node_away_is_pending_and_done_when_it_is_back() {
    let mut fleet = Fleet::with_nodes(2).await;
    fleet.create("alice").await.last();
    fleet.agents[0].stop();
    fleet.node_becomes("jump-1", Availability::Offline).await;
    for _ in 0..2 {
        let gone = fleet.delete("alice").await;
        assert!(gone.last().pending, "{:?}", gone.said);
        assert!(gone.last().message.contains("destroys it when it is back"), "{}", gone.last().message);
    }
    assert_eq!(fleet.phase("alice").await, Some(Phase::Deleting));
    let taken = fleet.create("alice").await;
    assert_eq!(taken.refusal().message, "alice's container is still being deleted");
    eventually(async || fleet.agents[1].node.account_names().is_empty(), "access ends at once elsewhere").await;
    fleet.agents[0].start();
    eventually(async || fleet.list().await.is_empty(), "it is gone").await;
    assert!(fleet.agents[0].node.owners().is_empty());
}

#[tokio::test]
async fn a_coordinator_that_dies_mid_create_goes_on_in_its_next_reign() {
    let mut fleet = Fleet::with_nodes(2).await;
    fleet.agents.iter().for_each(|a| a.node.set_mode(Mode::Held));
    let (client, ask) = (fleet.client.clone(), request("alice"));
    let same = ask.clone();
    let caller = tokio::spawn(async move {
        let mut stream = client.clone().create_container(ask).await.unwrap().into_inner();
        while stream.message().await.is_ok_and(|m| m.is_some()) {}
    });
    eventually(async || fleet.agents[0].node.owners().contains("alice"), "the order arrives").await;
    fleet.crash_coordinator();
    caller.await.unwrap();
    fleet.start_coordinator().await;
    let client = fleet.client.clone();
    let retry = tokio::spawn(async move { follow(client.clone().create_container(same).await).await });
    fleet.node_becomes("jump-1", Availability::Online).await;
    fleet.agents[0].node.set_mode(Mode::Prompt);
    let done = retry.await.unwrap();
    assert_eq!(done.container().phase(), Phase::Running);
    assert_eq!(fleet.list().await.len(), 1);
    let heard = fleet.agents[0].node.heard.lock().unwrap().clone();
    assert!(
        heard.iter().all(|(_, generation, desired, _)| (*generation, *desired) == (1, Desired::Running)),
        "{heard:?}"
    );
    assert_eq!(fleet.client.clone().get_fleet(v1::GetFleetRequest {}).await.unwrap().into_inner().term, 2);
}

#[tokio::test]
async fn an_order_that_never_arrived_is_given_by_the_next_reign() {
    let mut fleet = Fleet::with_nodes(1).await;
    fleet.agents[0].node.set_mode(Mode::Deaf);
    let created = fleet.client.clone().create_container(request("alice")).await;
    assert!(created.is_ok(), "the row is written before any call (I3)");
    fleet.crash_coordinator();
    assert!(fleet.agents[0].node.heard.lock().unwrap().is_empty());
    fleet.agents[0].node.set_mode(Mode::Prompt);
    fleet.start_coordinator().await;
    eventually(async || fleet.phase("alice").await == Some(Phase::Running), "alice runs").await;
}

#[tokio::test]
async fn what_never_ran_is_placed_elsewhere_and_its_first_copy_destroyed_later() {
    let mut fleet = Fleet::with_nodes(2).await;
    fleet.agents[0].node.set_mode(Mode::Held);
    let (client, ask) = (fleet.client.clone(), request("alice"));
    let caller = tokio::spawn(async move { follow(client.clone().create_container(ask).await).await });
    eventually(async || fleet.agents[0].node.owners().contains("alice"), "jump-1 has the order").await;
    let pinned = v1::CreateContainerRequest { node: "jump-1".into(), ..request("bob") };
    let (client, ask) = (fleet.client.clone(), pinned);
    let bob = tokio::spawn(async move { follow(client.clone().create_container(ask).await).await });
    eventually(async || fleet.agents[0].node.owners().contains("bob"), "jump-1 has bob's too").await;
    fleet.agents[0].stop();
    let made = caller.await.unwrap();
    assert_eq!((made.container().node.as_str(), made.container().phase()), ("jump-2", Phase::Running));
    assert!(
        made.said.iter().any(|p| p.message == "jump-1 went away: placed on jump-2 at 10.100.2.2"),
        "{:?}",
        made.said
    );
    assert!(fleet.agents[0].node.owners().contains("alice"), "jump-1 still has its copy");
    fleet.agents[0].node.set_mode(Mode::Prompt);
    fleet.agents[0].start();
    eventually(async || !fleet.agents[0].node.owners().contains("alice"), "the first copy is destroyed").await;
    assert_eq!(bob.await.unwrap().container().node, "jump-1", "who asked for a node gets that node");
    eventually(async || fleet.node("jump-1").await.containers == 1, "its reservation is gone").await;
    assert_eq!(fleet.phase("alice").await, Some(Phase::Running));
}

#[tokio::test]
async fn a_create_that_fails_for_good_says_why_and_can_be_deleted() {
    let fleet = Fleet::with_nodes(1).await;
    fleet.agents[0].node.set_mode(Mode::Broken);
    let failed = fleet.create("alice").await;
    let refusal = failed.refusal();
    assert_eq!((refusal.reason, refusal.message.as_str()), (Reason::ContainerFailed, "the pool is broken"));
    assert!(refusal.hint.as_ref().unwrap().contains("containarium delete alice"));
    assert_eq!(fleet.phase("alice").await, Some(Phase::Failed));
    assert!(!fleet.delete("alice").await.last().pending);
    assert!(fleet.list().await.is_empty());
}

#[tokio::test]
async fn power_is_idempotent_and_a_restart_happens_once_per_request() {
    let fleet = Fleet::with_nodes(1).await;
    fleet.create("alice").await.last();
    let id = || uuid::Uuid::new_v4().to_string();
    let generation = async || fleet.list().await[0].generation;
    fleet.power("alice", PowerAction::Start, &id()).await.last();
    assert_eq!(generation().await, 1, "it runs already");
    assert_eq!(fleet.power("alice", PowerAction::Stop, &id()).await.container().phase(), Phase::Stopped);
    fleet.power("alice", PowerAction::Stop, &id()).await.last();
    assert_eq!(generation().await, 2);
    assert_eq!(fleet.power("alice", PowerAction::Start, &id()).await.container().phase(), Phase::Running);
    let once = id();
    for _ in 0..2 {
        let restarted = fleet.power("alice", PowerAction::Restart, &once).await;
        assert_eq!(restarted.container().spec.as_ref().unwrap().restarts, 1);
    }
    assert_eq!(generation().await, 4);
    assert_eq!(fleet.power("nobody-here", PowerAction::Stop, &id()).await.refusal().reason, Reason::NotFound);
}

#[tokio::test]
async fn what_cannot_be_placed_is_refused_with_reasons_and_changes_nothing() {
    let fleet = Fleet::with_nodes(2).await;
    let mut cordon = v1::SetNodePolicyRequest { name: "jump-2".into(), ..Default::default() };
    cordon.set_policy(v1::Policy::Cordoned);
    let node = fleet.client.clone().set_node_policy(cordon.clone()).await.unwrap().into_inner();
    assert_eq!(node.not_placing_because, "is cordoned");
    cordon.set_policy(v1::Policy::Retired);
    assert!(fleet.client.clone().set_node_policy(cordon).await.is_err());

    let huge = v1::CreateContainerRequest { disk_bytes: Some(400_000_000_000), ..request("big") };
    assert_eq!(fleet.create_with(huge.clone()).await.container().node, "jump-1");
    let full = fleet.create_with(v1::CreateContainerRequest { user: "big2".into(), ..request("big2") }).await;
    assert_eq!(full.container().node, "jump-1");
    let none = fleet.create_with(v1::CreateContainerRequest { user: "big3".into(), ..huge.clone() }).await;
    assert_eq!(none.refusal().reason, Reason::InvalidArgument, "the request id was used");
    let none =
        fleet.create_with(v1::CreateContainerRequest { disk_bytes: Some(400_000_000_000), ..request("big3") }).await;
    let refusal = none.refusal();
    assert_eq!(refusal.reason, Reason::NoCapacity);
    let expected = "no node takes big3's container: \
                    jump-1 has no room: disk needs 400GB, 55GB free of 475GB; jump-2 is cordoned";
    assert_eq!(refusal.message, expected);

    let dry = fleet.create_with(v1::CreateContainerRequest { dry_run: true, ..request("carol") }).await;
    let verdicts: Vec<_> = dry.last().verdicts.iter().map(|v| (v.node.as_str(), v.fits)).collect();
    assert_eq!(verdicts, [("jump-1", true), ("jump-2", false)]);
    let pinned = v1::CreateContainerRequest { node: "jump-2".into(), ..request("carol") };
    assert_eq!(fleet.create_with(pinned).await.refusal().message, "jump-2 is cordoned");
    let image = v1::CreateContainerRequest { image: "nope".into(), ..request("carol") };
    let refused = fleet.create_with(image).await;
    assert_eq!(refused.refusal().reason, Reason::NotFound);
    assert_eq!(refused.refusal().hint.as_deref(), Some("known images: containarium"));

    fleet.create("a_b").await.last();
    assert_eq!(fleet.create("a-b").await.refusal().reason, Reason::AlreadyExists);
    *fleet.agents[1].node.foreign.lock().unwrap() = vec!["opsadmin".into()];
    let refused =
        async || fleet.create_with(v1::CreateContainerRequest { dry_run: true, ..request("opsadmin") }).await.refused;
    eventually(async || refused().await.is_some_and(|r| r.message.contains("jump-2")), "jump-2's own account").await;
    assert_eq!(fleet.list().await.len(), 3);
}

#[tokio::test]
async fn adding_a_node_again_is_fine_and_another_address_is_not() {
    let fleet = Fleet::with_nodes(1).await;
    let address = fleet.agents[0].address.to_string();
    let add = async |name: &str, address: &str| {
        fleet.client.clone().add_node(v1::AddNodeRequest { name: name.into(), address: address.into() }).await
    };
    assert!(add("jump-1", &address).await.is_ok());
    assert_eq!(add("jump-1", "10.0.0.9:1").await.unwrap_err().code(), tonic::Code::AlreadyExists);
    assert_eq!(add("jump-9", "nonsense").await.unwrap_err().code(), tonic::Code::InvalidArgument);
    assert_eq!(add("-", "10.0.0.9:1").await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

/// What a coordinator that stood still finds in its sockets: its caller was answered by another one, and went on.
#[tokio::test]
async fn a_late_copy_of_a_request_changes_nothing_that_was_asked_for_since() {
    let fleet = Fleet::with_nodes(2).await;
    let create = request("alice");
    let first = fleet.create_with(create.clone()).await.container().id.clone();
    let id = |last: u8| format!("0192f0c1-2345-7abc-8def-0123456789{last:02}");
    let refused = |outcome: fleet::Outcome| {
        let refusal = outcome.refusal();
        assert!(refusal.reason == Reason::Refused && refusal.message.contains("carried out before"), "{refusal:?}");
    };
    fleet.power("alice", PowerAction::Stop, &id(1)).await.last();
    // Asked again at once, it is the same.
    fleet.power("alice", PowerAction::Stop, &id(1)).await.last();
    fleet.power("alice", PowerAction::Start, &id(2)).await.last();
    refused(fleet.power("alice", PowerAction::Stop, &id(1)).await);
    assert_eq!(fleet.phase("alice").await, Some(Phase::Running));

    let delete = v1::DeleteContainerRequest { user: "alice".into(), request_id: id(3) };
    fleet.delete_with(delete.clone()).await.last();
    let again = fleet.delete_with(delete.clone()).await;
    assert_eq!(again.last().message, "alice-container is deleted with its data", "its answer was lost");
    refused(fleet.create_with(create).await);
    let second = fleet.create("alice").await.container().id.clone();
    assert_ne!(second, first);
    let late = fleet.delete_with(delete).await;
    assert_eq!(late.last().message, "alice-container is deleted with its data");
    assert_eq!(fleet.list().await.iter().map(|c| c.id.clone()).collect::<Vec<_>>(), [second]);
    let nonsense = v1::DeleteContainerRequest { user: "alice".into(), request_id: "x".into() };
    assert_eq!(fleet.delete_with(nonsense).await.refusal().reason, Reason::InvalidArgument);
}

/// Far sooner than everything is compared anew: people's sessions do not come this way until the node hears of it.
#[tokio::test]
async fn a_node_hears_at_once_that_it_is_emptied_and_that_it_is_not_any_more() {
    let fleet = Fleet::with_nodes(1).await;
    let told = || fleet.agents[0].node.policies.lock().unwrap().last().map(|policy| policy.out_of_rotation);
    eventually(async || told() == Some(false), "the first policy").await;
    let drain = v1::DrainNodeRequest { name: "jump-1".into(), ..Default::default() };
    fleet.client.clone().drain_node(drain).await.unwrap();
    eventually(async || told() == Some(true), "it is emptied").await;
    // Its report of that is news, and would wake what is to be woken by the call.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut active = v1::SetNodePolicyRequest { name: "jump-1".into(), ..Default::default() };
    active.set_policy(v1::Policy::Active);
    fleet.client.clone().set_node_policy(active).await.unwrap();
    eventually(async || told() == Some(false), "it is used again").await;
}

#[tokio::test]
async fn only_clients_may_call_and_root_may_use_the_socket() {
    let mut fleet = Fleet::with_nodes(0).await;
    let address = fleet.coordinator().address;
    // A coordinator's own certificate is of the fleet's CA, but of the wrong role.
    let tls = CertsDir::new(fleet.certs()).coordinator_to_agent(&"localhost".parse().unwrap()).unwrap();
    let channel = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap().connect_lazy();
    let mut stranger = v1::fleet_client::FleetClient::new(channel);
    let refused = stranger.list_containers(v1::ListContainersRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused:?}");

    let socket = fleet.dir.path().join("socket");
    let channel = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect().await.unwrap();
    let answer = v1::fleet_client::FleetClient::new(channel).get_fleet(v1::GetFleetRequest {}).await;
    // Whoever runs the tests: root is let in, others are told why not.
    assert!(answer.is_ok() || answer.unwrap_err().code() == tonic::Code::PermissionDenied);
    assert_eq!(fleet.create("alice").await.refusal().message, "the fleet has no nodes yet");
}

#[tokio::test]
async fn one_coordinator_per_state_folder_and_a_newer_term_ends_the_older() {
    let mut fleet = Fleet::with_nodes(1).await;
    let same_folder = config(fleet.dir.path());
    let second = containarium_coordinator::run(same_folder, Default::default(), None).await;
    assert!(matches!(second, Err(CoordinatorError::StateInUse { .. })), "{second:?}");

    let database = format!("sqlite://{}?mode=rw", fleet.dir.path().join("state/fleet.db").display());
    let mut other = config(fleet.dir.path());
    (other.state_dir, other.socket, other.database) =
        (fleet.dir.path().join("other"), None, Some(database.parse().unwrap()));
    let mut second = start(other).await;
    let refused = fleet.create("alice").await;
    assert_eq!(refused.refusal().reason, Reason::NotReady, "{refused:?}");
    let ended = (&mut fleet.coordinator().ended).await.unwrap();
    assert!(matches!(ended, Err(CoordinatorError::Deposed { term: 1 })), "{ended:?}");
    second.stop.cancel();
    assert!((&mut second.ended).await.unwrap().is_ok(), "a stop is a good end");
}

#[tokio::test]
async fn an_agent_is_not_given_what_it_would_not_understand_until_the_next_one_runs() {
    let mut fleet = Fleet::with_nodes(2).await;
    fleet.agents[0].stop();
    fleet.node_becomes("jump-1", Availability::Offline).await;
    fleet.agents[0].node.level.store(0, Ordering::Relaxed);
    fleet.agents[0].start();
    fleet.node_becomes("jump-1", Availability::Online).await;
    for (user, node) in [("alice", "jump-1"), ("bob", "jump-2")] {
        let ask = v1::CreateContainerRequest { node: node.into(), ..request(user) };
        assert_eq!(fleet.create_with(ask).await.container().phase(), Phase::Running, "what it does understand");
    }
    let request_id = || uuid::Uuid::new_v4().to_string();
    for (user, to) in [("alice", "jump-2"), ("bob", "jump-1")] {
        let ask = v1::MoveContainerRequest {
            user: user.into(),
            to: to.into(),
            request_id: request_id(),
            ..Default::default()
        };
        let refused = follow(fleet.client.clone().move_container(ask).await).await;
        assert_eq!(refused.refusal().reason, Reason::Refused, "{refused:?}");
        assert!(refused.refusal().message.contains("agent of jump-1 is older"), "{refused:?}");
    }
    let mut share = v1::ShareContainerRequest {
        user: "alice".into(),
        with: "bob".into(),
        request_id: request_id(),
        ..Default::default()
    };
    let refused = follow(fleet.client.clone().share_container(share.clone()).await).await;
    assert!(refused.refusal().message.contains("does not know shares"), "{refused:?}");
    let given = |fleet: &Fleet, node: usize| fleet.agents[node].node.heard.lock().unwrap().len();
    assert_eq!((given(&fleet, 0), given(&fleet, 1)), (1, 1), "nothing but the creates");

    fleet.agents[0].stop();
    fleet.node_becomes("jump-1", Availability::Offline).await;
    fleet.agents[0].node.level.store(1, Ordering::Relaxed);
    fleet.agents[0].start();
    fleet.node_becomes("jump-1", Availability::Online).await;
    share.request_id = request_id();
    follow(fleet.client.clone().share_container(share).await).await.last();
    assert_eq!(given(&fleet, 0), 2);
    eventually(async || fleet.phase("alice").await == Some(Phase::Running), "it is at rest").await;
    // One that goes back to an older version: what it was given stays, and it is told of nothing beyond it.
    // What it holds stays as it is.
    *fleet.agents[0].node.mode.lock().unwrap() = Mode::Deaf;
    let repair = v1::RepairContainerRequest { user: "alice".into(), request_id: request_id() };
    let client = fleet.client.clone();
    let waiting = tokio::spawn(async move { follow(client.clone().repair_container(repair).await).await });
    let ordered = async || fleet.events("alice-container").await.contains(&"container.repairing".to_owned());
    eventually(async || waiting.is_finished() || ordered().await, "the repair is ordered").await;
    assert!(!waiting.is_finished(), "{:?}", waiting.await);
    fleet.agents[0].stop();
    fleet.node_becomes("jump-1", Availability::Offline).await;
    fleet.agents[0].node.level.store(0, Ordering::Relaxed);
    *fleet.agents[0].node.mode.lock().unwrap() = Mode::Prompt;
    let before = given(&fleet, 0);
    fleet.agents[0].start();
    eventually(async || fleet.node("jump-1").await.warnings.iter().any(|w| w.contains("too old")), "it is told").await;
    assert_eq!(given(&fleet, 0), before);
    waiting.abort();
}

#[tokio::test]
async fn streams_count_as_calls_until_their_end() {
    let fleet = Fleet::with_nodes(1).await;
    let mut strict = config(fleet.dir.path());
    (strict.state_dir, strict.socket) = (fleet.dir.path().join("strict"), None);
    strict.limits = Limits { at_once: 2, ..strict.limits };
    let strict = start(strict).await;
    let client = fleet::client(&fleet.certs(), strict.address);
    let watch = async || client.clone().watch_events(v1::WatchEventsRequest::default()).await;
    let (first, _second) = (watch().await.unwrap().into_inner(), watch().await.unwrap().into_inner());
    let refused = watch().await.unwrap_err();
    assert_eq!(Refusal::from_status(&refused).unwrap().reason, Reason::Busy, "{refused:?}");
    drop(first);
    eventually(async || watch().await.is_ok(), "a place is free again").await;
}

#[tokio::test]
async fn a_stop_ends_streams_with_a_word() {
    let mut fleet = Fleet::with_nodes(1).await;
    fleet.agents[0].node.set_mode(Mode::Held);
    let (client, ask) = (fleet.client.clone(), request("alice"));
    let caller = tokio::spawn(async move { follow(client.clone().create_container(ask).await).await });
    eventually(async || fleet.agents[0].node.owners().contains("alice"), "the order arrives").await;
    fleet.coordinator().stop.cancel();
    assert_eq!(caller.await.unwrap().refusal().reason, Reason::NotReady);
    assert!((&mut fleet.coordinator().ended).await.unwrap().is_ok());
}
