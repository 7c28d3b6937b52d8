//! `image bake`: runs the bake script that this program carries, on this machine. It must never change anything outside
//! the output folder and a temporary one.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::image_import;
use crate::{
    args::{Base, Global, ImageBake, ImageImport},
    client::Client,
    errors::Failure,
    output,
};

/// What deploy/image/ holds, as it lies there.
macro_rules! carried {
    ($($path:literal),* $(,)?) => {
        const CARRIED: &[(&str, &str)] = &[$(($path, include_str!(concat!("../../../deploy/image/", $path)))),*];
    };
}
carried![
    "bake",
    "files/etc/ssh/sshd_config.d/10-containarium.conf",
    "files/etc/systemd/journald.conf.d/10-containarium.conf",
    "files/etc/systemd/network/10-eth0.network",
    "files/etc/systemd/system/containarium-host-keys.service",
    "files/etc/systemd/system/containerd.service.d/10-containarium.conf",
    "files/etc/systemd/system/docker.service.d/10-containarium.conf",
    "files/etc/systemd/system/ssh.service.d/10-containarium.conf",
    "files/etc/systemd/system/systemd-networkd-wait-online.service.d/10-containarium.conf",
    "files/etc/systemd/system/systemd-udev-trigger.service.d/10-containarium.conf",
    "files/usr/local/sbin/containarium-ensure-user",
    "files/usr/local/sbin/containarium-host-keys",
    "templates/hostname.tpl",
];

/// What the script leaves beside an image.
#[derive(Debug, Deserialize, Serialize)]
struct Manifest {
    alias: String,
    fingerprint: String,
    metadata: PathBuf,
    rootfs: PathBuf,
    size_bytes: u64,
}

pub(crate) async fn run(global: &Global, wanted: &ImageBake) -> Result<(), Failure> {
    // Before the minutes of work: a fleet that cannot be reached is found out now.
    let client = if wanted.import { Some(Client::new(global)?) } else { None };
    let manifest = bake(wanted).await?;
    let Some(client) = client else {
        return output::print(global.format, &manifest, |_| told(&manifest, &wanted.output_dir));
    };
    let import = ImageImport {
        name: manifest.alias.clone(),
        metadata: wanted.output_dir.join(&manifest.metadata),
        rootfs: wanted.output_dir.join(&manifest.rootfs),
        node: None,
    };
    image_import::run(&client, global.format, &import).await
}

fn told(manifest: &Manifest, dir: &Path) -> String {
    let Manifest { alias, fingerprint, metadata, rootfs, .. } = manifest;
    let (metadata, rootfs) = (dir.join(metadata), dir.join(rootfs));
    format!(
        "{alias} {fingerprint:.12}\nto bring it into the fleet: containarium image import {alias} --metadata {} --rootfs {}\n",
        metadata.display(),
        rootfs.display(),
    )
}

async fn bake(wanted: &ImageBake) -> Result<Manifest, Failure> {
    let failed = |doing: &str, error: &dyn std::fmt::Display| Failure::new(1, format!("image bake: {doing}: {error}"));
    let dir = Unpacked::new().map_err(|error| failed("unpacking the script", &error))?;
    fs::create_dir_all(&wanted.output_dir)
        .map_err(|error| Failure::usage(format!("'{}' cannot be made: {error}", wanted.output_dir.display())))?;
    let base = match wanted.base {
        Base::Debian => "debian",
        Base::Ubuntu => "ubuntu",
    };
    let mut command = Command::new("bash");
    command.arg(dir.0.join("bake")).args(["--base", base]).arg("--output").arg(&wanted.output_dir);
    for (option, value) in [("--suite", &wanted.suite), ("--mirror", &wanted.mirror)] {
        if let Some(value) = value {
            command.args([option, value]);
        }
    }
    command.args(wanted.force.then_some("--force")).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let baked = command.spawn().map_err(|error| failed("running bash", &error))?.wait_with_output().await;
    let baked = baked.map_err(|error| failed("running bash", &error))?;
    match baked.status.code() {
        Some(0) => {}
        Some(2) => return Err(Failure::usage("image bake: the script does not take these options; see above")),
        _ => return Err(Failure::new(1, "image bake failed; see above why")),
    }
    let alias = String::from_utf8_lossy(&baked.stdout).trim().to_owned();
    let path = wanted.output_dir.join(format!("{alias}.json"));
    let text = fs::read(&path).map_err(|error| failed(&format!("reading {}", path.display()), &error))?;
    serde_json::from_slice(&text).map_err(|error| failed(&format!("reading {}", path.display()), &error))
}

/// The script and its files, in a folder that goes with it.
struct Unpacked(PathBuf);

impl Unpacked {
    fn new() -> io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("containarium-bake-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&dir)?;
        let unpacked = Self(dir);
        fs::set_permissions(&unpacked.0, fs::Permissions::from_mode(0o700))?;
        for (name, text) in CARRIED {
            let path = unpacked.0.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, text)?;
            // What begins so is a program, in the image too.
            let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        Ok(unpacked)
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            output::note(&format!("{} could not be removed: {error}", self.0.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn lying_in(dir: &Path, below: &Path, found: &mut BTreeMap<String, (Vec<u8>, bool)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                lying_in(&path, below, found);
            } else {
                let executable = path.metadata().unwrap().permissions().mode() & 0o100 != 0;
                let name = path.strip_prefix(below).unwrap().display().to_string();
                found.insert(name, (fs::read(&path).unwrap(), executable));
            }
        }
    }

    #[test]
    fn what_is_carried_is_what_lies_in_the_folder() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/image");
        let unpacked = Unpacked::new().unwrap();
        let (mut there, mut carried) = (BTreeMap::new(), BTreeMap::new());
        lying_in(&here, &here, &mut there);
        lying_in(&unpacked.0, &unpacked.0, &mut carried);
        assert_eq!(carried, there);
        let path = unpacked.0.clone();
        drop(unpacked);
        assert!(!path.exists());
    }
}
