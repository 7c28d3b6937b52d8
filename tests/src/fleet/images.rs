//! Bringing golden images into the simulated fleet.

use containarium_proto::v1::{self, import_image_request::Part};
use futures::{Stream, StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tonic::Status;

use super::Fleet;

/// What an image of these files is called by Incus.
#[must_use]
pub fn fingerprint(metadata: &[u8], rootfs: &[u8]) -> String {
    let hash = Sha256::new().chain_update(metadata).chain_update(rootfs).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first message of an import, for any node.
#[must_use]
pub fn announcement(alias: &str, metadata: &[u8], rootfs: &[u8]) -> v1::ImageToImport {
    v1::ImageToImport {
        image: Some(v1::Image { alias: alias.to_owned(), fingerprint: fingerprint(metadata, rootfs) }),
        metadata_bytes: metadata.len() as u64,
        rootfs_bytes: rootfs.len() as u64,
        node: String::new(),
    }
}

/// An import under way.
#[derive(Debug)]
pub struct Importing(JoinHandle<Result<v1::ImportImageProgress, Status>>);

impl Fleet {
    /// Imports an image; `pieces` come after the first message. Gives the last message.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn import(
        &self,
        first: v1::ImageToImport,
        pieces: impl Stream<Item = Vec<u8>> + Send + 'static,
    ) -> Result<v1::ImportImageProgress, Status> {
        self.join_import(self.import_in_background(first, pieces))
    }

    /// The same, so that something can be killed meanwhile.
    #[must_use]
    pub fn import_in_background(
        &self,
        first: v1::ImageToImport,
        pieces: impl Stream<Item = Vec<u8>> + Send + 'static,
    ) -> Importing {
        let first = stream::once(std::future::ready(Part::Image(first)));
        let parts = first.chain(pieces.map(Part::Bytes));
        let messages = parts.map(|part| v1::ImportImageRequest { part: Some(part) });
        let mut client = self.client();
        Importing(self.caller.spawn(async move {
            let mut answers = client.import_image(messages).await?.into_inner();
            let mut last = v1::ImportImageProgress::default();
            while let Some(said) = answers.message().await? {
                last = said;
            }
            Ok(last)
        }))
    }

    /// Waits for an import.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    ///
    /// # Panics
    /// Its task died.
    pub fn join_import(&self, importing: Importing) -> Result<v1::ImportImageProgress, Status> {
        self.caller.block_on(importing.0).expect("an import's task")
    }
}
