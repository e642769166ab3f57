//! The durable state of a node: what a snapshot holds, and how the log changes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::end_mark::{EndedTransactions, Position};
use super::op::Key;
use super::part::{Part, Participants};
use super::record::Record;
use super::request::RequestNumber;
use super::tx_id::TxId;
use stormglass_node::id::{Incarnation, NodeId, RequestId};

/// The durable state of a node. Canonical: equal states have equal fields and equal encodings.
///
/// A snapshot plus the rest of the log yields it: [`State::apply`] adds one record. Only three
/// things change without a record and are stored in snapshots alone: end marks received (`ended`),
/// request ids forgotten (`clients[..].floor`), and the outcomes that end marks allow to forget.
/// Aborts by a coordinator leave nothing: they are presumed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The incarnation that wrote it.
    pub incarnation: Incarnation,
    /// The values after every COMMIT and COMMITTED record of the log so far.
    pub values: BTreeMap<Key, i64>,
    /// The transactions with PREPARED and without an outcome; their locks follow from it. Sorted by
    /// transaction.
    pub prepared: Vec<Prepared>,
    /// Outcomes as participant, kept until `ended` covers them. Sorted by transaction.
    pub outcomes: Vec<KnownOutcome>,
    /// Transactions committed as coordinator and not acknowledged by all. Sorted by transaction.
    pub committing: Vec<Committing>,
    /// The ended transactions of other coordinators. Sorted by coordinator; those without an end
    /// mark are absent.
    pub ended: Vec<EndedTransactions>,
    /// Ids of committed requests, and floors. Sorted by client; clients without either are absent.
    pub clients: Vec<ClientHistory>,
}

/// A transaction for which a Yes was or may be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Prepared {
    pub tx: TxId,
    pub request: RequestId,
    /// The operations that this node will apply on commit.
    pub part: Part,
}

/// The outcome of a transaction at a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct KnownOutcome {
    pub tx: TxId,
    pub request: RequestId,
    pub decision: Decision,
}

/// The decision about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Decision {
    /// All operations are applied.
    Committed,
    /// No operation is applied.
    Aborted,
}

/// A committed transaction that not all subordinates have acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Committing {
    pub tx: TxId,
    pub request: RequestId,
    /// All participants. The acknowledgements received so far are not recorded.
    pub participants: Participants,
}

/// The remembered requests of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHistory {
    /// [`RequestId::client`].
    pub client: u64,
    /// Requests at or below this number may have been forgotten. (0, 0) if none were.
    pub floor: RequestNumber,
    /// The committed requests above the floor, with their transactions. Sorted by number.
    pub committed: Vec<(RequestNumber, TxId)>,
}

impl State {
    /// Replays one record.
    ///
    /// # Panics
    /// If the record cannot follow the records before it. Logs are checksummed and chained, so that
    /// is a bug of this program.
    pub fn apply(&mut self, node: NodeId, record: Record) {
        match record {
            Record::Prepared { tx, request, part } => {
                let at = self.prepared.partition_point(|known| known.tx < tx);
                self.prepared.insert(at, Prepared { tx, request, part });
            }
            Record::Commit { tx, request, part } => self.commit(node, tx, request, &part),
            Record::Committed { tx, request } => {
                let prepared = self.take_prepared(tx).expect("COMMITTED follows PREPARED");
                apply_ops(&mut self.values, prepared.part.ops());
                self.insert_outcome(KnownOutcome { tx, request, decision: Decision::Committed });
            }
            // Without PREPARED if this node aborted it because another participant inquired.
            Record::Aborted { tx, request } => {
                self.take_prepared(tx);
                self.insert_outcome(KnownOutcome { tx, request, decision: Decision::Aborted });
            }
            Record::End { tx, .. } => self.committing.retain(|committing| committing.tx != tx),
        }
    }

    fn commit(&mut self, node: NodeId, tx: TxId, request: RequestId, part: &Part) {
        apply_ops(&mut self.values, part.ops());
        self.insert_committed(tx, request);
        let participants = part.participants().clone();
        // Alone, the transaction has ended with its COMMIT.
        if participants.subordinates(node) != 0 {
            let at = self.committing.partition_point(|known| known.tx < tx);
            self.committing.insert(at, Committing { tx, request, participants });
        }
    }

    pub(super) fn insert_committed(&mut self, tx: TxId, request: RequestId) {
        let at = self.clients.partition_point(|known| known.client < request.client);
        if self.clients.get(at).is_none_or(|known| known.client != request.client) {
            let empty = ClientHistory {
                client: request.client,
                floor: RequestNumber::default(),
                committed: Vec::new(),
            };
            self.clients.insert(at, empty);
        }
        let client = &mut self.clients[at];
        let number = RequestNumber::of(request);
        // At or below the floor the request was forgotten on purpose, and stays so.
        if number > client.floor {
            let at = client.committed.partition_point(|known| known.0 < number);
            client.committed.insert(at, (number, tx));
        }
    }

    fn take_prepared(&mut self, tx: TxId) -> Option<Prepared> {
        let at = self.prepared.binary_search_by_key(&tx, |known| known.tx).ok()?;
        Some(self.prepared.remove(at))
    }

    fn insert_outcome(&mut self, known: KnownOutcome) {
        // No participant needs the outcome of a transaction that has ended.
        let ended = self.ended.iter().find(|ended| ended.coordinator == known.tx.coordinator);
        if ended.is_some_and(|ended| ended.contains(Position::of(known.tx))) {
            return;
        }
        let at = self.outcomes.partition_point(|other| other.tx < known.tx);
        self.outcomes.insert(at, known);
    }
}

/// Applies `ops` to `values`, in order. Bounds were checked when the keys were locked, and the
/// locks keep them valid.
///
/// # Panics
/// If a sum overflows, which was checked as well.
pub(crate) use crate::store::apply_ops;
