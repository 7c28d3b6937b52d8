//! Planned failures of a simulated host: which effect fails, and how. After a crash nothing of the host answers until
//! it is revived, as the process that called it is dead.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::host::HostError;

/// What goes wrong at the k-th effect, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The agent dies before the effect happens.
    CrashBefore(u32),
    /// The effect happens, and the agent dies before it learns of it.
    CrashAfter(u32),
    /// The effect is refused, once, as on a full disk.
    DiskFull(u32),
}

#[derive(Debug, Default)]
struct Plan {
    fault: Option<Fault>,
    effects: u32,
    happened: bool,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    plan: Mutex<Plan>,
    /// Certificates come when they come, in the middle of anything: counted apart, so that the k-th effect of what a
    /// scenario is about is always the same one.
    of_certificates: Mutex<Plan>,
    down: watch::Sender<bool>,
}

fn locked(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Faults {
    pub(super) fn plan(&self, fault: Fault) {
        *locked(&self.plan) = Plan { fault: Some(fault), ..Plan::default() };
    }

    pub(super) fn plan_of_certificates(&self, fault: Fault) {
        *locked(&self.of_certificates) = Plan { fault: Some(fault), ..Plan::default() };
    }

    pub(super) fn is_down(&self) -> bool {
        *self.down.borrow()
    }

    /// The sender is ours, so waiting cannot fail.
    pub(super) async fn crashed(&self) {
        self.down.subscribe().wait_for(|down| *down).await.map(drop).unwrap_or_default();
    }

    pub(super) fn revive(&self) -> bool {
        let happened = [&self.plan, &self.of_certificates].map(|plan| std::mem::take(&mut *locked(plan)).happened);
        self.down.send_replace(false);
        happened.contains(&true)
    }

    /// Runs one effect. `None`: the caller is dead.
    pub(super) fn around<T>(&self, change: impl FnOnce() -> Result<T, HostError>) -> Option<Result<T, HostError>> {
        self.around_one(&self.plan, change)
    }

    /// The same of a certificate.
    pub(super) fn around_certificate<T>(
        &self,
        change: impl FnOnce() -> Result<T, HostError>,
    ) -> Option<Result<T, HostError>> {
        self.around_one(&self.of_certificates, change)
    }

    fn around_one<T>(
        &self,
        plan: &Mutex<Plan>,
        change: impl FnOnce() -> Result<T, HostError>,
    ) -> Option<Result<T, HostError>> {
        if self.is_down() {
            return None;
        }
        let mut plan = locked(plan);
        plan.effects += 1;
        let now = plan.effects;
        let (before, after, full) = match plan.fault {
            Some(Fault::CrashBefore(k)) => (k == now, false, false),
            Some(Fault::CrashAfter(k)) => (false, k == now, false),
            Some(Fault::DiskFull(k)) => (false, false, k == now),
            None => (false, false, false),
        };
        plan.happened |= before || after || full;
        if full {
            return Some(Err(HostError::transient("no space left on device")));
        }
        if before {
            self.down.send_replace(true);
            return None;
        }
        let done = change();
        if after {
            self.down.send_replace(true);
            return None;
        }
        Some(done)
    }
}
