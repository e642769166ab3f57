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

use stormglass_node::{BootError, NodeId};

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

impl Damage {
    pub(super) fn of(entry: &DamageRecord) -> Damage {
        // A snapshot is synced before it gets its name, so no damage to it can be a torn tail.
        if entry.detectable || FileRole::of(entry.file) == FileRole::Snapshot {
            Damage::Detectable
        } else {
            Damage::LooksLikeTornTail
        }
    }
}

/// W6, D10: a node refuses to boot only because of damage, and the error names a damaged file.
pub(super) fn check_refused(node: NodeId, error: &BootError, disk: &Disk) -> Result<(), Violation> {
    let names_damaged_file = match error {
        BootError::Damaged { file, .. } | BootError::Version { file, .. } => {
            disk.damage_records().any(|entry| entry.file == *file)
        }
        // The caller knows the files that cannot be read (D16).
        BootError::Unreadable { .. } => false,
        // The caller knows the disks that were replaced (D13).
        BootError::OtherNode { .. } | BootError::Rejected { .. } => false,
    };
    if names_damaged_file {
        return Ok(());
    }
    let explanation = format!("{node} does not boot, but its error names no damaged file: {error}");
    Err(Property::OnlyDamagePreventsBoot.violated(explanation))
}
