//! The real host: this machine's Incus, accounts and sshd. Effects only; every decision is made above.

mod accounts;
mod activity;
mod copies;
mod files;
mod foreign;
mod hosts;
mod images;
mod incus;
mod instances;
mod login;
mod machine;
mod repair;
mod sessions;
mod sshd;
mod system;
mod usage;

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use containarium_proto::{
    ids::FleetId,
    keys::KeySet,
    names::Username,
    node::{Account, CopyOffer, CopyPass, Foreign, ImageOffer, Order, Usage},
    spec::{Capacity, Fingerprint, Image},
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::Mutex,
    time::{sleep, timeout},
};

use self::incus::Incus;
use super::{Accounts, Activity, Host, HostError, Instance, Network, StopMode, shape::Place};

/// A container boots in a second; one of fifty that boot at once after a power cut, in a minute.
const SSH: Duration = Duration::from_secs(120);
/// One connect. The kernel repeats a lost SYN only after a second, and the first one is often lost: the address answers
/// ARP a moment before it is up. A new try is quicker.
const SSH_CONNECT: Duration = Duration::from_millis(100);
/// An sshd that has the connection greets at once, unless the node is very busy.
const SSH_GREETING: Duration = Duration::from_secs(3);
const SSH_PAUSE: Duration = Duration::from_millis(15);
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
}

/// This machine.
#[derive(Debug)]
pub struct LinuxHost {
    config: LinuxConfig,
    incus: Incus,
    capacity: machine::Cache,
    /// One writer of passwd at a time.
    accounts: Mutex<()>,
}

impl LinuxHost {
    /// Nothing is asked of the machine yet.
    ///
    /// # Errors
    /// No client can be made for the socket's path.
    pub fn new(config: LinuxConfig) -> Result<Self, HostError> {
        let incus = Incus::new(config.incus_socket.clone())?;
        Ok(Self { config, incus, capacity: Mutex::default(), accounts: Mutex::default() })
    }
}

async fn greets(address: Ipv4Addr) -> bool {
    let Ok(Ok(mut stream)) = timeout(SSH_CONNECT, TcpStream::connect((address, 22))).await else { return false };
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

    async fn ensure_login(&self, name: &str, user: &Username, keys: &KeySet) -> Result<(), HostError> {
        self.make_login(name, user, keys).await
    }

    async fn stamp_login(&self, name: &str, hash: &str) -> Result<(), HostError> {
        self.write_login_stamp(name, hash).await
    }

    async fn wait_ssh(&self, address: Ipv4Addr) -> Result<(), HostError> {
        let answered = async {
            while !greets(address).await {
                sleep(SSH_PAUSE).await;
            }
        };
        timeout(SSH, answered)
            .await
            .map_err(|_| HostError::transient(format!("sshd at {address} does not answer after {SSH:?}")))
    }

    async fn offer_copy(&self, name: &str, pass: CopyPass, host: &str) -> Result<CopyOffer, HostError> {
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

    async fn clear_copy(&self, name: &str) -> Result<(), HostError> {
        self.remove_copy_marks(name).await
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

    async fn capacity(&self) -> Result<Capacity, HostError> {
        self.read_capacity().await
    }

    async fn network(&self) -> Result<Network, HostError> {
        self.read_network().await
    }

    async fn accounts(&self, fleet: FleetId) -> Result<Accounts, HostError> {
        accounts::read(fleet).await
    }

    async fn ensure_names(&self, accounts: &[Account]) -> Result<(), HostError> {
        let _writing = self.accounts.lock().await;
        hosts::ensure(accounts).await
    }

    async fn ensure_access_rules(&self) -> Result<(), HostError> {
        let _writing = self.accounts.lock().await;
        accounts::ensure_group().await?;
        sshd::ensure_rules().await
    }

    async fn ensure_account(&self, fleet: FleetId, account: &Account) -> Result<(), HostError> {
        let _writing = self.accounts.lock().await;
        accounts::ensure(fleet, account).await
    }

    async fn remove_account(&self, fleet: FleetId, username: &str) -> Result<(), HostError> {
        let _writing = self.accounts.lock().await;
        accounts::remove(fleet, username).await
    }

    async fn flush(&self) -> Result<(), HostError> {
        tokio::task::spawn_blocking(rustix::fs::sync)
            .await
            .map_err(|error| HostError::transient(format!("sync: {error}")))
    }

    async fn activity(&self, name: &str) -> Result<Option<Activity>, HostError> {
        self.read_activity(name).await
    }
}
