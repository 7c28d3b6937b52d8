//! The coordinator's database as a stranger reads it: a connection and SQL of its own, so that a defect of the store is
//! seen and not shared. It must never write.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::mpsc,
};

use containarium_proto::{node::Licence, spec::Capacity};
use sqlx::{AnyConnection, Connection, Row, any::AnyRow};

/// A container's id, and a node's name.
pub type At = (String, String);

/// What one node was told to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// running, stopped or absent.
    pub desired: String,
    /// Of the order.
    pub generation: u64,
    /// JSON.
    pub spec: String,
    /// In thousandths of a CPU.
    pub cpu_millis: u64,
    /// Reserved.
    pub memory_bytes: u64,
    /// Reserved.
    pub disk_bytes: u64,
    /// In the node's network.
    pub address: String,
    /// A user's disk is there.
    pub ever_ran: bool,
    /// home, arriving or leaving.
    pub role: String,
    /// Of an arriving one.
    pub copy_pass: u64,
    /// What the order may do beyond its content.
    pub licence: Option<Licence>,
}

impl Placement {
    /// Wanted, and served.
    #[must_use]
    pub fn is_home(&self) -> bool {
        self.role == "home" && self.desired != "absent"
    }
}

/// A node as it last described itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// active, cordoned, draining or retired.
    pub policy: String,
    /// None: it has not spoken yet.
    pub capacity: Option<Capacity>,
    /// Limits of its own, JSON.
    pub settings: String,
}

/// Everything of the database that invariants speak of, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// Whose orders agents obey.
    pub fleet: String,
    /// Of the accounts.
    pub access_revision: u64,
    /// Of the reign.
    pub term: u64,
    /// Counts the fenced writes.
    pub rev: u64,
    /// By name.
    pub nodes: BTreeMap<String, NodeRow>,
    /// Owners by container id.
    pub owners: BTreeMap<String, String>,
    /// All of them, also those being deleted.
    pub placements: BTreeMap<At, Placement>,
    /// From where to where, by container id.
    pub moves: BTreeMap<String, (String, String)>,
}

impl Rows {
    /// The same but for the lease.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        let Self { access_revision, nodes, owners, placements, moves, .. } = self;
        (*access_revision, nodes, owners, placements, moves)
            == (other.access_revision, &other.nodes, &other.owners, &other.placements, &other.moves)
    }

    /// Where a container is wanted and served.
    #[must_use]
    pub fn homes(&self, id: &str) -> BTreeSet<&str> {
        let homes = self.placements.iter().filter(|((container, _), row)| container == id && row.is_home());
        homes.map(|((_, node), _)| node.as_str()).collect()
    }
}

/// Reads on a thread of its own, so that it can be asked from inside the coordinator's.
#[derive(Debug)]
pub struct Reader(mpsc::Sender<mpsc::Sender<Result<Rows, String>>>);

impl Reader {
    /// Of this file, which need not exist yet.
    ///
    /// # Panics
    /// No thread can be had.
    #[must_use]
    pub fn of(path: PathBuf) -> Self {
        let (ask, asked) = mpsc::channel::<mpsc::Sender<Result<Rows, String>>>();
        let answer = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let mut connection = None;
            while let Ok(reply) = asked.recv() {
                let rows = runtime.block_on(read(&path, &mut connection)).map_err(|error| format!("{error:#}"));
                // Who asked may be dead by now.
                drop(reply.send(rows));
            }
        };
        std::thread::Builder::new().name("rows".into()).spawn(answer).expect("a thread");
        Self(ask)
    }

    /// The rows now.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn now(&self) -> Result<Rows, String> {
        let (reply, answer) = mpsc::channel();
        self.0.send(reply).map_err(|error| error.to_string())?;
        answer.recv().map_err(|error| error.to_string())?
    }
}

async fn read(path: &std::path::Path, held: &mut Option<AnyConnection>) -> Result<Rows, sqlx::Error> {
    sqlx::any::install_default_drivers();
    let connection = match held {
        Some(connection) => connection,
        None => held.insert(AnyConnection::connect(&format!("sqlite://{}", path.display())).await?),
    };
    // One moment, not one for each table.
    let mut tx = connection.begin().await?;
    let fleet =
        sqlx::query("SELECT fleet_id, access_revision, term, rev FROM fleet, lease").fetch_one(&mut *tx).await?;
    let nodes = sqlx::query("SELECT name, policy, capacity, settings FROM node").fetch_all(&mut *tx).await?;
    let containers = sqlx::query("SELECT id, owner FROM container").fetch_all(&mut *tx).await?;
    let placements = sqlx::query(
        "SELECT container_id, node, desired, generation, spec, cpu_millis, memory_bytes, disk_bytes, address, ever_ran, \
         role, copy_pass, licence FROM placement",
    )
    .fetch_all(&mut *tx)
    .await?;
    let moves = sqlx::query("SELECT container_id, source, target FROM move").fetch_all(&mut *tx).await?;
    tx.commit().await?;
    Ok(Rows {
        fleet: fleet.try_get("fleet_id")?,
        access_revision: number(&fleet, "access_revision")?,
        term: number(&fleet, "term")?,
        rev: number(&fleet, "rev")?,
        nodes: nodes.iter().map(node).collect::<Result<_, _>>()?,
        owners: containers
            .iter()
            .map(|row| Ok((row.try_get("id")?, row.try_get("owner")?)))
            .collect::<Result<_, sqlx::Error>>()?,
        placements: placements.iter().map(placement).collect::<Result<_, _>>()?,
        moves: moves
            .iter()
            .map(|row| Ok((row.try_get("container_id")?, (row.try_get("source")?, row.try_get("target")?))))
            .collect::<Result<_, sqlx::Error>>()?,
    })
}

fn number(row: &AnyRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.cast_unsigned())
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn node(row: &AnyRow) -> Result<(String, NodeRow), sqlx::Error> {
    let capacity: Option<String> = row.try_get("capacity")?;
    let capacity = capacity.as_deref().map(json).transpose()?;
    Ok((row.try_get("name")?, NodeRow { policy: row.try_get("policy")?, capacity, settings: row.try_get("settings")? }))
}

fn placement(row: &AnyRow) -> Result<(At, Placement), sqlx::Error> {
    let licence: String = row.try_get("licence")?;
    let placement = Placement {
        desired: row.try_get("desired")?,
        generation: number(row, "generation")?,
        spec: row.try_get("spec")?,
        cpu_millis: number(row, "cpu_millis")?,
        memory_bytes: number(row, "memory_bytes")?,
        disk_bytes: number(row, "disk_bytes")?,
        address: row.try_get("address")?,
        ever_ran: number(row, "ever_ran")? != 0,
        role: row.try_get("role")?,
        copy_pass: number(row, "copy_pass")?,
        licence: if licence.is_empty() { None } else { Some(json(&licence)?) },
    };
    Ok(((row.try_get("container_id")?, row.try_get("node")?), placement))
}
