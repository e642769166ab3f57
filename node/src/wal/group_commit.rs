//! Group commit: which records are durable, and which barrier is in flight to make more durable.

use crate::contract::OpId;

/// The log's lane, that is, its sequence of barriers. At most one is in flight; records appended
/// meanwhile share the next.
#[derive(Clone, Debug)]
pub(super) struct GroupCommit {
    /// The position of the last record appended.
    appended: u64,
    // Durability was requested up to this record; <= appended. Later records have no barrier of
    // their own.
    forced: u64,
    // Every record up to this position is durable; durable <= barrier.up_to <= appended.
    durable: u64,
    // The barrier in flight.
    barrier: Option<Barrier>,
}

/// One barrier: the data of a segment, and for a new segment its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Barrier {
    /// The segment that is synced.
    segment: u32,
    /// Records up to this one are durable once the barrier has completed.
    up_to: u64,
    /// The `Sync` of the segment; `None` once it has completed.
    data_sync: Option<OpId>,
    /// The `SyncDir` that makes the name of a new segment durable; `None` once it has completed, or
    /// if the name was durable before.
    dir_sync: Option<OpId>,
}

impl Barrier {
    pub(super) fn new(
        segment: u32,
        up_to: u64,
        data_sync: OpId,
        dir_sync: Option<OpId>,
    ) -> Barrier {
        Barrier { segment, up_to, data_sync: Some(data_sync), dir_sync }
    }

    pub(super) fn segment(&self) -> u32 {
        self.segment
    }

    /// The position of the last record that it covers.
    pub(super) fn up_to(&self) -> u64 {
        self.up_to
    }
}

impl GroupCommit {
    /// A lane in which everything up to `position` is made durable by a snapshot.
    pub(super) fn starting_at(position: u64) -> GroupCommit {
        GroupCommit { appended: position, forced: position, durable: position, barrier: None }
    }

    /// Counts one more record; returns its position.
    #[inline]
    pub(super) fn append(&mut self) -> u64 {
        self.appended += 1;
        self.appended
    }

    #[inline]
    pub(super) fn appended(&self) -> u64 {
        self.appended
    }

    #[inline]
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    pub(super) fn force(&mut self) {
        self.forced = self.appended;
    }

    /// Whether a barrier should be issued now.
    pub(super) fn needs_barrier(&self) -> bool {
        // An unforced record alone causes no barrier: the next forced one makes it durable at no
        // cost.
        self.barrier.is_none() && self.forced > self.durable
    }

    pub(super) fn issue(&mut self, barrier: Barrier) {
        assert!(self.barrier.is_none(), "two barriers in the log's lane");
        assert!(self.durable < barrier.up_to, "a barrier that covers no record");
        assert!(barrier.up_to <= self.appended, "a barrier beyond the log");
        self.barrier = Some(barrier);
    }

    /// Records that `op` has completed, if it belongs to this lane; returns the barrier if it is
    /// complete.
    pub(super) fn on_barrier_done(&mut self, op: OpId) -> Completion {
        let Some(barrier) = &mut self.barrier else { return Completion::Unrelated };
        if barrier.data_sync == Some(op) {
            barrier.data_sync = None;
        } else if barrier.dir_sync == Some(op) {
            barrier.dir_sync = None;
        } else {
            return Completion::Unrelated;
        }
        if barrier.data_sync.is_some() || barrier.dir_sync.is_some() {
            return Completion::Partial;
        }
        // Everything that `up_to` names was appended before the barrier was issued, so it is
        // covered.
        let barrier = self.barrier.take().expect("matched above");
        self.durable = barrier.up_to;
        Completion::Complete(barrier)
    }
}

/// What a completed operation means for the lane.
#[derive(Clone, Copy, Debug)]
pub(super) enum Completion {
    /// The operation is not one of this lane.
    Unrelated,
    /// The other half of the barrier has not completed.
    Partial,
    /// Everything that the barrier covers is durable.
    Complete(Barrier),
}
