//! A node's files for real: which name each role has, who owns the directory, and what survived.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::contract::{DiskError, FileId, ReadDisk};
use crate::id::NodeId;

const LOCK: &str = "lock";
const IDENTITY: &str = "identity.json";
const FORMAT: u32 = 1;

/// The data directory of one node, locked for this process as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    // Held, not read: the lock goes with the file.
    _lock: File,
}

/// Whose directory it is: written once, checked at every start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    cluster: String,
    node: u16,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it.
    #[error(
        "data directory {path} is in use by process {holder}; stop that one first, or choose another --data"
    )]
    InUse {
        /// Which directory.
        path: PathBuf,
        /// What the lock file says.
        holder: String,
    },
    /// It belongs to another node.
    #[error(
        "data directory {path} belongs to n{found_node} of cluster {found_cluster:?}, not to {node} of {cluster:?}; choose another --data"
    )]
    Foreign {
        /// Which directory.
        path: PathBuf,
        /// Whose it is.
        found_node: u16,
        /// Of which cluster.
        found_cluster: String,
        /// Who wants it.
        node: NodeId,
        /// Of which cluster.
        cluster: String,
    },
    /// It has files, and none of them says whose.
    #[error(
        "data directory {path} holds {file:?} and is no data directory of stormglass; choose an empty one"
    )]
    NotADataDirectory {
        /// Which directory.
        path: PathBuf,
        /// A file that is in it.
        file: String,
    },
    /// It says whose it is in a way that cannot be read.
    #[error(
        "{path} is damaged: {what}; restore the directory from a copy, or choose an empty --data"
    )]
    Identity {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It was written by another version of this program.
    #[error(
        "{path} has format {found}, this program reads {readable}; nothing is wrong with it: run the version that wrote it"
    )]
    Version {
        /// Which file.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What would be readable.
        readable: u32,
    },
    /// The operating system refused.
    #[error("cannot {what} {path}: {error}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl Directory {
    /// Opens the directory of a node, creating it if need be, and keeps everybody else out.
    ///
    /// # Errors
    /// [`DirectoryError`] if it is in use, somebody else's, or cannot be written.
    pub fn open(path: &Path, cluster: &str, node: NodeId) -> Result<Directory, DirectoryError> {
        let failed = |what, path: &Path| {
            let path = path.to_path_buf();
            move |error| DirectoryError::Io { what, path, error }
        };
        create(path, sync).map_err(failed("create data directory", path))?;
        refuse_non_data_directory(path)?;
        let lock_path = path.join(LOCK);
        let lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock_path);
        let mut lock = lock.map_err(failed("open", &lock_path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            let holder =
                if holder.trim().is_empty() { "?".to_owned() } else { holder.trim().to_owned() };
            return Err(DirectoryError::InUse { path: path.to_path_buf(), holder });
        }
        check_or_write_identity(path, cluster, node)?;
        // Only for the message to whoever comes second. On a full disk that is not worth a refusal.
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Directory { path: path.to_path_buf(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Creates the directory and what leads to it. A name is durable only once the directory that holds it is synced: a node
/// that has voted must not lose its whole directory to a power cut, and begin its first life once more.
fn create(path: &Path, sync: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|at| !exists(at)).collect();
    fs::create_dir_all(path)?;
    for made in &missing {
        sync(holder(made))?;
    }
    if missing.is_empty() {
        // Whoever made it may have died before this. If it is not ours to open, then that was somebody who prepared it.
        return match sync(holder(path)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        };
    }
    Ok(())
}

fn exists(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.exists()
}

/// The directory in which this one has its name.
fn holder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Nobody's directory becomes ours by accident: it must be empty, or say that it is a node's.
fn refuse_non_data_directory(path: &Path) -> Result<(), DirectoryError> {
    let failed = |error| DirectoryError::Io { what: "read", path: path.to_path_buf(), error };
    if path.join(IDENTITY).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if file != LOCK && file != format!("{IDENTITY}.new") {
            return Err(DirectoryError::NotADataDirectory { path: path.to_path_buf(), file });
        }
    }
    Ok(())
}

/// Checks whose it is; the first to come writes it down, and it is durable before there is any log.
fn check_or_write_identity(path: &Path, cluster: &str, node: NodeId) -> Result<(), DirectoryError> {
    let file = path.join(IDENTITY);
    let io = |what| {
        let path = file.clone();
        move |error| DirectoryError::Io { what, path, error }
    };
    let wrong = |what: String| DirectoryError::Identity { path: file.clone(), what };
    if file.exists() {
        let text = fs::read_to_string(&file).map_err(io("read"))?;
        let found: Identity =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if found.format != FORMAT {
            return Err(DirectoryError::Version {
                path: file,
                found: found.format,
                readable: FORMAT,
            });
        }
        if found.cluster != cluster || found.node != node.0 {
            let (found_node, found_cluster) = (found.node, found.cluster);
            let (path, cluster) = (path.to_path_buf(), cluster.to_owned());
            return Err(DirectoryError::Foreign { path, found_node, found_cluster, node, cluster });
        }
        return Ok(());
    }
    let identity = Identity { format: FORMAT, cluster: cluster.to_owned(), node: node.0 };
    let text = serde_json::to_string(&identity).expect("a plain struct") + "\n";
    let scratch = path.join(format!("{IDENTITY}.new"));
    let write = || -> io::Result<()> {
        let mut new = File::create(&scratch)?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        fs::rename(&scratch, &file)?;
        sync(path)
    };
    write().map_err(io("write"))
}

/// The file name of a role.
pub fn file_name_of(file: FileId) -> String {
    file.to_string()
}

/// The role of a file name; `None` for files that are none of the node's.
pub fn file_id_of(name: &str) -> Option<FileId> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| number.to_string() == text);
    match name.split_once('.') {
        None if name == "scratch" => Some(FileId::Scratch),
        Some(("wal", rest)) => number(rest).map(FileId::Wal),
        Some(("snapshot", rest)) => number(rest).map(FileId::Snapshot),
        None | Some(_) => None,
    }
}

/// Everything that survived in a data directory, read into memory: what a node is booted from. Changes nothing, so the
/// offline tools use it too.
#[derive(Debug, Default)]
pub struct SurvivingFiles {
    files: BTreeMap<FileId, Result<Vec<u8>, DiskError>>,
}

impl SurvivingFiles {
    /// Reads all files that have a role.
    ///
    /// # Errors
    /// [`DirectoryError::Io`] if the directory cannot be listed. A file that cannot be read is left to the node.
    pub fn read(path: &Path) -> Result<SurvivingFiles, DirectoryError> {
        let failed = |error| DirectoryError::Io {
            what: "read data directory",
            path: path.to_path_buf(),
            error,
        };
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(file_id) = entry.file_name().to_str().and_then(file_id_of) else { continue };
            let bytes = fs::read(entry.path()).map_err(|error| {
                tracing::error!(file = %file_id, %error, "cannot read a file");
                DiskError::Io
            });
            files.insert(file_id, bytes);
        }
        Ok(SurvivingFiles { files })
    }

    /// Each readable file with its bytes, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &[u8])> {
        self.files.iter().filter_map(|(file, bytes)| Some((*file, bytes.as_deref().ok()?)))
    }
}

impl ReadDisk for SurvivingFiles {
    fn files(&self) -> Vec<FileId> {
        self.files.keys().copied().collect()
    }

    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
        match self.files.get(&file) {
            None => Ok(None),
            Some(Ok(bytes)) => Ok(Some(bytes)),
            Some(Err(error)) => Err(*error),
        }
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
                assert!(path.is_dir(), "a name that is not there yet is made durable");
                synced.borrow_mut().push(directory.to_path_buf());
                Ok(())
            };
            create(path, note).expect("it can be created");
            synced.into_inner()
        };
        let path = root.join("logs/n0");
        assert_eq!(synced(&path), [root.join("logs"), root.clone()]);
        // Once more, since the first to come may have died in between.
        assert_eq!(synced(&path), [root.join("logs")]);
        fs::remove_dir_all(&root).expect("it was there");
        assert_eq!(holder(Path::new("logs")), Path::new("."));
    }

    #[test]
    fn a_directory_that_cannot_be_made_durable_is_not_used() {
        let root =
            std::env::temp_dir().join(format!("stormglass-uncreated-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let fails = |_: &Path| Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(create(&root, fails).is_err());
        // Somebody else has made it: that is for them to see to.
        assert!(create(&root, fails).is_ok());
        fs::remove_dir_all(&root).expect("it was there");
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
