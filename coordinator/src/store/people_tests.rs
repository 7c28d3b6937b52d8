use containarium_proto::{audit::AuditKind, keys::KeySet, names::NodeName, node::Guest};

use super::{testing::held, *};
use crate::database::DatabaseUrl;

async fn db() -> (Store, Fence, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite(&dir.path().join("fleet.db"));
    let store = Store::open(&url).await.unwrap();
    let fence = store.take_lease(&testing::claim("one")).await.unwrap();
    let mut tx = store.write(&fence).await.unwrap();
    tx.insert_node(&node(), "10.0.0.1:1").await.unwrap();
    tx.commit().await.unwrap();
    (store, fence, dir)
}

fn node() -> NodeName {
    "jump-1".parse().unwrap()
}

fn row(at: i64, kind: AuditKind) -> AuditRow {
    AuditRow {
        node: node(),
        place: format!("f:{at:012}"),
        at,
        kind,
        user: "it's \"odd\"; DROP TABLE audit".into(),
        client_address: "192.0.2.1".into(),
        client_port: 65_535,
        key: "SHA256:x".into(),
        containers: vec!["alice-container".into()],
        detail: String::new(),
    }
}

fn all() -> AuditQuery {
    AuditQuery {
        since: 0,
        until: i64::MAX,
        user: String::new(),
        node: String::new(),
        kinds: Vec::new(),
        newest_first: false,
        after: None,
        limit: 1000,
    }
}

#[tokio::test]
async fn a_line_read_twice_is_one_row_and_the_place_is_of_the_last_reading() {
    let (store, fence, _dir) = db().await;
    let rows = [row(1, AuditKind::Accepted), row(2, AuditKind::Failed)];
    for (rows, cursor) in [(&rows[..1], "one"), (&rows[..], "two"), (&[], "three")] {
        let mut tx = store.write(&fence).await.unwrap();
        tx.record_audit(&node(), rows, cursor).await.unwrap();
        tx.commit().await.unwrap();
    }
    // What is not committed has not been read.
    let mut lost = store.write(&fence).await.unwrap();
    lost.record_audit(&node(), &[row(3, AuditKind::Failed)], "four").await.unwrap();
    drop(lost);
    let mut reader = store.reader().await.unwrap();
    assert_eq!(reader.audit(&all()).await.unwrap(), rows);
    assert_eq!(reader.audit_cursor(&node()).await.unwrap(), "three");
    assert_eq!(reader.audit_cursor(&"jump-2".parse().unwrap()).await.unwrap(), "");
    let kinds = vec![AuditKind::Banned, AuditKind::Failed];
    assert_eq!(reader.audit(&AuditQuery { kinds, ..all() }).await.unwrap(), rows[1..]);
    assert_eq!(reader.users_since(1).await.unwrap(), [rows[0].user.clone()]);
    assert_eq!(reader.count_audit(AuditKind::Failed, 2).await.unwrap(), 1);
}

#[tokio::test]
async fn a_flood_of_tries_washes_no_login_away_and_what_is_old_goes() {
    let (store, fence, _dir) = db().await;
    let mut tx = store.write(&fence).await.unwrap();
    let logins = (1..=3).map(|at| row(at, AuditKind::Accepted));
    let rows: Vec<_> = logins.chain((4..=30).map(|at| row(at, AuditKind::Failed))).collect();
    tx.record_audit(&node(), &rows, "c").await.unwrap();
    assert_eq!(tx.prune_audit_beyond(2, 10, 10).await.unwrap(), 1 + 17);
    let left: Vec<i64> = tx.reader().audit(&all()).await.unwrap().iter().map(|row| row.at).collect();
    assert_eq!(left, [2, 3].into_iter().chain(21..=30).collect::<Vec<i64>>());
}

#[tokio::test]
async fn a_guest_may_reach_his_own_and_what_is_shared_with_him_and_nobody_elses() {
    let (store, fence, _dir) = db().await;
    let guest =
        |name: &str| Guest { user: name.parse().unwrap(), sudo: true, keys: KeySet::from_recorded([]).unwrap() };
    let mut tx = store.write(&fence).await.unwrap();
    let (alice, bob) = (held("alice", "jump-1", 2), held("bob", "jump-1", 3));
    for held in [&alice, &bob] {
        tx.insert_container(&held.container).await.unwrap();
        tx.insert_placement(&held.placement).await.unwrap();
    }
    // Of whom nothing is known any more: the row is as it was written, and nobody gets an account by it.
    tx.change_guests(alice.container.id, &[guest("bob"), guest("ghost")]).await.unwrap();
    tx.commit().await.unwrap();
    let mut reader = store.reader().await.unwrap();
    let (_, accounts) = reader.accounts().await.unwrap();
    let may: Vec<_> = accounts.iter().map(|a| (a.username.as_str(), a.shared.len())).collect();
    assert_eq!(may, [("alice", 0), ("bob", 1)]);
    assert_eq!(accounts[1].shared[0].address, alice.placement.address);
    let read = reader.of_owner(&alice.container.owner).await.unwrap();
    assert_eq!(read[0].container.guests, [guest("bob"), guest("ghost")]);
}
