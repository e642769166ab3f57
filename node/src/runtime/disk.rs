//! The real disk of a node: one thread performs operations in order and reports barrier
//! completions. It owns the data directory, which stays locked until the thread ends.
//!
//! Only barriers complete, each once; writes do not. The first failure is final: no later operation
//! of this incarnation is performed, every pending barrier completes with that failure, and no sync
//! is retried. Consecutive appends to one file become one write; there is no other optimisation.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::files::{Directory, file_lengths, file_name_of};
use super::serve::FileStatus;
use crate::contract::{DiskError, DiskOp, FileId, OpId};

/// Operations of one or more steps, in order, with the bytes of their appends.
#[derive(Debug, Default)]
pub(super) struct Batch {
    jobs: Vec<Job>,
    bytes: Vec<u8>,
    /// Written after the operations.
    note: Option<Note>,
}

/// What `identity.json` says of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// The node serves, so that its log must not be gone at a later start.
    Serves,
    /// The node was stopped, and its files have the lengths that they have now.
    Stopped,
}

/// What the thread reports.
#[derive(Debug)]
pub(super) enum Completion {
    Barrier(BarrierCompletion),
    /// [`Note::Serves`] is durable, or could not be written.
    Serves(io::Result<()>),
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
    /// The id that the node gave the barrier.
    pub op: OpId,
    /// `Ok` if everything that the barrier covers is durable.
    pub result: Result<(), DiskError>,
    /// The operating system's error, only with the first barrier that fails.
    pub detail: Option<String>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.note.is_none()
    }

    /// Adds a note, to be written after all operations. It replaces one that was not flushed: a
    /// node that is stopped before it could serve needs only the second.
    pub(super) fn set_note(&mut self, note: Note) {
        self.note = Some(note);
    }

    /// Adds an operation that is not an append.
    pub(super) fn push(&mut self, job: Job) {
        self.jobs.push(job);
    }

    /// Adds an append. It extends the last job if that is an append to the same file.
    pub(super) fn append(&mut self, file: FileId, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        match self.jobs.last_mut() {
            // The range must end where the new bytes begin: an append to another file in between
            // has bytes in the same buffer.
            Some(Job::Append { file: last, bytes }) if *last == file && bytes.end == start => {
                bytes.end = self.bytes.len();
            }
            Some(_) | None => self.jobs.push(Job::Append { file, bytes: start..self.bytes.len() }),
        }
    }
}

/// Batches that may wait for the thread. When the queue is full, the driver takes no messages and
/// no requests.
// Each batch holds the writes of up to 64 inputs. A full queue is back pressure.
const BATCHES_MAX: usize = 64;

/// Starts the thread of a data directory. It ends when the sender is dropped and all queued batches
/// are performed.
#[expect(
    clippy::disallowed_methods,
    reason = "file operations block, so they run on a thread of their own"
)]
pub(super) fn start(mut directory: Directory) -> io::Result<(mpsc::Sender<Batch>, DiskThread)> {
    let (jobs, mut inbox) = mpsc::channel::<Batch>(BATCHES_MAX);
    // Unbounded, but the length is bounded: each lane has at most one pending barrier.
    let (completions, done) = mpsc::unbounded_channel();
    let mut files = DataFiles::open(directory.path())?;
    let lengths = file_lengths(directory.path())?;
    let progress = Arc::new(Mutex::new(Progress { current: None, lengths }));
    let thread = std::thread::spawn({
        let progress = Arc::clone(&progress);
        move || {
            while let Some(batch) = inbox.blocking_recv() {
                for job in &batch.jobs {
                    lock(&progress).begin(Operation::Job(job.clone()));
                    let done = files.perform(job, &batch.bytes);
                    // Before the completion, so that a status after it has these lengths.
                    lock(&progress).end(job, files.first_failure);
                    if let Some(done) = done {
                        // Fails once the node is stopped; queued operations are performed
                        // nevertheless.
                        let _ = completions.send(Completion::Barrier(done));
                    }
                }
                let Some(note) = batch.note else { continue };
                lock(&progress).begin(Operation::Note(note));
                match note {
                    Note::Serves => {
                        let _ = completions.send(Completion::Serves(directory.note_served()));
                    }
                    // What is in the files need not be durable.
                    Note::Stopped if files.first_failure.is_some() => {}
                    Note::Stopped => {
                        if let Err(error) = directory.note_stopped() {
                            // The next start then knows less, as after a crash.
                            tracing::warn!(%error, "cannot note where the log ends");
                        }
                    }
                }
                lock(&progress).current = None;
            }
        }
    });
    Ok((jobs, DiskThread { done, progress, thread }))
}

/// What the thread has done and is doing. Nobody else asks the file system while a node runs: on a
/// disk that hangs, even a list of the files may take forever.
#[derive(Debug)]
struct Progress {
    /// The operation that it performs, and since when.
    current: Option<(Operation, Instant)>,
    /// The length of each file, in bytes, after the operations that were performed.
    lengths: BTreeMap<FileId, u64>,
}

#[derive(Debug)]
enum Operation {
    Job(Job),
    Note(Note),
}

impl Operation {
    fn describe(&self) -> String {
        match self {
            Operation::Job(job) => job.describe(),
            Operation::Note(Note::Serves) => "writing identity.json".to_owned(),
            Operation::Note(Note::Stopped) => {
                "noting in identity.json where the log ends".to_owned()
            }
        }
    }
}

impl Progress {
    fn begin(&mut self, operation: Operation) {
        self.current = Some((operation, Instant::now()));
    }

    fn end(&mut self, job: &Job, failure: Option<DiskError>) {
        self.current = None;
        // The node halts. What a failed operation has left is read at the next start.
        if failure.is_some() {
            return;
        }
        match *job {
            Job::Append { file, ref bytes } => {
                *self.lengths.entry(file).or_default() += bytes.len() as u64;
            }
            Job::Truncate { file, len } => {
                self.lengths.insert(file, len);
            }
            Job::Rename { from, to } => {
                if let Some(len) = self.lengths.remove(&from) {
                    self.lengths.insert(to, len);
                }
            }
            Job::Remove { file } => {
                self.lengths.remove(&file);
            }
            Job::Sync { .. } | Job::SyncDir { .. } => {}
        }
    }
}

fn lock(progress: &Mutex<Progress>) -> std::sync::MutexGuard<'_, Progress> {
    progress.lock().expect("no panic happens while this lock is held")
}

/// The disk thread, and what it reports.
#[derive(Debug)]
pub(super) struct DiskThread {
    done: mpsc::UnboundedReceiver<Completion>,
    progress: Arc<Mutex<Progress>>,
    thread: std::thread::JoinHandle<()>,
}

impl DiskThread {
    /// The next completion; `None` if the thread has ended. Cancel-safe.
    pub(super) async fn completion(&mut self) -> Option<Completion> {
        self.done.recv().await
    }

    /// The files after the operations that were performed, in the order of their names.
    pub(super) fn files(&self) -> Vec<FileStatus> {
        let mut files = Vec::new();
        for (file, bytes) in &lock(&self.progress).lengths {
            files.push(FileStatus { name: file_name_of(*file), bytes: *bytes });
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    }

    /// What the thread is doing, and for how long: `syncing wal.3 for 12.3s`.
    pub(super) fn operation(&self) -> Option<String> {
        let progress = lock(&self.progress);
        let (operation, since) = progress.current.as_ref()?;
        Some(format!("{} for {:.1?}", operation.describe(), since.elapsed()))
    }

    /// Waits until the thread has ended, whose sender must have been dropped.
    ///
    /// # Errors
    /// What it is doing, if it has not ended at `limit`. It is left to itself then: no system
    /// interrupts a sync that hangs.
    pub(super) async fn join(mut self, limit: Instant) -> Result<(), String> {
        // The thread drops its sender when it ends, so that nothing has to block here.
        let ended = timeout_at(limit, async { while self.completion().await.is_some() {} });
        if ended.await.is_err() {
            let operation = self.operation();
            return Err(operation.unwrap_or_else(|| "between two operations".to_owned()));
        }
        // A panic of the thread has ended the node already.
        let _ = self.thread.join();
        Ok(())
    }
}

/// The files of a node, open for appending. Owned by the disk thread.
#[derive(Debug)]
pub struct DataFiles {
    path: PathBuf,
    directory: File,
    open: BTreeMap<FileId, File>,
    /// The first error, which is final: no later operation is performed.
    first_failure: Option<DiskError>,
    detail: Option<String>,
}

impl DataFiles {
    /// Opens this directory, for one incarnation.
    ///
    /// # Errors
    /// If the directory cannot be opened.
    pub fn open(path: &Path) -> io::Result<DataFiles> {
        let directory = File::open(path)?;
        Ok(DataFiles {
            path: path.to_path_buf(),
            directory,
            open: BTreeMap::new(),
            first_failure: None,
            detail: None,
        })
    }

    /// Performs one operation; `bytes` is the data of an append. Returns the completion if the
    /// operation is a barrier.
    pub fn issue(&mut self, op: &DiskOp, bytes: &[u8]) -> Option<BarrierCompletion> {
        self.perform(&Job::of(op, 0..bytes.len()), bytes)
    }

    pub(super) fn perform(&mut self, job: &Job, bytes: &[u8]) -> Option<BarrierCompletion> {
        // Once an operation has failed, later ones are not even attempted: a write after a gap
        // could succeed and look like an intact record behind a torn one.
        if self.first_failure.is_none()
            && let Err(error) = self.attempt(job, bytes)
        {
            let full =
                // Distinguished only for the message: the node halts in either case.
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            self.first_failure = Some(if full { DiskError::NoSpace } else { DiskError::Io });
            self.detail = Some(format!("{} in {}: {error}", job.describe(), self.path.display()));
        }
        let (Job::Sync { op, .. } | Job::SyncDir { op }) = *job else { return None };
        let result = self.first_failure.map_or(Ok(()), Err);
        // Every barrier is answered, failed ones too (duty 4 of the driver), and the message is
        // printed once.
        Some(BarrierCompletion { op, result, detail: self.detail.take() })
    }

    fn attempt(&mut self, job: &Job, bytes: &[u8]) -> io::Result<()> {
        match *job {
            Job::Append { file, bytes: ref range } => {
                self.open_or_create(file)?.write_all(&bytes[range.clone()])
            }
            Job::Truncate { file, len } => self.open_existing(file)?.set_len(len),
            Job::Rename { from, to } => {
                // The open handle follows the file to its new name. A handle of a replaced file
                // would write to a file without a name.
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
                    // The contract says that removing a file that does not exist is no error.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    other => other,
                }
            }
            // `fdatasync` is enough: it includes the length, and the log needs no timestamps.
            Job::Sync { file, .. } => self.open_existing(file)?.sync_data(),
            Job::SyncDir { .. } => self.directory.sync_all(),
        }
    }

    fn path_of(&self, file: FileId) -> PathBuf {
        self.path.join(file_name_of(file))
    }

    fn open_or_create(&mut self, file: FileId) -> io::Result<&mut File> {
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
                    // In append mode the kernel chooses the offset: no position of this process can
                    // be wrong after a truncation.
                    .append(true)
                    .create(create)
                    .open(self.path.join(file_name_of(file)))?;
                Ok(vacant.insert(open_file))
            }
        }
    }
}

impl Job {
    /// `bytes` is the range of an append's data in [`Batch::bytes`].
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    #[test]
    fn files_have_the_lengths_that_the_file_system_knows() {
        let path = std::env::temp_dir().join(format!("stormglass-files-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let directory = Directory::open(&path, "test", NodeId(0)).expect("it is new");
        fs::write(path.join("wal.7"), "of an earlier incarnation").expect("a file");
        let (jobs, mut disk) = start(directory).expect("it can be opened");
        let mut batch = Batch::default();
        for (file, bytes) in
            [(FileId::Wal(7), "more"), (FileId::Scratch, "a"), (FileId::Scratch, "b")]
        {
            batch.append(file, bytes.as_bytes());
        }
        batch.append(FileId::Wal(8), b"removed");
        batch.append(FileId::Wal(9), b"truncated");
        batch.push(Job::Rename { from: FileId::Scratch, to: FileId::Snapshot(3) });
        batch.push(Job::Remove { file: FileId::Wal(8) });
        batch.push(Job::Truncate { file: FileId::Wal(9), len: 5 });
        batch.push(Job::SyncDir { op: OpId(1) });
        jobs.try_send(batch).expect("the queue is empty");
        let done = disk.done.blocking_recv().expect("the barrier completes");
        assert!(matches!(&done, Completion::Barrier(done) if done.result.is_ok()), "{done:?}");
        let files = disk.files().into_iter().map(|file| format!("{} {}", file.name, file.bytes));
        assert_eq!(files.collect::<Vec<_>>(), ["snapshot.3 2", "wal.7 29", "wal.9 5"]);
        assert_eq!(file_lengths(&path).expect("a directory"), lock(&disk.progress).lengths);
        fs::remove_dir_all(&path).expect("it was there");
    }
}
