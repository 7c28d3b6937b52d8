//! Identities and counters that must not be mixed up. No behaviour beyond parsing and printing.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An identifier that was not a UUID.
#[derive(Debug, thiserror::Error)]
#[error("{what} '{text}' is not a UUID")]
pub struct IdError {
    what: &'static str,
    text: String,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new, time-ordered (version 7) id.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError { what: $what, text: text.to_owned() })
            }
        }
    };
}

uuid_id!(
    /// One container for its whole life, on whichever node.
    ContainerId, "container id"
);
uuid_id!(
    /// One fleet: agents obey the first they meet and refuse all others.
    FleetId, "fleet id"
);
uuid_id!(
    /// One create or power request, the same for all its retries.
    RequestId, "request id"
);

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one that follows.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// Version of what one placement must be. Grows with every change of mind; content never changes under it (I4).
    Generation
);
counter!(
    /// One reign of one coordinator. Agents and the database refuse lower ones (I9).
    Term
);
counter!(
    /// Version of the fleet's full set of proxy accounts.
    AccessRevision
);
