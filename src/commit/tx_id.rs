//! The id of a transaction.

use std::fmt;

use serde::{Deserialize, Serialize};
use stormglass_node::{Incarnation, NodeId};

/// A transaction, unique for all time without a persisted counter: the serial restarts with each
/// incarnation of the coordinator, and the incarnation is part of the id. Ordered by coordinator,
/// then incarnation, then serial. Prints as `n0.1#7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TxId {
    /// The node that decides.
    pub coordinator: NodeId,
    /// The incarnation of the coordinator in which the transaction began.
    pub incarnation: Incarnation,
    /// Counts from 1 within that incarnation.
    pub serial: u64,
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}#{}", self.coordinator, self.incarnation.0, self.serial)
    }
}
