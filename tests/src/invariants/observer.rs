//! Everything that happens to one simulated fleet, led to its history; and the faults of a coordinator, at the k-th
//! transaction or call. It must never be asked by what it observes to decide anything but whether a fault is due.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use containarium_agent::host::sim::SimHost;
use containarium_coordinator::{Moment, Spoiler};

use super::{
    Violation,
    history::{Entry, History},
    rows::{Reader, Rows},
    wire::Sent,
};

/// One per fleet.
#[derive(Debug)]
pub struct Observer {
    reader: Reader,
    history: Mutex<History>,
}

impl Observer {
    /// Of a fleet with this database.
    #[must_use]
    pub fn new(database: PathBuf) -> Arc<Self> {
        Arc::new(Self { reader: Reader::of(database), history: Mutex::default() })
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of every change on a host from now on.
    pub fn watch(self: &Arc<Self>, node: &str, host: &SimHost) {
        let (observer, node) = (self.clone(), node.to_owned());
        host.watch(move |change| {
            let entry = Entry::Instance { node: node.clone(), change: Box::new(change) };
            observer.history().take(entry, Instant::now());
        });
    }

    /// The database now.
    ///
    /// # Panics
    /// It cannot be read.
    #[must_use]
    pub fn rows(&self) -> Rows {
        self.reader.now().expect("the database can be read")
    }

    /// What was wrong so far.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.history().violations().to_vec()
    }

    /// A copy of what is remembered, to tell of what never happened.
    #[must_use]
    pub fn remembered(&self) -> History {
        self.history().clone()
    }

    // Read under the lock, so that states come in their order.
    fn committed(&self) {
        let mut history = self.history();
        history.take(Entry::Rows(self.rows()), Instant::now());
    }

    fn calling(&self, sent: Sent) {
        let mut history = self.history();
        if !history.knows(&sent) {
            // The commit may be on its way to us.
            history.take(Entry::Rows(self.rows()), Instant::now());
        }
        history.take(Entry::Call(sent), Instant::now());
    }

    fn tried(&self, sent: &Sent) {
        if let Some((_, term)) = sent.sender() {
            self.history().take(Entry::Tried { node: sent.node.clone(), term }, Instant::now());
        }
    }
}

/// What goes wrong with a coordinator, at the k-th of its kind from now on, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoordinatorFault {
    /// It dies before a transaction is committed.
    BeforeCommit(u32),
    /// It dies after, before anybody knows.
    AfterCommit(u32),
    /// A call never gets to the agent.
    RequestLost(u32),
    /// The agent's answer never gets back.
    ReplyLost(u32),
}

#[derive(Debug, Default)]
struct Plan {
    fault: Option<CoordinatorFault>,
    commits: u32,
    calls: u32,
    happened: bool,
    replies: u32,
    dead: bool,
}

/// The fault points of one coordinator process after another.
#[derive(Debug)]
pub struct Points {
    observer: Arc<Observer>,
    plan: Mutex<Plan>,
}

impl Points {
    /// Led to this observer.
    #[must_use]
    pub fn new(observer: Arc<Observer>) -> Arc<Self> {
        Arc::new(Self { observer, plan: Mutex::default() })
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes wrong from now on; counting starts at 1 again. Nothing more goes wrong with one that is dead.
    pub fn plan_fault(&self, fault: CoordinatorFault) {
        let mut plan = self.plan();
        if !plan.dead {
            *plan = Plan { fault: Some(fault), ..Plan::default() };
        }
    }

    /// Whether a planned death has happened: the process is to be killed.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.plan().dead
    }

    /// Forgets the fault, after the process was killed if it was dead. True if it had happened.
    pub fn revive(&self) -> bool {
        std::mem::take(&mut *self.plan()).happened
    }

    fn transaction(&self, committed: bool) -> bool {
        let mut plan = self.plan();
        if plan.dead {
            return true;
        }
        plan.commits += u32::from(!committed);
        let due = match plan.fault {
            Some(CoordinatorFault::BeforeCommit(k)) => !committed && plan.commits == k,
            Some(CoordinatorFault::AfterCommit(k)) => committed && plan.commits == k,
            Some(CoordinatorFault::RequestLost(_) | CoordinatorFault::ReplyLost(_)) | None => false,
        };
        plan.dead |= due;
        plan.happened |= due;
        due
    }

    fn calling(&self) -> bool {
        let mut plan = self.plan();
        plan.calls += 1;
        let lost = plan.fault == Some(CoordinatorFault::RequestLost(plan.calls));
        plan.happened |= lost;
        lost || plan.dead
    }

    fn answered(&self) -> bool {
        let mut plan = self.plan();
        plan.replies += 1;
        let lost = plan.fault == Some(CoordinatorFault::ReplyLost(plan.replies));
        plan.happened |= lost;
        lost || plan.dead
    }
}

impl Spoiler for Points {
    fn breaks(&self, moment: Moment<'_>) -> bool {
        match moment {
            Moment::Committing => self.transaction(false),
            Moment::Committed => {
                self.observer.committed();
                self.transaction(true)
            }
            Moment::Calling(call) => {
                let (lost, sent) = (self.calling(), Sent::read(call));
                match lost {
                    // To its coordinator it is a call that failed.
                    true => self.observer.tried(&sent),
                    false => self.observer.calling(sent),
                }
                lost
            }
            Moment::Answered(call) => {
                self.observer.tried(&Sent::read(call));
                self.answered()
            }
        }
    }
}
