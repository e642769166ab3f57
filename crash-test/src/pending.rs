//! What is durable, and what is not yet: the operations of a record, split into the parts that
//! survive a crash each on its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::SECTOR_BYTES;
use crate::op::Op;
use crate::profile::Profile;
use crate::tree::{Inode, Name, Tree};

/// A part of an operation that is not durable yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The index of the operation in the record.
    pub op: usize,
    pub change: Change,
    /// A sync of it has failed: no later sync makes it durable (*fsync failures*).
    pub abandoned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A sector of a file as the page cache has it after the operation: one that survives contains
    /// what earlier operations have written to it.
    Sector {
        file: Inode,
        number: usize,
        bytes: Arc<[u8]>,
    },
    /// A file has this length.
    Size {
        file: Inode,
        len: usize,
        /// Extended by a write, beyond the blocks that have a place on the disk: the length reaches
        /// the disk with the data (`Profile::Ext4`).
        by_write: bool,
        shrinks: bool,
    },
    /// An entry is added, replacing one of the same name.
    Link {
        dir: Inode,
        name: Name,
        inode: Inode,
    },
    Unlink {
        dir: Inode,
        name: Name,
    },
    /// Both at once: a rename is atomic in one directory.
    Rename {
        from: (Inode, Name),
        to: (Inode, Name),
        moved: Inode,
        replaces: bool,
    },
}

impl Change {
    /// Whether a journal orders it.
    fn is_metadata(&self) -> bool {
        match self {
            Change::Sector { .. } => false,
            Change::Size { by_write, .. } => !by_write,
            Change::Link { .. } | Change::Unlink { .. } | Change::Rename { .. } => true,
        }
    }

    pub(crate) fn is_data(&self) -> bool {
        matches!(self, Change::Sector { .. })
    }

    pub(crate) fn is_name(&self) -> bool {
        matches!(self, Change::Link { .. } | Change::Unlink { .. } | Change::Rename { .. })
    }

    /// The file whose data or size it is.
    fn file(&self) -> Option<Inode> {
        match self {
            Change::Sector { file, .. } | Change::Size { file, .. } => Some(*file),
            Change::Link { .. } | Change::Unlink { .. } | Change::Rename { .. } => None,
        }
    }

    /// Whether it is an entry of this directory.
    fn is_in(&self, inode: Inode) -> bool {
        match self {
            Change::Sector { .. } | Change::Size { .. } => false,
            Change::Link { dir, .. } | Change::Unlink { dir, .. } => *dir == inode,
            Change::Rename { from, to, .. } => from.0 == inode || to.0 == inode,
        }
    }

    /// The length to which it cuts this file off.
    fn cuts(&self, of: Inode) -> Option<usize> {
        if let Change::Size { file, len, shrinks: true, .. } = self
            && *file == of
        {
            Some(*len)
        } else {
            None
        }
    }

    fn is_sector(&self, of: Inode, at: usize) -> bool {
        matches!(self, Change::Sector { file, number, .. } if *file == of && *number == at)
    }

    /// Whether it changes this entry of a directory.
    fn touches(&self, of: Inode, entry: &Name) -> bool {
        match self {
            Change::Sector { .. } | Change::Size { .. } => false,
            Change::Link { dir, name, .. } | Change::Unlink { dir, name } => {
                *dir == of && name == entry
            }
            Change::Rename { from, to, .. } => {
                [from, to].iter().any(|(dir, name)| *dir == of && name == entry)
            }
        }
    }

    /// Whether it gives this inode a name.
    fn names(&self, it: Inode) -> bool {
        match self {
            Change::Sector { .. } | Change::Size { .. } | Change::Unlink { .. } => false,
            Change::Link { inode, .. } => *inode == it,
            Change::Rename { moved, .. } => *moved == it,
        }
    }
}

impl Part {
    /// What of it may still reach the disk when a later change is durable.
    fn without(mut self, later: &Change) -> Option<Part> {
        self.change = match self.change {
            Change::Sector { file, number, .. } if later.is_sector(file, number) => return None,
            Change::Sector { file, number, bytes } => {
                // Pages behind a new end of the file are dropped.
                let len = later.cuts(file).unwrap_or(usize::MAX);
                let left = len.saturating_sub(number * SECTOR_BYTES).min(bytes.len());
                if left == 0 {
                    return None;
                }
                let bytes = if left < bytes.len() { bytes[..left].into() } else { bytes };
                Change::Sector { file, number, bytes }
            }
            Change::Link { dir, ref name, .. } | Change::Unlink { dir, ref name }
                if later.touches(dir, name) =>
            {
                return None;
            }
            Change::Rename { from, to, moved, replaces } => {
                match (later.touches(from.0, &from.1), later.touches(to.0, &to.1)) {
                    (true, true) => return None,
                    (true, false) => Change::Link { dir: to.0, name: to.1, inode: moved },
                    (false, true) => Change::Unlink { dir: from.0, name: from.1 },
                    (false, false) => Change::Rename { from, to, moved, replaces },
                }
            }
            Change::Size { .. } | Change::Link { .. } | Change::Unlink { .. } => self.change,
        };
        Some(self)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Change::Sector { file, number, bytes } => {
                let start = number * SECTOR_BYTES;
                write!(f, "bytes {start} to {} of {file}", start + bytes.len())?;
            }
            Change::Size { file, len, .. } => write!(f, "length {len} of {file}")?,
            Change::Link { name, inode, .. } => write!(f, "name {name} of {inode}")?,
            Change::Unlink { name, .. } => write!(f, "removal of {name}")?,
            Change::Rename { from, to, .. } => write!(f, "rename of {} to {}", from.1, to.1)?,
        }
        write!(f, " (operation {})", self.op)
    }
}

/// A disk while a record is replayed: what is durable, and what is not.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    profile: Profile,
    /// What processes see.
    seen: Tree,
    durable: Tree,
    pending: Vec<Part>,
    /// For each inode the last operations that changed it: `fsync` commits the journal up to them.
    last_change: Vec<usize>,
    /// The blocks of files that have a place on the disk, as their bytes have been written there.
    allocated: BTreeSet<(Inode, usize)>,
}

/// The unit in which ext4 allocates, by default.
const BLOCK_BYTES: usize = 4096;

impl Disk {
    /// A disk on which everything is durable.
    pub(crate) fn new(profile: Profile, tree: &Tree) -> Disk {
        Disk {
            profile,
            seen: tree.clone(),
            durable: tree.clone(),
            pending: Vec::new(),
            last_change: Vec::new(),
            allocated: BTreeSet::new(),
        }
    }

    pub(crate) fn pending(&self) -> &[Part] {
        &self.pending
    }

    /// Whether bytes that were never written may show below a length.
    pub(crate) fn shows_garbage(&self) -> bool {
        self.profile.shows_garbage()
    }

    pub(crate) fn seen(&self) -> &Tree {
        &self.seen
    }

    fn note_change(&mut self, inode: Inode, op: usize) {
        let at = inode.0 as usize;
        if self.last_change.len() <= at {
            self.last_change.resize(at + 1, 0);
        }
        self.last_change[at] = op;
    }

    fn last_change(&self, inode: Inode) -> usize {
        self.last_change.get(inode.0 as usize).copied().unwrap_or(0)
    }

    fn push(&mut self, op: usize, change: Change) {
        self.pending.push(Part { op, change, abandoned: false });
    }

    /// Performs the operation of this index of the record.
    pub(crate) fn perform(&mut self, index: usize, op: &Op) {
        let len_before = if let Op::Write { file, .. } | Op::SetLen { file, .. } = op {
            self.seen.file(*file).map_or(0, Vec::len)
        } else {
            0
        };
        self.seen.apply(op);
        match op {
            Op::CreateFile { dir, name, file } => {
                self.durable.add(*file, false);
                self.link(index, *dir, name, *file);
            }
            Op::CreateDir { parent, name, dir } => {
                self.durable.add(*dir, true);
                self.link(index, *parent, name, *dir);
            }
            Op::Link { dir, name, file } => self.link(index, *dir, name, *file),
            Op::Write { file, at, bytes } => self.write(index, *file, *at, bytes, len_before),
            Op::SetLen { file, len } => {
                let len = usize::try_from(*len).expect("a file fits into memory");
                let shrinks = len < len_before;
                self.push(index, Change::Size { file: *file, len, by_write: false, shrinks });
                self.note_change(*file, index);
            }
            Op::Rename { from, to, moved, replaced } => {
                self.rename(index, from, to, *moved, replaced.is_some());
            }
            Op::Remove { dir, name, removed } => {
                self.push(index, Change::Unlink { dir: *dir, name: name.clone() });
                self.note_change(*dir, index);
                self.note_change(*removed, index);
            }
            Op::SyncData { file } => self.sync_file(*file, index, false),
            Op::SyncAll { file } => self.sync_file(*file, index, true),
            Op::SyncDir { dir } => self.sync_dir(*dir),
            Op::SyncFailed { inode } => self.abandon(*inode),
            Op::Begin(_) | Op::Acknowledge(_) => {}
        }
    }

    fn link(&mut self, op: usize, dir: Inode, name: &Name, inode: Inode) {
        self.push(op, Change::Link { dir, name: name.clone(), inode });
        self.note_change(dir, op);
        self.note_change(inode, op);
    }

    fn rename(
        &mut self,
        op: usize,
        from: &(Inode, Name),
        to: &(Inode, Name),
        moved: Inode,
        replaces: bool,
    ) {
        // Between two directories POSIX promises nothing of a crash, and each has its own sync.
        if self.profile == Profile::PosixStrict && from.0 != to.0 {
            let link = Change::Link { dir: to.0, name: to.1.clone(), inode: moved };
            self.push(op, link);
            self.push(op, Change::Unlink { dir: from.0, name: from.1.clone() });
        } else {
            let (from, to) = (from.clone(), to.clone());
            self.push(op, Change::Rename { from, to, moved, replaces });
        }
        for inode in [from.0, to.0, moved] {
            self.note_change(inode, op);
        }
    }

    /// A write reaches the disk sector by sector, as the page cache has each of them.
    fn write(&mut self, op: usize, file: Inode, at: u64, bytes: &[u8], len_before: usize) {
        let start = usize::try_from(at).expect("a file fits into memory");
        let end = start + bytes.len();
        let contents = self.seen.file(file).cloned().unwrap_or_default();
        if end > len_before {
            // In a block that has its place, ext4 does not wait for the bytes.
            let mut new_blocks = len_before / BLOCK_BYTES..=(end - 1) / BLOCK_BYTES;
            let by_write = !self.profile.has_journal()
                || new_blocks.any(|block| !self.allocated.contains(&(file, block)));
            self.push(op, Change::Size { file, len: end, by_write, shrinks: false });
        }
        // Zeros between the old end and the new bytes are a hole: no sector is written for them.
        for number in start / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES {
            let from = number * SECTOR_BYTES;
            let to = (from + SECTOR_BYTES).min(contents.len());
            self.push(op, Change::Sector { file, number, bytes: contents[from..to].into() });
        }
        // A write in place changes the inode only if the clock has ticked since its last change.
        if end > len_before {
            self.note_change(file, op);
        }
    }

    /// Makes durable what a successful sync of a file covers.
    fn sync_file(&mut self, file: Inode, now: usize, all: bool) {
        let has_new_length = self
            .pending
            .iter()
            .any(|part| matches!(&part.change, Change::Size { file: it, .. } if *it == file));
        let mut covered: BTreeSet<usize> = BTreeSet::new();
        for (at, part) in self.pending.iter().enumerate() {
            let is_own = part.change.file() == Some(file)
                // `fdatasync` may leave a length that hides nothing of the data.
                && (all || !matches!(part.change, Change::Size { shrinks: true, .. }));
            let is_own_name = all && self.profile.syncs_own_names() && part.change.names(file);
            if is_own || is_own_name {
                covered.insert(at);
            }
        }
        if self.profile.has_journal() {
            // A new length is allocated now, and so belongs to the transaction that is running.
            let until = if has_new_length {
                Some(now)
            } else if all {
                Some(self.last_change(file))
            } else {
                None
            };
            self.cover_journal(until, &mut covered);
        }
        self.make_durable(&covered);
    }

    fn sync_dir(&mut self, dir: Inode) {
        let mut covered: BTreeSet<usize> = BTreeSet::new();
        for (at, part) in self.pending.iter().enumerate() {
            if part.change.is_in(dir) {
                covered.insert(at);
            }
        }
        if self.profile.has_journal() {
            self.cover_journal(Some(self.last_change(dir)), &mut covered);
        }
        self.make_durable(&covered);
    }

    /// The journal is committed up to an operation, that included.
    fn cover_journal(&self, until: Option<usize>, covered: &mut BTreeSet<usize>) {
        let Some(until) = until else { return };
        for (at, part) in self.pending.iter().enumerate() {
            if part.op <= until && part.change.is_metadata() {
                covered.insert(at);
                // `auto_da_alloc`: the bytes of a file that replaces another come first.
                covered.extend(self.needs(at));
            }
        }
    }

    fn make_durable(&mut self, covered: &BTreeSet<usize>) {
        let mut kept: Vec<Part> = Vec::with_capacity(self.pending.len());
        let lengths = self.earlier_lengths(covered);
        let mut platter = Platter::new(std::mem::take(&mut self.durable), false);
        for (at, part) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if !lengths.contains(&at) && (part.abandoned || !covered.contains(&at)) {
                kept.push(part);
                continue;
            }
            platter.apply(&part.change, None);
            match part.change {
                Change::Sector { file, number, .. } => {
                    self.allocated.insert((file, number * SECTOR_BYTES / BLOCK_BYTES));
                }
                Change::Size { file, len, by_write: false, .. } => {
                    self.allocated.retain(|(of, block)| *of != file || block * BLOCK_BYTES < len);
                }
                Change::Size { .. }
                | Change::Link { .. }
                | Change::Unlink { .. }
                | Change::Rename { .. } => {}
            }
            // What is older and not durable does not come back over it.
            kept = kept.into_iter().filter_map(|earlier| earlier.without(&part.change)).collect();
        }
        self.durable = platter.finish();
        self.pending = kept;
    }

    /// A file has one length: with one that becomes durable, so do those before it.
    fn earlier_lengths(&self, covered: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut files = BTreeSet::new();
        let mut earlier = BTreeSet::new();
        for (at, part) in self.pending.iter().enumerate().rev() {
            let Change::Size { file, .. } = &part.change else { continue };
            if files.contains(file) {
                earlier.insert(at);
            } else if covered.contains(&at) && !part.abandoned {
                files.insert(*file);
            }
        }
        earlier
    }

    /// The pages of a sync that failed count as clean: no later sync writes them. The length is in
    /// the inode, which the next sync writes.
    fn abandon(&mut self, inode: Inode) {
        for part in &mut self.pending {
            let is_page = match &part.change {
                Change::Sector { file, .. } => *file == inode,
                Change::Size { .. } => false,
                Change::Link { .. } | Change::Unlink { .. } | Change::Rename { .. } => {
                    part.change.is_in(inode)
                }
            };
            part.abandoned |= is_page;
        }
    }

    /// The parts without which this one does not survive, as far as the profile says so.
    pub(crate) fn needs(&self, at: usize) -> Vec<usize> {
        if self.profile != Profile::Ext4 {
            return Vec::new();
        }
        let part = &self.pending[at];
        match &part.change {
            Change::Size { file, by_write: true, .. } => self.data_before(*file, part.op),
            Change::Rename { moved, replaces: true, .. } => self.data_before(*moved, part.op),
            Change::Sector { .. }
            | Change::Size { .. }
            | Change::Link { .. }
            | Change::Unlink { .. }
            | Change::Rename { .. } => Vec::new(),
        }
    }

    /// The data of a file, and the lengths that writes have given it, up to an operation.
    fn data_before(&self, file: Inode, op: usize) -> Vec<usize> {
        let mut found = Vec::new();
        for (at, part) in self.pending.iter().enumerate() {
            let is_own = match &part.change {
                Change::Sector { file: it, .. } | Change::Size { file: it, by_write: true, .. } => {
                    *it == file
                }
                Change::Size { .. }
                | Change::Link { .. }
                | Change::Unlink { .. }
                | Change::Rename { .. } => false,
            };
            if is_own && part.op <= op {
                found.push(at);
            }
        }
        found
    }

    /// Whether a journal orders this part after all earlier ones of its kind.
    pub(crate) fn is_in_journal(&self, at: usize) -> bool {
        self.profile.has_journal() && self.pending[at].change.is_metadata()
    }

    /// The image of a crash in which these parts survive. Of the sector `torn`, if it survives,
    /// only so many bytes are new. With `garbage`, bytes that were never written are not zero.
    pub(crate) fn image(
        &self,
        survives: &[bool],
        torn: Option<(usize, usize)>,
        garbage: bool,
    ) -> Tree {
        let mut platter = Platter::new(self.durable.clone(), garbage);
        for (at, part) in self.pending.iter().enumerate() {
            if survives[at] {
                let cut = torn.filter(|(sector, _)| *sector == at).map(|(_, cut)| cut);
                platter.apply(&part.change, cut);
            }
        }
        platter.finish()
    }
}

/// A tree to which changes are applied each on its own. Data and length of a file are apart until
/// the end: a sector that survives above the length is not visible, but a later length that
/// survives shows it.
struct Platter {
    tree: Tree,
    /// The length of each file that has changed.
    lens: BTreeMap<Inode, usize>,
    garbage: bool,
}

/// Bytes below a surviving length that were never written, where a profile shows them.
const GARBAGE: u8 = 0xA5;

impl Platter {
    fn new(tree: Tree, garbage: bool) -> Platter {
        Platter { tree, lens: BTreeMap::new(), garbage }
    }

    /// Of a torn sector only the first `cut` bytes are new.
    fn apply(&mut self, change: &Change, cut: Option<usize>) {
        match change {
            Change::Sector { file, number, bytes } => {
                let new = &bytes[..cut.unwrap_or(bytes.len()).min(bytes.len())];
                let contents = self.tree.file_mut(*file);
                self.lens.entry(*file).or_insert(contents.len());
                let start = number * SECTOR_BYTES;
                let end = start + new.len();
                if contents.len() < end {
                    contents.resize(end, 0);
                }
                contents[start..end].copy_from_slice(new);
            }
            Change::Size { file, len, by_write, .. } => {
                let contents = self.tree.file_mut(*file);
                let fill = if self.garbage && *by_write { GARBAGE } else { 0 };
                if contents.len() < *len || !by_write {
                    contents.resize(*len, fill);
                }
                self.lens.insert(*file, *len);
            }
            Change::Link { dir, name, inode, .. } => self.tree.set_name(*dir, name, *inode),
            Change::Unlink { dir, name } => self.tree.remove_name(*dir, name),
            Change::Rename { from, to, moved, .. } => {
                self.tree.remove_name(from.0, &from.1);
                self.tree.set_name(to.0, &to.1, *moved);
            }
        }
    }

    fn finish(mut self) -> Tree {
        for (file, len) in self.lens {
            self.tree.file_mut(file).resize(len, 0);
        }
        self.tree
    }
}
