//! From a key that mixes all delays to base timing: an entry for each deviation that matters.

use super::{Shrinker, ddmin};
use crate::fault::{BarrierFault, End, Fault, MessageFault};
use crate::protocol::Scene;
use crate::schedule::Schedule;

/// Least delays and barriers that are worth trying, in microseconds: the one that everything takes with base timing.
const PACES: [(u64, u64); 6] =
    [(500, 100), (500, 2_000), (5_000, 100), (500, 20_000), (20_000, 100), (5_000, 2_000)];

impl<S: Scene> Shrinker<'_, '_, S> {
    /// Base timing at one pace or another; else base timing with a few deviations.
    pub(super) fn plain_timing(&mut self) -> bool {
        if self.best.plan.timing.key.is_none() {
            return self.no_tail();
        }
        let candidates: Vec<_> = PACES.into_iter().map(|pace| self.paced(pace)).collect();
        self.first_better(candidates) || self.deviations() || self.no_tail()
    }

    fn paced(&self, (latency_us, sync_us): (u64, u64)) -> Schedule<S::Order> {
        let mut candidate = self.best.clone();
        let timing = &mut candidate.plan.timing;
        timing.key = None;
        timing.tail_us = 0;
        let usual = crate::plan::Timing::default();
        timing.latency_us = (latency_us, usual.latency_us.1.max(latency_us));
        timing.sync_us = (sync_us, usual.sync_us.1.max(sync_us));
        candidate
    }

    /// No tail; and with base timing, where only the least counts, the usual greatest.
    fn no_tail(&mut self) -> bool {
        let (mut candidate, usual) = (self.best.clone(), crate::plan::Timing::default());
        let timing = &mut candidate.plan.timing;
        timing.tail_us = 0;
        if timing.key.is_none() {
            timing.latency_us.1 = usual.latency_us.1.max(timing.latency_us.0);
            timing.sync_us.1 = usual.sync_us.1.max(timing.sync_us.0);
        }
        candidate.plan != self.best.plan && self.better(&candidate)
    }

    /// Says of each message and barrier by how much it deviates from base timing, and leaves out what does not matter.
    /// Worth it if few remain; the faults that are there stay.
    fn deviations(&mut self) -> bool {
        let (kept, broken) = (self.best.clone(), self.broken.clone());
        let mut entries = self.delays();
        entries.extend(self.slow_barriers());
        if entries.len() > 400 {
            return false;
        }
        let base = self.paced(PACES[0]);
        let with = |entries: &[Fault]| {
            let faults = [&kept.faults[..], entries].concat();
            Schedule { faults, ..base.clone() }
        };
        if !self.better(&with(&entries)) {
            return false;
        }
        ddmin::ddmin(&entries, |some| self.better(&with(some)));
        let worth = self.best.faults.len() <= kept.faults.len().max(1) + 2;
        if worth {
            self.pool.extend(entries);
        } else {
            (self.best, self.broken) = (kept, broken);
        }
        worth
    }

    fn delays(&mut self) -> Vec<Fault> {
        let (witness, plan) = (self.witness(), self.best.plan.clone());
        let usual = self.paced(PACES[0]).plan.timing;
        let mut ordinals = std::collections::BTreeMap::new();
        let mut delays = Vec::new();
        // An answer to nobody, which a node may have made up, is on no link.
        let is_there = |end: End| match end {
            End::Node(node) => node.0 < plan.nodes,
            End::Client(client) => (1..=plan.clients).contains(&client),
        };
        for (_, at) in witness.messages.iter().filter(|(_, at)| is_there(at.from) && is_there(at.to)) {
            let ordinal = ordinals.entry((at.from, at.to)).or_insert(0);
            let (link, clients) = plan.link(at.from, at.to);
            let by_us = plan
                .timing
                .delay_us(link, *ordinal, clients, true)
                .saturating_sub(usual.delay_us(link, *ordinal, clients, true));
            *ordinal += 1;
            if by_us > 0 {
                delays.push(Fault::Message(*at, MessageFault::Delay { by_us }));
            }
        }
        delays
    }

    fn slow_barriers(&mut self) -> Vec<Fault> {
        let (witness, timing) = (self.witness(), self.best.plan.timing);
        let usual = self.paced(PACES[0]).plan.timing;
        let mut ordinals = std::collections::BTreeMap::new();
        let mut slow = Vec::new();
        for at in &witness.barriers {
            let ordinal = ordinals.entry((at.node, at.life)).or_insert(0);
            let by_us = timing
                .barrier_us(at.node, at.life, *ordinal)
                .saturating_sub(usual.barrier_us(at.node, at.life, *ordinal));
            *ordinal += 1;
            if by_us > 0 {
                slow.push(Fault::Barrier(*at, BarrierFault::Slow { by_us }));
            }
        }
        slow
    }
}
