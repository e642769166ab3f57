//! The checker of two-phase commit: the properties of the specification of atomic commitment,
//! AC1-AC5, W1-W11, I1-I5 and L1-L3, under their ids there.
//!
//! The checker keeps one `TxState` per transaction and one model per
//! node, updated once per event from the nodes' effects and the disks' contents. Durability is
//! checked at the moment of sending: a record is durable if it would survive the worst power cut at
//! that moment.

mod damage;
mod end_of_run;
mod fault_free;
mod history;
mod messages;
mod records;
mod recovery;
mod repeated_recovery;

use stormglass::commit::TxId;
use stormglass::commit::{
    EndedTransactions, Key, Message, Op, Outcome, Reads, Request, Response, State,
};
use stormglass_node::{DiskOp, Effect, FileId, Incarnation, Input, NodeId, RequestId};

use super::tx_state::TxStates;
use crate::property::Property;
use crate::sorted_map::SortedMap;
use stormglass_sim::plan::Plan;
use stormglass_sim::property::{Checker, Fact, Observation, Sometimes, Violation};

/// The greatest share of the bound of L1 that a run used: 1000 is the bound itself.
const LIVENESS_BOUND_USED: &str = "liveness bound used, in thousandths (L1)";

/// Checks all properties of atomic commitment in one pass over the facts of a run.
#[derive(Clone, Debug)]
pub struct AtomicCommitChecker {
    plan: Plan,
    tx_states: TxStates,
    nodes: Vec<NodeModel>,
    /// The state of each request, as far as effects and answers show it.
    requests: SortedMap<RequestId, RequestState>,
    /// When the faults ended, in true time.
    healed_us: Option<u64>,
    /// The greatest share of the liveness bound that was used, in thousandths.
    liveness_bound_used_permille: u64,
    counts: Counts,
    /// Whether clients probe at the end of the run.
    probes: bool,
    /// Whether no fault has happened yet and timeouts are long enough (AC4).
    fault_free: bool,
    /// Damage (D10) removed durable records in a way that no node can detect: all checks stop.
    undetectable_loss: bool,
    /// Unused lists of operations, kept for their capacity. Their contents are stale.
    spare_ops: Vec<Vec<Op>>,
    /// The number of COMMIT records so far. Their order is the order of the decisions.
    decisions: u32,
    /// Reused for its capacity; filled and read only at the end of a run.
    request_spans: Vec<history::RequestSpan>,
}

/// What the checker knows of one node, from its effects and its disk.
#[derive(Clone, Debug, Default)]
struct NodeModel {
    /// Log records that are appended and not yet durable, in the order of the log.
    pending_records: Vec<PendingRecord>,
    /// Whether the boot of this incarnation was found durable, which its first visible effect
    /// requires.
    boot_checked: bool,
    /// This incarnation was notified of a failed barrier.
    failed: bool,
    /// The greatest incarnation that has produced a visible effect.
    incarnation: Incarnation,
    /// The state that this incarnation recovered.
    recovered_state: State,
    /// The payloads that this incarnation has appended: `recovered_state` and a prefix of `log`, of
    /// at least `durable` records, give the state that the next incarnation must recover.
    log: Payloads,
    /// How many of `log` are durable. `durable <= log.len()`
    durable: usize,
    /// The undecided transactions that are prepared here: these hold locks.
    held: Vec<(TxId, Vec<Op>)>,
    /// The values after every appended record.
    values: Values,
    /// The reads and writes of transactions here (I4).
    history: history::History,
    /// The expected results of each transaction's reads here, if it reads.
    expected: SortedMap<TxId, Reads>,
    /// The states that this incarnation and the one before it recovered (W9).
    recovered_states: repeated_recovery::RecoveredStates,
    /// The damage at rest that the next incarnation will find (D10).
    damage: damage::Damage,
    /// It has refused to boot because of damage. It is never booted again.
    refused: bool,
    /// Whether power cuts since the last boot tore a record of the log, and whether they left an
    /// intact record after a lost one. Counted once an incarnation accepts that log.
    log_torn: bool,
    torn_before_intact: bool,
    /// The end marks that it received from coordinators. A peer need not answer inquiries about
    /// transactions that it knows to have ended (L2).
    received_end_marks: Vec<EndedTransactions>,
}

type Values = SortedMap<Key, i64>;

/// The payloads of a log, concatenated.
#[derive(Clone, Debug, Default)]
struct Payloads {
    bytes: Vec<u8>,
    /// The end of each payload in `bytes`, ascending.
    ends: Vec<usize>,
}

impl Payloads {
    fn push(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len());
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[derive(Clone, Copy, Debug)]
struct PendingRecord {
    file: FileId,
    /// The length of `file` once the record is appended.
    end: u64,
    tx: TxId,
    kind: stormglass::commit::RecordKind,
}

/// What the checker knows of one request.
#[derive(Clone, Debug, Default)]
struct RequestState {
    /// The transaction that committed it.
    committed: Option<TxId>,
    replied_committed: bool,
    replied_aborted: bool,
    /// Its client asked for it, or for its outcome, after the faults ended.
    asked_after_heal: bool,
    /// When it was first asked, and when its client first learnt that it is committed, in true
    /// time; 0 for never.
    asked_us: u64,
    answered_us: u64,
    /// Its operations in the client's order, if one of them reads.
    reads: Option<std::sync::Arc<[Op]>>,
}

/// The counters of `sometimes`.
#[derive(Clone, Debug, Default)]
struct Counts {
    commits: u64,
    aborts: Aborts,
    resolved_by_coordinator: u64,
    resolved_by_peer: u64,
    boots_in_doubt: u64,
    torn_tails: u64,
    torn_before_intact: u64,
    lost_renames: u64,
    failed_syncs: u64,
    full_disks: u64,
    prepared_in_snapshot: u64,
    evicted: u64,
    justified: u64,
    unknown: u64,
    probes: u64,
    inquiries: u64,
    refusals: u64,
}

/// Requests that were reported as aborted to a client, by the reason of the first such report.
#[derive(Clone, Debug, Default)]
struct Aborts {
    bound: u64,
    overflow: u64,
    conflict: u64,
    aborted_earlier: u64,
    timed_out: u64,
    restarted: u64,
    invalid: u64,
}

impl AtomicCommitChecker {
    /// The checker of one run of this plan.
    pub fn new(plan: &Plan) -> AtomicCommitChecker {
        let mut checker = AtomicCommitChecker {
            plan: plan.clone(),
            tx_states: TxStates::default(),
            nodes: Vec::new(),
            requests: SortedMap::default(),
            healed_us: None,
            liveness_bound_used_permille: 0,
            counts: Counts::default(),
            probes: true,
            fault_free: true,
            undetectable_loss: false,
            spare_ops: Vec::new(),
            decisions: 0,
            request_spans: Vec::new(),
        };
        checker.reset(plan);
        checker
    }

    /// Makes this the checker of another run; allocated memory is kept.
    pub fn reset(&mut self, plan: &Plan) {
        let nodes = usize::from(plan.nodes);
        self.plan.clone_from(plan);
        self.fault_free = fault_free::is_fault_free(plan);
        self.tx_states.reset(nodes);
        self.nodes.resize_with(nodes, NodeModel::default);
        for node_model in &mut self.nodes {
            node_model.reset(&mut self.spare_ops);
        }
        self.requests.clear();
        self.healed_us = None;
        self.liveness_bound_used_permille = 0;
        self.counts = Counts::default();
        self.undetectable_loss = false;
        self.decisions = 0;
    }

    /// For workloads that do not probe at the end, over nodes that are configured differently from
    /// [`Commit`](super::Commit)'s: neither the probe nor the length of logs is checked.
    pub fn without_probe(self) -> AtomicCommitChecker {
        AtomicCommitChecker { probes: false, ..self }
    }

    /// For runs whose faults are not all reported as facts: AC4, a property of fault-free runs, is
    /// not checked.
    pub fn with_unknown_faults(self) -> AtomicCommitChecker {
        AtomicCommitChecker { fault_free: false, ..self }
    }

    fn node_model(&mut self, node: NodeId) -> &mut NodeModel {
        &mut self.nodes[usize::from(node.0)]
    }

    /// The greatest share of the liveness bound that was used, in thousandths.
    pub fn liveness_bound_used_permille(&self) -> u64 {
        self.liveness_bound_used_permille
    }
}

impl NodeModel {
    fn reset(&mut self, spare_ops: &mut Vec<Vec<Op>>) {
        self.forget(spare_ops);
        self.boot_checked = false;
        self.incarnation = Incarnation::default();
        self.recovered_state = State::default();
        self.log.clear();
        self.durable = 0;
        self.values.clear();
        self.history.clear();
        self.damage = damage::Damage::None;
        self.refused = false;
        self.log_torn = false;
        self.torn_before_intact = false;
        self.recovered_states = repeated_recovery::RecoveredStates::default();
        self.received_end_marks.clear();
    }

    /// Whether this incarnation began in doubt about `tx` and still is.
    fn recovered_in_doubt(&self, tx: TxId) -> bool {
        let recovered = self.recovered_state.prepared.iter().any(|prepared| prepared.tx == tx);
        recovered && self.held.iter().any(|(held, _)| *held == tx)
    }

    /// Drops what a crash of this incarnation loses.
    fn forget(&mut self, spare_ops: &mut Vec<Vec<Op>>) {
        self.pending_records.clear();
        self.failed = false;
        spare_ops.extend(self.held.drain(..).map(|(_, ops)| ops));
        self.expected.clear();
    }
}

/// Checks any node with the messages of atomic commitment: the original and its mutants.
impl<N> Checker<N> for AtomicCommitChecker
where
    N: stormglass_node::Node<Message = Message, Request = Request, Response = Response>,
{
    #[inline(always)]
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        let node = observation.node;
        if self.undetectable_loss {
            return Ok(());
        }
        match &observation.fact {
            Fact::Effect(effect, bytes) => match effect {
                Effect::Disk(_) | Effect::Send { .. } | Effect::Reply { .. }
                    if self.node_model(node).failed =>
                {
                    let explanation = format!("{node} produced an effect after a failed barrier");
                    Err(Property::NoEffectAfterAFailedSync.violated(explanation))
                }
                Effect::Disk(DiskOp::Append { file: file @ FileId::Wal(_), about, .. }) => {
                    if !self.check_boot(node, observation.disk)? || about.subject.is_none() {
                        // Either the checks have stopped, or the record is a segment's header.
                        return Ok(());
                    }
                    self.on_append(observation.at_us, node, *file, bytes, observation.disk)
                }
                Effect::Disk(DiskOp::Append { file: FileId::Scratch, .. }) => {
                    // After the boot check this is a compaction; before, the boot's snapshot.
                    let node_model = self.node_model(node);
                    if !node_model.boot_checked {
                        return self.on_boot_writes(node, observation.disk);
                    }
                    let prepared = !node_model.held.is_empty();
                    self.counts.prepared_in_snapshot += u64::from(prepared);
                    Ok(())
                }
                Effect::Disk(DiskOp::Remove { file: FileId::Scratch }) => {
                    self.on_boot_writes(node, observation.disk)
                }
                Effect::Disk(DiskOp::Remove { file }) => {
                    self.on_remove(node, *file, observation.disk)
                }
                Effect::Disk(_) | Effect::Report(_) | Effect::Halt(_) => Ok(()),
                Effect::Send { to, message } => {
                    if !self.check_boot(node, observation.disk)? {
                        return Ok(());
                    }
                    self.count_commit_to_down_node(*to, message);
                    self.on_message_sent(observation.at_us, node, message)
                }
                Effect::Reply { id, response } => {
                    if !self.check_boot(node, observation.disk)? {
                        return Ok(());
                    }
                    self.on_reply_sent(node, *id, response)
                }
            },
            Fact::Input(input) => {
                match input {
                    Input::DiskDone { result, .. } => {
                        self.on_disk_done(node, result.is_ok(), observation.disk)?
                    }
                    Input::Message { from, message } => {
                        self.on_message_received(node, *from, message)
                    }
                    Input::Request { .. } | Input::Wake => {}
                }
                Ok(())
            }
            Fact::Boot => Ok(()),
            Fact::Refused(error) => self.on_refused(node, error, observation.disk),
            Fact::Killed(_) | Fact::Halted(_) => {
                self.fault_free = false;
                self.on_kill(node);
                Ok(())
            }
            Fact::PowerCut(report) => {
                self.fault_free = false;
                self.on_power_cut(node, report);
                Ok(())
            }
            Fact::Damaged(entry) => {
                self.on_damaged(node, entry);
                Ok(())
            }
            Fact::Healed { .. } => {
                self.healed_us = Some(observation.at_us);
                Ok(())
            }
            Fact::Answered { id, response } => {
                self.on_answer(observation.at_us, *id, response);
                Ok(())
            }
            Fact::Quiesced { quiet, files } => {
                self.on_quiesced(observation.at_us, *quiet)?;
                self.check_logs_bounded(files)
            }
            Fact::Ended => self.on_ended(),
            Fact::MessageFault { .. }
            | Fact::Lost { .. }
            | Fact::BarrierFault(_)
            | Fact::WriteFault(_)
            | Fact::TimedFault(_) => {
                self.fault_free = false;
                Ok(())
            }
            Fact::Asked { id, request } => {
                self.on_asked(observation.at_us, *id, request);
                Ok(())
            }
        }
    }

    fn sometimes(&self, counters: &mut Sometimes) {
        let counts = &self.counts;
        counters.add("commit", counts.commits);
        counters.add("abort: bound violated", counts.aborts.bound);
        counters.add("abort: overflow", counts.aborts.overflow);
        counters.add("abort: conflict", counts.aborts.conflict);
        counters.add("abort: aborted earlier by a participant", counts.aborts.aborted_earlier);
        counters.add("abort: timeout", counts.aborts.timed_out);
        counters.add("abort: coordinator restarted", counts.aborts.restarted);
        counters.add("abort: invalid transaction", counts.aborts.invalid);
        counters.add("boot with transactions in doubt", counts.boots_in_doubt);
        counters.add(
            "in doubt after a boot, resolved by the coordinator",
            counts.resolved_by_coordinator,
        );
        counters.add("in doubt after a boot, resolved by a peer", counts.resolved_by_peer);
        counters.add("inquiry", counts.inquiries);
        counters.add("torn tail", counts.torn_tails);
        counters.add("torn tail with intact records after it", counts.torn_before_intact);
        counters.add("lost rename", counts.lost_renames);
        counters.add("failed sync", counts.failed_syncs);
        counters.add("disk full", counts.full_disks);
        counters.add("snapshot with prepared transactions", counts.prepared_in_snapshot);
        counters.add("boot with request log entries evicted by capacity", counts.evicted);
        counters.add("justified blocking (coordinator and informed peers down)", counts.justified);
        counters.add("outcome unknown", counts.unknown);
        counters.add("probe committed", counts.probes);
        // Only profile `bit-rot` damages data at rest. Other profiles must not list these counters:
        // a counter that stays at 0 is reported as never hit.
        if counts.refusals > 0 {
            counters.add("boot refused: damaged disk", counts.refusals);
        }
        if self.undetectable_loss {
            counters.add("damage indistinguishable from a torn tail, checks stopped", 1);
        }
        counters.peak(LIVENESS_BOUND_USED, self.liveness_bound_used_permille);
    }
}

impl AtomicCommitChecker {
    fn on_asked(&mut self, at_us: u64, id: RequestId, request: &Request) {
        let late = self.healed_us.is_some();
        let request_state = self.requests.get_or_default(id);
        request_state.asked_after_heal |= late;
        let Request::Transact { ops, .. } = request else { return };
        if request_state.asked_us == 0 {
            request_state.asked_us = at_us;
            request_state.reads = (!ops.iter().all(Op::writes)).then(|| ops.clone());
        }
    }

    fn on_answer(&mut self, at_us: u64, id: RequestId, response: &Response) {
        match response.outcome {
            Outcome::Unknown => self.counts.unknown += 1,
            Outcome::Committed { .. } => {
                let request_state = self.requests.get_or_default(id);
                if request_state.answered_us == 0 {
                    request_state.answered_us = at_us;
                }
            }
            Outcome::Aborted { .. } => {}
        }
    }
}
