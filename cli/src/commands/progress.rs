//! Follows a stream of progress: a live line on a terminal, plain lines elsewhere, always on standard error.

use std::{io::IsTerminal, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use containarium_proto::{
    error::{Reason, Refusal},
    v1::{self, fleet_client::FleetClient},
};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use crate::{
    client::Client,
    errors::{self, Failure},
    output,
};

/// Often enough to look alive.
const TICK: Duration = Duration::from_millis(120);
/// A coordinator that was killed is back within seconds; after this a person should look.
const RETRY_FOR: Duration = Duration::from_secs(60);
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Shows steps as they come.
pub(crate) struct Progress {
    line: Option<ProgressBar>,
    silent: bool,
    last: String,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let line = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { line, silent: false, last: String::new() }
    }

    /// For one of several that go on at a time.
    pub(crate) fn silent() -> Self {
        Self { line: None, silent: true, last: String::new() }
    }

    pub(crate) fn say(&mut self, text: String) {
        if self.silent || text.is_empty() || text == self.last {
            return;
        }
        match &self.line {
            Some(bar) => bar.set_message(errors::one_line(&text)),
            None => output::note(&text),
        }
        self.last = text;
    }

    /// Shows everything until the end and gives the last message; `None` if the stream ended without a word.
    pub(crate) async fn follow(&mut self, mut stream: Streaming<v1::Progress>) -> Result<Option<v1::Progress>, Status> {
        let mut last = None;
        while let Some(progress) = stream.message().await? {
            self.say(shown(&progress));
            last = Some(progress);
        }
        Ok(last)
    }

    /// Leaves the last line standing.
    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.line.take() {
            bar.finish();
        }
    }
}

/// Follows a call to its end and gives its last message.
pub(crate) async fn to_the_end(
    client: &Client,
    stream: Result<Streaming<v1::Progress>, Status>,
) -> Result<v1::Progress, Failure> {
    let mut progress = Progress::new();
    let outcome = match stream {
        Ok(stream) => progress.follow(stream).await,
        Err(status) => Err(status),
    };
    progress.end();
    Ok(outcome.map_err(|status| client.failure(&status))?.unwrap_or_default())
}

/// Follows a change whose request has an id of its own to its end: a coordinator that dies meanwhile is asked again.
pub(crate) async fn change<M: Clone, F>(
    client: &Client,
    message: M,
    call: impl Fn(FleetClient<Channel>, Request<M>) -> F,
) -> Result<v1::Progress, Failure>
where
    F: Future<Output = Result<Response<Streaming<v1::Progress>>, Status>>,
{
    let last = persist(client, &message, call).await;
    Ok(last.map_err(|status| client.failure(&status))?.unwrap_or_default())
}

/// Sends a request with an id of its own again and again while nobody is there to answer it, and gives its last message;
/// `None` if it ended without a word.
pub(crate) async fn persist<M: Clone, F>(
    client: &Client,
    message: &M,
    call: impl Fn(FleetClient<Channel>, Request<M>) -> F,
) -> Result<Option<v1::Progress>, Status>
where
    F: Future<Output = Result<Response<Streaming<v1::Progress>>, Status>>,
{
    persist_with(Progress::new(), client, message, call).await
}

/// The same, showing it in this way.
pub(crate) async fn persist_with<M: Clone, F>(
    progress: Progress,
    client: &Client,
    message: &M,
    call: impl Fn(FleetClient<Channel>, Request<M>) -> F,
) -> Result<Option<v1::Progress>, Status>
where
    F: Future<Output = Result<Response<Streaming<v1::Progress>>, Status>>,
{
    let progress = Mutex::new(progress);
    let once = || async {
        let stream = client.stream(message.clone(), &call).await?;
        progress.lock().await.follow(stream).await
    };
    let patient = ExponentialBuilder::default()
        .with_min_delay(RETRY_MIN)
        .with_max_delay(RETRY_MAX)
        .with_total_delay(Some(RETRY_FOR))
        .without_max_times();
    let began = std::cell::Cell::new(false);
    let outcome = once
        .retry(patient)
        .when(|status| {
            // Only what may pass: a broken link, a coordinator that restarts. Never at a first connect, which is more
            // likely a wrong address than a coordinator that dies just now.
            let of_a_node = Refusal::from_status(status).is_some_and(|r| r.reason != Reason::NotReady);
            let passing = errors::from_status(&client.server, status).code() == errors::UNREACHABLE && !of_a_node;
            began.set(began.get() || !errors::never_connected(status));
            passing && began.get()
        })
        .notify(|_, _| output::note("lost the coordinator, asking again"))
        .await;
    progress.lock().await.end();
    outcome
}

fn shown(progress: &v1::Progress) -> String {
    match (progress.step, progress.total) {
        (0, _) | (_, 0) => progress.message.clone(),
        (step, total) => format!("[{step}/{total}] {}", progress.message),
    }
}
