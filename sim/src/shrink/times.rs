//! Passes over times: the length of the fault phase, the times of the requests.

use stormglass_node::Micros;

use super::{Pass, Search, budget};
use crate::protocol::Protocol;

/// Shortens the fault phase to the first of a few lengths that still violates the property.
pub(super) struct ShortenFaultPhase;

impl<P: Protocol> Pass<P> for ShortenFaultPhase {
    fn name(&self) -> &'static str {
        "shorten fault phase"
    }

    fn run(&mut self, search: &mut Search<'_, '_, P>) -> bool {
        let now = search.best().plan.fault_phase;
        for fault_phase in budget::FAULT_PHASES {
            if fault_phase >= now {
                break;
            }
            let mut candidate = search.best().clone();
            candidate.plan.fault_phase = fault_phase;
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
            for after in rounder_times(search.best().requests[at].after) {
                let mut candidate = search.best().clone();
                candidate.requests[at].after = after;
                candidates.push(candidate);
            }
            any |= search.adopt_first_better(candidates);
        }
        any
    }
}

/// Shorter times that are easier to read, the easiest first.
pub(super) fn rounder_times(time: Micros) -> Vec<Micros> {
    let mut rounded: Vec<Micros> =
        budget::ROUND_STEPS.map(|step| Micros(time.0 / step.0 * step.0)).to_vec();
    rounded.retain(|rounded| *rounded < time);
    // Each step rounds to no less than the one before it, so equal times are adjacent.
    rounded.dedup();
    rounded
}
