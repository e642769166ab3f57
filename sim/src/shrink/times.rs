//! Passes over times: the length of the fault phase, the times of the requests.

use super::{Pass, Search, budget};
use crate::protocol::Protocol;

/// Shortens the fault phase to the first of a few lengths that still violates the property.
pub(super) struct ShortenFaultPhase;

impl<P: Protocol> Pass<P> for ShortenFaultPhase {
    fn name(&self) -> &'static str {
        "shorten fault phase"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let now_us = search.best().plan.fault_phase_us;
        for fault_phase_us in budget::FAULT_PHASES_US {
            if fault_phase_us >= now_us {
                break;
            }
            let mut candidate = search.best().clone();
            candidate.plan.fault_phase_us = fault_phase_us;
            if search.adopt_if_better(&candidate) {
                return true;
            }
        }
        false
    }
}

/// Sends requests at earlier or round times.
pub(super) struct SendEarlier;

impl<P: Protocol> Pass<P> for SendEarlier {
    fn name(&self) -> &'static str {
        "send earlier"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let mut any = false;
        for at in 0..search.best().requests.len() {
            let mut candidates = Vec::new();
            for after_us in rounder_times(search.best().requests[at].after_us) {
                let mut candidate = search.best().clone();
                candidate.requests[at].after_us = after_us;
                candidates.push(candidate);
            }
            any |= search.adopt_first_better(candidates);
        }
        any
    }
}

/// Shorter times that are easier to read, the easiest first.
pub(super) fn rounder_times(us: u64) -> Vec<u64> {
    let mut rounded: Vec<u64> = budget::ROUND_STEPS_US.map(|step| us / step * step).to_vec();
    rounded.retain(|rounded| *rounded < us);
    // Each step rounds to no less than the one before it, so equal times are adjacent.
    rounded.dedup();
    rounded
}
