//! Golden images from files: to one server, from there to the others, and cloned.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use containarium_tests::lab::{Lab, eventually, run};
use serde_json::Value;

use crate::scenario;

const NAME: &str = "containarium-imported";

fn image(lab: &Lab) -> Result<Option<Value>> {
    let listed = lab.cli(&["image", "list", "-o", "json"])?.json()?;
    Ok(listed["images"].as_array().context("images")?.iter().find(|image| image["alias"] == NAME).cloned())
}

/// Takes it off every server again: so that every run brings it anew.
fn forget(lab: &Lab, fingerprint: &str) -> Result<()> {
    for node in lab.nodes() {
        lab.on(node, &format!("incus image delete {fingerprint} || true"))?.ok()?;
    }
    eventually("nobody has it", Duration::from_secs(60), || Ok(image(lab)?.is_none().then_some(())))
}

#[test]
fn an_image_is_imported_once_and_is_on_every_server_then() {
    scenario(|lab| {
        // The golden image's own root file system under another description is another image.
        let dir = tempfile::tempdir()?;
        let baked = Path::new(lab.var("LAB_IMAGE_DIR"));
        let manifest: Value = serde_json::from_slice(&fs::read(baked.join("current.json"))?)?;
        let file = |field: &str| -> Result<String> {
            Ok(baked.join(manifest[field].as_str().with_context(|| field.to_owned())?).display().to_string())
        };
        let (metadata, rootfs) = (dir.path().join("meta.tar.xz").display().to_string(), file("rootfs")?);
        let rewrite = "tar -xJf \"$1\" && sed -i 's/^  name: .*/  name: imported/' metadata.yaml && tar -cJf \"$2\" *";
        let mut command = std::process::Command::new("sh");
        command.current_dir(dir.path()).args(["-ec", rewrite, "sh", &file("metadata")?, &metadata]);
        run(&mut command)?.ok()?;

        let import = ["image", "import", NAME, "--metadata", &metadata, "--rootfs", &rootfs];
        let started = std::time::Instant::now();
        let done = lab.cli(&[import.as_slice(), &["--node", "jump-2", "-o", "json"]].concat())?.json()?;
        let fingerprint = done["fingerprint"].as_str().context("fingerprint")?.to_owned();
        let outcome = used(lab, &done, &fingerprint, &import, started);
        lab.empty()?;
        forget(lab, &fingerprint)?;
        outcome
    });
}

fn used(lab: &Lab, done: &Value, fingerprint: &str, import: &[&str], started: std::time::Instant) -> Result<()> {
    assert_eq!((&done["node"], &done["was_there"]), (&"jump-2".into(), &false.into()));
    println!("imported {} bytes to jump-2 in {:.1} s", done["bytes"], started.elapsed().as_secs_f32());
    lab.on("jump-2", &format!("incus image info {fingerprint}"))?.ok()?;
    eventually("every server has it", Duration::from_secs(180), || {
        let found = image(lab)?.context("it is listed")?;
        Ok(found["missing_on"].as_array().is_some_and(Vec::is_empty).then_some(()))
    })?;
    println!("on every server after {:.1} s", started.elapsed().as_secs_f32());
    let wide = lab.cli(&["image", "list", "-o", "wide"])?.ok()?.out;
    ensure!(wide.contains("jump-1 has it; jump-2 has it; jump-3 has it"), "{wide}");
    let again = lab.cli(&[import, &["-o", "json"]].concat())?.json()?;
    assert_eq!(again["was_there"], true);
    let alice = lab.person("alice")?;
    lab.cli(&["create", "alice", "--ssh-key", &alice.public_key(), "--node", "jump-3", "--image", NAME])?.ok()?;
    assert_eq!(lab.ssh(&alice, "sudo whoami")?.ok()?.out, "root");
    assert_eq!(lab.container("alice")?["image"], NAME);
    let taken = lab.cli(&[&["image", "import", "containarium"], &import[3..]].concat())?;
    ensure!(taken.code == 4 && taken.err.contains("another image"), "{taken:?}");
    // A tar file that describes no image: nothing is kept.
    let dir = tempfile::tempdir()?;
    let nothing = dir.path().join("nothing.tar").display().to_string();
    run(std::process::Command::new("tar").args(["-cf", &nothing, "-C", "/etc", "hostname"]))?.ok()?;
    let wrong = lab.cli(&["image", "import", "containarium-no", "--metadata", &nothing, "--rootfs", import[6]])?;
    println!("no image: exit {}: {}", wrong.code, wrong.err);
    ensure!(wrong.code == 2 && wrong.err.contains("has not taken the image"), "{wrong:?}");
    let left = lab.cli(&["image", "list"])?.ok()?.out;
    ensure!(!left.contains("containarium-no "), "{left}");
    Ok(())
}
