//! What a jump server can do for us: the one seam between the agent's decisions and the operating system.
//! [`linux::LinuxHost`] does it, [`sim::SimHost`] remembers it. Nothing here decides anything.
//!
//! Every effect may be repeated: doing it twice is doing it once. Every call has its own deadline inside the host, so
//! a caller may await it without one. A call that was cut off (kill -9) may have happened: look, then go on.

pub mod linux;
pub mod shape;
pub mod sim;

use std::{collections::BTreeSet, future::Future, net::Ipv4Addr, time::Duration};

use containarium_proto::{
    ids::FleetId,
    keys::KeySet,
    names::Username,
    node::{Account, CopyOffer, CopyPass, Foreign, ImageOffer, Order, Usage},
    spec::{Capacity, Fingerprint, Image},
};
use ipnet::Ipv4Net;

use self::shape::{Place, Shape};

/// Why the host did not do it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct HostError {
    /// For people: what was tried on what, and why it failed, causes included.
    pub message: String,
    /// Trying the same again would fail in the same way.
    pub permanent: bool,
}

impl HostError {
    /// May go away by itself: a busy daemon, a full disk, a lost connection.
    pub fn transient(message: impl Into<String>) -> Self {
        Self { message: message.into(), permanent: false }
    }

    /// Will not: an image that is not there, a configuration that is refused.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { message: message.into(), permanent: true }
    }
}

/// Whether an instance is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Has a process.
    Running,
    /// Has none.
    Stopped,
}

/// What we wrote on an instance of ours (`user.containarium.*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Whose it is.
    pub fleet: FleetId,
    /// The newest order that was carried into its configuration, with id and generation.
    pub order: Order,
    /// Hash of the login (user and keys) that was last made inside, if any: see [`crate::plan::login_hash`].
    pub login: Option<String>,
    /// It arrived from another node, or is arriving: the last pass of the copy that was here in full.
    pub copied: Option<CopyPass>,
}

/// An instance as the host has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Started or not.
    pub power: Power,
    /// `None`: somebody else's; never to be touched (I6).
    pub stamp: Option<Stamp>,
    /// What it is now, whatever was ordered.
    pub shape: Shape,
    /// The host's own id of it, which it keeps for life, if it carries no stamp of any kind: not even a damaged one, or
    /// another fleet's.
    pub unclaimed: Option<String>,
}

/// How an instance is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Asks its init, and after 30 s takes the power away.
    Graceful,
    /// Asks its init, and after 20 s gives up: the machine itself is about to end.
    Brief,
    /// Takes the power away: nothing inside matters any more.
    Force,
}

/// The network that this host's containers live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// "10.100.1.0/24"
    pub cidr: Ipv4Net,
    /// The host's own address in it.
    pub gateway: Ipv4Addr,
}

/// What tells whether somebody, or something, uses a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// CPU time used since it was started.
    pub cpu: Duration,
    /// Established connections to its sshd.
    pub ssh_sessions: u32,
}

/// Login names on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Proxy accounts with the fleet's stamp.
    pub ours: BTreeSet<String>,
    /// Every other name.
    pub foreign: BTreeSet<String>,
}

/// A jump server. Static dispatch: the agent is built for one of them.
pub trait Host: Send + Sync + 'static {
    /// All instances, also those of others.
    fn instances(&self) -> impl Future<Output = Result<Vec<Instance>, HostError>> + Send;
    /// One instance.
    fn instance(&self, name: &str) -> impl Future<Output = Result<Option<Instance>, HostError>> + Send;

    /// Clones the image with limits, quota, fixed address and stamp in one go, and starts it if the host can do both
    /// at once. It may exist afterwards even if this failed.
    fn create(&self, fleet: FleetId, order: &Order) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Changes limits and stamp of an instance to those of `order`, in one go, without a restart. What was added to it
    /// beside them stays.
    fn configure(&self, fleet: FleetId, order: &Order) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Makes an instance of ours exactly what `order` says, in one go: what was added to it goes, but for the notes of
    /// the host itself, of the image and of people.
    fn repair(&self, fleet: FleetId, order: &Order) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Gives a stopped instance another name.
    fn rename(&self, name: &str, to: &str) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Where instances of ours get their disk and their network.
    fn place(&self) -> Place;
    /// What an adoption must know of every instance without any stamp.
    fn foreign(&self) -> impl Future<Output = Result<Vec<Foreign>, HostError>> + Send;
    /// Starts it; done at once if it runs.
    fn start(&self, name: &str) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Stops it; done at once if it does not run.
    fn stop(&self, name: &str, mode: StopMode) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Destroys a stopped instance with its data; done at once if there is none.
    fn delete(&self, name: &str) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Makes the user inside a running instance, with exactly these keys, and sudo.
    fn ensure_login(
        &self,
        name: &str,
        user: &Username,
        keys: &KeySet,
    ) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Writes [`Stamp::login`].
    fn stamp_login(&self, name: &str, hash: &str) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Waits until port 22 of the address greets as an ssh server.
    fn wait_ssh(&self, address: Ipv4Addr) -> impl Future<Output = Result<(), HostError>> + Send;

    /// Opens an instance for one copy, with a snapshot of its own for each pass, so that the next pass is incremental.
    /// `host`: under which name or address the other node reaches this one.
    fn offer_copy(
        &self,
        name: &str,
        pass: CopyPass,
        host: &str,
    ) -> impl Future<Output = Result<CopyOffer, HostError>> + Send;
    /// Fetches what is offered into a new, stopped instance with the order's stamp, or, with `refresh`, what changed
    /// into the one that is there. Takes as long as it takes; tells how far it is.
    fn receive_copy(
        &self,
        fleet: FleetId,
        order: &Order,
        offer: &CopyOffer,
        refresh: bool,
        progress: impl Fn(&str) + Send + Sync,
    ) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Waits for a copy into an instance that an agent before this one began. True if one ended well meanwhile.
    fn finish_copy(&self, name: &str) -> impl Future<Output = Result<bool, HostError>> + Send;
    /// Writes [`Stamp::copied`].
    fn stamp_copied(&self, name: &str, pass: Option<CopyPass>) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Removes the snapshots that offers have made, and [`Stamp::copied`]; done at once if there are none.
    fn clear_copy(&self, name: &str) -> impl Future<Output = Result<(), HostError>> + Send;

    /// What an instance uses at this moment; `None`: there is no such instance.
    fn usage(&self, name: &str) -> impl Future<Output = Result<Option<Usage>, HostError>> + Send;

    /// Golden images that can be cloned.
    fn images(&self) -> impl Future<Output = Result<Vec<Image>, HostError>> + Send;
    /// Brings what the operator laid ready for this host (new golden images) into it. Called again and again.
    fn refresh_images(&self) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Opens an image to another node. `None`: there is no such image.
    fn offer_image(
        &self,
        fingerprint: &Fingerprint,
        host: &str,
    ) -> impl Future<Output = Result<Option<ImageOffer>, HostError>> + Send;
    /// Fetches an offered image, unless it is there, and names it.
    fn fetch_image(&self, image: &Image, offer: &ImageOffer) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Size and use of the machine.
    fn capacity(&self) -> impl Future<Output = Result<Capacity, HostError>> + Send;
    /// Where the containers live.
    fn network(&self) -> impl Future<Output = Result<Network, HostError>> + Send;

    /// Login names.
    fn accounts(&self, fleet: FleetId) -> impl Future<Output = Result<Accounts, HostError>> + Send;
    /// What all proxy accounts together need: the group, the sshd rules. Cheap when nothing is to do.
    fn ensure_access_rules(&self) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Makes the containers of these accounts, and no others of the fleet, known by name on this host.
    fn ensure_names(&self, accounts: &[Account]) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Makes the proxy account exactly this, ending its sessions where they could use what was taken away. Refuses a
    /// name that is not ours. Cheap when nothing is to do.
    fn ensure_account(&self, fleet: FleetId, account: &Account) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Ends the sessions of a proxy account of ours and removes it with its home; done at once if there is none.
    fn remove_account(&self, fleet: FleetId, username: &str) -> impl Future<Output = Result<(), HostError>> + Send;

    /// Has everything that was written reach the disks.
    fn flush(&self) -> impl Future<Output = Result<(), HostError>> + Send;

    /// How an instance is used; `None`: it does not run, or there is none.
    fn activity(&self, name: &str) -> impl Future<Output = Result<Option<Activity>, HostError>> + Send;
}
