//! D10: latent damage at rest. Opt-in: a node without replicas cannot repair it and must refuse to
//! boot.

use crate::ratio::Permille;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use stormglass_node::FileId;

use super::Disk;
use super::inode::Ino;
use super::survival::SECTOR_BYTES;

/// A place on the disk, and the damage there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Damage {
    /// The kind of file.
    pub role: FileRole,
    /// Which file of that kind: 0 is the one with the highest number, 1 the one before.
    pub nth_newest: u32,
    /// The offset, as a share of the file's durable length.
    pub at: Permille,
    pub kind: DamageKind,
}

/// The kind of a file, without its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FileRole {
    /// A segment of the log.
    Wal,
    /// A snapshot.
    Snapshot,
    /// A snapshot that is not complete yet.
    Scratch,
}

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DamageKind {
    /// One bit, 0 to 7, of the byte at the offset is inverted.
    FlippedBit(u8),
    /// The whole sector holds zeros.
    ZeroedSector,
    /// The sector holds the data of another one of the file: that at this share of its length.
    WrongPlace {
        /// The place of that other sector.
        meant: Permille,
    },
    /// The last write to the sector, from that byte on, did not happen: it holds zeros.
    NeverWritten,
}

/// Damage on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct DamageRecord {
    /// The file, by its current name.
    pub file: FileId,
    /// The bytes that differ from what was written.
    pub bytes: Range<u64>,
    pub kind: DamageKind,
    /// Whether a durable append to the same file followed when those bytes were already durable:
    /// its watermark distinguishes the damage from a torn tail. Otherwise nothing in the file does.
    pub detectable: bool,
}

/// Damage that follows the file when it is renamed.
#[derive(Clone, Debug)]
pub(super) struct DamagedRange {
    pub ino: Ino,
    pub range: Range<usize>,
    pub kind: DamageKind,
}

impl Disk {
    /// D10: damages a durable file at rest, on the platter and in the page cache. `None` if there
    /// is no such file, or the damage would change nothing.
    pub fn damage(&mut self, damage: &Damage) -> Option<DamageRecord> {
        let ino = self.files.damage_target(damage)?;
        let inode = self.files.at_mut(ino);
        let (at, bytes) = apply_to_bytes(inode.platter(), damage)?;
        // Only the bytes that differ count as damaged: zeroing a sector of zeros changes nothing.
        let range = inode.damage(at, &bytes)?;
        let damaged = DamagedRange { ino, range, kind: damage.kind };
        let record = self.files.damage_record(&damaged);
        self.files.add_damage(damaged);
        record
    }

    /// The damage that still exists, in order. Damage of removed files is not included.
    pub fn damage_records(&self) -> impl Iterator<Item = DamageRecord> + '_ {
        self.files.damage_records()
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

/// The offset of the damage, and the bytes there afterwards.
fn apply_to_bytes(bytes: &[u8], damage: &Damage) -> Option<(usize, Vec<u8>)> {
    let at = offset_at(bytes, damage.at)?;
    let sector = at / SECTOR_BYTES * SECTOR_BYTES;
    let end = bytes.len().min(sector + SECTOR_BYTES);
    Some(match damage.kind {
        // Modulo 8: the number comes from a schedule, which a person may have written.
        DamageKind::FlippedBit(bit) => (at, vec![bytes[at] ^ 1 << (bit % 8)]),
        DamageKind::ZeroedSector => (sector, vec![0; end - sector]),
        DamageKind::NeverWritten => (at, vec![0; end - at]),
        DamageKind::WrongPlace { meant } => {
            let intended_sector = offset_at(bytes, meant)? / SECTOR_BYTES * SECTOR_BYTES;
            let other = &bytes[intended_sector..bytes.len().min(intended_sector + SECTOR_BYTES)];
            // The last sector of a file may be shorter than the one whose data it gets.
            (sector, other[..other.len().min(end - sector)].to_vec())
        }
    })
}

fn offset_at(bytes: &[u8], share: Permille) -> Option<usize> {
    let last = bytes.len().checked_sub(1)?;
    Some(share.of(bytes.len()).min(last))
}
