//! Damage at rest (D10): what it excuses, and what it does not.
//!
//! 1. Damage that a node can tell from a torn tail must keep it from starting, and the refusal must name a damaged
//!    file. A snapshot is whole or damaged; a record in a log is vouched for by the watermark of a durable one behind it.
//! 2. Whoever starts all the same must have found everything: the damage was in a file that nobody needs any more. That is
//!    judged before its first write, so nobody goes on in silence until it happens to speak.
//! 3. Damage in the last synced group cannot be told from a torn tail. Who starts then may have forgotten the end of
//!    its log, never more, and from there on no claim of the protocol can hold: a promise is gone. The run is judged no
//!    further, but for panics.
//! 4. A node that refuses is as good as dead: what waits for it waits rightly.

use stormglass::commit::State;
use stormglass::{BootError, NodeId};

use super::recovery::{check_prefix, is_some_prefix};
use super::{AtomicCommitChecker, NodeModel};
use crate::disk::{DamageRecord, Disk, FileRole};
use crate::property::Violation;

/// What damage there is on the disk of a node that is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Damage {
    #[default]
    None,
    /// The node can tell it from a torn tail.
    Detectable,
    /// It cannot.
    LooksLikeTornTail,
}

impl AtomicCommitChecker {
    pub(super) fn on_damaged(&mut self, node: NodeId, entry: &DamageRecord) {
        let detectable = entry.detectable || FileRole::of(entry.file) == FileRole::Snapshot;
        let node_model = self.node_model(node);
        node_model.recovered_states.forget(); // What the next life reads is another disk.
        node_model.damage = node_model.damage.max(if detectable {
            Damage::Detectable
        } else {
            Damage::LooksLikeTornTail
        });
    }

    /// W6, D10: only damage keeps a node from starting, and it says where.
    pub(super) fn on_refused(
        &mut self,
        node: NodeId,
        error: &BootError,
        disk: &Disk,
    ) -> Result<(), Violation> {
        let is_named_in_error = |entry: DamageRecord| match error {
            BootError::Damaged { file, .. } | BootError::Version { file, .. } => {
                *file == entry.file
            }
            BootError::Unreadable { .. } => false,
        };
        if disk.damage_records().any(is_named_in_error) {
            self.node_model(node).refused = true;
            self.counts.refusals += 1;
            return Ok(());
        }
        Err(Violation::safety("W6 OnlyDamageRefuses", format!("{node} does not start: {error}")))
    }

    /// Whether it is not known yet what damage has done to this node.
    pub(super) fn is_damaged(&self, node: NodeId) -> bool {
        self.nodes[usize::from(node.0)].damage != Damage::None
    }

    /// A life that has begun: was what it found all there? Says how many records of the life before it kept.
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

    /// Whether a node will never answer again.
    pub(super) fn is_permanently_down(&self, node: NodeId) -> bool {
        self.plan.permanently_down.contains(&node) || self.nodes[usize::from(node.0)].refused
    }

    /// Whether any node is dead for good.
    pub(super) fn has_permanently_down_nodes(&self) -> bool {
        !self.plan.permanently_down.is_empty()
            || self.nodes.iter().any(|node_model: &NodeModel| node_model.refused)
    }
}
