//! rusty-leveldb over the file system of a crash test.
//!
//! ```
//! use rusty_leveldb::DB;
//! use stormglass_crash_leveldb::options;
//! use stormglass_crash_test::CrashFs;
//!
//! # fn main() -> rusty_leveldb::Result<()> {
//! let fs = CrashFs::default();
//! let mut db = DB::open("db", options(&fs))?;
//! db.put(b"key", b"value")?;
//! # Ok(())
//! # }
//! ```
//!
//! The [`CrashEnv`] asks the file system for what rusty-leveldb's `PosixDiskEnv` asks the kernel
//! for. That has files of `std` as writers, whose `flush` does nothing: no file is ever synced.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rusty_leveldb::env::{Env, FileLock, Logger, RandomAccess};
use rusty_leveldb::{Options, Result};
use stormglass_crash_test::{CrashFile, CrashFs};

/// The default options of the engine, over this file system.
pub fn options(fs: &CrashFs) -> Options {
    let env: Box<dyn Env> = Box::new(CrashEnv(fs.clone()));
    Options { env: Rc::new(env), ..Options::default() }
}

/// The files of a database. Locks are granted always, as a test opens a database once.
#[derive(Clone, Debug)]
pub struct CrashEnv(CrashFs);

impl CrashEnv {
    /// All paths are in this file system.
    pub fn new(fs: &CrashFs) -> CrashEnv {
        CrashEnv(fs.clone())
    }
}

fn path_of(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

impl Env for CrashEnv {
    fn open_sequential_file(&self, path: &Path) -> Result<Box<dyn Read>> {
        Ok(Box::new(io::Cursor::new(self.0.read(path_of(path)?)?)))
    }

    fn open_random_access_file(&self, path: &Path) -> Result<Box<dyn RandomAccess>> {
        Ok(Box::new(Reader(self.0.open(path_of(path)?)?)))
    }

    fn open_writable_file(&self, path: &Path) -> Result<Box<dyn Write>> {
        Ok(Box::new(Writer(self.0.create(path_of(path)?)?)))
    }

    fn open_appendable_file(&self, path: &Path) -> Result<Box<dyn Write>> {
        Ok(Box::new(Writer(self.0.open_or_create(path_of(path)?)?)))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        Ok(self.0.exists(path_of(path)?))
    }

    fn children(&self, path: &Path) -> Result<Vec<PathBuf>> {
        Ok(self.0.read_dir(path_of(path)?)?.into_iter().map(PathBuf::from).collect())
    }

    fn size_of(&self, path: &Path) -> Result<usize> {
        Ok(self.0.open(path_of(path)?)?.len() as usize)
    }

    fn delete(&self, path: &Path) -> Result<()> {
        Ok(self.0.remove_file(path_of(path)?)?)
    }

    fn mkdir(&self, path: &Path) -> Result<()> {
        match self.0.create_dir(path_of(path)?) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            created => Ok(created?),
        }
    }

    fn rmdir(&self, path: &Path) -> Result<()> {
        Ok(self.0.remove_dir(path_of(path)?)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        Ok(self.0.rename(path_of(from)?, path_of(to)?)?)
    }

    fn lock(&self, path: &Path) -> Result<FileLock> {
        let id = path_of(path)?.to_string();
        self.0.create(&id)?;
        Ok(FileLock { id })
    }

    fn unlock(&self, _: FileLock) -> Result<()> {
        Ok(())
    }

    /// Its messages go nowhere: they are no data.
    fn new_logger(&self, _: &Path) -> Result<Logger> {
        Ok(Logger::new(Box::new(io::sink())))
    }

    /// The time stands still: a record is a function of the workload.
    fn micros(&self) -> u64 {
        0
    }

    fn sleep_for(&self, _: u32) {}
}

struct Reader(CrashFile);

impl RandomAccess for Reader {
    fn read_at(&self, at: usize, buffer: &mut [u8]) -> Result<usize> {
        Ok(self.0.read_at(at as u64, buffer))
    }
}

struct Writer(CrashFile);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)?;
        Ok(bytes.len())
    }

    /// As that of a file of `std`, which the engine has in its own layer.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
