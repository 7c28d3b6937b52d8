//! A real sshd against a real ssh that has nothing but exported files: whom it believes. No port and no network: sshd is
//! ssh's proxy command.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use containarium_proto::identity::{Authority, Window, container_alias, jump_alias};

use crate::support::{Coordinator, FLEET, container};

const SSHD: &str = "/usr/sbin/sshd";

fn keygen(file: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file).status().unwrap();
    assert!(made.success());
}

/// An sshd with a host key of its own and, perhaps, a certificate of it.
fn sshd(dir: &Path, authority: Option<&Authority>, name: &str, (from, to): (i64, i64)) {
    for old in ["host", "host.pub", "certificate"] {
        fs::remove_file(dir.join(old)).unwrap_or_default();
    }
    keygen(&dir.join("host"));
    let mut config = format!("HostKey {}\nUsePAM no\n", dir.join("host").display());
    if let Some(authority) = authority {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let at = |offset: i64| now.saturating_add_signed(offset);
        let key = fs::read_to_string(dir.join("host.pub")).unwrap().parse().unwrap();
        let names: BTreeSet<String> = [name.to_owned(), "jump-1".to_owned()].into();
        let made = authority.sign(&key, &names, Window { after: at(from), before: at(to) }).unwrap();
        fs::write(dir.join("certificate"), format!("{made}\n")).unwrap();
        config += &format!("HostCertificate {}\n", dir.join("certificate").display());
    }
    fs::write(dir.join("sshd_config"), config).unwrap();
}

/// What ssh says of the host: nobody has a key that this sshd would let in.
fn ssh_says(dir: &Path, host: &str) -> String {
    let proxy = format!("ProxyCommand={SSHD} -i -f {}", dir.join("sshd_config").display());
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(dir.join("exported")).args(["-o", "BatchMode=yes", "-o", &proxy, host, "true"]);
    let said = ssh.stdin(Stdio::null()).output().unwrap();
    assert_eq!(said.status.code(), Some(255), "{said:?}");
    String::from_utf8(said.stderr).unwrap()
}

#[test]
fn ssh_believes_the_fleets_certificate_for_the_right_name_and_time_and_nothing_else() {
    let (authority, stranger) = (Authority::generate(), Authority::generate());
    let fleet = Coordinator::with([container("alice", "10.100.1.2")]);
    fleet.state().authorities = vec![authority.public().to_string()];
    let dir = fleet.dir();
    keygen(&dir.join("me"));
    let exported = fleet.cli("export alice --key HERE/me --known-hosts HERE/known_hosts").run().ok();
    fs::write(dir.join("exported"), exported).unwrap();
    // sshd wants its folder, as the system makes it at boot. Without the right to make it, it is there or not needed.
    fs::create_dir_all("/run/sshd").unwrap_or_default();

    let id = FLEET.parse().unwrap();
    let (jump, machine) = (jump_alias(id), container_alias(id, "alice-container"));
    let now = (-3600, 3600);
    for (host, name) in [("containarium-jump-alice", &jump), ("alice-dev", &machine)] {
        sshd(dir, Some(&authority), name, now);
        let said = ssh_says(dir, host);
        // One line, of the login: the host was believed without a word.
        assert!(said.lines().count() == 1 && said.contains("Permission denied"), "{host}: {said}");
    }
    let cases = [
        ("a key that nobody signed", None, &jump, now),
        ("another authority", Some(&stranger), &jump, now),
        ("a user who poses as a server with the certificate of a machine", Some(&authority), &machine, now),
        ("one that has ended", Some(&authority), &jump, (-7200, -3600)),
        ("one that has not begun", Some(&authority), &jump, (3600, 7200)),
    ];
    for (what, authority, name, window) in cases {
        sshd(dir, authority, name, window);
        let said = ssh_says(dir, "containarium-jump-alice");
        assert!(said.contains("Host key verification failed") && !said.contains("Permission denied"), "{what}: {said}");
    }
}
