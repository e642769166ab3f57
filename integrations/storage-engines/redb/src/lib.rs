//! redb over the file system of a crash test.
//!
//! ```
//! use redb::Database;
//! use stormglass_crash_redb::CrashBackend;
//! use stormglass_crash_test::CrashFs;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let fs = CrashFs::default();
//! let db = Database::builder().create_with_backend(CrashBackend::open(&fs, "db")?)?;
//! db.begin_write()?.commit()?;
//! # Ok(())
//! # }
//! ```

use std::io;

use redb::StorageBackend;
use stormglass_crash_test::{CrashFile, CrashFs};

/// A file as redb uses one. It asks the file system for what redb's `FileBackend` asks the kernel
/// for.
#[derive(Debug)]
pub struct CrashBackend(CrashFile);

impl CrashBackend {
    /// Opens a file, and creates it if it does not exist.
    ///
    /// # Errors
    /// Those of [`CrashFs::open_or_create`].
    pub fn open(fs: &CrashFs, path: &str) -> io::Result<CrashBackend> {
        fs.open_or_create(path).map(CrashBackend)
    }
}

impl StorageBackend for CrashBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.0.read_at(offset, out) < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}
