//! A stream that ends only if it was what it must be: the last chunk is held back until size and checksum of all are
//! known to be right. It must never hold more than one chunk.

use bytes::Bytes as Chunk;
use containarium_proto::backup::{BackupData, Checksum};
use futures::{Stream, StreamExt, stream::BoxStream};
use ring::digest;

use crate::host::HostError;

struct Verified<F> {
    chunks: BoxStream<'static, Result<Chunk, HostError>>,
    held_back: Option<Chunk>,
    hash: digest::Context,
    size: u64,
    wanted: BackupData,
    damaged: F,
    ended: bool,
}

/// The same chunks, the last one only if all together are `wanted`; else an error in its place.
pub(super) fn verified(
    chunks: BoxStream<'static, Result<Chunk, HostError>>,
    wanted: BackupData,
    damaged: impl Fn(String) -> HostError + Send + 'static,
) -> impl Stream<Item = Result<Chunk, HostError>> + Send + 'static {
    let hash = digest::Context::new(&digest::SHA256);
    let state = Verified { chunks, held_back: None, hash, size: 0, wanted, damaged, ended: false };
    futures::stream::unfold(state, |mut state| async move {
        if state.ended {
            return None;
        }
        let item = state.next().await?;
        state.ended = item.is_err();
        Some((item, state))
    })
}

impl<F: Fn(String) -> HostError> Verified<F> {
    async fn next(&mut self) -> Option<Result<Chunk, HostError>> {
        loop {
            let chunk = match self.chunks.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => continue,
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return Some(Err(error)),
                None => return self.end(),
            };
            self.hash.update(&chunk);
            self.size += chunk.len() as u64;
            if self.size > self.wanted.size.0 {
                return Some(Err((self.damaged)(format!("it is longer than {} bytes", self.wanted.size.0))));
            }
            if let Some(before) = self.held_back.replace(chunk) {
                return Some(Ok(before));
            }
        }
    }

    fn end(&mut self) -> Option<Result<Chunk, HostError>> {
        self.ended = true;
        if self.size != self.wanted.size.0 {
            let why = format!("it ends after {} of {} bytes", self.size, self.wanted.size.0);
            return Some(Err((self.damaged)(why)));
        }
        let found = Checksum::of(self.hash.clone().finish().as_ref());
        if found != self.wanted.sha256 {
            return Some(Err((self.damaged)("its checksum is another one".to_owned())));
        }
        self.held_back.take().map(Ok)
    }
}
