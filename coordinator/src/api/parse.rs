//! Requests as valid values: every field checked before anything is done, each refusal naming the field and the cure.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use containarium_proto::{
    convert,
    cpu::Cpu,
    error::Refusal,
    ids::RequestId,
    keys::KeySet,
    labels::Labels,
    lifetime::Bounds,
    names::{NodeName, Username},
    sizes::Bytes,
    snapshots::{Schedule, ScheduleChange},
    v1,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{allow, refuse::field};
use crate::{
    config::{Defaults, Lifetimes},
    snapshots,
    store::Policy,
};

/// More than this is clamped: a page with every key of every user stays far below what one message may hold.
const MAX_PAGE: u32 = 500;

/// A create that could succeed.
#[derive(Debug, Clone)]
pub(super) struct Create {
    pub(super) request: RequestId,
    /// The same for the same content.
    pub(super) hash: String,
    pub(super) owner: Username,
    pub(super) keys: KeySet,
    pub(super) cpu: Cpu,
    pub(super) memory: Bytes,
    pub(super) disk: Bytes,
    pub(super) image: String,
    pub(super) autostart: bool,
    pub(super) node: Option<NodeName>,
    pub(super) labels: Labels,
    pub(super) ttl: Option<Duration>,
    pub(super) idle_stop: Option<Duration>,
    pub(super) replicate: Option<Duration>,
    pub(super) snapshots: Option<Schedule>,
    pub(super) allow_from: Vec<Username>,
}

/// A change of power that could succeed.
#[derive(Debug, Clone)]
pub(super) struct Power {
    pub(super) request: RequestId,
    pub(super) owner: Username,
    pub(super) action: Action,
}

/// A delete that could succeed.
#[derive(Debug, Clone)]
pub(super) struct Delete {
    /// None: from a client that sends none.
    pub(super) request: Option<RequestId>,
    pub(super) owner: Username,
}

/// A change of limits that could succeed: at least one is set.
#[derive(Debug, Clone)]
pub(super) struct Resize {
    pub(super) request: RequestId,
    pub(super) owner: Username,
    pub(super) cpu: Option<Cpu>,
    pub(super) memory: Option<Bytes>,
    pub(super) disk: Option<Bytes>,
    pub(super) force: bool,
}

/// A part of the list of containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// The last user of the page before.
    pub(super) after: Option<Username>,
    /// How many; none: all.
    pub(super) size: Option<u32>,
}

/// A change of keys that could succeed.
#[derive(Debug, Clone)]
pub(super) struct KeyChange {
    pub(super) request: RequestId,
    pub(super) owner: Username,
    pub(super) add: KeySet,
    pub(super) replace: bool,
    pub(super) remove: Vec<String>,
    pub(super) force: bool,
}

/// A move that could begin, or be cancelled.
#[derive(Debug, Clone)]
pub(super) struct Move {
    pub(super) request: RequestId,
    pub(super) owner: Username,
    pub(super) to: Option<NodeName>,
}

/// A repair that could succeed.
#[derive(Debug, Clone)]
pub(super) struct Repair {
    pub(super) request: RequestId,
    pub(super) owner: Username,
}

/// An adoption that could succeed.
#[derive(Debug, Clone)]
pub(super) struct Adopt {
    pub(super) request: RequestId,
    pub(super) node: NodeName,
    /// Its name now.
    pub(super) instance: String,
    pub(super) owner: Username,
    pub(super) keys: KeySet,
}

/// A change of what a container does by itself that could succeed: at least one is set.
#[derive(Debug, Clone)]
pub(super) struct SetLifetime {
    pub(super) request: RequestId,
    pub(super) owner: Username,
    pub(super) autostart: Option<bool>,
    pub(super) ttl: Option<Limit>,
    pub(super) idle_stop: Option<Limit>,
    pub(super) snapshots: ScheduleChange,
}

/// A bound on a time that may be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Off,
    After(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Start,
    Stop,
    Restart,
}

pub(super) fn create(
    request: &v1::CreateContainerRequest,
    defaults: &Defaults,
    lifetimes: &Lifetimes,
) -> Result<Create, Refusal> {
    let keys = KeySet::from_lines(request.ssh_keys.iter().map(String::as_str));
    let node = Some(request.node.as_str()).filter(|node| !node.is_empty()).map(node).transpose()?;
    let owner = user(&request.user)?;
    Ok(Create {
        request: request_id(&request.request_id)?,
        hash: hash(request),
        allow_from: allow::parse(&owner, &request.allow_from)?,
        owner,
        keys: keys.map_err(|e| field(format!("ssh key: {e}"), "give --ssh-key with a public key file"))?,
        cpu: request.cpu.as_ref().map_or_else(|| Ok(defaults.cpu.clone()), cpu)?,
        memory: request.memory_bytes.map_or(Ok(defaults.memory), memory)?,
        disk: request.disk_bytes.map_or(Ok(defaults.disk), disk)?,
        image: image(&request.image, defaults)?,
        autostart: request.autostart,
        node,
        labels: labels(&request.labels)?,
        ttl: request.ttl_seconds.map(|seconds| duration(&lifetimes.ttl, seconds)).transpose()?,
        idle_stop: request.idle_stop_seconds.map(|seconds| duration(&lifetimes.idle_stop, seconds)).transpose()?,
        replicate: replication(&lifetimes.replication, request.replicate_every_seconds)?,
        snapshots: snapshots::applied(None, &schedule(request.snapshots.as_ref())?)?,
    })
}

pub(super) fn power(request: &v1::SetPowerRequest) -> Result<Power, Refusal> {
    let action = match request.action() {
        v1::PowerAction::Unspecified => return Err(field("no power action given", "say start, stop or restart")),
        v1::PowerAction::Start => Action::Start,
        v1::PowerAction::Stop => Action::Stop,
        v1::PowerAction::Restart => Action::Restart,
    };
    Ok(Power { request: request_id(&request.request_id)?, owner: user(&request.user)?, action })
}

pub(super) fn delete(request: &v1::DeleteContainerRequest) -> Result<Delete, Refusal> {
    let id = Some(request.request_id.as_str()).filter(|id| !id.is_empty());
    Ok(Delete { request: id.map(request_id).transpose()?, owner: user(&request.user)? })
}

pub(super) fn moving(request: &v1::MoveContainerRequest) -> Result<Move, Refusal> {
    if request.cancel && (request.dry_run || !request.to.is_empty()) {
        return Err(field("a cancelled move goes nowhere", "give --cancel alone"));
    }
    let to = Some(request.to.as_str()).filter(|node| !node.is_empty()).map(node).transpose()?;
    Ok(Move { request: request_id(&request.request_id)?, owner: user(&request.user)?, to })
}

pub(super) fn resize(request: &v1::ResizeContainerRequest) -> Result<Resize, Refusal> {
    let resize = Resize {
        request: request_id(&request.request_id)?,
        owner: user(&request.user)?,
        cpu: request.cpu.as_ref().map(cpu).transpose()?,
        memory: request.memory_bytes.map(memory).transpose()?,
        disk: request.disk_bytes.map(disk).transpose()?,
        force: request.force,
    };
    if resize.cpu.is_none() && resize.memory.is_none() && resize.disk.is_none() {
        return Err(field("nothing to change is given", "give --cpu, --memory or --disk"));
    }
    Ok(resize)
}

pub(super) fn set_lifetime(request: &v1::SetLifetimeRequest, lifetimes: &Lifetimes) -> Result<SetLifetime, Refusal> {
    let change = SetLifetime {
        request: request_id(&request.request_id)?,
        owner: user(&request.user)?,
        autostart: request.autostart,
        ttl: request.ttl_seconds.map(|seconds| limit(&lifetimes.ttl, seconds)).transpose()?,
        idle_stop: request.idle_stop_seconds.map(|seconds| limit(&lifetimes.idle_stop, seconds)).transpose()?,
        snapshots: schedule(request.snapshots.as_ref())?,
    };
    let lives_on = change.autostart.is_none() && change.ttl.is_none() && change.idle_stop.is_none();
    if lives_on && change.snapshots == ScheduleChange::default() {
        return Err(field("nothing to change is given", "give --autostart, --ttl, --idle-stop or --snapshots"));
    }
    Ok(change)
}

fn schedule(wire: Option<&v1::SnapshotSchedule>) -> Result<ScheduleChange, Refusal> {
    convert::schedule_change_from_wire(wire).map_err(|e| field(e.to_string(), "give --keep from 1 to 100"))
}

fn limit(bounds: &Bounds, seconds: u64) -> Result<Limit, Refusal> {
    if seconds == 0 { Ok(Limit::Off) } else { duration(bounds, seconds).map(Limit::After) }
}

/// How often; none: not at all.
pub(super) fn replication(bounds: &Bounds, seconds: u64) -> Result<Option<Duration>, Refusal> {
    if seconds == 0 { Ok(None) } else { duration(bounds, seconds).map(Some) }
}

fn duration(bounds: &Bounds, seconds: u64) -> Result<Duration, Refusal> {
    let given = bounds.check(Duration::from_secs(seconds));
    given.map_err(|e| field(e.to_string(), &format!("give one such as {}", bounds.example)))
}

pub(super) fn key_change(request: &v1::ChangeKeysRequest) -> Result<KeyChange, Refusal> {
    let add = KeySet::from_recorded(request.add.iter().map(String::as_str));
    let add = add.map_err(|e| field(format!("ssh key: {e}"), "give a public key file"))?;
    if add.is_empty() && (request.replace || request.remove_fingerprints.is_empty()) {
        return Err(field("no ssh key is given", "give a public key file"));
    }
    if request.replace && !request.remove_fingerprints.is_empty() {
        return Err(field("replace and remove contradict each other", "replace gives the whole set"));
    }
    for fingerprint in &request.remove_fingerprints {
        if !fingerprint.starts_with("SHA256:") {
            let message = format!("'{}' is not a fingerprint such as SHA256:...", shown(fingerprint));
            return Err(field(message, "take it from 'containarium key list'"));
        }
    }
    Ok(KeyChange {
        request: request_id(&request.request_id)?,
        owner: user(&request.user)?,
        add,
        replace: request.replace,
        remove: request.remove_fingerprints.clone(),
        force: request.force,
    })
}

pub(super) fn repair(request: &v1::RepairContainerRequest) -> Result<Repair, Refusal> {
    Ok(Repair { request: request_id(&request.request_id)?, owner: user(&request.user)? })
}

pub(super) fn adopt(request: &v1::AdoptInstanceRequest) -> Result<Adopt, Refusal> {
    let keys = KeySet::from_lines(request.ssh_keys.iter().map(String::as_str));
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if request.instance.is_empty() || request.instance.len() > 63 || !request.instance.chars().all(good) {
        let message = format!("'{}' is not the name of an instance", shown(&request.instance));
        return Err(field(message, "take it from 'containarium node adopt NODE'"));
    }
    Ok(Adopt {
        request: request_id(&request.request_id)?,
        node: node(&request.node)?,
        instance: request.instance.clone(),
        owner: user(&request.user)?,
        keys: keys.map_err(|e| field(format!("ssh key: {e}"), "give --ssh-key with a public key file"))?,
    })
}

pub(super) fn page(request: &v1::ListContainersRequest) -> Result<Page, Refusal> {
    let v1::ListContainersRequest { page_size, page_token } = request;
    let after = match page_token.as_str() {
        "" => None,
        token => Some(token.parse().map_err(|_| {
            let message = format!("page token '{}' is not one that a list gave", shown(token));
            field(message, "give the next_page_token of the page before, or none")
        })?),
    };
    Ok(Page { after, size: (*page_size > 0).then(|| (*page_size).min(MAX_PAGE)) })
}

/// Where a follower of the events has come to; none: it begins.
pub(super) fn cursor(text: &str) -> Result<Option<Uuid>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let message = format!("'{}' is not a place in the events", shown(text));
        field(message, "give the cursor of the answer before, or none")
    })
}

fn cpu(wire: &v1::Cpu) -> Result<Cpu, Refusal> {
    convert::cpu_from_wire(wire).map_err(|e| field(e.to_string(), "give --cpu 4, 2-4, 1.5 or 250m"))
}

fn memory(bytes: u64) -> Result<Bytes, Refusal> {
    Bytes(bytes).as_memory().map_err(|e| field(e.to_string(), "give --memory such as 2GiB"))
}

fn disk(bytes: u64) -> Result<Bytes, Refusal> {
    Bytes(bytes).as_disk().map_err(|e| field(e.to_string(), "give a disk size such as 20GB"))
}

pub(super) fn user(name: &str) -> Result<Username, Refusal> {
    name.parse().map_err(|e: containarium_proto::names::NameError| {
        field(e.to_string(), "give a user name such as 'alice': a-z first, then a-z, 0-9, '_' and '-'")
    })
}

pub(super) fn node(name: &str) -> Result<NodeName, Refusal> {
    name.parse()
        .map_err(|e: containarium_proto::names::NameError| field(e.to_string(), "give a node name such as 'jump-1'"))
}

pub(super) fn labels(wire: &BTreeMap<String, String>) -> Result<Labels, Refusal> {
    Labels::from_wire(wire).map_err(|e| field(e.to_string(), "give labels such as gpu=true"))
}

pub(super) fn policy(wire: v1::Policy) -> Result<Policy, Refusal> {
    match wire {
        v1::Policy::Unspecified => Err(field("no policy given", "say active or cordoned")),
        v1::Policy::Active => Ok(Policy::Active),
        v1::Policy::Cordoned => Ok(Policy::Cordoned),
        v1::Policy::Draining => Ok(Policy::Draining),
        v1::Policy::Retired => Ok(Policy::Retired),
    }
}

pub(super) fn request_id(text: &str) -> Result<RequestId, Refusal> {
    let hint = "a client makes a UUID per command and keeps it for the retries of that command";
    text.parse().map_err(|_| field(format!("request id '{}' is not a UUID", shown(text)), hint))
}

fn image(text: &str, defaults: &Defaults) -> Result<String, Refusal> {
    Ok(if text.is_empty() { defaults.image.clone() } else { image_name(text)?.to_owned() })
}

/// An alias or a fingerprint, or nothing.
pub(super) fn image_name(text: &str) -> Result<&str, Refusal> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ':');
    if text.len() > 128 || !text.chars().all(good) {
        let message = format!("image '{}' is neither an alias nor a fingerprint", shown(text));
        return Err(field(message, "see 'containarium image list'"));
    }
    Ok(text)
}

pub(super) fn shown(text: &str) -> String {
    text.chars().take(48).flat_map(char::escape_default).collect()
}

/// Of the request as it came, so that new defaults of ours do not make a retry look like another request.
fn hash(request: &v1::CreateContainerRequest) -> String {
    let v1::CreateContainerRequest {
        request_id: _,
        dry_run: _,
        user,
        ssh_keys,
        cpu,
        memory_bytes,
        disk_bytes,
        image,
        autostart,
        node,
        labels,
        ttl_seconds,
        idle_stop_seconds,
        snapshots,
        allow_from,
        replicate_every_seconds,
    } = request;
    let content =
        serde_json::json!([user, ssh_keys, format!("{cpu:?}"), memory_bytes, disk_bytes, image, autostart, node]);
    // Only where there is something, so that a retry across an upgrade is the request it was.
    let labels = if labels.is_empty() { String::new() } else { serde_json::json!(labels).to_string() };
    let lifetime = match (ttl_seconds, idle_stop_seconds) {
        (None, None) => String::new(),
        some => serde_json::json!(some).to_string(),
    };
    let snapshots = snapshots.map(|asked| format!("{:?} {}", asked.every(), asked.keep)).unwrap_or_default();
    let allow = if allow_from.is_empty() { String::new() } else { serde_json::json!(allow_from).to_string() };
    let replicate = if *replicate_every_seconds == 0 { String::new() } else { format!("r{replicate_every_seconds}") };
    let digest = Sha256::digest(format!("{content}{labels}{lifetime}{snapshots}{allow}{replicate}"));
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        write!(hex, "{byte:02x}").expect("a String takes all that is written to it");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> v1::CreateContainerRequest {
        v1::CreateContainerRequest {
            request_id: "0192f0c1-2345-7abc-8def-0123456789ab".into(),
            user: "alice".into(),
            ssh_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPsgqJhcX8Ui+7ZCtnqBF7JhDZ1FE6w2fIV6rJjWTlD a".into()],
            ..Default::default()
        }
    }

    #[test]
    fn each_field_is_refused_by_name_with_a_cure() {
        type Spoil = fn(&mut v1::CreateContainerRequest);
        let cases: [(Spoil, &str); 12] = [
            (|r| r.request_id = "x".into(), "request id"),
            (|r| r.user = "root".into(), "reserved"),
            (|r| r.ssh_keys.clear(), "ssh key"),
            (|r| r.cpu = Some(v1::Cpu::default()), "cpu"),
            (|r| r.memory_bytes = Some(1), "memory"),
            (|r| r.disk_bytes = Some(1), "disk"),
            (|r| r.image = "a b".into(), "image"),
            (|r| r.node = "-".into(), "node name"),
            (|r| drop(r.labels.insert("GPU".into(), "true".into())), "label key"),
            (|r| r.ttl_seconds = Some(0), "time to live"),
            (|r| r.ttl_seconds = Some(u64::MAX), "at most 365d"),
            (|r| r.idle_stop_seconds = Some(1799), "at least 30m"),
        ];
        assert!(create(&request(), &Defaults::default(), &Lifetimes::default()).is_ok());
        for (spoil, word) in cases {
            let mut bad = request();
            spoil(&mut bad);
            let refusal = create(&bad, &Defaults::default(), &Lifetimes::default()).unwrap_err();
            assert!(refusal.message.contains(word), "{}", refusal.message);
            assert!(refusal.hint.is_some() && !refusal.message.contains('\n'), "{refusal:?}");
        }
    }

    #[test]
    fn pages_and_cursors_are_those_that_were_given() {
        let ask = |page_size, token: &str| page(&v1::ListContainersRequest { page_size, page_token: token.into() });
        assert_eq!(ask(0, "").unwrap(), Page { after: None, size: None });
        assert_eq!(ask(u32::MAX, "bob").unwrap(), Page { after: Some("bob".parse().unwrap()), size: Some(MAX_PAGE) });
        assert!(ask(1, "no token").unwrap_err().message.contains("'no token'"));
        assert_eq!(cursor("").unwrap(), None);
        let id = Uuid::now_v7();
        assert_eq!(cursor(&id.to_string()).unwrap(), Some(id));
        assert!(cursor("yesterday\n").unwrap_err().message.contains("'yesterday\\n'"));
    }

    #[test]
    fn the_hash_is_of_the_content_only() {
        let (one, mut two) = (request(), request());
        two.request_id = String::new();
        assert_eq!(hash(&one), hash(&two));
        two.autostart = true;
        assert_ne!(hash(&one), hash(&two));
        let three = v1::CreateContainerRequest { labels: [("gpu".into(), "true".into())].into(), ..one.clone() };
        assert_ne!(hash(&one), hash(&three));
        let one = v1::CreateContainerRequest { ttl_seconds: Some(3600), ..two.clone() };
        assert_ne!(hash(&one), hash(&two));
        assert_ne!(hash(&one), hash(&v1::CreateContainerRequest { idle_stop_seconds: Some(3600), ..two }));
    }

    #[test]
    fn a_lifetime_changes_something_within_its_bounds_or_is_refused() {
        let good = v1::SetLifetimeRequest {
            request_id: "0192f0c1-2345-7abc-8def-0123456789ab".into(),
            user: "alice".into(),
            ttl_seconds: Some(8 * 3600),
            idle_stop_seconds: Some(0),
            ..Default::default()
        };
        let read = |request: &v1::SetLifetimeRequest| set_lifetime(request, &Lifetimes::default());
        let change = read(&good).unwrap();
        assert_eq!(change.ttl, Some(Limit::After(Duration::from_secs(8 * 3600))));
        assert_eq!((change.idle_stop, change.autostart), (Some(Limit::Off), None));
        let nothing = v1::SetLifetimeRequest { ttl_seconds: None, idle_stop_seconds: None, ..good.clone() };
        let short = v1::SetLifetimeRequest { ttl_seconds: Some(299), ..good.clone() };
        let long = v1::SetLifetimeRequest { idle_stop_seconds: Some(31 * 86400), ..good };
        for (bad, word) in [(nothing, "nothing to change"), (short, "at least 5m"), (long, "at most 30d")] {
            let refusal = read(&bad).unwrap_err();
            assert!(refusal.message.contains(word) && refusal.hint.is_some(), "{refusal:?}");
        }
    }
}
