//! How long a container may live and idle, as people type it. Reading durations is the `humantime` crate's; the bounds
//! and the short form are ours.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Less leaves no time to read the warning; a year from now is as good as never, and is said so.
pub const TTL: Bounds = Bounds {
    what: "time to live",
    least: Duration::from_secs(5 * MINUTE),
    most: Duration::from_secs(365 * DAY),
    example: "8h",
};
/// Use is looked at once a minute, and a lunch break is no idleness.
pub const IDLE_STOP: Bounds = Bounds {
    what: "idle stop",
    least: Duration::from_secs(30 * MINUTE),
    most: Duration::from_secs(30 * DAY),
    example: "12h",
};

/// Each pass is a snapshot, and all that changed since the last one, over the network.
pub const REPLICATION: Bounds = Bounds {
    what: "replication",
    least: Duration::from_secs(MINUTE),
    most: Duration::from_secs(7 * DAY),
    example: "15m",
};

/// What a duration may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// What it is of, for people.
    pub what: &'static str,
    /// The shortest.
    pub least: Duration,
    /// The longest.
    pub most: Duration,
    /// One that is good.
    pub example: &'static str,
}

/// A duration that could not be read, or not be given.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No duration at all.
    #[error("{what} '{given}' is not a number with a unit, such as {example}")]
    Unreadable {
        /// Of what.
        what: &'static str,
        /// As typed.
        given: String,
        /// One that is good.
        example: &'static str,
    },
    /// Out of bounds.
    #[error("{what} {} is out of range: at least {}, at most {}", short(*given), short(*least), short(*most))]
    OutOfRange {
        /// Of what.
        what: &'static str,
        /// As given.
        given: Duration,
        /// The shortest.
        least: Duration,
        /// The longest.
        most: Duration,
    },
}

impl Bounds {
    /// Reads `8h`, `90m` or `3days`.
    ///
    /// # Errors
    /// No duration, or one out of bounds.
    pub fn parse(&self, text: &str) -> Result<Duration, DurationError> {
        let shown = || text.chars().take(48).flat_map(char::escape_default).collect();
        let read = humantime::parse_duration(text).map_err(|_| DurationError::Unreadable {
            what: self.what,
            given: shown(),
            example: self.example,
        })?;
        self.check(read)
    }

    /// Gives it back in whole seconds.
    ///
    /// # Errors
    /// Out of bounds.
    pub fn check(&self, given: Duration) -> Result<Duration, DurationError> {
        let Self { what, least, most, .. } = *self;
        if (least..=most).contains(&given) {
            Ok(Duration::from_secs(given.as_secs()))
        } else {
            Err(DurationError::OutOfRange { what, given, least, most })
        }
    }
}

/// `8h`, `1d 12h`, `90s` as `1m 30s`: what it is to the second, in the fewest words.
#[must_use]
pub fn short(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut parts = Vec::new();
    for (unit, letter) in [(DAY, 'd'), (HOUR, 'h'), (MINUTE, 'm'), (1, 's')] {
        if rest >= unit {
            parts.push(format!("{}{letter}", rest / unit));
            rest %= unit;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_read_and_shown_back() {
        for (text, shown) in [("8h", "8h"), ("5m", "5m"), ("36h", "1d 12h"), ("365d", "365d"), ("1h 30min", "1h 30m")] {
            assert_eq!(short(TTL.parse(text).unwrap()), shown);
        }
        assert_eq!(short(Duration::from_millis(999)), "0s");
    }

    #[test]
    fn nonsense_and_what_is_out_of_bounds_is_refused_in_words() {
        for text in ["", "8", "-8h", "soon", "8 hours from now", "1e9h", "99999999999999999999h", "8h;"] {
            let refused = TTL.parse(text).unwrap_err().to_string();
            assert!(refused.contains("such as 8h"), "{text}: {refused}");
        }
        let short = TTL.parse("4m 59s").unwrap_err().to_string();
        assert_eq!(short, "time to live 4m 59s is out of range: at least 5m, at most 365d");
        let long = IDLE_STOP.parse("31d").unwrap_err().to_string();
        assert_eq!(long, "idle stop 31d is out of range: at least 30m, at most 30d");
        assert!(IDLE_STOP.parse("0s").is_err());
    }
}
