//! Refusals: what the coordinator says to the CLI when it will not or cannot. A stable reason for programs, one line
//! for people, and what to do next. Internal detail never travels.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

const DOMAIN: &str = "containarium";
const HINT: &str = "hint";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $code:ident, $exit:literal;)*) => {
        /// Why a call was refused. Each has a stable text, a gRPC code and an exit code of the CLI.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All of them, for documentation and tests.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable word on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The gRPC status code it travels under.
            #[must_use]
            pub fn code(self) -> Code {
                match self { $(Self::$name => Code::$code,)* }
            }

            /// What the CLI exits with.
            #[must_use]
            pub fn exit_code(self) -> u8 {
                match self { $(Self::$name => $exit,)* }
            }
        }
    };
}

reasons! {
    /// A defect of ours.
    Internal = "INTERNAL", Internal, 1;
    /// The request could never succeed.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument, 2;
    /// No such user, node or image.
    NotFound = "NOT_FOUND", NotFound, 3;
    /// The name is taken, also while it is being deleted.
    AlreadyExists = "ALREADY_EXISTS", AlreadyExists, 4;
    /// Another operation on it is under way.
    Busy = "BUSY", Aborted, 4;
    /// No node has room; nothing was queued.
    NoCapacity = "NO_CAPACITY", ResourceExhausted, 5;
    /// The node that must do it does not answer.
    NodeUnavailable = "NODE_UNAVAILABLE", Unavailable, 6;
    /// This coordinator does not lead, or has not looked at its nodes yet.
    NotReady = "NOT_READY", Unavailable, 6;
    /// No certificate, or one with another role.
    WrongRole = "WRONG_ROLE", PermissionDenied, 7;
    /// The node tried and failed; the container is there to be looked at or deleted.
    ContainerFailed = "CONTAINER_FAILED", FailedPrecondition, 8;
    /// A backup is not what was written; nothing was changed for it.
    BackupDamaged = "BACKUP_DAMAGED", DataLoss, 8;
    /// Would do harm as things stand.
    Refused = "REFUSED", FailedPrecondition, 9;
}

/// A refusal for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub reason: Reason,
    /// One line: what is wrong.
    pub message: String,
    /// One line: what to do.
    pub hint: Option<String>,
}

impl Refusal {
    /// Without a hint.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), hint: None }
    }

    /// With what to do next.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Reads a status made by [`Refusal`]; `None` for one from a proxy, a library or a broken link.
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN)?;
        let reason = Reason::ALL.iter().copied().find(|reason| reason.as_str() == info.reason)?;
        Some(Self { reason, message: status.message().to_owned(), hint: info.metadata.get(HINT).cloned() })
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let metadata: HashMap<_, _> = refusal.hint.map(|hint| (HINT.to_owned(), hint)).into_iter().collect();
        let details = ErrorDetails::with_error_info(refusal.reason.as_str(), DOMAIN, metadata);
        Self::with_error_details(refusal.reason.code(), refusal.message, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_wire() {
        for &reason in Reason::ALL {
            let refusal = Refusal::new(reason, "no room").hint("add a node");
            assert_eq!(Refusal::from_status(&Status::from(refusal.clone())), Some(refusal));
        }
        assert_eq!(Refusal::from_status(&Status::unknown("transport error")), None);
    }

    #[test]
    fn reasons_are_distinct() {
        let texts: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(texts.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|r| r.exit_code() != 0));
    }
}
