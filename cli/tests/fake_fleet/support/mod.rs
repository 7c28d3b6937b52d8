//! What every scenario is arranged from.

mod cli;
mod coordinator;
mod people;
mod replicas;

use std::{
    thread,
    time::{Duration, Instant},
};

use containarium_proto::v1;

pub(crate) use self::{
    cli::{Cli, Running},
    coordinator::{Coordinator, Step},
};

/// Far above what anything here takes; a test that waits longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Keys of two people, as `ssh-keygen` writes them.
pub(crate) const ALICE_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEJqzAQRxEwRv7jLBI5nhfglRGNC5pn5DnhXH6KhJa1Y alice@laptop";
pub(crate) const BOB_KEY: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBORg6Xza1w\
    EqWvNN766xD7l9flOL7KyLC+tyHm64czV1TMnUTZOz+Qznc4eDVhF5Jxb+SaSMz+PzSOIXE0POyoE= bob@desk";

/// The fleet's id.
pub(crate) const FLEET: &str = "0198c0de-0000-7000-8000-00000000f1ee";

/// A container that runs on the first server.
pub(crate) fn container(user: &str, address: &str) -> v1::Container {
    v1::Container {
        id: "0198c0de-0000-7000-8000-000000000001".to_owned(),
        name: format!("{user}-container"),
        user: user.to_owned(),
        phase: v1::Phase::Running.into(),
        node: "jump-1".to_owned(),
        address: address.to_owned(),
        spec: Some(v1::Spec {
            cpu: Some(v1::Cpu { kind: Some(v1::cpu::Kind::Count(2)) }),
            memory_bytes: 4 << 30,
            disk_bytes: 50_000_000_000,
            image_fingerprint: "ab".repeat(32),
            autostart: true,
            restarts: 0,
            fenced: false,
        }),
        image_alias: "dev".to_owned(),
        created_at_unix_millis: 1_750_000_000_123,
        generation: 3,
        ssh_keys: vec![v1::SshKey {
            fingerprint: "SHA256:AAAA".to_owned(),
            algorithm: "ssh-ed25519".to_owned(),
            comment: String::new(),
        }],
        ..v1::Container::default()
    }
}

/// Step `step` of `total` of some work.
pub(crate) fn progress(step: u32, total: u32, message: &str) -> v1::Progress {
    v1::Progress { step, total, message: message.to_owned(), ..v1::Progress::default() }
}

/// What a create that goes well streams.
pub(crate) fn created(container: &v1::Container) -> Vec<Step> {
    let last = v1::Progress { container: Some(container.clone()), ..progress(3, 3, "ssh works") };
    vec![Step::say(progress(1, 3, "placed on jump-1")), Step::say(progress(2, 3, "created")), Step::say(last)]
}

/// Waits until `done` gives something.
pub(crate) fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}
