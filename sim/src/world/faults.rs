//! The faults of a run: what the chooser decides, and what happens at given times.

use stormglass_node::{DiskOp, Micros, Node, NodeId};

use crate::chooser::{Chooser, EffectPoint, FaultClasses, SendPoint};
use crate::fault::{BarrierFault, Crash, MessageFault, Skew, TimedFault, WriteFault};

/// Asks the chooser, as long as the fault phase lasts.
#[derive(Clone, Debug)]
pub(super) struct Faults<C> {
    chooser: C,
    /// The faults that the chooser decides; none after the fault phase.
    classes: FaultClasses,
    timed: Vec<(Micros, TimedFault)>,
}

impl<C: Chooser> Faults<C> {
    pub(super) fn new(mut chooser: C) -> Faults<C> {
        // The classes come first: the contract of `Chooser`.
        let classes = chooser.fault_classes();
        let timed = chooser.timed_faults();
        Faults { chooser, classes, timed }
    }

    /// No fault happens from now on.
    pub(super) fn end(&mut self) {
        self.classes = FaultClasses::NOTHING;
    }

    /// Whether the next message may have a fault: only then its point is built.
    #[inline]
    pub(super) fn concern_messages(&self) -> bool {
        self.classes.messages
    }

    #[inline]
    pub(super) fn of_message(&mut self, point: &SendPoint) -> Option<MessageFault> {
        self.chooser.message(point)
    }

    #[inline]
    pub(super) fn crash_after<N: Node>(&mut self, point: &EffectPoint<'_, N>) -> Option<Crash> {
        if self.classes.crashes { self.chooser.crash(point) } else { None }
    }

    #[inline]
    pub(super) fn of_barrier<N: Node>(
        &mut self,
        op: &DiskOp,
        point: &EffectPoint<'_, N>,
    ) -> Option<BarrierFault> {
        // Called for every disk operation, but only a barrier can have such a fault.
        let (DiskOp::Sync { .. } | DiskOp::SyncDir { .. }) = op else { return None };
        if self.classes.barriers { self.chooser.barrier(point) } else { None }
    }

    /// Whether writes may have faults now: in recovery not even a disk that is still full has one.
    #[inline]
    pub(super) fn concern_writes(&self) -> bool {
        self.classes.writes
    }

    #[inline]
    pub(super) fn of_write<N: Node>(&mut self, point: &EffectPoint<'_, N>) -> Option<WriteFault> {
        self.chooser.write(point)
    }

    /// D13, D17: whether a disk may be replaced by what it was at an earlier boot, or copied then.
    #[inline]
    pub(super) fn need_backups(&self) -> bool {
        self.classes.backups
    }

    /// Asked in every phase: a clock is skewed in recovery too.
    pub(super) fn skew(&mut self, id: NodeId, incarnation: u32) -> Skew {
        self.chooser.skew(id, incarnation)
    }

    /// The times of the timed faults, by index.
    pub(super) fn times(&self) -> impl Iterator<Item = Micros> + '_ {
        self.timed.iter().map(|(at, _)| *at)
    }

    pub(super) fn timed(&self, index: u32) -> &TimedFault {
        &self.timed[index as usize].1
    }

    /// P3: whether each of `nodes` nodes has a timed crash at the time of this one.
    pub(super) fn is_cluster_power_cut(&self, index: u32, nodes: u16) -> bool {
        let (now, _) = &self.timed[index as usize];
        // Quadratic in a list of a few faults, and the world only asks at a timed crash of node 0.
        (0..nodes).map(NodeId).all(|id| {
            let mut simultaneous = self.timed.iter().filter(|(at, _)| at == now);
            simultaneous
                .any(|(_, fault)| matches!(fault, TimedFault::Crash { node, .. } if *node == id))
        })
    }

    pub(super) fn chooser(&self) -> &C {
        &self.chooser
    }

    pub(super) fn into_chooser(self) -> C {
        self.chooser
    }
}
