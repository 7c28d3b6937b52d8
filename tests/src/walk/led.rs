//! Who leads the fleet that is walked over: one coordinator in this process, or three processes on a real PostgreSQL that
//! are killed, stopped and cut off. It must never decide what happens, nor to whom but by who leads.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use super::{
    Coordinators, Walk,
    decisions::{Blow, Mishap},
};
use crate::{
    fleet::{Fleet, default_hosts, ha::Ha},
    proxy::Cut,
};

/// As short as may be, so that few steps wait for the next leader; replicas as in the coordinator of this process.
const OPTIONS: [&str; 4] = ["--lease", "2s", "--shortest-replication", "1s"];

/// A fleet with its leaders.
#[derive(Debug)]
pub(super) enum Led {
    One(Fleet),
    Three(Three),
}

#[derive(Debug)]
pub(super) struct Three {
    ha: Ha,
    /// Whom people ask.
    current: usize,
    troubles: Vec<Trouble>,
}

/// What is wrong with one coordinator.
#[derive(Debug)]
struct Trouble {
    index: usize,
    blow: Blow,
    until: u32,
}

impl Deref for Led {
    type Target = Fleet;

    fn deref(&self) -> &Fleet {
        match self {
            Self::One(fleet) => fleet,
            Self::Three(three) => &three.ha.fleet,
        }
    }
}

impl DerefMut for Led {
    fn deref_mut(&mut self) -> &mut Fleet {
        match self {
            Self::One(fleet) => fleet,
            Self::Three(three) => &mut three.ha.fleet,
        }
    }
}

impl Led {
    pub(super) fn of(walk: Walk) -> Self {
        match walk.coordinators {
            Coordinators::One => Self::One(Fleet::watched_nodes(walk.nodes)),
            Coordinators::Three { binary, by } => {
                let ha = Ha::of(binary, default_hosts(walk.nodes), by, &OPTIONS);
                let mut three = Three { ha, current: 0, troubles: Vec::new() };
                three.ask_next();
                Self::Three(three)
            }
        }
    }

    /// What hangs for so long hangs because somebody is away. Another leader takes a lease's time, and looks at the nodes.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(if matches!(self, Self::One(_)) { 3 } else { 6 })
    }

    /// A mishap that is not a node's. Gives how many happened.
    pub(super) fn strike(&mut self, mishap: Mishap, number: u32) -> u32 {
        match (self, mishap) {
            (Self::One(fleet), Mishap::CoordinatorDies) => {
                fleet.kill_coordinator();
                let died_before = fleet.points.revive();
                fleet.start_coordinator();
                1 + u32::from(died_before)
            }
            (Self::Three(three), Mishap::Coordinator { blow, after_leader, steps }) => {
                let leader = three.ha.leader().map_or(0, |(index, _)| index);
                u32::from(three.strike(Trouble { index: (leader + after_leader) % 3, blow, until: number + steps }))
            }
            (Self::Three(three), Mishap::DatabaseHangsUp) => {
                three.ha.end_sessions();
                1
            }
            (
                Self::One(_) | Self::Three(_),
                Mishap::None
                | Mishap::Fault { .. }
                | Mishap::Away { .. }
                | Mishap::CoordinatorDies
                | Mishap::Coordinator { .. }
                | Mishap::DatabaseHangsUp,
            ) => unreachable!("{mishap:?} is not decided for these coordinators"),
        }
    }

    /// Ends the troubles of coordinators that last until `number`.
    pub(super) fn recover(&mut self, number: u32) {
        let Self::Three(three) = self else { return };
        while let Some(at) = three.troubles.iter().position(|trouble| trouble.until <= number) {
            let trouble = three.troubles.remove(at);
            three.end(&trouble);
        }
        three.all_run();
    }

    /// Whom a call that begins now goes to.
    pub(super) fn asked(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Three(three) => three.current,
        }
    }

    /// Whether this one is connected to and never answers.
    pub(super) fn is_silent(&self, index: usize) -> bool {
        matches!(self, Self::Three(three) if three.is_silent(index))
    }

    /// Whether somebody may do later what a call has told them, and nobody waits for any more.
    pub(super) fn may_act_late(&self) -> bool {
        (0..3).any(|index| self.is_silent(index))
    }

    /// Later calls go to the next that is not silent: two seconds show the CLI that one is.
    pub(super) fn ask_next(&mut self) {
        if let Self::Three(three) = self {
            three.ask_next();
        }
    }
}

impl Three {
    fn is_silent(&self, index: usize) -> bool {
        self.troubles.iter().any(|trouble| trouble.index == index && trouble.blow == Blow::Pauses)
    }

    fn ask_next(&mut self) {
        let next = (1..=3).map(|more| (self.current + more) % 3).find(|index| !self.is_silent(*index));
        self.current = next.unwrap_or(self.current);
        self.ha.use_coordinator(self.current);
    }

    /// False: it has trouble already. Wires to nodes can be cut for one at a time.
    fn strike(&mut self, trouble: Trouble) -> bool {
        let Trouble { index, blow, .. } = trouble;
        let cuts = |blow: Blow| matches!(blow, Blow::CutOffNodes(_));
        if self.troubles.iter().any(|other| other.index == index || cuts(other.blow) && cuts(blow)) {
            return false;
        }
        match blow {
            Blow::Dies => self.ha.kill(index),
            Blow::Pauses => self.ha.signal(index, "STOP"),
            Blow::CutOffDatabase => self.ha.to_postgres(index).cut(Cut::All),
            Blow::CutOffEtcd => self.ha.to_etcd(index).cut(Cut::All),
            Blow::CutOffNodes(set) => self.ha.cut_off_nodes(index, |node| set & (1 << node) != 0),
        }
        self.troubles.push(trouble);
        true
    }

    fn end(&mut self, Trouble { index, blow, .. }: &Trouble) {
        match blow {
            Blow::Dies => self.ha.start(*index),
            Blow::Pauses => self.ha.signal(*index, "CONT"),
            Blow::CutOffDatabase => self.ha.to_postgres(*index).cut(Cut::None),
            Blow::CutOffEtcd => self.ha.to_etcd(*index).cut(Cut::None),
            Blow::CutOffNodes(_) => self.ha.cut_off_nodes(*index, |_| false),
        }
    }

    /// Nothing that is done to them ends them.
    fn all_run(&mut self) {
        for index in 0..3 {
            let was_killed = self.troubles.iter().any(|trouble| trouble.index == index && trouble.blow == Blow::Dies);
            assert!(was_killed || self.ha.runs(index), "coordinator {index} has ended by itself");
        }
    }
}
