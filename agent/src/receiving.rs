//! An image that the coordinator sends: its header checked, then its bytes as a stream of which each piece has a
//! deadline. It must never answer well before the host has the whole image.

use std::time::Duration;

use containarium_proto::{
    ids::Term,
    image::ImageFiles,
    node::Sender,
    v1::{self, receive_image_request::Part},
};
use futures::{Stream, stream};
use tonic::{Status, Streaming};

use crate::host::HostError;

/// A sender that says nothing for so long has gone: the coordinator gives up its caller earlier.
const SILENCE: Duration = Duration::from_secs(90);

type Requests = Streaming<v1::ReceiveImageRequest>;

/// Who sends what.
pub(crate) async fn header(requests: &mut Requests) -> Result<(Sender, ImageFiles), Status> {
    let first = tokio::time::timeout(SILENCE, requests.message());
    let first = first.await.map_err(|_| Status::deadline_exceeded("the image was not announced"))??;
    let Some(Part::Image(header)) = first.and_then(|first| first.part) else {
        return Err(Status::invalid_argument("the first message must announce the image"));
    };
    let invalid = |error: &dyn std::fmt::Display| Status::invalid_argument(error.to_string());
    let fleet = header.fleet_id.parse().map_err(|error| invalid(&error))?;
    let files = ImageFiles::from_wire(header.image.as_ref(), header.metadata_bytes, header.rootfs_bytes);
    Ok((Sender { fleet, term: Term(header.term) }, files.map_err(|error| invalid(&error))?))
}

/// The pieces that follow; ends with the first error.
pub(crate) fn pieces(requests: Requests) -> impl Stream<Item = Result<Vec<u8>, HostError>> + Send + 'static {
    stream::unfold(Some(requests), |requests| async move {
        let mut requests = requests?;
        let piece = match tokio::time::timeout(SILENCE, requests.message()).await {
            Ok(Ok(None)) => return None,
            Ok(Ok(Some(v1::ReceiveImageRequest { part: Some(Part::Bytes(bytes)) }))) => {
                return Some((Ok(bytes), Some(requests)));
            }
            Ok(Ok(Some(_))) => HostError::permanent("the image was announced twice"),
            Ok(Err(status)) => HostError::transient(format!("the image broke off: {}", status.message())),
            Err(_) => HostError::transient(format!("the image stood still for {SILENCE:?}")),
        };
        Some((Err(piece), None))
    })
}
