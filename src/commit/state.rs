//! Everything that a life leaves to the next one: what a snapshot holds, and what the log adds to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::end_mark::{EndedTransactions, Position};
use super::op::Key;
use super::part::{Part, Participants};
use super::record::Record;
use super::request::RequestNumber;
use crate::id::{Incarnation, NodeId, RequestId, TxId};

/// The durable state of a node. Canonical: equal states have equal fields and equal encodings.
///
/// Snapshot plus rest of the log is this, too: [`State::apply`] adds one record. Only three things change without
/// a record and live in snapshots alone: words heard (`ended`), names forgotten (`clients[..].floor`), and the
/// outcomes that words allow to forget. Aborts by a coordinator leave nothing: they are presumed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The life that wrote it.
    pub incarnation: Incarnation,
    /// The values, with everything applied whose COMMIT or COMMITTED is in the log up to here.
    pub values: BTreeMap<Key, i64>,
    /// What is in doubt here; its locks follow from it. Sorted by transaction.
    pub prepared: Vec<Prepared>,
    /// Terminal outcomes as participant, kept until `ended` covers them. Sorted by transaction.
    pub outcomes: Vec<KnownOutcome>,
    /// Decided as coordinator and not acknowledged by all. Sorted by transaction.
    pub committing: Vec<Committing>,
    /// What is known of other coordinators. Sorted by coordinator; those never heard of are absent.
    pub ended: Vec<EndedTransactions>,
    /// Names of committed requests, and floors. Sorted by client; clients of whom nothing is known are absent.
    pub clients: Vec<ClientHistory>,
}

/// A vote that has been or may be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The transaction.
    pub tx: TxId,
    /// The request behind it.
    pub request: RequestId,
    /// What was promised.
    pub part: Part,
}

/// How a transaction ended at a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownOutcome {
    /// The transaction.
    pub tx: TxId,
    /// The request behind it.
    pub request: RequestId,
    /// How.
    pub decision: Decision,
}

/// One or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Decision {
    /// All of it.
    Committed,
    /// None of it.
    Aborted,
}

/// A decision that not all subordinates have acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committing {
    /// The transaction.
    pub tx: TxId,
    /// The request behind it.
    pub request: RequestId,
    /// All participants; who has acknowledged is not recorded.
    pub participants: Participants,
}

/// What is remembered of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHistory {
    /// [`RequestId::client`].
    pub client: u64,
    /// At or below this, names may have been forgotten. (0, 0) if none have.
    pub floor: RequestNumber,
    /// The committed requests above the floor, with their transactions. Sorted by turn.
    pub committed: Vec<(RequestNumber, TxId)>,
}

impl State {
    /// Replays one record.
    ///
    /// # Panics
    /// If the record cannot follow what came before: logs are checksummed and chained, so that is our own bug.
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
        let ended = self.ended.iter().find(|ended| ended.coordinator == known.tx.coordinator);
        if ended.is_some_and(|ended| ended.contains(Position::of(known.tx))) {
            return;
        }
        let at = self.outcomes.partition_point(|other| other.tx < known.tx);
        self.outcomes.insert(at, known);
    }
}

/// Does `ops` to `values`, in order. Bounds were checked when the keys were locked, and locks have kept them.
///
/// # Panics
/// If a sum overflows, which was checked, too.
pub(crate) use crate::store::apply_ops;
