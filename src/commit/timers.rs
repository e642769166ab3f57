//! Timers. Kept sorted, so that the next deadline is at the front and removal is exact: no timer
//! stays set when the node is idle.

use std::collections::VecDeque;

use super::tx_id::TxId;
use stormglass_node::id::Time;

/// The kinds of timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A coordinator stops waiting for votes.
    VoteTimeout,
    /// A coordinator resends unanswered messages.
    Retransmit,
    /// A waiting Prepare is dropped.
    LockTimeout,
    /// A participant in doubt inquires.
    Inquire,
    /// A new incarnation speaks again to the peers that do not remember it.
    Introduce,
}

/// All timers, sorted by time.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    queue: VecDeque<(Time, Timer, TxId)>,
}

impl Timers {
    pub(super) fn next(&self) -> Option<Time> {
        self.queue.front().map(|entry| entry.0)
    }

    pub(super) fn set(&mut self, at: Time, timer: Timer, tx: TxId) {
        let entry = (at, timer, tx);
        // Strictly later: at equal times kind and transaction decide the place.
        if self.queue.back().is_none_or(|last| last.0 < at) {
            return self.queue.push_back(entry);
        }
        let index = self.queue.partition_point(|other| *other < entry);
        self.queue.insert(index, entry);
    }

    /// Removes a timer set for exactly this time, if it has not fired.
    pub(super) fn cancel(&mut self, at: Time, timer: Timer, tx: TxId) {
        let entry = (at, timer, tx);
        if self.queue.front() == Some(&entry) {
            self.queue.pop_front();
        } else if self.queue.back() == Some(&entry) {
            self.queue.pop_back();
        } else if let Ok(index) = self.queue.binary_search(&entry) {
            self.queue.remove(index);
        }
    }

    pub(super) fn pop_due(&mut self, now: Time) -> Option<(Timer, TxId)> {
        self.queue.front().filter(|entry| entry.0 <= now)?;
        self.queue.pop_front().map(|(_, timer, tx)| (timer, tx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormglass_node::id::{Incarnation, NodeId};

    fn entry(at: u64, timer: Timer, serial: u64) -> (Time, Timer, TxId) {
        let incarnation = Incarnation::numbered(1);
        (Time(at), timer, TxId { coordinator: NodeId(0), incarnation, serial })
    }

    /// In whatever order they are set: timers of one time in the order of kinds, then transactions.
    #[test]
    fn timers_are_due_in_order_and_each_can_be_cancelled() {
        let all = [
            entry(5, Timer::VoteTimeout, 1),
            entry(5, Timer::VoteTimeout, 2),
            entry(5, Timer::Retransmit, 1),
            entry(6, Timer::VoteTimeout, 1),
        ];
        for rotation in 0..all.len() {
            let mut order = all;
            order.rotate_left(rotation);
            for reversed in [false, true] {
                if reversed {
                    order.reverse();
                }
                for cancelled in all {
                    let mut timers = Timers::default();
                    order.into_iter().for_each(|(at, timer, tx)| timers.set(at, timer, tx));
                    assert_eq!(timers.next(), Some(Time(5)));
                    let (at, timer, tx) = cancelled;
                    timers.cancel(at, timer, tx);
                    let left = all.into_iter().filter(|entry| *entry != cancelled);
                    for (at, timer, tx) in left {
                        assert_eq!(timers.pop_due(Time(at.0 - 1)), None);
                        assert_eq!(timers.pop_due(at), Some((timer, tx)));
                    }
                    assert_eq!(timers.next(), None);
                }
            }
        }
    }
}
