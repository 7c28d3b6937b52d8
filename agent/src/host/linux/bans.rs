//! The jail of fail2ban that guards this machine's sshd, asked through its own client. An address goes in as an argument
//! of its own, printed by us: there is no shell on the way, and nothing but an address can be said.

use std::{net::IpAddr, path::Path, time::Duration};

use containarium_proto::audit::{Bans, Text};

use super::{LinuxHost, system};
use crate::host::HostError;

/// As in deploy/fail2ban.
const JAIL: &str = "containarium-sshd";
/// A Python that starts on a busy machine.
const ASKING: Duration = Duration::from_secs(10);

impl LinuxHost {
    async fn fail2ban(&self, words: &[&str]) -> Result<(i32, String, String), HostError> {
        let socket = self.config.fail2ban_socket.display().to_string();
        let arguments = [&["-s", socket.as_str()], words].concat();
        system::output("fail2ban-client", &arguments, ASKING).await
    }

    pub(super) async fn read_bans(&self) -> Result<Bans, HostError> {
        let unguarded =
            |problem: String| Bans { guarded: false, addresses: Vec::new(), problem: Text::from(problem.as_str()) };
        if !Path::new(&self.config.fail2ban_socket).exists() {
            return Ok(unguarded("fail2ban does not run".to_owned()));
        }
        let (code, out, err) = self.fail2ban(&["get", JAIL, "banip"]).await?;
        if code != 0 {
            return Ok(unguarded(format!("fail2ban has no jail {JAIL}: {out} {err}")));
        }
        // One that is no address is not ours to name.
        let addresses = out.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        Ok(Bans { guarded: true, addresses, problem: Text::default() })
    }

    /// Gives whether it was banned.
    pub(super) async fn let_in(&self, address: IpAddr) -> Result<bool, HostError> {
        if !Path::new(&self.config.fail2ban_socket).exists() {
            return Err(HostError::transient("fail2ban does not run"));
        }
        let (code, out, err) = self.fail2ban(&["set", JAIL, "unbanip", &address.to_string()]).await?;
        match (code, out.trim()) {
            (0, count) => Ok(count != "0"),
            (code, out) => Err(HostError::transient(format!("fail2ban-client: exit {code}: {out} {err}"))),
        }
    }
}
