//! W9: recovery is idempotent, even if a crash interrupts it; D12: two recoveries give the same
//! state as one.
//!
//! 1. An incarnation recovers its state from the disk and writes it to a new snapshot. The checker
//!    notes the recovered state before the first write.
//! 2. If the incarnation is killed before its first visible effect, nothing was lost, so the next
//!    incarnation must recover the same state.
//! 3. Otherwise, at its first visible effect, the checker recovers what a power cut would leave
//!    then. It must be the same state again: no record is left out, none is applied twice, and no
//!    file of an earlier attempt interferes.
//!
//! Whether the recovered state is complete is another property (W6).

use stormglass::commit::{Record, State};
use stormglass_node::{BootError, NodeId, ReadDisk, wal};

use crate::property::Property;
use stormglass_sim::disk::Disk;
use stormglass_sim::property::Violation;

/// The states that one node has recovered, until its first visible effect.
#[derive(Clone, Debug, Default)]
pub(super) struct RecoveredStates {
    /// By the present incarnation; `None` before its first write.
    found: Option<State>,
    /// By the incarnation before, if it was killed before its first visible effect.
    before: Option<State>,
}

impl RecoveredStates {
    /// Whether the present incarnation has recovered its state.
    pub(super) fn is_found(&self) -> bool {
        self.found.is_some()
    }

    /// W9: the present incarnation has recovered `found`, the same state as the one before it, if
    /// that was killed before its first visible effect.
    pub(super) fn check_found(&mut self, node: NodeId, found: &State) -> Result<(), Violation> {
        let before = self.before.take();
        check_same_state(node, before.as_ref(), found)
    }

    /// Notes the state that the present incarnation recovered.
    pub(super) fn set_found(&mut self, found: State) {
        self.found = Some(found);
    }

    /// Takes the state that the present incarnation recovered; both are `None` afterwards.
    pub(super) fn take(&mut self) -> Option<State> {
        std::mem::take(self).found
    }

    /// After a power cut, unsynced data may be lost: the next incarnation may recover another
    /// state.
    pub(super) fn forget(&mut self) {
        *self = RecoveredStates::default();
    }

    /// The process ends before its first visible effect and the page cache stays, so nothing is
    /// lost: the next incarnation must recover the same state.
    pub(super) fn on_kill_during_boot(&mut self) {
        self.before = self.take();
    }
}

/// The state that a node would recover from this disk.
///
/// # Errors
/// As [`wal::recover`].
pub(super) fn read_back(node: NodeId, disk: &dyn ReadDisk) -> Result<State, BootError> {
    let recovered = wal::recover::<State, Record>(disk)?;
    let mut state = recovered.snapshot.unwrap_or_default();
    for record in recovered.records {
        state.apply(node, record);
    }
    Ok(state)
}

/// W9: the state recovered after a recovery, interrupted or complete, equals the one recovered
/// before it, apart from the incarnation.
pub(super) fn check_same_state(
    node: NodeId,
    before: Option<&State>,
    after: &State,
) -> Result<(), Violation> {
    let Some(before) = before else { return Ok(()) };
    // Every field by name, so that a new one is compared, too. Each recovery has an incarnation of
    // its own.
    let State {
        owner,
        incarnation: _,
        // It contains the incarnation before, which differs as well.
        ancestors: _,
        lost,
        peers,
        values,
        prepared,
        outcomes,
        committing,
        ended,
        clients,
        forgotten_below,
    } = before;
    let differs = [
        ("owners", owner.is_some() && *owner != after.owner),
        ("lost incarnations", *lost != after.lost),
        ("remembered peers", *peers != after.peers),
        ("values", *values != after.values),
        ("prepared transactions", *prepared != after.prepared),
        ("outcomes", *outcomes != after.outcomes),
        ("committing transactions", *committing != after.committing),
        ("ended transactions", *ended != after.ended),
        ("remembered requests", *clients != after.clients),
        ("forgotten requests", *forgotten_below != after.forgotten_below),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        Some((what, _)) => {
            let explanation = format!("{node} recovered twice, with different {what}");
            Err(Property::RecoveryIsIdempotent.violated(explanation))
        }
        None => Ok(()),
    }
}

/// W9: the same for the whole contents of the node's disk, durable or not.
pub(super) fn check_second_recovery(
    node: NodeId,
    before: Option<&State>,
    disk: &Disk,
) -> Result<(), Violation> {
    let after = read_back(node, disk).map_err(|error| {
        Property::RecoveryIsIdempotent
            .violated(format!("{node} recovered, but a second recovery failed: {error}"))
    })?;
    check_same_state(node, before, &after)
}
