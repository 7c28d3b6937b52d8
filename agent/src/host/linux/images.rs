//! Golden images: brings the ones that lie ready in a folder into Incus, once each, and says which there are.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use containarium_proto::{
    image::PREFIX as OURS,
    node::ImageOffer,
    spec::{Fingerprint, Image},
};
use reqwest::{Body, Method, StatusCode, multipart};
use serde::Deserialize;
use serde_json::json;
use tokio::fs::{self, File};
use tokio_util::io::ReaderStream;

use super::{LinuxHost, incus::Failure};
use crate::host::HostError;

/// A gigabyte over a unix socket to a slow disk, and its checksum.
const IMPORT: Duration = Duration::from_secs(900);
/// Repeats the newest of the manifests beside it.
const CURRENT: &str = "current.json";

/// What `deploy/image/bake` writes beside an image.
#[derive(Debug, Clone, Deserialize)]
struct Manifest {
    alias: String,
    fingerprint: Fingerprint,
    metadata: PathBuf,
    rootfs: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Alias {
    name: String,
    target: Fingerprint,
}

impl LinuxHost {
    pub(super) async fn aliases(&self) -> Result<BTreeMap<String, Fingerprint>, HostError> {
        let aliases: Vec<Alias> = self.incus.get("listing the images", "/images/aliases?recursion=1").await?;
        Ok(aliases.into_iter().map(|alias| (alias.name, alias.target)).collect())
    }

    pub(super) async fn read_images(&self) -> Result<Vec<Image>, HostError> {
        let aliases = self.aliases().await?;
        let ours = aliases.into_iter().filter(|(alias, _)| alias.starts_with(OURS));
        Ok(ours.map(|(alias, fingerprint)| Image { alias, fingerprint }).collect())
    }

    /// Nothing is removed: running containers were cloned from older images.
    pub(super) async fn import_images(&self) -> Result<(), HostError> {
        let Some(dir) = &self.config.image_dir else { return Ok(()) };
        let (manifests, current) = read_manifests(dir).await?;
        let mut aliases = self.aliases().await?;
        for manifest in manifests {
            if aliases.get(&manifest.alias) == Some(&manifest.fingerprint) {
                continue;
            }
            self.import(dir, &manifest).await?;
            self.point(&manifest.alias, &manifest.fingerprint, &aliases).await?;
            tracing::info!(alias = manifest.alias, fingerprint = %manifest.fingerprint, "image imported");
            aliases.insert(manifest.alias, manifest.fingerprint);
        }
        match current {
            Some(manifest) if aliases.get(OURS) != Some(&manifest.fingerprint) => {
                self.point(OURS, &manifest.fingerprint, &aliases).await
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn import(&self, dir: &Path, manifest: &Manifest) -> Result<(), HostError> {
        if self.has_image(&manifest.fingerprint).await? {
            return Ok(());
        }
        let form = multipart::Form::new()
            .part("metadata", part(&dir.join(&manifest.metadata)).await?)
            .part("rootfs", part(&dir.join(&manifest.rootfs)).await?);
        self.upload(&manifest.alias, &manifest.fingerprint, form, IMPORT).await
    }

    pub(super) async fn has_image(&self, fingerprint: &Fingerprint) -> Result<bool, HostError> {
        let path = format!("/images/{fingerprint}");
        match self.incus.get::<serde_json::Value>("looking for the image", &path).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Incus keeps an upload only when it is whole and has this fingerprint.
    pub(super) async fn upload(
        &self,
        alias: &str,
        fingerprint: &Fingerprint,
        form: multipart::Form,
        limit: Duration,
    ) -> Result<(), HostError> {
        let what = format!("importing image {alias}");
        let request = self.incus.request(Method::POST, "/images").timeout(limit).multipart(form);
        let request = request.header("X-Incus-fingerprint", fingerprint.to_string());
        self.incus.operate(&what, request, limit).await.map_err(refused)?;
        match self.has_image(fingerprint).await? {
            true => Ok(()),
            false => Err(HostError::permanent(format!("{what}: the files do not have the fingerprint {fingerprint}"))),
        }
    }

    /// For another node's Incus: it shows the secret and gets this one image.
    pub(super) async fn open_image(
        &self,
        fingerprint: &Fingerprint,
        host: &str,
    ) -> Result<Option<ImageOffer>, HostError> {
        let what = format!("offering image {fingerprint:.12}");
        let (port, certificate) = self.ensure_listening().await?;
        let request = self.incus.request(Method::POST, &format!("/images/{fingerprint}/secret"));
        let metadata = match self.incus.begin(&what, request).await {
            Ok((_, metadata)) => metadata,
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        let Some(secret) = metadata["secret"].as_str().map(ToOwned::to_owned) else {
            return Err(HostError::transient(format!("{what}: no secret")));
        };
        Ok(Some(ImageOffer { server: format!("https://{host}:{port}"), secret, certificate }))
    }

    pub(super) async fn pull_image(&self, image: &Image, offer: &ImageOffer) -> Result<(), HostError> {
        let aliases = self.aliases().await?;
        if aliases.get(&image.alias) == Some(&image.fingerprint) {
            return Ok(());
        }
        let what = format!("fetching image {} from {}", image.alias, offer.server);
        let body = json!({
            "public": false,
            "source": {
                "type": "image", "mode": "pull", "protocol": "incus", "server": offer.server,
                "certificate": offer.certificate, "secret": offer.secret, "fingerprint": image.fingerprint.to_string(),
            },
        });
        let request = self.incus.request(Method::POST, "/images").json(&body);
        self.incus.operate(&what, request, IMPORT).await?;
        self.point(&image.alias, &image.fingerprint, &aliases).await?;
        tracing::info!(alias = image.alias, fingerprint = %image.fingerprint, server = offer.server, "image fetched");
        Ok(())
    }

    /// Makes or moves an alias.
    pub(super) async fn point(
        &self,
        alias: &str,
        fingerprint: &Fingerprint,
        there: &BTreeMap<String, Fingerprint>,
    ) -> Result<(), HostError> {
        let target = fingerprint.to_string();
        let (method, path, body) = if there.contains_key(alias) {
            (Method::PUT, format!("/images/aliases/{alias}"), json!({ "target": target }))
        } else {
            (
                Method::POST,
                "/images/aliases".to_owned(),
                json!({ "name": alias, "target": target, "type": "container" }),
            )
        };
        Ok(self.incus.change(&format!("naming image {alias}"), method, &path, &body).await?)
    }
}

/// What Incus says of files that are no image, or another one: the same files will be so again.
fn refused(failure: Failure) -> HostError {
    let words = ["metadata.yaml", "Metadata tarball", "ingerprint"];
    match words.iter().any(|word| failure.text.contains(word)) {
        true => HostError::permanent(failure.text),
        false => failure.into(),
    }
}

fn file_error(action: &str, path: &Path, error: &std::io::Error) -> HostError {
    HostError::transient(format!("{action} {}: {error}", path.display()))
}

async fn part(path: &Path) -> Result<multipart::Part, HostError> {
    let file = File::open(path).await.map_err(|error| file_error("opening", path, &error))?;
    let length = file.metadata().await.map_err(|error| file_error("reading", path, &error))?.len();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let body = Body::wrap_stream(ReaderStream::new(file));
    Ok(multipart::Part::stream_with_length(body, length).file_name(name))
}

/// All manifests of a folder, and the newest.
async fn read_manifests(dir: &Path) -> Result<(Vec<Manifest>, Option<Manifest>), HostError> {
    let mut entries = fs::read_dir(dir).await.map_err(|error| file_error("reading", dir, &error))?;
    let (mut all, mut current) = (Vec::new(), None);
    while let Some(entry) = entries.next_entry().await.map_err(|error| file_error("reading", dir, &error))? {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read(&path).await.map_err(|error| file_error("reading", &path, &error))?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| HostError::permanent(format!("{} is not an image manifest: {error}", path.display())))?;
        if path.file_name().is_some_and(|name| name == CURRENT) {
            current = Some(manifest);
        } else {
            all.push(manifest);
        }
    }
    all.sort_by(|one, other| one.alias.cmp(&other.alias));
    Ok((all, current))
}
