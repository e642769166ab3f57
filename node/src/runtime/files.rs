//! The data directory of a node: its lock, its identity, its file names and the surviving files.
//! `docs/log-format.md` describes what is in them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::contract::{DiskError, FileId, ReadDisk};
use crate::id::NodeId;

const LOCK: &str = "lock";
const IDENTITY: &str = "identity.json";
const IDENTITY_SCRATCH: &str = "identity.json.new";
// Raised if the files of a directory change in a way that an older program would misread.
const FORMAT: u32 = 1;

/// The data directory of one node. This process holds its lock until the value is dropped.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// As the identity file has it.
    identity: Identity,
    // Held, not read: closing a file releases its lock, and the system closes it when the process
    // ends, however it ends.
    _locks: Locks,
}

/// The locks of a data directory.
#[derive(Debug)]
struct Locks {
    /// On the directory itself: a second process is refused even if the lock file was removed.
    _directory: File,
    /// On the lock file, which earlier versions lock, and which names the process.
    file: File,
}

/// The node that owns the directory, and what is known of its files: checked at every start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    cluster: String,
    node: u16,
    /// Whether the node has spoken to others: from then on it must not lose its log. False in
    /// directories of earlier versions, until the node serves again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    served: bool,
    /// The length of each of its files, in bytes, when the node was stopped; `None` while it runs,
    /// and after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped: Option<BTreeMap<String, u64>>,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum DirectoryError {
    /// Another process has locked it.
    #[error(
        "data directory {path} is in use by {holder}; stop that one first, or choose another --data"
    )]
    #[allow(missing_docs, reason = "the names say it")]
    InUse {
        path: PathBuf,
        /// `process 1234`, from the lock file, or `another process`.
        holder: String,
    },
    /// It belongs to another node.
    #[error(
        "data directory {path} belongs to n{found_node} of cluster {found_cluster:?}, not to {node} of {cluster:?}; choose another --data"
    )]
    #[allow(missing_docs, reason = "the names say it")]
    Foreign { path: PathBuf, found_node: u16, found_cluster: String, node: NodeId, cluster: String },
    /// It has files but no identity file.
    #[error(
        "data directory {path} holds {file:?} and is not a stormglass data directory; choose an empty one"
    )]
    #[allow(missing_docs, reason = "the names say it")]
    NotADataDirectory {
        path: PathBuf,
        /// One of the files in it.
        file: String,
    },
    /// Its identity file cannot be parsed.
    #[error("{path} is damaged: {what}; restore this file from a copy")]
    Identity {
        path: PathBuf,
        /// The parser's error.
        what: String,
    },
    /// It was written by another version of this program.
    #[error(
        "{path} has format {found}, this program reads {readable}; nothing is wrong with it: run the version that wrote it"
    )]
    Version { path: PathBuf, found: u32, readable: u32 },
    /// The node has served, and its log is gone.
    #[error(
        "data directory {path} belongs to a node that has served, and its log and snapshot are gone; put them back, or see \"A node without its data\" in docs/operations.md"
    )]
    LogGone { path: PathBuf },
    /// A file is shorter than when the node was stopped, or gone.
    #[error(
        "{path} has {found} bytes, but had {expected} when the node was stopped; put it back, or see \"A node without its data\" in docs/operations.md"
    )]
    CutShort { path: PathBuf, found: u64, expected: u64 },
    /// An operation on it failed.
    #[error("cannot {what} {path}: {error}")]
    #[allow(missing_docs, reason = "the names say it")]
    Io {
        /// The operation, as it follows "cannot".
        what: &'static str,
        path: PathBuf,
        error: io::Error,
    },
}

impl DirectoryError {
    fn io(what: &'static str, path: &Path, error: io::Error) -> DirectoryError {
        DirectoryError::Io { what, path: path.to_path_buf(), error }
    }
}

impl Directory {
    /// Opens and locks the directory of a node; creates it if it does not exist.
    ///
    /// # Errors
    /// [`DirectoryError`] if it is in use, belongs to another node, or cannot be written.
    pub fn open(path: &Path, cluster: &str, node: NodeId) -> Result<Directory, DirectoryError> {
        create(path, sync)
            .map_err(|error| DirectoryError::io("create data directory", path, error))?;
        refuse_non_data_directory(path)?;
        let mut locks = lock(path)?;
        // After the lock: two processes that start at once must not both write the identity.
        let mut identity = check_or_write_identity(path, cluster, node)?;
        check_history(path, &identity)?;
        // Before the node boots: from then on its files change.
        if identity.stopped.take().is_some() {
            write_identity(path, &identity)
                .map_err(|error| DirectoryError::io("write", &path.join(IDENTITY), error))?;
        }
        // Only for the error message of a second process, so a full disk is ignored here.
        let file = &mut locks.file;
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Directory { path: path.to_path_buf(), identity, _locks: locks })
    }

    /// Notes durably that the node serves: its log must not be gone at a later start. To be called
    /// when the log is durable, and before anybody hears of the node. A node that has written
    /// nothing has no log yet; a later start notes it.
    ///
    /// # Errors
    /// If the identity file cannot be written.
    pub(super) fn note_served(&mut self) -> io::Result<()> {
        if self.identity.served || node_files(&self.path)?.is_empty() {
            return Ok(());
        }
        self.identity.served = true;
        write_identity(&self.path, &self.identity)
    }

    /// Notes durably where the files of the stopped node end.
    ///
    /// # Errors
    /// If a file cannot be synced, or the identity file cannot be written.
    pub(super) fn note_stopped(&mut self) -> io::Result<()> {
        let mut lengths = BTreeMap::new();
        for (name, path) in node_files(&self.path)? {
            let file = File::open(path)?;
            // A power cut must not leave less than what is noted.
            file.sync_all()?;
            lengths.insert(name, file.metadata()?.len());
        }
        sync(&self.path)?;
        self.identity.stopped = Some(lengths);
        write_identity(&self.path, &self.identity)
    }

    /// The path that it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Locks a data directory for this process.
fn lock(path: &Path) -> Result<Locks, DirectoryError> {
    let directory = File::open(path).map_err(|error| DirectoryError::io("open", path, error))?;
    lock_file(&directory, path, path)?;
    let lock_path = path.join(LOCK);
    // Not truncated: until the lock is held the file contains the id of the process that holds it.
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock_path);
    let file = file.map_err(|error| DirectoryError::io("open", &lock_path, error))?;
    lock_file(&file, &lock_path, path)?;
    Ok(Locks { _directory: directory, file })
}

/// Locks an open file or directory at `at`, which protects the data directory `path`.
fn lock_file(file: &File, at: &Path, path: &Path) -> Result<(), DirectoryError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => {
            let id = fs::read_to_string(path.join(LOCK)).unwrap_or_default();
            let holder = match id.trim().parse::<u32>() {
                Ok(id) => format!("process {id}"),
                Err(_) => "another process".to_owned(),
            };
            Err(DirectoryError::InUse { path: path.to_path_buf(), holder })
        }
        // No lock is held: the file system has no locks, for example (ENOLCK).
        Err(error) => Err(DirectoryError::io("lock", at, error.into())),
    }
}

/// Creates the directory and its missing parents, and syncs the parent of each. An entry is durable
/// only once its parent directory is synced: otherwise a power cut could remove the whole directory
/// of a node that has voted, and the node would start with incarnation 1 again.
fn create(path: &Path, sync: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    // Listed before they are created; afterwards all of them exist.
    let missing: Vec<&Path> = path.ancestors().take_while(|at| !exists(at)).collect();
    fs::create_dir_all(path)?;
    for made in &missing {
        sync(parent_of(made))?;
    }
    if missing.is_empty() {
        // The process that created it may have crashed before the sync. A parent that this process
        // may not open was prepared by the administrator.
        return match sync(parent_of(path)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        };
    }
    Ok(())
}

fn exists(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.exists()
}

/// The directory that contains the entry of this one.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Refuses a directory that has files but no identity: it is not the data directory of a node.
fn refuse_non_data_directory(path: &Path) -> Result<(), DirectoryError> {
    if path.join(IDENTITY).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(|error| DirectoryError::io("read", path, error))? {
        let entry = entry.map_err(|error| DirectoryError::io("read", path, error))?;
        let file = entry.file_name().to_string_lossy().into_owned();
        // Two are left by a start that crashed before its identity was durable; the third is in
        // the top directory of every new ext4 file system.
        if ![LOCK, IDENTITY_SCRATCH, "lost+found"].contains(&file.as_str()) {
            return Err(DirectoryError::NotADataDirectory { path: path.to_path_buf(), file });
        }
    }
    Ok(())
}

/// The logs and snapshots in a directory, with their paths.
fn node_files(path: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if matches!(file_id_of(&name), Some(FileId::Wal(_) | FileId::Snapshot(_))) {
            files.insert(name, entry.path());
        }
    }
    Ok(files)
}

/// The length of each file of a directory that has a [`FileId`], in bytes.
pub(super) fn file_lengths(path: &Path) -> io::Result<BTreeMap<FileId, u64>> {
    let mut lengths = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if let Some(file) = entry.file_name().to_str().and_then(file_id_of) {
            lengths.insert(file, entry.metadata()?.len());
        }
    }
    Ok(lengths)
}

/// Refuses a directory whose files are not all there: the node would break what it has promised.
fn check_history(path: &Path, identity: &Identity) -> Result<(), DirectoryError> {
    let files = node_files(path).map_err(|error| DirectoryError::io("read", path, error))?;
    if identity.served && files.is_empty() {
        return Err(DirectoryError::LogGone { path: path.to_path_buf() });
    }
    for (name, expected) in identity.stopped.iter().flatten() {
        let file = path.join(name);
        let found = match fs::metadata(&file) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(DirectoryError::io("read", &file, error)),
        };
        if found < *expected {
            return Err(DirectoryError::CutShort { path: file, found, expected: *expected });
        }
    }
    Ok(())
}

/// Checks the identity. The first start writes it, and it is durable before there is any log.
fn check_or_write_identity(
    path: &Path,
    cluster: &str,
    node: NodeId,
) -> Result<Identity, DirectoryError> {
    let file = path.join(IDENTITY);
    if file.exists() {
        let text =
            fs::read_to_string(&file).map_err(|error| DirectoryError::io("read", &file, error))?;
        let found: Identity = serde_json::from_str(&text).map_err(|error| {
            DirectoryError::Identity { path: file.clone(), what: error.to_string() }
        })?;
        if found.format != FORMAT {
            return Err(DirectoryError::Version {
                path: file,
                found: found.format,
                readable: FORMAT,
            });
        }
        if found.cluster != cluster || found.node != node.0 {
            return Err(DirectoryError::Foreign {
                path: path.to_path_buf(),
                found_node: found.node,
                found_cluster: found.cluster,
                node,
                cluster: cluster.to_owned(),
            });
        }
        return Ok(found);
    }
    let cluster = cluster.to_owned();
    let identity = Identity { format: FORMAT, cluster, node: node.0, served: false, stopped: None };
    write_identity(path, &identity).map_err(|error| DirectoryError::io("write", &file, error))?;
    Ok(identity)
}

fn write_identity(path: &Path, identity: &Identity) -> io::Result<()> {
    let text = serde_json::to_string(identity).expect("a plain struct") + "\n";
    let scratch = path.join(IDENTITY_SCRATCH);
    let mut new = File::create(&scratch)?;
    new.write_all(text.as_bytes())?;
    // The contents before the name: a crash must not leave an empty identity under the final name.
    new.sync_all()?;
    fs::rename(&scratch, path.join(IDENTITY))?;
    sync(path)
}

/// The file name of a file id: `wal.3`, `snapshot.3` or `scratch`.
pub fn file_name_of(file: FileId) -> String {
    file.to_string()
}

/// The file id of a file name; `None` if the file is not one of the node's.
pub fn file_id_of(name: &str) -> Option<FileId> {
    match name.split_once('.') {
        None if name == "scratch" => Some(FileId::Scratch),
        Some(("wal", rest)) => number_of(rest).map(FileId::Wal),
        Some(("snapshot", rest)) => number_of(rest).map(FileId::Snapshot),
        None | Some(_) => None,
    }
}

fn number_of(text: &str) -> Option<u32> {
    // Only the canonical form: `wal.01` is not a file of the node, and must not be read as `wal.1`.
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
}

/// The files of a data directory: the disk that a node boots from. Reading changes nothing, so the
/// offline tools use it too.
#[derive(Debug, Default)]
pub struct SurvivingFiles {
    files: BTreeMap<FileId, SurvivingFile>,
}

/// A file, read into memory when it is first asked for: a scratch file of gigabytes is removed at
/// boot, and nobody reads it.
#[derive(Debug)]
struct SurvivingFile {
    path: PathBuf,
    bytes: OnceLock<Result<Vec<u8>, DiskError>>,
}

impl SurvivingFile {
    fn read(&self) -> Result<&[u8], DiskError> {
        let bytes = self.bytes.get_or_init(|| {
            // Whether an unreadable file prevents the boot is for the node to decide: it may not
            // need it.
            read_regular_file(&self.path).map_err(|error| {
                tracing::error!(file = %self.path.display(), %error, "cannot read a file");
                DiskError::Io
            })
        });
        bytes.as_deref().map_err(|error| *error)
    }
}

/// Reads a file that is no pipe and no device, which may have no end or never begin.
fn read_regular_file(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    fs::read(path)
}

impl SurvivingFiles {
    /// Finds all files that have a [`FileId`].
    ///
    /// # Errors
    /// [`DirectoryError::Io`] if the directory cannot be listed. A file that cannot be read is no
    /// error here: the node sees it as unreadable.
    pub fn read(path: &Path) -> Result<SurvivingFiles, DirectoryError> {
        let what = "read data directory";
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(path).map_err(|error| DirectoryError::io(what, path, error))? {
            let entry = entry.map_err(|error| DirectoryError::io(what, path, error))?;
            let Some(file_id) = entry.file_name().to_str().and_then(file_id_of) else { continue };
            files.insert(file_id, SurvivingFile { path: entry.path(), bytes: OnceLock::new() });
        }
        Ok(SurvivingFiles { files })
    }

    /// Each readable file with its bytes, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &[u8])> {
        self.files.iter().filter_map(|(file, surviving)| Some((*file, surviving.read().ok()?)))
    }
}

impl ReadDisk for SurvivingFiles {
    fn files(&self) -> Vec<FileId> {
        self.files.keys().copied().collect()
    }

    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
        self.files.get(&file).map(SurvivingFile::read).transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn every_new_directory_entry_on_the_path_is_synced() {
        let root = std::env::temp_dir().join(format!("stormglass-create-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).expect("a temporary directory");
        let synced = |path: &Path| {
            let synced = RefCell::new(Vec::new());
            let note = |directory: &Path| {
                assert!(path.is_dir(), "the parent was synced before the entry existed");
                synced.borrow_mut().push(directory.to_path_buf());
                Ok(())
            };
            create(path, note).expect("it can be created");
            synced.into_inner()
        };
        let path = root.join("logs/n0");
        assert_eq!(synced(&path), [root.join("logs"), root.clone()]);
        // Synced again: the first process may have crashed before its sync.
        assert_eq!(synced(&path), [root.join("logs")]);
        fs::remove_dir_all(&root).expect("it was there");
        assert_eq!(parent_of(Path::new("logs")), Path::new("."));
    }

    #[test]
    fn a_directory_that_cannot_be_made_durable_is_not_used() {
        let root =
            std::env::temp_dir().join(format!("stormglass-uncreated-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let fails = |_: &Path| Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(create(&root, fails).is_err());
        // The directory exists: its parent may belong to the administrator.
        assert!(create(&root, fails).is_ok());
        fs::remove_dir_all(&root).expect("it was there");
    }

    /// A directory for one test, removed at its end.
    struct TestDirectory(PathBuf);

    impl TestDirectory {
        fn new(name: &str) -> TestDirectory {
            let name = format!("stormglass-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).expect("a temporary directory");
            TestDirectory(path)
        }
    }

    impl Drop for TestDirectory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn removed_lock_file_lets_no_second_process_in() {
        let directory = TestDirectory::new("lock");
        let open = || Directory::open(&directory.0, "test", NodeId(0));
        let first = open().expect("nobody uses it");
        let error = open().expect_err("it is in use").to_string();
        assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
        fs::remove_file(directory.0.join(LOCK)).expect("it exists");
        let error = open().expect_err("it is still in use").to_string();
        assert!(error.contains("in use by another process"), "{error}");
        drop(first);
        open().expect("nobody uses it any more");
    }

    /// A directory whose node has served, with a log of this many bytes.
    fn served_directory(name: &str, bytes: usize) -> (TestDirectory, Directory) {
        let directory = TestDirectory::new(name);
        let mut open = Directory::open(&directory.0, "test", NodeId(0)).expect("it is empty");
        fs::write(directory.0.join("wal.3"), vec![1; bytes]).expect("it is written");
        open.note_served().expect("it is written");
        (directory, open)
    }

    /// A protocol may have nothing to write at its first boot.
    #[test]
    fn directory_of_a_node_that_has_written_nothing_opens_again() {
        let directory = TestDirectory::new("nothing-written");
        let mut open = Directory::open(&directory.0, "test", NodeId(0)).expect("it is empty");
        open.note_served().expect("there is nothing to note");
        drop(open);
        let mut open = Directory::open(&directory.0, "test", NodeId(0)).expect("nothing is gone");
        fs::write(directory.0.join("wal.0"), [1]).expect("it is written");
        open.note_served().expect("it is written");
        drop(open);
        fs::remove_file(directory.0.join("wal.0")).expect("it exists");
        let error = Directory::open(&directory.0, "test", NodeId(0)).expect_err("it is gone");
        assert!(matches!(error, DirectoryError::LogGone { .. }), "{error}");
    }

    #[test]
    fn directory_of_a_node_that_has_served_needs_its_log() {
        let (directory, open) = served_directory("served", 10);
        drop(open);
        drop(Directory::open(&directory.0, "test", NodeId(0)).expect("nothing is missing"));
        fs::remove_file(directory.0.join("wal.3")).expect("it exists");
        let error = Directory::open(&directory.0, "test", NodeId(0)).expect_err("it is gone");
        assert!(error.to_string().contains("its log and snapshot are gone"), "{error}");
    }

    #[test]
    fn log_cut_at_any_length_after_a_clean_stop_is_noticed() {
        let (directory, mut open) = served_directory("stopped", 20);
        let log = directory.0.join("wal.3");
        open.note_stopped().expect("it is written");
        drop(open);
        for len in 0..20 {
            fs::write(&log, vec![1; len]).expect("it is written");
            let error = Directory::open(&directory.0, "test", NodeId(0)).expect_err("it is short");
            let expected = format!("has {len} bytes, but had 20 when the node was stopped");
            assert!(error.to_string().contains(&expected), "{error}");
        }
        fs::write(&log, vec![1; 20]).expect("it is written");
        drop(Directory::open(&directory.0, "test", NodeId(0)).expect("nothing is missing"));
        // The node runs again: after a crash its log may end anywhere.
        fs::write(&log, vec![1; 7]).expect("it is written");
        Directory::open(&directory.0, "test", NodeId(0)).expect("a torn tail, perhaps");
    }

    #[test]
    fn new_file_system_is_an_empty_directory() {
        let directory = TestDirectory::new("mount");
        fs::create_dir(directory.0.join("lost+found")).expect("a directory");
        Directory::open(&directory.0, "test", NodeId(0)).expect("it may be used");
    }

    #[test]
    fn file_that_is_none_is_unreadable_and_blocks_nobody() {
        let directory = TestDirectory::new("fifo");
        let path = directory.0.join("wal.0");
        let mode = rustix::fs::Mode::from(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).expect("a pipe");
        let surviving = SurvivingFiles::read(&directory.0).expect("it can be listed");
        assert_eq!(surviving.read(FileId::Wal(0)), Err(DiskError::Io));
        assert_eq!(surviving.read(FileId::Wal(1)), Ok(None));
    }

    #[test]
    fn file_names_and_file_ids_convert_both_ways() {
        for file in [FileId::Wal(0), FileId::Wal(70_000), FileId::Snapshot(3), FileId::Scratch] {
            assert_eq!(file_id_of(&file_name_of(file)), Some(file));
        }
        for name in [
            "wal.",
            "wal.01",
            "wal.+1",
            "wal.-1",
            "wal.4294967296",
            "snapshot.1~",
            "scratch.1",
            "lock",
        ] {
            assert_eq!(file_id_of(name), None, "{name}");
        }
    }
}
