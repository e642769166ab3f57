//! SQLite over the file system of a crash test.
//!
//! ```
//! use stormglass_crash_sqlite::CrashVfs;
//! use stormglass_crash_test::CrashFs;
//!
//! # fn main() -> rusqlite::Result<()> {
//! let fs = CrashFs::default();
//! let vfs = CrashVfs::new(&fs);
//! let db = vfs.connect("db")?;
//! db.execute_batch("CREATE TABLE t(k INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)")?;
//! assert!(fs.exists("db"));
//! # Ok(())
//! # }
//! ```
//!
//! The [`CrashVfs`] asks the file system for what SQLite's own layer for Unix (`os_unix.c`) asks
//! the kernel for: `fsync` (or [`fdatasync`](CrashVfs::with_fdatasync)), after the first sync of a new journal `fsync` of its directory,
//! whose errors are ignored, and `fsync` of the directory after a removal for which SQLite asks.
//!
//! # Limits
//!
//! One connection to a database at a time: a second one is refused as busy. Databases in mode WAL
//! need `PRAGMA locking_mode=EXCLUSIVE`, as there is no shared memory. Temporary tables and
//! indexes are in memory.

mod vfs;

use std::ffi::c_int;

use rusqlite::{Connection, OpenFlags, ffi};
use stormglass_crash_test::CrashFs;
use stormglass_crash_test::std_fs::Mount;

use crate::vfs::Layer;

/// What SQLite's layer for Unix says of every file: a write changes no byte around it.
pub const UNIX_CHARACTERISTICS: c_int = ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE as c_int;

/// A file system that SQLite can open, until this is dropped.
#[derive(Debug)]
pub struct CrashVfs {
    mount: Mount,
    layer: Layer,
}

impl CrashVfs {
    /// SQLite's view of this file system, with [`UNIX_CHARACTERISTICS`].
    pub fn new(fs: &CrashFs) -> CrashVfs {
        let layer = Layer { characteristics: UNIX_CHARACTERISTICS, syncs_data_only: false };
        CrashVfs { mount: Mount::new(fs), layer }
    }

    /// What the disk is said to promise: a set of `SQLITE_IOCAP_` flags. The file system keeps none
    /// but that of [`UNIX_CHARACTERISTICS`], so that others are lies.
    #[must_use]
    pub fn with_characteristics(self, characteristics: c_int) -> CrashVfs {
        CrashVfs { layer: Layer { characteristics, ..self.layer }, ..self }
    }

    /// `fdatasync` in the place of `fsync`, as a SQLite that is built with `HAVE_FDATASYNC` does.
    #[must_use]
    pub fn with_fdatasync(self) -> CrashVfs {
        CrashVfs { layer: Layer { syncs_data_only: true, ..self.layer }, ..self }
    }

    /// Opens a database, and creates it if it does not exist.
    ///
    /// # Errors
    /// Those of SQLite: `SQLITE_BUSY` while another connection to it is open.
    pub fn connect(&self, path: &str) -> rusqlite::Result<Connection> {
        let vfs = vfs::name_of(self.layer);
        let path = self.mount.path(path);
        let db = Connection::open_with_flags_and_vfs(path, OpenFlags::default(), vfs)?;
        db.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(db)
    }
}
