//! The line to one agent: the channel, with the points at which a test can watch a call or lose it. Without one it is
//! the channel and nothing else.

use std::{
    error::Error,
    task::{Context, Poll},
};

use containarium_proto::names::NodeName;
use futures::{
    FutureExt,
    future::{BoxFuture, Either, MapErr, TryFutureExt},
};
use http_body_util::{BodyExt, Full};
use tonic::{
    body::Body,
    codegen::http::{Request, Response},
    transport::{Channel, channel::ResponseFuture},
};
use tower::Service;

use crate::faults::{Call, FaultPoints, Moment};

type Failure = Box<dyn Error + Send + Sync>;
type Direct = MapErr<ResponseFuture, fn(tonic::transport::Error) -> Failure>;

/// A channel to a node's agent.
#[derive(Debug, Clone)]
pub(super) struct Line {
    channel: Channel,
    node: NodeName,
    faults: FaultPoints,
}

impl Line {
    pub(super) fn new(channel: Channel, node: &NodeName, faults: &FaultPoints) -> Self {
        Self { channel, node: node.clone(), faults: faults.clone() }
    }
}

impl Service<Request<Body>> for Line {
    type Response = Response<Body>;
    type Error = Failure;
    type Future = Either<Direct, BoxFuture<'static, Result<Response<Body>, Failure>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.channel.poll_ready(context).map_err(Failure::from)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !self.faults.is_watched() {
            let boxed: fn(tonic::transport::Error) -> Failure = Failure::from;
            return Either::Left(self.channel.call(request).map_err(boxed));
        }
        // The channel that was found ready is the one to call; its clone waits for the next call.
        let waiting = self.channel.clone();
        let channel = std::mem::replace(&mut self.channel, waiting);
        Either::Right(watched(channel, self.node.clone(), self.faults.clone(), request).boxed())
    }
}

async fn watched(
    mut channel: Channel,
    node: NodeName,
    faults: FaultPoints,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let (head, body) = request.into_parts();
    let frame = body.collect().await?.to_bytes();
    let path = head.uri.path().to_owned();
    let call = Call { node: node.as_str(), method: path.rsplit('/').next().unwrap_or_default(), frame: &frame };
    let lost = |what: &str| Failure::from(format!("the connection broke: the {what} was lost"));
    if faults.breaks(Moment::Calling(call)) {
        return Err(lost("request"));
    }
    let answer = channel.call(Request::from_parts(head, Body::new(Full::new(frame.clone())))).await;
    match faults.breaks(Moment::Answered(call)) {
        true => Err(lost("reply")),
        false => Ok(answer?),
    }
}
