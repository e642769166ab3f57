//! The files of a disk: their bytes, their names as the node sees them and as they are durable, the
//! blocks of removed files, and the damage at rest.

use stormglass_node::FileId;

use super::damage::{Damage, DamageRecord, DamagedRange, FileRole};
use super::directory::{self, Directory, ResolvedNameChange};
use super::image::Image;
use super::inode::{Ino, Inode};
use super::queue::{self, Change, Entry, Pending};
use super::removed_files::RemovedFiles;
use super::report::{self, CutReport, NameLoss};
use super::survival::{SurvivalResolver, role};

#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    inodes: Vec<Inode>,
    /// The volatile directory: the names that the node sees.
    visible: Directory,
    /// The names that survive every power cut, apart from pending changes.
    durable: Directory,
    removed: RemovedFiles,
    damaged: Vec<DamagedRange>,
}

/// Inodes and names.
impl Files {
    /// Removes every file and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.inodes.iter_mut().for_each(Inode::clear);
        self.visible.clear();
        self.durable.clear();
        self.removed.clear();
        self.damaged.clear();
    }

    #[inline]
    pub(super) fn at(&self, ino: Ino) -> &Inode {
        &self.inodes[ino.0 as usize]
    }

    #[inline]
    pub(super) fn at_mut(&mut self, ino: Ino) -> &mut Inode {
        &mut self.inodes[ino.0 as usize]
    }

    /// The file with this name, as the node sees it.
    #[inline]
    pub(super) fn find(&self, file: FileId) -> Option<Ino> {
        self.visible.find(file)
    }

    /// The file that has this name durably.
    #[inline]
    pub(super) fn find_durable(&self, file: FileId) -> Option<Ino> {
        self.durable.find(file)
    }

    /// The names that the node sees, ascending.
    pub(super) fn names(&self) -> impl Iterator<Item = FileId> + '_ {
        self.visible.iter().map(|(file, _)| file)
    }

    /// The durable names, ascending.
    pub(super) fn durable_names(&self) -> impl Iterator<Item = FileId> + '_ {
        self.durable.iter().map(|(file, _)| file)
    }

    /// A new file with this name.
    pub(super) fn create(&mut self, file: FileId) -> Ino {
        // A free inode keeps the memory of its last file, so that a long run allocates little.
        let free = self.inodes.iter().position(|inode| !inode.is_used()).unwrap_or_else(|| {
            self.inodes.push(Inode::default());
            self.inodes.len() - 1
        });
        let ino = Ino(u32::try_from(free).expect("fewer than 2^32 files"));
        self.inodes[free].begin_use();
        self.visible.put(file, ino);
        ino
    }

    /// D13: the files that the node sees, with the bytes that it reads; all of it durable.
    pub(super) fn as_read(&self) -> Files {
        let mut copy = Files::default();
        for (file, ino) in self.visible.iter() {
            let new = copy.create(file);
            *copy.at_mut(new) = self.at(ino).as_read();
        }
        copy.durable.copy_from(&copy.visible);
        copy
    }

    /// Renames a file; returns the file that had the new name.
    pub(super) fn rename(&mut self, ino: Ino, from: FileId, to: FileId) -> Option<Ino> {
        let replaced = self.visible.find(to);
        self.visible.take(from);
        self.visible.put(to, ino);
        replaced
    }

    pub(super) fn unlink(&mut self, file: FileId) {
        self.visible.take(file);
    }

    /// P1: an operation that did not reach the page cache. Called newest first.
    pub(super) fn undo(&mut self, entry: &Entry) {
        let ino = entry.ino();
        match entry.change() {
            Change::Append(append) => self.at_mut(ino).undo_append(append.start),
            Change::Truncate { tail, .. } => self.at_mut(ino).undo_cut(tail),
            Change::Name(change) => change.undo(ino, &mut self.visible),
        }
    }

    /// D5: makes name changes durable, as far as they are kept.
    pub(super) fn apply_names(&mut self, changes: &[ResolvedNameChange]) {
        directory::apply(&mut self.durable, changes);
    }

    /// D3: files that no operation can bring back; their blocks may appear in a hole.
    pub(super) fn reclaim_unnamed(&mut self, pending: &Pending) {
        for at in 0..self.inodes.len() {
            let ino = Ino(at as u32);
            let is_referenced = self.visible.name_of(ino).is_some()
                || self.durable.name_of(ino).is_some()
                || pending.references(ino);
            // A pending removal still refers to its file: the power cut that undoes it must find
            // the contents.
            if self.inodes[at].is_used() && !is_referenced {
                self.inodes[at].end_use(&mut self.removed);
                self.damaged.retain(|damaged| damaged.ino != ino);
            }
        }
    }

    fn name_of(&self, ino: Ino) -> Option<FileId> {
        self.visible.name_of(ino).or_else(|| self.durable.name_of(ino))
    }
}

/// Power cuts.
impl Files {
    /// The files in use.
    pub(super) fn used(&self) -> Vec<Ino> {
        let used = self.inodes.iter().enumerate().filter(|(_, inode)| inode.is_used());
        used.map(|(at, _)| Ino(at as u32)).collect()
    }

    /// For each inode, whether any of its bytes are durable.
    pub(super) fn synced(&self) -> Vec<bool> {
        self.inodes.iter().map(|inode| !inode.platter().is_empty()).collect()
    }

    /// D1-D4, D6, D7: the surviving bytes of one file, independent of its name.
    pub(super) fn resolve_bytes(
        &mut self,
        ino: Ino,
        queue: &[Entry],
        resolver: &SurvivalResolver<'_>,
        kept: &mut [usize],
        report: &mut CutReport,
    ) {
        // The role and not the number enters the random choices: a schedule keeps its meaning when
        // a node numbers its files differently.
        let role = self.name_of(ino).map_or(0, role);
        let inode = &mut self.inodes[ino.0 as usize];
        let steps = queue::steps(queue, ino, inode.cache());
        let mut image = Image::of(inode, &steps, resolver, report);
        image.fill_holes(resolver, role, &self.removed, report);
        image.kept().for_each(|(index, bytes)| kept[index] += bytes);
        report.failed_sync_bytes += inode.abandoned_bytes();
        inode.reset_to_platter(image.base(), image.bytes());
        self.forget_cut_damage(ino);
    }

    /// The power cut is over: the node sees the names that have survived. Returns the differences,
    /// and how many of the files that were `synced` have lost their last name (D4).
    pub(super) fn forget_volatile_names(&mut self, synced: &[bool]) -> (Vec<NameLoss>, u32) {
        let losses = report::name_losses(&self.visible, &self.durable);
        // Counted before the volatile names are overwritten.
        let misnamed = self
            .visible
            .iter()
            .filter(|(file, ino)| self.durable.find(*file) != Some(*ino))
            .filter(|(_, ino)| synced[ino.0 as usize])
            .count();
        // Copied and not cloned: the memory of the volatile directory is used again.
        self.visible.copy_from(&self.durable);
        (losses, misnamed as u32)
    }
}

/// Files that change at rest (D15). Nothing is pending then, and the page cache is the platter.
impl Files {
    pub(super) fn cut_at_rest(&mut self, file: FileId, len: usize) {
        let ino = self.visible.find(file).expect("the file that is cut exists");
        self.at_mut(ino).cut_at_rest(len);
        self.forget_cut_damage(ino);
    }

    pub(super) fn remove_at_rest(&mut self, file: FileId, pending: &Pending) {
        self.visible.take(file);
        self.durable.take(file);
        self.reclaim_unnamed(pending);
    }
}

/// Damage at rest (D10).
impl Files {
    /// The durable file that this damage is for.
    pub(super) fn damage_target(&self, damage: &Damage) -> Option<Ino> {
        let mut newest_first =
            self.durable.iter().rev().filter(|(file, _)| FileRole::of(*file) == damage.role);
        newest_first.nth(damage.nth_newest as usize).map(|(_, ino)| ino)
    }

    pub(super) fn add_damage(&mut self, damaged: DamagedRange) {
        self.damaged.push(damaged);
    }

    /// The damage that still exists, in order.
    pub(super) fn damage_records(&self) -> impl Iterator<Item = DamageRecord> + '_ {
        self.damaged.iter().filter_map(|damaged| self.damage_record(damaged))
    }

    /// `None` if the file has no name any more.
    pub(super) fn damage_record(&self, damaged: &DamagedRange) -> Option<DamageRecord> {
        let file = self.name_of(damaged.ino)?;
        let detectable = self.at(damaged.ino).detects_damage_below(damaged.range.end);
        let bytes = damaged.range.start as u64..damaged.range.end as u64;
        Some(DamageRecord { file, bytes, kind: damaged.kind, detectable })
    }

    /// Damage beyond the end of its file is gone with the bytes.
    pub(super) fn forget_cut_damage(&mut self, ino: Ino) {
        let len = self.at(ino).platter().len();
        self.damaged.retain(|damaged| damaged.ino != ino || damaged.range.start < len);
    }
}
