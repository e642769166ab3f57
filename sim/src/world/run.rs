//! What the network and the hosts need of the run that they belong to.

use crate::chooser::Chooser;
use crate::plan::Plan;

use super::faults::Faults;
use super::monitor::Monitor;
use super::timeline::{Event, Timeline};

/// The run: its plan, its time, its faults, and what is seen of it.
#[derive(Clone, Debug)]
pub(super) struct Run<K, C> {
    /// Everything that is decided before the run, but for requests and faults.
    plan: Plan,
    pub(super) timeline: Timeline,
    pub(super) faults: Faults<C>,
    pub(super) monitor: Monitor<K>,
}

impl<K, C: Chooser> Run<K, C> {
    pub(super) fn new(plan: Plan, checker: K, chooser: C) -> Run<K, C> {
        let mut run = Run {
            plan,
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
        let Run { plan, timeline, faults, monitor } = self;
        *plan = new_plan;
        timeline.reset();
        *faults = Faults::new(chooser);
        monitor.reset(|checker| reset_checker(checker, plan));
        self.begin();
    }

    fn begin(&mut self) {
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
