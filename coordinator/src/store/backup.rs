//! The whole state as one text that either database can read: a line that says what it is, a line per row, and a line
//! with a checksum over all before it. Read at one moment, beside a coordinator that goes on. What is restored destroys
//! nothing by itself: see [`Store::restore`].

use std::collections::BTreeMap;

use containarium_proto::VERSION;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{AnyConnection, AssertSqlSafe, Column, Row, any::AnyRow};

use super::{Store, StoreError, failed, migrator};
use crate::database::DatabaseUrl;

/// Others point to these, so they come first; the rest in the order of their names.
const FIRST: [&str; 4] = ["fleet", "lease", "node", "container"];
/// Nodes may have heard of later sets of accounts than the backup knows; what they report raises it further.
const ACCESS_LEAP: i64 = 1_000;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// Of this format.
    containarium_backup: u32,
    /// Of the tables.
    schema: i64,
    version: String,
    taken_at: i64,
    fleet: String,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
struct Trailer {
    rows: usize,
    sha256: String,
}

type Columns = BTreeMap<String, Value>;

/// A backup that was read and found whole.
#[derive(Debug)]
pub(crate) struct Backup {
    header: Header,
    rows: Vec<(String, Columns)>,
}

/// Why a text is no backup for us.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BackupError {
    /// Something else, or cut off.
    #[error("it is no whole backup of a fleet: {0}")]
    Broken(String),
    /// Made by a later version.
    #[error("it was made by version {0}: restore it with that version or a later one")]
    Newer(String),
    /// There is a fleet already.
    #[error("the database holds a fleet with {nodes} nodes and {containers} containers: --force replaces it")]
    NotEmpty {
        /// Its nodes.
        nodes: i64,
        /// Its containers.
        containers: i64,
    },
}

/// Why it was not restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Backup(#[from] BackupError),
}

impl Store {
    /// Everything, as it is at one moment.
    pub(crate) async fn backup(&self, url: &DatabaseUrl) -> Result<String, StoreError> {
        let action = "reading everything";
        let mut tx = self.pool.begin().await.map_err(failed(action))?;
        if url.is_postgres() {
            // SQLite's transactions read one moment anyway.
            let one_moment = sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY");
            one_moment.execute(&mut *tx).await.map_err(failed(action))?;
        }
        let fleet: String =
            sqlx::query("SELECT fleet_id FROM fleet").fetch_one(&mut *tx).await.map_err(failed(action))?.get(0);
        let header = Header {
            containarium_backup: 1,
            schema: made(&mut tx).await?,
            version: VERSION.to_owned(),
            taken_at: chrono::Utc::now().timestamp_millis(),
            fleet,
        };
        let (mut text, mut count) = (line(&header)?, 0);
        for table in tables(&mut tx, url).await? {
            let all = sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table}"))).fetch_all(&mut *tx).await;
            for row in all.map_err(failed(action))? {
                text += &line(&(&table, columns(&row)?))?;
                count += 1;
            }
        }
        text += &line(&Trailer { rows: count, sha256: checksum(&text) })?;
        Ok(text)
    }

    /// Replaces everything by a backup, in one transaction. Nothing that the fleet holds is destroyed for it: no term of
    /// before is valid any more; what was on its way between two nodes is left where it is; what was placed is taken as
    /// having run, so a missing one is lost and not made anew. What the nodes know better, the next reign learns of them.
    pub(crate) async fn restore(&self, url: &DatabaseUrl, backup: &Backup, force: bool) -> Result<usize, RestoreError> {
        let action = "restoring a backup";
        let mut tx = self.pool.begin().await.map_err(failed(action))?;
        // First: whoever leads waits, and then does not lead any more.
        let term = sqlx::query("UPDATE lease SET rev = rev + 1 RETURNING term").fetch_one(&mut *tx).await;
        let term: i64 = term.map_err(failed(action))?.get(0);
        let nodes = count(&mut tx, "node").await?;
        let containers = count(&mut tx, "container").await?;
        if !force && (nodes > 0 || containers > 0) {
            return Err(BackupError::NotEmpty { nodes, containers }.into());
        }
        let tables = tables(&mut tx, url).await?;
        for table in tables.iter().rev() {
            let cleared = sqlx::query(AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut *tx).await;
            cleared.map_err(failed(action))?;
        }
        for table in &tables {
            for (_, columns) in backup.rows.iter().filter(|(of, _)| of == table) {
                insert(&mut tx, table, columns).await?;
            }
        }
        let after = [
            format!(
                "UPDATE lease SET holder = '', address = '', last_write = '', rev = rev + 1, \
                 term = CASE WHEN term < {term} THEN {term} ELSE term END + 1"
            ),
            "DELETE FROM move".to_owned(),
            "DELETE FROM placement WHERE role <> 'home'".to_owned(),
            // Replicas are made anew: nobody knows what became of those of then.
            "UPDATE container SET replica_as_of = 0".to_owned(),
            "UPDATE placement SET ever_ran = 1".to_owned(),
            format!("UPDATE fleet SET access_revision = access_revision + {ACCESS_LEAP}"),
        ];
        for sql in after {
            sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await.map_err(failed(action))?;
        }
        tx.commit().await.map_err(failed(action))?;
        Ok(backup.rows.len())
    }
}

impl Backup {
    /// Reads all of it, or says why it is none.
    pub(crate) fn read(text: &str) -> Result<Self, BackupError> {
        let broken = |why: &str| BackupError::Broken(why.to_owned());
        let body =
            text.strip_suffix('\n').and_then(|text| text.rfind('\n')).ok_or_else(|| broken("it is cut off"))? + 1;
        let trailer: Trailer =
            serde_json::from_str(&text[body..]).map_err(|_| broken("its last line is missing: it is cut off"))?;
        if trailer.sha256 != checksum(&text[..body]) {
            return Err(broken("its checksum is wrong: it was changed or damaged"));
        }
        let mut lines = text[..body].lines();
        let header: Header = lines
            .next()
            .and_then(|line| serde_json::from_str(line).ok())
            .ok_or_else(|| broken("its first line is another file's"))?;
        if header.containarium_backup != 1 || header.schema > schema() {
            return Err(BackupError::Newer(header.version));
        }
        let rows: Vec<_> = lines
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .map_err(|error| BackupError::Broken(error.to_string()))?;
        Ok(Self { header, rows })
    }

    /// When it was taken, in unix milliseconds.
    pub(crate) fn taken_at(&self) -> i64 {
        self.header.taken_at
    }

    pub(crate) fn fleet(&self) -> &str {
        &self.header.fleet
    }
}

/// Of the tables as they are.
async fn made(connection: &mut AnyConnection) -> Result<i64, StoreError> {
    let newest = sqlx::query("SELECT MAX(version) AS version FROM _sqlx_migrations").fetch_one(connection).await;
    Ok(newest.map_err(failed("reading which tables there are"))?.get("version"))
}

/// Of the tables as this version makes them.
fn schema() -> i64 {
    migrator().iter().map(|migration| migration.version).max().unwrap_or_default()
}

fn line(value: &impl Serialize) -> Result<String, StoreError> {
    let text = serde_json::to_string(value);
    text.map(|text| text + "\n").map_err(|e| StoreError::Corrupt { column: "backup", problem: e.to_string() })
}

fn checksum(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All tables of ours, those first that others point to.
async fn tables(connection: &mut AnyConnection, url: &DatabaseUrl) -> Result<Vec<String>, StoreError> {
    let sql = match url.is_postgres() {
        true => "SELECT tablename::text AS name FROM pg_tables WHERE schemaname = current_schema()",
        false => "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    };
    let found = sqlx::query(sql).fetch_all(connection).await.map_err(failed("listing tables"))?;
    let mut names: Vec<String> = found.iter().map(|row| row.get::<String, _>("name")).collect();
    names.retain(|name| name != "_sqlx_migrations");
    names.sort_by_key(|name| (FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()), name.clone()));
    Ok(names)
}

/// All of our columns hold text or numbers.
fn columns(row: &AnyRow) -> Result<Columns, StoreError> {
    let value = |index: usize| -> Result<Value, sqlx::Error> {
        match row.try_get::<Option<i64>, _>(index) {
            Ok(number) => Ok(number.map_or(Value::Null, Value::from)),
            Err(_) => Ok(row.try_get::<Option<String>, _>(index)?.map_or(Value::Null, Value::from)),
        }
    };
    let mut columns = Columns::new();
    for column in row.columns() {
        let value = value(column.ordinal()).map_err(failed("reading everything"))?;
        columns.insert(column.name().to_owned(), value);
    }
    Ok(columns)
}

async fn count(connection: &mut AnyConnection, table: &str) -> Result<i64, StoreError> {
    let sql = AssertSqlSafe(format!("SELECT COUNT(*) AS count FROM {table}"));
    Ok(sqlx::query(sql).fetch_one(connection).await.map_err(failed("counting rows"))?.get("count"))
}

async fn insert(connection: &mut AnyConnection, table: &str, columns: &Columns) -> Result<(), RestoreError> {
    let known = |name: &&String| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if let Some(odd) = columns.keys().find(|name| !known(name)) {
        return Err(BackupError::Broken(format!("a column of {table} is called '{odd}'")).into());
    }
    // Columns that are younger than the backup have defaults; a value that is none is left out likewise.
    let given: Vec<_> = columns.iter().filter(|(_, value)| !value.is_null()).collect();
    let names: Vec<_> = given.iter().map(|(name, _)| name.as_str()).collect();
    let places: Vec<_> = (1..=given.len()).map(|place| format!("${place}")).collect();
    let sql = format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), places.join(", "));
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (name, value) in given {
        query = match (value.as_i64(), value.as_str()) {
            (Some(number), _) => query.bind(number),
            (None, Some(text)) => query.bind(text.to_owned()),
            (None, None) => return Err(BackupError::Broken(format!("{table}.{name} is no text and no number")).into()),
        };
    }
    query.execute(connection).await.map_err(failed("restoring a row"))?;
    Ok(())
}
