//! Who a server proves to be, with OpenSSH's own client and nothing but exported files: never a question, never a
//! warning, and no false server.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use containarium_tests::lab::{Lab, Person, Said, eventually, run};

use crate::scenario;

const PATIENCE: Duration = Duration::from_secs(120);
/// Where a person's login was seen to come from, and who says so.
const WHERE: &str = "echo ${SSH_CONNECTION%% *}";

/// What a person was given once, and never again.
struct Files<'a> {
    lab: &'a Lab,
    config: PathBuf,
    name: String,
}

impl<'a> Files<'a> {
    fn export(lab: &'a Lab, dir: &Path, person: &Person) -> Result<Self> {
        let (config, known) = (dir.join(format!("{}.conf", person.name)), dir.join("known_hosts"));
        let text = |path: &Path| path.display().to_string();
        let key = text(&person.key);
        let export =
            ["export", &person.name, "--key", &key, "--output", &text(&config), "--known-hosts", &text(&known)];
        lab.cli(&export)?.ok()?;
        Ok(Self { lab, config, name: person.name.clone() })
    }

    /// Ssh as strict as it gets, without a person who could answer.
    fn ssh(&self, client: &str, command: &str) -> Result<Said> {
        let options = ["StrictHostKeyChecking=yes", "BatchMode=yes", "ConnectTimeout=10"];
        // The jump is a process of its own, which reads the file only: what it is to bind to stands there.
        let bound = self.config.with_added_extension(client);
        fs::write(&bound, format!("Host *\n  BindAddress {client}\nInclude {}\n", self.config.display()))?;
        let mut ssh = self.lab.command("ssh");
        ssh.arg("-F").arg(&bound).args(options.iter().flat_map(|option| ["-o", option]));
        run(ssh.arg(format!("{}-dev", self.name)).arg(command))
    }

    /// The server that a connection from `client` went through: in silence, or it is an error.
    fn via(&self, client: &str) -> Result<String> {
        let said = self.ssh(client, WHERE)?.ok()?;
        ensure!(said.err.is_empty(), "ssh said: {}", said.err);
        Ok(self.lab.lab(&["whois", &said.out])?.ok()?.out)
    }

    /// Polls until a connection from `client` goes through `node`.
    fn until_via(&self, client: &str, node: &str) -> Result<()> {
        let what = format!("{}'s connection from {client} goes through {node}", self.name);
        eventually(&what, PATIENCE, || Ok(self.via(client).is_ok_and(|via| via == node).then_some(())))
    }
}

/// Thirty connections, some at a time; for each server, a client whose connections it gets.
fn thirty(lab: &Lab, files: &Files<'_>) -> Result<BTreeMap<String, String>> {
    let clients = lab.clients();
    let all: Vec<&str> = (0..30).map(|i| clients[i % clients.len()]).collect();
    let mut servers = BTreeMap::new();
    for some in all.chunks(6) {
        let seen = thread::scope(|scope| -> Result<Vec<(String, String)>> {
            let logins: Vec<_> = some.iter().map(|client| (client, scope.spawn(|| files.via(client)))).collect();
            let joined =
                logins.into_iter().map(|(client, login)| Ok((login.join().expect("a login")?, (*client).to_owned())));
            joined.collect()
        })?;
        servers.extend(seen);
    }
    println!("30 strict connections, nothing on standard error: {servers:?}");
    assert_eq!(servers.len(), 3, "one of {:?} was never taken", lab.nodes());
    Ok(servers)
}

fn host_key(lab: &Lab, node: &str) -> Result<String> {
    Ok(lab.on(node, "cat /etc/ssh/ssh_host_ed25519_key.pub")?.ok()?.out)
}

/// A new boot disk: everything of a node but its containers is gone.
fn rebuild(lab: &Lab, node: &str) -> Result<()> {
    lab.lab(&["crash", node])?.ok()?;
    lab.lab(&["start", node, "--new-boot-disk"])?.ok().map(drop)
}

#[test]
fn the_same_files_work_through_any_server_after_a_move_and_after_a_server_was_rebuilt() {
    scenario(|lab| {
        let dir = tempfile::tempdir()?;
        let (alice, bob) = (lab.person("alice")?, lab.person("bob")?);
        lab.cli(&["create", "alice", "--ssh-key", &alice.public_key(), "--node", "jump-1"])?.ok()?;
        let files = Files::export(lab, dir.path(), &alice)?;
        let servers = thirty(lab, &files)?;
        lab.cli(&["create", "bob", "--ssh-key", &bob.public_key(), "--node", "jump-3"])?.ok()?;
        let bobs = Files::export(lab, dir.path(), &bob)?;
        bobs.via(&servers["jump-1"])?;

        lab.cli(&["move", "alice", "--to", "jump-2"])?.ok()?;
        assert_eq!(lab.container("alice")?["node"], "jump-2");
        for (server, client) in &servers {
            assert_eq!(files.via(client)?, *server, "after the move");
        }

        let before = host_key(lab, "jump-3")?;
        rebuild(lab, "jump-3")?;
        files.until_via(&servers["jump-3"], "jump-3")?;
        assert_ne!(host_key(lab, "jump-3")?, before, "a rebuilt server has new keys");
        for (server, client) in &servers {
            files.until_via(client, server)?;
            bobs.until_via(client, server)?;
        }
        println!("moved, and jump-3 rebuilt with a new host key: the same files work through all three");
        Ok(())
    });
}

/// Takes the node's agent away, so that nobody repairs what is done there.
const STOP_AGENT: &str = "kill $(cat /run/lab/agent.supervisor) && while [ -e /run/lab/agent.pid ]; do sleep 0.1; done";
/// Another key, as on a machine that only pretends; what follows is about its certificate.
const NEW_KEY: &str = "cd /etc/ssh && rm -f ssh_host_ed25519_key* containarium-host-cert.pub && \
                       ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key";
const RELOAD: &str = "kill -HUP $(cat /run/lab/sshd.pid)";

#[test]
fn a_server_with_a_key_that_the_fleet_did_not_sign_is_refused() {
    scenario(|lab| {
        let dir = tempfile::tempdir()?;
        let alice = lab.person("alice")?;
        lab.cli(&["create", "alice", "--ssh-key", &alice.public_key(), "--node", "jump-1"])?.ok()?;
        let files = Files::export(lab, dir.path(), &alice)?;
        let servers = thirty(lab, &files)?;
        let client = &servers["jump-2"];
        let names =
            lab.on("jump-2", "ssh-keygen -Lf /etc/ssh/containarium-host-cert.pub | sed -n '/Principals/,/Critical/p'")?;
        let names: Vec<String> = names
            .ok()?
            .out
            .lines()
            .filter(|line| line.starts_with("                "))
            .map(|line| line.trim().to_owned())
            .collect();
        ensure!(
            names.contains(&"jump-2".to_owned()) && names.contains(&lab.var("LAB_BALANCER").to_owned()),
            "{names:?}"
        );
        let stolen_names = names.join(",");
        let forged = format!(
            "{NEW_KEY} && ssh-keygen -q -t ed25519 -N '' -f /tmp/ca && \
             ssh-keygen -q -s /tmp/ca -h -I x -n {stolen_names} ssh_host_ed25519_key.pub && \
             mv ssh_host_ed25519_key-cert.pub containarium-host-cert.pub && rm -f /tmp/ca*"
        );
        lab.on("jump-2", STOP_AGENT)?.ok()?;
        for (what, change) in [("an unsigned key", NEW_KEY.to_owned()), ("another authority's certificate", forged)] {
            lab.on("jump-2", &format!("{change} && {RELOAD}"))?.ok()?;
            let refused = eventually("sshd shows its new key, and is refused", PATIENCE, || {
                let said = files.ssh(client, "true")?;
                Ok(said.err.contains("Host key verification failed").then_some(said))
            })?;
            println!("{what}: exit {}: {}", refused.code, refused.err.replace('\n', " / "));
            assert_eq!(refused.code, 255, "{what}: {refused:?}");
            assert_eq!(files.via(&servers["jump-1"])?, "jump-1", "others are not concerned");
        }
        // The agent comes back, and has the key that it finds certified: it is the node's own now.
        lab.lab(&["start", "jump-2"])?.ok()?;
        files.until_via(client, "jump-2")
    });
}

#[test]
fn ssh_and_ssh_config_just_connect() {
    scenario(|lab| {
        let home = tempfile::tempdir()?;
        let alice = lab.person_with_container("alice")?;
        let key = alice.key.display().to_string();
        let at_home = |args: &[&str]| -> Result<Said> {
            let mut command: Command = lab.command("containarium");
            run(command.env("HOME", home.path()).args(args))
        };
        // No ssh-config yet: it asks the coordinator, and becomes ssh.
        let said = at_home(&["ssh", "--key", &key, "alice", "-o", "BatchMode=yes", "--", "hostname; exit 7"])?;
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (7, "alice-container", ""), "{said:?}");
        assert_eq!(at_home(&["ssh-config", "sync", "--key", &key, "--include"])?.ok()?.out, "ssh alice-dev");
        let said = at_home(&["ssh", "alice", "-o", "BatchMode=yes", "whoami"])?.ok()?;
        assert_eq!((said.out.as_str(), said.err.as_str()), ("alice", ""));
        let config = home.path().join(".ssh/config");
        let plain =
            run(lab.command("ssh").arg("-F").arg(&config).args(["-o", "BatchMode=yes", "alice-dev", "whoami"]))?;
        assert_eq!((plain.code, plain.out.as_str(), plain.err.as_str()), (0, "alice", ""), "{plain:?}");
        Ok(())
    });
}
