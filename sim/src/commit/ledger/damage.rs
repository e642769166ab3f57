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

use super::boots::{claim_prefix, is_some_prefix};
use super::{Ledger, Track};
use crate::disk::{Disk, LedgerEntry, Role};
use crate::oracle::Broken;

/// What damage there is on the disk of a node that is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Damage {
    #[default]
    None,
    /// The node can tell it from a torn tail.
    Plain,
    /// It cannot.
    LikeATornTail,
}

impl Ledger {
    pub(super) fn on_damaged(&mut self, node: NodeId, entry: &LedgerEntry) {
        let plain = entry.vouched || Role::of(entry.file) == Role::Snapshot;
        let track = self.track(node);
        track.replay.forget(); // What the next life reads is another disk.
        track.damage = track.damage.max(if plain { Damage::Plain } else { Damage::LikeATornTail });
    }

    /// W6, D10: only damage keeps a node from starting, and it says where.
    pub(super) fn on_refused(&mut self, node: NodeId, error: &BootError, disk: &Disk) -> Result<(), Broken> {
        let there = |entry: LedgerEntry| match error {
            BootError::Damaged { file, .. } | BootError::Version { file, .. } => *file == entry.file,
            BootError::Unreadable { .. } => false,
        };
        if disk.ledger().any(there) {
            self.track(node).refused = true;
            self.counts.refusals += 1;
            return Ok(());
        }
        Err(Broken::safety("W6 OnlyDamageRefuses", format!("{node} does not start: {error}")))
    }

    /// Whether it is not known yet what damage has done to this node.
    pub(super) fn is_damaged(&self, node: NodeId) -> bool {
        self.nodes[usize::from(node.0)].damage != Damage::None
    }

    /// A life that has begun: was what it found all there? Says how many records of the life before it kept.
    pub(super) fn judge_found(&mut self, node: NodeId, found: &State) -> Result<usize, Broken> {
        let track = self.track(node);
        let damage = std::mem::take(&mut track.damage);
        let whole = claim_prefix(node, track, found);
        if damage != Damage::LikeATornTail || whole.is_ok() {
            return whole;
        }
        if !is_some_prefix(node, track, found) {
            return whole;
        }
        self.beyond_promise = true;
        Ok(0)
    }

    /// Whether a node will never answer again.
    pub(super) fn is_dead(&self, node: NodeId) -> bool {
        self.plan.dead.contains(&node) || self.nodes[usize::from(node.0)].refused
    }

    /// Whether any node is dead for good.
    pub(super) fn mourns(&self) -> bool {
        !self.plan.dead.is_empty() || self.nodes.iter().any(|track: &Track| track.refused)
    }
}
