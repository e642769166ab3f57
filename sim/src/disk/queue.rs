//! The queue of pending operations, with the data to undo them, and of pending barriers.

use stormglass_node::{About, FileId, OpId};

use super::directory::{NameChange, ResolvedNameChange};
use super::inode::Ino;

/// The operations that are not durable, and the barriers that have not completed.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    /// Operations on the volatile state that are not durable, in the order of issue.
    entries: Vec<Entry>,
    /// The number of name changes in the queue: 0 while a node only appends to existing files, so
    /// that the common case scans for none.
    name_changes: usize,
    barriers: Vec<Barrier>,
    /// Number of operations issued so far.  `performed_below <= issued`
    issued: u64,
    /// Operations with lower numbers have left the driver's queue for the page cache, so that a
    /// kill cannot lose them (P1): a barrier issued after them has completed, or the process that
    /// issued them has ended.
    performed_below: u64,
}

/// An operation that is performed on the volatile state, and is not durable yet.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The number of the operation; ascending in the queue.
    at: u64,
    ino: Ino,
    change: Change,
    /// D7, name changes only: a failed `SyncDir` covered it. Data of a failed sync leaves the queue
    /// at once; an abandoned name change stays, since a later change may make it durable.
    abandoned: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Append(Append),
    /// `tail` holds the bytes that were cut off: undoing the truncation and rebuilding earlier
    /// steps need them.
    Truncate {
        file: FileId,
        len: usize,
        tail: Vec<u8>,
    },
    Name(NameChange),
}

/// An append. Its bytes are in the cache or in the tail of a later truncation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Append {
    pub file: FileId,
    pub about: About,
    pub start: usize,
    pub len: usize,
    /// The durable length of the file when this append was issued; 0 if its name was not durable.
    pub durable_len_at_issue: usize,
}

/// A pending barrier.
#[derive(Clone, Copy, Debug)]
struct Barrier {
    op: OpId,
    /// It covers the operations with lower numbers.
    before: u64,
    scope: BarrierScope,
}

/// What a barrier covers.
#[derive(Clone, Copy, Debug)]
pub(super) enum BarrierScope {
    /// D4: data, size and truncations of one file.
    File(Ino),
    /// D5: creates, renames and removes.
    Directory,
    /// It was issued after a failed write (D8) and covers nothing.
    Nothing,
}

/// Operations.
impl Pending {
    /// Empties the queue and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.name_changes = 0;
        self.barriers.clear();
        self.issued = 0;
        self.performed_below = 0;
    }

    #[inline]
    pub(super) fn push(&mut self, ino: Ino, change: Change) {
        self.name_changes += usize::from(matches!(change, Change::Name(_)));
        self.entries.push(Entry { at: self.issued, ino, change, abandoned: false });
        // Numbers go on over incarnations: `performed_below` compares across a kill.
        self.issued += 1;
    }

    /// The operations, in the order of issue.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The operations that a barrier with this number covers.
    pub(super) fn covered(&self, before: u64) -> &[Entry] {
        // The numbers ascend, also after entries in the middle have left.
        &self.entries[..self.entries.partition_point(|entry| entry.at < before)]
    }

    /// P1: how many of the last operations may still be in the driver's queue.
    pub(super) fn in_driver_queue(&self) -> usize {
        self.entries.len() - self.covered(self.performed_below).len()
    }

    /// Removes the last operations.
    pub(super) fn take_last(&mut self, count: usize) -> Vec<Entry> {
        let taken = self.entries.split_off(self.entries.len() - count);
        self.name_changes -= taken.iter().filter(|entry| entry.is_name_change()).count();
        taken
    }

    /// Removes all operations.
    pub(super) fn take_entries(&mut self) -> Vec<Entry> {
        self.name_changes = 0;
        std::mem::take(&mut self.entries)
    }

    /// Uses the memory of operations that were taken.
    pub(super) fn reuse(&mut self, mut taken: Vec<Entry>) {
        taken.clear();
        self.entries = taken;
    }

    /// Removes the data operations on one file that a barrier with this number covers.
    #[inline]
    pub(super) fn take_covered(
        &mut self,
        ino: Ino,
        before: u64,
        mut on_covered: impl FnMut(&Change),
    ) {
        self.entries.retain(|entry| {
            let covered = entry.ino == ino && entry.at < before && !entry.is_name_change();
            if covered {
                on_covered(&entry.change);
            }
            !covered
        });
    }

    /// The length to which the shortest pending truncation of a file cuts it.
    pub(super) fn shortest_truncation(&self, ino: Ino) -> Option<usize> {
        let truncations = self.entries.iter().filter_map(|entry| match entry.change {
            Change::Truncate { len, .. } if entry.ino == ino => Some(len),
            Change::Truncate { .. } | Change::Append(_) | Change::Name(_) => None,
        });
        truncations.min()
    }

    /// How many operations a power cut may keep: all but those that a failed sync has lost.
    pub(super) fn unsynced(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.abandoned).count()
    }

    #[inline]
    pub(super) fn in_flight(&self) -> bool {
        self.has_barriers() || self.entries.iter().any(|entry| !entry.abandoned)
    }

    /// Whether an operation or a barrier needs this file.
    pub(super) fn references(&self, ino: Ino) -> bool {
        self.entries.iter().any(|entry| entry.references(ino))
            || self.barriers.iter().any(|barrier| barrier.covers(ino))
    }

    /// The process has ended: nothing is in the driver's queue, and no barrier completes.
    pub(super) fn end_incarnation(&mut self) {
        self.barriers.clear();
        self.performed_below = self.issued;
    }
}

/// Name changes.
impl Pending {
    pub(super) fn has_name_changes(&self) -> bool {
        self.name_changes > 0
    }

    /// Whether a change that may survive concerns this file or this name.
    pub(super) fn may_change_name(&self, ino: Ino, file: FileId) -> bool {
        self.name_changes > 0
            && self.entries.iter().any(|entry| match entry.change {
                Change::Name(change) => {
                    !entry.abandoned && (entry.ino == ino || change.touches(file))
                }
                Change::Append(_) | Change::Truncate { .. } => false,
            })
    }

    /// The name changes that a barrier with this number covers.
    pub(super) fn covered_name_changes(&self, before: u64) -> Vec<ResolvedNameChange> {
        let mut changes = Vec::new();
        for entry in self.covered(before) {
            if let Change::Name(change) = entry.change {
                changes.push(ResolvedNameChange { ino: entry.ino, change, kept: !entry.abandoned });
            }
        }
        changes
    }

    /// Removes covered name changes that are durable now.
    pub(super) fn forget_name_changes(&mut self, before: u64, durable: &[ResolvedNameChange]) {
        // An abandoned name change stays in the queue until a kept change of the same file is
        // durable: a later create may still need it (`directory::take_over_name`).
        self.entries.retain(|entry| {
            !entry.is_name_change()
                || entry.at >= before
                || !durable.iter().any(|resolved| resolved.kept && resolved.ino == entry.ino)
        });
        self.name_changes = self.entries.iter().filter(|entry| entry.is_name_change()).count();
    }

    /// D7, for names: they count as durable, and are not on the platter.
    pub(super) fn abandon_names(&mut self, before: u64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.at < before) {
            entry.abandoned |= entry.is_name_change();
        }
    }
}

/// Barriers.
impl Pending {
    /// A barrier that covers every operation issued so far.
    pub(super) fn push_barrier(&mut self, op: OpId, scope: BarrierScope) {
        self.barriers.push(Barrier { op, before: self.issued, scope });
    }

    #[inline]
    pub(super) fn has_barriers(&self) -> bool {
        !self.barriers.is_empty()
    }

    /// A barrier completes, with any result. Returns what it covers: the operations with lower
    /// numbers, within its scope.
    pub(super) fn end_barrier(&mut self, op: OpId) -> (u64, BarrierScope) {
        let at = self.barriers.iter().position(|barrier| barrier.op == op);
        let barrier = self.barriers.remove(at.expect("a completion without a barrier"));
        // The driver performs in order, so operations issued before have left its queue for the
        // page cache (P1).
        self.performed_below = self.performed_below.max(barrier.before);
        (barrier.before, barrier.scope)
    }
}

impl Entry {
    #[inline]
    pub(super) fn ino(&self) -> Ino {
        self.ino
    }

    #[inline]
    pub(super) fn change(&self) -> &Change {
        &self.change
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    #[inline]
    fn is_name_change(&self) -> bool {
        matches!(self.change, Change::Name(_))
    }

    pub(super) fn about(&self) -> Option<About> {
        let Change::Append(append) = &self.change else { return None };
        Some(append.about)
    }

    fn references(&self, ino: Ino) -> bool {
        let Change::Name(NameChange::Rename { replaced, .. }) = self.change else {
            return self.ino == ino;
        };
        self.ino == ino || replaced == Some(ino)
    }
}

impl Barrier {
    fn covers(&self, ino: Ino) -> bool {
        matches!(self.scope, BarrierScope::File(it) if it == ino)
    }
}

/// One step in the history of a file, with the bytes that it wrote.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The index in the queue.
    pub index: usize,
    pub kind: StepKind,
}

#[derive(Clone, Debug)]
pub(super) enum StepKind {
    Write { start: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

fn entries_of(queue: &[Entry], ino: Ino) -> impl DoubleEndedIterator<Item = (usize, &Entry)> {
    queue.iter().enumerate().filter(move |(_, entry)| entry.ino == ino)
}

/// The unsynced steps of a file in the order of their issue, found by walking back from the
/// contents of the cache. The queue holds the *latest* operations on a file without a gap, so the
/// walk misses none.
pub(super) fn steps(queue: &[Entry], ino: Ino, cache: &[u8]) -> Vec<Step> {
    let lows = entries_of(queue, ino).filter_map(|(_, entry)| match &entry.change {
        Change::Append(append) => Some(append.start),
        Change::Truncate { len, .. } => Some(*len),
        Change::Name(_) => None,
    });
    let Some(base) = lows.min() else { return Vec::new() };
    // Only the part that some pending operation can have changed.
    let mut image = cache[base..].to_vec();
    let mut steps = Vec::new();
    for (index, entry) in entries_of(queue, ino).rev() {
        match &entry.change {
            Change::Append(append) => {
                let bytes = image.split_off(append.start - base);
                assert_eq!(
                    bytes.len(),
                    append.len,
                    "the append must be the tail of the file at that point"
                );
                steps.push(Step { index, kind: StepKind::Write { start: append.start, bytes } });
            }
            Change::Truncate { len, tail, .. } => {
                image.extend_from_slice(tail);
                steps.push(Step { index, kind: StepKind::Truncate { len: *len } });
            }
            Change::Name(_) => {}
        }
    }
    // The walk was from the newest to the oldest; the steps are applied in the order of issue.
    steps.reverse();
    steps
}
