//! Group commit: which records are durable, and which barrier is under way to make more so.

use crate::contract::OpId;

/// The log's lane. At most one barrier is in flight; what is appended meanwhile shares the next.
#[derive(Clone, Debug)]
pub(super) struct GroupCommit {
    /// The number of the last record appended.
    pub(super) appended: u64,
    // Up to where durability was asked for; <= appended. What lies above only rides along.
    forced: u64,
    // The last completed barrier; durable <= syncing_to <= appended.
    durable: u64,
    // The barrier under way, and hence syncing_to.
    barrier: Option<Barrier>,
}

/// One barrier: the data of a segment, and the first time its name, too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Barrier {
    /// The segment that is synced.
    pub(super) segment: u32,
    /// What is durable once it has completed.
    pub(super) up_to: u64,
    /// Still awaited.
    pub(super) data: Option<OpId>,
    /// Still awaited.
    pub(super) name: Option<OpId>,
}

impl GroupCommit {
    /// A lane at whose beginning everything up to `position` is durable elsewhere.
    pub(super) fn starting_at(position: u64) -> GroupCommit {
        GroupCommit { appended: position, forced: position, durable: position, barrier: None }
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    pub(super) fn force(&mut self) {
        self.forced = self.appended;
    }

    /// Whether a barrier should be issued now.
    pub(super) fn needs_barrier(&self) -> bool {
        self.barrier.is_none() && self.forced > self.durable
    }

    pub(super) fn issue(&mut self, barrier: Barrier) {
        assert!(self.barrier.is_none(), "two barriers in the log's lane");
        assert!(self.durable < barrier.up_to, "a barrier for nothing");
        assert!(barrier.up_to <= self.appended, "a barrier beyond the log");
        self.barrier = Some(barrier);
    }

    /// Takes note that `op` has completed, if it is one of ours; the barrier, if that completes it.
    pub(super) fn on_barrier_done(&mut self, op: OpId) -> Completion {
        let Some(barrier) = &mut self.barrier else { return Completion::Unrelated };
        if barrier.data == Some(op) {
            barrier.data = None;
        } else if barrier.name == Some(op) {
            barrier.name = None;
        } else {
            return Completion::Unrelated;
        }
        if barrier.data.is_some() || barrier.name.is_some() {
            return Completion::Partial;
        }
        let barrier = self.barrier.take().expect("looked at above");
        self.durable = barrier.up_to;
        Completion::Complete(barrier)
    }
}

/// What the end of one operation means to the lane.
#[derive(Clone, Copy, Debug)]
pub(super) enum Completion {
    /// It is not of this lane.
    Unrelated,
    /// The other half of the barrier is still awaited.
    Partial,
    /// Everything up to the barrier's mark is durable.
    Complete(Barrier),
}
