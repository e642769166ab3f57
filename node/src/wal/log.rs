//! The log of a running node: appended, forced and durable records. A *lane* is a sequence of
//! barriers of which one at a time is in flight: the log has one, and the snapshot another, which
//! is in `compaction`.

mod compaction;

use serde::Serialize;

use compaction::{SnapshotLane, incarnation_fingerprint};

use super::durable::{BootSnapshot, Durable, Ticket};
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
    // The last record that the snapshot in progress covers. The snapshot is renamed once the log is
    // durable up to this record.
    covered_position: u64,
    /// Files that are removed once the next snapshot is durable.
    obsolete_files: Vec<FileId>,
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
    /// adds, to a snapshot of its own. The log is not [`Wal::ready`] until that is durable. Tickets
    /// for what `state` contains are issued by the [`BootSnapshot`].
    ///
    /// # Panics
    /// If the state's encoding is longer than 4 GiB, the most that one step can write.
    pub fn begin<'a, N: Node, S: Serialize>(
        resume_point: ResumePoint,
        options: WalOptions,
        state: &'a S,
        out: &mut Outbox<N>,
    ) -> (Wal, BootSnapshot<'a, S>) {
        let number = resume_point.next_number();
        let encoded_snapshot = EncodedSnapshot::new(state);
        let fingerprint =
            incarnation_fingerprint(&resume_point, options.entropy, encoded_snapshot.body());
        let mut obsolete_files = resume_point.files;
        if obsolete_files.last() == Some(&FileId::Scratch) {
            obsolete_files.pop();
            out.disk(DiskOp::Remove { file: FileId::Scratch });
        }
        let mut wal = Wal {
            options,
            phase: Phase::Booting,
            fingerprint,
            last_checksum: fingerprint,
            group: GroupCommit::starting_at(resume_point.position),
            segment: Segment::new(fingerprint, number),
            previous: None,
            lane: SnapshotLane::Idle,
            covered_position: resume_point.position,
            obsolete_files,
            deferred: Vec::new(),
            next_op: 0,
            stats: Stats::default(),
        };
        wal.write_snapshot(encoded_snapshot, out);
        (wal, BootSnapshot::new(state, resume_point.position))
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
        if self.segment.bytes == 0 {
            self.append_file_header(out);
        }
        self.group.appended += 1;
        let frame = Frame {
            seed: self.segment.seed,
            offset: self.segment.bytes,
            previous_checksum: self.last_checksum,
            position: self.group.appended,
            watermark: self.group.durable(),
        };
        self.stats.records += 1;
        self.last_checksum = self.append_or_defer(record.about(), out, |buffer| {
            frame.write(buffer, |buffer| codec::encode_into(record, buffer))
        });
        Ticket::new(self.group.appended, value)
    }

    /// Requests that everything appended so far becomes durable. Records that the barrier in flight
    /// does not cover share the next one.
    pub fn force<N: Node>(&mut self, out: &mut Outbox<N>) {
        self.stats.forced += 1;
        self.group.force();
        self.issue_barrier(out);
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
        self.group.appended
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
            position: self.group.appended,
            watermark_or_length: self.group.durable(),
        };
        let no_body = [];
        let bytes = header.encode(Kind::Segment, &no_body);
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
        let (segment, up_to) = match self.previous {
            Some(previous) => (previous.segment, previous.end),
            None => (self.segment, self.group.appended),
        };
        let data_sync = self.next_op();
        out.disk(DiskOp::Sync { op: data_sync, file: segment.file() });
        let dir_sync = if segment.name_durable { None } else { Some(self.sync_dir(out)) };
        self.group.issue(Barrier {
            segment: segment.number,
            up_to,
            data_sync: Some(data_sync),
            dir_sync,
        });
        self.stats.log_barriers += 1;
    }

    fn on_log_durable<N: Node>(&mut self, barrier: Barrier, out: &mut Outbox<N>) -> Progress {
        if let Some(previous) = &mut self.previous {
            assert!(
                previous.segment.number == barrier.segment,
                "barrier completed before the previous segment was durable"
            );
            previous.segment.name_durable = true;
            if previous.end <= barrier.up_to {
                self.previous = None;
            }
        } else {
            assert!(
                self.segment.number == barrier.segment,
                "barrier completed for a segment that is not current"
            );
            self.segment.name_durable = true;
        }
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
