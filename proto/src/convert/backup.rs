//! The edge, for backups: one function each way. A manifest's text is the one that lies in the store.

use serde::Serialize;

use super::{ConvertError, bad, need, parse};
use crate::{
    backup::{BackupData, BackupFacts, BackupKey, BackupWork, MANIFEST_FORMAT, Manifest, Origin},
    sizes::Bytes,
    spec::Step,
    v1::{self, backup_progress::State},
};

/// Reads the backup that data must come from.
///
/// # Errors
/// Any field missing or invalid.
pub fn origin_from_wire(origin: &v1::Origin) -> Result<Origin, ConvertError> {
    Ok(Origin {
        restore: parse("origin.restore_id", &origin.restore_id)?,
        backup: parse("origin.backup_id", &origin.backup_id)?,
        data: origin_data_from_wire(origin.size_bytes, &origin.sha256)?,
    })
}

/// Writes the backup that data must come from.
#[must_use]
pub fn origin_to_wire(origin: &Origin) -> v1::Origin {
    v1::Origin {
        restore_id: origin.restore.to_string(),
        backup_id: origin.backup.to_string(),
        size_bytes: origin.data.size.0,
        sha256: origin.data.sha256.to_string(),
    }
}

/// Reads what a backup's data must be.
///
/// # Errors
/// No checksum.
pub fn origin_data_from_wire(size_bytes: u64, sha256: &str) -> Result<BackupData, ConvertError> {
    Ok(BackupData { size: Bytes(size_bytes), sha256: parse("sha256", sha256)? })
}

/// Reads whose backup, and which.
///
/// # Errors
/// No user or no id.
pub fn backup_key_from_wire(user: &str, id: &str) -> Result<BackupKey, ConvertError> {
    Ok(BackupKey { owner: parse("user", user)?, id: parse("id", id)? })
}

/// Reads what a backup is of.
///
/// # Errors
/// Not that, or of a form that only a newer version knows.
pub fn backup_facts_from_wire(json: &str) -> Result<BackupFacts, ConvertError> {
    let facts: BackupFacts = serde_json::from_str(json).map_err(|error| bad("facts_json", error))?;
    known("facts_json", facts.format)?;
    Ok(facts)
}

/// Reads a manifest.
///
/// # Errors
/// Not one, or of a form that only a newer version knows.
pub fn manifest_from_wire(json: &str) -> Result<Manifest, ConvertError> {
    let manifest: Manifest = serde_json::from_str(json).map_err(|error| bad("manifest_json", error))?;
    known("manifest_json", manifest.facts.format)?;
    Ok(manifest)
}

fn known(field: &'static str, format: u32) -> Result<(), ConvertError> {
    if format == MANIFEST_FORMAT { Ok(()) } else { Err(bad(field, format!("format {format} is not known here"))) }
}

/// Writes facts or a manifest.
///
/// # Errors
/// It has no JSON form, which ours have.
pub fn to_json(value: &impl Serialize) -> Result<String, ConvertError> {
    serde_json::to_string(value).map_err(|error| bad("json", error))
}

/// Reads how far a backup is.
///
/// # Errors
/// It says nothing.
pub fn backup_work_from_wire(progress: v1::BackupProgress) -> Result<BackupWork, ConvertError> {
    Ok(match need("state", progress.state)? {
        State::Running(v1::BackupStep { index, total, title }) => BackupWork::Running(Step { index, total, title }),
        State::Done(done) => BackupWork::Done(origin_data_from_wire(done.size_bytes, &done.sha256)?),
        State::Failed(v1::BackupFailure { error, permanent }) => BackupWork::Failed { error, permanent },
    })
}

/// Writes how far a backup is.
#[must_use]
pub fn backup_work_to_wire(work: BackupWork) -> v1::BackupProgress {
    let state = match work {
        BackupWork::Running(Step { index, total, title }) => State::Running(v1::BackupStep { index, total, title }),
        BackupWork::Done(data) => {
            State::Done(v1::BackupWritten { size_bytes: data.size.0, sha256: data.sha256.to_string() })
        }
        BackupWork::Failed { error, permanent } => State::Failed(v1::BackupFailure { error, permanent }),
    };
    v1::BackupProgress { state: Some(state) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backup::Checksum, ids::RequestId};

    #[test]
    fn origins_and_progress_survive_the_wire() {
        let data = BackupData { size: Bytes(7), sha256: Checksum::of(&[1; 32]) };
        let backup = "20261124-145205".parse().unwrap();
        let origin = Origin { restore: RequestId::generate(), backup, data: data.clone() };
        assert_eq!(origin_from_wire(&origin_to_wire(&origin)).unwrap(), origin);
        assert!(origin_from_wire(&v1::Origin::default()).is_err());
        let works = [
            BackupWork::Running(Step { index: 1, total: 4, title: "freezing it".into() }),
            BackupWork::Done(data),
            BackupWork::Failed { error: "no space left".into(), permanent: false },
        ];
        for work in works {
            assert_eq!(backup_work_from_wire(backup_work_to_wire(work.clone())).unwrap(), work);
        }
        assert_eq!(
            backup_work_from_wire(v1::BackupProgress::default()).unwrap_err().to_string(),
            "field state: missing"
        );
        assert!(
            backup_key_from_wire("alice", "../x").is_err() && backup_key_from_wire("../x", "20261124-145205").is_err()
        );
    }
}
