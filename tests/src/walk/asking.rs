//! How each deed is asked for, under the request id that all its tries carry.

use containarium_proto::v1;

use super::decisions::{Deed, keys};
use crate::fleet::{Background, Fleet};

/// Often enough that passes meet everything else.
const REFRESHED_SECONDS: u64 = 2;

impl Deed {
    /// Asks for it. None: it is nothing that the coordinator is asked for.
    #[must_use]
    pub fn ask(&self, fleet: &Fleet, request: &str) -> Option<Background> {
        let request_id = request.to_owned();
        Some(match self {
            Self::Create { user } => {
                fleet.create_in_background(v1::CreateContainerRequest { request_id, ..Fleet::request(user) })
            }
            Self::Resize { user, memory_bytes } => {
                let (memory_bytes, force) = (Some(*memory_bytes), true);
                let resize = Fleet::resize_request(user);
                fleet.resize_in_background(v1::ResizeContainerRequest { request_id, memory_bytes, force, ..resize })
            }
            Self::Power { user, action } => {
                let action = (*action).into();
                fleet.send_power(v1::SetPowerRequest { user: user.clone(), action, request_id })
            }
            Self::Keys { user, set } => {
                let (add, replace, change) = (keys(*set), true, Fleet::keys_request(user));
                fleet.keys_in_background(v1::ChangeKeysRequest { request_id, add, replace, ..change })
            }
            Self::Protect { user, protected } => fleet.protection_in_background(user, *protected),
            Self::Autostart { user, autostart } => {
                let autostart = Some(*autostart);
                let lifetime = Fleet::lifetime_request(user);
                fleet.lifetime_in_background(v1::SetLifetimeRequest { request_id, autostart, ..lifetime })
            }
            Self::Delete { user } => fleet.delete_in_background(user),
            Self::Repair { user } => fleet.repair_request_in_background(user, request),
            Self::Share { user, with, sudo } => {
                let share = Fleet::share_request(user, with);
                fleet.share_in_background(v1::ShareContainerRequest { request_id, sudo: *sudo, ..share })
            }
            Self::Unshare { user, with } => {
                let unshare = Fleet::unshare_request(user, with);
                fleet.share_in_background(v1::ShareContainerRequest { request_id, ..unshare })
            }
            Self::Uncordon { node } => fleet.policy_in_background(&fleet.nodes[*node].name, v1::Policy::Active),
            Self::Drain { node } => fleet.drain_in_background(&fleet.nodes[*node].name, 2),
            Self::Write { .. } | Self::Tamper { .. } => return None,
            Self::Move { .. }
            | Self::CancelMove { .. }
            | Self::Snapshot { .. }
            | Self::DeleteSnapshot { .. }
            | Self::RestoreSnapshot { .. }
            | Self::Replicate { .. }
            | Self::Failover { .. }
            | Self::DiscardOldCopy { .. } => return self.ask_about_copies(fleet, request_id),
        })
    }

    fn ask_about_copies(&self, fleet: &Fleet, request_id: String) -> Option<Background> {
        Some(match self {
            Self::Move { user } => {
                fleet.move_in_background(v1::MoveContainerRequest { request_id, ..Fleet::move_request(user) })
            }
            Self::CancelMove { user } => {
                let cancel = v1::MoveContainerRequest { request_id, cancel: true, ..Fleet::move_request(user) };
                fleet.move_in_background(cancel)
            }
            Self::Snapshot { user, name } => {
                let snapshot = Fleet::snapshot_request(user, name);
                fleet.snapshot_in_background(v1::CreateSnapshotRequest { request_id, ..snapshot })
            }
            Self::DeleteSnapshot { user, name } => fleet.delete_snapshot_in_background(user, name),
            Self::RestoreSnapshot { user, name } => {
                let restore = Fleet::restore_snapshot_request(user, name);
                fleet.restore_snapshot_in_background(v1::RestoreSnapshotRequest { request_id, ..restore })
            }
            Self::Replicate { user, on } => {
                let (user, node) = (user.clone(), String::new());
                let every_seconds = if *on { REFRESHED_SECONDS } else { 0 };
                fleet.replicate_in_background(v1::SetReplicationRequest { user, request_id, every_seconds, node })
            }
            Self::Failover { user } => {
                fleet.failover_in_background(v1::FailoverRequest { user: user.clone(), request_id })
            }
            Self::DiscardOldCopy { user } => fleet.discard_in_background(user),
            Self::Create { .. }
            | Self::Resize { .. }
            | Self::Power { .. }
            | Self::Keys { .. }
            | Self::Protect { .. }
            | Self::Autostart { .. }
            | Self::Delete { .. }
            | Self::Repair { .. }
            | Self::Share { .. }
            | Self::Unshare { .. }
            | Self::Drain { .. }
            | Self::Uncordon { .. }
            | Self::Write { .. }
            | Self::Tamper { .. } => return None,
        })
    }
}
