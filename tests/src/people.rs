//! What people share on a simulated fleet, who is connected, and what is on record.

use containarium_proto::v1;
use tonic::Status;

use crate::fleet::{Background, Fleet, follow};

impl Fleet {
    /// A share with an id of its own: `with` may use the container of `user`.
    #[must_use]
    pub fn share_request(user: &str, with: &str) -> v1::ShareContainerRequest {
        let request_id = uuid::Uuid::new_v4().to_string();
        v1::ShareContainerRequest { user: user.into(), with: with.into(), request_id, ..Default::default() }
    }

    /// The same, no longer.
    #[must_use]
    pub fn unshare_request(user: &str, with: &str) -> v1::ShareContainerRequest {
        v1::ShareContainerRequest { revoke: true, ..Self::share_request(user, with) }
    }

    /// Shares, from a thread of its own.
    #[must_use]
    pub fn share_in_background(&self, request: v1::ShareContainerRequest) -> Background {
        let mut client = self.client();
        Background(self.caller.spawn(async move { follow(client.share_container(request).await?.into_inner()).await }))
    }

    /// Shares and follows.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn share(&self, request: v1::ShareContainerRequest) -> Result<v1::Progress, Status> {
        self.join(self.share_in_background(request))
    }

    /// One container, with what is known of its owner.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn info(&self, user: &str) -> Result<v1::GetContainerResponse, Status> {
        let mut client = self.client();
        let request = v1::GetContainerRequest { user: user.into() };
        self.caller.block_on(async { Ok(client.get_container(request).await?.into_inner()) })
    }

    /// Who is connected.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn sessions(&self, user: &str, node: &str) -> Result<v1::ListSessionsResponse, Status> {
        let mut client = self.client();
        let request = v1::ListSessionsRequest { user: user.into(), node: node.into() };
        self.caller.block_on(async { Ok(client.list_sessions(request).await?.into_inner()) })
    }

    /// Ends sessions.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn kill_sessions(&self, user: &str, id: &str) -> Result<v1::KillSessionsResponse, Status> {
        let mut client = self.client();
        let request = v1::KillSessionsRequest { user: user.into(), id: id.into() };
        self.caller.block_on(async { Ok(client.kill_sessions(request).await?.into_inner()) })
    }

    /// What is on record, every page.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn audit(&self, request: v1::ListAuditRequest) -> Result<Vec<v1::AuditEvent>, Status> {
        let (mut client, mut request, mut all) = (self.client(), request, Vec::new());
        self.caller.block_on(async {
            loop {
                let page = client.list_audit(request.clone()).await?.into_inner();
                all.extend(page.events);
                if page.next_page_token.is_empty() {
                    return Ok(all);
                }
                request.page_token = page.next_page_token;
            }
        })
    }

    /// Sessions, bans and tries at a glance.
    ///
    /// # Panics
    /// The coordinator does not answer.
    #[must_use]
    pub fn security(&self) -> v1::GetSecurityResponse {
        let mut client = self.client();
        self.caller.block_on(client.get_security(v1::GetSecurityRequest {})).expect("a glance").into_inner()
    }

    /// Lets an address in again.
    ///
    /// # Errors
    /// As the coordinator or the link says.
    pub fn unban(&self, address: &str, node: &str) -> Result<v1::UnbanAddressResponse, Status> {
        let mut client = self.client();
        let request = v1::UnbanAddressRequest { address: address.into(), node: node.into() };
        self.caller.block_on(async { Ok(client.unban_address(request).await?.into_inner()) })
    }
}
