//! A coordinator that has no servers: containers are what a test says they are, a create streams what a test scripted,
//! and every request that could change something is kept to be looked at.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use containarium_proto::{
    error::{Reason, Refusal},
    v1::{
        self,
        fleet_server::{Fleet, FleetServer},
    },
};
use futures::{StreamExt, stream, stream::BoxStream};
use tempfile::TempDir;
use tokio::{net::UnixListener, runtime::Runtime};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::{Cli, people::People, replicas::Replicas};

/// One thing that happens on a stream.
pub(crate) enum Step<T = v1::Progress> {
    Say(Box<T>),
    Fail(Status),
    /// Nothing more, and no end either.
    Hang,
}

impl<T> Step<T> {
    pub(crate) fn say(message: T) -> Self {
        Self::Say(Box::new(message))
    }
}

/// An image that was sent.
#[derive(Default)]
pub(crate) struct Import {
    pub(crate) image: v1::ImageToImport,
    pub(crate) bytes: Vec<u8>,
}

/// What the coordinator knows, and what it was asked for.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) containers: Vec<v1::Container>,
    pub(crate) jump_address: String,
    /// Keys that sign host certificates; none: an older coordinator.
    pub(crate) authorities: Vec<String>,
    pub(crate) authority_changes: Vec<v1::ChangeSshAuthorityRequest>,
    /// What it answers about any one container, in place of the truth.
    pub(crate) info: Option<v1::Container>,
    /// The answer to everything, if there is one.
    pub(crate) refusal: Option<Refusal>,
    /// What the next creates stream.
    pub(crate) scripts: VecDeque<Vec<Step>>,
    /// What the next watches of the list, and of the events, stream.
    pub(crate) watches: VecDeque<Vec<Step<v1::ListContainersResponse>>>,
    pub(crate) follows: VecDeque<Vec<Step<v1::WatchEventsResponse>>>,
    /// What the next questions for use are answered with; the last one again and again.
    pub(crate) usages: VecDeque<v1::ListUsageResponse>,
    pub(crate) creates: Vec<v1::CreateContainerRequest>,
    pub(crate) deletes: Vec<v1::DeleteContainerRequest>,
    pub(crate) images: Vec<v1::FleetImage>,
    pub(crate) imports: Vec<Import>,
    pub(crate) moves: Vec<v1::MoveContainerRequest>,
    pub(crate) backups: Vec<v1::Backup>,
    /// Every call about a backup that could change something, in words.
    pub(crate) backup_calls: Vec<String>,
    pub(crate) restores: Vec<v1::RestoreBackupRequest>,
    pub(crate) lost: Vec<v1::LostContainer>,
    pub(crate) repairs: Vec<v1::RepairContainerRequest>,
    /// What lives on every server and is not the fleet's.
    pub(crate) foreign: Vec<v1::Adoptable>,
    /// Dry runs too.
    pub(crate) adoptions: Vec<v1::AdoptInstanceRequest>,
    /// Node, and what was confirmed as lost.
    pub(crate) retired: Vec<(String, String)>,
    pub(crate) nodes: Vec<v1::Node>,
    pub(crate) configures: Vec<v1::ConfigureNodeRequest>,
    pub(crate) lifetimes: Vec<v1::SetLifetimeRequest>,
    pub(crate) allowed: Vec<v1::SetAllowFromRequest>,
    pub(crate) lists: Vec<v1::ListContainersRequest>,
    pub(crate) followed: Vec<v1::WatchEventsRequest>,
    pub(crate) usage_of: Vec<v1::ListUsageRequest>,
    /// What every container has, and what was asked about them.
    pub(crate) snapshots: Vec<v1::ListedSnapshot>,
    pub(crate) snapshot_creates: Vec<v1::CreateSnapshotRequest>,
    pub(crate) snapshot_deletes: Vec<v1::DeleteSnapshotRequest>,
    pub(crate) snapshot_restores: Vec<v1::RestoreSnapshotRequest>,
    pub(crate) people: People,
    pub(crate) replicas: Replicas,
}

/// Listens on a socket of its own; dropping or stopping it breaks every connection, as a killed process would.
pub(crate) struct Coordinator {
    dir: TempDir,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

impl Coordinator {
    pub(crate) fn start(state: State) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut coordinator = Self { dir, state: Arc::new(Mutex::new(state)), runtime: None };
        coordinator.restart();
        coordinator
    }

    /// With these containers, reached through a documentation address.
    pub(crate) fn with(containers: impl IntoIterator<Item = v1::Container>) -> Self {
        let containers = containers.into_iter().collect();
        let node = |name: &str| v1::Node { name: name.to_owned(), ..v1::Node::default() };
        let nodes = vec![node("jump-1"), node("jump-2")];
        Self::start(State { containers, jump_address: "203.0.113.9".to_owned(), nodes, ..State::default() })
    }

    /// With one container whose creates go as scripted, one after another.
    pub(crate) fn scripted(container: v1::Container, scripts: impl IntoIterator<Item = Vec<Step>>) -> Self {
        let coordinator = Self::with([container]);
        coordinator.state().scripts = scripts.into_iter().collect();
        coordinator
    }

    pub(crate) fn refusing(refusal: Refusal) -> Self {
        Self::start(State { refusal: Some(refusal), ..State::default() })
    }

    pub(crate) fn stop(&mut self) {
        self.runtime = None;
        std::fs::remove_file(self.socket()).unwrap();
    }

    pub(crate) fn restart(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(self.socket()).unwrap()
        };
        let fleet = FleetServer::new(Fake(self.state.clone()));
        runtime.spawn(Server::builder().add_service(fleet).serve_with_incoming(UnixListenerStream::new(listener)));
        self.runtime = Some(runtime);
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A folder that goes with it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn socket(&self) -> PathBuf {
        self.dir().join("coordinator.sock")
    }

    /// A command line that talks to this coordinator. `HERE` in it is the folder.
    pub(crate) fn cli(&self, line: &str) -> Cli {
        let here = self.dir().display().to_string();
        let server = format!("unix://{}", self.socket().display());
        let words = line.split_whitespace().map(|word| word.replace("HERE", &here));
        Cli::new(["--server".to_owned(), server].into_iter().chain(words))
    }
}

struct Fake(Arc<Mutex<State>>);

impl Fake {
    /// What it knows, unless it refuses.
    fn open(&self) -> Result<MutexGuard<'_, State>, Status> {
        let state = self.0.lock().unwrap();
        match &state.refusal {
            Some(refusal) => Err(refusal.clone().into()),
            None => Ok(state),
        }
    }
}

fn played<T: Send + 'static>(script: Vec<Step<T>>) -> BoxStream<'static, Result<T, Status>> {
    stream::iter(script)
        .then(|step| async {
            match step {
                Step::Say(message) => Ok(*message),
                Step::Fail(status) => Err(status),
                Step::Hang => std::future::pending().await,
            }
        })
        .boxed()
}

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("no test asks for this"))
}

#[tonic::async_trait]
impl Fleet for Fake {
    type ImportImageStream = BoxStream<'static, Result<v1::ImportImageProgress, Status>>;
    type CreateContainerStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type SetPowerStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type ResizeContainerStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type ChangeKeysStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type MoveContainerStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type DrainNodeStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type DeleteContainerStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type RepairContainerStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type CreateSnapshotStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type DeleteSnapshotStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type RestoreSnapshotStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type AdoptInstanceStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type SetLifetimeStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type CreateBackupStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type VerifyBackupStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type RestoreBackupStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type DeleteBackupStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type SetReplicationStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type FailoverStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type DiscardOldCopyStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type ShareContainerStream = BoxStream<'static, Result<v1::Progress, Status>>;
    type WatchContainersStream = BoxStream<'static, Result<v1::ListContainersResponse, Status>>;
    type WatchEventsStream = BoxStream<'static, Result<v1::WatchEventsResponse, Status>>;

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Result<Response<Self::CreateContainerStream>, Status> {
        let mut state = self.open()?;
        state.creates.push(request.into_inner());
        let script = state.scripts.pop_front().ok_or_else(|| Status::internal("one create more than scripted"))?;
        Ok(Response::new(played(script)))
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<v1::ListContainersResponse>, Status> {
        let mut state = self.open()?;
        let request = request.into_inner();
        let (after, size) = (request.page_token.clone(), request.page_size as usize);
        state.lists.push(request);
        let rest: Vec<_> = state.containers.iter().filter(|container| container.user > after).cloned().collect();
        let page = rest[..rest.len().min(size)].to_vec();
        let next = page.last().filter(|_| page.len() < rest.len()).map(|last| last.user.clone());
        Ok(Response::new(v1::ListContainersResponse {
            containers: page,
            next_page_token: next.unwrap_or_default(),
            total_count: state.containers.len() as u32,
        }))
    }

    async fn watch_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<Self::WatchContainersStream>, Status> {
        let mut state = self.open()?;
        state.lists.push(request.into_inner());
        let script = state.watches.pop_front().ok_or_else(|| Status::internal("one watch more than scripted"))?;
        Ok(Response::new(played(script)))
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let mut state = self.open()?;
        state.followed.push(request.into_inner());
        let script = state.follows.pop_front().ok_or_else(|| Status::internal("one follower more than scripted"))?;
        Ok(Response::new(played(script)))
    }

    async fn list_snapshots(
        &self,
        _: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        let snapshots = self.open()?.snapshots.clone();
        Ok(Response::new(v1::ListSnapshotsResponse { snapshots }))
    }

    async fn create_snapshot(
        &self,
        request: Request<v1::CreateSnapshotRequest>,
    ) -> Result<Response<Self::CreateSnapshotStream>, Status> {
        let request = request.into_inner();
        let mut state = self.open()?;
        let snapshot = if request.name.is_empty() { "snap-1".to_owned() } else { request.name.clone() };
        state.snapshot_creates.push(request);
        Ok(Response::new(played(vec![Step::say(v1::Progress { snapshot, ..super::progress(0, 0, "made") })])))
    }

    async fn delete_snapshot(
        &self,
        request: Request<v1::DeleteSnapshotRequest>,
    ) -> Result<Response<Self::DeleteSnapshotStream>, Status> {
        self.open()?.snapshot_deletes.push(request.into_inner());
        Ok(Response::new(played(vec![Step::say(super::progress(0, 0, "removed"))])))
    }

    async fn restore_snapshot(
        &self,
        request: Request<v1::RestoreSnapshotRequest>,
    ) -> Result<Response<Self::RestoreSnapshotStream>, Status> {
        let mut state = self.open()?;
        state.snapshot_restores.push(request.into_inner());
        let script = state.scripts.pop_front().ok_or_else(|| Status::internal("one restore more than scripted"))?;
        Ok(Response::new(played(script)))
    }

    async fn list_usage(
        &self,
        request: Request<v1::ListUsageRequest>,
    ) -> Result<Response<v1::ListUsageResponse>, Status> {
        let mut state = self.open()?;
        state.usage_of.push(request.into_inner());
        let answer = match state.usages.len() {
            0 => return Err(Status::internal("no use is scripted")),
            1 => state.usages[0].clone(),
            _ => state.usages.pop_front().unwrap(),
        };
        Ok(Response::new(answer))
    }

    async fn get_container(
        &self,
        request: Request<v1::GetContainerRequest>,
    ) -> Result<Response<v1::GetContainerResponse>, Status> {
        let user = request.into_inner().user;
        let state = self.open()?;
        let listed = || state.containers.iter().find(|container| container.user == user);
        let found = state.info.as_ref().or_else(listed).cloned();
        let container = found.ok_or_else(|| Refusal::new(Reason::NotFound, format!("{user} has no machine")))?;
        let shared_with_owner =
            state.containers.iter().flat_map(|c| c.shares.clone()).filter(|s| s.with == user).collect();
        Ok(Response::new(v1::GetContainerResponse {
            container: Some(container),
            shared_with_owner,
            ..Default::default()
        }))
    }

    async fn set_power(&self, request: Request<v1::SetPowerRequest>) -> Result<Response<Self::SetPowerStream>, Status> {
        let request = request.into_inner();
        let mut state = self.open()?;
        state.backup_calls.push(format!("{:?} {}", request.action(), request.user));
        let container = state.containers.iter().find(|container| container.user == request.user).cloned();
        Ok(Response::new(played(vec![Step::say(v1::Progress { container, ..super::progress(1, 1, "done") })])))
    }

    async fn resize_container(
        &self,
        _: Request<v1::ResizeContainerRequest>,
    ) -> Result<Response<Self::ResizeContainerStream>, Status> {
        not_here()
    }

    async fn change_keys(&self, _: Request<v1::ChangeKeysRequest>) -> Result<Response<Self::ChangeKeysStream>, Status> {
        not_here()
    }

    async fn set_protection(&self, _: Request<v1::SetProtectionRequest>) -> Result<Response<v1::Container>, Status> {
        not_here()
    }

    async fn delete_container(
        &self,
        request: Request<v1::DeleteContainerRequest>,
    ) -> Result<Response<Self::DeleteContainerStream>, Status> {
        let request = request.into_inner();
        let mut state = self.open()?;
        state.containers.retain(|container| container.user != request.user);
        state.deletes.push(request);
        Ok(Response::new(played(vec![Step::say(super::progress(1, 1, "deleted"))])))
    }

    async fn set_lifetime(
        &self,
        request: Request<v1::SetLifetimeRequest>,
    ) -> Result<Response<Self::SetLifetimeStream>, Status> {
        let request = request.into_inner();
        let mut state = self.open()?;
        let found = state.containers.iter().find(|container| container.user == request.user).cloned();
        let container =
            found.ok_or_else(|| Refusal::new(Reason::NotFound, format!("{} has no machine", request.user)))?;
        state.lifetimes.push(request);
        let last = v1::Progress { container: Some(container), ..super::progress(1, 1, "set") };
        Ok(Response::new(played(vec![Step::say(last)])))
    }

    async fn set_allow_from(
        &self,
        request: Request<v1::SetAllowFromRequest>,
    ) -> Result<Response<v1::SetAllowFromResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.open()?;
        let allow_from = request.allow_from.clone();
        state.allowed.push(request);
        Ok(Response::new(v1::SetAllowFromResponse { allow_from }))
    }

    async fn add_node(&self, _: Request<v1::AddNodeRequest>) -> Result<Response<v1::Node>, Status> {
        not_here()
    }

    async fn list_nodes(&self, _: Request<v1::ListNodesRequest>) -> Result<Response<v1::ListNodesResponse>, Status> {
        let nodes = self.open()?.nodes.clone();
        Ok(Response::new(v1::ListNodesResponse { nodes }))
    }

    async fn get_node(&self, request: Request<v1::GetNodeRequest>) -> Result<Response<v1::Node>, Status> {
        let name = request.into_inner().name;
        let found = self.open()?.nodes.iter().find(|node| node.name == name).cloned();
        let node = found.ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no node '{name}'")))?;
        Ok(Response::new(node))
    }

    async fn set_node_policy(&self, _: Request<v1::SetNodePolicyRequest>) -> Result<Response<v1::Node>, Status> {
        not_here()
    }

    async fn move_container(
        &self,
        request: Request<v1::MoveContainerRequest>,
    ) -> Result<Response<Self::MoveContainerStream>, Status> {
        let mut state = self.open()?;
        state.moves.push(request.into_inner());
        let script = state.scripts.pop_front().ok_or_else(|| Status::internal("one move more than scripted"))?;
        Ok(Response::new(played(script)))
    }

    async fn drain_node(&self, _: Request<v1::DrainNodeRequest>) -> Result<Response<Self::DrainNodeStream>, Status> {
        let script = self.open()?.scripts.pop_front();
        let script = script.ok_or_else(|| Status::internal("one drain more than scripted"))?;
        Ok(Response::new(played(script)))
    }

    async fn retire_node(&self, request: Request<v1::RetireNodeRequest>) -> Result<Response<v1::Node>, Status> {
        let v1::RetireNodeRequest { name, lost } = request.into_inner();
        let mut state = self.open()?;
        state.retired.push((name.clone(), lost));
        Ok(Response::new(v1::Node {
            name,
            lost: state.lost.clone(),
            policy: v1::Policy::Retired.into(),
            ..v1::Node::default()
        }))
    }

    async fn list_images(&self, _: Request<v1::ListImagesRequest>) -> Result<Response<v1::ListImagesResponse>, Status> {
        let images = self.open()?.images.clone();
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    async fn set_default_image(
        &self,
        request: Request<v1::SetDefaultImageRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let wanted = request.into_inner().image;
        let mut state = self.open()?;
        for image in &mut state.images {
            image.is_default = image.alias == wanted;
        }
        Ok(Response::new(v1::ListImagesResponse { images: state.images.clone() }))
    }

    /// Reads it all, and says what it was.
    async fn import_image(
        &self,
        request: Request<tonic::Streaming<v1::ImportImageRequest>>,
    ) -> Result<Response<Self::ImportImageStream>, Status> {
        use v1::import_image_request::Part;
        drop(self.open()?);
        let mut requests = request.into_inner();
        let mut import = Import::default();
        while let Some(v1::ImportImageRequest { part }) = requests.message().await? {
            match part {
                Some(Part::Image(image)) => import.image = image,
                Some(Part::Bytes(bytes)) => import.bytes.extend(bytes),
                None => return Err(Status::internal("an empty message")),
            }
        }
        let begun = v1::ImportImageProgress { node: "jump-2".to_owned(), ..Default::default() };
        let done = v1::ImportImageProgress { done: true, ..begun.clone() };
        self.open()?.imports.push(import);
        Ok(Response::new(stream::iter([Ok(begun), Ok(done)]).boxed()))
    }

    async fn list_events(&self, _: Request<v1::ListEventsRequest>) -> Result<Response<v1::ListEventsResponse>, Status> {
        not_here()
    }

    async fn get_fleet(&self, _: Request<v1::GetFleetRequest>) -> Result<Response<v1::FleetInfo>, Status> {
        let state = self.open()?;
        let (jump_address, ssh_authorities) = (state.jump_address.clone(), state.authorities.clone());
        Ok(Response::new(v1::FleetInfo {
            jump_address,
            ssh_authorities,
            fleet_id: super::FLEET.to_owned(),
            ..v1::FleetInfo::default()
        }))
    }

    async fn list_ssh_authorities(
        &self,
        _: Request<v1::ListSshAuthoritiesRequest>,
    ) -> Result<Response<v1::SshAuthorities>, Status> {
        let one = |(state, key): (v1::AuthorityState, &String)| v1::SshAuthority {
            public_key: key.clone(),
            fingerprint: "SHA256:abc".to_owned(),
            state: state.into(),
        };
        let states = [v1::AuthorityState::Active, v1::AuthorityState::Next];
        let authorities = states.into_iter().zip(&self.open()?.authorities).map(one).collect();
        Ok(Response::new(v1::SshAuthorities { authorities }))
    }

    async fn change_ssh_authority(
        &self,
        request: Request<v1::ChangeSshAuthorityRequest>,
    ) -> Result<Response<v1::SshAuthorities>, Status> {
        self.open()?.authority_changes.push(request.into_inner());
        self.list_ssh_authorities(Request::new(v1::ListSshAuthoritiesRequest {})).await
    }

    async fn repair_container(
        &self,
        request: Request<v1::RepairContainerRequest>,
    ) -> Result<Response<Self::RepairContainerStream>, Status> {
        let mut state = self.open()?;
        state.repairs.push(request.into_inner());
        let script = state.scripts.pop_front().ok_or_else(|| Status::internal("one repair more than scripted"))?;
        Ok(Response::new(played(script)))
    }

    async fn list_foreign(
        &self,
        _: Request<v1::ListAdoptableRequest>,
    ) -> Result<Response<v1::ListAdoptableResponse>, Status> {
        let instances = self.open()?.foreign.clone();
        Ok(Response::new(v1::ListAdoptableResponse { instances }))
    }

    async fn adopt_instance(
        &self,
        request: Request<v1::AdoptInstanceRequest>,
    ) -> Result<Response<Self::AdoptInstanceStream>, Status> {
        let mut state = self.open()?;
        state.adoptions.push(request.into_inner());
        let script = state.scripts.pop_front().ok_or_else(|| Status::internal("one adoption more than scripted"))?;
        Ok(Response::new(played(script)))
    }

    async fn create_backup(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<Self::CreateBackupStream>, Status> {
        let mut state = self.open()?;
        state.backup_calls.push(format!("create {}", request.into_inner().user));
        let script = state.scripts.pop_front().ok_or_else(|| Status::internal("one backup more than scripted"))?;
        Ok(Response::new(played(script)))
    }

    async fn list_backups(
        &self,
        request: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<v1::ListBackupsResponse>, Status> {
        let user = request.into_inner().user;
        let of = |backup: &&v1::Backup| user.is_empty() || backup.user == user;
        let backups = self.open()?.backups.iter().filter(of).cloned().collect();
        Ok(Response::new(v1::ListBackupsResponse { backups }))
    }

    async fn verify_backup(
        &self,
        request: Request<v1::VerifyBackupRequest>,
    ) -> Result<Response<Self::VerifyBackupStream>, Status> {
        let v1::VerifyBackupRequest { user, id } = request.into_inner();
        let mut state = self.open()?;
        state.backup_calls.push(format!("verify {user} {id}"));
        let script = state.scripts.pop_front().ok_or_else(|| Status::internal("one check more than scripted"))?;
        Ok(Response::new(played(script)))
    }

    async fn restore_backup(
        &self,
        request: Request<v1::RestoreBackupRequest>,
    ) -> Result<Response<Self::RestoreBackupStream>, Status> {
        let mut state = self.open()?;
        state.restores.push(request.into_inner());
        let script = state.scripts.pop_front().ok_or_else(|| Status::internal("one restore more than scripted"))?;
        Ok(Response::new(played(script)))
    }

    async fn delete_backup(
        &self,
        request: Request<v1::DeleteBackupRequest>,
    ) -> Result<Response<Self::DeleteBackupStream>, Status> {
        let v1::DeleteBackupRequest { user, id } = request.into_inner();
        self.open()?.backup_calls.push(format!("delete {user} {id}"));
        Ok(Response::new(played(vec![Step::say(super::progress(0, 0, "removed"))])))
    }

    async fn configure_node(&self, request: Request<v1::ConfigureNodeRequest>) -> Result<Response<v1::Node>, Status> {
        let request = request.into_inner();
        let mut state = self.open()?;
        let found = state.nodes.iter_mut().find(|node| node.name == request.name);
        let node =
            found.ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no node '{}'", request.name)))?;
        node.labels.extend(request.set_labels.clone());
        node.labels.retain(|key, _| !request.remove_labels.contains(key));
        let node = node.clone();
        state.configures.push(request);
        Ok(Response::new(node))
    }

    async fn set_replication(
        &self,
        request: Request<v1::SetReplicationRequest>,
    ) -> Result<Response<Self::SetReplicationStream>, Status> {
        let mut state = self.open()?;
        let State { replicas, containers, .. } = &mut *state;
        let last = replicas.set(request.into_inner(), containers);
        Ok(Response::new(played(vec![Step::say(last)])))
    }

    async fn failover(&self, request: Request<v1::FailoverRequest>) -> Result<Response<Self::FailoverStream>, Status> {
        let mut state = self.open()?;
        let State { replicas, containers, .. } = &mut *state;
        let last = replicas.fail_over(request.into_inner(), containers);
        Ok(Response::new(played(vec![Step::say(last)])))
    }

    async fn discard_old_copy(
        &self,
        request: Request<v1::DiscardOldCopyRequest>,
    ) -> Result<Response<Self::DiscardOldCopyStream>, Status> {
        self.open()?.replicas.discarded.push(request.into_inner().user);
        let message = "nothing is left of it".to_owned();
        Ok(Response::new(played(vec![Step::say(v1::Progress { message, ..Default::default() })])))
    }

    async fn share_container(
        &self,
        request: Request<v1::ShareContainerRequest>,
    ) -> Result<Response<Self::ShareContainerStream>, Status> {
        let last = self.open()?.people.share(request.into_inner());
        Ok(Response::new(played(vec![Step::say(last)])))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        Ok(Response::new(self.open()?.people.sessions(request.get_ref())))
    }

    async fn kill_sessions(
        &self,
        request: Request<v1::KillSessionsRequest>,
    ) -> Result<Response<v1::KillSessionsResponse>, Status> {
        Ok(Response::new(self.open()?.people.kill(request.into_inner())))
    }

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        Ok(Response::new(self.open()?.people.audit(request.into_inner())))
    }

    async fn get_security(
        &self,
        _: Request<v1::GetSecurityRequest>,
    ) -> Result<Response<v1::GetSecurityResponse>, Status> {
        Ok(Response::new(self.open()?.people.security()))
    }

    async fn unban_address(
        &self,
        request: Request<v1::UnbanAddressRequest>,
    ) -> Result<Response<v1::UnbanAddressResponse>, Status> {
        Ok(Response::new(self.open()?.people.unban(request.into_inner())))
    }
}
