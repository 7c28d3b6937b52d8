//! How things look: the JSON and YAML forms, which programs rely on, and the tables, which nobody should parse. One
//! place turns wire messages into what is printed.

mod placing;
mod replication;
mod schedule;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    ops::ControlFlow,
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use containarium_proto::{convert, lifetime, sizes::Bytes, v1};
use serde::Serialize;

use crate::{
    args::Format,
    errors::{self, Failure},
};

use placing::{Load, loads, shown};
pub(crate) use placing::{Settings, Verdict, labels, limits, loads_of, verdict_table};
pub(crate) use replication::Replication;
use schedule::schedule;

/// A container as programs see it.
#[derive(Debug, Serialize)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) status: &'static str,
    pub(crate) node: String,
    pub(crate) ip: String,
    pub(crate) cpu: String,
    pub(crate) memory: String,
    pub(crate) disk: String,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) autostart: bool,
    pub(crate) protected: bool,
    pub(crate) moving_to: String,
    pub(crate) image: String,
    pub(crate) image_fingerprint: String,
    pub(crate) ssh_keys: Vec<String>,
    pub(crate) generation: u64,
    pub(crate) detail: String,
    pub(crate) id: String,
    pub(crate) created_at: String,
    pub(crate) drift: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) expires_at: Option<String>,
    pub(crate) expired_at: Option<String>,
    pub(crate) idle_stop_seconds: Option<u64>,
    pub(crate) idle_since: Option<String>,
    /// "daily, keep 7"; empty: none.
    pub(crate) snapshots: String,
    pub(crate) snapshotted_at: Option<String>,
    pub(crate) allow_from: Vec<String>,
    pub(crate) shared_with: Vec<String>,
    pub(crate) replication: Option<Replication>,
    #[serde(skip)]
    age: String,
}

impl Container {
    /// "-" for never, as a cell of a table shows what is empty.
    pub(crate) fn idle_stop(&self) -> String {
        self.idle_stop_seconds.map(|seconds| lifetime::short(Duration::from_secs(seconds))).unwrap_or_default()
    }
}

impl From<&v1::Container> for Container {
    fn from(container: &v1::Container) -> Self {
        let spec = container.spec.clone().unwrap_or_default();
        let cpu = spec.cpu.as_ref().and_then(|cpu| convert::cpu_from_wire(cpu).ok()).map(|cpu| cpu.to_string());
        Self {
            name: container.name.clone(),
            user: container.user.clone(),
            status: phase(container.phase()),
            node: container.node.clone(),
            ip: container.address.clone(),
            cpu: cpu.unwrap_or_default(),
            memory: Bytes(spec.memory_bytes).to_string(),
            disk: Bytes(spec.disk_bytes).to_string(),
            memory_bytes: spec.memory_bytes,
            disk_bytes: spec.disk_bytes,
            autostart: spec.autostart,
            protected: container.protected,
            moving_to: container.moving_to.clone(),
            image: container.image_alias.clone(),
            image_fingerprint: spec.image_fingerprint,
            ssh_keys: container.ssh_keys.iter().map(|key| key.fingerprint.clone()).collect(),
            generation: container.generation,
            detail: container.detail.clone(),
            id: container.id.clone(),
            created_at: time(container.created_at_unix_millis),
            drift: container.drift.clone(),
            labels: container.labels.clone(),
            age: age(container.created_at_unix_millis),
            expires_at: some_time(container.expires_at_unix_millis),
            expired_at: some_time(container.expired_at_unix_millis),
            idle_stop_seconds: Some(container.idle_stop_seconds).filter(|seconds| *seconds > 0),
            idle_since: some_time(container.idle_since_unix_millis),
            snapshots: schedule(container.snapshots.as_ref()),
            snapshotted_at: some_time(container.snapshotted_at_unix_millis),
            allow_from: container.allow_from.clone(),
            shared_with: container.shares.iter().map(|share| share.with.clone()).collect(),
            replication: container.replication.as_ref().map(Replication::from),
        }
    }
}

/// A server as programs see it.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) availability: &'static str,
    pub(crate) policy: &'static str,
    pub(crate) address: String,
    pub(crate) cidr: String,
    pub(crate) containers: u32,
    pub(crate) cpus: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) memory_used_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) disk_used_bytes: u64,
    pub(crate) reserved_cpu_millis: u32,
    pub(crate) reserved_memory_bytes: u64,
    pub(crate) reserved_disk_bytes: u64,
    pub(crate) load_permille: u32,
    pub(crate) images: Vec<Image>,
    pub(crate) agent_version: String,
    pub(crate) access_revision: u64,
    pub(crate) last_seen_at: Option<String>,
    pub(crate) detail: String,
    pub(crate) warnings: Vec<String>,
    pub(crate) not_placing_because: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) settings: Settings,
    pub(crate) effective: Settings,
    pub(crate) loads: Vec<Load>,
    pub(crate) default_create: Verdict,
}

#[derive(Debug, Serialize)]
pub(crate) struct Image {
    pub(crate) alias: String,
    pub(crate) fingerprint: String,
}

impl From<&v1::Node> for Node {
    fn from(node: &v1::Node) -> Self {
        let capacity = node.capacity.unwrap_or_default();
        let image = |i: &v1::Image| Image { alias: i.alias.clone(), fingerprint: i.fingerprint.clone() };
        Self {
            name: node.name.clone(),
            availability: availability(node.availability()),
            policy: policy(node.policy()),
            address: node.address.clone(),
            cidr: node.container_cidr.clone(),
            containers: node.containers,
            cpus: capacity.cpus,
            memory_bytes: capacity.memory_bytes,
            memory_used_bytes: capacity.memory_used_bytes,
            disk_bytes: capacity.disk_bytes,
            disk_used_bytes: capacity.disk_used_bytes,
            reserved_cpu_millis: node.reserved_cpu_millis,
            reserved_memory_bytes: node.reserved_memory_bytes,
            reserved_disk_bytes: node.reserved_disk_bytes,
            load_permille: node.load_permille,
            images: node.images.iter().map(image).collect(),
            agent_version: node.agent_version.clone(),
            access_revision: node.access_revision,
            last_seen_at: some_time(node.last_seen_unix_millis),
            detail: node.detail.clone(),
            warnings: node.warnings.clone(),
            not_placing_because: node.not_placing_because.clone(),
            labels: node.labels.clone(),
            settings: node.settings.as_ref().map(Settings::from).unwrap_or_default(),
            effective: node.effective.as_ref().map(Settings::from).unwrap_or_default(),
            loads: loads(&node.loads),
            default_create: Verdict::from(&node.default_create.clone().unwrap_or_default()),
        }
    }
}

/// An event as programs see it.
#[derive(Debug, Serialize)]
pub(crate) struct Event {
    pub(crate) at: String,
    pub(crate) subject: String,
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) id: String,
}

impl From<&v1::Event> for Event {
    fn from(event: &v1::Event) -> Self {
        Self {
            at: time(event.at_unix_millis),
            subject: event.subject.clone(),
            kind: event.kind.clone(),
            message: event.message.clone(),
            id: event.id.clone(),
        }
    }
}

pub(crate) fn phase(phase: v1::Phase) -> &'static str {
    match phase {
        v1::Phase::Unspecified => "Unknown",
        v1::Phase::Creating => "Creating",
        v1::Phase::Running => "Running",
        v1::Phase::Stopped => "Stopped",
        v1::Phase::Updating => "Updating",
        v1::Phase::Deleting => "Deleting",
        v1::Phase::Failed => "Failed",
        v1::Phase::Unreachable => "Unreachable",
        v1::Phase::Lost => "Lost",
        v1::Phase::Drifted => "Drifted",
    }
}

fn availability(availability: v1::Availability) -> &'static str {
    match availability {
        v1::Availability::Unspecified | v1::Availability::Unknown => "Unknown",
        v1::Availability::Online => "Online",
        v1::Availability::Preempting => "Preempting",
        v1::Availability::Suspect => "Suspect",
        v1::Availability::Offline => "Offline",
    }
}

fn policy(policy: v1::Policy) -> &'static str {
    match policy {
        v1::Policy::Unspecified | v1::Policy::Active => "Active",
        v1::Policy::Cordoned => "Cordoned",
        v1::Policy::Draining => "Draining",
        v1::Policy::Retired => "Retired",
    }
}

/// RFC 3339, UTC.
pub(crate) fn time(unix_millis: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(unix_millis)
        .map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
        .unwrap_or_default()
}

/// The same of a time that 0 says there is none of.
pub(crate) fn some_time(unix_millis: i64) -> Option<String> {
    (unix_millis > 0).then(|| time(unix_millis))
}

/// The largest unit only: 40s, 5m, 3h, 12d.
fn age(since_unix_millis: i64) -> String {
    seconds_short((Utc::now().timestamp_millis() - since_unix_millis).max(0) / 1000)
}

fn seconds_short(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// A cell of a table: never empty, always one line.
pub(crate) fn cell(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { errors::one_line(text) }
}

/// Columns without lines, as wide as their content: for `awk` as much as for eyes.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|text| cell(text)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3)).set_cell_alignment(CellAlignment::Left);
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

pub(crate) fn container_table(containers: &[Container], wide: bool) -> String {
    let mut header = vec!["NAME", "USER", "STATUS", "NODE", "IP", "CPU", "MEMORY", "DISK", "AUTOSTART", "AGE"];
    if wide {
        header.extend(["PROTECTED", "EXPIRES", "IDLE STOP", "SNAPSHOTS", "REPLICA", "IMAGE"]);
        header.extend(["GENERATION", "LABELS", "DETAIL"]);
    }
    let row = |c: &Container| {
        let autostart = if c.autostart { "yes" } else { "no" };
        let mut row: Vec<String> =
            [&c.name, &c.user, c.status, &c.node, &c.ip, &c.cpu, &c.memory, &c.disk, autostart, &c.age]
                .map(ToOwned::to_owned)
                .into();
        if wide {
            let protected = if c.protected { "yes" } else { "no" };
            row.extend([protected.to_owned(), c.expires_at.clone().unwrap_or_default(), c.idle_stop()]);
            row.push(c.snapshots.clone());
            row.push(c.replication.as_ref().map(Replication::short).unwrap_or_default());
            row.extend([c.image.clone(), c.generation.to_string(), labels(&c.labels), c.detail.clone()]);
        }
        row
    };
    table(&header, containers.iter().map(row).collect())
}

pub(crate) fn node_table(nodes: &[Node], wide: bool) -> String {
    let mut header =
        vec!["NAME", "STATUS", "POLICY", "ADDRESS", "CIDR", "CONTAINERS", "CPU", "MEMORY", "DISK", "LOAD", "AGENT"];
    if wide {
        header.extend(["CPU LOAD", "MEMORY LOAD", "DISK LOAD", "OF AT MOST", "LABELS", "IMAGES", "WARNINGS"]);
        header.extend(["SCORE", "A DEFAULT CREATE"]);
    }
    let row = |n: &Node| {
        let reserved = |reserved: u64, of: u64| format!("{}/{}", Bytes(reserved), Bytes(of));
        let mut row = vec![
            n.name.clone(),
            n.availability.to_owned(),
            n.policy.to_owned(),
            n.address.clone(),
            n.cidr.clone(),
            n.containers.to_string(),
            format!("{}/{}", f64::from(n.reserved_cpu_millis) / 1000.0, n.cpus),
            reserved(n.reserved_memory_bytes, n.memory_bytes),
            reserved(n.reserved_disk_bytes, n.disk_bytes),
            percent(n.load_permille),
            n.agent_version.clone(),
        ];
        if wide {
            let images: Vec<&str> = n.images.iter().map(|image| image.alias.as_str()).collect();
            row.extend(["cpu", "memory", "disk"].map(|what| shown(&n.loads, what)));
            row.push(n.effective.max_containers.map(|most| most.to_string()).unwrap_or_default());
            row.extend([labels(&n.labels), images.join(","), n.warnings.join("; ")]);
            row.extend([n.default_create.score(), n.default_create.reason.clone()]);
        }
        row
    };
    table(&header, nodes.iter().map(row).collect())
}

pub(crate) fn event_table(events: &[Event]) -> String {
    let row = |e: &Event| vec![e.at.clone(), e.kind.clone(), e.subject.clone(), e.message.clone()];
    table(&["AT", "KIND", "SUBJECT", "MESSAGE"], events.iter().map(row).collect())
}

fn percent(permille: u32) -> String {
    format!("{}.{}%", permille / 10, permille % 10)
}

/// "key: value" lines for one thing.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    facts.iter().map(|(name, value)| format!("{name:width$}   {}\n", cell(value))).collect()
}

/// Prints `value` for programs, or `people` for people.
pub(crate) fn print<T: Serialize>(
    format: Format,
    value: &T,
    people: impl FnOnce(bool) -> String,
) -> Result<(), Failure> {
    let defect = |error: &dyn std::fmt::Display| Failure::new(1, format!("the output cannot be written: {error}"));
    let text = match format {
        Format::Json => serde_json::to_string_pretty(value).map_err(|error| defect(&error))? + "\n",
        Format::Yaml => serde_norway::to_string(value).map_err(|error| defect(&error))?,
        Format::Table => people(false),
        Format::Wide => people(true),
    };
    out(&text)
}

/// One of a sequence of values: a line of JSON, or a YAML document.
pub(crate) fn one_of_many<T: Serialize>(format: Format, value: &T) -> Result<String, Failure> {
    let defect = |error: &dyn std::fmt::Display| Failure::new(1, format!("the output cannot be written: {error}"));
    match format {
        Format::Yaml => serde_norway::to_string(value).map(|text| format!("---\n{text}")).map_err(|e| defect(&e)),
        Format::Json | Format::Table | Format::Wide => {
            serde_json::to_string(value).map(|text| format!("{text}\n")).map_err(|e| defect(&e))
        }
    }
}

/// To standard output, where a reader that has left ends the command: nobody would know what it goes on for.
pub(crate) fn out_while_read(text: &str) -> Result<ControlFlow<()>, Failure> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(error.into()),
    }
}

/// To standard output. A reader that has left (`| head`) is not an error.
pub(crate) fn out(text: &str) -> Result<(), Failure> {
    out_while_read(text).map(|_| ())
}

/// To standard error, for people; if nobody can read it, nothing is lost.
pub(crate) fn note(text: &str) {
    writeln!(io::stderr(), "{}", errors::one_line(text)).unwrap_or_default();
}
