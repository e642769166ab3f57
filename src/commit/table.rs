//! A small map by transaction that keeps its memory: in flight there are few, and they come in order.

use crate::id::TxId;

/// Sorted by transaction.
#[derive(Clone, Debug)]
pub(super) struct Table<T> {
    rows: Vec<(TxId, T)>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { rows: Vec::new() }
    }
}

impl<T> Table<T> {
    fn place(&self, tx: TxId) -> Result<usize, usize> {
        match self.rows.last() {
            Some((last, _)) if *last < tx => Err(self.rows.len()),
            _ => self.rows.binary_search_by_key(&tx, |row| row.0),
        }
    }

    pub(super) fn get(&self, tx: TxId) -> Option<&T> {
        self.place(tx).ok().map(|at| &self.rows[at].1)
    }

    pub(super) fn get_mut(&mut self, tx: TxId) -> Option<&mut T> {
        self.place(tx).ok().map(|at| &mut self.rows[at].1)
    }

    pub(super) fn insert(&mut self, tx: TxId, value: T) {
        match self.place(tx) {
            Ok(at) => self.rows[at].1 = value,
            Err(at) => self.rows.insert(at, (tx, value)),
        }
    }

    pub(super) fn remove(&mut self, tx: TxId) -> Option<T> {
        self.place(tx).ok().map(|at| self.rows.remove(at).1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(TxId, &mut T) -> bool) {
        self.rows.retain_mut(|(tx, value)| keep(*tx, value));
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (TxId, &T)> + Clone {
        self.rows.iter().map(|(tx, value)| (*tx, value))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (TxId, &mut T)> {
        self.rows.iter_mut().map(|(tx, value)| (*tx, value))
    }

    /// The transactions, for loops that change the table.
    pub(super) fn keys(&self) -> Vec<TxId> {
        self.rows.iter().map(|row| row.0).collect()
    }
}
