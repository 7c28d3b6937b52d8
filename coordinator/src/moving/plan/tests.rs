use super::*;
use crate::store::{Role, testing};

fn row(phase: MovePhase) -> MoveRow {
    MoveRow {
        container: testing::held("alice", "jump-1", 2).container.id,
        source: "jump-1".parse().unwrap(),
        target: "jump-2".parse().unwrap(),
        phase,
        resume: Desired::Running,
        request: containarium_proto::ids::RequestId::generate(),
        started_at: 1,
        stopped_at: None,
        answered_at: None,
        reason: String::new(),
    }
}

fn pass(n: u32) -> CopyPass {
    (1..n).fold(CopyPass::FIRST, |pass, _| pass.next())
}

/// The step with the target at `n` passes, both nodes online.
fn step(phase: MovePhase, source: &Observed, target: &Observed, n: u32) -> Step {
    let (from, mut to) = (testing::held("alice", "jump-1", 2), testing::held("alice", "jump-2", 2));
    to.placement.role = Role::Arriving(pass(n));
    let availability = Availability::Online;
    let source = Side { held: &from, observed: source, availability };
    let target = Side { held: &to, observed: target, availability };
    next(&row(phase), Some(source), Some(target), 0)
}

#[test]
fn a_move_goes_step_by_step() {
    use MovePhase::{Cleaning, Copying, Finishing, Starting, Stopping};
    use Observed::{AwaitingCopy, Running, Stopped, Unknown};
    let failed = Observed::Failed { error: "no".into(), permanent: false };
    let steps = [
        (Copying, Running, Unknown, 1, Step::Wait),
        (Copying, Running, AwaitingCopy, 1, Step::Offer { pass: pass(1), last: false }),
        (Copying, Running, failed.clone(), 1, Step::Wait),
        (Copying, Running, Stopped, 1, Step::NextPass(pass(2))),
        (Copying, Running, AwaitingCopy, 2, Step::Offer { pass: pass(2), last: false }),
        (Copying, Running, Stopped, 2, Step::Stop),
        (Stopping, Running, Stopped, 2, Step::Wait),
        (Stopping, failed, Stopped, 2, Step::Wait),
        (Stopping, Stopped, Stopped, 2, Step::LastPass(pass(3))),
        (Finishing, Stopped, AwaitingCopy, 3, Step::Offer { pass: pass(3), last: true }),
        (Finishing, Stopped, Stopped, 3, Step::Switch),
        (Starting, Stopped, Unknown, 3, Step::Wait),
        (Starting, Stopped, Running, 3, Step::Clean),
        (Cleaning, Stopped, Running, 3, Step::Wait),
    ];
    for (phase, source, target, passes, expected) in steps {
        assert_eq!(step(phase, &source, &target, passes), expected, "{phase:?} {source:?} {target:?} {passes}");
    }
}

#[test]
fn it_stays_when_it_cannot_arrive_and_goes_back_when_it_was_lost_on_arrival() {
    let no = Observed::Failed { error: "no".into(), permanent: true };
    for phase in [MovePhase::Copying, MovePhase::Finishing] {
        assert!(matches!(step(phase, &Observed::Stopped, &no, 1), Step::Cancel(_)), "{phase:?}");
    }
    assert!(matches!(step(MovePhase::Stopping, &no, &Observed::Stopped, 2), Step::Cancel(_)));
    assert!(matches!(step(MovePhase::Starting, &Observed::Stopped, &Observed::Absent, 3), Step::SwitchBack(_)));
    // Whoever says that there is nothing awaits nothing.
    for (phase, pass) in [(MovePhase::Copying, 1), (MovePhase::Copying, 2), (MovePhase::Finishing, 3)] {
        assert!(matches!(step(phase, &Observed::Stopped, &Observed::Absent, pass), Step::Cancel(_)), "{phase:?}");
    }
    let (from, mut to) = (testing::held("alice", "jump-1", 2), testing::held("alice", "jump-2", 2));
    to.placement.role = Role::Arriving(pass(3));
    let side = |held, availability| Some(Side { held, observed: &Observed::AwaitingCopy, availability });
    let plan = |phase, target, offers| next(&row(phase), side(&from, Availability::Online), side(&to, target), offers);
    // Stopped for the move: not for ever.
    assert!(matches!(plan(MovePhase::Finishing, Availability::Offline, 0), Step::Cancel(_)));
    assert_eq!(plan(MovePhase::Copying, Availability::Offline, 0), Step::Wait);
    assert!(matches!(plan(MovePhase::Finishing, Availability::Online, MAX_OFFERS), Step::Cancel(_)));
}

#[test]
fn a_move_ends_when_the_other_copy_is_gone() {
    let held = testing::held("alice", "jump-2", 2);
    let side = Some(Side { held: &held, observed: &Observed::Running, availability: Availability::Online });
    assert_eq!(next(&row(MovePhase::Cleaning), None, side, 0), Step::End);
    assert_eq!(next(&row(MovePhase::Cleaning), side, side, 0), Step::Wait);
    assert_eq!(next(&row(MovePhase::Cancelling), side, None, 0), Step::Withdraw);
    assert_eq!(next(&row(MovePhase::Cancelling), side, side, 0), Step::Wait);
}
