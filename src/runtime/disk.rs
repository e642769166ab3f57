//! The disk of a node for real: one thread that performs operations in order and tells when barriers have completed.
//!
//! Writes never complete, barriers do, each once. The first failure latches: no later operation of this life is
//! performed, every barrier not yet answered is answered with that failure, and no sync is ever tried again.
//! Appends that come one after another to one file become one write: that is all the cleverness there is.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::files::file_name_of;
use crate::contract::{DiskError, DiskOp, FileId, OpId};

/// Operations of one or more steps, in order, with the bytes of their appends.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) jobs: Vec<Job>,
    pub(super) bytes: Vec<u8>,
}

/// One operation on the files of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Append { file: FileId, bytes: Range<usize> },
    Truncate { file: FileId, len: u64 },
    Rename { from: FileId, to: FileId },
    Remove { file: FileId },
    Sync { op: OpId, file: FileId },
    SyncDir { op: OpId },
}

/// A barrier has completed.
#[derive(Clone, Debug)]
pub struct BarrierCompletion {
    /// Which.
    pub op: OpId,
    /// Whether everything it covers is durable.
    pub result: Result<(), DiskError>,
    /// What the operating system said, once: with the first barrier that tells of a failure.
    pub detail: Option<String>,
}

impl Batch {
    /// Adds an append; one that goes on where the last ended becomes part of it.
    pub(super) fn append(&mut self, file: FileId, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        match self.jobs.last_mut() {
            Some(Job::Append { file: last, bytes }) if *last == file && bytes.end == start => {
                bytes.end = self.bytes.len();
            }
            Some(_) | None => self.jobs.push(Job::Append { file, bytes: start..self.bytes.len() }),
        }
    }
}

/// How many batches may wait for the thread. A node whose disk is slow is not given more inputs than that.
const BATCHES_MAX: usize = 64;

/// Starts the thread of a data directory. It ends when the sender is dropped, and whatever it was given before has
/// been performed then.
#[expect(clippy::disallowed_methods, reason = "a driver for real has a real disk, and that blocks")]
pub(super) fn start(
    path: PathBuf,
) -> io::Result<(mpsc::Sender<Batch>, mpsc::UnboundedReceiver<BarrierCompletion>, DiskThread)> {
    let (jobs, mut inbox) = mpsc::channel::<Batch>(BATCHES_MAX);
    // Unbounded, and yet bounded: there is at most one barrier under way for each lane.
    let (outbox, done) = mpsc::unbounded_channel();
    let mut files = DataFiles::open(&path)?;
    let thread = std::thread::spawn(move || {
        while let Some(batch) = inbox.blocking_recv() {
            for job in &batch.jobs {
                if let Some(done) = files.perform(job, &batch.bytes) {
                    // Nobody listens any more once the node is stopped; what it was given is performed all the same.
                    let _ = outbox.send(done);
                }
            }
        }
    });
    Ok((jobs, done, thread))
}

/// To wait for the thread's end.
pub(super) type DiskThread = std::thread::JoinHandle<()>;

/// The files of a node, open for appending. What the disk thread owns.
#[derive(Debug)]
pub struct DataFiles {
    path: PathBuf,
    directory: File,
    open: BTreeMap<FileId, File>,
    latched: Option<DiskError>,
    detail: Option<String>,
}

impl DataFiles {
    /// The files in this directory, for one life.
    ///
    /// # Errors
    /// If there is no such directory.
    pub fn open(path: &Path) -> io::Result<DataFiles> {
        let directory = File::open(path)?;
        Ok(DataFiles {
            path: path.to_path_buf(),
            directory,
            open: BTreeMap::new(),
            latched: None,
            detail: None,
        })
    }

    /// Performs one operation of a node, `bytes` being those of an append; what to tell the node, if it was a barrier.
    pub fn issue(&mut self, op: &DiskOp, bytes: &[u8]) -> Option<BarrierCompletion> {
        self.perform(&Job::of(op, 0..bytes.len()), bytes)
    }

    pub(super) fn perform(&mut self, job: &Job, bytes: &[u8]) -> Option<BarrierCompletion> {
        if self.latched.is_none()
            && let Err(error) = self.attempt(job, bytes)
        {
            let full =
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            self.latched = Some(if full { DiskError::NoSpace } else { DiskError::Io });
            self.detail = Some(format!("{} in {}: {error}", job.describe(), self.path.display()));
        }
        let (Job::Sync { op, .. } | Job::SyncDir { op }) = *job else { return None };
        let result = self.latched.map_or(Ok(()), Err);
        Some(BarrierCompletion { op, result, detail: self.detail.take() })
    }

    fn attempt(&mut self, job: &Job, bytes: &[u8]) -> io::Result<()> {
        match *job {
            Job::Append { file, bytes: ref range } => {
                self.file(file)?.write_all(&bytes[range.clone()])
            }
            Job::Truncate { file, len } => self.open_existing(file)?.set_len(len),
            Job::Rename { from, to } => {
                fs::rename(self.path_of(from), self.path_of(to))?;
                self.open.remove(&to);
                if let Some(open) = self.open.remove(&from) {
                    self.open.insert(to, open);
                }
                Ok(())
            }
            Job::Remove { file } => {
                self.open.remove(&file);
                match fs::remove_file(self.path_of(file)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    other => other,
                }
            }
            Job::Sync { file, .. } => self.open_existing(file)?.sync_data(),
            Job::SyncDir { .. } => self.directory.sync_all(),
        }
    }

    fn path_of(&self, file: FileId) -> PathBuf {
        self.path.join(file_name_of(file))
    }

    /// Creates it if need be.
    fn file(&mut self, file: FileId) -> io::Result<&mut File> {
        self.open_file(file, true)
    }

    fn open_existing(&mut self, file: FileId) -> io::Result<&mut File> {
        self.open_file(file, false)
    }

    fn open_file(&mut self, file: FileId, create: bool) -> io::Result<&mut File> {
        match self.open.entry(file) {
            std::collections::btree_map::Entry::Occupied(open) => Ok(open.into_mut()),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let open_file = OpenOptions::new()
                    .append(true)
                    .create(create)
                    .open(self.path.join(file_name_of(file)))?;
                Ok(vacant.insert(open_file))
            }
        }
    }
}

impl Job {
    /// `bytes` says where those of an append are.
    pub(super) fn of(op: &DiskOp, bytes: Range<usize>) -> Job {
        match *op {
            DiskOp::Append { file, .. } => Job::Append { file, bytes },
            DiskOp::Truncate { file, len } => Job::Truncate { file, len },
            DiskOp::Rename { from, to } => Job::Rename { from, to },
            DiskOp::Remove { file } => Job::Remove { file },
            DiskOp::Sync { op, file } => Job::Sync { op, file },
            DiskOp::SyncDir { op } => Job::SyncDir { op },
        }
    }

    fn describe(&self) -> String {
        match self {
            Job::Append { file, .. } => format!("writing {file}"),
            Job::Truncate { file, .. } => format!("truncating {file}"),
            Job::Rename { from, to } => format!("renaming {from} to {to}"),
            Job::Remove { file } => format!("removing {file}"),
            Job::Sync { file, .. } => format!("syncing {file}"),
            Job::SyncDir { .. } => "syncing the directory".to_owned(),
        }
    }
}
