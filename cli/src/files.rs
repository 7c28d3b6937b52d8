//! Small files of the person who calls us: read whole, replaced whole or not at all, and left alone when they are right.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// `None`: not there.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a folder for nobody else's eyes, unless it is there; its parent must be.
pub(crate) fn ensure_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes the file hold this; false if it did already. A link is followed, so that who keeps their settings elsewhere
/// goes on doing so.
pub(crate) fn ensure(path: &Path, text: &str, mode: u32) -> io::Result<bool> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let right_mode = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o7777 == mode);
    if read(path)?.as_deref() == Some(text) && right_mode(path) {
        return Ok(false);
    }
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_string_lossy();
    // Of our own: two of us may write at the same time.
    let aside = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&aside)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    write().inspect_err(|_| fs::remove_file(&aside).unwrap_or_default())?;
    Ok(true)
}
