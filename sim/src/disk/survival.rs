//! What survives a power cut, described by *structure* and never by bytes or offsets: a schedule
//! that makes a node fail has to keep doing so after its records have gained a field.

use crate::ratio::Permille;
use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stormglass_node::{About, FileId, Subject};

use super::directory::NameChange;
use super::queue::{Append, Change, Entry};

/// D1: the unit in which a disk writes, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// How much of an append [`Tear::Header`] keeps, in bytes.
pub const HEADER_BYTES: usize = 8;

/// Which of the unsynced operations survive a power cut (D2). Synced operations survive all of
/// them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Survival {
    /// None of them.
    None,
    /// All of them.
    All,
    /// The first operations in the order of issue, as counted by
    /// [`Disk::unsynced`](super::Disk::unsynced); the creation of a file counts as one, before the
    /// append that caused it.
    Prefix(u32),
    /// All but one append, data and size; if a later append reaches beyond it, it is a hole of
    /// zeros.
    AllBut(AppendName),
    /// All, but of one append only a part.
    #[allow(missing_docs, reason = "the names say it")]
    Torn {
        at: AppendName,
        how: Tear,
        /// The contents of the rest. With `None` the file ends at the tear, if no later append
        /// reaches beyond.
        hole: Option<Holes>,
    },
    /// Each micro-operation (D1) independently.
    Subset {
        /// Decides, together with the structural position of each micro-operation.
        key: u64,
        /// The probability that each survives.
        keep: Permille,
        /// Whether half of the sectors that do not survive are torn instead: a prefix, a suffix, or
        /// garbage.
        tear: bool,
        /// The contents of sectors with a size and no data (D3).
        holes: Holes,
    },
}

/// An unsynced append of a disk, identified by kind, subject and ordinal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct AppendName {
    /// The kind of the record: `Prepared`.
    pub kind: Cow<'static, str>,
    pub subject: Option<Subject>,
    /// Which of the unsynced appends with that kind and subject, from 0, in the order of issue.
    pub nth: u32,
}

/// What remains of a torn append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Tear {
    /// Its first [`HEADER_BYTES`].
    Header,
    /// Its first half.
    Half,
    /// All but what it wrote to the last of its sectors.
    LastSectorMissing,
}

/// D3: the contents of a sector whose size survived and whose data did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Holes {
    /// Zeros.
    Zeros,
    /// Random bytes.
    Garbage,
    /// A block of a file that was removed, or whose creation was lost; zeros if there is none, or
    /// if a part of the sector had been written.
    OldBlocks,
    /// Each sector one of these.
    Mixed,
}

/// The outcome of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpOutcome {
    Kept,
    Lost,
    /// Its first `bytes` are written; it extends the file to its end if `sized`, else to the tear.
    Torn {
        bytes: usize,
        sized: bool,
    },
    /// Each sector and the size independently.
    PerSector,
}

/// The outcome of one sector of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SectorOutcome {
    Kept,
    Lost,
    Prefix(usize),
    Suffix(usize),
    /// Random bytes from this seed.
    Garbage(u64),
}

/// Applies one [`Survival`] to one queue.
#[derive(Debug)]
pub(super) struct SurvivalResolver<'a> {
    survival: &'a Survival,
    positions: Vec<OpPosition>,
}

/// The structural position of an operation.
#[derive(Clone, Copy, Debug)]
struct OpPosition {
    /// Among all operations.
    index: u32,
    /// A hash of its kind, the role of its file, and its subject.
    label: u64,
    /// The ordinal among operations with that label.
    nth: u32,
    /// Whether the survival names this append.
    selected: bool,
}

impl<'a> SurvivalResolver<'a> {
    pub(super) fn new(survival: &'a Survival, queue: &[Entry]) -> SurvivalResolver<'a> {
        let name = match survival {
            Survival::AllBut(name) | Survival::Torn { at: name, .. } => Some(name),
            Survival::None | Survival::All | Survival::Prefix(_) | Survival::Subset { .. } => None,
        };
        // Only alike operations are counted, so that a record of another kind does not change the
        // outcome of those after it.
        let mut label_counts = BTreeMap::new();
        let mut matching = 0;
        let mut index = 0;
        let mut positions = Vec::with_capacity(queue.len());
        for entry in queue {
            let label = label(entry.change());
            let count = label_counts.entry(label).or_insert(0);
            let mut position = OpPosition { index, label, nth: *count, selected: false };
            *count += 1;
            // Abandoned operations are lost in any case, so `Prefix` does not count them.
            index += u32::from(!entry.is_abandoned());
            if let Some(name) = name
                && let Change::Append(append) = entry.change()
                && name.is_about(append.about)
            {
                position.selected = matching == name.nth;
                matching += 1;
            }
            positions.push(position);
        }
        SurvivalResolver { survival, positions }
    }

    /// Whether the survival names an append that does not exist.
    pub(super) fn is_unmatched(&self) -> bool {
        match self.survival {
            Survival::AllBut(_) | Survival::Torn { .. } => {
                !self.positions.iter().any(|position| position.selected)
            }
            Survival::None | Survival::All | Survival::Prefix(_) | Survival::Subset { .. } => false,
        }
    }

    /// D2: the outcome of an append.
    pub(super) fn append(&self, index: usize, start: usize, len: usize) -> OpOutcome {
        let position = &self.positions[index];
        match self.survival {
            Survival::None => OpOutcome::Lost,
            Survival::All => OpOutcome::Kept,
            Survival::Prefix(n) => kept_or_lost(position.index < *n),
            Survival::AllBut(_) => kept_or_lost(!position.selected),
            Survival::Torn { how, hole, .. } if position.selected => {
                OpOutcome::Torn { bytes: how.kept_len(start, len), sized: hole.is_some() }
            }
            Survival::Torn { .. } => OpOutcome::Kept,
            Survival::Subset { .. } => OpOutcome::PerSector,
        }
    }

    /// D1: whether a truncation, a name change, or the size extension of a split append survives,
    /// each independently.
    pub(super) fn keeps(&self, index: usize) -> bool {
        let position = &self.positions[index];
        match self.survival {
            Survival::None => false,
            Survival::All | Survival::AllBut(_) | Survival::Torn { .. } => true,
            Survival::Prefix(n) => position.index < *n,
            Survival::Subset { keep, .. } => chance(self.random(position, 0), *keep),
        }
    }

    /// D1, D2: the outcome of the `sector`th sector of a split append, of which it wrote `len`
    /// bytes.
    pub(super) fn sector_outcome(&self, index: usize, sector: usize, len: usize) -> SectorOutcome {
        let Survival::Subset { keep, tear, .. } = self.survival else {
            return SectorOutcome::Kept;
        };
        let random = self.random(&self.positions[index], 1 + sector as u64);
        // Other bits than those that decided whether the sector is kept: they are not independent
        // given the outcome.
        let tear_random = hash(random, 1);
        if chance(random, *keep) {
            SectorOutcome::Kept
        } else if !tear || tear_random & 1 == 0 {
            SectorOutcome::Lost
        } else {
            torn_sector(tear_random >> 1, len)
        }
    }

    /// D3: the contents of holes.
    pub(super) fn holes(&self) -> Holes {
        match self.survival {
            Survival::Torn { hole: Some(holes), .. } | Survival::Subset { holes, .. } => *holes,
            Survival::None
            | Survival::All
            | Survival::Prefix(_)
            | Survival::AllBut(_)
            | Survival::Torn { hole: None, .. } => Holes::Zeros,
        }
    }

    /// The key of random choices in holes.
    pub(super) fn key(&self) -> u64 {
        match self.survival {
            Survival::Subset { key, .. } => *key,
            Survival::None
            | Survival::All
            | Survival::Prefix(_)
            | Survival::AllBut(_)
            | Survival::Torn { .. } => 0,
        }
    }

    fn random(&self, position: &OpPosition, part: u64) -> u64 {
        hash(hash(hash(self.key(), position.label), u64::from(position.nth)), part)
    }
}

impl AppendName {
    /// The `nth` unsynced append about `about`.
    pub fn new(about: About, nth: u32) -> AppendName {
        AppendName { kind: Cow::Borrowed(about.kind), subject: about.subject, nth }
    }

    fn is_about(&self, about: About) -> bool {
        self.kind == about.kind && self.subject == about.subject
    }
}

impl Tear {
    /// How many of the `len` bytes appended at `start` remain.
    fn kept_len(self, start: usize, len: usize) -> usize {
        match self {
            // Less than all of it: a tear that keeps the whole append is none. An append has at
            // least one byte.
            Tear::Header => HEADER_BYTES.min(len - 1),
            Tear::Half => len / 2,
            Tear::LastSectorMissing => {
                ((start + len - 1) / SECTOR_BYTES * SECTOR_BYTES).saturating_sub(start)
            }
        }
    }
}

fn kept_or_lost(kept: bool) -> OpOutcome {
    if kept { OpOutcome::Kept } else { OpOutcome::Lost }
}

/// D2: a torn sector of which `len` bytes were being written.
fn torn_sector(tear_random: u64, len: usize) -> SectorOutcome {
    // At least one byte, and fewer than all, where there is more than one.
    let part = 1 + (tear_random >> 8) as usize % len.max(2).saturating_sub(1);
    match tear_random % 3 {
        0 if part < len => SectorOutcome::Prefix(part),
        1 if part < len => SectorOutcome::Suffix(part),
        // A single byte has no part, so it can only become garbage.
        _ => SectorOutcome::Garbage(tear_random),
    }
}

/// True with this probability.
fn chance(random: u64, probability: Permille) -> bool {
    // The upper half, by a multiplication: a remainder would favour small numbers.
    ((random >> 32) * 1000) >> 32 < u64::from(probability.get())
}

/// A hash of an operation's kind, the role of its file, and its subject. The numbers of files are
/// excluded.
fn label(change: &Change) -> u64 {
    match change {
        Change::Append(Append { file, about, .. }) => hash(hash(1, role(*file)), about_key(*about)),
        Change::Truncate { file, .. } => hash(2, role(*file)),
        Change::Name(NameChange::Create { file }) => hash(3, role(*file)),
        Change::Name(NameChange::Rename { from, to, .. }) => hash(hash(4, role(*from)), role(*to)),
        Change::Name(NameChange::Remove { file }) => hash(5, role(*file)),
    }
}

pub(super) fn role(file: FileId) -> u64 {
    match file {
        FileId::Wal(_) => 1,
        FileId::Snapshot(_) => 2,
        FileId::Scratch => 3,
    }
}

fn about_key(about: About) -> u64 {
    let kind = about.kind.bytes().fold(0, |state, byte| hash(state, u64::from(byte)));
    match about.subject {
        None => kind,
        Some(Subject::Request(id)) => {
            // The last part is 1 or more: 0 marks a subject that is a number.
            let client_and_serial = id.client << 32 | u64::from(id.serial);
            hash(hash(kind, client_and_serial), 1 + u64::from(id.attempt))
        }
        Some(Subject::Number(number)) => hash(hash(kind, number), 0),
    }
}

/// Mixes `b` into `a`: the finaliser of splitmix64 (Steele, Lea, Flood 2014).
pub(super) fn hash(a: u64, b: u64) -> u64 {
    let mut z = (a ^ b.wrapping_mul(0xD6E8_FEB8_6659_FD93)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
