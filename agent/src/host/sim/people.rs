//! The people of a simulated host: who is connected, what its sshd has written, who is kept out. Behaves as sshd does: a
//! session keeps what it could reach at its beginning, and ends with the account.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use containarium_proto::{
    audit::{Bans, Client, NodeSession, Text},
    node::{Account, Order},
};

use super::{SimHost, SimInstance};
use crate::host::{HostError, LogLine, LogSource, ReadLogs};

/// Lines of one reading: small, so that tests come to the next one.
const PART: usize = 3;

#[derive(Debug, Default)]
pub(super) struct People {
    sessions: Vec<NodeSession>,
    /// How many there ever were.
    begun: u32,
    log: Vec<LogLine>,
    banned: BTreeSet<IpAddr>,
    /// Why its log cannot be read.
    log_problem: Option<String>,
}

/// Makes the logins of an instance exactly the order's.
pub(super) fn let_in(instance: &mut SimInstance, order: &Order) {
    instance.logins = order.guests.iter().map(|guest| (guest.user.to_string(), guest.keys.to_lines())).collect();
    instance.logins.insert(order.owner.to_string(), order.keys.to_lines());
    instance.sudoers = order.guests.iter().filter(|guest| guest.sudo).map(|guest| guest.user.to_string()).collect();
    instance.sudoers.insert(order.owner.to_string());
}

impl People {
    pub(super) fn sessions(&self) -> &[NodeSession] {
        &self.sessions
    }

    pub(super) fn end(&mut self, id: &str) -> bool {
        let before = self.sessions.len();
        self.sessions.retain(|session| session.id.as_str() != id);
        self.sessions.len() < before
    }

    pub(super) fn end_of(&mut self, user: &str) {
        self.sessions.retain(|session| session.user.as_str() != user);
    }

    pub(super) fn account_changed(&mut self, before: Option<&Account>, after: &Account) {
        let Some(before) = before else { return };
        let keys = before.ssh_keys.iter().all(|key| after.ssh_keys.contains(key));
        let places = before.shared.iter().all(|permit| after.shared.contains(permit)) && before.permit == after.permit;
        if !keys || !places {
            self.end_of(after.username.as_str());
        }
    }

    pub(super) fn read_logs(&self, cursor: &str) -> Result<ReadLogs, HostError> {
        if let Some(problem) = &self.log_problem {
            return Err(HostError::transient(problem.clone()));
        }
        let from = cursor.parse::<usize>().unwrap_or_default().min(self.log.len());
        let to = (from + PART).min(self.log.len());
        Ok(ReadLogs { lines: self.log[from..to].to_vec(), cursor: to.to_string(), more: to < self.log.len() })
    }

    pub(super) fn bans(&self) -> Bans {
        Bans { guarded: true, addresses: self.banned.iter().copied().collect(), problem: Text::default() }
    }

    pub(super) fn unban(&mut self, address: IpAddr) -> bool {
        self.banned.remove(&address)
    }
}

impl SimHost {
    /// Somebody connects, and goes on to these containers.
    pub fn connect(&self, user: &str, from: SocketAddr, targets: &[Ipv4Addr]) -> NodeSession {
        let mut memory = self.memory();
        let people = &mut memory.people;
        people.begun += 1;
        let session = NodeSession {
            id: Text::from(format!("{}-1", people.begun).as_str()),
            user: Text::from(user),
            client: Some(Client { address: from.ip(), port: from.port() }),
            targets: targets.to_vec(),
            since: 1_750_000_000_000,
        };
        people.sessions.push(session.clone());
        session
    }

    /// Who is connected.
    #[must_use]
    pub fn sessions_now(&self) -> Vec<NodeSession> {
        self.memory().people.sessions.clone()
    }

    /// sshd writes a line.
    pub fn log_of_sshd(&self, at: i64, message: &str) {
        self.log(LogSource::Sshd, at, message);
    }

    /// fail2ban keeps an address out, and writes a line.
    pub fn ban(&self, at: i64, address: IpAddr) {
        self.memory().people.banned.insert(address);
        self.log(LogSource::Fail2ban { jail: "containarium-sshd".to_owned() }, at, &format!("Ban {address}"));
    }

    /// Whether its log can be read, and why not.
    pub fn set_log_problem(&self, problem: Option<&str>) {
        self.memory().people.log_problem = problem.map(ToOwned::to_owned);
    }

    fn log(&self, source: LogSource, at: i64, message: &str) {
        let mut memory = self.memory();
        let place = format!("{:06}", memory.people.log.len());
        memory.people.log.push(LogLine { source, place, at, message: message.to_owned() });
    }
}
