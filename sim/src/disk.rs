//! The disk of one node and its fault model. The rules D1 to D17 are described in `docs/faults.md`
//! and documented at the code that implements them; `cargo sim profiles` lists them.
//!
//! The node sees the *volatile* state: what is in the page cache, and what is still in the driver's
//! queue, as operations of a real node wait for the engine's disk thread (here a counter,
//! `Pending::performed_below`). A power cut leaves the *durable* state (platter) plus some of the
//! unsynced micro-operations (D1): each 512-byte sector written, each extension of a size, each
//! truncation, each creation, rename and removal. Completed barriers order them, and writes to one
//! sector keep their order; nothing else is ordered. Operations are expanded to sectors only when a
//! crash happens.
//!
//! A disk is data: it draws no random numbers and has no time. Its driver decides when a barrier
//! completes and how (D7, D11; D9, a slow disk, is only a matter of time), which write fails (D8),
//! and what survives a crash.

mod at_rest;
mod crash;
mod damage;
mod directory;
mod files;
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

pub use self::at_rest::{CutPlace, DiskChange, FileChoice, FileLoss};
pub use self::damage::{Damage, DamageKind, DamageRecord, FileRole};
pub use self::report::{AppendOutcome, CutReport, FileOutcome, KillReport, NameLoss};
pub use self::survival::{AppendName, HEADER_BYTES, Holes, SECTOR_BYTES, Survival, Tear};

use self::files::Files;
use self::queue::{BarrierScope, Entry, Pending};

/// The files of one node. Reading it ([`ReadDisk`]) shows the volatile state.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: Files,
    pending: Pending,
    /// The error of the first write of this incarnation that failed (D8). No later operation is
    /// performed.
    first_failure: Option<DiskError>,
}

/// For the driver: operations and barriers.
impl Disk {
    /// Empties the disk and keeps the memory.
    pub fn reset(&mut self) {
        let Disk { files, pending, first_failure } = self;
        files.clear();
        pending.clear();
        *first_failure = None;
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
                // The lengths of traces and reports come from the chunk, the contents of the disk
                // from `bytes`.
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
                // An append of nothing would still create the file, which a write that failed at
                // once did not.
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
                // The barrier is issued nevertheless: the contract promises a completion for each.
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
        let (before, scope) = self.pending.end_barrier(op);
        match (result, self.first_failure, scope) {
            (Ok(()), Some(error), _) => return Err(error),
            // It was issued after a failed write, or for a file that does not exist.
            (_, _, BarrierScope::Nothing) => {}
            (Ok(()), None, BarrierScope::File(ino)) => self.sync_file_now(ino, before),
            (Ok(()), None, BarrierScope::Directory) => self.sync_names_now(before),
            (Err(_), _, BarrierScope::File(ino)) => self.abandon_file(ino, before),
            (Err(_), _, BarrierScope::Directory) => self.pending.abandon_names(before),
        }
        result
    }

    /// D11: a lying drive. The barrier completes without effect, and the node receives the returned
    /// result: success, except after a failed write (D8).
    ///
    /// # Panics
    /// If no such barrier is pending.
    pub fn complete_lying(&mut self, op: OpId) -> Result<(), DiskError> {
        self.pending.end_barrier(op);
        self.first_failure.map_or(Ok(()), Err)
    }
}

/// For the chooser and for checkers.
impl Disk {
    /// P1: the number of operations that a kill may cut: those issued since the issue of the last
    /// completed barrier.
    pub fn in_driver_queue(&self) -> usize {
        self.pending.in_driver_queue()
    }

    /// P2: the number of operations that are not durable and may survive a power cut: all but those
    /// that a failed sync has lost (`abandoned`).
    pub fn unsynced(&self) -> usize {
        self.pending.unsynced()
    }

    /// The unsynced appends in the order of issue, as a [`Survival`] identifies them.
    pub fn unsynced_appends(&self) -> Vec<AppendName> {
        let abouts: Vec<About> = self.pending.entries().iter().filter_map(Entry::about).collect();
        // Quadratic, but only a shrink asks, and a queue holds a few appends.
        let names = abouts.iter().enumerate().map(|(at, about)| {
            let nth = abouts[..at].iter().filter(|earlier| *earlier == about).count();
            AppendName::new(*about, nth as u32)
        });
        names.collect()
    }

    /// D12: whether a barrier is pending.
    pub fn barrier_pending(&self) -> bool {
        self.pending.has_barriers()
    }

    /// Whether operations are unsynced or a barrier is pending: crashes then find the most bugs.
    pub fn in_flight(&self) -> bool {
        self.pending.in_flight()
    }

    /// Whether the file with this name, its name, and its bytes below `end` as the node sees them
    /// would survive the worst power cut.
    pub fn is_durable(&self, file: FileId, end: u64) -> bool {
        self.durable_to(file).is_some_and(|to| end <= to)
    }

    /// How many of the first bytes of the file with this name would survive the worst power cut as
    /// the node sees them; `None` if its name would not.
    pub fn durable_to(&self, file: FileId) -> Option<u64> {
        let ino = self.files.find(file).filter(|_| self.name_is_durable(file))?;
        let inode = self.files.at(ino);
        let mut durable_to = inode.durable_len();
        // A pending truncation may survive a power cut, so what it cuts off is not sure to.
        if inode.has_truncations()
            && let Some(len) = self.pending.shortest_truncation(ino)
        {
            durable_to = durable_to.min(len);
        }
        Some(durable_to as u64)
    }

    /// Whether the file with this name would have it, and no other file would, after the worst
    /// power cut.
    pub fn name_is_durable(&self, file: FileId) -> bool {
        let Some(ino) = self.files.find(file) else { return false };
        self.files.find_durable(file) == Some(ino) && !self.pending.may_change_name(ino, file)
    }

    /// The length of a file as the node sees it, in bytes.
    pub fn len(&self, file: FileId) -> Option<u64> {
        self.files.find(file).map(|ino| self.files.at(ino).cache().len() as u64)
    }

    /// The state after a power cut that keeps nothing unsynced ([`Survival::None`]).
    pub fn durable(&self) -> impl ReadDisk + '_ {
        Durable(self)
    }
}

impl ReadDisk for Disk {
    fn files(&self) -> Vec<FileId> {
        self.files.names().collect()
    }

    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
        Ok(self.files.find(file).map(|ino| self.files.at(ino).cache()))
    }
}

/// A read-only view of the durable state.
struct Durable<'a>(&'a Disk);

impl ReadDisk for Durable<'_> {
    fn files(&self) -> Vec<FileId> {
        self.0.files.durable_names().collect()
    }

    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
        Ok(self.0.files.find_durable(file).map(|ino| self.0.files.at(ino).platter()))
    }
}
