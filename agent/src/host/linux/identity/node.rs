//! This machine's own sshd: a drop-in of its own, checked before a running sshd ever sees it.

use std::{path::Path, time::Duration};

use containarium_proto::identity::{HostCertificate, HostKey};
use tokio::fs;

use super::{
    super::{files, sshd, system},
    CERTIFICATE, KEY, RULES, parsed, scan,
};
use crate::host::HostError;

/// Before the rules for accounts, which end in `Match`.
const DROP_IN: &str = "/etc/ssh/sshd_config.d/40-containarium-host.conf";
const ASK: Duration = Duration::from_secs(10);

pub(super) async fn key() -> Result<HostKey, HostError> {
    parsed("this node", files::read(Path::new(KEY)).await?.as_deref())
}

/// Where its own sshd can be asked.
pub(super) async fn listens_at() -> Result<scan::At, HostError> {
    let said = system::output_of("/usr/sbin/sshd", &["-T"], ASK).await?;
    scan::At::of_config(&said).ok_or_else(|| HostError::transient("'sshd -T' does not say where sshd listens"))
}

/// Certificate first: rules that name a missing one would be an error in sshd's log at every start. Reloads sshd when the
/// rules are new, and gives whether it did.
pub(super) async fn install(certificate: &HostCertificate) -> Result<bool, HostError> {
    let path = Path::new(DROP_IN);
    files::replace(Path::new(CERTIFICATE), &format!("{certificate}\n"), 0o644).await?;
    tracing::info!(file = CERTIFICATE, "host certificate written");
    let before = files::read(path).await?;
    if before.as_deref() == Some(RULES) {
        return Ok(false);
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).await.map_err(|error| files::error("making", dir, &error))?;
    }
    files::replace(path, RULES, 0o644).await?;
    if let Some(problem) = sshd::check().await? {
        match before {
            Some(text) => files::replace(path, &text, 0o644).await?,
            None => files::remove(path).await?,
        }
        return Err(HostError::permanent(format!("sshd refuses its host certificate, undone: {problem}")));
    }
    sshd::reload().await?;
    Ok(true)
}
