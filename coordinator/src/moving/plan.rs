//! The next step of a move, from its row, both placements and what both nodes last said. Pure: a first try, a repeated
//! one and the one after kill -9 of anything are the same. It must never make a second home (I1), nor give up a copy
//! before the other one is whole.
//!
//! ```text
//! copying ─► stopping ─► finishing ─► starting ─► cleaning ─► (moved)
//!    └───────────┴────────────┴────────► cancelling ─► (stays)
//! ```

use containarium_proto::{
    node::CopyPass,
    spec::{Desired, Observed},
};

use crate::{
    availability::Availability,
    store::{Held, MovePhase, MoveRow},
};

/// Passes while it runs: one of everything, one of what changed during the first, so that little is left for the last,
/// for which it is stopped.
const ONLINE_PASSES: u32 = 2;
/// Offers for one pass. Each kill of an agent or an Incus costs one; a pass that fails this often will not succeed, and
/// while it is tried the container may be stopped.
const MAX_OFFERS: u32 = 8;

/// One placement of the two, with what its node last said of the order it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) held: &'a Held,
    pub(crate) observed: &'a Observed,
    pub(crate) availability: Availability,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Until something changes.
    Wait,
    /// Have the source open the container and tell the target. `last`: it is stopped for it.
    Offer { pass: CopyPass, last: bool },
    /// One more pass while it runs.
    NextPass(CopyPass),
    /// Stop it.
    Stop,
    /// The pass after which nothing changes any more.
    LastPass(CopyPass),
    /// The target becomes its home.
    Switch,
    /// The target lost it before it answered: back to the source, which has it all.
    SwitchBack(String),
    /// It answers: destroy the old copy.
    Clean,
    /// Leave it where it is.
    Cancel(String),
    /// Remove what offers have left on the source, then forget the move.
    Withdraw,
    /// Forget the move: it is done.
    End,
}

/// Plans one step. `offers`: made for the pass that is ordered now.
pub(super) fn next(row: &MoveRow, source: Option<Side<'_>>, target: Option<Side<'_>>, offers: u32) -> Step {
    match row.phase {
        MovePhase::Copying | MovePhase::Finishing => match (source, target) {
            (Some(source), Some(target)) => copying(row, source, target, offers),
            (None, _) | (_, None) => Step::Cancel("a copy of it is gone".to_owned()),
        },
        MovePhase::Stopping => match (source, target) {
            (Some(source), Some(target)) => stopping(row, source, target),
            (None, _) | (_, None) => Step::Cancel("a copy of it is gone".to_owned()),
        },
        MovePhase::Starting => starting(row, target),
        MovePhase::Cleaning if source.is_none() => Step::End,
        MovePhase::Cleaning => Step::Wait,
        MovePhase::Cancelling if target.is_none() => Step::Withdraw,
        MovePhase::Cancelling => Step::Wait,
    }
}

fn pass_of(target: Side<'_>) -> CopyPass {
    target.held.placement.role.pass().unwrap_or(CopyPass::FIRST)
}

fn copying(row: &MoveRow, source: Side<'_>, target: Side<'_>, offers: u32) -> Step {
    let last = row.phase == MovePhase::Finishing;
    // Stopped for the move, it must not stay so for a node that is away.
    if last && matches!(target.availability, Availability::Offline | Availability::Preempting) {
        return Step::Cancel(format!("{} went away", row.target));
    }
    let pass = pass_of(target);
    match target.observed {
        Observed::AwaitingCopy if offers >= MAX_OFFERS => {
            Step::Cancel(format!("pass {pass} of the copy failed {offers} times"))
        }
        Observed::AwaitingCopy => match (source.availability, target.availability) {
            (Availability::Online, Availability::Online) => Step::Offer { pass, last },
            _ => Step::Wait,
        },
        Observed::Stopped if last => Step::Switch,
        Observed::Stopped if pass.0.get() < ONLINE_PASSES => Step::NextPass(pass.next()),
        Observed::Stopped => Step::Stop,
        Observed::Failed { error, permanent: true } => Step::Cancel(error.clone()),
        // It awaits nothing any more, and never will.
        Observed::Absent => Step::Cancel(format!("{} lost the copy", row.target)),
        Observed::Unknown
        | Observed::Converging { .. }
        | Observed::Running
        | Observed::AwaitingWord
        | Observed::Failed { permanent: false, .. } => Step::Wait,
    }
}

fn stopping(row: &MoveRow, source: Side<'_>, target: Side<'_>) -> Step {
    match source.observed {
        Observed::Stopped => Step::LastPass(pass_of(target).next()),
        Observed::Absent => Step::Cancel(format!("{} lost it", row.source)),
        Observed::Failed { error, permanent: true } => Step::Cancel(error.clone()),
        Observed::Unknown
        | Observed::Converging { .. }
        | Observed::Running
        | Observed::AwaitingCopy
        | Observed::AwaitingWord
        | Observed::Failed { permanent: false, .. } => Step::Wait,
    }
}

fn starting(row: &MoveRow, target: Option<Side<'_>>) -> Step {
    let Some(target) = target else { return Step::Wait };
    match (target.observed, row.resume) {
        (Observed::Running, Desired::Running) | (Observed::Stopped, Desired::Stopped) => Step::Clean,
        // What is restored there cannot be; the one that it replaces is whole.
        (Observed::Failed { error, permanent: true }, _) if target.held.placement.undo.is_some() => {
            Step::SwitchBack(error.clone())
        }
        (Observed::Absent, _) => Step::SwitchBack(format!("{} lost it before it answered", row.target)),
        (
            Observed::Unknown
            | Observed::Converging { .. }
            | Observed::Running
            | Observed::Stopped
            | Observed::AwaitingCopy
            | Observed::AwaitingWord
            | Observed::Failed { .. },
            _,
        ) => Step::Wait,
    }
}

#[cfg(test)]
mod tests;
