//! W9: replay is idempotent, a crash within it included; D12: recovering twice gives what recovering once gives.
//!
//! 1. A life reads its disk back, and writes all of it to a new snapshot. What it has read is noted before its first write.
//! 2. If it is killed before it has said anything, nothing was lost, so the next life must read the very same.
//! 3. If it gets through, what a power cut would leave now is read back once more, and must be the same again: no record
//!    is left out, none applied twice, and no leftover of an earlier attempt gets in the way.
//!
//! Whether what was read was all there is another claim (W6).

use stormglass::commit::{Record, State};
use stormglass::{BootError, NodeId, ReadDisk, wal};

use super::AtomicCommitChecker;
use crate::disk::Disk;
use crate::property::Violation;

const NAME: &str = "W9 RecoveringTwiceIsRecoveringOnce";

/// What one node has read back, as long as it has said nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct RecoveredStates {
    /// By the present life; `None` before its first write.
    found: Option<State>,
    /// By the life before, if it was killed before it said anything.
    before: Option<State>,
}

impl RecoveredStates {
    /// The life goes on to speak: what it has read.
    pub(super) fn take(&mut self) -> Option<State> {
        self.before = None;
        self.found.take()
    }

    /// What was not durable may be lost: nothing is owed any more.
    pub(super) fn forget(&mut self) {
        (self.found, self.before) = (None, None);
    }
}

impl AtomicCommitChecker {
    /// A life that has said nothing yet is about to write or to tidy up.
    pub(super) fn on_boot_writes(&mut self, node: NodeId, disk: &Disk) -> Result<(), Violation> {
        let recovered_states = &mut self.node_model(node).recovered_states;
        if recovered_states.found.is_some() {
            return Ok(());
        }
        // Whoever started has read it; if we cannot, that shows when it speaks.
        let Ok(found) = read_back(node, disk) else { return Ok(()) };
        let before = recovered_states.before.take();
        check_same_state(node, before.as_ref(), &found)?;
        if self.is_damaged(node) {
            self.check_recovered(node, &found)?;
        }
        self.node_model(node).recovered_states.found = Some(found);
        Ok(())
    }

    /// The process ends, and the page cache stays.
    pub(super) fn on_kill(&mut self, node: NodeId) {
        let node_model = self.node_model(node);
        let found = node_model.recovered_states.take().filter(|_| !node_model.boot_checked);
        node_model.recovered_states.before = found;
        self.on_crash(node);
    }
}

/// What a node would find on such a disk.
pub(super) fn read_back(node: NodeId, disk: &dyn ReadDisk) -> Result<State, BootError> {
    let recovered = wal::recover::<State, Record>(disk)?;
    let mut state = recovered.snapshot.unwrap_or_default();
    for record in recovered.records {
        state.apply(node, record);
    }
    Ok(state)
}

/// W9: what is found after a recovery, begun or complete, is what was found before it. Only the life has moved on.
pub(super) fn check_same_state(
    node: NodeId,
    before: Option<&State>,
    after: &State,
) -> Result<(), Violation> {
    let Some(before) = before else { return Ok(()) };
    let State { incarnation: _, values, prepared, outcomes, committing, ended, clients } = before;
    let differs = [
        ("values", *values != after.values),
        ("prepared transactions", *prepared != after.prepared),
        ("outcomes", *outcomes != after.outcomes),
        ("committing transactions", *committing != after.committing),
        ("ended transactions", *ended != after.ended),
        ("names", *clients != after.clients),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        Some((what, _)) => {
            let explanation = format!(
                "{node} recovered, and recovering once more gives other {what} than it has found"
            );
            Err(Violation::safety(NAME, explanation))
        }
        None => Ok(()),
    }
}

/// W9: the same of what the node itself sees on its disk, durable or not.
pub(super) fn check_second_recovery(
    node: NodeId,
    before: Option<&State>,
    disk: &Disk,
) -> Result<(), Violation> {
    let after = read_back(node, disk).map_err(|error| {
        Violation::safety(
            NAME,
            format!("{node} recovered, and could not recover once more: {error}"),
        )
    })?;
    check_same_state(node, before, &after)
}
