//! Reading on in logs that others write, rotate and cut: from a place to what is there now. A file is known by its
//! first line, not by its name or number: so a place is found again when the file was renamed to `.1`, or copied there
//! and cut. Reads only, a bounded part at a time.

use std::{
    fs::File,
    io::{ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chrono::Local;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{LinuxHost, journal};
use crate::{
    audit::line,
    host::{HostError, LogLine, LogSource, ReadLogs},
};

/// One answer: a second of an attack, well below what a message may hold.
const PART: u64 = 256 * 1024;
/// sshd's own lines end at 1 KiB.
const LONGEST_LINE: usize = 4096;
const READING: Duration = Duration::from_secs(10);

/// Where sshd writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshLog {
    /// systemd's journal.
    Journal,
    /// A file that a syslog daemon writes, such as /var/log/auth.log.
    File(PathBuf),
}

/// How far all logs are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<Place>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    journal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fail2ban: Option<Place>,
}

/// How far one file is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// Which, by its first line.
    id: String,
    at: u64,
}

/// A part of a file: whole lines, each with its place.
#[derive(Debug, Default, PartialEq, Eq)]
struct Part {
    lines: Vec<(String, String)>,
    next: Option<Place>,
    more: bool,
    /// The file that was being read is gone.
    lost: bool,
}

impl LinuxHost {
    pub(super) async fn read_on(&self, cursor: &str) -> Result<ReadLogs, HostError> {
        // One that we did not write begins anew: the asker knows each record by its place.
        let cursor: Cursor = serde_json::from_str(cursor).unwrap_or_default();
        let (mut lines, mut next) = (Vec::new(), cursor.clone());
        let more = match &self.config.ssh_log {
            SshLog::Journal => {
                let read = journal::read_on(cursor.journal.as_deref()).await?;
                next.journal = read.cursor;
                lines.extend(read.lines);
                read.more
            }
            SshLog::File(path) => {
                let part = file(path, cursor.file).await?;
                lines.extend(part.lost.then(|| gap(path, part.next.as_ref())));
                let now = Local::now();
                lines.extend(part.lines.into_iter().filter_map(|(place, text)| {
                    let (at, message) = line::of_sshd(&text, now)?;
                    Some(LogLine { source: LogSource::Sshd, place, at, message: message.to_owned() })
                }));
                next.file = part.next;
                part.more
            }
        };
        let part = file(&self.config.fail2ban_log, cursor.fail2ban).await?;
        lines.extend(part.lines.into_iter().filter_map(|(place, text)| {
            let (at, jail, what) = line::of_fail2ban(&text)?;
            let source = LogSource::Fail2ban { jail: jail.to_owned() };
            Some(LogLine { source, place: format!("f2b:{place}"), at, message: what.to_owned() })
        }));
        next.fail2ban = part.next;
        let cursor =
            serde_json::to_string(&next).map_err(|e| HostError::permanent(format!("a place in a log: {e}")))?;
        Ok(ReadLogs { lines, cursor, more: more || part.more })
    }
}

fn gap(path: &Path, next: Option<&Place>) -> LogLine {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    LogLine {
        source: LogSource::Lost,
        place: format!("gap:{}", next.map_or("", |place| &place.id)),
        at: i64::try_from(at.as_millis()).unwrap_or(i64::MAX),
        message: format!("{} was rotated away before it was read to its end", path.display()),
    }
}

async fn file(path: &Path, after: Option<Place>) -> Result<Part, HostError> {
    let (owned, shown) = (path.to_owned(), path.display().to_string());
    let read = tokio::task::spawn_blocking(move || part(&owned, after));
    let failed = |why: &dyn std::fmt::Display| HostError::transient(format!("reading {shown}: {why}"));
    let read = tokio::time::timeout(READING, read).await.map_err(|_| failed(&"it takes too long"))?;
    read.map_err(|e| failed(&e))?.map_err(|e| failed(&e))
}

/// Reads on after a place: in the file that it is of, then in the one that followed.
fn part(path: &Path, after: Option<Place>) -> std::io::Result<Part> {
    let mut older_name = path.as_os_str().to_owned();
    older_name.push(".1");
    let (mut newer, mut older) = (Opened::open(path)?, Opened::open(Path::new(&older_name))?);
    let Some(place) = after else {
        return newer.as_mut().map_or(Ok(Part::default()), |newer| newer.read_from(0));
    };
    if let Some(newer) = newer.as_mut().filter(|newer| newer.id == place.id) {
        return newer.read_from(place.at);
    }
    if let Some(older) = older.as_mut().filter(|older| older.id == place.id) {
        let part = older.read_from(place.at)?;
        // Its writer is done with it once the next one has a line.
        return match &mut newer {
            Some(newer) if part.lines.is_empty() && !part.more => newer.read_from(0),
            Some(_) => Ok(Part { more: true, ..part }),
            None => Ok(part),
        };
    }
    let both = older.is_some() && newer.is_some();
    match older.as_mut().or(newer.as_mut()) {
        Some(next) => {
            let part = next.read_from(0)?;
            Ok(Part { lost: true, more: part.more || both, ..part })
        }
        // Between two files, or none any more: the next one will tell.
        None => Ok(Part { next: Some(place), ..Part::default() }),
    }
}

/// A file with at least one whole line.
struct Opened {
    file: File,
    id: String,
}

impl Opened {
    fn open(path: &Path) -> std::io::Result<Option<Self>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut start = Vec::with_capacity(LONGEST_LINE);
        file.by_ref().take(LONGEST_LINE as u64).read_to_end(&mut start)?;
        let first = match start.iter().position(|byte| *byte == b'\n') {
            Some(end) => &start[..end],
            None if start.len() == LONGEST_LINE => &start,
            None => return Ok(None),
        };
        let id = Sha256::digest(first).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Some(Self { file, id }))
    }

    fn read_from(&mut self, from: u64) -> std::io::Result<Part> {
        self.file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        self.file.by_ref().take(PART).read_to_end(&mut bytes)?;
        let full = bytes.len() as u64 == PART;
        let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => last + 1,
            // No line of sshd is so long: it is passed over.
            None if full => bytes.len(),
            None => 0,
        };
        let mut lines = Vec::new();
        let mut at = from;
        for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
            if line.len() <= LONGEST_LINE {
                // Zeros in front, so that places sort as they stand.
                let text = String::from_utf8_lossy(line).trim_end_matches('\n').to_owned();
                lines.push((format!("{}:{at:012}", self.id), text));
            }
            at += line.len() as u64;
        }
        Ok(Part { lines, next: Some(Place { id: self.id.clone(), at }), more: full, lost: false })
    }
}

#[cfg(test)]
mod tests;
