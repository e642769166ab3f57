//! Configuration of a node.

use stormglass_node::id::{Incarnation, Micros, NodeId};

/// The same for every incarnation of a node; `nodes` is the same for all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// All nodes of the cluster, in any order. Operations on other nodes are refused, messages from
    /// them dropped.
    pub nodes: Vec<NodeId>,
    /// Nodes that an operator has declared lost for good: nothing is expected of them, and a new
    /// incarnation counts them among the peers that remember it.
    pub lost: Vec<NodeId>,
    /// Incarnations that peers remember and of which the disk of this node knows nothing: an
    /// operator has accepted that what they did is lost. On an empty disk the node begins after the
    /// last of them.
    pub replaces: Vec<Incarnation>,
    /// How long a coordinator waits for votes, a participant for a lock, and a participant that
    /// voted Yes for the decision before it inquires. At least 1 us. To avoid aborts without
    /// faults: longer than the longest lock wait + 2 message delays + 4 syncs.
    pub vote_timeout: Micros,
    /// After how long an unanswered message is first resent; the interval doubles each time up to
    /// `retry_max`. At least 1 us. To avoid needless resends: longer than 2 message delays + 2
    /// syncs.
    pub retry_first: Micros,
    /// The longest interval between two resends. At least `retry_first`.
    pub retry_max: Micros,
    /// How many answered requests a coordinator remembers for each client that does not acknowledge
    /// outcomes. At least 1.
    pub requests_kept: usize,
    /// How many requests of all clients together, and how many clients. Beyond, the client that has
    /// sent nothing for longest is forgotten: a copy of one of its requests that arrives later is
    /// not executed, and its outcome is unknown. At least 1.
    pub requests_kept_in_total: usize,
    /// The length of the log at which it is compacted. At least 1.
    pub compact_at_bytes: u64,
}

impl Config {
    /// Values for a local network and a disk that syncs within milliseconds.
    pub fn new(nodes: impl IntoIterator<Item = NodeId>) -> Config {
        Config {
            nodes: nodes.into_iter().collect(),
            lost: Vec::new(),
            replaces: Vec::new(),
            // Both are far above the message delays and syncs that their documentation adds up.
            vote_timeout: Micros::from_millis(2_000),
            retry_first: Micros::from_millis(500),
            retry_max: Micros::from_millis(2_000),
            requests_kept: 1_000,
            // 50 MB and the values that they read, and with 10,000 transactions a second ten
            // seconds: a client that stops waiting for an answer asks for the outcome earlier.
            requests_kept_in_total: 100_000,
            compact_at_bytes: 4 << 20,
        }
    }
}
