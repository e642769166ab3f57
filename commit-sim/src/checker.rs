//! The checker of two-phase commit: the properties of the specification of atomic commitment,
//! AC1-AC5, W1-W14, I1-I6 and L1-L4, under their ids there.
//!
//! The checker passes each fact of a run to the properties that it concerns, and then to the
//! model, which is what they have in common. Each family of properties is a module of its own:
//!
//! | module | properties |
//! |---|---|
//! | `decisions` | AC1, AC2, AC3: decisions agree |
//! | `fault_free` | AC4, L4: runs without faults commit, and at what cost |
//! | `damage_alarm` | W13: loss is reported |
//! | `write_ahead` | W1-W5, W10: records are durable before the effects that depend on them |
//! | `recovery` | W6, W7, W9, W10: what an incarnation recovers; changes at rest (D10, D13-D16) |
//! | `removal` | W8: which files are removed, and when |
//! | `permanence` | W11: commits are permanent, exactly once |
//! | `second_process` | W14: a second process under a node's id is silent (D17) |
//! | `isolation` | I1-I6, refusals and waits of AC4: locks, reads, bounds, serialisability |
//! | `values` | no property: the values that `isolation` and `recovery` expect |
//! | `answers` | W12, parts of AC3: records hold what was asked for, answers are true |
//! | `liveness` | L1-L3, AC5: everything ends |
//! | `coverage` | no property: the counters of `sometimes` |

mod answers;
mod coverage;
mod damage_alarm;
mod decisions;
mod fault_free;
mod forgetting;
mod isolation;
mod liveness;
mod model;
mod node_set;
mod permanence;
mod recovery;
mod removal;
mod second_process;
mod values;
mod write_ahead;

use stormglass::commit::{
    AbortReason, Age, Body, Decision, Event, InquiryReply, Message, Op, Outcome, RecordHeader,
    RecordKind, RecordView, Refusal, Request, Response, TxId, Vote,
};
use stormglass_node::{
    BootError, DiskOp, Effect, FileId, HaltReason, Incarnation, Input, Micros, NodeId, RequestId,
    Time, wal,
};

use self::answers::{Answers, first_attempt};
use self::coverage::Coverage;
use self::damage_alarm::DamageAlarm;
use self::fault_free::FaultFree;
use self::forgetting::Forgetting;
use self::isolation::Isolation;
use self::liveness::Liveness;
use self::model::{Model, RequestState};
use self::recovery::{Recovered, Recovery};
use self::second_process::SecondProcesses;
use self::write_ahead::WriteAhead;
use crate::Property;
use stormglass_sim::disk::Disk;
use stormglass_sim::fault::TimedFault;
use stormglass_sim::plan::Plan;
use stormglass_sim::property::{
    Checker, ClientFact, Fact, FaultFact, JudgedUntil, Observation, ProcessFact, RunFact,
    Sometimes, Violation, halt_is_final,
};
use stormglass_sim::run_end::RecoveryEnd;

/// Checks all properties of atomic commitment in one pass over the facts of a run.
#[derive(Clone, Debug)]
pub struct AtomicCommitChecker {
    model: Model,
    fault_free: FaultFree,
    write_ahead: WriteAhead,
    recovery: Recovery,
    isolation: Isolation,
    answers: Answers,
    forgetting: Forgetting,
    damage_alarm: DamageAlarm,
    liveness: Liveness,
    coverage: Coverage,
    second_processes: SecondProcesses,
    /// When the checks stopped, after damage that no node can detect.
    stopped_at: Option<Micros>,
}

impl AtomicCommitChecker {
    /// The checker of one run of this plan.
    pub fn new(plan: &Plan) -> AtomicCommitChecker {
        let nodes = usize::from(plan.nodes);
        AtomicCommitChecker {
            model: Model::new(plan),
            fault_free: FaultFree::new(plan),
            write_ahead: WriteAhead::new(nodes),
            recovery: Recovery::new(nodes),
            isolation: Isolation::new(nodes),
            answers: Answers::new(nodes),
            forgetting: forgetting(plan),
            damage_alarm: DamageAlarm::default(),
            liveness: Liveness::new(nodes),
            coverage: Coverage::default(),
            second_processes: SecondProcesses::default(),
            stopped_at: None,
        }
    }

    /// Makes this the checker of another run; allocated memory is kept.
    pub fn reset(&mut self, plan: &Plan) {
        let AtomicCommitChecker {
            model,
            fault_free,
            write_ahead,
            recovery,
            isolation,
            answers,
            forgetting,
            damage_alarm,
            liveness,
            coverage,
            second_processes,
            stopped_at,
        } = self;
        let nodes = usize::from(plan.nodes);
        model.reset(plan);
        *fault_free = FaultFree::new(plan);
        write_ahead.reset(nodes);
        recovery.reset(nodes);
        isolation.reset(nodes);
        answers.reset(nodes);
        *forgetting = self::forgetting(plan);
        *damage_alarm = DamageAlarm::default();
        liveness.reset(nodes);
        *coverage = Coverage::default();
        *second_processes = SecondProcesses::default();
        *stopped_at = None;
    }

    /// For workloads that do not probe at the end, over nodes that are configured differently from
    /// [`Commit`](super::Commit)'s: neither the probe nor the length of logs is checked.
    pub fn without_probe(mut self) -> AtomicCommitChecker {
        self.liveness.expect_no_probe();
        self
    }

    /// For nodes that execute other operations than clients ask for, on purpose: what they record
    /// and answer is not compared with the request (AC3, AC4, I4, W12).
    pub fn with_edited_operations(mut self) -> AtomicCommitChecker {
        self.model.ignore_operations();
        self
    }

    /// For nodes that send more messages than they need, on purpose: messages are compared neither
    /// with the table of costs (L4) nor with the retry period of inquiries (L2).
    pub fn with_additional_messages(mut self) -> AtomicCommitChecker {
        self.fault_free.ignore_costs();
        self.liveness.ignore_inquiries();
        self
    }

    /// For runs whose faults are not all reported as facts, and whose times are not those of one
    /// clock: AC4, a property of fault-free runs, is not checked, nor whether ages grow with time.
    pub fn with_unknown_faults(mut self) -> AtomicCommitChecker {
        self.fault_free.on_fault();
        self.answers.ignore_times();
        self
    }
}

/// A node with the messages, requests, responses and events of atomic commitment.
pub trait CommitLike:
    stormglass_node::Node<Message = Message, Request = Request, Response = Response, Event = Event>
{
}

impl<N> CommitLike for N where
    N: stormglass_node::Node<
            Message = Message,
            Request = Request,
            Response = Response,
            Event = Event,
        >
{
}

/// Checks any node with the messages of atomic commitment: the original and its mutants.
impl<N> Checker<N> for AtomicCommitChecker
where
    N: CommitLike,
{
    #[inline(always)]
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        let node = observation.node;
        let disk = observation.disk;
        let at = observation.at;
        // No property of the protocol can hold once durable records are lost.
        if self.recovery.undetectable_loss().is_some() {
            self.stopped_at.get_or_insert(at);
            return self.check_after_loss(node, observation.fact);
        }
        if self.second_processes.exist()
            && let Some(verdict) = self.second_processes.check(node, observation.fact)
        {
            return verdict;
        }
        match observation.fact {
            Fact::Effect(effect, bytes) => match effect {
                Effect::Disk(op) => {
                    self.write_ahead.check_effect(node)?;
                    self.on_disk_op(at, node, op, bytes, disk)
                }
                Effect::Send { to, message } => {
                    self.write_ahead.check_effect(node)?;
                    if message.is_introduction() {
                        let is_complete = self.check_introduction(node, disk)?;
                        // One that has lost records has also lost what it had met.
                        if is_complete && let Body::Remembered { .. } = message.body {
                            self.write_ahead.check_remembered(node, message.tx)?;
                        }
                        return Ok(());
                    }
                    if !self.check_boot(node, disk)? {
                        return Ok(());
                    }
                    self.on_message_sent(at, node, *to, message)
                }
                Effect::Reply { id, response } => {
                    self.write_ahead.check_effect(node)?;
                    if !self.check_boot(node, disk)? {
                        return Ok(());
                    }
                    self.on_reply_sent(node, *id, response)
                }
                Effect::Report(Event::Damage { tx, .. }) if !self.recovery.has_changed(node) => {
                    Err(damage_alarm::false_alarm(node, *tx))
                }
                // Neither leaves the node: a report is for the operator, a halt ends the process.
                Effect::Report(_) | Effect::Halt(_) => Ok(()),
            },
            Fact::Input(Input::DiskDone { result, .. }) => {
                self.on_disk_done(node, result.is_ok(), disk)
            }
            Fact::Input(Input::Message { from, message }) => {
                self.on_message_received(node, *from, message);
                Ok(())
            }
            // A request is known since its client asked, and a boot is judged at its first visible
            // effect.
            Fact::Input(Input::Request { id, request }) => {
                self.forgetting.on_received(node, *id, request);
                Ok(())
            }
            Fact::Input(Input::Connected { .. } | Input::Disconnected { .. } | Input::Wake) => {
                Ok(())
            }
            Fact::Process(ProcessFact::Boot) => {
                self.recovery.on_boot(node);
                Ok(())
            }
            Fact::Process(ProcessFact::Refused(error)) => {
                self.recovery.check_refused(node, error, disk)?;
                if let BootError::Unreadable { .. } = error {
                    // The node is booted again, and can read the file then.
                    self.coverage.on_refused_unreadable();
                } else {
                    self.model.stay_down(node);
                    self.coverage.on_refused();
                }
                Ok(())
            }
            Fact::Process(ProcessFact::Halted(reason)) => {
                if let HaltReason::OperatorNeeded(reason) = reason {
                    self.recovery.check_refused_by_peers(node, reason)?;
                    self.coverage.on_refused_by_peers();
                }
                if halt_is_final(reason) {
                    self.model.stay_down(node);
                }
                // It keeps its page cache, like one that is killed.
                self.recovery.on_kill(node);
                self.on_crash(node);
                Ok(())
            }
            Fact::Process(ProcessFact::Killed(_)) => {
                self.recovery.on_kill(node);
                self.on_crash(node);
                Ok(())
            }
            Fact::Process(ProcessFact::SecondProcess(_)) => {
                self.second_processes.begin(node);
                self.recovery.on_second_process(node);
                self.fault_free.on_fault();
                Ok(())
            }
            // The first process goes on: its model has not changed meanwhile.
            Fact::Process(ProcessFact::Resumed) => Ok(()),
            Fact::Process(ProcessFact::PowerCut(report)) => {
                self.recovery.on_power_cut(node);
                self.coverage.on_power_cut(node, report);
                self.on_crash(node);
                Ok(())
            }
            Fact::Process(ProcessFact::Damaged(entry)) => {
                self.recovery.on_damaged(node, entry);
                Ok(())
            }
            Fact::Process(ProcessFact::DiskChanged(change)) => {
                self.recovery.on_disk_changed(node, change);
                Ok(())
            }
            Fact::Process(ProcessFact::Unreadable(file)) => {
                self.recovery.on_unreadable(node, *file);
                Ok(())
            }
            Fact::Run(RunFact::Healed { .. }) => {
                self.model.heal(at);
                Ok(())
            }
            Fact::Client(ClientFact::Asked { id, request }) => {
                self.model.ask(at, *id, request);
                self.forgetting.on_asked(*id, request);
                Ok(())
            }
            Fact::Client(ClientFact::Answered { id, response }) => {
                match response.outcome {
                    Outcome::Unknown => {
                        self.coverage.on_unknown();
                        if self.is_over(*id) && self.forgetting.may_be_forgotten(*id) {
                            self.model.answer_forgotten(*id);
                        }
                    }
                    Outcome::Committed { .. } => self.model.answer_committed(at, *id),
                    // Only committed requests have a place in the order of real time.
                    Outcome::Aborted { .. } => self.model.answer_aborted(*id),
                }
                Ok(())
            }
            Fact::Run(RunFact::Recovered { how, files }) => {
                let verdict = self.on_quiesced(at, *how == RecoveryEnd::Quiet, files);
                verdict.map_err(|violation| self.cause_of(violation))
            }
            Fact::Run(RunFact::Ended) => {
                let verdict = self.on_ended();
                verdict.map_err(|violation| self.cause_of(violation))
            }
            // C4: the contract of a node allows an early wake, so transactions commit as without.
            Fact::Fault(FaultFact::Timed(TimedFault::Wake { .. })) => Ok(()),
            Fact::Fault(_) | Fact::Lost { .. } => {
                self.fault_free.on_fault();
                Ok(())
            }
        }
    }

    fn sometimes(&self, counters: &mut Sometimes) {
        self.coverage.report(
            counters,
            self.recovery.undetectable_loss().is_some(),
            self.liveness.bound_used_permille(),
        );
    }

    fn judged_until(&self) -> Option<JudgedUntil> {
        let node = self.recovery.undetectable_loss()?;
        let reason = format!(
            "damage at rest removed durable records of {node} as a torn tail would, which no node \
             can detect"
        );
        Some(JudgedUntil { at: self.stopped_at?, reason })
    }

    fn properties(&self) -> usize {
        Property::ALL.len()
    }
}

/// After a loss that no node can detect.
impl AtomicCommitChecker {
    /// W13: the node that has lost records reports it when a Commit shows it.
    #[cold]
    fn check_after_loss<N: CommitLike>(
        &mut self,
        node: NodeId,
        fact: &Fact<'_, N>,
    ) -> Result<(), Violation> {
        if let Some((node, found)) = self.recovery.take_found_after_loss() {
            self.damage_alarm.watch(node, &found);
        }
        match fact {
            Fact::Input(Input::Message { from, message }) => {
                self.damage_alarm.on_message(node, *from, message)
            }
            Fact::Input(_) => self.damage_alarm.check_reported(node),
            Fact::Effect(Effect::Report(event), _) => {
                self.damage_alarm.on_report(node, event);
                Ok(())
            }
            Fact::Process(_) => {
                self.damage_alarm.on_crash(node);
                Ok(())
            }
            Fact::Effect(..) | Fact::Fault(_) | Fact::Lost { .. } => Ok(()),
            Fact::Client(_) | Fact::Run(_) => Ok(()),
        }
    }
}

/// Disks and logs.
impl AtomicCommitChecker {
    #[inline]
    fn on_disk_op(
        &mut self,
        at: Micros,
        node: NodeId,
        op: &DiskOp,
        bytes: &[u8],
        disk: &Disk,
    ) -> Result<(), Violation> {
        match op {
            DiskOp::Append { file: file @ FileId::Wal(_), about, .. } => {
                // A record about a peer, or the header of a segment: it serves nobody.
                let goes_on = if about.subject.is_none() {
                    self.check_introduction(node, disk)?
                } else {
                    self.check_boot(node, disk)?
                };
                if !goes_on || about.kind == "Header" {
                    return Ok(());
                }
                self.on_append(at, node, *file, bytes, disk)
            }
            DiskOp::Append { file: FileId::Scratch, .. } => {
                // After the boot check this is a compaction; before, the boot's snapshot.
                if !self.recovery.is_boot_checked(node) {
                    return self.recovery.on_boot_writes(node, disk);
                }
                if self.isolation.has_locks(node) {
                    self.coverage.on_prepared_in_snapshot();
                }
                // Other workloads may configure nodes that compact at another length.
                if self.liveness.expects_probe() && disk.len(FileId::Scratch).is_none() {
                    liveness::check_compaction(node, disk, &self.model)?;
                }
                Ok(())
            }
            // A boot may begin with this, and its disk is read back before the first change.
            DiskOp::Remove { file: FileId::Scratch } => self.recovery.on_boot_writes(node, disk),
            DiskOp::Remove { file } => removal::check(node, *file, disk),
            // A snapshot is written as the scratch file and renamed, so none is appended to.
            DiskOp::Append { file: FileId::Snapshot(_), .. }
            | DiskOp::Truncate { .. }
            | DiskOp::Rename { .. }
            | DiskOp::Sync { .. }
            | DiskOp::SyncDir { .. } => Ok(()),
        }
    }

    /// A record is about to be appended to `file`.
    fn on_append(
        &mut self,
        at: Micros,
        node: NodeId,
        file: FileId,
        bytes: &[u8],
        disk: &Disk,
    ) -> Result<(), Violation> {
        // Bytes that are too short for a frame become an empty payload, which is reported as no
        // record.
        let payload = wal::payload(bytes).unwrap_or_default();
        let view =
            RecordView::of(payload).map_err(|error| recovery::malformed_record(node, &error))?;
        let RecordHeader { kind, tx, .. } = view.header;
        // The disk is as it was before the append, so the record ends so much later.
        let end = disk.len(file).unwrap_or(0) + bytes.len() as u64;
        // First: what follows asks for the transaction and for the index of its record.
        self.model.append(node, file, end, view.header);
        let record = self.recovery.on_append(node, payload);
        // MET is about no transaction.
        if self.fault_free.counts() && kind != RecordKind::Met {
            self.model.count_record(at, tx);
        }
        match kind {
            RecordKind::Prepared => {
                let ops = self.read_part(node, &view)?;
                self.check_recorded_part(node, view.header, &ops)?;
                self.on_prepared_record(node, record, tx, ops)
            }
            RecordKind::Commit => {
                let ops = self.read_part(node, &view)?;
                // Before its operations: another node has none of them.
                decisions::check_commits_own(node, self.model.transaction(tx))?;
                self.check_recorded_part(node, view.header, &ops)?;
                self.on_commit_record(at, node, record, tx, ops)
            }
            RecordKind::Committed => {
                self.on_outcome_record(at, node, record, tx, Decision::Committed)
            }
            RecordKind::Aborted => self.on_outcome_record(at, node, record, tx, Decision::Aborted),
            RecordKind::End => {
                liveness::check_forgotten_in_time(at, tx, &self.model)?;
                write_ahead::check_end(self.model.transaction(tx))?;
                self.fault_free.check_commit_cost(self.model.transaction(tx))?;
                self.model.append_end(tx);
                Ok(())
            }
            RecordKind::Met => Ok(()),
        }
    }

    /// Whether no answer to the request is still to come but that to the next question: it was
    /// answered, or never begun, or begun by an earlier incarnation.
    fn is_over(&self, id: RequestId) -> bool {
        self.model.request(id).is_none_or(|request_state| {
            request_state.is_reported()
                || request_state
                    .begun()
                    .is_none_or(|tx| tx.incarnation != self.recovery.incarnation(tx.coordinator))
        })
    }

    /// The operations of a record that has some. The model learns the participants.
    fn read_part(&mut self, node: NodeId, view: &RecordView<'_>) -> Result<Vec<Op>, Violation> {
        let mut ops = self.isolation.spare_ops();
        let participants =
            view.part(&mut ops).map_err(|error| recovery::malformed_record(node, &error))?;
        let age = view.age().map_err(|error| recovery::malformed_record(node, &error))?;
        self.model.name_participants(view.header.tx, participants, age);
        Ok(ops)
    }

    /// AC3: the record has the operations and participants that the client asked for.
    #[inline]
    fn check_recorded_part(
        &mut self,
        node: NodeId,
        header: RecordHeader,
        ops: &[Op],
    ) -> Result<(), Violation> {
        let RecordHeader { tx, request, kind: _ } = header;
        answers::check_part(node, tx, request, ops, None, &self.model)?;
        let subordinates = self.model.transaction(tx).subordinates();
        answers::check_subordinates(tx, request, subordinates, &self.model)
    }

    fn on_prepared_record(
        &mut self,
        node: NodeId,
        record: usize,
        tx: TxId,
        ops: Vec<Op>,
    ) -> Result<(), Violation> {
        self.isolation.check_granted(node, tx, &ops)?;
        self.isolation.check_has_not_waited(node, tx)?;
        self.isolation.check_bounds(node, tx, &ops)?;
        self.isolation.on_prepared(node, record, tx, ops);
        self.model.append_prepared(node, tx);
        Ok(())
    }

    fn on_commit_record(
        &mut self,
        at: Micros,
        node: NodeId,
        record: usize,
        tx: TxId,
        ops: Vec<Op>,
    ) -> Result<(), Violation> {
        self.isolation.check_granted(node, tx, &ops)?;
        self.isolation.check_bounds(node, tx, &ops)?;
        let tx_state = self.model.transaction(tx);
        // The most elementary condition first, as a run reports one violation only.
        write_ahead::check_not_aborted(node, tx_state)?;
        decisions::check_votes(node, tx_state)?;
        self.isolation.on_commit(node, record, tx, ops);
        self.model.append_commit(at, tx);
        Ok(())
    }

    fn on_outcome_record(
        &mut self,
        at: Micros,
        node: NodeId,
        record: usize,
        tx: TxId,
        decision: Decision,
    ) -> Result<(), Violation> {
        self.liveness.check_decided_in_time(at, node, tx, &self.model)?;
        decisions::check_outcome_record(node, self.model.transaction(tx), decision)?;
        self.isolation.on_outcome(node, record, tx, decision);
        self.model.append_outcome(node, tx, decision);
        Ok(())
    }

    /// A barrier has completed: some pending records may be durable now.
    fn on_disk_done(&mut self, node: NodeId, ok: bool, disk: &Disk) -> Result<(), Violation> {
        if !ok {
            self.write_ahead.on_failed_barrier(node);
            self.coverage.on_failed_barrier(disk.first_failure());
            return Ok(());
        }
        // The disk is asked, not the barrier: a drive that lies reports success and makes nothing
        // durable.
        let count = self.model.newly_durable(node, disk);
        for index in 0..count {
            let (tx, kind) = self.model.pending_record(node, index);
            self.on_durable(node, tx, kind)?;
        }
        self.model.remove_durable(node, count);
        self.recovery.on_durable(node, count);
        Ok(())
    }

    #[inline]
    fn on_durable(&mut self, node: NodeId, tx: TxId, kind: RecordKind) -> Result<(), Violation> {
        match kind {
            RecordKind::Prepared => {
                self.model.make_prepared_durable(node, tx);
                Ok(())
            }
            RecordKind::Commit => {
                self.model.make_commit_durable(tx);
                self.coverage.on_commit();
                let request = self.model.transaction(tx).request();
                self.on_request_committed(node, tx, request)
            }
            RecordKind::Committed => self.on_decided(node, tx, Decision::Committed),
            RecordKind::Aborted => self.on_decided(node, tx, Decision::Aborted),
            RecordKind::Met => {
                self.write_ahead.on_met_durable(node, tx);
                Ok(())
            }
            // It is not forced, and nothing waits until it is durable.
            RecordKind::End => Ok(()),
        }
    }

    /// An outcome record is durable, and fixes the decision of all nodes.
    #[inline]
    fn on_decided(&mut self, node: NodeId, tx: TxId, decision: Decision) -> Result<(), Violation> {
        decisions::check_decided(node, self.model.transaction(tx), decision)?;
        self.model.decide(node, tx, decision);
        Ok(())
    }

    fn on_request_committed(
        &mut self,
        node: NodeId,
        tx: TxId,
        request: Option<RequestId>,
    ) -> Result<(), Violation> {
        // A recovered request log names the transaction. The request behind it is known only if a
        // message or a record has named it.
        let Some(request) = request else { return Ok(()) };
        if let Some(request_state) = self.model.request(request) {
            permanence::check_request_committed(node, tx, request, request_state)?;
        }
        self.model.commit_request(request, tx);
        Ok(())
    }
}

/// Boots and crashes.
impl AtomicCommitChecker {
    fn on_crash(&mut self, node: NodeId) {
        self.model.crash(node);
        self.isolation.on_crash(node);
        self.answers.on_crash(node);
        self.write_ahead.on_crash(node);
        self.fault_free.on_fault();
    }

    /// W10: before the first visible effect of an incarnation, its boot is durable. Returns whether
    /// the checks go on; after damage that no node can detect, they stop.
    #[inline]
    fn check_boot(&mut self, node: NodeId, disk: &Disk) -> Result<bool, Violation> {
        self.model.serve(node);
        if self.recovery.is_boot_checked(node) {
            Ok(true)
        } else {
            self.check_introduction(node, disk)?;
            Ok(self.recovery.is_boot_checked(node) || self.recovery.check_loss(node)?)
        }
    }

    /// The same for an effect by which a node becomes known to its peers, and they to it. W6
    /// permits that to an incarnation that has lost records: its peers have to refuse it. Returns
    /// whether it has lost nothing.
    #[inline]
    fn check_introduction(&mut self, node: NodeId, disk: &Disk) -> Result<bool, Violation> {
        if self.recovery.is_boot_checked(node) {
            return Ok(true);
        }
        if self.recovery.has_loss(node) {
            return Ok(false);
        }
        match self.check_boot_at_first_effect(node, disk) {
            Err(violation) => self.recovery.suspend_loss(node, violation).map(|()| false),
            verdict => verdict,
        }
    }

    #[cold]
    fn check_boot_at_first_effect(&mut self, node: NodeId, disk: &Disk) -> Result<bool, Violation> {
        let Some(recovered) = self.recovery.check_first_effect(node, disk)? else {
            return Ok(false);
        };
        let Recovered { state, kept } = recovered;
        self.coverage.on_incarnation(node, &state);
        let records_kept = kept.records;
        let kept = kept.state;
        self.isolation.begin_incarnation(node, records_kept, &kept);
        self.model.recover_prepared(node, &kept);
        // A kept record is durable, so it is checked as such.
        for (tx, decision) in kept.outcomes() {
            self.on_decided(node, tx, decision)?;
        }
        for (tx, request) in kept.committing() {
            self.model.make_commit_durable(tx);
            self.on_request_committed(node, tx, Some(request))?;
        }
        for (request, tx) in kept.committed() {
            self.model.recover_committed(tx);
            self.on_request_committed(node, tx, Some(request))?;
        }
        self.write_ahead.begin_incarnation(node, kept.met());
        // Last, as it takes the state that everything above reads.
        self.recovery.begin_incarnation(node, state.incarnation, kept);
        Ok(true)
    }
}

/// For the limits of [`Commit`](super::Commit)'s nodes.
fn forgetting(plan: &Plan) -> Forgetting {
    Forgetting::new(super::DEDUP_ENTRIES_KEPT, super::requests_kept_in_total(plan))
}

/// Messages and replies.
impl AtomicCommitChecker {
    fn on_message_sent(
        &mut self,
        at: Micros,
        node: NodeId,
        to: NodeId,
        message: &Message,
    ) -> Result<(), Violation> {
        let tx = message.tx;
        if self.fault_free.counts() {
            self.model.count_message(at, tx);
        }
        match &message.body {
            Body::Prepare { part, .. } => {
                if self.model.send_prepare(at, tx, message.request, part) {
                    let request = message.request;
                    self.answers.check_first_attempt(at, tx, request, part.age(), &self.model)?;
                }
                liveness::check_prepare_rate(self.model.transaction(tx))?;
                let age = Some(part.age());
                answers::check_part(to, tx, message.request, part.ops(), age, &self.model)
            }
            Body::Vote(Vote::Yes { reads, .. }) => {
                let tx_state = self.model.transaction(tx);
                write_ahead::check_yes(node, tx_state)?;
                decisions::check_yes(node, tx_state)?;
                self.isolation.check_vote_reads(node, tx, reads)
            }
            Body::Vote(Vote::No(refusal)) => {
                self.isolation.on_refused(node, tx);
                let age = self.model.transaction(tx).age();
                self.check_refusal(node, message.request, Some(tx), age, refusal)
            }
            Body::Commit { .. } => {
                self.liveness.on_commit_sent(to, tx, &self.model);
                write_ahead::check_commit(node, self.model.transaction(tx))?;
                self.model.send_commit(tx);
                Ok(())
            }
            Body::Abort { .. } => {
                write_ahead::check_abort(node, self.model.transaction(tx))?;
                self.model.send_abort(tx);
                Ok(())
            }
            Body::Ack { .. } => write_ahead::check_ack(node, self.model.transaction(tx)),
            Body::Inquire => {
                self.coverage.on_inquiry();
                self.liveness.on_inquiry_sent(node, tx, &self.model);
                Ok(())
            }
            Body::InquiryReply(reply) => {
                write_ahead::check_inquiry_reply(node, self.model.transaction(tx), *reply)
            }
            Body::Hello(_)
            | Body::Welcome
            | Body::Remember(_)
            | Body::Remembered { .. }
            | Body::Refuse { .. } => Ok(()),
        }
    }

    /// AC4, I3: the reason of a refusal is true.
    fn check_refusal(
        &mut self,
        node: NodeId,
        request: RequestId,
        tx: Option<TxId>,
        age: Option<Age>,
        refusal: &Refusal,
    ) -> Result<(), Violation> {
        if let Refusal::Conflict { holder } = refusal {
            isolation::check_conflict(node, request, self.model.transaction(*holder))?;
        }
        self.isolation.check_refusal(node, request, tx, age, refusal, &self.model)
    }

    fn on_message_received(&mut self, node: NodeId, from: NodeId, message: &Message) {
        let tx = message.tx;
        self.liveness.on_message_received(node, from, message, &self.model);
        match &message.body {
            // A vote or an Ack counts at the coordinator of its transaction only.
            Body::Ack { .. } if tx.coordinator == node => self.model.receive_ack(tx, from),
            Body::Vote(Vote::Yes { .. }) if tx.coordinator == node => {
                self.model.receive_yes(tx, from);
            }
            Body::Vote(Vote::No(refusal)) if tx.coordinator == node => {
                self.answers.on_no(node, from, message.request, *refusal);
            }
            // A node that serves nobody drops it.
            Body::Prepare { part, .. } if tx.coordinator == from && self.model.is_serving(node) => {
                self.isolation.on_prepare_received(node, tx, part, &self.model);
            }
            Body::InquiryReply(InquiryReply::Committed(_) | InquiryReply::Aborted(_)) => {
                if self.is_in_doubt_since_boot(node, tx) {
                    self.coverage.on_resolved_by_peer();
                }
            }
            Body::Commit { .. } | Body::Abort { .. } => {
                if self.is_in_doubt_since_boot(node, tx) {
                    self.coverage.on_resolved_by_coordinator();
                }
            }
            Body::Prepare { .. }
            | Body::Vote(_)
            | Body::Ack { .. }
            | Body::Inquire
            | Body::InquiryReply(_)
            | Body::Hello(_)
            | Body::Welcome
            | Body::Remember(_)
            | Body::Remembered { .. }
            | Body::Refuse { .. } => {}
        }
    }

    /// Whether this incarnation began in doubt about `tx` and still is.
    fn is_in_doubt_since_boot(&self, node: NodeId, tx: TxId) -> bool {
        self.recovery.has_recovered_prepared(node, tx) && self.isolation.holds_locks(node, tx)
    }

    fn on_reply_sent(
        &mut self,
        node: NodeId,
        id: RequestId,
        response: &Response,
    ) -> Result<(), Violation> {
        let by = response.position.incarnation;
        answers::check_incarnation(node, id, self.recovery.incarnation(node), by)?;
        match &response.outcome {
            // A node that has lost records knows less than it did.
            Outcome::Unknown if self.recovery.may_know_less(node) => Ok(()),
            Outcome::Unknown => self.forgetting.check_unknown(node, id, self.model.request(id)),
            Outcome::Committed { reads } => {
                let tx_state = self.model.committed_by(id);
                let tx = write_ahead::check_reported_committed(node, id, tx_state)?;
                self.model.report_committed(id);
                self.isolation.check_reported_reads(id, tx, by, reads.as_ref(), &self.model)
            }
            Outcome::Aborted { reason } => {
                self.fault_free.check_reported_aborted(node, id, reason)?;
                if let Some(request_state) = self.model.request(id) {
                    permanence::check_reported_aborted(node, id, request_state)?;
                }
                self.check_abort_reason(node, by, id, response.began_at, reason)?;
                if self.model.report_aborted(id, by, *reason) {
                    self.coverage.on_abort(reason);
                }
                Ok(())
            }
        }
    }

    /// W12: an answer "aborted" says why; and AC4, if the coordinator has refused its own part.
    fn check_abort_reason(
        &mut self,
        node: NodeId,
        by: Incarnation,
        id: RequestId,
        began_at: Option<Time>,
        reason: &AbortReason,
    ) -> Result<(), Violation> {
        self.answers.check_abort(node, by, id, reason, &self.model)?;
        let is_repeated = self
            .model
            .request(id)
            .and_then(RequestState::last_abort)
            .is_some_and(|(before, _)| before == by);
        match reason {
            // The locks and values are those of the first answer's time.
            AbortReason::Refused { by: voter, refusal } if *voter == node && !is_repeated => {
                let age = began_at.map(|at| Age { at: at.0, by: first_attempt(id) });
                self.check_refusal(node, id, None, age, refusal)
            }
            AbortReason::Refused { .. }
            | AbortReason::TimedOut { .. }
            | AbortReason::Restarted
            | AbortReason::Invalid(_) => Ok(()),
        }
    }
}

/// The end of a run.
impl AtomicCommitChecker {
    /// What is wrong at the end of a run may be the consequence of records that a node has lost and
    /// not noticed.
    #[cold]
    fn cause_of(&mut self, violation: Violation) -> Violation {
        self.recovery.loss_without_effects().unwrap_or(violation)
    }

    fn on_quiesced(
        &mut self,
        at: Micros,
        quiet: bool,
        files: &[(NodeId, FileId, u64)],
    ) -> Result<(), Violation> {
        let justified = self.liveness.check_quiesced(at, quiet, &self.model)?;
        self.coverage.on_justified_blocking(justified);
        // A permanently down node may hold up decisions and answers, and with them half a transfer.
        if quiet && !self.model.has_permanently_down_nodes() {
            liveness::check_clients_answered(&self.model)?;
            self.isolation.check_account_total(&self.model)?;
        }
        // Other workloads may configure nodes that compact at another length.
        if self.liveness.expects_probe() {
            liveness::check_logs_bounded(files, &self.model)?;
        }
        Ok(())
    }

    fn on_ended(&mut self) -> Result<(), Violation> {
        for tx_state in self.model.transactions() {
            self.fault_free.check_abort_cost(tx_state)?;
        }
        // Before anything that a permanently down node excuses: it excuses no wrong order.
        self.isolation.check_serialisable(&self.model)?;
        if self.model.has_permanently_down_nodes() {
            return Ok(());
        }
        for tx_state in self.model.transactions().filter(|tx_state| tx_state.is_committed()) {
            permanence::check_committed_everywhere(tx_state)?;
            liveness::check_forgotten(tx_state)?;
        }
        if self.liveness.expects_probe() {
            liveness::check_probe_committed(&self.model)?;
            self.coverage.on_probe_committed();
        }
        Ok(())
    }
}
