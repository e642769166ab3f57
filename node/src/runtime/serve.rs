//! What the engine needs of a node beyond the contract, and the status that an operator sees.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::stream::FRAME_BYTES_MAX;
use crate::contract::Node;
use crate::id::{Incarnation, Micros, NodeId, Time};

/// A node that the engine can run, with datagrams or [sessions](crate::contract#sessions) between
/// nodes, as [`Node::LINKS`] says. All methods are read-only: calling them changes no behaviour.
///
/// With sessions, two nodes have one connection, which the node with the lower id dials; it is the
/// session. A session ends when the connection does; when a message does not fit into its queue of
/// 4 MiB, or does not decode; and after five seconds without a byte of the peer, or in which it has
/// not taken what is written to it.
pub trait ServedNode:
    Node<Message: Send, Request: Send, Response: Send, Event: Send> + Send + 'static
{
    /// The state that `status` shows.
    type View: Serialize + DeserializeOwned + Clone + std::fmt::Debug + Send + 'static;

    /// The greatest length of the frame of a request, in bytes; a longer one is dropped as it
    /// arrives. At most [`FRAME_BYTES_MAX`].
    const REQUEST_BYTES_MAX: usize = FRAME_BYTES_MAX;

    /// The current incarnation once it is durable, `None` before. The engine connects only then. A
    /// node that does not number its incarnations returns [`Incarnation::numbered`]`(1)` in each.
    fn incarnation(&self) -> Option<Incarnation>;

    /// True once the node answers clients: it may first have to speak to its peers.
    fn is_serving(&self) -> bool {
        self.incarnation().is_some()
    }

    /// True if there is no work that a clean shutdown should wait for.
    fn is_idle(&self) -> bool;

    /// True if this message would start new work at this node. The engine drops such datagrams
    /// while the node shuts down, as if the network had lost them: otherwise peers could keep it
    /// from ever being idle. With sessions it drops none, since no message of a session may be
    /// missing.
    fn starts_new_work(&self, _message: &Self::Message) -> bool {
        false
    }

    /// The state at `now`.
    fn view(&self, now: Time) -> Self::View;
}

/// What `stormglass status` shows of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status<V> {
    /// The node that answers.
    pub node: NodeId,
    /// The name of its cluster.
    pub cluster: String,
    /// Time since the start, in microseconds.
    pub up: Micros,
    /// Resident memory of the process in bytes; 0 where the system does not report it.
    pub memory_bytes: u64,
    /// True while it shuts down.
    pub closing: bool,
    /// Requests of connected clients without an answer yet.
    #[serde(rename = "asked")]
    pub pending_requests: u64,
    /// Counters and files of the disk.
    pub disk: DiskStatus,
    /// One entry per peer, in ascending order; empty until the incarnation is durable.
    pub links: Vec<LinkStatus>,
    /// The state of the node itself.
    pub view: V,
}

/// The disk: counters since the start of the incarnation, and the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Barriers completed: each is an fdatasync of a file or an fsync of the directory.
    pub syncs: u64,
    /// Directory barriers issued.
    pub directory_syncs: u64,
    /// Bytes appended.
    pub bytes: u64,
    /// For how long the disk has been silent: the time since the oldest barrier that is pending was
    /// issued, in microseconds; 0 if none is.
    #[serde(default)]
    pub silent: Micros,
    /// The files that have a [`FileId`](crate::contract::FileId), ordered by name, as the
    /// operations so far have left them. The disk is not asked: it may hang.
    pub files: Vec<FileStatus>,
}

impl DiskStatus {
    /// A disk that has been silent for longer is slow or hangs: 1 s.
    pub const SILENT_MAX: Micros = Micros(1_000_000);
}

/// One file of the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct FileStatus {
    pub name: String,
    pub bytes: u64,
}

/// The outgoing connection to one peer; with sessions the present session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct LinkStatus {
    pub peer: NodeId,
    /// True while the handshake is complete and the connection is open; with sessions, between the
    /// inputs `Connected` and `Disconnected`.
    pub connected: bool,
    /// Bytes that wait to be sent.
    pub queued_bytes: u64,
    /// Messages dropped because the queue was full; with sessions, also those that followed until
    /// the node learnt of the end.
    pub dropped: u64,
}
