//! What will happen, ordered by (time, sequence).

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A queue of timed events. Events of the same time come out in the order in which they went in.
#[derive(Clone, Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    sequence: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry<E> {
    at_us: u64,
    sequence: u32,
    event: E,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue { heap: BinaryHeap::new(), sequence: 0 }
    }
}

impl<E: Copy> Queue<E> {
    /// Lets `event` happen at `at_us`.
    #[inline]
    pub fn push(&mut self, at_us: u64, event: E) {
        self.sequence = self.sequence.checked_add(1).expect("a run has fewer than 2^32 events");
        self.heap.push(Entry { at_us, sequence: self.sequence, event });
    }

    /// The next event and its time.
    #[inline]
    pub fn pop(&mut self) -> Option<(u64, E)> {
        self.heap.pop().map(|entry| (entry.at_us, entry.event))
    }

    /// Whether nothing will happen.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Gives every event another time, or takes it out; the order of equal times stays as it was.
    pub fn retime(&mut self, mut new_time: impl FnMut(u64, E) -> Option<u64>) {
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        entries.sort_by_key(|entry| (entry.at_us, entry.sequence));
        for entry in entries {
            if let Some(at_us) = new_time(entry.at_us, entry.event) {
                self.push(at_us, entry.event);
            }
        }
    }

    /// Forgets everything, keeps the memory.
    pub fn reset(&mut self) {
        self.heap.clear();
        self.sequence = 0;
    }
}

impl<E> Ord for Entry<E> {
    /// The earliest is the greatest, since the heap gives the greatest first.
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.sequence).cmp(&(self.at_us, self.sequence))
    }
}

impl<E> PartialOrd for Entry<E> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}
