//! The pass that tries other timing in the same cluster.

use super::base_timing::with_base_timing;
use super::removal::{DropFaults, DropRequests};
use super::{Pass, ScheduleSize, Search, budget};
use crate::hash::hash;
use crate::plan::Timing;
use crate::protocol::Protocol;
use crate::schedule::Schedule;

/// Replaces the timing of a schedule that is still large, and keeps the new one if fewer entries
/// are needed with it: with one timing a violation takes several requests that delay each other,
/// with another one it happens at once.
pub(super) struct UseOtherTiming;

impl<P: Protocol> Pass<P> for UseOtherTiming {
    fn name(&self) -> &'static str {
        "use other timing"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let size = ScheduleSize::of(search.best());
        if budget::is_small(size) {
            return false;
        }
        let mut with_all_faults = search.best().clone();
        // Those removed so far may be the ones that are needed with other timing.
        with_all_faults.faults.extend(search.pool().iter().cloned());
        for candidate in with_other_timings(&with_all_faults) {
            let kept = search.undo_unless(|search| {
                if !search.adopt_if_better(&candidate) {
                    return false;
                }
                DropFaults.run(search);
                DropRequests.run(search);
                let after = ScheduleSize::of(search.best());
                after.faults + after.requests < size.faults + size.requests
            });
            if kept {
                return true;
            }
        }
        false
    }
}

/// The schedule with each base timing, with its own timing, and with random timing from other keys.
pub(super) fn with_other_timings<O: Clone>(schedule: &Schedule<O>) -> Vec<Schedule<O>> {
    let mut all: Vec<Schedule<O>> = budget::BASE_TIMINGS
        .iter()
        .map(|(latency, sync)| with_base_timing(schedule, *latency, *sync))
        .collect();
    all.push(schedule.clone());
    let key = schedule.plan.timing.key.unwrap_or(0);
    for nth in 1..=budget::OTHER_KEYS {
        let mut candidate = schedule.clone();
        candidate.plan.timing = Timing { key: Some(hash(key, nth)), ..schedule.plan.timing };
        all.push(candidate);
    }
    all
}
