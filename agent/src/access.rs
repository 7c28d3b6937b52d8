//! Brings the proxy accounts of this node to the fleet's full set. One writer at a time; an account without our stamp
//! is never touched (I6).

use std::{collections::BTreeSet, sync::Arc};

use containarium_proto::{
    ids::{AccessRevision, FleetId},
    node::Account,
};
use tokio::sync::Mutex;
use tonic::Status;

use crate::{
    host::{Host, HostError},
    ledger::Ledger,
    standing::Standing,
};

/// An account that could not be brought about, and why.
pub(crate) type Failure = (String, String);

pub(crate) struct Access<H> {
    host: Arc<H>,
    ledger: Arc<Ledger>,
    standing: Arc<Standing>,
    /// The newest revision that was begun; held while accounts are written.
    newest: Mutex<AccessRevision>,
}

impl<H: Host> Access<H> {
    pub(crate) fn new(host: Arc<H>, ledger: Arc<Ledger>, standing: Arc<Standing>) -> Self {
        Self { host, ledger, standing, newest: Mutex::default() }
    }

    /// Makes the accounts exactly these; those of `keep` stay as they are. Every account is tried, whatever became of the others.
    pub(crate) async fn sync(
        &self,
        fleet: FleetId,
        revision: AccessRevision,
        (accounts, keep): (&[Account], &[String]),
    ) -> Result<Vec<Failure>, Status> {
        let mut newest = self.newest.lock().await;
        if revision < *newest {
            return Err(Status::aborted(format!("access revision {revision} is older than {}", *newest)));
        }
        *newest = revision;
        self.standing.access_told();
        let failures = match self.write(fleet, accounts, keep).await {
            Ok(failures) => failures,
            Err(error) => vec![("*".to_owned(), error.message)],
        };
        for (username, error) in &failures {
            tracing::warn!(username, error, %revision, "proxy account failed");
        }
        if failures.is_empty() {
            self.standing.access_done(revision).map_err(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "the accounts could not be recorded");
                Status::unavailable("this node cannot write its state file: see its log")
            })?;
            self.ledger.set_access(revision);
        }
        Ok(failures)
    }

    async fn write(&self, fleet: FleetId, accounts: &[Account], keep: &[String]) -> Result<Vec<Failure>, HostError> {
        self.host.ensure_access_rules().await?;
        self.host.ensure_names(accounts).await?;
        let there = self.host.accounts(fleet).await?;
        let wanted = accounts.iter().map(|account| account.username.as_str());
        let wanted: BTreeSet<&str> = wanted.chain(keep.iter().map(String::as_str)).collect();
        // Removals first: who must not get in any more matters more than who may.
        let gone = there.ours.into_iter().filter(|name| !wanted.contains(name.as_str())).collect();
        let removed = self.host.remove_accounts(fleet, &gone).await;
        let made = self.host.ensure_accounts(fleet, accounts).await;
        let failures = removed?.into_iter().chain(made?);
        Ok(failures.map(|(name, error)| (name, error.message)).collect())
    }
}
