//! The values at one node. Independent of the node's own implementation, so that the checker finds
//! errors there.

use stormglass::commit::{Action, Key, Op, Reads};

use crate::sorted_map::SortedMap;

/// The values after every appended record.
#[derive(Clone, Debug, Default)]
pub(super) struct Values(SortedMap<Key, i64>);

impl Values {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn replace(&mut self, values: impl Iterator<Item = (Key, i64)>) {
        self.0.clear();
        self.0.extend(values);
    }

    pub(super) fn get(&self, key: Key) -> Option<i64> {
        self.0.get(key).copied()
    }

    /// The result of each read of `ops`: the last write to its key before it, of the same
    /// transaction or of an earlier one.
    pub(super) fn reads_of(&self, ops: &[Op]) -> Reads {
        let mut found = Vec::new();
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

/// The value of a key after an operation.
fn after(value: Option<i64>, action: Action) -> Option<i64> {
    match action {
        Action::Get => value,
        Action::Put(put) => Some(put),
        Action::Delete => None,
        // The checks of bounds and overflow are the node's: an Add that it logs has passed them.
        Action::Add { by, .. } => Some(value.unwrap_or(0) + by),
    }
}
