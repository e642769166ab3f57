//! From a key that mixes all delays to base timing: an entry for each deviation that matters.

use super::{Shrinker, ddmin};
use crate::fault::{BarrierFault, Endpoint, Fault, MessageFault};
use crate::protocol::Scene;
use crate::schedule::Schedule;

/// Least delays and barriers that are worth trying, in microseconds: the one that everything takes with base timing.
const BASE_TIMINGS: [(u64, u64); 6] =
    [(500, 100), (500, 2_000), (5_000, 100), (500, 20_000), (20_000, 100), (5_000, 2_000)];

impl<S: Scene> Shrinker<'_, '_, S> {
    /// Base timing at one pace or another; else base timing with a few deviations.
    pub(super) fn use_base_timing(&mut self) -> bool {
        if self.best.plan.timing.key.is_none() {
            return self.drop_tail();
        }
        let candidates: Vec<_> =
            BASE_TIMINGS.into_iter().map(|timing| self.with_base_timing(timing)).collect();
        self.adopt_first_better(candidates)
            || self.use_base_timing_with_delays()
            || self.drop_tail()
    }

    fn with_base_timing(&self, (latency_us, sync_us): (u64, u64)) -> Schedule<S::Request> {
        let mut candidate = self.best.clone();
        let timing = &mut candidate.plan.timing;
        timing.key = None;
        timing.tail_us = 0;
        let default_timing = crate::plan::Timing::default();
        timing.latency_us = (latency_us, default_timing.latency_us.1.max(latency_us));
        timing.sync_us = (sync_us, default_timing.sync_us.1.max(sync_us));
        candidate
    }

    /// No tail; and with base timing, where only the least counts, the usual greatest.
    fn drop_tail(&mut self) -> bool {
        let (mut candidate, default_timing) = (self.best.clone(), crate::plan::Timing::default());
        let timing = &mut candidate.plan.timing;
        timing.tail_us = 0;
        if timing.key.is_none() {
            timing.latency_us.1 = default_timing.latency_us.1.max(timing.latency_us.0);
            timing.sync_us.1 = default_timing.sync_us.1.max(timing.sync_us.0);
        }
        candidate.plan != self.best.plan && self.better(&candidate)
    }

    /// Says of each message and barrier by how much it deviates from base timing, and leaves out what does not matter.
    /// Worth it if few remain; the faults that are there stay.
    fn use_base_timing_with_delays(&mut self) -> bool {
        let (kept, violation) = (self.best.clone(), self.violation.clone());
        let mut entries = self.message_delays();
        entries.extend(self.slow_barriers());
        if entries.len() > 400 {
            return false;
        }
        let base = self.with_base_timing(BASE_TIMINGS[0]);
        let with = |entries: &[Fault]| {
            let faults = [&kept.faults[..], entries].concat();
            Schedule { faults, ..base.clone() }
        };
        if !self.better(&with(&entries)) {
            return false;
        }
        ddmin::ddmin(&entries, |some| self.better(&with(some)));
        let keep = self.best.faults.len() <= kept.faults.len().max(1) + 2;
        if keep {
            self.pool.extend(entries);
        } else {
            (self.best, self.violation) = (kept, violation);
        }
        keep
    }

    fn message_delays(&mut self) -> Vec<Fault> {
        let (coordinates, plan) = (self.coordinates(), self.best.plan.clone());
        let default_timing = self.with_base_timing(BASE_TIMINGS[0]).plan.timing;
        let mut ordinals = std::collections::BTreeMap::new();
        let mut message_delays = Vec::new();
        // An answer to nobody, which a node may have made up, is on no link.
        let exists = |end: Endpoint| match end {
            Endpoint::Node(node) => node.0 < plan.nodes,
            Endpoint::Client(client) => (1..=plan.clients).contains(&client),
        };
        for (_, at) in
            coordinates.messages.iter().filter(|(_, at)| exists(at.from) && exists(at.to))
        {
            let ordinal = ordinals.entry((at.from, at.to)).or_insert(0);
            let (link, clients) = plan.link(at.from, at.to);
            let by_us = plan
                .timing
                .delay_us(link, *ordinal, clients, true)
                .saturating_sub(default_timing.delay_us(link, *ordinal, clients, true));
            *ordinal += 1;
            if by_us > 0 {
                message_delays.push(Fault::Message(*at, MessageFault::Delay { by_us }));
            }
        }
        message_delays
    }

    fn slow_barriers(&mut self) -> Vec<Fault> {
        let (coordinates, timing) = (self.coordinates(), self.best.plan.timing);
        let default_timing = self.with_base_timing(BASE_TIMINGS[0]).plan.timing;
        let mut ordinals = std::collections::BTreeMap::new();
        let mut slow = Vec::new();
        for at in &coordinates.barriers {
            let ordinal = ordinals.entry((at.node, at.incarnation)).or_insert(0);
            let by_us = timing
                .barrier_us(at.node, at.incarnation, *ordinal)
                .saturating_sub(default_timing.barrier_us(at.node, at.incarnation, *ordinal));
            *ordinal += 1;
            if by_us > 0 {
                slow.push(Fault::Barrier(*at, BarrierFault::Slow { by_us }));
            }
        }
        slow
    }
}
