//! A wire that can be cut: a TCP proxy on loopback. Cut, it swallows what comes, as a network does that has lost its
//! way; whoever talks through it hears nothing, not even an end. It may be cut for some processes only.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
};

use procfs::process::{FDTarget, Process};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// For whom a wire is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// For nobody.
    None,
    /// For everybody.
    All,
    /// For these processes.
    Pids(BTreeSet<u32>),
}

/// Forwards to one address.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    cut: watch::Sender<Cut>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// To `target`, by tasks of `runtime`.
    ///
    /// # Panics
    /// There is no port.
    #[must_use]
    pub fn to(runtime: &Handle, target: SocketAddr) -> Self {
        let _inside = runtime.enter();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let address = listener.local_addr().expect("its address");
        let cut = watch::Sender::new(Cut::None);
        let cuts = cut.clone();
        let task = runtime.spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                tokio::spawn(carry(stream, peer, target, cuts.subscribe()));
            }
        });
        Self { address, cut, _task: AbortOnDropHandle::new(task) }
    }

    /// Cuts it, or mends it.
    pub fn cut(&self, cut: Cut) {
        self.cut.send_replace(cut);
    }
}

/// Until an end closes it; after a cut that was mended, both ends are told.
async fn carry(mut near: TcpStream, peer: SocketAddr, target: SocketAddr, mut cuts: watch::Receiver<Cut>) {
    let mut pid = None;
    let mut is_cut = |cut: &Cut| match cut {
        Cut::None => false,
        Cut::All => true,
        Cut::Pids(pids) => {
            // Looked for once: a process that is stopped or dying keeps its sockets.
            pid = pid.or_else(|| pids.iter().copied().find(|pid| owns(*pid, peer)));
            pid.is_some_and(|pid| pids.contains(&pid))
        }
    };
    let work = async {
        if let Ok(mut far) = TcpStream::connect(target).await {
            copy_bidirectional(&mut near, &mut far).await.map(drop).unwrap_or_default();
        }
    };
    tokio::pin!(work);
    let mut was_cut = false;
    loop {
        let now = is_cut(&cuts.borrow_and_update().clone());
        if was_cut && !now {
            return;
        }
        was_cut = now;
        tokio::select! {
            () = &mut work, if !now => return,
            changed = cuts.changed() => if changed.is_err() { return },
        }
    }
}

/// Whether a process holds the socket with this local address.
fn owns(pid: u32, local: SocketAddr) -> bool {
    let Ok(process) = i32::try_from(pid).map_err(drop).and_then(|pid| Process::new(pid).map_err(drop)) else {
        return false;
    };
    let (Ok(table), Ok(descriptors)) = (process.tcp(), process.fd()) else { return false };
    let Some(entry) = table.into_iter().find(|entry| entry.local_address == local) else { return false };
    descriptors.flatten().any(|descriptor| descriptor.target == FDTarget::Socket(entry.inode))
}
