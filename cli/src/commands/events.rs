//! `events`: the latest, or those and each that follows.

use std::{
    cell::{Cell, RefCell},
    ops::ControlFlow,
};

use containarium_proto::v1;
use serde::Serialize;

use crate::{
    args::{self, Format, Global},
    client::Client,
    errors::Failure,
    live::{self, Word},
    output::{self, Event, cell},
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

/// Each as it happens, the oldest first. The coordinator says where we are in the log, so that the next one goes on right
/// there.
pub(crate) async fn follow(client: &Client, global: &Global, command: &args::Events) -> Result<(), Failure> {
    let began = Cell::new(false);
    let cursor = RefCell::new(String::new());
    let open = || {
        let request = v1::WatchEventsRequest {
            subject: command.subject.clone().unwrap_or_default(),
            after: cursor.borrow().clone(),
            last: command.limit,
        };
        client.stream(request, |mut fleet, request| async move { fleet.watch_events(request).await })
    };
    let print = |word: Word<v1::WatchEventsResponse>| {
        let Word::Said(answer) = word else { return Ok(ControlFlow::Continue(())) };
        let first = cursor.replace(answer.cursor).is_empty();
        let mut text = if first { header(global.format) } else { String::new() };
        for event in &answer.events {
            text += &shown(global.format, &event.into())?;
        }
        output::out_while_read(&text)
    };
    live::go_on(global.timeout, &began, live::follow(client, &began, open, print)).await
}

fn header(format: Format) -> String {
    match format {
        Format::Table | Format::Wide => line(["AT", "KIND", "SUBJECT", "MESSAGE"]),
        Format::Json | Format::Yaml => String::new(),
    }
}

fn shown(format: Format, event: &Event) -> Result<String, Failure> {
    match format {
        Format::Table | Format::Wide => Ok(line([&event.at, &event.kind, &event.subject, &event.message])),
        Format::Json | Format::Yaml => output::one_of_many(format, event),
    }
}

/// Nobody knows the widths of what is still to come: these are of the usual.
fn line([at, kind, subject, message]: [&str; 4]) -> String {
    format!("{:24}   {:22}   {:20}   {}\n", cell(at), cell(kind), cell(subject), cell(message))
}
