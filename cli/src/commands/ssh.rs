//! `ssh`: becomes OpenSSH's own client with a configuration of ours and no other, so that its exit code, its prompts and
//! its signals are those of ssh.

use std::{io::ErrorKind, os::unix::process::CommandExt, path::PathBuf, process::Command};

use containarium_proto::names::Username;

use crate::{
    access::{self, Access, Choice, quoted},
    args::{Global, Ssh},
    client::Client,
    commands::list,
    errors::{self, Failure},
    files,
};

const DEFAULT_KEY: &str = "~/.ssh/id_ed25519";

pub(crate) async fn run(global: &Global, wanted: &Ssh) -> Result<(), Failure> {
    let (user, rest) = wanted.split().map_err(Failure::usage)?;
    let config = match synced(wanted, &user)? {
        Some(config) => config,
        None => write(global, wanted, &user).await?,
    };
    let mut command = Command::new("ssh");
    let failure = command.arg("-F").arg(&config).arg(format!("{user}-dev")).args(rest).exec();
    Err(match failure.kind() {
        ErrorKind::NotFound => Failure::new(errors::NO_PROGRAM, "there is no 'ssh' among the programs of this machine")
            .hint("install OpenSSH's client, such as Debian's package openssh-client"),
        _ => Failure::new(errors::NO_PROGRAM, format!("'ssh' cannot be run: {failure}")),
    })
}

/// What `ssh-config sync` has written, if it knows the user and nothing else was asked for. The names in it stay right
/// wherever the machine is, so nobody need be asked.
fn synced(wanted: &Ssh, user: &Username) -> Result<Option<PathBuf>, Failure> {
    if wanted.key.is_some() || wanted.jump_ip.is_some() {
        return Ok(None);
    }
    let path = access::folder()?.join("config");
    let text = files::read(&path).map_err(|e| Failure::usage(format!("reading {}: {e}", path.display())))?;
    let line = format!("Host {user}-dev");
    Ok(text.filter(|text| text.lines().any(|other| other == line)).map(|_| path))
}

/// One file per user, which stays: ssh becomes this process, and nobody is left to remove it.
async fn write(global: &Global, wanted: &Ssh, user: &Username) -> Result<PathBuf, Failure> {
    let key = quoted(wanted.key.as_deref().unwrap_or(DEFAULT_KEY))?;
    let path = access::folder()?.join(format!("ssh-{user}.conf"));
    let client = Client::new(global)?;
    let container = list::needed(list::get(&client, user).await?.container.as_ref())?;
    let access = Access::ask(&client, Choice { jump: wanted.jump_ip.as_deref(), known_hosts: None }).await?;
    let text = access.block(user.as_str(), &container.name, &key)?;
    access.write_known_hosts()?;
    access::write(&path, &text)?;
    Ok(path)
}
