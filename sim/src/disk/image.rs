//! One file after a power cut: the durable bytes, and the unsynced bytes that survived (D1-D4, D6).

use std::ops::Range;

use super::inode::Inode;
use super::queue::{Step, StepKind};
use super::removed_files::{OldPlace, RemovedFiles};
use super::report::CutReport;
use super::survival::{Holes, OpOutcome, SECTOR_BYTES, SectorOutcome, SurvivalResolver, hash};

/// The contents of a file from `base` on.
#[derive(Debug)]
pub(super) struct Image {
    /// The bytes below are durable. The start of a sector.
    base: usize,
    bytes: Vec<u8>,
    /// Which of `bytes` were written; as long as `bytes`.
    written: Vec<bool>,
    /// The size that survived; `bytes` beyond it are data without size (D3).
    size: usize,
    /// Sectors that have lost a write: later writes to them are lost as well (D1).
    sectors_with_lost_write: Vec<usize>,
    /// Where unsynced appends begin, and their first bytes.
    appends: Vec<(usize, [u8; 4])>,
    /// The surviving range of each operation, before it is known how much of it the size covers.
    kept: Vec<(usize, Range<usize>)>,
}

impl Image {
    /// The surviving contents of `inode`, given its unsynced `steps`.
    pub(super) fn of(
        inode: &Inode,
        steps: &[Step],
        resolver: &SurvivalResolver<'_>,
        report: &mut CutReport,
    ) -> Image {
        let mut image = Image::durable(inode, steps);
        for step in steps {
            match &step.kind {
                StepKind::Write { start, bytes } => {
                    image.append(step.index, *start, bytes, resolver, report)
                }
                // In the order of issue: a truncation cuts the appends before it, not those after
                // it.
                StepKind::Truncate { len } if resolver.keeps(step.index) => image.truncate(*len),
                // D6: a truncation that does not survive leaves the tail in place.
                StepKind::Truncate { len } => {
                    report.resurrected_tails += u32::from(image.size > *len)
                }
            }
        }
        // Data beyond the size is lost (D3), and a size beyond the data becomes a hole.
        image.bytes.resize(image.size - image.base, 0);
        image.written.resize(image.size - image.base, false);
        image
    }

    fn durable(inode: &Inode, steps: &[Step]) -> Image {
        let lows = steps.iter().map(|step| match step.kind {
            StepKind::Write { start, .. } => start,
            StepKind::Truncate { len } => len,
        });
        let low =
            lows.chain(inode.holes().iter().map(|hole| hole.start)).min().unwrap_or(usize::MAX);
        let size = inode.platter().len();
        // The start of a sector, so that every sector of the image is whole and holes can be filled
        // sector by sector.
        let base = low.min(size) / SECTOR_BYTES * SECTOR_BYTES;
        let bytes = inode.platter()[base..].to_vec();
        let mut written = vec![true; bytes.len()];
        for hole in inode.holes() {
            written[hole.start - base..hole.end - base].fill(false);
        }
        Image {
            base,
            bytes,
            written,
            size,
            sectors_with_lost_write: Vec::new(),
            appends: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// D1: an append is one write per sector plus an extension of the size.
    fn append(
        &mut self,
        index: usize,
        start: usize,
        bytes: &[u8],
        resolver: &SurvivalResolver<'_>,
        report: &mut CutReport,
    ) {
        let end = start + bytes.len();
        self.appends.extend(bytes.first_chunk().map(|first| (start, *first)));
        match resolver.append(index, start, bytes.len()) {
            OpOutcome::Lost => report.lost_sectors += count(sectors(start, end).count()),
            OpOutcome::Kept => {
                self.write(index, start, bytes);
                self.size = self.size.max(end);
            }
            OpOutcome::Torn { bytes: some, sized } => {
                report.torn_sectors += 1;
                self.write(index, start, &bytes[..some]);
                // A size beyond the tear leaves bytes that were not written: `fill_holes` decides
                // what they hold.
                self.size = self.size.max(if sized { end } else { start + some });
            }
            OpOutcome::PerSector => {
                for (nth, part) in sectors(start, end).enumerate() {
                    let sector_outcome = resolver.sector_outcome(index, nth, part.len());
                    self.write_sector(
                        index,
                        part.clone(),
                        &bytes[part.start - start..part.end - start],
                        sector_outcome,
                        report,
                    );
                }
                // The extension of the size is a micro-operation of its own (D1).
                if resolver.keeps(index) {
                    self.size = self.size.max(end);
                }
            }
        }
    }

    /// D1: writes to one sector keep their order, so that none after a lost one survives. D2: only
    /// the bytes of this write are torn; neither they nor lost bytes can affect a byte that was
    /// synced before.
    fn write_sector(
        &mut self,
        index: usize,
        at: Range<usize>,
        bytes: &[u8],
        sector_outcome: SectorOutcome,
        report: &mut CutReport,
    ) {
        let sector = at.start / SECTOR_BYTES;
        // Almost always empty or of one entry, so a list is enough.
        if self.sectors_with_lost_write.contains(&sector) {
            report.lost_sectors += 1;
            return;
        }
        match sector_outcome {
            SectorOutcome::Kept => return self.write(index, at.start, bytes),
            SectorOutcome::Lost => {
                self.sectors_with_lost_write.push(sector);
                report.lost_sectors += 1;
                return;
            }
            SectorOutcome::Prefix(n) => self.write(index, at.start, &bytes[..n]),
            SectorOutcome::Suffix(n) => self.write(index, at.end - n, &bytes[bytes.len() - n..]),
            SectorOutcome::Garbage(key) => {
                // Not recorded as kept: garbage is no byte of the append.
                self.put(at.start, &garbage(key, at.len()));
            }
        }
        report.torn_sectors += 1;
    }

    fn write(&mut self, index: usize, start: usize, bytes: &[u8]) {
        self.put(start, bytes);
        self.kept.push((index, start..start + bytes.len()));
    }

    fn put(&mut self, start: usize, bytes: &[u8]) {
        let from = start - self.base;
        let to = from + bytes.len();
        if to > self.bytes.len() {
            // The gap counts as not written, so it is a hole unless a later write fills it.
            self.bytes.resize(to, 0);
            self.written.resize(to, false);
        }
        self.bytes[from..to].copy_from_slice(bytes);
        self.written[from..to].fill(true);
    }

    /// D6: a truncation that survives. The bytes beyond it are lost even if the file grows again.
    fn truncate(&mut self, len: usize) {
        self.size = self.size.min(len);
        self.bytes.truncate(len - self.base);
        self.written.truncate(len - self.base);
        self.kept
            .iter_mut()
            .for_each(|(_, range)| *range = range.start.min(len)..range.end.min(len));
    }

    /// The offset of the first byte that the power cut may have changed.
    pub(super) fn base(&self) -> usize {
        self.base
    }

    /// The contents from there on.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// For each write: the index of its operation in the queue, and how many of its bytes are in
    /// the file. An operation can occur more than once.
    pub(super) fn kept(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.kept
            .iter()
            .map(|(index, range)| (*index, range.end.min(self.size).saturating_sub(range.start)))
    }

    /// D3: a size can survive without its data. Fills the bytes that were not written.
    pub(super) fn fill_holes(
        &mut self,
        resolver: &SurvivalResolver<'_>,
        role: u64,
        old: &RemovedFiles,
        report: &mut CutReport,
    ) {
        // ASCII "hole": separates these random numbers from the others of the same key.
        let key = hash(hash(resolver.key(), role), 0x686F_6C65);
        let mut nth = 0;
        let mut stale = None;
        for at in (0..self.bytes.len()).step_by(SECTOR_BYTES) {
            let range = at..self.bytes.len().min(at + SECTOR_BYTES);
            if self.written[range.clone()].iter().all(|written| *written) {
                stale = None;
                continue;
            }
            let never_written = !self.written[range.clone()].iter().any(|written| *written);
            let random = hash(key, nth);
            nth += 1;
            let sector = (self.base + at) / SECTOR_BYTES;
            let hole = range.clone().find(|at| !self.written[*at]).expect("a part is not written");
            // The record of which this hole has the beginning goes on in the next one.
            stale =
                stale.filter(|_| never_written).or_else(|| self.stale_record(hole, old, random));
            let old_block = match stale {
                Some(place) => Some(old.bytes_from(place, hole - at)),
                // A sector of which a part was written has its own data; an old block would be in a
                // free one.
                None => old.block(sector, random).filter(|_| never_written),
            };
            stale = stale.map(|place| place.advanced(SECTOR_BYTES - (hole - at)));
            let Some(block) = hole_contents(resolver.holes(), random, old_block, report) else {
                continue;
            };
            for (to, byte) in range.zip(block) {
                if !self.written[to] {
                    self.bytes[to] = byte;
                }
            }
        }
    }
}

impl Image {
    /// If a lost append begins with this hole: half of the time the place of a record of a removed
    /// file, so that an old record fits exactly behind the last one that has survived.
    fn stale_record(&self, hole: usize, old: &RemovedFiles, random: u64) -> Option<OldPlace> {
        let random = hash(random, 4);
        let lost = self.appends.iter().find(|(start, _)| *start == self.base + hole);
        let (_, first) = lost.filter(|_| random & 1 == 0)?;
        old.place_of(*first, random >> 1)
    }
}

/// The contents of one hole; `None` stands for zeros.
fn hole_contents(
    holes: Holes,
    random: u64,
    old: Option<Vec<u8>>,
    report: &mut CutReport,
) -> Option<Vec<u8>> {
    let holes = match holes {
        Holes::Mixed => {
            [Holes::Zeros, Holes::Garbage, Holes::OldBlocks][(hash(random, 2) % 3) as usize]
        }
        Holes::Zeros | Holes::Garbage | Holes::OldBlocks => holes,
    };
    let hole_contents = match holes {
        Holes::Garbage => Some(garbage(random, SECTOR_BYTES)),
        Holes::OldBlocks => old,
        Holes::Zeros | Holes::Mixed => None,
    };
    match (&hole_contents, holes) {
        (None, _) => report.holes_with_zeros += 1,
        (Some(_), Holes::OldBlocks) => report.holes_with_old_blocks += 1,
        (Some(_), Holes::Zeros | Holes::Garbage | Holes::Mixed) => report.holes_with_garbage += 1,
    }
    hole_contents
}

/// The parts of `start..end` that lie in one sector each.
fn sectors(start: usize, end: usize) -> impl Iterator<Item = Range<usize>> {
    (start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES))
        .map(move |sector| start.max(sector * SECTOR_BYTES)..end.min((sector + 1) * SECTOR_BYTES))
}

fn garbage(key: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| hash(key, at).to_le_bytes()[0]).collect()
}

fn count(of: usize) -> u32 {
    u32::try_from(of).expect("fewer than 2^32 sectors")
}
