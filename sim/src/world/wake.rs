//! Wakes: a node is stepped with [`Input::Wake`] once its clock reaches its deadline.

use stormglass_node::{Input, Node, NodeId};

use super::{Event, World};
use crate::chooser::Chooser;
use crate::property::{Checker, Violation};
use crate::workload::Workload;

impl<N, W, K, C> World<N, W, K, C>
where
    N: Node,
    W: Workload<N>,
    K: Checker<N>,
    C: Chooser,
{
    /// Queues a wake for the node's deadline, unless an earlier or equal one is queued.
    #[inline]
    pub(super) fn schedule_wake(&mut self, id: NodeId) {
        let host = &mut self.hosts[usize::from(id.0)];
        let Some(deadline) = host.node.as_ref().and_then(Node::deadline) else { return };
        let at_us = host.clock.true_time_of(deadline, self.now_us);
        if at_us >= host.wake_at_us {
            return;
        }
        let queued_wake_us = std::mem::replace(&mut host.wake_at_us, at_us);
        if queued_wake_us != u64::MAX {
            self.queue.cancel(
                queued_wake_us,
                |event| matches!(event, Event::Wake { node } if node == id.0),
            );
        }
        self.queue.push(at_us, Event::Wake { node: id.0 });
    }

    pub(super) fn wake(&mut self, id: NodeId) {
        let now_us = self.now_us;
        if self.hosts[usize::from(id.0)].wake_at_us > now_us {
            return; // Stale: the deadline or the incarnation has changed since it was queued.
        }
        if self.postpone_if_paused(id, Event::Wake { node: id.0 }) {
            return;
        }
        let host = &mut self.hosts[usize::from(id.0)];
        host.wake_at_us = u64::MAX;
        let now = host.clock.local_time(now_us);
        let Some(node) = &host.node else { return };
        if node.deadline().is_none_or(|deadline| deadline > now) {
            self.schedule_wake(id);
            return;
        }
        self.step(id, Input::Wake);
        let host = &self.hosts[usize::from(id.0)];
        if let Some(stale_deadline) =
            host.node.as_ref().and_then(Node::deadline).filter(|deadline| *deadline <= now)
        {
            let reason =
                format!("{id} was woken at {now}, but its deadline is still {stale_deadline}");
            self.violation.get_or_insert(Violation::liveness("WakeMovesTheDeadline", reason));
        }
    }

    /// A paused node (P4) handles nothing: its events wait until it resumes.
    #[inline]
    pub(super) fn postpone_if_paused(&mut self, id: NodeId, event: Event) -> bool {
        let host = &mut self.hosts[usize::from(id.0)];
        if host.paused_until_us <= self.now_us {
            return false;
        }
        if let Event::Wake { .. } = event {
            host.wake_at_us = host.paused_until_us;
        }
        self.queue.push(host.paused_until_us, event);
        true
    }
}
