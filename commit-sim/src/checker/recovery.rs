//! W6, W7, W9, W10: what an incarnation recovers from its disk.
//!
//! The checker recovers each disk itself, twice per incarnation: before the first write of the
//! boot, and before the first visible effect what the worst power cut would leave then.

mod damage;
mod kept_state;
mod recoverable_log;
mod repeated;

use stormglass::commit::{State, TxId};
use stormglass_node::codec::CodecError;
use stormglass_node::{BootError, FileId, Incarnation, NodeId};

use self::damage::Damage;
pub(crate) use self::kept_state::KeptState;
use self::recoverable_log::{Compared, Kept, RecoverableLog};
use self::repeated::{RecoveredStates, check_same_state, check_second_recovery, read_back};
use crate::property::Property;
use stormglass_sim::disk::{DamageRecord, Disk, DiskChange};
use stormglass_sim::property::Violation;

/// What each node must recover, and whether it did.
#[derive(Clone, Debug, Default)]
pub(super) struct Recovery {
    nodes: Vec<NodeRecovery>,
    /// Damage (D10) removed durable records in a way that no node can detect.
    undetectable_loss: Option<NodeId>,
    /// What that node has recovered.
    found_after_loss: Option<State>,
}

#[derive(Clone, Debug, Default)]
struct NodeRecovery {
    /// Whether the boot of this incarnation was found durable, which its first visible effect
    /// requires.
    boot_checked: bool,
    /// The greatest incarnation that has produced a visible effect.
    incarnation: Incarnation,
    /// What the next incarnation must recover (W6, W7).
    log: RecoverableLog,
    /// The states that this incarnation and the one before it recovered (W9).
    recovered_states: RecoveredStates,
    /// The damage at rest that the next incarnation will find (D10).
    damage: Damage,
    /// How the disk has changed since the last visible effect (D13-D15). It excuses a refusal to
    /// boot, and no loss.
    change: Option<DiskChange>,
    /// Whether the disk has ever changed so, or a second process has run (D17).
    has_changed: bool,
    /// What the present incarnation has lost so. It violates W6 once it serves anybody, unless it
    /// looks like a torn tail.
    loss: Option<Violation>,
    loss_looks_like_torn_tail: bool,
    /// The file that this boot cannot read (D16).
    unreadable: Option<FileId>,
}

impl NodeRecovery {
    /// Makes this the node of another run; allocated memory is kept.
    fn reset(&mut self) {
        let mut log = std::mem::take(&mut self.log);
        log.begin(KeptState::default());
        *self = NodeRecovery { log, ..NodeRecovery::default() };
    }
}

/// What an incarnation has recovered, once its first visible effect is due.
pub(super) struct Recovered {
    /// The state that a power cut would leave, as the node's own replay reads it.
    pub(super) state: State,
    /// The records that it consists of, and what they mean by the checker's own rules.
    pub(super) kept: Kept,
}

impl Recovery {
    /// For a run of a cluster of that many nodes.
    pub(super) fn new(nodes: usize) -> Recovery {
        let mut recovery = Recovery::default();
        recovery.reset(nodes);
        recovery
    }

    /// Prepares for a run of a cluster of that many nodes; allocated memory is kept.
    pub(super) fn reset(&mut self, nodes: usize) {
        let Recovery { nodes: node_recoveries, undetectable_loss, found_after_loss } = self;
        node_recoveries.resize_with(nodes, NodeRecovery::default);
        node_recoveries.iter_mut().for_each(NodeRecovery::reset);
        *undetectable_loss = None;
        *found_after_loss = None;
    }

    fn node(&mut self, node: NodeId) -> &mut NodeRecovery {
        &mut self.nodes[usize::from(node.0)]
    }

    /// The node from whose log damage removed durable records in a way that no node can detect. No
    /// property of the protocol can hold from there on.
    #[inline]
    pub(super) fn undetectable_loss(&self) -> Option<NodeId> {
        self.undetectable_loss
    }

    /// Takes the node that has lost records and what it has recovered; `None` afterwards.
    pub(super) fn take_found_after_loss(&mut self) -> Option<(NodeId, State)> {
        self.undetectable_loss.zip(self.found_after_loss.take())
    }

    /// Whether the disk of the node has changed since its last visible effect (D13-D15).
    pub(super) fn has_changed(&self, node: NodeId) -> bool {
        self.nodes[usize::from(node.0)].change.is_some()
    }

    /// Whether the boot of this incarnation was found durable.
    #[inline]
    pub(super) fn is_boot_checked(&self, node: NodeId) -> bool {
        self.nodes[usize::from(node.0)].boot_checked
    }

    /// The greatest incarnation of the node that has produced a visible effect.
    #[inline]
    pub(super) fn incarnation(&self, node: NodeId) -> Incarnation {
        self.nodes[usize::from(node.0)].incarnation
    }

    /// Whether this incarnation began with the transaction prepared.
    pub(super) fn has_recovered_prepared(&self, node: NodeId, tx: TxId) -> bool {
        self.nodes[usize::from(node.0)].log.recovered().has_prepared(tx)
    }

    /// A record is about to be appended. Returns its index among the records of this incarnation.
    #[inline]
    pub(super) fn on_append(&mut self, node: NodeId, payload: &[u8]) -> usize {
        self.node(node).log.append(payload)
    }

    /// The next `count` records are durable.
    #[inline]
    pub(super) fn on_durable(&mut self, node: NodeId, count: usize) {
        self.node(node).log.make_durable(count);
    }

    /// The process has ended and the page cache stays.
    pub(super) fn on_kill(&mut self, node: NodeId) {
        let node_recovery = self.node(node);
        // After a visible effect an incarnation may have appended records, so the next one may
        // recover another state. One that has lost records has introduced itself, and notes peers.
        if node_recovery.boot_checked || node_recovery.loss.is_some() {
            node_recovery.recovered_states.forget();
        } else {
            node_recovery.recovered_states.on_kill_during_boot();
        }
        node_recovery.boot_checked = false;
    }

    pub(super) fn on_power_cut(&mut self, node: NodeId) {
        let node_recovery = self.node(node);
        node_recovery.recovered_states.forget();
        node_recovery.boot_checked = false;
    }

    pub(super) fn on_damaged(&mut self, node: NodeId, entry: &DamageRecord) {
        let node_recovery = self.node(node);
        // The next incarnation reads a different disk, so it need not recover the same state.
        node_recovery.recovered_states.forget();
        // The worst of several crashes counts: a second damage must not hide what the first one
        // excuses.
        node_recovery.damage = node_recovery.damage.max(Damage::of(entry));
    }

    /// A process starts. What an earlier boot could not read, this one can.
    pub(super) fn on_boot(&mut self, node: NodeId) {
        let node_recovery = self.node(node);
        node_recovery.unreadable = None;
        node_recovery.loss = None;
        node_recovery.loss_looks_like_torn_tail = false;
    }

    /// D16: this boot cannot read a file.
    pub(super) fn on_unreadable(&mut self, node: NodeId, file: FileId) {
        self.node(node).unreadable = Some(file);
    }

    /// D13-D15: the disk has lost the end of its history, or files.
    pub(super) fn on_disk_changed(&mut self, node: NodeId, change: &DiskChange) {
        let node_recovery = self.node(node);
        // The next incarnation reads a different disk, so it need not recover the same state.
        node_recovery.recovered_states.forget();
        node_recovery.change = Some(change.clone());
        node_recovery.has_changed = true;
    }

    /// W6: a node refuses to boot only from a disk that has changed at rest (D10, D13-D15), or
    /// because a file cannot be read (D16).
    pub(super) fn check_refused(
        &self,
        node: NodeId,
        error: &BootError,
        disk: &Disk,
    ) -> Result<(), Violation> {
        let NodeRecovery { change, has_changed, unreadable, .. } = &self.nodes[usize::from(node.0)];
        let is_right = match error {
            BootError::Unreadable { file, .. } => *unreadable == Some(*file),
            // Whichever file it names: the first sign of a file that is gone is another one.
            BootError::Damaged { .. } | BootError::Version { .. } => change.is_some(),
            BootError::OtherNode { .. } => *has_changed,
            // A node of two-phase commit refuses no files that are intact.
            BootError::Rejected { .. } => false,
        };
        if is_right { Ok(()) } else { damage::check_refused(node, error, disk) }
    }

    /// D17: peers may have met the second process, and refuse the first.
    pub(super) fn on_second_process(&mut self, node: NodeId) {
        self.node(node).has_changed = true;
    }

    /// W6: peers refuse a node only if its disk has changed at rest (D13-D15), or a second process
    /// has run under its id (D17).
    pub(super) fn check_refused_by_peers(
        &self,
        node: NodeId,
        reason: &str,
    ) -> Result<(), Violation> {
        if self.nodes[usize::from(node.0)].has_changed {
            return Ok(());
        }
        let explanation = format!("{node} halts, though its disk is as it left it: {reason}");
        Err(Property::OnlyDamagePreventsBoot.violated(explanation))
    }

    /// D10-D17: whether the disk of the node has changed at rest, or a second process has run.
    pub(super) fn may_know_less(&self, node: NodeId) -> bool {
        let NodeRecovery { change, has_changed, loss, .. } = &self.nodes[usize::from(node.0)];
        *has_changed || change.is_some() || loss.is_some()
    }

    /// Whether the present incarnation has lost records.
    pub(super) fn has_loss(&self, node: NodeId) -> bool {
        self.nodes[usize::from(node.0)].loss.is_some()
    }

    /// W6: an incarnation that serves anybody has lost no record. Returns whether the checks go on:
    /// after a loss that looks like a torn tail, they stop.
    pub(super) fn check_loss(&mut self, node: NodeId) -> Result<bool, Violation> {
        let node_recovery = self.node(node);
        let Some(violation) = node_recovery.loss.take() else { return Ok(true) };
        if node_recovery.loss_looks_like_torn_tail {
            self.undetectable_loss = Some(node);
            return Ok(false);
        }
        Err(violation)
    }

    /// W6: an incarnation has lost records, as its disk has changed at rest, and serves nobody so
    /// far. Any other violation is final.
    pub(super) fn suspend_loss(
        &mut self,
        node: NodeId,
        violation: Violation,
    ) -> Result<(), Violation> {
        let node_recovery = self.node(node);
        if node_recovery.change.is_none() {
            return Err(violation);
        }
        node_recovery.loss = Some(violation);
        Ok(())
    }

    /// W9: an incarnation without a visible effect so far is about to write, or to remove the
    /// scratch file.
    pub(super) fn on_boot_writes(&mut self, node: NodeId, disk: &Disk) -> Result<(), Violation> {
        let node_recovery = self.node(node);
        // One that has lost records has introduced itself: it is not booting any more.
        if node_recovery.recovered_states.is_found() || node_recovery.loss.is_some() {
            return Ok(());
        }
        // If the checker cannot recover the disk here, the check at the first visible effect fails.
        let Ok(found) = read_back(node, disk) else { return Ok(()) };
        node_recovery.recovered_states.check_found(node, &found)?;
        if node_recovery.damage != Damage::None {
            self.check_recovered(node, &found)?;
        }
        self.node(node).recovered_states.set_found(found);
        Ok(())
    }

    /// W10: before the first visible effect of an incarnation, its boot is durable. The checker
    /// recovers what the worst power cut would leave now. It must be a prefix of the records that
    /// the node has appended, at least up to the last completed sync, with an incarnation greater
    /// than every earlier one. `None` after damage that no node can detect.
    pub(super) fn check_first_effect(
        &mut self,
        node: NodeId,
        disk: &Disk,
    ) -> Result<Option<Recovered>, Violation> {
        let node_recovery = self.node(node);
        let found = node_recovery.recovered_states.take();
        // What a power cut would leave at this moment, not what the node has read.
        let state = match read_back(node, &disk.durable()) {
            Ok(state) => state,
            Err(error) => {
                // A second recovery that fails even with all unsynced data is an error of its own.
                check_second_recovery(node, found.as_ref(), disk)?;
                let explanation = format!(
                    "{node} produced an effect before its boot was durable: \
                     after a power cut it could not start: {error}"
                );
                return Err(Property::NoEffectBeforeTheBootIsDurable.violated(explanation));
            }
        };
        if let Some(change) = node_recovery.change.clone() {
            // Another disk may lead to a number that the node has had, with other random bits.
            if state.incarnation == node_recovery.incarnation {
                // What is missing tells more than the number, but it need not be anything else.
                self.check_recovered(node, &state)?;
                return Err(reused_incarnation(node, state.incarnation, &change));
            }
        } else if state.incarnation.number() <= node_recovery.incarnation.number() {
            let explanation = format!(
                "{node} produced an effect before its incarnation was durable: \
                 after a power cut it would use {} again",
                node_recovery.incarnation
            );
            return Err(Property::NoEffectBeforeTheBootIsDurable.violated(explanation));
        }
        let kept = self.check_recovered(node, &state)?;
        check_same_state(node, found.as_ref(), &state)?;
        Ok(self.undetectable_loss.is_none().then_some(Recovered { state, kept }))
    }

    /// W6, D13-D15: an incarnation that has lost records, and has produced no visible effect that
    /// would show it, or none but introductions. The others wait for it in vain, so this is the
    /// cause of what they violate.
    #[cold]
    pub(super) fn loss_without_effects(&mut self) -> Option<Violation> {
        for node in (0..self.nodes.len() as u16).map(NodeId) {
            let node_recovery = self.node(node);
            if let Some(violation) = node_recovery.loss.take() {
                return Some(violation);
            }
            if node_recovery.change.is_some()
                && let Some(found) = node_recovery.recovered_states.take()
                && let Err(violation) = self.check_recovered(node, &found)
            {
                return Some(violation);
            }
        }
        None
    }

    /// The incarnation that has kept these records may produce visible effects.
    pub(super) fn begin_incarnation(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        kept: KeptState,
    ) {
        let node_recovery = self.node(node);
        node_recovery.boot_checked = true;
        // Nothing that was durable is missing, so no later incarnation has a reason to refuse.
        node_recovery.change = None;
        node_recovery.incarnation = incarnation;
        node_recovery.log.begin(kept);
    }

    /// W6, D10: an incarnation has recovered every durable record, or damage excuses the lost ones.
    /// Returns the records that are kept.
    fn check_recovered(&mut self, node: NodeId, found: &State) -> Result<Kept, Violation> {
        let node_recovery = self.node(node);
        // Taken, as it excuses the first recovery after it and no later one.
        let damage = std::mem::take(&mut node_recovery.damage);
        let compared = match node_recovery.change {
            Some(_) => Compared::Transactions,
            None => Compared::Everything,
        };
        let complete_prefix = node_recovery.log.check_prefix(node, found, compared);
        if let Some(change) = &node_recovery.change {
            // D15: of a log that is readable, only the end can be gone, and no later watermark is
            // left. Peers may know better, and refuse the node. Nothing excuses that a node serves
            // after D13 or D14, or as if it had never been.
            let lost_some = matches!(change, DiskChange::CutShort { .. } | DiskChange::Lost(_))
                && (!found.ancestors.is_empty() || found.incarnation.number() > 1);
            node_recovery.loss_looks_like_torn_tail = lost_some
                    // Without its newest snapshot, a node may find the one before, whose removal
                    // was not durable.
                    && (matches!(change, DiskChange::Lost(_))
                        || node_recovery.log.is_some_prefix(node, found, compared));
            return complete_prefix.map_err(|violation| explained(violation, change));
        }
        // A loss is excused only if its cause looks like a torn tail, and only at the end of the
        // log.
        if damage != Damage::LooksLikeTornTail
            || complete_prefix.is_ok()
            || !node_recovery.log.is_some_prefix(node, found, compared)
        {
            return complete_prefix;
        }
        self.undetectable_loss = Some(node);
        self.found_after_loss = Some(found.clone());
        Ok(Kept::default())
    }
}

/// The violation with its cause.
#[cold]
fn explained(violation: Violation, change: &DiskChange) -> Violation {
    let reason = format!("{}; its disk had changed while it was down: {change}", violation.reason);
    Violation { reason, ..violation }
}

/// W6: the incarnation is a part of what was durable, too. Transactions and messages of two
/// incarnations with one number cannot be distinguished.
#[cold]
fn reused_incarnation(node: NodeId, incarnation: Incarnation, change: &DiskChange) -> Violation {
    let explanation = format!(
        "{node} serves as {incarnation}, which it has been before; its disk had changed while it \
         was down: {change}"
    );
    Property::RecoveredStateIsALogPrefix.violated(explanation)
}

/// W6: no incarnation can recover such a record.
#[cold]
pub(super) fn malformed_record(node: NodeId, error: &CodecError) -> Violation {
    let explanation = format!("{node} appended a malformed record to its log: {error}");
    Property::RecoveredStateIsALogPrefix.violated(explanation)
}
