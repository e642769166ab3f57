//! Future events, ordered by (time, sequence).
//!
//! A run has a few dozen pending events, and each event causes about one more: a short sorted list
//! is several times as fast as a heap for that. Events beyond it wait in a heap, so that a thousand
//! cost no more than their logarithm.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use stormglass_node::Micros;

/// A queue of timed events. Events of the same time come out in the order in which they went in.
#[derive(Clone, Debug)]
pub struct EventQueue<E> {
    /// The next events, the latest first, so that the next one is popped off the end.
    near: Vec<Entry<E>>,
    /// All later events; empty if `near` is.
    far: BinaryHeap<Reverse<Entry<E>>>,
    sequence: u32,
}

/// The greatest length of `near`.
// A run of the default size has a few dozen pending events; more nodes and clients have more.
const NEAR_MAX: usize = 64;
/// Up to this length a linear scan is faster than a binary search.
const LINEAR_SCAN_MAX: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Entry<E> {
    at: Micros,
    sequence: u32,
    event: E,
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        EventQueue { near: Vec::with_capacity(NEAR_MAX), far: BinaryHeap::new(), sequence: 0 }
    }
}

impl<E: Copy> EventQueue<E> {
    /// Schedules `event` at `at`.
    #[inline]
    pub fn push(&mut self, at: Micros, event: E) {
        // A sequence that wrapped around would silently reorder events of one time.
        self.sequence = self.sequence.checked_add(1).expect("a run has fewer than 2^32 events");
        let entry = Entry { at, sequence: self.sequence, event };
        let count = self.near.len();
        // As long as the heap has events, one of them may be earlier than the latest of the list.
        if count >= NEAR_MAX || !self.far.is_empty() {
            return self.push_with_overflow(entry);
        }
        // It is the last of its time so far, so it comes before (later than) all of the same time.
        // Most are among the next few: those are moved one by one.
        self.near.push(entry);
        // Most events are among the next few: moving those is cheaper than finding the place first.
        let mut index = count;
        let scan_from = count.saturating_sub(LINEAR_SCAN_MAX);
        while index > scan_from && self.near[index - 1].at <= at {
            self.near[index] = self.near[index - 1];
            index -= 1;
        }
        if index == scan_from && scan_from > 0 {
            // The place is beyond the scanned part: it is searched for, and all events after it
            // move at once.
            let insert_at = self.near[..scan_from].partition_point(|other| other.at > at);
            self.near.copy_within(insert_at..scan_from, insert_at + 1);
            index = insert_at;
        }
        self.near[index] = entry;
    }

    /// Too many events for `near`: some of them wait in the heap.
    #[cold]
    fn push_with_overflow(&mut self, entry: Entry<E>) {
        if self.near.len() >= NEAR_MAX {
            // Half of them, so that the next pushes find room again.
            self.far.extend(self.near.drain(..NEAR_MAX / 2).map(Reverse));
        }
        match self.near.partition_point(|other| other.at > entry.at) {
            // Later than the whole list, and perhaps later than some of the heap: only the heap can
            // order it.
            0 if !self.far.is_empty() => self.far.push(Reverse(entry)),
            index => self.near.insert(index, entry),
        }
    }

    /// The next event and its time.
    #[inline]
    pub fn pop(&mut self) -> Option<(Micros, E)> {
        let entry = self.near.pop()?;
        if self.near.is_empty() && !self.far.is_empty() {
            self.refill();
        }
        Some((entry.at, entry.event))
    }

    #[cold]
    fn refill(&mut self) {
        let next = std::iter::from_fn(|| self.far.pop()).take(NEAR_MAX / 2);
        self.near.extend(next.map(|Reverse(entry)| entry));
        // The heap gives the next event first, and the list has it last.
        self.near.reverse();
    }

    /// Removes an event of this time for which `predicate` holds, if it is among the next ones:
    /// obsolete events should not crowd them. Its owner must tolerate an obsolete event all the
    /// same.
    #[inline]
    pub fn cancel(&mut self, at: Micros, predicate: impl Fn(E) -> bool) {
        let from = self.near.partition_point(|entry| entry.at > at);
        let same = self.near[from..].iter().take_while(|entry| entry.at == at);
        let found = same.into_iter().position(|entry| predicate(entry.event));
        // The last event stays: with an empty list the heap would have to be consulted.
        if let Some(found) = found.filter(|_| self.near.len() > 1) {
            self.near.remove(from + found);
        }
    }

    /// Whether no event is pending.
    pub fn is_empty(&self) -> bool {
        self.near.is_empty()
    }

    /// Gives every event another time, or removes it; the order of equal times is kept.
    pub fn retime(&mut self, mut new_time: impl FnMut(Micros, E) -> Option<Micros>) {
        let mut entries: Vec<Entry<E>> = self.near.drain(..).collect();
        entries.extend(self.far.drain().map(|Reverse(entry)| entry));
        // By sequence among equal times, which `push` numbers anew in this order.
        entries.sort_by_key(Entry::key);
        for entry in entries {
            if let Some(at) = new_time(entry.at, entry.event) {
                self.push(at, entry.event);
            }
        }
    }

    /// Removes all events and keeps the memory.
    pub fn reset(&mut self) {
        self.near.clear();
        self.far.clear();
        self.sequence = 0;
    }
}

impl<E> Entry<E> {
    fn key(&self) -> (Micros, u32) {
        (self.at, self.sequence)
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
        /// For any number of events and any equal times, they come out by time and then in the
        /// order of insertion.
        #[test]
        fn events_pop_by_time_then_in_insertion_order(bursts in prop::collection::vec((prop::collection::vec(0u64..50, 0..150), 0usize..150), 1..8)) {
            let mut queue = EventQueue::default();
            let mut model: Vec<(Micros, u32)> = Vec::new();
            let mut count: u32 = 0;
            for (times, pops) in bursts {
                for at in times.into_iter().map(Micros) {
                    queue.push(at, count);
                    model.push((at, count));
                    count += 1;
                }
                model.sort_unstable();
                for _ in 0..pops.min(model.len()) {
                    prop_assert_eq!(queue.pop(), Some(model.remove(0)));
                }
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
            // Halved times collide and a third of the events goes: neither may change the order of
            // the rest.
            queue.retime(|at, event| (event % 3 > 0).then_some(at / 2));
            let mut kept: Vec<(Micros, u32)> = model.into_iter().filter(|(_, event)| event % 3 > 0).collect();
            kept.sort_by_key(|(at, _)| *at / 2);
            for (at, event) in kept {
                prop_assert_eq!(queue.pop(), Some((at / 2, event)));
            }
            prop_assert_eq!(queue.pop(), None);
        }
    }
}
