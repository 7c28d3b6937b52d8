//! The real host: this machine's Incus, accounts and sshd. Effects only; every decision is made above.

mod accounts;
mod activity;
mod backups;
mod bans;
mod connections;
mod copies;
mod files;
mod foreign;
mod hosts;
mod identity;
mod image_import;
mod images;
mod incus;
mod instances;
mod journal;
mod leases;
mod login;
mod logs;
mod machine;
mod passwd;
mod policy;
mod quota;
mod repair;
mod sessions;
mod snapshots;
mod sshd;
mod system;
mod usage;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::{Duration, Instant},
};

use containarium_proto::{
    audit::{Bans, NodeSession},
    identity::{HostCertificate, HostIdentity},
    ids::{FleetId, Generation},
    image::ImageFiles,
    node::{Account, CopyKind, CopyOffer, CopyPass, Foreign, ImageOffer, Order, Usage},
    snapshots::{SnapshotName, Snapshots},
    spec::{Capacity, Fingerprint, Image},
};
use futures::Stream;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::Mutex,
    time::{sleep, timeout},
};

use self::incus::Incus;
use super::{
    AccountFailure, Accounts, Activity, Export, ExportBody, Host, HostError, Instance, Kept, Network, PolicyRules,
    ReadLogs, StopMode, shape::Place,
};

pub use self::logs::SshLog;

/// A container boots in a second; one of fifty that boot at once after a power cut, in a minute.
const SSH: Duration = Duration::from_secs(120);
/// One connect. The kernel repeats a lost SYN only after a second, and the first one is often lost: the address answers
/// ARP a moment before it is up. A new try is quicker.
const SSH_CONNECT: Duration = Duration::from_millis(100);
/// An sshd that has the connection greets at once, unless the node is very busy.
const SSH_GREETING: Duration = Duration::from_secs(3);
const SSH_PAUSE: Duration = Duration::from_millis(15);
/// One that boots answers sooner, on a machine that is not very busy.
const MEND_AFTER: Duration = Duration::from_secs(10);
/// What every ssh server says first.
const GREETING: &[u8] = b"SSH-2.0";

/// Where things are on this machine.
#[derive(Debug, Clone)]
pub struct LinuxConfig {
    /// Incus' unix socket.
    pub incus_socket: PathBuf,
    /// Storage pool for the containers.
    pub storage_pool: String,
    /// Bridge for the containers.
    pub network: String,
    /// Folder with golden images.
    pub image_dir: Option<PathBuf>,
    /// Where Incus listens for other nodes while containers are copied, unless it listens already.
    pub copy_listen: String,
    /// User ids that are ours to give to proxy accounts.
    pub uids: RangeInclusive<u32>,
    /// Where this machine's own sshd answers.
    pub sshd: SocketAddr,
    /// Where sshd writes what it did.
    pub ssh_log: SshLog,
    /// Where fail2ban writes what it did.
    pub fail2ban_log: PathBuf,
    /// Where fail2ban is asked.
    pub fail2ban_socket: PathBuf,
}

/// This machine.
#[derive(Debug)]
pub struct LinuxHost {
    config: LinuxConfig,
    incus: Incus,
    capacity: machine::Cache,
    quotas: quota::Known,
    /// One writer of passwd, and of sshd's configuration, at a time.
    accounts: Mutex<()>,
    sshd_rules: sshd::Rules,
    policy: policy::InForce,
}

impl LinuxHost {
    /// Nothing is asked of the machine yet.
    ///
    /// # Errors
    /// No client can be made for the socket's path.
    pub fn new(config: LinuxConfig) -> Result<Self, HostError> {
        let incus = Incus::new(config.incus_socket.clone())?;
        Ok(Self {
            config,
            incus,
            capacity: Mutex::default(),
            quotas: Mutex::default(),
            accounts: Mutex::default(),
            sshd_rules: sshd::Rules::default(),
            policy: policy::InForce::default(),
        })
    }
}

async fn greets(address: SocketAddr) -> bool {
    let Ok(Ok(mut stream)) = timeout(SSH_CONNECT, TcpStream::connect(address)).await else { return false };
    let mut said = [0; GREETING.len()];
    matches!(timeout(SSH_GREETING, stream.read_exact(&mut said)).await, Ok(Ok(_))) && said == GREETING
}

impl Host for LinuxHost {
    async fn instances(&self) -> Result<Vec<Instance>, HostError> {
        self.read_instances().await
    }

    async fn instance(&self, name: &str) -> Result<Option<Instance>, HostError> {
        self.read_instance(name).await
    }

    async fn create(&self, fleet: FleetId, order: &Order) -> Result<(), HostError> {
        self.create_instance(fleet, order).await
    }

    async fn configure(&self, fleet: FleetId, order: &Order) -> Result<(), HostError> {
        self.configure_instance(fleet, order).await
    }

    async fn repair(&self, fleet: FleetId, order: &Order) -> Result<(), HostError> {
        self.repair_instance(fleet, order).await
    }

    async fn rename(&self, name: &str, to: &str) -> Result<(), HostError> {
        self.rename_instance(name, to).await
    }

    fn place(&self) -> Place {
        self.where_to()
    }

    async fn foreign(&self) -> Result<Vec<Foreign>, HostError> {
        self.read_foreign().await
    }

    async fn start(&self, name: &str) -> Result<(), HostError> {
        self.start_instance(name).await
    }

    async fn stop(&self, name: &str, mode: StopMode) -> Result<(), HostError> {
        self.stop_instance(name, mode).await
    }

    async fn delete(&self, name: &str) -> Result<(), HostError> {
        self.delete_instance(name).await
    }

    async fn ensure_login(&self, order: &Order) -> Result<(), HostError> {
        self.make_login(order).await
    }

    async fn stamp_login(&self, name: &str, hash: &str) -> Result<(), HostError> {
        self.write_login_stamp(name, hash).await
    }

    async fn stamp_ran(&self, name: &str, generation: Generation) -> Result<(), HostError> {
        self.write_ran_stamp(name, generation).await
    }

    async fn wait_ssh(&self, address: Ipv4Addr) -> Result<(), HostError> {
        let answered = async {
            let mut since = Instant::now();
            while !greets((address, 22).into()).await {
                if since.elapsed() >= MEND_AFTER {
                    since = Instant::now();
                    if let Err(error) = self.mend_address(address).await {
                        tracing::warn!(%address, %error, "whether it has its address cannot be told");
                    }
                }
                sleep(SSH_PAUSE).await;
            }
        };
        timeout(SSH, answered)
            .await
            .map_err(|_| HostError::transient(format!("sshd at {address} does not answer after {SSH:?}")))
    }

    async fn offer_copy(&self, name: &str, pass: (CopyKind, CopyPass), host: &str) -> Result<CopyOffer, HostError> {
        self.offer(name, pass, host).await
    }

    async fn receive_copy(
        &self,
        fleet: FleetId,
        order: &Order,
        offer: &CopyOffer,
        refresh: bool,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<(), HostError> {
        self.receive(fleet, order, offer, refresh, progress).await
    }

    async fn finish_copy(&self, name: &str) -> Result<bool, HostError> {
        self.watch_copy(name).await
    }

    async fn stamp_copied(&self, name: &str, pass: Option<CopyPass>) -> Result<(), HostError> {
        self.write_copied_stamp(name, pass).await
    }

    async fn clear_copy(&self, name: &str, kind: CopyKind) -> Result<(), HostError> {
        self.remove_copy_marks(name, kind).await
    }

    async fn usage(&self, name: &str) -> Result<Option<Usage>, HostError> {
        self.read_usage(name).await
    }

    async fn images(&self) -> Result<Vec<Image>, HostError> {
        self.read_images().await
    }

    async fn refresh_images(&self) -> Result<(), HostError> {
        self.import_images().await
    }

    async fn offer_image(&self, fingerprint: &Fingerprint, host: &str) -> Result<Option<ImageOffer>, HostError> {
        self.open_image(fingerprint, host).await
    }

    async fn fetch_image(&self, image: &Image, offer: &ImageOffer) -> Result<(), HostError> {
        self.pull_image(image, offer).await
    }

    async fn import_image(
        &self,
        files: &ImageFiles,
        bytes: impl Stream<Item = Result<Vec<u8>, HostError>> + Send + 'static,
    ) -> Result<(), HostError> {
        self.receive_image(files, bytes).await
    }

    async fn capacity(&self) -> Result<Capacity, HostError> {
        self.read_capacity().await
    }

    async fn network(&self) -> Result<Network, HostError> {
        self.read_network().await
    }

    async fn accounts(&self, fleet: FleetId) -> Result<Accounts, HostError> {
        accounts::read(fleet)
    }

    async fn ensure_names(&self, accounts: &[Account]) -> Result<(), HostError> {
        let _writing = self.accounts.lock().await;
        hosts::ensure(accounts).await
    }

    async fn ensure_access_rules(&self) -> Result<Kept, HostError> {
        let _writing = self.accounts.lock().await;
        accounts::ensure_group().await?;
        self.sshd_rules.ensure().await
    }

    async fn access_problems(&self) -> Result<Vec<String>, HostError> {
        self.sshd_rules.problems().await
    }

    async fn ensure_accounts(&self, fleet: FleetId, accounts: &[Account]) -> Result<Vec<AccountFailure>, HostError> {
        let _writing = self.accounts.lock().await;
        accounts::ensure(fleet, accounts, &self.config.uids).await
    }

    async fn remove_accounts(
        &self,
        fleet: FleetId,
        names: &BTreeSet<String>,
    ) -> Result<Vec<AccountFailure>, HostError> {
        let _writing = self.accounts.lock().await;
        accounts::remove(fleet, names).await
    }

    async fn ensure_policy(&self, rules: &PolicyRules) -> Result<Kept, HostError> {
        self.policy.ensure(rules, &self.config.network).await
    }

    async fn addresses(&self) -> Result<BTreeSet<Ipv4Addr>, HostError> {
        machine::addresses().await
    }

    async fn ssh_answers(&self) -> bool {
        greets(self.config.sshd).await
    }

    async fn snapshots(&self, name: &str) -> Result<Option<Snapshots>, HostError> {
        self.read_snapshots(name).await
    }

    async fn make_snapshot(&self, name: &str, snapshot: &SnapshotName) -> Result<(), HostError> {
        self.make_snapshot_of(name, snapshot).await
    }

    async fn remove_snapshot(&self, name: &str, snapshot: &SnapshotName) -> Result<(), HostError> {
        self.remove_snapshot_of(name, snapshot).await
    }

    async fn restore(&self, order: &Order, snapshot: &SnapshotName) -> Result<(), HostError> {
        self.restore_instance(order, snapshot).await
    }

    async fn restamp(&self, fleet: FleetId, order: &Order, kept: &BTreeMap<String, String>) -> Result<(), HostError> {
        self.write_back(fleet, order, Some(kept)).await
    }

    async fn flush(&self) -> Result<(), HostError> {
        tokio::task::spawn_blocking(rustix::fs::sync)
            .await
            .map_err(|error| HostError::transient(format!("sync: {error}")))
    }

    async fn freeze(&self, name: &str, mark: &str) -> Result<(), HostError> {
        self.make_clone(name, mark).await
    }

    async fn export(&self, name: &str, progress: impl Fn(&str) + Send + Sync) -> Result<Export, HostError> {
        self.export_clone(name, progress).await
    }

    async fn clear_export(&self, name: &str) -> Result<(), HostError> {
        self.remove_clone(name).await
    }

    async fn clear_exports(&self) -> Result<(), HostError> {
        self.remove_clones().await
    }

    async fn import(&self, name: &str, size: u64, body: ExportBody) -> Result<(), HostError> {
        self.import_export(name, size, body).await
    }

    async fn dress(&self, fleet: FleetId, order: &Order) -> Result<(), HostError> {
        self.dress_import(fleet, order).await
    }

    async fn activity(&self, name: &str) -> Result<Option<Activity>, HostError> {
        self.read_activity(name).await
    }

    async fn identity(&self, of: Option<&Order>) -> Result<HostIdentity, HostError> {
        self.read_identity(of).await
    }

    async fn install_certificate(
        &self,
        of: Option<&Order>,
        certificate: &HostCertificate,
    ) -> Result<HostIdentity, HostError> {
        self.write_certificate(of, certificate).await
    }

    async fn read_logs(&self, cursor: &str) -> Result<ReadLogs, HostError> {
        self.read_on(cursor).await
    }

    async fn sessions(&self, fleet: FleetId) -> Result<Vec<NodeSession>, HostError> {
        connections::list(fleet).await
    }

    async fn end_session(&self, fleet: FleetId, id: &str) -> Result<bool, HostError> {
        connections::end(fleet, id).await
    }

    async fn bans(&self) -> Result<Bans, HostError> {
        self.read_bans().await
    }

    async fn unban(&self, address: IpAddr) -> Result<bool, HostError> {
        self.let_in(address).await
    }
}
