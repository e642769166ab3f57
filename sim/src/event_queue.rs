//! What will happen, ordered by (time, sequence).
//!
//! A run has a few dozen events to come, and each that happens brings about one more: a short sorted list is several
//! times as fast at that as a heap. What does not fit into it waits in a heap, so that a thousand cost no more than
//! their logarithm.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue of timed events. Events of the same time come out in the order in which they went in.
#[derive(Clone, Debug)]
pub struct EventQueue<E> {
    /// The next ones: the latest first, so that the next is popped off the end.
    near: Vec<Entry<E>>,
    /// All that come after those in `near`; empty if that is empty.
    far: BinaryHeap<Reverse<Entry<E>>>,
    sequence: u32,
}

/// `near` never holds more.
const NEAR_MAX: usize = 64;
/// Among so many, looking at one after the other is faster than to bisect.
const LINEAR_SCAN_MAX: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Entry<E> {
    at_us: u64,
    sequence: u32,
    event: E,
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        EventQueue { near: Vec::with_capacity(NEAR_MAX), far: BinaryHeap::new(), sequence: 0 }
    }
}

impl<E: Copy> EventQueue<E> {
    /// Lets `event` happen at `at_us`.
    #[inline]
    pub fn push(&mut self, at_us: u64, event: E) {
        self.sequence = self.sequence.checked_add(1).expect("a run has fewer than 2^32 events");
        let entry = Entry { at_us, sequence: self.sequence, event };
        let count = self.near.len();
        if count >= NEAR_MAX || !self.far.is_empty() {
            return self.push_with_overflow(entry);
        }
        // It is the last of its time so far, so it goes before (later than) all of the same time. Most are among the
        // next few: those step aside one by one.
        self.near.push(entry);
        let mut place = count;
        let scan_from = count.saturating_sub(LINEAR_SCAN_MAX);
        while place > scan_from && self.near[place - 1].at_us <= at_us {
            self.near[place] = self.near[place - 1];
            place -= 1;
        }
        if place == scan_from && scan_from > 0 {
            let far = self.near[..scan_from].partition_point(|other| other.at_us > at_us);
            self.near.copy_within(far..scan_from, far + 1);
            place = far;
        }
        self.near[place] = entry;
    }

    /// There are so many that some of them wait in the heap.
    #[cold]
    fn push_with_overflow(&mut self, entry: Entry<E>) {
        if self.near.len() >= NEAR_MAX {
            self.far.extend(self.near.drain(..NEAR_MAX / 2).map(Reverse));
        }
        match self.near.partition_point(|other| other.at_us > entry.at_us) {
            0 if !self.far.is_empty() => self.far.push(Reverse(entry)),
            place => self.near.insert(place, entry),
        }
    }

    /// The next event and its time.
    #[inline]
    pub fn pop(&mut self) -> Option<(u64, E)> {
        let entry = self.near.pop()?;
        if self.near.is_empty() && !self.far.is_empty() {
            self.refill();
        }
        Some((entry.at_us, entry.event))
    }

    #[cold]
    fn refill(&mut self) {
        let next = std::iter::from_fn(|| self.far.pop()).take(NEAR_MAX / 2);
        self.near.extend(next.map(|Reverse(entry)| entry));
        self.near.reverse();
    }

    /// Takes out an event of this time for which `predicate` holds, if it is among the next ones: what has become
    /// pointless should not crowd them. Whoever puts it in must be able to bear it all the same.
    #[inline]
    pub fn cancel(&mut self, at_us: u64, predicate: impl Fn(E) -> bool) {
        let from = self.near.partition_point(|entry| entry.at_us > at_us);
        let same = self.near[from..].iter().take_while(|entry| entry.at_us == at_us);
        let found = same.into_iter().position(|entry| predicate(entry.event));
        if let Some(found) = found.filter(|_| self.near.len() > 1) {
            self.near.remove(from + found);
        }
    }

    /// Whether nothing will happen.
    pub fn is_empty(&self) -> bool {
        self.near.is_empty()
    }

    /// Gives every event another time, or takes it out; the order of equal times stays as it was.
    pub fn retime(&mut self, mut new_time: impl FnMut(u64, E) -> Option<u64>) {
        let mut entries: Vec<Entry<E>> = self.near.drain(..).collect();
        entries.extend(self.far.drain().map(|Reverse(entry)| entry));
        entries.sort_by_key(Entry::key);
        for entry in entries {
            if let Some(at_us) = new_time(entry.at_us, entry.event) {
                self.push(at_us, entry.event);
            }
        }
    }

    /// Forgets everything, keeps the memory.
    pub fn reset(&mut self) {
        self.near.clear();
        self.far.clear();
        self.sequence = 0;
    }
}

impl<E> Entry<E> {
    fn key(&self) -> (u64, u32) {
        (self.at_us, self.sequence)
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However many there are, and however times coincide, they come out by time and then in the order of going in.
        #[test]
        fn events_pop_by_time_then_in_insertion_order(bursts in prop::collection::vec((prop::collection::vec(0u64..50, 0..150), 0usize..150), 1..8)) {
            let mut queue = EventQueue::default();
            let (mut model, mut count): (Vec<(u64, u32)>, u32) = (Vec::new(), 0);
            for (times, pops) in bursts {
                for at_us in times {
                    queue.push(at_us, count);
                    model.push((at_us, count));
                    count += 1;
                }
                model.sort_unstable();
                for _ in 0..pops.min(model.len()) {
                    prop_assert_eq!(queue.pop(), Some(model.remove(0)));
                }
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
            queue.retime(|at_us, event| (event % 3 > 0).then_some(at_us / 2));
            let mut kept: Vec<(u64, u32)> = model.into_iter().filter(|(_, event)| event % 3 > 0).collect();
            kept.sort_by_key(|(at_us, _)| at_us / 2);
            for (at_us, event) in kept {
                prop_assert_eq!(queue.pop(), Some((at_us / 2, event)));
            }
            prop_assert_eq!(queue.pop(), None);
        }
    }
}
