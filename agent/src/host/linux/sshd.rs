//! The rules of this machine's sshd for our accounts: one drop-in, checked before a running sshd ever sees it. The
//! administrators' own access is never touched.

use std::{path::Path, time::Duration};

use tokio::fs;

use super::{files, system};
use crate::host::HostError;

/// Every proxy account's group.
pub(super) const GROUP: &str = "containarium-users";

const DROP_IN: &str = "/etc/ssh/sshd_config.d/50-containarium.conf";
const PID_FILE: &str = "/run/sshd.pid";
const CHECK: Duration = Duration::from_secs(10);

/// An account of the group can forward to what its keys permit, and do nothing else. The shell is nologin, which says
/// so to whoever asks for one. `Match all` ends our block: what follows belongs to others.
///
/// sshd's own MaxStartups (10) drops connections at random when a dozen people behind one office address log in at
/// the same moment; a jump server carries the fleet's users at nine o'clock.
const RULES: &str = "\
# Written by containarium-agent; changes are undone.
MaxStartups 100:30:300
Match Group containarium-users
    AuthenticationMethods publickey
    PasswordAuthentication no
    KbdInteractiveAuthentication no
    AllowTcpForwarding local
    AllowStreamLocalForwarding no
    AllowAgentForwarding no
    X11Forwarding no
    PermitTTY no
    PermitTunnel no
    PermitUserRC no
Match all
";

/// Puts the rules in place and reloads sshd, if they are not there already.
pub(super) async fn ensure_rules() -> Result<(), HostError> {
    let path = Path::new(DROP_IN);
    let before = files::read(path).await?;
    if before.as_deref() == Some(RULES) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).await.map_err(|error| files::error("making", dir, &error))?;
    }
    files::replace(path, RULES, 0o644).await?;
    if let Err(problem) = check().await {
        match before {
            Some(text) => files::replace(path, &text, 0o644).await?,
            None => files::remove(path).await?,
        }
        return Err(HostError::transient(format!("sshd refuses the rules for proxy accounts, undone: {problem}")));
    }
    reload().await?;
    tracing::info!(file = DROP_IN, "sshd rules written");
    Ok(())
}

/// `sshd -t` over the whole configuration: a file that stops sshd from starting locks everyone out.
pub(super) async fn check() -> Result<(), HostError> {
    // sshd -t wants its privilege separation folder, which only exists once sshd was started.
    fs::create_dir_all("/run/sshd").await.map_err(|error| files::error("making", Path::new("/run/sshd"), &error))?;
    system::run("/usr/sbin/sshd", &["-t"], CHECK).await
}

pub(super) async fn reload() -> Result<(), HostError> {
    if Path::new("/run/systemd/system").exists() {
        return system::run("systemctl", &["reload", "ssh"], CHECK).await;
    }
    let Some(pid) = files::read(Path::new(PID_FILE)).await? else {
        tracing::warn!("sshd is not running: the rules hold from its start");
        return Ok(());
    };
    system::run("kill", &["-HUP", pid.trim()], CHECK).await
}
