//! Golden images on the simulated fleet: brought to every node, and chosen for creates.

#![allow(clippy::unwrap_used)]

use containarium_proto::{error::Reason, spec::Image, v1};
use containarium_tests::{
    fleet::{Fleet, announcement, eventually, fingerprint, refusal},
    invariants::settle,
};
use futures::stream;

fn image(alias: &str, digit: char) -> Image {
    Image { alias: alias.into(), fingerprint: digit.to_string().repeat(64).parse().unwrap() }
}

#[test]
fn an_image_that_one_node_has_is_on_every_node_before_it_is_needed() {
    let mut fleet = Fleet::of_nodes(3);
    let (usual, new) = (image("containarium", '5'), image("containarium-new", 'a'));
    fleet.nodes[0].host.set_images(vec![usual, new.clone()]);
    fleet.kill_agent(2);
    fleet.nodes[2].host.set_images(vec![]);
    fleet.start_agent(2);
    eventually("every node has both", || {
        let images = fleet.images();
        images.len() == 2 && images.iter().all(|image| image.missing_on.is_empty())
    });
    assert!(fleet.events("jump-2").iter().any(|e| e.kind == "node.image" && e.message.contains("from jump-1")));
    let pinned = v1::CreateContainerRequest { node: "jump-3".into(), ..Fleet::request("alice") };
    assert_eq!(fleet.create(pinned).unwrap().container.unwrap().image_alias, "containarium");

    let images = fleet.default_image("containarium-new").unwrap();
    assert_eq!(
        images.iter().filter(|i| i.is_default).map(|i| i.alias.as_str()).collect::<Vec<_>>(),
        ["containarium-new"]
    );
    // The operator's word outlives the coordinator.
    fleet.kill_coordinator();
    fleet.start_coordinator();
    let bob = fleet.create(Fleet::request("bob")).unwrap().container.unwrap();
    assert_eq!(bob.spec.unwrap().image_fingerprint, new.fingerprint.to_string());
    assert_eq!(refusal(&fleet.default_image("nope").unwrap_err()).reason, Reason::NotFound);
    assert_eq!(refusal(&fleet.default_image("a b").unwrap_err()).reason, Reason::InvalidArgument);
    fleet.default_image("").unwrap();
    assert_eq!(fleet.create(Fleet::request("carol")).unwrap().container.unwrap().image_alias, "containarium");
    settle(&fleet);
}

const META: &[u8] = b"what it is";
const ROOTFS: &[u8] = &[7; 3_000_000];

fn pieces() -> Vec<Vec<u8>> {
    [META, ROOTFS].concat().chunks(1 << 20).map(<[u8]>::to_vec).collect()
}

fn states(fleet: &Fleet, alias: &str) -> Vec<(String, v1::ImageState, String)> {
    let images = fleet.images();
    let found = images.iter().find(|image| image.alias == alias);
    let one = |on: &v1::ImageOnNode| (on.node.clone(), on.state(), on.detail.clone());
    found.map(|image| image.on_nodes.iter().map(one).collect()).unwrap_or_default()
}

#[test]
fn an_image_comes_from_files_to_one_node_and_from_there_to_the_others() {
    let mut fleet = Fleet::of_nodes(3);
    fleet.kill_agent(2);
    fleet.until_node("jump-3", v1::Availability::Offline);
    let to = v1::ImageToImport { node: "jump-2".into(), ..announcement("containarium-new", META, ROOTFS) };
    let done = fleet.import(to.clone(), stream::iter(pieces())).unwrap();
    assert_eq!((done.node.as_str(), done.done, done.was_there), ("jump-2", true, false));
    eventually("jump-1 has it too", || states(&fleet, "containarium-new")[0].1 == v1::ImageState::Present);
    let away = states(&fleet, "containarium-new")[2].clone();
    assert_eq!((away.0.as_str(), away.1, away.2.as_str()), ("jump-3", v1::ImageState::Missing, "it does not answer"));
    let image = v1::CreateContainerRequest { image: "containarium-new".into(), ..Fleet::request("alice") };
    let alice = fleet.create(image).unwrap().container.unwrap();
    assert_eq!(alice.spec.unwrap().image_fingerprint, fingerprint(META, ROOTFS));

    // Again: nothing is sent.
    let again = fleet.import(to.clone(), stream::pending()).unwrap();
    assert!(again.done && again.was_there, "{again:?}");
    // To a node that is away: nothing either.
    let away = v1::ImageToImport { node: "jump-3".into(), ..announcement("containarium-b", META, ROOTFS) };
    let refused = refusal(&fleet.import(away, stream::pending()).unwrap_err());
    assert_eq!(refused.reason, Reason::NodeUnavailable);
    fleet.start_agent(2);
    eventually("jump-3 has it too", || states(&fleet, "containarium-new")[2].1 == v1::ImageState::Present);
    assert!(fleet.events("jump-2").iter().any(|e| e.kind == "node.image" && e.message.contains("imported")));
    settle(&fleet);
}

#[test]
fn an_import_that_cannot_be_leaves_nothing() {
    let fleet = Fleet::of_nodes(2);
    let good = || announcement("containarium-new", META, ROOTFS);
    let nobody = v1::ImageToImport { node: "jump-9".into(), ..good() };
    let taken = announcement("containarium", META, ROOTFS);
    let stranger = announcement("noble", META, ROOTFS);
    let empty = v1::ImageToImport { rootfs_bytes: 0, ..good() };
    let nothing = v1::ImageToImport { image: None, ..good() };
    let other = v1::Image { alias: "containarium-new".into(), fingerprint: "9".repeat(64) };
    let wrong_sum = v1::ImageToImport { image: Some(other), ..good() };
    let fewer = v1::ImageToImport { rootfs_bytes: 10, ..good() };
    let more = v1::ImageToImport { rootfs_bytes: 1 << 40, ..good() };
    let short = v1::ImageToImport { rootfs_bytes: ROOTFS.len() as u64 + 1, ..good() };
    let cases = [
        (nobody, Reason::NotFound, "jump-9"),
        (taken, Reason::AlreadyExists, "another image"),
        (stranger, Reason::InvalidArgument, "containarium-"),
        (empty, Reason::InvalidArgument, "root file system"),
        (nothing, Reason::InvalidArgument, "missing"),
        (wrong_sum, Reason::InvalidArgument, "fingerprint"),
        (fewer, Reason::InvalidArgument, "more bytes"),
        (more, Reason::InvalidArgument, "root file system"),
        (short, Reason::InvalidArgument, "broke off"),
    ];
    for (first, reason, why) in cases {
        let refused = refusal(&fleet.import(first, stream::iter(pieces())).unwrap_err());
        assert_eq!(refused.reason, reason, "{refused:?}");
        assert!(refused.message.contains(why), "{refused:?}");
    }
    let images = fleet.images();
    assert_eq!(images.iter().map(|image| image.alias.as_str()).collect::<Vec<_>>(), ["containarium"]);
    settle(&fleet);
}

#[test]
fn an_import_whose_node_or_coordinator_dies_leaves_nothing_and_is_done_again() {
    let mut fleet = Fleet::of_nodes(1);
    for victim in ["agent", "coordinator"] {
        let (half, more) = tokio::sync::mpsc::channel(8);
        half.blocking_send(pieces()[0].clone()).unwrap();
        let sent = stream::unfold(more, |mut more| async move { Some((more.recv().await?, more)) });
        let importing = fleet.import_in_background(announcement("containarium-new", META, ROOTFS), sent);
        // Both ends of a message in the middle of it.
        eventually("the first piece is under way", || half.capacity() == 8);
        match victim {
            "agent" => {
                fleet.kill_agent(0);
                assert!(fleet.join_import(importing).is_err());
                fleet.start_agent(0);
                fleet.until_node("jump-1", v1::Availability::Online);
            }
            _ => {
                fleet.kill_coordinator();
                assert!(fleet.join_import(importing).is_err());
                fleet.start_coordinator();
                fleet.until_node("jump-1", v1::Availability::Online);
            }
        }
        assert_eq!(fleet.images().len(), 1, "after the {victim} died");
    }
    let done = fleet.import(announcement("containarium-new", META, ROOTFS), stream::iter(pieces())).unwrap();
    assert!(done.done && !done.was_there);
    settle(&fleet);
}

#[test]
fn what_cannot_be_fetched_is_said_with_the_reason() {
    use containarium_agent::host::sim::Fault;
    let fleet = Fleet::of_nodes(2);
    fleet.nodes[1].host.plan_fault(Fault::DiskFull(1));
    let new = image("containarium-new", 'a');
    fleet.nodes[0].host.set_images(vec![image("containarium", '5'), new]);
    eventually("the reason is told", || {
        let states = states(&fleet, "containarium-new");
        states.get(1).is_some_and(|(_, state, why)| *state == v1::ImageState::Failed && why.contains("no space left"))
    });
    settle(&fleet);
}
