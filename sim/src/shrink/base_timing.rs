//! The pass that replaces random timing (all delays drawn from a key) by base timing, and adds an
//! entry for each deviation that matters.

use std::collections::BTreeMap;
use stormglass_node::Micros;

use super::ddmin::ddmin;
use super::{Pass, RunCoordinates, Search, budget};
use crate::fault::{BarrierFault, Endpoint, Fault, MessageFault};
use crate::plan::{Plan, Timing};
use crate::protocol::Protocol;
use crate::schedule::Schedule;

/// Tries base timing with each of a few times, then base timing with a few deviations, then random
/// timing without its tail.
pub(super) struct UseBaseTiming;

impl<P: Protocol> Pass<P> for UseBaseTiming {
    fn name(&self) -> &'static str {
        "use base timing"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let best = search.best();
        if best.plan.timing.key.is_none() {
            return drop_tail(search);
        }
        let candidates =
            budget::BASE_TIMINGS.map(|(latency, sync)| with_base_timing(best, latency, sync));
        search.adopt_first_better(candidates)
            || use_base_timing_with_deviations(search)
            || drop_tail(search)
    }
}

/// Removes the tail of the delays. With base timing only the least of each range counts, so the
/// greatest returns to its default as well.
fn drop_tail<P: Protocol>(search: &mut Search<'_, '_, P>) -> bool {
    let mut candidate = search.best().clone();
    let default_timing = Timing::default();
    let timing = &mut candidate.plan.timing;
    timing.latency_tail = Micros::ZERO;
    if timing.key.is_none() {
        timing.latency.1 = default_timing.latency.1.max(timing.latency.0);
        timing.sync_time.1 = default_timing.sync_time.1.max(timing.sync_time.0);
    }
    // An equal schedule would be adopted in every round, and the rounds would not end.
    candidate.plan != search.best().plan && search.adopt_if_better(&candidate)
}

/// Adds an entry for each message and barrier that takes longer than with base timing, and removes
/// those that do not matter. Keeps the result if few remain, and undoes it otherwise. The other
/// faults stay.
fn use_base_timing_with_deviations<P: Protocol>(search: &mut Search<'_, '_, P>) -> bool {
    let random = search.best().clone();
    let [(latency, sync_time), ..] = budget::BASE_TIMINGS;
    let base = with_base_timing(&random, latency, sync_time);
    let coordinates = search.coordinates(&random);
    let mut deviations = message_delays(&random.plan, &base.plan.timing, &coordinates);
    // The same run again. It costs one run, and the number of runs is a part of the report.
    let coordinates = search.coordinates(&random);
    deviations.extend(slow_barriers(&random.plan.timing, &base.plan.timing, &coordinates));
    if deviations.len() > budget::DEVIATIONS_MAX {
        return false;
    }
    let kept = search.undo_unless(|search| {
        if !search.adopt_if_better(&with_more_faults(&base, &deviations)) {
            return false;
        }
        ddmin(&deviations, |some| search.adopt_if_better(&with_more_faults(&base, some)));
        let faults_max = budget::faults_with_deviations_max(random.faults.len());
        search.best().faults.len() <= faults_max
    });
    if kept {
        // The proof that no smaller set suffices has to try the new entries as well.
        search.extend_pool(deviations);
    }
    kept
}

/// The schedule with base timing in which a message takes `latency` and a barrier `sync_time`.
pub(super) fn with_base_timing<O: Clone>(
    schedule: &Schedule<O>,
    latency: Micros,
    sync_time: Micros,
) -> Schedule<O> {
    let mut candidate = schedule.clone();
    let timing = &mut candidate.plan.timing;
    timing.key = None;
    timing.latency_tail = Micros::ZERO;
    let default_timing = Timing::default();
    timing.latency = (latency, default_timing.latency.1.max(latency));
    timing.sync_time = (sync_time, default_timing.sync_time.1.max(sync_time));
    candidate
}

/// For each message that takes longer than with base timing, the delay that makes up for it.
fn message_delays(plan: &Plan, base: &Timing, coordinates: &RunCoordinates) -> Vec<Fault> {
    // The times are drawn by position on the link, and so counted for every message.
    let mut ordinals = BTreeMap::new();
    let mut delays = Vec::new();
    for (_, at) in coordinates.messages() {
        // A faulty node may reply to a client that does not exist: that message is on no link.
        if !exists(plan, at.from) || !exists(plan, at.to) {
            continue;
        }
        let ordinal = ordinals.entry((at.from, at.to)).or_insert(0);
        let (link, clients) = plan.link(at.from, at.to);
        let random_time = plan.timing.delay(link, *ordinal, clients, true);
        let by = random_time - base.delay(link, *ordinal, clients, true);
        *ordinal += 1;
        if by > Micros::ZERO {
            delays.push(Fault::Message(*at, MessageFault::Delay { by }));
        }
    }
    delays
}

/// For each barrier that takes longer than with base timing, the fault that makes up for it.
fn slow_barriers(random: &Timing, base: &Timing, coordinates: &RunCoordinates) -> Vec<Fault> {
    let mut ordinals = BTreeMap::new();
    let mut slow = Vec::new();
    for at in coordinates.barriers() {
        let ordinal = ordinals.entry((at.node, at.incarnation)).or_insert(0);
        let random_time = random.barrier_time(at.node, at.incarnation, *ordinal);
        let base_time = base.barrier_time(at.node, at.incarnation, *ordinal);
        let by = random_time - base_time;
        *ordinal += 1;
        if by > Micros::ZERO {
            slow.push(Fault::Barrier(*at, BarrierFault::Slow { by }));
        }
    }
    slow
}

fn with_more_faults<O: Clone>(schedule: &Schedule<O>, more: &[Fault]) -> Schedule<O> {
    let faults = [&schedule.faults[..], more].concat();
    Schedule { faults, ..schedule.clone() }
}

fn exists(plan: &Plan, end: Endpoint) -> bool {
    match end {
        Endpoint::Node(node) => node.0 < plan.nodes,
        Endpoint::Client(client) => client.is_among(plan.clients),
    }
}
