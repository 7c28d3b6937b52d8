use std::net::Ipv4Addr;

use containarium_proto::{
    backup::{BackupData, Checksum, Origin},
    ids::{ContainerId, Generation, RequestId},
    keys::KeySet,
    node::{CopyPass, Guest},
    sizes::Bytes,
    spec::Spec,
};
use proptest::prelude::*;

use super::*;
use crate::host::shape::{BACKUP_MARK, Shape};

const KEY: &str = include_str!("../../../proto/src/keys/testdata/ed25519.pub");

fn order(id: ContainerId, desired: Desired, generation: u64, restarts: u64) -> Order {
    Order {
        id,
        name: "alice-container".into(),
        owner: "alice".parse().unwrap(),
        generation: Generation(generation),
        desired,
        spec: Spec {
            cpu: "2".parse().unwrap(),
            memory: Bytes(2 << 30),
            disk: Bytes(20_000_000_000),
            image: "5".repeat(64).parse().unwrap(),
            autostart: true,
            restarts,
            fenced: false,
        },
        address: Ipv4Addr::new(10, 100, 1, 2),
        keys: KeySet::from_lines([KEY.trim_end()]).unwrap(),
        copy_pass: None,
        origin: None,
        guests: Vec::new(),
    }
}

fn plan(fleet: FleetId, order: &Order, seen: Option<&Instance>, ssh_answered: bool) -> Next {
    super::plan(fleet, order, seen, Known { ssh_answered, ..Known::default() })
}

fn instance(fleet: FleetId, order: &Order, power: Power, login: bool) -> Instance {
    let login = login.then(|| login_hash(order));
    Instance {
        name: order.name.clone(),
        power,
        stamp: Some(Stamp { fleet, order: order.clone(), login, copied: None, ran: None }),
        shape: Shape::default(),
        unclaimed: None,
    }
}

/// Somebody's instance without a stamp.
fn foreign(name: &str, uuid: &str, power: Power) -> Instance {
    Instance { name: name.into(), power, stamp: None, shape: Shape::default(), unclaimed: Some(uuid.into()) }
}

#[test]
fn a_create_goes_step_by_step() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let wanted = order(id, Desired::Running, 1, 0);
    let next = |seen: Option<&Instance>, ssh| plan(fleet, &wanted, seen, ssh);
    assert_eq!(next(None, false), Next::Do(Action::Create));
    assert_eq!(next(Some(&instance(fleet, &wanted, Power::Stopped, false)), false), Next::Do(Action::Start));
    assert_eq!(next(Some(&instance(fleet, &wanted, Power::Running, false)), false), Next::Do(Action::EnsureLogin));
    assert_eq!(next(Some(&instance(fleet, &wanted, Power::Running, true)), false), Next::Do(Action::WaitSsh));
    assert_eq!(next(Some(&instance(fleet, &wanted, Power::Running, true)), true), Next::Done(Observed::Running));
}

#[test]
fn a_stranger_of_that_name_is_refused_and_never_touched() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let unstamped = foreign("alice-container", "u-1", Power::Running);
    let other_id = instance(fleet, &order(ContainerId::generate(), Desired::Running, 9, 0), Power::Running, true);
    let other_fleet = instance(FleetId::generate(), &order(id, Desired::Running, 1, 0), Power::Running, true);
    for stranger in [unstamped, other_id, other_fleet] {
        let running = plan(fleet, &order(id, Desired::Running, 1, 0), Some(&stranger), false);
        assert!(matches!(running, Next::Refuse(_)), "{running:?}");
        let absent = plan(fleet, &order(id, Desired::Absent, 2, 0), Some(&stranger), false);
        assert_eq!(absent, Next::Done(Observed::Absent));
    }
}

#[test]
fn a_newer_stamp_wins_over_what_we_hold() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let newer = order(id, Desired::Running, 5, 0);
    let seen = instance(fleet, &newer, Power::Running, true);
    assert_eq!(plan(fleet, &order(id, Desired::Absent, 4, 0), Some(&seen), true), Next::Newer(Box::new(newer)));
}

#[test]
fn a_restart_happens_once() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let (old, new) = (order(id, Desired::Running, 1, 0), order(id, Desired::Running, 2, 1));
    let next = |stamped: &Order, power| plan(fleet, &new, Some(&instance(fleet, stamped, power, true)), true);
    assert_eq!(next(&old, Power::Running), Next::Do(Action::Stop(StopMode::Graceful)));
    assert_eq!(next(&old, Power::Stopped), Next::Do(Action::Configure));
    assert_eq!(next(&new, Power::Stopped), Next::Do(Action::Start));
    assert_eq!(next(&new, Power::Running), Next::Done(Observed::Running));
}

#[test]
fn what_does_not_start_by_itself_is_started_by_an_order_and_by_nothing_else() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let asleep = |generation| {
        let mut order = order(id, Desired::Running, generation, 0);
        order.spec.autostart = false;
        order
    };
    let (first, second) = (asleep(1), asleep(2));
    let mut seen = instance(fleet, &first, Power::Stopped, true);
    assert_eq!(plan(fleet, &first, Some(&seen), false), Next::Do(Action::Start), "the order was cut off before it ran");
    seen.power = Power::Running;
    assert_eq!(plan(fleet, &first, Some(&seen), true), Next::Do(Action::NoteRan));
    seen.stamp.as_mut().unwrap().ran = Some(first.generation);
    assert_eq!(plan(fleet, &first, Some(&seen), true), Next::Done(Observed::Running));
    // The node has booted.
    seen.power = Power::Stopped;
    assert_eq!(plan(fleet, &first, Some(&seen), false), Next::Done(Observed::Stopped));
    assert_eq!(plan(fleet, &second, Some(&seen), false), Next::Do(Action::Configure));
    seen.stamp.as_mut().unwrap().order = second.clone();
    assert_eq!(plan(fleet, &second, Some(&seen), false), Next::Do(Action::Start), "a start, given anew");
    // With autostart the note means nothing.
    let mut woken = second.clone();
    woken.spec.autostart = true;
    seen.stamp = Some(Stamp { fleet, order: woken.clone(), login: None, copied: None, ran: Some(woken.generation) });
    assert_eq!(plan(fleet, &woken, Some(&seen), false), Next::Do(Action::Start));
}

proptest! {
    /// From any instance of ours, every order comes to rest, in few steps, and only Absent destroys (I5).
    #[test]
    fn every_order_comes_to_rest(
        exists in any::<bool>(), running in any::<bool>(), login in any::<bool>(), stamped in 1u64..4,
        wanted in 0u8..3, restarts in 0u64..2, autostart in any::<bool>(),
    ) {
        let (fleet, id) = (FleetId::generate(), ContainerId::generate());
        let desired = [Desired::Running, Desired::Stopped, Desired::Absent][usize::from(wanted)];
        let mut order = order(id, desired, 3, restarts);
        order.spec.autostart = autostart;
        let power = if running { Power::Running } else { Power::Stopped };
        let mut old = order.clone();
        old.generation = Generation(stamped);
        old.spec.restarts = 0;
        // Same generation, same content (I4).
        if stamped == 3 {
            old = order.clone();
        }
        let mut seen = exists.then(|| instance(fleet, &old, power, login));
        let mut ssh = false;
        for _ in 0..10 {
            match plan(fleet, &order, seen.as_ref(), ssh) {
                Next::Done(observed) => {
                    let expected = match order.desired {
                        Desired::Running => Observed::Running,
                        Desired::Stopped => Observed::Stopped,
                        Desired::Absent => Observed::Absent,
                    };
                    prop_assert_eq!(observed, expected);
                    return Ok(());
                }
                Next::Newer(found) => order = *found,
                Next::Refuse(why) => prop_assert!(false, "{}", why),
                Next::Receive(_) | Next::Restore => prop_assert!(false, "nothing arrives here"),
                Next::Do(action) => {
                    prop_assert!(action != Action::Delete || order.desired == Desired::Absent);
                    seen = match (action, seen) {
                        (Action::Create, None) => Some(instance(fleet, &order, Power::Stopped, false)),
                        (Action::Delete, Some(_)) => None,
                        (Action::WaitSsh, seen) => { ssh = true; seen }
                        (action, Some(mut there)) => {
                            match action {
                                Action::Start => there.power = Power::Running,
                                Action::Stop(_) => there.power = Power::Stopped,
                                Action::EnsureLogin => there = instance(fleet, &there.stamp.unwrap().order, there.power, true),
                                Action::Configure | Action::Repair | Action::Adopt => there.stamp.as_mut().unwrap().order = order.clone(),
                                Action::ClearCopy => there.stamp.as_mut().unwrap().copied = None,
                                Action::NoteRan => there.stamp.as_mut().unwrap().ran = Some(order.generation),
                                Action::Create
                                | Action::Delete
                                | Action::WaitSsh
                                | Action::Rename
                                | Action::Halt
                                | Action::BringBack
                                | Action::StopReplaced
                                | Action::DeleteReplaced
                                | Action::PutInPlace
                                | Action::Dress
                                | Action::DropStaged => {
                                    unreachable!("handled above, or not asked for")
                                }
                            }
                            Some(there)
                        }
                        (action, None) => { prop_assert!(false, "{:?} on nothing", action); None }
                    };
                }
            }
        }
        prop_assert!(false, "did not come to rest");
    }
}

fn arriving(id: ContainerId, generation: u64, pass: u32) -> Order {
    let copy_pass = std::num::NonZeroU32::new(pass).map(CopyPass);
    Order { copy_pass, ..order(id, Desired::Stopped, generation, 0) }
}

fn copied(fleet: FleetId, order: &Order, pass: u32) -> Instance {
    let mut seen = instance(fleet, order, Power::Stopped, false);
    seen.stamp.as_mut().unwrap().copied = std::num::NonZeroU32::new(pass).map(CopyPass);
    seen
}

#[test]
fn an_arriving_container_is_copied_pass_by_pass_and_then_lives_here() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let (first, second, home) = (arriving(id, 5, 1), arriving(id, 6, 2), order(id, Desired::Running, 7, 0));
    assert_eq!(plan(fleet, &first, None, false), Next::Receive(Arrived::Nothing));
    assert_eq!(plan(fleet, &first, Some(&copied(fleet, &first, 0)), false), Next::Receive(Arrived::Torn));
    assert_eq!(plan(fleet, &first, Some(&copied(fleet, &first, 1)), false), Next::Done(Observed::Stopped));
    assert_eq!(plan(fleet, &second, Some(&copied(fleet, &first, 1)), false), Next::Receive(Arrived::Earlier));
    assert_eq!(plan(fleet, &second, Some(&copied(fleet, &first, 2)), false), Next::Do(Action::Configure));
    assert_eq!(plan(fleet, &second, Some(&copied(fleet, &second, 2)), false), Next::Done(Observed::Stopped));
    assert_eq!(plan(fleet, &home, Some(&copied(fleet, &second, 2)), false), Next::Do(Action::Configure));
    assert_eq!(plan(fleet, &home, Some(&copied(fleet, &home, 2)), false), Next::Do(Action::Start));
    let mut runs = copied(fleet, &home, 2);
    runs.power = Power::Running;
    runs.stamp.as_mut().unwrap().login = Some(login_hash(&home));
    assert_eq!(plan(fleet, &home, Some(&runs), true), Next::Do(Action::ClearCopy));
    runs.stamp.as_mut().unwrap().copied = None;
    assert_eq!(plan(fleet, &home, Some(&runs), true), Next::Done(Observed::Running));
}

#[test]
fn a_copy_that_is_not_whole_is_never_started_and_what_lives_here_is_never_copied_over() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let (second, home) = (arriving(id, 6, 2), order(id, Desired::Running, 7, 0));
    for pass in [0, 1] {
        let next = plan(fleet, &home, Some(&copied(fleet, &second, pass)), false);
        assert!(matches!(next, Next::Refuse(_)), "{next:?}");
    }
    let next = plan(fleet, &arriving(id, 8, 1), Some(&instance(fleet, &home, Power::Stopped, true)), false);
    assert!(matches!(next, Next::Refuse(_)), "{next:?}");
    let absent = order(id, Desired::Absent, 8, 0);
    assert_eq!(plan(fleet, &absent, Some(&copied(fleet, &second, 0)), false), Next::Do(Action::Delete));
}

#[test]
fn what_was_here_and_is_gone_is_lost_and_not_made_anew() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let known = Known { must_exist: true, ..Known::default() };
    let next = super::plan(fleet, &order(id, Desired::Running, 2, 0), None, known);
    assert_eq!(next, Next::Done(Observed::Absent));
}

fn adopting(instance: &str, uuid: &str) -> Licence {
    Licence::Adopt { instance: instance.into(), uuid: uuid.into() }
}

#[test]
fn with_a_licence_exactly_that_instance_is_adopted_and_no_other() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let wanted = order(id, Desired::Running, 1, 0);
    let next = |seen: Option<&Instance>, licence: Option<&Licence>| {
        super::plan(fleet, &wanted, seen, Known { must_exist: true, licence, ..Known::default() })
    };
    let licence = adopting("alice-container", "u-1");
    let meant = foreign("alice-container", "u-1", Power::Running);
    assert_eq!(next(Some(&meant), Some(&licence)), Next::Do(Action::Adopt));
    for other in [None, Some(&Licence::Repair), Some(&adopting("alice-container", "u-2"))] {
        assert!(matches!(next(Some(&meant), other), Next::Refuse(_)), "{other:?}");
    }
    let namesake = foreign("alice-container", "u-2", Power::Running);
    assert!(matches!(next(Some(&namesake), Some(&licence)), Next::Refuse(_)));
    // Another fleet's, or one with a damaged stamp: both are somebody's.
    let others = instance(FleetId::generate(), &wanted, Power::Running, true);
    assert!(matches!(next(Some(&others), Some(&licence)), Next::Refuse(_)));
    let damaged = Instance { unclaimed: None, ..meant.clone() };
    assert!(matches!(next(Some(&damaged), Some(&licence)), Next::Refuse(_)));
    assert_eq!(next(None, Some(&licence)), Next::Done(Observed::Absent), "it is gone: none is made in its place");
    // Once it is ours, the licence means nothing any more.
    let ours = instance(fleet, &wanted, Power::Stopped, false);
    assert_eq!(next(Some(&ours), Some(&licence)), Next::Do(Action::Start));
    let absent = order(id, Desired::Absent, 2, 0);
    let known = Known { licence: Some(&licence), ..Known::default() };
    assert_eq!(super::plan(fleet, &absent, Some(&meant), known), Next::Done(Observed::Absent), "not ours: left alone");
}

#[test]
fn what_is_adopted_under_another_name_is_renamed_first_if_it_is_stopped() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let wanted = order(id, Desired::Stopped, 1, 0);
    let licence = adopting("old", "u-1");
    let next = |seen: Option<&Instance>, named: &Instance| {
        let known = Known { must_exist: true, licence: Some(&licence), named: Some(named), ..Known::default() };
        super::plan(fleet, &wanted, seen, known)
    };
    assert_eq!(next(None, &foreign("old", "u-1", Power::Stopped)), Next::Do(Action::Rename));
    assert!(matches!(next(None, &foreign("old", "u-1", Power::Running)), Next::Refuse(_)));
    assert_eq!(next(None, &foreign("old", "u-2", Power::Stopped)), Next::Done(Observed::Absent), "a namesake");
    let renamed = foreign("alice-container", "u-1", Power::Stopped);
    assert_eq!(next(Some(&renamed), &foreign("old", "u-2", Power::Stopped)), Next::Do(Action::Adopt));
    let taken = foreign("alice-container", "u-3", Power::Stopped);
    assert!(matches!(next(Some(&taken), &foreign("old", "u-1", Power::Stopped)), Next::Refuse(_)));
}

#[test]
fn only_a_licence_to_repair_takes_away_what_was_added() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let (old, new) = (order(id, Desired::Running, 1, 0), order(id, Desired::Running, 2, 0));
    let next = |stamped: &Order, licence: Option<&Licence>| {
        let known = Known { ssh_answered: true, licence, ..Known::default() };
        super::plan(fleet, &new, Some(&instance(fleet, stamped, Power::Running, true)), known)
    };
    assert_eq!(next(&old, None), Next::Do(Action::Configure));
    assert_eq!(next(&old, Some(&Licence::Repair)), Next::Do(Action::Repair));
    assert_eq!(next(&new, Some(&Licence::Repair)), Next::Done(Observed::Running));
}

fn licensed(since: u64) -> Licence {
    Licence::Restore { snapshot: "before".parse().unwrap(), since: Generation(since) }
}

#[test]
fn a_restore_is_begun_once_stopped_and_finished_whatever_the_instance_claims_then() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let (old, new) = (order(id, Desired::Running, 3, 0), order(id, Desired::Running, 4, 0));
    let licence = licensed(4);
    let ask = |order: &Order, seen: Option<&Instance>, restoring: Option<u64>| {
        let restoring = restoring.map(Generation);
        super::plan(fleet, order, seen, Known { licence: Some(&licence), restoring, ..Known::default() })
    };
    let at = |order: &Order, power| instance(fleet, order, power, true);
    assert_eq!(ask(&new, Some(&at(&old, Power::Running)), None), Next::Do(Action::Halt));
    assert_eq!(ask(&new, Some(&at(&old, Power::Stopped)), None), Next::Do(Action::BringBack));
    // Stamped anew: its user may have gone on, under a later order too.
    assert_eq!(ask(&new, Some(&at(&new, Power::Stopped)), None), Next::Do(Action::Start));
    let later = order(id, Desired::Stopped, 5, 0);
    assert_eq!(ask(&later, Some(&at(&new, Power::Running)), None), Next::Do(Action::Configure));
    // Half done: it claims to be what it was, or nobody's.
    for power in [Power::Running, Power::Stopped] {
        let action = if power == Power::Running { Action::Halt } else { Action::BringBack };
        let nobodys = Instance { stamp: None, ..at(&old, power) };
        for seen in [at(&order(id, Desired::Running, 1, 0), power), nobodys] {
            assert_eq!(ask(&new, Some(&seen), Some(4)), Next::Do(action));
            assert_eq!(ask(&order(id, Desired::Absent, 5, 0), Some(&seen), Some(4)), Next::Do(action));
        }
    }
    // What is to go is not brought back first; what is gone is lost, and not made anew.
    assert_eq!(ask(&order(id, Desired::Absent, 4, 0), Some(&at(&old, Power::Stopped)), None), Next::Do(Action::Delete));
    let gone = Known { licence: Some(&licence), must_exist: true, ..Known::default() };
    assert_eq!(super::plan(fleet, &new, None, gone), Next::Done(Observed::Absent));
}

fn origin(backup: &str) -> Origin {
    let data = BackupData { size: Bytes(1), sha256: Checksum::of(&[1; 32]) };
    Origin { restore: RequestId::generate(), backup: backup.parse().unwrap(), data }
}

/// What an import leaves: no stamp, but the mark.
fn imported(name: &str, mark: &str) -> Instance {
    let mut seen = foreign(name, "u-1", Power::Stopped);
    seen.unclaimed = None;
    seen.shape.config.insert(BACKUP_MARK.into(), mark.into());
    seen
}

const BACKUP: &str = "20261124-145205";

/// Follows the plan on pretended instances; gives what was done, and what is left under both names.
fn carried_out(
    fleet: FleetId,
    wanted: &Order,
    (mut seen, mut staged): (Option<Instance>, Option<Instance>),
    must_exist: bool,
) -> (Vec<String>, Option<Instance>, Option<Instance>) {
    let mut done = Vec::new();
    let mut ssh_answered = false;
    for _ in 0..20 {
        let known = Known { ssh_answered, must_exist, staged: staged.as_ref(), ..Known::default() };
        let next = super::plan(fleet, wanted, seen.as_ref(), known);
        done.push(format!("{next:?}"));
        match next {
            Next::Done(_) | Next::Refuse(_) => return (done, seen, staged),
            Next::Restore => staged = Some(imported("alice-container-restore", &format!("alice/{BACKUP}"))),
            Next::Newer(_) | Next::Receive(_) => panic!("{done:?}"),
            Next::Do(action) => {
                // What is replaced goes only when the new one is whole beside it.
                let whole = || staged.as_ref().is_some_and(|s| s.shape.config[BACKUP_MARK].ends_with(BACKUP));
                match action {
                    Action::StopReplaced => seen.as_mut().unwrap().power = Power::Stopped,
                    Action::DeleteReplaced => {
                        assert!(whole() || seen.as_ref().unwrap().stamp.is_none(), "{done:?}");
                        seen = None;
                    }
                    Action::Delete => seen = None,
                    Action::DropStaged => staged = None,
                    Action::PutInPlace => seen = staged.take(),
                    Action::Dress | Action::Configure => {
                        assert_eq!(action == Action::Dress, seen.as_ref().unwrap().stamp.is_none());
                        seen = Some(instance(fleet, wanted, Power::Stopped, false));
                    }
                    Action::Start => seen.as_mut().unwrap().power = Power::Running,
                    Action::Stop(_) => seen.as_mut().unwrap().power = Power::Stopped,
                    Action::EnsureLogin => seen = Some(instance(fleet, wanted, Power::Running, true)),
                    Action::WaitSsh => ssh_answered = true,
                    Action::Create
                    | Action::Repair
                    | Action::Adopt
                    | Action::Rename
                    | Action::ClearCopy
                    | Action::Halt
                    | Action::BringBack
                    | Action::NoteRan => {
                        panic!("{done:?}")
                    }
                }
            }
        }
    }
    panic!("did not come to rest: {done:?}");
}

#[test]
fn from_wherever_it_was_cut_off_a_restore_comes_to_its_end() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let wanted = Order { origin: Some(origin(BACKUP)), ..order(id, Desired::Running, 3, 0) };
    let old = |power| instance(fleet, &order(id, Desired::Running, 2, 0), power, true);
    let whole = || imported("alice-container-restore", &format!("alice/{BACKUP}"));
    let other = || imported("alice-container-restore", "alice/20250101-000000");
    let in_place = |mark: &str| imported("alice-container", mark);
    let seen = [
        None,
        Some(old(Power::Running)),
        Some(old(Power::Stopped)),
        Some(in_place(&format!("alice/{BACKUP}"))),
        Some(in_place("alice/20250101-000000")),
        Some(instance(fleet, &wanted, Power::Running, true)),
    ];
    for start in seen {
        for staged in [None, Some(whole()), Some(other())] {
            let (done, seen, staged) = carried_out(fleet, &wanted, (start.clone(), staged), false);
            assert_eq!(done.last().unwrap(), "Done(Running)", "{done:?}");
            let stamp = seen.and_then(|seen| seen.stamp).unwrap();
            assert_eq!((stamp.order.origin, staged), (wanted.origin.clone(), None), "{done:?}");
        }
    }
}

#[test]
fn a_deletion_takes_what_was_imported_too_and_a_stranger_is_left_alone() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let origin = Some(origin(BACKUP));
    let absent = Order { origin: origin.clone(), ..order(id, Desired::Absent, 4, 0) };
    let marked = |name: &str| Some(imported(name, "alice/20250101-000000"));
    let old = Some(instance(fleet, &order(id, Desired::Running, 2, 0), Power::Running, true));
    for seen in [None, old, marked("alice-container")] {
        let (done, seen, staged) = carried_out(fleet, &absent, (seen, marked("alice-container-restore")), false);
        assert_eq!((done.last().unwrap().as_str(), seen, staged), ("Done(Absent)", None, None), "{done:?}");
    }
    let wanted = Order { origin, ..order(id, Desired::Running, 3, 0) };
    let strangers = [
        foreign("alice-container-restore", "u-9", Power::Running),
        imported("alice-container-restore", "bob/20250101-000000"),
    ];
    for stranger in strangers {
        let (done, ..) = carried_out(fleet, &wanted, (None, Some(stranger)), false);
        assert!(done[0].starts_with("Refuse"), "{done:?}");
    }
}

#[test]
fn what_was_restored_and_is_gone_is_lost_and_not_restored_again() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let wanted = Order { origin: Some(origin(BACKUP)), ..order(id, Desired::Running, 3, 0) };
    let (done, ..) = carried_out(fleet, &wanted, (None, None), true);
    assert_eq!(done, ["Done(Absent)"]);
    // It moves on: its data come from the node where it is.
    let arriving = Order { copy_pass: Some(CopyPass::FIRST), ..wanted };
    assert_eq!(plan(fleet, &arriving, None, false), Next::Receive(Arrived::Nothing));
}

#[test]
fn a_change_of_guests_is_a_change_of_logins() {
    let fleet = FleetId::generate();
    let mut order = order(ContainerId::generate(), Desired::Running, 1, 0);
    let guest = |name: &str, sudo, keys: &[&str]| Guest {
        user: name.parse().unwrap(),
        sudo,
        keys: KeySet::from_recorded(keys.iter().map(|key| key.trim_end())).unwrap(),
    };
    let sets = [
        vec![],
        vec![guest("bob", false, &[])],
        vec![guest("bob", true, &[])],
        vec![guest("bob", false, &[KEY])],
        vec![guest("bob", false, &[]), guest("carol", false, &[])],
    ];
    let hashes: std::collections::BTreeSet<String> = sets
        .iter()
        .map(|guests| {
            order.guests.clone_from(guests);
            login_hash(&order)
        })
        .collect();
    assert_eq!(hashes.len(), sets.len(), "each of them is made anew");
    order.guests = sets[1].clone();
    let made = instance(fleet, &order, Power::Running, true);
    assert_eq!(plan(fleet, &order, Some(&made), true), Next::Done(Observed::Running));
    let mut left = made;
    left.stamp.as_mut().unwrap().login = Some("of a guest who is no longer one".into());
    assert_eq!(plan(fleet, &order, Some(&left), true), Next::Do(Action::EnsureLogin));
}

#[test]
fn what_is_fenced_is_started_by_a_word_and_is_left_alone_while_it_runs() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let mut wanted = order(id, Desired::Running, 3, 0);
    wanted.spec.fenced = true;
    let stopped = instance(fleet, &wanted, Power::Stopped, true);
    let next = |order: &Order, seen: &Instance, word| {
        super::plan(fleet, order, Some(seen), Known { word, ssh_answered: true, ..Known::default() })
    };
    assert_eq!(next(&wanted, &stopped, false), Next::Done(Observed::AwaitingWord));
    assert_eq!(next(&wanted, &stopped, true), Next::Do(Action::Start));
    let running = instance(fleet, &wanted, Power::Running, true);
    assert_eq!(next(&wanted, &running, false), Next::Done(Observed::Running));
    // A word that came too late: a failover has taken its place.
    let superseded = Order { generation: Generation(4), desired: Desired::Stopped, ..wanted };
    assert_eq!(next(&superseded, &running, true), Next::Do(Action::Configure));
    let told = instance(fleet, &superseded, Power::Running, true);
    assert_eq!(next(&superseded, &told, false), Next::Do(Action::Stop(StopMode::Graceful)));
}

#[test]
fn a_replica_that_was_whole_and_is_gone_is_lost_and_not_copied_anew_unasked() {
    let (fleet, id) = (FleetId::generate(), ContainerId::generate());
    let mut replica = order(id, Desired::Stopped, 3, 0);
    replica.copy_pass = Some(CopyPass::FIRST.next());
    let next = |must_exist| super::plan(fleet, &replica, None, Known { must_exist, ..Known::default() });
    assert_eq!(next(true), Next::Done(Observed::Absent));
    assert_eq!(next(false), Next::Receive(Arrived::Nothing));
}
