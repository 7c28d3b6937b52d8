//! A hostile user with a valid key: every attempt is refused, one line each, and nothing on any server is other than before.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use containarium_tests::{
    lab::{Lab, Person, Said, eventually, run},
    lab_check,
};

use crate::scenario;

const JUMP: &str = "containarium-jump-alice";

/// Everything of a server that an intruder could have changed.
const STATE: &str = "cat /etc/passwd /etc/shadow /etc/group /etc/hosts /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*; \
                     find /home /tmp /var/tmp /root -printf '%p %M %u %g %s %l\\n' | sort; \
                     cat /home/*/.ssh/authorized_keys; nft -s list table inet containarium; ls /dev/net";

struct Hostile<'a> {
    lab: &'a Lab,
    alice: Person,
    client: &'a str,
}

fn refused(what: &str, said: &Said, is_refused: bool) -> Result<()> {
    let mut lines = said.err.lines().chain(said.out.lines()).filter(|line| !line.trim().is_empty());
    // clap ends with advice, ssh with its own end: what was refused stands first.
    let word = lines.find(|line| !line.starts_with("Warning")).unwrap_or("silence");
    println!("{what}: exit {}: {word}", said.code);
    ensure!(said.code != 0 && is_refused, "{what} was not refused: {said:?}");
    Ok(())
}

impl Hostile<'_> {
    fn ssh(&self, args: &[&str]) -> Result<Said> {
        let args = [["-o", "LogLevel=INFO", "-o", "ConnectTimeout=10"].as_slice(), args].concat();
        self.lab.ssh_from(self.client, &self.alice, &args)
    }

    /// A channel that sshd itself must refuse to open.
    fn prohibited(&self, target: &str) -> Result<()> {
        let said = self.ssh(&["-W", target, JUMP])?;
        let by_sshd = said.err.contains("administratively prohibited") || said.err.contains("open failed");
        refused(&format!("-W {target}"), &said, by_sshd)
    }

    /// `ssh -L`: what arrives behind the local port is the end of the connection.
    fn local_forward(&self, target: &str) -> Result<()> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = self.config()?;
        let forward = format!("127.0.0.1:{port}:{target}");
        let mut ssh = self.lab.command("ssh");
        ssh.args(["-F", &config.display().to_string(), "-o", "LogLevel=INFO", "-N", "-L", &forward, JUMP]);
        let mut ssh = ssh.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let came = eventually("the local port is open", Duration::from_secs(15), || {
            Ok(TcpStream::connect(("127.0.0.1", port)).ok())
        })
        .and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut came = Vec::new();
            // A reset is an end too.
            stream.read_to_end(&mut came).map_or(Ok(Vec::new()), |_| Ok(came))
        });
        ssh.kill()?;
        let said = ssh.wait_with_output()?;
        let err = String::from_utf8_lossy(&said.stderr);
        let came = came?;
        println!("-L {target}: {}", err.lines().last().unwrap_or("silence"));
        ensure!(came.is_empty() && err.contains("open failed"), "-L {target}: {} bytes came; {err}", came.len());
        Ok(())
    }

    fn config(&self) -> Result<PathBuf> {
        // Written by every `ssh_from`.
        let path = PathBuf::from(self.lab.var("LAB_DIR")).join(format!("people/alice-{}.conf", self.client));
        ensure!(path.exists(), "{} is there", path.display());
        Ok(path)
    }
}

fn state(lab: &Lab) -> Result<Vec<String>> {
    lab.nodes().iter().map(|node| Ok(lab.on(node, STATE)?.out)).collect()
}

/// Runs attempts between two looks at every server.
fn unchanged(lab: &Lab, attempts: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = state(lab)?;
    attempts()?;
    for ((before, after), node) in before.iter().zip(state(lab)?).zip(lab.nodes()) {
        let changed: Vec<_> = after.lines().filter(|line| !before.lines().any(|old| old == *line)).collect();
        ensure!(*before == after, "{node} was changed: {changed:?}");
    }
    Ok(())
}

fn hostile(lab: &Lab) -> Result<Hostile<'_>> {
    let alice = lab.person_with_container("alice")?;
    lab.person_with_container("bob")?;
    lab_check::settle(lab)?;
    Ok(Hostile { lab, alice, client: lab.clients()[0] })
}

#[test]
fn a_session_on_a_server_runs_nothing() {
    scenario(|lab| {
        let hostile = hostile(lab)?;
        hostile.ssh(&["alice-dev", "true"])?.ok()?;
        unchanged(lab, || sessions(&hostile))
    });
}

fn sessions(hostile: &Hostile<'_>) -> Result<()> {
    let nologin = |said: &Said| said.out.trim() == "This account is currently not available.";
    let shell = hostile.ssh(&[JUMP])?;
    refused("shell", &shell, nologin(&shell))?;
    for command in
        ["id", "/bin/sh -c id", "cat /etc/shadow", "scp -t /tmp", "internal-sftp", "echo x >>~/.ssh/authorized_keys"]
    {
        let said = hostile.ssh(&[JUMP, command])?;
        refused(&format!("exec {command}"), &said, nologin(&said))?;
    }
    let sftp = hostile.ssh(&["-s", JUMP, "sftp"])?;
    refused("sftp", &sftp, nologin(&sftp))?;
    let config = hostile.config()?.display().to_string();
    for (what, option) in [("scp", "-s"), ("scp as of old", "-O")] {
        let said =
            run(hostile.lab.command("scp").args(["-F", &config, option, "/etc/hostname", &format!("{JUMP}:/tmp/x")]))?;
        refused(what, &said, true)?;
    }
    let pty = hostile.ssh(&["-tt", JUMP])?;
    refused("pty", &pty, pty.err.contains("PTY allocation request failed"))?;
    let x11 = run(hostile.lab.command("ssh").env("DISPLAY", "127.0.0.1:9").args([
        "-F",
        &config,
        "-o",
        "LogLevel=INFO",
        "-Y",
        JUMP,
    ]))?;
    refused("X11", &x11, x11.err.contains("X11 forwarding request failed"))?;
    agent_forwarding(hostile, &config)?;
    let tun = hostile.ssh(&["-o", "ExitOnForwardFailure=yes", "-w", "any:any", JUMP])?;
    refused("tun", &tun, nologin(&tun) || tun.err.contains("unnel"))?;
    for remote in ["0:127.0.0.1:22", "0.0.0.0:2222:127.0.0.1:22", "/tmp/s:127.0.0.1:22", "0"] {
        let said = hostile.ssh(&["-o", "ExitOnForwardFailure=yes", "-N", "-R", remote, JUMP])?;
        refused(
            &format!("-R {remote}"),
            &said,
            said.err.contains("remote port forwarding failed") || said.err.contains("emote"),
        )?;
    }
    let set = ["-o", "SetEnv=LD_PRELOAD=/tmp/x BASH_ENV=/tmp/x PATH=/tmp LC_ALL=/tmp/x", JUMP, "env"];
    let env = hostile.ssh(&set)?;
    refused("environment", &env, nologin(&env))?;
    Ok(())
}

/// With an agent that has a key: sshd must not open a way to it, which its own words tell.
fn agent_forwarding(hostile: &Hostile<'_>, config: &str) -> Result<()> {
    let script = format!(
        "ssh-add -q {} && ssh -F {config} -o LogLevel=DEBUG1 -A {JUMP} 'ssh-add -l'",
        hostile.alice.key.display()
    );
    let said = run(hostile.lab.command("ssh-agent").args(["bash", "-c", &script]))?;
    let asked = said.err.contains("Requesting authentication agent forwarding");
    refused("agent", &said, asked && !said.err.contains("auth-agent@openssh.com") && !said.out.contains("SHA256"))
}

#[test]
fn no_connection_leads_anywhere_but_to_the_own_machine() {
    scenario(|lab| {
        let hostile = hostile(lab)?;
        hostile.ssh(&["alice-dev", "true"])?.ok()?;
        unchanged(lab, || connections(&hostile))
    });
}

fn connections(hostile: &Hostile<'_>) -> Result<()> {
    let ip =
        |user: &str| -> Result<String> { Ok(hostile.lab.container(user)?["ip"].as_str().context("ip")?.to_owned()) };
    let (alice, bob) = (ip("alice")?, ip("bob")?);
    let octets: Vec<u32> = bob.split('.').map(str::parse).collect::<Result<_, _>>()?;
    let number = octets.iter().fold(0, |number, octet| number * 256 + octet);
    let targets = [
        format!("{bob}:22"),
        "bob-container:22".into(),
        // Other spellings of bob's address and name.
        format!("[::ffff:{bob}]:22"),
        format!("{number}:22"),
        format!("{number:#x}:22"),
        format!("{}.{}:22", octets[0], number & 0x00ff_ffff),
        format!("0{:o}.{}.{}.{}:22", octets[0], octets[1], octets[2], octets[3]),
        "BOB-CONTAINER:22".into(),
        "bob-container.:22".into(),
        "alice-container,bob-container:22".into(),
        "*:22".into(),
        // The own machine's other ports.
        format!("{alice}:80"),
        "alice-container:80".into(),
        // The servers, by every name they have.
        "jump-1:22".into(),
        "jump-2:22".into(),
        "127.0.0.1:22".into(),
        "localhost:22".into(),
        "[::1]:22".into(),
        "0.0.0.0:22".into(),
        "10.100.1.1:22".into(),
        "10.99.0.11:7444".into(),
        "10.99.0.12:7445".into(),
        "localhost:8443".into(),
        "10.99.0.5:7443".into(),
        "10.99.100.1:22".into(),
        "169.254.169.254:80".into(),
        "[fd00:ec2::254]:80".into(),
    ];
    for target in &targets {
        hostile.prohibited(target)?;
    }
    for target in [
        format!("{bob}:22"),
        "10.99.0.5:7443".into(),
        "/var/lib/incus/unix.socket".into(),
        "/run/dbus/system_bus_socket".into(),
    ] {
        hostile.local_forward(&target)?;
    }
    // Bob's key does not open alice's account, nor alice's his.
    let stolen = Person { name: "bob".into(), key: hostile.alice.key.clone() };
    let said = hostile.lab.ssh_from(hostile.client, &stolen, &["bob-dev", "true"])?;
    refused("another user's account", &said, said.err.contains("Permission denied"))?;
    for name in ["root", "../x", "-x", "a;b", "alice ", "аlice", "ALICE", "alice@x", "", "nobody"] {
        let key = hostile.alice.key.display().to_string();
        let said = run(hostile.lab.command("ssh").args([
            "-F",
            hostile.lab.var("LAB_SSH_CONFIG"),
            "-o",
            "BatchMode=yes",
            "-o",
            "LogLevel=INFO",
            "-o",
            "IdentitiesOnly=yes",
            // What is to be refused is the login, not the server.
            "-o",
            "StrictHostKeyChecking=no",
            "-b",
            hostile.client,
            "-i",
            &key,
            "-o",
            &format!("User=\"{name}\""),
            hostile.lab.var("LAB_BALANCER"),
            "id",
        ]))?;
        let by_name = ["Permission denied", "invalid", "remote username", "Bad configuration", "empty", "argument"];
        refused(&format!("login as '{name}'"), &said, by_name.iter().any(|word| said.err.contains(word)))?;
    }
    Ok(())
}

#[test]
fn names_and_keys_that_mean_something_else_are_refused_before_anything_is_done() {
    scenario(|lab| {
        let alice = lab.person_with_container("alice")?;
        lab_check::settle(lab)?;
        let dir = tempfile::tempdir()?;
        let good = fs::read_to_string(alice.public_key())?;
        unchanged(lab, || {
            for name in [
                "../x", "-x", "root", "a;b", "a b", "a/b", "a\nb", "аlice", "ａlice", "alıce", "Alice", "a$(id)",
                "sshd", "..", "",
            ] {
                let said = lab.cli(&["create", "--ssh-key", &alice.public_key(), "--", name])?;
                refused(&format!("create {name:?}"), &said, said.code == 2)?;
            }
            for (what, bytes) in key_files(dir.path(), &good)? {
                let path = dir.path().join("given.pub");
                fs::write(&path, bytes)?;
                let started = Instant::now();
                let said = lab.cli(&["create", "mallory", "--ssh-key", &path.display().to_string()])?;
                refused(&format!("key file: {what}"), &said, said.code == 2)?;
                ensure!(started.elapsed() < Duration::from_secs(5), "{what} took {:?}", started.elapsed());
                let added = lab.cli(&["key", "add", "alice", "--ssh-key", &path.display().to_string()])?;
                refused(&format!("key add: {what}"), &added, added.code == 2)?;
            }
            Ok(())
        })?;
        assert_eq!(lab.list()?.len(), 1);
        Ok(())
    });
}

fn key_files(dir: &std::path::Path, good: &str) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let line = good.trim_end();
    let generated = |kind: &[&str], name: &str| -> Result<Vec<u8>> {
        let path = dir.join(name);
        run(std::process::Command::new("ssh-keygen").args(["-q", "-N", "", "-f"]).arg(&path).args(kind))?.ok()?;
        Ok(fs::read(path.with_added_extension("pub"))?)
    };
    let files = vec![
        ("options", format!("command=\"sh\",permitopen=\"*:*\" {line}\n").into_bytes()),
        ("an option after a good line", format!("{line}\nno-restrict {line}\n").into_bytes()),
        ("a carriage return", format!("{line}\rssh-ed25519 AAAA\n").into_bytes()),
        ("a NUL", format!("{line}\0permitopen=\"*:*\"\n").into_bytes()),
        ("ten megabytes", good.repeat(10_000_000 / good.len() + 1).into_bytes()),
        ("DSA", generated(&["-t", "dsa"], "dsa")?),
        ("RSA-1024", generated(&["-t", "rsa", "-b", "1024"], "rsa")?),
        ("a private key", fs::read(dir.join("rsa"))?),
        ("a certificate authority", format!("cert-authority {line}\n").into_bytes()),
        ("nothing", Vec::new()),
    ];
    Ok(files)
}

#[test]
fn what_root_left_in_the_way_of_an_account_is_put_right_by_the_next_change() {
    scenario(|lab| {
        let hostile = hostile(lab)?;
        let node = "jump-1";
        let evil = "mkdir -p /tmp/evil/.ssh && cp /home/alice/.ssh/authorized_keys /tmp/evil/.ssh/ && \
                    sed -i 's/^[^ ]* //' /tmp/evil/.ssh/authorized_keys && chown -R alice /tmp/evil";
        for (what, line) in [
            ("a symlinked home", "mv /home/alice /root/was && ln -s /tmp/evil /home/alice"),
            ("a symlinked .ssh", "mv /home/alice/.ssh /root/was && ln -s /tmp/evil/.ssh /home/alice/.ssh"),
            ("symlinked keys", "ln -sf /tmp/evil/.ssh/authorized_keys /home/alice/.ssh/authorized_keys"),
            ("a home of the user's own", "chown -R alice /home/alice"),
            ("keys that others may write", "chmod 0666 /home/alice/.ssh/authorized_keys"),
            ("a shell and a password", "usermod -s /bin/sh -p '$6$x' alice"),
        ] {
            lab.on(node, &format!("{evil} && {line}"))?.ok()?;
            // Any change of any account brings all of them to every server.
            let other = lab.person("other")?;
            lab.cli(&["key", "add", "bob", "--ssh-key", &other.public_key()])?.ok()?;
            let seen = lab.on(node, "stat -c '%F %U %a' /home/alice /home/alice/.ssh /home/alice/.ssh/authorized_keys; getent passwd alice; grep ^alice: /etc/shadow; cat /home/alice/.ssh/authorized_keys")?.ok()?.out;
            println!("{what}: {}", seen.lines().take(3).collect::<Vec<_>>().join(", "));
            let right = seen.starts_with("directory root 755\ndirectory root 755\nregular file root 644\n")
                && seen.contains(":/home/alice:/usr/sbin/nologin")
                && seen.contains("\nalice:*:")
                && seen.contains("\nrestrict,port-forwarding,permitopen=");
            if !right {
                bail!("{what} is still there: {seen}");
            }
            lab.on(node, "rm -rf /tmp/evil /root/was")?.ok()?;
        }
        hostile.ssh(&["alice-dev", "true"])?.ok().map(drop)
    });
}
