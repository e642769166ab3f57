//! The id of a transaction.

use std::fmt;

use serde::{Deserialize, Serialize};
use stormglass_node::{Incarnation, NodeId, RequestId};

/// A transaction, unique for all time without a persisted counter: the serial restarts with each
/// incarnation of the coordinator, and the incarnation with its random bits is part of the id.
/// Ordered by coordinator, then incarnation, then serial. Prints as `n0.1#7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TxId {
    /// The node that decides.
    pub coordinator: NodeId,
    /// The incarnation of the coordinator in which the transaction began.
    pub incarnation: Incarnation,
    /// Counts from 1 within that incarnation; 0 for the incarnation itself.
    pub serial: u64,
}

/// The request of a transaction 0. Clients count from 1.
pub(super) const NO_REQUEST: RequestId = RequestId { client: 0, serial: 0, attempt: 0 };

impl TxId {
    /// The transaction 0 of an incarnation, which stands for the incarnation itself.
    pub(super) fn of_incarnation(node: NodeId, incarnation: Incarnation) -> TxId {
        TxId { coordinator: node, incarnation, serial: 0 }
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}#{}", self.coordinator, self.incarnation.number(), self.serial)
    }
}
