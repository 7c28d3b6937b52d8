//! The full set of accounts, as every node must have it: read once for all of them, and given to few enough at a time that
//! what is on its way fits into memory however many nodes there are. It must never decide who lacks it.

use std::sync::Arc;

use containarium_proto::{ids::AccessRevision, node::Account};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use crate::store::{Store, StoreError};

/// Of messages that are being made or sent. A fleet of a thousand users has all of its nodes served at once; one of fifty
/// thousand a dozen.
const BUDGET_KIB: u32 = 512 << 10;
/// A message is there as values, encoded, and in the buffers of its connection.
const COPIES: usize = 3;

/// One revision of it.
#[derive(Debug)]
pub(crate) struct Accounts {
    pub(crate) revision: AccessRevision,
    pub(crate) all: Vec<Account>,
    kib: u32,
}

impl Accounts {
    fn new(revision: AccessRevision, all: Vec<Account>) -> Self {
        Self { revision, kib: Self::kib(&all), all }
    }

    /// What sending it takes, at least one KiB.
    fn kib(all: &[Account]) -> u32 {
        let of = |account: &Account| {
            let keys: usize = account.ssh_keys.iter().map(|key| key.len() + size_of::<String>()).sum();
            let shared: usize = account.shared.iter().map(|permit| permit.container.len() + 64).sum();
            account.username.as_str().len() + keys + shared + 96
        };
        let bytes = COPIES * all.iter().map(of).sum::<usize>();
        u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(BUDGET_KIB)
    }
}

#[derive(Debug)]
pub(crate) struct Roster {
    held: Mutex<Option<Arc<Accounts>>>,
    budget: Semaphore,
}

impl Default for Roster {
    fn default() -> Self {
        Self { held: Mutex::default(), budget: Semaphore::new(BUDGET_KIB as usize) }
    }
}

impl Roster {
    /// The set of the revision that the database has now: read by whoever needs it first.
    pub(crate) async fn now(&self, store: &Store) -> Result<Arc<Accounts>, StoreError> {
        let mut held = self.held.lock().await;
        let revision = store.reader().await?.fleet().await?.access_revision;
        if let Some(accounts) = held.as_ref().filter(|accounts| accounts.revision == revision) {
            return Ok(accounts.clone());
        }
        // Not kept beside the new one.
        *held = None;
        let (revision, all) = store.reader().await?.accounts().await?;
        Ok(held.insert(Arc::new(Accounts::new(revision, all))).clone())
    }

    /// A turn to send it, until it is dropped.
    pub(crate) async fn turn(&self, accounts: &Accounts) -> SemaphorePermit<'_> {
        self.budget.acquire_many(accounts.kib).await.expect("it is never closed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(count: usize) -> Accounts {
        let account = |index: usize| Account {
            username: format!("user{index}").parse().unwrap(),
            ssh_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPsgqJhcX8Ui+7ZCtnqBF7JhDZ1FE6w2fIV6rJjWTlD x".into()],
            permit: Some([10, 100, 1, 2].into()),
            shared: Vec::new(),
        };
        Accounts::new(AccessRevision(1), (0..count).map(account).collect())
    }

    #[test]
    fn many_nodes_get_a_small_set_at_once_and_few_a_large_one() {
        let at_once = |count| BUDGET_KIB / accounts(count).kib;
        assert!(at_once(1000) > 500, "{}", at_once(1000));
        assert!((5..50).contains(&at_once(50_000)), "{}", at_once(50_000));
    }

    #[tokio::test]
    async fn a_set_larger_than_the_budget_is_given_to_one_after_the_other() {
        let (roster, mut large) = (Roster::default(), accounts(1));
        large.kib = BUDGET_KIB;
        let turn = roster.turn(&large).await;
        let second = tokio::time::timeout(std::time::Duration::from_millis(20), roster.turn(&large)).await;
        assert!(second.is_err());
        drop(turn);
        drop(roster.turn(&large).await);
    }
}
