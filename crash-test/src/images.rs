//! Which images a crash may leave: the sets of pending parts that survive together.

use std::collections::BTreeSet;

use crate::pending::{Change, Disk};

/// The parts that survive a crash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Survivors {
    pub keep: Vec<bool>,
    /// A sector of which only the first bytes are new: its part, and how many.
    pub torn: Option<(usize, usize)>,
    pub garbage: bool,
}

impl Survivors {
    /// Whether a kill has interrupted the last write, of which `torn` tells the length.
    pub(crate) fn interrupts_write(&self) -> bool {
        self.keep.is_empty() && self.torn.is_some()
    }
}

/// The sets to try at one point of a record.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    pub sets: BTreeSet<Survivors>,
    /// Losses of two parts that were left out, since there are too many parts.
    pub not_tried: u64,
}

/// Up to so many pending parts every loss of two of them is tried.
// 2,016 pairs at one point; engines with more pending parts write whole files.
pub(crate) const PAIRS_MAX: usize = 64;

/// Up to so many pending parts every set is tried.
const ALL_SETS_MAX: usize = 6;

/// Sets that are drawn beyond the systematic ones.
const SAMPLES: u64 = 8;

impl Candidates {
    /// Every systematic set, and some random ones.
    pub(crate) fn of(disk: &Disk) -> Candidates {
        let mut candidates = Candidates::default();
        let parts = disk.pending().len();
        candidates.add(disk, vec![false; parts]);
        candidates.add(disk, vec![true; parts]);
        candidates.add_losses(disk);
        candidates.add_classes(disk);
        candidates.add_torn(disk);
        candidates.add_samples(disk);
        candidates
    }

    /// Everything survives.
    pub(crate) fn whole(disk: &Disk) -> Candidates {
        let mut candidates = Candidates::default();
        candidates.add(disk, vec![true; disk.pending().len()]);
        candidates
    }

    /// Whether these parts may survive without the others.
    pub(crate) fn is_legal(disk: &Disk, keep: &[bool]) -> bool {
        legal(disk, keep.to_vec()) == keep
    }

    /// The few sets that tell most: for the runs with an injected failure, of which there are many.
    pub(crate) fn few_of(disk: &Disk) -> Candidates {
        let mut candidates = Candidates::default();
        let parts = disk.pending();
        candidates.add(disk, vec![false; parts.len()]);
        candidates.add(disk, vec![true; parts.len()]);
        candidates.add(disk, parts.iter().map(|part| !part.abandoned).collect());
        candidates.add(disk, parts.iter().map(|part| part.abandoned).collect());
        candidates
    }

    /// Each part lost or surviving alone, each operation likewise, prefixes, and pairs.
    fn add_losses(&mut self, disk: &Disk) {
        let parts = disk.pending();
        let count = parts.len();
        for lost in 0..count {
            self.add(disk, (0..count).map(|at| at != lost).collect());
            self.add_only(disk, &[lost]);
        }
        let operations: BTreeSet<usize> = parts.iter().map(|part| part.op).collect();
        for op in operations {
            self.add(disk, parts.iter().map(|part| part.op < op).collect());
            self.add(disk, parts.iter().map(|part| part.op != op).collect());
            let own: Vec<_> = (0..count).filter(|at| parts[*at].op == op).collect();
            self.add_only(disk, &own);
        }
        if count > PAIRS_MAX {
            self.not_tried += (count * (count - 1) / 2) as u64;
            return;
        }
        for first in 0..count {
            for second in first + 1..count {
                self.add(disk, (0..count).map(|at| at != first && at != second).collect());
            }
        }
        if count <= ALL_SETS_MAX {
            for set in 0..1_u32 << count {
                self.add(disk, (0..count).map(|at| set >> at & 1 == 1).collect());
            }
        }
    }

    /// Names, sizes and data apart.
    fn add_classes(&mut self, disk: &Disk) {
        let parts = disk.pending();
        self.add(disk, parts.iter().map(|part| part.change.is_name()).collect());
        self.add(disk, parts.iter().map(|part| !part.change.is_name()).collect());
        self.add(disk, parts.iter().map(|part| !part.change.is_data()).collect());
    }

    /// Each sector torn after its first byte, in its middle, and before its last byte: with
    /// everything else, and with what came before it.
    fn add_torn(&mut self, disk: &Disk) {
        let parts = disk.pending();
        for (at, part) in parts.iter().enumerate() {
            let Change::Sector { bytes, .. } = &part.change else { continue };
            for cut in [1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
                if cut == 0 || cut >= bytes.len() {
                    continue;
                }
                // Sectors of one write are torn one by one.
                let earlier = (0..parts.len()).map(|other| other <= at).collect();
                for mut keep in [vec![true; parts.len()], earlier] {
                    // A torn sector is not what another part may need.
                    keep[at] = false;
                    let mut keep = legal(disk, keep);
                    keep[at] = true;
                    self.insert(disk, Survivors { keep, torn: Some((at, cut)), garbage: false });
                }
            }
        }
    }

    fn add_samples(&mut self, disk: &Disk) {
        let count = disk.pending().len();
        if count <= ALL_SETS_MAX {
            return;
        }
        // A function of the record alone: the same test tries the same images.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ count as u64;
        for sample in 0..SAMPLES {
            // Half, most, or few of the parts survive.
            let per_mille = [500, 850, 150][(sample % 3) as usize];
            let mut keep = Vec::with_capacity(count);
            for _ in 0..count {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                keep.push(state % 1000 < per_mille);
            }
            self.add(disk, keep);
        }
    }

    /// Only these parts survive, with those that must survive with them.
    fn add_only(&mut self, disk: &Disk, parts: &[usize]) {
        let mut keep = vec![false; disk.pending().len()];
        let mut open = parts.to_vec();
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut keep[at], true) {
                continue;
            }
            open.extend(disk.needs(at));
            if disk.is_in_journal(at) {
                open.extend((0..at).filter(|earlier| disk.is_in_journal(*earlier)));
            }
        }
        self.add(disk, keep);
    }

    fn add(&mut self, disk: &Disk, keep: Vec<bool>) {
        self.insert(disk, Survivors { keep: legal(disk, keep), torn: None, garbage: false });
    }

    fn insert(&mut self, disk: &Disk, survivors: Survivors) {
        if disk.shows_garbage() {
            self.sets.insert(Survivors { garbage: true, ..survivors.clone() });
        }
        self.sets.insert(survivors);
    }
}

/// The greatest legal set within this one: a part does not survive without what it needs, and one
/// in a journal not without those before it.
fn legal(disk: &Disk, mut keep: Vec<bool>) -> Vec<bool> {
    let mut journal_ends = false;
    for at in 0..keep.len() {
        let in_journal = disk.is_in_journal(at);
        keep[at] &= !(in_journal && journal_ends) && disk.needs(at).iter().all(|need| keep[*need]);
        journal_ends |= in_journal && !keep[at];
    }
    keep
}
