//! Watches for the cloud's notice that this machine is about to be taken away, and uses what is left of its life: says
//! so, and stops the containers cleanly. It must never start or change anything, and never comes back from a notice: the
//! machine ends within half a minute of it, and everything is as ordered when it starts anew.
//!
//! The notice is Google Compute Engine's: the metadata server's `instance/preempted` turns from FALSE to TRUE.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use reqwest::{Client, header::ETAG};
use tokio::time::{sleep, timeout};

use crate::{
    error::AgentError,
    host::{Host, HostError, Power, StopMode},
    ledger::Ledger,
    membership::Membership,
};

/// Below any machine's metadata server.
const PATH: &str = "/computeMetadata/v1/instance/preempted";
/// Without it the server refuses: it tells us from a page that a browser was lured to.
const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");
/// The server holds a question for so long if nothing changes.
const HOLD: Duration = Duration::from_secs(60);
/// A server on the same machine answers in milliseconds; the start of the agent waits for the first answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Between questions to a server that does not hold them, or does not answer: of 30 s after a notice, this much is lost.
const PAUSE: Duration = Duration::from_secs(1);

/// How the cloud tells.
pub(crate) struct Notices {
    client: Client,
    url: String,
}

struct Answer {
    preempted: bool,
    etag: Option<String>,
}

impl Notices {
    /// `server`: "http://169.254.169.254".
    pub(crate) fn of(server: &str) -> Result<Self, AgentError> {
        let client = Client::builder()
            .no_proxy()
            .connect_timeout(ANSWER)
            .build()
            .map_err(|error| AgentError::Host(format!("making a client for {server}: {error}")))?;
        Ok(Self { client, url: format!("{}{PATH}", server.trim_end_matches('/')) })
    }

    /// What is so now, or, with `after`, as soon as it is no longer what that answer said.
    async fn ask(&self, after: Option<&str>) -> Result<Answer, reqwest::Error> {
        let mut request = self.client.get(&self.url).header(FLAVOR.0, FLAVOR.1).timeout(ANSWER);
        if let Some(etag) = after {
            let hold = HOLD.as_secs().to_string();
            request = request
                .query(&[("wait_for_change", "true"), ("timeout_sec", &hold), ("last_etag", etag)])
                .timeout(HOLD + ANSWER);
        }
        let response = request.send().await?.error_for_status()?;
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(ToOwned::to_owned);
        let preempted = response.text().await?.trim().eq_ignore_ascii_case("true");
        Ok(Answer { preempted, etag })
    }

    /// Whether the notice was given already: an agent that starts after it must begin nothing. No answer is no notice.
    pub(crate) async fn given(&self) -> bool {
        matches!(timeout(ANSWER, self.ask(None)).await, Ok(Ok(Answer { preempted: true, .. })))
    }

    /// Waits for the notice, for as long as it takes.
    async fn until_given(&self, ledger: &Ledger) {
        let mut etag = None;
        loop {
            let asked_at = Instant::now();
            match self.ask(etag.as_deref()).await {
                Ok(Answer { preempted: true, .. }) => return,
                Ok(answer) => {
                    ledger.set_blind(None);
                    etag = answer.etag;
                    if etag.is_none() || asked_at.elapsed() < PAUSE {
                        sleep(PAUSE).await;
                    }
                }
                Err(error) => {
                    ledger.set_blind(Some(format!("a preemption would not be noticed: {}", causes(&error))));
                    etag = None;
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// reqwest's own text leaves out why.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Runs until dropped; without `notices`, does nothing.
pub(crate) async fn run<H: Host>(
    notices: Option<Notices>,
    host: Arc<H>,
    ledger: Arc<Ledger>,
    membership: Arc<Membership>,
) -> AgentError {
    if let Some(notices) = notices {
        notices.until_given(&ledger).await;
        tracing::warn!("this machine is about to be taken away: its containers are being stopped");
        ledger.set_preempting();
        match leave(&*host, &membership).await {
            Ok(stopped) => tracing::info!(stopped, "ready to be taken away"),
            Err(error) => tracing::error!(%error, "the containers could not be stopped in time"),
        }
    }
    std::future::pending().await
}

/// Stops what runs, all at once: each has its own grace, and they share the half minute.
async fn leave<H: Host>(host: &H, membership: &Membership) -> Result<usize, HostError> {
    let Some(fleet) = membership.fleet().await else { return Ok(0) };
    let mut instances = host.instances().await?;
    // I6: what is not ours is left to Incus.
    instances.retain(|i| i.power == Power::Running && i.stamp.as_ref().is_some_and(|stamp| stamp.fleet == fleet));
    let stop = |name: String| async move {
        let stopped = host.stop(&name, StopMode::Brief).await;
        if let Err(error) = &stopped {
            tracing::warn!(container = name, %error, "not stopped");
        }
        stopped.is_ok()
    };
    let stopped = join_all(instances.into_iter().map(|instance| stop(instance.name))).await;
    host.flush().await?;
    Ok(stopped.into_iter().filter(|stopped| *stopped).count())
}
