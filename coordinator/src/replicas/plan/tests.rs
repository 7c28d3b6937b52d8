use std::num::NonZeroU32;

use containarium_proto::sizes::Bytes;

use super::*;
use crate::store::{Held, Role, testing};

const EVERY: Duration = Duration::from_secs(60);

fn pass(number: u32) -> CopyPass {
    CopyPass(NonZeroU32::new(number).unwrap())
}

/// A home on jump-1 that is to be copied every minute; of the copy, `whole` passes are whole, the last as of 1000.
fn home(whole: u32) -> Held {
    let mut held = testing::held("alice", "jump-1", 2);
    held.placement.ever_ran = true;
    held.placement.spec.fenced = true;
    let as_of = (whole > 0).then_some(1000);
    held.container.replication = Replication { every: Some(EVERY), pass: whole, as_of, ..Replication::default() };
    held
}

/// Its replica on jump-2, told that there must have been so many passes.
fn replica(home: &Held, ordered: u32) -> Held {
    let mut held = home.clone();
    held.placement.node = "jump-2".parse().unwrap();
    (held.placement.role, held.placement.desired) = (Role::Replica(pass(ordered)), Desired::Stopped);
    held
}

fn around(now: i64) -> Around {
    Around { now, policy: Policy::Active, offers: 0, cramped: false }
}

fn side<'a>(held: &'a Held, observed: &'a Observed) -> Side<'a> {
    Side { held, observed, availability: Availability::Online }
}

fn step(home: &Held, replica: Option<(&Held, Observed)>, around: Around) -> Step {
    let running = Observed::Running;
    let (held, observed) = replica.unzip();
    let replica = held.zip(observed.as_ref()).map(|(held, observed)| side(held, observed));
    next(side(home, &running), replica, around)
}

#[test]
fn a_pass_follows_the_other_when_it_is_due() {
    use Observed::{AwaitingCopy, Stopped};
    assert_eq!(step(&home(0), None, around(0)), Step::Place);
    let fresh = home(0);
    let ordered =
        |home: &Held, number, observed, now| step(home, Some((&replica(home, number), observed)), around(now));
    assert_eq!(ordered(&fresh, 1, AwaitingCopy, 0), Step::Offer(pass(1)));
    assert_eq!(ordered(&fresh, 1, Stopped, 0), Step::Completed(pass(1)));
    let mut whole = home(1);
    whole.container.replication.began_at = 1000;
    assert_eq!(ordered(&whole, 1, Stopped, 60_999), Step::Wait);
    assert_eq!(ordered(&whole, 1, Stopped, 61_000), Step::NextPass(pass(2)));
    assert_eq!(ordered(&whole, 2, AwaitingCopy, 61_000), Step::Offer(pass(2)));
    assert_eq!(ordered(&whole, 2, Stopped, 61_000), Step::Completed(pass(2)));
}

#[test]
fn after_a_failover_the_first_pass_to_another_node_is_no_whole_one_before_it_is_there() {
    let mut home = home(7);
    home.container.replication.as_of = None;
    assert_eq!(step(&home, None, around(0)), Step::Place);
    let there = replica(&home, 8);
    assert_eq!(step(&home, Some((&there, Observed::Stopped)), around(0)), Step::Completed(pass(8)));
}

#[test]
fn it_goes_when_it_is_not_wanted_where_it_is_and_what_it_left_is_cleared() {
    let wanted = home(1);
    let there = replica(&wanted, 1);
    for policy in [Policy::Draining, Policy::Retired] {
        let dropped = step(&wanted, Some((&there, Observed::Stopped)), Around { policy, ..around(0) });
        assert!(matches!(&dropped, Step::Drop(why) if why.starts_with("jump-2 is ")), "{dropped:?}");
    }
    assert!(matches!(step(&wanted, Some((&there, Observed::Absent)), around(0)), Step::Drop(_)));
    let mut elsewhere = wanted.clone();
    elsewhere.container.replication.to = Some("jump-3".parse().unwrap());
    assert_eq!(
        step(&elsewhere, Some((&there, Observed::Stopped)), around(0)),
        Step::Drop("it is to be on jump-3".to_owned())
    );
    let mut off = wanted.clone();
    off.container.replication.every = None;
    assert!(matches!(step(&off, Some((&there, Observed::AwaitingCopy)), around(0)), Step::Drop(_)));
    let mut going = there;
    going.placement.desired = Desired::Absent;
    assert_eq!(step(&off, Some((&going, Observed::Stopped)), around(0)), Step::Wait);
    assert_eq!(step(&off, None, around(0)), Step::Withdraw);
    off.container.replication.pass = 0;
    assert_eq!(step(&off, None, around(0)), Step::Wait);
}

#[test]
fn a_replica_gets_the_limits_of_its_home_but_not_its_restarts() {
    let mut home = home(1);
    let there = replica(&home, 1);
    home.placement.spec.restarts = 5;
    assert_eq!(step(&home, Some((&there, Observed::Stopped)), around(0)), Step::Wait);
    home.placement.spec.disk = Bytes(50_000_000_000);
    assert_eq!(step(&home, Some((&there, Observed::Stopped)), around(0)), Step::Follow);
    let cramped = Around { cramped: true, ..around(100_000) };
    assert_eq!(
        step(&home, Some((&there, Observed::Stopped)), cramped),
        Step::NextPass(pass(2)),
        "old limits, new data"
    );
}

#[test]
fn nothing_is_offered_to_or_by_a_node_that_does_not_answer_and_a_useless_copy_is_made_anew() {
    let home = home(1);
    let there = replica(&home, 2);
    let (running, awaiting) = (Observed::Running, Observed::AwaitingCopy);
    for availability in [Availability::Offline, Availability::Suspect, Availability::Preempting] {
        let away = |held, observed| Side { availability, ..side(held, observed) };
        let taking = next(side(&home, &running), Some(away(&there, &awaiting)), around(0));
        let giving = next(away(&home, &running), Some(side(&there, &awaiting)), around(0));
        assert_eq!((taking, giving), (Step::Wait, Step::Wait), "{availability:?}");
    }
    let tired = Around { offers: MOST_OFFERS, ..around(0) };
    assert!(matches!(step(&home, Some((&there, Observed::AwaitingCopy)), tired), Step::Drop(_)));
    let stopped = next(side(&home, &Observed::Absent), Some(side(&there, &awaiting)), tired);
    assert_eq!(stopped, Step::Wait, "the home is lost: what is here of it must stay");
}
