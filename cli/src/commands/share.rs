//! `share` and `unshare`: who else may use a machine.

use containarium_proto::{ids::RequestId, names::Username, v1};
use serde::Serialize;

use crate::{
    args::{Format, Share, ShareList, Unshare},
    client::Client,
    commands::{list, progress},
    errors::Failure,
    output,
};

#[derive(Debug, Serialize)]
struct Shares {
    shares: Vec<One>,
}

#[derive(Debug, Serialize)]
struct One {
    owner: String,
    container: String,
    with: String,
    sudo: bool,
}

impl From<&v1::Share> for One {
    fn from(share: &v1::Share) -> Self {
        let v1::Share { owner, container, with, sudo } = share.clone();
        Self { owner, container, with, sudo }
    }
}

pub(crate) async fn share(client: &Client, format: Format, share: &Share) -> Result<(), Failure> {
    match (&share.list, &share.user, &share.with) {
        (Some(ShareList::List { user }), _, _) => show_all(client, format, user.as_ref()).await,
        (None, Some(user), Some(with)) => {
            let (user, with, sudo) = (user.to_string(), with.to_string(), share.sudo);
            change(client, format, v1::ShareContainerRequest { user, with, sudo, ..Default::default() }).await
        }
        (None, _, _) => Err(Failure::usage("give a user and --with another one")),
    }
}

pub(crate) async fn unshare(client: &Client, format: Format, unshare: &Unshare) -> Result<(), Failure> {
    let (user, with) = (unshare.user.to_string(), unshare.with.to_string());
    change(client, format, v1::ShareContainerRequest { user, with, revoke: true, ..Default::default() }).await
}

async fn change(client: &Client, format: Format, request: v1::ShareContainerRequest) -> Result<(), Failure> {
    let request = v1::ShareContainerRequest { request_id: RequestId::generate().to_string(), ..request };
    let call =
        |mut fleet: v1::fleet_client::FleetClient<_>, request| async move { fleet.share_container(request).await };
    let last = progress::persist(client, &request, call).await.map_err(|status| client.failure(&status))?;
    let container = last.unwrap_or_default().container.unwrap_or_default();
    show(format, &container.shares)
}

async fn show_all(client: &Client, format: Format, user: Option<&Username>) -> Result<(), Failure> {
    let shares = match user {
        Some(user) => {
            let answer = list::get(client, user).await?;
            let own = answer.container.unwrap_or_default().shares;
            own.into_iter().chain(answer.shared_with_owner).collect()
        }
        None => list::fetch(client).await?.into_iter().flat_map(|container| container.shares).collect::<Vec<_>>(),
    };
    show(format, &shares)
}

fn show(format: Format, shares: &[v1::Share]) -> Result<(), Failure> {
    let shares = Shares { shares: shares.iter().map(One::from).collect() };
    output::print(format, &shares, |_| {
        let row = |one: &One| {
            let sudo = if one.sudo { "yes" } else { "no" };
            vec![one.owner.clone(), one.container.clone(), one.with.clone(), sudo.to_owned()]
        };
        output::table(&["OWNER", "MACHINE", "WITH", "SUDO"], shares.shares.iter().map(row).collect())
    })
}
