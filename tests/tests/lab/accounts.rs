//! Two hundred accounts in one burst, and their end: told to the agents as a coordinator would, without two hundred
//! machines behind them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use containarium_proto::{
    convert,
    node::{Account, Sender},
    pki::CertsDir,
    v1::{self, agent_client::AgentClient},
};
use containarium_tests::lab::{Lab, eventually};
use tonic::transport::Endpoint;

use crate::scenario;

const USERS: u16 = 200;

/// Gives one agent the full set, as the coordinator that was there last.
async fn sync(lab: &Lab, node: &str, accounts: &[Account], sender: Sender) -> Result<Duration> {
    let certs = CertsDir::new(lab.var("CONTAINARIUM_CERTS_DIR"));
    let number: u8 = node.trim_start_matches("jump-").parse()?;
    let endpoint = Endpoint::from_shared(format!("https://10.99.0.{}:7444", 10 + number))?
        .tls_config(certs.coordinator_to_agent(&node.parse()?)?)?;
    let mut agent = AgentClient::new(endpoint.connect().await?);
    let request = v1::SyncAccessRequest {
        keep: Vec::new(),
        sender: Some(convert::sender_to_wire(sender)),
        revision: 0,
        accounts: accounts.iter().map(convert::account_to_wire).collect(),
    };
    let started = Instant::now();
    let report = agent.sync_access(request).await?.into_inner();
    ensure!(report.failures.is_empty(), "{node}: {:?}", report.failures);
    Ok(started.elapsed())
}

fn sync_all(lab: &Lab, accounts: &[Account], sender: Sender) -> Result<BTreeMap<String, Duration>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let calls = lab
            .nodes()
            .into_iter()
            .map(|node| async move { sync(lab, node, accounts, sender).await.map(|took| (node.to_owned(), took)) });
        let mut took = BTreeMap::new();
        for done in futures_of(calls).await {
            let (node, time) = done?;
            took.insert(node, time);
        }
        Ok(took)
    })
}

/// All at once; three of them.
async fn futures_of<T>(calls: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let [one, two, three]: [_; 3] = calls.collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("three nodes"));
    let (one, two, three) = tokio::join!(one, two, three);
    vec![one, two, three]
}

fn accounts(key: &str) -> Vec<Account> {
    let one = |number: u16| Account {
        username: format!("burst-{number}").parse().unwrap(),
        ssh_keys: vec![key.to_owned()],
        permit: Some(Ipv4Addr::new(10, 100, 200, u8::try_from(number).unwrap())),
        shared: Vec::new(),
    };
    (1..=USERS).map(one).collect()
}

/// Every name in the account files and in /home, every process of a proxy account's number, and what is wrong with any
/// account: one line each.
const LOOK: &str = r#"
gid=$(getent group containarium-users | cut -d: -f3)
awk -F: -v gid="$gid" '$1 ~ /^burst-/ { print "passwd " $1; if ($7 != "/usr/sbin/nologin" || $4 != gid || $3 < 20000 || $3 > 59999 || $6 != "/home/" $1) print "wrong " $0; if (seen[$3]++) print "wrong twice " $3 }' /etc/passwd
awk -F: '$1 ~ /^burst-/ { print "shadow " $1; if ($2 != "*") print "wrong " $1 " " $2 }' /etc/shadow
awk -F: '$1 ~ /^burst-/ || $4 ~ /burst-/ { print "group " $0 }' /etc/group /etc/gshadow
find /home -maxdepth 1 -name 'burst-*' -printf 'home %f\n'
find /home/burst-* ! -user root -printf 'wrong owner %p\n' -o -type d ! -perm 0755 -printf 'wrong mode %p\n' -o -type f ! -perm 0644 -printf 'wrong mode %p\n' 2>/dev/null
grep -c '^restrict,port-forwarding,permitopen="burst-' /home/burst-*/.ssh/authorized_keys 2>/dev/null | grep -v ':1$' | sed 's/^/wrong keys /'
for status in /proc/[0-9]*/status; do awk '/^Uid:/ && $2 >= 20000 && $2 <= 59999 { print "process " $2 }' "$status" 2>/dev/null; done
pwck -qr >/dev/null 2>&1 || pwck -qr 2>&1 | grep burst | sed 's/^/wrong /'
true
"#;

fn look(lab: &Lab, node: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for line in lab.on(node, LOOK)?.ok()?.out.lines() {
        let (what, name) = line.split_once(' ').with_context(|| line.to_owned())?;
        found.entry(what.to_owned()).or_default().insert(name.to_owned());
    }
    Ok(found)
}

#[test]
fn two_hundred_accounts_come_and_go_in_one_burst_on_three_servers() {
    scenario(|lab| {
        let person = lab.person("burst-1")?;
        let key = std::fs::read_to_string(person.public_key())?.trim_end().to_owned();
        let member = lab.on("jump-1", "cat /var/lib/containarium/agent/fleet.json")?.json()?;
        let text =
            |field: &str| member[field].as_str().map(ToOwned::to_owned).unwrap_or_else(|| member[field].to_string());
        let sender = Sender { fleet: text("fleet").parse()?, term: serde_json::from_str(&text("term"))? };
        lab.lab(&["coordinator", "stop"])?.ok()?;
        // An agent that starts anew has no newest revision: it takes ours, and later the coordinator's.
        let outcome = restart_agents(lab).and_then(|()| come_and_go(lab, &accounts(&key), sender));
        let emptied = sync_all(lab, &[], sender);
        lab.lab(&["coordinator", "start"])?.ok()?;
        outcome?;
        emptied.map(drop)
    });
}

fn restart_agents(lab: &Lab) -> Result<()> {
    for node in lab.nodes() {
        let pid = lab.on(node, "cat /run/lab/agent.pid && kill -9 $(cat /run/lab/agent.pid)")?.ok()?.out;
        eventually("the agent serves again", Duration::from_secs(20), || {
            let now = lab.on(node, "cat /run/lab/agent.pid && bash -c '</dev/tcp/127.0.0.1/7445'")?;
            Ok((now.code == 0 && now.out != pid).then_some(()))
        })?;
    }
    Ok(())
}

fn come_and_go(lab: &Lab, accounts: &[Account], sender: Sender) -> Result<()> {
    let names: BTreeSet<String> = accounts.iter().map(|account| account.username.to_string()).collect();
    let shown = |took: &BTreeMap<String, Duration>| {
        took.iter().map(|(node, time)| format!("{node} {:.2} s", time.as_secs_f32())).collect::<Vec<_>>().join(", ")
    };
    let started = Instant::now();
    let took = sync_all(lab, accounts, sender)?;
    println!("{USERS} accounts added on all nodes in {:.2} s ({})", started.elapsed().as_secs_f32(), shown(&took));
    for node in lab.nodes() {
        let found = look(lab, node)?;
        for what in ["passwd", "shadow", "home"] {
            ensure!(found.get(what) == Some(&names), "{node}: {what}: {:?}", found.get(what));
        }
        ensure!(found.keys().all(|what| ["passwd", "shadow", "home"].contains(&what.as_str())), "{node}: {found:?}");
    }
    let again = sync_all(lab, accounts, sender)?;
    println!("the same {USERS} again, nothing to do: {}", shown(&again));

    // Somebody is connected when the end comes.
    let dir = tempfile::tempdir()?;
    let mut session = lab.command("ssh");
    session.args(["-N", "-F", lab.var("LAB_SSH_CONFIG"), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]);
    // Nothing was exported for it.
    session.args(["-o", "StrictHostKeyChecking=no", "-i"]);
    session.arg(std::path::Path::new(lab.var("LAB_DIR")).join("people/burst-1")).arg("burst-1@10.99.0.11");
    let mut session = session.current_dir(dir.path()).spawn()?;
    eventually("burst-1 is connected", Duration::from_secs(20), || {
        Ok(look(lab, "jump-1")?.contains_key("process").then_some(()))
    })?;
    let started = Instant::now();
    let took = sync_all(lab, &[], sender)?;
    println!("{USERS} accounts deleted on all nodes in {:.2} s ({})", started.elapsed().as_secs_f32(), shown(&took));
    ensure!(!session.wait()?.success(), "the session outlived its account");
    for node in lab.nodes() {
        let found = look(lab, node)?;
        ensure!(found.is_empty(), "{node}: left over: {found:?}");
    }
    by_the_systems_tools(lab)
}

/// What one tool run per account would take, for comparison: on one node, alone, fewer of them.
fn by_the_systems_tools(lab: &Lab) -> Result<()> {
    let timed = |line: &str| -> Result<f32> {
        let started = Instant::now();
        lab.on("jump-1", line)?.ok()?;
        Ok(started.elapsed().as_secs_f32())
    };
    let add = "for i in $(seq 20); do useradd -K SUB_UID_COUNT=0 -K SUB_GID_COUNT=0 -g containarium-users -N -M -l -s /usr/sbin/nologin -p '*' tool-$i || exit 1; done";
    let (added, removed) = (timed(add)?, timed("for i in $(seq 20); do userdel tool-$i || exit 1; done")?);
    let all = |seconds: f32| seconds / 20.0 * f32::from(USERS);
    println!(
        "useradd and userdel, one run each, on one idle node: {:.1} s and {:.1} s for {USERS}",
        all(added),
        all(removed)
    );
    Ok(())
}
