//! The values at one node: what operations read and write. Independent of the node's own
//! implementation, so that the checker finds errors there.

use stormglass::commit::{Action, Key, Op, Reads};

use crate::sorted_map::SortedMap;

/// The values after every appended record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values(SortedMap<Key, i64>);

impl Values {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn replace(&mut self, values: &Values) {
        self.0.clone_from(&values.0);
    }

    /// The keys that have a value, ascending, with their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, i64)> {
        self.0.iter().map(|(key, value)| (key, *value))
    }

    pub(super) fn get(&self, key: Key) -> Option<i64> {
        self.0.get(key).copied()
    }

    /// The result of each read of `ops`: the last write to its key before it, of the same
    /// transaction or of an earlier one.
    pub(super) fn reads_of(&self, ops: &[Op]) -> Reads {
        let mut found = Vec::with_capacity(ops.iter().filter(|op| !op.writes()).count());
        for (at, op) in ops.iter().enumerate().filter(|(_, op)| !op.writes()) {
            let mut value = self.get(op.key);
            // A transaction reads what it has written itself.
            for before in ops[..at].iter().filter(|before| before.key == op.key) {
                value = after(value, before.action);
            }
            found.push(value);
        }
        Reads::from(&found[..])
    }

    /// The first Add of `ops` that would overflow or fall below its bound, and which of both.
    pub(super) fn broken_bound(&self, ops: &[Op]) -> Option<(Key, BrokenBound)> {
        for (at, op) in ops.iter().enumerate() {
            let Action::Add { by, at_least } = op.action else { continue };
            let mut value = self.get(op.key);
            for before in ops[..at].iter().filter(|before| before.key == op.key) {
                value = after(value, before.action);
            }
            match value.unwrap_or(0).checked_add(by) {
                None => return Some((op.key, BrokenBound::Overflow)),
                Some(sum) if sum < at_least => return Some((op.key, BrokenBound::Bound)),
                Some(_) => {}
            }
        }
        None
    }

    /// Performs the writes of `ops`.
    pub(super) fn perform(&mut self, ops: &[Op]) {
        for op in ops.iter().filter(|op| op.writes()) {
            // A put does not depend on the value before it, so it needs no search.
            let before = if let Action::Put(_) = op.action { None } else { self.get(op.key) };
            match after(before, op.action) {
                Some(value) => self.0.insert(op.key, value),
                None => drop(self.0.remove(op.key)),
            }
        }
    }
}

/// Why an Add cannot be performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BrokenBound {
    /// The sum would be below the bound.
    Bound,
    /// The sum would be no `i64`.
    Overflow,
}

/// The value of a key after an operation.
fn after(value: Option<i64>, action: Action) -> Option<i64> {
    match action {
        Action::Get => value,
        Action::Put(put) => Some(put),
        Action::Delete => None,
        // `broken_bound` has found an overflow before.
        Action::Add { by, .. } => value.unwrap_or(0).checked_add(by),
    }
}
