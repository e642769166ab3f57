//! What is said over a connection: each value in a [frame](crate::wire) of its own.
//!
//! Whoever dials speaks first and says [`Hello`]; the other side answers [`Welcome`], or hangs up. A connection between
//! nodes carries messages one way, from who dialled; the other way has a connection of its own, so nobody has to
//! agree on who keeps which when both dial at once.

use serde::{Deserialize, Serialize};

use crate::id::{Incarnation, NodeId, RequestId};

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Both sides must be of the same cluster.
    pub(crate) cluster: String,
    pub(crate) caller: Caller,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Caller {
    Peer {
        node: NodeId,
        /// Durable before it is spoken of.
        incarnation: Incarnation,
        /// Who is meant: a mistaken address must not make one node pass for another.
        target: NodeId,
    },
    Client,
}

/// The answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Welcome {
    Welcome { node: NodeId, incarnation: Incarnation },
    Refused { reason: String },
}

/// From who has dialled, between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PeerPacket<M> {
    /// `number` differs for all letters that a node ever sends: so an event log says which one was received.
    Message {
        number: u64,
        message: M,
    },
    Ping,
}

/// The other way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PeerReply {
    Pong,
}

/// From a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ClientPacket<R> {
    Request { id: RequestId, request: R },
    Status,
    Ping,
}

/// Why a request was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rejected {
    /// The node is shutting down.
    Closing,
    /// Too many requests are under way.
    Busy,
}

/// To a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ClientReply<R> {
    Answer {
        id: RequestId,
        response: R,
    },
    /// This one was not looked at.
    Rejected {
        id: RequestId,
        reason: Rejected,
    },
    /// As JSON: a client of another version can still show it.
    Status {
        json: String,
    },
    Pong,
}
