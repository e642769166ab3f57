//! Log records, when they are appended and when they become durable: AC1-AC3, W2, W4, W5, I1, I2,
//! I4.

use stormglass::commit::TxId;
use stormglass::commit::{Action, Decision, Op, Reads, RecordKind, RecordView};
use stormglass_node::codec::CodecError;
use stormglass_node::{DiskError, FileId, NodeId, wal};

use super::{AtomicCommitChecker, NodeModel, PendingRecord, Values};
use crate::property::Property;
use crate::tx_state::RecordStatus;
use stormglass_sim::disk::Disk;
use stormglass_sim::property::Violation;

impl AtomicCommitChecker {
    /// A record is about to be appended to `file`.
    pub(super) fn on_append(
        &mut self,
        at_us: u64,
        node: NodeId,
        file: FileId,
        bytes: &[u8],
        disk: &Disk,
    ) -> Result<(), Violation> {
        let payload = wal::payload(bytes).unwrap_or_default();
        let view = RecordView::of(payload).map_err(|error| malformed_record(node, &error))?;
        let end = disk.len(file).unwrap_or(0) + bytes.len() as u64;
        let tx = view.header.tx;
        let kind = view.header.kind;
        let node_model = self.node_model(node);
        node_model.log.push(payload);
        node_model.pending_records.push(PendingRecord { file, end, tx, kind });
        self.tx_states.tx_state(tx).request.get_or_insert(view.header.request);
        match kind {
            RecordKind::Prepared | RecordKind::Commit => self.on_part(at_us, node, &view),
            RecordKind::Committed => self.on_outcome_record(at_us, node, tx, Decision::Committed),
            RecordKind::Aborted => self.on_outcome_record(at_us, node, tx, Decision::Aborted),
            RecordKind::End => self.on_end_record(at_us, tx),
        }
    }

    /// A record with operations: Prepared or Commit.
    fn on_part(
        &mut self,
        at_us: u64,
        node: NodeId,
        view: &RecordView<'_>,
    ) -> Result<(), Violation> {
        let mut ops = self.spare_ops.pop().unwrap_or_default();
        ops.clear();
        let participants = view.part(&mut ops).map_err(|error| malformed_record(node, &error))?;
        let tx = view.header.tx;
        self.tx_states.tx_state(tx).set_participants(participants);
        if view.header.kind == RecordKind::Prepared {
            return self.on_prepared(node, tx, ops);
        }
        let result = self.on_commit_record(at_us, node, tx, &ops);
        self.spare_ops.push(ops);
        result
    }

    fn on_prepared(&mut self, node: NodeId, tx: TxId, ops: Vec<Op>) -> Result<(), Violation> {
        self.check_no_conflict(node, tx, &ops)?;
        self.tx_states.tx_state(tx).set_prepared(node, RecordStatus::Appended);
        expect_reads(self.node_model(node), tx, &ops);
        let node_model = self.node_model(node);
        node_model.history.read(node_model.log.len() - 1, tx, &ops);
        node_model.held.push((tx, ops));
        Ok(())
    }

    /// I1, I2: no transaction is granted a lock that an undecided one holds, not even after a
    /// restart.
    fn check_no_conflict(&mut self, node: NodeId, tx: TxId, ops: &[Op]) -> Result<(), Violation> {
        let mut others = self.node_model(node).held.iter().filter(|(other, _)| *other != tx);
        let conflicting = others.find(|(_, held)| {
            held.iter().any(|a| ops.iter().any(|b| a.key == b.key && (a.writes() || b.writes())))
        });
        match conflicting {
            Some((other, _)) => {
                let explanation =
                    format!("{node} granted {tx} a lock that the undecided {other} holds");
                Err(Property::UndecidedTransactionsDoNotConflict.violated(explanation))
            }
            None => Ok(()),
        }
    }

    /// AC3: only its coordinator commits a transaction, with a Yes of every subordinate; W5: and
    /// never after it sent Abort.
    fn on_commit_record(
        &mut self,
        at_us: u64,
        node: NodeId,
        tx: TxId,
        own: &[Op],
    ) -> Result<(), Violation> {
        self.check_no_conflict(node, tx, own)?;
        let tx_state = self.tx_states.tx_state(tx);
        tx_state.commit = RecordStatus::Appended;
        if tx_state.begun_us == 0 {
            tx_state.begun_us = at_us;
        }
        if tx.coordinator != node {
            return Err(Property::CommitNeedsEveryYes
                .violated(format!("{node} decided {tx}, but does not coordinate it")));
        }
        if tx_state.abort_sent {
            let explanation = format!("{node} commits {tx} after it sent Abort of it");
            return Err(Property::NoAbortAfterCommitRecord.violated(explanation));
        }
        let missing = tx_state.subordinates & !tx_state.yes;
        if missing != 0 {
            let missing_node = NodeId(missing.trailing_zeros() as u16);
            let explanation = format!("{node} commits {tx} without a Yes vote from {missing_node}");
            return Err(Property::CommitNeedsEveryYes.violated(explanation));
        }
        self.decisions += 1;
        tx_state.decision_number = self.decisions;
        expect_reads(self.node_model(node), tx, own);
        let node_model = self.node_model(node);
        let record = node_model.log.len() - 1;
        node_model.history.read(record, tx, own);
        node_model.history.write(record, tx, own);
        perform(&mut node_model.values, own);
        Ok(())
    }

    /// AC2: a participant appends one decision, and never the opposite one; L1: it does so in time.
    fn on_outcome_record(
        &mut self,
        at_us: u64,
        node: NodeId,
        tx: TxId,
        decision: Decision,
    ) -> Result<(), Violation> {
        self.check_decided_in_time(at_us, node, tx)?;
        let node_model = self.node_model(node);
        if let Some(at) = node_model.held.iter().position(|(held, _)| *held == tx) {
            let (_, ops) = node_model.held.remove(at);
            if decision == Decision::Committed {
                node_model.history.write(node_model.log.len() - 1, tx, &ops);
                perform(&mut node_model.values, &ops);
            }
            self.spare_ops.push(ops);
        }
        let tx_state = self.tx_states.tx_state(tx);
        if let Some((before, _)) = tx_state.outcome(node)
            && before != decision
        {
            let explanation = format!("{node} wrote {decision:?} for {tx} after {before:?}");
            return Err(Property::DecisionsAreFinal.violated(explanation));
        }
        tx_state.set_outcome(node, decision, RecordStatus::Appended);
        Ok(())
    }

    /// W4: the coordinator forgets a commit only after the Acks of all distinct participants.
    fn on_end_record(&mut self, at_us: u64, tx: TxId) -> Result<(), Violation> {
        self.check_forgotten_in_time(at_us, tx)?;
        let tx_state = self.tx_states.tx_state(tx);
        let missing = tx_state.subordinates & !tx_state.acked;
        if missing != 0 {
            let missing_node = NodeId(missing.trailing_zeros() as u16);
            let explanation =
                format!("{} forgets {tx} before {missing_node} has acknowledged", tx.coordinator);
            return Err(Property::ForgetAfterAllAcks.violated(explanation));
        }
        tx_state.ended = true;
        Ok(())
    }

    /// A barrier has completed: marks the pending records that are durable now.
    pub(super) fn on_disk_done(
        &mut self,
        node: NodeId,
        ok: bool,
        disk: &Disk,
    ) -> Result<(), Violation> {
        if !ok {
            self.node_model(node).failed = true;
            match disk.first_failure() {
                Some(DiskError::NoSpace) => self.counts.full_disks += 1,
                Some(DiskError::Io) => {}
                None => self.counts.failed_syncs += 1,
            }
            return Ok(());
        }
        let mut done = 0;
        // The disk is asked once per file: consecutive records are mostly in the same one.
        let mut known: Option<(FileId, Option<u64>)> = None;
        while let Some(record) = self.nodes[usize::from(node.0)].pending_records.get(done).copied()
        {
            let durable_to = match known {
                Some((file, end)) if file == record.file => end,
                _ => disk.durable_to(record.file),
            };
            known = Some((record.file, durable_to));
            if durable_to.is_none_or(|end| record.end > end) {
                break;
            }
            self.on_durable(node, record.tx, record.kind)?;
            done += 1;
        }
        let node_model = self.node_model(node);
        node_model.durable += done;
        node_model.pending_records.drain(..done);
        Ok(())
    }

    fn on_durable(&mut self, node: NodeId, tx: TxId, kind: RecordKind) -> Result<(), Violation> {
        match kind {
            RecordKind::Prepared => {
                self.tx_states.tx_state(tx).set_prepared(node, RecordStatus::Durable)
            }
            RecordKind::Commit => {
                let tx_state = self.tx_states.tx_state(tx);
                tx_state.commit = RecordStatus::Durable;
                tx_state.committed = true;
                let request = tx_state.request;
                self.counts.commits += 1;
                return self.on_request_committed(node, tx, request);
            }
            RecordKind::Committed => return self.decide(node, tx, Decision::Committed),
            RecordKind::Aborted => return self.decide(node, tx, Decision::Aborted),
            RecordKind::End => {}
        }
        Ok(())
    }

    /// AC1, AC2: an outcome record is durable, and fixes the decision of all nodes.
    pub(super) fn decide(
        &mut self,
        node: NodeId,
        tx: TxId,
        decision: Decision,
    ) -> Result<(), Violation> {
        let tx_state = self.tx_states.tx_state(tx);
        tx_state.set_outcome(node, decision, RecordStatus::Durable);
        tx_state.record_decision(node, decision);
        let opposite = match decision {
            Decision::Committed => Decision::Aborted,
            Decision::Aborted => Decision::Committed,
        };
        let others = tx_state.decided(opposite);
        if others >> node.0 & 1 == 1 {
            let explanation =
                format!("{node} had decided {opposite:?} for {tx}, and now {decision:?}");
            return Err(Property::DecisionsAreFinal.violated(explanation));
        }
        if others != 0 {
            let other = others.trailing_zeros();
            let explanation =
                format!("{node} decided {decision:?} for {tx}, and n{other} the opposite");
            return Err(Property::DecisionsAgree.violated(explanation));
        }
        if decision == Decision::Committed && !tx_state.committed {
            let explanation = format!("{node} committed {tx}, whose COMMIT was never durable");
            return Err(Property::CommitIsDurableFirst.violated(explanation));
        }
        if decision == Decision::Aborted && tx_state.committed {
            let explanation = format!("{node} aborted {tx}, whose COMMIT is durable");
            return Err(Property::DecisionsAgree.violated(explanation));
        }
        Ok(())
    }
}

#[cold]
fn malformed_record(node: NodeId, error: &CodecError) -> Violation {
    let explanation = format!("{node} appended a malformed record to its log: {error}");
    Property::RecoveredStateIsALogPrefix.violated(explanation)
}

/// I4: notes the results that the reads of `tx` must have here, under its locks.
pub(super) fn expect_reads(node_model: &mut NodeModel, tx: TxId, ops: &[Op]) {
    if !ops.iter().all(Op::writes) {
        node_model.expected.insert(tx, reads_of(&node_model.values, ops));
    }
}

/// The result of each read of `ops`: the last write to its key before it, of the same transaction
/// or of an earlier one.
fn reads_of(values: &Values, ops: &[Op]) -> Reads {
    let mut found = Vec::new();
    for (at, op) in ops.iter().enumerate().filter(|(_, op)| !op.writes()) {
        let before = ops[..at].iter().filter(|before| before.key == op.key);
        found.push(
            before.fold(values.get(op.key).copied(), |value, before| after(value, before.action)),
        );
    }
    Reads::from(&found[..])
}

/// The value of a key after an operation. Independent of the node's own implementation, so that
/// the checker finds errors there.
fn after(value: Option<i64>, action: Action) -> Option<i64> {
    match action {
        Action::Get => value,
        Action::Put(put) => Some(put),
        Action::Delete => None,
        Action::Add { by, .. } => Some(value.unwrap_or(0) + by),
    }
}

fn perform(values: &mut Values, ops: &[Op]) {
    for op in ops.iter().filter(|op| op.writes()) {
        let before =
            if let Action::Put(_) = op.action { None } else { values.get(op.key).copied() };
        match after(before, op.action) {
            Some(value) => values.insert(op.key, value),
            None => drop(values.remove(op.key)),
        }
    }
}
