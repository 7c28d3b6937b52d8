//! What sshd and fail2ban said, as records. Pure. Whoever connects chooses the user name, the text of a goodbye and the
//! name in a certificate, and sshd prints them in the middle of its lines: so each line is read from its fixed
//! beginning *and* from its fixed end, and one that can be read in two ways tells no user and no address.
//!
//! ```text
//! Accepted publickey for alice from 192.0.2.1 port 4242 ssh2: ED25519 SHA256:...
//! Connection closed by invalid user x from 198.51.100.9 port 22 192.0.2.1 port 4242 [preauth]     (the name lies)
//! ```

use containarium_proto::audit::{AuditKind, Client, Text};

/// What one line tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) kind: AuditKind,
    pub(crate) user: Text,
    pub(crate) client: Option<Client>,
    pub(crate) key: Text,
    pub(crate) detail: Text,
}

impl Told {
    fn new(kind: AuditKind, user: &str, client: Client) -> Self {
        let (key, detail) = Default::default();
        Self { kind, user: Text::from(user), client: Some(client), key, detail }
    }

    fn remark(self, detail: &str) -> Self {
        Self { detail: Text::from(detail), ..self }
    }
}

/// sshd's beginnings of a connection that ended before a login. What follows is the user, then the client.
const GIVEN_UP: [(&str, &str); 4] = [
    ("Connection closed by ", "gave up"),
    ("Connection reset by ", "gave up"),
    ("Disconnected from ", "gave up"),
    ("Disconnecting ", "too many tries"),
];

pub(crate) fn of_sshd(message: &str) -> Option<Told> {
    if let Some(rest) = message.strip_prefix("Accepted ") {
        let (method, rest) = rest.split_once(" for ")?;
        return login(AuditKind::Accepted, rest).map(|told| told.remark(method));
    }
    if let Some(rest) = message.strip_prefix("Failed ") {
        let (method, rest) = rest.split_once(" for ")?;
        return login(AuditKind::RejectedKey, rest).map(|told| told.remark(method));
    }
    if message.starts_with("Received request to connect to host ") {
        return message.ends_with(", but the request was denied.").then(|| denied(message));
    }
    for (beginning, why) in GIVEN_UP {
        if let Some(rest) = message.strip_prefix(beginning) {
            return ended(rest, why);
        }
    }
    None
}

/// "[invalid user ]NAME from ADDRESS port PORT ssh2[: TYPE SHA256:...]"
fn login(kind: AuditKind, rest: &str) -> Option<Told> {
    let rest = rest.strip_prefix("invalid user ").unwrap_or(rest);
    // Behind the client of a certificate stands its name, which its maker has chosen.
    let mut readings = rest.match_indices(" from ").filter_map(|(at, from)| {
        let (client, tail) = client(&rest[at + from.len()..])?;
        let key = key(tail)?;
        Some((&rest[..at], client, key))
    });
    let (user, client, key) = readings.next()?;
    if readings.next().is_some() {
        return Some(unclear(kind));
    }
    Some(Told { key: Text::from(key), ..Told::new(kind, user, client) })
}

/// Two readings, at least one of them forged.
fn unclear(kind: AuditKind) -> Told {
    let detail = Text::from("a line that can be read in two ways: somebody tries to forge");
    Told { kind, user: Text::default(), client: None, key: Text::default(), detail }
}

/// "ADDRESS port PORT" and what follows.
fn client(text: &str) -> Option<(Client, &str)> {
    let (address, rest) = text.split_once(' ')?;
    let rest = rest.strip_prefix("port ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (port, tail) = rest.split_at(digits);
    Some((Client { address: address.parse().ok()?, port: port.parse().ok()? }, tail))
}

/// " ssh2", " ssh2: TYPE SHA256:..." or the same of a certificate: gives the fingerprint.
fn key(tail: &str) -> Option<&str> {
    let rest = tail.strip_prefix(" ssh2")?;
    if rest.is_empty() {
        return Some("");
    }
    let (algorithm, rest) = rest.strip_prefix(": ")?.split_once(' ')?;
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    match rest.split_once(' ') {
        None => (word(algorithm) && is_fingerprint(rest)).then_some(rest),
        Some((fingerprint, more)) => {
            let (_, ca) = more.strip_prefix("ID ")?.rsplit_once(" CA ")?;
            let (_, ca) = ca.split_once(' ')?;
            let certificate = algorithm.ends_with("-CERT") && is_fingerprint(fingerprint) && is_fingerprint(ca);
            certificate.then_some(fingerprint)
        }
    }
}

fn is_fingerprint(text: &str) -> bool {
    let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    text.strip_prefix("SHA256:").is_some_and(|hash| !hash.is_empty() && hash.bytes().all(base64))
}

/// What is behind the beginning: "authenticating user NAME CLIENT [preauth]", "invalid user ...", "user NAME CLIENT".
/// A connection that gave no name, such as a health check, tells nothing.
fn ended(rest: &str, why: &str) -> Option<Told> {
    let (kind, rest) = match (rest.strip_prefix("authenticating user "), rest.strip_prefix("invalid user ")) {
        (Some(rest), _) | (None, Some(rest)) => (AuditKind::Failed, rest),
        (None, None) => (AuditKind::Ended, rest.strip_prefix("user ")?),
    };
    let rest = match kind {
        AuditKind::Failed => rest.strip_suffix(" [preauth]").unwrap_or(rest),
        _ => rest,
    };
    let rest = rest.strip_suffix(": Too many authentication failures").unwrap_or(rest);
    // "NAME ADDRESS port PORT", read from the end: the name may hold anything.
    let (rest, port) = rest.rsplit_once(" port ")?;
    let (user, address) = rest.rsplit_once(' ')?;
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let client = Client { address: address.parse().ok()?, port: port.parse().ok()? };
    let why = if kind == AuditKind::Ended { "" } else { why };
    Some(Told::new(kind, user, client).remark(why))
}

/// The process that says it knows neither user nor client, and the host is the asker's word.
fn denied(message: &str) -> Told {
    let asked = message.trim_start_matches("Received request to connect to host ");
    let asked = asked.trim_end_matches(", but the request was denied.");
    Told {
        kind: AuditKind::Denied,
        user: Text::default(),
        client: None,
        key: Text::default(),
        detail: Text::from(format!("asked for {asked}").as_str()),
    }
}

/// "Ban 192.0.2.1", "Restore Ban ...", "Unban ...".
pub(crate) fn of_fail2ban(jail: &str, what: &str) -> Option<Told> {
    let (kind, address) = match what.strip_prefix("Unban ") {
        Some(address) => (AuditKind::Unbanned, address),
        None => (AuditKind::Banned, what.strip_prefix("Restore ").unwrap_or(what).strip_prefix("Ban ")?),
    };
    let client = Client { address: address.parse().ok()?, port: 0 };
    Some(Told::new(kind, "", client).remark(jail))
}

#[cfg(test)]
mod tests;
