//! The user inside an instance, and its guests: made by a helper of the golden image, which Incus runs there.

use std::time::Duration;

use containarium_proto::node::Order;
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

/// A helper of before there were guests: it has made the user, and let nobody else in.
fn old_helper(name: &str) -> HostError {
    HostError::permanent(format!(
        "the {ENSURE_USER} of {name} is older than sharing: replace it by the one of a machine of a newer golden image, \
         then repair it"
    ))
}

/// One line for each key of each guest; one that has none has a line all the same.
fn guests(order: &Order) -> String {
    let mut lines = Vec::new();
    for guest in &order.guests {
        let beginning = format!("{} {}", guest.user, if guest.sudo { "sudo" } else { "plain" });
        match guest.keys.to_lines().as_slice() {
            [] => lines.push(beginning),
            keys => lines.extend(keys.iter().map(|key| format!("{beginning} {key}"))),
        }
    }
    lines.join("\n")
}

/// The last line of a helper that knows guests.
fn let_in(order: &Order) -> String {
    let mut names: Vec<&str> = order.guests.iter().map(|guest| guest.user.as_str()).collect();
    names.sort_unstable();
    [&["let in:", order.owner.as_str()], names.as_slice()].concat().join(" ")
}

impl LinuxHost {
    pub(super) async fn make_login(&self, order: &Order) -> Result<(), HostError> {
        let (name, user) = (&order.name, &order.owner);
        let body = json!({
            "command": [ENSURE_USER],
            "environment": {
                "CONTAINARIUM_USER": user,
                "CONTAINARIUM_KEYS": order.keys.to_lines().join("\n"),
                "CONTAINARIUM_GUESTS": guests(order),
            },
            "record-output": true,
            "wait-for-websocket": false,
            "interactive": false,
        });
        let what = format!("adding {user} in {name}");
        let tries = async {
            loop {
                let request = self.incus.request(Method::POST, &format!("/instances/{name}/exec")).json(&body);
                match self.incus.operate(&what, request, LOGIN).await {
                    Ok(done) => {
                        let said = self.login_outcome((name, &what), done).await?;
                        let as_told = said.lines().last() == Some(let_in(order).as_str());
                        return if as_told || order.guests.is_empty() { Ok(()) } else { Err(old_helper(name)) };
                    }
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

    /// What the helper said.
    async fn login_outcome(&self, (name, what): (&str, &str), done: Option<Operation>) -> Result<String, HostError> {
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
            said.push_str(&self.incus.get_text(path).await.unwrap_or_default());
            // Recorded output stays on the node's disk until it is deleted.
            if let Err(failure) = self.incus.change(what, Method::DELETE, path, &Value::Null).await {
                tracing::debug!(failure = failure.text, "recorded output was not removed");
            }
        }
        match code {
            Some(0) => Ok(said.trim().to_owned()),
            // The helper's own word for a name that belongs to the system inside.
            Some(3) => Err(HostError::permanent(format!("{what}: {}", said.trim()))),
            // A shell's word for a command that is not there; Incus may pass it on.
            Some(127) => Err(no_helper(name)),
            Some(code) => Err(HostError::transient(format!("{what}: exit {code}: {}", said.trim()))),
            None => Err(HostError::transient(format!("{what}: no exit code"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use containarium_proto::node::Guest;

    use super::*;

    const KEY: &str = include_str!("../../../../proto/src/keys/testdata/ed25519.pub");

    #[test]
    fn each_key_of_a_guest_is_a_line_and_no_guest_is_forgotten() {
        let guest = |name: &str, sudo, keys: &str| Guest {
            user: name.parse().unwrap(),
            sudo,
            keys: containarium_proto::keys::KeySet::from_recorded(keys.lines()).unwrap(),
        };
        let mut order: Order = serde_json::from_value(serde_json::json!({
            "id": "018f0000-0000-7000-8000-000000000001", "name": "alice-container", "owner": "alice", "generation": 3,
            "desired": "running",
            "spec": { "cpu": "2", "memory": 2_147_483_648u64, "disk": 20_000_000_000u64, "image": "5".repeat(64),
                      "autostart": true, "restarts": 0 },
            "address": "10.100.1.2", "keys": [KEY.trim_end()],
        }))
        .unwrap();
        assert_eq!((guests(&order), let_in(&order)), (String::new(), "let in: alice".to_owned()));
        order.guests = vec![guest("carol", true, KEY), guest("bob", false, "")];
        assert_eq!(guests(&order), format!("carol sudo {}\nbob plain", KEY.trim_end()));
        assert_eq!(let_in(&order), "let in: alice bob carol");
    }
}
