//! What the records of a log mean: the state of the durable part of a node, by the checker's own
//! rules. It shares no code with the node's replay, so that an error there shows.

use std::fmt;

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
    pub(super) fn difference<'a>(&'a self, found: &'a State) -> Option<Difference<'a>> {
        // The lengths of their logs change without a record.
        let met = found.peers.iter().map(|known| (known.peer, known.incarnation));
        if !self.met().eq(met) {
            return Some(Difference { what: Differs::Peers, kept: self, found });
        }
        self.difference_in_transactions(found)
    }

    /// The same for transactions alone.
    pub(super) fn difference_in_transactions<'a>(
        &'a self,
        found: &'a State,
    ) -> Option<Difference<'a>> {
        let what = self.differs_in_transactions(found).or_else(|| self.differs_in_memory(found))?;
        Some(Difference { what, kept: self, found })
    }

    fn differs_in_transactions(&self, found: &State) -> Option<Differs> {
        if !self.values.iter().eq(found.values.iter().map(|(key, value)| (*key, *value))) {
            return Some(Differs::Values);
        }
        let prepared = found.prepared.iter().map(|known| (known.tx, known.request, &known.part));
        if !self.prepared.iter().map(|(tx, (request, part))| (tx, *request, part)).eq(prepared) {
            return Some(Differs::Prepared);
        }
        let committing =
            found.committing.iter().map(|known| (known.tx, known.request, &known.participants));
        let kept = self.committing.iter().map(|(tx, (request, nodes))| (tx, *request, nodes));
        (!kept.eq(committing)).then_some(Differs::Committing)
    }

    /// The same for outcomes and requests, of which a node may forget some.
    fn differs_in_memory(&self, found: &State) -> Option<Differs> {
        let differing = found.outcomes.iter().position(|known| {
            self.outcomes.get(known.tx) != Some(&(known.request, known.decision))
        });
        if let Some(index) = differing {
            return Some(Differs::Outcome(index));
        }
        if let Some((tx, _)) =
            self.outcomes.iter().find(|(tx, _)| !has_ended(*tx, found) && !remembers(found, *tx))
        {
            return Some(Differs::OutcomeForgotten(tx));
        }
        if !remembered(found).eq(self.requests_to_remember(found)) {
            return Some(Differs::Requests);
        }
        // What was forgotten may not be taken for new again.
        if found.forgotten_below < self.forgotten_below {
            return Some(Differs::ForgottenBelow);
        }
        let sunken = self.floors.iter().find(|(client, (floor, last))| {
            floor_in(found, *client) < *floor && *last > found.forgotten_below
        });
        sunken.map(|(client, (floor, _))| Differs::Floor(client, *floor))
    }

    /// The committed requests that `found` has to have, as it has not forgotten them.
    fn requests_to_remember(
        &self,
        found: &State,
    ) -> impl Iterator<Item = (u64, RequestNumber, TxId)> {
        self.committed.iter().filter_map(|(request, tx)| {
            let number = RequestNumber::of(request);
            let may_be_forgotten = Position::of(*tx) <= found.forgotten_below;
            let is_expected = number > floor_in(found, request.client)
                && (!may_be_forgotten || remembers_request(found, request));
            is_expected.then_some((request.client, number, *tx))
        })
    }
}

/// The committed requests that `found` has above its floors.
fn remembered(found: &State) -> impl Iterator<Item = (u64, RequestNumber, TxId)> {
    found.clients.iter().flat_map(|(client, history)| {
        let above = history.committed.iter().filter(|(number, _)| *number > history.floor);
        above.map(|(number, tx)| (*client, *number, *tx))
    })
}

/// How a recovered state differs from the records that are kept. Its text is written only where it
/// is needed: a check compares a state with many prefixes of a log, and all but one differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Difference<'a> {
    what: Differs,
    kept: &'a KeptState,
    found: &'a State,
}

#[derive(Clone, Copy, Debug)]
enum Differs {
    Peers,
    Values,
    Prepared,
    Committing,
    /// The recovered outcome at this index.
    Outcome(usize),
    /// The outcome of this transaction is missing.
    OutcomeForgotten(TxId),
    Requests,
    ForgottenBelow,
    /// The floor of this client is below the one that it had.
    Floor(u64, RequestNumber),
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { what, kept, found } = *self;
        match what {
            Differs::Peers => write!(f, "peers {:?}, not {:?}", found.peers, kept.met),
            Differs::Values => write!(f, "values {:?}, not {:?}", found.values, kept.values),
            Differs::Prepared => {
                let found = names(found.prepared.iter().map(|known| known.tx));
                let kept = names(kept.prepared.iter().map(|(tx, _)| tx));
                write!(f, "prepared {found:?}, not {kept:?}, or other operations")
            }
            Differs::Committing => {
                let found = names(found.committing.iter().map(|known| known.tx));
                let kept = names(kept.committing.iter().map(|(tx, _)| tx));
                write!(f, "committing {found:?}, not {kept:?}, or other participants")
            }
            Differs::Outcome(index) => {
                let known = &found.outcomes[index];
                let kept = kept.outcomes.get(known.tx);
                write!(f, "{:?} of {}, not {kept:?}", known.decision, known.tx)
            }
            Differs::OutcomeForgotten(tx) => {
                write!(f, "no outcome of {tx}, which has not ended")
            }
            Differs::Requests => {
                let expected: Vec<_> = kept.requests_to_remember(found).collect();
                let remembered: Vec<_> = remembered(found).collect();
                write!(f, "remembered requests {remembered:?}, not {expected:?}")
            }
            Differs::ForgottenBelow => {
                let (found, kept) = (found.forgotten_below, kept.forgotten_below);
                write!(f, "clients forgotten below {found:?}, not {kept:?}")
            }
            Differs::Floor(client, floor) => {
                let found = floor_in(found, client);
                write!(f, "a floor of {found:?} for client {client}, below {floor:?}")
            }
        }
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
