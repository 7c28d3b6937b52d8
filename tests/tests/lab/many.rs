//! Many users at once.

use std::{collections::BTreeMap, thread, time::Instant};

use anyhow::Result;
use containarium_tests::lab::Person;

use crate::scenario;

const USERS: usize = 12;

#[test]
fn twelve_at_once_spread_evenly_and_all_can_work() {
    scenario(|lab| {
        let people: Vec<Person> = (1..=USERS).map(|n| lab.person(&format!("user-{n}"))).collect::<Result<_>>()?;
        let started = Instant::now();
        thread::scope(|scope| {
            let creates: Vec<_> = people
                .iter()
                .map(|person| {
                    scope.spawn(|| lab.cli(&["create", &person.name, "--ssh-key", &person.public_key()])?.ok())
                })
                .collect();
            creates.into_iter().try_for_each(|create| create.join().expect("a create's thread").map(drop))
        })?;
        println!("{USERS} concurrent creates to ssh-ready: {:.1} s", started.elapsed().as_secs_f32());

        let mut per_node = BTreeMap::<String, usize>::new();
        for container in lab.list()? {
            assert_eq!(container["status"], "Running", "{container}");
            assert!(container["ip"].as_str().is_some_and(|ip| ip.starts_with("10.100.")), "{container}");
            *per_node.entry(container["node"].to_string()).or_default() += 1;
        }
        assert_eq!(per_node.values().copied().collect::<Vec<_>>(), [4, 4, 4], "{per_node:?}");

        thread::scope(|scope| {
            let logins: Vec<_> =
                people.iter().map(|person| scope.spawn(|| lab.ssh(person, "sudo whoami")?.ok())).collect();
            for login in logins {
                assert_eq!(login.join().expect("a login's thread")?.out, "root");
            }
            anyhow::Ok(())
        })
    });
}

#[test]
fn docker_works_inside() {
    scenario(|lab| {
        let alice = lab.person_with_container("alice")?;
        let info =
            lab.ssh(&alice, "docker info --format '{{.ServerVersion}} {{.Driver}} {{.SecurityOptions}}'")?.ok()?;
        println!("docker info: {}", info.out);
        // No image server can be counted on: the image is made here, from the container's own static shell.
        let made = "tar -C / -c bin/busybox | docker import - local/busybox >/dev/null && \
                    docker run --rm local/busybox /bin/busybox echo from inside docker";
        assert_eq!(lab.ssh(&alice, made)?.ok()?.out, "from inside docker");
        Ok(())
    });
}
