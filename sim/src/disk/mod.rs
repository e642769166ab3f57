//! The disk of one node and its fault model. The rules D1 to D12 are described in `docs/faults.md`
//! and documented at the code that implements them; `cargo sim profiles` lists them.
//!
//! The node sees the *volatile* state: what is in the page cache, and what is still in the driver's
//! queue, as operations of a real node wait for the engine's disk thread (here a counter,
//! `performed_below`). A power cut leaves the
//! *durable* state (platter) plus some of the
//! unsynced micro-operations (D1): each 512-byte sector written, each extension of a size, each
//! truncation, each creation, rename and removal. Completed barriers order them, and writes to one
//! sector keep their order; nothing else is ordered. Operations are expanded to sectors only when a
//! crash happens.
//!
//! A disk is data: it draws no random numbers and has no time. Its driver decides when a barrier
//! completes and how (D7, D11; D9, a slow disk, is only a matter of time), which write fails (D8),
//! and what survives a crash.

mod crash;
mod damage;
mod directory;
mod image;
mod inode;
mod perform;
mod queue;
mod removed_files;
mod report;
mod survival;
#[cfg(test)]
mod tests;

use stormglass_node::{About, DiskError, DiskOp, FileId, OpId, ReadDisk};

pub use self::damage::{Damage, DamageKind, DamageRecord, FileRole};
pub use self::report::{AppendOutcome, CutReport, FileOutcome, KillReport, NameLoss};
pub use self::survival::{AppendName, HEADER_BYTES, Holes, SECTOR_BYTES, Survival, Tear};

use self::damage::DamagedRange;
use self::directory::Directory;
use self::inode::Inode;
use self::queue::{Barrier, BarrierScope, Change, Entry};
use self::removed_files::RemovedFiles;

/// The files of one node. Reading it ([`ReadDisk`]) shows the volatile state.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    inodes: Vec<Inode>,
    /// The volatile directory: the names that the node sees.
    visible: Directory,
    /// The names that survive every power cut, apart from changes in the queue.
    durable: Directory,
    /// Operations on the volatile state that are not durable, in the order of issue.
    queue: Vec<Entry>,
    /// The number of name changes in the queue: 0 while a node only appends to existing files, so
    /// that the common case scans for none.
    name_changes: usize,
    barriers: Vec<Barrier>,
    /// Number of operations issued so far.  `performed_below <= issued`
    issued: u64,
    /// Operations with lower numbers have left the driver's queue for the page cache, so that a
    /// kill cannot lose them (P1): a barrier issued after them has completed, or the process that
    /// issued them has ended.
    performed_below: u64,
    /// The error of the first write of this incarnation that failed (D8). No later operation is
    /// performed.
    first_failure: Option<DiskError>,
    removed_files: RemovedFiles,
    damaged_ranges: Vec<DamagedRange>,
}

/// For the driver: operations and barriers.
impl Disk {
    /// Empties the disk and keeps the memory.
    pub fn reset(&mut self) {
        self.inodes.iter_mut().for_each(Inode::clear);
        self.visible.clear();
        self.durable.clear();
        self.queue.clear();
        self.name_changes = 0;
        self.barriers.clear();
        self.issued = 0;
        self.performed_below = 0;
        self.first_failure = None;
        self.removed_files.clear();
        self.damaged_ranges.clear();
    }

    /// Performs an operation on the volatile state, or records a pending barrier, which covers the
    /// operations issued before it. `bytes` are the bytes of an `Append`, and empty otherwise.
    ///
    /// Renaming, truncating or syncing a file that does not exist fails as it does on a real disk,
    /// with [`DiskError::Io`].
    ///
    /// # Panics
    /// If the length of an `Append` is not that of `bytes`.
    pub fn issue(&mut self, op: &DiskOp, bytes: &[u8]) {
        match *op {
            DiskOp::Append { file, about, bytes: chunk } => {
                assert_eq!(chunk.len(), bytes.len(), "`bytes` must be the bytes of the append");
                self.append(file, about, bytes);
            }
            DiskOp::Truncate { file, len } => self.truncate(file, len),
            DiskOp::Rename { from, to } => self.rename(from, to),
            DiskOp::Remove { file } => self.remove(file),
            DiskOp::Sync { op, file } => self.sync(op, file),
            DiskOp::SyncDir { op } => self.sync_dir(op),
        }
    }

    /// D8: this operation fails with `error`. That is final for the incarnation: no later operation
    /// is performed, and every barrier that has not completed fails. Of a failed append the first
    /// `keep` bytes remain.
    pub fn issue_failing(&mut self, op: &DiskOp, bytes: &[u8], keep: usize, error: DiskError) {
        match *op {
            DiskOp::Append { file, about, .. } => {
                if keep > 0 {
                    self.append(file, about, &bytes[..keep.min(bytes.len())]);
                }
                self.fail(error);
            }
            DiskOp::Truncate { .. } | DiskOp::Rename { .. } | DiskOp::Remove { .. } => {
                self.fail(error)
            }
            DiskOp::Sync { .. } | DiskOp::SyncDir { .. } => {
                self.fail(error);
                self.issue(op, bytes);
            }
        }
    }

    /// D8: the first failure of this incarnation, if there was one.
    pub fn first_failure(&self) -> Option<DiskError> {
        self.first_failure
    }

    /// A barrier completes; the node receives the returned result.
    ///
    /// With `Ok`, everything it covers is durable. With `Err` (D7), the operating system regards
    /// the pages it covers as written: reads still show the data, a later sync reports success
    /// without writing them, and every power cut loses them, to the byte (a real disk rewrites a
    /// page that is dirtied again, which only a node that retries would notice). After a failed
    /// write (D8) `Ok` is never reported: the sync is not performed, and no data is lost by it.
    ///
    /// # Panics
    /// If no such barrier is pending.
    pub fn complete(&mut self, op: OpId, result: Result<(), DiskError>) -> Result<(), DiskError> {
        let barrier = self.end_barrier(op);
        match (result, self.first_failure, barrier.scope) {
            (Ok(()), Some(error), _) => return Err(error),
            (_, _, BarrierScope::Nothing) => {}
            (Ok(()), None, BarrierScope::File(ino)) => self.sync_file_now(ino, barrier.before),
            (Ok(()), None, BarrierScope::Directory) => self.sync_names_now(barrier.before),
            (Err(_), _, BarrierScope::File(ino)) => self.abandon_file(ino, barrier.before),
            (Err(_), _, BarrierScope::Directory) => self.abandon_names(barrier.before),
        }
        result
    }

    /// D11: a lying drive. The barrier completes without effect, and the node receives the returned
    /// result: success, except after a failed write (D8).
    ///
    /// # Panics
    /// If no such barrier is pending.
    pub fn complete_lying(&mut self, op: OpId) -> Result<(), DiskError> {
        self.end_barrier(op);
        self.first_failure.map_or(Ok(()), Err)
    }
}

/// For the chooser and for checkers.
impl Disk {
    /// P1: the number of operations that a kill may cut: those issued since the issue of the last
    /// completed barrier.
    pub fn in_driver_queue(&self) -> usize {
        self.queue.len() - self.queue.partition_point(|entry| entry.at < self.performed_below)
    }

    /// P2: the number of operations that are not durable and may survive a power cut: all but those
    /// that a failed sync has lost (`abandoned`).
    pub fn unsynced(&self) -> usize {
        self.queue.iter().filter(|entry| !entry.abandoned).count()
    }

    /// The unsynced appends in the order of issue, as a [`Survival`] identifies them.
    pub fn unsynced_appends(&self) -> Vec<AppendName> {
        let abouts: Vec<About> = self.queue.iter().filter_map(Entry::about).collect();
        let names = abouts.iter().enumerate().map(|(at, about)| {
            let nth = abouts[..at].iter().filter(|earlier| *earlier == about).count();
            AppendName::new(*about, nth as u32)
        });
        names.collect()
    }

    /// D12: whether a barrier is pending.
    pub fn barrier_pending(&self) -> bool {
        !self.barriers.is_empty()
    }

    /// Whether operations are unsynced or a barrier is pending: crashes then find the most bugs.
    pub fn in_flight(&self) -> bool {
        !self.barriers.is_empty() || self.queue.iter().any(|entry| !entry.abandoned)
    }

    /// Whether the file with this name, its name, and its bytes below `end` as the node sees them
    /// would survive the worst power cut.
    pub fn is_durable(&self, file: FileId, end: u64) -> bool {
        self.durable_to(file).is_some_and(|to| end <= to)
    }

    /// How many of the first bytes of the file with this name would survive the worst power cut as
    /// the node sees them; `None` if its name would not.
    pub fn durable_to(&self, file: FileId) -> Option<u64> {
        let ino = self.visible.find(file).filter(|_| self.name_is_durable(file))?;
        let inode = self.at(ino);
        let mut durable_to = inode.durable_len();
        if inode.truncates > 0 {
            for entry in self.queue.iter().filter(|entry| entry.ino == ino) {
                if let Change::Truncate { len, .. } = entry.change {
                    durable_to = durable_to.min(len);
                }
            }
        }
        Some(durable_to as u64)
    }

    /// Whether the file with this name would have it, and no other file would, after the worst
    /// power cut.
    pub fn name_is_durable(&self, file: FileId) -> bool {
        let Some(ino) = self.visible.find(file) else { return false };
        if self.durable.find(file) != Some(ino) {
            return false;
        }
        self.name_changes == 0
            || !self.queue.iter().any(|entry| match entry.change {
                Change::Name(change) => {
                    !entry.abandoned && (entry.ino == ino || change.touches(file))
                }
                Change::Append(_) | Change::Truncate { .. } => false,
            })
    }

    /// The length of a file as the node sees it, in bytes.
    pub fn len(&self, file: FileId) -> Option<u64> {
        self.visible.find(file).map(|ino| self.at(ino).cache.len() as u64)
    }

    /// The state after a power cut that keeps nothing unsynced ([`Survival::None`]).
    pub fn durable(&self) -> impl ReadDisk + '_ {
        Durable(self)
    }
}

impl ReadDisk for Disk {
    fn files(&self) -> Vec<FileId> {
        self.visible.iter().map(|(file, _)| file).collect()
    }

    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
        Ok(self.visible.find(file).map(|ino| self.at(ino).cache.as_slice()))
    }
}

/// A read-only view of the durable state.
struct Durable<'a>(&'a Disk);

impl ReadDisk for Durable<'_> {
    fn files(&self) -> Vec<FileId> {
        self.0.durable.iter().map(|(file, _)| file).collect()
    }

    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
        Ok(self.0.durable.find(file).map(|ino| self.0.at(ino).platter.as_slice()))
    }
}
