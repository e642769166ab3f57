//! When something is due. Kept sorted, so that the next deadline is a look at the front and removal is exact:
//! nothing stays armed when all is quiet.

use std::collections::VecDeque;

use crate::id::{Time, TxId};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A coordinator has waited long enough for votes.
    Votes,
    /// A coordinator says again what has not been answered.
    Repeat,
    /// A Prepare has waited long enough for a lock.
    Lock,
    /// Who is in doubt asks.
    Ask,
}

/// All that is due, sorted by time.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    queue: VecDeque<(Time, Alarm, TxId)>,
}

impl Timers {
    pub(super) fn next(&self) -> Option<Time> {
        self.queue.front().map(|entry| entry.0)
    }

    pub(super) fn set(&mut self, at: Time, alarm: Alarm, tx: TxId) {
        let entry = (at, alarm, tx);
        if self.queue.back().is_none_or(|last| last.0 < at) {
            return self.queue.push_back(entry);
        }
        let place = self.queue.partition_point(|other| *other < entry);
        self.queue.insert(place, entry);
    }

    /// Takes out what was set for exactly this time; it may have fired already.
    pub(super) fn cancel(&mut self, at: Time, alarm: Alarm, tx: TxId) {
        let entry = (at, alarm, tx);
        if self.queue.front() == Some(&entry) {
            self.queue.pop_front();
        } else if self.queue.back() == Some(&entry) {
            self.queue.pop_back();
        } else if let Ok(place) = self.queue.binary_search(&entry) {
            self.queue.remove(place);
        }
    }

    pub(super) fn pop_due(&mut self, now: Time) -> Option<(Alarm, TxId)> {
        self.queue.front().filter(|entry| entry.0 <= now)?;
        self.queue.pop_front().map(|(_, alarm, tx)| (alarm, tx))
    }
}
