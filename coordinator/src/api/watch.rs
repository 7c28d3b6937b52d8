//! Streams that go on: woken by any change, they read the truth again and say what is new. Bounded in rate, in number and
//! in life, so that nobody who forgot a window costs much. A stream owns nothing but its place.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use containarium_proto::error::{Reason, Refusal};
use futures::{StreamExt, stream::BoxStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::Status;

use crate::reign::Reign;

/// Twice a second is live to a person. Every look reads the database.
const GAP: Duration = Duration::from_millis(500);
/// A watch rests so many times longer than its look took: a list that takes a second to make is not made all the time.
const REST: u32 = 8;
/// At once, of all callers: each reads a whole list at every change. More than there are operators.
const MAX_WATCHES: usize = 32;

pub(super) type WatchStream<T> = BoxStream<'static, Result<T, Status>>;

/// What a look found.
#[derive(Debug)]
pub(super) struct News<T> {
    pub(super) said: Vec<T>,
    /// There is more to find at once.
    pub(super) more: bool,
}

impl<T> News<T> {
    pub(super) fn none() -> Self {
        Self { said: Vec::new(), more: false }
    }
}

/// What a caller watches. Remembers only what it has said.
pub(super) trait View: Send + 'static {
    type Said: Send + 'static;
    fn news(&mut self, reign: &Reign) -> impl Future<Output = Result<News<Self::Said>, Refusal>> + Send;
}

/// The places of all watches.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Semaphore>);

impl Places {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_WATCHES)))
    }

    /// Looks at once, and after every change until the stream has lived long enough: then it ends well, and a caller who
    /// is still there asks again.
    pub(super) fn watch<V: View>(&self, reign: Arc<Reign>, view: V) -> Result<WatchStream<V::Said>, Refusal> {
        let place = self.0.clone().try_acquire_owned().map_err(|_| too_many())?;
        let watcher = Watcher {
            changes: reign.changes(),
            commits: reign.store.commits(),
            until: Instant::now() + reign.config.timings.stream_limit,
            next_look: None,
            ready: VecDeque::new(),
            ended: false,
            reign,
            view,
            _place: place,
        };
        let stream = futures::stream::unfold(watcher, |mut watcher| async move {
            let item = watcher.next().await?;
            Some((item.map_err(Status::from), watcher))
        });
        Ok(stream.boxed())
    }
}

fn too_many() -> Refusal {
    Refusal::new(Reason::Busy, format!("{MAX_WATCHES} callers watch the fleet already: no more at once"))
        .hint("look without --watch or --follow, or end one of those")
}

fn stopping() -> Refusal {
    Refusal::new(Reason::NotReady, "the coordinator is stopping").hint("repeat the command when it is back")
}

struct Watcher<V: View> {
    reign: Arc<Reign>,
    /// Of what is known of the nodes, and of the database.
    changes: watch::Receiver<u64>,
    commits: watch::Receiver<u64>,
    until: Instant,
    /// None: look at once.
    next_look: Option<Instant>,
    view: V,
    ready: VecDeque<V::Said>,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

/// What a wait ended with.
enum Turn {
    Look,
    Over,
    Stopping,
}

impl<V: View> Watcher<V> {
    async fn next(&mut self) -> Option<Result<V::Said, Refusal>> {
        loop {
            if let Some(said) = self.ready.pop_front() {
                return Some(Ok(said));
            }
            if self.ended {
                return None;
            }
            let found = match self.turn().await {
                Turn::Look => self.look().await,
                Turn::Over => return None,
                Turn::Stopping => Err(stopping()),
            };
            if let Err(refusal) = found {
                self.ended = true;
                return Some(Err(refusal));
            }
        }
    }

    async fn look(&mut self) -> Result<(), Refusal> {
        // Before reading: a change while we read wakes us again.
        self.changes.mark_unchanged();
        self.commits.mark_unchanged();
        let began = Instant::now();
        let News { said, more } = self.view.news(&self.reign).await?;
        let rest = GAP.max(began.elapsed() * REST);
        self.next_look = (!more).then(|| Instant::now() + rest);
        self.ready = said.into();
        Ok(())
    }

    async fn turn(&mut self) -> Turn {
        let Some(next_look) = self.next_look else { return Turn::Look };
        let changed = async {
            // Neither sender ends before the reign does.
            tokio::select! {
                _ = self.changes.changed() => {}
                _ = self.commits.changed() => {}
            }
            tokio::time::sleep_until(next_look.into()).await;
        };
        tokio::select! {
            () = changed => Turn::Look,
            () = self.reign.stopping.cancelled() => Turn::Stopping,
            () = tokio::time::sleep_until(self.until.into()) => Turn::Over,
        }
    }
}
