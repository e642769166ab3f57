//! The snapshot lane, beside the log: how a life begins and how a log is shortened. Both write the whole state to
//! the scratch file, sync it, name it, sync the directory, and only then remove what came before.

use std::mem;

use serde::Serialize;

use super::{Phase, PreviousSegment, Progress, Segment, Wal};
use crate::contract::{DiskOp, FileId, Node, OpId, Outbox};
use crate::wal::head::Head;
use crate::wal::recovery::ResumePoint;
use crate::wal::snapshot::EncodedSnapshot;

/// The snapshot bears the number of the current segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SnapshotLane {
    Idle,
    /// The scratch file is being synced.
    Syncing(OpId),
    /// It is durable under its old name, and waits for the log.
    Synced,
    /// It has its name; the directory is being synced.
    Naming(OpId),
}

/// Compaction.
impl Wal {
    /// Whether the segment has grown beyond [`WalOptions::compact_at`](super::WalOptions::compact_at) and no compaction is under way.
    pub fn needs_compaction(&self) -> bool {
        self.segment.bytes > self.options.compact_at && self.can_compact()
    }

    /// Switches to a new segment and begins a snapshot of `state`, which is what all records appended so far,
    /// durable or not, have made of it. Records up to the switch are forced: the snapshot gets its name when they
    /// are durable, and the files before it go when its name is.
    ///
    /// # Panics
    /// If the boot barrier or another compaction is under way.
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
        let number = self.segment.number.checked_add(1).expect("four billion compactions");
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
        let head = Head {
            number: self.segment.number,
            fingerprint: self.fingerprint,
            chain: self.chain,
            position: self.covered_position,
            watermark_or_length: encoded_snapshot.body().len() as u64,
        };
        self.stats.snapshots += 1;
        self.stats.snapshot_bytes +=
            encoded_snapshot.write(head, self.options.chunk_bytes_max, out);
        let op = self.next_op();
        out.disk(DiskOp::Sync { op, file: FileId::Scratch });
        self.lane = SnapshotLane::Syncing(op);
    }

    pub(super) fn on_snapshot_done<N: Node>(&mut self, op: OpId, out: &mut Outbox<N>) -> Progress {
        if self.lane == SnapshotLane::Syncing(op) {
            self.lane = SnapshotLane::Synced;
            self.name_snapshot(out);
            return Progress::Nothing;
        }
        assert!(self.lane == SnapshotLane::Naming(op), "a completion without a barrier");
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

    /// Names the snapshot, if it is synced and everything that it covers is durable in the log. So the position in
    /// a snapshot's head is a true watermark, like every other; and a segment is never removed while a barrier
    /// on it is under way.
    pub(super) fn name_snapshot<N: Node>(&mut self, out: &mut Outbox<N>) {
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

/// Of the lives that append to segments of one number, at most one began with that number, and at most one,
/// earlier, had switched to it by compaction; so a checksum over the number a life began with and what it began
/// from tells them apart, even with the same entropy.
pub(super) fn incarnation_fingerprint(
    resume_point: &ResumePoint,
    entropy: u64,
    state: &[u8],
) -> u32 {
    let mut sum = crc32c::crc32c(&entropy.to_le_bytes());
    sum = crc32c::crc32c_append(sum, &resume_point.next_number().to_le_bytes());
    sum = crc32c::crc32c_append(sum, &resume_point.position.to_le_bytes());
    sum = crc32c::crc32c_append(sum, &resume_point.chain.to_le_bytes());
    crc32c::crc32c_append(sum, state)
}
