//! Live ssh sessions of a proxy account: found in /proc, ended for good. Processes of containers show there too, under
//! other uids, and are never touched.

use std::{collections::BTreeSet, fs, ops::RangeInclusive, os::unix::fs::MetadataExt, path::Path, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

use crate::host::HostError;

/// A killed process is gone within milliseconds unless it hangs in the kernel.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// Whose sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) uid: u32,
}

/// Ends every process of these accounts, and root's sshd processes that serve them.
pub(super) async fn end(owners: &[Owner]) -> Result<(), HostError> {
    if owners.is_empty() {
        return Ok(());
    }
    for _ in 0..TRIES {
        let found = of(owners)?;
        if found.is_empty() {
            return Ok(());
        }
        for pid in found {
            match kill_process(pid, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(HostError::transient(format!("ending a session: {error}"))),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    let names: Vec<&str> = owners.iter().map(|owner| owner.name.as_str()).collect();
    Err(HostError::transient(format!("sessions of {} do not end", names.join(", "))))
}

fn of(owners: &[Owner]) -> Result<Vec<Pid>, HostError> {
    let names: BTreeSet<&str> = owners.iter().map(|owner| owner.name.as_str()).collect();
    let uids: BTreeSet<u32> = owners.iter().map(|owner| owner.uid).collect();
    let mut found = Vec::new();
    each_process(|pid, uid, dir| {
        let title = || fs::read_to_string(dir.join("cmdline")).unwrap_or_default();
        let zombie = || fs::read(dir.join("cmdline")).is_ok_and(|line| line.is_empty());
        if (uids.contains(&uid) && !zombie()) || (uid == 0 && served(&title()).is_some_and(|name| names.contains(name)))
        {
            found.push(pid);
        }
    })?;
    Ok(found)
}

/// Numbers of the range that a process runs under, or that something bears where anybody may leave something. An account
/// that runs nothing can own nothing, but who had the number before may have been another one.
pub(super) fn numbers_in_use(range: &RangeInclusive<u32>) -> Result<BTreeSet<u32>, HostError> {
    let mut used = BTreeSet::new();
    each_process(|_, uid, _| {
        used.insert(uid);
    })?;
    for dir in ["/home", "/tmp", "/var/tmp", "/dev/shm", "/run/user", "/var/mail", "/var/spool/cron/crontabs"] {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        used.extend(entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.uid()));
    }
    used.retain(|uid| range.contains(uid));
    Ok(used)
}

fn each_process(mut look: impl FnMut(Pid, u32, &Path)) -> Result<(), HostError> {
    let entries = fs::read_dir("/proc").map_err(|error| HostError::transient(format!("reading /proc: {error}")))?;
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        // A process that ends while we look is no longer one to look at.
        let Ok(uid) = entry.metadata().map(|metadata| metadata.uid()) else { continue };
        look(pid, uid, &entry.path());
    }
    Ok(())
}

/// Titles that sshd gives its processes: `sshd: alice [priv]`, `sshd: alice@notty`; since OpenSSH 9.8 `sshd-session: `.
/// Whose a process of sshd with this title is.
pub(super) fn served(title: &str) -> Option<&str> {
    let rest = title.strip_prefix("sshd: ").or_else(|| title.strip_prefix("sshd-session: "))?;
    rest.split([' ', '@', '\0']).next()
}

#[cfg(test)]
mod tests {
    use super::served;

    fn serves(title: &str, name: &str) -> bool {
        served(title) == Some(name)
    }

    #[test]
    fn only_the_sshd_of_exactly_this_account() {
        assert!(serves("sshd: alice [priv]\0", "alice"));
        assert!(serves("sshd: alice\0", "alice"));
        assert!(serves("sshd: alice@notty\0", "alice"));
        assert!(serves("sshd-session: alice [priv]", "alice"));
        assert!(!serves("sshd: alice2 [priv]", "alice"));
        assert!(!serves("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups", "alice"));
        assert!(!serves("vim sshd: alice [priv]", "alice"));
    }
}
