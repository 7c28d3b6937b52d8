//! Golden images on the simulated fleet: brought to every node, and chosen for creates.

#![allow(clippy::unwrap_used)]

use containarium_proto::{error::Reason, spec::Image, v1};
use containarium_tests::{
    fleet::{Fleet, eventually, refusal},
    invariants::settle,
};

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
