//! What people are told of a container: one word and one sentence, computed from what is wanted, what was seen and
//! whether the node answers. Pure, and never stored: a stored phase would be wrong the moment a node goes away.

use containarium_proto::{
    names::NodeName,
    spec::{Desired, Observed},
};

use crate::availability::Availability;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Creating,
    Running,
    Stopped,
    Updating,
    Deleting,
    Failed,
    Unreachable,
    Lost,
    Drifted,
}

/// What a phase is computed from.
#[derive(Debug, Clone)]
pub(crate) struct Seen<'a> {
    pub(crate) desired: Desired,
    /// Of the generation that is wanted now; `Unknown` if only older ones were seen.
    pub(crate) observed: &'a Observed,
    pub(crate) ever_ran: bool,
    pub(crate) node: &'a NodeName,
    pub(crate) availability: Availability,
    /// "since 2026-11-23 10:00:00 UTC", or why it cannot be said.
    pub(crate) away: &'a str,
    /// What was changed behind our back.
    pub(crate) drift: &'a [String],
}

impl Phase {
    /// The phase, and one sentence more where there is one.
    pub(crate) fn of(seen: &Seen<'_>) -> (Self, String) {
        let (phase, detail) = match Self::when_reachable(seen) {
            (Self::Running | Self::Stopped, _) if !seen.drift.is_empty() => (Self::Drifted, seen.drift.join("; ")),
            as_ordered => as_ordered,
        };
        let node = seen.node;
        match seen.availability {
            Availability::Online => (phase, detail),
            Availability::Unknown => (phase, join(&detail, &format!("{node} has not been heard from yet"))),
            Availability::Suspect => {
                (phase, join(&detail, &format!("{node} does not answer, last heard {}", seen.away)))
            }
            Availability::Preempting => {
                (phase, join(&detail, &format!("{node} is about to be taken away, and stops it")))
            }
            Availability::Offline => Self::when_offline(phase, seen),
        }
    }

    fn when_offline(phase: Self, seen: &Seen<'_>) -> (Self, String) {
        let away = format!("{} is offline, last heard {}", seen.node, seen.away);
        match phase {
            Self::Deleting => (phase, format!("{away}: its copy is destroyed when it is back")),
            // I8: it never ran, so it may be placed elsewhere.
            Self::Creating => (phase, away),
            Self::Failed if !seen.ever_ran => (phase, away),
            Self::Running
            | Self::Stopped
            | Self::Updating
            | Self::Failed
            | Self::Unreachable
            | Self::Lost
            | Self::Drifted => (Self::Unreachable, away),
        }
    }

    fn when_reachable(seen: &Seen<'_>) -> (Self, String) {
        let working = if seen.ever_ran { Self::Updating } else { Self::Creating };
        let destroying = seen.desired == Desired::Absent;
        let busy = if destroying { Self::Deleting } else { working };
        match seen.observed {
            Observed::Unknown => (busy, String::new()),
            Observed::AwaitingCopy => (busy, "waiting for its copy".to_owned()),
            Observed::AwaitingWord => (busy, "about to be started".to_owned()),
            Observed::Converging { step } => (busy, step.title.clone()),
            Observed::Failed { error, permanent: true } => (Self::Failed, error.clone()),
            Observed::Failed { error, permanent: false } => {
                (busy, format!("the last attempt failed, trying again: {error}"))
            }
            Observed::Absent if destroying => (Self::Deleting, String::new()),
            Observed::Absent => (Self::Lost, format!("{} holds nothing of it any more", seen.node)),
            Observed::Running => match seen.desired {
                Desired::Running => (Self::Running, String::new()),
                Desired::Stopped | Desired::Absent => (busy, String::new()),
            },
            Observed::Stopped => match seen.desired {
                Desired::Running => (Self::Stopped, "it stopped by itself".to_owned()),
                Desired::Stopped => (Self::Stopped, String::new()),
                Desired::Absent => (Self::Deleting, String::new()),
            },
        }
    }
}

fn join(first: &str, second: &str) -> String {
    if first.is_empty() { second.to_owned() } else { format!("{first}; {second}") }
}

#[cfg(test)]
mod tests {
    use containarium_proto::spec::Step;

    use super::*;

    fn phase(desired: Desired, observed: &Observed, ever_ran: bool, availability: Availability) -> Phase {
        drifted(desired, observed, (ever_ran, availability), &[]).0
    }

    fn drifted(
        desired: Desired,
        observed: &Observed,
        (ever_ran, availability): (bool, Availability),
        drift: &[String],
    ) -> (Phase, String) {
        let node = "jump-1".parse().unwrap();
        Phase::of(&Seen { desired, observed, ever_ran, node: &node, availability, away: "10:00", drift })
    }

    #[test]
    fn what_was_changed_behind_our_back_shows_while_nothing_else_is_under_way() {
        let drift = ["limits.memory is 1, ordered 2".to_owned(), "device gpu0 (gpu) was added".to_owned()];
        let seen =
            |desired, observed: &Observed, availability| drifted(desired, observed, (true, availability), &drift);
        let (phase, detail) = seen(Desired::Running, &Observed::Running, Availability::Online);
        assert_eq!((phase, detail.as_str()), (Phase::Drifted, drift.join("; ").as_str()));
        assert_eq!(seen(Desired::Stopped, &Observed::Stopped, Availability::Online).0, Phase::Drifted);
        assert_eq!(seen(Desired::Running, &Observed::Unknown, Availability::Online).0, Phase::Updating);
        assert_eq!(seen(Desired::Absent, &Observed::Running, Availability::Online).0, Phase::Deleting);
        assert_eq!(seen(Desired::Running, &Observed::Running, Availability::Offline).0, Phase::Unreachable);
    }

    #[test]
    fn every_phase_has_its_cause() {
        use Availability::{Offline, Online, Preempting, Suspect};
        use Desired::{Absent, Running, Stopped};
        let step = Observed::Converging { step: Step { index: 1, total: 2, title: "cloning".into() } };
        let failed = |permanent| Observed::Failed { error: "no".into(), permanent };
        let cases = [
            (Running, Observed::Unknown, false, Online, Phase::Creating),
            (Running, step.clone(), false, Online, Phase::Creating),
            (Running, step, true, Online, Phase::Updating),
            (Running, Observed::Running, true, Online, Phase::Running),
            (Running, Observed::Running, true, Suspect, Phase::Running),
            (Running, Observed::Running, true, Preempting, Phase::Running),
            (Running, Observed::Running, true, Offline, Phase::Unreachable),
            (Running, Observed::Unknown, false, Offline, Phase::Creating),
            (Running, Observed::Stopped, true, Online, Phase::Stopped),
            (Stopped, Observed::Stopped, true, Online, Phase::Stopped),
            (Stopped, Observed::Running, true, Online, Phase::Updating),
            (Running, failed(true), false, Online, Phase::Failed),
            (Running, failed(false), false, Online, Phase::Creating),
            (Running, Observed::Absent, true, Online, Phase::Lost),
            (Absent, Observed::Unknown, true, Online, Phase::Deleting),
            (Absent, Observed::Unknown, true, Offline, Phase::Deleting),
        ];
        for (desired, observed, ever_ran, availability, expected) in cases {
            let found = phase(desired, &observed, ever_ran, availability);
            assert_eq!(found, expected, "{desired:?} {observed:?} {ever_ran} {availability:?}");
        }
    }
}
