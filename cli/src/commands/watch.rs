//! `list --watch`: the list again whenever it changes. On a terminal a table in place, elsewhere one document after
//! another.

use std::{cell::Cell, ops::ControlFlow};

use containarium_proto::v1;
use tokio::sync::watch;

use super::list::{self, Containers, PAGE};
use crate::{
    args::{Format, Global, List},
    client::Client,
    errors::Failure,
    live::{self, REDRAW, Screen, Word},
    output,
};

pub(crate) async fn list(client: &Client, global: &Global, wanted: &List) -> Result<(), Failure> {
    let began = Cell::new(false);
    let screen = match global.format {
        Format::Table | Format::Wide => Screen::of_terminal(),
        Format::Json | Format::Yaml => None,
    };
    let work = async {
        list::check(client, wanted).await?;
        match screen {
            Some(screen) => on_terminal(client, &began, (global.format, wanted), screen).await,
            None => as_documents(client, &began, (global.format, wanted)).await,
        }
    };
    live::go_on(global.timeout, &began, work).await
}

/// Hears whole lists, put together from their parts.
async fn follow(
    client: &Client,
    began: &Cell<bool>,
    mut hear: impl FnMut(Word<Vec<v1::Container>>) -> Result<ControlFlow<()>, Failure>,
) -> Result<(), Failure> {
    let open = || {
        let request = v1::ListContainersRequest { page_size: PAGE, page_token: String::new() };
        client.stream(request, |mut fleet, request| async move { fleet.watch_containers(request).await })
    };
    let mut parts = Vec::new();
    let whole = |word: Word<v1::ListContainersResponse>| match word {
        Word::Said(part) => {
            parts.extend(part.containers);
            match part.next_page_token.as_str() {
                "" => hear(Word::Said(std::mem::take(&mut parts))),
                _ => Ok(ControlFlow::Continue(())),
            }
        }
        Word::Lost => {
            parts.clear();
            hear(Word::Lost)
        }
    };
    live::follow(client, began, open, whole).await
}

async fn as_documents(client: &Client, began: &Cell<bool>, (format, wanted): (Format, &List)) -> Result<(), Failure> {
    let mut last = String::new();
    let print = |word: Word<Vec<v1::Container>>| match word {
        Word::Said(all) => {
            let text = output::one_of_many(format, &Containers::of(&all, wanted))?;
            // What changed may be nothing that is wanted.
            if text == last {
                return Ok(ControlFlow::Continue(()));
            }
            last = text;
            output::out_while_read(&last)
        }
        Word::Lost => Ok(ControlFlow::Continue(())),
    };
    follow(client, began, print).await
}

/// What there is to draw.
#[derive(Debug, Default)]
struct Seen {
    all: Vec<v1::Container>,
    lost: bool,
}

async fn on_terminal(
    client: &Client,
    began: &Cell<bool>,
    (format, wanted): (Format, &List),
    screen: Screen,
) -> Result<(), Failure> {
    let (to_screen, mut seen) = watch::channel(Seen::default());
    let hearing = follow(client, began, |word| {
        to_screen.send_modify(|seen| match word {
            Word::Said(all) => *seen = Seen { all, lost: false },
            Word::Lost => seen.lost = true,
        });
        Ok(ControlFlow::Continue(()))
    });
    let drawing = async {
        // Only a sender that is gone fails it, and ours is above.
        seen.changed().await.unwrap_or_default();
        // Also when nothing happens: ages go on.
        loop {
            let text = drawn(&seen.borrow_and_update(), format, wanted);
            screen.draw(&text)?;
            tokio::time::sleep(REDRAW).await;
        }
    };
    tokio::select! {
        ended = hearing => ended,
        failed = drawing => failed,
    }
}

fn drawn(seen: &Seen, format: Format, wanted: &List) -> String {
    let table = Containers::of(&seen.all, wanted).table(format == Format::Wide);
    match seen.lost {
        true => format!("{table}\nthe coordinator does not answer: this is what it said last\n"),
        false => table,
    }
}
