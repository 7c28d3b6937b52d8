//! Repairs and adoptions on the simulated fleet.

use containarium_proto::v1;
use tonic::Status;

use crate::fleet::{Background, Fleet, KEY, follow};

impl Fleet {
    /// Repairs, from a thread of its own.
    #[must_use]
    pub fn repair_in_background(&self, user: &str) -> Background {
        self.repair_request_in_background(user, &uuid::Uuid::new_v4().to_string())
    }

    /// The same under a request id that is given.
    #[must_use]
    pub fn repair_request_in_background(&self, user: &str, request: &str) -> Background {
        let mut client = self.client();
        let request = v1::RepairContainerRequest { user: user.into(), request_id: request.into() };
        Background(self.caller.spawn(async move { follow(client.repair_container(request).await?.into_inner()).await }))
    }

    /// Repairs and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn repair(&self, user: &str) -> Result<v1::Progress, Status> {
        self.join(self.repair_in_background(user))
    }

    /// What lives on a node without a stamp.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn foreign(&self, node: &str) -> Result<Vec<v1::Adoptable>, Status> {
        let mut client = self.client();
        let request = v1::ListAdoptableRequest { node: node.into() };
        self.caller.block_on(async { Ok(client.list_foreign(request).await?.into_inner().instances) })
    }

    /// An adoption on jump-1 with an id of its own.
    #[must_use]
    pub fn adopt_request(instance: &str, user: &str) -> v1::AdoptInstanceRequest {
        v1::AdoptInstanceRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            node: "jump-1".into(),
            instance: instance.into(),
            user: user.into(),
            ssh_keys: vec![KEY.trim_end().into()],
            dry_run: false,
        }
    }

    /// Adopts, from a thread of its own.
    #[must_use]
    pub fn adopt_in_background(&self, request: v1::AdoptInstanceRequest) -> Background {
        let mut client = self.client();
        Background(self.caller.spawn(async move { follow(client.adopt_instance(request).await?.into_inner()).await }))
    }

    /// Adopts and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn adopt(&self, request: v1::AdoptInstanceRequest) -> Result<v1::Progress, Status> {
        self.join(self.adopt_in_background(request))
    }
}
