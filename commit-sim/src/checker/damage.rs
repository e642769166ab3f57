//! Damage at rest (D10): which deviations of a node it permits.
//!
//! 1. A node must refuse to boot from damage that it can distinguish from a torn tail, and the
//!    error must name a damaged file. A snapshot is intact or damaged; a record in a log is covered
//!    by the watermark of a durable record after it.
//! 2. A node that boots in spite of such damage must have recovered everything: the damage was in a
//!    file that is no longer needed. This is checked before the incarnation's first write, so that
//!    it is checked even if the incarnation never produces a visible effect.
//! 3. Damage in the last synced group cannot be distinguished from a torn tail. A node that boots
//!    from it may have lost the end of its log, and nothing else. From there on no property of the
//!    protocol can hold, as durable records are lost. All checks of the run stop, except for
//!    panics.
//! 4. A node that has refused to boot counts as permanently down: blocking on it is justified.

use stormglass::commit::State;
use stormglass_node::{BootError, NodeId};

use super::recovery::{check_prefix, is_some_prefix};
use super::{AtomicCommitChecker, NodeModel};
use crate::property::Property;
use stormglass_sim::disk::{DamageRecord, Disk, FileRole};
use stormglass_sim::property::Violation;

/// The worst damage on the disk of a node that is down, in ascending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Damage {
    #[default]
    None,
    /// The node can distinguish it from a torn tail.
    Detectable,
    /// The node cannot distinguish it from a torn tail.
    LooksLikeTornTail,
}

impl AtomicCommitChecker {
    pub(super) fn on_damaged(&mut self, node: NodeId, entry: &DamageRecord) {
        let detectable = entry.detectable || FileRole::of(entry.file) == FileRole::Snapshot;
        let node_model = self.node_model(node);
        // The next incarnation reads a different disk, so it need not recover the same state.
        node_model.recovered_states.forget();
        node_model.damage = node_model.damage.max(if detectable {
            Damage::Detectable
        } else {
            Damage::LooksLikeTornTail
        });
    }

    /// W6, D10: a node refuses to boot only because of damage, and the error names a damaged file.
    pub(super) fn on_refused(
        &mut self,
        node: NodeId,
        error: &BootError,
        disk: &Disk,
    ) -> Result<(), Violation> {
        let names_damaged_file = match error {
            BootError::Damaged { file, .. } | BootError::Version { file, .. } => {
                disk.damage_records().any(|entry| entry.file == *file)
            }
            BootError::Unreadable { .. } => false,
        };
        if names_damaged_file {
            self.node_model(node).refused = true;
            self.counts.refusals += 1;
            return Ok(());
        }
        let explanation =
            format!("{node} does not boot, but its error names no damaged file: {error}");
        Err(Property::OnlyDamagePreventsBoot.violated(explanation))
    }

    /// Whether the node's disk was damaged since its last recovery was checked.
    pub(super) fn is_damaged(&self, node: NodeId) -> bool {
        self.nodes[usize::from(node.0)].damage != Damage::None
    }

    /// W6, D10: an incarnation has recovered every durable record, or damage excuses the lost ones.
    /// Returns how many records of the incarnation before it are kept.
    pub(super) fn check_recovered(
        &mut self,
        node: NodeId,
        found: &State,
    ) -> Result<usize, Violation> {
        let node_model = self.node_model(node);
        let damage = std::mem::take(&mut node_model.damage);
        let complete_prefix = check_prefix(node, node_model, found);
        if damage != Damage::LooksLikeTornTail || complete_prefix.is_ok() {
            return complete_prefix;
        }
        if !is_some_prefix(node, node_model, found) {
            return complete_prefix;
        }
        self.undetectable_loss = true;
        Ok(0)
    }

    /// Whether the node never boots again: by plan, or because it refused to.
    pub(super) fn is_permanently_down(&self, node: NodeId) -> bool {
        self.plan.permanently_down.contains(&node) || self.nodes[usize::from(node.0)].refused
    }

    /// Whether any node is permanently down.
    pub(super) fn has_permanently_down_nodes(&self) -> bool {
        !self.plan.permanently_down.is_empty()
            || self.nodes.iter().any(|node_model: &NodeModel| node_model.refused)
    }
}
