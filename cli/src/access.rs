//! The way to a machine, as OpenSSH reads it: blocks of ssh_config and lines of known_hosts. Names are unique per user,
//! and nothing that is written can start a line of its own.
//!
//! ```text
//! ssh alice-dev ── ProxyJump ──► Host containarium-jump-alice   HostKeyAlias jump.<fleet>.containarium
//!                                Host alice-dev                 HostKeyAlias alice-container.<fleet>.containarium
//! known_hosts: @cert-authority *.<fleet>.containarium <the fleet's key>
//! ```
//! The aliases make addresses, moves and new servers irrelevant to who a host proves to be.

use std::{
    fmt::Write,
    net::IpAddr,
    path::{Path, PathBuf},
};

use containarium_proto::{
    identity::{AuthorityKey, container_alias, jump_alias, known_hosts_line, known_hosts_mark},
    ids::FleetId,
    v1,
};

use crate::{client::Client, errors::Failure, files};

/// What every way into a fleet has in common.
#[derive(Debug)]
pub(crate) struct Access {
    jump: String,
    trust: Option<Trust>,
}

/// Whom to believe, and where that is kept. None: a coordinator that gives no certificates.
#[derive(Debug)]
struct Trust {
    fleet: FleetId,
    authorities: Vec<AuthorityKey>,
    known_hosts: PathBuf,
}

/// What a person chose.
#[derive(Debug, Default)]
pub(crate) struct Choice<'a> {
    /// Another address than the fleet's own.
    pub(crate) jump: Option<&'a str>,
    /// Another file than [`known_hosts`].
    pub(crate) known_hosts: Option<&'a Path>,
}

/// `~/.ssh/containarium`, where everything of ours is.
pub(crate) fn folder() -> Result<PathBuf, Failure> {
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    let home = home.ok_or_else(|| Failure::usage("there is no home folder: HOME is not set to a path"))?;
    Ok(home.join(".ssh/containarium"))
}

/// Makes it, in a home that is there.
fn ensure_folder(folder: &Path) -> std::io::Result<()> {
    folder.parent().map_or(Ok(()), files::ensure_folder)?;
    files::ensure_folder(folder)
}

/// Writes a file of ours in our folder, whole.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        path.parent().map_or(Ok(()), ensure_folder)?;
        files::ensure(path, text, 0o600)
    };
    write().map(drop).map_err(|error| Failure::usage(format!("writing {}: {error}", path.display())))
}

impl Access {
    /// Asks the coordinator; checks everything it says.
    pub(crate) async fn ask(client: &Client, choice: Choice<'_>) -> Result<Self, Failure> {
        if let Some(jump) = choice.jump {
            check_host(jump)?;
        }
        let ask =
            client.read(v1::GetFleetRequest {}, |mut fleet, request| async move { fleet.get_fleet(request).await });
        let info = ask.await?;
        let jump = choice.jump.map_or(info.jump_address, ToOwned::to_owned);
        if jump.is_empty() {
            return Err(Failure::usage("the fleet has no jump address configured")
                .hint("give --jump-ip, or start the coordinator with --jump-address"));
        }
        check_host(&jump)?;
        if info.ssh_authorities.is_empty() {
            return Ok(Self { jump, trust: None });
        }
        let wrong = |what: &str| Failure::new(1, format!("the coordinator answered with {what} that is none"));
        let known_hosts = match choice.known_hosts {
            Some(path) => std::path::absolute(path).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?,
            None => folder()?.join("known_hosts"),
        };
        let authorities = info.ssh_authorities.iter().map(|line| line.parse()).collect::<Result<_, _>>();
        Ok(Self {
            jump,
            trust: Some(Trust {
                fleet: info.fleet_id.parse().map_err(|_| wrong("a fleet id"))?,
                authorities: authorities.map_err(|_| wrong("a key"))?,
                known_hosts,
            }),
        })
    }

    /// The block of one user; `key` is quoted already.
    pub(crate) fn block(&self, user: &str, container: &str, key: &str) -> Result<String, Failure> {
        check_host(container)?;
        let (jump_trust, own_trust) = match &self.trust {
            None => (String::new(), String::new()),
            Some(trust) => {
                (trust.options(&jump_alias(trust.fleet))?, trust.options(&container_alias(trust.fleet, container))?)
            }
        };
        let jump = &self.jump;
        Ok(format!(
            "# containarium: {user}'s machine; try: ssh {user}-dev\n\
             Host containarium-jump-{user}\n    HostName {jump}\n    User {user}\n    IdentityFile {key}\n    \
             IdentitiesOnly yes\n{jump_trust}\
             Host {user}-dev\n    HostName {container}\n    User {user}\n    IdentityFile {key}\n    \
             IdentitiesOnly yes\n    ProxyJump containarium-jump-{user}\n{own_trust}# containarium: end of {user}\n"
        ))
    }

    /// The block of a machine that another user shares. Its name says who and whose: it stands beside the owner's own in
    /// one file.
    pub(crate) fn shared_block(&self, user: &str, owner: &str, container: &str, key: &str) -> Result<String, Failure> {
        check_host(container)?;
        let trust = match &self.trust {
            None => String::new(),
            Some(trust) => trust.options(&container_alias(trust.fleet, container))?,
        };
        Ok(format!(
            "# containarium: {owner}'s machine, shared with {user}; try: ssh {user}-at-{owner}-dev\n\
             Host {user}-at-{owner}-dev\n    HostName {container}\n    User {user}\n    IdentityFile {key}\n    \
             IdentitiesOnly yes\n    ProxyJump containarium-jump-{user}\n{trust}\
             # containarium: end of {user} at {owner}\n"
        ))
    }

    /// What whoever is given a block needs beside it, as comment.
    pub(crate) fn for_other_machines(&self) -> String {
        let Some(trust) = &self.trust else { return String::new() };
        let mut text =
            String::from("# On another machine, put this into the file that UserKnownHostsFile names there:\n");
        for line in trust.lines() {
            // Writing to a String cannot fail.
            writeln!(text, "# {line}").unwrap_or_default();
        }
        text
    }

    /// Makes the file of known hosts say whom this fleet's hosts are certified by; what else is in it stays.
    pub(crate) fn write_known_hosts(&self) -> Result<(), Failure> {
        let Some(trust) = &self.trust else { return Ok(()) };
        let path = &trust.known_hosts;
        let failed = |error| {
            Failure::usage(format!("writing {}: {error}", path.display()))
                .hint("--known-hosts FILE names another place")
        };
        let before = files::read(path).map_err(failed)?.unwrap_or_default();
        let mut after: Vec<&str> =
            before.lines().filter(|line| !line.ends_with(&known_hosts_mark(trust.fleet))).collect();
        let ours = trust.lines();
        after.extend(ours.iter().map(String::as_str));
        if path.parent().is_some_and(|dir| folder().is_ok_and(|ours| *dir == ours)) {
            path.parent().map_or(Ok(()), ensure_folder).map_err(failed)?;
        }
        files::ensure(path, &format!("{}\n", after.join("\n")), 0o644).map(drop).map_err(failed)
    }
}

impl Trust {
    fn lines(&self) -> Vec<String> {
        self.authorities.iter().map(|authority| known_hosts_line(self.fleet, authority)).collect()
    }

    /// Strict: a host that the fleet has not certified is not one of its hosts, and asking a person would not make it
    /// one. Nothing is learned from servers.
    fn options(&self, alias: &str) -> Result<String, Failure> {
        let file = quoted_path(&self.known_hosts)?;
        Ok(format!(
            "    HostKeyAlias {alias}\n    UserKnownHostsFile {file}\n    StrictHostKeyChecking yes\n    UpdateHostKeys no\n"
        ))
    }
}

/// A host name or address and nothing else.
fn check_host(host: &str) -> Result<(), Failure> {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let good = host.parse::<IpAddr>().is_ok() || (!host.is_empty() && !host.starts_with('-') && host.chars().all(name));
    if good {
        Ok(())
    } else {
        Err(Failure::usage(format!("'{}' is not a host name or address", host.escape_default())))
    }
}

/// A path as one word of ssh_config. What cannot be written there is refused, `%` and `$` keep their meaning there.
pub(crate) fn quoted(path: &str) -> Result<String, Failure> {
    if path.is_empty() || path.contains('"') || path.chars().any(char::is_control) {
        return Err(Failure::usage(format!("'{}' cannot be written in an ssh configuration", path.escape_default())));
    }
    Ok(if path.contains([' ', '#', '\'', '\\']) {
        format!("\"{}\"", path.replace('\\', "\\\\"))
    } else {
        path.to_owned()
    })
}

/// A path that is meant as it stands.
pub(crate) fn quoted_path(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|text| !text.contains("${"));
    let text =
        text.ok_or_else(|| Failure::usage(format!("{} cannot be written in an ssh configuration", path.display())))?;
    quoted(&text.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use containarium_proto::identity::Authority;

    use super::*;

    #[test]
    fn names_are_unique_per_user_and_all_else_is_comment() {
        let bare = Access { jump: "203.0.113.9".to_owned(), trust: None };
        assert_eq!(
            bare.block("alice", "alice-container", "~/.ssh/id_ed25519").unwrap(),
            "# containarium: alice's machine; try: ssh alice-dev\n\
             Host containarium-jump-alice\n    HostName 203.0.113.9\n    User alice\n    IdentityFile ~/.ssh/id_ed25519\n    \
             IdentitiesOnly yes\n\
             Host alice-dev\n    HostName alice-container\n    User alice\n    IdentityFile ~/.ssh/id_ed25519\n    \
             IdentitiesOnly yes\n    ProxyJump containarium-jump-alice\n# containarium: end of alice\n"
        );
        assert_eq!(bare.for_other_machines(), "");
        let (fleet, authority) = (FleetId::generate(), Authority::generate().public());
        let trust = Trust { fleet, authorities: vec![authority.clone()], known_hosts: "/home/a b/known%hosts".into() };
        let access = Access { trust: Some(trust), ..bare };
        let text = access.block("alice", "alice-container", "k").unwrap();
        assert!(text.contains(&format!("    HostKeyAlias jump.{fleet}.containarium\n")), "{text}");
        assert!(text.contains(&format!("    HostKeyAlias alice-container.{fleet}.containarium\n")), "{text}");
        assert_eq!(text.matches("    UserKnownHostsFile \"/home/a b/known%%hosts\"\n").count(), 2, "{text}");
        assert!(access.for_other_machines().lines().all(|line| line.starts_with('#')));
        assert!(access.for_other_machines().contains(&authority.to_string()));
    }

    #[test]
    fn nothing_can_start_a_line_of_its_own() {
        for host in ["a\nProxyCommand x", "a b", "-oProxyCommand=x", "", "a;b", "a\tb", "$(x)"] {
            assert!(check_host(host).is_err(), "{host:?}");
        }
        for host in ["203.0.113.9", "2001:db8::1", "jump.example.com"] {
            assert!(check_host(host).is_ok(), "{host:?}");
        }
        for key in ["", "a\nb", "a\"b", "a\0b"] {
            assert!(quoted(key).is_err(), "{key:?}");
        }
        assert_eq!(quoted("~/my keys/id").unwrap(), "\"~/my keys/id\"");
        assert!(quoted_path(Path::new("/home/${USER}/x")).is_err());
    }
}
