//! Who comes in: one task that accepts, one for each connection. Whoever says something wrong is shown out, with one
//! line in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};

use super::link::{IO_TIMEOUT, NodeIdentity};
use super::packet::{Caller, ClientPacket, ClientReply, Hello, PeerPacket, PeerReply, Welcome};
use super::serve::ServedNode;
use super::stream::{
    FRAME_BYTES_MAX, Frames, HANDSHAKE_BYTES_MAX, SendQueue, StreamError, write, write_value,
};
use crate::id::{Incarnation, NodeId, RequestId};

/// Connections at one time that have not said yet whose they are. They have [`IO_TIMEOUT`] for that, and at most
/// [`HANDSHAKE_BYTES_MAX`] of memory.
const HANDSHAKES_MAX: usize = 256;

/// Clients at one time: with [`FRAME_BYTES_MAX`] a bound on their memory.
pub(super) const CLIENTS_MAX: usize = 320;

/// Connections at one time for each peer: the newest, and those that it replaces and that are not gone yet.
const CONNECTIONS_PER_PEER_MAX: usize = 4;

/// Answers that a client has not read take at most this much memory (8 MiB: two of the longest).
const RESPONSE_QUEUE_BYTES_MAX: usize = 8 << 20;

/// A peer says something at least this often.
const PEER_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client may keep a connection that it does not use.
const CLIENT_IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Lines about bad connections in one second.
const WARNINGS_PER_SECOND_MAX: u32 = 10;

/// What comes in.
pub(super) enum Arrival<N: ServedNode> {
    Message {
        from: NodeId,
        number: u64,
        message: N::Message,
    },
    Request {
        id: RequestId,
        request: N::Request,
        queue: Arc<SendQueue>,
    },
    Status {
        queue: Arc<SendQueue>,
    },
    /// This client has hung up.
    Gone {
        queue: Arc<SendQueue>,
    },
}

/// The listening side of a node.
pub(super) struct Listener<N: ServedNode> {
    pub(super) listener: TcpListener,
    pub(super) arrivals_tx: mpsc::Sender<Arrival<N>>,
}

/// What all connections share.
struct Connections<N: ServedNode> {
    identity: NodeIdentity,
    peers: BTreeSet<NodeId>,
    arrivals_tx: mpsc::Sender<Arrival<N>>,
    /// The latest life of each peer, and how to end its present connection.
    current_connections: Mutex<BTreeMap<NodeId, (Incarnation, Arc<Notify>)>>,
    warnings: Mutex<WarningLimiter>,
    handshake_slots: Arc<Semaphore>,
    client_slots: Semaphore,
    // Apart from the clients: who only keeps a connection must not keep out those who decide.
    peer_slots: Semaphore,
}

/// What was said in this second, and what was not.
struct WarningLimiter {
    since: Instant,
    logged: u32,
    suppressed: u64,
}

impl<N: ServedNode> Listener<N> {
    /// Lets people in for as long as the task lives.
    pub(super) async fn run(self, identity: NodeIdentity, peers: BTreeSet<NodeId>) {
        let warnings =
            Mutex::new(WarningLimiter { since: Instant::now(), logged: 0, suppressed: 0 });
        let current_connections = Mutex::default();
        let peer_slots = Semaphore::new(peers.len() * CONNECTIONS_PER_PEER_MAX);
        let (handshake_slots, client_slots) =
            (Arc::new(Semaphore::new(HANDSHAKES_MAX)), Semaphore::new(CLIENTS_MAX));
        let arrivals_tx = self.arrivals_tx;
        let connections = Arc::new(Connections {
            identity,
            peers,
            arrivals_tx,
            current_connections,
            warnings,
            handshake_slots,
            client_slots,
            peer_slots,
        });
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(finished) = tasks.join_next() => {
                    propagate_panic(finished);
                    continue;
                }
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: those inside have to leave first.
                    tracing::warn!(node = %connections.identity.node, "cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(handshake_permit) = Arc::clone(&connections.handshake_slots).try_acquire_owned()
            else {
                connections.warn_rate_limited(&format_args!(
                    "connection from {from} dropped: there are {HANDSHAKES_MAX} already that say nothing"
                ));
                continue;
            };
            tasks.spawn(Arc::clone(&connections).serve_or_warn(stream, from, handshake_permit));
        }
    }
}

/// Whoever talks nonsense ends their connection; a panic is our own, and not to be lived with.
fn propagate_panic(finished: Result<(), JoinError>) {
    if let Err(failure) = finished
        && let Ok(panic) = failure.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// Why somebody was shown out.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("{0}")]
    Refused(String),
}

impl<N: ServedNode> Connections<N> {
    async fn serve_or_warn(
        self: Arc<Self>,
        stream: TcpStream,
        from: SocketAddr,
        handshake_permit: OwnedSemaphorePermit,
    ) {
        if let Err(error) = self.serve_connection(stream, handshake_permit).await {
            self.warn_rate_limited(&format_args!("connection from {from} dropped: {error}"));
        }
    }

    /// One line for each, but only so many in a second: a flood of bad connections is no reason to fill a disk.
    fn warn_rate_limited(&self, what: &dyn std::fmt::Display) {
        let mut warnings = self.warnings.lock().expect("nobody panics while holding this lock");
        if warnings.since.elapsed() >= Duration::from_secs(1) {
            if warnings.suppressed > 0 {
                tracing::warn!(node = %self.identity.node, "and {} more like it", warnings.suppressed);
            }
            *warnings = WarningLimiter { since: Instant::now(), logged: 0, suppressed: 0 };
        }
        if warnings.logged < WARNINGS_PER_SECOND_MAX {
            warnings.logged += 1;
            tracing::warn!(node = %self.identity.node, "{what}");
        } else {
            warnings.suppressed += 1;
        }
    }

    async fn serve_connection(
        &self,
        stream: TcpStream,
        handshake_permit: OwnedSemaphorePermit,
    ) -> Result<(), ConnectionError> {
        stream.set_nodelay(true).map_err(StreamError::from)?;
        let (from, mut out) = stream.into_split();
        let mut frames = Frames::new(from, HANDSHAKE_BYTES_MAX);
        let hello = timeout(IO_TIMEOUT, frames.next::<Hello>(IO_TIMEOUT)).await;
        let Some(hello) = hello.map_err(|_| StreamError::TimedOut(IO_TIMEOUT))?? else {
            return Ok(());
        };
        let _slot = match self.check(&hello).and_then(|()| self.acquire_slot(hello.caller)) {
            Ok(slot) => slot,
            Err(reason) => {
                write_value(&mut out, &Welcome::Refused { reason: reason.clone() }, IO_TIMEOUT)
                    .await?;
                return Err(ConnectionError::Refused(reason));
            }
        };
        drop(handshake_permit);
        let NodeIdentity { node, incarnation, .. } = self.identity;
        write_value(&mut out, &Welcome::Welcome { node, incarnation }, IO_TIMEOUT).await?;
        frames.set_limit(FRAME_BYTES_MAX);
        match hello.caller {
            Caller::Client => self.serve_client(frames, out).await,
            Caller::Peer { node, incarnation, .. } => {
                self.receive_from_peer(node, incarnation, frames, out).await
            }
        }
    }

    fn check(&self, hello: &Hello) -> Result<(), String> {
        let cluster = &self.identity.cluster;
        if hello.cluster != **cluster {
            return Err(format!("{:?} is not cluster {cluster:?}", hello.cluster));
        }
        let Caller::Peer { node, target, .. } = hello.caller else { return Ok(()) };
        let this_node = self.identity.node;
        if target != this_node {
            return Err(format!("{node} wants {target}, this is {this_node}"));
        }
        if node == this_node || !self.peers.contains(&node) {
            return Err(format!("{node} is no peer of {this_node}"));
        }
        Ok(())
    }

    fn acquire_slot(&self, caller: Caller) -> Result<SemaphorePermit<'_>, String> {
        let this_node = self.identity.node;
        match caller {
            Caller::Client => self.client_slots.try_acquire().map_err(|_| {
                format!(
                    "{this_node} has {CLIENTS_MAX} clients already; try again when some have left"
                )
            }),
            Caller::Peer { node, .. } => self
                .peer_slots
                .try_acquire()
                .map_err(|_| format!("{this_node} is still letting go of {node}")),
        }
    }

    async fn receive_from_peer(
        &self,
        peer: NodeId,
        incarnation: Incarnation,
        mut frames: Frames<OwnedReadHalf>,
        mut out: OwnedWriteHalf,
    ) -> Result<(), ConnectionError> {
        let replaced = self.register(peer, incarnation)?;
        let mut undecodable = 0;
        loop {
            self.warn_of_undecodable(&frames, &mut undecodable);
            let packet = tokio::select! {
                packet = frames.next::<PeerPacket<N::Message>>(PEER_IDLE_TIMEOUT) => packet?,
                // The peer has a newer connection: this one is half open.
                () = replaced.notified() => return Ok(()),
            };
            match packet {
                None => return Ok(()),
                Some(PeerPacket::Ping) => {
                    write_value(&mut out, &PeerReply::Pong, IO_TIMEOUT).await?
                }
                Some(PeerPacket::Message { number, message }) => {
                    // A full queue makes the peer wait, and nobody else.
                    if self
                        .arrivals_tx
                        .send(Arrival::Message { from: peer, number, message })
                        .await
                        .is_err()
                    {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// One connection for each peer: the new one replaces the old. A life that is over cannot come back.
    fn register(
        &self,
        peer: NodeId,
        incarnation: Incarnation,
    ) -> Result<Arc<Notify>, ConnectionError> {
        let mut current_connections =
            self.current_connections.lock().expect("nobody panics while holding this lock");
        if let Some((known, notify)) = current_connections.get(&peer) {
            if incarnation < *known {
                let reason = format!(
                    "{peer} says {incarnation}, and {known} was here: is its data directory an old copy?"
                );
                return Err(ConnectionError::Refused(reason));
            }
            notify.notify_one();
        }
        let notify = Arc::new(Notify::new());
        current_connections.insert(peer, (incarnation, Arc::clone(&notify)));
        Ok(notify)
    }

    async fn serve_client(
        &self,
        frames: Frames<OwnedReadHalf>,
        out: OwnedWriteHalf,
    ) -> Result<(), ConnectionError> {
        let queue = Arc::new(SendQueue::new(RESPONSE_QUEUE_BYTES_MAX));
        let received = tokio::select! {
            received = self.receive_requests(frames, &queue) => received,
            // Ends when the pipe is closed: by the driver, if it is full.
            written = write_responses(&queue, out) => written.map_err(ConnectionError::from),
        };
        queue.close();
        // If the node is gone, nobody has to know.
        let _ = self.arrivals_tx.send(Arrival::Gone { queue }).await;
        received
    }

    /// Whole frames without sense are dropped, and the connection goes on.
    fn warn_of_undecodable(&self, frames: &Frames<OwnedReadHalf>, known: &mut u64) {
        if frames.undecodable() > *known {
            self.warn_rate_limited(&format_args!(
                "dropped {} frames that make no sense",
                frames.undecodable() - *known
            ));
            *known = frames.undecodable();
        }
    }

    async fn receive_requests(
        &self,
        mut frames: Frames<OwnedReadHalf>,
        queue: &Arc<SendQueue>,
    ) -> Result<(), ConnectionError> {
        let mut undecodable = 0;
        loop {
            self.warn_of_undecodable(&frames, &mut undecodable);
            let arrival = match frames.next::<ClientPacket<N::Request>>(CLIENT_IDLE_TIMEOUT).await?
            {
                None => return Ok(()),
                Some(ClientPacket::Request { id, request }) => {
                    Arrival::Request { id, request, queue: Arc::clone(queue) }
                }
                Some(ClientPacket::Status) => Arrival::Status { queue: Arc::clone(queue) },
                Some(ClientPacket::Ping) => {
                    queue.put(&ClientReply::<N::Response>::Pong);
                    continue;
                }
            };
            if self.arrivals_tx.send(arrival).await.is_err() {
                return Ok(());
            }
        }
    }
}

async fn write_responses(queue: &SendQueue, mut out: OwnedWriteHalf) -> Result<(), StreamError> {
    let mut bytes = Vec::new();
    while queue.take(&mut bytes).await {
        write(&mut out, &bytes, IO_TIMEOUT).await?;
    }
    Ok(())
}
