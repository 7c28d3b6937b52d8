//! Proxy accounts in this machine's passwd: made, kept and removed by the system's own tools, one writer at a time.
//! The comment field is our stamp; an entry without it is never touched (I6). It goes in first and comes out last, so
//! that whatever is half made or half removed is still known to be ours.
//!
//! ```text
//! alice:x:20000:...:containarium-fleet=<id>:/home/alice:/usr/sbin/nologin      shadow: '*', no password ever fits
//! /home/alice/.ssh/authorized_keys   root's: restrict,port-forwarding,permitopen="alice-container:22",... ssh-ed25519 ...
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use containarium_proto::{ids::FleetId, node::Account};
use tokio::fs;

use super::{files, sessions, sshd, system};
use crate::host::{Accounts, HostError};

const PASSWD: &str = "/etc/passwd";
const SHELL: &str = "/usr/sbin/nologin";
const STAMP: &str = "containarium-fleet=";
/// A tenth of a second each on a slow disk; another administrator may hold the lock of passwd for seconds.
const TOOL: Duration = Duration::from_secs(20);
/// `userdel` refuses while a process of the account is still dying.
const USERDEL_TRIES: u32 = 10;
const USERDEL_PAUSE: Duration = Duration::from_millis(100);
/// userdel's exit codes for "still in use" and "no such user".
const IN_USE: i32 = 8;
const NO_SUCH_USER: i32 = 6;
const ADDED_ALREADY: i32 = 9;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    uid: u32,
    comment: String,
    home: String,
}

fn parse_passwd(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, _, comment, home, _] = fields[..] else { return None };
        Some(Entry { name: name.into(), uid: uid.parse().ok()?, comment: comment.into(), home: home.into() })
    };
    text.lines().filter_map(entry).collect()
}

impl Entry {
    fn is_of(&self, fleet: FleetId) -> bool {
        self.comment.strip_prefix(STAMP).is_some_and(|id| id == fleet.to_string())
    }
}

async fn entries() -> Result<Vec<Entry>, HostError> {
    Ok(parse_passwd(&files::read(Path::new(PASSWD)).await?.unwrap_or_default()))
}

pub(super) async fn read(fleet: FleetId) -> Result<Accounts, HostError> {
    let (ours, foreign): (Vec<_>, Vec<_>) = entries().await?.into_iter().partition(|entry| entry.is_of(fleet));
    let names = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.name).collect();
    Ok(Accounts { ours: names(ours), foreign: names(foreign) })
}

/// Our accounts, with their numbers.
pub(super) async fn numbers(fleet: FleetId) -> Result<BTreeMap<String, u32>, HostError> {
    let ours = entries().await?.into_iter().filter(|entry| entry.is_of(fleet));
    Ok(ours.map(|entry| (entry.name, entry.uid)).collect())
}

pub(super) async fn ensure_group() -> Result<(), HostError> {
    let groups = files::read(Path::new("/etc/group")).await?.unwrap_or_default();
    if groups.lines().any(|line| line.split(':').next() == Some(sshd::GROUP)) {
        return Ok(());
    }
    match system::code_of("groupadd", &["--system", sshd::GROUP], TOOL).await? {
        (0 | ADDED_ALREADY, _) => Ok(()),
        (code, said) => Err(HostError::transient(format!("groupadd {}: exit {code}: {said}", sshd::GROUP))),
    }
}

fn home_of(name: &str) -> PathBuf {
    Path::new("/home").join(name)
}

/// One line per key; the container and those that others share, by name or address, are all that the account may forward
/// to. The name is what people use: it stays when the container moves.
fn authorized_keys(account: &Account) -> String {
    let own = account.permit.map(|address| (account.username.container_name(), address));
    let shared = account.shared.iter().map(|permit| (permit.container.clone(), permit.address));
    let mut options = "restrict".to_owned();
    for (index, (name, address)) in own.into_iter().chain(shared).enumerate() {
        let forwarding = if index == 0 { ",port-forwarding" } else { "" };
        options += &format!("{forwarding},permitopen=\"{name}:22\",permitopen=\"{address}:22\"");
    }
    account.ssh_keys.iter().map(|key| format!("{options} {key}\n")).collect()
}

/// Whether somebody who got in by `before` could go on using what `after` does not give: a key, or a place to reach. A
/// session may reach to its end what it could at its beginning, so more places end none, and fewer end all.
fn takes_away(before: &str, after: &str) -> bool {
    let after: BTreeMap<&str, BTreeSet<&str>> = after.lines().filter_map(options_of).collect();
    let kept = |(key, may): (&str, BTreeSet<&str>)| after.get(key).is_some_and(|still| may.is_subset(still));
    before.lines().any(|line| !options_of(line).is_some_and(kept))
}

/// A line's key, and its options.
fn options_of(line: &str) -> Option<(&str, BTreeSet<&str>)> {
    let (options, key) = line.split_once(' ')?;
    Some((key, options.split(',').collect()))
}

pub(super) async fn ensure(fleet: FleetId, account: &Account) -> Result<(), HostError> {
    let name = account.username.as_str();
    let uid = match entries().await?.into_iter().find(|entry| entry.name == name) {
        Some(entry) if entry.is_of(fleet) => Some(entry.uid),
        Some(_) => {
            let text = format!("account {name} exists on this node and was not made by this fleet: it is left alone");
            return Err(HostError::permanent(text));
        }
        None => {
            add(fleet, name).await?;
            None
        }
    };
    let ssh_dir = home_of(name).join(".ssh");
    let keys = ssh_dir.join("authorized_keys");
    let (before, after) = (files::read(&keys).await?.unwrap_or_default(), authorized_keys(account));
    if before == after {
        return Ok(());
    }
    // Root's, so that nothing the user does can change what they may do; readable, because sshd reads it as the user.
    for dir in [home_of(name), ssh_dir] {
        fs::create_dir_all(&dir).await.map_err(|error| files::error("making", &dir, &error))?;
        let open = std::fs::Permissions::from_mode(0o755);
        fs::set_permissions(&dir, open).await.map_err(|error| files::error("opening", &dir, &error))?;
    }
    // Whoever asks for a shell reads one line and not the machine's message of the day before it.
    files::replace(&home_of(name).join(".hushlogin"), "", 0o644).await?;
    files::replace(&keys, &after, 0o644).await?;
    match uid {
        Some(uid) if takes_away(&before, &after) => sessions::end(name, uid).await,
        Some(_) | None => Ok(()),
    }
}

async fn add(fleet: FleetId, name: &str) -> Result<(), HostError> {
    let (comment, home) = (format!("{STAMP}{fleet}"), home_of(name));
    let arguments = [
        "--comment",
        &comment,
        "--home-dir",
        &home.display().to_string(),
        "--no-create-home",
        "--shell",
        SHELL,
        // '*' fits no password; '!' would be a locked account, which sshd without PAM turns away.
        "--password",
        "*",
        "--gid",
        sshd::GROUP,
        "--no-user-group",
        "--no-log-init",
        "-K",
        "UID_MIN=20000",
        "-K",
        "UID_MAX=59999",
        // It never runs a process, least of all a container.
        "-K",
        "SUB_UID_COUNT=0",
        "-K",
        "SUB_GID_COUNT=0",
        name,
    ];
    system::run("useradd", &arguments, TOOL).await
}

pub(super) async fn remove(fleet: FleetId, name: &str) -> Result<(), HostError> {
    let Some(entry) = entries().await?.into_iter().find(|entry| entry.name == name && entry.is_of(fleet)) else {
        return Ok(());
    };
    let home = home_of(name);
    // No new session can begin without keys; then the old ones end.
    files::remove(&home.join(".ssh/authorized_keys")).await?;
    sessions::end(name, entry.uid).await?;
    let ours = entry.home == home.display().to_string() && fs::metadata(&home).await.is_ok_and(|meta| meta.uid() == 0);
    if ours {
        fs::remove_dir_all(&home).await.map_err(|error| files::error("removing", &home, &error))?;
    }
    for _ in 0..USERDEL_TRIES {
        match system::code_of("userdel", &[name], TOOL).await? {
            (0 | NO_SUCH_USER, _) => return Ok(()),
            (IN_USE, _) => sessions::end(name, entry.uid).await?,
            (code, said) => return Err(HostError::transient(format!("userdel {name}: exit {code}: {said}"))),
        }
        tokio::time::sleep(USERDEL_PAUSE).await;
    }
    Err(HostError::transient(format!("account {name} is still in use after {USERDEL_TRIES} tries")))
}

#[cfg(test)]
mod tests {
    use containarium_proto::node::Permit;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAA alice@laptop";

    fn account(permit: Option<&str>, keys: &[&str]) -> Account {
        Account {
            username: "alice".parse().unwrap(),
            ssh_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            permit: permit.map(|address| address.parse().unwrap()),
            shared: Vec::new(),
        }
    }

    #[test]
    fn each_key_may_reach_one_port_of_one_address() {
        assert_eq!(
            authorized_keys(&account(Some("10.100.1.5"), &[KEY, "ssh-rsa BBBB"])),
            "restrict,port-forwarding,permitopen=\"alice-container:22\",permitopen=\"10.100.1.5:22\" ssh-ed25519 AAAA alice@laptop\n\
             restrict,port-forwarding,permitopen=\"alice-container:22\",permitopen=\"10.100.1.5:22\" ssh-rsa BBBB\n"
        );
        assert_eq!(authorized_keys(&account(None, &[KEY])), "restrict ssh-ed25519 AAAA alice@laptop\n");
    }

    fn with_bobs(permit: Option<&str>) -> Account {
        let bobs = Permit { container: "bob-container".to_owned(), address: [10, 100, 2, 7].into() };
        Account { shared: vec![bobs], ..account(permit, &[KEY]) }
    }

    #[test]
    fn what_is_shared_may_be_reached_beside_ones_own() {
        let bobs = "permitopen=\"bob-container:22\",permitopen=\"10.100.2.7:22\"";
        let own = "permitopen=\"alice-container:22\",permitopen=\"10.100.1.5:22\"";
        let keys = |permit| authorized_keys(&with_bobs(permit));
        assert_eq!(keys(Some("10.100.1.5")), format!("restrict,port-forwarding,{own},{bobs} {KEY}\n"));
        assert_eq!(keys(None), format!("restrict,port-forwarding,{bobs} {KEY}\n"));
    }

    #[test]
    fn a_share_that_ends_takes_away_and_one_that_begins_does_too_little_to_end_sessions() {
        let (alone, with) = (account(Some("10.100.1.5"), &[KEY]), with_bobs(Some("10.100.1.5")));
        assert!(takes_away(&authorized_keys(&with), &authorized_keys(&alone)));
        assert!(!takes_away(&authorized_keys(&alone), &authorized_keys(&with)));
    }

    #[test]
    fn the_comment_alone_makes_an_account_ours() {
        let fleet = FleetId::generate();
        let text = format!(
            "root:x:0:0:root:/root:/bin/bash\nalice:x:20000:998:containarium-fleet={fleet}:/home/alice:/usr/sbin/nologin\n\
             bob:x:20001:998:containarium-fleet={}:/home/bob:/usr/sbin/nologin\nbroken line\n+::::::\n",
            FleetId::generate()
        );
        let entries = parse_passwd(&text);
        let ours: Vec<&str> = entries.iter().filter(|e| e.is_of(fleet)).map(|e| e.name.as_str()).collect();
        assert_eq!((entries.len(), ours), (3, vec!["alice"]));
    }

    #[test]
    fn sessions_end_only_when_something_was_taken_away() {
        let one = authorized_keys(&account(Some("10.100.1.5"), &[KEY]));
        let two = authorized_keys(&account(Some("10.100.1.5"), &[KEY, "ssh-rsa BBBB"]));
        let moved = authorized_keys(&account(Some("10.100.2.5"), &[KEY]));
        assert!(!takes_away(&one, &two) && !takes_away("", &one));
        assert!(takes_away(&two, &one) && takes_away(&one, &moved));
    }
}
