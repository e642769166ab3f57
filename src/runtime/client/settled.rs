//! What a client is told: what became of a wish, or why there is no result.

use super::Name;
use crate::commit::{Reads, Why};
use crate::id::NodeId;

/// What became of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// All of it is done, once and for ever, under this name.
    Committed {
        /// Under which name.
        name: Name,
        /// What its reads found, in the order of the operations. `None` if the node has restarted since.
        reads: Option<Reads>,
    },
    /// None of it is done, and none ever will be, whatever attempt one looks at.
    Aborted {
        /// The last attempt.
        name: Name,
        /// Why that was refused.
        why: Why,
    },
    /// One or the other, and nobody has said which in time. Earlier attempts, if there were any, were aborted.
    Unknown {
        /// What to ask for.
        name: Name,
        /// Whether the node was heard at all.
        doubt: Doubt,
    },
}

/// Why it is not known what became of a wish: what helps differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// No answer came in time; the request may not even have arrived.
    Silence,
    /// The node has answered that it does not know: not yet, or no longer, or it was never asked.
    Ignorance,
}

/// Why a client got no result of any kind.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("no node answers at {address}: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// The last failure.
        why: String,
    },
    /// Another cluster, or something that is no node.
    #[error("{address} refuses: {why}")]
    Refused {
        /// Who.
        address: String,
        /// Why.
        why: String,
    },
    /// The request was not looked at, because the node is shutting down or has too much to do.
    #[error("{address} takes no requests: it is {why}; nothing was done")]
    TurnedAway {
        /// Who.
        address: String,
        /// Why.
        why: &'static str,
    },
    /// The name belongs to another node.
    #[error("{name} was asked of {}, and {address} is {node}", name.node)]
    WrongNode {
        /// Which name.
        name: Name,
        /// Who was asked now.
        address: String,
        /// Who that is.
        node: NodeId,
    },
    /// A status that cannot be read.
    #[error("the status of {address} cannot be read: {why}")]
    Malformed {
        /// Whose.
        address: String,
        /// What is wrong.
        why: String,
    },
}
