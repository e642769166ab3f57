//! What is written, and when it is durable: AC1-AC3, W2, W4, W5, I1, I2, I4.

use stormglass::codec::CodecError;
use stormglass::commit::{Action, Decision, Op, Reads, RecordKind, RecordView};
use stormglass::{DiskError, FileId, NodeId, TxId, wal};

use super::{Ledger, Track, Undurable, Values};
use crate::commit::row::Mark;
use crate::disk::Disk;
use crate::oracle::Broken;

impl Ledger {
    /// A record is about to be appended.
    pub(super) fn on_append(
        &mut self,
        at_us: u64,
        node: NodeId,
        file: FileId,
        bytes: &[u8],
        disk: &Disk,
    ) -> Result<(), Broken> {
        let payload = wal::payload(bytes).unwrap_or_default();
        let view = RecordView::of(payload).map_err(|error| no_record(node, &error))?;
        let end = disk.len(file).unwrap_or(0) + bytes.len() as u64;
        let (tx, kind) = (view.head.tx, view.head.kind);
        let track = self.track(node);
        track.log.push(payload);
        track.undurable.push(Undurable { file, end, tx, kind });
        self.rows.row(tx).name.get_or_insert(view.head.name);
        match kind {
            RecordKind::Prepared | RecordKind::Commit => self.on_part(at_us, node, &view),
            RecordKind::Committed => self.on_terminal(at_us, node, tx, Decision::Committed),
            RecordKind::Aborted => self.on_terminal(at_us, node, tx, Decision::Aborted),
            RecordKind::End => self.on_end_record(at_us, tx),
        }
    }

    /// A record with operations.
    fn on_part(&mut self, at_us: u64, node: NodeId, view: &RecordView<'_>) -> Result<(), Broken> {
        let mut ops = self.spare.pop().unwrap_or_default();
        ops.clear();
        let participants = view.part(&mut ops).map_err(|error| no_record(node, &error))?;
        let tx = view.head.tx;
        self.rows.row(tx).know(participants);
        if view.head.kind == RecordKind::Prepared {
            return self.on_prepared(node, tx, ops);
        }
        let verdict = self.on_commit_record(at_us, node, tx, &ops);
        self.spare.push(ops);
        verdict
    }

    fn on_prepared(&mut self, node: NodeId, tx: TxId, ops: Vec<Op>) -> Result<(), Broken> {
        self.claim_no_conflict(node, tx, &ops)?;
        self.rows.row(tx).prepare(node, Mark::Appended);
        expect_reads(self.track(node), tx, &ops);
        let track = self.track(node);
        track.history.read(track.log.len() - 1, tx, &ops);
        track.held.push((tx, ops));
        Ok(())
    }

    /// I1, I2: nobody gets a lock that an undecided transaction holds, not even after a restart.
    fn claim_no_conflict(&mut self, node: NodeId, tx: TxId, ops: &[Op]) -> Result<(), Broken> {
        let conflict = |(_, held): &&(TxId, Vec<Op>)| {
            held.iter().any(|a| ops.iter().any(|b| a.key == b.key && (a.writes() || b.writes())))
        };
        let track = self.track(node);
        match track.held.iter().filter(|(other, _)| *other != tx).find(conflict) {
            Some((other, _)) => {
                let why = format!("{node} locked for {tx} what {other}, undecided, holds");
                Err(Broken::safety("I2 NoTwoUndecidedConflict", why))
            }
            None => Ok(()),
        }
    }

    /// AC3: the coordinator commits what is its own, with a Yes of every subordinate; W5: and never after an abort.
    fn on_commit_record(&mut self, at_us: u64, node: NodeId, tx: TxId, own: &[Op]) -> Result<(), Broken> {
        self.claim_no_conflict(node, tx, own)?;
        let row = self.rows.row(tx);
        row.commit = Mark::Appended;
        if row.begun_us == 0 {
            row.begun_us = at_us;
        }
        if tx.coordinator != node {
            return Err(Broken::safety(
                "AC3 CommitNeedsEveryYes",
                format!("{node} decided {tx}, which is not its own"),
            ));
        }
        if row.abort_said {
            let why = format!("{node} commits {tx}, of which it has said that it is aborted");
            return Err(Broken::safety("W5 NoAbortWhileUndecided", why));
        }
        let missing = row.subordinates & !row.yes;
        if missing != 0 {
            let who = NodeId(missing.trailing_zeros() as u16);
            let why = format!("{node} commits {tx} without a Yes of {who}");
            return Err(Broken::safety("AC3 CommitNeedsEveryYes", why));
        }
        self.decisions += 1;
        row.order = self.decisions;
        expect_reads(self.track(node), tx, own);
        let track = self.track(node);
        let record = track.log.len() - 1;
        track.history.read(record, tx, own);
        track.history.write(record, tx, own);
        perform(&mut track.values, own);
        Ok(())
    }

    /// AC2: a participant writes its decision, and never another one; L1: in time.
    fn on_terminal(&mut self, at_us: u64, node: NodeId, tx: TxId, decision: Decision) -> Result<(), Broken> {
        self.judge_time(at_us, node, tx)?;
        let track = self.track(node);
        if let Some(at) = track.held.iter().position(|(held, _)| *held == tx) {
            let (_, ops) = track.held.remove(at);
            if decision == Decision::Committed {
                track.history.write(track.log.len() - 1, tx, &ops);
                perform(&mut track.values, &ops);
            }
            self.spare.push(ops);
        }
        let row = self.rows.row(tx);
        if let Some((before, _)) = row.terminal(node)
            && before != decision
        {
            let why = format!("{node} wrote {decision:?} for {tx} after {before:?}");
            return Err(Broken::safety("AC2 NoDecisionIsReversed", why));
        }
        row.settle(node, decision, Mark::Appended);
        Ok(())
    }

    /// W4: the coordinator forgets a commit only after the Acks of all distinct participants.
    fn on_end_record(&mut self, at_us: u64, tx: TxId) -> Result<(), Broken> {
        self.judge_forgetting(at_us, tx)?;
        let row = self.rows.row(tx);
        let missing = row.subordinates & !row.acked;
        if missing != 0 {
            let who = NodeId(missing.trailing_zeros() as u16);
            let why = format!("{} forgets {tx} before {who} has acknowledged", tx.coordinator);
            return Err(Broken::safety("W4 ForgetAfterAllAcks", why));
        }
        row.ended = true;
        Ok(())
    }

    /// A barrier has completed: what is durable now?
    pub(super) fn on_disk_done(&mut self, node: NodeId, ok: bool, disk: &Disk) -> Result<(), Broken> {
        if !ok {
            self.track(node).failed = true;
            match disk.latched() {
                Some(DiskError::NoSpace) => self.counts.full_disks += 1,
                Some(DiskError::Io) => {}
                None => self.counts.failed_syncs += 1,
            }
            return Ok(());
        }
        let mut done = 0;
        let mut known: Option<(FileId, Option<u64>)> = None;
        while let Some(record) = self.nodes[usize::from(node.0)].undurable.get(done).copied() {
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
        let track = self.track(node);
        track.durable += done;
        track.undurable.drain(..done);
        Ok(())
    }

    fn on_durable(&mut self, node: NodeId, tx: TxId, kind: RecordKind) -> Result<(), Broken> {
        match kind {
            RecordKind::Prepared => self.rows.row(tx).prepare(node, Mark::Durable),
            RecordKind::Commit => {
                let row = self.rows.row(tx);
                row.commit = Mark::Durable;
                row.committed = true;
                let name = row.name;
                self.counts.commits += 1;
                return self.on_committed_name(node, tx, name);
            }
            RecordKind::Committed => return self.decide(node, tx, Decision::Committed),
            RecordKind::Aborted => return self.decide(node, tx, Decision::Aborted),
            RecordKind::End => {}
        }
        Ok(())
    }

    /// AC1, AC2: a terminal record is durable, and binds everybody for ever.
    pub(super) fn decide(&mut self, node: NodeId, tx: TxId, decision: Decision) -> Result<(), Broken> {
        let row = self.rows.row(tx);
        row.settle(node, decision, Mark::Durable);
        row.bind(node, decision);
        let opposite = match decision {
            Decision::Committed => Decision::Aborted,
            Decision::Aborted => Decision::Committed,
        };
        let others = row.decided(opposite);
        if others >> node.0 & 1 == 1 {
            let why = format!("{node} had decided {opposite:?} for {tx}, and now {decision:?}");
            return Err(Broken::safety("AC2 NoDecisionIsReversed", why));
        }
        if others != 0 {
            let other = others.trailing_zeros();
            let why = format!("{node} decided {decision:?} for {tx}, and n{other} the opposite");
            return Err(Broken::safety("AC1 NoTwoDecideDifferently", why));
        }
        if decision == Decision::Committed && !row.committed {
            let why = format!("{node} committed {tx}, whose COMMIT was never durable");
            return Err(Broken::safety("W2 CommitIsDurableFirst", why));
        }
        if decision == Decision::Aborted && row.committed {
            let why = format!("{node} aborted {tx}, whose COMMIT is durable");
            return Err(Broken::safety("AC1 NoTwoDecideDifferently", why));
        }
        Ok(())
    }
}

#[cold]
fn no_record(node: NodeId, error: &CodecError) -> Broken {
    let why = format!("{node} appends to its log what is no record: {error}");
    Broken::safety("W6 RecoveredIsAPrefix", why)
}

/// I4: what the reads of `tx` find here, under its locks.
pub(super) fn expect_reads(track: &mut Track, tx: TxId, ops: &[Op]) {
    if !ops.iter().all(Op::writes) {
        track.expected.insert(tx, reads_of(&track.values, ops));
    }
}

/// What each read finds: the last write to its key before it, of the same transaction or of all before.
fn reads_of(values: &Values, ops: &[Op]) -> Reads {
    let mut found = Vec::new();
    for (at, op) in ops.iter().enumerate().filter(|(_, op)| !op.writes()) {
        let before = ops[..at].iter().filter(|before| before.key == op.key);
        found.push(before.fold(values.get(op.key).copied(), |value, before| after(value, before.action)));
    }
    Reads::from(&found[..])
}

/// The meaning of operations, once more and apart from the node's own code.
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
        let before = if let Action::Put(_) = op.action { None } else { values.get(op.key).copied() };
        match after(before, op.action) {
            Some(value) => values.insert(op.key, value),
            None => drop(values.remove(op.key)),
        }
    }
}
