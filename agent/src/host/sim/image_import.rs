//! Taking an image as the real host does: everything is read, counted and hashed; nothing of it is kept.

use containarium_proto::image::ImageFiles;
use futures::{Stream, StreamExt};
use sha2::{Digest, Sha256};

use super::SimHost;
use crate::host::HostError;

impl SimHost {
    pub(super) async fn receive_image(
        &self,
        files: &ImageFiles,
        bytes: impl Stream<Item = Result<Vec<u8>, HostError>> + Send + 'static,
    ) -> Result<(), HostError> {
        let image = &files.image;
        let there = self.look(|memory| memory.images.iter().find(|own| own.alias == image.alias).cloned()).await?;
        match there {
            Some(there) if there == *image => return Ok(()),
            Some(_) => return Err(HostError::permanent(format!("{} is the name of another image here", image.alias))),
            None => {}
        }
        let (mut hash, mut count) = (Sha256::new(), 0u64);
        let mut bytes = std::pin::pin!(bytes);
        while let Some(piece) = bytes.next().await {
            let piece = piece?;
            count += piece.len() as u64;
            hash.update(piece);
        }
        let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if count != files.total_bytes() || found != image.fingerprint.to_string() {
            return Err(HostError::permanent(format!("the files do not have the fingerprint {}", image.fingerprint)));
        }
        self.effect(|memory| {
            memory.images.push(image.clone());
            Ok(())
        })
        .await
    }
}
