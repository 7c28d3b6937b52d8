//! Runs the system's own tools: no shell, a clean environment, a deadline.

use std::{process::Stdio, time::Duration};

use tokio::process::Command;

use crate::host::HostError;

/// Runs a tool to a good end.
pub(super) async fn run(program: &str, arguments: &[&str], limit: Duration) -> Result<(), HostError> {
    match code_of(program, arguments, limit).await? {
        (0, _) => Ok(()),
        (code, said) => {
            let line = format!("{program} {}", arguments.join(" "));
            Err(HostError::transient(format!("{line}: exit {code}: {said}")))
        }
    }
}

/// Runs a tool to its end: exit code (-1: by a signal) and what it said on standard error.
pub(super) async fn code_of(program: &str, arguments: &[&str], limit: Duration) -> Result<(i32, String), HostError> {
    said_by(program, arguments, limit).await.map(|(code, _, said)| (code, said))
}

/// The same, with what it said on standard output in between.
pub(super) async fn said_by(
    program: &str,
    arguments: &[&str],
    limit: Duration,
) -> Result<(i32, String, String), HostError> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::time::timeout(limit, command.output())
        .await
        .map_err(|_| HostError::transient(format!("{program}: not finished after {limit:?}")))?
        .map_err(|error| HostError::transient(format!("{program} cannot be run: {error}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().replace('\n', "; ");
    Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
}
