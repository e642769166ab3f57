use stormglass::{HaltReason, Node, NodeId};

use super::{BarrierOutcome, Event, Phase, World};
use crate::chooser::{Chooser, FaultClasses};
use crate::disk::Survival;
use crate::fault::{Crash, CrashKind, TimedFault};
use crate::property::{Checker, Fact};
use crate::tally::Rule;
use crate::workload::{ClientEvent, Workload};

impl<N, W, J, C> World<N, W, J, C>
where
    N: Node,
    W: Workload<N>,
    J: Checker<N>,
    C: Chooser,
{
    /// The node has stopped itself. No power is lost: after a failed sync it will read back what never reached the
    /// disk (D7).
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

    /// The process ends (P1), or the machine loses power (P2), be it before its boot was complete (P5), with a barrier
    /// under way (D12), and with damage to what it leaves (D10).
    pub(super) fn crash(&mut self, id: NodeId, crash: &Crash) {
        let host = &mut self.hosts[usize::from(id.0)];
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
        if self.phase != Phase::Simulation {
            return;
        }
        let (_, timed_faults) = self.timed_faults[index as usize].clone();
        self.observe(NodeId(0), &Fact::TimedFault(&timed_faults));
        match timed_faults {
            TimedFault::Cut { from, to, for_us } => {
                self.network.cut(&from, &to, |cuts| cuts + 1);
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

    /// P3: whether every node loses power at the moment of this weather.
    fn is_cluster_power_cut(&self, index: u32) -> bool {
        let (now, _) = &self.timed_faults[index as usize];
        let loses_power = |id: NodeId| {
            let mut simultaneous = self.timed_faults.iter().filter(|(at, _)| at == now);
            simultaneous.any(
                |(_, timed_faults)| matches!(timed_faults, TimedFault::Crash { node, .. } if *node == id),
            )
        };
        (0..self.plan.nodes).map(NodeId).all(loses_power)
    }

    pub(super) fn end_timed_fault(&mut self, index: u32) {
        if self.phase == Phase::Simulation
            && let TimedFault::Cut { from, to, .. } = &self.timed_faults[index as usize].1
        {
            self.network.cut(from, to, |cuts| cuts - 1);
        }
    }

    /// The sky clears: everything heals, boots and is re-timed, but for those who are dead for good (P6).
    pub(super) fn clear(&mut self) {
        (self.phase, self.fault_classes) = (Phase::Clear, FaultClasses::NOTHING);
        self.network.heal();
        for host in &mut self.hosts {
            (host.paused_until_us, host.writes_fail_until_us) = (0, 0);
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
        self.clients(ClientEvent::Healed);
    }

    /// A life whose disk has failed is over, even if no barrier has told it yet (D8).
    fn kill_nodes_with_failed_disk(&mut self) {
        for id in (0..self.plan.nodes).map(NodeId) {
            let host = &self.hosts[usize::from(id.0)];
            if host.node.is_some() && host.disk.latched().is_some() {
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

    /// What is in flight arrives within the bounds of fair weather, counted from now.
    fn retime(&mut self) {
        let (now_us, timing) = (self.now_us, self.plan.timing);
        let network = &self.network;
        let hosts = &mut self.hosts;
        for host in hosts.iter_mut() {
            host.wake_at_us = u64::MAX;
        }
        self.queue.retime(|at_us, event| match event {
            Event::Deliver { slot } => {
                let (link, ordinal, clients) = network.place(slot).unwrap_or_default();
                Some(at_us.clamp(now_us, now_us + timing.delay_us(link, ordinal, clients, false)))
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
            Event::TimedFaultEnds { .. } | Event::Clear => None,
        });
        for id in (0..self.plan.nodes).map(NodeId) {
            self.schedule_wake(id);
        }
    }
}
