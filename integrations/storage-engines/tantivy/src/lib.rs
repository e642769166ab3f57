//! tantivy over the file system of a crash test.
//!
//! ```
//! use stormglass_crash_tantivy::CrashDirectory;
//! use stormglass_crash_test::CrashFs;
//! use tantivy::{Index, schema::Schema};
//!
//! # fn main() -> tantivy::Result<()> {
//! let directory = CrashDirectory::new(&CrashFs::default());
//! Index::open_or_create(directory, Schema::builder().build())?;
//! # Ok(())
//! # }
//! ```

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use stormglass_crash_test::{CrashFile, CrashFs};
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, OwnedBytes, TerminatingWrite,
    WatchCallback, WatchHandle, WritePtr,
};

/// A directory of an index. It asks the file system for what tantivy's `MmapDirectory` asks the
/// kernel for: `fdatasync` of each file when its writer ends; for a file that is replaced, a
/// temporary one with `fdatasync`, and a rename.
///
/// Locks are granted always, as a test opens an index once; a file is read as a whole; a reader is
/// not notified of commits.
#[derive(Clone, Debug)]
pub struct CrashDirectory(CrashFs);

impl CrashDirectory {
    /// The root directory of this file system.
    pub fn new(fs: &CrashFs) -> CrashDirectory {
        CrashDirectory(fs.clone())
    }
}

fn name_of(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn read_error(error: io::Error, path: &Path) -> OpenReadError {
    if error.kind() == io::ErrorKind::NotFound {
        OpenReadError::FileDoesNotExist(path.into())
    } else {
        OpenReadError::wrap_io_error(error, path.into())
    }
}

impl Directory for CrashDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        let bytes = OwnedBytes::new(self.atomic_read(path)?);
        Ok(Arc::new(bytes))
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        name_of(path).and_then(|name| self.0.remove_file(name)).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                DeleteError::FileDoesNotExist(path.into())
            } else {
                DeleteError::IoError { io_error: Arc::new(error), filepath: path.into() }
            }
        })
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        name_of(path).map(|name| self.0.exists(name)).map_err(|error| read_error(error, path))
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let created = name_of(path).and_then(|name| self.0.create_new(name));
        let file = created.map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                OpenWriteError::FileAlreadyExists(path.into())
            } else {
                OpenWriteError::wrap_io_error(error, path.into())
            }
        })?;
        Ok(BufWriter::new(Box::new(Writer(file))))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        let read = name_of(path).and_then(|name| self.0.read(name));
        read.map_err(|error| read_error(error, path))
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let name = name_of(path)?;
        let temporary = format!(".tmp-{name}");
        let file = self.0.create(&temporary)?;
        file.write_at(0, data)?;
        file.sync_data()?;
        self.0.rename(&temporary, name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.0.sync_dir("")
    }

    fn acquire_lock(&self, _: &Lock) -> Result<DirectoryLock, LockError> {
        Ok(DirectoryLock::from(Box::new(())))
    }

    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

/// Appends to a file, which `terminate` makes durable.
struct Writer(CrashFile);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TerminatingWrite for Writer {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.0.sync_data()
    }
}
