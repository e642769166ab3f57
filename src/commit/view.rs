//! What an operator sees of a node. Reading it changes nothing.

use serde::{Deserialize, Serialize};

use super::op::Key;
use super::tx_id::TxId;
use stormglass_node::id::{Incarnation, Micros, NodeId, RequestId};
use stormglass_node::wal::Wal;

/// The greatest length of a list: a view has to fit into a frame.
pub(super) const LISTED_MAX: usize = 1_000;

/// The state of a node at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct View {
    /// The current incarnation.
    #[serde(rename = "life")]
    pub incarnation: Incarnation,
    /// Whether the boot is durable and enough peers remember the incarnation: before that the node
    /// answers nobody.
    pub ready: bool,
    /// Peers that have not confirmed that they remember the incarnation.
    #[serde(default)]
    pub unconfirmed: Vec<NodeId>,
    /// Requests begun in this incarnation.
    pub begun: u64,
    /// Coordinated transactions that are undecided.
    pub collecting: u64,
    /// Coordinated transactions whose COMMIT is not durable yet.
    pub deciding: u64,
    /// Coordinated transactions that are committed and not acknowledged by all.
    pub committing: u64,
    /// Participations that wait for locks.
    pub waiting: u64,
    /// Participations that are prepared and do not know the decision, the first 1,000 of them.
    pub in_doubt: Vec<InDoubt>,
    /// How many there are.
    #[serde(default)]
    pub in_doubt_total: u64,
    /// Outcomes kept for other participants that may be in doubt.
    pub outcomes: u64,
    /// Whether no work is in progress that a clean shutdown would wait for.
    pub idle: bool,
    /// Clients with remembered requests.
    pub clients: u64,
    /// Keys with a value.
    pub keys: u64,
    /// In the order of keys, the first 1,000 of them.
    pub locks: Vec<HeldLock>,
    /// How many there are.
    #[serde(default)]
    pub locks_total: u64,
    /// The log in this incarnation.
    pub log: LogView,
}

/// A transaction in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct InDoubt {
    pub tx: TxId,
    #[serde(rename = "name")]
    pub request: RequestId,
    /// Time since it was locked, or since this incarnation began.
    pub age: Micros,
    pub coordinator: NodeId,
    /// Other participants, which may know the outcome.
    pub peers: Vec<NodeId>,
    /// Whether PREPARED is durable, and Yes was sent.
    pub voted: bool,
    /// The number of inquiries sent.
    #[serde(rename = "asked")]
    pub inquiries: u32,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct HeldLock {
    pub key: Key,
    pub holder: TxId,
    /// False for locks shared by readers.
    pub exclusive: bool,
}

/// The state of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// The number of the current segment.
    pub segment: u32,
    /// The length of the current segment.
    pub segment_bytes: u64,
    /// The last record appended, counted from the first one ever.
    pub appended: u64,
    /// The last record that is durable.
    pub durable: u64,
    /// Records appended in this incarnation.
    pub records: u64,
    /// Records that were forced, that is, an effect depended on their durability.
    pub forced: u64,
    /// Barriers issued for records.
    pub barriers: u64,
    /// Snapshots written in this incarnation, including that of the boot.
    pub snapshots: u64,
    /// Bytes of these snapshots.
    pub snapshot_bytes: u64,
}

impl LogView {
    pub(super) fn new(wal: &Wal) -> LogView {
        let stats = wal.stats();
        LogView {
            segment: wal.segment_number(),
            segment_bytes: wal.segment_bytes(),
            appended: wal.appended(),
            durable: wal.durable(),
            records: stats.records,
            forced: stats.forced,
            barriers: stats.log_barriers,
            snapshots: stats.snapshots,
            snapshot_bytes: stats.snapshot_bytes,
        }
    }
}
