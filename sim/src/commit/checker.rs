//! The claims of two-phase commit, by their names in the specification of atomic commitment: AC1-AC5, W1-W11, I1-I5,
//! L1-L3.
//!
//! One row per transaction, updated once per event from what nodes do and what disks hold. Durability is judged at
//! the moment of sending: a record counts as durable when the disk says that it would survive the worst power cut.

mod damage;
mod end_of_run;
mod fault_free;
mod history;
mod messages;
mod records;
mod recovery;
mod repeated_recovery;

use stormglass::commit::{
    EndedTransactions, Key, Message, Op, Outcome, Reads, Request, Response, State,
};
use stormglass::{DiskOp, Effect, FileId, Incarnation, Input, NodeId, RequestId, TxId};

use super::tx_state::TxStates;
use crate::plan::Plan;
use crate::property::{Checker, Fact, Observation, Sometimes, Violation};
use crate::sorted_map::SortedMap;

/// A measure of hunts: how close L1 came to breaking.
const LIVENESS_BOUND_USED: &str = "thousandths of the liveness bound used (L1)";

/// All claims of atomic commitment in one pass.
#[derive(Clone, Debug)]
pub struct AtomicCommitChecker {
    plan: Plan,
    tx_states: TxStates,
    nodes: Vec<NodeModel>,
    /// What became of each request, as far as it shows.
    requests: SortedMap<RequestId, RequestState>,
    healed_us: Option<u64>,
    /// The greatest share of the liveness bound that was used, in thousandths.
    liveness_bound_used_permille: u64,
    counts: Counts,
    /// Whether clients probe in the end.
    probes: bool,
    /// Whether nothing has gone wrong yet, and timeouts are long enough (AC4).
    fault_free: bool,
    /// A promise was lost in a way that no node could have noticed (D10): nothing more is judged.
    undetectable_loss: bool,
    /// Empty lists of operations, kept for their memory.
    spare_ops: Vec<Vec<Op>>,
    /// COMMIT records so far: their order is that of the decisions.
    decisions: u32,
    /// Used again for its memory.
    request_spans: Vec<history::RequestSpan>,
}

/// One node, as seen from outside.
#[derive(Clone, Debug, Default)]
struct NodeModel {
    /// Log records that are appended and not durable, in order.
    pending_records: Vec<PendingRecord>,
    /// Whether this life has said anything yet: then its boot must have been durable.
    boot_checked: bool,
    /// A barrier has failed, and this life knows it.
    failed: bool,
    /// The greatest life that was ever spoken of.
    incarnation: Incarnation,
    /// The state with which this life began, and what it has appended since: the log as it must be found again.
    recovered_state: State,
    log: Payloads,
    /// How many of `log` are durable. `durable <= log.len()`
    durable: usize,
    /// Undecided and prepared here: these hold locks.
    held: Vec<(TxId, Vec<Op>)>,
    /// The values after everything that is appended.
    values: Values,
    /// Which transaction read and wrote what here (I4).
    history: history::History,
    /// What the reads of a transaction must have found here, if it reads.
    expected: SortedMap<TxId, Reads>,
    /// What this life has read back (W9).
    recovered_states: repeated_recovery::RecoveredStates,
    /// What damage at rest its next life will find (D10).
    damage: damage::Damage,
    /// It has refused to start, and nobody tries again.
    refused: bool,
    recovery: u32,
    /// What the power cuts since the last life left in the log, to be counted if the next life accepts it.
    log_torn: bool,
    torn_before_intact: bool,
    /// What coordinators have told it to be over. Who knows no more than that may stay silent (L2).
    received_end_marks: Vec<EndedTransactions>,
}

type Values = SortedMap<Key, i64>;

/// The payloads of a log, one behind the other.
#[derive(Clone, Debug, Default)]
struct Payloads {
    bytes: Vec<u8>,
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
    end: u64,
    tx: TxId,
    kind: stormglass::commit::RecordKind,
}

/// What is known of one request.
#[derive(Clone, Debug, Default)]
struct RequestState {
    committed: Option<TxId>,
    replied_committed: bool,
    replied_aborted: bool,
    /// Its client still wanted to know after the clearing.
    asked_after_heal: bool,
    /// When it was first asked, and its client first told that it is committed, in true time; 0 for never.
    asked_us: u64,
    answered_us: u64,
    /// What it reads, if anything, in the client's order: the nodes of its `Get`s.
    reads: Option<std::sync::Arc<[Op]>>,
}

/// What was sometimes seen.
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

/// Requests of which a client was told that they are aborted, by the reason that it was first given.
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
    /// Judges one run.
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

    /// Judges another run in the same memory.
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
        (self.healed_us, self.liveness_bound_used_permille, self.counts) =
            (None, 0, Counts::default());
        (self.undetectable_loss, self.decisions) = (false, 0);
    }

    /// For workloads that do not probe in the end, over nodes that are not configured as
    /// [`Commit`](super::Commit)'s are: the length of logs is not judged.
    pub fn without_probe(self) -> AtomicCommitChecker {
        AtomicCommitChecker { probes: false, ..self }
    }

    /// For runs whose faults are not all told: what only a run without any owes is not judged (AC4).
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
        (self.damage, self.refused, self.recovery) = (damage::Damage::None, false, 0);
        (self.log_torn, self.torn_before_intact) = (false, false);
        self.recovered_states = repeated_recovery::RecoveredStates::default();
        self.received_end_marks.clear();
    }

    /// Whether this life began in doubt about `tx`, and still is.
    fn recovered_in_doubt(&self, tx: TxId) -> bool {
        let recovered = self.recovered_state.prepared.iter().any(|prepared| prepared.tx == tx);
        recovered && self.held.iter().any(|(held, _)| *held == tx)
    }

    /// What only this life knew is gone.
    fn forget(&mut self, spare_ops: &mut Vec<Vec<Op>>) {
        self.pending_records.clear();
        self.failed = false;
        spare_ops.extend(self.held.drain(..).map(|(_, ops)| ops));
        self.expected.clear();
    }
}

/// Facts of any node that speaks the words of atomic commitment, be it whole or with a bug planted.
impl<N> Checker<N> for AtomicCommitChecker
where
    N: stormglass::Node<Message = Message, Request = Request, Response = Response>,
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
                    let explanation = format!("{node} goes on after a barrier has failed");
                    Err(Violation::safety("W10 NothingAfterAFailure", explanation))
                }
                Effect::Disk(DiskOp::Append { file: file @ FileId::Wal(_), about, .. }) => {
                    if !self.check_boot(node, observation.disk)? || about.subject.is_none() {
                        return Ok(()); // Judged no further; or the head of a segment.
                    }
                    self.on_append(observation.at_us, node, *file, bytes, observation.disk)
                }
                Effect::Disk(DiskOp::Append { file: FileId::Scratch, .. }) => {
                    // A compaction, not the snapshot that every life begins with.
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
            Fact::Boot => {
                self.node_model(node).recovery += 1;
                Ok(())
            }
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

    fn sometimes(&self, tally: &mut Sometimes) {
        let counts = &self.counts;
        tally.add("commit", counts.commits);
        tally.add("abort: bound broken", counts.aborts.bound);
        tally.add("abort: overflow", counts.aborts.overflow);
        tally.add("abort: conflict", counts.aborts.conflict);
        tally.add("abort: aborted earlier by a participant", counts.aborts.aborted_earlier);
        tally.add("abort: timeout", counts.aborts.timed_out);
        tally.add("abort: coordinator restarted", counts.aborts.restarted);
        tally.add("abort: not a transaction", counts.aborts.invalid);
        tally.add("boot with transactions in doubt", counts.boots_in_doubt);
        tally.add(
            "in doubt after a boot, resolved by the coordinator",
            counts.resolved_by_coordinator,
        );
        tally.add("in doubt after a boot, resolved by a peer", counts.resolved_by_peer);
        tally.add("inquiry", counts.inquiries);
        tally.add("torn tail", counts.torn_tails);
        tally.add("torn tail with intact records behind it", counts.torn_before_intact);
        tally.add("lost rename", counts.lost_renames);
        tally.add("failed sync", counts.failed_syncs);
        tally.add("disk full", counts.full_disks);
        tally.add("snapshot with prepared transactions", counts.prepared_in_snapshot);
        tally.add("boot with names evicted by capacity", counts.evicted);
        tally.add("justified blocking", counts.justified);
        tally.add("unknown answered", counts.unknown);
        tally.add("probe committed", counts.probes);
        // Of profile `rotten` only: elsewhere it would be wrong.
        if counts.refusals > 0 {
            tally.add("refused to start: damaged", counts.refusals);
        }
        if self.undetectable_loss {
            tally.add("damage like a torn tail, judged no further", 1);
        }
        tally.peak(LIVENESS_BOUND_USED, self.liveness_bound_used_permille);
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
