//! I1-I5 and the conflicts of AC4: locks, reads and the order of transactions.
//!
//! The records of each node are executed here a second time: what a transaction locks, what it
//! reads, and what it leaves behind.

mod history;
mod values;

use stormglass::commit::{Decision, Op, Reads, State, TxId};
use stormglass_node::{Micros, NodeId, RequestId};

use self::history::{History, RequestSpan};
use self::values::Values;
use super::model::{Model, RecordStatus, RequestState, TxState};
use crate::property::Property;
use crate::sorted_map::SortedMap;
use crate::workload::accounts;
use stormglass_sim::property::Violation;

/// The locks, values and accesses at all nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Isolation {
    nodes: Vec<NodeStore>,
    /// Unused lists of operations, kept for their capacity. Their contents are stale.
    spare_ops: Vec<Vec<Op>>,
    /// Reused for its capacity; filled and read only at the end of a run.
    request_spans: Vec<RequestSpan>,
}

#[derive(Clone, Debug, Default)]
struct NodeStore {
    /// The undecided transactions that are prepared here: these hold locks.
    held: Vec<(TxId, Vec<Op>)>,
    /// The values after every appended record.
    values: Values,
    /// The reads and writes of transactions here (I4).
    history: History,
    /// The expected results of each transaction's reads here, if it reads (I4).
    expected: SortedMap<TxId, Reads>,
}

impl NodeStore {
    /// Makes this the node of another run; allocated memory is kept.
    fn reset(&mut self, spare_ops: &mut Vec<Vec<Op>>) {
        let NodeStore { held, values, history, expected } = self;
        spare_ops.extend(held.drain(..).map(|(_, ops)| ops));
        values.clear();
        history.clear();
        expected.clear();
    }

    /// I4: notes the results that the reads of `tx` must have here, under its locks.
    fn expect_reads(&mut self, tx: TxId, ops: &[Op]) {
        if !ops.iter().all(Op::writes) {
            self.expected.insert(tx, self.values.reads_of(ops));
        }
    }
}

impl Isolation {
    /// For a run of a cluster of that many nodes.
    pub(super) fn new(nodes: usize) -> Isolation {
        let mut isolation = Isolation::default();
        isolation.reset(nodes);
        isolation
    }

    /// Prepares for a run of a cluster of that many nodes; allocated memory is kept.
    pub(super) fn reset(&mut self, nodes: usize) {
        let Isolation { nodes: stores, spare_ops, request_spans } = self;
        stores.resize_with(nodes, NodeStore::default);
        for store in stores {
            store.reset(spare_ops);
        }
        request_spans.clear();
    }

    #[inline]
    fn store(&mut self, node: NodeId) -> &mut NodeStore {
        &mut self.nodes[usize::from(node.0)]
    }

    /// An empty list of operations. [`on_prepared`](Isolation::on_prepared) and
    /// [`on_commit`](Isolation::on_commit) take it back.
    #[inline]
    pub(super) fn spare_ops(&mut self) -> Vec<Op> {
        let mut ops = self.spare_ops.pop().unwrap_or_default();
        ops.clear();
        ops
    }

    /// Whether any undecided transaction holds locks here.
    pub(super) fn has_locks(&self, node: NodeId) -> bool {
        !self.nodes[usize::from(node.0)].held.is_empty()
    }

    /// Whether the transaction is prepared and undecided here.
    pub(super) fn holds_locks(&self, node: NodeId, tx: TxId) -> bool {
        self.nodes[usize::from(node.0)].held.iter().any(|(held, _)| *held == tx)
    }

    /// PREPARED, the node's record of that index, is appended.
    #[inline]
    pub(super) fn on_prepared(&mut self, node: NodeId, record: usize, tx: TxId, ops: Vec<Op>) {
        let store = self.store(node);
        store.expect_reads(tx, &ops);
        store.history.read(record, tx, &ops);
        store.held.push((tx, ops));
    }

    /// COMMIT, the coordinator's record of that index, is appended: it prepares and performs the
    /// coordinator's own part.
    #[inline]
    pub(super) fn on_commit(&mut self, node: NodeId, record: usize, tx: TxId, ops: Vec<Op>) {
        let store = self.store(node);
        store.expect_reads(tx, &ops);
        // Reads before writes: this one record prepares and performs the coordinator's part.
        store.history.read(record, tx, &ops);
        store.history.write(record, tx, &ops);
        store.values.perform(&ops);
        self.spare_ops.push(ops);
    }

    /// An outcome record, the node's record of that index, is appended: the locks end.
    #[inline]
    pub(super) fn on_outcome(&mut self, node: NodeId, record: usize, tx: TxId, decision: Decision) {
        let store = self.store(node);
        // A node may abort a transaction that it never prepared.
        let Some(at) = store.held.iter().position(|(held, _)| *held == tx) else { return };
        let (_, ops) = store.held.remove(at);
        if decision == Decision::Committed {
            store.history.write(record, tx, &ops);
            store.values.perform(&ops);
        }
        self.spare_ops.push(ops);
    }

    pub(super) fn on_crash(&mut self, node: NodeId) {
        // How much of the history is lost is known only when the next incarnation has recovered;
        // that replaces the values, too.
        let NodeStore { held, expected, values: _, history: _ } =
            &mut self.nodes[usize::from(node.0)];
        self.spare_ops.extend(held.drain(..).map(|(_, ops)| ops));
        expected.clear();
    }

    /// An incarnation begins with this state, after the first `records_kept` records of the one
    /// before.
    pub(super) fn begin_incarnation(&mut self, node: NodeId, records_kept: usize, state: &State) {
        let store = self.store(node);
        store.history.begin_incarnation(records_kept);
        store.held.clear();
        // From the recovered state, as the records behind it are lost. Whether it is the right one
        // is checked with the log (W6).
        store.values.replace(state.values.iter().map(|(key, value)| (*key, *value)));
        store.expected.clear();
        for prepared in &state.prepared {
            store.held.push((prepared.tx, prepared.part.ops().to_vec()));
            // Its locks are still held, so no value that it reads has changed since.
            store.expect_reads(prepared.tx, prepared.part.ops());
        }
    }
}

/// What nodes do, against their locks and values.
impl Isolation {
    /// I1, I2: no transaction is granted a lock that an undecided one holds, not even after a
    /// restart.
    #[inline]
    pub(super) fn check_granted(
        &self,
        node: NodeId,
        tx: TxId,
        ops: &[Op],
    ) -> Result<(), Violation> {
        let held = &self.nodes[usize::from(node.0)].held;
        // Two reads share a lock: a conflict needs a write.
        let conflicting = held.iter().filter(|(other, _)| *other != tx).find(|(_, held)| {
            held.iter().any(|a| ops.iter().any(|b| a.key == b.key && (a.writes() || b.writes())))
        });
        let Some((other, _)) = conflicting else { return Ok(()) };
        let explanation = format!("{node} granted {tx} a lock that the undecided {other} holds");
        Err(Property::UndecidedTransactionsDoNotConflict.violated(explanation))
    }

    /// I4: the reads in a Yes vote return the last writes.
    #[inline]
    pub(super) fn check_vote_reads(
        &self,
        node: NodeId,
        tx: TxId,
        reads: &Reads,
    ) -> Result<(), Violation> {
        match self.nodes[usize::from(node.0)].expected.get(tx) {
            Some(expected) if expected != reads => {
                let explanation =
                    format!("{node} read {:?} for {tx}, expected {:?}", &reads[..], &expected[..]);
                Err(Property::ReadsReturnTheLastWrite.violated(explanation))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// I4: the reads that are reported to a client are the last writes at each node, as of the
    /// locks there.
    pub(super) fn check_reported_reads(
        &self,
        id: RequestId,
        tx: TxId,
        reads: &Reads,
        model: &Model,
    ) -> Result<(), Violation> {
        let ops = model.request(id).map(RequestState::reading_ops).unwrap_or_default();
        let gets = ops.iter().filter(|op| !op.writes());
        for (at, op) in gets.clone().enumerate() {
            // The client has its reads in the order of its request, a node only those of its own
            // part.
            let nth = gets.clone().take(at).filter(|other| other.node == op.node).count();
            // No expectation is left of a node that has crashed since: its reads were checked when
            // it voted.
            let expected =
                self.nodes[usize::from(op.node.0)].expected.get(tx).and_then(|all| all.get(nth));
            let read = reads.get(at);
            if expected.is_some() && read != expected {
                let explanation = format!("{id} read {read:?} at {op}, expected {expected:?}");
                return Err(Property::ReadsReturnTheLastWrite.violated(explanation));
            }
        }
        Ok(())
    }

    /// I5: transfers preserve the total: once every transaction is decided, the accounts add up to
    /// 0.
    pub(super) fn check_account_total(&self) -> Result<(), Violation> {
        // Only transfers write accounts: each adds to one what it takes from another.
        let mut total = 0;
        for store in &self.nodes {
            total += accounts().filter_map(|key| store.values.get(key)).sum::<i64>();
        }
        if total == 0 {
            return Ok(());
        }
        let explanation = format!("the accounts add up to {total}, not 0");
        Err(Property::TransfersPreserveTheTotal.violated(explanation))
    }

    /// I4: the committed transactions have a serial order that explains every read and agrees with
    /// real time.
    pub(super) fn check_serialisable(&mut self, model: &Model) -> Result<(), Violation> {
        self.request_spans.clear();
        for (request, request_state) in model.requests() {
            let Some(tx) = request_state.committed() else { continue };
            let decision_number = model.known_transaction(tx).map_or(0, TxState::decision_number);
            self.request_spans.push(RequestSpan::new(
                request,
                decision_number,
                request_state.asked_at(),
                request_state.answered_at(),
            ));
        }
        // Nearly always the order of the decisions explains everything, and no graph is built.
        let mut out_of_order = history::contradicts_real_time(&mut self.request_spans);
        for store in &self.nodes {
            store.history.edges(|tx| committed_number(model, tx), |(a, b)| out_of_order |= a > b);
        }
        if out_of_order { self.check_no_cycle(model) } else { Ok(()) }
    }

    #[cold]
    fn check_no_cycle(&self, model: &Model) -> Result<(), Violation> {
        let mut edges = Vec::new();
        for store in &self.nodes {
            store.history.edges(|tx| committed_number(model, tx), |edge| edges.push(edge));
        }
        let Some(cycle) = history::cycle(&edges, &self.request_spans) else { return Ok(()) };
        let mut request_ids = Vec::new();
        for request in history::requests_of(&cycle, &self.request_spans) {
            request_ids.push(request.to_string());
        }
        let explanation = format!(
            "cycle of committed requests (each must precede the next, and the last the first): {}",
            request_ids.join(", ")
        );
        Err(Property::StrictlySerialisable.violated(explanation))
    }
}

/// The number of the transaction in the order of decisions; 0 if it never committed.
#[inline]
fn committed_number(model: &Model, tx: TxId) -> u32 {
    let committed = model.known_transaction(tx).filter(|tx_state| tx_state.is_committed());
    committed.map_or(0, TxState::decision_number)
}

/// AC4, I3: a refusal for a conflict names a transaction that is undecided here and holds a lock.
pub(super) fn check_conflict(
    node: NodeId,
    tx: TxId,
    holder_state: &TxState,
) -> Result<(), Violation> {
    let holder = holder_state.tx();
    if let Some((decision, _)) = holder_state.outcome(node) {
        let explanation = format!(
            "{node} refuses {tx} because of a lock of {holder}, \
             which is already {decision:?} there"
        );
        return Err(Property::LocksEndWithTheirTransaction.violated(explanation));
    }
    // A coordinator holds the locks of its own part from the first Prepare until it sends its
    // decision. It has no Prepared record, so `prepared` cannot show these locks.
    let holds_as_coordinator = holder.coordinator == node
        && holder_state.begun_at() > Micros::ZERO
        && !holder_state.is_commit_sent()
        && !holder_state.is_abort_sent();
    if holds_as_coordinator || holder_state.prepared(node) != RecordStatus::Absent {
        return Ok(());
    }
    let explanation =
        format!("{node} refuses {tx} because of a lock of {holder}, which holds no lock there");
    Err(Property::ConflictNamesALockHolder.violated(explanation))
}
