//! The outgoing connection to one peer: [`Dialler`] dials, performs the handshake, and dials again;
//! [`Link`] is a bounded queue of datagrams, and the task that writes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::packet::{Caller, Hello, PeerPacket, PeerReply, Welcome};
use super::serve::LinkStatus;
use super::session::SessionEnd;
use super::stream::{Frames, HANDSHAKE_BYTES_MAX, SendQueue, StreamError, write, write_value};
use crate::id::{Incarnation, NodeId};

/// Memory for messages that wait for a peer: 4 MiB, and as much again while they are written.
// One frame of the maximum length fits; the contract allows losing the rest.
pub(super) const QUEUE_BYTES_MAX: usize = 4 << 20;

/// The greatest duration of one write, handshake or answer.
// Several times the ping interval, so that one lost ping is no reason to reconnect.
pub(super) const IO_TIMEOUT: Duration = Duration::from_secs(5);

/// The interval of pings on a connection.
pub(super) const PING_EVERY: Duration = Duration::from_secs(1);

/// First pause between two attempts to dial.
const BACKOFF_MIN: Duration = Duration::from_millis(20);

/// The longest such pause.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The pause after a refused handshake.
// Each attempt leaves a line in the log of the peer.
const BACKOFF_REFUSED: Duration = Duration::from_secs(5);

/// The identity that this node sends in its handshakes.
#[derive(Clone, Debug)]
pub(super) struct NodeIdentity {
    pub cluster: Arc<str>,
    pub node: NodeId,
    pub incarnation: Incarnation,
}

/// The outgoing connection to one peer. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: SendQueue,
    connected: AtomicBool,
}

impl Default for Link {
    fn default() -> Self {
        Link(Arc::new(Shared {
            queue: SendQueue::new(QUEUE_BYTES_MAX),
            connected: AtomicBool::new(false),
        }))
    }
}

impl Link {
    pub(super) fn put<M: Serialize>(&self, packet: &PeerPacket<M>) {
        self.0.queue.put(packet);
    }

    pub(super) fn status(&self, peer: NodeId) -> LinkStatus {
        let (queued_bytes, dropped) = self.0.queue.load();
        let connected = self.0.connected.load(Ordering::Relaxed);
        LinkStatus { peer, connected, queued_bytes, dropped }
    }

    /// Connects, and reconnects for as long as the task runs.
    pub(super) async fn run(self, mut dialler: Dialler) {
        loop {
            let connection = dialler.connect().await;
            self.0.connected.store(true, Ordering::Relaxed);
            let lost = self.write_messages(connection).await;
            self.0.connected.store(false, Ordering::Relaxed);
            dialler.pause(&lost).await;
        }
    }

    async fn write_messages(&self, (mut frames, mut out): PeerStream) -> LinkError {
        let mut bytes = Vec::new();
        let mut ping = tokio::time::interval(PING_EVERY);
        loop {
            let written = tokio::select! {
                open = self.0.queue.take(&mut bytes) => {
                    if !open {
                        return LinkError::Closed;
                    }
                    write(&mut out, &bytes, IO_TIMEOUT).await
                }
                _ = ping.tick() => write_value(&mut out, &PeerPacket::<()>::Ping, IO_TIMEOUT).await,
                // Each ping is answered by a pong, so a peer that is silent for longer is
                // unreachable.
                pong = frames.next::<PeerReply>(IO_TIMEOUT) => match pong {
                    Ok(Some(PeerReply::Pong)) => Ok(()),
                    Ok(None) => return LinkError::Closed,
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = written {
                return LinkError::Stream(error);
            }
        }
    }
}

/// Dials one peer, with pauses that grow.
#[derive(Debug)]
pub(super) struct Dialler {
    identity: NodeIdentity,
    peer: NodeId,
    address: String,
    backoff: Duration,
    /// Whether the log says already that there is no connection.
    reported: bool,
    /// When the last attempt began.
    began: Instant,
}

impl Dialler {
    pub(super) fn new(identity: NodeIdentity, peer: NodeId, address: String) -> Dialler {
        let began = Instant::now();
        Dialler { identity, peer, address, backoff: BACKOFF_MIN, reported: false, began }
    }

    pub(super) fn peer(&self) -> NodeId {
        self.peer
    }

    /// Dials until the peer has answered the handshake.
    pub(super) async fn connect(&mut self) -> PeerStream {
        loop {
            self.began = Instant::now();
            // One limit for the whole handshake: a peer that sends one byte at a time must not hold
            // the link.
            let greeted = handshake(&self.identity, self.peer, &self.address);
            let error = match timeout(IO_TIMEOUT, greeted).await {
                Ok(Ok(connection)) => {
                    let Dialler { identity, peer, address, .. } = self;
                    tracing::info!(node = %identity.node, %peer, %address, "connected");
                    // The next loss is worth a line again.
                    self.reported = false;
                    return connection;
                }
                Ok(Err(error)) => error,
                Err(_) => LinkError::Stream(StreamError::TimedOut(IO_TIMEOUT)),
            };
            self.pause(&error).await;
        }
    }

    /// Logs why there is no connection, and waits before the next attempt.
    pub(super) async fn pause(&mut self, lost: &LinkError) {
        let Dialler { identity, peer, address, .. } = self;
        if !self.reported {
            // One line per lost connection, not one per attempt.
            tracing::warn!(node = %identity.node, %peer, %address, "no connection: {lost}");
            self.reported = true;
        }
        // A refusal has a reason that lasts. A connection that lasted was a good one: the next
        // attempt may come soon.
        self.backoff = if matches!(lost, LinkError::Refused(_)) {
            BACKOFF_REFUSED
        } else if self.began.elapsed() > BACKOFF_MAX {
            BACKOFF_MIN
        } else {
            (self.backoff * 2).min(BACKOFF_MAX)
        };
        // Jitter by node id: nodes that lost the same peer do not reconnect at the same moment. 7
        // and 13 are coprime, so thirteen consecutive node ids get thirteen different pauses.
        let jitter = u64::from(self.identity.node.0) * 7 % 13;
        sleep(self.backoff + Duration::from_millis(jitter)).await;
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("{0}")]
    Dial(std::io::Error),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("closed by the other side")]
    Closed,
    #[error("refused: {0}")]
    Refused(String),
    #[error("{0} answered at that address; check the list of peers")]
    WrongNode(NodeId),
    #[error(transparent)]
    Session(#[from] SessionEnd),
}

/// A connection after its handshake.
pub(super) type PeerStream =
    (Frames<tokio::net::tcp::OwnedReadHalf>, tokio::net::tcp::OwnedWriteHalf);

async fn handshake(
    identity: &NodeIdentity,
    peer: NodeId,
    address: &str,
) -> Result<PeerStream, LinkError> {
    let stream = TcpStream::connect(address).await.map_err(LinkError::Dial)?;
    // Messages are small and answered: without this each would wait for an acknowledgement of the
    // one before.
    stream.set_nodelay(true).map_err(LinkError::Dial)?;
    let (from, mut out) = stream.into_split();
    let mut frames = Frames::new(from, HANDSHAKE_BYTES_MAX);
    let caller =
        Caller::Peer { node: identity.node, incarnation: identity.incarnation, target: peer };
    exchange_hello(&mut frames, &mut out, &identity.cluster, caller).await.and_then(|(node, _)| {
        // The address may have been given to another node; messages for this peer must not reach
        // it.
        if node == peer { Ok((frames, out)) } else { Err(LinkError::WrongNode(node)) }
    })
}

async fn exchange_hello<R: tokio::io::AsyncRead + Unpin>(
    frames: &mut Frames<R>,
    out: &mut (impl AsyncWrite + Unpin),
    cluster: &str,
    caller: Caller,
) -> Result<(NodeId, Incarnation), LinkError> {
    write_value(out, &Hello { cluster: cluster.to_owned(), caller }, IO_TIMEOUT).await?;
    match frames.next::<Welcome>(IO_TIMEOUT).await? {
        None => Err(LinkError::Closed),
        Some(Welcome::Refused { reason }) => Err(LinkError::Refused(reason)),
        Some(Welcome::Welcome { node, incarnation }) => Ok((node, incarnation)),
    }
}
