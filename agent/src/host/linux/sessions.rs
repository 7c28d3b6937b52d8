//! Live ssh sessions of a proxy account: found in /proc, ended for good. Processes of containers show there too, under
//! other uids, and are never touched.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

use crate::host::HostError;

/// A killed process is gone within milliseconds unless it hangs in the kernel.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// Ends every process of the account, and root's sshd processes that serve it.
pub(super) async fn end(name: &str, uid: u32) -> Result<(), HostError> {
    for _ in 0..TRIES {
        let found = of(name, uid)?;
        if found.is_empty() {
            return Ok(());
        }
        for pid in found {
            match kill_process(pid, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(HostError::transient(format!("ending a session of {name}: {error}"))),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(HostError::transient(format!("sessions of {name} do not end")))
}

fn of(name: &str, uid: u32) -> Result<Vec<Pid>, HostError> {
    let entries = fs::read_dir("/proc").map_err(|error| HostError::transient(format!("reading /proc: {error}")))?;
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        // A process that ends while we look is no longer one to end.
        let Ok(owner) = entry.metadata().map(|metadata| metadata.uid()) else { continue };
        let title = || fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let zombie = || fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.is_empty());
        if (owner == uid && !zombie()) || (owner == 0 && serves(&title(), name)) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Titles that sshd gives its processes: `sshd: alice [priv]`, `sshd: alice@notty`; since OpenSSH 9.8 `sshd-session: `.
fn serves(title: &str, name: &str) -> bool {
    served(title) == Some(name)
}

/// Whose a process of sshd with this title is.
pub(super) fn served(title: &str) -> Option<&str> {
    let rest = title.strip_prefix("sshd: ").or_else(|| title.strip_prefix("sshd-session: "));
    rest.and_then(|rest| rest.split([' ', '@', '\0']).next())
}

#[cfg(test)]
mod tests {
    use super::serves;

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
