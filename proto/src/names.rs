//! Names that people type: users and nodes. Everything derived from them (instance, host alias) is derived here.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Login names that no user of the fleet may have, on any node or in any container: the accounts of a base system,
/// of the packages we install, and of the cloud images. Names in a node's own passwd are refused besides these.
const RESERVED: &[&str] = &[
    "root",
    "admin",
    "administrator",
    "daemon",
    "bin",
    "sys",
    "sync",
    "games",
    "man",
    "lp",
    "mail",
    "news",
    "uucp",
    "proxy",
    "www-data",
    "backup",
    "list",
    "irc",
    "gnats",
    "nobody",
    "nogroup",
    "_apt",
    "sshd",
    "ubuntu",
    "debian",
    "incus",
    "incus-admin",
    "lxd",
    "lxc",
    "docker",
    "dnsmasq",
    "messagebus",
    "polkitd",
    "systemd-network",
    "systemd-resolve",
    "systemd-timesync",
    "systemd-coredump",
    "systemd-oom",
    "postgres",
    "etcd",
    "prometheus",
    "containarium",
    "containarium-users",
    "jump",
    "sudo",
    "wheel",
    "operator",
    "staff",
    "users",
    "adm",
    "tty",
    "disk",
    "kmem",
    "shadow",
    "utmp",
    "video",
    "audio",
    "cdrom",
    "floppy",
    "tape",
    "dip",
    "plugdev",
    "src",
    "crontab",
    "input",
    "render",
    "kvm",
    "sgx",
    "netdev",
    "google",
    "fleet",
    "all",
    "none",
];

/// Why a name was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("{what} is empty")]
    Empty {
        /// "user name" or "node name"
        what: &'static str,
    },
    /// Longer than the systems below accept.
    #[error("{what} '{name}' has {length} characters: at most {limit}")]
    TooLong {
        /// "user name" or "node name"
        what: &'static str,
        /// As given, shortened.
        name: String,
        /// As given.
        length: usize,
        /// Accepted.
        limit: usize,
    },
    /// A character outside the set.
    #[error("{what} '{name}' must start with a-z and hold only {allowed}")]
    BadCharacter {
        /// "user name" or "node name"
        what: &'static str,
        /// As given, escaped.
        name: String,
        /// The set.
        allowed: &'static str,
    },
    /// Belongs to the system.
    #[error("user name '{name}' is reserved for the system: choose another")]
    Reserved {
        /// As given.
        name: String,
    },
}

fn check(what: &'static str, name: &str, limit: usize, allowed: &'static str, extra: &[char]) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    let shown = || name.chars().take(48).flat_map(char::escape_default).collect::<String>();
    let length = name.chars().count();
    if length > limit {
        return Err(NameError::TooLong { what, name: shown(), length, limit });
    }
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || extra.contains(&c);
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(good) {
        return Err(NameError::BadCharacter { what, name: shown(), allowed });
    }
    Ok(())
}

/// A user of the fleet, and the login name in their container and on every jump server.
/// Starts with a-z, then `[a-z0-9_-]`, at most 32 characters (the limit of `useradd`), not reserved.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Username(String);

impl Username {
    /// The instance that holds this user's machine: `<user>-container`. A host name has no '_', so it becomes '-':
    /// `a_b` and `a-b` want the same name, and the store lets only one of them have it.
    #[must_use]
    pub fn container_name(&self) -> String {
        format!("{}-container", self.0.replace('_', "-"))
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Username {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        check("user name", name, 32, "a-z, 0-9, '_' and '-'", &['_', '-'])?;
        if RESERVED.contains(&name) || name.starts_with("systemd-") {
            return Err(NameError::Reserved { name: name.to_owned() });
        }
        Ok(Self(name.to_owned()))
    }
}

/// A jump server. A DNS label, because it is the name in the agent's certificate: `[a-z0-9-]`, at most 63 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

impl NodeName {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        check("node name", name, 63, "a-z, 0-9 and '-', not ending in '-'", &['-'])?;
        if name.ends_with('-') {
            return Err(NameError::BadCharacter {
                what: "node name",
                name: name.to_owned(),
                allowed: "a-z, 0-9 and '-', not ending in '-'",
            });
        }
        Ok(Self(name.to_owned()))
    }
}

macro_rules! text_impls {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                name.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )*};
}
text_impls!(Username, NodeName);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_useradd_or_a_shell_would_trip_over() {
        for name in
            ["", "-x", "../x", "a;b", "a b", "Alice", "1a", "a.b", "а", "a\n", "a\0b", "аlice", "_x", "a/b", "$x"]
        {
            assert!(name.parse::<Username>().is_err(), "{name:?} was accepted");
        }
        assert!("a".repeat(33).parse::<Username>().is_err());
        assert!("a".repeat(32).parse::<Username>().is_ok());
    }

    #[test]
    fn refuses_system_names_and_says_so() {
        for name in ["root", "admin", "daemon", "sshd", "ubuntu", "incus", "nobody", "systemd-anything"] {
            assert_eq!(name.parse::<Username>(), Err(NameError::Reserved { name: name.into() }));
        }
    }

    #[test]
    fn container_names_are_host_names() {
        let user: Username = "a_b-c".parse().expect("valid");
        assert_eq!(user.container_name(), "a-b-c-container");
    }

    proptest! {
        #[test]
        fn accepted_names_are_safe_everywhere(name in "\\PC{0,40}") {
            if let Ok(user) = name.parse::<Username>() {
                prop_assert!(user.as_str().len() <= 32);
                prop_assert!(user.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_'));
                prop_assert!(user.container_name().len() <= 63);
            }
        }
    }
}
