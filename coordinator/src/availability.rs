//! Whether a node answers: the machine's own word, kept in memory only. Pure: it is told the time. It must never lead
//! to anything being destroyed; a silent node may be running all its containers.

use std::time::{Duration, Instant};

/// So many missed calls, and the time, make a node offline: one lost packet or one slow second must not.
const MISSES_FOR_OFFLINE: u32 = 3;

/// What is known of a node's answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Availability {
    /// Not tried in this reign.
    Unknown,
    /// Answered its last call.
    Online,
    /// Answered its last call, and said that its machine is about to be taken away.
    Preempting,
    /// Missed a call.
    Suspect,
    /// Missed three, over a time that no restart of an agent takes.
    Offline,
}

/// The running account of one node's answers and misses.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    state: Availability,
    misses: u32,
    /// The last answer; before any, the first try.
    silent_since: Option<Instant>,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { state: Availability::Unknown, misses: 0, silent_since: None }
    }

    pub(crate) fn state(&self) -> Availability {
        self.state
    }

    /// It answered; gives the new state if that is a change.
    pub(crate) fn answered(&mut self, now: Instant, preempting: bool) -> Option<Availability> {
        self.misses = 0;
        self.silent_since = Some(now);
        self.enter(if preempting { Availability::Preempting } else { Availability::Online })
    }

    /// A call to it failed; gives the new state if that is a change.
    pub(crate) fn missed(&mut self, now: Instant, offline_after: Duration) -> Option<Availability> {
        self.misses = self.misses.saturating_add(1);
        let since = *self.silent_since.get_or_insert(now);
        let long_enough = now.saturating_duration_since(since) >= offline_after;
        if self.misses >= MISSES_FOR_OFFLINE && long_enough {
            return self.enter(Availability::Offline);
        }
        match self.state {
            Availability::Unknown | Availability::Online | Availability::Preempting => {
                self.enter(Availability::Suspect)
            }
            Availability::Suspect | Availability::Offline => None,
        }
    }

    fn enter(&mut self, state: Availability) -> Option<Availability> {
        if self.state == state {
            return None;
        }
        self.state = state;
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AFTER: Duration = Duration::from_secs(15);

    #[test]
    fn one_miss_is_suspect_three_and_fifteen_seconds_offline_one_answer_online() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut health = Health::new();
        assert_eq!(health.answered(at(0), false), Some(Availability::Online));
        assert_eq!(health.missed(at(5), AFTER), Some(Availability::Suspect));
        assert_eq!(health.missed(at(6), AFTER), None);
        assert_eq!(health.missed(at(7), AFTER), None, "three misses, but in seven seconds");
        assert_eq!(health.missed(at(15), AFTER), Some(Availability::Offline));
        assert_eq!(health.missed(at(16), AFTER), None);
        assert_eq!(health.answered(at(20), false), Some(Availability::Online));
    }

    #[test]
    fn a_node_that_is_taken_away_says_so_until_it_is_silent_and_comes_back_as_any_other() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut health = Health::new();
        health.answered(at(0), false);
        assert_eq!(health.answered(at(1), true), Some(Availability::Preempting));
        assert_eq!(health.answered(at(2), true), None);
        assert_eq!(health.missed(at(30), AFTER), Some(Availability::Suspect));
        assert_eq!(health.missed(at(31), AFTER), None);
        assert_eq!(health.missed(at(32), AFTER), Some(Availability::Offline));
        assert_eq!(health.answered(at(90), false), Some(Availability::Online));
    }

    #[test]
    fn a_node_that_never_answered_is_judged_from_the_first_try() {
        let start = Instant::now();
        let mut health = Health::new();
        assert_eq!(health.missed(start, AFTER), Some(Availability::Suspect));
        assert_eq!(health.missed(start + AFTER, AFTER), None, "two misses only");
        assert_eq!(health.missed(start + AFTER, AFTER), Some(Availability::Offline));
    }

    proptest! {
        #[test]
        fn offline_only_after_enough_silence(steps in prop::collection::vec((any::<bool>(), 0u64..10_000), 1..60)) {
            let mut now = Instant::now();
            let (mut health, mut last_answer, mut misses) = (Health::new(), now, 0);
            let mut first = true;
            for (answered, millis) in steps {
                now += Duration::from_millis(millis);
                if first { last_answer = now; first = false; }
                if answered {
                    health.answered(now, false);
                    (last_answer, misses) = (now, 0);
                } else {
                    health.missed(now, AFTER);
                    misses += 1;
                }
                if health.state() == Availability::Offline {
                    prop_assert!(misses >= 3 && now - last_answer >= AFTER);
                }
                prop_assert_eq!(health.state() == Availability::Online, answered);
            }
        }
    }
}
