//! The bytes of one file: what the node sees, and what is on the platter.

use std::ops::Range;

/// Names a file whatever name it bears. Reused once nothing speaks of the file any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ino(pub(super) u32);

/// One file.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// Whether any name, operation or barrier may speak of it.
    pub(super) used: bool,
    /// The page cache: what reads show.
    pub(super) cache: Vec<u8>,
    /// What every power cut leaves at least, but for pending truncations; zero where there is a hole.
    pub(super) platter: Vec<u8>,
    /// Parts of the platter that were never written though the file extends beyond them: the pages of a failed
    /// sync (D7). The next power cut decides what they hold (D3).
    pub(super) holes: Vec<Range<usize>>,
    /// How many truncations of it are in the queue; almost always none, and then every unsynced byte is still in
    /// the cache where it was appended.
    pub(super) truncates: u32,
    /// D7: from here on the cache holds what no sync will ever write.
    pub(super) abandoned_from: Option<usize>,
    /// D7: how many bytes of failed syncs it has swallowed since the last power cut.
    pub(super) abandoned_bytes: u64,
    /// Bytes below were durable, name and all, when some byte that is now durable was appended: a watermark in
    /// that one can speak of them.
    pub(super) detectable_below: usize,
}

impl Inode {
    /// Forgets the file, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.cache.clear();
        self.platter.clear();
        self.holes.clear();
        let (cache, platter, holes) = (
            std::mem::take(&mut self.cache),
            std::mem::take(&mut self.platter),
            std::mem::take(&mut self.holes),
        );
        *self = Inode { cache, platter, holes, ..Inode::default() };
    }

    /// Makes the bytes of the cache from `range` durable, where they are.
    pub(super) fn write_through(&mut self, range: Range<usize>) {
        if range.start == self.platter.len() {
            self.platter.extend_from_slice(&self.cache[range]);
        } else {
            let bytes = self.cache[range.clone()].to_vec();
            self.write(range.start, &bytes);
        }
    }

    /// Makes `bytes` durable at `start`. A gap before them is a hole.
    pub(super) fn write(&mut self, start: usize, bytes: &[u8]) {
        let (end, durable) = (start + bytes.len(), self.platter.len());
        if start > durable {
            self.holes.push(durable..start);
        }
        if end > durable {
            self.platter.resize(end, 0);
        }
        self.platter[start..end].copy_from_slice(bytes);
        remove_range(&mut self.holes, start..end);
    }

    /// Makes a truncation durable.
    pub(super) fn truncate(&mut self, len: usize) {
        self.platter.truncate(len);
        remove_range(&mut self.holes, len..usize::MAX);
        self.detectable_below = self.detectable_below.min(len);
        self.abandoned_from = self.abandoned_from.filter(|from| *from < len);
    }

    /// D7: an operation that reached as low as `from` is clean now, and not on the platter.
    pub(super) fn abandon(&mut self, from: usize) {
        self.abandoned_from = Some(self.abandoned_from.map_or(from, |before| before.min(from)));
    }

    /// How much of it, from its start, is on the platter as the cache shows it, pending truncations aside.
    pub(super) fn durable_len(&self) -> usize {
        self.platter.len().min(self.abandoned_from.unwrap_or(usize::MAX))
    }

    /// After a power cut: there is nothing but `platter`.
    pub(super) fn reset_to_platter(&mut self, base: usize, tail: &[u8]) {
        self.platter.truncate(base);
        self.platter.extend_from_slice(tail);
        self.cache.clear();
        self.cache.extend_from_slice(&self.platter);
        self.holes.clear();
        self.truncates = 0;
        self.abandoned_from = None;
        self.abandoned_bytes = 0;
        self.detectable_below = self.detectable_below.min(self.platter.len());
    }
}

/// Removes `range` from `holes`.
fn remove_range(holes: &mut Vec<Range<usize>>, range: Range<usize>) {
    if holes.is_empty() {
        return;
    }
    let around = |hole: &Range<usize>| {
        [hole.start..hole.end.min(range.start), hole.start.max(range.end)..hole.end]
    };
    *holes = holes.iter().flat_map(around).filter(|part| !part.is_empty()).collect();
}
