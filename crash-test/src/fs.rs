//! A file system in memory that records every operation.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::op::Op;
use crate::tree::{Contents, Inode, Tree};

/// A file system in memory. Clones are handles of the same one.
///
/// Paths are names separated by `/`, from the root; `""` is the root itself. What a process sees is
/// what a real file system shows it: writes are visible at once, open files outlive their names,
/// and an operation that is impossible fails with the error of the system. Nothing but a sync makes
/// anything durable.
#[derive(Clone)]
pub struct CrashFs(Arc<Mutex<Recorder>>);

struct Recorder {
    /// As it was before the first operation.
    start: Tree,
    tree: Tree,
    log: Vec<Op>,
    faults: Faults,
    syncs: usize,
    writes: usize,
    /// Commits that [`CrashFs::commits`] leaves out.
    left_out: BTreeSet<u64>,
    /// Those that it has offered.
    offered: BTreeSet<u64>,
}

/// The one operation that fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Faults {
    /// The sync of this number, from 0, reports an error.
    pub sync: Option<usize>,
    /// The write of this number, from 0, fails.
    pub write: Option<(usize, WriteFault)>,
}

/// How a write fails. Creations, renames, removals and lengths count as writes and fail whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WriteFault {
    Io,
    NoSpace,
    /// Half of the bytes are written, and then there is no space.
    Short,
}

impl WriteFault {
    pub(crate) const ALL: [WriteFault; 3] =
        [WriteFault::Io, WriteFault::NoSpace, WriteFault::Short];

    fn error(self) -> io::Error {
        match self {
            WriteFault::Io => io::Error::from_raw_os_error(5),
            WriteFault::NoSpace | WriteFault::Short => io::ErrorKind::StorageFull.into(),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.sync, self.write) {
            (Some(sync), _) => write!(f, "sync {sync} fails"),
            (None, Some((write, fault))) => write!(f, "write {write} {fault}"),
            (None, None) => f.write_str("none"),
        }
    }
}

impl fmt::Display for WriteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriteFault::Io => "fails with EIO",
            WriteFault::NoSpace => "fails with ENOSPC",
            WriteFault::Short => "writes half of its bytes and fails with ENOSPC",
        })
    }
}

impl Default for CrashFs {
    fn default() -> Self {
        CrashFs::with_tree(Tree::default(), Faults::default())
    }
}

impl fmt::Debug for CrashFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashFs")
            .field("operations", &self.lock().log.len())
            .finish_non_exhaustive()
    }
}

/// For the tests of this crate's explorer.
impl CrashFs {
    pub(crate) fn with_tree(tree: Tree, faults: Faults) -> Self {
        CrashFs(Arc::new(Mutex::new(Recorder {
            start: tree.clone(),
            tree,
            log: Vec::new(),
            faults,
            syncs: 0,
            writes: 0,
            left_out: BTreeSet::new(),
            offered: BTreeSet::new(),
        })))
    }

    /// An empty one, whose workload leaves out these commits.
    pub(crate) fn without_commits(left_out: &BTreeSet<u64>, faults: Faults) -> Self {
        let fs = CrashFs::with_tree(Tree::default(), faults);
        fs.lock().left_out.clone_from(left_out);
        fs
    }

    /// The commits that a workload may do without.
    pub(crate) fn offered(&self) -> BTreeSet<u64> {
        self.lock().offered.clone()
    }

    pub(crate) fn log(&self) -> Vec<Op> {
        self.lock().log.clone()
    }

    pub(crate) fn start(&self) -> Tree {
        self.lock().start.clone()
    }

    pub(crate) fn tree(&self) -> Tree {
        self.lock().tree.clone()
    }

    /// Syncs and writes so far.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let recorder = self.lock();
        (recorder.syncs, recorder.writes)
    }

    /// An engine that has panicked may have left the lock poisoned; the recorder is whole
    /// nevertheless, as it is changed by whole operations.
    fn lock(&self) -> MutexGuard<'_, Recorder> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl CrashFs {
    /// Whether both are handles of one file system.
    pub fn is_same(&self, other: &CrashFs) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Marks of the workload.
impl CrashFs {
    /// Notes that the workload begins a commit: from here on its effects may be there after a
    /// crash. Numbers are those of the workload; those of later commits are greater.
    pub fn begin(&self, commit: u64) {
        self.lock().log.push(Op::Begin(commit));
    }

    /// Notes that the engine has acknowledged a commit: from here on it must be there.
    pub fn acknowledge(&self, commit: u64) {
        self.lock().log.push(Op::Acknowledge(commit));
    }

    /// The numbers of the commits that the workload is to perform: all of these, or, where a
    /// finding is reduced or replayed, some. For expectations that hold whichever commits there
    /// are, such as [`models::set`](crate::models::set).
    pub fn commits(&self, all: RangeInclusive<u64>) -> Vec<u64> {
        let mut recorder = self.lock();
        recorder.offered.extend(all.clone());
        all.filter(|commit| !recorder.left_out.contains(commit)).collect()
    }

    /// Begins a commit, performs it, and acknowledges it if it succeeds.
    ///
    /// # Errors
    /// That of `perform`.
    pub fn commit<T, E>(
        &self,
        commit: u64,
        perform: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.begin(commit);
        let done = perform()?;
        self.acknowledge(commit);
        Ok(done)
    }
}

/// Names.
impl CrashFs {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, or `IsADirectory`.
    pub fn open(&self, path: &str) -> io::Result<CrashFile> {
        let recorder = self.lock();
        let inode = recorder.tree.find(path)?;
        if recorder.tree.file(inode).is_none() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(self.handle(inode))
    }

    /// Creates a file, or opens it and removes its contents.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and an injected one.
    pub fn create(&self, path: &str) -> io::Result<CrashFile> {
        let file = self.open_or_create(path)?;
        if !file.is_empty() {
            file.set_len(0)?;
        }
        Ok(file)
    }

    /// Opens a file, and creates it if it does not exist.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and an injected one.
    pub fn open_or_create(&self, path: &str) -> io::Result<CrashFile> {
        match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create_new(path),
            opened => opened,
        }
    }

    /// Creates a file that does not exist yet.
    ///
    /// # Errors
    /// `AlreadyExists`; `NotFound` or `NotADirectory` for its directory; an injected one.
    pub fn create_new(&self, path: &str) -> io::Result<CrashFile> {
        let mut recorder = self.lock();
        let (dir, name) = recorder.tree.find_parent(path)?;
        recorder.check_free(dir, &name)?;
        let file = recorder.tree.next_inode();
        recorder.write(Op::CreateFile { dir, name, file })?;
        drop(recorder);
        Ok(self.handle(file))
    }

    /// Creates a directory.
    ///
    /// # Errors
    /// As [`create_new`](Self::create_new).
    pub fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut recorder = self.lock();
        let (parent, name) = recorder.tree.find_parent(path)?;
        recorder.check_free(parent, &name)?;
        let dir = recorder.tree.next_inode();
        recorder.write(Op::CreateDir { parent, name, dir })
    }

    /// Gives a file a second name.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`create_new`](Self::create_new).
    pub fn hard_link(&self, file: &str, new: &str) -> io::Result<()> {
        let inode = self.open(file)?.inode;
        let mut recorder = self.lock();
        let (dir, name) = recorder.tree.find_parent(new)?;
        recorder.check_free(dir, &name)?;
        recorder.write(Op::Link { dir, name, file: inode })
    }

    /// Renames a file or directory; a file or an empty directory of the new name is replaced.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `IsADirectory`, `DirectoryNotEmpty`, or an injected one.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut recorder = self.lock();
        let moved = recorder.tree.find(from)?;
        let from = recorder.tree.find_parent(from)?;
        let to = recorder.tree.find_parent(to)?;
        let replaced = recorder.tree.dir(to.0).and_then(|names| names.get(&to.1)).copied();
        if replaced == Some(moved) {
            return Ok(()); // POSIX: two names of one file, and nothing happens.
        }
        if let Some(replaced) = replaced {
            match (recorder.tree.dir(moved), recorder.tree.dir(replaced)) {
                (None, Some(_)) => return Err(io::ErrorKind::IsADirectory.into()),
                (Some(_), None) => return Err(io::ErrorKind::NotADirectory.into()),
                (Some(_), Some(names)) if !names.is_empty() => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        recorder.write(Op::Rename { from, to, moved, replaced })
    }

    /// Removes the name of a file. Handles of it go on working.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `IsADirectory`, or an injected one.
    pub fn remove_file(&self, path: &str) -> io::Result<()> {
        let mut recorder = self.lock();
        let removed = recorder.tree.find(path)?;
        if recorder.tree.dir(removed).is_some() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let (dir, name) = recorder.tree.find_parent(path)?;
        recorder.write(Op::Remove { dir, name, removed })
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `DirectoryNotEmpty`, or an injected one.
    pub fn remove_dir(&self, path: &str) -> io::Result<()> {
        let mut recorder = self.lock();
        let removed = recorder.tree.find(path)?;
        match recorder.tree.dir(removed) {
            None => return Err(io::ErrorKind::NotADirectory.into()),
            Some(names) if !names.is_empty() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            Some(_) => {}
        }
        let (dir, name) = recorder.tree.find_parent(path)?;
        recorder.write(Op::Remove { dir, name, removed })
    }

    /// The names in a directory, in order.
    ///
    /// # Errors
    /// `NotFound` or `NotADirectory`.
    pub fn read_dir(&self, path: &str) -> io::Result<Vec<String>> {
        let recorder = self.lock();
        let dir = recorder.tree.find(path)?;
        let names = recorder.tree.dir(dir).ok_or(io::ErrorKind::NotADirectory)?;
        Ok(names.keys().map(ToString::to_string).collect())
    }

    /// Whether a file or directory has this path.
    pub fn exists(&self, path: &str) -> bool {
        self.lock().tree.find(path).is_ok()
    }

    /// The whole contents of a file.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        Ok(self.lock().tree.file(file.inode).cloned().unwrap_or_default())
    }

    /// `fsync` of a directory: the entries in it become durable.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, or an injected one.
    pub fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut recorder = self.lock();
        let dir = recorder.tree.find(path)?;
        if recorder.tree.dir(dir).is_none() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        recorder.sync(dir, Op::SyncDir { dir })
    }

    fn handle(&self, inode: Inode) -> CrashFile {
        CrashFile { fs: self.clone(), inode }
    }
}

/// An open file. It outlives the names of the file.
#[derive(Clone, Debug)]
pub struct CrashFile {
    fs: CrashFs,
    inode: Inode,
}

impl CrashFile {
    /// The length in bytes.
    pub fn len(&self) -> u64 {
        self.fs.lock().tree.file(self.inode).map_or(0, Vec::len) as u64
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads from `at` on, and returns how many bytes there were: fewer than asked for at the end
    /// of the file only.
    pub fn read_at(&self, at: u64, buffer: &mut [u8]) -> usize {
        let recorder = self.fs.lock();
        let Some(bytes) = recorder.tree.file(self.inode) else { return 0 };
        let start = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let len = buffer.len().min(bytes.len() - start);
        buffer[..len].copy_from_slice(&bytes[start..start + len]);
        len
    }

    /// Writes all bytes at `at`, extending the file if need be.
    ///
    /// # Errors
    /// An injected one. A short write has left a part of the bytes.
    pub fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.fs.lock().write(Op::Write { file: self.inode, at, bytes: bytes.into() })
    }

    /// Writes all bytes at the end.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_at(self.len(), bytes)
    }

    /// Cuts the file off, or extends it with zeros.
    ///
    /// # Errors
    /// An injected one.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.fs.lock().write(Op::SetLen { file: self.inode, len })
    }

    /// `fdatasync`.
    ///
    /// # Errors
    /// An injected one.
    pub fn sync_data(&self) -> io::Result<()> {
        self.fs.lock().sync(self.inode, Op::SyncData { file: self.inode })
    }

    /// `fsync`.
    ///
    /// # Errors
    /// An injected one.
    pub fn sync_all(&self) -> io::Result<()> {
        self.fs.lock().sync(self.inode, Op::SyncAll { file: self.inode })
    }
}

impl Recorder {
    fn check_free(&self, dir: Inode, name: &str) -> io::Result<()> {
        match self.tree.dir(dir) {
            Some(names) if names.contains_key(name) => Err(io::ErrorKind::AlreadyExists.into()),
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn perform(&mut self, op: Op) {
        self.tree.apply(&op);
        self.log.push(op);
    }

    fn write(&mut self, op: Op) -> io::Result<()> {
        let number = self.writes;
        self.writes += 1;
        let Some((_, fault)) = self.faults.write.filter(|(failing, _)| *failing == number) else {
            self.perform(op);
            return Ok(());
        };
        if let (WriteFault::Short, Op::Write { file, at, bytes }) = (fault, &op)
            && bytes.len() > 1
        {
            let half = Op::Write { file: *file, at: *at, bytes: bytes[..bytes.len() / 2].into() };
            self.perform(half);
        }
        Err(fault.error())
    }

    fn sync(&mut self, inode: Inode, op: Op) -> io::Result<()> {
        let number = self.syncs;
        self.syncs += 1;
        if self.faults.sync == Some(number) {
            self.perform(Op::SyncFailed { inode });
            return Err(io::Error::from_raw_os_error(5));
        }
        self.perform(op);
        Ok(())
    }
}

/// A digest of what can be reached, equal for images with the same contents.
pub(crate) fn digest(tree: &Tree) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    // With fixed keys: the same image has the same digest in every process.
    let mut hasher = DefaultHasher::new();
    for (path, contents) in tree.reachable() {
        path.hash(&mut hasher);
        match contents {
            Contents::File(bytes) => bytes.hash(&mut hasher),
            Contents::Dir(_) => "a directory".hash(&mut hasher),
        }
    }
    hasher.finish()
}
