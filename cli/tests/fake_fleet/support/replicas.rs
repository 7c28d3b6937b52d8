//! What the fake coordinator was asked about replicas.

use containarium_proto::v1;

#[derive(Default)]
pub(crate) struct Replicas {
    pub(crate) sets: Vec<v1::SetReplicationRequest>,
    pub(crate) failovers: Vec<v1::FailoverRequest>,
    /// Users.
    pub(crate) discarded: Vec<String>,
}

fn answer(user: &str, containers: &[v1::Container]) -> v1::Progress {
    let container = containers.iter().find(|container| container.user == user).cloned();
    v1::Progress { message: "done".to_owned(), container, ..Default::default() }
}

impl Replicas {
    pub(super) fn set(&mut self, request: v1::SetReplicationRequest, containers: &[v1::Container]) -> v1::Progress {
        let answer = answer(&request.user, containers);
        self.sets.push(request);
        answer
    }

    pub(super) fn fail_over(&mut self, request: v1::FailoverRequest, containers: &[v1::Container]) -> v1::Progress {
        let answer = answer(&request.user, containers);
        self.failovers.push(request);
        answer
    }
}
