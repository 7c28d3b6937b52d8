//! The events, followed: each that is in the log, once, in the order of their ids. The place that a follower has come to
//! is an id, so it holds across streams, and across coordinators.

use containarium_proto::{error::Refusal, v1};
use uuid::Uuid;

use super::{
    parse, render,
    watch::{News, View},
};
use crate::{reign::Reign, store::Event};

/// As many as a list gives.
const MAX_LAST: u32 = 1_000;
/// Of one message.
const BATCH: u32 = 500;

/// Where one follower is.
pub(super) struct Followed {
    subject: String,
    last: u32,
    /// The id up to which all was told; none before the first look.
    after: Option<Uuid>,
    /// A caller is told at once where it is, also if nothing happens.
    greeted: bool,
}

impl Followed {
    pub(super) fn new(request: v1::WatchEventsRequest) -> Result<Self, Refusal> {
        let v1::WatchEventsRequest { subject, after, last } = request;
        Ok(Self { after: parse::cursor(&after)?, subject, last: last.min(MAX_LAST), greeted: false })
    }

    fn say(&mut self, events: Vec<Event>, after: Uuid, more: bool) -> News<v1::WatchEventsResponse> {
        self.after = Some(after);
        self.greeted = true;
        let events = events.into_iter().map(render::event).collect();
        News { said: vec![v1::WatchEventsResponse { events, cursor: after.to_string() }], more }
    }

    /// The latest, and the place right after them.
    async fn begin(&mut self, reign: &Reign) -> Result<News<v1::WatchEventsResponse>, Refusal> {
        let mut reader = reign.store.reader().await?;
        let newest = reader.newest_event().await?.unwrap_or_default();
        let mut events = reader.events(&self.subject, self.last).await?;
        // What came between the two reads is told next.
        let place = newest.to_string();
        events.retain(|event| event.id <= place);
        events.reverse();
        Ok(self.say(events, newest, true))
    }
}

impl View for Followed {
    type Said = v1::WatchEventsResponse;

    async fn news(&mut self, reign: &Reign) -> Result<News<Self::Said>, Refusal> {
        let Some(after) = self.after else { return self.begin(reign).await };
        let events = reign.store.reader().await?.events_after(&self.subject, after, BATCH).await?;
        match events.last().map(|event| event.id.parse::<Uuid>()) {
            Some(Ok(last)) => {
                let more = events.len() >= usize::try_from(BATCH).unwrap_or(usize::MAX);
                Ok(self.say(events, last, more))
            }
            Some(Err(_)) | None if self.greeted => Ok(News::none()),
            Some(Err(_)) | None => Ok(self.say(Vec::new(), after, false)),
        }
    }
}
