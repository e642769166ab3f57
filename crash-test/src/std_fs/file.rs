//! Open files with a position, as those of `std::fs`.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Metadata, resolve};
use crate::{CrashFile, CrashFs};

/// As [`std::fs::OpenOptions`].
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
}

impl OpenOptions {
    /// With nothing chosen.
    pub fn new() -> OpenOptions {
        OpenOptions::default()
    }

    /// Whether the file may be read.
    pub fn read(&mut self, read: bool) -> &mut Self {
        self.read = read;
        self
    }

    /// Whether the file may be written.
    pub fn write(&mut self, write: bool) -> &mut Self {
        self.write = write;
        self
    }

    /// Whether each write goes to the end of the file.
    pub fn append(&mut self, append: bool) -> &mut Self {
        self.append = append;
        self
    }

    /// Whether the contents are removed. Needs `write`.
    pub fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.truncate = truncate;
        self
    }

    /// Whether the file is created if it does not exist. Needs `write` or `append`.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Whether the file is created, and must not exist yet. Needs `write` or `append`.
    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    /// Opens a file, or, to be read and synced, a directory.
    ///
    /// # Errors
    /// Those of [`CrashFs::open`], [`CrashFs::create`], [`CrashFs::create_new`] and
    /// [`resolve`]; `InvalidInput` for options that exclude each other.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        self.check()?;
        let (fs, path) = resolve(path)?;
        let opened = if self.create_new {
            fs.create_new(&path)
        } else if self.create {
            fs.open_or_create(&path)
        } else {
            fs.open(&path)
        };
        let is_writable = self.write || self.append;
        let target = match opened {
            Ok(file) => Target::File(file),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory && !is_writable => {
                Target::Dir(fs, path)
            }
            Err(error) => return Err(error),
        };
        let file = File {
            target,
            // Of both, `std` lets a file for appending be written only.
            is_readable: self.read,
            is_writable,
            appends: self.append,
            position: Arc::default(),
        };
        if self.truncate {
            file.set_len(0)?;
        }
        Ok(file)
    }

    /// As `std` does it before it asks the system.
    fn check(&self) -> io::Result<()> {
        let creates = self.create || self.create_new;
        let is_possible = match (self.write, self.append) {
            (true, false) => true,
            (false, false) => self.read && !self.truncate && !creates,
            (_, true) => !self.truncate || self.create_new,
        };
        if is_possible { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }
}

/// As [`std::fs::File`], with the methods of `std::os::unix::fs::FileExt`.
#[derive(Debug)]
pub struct File {
    target: Target,
    is_readable: bool,
    is_writable: bool,
    appends: bool,
    /// Handles that `try_clone` makes have one position, as on Unix.
    position: Arc<Mutex<u64>>,
}

#[derive(Clone, Debug)]
enum Target {
    File(CrashFile),
    Dir(CrashFs, String),
}

/// Names that `std::fs::File` has.
impl File {
    /// Opens a file for reading, or a directory.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).open(path)
    }

    /// Opens a file for writing, and creates or empties it.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub fn create(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    /// Creates a file, which must not exist, for reading and writing.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub fn create_new(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    /// As [`OpenOptions::new`].
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// `fsync`, of a file or a directory.
    ///
    /// # Errors
    /// Those of [`CrashFile::sync_all`] and [`CrashFs::sync_dir`].
    pub fn sync_all(&self) -> io::Result<()> {
        match &self.target {
            Target::File(file) => file.sync_all(),
            Target::Dir(fs, path) => fs.sync_dir(path),
        }
    }

    /// `fdatasync`; of a directory, `fsync`.
    ///
    /// # Errors
    /// Those of [`CrashFile::sync_data`] and [`CrashFs::sync_dir`].
    pub fn sync_data(&self) -> io::Result<()> {
        match &self.target {
            Target::File(file) => file.sync_data(),
            Target::Dir(fs, path) => fs.sync_dir(path),
        }
    }

    /// Cuts the file off, or extends it with zeros. The position stays.
    ///
    /// # Errors
    /// Those of [`CrashFile::set_len`]; `InvalidInput` if the file is not open for writing.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        if !self.is_writable {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.file()?.set_len(len)
    }

    /// As [`metadata`](super::metadata).
    ///
    /// # Errors
    /// None.
    pub fn metadata(&self) -> io::Result<Metadata> {
        Ok(match &self.target {
            Target::File(file) => Metadata { len: file.len(), is_dir: false },
            Target::Dir(..) => Metadata { len: 0, is_dir: true },
        })
    }

    /// A second handle with the same position.
    ///
    /// # Errors
    /// None.
    pub fn try_clone(&self) -> io::Result<File> {
        Ok(File {
            target: self.target.clone(),
            position: Arc::clone(&self.position),
            is_readable: self.is_readable,
            is_writable: self.is_writable,
            appends: self.appends,
        })
    }

    /// Reads at an offset, and leaves the position.
    ///
    /// # Errors
    /// `EBADF` if the file is not open for reading; `IsADirectory`.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let file = self.file()?;
        if self.is_readable { Ok(file.read_at(offset, buffer)) } else { Err(bad_descriptor()) }
    }

    /// Fills the buffer from an offset on.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at); `UnexpectedEof`.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_at(buffer, offset)? < buffer.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Writes at an offset; of a file for appending, at its end, as Linux does.
    ///
    /// # Errors
    /// Those of [`CrashFile::write_at`]; `EBADF` if the file is not open for writing.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let file = self.writable()?;
        let offset = if self.appends { file.len() } else { offset };
        file.write_at(offset, bytes)?;
        Ok(bytes.len())
    }

    /// As [`write_at`](Self::write_at), which writes all bytes.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset).map(|_| ())
    }

    /// Granted always; see the [module](super).
    ///
    /// # Errors
    /// None.
    pub fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    /// Granted always.
    ///
    /// # Errors
    /// None.
    pub fn lock_shared(&self) -> io::Result<()> {
        Ok(())
    }

    /// Nothing is locked.
    ///
    /// # Errors
    /// None.
    pub fn unlock(&self) -> io::Result<()> {
        Ok(())
    }
}

impl File {
    fn file(&self) -> io::Result<&CrashFile> {
        match &self.target {
            Target::File(file) => Ok(file),
            Target::Dir(..) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn writable(&self) -> io::Result<&CrashFile> {
        if self.is_writable { self.file() } else { Err(bad_descriptor()) }
    }

    fn position(&self) -> MutexGuard<'_, u64> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bad_descriptor() -> io::Error {
    const EBADF: i32 = 9;
    io::Error::from_raw_os_error(EBADF)
}

impl Read for &File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut position = self.position();
        let len = self.read_at(buffer, *position)?;
        *position += len as u64;
        Ok(len)
    }
}

impl Write for &File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut position = self.position();
        let start = if self.appends { self.writable()?.len() } else { *position };
        let len = self.write_at(bytes, start)?;
        *position = start + len as u64;
        Ok(len)
    }

    /// Nothing is buffered here, as in `std`: a flush makes nothing durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let mut position = self.position();
        let target = match to {
            SeekFrom::Start(target) => Some(target),
            SeekFrom::Current(offset) => position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.file()?.len().checked_add_signed(offset),
        };
        *position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(*position)
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self).seek(to)
    }
}
