//! One file after a power cut: the durable bytes, and whatever survived on top of them (D1-D4, D6).

use std::ops::Range;

use super::graveyard::Graveyard;
use super::inode::Inode;
use super::queue::{Past, Step};
use super::report::CutReport;
use super::survival::{Fate, Holes, Judge, Piece, SECTOR_BYTES, mix};

/// What a file will hold from `base` on.
#[derive(Debug)]
pub(super) struct Image {
    /// Below this nothing is in question. The start of a sector.
    pub(super) base: usize,
    pub(super) bytes: Vec<u8>,
    /// Which of `bytes` anybody has written; as long as `bytes`.
    written: Vec<bool>,
    /// The size that has survived; `bytes` beyond it are data without size (D3).
    size: usize,
    /// Sectors of which an earlier write was lost.
    closed: Vec<usize>,
    /// What survived of which operation, before it is known how much of it the size covers.
    kept: Vec<(usize, Range<usize>)>,
}

impl Image {
    /// What survives of `inode` and its unsettled `steps`. The second value tells which bytes of which operation
    /// (by its index in the queue) did.
    pub(super) fn of(inode: &Inode, steps: &[Step], judge: &Judge<'_>, report: &mut CutReport) -> Image {
        let mut image = Image::durable(inode, steps);
        for step in steps {
            match &step.what {
                Past::Write { start, bytes } => image.append(step.index, *start, bytes, judge, report),
                Past::Cut { len } if judge.keeps(step.index) => image.cut(*len),
                Past::Cut { len } => report.resurrected_tails += u32::from(image.size > *len), // D6
            }
        }
        image.bytes.resize(image.size - image.base, 0);
        image.written.resize(image.size - image.base, false);
        image
    }

    fn durable(inode: &Inode, steps: &[Step]) -> Image {
        let lows = steps.iter().map(|step| match step.what {
            Past::Write { start, .. } => start,
            Past::Cut { len } => len,
        });
        let low = lows.chain(inode.holes.iter().map(|hole| hole.start)).min().unwrap_or(usize::MAX);
        let size = inode.platter.len();
        let base = low.min(size) / SECTOR_BYTES * SECTOR_BYTES;
        let bytes = inode.platter[base..].to_vec();
        let mut written = vec![true; bytes.len()];
        for hole in &inode.holes {
            written[hole.start - base..hole.end - base].fill(false);
        }
        Image { base, bytes, written, size, closed: Vec::new(), kept: Vec::new() }
    }

    /// D1: an append is one write per sector, and an extension of the size.
    fn append(
        &mut self,
        index: usize,
        start: usize,
        bytes: &[u8],
        judge: &Judge<'_>,
        report: &mut CutReport,
    ) {
        let end = start + bytes.len();
        match judge.append(index, start, bytes.len()) {
            Fate::Gone => report.lost_sectors += count(sectors(start, end).count()),
            Fate::Kept => {
                self.write(index, start, bytes);
                self.size = self.size.max(end);
            }
            Fate::Torn { bytes: some, sized } => {
                report.torn_sectors += 1;
                self.write(index, start, &bytes[..some]);
                self.size = self.size.max(if sized { end } else { start + some });
            }
            Fate::Split => {
                for (nth, part) in sectors(start, end).enumerate() {
                    let piece = judge.piece(index, nth, part.len());
                    self.write_piece(
                        index,
                        part.clone(),
                        &bytes[part.start - start..part.end - start],
                        piece,
                        report,
                    );
                }
                if judge.keeps(index) {
                    self.size = self.size.max(end);
                }
            }
        }
    }

    /// D1: writes to one sector keep their order, so that of those after a lost one none survives. D2: what is torn
    /// is but the bytes of this write; neither they nor what is lost can touch a byte that was synced before.
    fn write_piece(
        &mut self,
        index: usize,
        at: Range<usize>,
        bytes: &[u8],
        piece: Piece,
        report: &mut CutReport,
    ) {
        let sector = at.start / SECTOR_BYTES;
        if self.closed.contains(&sector) {
            report.lost_sectors += 1;
            return;
        }
        match piece {
            Piece::Kept => return self.write(index, at.start, bytes),
            Piece::Gone => {
                self.closed.push(sector);
                report.lost_sectors += 1;
                return;
            }
            Piece::Prefix(n) => self.write(index, at.start, &bytes[..n]),
            Piece::Suffix(n) => self.write(index, at.end - n, &bytes[bytes.len() - n..]),
            Piece::Garbage(key) => {
                self.put(at.start, &noise(key, at.len()));
            }
        }
        report.torn_sectors += 1;
    }

    fn write(&mut self, index: usize, start: usize, bytes: &[u8]) {
        self.put(start, bytes);
        self.kept.push((index, start..start + bytes.len()));
    }

    fn put(&mut self, start: usize, bytes: &[u8]) {
        let (from, to) = (start - self.base, start - self.base + bytes.len());
        if to > self.bytes.len() {
            self.bytes.resize(to, 0);
            self.written.resize(to, false);
        }
        self.bytes[from..to].copy_from_slice(bytes);
        self.written[from..to].fill(true);
    }

    /// D6: a truncation that survives. What was beyond is gone even if the file grows again.
    fn cut(&mut self, len: usize) {
        self.size = self.size.min(len);
        self.bytes.truncate(len - self.base);
        self.written.truncate(len - self.base);
        self.kept.iter_mut().for_each(|(_, range)| *range = range.start.min(len)..range.end.min(len));
    }

    /// How many bytes of each operation (by its index in the queue) are in the file.
    pub(super) fn kept(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.kept.iter().map(|(index, range)| (*index, range.end.min(self.size).saturating_sub(range.start)))
    }

    /// D3: a size can survive without its data. Fills what nobody has written.
    pub(super) fn fill_holes(
        &mut self,
        judge: &Judge<'_>,
        role: u64,
        old: &Graveyard,
        report: &mut CutReport,
    ) {
        let key = mix(mix(judge.key(), role), 0x686F_6C65);
        let mut nth = 0;
        for at in (0..self.bytes.len()).step_by(SECTOR_BYTES) {
            let range = at..self.bytes.len().min(at + SECTOR_BYTES);
            if self.written[range.clone()].iter().all(|written| *written) {
                continue;
            }
            let virgin = !self.written[range.clone()].iter().any(|written| *written);
            let dice = mix(key, nth);
            nth += 1;
            let sector = (self.base + at) / SECTOR_BYTES;
            let Some(block) =
                filling(judge.holes(), dice, old.block(sector, dice).filter(|_| virgin), report)
            else {
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

/// What one hole holds; `None` stands for zeros.
fn filling(holes: Holes, dice: u64, old: Option<Vec<u8>>, report: &mut CutReport) -> Option<Vec<u8>> {
    let holes = match holes {
        Holes::Mixed => [Holes::Zeros, Holes::Garbage, Holes::OldBlocks][(mix(dice, 2) % 3) as usize],
        Holes::Zeros | Holes::Garbage | Holes::OldBlocks => holes,
    };
    let filling = match holes {
        Holes::Garbage => Some(noise(dice, SECTOR_BYTES)),
        Holes::OldBlocks => old,
        Holes::Zeros | Holes::Mixed => None,
    };
    match (&filling, holes) {
        (None, _) => report.holes_with_zeros += 1,
        (Some(_), Holes::OldBlocks) => report.holes_with_old_blocks += 1,
        (Some(_), Holes::Zeros | Holes::Garbage | Holes::Mixed) => report.holes_with_garbage += 1,
    }
    filling
}

/// The parts of `start..end` that are in one sector each.
fn sectors(start: usize, end: usize) -> impl Iterator<Item = Range<usize>> {
    (start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES))
        .map(move |sector| start.max(sector * SECTOR_BYTES)..end.min((sector + 1) * SECTOR_BYTES))
}

fn noise(key: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| mix(key, at).to_le_bytes()[0]).collect()
}

fn count(of: usize) -> u32 {
    u32::try_from(of).expect("fewer than 2^32 sectors")
}
