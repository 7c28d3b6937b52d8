//! One task per container: look, plan, do one step, look again, until it is as ordered. Wake-ups carry no data. It
//! decides nothing itself; `plan` does.

use std::{sync::Arc, time::Duration};

use containarium_proto::{
    backup::BackupKey,
    ids::{ContainerId, FleetId},
    node::{CopyKind, CopyOffer, Licence, Order},
    spec::{Desired, Observed, Step},
};
use futures::{StreamExt, TryStreamExt};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};

use crate::{
    backup::{self, Backups},
    config::Timings,
    drift,
    error::AgentError,
    host::{Host, HostError, Power, StopMode, shape::staging_name},
    journal::Journal,
    ledger::Ledger,
    membership::Membership,
    plan::{self, Action, Arrived, Known, Next},
};

/// A plan that has not come to rest after this many steps is going in circles: a defect, or somebody works against us.
const MAX_STEPS: usize = 20;
/// A refresh that failed this often in a row fails on what is here, not on the way: the copy begins anew.
const REFRESH_FAILURES: u32 = 2;

/// How often it is said how far a restore is: each word of it is a report to the coordinator.
const TELL: Duration = Duration::from_millis(300);

pub(crate) struct Worker<H> {
    pub(crate) host: Arc<H>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) timings: Timings,
    pub(crate) backups: Arc<Backups<H>>,
    /// Bounds the containers worked on at once.
    pub(crate) turns: Semaphore,
}

/// How one round ended.
enum Round {
    /// With what differs from the order all the same.
    Settled(Observed, Vec<String>),
    /// A pass of a copy is to be received, and here is the offer.
    Receive(CopyOffer, Arrived),
    /// Its data are to be fetched from a backup.
    Restore,
    /// The order changed meanwhile, or a newer one was found on the instance.
    Again,
}

impl<H: Host> Worker<H> {
    /// Runs until dropped; ends only if a task of it died.
    pub(crate) async fn run(self: Arc<Self>) -> AgentError {
        let mut tasks = JoinSet::new();
        loop {
            for (id, wake) in self.ledger.attend() {
                tasks.spawn(self.clone().care_for(id, wake));
            }
            tokio::select! {
                () = self.ledger.unattended.notified() => {}
                Some(ended) = tasks.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "a container's task died");
                    return AgentError::TaskEnded("container");
                },
            }
        }
    }

    /// Looks after one container until its absence is confirmed.
    async fn care_for(self: Arc<Self>, id: ContainerId, wake: Arc<Notify>) {
        let mut failures = 0u32;
        while let (Some(order), Some(fleet)) = (self.ledger.order(id), self.membership.fleet().await) {
            if self.ledger.is_preempting() {
                return std::future::pending().await;
            }
            if order.copy_pass.is_some()
                && let Err(error) = self.finish_copy(&order, &wake).await
            {
                tracing::warn!(container = %order.name, %error, "what is under way in the host cannot be seen");
            }
            let round = match self.converge(fleet, &order, &wake).await {
                Ok(Round::Receive(offer, arrived)) => {
                    self.receive(fleet, &order, &wake, (offer, arrived, failures)).await.map(|()| Round::Again)
                }
                Ok(Round::Restore) => self.restore(&order, &wake).await.map(|()| Round::Again),
                other => other,
            };
            match round {
                Ok(Round::Again | Round::Receive(..) | Round::Restore) => {}
                Ok(Round::Settled(observed, drift)) => {
                    // Waiting for the next try is no success.
                    if observed != Observed::AwaitingCopy {
                        failures = 0;
                    }
                    let absent = observed == Observed::Absent;
                    if self.ledger.settle(&order, observed, drift) && absent && self.ledger.release(id) {
                        return;
                    }
                    if !absent {
                        wake.notified().await;
                    }
                }
                Err(error) => {
                    tracing::warn!(container = %order.name, generation = %order.generation, %error, error.permanent, "step failed");
                    let observed = Observed::Failed { error: error.message, permanent: error.permanent };
                    self.ledger.observe(&order, observed);
                    failures += 1;
                    self.pause(error.permanent, failures, &wake).await;
                }
            }
        }
    }

    /// Until the next try: never by itself after a permanent failure.
    async fn pause(&self, permanent: bool, failures: u32, wake: &Notify) {
        if permanent {
            return wake.notified().await;
        }
        let wait = self.timings.retry_min.saturating_mul(1 << failures.min(10).saturating_sub(1));
        // Woken or waited: either way the next round looks at the truth.
        tokio::time::timeout(wait.min(self.timings.retry_max), wake.notified()).await.unwrap_or_default();
    }

    /// An agent before this one may have begun a pass, which goes on in the host without it. A first pass that ended
    /// well is not thrown away: it has taken the longest.
    async fn finish_copy(&self, order: &Order, wake: &Notify) -> Result<(), HostError> {
        let (host, name) = (&self.host, order.name.as_str());
        let ended_well = tokio::select! {
            ended = host.finish_copy(name) => ended?,
            () = self.until_newer(order, wake) => return Ok(()),
        };
        if !ended_well {
            return Ok(());
        }
        let stamp = host.instance(name).await?.and_then(|instance| instance.stamp);
        let first = stamp.filter(|stamp| stamp.order.id == order.id && stamp.copied.is_none());
        match first.and_then(|stamp| stamp.order.copy_pass) {
            Some(pass) => host.stamp_copied(name, Some(pass)).await,
            None => Ok(()),
        }
    }

    async fn until_newer(&self, order: &Order, wake: &Notify) {
        while self.ledger.order(order.id).as_ref() == Some(order) {
            wake.notified().await;
        }
    }

    /// Without a turn: a large disk takes hours, and only the network is busy.
    async fn receive(
        &self,
        fleet: FleetId,
        order: &Order,
        wake: &Notify,
        (offer, arrived, failures): (CopyOffer, Arrived, u32),
    ) -> Result<(), HostError> {
        let (host, name) = (&self.host, order.name.as_str());
        let Some(pass) = order.copy_pass else { return Ok(()) };
        let said = |how_far: &str| {
            let title = format!("pass {pass}{how_far}");
            let step = Step { index: pass.0.get(), total: 0, title };
            self.ledger.observe(order, Observed::Converging { step });
        };
        said("");
        if arrived == Arrived::Torn {
            host.delete(name).await?;
        }
        let refresh = arrived == Arrived::Earlier;
        let copying = host.receive_copy(fleet, order, &offer, refresh, said);
        let copied = tokio::select! {
            copied = copying => copied,
            // What is under way in the host ends there, or is deleted with the instance.
            () = self.until_newer(order, wake) => return Ok(()),
        };
        match copied {
            Ok(()) => host.stamp_copied(name, Some(pass)).await,
            Err(error) => {
                // A replica is of use as it is: it goes only when its coordinator says so.
                if refresh && failures >= REFRESH_FAILURES && !order.spec.fenced {
                    tracing::warn!(container = name, "what is here of the copy is of no use: it begins anew");
                    host.stamp_copied(name, None).await?;
                }
                Err(error)
            }
        }
    }

    /// Without a turn, as a copy. The end of the export comes only if all of it is what was written, and without its end
    /// nothing is made of it.
    async fn restore(&self, order: &Order, wake: &Notify) -> Result<(), HostError> {
        let (host, name, Some(origin)) = (&self.host, &order.name, &order.origin) else { return Ok(()) };
        let Some(store) = self.backups.store() else {
            return Err(HostError::permanent("this node has no --backup-store to restore from"));
        };
        // Of an agent before this one: what it has uploaded in full goes on without it.
        let staging = staging_name(name);
        host.finish_copy(&staging).await?;
        if host.instance(&staging).await?.is_some() {
            return Ok(());
        }
        let said = |title: String| {
            let step = Step { index: 1, total: 3, title };
            self.ledger.observe(order, Observed::Converging { step });
        };
        said(format!("restoring backup {}", origin.backup));
        let key = BackupKey { owner: order.owner.clone(), id: origin.backup.clone() };
        let (size, mut done) = (origin.data.size.0, 0);
        let (sender, mut read) = tokio::sync::watch::channel(0u64);
        let body = store.read(&key, &origin.data).await?.inspect_ok(move |chunk| {
            done += chunk.len() as u64;
            sender.send_replace(done);
        });
        let importing = host.import(name, size, body.boxed());
        let telling = async {
            while read.changed().await.is_ok() {
                tokio::time::sleep(TELL).await;
                said(format!("restoring backup {}: {}", key.id, backup::how_far(*read.borrow_and_update(), size)));
            }
            said(format!("restoring backup {}: unpacking it", key.id));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            imported = importing => imported,
            () = telling => Ok(()),
            () = self.until_newer(order, wake) => Ok(()),
        }
    }

    async fn converge(&self, fleet: FleetId, order: &Order, wake: &Notify) -> Result<Round, HostError> {
        let _turn = self.turns.acquire().await;
        let mut ssh_answered = false;
        for _ in 0..MAX_STEPS {
            if self.ledger.order(order.id).as_ref() != Some(order) || self.ledger.is_preempting() {
                return Ok(Round::Again);
            }
            let seen = self.host.instance(&order.name).await?;
            ssh_answered &= seen.as_ref().is_some_and(|instance| instance.power == Power::Running);
            let licence = self.ledger.licence(order.id);
            let named = match &licence {
                Some(Licence::Adopt { instance, .. }) if *instance != order.name => {
                    self.host.instance(instance).await?
                }
                Some(Licence::Adopt { .. } | Licence::Repair | Licence::Restore { .. }) | None => None,
            };
            let staged = match order.origin {
                Some(_) => self.host.instance(&staging_name(&order.name)).await?,
                None => None,
            };
            let must_exist = self.ledger.must_exist(order.id);
            let restoring = self.unfinished(fleet, order, seen.as_ref())?;
            let (licence, named, staged) = (licence.as_ref(), named.as_ref(), staged.as_ref());
            let word = self.ledger.word(order.id);
            let known = Known { ssh_answered, must_exist, word, licence, named, restoring, staged };
            match plan::plan(fleet, order, seen.as_ref(), known) {
                Next::Done(observed) => {
                    let rests = drift::at_rest(order, &observed);
                    let differs = |seen| drift::drift(&rests, &self.host.place(), seen);
                    return Ok(Round::Settled(observed, seen.as_ref().map(differs).unwrap_or_default()));
                }
                Next::Receive(arrived) => {
                    let offer = self.ledger.take_offer(order).map(|offer| Round::Receive(offer, arrived));
                    return Ok(offer.unwrap_or(Round::Settled(Observed::AwaitingCopy, Vec::new())));
                }
                Next::Restore => return Ok(Round::Restore),
                Next::Refuse(why) => return Err(HostError::permanent(why)),
                Next::Newer(found) => {
                    self.ledger.recall(*found, false);
                    return Ok(Round::Again);
                }
                Next::Do(action) => {
                    self.ledger.observe(order, Observed::Converging { step: plan::step(action, order.desired) });
                    if !self.act(action, fleet, order, wake).await? {
                        return Ok(Round::Again);
                    }
                    ssh_answered |= action == Action::WaitSsh;
                }
            }
        }
        Err(HostError::transient(format!("{} did not come to rest in {MAX_STEPS} steps", order.name)))
    }

    /// False if it was given up because the order may have changed.
    async fn act(&self, action: Action, fleet: FleetId, order: &Order, wake: &Notify) -> Result<bool, HostError> {
        let host = &self.host;
        match action {
            Action::Create => host.create(fleet, order).await?,
            Action::Configure | Action::Adopt => host.configure(fleet, order).await?,
            Action::Repair => host.repair(fleet, order).await?,
            Action::Rename => {
                if let Some(Licence::Adopt { instance, .. }) = self.ledger.licence(order.id) {
                    host.rename(&instance, &order.name).await?;
                }
            }
            Action::Halt => host.stop(&order.name, StopMode::Graceful).await?,
            Action::BringBack => self.bring_back(fleet, order).await?,
            Action::Start => host.start(&order.name).await?,
            Action::Stop(mode) => host.stop(&order.name, mode).await?,
            Action::Delete => host.delete(&order.name).await?,
            Action::ClearCopy => host.clear_copy(&order.name, CopyKind::Move).await?,
            Action::StopReplaced => host.stop(&order.name, StopMode::Graceful).await?,
            Action::DeleteReplaced => host.delete(&order.name).await?,
            Action::PutInPlace => host.rename(&staging_name(&order.name), &order.name).await.map_err(may_pass)?,
            Action::Dress => host.dress(fleet, order).await.map_err(may_pass)?,
            Action::DropStaged => host.delete(&staging_name(&order.name)).await?,
            Action::NoteRan => host.stamp_ran(&order.name, order.generation).await?,
            Action::EnsureLogin => {
                host.ensure_login(order).await?;
                host.stamp_login(&order.name, &plan::login_hash(order)).await?;
            }
            // The one step that may take minutes: a delete must not wait for it.
            Action::WaitSsh => tokio::select! {
                answered = host.wait_ssh(order.address) => answered?,
                () = wake.notified() => return Ok(false),
            },
        }
        Ok(true)
    }

    /// Reads the orders off the instances, once, as soon as the host answers: what an agent knows after kill -9, and
    /// after the loss of the boot disk.
    pub(crate) async fn recall(&self) -> Result<(), AgentError> {
        // Before the instances: those that are noted here claim to be what they were.
        for noted in self.journal.all() {
            self.ledger.recall(noted.order, true);
        }
        if let Err(error) = self.backups.sweep().await {
            tracing::warn!(%error, "what earlier exports have left is removed with the next one");
        }
        let mut wait = self.timings.retry_min;
        let instances = loop {
            match self.host.instances().await {
                Ok(instances) => break instances,
                Err(error) => tracing::warn!(%error, "the instances cannot be read yet"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        };
        let stamps: Vec<_> = instances.into_iter().filter_map(|instance| instance.stamp).collect();
        if self.membership.fleet().await.is_none() {
            match stamps.first() {
                Some(first) if stamps.iter().all(|stamp| stamp.fleet == first.fleet) => {
                    tracing::info!(fleet = %first.fleet, "taken from the stamps of the instances");
                    self.membership.adopt(first.fleet).await?;
                }
                Some(_) => {
                    tracing::warn!("instances of several fleets: waiting for a coordinator to say which is ours");
                }
                None => {}
            }
        }
        let fleet = self.membership.fleet().await;
        for stamp in stamps.into_iter().filter(|stamp| Some(stamp.fleet) == fleet) {
            // An order of Absent is never stamped; it comes again from the coordinator (I5).
            if stamp.order.desired != Desired::Absent {
                let was_ready = stamp.login.is_some();
                self.ledger.recall(stamp.order, was_ready);
            }
        }
        Ok(())
    }
}

/// What is replaced is gone already: nobody must be told that this cannot be done.
fn may_pass(error: HostError) -> HostError {
    HostError::transient(error.message)
}
