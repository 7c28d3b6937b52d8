//! When the same thing may be said again: at once the first time, then after growing waits. It is told the time.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Remembers what was said, by key; another `version` of a key is news.
#[derive(Debug)]
pub(crate) struct Pacer<K, V> {
    min: Duration,
    max: Duration,
    said: HashMap<K, Said<V>>,
}

#[derive(Debug)]
struct Said<V> {
    version: V,
    wait: Duration,
    again_at: Instant,
}

impl<K: Hash + Eq, V: PartialEq> Pacer<K, V> {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, said: HashMap::new() }
    }

    /// Whether it may be said now. If so, it counts as said.
    pub(crate) fn may_say(&mut self, key: K, version: V, now: Instant) -> bool {
        let wait = match self.said.get(&key) {
            Some(said) if said.version == version && now < said.again_at => return false,
            Some(said) if said.version == version => (said.wait * 2).min(self.max),
            Some(_) | None => self.min,
        };
        self.said.insert(key, Said { version, wait, again_at: now + wait });
        true
    }

    /// Forgets all but what is still to be said, so that it starts afresh when it comes again.
    pub(crate) fn keep(&mut self, still: impl Fn(&K) -> bool) {
        self.said.retain(|key, _| still(key));
    }

    /// Resolves when the next may be said again; never, if there is none.
    pub(crate) async fn until_next(&self) {
        match self.next_at() {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }

    fn next_at(&self) -> Option<Instant> {
        self.said.values().map(|said| said.again_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_once_then_after_growing_waits_until_it_is_news() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(3));
        let mut pacer = Pacer::new(min, max);
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        assert!(pacer.may_say("a", 1, at(0)));
        assert!(!pacer.may_say("a", 1, at(0)));
        assert!(pacer.may_say("a", 1, at(1)));
        assert!(!pacer.may_say("a", 1, at(2)));
        assert!(pacer.may_say("a", 1, at(3)));
        assert_eq!(pacer.next_at(), Some(at(6)), "3 s is the longest");
        assert!(pacer.may_say("a", 2, at(3)), "another version is news");
        pacer.keep(|_| false);
        assert!(pacer.may_say("a", 2, at(3)), "forgotten");
    }
}
