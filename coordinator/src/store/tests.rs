use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use containarium_proto::{
    cpu::Cpu,
    ids::{AccessRevision, ContainerId, Generation, RequestId},
    labels::Labels,
    names::NodeName,
    snapshots::{Every, Schedule},
    spec::{Capacity, Desired, Image, Observed},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use self::cluster::Postgres;
use super::{
    testing::{claim, held},
    *,
};
use crate::{
    availability::Availability,
    config::Overcommit,
    database::DatabaseUrl,
    placement::{self, Candidate, Demand},
    settings::NodeSettings,
};

#[path = "../../../tests/src/postgres.rs"]
#[allow(dead_code, unreachable_pub)]
mod cluster;

struct Db {
    store: Store,
    fence: Fence,
    url: DatabaseUrl,
    _dir: tempfile::TempDir,
}

async fn sqlite() -> Db {
    let dir = tempfile::tempdir().unwrap();
    db(DatabaseUrl::sqlite(&dir.path().join("fleet.db")), dir).await
}

async fn postgres() -> Db {
    let name = tokio::task::spawn_blocking(|| Postgres::get().create()).await.unwrap();
    db(Postgres::get().url(&name, None).parse().unwrap(), tempfile::tempdir().unwrap()).await
}

async fn db(url: DatabaseUrl, dir: tempfile::TempDir) -> Db {
    let store = Store::open(&url).await.unwrap();
    let fence = store.take_lease(&claim("one")).await.unwrap();
    let mut tx = store.write(&fence).await.unwrap();
    for index in 1..=2 {
        tx.insert_node(&node(index), &format!("10.0.0.{index}:1")).await.unwrap();
    }
    tx.commit().await.unwrap();
    Db { store, fence, url, _dir: dir }
}

/// The contract of the store, kept by both databases.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() { super::$name(super::sqlite().await).await })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() { super::$name(super::postgres().await).await })*
        }
    };
}

on_both! {
    what_is_written_is_read_back_the_same_also_by_the_next_process
    every_lifetime_is_read_back_and_grace_counts_only_where_something_expired_unprotected
    a_write_of_an_older_term_changes_nothing
    a_write_that_is_dropped_changes_nothing_and_blocks_nobody
    one_placement_is_wanted_and_one_address_given_once
    a_placement_goes_only_when_absent_is_wanted_and_confirmed_for_its_generation
    having_run_is_never_forgotten
    accounts_are_those_of_wanted_placements_with_their_revision
    the_event_log_is_bounded_newest_kept
    a_request_changes_once_and_is_remembered_for_a_while
    pages_hold_every_container_once_whatever_comes_and_goes_meanwhile
    an_event_sorts_after_all_before_it_also_after_the_clock_was_turned_back
    forty_creates_racing_for_ten_places_get_exactly_ten
    an_answer_that_is_lost_is_asked_for
    the_lease_goes_only_to_one_who_saw_it_rest
    a_backup_is_restored_into_either_database
    snapshots_go_with_their_container_and_one_is_under_way_at_a_time
    what_is_claimed_of_a_node_is_summed_up
    tables_of_a_later_version_are_left_alone
}

fn node(index: u8) -> NodeName {
    format!("jump-{index}").parse().unwrap()
}

impl Db {
    async fn insert(&self, held: &Held) -> Result<(), StoreError> {
        let mut tx = self.store.write(&self.fence).await?;
        tx.insert_container(&held.container).await?;
        tx.insert_placement(&held.placement).await?;
        tx.commit().await
    }

    async fn all(&self) -> Vec<Held> {
        self.store.reader().await.unwrap().all().await.unwrap()
    }
}

async fn what_is_written_is_read_back_the_same_also_by_the_next_process(db: Db) {
    let mut alice = held("alice", "jump-1", 2);
    alice.placement.observed = Observed::Failed { error: "it's \"broken\"\n".into(), permanent: false };
    alice.container.labels = Labels::of(["zone=a".parse().unwrap()]).unwrap();
    alice.placement.change_request = Some(alice.container.request_id);
    db.insert(&alice).await.unwrap();
    let facts = NodeFacts {
        cidr: "10.100.1.0/24".parse().unwrap(),
        gateway: [10, 100, 1, 1].into(),
        boot_id: "b".into(),
        capacity: Capacity { cpus: 4, ..Capacity::default() },
        images: vec![Image { alias: "containarium".into(), fingerprint: alice.placement.spec.image.clone() }],
        addresses: vec![[10, 99, 0, 11].into()],
    };
    let settings = NodeSettings { max_containers: Some(9), ..NodeSettings::default() };
    let labels = Labels::of(["gpu=true".parse().unwrap()]).unwrap();
    let mut tx = db.store.write(&db.fence).await.unwrap();
    tx.record_facts(&node(1), &facts).await.unwrap();
    tx.configure_node(&node(1), &settings, &labels).await.unwrap();
    tx.commit().await.unwrap();
    let id = db.store.reader().await.unwrap().fleet().await.unwrap().id;
    if !db.url.is_postgres() {
        assert_eq!(db.store.reader().await.unwrap().pragma("PRAGMA journal_mode").await, "wal");
    }
    db.store.close().await;

    let again = Store::open(&db.url).await.unwrap();
    let mut reader = again.reader().await.unwrap();
    assert_eq!(reader.all().await.unwrap(), [alice.clone()]);
    assert_eq!(reader.of_owner(&alice.container.owner).await.unwrap(), [alice.clone()]);
    assert_eq!(reader.of_request(alice.container.request_id).await.unwrap(), [alice.clone()]);
    assert_eq!(reader.of_name("alice-container").await.unwrap(), [alice.clone()]);
    let row = reader.node(&node(1)).await.unwrap().unwrap();
    assert!(facts.same_as(&row));
    assert_eq!((row.settings, row.labels), (settings, labels));
    let fleet = reader.fleet().await.unwrap();
    assert_eq!((fleet.id, fleet.term), (id, Term(1)), "a fleet is founded once");
}

async fn every_lifetime_is_read_back_and_grace_counts_only_where_something_expired_unprotected(db: Db) {
    let expired = Ttl::Expired { expires_at: 5, expired_at: 7, graced: Duration::from_millis(30), kept_noted: true };
    let lives = [
        ("ann", Lifetime::default()),
        ("ben", Lifetime { ttl: Ttl::Runs { expires_at: 9, warn_at: Some(8) }, idle_stop: None }),
        ("cat", Lifetime { ttl: Ttl::Runs { expires_at: 9, warn_at: None }, idle_stop: Some(Duration::from_secs(3)) }),
        ("dan", Lifetime { ttl: expired, idle_stop: None }),
        ("eve", Lifetime { ttl: expired, idle_stop: None }),
    ];
    for (last, (user, lifetime)) in (2..).zip(lives) {
        let mut held = held(user, "jump-1", last);
        (held.container.lifetime, held.container.protected) = (lifetime, user == "eve");
        db.insert(&held).await.unwrap();
    }
    let read: Vec<_> = db.all().await.iter().map(|held| held.container.lifetime).collect();
    assert_eq!(read, lives.map(|(_, lifetime)| lifetime));
    let mut tx = db.store.write(&db.fence).await.unwrap();
    tx.count_grace(Duration::from_millis(12)).await.unwrap();
    tx.commit().await.unwrap();
    let graced = Ttl::Expired { expires_at: 5, expired_at: 7, graced: Duration::from_millis(42), kept_noted: true };
    let mut found = db.store.reader().await.unwrap().with_lifetime().await.unwrap();
    found.sort_by(|a, b| a.container.owner.as_str().cmp(b.container.owner.as_str()));
    let found: Vec<_> = found.iter().map(|held| (held.container.owner.as_str(), held.container.lifetime.ttl)).collect();
    assert_eq!(found, [("ben", lives[1].1.ttl), ("cat", lives[2].1.ttl), ("dan", graced), ("eve", expired)]);
}

async fn snapshots_go_with_their_container_and_one_is_under_way_at_a_time(db: Db) {
    let mut alice = held("alice", "jump-1", 2);
    let schedule = Some(Schedule { every: Every::Week, keep: "3".parse().unwrap() });
    alice.container.snapshots = Snapshotting { schedule, last_at: Some(5) };
    db.insert(&alice).await.unwrap();
    db.insert(&held("bob", "jump-1", 3)).await.unwrap();
    assert_eq!(db.store.reader().await.unwrap().with_snapshots().await.unwrap(), [alice.clone()]);
    let row = |seq, state| SnapshotRow {
        container: alice.container.id,
        name: format!("s{seq}").parse().unwrap(),
        state,
        scheduled: seq == 2,
        seq,
        request: RequestId::generate(),
        since: 7,
    };
    let rows = [row(1, SnapshotState::Ready), row(2, SnapshotState::Creating)];
    let mut tx = db.store.write(&db.fence).await.unwrap();
    for row in &rows {
        tx.insert_snapshot(row).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut tx = db.store.write(&db.fence).await.unwrap();
    assert!(tx.insert_snapshot(&row(3, SnapshotState::Deleting)).await.is_err(), "two under way");
    drop(tx);
    let mut reader = db.store.reader().await.unwrap();
    assert_eq!(reader.snapshots_of(alice.container.id).await.unwrap(), rows);
    assert_eq!(reader.snapshots_under_way().await.unwrap(), rows[1..]);
    drop(reader);
    let mut tx = db.store.write(&db.fence).await.unwrap();
    tx.forget_placement(alice.container.id, &node(1)).await.unwrap();
    tx.commit().await.unwrap();
    assert!(db.store.reader().await.unwrap().snapshots_of(alice.container.id).await.unwrap().is_empty());
}

async fn a_write_of_an_older_term_changes_nothing(db: Db) {
    let newer = db.store.take_lease(&claim("two")).await.unwrap();
    assert_eq!(newer.term(), Term(2));
    let refused = db.insert(&held("alice", "jump-1", 2)).await;
    assert!(matches!(refused, Err(StoreError::NotLeader { term: Term(1) })), "{refused:?}");
    assert!(db.all().await.is_empty());
    assert!(db.store.write(&newer).await.is_ok());
}

async fn a_write_that_is_dropped_changes_nothing_and_blocks_nobody(db: Db) {
    let mut tx = db.store.write(&db.fence).await.unwrap();
    tx.insert_container(&held("alice", "jump-1", 2).container).await.unwrap();
    drop(tx);
    db.insert(&held("bob", "jump-1", 2)).await.unwrap();
    let owners: Vec<_> = db.all().await.into_iter().map(|h| h.container.owner.to_string()).collect();
    assert_eq!(owners, ["bob"]);
}

async fn one_placement_is_wanted_and_one_address_given_once(db: Db) {
    let alice = held("alice", "jump-1", 2);
    db.insert(&alice).await.unwrap();
    let place = async |placement: PlacementRow| {
        let mut tx = db.store.write(&db.fence).await.unwrap();
        tx.insert_placement(&placement).await?;
        tx.commit().await
    };
    let second = PlacementRow { node: node(2), ..alice.placement.clone() };
    assert!(place(second.clone()).await.is_err(), "I1");
    assert!(place(PlacementRow { desired: Desired::Absent, ..second }).await.is_ok(), "one more being destroyed");
    assert!(db.insert(&held("bob", "jump-1", 2)).await.is_err(), "alice's address");
    assert!(db.insert(&held("bob", "jump-9", 3)).await.is_err(), "no such node");
    assert!(db.insert(&held("alice", "jump-1", 3)).await.is_err(), "alice has one");
    assert!(db.insert(&held("bob", "jump-1", 3)).await.is_ok());
}

async fn a_placement_goes_only_when_absent_is_wanted_and_confirmed_for_its_generation(db: Db) {
    let alice = held("alice", "jump-1", 2);
    db.insert(&alice).await.unwrap();
    let id = alice.container.id;
    let remove = async |generation| {
        let mut tx = db.store.write(&db.fence).await.unwrap();
        let gone = tx.remove_confirmed(id, &node(1), Generation(generation)).await.unwrap();
        tx.commit().await.unwrap();
        gone
    };
    assert_eq!(remove(1).await, (false, false), "it is wanted running");
    let mut tx = db.store.write(&db.fence).await.unwrap();
    let absent = PlacementRow { desired: Desired::Absent, generation: Generation(2), ..alice.placement.clone() };
    tx.change_order(&absent).await.unwrap();
    // I4: an older order does not come back.
    tx.change_order(&alice.placement).await.unwrap();
    assert!(!tx.record_observed((id, &node(1)), Generation(1), &Observed::Running).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(remove(1).await, (false, false), "the confirmation of an older order");
    assert_eq!(remove(2).await, (true, true));
    assert!(db.all().await.is_empty());
}

async fn having_run_is_never_forgotten(db: Db) {
    let alice = held("alice", "jump-1", 2);
    db.insert(&alice).await.unwrap();
    for observed in [Observed::Running, Observed::Stopped] {
        let mut tx = db.store.write(&db.fence).await.unwrap();
        assert!(tx.record_observed((alice.container.id, &node(1)), Generation(1), &observed).await.unwrap());
        tx.commit().await.unwrap();
    }
    let row = db.all().await.remove(0).placement;
    assert_eq!((row.ever_ran, row.observed), (true, Observed::Stopped));
}

async fn accounts_are_those_of_wanted_placements_with_their_revision(db: Db) {
    let accounts = async || db.store.reader().await.unwrap().accounts().await.unwrap();
    assert_eq!(accounts().await, (AccessRevision(0), Vec::new()));
    db.insert(&held("alice", "jump-1", 2)).await.unwrap();
    let mut bob = held("bob", "jump-1", 3);
    bob.placement.desired = Desired::Absent;
    db.insert(&bob).await.unwrap();
    let mut tx = db.store.write(&db.fence).await.unwrap();
    assert_eq!(tx.bump_access().await.unwrap(), AccessRevision(1));
    tx.commit().await.unwrap();
    let (revision, set) = accounts().await;
    let shown: Vec<_> = set.iter().map(|a| (a.username.as_str(), a.permit.unwrap().to_string())).collect();
    assert_eq!((revision, shown), (AccessRevision(1), vec![("alice", "10.100.1.2".to_owned())]));
}

async fn a_request_changes_once_and_is_remembered_for_a_while(db: Db) {
    let mut alice = held("alice", "jump-1", 2);
    db.insert(&alice).await.unwrap();
    let (stop, start) = (RequestId::generate(), RequestId::generate());
    for request in [stop, stop, start] {
        let generation = alice.placement.generation.next();
        alice.placement = PlacementRow { generation, change_request: Some(request), ..alice.placement };
        let mut tx = db.store.write(&db.fence).await.unwrap();
        tx.change_order(&alice.placement).await.unwrap();
        tx.commit().await.unwrap();
    }
    let id = alice.container.id;
    let mut tx = db.store.write(&db.fence).await.unwrap();
    assert!(matches!(tx.claim(id, stop).await, Err(StoreError::Repeated { request }) if request == stop));
    let another = tx.claim(ContainerId::generate(), start).await;
    assert!(matches!(another, Err(StoreError::Repeated { .. })), "the latest of one container is not of another");
    tx.claim(id, start).await.unwrap();
    assert_eq!(tx.prune_requests().await.unwrap(), 0);
    assert_eq!(tx.reader().done(stop).await.unwrap(), Some(id));
    // The create and the two changes.
    assert_eq!(tx.prune_requests_before(i64::MAX).await.unwrap(), 3);
    assert_eq!(tx.reader().done(stop).await.unwrap(), None);
}

async fn the_event_log_is_bounded_newest_kept(db: Db) {
    let mut tx = db.store.write(&db.fence).await.unwrap();
    for index in 0..30 {
        tx.note("alice-container", EventKind::ContainerRunning, &index.to_string()).await.unwrap();
    }
    assert_eq!(tx.prune_events_beyond(10).await.unwrap(), 20);
    tx.commit().await.unwrap();
    let events = db.store.reader().await.unwrap().events("", 100).await.unwrap();
    let messages: Vec<_> = events.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(messages, (20..30).rev().map(|i| i.to_string()).collect::<Vec<_>>());
}

async fn pages_hold_every_container_once_whatever_comes_and_goes_meanwhile(db: Db) {
    for (index, owner) in (2..).zip(["bob", "dave", "erin", "frank", "heidi"]) {
        db.insert(&held(owner, "jump-1", index)).await.unwrap();
    }
    let owners = |page: &[Held]| page.iter().map(|h| h.container.owner.to_string()).collect::<Vec<_>>();
    let page = async |after: &str| db.store.reader().await.unwrap().page(after, 2).await.unwrap();
    assert_eq!(owners(&page("").await), ["bob", "dave"]);
    // One before the place we are at, one after it; and a container that has a second placement.
    db.insert(&held("alice", "jump-1", 20)).await.unwrap();
    db.insert(&held("grace", "jump-1", 21)).await.unwrap();
    let mut second = db.store.reader().await.unwrap().of_owner(&"erin".parse().unwrap()).await.unwrap().remove(0);
    (second.placement.node, second.placement.desired) = (node(2), Desired::Absent);
    let mut tx = db.store.write(&db.fence).await.unwrap();
    tx.insert_placement(&second.placement).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(owners(&page("dave").await), ["erin", "erin", "frank"], "placements are not counted");
    assert_eq!(owners(&page("frank").await), ["grace", "heidi"]);
    assert!(page("heidi").await.is_empty());
    assert_eq!(db.store.reader().await.unwrap().count_containers().await.unwrap(), 7);
}

async fn an_event_sorts_after_all_before_it_also_after_the_clock_was_turned_back(db: Db) {
    let later = "ffff0000-0000-7000-8000-00000000000f";
    let sql = sqlx::query("INSERT INTO event (id, at, subject, kind, message) VALUES ($1, 1, '', 'fleet.led', '')");
    sql.bind(later).execute(&db.store.pool).await.unwrap();
    let commits = db.store.commits();
    let mut tx = db.store.write(&db.fence).await.unwrap();
    for message in ["one", "two", "three"] {
        tx.note("jump-1", EventKind::NodeOnline, message).await.unwrap();
    }
    tx.note("jump-2", EventKind::NodeOnline, "other").await.unwrap();
    assert!(!commits.has_changed().unwrap());
    tx.commit().await.unwrap();
    assert!(commits.has_changed().unwrap());
    let mut reader = db.store.reader().await.unwrap();
    let after = async |reader: &mut Reader<_>, limit| {
        let events = reader.events_after("jump-1", later.parse().unwrap(), limit).await.unwrap();
        events.into_iter().map(|event| event.message).collect::<Vec<_>>()
    };
    assert_eq!(after(&mut reader, 100).await, ["one", "two", "three"]);
    assert_eq!(after(&mut reader, 2).await, ["one", "two"]);
    assert_eq!(reader.newest_event().await.unwrap().unwrap().to_string(), "ffff0000-0000-7000-8000-000000000013");
}

async fn what_is_claimed_of_a_node_is_summed_up(db: Db) {
    assert!(db.store.reader().await.unwrap().claims().await.unwrap().is_empty());
    let rows = [held("alice", "jump-1", 2), held("bob", "jump-1", 3), held("carol", "jump-2", 2)];
    for row in &rows {
        db.insert(row).await.unwrap();
    }
    let mut claims = db.store.reader().await.unwrap().claims().await.unwrap();
    claims.sort_by(|a, b| a.node.cmp(&b.node));
    claims[0].addresses.sort_unstable();
    let [alice, bob, carol] = rows.map(|row| row.placement);
    let (both, address) = (alice.reserved.plus(bob.reserved), carol.address);
    assert_eq!(
        claims,
        [
            Claim { node: node(1), addresses: vec![alice.address, bob.address], reserved: both },
            Claim { node: node(2), addresses: vec![address], reserved: carol.reserved },
        ]
    );
}

async fn tables_of_a_later_version_are_left_alone(db: Db) {
    db.insert(&held("alice", "jump-1", 2)).await.unwrap();
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";
    sqlx::raw_sql(later).execute(&db.store.pool).await.unwrap();
    let refused = Store::open(&db.url).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer { migration: 9999 }), "{refused:?}");
    assert!(refused.to_string().contains("newer containarium-coordinator"), "{refused}");
    assert_eq!(db.all().await.len(), 1);
}

/// One candidate with room for ten, by disk.
fn candidate(claims: &[Claim]) -> Candidate {
    let capacity = Capacity {
        cpus: 64,
        memory: containarium_proto::sizes::Bytes(256 << 30),
        disk: containarium_proto::sizes::Bytes(220_000_000_000),
        ..Capacity::default()
    };
    Candidate {
        name: node(1),
        availability: Availability::Online,
        policy: Policy::Active,
        problem: None,
        capacity: Some(capacity),
        network: Some(("10.100.1.0/24".parse().unwrap(), [10, 100, 1, 1].into())),
        images: Vec::new(),
        reserved: claims.iter().fold(Default::default(), |sum: placement::Resources, c| sum.plus(c.reserved)),
        addresses: claims.iter().flat_map(|c| c.addresses.iter().copied()).collect(),
        settings: Default::default(),
        labels: Default::default(),
    }
}

async fn forty_creates_racing_for_ten_places_get_exactly_ten(db: Db) {
    let db = Arc::new(db);
    let race = (0..40).map(|index| {
        let db = db.clone();
        tokio::spawn(async move {
            let mut wanted = held(&format!("user{index}"), "jump-1", 0);
            let mut tx = db.store.write(&db.fence).await.unwrap();
            let claims = tx.reader().claims().await.unwrap();
            let resources = wanted.placement.reserved;
            let demand = Demand { resources, cpu: Cpu::Count(1), image: None, labels: Default::default() };
            let verdict = placement::judge(&demand, &[candidate(&claims)], &Overcommit::default()).remove(0);
            let Ok(fit) = verdict.fit else { return false };
            wanted.placement.address = fit.address;
            tx.insert_container(&wanted.container).await.unwrap();
            tx.insert_placement(&wanted.placement).await.unwrap();
            tx.commit().await.unwrap();
            true
        })
    });
    let placed = futures::future::join_all(race).await.into_iter().filter(|r| *r.as_ref().unwrap()).count();
    assert_eq!(placed, 10);
    let addresses: std::collections::BTreeSet<_> = db.all().await.iter().map(|h| h.placement.address).collect();
    assert_eq!(addresses.len(), 10);
}

#[test]
fn the_state_folder_is_private_and_locked_by_one() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/b");
    let lock = StateLock::take(&folder).unwrap();
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let second = StateLock::take(&folder).unwrap_err().to_string();
    assert!(second.starts_with("another coordinator runs on "), "{second}");
    drop(lock);
    assert!(StateLock::take(&folder).is_ok());
}

/// As if the connection broke between the commit and its answer, and before it.
async fn an_answer_that_is_lost_is_asked_for(db: Db) {
    let (alice, bob) = (held("alice", "jump-1", 2), held("bob", "jump-1", 3));
    for (held, arrives) in [(&alice, true), (&bob, false)] {
        let mut tx = db.store.write(&db.fence).await.unwrap();
        tx.insert_container(&held.container).await.unwrap();
        tx.insert_placement(&held.placement).await.unwrap();
        let (store, fence, mark) = (db.store.clone(), db.fence.clone(), tx.mark().to_owned());
        if arrives {
            tx.commit().await.unwrap();
        } else {
            drop(tx);
        }
        assert_eq!(store.was_committed(&fence, &mark).await, Some(arrives));
        let _newer = store.take_lease(&claim("two")).await.unwrap();
        // Nobody has written since, so even then it is known what happened; not that something did not.
        assert_eq!(store.was_committed(&fence, &mark).await, arrives.then_some(true));
        store.take_lease(&claim("one")).await.unwrap();
        sqlx::query("UPDATE lease SET term = 1").execute(&store.pool).await.unwrap();
    }
    assert_eq!(db.all().await, [alice]);
}

async fn the_lease_goes_only_to_one_who_saw_it_rest(db: Db) {
    let seen = db.store.holding().await.unwrap();
    assert!(seen.is_held());
    assert_eq!(seen.term(), Term(1));
    db.store.beat(&db.fence).await.unwrap();
    assert!(db.store.try_take_lease(&claim("two"), &seen).await.unwrap().is_none(), "it lives");
    let seen = db.store.holding().await.unwrap();
    db.insert(&held("alice", "jump-1", 2)).await.unwrap();
    assert!(db.store.try_take_lease(&claim("two"), &seen).await.unwrap().is_none(), "it writes");
    let seen = db.store.holding().await.unwrap();
    let claims = ["two", "three"].map(|holder| LeaseClaim { seen: Term(7), address: "h:1".into(), ..claim(holder) });
    let both = tokio::join!(db.store.try_take_lease(&claims[0], &seen), db.store.try_take_lease(&claims[1], &seen));
    let taken: Vec<_> = [both.0.unwrap(), both.1.unwrap()].into_iter().flatten().collect();
    assert_eq!(taken.iter().map(Fence::term).collect::<Vec<_>>(), [Term(8)], "above what was seen, and once");
    assert!(matches!(db.store.beat(&db.fence).await, Err(StoreError::NotLeader { term: Term(1) })));
    assert_eq!(db.store.holding().await.unwrap().address(), "h:1");
    db.store.release_lease(&taken[0]).await.unwrap();
    assert!(!db.store.holding().await.unwrap().is_held());
    assert!(db.store.write(&taken[0]).await.is_err());
    assert!(db.store.write(&Store::nobody()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_that_start_at_once_make_one_fleet() {
    let name = tokio::task::spawn_blocking(|| Postgres::get().create()).await.unwrap();
    let url: DatabaseUrl = Postgres::get().url(&name, None).parse().unwrap();
    let (a, b, c) = tokio::join!(Store::open(&url), Store::open(&url), Store::open(&url));
    let mut ids = std::collections::BTreeSet::new();
    for store in [a.unwrap(), b.unwrap(), c.unwrap()] {
        ids.insert(store.reader().await.unwrap().fleet().await.unwrap().id.to_string());
    }
    assert_eq!(ids.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_server_that_restarts_is_used_again() {
    let db = postgres().await;
    let (lost, kept) = (held("alice", "jump-1", 2), held("bob", "jump-1", 3));
    let mut tx = db.store.write(&db.fence).await.unwrap();
    tx.insert_container(&lost.container).await.unwrap();
    let name = db.url.as_str().rsplit_once('/').unwrap().1.to_owned();
    tokio::task::spawn_blocking(move || Postgres::get().disconnect_all(&name)).await.unwrap();
    let error = tx.commit().await.unwrap_err();
    assert!(error.is_outage(), "{error:?}");
    db.insert(&kept).await.unwrap();
    assert_eq!(db.all().await, [kept]);
}

/// Carries to the cluster until it is dropped; then the port refuses.
async fn carry(front: TcpListener) {
    let mut lines = JoinSet::new();
    while let Ok((mut near, _)) = front.accept().await {
        lines.spawn(async move {
            if let Ok(mut far) = TcpStream::connect(("127.0.0.1", Postgres::get().port())).await {
                copy_bidirectional(&mut near, &mut far).await.map(drop).unwrap_or_default();
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_server_that_takes_seconds_to_restart_is_found_as_soon_as_it_is_back() {
    let name = tokio::task::spawn_blocking(|| Postgres::get().create()).await.unwrap();
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap();
    let up = AbortOnDropHandle::new(tokio::spawn(carry(front)));
    let url = Postgres::get().url(&name, Some(address.port())).parse().unwrap();
    let db = db(url, tempfile::tempdir().unwrap()).await;
    up.abort();
    up.await.unwrap_err();
    let store = db.store.clone();
    let asked = tokio::spawn(async move { store.reader().await.map(drop) });
    // How long it is away: no wait for something.
    tokio::time::sleep(Duration::from_millis(2700)).await;
    let (back_at, front) = (Instant::now(), TcpListener::bind(address).await.unwrap());
    let _up = AbortOnDropHandle::new(tokio::spawn(carry(front)));
    asked.await.unwrap().unwrap();
    // Half a second on a machine at rest; without a pool that tries again soon it is two.
    assert!(back_at.elapsed() < Duration::from_millis(1500), "{:?}", back_at.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_is_stopped_in_a_write_does_not_hold_the_lease_for_ever() {
    let db = postgres().await;
    let mut tx = db.store.write(&db.fence).await.unwrap();
    tx.insert_container(&held("alice", "jump-1", 2).container).await.unwrap();
    let other = Store::open(&db.url).await.unwrap();
    let newer = other.take_lease(&claim("two")).await.unwrap();
    assert_eq!(newer.term(), Term(2));
    assert!(tx.commit().await.is_err());
    assert!(db.all().await.is_empty());
}

async fn a_backup_is_restored_into_either_database(db: Db) {
    let mut alice = held("alice", "jump-1", 2);
    alice.placement.observed = Observed::Failed { error: "it's \"broken\"\n".into(), permanent: false };
    db.insert(&alice).await.unwrap();
    let text = db.store.backup(&db.url).await.unwrap();
    let backup = Backup::read(&text).unwrap();
    let fleet = db.store.reader().await.unwrap().fleet().await.unwrap();
    assert_eq!(backup.fleet(), fleet.id.to_string());
    for target in [sqlite().await, postgres().await] {
        target.insert(&held("bob", "jump-2", 2)).await.unwrap();
        let refused = target.store.restore(&target.url, &backup, false).await.unwrap_err();
        assert!(refused.to_string().contains("2 nodes and 1 containers"), "{refused}");
        assert_eq!(target.all().await.len(), 1);
        target.store.restore(&target.url, &backup, true).await.unwrap();
        // I8: it may have run since, so it is not made anew.
        let mut expected = alice.clone();
        expected.placement.ever_ran = true;
        assert_eq!(target.all().await, [expected]);
        let restored = target.store.reader().await.unwrap().fleet().await.unwrap();
        assert!(restored.id == fleet.id && restored.access_revision > fleet.access_revision);
        assert!(restored.term > fleet.term && !target.store.holding().await.unwrap().is_held());
        let deposed = target.insert(&held("carol", "jump-1", 9)).await;
        assert!(matches!(deposed, Err(StoreError::NotLeader { .. })), "{deposed:?}");
    }
}
