//! How the world performs the effects of a node. [`World`] returns the results of barriers later.

use stormglass_node::{DiskError, DiskOp, Effect, Node, NodeId, Outbox};

use super::{BarrierOutcome, Event, World};
use crate::chooser::Chooser;
use crate::fault::{BarrierFault, Crash, WriteFault};
use crate::property::{Checker, Fact};
use crate::tally::Rule;
use crate::workload::Workload;

impl<N, W, K, C> World<N, W, K, C>
where
    N: Node,
    W: Workload<N>,
    K: Checker<N>,
    C: Chooser,
{
    /// Performs the effects of a step, in order. A crash may follow any of them; the effects after
    /// it are discarded.
    pub(super) fn perform(&mut self, id: NodeId, outbox: &mut Outbox<N>) {
        let (effects, bytes) = outbox.drain();
        for effect in effects {
            let alive = match effect {
                Effect::Send { .. } | Effect::Reply { .. } => self.perform_send(id, effect),
                Effect::Disk(op) => self.perform_disk_op(id, &op, &effect, bytes),
                Effect::Report(_) => {
                    self.observe(id, &Fact::Effect(&effect, &[]));
                    true
                }
                Effect::Halt(reason) => {
                    self.observe(id, &Fact::Effect(&effect, &[]));
                    self.halt(id, reason);
                    false
                }
            };
            if !alive || self.violation.is_some() {
                return;
            }
        }
    }

    /// Sends a message or a response; false if no further effect of the step is performed, since
    /// the process ends or a property is violated.
    #[inline(always)]
    fn perform_send(&mut self, id: NodeId, effect: Effect<N>) -> bool {
        let ordinal = self.next_effect_ordinal(id);
        self.observe_inline(id, &Fact::Effect(&effect, &[]));
        if self.violation.is_some() {
            return false;
        }
        let crash = self.crash_after(id, ordinal, &effect);
        match effect {
            Effect::Send { to, message } => self.send(id, to, message),
            Effect::Reply { id: request, response } => self.send_response(id, request, response),
            Effect::Disk(_) | Effect::Report(_) | Effect::Halt(_) => {}
        }
        self.crash_if_due(id, crash)
    }

    /// Issues an operation to the disk; false if no further effect of the step is performed, since
    /// the process ends or a property is violated.
    #[inline(always)]
    fn perform_disk_op(
        &mut self,
        id: NodeId,
        op: &DiskOp,
        effect: &Effect<N>,
        buffer: &[u8],
    ) -> bool {
        let ordinal = self.next_effect_ordinal(id);
        let bytes = if let DiskOp::Append { bytes, .. } = op { bytes.of(buffer) } else { &[] };
        let write_fault = if self.fault_classes.writes {
            self.write_fault(id, ordinal, op, effect)
        } else {
            None
        };
        self.observe_inline(id, &Fact::Effect(effect, bytes));
        let barrier = if self.fault_classes.barriers {
            self.barrier_fault(id, ordinal, op, effect)
        } else {
            None
        };
        self.issue_disk_op(id, op, bytes, write_fault, barrier);
        if self.violation.is_some() {
            return false;
        }
        let crash = self.crash_after(id, ordinal, effect);
        self.crash_if_due(id, crash)
    }

    #[inline]
    fn next_effect_ordinal(&mut self, id: NodeId) -> u32 {
        let host = &mut self.hosts[usize::from(id.0)];
        host.effects_performed += 1;
        host.effects_performed - 1
    }

    #[inline(always)]
    fn crash_after(&mut self, id: NodeId, ordinal: u32, effect: &Effect<N>) -> Option<Crash> {
        if !self.fault_classes.crashes {
            return None;
        }
        self.chooser.crash(&self.hosts[usize::from(id.0)].effect_point(id, ordinal, effect))
    }

    #[inline]
    fn crash_if_due(&mut self, id: NodeId, crash: Option<Crash>) -> bool {
        let Some(crash) = crash else { return true };
        self.crash(id, &crash);
        false
    }

    #[inline]
    fn write_fault(
        &mut self,
        id: NodeId,
        ordinal: u32,
        op: &DiskOp,
        effect: &Effect<N>,
    ) -> Option<WriteFault> {
        if matches!(op, DiskOp::Sync { .. } | DiskOp::SyncDir { .. }) {
            return None; // D8 is the failure of a write. A barrier fails by D7.
        }
        let host = &self.hosts[usize::from(id.0)];
        let still_failing = host.writes_fail_until_us > self.now_us;
        let new_fault = self.chooser.write(&host.effect_point(id, ordinal, effect));
        if new_fault.is_none() && !still_failing {
            None
        } else {
            self.begin_write_fault(id, new_fault)
        }
    }

    #[cold]
    fn begin_write_fault(
        &mut self,
        id: NodeId,
        new_fault: Option<WriteFault>,
    ) -> Option<WriteFault> {
        let host = &mut self.hosts[usize::from(id.0)];
        if host.disk.first_failure().is_some() {
            return None;
        }
        let error = DiskError::NoSpace;
        let fault = new_fault.unwrap_or(WriteFault { error, keep_permille: 0, lasts_us: 0 });
        host.writes_fail_until_us = host.writes_fail_until_us.max(self.now_us + fault.lasts_us);
        self.tally.hit(Rule::WriteFailed);
        self.observe(id, &Fact::WriteFault(fault));
        Some(fault)
    }

    #[inline]
    fn barrier_fault(
        &mut self,
        id: NodeId,
        ordinal: u32,
        op: &DiskOp,
        effect: &Effect<N>,
    ) -> Option<BarrierFault> {
        let (DiskOp::Sync { .. } | DiskOp::SyncDir { .. }) = op else { return None };
        let host = &self.hosts[usize::from(id.0)];
        let fault = self.chooser.barrier(&host.effect_point(id, ordinal, effect))?;
        self.observe(id, &Fact::BarrierFault(fault));
        Some(fault)
    }

    /// Issues an operation to the disk and schedules the completion of a barrier: on time, failed
    /// (D7), reported without syncing (D11), or slower than any message (D9).
    #[inline]
    fn issue_disk_op(
        &mut self,
        id: NodeId,
        op: &DiskOp,
        bytes: &[u8],
        write_fault: Option<WriteFault>,
        barrier: Option<BarrierFault>,
    ) {
        let host = &mut self.hosts[usize::from(id.0)];
        match write_fault {
            None => host.disk.issue(op, bytes),
            Some(fault) => {
                let keep = bytes.len() * usize::from(fault.keep_permille) / 1000;
                host.disk.issue_failing(op, bytes, keep, fault.error);
            }
        }
        match op {
            DiskOp::Append { about, .. } => host.last_appended = Some(*about),
            DiskOp::Sync { op, .. } | DiskOp::SyncDir { op } => {
                let incarnation = host.incarnation;
                let ordinal = host.barriers;
                host.barriers += 1;
                let mut duration_us = self.plan.timing.barrier_us(id, incarnation, ordinal);
                let mut outcome = BarrierOutcome::Done;
                match barrier {
                    None => {}
                    Some(BarrierFault::Fail(error)) => outcome = BarrierOutcome::Failed(error),
                    Some(BarrierFault::Slow { by_us }) => {
                        duration_us += by_us;
                        outcome = BarrierOutcome::Slow;
                    }
                    Some(BarrierFault::Lie) => outcome = BarrierOutcome::Lied,
                }
                let op = u32::try_from(op.0).expect("an incarnation has fewer than 2^32 barriers");
                self.queue.push(
                    self.now_us + duration_us,
                    Event::Barrier { node: id.0, incarnation, op, outcome },
                );
            }
            DiskOp::Truncate { .. } | DiskOp::Rename { .. } | DiskOp::Remove { .. } => {}
        }
    }
}
