use proptest::prelude::*;

use super::*;

const KEY: &str = "SHA256:zU6MCoa8eJET/EeJEV1Ci5foLXjACgcAWl+XY9fYW3c";

fn told(message: &str) -> (AuditKind, String, String, String) {
    let told = of_sshd(message).unwrap_or_else(|| panic!("tells nothing: {message}"));
    let client = told.client.map(|client| format!("{}:{}", client.address, client.port));
    (told.kind, told.user.into(), client.unwrap_or_default(), told.key.into())
}

/// As OpenSSH 9.2 printed them.
#[test]
fn what_sshd_prints_is_understood() {
    use AuditKind::{Accepted, Ended, Failed, RejectedKey};
    let cases = [
        ("Accepted publickey for alice from 192.0.2.1 port 4242 ssh2: ED25519 {KEY}", Accepted, KEY),
        (
            "Accepted publickey for alice from 192.0.2.1 port 4242 ssh2: ED25519-CERT {KEY} ID a b (serial 0) CA RSA {KEY}",
            Accepted,
            KEY,
        ),
        ("Failed publickey for alice from 192.0.2.1 port 4242 ssh2: RSA {KEY}", RejectedKey, KEY),
        ("Failed password for invalid user alice from 192.0.2.1 port 4242 ssh2", RejectedKey, ""),
        ("Connection closed by authenticating user alice 192.0.2.1 port 4242 [preauth]", Failed, ""),
        ("Connection reset by invalid user alice 192.0.2.1 port 4242 [preauth]", Failed, ""),
        (
            "Disconnecting authenticating user alice 192.0.2.1 port 4242: Too many authentication failures [preauth]",
            Failed,
            "",
        ),
        ("Disconnected from user alice 192.0.2.1 port 4242", Ended, ""),
        ("Connection closed by user alice 192.0.2.1 port 4242", Ended, ""),
    ];
    for (line, kind, key) in cases {
        let line = line.replace("{KEY}", KEY);
        assert_eq!(told(&line), (kind, "alice".into(), "192.0.2.1:4242".into(), key.into()), "{line}");
    }
    let denied = of_sshd("Received request to connect to host 10.0.0.1 port 22, but the request was denied.").unwrap();
    assert_eq!((denied.kind, denied.detail.as_str()), (AuditKind::Denied, "asked for 10.0.0.1 port 22"));
}

#[test]
fn what_says_nothing_of_a_user_tells_nothing() {
    for line in [
        "",
        "Connection closed by 192.0.2.1 port 4242 [preauth]",
        "Connection closed by 192.0.2.1 port 4242",
        "Invalid user alice from 192.0.2.1 port 4242",
        "Received disconnect from 192.0.2.1 port 4242:11: disconnected by user",
        "Server listening on 0.0.0.0 port 22.",
        "Accepted publickey for alice from nowhere port 4242 ssh2",
        "Accepted publickey for alice from 192.0.2.1 port 99999 ssh2",
        "Accepted publickey for alice from 192.0.2.1 port 4242 ssh2 trailing",
        "Connection closed by authenticating user alice 192.0.2.1 port +1 [preauth]",
    ] {
        assert_eq!(of_sshd(line), None, "{line}");
    }
}

#[test]
fn a_name_that_looks_like_a_line_lies_about_nobody() {
    let names = [
        "x from 6.6.6.6 port 22",
        "x 6.6.6.6 port 1 [preauth]",
        "x from 6.6.6.6 port 22 ssh2: ED25519 SHA256:AAAA",
        "invalid user root 6.6.6.6 port 1",
        "root from 6.6.6.6 port 22 ssh2\\nAccepted publickey for root from 6.6.6.6 port 1 ssh2",
    ];
    for name in names {
        for line in [
            format!("Connection closed by invalid user {name} 192.0.2.1 port 4242 [preauth]"),
            format!("Failed publickey for invalid user {name} from 192.0.2.1 port 4242 ssh2: ED25519 {KEY}"),
        ] {
            let (kind, user, client, _) = told(&line);
            assert_ne!(kind, AuditKind::Accepted);
            assert_eq!((user.as_str(), client.as_str()), (name, "192.0.2.1:4242"), "{line}");
        }
    }
}

#[test]
fn a_certificate_whose_name_looks_like_a_client_tells_no_client() {
    let forged = format!("from 6.6.6.6 port 1 ssh2: RSA-CERT {KEY} ID y");
    let line = format!(
        "Failed publickey for alice from 192.0.2.1 port 4242 ssh2: ED25519-CERT {KEY} ID x {forged} (serial 0) CA RSA {KEY}"
    );
    let told = of_sshd(&line).unwrap();
    assert_eq!((told.kind, told.client, told.user.as_str()), (AuditKind::RejectedKey, None, ""));
}

#[test]
fn bans_come_with_their_jail() {
    let ban = |what: &str| of_fail2ban("sshd", what).map(|t| (t.kind, t.client.unwrap().address.to_string()));
    assert_eq!(ban("Ban 192.0.2.1"), Some((AuditKind::Banned, "192.0.2.1".into())));
    assert_eq!(ban("Restore Ban 2001:db8::1"), Some((AuditKind::Banned, "2001:db8::1".into())));
    assert_eq!(ban("Unban 192.0.2.1"), Some((AuditKind::Unbanned, "192.0.2.1".into())));
    for other in ["192.0.2.1 already banned", "Ban ", "Ban x", "Flush ticket(s) with nftables", ""] {
        assert_eq!(ban(other), None, "{other}");
    }
}

proptest! {
    #[test]
    fn no_line_makes_it_panic(message in "\\PC{0,200}") {
        of_sshd(&message);
        of_fail2ban("sshd", &message);
        for beginning in ["Accepted publickey for ", "Failed x for ", "Connection closed by ", "Disconnecting "] {
            of_sshd(&format!("{beginning}{message}"));
        }
    }

    /// Whatever the name is made of, the client is the one that sshd has put behind it, or none.
    #[test]
    fn no_name_can_blame_another_client(
        words in proptest::collection::vec(
            prop_oneof![
                Just("from".to_owned()), Just("port".to_owned()), Just("6.6.6.6".to_owned()), Just("22".to_owned()),
                Just("ssh2".to_owned()), Just("ssh2:".to_owned()), Just("ED25519".to_owned()), Just(KEY.to_owned()),
                Just("[preauth]".to_owned()), Just("user".to_owned()), Just("ID".to_owned()), Just("CA".to_owned()),
                Just("RSA-CERT".to_owned()), "[ -~]{0,6}"
            ],
            0..14,
        )
    ) {
        let name = words.join(" ");
        for line in [
            format!("Connection closed by invalid user {name} 192.0.2.1 port 4242 [preauth]"),
            format!("Connection reset by authenticating user {name} 192.0.2.1 port 4242 [preauth]"),
            format!("Disconnecting invalid user {name} 192.0.2.1 port 4242: Too many authentication failures [preauth]"),
            format!("Failed publickey for invalid user {name} from 192.0.2.1 port 4242 ssh2: ED25519 {KEY}"),
            format!("Failed publickey for {name} from 192.0.2.1 port 4242 ssh2"),
            format!("Failed publickey for {name} from 192.0.2.1 port 4242 ssh2: RSA-CERT {KEY} ID {name} (serial 1) CA RSA {KEY}"),
        ] {
            if let Some(told) = of_sshd(&line) {
                prop_assert_ne!(told.kind, AuditKind::Accepted);
                prop_assert_ne!(told.kind, AuditKind::Ended);
                if let Some(client) = told.client {
                    prop_assert_eq!(client.address.to_string(), "192.0.2.1", "{}", line);
                    prop_assert_eq!(client.port, 4242);
                }
            }
        }
    }
}
