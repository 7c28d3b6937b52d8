//! Knowing by etcd that nobody else leads: a key under a lease, and a campaign that is won when all before it are gone.
//! etcd says when to try, never when to stop: a leader that loses etcd goes on until another, who has etcd's word, takes
//! the term from it. So a fleet whose etcd is down altogether keeps its leader.

use std::time::Duration;

use containarium_proto::pki::{CertsDir, PkiError};
use etcd_client::{Client, ConnectOptions, Error};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};

use crate::config::Etcd;

/// All coordinators of a fleet campaign here; another fleet has another etcd, or another prefix by its access rules.
const NAME: &str = "containarium/leader";
/// Between tries at an etcd that does not answer.
const AGAIN: Duration = Duration::from_secs(1);
const CONNECT: Duration = Duration::from_secs(2);
/// etcd's answers take one round trip and one sync of a disk.
const ANSWER: Duration = Duration::from_secs(3);
/// A lease is renewed so often in its life.
const RENEWALS: u32 = 3;

/// Takes part in the campaign.
pub(crate) struct Campaign {
    config: Etcd,
    holder: String,
    /// In seconds, as etcd counts; it makes it longer if its own election is slower.
    ttl: i64,
}

/// That the campaign is ours. Dropped, it ends with its lease; given back, at once.
pub(crate) struct Mandate {
    client: Client,
    lease: i64,
    _keeper: AbortOnDropHandle<()>,
}

#[derive(Debug, thiserror::Error)]
enum CampaignError {
    #[error(transparent)]
    Certificates(#[from] PkiError),
    #[error(transparent)]
    Etcd(#[from] Error),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("the lease ended before the campaign did")]
    Ended,
    #[error("etcd ended the stream of renewals")]
    Silent,
}

impl Campaign {
    pub(crate) fn new(config: &Etcd, holder: &str, lease: Duration) -> Self {
        let ttl = i64::try_from(lease.as_secs().max(1)).unwrap_or(i64::MAX);
        Self { config: config.clone(), holder: holder.to_owned(), ttl }
    }

    /// Returns when it is won, however long that takes and however often etcd goes away meanwhile.
    pub(super) async fn won(&self) -> Mandate {
        let mut silent = true;
        loop {
            match self.campaign().await {
                Ok(mandate) => return mandate,
                Err(error) => {
                    // Once, not every second.
                    if std::mem::take(&mut silent) {
                        tracing::warn!(error = &error as &dyn std::error::Error, "etcd: will be asked again");
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn campaign(&self) -> Result<Mandate, CampaignError> {
        let mut client = within(self.connect()).await?;
        let lease = within(async { Ok(client.lease_grant(self.ttl, None).await?) }).await?.id();
        let ended = CancellationToken::new();
        let every = Duration::from_secs(self.ttl.unsigned_abs()) / RENEWALS;
        let keeping = keep(client.clone(), lease, every, ended.clone().drop_guard());
        let keeper = AbortOnDropHandle::new(tokio::spawn(keeping));
        let mandate = Mandate { client: client.clone(), lease, _keeper: keeper };
        // No deadline: it is answered when all before us are gone.
        tokio::select! {
            won = client.campaign(NAME, self.holder.as_str(), lease) => {
                won?;
                tracing::info!("etcd: the campaign is won");
                Ok(mandate)
            }
            () = ended.cancelled() => Err(CampaignError::Ended),
        }
    }

    async fn connect(&self) -> Result<Client, CampaignError> {
        let mut options = ConnectOptions::new().with_connect_timeout(CONNECT).with_keep_alive(CONNECT, ANSWER);
        if let Some(dir) = &self.config.certs_dir {
            options = options.with_tls(CertsDir::new(dir).client_to_etcd()?);
        }
        Ok(Client::connect(&self.config.endpoints, Some(options.with_require_leader(true))).await?)
    }
}

impl Mandate {
    /// Lets the next one win at once. Should that fail, the lease runs out by itself.
    pub(crate) async fn give_back(mut self) {
        let client = &mut self.client;
        if let Err(error) = within(async { Ok(client.lease_revoke(self.lease).await?) }).await {
            tracing::info!(error = &error as &dyn std::error::Error, "etcd: the lease was left to run out");
        }
    }
}

/// Renews until etcd says that the lease has ended; `_ended` is told by being dropped. An etcd that does not answer says
/// nothing: one that restarts gives each lease its whole time anew, and a leader that kept on asking is not replaced.
async fn keep(client: Client, lease: i64, every: Duration, _ended: DropGuard) {
    let mut silent = true;
    loop {
        let Err(error) = renew(&client, lease, every, &mut silent).await else {
            tracing::warn!("etcd: the lease has ended");
            return;
        };
        // Once, not every second.
        if std::mem::take(&mut silent) {
            tracing::warn!(error = &error as &dyn std::error::Error, "etcd: the lease cannot be renewed at present");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Until it has ended, or until that cannot be told.
async fn renew(client: &Client, lease: i64, every: Duration, silent: &mut bool) -> Result<(), CampaignError> {
    let (mut keeper, mut answers) = within(async { Ok(client.lease_client().keep_alive(lease).await?) }).await?;
    loop {
        let answer = within(async {
            keeper.keep_alive().await?;
            answers.message().await?.ok_or(CampaignError::Silent)
        });
        if answer.await?.ttl() <= 0 {
            return Ok(());
        }
        *silent = true;
        tokio::time::sleep(every).await;
    }
}

async fn within<T>(call: impl Future<Output = Result<T, CampaignError>>) -> Result<T, CampaignError> {
    tokio::time::timeout(ANSWER, call).await.unwrap_or_else(|_| Err(CampaignError::Late(ANSWER)))
}
