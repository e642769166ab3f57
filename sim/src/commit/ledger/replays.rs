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

use super::Ledger;
use crate::disk::Disk;
use crate::oracle::Broken;

const CLAIM: &str = "W9 RecoveringTwiceIsRecoveringOnce";

/// What one node has read back, as long as it has said nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Replay {
    /// By the present life; `None` before its first write.
    found: Option<State>,
    /// By the life before, if it was killed before it said anything.
    before: Option<State>,
}

impl Replay {
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

impl Ledger {
    /// A life that has said nothing yet is about to write or to tidy up.
    pub(super) fn on_boot_writes(&mut self, node: NodeId, disk: &Disk) -> Result<(), Broken> {
        let replay = &mut self.track(node).replay;
        if replay.found.is_some() {
            return Ok(());
        }
        // Whoever started has read it; if we cannot, that shows when it speaks.
        let Ok(found) = read_back(node, disk) else { return Ok(()) };
        let before = replay.before.take();
        claim_alike(node, before.as_ref(), &found)?;
        if self.is_damaged(node) {
            self.judge_found(node, &found)?;
        }
        self.track(node).replay.found = Some(found);
        Ok(())
    }

    /// The process ends, and the page cache stays.
    pub(super) fn on_kill(&mut self, node: NodeId) {
        let track = self.track(node);
        let found = track.replay.take().filter(|_| !track.spoke);
        track.replay.before = found;
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
pub(super) fn claim_alike(node: NodeId, before: Option<&State>, after: &State) -> Result<(), Broken> {
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
            let why =
                format!("{node} recovered, and recovering once more gives other {what} than it has found");
            Err(Broken::safety(CLAIM, why))
        }
        None => Ok(()),
    }
}

/// W9: the same of what the node itself sees on its disk, durable or not.
pub(super) fn claim_the_same(node: NodeId, before: Option<&State>, disk: &Disk) -> Result<(), Broken> {
    let after = read_back(node, disk).map_err(|error| {
        Broken::safety(CLAIM, format!("{node} recovered, and could not recover once more: {error}"))
    })?;
    claim_alike(node, before, &after)
}
