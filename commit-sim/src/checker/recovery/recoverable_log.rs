//! W6, W7: a node recovers the state of a prefix of its log, with every durable record.

use stormglass::commit::{Decision, Position, Record, RequestNumber, State, TxId};
use stormglass_node::{Incarnation, NodeId, codec};

use crate::property::Property;
use stormglass_sim::property::Violation;

/// What the next incarnation of a node must recover: the state that this incarnation recovered, and
/// a prefix of the records that it has appended.
#[derive(Clone, Debug, Default)]
pub(super) struct RecoverableLog {
    recovered: State,
    appended: Payloads,
    /// How many of `appended` are durable. `durable <= appended.len()`
    durable: usize,
}

/// The payloads of records, concatenated: one allocation for all.
#[derive(Clone, Debug, Default)]
struct Payloads {
    bytes: Vec<u8>,
    /// The end of each payload in `bytes`, ascending.
    ends: Vec<usize>,
}

impl Payloads {
    #[inline]
    fn push(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len());
    }

    #[inline]
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    fn clear(&mut self) {
        let Payloads { bytes, ends } = self;
        bytes.clear();
        ends.clear();
    }
}

impl RecoverableLog {
    /// Begins the log of an incarnation that recovered this state.
    pub(super) fn begin(&mut self, state: State) {
        let RecoverableLog { recovered, appended, durable } = self;
        *recovered = state;
        appended.clear();
        *durable = 0;
    }

    /// The state that this incarnation recovered.
    pub(super) fn recovered(&self) -> &State {
        &self.recovered
    }

    /// Returns the index of the record among those of this incarnation.
    #[inline]
    pub(super) fn append(&mut self, payload: &[u8]) -> usize {
        self.appended.push(payload);
        self.appended.len() - 1
    }

    /// The next `count` records are durable.
    #[inline]
    pub(super) fn make_durable(&mut self, count: usize) {
        self.durable += count;
    }

    /// W6, W7: the state `found` is the recovered state and a prefix of the log, with every durable
    /// record. Returns the number of records in that prefix.
    pub(super) fn check_prefix(&self, node: NodeId, found: &State) -> Result<usize, Violation> {
        let mut replayed = self.recovered.clone();
        for (count, payload) in self.appended.iter().enumerate() {
            // A shorter prefix lacks a durable record: to match it is a loss.
            if count >= self.durable && is_same_state(&replayed, found) {
                return Ok(count);
            }
            replayed.apply(node, decode(payload));
        }
        if is_same_state(&replayed, found) {
            return Ok(self.appended.len());
        }
        let all = self.appended.len();
        let durable = self.durable;
        let explanation = format!(
            "{node} recovered a state that matches no prefix of its {all} records \
             ({durable} durable): {}",
            difference(&replayed, found)
        );
        Err(Property::RecoveredStateIsALogPrefix.violated(explanation))
    }

    /// Whether the state `found` is the recovered state and a prefix of the log, of any length.
    pub(super) fn is_some_prefix(&self, node: NodeId, found: &State) -> bool {
        // Such damage may have removed durable records, but only from the end of the log.
        let mut replayed = self.recovered.clone();
        for payload in self.appended.iter() {
            if is_same_state(&replayed, found) {
                return true;
            }
            replayed.apply(node, decode(payload));
        }
        is_same_state(&replayed, found)
    }
}

fn decode(payload: &[u8]) -> Record {
    codec::decode(payload).expect("it was decoded when it was appended")
}

/// Whether two states are equal, apart from what a node may forget: outcomes of ended transactions,
/// and requests that are acknowledged by their client or exceed the capacity of the request log.
fn is_same_state(replayed: &State, found: &State) -> bool {
    // `found` says what may be forgotten, and both sides are compared without that.
    peers(replayed).eq(peers(found))
        && replayed.values == found.values
        && replayed.prepared == found.prepared
        && replayed.committing == found.committing
        && outcomes(replayed, found).eq(outcomes(found, found))
        && remembered_requests(replayed, found) == remembered_requests(found, found)
}

/// The incarnations of peers. The lengths of their logs change without a record.
fn peers(state: &State) -> impl Iterator<Item = (NodeId, Incarnation)> + '_ {
    state.peers.iter().map(|known| (known.peer, known.incarnation))
}

/// The outcomes in `of` of transactions that have not ended in `found`.
fn outcomes<'a>(of: &'a State, found: &'a State) -> impl Iterator<Item = (TxId, Decision)> + 'a {
    of.outcomes
        .iter()
        .filter(move |known| !has_ended(known.tx, found))
        .map(|known| (known.tx, known.decision))
}

fn has_ended(tx: TxId, found: &State) -> bool {
    let by = found.ended.iter().find(|ended| ended.coordinator == tx.coordinator);
    by.is_some_and(|ended| ended.contains(Position::of(tx)))
}

/// The committed requests in `of` above the floors in `found`.
fn remembered_requests(of: &State, found: &State) -> Vec<(u64, RequestNumber, TxId)> {
    let mut remembered = Vec::new();
    for client in &of.clients {
        let known = found.clients.iter().find(|known| known.client == client.client);
        let floor = known.map(|known| known.floor).unwrap_or_default();
        let above = client.committed.iter().filter(|(turn, _)| *turn > floor);
        remembered.extend(above.map(|(turn, tx)| (client.client, *turn, *tx)));
    }
    remembered
}

/// The first difference, for the explanation of a violation.
fn difference(replayed: &State, found: &State) -> String {
    if !peers(replayed).eq(peers(found)) {
        return format!("peers {:?}, not {:?}", found.peers, replayed.peers);
    }
    if replayed.values != found.values {
        return format!("values {:?}, not {:?}", found.values, replayed.values);
    }
    if replayed.prepared != found.prepared {
        let found = names(found.prepared.iter().map(|prepared| prepared.tx));
        let replayed = names(replayed.prepared.iter().map(|prepared| prepared.tx));
        return format!("prepared {found:?}, not {replayed:?}");
    }
    if replayed.committing != found.committing {
        let found = names(found.committing.iter().map(|committing| committing.tx));
        let replayed = names(replayed.committing.iter().map(|committing| committing.tx));
        return format!("committing {found:?}, not {replayed:?}");
    }
    let expected = remembered_requests(replayed, found);
    let remembered = remembered_requests(found, found);
    if remembered != expected {
        return format!("remembered requests {remembered:?}, not {expected:?}");
    }
    format!("outcomes {:?}, not {:?}", found.outcomes, replayed.outcomes)
}

fn names(transactions: impl Iterator<Item = TxId>) -> Vec<String> {
    transactions.map(|tx| tx.to_string()).collect()
}
