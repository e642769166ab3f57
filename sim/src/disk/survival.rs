//! What survives a power cut, named by *structure* and never by bytes or offsets: a schedule that made a node fail
//! has to make it fail after its records have grown a field.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stormglass::{About, FileId, Subject};

use super::names::NameChange;
use super::queue::{Append, Change, Entry};

/// D1: what a disk writes at once, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// How much of an append [`Tear::Header`] leaves, in bytes.
pub const HEADER_BYTES: usize = 8;

/// Which of the unsynced operations survive a power cut (D2). What is synced survives all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Survival {
    /// None of them.
    None,
    /// All of them.
    All,
    /// The first so many in the order of issue, as counted by [`Disk::unsynced`](super::Disk::unsynced); the
    /// creation of a file counts as one, before the append that caused it.
    Prefix(u32),
    /// All but one append, data and size; if a later append reaches beyond, there are zeros in its stead.
    AllBut(AppendName),
    /// All, but one append in part.
    Torn {
        /// Which one.
        at: AppendName,
        /// What is left of it.
        how: Tear,
        /// What the rest of it holds. With `None` the file ends at the tear, if no later append reaches beyond.
        hole: Option<Holes>,
    },
    /// Each micro-operation (D1) on its own.
    Subset {
        /// Decides, together with the structural place of each micro-operation.
        key: u64,
        /// How likely each is to survive, in 1/1000.
        keep_permille: u16,
        /// Whether half of the sectors that do not survive are torn instead: a prefix, a suffix, or garbage.
        tear: bool,
        /// What sectors hold that have a size and no data (D3).
        holes: Holes,
    },
}

/// One of the unsynced appends of a disk, by what it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AppendName {
    /// Its kind: `Prepared`.
    pub kind: Cow<'static, str>,
    /// Its subject.
    pub subject: Option<Subject>,
    /// Which of the unsynced appends about that, from 0, in the order of issue.
    pub nth: u32,
}

/// What is left of a torn append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Tear {
    /// Its first [`HEADER_BYTES`].
    Header,
    /// Its first half.
    Half,
    /// All but what it wrote to the last of its sectors.
    LastSectorMissing,
}

/// D3: what a sector holds whose size survived and whose data did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Holes {
    /// Zeros.
    Zeros,
    /// Noise.
    Garbage,
    /// A block of a file that was removed, or whose creation was lost; zeros if there is none, or if a part of the
    /// sector had been written.
    OldBlocks,
    /// Each sector one of these.
    Mixed,
}

/// What becomes of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Gone,
    /// Its first `bytes` are written; it extends the file to its end if `sized`, else to the tear.
    Torn {
        bytes: usize,
        sized: bool,
    },
    /// Sectors and size are judged each on their own.
    Split,
}

/// What becomes of one sector of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Kept,
    Gone,
    Prefix(usize),
    Suffix(usize),
    /// Noise made of this.
    Garbage(u64),
}

/// Applies one [`Survival`] to one queue.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    survival: &'a Survival,
    places: Vec<Place>,
}

/// Where an operation stands among its like.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Among all operations.
    index: u32,
    /// What it does, on files of which role, about what.
    label: u64,
    /// Which of those with that label.
    nth: u32,
    /// Whether the survival speaks of this very append.
    named: bool,
}

impl<'a> Judge<'a> {
    pub(super) fn new(survival: &'a Survival, queue: &[Entry]) -> Judge<'a> {
        let name = match survival {
            Survival::AllBut(name) | Survival::Torn { at: name, .. } => Some(name),
            Survival::None | Survival::All | Survival::Prefix(_) | Survival::Subset { .. } => None,
        };
        let mut seen = BTreeMap::new();
        let mut matching = 0;
        let mut index = 0;
        let place = |entry: &Entry| {
            let label = label(&entry.change);
            let count = seen.entry(label).or_insert(0);
            let mut place = Place { index, label, nth: *count, named: false };
            *count += 1;
            index += u32::from(!entry.forsaken);
            if let (Some(name), Change::Append(append)) = (name, &entry.change)
                && name.is_about(append.about)
            {
                place.named = matching == name.nth;
                matching += 1;
            }
            place
        };
        Judge { survival, places: queue.iter().map(place).collect() }
    }

    /// Whether the survival speaks of an append that is not there.
    pub(super) fn is_beside_the_point(&self) -> bool {
        match self.survival {
            Survival::AllBut(_) | Survival::Torn { .. } => !self.places.iter().any(|place| place.named),
            Survival::None | Survival::All | Survival::Prefix(_) | Survival::Subset { .. } => false,
        }
    }

    /// D2: what becomes of an append.
    pub(super) fn append(&self, index: usize, start: usize, len: usize) -> Fate {
        let place = &self.places[index];
        match self.survival {
            Survival::None => Fate::Gone,
            Survival::All => Fate::Kept,
            Survival::Prefix(n) => kept_if(place.index < *n),
            Survival::AllBut(_) => kept_if(!place.named),
            Survival::Torn { how, hole, .. } if place.named => {
                Fate::Torn { bytes: how.leaves(start, len), sized: hole.is_some() }
            }
            Survival::Torn { .. } => Fate::Kept,
            Survival::Subset { .. } => Fate::Split,
        }
    }

    /// D1: whether a truncation, a change of names, or the size extension of a split append survives, each on its
    /// own.
    pub(super) fn keeps(&self, index: usize) -> bool {
        let place = &self.places[index];
        match self.survival {
            Survival::None => false,
            Survival::All | Survival::AllBut(_) | Survival::Torn { .. } => true,
            Survival::Prefix(n) => place.index < *n,
            Survival::Subset { keep_permille, .. } => chance(self.roll(place, 0), *keep_permille),
        }
    }

    /// D1, D2: what becomes of the `sector`th sector of a split append, of which it wrote `len` bytes.
    pub(super) fn piece(&self, index: usize, sector: usize, len: usize) -> Piece {
        let Survival::Subset { keep_permille, tear, .. } = self.survival else { return Piece::Kept };
        let roll = self.roll(&self.places[index], 1 + sector as u64);
        let noise = mix(roll, 1);
        if chance(roll, *keep_permille) {
            Piece::Kept
        } else if !tear || noise & 1 == 0 {
            Piece::Gone
        } else {
            torn(noise >> 1, len)
        }
    }

    /// D3: what holes are made of.
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

    /// The key for what is left to chance in holes.
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

    fn roll(&self, place: &Place, part: u64) -> u64 {
        mix(mix(mix(self.key(), place.label), u64::from(place.nth)), part)
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
    /// How many of the `len` bytes appended at `start` it leaves.
    fn leaves(self, start: usize, len: usize) -> usize {
        match self {
            Tear::Header => HEADER_BYTES.min(len - 1),
            Tear::Half => len / 2,
            Tear::LastSectorMissing => {
                ((start + len - 1) / SECTOR_BYTES * SECTOR_BYTES).saturating_sub(start)
            }
        }
    }
}

fn kept_if(kept: bool) -> Fate {
    if kept { Fate::Kept } else { Fate::Gone }
}

/// D2: a sector of which `len` bytes were being written, torn.
fn torn(noise: u64, len: usize) -> Piece {
    let some = 1 + (noise >> 8) as usize % len.max(2).saturating_sub(1);
    match noise % 3 {
        0 if some < len => Piece::Prefix(some),
        1 if some < len => Piece::Suffix(some),
        _ => Piece::Garbage(noise),
    }
}

/// True with a likelihood of `permille` in 1000.
fn chance(roll: u64, permille: u16) -> bool {
    ((roll >> 32) * 1000) >> 32 < u64::from(permille)
}

/// What an operation does, on files of which role, about what. The numbers of files are not part of it.
fn label(change: &Change) -> u64 {
    match change {
        Change::Append(Append { file, about, .. }) => mix(mix(1, role(*file)), meaning(*about)),
        Change::Truncate { file, .. } => mix(2, role(*file)),
        Change::Name(NameChange::Create { file }) => mix(3, role(*file)),
        Change::Name(NameChange::Rename { from, to, .. }) => mix(mix(4, role(*from)), role(*to)),
        Change::Name(NameChange::Remove { file }) => mix(5, role(*file)),
    }
}

pub(super) fn role(file: FileId) -> u64 {
    match file {
        FileId::Wal(_) => 1,
        FileId::Snapshot(_) => 2,
        FileId::Scratch => 3,
    }
}

fn meaning(about: About) -> u64 {
    let kind = about.kind.bytes().fold(0, |hash, byte| mix(hash, u64::from(byte)));
    match about.subject {
        None => kind,
        Some(Subject::Request(id)) => {
            let who = id.client << 32 | u64::from(id.serial);
            mix(mix(kind, who), 1 + u64::from(id.attempt))
        }
        Some(Subject::Serial(serial)) => mix(mix(kind, serial), 0),
    }
}

/// Stirs `b` into `a`: the finaliser of splitmix64 (Steele, Lea, Flood 2014).
pub(super) fn mix(a: u64, b: u64) -> u64 {
    let mut z = (a ^ b.wrapping_mul(0xD6E8_FEB8_6659_FD93)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
