//! A disk with a page cache: names and data are volatile until their barrier, and a power cut asks
//! a [`SurvivalPolicy`] about every sector, size and name that was not synced.

use std::collections::BTreeMap;

use super::Rng;
use crate::contract::{DiskError, FileId, ReadDisk};

pub(super) const SECTOR: usize = 512;

/// Decides what survives a power cut.
pub(super) trait SurvivalPolicy {
    /// Whether a creation, rename or removal under this name survives.
    fn keeps_name(&mut self, name: FileId) -> bool;
    /// Whether a file's extension survives.
    fn keeps_size(&mut self, file: FileId) -> bool;
    /// How many of the bytes that one append has written to one sector survive; the rest is a hole.
    fn keeps_bytes(&mut self, file: FileId, at: usize, len: usize) -> usize;
    /// The contents of a hole: zeros, garbage, or one of the old blocks.
    fn hole_contents(&mut self, sector: usize, old_blocks: &[(usize, Vec<u8>)]) -> Vec<u8>;
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// The contents that a reader sees.
    visible: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Clone, Debug)]
struct Write {
    issued_at: u64,
    at: usize,
    bytes: Vec<u8>,
    /// A sync of it has failed: no later sync writes the data.
    sync_failed: bool,
}

#[derive(Clone, Copy, Debug)]
struct NameChange {
    issued_at: u64,
    from: Option<FileId>,
    to: Option<FileId>,
    inode: usize,
    sync_failed: bool,
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<FileId, usize>) {
        if let Some(from) = self.from
            && names.get(&from) == Some(&self.inode)
        {
            names.remove(&from);
        }
        if let Some(to) = self.to {
            names.insert(to, self.inode);
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    clock: u64,
    inodes: Vec<Inode>,
    names: BTreeMap<FileId, usize>,
    durable_names: BTreeMap<FileId, usize>,
    unsynced_names: Vec<NameChange>,
    /// Sectors of removed files, with their place in the file.
    old_blocks: Vec<(usize, Vec<u8>)>,
}

impl ReadDisk for Disk {
    fn files(&self) -> Vec<FileId> {
        self.names.keys().copied().collect()
    }
    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
        Ok(self.names.get(&file).map(|inode| self.inodes[*inode].visible.as_slice()))
    }
}

/// Operations of the process.
impl Disk {
    pub(super) fn append(&mut self, file: FileId, bytes: &[u8]) {
        let issued_at = self.tick();
        let inode = match self.names.get(&file) {
            Some(inode) => *inode,
            None => {
                self.inodes.push(Inode::default());
                self.name(issued_at, None, Some(file), self.inodes.len() - 1);
                self.inodes.len() - 1
            }
        };
        let inode = &mut self.inodes[inode];
        let at = inode.visible.len();
        inode.visible.extend_from_slice(bytes);
        inode.unsynced.push(Write { issued_at, at, bytes: bytes.to_vec(), sync_failed: false });
    }

    pub(super) fn rename(&mut self, from: FileId, to: FileId) {
        let issued_at = self.tick();
        let inode = self.names[&from];
        self.name(issued_at, Some(from), Some(to), inode);
    }

    pub(super) fn remove(&mut self, file: FileId) {
        let issued_at = self.tick();
        if let Some(inode) = self.names.get(&file).copied() {
            self.name(issued_at, Some(file), None, inode);
        }
    }

    /// The current time: a barrier covers what happened before it was issued.
    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn inode(&self, file: FileId) -> usize {
        self.names[&file]
    }

    /// A sync that was issued at `issued_at` has succeeded, or has failed and discarded its data.
    pub(super) fn synced(&mut self, inode: usize, issued_at: u64, success: bool) {
        let inode = &mut self.inodes[inode];
        for write in inode
            .unsynced
            .iter_mut()
            .filter(|write| write.issued_at < issued_at && !write.sync_failed)
        {
            // It stays in the list: a power cut may keep or lose it, and no later sync writes it.
            write.sync_failed = !success;
            if success {
                overwrite(&mut inode.durable, write.at, &write.bytes);
            }
        }
        inode.unsynced.retain(|write| write.issued_at >= issued_at || write.sync_failed);
    }

    /// The same for a sync of the directory.
    pub(super) fn synced_names(&mut self, issued_at: u64, success: bool) {
        for name_change in self
            .unsynced_names
            .iter_mut()
            .filter(|name_change| name_change.issued_at < issued_at && !name_change.sync_failed)
        {
            name_change.sync_failed = !success;
            if success {
                name_change.apply(&mut self.durable_names);
            }
        }
        self.unsynced_names
            .retain(|name_change| name_change.issued_at >= issued_at || name_change.sync_failed);
    }

    fn name(&mut self, issued_at: u64, from: Option<FileId>, to: Option<FileId>, inode: usize) {
        let name_change = NameChange { issued_at, from, to, inode, sync_failed: false };
        name_change.apply(&mut self.names);
        self.unsynced_names.push(name_change);
    }
}

/// Crashes and damage.
impl Disk {
    pub(super) fn power_cut(&mut self, policy: &mut dyn SurvivalPolicy) {
        let before = self.names.clone();
        self.names = self.durable_names.clone();
        for name_change in std::mem::take(&mut self.unsynced_names) {
            if policy.keeps_name(name_change.to.or(name_change.from).expect("a name")) {
                name_change.apply(&mut self.names);
            }
        }
        self.remember_old_blocks(&before);
        for (file, inode) in &self.names {
            self.inodes[*inode].power_cut(*file, &self.old_blocks, policy);
        }
        self.durable_names = self.names.clone();
    }

    fn remember_old_blocks(&mut self, before: &BTreeMap<FileId, usize>) {
        for inode in before.values().filter(|inode| !self.names.values().any(|kept| kept == *inode))
        {
            let sectors = self.inodes[*inode].visible.chunks(SECTOR).enumerate();
            self.old_blocks.extend(sectors.map(|(place, bytes)| (place, bytes.to_vec())));
        }
        let surplus = self.old_blocks.len().saturating_sub(32);
        self.old_blocks.drain(..surplus);
    }

    /// Damage at rest, or a shortcut for a scenario.
    pub(super) fn edit(&mut self, file: FileId, change: impl FnOnce(&mut Vec<u8>)) {
        let inode = &mut self.inodes[self.names[&file]];
        change(&mut inode.visible);
        inode.durable = inode.visible.clone();
        inode.unsynced.clear();
    }

    /// Removes a file without a trace.
    pub(super) fn delete_silently(&mut self, file: FileId) {
        self.names.remove(&file);
        self.durable_names.remove(&file);
    }

    /// The contents of an existing file.
    pub(super) fn bytes(&self, file: FileId) -> &[u8] {
        &self.inodes[self.names[&file]].visible
    }
}

impl Inode {
    fn power_cut(
        &mut self,
        file: FileId,
        old_blocks: &[(usize, Vec<u8>)],
        policy: &mut dyn SurvivalPolicy,
    ) {
        let mut size = self.durable.len();
        for write in &self.unsynced {
            if policy.keeps_size(file) {
                size = size.max(write.at + write.bytes.len());
            }
        }
        let mut bytes = std::mem::take(&mut self.durable);
        while bytes.len() < size {
            let sector = bytes.len() / SECTOR;
            let within = bytes.len() % SECTOR;
            let block = policy.hole_contents(sector, old_blocks);
            bytes.extend_from_slice(&block[within..]);
        }
        bytes.truncate(size);
        for write in std::mem::take(&mut self.unsynced) {
            write.write_surviving_sectors(file, &mut bytes, policy);
        }
        self.visible = bytes.clone();
        self.durable = bytes;
    }
}

impl Write {
    /// Sector by sector. Two appends never overlap, so their order within one sector does not
    /// matter here.
    fn write_surviving_sectors(
        &self,
        file: FileId,
        into: &mut [u8],
        policy: &mut dyn SurvivalPolicy,
    ) {
        let mut at = self.at;
        let end = self.at + self.bytes.len();
        while at < end {
            let stop = end.min((at / SECTOR + 1) * SECTOR);
            let kept = at + policy.keeps_bytes(file, at, stop - at);
            let kept = kept.min(into.len()).max(at.min(into.len()));
            if at < kept {
                into[at..kept].copy_from_slice(&self.bytes[at - self.at..kept - self.at]);
            }
            at = stop;
        }
    }
}

fn overwrite(bytes: &mut Vec<u8>, at: usize, with: &[u8]) {
    bytes.resize(bytes.len().max(at + with.len()), 0);
    bytes[at..at + with.len()].copy_from_slice(with);
}

/// Everything that was not synced is lost.
pub(super) struct LoseUnsynced;
/// Everything survives.
pub(super) struct KeepUnsynced;
/// Names survive and sizes too, but no data: holes of zeros.
pub(super) struct KeepLengthsOnly;

macro_rules! uniform_policy {
    ($policy:ty, name: $name:expr, size: $size:expr, bytes: $bytes:expr) => {
        impl SurvivalPolicy for $policy {
            fn keeps_name(&mut self, _: FileId) -> bool {
                $name
            }
            fn keeps_size(&mut self, _: FileId) -> bool {
                $size
            }
            fn keeps_bytes(&mut self, _: FileId, _: usize, len: usize) -> usize {
                if $bytes { len } else { 0 }
            }
            fn hole_contents(&mut self, _: usize, _: &[(usize, Vec<u8>)]) -> Vec<u8> {
                vec![0; SECTOR]
            }
        }
    };
}

uniform_policy!(LoseUnsynced, name: false, size: false, bytes: false);
uniform_policy!(KeepUnsynced, name: true, size: true, bytes: true);
uniform_policy!(KeepLengthsOnly, name: true, size: true, bytes: false);

/// All bytes at or above this offset of any file are lost, but not its size.
pub(super) struct LoseBytesFrom(pub(super) usize);

impl SurvivalPolicy for LoseBytesFrom {
    fn keeps_name(&mut self, _: FileId) -> bool {
        true
    }
    fn keeps_size(&mut self, _: FileId) -> bool {
        true
    }
    fn keeps_bytes(&mut self, _: FileId, at: usize, len: usize) -> usize {
        self.0.saturating_sub(at).min(len)
    }
    fn hole_contents(&mut self, _: usize, _: &[(usize, Vec<u8>)]) -> Vec<u8> {
        vec![0; SECTOR]
    }
}

/// Any subset, with torn sectors and all kinds of holes.
impl SurvivalPolicy for Rng {
    fn keeps_name(&mut self, _: FileId) -> bool {
        self.one_in(2)
    }
    fn keeps_size(&mut self, _: FileId) -> bool {
        !self.one_in(3)
    }
    fn keeps_bytes(&mut self, _: FileId, _: usize, len: usize) -> usize {
        match self.below(4) {
            0 => 0,
            1 => self.below(len + 1),
            _ => len,
        }
    }
    fn hole_contents(&mut self, sector: usize, old_blocks: &[(usize, Vec<u8>)]) -> Vec<u8> {
        let same_place =
            old_blocks.iter().filter(|(place, _)| *place == sector).collect::<Vec<_>>();
        let mut block = match self.below(4) {
            0 => Vec::new(),
            1 => (0..SECTOR).map(|_| self.next_u64() as u8).collect(),
            _ if !same_place.is_empty() => same_place[self.below(same_place.len())].1.clone(),
            _ => Vec::new(),
        };
        block.resize(SECTOR, 0);
        block
    }
}
