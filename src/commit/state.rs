//! The durable state of a node: what a snapshot holds, and how the log changes it.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
/// requests forgotten (`clients` and `forgotten_below`), and the outcomes that end marks allow to
/// forget. Aborts by a coordinator leave nothing: they are presumed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The node that wrote it; `None` in format 1.
    pub owner: Option<NodeId>,
    /// The incarnation that wrote it.
    pub incarnation: Incarnation,
    /// The incarnations before it, in ascending order: those that a peer may remember instead of
    /// it.
    pub ancestors: Vec<Incarnation>,
    /// If the node began again with an empty disk: the last incarnation whose records are lost.
    pub lost: Incarnation,
    /// The incarnations of peers that have said Hello. Sorted by node; others are absent.
    pub peers: Vec<KnownPeer>,
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
    /// Ids of committed requests, and floors, by [`RequestId::client`].
    pub clients: BTreeMap<u64, ClientHistory>,
    /// A request that is addressed to a position of this node below this one may have been executed
    /// and forgotten, unless it is in `clients`.
    pub forgotten_below: Position,
}

/// What a node remembers of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct KnownPeer {
    pub peer: NodeId,
    /// The last incarnation that was welcomed.
    pub incarnation: Incarnation,
    /// The number of records that the peer's log had at least, over all incarnations.
    pub log_position: u64,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHistory {
    /// Requests at or below this number may have been forgotten. (0, 0) if none were.
    pub floor: RequestNumber,
    /// Above the positions to which its committed requests were addressed. Clients are forgotten in
    /// this order.
    pub last_use: Position,
    /// The committed requests above the floor, with their transactions. Sorted by number.
    pub committed: Vec<(RequestNumber, TxId)>,
}

/// The first number of an encoded state of format 2. In format 1 that is the number of an
/// incarnation, which is neither 0 nor the greatest number.
const IS_FORMAT_2: u32 = 0;

/// The first number of an encoded state of format 3.
const IS_FORMAT_3: u32 = u32::MAX;

/// The fields of a state, with the mark before them.
const ENCODED_FIELDS: usize = 13;

/// A [`ClientHistory`] in formats 1 and 2.
#[derive(Deserialize)]
struct ClientHistory2 {
    floor: RequestNumber,
    committed: Vec<(RequestNumber, TxId)>,
}

impl ClientHistory2 {
    /// The same in format 3. Its requests below the floor were addressed to unknown positions of
    /// `incarnation` or earlier ones.
    fn upgraded(self, incarnation: Incarnation) -> ClientHistory {
        let ClientHistory2 { floor, committed } = self;
        let last_use = Position { incarnation, serial: u64::MAX };
        ClientHistory { floor, last_use, committed }
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Every field by name: the compiler asks for a new one here.
        let State {
            owner,
            incarnation,
            ancestors,
            lost,
            peers,
            values,
            prepared,
            outcomes,
            committing,
            ended,
            clients,
            forgotten_below,
        } = self;
        let mut fields = serializer.serialize_tuple(ENCODED_FIELDS)?;
        fields.serialize_element(&IS_FORMAT_3)?;
        fields.serialize_element(owner)?;
        fields.serialize_element(incarnation)?;
        fields.serialize_element(ancestors)?;
        fields.serialize_element(lost)?;
        fields.serialize_element(peers)?;
        fields.serialize_element(values)?;
        fields.serialize_element(prepared)?;
        fields.serialize_element(outcomes)?;
        fields.serialize_element(committing)?;
        fields.serialize_element(ended)?;
        fields.serialize_element(clients)?;
        fields.serialize_element(forgotten_below)?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<State, D::Error> {
        deserializer.deserialize_tuple(ENCODED_FIELDS, StateVisitor)
    }
}

struct StateVisitor;

impl<'de> Visitor<'de> for StateVisitor {
    type Value = State;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the state of a node")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<State, A::Error> {
        let mut state = State::default();
        let first: u32 = next(&mut fields)?;
        if first == IS_FORMAT_2 || first == IS_FORMAT_3 {
            state.owner = next(&mut fields)?;
            state.incarnation = next(&mut fields)?;
            state.ancestors = next(&mut fields)?;
            state.lost = next(&mut fields)?;
            state.peers = next(&mut fields)?;
        } else {
            state.incarnation = Incarnation::numbered(first);
        }
        state.values = next(&mut fields)?;
        state.prepared = next(&mut fields)?;
        state.outcomes = next(&mut fields)?;
        state.committing = next(&mut fields)?;
        state.ended = next(&mut fields)?;
        if first == IS_FORMAT_3 {
            state.clients = next(&mut fields)?;
            state.forgotten_below = next(&mut fields)?;
        } else {
            let clients: BTreeMap<u64, ClientHistory2> = next(&mut fields)?;
            let upgraded = clients.into_iter();
            let upgraded = upgraded.map(|(id, client)| (id, client.upgraded(state.incarnation)));
            state.clients = upgraded.collect();
        }
        Ok(state)
    }
}

fn next<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(fields: &mut A) -> Result<T, A::Error> {
    fields.next_element()?.ok_or_else(|| A::Error::custom("a field is missing"))
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
            Record::Met { peer, incarnation, log_position } => {
                let known = KnownPeer { peer, incarnation, log_position };
                match self.peers.binary_search_by_key(&peer, |known| known.peer) {
                    Ok(at) => self.peers[at] = known,
                    Err(at) => self.peers.insert(at, known),
                }
            }
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
        let client = self.clients.entry(request.client).or_default();
        // The request was addressed to a position below that of its transaction.
        client.last_use = client.last_use.max(Position::of(tx));
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

#[cfg(test)]
mod tests {
    use super::*;
    use stormglass_node::codec;

    /// The fields of format 2, in their order.
    type Format2 = (
        u32,
        Option<NodeId>,
        Incarnation,
        Vec<Incarnation>,
        Incarnation,
        Vec<KnownPeer>,
        BTreeMap<Key, i64>,
        Vec<Prepared>,
        Vec<KnownOutcome>,
        Vec<Committing>,
        Vec<EndedTransactions>,
        Vec<(u64, RequestNumber, Vec<(RequestNumber, TxId)>)>,
    );

    /// A client of whose requests only the floor is left may have addressed the last of them to any
    /// position of an incarnation so far: if that position is not known to be forgotten with the
    /// client, the outcome "aborted" would be a guess.
    #[test]
    fn clients_of_format_2_were_last_used_at_the_end_of_the_incarnation_that_wrote_it() {
        let third = Incarnation::numbered(3);
        let floor = RequestNumber { serial: 5, attempt: 0 };
        let number = RequestNumber { serial: 6, attempt: 0 };
        let tx = TxId { coordinator: NodeId(1), incarnation: third, serial: 9 };
        let mut format_2: Format2 = Format2::default();
        format_2.1 = Some(NodeId(1));
        format_2.2 = third;
        format_2.11 = vec![(7, floor, vec![]), (8, floor, vec![(number, tx)])];
        let state: State = codec::decode(&codec::encode(&format_2)).expect("a state");
        let last_use = Position { incarnation: third, serial: u64::MAX };
        let expected = State {
            owner: Some(NodeId(1)),
            incarnation: third,
            clients: BTreeMap::from([
                (7, ClientHistory { floor, last_use, committed: vec![] }),
                (8, ClientHistory { floor, last_use, committed: vec![(number, tx)] }),
            ]),
            ..State::default()
        };
        assert_eq!(state, expected);
        assert_eq!(codec::decode::<State>(&codec::encode(&state)), Ok(expected));
    }
}
