//! Starting a node, and what its operator has in hand while it runs.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::clock::Clock;
use super::disk;
use super::driver::Driver;
use super::files::{Directory, DirectoryError, SurvivingFiles};
use super::listener::Listener;
use super::observer::Observer;
use super::serve::ServedNode;
use crate::contract::{Boot, BootError, HaltReason, Outbox};
use crate::id::{Incarnation, NodeId};

/// What an operator sets for one process, beside the node's own configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who this is.
    pub node: NodeId,
    /// The name of the cluster: all its nodes and clients say the same.
    pub cluster: String,
    /// Where to listen.
    pub listen: String,
    /// Where the others listen, as `host:port`.
    pub peers: BTreeMap<NodeId, String>,
    /// The data directory.
    pub data: PathBuf,
    /// How long a clean shutdown waits for what is under way.
    pub shutdown_timeout: Duration,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Nobody can connect.
    #[error("cannot listen on {listen}: {error}; {}", listen_hint(error))]
    Listen {
        /// Where.
        listen: String,
        /// Why not.
        error: io::Error,
    },
    /// What the directory holds cannot be trusted.
    #[error("data directory {data}: {error}; {}", boot_hint(data, error))]
    Boot {
        /// Which directory.
        data: String,
        /// What is wrong with it.
        error: BootError,
    },
    /// The tap does not begin: an event log that cannot be written.
    #[error("cannot write the event log: {0}")]
    Observer(io::Error),
    /// The disk thread cannot begin.
    #[error("cannot begin in {data}: {error}")]
    Io {
        /// Which directory.
        data: String,
        /// Why not.
        error: io::Error,
    },
}

/// What stands in the way of listening, as far as the system's error tells.
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
        // Nothing is lost, and an older copy would forget votes.
        BootError::Version { .. } => {
            "nothing is wrong with it: run the version that wrote it".to_owned()
        }
        BootError::Damaged { .. } | BootError::Unreadable { .. } => {
            format!("look at it with `stormglass wal verify {data}`, and restore it from a copy")
        }
    }
}

/// How a life ended.
#[derive(Debug)]
pub enum Ending {
    /// It was asked to stop. Whether all that was under way was waited for.
    Stopped {
        /// Nothing was left under way.
        idle: bool,
    },
    /// The node halted itself.
    Halted {
        /// Why.
        reason: HaltReason,
        /// What the operating system said.
        detail: String,
    },
    /// The tap ended it.
    Terminated,
    /// The tap failed.
    ObserverFailed(io::Error),
    /// A part of the engine has ended before the node did: a bug of ours.
    EngineFailed {
        /// Which, and why if that is known.
        what: String,
    },
}

/// A node that has been started.
#[derive(Debug)]
pub struct RunningNode {
    /// Where it listens.
    pub address: SocketAddr,
    ready: watch::Receiver<Option<Incarnation>>,
    stop: watch::Sender<bool>,
    ended: tokio::task::JoinHandle<Ending>,
}

impl RunningNode {
    /// Waits until the node speaks; `None` if it ended first.
    pub async fn ready(&mut self) -> Option<Incarnation> {
        self.ready.wait_for(Option::is_some).await.ok().and_then(|incarnation| *incarnation)
    }

    /// Asks it to take no more requests, and to end once what is under way is done.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for its end. The files are closed and the directory is free then.
    ///
    /// # Panics
    /// If the node panicked: a bug of ours is passed on.
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
const ARRIVALS_MAX: usize = 1024;

/// Starts a node: claims the directory, listens, boots. Returns when the node has booted; it speaks when its boot is
/// durable.
///
/// # Errors
/// [`StartError`], and nothing has been changed but the directory's lock and identity.
pub async fn start<N: ServedNode>(
    settings: Settings,
    config: &N::Config,
    mut observer: Option<Box<dyn Observer<N>>>,
) -> Result<RunningNode, StartError> {
    let data = settings.data.display().to_string();
    let io = |error| StartError::Io { data: data.clone(), error };
    let directory = Directory::open(&settings.data, &settings.cluster, settings.node)?;
    let listen = settings.listen.clone();
    let listener = TcpListener::bind(&listen).await;
    let listener = listener.map_err(|error| StartError::Listen { listen, error })?;
    let address = listener.local_addr().map_err(io)?;
    let surviving = SurvivingFiles::read(directory.path())?;
    if let Some(observer) = &mut observer {
        observer.boot(settings.node, &surviving).map_err(StartError::Observer)?;
    }
    let clock = Clock::start();
    let entropy = entropy();
    let boot = Boot { id: settings.node, now: clock.now(), entropy, disk: &surviving };
    let mut outbox = Outbox::default();
    let booted = N::boot(config, boot, &mut outbox);
    let node = booted.map_err(|error| StartError::Boot { data: data.clone(), error })?;
    drop(surviving);
    let (jobs, done, thread) = disk::start(directory.path().to_path_buf()).map_err(io)?;
    let (ready, ready_rx) = watch::channel(None);
    let (stop, stop_rx) = watch::channel(false);
    let (arrivals_tx, arrivals) = mpsc::channel(ARRIVALS_MAX);
    let listener = Listener { listener, arrivals_tx };
    let driver =
        Driver::new(settings, node, outbox, clock, observer, entropy, jobs, listener, ready);
    let ended = tokio::spawn(driver.run(arrivals, done, stop_rx, thread, directory));
    Ok(RunningNode { address, ready: ready_rx, stop, ended })
}

/// Random bits for one life. Correctness never depends on them.
pub(super) fn entropy() -> u64 {
    let mut bytes = [0; 8];
    // It can only fail on kernels without the call; then there is still the process and the time.
    if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).is_err() {
        bytes =
            (super::clock::wall_us() ^ u64::from(std::process::id()).rotate_left(40)).to_le_bytes();
    }
    u64::from_le_bytes(bytes)
}
