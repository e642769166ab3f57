//! The listening side of a node: one task that accepts, and one task per connection.
//!
//! A connection with a protocol error is closed, with one line in the log. A frame whose content
//! does not decode is dropped, and the connection stays open; a client is answered `Undecodable`.
//! Slots of clients, peers and operators are separate, and so is their memory. A connection that
//! has not said Hello gives way to newer ones: strangers keep nobody out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::descriptors::ConnectionLimits;
use super::link::{IO_TIMEOUT, NodeIdentity};
use super::memory::{MemoryPool, MemoryShare};
use super::packet::{Caller, ClientPacket, ClientReply, Hello, PeerPacket, PeerReply, Welcome};
use super::rate_limit::{RateLimit, Suppressed};
use super::serve::ServedNode;
use super::session::{self, Session, SessionEnd, SessionEvent};
use super::stream::{
    FRAME_BYTES_MAX, Frame, Frames, HANDSHAKE_BYTES_MAX, SendQueue, StreamError, write, write_value,
};
use crate::codec::CodecError;
use crate::contract::Links;
use crate::id::{Incarnation, NodeId, RequestId};

/// Concurrent connections that have not completed the handshake. Each has [`IO_TIMEOUT`] for all of
/// it, counted from the accept, and frames of at most [`HANDSHAKE_BYTES_MAX`].
pub(super) const HANDSHAKES_MAX: usize = 256;

/// Concurrent client connections.
// With the handshakes it leaves room for peers and files below 1,024 descriptors, a usual limit.
pub(super) const CLIENTS_MAX: usize = 320;

/// Concurrent connections of operators.
pub(super) const OPERATORS_MAX: usize = 8;

/// Concurrent connections per peer: the current one, and replaced ones that are not closed yet.
// A peer that reconnects quickly finds its earlier connections not closed yet.
const CONNECTIONS_PER_PEER_MAX: usize = 4;

/// Memory for answers that a client has not read: 8 MiB, two answers of the maximum length.
const RESPONSE_QUEUE_BYTES_MAX: usize = 8 << 20;

/// Memory for the large frames of all clients together, and as much for their long queues of
/// answers: 64 MiB. Requests cannot take the memory of answers.
// Sixteen frames of the maximum length: the driver handles one in milliseconds.
pub(super) const CLIENT_BYTES_MAX: usize = 64 << 20;

/// The same for all operators: 16 MiB. They send nothing large, and a status is at most a frame.
const OPERATOR_BYTES_MAX: usize = 16 << 20;

/// Memory for the large frames of one peer: one that is read and one that waits for the node.
pub(super) const PEER_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

/// A connection of a peer that sends nothing for so long is closed. Peers send a ping every second.
const PEER_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection of a client that sends nothing for so long is closed.
const CLIENT_IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// A connection of an operator that sends nothing for so long is closed.
const OPERATOR_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Concurrent connections of so many peers.
pub(super) fn peer_connections_max(peers: usize) -> usize {
    peers * CONNECTIONS_PER_PEER_MAX
}

/// An input of the driver from the network.
pub(super) enum Arrival<N: ServedNode> {
    /// A datagram.
    Message {
        from: NodeId,
        number: u64,
        message: N::Message,
        /// Of the memory of its peer; to be held for as long as the message.
        share: Option<MemoryShare>,
    },
    Request {
        id: RequestId,
        request: N::Request,
        queue: Arc<SendQueue>,
        /// Of the memory of all clients; to be held until the node has the request.
        share: Option<MemoryShare>,
    },
    /// Only with [`Links::Sessions`].
    Session { peer: NodeId, session: Arc<Session>, event: SessionEvent<N::Message> },
    /// The connection of this client is closed.
    Gone { queue: Arc<SendQueue> },
}

/// The listening side of a node.
pub(super) struct Listener<N: ServedNode> {
    listener: TcpListener,
    arrivals_tx: mpsc::Sender<Arrival<N>>,
    status_tx: mpsc::Sender<Arc<SendQueue>>,
    limits: ConnectionLimits,
}

/// The connections that have not completed the handshake, the oldest first: each a signal that ends
/// it, which its task owns until the handshake is complete.
#[derive(Default)]
struct Handshakes(VecDeque<Weak<Notify>>);

/// A handshake in progress.
struct Handshake {
    gives_way: Arc<Notify>,
    /// The end of [`IO_TIMEOUT`] after the accept.
    deadline: Instant,
}

impl Handshakes {
    /// Adds one. If there were `max`, the oldest ends: an honest caller says Hello at once.
    fn begin(&mut self, max: usize) -> Handshake {
        self.0.retain(|signal| signal.strong_count() > 0);
        if self.0.len() >= max
            && let Some(oldest) = self.0.pop_front().and_then(|signal| signal.upgrade())
        {
            oldest.notify_one();
        }
        let signal = Arc::new(Notify::new());
        self.0.push_back(Arc::downgrade(&signal));
        Handshake { gives_way: signal, deadline: Instant::now() + IO_TIMEOUT }
    }
}

/// What all connections share.
struct Connections<N: ServedNode> {
    identity: NodeIdentity,
    peers: BTreeSet<NodeId>,
    arrivals_tx: mpsc::Sender<Arrival<N>>,
    /// Separate from the arrivals, which the driver does not take while the disk is behind.
    status_tx: mpsc::Sender<Arc<SendQueue>>,
    /// For each peer the incarnation that has connected last, and the signal that ends its
    /// connection; the task of the connection owns it.
    current_connections: Mutex<BTreeMap<NodeId, (Incarnation, Weak<Notify>)>>,
    warnings: Mutex<RateLimit>,
    limits: ConnectionLimits,
    client_slots: Semaphore,
    operator_slots: Semaphore,
    // Separate from the client slots: idle clients must not keep out the peers that decide.
    peer_slots: Semaphore,
    client_memory: ClientMemory,
    operator_memory: ClientMemory,
    peer_memory: BTreeMap<NodeId, MemoryPool>,
}

/// The memory that all clients, or all operators, share.
struct ClientMemory {
    frames: MemoryPool,
    answers: MemoryPool,
}

impl ClientMemory {
    fn new(bytes: usize) -> ClientMemory {
        ClientMemory { frames: MemoryPool::new(bytes), answers: MemoryPool::new(bytes) }
    }
}

impl<N: ServedNode> Listener<N> {
    pub(super) fn new(
        listener: TcpListener,
        arrivals_tx: mpsc::Sender<Arrival<N>>,
        status_tx: mpsc::Sender<Arc<SendQueue>>,
        limits: ConnectionLimits,
    ) -> Listener<N> {
        Listener { listener, arrivals_tx, status_tx, limits }
    }

    /// Where arrivals go.
    pub(super) fn arrivals_tx(&self) -> mpsc::Sender<Arrival<N>> {
        self.arrivals_tx.clone()
    }

    /// Accepts connections for as long as the task runs.
    pub(super) async fn run(self, identity: NodeIdentity, peers: BTreeSet<NodeId>) {
        let warnings = Mutex::new(RateLimit::new(Instant::now()));
        let current_connections = Mutex::default();
        let peer_slots = Semaphore::new(peer_connections_max(peers.len()));
        let limits = self.limits;
        let client_slots = Semaphore::new(limits.clients);
        let operator_slots = Semaphore::new(OPERATORS_MAX);
        let arrivals_tx = self.arrivals_tx;
        let peer_memory =
            peers.iter().map(|peer| (*peer, MemoryPool::new(PEER_BYTES_MAX))).collect();
        let connections = Arc::new(Connections {
            identity,
            peers,
            arrivals_tx,
            status_tx: self.status_tx,
            current_connections,
            warnings,
            limits,
            client_slots,
            operator_slots,
            peer_slots,
            client_memory: ClientMemory::new(CLIENT_BYTES_MAX),
            operator_memory: ClientMemory::new(OPERATOR_BYTES_MAX),
            peer_memory,
        });
        let mut handshakes = Handshakes::default();
        let mut tasks = JoinSet::new();
        loop {
            // Finished tasks are collected here, so that the set does not grow with the number of
            // connections.
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
                    // Most likely out of file descriptors: wait until connections close.
                    tracing::warn!(node = %connections.identity.node, "cannot accept a connection: {error}");
                    // Without a pause the loop would spin on the same error.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let handshake = handshakes.begin(limits.handshakes);
            tasks.spawn(Arc::clone(&connections).serve_or_warn(stream, from, handshake));
            // A task whose handshake was ended closes its connection before the next is accepted.
            tokio::task::yield_now().await;
        }
    }
}

/// An error of a peer ends only its connection; a panic is a bug of this program and ends the node.
fn propagate_panic(finished: Result<(), JoinError>) {
    if let Err(failure) = finished
        && let Ok(panic) = failure.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// Why a connection was closed.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Refused(#[from] HandshakeRefusal),
    #[error(
        "{dropped} answers did not fit: it has not read earlier ones, or those of all clients take \
         too much memory"
    )]
    AnswersDropped { dropped: u64 },
    #[error("it has not completed the handshake within {IO_TIMEOUT:?}")]
    SlowHandshake,
    #[error("it had not completed the handshake when too many newer ones came")]
    GaveWay,
    #[error("session with {peer}: {end}")]
    Session { peer: NodeId, end: SessionEnd },
}

/// Why a handshake is refused. The caller receives the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum HandshakeRefusal {
    #[error("{found:?} is not cluster {expected:?}")]
    OtherCluster { found: String, expected: Arc<str> },
    #[error("{caller} expected {target}, this is {this_node}")]
    OtherTarget { caller: NodeId, target: NodeId, this_node: NodeId },
    #[error("{caller} is not a peer of {this_node}")]
    NotAPeer { caller: NodeId, this_node: NodeId },
    #[error("{caller} has a higher id than {this_node}: the node with the lower id dials")]
    HigherId { caller: NodeId, this_node: NodeId },
    #[error("{this_node} has {clients} clients already; try again later")]
    TooManyClients { this_node: NodeId, clients: usize },
    #[error("{this_node} answers {OPERATORS_MAX} operators already; try again later")]
    TooManyOperators { this_node: NodeId },
    #[error("{this_node} has not closed earlier connections of {caller} yet")]
    TooManyOfThisPeer { caller: NodeId, this_node: NodeId },
    #[error(
        "{caller} announced incarnation {announced:#} after {known:#}: its data directory is an older copy or was \
         emptied, or another process runs as {caller}"
    )]
    OtherIncarnation { caller: NodeId, announced: Incarnation, known: Incarnation },
}

impl<N: ServedNode> Connections<N> {
    async fn serve_or_warn(
        self: Arc<Self>,
        stream: TcpStream,
        from: SocketAddr,
        handshake: Handshake,
    ) {
        if let Err(error) = self.serve_connection(stream, from, handshake).await {
            self.warn_rate_limited(&format_args!("connection from {from} dropped: {error}"));
        }
    }

    /// Logs one line, unless there are too many of them.
    fn warn_rate_limited(&self, what: &dyn std::fmt::Display) {
        let mut warnings = self.warnings.lock().expect("no panic happens while this lock is held");
        for Suppressed { count, .. } in warnings.take_suppressed(Instant::now()) {
            tracing::warn!(node = %self.identity.node, "{count} more warnings suppressed");
        }
        if warnings.allows("connection") {
            tracing::warn!(node = %self.identity.node, "{what}");
        }
    }

    async fn serve_connection(
        &self,
        stream: TcpStream,
        from: SocketAddr,
        handshake: Handshake,
    ) -> Result<(), ConnectionError> {
        stream.set_nodelay(true).map_err(StreamError::from)?;
        let (input, mut out) = stream.into_split();
        let mut frames = Frames::new(input, HANDSHAKE_BYTES_MAX);
        let Handshake { gives_way, deadline } = handshake;
        // One limit for all reads and writes: a byte now and then must not hold a slot.
        let welcomed = tokio::select! {
            welcomed = timeout_at(deadline, self.welcome(&mut frames, &mut out)) => welcomed,
            () = gives_way.notified() => return Err(ConnectionError::GaveWay),
        };
        let welcomed = welcomed.map_err(|_| ConnectionError::SlowHandshake)??;
        let Some((caller, _slot)) = welcomed else { return Ok(()) };
        // The connection has only its slot of its kind now.
        drop(gives_way);
        // Only a caller that has been identified may send large frames.
        frames.set_limit(FRAME_BYTES_MAX);
        match caller {
            Caller::Client => {
                self.serve_client(from, frames, out, &self.client_memory, CLIENT_IDLE_TIMEOUT).await
            }
            Caller::Operator => {
                self.serve_client(from, frames, out, &self.operator_memory, OPERATOR_IDLE_TIMEOUT)
                    .await
            }
            Caller::Peer { node, incarnation, .. } => {
                frames.set_memory(self.peer_memory[&node].clone());
                match N::LINKS {
                    Links::Datagrams => {
                        self.receive_from_peer(node, incarnation, from, frames, out).await
                    }
                    Links::Sessions => self.hold_session(node, incarnation, frames, out).await,
                }
            }
        }
    }

    /// Reads Hello and answers it. `None` if the caller closes the connection before.
    async fn welcome(
        &self,
        frames: &mut Frames<OwnedReadHalf>,
        out: &mut OwnedWriteHalf,
    ) -> Result<Option<(Caller, SemaphorePermit<'_>)>, ConnectionError> {
        let Some(hello) = frames.next::<Hello>(IO_TIMEOUT).await? else { return Ok(None) };
        let slot = match self.check(&hello).and_then(|()| self.acquire_slot(hello.caller)) {
            Ok(slot) => slot,
            Err(refusal) => {
                let welcome = Welcome::Refused { reason: refusal.to_string() };
                write_value(out, &welcome, IO_TIMEOUT).await?;
                return Err(refusal.into());
            }
        };
        let NodeIdentity { node, incarnation, .. } = self.identity;
        write_value(out, &Welcome::Welcome { node, incarnation }, IO_TIMEOUT).await?;
        Ok(Some((hello.caller, slot)))
    }

    fn check(&self, hello: &Hello) -> Result<(), HandshakeRefusal> {
        let expected = &self.identity.cluster;
        if hello.cluster != **expected {
            return Err(HandshakeRefusal::OtherCluster {
                found: hello.cluster.clone(),
                expected: Arc::clone(expected),
            });
        }
        let Caller::Peer { node, incarnation, target } = hello.caller else { return Ok(()) };
        let this_node = self.identity.node;
        if target != this_node {
            return Err(HandshakeRefusal::OtherTarget { caller: node, target, this_node });
        }
        // A caller that claims to be this node is a copy of its data directory, or misconfigured.
        if node == this_node || !self.peers.contains(&node) {
            return Err(HandshakeRefusal::NotAPeer { caller: node, this_node });
        }
        // Two connections could not be one session.
        if N::LINKS == Links::Sessions && node > this_node {
            return Err(HandshakeRefusal::HigherId { caller: node, this_node });
        }
        self.check_incarnation(node, incarnation)
    }

    fn acquire_slot(&self, caller: Caller) -> Result<SemaphorePermit<'_>, HandshakeRefusal> {
        let this_node = self.identity.node;
        match caller {
            Caller::Client => self.client_slots.try_acquire().map_err(|_| {
                HandshakeRefusal::TooManyClients { this_node, clients: self.limits.clients }
            }),
            Caller::Operator => self
                .operator_slots
                .try_acquire()
                .map_err(|_| HandshakeRefusal::TooManyOperators { this_node }),
            Caller::Peer { node, .. } => self
                .peer_slots
                .try_acquire()
                .map_err(|_| HandshakeRefusal::TooManyOfThisPeer { caller: node, this_node }),
        }
    }

    async fn receive_from_peer(
        &self,
        peer: NodeId,
        incarnation: Incarnation,
        from: SocketAddr,
        mut frames: Frames<OwnedReadHalf>,
        mut out: OwnedWriteHalf,
    ) -> Result<(), ConnectionError> {
        // Again, as a newer one may have come since: then the connection is only closed.
        let replaced = self.register(peer, incarnation)?;
        loop {
            let frame = tokio::select! {
                frame = frames.next_frame::<PeerPacket<N::Message>>(PEER_IDLE_TIMEOUT) => frame?,
                // The peer has a newer connection, so this one is half open.
                () = replaced.notified() => return Ok(()),
            };
            match frame {
                None => return Ok(()),
                // No answer: the protocol allows any message to be lost.
                Some(Frame::Undecodable(error)) => self.warn_of_undecodable(from, &error),
                // Ends the connection with an error before it is a frame.
                Some(Frame::Oversized { .. }) => {}
                Some(Frame::Value(PeerPacket::Ping)) => {
                    write_value(&mut out, &PeerReply::Pong, IO_TIMEOUT).await?
                }
                Some(Frame::Value(PeerPacket::Message { number, message })) => {
                    // A full queue delays only this peer.
                    if self
                        .arrivals_tx
                        .send(Arrival::Message {
                            from: peer,
                            number,
                            message,
                            share: frames.take_share(),
                        })
                        .await
                        .is_err()
                    {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn hold_session(
        &self,
        peer: NodeId,
        incarnation: Incarnation,
        mut frames: Frames<OwnedReadHalf>,
        out: OwnedWriteHalf,
    ) -> Result<(), ConnectionError> {
        let confirmed = session::confirmed::<N>(&mut frames).await;
        confirmed.map_err(|end| ConnectionError::Session { peer, end })?;
        // Again, as a newer one may have come since: then the connection is only closed.
        let replaced = self.register(peer, incarnation)?;
        tracing::info!(node = %self.identity.node, %peer, "connected");
        let end = session::run(peer, frames, out, &replaced, &self.arrivals_tx).await;
        if matches!(end, SessionEnd::Replaced) {
            return Ok(());
        }
        Err(ConnectionError::Session { peer, end })
    }

    /// While one process of a peer is connected, one that does not follow it is refused, so that
    /// it learns why: what this node sends goes to the address of the first. Afterwards the node
    /// itself decides, which remembers incarnations over a restart.
    fn check_incarnation(
        &self,
        peer: NodeId,
        announced: Incarnation,
    ) -> Result<(), HandshakeRefusal> {
        let current_connections =
            self.current_connections.lock().expect("no panic happens while this lock is held");
        match current_connections.get(&peer) {
            Some((known, signal)) if signal.strong_count() > 0 => follows(peer, announced, *known),
            Some(_) | None => Ok(()),
        }
    }

    /// Makes this the one connection of the peer; it replaces the earlier one.
    fn register(
        &self,
        peer: NodeId,
        incarnation: Incarnation,
    ) -> Result<Arc<Notify>, HandshakeRefusal> {
        let mut current_connections =
            self.current_connections.lock().expect("no panic happens while this lock is held");
        if let Some((known, signal)) = current_connections.get(&peer)
            && let Some(notify) = signal.upgrade()
        {
            follows(peer, incarnation, *known)?;
            // Stores a permit if the task of that connection does not wait at the moment, so the
            // signal is not lost.
            notify.notify_one();
        }
        let notify = Arc::new(Notify::new());
        current_connections.insert(peer, (incarnation, Arc::downgrade(&notify)));
        Ok(notify)
    }

    async fn serve_client(
        &self,
        from: SocketAddr,
        mut frames: Frames<OwnedReadHalf>,
        out: OwnedWriteHalf,
        memory: &ClientMemory,
        idle_timeout: Duration,
    ) -> Result<(), ConnectionError> {
        frames.set_memory(memory.frames.clone());
        frames.set_limit(N::REQUEST_BYTES_MAX);
        frames.skip_oversized();
        let queue = SendQueue::with_memory(RESPONSE_QUEUE_BYTES_MAX, memory.answers.clone());
        let queue = Arc::new(queue);
        // Whichever side ends first ends the other: a client that sends and never reads must not
        // keep its slot.
        let received = tokio::select! {
            received = self.receive_requests(from, frames, &queue, idle_timeout) => received,
            written = write_responses(&queue, out) => written,
        };
        queue.discard();
        // If nobody else has the queue, the driver has no request of this client. An operator's
        // slot must not wait for a driver that takes no arrivals.
        if Arc::strong_count(&queue) > 1 {
            // Fails only if the node has ended; then there is no state to clean up.
            let _ = self.arrivals_tx.send(Arrival::Gone { queue }).await;
        }
        received
    }

    /// Logs a whole frame that does not decode. It is dropped, and the connection stays open.
    fn warn_of_undecodable(&self, from: SocketAddr, error: &CodecError) {
        self.warn_rate_limited(&format_args!(
            "dropped a frame from {from} that could not be decoded: {error}"
        ));
    }

    async fn receive_requests(
        &self,
        from: SocketAddr,
        mut frames: Frames<OwnedReadHalf>,
        queue: &Arc<SendQueue>,
        idle_timeout: Duration,
    ) -> Result<(), ConnectionError> {
        let mut complaints = RateLimit::new(Instant::now());
        loop {
            let packet = match frames.next_frame(idle_timeout).await? {
                None => return Ok(()),
                Some(Frame::Value(packet)) => packet,
                Some(Frame::Undecodable(error)) => {
                    self.warn_of_undecodable(from, &error);
                    let reason = format!("{error}; is it of another version?");
                    complain::<N>(&mut complaints, queue, reason);
                    continue;
                }
                Some(Frame::Oversized { len, limit }) => {
                    let reason = format!("it has {len} bytes, the limit is {limit}");
                    self.warn_rate_limited(&format_args!(
                        "dropped a request from {from}: {reason}"
                    ));
                    complain::<N>(&mut complaints, queue, reason);
                    continue;
                }
            };
            let arrival = match packet {
                ClientPacket::Request { id, request } => {
                    let share = frames.take_share();
                    Arrival::Request { id, request, queue: Arc::clone(queue), share }
                }
                ClientPacket::Status => {
                    if self.status_tx.send(Arc::clone(queue)).await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
                ClientPacket::Ping => {
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

/// Answers a client that its request cannot be read, unless there are too many of these answers.
fn complain<N: ServedNode>(complaints: &mut RateLimit, queue: &SendQueue, reason: String) {
    // What was suppressed is of no interest; this begins a new second.
    complaints.take_suppressed(Instant::now());
    if complaints.allows("request") {
        queue.put(&ClientReply::<N::Response>::Undecodable { reason });
    }
}

/// An incarnation is the known one, or has a greater number.
fn follows(
    caller: NodeId,
    announced: Incarnation,
    known: Incarnation,
) -> Result<(), HandshakeRefusal> {
    if announced == known || announced.number() > known.number() {
        return Ok(());
    }
    Err(HandshakeRefusal::OtherIncarnation { caller, announced, known })
}

/// Until the queue is closed, as the driver does when an answer does not fit.
async fn write_responses(
    queue: &SendQueue,
    mut out: OwnedWriteHalf,
) -> Result<(), ConnectionError> {
    let mut bytes = Vec::new();
    while queue.take(&mut bytes).await {
        write(&mut out, &bytes, IO_TIMEOUT).await?;
    }
    match queue.load() {
        (_, 0) => Ok(()),
        (_, dropped) => Err(ConnectionError::AnswersDropped { dropped }),
    }
}
