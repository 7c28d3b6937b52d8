//! Who connected, who tried, who is kept out: what a node has read in its logs, as valid values. Every text may have been
//! chosen by an attacker: it is short and holds no control characters, and nothing here gives it a meaning.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

/// Longer than any login name, fingerprint or remark of ours; bounds what one line of a log can make us store.
const MAX_TEXT: usize = 200;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What was written down. The words are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum AuditKind { $($(#[$doc])* $name,)* }

        impl AuditKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// Somebody logged in.
    Accepted = "accepted",
    /// A connection ended without a login, with a user name given.
    Failed = "failed",
    /// One key was not accepted; the same connection may have offered another. Only with sshd at VERBOSE.
    RejectedKey = "rejected-key",
    /// Somebody who is logged in asked for a place that they may not reach.
    Denied = "denied",
    /// A session ended.
    Ended = "ended",
    /// An address is kept out from now on.
    Banned = "banned",
    /// And no longer.
    Unbanned = "unbanned",
    /// A part of a log was gone before it was read.
    Gap = "gap",
}

impl fmt::Display for AuditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Not one of the words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no kind of an audit record")]
pub struct UnknownKind(String);

impl FromStr for AuditKind {
    type Err = UnknownKind;
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let found = Self::ALL.iter().copied().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| UnknownKind(Text::from(text).0))
    }
}

/// A text from outside, made harmless.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Text(String);

impl Text {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect())
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    /// Address.
    pub address: IpAddr,
    /// Port; 0 where none is meant.
    pub port: u16,
}

/// One thing that was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Where in which log: one record, one place.
    pub place: Text,
    /// Unix milliseconds.
    pub at: i64,
    /// What.
    pub kind: AuditKind,
    /// As given by whoever connected.
    pub user: Text,
    /// From where.
    pub client: Option<Client>,
    /// "SHA256:...", or nothing.
    pub key: Text,
    /// Addresses that the session was seen to have a connection to.
    pub targets: Vec<Ipv4Addr>,
    /// More, for people.
    pub detail: Text,
}

/// What a node has read, and how far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditBatch {
    /// Opaque to all but the node.
    pub cursor: String,
    /// In the order of each log.
    pub records: Vec<AuditRecord>,
    /// There is more already.
    pub more: bool,
}

/// A connection of a proxy account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSession {
    /// Of this one process.
    pub id: Text,
    /// Whose.
    pub user: Text,
    /// From where.
    pub client: Option<Client>,
    /// Addresses that it has a connection to.
    pub targets: Vec<Ipv4Addr>,
    /// Unix milliseconds.
    pub since: i64,
}

/// Who is kept out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bans {
    /// Something bans here.
    pub guarded: bool,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// Why nothing does, or cannot be asked.
    pub problem: Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_kinds_are_one_to_one() {
        for kind in AuditKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
        }
        assert_eq!("x\n".parse::<AuditKind>(), Err(UnknownKind("x".to_owned())));
    }

    #[test]
    fn a_text_is_one_short_line() {
        assert_eq!(Text::from("a\nb\u{1b}[31m\0c").as_str(), "ab[31mc");
        assert_eq!(Text::from("é".repeat(5000).as_str()).as_str().chars().count(), MAX_TEXT);
    }
}
