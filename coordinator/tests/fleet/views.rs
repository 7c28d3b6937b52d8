//! What many people look at: pages, watches, followed events, use. Each by the wire, as a CLI gets it.

use std::time::{Duration, Instant};

use containarium_proto::{
    error::{Reason, Refusal},
    v1::{self, Availability, Phase, PowerAction},
};
use tonic::{Status, Streaming};

use super::{Fleet, eventually};

fn refusal(status: &Status) -> Refusal {
    Refusal::from_status(status).unwrap_or_else(|| panic!("not one of our refusals: {status:?}"))
}

fn users(containers: &[v1::Container]) -> Vec<&str> {
    containers.iter().map(|container| container.user.as_str()).collect()
}

/// The next message of a stream that must go on.
async fn next<T>(stream: &mut Streaming<T>) -> T {
    let message = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
    message.expect("a message in time").unwrap().expect("a stream that goes on")
}

impl Fleet {
    async fn page(&self, page_size: u32, page_token: &str) -> Result<v1::ListContainersResponse, Status> {
        let request = v1::ListContainersRequest { page_size, page_token: page_token.into() };
        self.client.clone().list_containers(request).await.map(tonic::Response::into_inner)
    }

    async fn watch(&self, page_size: u32) -> Streaming<v1::ListContainersResponse> {
        let request = v1::ListContainersRequest { page_size, ..Default::default() };
        self.client.clone().watch_containers(request).await.unwrap().into_inner()
    }

    async fn follow(&self, subject: &str, after: &str, last: u32) -> Streaming<v1::WatchEventsResponse> {
        let request = v1::WatchEventsRequest { subject: subject.into(), after: after.into(), last };
        self.client.clone().watch_events(request).await.unwrap().into_inner()
    }

    async fn usage(&self, nodes: &[&str]) -> Result<v1::ListUsageResponse, Status> {
        let request = v1::ListUsageRequest { nodes: nodes.iter().map(ToString::to_string).collect() };
        self.client.clone().list_usage(request).await.map(tonic::Response::into_inner)
    }
}

#[tokio::test]
async fn pages_together_are_the_list_whatever_is_made_meanwhile() {
    let fleet = Fleet::with_nodes(1).await;
    for user in ["bob", "carol", "dave", "frank", "grace"] {
        fleet.create(user).await.last();
    }
    let whole = fleet.page(0, "").await.unwrap();
    assert_eq!((whole.containers.len(), whole.total_count, whole.next_page_token.as_str()), (5, 5, ""));

    let first = fleet.page(2, "").await.unwrap();
    assert_eq!((users(&first.containers), first.total_count), (vec!["bob", "carol"], 5));
    // One before the place we are at, one after it; and the place itself goes.
    fleet.create("alice").await.last();
    fleet.create("erin").await.last();
    fleet.delete("carol").await.last();
    let second = fleet.page(2, &first.next_page_token).await.unwrap();
    assert_eq!((users(&second.containers), second.total_count), (vec!["dave", "erin"], 6));
    let third = fleet.page(2, &second.next_page_token).await.unwrap();
    assert_eq!((users(&third.containers), third.next_page_token.as_str()), (vec!["frank", "grace"], ""));

    let refused = refusal(&fleet.page(2, "no such token").await.unwrap_err());
    assert_eq!(refused.reason, Reason::InvalidArgument);
    assert!(refused.message.contains("'no such token'"), "{refused}");
}

#[tokio::test]
async fn a_watch_says_the_list_at_once_and_then_only_what_differs_at_a_bounded_rate() {
    let mut fleet = Fleet::with_nodes(2).await;
    fleet.create("alice").await.last();
    let mut watch = fleet.watch(0).await;
    assert_eq!(users(&next(&mut watch).await.containers), ["alice"]);

    let began = Instant::now();
    for user in ["bob", "carol", "dave", "erin"] {
        fleet.create(user).await.last();
    }
    fleet.power("alice", PowerAction::Stop, &uuid::Uuid::new_v4().to_string()).await.last();
    let mut lists = Vec::new();
    let done =
        |list: &v1::ListContainersResponse| list.containers.len() == 5 && list.containers[0].phase() == Phase::Stopped;
    while !lists.last().is_some_and(done) {
        lists.push(next(&mut watch).await);
    }
    assert!(lists.windows(2).all(|pair| pair[0] != pair[1]), "{lists:?}");
    let most = began.elapsed().as_millis() / 500 + 1;
    assert!(lists.len() as u128 <= most, "{} lists in {:?}", lists.len(), began.elapsed());

    fleet.agents[1].stop();
    let away = |c: &v1::Container| (c.phase() == Phase::Unreachable) == (c.node == "jump-2");
    while !next(&mut watch).await.containers.iter().all(away) {}

    let mut parts = fleet.watch(2).await;
    let (one, two, three) = (next(&mut parts).await, next(&mut parts).await, next(&mut parts).await);
    let sizes = [&one, &two, &three].map(|part| (part.containers.len(), part.next_page_token.is_empty()));
    assert_eq!(sizes, [(2, false), (2, false), (1, true)]);
    let token = v1::ListContainersRequest { page_token: "bob".into(), ..Default::default() };
    let refused = fleet.client.clone().watch_containers(token).await.unwrap_err();
    assert_eq!(refusal(&refused).reason, Reason::InvalidArgument);

    fleet.coordinator().stop.cancel();
    let ended = loop {
        if let Err(status) = watch.message().await {
            break status;
        }
    };
    assert_eq!(refusal(&ended).reason, Reason::NotReady);
    assert!((&mut fleet.coordinator().ended).await.unwrap().is_ok(), "watches do not hold up a stop");
}

#[tokio::test]
async fn watches_are_so_many_and_a_place_is_free_when_its_watcher_leaves() {
    let fleet = Fleet::with_nodes(0).await;
    let mut watches = Vec::new();
    let refused = loop {
        let request = v1::WatchEventsRequest::default();
        match fleet.client.clone().watch_events(request).await {
            Ok(watch) => watches.push(watch),
            Err(status) => break refusal(&status),
        }
        assert!(watches.len() < 1000, "no bound at all");
    };
    assert_eq!(refused.reason, Reason::Busy, "{refused}");
    assert!(watches.len() > 10, "{}", watches.len());
    watches.pop();
    let free = async || fleet.client.clone().watch_events(v1::WatchEventsRequest::default()).await.is_ok();
    eventually(free, "the place is free").await;
}

/// Everything a follower is told until `done`, and where it is then.
async fn told(
    stream: &mut Streaming<v1::WatchEventsResponse>,
    done: impl Fn(&[v1::Event]) -> bool,
) -> (Vec<v1::Event>, String) {
    let mut events = Vec::new();
    loop {
        let answer = next(stream).await;
        events.extend(answer.events);
        if done(&events) {
            return (events, answer.cursor);
        }
    }
}

fn has(kind: &'static str, subject: &'static str) -> impl Fn(&[v1::Event]) -> bool {
    move |events| events.iter().any(|event| event.kind == kind && event.subject == subject)
}

#[tokio::test]
async fn events_are_followed_across_a_coordinators_death_none_lost_none_twice() {
    let mut fleet = Fleet::with_nodes(1).await;
    fleet.create("alice").await.last();
    let mut stream = fleet.follow("", "", 2).await;
    let first = next(&mut stream).await;
    let kinds: Vec<_> = first.events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["container.placed", "container.running"], "the last two, oldest first");

    fleet.create("bob").await.last();
    let (mut events, cursor) = told(&mut stream, has("container.running", "bob-container")).await;
    fleet.crash_coordinator();
    while stream.message().await.is_ok_and(|answer| answer.is_some()) {}
    fleet.start_coordinator().await;
    fleet.node_becomes("jump-1", Availability::Online).await;
    fleet.create("carol").await.last();
    let mut stream = fleet.follow("", &cursor, 7).await;
    let (rest, _) = told(&mut stream, has("container.running", "carol-container")).await;
    events.splice(0..0, first.events);
    events.extend(rest);

    let request = v1::ListEventsRequest { limit: 1000, ..Default::default() };
    let mut all = fleet.client.clone().list_events(request).await.unwrap().into_inner().events;
    all.reverse();
    let from = all.iter().position(|event| event.id == events[0].id).unwrap();
    assert_eq!(events, all[from..][..events.len()]);
    assert!(events.iter().any(|event| event.kind == "fleet.led"), "what the new reign noted before we were back");
}

#[tokio::test]
async fn followed_events_are_of_the_subject_asked_for_and_of_no_past_unless_wanted() {
    let fleet = Fleet::with_nodes(1).await;
    fleet.create("alice").await.last();
    let mut bob = fleet.follow("bob-container", "", 10).await;
    let mut new = fleet.follow("", "", 0).await;
    for stream in [&mut bob, &mut new] {
        let greeting = next(stream).await;
        assert!(greeting.events.is_empty() && !greeting.cursor.is_empty(), "{greeting:?}");
    }
    fleet.create("bob").await.last();
    let (events, _) = told(&mut bob, has("container.running", "bob-container")).await;
    assert!(events.iter().all(|event| event.subject == "bob-container"), "{events:?}");
    let (events, _) = told(&mut new, has("container.running", "bob-container")).await;
    assert_eq!(events[0].kind, "container.created");

    let request = v1::WatchEventsRequest { after: "yesterday".into(), ..Default::default() };
    let refused = refusal(&fleet.client.clone().watch_events(request).await.unwrap_err());
    assert_eq!(refused.reason, Reason::InvalidArgument);
}

#[tokio::test]
async fn use_is_asked_of_all_nodes_at_once_and_one_that_says_nothing_costs_a_note() {
    let mut fleet = Fleet::with_nodes(3).await;
    for user in ["alice", "bob", "carol"] {
        fleet.create(user).await.last();
    }
    *fleet.agents[0].node.cpu_nanos.lock().unwrap() = Some(7);
    let all = fleet.usage(&[]).await.unwrap();
    let sample = all.containers[0].sample.unwrap();
    assert_eq!((sample.at_nanos, sample.usage.unwrap().cpu_nanos), (5, Some(7)));
    assert_eq!(all.notes, []);

    *fleet.agents[1].node.cpu_nanos.lock().unwrap() = None;
    fleet.agents[2].stop();
    fleet.node_becomes("jump-3", Availability::Offline).await;
    let began = Instant::now();
    let some = fleet.usage(&[]).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "one deadline: {:?}", began.elapsed());
    let known: Vec<_> = some.containers.iter().map(|c| (c.user.as_str(), c.sample.is_some())).collect();
    assert_eq!(known, [("alice", true), ("bob", false), ("carol", false)]);
    let notes: Vec<_> = some.notes.iter().map(|n| (n.node.as_str(), n.note.as_str())).collect();
    assert_eq!(notes[0], ("jump-2", "did not say what its containers use: no answer within 2s"));
    assert!(notes[1].0 == "jump-3" && notes[1].1.starts_with("is offline, last heard 2"), "{notes:?}");
    assert_eq!(fleet.node("jump-2").await.availability(), Availability::Online, "that is no verdict on the node");

    let one = fleet.usage(&["jump-1"]).await.unwrap();
    assert_eq!((one.containers.len(), one.containers[0].user.as_str(), one.notes.len()), (1, "alice", 0));
    assert_eq!(refusal(&fleet.usage(&["jump-9"]).await.unwrap_err()).reason, Reason::NotFound);
    assert_eq!(refusal(&fleet.usage(&["-"]).await.unwrap_err()).reason, Reason::InvalidArgument);
}
