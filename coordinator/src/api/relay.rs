//! The answer of the coordinator that leads, passed on by another. What breaks off with its death is no defect of the one
//! that passes it on; and one that no longer leads has answered nothing.

use std::error::Error;

use containarium_proto::error::{Reason, Refusal};
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyStream, StreamBody};
use tonic::{ConnectError, Status, body::Body};

/// On the answer to a forwarded call: this coordinator does not lead, and nothing was begun.
const NOT_LEADING: HeaderName = HeaderName::from_static("containarium-not-leading");

/// For the coordinator that forwarded; what it reads as a refusal if it is older than this header.
pub(super) fn not_leading(refusal: Refusal) -> Response<Body> {
    let mut response = Status::from(refusal).into_http();
    response.headers_mut().insert(NOT_LEADING, HeaderValue::from_static("1"));
    response
}

pub(super) fn is_not_leading(response: &Response<Body>) -> bool {
    response.headers().contains_key(NOT_LEADING)
}

/// Whether a call failed before there was anybody to hear it.
pub(super) fn never_connected(error: &(dyn Error + 'static)) -> bool {
    error.is::<ConnectError>() || error.source().is_some_and(never_connected)
}

pub(super) fn lost(error: &(dyn Error + 'static)) -> Refusal {
    tracing::info!(error, "the leader was lost during a call");
    Refusal::new(Reason::NotReady, "the leading coordinator went away: whether it was recorded is not known")
        .hint("repeat the command: what was done already is not done twice")
}

/// The same, but broken off it ends with a refusal. The bare truth would be a broken stream, which reads as our defect.
pub(super) fn to_its_end(response: Response<Body>) -> Response<Body> {
    if http_body::Body::is_end_stream(response.body()) {
        return response;
    }
    response.map(|body| {
        let frames = BodyStream::new(body).map(|frame| frame.or_else(|error| ending(lost(&error))));
        Body::new(StreamBody::new(frames))
    })
}

fn ending(refusal: Refusal) -> Result<Frame<tonic::codegen::Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    Status::from(refusal).add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::BodyExt;
    use tonic::codegen::Bytes;

    use super::*;

    #[tokio::test]
    async fn what_breaks_off_ends_with_a_refusal_after_all_that_was_said() {
        let said = [Ok(Frame::data(Bytes::from_static(b"said"))), Err(Status::unknown("broken pipe"))];
        let response = to_its_end(Response::new(Body::new(StreamBody::new(stream::iter(said)))));
        let all = response.into_body().collect().await.unwrap();
        let status = Status::from_header_map(all.trailers().unwrap()).unwrap();
        assert_eq!(Refusal::from_status(&status).unwrap().reason, Reason::NotReady);
        assert_eq!(all.to_bytes(), "said");
    }
}
