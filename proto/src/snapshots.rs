//! Snapshots: their names, what a node says of them, and how often they are made by themselves. The form of a name is
//! narrower than Incus', so that one can be typed, and told from those that we make.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::node::{CopyKind, CopyPass};

/// Of a snapshot that only a copy between nodes needs. Nobody is shown one.
pub const OF_A_COPY: &str = "containarium-";
/// Of one that a schedule has made.
const SCHEDULED: &str = "auto-";
/// Incus allows more, but not together with the longest name of an instance in a path.
const MAX_LEN: usize = 63;

/// Name of a snapshot: a-z, A-Z, 0-9, `.`, `_` and `-`, the first one a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName(String);

/// Not a name for a snapshot.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotNameError {
    /// Other characters, none, or too many.
    #[error("snapshot name '{0}' is not one of at most 63 letters, digits, '.', '_' and '-', a letter or digit first")]
    Form(String),
    /// Names that mean something.
    #[error("snapshot name '{0}' is reserved: 'auto-' is for schedules, 'containarium-' for moves")]
    Reserved(String),
}

impl SnapshotName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One that a person may give.
    ///
    /// # Errors
    /// One that has a meaning of its own.
    pub fn given(text: &str) -> Result<Self, SnapshotNameError> {
        let name: Self = text.parse()?;
        match [SCHEDULED, OF_A_COPY].iter().any(|prefix| text.starts_with(prefix)) {
            true => Err(SnapshotNameError::Reserved(text.to_owned())),
            false => Ok(name),
        }
    }

    /// For one that nobody named; `at` is such as `20261124-100000`.
    #[must_use]
    pub fn made_up(at: &str) -> Self {
        Self(format!("snap-{at}"))
    }

    /// For the one that holds what a replica held after a pass.
    #[must_use]
    pub fn of_replica(pass: CopyPass) -> Self {
        Self(format!("{}{pass}", CopyKind::Replica.prefix()))
    }

    /// For one that a schedule makes.
    #[must_use]
    pub fn scheduled(every: Every, at: &str) -> Self {
        Self(format!("{SCHEDULED}{every}-{at}"))
    }
}

impl FromStr for SnapshotName {
    type Err = SnapshotNameError;
    fn from_str(text: &str) -> Result<Self, SnapshotNameError> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if first && text.len() <= MAX_LEN && text.chars().all(good) {
            return Ok(Self(text.to_owned()));
        }
        Err(SnapshotNameError::Form(text.chars().take(80).flat_map(char::escape_default).collect()))
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = SnapshotNameError;
    fn try_from(text: String) -> Result<Self, SnapshotNameError> {
        text.parse()
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> Self {
        name.0
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A snapshot as its node has it. Its name is whatever somebody gave it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Of whatever form Incus allows.
    pub name: String,
    /// Unix milliseconds, by the node's clock.
    pub created_at: i64,
}

/// All that a node has of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshots {
    /// The oldest first; none that a copy has made.
    pub all: Vec<Snapshot>,
    /// The storage can only be brought back to the newest one.
    pub newest_only: bool,
}

/// How often one is made by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Every {
    /// Each hour.
    Hour,
    /// Each day.
    Day,
    /// Each week.
    Week,
}

impl Every {
    /// How many hours there are in it.
    #[must_use]
    pub fn hours(self) -> u32 {
        match self {
            Self::Hour => 1,
            Self::Day => 24,
            Self::Week => 168,
        }
    }

    /// From one to the next, where an hour lasts so long.
    #[must_use]
    pub fn period(self, hour: Duration) -> Duration {
        hour * self.hours()
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
        })
    }
}

impl FromStr for Every {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Hour, Self::Day, Self::Week];
        all.into_iter().find(|every| every.to_string() == text).ok_or_else(|| format!("'{text}', which is no schedule"))
    }
}

/// How many scheduled snapshots of a container are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Keep(NonZeroU32);

/// Each is a copy of everything that changed since.
const MOST_KEPT: u32 = 100;

impl Keep {
    /// A week of days.
    pub const USUAL: Self = Self(NonZeroU32::new(7).expect("seven is not zero"));

    /// As a number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl TryFrom<u32> for Keep {
    type Error = String;
    fn try_from(keep: u32) -> Result<Self, String> {
        let good = NonZeroU32::new(keep).filter(|keep| keep.get() <= MOST_KEPT);
        good.map(Self).ok_or_else(|| format!("{keep} snapshots cannot be kept: at least 1, at most {MOST_KEPT}"))
    }
}

impl FromStr for Keep {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number: u32 = text.parse().map_err(|_| format!("'{text}' is not a number from 1 to {MOST_KEPT}"))?;
        number.try_into()
    }
}

/// When snapshots of a container are made by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Schedule {
    /// How often.
    pub every: Every,
    /// How many are kept.
    pub keep: Keep,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, keep {}", self.every, self.keep.get())
    }
}

/// What is asked to change of a schedule: what is not given stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScheduleChange {
    /// `Some(None)`: no more.
    pub every: Option<Option<Every>>,
    /// How many are kept.
    pub keep: Option<Keep>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_give_are_plain_and_not_ours() {
        for good in ["before-upgrade", "v1.2_3", "1", &"a".repeat(63)] {
            assert_eq!(SnapshotName::given(good).unwrap().as_str(), good);
        }
        for bad in ["", "-x", ".x", "a b", "a/b", "../x", "a\n", "ä", &"a".repeat(64)] {
            assert!(matches!(SnapshotName::given(bad), Err(SnapshotNameError::Form(_))), "{bad}");
        }
        for ours in ["auto-x", "containarium-move-1"] {
            assert!(matches!(SnapshotName::given(ours), Err(SnapshotNameError::Reserved(_))), "{ours}");
        }
        let scheduled = SnapshotName::scheduled(Every::Hour, "20261124-100000");
        assert_eq!(scheduled.as_str(), "auto-hourly-20261124-100000");
        assert_eq!(scheduled.as_str().parse(), Ok(scheduled));
    }

    #[test]
    fn schedules_read_back_as_they_are_shown() {
        for every in [Every::Hour, Every::Day, Every::Week] {
            assert_eq!(every.to_string().parse(), Ok(every));
        }
        assert!("monthly".parse::<Every>().is_err());
        assert_eq!(Every::Week.period(Duration::from_secs(3600)), Duration::from_secs(7 * 86400));
        assert!("0".parse::<Keep>().is_err() && "101".parse::<Keep>().is_err() && "x".parse::<Keep>().is_err());
        assert_eq!("100".parse::<Keep>().unwrap().get(), 100);
    }
}
