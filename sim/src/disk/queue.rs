//! The queue of pending operations, with the data to undo them, and of pending barriers.

use stormglass_node::{About, FileId, OpId};

use super::directory::NameChange;
use super::inode::Ino;

/// An operation that is performed on the volatile state, and is not durable yet.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The number of the operation; ascending in the queue.
    pub(super) at: u64,
    pub(super) ino: Ino,
    pub(super) change: Change,
    /// D7, name changes only: a failed `SyncDir` covered it. Data of a failed sync leaves the queue
    /// at once; an abandoned name change stays, since a later change may make it durable.
    pub(super) abandoned: bool,
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
    pub(super) file: FileId,
    pub(super) about: About,
    pub(super) start: usize,
    pub(super) len: usize,
    /// The durable length of the file when this append was issued; 0 if its name was not durable.
    pub(super) durable_len_at_issue: usize,
}

/// A pending barrier.
#[derive(Clone, Copy, Debug)]
pub(super) struct Barrier {
    pub(super) op: OpId,
    /// It covers the operations with lower numbers.
    pub(super) before: u64,
    pub(super) scope: BarrierScope,
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

impl Entry {
    pub(super) fn about(&self) -> Option<About> {
        let Change::Append(append) = &self.change else { return None };
        Some(append.about)
    }

    pub(super) fn references(&self, ino: Ino) -> bool {
        let Change::Name(NameChange::Rename { replaced, .. }) = self.change else {
            return self.ino == ino;
        };
        self.ino == ino || replaced == Some(ino)
    }
}

impl Barrier {
    pub(super) fn covers(&self, ino: Ino) -> bool {
        matches!(self.scope, BarrierScope::File(it) if it == ino)
    }
}

/// One step in the history of a file, with the bytes that it wrote.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The index in the queue.
    pub(super) index: usize,
    pub(super) kind: StepKind,
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
    steps.reverse();
    steps
}
