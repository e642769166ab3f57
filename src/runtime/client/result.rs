//! What a client is told: what became of a wish, or why there is no result.

use super::RequestHandle;
use crate::commit::{AbortReason, Reads};
use crate::id::NodeId;

/// What became of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxResult {
    /// All of it is done, once and for ever, under this name.
    Committed {
        /// Under which name.
        handle: RequestHandle,
        /// What its reads found, in the order of the operations. `None` if the node has restarted since.
        reads: Option<Reads>,
    },
    /// None of it is done, and none ever will be, whatever attempt one looks at.
    Aborted {
        /// The last attempt.
        handle: RequestHandle,
        /// Why that was refused.
        reason: AbortReason,
    },
    /// One or the other, and nobody has said which in time. Earlier attempts, if there were any, were aborted.
    Unknown {
        /// What to ask for.
        handle: RequestHandle,
        /// Whether the node was heard at all.
        reason: UnknownReason,
    },
}

/// Why it is not known what became of a wish: what helps differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownReason {
    /// No answer came in time; the request may not even have arrived.
    NoAnswer,
    /// The node has answered that it does not know: not yet, or no longer, or it was never asked.
    NotKnown,
}

/// Why a client got no result of any kind.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("no node answers at {address}: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// The last failure.
        reason: String,
    },
    /// Another cluster, or something that is no node.
    #[error("{address} refuses: {reason}")]
    Refused {
        /// Who.
        address: String,
        /// Why.
        reason: String,
    },
    /// The request was not looked at, because the node is shutting down or has too much to do.
    #[error("{address} takes no requests: it is {reason}; nothing was done")]
    Rejected {
        /// Who.
        address: String,
        /// Why.
        reason: &'static str,
    },
    /// The name belongs to another node.
    #[error("{handle} was asked of {}, and {address} is {node}", handle.node)]
    WrongNode {
        /// Which name.
        handle: RequestHandle,
        /// Who was asked now.
        address: String,
        /// Who that is.
        node: NodeId,
    },
    /// A status that cannot be read.
    #[error("the status of {address} cannot be read: {reason}")]
    Malformed {
        /// Whose.
        address: String,
        /// What is wrong.
        reason: String,
    },
}
