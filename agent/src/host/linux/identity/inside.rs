//! The sshd in a container: its key is read through Incus, and the certificate written by a script that Incus runs
//! there, so that any container can have one, whatever image it was made from.

use std::time::Duration;

use containarium_proto::identity::{HostCertificate, HostKey};
use reqwest::Method;
use serde_json::json;

use super::{
    super::{LinuxHost, incus::Operation},
    CERTIFICATE, KEY, RULES, parsed,
};
use crate::host::HostError;

/// `sshd -t` and a reload beside a booting systemd.
const INSTALL: Duration = Duration::from_secs(30);

/// Each file under a temporary name first. sshd's own check decides whether the rules stay. Reloads when the rules are
/// new, or RELOAD says so, and exits with 10 then. Where no way to reload is known, the certificate holds from sshd's next
/// start; the caller sees what is shown.
const SCRIPT: &str = r#"
set -eu
umask 022
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
rules=/etc/ssh/sshd_config.d/20-containarium-host.conf
put() {
  printf '%s\n' "$1" >"$2.new"
  sync "$2.new"
  mv -fT "$2.new" "$2"
}
put "$CERTIFICATE" "$CERTIFICATE_FILE"
mkdir -p /etc/ssh/sshd_config.d /run/sshd
if [ "$(cat "$rules" 2>/dev/null || true)" != "$RULES" ]; then
  put "$RULES" "$rules"
  sshd -t || { rm -f "$rules"; exit 4; }
  RELOAD=yes
fi
[ "$RELOAD" = yes ] || exit 0
for unit in ssh sshd; do
  if systemctl --quiet is-active "$unit" 2>/dev/null; then
    systemctl reload "$unit"
    exit 10
  fi
done
if [ -s /run/sshd.pid ]; then kill -HUP "$(cat /run/sshd.pid)"; fi
exit 10
"#;

impl LinuxHost {
    pub(super) async fn key_inside(&self, name: &str) -> Result<HostKey, HostError> {
        let what = format!("reading the host key of {name}");
        let text = self.incus.read_file(&what, name, KEY).await?;
        parsed(name, text.as_deref())
    }

    /// Gives whether sshd was reloaded.
    pub(super) async fn install_inside(
        &self,
        name: &str,
        certificate: &HostCertificate,
        reload: bool,
    ) -> Result<bool, HostError> {
        let body = json!({
            "command": ["/bin/sh", "-c", SCRIPT],
            "environment": {
                "CERTIFICATE": certificate.to_string(),
                "CERTIFICATE_FILE": CERTIFICATE,
                "RULES": RULES.trim_end(),
                "RELOAD": if reload { "yes" } else { "no" },
            },
            "record-output": false,
            "wait-for-websocket": false,
            "interactive": false,
        });
        let what = format!("writing the host certificate of {name}");
        let request = self.incus.request(Method::POST, &format!("/instances/{name}/exec")).json(&body);
        let done = self.incus.operate(&what, request, INSTALL).await?;
        match done.as_ref().and_then(exit_code) {
            Some(0) => Ok(false),
            Some(10) => Ok(true),
            Some(4) => Err(HostError::permanent(format!("{what}: its sshd refuses its configuration, undone"))),
            Some(code) => Err(HostError::transient(format!("{what}: exit {code}"))),
            None => Err(HostError::transient(format!("{what}: no exit code"))),
        }
    }
}

fn exit_code(done: &Operation) -> Option<i64> {
    done.metadata["return"].as_i64()
}
