//! Starts a node, and gives its operator a handle while it runs.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::clock::Clock;
use super::descriptors::{TooFewDescriptors, connection_limits};
use super::disk;
use super::driver::Driver;
use super::files::{Directory, DirectoryError, SurvivingFiles};
use super::listener::Listener;
use super::observer::Observer;
use super::serve::ServedNode;
use crate::contract::{Boot, BootError, HaltReason, Outbox};
use crate::id::{Incarnation, NodeId};

/// Settings of one process, apart from the configuration of the node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node. It must be in `peers`.
    pub node: NodeId,
    /// The name of the cluster: the same for all its nodes and clients.
    pub cluster: String,
    /// Where to listen, as `host:port`.
    pub listen: String,
    /// Where each node of the cluster listens, as `host:port`.
    pub peers: BTreeMap<NodeId, String>,
    /// The data directory, created if it does not exist.
    pub data: PathBuf,
    /// How long a clean shutdown waits for pending requests and transactions, and the end of any
    /// incarnation for the disk: for the disk at least a second.
    pub shutdown_timeout: Duration,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory is in use, belongs to another node or cannot be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The node cannot listen.
    #[error("cannot listen on {listen}: {error}; {}", listen_hint(error))]
    #[allow(missing_docs, reason = "the names say it")]
    Listen { listen: String, error: io::Error },
    /// The files in the data directory are damaged, unreadable, of another version, or refused by
    /// the protocol.
    #[error("data directory {data}: {error}; {}", boot_hint(data, error))]
    #[allow(missing_docs, reason = "the names say it")]
    Boot { data: String, error: BootError },
    /// The observer failed at boot.
    #[error("cannot write the event log: {0}")]
    Observer(io::Error),
    /// The process may open too few files.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// The local address cannot be read, or the disk thread cannot open the directory.
    #[error("cannot start in {data}: {error}")]
    #[allow(missing_docs, reason = "the names say it")]
    Io { data: String, error: io::Error },
}

/// What to do next, as far as the operating system's error shows it.
fn listen_hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AddrInUse {
        "is another process using it? choose another address"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "ports below 1024 are for the administrator; choose another"
    } else {
        "choose an address of this machine"
    }
}

fn boot_hint(data: &str, error: &BootError) -> String {
    match error {
        BootError::Version { .. } => {
            "nothing is wrong with it: run the version that wrote it".to_owned()
        }
        BootError::OtherNode { .. } => {
            "give each node its own directory, and start it with its own id".to_owned()
        }
        BootError::Rejected { .. } => {
            "no restart changes that: an operator has to decide what to do".to_owned()
        }
        BootError::Damaged { .. } | BootError::Unreadable { .. } => {
            format!(
                "inspect it with `stormglass wal verify {data}`; an older copy of the directory is \
                 no repair, since it lacks votes and commits"
            )
        }
    }
}

/// How an incarnation ended.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Ending {
    /// It was stopped by [`RunningNode::stop`].
    Stopped {
        /// True if all work was done; false if [`Settings::shutdown_timeout`] ended the wait.
        idle: bool,
    },
    /// The node halted itself.
    Halted {
        reason: HaltReason,
        /// The operating system's error; empty if there was none.
        detail: String,
    },
    /// It was stopped, and the disk has not finished in time: what had not been synced is as after
    /// a crash. The data directory stays locked while the disk works on, at most until the process
    /// ends.
    DiskHung {
        /// What the disk was doing, and for how long: `syncing wal.3 for 12.3s`.
        operation: String,
    },
    /// The observer terminated it.
    Terminated,
    /// The observer failed.
    ObserverFailed(io::Error),
    /// A task of the engine ended before the node did: a bug of this program.
    EngineFailed {
        /// The task that ended and, if known, its panic.
        what: String,
    },
}

/// A node that has been started.
#[derive(Debug)]
pub struct RunningNode {
    /// The address on which it listens; the port is the real one where 0 was set.
    pub address: SocketAddr,
    ready: watch::Receiver<Option<Incarnation>>,
    stop: watch::Sender<bool>,
    ended: tokio::task::JoinHandle<Ending>,
}

impl RunningNode {
    /// Waits until the node answers clients ([`ServedNode::is_serving`]); `None` if it ended first.
    pub fn ready(&self) -> impl Future<Output = Option<Incarnation>> + use<> {
        let mut ready = self.ready.clone();
        async move { ready.wait_for(Option::is_some).await.ok().and_then(|incarnation| *incarnation) }
    }

    /// Starts a clean shutdown: the node rejects new requests, and ends when its pending work is
    /// done or [`Settings::shutdown_timeout`] is over.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for its end. The files are closed and the directory is unlocked then, unless the disk
    /// hangs ([`Ending::DiskHung`]).
    ///
    /// # Panics
    /// If the node panicked; the panic is passed on.
    pub async fn ended(&mut self) -> Ending {
        match (&mut self.ended).await {
            Ok(ending) => ending,
            Err(failure) => match failure.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(cancelled) => panic!("the node's task was {cancelled}"),
            },
        }
    }
}

/// Inputs that may wait for the node, from all connections together.
// A full queue stops reading from all connections, which is the back pressure of the network side.
const ARRIVALS_MAX: usize = 1024;

/// Requests for the status that may wait, from all connections together.
pub(super) const STATUS_REQUESTS_MAX: usize = 16;

/// Starts a node: locks the directory, listens, boots. Returns when the node has booted; it
/// connects and accepts connections when its boot is durable ([`RunningNode::ready`]).
///
/// # Errors
/// [`StartError`]; then nothing was changed but the lock and the identity of the directory.
pub async fn start<N: ServedNode>(
    settings: Settings,
    config: &N::Config,
    mut observer: Option<Box<dyn Observer<N>>>,
) -> Result<RunningNode, StartError> {
    let data = settings.data.display().to_string();
    // The lock first: everything after it may read or write the files.
    let directory = Directory::open(&settings.data, &settings.cluster, settings.node)?;
    let limits = connection_limits(settings.peers.len().saturating_sub(1))?;
    let listen = settings.listen.clone();
    // Before the boot: a node that cannot listen should not begin an incarnation. Connections wait
    // in the backlog until the listener runs.
    let listener = TcpListener::bind(&listen).await;
    let listener = listener.map_err(|error| StartError::Listen { listen, error })?;
    let address = listener.local_addr();
    let address = address.map_err(|error| StartError::Io { data: data.clone(), error })?;
    let surviving = SurvivingFiles::read(directory.path())?;
    if let Some(observer) = &mut observer {
        observer.boot(settings.node, &surviving).map_err(StartError::Observer)?;
    }
    let clock = Clock::start();
    // Not replaced by anything else: incarnations take their identity from it.
    let entropy = random_bits()
        .map_err(|error| StartError::Io { data: data.clone(), error: error.into() })?;
    let boot = Boot { id: settings.node, now: clock.now(), entropy, disk: &surviving };
    let mut outbox = Outbox::default();
    let booted = N::boot(config, boot, &mut outbox);
    let node = booted.map_err(|error| StartError::Boot { data: data.clone(), error })?;
    // The whole log is in it, and the node has taken what it needs.
    drop(surviving);
    let disk_thread = disk::start(directory);
    let (jobs, thread) = disk_thread.map_err(|error| StartError::Io { data, error })?;
    let (ready, ready_rx) = watch::channel(None);
    let (stop, stop_rx) = watch::channel(false);
    let (arrivals_tx, arrivals) = mpsc::channel(ARRIVALS_MAX);
    let (status_tx, status) = mpsc::channel(STATUS_REQUESTS_MAX);
    let listener = Listener::new(listener, arrivals_tx, status_tx, limits);
    let driver =
        Driver::new(settings, node, outbox, clock, observer, entropy, jobs, listener, ready);
    let ended = tokio::spawn(driver.run(arrivals, status, stop_rx, thread));
    Ok(RunningNode { address, ready: ready_rx, stop, ended })
}

/// 64 random bits of the operating system.
fn random_bits() -> Result<u64, rustix::io::Errno> {
    let mut bytes = [0; 8];
    // So few bytes are returned at once or not at all.
    rustix::io::retry_on_intr(|| {
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
    })?;
    Ok(u64::from_le_bytes(bytes))
}

/// 64 random bits of the operating system, for jitter and the like.
pub fn entropy() -> u64 {
    // Fails only on kernels without the call; then process id and time differ between processes.
    random_bits()
        .unwrap_or_else(|_| super::clock::wall_us() ^ u64::from(std::process::id()).rotate_left(40))
}
