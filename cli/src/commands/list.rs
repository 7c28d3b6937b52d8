//! `list` and `info`.

use containarium_proto::{
    error::{Reason, Refusal},
    names::{NodeName, Username},
    v1,
};
use serde::Serialize;

use crate::{
    args::{Format, List, Sort},
    client::Client,
    commands::create,
    errors::Failure,
    output::{self, Container, Event},
};

#[derive(Debug, Serialize)]
pub(crate) struct Containers {
    containers: Vec<Container>,
    /// Of all that match, also beyond `--limit`.
    total_count: usize,
}

/// A few hundred kilobytes in one answer.
pub(crate) const PAGE: u32 = 200;

pub(crate) async fn list(client: &Client, format: Format, wanted: &List) -> Result<(), Failure> {
    check(client, wanted).await?;
    let listed = Containers::of(&fetch(client).await?, wanted);
    output::print(format, &listed, |wide| listed.table(wide))?;
    if let (Format::Table | Format::Wide, Some(note)) = (format, listed.cut_off()) {
        output::note(&note);
    }
    Ok(())
}

/// All pages.
pub(crate) async fn fetch(client: &Client) -> Result<Vec<v1::Container>, Failure> {
    let mut containers = Vec::new();
    let mut request = v1::ListContainersRequest { page_size: PAGE, page_token: String::new() };
    loop {
        let ask =
            client.read(request.clone(), |mut fleet, request| async move { fleet.list_containers(request).await });
        let v1::ListContainersResponse { containers: page, next_page_token, .. } = ask.await?;
        containers.extend(page);
        if next_page_token.is_empty() {
            return Ok(containers);
        }
        if next_page_token == request.page_token {
            return Err(Failure::new(1, "the coordinator answers the same page again and again"));
        }
        request.page_token = next_page_token;
    }
}

impl Containers {
    /// Those that are wanted, as they are wanted.
    pub(crate) fn of(all: &[v1::Container], wanted: &List) -> Self {
        let mut containers: Vec<Container> = all.iter().map(Container::from).collect();
        containers.retain(|container| matches(wanted, container));
        sort(wanted.sort, &mut containers);
        let total_count = containers.len();
        let limit = wanted.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        containers.truncate(limit);
        Self { containers, total_count }
    }

    pub(crate) fn table(&self, wide: bool) -> String {
        output::container_table(&self.containers, wide)
    }

    fn cut_off(&self) -> Option<String> {
        let shown = self.containers.len();
        (shown < self.total_count).then(|| format!("the first {shown} of {}", self.total_count))
    }
}

/// Refuses what can match nothing.
pub(crate) async fn check(client: &Client, wanted: &List) -> Result<(), Failure> {
    create::labels(&wanted.label)?;
    refuse_unknown(client, &wanted.node).await
}

/// A misspelt server must not look like an empty one.
pub(crate) async fn refuse_unknown(client: &Client, wanted: &[NodeName]) -> Result<(), Failure> {
    if wanted.is_empty() {
        return Ok(());
    }
    let ask = client.read(v1::ListNodesRequest {}, |mut fleet, request| async move { fleet.list_nodes(request).await });
    let known = ask.await?.nodes;
    match wanted.iter().find(|name| known.iter().all(|node| node.name != name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let refusal = Refusal::new(Reason::NotFound, format!("there is no node '{name}'"));
            Err(refusal.hint("see 'containarium node list'").into())
        }
    }
}

fn matches(wanted: &List, container: &Container) -> bool {
    let List { node, status, user, label, sort: _, limit: _, watch: _ } = wanted;
    (node.is_empty() || node.iter().any(|name| name.as_str() == container.node))
        && (status.is_empty() || status.iter().any(|status| format!("{status:?}") == container.status))
        && user.as_ref().is_none_or(|text| container.user.contains(text))
        && label.iter().all(|label| container.labels.get(&label.key.to_string()) == Some(&label.value.to_string()))
}

/// The coordinator gives them by name, and equals stay in that order.
fn sort(by: Sort, containers: &mut [Container]) {
    match by {
        Sort::User => {}
        Sort::Node => containers.sort_by(|a, b| a.node.cmp(&b.node)),
        Sort::Status => containers.sort_by(|a, b| a.status.cmp(b.status)),
        // RFC 3339 in UTC sorts as text.
        Sort::Age => containers.sort_by(|a, b| b.created_at.cmp(&a.created_at)),
        Sort::Memory => containers.sort_by_key(|container| std::cmp::Reverse(container.memory_bytes)),
        Sort::Disk => containers.sort_by_key(|container| std::cmp::Reverse(container.disk_bytes)),
    }
}

#[derive(Debug, Serialize)]
struct Info {
    container: Container,
    /// Whose machines its user may use too.
    may_use: Vec<String>,
    last_login: Option<String>,
    events: Vec<Event>,
}

pub(crate) async fn get(client: &Client, user: &Username) -> Result<v1::GetContainerResponse, Failure> {
    let request = v1::GetContainerRequest { user: user.to_string() };
    client.read(request, |mut fleet, request| async move { fleet.get_container(request).await }).await
}

/// The container in an answer that must hold one.
pub(crate) fn needed(container: Option<&v1::Container>) -> Result<Container, Failure> {
    container.map(Container::from).ok_or_else(|| Failure::new(1, "the coordinator answered without the container"))
}

pub(crate) async fn info(client: &Client, format: Format, user: &Username) -> Result<(), Failure> {
    let answer = get(client, user).await?;
    let login = |event: &v1::AuditEvent| {
        format!("{} from {} through {}", output::time(event.at_unix_millis), event.client_address, event.node)
    };
    let info = Info {
        container: needed(answer.container.as_ref())?,
        may_use: answer.shared_with_owner.iter().map(|share| share.owner.clone()).collect(),
        last_login: answer.last_login.as_ref().map(login),
        events: answer.events.iter().map(Event::from).collect(),
    };
    output::print(format, &info, |_| people(&info))
}

fn people(info: &Info) -> String {
    let c = &info.container;
    let facts = output::facts(&[
        ("Name", c.name.clone()),
        ("User", c.user.clone()),
        ("Status", c.status.to_owned()),
        ("Detail", c.detail.clone()),
        ("Node", c.node.clone()),
        ("Labels", output::labels(&c.labels)),
        ("IP", c.ip.clone()),
        ("CPU", c.cpu.clone()),
        ("Memory", c.memory.clone()),
        ("Disk", c.disk.clone()),
        ("Autostart", if c.autostart { "yes" } else { "no" }.to_owned()),
        ("Protected", if c.protected { "yes" } else { "no" }.to_owned()),
        ("Expires", c.expires_at.clone().unwrap_or_default()),
        ("Expired", c.expired_at.clone().unwrap_or_default()),
        ("Idle stop", c.idle_stop()),
        ("Idle since", c.idle_since.clone().unwrap_or_default()),
        ("Snapshots", c.snapshots.clone()),
        ("Snapshotted", c.snapshotted_at.clone().unwrap_or_default()),
        ("Replica", c.replication.as_ref().map(output::Replication::long).unwrap_or_default()),
        ("Old copies", c.replication.as_ref().map(|r| r.old_copies.join(" ")).unwrap_or_default()),
        ("Allow from", c.allow_from.join(" ")),
        ("Image", c.image.clone()),
        ("Fingerprint", c.image_fingerprint.clone()),
        ("Keys", c.ssh_keys.join(" ")),
        ("Shared with", c.shared_with.join(" ")),
        ("May use too", info.may_use.join(" ")),
        ("Last login", info.last_login.clone().unwrap_or_default()),
        ("Generation", c.generation.to_string()),
        ("Created", c.created_at.clone()),
        ("Id", c.id.clone()),
    ]);
    format!("{facts}\n{}", output::event_table(&info.events))
}
