//! The packets of a connection: each value in a [frame](crate::wire) of its own.
//!
//! The dialling side sends [`Hello`] first; the listening side answers [`Welcome`] or closes the
//! connection. A connection between nodes carries datagrams one way, from the dialling node. The
//! other direction has its own connection, so that two nodes that dial at once need not agree on
//! which of two connections to keep. A session is one connection, dialled by the node with the
//! lower id; both sides send [`PeerPacket`]s, and a ping first.

use serde::{Deserialize, Serialize};

use crate::id::{Incarnation, NodeId, RequestId};

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Hello {
    /// Both sides must be of the same cluster.
    pub cluster: String,
    pub caller: Caller,
}

/// Who opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Caller {
    Peer {
        node: NodeId,
        /// Durable before it is sent.
        incarnation: Incarnation,
        /// The node that the caller dials: a wrong address must not pass one node off as another.
        target: NodeId,
    },
    Client,
    /// Asks for the status, in a slot of its own kind: clients cannot keep it out. Closed after ten
    /// idle seconds.
    Operator,
}

/// The answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Welcome {
    Welcome { node: NodeId, incarnation: Incarnation },
    Refused { reason: String },
}

/// Between nodes, from the dialling side; in a session from both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum PeerPacket<M> {
    /// `number` is unique among all messages of the sender: an event log shows which one was
    /// received.
    Message {
        number: u64,
        message: M,
    },
    Ping,
}

/// Between nodes, from the listening side; not in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum PeerReply {
    Pong,
}

/// From a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ClientPacket<R> {
    Request { id: RequestId, request: R },
    Status,
    Ping,
}

/// Why a request was not given to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejectReason {
    /// The node is shutting down.
    Closing,
    /// Too many requests are pending.
    Busy,
}

/// To a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ClientReply<R> {
    Answer {
        id: RequestId,
        response: R,
    },
    /// The request was not given to the node, and has no effect.
    Rejected {
        id: RequestId,
        reason: RejectReason,
    },
    /// JSON, so that a client of another version can still print it.
    Status {
        json: String,
    },
    Pong,
    /// A frame of this client did not decode or was too long; it was dropped, without effect. Which
    /// request it was is not known. The answer to at most ten frames a second.
    Undecodable {
        reason: String,
    },
}
