//! `export`: an ssh configuration that can be appended to ~/.ssh/config again and again. Names are unique per user, and
//! nothing that is printed can start a line of its own.

use std::{
    fs::OpenOptions,
    io::Write,
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use containarium_proto::{names::Username, v1};

use crate::{
    args::{Export, Global},
    client::Client,
    commands::list,
    errors::Failure,
    output,
};

pub(crate) async fn run(global: &Global, export: &Export) -> Result<(), Failure> {
    let key = quoted(&export.key)?;
    if let Some(jump) = &export.jump_ip {
        check_host(jump)?;
    }
    let client = Client::new(global)?;
    let answer = list::get(&client, &export.user).await?;
    let container = list::needed(answer.container.as_ref())?;
    let jump = match &export.jump_ip {
        Some(jump) => jump.clone(),
        None => {
            let ask =
                client.read(v1::GetFleetRequest {}, |mut fleet, request| async move { fleet.get_fleet(request).await });
            ask.await?.jump_address
        }
    };
    if jump.is_empty() {
        return Err(Failure::usage("the fleet has no jump address configured")
            .hint("give --jump-ip, or start the coordinator with --jump-address"));
    }
    check_host(&jump)?;
    check_host(&container.name)?;
    let user = export.user.as_str();
    let mut text = config(user, &container.name, &jump, &key);
    for share in &answer.shared_with_owner {
        check_host(&share.container)?;
        let owner: Username =
            share.owner.parse().map_err(|e| Failure::new(1, format!("the coordinator's answer: {e}")))?;
        text += &shared(user, owner.as_str(), &share.container, &key);
    }
    match &export.output {
        None => output::out(&text),
        Some(path) => {
            write_private(path, &text).map_err(|e| Failure::usage(format!("writing {}: {e}", path.display())))?;
            output::note(&format!("written to {}; try: ssh -F {} {user}-dev", path.display(), path.display(),));
            Ok(())
        }
    }
}

/// The container by its name, which the jump servers know: it stays when the container moves.
fn config(user: &str, container: &str, jump: &str, key: &str) -> String {
    format!(
        "# containarium: {user}'s machine; try: ssh {user}-dev\n\
         Host containarium-jump-{user}\n    HostName {jump}\n    User {user}\n    IdentityFile {key}\n    IdentitiesOnly yes\n\
         Host {user}-dev\n    HostName {container}\n    User {user}\n    IdentityFile {key}\n    IdentitiesOnly yes\n    \
         ProxyJump containarium-jump-{user}\n# containarium: end of {user}\n"
    )
}

/// A machine that another user shares. Its name says who and whose: it stands beside the owner's own in one file.
fn shared(user: &str, owner: &str, container: &str, key: &str) -> String {
    format!(
        "# containarium: {owner}'s machine, shared with {user}; try: ssh {user}-at-{owner}-dev\n\
         Host {user}-at-{owner}-dev\n    HostName {container}\n    User {user}\n    IdentityFile {key}\n    IdentitiesOnly yes\n    \
         ProxyJump containarium-jump-{user}\n# containarium: end of {user} at {owner}\n"
    )
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
fn quoted(key: &str) -> Result<String, Failure> {
    if key.is_empty() || key.contains('"') || key.chars().any(char::is_control) {
        return Err(Failure::usage(format!(
            "--key '{}' cannot be written in an ssh configuration",
            key.escape_default()
        )));
    }
    Ok(if key.contains([' ', '#', '\'', '\\']) { format!("\"{}\"", key.replace('\\', "\\\\")) } else { key.to_owned() })
}

/// Whole or not at all, and for nobody else's eyes.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?.to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_per_user_and_all_else_is_comment() {
        let text = config("alice", "alice-container", "203.0.113.9", "~/.ssh/id_ed25519");
        assert_eq!(
            text,
            "# containarium: alice's machine; try: ssh alice-dev\n\
             Host containarium-jump-alice\n    HostName 203.0.113.9\n    User alice\n    IdentityFile ~/.ssh/id_ed25519\n    \
             IdentitiesOnly yes\n\
             Host alice-dev\n    HostName alice-container\n    User alice\n    IdentityFile ~/.ssh/id_ed25519\n    \
             IdentitiesOnly yes\n    ProxyJump containarium-jump-alice\n# containarium: end of alice\n"
        );
    }

    #[test]
    fn a_shared_machine_is_reached_by_ones_own_way() {
        let text = shared("bob", "alice", "alice-container", "~/.ssh/bob");
        assert_eq!(
            text,
            "# containarium: alice's machine, shared with bob; try: ssh bob-at-alice-dev\n\
             Host bob-at-alice-dev\n    HostName alice-container\n    User bob\n    IdentityFile ~/.ssh/bob\n    \
             IdentitiesOnly yes\n    ProxyJump containarium-jump-bob\n# containarium: end of bob at alice\n"
        );
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
    }
}
