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
    pub role: Role,
    /// Which of them: 0 is the one with the highest number, 1 the one before.
    pub back: u32,
    /// Where in it, in 1/1000 of its durable length.
    pub at_permille: u16,
    /// What happens there.
    pub harm: Harm,
}

/// The kind of a file, without its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// A segment of the log.
    Wal,
    /// A snapshot.
    Snapshot,
    /// What will be one.
    Scratch,
}

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Harm {
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
pub struct LedgerEntry {
    /// The file, by the name it bears now.
    pub file: FileId,
    /// Which bytes of it differ from what was written.
    pub bytes: Range<u64>,
    /// How it happened.
    pub harm: Harm,
    /// Whether something durable in the same file was appended when those bytes were durable already: a watermark
    /// in there can tell the damage from a torn tail. If not, nothing in the file can.
    pub vouched: bool,
}

/// A ledger entry that follows the file when it is renamed.
#[derive(Clone, Debug)]
pub(super) struct Blot {
    pub(super) ino: Ino,
    pub(super) range: Range<usize>,
    pub(super) harm: Harm,
}

impl Disk {
    /// D10: damages a durable file at rest: on the platter, and for whoever reads it. `None` if there is no such
    /// file, or it holds there already what the damage would leave.
    pub fn damage(&mut self, what: &Damage) -> Option<LedgerEntry> {
        let ino = self.target(what)?;
        let inode = &mut self.inodes[ino.0 as usize];
        let (at, bytes) = harmed(&inode.platter, what)?;
        let differs = |(old, new): (&u8, &u8)| old != new;
        let first = inode.platter[at..].iter().zip(&bytes).position(differs)?;
        let last = inode.platter[at..].iter().zip(&bytes).rposition(differs)?;
        let range = at + first..at + last + 1;
        inode.platter[range.clone()].copy_from_slice(&bytes[first..=last]);
        for (to, from) in inode.cache.iter_mut().skip(at).zip(&bytes) {
            *to = *from;
        }
        let blot = Blot { ino, range, harm: what.harm };
        let entry = self.entry(&blot);
        self.blots.push(blot);
        entry
    }

    /// The damage that is still there, in the order of its doing. What was removed with its file is not.
    pub fn ledger(&self) -> impl Iterator<Item = LedgerEntry> + '_ {
        self.blots.iter().filter_map(|blot| self.entry(blot))
    }

    fn target(&self, what: &Damage) -> Option<Ino> {
        let like = |(file, _): &(FileId, Ino)| Role::of(*file) == what.role;
        self.durable.iter().filter(like).rev().nth(what.back as usize).map(|(_, ino)| ino)
    }

    fn entry(&self, blot: &Blot) -> Option<LedgerEntry> {
        let file = self.seen.name_of(blot.ino).or_else(|| self.durable.name_of(blot.ino))?;
        let vouched = blot.range.end <= self.at(blot.ino).vouched;
        let bytes = blot.range.start as u64..blot.range.end as u64;
        Some(LedgerEntry { file, bytes, harm: blot.harm, vouched })
    }
}

impl Role {
    /// The kind of `file`.
    pub fn of(file: FileId) -> Role {
        match file {
            FileId::Wal(_) => Role::Wal,
            FileId::Snapshot(_) => Role::Snapshot,
            FileId::Scratch => Role::Scratch,
        }
    }
}

/// Where the damage begins and what is there afterwards.
fn harmed(bytes: &[u8], what: &Damage) -> Option<(usize, Vec<u8>)> {
    let at = place(bytes, what.at_permille)?;
    let sector = at / SECTOR_BYTES * SECTOR_BYTES;
    let end = bytes.len().min(sector + SECTOR_BYTES);
    Some(match what.harm {
        Harm::FlippedBit(bit) => (at, vec![bytes[at] ^ 1 << (bit % 8)]),
        Harm::ZeroedSector => (sector, vec![0; end - sector]),
        Harm::NeverWritten => (at, vec![0; end - at]),
        Harm::WrongPlace { meant_permille } => {
            let meant = place(bytes, meant_permille)? / SECTOR_BYTES * SECTOR_BYTES;
            let other = &bytes[meant..bytes.len().min(meant + SECTOR_BYTES)];
            (sector, other[..other.len().min(end - sector)].to_vec())
        }
    })
}

fn place(bytes: &[u8], permille: u16) -> Option<usize> {
    let last = bytes.len().checked_sub(1)?;
    Some((bytes.len() * usize::from(permille) / 1000).min(last))
}
