//! `ssh-config sync`: one file of ours for all machines, written anew each time, and one line in ~/.ssh/config that
//! includes it. Nothing else of that file is touched.

use std::{
    io::{IsTerminal, Write},
    path::Path,
};

use containarium_proto::{
    error::{Reason, Refusal},
    names::Username,
    v1,
};
use serde::Serialize;

use crate::{
    access::{self, Access, Choice, quoted, quoted_path},
    args::{Format, Global, Sync},
    client::Client,
    commands::list,
    errors::Failure,
    files, output,
};

#[derive(Debug, Serialize)]
struct Synced {
    file: String,
    hosts: Vec<String>,
    /// Whether ~/.ssh/config includes it.
    included: bool,
}

pub(crate) async fn sync(global: &Global, wanted: &Sync) -> Result<(), Failure> {
    let key = quoted(&wanted.key)?;
    let folder = access::folder()?;
    let client = Client::new(global)?;
    let users = users(&client, wanted).await?;
    let access = Access::ask(&client, Choice { jump: wanted.jump_ip.as_deref(), known_hosts: None }).await?;
    let mut text =
        String::from("# Written by 'containarium ssh-config sync', which writes it anew: changes are lost.\n");
    let mut hosts = Vec::new();
    for (user, container) in &users.own {
        text.push_str(&access.block(user, container, &key)?);
        hosts.push(format!("{user}-dev"));
    }
    for Shared { user, owner, container } in &users.shared {
        text.push_str(&access.shared_block(user, owner, container, &key)?);
        hosts.push(format!("{user}-at-{owner}-dev"));
    }
    access.write_known_hosts()?;
    let file = folder.join("config");
    access::write(&file, &text)?;
    let synced = Synced { file: file.display().to_string(), hosts, included: include(wanted, &file)? };
    output::print(global.format, &synced, |_| people(&synced))?;
    if let (Format::Table | Format::Wide, false) = (global.format, synced.included) {
        let line = include_line(&file)?;
        output::note(&format!("for plain ssh, '{line}' belongs at the top of ~/.ssh/config: --include puts it there"));
    }
    Ok(())
}

fn people(synced: &Synced) -> String {
    synced.hosts.iter().map(|host| format!("ssh {host}\n")).collect()
}

/// What the wanted users may reach.
#[derive(Debug, Default)]
struct Reachable {
    /// Users with their containers, by name.
    own: Vec<(String, String)>,
    shared: Vec<Shared>,
}

/// Another user's container, shared with one who has a way to the fleet.
#[derive(Debug)]
struct Shared {
    user: String,
    owner: String,
    container: String,
}

/// What is written into a file was a valid name once.
fn username(text: &str) -> Result<String, Failure> {
    let name = text.parse::<Username>().map(|name| name.to_string());
    name.map_err(|_| Failure::new(1, "the coordinator answered with a user that is none"))
}

/// By name. A container that is being deleted is gone.
async fn users(client: &Client, wanted: &Sync) -> Result<Reachable, Failure> {
    let is_meant = |name: &str| wanted.user.is_empty() || wanted.user.iter().any(|user| user.as_str() == name);
    let mut users = Reachable::default();
    for container in list::fetch(client).await? {
        if container.phase() == v1::Phase::Deleting {
            continue;
        }
        let owner = username(&container.user)?;
        for share in container.shares.iter().filter(|share| is_meant(&share.with)) {
            let (user, container) = (username(&share.with)?, share.container.clone());
            users.shared.push(Shared { user, owner: owner.clone(), container });
        }
        if is_meant(&owner) {
            users.own.push((owner, container.name));
        }
    }
    // The way there is the user's own.
    users.shared.retain(|shared| users.own.iter().any(|(user, _)| *user == shared.user));
    match wanted.user.iter().find(|user| users.own.iter().all(|(name, _)| name != user.as_str())) {
        None => Ok(users),
        Some(user) => Err(Refusal::new(Reason::NotFound, format!("{user} has no machine")).into()),
    }
}

fn include_line(file: &Path) -> Result<String, Failure> {
    Ok(format!("Include {}", quoted_path(file)?))
}

/// Has ~/.ssh/config include our file, if that is wanted; gives whether it does.
fn include(wanted: &Sync, file: &Path) -> Result<bool, Failure> {
    let Some(config) = file.parent().and_then(Path::parent).map(|ssh| ssh.join("config")) else { return Ok(false) };
    let before = files::read(&config).map_err(|e| Failure::usage(format!("reading {}: {e}", config.display())))?;
    let before = before.unwrap_or_default();
    let line = include_line(file)?;
    if includes(&before, &line) {
        return Ok(true);
    }
    let yes = match wanted.is_decided() {
        Some(decided) => decided,
        None => std::io::stdin().is_terminal() && confirm(&line)?,
    };
    if yes {
        // First of all: behind a Host line it would hold for that host only.
        files::ensure(&config, &format!("{line}\n\n{before}"), 0o600)
            .map_err(|e| Failure::usage(format!("writing {}: {e}", config.display())))?;
    }
    Ok(yes)
}

/// Whether a file has the line, in any of the ways to write it, before its first block.
fn includes(config: &str, line: &str) -> bool {
    let top = config.lines().map(str::trim).take_while(|line| {
        let word = line.split(|c: char| c.is_whitespace() || c == '=').next().unwrap_or_default().to_ascii_lowercase();
        word != "host" && word != "match"
    });
    let ways = [line, "Include ~/.ssh/containarium/config", "Include containarium/config"];
    top.into_iter().any(|line| ways.iter().any(|way| way.eq_ignore_ascii_case(line)))
}

fn confirm(line: &str) -> Result<bool, Failure> {
    write!(std::io::stderr(), "Add '{line}' to ~/.ssh/config, so that plain ssh knows the machines? [Y/n] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::includes;

    #[test]
    fn the_line_counts_only_where_it_holds_for_all_hosts() {
        let line = "Include /home/carol/.ssh/containarium/config";
        for there in [line, "# mine\n  include ~/.ssh/containarium/config\nHost x\n", "Include containarium/config"] {
            assert!(includes(there, line), "{there}");
        }
        for not_there in
            ["", "Host x\n    Include /home/carol/.ssh/containarium/config\n", "# Include containarium/config"]
        {
            assert!(!includes(not_there, line), "{not_there}");
        }
    }
}
