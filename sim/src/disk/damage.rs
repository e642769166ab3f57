//! D10: latent damage at rest. Opt-in, outside what a node without replicas can survive: it must refuse to start.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use stormglass::FileId;

use super::Disk;
use super::inode::Ino;
use super::survival::SECTOR_BYTES;

/// What is damaged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// In what kind of file.
    pub role: FileRole,
    /// Which of them: 0 is the one with the highest number, 1 the one before.
    pub nth_newest: u32,
    /// Where in it, in 1/1000 of its durable length.
    pub at_permille: u16,
    /// What happens there.
    pub kind: DamageKind,
}

/// The kind of a file, without its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FileRole {
    /// A segment of the log.
    Wal,
    /// A snapshot.
    Snapshot,
    /// What will be one.
    Scratch,
}

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DamageKind {
    /// One bit of the byte there, 0 to 7, is the other one.
    FlippedBit(u8),
    /// The whole sector holds zeros.
    ZeroedSector,
    /// The sector holds what was meant for another one of the file: that at so many 1/1000 of its length.
    WrongPlace {
        /// For which place it was meant.
        meant_permille: u16,
    },
    /// The last write to the sector, from that byte on, never happened: it holds zeros, as when the sector was new.
    NeverWritten,
}

/// A damage that has been done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamageRecord {
    /// The file, by the name it bears now.
    pub file: FileId,
    /// Which bytes of it differ from what was written.
    pub bytes: Range<u64>,
    /// How it happened.
    pub kind: DamageKind,
    /// Whether something durable in the same file was appended when those bytes were durable already: a watermark
    /// in there can tell the damage from a torn tail. If not, nothing in the file can.
    pub detectable: bool,
}

/// A ledger entry that follows the file when it is renamed.
#[derive(Clone, Debug)]
pub(super) struct DamagedRange {
    pub(super) ino: Ino,
    pub(super) range: Range<usize>,
    pub(super) kind: DamageKind,
}

impl Disk {
    /// D10: damages a durable file at rest: on the platter, and for whoever reads it. `None` if there is no such
    /// file, or it holds there already what the damage would leave.
    pub fn damage(&mut self, damage: &Damage) -> Option<DamageRecord> {
        let ino = self.target(damage)?;
        let inode = &mut self.inodes[ino.0 as usize];
        let (at, bytes) = apply_to_bytes(&inode.platter, damage)?;
        let differs = |(old, new): (&u8, &u8)| old != new;
        let first = inode.platter[at..].iter().zip(&bytes).position(differs)?;
        let last = inode.platter[at..].iter().zip(&bytes).rposition(differs)?;
        let range = at + first..at + last + 1;
        inode.platter[range.clone()].copy_from_slice(&bytes[first..=last]);
        for (to, from) in inode.cache.iter_mut().skip(at).zip(&bytes) {
            *to = *from;
        }
        let damaged = DamagedRange { ino, range, kind: damage.kind };
        let record = self.record(&damaged);
        self.damaged_ranges.push(damaged);
        record
    }

    /// The damage that is still there, in the order of its doing. What was removed with its file is not.
    pub fn damage_records(&self) -> impl Iterator<Item = DamageRecord> + '_ {
        self.damaged_ranges.iter().filter_map(|damaged| self.record(damaged))
    }

    fn target(&self, damage: &Damage) -> Option<Ino> {
        let like = |(file, _): &(FileId, Ino)| FileRole::of(*file) == damage.role;
        self.durable.iter().filter(like).rev().nth(damage.nth_newest as usize).map(|(_, ino)| ino)
    }

    fn record(&self, damaged: &DamagedRange) -> Option<DamageRecord> {
        let file =
            self.visible.name_of(damaged.ino).or_else(|| self.durable.name_of(damaged.ino))?;
        let detectable = damaged.range.end <= self.at(damaged.ino).detectable_below;
        let bytes = damaged.range.start as u64..damaged.range.end as u64;
        Some(DamageRecord { file, bytes, kind: damaged.kind, detectable })
    }
}

impl FileRole {
    /// The kind of `file`.
    pub fn of(file: FileId) -> FileRole {
        match file {
            FileId::Wal(_) => FileRole::Wal,
            FileId::Snapshot(_) => FileRole::Snapshot,
            FileId::Scratch => FileRole::Scratch,
        }
    }
}

/// Where the damage begins and what is there afterwards.
fn apply_to_bytes(bytes: &[u8], damage: &Damage) -> Option<(usize, Vec<u8>)> {
    let at = offset_at(bytes, damage.at_permille)?;
    let sector = at / SECTOR_BYTES * SECTOR_BYTES;
    let end = bytes.len().min(sector + SECTOR_BYTES);
    Some(match damage.kind {
        DamageKind::FlippedBit(bit) => (at, vec![bytes[at] ^ 1 << (bit % 8)]),
        DamageKind::ZeroedSector => (sector, vec![0; end - sector]),
        DamageKind::NeverWritten => (at, vec![0; end - at]),
        DamageKind::WrongPlace { meant_permille } => {
            let intended_sector = offset_at(bytes, meant_permille)? / SECTOR_BYTES * SECTOR_BYTES;
            let other = &bytes[intended_sector..bytes.len().min(intended_sector + SECTOR_BYTES)];
            (sector, other[..other.len().min(end - sector)].to_vec())
        }
    })
}

fn offset_at(bytes: &[u8], permille: u16) -> Option<usize> {
    let last = bytes.len().checked_sub(1)?;
    Some((bytes.len() * usize::from(permille) / 1000).min(last))
}
