//! What the records of a log mean: the state of the durable part of a node, by the checker's own
//! rules. It shares no code with the node's replay, so that an error there shows.

use stormglass::commit::{
    Decision, Part, Participants, Position, Record, RequestNumber, State, TxId,
};
use stormglass_node::{Incarnation, NodeId, RequestId};

use crate::checker::values::Values;
use crate::sorted_map::SortedMap;

/// The state after the records of all incarnations that are kept, in order. What a node forgot in a
/// snapshot is forgotten here, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeptState {
    values: Values,
    prepared: SortedMap<TxId, (RequestId, Part)>,
    outcomes: SortedMap<TxId, (RequestId, Decision)>,
    /// The committed transactions of this coordinator that have subordinates and no END.
    committing: SortedMap<TxId, (RequestId, Participants)>,
    /// The committed requests of this coordinator.
    committed: SortedMap<RequestId, TxId>,
    /// By client, the number up to which a snapshot had forgotten requests, and the position of the
    /// last of them that was committed.
    floors: SortedMap<u64, (RequestNumber, Position)>,
    /// Below this position a snapshot had forgotten whole clients.
    forgotten_below: Position,
    /// The incarnations of peers.
    met: SortedMap<NodeId, Incarnation>,
}

impl KeptState {
    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    pub(crate) fn prepared(&self) -> impl Iterator<Item = (TxId, &Part)> {
        self.prepared.iter().map(|(tx, (_, part))| (tx, part))
    }

    pub(crate) fn has_prepared(&self, tx: TxId) -> bool {
        self.prepared.get(tx).is_some()
    }

    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (TxId, Decision)> {
        self.outcomes.iter().map(|(tx, (_, decision))| (tx, *decision))
    }

    pub(crate) fn committing(&self) -> impl Iterator<Item = (TxId, RequestId)> {
        self.committing.iter().map(|(tx, (request, _))| (tx, *request))
    }

    pub(crate) fn committed(&self) -> impl Iterator<Item = (RequestId, TxId)> {
        self.committed.iter().map(|(request, tx)| (request, *tx))
    }

    /// The incarnations of peers that are remembered.
    pub(crate) fn met(&self) -> impl Iterator<Item = (NodeId, Incarnation)> {
        self.met.iter().map(|(peer, incarnation)| (peer, *incarnation))
    }

    /// Adds a record of this node.
    pub(super) fn add(&mut self, node: NodeId, record: Record) {
        match record {
            Record::Prepared { tx, request, part } => self.prepared.insert(tx, (request, part)),
            Record::Commit { tx, request, part } => {
                self.values.perform(part.ops());
                self.committed.insert(request, tx);
                // Without subordinates there is no END to wait for.
                if part.participants().iter().any(|participant| *participant != node) {
                    self.committing.insert(tx, (request, part.participants().clone()));
                }
            }
            Record::Committed { tx, request } => {
                if let Some((_, part)) = self.prepared.remove(tx) {
                    self.values.perform(part.ops());
                }
                self.outcomes.insert(tx, (request, Decision::Committed));
            }
            Record::Aborted { tx, request } => {
                self.prepared.remove(tx);
                self.outcomes.insert(tx, (request, Decision::Aborted));
            }
            Record::End { tx, .. } => drop(self.committing.remove(tx)),
            Record::Met { peer, incarnation, .. } => self.met.insert(peer, incarnation),
        }
    }

    /// Takes over which incarnations of peers are remembered.
    pub(super) fn meet_as(&mut self, found: &State) {
        self.met.clear();
        for known in &found.peers {
            self.met.insert(known.peer, known.incarnation);
        }
    }

    /// Forgets what `found` states to have forgotten: outcomes of ended transactions, and requests
    /// up to a floor.
    pub(super) fn forget_as(&mut self, found: &State) {
        // Not all that it may: it remembers an outcome as long as somebody waits for the record.
        self.outcomes.retain(|tx, _| !has_ended(tx, found) || remembers(found, tx));
        self.forgotten_below = self.forgotten_below.max(found.forgotten_below);
        let forgotten_below = self.forgotten_below;
        self.floors.retain(|client, (_, last)| {
            found.clients.contains_key(&client) || *last > forgotten_below
        });
        for (client, history) in &found.clients {
            self.floors.get_or_default(*client).0 = history.floor;
        }
        let floors = &mut self.floors;
        self.committed.retain(|request, tx| {
            let is_forgotten = !remembers_request(found, request);
            if is_forgotten && RequestNumber::of(request) <= floor_in(found, request.client) {
                let last = &mut floors.get_or_default(request.client).1;
                *last = Position::of(*tx).max(*last);
                return false;
            }
            !is_forgotten || Position::of(*tx) > forgotten_below
        });
    }

    /// The first difference between this state and the one that a node has recovered, apart from
    /// what it may forget; `None` if there is none.
    pub(super) fn difference(&self, found: &State) -> Option<String> {
        // The lengths of their logs change without a record.
        let met = found.peers.iter().map(|known| (known.peer, known.incarnation));
        if !self.met.iter().map(|(peer, incarnation)| (peer, *incarnation)).eq(met) {
            return Some(format!("peers {:?}, not {:?}", found.peers, self.met));
        }
        self.difference_in_transactions(found)
    }

    /// The same for transactions alone.
    pub(super) fn difference_in_transactions(&self, found: &State) -> Option<String> {
        if !self.values.iter().eq(found.values.iter().map(|(key, value)| (*key, *value))) {
            return Some(format!("values {:?}, not {:?}", found.values, self.values));
        }
        let prepared = found.prepared.iter().map(|known| (known.tx, known.request, &known.part));
        if !self.prepared.iter().map(|(tx, (request, part))| (tx, *request, part)).eq(prepared) {
            let found = names(found.prepared.iter().map(|known| known.tx));
            let kept = names(self.prepared.iter().map(|(tx, _)| tx));
            return Some(format!("prepared {found:?}, not {kept:?}, or other operations"));
        }
        let committing =
            found.committing.iter().map(|known| (known.tx, known.request, &known.participants));
        let kept = self.committing.iter().map(|(tx, (request, nodes))| (tx, *request, nodes));
        if !kept.eq(committing) {
            let found = names(found.committing.iter().map(|known| known.tx));
            let kept = names(self.committing.iter().map(|(tx, _)| tx));
            return Some(format!("committing {found:?}, not {kept:?}, or other participants"));
        }
        self.difference_in_memory(found)
    }

    /// The same for outcomes and requests, of which a node may forget some.
    fn difference_in_memory(&self, found: &State) -> Option<String> {
        let differing = found
            .outcomes
            .iter()
            .find(|known| self.outcomes.get(known.tx) != Some(&(known.request, known.decision)));
        if let Some(known) = differing {
            let kept = self.outcomes.get(known.tx);
            return Some(format!("{:?} of {}, not {kept:?}", known.decision, known.tx));
        }
        if let Some((tx, _)) =
            self.outcomes.iter().find(|(tx, _)| !has_ended(*tx, found) && !remembers(found, *tx))
        {
            return Some(format!("no outcome of {tx}, which has not ended"));
        }
        let mut remembered = Vec::new();
        for (client, history) in &found.clients {
            let above = history.committed.iter().filter(|(number, _)| *number > history.floor);
            remembered.extend(above.map(|(number, tx)| (*client, *number, *tx)));
        }
        let mut expected = Vec::new();
        for (request, tx) in self.committed.iter() {
            let number = RequestNumber::of(request);
            let may_be_forgotten = Position::of(*tx) <= found.forgotten_below;
            if number > floor_in(found, request.client)
                && (!may_be_forgotten || remembers_request(found, request))
            {
                expected.push((request.client, number, *tx));
            }
        }
        if remembered != expected {
            return Some(format!("remembered requests {remembered:?}, not {expected:?}"));
        }
        // What was forgotten may not be taken for new again.
        if found.forgotten_below < self.forgotten_below {
            let (found, kept) = (found.forgotten_below, self.forgotten_below);
            return Some(format!("clients forgotten below {found:?}, not {kept:?}"));
        }
        let sunken = self.floors.iter().find(|(client, (floor, last))| {
            floor_in(found, *client) < *floor && *last > found.forgotten_below
        });
        sunken.map(|(client, (floor, _))| {
            format!("a floor of {:?} for client {client}, below {floor:?}", floor_in(found, client))
        })
    }
}

fn floor_in(found: &State, client: u64) -> RequestNumber {
    found.clients.get(&client).map(|known| known.floor).unwrap_or_default()
}

/// Whether `found` has the transaction of this request.
fn remembers_request(found: &State, request: RequestId) -> bool {
    found.clients.get(&request.client).is_some_and(|known| {
        known.committed.iter().any(|(number, _)| *number == RequestNumber::of(request))
    })
}

/// Whether `found` has an outcome of this transaction.
fn remembers(found: &State, tx: TxId) -> bool {
    found.outcomes.binary_search_by_key(&tx, |known| known.tx).is_ok()
}

fn has_ended(tx: TxId, found: &State) -> bool {
    let by = found.ended.iter().find(|ended| ended.coordinator == tx.coordinator);
    by.is_some_and(|ended| ended.contains(Position::of(tx)))
}

fn names(transactions: impl Iterator<Item = TxId>) -> Vec<String> {
    transactions.map(|tx| tx.to_string()).collect()
}
