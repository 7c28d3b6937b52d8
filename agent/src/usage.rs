//! What all running containers use, in one go: few questions at a time, and whatever is known when the time is up. It
//! must never keep anything: whoever wants a share of CPU time compares two answers.

use std::time::Duration;

use containarium_proto::{ids::ContainerId, node::UsageSample};
use futures::StreamExt;
use rustix::time::{ClockId, clock_gettime};

use crate::host::Host;

/// incusd answers one in some ten milliseconds of CPU time: more at once would only keep its other callers waiting.
const AT_ONCE: usize = 8;

/// One sample for each that answers within `wait`.
pub(crate) async fn sample<H: Host>(
    host: &H,
    running: Vec<(ContainerId, String)>,
    wait: Duration,
) -> Vec<(ContainerId, UsageSample)> {
    let asked = running.len();
    let ask = |(id, name): (ContainerId, String)| async move {
        let usage = host.usage(&name).await;
        let at = since_boot();
        match usage {
            Ok(usage) => usage.map(|usage| (id, UsageSample { usage, at })),
            Err(error) => {
                tracing::debug!(container = name, error = error.message, "its use cannot be read");
                None
            }
        }
    };
    let mut answers = futures::stream::iter(running.into_iter().map(ask)).buffer_unordered(AT_ONCE);
    let mut samples = Vec::with_capacity(asked);
    let all = async {
        while let Some(answer) = answers.next().await {
            samples.extend(answer);
        }
    };
    if tokio::time::timeout(wait, all).await.is_err() {
        tracing::debug!(asked, answered = samples.len(), "not every container's use was read in time");
    }
    samples
}

/// The kernel's own count: `Instant` cannot be compared with that of the agent's next process.
fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}
