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

use super::link::{Identity, PATIENCE};
use super::packet::{Caller, ClientEcho, ClientPacket, Hello, PeerEcho, PeerPacket, Welcome};
use super::serve::Serve;
use super::stream::{FRAME_BYTES_MAX, Frames, GREETING_BYTES_MAX, Pipe, StreamError, say, write};
use crate::id::{Incarnation, NodeId, RequestId};

/// Connections at one time that have not said yet whose they are. They have [`PATIENCE`] for that, and at most
/// [`GREETING_BYTES_MAX`] of memory.
const STRANGERS_MAX: usize = 256;

/// Clients at one time: with [`FRAME_BYTES_MAX`] a bound on their memory.
pub(super) const CLIENTS_MAX: usize = 320;

/// Connections at one time for each peer: the newest, and those that it replaces and that are not gone yet.
const CONNECTIONS_OF_A_PEER_MAX: usize = 4;

/// Answers that a client has not read take at most this much memory (8 MiB: two of the longest).
const ANSWERS_BYTES_MAX: usize = 8 << 20;

/// A peer says something at least this often.
const PEER_SILENCE: Duration = Duration::from_secs(10);

/// A client may keep a connection that it does not use.
const CLIENT_SILENCE: Duration = Duration::from_secs(600);

/// Lines about bad connections in one second.
const COMPLAINTS_A_SECOND: u32 = 10;

/// What comes in.
pub(super) enum Arrival<N: Serve> {
    Letter {
        from: NodeId,
        number: u64,
        message: N::Message,
    },
    Ask {
        id: RequestId,
        request: N::Request,
        pipe: Arc<Pipe>,
    },
    Status {
        pipe: Arc<Pipe>,
    },
    /// This client has hung up.
    Gone {
        pipe: Arc<Pipe>,
    },
}

/// The listening side of a node.
pub(super) struct Door<N: Serve> {
    pub(super) listener: TcpListener,
    pub(super) arrive: mpsc::Sender<Arrival<N>>,
}

/// What all connections share.
struct House<N: Serve> {
    identity: Identity,
    peers: BTreeSet<NodeId>,
    arrive: mpsc::Sender<Arrival<N>>,
    /// The latest life of each peer, and how to end its present connection.
    present: Mutex<BTreeMap<NodeId, (Incarnation, Arc<Notify>)>>,
    complaints: Mutex<Complaints>,
    strangers: Arc<Semaphore>,
    clients: Semaphore,
    // Apart from the clients: who only keeps a connection must not keep out those who decide.
    of_peers: Semaphore,
}

/// What was said in this second, and what was not.
struct Complaints {
    since: Instant,
    said: u32,
    kept_back: u64,
}

impl<N: Serve> Door<N> {
    /// Lets people in for as long as the task lives.
    pub(super) async fn keep(self, identity: Identity, peers: BTreeSet<NodeId>) {
        let complaints = Mutex::new(Complaints { since: Instant::now(), said: 0, kept_back: 0 });
        let present = Mutex::default();
        let of_peers = Semaphore::new(peers.len() * CONNECTIONS_OF_A_PEER_MAX);
        let (strangers, clients) = (Arc::new(Semaphore::new(STRANGERS_MAX)), Semaphore::new(CLIENTS_MAX));
        let arrive = self.arrive;
        let house =
            Arc::new(House { identity, peers, arrive, present, complaints, strangers, clients, of_peers });
        let mut inside = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(left) = inside.join_next() => {
                    pass_on(left);
                    continue;
                }
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: those inside have to leave first.
                    tracing::warn!(node = %house.identity.node, "cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(stranger) = Arc::clone(&house.strangers).try_acquire_owned() else {
                house.complain(&format_args!(
                    "connection from {from} dropped: there are {STRANGERS_MAX} already that say nothing"
                ));
                continue;
            };
            inside.spawn(Arc::clone(&house).host(stream, from, stranger));
        }
    }
}

/// Whoever talks nonsense ends their connection; a panic is our own, and not to be lived with.
fn pass_on(left: Result<(), JoinError>) {
    if let Err(failure) = left
        && let Ok(panic) = failure.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// Why somebody was shown out.
#[derive(Debug, thiserror::Error)]
enum Rude {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("{0}")]
    Refused(String),
}

impl<N: Serve> House<N> {
    async fn host(self: Arc<Self>, stream: TcpStream, from: SocketAddr, stranger: OwnedSemaphorePermit) {
        if let Err(rude) = self.listen_to(stream, stranger).await {
            self.complain(&format_args!("connection from {from} dropped: {rude}"));
        }
    }

    /// One line for each, but only so many in a second: a flood of bad connections is no reason to fill a disk.
    fn complain(&self, what: &dyn std::fmt::Display) {
        let mut complaints = self.complaints.lock().expect("nobody panics while holding this lock");
        if complaints.since.elapsed() >= Duration::from_secs(1) {
            if complaints.kept_back > 0 {
                tracing::warn!(node = %self.identity.node, "and {} more like it", complaints.kept_back);
            }
            *complaints = Complaints { since: Instant::now(), said: 0, kept_back: 0 };
        }
        if complaints.said < COMPLAINTS_A_SECOND {
            complaints.said += 1;
            tracing::warn!(node = %self.identity.node, "{what}");
        } else {
            complaints.kept_back += 1;
        }
    }

    async fn listen_to(&self, stream: TcpStream, stranger: OwnedSemaphorePermit) -> Result<(), Rude> {
        stream.set_nodelay(true).map_err(StreamError::from)?;
        let (from, mut out) = stream.into_split();
        let mut frames = Frames::new(from, GREETING_BYTES_MAX);
        let hello = timeout(PATIENCE, frames.next::<Hello>(PATIENCE)).await;
        let Some(hello) = hello.map_err(|_| StreamError::Silent(PATIENCE))?? else { return Ok(()) };
        let _room = match self.check(&hello).and_then(|()| self.room_for(hello.caller)) {
            Ok(room) => room,
            Err(why) => {
                say(&mut out, &Welcome::Refused { why: why.clone() }, PATIENCE).await?;
                return Err(Rude::Refused(why));
            }
        };
        drop(stranger);
        let Identity { node, life, .. } = self.identity;
        say(&mut out, &Welcome::Welcome { node, life }, PATIENCE).await?;
        frames.set_limit(FRAME_BYTES_MAX);
        match hello.caller {
            Caller::Client => self.hear_client(frames, out).await,
            Caller::Peer { node, life, .. } => self.hear_peer(node, life, frames, out).await,
        }
    }

    fn check(&self, hello: &Hello) -> Result<(), String> {
        let cluster = &self.identity.cluster;
        if hello.cluster != **cluster {
            return Err(format!("{:?} is not cluster {cluster:?}", hello.cluster));
        }
        let Caller::Peer { node, wanted, .. } = hello.caller else { return Ok(()) };
        let me = self.identity.node;
        if wanted != me {
            return Err(format!("{node} wants {wanted}, this is {me}"));
        }
        if node == me || !self.peers.contains(&node) {
            return Err(format!("{node} is no peer of {me}"));
        }
        Ok(())
    }

    fn room_for(&self, caller: Caller) -> Result<SemaphorePermit<'_>, String> {
        let me = self.identity.node;
        match caller {
            Caller::Client => self.clients.try_acquire().map_err(|_| {
                format!("{me} has {CLIENTS_MAX} clients already; try again when some have left")
            }),
            Caller::Peer { node, .. } => {
                self.of_peers.try_acquire().map_err(|_| format!("{me} is still letting go of {node}"))
            }
        }
    }

    async fn hear_peer(
        &self,
        peer: NodeId,
        life: Incarnation,
        mut frames: Frames<OwnedReadHalf>,
        mut out: OwnedWriteHalf,
    ) -> Result<(), Rude> {
        let replaced = self.seat(peer, life)?;
        let mut nonsense = 0;
        loop {
            self.count_nonsense(&frames, &mut nonsense);
            let packet = tokio::select! {
                packet = frames.next::<PeerPacket<N::Message>>(PEER_SILENCE) => packet?,
                // The peer has a newer connection: this one is half open.
                () = replaced.notified() => return Ok(()),
            };
            match packet {
                None => return Ok(()),
                Some(PeerPacket::Ping) => say(&mut out, &PeerEcho::Pong, PATIENCE).await?,
                Some(PeerPacket::Letter { number, message }) => {
                    // A full queue makes the peer wait, and nobody else.
                    if self.arrive.send(Arrival::Letter { from: peer, number, message }).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// One connection for each peer: the new one replaces the old. A life that is over cannot come back.
    fn seat(&self, peer: NodeId, life: Incarnation) -> Result<Arc<Notify>, Rude> {
        let mut present = self.present.lock().expect("nobody panics while holding this lock");
        if let Some((known, notify)) = present.get(&peer) {
            if life < *known {
                let why =
                    format!("{peer} says {life}, and {known} was here: is its data directory an old copy?");
                return Err(Rude::Refused(why));
            }
            notify.notify_one();
        }
        let notify = Arc::new(Notify::new());
        present.insert(peer, (life, Arc::clone(&notify)));
        Ok(notify)
    }

    async fn hear_client(&self, frames: Frames<OwnedReadHalf>, out: OwnedWriteHalf) -> Result<(), Rude> {
        let pipe = Arc::new(Pipe::new(ANSWERS_BYTES_MAX));
        let heard = tokio::select! {
            heard = self.hear_requests(frames, &pipe) => heard,
            // Ends when the pipe is closed: by the driver, if it is full.
            written = write_answers(&pipe, out) => written.map_err(Rude::from),
        };
        pipe.close();
        // If the node is gone, nobody has to know.
        let _ = self.arrive.send(Arrival::Gone { pipe }).await;
        heard
    }

    /// Whole frames without sense are dropped, and the connection goes on.
    fn count_nonsense(&self, frames: &Frames<OwnedReadHalf>, known: &mut u64) {
        if frames.nonsense() > *known {
            self.complain(&format_args!("dropped {} frames that make no sense", frames.nonsense() - *known));
            *known = frames.nonsense();
        }
    }

    async fn hear_requests(&self, mut frames: Frames<OwnedReadHalf>, pipe: &Arc<Pipe>) -> Result<(), Rude> {
        let mut nonsense = 0;
        loop {
            self.count_nonsense(&frames, &mut nonsense);
            let arrival = match frames.next::<ClientPacket<N::Request>>(CLIENT_SILENCE).await? {
                None => return Ok(()),
                Some(ClientPacket::Ask { id, request }) => {
                    Arrival::Ask { id, request, pipe: Arc::clone(pipe) }
                }
                Some(ClientPacket::Status) => Arrival::Status { pipe: Arc::clone(pipe) },
                Some(ClientPacket::Ping) => {
                    pipe.put(&ClientEcho::<N::Response>::Pong);
                    continue;
                }
            };
            if self.arrive.send(arrival).await.is_err() {
                return Ok(());
            }
        }
    }
}

async fn write_answers(pipe: &Pipe, mut out: OwnedWriteHalf) -> Result<(), StreamError> {
    let mut bytes = Vec::new();
    while pipe.take(&mut bytes).await {
        write(&mut out, &bytes, PATIENCE).await?;
    }
    Ok(())
}
