use stormglass::{HaltReason, Node, NodeId};

use super::{BarrierFate, Event, Phase, World};
use crate::chooser::{Asks, Chooser};
use crate::disk::Survival;
use crate::fault::{Crash, CrashKind, Weather};
use crate::oracle::{Fact, Judge};
use crate::tally::Rule;
use crate::workload::{ClientEvent, Workload};

impl<N, W, J, C> World<N, W, J, C>
where
    N: Node,
    W: Workload<N>,
    J: Judge<N>,
    C: Chooser,
{
    /// The node has stopped itself. No power is lost: after a failed sync it will read back what never reached the
    /// disk (D7).
    pub(super) fn halt(&mut self, id: NodeId, reason: HaltReason) {
        let host = &mut self.hosts[usize::from(id.0)];
        host.node = None;
        let life = host.life;
        let keep = host.disk.unsettled();
        host.disk.kill(keep);
        self.see(id, &Fact::Halted(reason));
        let at_us = self.now_us + self.plan.timing.boot_us(id, life);
        self.queue.push(at_us, Event::Boot { node: id.0 });
    }

    /// The process ends (P1), or the machine loses power (P2), be it before its boot was complete (P5), with a barrier
    /// under way (D12), and with damage to what it leaves (D10).
    pub(super) fn crash(&mut self, id: NodeId, crash: &Crash) {
        let host = &mut self.hosts[usize::from(id.0)];
        if host.node.is_none() && host.life > 0 && matches!(crash.how, CrashKind::Kill { .. }) {
            return;
        }
        if host.node.is_some() && !host.booted && host.life > 1 {
            self.tally.bite(Rule::P5);
        }
        host.node = None;
        host.paused_until_us = 0;
        if host.disk.barrier_pending() {
            self.tally.bite(Rule::D12);
        }
        match &crash.how {
            CrashKind::Kill { keep_permille } => {
                let keep = host.disk.unsettled() * usize::from(*keep_permille) / 1000;
                let report = host.disk.kill(keep);
                self.tally.bite(Rule::P1);
                self.see(id, &Fact::Killed(&report));
            }
            CrashKind::PowerCut(survival) => self.cut_power(id, survival),
        }
        if let Some(damage) = &crash.damage
            && let Some(entry) = self.hosts[usize::from(id.0)].disk.damage(damage)
        {
            self.tally.bite(Rule::D10);
            self.see(id, &Fact::Damaged(&entry));
        }
        if let Some(down_us) = crash.down_us {
            self.queue.push(self.now_us + down_us, Event::Boot { node: id.0 });
        }
    }

    fn cut_power(&mut self, id: NodeId, survival: &Survival) {
        let report = self.hosts[usize::from(id.0)].disk.power_cut(survival);
        self.tally.bite(Rule::P2);
        for (rule, times) in report.bites() {
            self.tally.rules[rule as usize] += times;
        }
        self.see(id, &Fact::PowerCut(&report));
    }

    pub(super) fn weather_begins(&mut self, index: u32) {
        if self.phase != Phase::Storm {
            return;
        }
        let (_, weather) = self.weather[index as usize].clone();
        self.see(NodeId(0), &Fact::Weather(&weather));
        match weather {
            Weather::Cut { from, to, for_us } => {
                self.network.cut(&from, &to, |cuts| cuts + 1);
                self.queue.push(self.now_us + for_us, Event::WeatherEnds { index });
            }
            Weather::Clog { from, to, for_us, swizzle } => {
                self.network.clog(from, to, self.now_us + for_us, swizzle);
            }
            Weather::Pause { node, for_us } => {
                let host = &mut self.hosts[usize::from(node.0)];
                if host.node.is_some() {
                    self.tally.bite(Rule::P4);
                    host.paused_until_us = host.paused_until_us.max(self.now_us + for_us);
                }
            }
            Weather::Jump { node, by_us } => {
                let host = &mut self.hosts[usize::from(node.0)];
                if host.node.is_some() {
                    self.tally.bite(Rule::C3);
                    host.clock.jump(by_us);
                    self.arm(node);
                }
            }
            Weather::Crash { node, crash } => {
                if node == NodeId(0) && self.is_blackout(index) {
                    self.tally.bite(Rule::P3);
                }
                self.crash(node, &crash);
            }
        }
    }

    /// P3: whether every node loses power at the moment of this weather.
    fn is_blackout(&self, index: u32) -> bool {
        let (now, _) = &self.weather[index as usize];
        let dark = |id: NodeId| {
            let mut here = self.weather.iter().filter(|(at, _)| at == now);
            here.any(|(_, weather)| matches!(weather, Weather::Crash { node, .. } if *node == id))
        };
        (0..self.plan.nodes).map(NodeId).all(dark)
    }

    pub(super) fn weather_ends(&mut self, index: u32) {
        if self.phase == Phase::Storm
            && let Weather::Cut { from, to, .. } = &self.weather[index as usize].1
        {
            self.network.cut(from, to, |cuts| cuts - 1);
        }
    }

    /// The sky clears: everything heals, boots and is re-timed, but for those who are dead for good (P6).
    pub(super) fn clear(&mut self) {
        (self.phase, self.asks) = (Phase::Clear, Asks::NOTHING);
        self.network.heal();
        for host in &mut self.hosts {
            (host.paused_until_us, host.broken_until_us) = (0, 0);
        }
        let dead = std::mem::take(&mut self.plan.dead);
        for &id in &dead {
            self.tally.bite(Rule::P6);
            let survival = CrashKind::PowerCut(Survival::None);
            self.crash(id, &Crash { how: survival, down_us: None, damage: None });
        }
        self.plan.dead = dead;
        self.end_latched_lives();
        self.retime();
        for id in (0..self.plan.nodes).map(NodeId) {
            let host = &self.hosts[usize::from(id.0)];
            if host.node.is_none() && !host.refused && !self.plan.dead.contains(&id) {
                let at_us = self.now_us + self.plan.timing.boot_us(id, host.life);
                self.queue.push(at_us, Event::Boot { node: id.0 });
            }
        }
        let dead = self.plan.dead.clone();
        self.see(NodeId(0), &Fact::Cleared { dead: &dead });
        self.clients(ClientEvent::Cleared);
    }

    /// A life whose disk has failed is over, even if no barrier has told it yet (D8).
    fn end_latched_lives(&mut self) {
        for id in (0..self.plan.nodes).map(NodeId) {
            let host = &self.hosts[usize::from(id.0)];
            if host.node.is_some() && host.disk.latched().is_some() {
                self.crash(
                    id,
                    &Crash { how: CrashKind::Kill { keep_permille: 1000 }, down_us: None, damage: None },
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
            host.armed_us = u64::MAX;
        }
        self.queue.retime(|at_us, event| match event {
            Event::Deliver { slot } => {
                let (link, ordinal, clients) = network.place(slot).unwrap_or_default();
                Some(at_us.clamp(now_us, now_us + timing.delay_us(link, ordinal, clients, false)))
            }
            Event::Barrier { node, life, op, fate } => {
                let fair = matches!(fate, BarrierFate::Done | BarrierFate::Slow);
                let length_us = timing.barrier_us(NodeId(node), life, op);
                Some(if fair {
                    at_us.clamp(now_us, now_us + length_us)
                } else {
                    at_us.min(now_us + length_us)
                })
            }
            Event::Timer { .. } => Some(at_us.max(now_us)),
            Event::Wake { .. } | Event::Boot { .. } | Event::Weather { .. } => None,
            Event::WeatherEnds { .. } | Event::Clear => None,
        });
        for id in (0..self.plan.nodes).map(NodeId) {
            self.arm(id);
        }
    }
}
