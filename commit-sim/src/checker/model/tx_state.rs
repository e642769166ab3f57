//! The state of each transaction at every node, as effects, records and disks show it.

use std::cell::Cell;

use stormglass::commit::{Age, Decision, TxId};
use stormglass_node::{Incarnation, Micros, NodeId, RequestId};

use crate::checker::node_set::NodeSet;

/// The status of a record, in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RecordStatus {
    /// Not appended, or appended by an earlier incarnation and not recovered by this one.
    #[default]
    Absent,
    /// Appended and not yet durable.
    Appended,
    /// It would survive the worst power cut.
    Durable,
}

/// What the logs of all nodes hold of one transaction: a column per kind of fact, a bit per node.
#[derive(Clone, Copy, Debug, Default)]
struct Records {
    /// PREPARED is in the log of the present incarnation.
    prepared: NodeSet,
    /// And it is durable. A subset of `prepared`.
    prepared_durable: NodeSet,
    /// An outcome record is in the log of the present incarnation.
    outcome: NodeSet,
    /// And the decision is to commit. A subset of `outcome`.
    outcome_is_commit: NodeSet,
    /// And it is durable. A subset of `outcome`.
    outcome_durable: NodeSet,
    /// An outcome record was durable once: the decision is final, whatever the log holds later.
    decided_commit: NodeSet,
    decided_abort: NodeSet,
}

/// The state of one transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TxState {
    tx: TxId,
    /// The request behind it, once a message or a record has named it.
    request: Option<RequestId>,
    /// The age, once a Prepare or a record has named it.
    age: Option<Age>,
    /// Whether a message or a record has named the participants.
    participants_known: bool,
    /// The participants without the coordinator.
    subordinates: NodeSet,
    /// Nodes whose Yes vote has reached the coordinator.
    yes: NodeSet,
    /// Nodes whose Ack has reached the coordinator.
    acked: NodeSet,
    /// The status of the coordinator's COMMIT.
    commit: RecordStatus,
    /// COMMIT was durable once.
    committed: bool,
    /// The coordinator has appended END.
    ended: bool,
    /// The coordinator has sent Commit to a participant.
    commit_sent: bool,
    /// The coordinator has sent Abort to a participant.
    abort_sent: bool,
    /// When the first Prepare was sent or COMMIT appended, in true time; 0 for never.
    begun_at: Micros,
    /// The number of its COMMIT in the order of all COMMIT records, from 1; 0 if there is none.
    decision_number: u32,
    /// How often Prepare was sent to any participant.
    prepares: u32,
    /// The messages and records of the transaction so far.
    cost: Cost,
    records: Records,
}

/// What a transaction has cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Messages sent.
    pub(crate) messages: u32,
    /// Records appended.
    pub(crate) records: u32,
    /// When the last of both was sent or appended, in true time.
    pub(crate) last_at: Micros,
}

/// The transaction as a whole.
impl TxState {
    #[inline]
    pub(crate) fn tx(&self) -> TxId {
        self.tx
    }

    #[inline]
    pub(crate) fn request(&self) -> Option<RequestId> {
        self.request
    }

    /// The age, as the first Prepare or record of the transaction has it.
    #[inline]
    pub(crate) fn age(&self) -> Option<Age> {
        self.age
    }

    /// The participants without the coordinator.
    #[inline]
    pub(crate) fn subordinates(&self) -> NodeSet {
        self.subordinates
    }

    /// The participants whose Yes vote has not reached the coordinator.
    #[inline]
    pub(crate) fn missing_votes(&self) -> NodeSet {
        self.subordinates.without(self.yes)
    }

    /// The participants whose Ack has not reached the coordinator.
    #[inline]
    pub(crate) fn missing_acks(&self) -> NodeSet {
        self.subordinates.without(self.acked)
    }

    /// The status of COMMIT in the log of the coordinator's present incarnation.
    #[inline]
    pub(crate) fn commit(&self) -> RecordStatus {
        self.commit
    }

    /// Whether COMMIT was durable once.
    #[inline]
    pub(crate) fn is_committed(&self) -> bool {
        self.committed
    }

    /// Whether the coordinator has appended END.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    #[inline]
    pub(crate) fn is_commit_sent(&self) -> bool {
        self.commit_sent
    }

    #[inline]
    pub(crate) fn is_abort_sent(&self) -> bool {
        self.abort_sent
    }

    /// When the first Prepare was sent or COMMIT appended, in true time; 0 for never.
    #[inline]
    pub(crate) fn begun_at(&self) -> Micros {
        self.begun_at
    }

    /// How often Prepare was sent to any participant.
    #[inline]
    pub(crate) fn prepares(&self) -> u32 {
        self.prepares
    }

    /// The messages and records so far.
    pub(crate) fn cost(&self) -> Cost {
        self.cost
    }

    /// The participants whose Yes vote has reached the coordinator.
    pub(crate) fn yes(&self) -> NodeSet {
        self.yes
    }

    /// The number of its COMMIT in the order of all COMMIT records, from 1; 0 if there is none.
    #[inline]
    pub(crate) fn decision_number(&self) -> u32 {
        self.decision_number
    }
}

/// The transaction at one node.
impl TxState {
    /// The status of the node's PREPARED.
    #[inline]
    pub(crate) fn prepared(&self, node: NodeId) -> RecordStatus {
        if self.records.prepared_durable.contains(node) {
            RecordStatus::Durable
        } else if self.records.prepared.contains(node) {
            RecordStatus::Appended
        } else {
            RecordStatus::Absent
        }
    }

    /// The decision in the node's outcome record, and the status of that record.
    #[inline]
    pub(crate) fn outcome(&self, node: NodeId) -> Option<(Decision, RecordStatus)> {
        let records = &self.records;
        if !records.outcome.contains(node) {
            return None;
        }
        let decision = if records.outcome_is_commit.contains(node) {
            Decision::Committed
        } else {
            Decision::Aborted
        };
        let status = if records.outcome_durable.contains(node) {
            RecordStatus::Durable
        } else {
            RecordStatus::Appended
        };
        Some((decision, status))
    }

    /// The nodes that ever had a durable outcome record with this decision.
    #[inline]
    pub(crate) fn decided(&self, decision: Decision) -> NodeSet {
        match decision {
            Decision::Committed => self.records.decided_commit,
            Decision::Aborted => self.records.decided_abort,
        }
    }

    /// The nodes that are prepared and have no outcome record.
    pub(crate) fn in_doubt(&self) -> NodeSet {
        self.records.prepared.without(self.records.outcome)
    }

    /// The nodes that have an outcome record.
    pub(crate) fn outcome_nodes(&self) -> NodeSet {
        self.records.outcome
    }
}

/// Updates, for the model alone.
impl TxState {
    fn new(tx: TxId) -> TxState {
        TxState {
            tx,
            request: None,
            age: None,
            participants_known: false,
            subordinates: NodeSet::default(),
            yes: NodeSet::default(),
            acked: NodeSet::default(),
            commit: RecordStatus::Absent,
            committed: false,
            ended: false,
            commit_sent: false,
            abort_sent: false,
            begun_at: Micros::ZERO,
            decision_number: 0,
            prepares: 0,
            cost: Cost::default(),
            records: Records::default(),
        }
    }

    /// Notes the request; the first call counts.
    #[inline]
    pub(super) fn set_request(&mut self, request: RequestId) {
        self.request.get_or_insert(request);
    }

    /// Notes the age; the first call counts.
    #[inline]
    pub(super) fn set_age(&mut self, age: Age) {
        self.age.get_or_insert(age);
    }

    /// Notes the participants; the first call counts.
    #[inline]
    pub(super) fn set_participants(&mut self, participants: impl Iterator<Item = NodeId>) {
        if self.participants_known {
            return;
        }
        self.participants_known = true;
        let coordinator = self.tx.coordinator;
        self.subordinates = participants.filter(|node| *node != coordinator).collect();
    }

    /// Notes the time of the first Prepare or of COMMIT; the first call counts. Returns whether it
    /// was the first.
    #[inline]
    pub(super) fn begin(&mut self, at: Micros) -> bool {
        let first = self.begun_at == Micros::ZERO;
        if first {
            self.begun_at = at;
        }
        first
    }

    #[inline]
    pub(super) fn count_prepare(&mut self) {
        self.prepares += 1;
    }

    #[inline]
    pub(super) fn count_message(&mut self, at: Micros) {
        self.cost.messages += 1;
        self.cost.last_at = at;
    }

    #[inline]
    pub(super) fn count_record(&mut self, at: Micros) {
        self.cost.records += 1;
        self.cost.last_at = at;
    }

    #[inline]
    pub(super) fn receive_yes(&mut self, from: NodeId) {
        self.yes.insert(from);
    }

    #[inline]
    pub(super) fn receive_ack(&mut self, from: NodeId) {
        self.acked.insert(from);
    }

    #[inline]
    pub(super) fn send_commit(&mut self) {
        self.commit_sent = true;
    }

    #[inline]
    pub(super) fn send_abort(&mut self) {
        // A committed transaction that all have acknowledged may be forgotten, and then presumed
        // aborted (W5): such an Abort decides nothing.
        if self.commit == RecordStatus::Absent && !self.committed {
            self.abort_sent = true;
        }
    }

    #[inline]
    pub(super) fn append_commit(&mut self, decision_number: u32) {
        self.commit = RecordStatus::Appended;
        self.decision_number = decision_number;
    }

    #[inline]
    pub(super) fn make_commit_durable(&mut self) {
        self.commit = RecordStatus::Durable;
        self.committed = true;
    }

    /// Notes that the request log of a recovered coordinator has it as committed. COMMIT itself may
    /// be replaced by a snapshot.
    pub(super) fn recover_committed(&mut self) {
        self.committed = true;
    }

    #[inline]
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Sets the status of the node's PREPARED, `Appended` or `Durable`.
    #[inline]
    pub(super) fn set_prepared(&mut self, node: NodeId, status: RecordStatus) {
        self.records.prepared.insert(node);
        self.records.prepared_durable.set(node, status == RecordStatus::Durable);
    }

    /// Sets the node's outcome record, with status `Appended` or `Durable`.
    #[inline]
    pub(super) fn set_outcome(&mut self, node: NodeId, decision: Decision, status: RecordStatus) {
        self.records.outcome.insert(node);
        self.records.outcome_is_commit.set(node, decision == Decision::Committed);
        self.records.outcome_durable.set(node, status == RecordStatus::Durable);
    }

    /// Makes the node's decision final.
    #[inline]
    pub(super) fn decide(&mut self, node: NodeId, decision: Decision) {
        self.set_outcome(node, decision, RecordStatus::Durable);
        match decision {
            Decision::Committed => self.records.decided_commit.insert(node),
            Decision::Aborted => self.records.decided_abort.insert(node),
        }
    }

    #[inline]
    fn crash(&mut self, node: NodeId) {
        // The final decisions of the node stay: no later incarnation may contradict them.
        let Records {
            prepared,
            prepared_durable,
            outcome,
            outcome_is_commit,
            outcome_durable,
            decided_commit: _,
            decided_abort: _,
        } = &mut self.records;
        for set in [prepared, prepared_durable, outcome, outcome_is_commit, outcome_durable] {
            set.remove(node);
        }
        // The record is what the next incarnation recovers; that it was durable stays in
        // `committed`.
        if self.tx.coordinator == node {
            self.commit = RecordStatus::Absent;
        }
    }
}

/// The states of all transactions, with an index by coordinator, incarnation and serial.
#[derive(Clone, Debug, Default)]
pub(super) struct TxStates {
    states: Vec<TxState>,
    /// By coordinator, then by incarnation: indices into `states`, by serial from 1.
    indices: Vec<Vec<(Incarnation, Vec<u32>)>>,
    /// The index of the last lookup: the checks of one event look up the same transaction several
    /// times.
    last_found: Cell<usize>,
}

impl TxStates {
    /// Removes all states, for a run of a cluster of that many nodes. Allocated memory is kept.
    ///
    /// # Panics
    /// If the cluster has more than 64 nodes.
    pub(super) fn reset(&mut self, nodes: usize) {
        // A `NodeSet` has a bit for each node.
        assert!(nodes <= 64, "a cluster has at most 64 nodes");
        let TxStates { states, indices, last_found } = self;
        states.clear();
        indices.iter_mut().for_each(Vec::clear);
        indices.resize(nodes, Vec::new());
        last_found.set(0);
    }

    /// The state of this transaction, added if it is new.
    #[inline(always)]
    pub(super) fn get_or_add(&mut self, tx: TxId) -> &mut TxState {
        if self.states.get(self.last_found.get()).is_none_or(|tx_state| tx_state.tx != tx) {
            let found = self.find_or_add(tx);
            self.last_found.set(found);
        }
        &mut self.states[self.last_found.get()]
    }

    /// The state of this transaction, if it has one.
    #[inline]
    pub(super) fn get(&self, tx: TxId) -> Option<&TxState> {
        if self.states.get(self.last_found.get()).is_none_or(|tx_state| tx_state.tx != tx) {
            self.last_found.set(self.find(tx)?);
        }
        self.states.get(self.last_found.get())
    }

    #[inline(never)]
    fn find(&self, tx: TxId) -> Option<usize> {
        let incarnations = &self.indices[usize::from(tx.coordinator.0)];
        let (_, indices) =
            incarnations.iter().rfind(|(incarnation, _)| *incarnation == tx.incarnation)?;
        let serial = usize::try_from(tx.serial).expect("serials count up from 1");
        indices.get(serial.checked_sub(1)?).map(|index| *index as usize)
    }

    #[inline(never)]
    fn find_or_add(&mut self, tx: TxId) -> usize {
        let incarnations = &mut self.indices[usize::from(tx.coordinator.0)];
        // From the end: most transactions belong to the latest incarnation.
        let at = match incarnations
            .iter()
            .rposition(|(incarnation, _)| *incarnation == tx.incarnation)
        {
            Some(at) => at,
            None => {
                incarnations.push((tx.incarnation, Vec::new()));
                incarnations.len() - 1
            }
        };
        let indices = &mut incarnations[at].1;
        let serial = usize::try_from(tx.serial).expect("serials count up from 1");
        // The first fact of a transaction may come after that of its successor: fill the gap.
        while indices.len() < serial {
            indices.push(
                u32::try_from(self.states.len()).expect("a run has fewer than 2^32 transactions"),
            );
            self.states.push(TxState::new(TxId { serial: indices.len() as u64, ..tx }));
        }
        indices[serial - 1] as usize
    }

    /// All states, in the order in which they were added.
    pub(super) fn iter(&self) -> impl Iterator<Item = &TxState> {
        self.states.iter()
    }

    /// Forgets the records of this node, which has crashed. Its next incarnation adds those that it
    /// recovers.
    pub(super) fn crash(&mut self, node: NodeId) {
        for tx_state in &mut self.states {
            tx_state.crash(node);
        }
    }
}
