//! Files and directories: what a process sees, and what an image contains.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::op::Op;

/// The name of an entry in a directory.
pub(crate) type Name = Arc<str>;

/// A file or directory, whatever its names are. Prints as `#3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode(pub(crate) u32);

impl fmt::Display for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The directory at the top.
pub(crate) const ROOT: Inode = Inode(0);

/// The contents of an inode. Shared, so that images with the same file share its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    File(Arc<Vec<u8>>),
    Dir(Arc<BTreeMap<Name, Inode>>),
}

/// A whole file system. Inodes without a name remain: open files outlive their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    inodes: Vec<Contents>,
}

impl Default for Tree {
    fn default() -> Self {
        Tree { inodes: vec![Contents::Dir(Arc::default())] }
    }
}

impl Tree {
    pub(crate) fn next_inode(&self) -> Inode {
        Inode(u32::try_from(self.inodes.len()).expect("fewer than 2^32 inodes"))
    }

    fn contents(&self, inode: Inode) -> &Contents {
        &self.inodes[inode.0 as usize]
    }

    /// The bytes of a file; `None` for a directory.
    pub(crate) fn file(&self, inode: Inode) -> Option<&Vec<u8>> {
        match self.contents(inode) {
            Contents::File(bytes) => Some(bytes),
            Contents::Dir(_) => None,
        }
    }

    pub(crate) fn dir(&self, inode: Inode) -> Option<&BTreeMap<Name, Inode>> {
        match self.contents(inode) {
            Contents::File(_) => None,
            Contents::Dir(entries) => Some(entries),
        }
    }

    /// The bytes of a file, to be changed.
    ///
    /// # Panics
    /// If it is a directory: the file system has checked that.
    pub(crate) fn file_mut(&mut self, inode: Inode) -> &mut Vec<u8> {
        match &mut self.inodes[inode.0 as usize] {
            Contents::File(bytes) => Arc::make_mut(bytes),
            Contents::Dir(_) => panic!("{inode} is a directory"),
        }
    }

    fn dir_mut(&mut self, inode: Inode) -> &mut BTreeMap<Name, Inode> {
        match &mut self.inodes[inode.0 as usize] {
            Contents::Dir(entries) => Arc::make_mut(entries),
            Contents::File(_) => panic!("{inode} is a file"),
        }
    }

    pub(crate) fn set_name(&mut self, dir: Inode, name: &Name, inode: Inode) {
        self.dir_mut(dir).insert(name.clone(), inode);
    }

    pub(crate) fn remove_name(&mut self, dir: Inode, name: &str) {
        self.dir_mut(dir).remove(name);
    }

    /// An inode without a name yet. Numbers are those of the record, so that an image has the same.
    pub(crate) fn add(&mut self, inode: Inode, is_dir: bool) {
        while self.inodes.len() <= inode.0 as usize {
            self.inodes.push(Contents::File(Arc::default()));
        }
        if is_dir {
            self.inodes[inode.0 as usize] = Contents::Dir(Arc::default());
        }
    }

    pub(crate) fn write(&mut self, file: Inode, at: u64, bytes: &[u8]) {
        let contents = self.file_mut(file);
        let start = usize::try_from(at).expect("a file fits into memory");
        let end = start + bytes.len();
        if contents.len() < end {
            contents.resize(end, 0);
        }
        contents[start..end].copy_from_slice(bytes);
    }

    pub(crate) fn set_len(&mut self, file: Inode, len: u64) {
        self.file_mut(file).resize(usize::try_from(len).expect("a file fits into memory"), 0);
    }

    /// What a process sees after this operation. The file system has checked that it is possible.
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::CreateFile { dir, name, file } => {
                self.add(*file, false);
                self.set_name(*dir, name, *file);
            }
            Op::CreateDir { parent, name, dir } => {
                self.add(*dir, true);
                self.set_name(*parent, name, *dir);
            }
            Op::Link { dir, name, file } => self.set_name(*dir, name, *file),
            Op::Write { file, at, bytes } => self.write(*file, *at, bytes),
            Op::SetLen { file, len } => self.set_len(*file, *len),
            Op::Rename { from, to, moved, .. } => {
                self.remove_name(from.0, &from.1);
                self.set_name(to.0, &to.1, *moved);
            }
            Op::Remove { dir, name, .. } => self.remove_name(*dir, name),
            Op::SyncData { .. }
            | Op::SyncAll { .. }
            | Op::SyncDir { .. }
            | Op::SyncFailed { .. }
            | Op::Begin(_)
            | Op::Acknowledge(_) => {}
        }
    }

    /// Finds a path of names separated by `/`, from the root. Empty parts and `.` are skipped.
    ///
    /// # Errors
    /// `NotFound` if an entry is missing, `NotADirectory` if a file is used as a directory.
    pub(crate) fn find(&self, path: &str) -> io::Result<Inode> {
        let mut inode = ROOT;
        for part in parts(path) {
            let entries = self.dir(inode).ok_or(io::ErrorKind::NotADirectory)?;
            inode = *entries.get(part).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(inode)
    }

    /// The directory and the name of a path, whether or not an entry has it.
    ///
    /// # Errors
    /// As [`find`](Self::find), for the directory; `InvalidInput` for the root itself.
    pub(crate) fn find_parent(&self, path: &str) -> io::Result<(Inode, Name)> {
        let names: Vec<_> = parts(path).collect();
        let (name, parents) = names.split_last().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.find(&parents.join("/"))?;
        if self.dir(dir).is_none() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok((dir, Name::from(*name)))
    }

    /// Every file that has a name, as path and bytes, in order.
    pub(crate) fn files(&self) -> Vec<(String, &[u8])> {
        let mut files = Vec::new();
        self.walk(ROOT, String::new(), &mut |path, contents| {
            if let Contents::File(bytes) = contents {
                files.push((path, bytes.as_slice()));
            }
        });
        files
    }

    /// Calls `visit` with every path but the root, in order.
    fn walk<'a>(&'a self, dir: Inode, prefix: String, visit: &mut dyn FnMut(String, &'a Contents)) {
        let Some(entries) = self.dir(dir) else { return };
        for (name, inode) in entries {
            let path =
                if prefix.is_empty() { name.to_string() } else { format!("{prefix}/{name}") };
            visit(path.clone(), self.contents(*inode));
            self.walk(*inode, path, visit);
        }
    }

    /// Paths and contents, without inodes that have no name: equal images are equal here.
    pub(crate) fn reachable(&self) -> Vec<(String, Contents)> {
        let mut all = Vec::new();
        self.walk(ROOT, String::new(), &mut |path, contents| {
            let contents = match contents {
                Contents::File(bytes) => Contents::File(Arc::clone(bytes)),
                // Its entries follow as paths of their own, and its inodes do not matter.
                Contents::Dir(_) => Contents::Dir(Arc::default()),
            };
            all.push((path, contents));
        });
        all
    }
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}
