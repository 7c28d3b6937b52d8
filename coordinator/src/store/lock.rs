//! One coordinator per state folder: a lock that the kernel drops with the process, however it ends.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use crate::error::CoordinatorError;

/// Held as long as it lives. Proof that no other coordinator uses this folder's database.
#[derive(Debug)]
pub(crate) struct StateLock {
    _file: File,
}

impl StateLock {
    /// Makes the folder if need be, private to us, and locks it.
    pub(crate) fn take(state_dir: &Path) -> Result<Self, CoordinatorError> {
        let fail = |action, path: &Path, source| CoordinatorError::File { action, path: path.to_owned(), source };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|e| fail("making the state folder", state_dir, e))?;
        // It holds every user's keys and addresses; a folder made by hand may be open to all.
        std::fs::set_permissions(state_dir, Permissions::from_mode(0o700))
            .map_err(|e| fail("closing the state folder to others", state_dir, e))?;
        let path = state_dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| fail("opening", &path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(CoordinatorError::StateInUse { path: state_dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(fail("locking", &path, source)),
        }
    }
}
