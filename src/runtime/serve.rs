//! What the engine asks of a node beyond the contract, and what it tells an operator.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::contract::Node;
use crate::id::{Incarnation, Micros, NodeId, Time};

/// A node that can be served: it can be looked at. Nothing that it does depends on being looked at.
pub trait ServedNode:
    Node<Message: Send, Request: Send, Response: Send, Event: Send> + Send + 'static
{
    /// What an operator may want to see.
    type View: Serialize + DeserializeOwned + Clone + std::fmt::Debug + Send + 'static;

    /// The present life, once it is durable: only then is it spoken of.
    fn incarnation(&self) -> Option<Incarnation>;

    /// Whether nothing is under way that a clean shutdown should wait for.
    fn is_idle(&self) -> bool;

    /// Whether this message would begin something here that would not be under way without it. A node that is
    /// shutting down lets such messages lie, like letters that are lost: otherwise the others could keep it from ever being
    /// idle.
    fn starts_new_work(&self, message: &Self::Message) -> bool;

    /// What is under way, at `now`.
    fn view(&self, now: Time) -> Self::View;
}

/// What `stormglass status` shows of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status<V> {
    /// Who.
    pub node: NodeId,
    /// Of which cluster.
    pub cluster: String,
    /// Since when, in microseconds.
    pub up: Micros,
    /// Memory of the process that is in use, in bytes; 0 where the system does not tell.
    pub memory_bytes: u64,
    /// Whether it is shutting down.
    pub closing: bool,
    /// Requests that clients wait for.
    #[serde(rename = "asked")]
    pub pending_requests: u64,
    /// What the disk thread has done.
    pub disk: DiskStatus,
    /// Every peer.
    pub links: Vec<LinkStatus>,
    /// What the node itself says.
    pub view: V,
}

/// What a life has done to its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Barriers completed: an fdatasync of a file or an fsync of the directory each.
    pub syncs: u64,
    /// Those of them that were for the directory.
    pub directory_syncs: u64,
    /// Bytes appended.
    pub bytes: u64,
    /// Every file there is.
    pub files: Vec<FileStatus>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatus {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// The way to one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Which.
    pub peer: NodeId,
    /// Whether there is a connection.
    pub connected: bool,
    /// Bytes that wait to be sent.
    pub queued_bytes: u64,
    /// Messages that found no room.
    pub dropped: u64,
}
