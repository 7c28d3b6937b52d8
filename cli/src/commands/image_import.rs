//! `image import`: reads the two files once for their fingerprint and once to send them. It must never hold more of them
//! than a few pieces.

use std::{path::Path, sync::Arc, time::Duration};

use containarium_proto::{
    image::{CHUNK, ImageFiles},
    sizes::Bytes,
    spec::{Fingerprint, Image},
    v1::{self, import_image_request::Part},
};
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt, Take},
    sync::Mutex,
};
use tonic::Status;

use super::progress::Progress;
use crate::{
    args::{Format, ImageImport},
    client::Client,
    errors::Failure,
    output,
};

/// The coordinator gives up an import that stands still; this only ends one that nobody would wait for.
const IMPORT: Duration = Duration::from_secs(6 * 3600);

#[derive(Debug, Serialize)]
struct Imported {
    alias: String,
    fingerprint: String,
    node: String,
    bytes: u64,
    was_there: bool,
}

pub(crate) async fn run(client: &Client, format: Format, wanted: &ImageImport) -> Result<(), Failure> {
    let mut progress = Progress::new();
    progress.say("reading the files".to_owned());
    let files = look(wanted).await?;
    let trouble = Trouble::default();
    let first = v1::ImportImageRequest {
        part: Some(Part::Image(v1::ImageToImport {
            image: Some(v1::Image {
                alias: files.image.alias.clone(),
                fingerprint: files.image.fingerprint.to_string(),
            }),
            metadata_bytes: files.metadata_bytes,
            rootfs_bytes: files.rootfs_bytes,
            node: wanted.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        })),
    };
    let pieces = pieces(wanted, &files, trouble.clone()).await?;
    let messages = stream::once(std::future::ready(first)).chain(pieces);
    let failed = |status: Status, trouble: Option<String>| match trouble {
        // What we could not read is why the coordinator saw it break off.
        Some(why) => Failure::usage(why),
        None => client.failure(&status),
    };
    let answered = client.stream_within(messages, IMPORT, |mut fleet, r| async move { fleet.import_image(r).await });
    let mut answers = match answered.await {
        Ok(answers) => answers,
        Err(status) => return Err(failed(status, trouble.take().await)),
    };
    let mut last = v1::ImportImageProgress::default();
    loop {
        match answers.message().await {
            Ok(Some(said)) => {
                if !said.done {
                    let size = Bytes(files.total_bytes());
                    progress.say(format!("sending {} ({size}) to {}", files.image.alias, said.node));
                }
                last = said;
            }
            Ok(None) => break,
            Err(status) => return Err(failed(status, trouble.take().await)),
        }
    }
    progress.end();
    if !last.done {
        return Err(Failure::new(1, "the coordinator ended without saying that the image is there"));
    }
    tell(format, &files, last)
}

fn tell(format: Format, files: &ImageFiles, done: v1::ImportImageProgress) -> Result<(), Failure> {
    let v1::ImportImageProgress { node, was_there, done: _ } = done;
    let imported = Imported {
        alias: files.image.alias.clone(),
        fingerprint: files.image.fingerprint.to_string(),
        bytes: files.total_bytes(),
        node,
        was_there,
    };
    output::print(format, &imported, |_| {
        let how = if imported.was_there { "had it already" } else { "has it" };
        format!(
            "{} {:.12}: {} {how}; the other servers fetch it\n",
            imported.alias, imported.fingerprint, imported.node
        )
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("'{}' cannot be read: {error}", path.display()))
}

async fn open(path: &Path) -> Result<(File, u64), Failure> {
    let file = File::open(path).await.map_err(|error| unreadable(path, &error))?;
    let about = file.metadata().await.map_err(|error| unreadable(path, &error))?;
    if !about.is_file() {
        return Err(Failure::usage(format!("'{}' is not a file", path.display())));
    }
    Ok((file, about.len()))
}

/// Incus takes any file for a root file system and fails when it is cloned: what certainly is none is found out here.
fn could_be(kind: &str, path: &Path, begins: &[u8]) -> Result<(), Failure> {
    const SQUASHFS: &[u8] = b"hsqs";
    const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"BZh"];
    let is_tar = COMPRESSED.iter().any(|magic| begins.starts_with(magic))
        || begins.get(257..262).is_some_and(|magic| magic == b"ustar");
    let (good, what) = match kind {
        "metadata" => (is_tar, "a tar file"),
        _ => (is_tar || begins.starts_with(SQUASHFS), "a squashfs or tar file"),
    };
    if good { Ok(()) } else { Err(Failure::usage(format!("'{}' is not {what}", path.display()))) }
}

/// Sizes and fingerprint.
async fn look(wanted: &ImageImport) -> Result<ImageFiles, Failure> {
    let mut hash = Sha256::new();
    let mut sizes = [0; 2];
    let both = [("metadata", &wanted.metadata), ("rootfs", &wanted.rootfs)];
    for ((kind, path), size) in both.into_iter().zip(&mut sizes) {
        let (mut file, length) = open(path).await?;
        *size = length;
        let mut piece = vec![0; CHUNK];
        let mut first = true;
        loop {
            let read = file.read(&mut piece).await.map_err(|error| unreadable(path, &error))?;
            if read == 0 {
                break;
            }
            if std::mem::take(&mut first) {
                could_be(kind, path, &piece[..read])?;
            }
            hash.update(&piece[..read]);
        }
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let fingerprint: Fingerprint = hex.parse().map_err(|error| Failure::new(1, format!("{error}")))?;
    let image = Image { alias: wanted.name.clone(), fingerprint };
    ImageFiles::new(image, sizes[0], sizes[1]).map_err(|error| Failure::usage(error.to_string()))
}

/// Why the sending stopped.
#[derive(Clone, Default)]
struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    async fn take(&self) -> Option<String> {
        self.0.lock().await.take()
    }
}

/// Both files, one after the other. Ends early, with a trouble, if one cannot be read or has become shorter.
async fn pieces(
    wanted: &ImageImport,
    files: &ImageFiles,
    trouble: Trouble,
) -> Result<impl Stream<Item = v1::ImportImageRequest> + Send + 'static, Failure> {
    let (metadata, rootfs) = (open(&wanted.metadata).await?.0, open(&wanted.rootfs).await?.0);
    // What has grown since it was read is sent as it was, and its fingerprint then tells.
    let both = metadata.take(files.metadata_bytes).chain(rootfs.take(files.rootfs_bytes));
    let left = files.total_bytes();
    Ok(stream::unfold((both, left, trouble), |(mut both, left, trouble)| async move {
        match (left, next(&mut both).await) {
            (0, _) => None,
            (_, Ok(piece)) if !piece.is_empty() => {
                let left = left.saturating_sub(piece.len() as u64);
                Some((v1::ImportImageRequest { part: Some(Part::Bytes(piece)) }, (both, left, trouble)))
            }
            (_, outcome) => {
                let why = outcome.err().map_or("they have become shorter".to_owned(), |error| error.to_string());
                *trouble.0.lock().await = Some(format!("the image's files cannot be read to the end: {why}"));
                None
            }
        }
    }))
}

type Both = tokio::io::Chain<Take<File>, Take<File>>;

async fn next(both: &mut Both) -> std::io::Result<Vec<u8>> {
    fill(both, CHUNK).await
}

async fn fill(from: &mut (impl AsyncRead + Unpin), most: usize) -> std::io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(most);
    from.take(most as u64).read_to_end(&mut piece).await?;
    Ok(piece)
}
