//! A small map in one piece of memory. Checkers keep a few dozen entries by key, access the latest
//! most of the time, and are reset a hundred thousand times: a tree would allocate and chase
//! pointers for that.

/// Sorted by key; grows at its end without a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SortedMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        SortedMap(Vec::new())
    }
}

impl<K: Ord + Copy, V> SortedMap<K, V> {
    #[inline]
    fn position(&self, key: K) -> Result<usize, usize> {
        // Most accesses are to the latest key, and most new keys are the greatest.
        match self.0.last() {
            Some((last, _)) if *last < key => Err(self.0.len()),
            Some((last, _)) if *last == key => Ok(self.0.len() - 1),
            _ => self.0.binary_search_by_key(&key, |entry| entry.0),
        }
    }

    #[inline]
    pub(crate) fn get(&self, key: K) -> Option<&V> {
        self.position(key).ok().map(|index| &self.0[index].1)
    }

    #[inline]
    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.position(key) {
            Ok(index) => self.0[index].1 = value,
            Err(index) => self.0.insert(index, (key, value)),
        }
    }

    /// The value of `key`, which becomes `value` if there is none.
    #[inline]
    pub(crate) fn get_or_insert(&mut self, key: K, value: V) -> &mut V {
        let index = match self.position(key) {
            Ok(index) => index,
            Err(index) => {
                self.0.insert(index, (key, value));
                index
            }
        };
        &mut self.0[index].1
    }

    #[inline]
    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        self.position(key).ok().map(|index| self.0.remove(index).1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> + Clone {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    /// Keeps the entries for which `keep` holds.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(K, &V) -> bool) {
        self.0.retain(|(key, value)| keep(*key, value));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl<K: Ord + Copy, V: Default> SortedMap<K, V> {
    #[inline]
    pub(crate) fn get_or_default(&mut self, key: K) -> &mut V {
        self.get_or_insert(key, V::default())
    }
}

impl<K: Ord + Copy, V> Extend<(K, V)> for SortedMap<K, V> {
    fn extend<T: IntoIterator<Item = (K, V)>>(&mut self, entries: T) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_sorted_in_any_insertion_order() {
        let mut map = SortedMap::default();
        map.extend([(2, 'b'), (9, 'i'), (1, 'a'), (9, 'I')]);
        assert_eq!(map.iter().collect::<Vec<_>>(), [(1, &'a'), (2, &'b'), (9, &'I')]);
        assert_eq!((map.get(2), map.get(3)), (Some(&'b'), None));
        assert_eq!((map.remove(1), map.remove(1)), (Some('a'), None));
        *map.get_or_default(5) = 'e';
        assert_eq!(map.get_or_default(5), &'e');
        assert_eq!(*map.get_or_default(99), char::default());
    }
}
