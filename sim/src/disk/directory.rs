//! The names of files, and how a change of names survives (D5, D6).
//!
//! A file is an inode; a name refers to one. Every change remembers the *file* that it concerned,
//! so that it keeps its meaning when another file has the name.

use stormglass_node::FileId;

use super::inode::Ino;

/// A directory. It has a handful of names: scanning a small sorted vector is faster than a tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    // Ascending by name; no inode twice.
    entries: Vec<(FileId, Ino)>,
}

/// A name change: one micro-operation (D1).
#[derive(Clone, Copy, Debug)]
pub(super) enum NameChange {
    /// An append to a name without a file.
    Create { file: FileId },
    /// `replaced` had the name `to` before.
    Rename { from: FileId, to: FileId, replaced: Option<Ino> },
    /// The file stays until no pending operation can bring it back.
    Remove { file: FileId },
}

/// A name change with its file, and whether it reaches the platter.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResolvedNameChange {
    pub ino: Ino,
    pub change: NameChange,
    pub kept: bool,
}

impl Directory {
    #[inline]
    pub(super) fn find(&self, file: FileId) -> Option<Ino> {
        // A linear search: the directory of a node has fewer than ten names.
        self.entries.iter().find(|(name, _)| *name == file).map(|(_, ino)| *ino)
    }

    pub(super) fn name_of(&self, ino: Ino) -> Option<FileId> {
        self.entries.iter().find(|(_, at)| *at == ino).map(|(name, _)| *name)
    }

    /// Ascending by name.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (FileId, Ino)> + '_ {
        self.entries.iter().copied()
    }

    pub(super) fn put(&mut self, file: FileId, ino: Ino) {
        match self.entries.binary_search_by_key(&file, |(name, _)| *name) {
            Ok(at) => self.entries[at].1 = ino,
            Err(at) => self.entries.insert(at, (file, ino)),
        }
    }

    pub(super) fn take(&mut self, file: FileId) {
        self.entries.retain(|(name, _)| *name != file);
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn copy_from(&mut self, other: &Directory) {
        self.entries.clear();
        self.entries.extend_from_slice(&other.entries);
    }

    fn forget(&mut self, ino: Ino) {
        self.entries.retain(|(_, at)| *at != ino);
    }
}

impl NameChange {
    /// Whether this change adds or removes the name `file`.
    pub(super) fn touches(&self, file: FileId) -> bool {
        match self {
            NameChange::Create { file: it } | NameChange::Remove { file: it } => *it == file,
            NameChange::Rename { from, to, .. } => *from == file || *to == file,
        }
    }

    /// P1: the change did not reach the page cache. Called newest first.
    pub(super) fn undo(&self, ino: Ino, directory: &mut Directory) {
        match *self {
            NameChange::Create { file } => directory.take(file),
            NameChange::Remove { file } => directory.put(file, ino),
            NameChange::Rename { from, to, replaced } => {
                directory.take(to);
                if let Some(replaced) = replaced {
                    directory.put(to, replaced);
                }
                directory.put(from, ino);
            }
        }
    }
}

/// D5, D6: performs the changes that are kept, in the order of their issue, each independently. A
/// change that is not kept did not happen: after a create there is no name (so the file is lost,
/// synced or not), after a rename the old name, and a removed file exists again.
pub(super) fn apply(directory: &mut Directory, changes: &[ResolvedNameChange]) {
    for (at, resolved) in changes.iter().enumerate().filter(|(_, resolved)| resolved.kept) {
        let earlier = &changes[..at];
        match resolved.change {
            NameChange::Create { file } => take_over_name(directory, earlier, file, resolved.ino),
            NameChange::Rename { to, .. } => {
                // D5: after a lost rename this need not be `from`. A file never has two names.
                directory.forget(resolved.ino);
                take_over_name(directory, earlier, to, resolved.ino);
            }
            NameChange::Remove { file } => {
                // The name may belong to another file by now; a removal concerns the file that had
                // it.
                if directory.find(file) == Some(resolved.ino) {
                    directory.take(file);
                }
            }
        }
    }
}

/// D5, "never neither": the name may still refer to a file that had been renamed, if that rename
/// was lost. Then
/// 1. `a` is file 1, durably; `a` is renamed to `b`, and a new file 2 is created as `a`;
/// 2. of the two changes only the second survives;
/// 3. file 1 would be lost under both names, although no operation had removed it.
///
/// So a surviving change that takes over a name makes the rename that vacated it survive too: both
/// are in one directory block.
fn take_over_name(
    directory: &mut Directory,
    earlier: &[ResolvedNameChange],
    file: FileId,
    ino: Ino,
) {
    let holder = directory.find(file).filter(|holder| *holder != ino);
    let moved = holder.and_then(|holder| {
        let last = earlier.iter().rposition(|resolved| resolved.ino == holder)?;
        let NameChange::Rename { from, to, .. } = earlier[last].change else { return None };
        (from == file).then_some((last, to, holder))
    });
    if let Some((last, to, holder)) = moved {
        directory.take(file);
        take_over_name(directory, &earlier[..last], to, holder);
    }
    directory.put(file, ino);
}
