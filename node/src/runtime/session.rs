//! Sessions between nodes, for protocols with [`Links::Sessions`](crate::contract::Links).
//!
//! A session is one connection, dialled by the node with the lower id, and carries the messages of
//! both nodes. So it joins one process of each, keeps the order, and ends as a whole. The driver
//! holds the present session of each peer, and drops what arrives of any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};

use super::link::{Dialler, IO_TIMEOUT, PING_EVERY, QUEUE_BYTES_MAX};
use super::listener::{Arrival, PEER_BYTES_MAX};
use super::memory::{MemoryPool, MemoryShare};
use super::packet::PeerPacket;
use super::serve::{LinkStatus, ServedNode};
use super::stream::{FRAME_BYTES_MAX, Frame, Frames, SendQueue, StreamError, write, write_value};
use crate::codec::CodecError;
use crate::id::NodeId;

/// One session with a peer, shared by the task of its connection and the driver, which compares
/// sessions by identity.
#[derive(Debug)]
pub(super) struct Session {
    queue: SendQueue,
    /// Ends the connection.
    ended: Notify,
}

impl Session {
    fn new() -> Session {
        Session { queue: SendQueue::new(QUEUE_BYTES_MAX), ended: Notify::new() }
    }

    /// Queues a message. One that does not fit ends the session, since no later one may arrive
    /// without it.
    fn send<M: Serialize>(&self, packet: &PeerPacket<M>) {
        if !self.queue.put(packet) {
            self.end();
        }
    }

    fn end(&self) {
        self.queue.discard();
        // Stores a permit if the task does not wait at the moment. A write in progress ends, too.
        self.ended.notify_one();
    }
}

/// What arrives of one session: `Connected` first, `Disconnected` last.
pub(super) enum SessionEvent<M> {
    Connected,
    Message {
        number: u64,
        message: M,
        /// Of the memory of its peer; to be held for as long as the message.
        share: Option<MemoryShare>,
    },
    Disconnected,
}

/// The session of each peer that the node has as an input `Connected` without `Disconnected`.
#[derive(Debug, Default)]
pub(super) struct Sessions(BTreeMap<NodeId, PeerSessions>);

#[derive(Debug, Default)]
struct PeerSessions {
    present: Option<Arc<Session>>,
    /// Messages that earlier sessions have dropped.
    dropped: u64,
}

impl Sessions {
    /// A peer without a session yet.
    pub(super) fn add_peer(&mut self, peer: NodeId) {
        self.0.entry(peer).or_default();
    }

    /// Makes this the present session of a peer that has none.
    pub(super) fn begin(&mut self, peer: NodeId, session: Arc<Session>) {
        self.0.entry(peer).or_default().present = Some(session);
    }

    /// Ends the present session of the peer; false if it has none.
    pub(super) fn end(&mut self, peer: NodeId) -> bool {
        let Some(sessions) = self.0.get_mut(&peer) else { return false };
        let Some(session) = sessions.present.take() else { return false };
        session.end();
        sessions.dropped += session.queue.load().1;
        true
    }

    pub(super) fn is_present(&self, peer: NodeId, session: &Arc<Session>) -> bool {
        let present = self.0.get(&peer).and_then(|sessions| sessions.present.as_ref());
        present.is_some_and(|present| Arc::ptr_eq(present, session))
    }

    /// Sends a message in the present session. Without one it is lost.
    pub(super) fn send<M: Serialize>(&self, to: NodeId, packet: &PeerPacket<M>) {
        if let Some(session) = self.0.get(&to).and_then(|sessions| sessions.present.as_ref()) {
            session.send(packet);
        }
    }

    pub(super) fn status(&self) -> Vec<LinkStatus> {
        let mut status = Vec::new();
        for (peer, PeerSessions { present, dropped }) in &self.0 {
            let load = present.as_ref().map(|session| session.queue.load());
            let (queued_bytes, dropped_now) = load.unwrap_or_default();
            let dropped = dropped + dropped_now;
            let connected = present.is_some();
            status.push(LinkStatus { peer: *peer, connected, queued_bytes, dropped });
        }
        status
    }
}

/// Why a session has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionEnd {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("closed by the other side")]
    Closed,
    #[error(
        "a message did not fit into the queue of {QUEUE_BYTES_MAX} bytes: the peer reads too slowly, \
         or the message is too long"
    )]
    QueueFull,
    #[error("a frame could not be decoded: {0}")]
    Undecodable(CodecError),
    #[error("its first frame is no ping")]
    NoPing,
    #[error("the peer has a newer connection")]
    Replaced,
}

/// Dials a peer with a higher id, and begins a session whenever it answers.
pub(super) async fn dial<N: ServedNode>(
    mut dialler: Dialler,
    arrivals_tx: mpsc::Sender<Arrival<N>>,
) {
    // One pool for all connections: what the last one has read may still wait for the node.
    let memory = MemoryPool::new(PEER_BYTES_MAX);
    let never_replaced = Notify::new();
    loop {
        let (mut frames, out) = dialler.connect().await;
        frames.set_limit(FRAME_BYTES_MAX);
        frames.set_memory(memory.clone());
        let end = run(dialler.peer(), frames, out, &never_replaced, &arrivals_tx).await;
        dialler.pause(&end.into()).await;
    }
}

/// Waits for the first ping of the side that has dialled: it has read `Welcome`, so frames pass in
/// both directions. Without it, a connection that the peer has given up would end its present
/// session.
///
/// # Errors
/// If it does not come.
pub(super) async fn confirmed<N: ServedNode>(
    frames: &mut Frames<OwnedReadHalf>,
) -> Result<(), SessionEnd> {
    match frames.next::<PeerPacket<N::Message>>(IO_TIMEOUT).await? {
        None => Err(SessionEnd::Closed),
        Some(PeerPacket::Ping) => Ok(()),
        Some(PeerPacket::Message { .. }) => Err(SessionEnd::NoPing),
    }
}

/// One session, from the handshake to the end of the connection.
pub(super) async fn run<N: ServedNode>(
    peer: NodeId,
    frames: Frames<OwnedReadHalf>,
    out: OwnedWriteHalf,
    replaced: &Notify,
    arrivals_tx: &mpsc::Sender<Arrival<N>>,
) -> SessionEnd {
    let session = Arc::new(Session::new());
    // Side by side: while the node takes no arrivals, its messages and pings still leave. Whatever
    // ends first closes the connection.
    let end = tokio::select! {
        end = receive(peer, frames, &session, arrivals_tx) => end,
        end = write_messages(&session, out) => end,
        () = session.ended.notified() => SessionEnd::QueueFull,
        () = replaced.notified() => SessionEnd::Replaced,
    };
    session.queue.discard();
    // Fails only if the node has ended.
    let event = SessionEvent::Disconnected;
    let _ = arrivals_tx.send(Arrival::Session { peer, session, event }).await;
    end
}

async fn receive<N: ServedNode>(
    peer: NodeId,
    mut frames: Frames<OwnedReadHalf>,
    session: &Arc<Session>,
    arrivals_tx: &mpsc::Sender<Arrival<N>>,
) -> SessionEnd {
    let mut event = SessionEvent::Connected;
    loop {
        let arrival = Arrival::Session { peer, session: Arc::clone(session), event };
        // A full queue delays only this peer.
        if arrivals_tx.send(arrival).await.is_err() {
            return SessionEnd::Closed;
        }
        event = match next_message::<N>(&mut frames).await {
            Ok(message) => message,
            Err(end) => return end,
        };
    }
}

async fn next_message<N: ServedNode>(
    frames: &mut Frames<OwnedReadHalf>,
) -> Result<SessionEvent<N::Message>, SessionEnd> {
    loop {
        // Both sides send a ping every second, so a peer that is silent for longer is unreachable.
        match frames.next_frame::<PeerPacket<N::Message>>(IO_TIMEOUT).await? {
            None => return Err(SessionEnd::Closed),
            // No later message may arrive without it.
            Some(Frame::Undecodable(error)) => return Err(SessionEnd::Undecodable(error)),
            // An error before it is a frame.
            Some(Frame::Oversized { .. }) | Some(Frame::Value(PeerPacket::Ping)) => {}
            Some(Frame::Value(PeerPacket::Message { number, message })) => {
                let share = frames.take_share();
                return Ok(SessionEvent::Message { number, message, share });
            }
        }
    }
}

async fn write_messages(session: &Session, mut out: OwnedWriteHalf) -> SessionEnd {
    let mut bytes = Vec::new();
    let mut ping = tokio::time::interval(PING_EVERY);
    // The first ping is written here: a timer that is due at once may still fire after a message
    // was queued.
    ping.reset();
    let mut written = write_value(&mut out, &PeerPacket::<()>::Ping, IO_TIMEOUT).await;
    loop {
        if let Err(error) = written {
            return error.into();
        }
        written = tokio::select! {
            open = session.queue.take(&mut bytes) => {
                if !open {
                    return SessionEnd::QueueFull;
                }
                write(&mut out, &bytes, IO_TIMEOUT).await
            }
            _ = ping.tick() => write_value(&mut out, &PeerPacket::<()>::Ping, IO_TIMEOUT).await,
        };
    }
}
