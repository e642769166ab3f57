//! The snapshot lane: how an incarnation begins and how a log is shortened. Both write the whole
//! state to the scratch file, sync it, rename it, sync the directory, and only then remove the
//! files before.

use std::mem;

use serde::Serialize;

use super::{Phase, PreviousSegment, Progress, Segment, Wal};
use crate::contract::{DiskOp, FileId, Node, OpId, Outbox};
use crate::wal::file_header::FileHeader;
use crate::wal::recovery::ResumePoint;
use crate::wal::snapshot::EncodedSnapshot;

/// The snapshot has the number of the current segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SnapshotLane {
    Idle,
    /// The scratch file is being synced.
    Syncing(OpId),
    /// The data of the scratch file is durable; its rename waits until the log is durable.
    Synced,
    /// The file is renamed; the directory is being synced.
    Naming(OpId),
}

/// Compaction.
impl Wal {
    /// Whether the segment is longer than [`WalOptions::compact_at`](super::WalOptions::compact_at)
    /// and no compaction is in progress.
    pub fn needs_compaction(&self) -> bool {
        self.segment.bytes > self.options.compact_at && self.can_compact()
    }

    /// Switches to a new segment and begins a snapshot of `state`, the result of all records
    /// appended so far, durable or not. Records up to the switch are forced: the snapshot is
    /// renamed once they are durable, and the files before it are removed once its name is.
    ///
    /// # Panics
    /// If the boot snapshot or another compaction is in progress.
    pub fn compact<N: Node, S: Serialize>(&mut self, state: &S, out: &mut Outbox<N>) {
        if let Phase::Failed(_) = self.phase {
            return;
        }
        assert!(self.can_compact(), "a second snapshot in the lane");
        self.covered_position = self.group.appended;
        self.obsolete_files.push(FileId::Snapshot(self.segment.number));
        if self.segment.bytes > 0 {
            self.obsolete_files.push(self.segment.file());
        }
        if self.group.durable() < self.group.appended {
            self.previous =
                Some(PreviousSegment { segment: self.segment, end: self.group.appended });
        }
        let number = self.segment.number.checked_add(1).expect("segment number overflows u32");
        self.segment = Segment::new(self.fingerprint, number);
        self.write_snapshot(EncodedSnapshot::new(state), out);
        self.force(out);
    }

    fn can_compact(&self) -> bool {
        self.phase == Phase::Working && self.lane == SnapshotLane::Idle
    }
}

/// The snapshot lane.
impl Wal {
    pub(super) fn write_snapshot<N: Node>(
        &mut self,
        encoded_snapshot: EncodedSnapshot,
        out: &mut Outbox<N>,
    ) {
        let header = FileHeader {
            number: self.segment.number,
            fingerprint: self.fingerprint,
            previous_checksum: self.last_checksum,
            position: self.covered_position,
            watermark_or_length: encoded_snapshot.body().len() as u64,
        };
        self.stats.snapshots += 1;
        self.stats.snapshot_bytes +=
            encoded_snapshot.write(header, self.options.chunk_bytes_max, out);
        let op = self.next_op();
        out.disk(DiskOp::Sync { op, file: FileId::Scratch });
        self.lane = SnapshotLane::Syncing(op);
    }

    pub(super) fn on_snapshot_done<N: Node>(&mut self, op: OpId, out: &mut Outbox<N>) -> Progress {
        if self.lane == SnapshotLane::Syncing(op) {
            self.lane = SnapshotLane::Synced;
            self.rename_snapshot(out);
            return Progress::Nothing;
        }
        assert!(self.lane == SnapshotLane::Naming(op), "completion of an unknown barrier");
        self.lane = SnapshotLane::Idle;
        for file in self.obsolete_files.drain(..) {
            out.disk(DiskOp::Remove { file });
        }
        if self.phase == Phase::Working {
            return Progress::Compacted;
        }
        self.phase = Phase::Working;
        for deferred in mem::take(&mut self.deferred) {
            out.append(self.segment.file(), deferred.about, &deferred.bytes);
        }
        self.issue_barrier(out);
        Progress::Ready
    }

    /// Gives the snapshot its name, if it is synced and everything that it covers is durable in the
    /// log. So the records before a snapshot are durable, as recovery assumes; and a segment is
    /// never removed while a barrier on it is in flight.
    pub(super) fn rename_snapshot<N: Node>(&mut self, out: &mut Outbox<N>) {
        if self.lane != SnapshotLane::Synced || self.group.durable() < self.covered_position {
            return;
        }
        out.disk(DiskOp::Rename {
            from: FileId::Scratch,
            to: FileId::Snapshot(self.segment.number),
        });
        let op = self.sync_dir(out);
        self.lane = SnapshotLane::Naming(op);
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
    let mut sum = crc32c::crc32c(&entropy.to_le_bytes());
    sum = crc32c::crc32c_append(sum, &resume_point.next_number().to_le_bytes());
    sum = crc32c::crc32c_append(sum, &resume_point.position.to_le_bytes());
    sum = crc32c::crc32c_append(sum, &resume_point.last_checksum.to_le_bytes());
    crc32c::crc32c_append(sum, state)
}
