//! One row per transaction: what everybody did about it, as far as anybody can see.

use stormglass::commit::Decision;
use stormglass::{Incarnation, NodeId, RequestId, TxId};

/// How far a record has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RecordStatus {
    /// Not written in a way that this life could know of.
    #[default]
    Absent,
    /// Appended.
    Appended,
    /// It survives the worst power cut.
    Durable,
}

/// Where everybody stands with one transaction: one bit for each node, since a cluster has at most 64.
#[derive(Clone, Copy, Debug, Default)]
struct NodeSets {
    /// PREPARED is in its log, as far as this life knows.
    prepared: u64,
    /// And durable. A subset of `prepared`.
    prepared_durable: u64,
    /// A terminal record is in its log, as far as this life knows.
    terminal: u64,
    /// And it says committed. A subset of `terminal`.
    terminal_commit: u64,
    /// And it is durable. A subset of `terminal`.
    terminal_durable: u64,
    /// A terminal record was durable once: it binds for ever.
    decided_commit: u64,
    decided_abort: u64,
}

/// One transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct TxState {
    pub(super) tx: TxId,
    pub(super) name: Option<RequestId>,
    /// Whether anybody has said who takes part.
    participants_known: bool,
    /// Nodes that take part, but for the coordinator. By node number.
    pub(super) subordinates: u64,
    /// Whose Yes has reached the coordinator.
    pub(super) yes: u64,
    /// Whose acknowledgement has reached the coordinator.
    pub(super) acked: u64,
    pub(super) commit: RecordStatus,
    /// COMMIT was durable once.
    pub(super) committed: bool,
    pub(super) ended: bool,
    /// The coordinator said Commit to a participant.
    pub(super) commit_sent: bool,
    /// The coordinator said Abort, to a participant or to the client.
    pub(super) abort_sent: bool,
    pub(super) begun_us: u64,
    /// Which decision to commit it was, from 1, by the order of COMMIT records; 0 if there is none.
    pub(super) decision_number: u32,
    /// How often, since the clearing, Commit was said to somebody who is dead for good (L2).
    pub(super) commits_to_down_nodes: u32,
    node_sets: NodeSets,
}

/// All rows, found by coordinator, life and serial in a few steps.
#[derive(Clone, Debug, Default)]
pub(super) struct TxStates {
    states: Vec<TxState>,
    /// By coordinator, then by life: the places of its rows, by serial from 1.
    indices: Vec<Vec<(Incarnation, Vec<u32>)>>,
    /// The place of the row that was looked at last: one event asks for the same a few times.
    last_found: usize,
}

impl TxStates {
    /// No rows yet, of a cluster of so many nodes; the memory is kept.
    pub(super) fn reset(&mut self, nodes: usize) {
        assert!(nodes <= 64, "a row has one bit for each node");
        self.last_found = 0;
        self.states.clear();
        self.indices.iter_mut().for_each(Vec::clear);
        self.indices.resize(nodes, Vec::new());
    }

    #[inline(always)]
    pub(super) fn tx_state(&mut self, tx: TxId) -> &mut TxState {
        if self.states.get(self.last_found).is_none_or(|tx_state| tx_state.tx != tx) {
            self.last_found = self.find(tx);
        }
        &mut self.states[self.last_found]
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

    /// All rows, in the order in which they were first heard of.
    pub(super) fn iter(&self) -> impl Iterator<Item = &TxState> {
        self.states.iter()
    }

    /// A crash: what this node had only appended is not to be relied on any more.
    pub(super) fn crash(&mut self, node: NodeId) {
        let others = !bit(node);
        for tx_state in &mut self.states {
            let node_sets = &mut tx_state.node_sets;
            node_sets.prepared &= others;
            node_sets.prepared_durable &= others;
            node_sets.terminal &= others;
            node_sets.terminal_commit &= others;
            node_sets.terminal_durable &= others;
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
            name: None,
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

    /// Somebody says who takes part.
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

/// Where a node stands.
impl TxState {
    /// How far its PREPARED has come.
    #[inline]
    pub(super) fn prepared(&self, node: NodeId) -> RecordStatus {
        match bit(node) {
            bit if self.node_sets.prepared_durable & bit != 0 => RecordStatus::Durable,
            bit if self.node_sets.prepared & bit != 0 => RecordStatus::Appended,
            _ => RecordStatus::Absent,
        }
    }

    /// PREPARED is appended, or durable.
    #[inline]
    pub(super) fn set_prepared(&mut self, node: NodeId, status: RecordStatus) {
        let node_sets = &mut self.node_sets;
        set_bit(&mut node_sets.prepared, node, status != RecordStatus::Absent);
        set_bit(&mut node_sets.prepared_durable, node, status == RecordStatus::Durable);
    }

    /// What its terminal record says, and how far that has come.
    #[inline]
    pub(super) fn terminal(&self, node: NodeId) -> Option<(Decision, RecordStatus)> {
        let (node_sets, bit) = (&self.node_sets, bit(node));
        if node_sets.terminal & bit == 0 {
            return None;
        }
        let commit = node_sets.terminal_commit & bit != 0;
        let durable = node_sets.terminal_durable & bit != 0;
        Some((
            if commit { Decision::Committed } else { Decision::Aborted },
            if durable { RecordStatus::Durable } else { RecordStatus::Appended },
        ))
    }

    /// A terminal record is appended, or durable.
    #[inline]
    pub(super) fn set_terminal(&mut self, node: NodeId, decision: Decision, status: RecordStatus) {
        let node_sets = &mut self.node_sets;
        node_sets.terminal |= bit(node);
        set_bit(&mut node_sets.terminal_commit, node, decision == Decision::Committed);
        set_bit(&mut node_sets.terminal_durable, node, status == RecordStatus::Durable);
    }

    /// Who was ever bound by a durable decision of this kind.
    #[inline]
    pub(super) fn decided(&self, decision: Decision) -> u64 {
        match decision {
            Decision::Committed => self.node_sets.decided_commit,
            Decision::Aborted => self.node_sets.decided_abort,
        }
    }

    /// A node is bound for ever.
    #[inline]
    pub(super) fn record_decision(&mut self, node: NodeId, decision: Decision) {
        match decision {
            Decision::Committed => self.node_sets.decided_commit |= bit(node),
            Decision::Aborted => self.node_sets.decided_abort |= bit(node),
        }
    }

    /// Who is prepared and has no terminal record.
    pub(super) fn in_doubt(&self) -> u64 {
        self.node_sets.prepared & !self.node_sets.terminal
    }

    /// Who has a terminal record.
    pub(super) fn terminal_nodes(&self) -> u64 {
        self.node_sets.terminal
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
