//! How operations change the volatile state, and barriers the durable state.

use stormglass_node::{About, DiskError, FileId, OpId};

use super::Disk;
use super::directory::{self, NameChange, ResolvedNameChange};
use super::inode::{Ino, Inode};
use super::queue::{self, Append, Barrier, BarrierScope, Change, Entry, StepKind};

/// Operations.
impl Disk {
    /// Writes at the volatile end of a file. D5: creating the file is an operation of its own.
    pub(super) fn append(&mut self, file: FileId, about: About, bytes: &[u8]) {
        if self.first_failure.is_some() {
            return;
        }
        let ino = self.visible.find(file).unwrap_or_else(|| self.create(file));
        if bytes.is_empty() {
            return;
        }
        let durable_len_at_issue =
            if self.durable.find(file) == Some(ino) { self.at(ino).durable_len() } else { 0 };
        let inode = &mut self.inodes[ino.0 as usize];
        let start = inode.cache.len();
        inode.cache.extend_from_slice(bytes);
        self.enqueue(
            ino,
            Change::Append(Append { file, about, start, len: bytes.len(), durable_len_at_issue }),
        );
    }

    pub(super) fn truncate(&mut self, file: FileId, len: u64) {
        let Some(ino) = self.existing(file) else { return };
        let inode = &mut self.inodes[ino.0 as usize];
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len < inode.cache.len() {
            let tail = inode.cache.split_off(len);
            inode.truncates += 1;
            self.enqueue(ino, Change::Truncate { file, len, tail });
        }
    }

    pub(super) fn rename(&mut self, from: FileId, to: FileId) {
        let Some(ino) = self.existing(from) else { return };
        if from == to {
            return;
        }
        let replaced = self.visible.find(to);
        self.visible.take(from);
        self.visible.put(to, ino);
        self.enqueue(ino, Change::Name(NameChange::Rename { from, to, replaced }));
    }

    pub(super) fn remove(&mut self, file: FileId) {
        if self.first_failure.is_some() {
            return;
        }
        if let Some(ino) = self.visible.find(file) {
            self.visible.take(file);
            self.enqueue(ino, Change::Name(NameChange::Remove { file }));
        }
    }

    pub(super) fn sync(&mut self, op: OpId, file: FileId) {
        let scope = self.existing(file).map_or(BarrierScope::Nothing, BarrierScope::File);
        self.barriers.push(Barrier { op, before: self.issued, scope });
    }

    pub(super) fn sync_dir(&mut self, op: OpId) {
        let scope = if self.first_failure.is_some() {
            BarrierScope::Nothing
        } else {
            BarrierScope::Directory
        };
        self.barriers.push(Barrier { op, before: self.issued, scope });
    }

    pub(super) fn fail(&mut self, error: DiskError) {
        self.first_failure.get_or_insert(error);
    }

    /// The file with this name, for an operation that needs one; without one, the operation fails.
    fn existing(&mut self, file: FileId) -> Option<Ino> {
        if self.first_failure.is_some() {
            return None;
        }
        let ino = self.visible.find(file);
        if ino.is_none() {
            self.fail(DiskError::Io);
        }
        ino
    }

    fn create(&mut self, file: FileId) -> Ino {
        let free = self.inodes.iter().position(|inode| !inode.used).unwrap_or_else(|| {
            self.inodes.push(Inode::default());
            self.inodes.len() - 1
        });
        let ino = Ino(u32::try_from(free).expect("fewer than 2^32 files"));
        self.inodes[free].used = true;
        self.visible.put(file, ino);
        self.enqueue(ino, Change::Name(NameChange::Create { file }));
        ino
    }

    #[inline]
    fn enqueue(&mut self, ino: Ino, change: Change) {
        self.name_changes += usize::from(matches!(change, Change::Name(_)));
        self.queue.push(Entry { at: self.issued, ino, change, abandoned: false });
        self.issued += 1;
    }

    pub(super) fn at(&self, ino: Ino) -> &Inode {
        &self.inodes[ino.0 as usize]
    }
}

/// Barriers.
impl Disk {
    /// With any result: the driver performs in order, so operations issued before have left its
    /// queue for the page cache (P1).
    pub(super) fn end_barrier(&mut self, op: OpId) -> Barrier {
        let at = self.barriers.iter().position(|barrier| barrier.op == op);
        let barrier = self.barriers.remove(at.expect("a completion without a barrier"));
        self.performed_below = self.performed_below.max(barrier.before);
        barrier
    }

    /// D4: makes data, size and truncations of one file durable, but not its name.
    pub(super) fn sync_file_now(&mut self, ino: Ino, before: u64) {
        let inode = &mut self.inodes[ino.0 as usize];
        if inode.truncates > 0 {
            return self.sync_with_truncations_now(ino, before);
        }
        let mut from = usize::MAX;
        let mut to = 0;
        self.queue.retain(|entry| {
            let Change::Append(append) = &entry.change else { return true };
            if entry.ino != ino || entry.at >= before {
                return true;
            }
            from = from.min(append.start);
            to = append.start + append.len;
            inode.damage_detectable_below =
                inode.damage_detectable_below.max(append.durable_len_at_issue);
            false
        });
        if from < to {
            inode.write_through(from..to);
        }
    }

    /// The same with pending truncations: appended bytes may no longer be in the cache.
    fn sync_with_truncations_now(&mut self, ino: Ino, before: u64) {
        let inode = &mut self.inodes[ino.0 as usize];
        for step in queue::steps(&self.queue, ino, &inode.cache) {
            let entry = &self.queue[step.index];
            if entry.at >= before {
                break;
            }
            match (&step.kind, &entry.change) {
                (StepKind::Truncate { len }, _) => inode.truncate(*len),
                (StepKind::Write { start, bytes }, Change::Append(append)) => {
                    inode.write(*start, bytes);
                    inode.damage_detectable_below =
                        inode.damage_detectable_below.max(append.durable_len_at_issue);
                }
                (StepKind::Write { .. }, Change::Truncate { .. } | Change::Name(_)) => {
                    unreachable!("only appends write")
                }
            }
        }
        let len = inode.platter.len();
        self.damaged_ranges.retain(|damaged| damaged.ino != ino || damaged.range.start < len);
        self.drop_covered(ino, before, |_, _| {});
    }

    /// D5: makes creates, renames and removes durable.
    pub(super) fn sync_names_now(&mut self, before: u64) {
        if self.name_changes == 0 {
            return;
        }
        let resolved = self.queue.iter().filter_map(|entry| match entry.change {
            Change::Name(change) if entry.at < before => {
                Some(ResolvedNameChange { ino: entry.ino, change, kept: !entry.abandoned })
            }
            Change::Name(_) | Change::Append(_) | Change::Truncate { .. } => None,
        });
        let changes: Vec<ResolvedNameChange> = resolved.collect();
        directory::apply(&mut self.durable, &changes);
        // An abandoned name change stays in the queue until a kept change of the same file is
        // durable: a later create may still need it (`directory::take_over_name`).
        self.queue.retain(|entry| {
            !matches!(entry.change, Change::Name(_))
                || entry.at >= before
                || !changes.iter().any(|resolved| resolved.kept && resolved.ino == entry.ino)
        });
        self.name_changes =
            self.queue.iter().filter(|entry| matches!(entry.change, Change::Name(_))).count();
        self.reclaim_unnamed();
    }

    /// D7, for a file: marks the pages that a failed sync covers as clean without writing them.
    pub(super) fn abandon_file(&mut self, ino: Ino, before: u64) {
        self.drop_covered(ino, before, |inode, change| match change {
            Change::Append(append) => {
                inode.abandon(append.start);
                inode.abandoned_bytes += append.len as u64;
            }
            Change::Truncate { len, .. } => inode.abandon(*len),
            Change::Name(_) => {}
        });
    }

    /// D7, for names: they count as durable, and are not on the platter.
    pub(super) fn abandon_names(&mut self, before: u64) {
        for entry in self.queue.iter_mut().filter(|entry| entry.at < before) {
            entry.abandoned |= matches!(entry.change, Change::Name(_));
        }
    }

    /// Removes the operations that a barrier on a file covers from the queue.
    fn drop_covered(
        &mut self,
        ino: Ino,
        before: u64,
        mut on_covered: impl FnMut(&mut Inode, &Change),
    ) {
        let inode = &mut self.inodes[ino.0 as usize];
        self.queue.retain(|entry| {
            let covered =
                entry.ino == ino && entry.at < before && !matches!(entry.change, Change::Name(_));
            if covered {
                on_covered(inode, &entry.change);
                inode.truncates -= u32::from(matches!(entry.change, Change::Truncate { .. }));
            }
            !covered
        });
    }

    /// D3: files that no operation can bring back; their blocks may appear in a hole.
    pub(super) fn reclaim_unnamed(&mut self) {
        for at in 0..self.inodes.len() {
            let ino = Ino(at as u32);
            if !self.inodes[at].used || self.is_referenced(ino) {
                continue;
            }
            self.removed_files.add(&mut self.inodes[at].platter);
            self.inodes[at].clear();
            self.damaged_ranges.retain(|damaged| damaged.ino != ino);
        }
    }

    fn is_referenced(&self, ino: Ino) -> bool {
        self.visible.name_of(ino).is_some()
            || self.durable.name_of(ino).is_some()
            || self.queue.iter().any(|entry| entry.references(ino))
            || self.barriers.iter().any(|barrier| barrier.covers(ino))
    }
}
