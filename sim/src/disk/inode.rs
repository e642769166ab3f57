//! The bytes of one file: in the page cache, and on the platter.

use std::ops::Range;

/// Identifies a file independent of its name. Reused once no operation refers to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ino(pub(super) u32);

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// Whether any name, operation or barrier may refer to it.
    pub(super) used: bool,
    /// The page cache: the bytes that reads return.
    pub(super) cache: Vec<u8>,
    /// The bytes that every power cut leaves at least, except for pending truncations; zero in a
    /// hole.
    pub(super) platter: Vec<u8>,
    /// Ranges of the platter that were never written although the file extends beyond them: the
    /// pages of a failed sync (D7). The next power cut decides their contents (D3).
    pub(super) holes: Vec<Range<usize>>,
    /// The number of its truncations in the queue; almost always 0, and then every unsynced byte is
    /// in the cache where it was appended.
    pub(super) truncates: u32,
    /// D7: from this offset on the cache may differ from the platter, although no sync will write
    /// the difference.
    pub(super) abandoned_from: Option<usize>,
    /// D7: the number of bytes of failed syncs since the last power cut.
    pub(super) abandoned_bytes: u64,
    /// A log can detect damage to the bytes below this offset: a record after them is durable, and
    /// was appended when they were durable, so its watermark covers them. Damage at or above cannot
    /// be distinguished from a torn tail.
    pub(super) damage_detectable_below: usize,
}

impl Inode {
    /// Resets the file and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.cache.clear();
        self.platter.clear();
        self.holes.clear();
        let cache = std::mem::take(&mut self.cache);
        let platter = std::mem::take(&mut self.platter);
        let holes = std::mem::take(&mut self.holes);
        *self = Inode { cache, platter, holes, ..Inode::default() };
    }

    /// Makes the bytes of the cache in `range` durable, at the same offset.
    pub(super) fn write_through(&mut self, range: Range<usize>) {
        if range.start == self.platter.len() {
            self.platter.extend_from_slice(&self.cache[range]);
        } else {
            let bytes = self.cache[range.clone()].to_vec();
            self.write(range.start, &bytes);
        }
    }

    /// Makes `bytes` durable at `start`. A gap between the end of the platter and `start` becomes a
    /// hole.
    pub(super) fn write(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        let durable = self.platter.len();
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
        self.damage_detectable_below = self.damage_detectable_below.min(len);
        self.abandoned_from = self.abandoned_from.filter(|from| *from < len);
    }

    /// D7: the pages of an operation that reached down to `from` are clean now, and not on the
    /// platter.
    pub(super) fn abandon(&mut self, from: usize) {
        self.abandoned_from = Some(self.abandoned_from.map_or(from, |before| before.min(from)));
    }

    /// How many of its first bytes are on the platter as in the cache, apart from pending
    /// truncations.
    pub(super) fn durable_len(&self) -> usize {
        self.platter.len().min(self.abandoned_from.unwrap_or(usize::MAX))
    }

    /// After a power cut: the cache holds the contents of `platter`.
    pub(super) fn reset_to_platter(&mut self, base: usize, tail: &[u8]) {
        self.platter.truncate(base);
        self.platter.extend_from_slice(tail);
        self.cache.clear();
        self.cache.extend_from_slice(&self.platter);
        self.holes.clear();
        self.truncates = 0;
        self.abandoned_from = None;
        self.abandoned_bytes = 0;
        self.damage_detectable_below = self.damage_detectable_below.min(self.platter.len());
    }
}

fn remove_range(holes: &mut Vec<Range<usize>>, range: Range<usize>) {
    if holes.is_empty() {
        return;
    }
    let parts = holes.iter().flat_map(|hole| {
        [hole.start..hole.end.min(range.start), hole.start.max(range.end)..hole.end]
    });
    *holes = parts.filter(|part| !part.is_empty()).collect();
}
