//! The real lab as a test sees it: `deploy/lab/lab`, the CLI and OpenSSH, each run as a person would. Nothing of the
//! fleet is called in-process, so what passes here works by hand.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// One lab of one kind for the whole test process; its scenarios run one after another.
static LAB: OnceLock<Lab> = OnceLock::new();

/// What a command said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output, trimmed.
    pub out: String,
    /// Standard error, trimmed.
    pub err: String,
}

impl Said {
    /// This, if it went well.
    ///
    /// # Errors
    /// The exit code and all it said.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.code == 0, "exit {}\nstdout: {}\nstderr: {}", self.code, self.out, self.err);
        Ok(self)
    }

    /// Standard output as JSON.
    ///
    /// # Errors
    /// It failed, or is not JSON.
    pub fn json(self) -> Result<Value> {
        let said = self.ok()?;
        serde_json::from_str(&said.out).with_context(|| format!("not json: {}", said.out))
    }
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be started.
pub fn run(command: &mut Command) -> Result<Said> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ok(Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) })
}

/// Waits until `probe` gives a value.
///
/// # Errors
/// `limit` passed: what was awaited.
pub fn eventually<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if started.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A person with a laptop: a name, a key, an address to come from.
#[derive(Debug)]
pub struct Person {
    /// User name.
    pub name: String,
    /// Private key; the public one stands beside it.
    pub key: PathBuf,
}

impl Person {
    /// The public key's file.
    #[must_use]
    pub fn public_key(&self) -> String {
        format!("{}.pub", self.key.display())
    }
}

/// A running lab of three jump servers.
#[derive(Debug)]
pub struct Lab {
    root: PathBuf,
    env: HashMap<String, String>,
}

impl Lab {
    /// The lab, brought up on first use.
    ///
    /// # Panics
    /// It cannot be brought up: the build must fail then, not skip.
    pub fn get() -> &'static Self {
        LAB.get_or_init(|| Self::up(&["up"]).expect("the lab comes up"))
    }

    /// A lab whose three coordinators share PostgreSQL and etcd, likewise.
    ///
    /// # Panics
    /// It cannot be brought up, or one of the other kind is up.
    pub fn with_three_coordinators() -> &'static Self {
        LAB.get_or_init(|| Self::up(&["up", "--ha"]).expect("the lab comes up"))
    }

    fn up(up: &[&str]) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("workspace folder")?.to_owned();
        let mut lab = Self { root, env: HashMap::new() };
        let started = Instant::now();
        lab.lab(up)?.ok()?;
        lab.env = lab.read_env()?;
        println!("lab up in {:.1} s", started.elapsed().as_secs_f32());
        Ok(lab)
    }

    fn read_env(&self) -> Result<HashMap<String, String>> {
        let said =
            run(Command::new("bash").current_dir(&self.root).args(["-c", ". target/lab/env && env -0"]))?.ok()?;
        Ok(said.out.split('\0').filter_map(|line| line.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// A variable of `target/lab/env`.
    ///
    /// # Panics
    /// The lab does not export it.
    #[must_use]
    pub fn var(&self, name: &str) -> &str {
        self.env.get(name).unwrap_or_else(|| panic!("target/lab/env exports {name}"))
    }

    /// Client addresses, one per simulated place a person connects from.
    #[must_use]
    pub fn clients(&self) -> Vec<&str> {
        self.var("LAB_CLIENTS").split_whitespace().collect()
    }

    /// Names of the jump servers.
    #[must_use]
    pub fn nodes(&self) -> Vec<&str> {
        self.var("LAB_NODES").split_whitespace().collect()
    }

    /// `deploy/lab/lab ARGS`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn lab(&self, args: &[&str]) -> Result<Said> {
        self.lab_with(&[], args)
    }

    /// The same with more in its environment, which what it starts inherits.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn lab_with(&self, environment: &[(&str, &str)], args: &[&str]) -> Result<Said> {
        let mut command = Command::new(self.root.join("deploy/lab/lab"));
        run(command.current_dir(&self.root).envs(environment.iter().copied()).args(args))
    }

    /// A shell line on a jump server.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn on(&self, node: &str, line: &str) -> Result<Said> {
        self.lab(&["exec", node, "sh", "-c", line])
    }

    /// A command with the lab's environment, not started yet.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).envs(&self.env);
        command
    }

    /// `containarium ARGS`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn cli(&self, args: &[&str]) -> Result<Said> {
        run(self.command("containarium").args(args))
    }

    fn people_dir(&self) -> PathBuf {
        Path::new(self.var("LAB_DIR")).join("people")
    }

    /// A person with a fresh ed25519 key.
    ///
    /// # Errors
    /// ssh-keygen.
    pub fn person(&self, name: &str) -> Result<Person> {
        let dir = self.people_dir();
        fs::create_dir_all(&dir)?;
        let key = dir.join(name);
        for file in [key.clone(), key.with_added_extension("pub")] {
            if file.exists() {
                fs::remove_file(file)?;
            }
        }
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&key))?.ok()?;
        Ok(Person { name: name.to_owned(), key })
    }

    /// A person with a machine.
    ///
    /// # Errors
    /// The create failed.
    pub fn person_with_container(&self, name: &str) -> Result<Person> {
        let person = self.person(name)?;
        self.cli(&["create", name, "--ssh-key", &person.public_key()])?.ok()?;
        Ok(person)
    }

    /// OpenSSH's own client, configured by nothing but what `containarium export` printed, coming from `client`.
    /// `args` is what the person typed after `ssh`.
    ///
    /// # Errors
    /// The export failed.
    pub fn ssh_from(&self, client: &str, person: &Person, args: &[&str]) -> Result<Said> {
        let (key, known_hosts) = (person.key.display().to_string(), self.people_dir().join("known_hosts"));
        let export = ["export", &person.name, "--key", &key, "--known-hosts", &known_hosts.display().to_string()];
        let exported = self.cli(&export)?.ok()?.out;
        let config = self.people_dir().join(format!("{}-{client}.conf", person.name));
        let client_line = format!("Host *\n  BindAddress {client}\n  ConnectTimeout 10\n  BatchMode yes\n");
        fs::write(&config, format!("{client_line}{exported}\nHost *\nInclude {}\n", self.var("LAB_SSH_CONFIG")))?;
        run(self.command("ssh").arg("-F").arg(&config).args(args))
    }

    /// A command in a person's own machine, from the first client address.
    ///
    /// # Errors
    /// The export failed.
    pub fn ssh(&self, person: &Person, command: &str) -> Result<Said> {
        self.ssh_from(self.clients()[0], person, &[&format!("{}-dev", person.name), command])
    }

    /// `containarium list`, parsed.
    ///
    /// # Errors
    /// The list failed.
    pub fn list(&self) -> Result<Vec<Value>> {
        let list = self.cli(&["list", "-o", "json"])?.json()?;
        Ok(list["containers"].as_array().cloned().unwrap_or_default())
    }

    /// One container of the list.
    ///
    /// # Errors
    /// The list failed, or holds no such user.
    pub fn container(&self, user: &str) -> Result<Value> {
        let found = self.list()?.into_iter().find(|c| c["user"] == user);
        found.with_context(|| format!("{user} is in the list"))
    }

    /// Deletes every container, so that a scenario starts from an empty fleet.
    ///
    /// # Errors
    /// A delete failed.
    pub fn empty(&self) -> Result<()> {
        for container in self.list()? {
            let user = container["user"].as_str().context("user")?;
            self.cli(&["delete", user, "--force"])?.ok()?;
        }
        Ok(())
    }
}
