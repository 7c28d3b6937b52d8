//! What the nodes' logs tell: stored once per line of a log, together with how far the log was read; bounded in age and
//! in number. It must never be read to find out what is true now.

use containarium_proto::{audit::AuditKind, names::NodeName};
use sqlx::{AnyConnection, any::AnyRow};

use super::{
    Reader, StoreError, WriteTx, failed,
    rows::{json, number, parsed, signed, text, to_json},
};

/// Some 60 MB: a year of 250 people who log in five times a day.
const KEPT: i64 = 400_000;
/// The same for what outsiders cause, so that no flood of tries can wash a login away.
const KEPT_OF_OUTSIDERS: i64 = 200_000;
/// Old rows go in batches, so that no one write is long.
const PRUNE_BATCH: i64 = 1_000;

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditRow {
    pub(crate) node: NodeName,
    pub(crate) place: String,
    pub(crate) at: i64,
    pub(crate) kind: AuditKind,
    pub(crate) user: String,
    pub(crate) client_address: String,
    pub(crate) client_port: u16,
    pub(crate) key: String,
    pub(crate) containers: Vec<String>,
    pub(crate) detail: String,
}

/// Which of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditQuery {
    /// Unix milliseconds: from, and up to but without.
    pub(crate) since: i64,
    pub(crate) until: i64,
    /// Empty: all.
    pub(crate) user: String,
    pub(crate) node: String,
    /// Empty: all.
    pub(crate) kinds: Vec<AuditKind>,
    pub(crate) newest_first: bool,
    /// The last one of the page before.
    pub(crate) after: Option<(i64, String, String)>,
    pub(crate) limit: u32,
}

fn from_row(row: &AnyRow) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        node: parsed(row, "node")?,
        place: text(row, "place")?,
        at: signed(row, "at")?,
        kind: parsed(row, "kind")?,
        user: text(row, "username")?,
        client_address: text(row, "client_address")?,
        client_port: u16::try_from(number(row, "client_port")?).unwrap_or_default(),
        key: text(row, "key_fingerprint")?,
        containers: json(row, "containers")?,
        detail: text(row, "detail")?,
    })
}

/// Both orders of one question; `$order` and `$beyond` are literals, so no statement is made of data. A list of kinds is
/// a text of words between commas: none of them holds one.
macro_rules! page {
    ($beyond:literal, $order:literal) => {
        concat!(
            "SELECT * FROM audit WHERE at >= $1 AND at < $2 AND ($3 = '' OR username = $3) AND ($4 = '' OR node = $4) ",
            "AND ($5 = '' OR $5 LIKE '%,' || kind || ',%') AND ($6 = '' OR (at, node, place) ",
            $beyond,
            " ($7, $6, $8)) ORDER BY at ",
            $order,
            ", node ",
            $order,
            ", place ",
            $order,
            " LIMIT $9"
        )
    };
}

impl<C: std::ops::DerefMut<Target = AnyConnection> + Send> Reader<C> {
    /// One page, by time.
    pub(crate) async fn audit(&mut self, query: &AuditQuery) -> Result<Vec<AuditRow>, StoreError> {
        let sql = if query.newest_first { page!("<", "DESC") } else { page!(">", "ASC") };
        let words: Vec<&str> = query.kinds.iter().map(|kind| kind.as_str()).collect();
        let kinds = if words.is_empty() { String::new() } else { format!(",{},", words.join(",")) };
        let (at, node, place) = query.after.clone().unwrap_or_default();
        let found = sqlx::query(sql)
            .bind(query.since)
            .bind(query.until)
            .bind(query.user.as_str())
            .bind(query.node.as_str())
            .bind(kinds)
            .bind(node)
            .bind(at)
            .bind(place)
            .bind(i64::from(query.limit))
            .fetch_all(self.connection())
            .await
            .map_err(failed("reading the audit"))?;
        found.iter().map(from_row).collect()
    }

    /// How many there are of a kind since a time.
    pub(crate) async fn count_audit(&mut self, kind: AuditKind, since: i64) -> Result<u64, StoreError> {
        let found = sqlx::query("SELECT COUNT(*) AS count FROM audit WHERE kind = $1 AND at >= $2");
        let found = found.bind(kind.as_str()).bind(since).fetch_one(self.connection()).await;
        number(&found.map_err(failed("counting the audit"))?, "count")
    }

    /// Who logged in since a time.
    pub(crate) async fn users_since(&mut self, since: i64) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT DISTINCT username FROM audit WHERE kind = $1 AND at >= $2 ORDER BY username";
        let found = sqlx::query(sql).bind(AuditKind::Accepted.as_str()).bind(since).fetch_all(self.connection()).await;
        found.map_err(failed("listing who logged in"))?.iter().map(|row| text(row, "username")).collect()
    }

    /// How far a node's logs have been read; empty: not at all.
    pub(crate) async fn audit_cursor(&mut self, node: &NodeName) -> Result<String, StoreError> {
        let found = sqlx::query("SELECT place FROM audit_cursor WHERE node = $1").bind(node.as_str());
        let found = found.fetch_optional(self.connection()).await.map_err(failed("reading an audit cursor"))?;
        found.as_ref().map_or(Ok(String::new()), |row| text(row, "place"))
    }
}

impl WriteTx {
    /// Stores what was read, and how far that is. A line that is there already stays as it is.
    pub(crate) async fn record_audit(
        &mut self,
        node: &NodeName,
        rows: &[AuditRow],
        cursor: &str,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO audit (node, place, at, kind, username, client_address, client_port, key_fingerprint, \
                   containers, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";
        for row in rows {
            sqlx::query(sql)
                .bind(row.node.as_str())
                .bind(row.place.as_str())
                .bind(row.at)
                .bind(row.kind.as_str())
                .bind(row.user.as_str())
                .bind(row.client_address.as_str())
                .bind(i64::from(row.client_port))
                .bind(row.key.as_str())
                .bind(to_json("containers", &row.containers)?)
                .bind(row.detail.as_str())
                .execute(self.connection())
                .await
                .map_err(failed("storing an audit row"))?;
        }
        let sql = "INSERT INTO audit_cursor (node, place) VALUES ($1, $2) \
                   ON CONFLICT (node) DO UPDATE SET place = excluded.place";
        let moved = sqlx::query(sql).bind(node.as_str()).bind(cursor).execute(self.connection()).await;
        moved.map(drop).map_err(failed("storing an audit cursor"))
    }

    /// Removes one batch of what is older than `oldest`, or beyond the bounds; gives how many went.
    pub(crate) async fn prune_audit(&mut self, oldest: i64) -> Result<u64, StoreError> {
        self.prune_audit_beyond(oldest, KEPT, KEPT_OF_OUTSIDERS).await
    }

    pub(super) async fn prune_audit_beyond(
        &mut self,
        oldest: i64,
        kept: i64,
        of_outsiders: i64,
    ) -> Result<u64, StoreError> {
        let aged = "DELETE FROM audit WHERE (node, place) IN (SELECT node, place FROM audit WHERE at < $1 LIMIT $2)";
        let aged = sqlx::query(aged).bind(oldest).bind(PRUNE_BATCH).execute(self.connection()).await;
        let mut gone = aged.map_err(failed("pruning the audit"))?.rows_affected();
        let sql = "DELETE FROM audit WHERE (node, place) IN (SELECT node, place FROM audit \
                   WHERE CASE WHEN kind IN ('failed', 'rejected-key', 'banned', 'unbanned') THEN 1 ELSE 0 END = $1 \
                   ORDER BY at DESC, node DESC, place DESC LIMIT $2 OFFSET $3)";
        for (outsiders, kept) in [(0_i64, kept), (1, of_outsiders)] {
            let done = sqlx::query(sql).bind(outsiders).bind(PRUNE_BATCH).bind(kept).execute(self.connection()).await;
            gone += done.map_err(failed("pruning the audit"))?.rows_affected();
        }
        Ok(gone)
    }
}
