//! The state of each transaction at every node, as effects, records and disks show it.

use stormglass::commit::Decision;
use stormglass::commit::TxId;
use stormglass_node::{Incarnation, NodeId, RequestId};

/// The status of a record, in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RecordStatus {
    /// Not appended, or appended by an earlier incarnation and not recovered by this one.
    #[default]
    Absent,
    /// Appended and not yet durable.
    Appended,
    /// It would survive the worst power cut.
    Durable,
}

/// Sets of nodes, by their state in one transaction: one bit per node, since a cluster has at most
/// 64.
#[derive(Clone, Copy, Debug, Default)]
struct NodeSets {
    /// PREPARED is in the log of the present incarnation.
    prepared: u64,
    /// And it is durable. A subset of `prepared`.
    prepared_durable: u64,
    /// An outcome record is in the log of the present incarnation.
    outcome: u64,
    /// And the decision is to commit. A subset of `outcome`.
    outcome_is_commit: u64,
    /// And it is durable. A subset of `outcome`.
    outcome_durable: u64,
    /// An outcome record was durable once: the decision is final, whatever the log holds later.
    decided_commit: u64,
    decided_abort: u64,
}

/// The state of one transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct TxState {
    pub(super) tx: TxId,
    /// The request behind it, once a message or a record has named it.
    pub(super) request: Option<RequestId>,
    /// Whether a message or a record has named the participants.
    participants_known: bool,
    /// The participants without the coordinator. In these sets, bit `n` is node `n`.
    pub(super) subordinates: u64,
    /// Nodes whose Yes vote has reached the coordinator.
    pub(super) yes: u64,
    /// Nodes whose Ack has reached the coordinator.
    pub(super) acked: u64,
    /// The status of the coordinator's COMMIT.
    pub(super) commit: RecordStatus,
    /// COMMIT was durable once.
    pub(super) committed: bool,
    /// The coordinator has appended END.
    pub(super) ended: bool,
    /// The coordinator has sent Commit to a participant.
    pub(super) commit_sent: bool,
    /// The coordinator has sent Abort to a participant.
    pub(super) abort_sent: bool,
    /// When the first Prepare was sent or COMMIT appended, in true time; 0 for never.
    pub(super) begun_us: u64,
    /// The number of its COMMIT in the order of all COMMIT records, from 1; 0 if there is none.
    pub(super) decision_number: u32,
    /// How often Commit was sent to permanently down nodes since the faults ended (L2 in
    /// `docs/protocol.md`).
    pub(super) commits_to_down_nodes: u32,
    node_sets: NodeSets,
}

/// The states of all transactions, with an index by coordinator, incarnation and serial.
#[derive(Clone, Debug, Default)]
pub(super) struct TxStates {
    states: Vec<TxState>,
    /// By coordinator, then by incarnation: indices into `states`, by serial from 1.
    indices: Vec<Vec<(Incarnation, Vec<u32>)>>,
    /// The index of the last lookup: the checks of one event look up the same transaction several
    /// times.
    last_found: usize,
}

impl TxStates {
    /// Removes all states, for a run of a cluster of that many nodes. Allocated memory is kept.
    ///
    /// # Panics
    /// If the cluster has more than 64 nodes.
    pub(super) fn reset(&mut self, nodes: usize) {
        assert!(nodes <= 64, "a cluster has at most 64 nodes");
        self.last_found = 0;
        self.states.clear();
        self.indices.iter_mut().for_each(Vec::clear);
        self.indices.resize(nodes, Vec::new());
    }

    /// The state of this transaction, added if it is new.
    #[inline(always)]
    pub(super) fn tx_state(&mut self, tx: TxId) -> &mut TxState {
        if self.states.get(self.last_found).is_none_or(|tx_state| tx_state.tx != tx) {
            self.last_found = self.find(tx);
        }
        &mut self.states[self.last_found]
    }

    #[inline]
    pub(super) fn decision_number_if_committed(&mut self, tx: TxId) -> u32 {
        let tx_state = self.tx_state(tx);
        if tx_state.committed { tx_state.decision_number } else { 0 }
    }

    #[inline(never)]
    fn find(&mut self, tx: TxId) -> usize {
        let incarnations = &mut self.indices[usize::from(tx.coordinator.0)];
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
        let others = !bit(node);
        for tx_state in &mut self.states {
            let node_sets = &mut tx_state.node_sets;
            node_sets.prepared &= others;
            node_sets.prepared_durable &= others;
            node_sets.outcome &= others;
            node_sets.outcome_is_commit &= others;
            node_sets.outcome_durable &= others;
            if tx_state.tx.coordinator == node {
                tx_state.commit = RecordStatus::Absent;
            }
        }
    }
}

#[inline]
fn bit(node: NodeId) -> u64 {
    1 << node.0
}

impl TxState {
    fn new(tx: TxId) -> TxState {
        TxState {
            tx,
            request: None,
            participants_known: false,
            subordinates: 0,
            yes: 0,
            acked: 0,
            commit: RecordStatus::Absent,
            committed: false,
            ended: false,
            commit_sent: false,
            abort_sent: false,
            begun_us: 0,
            decision_number: 0,
            commits_to_down_nodes: 0,
            node_sets: NodeSets::default(),
        }
    }

    /// Notes the participants; the first call counts.
    pub(super) fn set_participants(&mut self, participants: impl Iterator<Item = NodeId>) {
        if self.participants_known {
            return;
        }
        self.participants_known = true;
        let coordinator = self.tx.coordinator;
        self.subordinates = participants
            .filter(|node| *node != coordinator)
            .fold(0, |bits, node| bits | 1 << node.0);
    }
}

/// The state of the transaction at one node.
impl TxState {
    /// The status of the node's PREPARED.
    #[inline]
    pub(super) fn prepared(&self, node: NodeId) -> RecordStatus {
        match bit(node) {
            bit if self.node_sets.prepared_durable & bit != 0 => RecordStatus::Durable,
            bit if self.node_sets.prepared & bit != 0 => RecordStatus::Appended,
            _ => RecordStatus::Absent,
        }
    }

    /// Sets the status of the node's PREPARED.
    #[inline]
    pub(super) fn set_prepared(&mut self, node: NodeId, status: RecordStatus) {
        let node_sets = &mut self.node_sets;
        set_bit(&mut node_sets.prepared, node, status != RecordStatus::Absent);
        set_bit(&mut node_sets.prepared_durable, node, status == RecordStatus::Durable);
    }

    /// The decision in the node's outcome record, and the status of that record.
    #[inline]
    pub(super) fn outcome(&self, node: NodeId) -> Option<(Decision, RecordStatus)> {
        let node_sets = &self.node_sets;
        let bit = bit(node);
        if node_sets.outcome & bit == 0 {
            return None;
        }
        let commit = node_sets.outcome_is_commit & bit != 0;
        let durable = node_sets.outcome_durable & bit != 0;
        Some((
            if commit { Decision::Committed } else { Decision::Aborted },
            if durable { RecordStatus::Durable } else { RecordStatus::Appended },
        ))
    }

    /// Sets the node's outcome record, with status `Appended` or `Durable`.
    #[inline]
    pub(super) fn set_outcome(&mut self, node: NodeId, decision: Decision, status: RecordStatus) {
        let node_sets = &mut self.node_sets;
        node_sets.outcome |= bit(node);
        set_bit(&mut node_sets.outcome_is_commit, node, decision == Decision::Committed);
        set_bit(&mut node_sets.outcome_durable, node, status == RecordStatus::Durable);
    }

    /// The nodes that ever had a durable outcome record with this decision.
    #[inline]
    pub(super) fn decided(&self, decision: Decision) -> u64 {
        match decision {
            Decision::Committed => self.node_sets.decided_commit,
            Decision::Aborted => self.node_sets.decided_abort,
        }
    }

    /// Notes that the node's outcome record became durable.
    #[inline]
    pub(super) fn record_decision(&mut self, node: NodeId, decision: Decision) {
        match decision {
            Decision::Committed => self.node_sets.decided_commit |= bit(node),
            Decision::Aborted => self.node_sets.decided_abort |= bit(node),
        }
    }

    /// The nodes that are prepared and have no outcome record.
    pub(super) fn in_doubt(&self) -> u64 {
        self.node_sets.prepared & !self.node_sets.outcome
    }

    /// The nodes that have an outcome record.
    pub(super) fn outcome_nodes(&self) -> u64 {
        self.node_sets.outcome
    }
}

#[inline]
fn set_bit(bits: &mut u64, node: NodeId, set: bool) {
    let bit = bit(node);
    *bits = if set { *bits | bit } else { *bits & !bit };
}

/// The nodes of a set, in ascending order.
pub(super) fn nodes(bits: u64) -> impl Iterator<Item = NodeId> {
    let rest = std::iter::successors(Some(bits), |bits| Some(bits & bits.wrapping_sub(1)));
    rest.take_while(|bits| *bits != 0).map(|bits| NodeId(bits.trailing_zeros() as u16))
}
