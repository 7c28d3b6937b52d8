//! `backup` and `restore`: the state of a fleet to one file and back. A backup is taken beside whoever leads; a restore
//! wants the state folder for itself, and on a shared database ends the reign of whoever leads.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{
    config::Config,
    database::DatabaseUrl,
    error::CoordinatorError,
    store::{Backup, RestoreError, StateLock, Store},
};

fn database(config: &Config) -> DatabaseUrl {
    config.database.clone().unwrap_or_else(|| DatabaseUrl::sqlite(&config.state_dir.join("fleet.db")))
}

/// Writes everything to `file`, which only we can read: it holds every user's keys. Gives a line for people.
///
/// # Errors
/// The database or the file.
pub async fn backup(config: &Config, file: &Path) -> Result<String, CoordinatorError> {
    let url = database(config);
    if config.database.is_none() && !config.state_dir.join("fleet.db").exists() {
        return Err(CoordinatorError::NoFleet { path: config.state_dir.clone() });
    }
    let store = Store::attach(&url).await?;
    let text = store.backup(&url).await?;
    store.close().await;
    write(file, &text).map_err(|source| CoordinatorError::File { action: "writing", path: file.to_owned(), source })?;
    Ok(format!("{} rows of {url} are in {}", text.lines().count().saturating_sub(2), file.display()))
}

/// Whole or not at all, whatever was there before.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    if let Err(error) = std::fs::remove_file(&temporary)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    std::fs::rename(&temporary, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Replaces the database's content by a backup. Gives a line for people.
///
/// # Errors
/// The file is no backup for us, there is a fleet already and no `force`, or the database.
pub async fn restore(config: &Config, file: &Path, force: bool) -> Result<String, CoordinatorError> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|source| CoordinatorError::File { action: "reading", path: file.to_owned(), source })?;
    let wrong = |source| CoordinatorError::Backup { path: file.to_owned(), source };
    let backup = Backup::read(&text).map_err(wrong)?;
    let url = database(config);
    let _lock = StateLock::take(&config.state_dir)?;
    let store = Store::open(&url).await?;
    let rows = store.restore(&url, &backup, force).await.map_err(|error| match error {
        RestoreError::Store(error) => error.into(),
        RestoreError::Backup(source) => wrong(source),
    })?;
    store.close().await;
    let taken_at = chrono::DateTime::from_timestamp_millis(backup.taken_at()).unwrap_or_default();
    let fleet = backup.fleet();
    Ok(format!("{rows} rows of fleet {fleet} as of {} are in {url}", taken_at.format("%Y-%m-%d %H:%M:%S UTC")))
}
