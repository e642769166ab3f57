use stormglass::{DiskError, DiskOp, Effect, Node, NodeId, Outbox};

use super::{BarrierFate, Event, World};
use crate::chooser::Chooser;
use crate::fault::{BarrierFault, Crash, WriteFault};
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
            let alive = match effect {
                Effect::Send { .. } | Effect::Reply { .. } => self.perform_speech(id, effect),
                Effect::Disk(op) => self.perform_write(id, &op, &effect, bytes),
                Effect::Report(_) => {
                    self.see(id, &Fact::Effect(&effect, &[]));
                    true
                }
                Effect::Halt(reason) => {
                    self.see(id, &Fact::Effect(&effect, &[]));
                    self.halt(id, reason);
                    false
                }
            };
            if !alive || self.broken.is_some() {
                return;
            }
        }
    }

    /// A message or an answer; false if the process ends right after it.
    #[inline(always)]
    fn perform_speech(&mut self, id: NodeId, effect: Effect<N>) -> bool {
        let ordinal = self.count_deed(id);
        self.see_hot(id, &Fact::Effect(&effect, &[]));
        if self.broken.is_some() {
            return false;
        }
        let crash = self.crash_after(id, ordinal, &effect);
        match effect {
            Effect::Send { to, message } => self.send(id, to, message),
            Effect::Reply { id: request, response } => self.answer(id, request, response),
            Effect::Disk(_) | Effect::Report(_) | Effect::Halt(_) => {}
        }
        self.goes_on(id, crash)
    }

    /// An operation on the disk; false if the process ends right after it.
    #[inline(always)]
    fn perform_write(&mut self, id: NodeId, op: &DiskOp, effect: &Effect<N>, buffer: &[u8]) -> bool {
        let ordinal = self.count_deed(id);
        let bytes = if let DiskOp::Append { bytes, .. } = op { bytes.of(buffer) } else { &[] };
        let broken = if self.asks.writes { self.write_fault(id, ordinal, op, effect) } else { None };
        self.see_hot(id, &Fact::Effect(effect, bytes));
        let barrier = if self.asks.barriers { self.barrier_fault(id, ordinal, op, effect) } else { None };
        self.touch(id, op, bytes, broken, barrier);
        if self.broken.is_some() {
            return false;
        }
        let crash = self.crash_after(id, ordinal, effect);
        self.goes_on(id, crash)
    }

    #[inline]
    fn count_deed(&mut self, id: NodeId) -> u32 {
        let host = &mut self.hosts[usize::from(id.0)];
        host.deeds += 1;
        host.deeds - 1
    }

    #[inline(always)]
    fn crash_after(&mut self, id: NodeId, ordinal: u32, effect: &Effect<N>) -> Option<Crash> {
        if !self.asks.crashes {
            return None;
        }
        self.chooser.crash(&self.hosts[usize::from(id.0)].point(id, ordinal, effect))
    }

    #[inline]
    fn goes_on(&mut self, id: NodeId, crash: Option<Crash>) -> bool {
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
            return None; // Those fail as barriers do.
        }
        let host = &self.hosts[usize::from(id.0)];
        let still = host.broken_until_us > self.now_us;
        let fresh = self.chooser.write(&host.point(id, ordinal, effect));
        if fresh.is_none() && !still { None } else { self.begin_write_fault(id, fresh) }
    }

    #[cold]
    fn begin_write_fault(&mut self, id: NodeId, fresh: Option<WriteFault>) -> Option<WriteFault> {
        let host = &mut self.hosts[usize::from(id.0)];
        if host.disk.latched().is_some() {
            return None;
        }
        let error = DiskError::NoSpace;
        let fault = fresh.unwrap_or(WriteFault { error, keep_permille: 0, lasts_us: 0 });
        host.broken_until_us = host.broken_until_us.max(self.now_us + fault.lasts_us);
        self.tally.bite(Rule::D8);
        self.see(id, &Fact::WriteFault(fault));
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
        let fault = self.chooser.barrier(&host.point(id, ordinal, effect))?;
        self.see(id, &Fact::BarrierFault(fault));
        Some(fault)
    }

    /// Hands an operation to the disk, and lets a barrier complete in time, or fail (D7), lie (D11), or take far longer than
    /// messages do (D9).
    #[inline]
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
