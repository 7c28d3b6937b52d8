//! The `Fleet` service: each call parsed, done by its module, rendered. No logic of its own.

use std::sync::Arc;

use containarium_proto::{VERSION, v1};
use tonic::{Request, Response, Status, Streaming};

use super::{
    adopt, allow, audit, authorities, backups, configure, create, delete, drain, image_import, images, keys, lifetime,
    list, moves, nodes, parse, power,
    progress::{self, ProgressStream},
    protect,
    refuse::no_such_user,
    render, repair, replicas, resize, restore, sessions, share, snapshots, stray, usage, view,
    watch::{Places, WatchStream},
    watch_events::Followed,
};
use crate::{node::Drivers, reign::Reign};

/// What one screen, and one message, can hold.
const MAX_EVENTS: u32 = 1_000;
const DEFAULT_EVENTS: u32 = 50;
/// Beside one container's own facts.
const EVENTS_OF_ONE: u32 = 20;

pub(crate) struct FleetService {
    pub(crate) reign: Arc<Reign>,
    pub(crate) drivers: Arc<Drivers>,
    pub(crate) watches: Places,
}

#[tonic::async_trait]
impl v1::fleet_server::Fleet for FleetService {
    type ImportImageStream = image_import::ImportStream;
    type CreateContainerStream = ProgressStream;
    type SetPowerStream = ProgressStream;
    type ResizeContainerStream = ProgressStream;
    type ChangeKeysStream = ProgressStream;
    type MoveContainerStream = ProgressStream;
    type DrainNodeStream = ProgressStream;
    type DeleteContainerStream = ProgressStream;
    type RepairContainerStream = ProgressStream;
    type AdoptInstanceStream = ProgressStream;
    type SetLifetimeStream = ProgressStream;
    type CreateSnapshotStream = ProgressStream;
    type DeleteSnapshotStream = ProgressStream;
    type RestoreSnapshotStream = ProgressStream;
    type CreateBackupStream = ProgressStream;
    type VerifyBackupStream = ProgressStream;
    type RestoreBackupStream = ProgressStream;
    type DeleteBackupStream = ProgressStream;
    type ShareContainerStream = ProgressStream;
    type SetReplicationStream = ProgressStream;
    type FailoverStream = ProgressStream;
    type DiscardOldCopyStream = ProgressStream;
    type WatchContainersStream = WatchStream<v1::ListContainersResponse>;
    type WatchEventsStream = WatchStream<v1::WatchEventsResponse>;

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, request = request.get_ref().request_id))]
    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let defaults = images::defaults(&self.reign).await?;
        let create = parse::create(request.get_ref(), &defaults, &self.reign.config.lifetimes)?;
        if request.get_ref().dry_run {
            return Ok(Response::new(progress::once(create::dry_run(&self.reign, &create).await?)));
        }
        let id = create::place(&self.reign, &create).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), create::Created::new(id))))
    }

    #[tracing::instrument(skip_all)]
    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<v1::ListContainersResponse>, Status> {
        let page = parse::page(request.get_ref())?;
        Ok(Response::new(list::page(&self.reign, &page).await?))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user))]
    async fn get_container(
        &self,
        request: Request<v1::GetContainerRequest>,
    ) -> Result<Response<v1::GetContainerResponse>, Status> {
        let user = parse::user(&request.get_ref().user)?;
        let mut reader = self.reign.store.reader().await?;
        let rows = reader.of_owner(&user).await?;
        let held = view::principal(rows).pop().ok_or_else(|| no_such_user(user.as_str()))?;
        let events = reader.events(&user.container_name(), EVENTS_OF_ONE).await?;
        let shared_with_owner = share::with_user(&user, &reader.shared().await?);
        drop(reader);
        let container = Some(render::container(&view::view(held, &self.reign.sights())));
        let events = events.into_iter().map(render::event).collect();
        let last_login = audit::last_login(&self.reign, user.as_str()).await?;
        Ok(Response::new(v1::GetContainerResponse { container, events, shared_with_owner, last_login }))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, action = ?request.get_ref().action()))]
    async fn set_power(&self, request: Request<v1::SetPowerRequest>) -> Result<Response<ProgressStream>, Status> {
        let power = parse::power(request.get_ref())?;
        let goal = power::set(&self.reign, &power).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, request = request.get_ref().request_id))]
    async fn resize_container(
        &self,
        request: Request<v1::ResizeContainerRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let resize = parse::resize(request.get_ref())?;
        let goal = resize::order(&self.reign, &self.drivers, &resize).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, request = request.get_ref().request_id))]
    async fn change_keys(&self, request: Request<v1::ChangeKeysRequest>) -> Result<Response<ProgressStream>, Status> {
        let change = parse::key_change(request.get_ref())?;
        let goal = keys::change(&self.reign, &change).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, protected = request.get_ref().protected))]
    async fn set_protection(
        &self,
        request: Request<v1::SetProtectionRequest>,
    ) -> Result<Response<v1::Container>, Status> {
        let user = parse::user(&request.get_ref().user)?;
        Ok(Response::new(protect::set(&self.reign, &user, request.get_ref().protected).await?))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, request = request.get_ref().request_id))]
    async fn delete_container(
        &self,
        request: Request<v1::DeleteContainerRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let delete = parse::delete(request.get_ref())?;
        let goal = delete::order(&self.reign, &delete).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, request = request.get_ref().request_id))]
    async fn set_lifetime(&self, request: Request<v1::SetLifetimeRequest>) -> Result<Response<ProgressStream>, Status> {
        let change = parse::set_lifetime(request.get_ref(), &self.reign.config.lifetimes)?;
        Ok(Response::new(match lifetime::set(&self.reign, &change).await? {
            lifetime::Outcome::Done(progress) => progress::once(*progress),
            lifetime::Outcome::Waiting(goal) => progress::follow(self.reign.clone(), goal),
        }))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, request = request.get_ref().request_id))]
    async fn set_replication(
        &self,
        request: Request<v1::SetReplicationRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let wanted = replicas::parse(request.get_ref(), &self.reign.config.lifetimes.replication)?;
        let goal = replicas::set(&self.reign, &wanted).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, request = request.get_ref().request_id))]
    async fn failover(&self, request: Request<v1::FailoverRequest>) -> Result<Response<ProgressStream>, Status> {
        let goal = replicas::failover(&self.reign, request.get_ref()).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user))]
    async fn discard_old_copy(
        &self,
        request: Request<v1::DiscardOldCopyRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let goal = replicas::discard(&self.reign, request.get_ref()).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user))]
    async fn set_allow_from(
        &self,
        request: Request<v1::SetAllowFromRequest>,
    ) -> Result<Response<v1::SetAllowFromResponse>, Status> {
        Ok(Response::new(allow::set(&self.reign, request.get_ref()).await?))
    }

    #[tracing::instrument(skip_all, fields(node = request.get_ref().name))]
    async fn add_node(&self, request: Request<v1::AddNodeRequest>) -> Result<Response<v1::Node>, Status> {
        Ok(Response::new(nodes::add(&self.reign, &self.drivers, request.get_ref()).await?))
    }

    #[tracing::instrument(skip_all)]
    async fn list_nodes(&self, _: Request<v1::ListNodesRequest>) -> Result<Response<v1::ListNodesResponse>, Status> {
        Ok(Response::new(v1::ListNodesResponse { nodes: nodes::list(&self.reign).await? }))
    }

    #[tracing::instrument(skip_all, fields(node = request.get_ref().name))]
    async fn get_node(&self, request: Request<v1::GetNodeRequest>) -> Result<Response<v1::Node>, Status> {
        let name = parse::node(&request.get_ref().name)?;
        Ok(Response::new(nodes::get(&self.reign, &name).await?))
    }

    #[tracing::instrument(skip_all, fields(node = request.get_ref().name))]
    async fn set_node_policy(&self, request: Request<v1::SetNodePolicyRequest>) -> Result<Response<v1::Node>, Status> {
        Ok(Response::new(nodes::set_policy(&self.reign, request.get_ref()).await?))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, request = request.get_ref().request_id))]
    async fn move_container(
        &self,
        request: Request<v1::MoveContainerRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let asked = parse::moving(request.get_ref())?;
        if request.get_ref().dry_run {
            return Ok(Response::new(progress::once(moves::dry_run(&self.reign, &asked).await?)));
        }
        let goal = match request.get_ref().cancel {
            true => moves::cancel(&self.reign, &asked).await?,
            false => moves::order(&self.reign, &asked).await?,
        };
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all, fields(node = request.get_ref().name))]
    async fn drain_node(&self, request: Request<v1::DrainNodeRequest>) -> Result<Response<ProgressStream>, Status> {
        let goal = drain::order(&self.reign, request.get_ref()).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all, fields(node = request.get_ref().name, lost = request.get_ref().lost))]
    async fn retire_node(&self, request: Request<v1::RetireNodeRequest>) -> Result<Response<v1::Node>, Status> {
        Ok(Response::new(drain::retire(&self.reign, &self.drivers, request.get_ref()).await?))
    }

    #[tracing::instrument(skip_all)]
    async fn list_images(&self, _: Request<v1::ListImagesRequest>) -> Result<Response<v1::ListImagesResponse>, Status> {
        Ok(Response::new(v1::ListImagesResponse { images: images::list(&self.reign).await? }))
    }

    #[tracing::instrument(skip_all, fields(image = request.get_ref().image))]
    async fn set_default_image(
        &self,
        request: Request<v1::SetDefaultImageRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        images::set_default(&self.reign, request.get_ref()).await?;
        Ok(Response::new(v1::ListImagesResponse { images: images::list(&self.reign).await? }))
    }

    #[tracing::instrument(skip_all)]
    async fn import_image(
        &self,
        request: Request<Streaming<v1::ImportImageRequest>>,
    ) -> Result<Response<Self::ImportImageStream>, Status> {
        let imported = image_import::import(self.reign.clone(), self.drivers.clone(), request.into_inner());
        Ok(Response::new(imported.await?))
    }

    #[tracing::instrument(skip_all)]
    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let v1::ListEventsRequest { subject, limit } = request.into_inner();
        let limit = if limit == 0 { DEFAULT_EVENTS } else { limit.min(MAX_EVENTS) };
        let mut reader = self.reign.store.reader().await?;
        let events = reader.events(&subject, limit).await?;
        Ok(Response::new(v1::ListEventsResponse { events: events.into_iter().map(render::event).collect() }))
    }

    #[tracing::instrument(skip_all)]
    async fn get_fleet(&self, _: Request<v1::GetFleetRequest>) -> Result<Response<v1::FleetInfo>, Status> {
        let mut reader = self.reign.store.reader().await?;
        let fleet = reader.fleet().await?;
        let authorities = reader.authorities().await?;
        Ok(Response::new(v1::FleetInfo {
            fleet_id: fleet.id.to_string(),
            version: VERSION.to_owned(),
            jump_address: self.reign.config.jump_address.clone().unwrap_or_default(),
            access_revision: fleet.access_revision.0,
            term: fleet.term.0,
            ssh_authorities: authorities.iter().map(|authority| authority.key.to_string()).collect(),
        }))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, request = request.get_ref().request_id))]
    async fn repair_container(
        &self,
        request: Request<v1::RepairContainerRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let goal = repair::order(&self.reign, &parse::repair(request.get_ref())?).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all, fields(node = request.get_ref().node))]
    async fn list_foreign(
        &self,
        request: Request<v1::ListAdoptableRequest>,
    ) -> Result<Response<v1::ListAdoptableResponse>, Status> {
        let node = parse::node(&request.get_ref().node)?;
        let foreign = adopt::list(&self.reign, &self.drivers, &node).await?;
        let instances = stray::list(&self.reign, &node).into_iter().chain(foreign).collect();
        Ok(Response::new(v1::ListAdoptableResponse { instances }))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, instance = request.get_ref().instance))]
    async fn adopt_instance(
        &self,
        request: Request<v1::AdoptInstanceRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        match stray::adopt(&self.reign, &self.drivers, request.get_ref()).await? {
            stray::Outcome::NoStray => {}
            stray::Outcome::Told(told) => return Ok(Response::new(progress::once(*told))),
            stray::Outcome::Waiting(goal) => return Ok(Response::new(progress::follow(self.reign.clone(), goal))),
        }
        let wanted = parse::adopt(request.get_ref())?;
        if request.get_ref().dry_run {
            let told = adopt::dry_run(&self.reign, &self.drivers, &wanted).await?;
            return Ok(Response::new(progress::once(told)));
        }
        let goal = adopt::order(&self.reign, &self.drivers, &wanted).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all)]
    async fn list_ssh_authorities(
        &self,
        _: Request<v1::ListSshAuthoritiesRequest>,
    ) -> Result<Response<v1::SshAuthorities>, Status> {
        Ok(Response::new(authorities::list(&self.reign).await?))
    }

    #[tracing::instrument(skip_all)]
    async fn change_ssh_authority(
        &self,
        request: Request<v1::ChangeSshAuthorityRequest>,
    ) -> Result<Response<v1::SshAuthorities>, Status> {
        Ok(Response::new(authorities::change(&self.reign, request.get_ref()).await?))
    }

    #[tracing::instrument(skip_all, fields(node = request.get_ref().name))]
    async fn configure_node(&self, request: Request<v1::ConfigureNodeRequest>) -> Result<Response<v1::Node>, Status> {
        let wanted = configure::parse(request.get_ref())?;
        Ok(Response::new(configure::set(&self.reign, &wanted).await?))
    }

    #[tracing::instrument(skip_all)]
    async fn watch_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<Self::WatchContainersStream>, Status> {
        let page = parse::page(request.get_ref())?;
        Ok(Response::new(self.watches.watch(self.reign.clone(), list::Watched::new(&page)?)?))
    }

    #[tracing::instrument(skip_all, fields(subject = request.get_ref().subject))]
    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let followed = Followed::new(request.into_inner())?;
        Ok(Response::new(self.watches.watch(self.reign.clone(), followed)?))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user))]
    async fn list_snapshots(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        let user = parse::user(&request.get_ref().user)?;
        Ok(Response::new(snapshots::list(&self.reign, &self.drivers, &user).await?))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, name = request.get_ref().name))]
    async fn create_snapshot(
        &self,
        request: Request<v1::CreateSnapshotRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let wanted = snapshots::parse_create(request.get_ref())?;
        let goal = snapshots::create(&self.reign, &self.drivers, &wanted).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, name = request.get_ref().name))]
    async fn delete_snapshot(
        &self,
        request: Request<v1::DeleteSnapshotRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let which = snapshots::parse_name(&request.get_ref().user, &request.get_ref().name)?;
        let goal = snapshots::delete(&self.reign, &self.drivers, &which).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, name = request.get_ref().name))]
    async fn restore_snapshot(
        &self,
        request: Request<v1::RestoreSnapshotRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let goal = snapshots::restore(&self.reign, &self.drivers, request.get_ref()).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, request = request.get_ref().request_id))]
    async fn create_backup(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let goal = backups::create(&self.reign, request.get_ref()).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all)]
    async fn list_backups(
        &self,
        request: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<v1::ListBackupsResponse>, Status> {
        Ok(Response::new(backups::list(&self.reign, request.get_ref()).await?))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, id = request.get_ref().id))]
    async fn verify_backup(
        &self,
        request: Request<v1::VerifyBackupRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let row = backups::kept(&self.reign, request.get_ref()).await?;
        Ok(Response::new(backups::verify(self.reign.clone(), self.drivers.clone(), row)))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, request = request.get_ref().request_id))]
    async fn restore_backup(
        &self,
        request: Request<v1::RestoreBackupRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let wanted = restore::parse(request.get_ref())?;
        Ok(Response::new(restore::restore(self.reign.clone(), self.drivers.clone(), wanted).await?))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, id = request.get_ref().id))]
    async fn delete_backup(
        &self,
        request: Request<v1::DeleteBackupRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let goal = backups::delete(&self.reign, request.get_ref()).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all)]
    async fn list_usage(
        &self,
        request: Request<v1::ListUsageRequest>,
    ) -> Result<Response<v1::ListUsageResponse>, Status> {
        Ok(Response::new(usage::list(&self.reign, &self.drivers, &request.get_ref().nodes).await?))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, with = request.get_ref().with))]
    async fn share_container(
        &self,
        request: Request<v1::ShareContainerRequest>,
    ) -> Result<Response<ProgressStream>, Status> {
        let wanted = share::parse(request.get_ref())?;
        let goal = share::change(&self.reign, &wanted).await?;
        Ok(Response::new(progress::follow(self.reign.clone(), goal)))
    }

    #[tracing::instrument(skip_all)]
    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        Ok(Response::new(sessions::list((&self.reign, &self.drivers), request.get_ref()).await?))
    }

    #[tracing::instrument(skip_all, fields(user = request.get_ref().user, id = request.get_ref().id))]
    async fn kill_sessions(
        &self,
        request: Request<v1::KillSessionsRequest>,
    ) -> Result<Response<v1::KillSessionsResponse>, Status> {
        Ok(Response::new(sessions::kill((&self.reign, &self.drivers), request.get_ref()).await?))
    }

    #[tracing::instrument(skip_all)]
    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        let query = audit::parse(request.get_ref())?;
        Ok(Response::new(audit::list(&self.reign, &query).await?))
    }

    #[tracing::instrument(skip_all)]
    async fn get_security(
        &self,
        _: Request<v1::GetSecurityRequest>,
    ) -> Result<Response<v1::GetSecurityResponse>, Status> {
        Ok(Response::new(audit::security(&self.reign, &self.drivers).await?))
    }

    #[tracing::instrument(skip_all, fields(address = request.get_ref().address))]
    async fn unban_address(
        &self,
        request: Request<v1::UnbanAddressRequest>,
    ) -> Result<Response<v1::UnbanAddressResponse>, Status> {
        Ok(Response::new(sessions::unban((&self.reign, &self.drivers), request.get_ref()).await?))
    }
}
