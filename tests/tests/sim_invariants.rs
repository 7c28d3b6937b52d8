//! The checker checked: for each invariant, defects that the fleet does not have are shown to it, and it must name that
//! invariant and no other. What is shown is a sound fleet with one thing changed.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, sync::OnceLock, time::Instant};

use containarium_agent::host::{
    Power,
    sim::{Change, SimInstance},
};
use containarium_proto::{
    convert,
    ids::{Generation, Term},
    node::{CopyPass, Order, Sender},
    spec::Desired,
    v1,
};
use containarium_tests::{
    fleet::{Fleet, eventually},
    invariants::{
        Invariant::{self, I1, I2, I3, I4, I5, I6, I7, I8, I9, I10, I11},
        history::{Entry, History},
        rest::{Seen, judge},
        rows::{At, Placement, Rows},
        settle, violations,
        wire::{Message, Sent},
    },
};

const NAME: &str = "alice-container";

/// Alice on jump-1, and an empty jump-2, as they were seen at rest; with what had happened.
#[derive(Clone)]
struct Sound {
    seen: Seen,
    history: History,
}

impl Sound {
    /// One fleet for all tests: nobody changes it.
    fn fleet() -> Self {
        static SOUND: OnceLock<Sound> = OnceLock::new();
        let make = || {
            let fleet = with_alice();
            let seen = Seen::of(&fleet);
            // The last commit may not have been told yet.
            eventually("the history has come as far", || {
                let mut history = fleet.observer.remembered();
                history.take(Entry::Rows(seen.rows.clone()), Instant::now());
                history.violations().is_empty()
            });
            Self { seen, history: fleet.observer.remembered() }
        };
        SOUND.get_or_init(make).clone()
    }

    fn at(&self) -> At {
        self.seen.rows.placements.keys().next().unwrap().clone()
    }

    fn instance(&self) -> SimInstance {
        self.seen.nodes[0].instances[NAME].clone()
    }

    fn order(&self) -> Order {
        self.instance().seen.stamp.unwrap().order
    }

    /// As a commit leaves it that changes this.
    fn rows(&self, change: impl FnOnce(&mut Rows, &At)) -> Entry {
        let mut rows = self.seen.rows.clone();
        rows.rev += 1;
        change(&mut rows, &self.at());
        Entry::Rows(rows)
    }

    fn call(&self, method: &str, message: Message) -> Sent {
        let Rows { fleet: fleet_id, term, .. } = self.seen.rows.clone();
        let sender = Some(v1::Sender { fleet_id, term });
        Sent { node: "jump-1".into(), method: method.into(), message, sender }
    }

    fn apply(&self, change: impl FnOnce(&mut v1::ApplyRequest)) -> Sent {
        let sender = Sender { fleet: self.seen.rows.fleet.parse().unwrap(), term: Term(self.seen.rows.term) };
        let mut order = convert::order_to_wire(sender, &self.order());
        change(&mut order);
        self.call("Apply", Message::Apply(Box::new(order)))
    }

    /// What the history names when this happens too.
    fn names(&self, entries: impl IntoIterator<Item = Entry>) -> BTreeSet<Invariant> {
        let mut history = self.history.clone();
        entries.into_iter().for_each(|entry| history.take(entry, Instant::now()));
        history.violations().iter().map(|violation| violation.invariant).collect()
    }

    /// What the look at rest names when this was seen instead.
    fn names_at_rest(&self, change: impl FnOnce(&mut Seen)) -> BTreeSet<Invariant> {
        let mut seen = self.seen.clone();
        change(&mut seen);
        judge(&seen).iter().map(|violation| violation.invariant).collect()
    }
}

fn with_alice() -> Fleet {
    let fleet = Fleet::watched_nodes(2);
    fleet.create(v1::CreateContainerRequest { node: "jump-1".into(), ..Fleet::request("alice") }).unwrap();
    settle(&fleet);
    fleet
}

fn only(invariant: Invariant) -> BTreeSet<Invariant> {
    BTreeSet::from([invariant])
}

fn change(node: &str, before: Option<SimInstance>, after: Option<SimInstance>) -> Entry {
    Entry::Instance { node: node.into(), change: Box::new(Change { before, after, by_agent: true }) }
}

fn on_jump_2(rows: &mut Rows, (id, node): &At, change: impl FnOnce(&mut Placement)) {
    let mut row = rows.placements[&(id.clone(), node.clone())].clone();
    row.address = "10.100.2.2".into();
    change(&mut row);
    rows.placements.insert((id.clone(), "jump-2".into()), row);
}

#[test]
fn a_sound_fleet_is_sound() {
    let sound = Sound::fleet();
    assert!(sound.names([sound.rows(|_, _| ())]).is_empty());
    assert!(sound.names([Entry::Call(sound.apply(|_| ()))]).is_empty());
    assert!(sound.names_at_rest(|_| ()).is_empty());
}

#[test]
fn i1_two_homes_are_seen() {
    let sound = Sound::fleet();
    let twice = sound.rows(|rows, at| on_jump_2(rows, at, |_| ()));
    assert_eq!(sound.names([twice]), only(I1));
    // Started from a copy while the old one runs.
    let mut copy = sound.instance();
    copy.seen.stamp.as_mut().unwrap().order.copy_pass = Some(CopyPass::FIRST);
    assert_eq!(sound.names([change("jump-2", None, Some(copy.clone()))]), only(I1));
    // A node that was cut off makes what is wanted elsewhere by now: nobody is let in there, and it will go.
    let outdated = sound.rows(|rows, at| {
        on_jump_2(rows, at, |row| (row.desired, row.ever_ran) = ("absent".into(), false));
    });
    assert!(sound.names([outdated, change("jump-2", None, Some(copy.clone()))]).is_empty());
    let both = sound.names_at_rest(|seen| drop(seen.nodes[1].instances.insert(NAME.into(), copy)));
    assert_eq!(both, BTreeSet::from([I1, I11]), "and it is an orphan there");
    let listed = sound.names_at_rest(|seen| {
        let twin = v1::Container { id: "another".into(), address: "10.100.1.9".into(), ..seen.listed[0].clone() };
        seen.listed.push(twin);
    });
    assert!(listed.contains(&I1));
}

#[test]
fn i2_a_node_beyond_what_it_holds_is_seen() {
    let sound = Sound::fleet();
    let set = |change: fn(&mut Placement)| {
        let rows = sound.rows(|rows, at| change(rows.placements.get_mut(at).unwrap()));
        sound.names([rows])
    };
    assert!(set(|row| row.memory_bytes = 90 << 30).is_empty(), "64 GiB less one, times 1.5");
    assert_eq!(set(|row| row.memory_bytes = 95 << 30), only(I2));
    assert_eq!(set(|row| row.cpu_millis = 64_001 + 1000), only(I2));
    assert_eq!(set(|row| row.disk_bytes = 951_000_000_000), only(I2));
}

#[test]
fn i3_a_call_that_no_row_asks_for_is_seen() {
    let sound = Sound::fleet();
    let next = sound.apply(|order| order.generation += 1);
    assert_eq!(sound.names([Entry::Call(next)]), only(I3));
    let other = sound.apply(|order| order.container_id = "another".into());
    assert_eq!(sound.names([Entry::Call(other)]), only(I3));
    let elsewhere = Sent { node: "jump-2".into(), ..sound.apply(|_| ()) };
    assert_eq!(sound.names([Entry::Call(elsewhere)]), only(I3));
    let stranger = v1::Account { username: "mallory".into(), ..Default::default() };
    let accounts = v1::SyncAccessRequest { accounts: vec![stranger], ..Default::default() };
    let call = sound.call("SyncAccess", Message::SyncAccess(accounts));
    assert_eq!(sound.names([Entry::Call(call)]), only(I3));
    let about = Message::About { id: "another".into(), generation: 0 };
    assert_eq!(sound.names([Entry::Call(sound.call("WithdrawCopy", about))]), only(I3));
}

#[test]
fn i4_a_step_back_and_a_changed_meaning_are_seen() {
    let sound = Sound::fleet();
    let next = |rows: &mut Rows, at: &At| rows.placements.get_mut(at).unwrap().generation += 1;
    let back = sound.rows(|rows, _| rows.rev += 1);
    assert_eq!(sound.names([sound.rows(next), back]), only(I4));
    let reworded = sound.rows(|rows, at| rows.placements.get_mut(at).unwrap().desired = "stopped".into());
    assert_eq!(sound.names([reworded]), only(I4));
    let resent = sound.apply(|order| order.ssh_keys.clear());
    assert_eq!(sound.names([Entry::Call(resent)]), only(I4));
    let at = |generation: u64| {
        let mut instance = sound.instance();
        instance.seen.stamp.as_mut().unwrap().order.generation = Generation(generation);
        Some(instance)
    };
    assert_eq!(sound.names([change("jump-1", at(5), at(4))]), only(I4));
    assert!(sound.names([change("jump-1", at(4), at(5))]).is_empty());
}

#[test]
fn i5_what_is_destroyed_without_an_order_is_seen() {
    let sound = Sound::fleet();
    let destroyed = || change("jump-1", Some(sound.instance()), None);
    assert_eq!(sound.names([destroyed()]), only(I5));
    // An order of Absent as old as the instance is none.
    let order = |add: u64| {
        let rows = sound.rows(|rows, at| {
            let row = rows.placements.get_mut(at).unwrap();
            (row.desired, row.generation) = ("absent".into(), row.generation + add);
        });
        let absent = sound.apply(|order| {
            order.generation += add;
            order.set_desired(v1::Desired::Absent);
        });
        [rows, Entry::Call(absent), destroyed()]
    };
    assert!(sound.names(order(0)).contains(&I5));
    assert!(sound.names(order(1)).is_empty());
    // Of a copy of which no pass has ended, nobody will miss anything; of another one, everything.
    let copy = |copied| {
        let mut instance = sound.instance();
        let stamp = instance.seen.stamp.as_mut().unwrap();
        (stamp.order.copy_pass, stamp.copied) = (Some(CopyPass::FIRST), copied);
        change("jump-2", Some(instance), None)
    };
    assert!(sound.names([copy(None)]).is_empty());
    assert_eq!(sound.names([copy(Some(CopyPass::FIRST))]), only(I5));
}

#[test]
fn i5_an_agent_that_obeys_somebody_else_is_seen() {
    let fleet = with_alice();
    let rows = fleet.observer.rows();
    let order = fleet.nodes[0].host.instances_now()[NAME].seen.stamp.clone().unwrap().order;
    let absent = Order { generation: order.generation.next(), desired: Desired::Absent, ..order };
    let sender = Sender { fleet: rows.fleet.parse().unwrap(), term: Term(rows.term) };
    fleet.order_behind_its_back(0, convert::order_to_wire(sender, &absent));
    eventually("it is destroyed", || fleet.nodes[0].host.instances_now().is_empty());
    assert!(violations(&fleet).iter().any(|violation| violation.invariant == I5));
}

#[test]
fn i6_a_hand_on_what_is_not_ours_is_seen() {
    let sound = Sound::fleet();
    let mut bare = sound.instance();
    bare.seen.stamp = None;
    bare.seen.unclaimed = Some("uuid-1".into());
    assert_eq!(sound.names([change("jump-1", None, Some(bare.clone()))]), only(I6), "made without a stamp");
    assert_eq!(sound.names([change("jump-2", Some(bare.clone()), Some(sound.instance()))]), BTreeSet::from([I1, I6]));
    let mut stopped = bare.clone();
    stopped.seen.power = Power::Stopped;
    assert_eq!(sound.names([change("jump-1", Some(bare.clone()), Some(stopped.clone()))]), only(I6));
    let licence = v1::Adopt { instance: "old".into(), uuid: "uuid-1".into() };
    let licence = Some(v1::Licence { kind: Some(v1::licence::Kind::Adopt(licence)) });
    let adoption = Entry::Call(sound.apply(|order| order.licence = licence));
    assert!(sound.names([adoption, change("jump-1", Some(bare.clone()), Some(stopped))]).is_empty());
    // Another fleet's.
    let mut other = sound.instance();
    other.seen.stamp.as_mut().unwrap().fleet = containarium_proto::ids::FleetId::generate();
    let mut changed = other.clone();
    changed.data = "other".into();
    assert_eq!(sound.names([change("jump-1", Some(other), Some(changed))]), only(I6));
    assert!(sound.names_at_rest(|seen| drop(seen.nodes[0].instances.insert(NAME.into(), bare))).contains(&I6));
}

#[test]
fn i7_a_row_that_goes_too_early_is_seen() {
    let sound = Sound::fleet();
    let gone = |rows: &mut Rows, at: &At| {
        rows.placements.remove(at);
        rows.owners.remove(&at.0);
    };
    assert_eq!(sound.names([sound.rows(gone)]), only(I7));
    let retired = sound.rows(|rows, at| {
        gone(rows, at);
        rows.nodes.get_mut("jump-1").unwrap().policy = "retired".into();
    });
    assert!(sound.names([retired]).is_empty(), "an operator said so");
}

#[test]
fn i8_a_home_that_changes_by_itself_and_an_empty_one_in_its_place_are_seen() {
    let sound = Sound::fleet();
    let moves = |rows: &mut Rows, at: &At| {
        on_jump_2(rows, at, |row| row.generation += 2);
        let row = rows.placements.get_mut(at).unwrap();
        (row.desired, row.generation) = ("absent".into(), row.generation + 1);
    };
    assert_eq!(sound.names([sound.rows(moves)]), only(I8));
    let begun = sound.rows(|rows, at| drop(rows.moves.insert(at.0.clone(), ("jump-1".into(), "jump-2".into()))));
    let moved = sound.rows(|rows, at| {
        rows.rev += 1;
        moves(rows, at);
    });
    assert!(sound.names([begun, moved]).is_empty(), "somebody asked for it");
    let mut empty = sound.instance();
    empty.seen.power = Power::Stopped;
    assert_eq!(sound.names([change("jump-1", None, Some(empty))]), only(I8));
}

#[test]
fn i9_a_write_and_a_call_without_a_term_are_seen() {
    let sound = Sound::fleet();
    let unfenced = sound.rows(|rows, at| {
        rows.rev -= 1;
        rows.placements.get_mut(at).unwrap().memory_bytes += 1;
    });
    assert_eq!(sound.names([unfenced]), only(I9));
    let back = sound.rows(|rows, _| rows.term -= 1);
    assert_eq!(sound.names([back]), only(I9));
    let by = |sender: Option<v1::Sender>| sound.names([Entry::Call(Sent { sender, ..sound.apply(|_| ()) })]);
    let sender = sound.apply(|_| ()).sender.unwrap();
    assert_eq!(by(None), only(I9));
    assert_eq!(by(Some(v1::Sender { term: 0, ..sender.clone() })), only(I9));
    assert_eq!(by(Some(v1::Sender { term: sender.term + 1, ..sender.clone() })), only(I9));
    assert_eq!(by(Some(v1::Sender { fleet_id: "another".into(), ..sender })), only(I9));
}

#[test]
fn i10_a_placement_before_everybody_had_a_word_is_seen() {
    let sound = Sound::fleet();
    let term = sound.seen.rows.term + 1;
    let reign = || sound.rows(|rows, _| rows.term += 1);
    let placed = || {
        sound.rows(|rows, at| {
            (rows.term, rows.rev) = (rows.term + 1, rows.rev + 1);
            let row = Placement { address: "10.100.1.9".into(), ..rows.placements[at].clone() };
            rows.placements.insert(("another".into(), "jump-1".into()), row);
            rows.owners.insert("another".into(), "bob".into());
        })
    };
    let tried = |node: &str| Entry::Tried { node: node.into(), term };
    assert_eq!(sound.names([reign(), placed()]), only(I10));
    assert_eq!(sound.names([reign(), tried("jump-1"), placed()]), only(I10));
    assert!(sound.names([reign(), tried("jump-1"), tried("jump-2"), placed()]).is_empty());
}

type Leftover = (&'static str, fn(&mut Seen, At));

#[test]
fn i11_whatever_is_left_over_missing_or_contradicts_is_seen() {
    let leftovers: [Leftover; 15] = [
        ("instance lost", |seen, _| drop(seen.nodes[0].instances.remove(NAME))),
        ("instance of nobody", |seen, _| {
            seen.listed.clear();
            seen.rows.placements.clear();
        }),
        ("account of nobody", |seen, _| {
            let account = seen.nodes[1].accounts["alice"].clone();
            seen.nodes[1].accounts.insert("mallory".into(), account);
        }),
        ("account missing", |seen, _| drop(seen.nodes[1].accounts.remove("alice"))),
        ("account of a deleted key", |seen, _| seen.nodes[1].accounts.get_mut("alice").unwrap().ssh_keys.clear()),
        ("account to elsewhere", |seen, _| seen.nodes[1].accounts.get_mut("alice").unwrap().permit = None),
        ("reserved memory", |seen, _| seen.nodes[0].listed.reserved_memory_bytes += 1),
        ("reserved disk", |seen, _| seen.nodes[1].listed.reserved_disk_bytes += 1),
        ("row of what is gone", |seen, at| seen.rows.placements.get_mut(&at).unwrap().desired = "absent".into()),
        ("container without a row", |seen, _| drop(seen.rows.owners.insert("another".into(), "bob".into()))),
        ("move without an end", |seen, at| {
            seen.rows.moves.insert(at.0, ("jump-1".into(), "jump-2".into()));
        }),
        ("address shared", |seen, _| {
            let bob = v1::Container { id: "another".into(), user: "bob".into(), ..seen.listed[0].clone() };
            seen.listed.push(bob);
        }),
        ("snapshot of a move", |seen, _| {
            seen.nodes[0].instances.get_mut(NAME).unwrap().offered.insert(CopyPass::FIRST);
        }),
        ("key inside", |seen, _| seen.nodes[0].instances.get_mut(NAME).unwrap().logins.clear()),
        ("generation", |seen, _| seen.listed[0].generation += 1),
    ];
    let sound = Sound::fleet();
    for (what, leave) in leftovers {
        let named = sound.names_at_rest(|seen| leave(seen, sound.at()));
        assert_eq!(named, only(I11), "{what}");
    }
}
