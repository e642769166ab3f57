//! Crashes, recovery and the removal of files: W6, W7, W8, W10.

use stormglass::commit::{Decision, Record, RequestNumber, State};
use stormglass_node::{FileId, NodeId, ReadDisk, codec};

use super::records::expect_reads;
use super::repeated_recovery::{check_same_state, check_second_recovery, read_back};
use super::{AtomicCommitChecker, NodeModel};
use crate::property::Property;
use crate::tx_state::RecordStatus;
use crate::workload::acknowledges_outcomes;
use stormglass_sim::disk::{CutReport, Disk, NameLoss};
use stormglass_sim::property::Violation;

impl AtomicCommitChecker {
    pub(super) fn on_crash(&mut self, node: NodeId) {
        self.tx_states.crash(node);
        let node_model = &mut self.nodes[usize::from(node.0)];
        node_model.boot_checked = false;
        node_model.forget(&mut self.spare_ops);
    }

    /// W8: a log or a snapshot is removed only if a later snapshot is durable, contents and name.
    /// The removal of a nonexistent file is allowed.
    pub(super) fn on_remove(
        &mut self,
        node: NodeId,
        file: FileId,
        disk: &Disk,
    ) -> Result<(), Violation> {
        if disk.len(file).is_none() {
            return Ok(());
        }
        let snapshots = disk.files().into_iter().filter(|file| matches!(file, FileId::Snapshot(_)));
        let (FileId::Wal(_) | FileId::Snapshot(_), Some(newest)) = (file, snapshots.max()) else {
            return Ok(());
        };
        if file_number(file) >= file_number(newest) {
            let explanation = format!("{node} removes {file}, which is not older than {newest}");
            return Err(Property::OnlyFilesBeforeTheSnapshotAreRemoved.violated(explanation));
        }
        if disk.is_durable(newest, disk.len(newest).unwrap_or(0)) {
            return Ok(());
        }
        let explanation = format!("{node} removes {file} before {newest} is durable");
        Err(Property::SnapshotIsDurableBeforeRemoval.violated(explanation))
    }

    pub(super) fn on_power_cut(&mut self, node: NodeId, report: &CutReport) {
        let renamed =
            report.names.iter().filter(|loss| matches!(loss, NameLoss::Rename { .. })).count();
        self.counts.lost_renames += renamed as u64;
        let node_model = self.node_model(node);
        node_model.recovered_states.forget();
        node_model.log_torn |= report.has_torn_record();
        node_model.torn_before_intact |= report.has_record_after_a_lost_one();
        self.on_crash(node);
    }

    /// W10: before the first visible effect of an incarnation, its boot is durable. The checker
    /// recovers what the worst power cut would leave now. It must be a prefix of the records that
    /// the node has appended, at least up to the last completed sync, with an incarnation greater
    /// than every earlier one. Returns whether the checks go on; after damage that no node can
    /// detect, they stop.
    #[inline]
    pub(super) fn check_boot(&mut self, node: NodeId, disk: &Disk) -> Result<bool, Violation> {
        if self.node_model(node).boot_checked {
            Ok(true)
        } else {
            self.check_boot_at_first_effect(node, disk)
        }
    }

    #[cold]
    fn check_boot_at_first_effect(&mut self, node: NodeId, disk: &Disk) -> Result<bool, Violation> {
        let found = self.node_model(node).recovered_states.take();
        let state = read_back(node, &disk.durable()).map_err(|error| {
            if let Err(violation) = check_second_recovery(node, found.as_ref(), disk) {
                return violation;
            }
            let explanation = format!(
                "{node} produced an effect before its boot was durable: \
                 after a power cut it could not start: {error}"
            );
            Property::NoEffectBeforeTheBootIsDurable.violated(explanation)
        })?;
        let node_model = self.node_model(node);
        if state.incarnation <= node_model.incarnation {
            let explanation = format!(
                "{node} produced an effect before its incarnation was durable: \
                 after a power cut it would use {} again",
                node_model.incarnation
            );
            return Err(Property::NoEffectBeforeTheBootIsDurable.violated(explanation));
        }
        let kept = self.check_recovered(node, &state)?;
        check_same_state(node, found.as_ref(), &state)?;
        if self.undetectable_loss {
            return Ok(false);
        }
        self.node_model(node).history.begin_incarnation(kept);
        self.begin_incarnation(node, state)?;
        Ok(true)
    }

    fn begin_incarnation(&mut self, node: NodeId, state: State) -> Result<(), Violation> {
        self.counts.boots_in_doubt += u64::from(!state.prepared.is_empty());
        let evicted = state.clients.iter().any(|client| {
            client.floor > RequestNumber::default() && !acknowledges_outcomes(client.client)
        });
        self.counts.evicted += u64::from(evicted);
        for prepared in &state.prepared {
            let tx_state = self.tx_states.tx_state(prepared.tx);
            tx_state.set_participants(prepared.part.participants().iter().copied());
            tx_state.set_prepared(node, RecordStatus::Durable);
        }
        for known in &state.outcomes {
            self.decide(node, known.tx, known.decision)?;
        }
        for committing in &state.committing {
            let tx_state = self.tx_states.tx_state(committing.tx);
            tx_state.commit = RecordStatus::Durable;
            tx_state.committed = true;
            self.on_request_committed(node, committing.tx, Some(committing.request))?;
        }
        for client in &state.clients {
            for (turn, tx) in &client.committed {
                let tx_state = self.tx_states.tx_state(*tx);
                tx_state.committed = true;
                let request = tx_state.request.filter(|request| request.serial == turn.serial);
                self.on_request_committed(node, *tx, request)?;
            }
        }
        let node_model = self.node_model(node);
        let log_torn = std::mem::take(&mut node_model.log_torn);
        let torn_before_intact = std::mem::take(&mut node_model.torn_before_intact);
        self.counts.torn_tails += u64::from(log_torn);
        self.counts.torn_before_intact += u64::from(torn_before_intact);
        let node_model = self.node_model(node);
        node_model.boot_checked = true;
        node_model.incarnation = state.incarnation;
        let held =
            state.prepared.iter().map(|prepared| (prepared.tx, prepared.part.ops().to_vec()));
        node_model.held.clear();
        node_model.held.extend(held);
        node_model.values.clear();
        node_model.values.extend(state.values.iter().map(|(key, value)| (*key, *value)));
        node_model.expected.clear();
        for prepared in &state.prepared {
            // Its locks are still held, so no value that it reads has changed since.
            expect_reads(node_model, prepared.tx, prepared.part.ops());
        }
        node_model.recovered_state = state;
        node_model.log.clear();
        node_model.durable = 0;
        Ok(())
    }
}

fn file_number(file: FileId) -> Option<u32> {
    match file {
        FileId::Wal(file_number) | FileId::Snapshot(file_number) => Some(file_number),
        FileId::Scratch => None,
    }
}

/// W6, W7: the state `found` is the recovered state and a prefix of the log, with every durable
/// record. Returns the number of records in that prefix.
pub(super) fn check_prefix(
    node: NodeId,
    node_model: &NodeModel,
    found: &State,
) -> Result<usize, Violation> {
    let mut replayed = node_model.recovered_state.clone();
    for (count, payload) in node_model.log.iter().enumerate() {
        if count >= node_model.durable && is_same_state(&replayed, found) {
            return Ok(count);
        }
        let record = codec::decode::<Record>(payload).expect("it was decoded when it was appended");
        replayed.apply(node, record);
    }
    if is_same_state(&replayed, found) {
        return Ok(node_model.log.len());
    }
    let all = node_model.log.len();
    let durable = node_model.durable;
    let explanation = format!(
        "{node} recovered a state that matches no prefix of its {all} records \
         ({durable} durable): {}",
        difference(&replayed, found)
    );
    Err(Property::RecoveredStateIsALogPrefix.violated(explanation))
}

/// Whether the state `found` is the recovered state and a prefix of the log, of any length.
pub(super) fn is_some_prefix(node: NodeId, node_model: &NodeModel, found: &State) -> bool {
    let mut replayed = node_model.recovered_state.clone();
    for payload in node_model.log.iter() {
        if is_same_state(&replayed, found) {
            return true;
        }
        replayed.apply(
            node,
            codec::decode::<Record>(payload).expect("it was decoded when it was appended"),
        );
    }
    is_same_state(&replayed, found)
}

/// Whether two states are equal, apart from what a node may forget: outcomes of ended transactions,
/// and requests that are acknowledged by their client or exceed the capacity of the request log.
fn is_same_state(replayed: &State, found: &State) -> bool {
    replayed.values == found.values
        && replayed.prepared == found.prepared
        && replayed.committing == found.committing
        && outcomes(replayed, found).eq(outcomes(found, found))
        && remembered_requests(replayed, found) == remembered_requests(found, found)
}

/// The outcomes in `of` of transactions that have not ended in `found`.
fn outcomes<'a>(
    of: &'a State,
    found: &'a State,
) -> impl Iterator<Item = (stormglass::commit::TxId, Decision)> + 'a {
    of.outcomes
        .iter()
        .filter(move |known| !has_ended(known.tx, found))
        .map(|known| (known.tx, known.decision))
}

fn has_ended(tx: stormglass::commit::TxId, found: &State) -> bool {
    let by = found.ended.iter().find(|ended| ended.coordinator == tx.coordinator);
    by.is_some_and(|ended| ended.contains(stormglass::commit::Position::of(tx)))
}

/// The committed requests in `of` above the floors in `found`.
fn remembered_requests(
    of: &State,
    found: &State,
) -> Vec<(u64, stormglass::commit::RequestNumber, stormglass::commit::TxId)> {
    let mut remembered = Vec::new();
    for client in &of.clients {
        let known = found.clients.iter().find(|known| known.client == client.client);
        let floor = known.map(|known| known.floor).unwrap_or_default();
        let above = client.committed.iter().filter(|(turn, _)| *turn > floor);
        remembered.extend(above.map(|(turn, tx)| (client.client, *turn, *tx)));
    }
    remembered
}

/// The first difference, for the explanation of a violation.
fn difference(replayed: &State, found: &State) -> String {
    if replayed.values != found.values {
        return format!("values {:?}, not {:?}", found.values, replayed.values);
    }
    if replayed.prepared != found.prepared {
        let [found, replayed] = [found, replayed]
            .map(|state| state.prepared.iter().map(|p| p.tx.to_string()).collect::<Vec<_>>());
        return format!("prepared {found:?}, not {replayed:?}");
    }
    if replayed.committing != found.committing {
        let [found, replayed] = [found, replayed]
            .map(|state| state.committing.iter().map(|c| c.tx.to_string()).collect::<Vec<_>>());
        return format!("committing {found:?}, not {replayed:?}");
    }
    let expected = remembered_requests(replayed, found);
    let remembered = remembered_requests(found, found);
    if remembered != expected {
        return format!("remembered requests {remembered:?}, not {expected:?}");
    }
    format!("outcomes {:?}, not {:?}", found.outcomes, replayed.outcomes)
}
