//! When something is due. Kept sorted, so that the next deadline is a look at the front and removal is exact:
//! nothing stays armed when all is quiet.

use std::collections::VecDeque;

use crate::id::{Time, TxId};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A coordinator has waited long enough for votes.
    VoteTimeout,
    /// A coordinator says again what has not been answered.
    Retransmit,
    /// A Prepare has waited long enough for a lock.
    LockTimeout,
    /// Who is in doubt asks.
    Inquire,
}

/// All that is due, sorted by time.
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
        if self.queue.back().is_none_or(|last| last.0 < at) {
            return self.queue.push_back(entry);
        }
        let index = self.queue.partition_point(|other| *other < entry);
        self.queue.insert(index, entry);
    }

    /// Takes out what was set for exactly this time; it may have fired already.
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
