//! sshd's lines from systemd's journal, by the journal's own tool and its own cursor. Chosen by the program that wrote
//! them, which the journal knows from the kernel: no other program can write one.

use std::{process::Stdio, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
};

use crate::host::{HostError, LogLine, LogSource};

/// What its reading may cost: a journal of years is asked only after a place.
const READING: Duration = Duration::from_secs(20);
/// Of one answer.
const LINES: usize = 1000;
/// A record of sshd is 1 KiB with all its fields.
const BYTES: u64 = 4 << 20;
const WHO: [&str; 3] = ["_EXE=/usr/sbin/sshd", "_EXE=/usr/lib/openssh/sshd-session", "_EXE=/usr/lib/openssh/sshd-auth"];

pub(super) struct Read {
    pub(super) lines: Vec<LogLine>,
    pub(super) cursor: Option<String>,
    pub(super) more: bool,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    /// Microseconds.
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at: String,
    /// A text, or numbers where it is none.
    #[serde(rename = "MESSAGE", default)]
    message: Value,
}

pub(super) async fn read_on(after: Option<&str>) -> Result<Read, HostError> {
    let mut command = Command::new("journalctl");
    command.args(["--output=json", "--no-pager", "--quiet", "--output-fields=MESSAGE"]).args(WHO);
    if let Some(after) = after {
        command.arg(format!("--after-cursor={after}"));
    }
    command.env_clear().env("PATH", "/usr/bin:/bin").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let failed = |why: &dyn std::fmt::Display| HostError::transient(format!("reading the journal: {why}"));
    let mut child = command.spawn().map_err(|e| failed(&e))?;
    let out = child.stdout.take().ok_or_else(|| failed(&"it has no output"))?;
    let mut text = BufReader::new(out.take(BYTES)).lines();
    let mut read = Read { lines: Vec::new(), cursor: after.map(ToOwned::to_owned), more: false };
    let reading = async {
        let mut count = 0;
        while let Some(line) = text.next_line().await? {
            if let Some((cursor, line)) = entry(&line) {
                read.cursor = Some(cursor);
                read.lines.extend(line);
            }
            count += 1;
            if count == LINES {
                read.more = true;
                return Ok(());
            }
        }
        Ok::<(), std::io::Error>(())
    };
    tokio::time::timeout(READING, reading).await.map_err(|_| failed(&"it takes too long"))?.map_err(|e| failed(&e))?;
    if !read.more {
        let ended = tokio::time::timeout(READING, child.wait()).await.map_err(|_| failed(&"it does not end"))?;
        let status = ended.map_err(|e| failed(&e))?;
        // A cursor of a journal that is gone: from its beginning.
        if !status.success() && after.is_some() {
            let lost = LogLine {
                source: LogSource::Lost,
                place: format!("gap:{}", after.unwrap_or_default()),
                at: chrono::Utc::now().timestamp_millis(),
                message: "the journal no longer knows the place up to which it was read".to_owned(),
            };
            return Ok(Read { lines: vec![lost], cursor: None, more: true });
        }
        if !status.success() {
            return Err(failed(&status));
        }
    }
    Ok(read)
}

/// The place of an entry, and what sshd said there.
fn entry(json: &str) -> Option<(String, Option<LogLine>)> {
    let Entry { cursor, at, message } = serde_json::from_str(json).ok()?;
    let at = at.parse::<i64>().ok()? / 1000;
    let message = match message {
        Value::String(text) => Some(text),
        Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|b| u8::try_from(b.as_u64()?).ok()).collect();
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    };
    let line = message.map(|message| LogLine { source: LogSource::Sshd, place: cursor.clone(), at, message });
    Some((cursor, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_place_a_time_and_a_message() {
        let text = r#"{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1795527833123456","MESSAGE":"Accepted x"}"#;
        let (cursor, line) = entry(text).unwrap();
        let line = line.unwrap();
        assert_eq!((cursor.as_str(), line.at, line.message.as_str()), ("s=1;i=2", 1_795_527_833_123, "Accepted x"));
        let bytes = r#"{"__CURSOR":"c","__REALTIME_TIMESTAMP":"1000","MESSAGE":[65,255,66]}"#;
        assert_eq!(entry(bytes).unwrap().1.unwrap().message, "A\u{fffd}B");
        let none = r#"{"__CURSOR":"c","__REALTIME_TIMESTAMP":"1000","MESSAGE":null}"#;
        assert_eq!(entry(none).unwrap(), ("c".to_owned(), None));
        assert!(entry("{").is_none());
    }
}
