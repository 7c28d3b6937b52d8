//! A jump server that only remembers. It behaves as Incus and the system tools do, survives the agent's death (clones
//! share one memory), can be inspected, and can be told to fail at its k-th effect. Ships in the binary (`--host sim`)
//! so that anyone can try a fleet on a laptop. It must never decide what an agent has to decide.

mod export;
mod fault;
mod guard;
mod identity;
mod image_import;
mod inspect;
mod instance;
mod people;
mod snapshots;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use containarium_proto::{
    audit::{Bans, NodeSession},
    identity::{HostCertificate, HostIdentity},
    ids::{FleetId, Generation},
    image::ImageFiles,
    node::{Account, CopyKind, CopyOffer, CopyPass, Foreign, ImageOffer, Order, Usage},
    sizes::Bytes,
    snapshots::{SnapshotName, Snapshots},
    spec::{Capacity, Fingerprint, Image},
};
use futures::Stream;
use ipnet::Ipv4Net;

pub use fault::Fault;
pub use identity::SimSshd;
pub use instance::{SimInstance, image_fingerprint};
pub use snapshots::SimSnapshot;
pub use watch::Change;

use fault::Faults;
use instance::{foreign, made, place, stamp};
use people::People;

use super::{
    AccountFailure, Accounts, Activity, Export, ExportBody, Host, HostError, Instance, Kept, Network, PolicyRules,
    Power, ReadLogs, StopMode,
    shape::{self, Place, is_nobodys},
};

/// Alias of the one image that every simulated host has.
pub const IMAGE_ALIAS: &str = "containarium";

#[derive(Debug)]
struct Memory {
    instances: BTreeMap<String, SimInstance>,
    accounts: BTreeMap<String, (FleetId, Account)>,
    foreign: BTreeSet<String>,
    images: Vec<Image>,
    capacity: Capacity,
    ssh_answers: bool,
    usage: Usage,
    creates: u32,
    /// Ids of instances that were given out.
    uuids: u32,
    helper_missing: bool,
    activity: BTreeMap<String, Activity>,
    watcher: watch::Watcher,
    /// Storage that goes back only to the newest snapshot.
    newest_only: bool,
    /// Snapshots that were ever made by the agent.
    snapshots_made: u32,
    guard: guard::Guard,
    sshd: SimSshd,
    people: People,
}

/// A simulated jump server. Clones share their memory.
#[derive(Debug, Clone)]
pub struct SimHost {
    network: Network,
    latency: Duration,
    memory: Arc<Mutex<Memory>>,
    faults: Arc<Faults>,
}

impl SimHost {
    /// Sixteen CPUs, 64 GiB of memory, 1 TB of disk, one image, an empty past.
    #[must_use]
    pub fn new(cidr: Ipv4Net) -> Self {
        let gateway = cidr.hosts().next().unwrap_or(cidr.network());
        let memory = Memory {
            instances: BTreeMap::new(),
            accounts: BTreeMap::new(),
            foreign: ["root", "daemon", "sshd", "nobody"].map(ToOwned::to_owned).into(),
            images: vec![Image { alias: IMAGE_ALIAS.to_owned(), fingerprint: image_fingerprint() }],
            capacity: Capacity {
                cpus: 16,
                memory: Bytes(64 << 30),
                memory_used: Bytes(2 << 30),
                disk: Bytes(1_000_000_000_000),
                disk_used: Bytes(2_000_000_000),
            },
            ssh_answers: true,
            usage: Usage::default(),
            creates: 0,
            uuids: 0,
            helper_missing: false,
            activity: BTreeMap::new(),
            watcher: watch::Watcher::default(),
            newest_only: false,
            snapshots_made: 0,
            guard: guard::Guard::default(),
            sshd: SimSshd::default(),
            people: People::default(),
        };
        Self {
            network: Network { cidr, gateway },
            latency: Duration::ZERO,
            memory: Arc::new(Mutex::new(memory)),
            faults: Arc::default(),
        }
    }

    /// The same host, each effect taking this long.
    #[must_use]
    pub fn with_latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// The same host with another size.
    #[must_use]
    pub fn with_capacity(self, capacity: Capacity) -> Self {
        self.memory().capacity = capacity;
        self
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One effect: counted, delayed, perhaps failed.
    async fn effect<T>(&self, change: impl FnOnce(&mut Memory) -> Result<T, HostError> + Send) -> Result<T, HostError> {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        let outcome = self.faults.around(|| watch::told(&mut self.memory(), true, change));
        match outcome {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }

    async fn look<T>(&self, read: impl FnOnce(&Memory) -> T + Send) -> Result<T, HostError> {
        if self.faults.is_down() {
            std::future::pending::<()>().await;
        }
        Ok(read(&self.memory()))
    }
}

fn present<'m>(memory: &'m mut Memory, name: &str) -> Result<&'m mut SimInstance, HostError> {
    memory.instances.get_mut(name).ok_or_else(|| HostError::transient(format!("instance {name} not found")))
}

impl Host for SimHost {
    async fn instances(&self) -> Result<Vec<Instance>, HostError> {
        self.look(|memory| memory.instances.values().map(|instance| instance.seen.clone()).collect()).await
    }

    async fn instance(&self, name: &str) -> Result<Option<Instance>, HostError> {
        self.look(|memory| memory.instances.get(name).map(|instance| instance.seen.clone())).await
    }

    async fn create(&self, fleet: FleetId, order: &Order) -> Result<(), HostError> {
        self.effect(|memory| {
            if !memory.images.iter().any(|image| image.fingerprint == order.spec.image) {
                return Err(HostError::permanent(format!("image {} is not on this node", order.spec.image)));
            }
            if memory.instances.contains_key(&order.name) {
                return Err(HostError::transient(format!("instance {} exists already", order.name)));
            }
            memory.instances.insert(order.name.clone(), SimInstance::new(made(fleet, order), String::new()));
            memory.creates += 1;
            Ok(())
        })
        .await
    }

    async fn configure(&self, fleet: FleetId, order: &Order) -> Result<(), HostError> {
        self.effect(|memory| {
            let instance = present(memory, &order.name)?;
            let shape = &mut instance.seen.shape;
            for (key, value) in shape::limits(order) {
                match value.is_empty() {
                    true => drop(shape.config.remove(key)),
                    false => drop(shape.config.insert(key.to_owned(), value)),
                }
            }
            shape.devices.extend(shape::devices(order, &place()));
            stamp(&mut instance.seen, fleet, order);
            Ok(())
        })
        .await
    }

    async fn repair(&self, fleet: FleetId, order: &Order) -> Result<(), HostError> {
        self.effect(|memory| {
            let instance = present(memory, &order.name)?;
            let shape = &mut instance.seen.shape;
            shape.config.retain(|key, _| is_nobodys(key));
            let ordered = shape::ordered(order, &place());
            shape.config.extend(ordered.config);
            (shape.devices, shape.profiles) = (ordered.devices, ordered.profiles);
            stamp(&mut instance.seen, fleet, order);
            Ok(())
        })
        .await
    }

    async fn rename(&self, name: &str, to: &str) -> Result<(), HostError> {
        self.effect(|memory| {
            if present(memory, name)?.seen.power == Power::Running || memory.instances.contains_key(to) {
                return Err(HostError::transient(format!("instance {name} runs, or {to} exists")));
            }
            if let Some(mut instance) = memory.instances.remove(name) {
                to.clone_into(&mut instance.seen.name);
                memory.instances.insert(to.to_owned(), instance);
            }
            Ok(())
        })
        .await
    }

    fn place(&self) -> Place {
        place()
    }

    async fn foreign(&self) -> Result<Vec<Foreign>, HostError> {
        self.look(|memory| memory.instances.values().filter_map(|instance| foreign(&instance.seen)).collect()).await
    }

    async fn start(&self, name: &str) -> Result<(), HostError> {
        self.effect(|memory| {
            let instance = present(memory, name)?;
            if instance.seen.power == Power::Stopped {
                instance.seen.power = Power::Running;
                instance.boots += 1;
            }
            Ok(())
        })
        .await
    }

    async fn stop(&self, name: &str, _mode: StopMode) -> Result<(), HostError> {
        self.effect(|memory| {
            present(memory, name)?.seen.power = Power::Stopped;
            Ok(())
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<(), HostError> {
        self.effect(|memory| {
            if memory.instances.get(name).is_some_and(|instance| instance.seen.power == Power::Running) {
                return Err(HostError::transient(format!("instance {name} is running")));
            }
            memory.instances.remove(name);
            Ok(())
        })
        .await
    }

    async fn ensure_login(&self, order: &Order) -> Result<(), HostError> {
        let name = order.name.as_str();
        self.effect(|memory| {
            let missing = memory.helper_missing;
            let instance = present(memory, name)?;
            if instance.seen.power == Power::Stopped {
                return Err(HostError::transient(format!("instance {name} is not running")));
            }
            if missing {
                return Err(HostError::permanent(format!("{name} has no containarium-ensure-user")));
            }
            people::let_in(instance, order);
            Ok(())
        })
        .await
    }

    async fn stamp_login(&self, name: &str, hash: &str) -> Result<(), HostError> {
        self.effect(|memory| {
            if let Some(stamp) = &mut present(memory, name)?.seen.stamp {
                stamp.login = Some(hash.to_owned());
            }
            Ok(())
        })
        .await
    }

    async fn wait_ssh(&self, address: Ipv4Addr) -> Result<(), HostError> {
        tokio::time::sleep(self.latency).await;
        loop {
            let answers = |memory: &Memory| {
                let there = |i: &SimInstance| i.seen.stamp.as_ref().is_some_and(|s| s.order.address == address);
                memory.ssh_answers && memory.instances.values().any(|i| there(i) && i.seen.power == Power::Running)
            };
            if self.look(answers).await? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn offer_copy(
        &self,
        name: &str,
        (kind, pass): (CopyKind, CopyPass),
        host: &str,
    ) -> Result<CopyOffer, HostError> {
        self.effect(|memory| {
            let instance = present(memory, name)?;
            match kind {
                CopyKind::Move => drop(instance.offered.insert(pass)),
                CopyKind::Replica => snapshots::mark_replica(instance, pass),
            }
            let secrets = BTreeMap::from([
                ("data".to_owned(), instance.data.clone()),
                ("snapshots".to_owned(), snapshots::pack(instance)),
            ]);
            Ok(CopyOffer { operation: format!("https://{host}/{name}"), secrets, certificate: "simulated".to_owned() })
        })
        .await
    }

    async fn receive_copy(
        &self,
        fleet: FleetId,
        order: &Order,
        offer: &CopyOffer,
        refresh: bool,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<(), HostError> {
        progress(": 1MB");
        self.effect(|memory| {
            let data = offer.secrets.get("data").cloned().unwrap_or_default();
            let came = offer.secrets.get("snapshots").map_or("", String::as_str);
            let snapshots = snapshots::unpack(came, order, fleet);
            if refresh {
                let instance = present(memory, &order.name)?;
                (instance.data, instance.snapshots) = (data, snapshots);
                return Ok(());
            }
            if memory.instances.contains_key(&order.name) {
                return Err(HostError::transient(format!("instance {} exists already", order.name)));
            }
            let instance = SimInstance { snapshots, ..SimInstance::new(made(fleet, order), data) };
            memory.instances.insert(order.name.clone(), instance);
            Ok(())
        })
        .await
    }

    async fn finish_copy(&self, _name: &str) -> Result<bool, HostError> {
        // A killed agent's effect has happened or has not.
        self.look(|_| false).await
    }

    async fn stamp_copied(&self, name: &str, pass: Option<CopyPass>) -> Result<(), HostError> {
        self.effect(|memory| {
            if let Some(stamp) = &mut present(memory, name)?.seen.stamp {
                stamp.copied = pass;
            }
            Ok(())
        })
        .await
    }

    async fn stamp_ran(&self, name: &str, generation: Generation) -> Result<(), HostError> {
        self.effect(|memory| {
            if let Some(stamp) = &mut present(memory, name)?.seen.stamp {
                stamp.ran = Some(generation);
            }
            Ok(())
        })
        .await
    }

    async fn clear_copy(&self, name: &str, kind: CopyKind) -> Result<(), HostError> {
        self.effect(|memory| {
            let instance = present(memory, name)?;
            if kind == CopyKind::Replica {
                snapshots::unmark_replica(instance);
                return Ok(());
            }
            instance.offered.clear();
            if let Some(stamp) = &mut instance.seen.stamp {
                stamp.copied = None;
            }
            Ok(())
        })
        .await
    }

    async fn usage(&self, name: &str) -> Result<Option<Usage>, HostError> {
        self.look(|memory| memory.instances.contains_key(name).then_some(memory.usage)).await
    }

    async fn images(&self) -> Result<Vec<Image>, HostError> {
        self.look(|memory| memory.images.clone()).await
    }

    async fn offer_image(&self, fingerprint: &Fingerprint, host: &str) -> Result<Option<ImageOffer>, HostError> {
        let there = self.look(|memory| memory.images.iter().any(|image| image.fingerprint == *fingerprint)).await?;
        let offer = || ImageOffer {
            server: format!("https://{host}"),
            secret: "simulated".to_owned(),
            certificate: "simulated".to_owned(),
        };
        Ok(there.then(offer))
    }

    async fn fetch_image(&self, image: &Image, _offer: &ImageOffer) -> Result<(), HostError> {
        self.effect(|memory| {
            if !memory.images.contains(image) {
                memory.images.push(image.clone());
            }
            Ok(())
        })
        .await
    }

    async fn refresh_images(&self) -> Result<(), HostError> {
        Ok(())
    }

    async fn import_image(
        &self,
        files: &ImageFiles,
        bytes: impl Stream<Item = Result<Vec<u8>, HostError>> + Send + 'static,
    ) -> Result<(), HostError> {
        self.receive_image(files, bytes).await
    }

    async fn capacity(&self) -> Result<Capacity, HostError> {
        self.look(|memory| memory.capacity).await
    }

    async fn network(&self) -> Result<Network, HostError> {
        Ok(self.network)
    }

    async fn accounts(&self, fleet: FleetId) -> Result<Accounts, HostError> {
        self.look(|memory| {
            let mut accounts = Accounts { foreign: memory.foreign.clone(), ..Accounts::default() };
            for (name, (owner, _)) in &memory.accounts {
                let names = if *owner == fleet { &mut accounts.ours } else { &mut accounts.foreign };
                names.insert(name.clone());
            }
            accounts
        })
        .await
    }

    async fn ensure_names(&self, _accounts: &[Account]) -> Result<(), HostError> {
        self.look(|_| ()).await
    }

    async fn ensure_access_rules(&self) -> Result<Kept, HostError> {
        self.look(|_| Kept::AsItWas).await
    }

    async fn access_problems(&self) -> Result<Vec<String>, HostError> {
        self.look(|memory| memory.guard.access_problems.clone()).await
    }

    async fn ensure_accounts(&self, fleet: FleetId, accounts: &[Account]) -> Result<Vec<AccountFailure>, HostError> {
        let mut failures = Vec::new();
        for account in accounts {
            if let Err(error) = self.ensure_account(fleet, account).await {
                failures.push((account.username.to_string(), error));
            }
        }
        Ok(failures)
    }

    async fn remove_accounts(
        &self,
        fleet: FleetId,
        names: &BTreeSet<String>,
    ) -> Result<Vec<AccountFailure>, HostError> {
        let mut failures = Vec::new();
        for name in names {
            if let Err(error) = self.remove_account(fleet, name).await {
                failures.push((name.clone(), error));
            }
        }
        Ok(failures)
    }

    async fn ensure_policy(&self, rules: &PolicyRules) -> Result<Kept, HostError> {
        self.look(|_| ()).await?;
        Ok(self.memory().guard.put(rules))
    }

    async fn addresses(&self) -> Result<BTreeSet<Ipv4Addr>, HostError> {
        self.look(|memory| memory.guard.addresses.clone()).await
    }

    async fn ssh_answers(&self) -> bool {
        self.look(|memory| !memory.guard.sshd_is_down).await.unwrap_or(false)
    }

    async fn snapshots(&self, name: &str) -> Result<Option<Snapshots>, HostError> {
        self.list_snapshots(name).await
    }

    async fn make_snapshot(&self, name: &str, snapshot: &SnapshotName) -> Result<(), HostError> {
        self.take_snapshot(name, snapshot).await
    }

    async fn remove_snapshot(&self, name: &str, snapshot: &SnapshotName) -> Result<(), HostError> {
        self.drop_snapshot(name, snapshot).await
    }

    async fn restore(&self, order: &Order, snapshot: &SnapshotName) -> Result<(), HostError> {
        self.bring_back(order, snapshot).await
    }

    async fn restamp(&self, fleet: FleetId, order: &Order, kept: &BTreeMap<String, String>) -> Result<(), HostError> {
        self.stamp_anew(fleet, order, kept).await
    }

    async fn flush(&self) -> Result<(), HostError> {
        self.effect(|_| Ok(())).await
    }

    async fn freeze(&self, name: &str, mark: &str) -> Result<(), HostError> {
        self.effect(|memory| export::freeze(memory, name, mark)).await
    }

    async fn export(&self, name: &str, _progress: impl Fn(&str) + Send + Sync) -> Result<Export, HostError> {
        self.effect(|memory| export::export(memory, name)).await
    }

    async fn clear_export(&self, name: &str) -> Result<(), HostError> {
        let clone = shape::clone_name(name);
        if !self.look(|memory| memory.instances.contains_key(&clone)).await? {
            return Ok(());
        }
        self.effect(|memory| {
            memory.instances.remove(&clone);
            Ok(())
        })
        .await
    }

    async fn clear_exports(&self) -> Result<(), HostError> {
        let clones = self.look(export::clones).await?;
        if clones.is_empty() {
            return Ok(());
        }
        self.effect(|memory| {
            memory.instances.retain(|name, _| !clones.contains(name));
            Ok(())
        })
        .await
    }

    async fn import(&self, name: &str, size: u64, body: ExportBody) -> Result<(), HostError> {
        let bytes = export::collect(size, body).await?;
        self.effect(|memory| export::import(memory, name, &bytes)).await
    }

    async fn dress(&self, fleet: FleetId, order: &Order) -> Result<(), HostError> {
        self.effect(|memory| {
            let instance = present(memory, &order.name)?;
            instance.logins.clear();
            instance.seen.shape = shape::ordered(order, &place());
            stamp(&mut instance.seen, fleet, order);
            Ok(())
        })
        .await
    }

    async fn activity(&self, name: &str) -> Result<Option<Activity>, HostError> {
        self.look(|memory| {
            let running = memory.instances.get(name).is_some_and(|instance| instance.seen.power == Power::Running);
            running.then(|| memory.activity.get(name).copied().unwrap_or_default())
        })
        .await
    }

    async fn identity(&self, of: Option<&Order>) -> Result<HostIdentity, HostError> {
        self.look(|memory| identity::of(memory, of)).await?
    }

    async fn install_certificate(
        &self,
        of: Option<&Order>,
        certificate: &HostCertificate,
    ) -> Result<HostIdentity, HostError> {
        tokio::time::sleep(self.latency).await;
        match self.faults.around_certificate(|| identity::install(&mut self.memory(), of, certificate)) {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }

    async fn read_logs(&self, cursor: &str) -> Result<ReadLogs, HostError> {
        self.look(|memory| memory.people.read_logs(cursor)).await?
    }

    async fn sessions(&self, _fleet: FleetId) -> Result<Vec<NodeSession>, HostError> {
        self.look(|memory| memory.people.sessions().to_vec()).await
    }

    async fn end_session(&self, _fleet: FleetId, id: &str) -> Result<bool, HostError> {
        self.effect(|memory| Ok(memory.people.end(id))).await
    }

    async fn bans(&self) -> Result<Bans, HostError> {
        self.look(|memory| memory.people.bans()).await
    }

    async fn unban(&self, address: IpAddr) -> Result<bool, HostError> {
        self.effect(|memory| Ok(memory.people.unban(address))).await
    }
}
