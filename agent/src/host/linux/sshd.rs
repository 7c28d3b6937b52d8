//! The rules of this machine's sshd for our accounts: one drop-in, checked before it is in any place where an sshd could
//! read it. The administrators' own access is never touched.
//!
//! ```text
//! candidate ─► alone: does this sshd know the words? ─► with everything else: does the whole hold? ─► rename, reload
//!                 └ no: nothing is changed                └ no, nor without it: others broke it. Ours is put right, sshd
//!                                                           is left alone, and the operator is told
//! ```

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{fs, sync::Mutex};

use super::{files, system};
use crate::host::{HostError, Kept};

/// Every proxy account's group.
pub(super) const GROUP: &str = "containarium-users";

const MAIN: &str = "/etc/ssh/sshd_config";
const DROP_INS: &str = "/etc/ssh/sshd_config.d";
const OURS: &str = "50-containarium.conf";
/// Where candidates are checked: in no path that an sshd reads.
const TRIAL: &str = "/run/containarium/sshd-trial";
const PID_FILE: &str = "/run/sshd.pid";
const SSHD: &str = "/usr/sbin/sshd";
const CHECK: Duration = Duration::from_secs(10);

/// An account of the group can forward to what its keys permit, and do nothing else. The shell is nologin, which says
/// so to whoever asks for one; the forced command says the same where a subsystem runs without a shell (internal-sftp).
/// `Match all` ends our block: what follows belongs to others.
const GROUP_RULES: &str = "\
Match Group containarium-users
    AuthenticationMethods publickey
    PasswordAuthentication no
    KbdInteractiveAuthentication no
    AllowTcpForwarding local
    AllowStreamLocalForwarding no
    AllowAgentForwarding no
    GatewayPorts no
    X11Forwarding no
    PermitTTY no
    PermitTunnel no
    PermitUserRC no
    ForceCommand /usr/sbin/nologin
Match all
";

/// For everybody, as sshd has no other way to say it. Who does not log in within half a minute is no person. sshd's own
/// MaxStartups (10) drops connections at random when a dozen people behind one office address log in at the same moment;
/// a jump server carries the fleet's users at nine o'clock.
const LIMITS: &str = "\
LoginGraceTime 30
MaxStartups 100:30:300
PermitRootLogin prohibit-password
PermitUserEnvironment no
";

/// Since OpenSSH 9.8. This machine's own questions whether sshd answers are no attacks.
const PENALTIES: &str = "\
PerSourcePenalties authfail:5s noauth:1s grace-exceeded:20s max:600s
PerSourcePenaltyExemptList 127.0.0.0/8,::1/128
";

/// What is known of this machine's sshd.
#[derive(Debug, Default)]
pub(super) struct Rules(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Whether it has penalties per source; asked once.
    has_penalties: Option<bool>,
    /// The drop-in was as it must be once: another content is somebody's doing.
    was_right: bool,
}

fn drop_in() -> PathBuf {
    Path::new(DROP_INS).join(OURS)
}

fn text(has_penalties: bool) -> String {
    let mut text = String::from("# Written by containarium-agent; changes are undone.\n");
    text.push_str(LIMITS);
    if has_penalties {
        text.push_str(PENALTIES);
    }
    text.push_str(GROUP_RULES);
    text
}

impl Rules {
    /// Puts the rules in place, if they are not there already, and has sshd read them. Cheap when they are.
    pub(super) async fn ensure(&self) -> Result<Kept, HostError> {
        let mut known = self.0.lock().await;
        let has_penalties = match known.has_penalties {
            Some(known) => known,
            None => {
                // Only a sshd that takes the rest tells something by not taking these.
                if let Some(problem) = alone(&text(false)).await? {
                    return Err(refused_alone(&problem));
                }
                *known.has_penalties.insert(alone(&text(true)).await?.is_none())
            }
        };
        let wanted = text(has_penalties);
        let path = drop_in();
        let as_wanted = fs::read(&path).await.is_ok_and(|there| there == wanted.as_bytes());
        if as_wanted {
            known.was_right = true;
            return Ok(Kept::AsItWas);
        }
        if let Some(problem) = alone(&wanted).await? {
            return Err(refused_alone(&problem));
        }
        let whole = whole(Some(&wanted)).await?;
        let broken_by_others = match whole {
            None => None,
            Some(problem) => match self::whole(None).await? {
                Some(others) => Some(others),
                None => {
                    let text = format!("sshd refuses the rules for proxy accounts, nothing changed: {problem}");
                    return Err(HostError::transient(text));
                }
            },
        };
        ensure_dir(Path::new(DROP_INS)).await?;
        files::replace(&path, &wanted, 0o644).await?;
        let kept = if known.was_right { Kept::Repaired } else { Kept::Written };
        known.was_right = true;
        if let Some(problem) = broken_by_others {
            return Err(HostError::transient(broken(&problem)));
        }
        tracing::info!(file = %path.display(), "sshd rules written");
        reload().await?;
        Ok(kept)
    }

    /// What an operator must know of the whole configuration: it would keep sshd from starting, or our rules from holding.
    pub(super) async fn problems(&self) -> Result<Vec<String>, HostError> {
        let _known = self.0.lock().await;
        let mut problems = Vec::new();
        problems.extend(check().await?.map(|problem| broken(&problem)));
        let main = files::read(Path::new(MAIN)).await?.unwrap_or_default();
        if !includes_drop_ins(&main) {
            problems.push(format!("{MAIN} does not include {DROP_INS}/*.conf before its first Match: the rules for proxy accounts do not hold"));
        }
        Ok(problems)
    }
}

fn refused_alone(problem: &str) -> HostError {
    HostError::transient(format!(
        "this machine's sshd does not take the rules for proxy accounts, nothing changed: {problem}"
    ))
}

fn broken(problem: &str) -> String {
    format!("sshd's configuration has a fault that is not ours: it would not start again: {problem}")
}

/// A line of its own before the first `Match`, as Debian and Ubuntu ship it.
fn includes_drop_ins(main: &str) -> bool {
    for line in main.lines() {
        let mut words = line.split_whitespace().map(|word| word.trim_matches('"'));
        match words.next() {
            Some(word) if word.eq_ignore_ascii_case("match") => return false,
            Some(word) if word.eq_ignore_ascii_case("include") => {
                if words.any(|path| path.starts_with(DROP_INS) || path.starts_with("sshd_config.d/")) {
                    return true;
                }
            }
            Some(_) | None => {}
        }
    }
    false
}

/// What is wrong with rules by themselves; none: nothing.
async fn alone(rules: &str) -> Result<Option<String>, HostError> {
    let file = Path::new(TRIAL).join("alone.conf");
    ensure_dir(Path::new(TRIAL)).await?;
    files::replace(&file, rules, 0o600).await?;
    trial(&file).await
}

/// What is wrong with the whole configuration, with these rules in place of ours; none: nothing.
async fn whole(rules: Option<&str>) -> Result<Option<String>, HostError> {
    let dir = Path::new(TRIAL).join("sshd_config.d");
    match fs::remove_dir_all(&dir).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(files::error("removing", &dir, &error));
        }
        Ok(()) | Err(_) => {}
    }
    ensure_dir(&dir).await?;
    copy_others(&dir).await?;
    if let Some(rules) = rules {
        files::replace(&dir.join(OURS), rules, 0o600).await?;
    }
    let main = files::read(Path::new(MAIN)).await?.unwrap_or_default();
    let file = Path::new(TRIAL).join("sshd_config");
    files::replace(&file, &elsewhere(&main, &dir), 0o600).await?;
    trial(&file).await
}

async fn copy_others(dir: &Path) -> Result<(), HostError> {
    let from = Path::new(DROP_INS);
    let mut entries = match fs::read_dir(from).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(files::error("reading", from, &error)),
    };
    while let Some(entry) = entries.next_entry().await.map_err(|error| files::error("reading", from, &error))? {
        let name = entry.file_name();
        if name != OURS && name.to_str().is_some_and(|name| name.ends_with(".conf") && !name.starts_with('.')) {
            let path = entry.path();
            fs::copy(&path, dir.join(&name)).await.map_err(|error| files::error("copying", &path, &error))?;
        }
    }
    Ok(())
}

/// The main file, with its drop-ins taken from another folder.
fn elsewhere(main: &str, dir: &Path) -> String {
    let mut text = String::new();
    for line in main.lines() {
        let is_include = line.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("include"));
        let moved = line
            .replace(DROP_INS, &dir.display().to_string())
            .replace(" sshd_config.d/", &format!(" {}/", dir.display()));
        // Writing to a String cannot fail.
        writeln!(text, "{}", if is_include { moved.as_str() } else { line }).expect("a String takes all");
    }
    text
}

/// What would keep sshd from starting with the configuration that lies there; none: nothing.
pub(super) async fn check() -> Result<Option<String>, HostError> {
    trial(Path::new(MAIN)).await
}

async fn trial(file: &Path) -> Result<Option<String>, HostError> {
    // sshd -t wants its privilege separation folder, which only exists once sshd was started.
    ensure_dir(Path::new("/run/sshd")).await?;
    let (code, _, said) = system::output(SSHD, &["-t", "-f", &file.display().to_string()], CHECK).await?;
    Ok((code != 0).then_some(said))
}

async fn ensure_dir(dir: &Path) -> Result<(), HostError> {
    fs::create_dir_all(dir).await.map_err(|error| files::error("making", dir, &error))
}

/// A running sshd reads them; one that could not start for a broken drop-in is started.
pub(super) async fn reload() -> Result<(), HostError> {
    if Path::new("/run/systemd/system").exists() {
        return system::run("systemctl", &["reload-or-restart", "ssh"], CHECK).await;
    }
    let pid = files::read(Path::new(PID_FILE)).await?;
    let running = pid.as_deref().map(str::trim).filter(|pid| Path::new("/proc").join(pid).exists());
    let Some(pid) = running else {
        tracing::warn!("sshd is not running: the rules hold from its start");
        return Ok(());
    };
    system::run("kill", &["-HUP", pid], CHECK).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_an_older_sshd_does_not_know_are_left_out() {
        assert!(!text(false).contains("PerSource"));
        assert!(text(true).contains("PerSourcePenaltyExemptList 127.0.0.0/8"));
        for text in [text(true), text(false)] {
            let (limits, group) = text.split_once("Match Group containarium-users\n").unwrap();
            assert!(limits.contains("LoginGraceTime 30\n") && group.ends_with("Match all\n"), "{text}");
        }
    }

    #[test]
    fn an_include_counts_where_sshd_reads_it() {
        let dir = Path::new("/run/t");
        let debian = "# a comment\nInclude /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n";
        assert!(includes_drop_ins(debian) && includes_drop_ins("include sshd_config.d/*.conf"));
        assert!(!includes_drop_ins("UsePAM yes\nMatch User x\nInclude /etc/ssh/sshd_config.d/*.conf\n"));
        assert!(!includes_drop_ins("#Include /etc/ssh/sshd_config.d/*.conf"));
        assert_eq!(elsewhere(debian, dir), "# a comment\nInclude /run/t/*.conf\nUsePAM yes\n");
        assert_eq!(elsewhere("include sshd_config.d/*.conf\n", dir), "include /run/t/*.conf\n");
        let named = "Banner /etc/ssh/sshd_config.d/banner\n";
        assert_eq!(elsewhere(named, dir), named);
    }
}
