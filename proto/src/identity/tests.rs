use super::*;

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const WINDOW: Window = Window { after: 1_000, before: 2_000 };

#[test]
fn an_authority_survives_being_stored_and_signs_what_ssh_can_read() {
    let authority = Authority::generate();
    let again = Authority::from_text(&authority.to_text().unwrap()).unwrap();
    assert_eq!(again.public(), authority.public());
    let key = HostKey::simulated();
    let made = again.sign(&key, &names(&["jump-1", "10.0.0.11"]), WINDOW).unwrap();
    let read: HostCertificate = made.to_string().parse().unwrap();
    assert!(read.is_of(&key) && !read.is_of(&HostKey::simulated()));
    let facts = read.facts();
    assert_eq!(facts.authority, authority.public().fingerprint());
    assert_eq!(facts.principals, names(&["10.0.0.11", "jump-1"]));
    assert_eq!((facts.valid_after, facts.valid_before), (1_000, 2_000));
}

#[test]
fn a_certificate_for_nobody_would_be_for_all_and_is_not_made() {
    let authority = Authority::generate();
    for principals in [names(&[]), names(&[""])] {
        assert!(authority.sign(&HostKey::simulated(), &principals, WINDOW).is_err(), "{principals:?}");
    }
    let backwards = Window { after: 2_000, before: 1_000 };
    assert!(authority.sign(&HostKey::simulated(), &names(&["a"]), backwards).is_err());
}

#[test]
fn what_is_forged_or_of_another_kind_is_refused() {
    let made = Authority::generate().sign(&HostKey::simulated(), &names(&["jump-1"]), WINDOW).unwrap().to_string();
    let mut forged: Vec<char> = made.chars().collect();
    // Somewhere in the names.
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == 'A' { 'B' } else { 'A' };
    let forged: String = forged.into_iter().collect();
    for text in [forged.as_str(), "", "ssh-ed25519-cert-v01@openssh.com AAAA"] {
        assert!(text.parse::<HostCertificate>().is_err(), "{text}");
    }
    let rsa = include_str!("../keys/testdata/rsa2048.pub");
    assert!(rsa.parse::<HostKey>().is_err() && rsa.parse::<AuthorityKey>().is_err());
    assert!(Authority::from_text("-----BEGIN OPENSSH PRIVATE KEY-----\n").is_err());
}

#[test]
fn a_comment_of_a_host_key_goes_nowhere() {
    let line = include_str!("../keys/testdata/ed25519.pub").trim_end();
    let key: HostKey = format!("{line} evil\tcomment").parse().unwrap();
    assert_eq!(key.to_string().split(' ').count(), 2, "{key}");
}

#[test]
fn the_line_of_known_hosts_trusts_the_authority_for_one_fleet() {
    let fleet = FleetId::generate();
    let authority = Authority::generate().public();
    let line = known_hosts_line(fleet, &authority);
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[..2], ["@cert-authority", &format!("*.{fleet}.containarium")]);
    assert_eq!(format!("{} {}", words[2], words[3]), authority.to_string());
    assert_eq!(words[4..], [known_hosts_mark(fleet)]);
    assert!(jump_alias(fleet).ends_with(&words[1][1..]) && container_alias(fleet, "a").ends_with(&words[1][1..]));
}
