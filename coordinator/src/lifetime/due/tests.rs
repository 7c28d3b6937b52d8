use proptest::prelude::*;

use super::*;
use crate::{
    config::Lifetimes,
    lifetime::starting,
    store::{MovePhase, Moving, Role, testing},
};

const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MILLIS: i64 = 3_600_000;
const RULES: Rules = Rules { grace: Duration::from_secs(24 * 3600), settle: Duration::from_secs(60) };

fn at(hours: i64) -> Now {
    Now { unix_millis: hours * HOUR_MILLIS, reign_age: HOUR }
}

fn held(ttl: Ttl) -> Held {
    let mut held = testing::held("alice", "jump-1", 2);
    held.container.lifetime.ttl = ttl;
    held
}

fn runs(expires: i64, warn: Option<i64>) -> Held {
    held(Ttl::Runs { expires_at: expires * HOUR_MILLIS, warn_at: warn.map(|at| at * HOUR_MILLIS) })
}

/// Expired at ten hours.
fn expired(graced: Duration) -> Held {
    let ten = 10 * HOUR_MILLIS;
    let mut held = held(Ttl::Expired { expires_at: ten, expired_at: ten, graced, kept_noted: false });
    held.placement.desired = Desired::Stopped;
    held
}

fn one(now: Now, held: &Held, idle_since: Option<i64>) -> Option<What> {
    let found = due(now, RULES, &[Watched { held, idle_since }]);
    assert!(found.iter().all(|due| due.container == held.container.id));
    found.first().map(|due| due.what)
}

#[test]
fn the_warning_is_an_hour_before_the_end_or_in_the_last_tenth_of_a_short_life() {
    let lead = |ttl: Duration| match starting(1_000, ttl, &Lifetimes::default()) {
        Ttl::Runs { expires_at, warn_at: Some(warn_at) } => {
            assert_eq!(expires_at, 1_000 + i64::try_from(ttl.as_millis()).unwrap());
            expires_at - warn_at
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(lead(HOUR * 24 * 30), HOUR_MILLIS);
    assert_eq!(lead(HOUR * 10), HOUR_MILLIS);
    assert_eq!(lead(HOUR), HOUR_MILLIS / 10);
}

#[test]
fn it_is_warned_of_once_then_ends() {
    let alice = runs(10, Some(9));
    assert_eq!(one(at(8), &alice, None), None);
    assert_eq!(one(at(9), &alice, None), Some(What::Warn { expires_at: 10 * HOUR_MILLIS }));
    let warned = runs(10, None);
    assert_eq!(one(at(9), &warned, None), None);
    let end = What::Expire { expires_at: 10 * HOUR_MILLIS, stop: true };
    assert_eq!(one(at(10), &warned, None), Some(end));
    assert_eq!(one(at(99), &alice, None), Some(end), "a warning after the end would be none");
}

#[test]
fn what_is_stopped_lost_or_going_gets_no_order_to_stop() {
    let end = |stop| Some(What::Expire { expires_at: 10 * HOUR_MILLIS, stop });
    let mut alice = runs(10, None);
    alice.placement.desired = Desired::Stopped;
    assert_eq!(one(at(10), &alice, None), end(false));
    alice.placement.desired = Desired::Running;
    (alice.placement.observed, alice.placement.observed_generation) = (Observed::Absent, alice.placement.generation);
    assert_eq!(one(at(10), &alice, None), end(false), "it is lost");
    alice.placement.desired = Desired::Absent;
    assert_eq!(one(at(99), &alice, None), None);
}

#[test]
fn it_is_destroyed_when_the_grace_has_passed_by_both_clocks_and_the_reign_has_settled() {
    let destroy = Some(What::Destroy { expires_at: 10 * HOUR_MILLIS });
    assert_eq!(one(at(34), &expired(RULES.grace), None), destroy);
    assert_eq!(one(at(33), &expired(RULES.grace), None), None, "not by the time of day");
    assert_eq!(one(at(99_999), &expired(HOUR), None), None, "a clock that jumped: nobody lived through it");
    assert_eq!(one(at(0), &expired(RULES.grace), None), None, "a clock that was set back");
    let young = Now { reign_age: Duration::from_secs(59), ..at(99) };
    assert_eq!(one(young, &expired(RULES.grace), None), None);
}

#[test]
fn what_moves_is_left_alone_until_it_is_where_it_is_to_be() {
    let moving = |mut alice: Held| {
        let (source, target) = ("jump-1".parse().unwrap(), "jump-2".parse().unwrap());
        alice.moving = Some(Moving { phase: MovePhase::Copying, source, target, started_at: 1 });
        alice
    };
    for alice in [runs(10, Some(9)), runs(10, None), expired(RULES.grace)] {
        assert!(one(at(99), &alice, None).is_some());
        assert_eq!(one(at(99), &moving(alice), None), None);
    }
    let mut idle = held(Ttl::Off);
    idle.container.lifetime.idle_stop = Some(HOUR);
    assert_eq!(one(at(99), &moving(idle.clone()), Some(0)), None);
    idle.placement.role = Role::Leaving;
    assert_eq!(one(at(99), &idle, Some(0)), None, "no home");
}

#[test]
fn what_is_protected_is_kept_which_is_said_once() {
    let mut alice = expired(Duration::ZERO);
    alice.container.protected = true;
    assert_eq!(one(at(33), &alice, None), None);
    assert!(matches!(one(at(34), &alice, None), Some(What::Keep { .. })));
    if let Ttl::Expired { kept_noted, .. } = &mut alice.container.lifetime.ttl {
        *kept_noted = true;
    }
    assert_eq!(one(at(99), &alice, None), None);
}

#[test]
fn it_rests_when_nobody_used_it_for_as_long_as_was_said() {
    let mut alice = held(Ttl::Off);
    assert_eq!(one(at(99), &alice, Some(0)), None, "off unless somebody asked for it");
    alice.container.lifetime.idle_stop = Some(HOUR * 12);
    assert_eq!(one(at(20), &alice, None), None, "it is used, or its node does not say");
    assert_eq!(one(at(20), &alice, Some(9 * HOUR_MILLIS)), None);
    assert_eq!(one(at(21), &alice, Some(9 * HOUR_MILLIS)), Some(What::Rest { limit: HOUR * 12 }));
    alice.placement.desired = Desired::Absent;
    assert_eq!(one(at(21), &alice, Some(9 * HOUR_MILLIS)), None);
}

proptest! {
    #[test]
    fn nothing_is_destroyed_but_what_was_marked_and_outlived_its_grace(
        now in any::<i64>(), age in 0u64..200, ttl in 0u8..3, expires_at in 1i64.., expired_at in 1i64..,
        graced in 0u64..200_000, protected in any::<bool>(), idle_since in proptest::option::of(any::<i64>()),
    ) {
        let graced = Duration::from_secs(graced);
        let mut alice = held(match ttl {
            0 => Ttl::Off,
            1 => Ttl::Runs { expires_at, warn_at: None },
            _ => Ttl::Expired { expires_at, expired_at, graced, kept_noted: false },
        });
        alice.container.protected = protected;
        alice.container.lifetime.idle_stop = Some(HOUR);
        let now = Now { unix_millis: now, reign_age: Duration::from_secs(age) };
        if let Some(What::Destroy { .. }) = one(now, &alice, idle_since) {
            prop_assert!(ttl == 2 && !protected && age >= 60 && graced >= RULES.grace);
            prop_assert!(now.unix_millis >= expired_at);
        }
    }
}
