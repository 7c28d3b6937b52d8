//! Since when each container has not been used: no ssh session, next to no CPU. Judged from one look to the next, so an
//! agent that starts begins to count anew, and so does a container under a new order: both only ever delay a stop. It
//! must never stop anything itself.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use containarium_proto::ids::{ContainerId, Generation};

use crate::{
    host::{Activity, Host},
    ledger::Ledger,
};

/// More than a hundredth of one CPU is use. An idle Linux with Docker in it takes a third of that.
const BUSY_DIVISOR: u32 = 100;

/// One look, with what follows from it and the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    generation: Generation,
    at: Instant,
    cpu: Duration,
    idle_since: Option<Instant>,
}

impl Sample {
    /// Pure: `at` is when `seen` was read.
    fn next(before: Option<&Self>, generation: Generation, at: Instant, seen: Activity) -> Self {
        // CPU time that went back was started anew meanwhile: nothing can be compared.
        let comparable = before.filter(|before| before.generation == generation && before.cpu <= seen.cpu);
        let idle_since = comparable.and_then(|before| {
            let busy = (seen.cpu - before.cpu) * BUSY_DIVISOR > at.saturating_duration_since(before.at);
            let used = busy || seen.ssh_sessions > 0;
            // From the first look that found it idle: the one before may have ended in use.
            (!used).then(|| before.idle_since.unwrap_or(at))
        });
        Self { generation, at, cpu: seen.cpu, idle_since }
    }
}

/// The last look at every container that runs.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    last: BTreeMap<ContainerId, Sample>,
}

impl Meter {
    /// Looks at every container once, and notes in the ledger what follows.
    pub(crate) async fn measure<H: Host>(&mut self, host: &H, ledger: &Ledger) {
        let running = ledger.running();
        self.last.retain(|id, _| running.iter().any(|order| order.id == *id));
        for order in running {
            let sample = match host.activity(&order.name).await {
                Ok(Some(seen)) => {
                    let before = self.last.get(&order.id);
                    Some(Sample::next(before, order.generation, Instant::now(), seen))
                }
                Ok(None) => None,
                Err(error) => {
                    // The next look is compared with the last one that told something.
                    tracing::debug!(container = %order.name, %error, "whether it is used cannot be seen");
                    continue;
                }
            };
            ledger.set_idle(order.id, order.generation, sample.and_then(|sample| sample.idle_since));
            match sample {
                Some(sample) => self.last.insert(order.id, sample),
                None => self.last.remove(&order.id),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Looks a minute apart: CPU used so far in milliseconds, and sessions. Gives the minute since which it is idle.
    fn idle_since(looks: &[(u64, u32)]) -> Vec<Option<u32>> {
        let start = Instant::now();
        let (mut before, mut found) = (None, Vec::new());
        for (minute, (cpu, ssh_sessions)) in (0u32..).zip(looks) {
            let seen = Activity { cpu: Duration::from_millis(*cpu), ssh_sessions: *ssh_sessions };
            let sample = Sample::next(before.as_ref(), Generation(1), start + MINUTE * minute, seen);
            before = Some(sample);
            let minutes = |at: Instant| u32::try_from((at - start).as_secs() / 60).unwrap();
            found.push(sample.idle_since.map(minutes));
        }
        found
    }

    #[test]
    fn idle_is_counted_from_the_first_look_that_found_it_so() {
        // The first look has nothing to compare with.
        assert_eq!(idle_since(&[(5_000, 0), (5_100, 0), (5_200, 0)]), [None, Some(1), Some(1)]);
    }

    #[test]
    fn a_session_or_more_than_a_hundredth_of_a_cpu_is_use() {
        assert_eq!(idle_since(&[(0, 0), (0, 1), (0, 1), (0, 0)]), [None, None, None, Some(3)]);
        assert_eq!(idle_since(&[(0, 0), (600, 0), (1_201, 0), (1_300, 0)]), [None, Some(1), None, Some(3)]);
    }

    #[test]
    fn a_container_that_was_started_anew_or_ordered_anew_counts_anew() {
        assert_eq!(idle_since(&[(900, 0), (900, 0), (10, 0), (10, 0)]), [None, Some(1), None, Some(3)]);
        let at = Instant::now();
        let idle = Sample { generation: Generation(1), at, cpu: Duration::ZERO, idle_since: Some(at) };
        let next = |generation| Sample::next(Some(&idle), Generation(generation), at + MINUTE, Activity::default());
        assert_eq!(next(1).idle_since, Some(at));
        assert_eq!(next(2).idle_since, None);
    }
}
