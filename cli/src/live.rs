//! Commands that go on: what is heard again and again from a coordinator that may restart, shown in place on a terminal,
//! until somebody has seen enough. It must never show anything twice that was heard once.

use std::{cell::Cell, io, ops::ControlFlow, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use console::Term;
use tonic::{Status, Streaming};

use crate::{
    client::Client,
    errors::{self, Failure},
    output,
};

/// Between tries at a coordinator that has gone: one that restarts is back in a second, one that is down for an hour
/// must not be hammered by everybody who watches.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Of a terminal. Faster is not seen better.
pub(crate) const REDRAW: Duration = Duration::from_secs(1);

/// Does `work`, which does not end by itself, until Ctrl-C, or for as long as was asked. `began` says whether anything
/// was heard: silence until the time is over is a failure.
pub(crate) async fn go_on(
    limit: Option<Duration>,
    began: &Cell<bool>,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let time_over = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        done = work => done,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(|error| Failure::new(1, format!("waiting for Ctrl-C: {error}")))
        }
        () = time_over => match began.get() {
            true => Ok(()),
            false => Err(Failure::new(errors::UNREACHABLE, "the coordinator did not answer in time")
                .hint("check --server or CONTAINARIUM_SERVER, or give more --timeout")),
        }
    }
}

/// What is heard of a coordinator.
pub(crate) enum Word<T> {
    Said(T),
    /// It does not answer at this moment.
    Lost,
}

/// How long to wait before asking again: longer each time, until something is heard.
pub(crate) struct Patience<'a> {
    client: &'a Client,
    began: &'a Cell<bool>,
    waits: Option<ExponentialBackoff>,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(client: &'a Client, began: &'a Cell<bool>) -> Self {
        Self { client, began, waits: None }
    }

    /// It answers.
    pub(crate) fn heard(&mut self) {
        self.began.set(true);
        if self.waits.take().is_some() {
            output::note("the coordinator answers again");
        }
    }

    /// Waits, or gives up: nothing was heard at all, which is more likely a wrong address than a coordinator that
    /// restarts just now; or it is no failure of the kind that passes.
    pub(crate) async fn lost(&mut self, failure: Failure) -> Result<(), Failure> {
        if !self.began.get() || failure.code() != errors::UNREACHABLE {
            return Err(failure);
        }
        let waits = self.waits.get_or_insert_with(|| {
            output::note(&format!("lost the coordinator at {}, asking again", self.client.server));
            let growing = ExponentialBuilder::default().with_min_delay(RETRY_MIN).with_max_delay(RETRY_MAX);
            growing.without_max_times().with_jitter().build()
        });
        tokio::time::sleep(waits.next().unwrap_or(RETRY_MAX)).await;
        Ok(())
    }
}

/// Hears everything a stream says, and what its successors say: a coordinator ends each after a while, or dies.
pub(crate) async fn follow<T, F>(
    client: &Client,
    began: &Cell<bool>,
    open: impl Fn() -> F,
    mut hear: impl FnMut(Word<T>) -> Result<ControlFlow<()>, Failure>,
) -> Result<(), Failure>
where
    F: Future<Output = Result<Streaming<T>, Status>>,
{
    let mut patience = Patience::new(client, began);
    loop {
        let failure = match open().await {
            Err(status) => Some(client.failure(&status)),
            Ok(stream) => match to_its_end(stream, &mut patience, &mut hear).await? {
                Ended::Enough => return Ok(()),
                Ended::Well => None,
                Ended::Badly(status) => Some(client.failure(&status)),
            },
        };
        if let Some(failure) = failure {
            if hear(Word::Lost)?.is_break() {
                return Ok(());
            }
            patience.lost(failure).await?;
        }
    }
}

/// How one stream ended.
enum Ended {
    /// We have heard enough.
    Enough,
    /// It has lived long enough for the coordinator, after having said something.
    Well,
    Badly(Status),
}

async fn to_its_end<T>(
    mut stream: Streaming<T>,
    patience: &mut Patience<'_>,
    hear: &mut impl FnMut(Word<T>) -> Result<ControlFlow<()>, Failure>,
) -> Result<Ended, Failure> {
    let mut spoke = false;
    loop {
        match stream.message().await {
            Ok(Some(said)) => {
                spoke = true;
                patience.heard();
                if hear(Word::Said(said))?.is_break() {
                    return Ok(Ended::Enough);
                }
            }
            Ok(None) if spoke => return Ok(Ended::Well),
            Ok(None) => return Ok(Ended::Badly(Status::unavailable("it ended the stream without a word"))),
            Err(status) => return Ok(Ended::Badly(status)),
        }
    }
}

/// A terminal that shows one text after another in the same place.
pub(crate) struct Screen {
    term: Term,
}

impl Screen {
    /// None: standard output is no terminal.
    pub(crate) fn of_terminal() -> Option<Self> {
        let term = Term::buffered_stdout();
        term.is_term().then_some(Self { term })
    }

    /// Shows as much of a text as there is room for.
    pub(crate) fn draw(&self, text: &str) -> Result<(), Failure> {
        let (rows, columns) = self.term.size();
        let lines = fitted(text, (rows.into(), columns.into()));
        self.place(&lines).map_err(Failure::from)
    }

    fn place(&self, lines: &[String]) -> io::Result<()> {
        self.term.move_cursor_to(0, 0)?;
        for line in lines {
            self.term.clear_line()?;
            self.term.write_line(line)?;
        }
        self.term.clear_to_end_of_screen()?;
        self.term.flush()
    }
}

/// The lines that fit, cut where they are too wide, with a word about those that do not. The last row stays free for the
/// cursor.
fn fitted(text: &str, (rows, columns): (usize, usize)) -> Vec<String> {
    let cut = |line: &str| console::truncate_str(line, columns, "").into_owned();
    let room = rows.saturating_sub(1).max(1);
    let all: Vec<&str> = text.lines().collect();
    if all.len() <= room {
        return all.into_iter().map(cut).collect();
    }
    let shown = room - 1;
    let more = format!("... and {} lines more", all.len() - shown);
    all[..shown].iter().copied().chain([more.as_str()]).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_to_the_terminal_and_says_so() {
        let text = "one and more\ntwo\nthree\nfour\n";
        assert_eq!(fitted(text, (5, 6)), ["one an", "two", "three", "four"]);
        assert_eq!(fitted(text, (4, 80)), ["one and more", "two", "... and 2 lines more"]);
        assert_eq!(fitted(text, (0, 80)), ["... and 4 lines more"]);
    }
}
