//! Results of a client: the outcome of a transaction, or why there is none.

use super::RequestHandle;
use crate::commit::{AbortReason, Reads};
use stormglass_node::id::NodeId;

/// The result of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum TxResult {
    /// All operations are applied, exactly once and permanently.
    Committed {
        /// The attempt that was committed.
        handle: RequestHandle,
        /// The values of its reads, in the order of the operations. `None` if the node has
        /// restarted since.
        reads: Option<Reads>,
    },
    /// No operation is applied, and none ever will be, in any attempt.
    Aborted {
        /// The last attempt.
        handle: RequestHandle,
        /// Why the last attempt was aborted.
        reason: AbortReason,
    },
    /// The last attempt is committed or aborted, and no answer arrived in time, or the node has
    /// forgotten it. Earlier attempts were aborted.
    Unknown {
        /// The attempt to query.
        handle: RequestHandle,
        reason: UnknownReason,
    },
}

/// Why an outcome is unknown: the remedies differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnknownReason {
    /// No answer arrived in time; the request may not have arrived either.
    #[error("no answer in time")]
    NoAnswer,
    /// The node has answered that it does not know: undecided, forgotten, or never received.
    #[error("the node has no outcome for it: undecided, forgotten or never received")]
    NotKnown,
}

/// Why a client has no result at all.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum ClientError {
    /// No node answers at this address.
    #[error("no node answers at {address}: {reason}")]
    Unreachable {
        address: String,
        /// The last failure.
        reason: String,
    },
    /// The node is of another cluster, or not a node.
    #[error("{address} refuses: {reason}")]
    Refused { address: String, reason: String },
    /// The request was rejected, because the node is shutting down or overloaded.
    #[error("{address} rejected the request: it is {reason}; nothing was done")]
    Rejected { address: String, reason: &'static str },
    /// The node could not decode the request, or it is too long.
    #[error("{address} cannot read the request: {reason}. Nothing was done")]
    Undecodable {
        address: String,
        /// The error of its decoder, or the limit.
        reason: String,
    },
    /// The request was sent to another node.
    #[error("{handle} belongs to {}, but {address} is {node}", handle.node)]
    WrongNode {
        handle: RequestHandle,
        /// The address that was queried.
        address: String,
        /// The node at that address.
        node: NodeId,
    },
    /// The status does not decode.
    #[error("the status of {address} cannot be read: {reason}")]
    Malformed { address: String, reason: String },
}
