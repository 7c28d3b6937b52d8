//! Runs the system's own tools: no shell, a clean environment, a deadline.

use std::{process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command};

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

/// What a tool prints on standard output, whatever its exit code.
pub(super) async fn output_of(program: &str, arguments: &[&str], limit: Duration) -> Result<String, HostError> {
    output(program, arguments, limit).await.map(|(_, printed, _)| printed)
}

/// Runs a tool to its end: exit code (-1: by a signal) and what it said on standard error.
pub(super) async fn code_of(program: &str, arguments: &[&str], limit: Duration) -> Result<(i32, String), HostError> {
    output(program, arguments, limit).await.map(|(code, _, said)| (code, said))
}

/// Runs a tool to its end: exit code (-1: by a signal), standard output, and what it said on standard error.
pub(super) async fn output(
    program: &str,
    arguments: &[&str],
    limit: Duration,
) -> Result<(i32, String, String), HostError> {
    ended(command(program, arguments), "", limit).await
}

/// Runs a tool to a good end on this text as its standard input.
pub(super) async fn feed(program: &str, arguments: &[&str], text: &str, limit: Duration) -> Result<(), HostError> {
    let mut command = command(program, arguments);
    command.stdin(Stdio::piped());
    match ended(command, text, limit).await? {
        (0, _, _) => Ok(()),
        (code, _, said) => Err(HostError::transient(format!("{program}: exit {code}: {said}"))),
    }
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn ended(mut command: Command, text: &str, limit: Duration) -> Result<(i32, String, String), HostError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let run = async {
        let mut child = command.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(text.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(limit, run)
        .await
        .map_err(|_| HostError::transient(format!("{program}: not finished after {limit:?}")))?
        .map_err(|error| HostError::transient(format!("{program} cannot be run: {error}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let said = text(&output.stderr).replace('\n', "; ");
    Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned(), said))
}
