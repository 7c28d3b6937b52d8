//! The jump servers' own sshd: broken from outside, restarted, and people still get in; and which servers get sessions.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use containarium_tests::lab::{Lab, Person, Said, eventually};

use crate::scenario;

const DROP_IN: &str = "/etc/ssh/sshd_config.d/50-containarium.conf";

/// Through this very server, whatever the balancer thinks of it.
fn ssh_through(lab: &Lab, person: &Person, node: &str, command: &str) -> Result<Said> {
    let host = lab.on(node, "ip -4 -o addr show dev eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'")?.ok()?.out;
    let (name, key, options) = (&person.name, person.key.display(), lab.var("LAB_SSH_CONFIG"));
    let hop = format!(
        "ProxyCommand=ssh -F {options} -o BatchMode=yes -o StrictHostKeyChecking=no -o IdentitiesOnly=yes -i {key} -W {name}-container:22 {name}@{host}"
    );
    lab.ssh_from(lab.clients()[0], person, &["-o", &hop, &format!("{name}-dev"), command])
}

fn until_in(lab: &Lab, person: &Person, node: &str) -> Result<Duration> {
    let started = Instant::now();
    eventually(&format!("{} gets in through {node}", person.name), Duration::from_secs(20), || {
        Ok((ssh_through(lab, person, node, "whoami")?.out == person.name).then_some(()))
    })?;
    Ok(started.elapsed())
}

fn kill(lab: &Lab, node: &str, service: &str) -> Result<()> {
    lab.on(node, &format!("kill -9 $(cat /run/lab/{service}.pid)"))?.ok().map(drop)
}

fn warnings(lab: &Lab, node: &str) -> Result<String> {
    Ok(lab.cli(&["node", "info", node, "-o", "json"])?.json()?["warnings"].to_string())
}

#[test]
fn a_corrupted_drop_in_a_restarted_sshd_and_a_restarted_agent_lock_nobody_out() {
    scenario(|lab| {
        let alice = lab.person_with_container("alice")?;
        until_in(lab, &alice, "jump-1")?;
        let whole = lab.on("jump-1", &format!("cat {DROP_IN}"))?.ok()?.out;
        for garbage in ["echo Nonsense yes", "echo Match Group", "head -c 4096 /dev/urandom", ":"] {
            // The running sshd does not read it; the one that is started next would.
            lab.on("jump-1", &format!("{garbage} >{DROP_IN}"))?.ok()?;
            kill(lab, "jump-1", "sshd")?;
            let took = until_in(lab, &alice, "jump-1")?;
            println!(
                "after '{garbage}' in the drop-in and a killed sshd, people got in again after {:.1} s",
                took.as_secs_f32()
            );
            eventually("the drop-in is whole", Duration::from_secs(15), || {
                Ok((lab.on("jump-1", &format!("cat {DROP_IN}"))?.out == whole).then_some(()))
            })?;
        }
        kill(lab, "jump-1", "agent")?;
        ensure!(ssh_through(lab, &alice, "jump-1", "whoami")?.ok()?.out == "alice", "without the agent");
        // Removed while nobody looks: repaired by the agent that comes back.
        lab.on("jump-1", &format!("rm {DROP_IN}"))?.ok()?;
        eventually("the next agent puts it back", Duration::from_secs(20), || {
            Ok((lab.on("jump-1", &format!("cat {DROP_IN}"))?.out == whole).then_some(()))
        })?;
        until_in(lab, &alice, "jump-1").map(drop)
    });
}

#[test]
fn a_fault_of_others_is_told_and_not_made_worse() {
    scenario(|lab| {
        let alice = lab.person_with_container("alice")?;
        until_in(lab, &alice, "jump-2")?;
        let theirs = "/etc/ssh/sshd_config.d/90-theirs.conf";
        lab.on("jump-2", &format!("echo Nonsense yes >{theirs}"))?.ok()?;
        let outcome = eventually("the operator is told", Duration::from_secs(60), || {
            Ok(warnings(lab, "jump-2")?.contains("would not start again").then_some(()))
        })
        .and_then(|()| {
            // Ours is put right, and the sshd that runs is left alone.
            lab.on("jump-2", &format!(": >{DROP_IN}"))?.ok()?;
            eventually("ours is whole", Duration::from_secs(15), || {
                Ok(lab.on("jump-2", &format!("cat {DROP_IN}"))?.out.contains("ForceCommand").then_some(()))
            })?;
            ensure!(ssh_through(lab, &alice, "jump-2", "whoami")?.ok()?.out == "alice", "sshd still runs");
            Ok(())
        });
        lab.on("jump-2", &format!("rm {theirs}"))?.ok()?;
        outcome?;
        eventually("the warning goes", Duration::from_secs(60), || {
            Ok((!warnings(lab, "jump-2")?.contains("would not start again")).then_some(()))
        })
    });
}

#[test]
fn the_rules_are_those_that_sshd_itself_says_hold_for_users_and_not_for_administrators() {
    scenario(|lab| {
        lab.person_with_container("alice")?;
        for node in lab.nodes() {
            let of = |user: &str| -> Result<String> {
                let line = format!("/usr/sbin/sshd -T -C user={user},host=x,addr=10.99.0.201");
                Ok(lab.on(node, &line)?.ok()?.out)
            };
            let (alice, root) = (of("alice")?, of("root")?);
            for rule in [
                "authenticationmethods publickey",
                "passwordauthentication no",
                "kbdinteractiveauthentication no",
                "allowtcpforwarding local",
                "allowstreamlocalforwarding no",
                "allowagentforwarding no",
                "x11forwarding no",
                "permittty no",
                "permittunnel no",
                "permituserrc no",
                "permituserenvironment no",
                "gatewayports no",
                "forcecommand /usr/sbin/nologin",
                "logingracetime 30",
                "maxstartups 100:30:300",
            ] {
                ensure!(alice.lines().any(|line| line == rule), "{node}: {rule} is missing from {alice}");
            }
            for rule in
                ["permittty yes", "permitrootlogin without-password", "allowtcpforwarding yes", "forcecommand none"]
            {
                ensure!(root.lines().any(|line| line == rule), "{node}: {rule} is missing from {root}");
            }
        }
        Ok(())
    });
}

#[test]
fn a_drained_server_gets_no_new_sessions_while_its_sshd_still_answers() {
    scenario(|lab| {
        let alice = lab.person("alice")?;
        lab.cli(&["create", "alice", "--ssh-key", &alice.public_key(), "--node", "jump-1"])?.ok()?;
        until_in(lab, &alice, "jump-3")?;
        lab.cli(&["node", "drain", "jump-3"])?.ok()?;
        until_balanced(lab, "jump-3", false)?;
        ensure!(
            ssh_through(lab, &alice, "jump-3", "whoami")?.ok()?.out == "alice",
            "its sshd still serves who is there"
        );
        let told = lab.on(
            "jump-3",
            "bash -c 'exec 3<>/dev/tcp/10.99.0.13/7445; printf \"GET /healthz HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3'",
        )?;
        println!("{}", told.out.lines().last().unwrap_or_default());
        ensure!(told.out.contains("503") && told.out.contains("being emptied"), "{told:?}");
        for client in lab.clients() {
            ensure!(crate::access::via(lab, &alice, client)? != "jump-3", "{client} was sent to a drained server");
        }
        lab.cli(&["node", "uncordon", "jump-3"])?.ok()?;
        until_balanced(lab, "jump-3", true)?;
        // An agent that is gone says nothing, which is no.
        lab.on("jump-2", "kill -STOP $(cat /run/lab/agent.pid)")?.ok()?;
        let gone = until_balanced(lab, "jump-2", false);
        lab.on("jump-2", "kill -CONT $(cat /run/lab/agent.pid)")?.ok()?;
        gone?;
        until_balanced(lab, "jump-2", true)
    });
}

fn until_balanced(lab: &Lab, node: &str, wanted: bool) -> Result<()> {
    eventually(&format!("the balancer uses {node}: {wanted}"), Duration::from_secs(20), || {
        let status = lab.lab(&["status", "-o", "json"])?.json()?;
        let nodes = status["nodes"].as_array().context("nodes")?;
        let found = nodes.iter().find(|n| n["name"] == node).context("the node")?;
        Ok((found["balancer_healthy"] == wanted).then_some(()))
    })
}
