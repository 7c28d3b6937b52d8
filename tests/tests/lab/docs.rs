//! Every command that the docs show, run as a reader would: the `sh` blocks of a page are one session in one shell.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use anyhow::{Result, ensure};
use containarium_tests::lab::{Lab, run};

use crate::scenario;

/// The lines of all `sh` blocks of a page.
fn session(page: &str) -> String {
    let mut inside = false;
    let mut lines = String::new();
    for line in page.lines() {
        match line.trim_end() {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => {
                lines.push_str(line);
                lines.push('\n');
            }
            _ => {}
        }
    }
    lines
}

/// Runs `script` with the lab's environment in a home of its own. OpenSSH looks its home up in passwd and not in `HOME`,
/// so an `ssh` in front of it names the configuration there.
fn as_a_reader(lab: &Lab, script: &str) -> Result<String> {
    let home = tempfile::tempdir()?;
    let at = |name: &str| home.path().join(name);
    fs::create_dir_all(at(".ssh"))?;
    fs::create_dir_all(at("bin"))?;
    fs::write(at(".ssh/config"), "")?;
    let both = format!("Include {}/.ssh/config\nInclude {}\n", home.path().display(), lab.var("LAB_SSH_CONFIG"));
    fs::write(at("ssh_config"), both)?;
    let ssh = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} -o BatchMode=yes \"$@\"\n", at("ssh_config").display());
    fs::write(at("bin/ssh"), ssh)?;
    fs::set_permissions(at("bin/ssh"), fs::Permissions::from_mode(0o755))?;
    std::os::unix::fs::symlink(Path::new(lab.var("LAB_DIR")).parent().unwrap_or(Path::new("/")), at("target"))?;
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at("carol")))?.ok()?;

    let path = format!("{}:{}", at("bin").display(), lab.var("PATH"));
    let said = run(lab
        .command("bash")
        .args(["-euxo", "pipefail", "-c", script])
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("PATH", path))?;
    ensure!(said.code == 0, "exit {}\n{}\n{}", said.code, said.out, said.err);
    Ok(said.out)
}

#[test]
fn the_command_line_page_is_a_session_that_works() {
    scenario(|lab| {
        let script = session(include_str!("../../../docs/cli.md"));
        ensure!(script.lines().count() > 25, "the page has its commands in sh blocks");
        let out = as_a_reader(lab, &script)?;
        ensure!(out.lines().any(|line| line == "alice-container"), "ssh alice-dev hostname: {out}");
        ensure!(out.lines().any(|line| line == "root"), "ssh alice-dev 'sudo whoami': {out}");
        Ok(())
    });
}

#[test]
fn what_the_readme_says_about_use_works() {
    scenario(|lab| {
        let script = session(include_str!("../../../README.md"));
        // The two commands that set everything up are how this test came to run.
        let script: String =
            script.lines().filter(|line| !line.starts_with("make ")).map(|line| format!("{line}\n")).collect();
        ensure!(script.contains("containarium create"), "the README shows a create: {script}");
        as_a_reader(lab, &script)?;
        Ok(())
    });
}
