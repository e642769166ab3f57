//! What is known of a run: its transactions, its requests, the ends of the logs and the nodes that
//! never boot again.
//!
//! Only the checker itself changes the model, by one method per fact. Properties read it.

mod log_tail;
mod request_state;
mod tx_state;

use stormglass::commit::{
    AbortReason, Age, Decision, Part, RecordHeader, RecordKind, Request, TxId,
};
use stormglass_node::{FileId, Incarnation, Micros, NodeId, RequestId};

use self::log_tail::LogTail;
pub(crate) use self::request_state::{AskedTransaction, RequestState};
use self::tx_state::TxStates;
pub(crate) use self::tx_state::{Cost, RecordStatus, TxState};
use super::node_set::NodeSet;
use super::recovery::KeptState;
use crate::sorted_map::SortedMap;
use stormglass_sim::disk::Disk;
use stormglass_sim::plan::Plan;

/// What is known of a run.
#[derive(Clone, Debug)]
pub(super) struct Model {
    plan: Plan,
    transactions: TxStates,
    /// By request, its index in `request_states`.
    // Apart from the states: a new request is often not the greatest, and what is sorted moves.
    requests: SortedMap<RequestId, usize>,
    request_states: Vec<RequestState>,
    /// By node.
    log_tails: Vec<LogTail>,
    /// Nodes that have refused to boot because of damage. They are never booted again.
    refused: NodeSet,
    /// Nodes whose present incarnation has served anybody.
    serving: NodeSet,
    /// When the faults ended, in true time.
    healed_at: Option<Micros>,
    /// The number of COMMIT records so far. Their order is the order of the decisions.
    decisions: u32,
    /// Nodes execute other operations than clients ask for. Stays over a reset.
    ignores_operations: bool,
}

impl Model {
    pub(super) fn new(plan: &Plan) -> Model {
        let mut model = Model {
            plan: plan.clone(),
            transactions: TxStates::default(),
            requests: SortedMap::default(),
            request_states: Vec::new(),
            log_tails: Vec::new(),
            refused: NodeSet::default(),
            serving: NodeSet::default(),
            healed_at: None,
            decisions: 0,
            ignores_operations: false,
        };
        model.reset(plan);
        model
    }

    /// Makes this the model of another run; allocated memory is kept.
    pub(super) fn reset(&mut self, plan: &Plan) {
        // Every field by name: what another run left behind would make a property lie.
        let Model {
            plan: old,
            transactions,
            requests,
            request_states,
            log_tails,
            refused,
            serving,
            healed_at,
            decisions,
            ignores_operations: _,
        } = self;
        let nodes = usize::from(plan.nodes);
        old.clone_from(plan);
        transactions.reset(nodes);
        requests.clear();
        request_states.clear();
        log_tails.iter_mut().for_each(LogTail::clear);
        log_tails.resize_with(nodes, LogTail::default);
        *refused = NodeSet::default();
        *serving = NodeSet::default();
        *healed_at = None;
        *decisions = 0;
    }

    /// Nodes execute other operations than clients ask for.
    pub(super) fn ignore_operations(&mut self) {
        self.ignores_operations = true;
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// When the faults ended, in true time.
    #[inline]
    pub(super) fn healed_at(&self) -> Option<Micros> {
        self.healed_at
    }

    /// Whether the plan keeps the node down after the faults.
    pub(super) fn is_never_restarted(&self, node: NodeId) -> bool {
        self.plan.permanently_down.contains(&node)
    }

    /// Whether the node never boots again: by plan, or because it refused to.
    pub(super) fn is_permanently_down(&self, node: NodeId) -> bool {
        self.is_never_restarted(node) || self.refused.contains(node)
    }

    /// Whether the present incarnation has served a client or another node.
    #[inline]
    pub(super) fn is_serving(&self, node: NodeId) -> bool {
        self.serving.contains(node)
    }

    /// Whether the node serves nobody for the rest of the run: it is permanently down, or so many
    /// others are that its present incarnation cannot be confirmed by a majority of its peers.
    pub(super) fn is_out_of_service(&self, node: NodeId) -> bool {
        if self.is_permanently_down(node) {
            return true;
        }
        let mut declared_lost = 0;
        let mut up = 0;
        for peer in (0..self.plan.nodes).map(NodeId).filter(|peer| *peer != node) {
            declared_lost += usize::from(self.is_never_restarted(peer));
            up += usize::from(!self.is_permanently_down(peer));
        }
        let peers = usize::from(self.plan.nodes - 1);
        let needed = (peers / 2 + 1).saturating_sub(declared_lost);
        !self.serving.contains(node) && up < needed
    }

    /// Whether any node is permanently down.
    pub(super) fn has_permanently_down_nodes(&self) -> bool {
        !self.plan.permanently_down.is_empty() || !self.refused.is_empty()
    }

    /// The state of a request, if any fact has named it.
    #[inline]
    pub(super) fn request(&self, id: RequestId) -> Option<&RequestState> {
        self.requests.get(id).map(|index| &self.request_states[*index])
    }

    /// The state of a request, added if it is new.
    #[inline]
    fn request_mut(&mut self, id: RequestId) -> &mut RequestState {
        let next = self.request_states.len();
        let index = *self.requests.get_or_insert(id, next);
        if index == next {
            self.request_states.push(RequestState::default());
        }
        &mut self.request_states[index]
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = (RequestId, &RequestState)> + Clone {
        self.requests.iter().map(|(id, index)| (id, &self.request_states[*index]))
    }

    /// The transaction that has committed a request.
    #[inline]
    pub(super) fn committed_by(&self, id: RequestId) -> Option<&TxState> {
        self.transactions.get(self.request(id)?.committed()?)
    }

    /// All transactions, in the order in which facts have named them.
    pub(super) fn transactions(&self) -> impl Iterator<Item = &TxState> {
        self.transactions.iter()
    }

    /// The state of a transaction, if any fact has named it.
    #[inline]
    pub(super) fn known_transaction(&self, tx: TxId) -> Option<&TxState> {
        self.transactions.get(tx)
    }

    /// The state of a transaction, added if it is new.
    #[inline]
    pub(super) fn transaction(&mut self, tx: TxId) -> &TxState {
        self.transactions.get_or_add(tx)
    }

    /// The number of records in the node's log that have become durable since the last call of
    /// [`remove_durable`](Model::remove_durable).
    #[inline]
    pub(super) fn newly_durable(&self, node: NodeId, disk: &Disk) -> usize {
        self.log_tails[usize::from(node.0)].durable(disk)
    }

    /// One of these records.
    #[inline]
    pub(super) fn pending_record(&self, node: NodeId, index: usize) -> (TxId, RecordKind) {
        self.log_tails[usize::from(node.0)].record(index)
    }
}

/// Facts about the cluster and its clients.
impl Model {
    pub(super) fn heal(&mut self, at: Micros) {
        self.healed_at = Some(at);
    }

    /// The node's process has ended: its log is what its next incarnation recovers.
    pub(super) fn crash(&mut self, node: NodeId) {
        self.transactions.crash(node);
        self.serving.remove(node);
        self.log_tails[usize::from(node.0)].clear();
    }

    /// The node's present incarnation serves a client or another node.
    #[inline]
    pub(super) fn serve(&mut self, node: NodeId) {
        self.serving.insert(node);
    }

    pub(super) fn stay_down(&mut self, node: NodeId) {
        self.refused.insert(node);
    }

    /// A client asks for a request or for its outcome.
    pub(super) fn ask(&mut self, at: Micros, id: RequestId, request: &Request) {
        let is_healed = self.healed_at.is_some();
        let ignores_operations = self.ignores_operations;
        let request_state = self.request_mut(id);
        request_state.on_asked(is_healed);
        if ignores_operations {
            request_state.ignore_operations();
        }
        match request {
            Request::Transact { addressed, began_at, ops, seen: _ } => {
                let asked = AskedTransaction {
                    ops: ops.clone(),
                    began_at: *began_at,
                    addressed: *addressed,
                };
                request_state.on_transaction_asked(at, asked);
            }
            Request::Outcome { .. } => {}
        }
    }

    /// A client learns that its request is aborted.
    pub(super) fn answer_aborted(&mut self, id: RequestId) {
        self.request_mut(id).on_aborted_answer();
    }

    /// A client learns that its request is forgotten.
    pub(super) fn answer_forgotten(&mut self, id: RequestId) {
        self.request_mut(id).on_forgotten_answer();
    }

    /// A client learns that its request is committed.
    pub(super) fn answer_committed(&mut self, at: Micros, id: RequestId) {
        self.request_mut(id).on_committed_answer(at);
    }

    /// A coordinator reports the request as committed to its client.
    pub(super) fn report_committed(&mut self, id: RequestId) {
        self.request_mut(id).report_committed();
    }

    /// A coordinator reports the request as aborted to its client. Returns whether it is the first
    /// such report.
    pub(super) fn report_aborted(
        &mut self,
        id: RequestId,
        by: Incarnation,
        reason: AbortReason,
    ) -> bool {
        self.request_mut(id).report_aborted(by, reason)
    }

    /// The transaction has committed the request.
    #[inline]
    pub(super) fn commit_request(&mut self, request: RequestId, tx: TxId) {
        self.request_mut(request).commit(tx);
    }
}

/// Facts about messages.
impl Model {
    /// A message about the transaction is sent.
    #[inline]
    pub(super) fn count_message(&mut self, at: Micros, tx: TxId) {
        self.transactions.get_or_add(tx).count_message(at);
    }

    /// A record of the transaction is appended.
    #[inline]
    pub(super) fn count_record(&mut self, at: Micros, tx: TxId) {
        self.transactions.get_or_add(tx).count_record(at);
    }

    /// The coordinator sends Prepare. Returns whether it is the first of the transaction.
    #[inline]
    pub(super) fn send_prepare(
        &mut self,
        at: Micros,
        tx: TxId,
        request: RequestId,
        part: &Part,
    ) -> bool {
        let tx_state = self.transactions.get_or_add(tx);
        tx_state.set_participants(part.participants().iter().copied());
        tx_state.set_age(part.age());
        tx_state.set_request(request);
        tx_state.count_prepare();
        let is_first = tx_state.begin(at);
        if is_first {
            self.request_mut(request).begin(tx);
        }
        is_first
    }

    #[inline]
    pub(super) fn send_commit(&mut self, tx: TxId) {
        self.transactions.get_or_add(tx).send_commit();
    }

    #[inline]
    pub(super) fn send_abort(&mut self, tx: TxId) {
        self.transactions.get_or_add(tx).send_abort();
    }

    /// A Yes vote reaches the coordinator.
    #[inline]
    pub(super) fn receive_yes(&mut self, tx: TxId, from: NodeId) {
        self.transactions.get_or_add(tx).receive_yes(from);
    }

    /// An Ack reaches the coordinator.
    #[inline]
    pub(super) fn receive_ack(&mut self, tx: TxId, from: NodeId) {
        self.transactions.get_or_add(tx).receive_ack(from);
    }
}

/// Facts about logs.
impl Model {
    /// A record is appended to `file`, which ends at `end` then.
    #[inline]
    pub(super) fn append(&mut self, node: NodeId, file: FileId, end: u64, record: RecordHeader) {
        let RecordHeader { kind, tx, request } = record;
        self.log_tails[usize::from(node.0)].append(file, end, tx, kind);
        // MET is about no transaction.
        if kind != RecordKind::Met {
            self.transactions.get_or_add(tx).set_request(request);
        }
    }

    /// A record names the participants, and the age.
    #[inline]
    pub(super) fn name_participants(
        &mut self,
        tx: TxId,
        participants: impl Iterator<Item = NodeId>,
        age: Option<Age>,
    ) {
        let tx_state = self.transactions.get_or_add(tx);
        tx_state.set_participants(participants);
        if let Some(age) = age {
            tx_state.set_age(age);
        }
    }

    #[inline]
    pub(super) fn append_prepared(&mut self, node: NodeId, tx: TxId) {
        self.transactions.get_or_add(tx).set_prepared(node, RecordStatus::Appended);
    }

    #[inline]
    pub(super) fn append_commit(&mut self, at: Micros, tx: TxId) {
        self.decisions += 1;
        let tx_state = self.transactions.get_or_add(tx);
        tx_state.append_commit(self.decisions);
        // A transaction of one node sends no Prepare: it begins with this record.
        tx_state.begin(at);
    }

    #[inline]
    pub(super) fn append_outcome(&mut self, node: NodeId, tx: TxId, decision: Decision) {
        self.transactions.get_or_add(tx).set_outcome(node, decision, RecordStatus::Appended);
    }

    #[inline]
    pub(super) fn append_end(&mut self, tx: TxId) {
        self.transactions.get_or_add(tx).end();
    }

    #[inline]
    pub(super) fn make_prepared_durable(&mut self, node: NodeId, tx: TxId) {
        self.transactions.get_or_add(tx).set_prepared(node, RecordStatus::Durable);
    }

    #[inline]
    pub(super) fn make_commit_durable(&mut self, tx: TxId) {
        self.transactions.get_or_add(tx).make_commit_durable();
    }

    /// The node's outcome record is durable.
    #[inline]
    pub(super) fn decide(&mut self, node: NodeId, tx: TxId, decision: Decision) {
        self.transactions.get_or_add(tx).decide(node, decision);
    }

    /// Removes the first `count` pending records.
    #[inline]
    pub(super) fn remove_durable(&mut self, node: NodeId, count: usize) {
        self.log_tails[usize::from(node.0)].remove_first(count);
    }

    /// An incarnation begins with these transactions prepared.
    pub(super) fn recover_prepared(&mut self, node: NodeId, kept: &KeptState) {
        for (tx, part) in kept.prepared() {
            let tx_state = self.transactions.get_or_add(tx);
            tx_state.set_participants(part.participants().iter().copied());
            tx_state.set_prepared(node, RecordStatus::Durable);
        }
    }

    /// A recovered coordinator remembers that the transaction has committed a request.
    pub(super) fn recover_committed(&mut self, tx: TxId) {
        self.transactions.get_or_add(tx).recover_committed();
    }
}
