//! How operations change the volatile state, and barriers the durable state.

use stormglass_node::{About, DiskError, FileId, OpId};

use super::Disk;
use super::directory::NameChange;
use super::inode::Ino;
use super::queue::{self, Append, BarrierScope, Change, StepKind};

/// Operations.
impl Disk {
    /// Writes at the volatile end of a file. D5: creating the file is an operation of its own.
    pub(super) fn append(&mut self, file: FileId, about: About, bytes: &[u8]) {
        if self.first_failure.is_some() {
            return;
        }
        let ino = self.files.find(file).unwrap_or_else(|| self.create(file));
        // The file exists now; an append of nothing is no write that could be lost.
        if bytes.is_empty() {
            return;
        }
        // Recorded now: only a record appended when bytes were durable has a watermark above them
        // (D10).
        let durable_len_at_issue = if self.files.find_durable(file) == Some(ino) {
            self.files.at(ino).durable_len()
        } else {
            0
        };
        let start = self.files.at_mut(ino).append(bytes);
        self.pending.push(
            ino,
            Change::Append(Append { file, about, start, len: bytes.len(), durable_len_at_issue }),
        );
    }

    pub(super) fn truncate(&mut self, file: FileId, len: u64) {
        let Some(ino) = self.existing(file) else { return };
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let inode = self.files.at_mut(ino);
        // Truncating to a greater length changes nothing here: no node extends a file that way.
        if len < inode.cache().len() {
            let tail = inode.cut(len);
            self.pending.push(ino, Change::Truncate { file, len, tail });
        }
    }

    pub(super) fn rename(&mut self, from: FileId, to: FileId) {
        let Some(ino) = self.existing(from) else { return };
        if from == to {
            return;
        }
        let replaced = self.files.rename(ino, from, to);
        self.pending.push(ino, Change::Name(NameChange::Rename { from, to, replaced }));
    }

    pub(super) fn remove(&mut self, file: FileId) {
        if self.first_failure.is_some() {
            return;
        }
        if let Some(ino) = self.files.find(file) {
            self.files.unlink(file);
            self.pending.push(ino, Change::Name(NameChange::Remove { file }));
        }
    }

    pub(super) fn sync(&mut self, op: OpId, file: FileId) {
        // A barrier without a file still completes, with the error of the failed operation.
        let scope = self.existing(file).map_or(BarrierScope::Nothing, BarrierScope::File);
        self.pending.push_barrier(op, scope);
    }

    pub(super) fn sync_dir(&mut self, op: OpId) {
        let scope = if self.first_failure.is_some() {
            BarrierScope::Nothing
        } else {
            BarrierScope::Directory
        };
        self.pending.push_barrier(op, scope);
    }

    pub(super) fn fail(&mut self, error: DiskError) {
        // The first error is the one that barriers report; later ones follow from it.
        self.first_failure.get_or_insert(error);
    }

    /// The file with this name, for an operation that needs one; without one, the operation fails.
    fn existing(&mut self, file: FileId) -> Option<Ino> {
        if self.first_failure.is_some() {
            return None;
        }
        let ino = self.files.find(file);
        if ino.is_none() {
            self.fail(DiskError::Io);
        }
        ino
    }

    fn create(&mut self, file: FileId) -> Ino {
        let ino = self.files.create(file);
        self.pending.push(ino, Change::Name(NameChange::Create { file }));
        ino
    }
}

/// Barriers.
impl Disk {
    /// D4: makes data, size and truncations of one file durable, but not its name.
    pub(super) fn sync_file_now(&mut self, ino: Ino, before: u64) {
        let inode = self.files.at_mut(ino);
        if inode.has_truncations() {
            return self.sync_with_truncations_now(ino, before);
        }
        // Without truncations every unsynced byte is in the cache where it was appended, and the
        // covered appends are one range of it.
        let mut from = usize::MAX;
        let mut to = 0;
        self.pending.take_covered(ino, before, |change| {
            if let Change::Append(append) = change {
                from = from.min(append.start);
                to = append.start + append.len;
                inode.detect_damage_below(append.durable_len_at_issue);
            }
        });
        // Nothing was covered: another barrier has made the same appends durable, or lost them.
        if from < to {
            inode.write_through(from..to);
        }
    }

    /// The same with pending truncations: appended bytes may no longer be in the cache.
    fn sync_with_truncations_now(&mut self, ino: Ino, before: u64) {
        let inode = self.files.at_mut(ino);
        let covered = self.pending.covered(before);
        for step in queue::steps(self.pending.entries(), ino, inode.cache()) {
            let Some(entry) = covered.get(step.index) else { break };
            match (&step.kind, entry.change()) {
                (StepKind::Truncate { len }, _) => inode.truncate(*len),
                (StepKind::Write { start, bytes }, Change::Append(append)) => {
                    inode.write(*start, bytes);
                    inode.detect_damage_below(append.durable_len_at_issue);
                }
                (StepKind::Write { .. }, Change::Truncate { .. } | Change::Name(_)) => {
                    unreachable!("only appends write")
                }
            }
        }
        self.pending.take_covered(ino, before, |change| {
            if let Change::Truncate { .. } = change {
                inode.end_truncation();
            }
        });
        self.files.forget_cut_damage(ino);
    }

    /// D5: makes creates, renames and removes durable.
    pub(super) fn sync_names_now(&mut self, before: u64) {
        if !self.pending.has_name_changes() {
            return;
        }
        let changes = self.pending.covered_name_changes(before);
        self.files.apply_names(&changes);
        self.pending.forget_name_changes(before, &changes);
        self.files.reclaim_unnamed(&self.pending);
    }

    /// D7, for a file: marks the pages that a failed sync covers as clean without writing them.
    pub(super) fn abandon_file(&mut self, ino: Ino, before: u64) {
        let inode = self.files.at_mut(ino);
        self.pending.take_covered(ino, before, |change| match change {
            Change::Append(append) => inode.abandon_append(append.start, append.len),
            Change::Truncate { len, .. } => {
                inode.abandon(*len);
                inode.end_truncation();
            }
            Change::Name(_) => {}
        });
    }
}
