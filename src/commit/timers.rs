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
