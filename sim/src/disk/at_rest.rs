//! D13-D16: a disk that is not as its node left it, or cannot be read. A node without
//! replicas cannot restore what is missing, and must refuse to boot or report it.

use serde::{Deserialize, Serialize};
use stormglass_node::{DiskError, FileId, NodeId, ReadDisk, wal};

use super::Disk;
use super::damage::FileRole;
use super::survival::Survival;
use crate::ratio::Permille;

/// A file by its kind and age: a schedule keeps its meaning when a node numbers its files
/// differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChoice {
    /// The kind of file.
    pub role: FileRole,
    /// Which file of that kind: 0 is the one with the highest number, 1 the one before.
    pub nth_newest: u32,
}

/// D15: what a disk at rest has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FileLoss {
    /// The end of a file.
    Tail {
        /// The file, which keeps its name.
        file: FileChoice,
        /// Where it ends now.
        from: CutPlace,
    },
    /// A file and its name.
    File(FileChoice),
    /// Every file with one number, as snapshots and segments have it.
    Generation {
        /// 0 is the highest number, 1 the one before.
        nth_newest: u32,
    },
}

/// Where a file is cut, as a share of its length. At least one byte is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CutPlace {
    /// At the byte there.
    Byte(Permille),
    /// At the beginning of the frame of the write-ahead log that contains that byte, so that the
    /// file ends as if the rest had never been written. As `Byte` in a file without frames.
    Frame(Permille),
}

/// How a disk differs from what its node left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskChange {
    /// D13: it has the files of an earlier time.
    Restored {
        /// It is as this incarnation found it at its boot.
        incarnation: u32,
    },
    /// D13: it has the files of another node.
    OfNode(NodeId),
    /// D14: it has no files.
    Emptied,
    /// D15: a file is shorter.
    CutShort {
        /// The file.
        file: FileId,
        /// Its length now, in bytes.
        len: u64,
        /// How many bytes are gone, 1 or more.
        lost: u64,
    },
    /// D15: these files are gone, in ascending order.
    Lost(Vec<FileId>),
}

/// D13, D14.
impl Disk {
    /// A backup: the files as a program reads them now, everything in it durable. What a failed
    /// sync has left in the page cache only (D7) is part of it.
    pub fn backup(&self) -> Disk {
        Disk { files: self.files.as_read(), ..Disk::default() }
    }

    /// D13: replaces the files by those of a backup. Whether that changes anything; a backup
    /// without files is not restored, as that is D14.
    pub fn restore(&mut self, backup: &Disk) -> bool {
        let changes = !backup.files().is_empty() && !self.has_files_of(backup);
        if changes {
            self.clone_from(backup);
        }
        changes
    }

    /// D14: all files are gone. `None` if there are none.
    pub fn empty(&mut self) -> Option<DiskChange> {
        if self.files().is_empty() {
            return None;
        }
        self.reset();
        Some(DiskChange::Emptied)
    }

    fn has_files_of(&self, other: &Disk) -> bool {
        let files = self.files();
        files == other.files() && files.iter().all(|file| self.read(*file) == other.read(*file))
    }

    /// The machine has been idle: what was in the page cache is on the platter. Otherwise a kill
    /// would leave unsynced operations that refer to bytes and names which are to disappear.
    fn write_back(&mut self) {
        self.power_cut(&Survival::All);
    }
}

/// D15.
impl Disk {
    /// D15: loses files, or the end of one. `None` if there is no such file, or nothing in it.
    pub fn lose(&mut self, loss: &FileLoss) -> Option<DiskChange> {
        self.write_back();
        match *loss {
            FileLoss::Tail { file, from } => self.cut_short(self.find(file)?, from),
            FileLoss::File(file) => {
                let file = self.find(file)?;
                self.remove_at_rest(&[file]);
                Some(DiskChange::Lost(vec![file]))
            }
            FileLoss::Generation { nth_newest } => {
                let lost = self.generation(nth_newest);
                self.remove_at_rest(&lost);
                (!lost.is_empty()).then_some(DiskChange::Lost(lost))
            }
        }
    }

    fn cut_short(&mut self, file: FileId, from: CutPlace) -> Option<DiskChange> {
        let len = self.len(file)? as usize;
        // At most the last byte, so that the cut changes something.
        let last = len.checked_sub(1)?;
        let at = match from {
            CutPlace::Byte(share) => share.of(len).min(last),
            CutPlace::Frame(share) => self.frame_start(file, share.of(len).min(last)),
        };
        self.files.cut_at_rest(file, at);
        Some(DiskChange::CutShort { file, len: at as u64, lost: (len - at) as u64 })
    }

    /// The beginning of the last frame that begins at `at` or before; `at` if there is none.
    fn frame_start(&self, file: FileId, at: usize) -> usize {
        let frames = wal::scan_frames(self).unwrap_or_default();
        let starts = frames.iter().filter(|frame| frame.file == file).map(|frame| frame.at);
        let before = starts.filter(|start| *start <= at as u64);
        before.max().map_or(at, |start| start as usize)
    }

    fn remove_at_rest(&mut self, files: &[FileId]) {
        for file in files {
            self.files.remove_at_rest(*file, &self.pending);
        }
    }

    /// The files with the `nth_newest` number.
    fn generation(&self, nth_newest: u32) -> Vec<FileId> {
        let mut numbers: Vec<u32> = self.files().into_iter().filter_map(file_number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let Some(number) = numbers.into_iter().rev().nth(nth_newest as usize) else {
            return Vec::new();
        };
        let mut files = self.files();
        files.retain(|file| file_number(*file) == Some(number));
        files
    }
}

/// D16.
impl Disk {
    /// The file that a node finds for this choice.
    pub fn find(&self, choice: FileChoice) -> Option<FileId> {
        let newest_first = self.files().into_iter().rev();
        let mut of_role = newest_first.filter(|file| FileRole::of(*file) == choice.role);
        of_role.nth(choice.nth_newest as usize)
    }

    /// D16: the same files, of which one cannot be read: a read of it fails with
    /// [`DiskError::Io`].
    pub fn with_unreadable(&self, file: FileId) -> impl ReadDisk + '_ {
        WithUnreadable { disk: self, file }
    }
}

struct WithUnreadable<'a> {
    disk: &'a Disk,
    file: FileId,
}

impl ReadDisk for WithUnreadable<'_> {
    fn files(&self) -> Vec<FileId> {
        self.disk.files()
    }

    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
        let bytes = self.disk.read(file)?;
        // Only a file that exists can be unreadable.
        if file == self.file && bytes.is_some() { Err(DiskError::Io) } else { Ok(bytes) }
    }
}

impl DiskChange {
    /// A number for fingerprints: what has changed, and how much.
    pub(crate) fn digest(&self) -> u64 {
        // The kind lies above every number of an incarnation, a byte or a file.
        match self {
            DiskChange::Restored { incarnation } => (1 << 48) | u64::from(*incarnation),
            DiskChange::Emptied => 2 << 48,
            DiskChange::CutShort { len, .. } => (3 << 48) | *len,
            DiskChange::Lost(files) => (4 << 48) | files.len() as u64,
            DiskChange::OfNode(node) => (5 << 48) | u64::from(node.0),
        }
    }
}

impl std::fmt::Display for DiskChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DiskChange::Restored { incarnation } => {
                write!(f, "the files are those that incarnation {incarnation} found at its boot")
            }
            DiskChange::OfNode(node) => write!(f, "the files are those of {node}"),
            DiskChange::Emptied => f.write_str("all files are gone"),
            DiskChange::CutShort { file, len, lost } => {
                write!(f, "{file} ends at byte {len}, {lost} B are gone")
            }
            DiskChange::Lost(files) => {
                let names: Vec<String> = files.iter().map(ToString::to_string).collect();
                write!(f, "gone: {}", names.join(", "))
            }
        }
    }
}

/// The number of a file; the scratch file has none.
fn file_number(file: FileId) -> Option<u32> {
    match file {
        FileId::Wal(number) | FileId::Snapshot(number) => Some(number),
        FileId::Scratch => None,
    }
}
