//! Keyed values and their locks, behind a narrow interface: prepare, commit, abort, snapshot.
//!
//! Reads take shared locks, all other operations exclusive ones; a transaction gets all its locks
//! at once or none. A transaction that meets a lock waits or is refused by age (wait-die:
//! Rosenkrantz, Stearns, Lewis 1978, "System level concurrency control for distributed database
//! systems", section 4): only an older transaction may wait for a younger one, so waits form no
//! cycle, within a node or across nodes.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::commit::{Action, Age, Key, Op, Reads, Refusal, TxId};

/// The values of one node, and their locks. Every operation on n keys takes O(n log m) time for m
/// keys and locks, however many transactions hold a lock on one key.
#[derive(Clone, Debug, Default)]
pub struct Store {
    values: BTreeMap<Key, i64>,
    /// Of every key that is locked.
    locks: BTreeMap<Key, KeyLocks>,
}

/// The locks on one key.
#[derive(Clone, Debug)]
enum KeyLocks {
    /// The only one, which may be exclusive.
    One { holder: TxId, age: Age, exclusive: bool },
    /// Two or more that are shared, the oldest first.
    Shared(BTreeSet<(Age, TxId)>),
}

impl KeyLocks {
    /// The oldest holder whose lock conflicts with one that `tx` needs. Two readers do not
    /// conflict, and neither do the locks of `tx` itself.
    fn oldest_conflict(&self, tx: TxId, exclusive: bool) -> Option<(Age, TxId)> {
        match self {
            KeyLocks::One { holder, age, exclusive: held } => {
                (*holder != tx && (*held || exclusive)).then_some((*age, *holder))
            }
            KeyLocks::Shared(holders) if exclusive => {
                holders.iter().copied().find(|(_, holder)| *holder != tx)
            }
            KeyLocks::Shared(_) => None,
        }
    }

    /// Adds a lock that conflicts with none.
    fn add(&mut self, tx: TxId, age: Age, exclusive: bool) {
        match self {
            // A key that is read and written needs the stronger lock once.
            KeyLocks::One { holder, exclusive: held, .. } if *holder == tx => *held |= exclusive,
            KeyLocks::One { holder, age: other, .. } => {
                *self = KeyLocks::Shared(BTreeSet::from([(*other, *holder), (age, tx)]));
            }
            KeyLocks::Shared(holders) => {
                holders.insert((age, tx));
            }
        }
    }

    /// Removes the lock of `tx`, if it has one. Returns whether none is left.
    fn remove(&mut self, tx: TxId, age: Age) -> bool {
        match self {
            KeyLocks::One { holder, .. } => *holder == tx,
            KeyLocks::Shared(holders) => {
                holders.remove(&(age, tx));
                if let Some((age, holder)) = holders.first().copied().filter(|_| holders.len() == 1)
                {
                    *self = KeyLocks::One { holder, age, exclusive: false };
                }
                false
            }
        }
    }
}

/// The result of an attempt to prepare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrepareResult {
    /// All locks are held, and these are the values that the reads found.
    Locked(Reads),
    /// No lock is held. All conflicting holders are younger, so the transaction may wait.
    Wait,
    /// No lock is held, and the transaction cannot get its locks with this age.
    Refused(Refusal),
}

impl Store {
    /// A store with these values and no locks.
    pub fn new(values: BTreeMap<Key, i64>) -> Store {
        Store { values, locks: BTreeMap::new() }
    }

    /// Locks all keys of `ops`, if no lock conflicts and no bound is violated.
    pub fn prepare(&mut self, tx: TxId, age: Age, ops: &[Op]) -> PrepareResult {
        let mut blocked = false;
        for op in ops {
            let locks = self.locks.get(&op.key);
            let conflict = locks.and_then(|locks| locks.oldest_conflict(tx, op.writes()));
            let Some((oldest, holder)) = conflict else { continue };
            // Wait-die: waiting for an older transaction could close a cycle, so the younger one is
            // refused.
            if oldest <= age {
                return PrepareResult::Refused(Refusal::Conflict { holder });
            }
            // Not returned at once: the lock on a later key may belong to an older transaction,
            // which means refusal.
            blocked = true;
        }
        if blocked {
            return PrepareResult::Wait;
        }
        // Only when no lock conflicts: values under a lock of another transaction may still change.
        match self.execute(ops) {
            Ok(reads) => {
                self.lock(tx, age, ops);
                PrepareResult::Locked(reads)
            }
            Err(refusal) => PrepareResult::Refused(refusal),
        }
    }

    /// Locks the keys of a transaction that was prepared in an earlier incarnation.
    pub fn lock(&mut self, tx: TxId, age: Age, ops: &[Op]) {
        for op in ops {
            let exclusive = op.writes();
            self.locks
                .entry(op.key)
                .and_modify(|locks| locks.add(tx, age, exclusive))
                .or_insert(KeyLocks::One { holder: tx, age, exclusive });
        }
    }

    /// Applies the operations and releases the locks.
    pub fn commit(&mut self, tx: TxId, age: Age, ops: &[Op]) {
        // Before the locks are released: no other transaction may see the values before them.
        apply_ops(&mut self.values, ops);
        self.abort(tx, age, ops);
    }

    /// Releases the locks.
    pub fn abort(&mut self, tx: TxId, age: Age, ops: &[Op]) {
        for op in ops {
            if let Entry::Occupied(mut locks) = self.locks.entry(op.key)
                && locks.get_mut().remove(tx, age)
            {
                locks.remove();
            }
        }
    }

    /// The values, regardless of locks.
    pub fn values(&self) -> &BTreeMap<Key, i64> {
        &self.values
    }

    /// Every lock: key, holder, and whether it is exclusive. In the order of keys.
    pub fn locks(&self) -> impl Iterator<Item = (Key, TxId, bool)> + '_ {
        self.locks.iter().flat_map(|(key, locks)| {
            let (one, shared) = match locks {
                KeyLocks::One { holder, exclusive, .. } => (Some((*holder, *exclusive)), None),
                KeyLocks::Shared(holders) => (None, Some(holders)),
            };
            let shared = shared.into_iter().flatten().map(|(_, holder)| (*holder, false));
            one.into_iter().chain(shared).map(|(holder, exclusive)| (*key, holder, exclusive))
        })
    }

    /// What the operations read, one after the other, without writing anything.
    ///
    /// # Errors
    /// The refusal of the first `Add` that breaks its bound or overflows.
    fn execute(&self, ops: &[Op]) -> Result<Reads, Refusal> {
        let mut reads = Vec::with_capacity(ops.iter().filter(|op| !op.writes()).count());
        let last_read =
            ops.iter().rposition(|op| matches!(op.action, Action::Get | Action::Add { .. }));
        // What the operations so far have written, if a later one reads. `None`: the key is absent.
        let mut written: BTreeMap<Key, Option<i64>> = BTreeMap::new();
        for (at, op) in ops.iter().enumerate() {
            let key = op.key;
            let before =
                || written.get(&key).copied().unwrap_or_else(|| self.values.get(&key).copied());
            let after = match op.action {
                Action::Get => {
                    reads.push(before());
                    continue;
                }
                Action::Put(value) => Some(value),
                Action::Delete => None,
                Action::Add { by, at_least } => match before().unwrap_or(0).checked_add(by) {
                    None => return Err(Refusal::Overflow { key }),
                    Some(sum) if sum < at_least => return Err(Refusal::Bound { key }),
                    sum => sum,
                },
            };
            // Most transactions read first, or only write.
            if last_read.is_some_and(|last_read| at < last_read) {
                written.insert(key, after);
            }
        }
        Ok(Reads::from(&reads[..]))
    }

    /// The values that the reads among the operations of a prepared transaction find. Under locks
    /// they do not change, over a restart included.
    pub fn read(&self, ops: &[Op]) -> Reads {
        // Most transactions only write.
        if ops.iter().all(Op::writes) {
            return Reads::default();
        }
        // It was prepared, so no bound is broken.
        self.execute(ops).unwrap_or_default()
    }
}

/// Applies operations to values: at a commit, and at the replay of its record.
pub(crate) fn apply_ops(values: &mut BTreeMap<Key, i64>, ops: &[Op]) {
    for op in ops {
        match op.action {
            Action::Get => {}
            Action::Put(value) => {
                values.insert(op.key, value);
            }
            Action::Delete => {
                values.remove(&op.key);
            }
            Action::Add { by, .. } => {
                let value = values.entry(op.key).or_default();
                // A participant that voted Yes has checked it, and the lock has kept the value
                // since.
                *value = value.checked_add(by).expect("no overflow: checked under the lock");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormglass_node::id::{Incarnation, NodeId, RequestId};

    fn tx(serial: u64) -> (TxId, Age) {
        let tx = TxId { coordinator: NodeId(0), incarnation: Incarnation::numbered(1), serial };
        (tx, Age { at: serial, by: RequestId { client: 1, serial: 1, attempt: 0 } })
    }

    fn op(key: &str, action: Action) -> Op {
        Op { node: NodeId(1), key: Key::new(key).unwrap(), action }
    }

    #[test]
    fn older_transaction_waits_and_younger_one_is_refused() {
        let mut store = Store::default();
        let (old, old_age) = tx(1);
        let (mid, mid_age) = tx(2);
        let (young, young_age) = tx(3);
        let put = [op("a", Action::Put(1))];
        assert!(matches!(store.prepare(mid, mid_age, &put), PrepareResult::Locked(_)));
        assert_eq!(store.prepare(old, old_age, &put), PrepareResult::Wait);
        assert_eq!(
            store.prepare(young, young_age, &put),
            PrepareResult::Refused(Refusal::Conflict { holder: mid })
        );
        store.commit(mid, mid_age, &put);
        assert!(matches!(store.prepare(old, old_age, &put), PrepareResult::Locked(_)));
    }

    #[test]
    fn readers_share_locks_and_a_refused_transaction_leaves_none() {
        let mut store = Store::default();
        let (a, a_age) = tx(1);
        let (b, b_age) = tx(2);
        let get = [op("a", Action::Get)];
        assert!(matches!(store.prepare(a, a_age, &get), PrepareResult::Locked(_)));
        assert!(matches!(store.prepare(b, b_age, &get), PrepareResult::Locked(_)));
        let (c, c_age) = tx(3);
        let mixed = [op("z", Action::Put(1)), op("a", Action::Put(2))];
        assert_eq!(
            store.prepare(c, c_age, &mixed),
            PrepareResult::Refused(Refusal::Conflict { holder: a })
        );
        assert_eq!(store.locks().count(), 2);
    }

    /// Of many readers the oldest decides whether a writer waits, and each release counts.
    #[test]
    fn writer_waits_for_younger_readers_and_is_refused_by_an_older_one() {
        let mut store = Store::default();
        let get = [op("a", Action::Get)];
        let put = [op("a", Action::Put(1))];
        for serial in [5, 2, 4] {
            let (reader, age) = tx(serial);
            assert!(matches!(store.prepare(reader, age, &get), PrepareResult::Locked(_)));
        }
        let (writer, age) = tx(3);
        let (oldest, oldest_age) = tx(2);
        assert_eq!(
            store.prepare(writer, age, &put),
            PrepareResult::Refused(Refusal::Conflict { holder: oldest })
        );
        store.abort(oldest, oldest_age, &get);
        for serial in [4, 5] {
            assert_eq!(store.prepare(writer, age, &put), PrepareResult::Wait, "for {serial}");
            let (reader, reader_age) = tx(serial);
            store.abort(reader, reader_age, &get);
        }
        assert!(matches!(store.prepare(writer, age, &put), PrepareResult::Locked(_)));
        let locks: Vec<_> = store.locks().collect();
        assert_eq!(locks, [(Key::new("a").unwrap(), writer, true)]);
        store.abort(writer, age, &put);
        assert_eq!(store.locks().count(), 0);
    }

    /// A key that is read and written by one transaction is locked once, exclusively.
    #[test]
    fn key_that_is_read_and_written_is_locked_exclusively() {
        let mut store = Store::default();
        let (a, age) = tx(1);
        let both = [op("a", Action::Get), op("a", Action::Put(1))];
        assert!(matches!(store.prepare(a, age, &both), PrepareResult::Locked(_)));
        assert_eq!(store.locks().collect::<Vec<_>>(), [(Key::new("a").unwrap(), a, true)]);
        store.commit(a, age, &both);
        assert_eq!(store.locks().count(), 0);
    }

    #[test]
    fn bounds_and_reads_include_earlier_operations_of_the_transaction() {
        let mut store = Store::default();
        let (a, age) = tx(1);
        let add = |by| op("a", Action::Add { by, at_least: 0 });
        assert_eq!(
            store.prepare(a, age, &[add(-1)]),
            PrepareResult::Refused(Refusal::Bound { key: Key::new("a").unwrap() })
        );
        let ops = [op("a", Action::Put(5)), add(-5), op("a", Action::Get), op("b", Action::Get)];
        assert_eq!(
            store.prepare(a, age, &ops),
            PrepareResult::Locked(Reads::from(&[Some(0), None][..]))
        );
        store.commit(a, age, &ops);
        assert_eq!(store.values().get(&Key::new("a").unwrap()), Some(&0));
        assert_eq!(store.locks().count(), 0);
    }
}
