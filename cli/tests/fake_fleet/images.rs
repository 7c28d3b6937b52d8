//! `image ...`: the list, the default, and bringing one from files.

use containarium_proto::{
    error::{Reason, Refusal},
    v1,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::Coordinator;

fn image(alias: &str) -> v1::FleetImage {
    let on = |node: &str, state: v1::ImageState, detail: &str| v1::ImageOnNode {
        node: node.to_owned(),
        state: state.into(),
        detail: detail.to_owned(),
    };
    v1::FleetImage {
        alias: alias.to_owned(),
        fingerprint: "ab".repeat(32),
        nodes: vec!["jump-1".to_owned()],
        missing_on: vec!["jump-2".to_owned(), "jump-3".to_owned()],
        is_default: false,
        on_nodes: vec![
            on("jump-1", v1::ImageState::Present, ""),
            on("jump-2", v1::ImageState::Fetching, "from jump-1"),
            on("jump-3", v1::ImageState::Failed, "no space left"),
        ],
    }
}

#[test]
fn images_are_listed_and_one_is_the_default() {
    let fleet = Coordinator::with([]);
    fleet.state().images = vec![image("containarium"), image("containarium-new")];
    let table = fleet.cli("image default containarium-new").run().ok();
    let line = table.lines().find(|line| line.contains("containarium-new")).unwrap();
    assert!(line.contains("abababababab ") && line.contains("yes") && line.contains("jump-2"), "{table}");
    let json: Value = serde_json::from_str(&fleet.cli("image list -o json").run().ok()).unwrap();
    assert_eq!((json["total_count"].as_u64(), &json["images"][1]["is_default"]), (Some(2), &true.into()));
    assert_eq!(json["images"][0]["servers"][2]["state"], "failed");
    let wide = fleet.cli("image list -o wide").run().ok();
    assert!(wide.contains("jump-1 has it; jump-2 fetching from jump-1; jump-3 failed no space left"), "{wide}");
    for line in ["image default", "image default a --reset"] {
        fleet.cli(line).run().error(2);
    }
}

/// Two files of an image, the second larger than one message.
fn with_files() -> (Coordinator, Vec<u8>, String) {
    let fleet = Coordinator::with([]);
    let rootfs: Vec<u8> = b"hsqs".iter().copied().chain((0u32..900_000).flat_map(u32::to_le_bytes)).collect();
    let metadata = b"\xfd7zXZ and more".as_slice();
    std::fs::write(fleet.dir().join("meta"), metadata).unwrap();
    std::fs::write(fleet.dir().join("rootfs"), &rootfs).unwrap();
    let whole = [metadata, &rootfs].concat();
    let fingerprint = Sha256::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect();
    (fleet, whole, fingerprint)
}

#[test]
fn an_import_sends_both_files_whole_under_their_fingerprint() {
    let (fleet, whole, fingerprint) = with_files();
    let line = "image import containarium-new --metadata HERE/meta --rootfs HERE/rootfs --node jump-2 -o json";
    let json: Value = serde_json::from_str(&fleet.cli(line).run().ok()).unwrap();
    assert_eq!((&json["node"], &json["was_there"]), (&"jump-2".into(), &false.into()));
    assert_eq!((&json["fingerprint"], &json["bytes"]), (&fingerprint.clone().into(), &whole.len().into()));
    let state = fleet.state();
    let import = &state.imports[0];
    assert_eq!((import.image.metadata_bytes, import.image.node.as_str()), (14, "jump-2"));
    let named = import.image.image.as_ref().unwrap();
    assert_eq!((named.alias.as_str(), named.fingerprint.as_str()), ("containarium-new", fingerprint.as_str()));
    assert!(import.bytes == whole, "the bytes are the files'");
}

#[test]
fn what_cannot_be_an_image_is_refused_and_nothing_is_sent() {
    let (fleet, ..) = with_files();
    std::fs::write(fleet.dir().join("empty"), b"").unwrap();
    std::fs::write(fleet.dir().join("text"), b"no image at all").unwrap();
    let cases = [
        ("image import", "NAME"),
        ("image import noble --metadata HERE/meta --rootfs HERE/rootfs", "begin with 'containarium-'"),
        ("image import containarium-A --metadata HERE/meta --rootfs HERE/rootfs", "a-z"),
        ("image import containarium-x --metadata HERE/meta", "--rootfs"),
        ("image import containarium-x --rootfs HERE/rootfs", "--metadata"),
        ("image import containarium-x --metadata HERE/none --rootfs HERE/rootfs", "HERE/none"),
        ("image import containarium-x --metadata HERE/meta --rootfs HERE", "is not a file"),
        ("image import containarium-x --metadata HERE/empty --rootfs HERE/rootfs", "metadata of an image has 1 to"),
        ("image import containarium-x --metadata HERE/meta --rootfs HERE/rootfs --node a/b", "a/b"),
        ("image import containarium-x --metadata HERE/rootfs --rootfs HERE/rootfs", "is not a tar file"),
        ("image import containarium-x --metadata HERE/meta --rootfs HERE/text", "is not a squashfs or tar file"),
        ("image bake", "--output-dir"),
        ("image bake --output-dir HERE/out --base fedora", "fedora"),
    ];
    for (line, why) in cases {
        let outcome = fleet.cli(line).run();
        outcome.error(2);
        let why = why.replace("HERE", &fleet.dir().display().to_string());
        assert!(outcome.stderr.contains(&why), "{line}: {outcome:?}");
    }
    assert!(fleet.state().imports.is_empty());
}

#[test]
fn a_refused_import_keeps_its_exit_code() {
    let (fleet, ..) = with_files();
    fleet.state().refusal = Some(Refusal::new(Reason::AlreadyExists, "containarium-new is another image on jump-1"));
    let line = "image import containarium-new --metadata HERE/meta --rootfs HERE/rootfs";
    assert_eq!(fleet.cli(line).run().error(4), "containarium-new is another image on jump-1");
}
