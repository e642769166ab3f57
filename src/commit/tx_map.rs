//! A small map by transaction that keeps its memory: few transactions are in flight, and they come
//! in order.

use super::tx_id::TxId;

/// Sorted by transaction.
#[derive(Clone, Debug)]
pub(super) struct TxMap<T> {
    entries: Vec<(TxId, T)>,
}

impl<T> Default for TxMap<T> {
    fn default() -> Self {
        TxMap { entries: Vec::new() }
    }
}

impl<T> TxMap<T> {
    fn search(&self, tx: TxId) -> Result<usize, usize> {
        match self.entries.last() {
            // A new transaction is mostly the last.
            Some((last, _)) if *last < tx => Err(self.entries.len()),
            _ => self.entries.binary_search_by_key(&tx, |entry| entry.0),
        }
    }

    pub(super) fn get(&self, tx: TxId) -> Option<&T> {
        self.search(tx).ok().map(|at| &self.entries[at].1)
    }

    pub(super) fn get_mut(&mut self, tx: TxId) -> Option<&mut T> {
        self.search(tx).ok().map(|at| &mut self.entries[at].1)
    }

    pub(super) fn insert(&mut self, tx: TxId, value: T) {
        match self.search(tx) {
            Ok(at) => self.entries[at].1 = value,
            Err(at) => self.entries.insert(at, (tx, value)),
        }
    }

    pub(super) fn remove(&mut self, tx: TxId) -> Option<T> {
        self.search(tx).ok().map(|at| self.entries.remove(at).1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(TxId, &mut T) -> bool) {
        self.entries.retain_mut(|(tx, value)| keep(*tx, value));
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (TxId, &T)> + Clone {
        self.entries.iter().map(|(tx, value)| (*tx, value))
    }
}
