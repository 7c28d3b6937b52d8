//! Where backups lie: a folder or a Google Cloud bucket.
//!
//! ```text
//! <prefix>/<owner>/<id>/export.tar.zst   the data, written first
//! <prefix>/<owner>/<id>/manifest.json    written last, removed first: without it there is no such backup
//! ```
//! Nothing is held in memory but a few parts on their way. It must never print a URL with a secret: credentials come from
//! the machine's own service account, or from the file that GOOGLE_APPLICATION_CREDENTIALS names.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes as Chunk;
use containarium_proto::{
    backup::{BackupData, BackupFacts, BackupId, BackupKey, Checksum, Manifest},
    convert,
    names::Username,
    sizes::Bytes,
};
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    Error as ObjectError, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart, gcp::GoogleCloudStorageBuilder,
    local::LocalFileSystem, path::Path, prefix::PrefixStore,
};
use ring::digest;
use url::Url;

use super::verified::verified;
use crate::host::HostError;

const DATA: &str = "export.tar.zst";
const MANIFEST: &str = "manifest.json";
/// A manifest with 64 long keys is some 50 KB.
const MAX_MANIFEST: u64 = 1 << 20;
/// A store that takes or gives nothing for so long is broken; its client has tried again meanwhile.
const STALLED: Duration = Duration::from_secs(300);
/// Google takes at most 10,000 parts; this many leave room for an export that grows.
const PARTS: u64 = 8_000;
const SMALLEST_PART: u64 = 8 << 20;
/// Parts on their way at once: with the one being filled, three are in memory.
const PARTS_AT_ONCE: usize = 2;

/// An open store.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// Of a folder.
    folder: Option<PathBuf>,
    url: String,
}

fn failed(what: impl std::fmt::Display, error: &ObjectError) -> HostError {
    HostError::transient(format!("{what}: {}", chain(error)))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

fn damaged(key: &BackupKey, why: impl std::fmt::Display) -> HostError {
    HostError::permanent(format!("backup {key} is damaged: {why}"))
}

impl Store {
    /// Opens `file:///FOLDER` or `gs://BUCKET/PREFIX`. A bucket is not asked yet.
    ///
    /// # Errors
    /// Neither, or a folder that cannot be made.
    pub fn open(url: &str) -> Result<Self, HostError> {
        let wrong = |why: &str| {
            HostError::permanent(format!(
                "--backup-store: {why}; give file:///srv/containarium-backups or gs://BUCKET/PREFIX"
            ))
        };
        let parsed = Url::parse(url).map_err(|_| wrong("not a URL"))?;
        if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some() {
            return Err(wrong("a URL with a name, a password or parameters is not taken"));
        }
        match parsed.scheme() {
            "file" if url.starts_with("file:///") => {
                let folder = parsed.to_file_path().map_err(|()| wrong("not a folder of this machine"))?;
                let shown = folder.display();
                std::fs::create_dir_all(&folder).map_err(|e| wrong(&format!("{shown} cannot be made: {e}")))?;
                let local = LocalFileSystem::new_with_prefix(&folder);
                let local = local.map_err(|e| wrong(&format!("{shown}: {}", chain(&e))))?;
                let objects = Arc::new(local.with_automatic_cleanup(true).with_fsync(true));
                Ok(Self { objects, folder: Some(folder), url: url.to_owned() })
            }
            "gs" => {
                let bucket = parsed.host_str().ok_or_else(|| wrong("without a bucket"))?;
                super::use_ring();
                let bucket = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).build();
                let bucket = bucket.map_err(|e| wrong(&chain(&e)))?;
                let prefix = Path::from_url_path(parsed.path()).map_err(|e| wrong(&chain(&e)))?;
                Ok(Self { objects: Arc::new(PrefixStore::new(bucket, prefix)), folder: None, url: url.to_owned() })
            }
            _ => Err(wrong("neither a folder nor a bucket")),
        }
    }

    /// Any other store, for tests.
    #[cfg(test)]
    pub(crate) fn of(objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects, folder: None, url: "memory:".to_owned() }
    }

    /// For people.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    fn path(key: &BackupKey, what: &str) -> Path {
        Path::from_iter([key.owner.as_str(), key.id.as_str(), what])
    }

    /// Writes the data, and the manifest when all of it is there. Whatever an earlier try has left is written over.
    ///
    /// # Errors
    /// The data cannot be read or stored; then nothing new is listed.
    pub async fn write(
        &self,
        facts: &BackupFacts,
        data: BoxStream<'static, Result<Chunk, HostError>>,
        expected: u64,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<Manifest, HostError> {
        let key = facts.key();
        self.sweep(&key).await?;
        let data = self.write_data(&key, data, expected, progress).await?;
        let manifest = Manifest { facts: facts.clone(), data };
        let text = convert::to_json(&manifest).map_err(|error| HostError::permanent(error.to_string()))?;
        let path = Self::path(&key, MANIFEST);
        let put = self.objects.put(&path, PutPayload::from(text));
        within(put, || format!("writing the manifest of backup {key}")).await?;
        Ok(manifest)
    }

    async fn write_data(
        &self,
        key: &BackupKey,
        mut data: BoxStream<'static, Result<Chunk, HostError>>,
        expected: u64,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<BackupData, HostError> {
        let what = || format!("writing backup {key}");
        let upload = within(self.objects.put_multipart(&Self::path(key, DATA)), what).await?;
        let part = usize::try_from((expected / PARTS).max(SMALLEST_PART)).unwrap_or(usize::MAX);
        let mut writer = WriteMultipart::new_with_chunk_size(upload, part);
        let (mut hash, mut size) = (digest::Context::new(&digest::SHA256), 0u64);
        let copied: Result<(), HostError> = async {
            while let Some(chunk) = next(&mut data).await? {
                hash.update(&chunk);
                size += chunk.len() as u64;
                within(writer.wait_for_capacity(PARTS_AT_ONCE), what).await?;
                writer.put(chunk);
                progress(size);
            }
            if size != expected {
                return Err(HostError::transient(format!("the export ended after {size} of {expected} bytes")));
            }
            Ok(())
        }
        .await;
        match copied {
            Ok(()) => {
                within(writer.finish(), what).await?;
                Ok(BackupData { size: Bytes(size), sha256: Checksum::of(hash.finish().as_ref()) })
            }
            Err(error) => {
                if let Err(more) = writer.abort().await {
                    tracing::warn!(backup = %key, error = %more, "what was written of a backup stays until it is tried again");
                }
                Err(error)
            }
        }
    }

    /// What parts a writer that was killed has left in a folder; a bucket's own rules remove such.
    async fn sweep(&self, key: &BackupKey) -> Result<(), HostError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let folder = folder.join(key.owner.as_str()).join(key.id.as_str());
        let what = |error: std::io::Error| HostError::transient(format!("clearing {}: {error}", folder.display()));
        let mut entries = match tokio::fs::read_dir(&folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(what(error)),
        };
        while let Some(entry) = entries.next_entry().await.map_err(what)? {
            if entry.file_name().to_string_lossy().contains('#') {
                tokio::fs::remove_file(entry.path()).await.map_err(what)?;
            }
        }
        Ok(())
    }

    /// What lies beside a backup's data; none: there is no such backup.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub async fn manifest(&self, key: &BackupKey) -> Result<Option<Manifest>, HostError> {
        let what = || format!("reading the manifest of backup {key} in {}", self.url);
        let found = match tokio::time::timeout(STALLED, self.objects.get(&Self::path(key, MANIFEST))).await {
            Err(_) => return Err(HostError::transient(format!("{}: no answer within {STALLED:?}", what()))),
            Ok(Err(ObjectError::NotFound { .. })) => return Ok(None),
            Ok(Err(error)) => return Err(failed(what(), &error)),
            Ok(Ok(found)) => found,
        };
        if found.meta.size > MAX_MANIFEST {
            return Err(damaged(key, "its manifest is too large"));
        }
        let bytes = within(found.bytes(), what).await?;
        let manifest = convert::manifest_from_wire(&String::from_utf8_lossy(&bytes));
        let manifest = manifest.map_err(|error| damaged(key, format!("its manifest is none: {error}")))?;
        if manifest.facts.key() != *key {
            return Err(damaged(key, format!("its manifest is that of {}", manifest.facts.key())));
        }
        Ok(Some(manifest))
    }

    /// The data of a backup. Its last part comes only if all before it was what was written: whoever needs the end of it
    /// never gets a damaged one.
    ///
    /// # Errors
    /// There is none, or it has another size already.
    pub async fn read(
        &self,
        key: &BackupKey,
        data: &BackupData,
    ) -> Result<impl Stream<Item = Result<Chunk, HostError>> + Send + 'static, HostError> {
        let what = format!("reading backup {key} in {}", self.url);
        let found = match tokio::time::timeout(STALLED, self.objects.get(&Self::path(key, DATA))).await {
            Err(_) => return Err(HostError::transient(format!("{what}: no answer within {STALLED:?}"))),
            Ok(Err(ObjectError::NotFound { .. })) => {
                return Err(HostError::permanent(format!("there is no data of backup {key} in {}", self.url)));
            }
            Ok(Err(error)) => return Err(failed(what, &error)),
            Ok(Ok(found)) => found,
        };
        if found.meta.size != data.size.0 {
            return Err(damaged(key, format!("it has {} bytes, {} were written", found.meta.size, data.size.0)));
        }
        let chunks = found.into_stream().map_err(move |error| failed(&what, &error)).boxed();
        let key = key.clone();
        Ok(verified(steady(chunks), data.clone(), move |why| damaged(&key, why)))
    }

    /// Reads all of a backup. Gives what it is if that is what it must be.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub async fn check(
        &self,
        key: &BackupKey,
        data: &BackupData,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<(), HostError> {
        let manifest = self.manifest(key).await?;
        let manifest = manifest.ok_or_else(|| damaged(key, format!("it has no manifest in {}", self.url)))?;
        if manifest.data != *data {
            return Err(damaged(key, "its manifest speaks of other data"));
        }
        let mut chunks = self.read(key, data).await?.boxed();
        let mut size = 0;
        while let Some(chunk) = chunks.try_next().await? {
            size += chunk.len() as u64;
            progress(size);
        }
        Ok(())
    }

    /// Removes all of a backup, its manifest first; done at once if there is none.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn remove(&self, key: &BackupKey) -> Result<(), HostError> {
        for what in [MANIFEST, DATA] {
            let path = Self::path(key, what);
            match tokio::time::timeout(STALLED, self.objects.delete(&path)).await {
                Ok(Ok(()) | Err(ObjectError::NotFound { .. })) => {}
                Ok(Err(error)) => return Err(failed(format!("removing backup {key}"), &error)),
                Err(_) => return Err(HostError::transient(format!("removing backup {key}: no answer"))),
            }
        }
        self.sweep(key).await?;
        let Some(folder) = &self.folder else { return Ok(()) };
        // An empty folder is no backup; one that is not empty is somebody's.
        for folder in [folder.join(key.owner.as_str()).join(key.id.as_str()), folder.join(key.owner.as_str())] {
            if let Err(error) = tokio::fs::remove_dir(&folder).await {
                tracing::debug!(folder = %folder.display(), %error, "stays");
            }
        }
        Ok(())
    }

    /// Every backup that is whole.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn list(&self) -> Result<Vec<BackupKey>, HostError> {
        let what = format!("listing {}", self.url);
        let mut found = self.objects.list(None).map_err(move |error| failed(&what, &error)).boxed();
        let mut keys = Vec::new();
        while let Some(meta) = next(&mut found).await? {
            keys.extend(key_of(&meta.location));
        }
        keys.sort();
        Ok(keys)
    }
}

/// Whose manifest this is, if it is one.
fn key_of(path: &Path) -> Option<BackupKey> {
    let parts: Vec<_> = path.parts().collect();
    let [owner, id, what] = parts.as_slice() else { return None };
    if what.as_ref() != MANIFEST {
        return None;
    }
    Some(BackupKey { owner: owner.as_ref().parse::<Username>().ok()?, id: id.as_ref().parse::<BackupId>().ok()? })
}

async fn within<T>(
    work: impl Future<Output = object_store::Result<T>>,
    what: impl Fn() -> String,
) -> Result<T, HostError> {
    match tokio::time::timeout(STALLED, work).await {
        Ok(done) => done.map_err(|error| failed(what(), &error)),
        Err(_) => Err(HostError::transient(format!("{}: no answer within {STALLED:?}", what()))),
    }
}

async fn next<T>(stream: &mut BoxStream<'static, Result<T, HostError>>) -> Result<Option<T>, HostError> {
    match tokio::time::timeout(STALLED, stream.try_next()).await {
        Ok(next) => next,
        Err(_) => Err(HostError::transient(format!("nothing came for {STALLED:?}"))),
    }
}

/// Ends with an error where nothing comes any more.
fn steady(stream: BoxStream<'static, Result<Chunk, HostError>>) -> BoxStream<'static, Result<Chunk, HostError>> {
    futures::stream::try_unfold(stream, |mut stream| async move {
        Ok(next(&mut stream).await?.map(|chunk| (chunk, stream)))
    })
    .boxed()
}

#[cfg(test)]
mod tests;
