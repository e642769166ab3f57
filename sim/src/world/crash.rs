//! Process kills, power cuts and restarts (P1 to P6).

use stormglass_node::{HaltReason, Node, NodeId};

use super::{BarrierOutcome, Event, Phase, World};
use crate::chooser::{Chooser, FaultClasses};
use crate::disk::Survival;
use crate::fault::{Crash, CrashKind, TimedFault};
use crate::property::{Checker, Fact};
use crate::tally::Rule;
use crate::workload::{ClientEvent, Workload};

impl<N, W, K, C> World<N, W, K, C>
where
    N: Node,
    W: Workload<N>,
    K: Checker<N>,
    C: Chooser,
{
    /// The node halts itself. No power is lost, so the page cache survives: after a failed sync the
    /// next boot reads back bytes that never reached the disk (D7).
    pub(super) fn halt(&mut self, id: NodeId, reason: HaltReason) {
        let host = &mut self.hosts[usize::from(id.0)];
        host.node = None;
        let incarnation = host.incarnation;
        let keep = host.disk.in_driver_queue();
        host.disk.kill(keep);
        self.observe(id, &Fact::Halted(reason));
        let at_us = self.now_us + self.plan.timing.boot_us(id, incarnation);
        self.queue.push(at_us, Event::Boot { node: id.0 });
    }

    /// Kills the process (P1) or cuts the power (P2), possibly before its boot is complete (P5) or
    /// with a barrier pending (D12), and damages data at rest (D10).
    pub(super) fn crash(&mut self, id: NodeId, crash: &Crash) {
        let host = &mut self.hosts[usize::from(id.0)];
        // A kill of a process that has ended changes nothing; a power cut still affects its disk.
        if host.node.is_none()
            && host.incarnation > 0
            && matches!(crash.how, CrashKind::Kill { .. })
        {
            return;
        }
        if host.node.is_some() && !host.boot_complete && host.incarnation > 1 {
            self.tally.hit(Rule::CrashDuringBoot);
        }
        host.node = None;
        host.paused_until_us = 0;
        if host.disk.barrier_pending() {
            self.tally.hit(Rule::CrashDuringBarrier);
        }
        match &crash.how {
            CrashKind::Kill { keep_permille } => {
                let keep = host.disk.in_driver_queue() * usize::from(*keep_permille) / 1000;
                let report = host.disk.kill(keep);
                self.tally.hit(Rule::ProcessKilled);
                self.observe(id, &Fact::Killed(&report));
            }
            CrashKind::PowerCut(survival) => self.cut_power(id, survival),
        }
        if let Some(damage) = &crash.damage
            && let Some(entry) = self.hosts[usize::from(id.0)].disk.damage(damage)
        {
            self.tally.hit(Rule::DamageAtRest);
            self.observe(id, &Fact::Damaged(&entry));
        }
        if let Some(down_us) = crash.down_us {
            self.queue.push(self.now_us + down_us, Event::Boot { node: id.0 });
        }
    }

    fn cut_power(&mut self, id: NodeId, survival: &Survival) {
        let report = self.hosts[usize::from(id.0)].disk.power_cut(survival);
        self.tally.hit(Rule::PowerCut);
        for (rule, times) in report.hits() {
            self.tally.rules[rule as usize] += times;
        }
        self.observe(id, &Fact::PowerCut(&report));
    }

    pub(super) fn begin_timed_fault(&mut self, index: u32) {
        if self.phase != Phase::Faults {
            return;
        }
        let (_, timed_fault) = self.timed_faults[index as usize].clone();
        self.observe(NodeId(0), &Fact::TimedFault(&timed_fault));
        match timed_fault {
            TimedFault::Cut { from, to, for_us } => {
                // Partitions overlap: a link is cut while at least one of them cuts it.
                self.network.update_partitions(&from, &to, |partitions| partitions + 1);
                self.queue.push(self.now_us + for_us, Event::TimedFaultEnds { index });
            }
            TimedFault::Clog { from, to, for_us, swizzle } => {
                self.network.clog(from, to, self.now_us + for_us, swizzle);
            }
            TimedFault::Pause { node, for_us } => {
                let host = &mut self.hosts[usize::from(node.0)];
                if host.node.is_some() {
                    self.tally.hit(Rule::NodePaused);
                    host.paused_until_us = host.paused_until_us.max(self.now_us + for_us);
                }
            }
            TimedFault::ClockJump { node, by_us } => {
                let host = &mut self.hosts[usize::from(node.0)];
                if host.node.is_some() {
                    self.tally.hit(Rule::ClockJump);
                    host.clock.jump(by_us);
                    self.schedule_wake(node);
                }
            }
            TimedFault::Crash { node, crash } => {
                if node == NodeId(0) && self.is_cluster_power_cut(index) {
                    self.tally.hit(Rule::ClusterPowerCut);
                }
                self.crash(node, &crash);
            }
        }
    }

    /// P3: whether every node has a timed crash at the time of this one.
    fn is_cluster_power_cut(&self, index: u32) -> bool {
        let (now, _) = &self.timed_faults[index as usize];
        (0..self.plan.nodes).map(NodeId).all(|id| {
            let mut simultaneous = self.timed_faults.iter().filter(|(at, _)| at == now);
            simultaneous
                .any(|(_, fault)| matches!(fault, TimedFault::Crash { node, .. } if *node == id))
        })
    }

    pub(super) fn end_timed_fault(&mut self, index: u32) {
        if self.phase == Phase::Faults
            && let TimedFault::Cut { from, to, .. } = &self.timed_faults[index as usize].1
        {
            self.network.update_partitions(from, to, |partitions| partitions - 1);
        }
    }

    /// Begins the phase of recovery: links heal, nodes boot and pending events are re-timed. Nodes
    /// that are permanently down lose power and stay down (P6).
    pub(super) fn heal(&mut self) {
        self.phase = Phase::Recovery;
        self.fault_classes = FaultClasses::NOTHING;
        self.network.heal();
        for host in &mut self.hosts {
            host.paused_until_us = 0;
            host.writes_fail_until_us = 0;
        }
        let permanently_down = std::mem::take(&mut self.plan.permanently_down);
        for &id in &permanently_down {
            self.tally.hit(Rule::NeverRestarts);
            let survival = CrashKind::PowerCut(Survival::None);
            self.crash(id, &Crash { how: survival, down_us: None, damage: None });
        }
        self.plan.permanently_down = permanently_down;
        self.kill_nodes_with_failed_disk();
        self.retime();
        for id in (0..self.plan.nodes).map(NodeId) {
            let host = &self.hosts[usize::from(id.0)];
            if host.node.is_none()
                && !host.boot_refused
                && !self.plan.permanently_down.contains(&id)
            {
                let at_us = self.now_us + self.plan.timing.boot_us(id, host.incarnation);
                self.queue.push(at_us, Event::Boot { node: id.0 });
            }
        }
        let permanently_down = self.plan.permanently_down.clone();
        self.observe(NodeId(0), &Fact::Healed { permanently_down: &permanently_down });
        self.notify_clients(ClientEvent::Healed);
    }

    /// Kills each node whose disk has failed: without a later barrier it would never receive the
    /// error (D8).
    fn kill_nodes_with_failed_disk(&mut self) {
        for id in (0..self.plan.nodes).map(NodeId) {
            let host = &self.hosts[usize::from(id.0)];
            if host.node.is_some() && host.disk.first_failure().is_some() {
                self.crash(
                    id,
                    &Crash {
                        how: CrashKind::Kill { keep_permille: 1000 },
                        down_us: None,
                        damage: None,
                    },
                );
            }
        }
    }

    /// Re-times every pending event to the bounds of a run without faults, counted from now. Wakes
    /// are scheduled anew; boots are scheduled by [`World::heal`].
    fn retime(&mut self) {
        let now_us = self.now_us;
        let timing = self.plan.timing;
        let network = &self.network;
        let hosts = &mut self.hosts;
        for host in hosts.iter_mut() {
            host.wake_at_us = u64::MAX;
        }
        self.queue.retime(|at_us, event| match event {
            Event::Deliver { slot } => {
                let (link, ordinal, is_client_link) = network.timing_key(slot).unwrap_or_default();
                let delay_us = timing.delay_us(link, ordinal, is_client_link, false);
                Some(at_us.clamp(now_us, now_us + delay_us))
            }
            Event::Barrier { node, incarnation, op, outcome } => {
                let succeeds = matches!(outcome, BarrierOutcome::Done | BarrierOutcome::Slow);
                let duration_us = timing.barrier_us(NodeId(node), incarnation, op);
                Some(if succeeds {
                    at_us.clamp(now_us, now_us + duration_us)
                } else {
                    at_us.min(now_us + duration_us)
                })
            }
            Event::Timer { .. } => Some(at_us.max(now_us)),
            Event::Wake { .. } | Event::Boot { .. } | Event::TimedFault { .. } => None,
            Event::TimedFaultEnds { .. } | Event::Heal => None,
        });
        for id in (0..self.plan.nodes).map(NodeId) {
            self.schedule_wake(id);
        }
    }
}
