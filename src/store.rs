//! Keyed values and their locks, behind a narrow interface: prepare, commit, abort, snapshot.
//!
//! Reads take shared locks, all other operations exclusive ones; a transaction gets all its locks
//! at once or none. A transaction that meets a lock waits or is refused by age (wait-die:
//! Rosenkrantz, Stearns, Lewis 1978, "System level concurrency control for distributed database
//! systems", section 4): only an older transaction may wait for a younger one, so waits form no
//! cycle, within a node or across nodes.

use std::collections::BTreeMap;

use crate::commit::{Action, Age, Key, Op, Reads, Refusal, TxId};

/// The values of one node, and their locks.
#[derive(Clone, Debug, Default)]
pub struct Store {
    values: BTreeMap<Key, i64>,
    // Sorted by (key, holder). Either one exclusive lock on a key, or any number of shared ones.
    locks: Vec<Lock>,
}

#[derive(Clone, Copy, Debug)]
struct Lock {
    key: Key,
    holder: TxId,
    age: Age,
    exclusive: bool,
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
        Store { values, locks: Vec::new() }
    }

    /// Locks all keys of `ops`, if no lock conflicts and no bound is violated.
    pub fn prepare(&mut self, tx: TxId, age: Age, ops: &[Op]) -> PrepareResult {
        let mut blocked = false;
        for op in ops {
            for lock in self.locks_on(op.key) {
                // Locks of the transaction itself do not conflict, and neither do two readers.
                if lock.holder == tx || !(lock.exclusive || op.writes()) {
                    continue;
                }
                // Wait-die: waiting for an older transaction could close a cycle, so the younger
                // one is refused.
                if lock.age <= age {
                    return PrepareResult::Refused(Refusal::Conflict { holder: lock.holder });
                }
                // Not returned at once: a later lock may belong to an older transaction, which
                // means refusal.
                blocked = true;
            }
        }
        if blocked {
            return PrepareResult::Wait;
        }
        // Only when no lock conflicts: values under a lock of another transaction may still change.
        if let Some(no) = self.refusal(ops) {
            return PrepareResult::Refused(no);
        }
        self.lock(tx, age, ops);
        PrepareResult::Locked(self.read(ops))
    }

    /// Locks the keys of a transaction that was prepared in an earlier incarnation.
    pub fn lock(&mut self, tx: TxId, age: Age, ops: &[Op]) {
        for op in ops {
            let index =
                self.locks.binary_search_by_key(&(op.key, tx), |lock| (lock.key, lock.holder));
            match index {
                // A key that is read and written needs the stronger lock once.
                Ok(at) => self.locks[at].exclusive |= op.writes(),
                Err(at) => self
                    .locks
                    .insert(at, Lock { key: op.key, holder: tx, age, exclusive: op.writes() }),
            }
        }
    }

    /// Applies the operations and releases the locks.
    pub fn commit(&mut self, tx: TxId, ops: &[Op]) {
        // Before the locks are released: no other transaction may see the values before them.
        apply_ops(&mut self.values, ops);
        self.abort(tx, ops);
    }

    /// Releases the locks.
    pub fn abort(&mut self, tx: TxId, ops: &[Op]) {
        for op in ops {
            if let Ok(at) =
                self.locks.binary_search_by_key(&(op.key, tx), |lock| (lock.key, lock.holder))
            {
                self.locks.remove(at);
            }
        }
    }

    /// The values, regardless of locks.
    pub fn values(&self) -> &BTreeMap<Key, i64> {
        &self.values
    }

    /// Every lock: key, holder, and whether it is exclusive.
    pub fn locks(&self) -> impl Iterator<Item = (Key, TxId, bool)> + '_ {
        self.locks.iter().map(|lock| (lock.key, lock.holder, lock.exclusive))
    }

    fn locks_on(&self, key: Key) -> impl Iterator<Item = &Lock> {
        // The list is sorted, so the locks on one key are neighbours.
        let from = self.locks.partition_point(|lock| lock.key < key);
        self.locks[from..].iter().take_while(move |lock| lock.key == key)
    }

    /// The value of the key of operation `at` after the operations before it; `None` if the key is
    /// absent.
    fn value_at(&self, ops: &[Op], at: usize) -> Option<i64> {
        let key = ops[at].key;
        let mut value = self.values.get(&key).copied();
        for op in ops[..at].iter().filter(|op| op.key == key) {
            match op.action {
                Action::Get => {}
                Action::Put(put) => value = Some(put),
                Action::Delete => value = None,
                // An overflow makes the value absent here; `refusal` has found it at that operation
                // before.
                Action::Add { by, .. } => value = value.unwrap_or(0).checked_add(by),
            }
        }
        value
    }

    fn refusal(&self, ops: &[Op]) -> Option<Refusal> {
        ops.iter().enumerate().find_map(|(at, op)| {
            let Action::Add { by, at_least } = op.action else { return None };
            let key = op.key;
            match self.value_at(ops, at).unwrap_or(0).checked_add(by) {
                None => Some(Refusal::Overflow { key }),
                Some(sum) if sum < at_least => Some(Refusal::Bound { key }),
                Some(_) => None,
            }
        })
    }

    /// The values that the reads among `ops` find. Under locks they do not change, over a restart
    /// included.
    pub fn read(&self, ops: &[Op]) -> Reads {
        // Most transactions only write: they take no list.
        if ops.iter().all(Op::writes) {
            return Reads::default();
        }
        let gets = ops.iter().enumerate().filter(|(_, op)| !op.writes());
        Reads::from(&gets.map(|(at, _)| self.value_at(ops, at)).collect::<Vec<_>>()[..])
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
        store.commit(mid, &put);
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
        store.commit(a, &ops);
        assert_eq!(store.values().get(&Key::new("a").unwrap()), Some(&0));
        assert_eq!(store.locks().count(), 0);
    }
}
