//! What people look at on a simulated fleet.

use containarium_proto::v1;

use crate::fleet::Fleet;

impl Fleet {
    /// What every container uses, with notes about the nodes that did not say.
    ///
    /// # Panics
    /// The coordinator does not answer.
    #[must_use]
    pub fn usage(&self) -> v1::ListUsageResponse {
        let mut client = self.client();
        let answer = self.caller.block_on(client.list_usage(v1::ListUsageRequest::default()));
        answer.expect("the coordinator answers").into_inner()
    }
}
