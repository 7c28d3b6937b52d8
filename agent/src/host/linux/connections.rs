//! The connections of proxy accounts at this moment: sshd's processes, and what the kernel says of their sockets. Reads
//! /proc; ends a session only by the process that was seen, never by a number alone.
//!
//! ```text
//! sshd: alice [priv]   root's     holds the connection from the client
//! └─ sshd: alice       alice's    holds that, and those to containers
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use containarium_proto::{
    audit::{Client, NodeSession, Text},
    ids::FleetId,
};
use procfs::{
    ProcResult,
    net::TcpState,
    process::{FDInfo, FDTarget, Process},
};
use rustix::process::{Pid, Signal, kill_process};

use super::{accounts, sessions};
use crate::host::HostError;

/// A session with the processes that are it.
struct Found {
    session: NodeSession,
    processes: Vec<Pid>,
}

pub(super) async fn list(fleet: FleetId) -> Result<Vec<NodeSession>, HostError> {
    Ok(find(fleet).await?.into_iter().map(|found| found.session).collect())
}

/// Ends exactly this session; gives whether it was there.
pub(super) async fn end(fleet: FleetId, id: &str) -> Result<bool, HostError> {
    let Some(found) = find(fleet).await?.into_iter().find(|found| found.session.id.as_str() == id) else {
        return Ok(false);
    };
    for pid in found.processes {
        match kill_process(pid, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(HostError::transient(format!("ending session {id}: {error}"))),
        }
    }
    Ok(true)
}

async fn find(fleet: FleetId) -> Result<Vec<Found>, HostError> {
    let ours = accounts::numbers(fleet)?;
    let looking = tokio::task::spawn_blocking(move || look(&ours));
    let failed = |why: &dyn std::fmt::Display| HostError::transient(format!("looking at the sessions: {why}"));
    looking.await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))
}

fn look(ours: &BTreeMap<String, u32>) -> ProcResult<Vec<Found>> {
    let connections = connections()?;
    let booted = procfs::boot_time_secs()?.cast_signed() * 1000;
    let (mut monitors, mut children) = (Vec::new(), BTreeMap::<i32, Vec<Process>>::new());
    // A process that ends while we look is no longer one to tell of.
    for process in procfs::process::all_processes()?.flatten() {
        let Ok(title) = process.cmdline().map(|words| words.join(" ")) else { continue };
        let Some((user, uid)) = sessions::served(&title).and_then(|user| ours.get_key_value(user)) else { continue };
        let Ok(stat) = process.stat() else { continue };
        match process.uid() {
            Ok(0) => monitors.push((user, stat, process)),
            // Until somebody has logged in, the child is the sshd user's: whoever only tries is no session.
            Ok(child) if child == *uid => children.entry(stat.ppid).or_default().push(process),
            Ok(_) | Err(_) => {}
        }
    }
    let mut found = Vec::new();
    for (user, stat, monitor) in monitors {
        let children = children.remove(&stat.pid).unwrap_or_default();
        // Before its login is done it has no child, and is nobody's session.
        if children.is_empty() {
            continue;
        }
        // What both hold is the client's: a client may come from any port, 22 too.
        let inbound: BTreeSet<u64> = sockets(&monitor).collect();
        let outbound: BTreeSet<u64> = children.iter().flat_map(sockets).filter(|i| !inbound.contains(i)).collect();
        let client = inbound.iter().find_map(|inode| connections.get(inode));
        let ticks = procfs::ticks_per_second().max(1);
        let session = NodeSession {
            id: Text::from(format!("{}-{}", stat.pid, stat.starttime).as_str()),
            user: Text::from(user.as_str()),
            client: client.map(|remote| Client { address: remote.ip().to_canonical(), port: remote.port() }),
            targets: outbound.iter().filter_map(|inode| connections.get(inode)).filter_map(target).collect(),
            since: booted + (stat.starttime.saturating_mul(1000) / ticks).cast_signed(),
        };
        let processes = children.iter().map(|child| child.pid).chain([stat.pid]);
        found.push(Found { session, processes: processes.filter_map(Pid::from_raw).collect() });
    }
    found.sort_by_key(|found| found.session.since);
    Ok(found)
}

fn sockets(process: &Process) -> impl Iterator<Item = u64> + use<> {
    let inode = |file: FDInfo| match file.target {
        FDTarget::Socket(inode) => Some(inode),
        _ => None,
    };
    process.fd().into_iter().flatten().flatten().filter_map(inode)
}

/// The other ends of this machine's established connections, by inode.
fn connections() -> ProcResult<HashMap<u64, SocketAddr>> {
    let v6 = match procfs::net::tcp6() {
        Ok(entries) => entries,
        // A kernel without IPv6 has no such table.
        Err(procfs::ProcError::NotFound(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    let all = procfs::net::tcp()?.into_iter().chain(v6);
    Ok(all.filter(|e| e.state == TcpState::Established).map(|e| (e.inode, e.remote_address)).collect())
}

fn target(remote: &SocketAddr) -> Option<Ipv4Addr> {
    match remote.ip().to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
