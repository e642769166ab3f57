//! I1-I5 and the conflicts of AC4: locks, reads and the order of transactions.
//!
//! The records of each node are executed here a second time: what a transaction locks, what it
//! reads, and what it leaves behind.

mod history;

use stormglass::commit::{Action, Age, Decision, Op, Part, Reads, Refusal, TxId};
use stormglass_node::{Incarnation, Micros, NodeId, RequestId};

use self::history::{History, RequestSpan};
use super::model::{AskedTransaction, Model, RecordStatus, RequestState, TxState};
use super::recovery::KeptState;
use super::values::{BrokenBound, Values};
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
    /// The expected results of each transaction's reads here, if it reads (I4). Kept over crashes:
    /// the locks keep what a transaction has read, and no other transaction has its id.
    expected: SortedMap<TxId, Reads>,
    /// The transactions that are neither refused nor prepared since their first Prepare came here,
    /// each with an older one whose lock that Prepare met, if there was one (AC4).
    asking: SortedMap<TxId, Option<TxId>>,
}

impl NodeStore {
    /// Makes this the node of another run; allocated memory is kept.
    fn reset(&mut self, spare_ops: &mut Vec<Vec<Op>>) {
        let NodeStore { held, values, history, expected, asking } = self;
        spare_ops.extend(held.drain(..).map(|(_, ops)| ops));
        values.clear();
        history.clear();
        expected.clear();
        asking.clear();
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
        let NodeStore { held, asking, expected: _, values: _, history: _ } =
            &mut self.nodes[usize::from(node.0)];
        self.spare_ops.extend(held.drain(..).map(|(_, ops)| ops));
        asking.clear();
    }

    /// An incarnation begins with this state, after the first `records_kept` records of the one
    /// before.
    pub(super) fn begin_incarnation(
        &mut self,
        node: NodeId,
        records_kept: usize,
        kept: &KeptState,
    ) {
        let store = self.store(node);
        store.history.begin_incarnation(records_kept);
        store.held.clear();
        // The records behind the kept ones are lost, and so are the values that they left.
        store.values.replace(kept.values());
        // What they read is expected already: their locks are still held.
        for (tx, part) in kept.prepared() {
            store.held.push((tx, part.ops().to_vec()));
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
        let conflicting = held
            .iter()
            .filter(|(other, _)| *other != tx)
            .find(|(_, held)| conflict(held.iter(), ops.iter()));
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
        let expected = self.nodes[usize::from(node.0)].expected.get(tx);
        // A transaction without reads has no expectation.
        let expected = expected.map(|expected| &expected[..]).unwrap_or_default();
        if reads[..] == *expected {
            return Ok(());
        }
        let explanation = format!("{node} read {:?} for {tx}, expected {expected:?}", &reads[..]);
        Err(Property::ReadsReturnTheLastWrite.violated(explanation))
    }

    /// I6: each Add of a part that is prepared or committed here keeps its bound. Its keys are
    /// locked, so it still does when it is applied.
    #[inline]
    pub(super) fn check_bounds(&self, node: NodeId, tx: TxId, ops: &[Op]) -> Result<(), Violation> {
        let Some((key, broken)) = self.nodes[usize::from(node.0)].values.broken_bound(ops) else {
            return Ok(());
        };
        let explanation = format!("{node} accepts {tx}, whose Add to {key} breaks it: {broken:?}");
        Err(Property::AddsKeepTheirBounds.violated(explanation))
    }

    /// A Prepare arrives from the coordinator, at the node of its part.
    #[inline]
    pub(super) fn on_prepare_received(
        &mut self,
        node: NodeId,
        tx: TxId,
        part: &Part,
        model: &Model,
    ) {
        let store = &mut self.nodes[usize::from(node.0)];
        // A copy of the Prepare of one that waits changes nothing: it waits, even if an older one
        // has got another of its locks meanwhile.
        if store.asking.get(tx).is_some() {
            return;
        }
        let older = store.held.iter().find(|(other, held)| {
            *other != tx
                && conflict(held.iter(), part.ops().iter())
                && age_of(*other, model).is_some_and(|age| age < part.age())
        });
        let older = older.map(|(older, _)| *older);
        store.asking.insert(tx, older);
    }

    /// A No vote is sent.
    #[inline]
    pub(super) fn on_refused(&mut self, node: NodeId, tx: TxId) {
        self.store(node).asking.remove(tx);
    }

    /// AC4: a younger transaction does not begin to wait for an older one: it is prepared only if
    /// its Prepare met no lock of an older one.
    #[inline]
    pub(super) fn check_has_not_waited(&mut self, node: NodeId, tx: TxId) -> Result<(), Violation> {
        let Some(older) = self.store(node).asking.remove(tx).flatten() else { return Ok(()) };
        let explanation = format!("{node} prepares {tx} after it waited for the older {older}");
        Err(Property::OnlyOlderTransactionsWait.violated(explanation))
    }

    /// AC4: the reason of a refusal is true. `tx` is the refused transaction; it is unknown if its
    /// coordinator refuses its own part. `age` is its age.
    pub(super) fn check_refusal(
        &self,
        node: NodeId,
        request: RequestId,
        tx: Option<TxId>,
        age: Option<Age>,
        refusal: &Refusal,
        model: &Model,
    ) -> Result<(), Violation> {
        let Some(asked) = model.request(request).and_then(RequestState::asked) else {
            return Ok(());
        };
        let broken = match refusal {
            Refusal::Conflict { holder } => {
                return check_holder(node, request, asked, age, *holder, model);
            }
            Refusal::Aborted => {
                let outcome = tx.and_then(|tx| model.known_transaction(tx)?.outcome(node));
                if let Some((Decision::Aborted, _)) = outcome {
                    return Ok(());
                }
                let explanation = format!("{node} refuses {request} as aborted, and did not abort");
                return Err(Property::RefusalsAreTrue.violated(explanation));
            }
            Refusal::Bound { key } => (*key, BrokenBound::Bound),
            Refusal::Overflow { key } => (*key, BrokenBound::Overflow),
        };
        let ops: Vec<Op> = asked.ops_at(node).copied().collect();
        let found = self.nodes[usize::from(node.0)].values.broken_bound(&ops);
        if found == Some(broken) {
            return Ok(());
        }
        let explanation =
            format!("{node} refuses {request} because of {broken:?}, but in truth {found:?}");
        Err(Property::RefusalsAreTrue.violated(explanation))
    }

    /// I4: the reads that are reported to a client are the last writes at each node, as of the
    /// locks there; none is missing, unless `by` is a later incarnation than the transaction's.
    pub(super) fn check_reported_reads(
        &self,
        id: RequestId,
        tx: TxId,
        by: Incarnation,
        reads: Option<&Reads>,
        model: &Model,
    ) -> Result<(), Violation> {
        let asked = model.request(id).and_then(RequestState::asked);
        // A log of real nodes may not have the request.
        let Some(asked) = asked else { return Ok(()) };
        let gets = asked.ops.iter().filter(|op| !op.writes());
        let Some(reads) = reads else {
            // A later incarnation has the outcome from its log, which has no reads.
            if by > tx.incarnation || gets.clone().next().is_none() {
                return Ok(());
            }
            let explanation = format!("{id} is answered without what {tx} has read");
            return Err(Property::ReadsReturnTheLastWrite.violated(explanation));
        };
        if gets.clone().count() != reads.len() {
            let explanation = format!("{id} is answered with {} reads", reads.len());
            return Err(Property::ReadsReturnTheLastWrite.violated(explanation));
        }
        for (at, op) in gets.clone().enumerate() {
            // The client has its reads in the order of its request, a node only those of its own
            // part.
            let nth = gets.clone().take(at).filter(|other| other.node == op.node).count();
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
    pub(super) fn check_account_total(&self, model: &Model) -> Result<(), Violation> {
        // Each transfer adds to one account what it takes from another.
        let mut total = 0;
        for store in &self.nodes {
            total += accounts().filter_map(|key| store.values.get(key)).sum::<i64>();
        }
        if total == 0 || sets_account(model) {
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

/// Whether a request sets or removes an account, as no transfer does: that of a schedule written by
/// hand, or shrunk.
#[cold]
fn sets_account(model: &Model) -> bool {
    let asked = model.requests().filter_map(|(_, request_state)| request_state.asked());
    asked.flat_map(|transaction| &*transaction.ops).any(|op| {
        matches!(op.action, Action::Put(_) | Action::Delete)
            && accounts().any(|account| account == op.key)
    })
}

/// Whether these operations need locks that conflict. Two reads share a lock.
#[inline]
fn conflict<'a>(
    these: impl Iterator<Item = &'a Op>,
    those: impl Iterator<Item = &'a Op> + Clone,
) -> bool {
    for a in these {
        if those.clone().any(|b| a.key == b.key && (a.writes() || b.writes())) {
            return true;
        }
    }
    false
}

/// The age of a transaction, if a Prepare or a record has named it.
fn age_of(tx: TxId, model: &Model) -> Option<Age> {
    model.known_transaction(tx)?.age()
}

/// AC4: the holder of a lock that refuses this request is older, and its operations conflict.
fn check_holder(
    node: NodeId,
    request: RequestId,
    asked: &AskedTransaction,
    age: Option<Age>,
    holder: TxId,
    model: &Model,
) -> Result<(), Violation> {
    let holder_request = model.known_transaction(holder).and_then(TxState::request);
    let holder_request = holder_request.and_then(|request| model.request(request));
    let Some(held) = holder_request.and_then(RequestState::asked) else { return Ok(()) };
    if !conflict(held.ops_at(node), asked.ops_at(node)) {
        let explanation = format!(
            "{node} refuses {request} because of a lock of {holder}, which holds none that \
             conflicts"
        );
        return Err(Property::ConflictNamesALockHolder.violated(explanation));
    }
    if let (Some(held), Some(refused)) = (age_of(holder, model), age)
        && held > refused
    {
        let explanation =
            format!("{node} refuses {request} because of a lock of {holder}, which is younger");
        return Err(Property::OnlyYoungerTransactionsAreRefused.violated(explanation));
    }
    Ok(())
}

/// AC4, I3: a refusal for a conflict names a transaction that is undecided here and holds a lock.
pub(super) fn check_conflict(
    node: NodeId,
    request: RequestId,
    holder_state: &TxState,
) -> Result<(), Violation> {
    let holder = holder_state.tx();
    if let Some((decision, _)) = holder_state.outcome(node) {
        let explanation = format!(
            "{node} refuses {request} because of a lock of {holder}, \
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
    let explanation = format!(
        "{node} refuses {request} because of a lock of {holder}, which holds no lock there"
    );
    Err(Property::ConflictNamesALockHolder.violated(explanation))
}
