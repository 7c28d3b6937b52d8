//! The one user inside an instance: made by a helper of the golden image, which Incus runs there.

use std::time::Duration;

use containarium_proto::{keys::KeySet, names::Username};
use reqwest::Method;
use serde_json::{Value, json};

use super::{LinuxHost, incus::Operation};
use crate::host::HostError;

/// `useradd` beside a booting systemd.
const LOGIN: Duration = Duration::from_secs(60);
/// Between tries while the container's init is not there yet.
const LOGIN_RETRY: Duration = Duration::from_millis(50);
/// Puts the user, keys and sudo in place; baked into the golden image.
const ENSURE_USER: &str = "/usr/local/sbin/containarium-ensure-user";

/// An image, or an adopted instance, that was not made by us.
fn no_helper(name: &str) -> HostError {
    HostError::permanent(format!(
        "{name} has no {ENSURE_USER}, so its user cannot be made: put it there from a machine of the golden image, with \
         sshd and sudo, then repair it"
    ))
}

impl LinuxHost {
    pub(super) async fn make_login(&self, name: &str, user: &Username, keys: &KeySet) -> Result<(), HostError> {
        let body = json!({
            "command": [ENSURE_USER],
            "environment": { "CONTAINARIUM_USER": user, "CONTAINARIUM_KEYS": keys.to_lines().join("\n") },
            "record-output": true,
            "wait-for-websocket": false,
            "interactive": false,
        });
        let what = format!("adding {user} in {name}");
        let tries = async {
            loop {
                let request = self.incus.request(Method::POST, &format!("/instances/{name}/exec")).json(&body);
                match self.incus.operate(&what, request, LOGIN).await {
                    Ok(done) => return self.login_outcome((name, &what), done).await,
                    // Incus says that it runs before its init can be joined.
                    Err(failure)
                        if failure.text.contains("not running") || failure.text.contains("ailed to attach") =>
                    {
                        tokio::time::sleep(LOGIN_RETRY).await;
                    }
                    Err(failure) if failure.text.contains("ommand not found") => return Err(no_helper(name)),
                    Err(failure) => return Err(failure.into()),
                }
            }
        };
        match tokio::time::timeout(LOGIN, tries).await {
            Ok(outcome) => outcome,
            Err(_) => Err(HostError::transient(format!("{what}: not done after {LOGIN:?}"))),
        }
    }

    async fn login_outcome(&self, (name, what): (&str, &str), done: Option<Operation>) -> Result<(), HostError> {
        let Some(done) = done else {
            return Err(HostError::transient(format!("{what}: incus forgot the outcome")));
        };
        let code = done.metadata["return"].as_i64();
        let mut said = String::new();
        for stream in ["1", "2"] {
            let Some(path) = done.metadata["output"][stream].as_str().map(|path| path.trim_start_matches("/1.0"))
            else {
                continue;
            };
            if code != Some(0) {
                said.push_str(&self.incus.get_text(path).await.unwrap_or_default());
            }
            // Recorded output stays on the node's disk until it is deleted.
            if let Err(failure) = self.incus.change(what, Method::DELETE, path, &Value::Null).await {
                tracing::debug!(failure = failure.text, "recorded output was not removed");
            }
        }
        match code {
            Some(0) => Ok(()),
            // The helper's own word for a name that belongs to the system inside.
            Some(3) => Err(HostError::permanent(format!("{what}: {}", said.trim()))),
            // A shell's word for a command that is not there; Incus may pass it on.
            Some(127) => Err(no_helper(name)),
            Some(code) => Err(HostError::transient(format!("{what}: exit {code}: {}", said.trim()))),
            None => Err(HostError::transient(format!("{what}: no exit code"))),
        }
    }
}
