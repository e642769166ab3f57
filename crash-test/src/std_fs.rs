//! The names of [`std::fs`], for engines without a layer of their own for files.
//!
//! An engine uses this module in the place of `std::fs`, and gets paths below a [`Mount`]: these
//! lead to a [`CrashFs`], from every thread. A path that is below no mount is an error; nothing
//! here touches a real file.
//!
//! ```
//! use std::io::Write;
//! use stormglass_crash_test::CrashFs;
//! // In the engine: `use std::fs;` becomes
//! use stormglass_crash_test::std_fs as fs;
//!
//! # fn main() -> std::io::Result<()> {
//! let disk = CrashFs::default();
//! let mount = fs::Mount::new(&disk);
//! let path = mount.path("data/log");
//! fs::create_dir_all(mount.path("data"))?;
//! let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
//! file.write_all(b"record")?;
//! file.sync_all()?;
//! fs::File::open(mount.path("data"))?.sync_all()?; // A directory, as on Unix.
//! assert_eq!(fs::read(&path)?, b"record");
//! # Ok(())
//! # }
//! ```
//!
//! # What remains by hand
//!
//! - `Path::exists`, `is_file`, `is_dir`, `metadata` and `read_dir` ask the real file system: write
//!   [`exists`]`(path)` and so on.
//! - Locks of files are always granted: a test opens an engine once, and a crash ends all locks.
//!   Locks of other crates (`fs2`, `fs4`, `libc::flock`) take a real file: leave them out.
//! - Temporary files of other crates (`tempfile`): name one here, and rename it.
//! - Memory maps: use what the engine has for machines without them, or read the file.
//! - Files by descriptor (`libc`, `rustix`, `nix`, `O_DIRECT`, `sync_file_range`): use [`File`].

mod file;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use file::{File, OpenOptions};

use crate::CrashFs;

/// The mounted file systems.
struct Mounts {
    /// Numbers are not used again: a thread that an engine has left behind must not write into the
    /// file system of a later run.
    last: u32,
    mounted: BTreeMap<u32, CrashFs>,
}

static MOUNTS: Mutex<Mounts> = Mutex::new(Mounts { last: 0, mounted: BTreeMap::new() });

const PREFIX: &str = "/crash-fs";

/// Gives paths to a file system, until it is dropped.
///
/// Open files outlive it. All paths have the same length, as an engine may write them into its
/// files.
#[derive(Debug)]
pub struct Mount {
    number: u32,
    root: PathBuf,
}

impl Mount {
    /// Mounts a file system, at a path that no other has.
    pub fn new(fs: &CrashFs) -> Mount {
        let mut mounts = MOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        mounts.last += 1;
        let number = mounts.last;
        mounts.mounted.insert(number, fs.clone());
        Mount { number, root: format!("{PREFIX}/{number:010}").into() }
    }

    /// The path of its root directory, which exists.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a file or directory in it.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let mut mounts = MOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
        mounts.mounted.remove(&self.number);
    }
}

/// The file system to which a path leads, and the path in it: for adapters to interfaces that pass
/// nothing but paths.
///
/// # Errors
/// `InvalidInput` for a path below no mount, one that is not UTF-8, and `..`; `NotFound` if the
/// [`Mount`] has been dropped.
pub fn resolve(path: impl AsRef<Path>) -> io::Result<(CrashFs, String)> {
    let path = path.as_ref();
    let Some((number, rest)) = split(path) else {
        let reason = format!(
            "{}: not in a crash file system: open the engine at a path that Mount::path returns",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    };
    let mounts = MOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    match mounts.mounted.get(&number) {
        Some(fs) => Ok((fs.clone(), rest)),
        None => {
            let reason = format!("{}: its crash file system is not mounted", path.display());
            Err(io::Error::new(io::ErrorKind::NotFound, reason))
        }
    }
}

/// The number of the mount, and the path below it.
fn split(path: &Path) -> Option<(u32, String)> {
    let path = path.strip_prefix(PREFIX).ok()?;
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str()?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    let (number, names) = names.split_first()?;
    Some((number.parse().ok()?, names.join("/")))
}

/// Two paths in one file system.
fn resolve_both(from: &Path, to: &Path) -> io::Result<(CrashFs, String, String)> {
    let (fs, from) = resolve(from)?;
    let (other, to) = resolve(to)?;
    if !fs.is_same(&other) {
        return Err(io::ErrorKind::CrossesDevices.into());
    }
    Ok((fs, from, to))
}

/// What is known about a file or directory.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    len: u64,
    is_dir: bool,
}

impl Metadata {
    /// The length in bytes; 0 for a directory.
    #[expect(clippy::len_without_is_empty, reason = "as in std")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        !self.is_dir
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.is_dir
    }

    /// Which of both it is.
    pub fn file_type(&self) -> FileType {
        FileType { is_dir: self.is_dir }
    }
}

/// File or directory: there are no symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileType {
    is_dir: bool,
}

impl FileType {
    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        !self.is_dir
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.is_dir
    }

    /// Whether it is a symbolic link: never.
    pub fn is_symlink(&self) -> bool {
        false
    }
}

/// An entry of a directory.
#[derive(Clone, Debug)]
pub struct DirEntry {
    path: PathBuf,
    name: String,
}

impl DirEntry {
    /// The path of the directory with the name of the entry.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The name.
    pub fn file_name(&self) -> OsString {
        self.name.clone().into()
    }

    /// As [`metadata`].
    ///
    /// # Errors
    /// As [`metadata`].
    pub fn metadata(&self) -> io::Result<Metadata> {
        metadata(&self.path)
    }

    /// Whether it is a file or a directory.
    ///
    /// # Errors
    /// As [`metadata`].
    pub fn file_type(&self) -> io::Result<FileType> {
        Ok(metadata(&self.path)?.file_type())
    }
}

/// The entries of a directory, in the order of their names.
#[derive(Debug)]
pub struct ReadDir(std::vec::IntoIter<DirEntry>);

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(Ok)
    }
}

/// As [`std::fs::read_dir`].
///
/// # Errors
/// Those of [`CrashFs::read_dir`] and [`resolve`].
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let dir = path.as_ref();
    let (fs, inner) = resolve(dir)?;
    let mut entries = Vec::new();
    for name in fs.read_dir(&inner)? {
        entries.push(DirEntry { path: dir.join(&name), name });
    }
    Ok(ReadDir(entries.into_iter()))
}

/// As [`std::fs::metadata`].
///
/// # Errors
/// Those of [`CrashFs::open`] and [`resolve`].
pub fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    let (fs, path) = resolve(path)?;
    match fs.open(&path) {
        Ok(file) => Ok(Metadata { len: file.len(), is_dir: false }),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            Ok(Metadata { len: 0, is_dir: true })
        }
        Err(error) => Err(error),
    }
}

/// As [`metadata`]: there are no symbolic links.
///
/// # Errors
/// As [`metadata`].
pub fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    metadata(path)
}

/// As [`std::fs::exists`], but without an error, for the place of `Path::exists`.
pub fn exists(path: impl AsRef<Path>) -> bool {
    metadata(path).is_ok()
}

/// The path itself, if it exists: there are no symbolic links.
///
/// # Errors
/// As [`metadata`].
pub fn canonicalize(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    metadata(&path)?;
    Ok(path.as_ref().to_path_buf())
}

/// As [`std::fs::create_dir`].
///
/// # Errors
/// Those of [`CrashFs::create_dir`] and [`resolve`].
pub fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    let (fs, path) = resolve(path)?;
    fs.create_dir(&path)
}

/// As [`std::fs::create_dir_all`].
///
/// # Errors
/// As [`create_dir`].
pub fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let (fs, path) = resolve(path)?;
    let mut ends: Vec<_> = path.match_indices('/').map(|(end, _)| end).collect();
    ends.push(path.len());
    for end in ends {
        let dir = &path[..end];
        match fs.read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs.create_dir(dir)?,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory && end == path.len() => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// As [`std::fs::rename`].
///
/// # Errors
/// Those of [`CrashFs::rename`] and [`resolve`]; `CrossesDevices` between two mounts.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (fs, from, to) = resolve_both(from.as_ref(), to.as_ref())?;
    fs.rename(&from, &to)
}

/// As [`std::fs::hard_link`].
///
/// # Errors
/// Those of [`CrashFs::hard_link`] and [`resolve`]; `CrossesDevices` between two mounts.
pub fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    let (fs, original, link) = resolve_both(original.as_ref(), link.as_ref())?;
    fs.hard_link(&original, &link)
}

/// As [`std::fs::remove_file`].
///
/// # Errors
/// Those of [`CrashFs::remove_file`] and [`resolve`].
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let (fs, path) = resolve(path)?;
    fs.remove_file(&path)
}

/// As [`std::fs::remove_dir`].
///
/// # Errors
/// Those of [`CrashFs::remove_dir`] and [`resolve`].
pub fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    let (fs, path) = resolve(path)?;
    fs.remove_dir(&path)
}

/// As [`std::fs::remove_dir_all`].
///
/// # Errors
/// As [`read_dir`], [`remove_file`] and [`remove_dir`].
pub fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    for entry in read_dir(&path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_dir_all(entry.path())?;
        } else {
            remove_file(entry.path())?;
        }
    }
    remove_dir(path)
}

/// As [`std::fs::read`].
///
/// # Errors
/// Those of [`CrashFs::read`] and [`resolve`].
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let (fs, path) = resolve(path)?;
    fs.read(&path)
}

/// As [`std::fs::read_to_string`].
///
/// # Errors
/// As [`read`]; `InvalidData` if it is not UTF-8.
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// As [`std::fs::write`]: creates or empties the file, and syncs nothing.
///
/// # Errors
/// Those of [`CrashFs::create`] and [`resolve`].
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    File::create(path)?.write_all(bytes.as_ref())
}

/// As [`std::fs::copy`]: returns the number of bytes.
///
/// # Errors
/// As [`read`] and [`write()`].
pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let bytes = read(from)?;
    write(to, &bytes)?;
    Ok(bytes.len() as u64)
}
