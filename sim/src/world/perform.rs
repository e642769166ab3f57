use stormglass::{DiskError, DiskOp, Effect, Node, NodeId, Outbox};

use super::{BarrierFate, Event, Phase, World};
use crate::chooser::{Chooser, DeedPoint};
use crate::fault::{BarrierFault, WriteFault};
use crate::oracle::{Fact, Judge};
use crate::tally::Rule;
use crate::workload::Workload;

impl<N, W, J, C> World<N, W, J, C>
where
    N: Node,
    W: Workload<N>,
    J: Judge<N>,
    C: Chooser,
{
    /// Performs what a step left in the outbox, in order. A crash may fall after any of them; what comes behind it
    /// never happens.
    pub(super) fn perform(&mut self, id: NodeId, outbox: &mut Outbox<N>) {
        let (effects, bytes) = outbox.drain();
        for effect in effects {
            let alive = match &effect {
                Effect::Report(_) => {
                    self.see(id, &Fact::Effect(&effect, &[]));
                    true
                }
                Effect::Halt(reason) => {
                    self.see(id, &Fact::Effect(&effect, &[]));
                    self.halt(id, *reason);
                    false
                }
                Effect::Send { .. } | Effect::Disk(_) | Effect::Reply { .. } => {
                    self.perform_deed(id, effect, bytes)
                }
            };
            if !alive || self.broken.is_some() {
                return;
            }
        }
    }

    /// Performs an effect that counts as a deed; false if the process ends right after it.
    fn perform_deed(&mut self, id: NodeId, effect: Effect<N>, buffer: &[u8]) -> bool {
        let stormy = self.phase == Phase::Storm;
        let host = &mut self.hosts[usize::from(id.0)];
        let (life, ordinal, after) = (host.life, host.deeds, host.last_append);
        host.deeds += 1;
        let bytes =
            if let Effect::Disk(DiskOp::Append { bytes, .. }) = &effect { bytes.of(buffer) } else { &[] };
        let in_flight = host.disk.in_flight();
        let point = DeedPoint { node: id, life, ordinal, in_flight, effect: &effect, after };
        if let Effect::Disk(op) = &effect {
            let broken = if stormy { self.write_fault(&point, op) } else { None };
            self.see(id, &Fact::Effect(&effect, bytes));
            let barrier = if stormy { self.barrier_fault(&point, op) } else { None };
            self.touch(id, op, bytes, broken, barrier);
        } else {
            self.see(id, &Fact::Effect(&effect, bytes));
        }
        if self.broken.is_some() {
            return false;
        }
        let in_flight = self.hosts[usize::from(id.0)].disk.in_flight();
        let point = DeedPoint { node: id, life, ordinal, in_flight, effect: &effect, after };
        let crash = if stormy { self.chooser.crash(&point) } else { None };
        match effect {
            Effect::Send { to, message } => self.send(id, to, message),
            Effect::Reply { id: request, response } => self.answer(id, request, response),
            Effect::Disk(_) | Effect::Report(_) | Effect::Halt(_) => {}
        }
        let Some(crash) = crash else { return true };
        self.crash(id, &crash);
        false
    }

    fn write_fault(&mut self, point: &DeedPoint<'_, N>, op: &DiskOp) -> Option<WriteFault> {
        let DiskOp::Append { .. } = op else { return None };
        let host = &self.hosts[usize::from(point.node.0)];
        let still = host.broken_until_us > self.now_us;
        let fresh = self.chooser.write(point);
        if host.disk.latched().is_some() {
            return None;
        }
        let error = DiskError::NoSpace;
        let fault = fresh.or_else(|| still.then_some(WriteFault { error, keep_permille: 0, lasts_us: 0 }))?;
        let host = &mut self.hosts[usize::from(point.node.0)];
        host.broken_until_us = host.broken_until_us.max(self.now_us + fault.lasts_us);
        self.tally.bite(Rule::D8);
        self.see(point.node, &Fact::WriteFault(fault));
        Some(fault)
    }

    fn barrier_fault(&mut self, point: &DeedPoint<'_, N>, op: &DiskOp) -> Option<BarrierFault> {
        let (DiskOp::Sync { .. } | DiskOp::SyncDir { .. }) = op else { return None };
        let fault = self.chooser.barrier(point)?;
        self.see(point.node, &Fact::BarrierFault(fault));
        Some(fault)
    }

    /// Hands an operation to the disk, and lets a barrier complete in time.
    fn touch(
        &mut self,
        id: NodeId,
        op: &DiskOp,
        bytes: &[u8],
        broken: Option<WriteFault>,
        barrier: Option<BarrierFault>,
    ) {
        let host = &mut self.hosts[usize::from(id.0)];
        match broken {
            None => host.disk.issue(op, bytes),
            Some(fault) => {
                let keep = bytes.len() * usize::from(fault.keep_permille) / 1000;
                host.disk.issue_failing(op, bytes, keep, fault.error);
            }
        }
        match op {
            DiskOp::Append { about, .. } => host.last_append = Some(*about),
            DiskOp::Sync { op, .. } | DiskOp::SyncDir { op } => {
                let (life, ordinal) = (host.life, host.barriers);
                host.barriers += 1;
                let mut length_us = self.plan.timing.barrier_us(id, life, ordinal);
                let mut fate = BarrierFate::Done;
                match barrier {
                    None => {}
                    Some(BarrierFault::Fail(error)) => fate = BarrierFate::Failed(error),
                    Some(BarrierFault::Slow { by_us }) => {
                        (length_us, fate) = (length_us + by_us, BarrierFate::Slow)
                    }
                    Some(BarrierFault::Lie) => fate = BarrierFate::Lied,
                }
                let op = u32::try_from(op.0).expect("a life has fewer than 2^32 barriers");
                self.queue.push(self.now_us + length_us, Event::Barrier { node: id.0, life, op, fate });
            }
            DiskOp::Truncate { .. } | DiskOp::Rename { .. } | DiskOp::Remove { .. } => {}
        }
    }
}
