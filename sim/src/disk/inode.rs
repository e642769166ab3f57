//! The bytes of one file: in the page cache, and on the platter.

use std::ops::Range;

use super::removed_files::RemovedFiles;

/// Identifies a file independent of its name. Reused once no operation refers to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ino(pub(super) u32);

/// The memory with which a file begins: more than most logs and snapshots of a run have, so that
/// appending moves nothing.
const FILE_BYTES_FIRST: usize = 1024;

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// Whether any name, operation or barrier may refer to it.
    used: bool,
    /// The page cache: the bytes that reads return.
    cache: Vec<u8>,
    /// The bytes that every power cut leaves at least, except for pending truncations; zero in a
    /// hole.
    platter: Vec<u8>,
    /// Ranges of the platter that were never written although the file extends beyond them: the
    /// pages of a failed sync (D7). The next power cut decides their contents (D3).
    holes: Vec<Range<usize>>,
    /// The number of its truncations in the queue; almost always 0, and then every unsynced byte is
    /// in the cache where it was appended.
    truncates: u32,
    /// D7: from this offset on the cache may differ from the platter, although no sync will write
    /// the difference.
    abandoned_from: Option<usize>,
    /// D7: the number of bytes of failed syncs since the last power cut.
    abandoned_bytes: u64,
    /// A log can detect damage to the bytes below this offset: a record after them is durable, and
    /// was appended when they were durable, so its watermark covers them. Damage at or above cannot
    /// be distinguished from a torn tail.
    damage_detectable_below: usize,
}

/// The page cache.
impl Inode {
    pub(super) fn is_used(&self) -> bool {
        self.used
    }

    pub(super) fn begin_use(&mut self) {
        self.used = true;
        self.cache.reserve(FILE_BYTES_FIRST);
        self.platter.reserve(FILE_BYTES_FIRST);
    }

    /// The file is removed for good: its blocks are free, and may appear in a hole.
    pub(super) fn end_use(&mut self, removed: &mut RemovedFiles) {
        removed.add(&mut self.platter);
        self.clear();
    }

    /// The bytes that reads return.
    #[inline]
    pub(super) fn cache(&self) -> &[u8] {
        &self.cache
    }

    /// Writes at the end; returns the offset of the first byte.
    #[inline]
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let start = self.cache.len();
        self.cache.extend_from_slice(bytes);
        start
    }

    pub(super) fn undo_append(&mut self, start: usize) {
        self.cache.truncate(start);
    }

    /// Truncates the cache; returns the bytes that were cut off.
    pub(super) fn cut(&mut self, len: usize) -> Vec<u8> {
        self.truncates += 1;
        self.cache.split_off(len)
    }

    pub(super) fn undo_cut(&mut self, tail: &[u8]) {
        self.cache.extend_from_slice(tail);
        self.truncates -= 1;
    }

    #[inline]
    pub(super) fn has_truncations(&self) -> bool {
        self.truncates > 0
    }

    /// A truncation has left the queue.
    pub(super) fn end_truncation(&mut self) {
        self.truncates -= 1;
    }
}

/// The platter.
impl Inode {
    /// A file with the bytes that reads return, all of them durable.
    pub(super) fn as_read(&self) -> Inode {
        Inode {
            used: true,
            cache: self.cache.clone(),
            platter: self.cache.clone(),
            damage_detectable_below: self.damage_detectable_below,
            ..Inode::default()
        }
    }

    pub(super) fn platter(&self) -> &[u8] {
        &self.platter
    }

    pub(super) fn holes(&self) -> &[Range<usize>] {
        &self.holes
    }

    pub(super) fn abandoned_bytes(&self) -> u64 {
        self.abandoned_bytes
    }

    /// D10: overwrites durable bytes at `at`, on the platter and in the cache. Returns the range
    /// that differs; `None` if nothing would.
    pub(super) fn damage(&mut self, at: usize, bytes: &[u8]) -> Option<Range<usize>> {
        let old = &self.platter[at..];
        let first = old.iter().zip(bytes).position(|(old, new)| old != new)?;
        let last = old.iter().zip(bytes).rposition(|(old, new)| old != new)?;
        let range = at + first..at + last + 1;
        self.platter[range.clone()].copy_from_slice(&bytes[first..=last]);
        // In the cache as well: otherwise the damage would be hidden from an incarnation after a
        // kill.
        for (to, from) in self.cache.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
        Some(range)
    }

    /// D15: the bytes from `len` on are gone, on the platter and in the cache.
    pub(super) fn cut_at_rest(&mut self, len: usize) {
        self.cache.truncate(len);
        self.truncate(len);
    }

    /// A durable record was appended when this many bytes were durable.
    #[inline]
    pub(super) fn detect_damage_below(&mut self, durable_len: usize) {
        self.damage_detectable_below = self.damage_detectable_below.max(durable_len);
    }

    /// Whether a log can detect damage to the bytes below `end`.
    pub(super) fn detects_damage_below(&self, end: usize) -> bool {
        end <= self.damage_detectable_below
    }

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
        // The common case: the log grows at its end, and nothing has to be copied twice.
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
        // The bytes in between belonged to a failed sync, and were never written.
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
        // A file that grows again over the cut has new holes, not the old ones.
        remove_range(&mut self.holes, len..usize::MAX);
        self.damage_detectable_below = self.damage_detectable_below.min(len);
        self.abandoned_from = self.abandoned_from.filter(|from| *from < len);
    }

    /// D7: the pages of an operation that reached down to `from` are clean now, and not on the
    /// platter.
    pub(super) fn abandon(&mut self, from: usize) {
        self.abandoned_from = Some(self.abandoned_from.map_or(from, |before| before.min(from)));
    }

    /// D7: the same for an append, whose bytes are lost.
    pub(super) fn abandon_append(&mut self, start: usize, len: usize) {
        self.abandon(start);
        self.abandoned_bytes += len as u64;
    }

    /// How many of its first bytes are on the platter as in the cache, apart from pending
    /// truncations.
    #[inline]
    pub(super) fn durable_len(&self) -> usize {
        self.platter.len().min(self.abandoned_from.unwrap_or(usize::MAX))
    }

    /// After a power cut: the cache holds the contents of `platter`.
    pub(super) fn reset_to_platter(&mut self, base: usize, tail: &[u8]) {
        // Nothing below `base` was unsynced, so those bytes stay as they are.
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
    // What is left of a hole on both sides of the range; either may be empty.
    let parts = holes.iter().flat_map(|hole| {
        [hole.start..hole.end.min(range.start), hole.start.max(range.end)..hole.end]
    });
    *holes = parts.filter(|part| !part.is_empty()).collect();
}
