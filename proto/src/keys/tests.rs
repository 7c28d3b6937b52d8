use proptest::prelude::*;

use super::*;

// Made with ssh-keygen for these tests; the private halves were never kept.
const ED25519: &str = include_str!("testdata/ed25519.pub");
const ECDSA: &str = include_str!("testdata/ecdsa.pub");
const RSA_2048: &str = include_str!("testdata/rsa2048.pub");
const RSA_1024: &str = include_str!("testdata/rsa1024.pub");
const DSA: &str = include_str!("testdata/dsa.pub");

#[test]
fn one_file_may_hold_several_keys_and_all_are_kept() {
    let keys: KeySet = format!("# laptop\n{ED25519}\n{ECDSA}{RSA_2048}").parse().unwrap();
    let fingerprints: Vec<String> = keys.iter().map(Key::fingerprint).collect();
    // As `ssh-keygen -l` printed them.
    assert_eq!(
        fingerprints,
        [
            "SHA256:nB9jdd6zpyHvU+j6kbNzjh3L1jOzdy3kR5KPeu8M1uo",
            "SHA256:3cy+5o0FmsNsMVeiMy+8/Cde22Se1hxLI+Zcpb1Kgbw",
            "SHA256:5VUSrkE3ERcARCF6WfVvcWIGz7wdPquUY1FhDHwgMWM",
        ]
    );
    assert_eq!(keys.to_lines()[0], ED25519.trim_end());
}

#[test]
fn the_same_key_twice_is_one_key() {
    let renamed = ED25519.replace("alice@laptop", "other comment");
    assert_eq!(format!("{ED25519}{renamed}").parse::<KeySet>().unwrap().iter().count(), 1);
}

#[test]
fn weak_and_foreign_keys_are_refused_with_the_line() {
    let refused = |text: String| text.parse::<KeySet>().unwrap_err().to_string();
    assert_eq!(
        refused(format!("{ED25519}{RSA_1024}")),
        "line 2: rsa 1024 bit keys are not accepted: use ed25519, ecdsa, or rsa with at least 2048 bits"
    );
    assert!(refused(DSA.to_owned()).starts_with("line 1: ssh-dss keys are not accepted"));
}

#[test]
fn options_control_characters_and_other_files_are_refused() {
    let parse = |text: &str| text.parse::<KeySet>().unwrap_err();
    assert_eq!(parse(""), KeyError::None);
    assert_eq!(parse("# nothing\n\n"), KeyError::None);
    assert_eq!(parse(&format!("command=\"sh\" {ED25519}")), KeyError::Form { line: 1 });
    assert_eq!(parse(&format!("restrict {ED25519}")), KeyError::Form { line: 1 });
    assert_eq!(parse(&ED25519.replace('\n', "\r\n")), KeyError::Control { line: 1 });
    assert_eq!(parse(&format!("\n{}\0", ED25519.trim_end())), KeyError::Control { line: 2 });
    assert_eq!(parse("-----BEGIN OPENSSH PRIVATE KEY-----\nabc"), KeyError::Private);
    assert!(matches!(parse(&"x".repeat(10 << 20)), KeyError::TooMuch(_)));
    assert_eq!(parse("hello"), KeyError::Form { line: 1 });
}

proptest! {
    #[test]
    fn what_is_accepted_is_one_clean_line_each(comment in "\\PC{0,40}") {
        let file = format!("{} {comment}", ED25519.trim_end().rsplit_once(' ').unwrap().0);
        if let Ok(keys) = file.parse::<KeySet>() {
            for line in keys.to_lines() {
                prop_assert!(!line.chars().any(char::is_control), "{line:?}");
                prop_assert!(line.starts_with("ssh-ed25519 AAAA"));
            }
        }
    }
}
