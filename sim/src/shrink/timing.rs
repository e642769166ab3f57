//! Replaces random timing (all delays drawn from a key) by base timing, and adds an entry for each
//! deviation that matters.

use super::{Shrinker, budget, ddmin};
use crate::fault::{BarrierFault, Endpoint, Fault, MessageFault};
use crate::plan::{Plan, Timing};
use crate::protocol::Protocol;
use crate::schedule::Schedule;

impl<P: Protocol> Shrinker<'_, '_, P> {
    /// Tries base timing with each of the times, then base timing with a few deviations.
    pub(super) fn use_base_timing(&mut self) -> bool {
        if self.best.plan.timing.key.is_none() {
            return self.drop_tail();
        }
        let candidates: Vec<_> =
            budget::BASE_TIMINGS.into_iter().map(|timing| self.with_base_timing(timing)).collect();
        self.adopt_first_better(candidates)
            || self.use_base_timing_with_delays()
            || self.drop_tail()
    }

    fn with_base_timing(&self, (latency_us, sync_us): (u64, u64)) -> Schedule<P::Request> {
        let mut candidate = self.best.clone();
        let timing = &mut candidate.plan.timing;
        timing.key = None;
        timing.tail_us = 0;
        let default_timing = Timing::default();
        timing.latency_us = (latency_us, default_timing.latency_us.1.max(latency_us));
        timing.sync_us = (sync_us, default_timing.sync_us.1.max(sync_us));
        candidate
    }

    /// Removes the tail of the delays. With base timing only the least of each range counts, so the
    /// greatest returns to its default as well.
    fn drop_tail(&mut self) -> bool {
        let mut candidate = self.best.clone();
        let default_timing = Timing::default();
        let timing = &mut candidate.plan.timing;
        timing.tail_us = 0;
        if timing.key.is_none() {
            timing.latency_us.1 = default_timing.latency_us.1.max(timing.latency_us.0);
            timing.sync_us.1 = default_timing.sync_us.1.max(timing.sync_us.0);
        }
        candidate.plan != self.best.plan && self.adopt_if_better(&candidate)
    }

    /// Adds an entry for each message and barrier that takes longer than with base timing, and
    /// removes those that do not matter. Keeps the result if few remain, and undoes it otherwise.
    /// The other faults stay.
    fn use_base_timing_with_delays(&mut self) -> bool {
        let kept = self.best.clone();
        let violation = self.violation.clone();
        let mut entries = self.message_delays();
        entries.extend(self.slow_barriers());
        if entries.len() > budget::DEVIATIONS_MAX {
            return false;
        }
        let base = self.with_base_timing(budget::BASE_TIMINGS[0]);
        if !self.adopt_if_better(&with_more_faults(&base, &entries)) {
            return false;
        }
        ddmin::ddmin(&entries, |some| self.adopt_if_better(&with_more_faults(&base, some)));
        let keep = self.best.faults.len() <= budget::faults_with_deviations_max(kept.faults.len());
        if keep {
            self.pool.extend(entries);
        } else {
            self.best = kept;
            self.violation = violation;
        }
        keep
    }

    fn message_delays(&mut self) -> Vec<Fault> {
        let coordinates = self.coordinates();
        let plan = self.best.plan.clone();
        let default_timing = self.with_base_timing(budget::BASE_TIMINGS[0]).plan.timing;
        let mut ordinals = std::collections::BTreeMap::new();
        let mut message_delays = Vec::new();
        for (_, at) in coordinates.messages() {
            // A faulty node may reply to a client that does not exist: that message is on no link.
            if !exists(&plan, at.from) || !exists(&plan, at.to) {
                continue;
            }
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
        let coordinates = self.coordinates();
        let timing = self.best.plan.timing;
        let default_timing = self.with_base_timing(budget::BASE_TIMINGS[0]).plan.timing;
        let mut ordinals = std::collections::BTreeMap::new();
        let mut slow = Vec::new();
        for at in coordinates.barriers() {
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

fn with_more_faults<O: Clone>(schedule: &Schedule<O>, more: &[Fault]) -> Schedule<O> {
    let faults = [&schedule.faults[..], more].concat();
    Schedule { faults, ..schedule.clone() }
}

fn exists(plan: &Plan, end: Endpoint) -> bool {
    match end {
        Endpoint::Node(node) => node.0 < plan.nodes,
        Endpoint::Client(client) => (1..=plan.clients).contains(&client),
    }
}
