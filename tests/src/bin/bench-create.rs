//! How long `containarium create` takes until ssh works, beside a bare `incus launch` of the same image on the same
//! node plus a wait for port 22, in turns in one run. Prints the medians and their ratio; docs/benchmarks.md keeps them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use containarium_tests::lab::Lab;

const ROUNDS: usize = 10;
const NODE: &str = "jump-1";

fn main() -> Result<()> {
    let lab = Lab::get();
    lab.empty()?;
    let bare_address = address_outside_use(lab)?;
    // The first clone of an image unpacks it; both sides start after that.
    create(lab, "bench-warm")?;
    bare(lab, &bare_address)?;
    let (mut creates, mut bares) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        bares.push(bare(lab, &bare_address)?);
        creates.push(create(lab, &format!("bench-{round}"))?);
        println!(
            "{round:2}: bare {:.2} s, create {:.2} s",
            bares[round - 1].as_secs_f64(),
            creates[round - 1].as_secs_f64()
        );
    }
    lab.empty()?;
    report("bare incus launch + port 22", &mut bares);
    report("containarium create, to ssh-ready", &mut creates);
    println!("ratio of medians {:.2}", median(&creates).as_secs_f64() / median(&bares).as_secs_f64());
    Ok(())
}

/// The last address of the node's container network: the coordinator allocates from below.
fn address_outside_use(lab: &Lab) -> Result<String> {
    let gateway = lab.on(NODE, "incus network get incusbr0 ipv4.address")?.ok()?.out;
    let (network, _) = gateway.rsplit_once('.').context("an IPv4 address")?;
    Ok(format!("{network}.250"))
}

fn create(lab: &Lab, user: &str) -> Result<Duration> {
    let person = lab.person(user)?;
    let key = person.public_key();
    let started = Instant::now();
    lab.cli(&["create", user, "--ssh-key", &key, "--node", NODE])?.ok()?;
    let taken = started.elapsed();
    lab.ssh(&person, "true")?.ok().context("ssh right after create")?;
    lab.cli(&["delete", user, "--force"])?.ok()?;
    Ok(taken)
}

fn bare(lab: &Lab, address: &str) -> Result<Duration> {
    // A SYN that is lost while the interface comes up would be sent again after 1 s only, so each try is cut short.
    let launch = format!(
        "incus launch containarium bare -c security.nesting=true -c limits.cpu=2 -c limits.memory=2GiB \
         -d eth0,ipv4.address={address} -d root,size=20GB >/dev/null && \
         until timeout 0.1 bash -c 'exec 3<>/dev/tcp/{address}/22' 2>/dev/null; do sleep 0.02; done"
    );
    let started = Instant::now();
    lab.on(NODE, &launch)?.ok()?;
    let taken = started.elapsed();
    lab.on(NODE, "incus delete -f bare")?.ok()?;
    Ok(taken)
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort();
    let seconds = |time: Duration| time.as_secs_f64();
    println!(
        "{what}: min {:.2} s, median {:.2} s, max {:.2} s over {}",
        seconds(times[0]),
        seconds(median(times)),
        seconds(times[times.len() - 1]),
        times.len()
    );
}
