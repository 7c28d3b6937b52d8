//! Progress streams: wake on any change, read the truth again, say what is new. No timer is on the path. A stream owns
//! nothing: a caller who leaves, or a stream that is dropped, changes nothing.

use std::{sync::Arc, time::Instant};

use containarium_proto::{
    error::{Reason, Refusal},
    ids::AccessRevision,
    names::{NodeName, Username},
    spec::Step,
    v1,
};
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::watch;
use tonic::Status;

use crate::reign::Reign;

pub(super) type ProgressStream = BoxStream<'static, Result<v1::Progress, Status>>;

/// What a look at the truth gives.
#[derive(Debug)]
pub(super) enum Look {
    /// Nothing new; look again at any change, or at this time.
    Wait(Option<Instant>),
    /// Something new; there may be more.
    Say(v1::Progress),
    /// The last message.
    Done(v1::Progress),
}

/// What a caller waits for. Remembers only what it has said.
pub(super) trait Goal: Send + 'static {
    fn look(&mut self, reign: &Reign) -> impl Future<Output = Result<Look, Refusal>> + Send;
}

/// Streams until the goal is reached, has failed, or was waited for long enough.
pub(super) fn follow(reign: Arc<Reign>, goal: impl Goal) -> ProgressStream {
    let follower = Follower {
        changes: reign.changes(),
        until: Instant::now() + reign.config.timings.stream_limit,
        reign,
        goal,
        ended: false,
    };
    futures::stream::unfold(follower, |mut follower| async move {
        let item = follower.next().await?;
        Some((item.map_err(Status::from), follower))
    })
    .boxed()
}

/// A stream of one message.
pub(super) fn once(progress: v1::Progress) -> ProgressStream {
    futures::stream::once(std::future::ready(Ok(progress))).boxed()
}

struct Follower<G> {
    reign: Arc<Reign>,
    changes: watch::Receiver<u64>,
    until: Instant,
    goal: G,
    ended: bool,
}

impl<G: Goal> Follower<G> {
    async fn next(&mut self) -> Option<Result<v1::Progress, Refusal>> {
        while !self.ended {
            // Before reading: a change while we read wakes us again.
            self.changes.mark_unchanged();
            match self.goal.look(&self.reign).await {
                Ok(Look::Say(progress)) => return Some(Ok(progress)),
                Ok(Look::Done(progress)) => {
                    self.ended = true;
                    return Some(Ok(progress));
                }
                Err(refusal) => {
                    self.ended = true;
                    return Some(Err(refusal));
                }
                Ok(Look::Wait(again)) => {
                    if let Some(refusal) = self.wait(again).await {
                        self.ended = true;
                        return Some(Err(refusal));
                    }
                }
            }
        }
        None
    }

    /// Until there is something to look at; or why to give up.
    async fn wait(&mut self, again: Option<Instant>) -> Option<Refusal> {
        let again = again.map_or(self.until, |at| at.min(self.until));
        tokio::select! {
            changed = self.changes.changed() => changed.is_err().then(stopping),
            () = self.reign.stopping.cancelled() => Some(stopping()),
            () = tokio::time::sleep_until(again.into()) => (Instant::now() >= self.until).then(too_long),
        }
    }
}

fn stopping() -> Refusal {
    Refusal::new(Reason::NotReady, "the coordinator is stopping; what you asked for is recorded and goes on")
        .hint("look at 'containarium list' when it is back")
}

fn too_long() -> Refusal {
    Refusal::new(Reason::Busy, "this takes too long to wait for; it is recorded and goes on without you")
        .hint("look at 'containarium list' from time to time")
}

/// What a caller has heard last, so that nothing is said twice.
#[derive(Debug, Default)]
pub(super) struct Said(Option<(u32, String)>);

impl Said {
    /// The message, if it is news.
    pub(super) fn news(&mut self, progress: v1::Progress) -> Option<Look> {
        let this = (progress.step, progress.message.clone());
        if self.0.as_ref() == Some(&this) {
            return None;
        }
        self.0 = Some(this);
        Some(Look::Say(progress))
    }
}

/// A message outside the count.
pub(super) fn remark(message: impl Into<String>) -> v1::Progress {
    v1::Progress { message: message.into(), ..Default::default() }
}

/// Step k of n.
pub(super) fn step(index: u32, total: u32, message: impl Into<String>) -> v1::Progress {
    v1::Progress { step: index, total, message: message.into(), ..Default::default() }
}

/// An agent's step, with our own `before` and `after` it. One that waits for its turn is not counted yet.
pub(super) fn agent_step(at: Step, (before, after): (u32, u32)) -> v1::Progress {
    match at {
        Step { total: 0, title, .. } => remark(title),
        Step { index, total, title } => step(index + before, total + before + after, title),
    }
}

/// "jump-1, jump-2 (why)"
fn name_nodes(nodes: &[(NodeName, Option<String>)]) -> String {
    let one = |(node, why): &(NodeName, Option<String>)| match why {
        Some(why) => format!("{node} ({why})"),
        None => node.to_string(),
    };
    nodes.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// How far a user's account has come, among the servers that answer.
pub(super) enum Reach {
    /// Everywhere.
    All,
    /// Not yet on these; worth waiting until then.
    Waiting(String, Instant),
    /// Still not on these: whoever waits is let go.
    Missing(String),
}

/// Waits for a user's account on every server that answers, but not for one that cannot make it.
#[derive(Debug, Default)]
pub(super) struct AccessWait {
    since: Option<Instant>,
}

impl AccessWait {
    pub(super) fn look(&mut self, reign: &Reign, user: &Username, revision: AccessRevision) -> Reach {
        let missing = reign.without_access(user, revision);
        let give_up_at = *self.since.get_or_insert_with(Instant::now) + reign.config.timings.pending_after;
        match (missing.is_empty(), Instant::now() < give_up_at) {
            (true, _) => Reach::All,
            (false, true) => Reach::Waiting(name_nodes(&missing), give_up_at),
            (false, false) => Reach::Missing(name_nodes(&missing)),
        }
    }
}
