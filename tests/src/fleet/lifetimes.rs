//! Lifetimes in the simulated fleet: the days of a real one are seconds here.

use std::time::Duration;

use containarium_coordinator::Lifetimes;
use containarium_proto::{lifetime::Bounds, v1};
use tonic::Status;

use super::{Background, Fleet, follow};

/// Seconds for hours. The grace is long enough to act in, on a loaded machine too.
pub(super) fn short() -> Lifetimes {
    let from_a_second = |bounds: Bounds| Bounds { least: Duration::from_secs(1), ..bounds };
    let Lifetimes { ttl, idle_stop, replication, warning, .. } = Lifetimes::default();
    let (ttl, idle_stop, replication) = (from_a_second(ttl), from_a_second(idle_stop), from_a_second(replication));
    Lifetimes { ttl, idle_stop, replication, warning, warning_share: 2, grace: Duration::from_secs(3) }
}

impl Fleet {
    /// A change of lifetime with an id of its own, changing nothing yet.
    #[must_use]
    pub fn lifetime_request(user: &str) -> v1::SetLifetimeRequest {
        let request_id = uuid::Uuid::new_v4().to_string();
        v1::SetLifetimeRequest { user: user.into(), request_id, ..Default::default() }
    }

    /// Changes when a container starts and stops by itself, and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn set_lifetime(&self, request: v1::SetLifetimeRequest) -> Result<v1::Progress, Status> {
        let mut client = self.client();
        self.caller.block_on(async { follow(client.set_lifetime(request).await?.into_inner()).await })
    }

    /// Starts, stops or restarts, from a thread of its own.
    #[must_use]
    pub fn power_in_background(&self, user: &str, action: v1::PowerAction) -> Background {
        let mut client = self.client();
        let request_id = uuid::Uuid::new_v4().to_string();
        let request = v1::SetPowerRequest { user: user.into(), action: action.into(), request_id };
        Background(self.caller.spawn(async move { follow(client.set_power(request).await?.into_inner()).await }))
    }
}
