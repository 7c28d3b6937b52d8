//! `ssh-ca ...`: the keys that sign host certificates, and how one follows another.

use containarium_proto::v1::{self, change_ssh_authority_request::Change};
use serde::Serialize;

use crate::{
    args::{Format, SshCa},
    client::Client,
    errors::Failure,
    output,
};

#[derive(Debug, Serialize)]
struct Authorities {
    authorities: Vec<Authority>,
}

#[derive(Debug, Serialize)]
struct Authority {
    state: &'static str,
    fingerprint: String,
    public_key: String,
}

pub(crate) async fn run(client: &Client, format: Format, command: &SshCa) -> Result<(), Failure> {
    let (change, force) = match command {
        SshCa::List => {
            let request = v1::ListSshAuthoritiesRequest {};
            let list =
                client.read(request, |mut fleet, request| async move { fleet.list_ssh_authorities(request).await });
            return print(format, list.await?);
        }
        SshCa::Prepare => (Change::Prepare(v1::PrepareAuthority {}), false),
        SshCa::Use { fingerprint } => (Change::Use(fingerprint.clone()), false),
        SshCa::Forget { fingerprint, force } => (Change::Forget(fingerprint.clone()), *force),
    };
    // Each of them done twice is done once, so it may be repeated like a read.
    let request = v1::ChangeSshAuthorityRequest { change: Some(change), force };
    let changed = client.read(request, |mut fleet, request| async move { fleet.change_ssh_authority(request).await });
    print(format, changed.await?)
}

fn print(format: Format, answer: v1::SshAuthorities) -> Result<(), Failure> {
    let one = |authority: v1::SshAuthority| Authority {
        state: match authority.state() {
            v1::AuthorityState::Unspecified => "unknown",
            v1::AuthorityState::Active => "active",
            v1::AuthorityState::Next => "next",
            v1::AuthorityState::Last => "last",
        },
        fingerprint: authority.fingerprint,
        public_key: authority.public_key,
    };
    let listed = Authorities { authorities: answer.authorities.into_iter().map(one).collect() };
    output::print(format, &listed, |_| {
        let line = |one: &Authority| format!("{:<7} {}  {}\n", one.state, one.fingerprint, one.public_key);
        listed.authorities.iter().map(line).collect()
    })
}
