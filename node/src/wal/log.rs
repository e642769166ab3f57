//! The log of a running node: appended, forced and durable records. A *lane* is a sequence of
//! barriers of which one at a time is in flight: the log has one (`group_commit`), and the snapshot
//! another (`compaction`).

mod compaction;

use serde::Serialize;

use compaction::{SnapshotLane, incarnation_fingerprint};

use super::durable::{Durable, Ticket};
use super::file_header::{FILE_HEADER_BYTES, FileHeader, Kind};
use super::frame::{ChecksumSeed, Frame};
use super::group_commit::{Barrier, Completion, GroupCommit};
use super::recovery::ResumePoint;
use super::snapshot::EncodedSnapshot;
use crate::codec;
use crate::contract::{About, DiskError, DiskOp, FileId, Label, Node, OpId, Outbox};

/// Options of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// A segment longer than this many bytes needs compaction.
    pub compact_at: u64,
    /// A snapshot is written in appends of at most this many bytes; at least 1.
    pub chunk_bytes_max: usize,
    /// [`Boot::entropy`](crate::Boot::entropy). Goes into the checksums of this incarnation, so
    /// that a client cannot store a value that would be read as a frame. Nothing else depends on
    /// it.
    pub entropy: u64,
}

impl Default for WalOptions {
    fn default() -> Self {
        // The node sets `compact_at` from its configuration. 64 KiB bounds one append of a
        // snapshot.
        WalOptions { compact_at: 1 << 20, chunk_bytes_max: 64 << 10, entropy: 0 }
    }
}

/// The write-ahead log of one incarnation. See the [module](super) for its guarantees and the
/// duties of the node.
#[derive(Clone, Debug)]
pub struct Wal {
    options: WalOptions,
    phase: Phase,
    /// Identifies this incarnation in the files.
    fingerprint: u32,
    /// The checksum of the last frame.
    last_checksum: u32,
    group: GroupCommit,
    /// The segment that receives appends.
    segment: Segment,
    // The segment before the current one, from a compaction until every record in it is durable.
    previous: Option<PreviousSegment>,
    lane: SnapshotLane,
    /// Appends issued before the boot snapshot is durable.
    deferred: Vec<DeferredAppend>,
    next_op: u64,
    stats: Stats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The boot snapshot is being written. No record that was read back is durable yet.
    Booting,
    Working,
    /// A barrier has failed. Final.
    Failed(DiskError),
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    number: u32,
    /// The start value of the checksums of its frames.
    seed: ChecksumSeed,
    /// Bytes appended so far. The header is written with the first record, so an idle segment has
    /// no file.
    bytes: u64,
    name_durable: bool,
}

impl Segment {
    fn new(fingerprint: u32, number: u32) -> Segment {
        Segment {
            number,
            seed: ChecksumSeed::new(fingerprint, number),
            bytes: 0,
            name_durable: false,
        }
    }

    fn file(&self) -> FileId {
        FileId::Wal(self.number)
    }
}

#[derive(Clone, Copy, Debug)]
struct PreviousSegment {
    segment: Segment,
    /// The position of its last record.
    end: u64,
}

#[derive(Clone, Debug)]
struct DeferredAppend {
    about: About,
    bytes: Vec<u8>,
}

/// What a completed disk operation means for the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The boot snapshot is durable: the node may send and reply.
    Ready,
    /// More records are durable.
    Advanced,
    /// Nothing that a ticket waits for.
    Nothing,
    /// A compaction is complete.
    Compacted,
}

/// What the log has done in this incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records appended.
    pub records: u64,
    /// Calls of [`Wal::force`], and those that a compaction makes itself.
    pub forced: u64,
    /// Bytes appended to segments, headers and frames included.
    pub log_bytes: u64,
    /// Barriers issued for the log. One barrier may be a `Sync` and a `SyncDir`.
    pub log_barriers: u64,
    /// Snapshots begun, the boot's included.
    pub snapshots: u64,
    /// Bytes appended to them.
    pub snapshot_bytes: u64,
}

/// The states of the log.
impl Wal {
    /// Begins an incarnation: writes `state`, the recovered state plus whatever the new incarnation
    /// adds, to a snapshot of its own. The log is not [`Wal::ready`] until that is durable.
    ///
    /// # Panics
    /// If the state's encoding is longer than 4 GiB, the most that one step can write.
    pub fn begin<N: Node, S: Serialize>(
        resume_point: ResumePoint,
        options: WalOptions,
        state: &S,
        out: &mut Outbox<N>,
    ) -> Wal {
        // Above every file that exists: a number stands for one file for ever.
        let number = resume_point.next_number();
        let encoded_snapshot = EncodedSnapshot::new(state);
        let fingerprint =
            incarnation_fingerprint(&resume_point, options.entropy, encoded_snapshot.body());
        let position = resume_point.position();
        let mut obsolete_files = resume_point.into_files();
        // The scratch file sorts last. It is removed now and not with the others: the new snapshot
        // is appended to a file of that name.
        if obsolete_files.last() == Some(&FileId::Scratch) {
            obsolete_files.pop();
            out.disk(DiskOp::Remove { file: FileId::Scratch });
        }
        let mut wal = Wal {
            options,
            phase: Phase::Booting,
            fingerprint,
            last_checksum: fingerprint,
            group: GroupCommit::starting_at(position),
            segment: Segment::new(fingerprint, number),
            previous: None,
            lane: SnapshotLane::new(position, obsolete_files),
            deferred: Vec::new(),
            next_op: 0,
            stats: Stats::default(),
        };
        // Also in the first incarnation, whose state is small: otherwise nothing on the disk would
        // show that it existed.
        wal.write_snapshot(encoded_snapshot, out);
        wal
    }

    /// Whether the boot snapshot is durable and no barrier has failed.
    pub fn ready(&self) -> bool {
        self.phase == Phase::Working
    }

    /// Handles the completion or failure of a barrier, and issues the next operations.
    ///
    /// # Errors
    /// The first failure, and the same for every later call: the node must emit nothing but `Halt`,
    /// and the log emits nothing.
    ///
    /// # Panics
    /// If `op` is not a barrier of this log in flight.
    pub fn on_disk_done<N: Node>(
        &mut self,
        op: OpId,
        result: Result<(), DiskError>,
        out: &mut Outbox<N>,
    ) -> Result<Progress, DiskError> {
        if let Phase::Failed(error) = self.phase {
            return Err(error);
        }
        if let Err(error) = result {
            self.phase = Phase::Failed(error);
            return Err(error);
        }
        Ok(match self.group.on_barrier_done(op) {
            Completion::Complete(barrier) => self.on_log_durable(barrier, out),
            // Of `Sync` and `SyncDir` one is still in flight.
            Completion::Partial => Progress::Nothing,
            // A barrier of the snapshot lane.
            Completion::Unrelated => self.on_snapshot_done(op, out),
        })
    }
}

/// Appending and forcing.
impl Wal {
    /// Appends a record. It is not forced; the ticket can be redeemed once some barrier has covered
    /// it. The caller chooses `value`, which the ticket and its proof carry: usually the id of what
    /// the record is about.
    pub fn append<N: Node, R: Serialize + Label, T>(
        &mut self,
        record: &R,
        value: T,
        out: &mut Outbox<N>,
    ) -> Ticket<T> {
        if let Phase::Failed(_) = self.phase {
            return Ticket::new(u64::MAX, value); // Nothing will be durable: never redeemable.
        }
        // With the first record and not before: an incarnation without records leaves no segment
        // behind.
        if self.segment.bytes == 0 {
            self.append_file_header(out);
        }
        let position = self.group.append();
        let frame = Frame {
            seed: self.segment.seed,
            offset: self.segment.bytes,
            previous_checksum: self.last_checksum,
            position,
            watermark: self.group.durable(),
        };
        self.stats.records += 1;
        self.last_checksum = self.append_or_defer(record.about(), out, |buffer| {
            frame.write(buffer, |buffer| codec::encode_into(record, buffer))
        });
        Ticket::new(position, value)
    }

    /// Requests that everything appended so far becomes durable. Records that the barrier in flight
    /// does not cover share the next one.
    pub fn force<N: Node>(&mut self, out: &mut Outbox<N>) {
        self.stats.forced += 1;
        self.group.force();
        // If a barrier is in flight this does nothing, and the records share the next one.
        self.issue_barrier(out);
    }

    /// A ticket for something that was read back at boot: it can be redeemed once the boot snapshot
    /// is durable.
    pub fn recovered_ticket<T>(&self, value: T) -> Ticket<T> {
        // Every position is at or above 0, so only `ready` matters: the boot snapshot contains what
        // was read back.
        Ticket::new(0, value)
    }

    /// Whether `ticket` can be redeemed.
    pub fn is_durable<T>(&self, ticket: &Ticket<T>) -> bool {
        self.ready() && ticket.position() <= self.group.durable()
    }

    /// Exchanges a ticket for the proof that its record is durable.
    ///
    /// # Errors
    /// Returns the ticket if the record is not durable yet.
    pub fn redeem<T>(&self, ticket: Ticket<T>) -> Result<Durable<T>, Ticket<T>> {
        if self.is_durable(&ticket) { Ok(ticket.into_durable()) } else { Err(ticket) }
    }
}

/// Statistics.
impl Wal {
    /// What the log has done in this incarnation.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The position of the last record appended: its number, counted from 1 over all incarnations.
    pub fn appended(&self) -> u64 {
        self.group.appended()
    }

    /// The position of the last record that is durable.
    pub fn durable(&self) -> u64 {
        self.group.durable()
    }

    /// The current segment: appended bytes, header included.
    pub fn segment_bytes(&self) -> u64 {
        self.segment.bytes
    }

    /// The number of the current segment.
    pub fn segment_number(&self) -> u32 {
        self.segment.number
    }
}

/// The log lane.
impl Wal {
    fn append_file_header<N: Node>(&mut self, out: &mut Outbox<N>) {
        let header = FileHeader {
            number: self.segment.number,
            fingerprint: self.fingerprint,
            previous_checksum: self.last_checksum,
            position: self.group.appended(),
            watermark_or_length: self.group.durable(),
        };
        let no_body = [];
        let bytes = header.encode(Kind::Segment, &no_body);
        // The offsets of all frames depend on it.
        assert!(bytes.len() == FILE_HEADER_BYTES, "encoded header has the wrong length");
        self.append_or_defer(About { kind: "Header", subject: None }, out, |buffer| {
            buffer.extend_from_slice(&bytes)
        });
    }

    /// Appends what `write` adds to its buffer, or defers it while booting.
    fn append_or_defer<N: Node, T>(
        &mut self,
        about: About,
        out: &mut Outbox<N>,
        write: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> T {
        let mut written = None;
        let measured = |buffer: &mut Vec<u8>| {
            let start = buffer.len();
            let result = write(buffer);
            written = Some((result, (buffer.len() - start) as u64));
        };
        // Until the boot snapshot is durable its segment must not exist: recovery would take it for
        // damage, as its snapshot is missing.
        if self.phase == Phase::Booting {
            let mut bytes = Vec::new();
            measured(&mut bytes);
            self.deferred.push(DeferredAppend { about, bytes });
        } else {
            out.append_with(self.segment.file(), about, measured);
        }
        let (result, bytes) = written.expect("the outbox has called the writer");
        self.segment.bytes += bytes;
        self.stats.log_bytes += bytes;
        result
    }

    /// Issues the next barrier if one is needed and none is in flight. A previous segment that is
    /// not durable comes first: a record is durable only if all before it are.
    fn issue_barrier<N: Node>(&mut self, out: &mut Outbox<N>) {
        if self.phase != Phase::Working || !self.group.needs_barrier() {
            return;
        }
        // One barrier for one file: records of the previous segment are synced there, those of the
        // current one by the next barrier.
        let (segment, up_to) = match self.previous {
            Some(previous) => (previous.segment, previous.end),
            None => (self.segment, self.group.appended()),
        };
        let data_sync = self.next_op();
        out.disk(DiskOp::Sync { op: data_sync, file: segment.file() });
        // Only once for a segment, together with its first data: without the name a power cut would
        // remove the file.
        let dir_sync = if segment.name_durable { None } else { Some(self.sync_dir(out)) };
        self.group.issue(Barrier::new(segment.number, up_to, data_sync, dir_sync));
        self.stats.log_barriers += 1;
    }

    fn on_log_durable<N: Node>(&mut self, barrier: Barrier, out: &mut Outbox<N>) -> Progress {
        if let Some(previous) = &mut self.previous {
            assert!(
                previous.segment.number == barrier.segment(),
                "barrier completed before the previous segment was durable"
            );
            previous.segment.name_durable = true;
            if previous.end <= barrier.up_to() {
                self.previous = None;
            }
        } else {
            assert!(
                self.segment.number == barrier.segment(),
                "barrier completed for a segment that is not current"
            );
            self.segment.name_durable = true;
        }
        // The snapshot may have waited for exactly these records. Before the next barrier, so that
        // the two overlap.
        self.rename_snapshot(out);
        self.issue_barrier(out);
        Progress::Advanced
    }

    fn sync_dir<N: Node>(&mut self, out: &mut Outbox<N>) -> OpId {
        let op = self.next_op();
        out.disk(DiskOp::SyncDir { op });
        op
    }

    fn next_op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }
}

/// Compaction.
impl Wal {
    /// Whether the segment is longer than [`WalOptions::compact_at`] and no compaction is in
    /// progress.
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
        let end = self.group.appended();
        self.lane.cover(end);
        // The current snapshot and segment have the same number; a segment without records has no
        // file.
        self.lane.replace(FileId::Snapshot(self.segment.number));
        if self.segment.bytes > 0 {
            self.lane.replace(self.segment.file());
        }
        if self.group.durable() < end {
            // The old segment still needs a barrier, and the lane has one at a time: its remaining
            // records come first.
            self.previous = Some(PreviousSegment { segment: self.segment, end });
        }
        let number = self.segment.number.checked_add(1).expect("segment number overflows u32");
        self.segment = Segment::new(self.fingerprint, number);
        self.write_snapshot(EncodedSnapshot::new(state), out);
        // The rename waits for the records up to the switch, so they must not stay unforced.
        self.force(out);
    }

    fn can_compact(&self) -> bool {
        self.phase == Phase::Working && self.lane.is_idle()
    }

    fn write_snapshot<N: Node>(&mut self, encoded_snapshot: EncodedSnapshot, out: &mut Outbox<N>) {
        let header = FileHeader {
            number: self.segment.number,
            fingerprint: self.fingerprint,
            previous_checksum: self.last_checksum,
            position: self.lane.covered_position(),
            watermark_or_length: encoded_snapshot.body().len() as u64,
        };
        self.stats.snapshots += 1;
        self.stats.snapshot_bytes +=
            encoded_snapshot.write(header, self.options.chunk_bytes_max, out);
        let op = self.next_op();
        out.disk(DiskOp::Sync { op, file: FileId::Scratch });
        self.lane.on_sync_issued(op);
    }

    fn on_snapshot_done<N: Node>(&mut self, op: OpId, out: &mut Outbox<N>) -> Progress {
        if self.lane.on_synced(op) {
            self.rename_snapshot(out);
            return Progress::Nothing;
        }
        for file in self.lane.on_named(op) {
            out.disk(DiskOp::Remove { file });
        }
        // A boot snapshot ends the boot, any later one a compaction.
        if self.phase == Phase::Working {
            return Progress::Compacted;
        }
        self.phase = Phase::Working;
        for deferred in std::mem::take(&mut self.deferred) {
            out.append(self.segment.file(), deferred.about, &deferred.bytes);
        }
        self.issue_barrier(out);
        Progress::Ready
    }

    /// Gives the snapshot its name, if it is synced and everything that it covers is durable in the
    /// log. So the records before a snapshot are durable, as recovery assumes; and a segment is
    /// never removed while a barrier on it is in flight.
    fn rename_snapshot<N: Node>(&mut self, out: &mut Outbox<N>) {
        if !self.lane.may_rename(self.group.durable()) {
            return;
        }
        out.disk(DiskOp::Rename {
            from: FileId::Scratch,
            to: FileId::Snapshot(self.segment.number),
        });
        let op = self.sync_dir(out);
        self.lane.on_rename_issued(op);
    }
}
