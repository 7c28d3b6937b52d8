//! A golden image that arrives over the network: its bytes go straight into Incus, which keeps them only when they are
//! all there and have the fingerprint that was announced. It must never hold more of an image than a few messages.

use std::time::Duration;

use containarium_proto::image::ImageFiles;
use futures::{Stream, StreamExt};
use reqwest::{Body, multipart};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::LinuxHost;
use crate::host::HostError;

/// The largest image over a slow line; a sender that says nothing is given up long before.
const RECEIVE: Duration = Duration::from_secs(6 * 3600);
/// Messages in memory, per file.
const AHEAD: usize = 2;

type Piece = Result<Vec<u8>, HostError>;

impl LinuxHost {
    pub(super) async fn receive_image(
        &self,
        files: &ImageFiles,
        bytes: impl Stream<Item = Piece> + Send + 'static,
    ) -> Result<(), HostError> {
        let image = &files.image;
        let aliases = self.aliases().await?;
        match aliases.get(&image.alias) {
            Some(there) if *there == image.fingerprint => return Ok(()),
            Some(there) => {
                return Err(HostError::permanent(format!("{} is the name of image {there:.12} here", image.alias)));
            }
            None => {}
        }
        if !self.has_image(&image.fingerprint).await? {
            let (metadata, metadata_body) = body(files.metadata_bytes);
            let (rootfs, rootfs_body) = body(files.rootfs_bytes);
            let form = multipart::Form::new()
                .part("metadata", metadata_body.file_name("metadata"))
                .part("rootfs", rootfs_body.file_name("rootfs"));
            let upload = self.upload(&image.alias, &image.fingerprint, form, RECEIVE);
            // Incus that refuses early closes the parts, and that ends the pump; a pump that fails breaks the upload.
            let (uploaded, ()) = tokio::join!(upload, pump(bytes, files, metadata, rootfs));
            uploaded?;
        }
        self.point(&image.alias, &image.fingerprint, &aliases).await?;
        tracing::info!(alias = image.alias, fingerprint = %image.fingerprint, "image imported from afar");
        Ok(())
    }
}

fn body(length: u64) -> (mpsc::Sender<Piece>, multipart::Part) {
    let (sender, pieces) = mpsc::channel(AHEAD);
    let body = Body::wrap_stream(ReceiverStream::new(pieces));
    (sender, multipart::Part::stream_with_length(body, length))
}

/// Parts the bytes at the end of the metadata. What is too little, too much or broken off becomes an error in the part
/// that is being sent, so that Incus never sees a good end.
async fn pump(
    bytes: impl Stream<Item = Piece> + Send,
    files: &ImageFiles,
    metadata: mpsc::Sender<Piece>,
    rootfs: mpsc::Sender<Piece>,
) {
    let mut bytes = std::pin::pin!(bytes);
    let (mut metadata, mut left) = (Some(metadata), [files.metadata_bytes, files.rootfs_bytes]);
    loop {
        let into = metadata.as_ref().unwrap_or(&rootfs);
        let mut piece = match bytes.next().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return tell(into, Err(error)).await,
            None if left == [0, 0] => return,
            None => return tell(into, Err(HostError::transient("the image broke off"))).await,
        };
        if let Some(sender) = &metadata {
            let at = usize::try_from(left[0]).unwrap_or(usize::MAX).min(piece.len());
            let rest = piece.split_off(at);
            left[0] -= at as u64;
            if sender.send(Ok(piece)).await.is_err() {
                return;
            }
            piece = rest;
        }
        if left[0] == 0 {
            // Closed: the metadata is whole.
            metadata = None;
        }
        if piece.is_empty() {
            continue;
        }
        match left[1].checked_sub(piece.len() as u64) {
            Some(rest) => left[1] = rest,
            None => return tell(&rootfs, Err(HostError::permanent("the image has more bytes than announced"))).await,
        }
        if rootfs.send(Ok(piece)).await.is_err() {
            return;
        }
    }
}

/// Nobody listens any more: the upload has ended with an error of its own.
async fn tell(into: &mpsc::Sender<Piece>, outcome: Piece) {
    into.send(outcome).await.unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use containarium_proto::spec::Image;
    use futures::stream;

    use super::*;

    fn files(metadata_bytes: u64, rootfs_bytes: u64) -> ImageFiles {
        let image = Image { alias: "containarium-x".into(), fingerprint: "5".repeat(64).parse().unwrap() };
        ImageFiles::new(image, metadata_bytes, rootfs_bytes).unwrap()
    }

    /// What arrives in each part, or why not.
    async fn pumped(pieces: &[&[u8]], files: ImageFiles) -> (Result<Vec<u8>, String>, Result<Vec<u8>, String>) {
        let (metadata, first) = mpsc::channel(AHEAD);
        let (rootfs, second) = mpsc::channel(AHEAD);
        let pieces: Vec<Piece> = pieces.iter().map(|piece| Ok(piece.to_vec())).collect();
        async fn all(part: mpsc::Receiver<Piece>) -> Result<Vec<u8>, String> {
            let mut whole = Vec::new();
            let mut pieces = ReceiverStream::new(part);
            while let Some(piece) = pieces.next().await {
                whole.extend(piece.map_err(|error| error.message)?);
            }
            Ok(whole)
        }
        let (_, first, second) =
            tokio::join!(pump(stream::iter(pieces), &files, metadata, rootfs), all(first), all(second));
        (first, second)
    }

    #[tokio::test]
    async fn bytes_are_parted_where_the_metadata_ends() {
        for pieces in ["abcdef", "a bcd ef", "ab  cdef", "a b c d e f"] {
            let pieces: Vec<&[u8]> = pieces.split(' ').map(str::as_bytes).collect();
            let (metadata, rootfs) = pumped(&pieces, files(2, 4)).await;
            assert_eq!(
                (metadata.unwrap().as_slice(), rootfs.unwrap().as_slice()),
                (b"ab".as_slice(), b"cdef".as_slice())
            );
        }
    }

    #[tokio::test]
    async fn what_breaks_off_or_goes_on_is_an_error_in_its_part() {
        assert_eq!(pumped(&[b"a"], files(2, 4)).await.0.unwrap_err(), "the image broke off");
        assert_eq!(pumped(&[b"abcde"], files(2, 4)).await.1.unwrap_err(), "the image broke off");
        assert!(pumped(&[b"abcdefg"], files(2, 4)).await.1.unwrap_err().contains("more bytes"));
    }
}
