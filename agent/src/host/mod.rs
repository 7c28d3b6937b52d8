//! What a jump server can do for us: the one seam between the agent's decisions and the operating system.
//! [`linux::LinuxHost`] does it, [`sim::SimHost`] remembers it. Nothing here decides anything.
//!
//! Every effect may be repeated: doing it twice is doing it once. Every call has its own deadline inside the host, so
//! a caller may await it without one. A call that was cut off (kill -9) may have happened: look, then go on.

pub mod linux;
mod rules;
pub mod shape;
pub mod sim;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bytes::Bytes as Chunk;
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
use futures::stream::BoxStream;
use ipnet::Ipv4Net;

pub use self::rules::{Kept, PolicyRules};
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
    /// The generation under which it has run, if it must not start with its node: its user has had it since.
    pub ran: Option<Generation>,
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

/// An export as it comes.
pub struct Export {
    /// In all.
    pub size: u64,
    /// To be read once.
    pub body: ExportBody,
}

/// The bytes of an export.
pub type ExportBody = BoxStream<'static, Result<Chunk, HostError>>;

/// An account that could not be brought about, and why.
pub type AccountFailure = (String, HostError);

/// Which log a line is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSource {
    /// sshd's own.
    Sshd,
    /// What a jail of fail2ban did.
    Fail2ban {
        /// Its name.
        jail: String,
    },
    /// No line: a part of a log was gone before it was read.
    Lost,
}

/// A line of a log. The message may hold anything that somebody sent to sshd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Which log.
    pub source: LogSource,
    /// Where in it: never the same for two lines.
    pub place: String,
    /// Unix milliseconds.
    pub at: i64,
    /// What the program said.
    pub message: String,
}

/// A part of the logs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadLogs {
    /// In the order of each log.
    pub lines: Vec<LogLine>,
    /// Where it ends.
    pub cursor: String,
    /// There is more already.
    pub more: bool,
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
    /// Makes the user inside a running instance, with exactly the order's keys, and sudo; and its guests, and no others:
    /// whoever is no longer one is locked out, and their sessions are ended.
    fn ensure_login(&self, order: &Order) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Writes [`Stamp::login`].
    fn stamp_login(&self, name: &str, hash: &str) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Writes [`Stamp::ran`].
    fn stamp_ran(&self, name: &str, generation: Generation) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Waits until port 22 of the address greets as an ssh server.
    fn wait_ssh(&self, address: Ipv4Addr) -> impl Future<Output = Result<(), HostError>> + Send;

    /// Opens an instance for one copy, with a snapshot of its own for each pass, so that the next pass is incremental. Of a
    /// replica those before the last pass go: the two that are left are what both have, and what is being copied.
    /// `host`: under which name or address the other node reaches this one.
    fn offer_copy(
        &self,
        name: &str,
        pass: (CopyKind, CopyPass),
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
    /// Removes the snapshots that offers of this kind have made, and of a move [`Stamp::copied`]; done at once if there are none.
    fn clear_copy(&self, name: &str, kind: CopyKind) -> impl Future<Output = Result<(), HostError>> + Send;

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
    /// Takes an image, its metadata first and then its root file system, and names it: all of it, with the fingerprint
    /// that it must have, or nothing. Nothing is read of `bytes` if it is there.
    fn import_image(
        &self,
        files: &ImageFiles,
        bytes: impl Stream<Item = Result<Vec<u8>, HostError>> + Send + 'static,
    ) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Size and use of the machine.
    fn capacity(&self) -> impl Future<Output = Result<Capacity, HostError>> + Send;
    /// Where the containers live.
    fn network(&self) -> impl Future<Output = Result<Network, HostError>> + Send;

    /// Login names.
    fn accounts(&self, fleet: FleetId) -> impl Future<Output = Result<Accounts, HostError>> + Send;
    /// What all proxy accounts together need: the group, the sshd rules. Cheap when nothing is to do.
    fn ensure_access_rules(&self) -> impl Future<Output = Result<Kept, HostError>> + Send;
    /// What an operator must put right before sshd can be relied upon.
    fn access_problems(&self) -> impl Future<Output = Result<Vec<String>, HostError>> + Send;
    /// Makes the containers of these accounts, and no others of the fleet, known by name on this host.
    fn ensure_names(&self, accounts: &[Account]) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Makes these proxy accounts exactly this, ending their sessions where they could use what was taken away. Each is
    /// tried, whatever becomes of the others; a name that is not ours fails. Cheap when nothing is to do.
    fn ensure_accounts(
        &self,
        fleet: FleetId,
        accounts: &[Account],
    ) -> impl Future<Output = Result<Vec<AccountFailure>, HostError>> + Send;
    /// Ends the sessions of proxy accounts of ours and removes them with their homes; done at once where there is none.
    fn remove_accounts(
        &self,
        fleet: FleetId,
        names: &BTreeSet<String>,
    ) -> impl Future<Output = Result<Vec<AccountFailure>, HostError>> + Send;

    /// Makes these the rules for what containers may reach, all at once. Cheap when they are.
    fn ensure_policy(&self, rules: &PolicyRules) -> impl Future<Output = Result<Kept, HostError>> + Send;
    /// The host's own addresses.
    fn addresses(&self) -> impl Future<Output = Result<BTreeSet<Ipv4Addr>, HostError>> + Send;
    /// Whether the host's own sshd greets who connects.
    fn ssh_answers(&self) -> impl Future<Output = bool> + Send;

    /// The snapshots of an instance, none that a copy has made; `None`: there is no such instance.
    fn snapshots(&self, name: &str) -> impl Future<Output = Result<Option<Snapshots>, HostError>> + Send;
    /// Makes a snapshot; makes it anew if there is one of that name.
    fn make_snapshot(&self, name: &str, snapshot: &SnapshotName) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Removes a snapshot; done at once if there is none.
    fn remove_snapshot(
        &self,
        name: &str,
        snapshot: &SnapshotName,
    ) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Brings a stopped instance back to a snapshot, its configuration and our stamps included, without any key that
    /// let somebody in then. To one of a replica: whatever snapshots came after it are of a pass that was cut off, and go.
    fn restore(&self, order: &Order, snapshot: &SnapshotName) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Makes an instance exactly what `order` says, in one go, as a repair does, and takes [`Stamp::login`] and
    /// [`Stamp::copied`] off it, whoever's stamp it carries: what is inside is not what they were written for.
    /// `kept`: keys that were its own before.
    fn restamp(
        &self,
        fleet: FleetId,
        order: &Order,
        kept: &BTreeMap<String, String>,
    ) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Has everything that was written reach the disks.
    fn flush(&self) -> impl Future<Output = Result<(), HostError>> + Send;

    /// Makes a stopped clone of an instance, running or not, as it is at this moment, under [`shape::clone_name`] and with
    /// this [`shape::BACKUP_MARK`] in place of our stamps. Whatever was there of an earlier one goes first.
    fn freeze(&self, name: &str, mark: &str) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Exports the clone of an instance, compressed. Tells how far it is.
    fn export(
        &self,
        name: &str,
        progress: impl Fn(&str) + Send + Sync,
    ) -> impl Future<Output = Result<Export, HostError>> + Send;
    /// Destroys the clone of an instance, with its export; done at once if there is none.
    fn clear_export(&self, name: &str) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Destroys all clones: those that an agent before this one has left.
    fn clear_exports(&self) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Makes an export of this size a stopped instance under [`shape::staging_name`], all of it or nothing. It carries the
    /// mark of the backup, and no stamp.
    fn import(&self, name: &str, size: u64, body: ExportBody) -> impl Future<Output = Result<(), HostError>> + Send;
    /// Makes what was imported, and bears the order's name now, exactly what `order` says, with its stamp; before that,
    /// takes out the keys that let somebody in when it was exported.
    fn dress(&self, fleet: FleetId, order: &Order) -> impl Future<Output = Result<(), HostError>> + Send;

    /// How an instance is used; `None`: it does not run, or there is none.
    fn activity(&self, name: &str) -> impl Future<Output = Result<Option<Activity>, HostError>> + Send;

    /// Who the sshd of this host, or the one in a running instance of an order, shows itself to be. A permanent error:
    /// it can have no certificate.
    fn identity(&self, of: Option<&Order>) -> impl Future<Output = Result<HostIdentity, HostError>> + Send;
    /// Has it show this certificate from now on; gives what is shown then. A certificate of another key than the
    /// host's is of no use and harms nobody.
    fn install_certificate(
        &self,
        of: Option<&Order>,
        certificate: &HostCertificate,
    ) -> impl Future<Output = Result<HostIdentity, HostError>> + Send;

    /// Reads on in the logs after a cursor that an earlier reading gave; an empty one: from the beginning. The same cursor
    /// gives the same lines.
    fn read_logs(&self, cursor: &str) -> impl Future<Output = Result<ReadLogs, HostError>> + Send;
    /// The connections of our proxy accounts at this moment, oldest first.
    fn sessions(&self, fleet: FleetId) -> impl Future<Output = Result<Vec<NodeSession>, HostError>> + Send;
    /// Ends one of them; gives whether it was there.
    fn end_session(&self, fleet: FleetId, id: &str) -> impl Future<Output = Result<bool, HostError>> + Send;
    /// Who is kept out of sshd.
    fn bans(&self) -> impl Future<Output = Result<Bans, HostError>> + Send;
    /// Lets an address in again; gives whether it was kept out.
    fn unban(&self, address: IpAddr) -> impl Future<Output = Result<bool, HostError>> + Send;
}
