//! Whether a container is used: its CPU time from Incus, and the connections to its sshd from the kernel's own table of
//! its network namespace. Nothing is run inside, so looking is no use of it. Reads only.

use std::time::Duration;

use procfs::{
    ProcError, ProcResult,
    net::{TcpNetEntry, TcpState},
    process::Process,
};
use reqwest::StatusCode;
use serde::Deserialize;

use super::LinuxHost;
use crate::host::{Activity, HostError};

const SSH: u16 = 22;

#[derive(Debug, Deserialize)]
struct State {
    /// Of its init, as this machine numbers it; 0 or less when it does not run.
    pid: i32,
    cpu: Cpu,
}

#[derive(Debug, Deserialize)]
struct Cpu {
    /// Nanoseconds since its start; less than nothing when the kernel does not count.
    usage: i64,
}

impl LinuxHost {
    pub(super) async fn read_activity(&self, name: &str) -> Result<Option<Activity>, HostError> {
        let what = format!("reading the activity of {name}");
        let state: State = match self.incus.get(&what, &format!("/instances/{name}/state")).await {
            Ok(state) => state,
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        if state.pid <= 0 {
            return Ok(None);
        }
        let nanos = u64::try_from(state.cpu.usage)
            .map_err(|_| HostError::transient(format!("{what}: incus does not know its CPU time")))?;
        match sessions(state.pid) {
            Ok(ssh_sessions) => Ok(Some(Activity { cpu: Duration::from_nanos(nanos), ssh_sessions })),
            // It stopped between the two looks.
            Err(ProcError::NotFound(_)) => Ok(None),
            Err(error) => Err(HostError::transient(format!("{what}: {error}"))),
        }
    }
}

fn sessions(init: i32) -> ProcResult<u32> {
    let init = Process::new(init)?;
    let v6 = match init.tcp6() {
        Ok(entries) => entries,
        // A kernel without IPv6 has no such table.
        Err(ProcError::NotFound(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(established(&init.tcp()?) + established(&v6))
}

fn established(entries: &[TcpNetEntry]) -> u32 {
    let ours = |e: &&TcpNetEntry| e.state == TcpState::Established && e.local_address.port() == SSH;
    u32::try_from(entries.iter().filter(ours).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use procfs::{current_system_info, net::TcpNetEntries, prelude::FromReadSI};

    use super::*;

    /// The listening socket; a session from 10.99.0.11; one that is closing; and a login from here to elsewhere.
    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0 100 0 0 10 0
   1: 0201640A:0016 0B00630A:A5F2 01 00000000:00000000 02:000A7B0C 00000000     0        0 102 2 0 20 4 30 10 -1
   2: 0201640A:0016 0B00630A:A5F0 06 00000000:00000000 03:00000B5C 00000000     0        0 0 3 0
   3: 0201640A:9C56 0B00630A:0016 01 00000000:00000000 02:000A7B0C 00000000  1000        0 103 2 0 20 4 30 10 -1
";

    #[test]
    fn only_established_connections_to_its_own_sshd_are_sessions() {
        let TcpNetEntries(entries) = TcpNetEntries::from_read(TABLE.as_bytes(), current_system_info()).unwrap();
        assert_eq!((entries.len(), established(&entries)), (4, 1));
    }

    #[test]
    fn the_table_of_any_process_can_be_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let me = Process::new(i32::try_from(std::process::id()).unwrap()).unwrap();
        let mine = |e: &&TcpNetEntry| e.state == TcpState::Established && e.local_address.port() == port;
        assert_eq!(me.tcp().unwrap().iter().filter(mine).count(), 1);
        assert!(matches!(sessions(i32::MAX), Err(ProcError::NotFound(_))));
    }
}
