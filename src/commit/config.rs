//! What an operator sets.

use crate::id::{Micros, NodeId};

/// The same for every life of a node, and `nodes` the same for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// All nodes of the cluster, in any order. Operations on others are refused, messages from others dropped.
    pub nodes: Vec<NodeId>,
    /// How long a coordinator waits for votes, a participant for a lock, and a Yes-voter for the decision before
    /// it asks. At least 1 us; longer than the longest lock wait + 2 delays + 4 syncs, or calm runs abort.
    pub vote_timeout: Micros,
    /// After how long a message without an answer is first repeated; doubles each time up to `retry_max`. At
    /// least 1 us; longer than 2 delays + 2 syncs, or calm runs repeat themselves.
    pub retry_first: Micros,
    /// The longest time between two repetitions. At least `retry_first`.
    pub retry_max: Micros,
    /// How many answered requests are remembered for each client that does not say what it has seen. At least 1.
    pub names_kept: usize,
    /// The log is compacted when it has grown to so many bytes. At least 1.
    pub compact_at_bytes: u64,
}

impl Config {
    /// Values that suit a local network and a disk that syncs within milliseconds.
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Config {
        Config {
            nodes: nodes.into_iter().collect(),
            vote_timeout: Micros::millis(2_000),
            retry_first: Micros::millis(500),
            retry_max: Micros::millis(2_000),
            names_kept: 1_000,
            compact_at_bytes: 4 << 20,
        }
    }
}
