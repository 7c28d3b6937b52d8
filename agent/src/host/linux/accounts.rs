//! Proxy accounts of this machine: any number at a time, one writer at a time. The comment field in passwd is our stamp; an
//! account without it is never touched (I6).
//!
//! ```text
//! /home/alice/.ssh/authorized_keys   root's: restrict,port-forwarding,permitopen="alice-container:22",... ssh-ed25519 ...
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use containarium_proto::{ids::FleetId, node::Account};
use tokio::fs;

use super::{
    files,
    passwd::{self, Numbers},
    sessions::{self, Owner},
    sshd, system,
};
use crate::host::{AccountFailure, Accounts, HostError};

/// A tenth of a second on a slow disk; another administrator may hold the lock of group for seconds.
const TOOL: Duration = Duration::from_secs(20);
const ADDED_ALREADY: i32 = 9;
const GROUP_FILE: &str = "/etc/group";

pub(super) fn read(fleet: FleetId) -> Result<Accounts, HostError> {
    let (ours, foreign): (Vec<_>, Vec<_>) = passwd::entries()?.into_iter().partition(|entry| entry.is_of(fleet));
    let names = |entries: Vec<passwd::Entry>| entries.into_iter().map(|entry| entry.name).collect();
    Ok(Accounts { ours: names(ours), foreign: names(foreign) })
}

/// Our accounts, with their numbers.
pub(super) fn numbers(fleet: FleetId) -> Result<BTreeMap<String, u32>, HostError> {
    let ours = passwd::entries()?.into_iter().filter(|entry| entry.is_of(fleet));
    Ok(ours.map(|entry| (entry.name, entry.uid)).collect())
}

/// Makes the group of all proxy accounts; gives its number.
pub(super) async fn ensure_group() -> Result<u32, HostError> {
    if let Some(gid) = group().await? {
        return Ok(gid);
    }
    match system::code_of("groupadd", &["--system", sshd::GROUP], TOOL).await? {
        (0 | ADDED_ALREADY, _) => {}
        (code, said) => return Err(HostError::transient(format!("groupadd {}: exit {code}: {said}", sshd::GROUP))),
    }
    group().await?.ok_or_else(|| HostError::transient(format!("group {} is not there after groupadd", sshd::GROUP)))
}

async fn group() -> Result<Option<u32>, HostError> {
    let groups = files::read(Path::new(GROUP_FILE)).await?.unwrap_or_default();
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(sshd::GROUP);
        found.then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    Ok(groups.lines().find_map(of_line))
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

/// Makes all of these accounts what they must be; each is tried, whatever becomes of the others.
pub(super) async fn ensure(
    fleet: FleetId,
    accounts: &[Account],
    uids: &RangeInclusive<u32>,
) -> Result<Vec<AccountFailure>, HostError> {
    let names: Vec<String> = accounts.iter().map(|account| account.username.to_string()).collect();
    let numbers = Numbers { uids: uids.clone(), gid: ensure_group().await? };
    let given = waiting(move || {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        passwd::ensure(fleet, &names, &numbers, || sessions::numbers_in_use(&numbers.uids))
    });
    let given = given.await?;
    let mut failures = Vec::new();
    let mut to_end = Vec::new();
    for account in accounts {
        let name = account.username.as_str();
        let Some(uid) = given.get(name) else {
            let text = format!("account {name} exists on this node and was not made by this fleet: it is left alone");
            failures.push((name.to_owned(), HostError::permanent(text)));
            continue;
        };
        match ensure_keys(account).await {
            Ok(true) => to_end.push(Owner { name: name.to_owned(), uid: *uid }),
            Ok(false) => {}
            Err(error) => failures.push((name.to_owned(), error)),
        }
    }
    sessions::end(&to_end).await?;
    Ok(failures)
}

/// True if somebody who got in before must not stay.
async fn ensure_keys(account: &Account) -> Result<bool, HostError> {
    let home = home_of(account.username.as_str());
    let ssh_dir = home.join(".ssh");
    let keys = ssh_dir.join("authorized_keys");
    // Root's, so that nothing the user does can change what they may do; readable, because sshd reads it as the user.
    let mut shut = true;
    for dir in [&home, &ssh_dir] {
        shut &= ensure_dir(dir).await?;
    }
    let before = files::read_plain(&keys).await?;
    let after = authorized_keys(account);
    if shut && before.as_ref() == Some(&after) {
        return Ok(false);
    }
    // Whoever asks for a shell reads one line and not the machine's message of the day before it.
    files::replace(&home.join(".hushlogin"), "", 0o644).await?;
    files::replace(&keys, &after, 0o644).await?;
    // What lay there and was no file of ours may have let anybody in.
    Ok(!shut || before.is_none_or(|before| takes_away(&before, &after)))
}

/// A folder of root's that only root may write. False if one was there that was not so.
async fn ensure_dir(dir: &Path) -> Result<bool, HostError> {
    let failed = |error: std::io::Error| files::error("making", dir, &error);
    let there = match fs::symlink_metadata(dir).await {
        Ok(meta) => Some(meta),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let is_link = there.as_ref().is_some_and(|meta| !meta.is_dir());
    if is_link {
        // A link leads where others may write, and sshd would follow it.
        fs::remove_file(dir).await.map_err(failed)?;
    }
    if is_link || there.is_none() {
        fs::create_dir(dir).await.map_err(failed)?;
    }
    let meta = fs::symlink_metadata(dir).await.map_err(failed)?;
    let good = (meta.uid(), meta.gid(), meta.mode() & 0o7777) == (0, 0, 0o755);
    if !good {
        std::os::unix::fs::chown(dir, Some(0), Some(0)).map_err(failed)?;
        fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).await.map_err(failed)?;
    }
    Ok(!is_link && (good || there.is_none()))
}

/// Takes these accounts away with their sessions and homes, as far as they are ours.
pub(super) async fn remove(fleet: FleetId, names: &BTreeSet<String>) -> Result<Vec<AccountFailure>, HostError> {
    let ours = passwd::entries()?.into_iter().filter(|entry| names.contains(&entry.name) && entry.is_of(fleet));
    let ours: BTreeMap<String, passwd::Entry> = ours.map(|entry| (entry.name.clone(), entry)).collect();
    let mut failures = Vec::new();
    let mut gone = Vec::new();
    // No new session can begin without keys; then the old ones end.
    for entry in ours.values() {
        match files::remove(&home_of(&entry.name).join(".ssh/authorized_keys")).await {
            Ok(()) => gone.push(Owner { name: entry.name.clone(), uid: entry.uid }),
            Err(error) => failures.push((entry.name.clone(), error)),
        }
    }
    sessions::end(&gone).await?;
    let mut homeless = BTreeSet::new();
    for owner in &gone {
        match remove_home(&ours[&owner.name]).await {
            Ok(()) => {
                homeless.insert(owner.name.clone());
            }
            Err(error) => failures.push((owner.name.clone(), error)),
        }
    }
    waiting(move || passwd::remove(fleet, &homeless)).await?;
    // A login that had read the keys before they went may have got in since.
    sessions::end(&gone).await?;
    Ok(failures)
}

/// For the lock of the account files, which others may hold.
async fn waiting<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| HostError::transient(format!("writing the accounts: {error}")))?
}

async fn remove_home(entry: &passwd::Entry) -> Result<(), HostError> {
    let home = home_of(&entry.name);
    let meta = fs::symlink_metadata(&home).await;
    if entry.home != home.display().to_string() || !meta.is_ok_and(|meta| meta.is_dir() && meta.uid() == 0) {
        return Ok(());
    }
    fs::remove_dir_all(&home).await.map_err(|error| files::error("removing", &home, &error))
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
    fn sessions_end_only_when_something_was_taken_away() {
        let one = authorized_keys(&account(Some("10.100.1.5"), &[KEY]));
        let two = authorized_keys(&account(Some("10.100.1.5"), &[KEY, "ssh-rsa BBBB"]));
        let moved = authorized_keys(&account(Some("10.100.2.5"), &[KEY]));
        assert!(!takes_away(&one, &two) && !takes_away("", &one));
        assert!(takes_away(&two, &one) && takes_away(&one, &moved));
    }
}
