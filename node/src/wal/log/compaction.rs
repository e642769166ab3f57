//! The snapshot lane: how an incarnation begins and how a log is shortened. Both write the whole
//! state to the scratch file, sync it, rename it, sync the directory, and only then remove the
//! files before.

use crate::contract::{FileId, OpId};
use crate::wal::recovery::ResumePoint;

/// The barriers of snapshots, and what waits for them. A snapshot has the number of the current
/// segment.
#[derive(Clone, Debug)]
pub(super) struct SnapshotLane {
    state: State,
    // The last record that the snapshot in progress covers. The snapshot is renamed once the log is
    // durable up to this record.
    covered_position: u64,
    /// Files that are removed once the next snapshot is durable.
    obsolete_files: Vec<FileId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// The scratch file is being synced.
    Syncing(OpId),
    /// The data of the scratch file is durable; its rename waits until the log is durable.
    Synced,
    /// The file is renamed; the directory is being synced.
    Naming(OpId),
}

impl SnapshotLane {
    /// The lane of an incarnation whose boot snapshot covers this position and replaces these
    /// files.
    pub(super) fn new(covered_position: u64, obsolete_files: Vec<FileId>) -> SnapshotLane {
        SnapshotLane { state: State::Idle, covered_position, obsolete_files }
    }

    /// Whether no snapshot is in progress.
    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// The position of the last record that the snapshot covers.
    pub(super) fn covered_position(&self) -> u64 {
        self.covered_position
    }

    /// The next snapshot covers the records up to this one.
    pub(super) fn cover(&mut self, position: u64) {
        self.covered_position = position;
    }

    /// Removes this file once the next snapshot is durable.
    pub(super) fn replace(&mut self, file: FileId) {
        self.obsolete_files.push(file);
    }

    /// The snapshot is written, and this `Sync` is issued.
    pub(super) fn on_sync_issued(&mut self, op: OpId) {
        self.state = State::Syncing(op);
    }

    /// Whether `op` was the `Sync` of the snapshot, which is complete now.
    pub(super) fn on_synced(&mut self, op: OpId) -> bool {
        let is_sync = self.state == State::Syncing(op);
        if is_sync {
            self.state = State::Synced;
        }
        is_sync
    }

    /// Whether the snapshot is synced and everything that it covers is durable in the log.
    pub(super) fn may_rename(&self, durable_position: u64) -> bool {
        self.state == State::Synced && durable_position >= self.covered_position
    }

    /// The snapshot is renamed, and this `SyncDir` is issued.
    pub(super) fn on_rename_issued(&mut self, op: OpId) {
        self.state = State::Naming(op);
    }

    /// The snapshot is durable under its name: returns the files that it replaces.
    ///
    /// # Panics
    /// If `op` is not the `SyncDir` of the snapshot.
    pub(super) fn on_named(&mut self, op: OpId) -> std::vec::Drain<'_, FileId> {
        assert!(self.state == State::Naming(op), "completion of an unknown barrier");
        self.state = State::Idle;
        self.obsolete_files.drain(..)
    }
}

/// Two incarnations can write segments of one number: one that began with that number, and an
/// earlier one that reached it by compaction. They differ in the number with which they began and
/// in the state from which they began, so a checksum over both identifies an incarnation, even with
/// equal entropy.
pub(super) fn incarnation_fingerprint(
    resume_point: &ResumePoint,
    entropy: u64,
    state: &[u8],
) -> u32 {
    // Without the entropy, a client that knows the state could predict the checksums.
    let mut sum = crc32c::crc32c(&entropy.to_le_bytes());
    sum = crc32c::crc32c_append(sum, &resume_point.next_number().to_le_bytes());
    sum = crc32c::crc32c_append(sum, &resume_point.position().to_le_bytes());
    sum = crc32c::crc32c_append(sum, &resume_point.last_checksum().to_le_bytes());
    crc32c::crc32c_append(sum, state)
}
