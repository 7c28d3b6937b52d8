//! Backups: what an agent does with the store, one job per backup at a time. A job belongs to nobody but this process:
//! who wants it asks until it is done, and an agent that starts anew begins anew. What outlives it is in the store, and
//! there a backup without its manifest does not exist.
//!
//! ```text
//! Host::export ─► clone (frozen) ─► Incus' export ─► Store::write ─► manifest        Store::read ─► Host::import
//! ```

mod store;
mod verified;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use containarium_proto::{
    backup::{BackupData, BackupFacts, BackupKey, BackupWork, Manifest},
    sizes::Bytes,
    spec::Step,
};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::AbortOnDropHandle;

pub use store::Store;

use crate::host::{Host, HostError};

/// Each reads or writes a whole disk and compresses it: more at a time would only be in each other's way, and in that of
/// the users.
const AT_ONCE: usize = 2;
const STEPS: u32 = 4;
/// A busy Incus, a full disk: what passes, passes within these.
const CLEAR_AGAIN: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(30)];

/// Which crypto rustls uses, said once per process.
pub(crate) fn use_ring() {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::trace!("the crypto provider was chosen before");
    }
}

/// "1.2 GB of 3.4 GB"
pub(crate) fn how_far(done: u64, of: u64) -> String {
    format!("{} of {}", megabytes(done), megabytes(of))
}

fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes % 1_000_000_000 / 100_000_000),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Write,
    Check,
}

struct Job {
    state: watch::Receiver<BackupWork>,
    _task: AbortOnDropHandle<()>,
}

/// All jobs of an agent. Dropping it stops them.
pub(crate) struct Backups<H> {
    host: Arc<H>,
    store: Option<Store>,
    jobs: Mutex<BTreeMap<(Kind, BackupKey), Job>>,
    turns: Arc<Semaphore>,
    /// Whatever an agent before us has left half made is removed before we make anything.
    swept: Arc<tokio::sync::OnceCell<()>>,
}

fn step(index: u32, title: impl Into<String>) -> BackupWork {
    BackupWork::Running(Step { index, total: STEPS, title: title.into() })
}

impl<H: Host> Backups<H> {
    pub(crate) fn new(host: Arc<H>, store: Option<Store>) -> Self {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Self { host, store, jobs: Mutex::default(), turns, swept: Arc::default() }
    }

    /// The store, if there is one.
    pub(crate) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Removes, once, what an agent before us has left half made.
    pub(crate) async fn sweep(&self) -> Result<(), HostError> {
        self.swept.get_or_try_init(|| self.host.clear_exports()).await.copied()
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<(Kind, BackupKey), Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a backup of the instance written, or says how far that is.
    pub(crate) async fn write(&self, store: &Store, facts: BackupFacts, wait: Duration) -> BackupWork {
        let key = facts.key();
        let (host, store, swept) = (self.host.clone(), store.clone(), self.swept.clone());
        self.work((Kind::Write, key), wait, move |said| async move {
            let name = facts.owner.container_name();
            swept.get_or_try_init(|| host.clear_exports()).await?;
            let written = write(&*host, &store, (&facts, &name), &said).await;
            // Whatever the outcome: the clone would grow with everything that changes in the original.
            clear(&*host, &name).await;
            Ok(written?.data)
        })
        .await
    }

    /// Has a backup read to its end, or says how far that is.
    pub(crate) async fn check(&self, store: &Store, key: BackupKey, data: BackupData, wait: Duration) -> BackupWork {
        let store = store.clone();
        self.work((Kind::Check, key.clone()), wait, move |said| async move {
            let of = data.size.0;
            store.check(&key, &data, |done| said(step(1, format!("read {}", how_far(done, of))))).await?;
            Ok(data)
        })
        .await
    }

    /// Stops whatever is under way with a backup, and removes it.
    pub(crate) async fn remove(&self, store: &Store, key: &BackupKey) -> Result<(), HostError> {
        for kind in [Kind::Write, Kind::Check] {
            let job = self.jobs().remove(&(kind, key.clone()));
            drop(job);
        }
        self.host.clear_export(&key.owner.container_name()).await?;
        store.remove(key).await
    }

    /// Begins a job unless it runs, and waits a while for news of it. An end is told once and forgotten.
    async fn work<F>(
        &self,
        job: (Kind, BackupKey),
        wait: Duration,
        begin: impl FnOnce(Box<dyn Fn(BackupWork) + Send + Sync>) -> F,
    ) -> BackupWork
    where
        F: Future<Output = Result<BackupData, HostError>> + Send + 'static,
    {
        let mut state = {
            let mut jobs = self.jobs();
            jobs.entry(job.clone()).or_insert_with(|| self.start(&job.1, begin)).state.clone()
        };
        let ended = |work: &BackupWork| !matches!(work, BackupWork::Running(_));
        let waited = tokio::time::timeout(wait, state.wait_for(ended)).await;
        let alive = !matches!(waited, Ok(Err(_)));
        drop(waited);
        let now = match alive {
            true => state.borrow().clone(),
            // The task died, with its sender.
            false => BackupWork::Failed { error: "the work on it broke off".to_owned(), permanent: false },
        };
        if ended(&now) {
            self.jobs().remove(&job);
        }
        now
    }

    fn start<F>(&self, key: &BackupKey, begin: impl FnOnce(Box<dyn Fn(BackupWork) + Send + Sync>) -> F) -> Job
    where
        F: Future<Output = Result<BackupData, HostError>> + Send + 'static,
    {
        let (sender, state) = watch::channel(step(0, "waiting for its turn"));
        let sender = Arc::new(sender);
        let said = sender.clone();
        let work = begin(Box::new(move |work| drop(said.send_replace(work))));
        let (turns, key) = (self.turns.clone(), key.clone());
        let task = async move {
            let _turn = turns.acquire().await;
            let outcome = match work.await {
                Ok(data) => BackupWork::Done(data),
                Err(HostError { message, permanent }) => {
                    tracing::warn!(backup = %key, error = message, permanent, "a backup failed");
                    BackupWork::Failed { error: message, permanent }
                }
            };
            sender.send_replace(outcome);
        };
        Job { state, _task: AbortOnDropHandle::new(tokio::spawn(task)) }
    }
}

/// Once more a little later, and then by whoever makes the next one, or starts anew.
async fn clear<H: Host>(host: &H, name: &str) {
    for pause in CLEAR_AGAIN {
        match host.clear_export(name).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(container = name, %error, "what the export has left could not be removed yet"),
        }
        tokio::time::sleep(pause).await;
    }
}

async fn write<H: Host>(
    host: &H,
    store: &Store,
    (facts, name): (&BackupFacts, &str),
    said: &(dyn Fn(BackupWork) + Send + Sync),
) -> Result<Manifest, HostError> {
    // The answer was lost, or we were killed after the last write.
    if let Some(manifest) = store.manifest(&facts.key()).await?.filter(|manifest| manifest.facts == *facts) {
        return Ok(manifest);
    }
    let there = host.instance(name).await?.and_then(|instance| instance.stamp);
    if there.is_none_or(|stamp| stamp.order.id != facts.container) {
        return Err(HostError::permanent(format!("{name} is not on this node any more")));
    }
    said(step(1, "freezing its disk as it is now"));
    host.freeze(name, &facts.key().to_string()).await?;
    said(step(2, "exporting it"));
    let export = host.export(name, |how_far| said(step(2, format!("exporting it{how_far}")))).await?;
    let of = export.size;
    let written = store.write(facts, export.body, of, |done| {
        said(step(3, format!("writing it: {}", how_far(done, of))));
    });
    let manifest = written.await?;
    said(step(4, "removing what the export has left"));
    tracing::info!(backup = %facts.key(), size = %Bytes(of), sha256 = %manifest.data.sha256, "a backup was written");
    Ok(manifest)
}
