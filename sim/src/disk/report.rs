//! What a crash did, for counters and traces.

use stormglass_node::{About, FileId};

use super::directory::Directory;
use super::queue::{Change, Entry};
use crate::hash::Fingerprint;
use crate::tally::Rule;

/// The effect of a power cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CutReport {
    /// Every unsynced append, in the order of issue.
    pub appends: Vec<AppendOutcome>,
    /// Every name that differs from the volatile state, in ascending order.
    pub names: Vec<NameLoss>,
    /// Files whose data was synced and whose last name did not survive (D4).
    pub synced_misnamed: u32,
    /// Sectors whose write did not survive.
    pub lost_sectors: u32,
    /// Sectors whose write survived in part, or as garbage (D2).
    pub torn_sectors: u32,
    /// Sectors with a size and no data that hold zeros (D3).
    pub holes_with_zeros: u32,
    /// Likewise, with garbage.
    pub holes_with_garbage: u32,
    /// Likewise, with a block of a removed file.
    pub holes_with_old_blocks: u32,
    /// Truncations that did not survive, so that a tail reappeared (D6).
    pub resurrected_tails: u32,
    /// Bytes of a failed sync that are lost now (D7).
    pub failed_sync_bytes: u64,
    /// The survival named an append that does not exist; everything has survived.
    pub unmatched: bool,
}

/// The outcome of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendOutcome {
    /// The file, by its name at that time.
    pub file: FileId,
    /// The kind and subject that the node gave the append.
    pub about: About,
    /// Its length.
    pub bytes: u64,
    /// How many of its bytes survived.  `kept <= bytes`
    pub kept: u64,
}

/// A name that a power cut has changed (D5, D6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum NameLoss {
    /// The file of that name is lost with its creation.
    Create(FileId),
    /// The rename of a file was undone.
    Rename {
        /// The old name.
        from: FileId,
        /// The lost name.
        to: FileId,
    },
    /// The removed or replaced file exists again.
    Remove(FileId),
}

/// The effect of a kill (P1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KillReport {
    /// The number of operations that could have been cut.
    pub in_driver_queue: usize,
    /// How many of them, from the first, had reached the page cache.
    pub kept: usize,
    /// The appends among them, in the order of issue; each kept entirely or not at all.
    pub appends: Vec<AppendOutcome>,
}

/// How many of the unsynced bytes of one file survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileOutcome {
    /// The file, by its name when they were appended.
    pub file: FileId,
    /// Unsynced bytes before the crash.
    pub bytes: u64,
    /// Those that survived.  `kept <= bytes`
    pub kept: u64,
}

impl AppendOutcome {
    fn is_incomplete(&self) -> bool {
        self.kept < self.bytes
    }
}

impl CutReport {
    /// How often each rule was applied in this power cut.
    pub fn hits(&self) -> [(Rule, u64); 6] {
        let holes = self.holes_with_zeros + self.holes_with_garbage + self.holes_with_old_blocks;
        let removals = self.names.iter().filter(|loss| matches!(loss, NameLoss::Remove(_))).count();
        [
            (Rule::UnsyncedSplit, u64::from(!self.appends.is_empty())),
            (Rule::TornSector, self.torn_sectors.into()),
            (Rule::LengthWithoutData, holes.into()),
            (Rule::DataWithoutName, self.synced_misnamed.into()),
            (Rule::NameChangeLost, (self.names.len() - removals) as u64),
            (Rule::RemovalUndone, removals as u64 + u64::from(self.resurrected_tails)),
        ]
    }

    /// Whether a log has a record that was written in part, where the node will find a torn tail.
    pub fn has_torn_record(&self) -> bool {
        self.wal_appends().any(|outcome| 0 < outcome.kept && outcome.kept < outcome.bytes)
    }

    /// Whether a log has an intact record after one that was lost or torn. Legal: sectors survive
    /// in any order, and neither was synced.
    pub fn has_record_after_a_lost_one(&self) -> bool {
        self.appends.iter().enumerate().any(|(at, outcome)| {
            matches!(outcome.file, FileId::Wal(_))
                && !outcome.is_incomplete()
                && self.name_survived(outcome.file)
                && self.appends[..at]
                    .iter()
                    .any(|earlier| earlier.file == outcome.file && earlier.is_incomplete())
        })
    }

    /// The unsynced appends to logs that still have their names.
    fn wal_appends(&self) -> impl Iterator<Item = &AppendOutcome> {
        self.appends.iter().filter(|outcome| {
            matches!(outcome.file, FileId::Wal(_)) && self.name_survived(outcome.file)
        })
    }

    fn name_survived(&self, file: FileId) -> bool {
        !self.names.contains(&NameLoss::Create(file))
    }

    /// A hash of the whole report.
    pub(crate) fn digest(&self) -> u64 {
        let mut fingerprint = Fingerprint::default();
        fold_outcomes(&self.appends, &mut fingerprint);
        fingerprint.fold(self.names.len() as u64);
        // Enough to tell two power cuts apart; the bytes themselves enter the fingerprint when they
        // are read and acted on.
        for count in
            [self.lost_sectors, self.torn_sectors, self.holes_with_zeros, self.holes_with_garbage]
        {
            fingerprint.fold(count.into());
        }
        fingerprint.value()
    }

    /// The appends by file, in ascending order: `kept 9 of 61 B in wal.0`.
    pub fn files(&self) -> Vec<FileOutcome> {
        by_file(&self.appends)
    }
}

impl KillReport {
    /// A hash of the whole report.
    pub(crate) fn digest(&self) -> u64 {
        let mut fingerprint = Fingerprint::default();
        fold_outcomes(&self.appends, &mut fingerprint);
        fingerprint.fold(self.kept as u64);
        fingerprint.value()
    }

    /// The appends by file, in ascending order.
    pub fn files(&self) -> Vec<FileOutcome> {
        by_file(&self.appends)
    }
}

fn fold_outcomes(appends: &[AppendOutcome], fingerprint: &mut Fingerprint) {
    for outcome in appends {
        fingerprint.fold(outcome.bytes);
        fingerprint.fold(outcome.kept);
    }
}

fn by_file(appends: &[AppendOutcome]) -> Vec<FileOutcome> {
    let mut files: Vec<FileOutcome> = Vec::new();
    for outcome in appends {
        match files.iter_mut().find(|file| file.file == outcome.file) {
            Some(file) => {
                file.bytes += outcome.bytes;
                file.kept += outcome.kept;
            }
            None => files.push(FileOutcome {
                file: outcome.file,
                bytes: outcome.bytes,
                kept: outcome.kept,
            }),
        }
    }
    files.sort_by_key(|file| file.file);
    files
}

/// The appends in `queue`; `kept` returns the number of surviving bytes of the operation at an
/// index.
pub(super) fn appends(queue: &[Entry], kept: impl Fn(usize) -> usize) -> Vec<AppendOutcome> {
    let outcomes = queue.iter().enumerate().filter_map(|(index, entry)| {
        let Change::Append(append) = entry.change() else { return None };
        let bytes = append.len as u64;
        let kept = kept(index) as u64;
        Some(AppendOutcome { file: append.file, about: append.about, bytes, kept })
    });
    outcomes.collect()
}

/// How the surviving names differ from the volatile ones.
pub(super) fn name_losses(visible: &Directory, survived: &Directory) -> Vec<NameLoss> {
    let mut losses = Vec::new();
    for (name, ino) in visible.iter() {
        match survived.name_of(ino) {
            None => losses.push(NameLoss::Create(name)),
            Some(old) if old != name => losses.push(NameLoss::Rename { from: old, to: name }),
            Some(_) => {}
        }
    }
    for (name, ino) in survived.iter() {
        if visible.name_of(ino).is_none() {
            losses.push(NameLoss::Remove(name));
        }
    }
    // The order of the two loops is none that a reader would expect.
    losses.sort();
    losses
}

impl std::fmt::Display for NameLoss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NameLoss::Create(file) => write!(f, "{file} vanished"),
            NameLoss::Rename { from, to } => write!(f, "{to} reverted to {from}"),
            NameLoss::Remove(file) => write!(f, "{file} reappeared"),
        }
    }
}
