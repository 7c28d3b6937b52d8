//! Backups of a fleet's state, and putting them back.

use std::error::Error;

use containarium_coordinator::{backup, restore};
use sha2::{Digest, Sha256};

use super::Fleet;

impl Fleet {
    /// Writes the state to a file of this name, beside a coordinator that runs.
    ///
    /// # Panics
    /// It fails.
    pub fn save_state(&self, name: &str) {
        let config = self.coordinator_config();
        self.caller.block_on(backup(&config, &self.path(name))).expect("a backup");
    }

    /// Puts it back.
    ///
    /// # Errors
    /// Why not, with all causes.
    pub fn restore_state(&self, name: &str, force: bool) -> Result<String, String> {
        let config = self.coordinator_config();
        let done = self.caller.block_on(async {
            loop {
                match restore(&config, &self.path(name), force).await {
                    // The killed one may hold its lock for a moment.
                    Err(containarium_coordinator::CoordinatorError::StateInUse { .. }) => {}
                    done => return done,
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        });
        done.map_err(|error| format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default()))
    }

    /// What is in such a file.
    ///
    /// # Panics
    /// It is not there.
    #[must_use]
    pub fn state_text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("the file")
    }

    /// Puts something else into it.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_state(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("the file");
    }

    /// With the checksum that it has now.
    ///
    /// # Panics
    /// It never was a backup.
    #[must_use]
    pub fn resealed(text: &str) -> String {
        let body = text.trim_end().rfind('\n').expect("a last line") + 1;
        let sum: String = Sha256::digest(&text[..body]).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}{{\"rows\":0,\"sha256\":\"{sum}\"}}\n", &text[..body])
    }
}
