//! What the network and the hosts need of the run that they belong to.

use stormglass_node::{Node, NodeId};

use crate::chooser::Chooser;
use crate::disk::Disk;
use crate::plan::Plan;
use crate::property::{Checker, Fact, Observation};

use super::faults::Faults;
use super::monitor::Monitor;
use super::timeline::{Event, Timeline};

/// The run: its plan, its disks, its time, its faults, and what is seen of it.
#[derive(Clone, Debug)]
pub(super) struct Run<K, C> {
    /// Everything that is decided before the run, but for requests and faults.
    plan: Plan,
    /// One for each node, in order: that of its running process. The disk of a process that is set
    /// aside (D17) is with that process. All are here, and not with their hosts, since a checker
    /// sees all of them at a fact of any node.
    disks: Vec<Disk>,
    pub(super) timeline: Timeline,
    pub(super) faults: Faults<C>,
    pub(super) monitor: Monitor<K>,
}

impl<K, C: Chooser> Run<K, C> {
    pub(super) fn new(plan: Plan, checker: K, chooser: C) -> Run<K, C> {
        let mut run = Run {
            plan,
            disks: Vec::new(),
            timeline: Timeline::default(),
            faults: Faults::new(chooser),
            monitor: Monitor::new(checker),
        };
        run.begin();
        run
    }

    /// Another run in the same memory. `reset_checker` prepares the checker for it.
    pub(super) fn reset(
        &mut self,
        new_plan: Plan,
        chooser: C,
        reset_checker: impl FnOnce(&mut K, &Plan),
    ) {
        let Run { plan, disks: _, timeline, faults, monitor } = self;
        *plan = new_plan;
        timeline.reset();
        *faults = Faults::new(chooser);
        monitor.reset(|checker| reset_checker(checker, plan));
        self.begin();
    }

    fn begin(&mut self) {
        let nodes = usize::from(self.plan.nodes);
        self.disks.truncate(nodes);
        // Reset and not replaced: the disks keep their memory for the next run.
        self.disks.iter_mut().for_each(Disk::reset);
        self.disks.resize_with(nodes, Disk::default);
        for (index, at) in (0..).zip(self.faults.times()) {
            self.timeline.push_at(at, Event::TimedFault { index });
        }
        // Events of one time keep their order, so a fault at the very end of the phase still
        // happens.
        self.timeline.push_at(self.plan.fault_phase, Event::Heal);
    }

    /// Fixed for the whole run.
    #[inline]
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// The disks. A host has its own by the number of its node.
impl<K, C> Run<K, C> {
    #[inline]
    pub(super) fn disk(&self, node: NodeId) -> &Disk {
        &self.disks[usize::from(node.0)]
    }

    #[inline]
    pub(super) fn disk_mut(&mut self, node: NodeId) -> &mut Disk {
        &mut self.disks[usize::from(node.0)]
    }

    /// The faults, with the disks that the chooser may look at.
    #[inline]
    pub(super) fn faults_and_disks(&mut self) -> (&mut Faults<C>, &[Disk]) {
        (&mut self.faults, &self.disks)
    }

    /// The monitor, while a node boots from its disk.
    #[inline]
    pub(super) fn monitor_and_disk(&mut self, node: NodeId) -> (&mut Monitor<K>, &Disk) {
        (&mut self.monitor, &self.disks[usize::from(node.0)])
    }

    /// Folds a fact into the fingerprint and passes it to the checker.
    #[inline(always)]
    pub(super) fn observe<N>(&mut self, node: NodeId, incarnation: u32, fact: &Fact<'_, N>)
    where
        N: Node,
        K: Checker<N>,
    {
        self.monitor.observe(&Observation {
            at: self.timeline.now(),
            node,
            incarnation,
            disk: &self.disks[usize::from(node.0)],
            disks: &self.disks,
            fact,
        });
    }
}
