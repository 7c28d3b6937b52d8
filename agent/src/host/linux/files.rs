//! Small files of the system: read whole, replaced whole.

use std::{
    io::ErrorKind,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use tokio::{fs, io::AsyncWriteExt};

use crate::host::HostError;

pub(super) fn error(action: &str, path: &Path, error: &std::io::Error) -> HostError {
    HostError::transient(format!("{action} {}: {error}", path.display()))
}

/// `None`: not there.
pub(super) async fn read(path: &Path) -> Result<Option<String>, HostError> {
    match fs::read_to_string(path).await {
        Ok(text) => Ok(Some(text)),
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(cause) => Err(error("reading", path, &cause)),
    }
}

/// `None`: not there, or no plain file of root's that only root may write.
pub(super) async fn read_plain(path: &Path) -> Result<Option<String>, HostError> {
    let plain = |meta: &std::fs::Metadata| meta.is_file() && meta.uid() == 0 && meta.mode() & 0o022 == 0;
    match fs::symlink_metadata(path).await {
        Ok(meta) if plain(&meta) => read(path).await,
        Ok(_) => Ok(None),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(error("looking at", path, &cause)),
    }
}

/// Never half a file, whenever we are killed: written aside, synced, renamed.
pub(super) async fn replace(path: &Path, text: &str, mode: u32) -> Result<(), HostError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let aside = path.with_file_name(format!(".{name}.new"));
    let write = async {
        // What a killed writer left, or somebody laid there, is not written through.
        match fs::remove_file(&aside).await {
            Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cause),
            Ok(()) | Err(_) => {}
        }
        let mut file = fs::File::create_new(&aside).await?;
        file.set_permissions(std::fs::Permissions::from_mode(mode)).await?;
        file.write_all(text.as_bytes()).await?;
        file.sync_all().await?;
        fs::rename(&aside, path).await
    };
    write.await.map_err(|cause| error("writing", path, &cause))
}

pub(super) async fn remove(path: &Path) -> Result<(), HostError> {
    match fs::remove_file(path).await {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(error("removing", path, &cause)),
        Ok(()) | Err(_) => Ok(()),
    }
}
