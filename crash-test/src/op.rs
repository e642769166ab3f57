//! The operations of a file system, as they are recorded.

use std::fmt;
use std::sync::Arc;

use crate::tree::{Inode, Name};

/// One recorded operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Op {
    CreateFile {
        dir: Inode,
        name: Name,
        file: Inode,
    },
    CreateDir {
        parent: Inode,
        name: Name,
        dir: Inode,
    },
    /// A second name of a file.
    Link {
        dir: Inode,
        name: Name,
        file: Inode,
    },
    Write {
        file: Inode,
        at: u64,
        bytes: Arc<[u8]>,
    },
    SetLen {
        file: Inode,
        len: u64,
    },
    /// An entry of the new name is replaced.
    Rename {
        from: (Inode, Name),
        to: (Inode, Name),
        moved: Inode,
        replaced: Option<Inode>,
    },
    Remove {
        dir: Inode,
        name: Name,
        removed: Inode,
    },
    /// `fdatasync` of a file.
    SyncData {
        file: Inode,
    },
    /// `fsync` of a file.
    SyncAll {
        file: Inode,
    },
    /// `fsync` of a directory.
    SyncDir {
        dir: Inode,
    },
    /// A sync of this file or directory that reported an error.
    SyncFailed {
        inode: Inode,
    },
    /// The workload begins a commit.
    Begin(u64),
    /// The engine has acknowledged a commit.
    Acknowledge(u64),
}

impl Op {
    /// Whether it is a successful sync.
    pub(crate) fn is_sync(&self) -> bool {
        matches!(self, Op::SyncData { .. } | Op::SyncAll { .. } | Op::SyncDir { .. })
    }

    /// Whether it is one of the file system, and not a mark of the workload.
    pub(crate) fn is_of_file_system(&self) -> bool {
        !matches!(self, Op::Begin(_) | Op::Acknowledge(_))
    }
}

/// A line of a report.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::CreateFile { name, file, .. } => write!(f, "create {name} ({file})"),
            Op::CreateDir { name, dir, .. } => write!(f, "create directory {name} ({dir})"),
            Op::Link { name, file, .. } => write!(f, "link {name} to {file}"),
            Op::Write { file, at, bytes } => write!(f, "write {} B to {file} at {at}", bytes.len()),
            Op::SetLen { file, len } => write!(f, "set length of {file} to {len} B"),
            Op::Rename { from, to, moved, .. } => {
                write!(f, "rename {} to {} ({moved})", from.1, to.1)
            }
            Op::Remove { name, removed, .. } => write!(f, "remove {name} ({removed})"),
            Op::SyncData { file } => write!(f, "fdatasync {file}"),
            Op::SyncAll { file } => write!(f, "fsync {file}"),
            Op::SyncDir { dir } => write!(f, "fsync directory {dir}"),
            Op::SyncFailed { inode } => write!(f, "fsync {inode} FAILED"),
            Op::Begin(commit) => write!(f, "begin commit {commit}"),
            Op::Acknowledge(commit) => write!(f, "acknowledge commit {commit}"),
        }
    }
}
