//! Quotas of btrfs that stay exact. Newer kernels stop counting when a large subvolume is removed, until somebody has all
//! of it counted anew: limits hold no longer then, and what a container uses is what it used before. ZFS needs none of it.

use std::{os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use tokio::sync::Mutex;

use super::{LinuxHost, system};
use crate::host::HostError;

/// No tree is as high: whatever is removed is counted.
const ANY_HEIGHT: &str = "8";

/// The file system at the pool's path, and what is known of it.
pub(super) type Known = Mutex<Option<(u64, Option<PathBuf>)>>;

const TOOL: Duration = Duration::from_secs(30);

impl LinuxHost {
    /// Cheap when nothing is to do.
    pub(super) async fn keep_quota_exact(&self) -> Result<(), HostError> {
        let Some(folder) = self.quota_folder().await? else { return Ok(()) };
        let (height, inexact) = (folder.join("drop_subtree_threshold"), folder.join("inconsistent"));
        // Older kernels have neither, and count everything.
        let Ok(now) = tokio::fs::read_to_string(&height).await else { return Ok(()) };
        if now.trim() != ANY_HEIGHT {
            let written = tokio::fs::write(&height, ANY_HEIGHT).await;
            written.map_err(|error| HostError::transient(format!("{}: {error}", height.display())))?;
        }
        if !is_set(&inexact).await {
            return Ok(());
        }
        tracing::warn!("quotas are inexact, counting everything anew");
        let pool = self.pool_path();
        match system::run("btrfs", &["quota", "rescan", &pool.to_string_lossy()], TOOL).await {
            // One that goes on says so.
            Err(error) if error.message.contains("in progress") => Ok(()),
            other => other,
        }
    }

    /// Whether what instances use of the disk is what was last counted, and not what they use.
    pub(super) async fn is_quota_inexact(&self) -> bool {
        match self.quota_folder().await {
            Ok(Some(folder)) => is_set(&folder.join("inconsistent")).await,
            Ok(None) | Err(_) => false,
        }
    }

    /// Where the kernel tells of them; none: the pool is not btrfs. Looked up once for each file system that is found there:
    /// one container's use is read after the other, and Incus may mount the pool after our start.
    async fn quota_folder(&self) -> Result<Option<PathBuf>, HostError> {
        let pool = self.pool_path();
        let failed = |error: std::io::Error| HostError::transient(format!("{}: {error}", pool.display()));
        let device = tokio::fs::metadata(&pool).await.map_err(failed)?.dev();
        let mut known = self.quotas.lock().await;
        if let Some((_, folder)) = known.as_ref().filter(|(of, _)| *of == device) {
            return Ok(folder.clone());
        }
        let found = system::output_of("findmnt", &["-no", "FSTYPE,UUID", "-T", &pool.to_string_lossy()], TOOL).await?;
        let uuid = found.split_whitespace().collect::<Vec<_>>();
        let folder = match uuid.as_slice() {
            ["btrfs", uuid] => Some(PathBuf::from(format!("/sys/fs/btrfs/{uuid}/qgroups"))),
            _ => None,
        };
        *known = Some((device, folder.clone()));
        Ok(folder)
    }
}

async fn is_set(file: &PathBuf) -> bool {
    tokio::fs::read_to_string(file).await.is_ok_and(|text| text.trim() == "1")
}
