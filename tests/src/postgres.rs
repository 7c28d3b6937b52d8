//! A real PostgreSQL of this test process: made when first needed, on a socket and a loopback port of its own, as a user
//! without rights; gone with the process, however it ends. A machine that cannot start one fails the tests.
//!
//! Shared by path with the coordinator's own tests. Names sort as people sort them (ICU), not by bytes: whatever relies
//! on the order of bytes fails here.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// One database cluster.
#[derive(Debug)]
pub struct Postgres {
    dir: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// Ends the cluster when it is closed, and with this process it is.
    _keeper: std::process::ChildStdin,
    _reaper: JoinHandle<()>,
}

/// Runs a cluster until its standard input ends, then removes it. $1: programs, $2: folder, $3: port, $4: a user or "".
const KEEPER: &str = r#"
set -eu
bin=$1 dir=$2 port=$3 user=$4
as() { if [ -n "$user" ]; then set -- setpriv --reuid "$user" --regid "$user" --init-groups -- "$@"; fi; exec "$@"; }
trap '' INT HUP TERM
if [ -n "$user" ]; then chown "$user" "$dir"; fi
cd "$dir"
(as "$bin/initdb" -D "$dir/data" -U fleet -A trust --no-sync -E UTF8 --locale=C.UTF-8 \
  --locale-provider=icu --icu-locale=en-US) >"$dir/initdb.log" 2>&1
as "$bin/postgres" -D "$dir/data" -k "$dir" -p "$port" -c listen_addresses=127.0.0.1 -c fsync=off \
  -c max_connections=200 -c shared_buffers=32MB >"$dir/log" 2>&1 </dev/null &
pid=$!
echo started
exec >&-
cat >/dev/null || true
kill -QUIT $pid
wait $pid || true
rm -rf "$dir"
"#;

impl Postgres {
    /// The cluster of this process.
    ///
    /// # Panics
    /// It cannot be started; says why.
    pub fn get() -> &'static Self {
        static ONE: OnceLock<Postgres> = OnceLock::new();
        ONE.get_or_init(Self::start)
    }

    fn start() -> Self {
        let bin = Path::new("/usr/lib/postgresql/15/bin");
        assert!(bin.join("postgres").exists(), "PostgreSQL 15 is not there: run deploy/packages/install");
        let dir = tempfile::Builder::new().prefix("containarium-pg-").tempdir().expect("a folder").keep();
        // The socket is for everybody on this machine who may reach the folder.
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
        let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.starts_with(b"0\n"));
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args([bin.as_os_str(), dir.as_os_str()])
            .args([port.to_string().as_str(), if root { "postgres" } else { "" }])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // An inherited one would keep open whatever reads our own.
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let (stdin, mut stdout) = (keeper.stdin.take().expect("piped"), keeper.stdout.take().expect("piped"));
        let mut said = [0; 1];
        let began = stdout.read(&mut said).unwrap_or(0) == 1;
        let reaper = std::thread::spawn(move || drop(keeper.wait()));
        let cluster = Self { dir, port, databases: AtomicU32::new(0), _keeper: stdin, _reaper: reaper };
        assert!(began, "PostgreSQL does not start: {}", cluster.log());
        let started = Instant::now();
        while !cluster.psql("postgres", "SELECT 1") {
            assert!(started.elapsed() < PATIENCE, "PostgreSQL does not answer: {}", cluster.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        cluster
    }

    fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        format!("{}{}", read("initdb.log"), read("log"))
    }

    /// Runs one statement; false if that fails.
    pub fn psql(&self, database: &str, sql: &str) -> bool {
        self.ask(database, sql).is_some()
    }

    /// What a statement gives.
    ///
    /// # Panics
    /// It fails.
    pub fn query(&self, database: &str, sql: &str) -> String {
        self.ask(database, sql).expect("a statement that works")
    }

    /// The same, or nothing if it fails.
    pub fn ask(&self, database: &str, sql: &str) -> Option<String> {
        let dir = self.dir.to_str().expect("a path of ours");
        let port = self.port.to_string();
        let mut psql = Command::new("psql");
        psql.args(["-qAt", "-v", "ON_ERROR_STOP=1", "-U", "fleet", "-h", dir, "-p", &port, "-d", database, "-c", sql]);
        let done = psql.stdin(Stdio::null()).output().expect("psql");
        if !done.status.success() {
            std::io::stderr().write_all(&done.stderr).expect("standard error");
            return None;
        }
        Some(String::from_utf8(done.stdout).expect("text"))
    }

    /// A new, empty database; gives its name.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn create(&self) -> String {
        let name = format!("fleet{}", self.databases.fetch_add(1, Ordering::Relaxed));
        assert!(self.psql("postgres", &format!("CREATE DATABASE {name}")), "{}", self.log());
        name
    }

    /// The address of a database over TCP, through `port` if one is given.
    pub fn url(&self, database: &str, port: Option<u16>) -> String {
        format!("postgres://fleet@127.0.0.1:{}/{database}", port.unwrap_or(self.port))
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection to a database, as a restart of the server does.
    pub fn disconnect_all(&self, database: &str) {
        let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
        assert!(self.psql("postgres", &sql));
    }
}
