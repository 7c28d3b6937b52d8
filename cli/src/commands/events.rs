//! `events`.

use containarium_proto::v1;
use serde::Serialize;

use crate::{
    args::{self, Format},
    client::Client,
    errors::Failure,
    output::{self, Event},
};

#[derive(Debug, Serialize)]
struct Events {
    events: Vec<Event>,
}

pub(crate) async fn run(client: &Client, format: Format, command: &args::Events) -> Result<(), Failure> {
    let request = v1::ListEventsRequest { subject: command.subject.clone().unwrap_or_default(), limit: command.limit };
    let answer = client.read(request, |mut fleet, request| async move { fleet.list_events(request).await }).await?;
    let events = Events { events: answer.events.iter().map(Event::from).collect() };
    output::print(format, &events, |_| output::event_table(&events.events))
}
