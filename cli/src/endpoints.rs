//! Several coordinators, any of which knows the way: asked one after the other, beginning with the one that answered
//! last. What another could do better is only what nobody has begun: nobody was there, or whoever was is not ready.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use containarium_proto::{
    error::{Reason, Refusal},
    v1::fleet_client::FleetClient,
};
use tokio::sync::Mutex;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::errors;

/// The way to one coordinator.
pub(crate) struct Way {
    endpoint: Endpoint,
    /// Of both the connection and what it begins with: a process that hangs is connected to, and never answers.
    connect: Duration,
    line: Mutex<Option<Channel>>,
}

impl Way {
    /// Dialled when first needed.
    pub(crate) fn new(endpoint: Endpoint, connect: Duration) -> Self {
        Self { endpoint, connect, line: Mutex::new(None) }
    }

    /// A line that is there already.
    pub(crate) fn over(line: Channel) -> Self {
        let endpoint = Endpoint::from_static("http://coordinator.socket");
        Self { endpoint, connect: Duration::ZERO, line: Mutex::new(Some(line)) }
    }

    /// The next call dials anew, within its time.
    async fn hang_up(&self) {
        if !self.connect.is_zero() {
            *self.line.lock().await = None;
        }
    }

    async fn fleet(&self) -> Result<FleetClient<Channel>, Status> {
        let mut line = self.line.lock().await;
        if let Some(line) = &*line {
            return Ok(FleetClient::new(line.clone()));
        }
        let connected = tokio::time::timeout(self.connect, self.endpoint.connect()).await;
        let connected = connected.map_err(|elapsed| Status::unavailable(format!("connecting: {elapsed}")))?;
        let connected = connected.map_err(|error| Status::from_error(Box::new(error)))?;
        Ok(FleetClient::new(line.insert(connected).clone()))
    }
}

pub(crate) struct Endpoints {
    ways: Vec<Way>,
    current: AtomicUsize,
}

impl Endpoints {
    pub(crate) fn new(ways: Vec<Way>) -> Self {
        Self { ways, current: AtomicUsize::new(0) }
    }

    /// Asks the first that can be connected to.
    pub(crate) async fn once<R, F>(&self, call: impl FnOnce(FleetClient<Channel>) -> F) -> Result<R, Status>
    where
        F: Future<Output = Result<R, Status>>,
    {
        let first = self.current.load(Ordering::Relaxed);
        for at in (first..).take(self.ways.len() - 1).map(|at| at % self.ways.len()) {
            if let Ok(fleet) = self.ways[at].fleet().await {
                return call(fleet).await;
            }
        }
        call(self.ways[(first + self.ways.len() - 1) % self.ways.len()].fleet().await?).await
    }

    /// Asks until one answers.
    pub(crate) async fn ask<R, F>(&self, call: impl Fn(FleetClient<Channel>) -> F) -> Result<R, Status>
    where
        F: Future<Output = Result<R, Status>>,
    {
        let first = self.current.load(Ordering::Relaxed);
        let mut at = first;
        loop {
            let answer = match self.ways[at].fleet().await {
                Ok(fleet) => call(fleet).await,
                Err(status) => Err(status),
            };
            let Err(status) = &answer else { return answer };
            if errors::from_status("", status).code() != errors::UNREACHABLE {
                return answer;
            }
            self.ways[at].hang_up().await;
            // Whoever asks again does so elsewhere.
            at = (at + 1) % self.ways.len();
            self.current.store(at, Ordering::Relaxed);
            if at == first || !begun_by_nobody(status) {
                return answer;
            }
        }
    }
}

fn begun_by_nobody(status: &Status) -> bool {
    errors::never_connected(status) || Refusal::from_status(status).is_some_and(|r| r.reason == Reason::NotReady)
}
