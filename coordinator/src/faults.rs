//! The moments at which a coordinator can be killed, or a message of it lost, as points that a test can stand at. In
//! production nobody does, and a point is one comparison. It must never change what happens between the points.

use std::{fmt::Debug, sync::Arc};

/// A point that is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment<'a> {
    /// A transaction is complete and not committed.
    Committing,
    /// It is durable; nobody has acted on it or been told.
    Committed,
    /// A call to a node's agent is complete and not sent.
    Calling(Call<'a>),
    /// It was answered, or failed; nobody has been told.
    Answered(Call<'a>),
}

/// A call to a node's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// Whose agent.
    pub node: &'a str,
    /// The method: "Apply".
    pub method: &'a str,
    /// As sent: a prefix of five bytes, and the encoded message.
    pub frame: &'a [u8],
}

/// A test that stands at the points.
pub trait Spoiler: Debug + Send + Sync {
    /// Whether things go wrong here: the process is dead from a transaction's point on, and the message of a call's
    /// point is lost with its connection.
    fn breaks(&self, moment: Moment<'_>) -> bool;
}

/// The points of one coordinator.
#[derive(Debug, Clone, Default)]
pub struct FaultPoints(Option<Arc<dyn Spoiler>>);

impl FaultPoints {
    /// With somebody there.
    #[must_use]
    pub fn with(spoiler: Arc<dyn Spoiler>) -> Self {
        Self(Some(spoiler))
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn breaks(&self, moment: Moment<'_>) -> bool {
        self.0.as_ref().is_some_and(|spoiler| spoiler.breaks(moment))
    }

    /// Goes no further where the process is dead.
    pub(crate) async fn pass(&self, moment: Moment<'_>) {
        if self.breaks(moment) {
            std::future::pending::<()>().await;
        }
    }
}
